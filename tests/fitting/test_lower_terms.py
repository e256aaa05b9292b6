"""Rewriting a fitted monomial network as one whose activation has lower terms."""

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_same_weights
from helpers.generators import forward_network, restricted

from gloree.activations import Polynomial, cubic, get_activation, quadratic
from gloree.fitting._lower_terms import leading_monomial, with_lower_terms
from gloree.models import IORNN

# Two evaluations of the same polynomials over a dozen steps, and one least-squares problem.
ALGEBRA = 1e-9
# A gap that rounding does not make.
VISIBLE = 1e-3

PARABOLA = Polynomial((0.4, -0.6, 1.5))
CENTRED = Polynomial((0.7, 0.0, 1.5))
SQUARE = Polynomial((0.06, -0.6, 1.5))  # 1.5 (z - 0.2)^2: no constant is left
CUBIC = Polynomial((0.1, 0.8, -0.6, 0.5))


def first_start(model, activation, **free):
    """First of the starts."""
    return with_lower_terms(model, activation, **free)[0]


def make_model(activation, seed=0, *, n_outputs=2, bias=True):
    network = forward_network(4, 3, n_outputs, seed=seed, activation=activation)
    return restricted(network, bias=bias)


def inputs(seed=1, n_steps=12, n_inputs=4):
    return np.random.default_rng(seed).standard_normal((n_steps, n_inputs))


def test_leading_monomial_is_that_of_the_same_leading_term():
    assert leading_monomial(PARABOLA) == Polynomial((0.0, 0.0, 1.5))
    assert leading_monomial(CUBIC) == Polynomial((0.0, 0.0, 0.0, 0.5))
    assert leading_monomial(quadratic) is quadratic
    assert leading_monomial(cubic) is cubic


def test_monomials_are_left_alone():
    model = make_model("quadratic")
    assert first_start(model, quadratic, bias=True, direct=False) is model


# ------------------------------------------------------------------------------------- degree 2


@pytest.mark.parametrize("activation", [PARABOLA, CENTRED, SQUARE], ids=lambda f: f.name)
@pytest.mark.parametrize("direct", [False, True])
def test_parabola_is_exact_from_the_corresponding_state(activation, direct):
    """h = h_s + e: the network started at h_0 = e (1, .., 1) is the surrogate started at zero."""
    surrogate = make_model(leading_monomial(activation))
    if direct:
        surrogate = surrogate.replace(direct_weights=np.ones((4, 2)))
    network = first_start(surrogate, activation, bias=True, direct=direct)
    assert network.activation == activation
    c0, c1, c2 = activation.coefficients
    e = c0 - c1**2 / (4 * c2)
    x = inputs()
    np.testing.assert_allclose(
        naive.predictions(network, x, np.full(3, e)), surrogate.predict(x), rtol=0, atol=ALGEBRA
    )
    # and the network's own start is the surrogate's at -e
    np.testing.assert_allclose(
        network.predict(x), naive.predictions(surrogate, x, np.full(3, -e)), rtol=0, atol=ALGEBRA
    )


def test_parabola_without_recurrence_is_exact_from_the_first_step():
    surrogate = make_model(leading_monomial(PARABOLA)).replace(recurrent_weights=None)
    network = first_start(surrogate, PARABOLA, bias=True, direct=False)
    x = inputs()
    np.testing.assert_allclose(network.predict(x), surrogate.predict(x), rtol=0, atol=ALGEBRA)


def test_start_of_the_sequence_is_forgotten():
    """The two differ by the first state only: the difference dies with the recurrence."""
    surrogate = make_model(leading_monomial(PARABOLA))
    network = first_start(surrogate, PARABOLA, bias=True, direct=False)
    x = 0.5 * inputs(n_steps=60)
    gap = np.abs(network.predict(x) - surrogate.predict(x)).max(axis=1)
    assert gap[0] > VISIBLE
    assert gap[-1] < ALGEBRA


def quadratic_surrogate(network):
    """The surrogate of a network, by completing its squares."""
    c0, c1, c2 = network.activation.coefficients
    m, e = c1 / (2 * c2), c0 - c1**2 / (4 * c2)
    return network.replace(
        hidden_bias=network.hidden_bias + m + e * network.recurrent_weights.sum(axis=1),
        output_bias=network.output_bias + e * network.output_weights.sum(axis=0),
        activation=leading_monomial(network.activation),
    )


@pytest.mark.parametrize("activation", [PARABOLA, CENTRED, SQUARE], ids=lambda f: f.name)
def test_parabola_and_its_surrogate_are_inverse(activation):
    network = make_model(activation)
    found = first_start(quadratic_surrogate(network), activation, bias=True, direct=False)
    assert_same_weights(found, network, ALGEBRA)


def rescaled(model, scales):
    """The same function: (a, U, b) -> s (a, U, b), A2 -> s^-l A2, columns of U -> s^-l."""
    degree = model.activation.degree
    s = np.asarray(scales)
    return model.replace(
        input_weights=s[:, None] * model.input_weights,
        recurrent_weights=s[:, None] * model.recurrent_weights / s[None, :] ** degree,
        hidden_bias=s * model.hidden_bias,
        output_weights=model.output_weights / s[:, None] ** degree,
    )


def test_parabola_without_biases_finds_its_scales():
    """Without a bias the middle of the parabola fixes every scale; exact where e = 0."""
    network = make_model(SQUARE, bias=False)
    surrogate = rescaled(quadratic_surrogate(network), [2.0, 0.5, -1.3])
    found = first_start(surrogate, SQUARE, bias=False, direct=False)
    assert_same_weights(found, network, ALGEBRA)
    assert not found.hidden_bias.any()
    assert not found.output_bias.any()
    x = inputs()
    np.testing.assert_allclose(found.predict(x), network.predict(x), rtol=0, atol=ALGEBRA)


def test_unit_without_a_middle_keeps_its_scale():
    """f = c_2 z^2 + c_0 has no middle: nothing fixes the scale, and nothing divides by zero."""
    surrogate = make_model(leading_monomial(CENTRED), bias=False)
    found = first_start(surrogate, CENTRED, bias=False, direct=False)
    np.testing.assert_array_equal(found.input_weights, surrogate.input_weights)


# ------------------------------------------------------------------------------------- degree 3


def cubic_surrogate(network, scales):
    """c_3 (u + b)^3 for each unit, u = (its drive) / s, and a direct path for the linear terms."""
    _c0, c1, c2, c3 = network.activation.coefficients
    s, linear, shift = np.asarray(scales), c1 - c2**2 / (3 * c3), c2 / (3 * c3)
    A1, A2 = network.input_weights / s[:, None], network.output_weights * s[:, None] ** 3
    constant = network.activation(-shift) + linear * (network.hidden_bias + shift)
    return IORNN(
        A1,
        network.recurrent_weights * s[None, :] ** 3 / s[:, None],
        A2,
        (network.hidden_bias + shift) / s,
        network.output_bias + constant @ network.output_weights,
        np.einsum("i,id,ia->da", linear / s**2, A1, A2),
        activation=leading_monomial(network.activation),
    )


@pytest.mark.parametrize("seed", range(3))
def test_leading_monomial_of_a_cubic_is_exact_without_recurrence(seed):
    """The oracle of the next test computes the same function."""
    network = make_model(CUBIC, seed).replace(recurrent_weights=None)
    x = inputs()
    surrogate = cubic_surrogate(network, [1.5, 0.7, 1.0])
    np.testing.assert_allclose(surrogate.predict(x), network.predict(x), rtol=0, atol=ALGEBRA)


@pytest.mark.parametrize("activation", [CUBIC, Polynomial((0.0, -0.5, 0.3, 0.4))], ids=["+", "-"])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_cubic_start_is_exact_for_an_exact_surrogate(seed, n_outputs, activation):
    """Scales, biases, A1, A2 and U come back; c is left to the output regression."""
    network = make_model(activation, seed, n_outputs=n_outputs)
    surrogate = cubic_surrogate(network, [1.5, 0.7, 1.0])
    found = first_start(surrogate, activation, bias=True, direct=False)
    assert found.direct_weights is None
    assert_same_weights(found.replace(output_bias=network.output_bias), network, ALGEBRA)


def test_cubic_start_without_biases_has_none():
    network = make_model(Polynomial((0.0, 0.8, 0.0, 0.5)), bias=False)
    surrogate = cubic_surrogate(network, [1.2, 0.8, 1.0])
    found = first_start(surrogate, network.activation, bias=False, direct=False)
    assert_same_weights(found, network, ALGEBRA)


def test_cubic_units_whose_share_has_the_wrong_sign_take_the_usual_scale():
    """Noise may turn the sign of a share: no root of a negative number, no zero scale."""
    network = make_model(CUBIC)
    surrogate = cubic_surrogate(network, [1.5, 1.5, 1.5])
    A1, A2 = surrogate.input_weights, surrogate.output_weights
    wrong = surrogate.direct_weights - 3 * np.outer(A1[0], A2[0])
    found = first_start(surrogate.replace(direct_weights=wrong), CUBIC, bias=True, direct=False)
    np.testing.assert_allclose(found.input_weights, network.input_weights, atol=ALGEBRA)


def test_cubic_without_a_linear_term_has_free_scales():
    """f = c_3 (z + m)^3 + const: the linear part vanishes, and the scale stays as it is."""
    f = get_activation(Polynomial((0.0, 0.3, 0.3, 0.1)))
    surrogate = cubic_surrogate(make_model(f), [1.0, 1.0, 1.0])
    found = first_start(surrogate, f, bias=True, direct=False)
    np.testing.assert_array_equal(found.input_weights, surrogate.input_weights)
