r"""
A bidirectional network
=======================

Some outputs depend on what comes next as well as on what came before: a tag of a word on the words
around it, a smoothed signal on both sides of a step. A bidirectional network has units that run
forward, :math:`h_t = (A_1 x_t + U h_{t-1})^2`, and units that run backward,
:math:`w_t = (B_1 x_t + V w_{t+1})^2`, and outputs that see both,
:math:`y_t = A_2^\mathsf{T} [h_t; w_t]` plus noise.

All units come out of the first moment together. Which way each of them runs is then read off a
regression on the states of the step before and of the step after, so only their total is given.
"""

import matplotlib.pyplot as plt
import numpy as np

from gloree import SpectralRNNRegressor, datasets, metrics, plotting

# %%
# Data
# ----
# 4,000 sequences of 10 steps; 12 inputs, 4 forward and 4 backward units, 6 outputs. ``truth`` holds
# the weights that made the data. 500 further sequences are kept for testing.
X, Y, truth, chain = datasets.make_rnn(
    4500,
    10,
    n_inputs=12,
    n_hidden=8,
    n_outputs=6,
    recurrence_norm=0.15,
    noise=0.3,
    bidirectional=True,
    random_state=0,
)
X_train, Y_train, X_test, Y_test = X[:4000], Y[:4000], X[4000:], Y[4000:]
print(truth)

# %%
# Fit
# ---
est = SpectralRNNRegressor(8, bidirectional=True, random_state=0).fit(X_train, Y_train)
report = est.report_
print(report)

# %%
# Directions
# ----------
# The evidence for each unit's direction is a difference of chi-square statistics: 20 is beyond
# doubt, below 5 is a guess. Right: the weights that were found, against the true ones, after the
# units have been matched (within their directions; their order and signs are free).
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=(1.3, 1))
plotting.plot_directions(report.directions, ax=axes[0])
plotting.plot_weights(est.model_, truth, standard_errors=report.standard_errors, ax=axes[1])

# %%
# Errors of the weights, beside those that the standard errors of the fit imply.
matrices = plotting.DIRECTED_MATRICES
found = metrics.weight_errors(est.model_, truth)
print(f"{'relative error':28}{'found':>10}{'predicted':>12}")
for name in matrices:
    print(f"{name:28}{found[name]:10.5f}{report.predicted_errors[name]:12.5f}")

# %%
# Forward only
# ------------
# A network of one direction, with as many units and with the same data, cannot know the future:
# what the backward units remember is noise to it.
forward_only = SpectralRNNRegressor(8, random_state=0).fit(X_train, Y_train)
r_squared = {
    "the truth": metrics.r2_score(Y_test, truth.predict(X_test)),
    "bidirectional": est.score(X_test, Y_test),
    "forward only": forward_only.score(X_test, Y_test),
}
for name, value in r_squared.items():
    print(f"R^2 on new sequences, {name:15}{value:8.4f}")

# %%
# More data
# ---------
# Errors fall like the square root of the number of steps, those of the recurrent weights of both
# directions included. Medians over three networks, with bars from the smallest to the largest.
sizes = np.array([500, 1000, 2000, 4000])
errors = {name: np.empty((sizes.size, 3)) for name in matrices}
for j in range(3):
    X, Y, other, _ = datasets.make_rnn(
        sizes[-1], 10, 12, 8, 6, recurrence_norm=0.15, noise=0.3, bidirectional=True, random_state=j
    )
    for i, size in enumerate(sizes):
        smaller = SpectralRNNRegressor(8, bidirectional=True, random_state=0)
        smaller.fit(X[:size], Y[:size])
        of_size = metrics.weight_errors(smaller.model_, other)
        for name in matrices:
            errors[name][i, j] = of_size[name]
slopes = {}
for name, values in errors.items():
    middle = np.median(values, axis=1)
    slopes[name] = np.polyfit(np.log(sizes), np.log(middle), 1)[0]
    print(f"{name:28}" + "".join(f"{e:10.4f}" for e in middle) + f"   slope {slopes[name]:.2f}")

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
curves = {plotting.SYMBOLS[name]: values for name, values in errors.items()}
plotting.plot_error_curve(10 * sizes, curves, ax=ax)
_ = ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))

# %%
# Nothing backward
# ----------------
# The same estimator on data of a network that runs forward only: no unit is turned around.
X_forward, Y_forward, _, _ = datasets.make_rnn(
    4000, 10, 12, 8, 6, recurrence_norm=0.15, noise=0.3, random_state=1
)
one_way = SpectralRNNRegressor(8, bidirectional=True, random_state=0).fit(X_forward, Y_forward)
print(f"a network of one direction: {one_way.report_.directions}")

# %%
# Check of the claims.
if (est.model_.n_forward, est.model_.n_backward) != (4, 4):
    raise SystemExit(f"directions: {report.directions}")
if not report.directions.margin.min() > 20:
    raise SystemExit(f"smallest margin {report.directions.margin.min():.3g}")
for name in matrices:
    if not found[name] < 2 * report.predicted_errors[name]:
        raise SystemExit(f"{name}: {found[name]:.2g} of {report.predicted_errors[name]:.2g}")
if not r_squared["forward only"] + 0.01 < r_squared["bidirectional"]:
    raise SystemExit(f"R^2: {r_squared}")
if not abs(r_squared["bidirectional"] - r_squared["the truth"]) < 0.002:
    raise SystemExit(f"R^2: {r_squared}")
if not all(-0.75 < slope < -0.3 for slope in slopes.values()):
    raise SystemExit(f"slopes {slopes}")
if one_way.model_.n_backward != 0:
    raise SystemExit(f"backward units of a network without: {one_way.report_.directions}")
