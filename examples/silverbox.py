"""A model of the Silverbox benchmark, from its CSV file: an oscillator with a cubic spring.

    python silverbox.py PATH [--seconds 10] [--unit tanh] [--picture fit.png]

The file (T. Wigren, J. Schoukens, 2013) is found at https://www.nonlinearbenchmark.org; columns V1
(input) and V2 (output). Rows 40,650-127,399 are a multisine: its first 75 % train, the rest tests.
Rows 100-40,574 are noise of growing amplitude, the "arrow": its tip is beyond the amplitudes of the
training rows, so that it tests how a model extrapolates.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from gloree import SystemIdentifier, datasets
from gloree.metrics import root_mean_square_error

ARROW = slice(100, 40_575)
MULTISINE = slice(40_650, 127_400)
CUT = MULTISINE.start + (MULTISINE.stop - MULTISINE.start) * 3 // 4


def main() -> None:
    arguments = read_arguments()
    try:
        table = datasets.read_csv(arguments.path)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    u, y = table.X, table.Y
    if len(u) < MULTISINE.stop:
        raise SystemExit(f"{arguments.path} has {len(u):,} rows, {MULTISINE.stop:,} are needed")
    train = slice(MULTISINE.start, CUT)

    begin = time.perf_counter()
    est = SystemIdentifier(
        n_linear=arguments.linear,
        n_nonlinear=arguments.units,
        unit=arguments.unit,
        max_seconds=arguments.seconds,
    ).fit(u[train], y[train])
    seconds = time.perf_counter() - begin
    print(est.report_)

    # the free run starts at the first row of the file: no part starts from a wrong state
    parts = {"train": train, "multisine": slice(CUT, MULTISINE.stop), "arrow": ARROW}
    print(f"\n{'free run, RMSE in mV':<24}" + "".join(f"{name:>11}" for name in parts))
    left = {}
    for name, model in (
        ("linear model", est.linear_model_),
        ("moments alone", est.moments_model_),
        ("refined", est.model_),
    ):
        simulated = model.predict(u, on_explosion="nan")
        left[name] = y - simulated
        errors = [
            1e3 * float(root_mean_square_error(y[p], simulated[p])[0]) for p in parts.values()
        ]
        print(f"{name:<24}" + "".join(f"{error:>11.3f}" for error in errors))
    print(f"fit: {seconds:.1f} s")
    if arguments.picture is not None:
        draw(arguments.picture, y, left)
        print(f"picture: {arguments.picture}")


def draw(path: Path, y: np.ndarray, left: dict[str, np.ndarray]) -> None:
    """What the models leave of the arrow, over the output."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 5), layout="constrained", sharex=True)
    axes[0].plot(y[ARROW], color="black", linewidth=0.4)
    axes[0].set(ylabel="output (V)", title="arrow")
    for name in ("linear model", "refined"):
        axes[1].plot(1e3 * left[name][ARROW], linewidth=0.4, label=name)
    axes[1].set(xlabel="sample", ylabel="error (mV)")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="CSV file of the benchmark")
    parser.add_argument("--seconds", type=float, default=10, help="for the fit (default 10)")
    parser.add_argument("--linear", type=int, help="linear states (default: chosen)")
    parser.add_argument("--units", type=int, default=2, help="nonlinear units (default 2)")
    parser.add_argument(
        "--unit", default="cubic", help="activation of these: cubic (default), polynomial, tanh, .."
    )
    parser.add_argument("--picture", type=Path, help="file for a picture of the errors")
    return parser.parse_args()


if __name__ == "__main__":
    main()
