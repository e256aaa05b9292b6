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

fig, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
place = np.arange(len(names))
axis.bar(place - 0.2, [by_paper[name] for name in names], 0.4, label="paper, 300,000 steps")
axis.bar(place + 0.2, [by_estimator[name] for name in names], 0.4, label="estimator, 60,000 steps")
axis.set(yscale="log", ylabel="relative error", title="Errors of the weights")
axis.set_xticks(place, list(names.values()))
axis.legend()

# %%
# The check
# ---------
assert by_paper["input_weights"] < 0.1
assert by_paper["recurrent_weights"] < 0.6
assert all(by_estimator[name] < by_paper[name] for name in names)
plt.show()
