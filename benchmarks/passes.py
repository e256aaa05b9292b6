"""Passes over the data against what the machine can do: its matrix products, its copies.

    python benchmarks/passes.py
    python benchmarks/passes.py --quick

*Rate* is the work of a pass over its time, in GFLOP/s, with two workers; *of gemm* compares it with
a product of two square matrices of 1,500 rows by the same two workers (one BLAS thread each), timed
in turns in the same run. Work counts what a pass cannot do without: for regression features phi,
n |phi| (|phi| + 1) for the Gram matrix (of which only one half is different), 2 n |phi| q for the
right-hand side, and one multiplication for each feature; for score features, of which there is no
Gram matrix, 2 n |s| (q + 1) and the multiplications; for a forward pass 2 n (d k + k^2 + k q).
*Of copy* compares the bytes of X and Y over the time with the rate of copying an array of the size
of a batch. J^T J runs over a twentieth of the rows; its work, for n_hidden k and p weights that
enter the units, is n k p (p + 1) for the symmetric product, and 2 n k p (2 k + 1) for the
sensitivities and their products with what enters the outputs.

The naive score moment forms S_m of each step, n d^m numbers, and contracts it with the outputs: its
time and peak memory stand beside those of `moments.cross_moment`.

Acceptance: at least half the matrix-product rate for the moment pass of a fit (regression
features, at most 1,000 of them) from 32 inputs on.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from _common import Column, Output, alternately, median, option_parser
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gloree import GaussianVAR, datasets, moments, score_functions
from gloree.chains import lag_moments
from gloree.engine import Engine, Source
from gloree.moments import (
    RegressionFeatures,
    Whitening,
    cross_moment_sums,
    regression_sums,
)
from gloree.refinement import Layout, gradient_sums, hessian_sums, square_sums
from gloree.sequences import as_sequences

WORKERS = 2
SQUARE = 1500
REPEATS = 5
INPUTS = (8, 16, 32, 48)
OUTPUTS = 10
HIDDEN = 10
STEPS = 20
MOST_FEATURES = 1000
"""A fit takes these features up to here, and other moments beyond."""

HESSIAN_SHARE = 20
"""A fit takes J^T J from part of the rows."""

NAIVE = ((8, 2), (16, 2), (32, 2), (8, 3), (16, 3))


def main() -> None:
    arguments = option_parser(__doc__, seeds=1).parse_args()
    out = Output(arguments)
    repeats = 2 if arguments.quick else REPEATS
    rows = 20_000 if arguments.quick else 200_000
    inputs = INPUTS[:2] if arguments.quick else INPUTS
    cells = [cell for d in tqdm(inputs, desc="passes") for cell in measure(d, rows, repeats)]
    out.table(
        "passes",
        f"Passes over {rows:,} steps, {OUTPUTS} outputs, {HIDDEN} units, {WORKERS} workers: "
        f"medians of {repeats}",
        [
            Column("pass", "{pass}"),
            Column("inputs", "{inputs}"),
            Column("features", "{features:,}"),
            Column("time", "{seconds:3s}", "s"),
            Column("rate", "{rate:3s}", "GFLOP/s"),
            Column("of gemm", "{of_gemm:.2f}"),
            Column("read", "{bytes_rate:,.0f}", "MB/s"),
            Column("of copy", "{of_copy:.2f}"),
        ],
        [{"name": f"{each['pass']}, {each['inputs']}", **each} for each in cells],
    )
    naive = [
        beside_naive(d, order, 2_000 if arguments.quick else 20_000)
        for d, order in tqdm(NAIVE[:2] if arguments.quick else NAIVE, desc="naive")
    ]
    out.table(
        "naive",
        "Score moments beside the naive score tensor of each step",
        [
            Column("inputs", "{inputs}"),
            Column("order", "{order}"),
            Column("steps", "{rows:,}"),
            Column("time", "{seconds:3s}", "s"),
            Column("naive", "{naive_seconds:3s}", "s"),
            Column("times", "{times:.0f}"),
            Column("memory", "{megabytes:3s}", "MB"),
            Column("naive", "{naive_megabytes:3s}", "MB"),
            Column("difference", "{difference:.0e}"),
        ],
        [
            {
                "name": f"{each['inputs']}, {each['order']}",
                **each,
                "times": each["naive_seconds"] / each["seconds"],
            }
            for each in naive
        ],
    )
    shares = [
        each["of_gemm"]
        for each in cells
        if each["pass"].startswith("regression")
        and each["inputs"] >= 32
        and each["features"] <= MOST_FEATURES
    ]
    if shares:
        out.figure("least_share", min(shares), "{value:.2f}", "least share of the gemm rate")
        out.figure("most_share", max(shares), "{value:.2f}", "largest share of the gemm rate")
        out.target(
            "met", min(shares) >= 0.5, "half the rate from 32 inputs on, where a fit uses it"
        )
    times = [each["naive_seconds"] / each["seconds"] for each in naive]
    out.figure("naive_least", min(times), "{value:2s}", "naive over score moment, least")
    out.figure("naive_most", max(times), "{value:2s}", "naive over score moment, most")
    out.close()


def matrix_products() -> Callable[[], None]:
    """Square products by all workers at once."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((2, SQUARE, SQUARE)) for _ in range(WORKERS)]

    def run() -> None:
        with ThreadPoolExecutor(WORKERS) as pool, threadpool_limits(1, user_api="blas"):
            list(pool.map(lambda pair: pair[0] @ pair[1], factors))

    return run


def copies(n_bytes: int) -> Callable[[], None]:
    """Copies of a batch-sized array, over again up to so many bytes, by all workers."""
    blocks = [np.ones(2**17) for _ in range(WORKERS)]
    times = max(1, n_bytes // (WORKERS * blocks[0].nbytes))

    def copy(block: np.ndarray) -> None:
        target = np.empty_like(block)
        for _ in range(times):
            np.copyto(target, block)

    def run() -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(copy, blocks))

    return run


def measure(d: int, n_rows: int, repeats: int) -> list[dict[str, Any]]:
    """All passes at one number of inputs, in turns with the machine's own rates."""
    X, Y, truth, chain = datasets.make_rnn(
        n_rows // STEPS, STEPS, d, min(HIDDEN, d), OUTPUTS, random_state=0
    )
    assert isinstance(chain, GaussianVAR)
    data = as_sequences(X, Y)
    source = Source(data, before=2, after=2)
    engine = Engine("threads", n_workers=WORKERS)
    whitening = Whitening.from_covariance(np.zeros(d), np.atleast_2d(np.cov(data.X.T)))
    layout = Layout(d, truth.n_hidden, OUTPUTS)
    union = RegressionFeatures(whitening, 2, chain)
    xreg = RegressionFeatures(whitening, 2)
    k, q = truth.n_hidden, OUTPUTS
    width = layout.n_unit_parameters
    hessian_rows = n_rows // HESSIAN_SHARE
    forward = 2 * n_rows * (d * k + k * k + k * q)
    score_size = d * (d + 1) // 2 + 1
    passes: dict[str, tuple[Callable[..., Any], int, float]] = {
        "input law": (partial(lag_moments, order=1), d, n_rows * d * (2 * d + d)),
        "regression xreg": (partial(regression_sums, features=xreg), xreg.size, _gram(xreg, q)),
        "regression union": (partial(regression_sums, features=union), union.size, _gram(union, q)),
        "score, order 2": (
            partial(cross_moment_sums, chain=chain, order=2),
            score_size,
            score_size * (2 * (q + 1) + 1),
        ),
        "forward": (partial(square_sums, model=truth), k, forward),
        "gradient": (partial(gradient_sums, model=truth, layout=layout), layout.size, 3 * forward),
        "J^T J": (
            partial(hessian_sums, model=truth, layout=layout),
            layout.size,
            hessian_rows * k * width * (width + 1 + 2 * k + 2 * (k + 1)),
        ),
    }
    for name in ("regression xreg", "regression union", "score, order 2"):
        function, size, work = passes[name]
        passes[name] = function, size, work * n_rows
    n_bytes = data.X.nbytes + data.Y.nbytes
    parts = source.subset(hessian_rows)
    calls: dict[str, Callable[[], Any]] = {
        "gemm": matrix_products(),
        "copy": copies(n_bytes),
        **{
            name: partial(engine.run, function, parts if name == "J^T J" else source)
            for name, (function, _, _) in passes.items()
        },
    }
    for call in calls.values():
        call()
    seconds = {name: median(found) for name, found in alternately(calls, repeats).items()}
    gemm = WORKERS * 2 * SQUARE**3 / seconds["gemm"] / 1e9
    copied = n_bytes / seconds["copy"] / 1e6
    moved = {name: n_bytes / (HESSIAN_SHARE if name == "J^T J" else 1) for name in passes}
    return [
        {
            "pass": name,
            "inputs": d,
            "features": size,
            "seconds": seconds[name],
            "rate": work / seconds[name] / 1e9,
            "of_gemm": work / seconds[name] / 1e9 / gemm,
            "bytes_rate": moved[name] / seconds[name] / 1e6,
            "of_copy": moved[name] / seconds[name] / 1e6 / copied,
            "gemm": gemm,
            "copy": copied,
        }
        for name, (_, size, work) in passes.items()
    ]


def _gram(features: RegressionFeatures, q: int) -> int:
    """Operations of a regression pass for each row."""
    return features.size * (features.size + 1 + 2 * q + 1)


def beside_naive(d: int, order: int, n_rows: int) -> dict[str, Any]:
    """Time and memory of a score moment, and of the tensors of all steps."""
    X, Y, _, chain = datasets.make_rnn(
        n_rows // STEPS, STEPS, d, 4, OUTPUTS, degree=min(order, 3), random_state=1
    )

    def naive() -> np.ndarray:
        # sequence by sequence; the moment itself is centred by its own means, so compare without
        scores = score_functions.partial_score(chain, X, order=order)
        return np.tensordot(Y.reshape(-1, OUTPUTS).T, scores.reshape(-1, *[d] * order), axes=1) / (
            n_rows // STEPS * STEPS
        )

    def ours() -> np.ndarray:
        return moments.cross_moment(chain, X, Y, order=order, centre=False)

    found: dict[str, Any] = {"inputs": d, "order": order, "rows": n_rows}
    values = []
    for name, call in (("", ours), ("naive_", naive)):
        begin = time.perf_counter()
        values.append(call())
        found[f"{name}seconds"] = time.perf_counter() - begin
        tracemalloc.start()
        call()
        found[f"{name}megabytes"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    found["difference"] = float(np.abs(values[0] - values[1]).max() / np.abs(values[1]).max())
    return found


if __name__ == "__main__":
    main()
