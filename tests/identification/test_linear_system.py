"""Linear systems as values: runs from any state, coordinates, networks, dead times."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.state_spaces import random_state_space as random_system

from gloree.identification._linear_system import (
    LinearSystem,
    modal,
    network_of,
    observability_gramian,
    output_normal,
    propagate,
    with_delays,
)
from gloree.identification._output_error import balanced
from gloree.identification._weighted_records import WeightedRecords, shifted

SIZES = [(1, 1, 1, 3), (3, 2, 1, 63), (4, 1, 2, 500), (2, 2, 70, 130)]


@pytest.mark.parametrize(("n", "k", "r", "n_rows"), SIZES)
def test_states_side_by_side_are_those_of_a_plain_loop(n, k, r, n_rows):
    rng = np.random.default_rng(0)
    A = random_system(rng, n, 1, 1).A
    v, x = rng.standard_normal((r, n_rows, k, n)), rng.standard_normal((r, k, n))
    states, end = propagate(A, v, x)
    for t in range(n_rows):
        np.testing.assert_allclose(states[:, t], x, atol=1e-12)
        x = x @ A.T + v[:, t]
    np.testing.assert_allclose(end, x, atol=1e-12)


def test_simulation_and_response_are_those_of_the_equations():
    rng = np.random.default_rng(1)
    s = random_system(rng, 3, 2, 2)
    u, x = rng.standard_normal((40, 2)), rng.standard_normal(3)
    y, states, end = s.simulate(u, x)
    for t in range(40):
        np.testing.assert_allclose(states[t], x, atol=1e-12)
        np.testing.assert_allclose(y[t], s.C @ x + s.D @ u[t] + s.c, atol=1e-12)
        x = s.A @ x + s.B @ u[t]
    np.testing.assert_allclose(end, x, atol=1e-12)
    g = s.response(5)
    np.testing.assert_allclose(g[0], s.D)
    np.testing.assert_allclose(g[4], s.C @ np.linalg.matrix_power(s.A, 3) @ s.B, atol=1e-12)


def test_a_state_at_equilibrium_stays_there():
    rng = np.random.default_rng(2)
    s = random_system(rng, 4, 2, 1)
    u = np.array([0.3, -2.0])
    x = s.equilibrium(u)
    np.testing.assert_allclose(s.A @ x + s.B @ u, x, atol=1e-10)


def test_gramian_is_the_sum_over_a_decay_and_normal_coordinates_make_it_one():
    s = random_system(np.random.default_rng(3), 3, 1, 2, radius=1.0)
    plain = sum(
        np.linalg.matrix_power(s.A, t).T @ s.C.T @ s.C @ np.linalg.matrix_power(s.A, t)
        for t in range(64)
    )
    np.testing.assert_allclose(observability_gramian(s.A, s.C, 64), plain)
    changed = s.changed(output_normal(s.A, s.C, 64))
    gramian = observability_gramian(changed.A, changed.C, 64)
    np.testing.assert_allclose(gramian, np.eye(3), atol=1e-9)


def test_a_gramian_that_overflows_is_refused():
    """A large nilpotent part whose poles rounding moves: powers grow all the same."""
    A = np.array([[1e-3, 1e160], [1e-150, 1e-3]])
    with pytest.raises(np.linalg.LinAlgError, match="overflow"):
        observability_gramian(A, np.eye(2), 64)


def test_a_balanced_system_keeps_its_response_when_states_without_effect_are_cut():
    rng = np.random.default_rng(4)
    small = random_system(rng, 2, 1, 1, radius=0.8)
    big = LinearSystem(
        np.block([[small.A, rng.standard_normal((2, 1))], [np.zeros((1, 2)), 0.5]]),
        np.vstack((small.B, [[0.0]])),  # the third state is not reached
        np.hstack((small.C, [[1.0]])),
        small.D,
        small.c,
    )
    values, T, inverse = balanced(big.A, big.B, big.C, 500)
    assert values[2] < 1e-6 * values[0]
    cut = LinearSystem(
        inverse[:2] @ big.A @ T[:, :2], inverse[:2] @ big.B, big.C @ T[:, :2], big.D, big.c
    )
    np.testing.assert_allclose(cut.response(30), small.response(30), atol=1e-7)


@pytest.mark.parametrize("poles", [[0.9, 0.5, -0.3], [0.7, 0.7, 0.0], [0.0, 0.0, 0.0]])
def test_networks_run_as_their_systems_whatever_the_poles_are(poles):
    rng = np.random.default_rng(5)
    A = np.diag(poles) + np.diag([1.0, 1.0], k=1)  # equal poles are defective
    n = len(poles)
    s = LinearSystem(
        A, rng.standard_normal((n, 2)), rng.standard_normal((1, n)), np.ones((1, 2)), np.ones(1)
    )
    u = rng.standard_normal((50, 2))
    y = s.simulate(u, np.zeros(n))[0]
    np.testing.assert_allclose(network_of(s).predict(u), y, atol=1e-9)
    blocks, T, modes = modal(s)
    assert sorted(np.concatenate(modes).tolist()) == list(range(n))
    np.testing.assert_allclose(blocks.simulate(u, T @ np.zeros(n))[0], y, atol=1e-6)


@pytest.mark.parametrize("delays", [(0, 0), (2, 0), (1, 4)])
@pytest.mark.parametrize("pole", [0.6, 0.0])
def test_a_network_with_delays_sees_delayed_inputs(delays, pole):
    rng = np.random.default_rng(6)
    s = random_system(rng, 2, 2, 1)
    s = LinearSystem(np.diag([pole, 0.3]), s.B, s.C, s.D, s.c)
    u = rng.standard_normal((60, 2))
    u[:10] = 0.0  # windows have zeros in front of a record
    late = WeightedRecords((u,), (u,), (np.ones_like(u),))
    late = shifted(late, np.array(delays)).u[0]
    for k, delay in enumerate(delays):
        np.testing.assert_array_equal(late[delay:, k], u[: 60 - delay, k])
        np.testing.assert_array_equal(late[:delay, k], u[0, k])
    model = network_of(s)
    np.testing.assert_allclose(
        with_delays(model, np.array(delays)).predict(u), model.predict(late), atol=1e-12
    )
