"""Gaps, spikes and trends of outputs: what is found, and what is not mistaken for one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from gloree.diagnostics import OutlierWarning
from gloree.identification import screen_records
from gloree.sequences import as_sequences

# a record without its trend, twice: rounding of a projection
ROUNDING = 1e-9


def response(u, f=np.tanh):
    inner = lfilter([1.0, 0.3], [1.0, -1.2, 0.5], u, axis=0)
    return lfilter([0.5, 0.4], [1.0, -0.7], f(inner), axis=0)


def record(n=2000, seed=0, f=np.tanh):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, 1))
    y = response(u, f)
    return u, y + 0.01 * y.std() * rng.standard_normal((n, 1))


def screened(u, y, detrend=None):
    return screen_records(as_sequences(u, y, check_finite=False), detrend)


@pytest.mark.parametrize("size", [20.0, 1e4, 1e150])
@pytest.mark.parametrize("seed", range(3))
def test_spikes_of_any_size_are_found(size, seed):
    u, y = record(seed=seed)
    rows = np.sort(np.random.default_rng(seed).choice(2000, 3, replace=False))
    y[rows] += size * y.std() * np.array([[1.0], [-1.0], [1.0]])
    found = screened(u, y)
    np.testing.assert_array_equal(found.spikes, rows)
    np.testing.assert_array_equal(np.flatnonzero(~found.counted), rows)
    (finding,) = found.findings
    assert finding.category is OutlierWarning
    assert all(str(row) in finding.text for row in rows)
    assert np.abs(found.data.Y).max() < 10 * np.abs(record(seed=seed)[1]).max()


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_in_the_last_row_is_found(seed):
    u, y = record(seed=seed)
    y[[700, -1]] += 20.0 * y.std()
    np.testing.assert_array_equal(screened(u, y).spikes, [700, 1999])


@pytest.mark.parametrize("n", [100, 317, 1000])
def test_the_end_of_smooth_outputs_is_no_spike(n):
    t = np.arange(n)[:, None]
    for y in (np.sin(0.05 * t), t**2 / n, np.cumsum(np.cos(0.3 * t), axis=0), 0.99**t):
        u = np.random.default_rng(n).standard_normal((n, 1))
        for noise in (0.0, 1e-6, 1e-2):
            assert not screened(u, y + noise * u[::-1]).spikes.size


def test_a_spike_of_one_output_leaves_the_row_out():
    u, y = record()
    y = np.hstack((y, 100.0 + 0.1 * np.roll(y, 3)))
    y[700, 1] -= 50.0
    np.testing.assert_array_equal(screened(u, y).spikes, [700])


def test_spikes_are_named_by_record():
    parts = [record(500, seed) for seed in range(3)]
    parts[1][1][123] += 1e3
    found = screened([u for u, _ in parts], [y for _, y in parts])
    assert "row(s) 123 of record 1" in found.findings[0].text


@pytest.mark.parametrize(
    "make",
    [
        lambda u: u**3,
        lambda u: np.exp(2 * u),
        lambda u: response(u, lambda v: v**3),
        lambda u: np.sign(u),
        lambda u: np.cumsum(u, axis=0),
        lambda u: lfilter([1.0], [1.0, -0.3], (u > 3).astype(float), axis=0),
    ],
    ids=["cubic", "exponential", "cubic cascade", "switch", "integrator", "rare pulses"],
)
@pytest.mark.parametrize("seed", range(3))
def test_what_an_input_causes_is_no_spike(make, seed):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((3000, 1))
    y = make(u)
    found = screened(u, y + 0.01 * y.std() * rng.standard_normal(y.shape))
    # of 3,000 samples a few of a distribution with such tails may be taken for outliers
    assert found.spikes.size <= 6


def test_steps_and_pulses_of_the_input_are_no_spikes():
    u = np.zeros((1000, 1))
    u[100:400], u[600:602], u[800] = 1.0, 5.0, -8.0
    y = response(u, lambda v: v)
    assert not screened(u, y).spikes.size
    assert not screened(u, y + 1e-3 * np.random.default_rng(0).standard_normal(y.shape)).spikes.size


@pytest.mark.parametrize("pole", [-0.8, -0.4, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_what_decays_from_the_start_of_a_record_is_no_spike(pole, seed):
    u = np.random.default_rng(seed).standard_normal((400, 1))
    y = lfilter([1.0], [1.0, -pole], u, axis=0)
    start = 300.0 * pole ** np.arange(400)[:, None]
    assert not screened(u, y + start).spikes.size
    # of every record, and the state that a record starts from is left to the fit
    both = screened([u, u], [y, y + start])
    assert both.counted.all() and not both.findings


@pytest.mark.parametrize("row", [1, 2, 5, 9])
def test_a_spike_soon_after_the_start_is_one(row):
    u, y = record()
    y[row] += 20.0 * y.std()
    np.testing.assert_array_equal(screened(u, y).spikes, [row])


def test_missing_outputs_are_counted_and_bridged():
    u, y = record()
    clean = y.copy()
    y[[5, 1999]], y[300:350] = np.nan, np.nan
    found = screened(u, y)
    assert found.n_missing == 52
    np.testing.assert_array_equal(np.flatnonzero(~found.counted), [5, *range(300, 350), 1999])
    np.testing.assert_array_equal(found.data.Y[found.counted], clean[found.counted])
    assert np.abs(found.data.Y - clean).max() < 3 * clean.std()


def test_outputs_without_any_value_are_errors():
    u, y = record(200)
    with pytest.raises(ValueError, match=r"`y` has no value in column 0, all 200 are missing"):
        screened(u, np.full_like(y, np.nan))
    with pytest.raises(ValueError, match=r"`y\[1\]` has no value .* leave that record out"):
        screened([u, u], [y, np.full_like(y, np.nan)])
    with pytest.raises(ValueError, match=r"`y\[1\]` is constant while its input moves"):
        screened([u, u], [y, np.full_like(y, 3.0)])
    half = np.hstack((y, y))
    half[::2, 0] = half[1::2, 1] = np.nan
    with pytest.raises(ValueError, match="no row without a missing value"):
        screened(u, half)


@pytest.mark.parametrize("detrend", ["nonsense", "Linear", 1, ("linear",)])
def test_only_trends_that_there_are_can_be_taken_out(detrend):
    with pytest.raises(ValueError, match="`detrend` must be None, 'constant' or 'linear', got"):
        screened(np.zeros((80, 1)), np.zeros((80, 1)), detrend)


def test_a_trend_beside_the_response_is_named():
    u, y = record()
    ramp = np.linspace(0.0, 20.0 * y.std(), 2000)[:, None]
    (finding,) = screened(u, y + ramp).findings
    assert finding.text.startswith("output 0 drifts over the record")
    assert "detrend='linear'" in finding.remedy
    # the same ramp that the input causes is no drift
    driven = u + np.linspace(0.0, 20.0, 2000)[:, None]
    assert not screened(driven, response(driven, lambda v: v)).findings


def test_trends_are_taken_from_inputs_and_outputs_of_every_record():
    parts = [record(500, seed) for seed in range(2)]
    time = np.linspace(-0.5, 0.5, 500)[:, None]
    inputs = [u + 3.0 + 2.0 * time for u, _ in parts]
    outputs = [
        y + level + slope * time
        for (_, y), level, slope in zip(parts, (5.0, -1.0), (9.0, 4.0), strict=True)
    ]
    for detrend, degree in (("constant", 0), ("linear", 1)):
        data = screened(inputs, outputs, detrend).data
        for values, given in ((data.X, inputs), (data.Y, outputs)):
            whole = np.concatenate(given).mean()
            for i in range(2):
                own = np.asarray(values)[500 * i : 500 * (i + 1), 0]
                line = np.polyfit(time[:, 0], own, degree)
                expected = [0.0] * degree + [whole]
                np.testing.assert_allclose(line, expected, atol=ROUNDING * np.abs(own).max())
