"""J^T J as Gauss-Newton uses it, and the rows that it is taken from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gloree.engine import Source, Subset
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import GradientSums, HessianSums
from gloree.sequences import Array, Batch, Segments

RESIDUALS_PER_PARAMETER = 100
"""Residuals (rows times outputs) of the subsample for each free parameter."""

ROWS_PER_PARAMETER = 10
"""Rows of the subsample for each free parameter, at least."""

LEAST_ROWS = 4000
"""Rows of the subsample, at least."""

GRADIENT_SHARE = 6
"""Rows of the subsample, if that is more, as a multiple of all rows over the weights: that takes
about as long as a gradient, since a row takes a seventh of the weights as long."""

ENOUGH, ENOUGH_ROWS = 150, 20_000
"""Rows for each weight, and rows, beyond which the number of all rows adds no more: a step then
gains about a hundredth of what the one before did, and the second is the last."""

MOST_ROWS = 2**18
"""Rows beyond which it does not, either: what is kept of them has to stay small."""

LEAST_SEGMENTS = 32
"""Segments of a chunk, at least, where the pass could do with fewer of them."""

LEAST_CURVATURE = 0.1
"""Curvature along a step, relative to the expected one, from which a BFGS correction is safe."""


class Curvature(Protocol):
    """J^T J of all the data at a model; after steps from there corrected, or taken anew."""

    @property
    def hessian(self) -> HessianSums | None:
        """The matrix, if it was formed."""

    def step(self, model: Network, gradient: Array, damping: float) -> Array:
        """Gauss-Newton step (J^T J)^+ J^T r of a damped matrix."""

    def correct(self, step: Array, change: Array) -> None:
        """Take in a step and the change of the gradient along it."""


@dataclass(frozen=True)
class Strata:
    """Segments that stand for all the data, in two strata.

    The segments of largest leverage |f'| (1 + |h|), half of the rows, are all of their kind and
    count once; the others are picked systematically, and reweighted. (A plain subsample misses the
    few segments that carry most of J^T J when f is a polynomial.)

    Attributes
    ----------
    segments : Segments
        All of them, in the order of the data.
    heavy : ndarray of bool of shape (n_segments,)
        Those of large leverage.
    weight : float
        What the rows of the others count.
    """

    segments: Segments
    heavy: NDArray[np.bool_]
    weight: float

    @classmethod
    def of(cls, source: Source, current: GradientSums, wanted: int) -> Strata:
        """Choose about so many rows; all there are, as heavy ones, if that is half of them."""
        if 2 * wanted >= source.n_rows:
            everything = source.sample(source.n_segments)
            return cls(everything, np.ones(len(everything), dtype=bool), 1.0)
        leverage = current.leverage
        order = np.argsort(-leverage.values, kind="stable")
        rows = leverage.segments.counted
        cut = int(np.searchsorted(np.cumsum(rows[order]), wanted / 2)) + 1
        top = leverage.segments[np.sort(order[:cut])]
        covered = top.n_counted
        # so many that about half of what is wanted remains without those of the top
        rest = max(source.data.n_rows - covered, 1)
        picked = source.sample(n_segments_of(source, wanted * source.data.n_rows // (2 * rest)))
        picked = picked[~np.isin(picked.start, top.start)]
        weight = (current.n_rows - covered) / max(picked.n_counted, 1)
        both = top.merge(picked)
        place = np.argsort(both.start)
        return cls(both[place], place < len(top), weight)

    def weights_of(self, batch: Batch) -> Array:
        """What the rows of each segment of a batch count."""
        heavy = self.heavy[np.searchsorted(self.segments.start, batch.segments.start)]
        return np.where(heavy, 1.0, self.weight)


def hessian_rows(layout: Layout, n_rows: int) -> int:
    """Rows of the subsample that J^T J is taken from, of so many."""
    return max(
        LEAST_ROWS,
        ROWS_PER_PARAMETER * layout.size,
        RESIDUALS_PER_PARAMETER * layout.size // layout.n_outputs,
        min(
            GRADIENT_SHARE * n_rows // layout.size,
            max(ENOUGH * layout.size, ENOUGH_ROWS),
            MOST_ROWS,
        ),
    )


def n_segments_of(source: Source, n_rows: int) -> int:
    """Segments that hold so many rows, on average."""
    return max(1, -(-n_rows * source.n_segments // source.data.n_rows))


def chunks(source: Source, segments: Segments, n_segments: int, n_rows: int) -> Subset:
    """Batches of at most so many segments and rows, about.

    Four for the workers at least, but of `LEAST_SEGMENTS` times the `room` where the data are: the
    steps of a few segments take as long as those of one.
    """
    total = len(segments)
    least = min(4, total // (LEAST_SEGMENTS * source.room))
    wanted = max(1, least, -(-total // n_segments), -(-segments.n_rows // n_rows))
    return Subset(source, segments.split_evenly(wanted))
