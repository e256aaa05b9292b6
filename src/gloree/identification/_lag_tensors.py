"""Moments of order two and three of a residual with whitened states, over output lags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np

from gloree.sequences import Array

FIRST_LAG, LAST_LAG = -5, 39
"""Output lags k of the moments."""

N_FILTER = 40
"""Terms of a filter g."""

LAG_WINDOW = max(N_FILTER - FIRST_LAG, LAST_LAG + 1)
"""Neighbouring samples that the moments at all lags take, and shifts by a filter beyond them."""

WHITEN_RTOL = 1e-8
"""Directions of relative variance below this are left out."""

BLOCK_ROWS = 4096
"""Rows whose products are held in memory at a time."""


@dataclass(frozen=True)
class LagTensors:
    """Second- and third-order moments of a residual at several lags.

    Attributes
    ----------
    whitening : ndarray of shape (n_columns, n_whitened)
        x~ = (z - mean) W for z = [h_{t-1}, u_t].
    mean : ndarray of shape (n_columns,)
    second : ndarray of shape (n_lags, n_outputs, n_whitened, n_whitened)
    third : ndarray of shape (n_lags, n_outputs, n_whitened, n_whitened, n_whitened)
    shifts : ndarray of shape (n_shifts, n_whitened, n_whitened)
        R(s) for s from `first_shift` on.
    first_shift : int
    """

    whitening: Array
    mean: Array
    second: Array = field(repr=False)
    third: Array = field(repr=False)
    shifts: Array = field(repr=False)
    first_shift: int

    @property
    def by_order(self) -> Iterator[tuple[int, Array]]:
        """Orders m and their tensors."""
        yield 2, self.second
        yield 3, self.third


def lag_tensors(z: Array, residual: Array) -> LagTensors:
    """Moments of one record.

    Parameters
    ----------
    z : ndarray of shape (n_rows, n_columns)
        [h_{t-1}, u_t] of neighbouring steps.
    residual : ndarray of shape (n_rows, n_outputs)
        Of the linear model, at the same steps.

    Raises
    ------
    ValueError
        If the record is shorter than `LAG_WINDOW`.

    Notes
    -----
    Time O(n_rows (n_lags n_outputs + n_columns) n_columns^3), and memory for `BLOCK_ROWS` rows of
    n_columns^3 products.
    """
    n = z.shape[0]
    if n < LAG_WINDOW:
        raise ValueError(f"`z` has {n} rows, and moments over all lags take {LAG_WINDOW} at least")
    mean = z.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(z.T, ddof=0).reshape(z.shape[1], z.shape[1]))
    kept = values > WHITEN_RTOL * values[-1]
    W = vectors[:, kept] / np.sqrt(values[kept])
    X = (z - mean) @ W
    d = X.shape[1]
    residual = residual - residual.mean(axis=0)
    residual = residual - X @ (X.T @ residual / n)
    lags = range(FIRST_LAG, LAST_LAG + 1)
    moved = np.zeros((n, len(lags), residual.shape[1]))
    for place, lag in enumerate(lags):
        if lag >= 0:
            moved[: n - lag, place] = residual[lag:]
        else:
            moved[-lag:, place] = residual[:lag]
    shifted = moved.reshape(n, -1)
    tensors = []
    for order in (2, 3):
        places = np.array(list(combinations_with_replacement(range(d), order)))
        packed = _hermite_moments(shifted, X, places).reshape(len(lags), -1, places.shape[0])
        full = np.empty((*packed.shape[:2], *(d,) * order))
        for place, index in enumerate(places.tolist()):
            for axes in set(permutations(index)):
                target: Any = (slice(None), slice(None), *axes)
                full[target] = packed[:, :, place]
        tensors.append(full)
    first, last = FIRST_LAG - N_FILTER + 1, LAST_LAG
    shifts = np.stack(
        [
            X[: n - s].T @ X[s:] / n if s >= 0 else X[-s:].T @ X[: n + s] / n
            for s in range(first, last + 1)
        ]
    )
    return LagTensors(W, mean, tensors[0], tensors[1], shifts, first)


def _hermite_moments(targets: Array, X: Array, places: Array) -> Array:
    """E[targets (x) p(X)] for products p without what is constant or linear in the sample.

    With F the products and E[X] = 0, E[X X^T] = I in the sample, these Hermite polynomials of the
    sample are F - E[F] - X E[X^T F], so that a single pass over blocks of rows gives the moments.
    Shapes: targets (n, t), X (n, d), places (p, order); result (t, p).
    """
    n = X.shape[0]
    moments = np.zeros((targets.shape[1], places.shape[0]))
    constant, linear = np.zeros(places.shape[0]), np.zeros((X.shape[1], places.shape[0]))
    for begin in range(0, n, BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        columns = np.ascontiguousarray(X[rows].T)
        products = columns[places[:, 0]]
        for axis in range(1, places.shape[1]):
            products *= columns[places[:, axis]]
        moments += (products @ targets[rows]).T
        constant += products.sum(axis=1)
        linear += (products @ X[rows]).T
    moments -= np.outer(targets.sum(axis=0), constant / n) + targets.T @ X @ (linear / n)
    return np.asarray(moments / n)
