"""Reference fits: records what small fits on every path give, and compares the code with it.

    python benchmarks/reference_fits.py --record
    python benchmarks/reference_fits.py --check
    python benchmarks/reference_fits.py --times OTHER_SRC --json PATH

The code measured is that of PYTHONPATH, or of this repository where that is not set. `--record`
writes weights, figures of the reports, emitted warnings and the labels of all passes, exact to the
last bit, to ``benchmarks/results/reference_fits.json``; every fit is run twice and must give the
same bits. `--check` repeats the fits: where the machine rounds as that of the record did, numbers
have to be equal to 1e-12. `--times` runs every fit in two processes in turns, one for each of two
versions of the code, and gives the ratios of times and of peak memory, pair by pair.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if not os.environ.get("PYTHONPATH"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import scipy
from threadpoolctl import threadpool_info, threadpool_limits
from tqdm import tqdm

import gloree
from gloree.models import ExplosionError

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent))
from _reference_set import FITS, Fit, Outcome, checksum, run_fit

RECORD = Path(__file__).resolve().parent / "results" / "reference_fits.json"

SAME_ROUNDING = 1e-12
"""Relative difference allowed where the machine rounds as that of the record did: what is left is
the order of a few operations."""

OTHER_ROUNDING = 1e-6
"""The same for weights and predictions on other machines, whose kernels sum in another order:
rounding of 1e-16 times the condition of the normal equations (up to 1e6 in these fits), and four
orders for what iterations add to that."""

OTHER_PATH = 0.02
"""Difference of scores on other machines for fits that end by held-out data (see
`Fit.ends_by_held_out`): rounding decides which step they end at, and with it the weights; steps
beside each other label a few more or fewer of some hundred held-out steps correctly."""

SHOWN_STEPS = 5
"""Steps of the first sequence whose predictions are kept."""

MOST_ENTRIES = 100
"""Entries of one array of a report that are kept."""

PAIRS, MEMORY_RUNS = 7, 2
"""Pairs of runs behind a ratio of times, and runs of each version behind a peak."""


# ---------------------------------------------------------------------- what is kept of a fit


def facts(estimator: Any) -> dict[str, Any]:
    """What the report says, by names of this file's own: they stay when attributes are renamed."""
    report = estimator.report_
    found: dict[str, Any] = {
        "sizes": report.sizes,
        "n_warnings": len(report.warnings),
        "refinement_status": getattr(report.refinement_status, "name", None),
        "refinement_steps": report.refinement_steps,
    }
    if not hasattr(report, "moment"):
        return {**found, **identification_facts(report)}
    check, chain = report.score_check, estimator.chain_
    found |= {
        "moment": report.moment,
        "recurrence": report.recurrence,
        "decomposition": attributes(
            report.decomposition,
            *("accepted", "components", "loadings", "residual", "condition", "n_starts"),
            *("n_agreeing", "n_iterations", "component_errors", "loading_errors", "max_cosine"),
            *("max_loading", "degrees_of_freedom", "ridge"),
        ),
        "decomposition_status": getattr(report.decomposition.status, "name", None),
        "score_check": attributes(
            check,
            *("status", "defect", "defect_raw", "defect_error", "noise_floor", "radius"),
            *("radius_error", "radius_noise", "n_steps", "n_inputs", "n_checked", "n_groups"),
        ),
        "score_edges": {
            each.name: attributes(each, "n_steps", "mean", "covariance", "expected")
            for each in ([] if check is None else check.edges)
        },
        "directions": attributes(
            report.directions,
            *("forward", "margin", "undetermined", "past", "future", "bias_change"),
        ),
        "rank_reason": report.rank_reason,
        "history": [value for _, value in report.history],
        "moments_rmse": report.moments_rmse,
        "refined_rmse": report.refined_rmse,
        "output_std": report.output_std,
        "standard_errors": report.standard_errors,
        "predicted_errors": report.predicted_errors,
        "conditions": report.conditions,
        "accuracies": report.accuracies,
        "law": attributes(
            chain, "coefficients", "innovation_covariance", "mean", "initial_covariance"
        ),
    }
    return found


def identification_facts(report: Any) -> dict[str, Any]:
    """The same of an identification."""
    return {
        **attributes(
            report,
            *("ridge", "input_condition", "explained", "n_directions", "linear_error"),
            *("moments_error", "refined_error", "training_error", "nonlinear", "output_size"),
        ),
        "orders": [
            attributes(o, "order", "singular_value", "error", "n_moved") for o in report.orders
        ],
        "poles": np.stack([np.sort(report.poles.real), np.sort(report.poles.imag)]),
        "history": [errors for _, *errors in report.history],
        "n_notes": len(report.notes),
    }


def attributes(value: Any, *names: str) -> dict[str, Any]:
    """Attributes by name; nothing of None."""
    return {} if value is None else {name: getattr(value, name) for name in names}


def weights(estimator: Any) -> dict[str, Any]:
    """Weights of all models of an estimator, and what the first model predicts."""
    found: dict[str, Any] = {}
    for name in ("model_", "linear_model_", "moments_model_"):
        model = getattr(estimator, name, None)
        if model is not None:
            found[name] = {
                "class": type(model).__name__,
                "activation": model.activation.spec(),
                "lags": model.lags,
                **model.arrays(),
            }
    return found


def result_of(outcome: Outcome) -> dict[str, Any]:
    """Everything that is kept of a fit, flat and ready for JSON."""
    with threadpool_limits(1):
        predictions = predictions_of(outcome)
    return {
        "data": [checksum(outcome.X), checksum(outcome.Y)],
        "weights": flat(weights(outcome.estimator)),
        "predictions": flat(predictions),
        "report": {k: thinned(v) for k, v in flat(facts(outcome.estimator)).items()},
        "warnings": outcome.warnings,
        "passes": outcome.labels,
        "seconds": round(outcome.seconds, 3),
    }


def predictions_of(outcome: Outcome) -> dict[str, Any]:
    """What the estimator says about the first steps, and its score on all data."""
    estimator = outcome.estimator
    first = outcome.X[0][:SHOWN_STEPS] if np.ndim(outcome.X[0]) else outcome.X[:SHOWN_STEPS]
    predictions = {"predict": estimator.predict(first)}
    if hasattr(estimator, "predict_proba"):
        predictions["predict_proba"] = estimator.predict_proba(first)
        predictions["classes"] = estimator.classes_
    try:
        predictions["score"] = estimator.score(outcome.X, outcome.Y)
    except ExplosionError:
        predictions["score"] = "the recurrence explodes"
    return predictions


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries by path: numbers, text, truth values, and lists of them."""
    if isinstance(tree, dict):
        pairs = [flat(value, f"{name}/{key}" if name else str(key)) for key, value in tree.items()]
        return {key: value for each in pairs for key, value in each.items()}
    if isinstance(tree, list) and any(isinstance(each, dict) for each in tree):
        return flat(dict(enumerate(tree)), name)
    return {name: plain(tree)}


def thinned(value: Any) -> Any:
    """A large matrix of a report as evenly spread entries of it; weights are kept whole."""
    array = numbers(value)
    if array is None or array.size <= MOST_ENTRIES:
        return value
    return array.ravel()[:: -(-array.size // MOST_ENTRIES)].tolist()


def plain(value: Any) -> Any:
    """Value as JSON takes it: numbers exact, those that are not finite as text."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


# ---------------------------------------------------------------------- comparison


@dataclass
class Comparison:
    """How one fit differs from its record."""

    largest: dict[str, float] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """Largest relative difference of any number."""
        return max(self.largest.values(), default=0.0)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{group} {'equal' if value == 0 else f'{value:.1e} ({self.where[group]})'}"
            for group, value in self.largest.items()
        )
        return "; ".join([shown, *self.other, *self.notes])


def numbers(value: Any) -> np.ndarray | None:
    """Value as an array of floats, where it holds floats; None for text, counts and the like."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in "OU":
            array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind == "f" and array.size else None


def difference(theirs: Any, mine: Any) -> float | None:
    """Largest difference over the largest entry on record; None where they cannot be compared."""
    a, b = numbers(theirs), numbers(mine)
    if a is None or b is None or a.shape != b.shape:
        return None
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return math.inf
    if not finite.any():
        return 0.0
    off = float(np.abs(a[finite] - b[finite]).max())
    if math.isnan(off):
        return math.inf
    size = float(np.abs(a[finite]).max())
    return off / size if size else (math.inf if off else 0.0)


def compare(theirs: dict[str, Any], mine: dict[str, Any]) -> Comparison:
    """Compare a result with its record."""
    mine = json.loads(json.dumps(mine))
    found = Comparison()
    if theirs["data"] != mine["data"]:
        found.other.append("other data (checksums differ)")
    for group in ("weights", "predictions", "report"):
        found.largest[group], found.where[group] = 0.0, ""
        for name in sorted(theirs[group].keys() | mine[group].keys()):
            if name not in mine[group] or name not in theirs[group]:
                found.other.append(f"{group}: {name} is only in one of them")
                continue
            old, new = theirs[group][name], mine[group][name]
            if name == "rank_reason" and old and new:
                # its words may be improved; its figures may not change
                old, new = (re.findall(r"\d+(?:\.\d+)?", text) for text in (old, new))
            off = difference(old, new)
            if off is None and old != new:
                found.other.append(f"{group}: {name} is {_short(new)}, was {_short(old)}")
            elif off is not None and off > found.largest[group]:
                found.largest[group], found.where[group] = off, name
    if theirs["warnings"] != mine["warnings"]:
        found.other.append(f"warnings {mine['warnings']}, were {theirs['warnings']}")
    if theirs["passes"] != mine["passes"]:
        # saved or reordered passes change no result: they are shown, not refused
        found.notes.append(f"passes: {label_changes(theirs['passes'], mine['passes'])}")
    return found


def label_changes(theirs: Sequence[str], mine: Sequence[str]) -> str:
    """First pass that is another one, and which labels there are more or fewer of."""
    pairs = zip(theirs, mine, strict=False)
    shorter = min(len(theirs), len(mine))
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    counts = {label: mine.count(label) - theirs.count(label) for label in sorted({*theirs, *mine})}
    changed = ", ".join(f"{label!r} {n:+d}" for label, n in counts.items() if n)
    return f"the first other one is number {place} ({changed or 'in another order'})"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


# ---------------------------------------------------------------------- the record


def signature() -> dict[str, Any]:
    """What decides how numbers are rounded."""
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "BLAS": sorted(
            {
                f"{each['internal_api']} {each['version']} {each.get('architecture')}"
                for each in threadpool_info()
                if each["user_api"] == "blas" and each["internal_api"] == "openblas"
            }
        ),
        "SIMD": sorted({*simd.get("baseline", []), *simd.get("found", [])}),
    }


def machine_and_code(command: str) -> dict[str, Any]:
    """Header of a record."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "processor": processor,
        "cores": os.cpu_count(),
        "gloree": gloree.__version__,
        "commit": commit_of(Path(gloree.__file__).resolve().parent),
        "signature": signature(),
    }


def commit_of(folder: Path) -> str:
    """Commit of the code in a folder; with a plus sign where it has been edited since."""
    try:
        words = ["git", "-C", str(folder)]
        head = subprocess.run(
            [*words, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
        )
        edited = subprocess.run(
            [*words, "status", "--porcelain", "--", "."], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if edited.stdout.strip() else "")


def read_record(path: Path = RECORD) -> dict[str, Any]:
    """The record as it is on file."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_record(fits: list[Fit], path: Path) -> None:
    """Run all fits twice and write down what they give."""
    results = {}
    for fit in tqdm(fits, desc="fits"):
        if fit.missing:
            raise SystemExit(f"{fit.name} needs {fit.missing}, which is not installed")
        result = result_of(run_fit(fit))
        again = compare(json.loads(json.dumps(result)), result_of(run_fit(fit)))
        if again.worst > 0 or again.other:
            raise SystemExit(f"{fit.name}: two runs differ: {again}")
        if fit.equal_to and result["weights"] != results[fit.equal_to]["weights"]:
            raise SystemExit(f"{fit.name}: its model is not that of {fit.equal_to!r}")
        results[fit.name] = result
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results.items()]
    # read after the fits, when all libraries are loaded
    header = json.dumps(machine_and_code("python benchmarks/reference_fits.py --record"), indent=1)
    body = ",\n".join(lines)
    path.write_text(f'{{"header": {header},\n"fits": {{\n{body}\n}}}}\n', encoding="utf-8")
    print(f"{len(results)} fits, {sum(r['seconds'] for r in results.values()):.1f} s of fitting")


def failures(fit: Fit, record: dict[str, Any], result: dict[str, Any]) -> tuple[Comparison, bool]:
    """Comparison of a result with the record, and whether it is what it has to be.

    Where other kernels round otherwise, the number of steps and passes may differ, and reports hold
    figures that are nothing but rounding: weights and predictions are compared there, of linear
    networks predictions, and of fits that end by held-out data scores.
    """
    recorded = record["fits"][fit.name]
    found = compare(recorded, result)
    if record["header"]["signature"] == signature():
        return found, found.worst <= SAME_ROUNDING and not found.other
    if recorded["data"] != result["data"]:
        return found, False
    if fit.ends_by_held_out:
        scores = (each["predictions"]["score"] for each in (recorded, result))
        return found, bool(np.ptp(list(scores)) <= OTHER_PATH)
    kinds = ("predictions",) if fit.is_linear else ("weights", "predictions")
    close = max(found.largest[kind] for kind in kinds) <= OTHER_ROUNDING
    return found, close and not any(each.startswith("weights") for each in found.other)


def check(fits: list[Fit]) -> int:
    """Compare all fits with the record; 1 if one is not what it has to be."""
    record, failed, equal = read_record(), 0, 0
    found: dict[str, dict[str, Any]] = {}
    if record["header"]["signature"] != signature():
        print(f"this machine rounds otherwise than that of the record: {signature()}")
    for fit in fits:
        if fit.missing:
            print(f"{fit.name:44s} left out: {fit.missing} is not installed")
            continue
        result = found[fit.name] = result_of(run_fit(fit))
        comparison, good = failures(fit, record, result)
        twin = found.get(fit.equal_to or "")
        if twin is not None and twin["weights"] != result["weights"]:
            comparison.other.append(f"its model is not that of {fit.equal_to!r}")
            good = False
        failed += not good
        equal += comparison.worst == 0 and not comparison.other
        print(f"{fit.name:44s} {'' if good else 'FAILED '}{comparison}", flush=True)
    print(f"{len(found)} fits: {equal} equal to the last bit, {failed} failed")
    return int(failed > 0)


# ---------------------------------------------------------------------- times and memory


@contextmanager
def peak_of(peaks: list[int]) -> Iterator[None]:
    """Peak of the memory allocated inside, in bytes."""
    tracemalloc.start()
    try:
        yield
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def serve() -> None:
    """Run the fits whose names are read, one a line; print what was measured."""
    print(json.dumps({"commit": commit_of(Path(gloree.__file__).resolve().parent)}), flush=True)
    for line in sys.stdin:
        what, name = line.rstrip("\n").split(" ", 1)
        peaks: list[int] = []
        around = (lambda: peak_of(peaks)) if what == "memory" else None  # noqa: B023
        outcome = run_fit(FITS[name], around=around)
        measured = {"seconds": outcome.seconds, "processor": outcome.processor}
        print(json.dumps({"peak": peaks[0]} if peaks else measured), flush=True)


class Worker:
    """A process with one version of the code."""

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.commit = self._answer()["commit"]

    def ask(self, what: str, name: str) -> dict[str, float]:
        """Seconds, and those of the processor; or peak in bytes, of one run."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {name}\n")
        self.process.stdin.flush()
        measured: dict[str, float] = self._answer()
        return measured

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process with one version of the code ended")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(fit: Fit, workers: dict[str, Worker], n_pairs: int) -> dict[str, Any]:
    """Times and peaks of one fit with both versions; ratios are medians over pairs."""
    for worker in workers.values():
        worker.ask("time", fit.name)  # what is loaded at first is not counted
    found: dict[str, Any] = {"fit": fit.name, "seconds": {}, "processor": {}, "ratios": {}}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for i in range(n_pairs):
        for name in sorted(workers, reverse=bool(i % 2)):
            runs[name].append(workers[name].ask("time", fit.name))
    for what in ("seconds", "processor"):
        found[what] = {name: [run[what] for run in each] for name, each in runs.items()}
        ratios = [a / b for a, b in zip(found[what]["mine"], found[what]["other"], strict=True)]
        found["ratios"][what] = statistics.median(ratios)
        found["ratios"][f"{what}, range"] = [min(ratios), max(ratios)]
    # the least of a few: what else runs in the process can only add to it
    found["peaks"] = {
        name: min(worker.ask("memory", fit.name)["peak"] for _ in range(MEMORY_RUNS))
        for name, worker in workers.items()
    }
    found["ratios"]["memory"] = found["peaks"]["mine"] / found["peaks"]["other"]
    return found


def compare_times(fits: list[Fit], other: Path, n_pairs: int, path: Path | None) -> int:
    """Times and peaks of both versions, in pairs."""
    mine, theirs = Worker(Path(gloree.__file__).resolve().parents[1]), Worker(other.resolve())
    results = []
    print("ratios to the other version: of times, of processor times (range in pairs), of peaks")
    for fit in fits:
        if fit.missing:
            continue
        results.append(measure(fit, {"mine": mine, "other": theirs}, n_pairs))
        ratios = results[-1]["ratios"]
        low, high = ratios["processor, range"]
        seconds = statistics.median(results[-1]["seconds"]["mine"])
        print(
            f"{fit.name:44s} {seconds:8.3f} s {ratios['seconds']:7.3f} {ratios['processor']:7.3f} "
            f"({low:.3f}..{high:.3f}) {ratios['memory']:7.3f}",
            flush=True,
        )
    middle = {
        what: statistics.median(each["ratios"][what] for each in results)
        for what in ("seconds", "processor", "memory")
    }
    print(
        "medians over fits: " + ", ".join(f"{name} {value:.3f}" for name, value in middle.items())
    )
    if path is not None:
        header = machine_and_code("python benchmarks/reference_fits.py --times OTHER_SRC")
        header |= {"other commit": theirs.commit, "pairs": n_pairs}
        content = {"header": header, "medians": middle, "results": results}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for worker in (mine, theirs):
        worker.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", action="store_true", help="write the record anew")
    what.add_argument("--check", action="store_true", help="compare the code with the record")
    what.add_argument("--times", type=Path, metavar="OTHER_SRC", help="compare times and memory")
    what.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(FITS))
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, metavar="N", help="runs of each version"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="where times are written")
    arguments = parser.parse_args()
    fits = [FITS[name] for name in arguments.only] if arguments.only else list(FITS.values())
    if arguments.serve:
        serve()
        return 0
    if arguments.record:
        if arguments.only:
            parser.error("--record writes all fits: leave --only out")
        write_record(fits, RECORD)
        return 0
    if arguments.times is not None:
        return compare_times(fits, arguments.times, arguments.pairs, arguments.json)
    return check(fits)


if __name__ == "__main__":
    raise SystemExit(main())
