"""Spread of the score over segments, behind sandwich standard errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from gloree._arrays import beside, ones, to_host, zeros
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    adjoint_rows,
    coefficient_products,
    entering_unit,
    output_regressors,
)
from gloree.sequences import Array, Batch
from gloree.states import residual_rows, run_states, without_context


@dataclass(frozen=True)
class SpreadSums(Sums):
    """Spread of the score over segments, the middle of sandwich standard errors.

    Attributes
    ----------
    n_segments : float
    spread : ndarray of shape (size, size)
        Sum over segments of g g^T, g = sum of J^T r in the segment.
    """

    n_segments: float
    spread: Array = field(repr=False)


def spread_sums(batch: Batch, model: Network, layout: Layout) -> SpreadSums:
    """Sums of one batch for the spread of the score, by the adjoint.

    Notes
    -----
    Time O(n_rows n_hidden (n_inputs + n_hidden) + n_segments size^2), memory O(n_segments size).
    """
    states = run_states(model, batch)
    residuals = without_context(batch, residual_rows(model, batch, states))
    slopes = model.activation.derivative(states.z, 1)
    delta = adjoint_rows(model, batch, slopes, residuals, recurrent=layout.recurrent)
    coefficients = coefficient_products(batch, model, layout, states, delta, residuals)
    constant = ones(residuals, (batch.n_rows, 1))
    scores = []
    for direction, products in zip(layout.directions, coefficients, strict=True):
        entering = entering_unit(batch, states, layout, direction)
        scores.append(_segment_products(batch, delta[:, direction.units], entering))
        scores.append(_segment_products(batch, products, constant))
    scores.append(_segment_products(batch, residuals, output_regressors(batch, states, layout)))
    joined = beside(scores)
    return SpreadSums(float(batch.lengths.shape[0]), to_host(joined.T @ joined))


def _segment_products(batch: Batch, left: Array, right: Array) -> Array:
    """Sum of left_t (x) right_t over each segment, shape (n_segments, n_left * n_right)."""
    n_segments, n_left, n_right = batch.lengths.shape[0], left.shape[1], right.shape[1]
    length = int(batch.lengths[0])
    if bool((batch.lengths == length).all()):
        stacked = left.reshape(n_segments, length, n_left).swapaxes(1, 2)
        equal: Array = stacked @ right.reshape(n_segments, length, n_right)
        return equal.reshape(n_segments, n_left * n_right)
    total = zeros(left, (n_segments, n_left, n_right))
    for i, (begin, end) in enumerate(pairwise([*batch.starts.tolist(), batch.n_rows])):
        total[i] = left[begin:end].T @ right[begin:end]
    found: Array = total.reshape(n_segments, n_left * n_right)
    return found
