"""J^T J as Gauss-Newton uses it, and the rows that it is taken from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gloree.engine import Source
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import GradientSums, HessianSums
from gloree.sequences import Array, Batch, IntArray, split_evenly

RESIDUALS_PER_PARAMETER = 100
"""Residuals (rows times outputs) of the subsample for each free parameter."""

ROWS_PER_PARAMETER = 10
"""Rows of the subsample for each free parameter, at least."""

LEAST_ROWS = 4000
"""Rows of the subsample, at least."""

GRADIENT_SHARE = 6
"""Rows of the subsample, at least, as a multiple of all rows over the weights: a row of J^T J takes
about a twentieth of the weights as long as one of a gradient, so this is a third of that pass."""

CHUNK_ROWS = 2**13
"""Rows of a chunk of segments, at most (about), so that memory stays small beside the data."""


LEAST_CURVATURE = 0.1
"""Curvature along a step, relative to the expected one, from which a BFGS correction is safe."""


class Curvature(Protocol):
    """J^T J of all the data at a model; after steps from there corrected, or taken anew."""

    @property
    def hessian(self) -> HessianSums | None:
        """The matrix, if it was formed."""

    def step(self, model: Network, gradient: Array, damping: float) -> Array:
        """Gauss-Newton step (J^T J)^+ J^T r of a damped matrix."""

    def share(self, step: Array) -> float:
        """Largest s_b^T H_bb s_b over the number of weights, over weight matrices b.

        What the step would still gain in one of them; its statistical error alone is worth the
        noise variance for each weight.
        """

    def uncertainty(self, step: Array) -> float:
        """`share` of the error of a step that is due to the choice of the rows behind J^T J.

        With D half of the difference of J^T J between two halves of these rows, the error of a step
        s is about (J^T J)^{-1} D s.
        """

    def correct(self, step: Array, change: Array) -> None:
        """Take in a step and the change of the gradient along it."""


def weight_blocks(layout: Layout) -> list[IntArray]:
    """Places of each weight matrix in the parameter vector."""
    return [index.ravel() for index in layout.indices.values() if index.size]


@dataclass(frozen=True)
class Strata:
    """Segments that stand for all the data, in three strata.

    The segments of largest leverage |f'| (1 + |h|), half of the rows, are all of their kind and
    count once; the others are picked systematically, in turn for two halves, and reweighted. (A
    plain subsample misses the few segments that carry most of J^T J when f is a polynomial.)

    Attributes
    ----------
    table : ndarray of shape (n_segments, 5)
        All of them, in the order of the data.
    strata : ndarray of shape (n_segments,)
        0 for those of large leverage, 1 and 2 for the halves of the others.
    weight : float
        What the rows of the halves count.
    """

    table: IntArray
    strata: IntArray
    weight: float

    @classmethod
    def of(cls, source: Source, current: GradientSums, wanted: int) -> Strata:
        """Choose about so many rows; all there are, as stratum 0, if there are no more."""
        if wanted >= source.data.n_rows:
            table = source.sample(source.n_segments)
            return cls(table, np.zeros(table.shape[0], dtype=np.int64), 1.0)
        leverage = current.leverage
        order = np.argsort(-leverage.values, kind="stable")
        rows = leverage.tables[:, 3] - leverage.tables[:, 2]
        cut = int(np.searchsorted(np.cumsum(rows[order]), wanted / 2)) + 1
        top = leverage.tables[np.sort(order[:cut])]
        heavy = _counted(top)
        # so many that about half of what is wanted remains without those of the top
        rest = max(source.data.n_rows - heavy, 1)
        picked = source.sample(n_segments_of(source, wanted * source.data.n_rows // (2 * rest)))
        picked = picked[~np.isin(picked[:, 2], top[:, 2])]
        light = _counted(picked)
        weight = (current.n_rows - heavy) / light if light else 1.0
        strata = np.concatenate(
            (np.zeros(top.shape[0], dtype=np.int64), 1 + np.arange(picked.shape[0]) % 2)
        )
        table = np.concatenate((top, picked))
        place = np.argsort(table[:, 2])
        return cls(table[place], strata[place], weight)

    @property
    def weights(self) -> Array:
        """What a row of each stratum counts."""
        return np.array([1.0, self.weight, self.weight])

    @property
    def signs(self) -> Array:
        """What a row of each stratum counts in the difference of the halves."""
        return np.array([0.0, self.weight, -self.weight])

    def of_batch(self, batch: Batch) -> IntArray:
        """Strata of the segments of a batch."""
        own: IntArray = self.strata[np.searchsorted(self.table[:, 2], batch.table[:, 2])]
        return own


def _counted(table: IntArray) -> int:
    return int((table[:, 3] - table[:, 2]).sum())


def hessian_rows(layout: Layout, n_rows: int) -> int:
    """Rows of the subsample that J^T J is taken from, of so many."""
    return max(
        LEAST_ROWS,
        ROWS_PER_PARAMETER * layout.size,
        RESIDUALS_PER_PARAMETER * layout.size // layout.n_outputs,
        GRADIENT_SHARE * n_rows // layout.size,
    )


def n_segments_of(source: Source, n_rows: int) -> int:
    """Segments that hold so many rows, on average."""
    return max(1, -(-n_rows * source.n_segments // source.data.n_rows))


def chunks(table: IntArray, n_segments: int, n_rows: int = CHUNK_ROWS) -> list[IntArray]:
    """Chunks of so many segments and rows, about; at least four of equal size for the workers."""
    rows = int((table[:, 4] - table[:, 1]).sum())
    most = min(CHUNK_ROWS, n_rows)
    return split_evenly(table, max(4, -(-table.shape[0] // n_segments), -(-rows // most)))
