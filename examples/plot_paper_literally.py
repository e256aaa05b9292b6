r"""
The paper, literally
====================

GLOREE as published, in one call: score moments, whitening and tensor power method, and the score of
order :math:`l^2` at the step before. Every intermediate is there to look at. Then the same network
by the estimator, which uses moments of lower order.
"""

import matplotlib.pyplot as plt
import numpy as np

from gloree import SpectralRNNRegressor, datasets, metrics, paper

X, Y, truth, law = datasets.make_rnn(
    100_000, 3, 3, 2, 2, recurrence_norm=0.3, noise=0.1, random_state=4
)
fit = paper.gloree(X, Y, n_hidden=2, law=law, random_state=0)

# %%
# The steps
# ---------
# First moment :math:`T = E[y \otimes S_2(t)]`, its components, and what the score of order four at
# t - 1 says of each row of U: a matrix of rank one, :math:`U_i U_i^T`, with the sign of the row
# open.
print("first moment", fit.first_moment.shape)
print("decomposition:", fit.decomposition.status.name)
for unit, power in enumerate(fit.powers[-1]):
    print(f"U_{unit} U_{unit}^T", np.round(power, 3).tolist())
print("signs, by the squared error:", fit.signs.tolist())

# %%
# Beside the estimator
# --------------------
few = 20_000
estimated = SpectralRNNRegressor(n_hidden=2, random_state=0).fit(X[:few], Y[:few])
names = {"input_weights": "A1", "recurrent_weights": "U", "output_weights": "A2"}
by_paper = metrics.weight_errors(fit.model, truth)
by_estimator = metrics.weight_errors(estimated.model_, truth)
for name, short in names.items():
    print(f"{short:3} paper {by_paper[name]:8.2g}   estimator, a fifth of the data ", end="")
    print(f"{by_estimator[name]:8.2g}")

figure, ax = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
rows = [f"${short[0]}_{short[1:]}$" if short[1:] else f"${short}$" for short in names.values()]
for found, marker, colour, label in (
    (by_paper, "s", "#D55E00", "paper, 300,000 steps"),
    (by_estimator, "o", "#0072B2", "estimator, 60,000 steps"),
):
    ax.semilogx([found[name] for name in names], rows, marker, color=colour, ms=8, label=label)
ax.set(xlabel="relative error of the weights", ylim=(2.5, -0.5))
ax.grid(axis="x", color="#D9D9D9")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)

# %%
# The check
# ---------
assert by_paper["input_weights"] < 0.1
assert by_paper["recurrent_weights"] < 0.6
assert all(by_estimator[name] < by_paper[name] for name in names)
plt.show()
