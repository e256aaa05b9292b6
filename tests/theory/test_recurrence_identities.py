"""Three ways to the recurrence (:doc:`/theory/recurrence`), exact at every step that has a past."""

from math import factorial

import numpy as np
import pytest
from helpers.generators import stable_chain
from helpers.marks import first_of
from helpers.quadrature import (
    ALGEBRA,
    CUBIC,
    QUADRATIC,
    assert_close,
    grid,
    make_network,
    mean,
    polynomial,
)
from helpers.tensors import power, symmetrise

from gloree.score_functions import joint_score, partial_score

# Relative rounding of one quadrature: eps times the growth of its terms beyond their sum.
QUADRATURE_ROUNDING = 1e-13


@pytest.mark.parametrize("order", first_of([1, 2], 2))
@pytest.mark.parametrize("n_steps", [2, 3])
def test_score_moment_of_order_l_squared(n_steps, order):
    """(a) E[y_t (x) S_4(t-1)] = 4! c_2^3 sum_i A2_i (x) sym[(sum_j U_ij a_j a_j^T)^2]."""
    chain = stable_chain(0, 2, order)
    network = make_network(1, 2, QUADRATIC)
    X, w = grid(chain, n_steps, degree=2**n_steps + 4)
    y, S = network.outputs(X), partial_score(chain, X, 4)
    inner = np.einsum("ij,jp,jq->ipq", network.U, network.A1, network.A1)
    expected = sum(
        np.multiply.outer(A2_i, symmetrise(np.multiply.outer(M, M)))
        for A2_i, M in zip(network.A2, inner, strict=True)
    )
    expected = factorial(4) * QUADRATIC.coef[2] ** 3 * expected
    for t in range(1, n_steps):
        assert_close(mean(w, y[:, t], S[:, t - 1]), expected)


def cross_moment(network, degree, leading):
    terms = np.zeros((2, *(2,) * (2 * degree - 1)))
    for i, (A2_i, a_i) in enumerate(zip(network.A2, network.A1, strict=True)):
        for j, a_j in enumerate(network.A1):
            outer = np.multiply.outer(power(a_i, degree - 1), power(a_j, degree))
            terms += network.U[i, j] * np.multiply.outer(A2_i, outer)
    return factorial(degree) ** 2 * leading**2 * terms


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n_steps", [2, 3])
def test_cross_moment_quadratic(n_steps, order):
    """(b) E[y_t (x) S_{1,2}(t, t-1)] = (2! c_2)^2 sum_ij U_ij A2_i (x) a_i (x) a_j a_j^T."""
    chain = stable_chain(2, 2, order)
    network = make_network(3, 2, QUADRATIC)
    X, w = grid(chain, n_steps, degree=2**n_steps + 3)
    y, S = network.outputs(X), joint_score(chain, X, (1, 2))
    for t in range(1, n_steps):
        assert_close(mean(w, y[:, t], S[:, t - 1]), cross_moment(network, 2, QUADRATIC.coef[2]))


def test_cross_moment_cubic():
    """(b) for l = 3: S_{2,3}(t, t-1), order 5."""
    chain = stable_chain(4, 2)
    network = make_network(5, 2, CUBIC)
    X, w = grid(chain, 2, degree=14)
    y, S = network.outputs(X), joint_score(chain, X, (2, 3))
    assert_close(mean(w, y[:, 1], S[:, 0]), cross_moment(network, 3, CUBIC.coef[3]))


def test_cross_moment_at_interior():
    """(b) away from both ends: step 3 of 4, and of a chain of order 2."""
    for order in (1, 2):
        chain = stable_chain(6, 1, order)
        network = make_network(7, 1, QUADRATIC)
        X, w = grid(chain, 5, degree=11)
        y, S = network.outputs(X), joint_score(chain, X, (1, 2))
        expected = 4 * QUADRATIC.coef[2] ** 2
        expected *= np.einsum(
            "ij,ia,ip,jq,jr->apqr", network.U, network.A2, network.A1, network.A1, network.A1
        )
        assert_close(mean(w, y[:, 2], S[:, 1]), expected)


def instrument_gains(network, f, z, g, w):
    degree = f.degree()
    gains = factorial(degree) * f.coef[degree] * mean(w, z, g)
    return gains + factorial(degree - 1) * f.coef[degree - 1] * mean(w, g)


@pytest.mark.parametrize("order", first_of([1, 2], 2))
@pytest.mark.parametrize("f", [QUADRATIC, CUBIC], ids=["quadratic", "cubic"])
def test_instrument_moment(f, order):
    """(c) M_g = sum_i A2_i (x) a_i^(l-1) (l! c_l E[z_i g] + (l-1)! c_{l-1} E[g])."""
    degree = f.degree()
    chain = stable_chain(8, 2, order)
    network = make_network(9, 2, f)
    n_steps = 3 if degree == 2 else 2
    X, w = grid(chain, n_steps, degree=degree**n_steps + degree + 5)
    z, h = network.run(X)
    y, S = network.outputs(X), partial_score(chain, X, degree - 1)
    for t in range(1, n_steps):
        past = h[:, t - 1, 0]
        other = X[:, t + 1, 1] if t + 1 < n_steps else X[:, t - 1, 0]
        for g in (np.ones_like(past), past, past * other):
            gains = instrument_gains(network, f, z[:, t], g, w)
            expected = sum(
                gain * np.multiply.outer(A2_i, power(a_i, degree - 1))
                for gain, A2_i, a_i in zip(gains, network.A2, network.A1, strict=True)
            )
            assert_close(mean(w, y[:, t], S[:, t], g), expected)


@pytest.mark.parametrize("n_outputs", first_of([1, 2], 2))
@pytest.mark.parametrize("f", [QUADRATIC, CUBIC], ids=["quadratic", "cubic"])
def test_instrument_recovers_recurrence_and_bias(f, n_outputs):
    """(c) Psi solves for E[z g]; instruments (1, h_{t-1}) then give (U, b), at every step."""
    degree = f.degree()
    chain = stable_chain(10, 2)
    network = make_network(11, 2, f, n_outputs=n_outputs)
    n_steps = 3 if degree == 2 else 2
    X, w = grid(chain, n_steps, degree=degree**n_steps + degree ** (n_steps - 1) + degree)
    _, h = network.run(X)
    y, S = network.outputs(X), partial_score(chain, X, degree - 1)
    A1, A2 = network.A1, network.A2
    psi = (A2 @ A2.T) * (A1 @ A1.T) ** (degree - 1)
    for t in range(1, n_steps):
        g = np.column_stack((h[:, t - 1], np.ones(len(w))))
        M = mean(w, y[:, t], S[:, t], g)
        letters = "pq"[: degree - 1]
        contracted = np.einsum(
            f"a{letters}g,ia,{','.join('i' + x for x in letters)}->ig", M, A2, *[A1] * len(letters)
        )
        zg = np.linalg.solve(psi, contracted)
        zg -= factorial(degree - 1) * f.coef[degree - 1] * mean(w, g)
        zg /= factorial(degree) * f.coef[degree]
        regress = zg - A1 @ mean(w, X[:, t], g)
        estimate = np.linalg.solve(mean(w, g, g).T, regress.T).T
        # Two linear systems multiply the rounding of the quadrature by their conditions.
        tolerance = QUADRATURE_ROUNDING * np.linalg.cond(psi) * np.linalg.cond(mean(w, g, g))
        assert_close(estimate, np.column_stack((network.U, network.b)), ALGEBRA + tolerance)


def test_instrument_of_residuals_is_exact_for_right_input_and_output_weights():
    """(c) Psi E[(z - z^) g] l! c_l = contraction of E[(y - y^) (x) S_1 g], U^ and b^ wrong."""
    chain = stable_chain(12, 2)
    truth = make_network(13, 2, QUADRATIC)
    wrong = make_network(14, 2, QUADRATIC)
    wrong.A1, wrong.A2 = truth.A1, truth.A2
    X, w = grid(chain, 3, degree=13)
    z, _ = truth.run(X)
    z_hat, h_hat = wrong.run(X)
    residual = truth.outputs(X) - wrong.outputs(X)
    S = partial_score(chain, X, 1)
    psi = (truth.A2 @ truth.A2.T) * (truth.A1 @ truth.A1.T)
    for t in (1, 2):
        g = h_hat[:, t - 1]
        contracted = np.einsum(
            "apg,ia,ip->ig", mean(w, residual[:, t], S[:, t], g), truth.A2, truth.A1
        )
        difference = mean(w, z[:, t] - z_hat[:, t], g)
        assert_close(contracted, 2 * QUADRATIC.coef[2] * psi @ difference)


def test_instrument_moment_bidirectional():
    """(c) with two directions: past *and* future states are instruments for every unit."""
    chain = stable_chain(15, 2)
    forward = make_network(16, 2, QUADRATIC, n_hidden=1)
    backward = make_network(17, 2, QUADRATIC, n_hidden=1, backward=True)
    X, w = grid(chain, 3, degree=12)
    z_f, h = forward.run(X)
    z_b, v = backward.run(X)
    y, S = forward.outputs(X) + backward.outputs(X), partial_score(chain, X, 1)
    C, A2 = np.vstack((forward.A1, backward.A1)), np.vstack((forward.A2, backward.A2))
    z = np.concatenate((z_f, z_b), axis=2)
    for t in range(3):
        instruments = [np.ones(len(w))]
        if t > 0:
            instruments.append(h[:, t - 1, 0])
        if t < 2:
            instruments.append(v[:, t + 1, 0])
        for g in instruments:
            gains = instrument_gains(None, QUADRATIC, z[:, t], g, w)
            expected = np.einsum("i,ia,ip->ap", gains, A2, C)
            assert_close(mean(w, y[:, t], S[:, t], g), expected)


def test_pseudo_observations_of_preactivations():
    """E[p_t g] = E[z_t g], p_t = 1/2 Psi^-1 [(B y_t) o (D s_t)], Psi = (B A2^T) o (D C^T)."""
    chain = stable_chain(18, 2)
    f = polynomial(0.0, 0.0, 1.0)
    network = make_network(19, 2, f)
    X, w = grid(chain, 3, degree=11)
    z, h = network.run(X)
    y, S = network.outputs(X), partial_score(chain, X, 1)
    rng = np.random.default_rng(20)
    B, D = network.A2 @ rng.standard_normal((2, 2)), network.A1 @ rng.standard_normal((2, 2))
    psi = (B @ network.A2.T) * (D @ network.A1.T)
    for t in (1, 2):
        p = 0.5 * ((y[:, t] @ B.T) * (S[:, t] @ D.T)) @ np.linalg.inv(psi).T
        for g in (np.ones(len(w)), h[:, t - 1, 0]):
            assert_close(mean(w, p, g), mean(w, z[:, t], g), ALGEBRA * np.linalg.cond(psi))
