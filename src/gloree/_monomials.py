"""Monomials of a vector, each computed once.

A symmetric tensor x^(x)m of a d-vector has C(d + m - 1, m) different entries. All moments here are
accumulated in these and unpacked at the end, so a symmetric product costs 1/m! of the full one.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, factorial

import numpy as np

from gloree._arrays import Array, IntArray, empty, namespace

BLOCK_ENTRIES = 2**18
"""Feature entries held at once: 2 MiB, about one core's second-level cache."""


def block_rows(n_features: int, room: int = 1) -> int:
    """Rows of a block whose features fit into `room` times the cache."""
    return max(64, room * BLOCK_ENTRIES // max(n_features, 1))


def n_monomials(n_variables: int, degree: int) -> int:
    """Count the monomials of exactly this degree: C(d + m - 1, m)."""
    if n_variables == 0:
        return int(degree == 0)
    return comb(n_variables + degree - 1, degree)


def symmetric_powers(columns: Array, degree: int, out: Array | None = None) -> Array:
    """All monomials x_i x_j .. of exactly `degree`, with i <= j <= .., ordered lexicographically.

    `columns`, (n_variables, n_samples), has variables along the first axis, so that every monomial
    is one contiguous row of the result, (C(n_variables + degree - 1, degree), n_samples). One
    multiplication for each entry.
    """
    n_variables, n_samples = columns.shape
    if out is None:
        out = empty(columns, (n_monomials(n_variables, degree), n_samples))
    if degree == 0:
        out[:] = 1.0
        return out
    if degree == 1:
        out[:] = columns
        return out
    lower = columns if degree == 2 else symmetric_powers(columns, degree - 1)
    n_lower, multiply = lower.shape[0], namespace(columns).multiply
    position = 0
    for i in range(n_variables):
        tail = lower[n_lower - n_monomials(n_variables - i, degree - 1) :]
        multiply(columns[i], tail, out=out[position : position + tail.shape[0]])
        position += tail.shape[0]
    return out


@lru_cache(maxsize=64)
def monomial_positions(n_variables: int, degree: int) -> IntArray:
    """Position of the monomial x_i x_j .. for every index (i, j, ..) of the full tensor.

    Returns
    -------
    ndarray of int of shape (n_variables,) * degree
    """
    if degree == 0:
        return np.zeros((), dtype=np.int64)
    shape = (n_variables,) * degree
    index = np.sort(np.indices(shape).reshape(degree, -1), axis=0)
    positions = np.zeros(index.shape[1], dtype=np.int64)
    previous = np.zeros(index.shape[1], dtype=np.int64)
    counts = np.array(
        [[n_monomials(n, m) for m in range(degree + 1)] for n in range(n_variables + 1)],
        dtype=np.int64,
    )
    for place in range(degree):
        rest = degree - place
        # monomials of `rest` variables from `previous` on whose first index is below this one
        positions += counts[n_variables - previous, rest] - counts[n_variables - index[place], rest]
        previous = index[place]
    positions = positions.reshape(shape)
    positions.flags.writeable = False
    return positions


@lru_cache(maxsize=64)
def monomial_factorials(n_variables: int, degree: int) -> Array:
    """Product of the factorials of the exponents of every monomial (its top derivative)."""
    positions = monomial_positions(n_variables, degree)
    times = np.bincount(positions.ravel(), minlength=n_monomials(n_variables, degree))
    values: Array = factorial(degree) / times
    values.flags.writeable = False
    return values


def unpack_symmetric(packed: Array, n_variables: int, degree: int) -> Array:
    """Full symmetric tensor from its different entries.

    Parameters
    ----------
    packed : ndarray of shape (..., C(n_variables + degree - 1, degree))

    Returns
    -------
    ndarray of shape (..., n_variables, .., n_variables)
    """
    return packed[..., monomial_positions(n_variables, degree)]


def apply_to_modes(tensor: Array, matrix: Array, order: int) -> Array:
    """Multiply each of the last `order` modes by a matrix: T(.., M^T, M^T, ..).

    Parameters
    ----------
    tensor : ndarray of shape (..., d, .., d)
        With `order` modes of length d at the end.
    matrix : ndarray of shape (d_new, d)

    Returns
    -------
    ndarray of shape (..., d_new, .., d_new)
    """
    for axis in range(tensor.ndim - order, tensor.ndim):
        tensor = np.moveaxis(np.tensordot(tensor, matrix, axes=(axis, 1)), -1, axis)
    return tensor
