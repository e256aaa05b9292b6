"""Randomised range finder: the space spanned by the input weights when n_inputs is large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gloree._arrays import column_sums, like, namespace, take_rows, to_host
from gloree._sums import Sums
from gloree.sequences import Array, Batch


@dataclass(frozen=True)
class RangeSums(Sums):
    """Sums behind E[(w.y) S_2] Omega for a few output directions w.

    Attributes
    ----------
    n_rows : float
    products : ndarray of shape (n_weights, n_directions, n_probes)
        Sum of (w.y) s (s^T Omega).
    weights : ndarray of shape (n_weights,)
        Sum of w.y.
    """

    n_rows: float
    products: Array = field(repr=False)
    weights: Array

    def finalize(self, probes: Array) -> Array:
        """Return E[(w.y) S_2] Omega, the columns of all w side by side (unit score covariance)."""
        moment = (self.products - self.weights[:, None, None] * probes) / self.n_rows
        columns: Array = np.concatenate(list(moment), axis=1)
        return columns


def range_sums(
    batch: Batch,
    vectors: Callable[[Batch], Array],
    targets: Callable[[Batch], Array],
    probes: Array,
) -> RangeSums:
    """Sums of one batch: the map of a range finder's pass.

    Parameters
    ----------
    batch : Batch
    vectors, targets : callable
        Whitened scores (or inputs), shape (n_rows, n_directions), and centred combinations w.y of
        the outputs, shape (n_rows, n_weights), of all rows of a batch.
    probes : ndarray of shape (n_directions, n_probes)
        Omega.

    Notes
    -----
    Time O(n_rows n_directions n_probes n_weights): no tensor of n_directions^2 entries.
    """
    s = take_rows(vectors(batch), batch.counted)
    values = take_rows(targets(batch), batch.counted)
    count = float(s.shape[0])
    if batch.weights is not None:
        own = batch.weights[batch.counted_rows]
        values, count = values * like(values, own)[:, None], float(own.sum())
    projected = s @ like(s, probes)
    products = [s.T @ (projected * values[:, a, None]) for a in range(values.shape[1])]
    stacked = to_host(namespace(s).stack(products))
    return RangeSums(count, stacked, to_host(column_sums(values)))


def range_basis(columns: Array, size: int) -> Array:
    """Orthonormal basis of the leading left singular vectors, shape (n_directions, size)."""
    left: Array = np.linalg.svd(columns, full_matrices=False)[0]
    return left[:, :size]
