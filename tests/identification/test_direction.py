"""Moments over output lags, and the direction that a nonlinearity sees."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from helpers.marks import first_of
from scipy.optimize import minimize
from scipy.signal import lfilter

from gloree.identification import find_directions, lag_tensors
from gloree.identification._directions import (
    FIRST_LAG,
    FIRST_SHIFT,
    LAST_LAG,
    ShiftStructure,
)

# sums of sixty terms of size one
ALGEBRA = 1e-11
# the variance of a combination of whitened columns, of 30,000 rows
UNIT_VARIANCE = 1e-8
# forward differences of steps 1e-8 leave gradients of 1e-5, and losses and cosines of its square
SAME_LOSS, SAME_DIRECTION = 1e-9, 1e-6


def naive_tensors(X, residual):
    """Second- and third-order moments by the definition, over all indices."""
    n, d = X.shape
    r = residual - residual.mean(axis=0)
    r = r - X @ (X.T @ r / n)
    lags = range(FIRST_LAG, LAST_LAG + 1)
    tensors = []
    for order in (2, 3):
        T = np.zeros((len(lags), r.shape[1], *(d,) * order))
        for index in product(range(d), repeat=order):
            feature = np.prod(X[:, list(index)], axis=1)
            feature = feature - feature.mean()
            feature = feature - X @ (X.T @ feature / n)
            for place, k in enumerate(lags):
                for t in range(n):
                    if 0 <= t + k < n:
                        T[(place, slice(None), *index)] += r[t + k] * feature[t] / n
        tensors.append(T)
    return tensors


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_tensors_are_those_of_naive_loops(n_outputs):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 2)) + 3.0
    residual = rng.standard_normal((60, n_outputs)) + 1.0
    found = lag_tensors(z, residual)
    X = (z - found.mean) @ found.whitening
    np.testing.assert_allclose(X.T @ X / 60, np.eye(2), atol=ALGEBRA)
    np.testing.assert_allclose(X.mean(axis=0), 0.0, atol=ALGEBRA)
    second, third = naive_tensors(X, residual)
    np.testing.assert_allclose(found.second, second, atol=ALGEBRA)
    np.testing.assert_allclose(found.third, third, atol=ALGEBRA)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_rows_far_from_all_others_do_not_count(n_outputs):
    rng = np.random.default_rng(3)
    z = rng.standard_normal((400, 2)) @ rng.standard_normal((2, 2)) + 3.0
    far = [17, 18, 250]
    z[far] += [[40.0, -90.0], [9.0, 0.0], [700.0, 5.0]]  # the second is hidden by the others
    residual = rng.standard_normal((400, n_outputs))
    found = lag_tensors(z, residual)
    X = (z - found.mean) @ found.whitening
    X[far] = 0.0
    n = 397
    np.testing.assert_allclose(X.T @ X / n, np.eye(2), atol=ALGEBRA)
    r = residual - residual.mean(axis=0)
    r = r - X @ (X.T @ r / n)
    square = X[:, :, None] * X[:, None, :]
    square -= square.sum(axis=0) / n
    square -= np.einsum("ti,ijk->tjk", X, np.einsum("ti,tjk->ijk", X, square) / n)
    square[far] = 0.0
    expected = np.einsum("ta,tij->aij", r, square) / n  # at lag zero
    np.testing.assert_allclose(found.second[-FIRST_LAG], expected, atol=ALGEBRA)


@pytest.mark.parametrize("seed", range(3))
def test_a_splice_of_a_smooth_input_does_not_outweigh_all_other_rows(seed):
    rng = np.random.default_rng(seed)
    n = 4000
    u = lfilter([1.0], np.poly([0.8] * 4), rng.standard_normal(n))
    u[2000:] = np.roll(u, -700)[2000:] / u.std()
    u[:2000] /= u[:2000].std()
    z = np.column_stack([np.concatenate((np.zeros(lag), u[: n - lag])) for lag in range(4)])
    v = z @ [0.4, 0.3, 0.2, 0.1]
    y = np.convolve(v**2 + 0.3 * v**3, [0.5, 0.3, 0.2])[:n]
    (found,) = find_directions(lag_tensors(z, y[:, None]), 1)
    assert found.explained[0] > 0.9  # 0.1 to 0.2 with the rows at the splice


def test_shifts_are_the_covariances_of_neighbouring_steps():
    rng = np.random.default_rng(1)
    z = lfilter([1.0], [1.0, -0.6], rng.standard_normal((70, 2)), axis=0)
    found = lag_tensors(z, rng.standard_normal((70, 1)))
    X = (z - found.mean) @ found.whitening
    assert found.shifts.shape[0] == LAST_LAG - FIRST_SHIFT + 1
    for place, s in enumerate(range(FIRST_SHIFT, LAST_LAG + 1)):
        expected = np.zeros((2, 2))
        for t in range(70):
            if 0 <= t + s < 70:
                expected += np.outer(X[t], X[t + s]) / 70
        np.testing.assert_allclose(found.shifts[place], expected, atol=ALGEBRA)


def test_moments_need_a_record_that_holds_all_lags():
    rng = np.random.default_rng(0)
    lag_tensors(rng.standard_normal((45, 2)), rng.standard_normal((45, 1)))
    with pytest.raises(ValueError, match=r"`z` has 44 rows, .* take 45 at least"):
        lag_tensors(rng.standard_normal((44, 2)), rng.standard_normal((44, 1)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z, r: (z, r[:-1]), "`residual` has 59 rows, and `z` has 60"),
        (lambda z, r: (np.where(np.arange(60)[:, None] == 41, np.nan, z), r), "`z` .* row 41"),
        (lambda z, r: (z, np.where(np.arange(60)[:, None] == 7, np.inf, r)), "`residual` .* row 7"),
    ],
)
def test_rows_that_do_not_fit_are_named(change, words):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=words):
        lag_tensors(*change(rng.standard_normal((60, 2)), rng.standard_normal((60, 1))))


def test_dependent_columns_are_left_out():
    rng = np.random.default_rng(2)
    z = rng.standard_normal((60, 2))
    found = lag_tensors(np.column_stack((z, z.sum(axis=1))), rng.standard_normal((60, 1)))
    assert found.whitening.shape == (3, 2)


NONLINEARITIES = {
    "even": lambda v: v**2,
    "odd": lambda v: v**3,
    "mixed": lambda v: np.tanh(v + 0.7) + 0.3 * v**2,
    "saturation": np.tanh,
}


def wiener_hammerstein(f, n_rows=30_000, seed=0):
    """States of the first filter with the input, the direction, and the output."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n_rows)
    states = np.column_stack([lfilter([1.0], [1.0, -a], u) for a in (0.8, 0.3)])
    entering = np.vstack((np.zeros((1, 2)), states[:-1]))
    z = np.column_stack((entering, u))
    w = np.array([1.0, -1.5, 0.6])
    w /= (z @ w).std()
    return z, w, lfilter([0.5, 0.4], [1.0, -0.7], f(z @ w))


@pytest.mark.parametrize("kind", first_of(NONLINEARITIES))
def test_direction_of_a_wiener_hammerstein_system_is_found(kind):
    z, w, y = wiener_hammerstein(NONLINEARITIES[kind])
    # what is linear in the windows of the input is not of interest
    windows = np.column_stack([np.roll(z[:, 2], lag) for lag in range(40)] + [np.ones(len(y))])
    residual = (y - windows @ np.linalg.lstsq(windows, y, rcond=None)[0])[:, None]
    (found,) = find_directions(lag_tensors(z, residual), 1)
    v = z @ found.weights + found.offset
    # with 30,000 rows the moments have standard errors of one percent: three of them leave an
    # angle of a twentieth, cosine 0.999; the error of what is not Gaussian comes on top
    assert abs(np.corrcoef(v, z @ w)[0, 1]) > 0.99
    assert v.mean() == pytest.approx(0.0, abs=ALGEBRA)
    assert v.std() == pytest.approx(1.0, rel=UNIT_VARIANCE)
    shares = dict(zip(("even", "odd"), found.explained, strict=True))
    relevant = {"even": ("even",), "odd": ("odd",), "saturation": ("odd",)}
    for name in relevant.get(kind, ("even",)):
        assert shares[name] > 0.9
    assert all(-0.01 < share < 1.01 for share in found.explained)


@pytest.mark.parametrize("kind", first_of(["even", "mixed"]))
def test_a_descent_without_gradients_ends_where_the_exact_one_does(kind):
    z, _, y = wiener_hammerstein(NONLINEARITIES[kind], n_rows=5000)
    tensors = lag_tensors(z, y[:, None])
    structure = ShiftStructure(tensors)
    (direction,) = find_directions(tensors, 1)
    found = np.linalg.lstsq(tensors.whitening, direction.weights, rcond=None)[0]
    drawn = np.random.default_rng(4).standard_normal((8, found.shape[0]))
    ends = [minimize(structure.loss, start, method="BFGS") for start in drawn]
    best = min(ends, key=lambda end: end.fun)
    assert structure.loss(found) <= best.fun + SAME_LOSS
    cosine = abs(found @ best.x) / np.linalg.norm(found) / np.linalg.norm(best.x)
    assert cosine == pytest.approx(1.0, abs=SAME_DIRECTION)


def test_two_outputs_share_the_direction():
    z, w, first = wiener_hammerstein(NONLINEARITIES["even"])
    second = lfilter([1.0], [1.0, 0.5], (z @ w) ** 2)
    (found,) = find_directions(lag_tensors(z, np.column_stack((first, second))), 1)
    assert abs(np.corrcoef(z @ found.weights, z @ w)[0, 1]) > 0.99


def test_a_residual_of_zeros_has_some_direction():
    z = np.random.default_rng(3).standard_normal((200, 2))
    (found,) = find_directions(lag_tensors(z, np.zeros((200, 1))), 1)
    assert np.all(np.isfinite(found.weights))
    assert found.explained == (0.0, 0.0)
