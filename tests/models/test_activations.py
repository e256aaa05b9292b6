"""Activations: values, exact derivatives of any order, and what is said about them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import polynomial as npoly

from gloree.activations import (
    Activation,
    Custom,
    LeakyReLU,
    PerUnit,
    Polynomial,
    cubic,
    from_spec,
    gelu,
    get_activation,
    leaky_relu,
    linear,
    quadratic,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)

# A few roundings of one exponential.
EXPONENTIAL = 1e-15

SMOOTH = [tanh, softplus, sigmoid, gelu, silu]
RECTIFIERS = [relu, leaky_relu, LeakyReLU(0.3)]
ALL = [linear, quadratic, cubic, *SMOOTH, Polynomial((0.3, -1.0, 0.5, 0.0, 0.25))]
GRID = np.linspace(-3.0, 3.0, 61)

# central differences: error h^2 f''' / 6 + eps |f| / h, with h = 1e-5 and derivatives up to 1e2
DIFFERENCE_STEP = 1e-5
DIFFERENCE_TOLERANCE = 1e-7
# a few dozen operations on numbers up to 1e3
ALGEBRA_TOLERANCE = 1e-12

coefficient = st.floats(-3, 3).map(lambda c: round(c, 3))
coefficient_lists = st.lists(coefficient, min_size=2, max_size=7).filter(lambda c: c[-1] != 0)


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_derivative_is_the_difference_quotient_of_the_one_before(activation, order):
    h = DIFFERENCE_STEP
    low, high = (activation.derivative(GRID + s, order - 1) for s in (-h, h))
    expected = (high - low) / (2 * h)
    got = activation.derivative(GRID, order)
    np.testing.assert_allclose(
        got, expected, atol=DIFFERENCE_TOLERANCE * (1 + np.abs(expected).max())
    )


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_order_zero_is_the_function(activation):
    np.testing.assert_array_equal(activation.derivative(GRID, 0), activation(GRID))


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_value_and_derivative_agree_with_the_separate_calls(activation):
    value, slope = activation.value_and_derivative(GRID)
    np.testing.assert_allclose(value, activation(GRID), rtol=ALGEBRA_TOLERANCE)
    np.testing.assert_allclose(slope, activation.derivative(GRID), rtol=ALGEBRA_TOLERANCE)


@settings(deadline=None)  # other work on the machine must not fail a test
@given(coefficient_lists, st.integers(0, 8))
def test_polynomial_derivatives_match_numpy(coefficients, order):
    expected = npoly.polyval(GRID, npoly.polyder(coefficients, order))
    got = Polynomial(coefficients).derivative(GRID, order)
    scale = 1 + np.abs(expected).max()
    np.testing.assert_allclose(got, expected, atol=ALGEBRA_TOLERANCE * scale * 100)


@settings(deadline=None)  # other work on the machine must not fail a test
@given(coefficient_lists)
def test_parity_says_how_the_values_reflect(coefficients):
    f = Polynomial(coefficients)
    if f.parity == "even":
        np.testing.assert_array_equal(f(-GRID), f(GRID))
    elif f.parity == "odd":
        np.testing.assert_array_equal(f(-GRID), -f(GRID))
    else:
        assert any(coefficients[0::2])
        assert any(coefficients[1::2])


@pytest.mark.parametrize(
    ("activation", "degree", "parity", "is_monomial"),
    [
        (linear, 1, "odd", True),
        (quadratic, 2, "even", True),
        (cubic, 3, "odd", True),
        (Polynomial((1.0, 0.0, 2.0)), 2, "even", False),
        (Polynomial((0.0, 1.0, 2.0)), 2, None, False),
        (tanh, None, "odd", False),
        (softplus, None, None, False),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_properties(activation, degree, parity, is_monomial):
    assert activation.degree == degree
    assert activation.is_polynomial == (degree is not None)
    assert activation.parity == parity
    assert activation.is_monomial == is_monomial


def test_quadratic_is_the_square_to_the_bit():
    z = np.random.default_rng(0).standard_normal(100)
    np.testing.assert_array_equal(quadratic(z), z * z)
    np.testing.assert_array_equal(quadratic.derivative(z), 2 * z)
    np.testing.assert_array_equal(quadratic.derivative(z, 3), np.zeros(100))


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_values_are_new_float64_arrays_whatever_comes_in(activation):
    whole = np.arange(-3, 3)
    read_only = whole.astype(np.float64)
    read_only.flags.writeable = False
    for z in (
        whole,
        read_only,
        whole.astype(np.float32),
        np.asfortranarray(read_only.reshape(2, 3)),
    ):
        value = activation(z)
        assert value.dtype == np.float64
        assert not np.shares_memory(value, z)
        np.testing.assert_array_equal(value.ravel(), activation(read_only))


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_out_receives_the_values(activation):
    out = np.empty_like(GRID)
    assert activation(GRID, out=out) is out
    np.testing.assert_array_equal(out, activation(GRID))


@pytest.mark.parametrize(
    "activation",
    [
        *ALL,
        PerUnit(["linear", "tanh", "tanh", "relu", "linear"]),
        PerUnit([Polynomial((0.0, 1.0, c)) for c in (0.1, 0.2)] + ["linear"]),
    ],
    ids=lambda f: f.name,
)
def test_the_evaluator_of_a_loop_over_steps_is_the_function(activation):
    z = np.random.default_rng(0).standard_normal((4, activation.n_units or 3))
    for values in (z, z[0]):
        out = np.full_like(values, np.nan)
        activation.evaluator()(values, out)
        np.testing.assert_array_equal(out, activation(values))


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_a_number_gives_a_number(activation):
    assert np.shape(activation(0.5)) == ()
    assert np.shape(activation.derivative(0.5, 2)) == ()


def test_smooth_functions_neither_overflow_nor_lose_digits():
    far = np.array([-1e3, -40.0, 40.0, 1e3])
    np.testing.assert_allclose(softplus(far), [0.0, np.exp(-40.0), 40.0, 1e3], rtol=EXPONENTIAL)
    np.testing.assert_allclose(
        softplus.derivative(far), [0.0, np.exp(-40.0), 1.0, 1.0], rtol=EXPONENTIAL
    )
    np.testing.assert_allclose(tanh.derivative([20.0]), 4 * np.exp(-40.0), rtol=EXPONENTIAL)
    for f in (tanh, softplus):
        for order in range(1, 6):
            assert np.all(np.isfinite(f.derivative(far, order)))


@pytest.mark.parametrize("activation", ALL, ids=lambda f: f.name)
def test_description_round_trip_through_json(activation):
    again = from_spec(json.loads(json.dumps(activation.spec())))
    assert again == activation
    assert pickle.loads(pickle.dumps(activation)) == activation
    assert hash(again) == hash(activation)


def test_names():
    assert [f.name for f in (linear, quadratic, cubic)] == ["linear", "quadratic", "cubic"]
    assert Polynomial((0, -1, 0.5)).name == "-z + 0.5 z^2"
    assert Polynomial((1, 0, 0, -2)).name == "1 - 2 z^3"


@pytest.mark.parametrize("name", ["linear", "quadratic", "cubic", "tanh", "softplus"])
def test_lookup_by_name(name):
    assert get_activation(name).name == name
    assert get_activation(get_activation(name)) is get_activation(name)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("quadratc", "quadratic"), ("Tanh", "tanh"), ("soft-plus", "softplus")]
)
def test_a_misspelt_name_is_answered_with_the_close_one(wrong, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        get_activation(wrong)


def test_errors_name_what_was_seen():
    with pytest.raises(TypeError, match="`activation` is of type int"):
        get_activation(2)
    with pytest.raises(TypeError, match="`coefficients`"):
        Polynomial(["a", "b"])
    with pytest.raises(TypeError, match="`coefficients`"):
        Polynomial(3.0)
    with pytest.raises(ValueError, match="trailing zeros"):
        Polynomial([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="finite"):
        Polynomial([0.0, np.nan])
    with pytest.raises(ValueError, match="1 entries"):
        Polynomial([1.0])
    with pytest.raises(ValueError, match="`order` is -1"):
        quadratic.derivative(1.0, -1)
    with pytest.raises(TypeError, match=r"`order` is 1\.5"):
        tanh.derivative(1.0, 1.5)
    with pytest.raises(ValueError, match="`spec`"):
        from_spec({"kind": "arctan"})


def test_an_activation_of_ones_own_needs_four_things():
    class Sine(Activation):
        name = "sine"

        def __call__(self, z, out=None):
            return np.sin(np.asarray(z, dtype=float), out=out)

        def derivative(self, z, order=1):
            return np.sin(np.asarray(z, dtype=float) + order * np.pi / 2)

        def spec(self):
            return {"kind": "sine"}

    sine = get_activation(Sine())
    assert sine.degree is None
    assert sine.parity is None
    assert not sine.is_monomial
    value, slope = sine.value_and_derivative(GRID)
    np.testing.assert_allclose(value**2 + slope**2, 1.0, rtol=ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("activation", RECTIFIERS, ids=repr)
def test_rectifiers_are_two_lines_and_scale_with_their_argument(activation):
    z = GRID[GRID != 0.0]
    lower = getattr(activation, "slope", 0.0)
    np.testing.assert_array_equal(activation(z), np.where(z > 0, z, lower * z))
    np.testing.assert_array_equal(activation.derivative(z), np.where(z > 0, 1.0, lower))
    assert not activation.derivative(z, 2).any()
    assert activation.homogeneity == 1
    np.testing.assert_allclose(activation(3.0 * z), 3.0 * activation(z), rtol=EXPONENTIAL)


@pytest.mark.parametrize("activation", [*ALL, *RECTIFIERS], ids=repr)
def test_what_is_odd_about_a_point_says_so(activation):
    if activation.centre is None:
        return
    middle, height = activation.centre
    images = 2 * height - activation(2 * middle - GRID)
    np.testing.assert_allclose(images, activation(GRID), atol=ALGEBRA_TOLERANCE)


def test_centres_of_what_has_one():
    assert tanh.centre == (0.0, 0.0)
    assert sigmoid.centre == (0.0, 0.5)
    assert Polynomial((0.0, 1.0, 0.6, 0.2)).centre[0] == pytest.approx(-1.0)
    assert all(f.centre is None for f in (softplus, relu, gelu, silu, quadratic))


@pytest.mark.parametrize("activation", [*ALL, *RECTIFIERS], ids=repr)
def test_specs_bring_back_what_wrote_them(activation):
    assert from_spec(json.loads(json.dumps(activation.spec()))) == activation


def test_a_function_with_a_derivative_is_an_activation_that_is_not_saved():
    sine = Custom(np.sin, np.cos, "sine")
    np.testing.assert_array_equal(sine(GRID), np.sin(GRID))
    np.testing.assert_array_equal(sine.derivative(GRID), np.cos(GRID))
    np.testing.assert_array_equal(sine.derivative(GRID, 0), np.sin(GRID))
    assert pickle.loads(pickle.dumps(sine)) == sine
    with pytest.raises(ValueError, match="first derivative only"):
        sine.derivative(GRID, 2)
    with pytest.raises(TypeError, match=r"'sine'.*pickle the network"):
        sine.spec()
    with pytest.raises(TypeError, match="`slope` is 3, expected a function"):
        Custom(np.sin, 3)


@pytest.mark.parametrize("slope, kind", [(1.0, ValueError), (np.nan, ValueError), ("a", TypeError)])
def test_slopes_out_of_range_are_refused(slope, kind):
    with pytest.raises(kind, match=r"`slope`.*between -1 and 1"):
        LeakyReLU(slope)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 7])
def test_gelu_far_out_is_a_line_or_zero(order):
    z = np.array([-1e200, -1e5, -60.0, 60.0, 1e5, 1e200])
    expected = {0: np.maximum(z, 0.0), 1: (z > 0).astype(float)}.get(order, np.zeros(6))
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(get_activation("gelu").derivative(z, order), expected)
