"""Hermite tensors and polynomials against their closed forms."""

import numpy as np
import pytest
from helpers.tensors import symmetrise
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.score_functions import hermite_along, hermite_tensor

# Algebra: sums of at most ten products of four numbers near 1.
ALGEBRA = 1e-12

# Algebra: the same with five or six factors of up to 3, and with all factors doubled.
MORE_FACTORS, DOUBLED = 1e-11, 1e-9


def example(seed=0, d=3):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d))
    return rng.standard_normal(d), factor @ factor.T


def test_closed_forms_of_orders_up_to_four():
    s, K = example()
    outer = np.multiply.outer
    ss = outer(s, s)
    np.testing.assert_allclose(hermite_tensor(s, K, 0), 1.0)
    np.testing.assert_allclose(hermite_tensor(s, K, 1), s)
    np.testing.assert_allclose(hermite_tensor(s, K, 2), ss - K, atol=ALGEBRA)
    third = outer(ss, s) - 3 * symmetrise(outer(s, K))
    np.testing.assert_allclose(hermite_tensor(s, K, 3), third, atol=ALGEBRA)
    fourth = outer(ss, ss) - 6 * symmetrise(outer(ss, K)) + 3 * symmetrise(outer(K, K))
    np.testing.assert_allclose(hermite_tensor(s, K, 4), fourth, atol=10 * ALGEBRA)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_tensor_is_symmetric(order):
    tensor = hermite_tensor(*example(1), order)
    np.testing.assert_allclose(tensor, symmetrise(tensor), atol=MORE_FACTORS)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1000))
def test_contraction_of_tensor_is_polynomial_along_direction(order, seed):
    """S_m(v, .., v) = He_m(s.v; v^T K v)."""
    s, K = example(seed)
    v = np.random.default_rng(seed + 1).standard_normal(3)
    tensor = hermite_tensor(s, K, order)
    for _ in range(order):
        tensor = tensor @ v
    expected = hermite_along(s @ v, v @ K @ v, order)
    size = (abs(s @ v) + np.sqrt(v @ K @ v)) ** order
    np.testing.assert_allclose(tensor, expected, rtol=0, atol=ALGEBRA * max(size, 1))


def test_polynomials_are_probabilists_hermite():
    x = np.linspace(-3, 3, 7)
    for order in range(7):
        expected = np.polynomial.hermite_e.hermeval(x, [0] * order + [1])
        np.testing.assert_allclose(hermite_along(x, 1.0, order), expected, atol=MORE_FACTORS)
        scaled = 2.0**order * expected
        np.testing.assert_allclose(hermite_along(2 * x, 4.0, order), scaled, atol=DOUBLED)


def test_leading_axes_broadcast():
    s = np.random.default_rng(0).standard_normal((4, 5, 2))
    K = np.stack([np.eye(2) * (1 + k) for k in range(5)])
    tensor = hermite_tensor(s, K, 3)
    assert tensor.shape == (4, 5, 2, 2, 2)
    np.testing.assert_allclose(tensor[1, 3], hermite_tensor(s[1, 3], K[3], 3), atol=ALGEBRA)
    assert hermite_tensor(np.zeros((0, 2)), np.eye(2), 2).shape == (0, 2, 2)
    assert hermite_along(np.zeros((3, 1)), np.ones(4), 2).shape == (3, 4)


def test_arguments_are_not_modified():
    s, K = example()
    copies = s.copy(), K.copy()
    hermite_tensor(s, K, 3)
    hermite_along(s, K[0], 3)
    np.testing.assert_array_equal(s, copies[0])
    np.testing.assert_array_equal(K, copies[1])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`covariance`"):
        hermite_tensor(np.zeros(2), np.eye(3), 2)
    with pytest.raises(ValueError, match="`order` is -1"):
        hermite_along(0.0, 1.0, -1)
    with pytest.raises(ValueError, match=r"`order` is 1\.5"):
        hermite_tensor(np.zeros(2), np.eye(2), 1.5)


def test_covariances_have_to_be_symmetric_in_any_units():
    for scale in (np.eye(2), np.diag([1e6, 1e-6])):
        with pytest.raises(ValueError, match="`covariance` is not symmetric"):
            hermite_tensor([1.0, 2.0], scale @ [[1.0, 0.5], [0.2, 1.0]] @ scale, 2)
    found = hermite_tensor([1.0, 2.0], [[1.0, -1e-17], [0.0, 1.0]], 3)
    np.testing.assert_allclose(found, found.transpose(1, 0, 2), rtol=1e-12)
