"""Monomials of a vector against naive outer products."""

from collections import Counter
from itertools import combinations_with_replacement, product
from math import comb, factorial, prod

import numpy as np
import pytest
from helpers.tensors import power
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gloree._monomials import (
    apply_to_modes,
    monomial_factorials,
    monomial_positions,
    n_monomials,
    symmetric_powers,
    unpack_symmetric,
)

# Products of at most four factors in either order: a few units in the last place.
ALGEBRA = 1e-14

sizes = st.tuples(st.integers(1, 4), st.integers(0, 4))


def integer_columns(n_variables, n_samples):
    return arrays(np.float64, (n_variables, n_samples), elements=st.integers(-9, 9).map(float))


@given(sizes, st.data())
def test_unpacked_powers_are_outer_products(size, data):
    """Integers make both sides exact."""
    n_variables, degree = size
    columns = data.draw(integer_columns(n_variables, 3))
    packed = symmetric_powers(columns, degree)
    full = unpack_symmetric(packed.T, n_variables, degree)
    expected = np.stack([power(x, degree) for x in columns.T])
    np.testing.assert_array_equal(full, expected)


@given(sizes, st.data())
def test_powers_are_in_lexicographic_order(size, data):
    n_variables, degree = size
    columns = data.draw(integer_columns(n_variables, 2))
    expected = [
        prod((columns[i] for i in index), start=np.ones(2))
        for index in combinations_with_replacement(range(n_variables), degree)
    ]
    np.testing.assert_array_equal(symmetric_powers(columns, degree), expected)


@given(sizes)
def test_positions_are_those_of_the_sorted_index(size):
    n_variables, degree = size
    order = {
        index: place
        for place, index in enumerate(combinations_with_replacement(range(n_variables), degree))
    }
    positions = monomial_positions(n_variables, degree)
    assert positions.shape == (n_variables,) * degree
    for index in product(range(n_variables), repeat=degree):
        assert positions[index] == order[tuple(sorted(index))]


@given(sizes)
def test_factorials_are_the_top_derivative(size):
    """d^m of x_1^p x_2^q .. along its own variables is p! q! .."""
    n_variables, degree = size
    expected = [
        prod(factorial(times) for times in Counter(index).values())
        for index in combinations_with_replacement(range(n_variables), degree)
    ]
    np.testing.assert_array_equal(monomial_factorials(n_variables, degree), expected)


@pytest.mark.parametrize("degree", range(5))
def test_number_of_monomials(degree):
    for n in range(1, 6):
        counted = len(list(combinations_with_replacement(range(n), degree)))
        assert n_monomials(n, degree) == counted == comb(n + degree - 1, degree)
    assert n_monomials(0, degree) == int(degree == 0)


def test_powers_write_into_a_given_array():
    columns = np.random.default_rng(0).standard_normal((3, 5))
    out = np.full((8, 5), np.nan)
    symmetric_powers(columns, 2, out[1:7])
    np.testing.assert_array_equal(out[1:7], symmetric_powers(columns, 2))
    assert np.isnan(out[[0, 7]]).all()


def test_powers_accept_read_only_and_strided_columns():
    columns = np.random.default_rng(1).standard_normal((8, 10))
    strided = columns[::2, ::2]
    strided.flags.writeable = False
    expected = symmetric_powers(np.ascontiguousarray(strided), 3)
    np.testing.assert_array_equal(symmetric_powers(strided, 3), expected)
    np.testing.assert_array_equal(symmetric_powers(np.asfortranarray(strided), 3), expected)


def test_cached_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        monomial_positions(3, 2)[0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        monomial_factorials(3, 2)[0] = 5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_matrix_on_all_modes(order):
    rng = np.random.default_rng(order)
    tensor, matrix = rng.standard_normal((2, *(3,) * order)), rng.standard_normal((4, 3))
    letters = "pqr"[:order]
    terms = ",".join(f"{x.upper()}{x}" for x in letters)
    expected = np.einsum(f"a{letters},{terms}->a{letters.upper()}", tensor, *[matrix] * order)
    np.testing.assert_allclose(
        apply_to_modes(tensor, matrix, order), expected, rtol=0, atol=100 * ALGEBRA
    )
