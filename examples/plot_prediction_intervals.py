r"""
Outputs in unlike units, and how sure predictions are
=====================================================

Two outputs of one system, one in numbers a hundred times those of the other, with noise that is
common to both. A fit weighs outputs by the covariance of their residuals, so that neither the units
nor the correlation matter (:ref:`theory-output-weighting`), and its predictions have standard
deviations: ``predict(X, return_std=True)``.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import ScaleWarning, delta_method

# %%
# Data
# ----
# 150 sequences of 20 steps; the noise is as large as a third of the outputs, with correlation 0.8.
rng = np.random.default_rng(0)
law = datasets.make_chain(4, random_state=rng)
truth = datasets.random_rnn(4, 2, 2, recurrence_norm=0.2, random_state=rng)
units = np.array([1.0, 100.0])
truth = truth.replace(output_weights=truth.output_weights * units)
X = law.sample(150, 20, random_state=rng)
clean = truth.predict(X)
root = np.linalg.cholesky(np.array([[1.0, 0.8], [0.8, 1.0]]))
size = 0.3 * clean.std(axis=(0, 1))
Y = clean + rng.standard_normal(clean.shape) @ root.T * size

# %%
# Fits
# ----
# Least squares of the numbers as they come is told by its warning; the default is not.
fits = {}
for weights in ("equal", "residuals"):
    fits[weights] = SpectralRNNRegressor(2, output_weights=weights, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleWarning)
        fits[weights].fit(X, Y)
errors = {
    name: metrics.weight_errors(fit.model_, truth)["input_weights"] for name, fit in fits.items()
}
for name, error in errors.items():
    print(f"{name:10} error of A1 {error:.4f}; {fits[name].report_.output_weighting}")

# %%
# Predictions
# -----------
# Bands of 95 % hold new measurements; the narrow ones hold what is expected. Long after the start
# they are about as wide as the noise: the weights are known well.
fit = fits["residuals"]
new = law.sample(200, 60, random_state=rng)
expected = truth.predict(new)
measured = expected + rng.standard_normal(expected.shape) @ root.T * size
lower, upper = fit.prediction_intervals(new)
narrow = fit.prediction_intervals(new, noise=False)
inside = np.mean((lower < measured) & (measured < upper))
print(f"{inside:.1%} of the new measurements are inside")

figure, axes = plt.subplots(2, 1, figsize=(9, 5.5), sharex=True, layout="constrained")
time = np.arange(60)
for output, ax in enumerate(axes):
    for (low, high), alpha, label in (
        ((lower, upper), 0.2, "95 % of new measurements"),
        (narrow, 0.8, "95 % band of what is expected"),
    ):
        ax.fill_between(
            time, low[0, :, output], high[0, :, output], color="#0072B2", alpha=alpha, label=label
        )
    ax.plot(time, measured[0, :, output], ".", color="black", ms=4, label="measured")
    ax.set(ylabel=f"output {output}")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
axes[1].set(xlabel="step")

# %%
# Functions of weights
# --------------------
# Anything that depends on weights has a standard error: how fast the states forget, say.


def radius(weights):
    """Spectral radius of U."""
    return np.abs(np.linalg.eigvals(weights["recurrent_weights"])).max()


value, error = delta_method(radius, fit.report_)
true_radius = radius({"recurrent_weights": truth.recurrent_weights})
print(f"spectral radius {value:.3f} +- {error:.3f}, true {true_radius:.3f}")
plt.show()

# %%
# What the text says, checked.
assert errors["residuals"] < 0.7 * errors["equal"]
assert abs(inside - 0.95) < 0.01
assert abs(value - true_radius) < 4 * error
