"""States at rest: fixed points at a constant input that a network comes back to."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.generators import forward_network, two_way_network

from gloree.models import IORNN, EquilibriumError, find_equilibria

# a linear system of condition below 100
ALGEBRA = 1e-13


def linear_network(poles, seed=0, lags=1):
    rng = np.random.default_rng(seed)
    n = len(poles)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    U = Q @ np.diag(poles) @ Q.T
    A1, A2 = rng.standard_normal((n, 2 * lags)), rng.standard_normal((n, 1))
    b = rng.standard_normal(n)
    return IORNN(A1, U, A2, b, [1.0], activation="linear", lags=lags)


@pytest.mark.parametrize("lags", [1, 3])
def test_the_equilibrium_of_linear_units_solves_a_linear_system(lags):
    model = linear_network([0.9, -0.5, 0.2], lags=lags)
    x = np.array([1.0, -2.0])
    drive = model.input_weights @ np.tile(x, lags) + model.hidden_bias
    expected = np.linalg.solve(np.eye(3) - model.recurrent_weights, drive)
    state = model.equilibrium(x)
    assert_close(state, np.concatenate((expected, np.tile(x, lags - 1))), ALGEBRA)
    rows = np.array([[0.0, 0.0], x])
    assert_close(model.equilibrium(rows)[1], state, ALGEBRA)
    assert model.equilibrium(rows).shape == (2, model.n_state)


@pytest.mark.parametrize("activation", ["tanh", "quadratic", ("linear", "linear", "tanh", "tanh")])
@pytest.mark.parametrize("seed", range(5))
def test_a_network_stays_at_its_equilibrium(activation, seed):
    norm = 0.1 if activation == "quadratic" else 0.9
    model = forward_network(seed=seed, activation=activation, lags=2, norm=norm, direct=True)
    x = np.random.default_rng(seed).uniform(-1, 1, 3)
    state = model.equilibrium(x)
    outputs, last = model.predict(np.tile(x, (50, 1)), state=state, return_state=True)
    assert_close(last, state, 1e-12)  # 50 roundings, which fade
    assert_close(outputs, np.tile(outputs[0], (50, 1)), 1e-12)


def test_slow_linear_states_reach_their_equilibrium_at_once():
    pole = 1 - 1e-7
    model = IORNN([[1.0]], [[pole]], [[1.0]], activation="linear")
    # rounding of 1 - pole
    np.testing.assert_allclose(model.equilibrium(2.0), [2.0 / (1 - pole)], rtol=1e-8)


def test_of_two_equilibria_it_is_the_one_that_zeros_go_to():
    # h = tanh(2 h + x) has three equilibria at 0, of which the outer two are stable
    model = IORNN([[1.0]], [[2.0]], [[1.0]], activation="tanh")
    for x in (0.1, -0.1):
        (h,) = model.equilibrium(x)
        assert np.sign(h) == np.sign(x)
        assert abs(h) > 0.9


def test_units_without_a_recurrence_rest_at_once():
    model = forward_network(recurrent_weights=None, activation="tanh")
    x = np.ones(3)
    assert_close(model.equilibrium(x), model.hidden_states(x[None])[0], ALGEBRA)


def test_backward_units_have_no_part_in_it():
    model = two_way_network(3, 2, activation="tanh")
    state = model.equilibrium(np.ones(3))
    assert state.shape == (3,)
    assert_close(model.hidden_states(np.ones((40, 3)), state=state)[20, :3], state, 1e-12)


@pytest.mark.parametrize(
    "U, x, words",
    [
        ([[1.0]], 1.0, r"no equilibrium was found|integrates, or never fades"),
        ([[1.0]], 0.0, "integrates, or never fades"),
        ([[0.0, 1.0], [-1.0, 0.0]], 1.0, "eigenvalue of modulus 1 integrates"),
        ([[1.5]], 1.0, r"unstable \(eigenvalue of modulus 1.5\)"),
    ],
)
def test_linear_networks_that_do_not_come_to_rest_are_refused(U, x, words):
    model = IORNN([[1.0]] * len(U), U, [[1.0]] * len(U), activation="linear")
    with pytest.raises(EquilibriumError, match=words):
        model.equilibrium(x)


@pytest.mark.parametrize(
    "model",
    [
        IORNN([[1.0]], [[1.0]], [[1.0]]),  # h = (h + 1)^2 has no real solution
        IORNN([[1.0]], [[-4.0]], [[1.0]], activation="tanh"),  # goes back and forth
    ],
)
def test_networks_that_run_away_or_oscillate_are_refused(model):
    x = 1.0 if model.activation.degree == 2 else 0.1
    with pytest.raises(EquilibriumError, match=r"no equilibrium was found|is unstable"):
        model.equilibrium(x)
    found = find_equilibria(model, np.array([[x], [-x]]))
    assert not found.found[0]


def test_an_error_at_rest_can_be_caught_as_either_kind():
    assert issubclass(EquilibriumError, ValueError)
    assert issubclass(EquilibriumError, ArithmeticError)


@pytest.mark.parametrize("x", [[1.0], [1.0, np.nan, 0.0], "text"])
def test_an_input_that_does_not_fit_is_refused(x):
    with pytest.raises((TypeError, ValueError)):
        forward_network().equilibrium(x)
