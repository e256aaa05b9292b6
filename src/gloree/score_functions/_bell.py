"""Score tensors of any law: Bell polynomials of the derivatives of its log-density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb

import numpy as np

from gloree.chains import DerivativeLaw, HermiteLaw, law_derivatives
from gloree.score_functions._hermite import check_order, outer
from gloree.sequences import Array, Batch, IntArray


def bell_tensors(derivatives: Sequence[Array]) -> tuple[Array, ...]:
    r"""Score tensors from the derivatives D_1, .., D_m of a log-density.

    .. math:: S_m = (-1)^m B_m(D_1, .., D_m), \qquad
              B_{m+1}[i, J] = \sum_{K \subseteq J} D_{|K|+1}[i, K] \, B_{m-|K|}[J - K]

    with B the complete Bell polynomials, so that S_1 = -D_1, S_2 = D_1 D_1^T + D_2 (:eq:`bell`).

    Parameters
    ----------
    derivatives : sequence of ndarray
        D_k of shape (n_rows, d, .., d), symmetric in its k axes.

    Returns
    -------
    tuple of ndarray
        S_1, .., S_m, of the same shapes.

    Notes
    -----
    Time O(2^m n_rows d^m).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.score_functions import bell_tensors
    >>> bell_tensors([np.array([[2.0]]), np.array([[[-1.0]]])])[1]
    array([[[3.]]])
    """
    if not derivatives:
        raise ValueError("`derivatives` is empty: give D_1, .., D_m of a log-density")
    bells: list[Array] = [np.ones(derivatives[0].shape[0])]
    for m in range(len(derivatives)):
        # subsets of equal size give one product, with its axes in other places
        total = np.zeros(derivatives[m].shape)
        for size in range(m + 1):
            product = outer(derivatives[size], bells[m - size])
            for chosen in combinations(range(m), size):
                others = [place for place in range(m) if place not in chosen]
                axes = [0, *(1 + place for place in chosen), *(1 + place for place in others)]
                total += product.transpose(0, *(1 + axes.index(axis) for axis in range(m + 1)))
        bells.append(total)
    return tuple((-1) ** m * bell for m, bell in enumerate(bells[1:], start=1))


def score_tensors(
    law: DerivativeLaw | HermiteLaw, batch: Batch, order: int
) -> Callable[[IntArray], tuple[Array, ...]]:
    """Score tensors S_1, .., S_m of the steps of a batch, as a function of row indices.

    Nothing of the size of the batch is built but first-order scores: moments take them for a block
    of rows at a time.

    Parameters
    ----------
    law : DerivativeLaw or HermiteLaw
    batch : Batch
        With the context that the law's score needs.
    order : int
        m.

    Returns
    -------
    callable
        From row indices to arrays of shapes (n_rows, n_inputs), (n_rows, n_inputs, n_inputs), ..

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import StudentVAR
    >>> from gloree.score_functions import score_tensors
    >>> from gloree.sequences import as_sequences
    >>> law = StudentVAR(0.5 * np.eye(2), np.eye(2), df=5)
    >>> batch = as_sequences(law.sample(3, 5, random_state=0)).whole()
    >>> [tensor.shape for tensor in score_tensors(law, batch, 3)(np.array([0, 4]))]
    [(2, 2), (2, 2, 2), (2, 2, 2, 2)]
    """
    at = law_derivatives(law, batch, check_order(order, "order"))
    return lambda rows: bell_tensors(at(rows))


def along(tensor: Array, directions: Array) -> Array:
    """Contract every axis of (n_rows, d, .., d) with one direction, for each of them.

    `directions` has shape (n_directions, d), the result (n_rows, n_directions).
    """
    d = directions.shape[1]
    powers = np.ones((directions.shape[0], 1))
    for _ in range(tensor.ndim - 1):
        powers = (powers[:, :, np.newaxis] * directions[:, np.newaxis, :]).reshape(len(powers), -1)
    contracted: Array = tensor.reshape(tensor.shape[0], d ** (tensor.ndim - 1)) @ powers.T
    return contracted


def scores_along(derivatives: Sequence[Array], directions: Array) -> Array:
    r"""S_m(v, .., v) for each direction v, from derivatives contracted along it.

    .. math:: B_{m+1} = \sum_{k=0}^m \binom{m}{k} D_{k+1}(v, .., v) \, B_{m-k}

    Parameters
    ----------
    derivatives : sequence of ndarray
        D_1, .., D_m, of shapes (n_rows, d, .., d).
    directions : ndarray of shape (n_directions, d)

    Returns
    -------
    ndarray of shape (n_rows, n_directions)
    """
    if not derivatives:
        raise ValueError("`derivatives` is empty: give D_1, .., D_m of a log-density")
    contracted = [along(each, directions) for each in derivatives]
    bells = [np.ones((derivatives[0].shape[0], directions.shape[0]))]
    for m in range(len(contracted)):
        bells.append(
            np.asarray(sum(comb(m, k) * contracted[k] * bells[m - k] for k in range(m + 1)))
        )
    return np.asarray((-1) ** len(contracted) * bells[-1])
