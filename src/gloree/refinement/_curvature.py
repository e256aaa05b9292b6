"""J^T J as Gauss-Newton uses it, and the rows that it is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gloree.engine import Engine, Source, Subset
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    hessian_sums,
    rows_at_once,
    segments_at_once,
)
from gloree.sequences import Array, Batch, Segments, spread_over

RESIDUALS_PER_PARAMETER = 100
"""Residuals (rows times outputs) of the subsample for each free parameter."""

ROWS_PER_PARAMETER = 10
"""Rows of the subsample for each free parameter, at least."""

LEAST_ROWS = 4000
"""Rows of the subsample, at least."""

GRADIENT_SHARE = 6
"""Rows of the subsample as a multiple of all rows over the weights, if that is more. J^T J then
takes about as long as a gradient, since each row takes (weights / 7) times as long."""

ENOUGH, ENOUGH_ROWS = 150, 20_000
"""Rows for each weight, and rows, beyond which `GRADIENT_SHARE` adds no more: a step then gains
about a hundredth of what the one before did, and the second is the last."""

MOST_ROWS = 2**18
"""Rows beyond which it adds no more in any case: what is kept of them has to stay small."""

ROUGHLY, ROUGH_ROWS = 4, 2_000
"""J^T J is of a fourth of the rows, but so many at least, where a search may leave something to
gain. A step then leaves a part more of it, and takes a part of the time."""

PARALLEL = 1e-5
"""Share of a column of J, in squares, that is not along those of the biases, from which on weights
and biases are solved for as they are: the least damping is a small part of that."""

DEPENDENT = 1e-12
"""Singular values of the biases' part of J^T J, relative to the largest, that count as zero."""

NOTHING = 1e-100
"""Diagonal entries of J^T J, relative to the largest, that are no information at all."""

LEAST_SEGMENTS = 32
"""Segments of a chunk, at least, even if the pass needs fewer."""

LEAST_CURVATURE = 0.1
"""Curvature along a step, relative to the expected one, from which a BFGS correction is safe."""


@dataclass(frozen=True)
class Strata:
    """Segments that stand for all the data, in two strata.

    The `heavy` segments, those of largest leverage |delta| (1 + |h|) that hold half of the rows,
    count once. The others are a systematic sample, whose rows count `weight` times. (A plain
    subsample misses the few segments that carry most of J^T J when f is a polynomial.)
    """

    segments: Segments
    heavy: NDArray[np.bool_]
    weight: float

    @classmethod
    def of(cls, source: Source, current: GradientSums, wanted: int) -> Strata:
        """Choose about `wanted` rows; all rows, as heavy ones, if that is half of them or more."""
        if 2 * wanted >= source.n_rows:
            return cls._all_of(source.sample(source.n_segments))
        leverage = current.leverage
        top = _heaviest(leverage.segments, leverage.values, wanted // 2)
        # so many that about half of what is wanted remains once the top ones are left out
        rest = max(source.data.n_rows - top.n_counted, 1)
        picked = source.sample(n_segments_of(source, wanted * source.data.n_rows // (2 * rest)))
        return cls._joined(top, picked[~np.isin(picked.start, top.start)], current.n_rows)

    @classmethod
    def within(cls, current: GradientSums, wanted: int) -> Strata:
        """Choose about `wanted` of the rows whose leverage is known; all if that is half of them.

        The others than the heavy ones are every m-th, as `of` takes them from a source.
        """
        segments = current.leverage.segments
        if 2 * wanted >= current.n_rows:
            return cls._all_of(segments)
        top = _heaviest(segments, current.leverage.values, wanted // 2)
        light = segments[~np.isin(segments.start, top.start)]
        n_picked = max(1, round(len(light) * (wanted // 2) / max(light.n_counted, 1)))
        picked = light[spread_over(len(light), n_picked)]
        return cls._joined(top, picked, current.n_rows)

    @classmethod
    def _all_of(cls, segments: Segments) -> Strata:
        return cls(segments, np.ones(len(segments), dtype=bool), 1.0)

    @classmethod
    def _joined(cls, top: Segments, picked: Segments, n_rows: float) -> Strata:
        weight = (n_rows - top.n_counted) / max(picked.n_counted, 1)
        both = top.merge(picked)
        place = np.argsort(both.start)
        return cls(both[place], place < len(top), weight)

    def weights_of(self, batch: Batch) -> Array:
        """Weight of the rows of each segment of a batch."""
        heavy = self.heavy[np.searchsorted(self.segments.start, batch.segments.start)]
        return np.where(heavy, 1.0, self.weight)


def _heaviest(segments: Segments, leverage: Array, n_rows: int) -> Segments:
    """Segments of largest leverage that hold so many rows, in the order of the data."""
    order = np.argsort(-leverage, kind="stable")
    cut = int(np.searchsorted(np.cumsum(segments.counted[order]), n_rows)) + 1
    return segments[np.sort(order[:cut])]


def hessian_rows(layout: Layout, n_rows: int, *, rough: bool = False) -> int:
    """Rows of the subsample for J^T J, out of `n_rows`; fewer for a `rough` one."""
    size = layout.size
    residuals = RESIDUALS_PER_PARAMETER * size // layout.n_outputs
    share = min(GRADIENT_SHARE * n_rows // size, max(ENOUGH * size, ENOUGH_ROWS), MOST_ROWS)
    wanted = max(LEAST_ROWS, ROWS_PER_PARAMETER * size, residuals, share)
    return max(wanted // ROUGHLY, ROUGH_ROWS) if rough else wanted


def n_segments_of(source: Source, n_rows: int) -> int:
    """Segments that hold `n_rows` rows, on average."""
    return max(1, -(-n_rows * source.n_segments // source.data.n_rows))


def chunks(source: Source, segments: Segments, n_segments: int, n_rows: int) -> Subset:
    """Batches of about `n_segments` segments and `n_rows` rows, at most.

    At least four, for the workers, but of `LEAST_SEGMENTS` times the `room` where the data are: a
    step takes as long for one segment as for a few.
    """
    total = len(segments)
    least = min(4, total // (LEAST_SEGMENTS * source.room))
    wanted = max(1, least, -(-total // n_segments), -(-segments.n_rows // n_rows))
    return Subset(source, segments.split_evenly(wanted))


class Matrix:
    """J^T J as a matrix, from a stratified subsample, corrected by the BFGS formula.

    Time of the pass O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), of a step O(size^3).
    """

    def __init__(
        self, model: Network, layout: Layout, engine: Engine, source: Source, current: GradientSums
    ) -> None:
        self.layout = layout
        self.hessian = hessian_pass(model, layout, engine, source, current)
        self._corrected = self.hessian.hessian.copy()

    def step(self, model: Network, gradient: Array, damping: float) -> Array:
        """Gauss-Newton step (J^T J)^+ J^T r of the damped matrix, by one Cholesky factor."""
        constraints = self.layout.scale_constraints(model)
        apart = bias_columns_apart(self._corrected, self.layout)
        if apart is None:
            return solve_step(self._corrected, gradient, constraints, damping)
        found = solve_step(
            apart.T @ self._corrected @ apart, apart.T @ gradient, constraints @ apart, damping
        )
        return np.asarray(apart @ found)

    def correct(self, step: Array, change: Array) -> None:
        """Take in a step and the change of the gradient along it."""
        self._corrected = corrected(self._corrected, step, change)


def stratified_sums(batch: Batch, model: Network, layout: Layout, strata: Strata) -> HessianSums:
    """J^T J of one batch of the segments of two strata."""
    return hessian_sums(batch, model, layout, strata.weights_of(batch))


def hessian_pass(
    model: Network, layout: Layout, engine: Engine, source: Source, current: GradientSums
) -> HessianSums:
    """J^T J of all data from a stratified subsample of segments, chosen by `gradient_sums`."""
    strata = Strata.of(source, current, hessian_rows(layout, source.n_rows))
    room = source.room
    n_segments = room * segments_at_once(layout)
    n_rows = min(source.batch_size, max(1, room // 8) * rows_at_once(layout))
    function = partial(stratified_sums, model=model, layout=layout, strata=strata)
    some = chunks(source, strata.segments, n_segments, n_rows)
    return engine.run(function, some, label="J^T J")


def bias_columns_apart(curvature: Array, layout: Layout) -> Array | None:
    r"""Matrix T of the coordinates s = T s' in which J T has no parts along the biases' columns.

    States with a mean of many times their spread make all columns of J nearly parallel to those of
    the output biases, and what is left to those of the hidden biases. In these coordinates the
    columns of all other weights hold what is theirs alone, so that damping relative to T^T J^T J T
    does not drown it. None if every weight has a share of `PARALLEL` of its own, and with free
    coefficients, which are another name for biases.
    """
    if layout.free_coefficients:
        return None
    first = layout.indices["output_bias"].ravel() if layout.bias else np.zeros(0, dtype=np.int64)
    second = layout.indices["hidden_bias"].ravel() if layout.unit_bias else first[:0]
    rest = np.setdiff1d(np.arange(layout.size), np.concatenate((first, second)))
    along = _along(curvature[np.ix_(first, first)], curvature[first])
    # what is left of the rows of the second ones, and of the diagonal
    rows = curvature[second] - curvature[np.ix_(second, first)] @ along
    diagonal = np.diag(curvature) - np.sum(along * curvature[first], axis=0)
    along_second = _along(rows[:, second], rows[:, rest])
    left = diagonal[rest] - np.sum(along_second * rows[:, rest], axis=0)
    whole = np.diag(curvature)[rest]
    if np.all(left >= PARALLEL * whole):
        return None
    T = np.eye(layout.size)
    T[np.ix_(first, second)] = -along[:, second]
    T[np.ix_(first, rest)] = along[:, second] @ along_second - along[:, rest]
    T[np.ix_(second, rest)] = -along_second
    return T


def _along(block: Array, rows: Array) -> Array:
    """Least-squares coefficients of columns on some of them, from J^T J."""
    diagonal = np.diag(block)
    scale = 1.0 / np.sqrt(np.where(informed(diagonal), diagonal, 1.0))
    scaled = block * np.outer(scale, scale)
    found = np.linalg.lstsq(scaled, scale[:, None] * rows, rcond=DEPENDENT)[0]
    return np.asarray(scale[:, None] * found)


def informed(diagonal: Array) -> NDArray[np.bool_]:
    """Which weights some row depends on: others have a zero on the diagonal of J^T J, or nearly."""
    return np.asarray(diagonal > NOTHING * max(float(np.max(diagonal, initial=0.0)), 0.0))


def corrected(H: Array, step: Array, change: Array) -> Array:
    """H after the BFGS formula, H step = change; H itself where there is little curvature."""
    along, curved = float(step @ change), H @ step
    expected = float(step @ curved)
    if not along > LEAST_CURVATURE * expected > 0:
        return H
    return np.asarray(H + np.outer(change, change) / along - np.outer(curved, curved) / expected)


def held(H: Array, constraints: Array, scale: Array) -> Array:
    """S H S + C^T C with the scales S of the weights, and rows C of the constraints of length 1."""
    fixed = constraints * scale
    norms = np.linalg.norm(fixed, axis=1, keepdims=True)
    fixed = np.divide(fixed, norms, out=fixed, where=norms > 0)
    return np.asarray(H * np.outer(scale, scale) + fixed.T @ fixed)


def solve_step(curvature: Array, gradient: Array, constraints: Array, damping: float) -> Array:
    """Solve (H + damping diag(H) + C^T C) s = g, with rows and columns scaled to unit diagonal."""
    diagonal = np.diag(curvature).copy()
    known = informed(diagonal)
    diagonal[~known] = diagonal.max() if np.any(known) else 1.0
    scale = 1.0 / np.sqrt(diagonal)
    matrix = held(curvature, constraints, scale)
    matrix[np.diag_indices_from(matrix)] += damping
    right = scale * gradient
    ridge = 0.0
    for _ in range(12):
        try:
            factor = linalg.cho_factor(matrix + ridge * np.eye(matrix.shape[0]))
        except linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-12)
            continue
        solved: Array = scale * linalg.cho_solve(factor, right)
        return solved
    return np.asarray(scale * np.linalg.lstsq(matrix, right, rcond=None)[0])
