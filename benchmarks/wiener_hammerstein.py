"""Window recipe on the Wiener-Hammerstein benchmark of 2009: time and simulation error, one core.

    python benchmarks/wiener_hammerstein.py --wiener-hammerstein WienerHammerBenchMark.csv

The file (J. Schoukens, J. Suykens, L. Ljung, SYSID 2009) is not part of this project; it is found
at https://www.nonlinearbenchmark.org. Columns: input voltage, output voltage. Rows 5,200-105,199
train, rows 105,200-183,999 test, in free-run simulation (only the input is given); the first 50
test samples are not counted.

Measured: moments alone, without gradient training, on windows of 80 lags with 12 quadratic units
and a direct linear path; beside it the ridge regression on the same windows (a linear finite
impulse response), in turns in the same process, each on one thread.

Acceptance: below 25 mV in a few seconds on one core, the linear baseline being at about 43 mV.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from _common import Column, Output, median, option_parser, timed_fit
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Engine
from gloree.metrics import root_mean_square_error
from gloree.models import lag_windows

TRAIN = slice(5_200, 105_200)
TEST = slice(105_200, 184_000)
SKIP = 50
LAGS = 80
N_HIDDEN = 12
RIDGE = 1e-3


def windows(X: np.ndarray) -> np.ndarray:
    """Columns [1, x_t, .., x_{t - LAGS + 1}], zero before the start."""
    lagged = lag_windows(X, np.arange(X.shape[0]), LAGS)
    return np.column_stack((np.ones(X.shape[0]), lagged))


def fit_linear(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Ridge regression, relative to the mean variance of the windows."""
    phi = windows(X)[LAGS - 1 :]
    gram = phi.T @ phi
    penalty = RIDGE * np.trace(gram[1:, 1:]) / LAGS * np.eye(LAGS + 1)
    penalty[0, 0] = 0.0
    return np.linalg.solve(gram + penalty, phi.T @ Y[LAGS - 1 :])


def main() -> None:
    parser = option_parser(__doc__, seeds=5)
    parser.add_argument("--wiener-hammerstein", type=Path, metavar="PATH", help="its CSV file")
    arguments = parser.parse_args()
    if arguments.wiener_hammerstein is None:
        print(
            "wiener_hammerstein.py needs --wiener-hammerstein with the benchmark's CSV file, which "
            "is not distributed with gloree: see https://www.nonlinearbenchmark.org"
        )
        return
    n_repeats = arguments.seeds or (2 if arguments.quick else 5)
    out = Output(arguments)
    table = datasets.read_csv(arguments.wiener_hammerstein)
    X, Y = table.X[TRAIN], table.Y[TRAIN]
    X_test, Y_test = table.X[TEST], table.Y[TEST]
    rows = []
    with threadpool_limits(1):
        for seed in tqdm(range(n_repeats), desc="Wiener-Hammerstein"):
            fit = SpectralRNNRegressor(
                n_hidden=N_HIDDEN,
                lags=LAGS,
                direct=True,
                recurrence=None,
                refine=None,
                random_state=seed,
                engine=Engine("serial"),
            )
            seconds, _ = timed_fit(fit, X, Y)
            predicted = fit.predict(X_test)
            begin = time.perf_counter()
            slopes = fit_linear(X, Y)
            linear_seconds = time.perf_counter() - begin
            linear = windows(X_test) @ slopes
            rows.append(
                {
                    "seed": seed,
                    "seconds": seconds,
                    "mV": 1e3 * float(root_mean_square_error(Y_test, predicted, skip=SKIP)[0]),
                    "mV_full_windows": 1e3
                    * float(root_mean_square_error(Y_test, predicted, skip=LAGS)[0]),
                    "linear_seconds": linear_seconds,
                    "linear_mV": 1e3 * float(root_mean_square_error(Y_test, linear, skip=SKIP)[0]),
                    "linear_mV_full_windows": 1e3
                    * float(root_mean_square_error(Y_test, linear, skip=LAGS)[0]),
                }
            )
    lines = [
        {
            "model": label,
            "error": median([row[prefix + "mV"] for row in rows]),
            "worst": max(row[prefix + "mV"] for row in rows),
            "full": median([row[prefix + "mV_full_windows"] for row in rows]),
            "seconds": median([row[prefix + "seconds"] for row in rows]),
            "longest": max(row[prefix + "seconds"] for row in rows),
        }
        for label, prefix in (
            (f"{N_HIDDEN} quadratic units, moments alone", ""),
            ("linear, ridge", "linear_"),
        )
    ]
    out.table(
        "errors",
        f"Test error of free-run simulation after {SKIP} samples (after {LAGS}), medians over "
        f"{n_repeats} runs on one thread",
        [
            Column("model", "{model}"),
            Column("RMSE", "{error:.2f}", "mV"),
            Column("worst", "{worst:.2f}", "mV"),
            Column(f"after {LAGS}", "{full:.2f}", "mV"),
            Column("fit", "{seconds:.2f}", "s"),
            Column("longest", "{longest:.2f}", "s"),
        ],
        lines,
    )
    for name, line in zip(("moments", "linear"), lines, strict=True):
        out.figure(name, line["error"], "{value:.1f}", f"{name}: RMSE in mV")
        out.figure(f"{name}_seconds", line["seconds"], "{value:.1f}", f"{name}: seconds")
    out.target("met", lines[0]["error"] < 25, "below 25 mV")
    out.close()


if __name__ == "__main__":
    main()
