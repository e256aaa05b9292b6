"""What `SystemIdentifier` says of a fitted system."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.systems import linear_network
from scipy import signal

from gloree import SystemIdentifier
from gloree.activations import PerUnit, Polynomial
from gloree.diagnostics import ConvergenceWarning
from gloree.systems import Uncertainty, operating_point

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(3)
    truth = linear_network([0.8 + 0.3j], 2, 1, rng)
    u = rng.standard_normal((800, 2)) + np.array([5.0, 0.0])
    y = truth.predict(u) + 0.1 * rng.standard_normal((800, 1))
    frames = pd.DataFrame(u, columns=["valve (%)", "pump"]), pd.DataFrame(y, columns=["level [m]"])
    est = SystemIdentifier(2, 0, max_seconds=5)
    est.dt = 0.5
    return truth, est.fit(*frames), frames


@pytest.mark.slow
def test_channels_are_the_columns_of_data_frames_with_their_units(fitted):
    _, est, _ = fitted
    channels = est.channels_
    assert channels.input_names == ("valve", "pump") and channels.output_units == ("m",)
    assert channels.dt == 0.5


def test_the_state_space_model_simulates_what_the_estimator_does(fitted):
    _, est, (u, _) = fitted
    point = operating_point(est.linear_model_)
    system = est.state_space()
    _, y, _ = signal.dlsim(system, u - point.inputs, t=0.5 * np.arange(800), x0=-point.states)
    expected = est.linear_model_.predict(u.to_numpy())
    assert system.dt == 0.5
    assert np.allclose(y + point.outputs, expected, rtol=0, atol=1e-9)


def test_bands_come_with_the_records_of_the_fit(fitted):
    _, est, frames = fitted
    assert np.isnan(est.characteristics().poles.errors()).all()
    table = est.characteristics(*frames)
    z = np.abs(table.poles.values - (0.8 + 0.3j)) / np.hypot(*table.poles.errors()[0])
    assert z < 5
    assert "gain valve → level" in str(table) and "time constant" in str(table)
    low, high = est.frequency_response(*frames, level=0.9999).magnitude_band()
    size = np.abs(est.frequency_response().response)
    assert np.all((low <= size) & (size <= high))
    step = est.time_response(*frames, n_steps=10)
    assert np.isclose(step.times[1], 0.5) and np.all(step.errors > 0)
    assert est.spectral_response(*frames).frequencies.max() == pytest.approx(1.0)


def test_intervals_take_records_or_what_is_known_of_them(fitted):
    _, est, frames = fitted
    known = est.uncertainty(*frames)
    assert isinstance(known, Uncertainty)
    u = frames[0][:50]
    one, two = (est.prediction_intervals(u, records=each) for each in (frames, known))
    assert np.array_equal(one.lower, two.lower)
    with pytest.raises(TypeError, match="`records` must be a pair"):
        est.prediction_intervals(u, records=u)


def test_residual_tests_name_the_channels(fitted):
    _, est, frames = fitted
    assert "whiteness of level" in str(est.residual_tests(*frames))


def test_data_of_other_channels_are_refused(fitted):
    _, est, (u, y) = fitted
    with pytest.raises(ValueError, match="feature names"):
        est.uncertainty(u.rename(columns={"pump": "fan"}), y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.ConvergenceWarning")
def test_a_network_with_tanh_units_has_intervals():
    rng = np.random.default_rng(0)
    u = rng.standard_normal(1000)
    y = np.zeros(1000)
    for t in range(1, 1000):
        y[t] = 0.7 * y[t - 1] + np.tanh(2 * u[t - 1])
    y += 0.1 * rng.standard_normal(1000)
    est = SystemIdentifier(1, 1, "tanh", max_seconds=4).fit(u[:600], y[:600])
    found = est.prediction_intervals(u[600:], records=(u[:600], y[:600]))
    inside = (y[600:] >= found.lower[:, 0]) & (y[600:] <= found.upper[:, 0])
    assert inside[20:].mean() > 0.85


@pytest.mark.parametrize("unit", ["auto", "polynomial"])
def test_coefficients_of_polynomials_have_errors_wherever_they_were_fitted(unit, fitted):
    _, est, (u, y) = fitted
    model = est.linear_model_
    cubic = np.array([0.0, 1.0, 1e-6, 1e-6])
    activation = PerUnit([Polynomial([0.0, 1.0])] * (model.n_hidden - 1) + [Polynomial(cubic)])
    other = copy.copy(est)
    other.unit, other.model_ = unit, model.replace(activation=activation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # no fit ended there
        layout = other.uncertainty(u, y).layout
    assert layout.free_coefficients == ((),) * (model.n_hidden - 1) + ((1, 2, 3),)


def test_the_report_in_a_notebook_is_short(fitted):
    _, est, _ = fitted
    html = est.report_._repr_html_()
    assert html.startswith("<div>") and html.count("<table") == html.count("</table>") >= 2
    assert len(html) < 6000


def test_exports_are_methods_too(fitted, tmp_path):
    _, est, _ = fitted
    assert "tank_step" in est.export_c(tmp_path / "tank.c").read_text()


def test_the_report_tests_the_residuals_of_the_training_data(fitted):
    _, est, frames = fitted
    found, own = est.report_.residuals, est.residual_tests(*frames)
    assert np.allclose(found.dynamics, own.dynamics) and found.channels == est.channels_
    assert "dynamics valve → level" in str(est.report_)
    assert "dynamics valve → level" in est.report_._repr_html_()


@pytest.mark.parametrize("bad", first_of(["gaps", "spike", "trend"]))
def test_bad_samples_are_left_out_as_in_the_fit(bad, fitted):
    """Gaps, spikes and trends of the records that a fit took: whatever says something of errors."""
    _, _, (u, y) = fitted
    u, y = u.to_numpy(), y.to_numpy().copy()
    if bad == "gaps":
        y[::7] = np.nan
    elif bad == "spike":
        y[100] = 1e3
    else:
        y += np.linspace(0.0, 10.0 * y.std(), len(y))[:, None]
    est = SystemIdentifier(2, 0, detrend="linear" if bad == "trend" else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(u, y)
    table = est.characteristics(u, y)
    z = np.abs(table.poles.values - (0.8 + 0.3j)) / np.hypot(*table.poles.errors()[0])
    assert z < 5
    assert np.isfinite(est.residual_tests(u, y).whiteness).all()
    assert np.all(est.time_response(u, y, n_steps=10).errors > 0)
    assert np.isfinite(est.spectral_response(u, y).response).all()
    found = est.prediction_intervals(u[:50], records=(u, y))
    assert np.isfinite(found.lower).all()


WRONG = {
    "`skip` must be an integer, got 2.5": lambda est, u, y: est.score(u, y, skip=2.5, n_init=9),
    "`skip` must be at least 0": lambda est, u, y: est.score(u, y, skip=-1, n_init=9),
    "`y` has 5, and `n_init` is 9": lambda est, u, y: est.predict(u, y[:5], n_init=9),
    "`u` is missing": lambda est, u, y: est.characteristics(y=y),
    "`n_steps` must be an integer": lambda est, u, y: est.time_response(n_steps=2.5),
    "`n_lags` must be an integer": lambda est, u, y: est.residual_tests(u, y, n_lags=3.7),
    "`segment` must be an integer": lambda est, u, y: est.spectral_response(u, y, segment=100.5),
    "^`unit` is 'sine'": lambda est, u, y: SystemIdentifier(unit="sine").fit(u, y),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_numbers_are_refused_by_name(message, fitted):
    _, est, frames = fitted
    with pytest.raises((TypeError, ValueError), match=message):
        WRONG[message](est, *frames)
