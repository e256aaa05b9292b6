r"""
A law of your own, and an estimated score
=========================================

Inputs that follow :math:`x_{t+1} = 1.5 \tanh(2 x_t) + e` jump between two wells, and no Gaussian
chain does that. The first moment :math:`E[y \otimes S_2]` is taken with the Gaussian score, with
the score of the true law, and with one that score matching finds without knowing the law.
"""

import matplotlib.pyplot as plt
import numpy as np

from gloree import GaussianVAR, datasets
from gloree.chains import NonlinearAR, ScoreMatching
from gloree.moments import cross_moment
from gloree.score_functions import check_score

d = 3
eye = np.eye(d)


def step(x):
    return 1.5 * np.tanh(2 * x)


def slope(x):
    return 3 * (1 - np.tanh(2 * x)[..., None] ** 2) * eye


def curvature(x):
    t = np.tanh(2 * x)
    return np.einsum("...i,ij,ik->...ijk", -12 * t * (1 - t**2), eye, eye)


# %%
# The law
# -------
# Derivatives may be left out: those of an analytic NumPy function or a PyTorch function are taken
# for you. Given ones are compared with differences when the law is made.
law = NonlinearAR(step, eye, derivatives=(slope, curvature), initial_covariance=3 * eye)
X = law.sample(1000, 60, random_state=0)[:, 20:]
truth = datasets.random_rnn(d, 3, 3, recurrence_norm=0.1, random_state=1)
truth = truth.replace(input_weights=truth.input_weights / X.std())
Y = truth.simulate(X, noise=0.1, random_state=1)

# %%
# Three scores
# ------------
A1, A2 = truth.input_weights, truth.output_weights
T = 2 * np.einsum("io,ia,ib->oab", A2, A1, A1)
errors = {}
chains = {"Gaussian": GaussianVAR.fit(X), "true law": law, "score matching": ScoreMatching.fit(X)}
for name, chain in chains.items():
    check = check_score(X, chain=chain)
    errors[name] = np.linalg.norm(cross_moment(chain, X, Y, 2) - T) / np.linalg.norm(T)
    print(f"{name:15} Stein defect {check.defect:5.2f}, {check.status:9} error {errors[name]:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(X[0, :, 0], ".-", color="#0072B2")
left.set(xlabel="step", ylabel="first input of the first sequence")
right.semilogx(list(errors.values()), list(errors), "o", color="#D55E00", ms=8)
right.set(xlabel="relative error of the first moment", xlim=(5e-3, 1), ylim=(2.5, -0.5))
right.grid(axis="x", color="#D9D9D9")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)

# %%
# The check
# ---------
assert errors["true law"] < 0.05
assert errors["score matching"] < 0.05
assert errors["Gaussian"] > 0.2
plt.show()
