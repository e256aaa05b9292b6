"""The first moment is a sum of rank-one terms, at every step of a sequence: :eq:`first-moment`."""

from math import factorial

import numpy as np
import pytest
from helpers.generators import stable_chain
from helpers.marks import first_of
from helpers.quadrature import (
    CUBIC,
    QUADRATIC,
    assert_close,
    grid,
    make_network,
    mean,
    polynomial,
)
from helpers.tensors import rank_one_sum

from gloree.score_functions import partial_score


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_first_moment_quadratic(n_steps, order):
    """T = E[y_t (x) S_2(t)] = 2 c_2 sum_i A2_i (x) a_i a_i^T: first, interior and last step."""
    chain = stable_chain(0, 2, order)
    network = make_network(1, 2, QUADRATIC)
    X, w = grid(chain, n_steps, degree=2**n_steps + 2)
    y, S = network.outputs(X), partial_score(chain, X, 2)
    expected = 2 * QUADRATIC.coef[2] * rank_one_sum(network.A2, network.A1, 2)
    for t in range(n_steps):
        assert_close(mean(w, y[:, t], S[:, t]), expected)


def test_first_moment_at_interior_of_order_two_chain():
    """The same where a chain of order 2 has an interior: step 3 of 5."""
    chain = stable_chain(2, 1, order=2)
    network = make_network(3, 1, QUADRATIC)
    X, w = grid(chain, 5, degree=10)
    y, S = network.outputs(X), partial_score(chain, X, 2)
    expected = 2 * QUADRATIC.coef[2] * rank_one_sum(network.A2, network.A1, 2)
    for t in range(3):
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize(("n_steps", "steps"), [(2, (0, 1)), (3, (0, 1))])
@pytest.mark.parametrize("order", [1, 2])
def test_first_moment_cubic(n_steps, steps, order):
    """T = E[y_t (x) S_3(t)] = 3! c_3 sum_i A2_i (x) a_i^3 for a full polynomial of degree 3."""
    chain = stable_chain(4, 2, order)
    network = make_network(5, 2, CUBIC)
    X, w = grid(chain, n_steps, degree=12)
    y, S = network.outputs(X), partial_score(chain, X, 3)
    expected = factorial(3) * CUBIC.coef[3] * rank_one_sum(network.A2, network.A1, 3)
    for t in steps:
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_first_moment_bidirectional(order):
    """Both directions at once: T = 2 c_2 sum over C = [A1; B1]."""
    chain = stable_chain(6, 2, order)
    forward = make_network(7, 2, QUADRATIC)
    backward = make_network(8, 2, QUADRATIC, n_hidden=1, backward=True)
    X, w = grid(chain, 3, degree=10)
    y, S = forward.outputs(X) + backward.outputs(X), partial_score(chain, X, 2)
    C, A2 = np.vstack((forward.A1, backward.A1)), np.vstack((forward.A2, backward.A2))
    expected = 2 * QUADRATIC.coef[2] * rank_one_sum(A2, C, 2)
    for t in range(3):
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize("m", first_of([1, 2, 3], 2))
def test_first_moment_smooth_activation(m):
    """E[y_t (x) S_m(t)] = sum_i E[f^(m)(z_i)] A2_i (x) a_i^m for f = tanh."""
    chain = stable_chain(9, 2)
    # Small weights keep the poles of tanh far from the nodes, so the quadrature converges.
    network = make_network(10, 2, np.tanh, scale=0.25)
    X, w = grid(chain, 2, degree=46)
    z, _ = network.run(X)
    y, S = network.outputs(X), partial_score(chain, X, m)
    f = np.tanh(z)
    derivative = {1: 1 - f**2, 2: -2 * f * (1 - f**2), 3: (1 - f**2) * (6 * f**2 - 2)}[m]
    for t in range(2):
        gains = mean(w, derivative[:, t])
        expected = rank_one_sum(network.A2 * gains[:, np.newaxis], network.A1, m)
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize("f", [QUADRATIC, CUBIC], ids=["quadratic", "cubic"])
def test_bias_from_moment_of_order_l_minus_one(f):
    """E[f^(l-1)(z_i)] = l! c_l E[z_i] + (l-1)! c_{l-1}, E[z_i] = a_i.E[x] + U_i.E[h] + b_i."""
    degree = f.degree()
    chain = stable_chain(11, 2)
    network = make_network(12, 2, f)
    X, w = grid(chain, 2, degree=degree**2 + degree)
    _, h = network.run(X)
    y, S = network.outputs(X), partial_score(chain, X, degree - 1)
    for t in range(2):
        past = mean(w, h[:, t - 1]) if t else np.zeros(2)
        mean_z = network.A1 @ chain.mean + network.U @ past + network.b
        gains = factorial(degree) * f.coef[degree] * mean_z
        gains += factorial(degree - 1) * f.coef[degree - 1]
        expected = rank_one_sum(network.A2 * gains[:, np.newaxis], network.A1, degree - 1)
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_linear_activation_gives_markov_parameters(order):
    """l = 1: E[y_t (x) S_1(t - k)] = A2^T U^k A1, for every step and lag."""
    chain = stable_chain(13, 2, order)
    network = make_network(14, 2, polynomial(0.4, 1.0))
    X, w = grid(chain, 4, degree=2)
    y, S = network.outputs(X), partial_score(chain, X, 1)
    for t in range(4):
        for k in range(t + 1):
            expected = network.A2.T @ np.linalg.matrix_power(network.U, k) @ network.A1
            assert_close(mean(w, y[:, t], S[:, t - k]), expected)


def test_residual_moment_corrects_a_wrong_model():
    """:eq:`rounds`: mu(theta^) + E[(y - y^) (x) S_2] is the true moment whatever theta^ is."""
    chain = stable_chain(15, 2)
    truth, model = make_network(16, 2, QUADRATIC), make_network(17, 2, QUADRATIC, n_hidden=3)
    X, w = grid(chain, 3, degree=10)
    residual, S = truth.outputs(X) - model.outputs(X), partial_score(chain, X, 2)
    top = 2 * QUADRATIC.coef[2]
    for t in range(3):
        corrected = top * rank_one_sum(model.A2, model.A1, 2) + mean(w, residual[:, t], S[:, t])
        assert_close(corrected, top * rank_one_sum(truth.A2, truth.A1, 2))
