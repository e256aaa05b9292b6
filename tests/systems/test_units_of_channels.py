"""What is said of a system does not depend on the units and offsets of its inputs and outputs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.systems import dead_time_network, linear_network
from scipy import signal

from gloree.identification import estimate_state
from gloree.identification._expected_state import expected_states
from gloree.sequences import as_sequences
from gloree.systems import (
    at_records,
    characteristics,
    fit_noise,
    frequency_response,
    operating_point,
    prediction_intervals,
    residual_tests,
    spectral_response,
    time_response,
    to_state_space,
)

SAME = 1e-6
UNITS = {
    "sizes": (np.array([1e6, 1e-6]), np.zeros(2), np.array([1e-7, 1e5]), np.zeros(2)),
    "offsets": (np.ones(2), np.array([1e4, -3e4]), np.ones(2), np.array([1e5, -1e5])),
    "both": (
        np.array([1e5, 1e-3]), np.array([1e7, 5.0]), np.array([1e-4, 1e2]), np.array([-3.0, 2e4]),
    ),
}  # fmt: skip


def in_units(model, units):
    """The same network between inputs s_u u + m_u and outputs s_y y + m_y."""
    su, mu, sy, my = units
    su, mu = np.tile(su, model.lags), np.tile(mu, model.lags)
    A1, D = model.input_weights / su, model.direct_weights / su[:, None] * sy
    return model.replace(
        input_weights=A1,
        hidden_bias=model.hidden_bias - A1 @ mu,
        output_weights=model.output_weights * sy,
        output_bias=model.output_bias * sy + my - mu @ D,
        direct_weights=D,
    )


def noisy(model, n=300):
    """Inputs that are smooth, and outputs with coloured noise of several sizes."""
    rng = np.random.default_rng(1)
    u = signal.lfilter([1.0], [1.0, -0.6], rng.standard_normal((n, 2)), axis=0)
    e = signal.lfilter([1.0], [1.0, -0.8], rng.standard_normal((n, 2)), axis=0)
    return u, model.predict(u) + 0.1 * e


def said(model, u, y, units):
    """Numbers of all kinds, in the units that the system had first."""
    su, _, sy, my = units
    path = su / sy[:, None]
    records = as_sequences(u, y)
    at = at_records(model, records)
    known = at.uncertainty()
    table = characteristics(model, uncertainty=known)
    response = frequency_response(model, uncertainty=known)
    step = time_response(model, 20, uncertainty=known)
    intervals = prediction_intervals(known, u[:40])
    tests = residual_tests(at)
    plain = spectral_response(records)
    return {
        "order of the noise": known.noise.order,
        "poles": table.poles.values,
        "errors of poles": table.poles.errors(),
        "zeros": table.zeros.values,
        "errors of zeros": table.zeros.errors(),
        "gains": table.gains * path,
        "errors of gains": table.gain_errors * path,
        "magnitudes": np.array(response.magnitude_band()) * path,
        "phases": np.array(response.phase_band()),
        "step": np.array(step.band()) * path,
        "intervals": (np.array([intervals.lower, intervals.upper]) - my) / sy,
        "dynamics": tests.dynamics,
        "feedback": tests.feedback,
        "limits": tests.cross_limits,
        "spectra": plain.response * path,
        "errors of spectra": plain.errors * path,
        "coherence": plain.coherence,
    }


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.ConvergenceWarning")
@pytest.mark.parametrize("make", [linear_network, dead_time_network], ids=["plain", "dead time"])
@pytest.mark.parametrize("units", UNITS)
def test_bands_tests_and_spectra_do_not_depend_on_units(units, make):
    rng = np.random.default_rng(0)
    model = make([0.8 + 0.3j, 0.5], 2, 2, rng) if make is linear_network else make(rng)
    u, y = noisy(model)
    su, mu, sy, my = UNITS[units]
    expected = said(model, u, y, (np.ones(2), np.zeros(2), np.ones(2), np.zeros(2)))
    assert expected["order of the noise"] > 0
    moved = in_units(model, UNITS[units])
    for name, value in said(moved, u * su + mu, y * sy + my, UNITS[units]).items():
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(value, expected[name], atol=SAME * size, rtol=0, err_msg=name)


@pytest.mark.parametrize("units", UNITS)
def test_starts_of_records_do_not_depend_on_units(units):
    model = linear_network([0.8 + 0.3j, 0.5], 2, 2, np.random.default_rng(0))
    u, y = noisy(model, 60)
    u[:, 1] = 0.3  # an input that stands still tells nothing of how it moved before
    moved, (su, mu, sy, my) = in_units(model, UNITS[units]), UNITS[units]
    u2, y2 = u * su + mu, y * sy + my
    # without noise of a known size, and with it
    for noise in (None, np.array([0.1, 0.1])):
        expected = estimate_state(model, u, y, 4, noise=noise)
        found = estimate_state(moved, u2, y2, 4, noise=None if noise is None else noise * sy)
        np.testing.assert_allclose(found, expected, atol=SAME * np.abs(expected).max())
    expected = expected_states(model, as_sequences(u))
    found = expected_states(moved, as_sequences(u2))
    np.testing.assert_allclose(found, expected, atol=SAME * np.abs(expected).max())


@pytest.mark.parametrize("sizes", [(1e9, 1.0, 1e-9), (1e-7, 1e3, 1e6)])
def test_an_operating_point_is_at_the_means_of_inputs_in_any_units(sizes, rng):
    model, size = linear_network([0.8 + 0.3j, 0.5], 3, 1, rng), np.array(sizes)
    mean = size * np.array([1.0, -2.0, 0.5])
    A1, D = model.input_weights / size, model.direct_weights / size[:, None]
    moved = model.replace(input_weights=A1, hidden_bias=-A1 @ mean, direct_weights=D)
    point = operating_point(moved)
    np.testing.assert_allclose(point.inputs, mean, rtol=SAME)
    u = mean + size * rng.standard_normal((30, 3))
    _, y, _ = signal.dlsim(to_state_space(moved), u - point.inputs)
    np.testing.assert_allclose(y + point.outputs, moved.predict(u, state=point.states), atol=SAME)


def test_coloured_noise_of_outputs_in_any_units_is_coloured(rng):
    e = signal.lfilter([1.0], [1.0, -0.8], rng.standard_normal((500, 2)), axis=0)
    size = np.array([1e-8, 1e8])
    expected, found = fit_noise([e]), fit_noise([e * size])
    assert found.order == expected.order > 0
    ratio = found.autocovariances[:20] / np.outer(size, size)
    np.testing.assert_allclose(ratio, expected.autocovariances[:20], atol=SAME)


def test_dead_times_have_no_zeros(rng):
    # G(z) diag(z^-3, z^-1) has the zeros of G
    model = dead_time_network(np.random.default_rng(0))
    at_once = model.replace(
        input_weights=model.input_weights[:, [6, 3]],
        direct_weights=model.direct_weights[[6, 3]],
        lags=1,
    )
    expected = characteristics(at_once).zeros.values
    assert expected.size == 3
    np.testing.assert_allclose(characteristics(model).zeros.values, expected, rtol=SAME)
