r"""
A tanh network recovered
========================

The moments of the paper are for polynomials. Networks with any other activation,
:math:`h_t = \tanh(A_1 x_t + U h_{t-1} + b)` here, are found from the average derivatives of a
polynomial regression of orders one to three, which share the directions of the units whatever the
activation is, and a descent from there. A test of the residuals then says whether the descent ended
at the optimum.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from gloree import IORNN, SpectralRNNRegressor, datasets, metrics, plotting

# %%
# Data
# ----
# 4,000 sequences of 10 steps of a Gaussian autoregression; 8 inputs, 5 units, 4 outputs.
rng = np.random.default_rng(0)
A1, U = rng.standard_normal((5, 8)), rng.standard_normal((5, 5))
truth = IORNN(
    A1 / np.linalg.norm(A1, axis=1, keepdims=True),
    0.8 * U / np.linalg.norm(U, 2),
    rng.standard_normal((5, 4)),
    hidden_bias=0.5 * rng.standard_normal(5),
    activation="tanh",
)
X = datasets.make_chain(8, random_state=rng).sample(4000, 10, random_state=rng)
Y = truth.simulate(X, noise=0.2, random_state=rng)

# %%
# Fit
# ---
est = SpectralRNNRegressor(5, activation="tanh", random_state=0).fit(X, Y)
print(est.report_)

# %%
# Weights
# -------
# After the units have been matched (their order, and the signs of odd units, are free).
figure = plotting.plot_weights(
    est.model_, truth, standard_errors=est.report_.standard_errors
).figure
errors = metrics.weight_errors(est.model_, truth)
for name, error in errors.items():
    print(f"{name:20}{error:.4f}")

# %%
# A wrong activation
# ------------------
# The same data fitted with rectifiers: wherever starts end, the residuals depend on the past.
# Findings are warnings, and stand in the report.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    wrong = SpectralRNNRegressor(5, activation="relu", random_state=0).fit(X, Y)
print(wrong.report_.certificate)
print(wrong.report_.warnings[0])
plt.show()

# %%
# What the text says, checked.
assert est.report_.certificate.status.name in ("CERTIFIED", "AGREED")
assert max(errors.values()) < 0.1
assert wrong.report_.certificate.status.name != "CERTIFIED"
