"""Several directions from population moments: gradients, the formula itself, and exact recovery."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.differences import central
from helpers.marks import first_of
from helpers.tensors import power
from numpy.polynomial.hermite_e import hermegauss
from scipy.linalg import solve_discrete_lyapunov

from gloree.identification import LagTensors, find_directions
from gloree.identification._directions import (
    FIRST_LAG,
    LAST_LAG,
    N_FILTER,
    ShiftStructure,
    growing_directions,
)

# what the ridge of the filters moves a direction by is of the size of the ridge
NO_RIDGE = 1e-13
# so is what it moves shares by, times the condition of their least squares
SMALL_RIDGE = 1e-10
# the default ridge is 1e-6
DEFAULT_RIDGE = 1e-5
# a few dozen products of numbers of size one
ALGEBRA = 1e-12
# forty nodes are exact for polynomials and nearly so for exp; tanh has poles near the real axis
FORTY_NODES, TANH_BY_FORTY_NODES = 1e-9, 1e-5
# third derivatives of size one times STEP^2, and rounding of 1e-16 / ridge over STEP
STEP, DIFFERENCES = 1e-5, 1e-7
# an angle is the root of what its cosine lacks, which the search and rounding leave; shares are
# of the square of the angle
ANGLES, FITTED = 1e-6, 1e-9
LAGS = range(FIRST_LAG, LAST_LAG + 1)


def covariances():
    """R(s) = E[x_t x_(t+s)^T] of the whitened [h_(t-1), u_t] of three states, u white Gaussian.

    With z_(t+1) = F z_t + (0, u_(t+1)): E[z_t z_(t+s)^T] = P (F^s)^T, P = F P F^T + E.
    """
    F = np.zeros((4, 4))
    F[:3, :3] = [[0.5, 0.3, 0.0], [-0.3, 0.5, 0.0], [0.0, 0.0, -0.4]]
    F[:3, 3] = [1.0, 0.4, 1.0]
    P = solve_discrete_lyapunov(F, np.diag([0.0, 0.0, 0.0, 1.0]))
    values, vectors = np.linalg.eigh(P)
    W = vectors / np.sqrt(values)
    first = FIRST_LAG - N_FILTER + 1
    shifts = []
    for s in range(first, LAST_LAG + 1):
        moved = P @ np.linalg.matrix_power(F, abs(s)).T
        shifts.append(W.T @ (moved if s >= 0 else moved.T) @ W)
    return W, np.array(shifts), first


W, SHIFTS, FIRST = covariances()
# (direction, nonlinearity, filter of one or two outputs)
STEPS = np.arange(N_FILTER)
FILTERS = 0.5**STEPS, (-0.6) ** STEPS, 0.55**STEPS * np.cos(2.0 * STEPS)
DRAWN = np.random.default_rng(5).standard_normal((3, 4))
TRUE = DRAWN / np.linalg.norm(DRAWN, axis=1, keepdims=True)


def quadrature(function, n_nodes=40):
    """E[function(e)] of a standard normal variable."""
    nodes, weights = hermegauss(n_nodes)
    return float(function(nodes) @ weights / np.sqrt(2 * np.pi))


HERMITE = {2: lambda v: v**2 - 1, 3: lambda v: v**3 - 3 * v}


def population(branches, n_outputs=1):
    """Lag moments of r_t = sum_i sum_j g_ij f_i(w_i . x_(t-j)) by the formula."""
    tensors = {m: np.zeros((len(LAGS), n_outputs, *(4,) * m)) for m in (2, 3)}
    for w, f, g in branches:
        g = np.reshape(g, (N_FILTER, n_outputs))
        for m, T in tensors.items():
            c = quadrature(lambda v, m=m, f=f: f(v) * HERMITE[m](v))
            for place, k in enumerate(LAGS):
                for j in range(N_FILTER):
                    T[place] += c * np.multiply.outer(g[j], power(SHIFTS[k - j - FIRST] @ w, m))
    return LagTensors(W, np.zeros(4), tensors[2], tensors[3], SHIFTS)


def square(v):
    return v**2


def cube(v):
    return v**3


SYSTEMS = {
    "one square": [(TRUE[0], square, FILTERS[0])],
    "square and cube": [(TRUE[0], square, FILTERS[0]), (TRUE[1], cube, FILTERS[1])],
    "two squares": [(TRUE[0], square, FILTERS[0]), (TRUE[1], square, FILTERS[1])],
    "two cubes": [(TRUE[0], cube, FILTERS[0]), (TRUE[1], cube, FILTERS[1])],
    "two saturations": [
        (TRUE[0], lambda v: np.tanh(v + 0.5), FILTERS[0]),
        (TRUE[1], lambda v: np.tanh(2 * v - 0.3), FILTERS[1]),
    ],
    "two cubes, one filter": [(TRUE[0], cube, FILTERS[0]), (TRUE[1], cube, FILTERS[0])],
}


def cosines(found):
    """For every direction found, that of the angle to each true one; W has to be undone."""
    w = np.array([np.linalg.solve(W, direction.weights) for direction in found])
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1.0, rtol=ALGEBRA)
    return np.abs(w @ TRUE.T)


@pytest.mark.parametrize("f", [square, cube, np.tanh, lambda v: np.exp(v / 2)])
def test_moments_by_the_formula_are_those_of_quadrature(f):
    """T_k(p, .., p) = sum_j g_j E[f(w . x_(t+k-j)) He_m(p . x_t)]: a plane integral for each j."""
    g = np.zeros(N_FILTER)
    g[:3] = 1.0, -0.5, 0.25
    tensors = population([(TRUE[0], f, g)])
    p = TRUE[1]
    nodes, weights = hermegauss(40)
    weights = weights / np.sqrt(2 * np.pi)
    for m, T in ((2, tensors.second), (3, tensors.third)):
        for place, k in enumerate(LAGS):
            expected = 0.0
            for j in range(3):
                rho = p @ SHIFTS[k - j - FIRST] @ TRUE[0]
                # p . x = a and w . x = rho a + sqrt(1 - rho^2) b with a, b independent
                v = rho * nodes[:, None] + np.sqrt(1 - rho**2) * nodes[None, :]
                inner = f(v) @ weights
                expected += g[j] * float((HERMITE[m](nodes) * inner) @ weights)
            value = T[place, 0]
            for _ in range(m):
                value = value @ p
            tolerance = TANH_BY_FORTY_NODES if f is np.tanh else FORTY_NODES
            assert value == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("r", first_of([1, 2, 3]))
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_gradient_is_that_of_central_differences(r, n_outputs, ridge):
    rng = np.random.default_rng(r)
    filters = [np.outer(g, rng.standard_normal(n_outputs)) for g in FILTERS]
    tensors = population(
        [(w, lambda v: v**2 + v**3, g) for w, g in zip(TRUE, filters, strict=True)], n_outputs
    )
    structure = ShiftStructure(tensors, ridge=ridge)
    flat = rng.standard_normal(4 * r)
    value, gradient = structure.loss_and_gradient(flat)
    assert value == pytest.approx(structure.loss(flat), rel=ALGEBRA)
    slopes = central(structure.loss, flat, STEP)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=DIFFERENCES)
    # the length of a direction does not matter
    along = np.sum(gradient.reshape(r, 4) * flat.reshape(r, 4), axis=1)
    np.testing.assert_allclose(along, 0.0, atol=ALGEBRA)


def test_share_of_given_directions_is_that_of_a_plain_least_squares():
    tensors = population(SYSTEMS["two saturations"])
    w = np.random.default_rng(7).standard_normal((2, 4))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    shares = ShiftStructure(tensors, ridge=SMALL_RIDGE).shares(w)
    for (m, T), share in zip(((2, tensors.second), (3, tensors.third)), shares, strict=True):
        columns = []
        for direction in w:
            for j in range(N_FILTER):
                columns.append([power(SHIFTS[k - j - FIRST] @ direction, m) for k in LAGS])
        design = np.array(columns).reshape(2 * N_FILTER, -1).T
        fitted = design @ np.linalg.lstsq(design, T.ravel(), rcond=None)[0]
        assert share == pytest.approx(np.sum(fitted**2) / np.sum(T**2), abs=100 * SMALL_RIDGE)


@pytest.mark.parametrize("name", first_of(SYSTEMS, 2))
def test_directions_are_recovered_exactly(name):
    branches = SYSTEMS[name]
    r = len(branches)
    tensors = population(branches)
    found = find_directions(tensors, r, ridge=NO_RIDGE)
    match = cosines(found)[:, :r]
    # each true direction once; 1 - cos is half the square of the angle
    assert sorted(match.argmax(axis=1).tolist()) == list(range(r))
    angles = np.sqrt(2 * np.maximum(1 - match.max(axis=1), 0.0))
    assert angles.max() < ANGLES
    present = np.array([np.any(T) for _, T in ((2, tensors.second), (3, tensors.third))])
    np.testing.assert_allclose(np.array(found[0].explained)[present], 1.0, atol=FITTED)


@pytest.mark.slow
def test_the_default_ridge_moves_directions_by_little():
    found = find_directions(population(SYSTEMS["two saturations"]), 2)
    match = cosines(found)[:, :2]
    assert np.sqrt(2 * (1 - match.max(axis=1))).max() < DEFAULT_RIDGE


@pytest.mark.slow
def test_squares_behind_one_filter_give_the_plane_of_their_directions():
    branches = [(TRUE[0], square, FILTERS[0]), (TRUE[1], square, FILTERS[0])]
    found = find_directions(population(branches), 2, ridge=NO_RIDGE)
    w = np.array([np.linalg.solve(W, direction.weights) for direction in found])
    outside = w - w @ np.linalg.pinv(TRUE[:2]) @ TRUE[:2]
    np.testing.assert_allclose(outside, 0.0, atol=ANGLES)


@pytest.mark.slow
def test_more_directions_explain_more_and_come_in_the_order_of_their_gain():
    tensors = population(SYSTEMS["square and cube"])
    structure = ShiftStructure(tensors)
    losses = []
    for r, found in zip((1, 2), growing_directions(tensors), strict=False):
        again = find_directions(tensors, r)
        for one, other in zip(found, again, strict=True):
            np.testing.assert_array_equal(one.weights, other.weights)
        w = np.array([np.linalg.solve(W, direction.weights) for direction in found])
        losses.append(structure.loss(w))
        assert structure.shares(w) == pytest.approx(found[0].explained, rel=FITTED)
        single = [structure.loss(row) for row in w]
        assert min(single) == single[0]
    assert losses[0] > losses[1]


def test_directions_are_counted_from_one():
    tensors = population(SYSTEMS["one square"])
    with pytest.raises(ValueError, match="`n_directions` must be at least 1, got 0"):
        find_directions(tensors, 0)
