"""What one step of a network costs in a loop of samples, beside its products, and how exact it is.

    python benchmarks/stepper.py
    python benchmarks/stepper.py --quick

`Network.stepper` against a bare loop of the two products that a step cannot do without,
[b, A1, U] v and [c, D, A2] v, on arrays of the same sizes. Times of the processor, in turns, the
least of many repeats; the difference is the overhead. Beside it the largest difference of outputs
from the run over the whole record.

Acceptance: an overhead below 5 microseconds for every network; differences below 1e-12.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import Column, Output, option_parser
from tqdm import tqdm

from gloree.activations import Polynomial
from gloree.models import IORNN

MOST_OVERHEAD, MOST_DIFFERENCE = 5.0, 1e-12

CUBICS = [Polynomial((0.0, 1.0, 0.1 * k, -0.01)) for k in range(2)]
NETWORKS: dict[str, dict[str, Any]] = {
    "6 linear": {"units": ["linear"] * 6},
    "6 linear, 5 tanh": {"units": ["linear"] * 6 + ["tanh"] * 5},
    "6 linear, 2 cubics": {"units": ["linear"] * 6 + CUBICS},
    "4 quadratic": {"units": "quadratic", "n": 4},
    "40 tanh": {"units": "tanh", "n": 40},
    "6 linear, 5 tanh, 50 lags": {"units": ["linear"] * 6 + ["tanh"] * 5, "lags": 50},
}


def network(units: Any, n: int = 0, lags: int = 1) -> IORNN:
    """A stable network of two inputs and two outputs with a direct path."""
    rng = np.random.default_rng(0)
    n = n or len(units)
    U = rng.standard_normal((n, n))
    return IORNN(
        0.1 * rng.standard_normal((n, 2 * lags)),
        0.5 * U / np.linalg.norm(U, 2),
        rng.standard_normal((n, 2)),
        0.1 * rng.standard_normal(n),
        rng.standard_normal(2),
        rng.standard_normal((2 * lags, 2)),
        units,
        lags=lags,
    )


def products(model: IORNN, rows: np.ndarray) -> Callable[[], None]:
    """The loop of products alone."""
    width = 1 + model.n_columns + model.n_hidden
    rng = np.random.default_rng(1)
    hidden, readout = rng.standard_normal((model.n_hidden, width)), rng.standard_normal((2, width))
    v, z = rng.standard_normal(width), np.empty(model.n_hidden)

    def loop() -> None:
        for _ in rows:
            np.dot(hidden, v, out=z)
            np.dot(readout, v)

    return loop


def microseconds(call: Callable[[], None], n_rows: int) -> float:
    begin = time.process_time()
    call()
    return 1e6 * (time.process_time() - begin) / n_rows


def measure(name: str, n_rows: int, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    model = network(**NETWORKS[name])
    rows = np.random.default_rng(2).uniform(-1, 1, (n_rows, 2))
    whole, step = model.predict(rows), model.stepper()
    difference = np.abs(np.array([step(row) for row in rows]) - whole).max()
    difference /= max(1.0, np.abs(whole).max())

    def stepped() -> None:
        for row in rows:
            step(row)

    bare = products(model, rows)
    pairs = [(microseconds(stepped, n_rows), microseconds(bare, n_rows)) for _ in range(repeats)]
    step_time, product_time = (min(times) for times in zip(*pairs, strict=True))
    return {
        "network": name,
        "step": step_time,
        "products": product_time,
        "overhead": step_time - product_time,
        "difference": float(difference),
    }


def main() -> None:
    arguments = option_parser(__doc__, seeds=40).parse_args()
    out = Output(arguments)
    n_rows = 500 if arguments.quick else 5000
    repeats = arguments.seeds or (3 if arguments.quick else 40)
    rows = [measure(name, n_rows, repeats) for name in tqdm(NETWORKS, desc="networks")]
    out.table(
        "steps",
        "One step of a network with two inputs and outputs, least of many repeats",
        [
            Column("network", "{network}"),
            Column("step", "{step:.1f}", "µs"),
            Column("products alone", "{products:.1f}", "µs"),
            Column("overhead", "{overhead:.1f}", "µs"),
            Column("difference from the batch run", "{difference:.0e}"),
        ],
        rows,
    )
    overhead = max(row["overhead"] for row in rows)
    difference = max(row["difference"] for row in rows)
    out.figure("most_overhead", overhead, "{value:.1f}", "largest overhead in microseconds")
    out.figure("most_difference", difference, "{value:.0e}", "largest difference")
    met = overhead < MOST_OVERHEAD and difference < MOST_DIFFERENCE
    out.target("met", met, "overhead below 5 microseconds, differences below 1e-12")
    out.close()


if __name__ == "__main__":
    main()
