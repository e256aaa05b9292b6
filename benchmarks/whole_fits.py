"""Where the time of whole fits goes: kinds of work, and passes beside what the machine can do.

    python benchmarks/whole_fits.py
    python benchmarks/whole_fits.py --quick

Fits of the cells of `bptt.py`, of a labelling network, and of a system with a long record, all by
default on one thread. A clock looks a thousand times a second at the line of the library that runs,
and sorts it by what stands there: *products* (matrix products, decompositions, sums over several
axes), *elements* (other array operations), or *Python*. Python code of SciPy and scikit-learn is
counted as *libraries*, locks and queues as *waiting*; NumPy counts for the line that called it.

Each pass over the data is timed: how many rows it saw (*passes* over all rows), and its *floor*:
bytes of inputs and outputs over the rate of copying, and products over the rate of a product of
square matrices of 1,000 rows. Products counted are those of `passes.py`: a pass with squares of
residuals has 2 n (d k + k^2 + k q), one with a gradient three times that, J^T J has n k p (p + 1)
+ 2 n k p (2 k + 1) with p weights that enter a unit, and moments n phi (phi + 1) + 2 n phi q. Of
other passes the bytes alone are counted, so that their floor is low.
"""

from __future__ import annotations

import ast
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, median, option_parser
from bptt import CELLS, SMOOTH_CELLS
from scipy.signal import lfilter
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import gloree
from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier
from gloree.engine import Engine

LIBRARY = str(Path(gloree.__file__).parent)
SQUARE, TICK, REPEATS = 1000, 1e-3, 3
KINDS = ("products", "elements", "Python", "libraries", "waiting")
PRODUCTS = {
    *("einsum", "matmul", "dot", "tensordot", "solve", "eigh", "eigvalsh", "svd", "lstsq", "qr"),
    *("inv", "pinv", "cholesky", "norm", "lu_factor", "lu_solve", "cho_factor", "cho_solve"),
    *("solve_triangular", "expm", "schur", "minimize", "linear_sum_assignment"),
}


@cache
def kinds_of_lines(path: str) -> dict[int, str]:
    """Kind of work in each line of a module, by its innermost statement."""
    found: dict[int, str] = {}

    def kind(node: ast.AST) -> str:
        calls = 0
        for each in ast.walk(node):
            if isinstance(each, ast.BinOp) and isinstance(each.op, ast.MatMult):
                return "products"
            if isinstance(each, ast.AugAssign | ast.BinOp):
                calls += 1
            if isinstance(each, ast.Call):
                name = each.func.attr if isinstance(each.func, ast.Attribute) else ""
                name = each.func.id if isinstance(each.func, ast.Name) else name
                if name in PRODUCTS:
                    return "products"
                calls += 1
        return "elements" if calls else "Python"

    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for node in sorted(statements, key=lambda each: each.lineno):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            whole = not isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try)
            last = (node.end_lineno or node.lineno) if whole else node.lineno
            said = kind(node) if whole else "Python"
            found.update(dict.fromkeys(range(node.lineno, last + 1), said))
    return found


@dataclass
class Passes:
    """Passes of a fit by their label: rows, seconds and floating-point operations."""

    rows: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    work: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def note(self, label: str, n_rows: int, seconds: float, work: float) -> None:
        """One more pass."""
        self.rows[label] += n_rows
        self.seconds[label] += seconds
        self.work[label] += work


def work_of(result: Any, n_rows: int, sizes: tuple[int, int, int]) -> float:
    """Products that a pass cannot do without, by what it returns."""
    d, k, q = sizes
    forward = 2 * n_rows * (d * k + k * k + k * q)
    name = type(result).__name__
    if name == "HessianSums":
        p = d + k + 1
        return n_rows * k * p * (p + 1) + 2 * n_rows * k * p * (2 * k + 1)
    if name in ("GradientSums", "LossSums", "NormalSums"):
        return 3 * forward
    if hasattr(result, "gram") and np.ndim(result.gram) == 2:
        phi = result.gram.shape[0]
        return n_rows * phi * (phi + 1) + 2 * n_rows * phi * q
    return forward if "Squares" in name or "Square" in name else 0.0


@contextmanager
def noted(passes: Passes, sizes: tuple[int, int, int]) -> Iterator[None]:
    """Passes of the engine are written down while this lasts."""
    plain = Engine.run

    def run(self: Engine, function: Any, data: Any, *, label: str = "pass") -> Any:
        begin = time.perf_counter()
        result: Any = plain(self, function, data, label=label)
        n_rows = int(np.sum(getattr(result, "n_rows", 0)))
        passes.note(label, n_rows, time.perf_counter() - begin, work_of(result, n_rows, sizes))
        return result

    Engine.run = run  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Engine.run = plain  # type: ignore[method-assign]


def other_kind(path: str) -> str:
    """Kind of work outside of the library and of NumPy."""
    if path.endswith(("threading.py", "queue.py")) or "concurrent" in path:
        return "waiting"
    return "libraries" if any(name in path for name in ("scipy", "sklearn", "joblib")) else ""


@contextmanager
def sampled(kinds: Counter[str]) -> Iterator[None]:
    """The line of the library that runs is looked at every millisecond."""
    main, ended = threading.get_ident(), threading.Event()

    def look() -> None:
        while not ended.wait(TICK):
            frame = sys._current_frames().get(main)
            if frame is not None and (other := other_kind(frame.f_code.co_filename)):
                kinds[other] += 1
                continue
            while frame is not None and not frame.f_code.co_filename.startswith(LIBRARY):
                frame = frame.f_back
            if frame is not None:
                lines = kinds_of_lines(frame.f_code.co_filename)
                kinds[lines.get(frame.f_lineno, "Python")] += 1

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class Case:
    """A fit: its data, its estimator, and the sizes d, k, q behind its products."""

    name: str
    data: Callable[[], tuple[Any, Any]]
    estimator: Callable[[], Any]
    sizes: tuple[int, int, int]


def regression(name: str, small: bool) -> Case:
    """A cell of `bptt.py`, with quadratic and cubic units or with others."""
    cell = (CELLS | SMOOTH_CELLS)[name]

    def data() -> tuple[Any, Any]:
        X, Y, _ = cell.simulate(cell.seed)
        return (X[:500], Y[:500]) if small else (X, Y)

    def estimator() -> SpectralRNNRegressor:
        return SpectralRNNRegressor(
            cell.sizes[1],
            activation=cell.activation,
            bidirectional=cell.bidirectional,
            engine="serial",
            random_state=0,
        )

    return Case(name, data, estimator, cell.sizes)


def labelled(small: bool) -> Case:
    """Labels of a network, 20,000 steps, windows of two steps in both directions."""

    def data() -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        X, Y, _, _ = gloree.datasets.make_rnn(
            *(200 if small else 2_000, 10, 20, 6, 12), noise=1.0, random_state=rng
        )
        return X, Y.argmax(axis=2)

    def estimator() -> SpectralRNNClassifier:
        return SpectralRNNClassifier((3, 3), bidirectional=True, engine="serial", random_state=0)

    return Case("labels", data, estimator, (20, 6, 12))


def identified(small: bool) -> Case:
    """A Wiener-Hammerstein system, one record."""

    def data() -> tuple[Any, Any]:
        u = np.random.default_rng(0).standard_normal(2_000 if small else 30_000)
        x = np.tanh(1.5 * lfilter([0.3, 0.2], [1.0, -0.8, 0.3], u))
        y = lfilter([0.5, 0.1], [1.0, -0.6], x)
        return u, y + 0.01 * np.random.default_rng(1).standard_normal(len(u))

    def estimator() -> SystemIdentifier:
        return SystemIdentifier(max_seconds=5.0 if small else 60.0)

    return Case("identification", data, estimator, (1, 10, 1))


def rates() -> tuple[float, float]:
    """Floating-point operations of a product, and bytes of a copy, in a second of one thread."""
    A, block = np.random.default_rng(0).standard_normal((SQUARE, SQUARE)), np.ones(2**17)
    products, copies = [], []
    for _ in range(7):
        begin = time.perf_counter()
        A @ A
        products.append(2 * SQUARE**3 / (time.perf_counter() - begin))
        begin = time.perf_counter()
        for _ in range(200):
            block.copy()
        copies.append(200 * block.nbytes / (time.perf_counter() - begin))
    return median(products), median(copies)


def measured(case: Case, small: bool) -> tuple[dict[str, Any], Passes, int, int]:
    """Shares of the kinds of work, passes, rows of the data, and bytes of a row."""
    X, Y = case.data()
    X, Y = np.asarray(X), np.asarray(Y)
    n_rows = X.shape[0] * (X.shape[1] if X.ndim == 3 else 1)
    kinds: Counter[str] = Counter()
    passes, seconds = Passes(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for repeat in range(1 if small else REPEATS):
            estimator, begin = case.estimator(), time.perf_counter()
            if repeat == 0:  # times of passes from a fit of their own
                with noted(passes, case.sizes):
                    estimator.fit(X, Y)
            else:
                with sampled(kinds):
                    estimator.fit(X, Y)
            seconds.append(time.perf_counter() - begin)
        if small:
            with sampled(kinds):
                case.estimator().fit(X, Y)
    total = max(kinds.total(), 1)
    row = {"cell": case.name, "seconds": median(seconds)}
    row |= {kind: 100.0 * kinds[kind] / total for kind in KINDS}
    row["passes"] = 100.0 * sum(passes.seconds.values()) / seconds[0]
    row["full"] = sum(passes.rows.values()) / n_rows
    return row, passes, n_rows, (X.nbytes + Y.nbytes) // n_rows


def main() -> None:
    """All fits."""
    arguments = option_parser(__doc__, seeds=1).parse_args()
    out, small = Output(arguments), bool(arguments.quick)
    cases = [regression(name, small) for name in (("short",) if small else CELLS)]
    cases += [labelled(small), identified(small)]
    rows, details = [], []
    with threadpool_limits(1):
        product, copying = rates()
        for case in tqdm(cases, desc="fits"):
            row, passes, n_rows, width = measured(case, small)
            rows.append(row)
            for label, seconds in sorted(passes.seconds.items(), key=lambda each: -each[1]):
                floor = passes.work[label] / product + passes.rows[label] * width / copying
                if seconds < 0.05 * row["seconds"]:
                    continue
                detail = {"cell": case.name, "pass": label, "seconds": seconds, "floor": floor}
                times = seconds / floor if floor else float("nan")
                details.append({**detail, "full": passes.rows[label] / n_rows, "times": times})
    out.table(
        "kinds",
        "Kinds of work in whole fits",
        [
            Column("fit", "{cell}"),
            Column("time", "{seconds:.2f}", "s"),
            *(Column(kind, "{" + kind + ":.0f}", "%") for kind in KINDS),
            Column("in passes", "{passes:.0f}", "%"),
            Column("passes over all rows", "{full:.1f}"),
        ],
        rows,
    )
    out.table(
        "passes",
        "Passes that take more than a twentieth of their fit",
        [
            Column("fit", "{cell}"),
            Column("pass", "{pass}"),
            Column("over all rows", "{full:.2f}"),
            Column("time", "{seconds:.3f}", "s"),
            Column("floor", "{floor:.3f}", "s"),
            Column("time over floor", "{times:.1f}"),
        ],
        details,
    )
    out.figure("product", product / 1e9, "{value:.0f}", "GFLOP/s of a product")
    out.figure("copying", copying / 2**30, "{value:.1f}", "GiB/s of copying")
    for kind in KINDS:
        share = median([row[kind] for row in rows])
        out.figure(kind.lower(), share, "{value:.0f}", f"per cent of a fit: {kind}, median")
    out.close()


if __name__ == "__main__":
    main()
