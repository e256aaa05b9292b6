"""Time of the forward pass: long records against the plain loop, short sequences against BLAS.

    python benchmarks/forward.py [--steps 1000000]

Prints the time of the plain NumPy loop over one long record, of `IORNN.hidden_states` on the same
record, their ratio and their largest difference, for networks that remember more and more; then
the time of `predict` on short sequences beside that of its matrix products alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _common import Column, Output, alternately, option_parser

from gloree.models import IORNN, multiply_rows

N_INPUTS = 5
N_HIDDEN = 5


def best_time(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest of a few runs, in seconds, and the result."""
    shortest, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest, result


def plain_loop(model: IORNN, X: np.ndarray) -> np.ndarray:
    """Walk the record step by step, with nothing in the loop that could be outside."""
    drive = X @ model.input_weights.T + model.hidden_bias
    recurrent, activation = model.recurrent_weights, model.activation
    square = activation.name == "quadratic"
    state = np.zeros(model.n_hidden)
    states = np.empty_like(drive)
    for t in range(drive.shape[0]):
        z = drive[t] + recurrent @ state
        state = z * z if square else np.tanh(z) if activation.name == "tanh" else z
        states[t] = state
    return states


def make_model(activation: str, radius: float, rng: np.random.Generator) -> IORNN:
    weights = rng.standard_normal((N_HIDDEN, N_INPUTS))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    recurrent = radius * np.linalg.qr(rng.standard_normal((N_HIDDEN, N_HIDDEN)))[0]
    return IORNN(weights, recurrent, rng.standard_normal((N_HIDDEN, 2)), activation=activation)


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps = min(arguments.steps, 100_000)
    out = Output(arguments)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((arguments.steps, N_INPUTS))
    cases = [
        ("quadratic", 0.1),
        ("tanh", 0.8),
        ("linear", 0.9),
        ("linear", 0.99),
        ("linear", 0.9999),
    ]
    rows = []
    for activation, radius in cases:
        model = make_model(activation, radius, rng)
        calls = {"loop": partial(plain_loop, model, X), "gloree": partial(model.hidden_states, X)}
        # in turns and as often, so that other work on the machine hits both alike
        loop, blocks = map(min, alternately(calls, arguments.repeats).values())
        expected, got = (call() for call in calls.values())
        difference = np.abs(got - expected).max() / np.abs(expected).max()
        name = f"{activation}, |U| = {radius:g}"
        row = {"network": name, "loop": loop, "gloree": blocks, "ratio": loop / blocks}
        rows.append(row | {"difference": float(difference)})
    out.table(
        "long",
        f"One record of {arguments.steps:,} steps, {N_HIDDEN} units",
        [
            Column("network", "{network}"),
            Column("loop", "{loop:.2f}", "s"),
            Column("gloree", "{gloree:.3f}", "s"),
            Column("ratio", "{ratio:.1f}"),
            Column("difference", "{difference:.1e}"),
        ],
        rows,
    )
    model = IORNN(
        0.2 * rng.standard_normal((10, 20)),
        0.02 * rng.standard_normal((10, 10)),
        rng.standard_normal((10, 10)),
    )
    short = rng.standard_normal((arguments.steps // 10, 10, 20))
    flat = short.reshape(-1, 20)
    states = np.empty((flat.shape[0], 10))

    def products() -> None:
        multiply_rows(flat, model.input_weights.T, out=states)
        for _ in range(2):
            multiply_rows(states, model.output_weights)

    floor, _ = best_time(products, arguments.repeats)
    predict, _ = best_time(lambda: model.predict(short), arguments.repeats)
    what = f"{short.shape[0]:,} sequences of 10 steps, 20 inputs, 10 units, 10 outputs"
    out.figure("predict", predict, "{value:.3f}", f"{what}: seconds of predict")
    out.figure("products", floor, "{value:.3f}", f"{what}: seconds of its matrix products alone")
    quick = [row for row in rows if row["network"].startswith(("quadratic", "tanh"))]
    worst = max(row["difference"] for row in rows)
    out.figure("worst_difference", worst, "{value:.0e}", "largest relative difference")
    out.target("times_met", min(row["ratio"] for row in quick) >= 10, "10 times the loop")
    out.target("equal_met", worst < 1e-12, "equal to 1e-12")
    out.close()


if __name__ == "__main__":
    main()
