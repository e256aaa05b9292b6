"""Fits and passes on arrays, on PyTorch tensors, and on a GPU if there is one: time, equality.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --sequences 100000 --steps 20 --sizes 50 20 10
    python benchmarks/gpu.py --sequences 1 --steps 1000000 --batch-size 1048576
    python benchmarks/gpu.py --quick

One data set, three places: NumPy arrays (all cores, a thread for each batch), tensors in the memory
of the processor (one batch at a time, PyTorch's threads), and tensors on the GPU, where the data
lie before the clock starts. After a first run of everything, which does not count, runs alternate;
medians are printed, and how many times as long NumPy takes. Sums come back to the host at the end
of a pass, so its time holds all that the device does. The passes see all the data, but for J^T J,
which takes a subsample as a fit does.

Also printed: the largest difference of the fitted weights to those of NumPy, over the largest
weight.

Acceptance: differences below 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _common import Column, Output, alternately, median, option_parser

from gloree import SpectralRNNRegressor, datasets
from gloree.chains import GaussianVAR, lag_moments
from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.moments import RegressionFeatures, Whitening, regression_sums
from gloree.recurrence import linearised_sums
from gloree.refinement import Layout, gradient_sums, hessian_pass, square_sums
from gloree.sequences import as_sequences

SEGMENT, WASHOUT = 250, 50
DEVICE_BATCH_ROWS = 2**18
LIMIT = 1e-8


def places(X: np.ndarray, Y: np.ndarray, wanted: list[str] | None) -> dict[str, tuple[Any, Any]]:
    """The data, wherever they can be."""
    found: dict[str, tuple[Any, Any]] = {"numpy": (X, Y)}
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices if wanted is None else wanted:
        found[f"torch, {device}"] = tuple(torch.from_numpy(v).to(device) for v in (X, Y))
    return found


def passes(
    model: Network, X: Any, Y: Any, chain: GaussianVAR, batch_size: int | None
) -> dict[str, Callable[[], Any]]:
    """The main passes of a fit over the data in one place."""
    data = as_sequences(X, Y, keep_tensors=True)
    there = isinstance(data.X, torch.Tensor) and data.X.device.type != "cpu"
    source = Source(
        data,
        batch_size=batch_size or (DEVICE_BATCH_ROWS if there else 2**14),
        segment=SEGMENT if data.longest > 2 * SEGMENT else None,
        before=WASHOUT,
        after=1,
    )
    engine = Engine()
    mean, covariance = chain.mean, chain.stationary_covariance
    features = RegressionFeatures(Whitening.from_covariance(mean, covariance), 2, chain)
    layout = Layout(model.n_inputs, model.n_hidden, model.n_outputs)

    def run(function: Callable[..., Any]) -> Any:
        return engine.run(function, source)

    current = run(partial(gradient_sums, model=model, layout=layout))
    return {
        "covariances of neighbouring steps": lambda: run(partial(lag_moments, order=1)),
        "first moment (union)": lambda: run(partial(regression_sums, features=features)),
        "squared error": lambda: run(partial(square_sums, model=model)),
        "recurrence, least squares": lambda: run(partial(linearised_sums, model=model)),
        "gradient": lambda: run(partial(gradient_sums, model=model, layout=layout, n_largest=1000)),
        "J^T J": lambda: hessian_pass(model, layout, engine, source, current),
    }


def others(where: dict[str, Any]) -> list[str]:
    """Places but NumPy."""
    return [name for name in where if name != "numpy"]


def difference(model: Network, other: Network) -> float:
    """Largest difference of the weights, over the largest of them."""
    theirs = other.arrays()
    known = {name: values for name, values in model.arrays().items() if values is not None}
    size = max(float(np.abs(values).max()) for values in known.values())
    return max(float(np.abs(values - theirs[name]).max()) for name, values in known.items()) / size


def main() -> None:
    parser = option_parser(__doc__, seeds=1)
    parser.add_argument("--sequences", type=int, default=20_000, metavar="N")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="of each sequence")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=3,
        default=(20, 10, 10),
        metavar=("INPUTS", "HIDDEN", "OUTPUTS"),
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each (5)")
    parser.add_argument("--batch-size", type=int, metavar="ROWS", help="by default a fit's choice")
    parser.add_argument(
        "--devices", nargs="+", metavar="NAME", help="devices of PyTorch (default: all there are)"
    )
    arguments = parser.parse_args()
    n_sequences, repeats = arguments.sequences, arguments.repeats
    if arguments.quick:
        n_sequences, repeats = min(n_sequences, 1000), 2
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    out = Output(arguments, torch=torch.__version__, gpu=device)
    for seed in range(arguments.seeds or 1):
        X, Y, _, _ = datasets.make_rnn(
            n_sequences, arguments.steps, *arguments.sizes, noise=0.1, random_state=seed
        )
        where = places(X, Y, arguments.devices)
        models: dict[str, Network] = {}

        def fit(name: str, data: tuple[Any, Any], models=models, seed=seed) -> None:
            estimator = SpectralRNNRegressor(
                arguments.sizes[1], batch_size=arguments.batch_size, random_state=seed
            )
            models[name] = estimator.fit(*data).model_

        calls: dict[str, dict[str, Callable[[], Any]]] = {
            "default fit": {name: partial(fit, name, data) for name, data in where.items()}
        }
        for call in calls["default fit"].values():
            call()
        chain = GaussianVAR.fit(X)
        for name, data in where.items():
            own = passes(models["numpy"], *data, chain, arguments.batch_size)
            for label, call in own.items():
                call()
                calls.setdefault(label, {})[name] = call
        table = []
        for label, each in calls.items():
            seconds = {name: median(s) for name, s in alternately(each, repeats).items()}
            row: dict[str, Any] = {"what": label}
            row |= {name: 1000 * seconds[name] for name in where}
            row |= {f"{name} ratio": seconds["numpy"] / seconds[name] for name in others(where)}
            table.append(row)
        out.table(
            f"times_seed{seed}",
            f"Milliseconds, {n_sequences:,} sequences of {arguments.steps:,} steps, "
            f"({','.join(map(str, arguments.sizes))}), seed {seed}",
            [
                Column("", "{what}"),
                *(Column(name, f"{{{name}:.1f}}", "ms") for name in where),
                *(Column(f"numpy / {name}", f"{{{name} ratio:.2f}}") for name in others(where)),
            ],
            table,
        )
        off = {name: difference(models["numpy"], models[name]) for name in others(where)}
        out.table(
            f"differences_seed{seed}",
            "Largest difference of the weights to those of NumPy",
            [Column("", "{place}"), Column("difference", "{difference:2s}")],
            [{"place": name, "difference": value} for name, value in off.items()],
        )
        out.target(f"met_seed{seed}", max(off.values()) < LIMIT, f"differences below {LIMIT:g}")
    out.close()


if __name__ == "__main__":
    main()
