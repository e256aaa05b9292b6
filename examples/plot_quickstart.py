r"""
Quickstart: weights from moments
================================

Simulate a small recurrent network with known weights, recover the weights from the data, and
compare: with each other, and with the standard errors that the fit predicts.

The network has quadratic units, :math:`h_t = (A_1 x_t + U h_{t-1})^2`, outputs
:math:`y_t = A_2^\mathsf{T} h_t` plus noise, and inputs from a Gaussian autoregression.
"""

import sys

import matplotlib.pyplot as plt

from gloree import SpectralRNNRegressor, datasets, metrics, plotting

# %%
# Data
# ----
# 2,000 sequences of 20 steps; 6 inputs, 4 hidden units, 4 outputs. ``truth`` holds the weights that
# made the data. The last 200 sequences are kept for testing.
X, Y, truth, chain = datasets.make_rnn(
    2200, 20, n_inputs=6, n_hidden=4, n_outputs=4, recurrence_norm=0.2, noise=0.3, random_state=0
)
X_train, Y_train, X_test, Y_test = X[:2000], Y[:2000], X[2000:], Y[2000:]

# %%
# Fit
# ---
# Once with the moments alone, and once with the Gauss-Newton step that follows them by default.
# There is no learning rate, no initial guess and no number of epochs.
moments_only = SpectralRNNRegressor(n_hidden=4, refine=None, random_state=0)
moments_only.fit(X_train, Y_train)
refined = SpectralRNNRegressor(n_hidden=4, random_state=0)
refined.fit(X_train, Y_train)
report = refined.report_
print(report)

# %%
# The weights
# -----------
# Weights are determined only up to the order and the signs of the hidden units;
# `metrics.weight_errors` takes the best match. The last column is what the standard errors of the
# fit imply, computed without knowing the truth.
before = metrics.weight_errors(moments_only.model_, truth)
after = metrics.weight_errors(refined.model_, truth)
predicted = report.predicted_errors

print(f"{'relative error':20}{'moments alone':>15}{'refined':>12}{'predicted':>12}")
for name in ("input_weights", "output_weights", "recurrent_weights"):
    print(f"{name:20}{before[name]:15.5f}{after[name]:12.5f}{predicted[name]:12.5f}")
r_squared = refined.score(X_test, Y_test)
noise = metrics.root_mean_square_error(Y_test, refined.predict(X_test)).mean()
print(f"on new sequences: R^2 {r_squared:.4f}, residual {noise:.4f} (the noise is 0.3)")

# %%
# In pictures: all weights, their errors in units of their standard errors, and one new sequence.
figure = plt.figure(figsize=(9, 6.6), layout="constrained")
panels = figure.subplot_mosaic(
    [["weights", "errors"], ["sequence", "sequence"]], width_ratios=(1, 1.5), height_ratios=(1.3, 1)
)
errors = report.standard_errors
plotting.plot_weights(refined.model_, truth, standard_errors=errors, ax=panels["weights"])
plotting.plot_weight_errors(refined.model_, truth, errors, ax=panels["errors"])
plotting.plot_prediction(Y_test, refined.predict(X_test), sequence=3, ax=panels["sequence"])
if "sphinx_gallery" not in sys.modules:
    figure.savefig("quickstart.png", dpi=110)
    print("figure saved as quickstart.png")

# %%
# Check of the claims.
for name in ("input_weights", "output_weights", "recurrent_weights"):
    if not after[name] < 2 * predicted[name]:
        raise SystemExit(f"{name}: error {after[name]:.2g}, predicted {predicted[name]:.2g}")
if not (r_squared > 0.9 and 0.29 < noise < 0.31):
    raise SystemExit(f"R^2 {r_squared:.4f}, residual {noise:.4f}")
