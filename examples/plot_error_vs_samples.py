r"""
Errors against sample size
==========================

Moment estimates have errors that fall like :math:`N^{-1/2}`, like those of least squares; what
differs is the constant. The recurrent weights U are estimated by the three moments of the theory
page, without any refinement, from more and more data, and compared with the best that could be had:
Gauss-Newton on the squared prediction error, started at the truth.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from gloree import Engine, SpectralRNNRegressor, datasets, metrics, plotting
from gloree.engine import Source
from gloree.refinement import GaussNewton, Layout, SquaredError
from gloree.sequences import as_sequences

n_steps = 20
sizes = np.array([2_000, 8_000, 25_000, 80_000])
seeds = (0, 1, 2)

# %%
# Estimators
# ----------
# ``max_rounds=0`` and ``refine=None`` leave the estimator of the recurrence alone: no rounds with
# the residual and no Gauss-Newton step. The paper's moment leaves the sign of each row of U open;
# the estimator takes the sign with which the prediction error falls.
settings = {
    "score (the paper's)": {"recurrence": "score", "max_rounds": 0},
    "cross": {"recurrence": "cross", "max_rounds": 0},
    "instrument": {"recurrence": "instrument", "max_rounds": 0},
    "instrument and rounds": {"recurrence": "instrument"},
}
layout = Layout(n_inputs=5, n_hidden=3, n_outputs=3)


def oracle(X, Y, truth):
    """Least squares of all weights, started at the truth."""
    source = Source(as_sequences(X, Y))
    return GaussNewton().minimise(SquaredError(), truth, layout, Engine(), source).model


errors = {name: np.full((sizes.size, len(seeds)), np.nan) for name in [*settings, "oracle"]}
for j, seed in enumerate(seeds):
    X, Y, truth, _ = datasets.make_rnn(
        sizes[-1] // n_steps, n_steps, 5, 3, 3, recurrence_norm=0.15, random_state=seed
    )
    for i, size in enumerate(sizes):
        x, y = X[: size // n_steps], Y[: size // n_steps]
        for name, chosen in settings.items():
            estimator = SpectralRNNRegressor(3, refine=None, random_state=0, **chosen)
            model = estimator.fit(x, y).model_
            errors[name][i, j] = metrics.weight_errors(model, truth)["recurrent_weights"]
        model = oracle(x, y, truth)
        errors["oracle"][i, j] = metrics.weight_errors(model, truth)["recurrent_weights"]

# %%
# Median over three networks of the relative error of U, and the slope from the first size to the
# last (-0.5 is the square-root law).
print(f"{'steps':24}" + "".join(f"{size:10,}" for size in sizes) + f"{'slope':>9}")
slopes = {}
for name, values in errors.items():
    middle = np.median(values, axis=1)
    slopes[name] = np.polyfit(np.log(sizes), np.log(middle), 1)[0]
    print(f"{name:24}" + "".join(f"{e:10.4f}" for e in middle) + f"{slopes[name]:9.2f}")

# %%
# An error of 1 means that nothing is known: the moment of order four needs far more data than
# there are here. The joint score (``cross``) and the instruments follow the square-root law, the
# instruments with a smaller constant; rounds with the residual bring them to the level of the
# oracle.
figure, ax = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
plotting.plot_error_curve(sizes, errors, ylabel="relative error of U", ax=ax)
_ = ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))

# %%
# Check of the claims.
last = {name: float(np.median(values[-1])) for name, values in errors.items()}
order = ("oracle", "instrument and rounds", "instrument", "cross", "score (the paper's)")
if not all(last[better] <= 1.05 * last[worse] for better, worse in pairwise(order)):
    raise SystemExit(f"order of the estimators: {last}")
for name in ("instrument", "instrument and rounds", "oracle"):
    if not -0.75 < slopes[name] < -0.3:
        raise SystemExit(f"{name}: slope {slopes[name]:.2f}")
if not last["instrument and rounds"] < 2 * last["oracle"]:
    raise SystemExit(f"rounds: {last}")
