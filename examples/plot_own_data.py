r"""
A file of your own
==================

Fit a nonlinear model to a measured input and output, and see what it gains over a linear one.
The file is a CSV, read by ``datasets.read_csv`` (with pandas), which finds out how it is written:

.. code-block:: bash

   python examples/plot_own_data.py my.csv
   python examples/plot_own_data.py my.csv --inputs u1,u2 --outputs y --lags 60 --units 8
   python examples/plot_own_data.py my.csv --train 5000:105000 --test 105000:180000 --skip 50

The model reads a window of the last inputs, has quadratic units beside a linear path, and comes
from moments alone: ``lags`` inputs, ``recurrence=None``, ``refine=None``. It never sees a measured
output while it predicts. Without a file, a small one is made: a linear filter, a static
nonlinearity, and another linear filter, driven by noise.
"""

import argparse
import csv
import sys
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import butter, lfilter
from sklearn.linear_model import Ridge

from gloree import SpectralRNNRegressor, datasets, metrics, plotting
from gloree.decomposition import degrees_of_freedom
from gloree.diagnostics import RotationWarning
from gloree.models import lag_windows

# %%
# Arguments
# ---------


def names(text):
    """Column names separated by commas."""
    return [name.strip() for name in text.split(",")]


def rows(text):
    """Rows FIRST:END, counted from 0 below the header, END not included."""
    first, _, end = text.partition(":")
    return slice(int(first) if first else None, int(end) if end else None)


parser = argparse.ArgumentParser(description="Fit a nonlinear model to a CSV file.")
parser.add_argument("path", nargs="?", metavar="PATH", help="CSV file")
parser.add_argument("--inputs", type=names, help="input columns, as a,b (default: the first)")
parser.add_argument("--outputs", type=names, help="output columns (default: the second)")
parser.add_argument("--train", type=rows, metavar="A:B", help="rows to fit (default: first 2/3)")
parser.add_argument("--test", type=rows, metavar="A:B", help="rows to test (default: the rest)")
parser.add_argument("--lags", type=int, help="steps of a window (default: 80 or fewer)")
parser.add_argument("--units", type=int, help="quadratic units (default: 12 or fewer)")
parser.add_argument("--skip", type=int, help="first test steps left out (default: lags - 1)")
arguments = parser.parse_args()

# %%
# A demonstration file
# --------------------


def write_demonstration(path, n_rows=8000):
    """Write a simulated record: filter, nonlinearity, filter; a little noise on the output."""
    rng = np.random.default_rng(0)
    u = lfilter(*butter(2, 0.5), rng.standard_normal(n_rows))
    v = lfilter(*butter(2, 0.2), u)
    w = v + 0.5 * np.where(v > 0, v, 0.4 * v) ** 2
    y = lfilter(*butter(1, 0.3), w) + 0.002 * rng.standard_normal(n_rows)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["u", "y"])
        writer.writerows([f"{a:.6f}", f"{b:.6f}"] for a, b in zip(u, y, strict=True))


# %%
# Read
# ----
try:
    if arguments.path is None:
        with tempfile.TemporaryDirectory() as folder:
            write_demonstration(Path(folder, "demonstration.csv"))
            table = datasets.read_csv(Path(folder, "demonstration.csv"))
    else:
        table = datasets.read_csv(
            arguments.path, inputs=arguments.inputs, outputs=arguments.outputs
        )
except (ImportError, OSError, ValueError) as error:
    raise SystemExit(str(error)) from None

n_rows, n_inputs = table.X.shape
n_outputs = table.Y.shape[1]
cut = 2 * n_rows // 3
train = arguments.train or slice(0, cut)
test = arguments.test or slice(cut if arguments.train is None else train.stop, None)
X_train, Y_train, X_test, Y_test = table.X[train], table.Y[train], table.X[test], table.Y[test]
print(
    f"inputs {', '.join(table.inputs)}; outputs {', '.join(table.outputs)}; {n_rows:,} rows,",
    end=" ",
)
print(f"{len(X_train):,} to fit and {len(X_test):,} to test")
if min(len(X_train), len(X_test)) < 30:
    raise SystemExit("too few rows: at least 30 are needed on either side, and better thousands")

# %%
# Sizes
# -----
# Ten rows for each weight are the least that makes sense. Where the record is too short for the
# usual 12 units on 80 lags, there are fewer of both.
lags, units = arguments.lags or 80, arguments.units or 12


def n_weights():
    """Weights of the network: units, linear path, output weights."""
    return (units + n_outputs) * lags * n_inputs + (units + 1) * n_outputs


while n_weights() * 10 > len(X_train) * n_outputs:
    if arguments.units is None and units > max(4, lags // 10):
        units -= 1
    elif arguments.lags is None and lags > 2:
        lags = max(2, int(0.8 * lags))
    elif arguments.units is None and units > 1:
        units -= 1
    else:
        break
if arguments.units is None:
    units = min(units, lags * n_inputs)
    while (
        n_outputs > 1 and units > 1 and degrees_of_freedom(n_outputs, lags * n_inputs, units, 2) < 1
    ):
        units -= 1
if (lags, units) != (arguments.lags or 80, arguments.units or 12):
    print(f"note: {len(X_train):,} rows are few for 12 units on 80 lags; taking", end=" ")
    print(f"{units} units on {lags} lags")
skip = min(lags - 1 if arguments.skip is None else arguments.skip, len(X_test) - 1)

# %%
# Fit
# ---
# With one output the quadratic units are determined only up to a rotation. Predictions do not
# depend on it, so this one warning is left out; all others are shown.
started = time.perf_counter()
estimator = SpectralRNNRegressor(
    n_hidden=units, lags=lags, direct=True, recurrence=None, refine=None, random_state=0
)
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RotationWarning)
        estimator.fit(X_train, Y_train)
except ValueError as error:
    raise SystemExit(f"no fit: {error}") from None
fitted = time.perf_counter()
predictions = estimator.predict(X_test)
predicted = time.perf_counter()

# %%
# The baseline is a ridge regression on the very same windows: a finite impulse response.
baseline = Ridge(alpha=1e-6 * len(X_train) * float(np.var(X_train)))
baseline.fit(lag_windows(X_train, np.arange(len(X_train)), lags)[lags - 1 :], Y_train[lags - 1 :])
linear = baseline.predict(lag_windows(X_test, np.arange(len(X_test)), lags)).reshape(Y_test.shape)
compared = time.perf_counter()

# %%
# Result
# ------
# Root mean square errors over the test rows, in the units of the file.
rmse = metrics.root_mean_square_error(Y_test, predictions, skip=skip)
rmse_linear = metrics.root_mean_square_error(Y_test, linear, skip=skip)
spread = Y_test[skip:].std(axis=0)
small = rmse.max() < 0.1
print(f"\n{'test RMSE':28}" + "".join(f"{name:>18}" for name in table.outputs), end="")
print("".join(f"{name + ' x 1e3':>18}" for name in table.outputs) if small else "")
for label, values in (
    ("output itself (deviation)", spread),
    (f"linear, {lags} lags", rmse_linear),
    (f"{units} quadratic units, {lags} lags", rmse),
):
    print(f"{label:28}" + "".join(f"{value:18.5g}" for value in values), end="")
    print("".join(f"{1e3 * value:18.4g}" for value in values) if small else "")
print(f"seconds: fit {fitted - started:.2f}, predict {predicted - fitted:.2f},", end=" ")
print(f"linear baseline {compared - predicted:.2f}")

# %%
# A stretch of the test rows, and what is left of the output by both models. The linear model
# leaves a curve; the curve is what the quadratic units add.
figure = plt.figure(figsize=(10, 6.8), layout="constrained")
panels = figure.subplot_mosaic([["record", "record"], ["linear", "quadratic"]])
stretch = slice(skip, min(skip + 300, len(Y_test)))
name = table.outputs[0]
plotting.plot_prediction(Y_test, predictions, steps=stretch, name=name, ax=panels["record"])
for ax, values, title in (
    (panels["linear"], linear, f"linear, RMS {rmse_linear[0]:.3g}"),
    (panels["quadratic"], predictions, f"{units} quadratic units, RMS {rmse[0]:.3g}"),
):
    plotting.plot_residuals(Y_test, values, skip=skip, name=name, ax=ax)
    ax.set_title(title)
both = panels["linear"], panels["quadratic"]
limit = max(np.abs(ax.get_ylim()).max() for ax in both)
for ax in both:
    ax.set_ylim(-limit, limit)
if "sphinx_gallery" not in sys.modules:
    figure.savefig("own_data.png", dpi=100)
    print("figure saved as own_data.png")

# %%
# Check of the claims.
if not np.isfinite(predictions).all():
    raise SystemExit("predictions are not finite")
if arguments.path is None and not rmse[0] < 0.6 * rmse_linear[0]:
    raise SystemExit(f"RMSE {rmse[0]:.4f}, of the linear model {rmse_linear[0]:.4f}")
