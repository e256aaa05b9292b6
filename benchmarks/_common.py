"""What the benchmark scripts share: options, tables, machine facts, the optimum, timing.

The yardstick of every script is the *least-squares optimum*: Gauss-Newton run to convergence from
the true weights. No estimator that does not know the truth can be expected to do better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import scipy.linalg
from _record import Column, as_json, cell_text, check, table_content

import gloree
from gloree import metrics
from gloree.engine import Engine, Source, get_engine
from gloree.models import BRNN, ExplosionError, Network
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.sequences import as_sequences

WEIGHTS = {"A1": "input_weights", "U": "recurrent_weights", "A2": "output_weights"}
"""Names in tables and names in the library."""

BOTH_WAYS = {
    "A1": "forward_input_weights",
    "B1": "backward_input_weights",
    "U": "forward_recurrent_weights",
    "V": "backward_recurrent_weights",
    "A2": "output_weights",
}
"""The same for bidirectional networks."""

SEGMENT = 400
WASHOUT = 100


def option_parser(doc: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """Parser with the options of every script; the first line of its docstring as description."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the record there")
    parser.add_argument("--note", default="", metavar="TEXT", help="on the machine, in the record")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"repetitions (default {seeds})")
    return parser


def machine_facts(note: str) -> dict[str, Any]:
    """Processor, cores and memory; nothing that tells one machine from another of its kind."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    memory = 0.0
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "note": note,
    }


def repeatable_command() -> str:
    """What was run, without options of the record itself and without places of this machine."""
    script, *words = sys.argv
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word in ("--json", "--note"):
            skip = not skip
        elif word.startswith(("--json=", "--note=")):
            continue
        else:
            kept.append(f"PATH/{Path(word).name}" if Path(word).exists() else word)
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *kept])


def commit_of_code() -> str:
    """Last commit that changed the package."""
    root = Path(__file__).resolve().parents[1]
    words = ["git", "log", "-1", "--format=%H", "--", "src"]
    return subprocess.run(
        words, cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [headers, *rows]
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


class Output:
    """Prints tables and figures as they come, and writes them as a record at the end."""

    def __init__(self, arguments: argparse.Namespace, **versions: str) -> None:
        self.arguments = arguments
        self.begin = time.perf_counter()
        self.tables: dict[str, Any] = {}
        self.figures: dict[str, Any] = {}
        self.versions = {
            "gloree": gloree.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy", "tensorly", "scikit-learn")},
            **versions,
        }
        self.machine = machine_facts(arguments.note)
        for name, value in (self.machine | self.versions).items():
            print(f"{name:13s} {value}")
        if arguments.quick:
            print("QUICK RUN: reduced sizes, the figures are not those to quote")
        print(flush=True)

    def table(
        self,
        key: str,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[Mapping[str, object]],
    ) -> None:
        """Print a table and keep it for the record.

        The first value of a row is its name, by which pages quote single cells.
        """
        self.tables[key] = table_content(title, columns, rows)
        print(title)
        cells = [[cell_text(each.cell, row) for each in columns] for row in as_json(rows)]
        print(plain_table([each.heading for each in columns], cells))
        print(flush=True)

    def figure(self, key: str, value: object, cell: str, what: str) -> None:
        """Print a single figure and keep it; `cell` is its format, as in ``"{value:.2f}"``."""
        self.figures[key] = {"value": as_json(value), "cell": cell, "what": what}
        print(f"{what}: {cell_text(cell, self.figures[key])}", flush=True)

    def target(self, key: str, met: object, what: str) -> None:
        """Whether an acceptance is met."""
        self.figure(key, bool(met), "{value:met/missed}", what)

    def close(self) -> None:
        """Write the record, if one was asked for."""
        path = self.arguments.json
        if path is None:
            return
        main = sys.modules["__main__"].__doc__ or ""
        record = {
            "name": path.stem,
            "question": main.strip().splitlines()[0],
            "command": repeatable_command(),
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit_of_code(),
            "quick": bool(self.arguments.quick),
            "seconds": round(time.perf_counter() - self.begin, 1),
            "machine": self.machine,
            "versions": self.versions,
            "figures": self.figures,
            "tables": self.tables,
        }
        check(record, path.stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def median(values: Sequence[float]) -> float:
    """Median, nan for nothing."""
    return float(statistics.median(values)) if len(values) else float("nan")


def source_of(X: Any, Y: Any) -> Source:
    """Data cut as a fit cuts them, with context for both directions."""
    data = as_sequences(X, Y)
    if int(data.lengths.max()) > 2 * SEGMENT:
        return Source(data, segment=SEGMENT, before=WASHOUT, after=WASHOUT)
    return Source(data)


def mean_squared_error(model: Network, X: Any, Y: Any) -> float:
    """Mean over steps and outputs; infinite where the recurrence explodes."""
    try:
        predictions = model.predict(X)
    except ExplosionError:
        return float("inf")
    predictions -= Y
    return float(np.mean(np.square(predictions, out=predictions)))


def main_errors(model: Network, truth: Network) -> dict[str, float]:
    """Relative errors of A1, U and A2 (and of B1 and V) modulo the symmetries."""
    errors = metrics.weight_errors(model, truth)
    names = BOTH_WAYS if isinstance(truth, BRNN) else WEIGHTS
    return {short: errors[name] for short, name in names.items()}


@dataclass(frozen=True)
class Optimum:
    """The least-squares solution next to the truth."""

    model: Network
    loss: float
    errors: dict[str, float]
    n_steps: int
    status: str
    seconds: float


def oracle(X: Any, Y: Any, truth: Network, *, engine: Engine | None = None) -> Optimum:
    """Gauss-Newton to convergence, started at the truth.

    All weights and biases are free, as in the default fit. The loss is the mean squared error.
    """
    layout = Layout(
        truth.n_inputs,
        truth.n_hidden,
        truth.n_outputs,
        direct=truth.direct_weights is not None,
        n_backward=truth.n_backward if isinstance(truth, BRNN) else None,
    )
    begin = time.perf_counter()
    result = GaussNewton(to_convergence=True).minimise(
        SquaredError(), truth.canonical(), layout, get_engine(engine), source_of(X, Y)
    )
    seconds = time.perf_counter() - begin
    return Optimum(
        result.model,
        mean_squared_error(result.model, X, Y),
        main_errors(result.model, truth),
        result.n_steps,
        result.status.name,
        seconds,
    )


def modal_matrix(poles: np.ndarray) -> np.ndarray:
    """Block-diagonal real matrix with these eigenvalues, of a complex pair the upper one."""
    blocks = [
        [[pole.real]] if pole.imag == 0.0 else [[pole.real, pole.imag], [-pole.imag, pole.real]]
        for pole in poles
    ]
    return np.asarray(scipy.linalg.block_diag(*blocks))


def timed_fit(estimator: Any, X: Any, Y: Any) -> tuple[float, list[str]]:
    """Fit; return the seconds it took and the names of the warnings it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin = time.perf_counter()
        estimator.fit(X, Y)
        seconds = time.perf_counter() - begin
    return seconds, sorted({each.category.__name__ for each in caught})


def alternately(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, in turns, so that a change of the machine's speed hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return seconds
