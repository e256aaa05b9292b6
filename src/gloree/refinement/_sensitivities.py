"""Exact derivatives of the squared error: gradient by the adjoint, J^T J by sensitivities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gloree._arrays import (
    beside,
    column_squares,
    contiguous,
    empty,
    index,
    is_tensor,
    like,
    namespace,
    ones,
    row_squares,
    stretch_maxima,
    take_rows,
    to_host,
    zeros,
)
from gloree._sums import Sums
from gloree.models import Network
from gloree.recurrence import SpreadSums
from gloree.refinement._layout import Direction, Layout
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._separate_units import separate_sums, units_are_separate
from gloree.sequences import Array, Batch, IntArray, LargestSegments
from gloree.states import residual_rows


@dataclass(frozen=True)
class SquareSums(Sums):
    """Squared error: the sum of (y - y^)^2 of each output."""

    n_rows: float
    squares: Array

    @property
    def total(self) -> float:
        """Sum over all outputs."""
        return float(self.squares.sum())

    @property
    def mean(self) -> float:
        """Squared error per row, summed over outputs."""
        return self.total / self.n_rows


def square_sums(batch: Batch, model: Network) -> SquareSums:
    """Squared error of one batch: a forward pass."""
    residuals = take_rows(residual_rows(model, batch), batch.counted)
    return SquareSums(float(batch.n_counted), to_host(column_squares(residuals)))


@dataclass(frozen=True)
class ResidualSums(Sums):
    """Sum of r r^T over the rows that count, (n_outputs, n_outputs)."""

    n_rows: float
    products: Array

    @property
    def covariance(self) -> Array:
        """E[r r^T] of a step."""
        return self.products / self.n_rows


def residual_sums(batch: Batch, model: Network) -> ResidualSums:
    """Products of the residuals of one batch: a forward pass."""
    residuals = take_rows(residual_rows(model, batch), batch.counted)
    return ResidualSums(float(batch.n_counted), to_host(residuals.T @ residuals))


@dataclass(frozen=True)
class SquaresAndProducts(SquareSums):
    """Squared error, and the sum of r r^T, (n_outputs, n_outputs)."""

    products: Array


@dataclass(frozen=True)
class GradientSums(SquareSums):
    """`SquareSums`, and J^T r, minus half the gradient of the squared error.

    `leverage` is the largest |delta_t| (1 + |h_t|) of each segment, with delta_t the adjoint.
    """

    gradient: Array = field(repr=False)
    leverage: LargestSegments = field(repr=False, metadata={"nested": True})


def gradient_sums(
    batch: Batch,
    model: Network,
    layout: Layout,
    n_largest: int | None = None,
    at: Linearisation | None = None,
) -> GradientSums:
    r"""Sums of one batch for the gradient of the squared error.

    The leverage of `n_largest` segments is kept, or that of all. `at` is the network linearised
    there, if that is known.

    .. math::
        \delta_t = f'(z_t) \circ (A_2 r_t + U^T \delta_{t+1}), \qquad
        J^T r = \Big( \sum_t \delta_t (x_t, h_{t-1}, 1)^T,\; \sum_t r_t (h_t, 1, x_t)^T \Big)

    and for backward units with :math:`V^T \delta_{t-1}` and :math:`w_{t+1}`. The coefficient of
    :math:`z^m` in unit i has :math:`\sum_t (A_2 r_t + U^T \delta_{t+1})_i z_{ti}^m`. Time
    O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)): about two forward passes.
    """
    at = at or Linearisation.of(batch, model, layout)
    residuals, sqrt = at.residuals(), namespace(at.slopes).sqrt
    delta = at.adjoint(residuals)
    leverage = sqrt(row_squares(delta)) * (1.0 + sqrt(row_squares(at.states.h)))
    largest = to_host(stretch_maxima(leverage, batch.starts))
    kept = LargestSegments.of(largest, batch.segments, n_largest)
    n_rows, squares = float(batch.n_counted), to_host(column_squares(residuals))
    return GradientSums(n_rows, squares, at.pulled_back(residuals, delta), kept)


@dataclass(frozen=True)
class HessianSums(Sums):
    """Gauss-Newton Hessian: the sum of J^T J, (size, size)."""

    n_rows: float
    hessian: Array = field(repr=False)


ROWS_TOGETHER = 128
"""Sensitivities of steps of a few segments wait until so many rows are multiplied at once."""


def segments_at_once(layout: Layout) -> int:
    """Segments whose sensitivities fit into 2 MiB."""
    return max(8, 2**18 // (layout.n_hidden * layout.n_unit_parameters))


def rows_at_once(layout: Layout) -> int:
    """Rows whose sensitivities, kept where there are two chains, fit into 32 MiB."""
    kept = sum(part.n_units * part.size for part in layout.directions[:-1])
    return max(256, 2**22 // max(kept, 1))


def hessian_sums(
    batch: Batch,
    model: Network,
    layout: Layout,
    weights: Array | None = None,
    metric: Array | None = None,
    at: Linearisation | None = None,
) -> HessianSums:
    r"""Sums of one batch for J^T J by exact forward sensitivities.

    With a `metric` of the outputs, G of shape (n_outputs, n_outputs), for sum_t J_t^T G J_t.

    .. math::
        \frac{\partial h_t}{\partial \theta_i} = f'(z_t) \circ
            \Big( e_i (x_t, h_{t-1}, 1)^T + U \frac{\partial h_{t-1}}{\partial \theta_i} \Big),
        \qquad
        \frac{\partial h_t}{\partial c_{im}} = e_i z_{ti}^m + f'(z_t) \circ
            U \frac{\partial h_{t-1}}{\partial c_{im}}

    Of two chains, the forward one is run first and its sensitivities are kept: the other one walks
    the steps in the opposite order. The rows of a segment count `weights`, (n_segments,), or 1.
    `at` is the network linearised on the batch, if that is known.

    Time O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), memory O(n_segments n_hidden^2
    (n_inputs + n_hidden)), for a bidirectional network with n_rows in place of n_segments; for a
    subsample of the data. Without a recurrence time is n_hidden times less.
    """
    at = at or Linearisation.of(batch, model, layout)
    weights = np.ones(batch.lengths.shape[0]) if weights is None else weights
    # sensitivities are linear in what enters a unit, so the roots of the weights multiply that
    roots = like(at.slopes, np.repeat(np.sqrt(weights), batch.lengths)[:, None])
    regressors = at.leaving() * roots
    metric = np.eye(layout.n_outputs) if metric is None else metric
    width, rows = layout.n_unit_parameters, batch.counted_rows
    sums = separate_sums if units_are_separate(at) else _recurrent_sums
    units, coupling = sums(at, roots, regressors, metric, rows)
    hessian = np.zeros((layout.size, layout.size))
    hessian[:width, :width] = units
    hessian[:width, width:] = coupling.reshape(width, -1)
    hessian[width:, :width] = hessian[:width, width:].T
    phi = take_rows(regressors, index(regressors, rows))
    hessian[width:, width:] = np.kron(metric, to_host(phi.T @ phi))
    segment_of = np.repeat(np.arange(weights.shape[0]), batch.lengths)[rows]
    n_rows = np.bincount(segment_of, minlength=weights.shape[0])
    return HessianSums(float(weights @ n_rows), hessian)


def _recurrent_sums(
    at: Linearisation, roots: Array, regressors: Array, metric: Array, counted: IntArray
) -> tuple[Array, Array]:
    """Blocks of J^T G J as `separate_sums` returns them, by sensitivities along the chains."""
    batch, layout, slopes = at.batch, at.layout, at.slopes
    counting = np.bincount(counted, minlength=batch.n_rows) > 0
    # (A2 L)^T = Q R with G = L L^T: of J only R times the sensitivities S is needed, as
    # R^T R = A2 G A2^T, and S^T A2 G = (R S)^T (L Q)^T
    factor = np.linalg.cholesky(metric)
    turn, root = (np.asarray(part) for part in np.linalg.qr((at.model.output_weights @ factor).T))
    turn, root = factor @ turn, like(slopes, root)
    parts = [direction for direction in layout.directions if direction.n_units]
    kept = [_all_rows(at, roots, direction) for direction in parts[:-1]]
    width = layout.n_unit_parameters
    units = zeros(slopes, (width, width))
    mixed = zeros(slopes, (turn.shape[1], width, layout.output_width))
    waiting: list[tuple[Array, Array]] = []
    n_waiting, n_seen = 0, 0
    for rows, outwards in _sensitivity_steps(at, roots, parts[-1], root[:, parts[-1].units]):
        n_seen += rows.size
        if (chosen := np.flatnonzero(counting[rows])).size:
            whole, place = chosen.size == rows.size, index(slopes, rows[chosen])
            joined = outwards if whole else outwards[:, index(slopes, chosen)]
            if kept:
                (part, values), seen = (parts[0], kept[0]), joined.reshape(-1, parts[-1].size)
                before = root[:, part.units] @ values[:, place].reshape(part.n_units, -1)
                joined = beside([before.reshape(-1, part.size), seen])
                joined = joined.reshape(turn.shape[1], chosen.size, width)
            waiting.append((joined, regressors[place]))
            n_waiting += chosen.size
        if waiting and (n_seen == batch.n_rows or n_waiting >= ROWS_TOGETHER):
            joined, entering = (
                values[0] if len(waiting) == 1 else namespace(slopes).concatenate(values, axis=-2)
                for values in zip(*waiting, strict=True)
            )
            flat = joined.reshape(-1, width)
            units += flat.T @ flat
            mixed += joined.swapaxes(1, 2) @ entering
            waiting, n_waiting = [], 0
    return to_host(units), np.einsum("ar,rpf->paf", turn, to_host(mixed))


def _sensitivity_steps(
    at: Linearisation, roots: Array, direction: Direction, outwards: Array | None = None
) -> Iterator[tuple[IntArray, Array]]:
    """Rows of some steps, and d h_t / d theta there times their roots, (n_units, n_rows, size).

    With a matrix `outwards` (m, n_units), its product with them, (m, n_rows, size), formed while
    they are in the cache. Steps of a few segments come together, `ROWS_TOGETHER` rows or more.
    """
    k, cut, size = direction.n_units, direction.n_entering, direction.size
    slopes, units = at.slopes, direction.units
    U = like(slopes, at.model.recurrent_weights[units, units])
    recurrent = at.layout.recurrent and bool(U.any())
    packing = at.batch.mirrored if direction.prefix == "backward_" else at.batch.packing
    entering = packing.pack(at.entering(direction) * roots)
    steep = packing.pack(slopes[:, units])
    own = packing.pack(at.powers(direction) * roots)
    owners, places = index(slopes, direction.owners), index(slopes, np.arange(cut, size))
    n_seen = k if outwards is None else outwards.shape[0]
    matmul, row = namespace(slopes).matmul, 0
    now, spare = _Sensitivity.zeros(slopes, direction, 0), _Sensitivity.zeros(slopes, direction, 0)
    for bounds in _steps_together(packing.step_starts):
        begin, end, n_steps = bounds[0], bounds[-1], len(bounds) - 1
        alive = (end - begin) // n_steps
        seen = empty(slopes, (n_steps, n_seen, alive, size))
        if now.alive != alive:
            kept = contiguous(now.values[:, :alive])
            now, spare = (_Sensitivity.zeros(slopes, direction, alive) for _ in range(2))
            if begin:
                now.values[...] = kept
        for step in range(n_steps):
            now, spare = spare, now
            values, following = now.values, row + alive
            if row and recurrent:
                matmul(U, spare.values.reshape(k, -1), out=values.reshape(k, -1))
            else:
                values[...] = 0.0
            now.add(entering[row:following])
            values *= steep[row:following].T[:, :, None]
            if size > cut:
                values[owners, :, places] += own[row:following].T
            if outwards is None:
                seen[step] = values
            else:
                matmul(outwards, values.reshape(k, -1), out=seen[step].reshape(n_seen, -1))
            row = following
        together = seen[0] if n_steps == 1 else seen.swapaxes(0, 1).reshape(n_seen, -1, size)
        yield packing.rows[begin:end], together


@dataclass(frozen=True, eq=False)
class _Sensitivity:
    """Sensitivities of the units of some segments at one step, (n_units, alive, size).

    `own` are views of those to weights that enter the unit itself: of all of them, (n_units, alive,
    width), or of one unit each.
    """

    values: Array
    own: Array | list[Array]

    @classmethod
    def zeros(cls, beside: Array, direction: Direction, alive: int) -> _Sensitivity:
        """No sensitivity."""
        k, m = direction.n_units, direction.width
        values = zeros(beside, (k, alive, direction.size))
        if is_tensor(values):
            return cls(values, [values[i, :, i * m : (i + 1) * m] for i in range(k)])
        a, b, c = values.strides
        return cls(values, as_strided(values, (k, alive, m), (a + m * c, b, c)))

    @property
    def alive(self) -> int:
        """Segments."""
        return int(self.values.shape[1])

    def add(self, entering: Array) -> None:
        """Add what enters each unit, (alive, width)."""
        if isinstance(self.own, list):
            for own in self.own:
                own += entering
        else:
            own = self.own
            own += entering


def _steps_together(step_starts: IntArray) -> Iterator[list[int]]:
    """First rows of steps of as many segments each that are few, and the row after the last."""
    bounds = step_starts.tolist()
    first = 0
    for step in range(1, len(bounds)):
        alive = bounds[step] - bounds[step - 1]
        last = step == len(bounds) - 1
        if (
            last
            or bounds[step] - bounds[first] >= ROWS_TOGETHER
            or bounds[step + 1] - bounds[step] != alive
        ):
            yield bounds[first : step + 1]
            first = step


def _all_rows(at: Linearisation, roots: Array, direction: Direction) -> Array:
    """Sensitivities of all rows of a batch, shape (n_units, n_rows, size)."""
    kept: Array = empty(at.slopes, (direction.n_units, at.batch.n_rows, direction.size))
    for rows, values in _sensitivity_steps(at, roots, direction):
        kept[:, index(kept, rows)] = values
    return kept


def spread_sums(batch: Batch, model: Network, layout: Layout) -> SpreadSums:
    """Sums of one batch for the spread of the score, by the adjoint.

    Time O(n_rows n_hidden (n_inputs + n_hidden) + n_segments size^2), memory O(n_segments size).
    """
    joined = segment_scores(batch, model, layout)
    return SpreadSums(float(batch.lengths.shape[0]), joined.T @ joined)


def segment_scores(
    batch: Batch,
    model: Network,
    layout: Layout,
    signal: Callable[[Linearisation], Array] | None = None,
) -> Array:
    """Score J^T r of each segment of a batch, (n_segments, size), by the adjoint.

    In place of the residuals, `signal` gives minus the slope of another loss in the outputs of all
    rows, zero on context.
    """
    at = Linearisation.of(batch, model, layout)
    residuals = at.residuals() if signal is None else signal(at)
    delta, constant = at.adjoint(residuals), ones(residuals, (batch.n_rows, 1))
    terms, scores = at.coefficient_terms(residuals, delta), []
    for direction, values in zip(layout.directions, terms, strict=True):
        own = delta[:, direction.units]
        scores.append(_segment_products(batch, own, at.entering(direction)))
        scores.append(_segment_products(batch, values, constant))
    joined = beside([*scores, _segment_products(batch, residuals, at.leaving())])
    return np.asarray(to_host(joined))


def unit_sensitivities(at: Linearisation) -> list[Array]:
    """Sensitivities of all rows, (n_units, n_rows, size), for each direction with units."""
    roots = ones(at.slopes, (at.batch.n_rows, 1))
    parts = [direction for direction in at.layout.directions if direction.n_units]
    return [np.asarray(to_host(_all_rows(at, roots, direction))) for direction in parts]


def _segment_products(batch: Batch, left: Array, right: Array) -> Array:
    """Sum of left_t (x) right_t over each segment, shape (n_segments, n_left * n_right)."""
    n_segments, n_left, n_right = batch.lengths.shape[0], left.shape[1], right.shape[1]
    length = int(batch.lengths[0])
    if bool((batch.lengths == length).all()):
        stacked = left.reshape(n_segments, length, n_left).swapaxes(1, 2)
        total: Array = stacked @ right.reshape(n_segments, length, n_right)
    else:
        total = zeros(left, (n_segments, n_left, n_right))
        for i, (begin, end) in enumerate(pairwise([*batch.starts.tolist(), batch.n_rows])):
            total[i] = left[begin:end].T @ right[begin:end]
    return total.reshape(n_segments, n_left * n_right)
