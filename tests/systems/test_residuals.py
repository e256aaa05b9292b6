"""Residual tests: rejected as often as they should be, and where something is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.systems import linear_network
from scipy import signal, stats
from test_bands import noisy, refined

from gloree import SystemIdentifier
from gloree.sequences import as_sequences
from gloree.systems import at_records, residual_tests

N_REPEATS = 60
TOO_MANY = int(stats.binom.ppf(0.9999, N_REPEATS, 0.05))
"""Rejections at 5 % of so many repetitions that chance gives once in ten thousand times."""


def examined(truth, rng, n=500, pole=0.0):
    u, y = noisy(truth, n, rng, pole=pole)
    records, size = as_sequences(u, y), y.std(axis=0)
    return residual_tests(at_records(refined(truth, records, size, 3), records, output_size=size))


@pytest.mark.slow
@pytest.mark.parametrize("pole", [0.0, 0.8])
def test_limits_hold_for_white_and_for_coloured_noise(pole):
    rng = np.random.default_rng(1)
    truth = linear_network([0.8 + 0.3j], 1, 1, rng)
    found = [examined(truth, rng, pole=pole) for _ in range(N_REPEATS)]
    assert sum(t.dynamics[0, 0] < 0.05 for t in found) <= TOO_MANY
    assert sum(t.feedback[0, 0] < 0.05 for t in found) <= TOO_MANY
    outside = np.mean([np.abs(t.cross_correlation) > t.cross_limits for t in found])
    assert 0.03 < outside < 0.07
    rejected = sum(t.whiteness[0] < 0.05 for t in found)
    assert rejected == N_REPEATS if pole else rejected <= TOO_MANY


def test_dynamics_that_the_model_misses_are_seen(rng):
    truth = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    u, y = noisy(truth, 800, rng)
    records, size = as_sequences(u, y), y.std(axis=0)
    small = refined(linear_network([0.6], 1, 1, rng), records, size, 3)
    found = residual_tests(at_records(small, records, output_size=size))
    assert found.dynamics[0, 0] < 1e-6
    assert "the model misses a part of them" in str(found)


def test_feedback_is_seen(rng):
    truth = linear_network([0.8], 1, 1, rng).replace(direct_weights=[[0.0]])
    noise = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal((1000, 1)), axis=0)
    u, y = np.zeros((1000, 1)), np.zeros((1000, 1))
    drive = rng.standard_normal((1000, 1))
    h = 0.0
    for t in range(1000):
        u[t] = drive[t] - 0.5 * (y[t - 1] if t else 0.0)
        h = truth.recurrent_weights[0, 0] * h + truth.input_weights[0, 0] * u[t, 0]
        y[t] = truth.output_weights[0, 0] * h + noise[t]
    found = residual_tests(at_records(truth, as_sequences(u, y)))
    assert found.feedback[0, 0] < 1e-3
    assert "the input follows the output" in str(found)


def test_dynamics_that_are_missed_under_a_smooth_input_are_not_taken_for_feedback(rng):
    truth = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    u = signal.lfilter([1.0], [1.0, -0.95], rng.standard_normal((1500, 1)), axis=0)
    clean = truth.predict(u)
    y = clean + 0.05 * clean.std() * rng.standard_normal(clean.shape)
    records, size = as_sequences(u, y), y.std(axis=0)
    small = refined(linear_network([0.6], 1, 1, rng), records, size, 3)
    found = residual_tests(at_records(small, records, output_size=size))
    echo = found.input_lags < 0
    assert (np.abs(found.cross_correlation) > found.cross_limits)[echo].any()
    assert found.dynamics[0, 0] < 1e-6 and found.feedback[0, 0] > 1e-3


def test_correlations_are_those_of_a_plain_loop(rng):
    truth = linear_network([0.8], 2, 2, rng)
    u, y = noisy(truth, 300, rng)
    records = as_sequences(u, y)
    at = at_records(truth, records)
    found = residual_tests(at, n_lags=4)
    r, v = at.residuals[0], u - u.mean(axis=0)
    for lag in range(-4, 5):
        total = sum(r[t, 1] * v[t - lag, 0] for t in range(300) if 0 <= t - lag < 300)
        scale = np.sqrt(np.sum(v[:, 0] ** 2) * 300 * at.noise.covariance[1, 1])
        # the mean square of the input is taken over all lags, each less a few samples
        assert np.isclose(found.cross_correlation[lag + 4, 1, 0], total / scale, rtol=0.02)
    expected = np.sum(r[2:, 0] * r[:-2, 0]) / np.sum(r[:, 0] ** 2)
    assert np.isclose(found.autocorrelation[1, 0], expected)


def test_lags_beyond_the_record_are_refused(rng):
    truth = linear_network([0.8], 1, 1, rng)
    at = at_records(truth, as_sequences(*noisy(truth, 100, rng)))
    with pytest.raises(ValueError, match="`n_lags` is 100, expected from 1 to 99"):
        residual_tests(at, n_lags=100)


def fitted(seed, n_linear=2):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(1500)
    y = signal.lfilter([0.0, 0.0, 0.3], [1.0, -1.5, 0.7], u) + 0.05 * rng.standard_normal(1500)
    est = SystemIdentifier(n_linear, 0, max_seconds=3, engine="serial").fit(u, y)
    return est, u, y


@pytest.mark.slow
def test_a_fit_that_ends_beside_its_least_squares_is_not_taken_for_a_wrong_model():
    """Fits end a fraction of a standard error away: residuals are tested at the least squares."""
    values = [fitted(seed)[0].report_.residuals.dynamics[0, 0] for seed in range(6)]
    assert sum(p < 0.05 for p in values) <= stats.binom.ppf(0.9999, 6, 0.05)


@pytest.mark.slow
def test_a_state_too_few_is_seen_in_the_residuals():
    assert fitted(0, n_linear=1)[0].report_.residuals.dynamics[0, 0] < 1e-6


@pytest.mark.slow
def test_intervals_of_an_estimator_start_where_its_predictions_do():
    est, u, y = fitted(0)
    known = est.uncertainty(u, y)
    for start in (None, "rest", "equilibrium"):
        intervals = est.prediction_intervals(u[:200], records=known, initial=start)
        expected = est.predict(u[:200], initial=start)
        np.testing.assert_allclose(intervals.mean[:, 0], expected, atol=1e-12)
    other = fitted(1)[0]
    with pytest.raises(ValueError, match="the uncertainty of another network"):
        other.prediction_intervals(u[:200], records=known)
    with pytest.raises(ValueError, match="`u` is masked"):
        est.prediction_intervals(np.ma.masked_less(u[:200], -2.0), records=known)
