"""A model of the Wiener-Hammerstein benchmark of 2009, from its CSV file.

    python wiener_hammerstein.py PATH [--seconds 60] [--linear 6 --units 5] [--picture fit.png]

The file (J. Schoukens, J. Suykens, L. Ljung, SYSID 2009) is found at
https://www.nonlinearbenchmark.org: an electronic circuit of a filter, a diode network and a second
filter; columns input voltage and output voltage. Rows 5,200-105,199 train, rows 105,200-183,999
test, in free run (only the input is given, from rest), without the first 50 test samples.
`--start` and `--samples` train on another stretch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from gloree import SystemIdentifier, datasets
from gloree.metrics import root_mean_square_error

START, SAMPLES = 5_200, 100_000
TEST = slice(105_200, 184_000)
SKIP = 50


def main() -> None:
    arguments = read_arguments()
    try:
        table = datasets.read_csv(arguments.path)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    train = slice(arguments.start, arguments.start + arguments.samples)
    if table.X.shape[0] < TEST.stop or not 0 <= train.start < train.stop <= TEST.start:
        raise SystemExit(
            f"{arguments.path} has {table.X.shape[0]:,} rows; {TEST.stop:,} are needed, and the "
            f"training rows end at row {TEST.start:,} at the latest"
        )
    u, y = table.X[train], table.Y[train]
    u_test, y_test = table.X[TEST], table.Y[TEST]
    print(f"rows {train.start:,} to {train.stop - 1:,} train, {TEST.start:,} to {TEST.stop - 1:,}")

    begin = time.perf_counter()
    est = SystemIdentifier(
        arguments.linear, arguments.units, max_seconds=arguments.seconds, verbose=arguments.verbose
    ).fit(u, y)
    seconds = time.perf_counter() - begin
    print(est.report_)

    # moments alone are known after the first two stages
    stages = {stage.name: stage.seconds for stage in est.report_.stages}
    early = stages["linear model"] + stages.get("nonlinearity", 0.0)
    print(f"\n{'free run, RMSE in mV':<24}{'train':>9}{'test':>9}{'seconds':>10}")
    for name, model, spent in (
        ("linear model", est.linear_model_, stages["linear model"] + stages["linear refinement"]),
        ("moments alone", est.moments_model_, early),
        ("refined", est.model_, seconds),
    ):
        errors = [
            1e3 * float(root_mean_square_error(target, model.predict(source), skip=SKIP)[0])
            for source, target in ((u, y), (u_test, y_test))
        ]
        print(f"{name:<24}{errors[0]:>9.3f}{errors[1]:>9.3f}{spent:>10.1f}")
    begin = time.perf_counter()
    simulated = est.simulate(u_test)
    speed = len(u_test) / (time.perf_counter() - begin)
    print(f"simulation: {speed:,.0f} samples a second")
    if arguments.picture is not None:
        draw(arguments.picture, est, u_test, y_test, simulated)
        print(f"picture: {arguments.picture}")


def draw(
    path: Path, est: SystemIdentifier, u: np.ndarray, y: np.ndarray, simulated: np.ndarray
) -> None:
    """Spectra of the output and of what the models leave of it, and the poles."""
    import matplotlib.pyplot as plt

    from gloree import plotting

    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=(1.6, 1)
    )
    left = {
        "linear": y - est.linear_model_.predict(u),
        "moments alone": y - est.moments_model_.predict(u),
        "refined": y - simulated,
    }
    # sampled at 51.2 kHz
    plotting.plot_spectrum(y, left, sampling_rate=51_200, skip=SKIP, ax=axes[0])
    plotting.plot_poles(est.report_.poles, ax=axes[1])
    figure.savefig(path, dpi=150)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="CSV file of the benchmark")
    parser.add_argument("--seconds", type=float, default=60, help="for the fit (default 60)")
    parser.add_argument("--linear", type=int, help="linear states (default: chosen)")
    parser.add_argument("--units", type=int, help="nonlinear units (default: chosen)")
    parser.add_argument(
        "--start", type=int, default=START, metavar="ROW", help="first training row"
    )
    parser.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help="training rows")
    parser.add_argument("--picture", type=Path, help="file for a picture of spectra and poles")
    parser.add_argument("--verbose", type=int, default=0, help="1: stages, 2: passes too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
