"""Least squares of the free run, with the states in front of all records among the unknowns."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.state_spaces import random_state_space as random_system
from helpers.state_spaces import records_of

from gloree.identification._output_error import (
    OutputErrorFit,
    _equations,
    basis_of_changes,
    fit_inputs,
    prior_of_states,
    refine,
    squares_of,
    with_states,
)
from gloree.identification._realisation import PoleLimit, pulled_inside
from gloree.identification._weighted_records import WeightedRecords

SIZES = [(2, 1, 1, [400]), (3, 2, 2, [90, 300, 100]), (2, 1, 2, [30] * 12)]


@pytest.mark.parametrize(("n", "d", "q", "lengths"), SIZES)
def test_states_in_front_of_all_records_are_found(n, d, q, lengths):
    rng = np.random.default_rng(0)
    system = random_system(rng, n, d, q, radius=0.9)
    records, x = records_of(rng, system, lengths)
    found = with_states(system, records)
    np.testing.assert_allclose(found.states, x, atol=1e-7)
    assert found.error < 1e-9


@pytest.mark.parametrize(("n", "d", "q", "lengths"), SIZES)
def test_inputs_offset_and_states_follow_from_the_poles(n, d, q, lengths):
    rng = np.random.default_rng(1)
    system = random_system(rng, n, d, q, radius=0.9)
    records, _ = records_of(rng, system, lengths)
    found = refine(fit_inputs(system.A, system.C, records), records, 2)
    assert squares_of(found.system, found.states, records) < 1e-12 * records.n_counted
    np.testing.assert_allclose(found.system.response(20), system.response(20), atol=1e-5)
    np.testing.assert_allclose(found.system.c, system.c, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences_over_every_unknown():
    rng = np.random.default_rng(2)
    system = random_system(rng, 3, 2, 2, radius=0.9)
    records, x = records_of(rng, system, [40, 41], noise=0.5)
    hidden = [w * (rng.random(w.shape) < 0.8) for w in records.w]
    records = records.weighted(hidden)
    tangent = basis_of_changes(system)
    prior = prior_of_states(system, x, records, 0.1)
    x = x + _equations(system, x, records, prior, free=False, tangent=None).gains[:, :, -1]
    parts = _equations(system, x, records, prior, free=True, tangent=tangent)

    def cost(step):
        change = tangent @ step[: tangent.shape[1]]
        A = system.A + change[:9].reshape(3, 3).T
        C = system.C + change[9:].reshape(2, 3)
        B, D, c = np.split(step[tangent.shape[1] :], (6, 10))
        moved = type(system)(
            A, system.B + B.reshape(2, 3).T, C, system.D + D.reshape(2, 2), system.c + c
        )
        # x_0 by least squares, as the equations eliminate it, with the equilibrium of `system`
        best = 0.0
        for u, y, w in zip(records.u, records.y, records.w, strict=True):
            free = moved.simulate(u, np.zeros(3))[0]
            decays = np.array([C @ np.linalg.matrix_power(A, t) for t in range(len(u))])
            root = np.linalg.cholesky(prior).T
            rows = np.vstack(((decays * w[..., None]).reshape(-1, 3), root))
            target = np.concatenate((((y - free) * w).ravel(), root @ system.equilibrium(u[0], 41)))
            solution = np.linalg.lstsq(rows, target, rcond=None)[0]
            best += np.sum((target - rows @ solution) ** 2)
        return best

    size = parts.reduced.shape[0] - 1
    assert parts.reduced[-1, -1] == pytest.approx(cost(np.zeros(size)))
    steps = 1e-5 * np.eye(size)
    slopes = np.array([(cost(step) - cost(-step)) / 2e-5 for step in steps])
    np.testing.assert_allclose(-2.0 * parts.reduced[:-1, -1], slopes, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2, 4, 6])
@pytest.mark.parametrize(("d", "q"), [(1, 1), (2, 2)])
def test_systems_without_noise_are_found_from_poles_that_are_wrong(order, d, q):
    rng = np.random.default_rng(order)
    system = random_system(rng, order, d, q)
    records, x = records_of(rng, system, [1500])
    A = pulled_inside(system.A + 0.02 * rng.standard_normal(system.A.shape), PoleLimit(0.99))
    found = refine(fit_inputs(A, system.C, records), records, 100)
    squares = squares_of(found.system, found.states, records)
    variance = np.var(records.y[0], axis=0).sum() * len(records.y[0])
    assert squares < 1e-8 * variance
    first = found.system.C @ found.states[0]
    np.testing.assert_allclose(first, system.C @ x[0], atol=1e-5 * np.abs(records.y[0]).max())


def test_rows_that_do_not_count_change_nothing():
    rng = np.random.default_rng(7)
    system = random_system(rng, 2, 1, 1)
    records, _ = records_of(rng, system, [300, 200], noise=0.1)
    weights = [w.copy() for w in records.w]
    weights[0][100:150] = 0.0
    hidden = records.weighted(weights)
    spoilt = [y.copy() for y in records.y]
    spoilt[0][100:150] = np.nan
    missing = WeightedRecords(records.u, tuple(spoilt), hidden.w)
    start = fit_inputs(system.A, system.C, hidden)
    again = fit_inputs(system.A, system.C, missing)
    np.testing.assert_array_equal(start.system.B, again.system.B)
    a, b = refine(start, hidden, 5), refine(again, missing, 5)
    np.testing.assert_array_equal(a.states, b.states)


def test_poles_stay_within_their_limit():
    rng = np.random.default_rng(8)
    u = rng.standard_normal((400, 1))
    y = np.cumsum(u, axis=0) * 0.1
    records = WeightedRecords((u,), (y,), (np.ones_like(y),))
    start = fit_inputs(np.array([[0.9]]), np.array([[1.0]]), records)
    free, held = refine(start, records, 50), refine(start, records, 50, limit=PoleLimit(0.98))
    assert np.abs(held.system.poles).max() <= 0.98
    assert 0.999 < np.abs(free.system.poles).max() < 1.0
    assert free.error < 1e-3 < held.error


def test_a_search_that_is_ended_returns_what_it_has():
    rng = np.random.default_rng(9)
    system = random_system(rng, 2, 1, 1)
    records, _ = records_of(rng, system, [300], noise=0.1)
    start = fit_inputs(0.9 * system.A, system.C, records)
    end = refine(start, records, 50, ended=lambda: True)
    assert end.n_steps == 0
    assert end.error == pytest.approx(start.error)
    assert isinstance(end, OutputErrorFit)
