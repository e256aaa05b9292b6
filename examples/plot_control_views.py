r"""
A motor for control engineers
=============================

A linear model as control engineers want it: poles and gains with standard errors, a frequency
response with its band beside an estimate from the data alone, tests of the residuals, intervals
for what will be measured, and C code.

The system is a simulated motor with an elastic shaft: voltage in, speed out, sampled every 10 ms.
Its noise is coloured, as a load that varies would make it.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import signal

from gloree import SystemIdentifier, plotting
from gloree.sequences import as_sequences
from gloree.systems import (
    Channels,
    characteristics,
    frequency_response,
    spectral_response,
    time_response,
)

# %%
# Data
# ----
# A slow pole, and a resonance of the shaft. 48 seconds train, 12 seconds test.
DT = 0.01
roots = np.array([-4.0, -3.0 + 25.0j, -3.0 - 25.0j])
true_poles = np.exp(DT * roots)
continuous = signal.ZerosPolesGain([], roots, 5000.0)
rng = np.random.default_rng(0)
n, n_train = 6000, 4800
u = signal.lfilter([1.0], [1.0, -0.6], rng.standard_normal(n))
clean = signal.dlsim(continuous.to_ss().to_discrete(DT), u)[1][:, 0]
noise = signal.lfilter([1.0], [1.0, -0.95], rng.standard_normal(n))
y = clean + 0.2 * clean.std() * noise / noise.std()

# %%
# Fit
# ---
est = SystemIdentifier(n_linear=3, n_nonlinear=0, max_seconds=10).fit(u[:n_train], y[:n_train])
record = u[:n_train], y[:n_train]
channels = Channels(("voltage",), ("speed",), ("V",), ("rad/s",), DT)

# %%
# Poles, time constants, gain
# ---------------------------
# The slow pole has a time constant of a quarter of a second, the resonance a damping of 0.12.
known = est.uncertainty(*record)
table = characteristics(est.linear_model_, uncertainty=known, channels=channels)
print(table)

# %%
# Frequency response and step response
# ------------------------------------
# Dots are averaged cross spectra of the record, without any model. The band is that of the model.
frequencies = np.geomspace(0.1, 50.0, 200)
response = frequency_response(est.linear_model_, frequencies, uncertainty=known, channels=channels)
spectral = spectral_response(as_sequences(*(each[:, None] for each in record)), channels=channels)
step = time_response(est.linear_model_, 200, uncertainty=known, channels=channels)

figure, axes = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained")
plotting.plot_frequency_response(response, spectral, ax=axes[0, 0])
plotting.plot_frequency_response(response, spectral, quantity="phase", ax=axes[1, 0])
plotting.plot_time_response(step, ax=axes[0, 1])
poles = np.linalg.eigvals(est.linear_model_.recurrent_weights)
plotting.plot_poles(poles, truth=true_poles, ax=axes[1, 1])

# %%
# Tests of the residuals
# ----------------------
# They are far from white, as the noise is; they do not depend on the input, which is what matters.
tests = est.residual_tests(*record)
print(tests)
figure, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
plotting.plot_residual_tests(tests, ax=axes[0])
plotting.plot_residual_tests(tests, input=0, ax=axes[1])

# %%
# Prediction intervals
# --------------------
intervals = est.prediction_intervals(u[n_train:], records=known)
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
plotting.plot_intervals(intervals, y[n_train:], dt=DT, name="speed", unit="rad/s", ax=ax)
ax.set_xlim(2, 6)

# %%
# C code
# ------
folder = Path(tempfile.mkdtemp())
code = est.export_c(folder / "motor.c").read_text()
print(code[: code.index("#include")])

# %%
# Check
# -----
found = table.poles
for pole in true_poles[:2]:
    i = int(np.argmin(np.abs(found.values - pole)))
    error = np.hypot(*found.errors()[i])
    print(f"pole {found.values[i]:.4f}, true {pole:.4f}, standard error {error:.4f}")
    assert abs(found.values[i] - pole) < 4 * error
inside = np.mean((y[n_train:] >= intervals.lower[:, 0]) & (y[n_train:] <= intervals.upper[:, 0]))
assert 0.9 < inside < 0.99
assert tests.dynamics[0, 0] > 0.001
