"""Scores are derivatives of the density (:eq:`score`), and Stein's identity holds (:eq:`stein`)."""

from math import perm

import numpy as np
import pytest
from helpers.generators import stable_chain
from helpers.quadrature import ALGEBRA, assert_close, grid, mean
from helpers.tensors import contract, power

from gloree.chains import GaussianVAR
from gloree.score_functions import (
    joint_score,
    partial_score,
    window_score,
    window_score_covariance,
)

# Interpolation of an entire function at 17 Chebyshev points, in units in which it changes by a
# factor e: the fourth derivative loses about 17^4 x 2^4 roundings, mixed ones as many each.
DERIVATIVE = 1e-8


def derivative(chain, X, first, m, second=None, k=0):
    """(-1)^(m+k) d^m d^k p / p along two directions of the whole sequence, from log_density.

    Returns the value within DERIVATIVE times the natural size of such a derivative.
    """
    second = np.zeros_like(first) if second is None else second
    units = [natural_unit(chain, X, direction) for direction in (first, second)]
    points = 0.5 * np.cos(np.pi * (np.arange(17) + 0.5) / 17)
    other = points if k else np.zeros(1)
    moved = X + points[:, None, None, None] * first / units[0]
    moved = moved + other[None, :, None, None] * second / units[1]
    change = chain.log_density(moved.reshape(-1, *X.shape)) - chain.log_density(X[np.newaxis])
    ratio = np.exp(change).reshape(17, len(other))

    def at_zero(values, order):
        fit = np.polynomial.Chebyshev.fit(points, values, 16, domain=[-0.5, 0.5])
        return fit.deriv(order)(0.0) if order else fit(0.0)

    along = np.array([at_zero(column, m) for column in ratio.T])
    size = units[0] ** m * units[1] ** k
    value = (-1) ** (m + k) * (at_zero(along, k) if k else along[0])
    return pytest.approx(size * value, rel=0, abs=DERIVATIVE * size)


def natural_unit(chain, X, direction):
    """Slope plus root curvature of the log-density along a direction."""
    below, here, above = chain.log_density(np.stack((X - direction, X, X + direction)))
    return max(abs(above - below) / 2 + np.sqrt(abs(above + below - 2 * here)), 1e-3)


CHAINS = [
    pytest.param(0, id="independent"),
    pytest.param(1, id="order1"),
    pytest.param(2, id="order2"),
    pytest.param(3, id="order3"),
]


@pytest.mark.parametrize("order", CHAINS)
@pytest.mark.parametrize("n_steps", [1, 2, 3, 7])
def test_partial_score_is_derivative_of_density(order, n_steps):
    """S_m(t) = (-1)^m grad^m p / p for m = 1..4, at every step of sequences of any length."""
    chain = stable_chain(order, 2, order) if order else GaussianVAR(np.zeros((0, 2, 2)), np.eye(2))
    rng = np.random.default_rng(n_steps)
    X = chain.sample(1, n_steps, rng)[0]
    for m in (1, 2, 3, 4):
        S = partial_score(chain, X, m)
        assert S.shape == (n_steps, *(2,) * m)
        for t in range(n_steps):
            v = rng.standard_normal(2)
            direction = np.zeros_like(X)
            direction[t] = v
            expected = derivative(chain, X, direction, m)
            assert contract(S[t], *[v] * m) == expected


@pytest.mark.parametrize("order", CHAINS[1:])
@pytest.mark.parametrize(("orders", "lag"), [((1, 1), 1), ((1, 2), 1), ((2, 2), 1), ((2, 1), 2)])
@pytest.mark.parametrize("n_steps", [2, 3, 6])
def test_joint_score_is_mixed_derivative_of_density(order, orders, lag, n_steps):
    """S_{m,m'}(t, t - lag) = (-1)^(m+m') grad^m grad^m' p / p."""
    chain = stable_chain(order + 10, 2, order)
    rng = np.random.default_rng(n_steps)
    X = chain.sample(1, n_steps, rng)[0]
    S = joint_score(chain, X, orders, lag=lag)
    assert S.shape == (max(n_steps - lag, 0), *(2,) * sum(orders))
    for t in range(lag, n_steps):
        u, v = rng.standard_normal((2, 2))
        first, second = np.zeros_like(X), np.zeros_like(X)
        first[t], second[t - lag] = u, v
        expected = derivative(chain, X, first, orders[0], second, orders[1])
        actual = contract(S[t - lag], *[u] * orders[0], *[v] * orders[1])
        assert actual == expected


@pytest.mark.parametrize("order", CHAINS[1:])
@pytest.mark.parametrize("lags", [1, 2, 4])
def test_window_score_is_derivative_of_density(order, lags):
    """The score of (x_t, .., x_{t-l+1}), most recent first, given the rest; both edges."""
    chain = stable_chain(order + 20, 2, order)
    rng = np.random.default_rng(lags)
    n_steps = 7
    X = chain.sample(1, n_steps, rng)[0]
    for m in (1, 2, 3):
        S = window_score(chain, X, lags, m)
        assert S.shape == (n_steps - lags + 1, *(2 * lags,) * m)
        for t in range(lags - 1, n_steps):
            v = rng.standard_normal((lags, 2))
            direction = np.zeros_like(X)
            direction[t - lags + 1 : t + 1] = v[::-1]
            expected = derivative(chain, X, direction, m)
            actual = contract(S[t - lags + 1], *[v.ravel()] * m)
            assert actual == expected


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_stein_identity(m, order):
    """(St): E[G (x) S_m(t) g] = E[grad^m_{x_t} G g] for g that does not depend on x_t."""
    chain = stable_chain(30, 2, order)
    X, w = grid(chain, 3, degree=4 + m + 2)
    S = partial_score(chain, X, m)
    rng = np.random.default_rng(m)
    u, v = rng.standard_normal((2, 3, 2))
    projection = np.einsum("nti,ti->n", X, u)
    for t in range(3):
        others = v.copy()
        others[t] = 0.0
        g = (1.0 + np.einsum("nti,ti->n", X, others)) ** 2
        gradient = perm(4, m) * mean(w, projection ** (4 - m), g) * power(u[t], m)
        assert_close(mean(w, projection**4, S[:, t], g), gradient)


@pytest.mark.parametrize("order", [1, 2])
def test_joint_stein_identity(order):
    """E[G (x) S_{1,2}(t, t-1)] = E[grad_{x_t} grad^2_{x_{t-1}} G]."""
    chain = stable_chain(31, 2, order)
    X, w = grid(chain, 3, degree=8)
    S = joint_score(chain, X, (1, 2))
    u = np.random.default_rng(3).standard_normal((3, 2))
    projection = np.einsum("nti,ti->n", X, u)
    for t in (1, 2):
        expected = perm(4, 3) * mean(w, projection) * np.multiply.outer(u[t], power(u[t - 1], 2))
        assert_close(mean(w, projection**4, S[:, t - 1]), expected)


@pytest.mark.parametrize("n_steps", [2, 3, 4])
def test_neighbouring_scores_have_covariance_minus_p_phi(n_steps):
    """Cov(s_t, s_{t-1}) = -P Phi at order 1, the block of the joint precision, edges included."""
    chain = stable_chain(32, 1) if n_steps == 4 else stable_chain(32, 2)
    X, w = grid(chain, n_steps, degree=2)
    s = partial_score(chain, X)
    P, Phi = chain.precision, chain.coefficients[0]
    for t in range(1, n_steps):
        assert_close(mean(w, s[:, t], s[:, t - 1]), -P @ Phi)
        assert_close(chain.precision_block(t, n_steps - 1 - t, 1), -P @ Phi)


def test_closed_forms_of_order_one():
    """First, interior and last score and covariance of a VAR(1): :eq:`var1`."""
    chain = stable_chain(33, 3)
    X = chain.sample(1, 4, 0)[0]
    P, Phi = chain.precision, chain.coefficients[0]
    x = X - chain.mean
    u = (x[1:] - x[:-1] @ Phi.T) @ P
    s = partial_score(chain, X)
    gamma_inverse = np.linalg.inv(chain.stationary_covariance)
    assert_close(s[0], gamma_inverse @ x[0] - Phi.T @ u[0], ALGEBRA)
    assert_close(s[1], u[0] - Phi.T @ u[1])
    assert_close(s[3], u[2])
    K = P + Phi.T @ P @ Phi
    assert_close(chain.precision_blocks()[0], K)
    assert_close(chain.precision_blocks()[1], P)
    assert_close(chain.precision_blocks()[2], gamma_inverse + Phi.T @ P @ Phi)
    assert_close(chain.precision_blocks()[3], gamma_inverse)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 6])
def test_score_covariance_is_precision_block(order, n_steps):
    """E[s s^T] of the whole sequence is the inverse of a stationary covariance."""
    chain = stable_chain(34, 2, order)
    joint = chain.joint_precision(n_steps)
    covariance = np.linalg.inv(joint).reshape(n_steps, 2, n_steps, 2)
    for lag in range(n_steps):
        # Stationarity ties the blocks along each diagonal of the covariance.
        for t in range(lag, n_steps):
            assert_close(covariance[t, :, t - lag], covariance[lag, :, 0])
    blocks = joint.reshape(n_steps, 2, n_steps, 2)
    for t in range(n_steps):
        assert_close(chain.precision_block(t, n_steps - 1 - t), blocks[t, :, t])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("lags", [1, 2, 3])
def test_window_score_covariance_is_block_of_joint_precision(order, lags):
    chain = stable_chain(35, 2, order)
    n_steps = 8
    joint = chain.joint_precision(n_steps).reshape(n_steps, 2, n_steps, 2)
    for t in range(lags - 1, n_steps):
        steps = np.arange(t, t - lags, -1)
        expected = joint[steps][:, :, steps].reshape(2 * lags, 2 * lags)
        actual = window_score_covariance(chain, lags, before=t, after=n_steps - 1 - t)
        assert_close(actual, expected)
    assert_close(
        window_score_covariance(chain, lags),
        window_score_covariance(chain, lags, before=50, after=50),
    )


def test_order_four_hermite_form():
    """S_4 = s^4 - 6 sym(s^2 K) + 3 sym(K K), spelt out."""
    chain = stable_chain(36, 2)
    X = chain.sample(1, 3, 0)[0]
    s, K = partial_score(chain, X)[1], chain.precision_blocks()[0]
    v = np.array([0.3, -1.1])
    a, q = s @ v, v @ K @ v
    expected = a**4 - 6 * a**2 * q + 3 * q**2
    assert contract(partial_score(chain, X, 4)[1], v, v, v, v) == pytest.approx(expected)
