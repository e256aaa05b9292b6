r"""
Sequences of unequal lengths
============================

Data often come in pieces: sentences, visits, batches of a process. A list of arrays of any lengths
is a data set, and so is one flat array with ``lengths``. This example shows that the two are the
same, and why the ends of sequences deserve care: the first and the last step of a sequence have a
score function of their own, and nothing may be carried from one sequence into the next.
"""

import matplotlib.pyplot as plt
import numpy as np

from gloree import GaussianVAR, SpectralRNNRegressor, datasets, metrics, moments, plotting
from gloree.decomposition import cp_tensor

# %%
# Data
# ----
# 2,000 sequences of 1 to 60 steps, most of them short.
rng = np.random.default_rng(0)
law = datasets.make_chain(6, memory=0.7, random_state=rng)
truth = datasets.random_rnn(6, 3, 4, recurrence_norm=0.2, random_state=rng)
lengths = np.clip(rng.geometric(0.1, size=2000), 1, 60)
X = [x[:n] for x, n in zip(law.sample(2000, 60, random_state=rng), lengths, strict=True)]
Y = truth.simulate(X, noise=0.1, random_state=rng)
share = np.minimum(2, lengths).sum() / lengths.sum()
print(f"{lengths.sum():,} steps in {lengths.size:,} sequences of {lengths.min()} to", end=" ")
print(f"{lengths.max()} steps; {share:.0%} of the steps are first or last ones")

# %%
# Two forms, one result
# ---------------------
# Predictions come back in the form of the input.
estimator = SpectralRNNRegressor(n_hidden=3, random_state=0)
as_list = estimator.fit(X, Y).model_
predictions = estimator.predict(X)
flat_X, flat_Y = np.concatenate(X), np.concatenate(Y)
as_flat = estimator.fit(flat_X, flat_Y, lengths=lengths).model_
same = as_list == as_flat
print(f"list and flat array give the same weights: {same}")
print(f"predictions: a {type(predictions).__name__} of {len(predictions)} arrays")

# %%
# The ends matter
# ---------------
# At a first step the past is missing from the score, at a last step the future, so the score has
# another size there: its covariance K (:eq:`varp`) is
chain = GaussianVAR.fit(X)
blocks = chain.precision_blocks(0)
for each in range(chain.n_boundary_types):
    print(f"  trace of K, {chain.boundary_name(each):12} {np.trace(blocks[each]):8.2f}")

# %%
# What if all this is ignored, and the flat array is treated as one long record? Then steps at the
# joints get the score of an interior step, and states run on from one sequence into the next.
T_true = cp_tensor(2 * truth.output_weights, truth.input_weights, order=2)


def moment_error(T):
    """Relative error of the first moment."""
    return np.linalg.norm(T - T_true) / np.linalg.norm(T_true)


T = moments.cross_moment(chain, flat_X, flat_Y, order=2, lengths=lengths)
T_joined = moments.cross_moment(GaussianVAR.fit(flat_X), flat_X, flat_Y, order=2)
joined = SpectralRNNRegressor(n_hidden=3, random_state=0).fit(flat_X, flat_Y)

right, wrong = metrics.weight_errors(as_list, truth), metrics.weight_errors(joined.model_, truth)
print(f"{'relative error':22}{'as sequences':>15}{'as one record':>15}")
print(f"{'score moment T':22}{moment_error(T):15.4f}{moment_error(T_joined):15.4f}")
for name in ("input_weights", "output_weights", "recurrent_weights"):
    print(f"{name:22}{right[name]:15.4f}{wrong[name]:15.4f}")
residual = metrics.root_mean_square_error(Y, predictions).mean()
residual_joined = metrics.root_mean_square_error(Y, [*map(joined.model_.predict, X)]).mean()
print(f"{'residual (noise: 0.1)':22}{residual:15.4f}{residual_joined:15.4f}")

# %%
# The recurrent weights suffer most, since every joint offers them a past that is not theirs.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
axes[0].hist(lengths, bins=np.arange(0.5, 61.5, 3), color="#0072B2")
axes[0].set(xlabel="steps in a sequence", ylabel="sequences")
axes[0].spines[["top", "right"]].set_visible(False)
for ax, model, title in zip(
    axes[1:], (as_list, joined.model_), ("as sequences", "as one record"), strict=True
):
    plotting.plot_weights(model, truth, weights=["recurrent_weights"], ax=ax)
    ax.set_title(title, fontsize="medium")
figure.get_layout_engine().set(h_pad=0.12)

# %%
# Check of the claims.
if not same:
    raise SystemExit("a list and a flat array with lengths gave different weights")
if [len(part) for part in predictions] != lengths.tolist():
    raise SystemExit("predictions do not have the form of the input")
if not (moment_error(T) < moment_error(T_joined) and residual < 0.103 < residual_joined):
    raise SystemExit(f"moments {moment_error(T):.3f} and {moment_error(T_joined):.3f}")
if not 3 * right["recurrent_weights"] < wrong["recurrent_weights"]:
    raise SystemExit(f"recurrent weights: {right} and {wrong}")
