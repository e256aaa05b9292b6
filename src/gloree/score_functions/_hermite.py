"""Hermite tensors: the score tensors of a law whose log-density is quadratic."""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import copied, is_tensor, like, namespace
from gloree.sequences import Array


def hermite_along(projection: ArrayLike, variance: ArrayLike, order: int) -> Array:
    r"""Hermite polynomial of a projected score, of the shape that the arguments broadcast to.

    .. math:: S_m(v, .., v) = He_m(s \cdot v;\; v^T K v), \qquad
              He_{m+1}(x; q) = x He_m(x; q) - m q He_{m-1}(x; q)

    Parameters
    ----------
    projection, variance : array
        s.v and v^T K v.
    order : int
        m, at least 0.

    Examples
    --------
    >>> from gloree.score_functions import hermite_along
    >>> hermite_along([1.0, 2.0], 1.0, order=3)
    array([-2.,  2.])
    """
    check_order(order, "order", minimum=0)
    x: Array = like(projection, cast(Array, projection))
    q: Array = like(projection, cast(Array, variance))
    if not is_tensor(x):
        x, q = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(q, np.float64))
    previous, current = namespace(x).ones_like(x), copied(x)
    for m in range(1, order):
        previous, current = current, x * current - m * q * previous
    polynomial: Array = current if order else previous
    return polynomial


def hermite_tensor(score: ArrayLike, covariance: ArrayLike, order: int) -> Array:
    r"""Hermite tensor of a vector with respect to a covariance.

    .. math:: H_0 = 1, \qquad H_{m+1}[i, j_1 .. j_m] = s_i H_m[j_1 .. j_m]
              - \sum_r K[i, j_r] \, H_{m-1}[j_1 .. j_{r-1} j_{r+1} .. j_m]

    so H_2 = s s^T - K, H_3 = s^3 - 3 sym(s K), H_4 = s^4 - 6 sym(s^2 K) + 3 sym(K K): the score
    tensor S_m of a Gaussian law with score s and precision K.

    Parameters
    ----------
    score : array of shape (..., d)
    covariance : array of shape (d, d) or (..., d, d)
    order : int
        m, at least 0.

    Returns
    -------
    ndarray of shape (..., d, .., d)
        Symmetric in its last `order` axes.

    Raises
    ------
    ValueError
        If shapes do not fit, the covariance is not symmetric, or `order` is negative.

    Notes
    -----
    Time O(m^2 d^m) and memory O(d^m) for each score: meant for small sizes.

    Examples
    --------
    >>> from gloree.score_functions import hermite_tensor
    >>> hermite_tensor([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]], order=2)
    array([[0., 2.],
           [2., 3.]])
    """
    check_order(order, "order", minimum=0)
    s = np.asarray(score, dtype=np.float64)
    k = np.asarray(covariance, dtype=np.float64)
    if s.ndim == 0 or k.shape[-2:] != (s.shape[-1], s.shape[-1]):
        raise ValueError(
            f"`score` has shape {s.shape} and `covariance` {k.shape}: expected (..., d) and "
            f"(d, d) or (..., d, d)"
        )
    units = np.sqrt(np.abs(np.diagonal(k, axis1=-2, axis2=-1)))
    limit = 1e-8 * units[..., :, np.newaxis] * units[..., np.newaxis, :]
    if (np.abs(k - k.swapaxes(-1, -2)) > limit).any():
        raise ValueError("`covariance` is not symmetric, and neither would the tensor be")
    lead = np.broadcast_shapes(s.shape[:-1], k.shape[:-2])
    d = s.shape[-1]
    rows = np.broadcast_to(s, (*lead, d)).reshape(-1, d)
    covariances = np.broadcast_to(k, (*lead, d, d)).reshape(-1, d, d)
    tensor = mixed_hermite(rows, rows, covariances, covariances, covariances, (order, 0))
    return tensor.reshape(lead + (d,) * order)


def mixed_hermite(
    first: Array,
    second: Array,
    first_covariance: Array,
    cross_covariance: Array,
    second_covariance: Array,
    orders: tuple[int, int],
) -> Array:
    """Block of the Hermite tensors of stacked vectors, shape (n, d1, .., d1, d2, .., d2).

    `first` and `second` have shapes (n, d1) and (n, d2), their covariances (n or 1, d1, d1),
    (n or 1, d1, d2) and (n or 1, d2, d2); `orders` counts the axes in the first and second part.
    """

    @cache
    def tensor(a: int, b: int) -> Array:
        if a == b == 0:
            return np.ones(first.shape[0])
        # The new axis is put first among those of its part: always in front of the array.
        vector, own = (first, first_covariance) if a else (second, second_covariance)
        result = outer(vector, tensor(a - 1, b) if a else tensor(0, b - 1))
        for r in range(a - 1 if a else b - 1):
            smaller = tensor(a - 2, b) if a else tensor(0, b - 2)
            result -= np.moveaxis(outer(own, smaller), 2, 2 + r)
        for r in range(b if a else 0):
            paired = outer(cross_covariance, tensor(a - 1, b - 1))
            result -= np.moveaxis(paired, 2, 1 + a + r)
        return result

    return tensor(*orders)


def outer(left: Array, right: Array) -> Array:
    """Outer product of the trailing axes, row by row."""
    a = left.reshape(left.shape + (1,) * (right.ndim - 1))
    return np.asarray(a * right.reshape(right.shape[:1] + (1,) * (left.ndim - 1) + right.shape[1:]))


def check_order(order: object, name: str, *, minimum: int = 1) -> int:
    """Refuse anything but an integer of at least `minimum`, with a ValueError."""
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < minimum:
        raise ValueError(f"`{name}` is {order!r}, expected an integer of at least {minimum}")
    return int(order)
