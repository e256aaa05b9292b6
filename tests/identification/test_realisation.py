"""Ho-Kalman realisations of exact Markov parameters."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.systems import modal_matrix, pole_distance

from gloree.identification import ho_kalman, linear_model
from gloree.identification._realisation import (
    LARGEST_RADIUS,
    hankel_matrix,
    modal_form,
    stabilised,
)

# The Hankel matrix is exact to eps times its largest singular value, and the realisation divides
# by the smallest that is kept: states are exact to eps times their ratio, poles to that times the
# condition number of the modes. The factor covers the norms of blocks and the number of states.
EPS = np.finfo(float).eps
FACTOR = 100.0
# A check with a tolerance above this would say nothing; singular values below this share of the
# others are none.
MEANINGFUL, NO_VALUE = 1e-6, 1e-3
# The radius is restored from eigenvectors: to rounding times their condition.
RESTORED = 1e-6
# Pairs have equal sizes up to rounding.
ROUNDING = 1e-12
# A difference of outputs, against the residual that the library kept.
RESIDUAL = 1e-10
# The ridge of the least squares for outputs, relative to the diagonal.
RIDGE = 1e-10
ORDERS = [1, 2, 3, 4, 5, 7, 10, 13, 16, 20]


def fitted_parameters(realisation, g):
    """C by least squares on g_1, g_2, .., and the response C U^k B."""
    powers = [realisation.inputs]
    for _ in range(g.shape[0] - 1):
        powers.append(realisation.transition @ powers[-1])
    states = np.concatenate(powers[1:], axis=1)
    response = np.concatenate(list(g[1:]), axis=1)
    C = np.linalg.lstsq(states.T, response.T, rcond=None)[0].T
    return np.array([C @ power for power in powers[1:]])


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("order", ORDERS)
def test_rank_of_the_hankel_matrix_is_the_order(make_system, order, n_inputs, n_outputs):
    system, _ = make_system(order, n_inputs, n_outputs)
    H = hankel_matrix(system.parameters(121))
    assert H.shape == (60 * n_outputs, 60 * n_inputs)
    values = np.linalg.svd(H, compute_uv=False)
    assert values[order] < 60 * EPS * values[0] < NO_VALUE * values[order - 1]


def test_hankel_blocks_are_the_parameters_from_the_first_on():
    g = np.arange(7 * 3 * 2, dtype=float).reshape(7, 3, 2)
    H = hankel_matrix(g)
    assert H.shape == (9, 6)
    for i in range(3):
        for j in range(3):
            np.testing.assert_array_equal(H[3 * i : 3 * i + 3, 2 * j : 2 * j + 2], g[i + j + 1])


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("order", ORDERS)
def test_exact_parameters_give_poles_and_response(make_system, order, n_inputs, n_outputs):
    system, poles = make_system(order, n_inputs, n_outputs)
    g = system.parameters(121)
    found = ho_kalman(g, order)
    values = found.singular_values
    tolerance = FACTOR * order * EPS * values[0] / values[order - 1]
    assert tolerance < MEANINGFUL
    assert found.order == order
    assert found.n_moved == 0
    assert found.inputs.shape == (order, n_inputs)
    _, vectors = np.linalg.eig(found.transition)
    assert pole_distance(found.poles, poles) < tolerance * np.linalg.cond(vectors)
    response = fitted_parameters(found, g)
    np.testing.assert_allclose(response, g[1:], rtol=0, atol=tolerance * np.abs(g).max())


@pytest.mark.parametrize("order", [1, 4, 9])
def test_modes_are_the_blocks_of_the_realisation(make_system, order):
    system, _ = make_system(order)
    found = ho_kalman(system.parameters(61), order)
    np.testing.assert_array_equal(np.concatenate(found.modes), np.arange(order))
    outside = np.ones((order, order), dtype=bool)
    for mode in found.modes:
        assert len(mode) in (1, 2)
        outside[np.ix_(mode, mode)] = False
    assert not found.transition[outside].any()


@pytest.mark.parametrize("order", [0, 9, 10, -1])
def test_unsupported_orders_are_errors(make_system, order):
    system, _ = make_system(2)
    with pytest.raises(ValueError, match=r"`order` is .* support orders from 1 to 8"):
        ho_kalman(system.parameters(18), order)


def test_noisy_parameters_give_a_stable_realisation_of_any_order():
    g = np.random.default_rng(0).standard_normal((60, 1, 1))
    for order in (1, 5, 15, 29):
        found = ho_kalman(g, order)
        assert np.abs(found.poles).max() <= LARGEST_RADIUS + RESTORED
        assert np.all(np.isfinite(found.inputs))


def test_a_zero_response_has_a_realisation():
    found = ho_kalman(np.zeros((20, 1, 1)), 2)
    assert np.all(np.isfinite(found.transition))
    assert np.all(np.isfinite(found.inputs))


# ------------------------------------------------------------------------------- stable poles


@pytest.mark.parametrize("order", [1, 2, 6, 20])
def test_stable_matrices_stay_as_they_are_to_the_bit(make_system, order):
    U = make_system(order)[0].U
    same, n_moved = stabilised(U)
    assert same is U
    assert n_moved == 0


def test_poles_outside_are_reflected_and_poles_at_the_edge_pulled_in():
    pair = 1.25 * np.exp(0.7j)
    poles = np.array([pair, pair.conj(), 0.5, -2.0, 0.9999, 1.00001])
    blocks = modal_matrix([pair, *poles[2:]])
    change = np.random.default_rng(1).standard_normal((6, 6))
    U = change @ blocks @ np.linalg.inv(change)
    moved, n_moved = stabilised(U)
    expected = np.array(
        [
            pair / 1.25**2,
            pair.conj() / 1.25**2,
            0.5,
            -0.5,
            LARGEST_RADIUS,
            LARGEST_RADIUS,
        ]
    )
    assert n_moved == 5
    assert moved.dtype == float
    # the double pole at the edge is known only to the root of rounding times the condition
    tolerance = np.sqrt(EPS) * np.linalg.cond(change)
    assert pole_distance(np.linalg.eigvals(moved), expected) < tolerance


def test_states_that_are_stable_keep_their_directions():
    """Modes are left alone: only the eigenvalue of the unstable one changes."""
    change = np.random.default_rng(2).standard_normal((3, 3))
    U = change @ np.diag([0.3, 0.8, 1.5]) @ np.linalg.inv(change)
    moved, _ = stabilised(U)
    expected = change @ np.diag([0.3, 0.8, 1 / 1.5]) @ np.linalg.inv(change)
    np.testing.assert_allclose(moved, expected, atol=FACTOR * EPS * np.linalg.cond(change))


@pytest.mark.parametrize("order", ORDERS)
def test_modal_form_is_block_diagonal_and_similar(make_system, order):
    U = make_system(order, seed=3)[0].U
    M, T, modes = modal_form(U)
    outside = np.ones((order, order), dtype=bool)
    sizes = []
    for mode in modes:
        outside[np.ix_(mode, mode)] = False
        sizes.append(np.abs(np.linalg.eigvals(M[np.ix_(mode, mode)])).max())
    assert not M[outside].any()
    np.testing.assert_array_equal(np.concatenate(modes), np.arange(order))
    assert np.all(np.diff(sizes) < ROUNDING)  # decreasing
    tolerance = FACTOR * order * EPS * np.linalg.cond(T)
    np.testing.assert_allclose(U @ T, T @ M, atol=tolerance)


def test_modal_form_pairs_equal_moduli_by_their_angles():
    """Two pairs of the same modulus, and a real pole of it."""
    U = modal_matrix([*(0.8 * np.exp(1j * np.array([0.5, 1.5]))), 0.8])
    change = np.random.default_rng(4).standard_normal((5, 5))
    U = change @ U @ np.linalg.inv(change)
    M, T, modes = modal_form(U)
    assert sorted(len(mode) for mode in modes) == [1, 2, 2]
    tolerance = FACTOR * EPS * np.linalg.cond(T) * np.linalg.cond(change)
    np.testing.assert_allclose(U @ T, T @ M, atol=tolerance)


# ------------------------------------------------------------------------------- linear models


@pytest.mark.parametrize(("order", "n_inputs", "n_outputs"), [(1, 1, 1), (6, 1, 1), (5, 2, 3)])
def test_linear_model_of_the_true_realisation_leaves_nothing(
    make_system, order, n_inputs, n_outputs
):
    system, _ = make_system(order, n_inputs, n_outputs)
    u = np.random.default_rng(5).standard_normal((800, n_inputs))
    y = system(u)
    found = ho_kalman(system.parameters(121), order)
    model = linear_model(found, u, y)
    # the condition of modal states magnifies the ridge
    ridge = RIDGE * np.linalg.cond(np.column_stack((model.h, u))) ** 2
    assert ridge < MEANINGFUL
    np.testing.assert_allclose(model.model.predict(u), y, atol=10 * ridge * np.abs(y).max())
    np.testing.assert_allclose(model.residual, y - model.model.predict(u), atol=RESIDUAL)
    for mode in model.realisation.modes:
        assert np.sqrt(np.mean(model.h[:, mode] ** 2)) == pytest.approx(1.0)
    np.testing.assert_array_equal(model.entering[0, :order], 0.0)
    np.testing.assert_array_equal(model.entering[1:, :order], model.h[:-1])
    np.testing.assert_array_equal(model.entering[:, order:], u)
    short = model.shortened(100)
    np.testing.assert_array_equal(short.h, model.h[:100])
