"""What the benchmark scripts share: options, tables, machine facts, the optimum, timing.

The yardstick of every script is the *least-squares optimum*: Gauss-Newton run to convergence from
the true weights. No estimator that does not know the truth can be expected to do better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import scipy
import scipy.linalg
from threadpoolctl import threadpool_info

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
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"repetitions (default {seeds})")
    parser.add_argument("--rst", action="store_true", help="tables as reStructuredText")
    return parser


def machine_facts(**versions: str) -> dict[str, Any]:
    """Processor, cores, and versions of what the figures depend on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "load before": round(load, 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gloree": gloree.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        **versions,
        "thread pools": sorted(
            {f"{each['internal_api']} {each['version']}" for each in threadpool_info()}
        ),
    }


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


def rst_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a list-table directive."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in [headers, *rows]:
        for i, cell in enumerate(row):
            shown = cell.replace("|", "\\|")  # bars mark substitutions
            lines.append(f"   {'*' if i == 0 else ' '} - {shown}".rstrip())
    return "\n".join(lines)


class Output:
    """Prints the tables of a script as they come, and writes its figures at the end."""

    def __init__(self, arguments: argparse.Namespace, **versions: str) -> None:
        self.arguments = arguments
        self.facts = machine_facts(**versions)
        for name, value in self.facts.items():
            print(f"{name:13s} {value}")
        if arguments.quick:
            print("QUICK RUN: reduced sizes, the figures are not those to quote")
        print(flush=True)

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table as plain text or reStructuredText."""
        if self.arguments.rst:
            print(rst_table(title, headers, rows))
        else:
            print(title)
            print(plain_table(headers, rows))
        print(flush=True)

    def close(self, results: Any) -> None:
        """Write the JSON file, if one was asked for."""
        path = self.arguments.json
        if path is None:
            return
        options = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.arguments).items()}
        content = {"machine": self.facts, "options": options, "results": results}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} cannot be written as JSON")


def number(value: float, digits: int = 3) -> str:
    """Figure with so many significant digits, without a needless exponent."""
    if not np.isfinite(value):
        return "-" if np.isnan(value) else "inf"
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:.{decimals}f}"


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
