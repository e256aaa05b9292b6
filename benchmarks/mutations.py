"""Which faults the tests would notice: mutants of five packages, and how many the tests kill.

    python benchmarks/mutations.py --json mutations.json
    python benchmarks/mutations.py --quick

A mutant is the library with one small fault, made by cosmic-ray: another sign, comparison, number
or truth value, a loop that is not run. Of all of these in `score_functions`, `moments`,
`decomposition`, `recurrence` and `refinement`, a sample is drawn (`--seeds N` is the N-th draw). On
each, the tests are run that run the changed line: those of its package, of `tests/theory` and of
`tests/properties`, and if it passes them, those of whole fits in `tests/fitting` and the fits on
record. Slow tests are left out. A mutant is *killed* if a test fails or does not end.

Acceptance: at least 90 % are killed. What no test should notice is not changed (`silent` in
`_mutants.py`); `REASONS` says of survivors why they change no result.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from _common import Column, Output, option_parser
from _mutants import Mutant, changed_functions, function, mutants_of, mutated, statement
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("score_functions", "moments", "decomposition", "recurrence", "refinement")
SHARED = ("tests/theory/", "tests/properties/")
DECLARED = "tests/test_declarations.py"
FITS = ("tests/fitting/", "tests/test_reference_fits.py")
OWN_SECONDS, FIT_SECONDS = 30.0, 10.0
"""Seconds that the tests of a mutant may take, and those of whole fits: the quickest are run."""
TARGET = 0.9

EQUAL = "the same values"
UNUSED = "a value that nothing reads"
NEVER = "two computed numbers that are never equal"
WAY = "a share, a budget or a damping: another way to the same end"
REASONS = (
    ("score_functions/_tensors.py window_score", "order > 0", EQUAL),
    ("score_functions/_boundaries.py boundaries_of", "( 5, chain", EQUAL),
    ("score_functions/_tensors.py window_score_covariance", "types[np.newaxis])[ -1]", EQUAL),
    ("score_functions/_first_order.py first_order_check", "(data.n_rows))[ -1]", EQUAL),
    ("decomposition/_power.py _whiten_signal", "(values >= 0)", NEVER),
    ("decomposition/_power.py _whiten_signal", "or (values <= 0)", NEVER),
    ("decomposition/_power.py _whiten_signal", "bool((values <= 0)", "both signs are tried"),
    ("decomposition/_power.py tensor_power_iteration", "spawn( 2)", EQUAL),
    ("decomposition/_search.py run_starts", "spawn( 2)", WAY),
    ("moments/_regression.py RegressionSolver.from_sums", "np.divide( 2.0, scale", EQUAL),
    ("decomposition/_errors.py component_covariance", "order / omega.diagonal()", EQUAL),
    ("decomposition/_least_squares.py Problem.evaluate", "+= 1.00000001", WAY),
    ("decomposition/_least_squares.py matrix_minimum", "rank >= len(matrix)", EQUAL),
    ("decomposition/_levenberg_marquardt.py minimise", "while iteration <= max", EQUAL),
    ("decomposition/_levenberg_marquardt.py minimise", "decrease >= 0", NEVER),
    ("score_functions/_check_law.py check_law", ">= FINE", NEVER),
    ("decomposition/_search.py uwedge", "n_iterations: int", WAY),
    ("recurrence/_directions.py choose_directions", "np.eye(fit.information.shape[ 1])", EQUAL),
    ("recurrence/_higher_scores.py _neighbour_moment", "shift < 1", EQUAL),
    ("recurrence/_estimators.py module", "MOST_FEEDBACK", "no square lies between"),
    ("recurrence/_directions.py choose_directions", "forward = rows", "a start of sweeps"),
    ("recurrence/_instrument.py _pseudo_observations_of", "overlap[ -1]", EQUAL),
    ("recurrence/_instrument.py _pseudo_observations_of", "inputs[ -1]", EQUAL),
    ("refinement/_curvature.py _along", "scale = 2.0 /", EQUAL),
    ("refinement/_curvature.py solve_step", "* ridge, 1e-12)", WAY),
    ("recurrence/_estimators.py Score.update", "dU = dU / np.where", EQUAL),
    ("refinement/_curvature.py Strata.of", "n_rows / (2 * rest)", WAY),
    ("refinement/_fisher_scoring.py module", "LEAST_DAMPING, MOST", WAY),
    ("refinement/_fisher_scoring.py _Scoring.information", "max( 0, -(-some", EQUAL),
    ("refinement/_gauss_newton.py _Descent.gradient", "n_largest = 3", WAY),
    ("refinement/_kept_rows.py go_on", "STRONGER * max(", WAY),
    ("refinement/_kept_rows.py go_on", "AS_FORESEEN *", WAY),
    ("refinement/_kept_rows.py go_on", "np.zeros(( 1, free", EQUAL),
    ("refinement/_kept_rows.py _disagreement", "root.shape[ 0]", EQUAL),
    ("refinement/_levenberg_marquardt.py _Search._trial", "predicted < worthless", NEVER),
    ("refinement/_linearisation.py Linearisation.tangent", "layout.recurrent or", EQUAL),
    ("refinement/_output_weighting.py module", "WEIGHTING_ROWS", WAY),
    ("refinement/_products.py module", "MOST_NUMBERS", WAY),
    ("refinement/_readout.py logistic_readout.features", "batch.counted, -1]", EQUAL),
    ("refinement/_sensitivities.py _sensitivity_steps", "seen[ -1] if n_steps == 1", EQUAL),
    ("refinement/_standard_errors.py _persistence", "<= NOTICEABLE", NEVER),
    ("refinement/_standard_errors.py _persistence", "<= PERSISTENT", NEVER),
    ("decomposition/_errors.py largest_term", "np.zeros(columns.shape[ 0]", EQUAL),
    ("decomposition/_errors.py module", "SINGULAR = 100000000001.0", NEVER),
    ("decomposition/_levenberg_marquardt.py _is_next_to", "known.loss <= point", NEVER),
    ("decomposition/_levenberg_marquardt.py minimise", "decrease >= SLOW", NEVER),
    ("decomposition/_levenberg_marquardt.py module", "SMALLEST_STEP", WAY),
    ("decomposition/_power.py _power", "n_done, settled = 1", WAY),
    ("decomposition/_rank.py choose_rank", "ratio <= limit", NEVER),
    ("decomposition/_search.py module", "START_LIMITS", WAY),
    ("decomposition/_search.py uwedge", "floor - 1e-300", EQUAL),
    ("decomposition/_tensor.py _check_covariance", "+ 2) // 2", EQUAL),
    ("decomposition/_tensor.py _check_covariance", "else 1", EQUAL),
    ("moments/_cross.py _tensor_sums", "total.sums[ -1]", EQUAL),
    ("moments/_regression.py regression_moment", "order= 1", EQUAL),
    ("refinement/_curvature.py solve_step", "norms > 0, norms, 2.0", EQUAL),
    ("refinement/_efficient_scores.py flip_test", "scaled.shape[ 0]", EQUAL),
    ("refinement/_kept_rows.py go_on", "<= SETTLED", NEVER),
    ("refinement/_kept_rows.py go_on", "root.shape[ 0]", EQUAL),
    ("refinement/_kept_rows.py module", "MOST_STEPS", WAY),
    ("refinement/_kept_rows.py sum_normal_equations", "-(-segments.n_rows / rows)", WAY),
    ("refinement/_levenberg_marquardt.py _Search._trial", "ratio >= 0.01", NEVER),
    ("refinement/_products.py _factor", "np.eye(block.shape[ 1])", EQUAL),
    ("refinement/_sensitivities.py hessian_sums", "n_waiting, n_seen = 1", WAY),
    ("refinement/_solvers.py module", "eq=True", "solutions are never compared"),
    ("refinement/_standard_errors.py degrees", "norm > -1", NEVER),
    ("score_functions/_stein.py SteinStatistic._edges", "np.maximum(counts, 1.0)", EQUAL),
    ("score_functions/_stein.py check_score", "data.longest >= 1", EQUAL),
    ("score_functions/_verdict.py _round_up", "max(number, 0.0)", EQUAL),
    ("decomposition/_least_squares.py matrix_minimum", "np.empty( 1)", UNUSED),
    ("decomposition/_levenberg_marquardt.py module", "NEWTON_SIZE", WAY),
    ("decomposition/_rank.py choose_rank", "inputs >= bars", NEVER),
    ("decomposition/_score_noise.py _ratios", "squares >= 0.0", "variances are positive"),
    ("decomposition/_score_noise.py _ratios", "squares > -1.0", "variances are positive"),
    ("moments/_plan.py plan", "(4 if score else 0)", "the other sum is larger"),
    ("moments/_regression.py control_variate", "order= 1", EQUAL),
    ("recurrence/_contraction.py ridge_solve", "gram.shape[ 1]", EQUAL),
    ("recurrence/_directions.py choose_directions", "<= SLIGHT", NEVER),
    ("recurrence/_estimators.py Score.update", "axis=1) <= 0", NEVER),
    ("refinement/_fisher_scoring.py _Scoring.information", "split_evenly(max( 2", WAY),
    ("refinement/_kept_rows.py sums_of_report", "values >= NULL", NEVER),
    ("refinement/_products.py Blocks.from_unit", "trans= 2", EQUAL),
    ("refinement/_readout.py module", "MOST_ROWS", WAY),
    ("refinement/_rounds.py polished", "sums.n_rows, -1.0", "outputs vary"),
    ("score_functions/_first_order.py first_order_check", "data.longest > 0", EQUAL),
    ("score_functions/_tensors.py _restore_fewer", "lengths[ -1]", EQUAL),
    ("score_functions/_tensors.py partial_score", "order >= 1", EQUAL),
    ("score_functions/_tensors.py window_score_covariance", "lags + 1", EQUAL),
)
"""Why a survivor changes no result: where it is, a part of what changes, and the reason."""


def copied(folder: Path) -> Path:
    """The library and its tests in a folder, where they can be changed."""
    for name in ("src", "tests", "docs", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "_build", "images")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


class Server:
    """A process that runs tests; see `_mutants.py`."""

    def __init__(self, root: Path, folders: Sequence[str] = ()) -> None:
        script = str(ROOT / "benchmarks" / "_mutants.py")
        command = [sys.executable, script, str(root), *folders]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "", "MPLBACKEND": "Agg", **threads},
        )

    def send(self, **job: Any) -> None:
        """Write a job."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def ask(self, **job: Any) -> str:
        """Write a job, and wait for the word on it."""
        self.send(**job)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Wait for what is still to be done."""
        self.process.communicate()


def of_packages(packages: tuple[str, ...]) -> list[str]:
    """Where tests of packages are."""
    return [*(f"tests/{name}/" for name in packages), *SHARED, DECLARED, *FITS]


def traced(root: Path, packages: tuple[str, ...], kept: Path | None) -> dict[str, Any]:
    """Tests of each line of the packages, and seconds of each test; kept in a file if named."""
    into = (kept or root / "lines.json").resolve()
    server = Server(root)
    if not into.exists():
        server.send(folders=of_packages(packages), packages=list(packages), into=str(into))
    server.end()
    found = json.loads(into.read_text(encoding="utf-8"))
    if found["status"] != 0:
        raise SystemExit("tests fail without a mutant")
    return dict(found)


def shuffled(root: Path, packages: tuple[str, ...], seed: int) -> list[Mutant]:
    """All mutants, in an order that is drawn."""
    every = [
        mutant
        for package in packages
        for path in sorted((root / "src" / "gloree" / package).glob("*.py"))
        for mutant in mutants_of(path, path.relative_to(root).as_posix())
    ]
    random.Random(seed).shuffle(every)
    return every


def tests_of(root: Path, mutant: Mutant, found: dict[str, Any]) -> set[str]:
    """Tests that run a mutant's line; those of the module for its top level."""
    of_lines = found["lines"].get(mutant.path, {})
    tree = ast.parse((root / mutant.path).read_text(encoding="utf-8"))
    contexts = [of_lines.get(str(line), []) for line in statement(tree, mutant.line)]
    names = {name for each in contexts for name in each}
    if names == {""}:
        names = {name for each in of_lines.values() for name in each}
        names |= {name for name in found["seconds"] if name.startswith(DECLARED)}
    return names - {""}


def changed_line(source: str, other: str) -> str:
    """What a mutant changes, `old -> new`, from the first line that differs."""
    for old, new in zip(source.splitlines(), other.splitlines(), strict=False):
        if old != new:
            return f"{old.strip()} -> {new.strip()}"
    return "lines are gone"


def chosen(every: set[str], found: dict[str, Any], folders: Sequence[str]) -> dict[str, float]:
    """Seconds of the quickest tests of folders."""
    seconds = {each: found["seconds"][each] for each in every if each.startswith(tuple(folders))}
    names = sorted(seconds, key=seconds.__getitem__)
    most = FIT_SECONDS if folders == FITS else OWN_SECONDS
    sums = accumulate(seconds[name] for name in names)
    return {name: seconds[name] for name, total in zip(names, sums, strict=True) if total <= most}


def judged(
    root: Path, mutant: Mutant, found: dict[str, Any], servers: tuple[Server, Server]
) -> dict[str, Any] | None:
    """Row of a mutant: where it is, what it changes, and what became of it; None if no Python."""
    path = root / mutant.path
    source = path.read_text(encoding="utf-8")
    other = mutated(source, mutant)
    if other is None:
        return None
    changes = [str(path), source, other]
    loaded, collected = servers
    package, module = Path(mutant.path).parts[2:]
    every, outcome = tests_of(root, mutant, found), "survived"
    path.write_text(other, encoding="utf-8")
    try:
        for folders in ((DECLARED, f"tests/{package}/", *SHARED), FITS):
            seconds = chosen(every, found, folders)
            if not seconds or outcome != "survived":
                continue
            outcome = "load"
            if changed_functions(*changes) is not None:
                outcome = collected.ask(changes=changes, seconds=seconds)
            if outcome == "load":
                files = sorted({name.split("::")[0] for name in seconds})
                outcome = loaded.ask(files=files, seconds=seconds)
            outcome += " by a fit" if folders == FITS and outcome != "survived" else ""
    finally:
        path.write_text(source, encoding="utf-8")
    place = f"{package}/{module} {function(ast.parse(source), mutant.line)}"
    change = changed_line(source, other)
    return {
        "place": place,
        "package": package,
        "change": change,
        "operator": mutant.operator.removeprefix("core/"),
        "tests": len(every),
        "outcome": outcome,
        "why": reason_of(place, change),
    }


def reason_of(place: str, change: str) -> str:
    """Why a change at a place changes no result; nothing where none is known."""
    found = (reason for where, part, reason in REASONS if where in place and part in change)
    return next(found, "")


def explain(path: Path) -> None:
    """Write reasons that were found since into a record: what was killed stays as it was."""
    record = json.loads(path.read_text(encoding="utf-8"))
    tables, figures = record["tables"], record["figures"]
    survivors = tables["survivors"]["rows"]
    for row in survivors:
        row["why"] = reason_of(row["place"], row["change"])
    survivors.sort(key=lambda row: (bool(row["why"]), row["place"]))
    for row in tables["packages"]["rows"]:
        known = [each for each in survivors if each["why"]]
        row["same"] = sum(each["place"].startswith(f"{row['package']}/") for each in known)
        if row["package"] == "all":
            row["same"] = figures["same"]["value"] = len(known)
        row["of_others"] = 100 * row["killed"] / max(1, row["n"] - row["same"])
        if row["package"] == "all":
            figures["of_others"]["value"] = row["of_others"]
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--mutants", type=int, default=250, metavar="N", help="how many are drawn")
    parser.add_argument("--lines", type=Path, metavar="PATH", help="lines of tests: kept, or read")
    parser.add_argument("--explain", type=Path, metavar="PATH", help="of a record: only reasons")
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=PACKAGES)
    arguments = parser.parse_args()
    if arguments.explain is not None:
        explain(arguments.explain)
        return
    if missing := [name for name in ("cosmic_ray", "coverage") if find_spec(name) is None]:
        raise SystemExit(f"no {missing[0]}: install what is needed by pip install .[mutations]")
    out = Output(arguments)
    packages = tuple(arguments.packages)
    n = 8 if arguments.quick else arguments.mutants
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder).resolve())
        found = traced(root, packages, arguments.lines)
        every = shuffled(root, packages, (arguments.seeds or 1) - 1)
        servers = Server(root), Server(root, of_packages(packages))
        try:
            with tqdm(total=n, desc="mutants") as bar:
                for mutant in every:
                    row = judged(root, mutant, found, servers)
                    if row is None:
                        continue
                    rows.append(row)
                    bar.update()
                    if row["outcome"] == "survived":
                        tqdm.write(f"survived: {row['place']}: {row['change']}")
                    if len(rows) == n:
                        break
            for server in servers:
                server.end()
        except KeyboardInterrupt:  # the order is that of the draw: what is done is a sample, too
            tqdm.write("interrupted: what follows is of the mutants before")
    report(out, packages, rows, len(every))
    out.close()


def report(out: Output, packages: tuple[str, ...], rows: list[dict[str, Any]], n_all: int) -> None:
    """Tables of packages and survivors, and whether enough are killed."""
    table = []
    for package in (*packages, "all"):
        of_it = [row for row in rows if package in ("all", row["package"])]
        survivors = [row for row in of_it if row["outcome"] == "survived"]
        by_fits = sum(row["outcome"].endswith("by a fit") for row in of_it)
        same = sum(bool(row["why"]) for row in survivors)
        killed = len(of_it) - len(survivors)
        table.append(
            {
                "package": package,
                "n": len(of_it),
                "own": killed - by_fits,
                "fits": by_fits,
                "killed": killed,
                "same": same,
                "share": 100 * killed / max(1, len(of_it)),
                "of_others": 100 * killed / max(1, len(of_it) - same),
            }
        )
    out.table(
        "packages",
        "Mutants that tests kill",
        [
            Column("package", "{package}"),
            Column("mutants", "{n}"),
            Column("killed by tests of the package", "{own}"),
            Column("by fits", "{fits}"),
            Column("share", "{share:.0f}", "%"),
            Column("that change no result", "{same}"),
            Column("share of the others", "{of_others:.0f}", "%"),
        ],
        table,
    )
    survivors = [row for row in rows if row["outcome"] == "survived"]
    survivors.sort(key=lambda row: (bool(row["why"]), row["place"]))
    out.table(
        "survivors",
        "Mutants that survive",
        [
            Column("where", "{place}"),
            Column("change", "{change}"),
            Column("why it changes no result", "{why}"),
        ],
        [{key: row[key] for key in ("place", "change", "why")} for row in survivors],
    )
    out.figure("all", n_all, "{value:,}", "mutants of the packages")
    out.figure("drawn", len(rows), "{value:,}", "of which are drawn")
    out.figure("share", table[-1]["share"], "{value:.1f}", "share that is killed (%)")
    out.figure("of_others", table[-1]["of_others"], "{value:.1f}", "of those that matter (%)")
    late = sum("out of time" in row["outcome"] for row in rows)
    out.figure("late", late, "{value}", "killed because they do not end")
    out.figure("same", table[-1]["same"], "{value}", "survivors that change no result")
    enough = table[-1]["share"] >= 100 * TARGET
    out.target("enough", enough, f"at least {100 * TARGET:.0f} % are killed")


if __name__ == "__main__":
    main()
