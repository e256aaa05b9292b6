"""Dead times of plants that are tested by steps, pulses and stairs, and scans of all delays."""

import numpy as np
import pytest
from scipy.signal import lfilter

from gloree.identification._delay_scans import (
    FilterBank,
    _scan,
    input_normal_bank,
    laguerre_bank,
)
from gloree.identification._delays import _moving, find_delays
from gloree.identification._output_error import fit_inputs, squares_of
from gloree.identification._weighted_records import WeightedRecords


def records(u, y):
    y = (y - y.mean()) / y.std()
    return WeightedRecords((u[:, None],), (y[:, None],), (np.ones((len(u), 1)),))


def late(u, delay):
    return np.concatenate((np.full(delay, u[0]), u))[: len(u)]


def test_laguerre_filters_are_those_of_the_definition():
    u = np.concatenate(([0.0], np.random.default_rng(0).standard_normal(60)))
    pole, expected = 0.7, []
    column = lfilter([0.0, np.sqrt(1.0 - pole**2)], [1.0, -pole], u)
    for _ in range(4):
        expected.append(column)
        column = lfilter([-pole, 1.0], [1.0, -pole], column)
    np.testing.assert_allclose(
        laguerre_bank(pole, 4).filtered(u), np.transpose(expected), atol=1e-14
    )


@pytest.mark.parametrize(
    "bank",
    [laguerre_bank(0.9, 4), input_normal_bank(np.array([[0.9, 0.2], [-0.2, 0.9]]))],
    ids=["laguerre", "poles"],
)
def test_filters_are_orthonormal_for_white_noise(bank):
    n = bank.order
    np.testing.assert_allclose(bank.A @ bank.A.T + np.outer(bank.b, bank.b), np.eye(n), atol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_a_scan_has_the_squares_of_least_squares_with_every_delay(missing):
    """Correlations against columns that are shifted one by one."""
    rng = np.random.default_rng(1)
    most, banks = 6, [laguerre_bank(0.6, 2), laguerre_bank(0.8, 3)]
    u = [rng.standard_normal((n, 2)) for n in (40, 55, 2)]
    y = [rng.standard_normal((len(each), 2)) for each in u]
    w = [np.ones_like(each) for each in y]
    if missing:
        w[0][5:9, 1] = 0.0
    delays = np.array([0, 3])
    found = _scan(WeightedRecords(tuple(u), tuple(y), tuple(w)), 0, most, delays, banks)
    for d in range(most + 1):
        for j in range(2):
            filters, free, target, total = [], [], [], 0.0
            for r, inputs in enumerate(u):
                good = w[r][:, j] > 0.0
                moved = banks[0].filtered(inputs[:, 0])
                moved = np.vstack((np.zeros((d, 2)), moved))[: len(moved)]
                other = banks[1].filtered(late(inputs[:, 1], 3))
                runs = np.zeros((len(inputs), 9))
                runs[:, 3 * r] = 1.0
                runs[:, 3 * r + 1 : 3 * r + 3] = banks[0].free_runs(len(inputs))
                filters.append(np.hstack((moved, other))[good])
                free.append(runs[good])
                target.append(y[r][good, j])
                own = runs[good][:, 3 * r : 3 * r + 3]
                total += np.sum((target[-1] - own @ np.linalg.lstsq(own, target[-1])[0]) ** 2)
            W = np.hstack((np.vstack(filters), np.vstack(free)))
            values = np.concatenate(target)
            left = np.sum((values - W @ np.linalg.lstsq(W, values)[0]) ** 2)
            assert found[d, j] == pytest.approx(np.log(left / total), abs=1e-8)


def test_free_runs_of_a_bank_are_those_of_all_states_in_front():
    bank = FilterBank(np.array([[0.5, 0.1], [0.0, 0.3]]), np.array([1.0, 2.0]))
    runs = bank.free_runs(4)
    expected = [bank.b @ np.linalg.matrix_power(bank.A, t) for t in range(4)]
    np.testing.assert_allclose(runs, expected, atol=1e-15)


TESTS = ("one step", "pulse", "stairs", "telegraph")


def input_of(kind, n_rows, rng):
    u = np.zeros(n_rows)
    if kind == "one step":
        u[int(n_rows * rng.uniform(0.03, 0.4)) :] = 1.0
    elif kind == "pulse":
        start = int(n_rows * rng.uniform(0.05, 0.5))
        u[start : start + n_rows // 10] = 1.0
    elif kind == "stairs":
        for k in range(6):
            u[int(n_rows * (k + 0.5) / 7) :] = rng.standard_normal()
    else:
        u = np.repeat(np.sign(rng.standard_normal(n_rows // 25 + 1)), 25)[:n_rows]
    return u + 3.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", TESTS)
@pytest.mark.parametrize("delay", [8, 40])
def test_dead_times_of_slow_plants_without_noise_are_exact(kind, delay):
    """Time constants of fifty to a hundred and fifty samples: ARX models see none of these."""
    rng = np.random.default_rng(delay)
    poles = np.exp(-1.0 / rng.uniform(50.0, 150.0, 2))
    u = input_of(kind, 2000, rng)
    y = lfilter([0.0, 1.0, -rng.uniform(0.2, 0.9)], np.poly(poles), late(u, delay) - u[0])
    # a plant without direct path answers a sample later
    assert find_delays(records(u, y)).tolist() == [delay + 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TESTS)
def test_dead_times_in_noise_are_near(kind):
    rng = np.random.default_rng(7)
    u = input_of(kind, 400, rng)
    y = lfilter([0.0, 1.0], [1.0, -np.exp(-1.0 / 20.0)], late(u, 20) - u[0])
    y = y + 0.02 * y.std() * rng.standard_normal(400)
    assert abs(find_delays(records(u, y))[0] - 21) <= 2


def test_rows_where_inputs_move_are_looked_at():
    u = np.zeros(30_000)
    u[20_000:] = 1.0
    window = _moving(records(u, np.arange(30_000.0)), 5000)
    assert len(window.u[0]) == 5000
    assert np.ptp(window.u[0]) == 1.0
    white = np.random.default_rng(0).standard_normal(30_000)
    np.testing.assert_array_equal(_moving(records(white, white), 5000).u[0][:, 0], white[:5000])


def test_squares_of_a_fit_are_those_of_its_run_where_the_input_hardly_moves():
    """The equations predicted none where an input moves in one row, and a start was believed."""
    rng = np.random.default_rng(0)
    u = np.ones(352)
    u[0] = -2.0
    y = np.exp(-np.arange(352) / 40.0) * np.sin(np.arange(352) / 9.0)
    A = np.diag([0.45357, 0.74686, 0.99968, 0.98441, 0.98439])
    data = records(u, y)
    fit = fit_inputs(A, rng.standard_normal((1, 5)), data)
    assert fit.squares >= squares_of(fit.system, fit.states, data)
