"""Markov parameters from records."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.engine import Engine
from gloree.identification import impulse_response
from gloree.identification._markov import RIDGES, WELL_CONDITIONED, response_sums
from gloree.sequences import as_sequences

SERIAL = Engine("serial")

# normal equations of a few thousand rows: eps times the condition number of the windows (below
# ten for white inputs) times a factor for the sums
ALGEBRA = 1e-12
# A residual of zero is the root of a difference of squares: the root of eps, and some.
DIFFERENCE_OF_SQUARES = 1e-6
# Windows leave out two rows of 2000 at the start: a covariance is off by a few of these.
FIRST_ROWS = 0.01
# What a ridge leaves of the signal, as a share of the noise.
BIAS_OF_THE_RIDGE = 0.05


def fir(g, u, constant):
    """y_t = c + sum_j g_j u_(t-j), by a plain loop, with zeros before the start."""
    y = np.tile(np.asarray(constant, dtype=float), (len(u), 1))
    for t in range(len(u)):
        for j in range(min(len(g), t + 1)):
            y[t] += g[j] @ u[t - j]
    return y


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("lengths", [(3000,), (700, 1500, 300)])
def test_white_inputs_give_the_response_of_an_fir_system_exactly(n_inputs, n_outputs, lengths):
    rng = np.random.default_rng(0)
    g = rng.standard_normal((5, n_outputs, n_inputs))
    c = rng.standard_normal(n_outputs)
    records = [rng.standard_normal((n, n_inputs)) for n in lengths]
    data = as_sequences(records, [fir(g, u, c) for u in records])
    found = impulse_response(data, 8, SERIAL)
    assert found.ridge == 0.0
    np.testing.assert_allclose(found.parameters[:5], g, atol=ALGEBRA)
    np.testing.assert_allclose(found.parameters[5:], 0.0, atol=ALGEBRA)
    np.testing.assert_allclose(found.constant, c, atol=ALGEBRA)
    assert np.all(found.held_out_error < DIFFERENCE_OF_SQUARES)


def test_law_of_the_inputs_does_not_matter():
    rng = np.random.default_rng(1)
    g = rng.standard_normal((4, 1, 1))
    for u in (rng.uniform(0, 1, (2000, 1)), rng.choice([-1.0, 1.0], (2000, 1))):
        found = impulse_response(as_sequences(u, fir(g, u, [2.0])), 6, SERIAL)
        np.testing.assert_allclose(found.parameters[:4], g, atol=ALGEBRA)


def test_condition_is_that_of_the_covariance_of_the_windows():
    u = np.random.default_rng(2).standard_normal((2000, 1))
    found = impulse_response(as_sequences(u, u), 3, SERIAL)
    windows = np.column_stack([u[2:, 0], u[1:-1, 0], u[:-2, 0]])
    expected = np.linalg.cond(np.cov(windows.T))
    assert found.condition == pytest.approx(expected, rel=FIRST_ROWS)
    assert found.condition < WELL_CONDITIONED


def test_a_ridge_is_taken_only_where_inputs_do_not_excite_all_frequencies():
    rng = np.random.default_rng(3)
    g = 0.8 ** np.arange(6)[:, None, None]
    white = rng.standard_normal((4000, 1))
    smooth = np.convolve(white[:, 0], np.hanning(25) / 12, mode="same")[:, None]
    for u, ridged in ((white, False), (smooth, True)):
        y = fir(g, u, [0.0]) + 0.05 * rng.standard_normal(u.shape)
        found = impulse_response(as_sequences(u, y), 20, SERIAL)
        assert (found.condition > WELL_CONDITIONED) is ridged
        assert (found.ridge in RIDGES) is ridged
        assert np.all(np.isfinite(found.parameters))
        # what is predicted is the signal: the noise of 0.05 is left, within four standard errors
        # of the RMS of 800 residuals, and the bias of the ridge
        error = 4 / np.sqrt(2 * 800) + BIAS_OF_THE_RIDGE
        assert found.held_out_error[0] == pytest.approx(0.05, rel=error)


def test_sums_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(4)
    data = as_sequences(
        [rng.standard_normal((n, 2)) for n in (30, 50)],
        [rng.standard_normal((n, 1)) for n in (30, 50)],
    )
    whole = response_sums(data.whole())
    parts = [response_sums(data.select([i]).whole()) for i in range(2)]
    merged = parts[0].merge(parts[1])
    assert merged.n_rows == whole.n_rows
    for name in ("gram", "cross", "squares"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), atol=ALGEBRA * 80)


def test_short_records_still_leave_something_to_choose_the_ridge_by():
    rng = np.random.default_rng(5)
    g = rng.standard_normal((3, 1, 1))
    u = rng.standard_normal((80, 1))
    found = impulse_response(as_sequences(u, fir(g, u, [0.0])), 4, SERIAL)
    np.testing.assert_allclose(found.parameters[:3], g, atol=ALGEBRA)


class Recorder:
    """Runs passes, and keeps the batches that they visit."""

    def __init__(self):
        self.batches = []

    def run(self, function, data, *, label):
        self.batches += data.batches
        return SERIAL.run(function, data, label=label)


def test_no_pass_holds_more_than_a_batch_of_the_source():
    """Windows are made batch by batch: 80 % of a record are not one batch."""
    rng = np.random.default_rng(6)
    u = rng.standard_normal((70_000, 1))
    recorder = Recorder()
    found = impulse_response(as_sequences(u, u), 3, recorder)
    rows = [segments.n_counted for segments in recorder.batches]
    assert sum(rows) == 70_000
    # a batch ends with the piece that fills it
    assert max(rows) < 2 * 2**13
    assert len(rows) >= 5
    np.testing.assert_allclose(found.parameters[:, 0, 0], [1.0, 0.0, 0.0], atol=ALGEBRA)


def test_many_short_records_are_cut_within_a_batch():
    rng = np.random.default_rng(7)
    records = [rng.standard_normal((40, 1)) for _ in range(20)]
    recorder = Recorder()
    found = impulse_response(as_sequences(records, records), 3, recorder)
    assert [len(segments) for segments in recorder.batches] == [16, 4]
    assert found.sums.n_rows == 20 * 38
    np.testing.assert_allclose(found.parameters[:, 0, 0], [1.0, 0.0, 0.0], atol=ALGEBRA)
