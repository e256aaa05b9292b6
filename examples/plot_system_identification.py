r"""
Identify a nonlinear system
===========================

A record of the input and the output of a system, nothing else: `SystemIdentifier` finds a network
of linear states and a few nonlinear units whose *free run*, a simulation from the input alone,
follows the output. Linear states come from the impulse response, the direction that the
nonlinearity sees from second and third moments of what the linear model leaves, and
Levenberg-Marquardt on the simulation error refines all weights together.

The system here is simulated, so that everything can be compared with the truth: a filter, a
saturation, and a second filter (a *Wiener-Hammerstein* system).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import butter, cheby1, lfilter

from gloree import SystemIdentifier, plotting
from gloree.metrics import root_mean_square_error

# %%
# Data
# ----
# A filter with two poles, a saturation that is not symmetric, and another filter with two poles.
# Sensor noise is 0.3 % of the output. The first 10,000 samples train, the other 6,000 test.
first, second = butter(2, 0.25), cheby1(2, 1.0, 0.15)


def saturation(v):
    """Gain one for small signals, limits of -0.7 and 1.2."""
    return np.where(v > 0, 1.2 * np.tanh(v / 1.2), 0.7 * np.tanh(v / 0.7))


rng = np.random.default_rng(0)
u = 2.0 * rng.standard_normal(16_000)
v = lfilter(*first, u)
clean = lfilter(*second, saturation(v))
y = clean + 0.003 * clean.std() * rng.standard_normal(u.size)
train, test = slice(0, 10_000), slice(10_000, None)

# %%
# Fit
# ---
# The order of the linear part is given here, so that poles can be compared one by one, and the
# number of units, to keep it short; without them both are chosen. The report has the stages and
# the errors on the last fifth of the training data.
est = SystemIdentifier(n_linear=4, n_nonlinear=3, max_seconds=30).fit(u[train], y[train])
print(est.report_)

# %%
# The free run
# ------------
# Test samples, simulated from rest. The first 50 are not counted: the true states were not at rest.
skip = 50
runs = {
    "linear": est.linear_model_.predict(u[test][:, None])[:, 0],
    "moments": est.moments_model_.predict(u[test][:, None])[:, 0],
    "refined": est.simulate(u[test]),
}
errors = {
    name: float(root_mean_square_error(y[test][:, None], run[:, None], skip=skip)[0])
    for name, run in runs.items()
}
noise = 0.003 * clean.std()
print(f"{'test RMSE, % of the output':28}")
for name, error in (*errors.items(), ("sensor noise", noise)):
    print(f"  {name:26}{100 * error / y[test].std():8.3f}")

# %%
# Above: output and simulation, which cannot be told apart. Below: spectra of the output and of what
# the models leave of it. White noise, the same at all frequencies, is all that should be left.
figure, axes = plt.subplots(2, 1, figsize=(9, 6.4), layout="constrained")
plotting.plot_prediction(
    y[test][:, None], runs["refined"][:, None], steps=slice(1000, 1200), ax=axes[0]
)
left = {name: y[test] - run for name, run in runs.items()}
plotting.plot_spectrum(y[test], left, skip=skip, ax=axes[1])
if "sphinx_gallery" not in sys.modules:
    figure.savefig("system_identification.png", dpi=100)

# %%
# Poles and nonlinearity
# ----------------------
# The linear states have the poles of both filters. The units share one direction: what they see
# is the signal between the filters, and the sum of what they give is the static nonlinearity. It
# is determined up to its scale, its offset and its linear part (the linear states can carry that),
# so these three are fitted to the truth for the figure.
model = est.model_
n = est.report_.poles.size
entering = np.column_stack((model.hidden_states(u[test][:, None])[:, :n], u[test]))
entering[1:, :n] = entering[:-1, :n].copy()
entering[0, :n] = 0.0
rows = np.column_stack((model.recurrent_weights[n:, :n], model.input_weights[n:]))
seen = entering[skip:] @ rows.T  # one column a unit, without biases

# what the units add to the states and to the output: one profile over the units, up to its size
added = np.vstack((model.recurrent_weights[:n, n:], model.output_weights[n:].T))
states = np.append(np.std(entering[:, :n], axis=0), 1.0)
profile = np.linalg.svd(added / states[:, None])[2][0]

# their common direction: units that add little count little
weight = np.abs(profile) * np.tanh(seen + model.hidden_bias[n:]).std(axis=0)
_, sizes, vectors = np.linalg.svd((seen - seen.mean(axis=0)) * weight, full_matrices=False)
share = sizes[0] ** 2 / np.sum(sizes**2)
z = (seen * weight) @ vectors[0]
slopes = vectors[0] / weight


def units(values):
    """Sum of the units, as a function of what they see."""
    return np.tanh(values[:, None] * slopes + model.hidden_bias[n:]) @ profile


scale, offset = np.polyfit(z, v[test][skip:], 1)
v_seen = scale * z + offset
basis = np.column_stack((units(z), v_seen, np.ones(z.size)))
weights = np.linalg.lstsq(basis, saturation(v[test][skip:]), rcond=None)[0]


def recovered(values):
    """Static nonlinearity, in the units of the signal between the filters."""
    inner = (values - offset) / scale
    return np.column_stack((units(inner), values, np.ones(values.size))) @ weights


figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=(1, 1.3))
figure.get_layout_engine().set(h_pad=0.12)
truth = np.concatenate((np.roots(first[1]), np.roots(second[1])))
plotting.plot_poles(est.report_.poles, truth=truth, ax=axes[0])
plotting.plot_nonlinearity(v_seen, recovered, ax=axes[1])
grid = np.linspace(v_seen.min(), v_seen.max(), 200)
axes[1].plot(grid, saturation(grid), "--", color="black", linewidth=1, label="true")
axes[1].set(xlabel="signal between the filters (strip: density)", ylabel="static nonlinearity")
axes[1].lines[1].set_label("recovered")
axes[1].legend(frameon=False, loc="upper left")

# %%
# Check of the claims.
middle = np.abs(grid) < 2.0 * v.std()
gap = np.abs(recovered(grid) - saturation(grid))[middle].max()
distance = max(float(np.abs(truth - pole).min()) for pole in est.report_.poles)
correlation = float(np.corrcoef(z, v[test][skip:])[0, 1])
print(f"largest distance of a pole from a true one {distance:.4f}")
print(f"one direction has {100 * share:.2f} % of what the units see;", end=" ")
print(f"correlation with the signal between the filters {abs(correlation):.5f}")
print(f"largest error of the nonlinearity within two standard deviations: {gap:.3f}")
assert errors["moments"] < errors["linear"] / 2
assert errors["refined"] < errors["linear"] / 10
assert errors["refined"] < 3 * noise
assert distance < 0.05
assert abs(correlation) > 0.95
assert gap < 0.25
