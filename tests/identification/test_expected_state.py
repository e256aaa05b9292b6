"""The state before a record of which only inputs are known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.naive import run_from
from scipy.signal import lfilter

from gloree.identification._expected_state import STEPS_BEFORE, expected_states, persistence
from gloree.models import IORNN
from gloree.sequences import as_sequences

# sums of a thousand terms that fade
ALGEBRA = 1e-11

MEAN = np.array([2.0, -1.0])  # of the inputs of a fit: linear states are zero there
A1 = np.array([[0.5, 0.1], [0.2, -1.0], [0.3, 0.3]])
U = np.array([[0.9, 0.0, 0.2], [0.1, 0.7, 0.0], [0.0, 0.1, 0.1]])


def expected_state(model, u):
    return expected_states(model, as_sequences(u))[0]


def network(U=U):
    bias = np.append(-A1[:2] @ MEAN, 0.1)
    return IORNN(A1, U, np.ones((3, 1)), bias, activation=["linear", "linear", "tanh"])


def autoregression(phi, n=4000, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n + 500, 2))
    return (
        MEAN
        + np.column_stack(
            [lfilter([1], [1, -p], noise[500 - 500 :, i]) for i, p in enumerate(phi)]
        )[500:]
    )


def test_inputs_that_stand_still_mean_the_equilibrium():
    model = network()
    first = np.array([1.0, 3.0])
    # the slowest linear state decays to 1/e in ten rows
    for n_still in (10, 200):
        u = np.concatenate((np.tile(first, (n_still, 1)), autoregression((0.5, 0.5), 300)))
        np.testing.assert_array_equal(expected_state(model, u), model.equilibrium(first))
    u = np.tile(first, (3, 1))  # all there is
    np.testing.assert_array_equal(expected_state(model, u), model.equilibrium(first))


@pytest.mark.parametrize("phi", [(0.0, 0.0), (0.9, 0.5), (0.99, 0.0)])
def test_otherwise_inputs_moved_before_the_record_as_in_it(phi):
    model, u = network(), autoregression(phi)
    found = persistence(u)
    errors = np.sqrt((1 - np.square(phi)) / 4000)
    assert np.all(np.abs(found - phi) < 5 * errors)  # one of them is taken off
    before = [MEAN + found**age * (u[0] - MEAN) for age in range(STEPS_BEFORE, 0, -1)]
    _, state = run_from(model, before, np.zeros(3))
    assert_close(expected_state(model, u), state, ALGEBRA)


@pytest.mark.slow
@pytest.mark.parametrize("phi, other", [(0.5, "equilibrium"), (0.97, "rest")])
def test_the_expected_state_is_nearer_to_the_truth(phi, other):
    model, gains = network(), []
    for seed in range(60):
        u = autoregression((phi, phi), 700, seed)
        _, truth = model.predict(u[:300], return_state=True)
        state = model.equilibrium(u[300]) if other == "equilibrium" else np.zeros(3)
        error = np.sum((expected_state(model, u[300:]) - truth) ** 2)
        gains.append(np.sum((state - truth) ** 2) - error)
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / np.sqrt(60)


def test_an_integrator_starts_from_what_a_thousand_rows_leave():
    model = network(np.diag([1.0, 0.7, 0.1]))
    u = autoregression((0.0, 0.0))
    state = expected_state(model, u)
    assert np.all(np.abs(state) < 1.0)
    still = np.tile(MEAN, (50, 1))
    assert_close(expected_state(model, still)[:2], np.zeros(2), ALGEBRA)


def test_a_network_that_runs_away_before_the_record_starts_from_zeros():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    u = np.random.default_rng(0).standard_normal((50, 1)) + 3.0
    np.testing.assert_array_equal(expected_state(model, u), [0.0])


def test_few_rows_tell_nothing_about_their_persistence():
    u = np.random.default_rng(1).standard_normal((4, 1))
    assert 0.0 <= persistence(u)[0] < 0.5
    assert persistence(np.ones((1, 1)))[0] == 1.0


def test_records_side_by_side_are_those_alone():
    model = network()
    records = [autoregression((0.8, 0.3), n, n) for n in (40, 1, 700)]
    records.append(np.tile(MEAN, (30, 1)))
    together = expected_states(model, as_sequences(records))
    alone = np.array([expected_state(model, u) for u in records])
    assert_close(together, alone, ALGEBRA)
