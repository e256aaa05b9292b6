"""Would compiled loops pay? Passes as fused loops, compiled by Numba, beside those on arrays.

    pip install numba
    python benchmarks/compiled.py
    python benchmarks/compiled.py --quick

Three passes of a fit, on one thread: the squared error (states and residuals), its gradient (with
the adjoint), and J^T J (with sensitivities). Beside the passes of the library stand loops over
sequences and steps that keep all of a step in registers and cache, compiled for the machine; J^T J
has its products by BLAS in both. They return the same numbers to a relative 1e-10, or the script
ends. The compiled gradient leaves out the leverage of segments, which the library's has.

*Bound* is what whole fits would gain: their time over the same time without what the loops would
save in all of their passes of these kinds (`whole_fits.py` notes them). All else stays: moments and
regressions are matrix products already.

Acceptance of a compiled path: whole fits gain at least 1.5 times in the median.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import Column, Output, alternately, median, option_parser
from bptt import CELLS, SMOOTH_CELLS
from threadpoolctl import threadpool_limits
from tqdm import tqdm
from whole_fits import Case, Passes, identified, noted, regression

from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.refinement import Layout, gradient_sums, hessian_sums, square_sums
from gloree.sequences import as_sequences

REPEATS = 5
WORTH = 1.5
"""Gain of whole fits, in the median, from which on compiled passes would be kept."""

HESSIAN_ROWS = 20_000
ROWS_TOGETHER = 256  # rows whose sensitivities are multiplied at once
LABELS = {"squares": ("squares",), "gradient": ("J^T r", "gradient"), "J^T J": ("J^T J",)}
"""Passes by the names that fits give them."""

RECORD_SEGMENT, RECORD_WARM_UP = 250, 60
"""How passes over one long record cut it; a loop walks it from its first row to its last."""

Kernels = Mapping[str, Callable[..., Any]]


def kernels(name: str) -> Kernels:  # noqa: C901
    """Compiled passes for one activation; the first `n_linear` units are linear."""
    from numba import njit

    compiled = njit(fastmath=True)
    value, slope = map(compiled, FUNCTIONS[name])

    @compiled
    def step(x, h, A1, U, b, n_linear, z, f):  # type: ignore[no-untyped-def]
        """Pre-activations and states of one step, from the states before."""
        k, d = A1.shape
        for i in range(k):
            total = b[i]
            for j in range(d):
                total += A1[i, j] * x[j]
            for j in range(k):
                total += U[i, j] * h[j]
            z[i] = total
        for i in range(n_linear):
            f[i] = z[i]
        for i in range(n_linear, k):
            f[i] = value(z[i])

    @compiled
    def squares(X, Y, A1, U, A2, b, c, D, n_linear):  # type: ignore[no-untyped-def]
        """Sum of squared residuals."""
        n, T, d = X.shape
        k, q = A2.shape
        found, z = 0.0, np.empty(k)
        for s in range(n):
            h, f = np.zeros(k), np.empty(k)
            for t in range(T):
                step(X[s, t], h, A1, U, b, n_linear, z, f)
                h, f = f, h
                for a in range(q):
                    r = Y[s, t, a] - c[a]
                    for i in range(k):
                        r -= A2[i, a] * h[i]
                    for j in range(d):
                        r -= D[j, a] * X[s, t, j]
                    found += r * r
        return found

    @compiled
    def gradient(X, Y, A1, U, A2, b, c, D, n_linear):  # type: ignore[no-untyped-def] # noqa: C901
        """J^T r: of [A1, U, b] of the units, (k, d + k + 1), and of [A2; c; D], (k + 1 + d, q)."""
        n, T, d = X.shape
        k, q = A2.shape
        entering, leaving = np.zeros((k, d + k + 1)), np.zeros((k + 1 + d, q))
        H, Z, R, delta = np.zeros((T + 1, k)), np.empty((T, k)), np.empty((T, q)), np.empty(k)
        back = np.empty(k)
        for s in range(n):
            for t in range(T):
                step(X[s, t], H[t], A1, U, b, n_linear, Z[t], H[t + 1])
                for a in range(q):
                    r = Y[s, t, a] - c[a]
                    for i in range(k):
                        r -= A2[i, a] * H[t + 1, i]
                    for j in range(d):
                        r -= D[j, a] * X[s, t, j]
                    R[t, a] = r
            back[:] = 0.0
            for t in range(T - 1, -1, -1):
                for i in range(k):
                    total = back[i]
                    for a in range(q):
                        total += A2[i, a] * R[t, a]
                    delta[i] = total if i < n_linear else total * slope(Z[t, i])
                back[:] = 0.0
                for i in range(k):
                    for j in range(k):
                        back[j] += U[i, j] * delta[i]
                    for j in range(d):
                        entering[i, j] += delta[i] * X[s, t, j]
                    for j in range(k):
                        entering[i, d + j] += delta[i] * H[t, j]
                    entering[i, d + k] += delta[i]
                for a in range(q):
                    for i in range(k):
                        leaving[i, a] += H[t + 1, i] * R[t, a]
                    leaving[k, a] += R[t, a]
                    for j in range(d):
                        leaving[k + 1 + j, a] += X[s, t, j] * R[t, a]
        return entering, leaving

    @compiled
    def curvature(X, A1, U, b, root, n_linear):  # type: ignore[no-untyped-def]
        """J^T J of the weights that enter units, with A2 = root^T Q^T."""
        n, T, d = X.shape
        k, m, seen = A1.shape[0], d + A1.shape[0] + 1, root.shape[0]
        size = k * m
        found, z = np.zeros((size, size)), np.empty(k)
        rows, row = np.empty((ROWS_TOGETHER * seen, size)), 0
        for s in range(n):
            h, f, S = np.zeros(k), np.empty(k), np.zeros((k, size))
            for t in range(T):
                step(X[s, t], h, A1, U, b, n_linear, z, f)
                S = np.dot(U, S)
                for i in range(k):
                    for j in range(d):
                        S[i, i * m + j] += X[s, t, j]
                    for j in range(k):
                        S[i, i * m + d + j] += h[j]
                    S[i, i * m + d + k] += 1.0
                    if i >= n_linear:
                        steep = slope(z[i])
                        for j in range(size):
                            S[i, j] *= steep
                rows[row * seen : (row + 1) * seen] = np.dot(root, S)
                row += 1
                h, f = f, h
                if row == ROWS_TOGETHER or (s == n - 1 and t == T - 1):
                    part = rows[: row * seen]
                    found += np.dot(part.T, part)
                    row = 0
        return found

    return {"squares": squares, "gradient": gradient, "J^T J": curvature}


FUNCTIONS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "quadratic": (lambda z: z * z, lambda z: 2.0 * z),
    "cubic": (lambda z: z * z * z, lambda z: 3.0 * z * z),
    "tanh": (lambda z: np.tanh(z), lambda z: 1.0 - np.tanh(z) ** 2),
    "relu": (lambda z: max(z, 0.0), lambda z: 1.0 if z > 0.0 else 0.0),
    "softplus": (lambda z: np.log1p(np.exp(z)), lambda z: 1.0 / (1.0 + np.exp(-z))),
}


@dataclass(frozen=True)
class Fitted:
    """A whole fit: its passes and seconds, its network, and data of equal sequences."""

    name: str
    passes: Passes
    seconds: float
    model: IORNN
    X: np.ndarray
    Y: np.ndarray
    activation: str
    n_linear: int


def fitted(case: Case, activation: str) -> Fitted:
    """Run a fit, passes noted."""
    X, Y = (np.asarray(part) for part in case.data())
    passes, estimator = Passes(), case.estimator()
    begin = time.perf_counter()
    with warnings.catch_warnings(), noted(passes, case.sizes):
        warnings.simplefilter("ignore")
        estimator.fit(X, Y)
    seconds = time.perf_counter() - begin
    model = estimator.model_
    if X.ndim == 1:
        X, Y = X[None, :, None], Y[None, :, None]
    return Fitted(case.name, passes, seconds, model, X, Y, activation, model.linear_units.size)


def compared(fit: Fitted, repeats: int) -> list[dict[str, Any]]:
    """Seconds of each pass on arrays and compiled, once their results are seen to be equal."""
    # at the optimum a gradient is rounding
    model = fit.model.replace(output_weights=0.9 * fit.model.output_weights)
    n, T, d = fit.X.shape
    k, q = model.output_weights.shape
    direct = model.direct_weights
    D = np.zeros((d, q)) if direct is None else direct
    A1, U, b = model.input_weights, model.recurrent_weights, model.hidden_bias
    weights = (A1, U, model.output_weights, b, model.output_bias)
    loops = kernels(fit.activation)
    layout = Layout(d, k, q, direct=direct is not None)
    cut: dict[str, Any] = {}
    if n == 1:
        cut = {"segment": RECORD_SEGMENT, "before": RECORD_WARM_UP}
    source = Source(as_sequences(fit.X, fit.Y), **cut)
    n_few = max(1, min(n, HESSIAN_ROWS // T))
    few = fit.X[:n_few, :HESSIAN_ROWS]
    some = Source(as_sequences(few, fit.Y[:n_few, :HESSIAN_ROWS]), **cut)
    root = np.ascontiguousarray(np.linalg.qr(model.output_weights.T)[1])
    run = Engine().run
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "squares": (
            lambda: run(partial(square_sums, model=model), source).total,
            lambda: loops["squares"](fit.X, fit.Y, *weights, D, fit.n_linear),
        ),
        "gradient": (
            lambda: run(partial(gradient_sums, model=model, layout=layout), source).gradient,
            lambda: loops["gradient"](fit.X, fit.Y, *weights, D, fit.n_linear),
        ),
        "J^T J": (
            lambda: run(partial(hessian_sums, model=model, layout=layout), some).hessian,
            lambda: loops["J^T J"](few, A1, U, b, root, fit.n_linear),
        ),
    }
    rows = []
    rows: list[dict[str, Any]] = []
    for name, (on_arrays, compiled) in pairs.items():
        error = difference(on_arrays(), compiled(), direct is not None)
        # on a record warm-ups leave a little of the states before
        if not error <= (1e-10 if n > 1 else 0.05):
            raise SystemExit(f"{fit.name}, {name}: results differ by {error:.1g}")
        times = alternately({"arrays": on_arrays, "loops": compiled}, repeats)
        seconds = {side: median(each) for side, each in times.items()}
        spent = sum(fit.passes.seconds[label] for label in LABELS[name])
        row = {"name": f"{fit.name}, {name}", "fit": fit.name, "pass": name, **seconds}
        row |= {"times": seconds["arrays"] / seconds["loops"], "error": error}
        rows.append(row | {"share": 100.0 * spent / fit.seconds})
    return rows


def difference(ours: Any, theirs: Any, direct: bool) -> float:
    """Largest difference of two results, over the largest entry."""
    if isinstance(theirs, tuple):
        entering, leaving = theirs
        leaving = leaving if direct else leaving[: entering.shape[0] + 1]
        theirs = np.concatenate((entering.ravel(), leaving.T.ravel()))
    elif np.ndim(theirs) == 2:
        ours = ours[: theirs.shape[0], : theirs.shape[0]]
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(ours).max())


def main() -> None:
    """All fits."""
    arguments = option_parser(__doc__, seeds=1).parse_args()
    places, here = sys.path, str(Path(__file__).resolve().parent)
    # Numba looks for the package that coverage.py beside this script would hide
    sys.path = [place for place in places if place != here]
    try:
        import numba
    except ImportError:
        print("compiled.py needs Numba, which gloree does not: pip install numba")
        return
    finally:
        sys.path = places
    out, small = Output(arguments, numba=numba.__version__), bool(arguments.quick)
    repeats = 2 if small else REPEATS
    names = ("short",) if small else [name for name in CELLS if not CELLS[name].bidirectional]
    smooth = ("tanh",) if small else ("tanh", "tanh-long", "relu", "softplus")
    cells = CELLS | SMOOTH_CELLS
    cases = [(regression(name, small), cells[name].activation) for name in (*names, *smooth)]
    cases.append((identified(small), "tanh"))
    rows, fits = [], []
    with threadpool_limits(1):
        for case, activation in tqdm(cases, desc="fits"):
            fit = fitted(case, activation)
            passes = compared(fit, repeats)
            saved = sum(each["share"] * (1.0 - min(1.0, 1.0 / each["times"])) for each in passes)
            rows += passes
            fits.append(
                {"fit": case.name, "seconds": fit.seconds, "bound": 100.0 / (100.0 - saved)}
            )
    out.table(
        "passes",
        "Passes on arrays and compiled, one thread",
        [
            Column("fit", "{fit}"),
            Column("pass", "{pass}"),
            Column("arrays", "{arrays:3s}", "s"),
            Column("loops", "{loops:3s}", "s"),
            Column("times", "{times:.2f}"),
            Column("of the fit", "{share:.0f}", "%"),
            Column("difference", "{error:.0e}"),
        ],
        rows,
    )
    out.table(
        "fits",
        "What whole fits would gain",
        [
            Column("fit", "{fit}"),
            Column("time", "{seconds:.2f}", "s"),
            Column("bound", "{bound:.2f}"),
        ],
        fits,
    )
    bound = median([each["bound"] for each in fits])
    out.figure("bound", bound, "{value:.2f}", "bound on the gain of whole fits, median")
    most = max(each["bound"] for each in fits)
    out.figure("most", most, "{value:.2f}", "bound on the gain of whole fits, the largest")
    out.target("worth", bound >= WORTH, f"whole fits gain {WORTH:g} times")
    out.close()


if __name__ == "__main__":
    main()
