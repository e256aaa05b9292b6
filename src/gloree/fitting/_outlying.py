"""Segments of large outputs: whether the system that made the others made them, too.

A network that explains the others explains these to a part of their size, with residuals like
theirs: large states are what a refinement learns most from. Of another system, or in other units,
they are not explained, and one of them outweighs a hundred others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._arrays import like, row_squares, to_host
from gloree.diagnostics import Finding, OutlierWarning
from gloree.engine import Source
from gloree.fitting._problem import FitProblem
from gloree.models import Network
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows

UNLIKE = 25.0
"""Mean square residual of a segment, over that of the others, from which on it is not like them."""

UNEXPLAINED = 0.01
"""The same over the mean square of its own outputs: a tenth of their size."""


@dataclass(frozen=True)
class SegmentSquares:
    """Of segments: first rows, sequences, mean squares of residuals and of outputs; all (n,).

    Outputs are measured from the bias of the network.
    """

    start: IntArray
    sequence: IntArray
    residuals: Array
    outputs: Array

    def unlike(self, usual: float) -> SegmentSquares:
        """Those that are not explained, given the mean square residual of the others."""
        chosen = (self.residuals > UNLIKE * usual) & (self.residuals > UNEXPLAINED * self.outputs)
        return SegmentSquares(
            self.start[chosen], self.sequence[chosen], self.residuals[chosen], self.outputs[chosen]
        )

    def finding(self, usual: float) -> Finding:
        """Say that they were left out."""
        names = np.unique(self.sequence)
        shown = f"{', '.join(map(str, names[:10].tolist()))}{', ..' if names.size > 10 else ''}"
        size = float(np.sqrt(self.residuals.max() / max(usual, np.finfo(np.float64).tiny)))
        return Finding(
            OutlierWarning,
            f"{self.start.size} segment(s) of large outputs, of sequence(s) {shown}, were left out "
            f"of the fit: what fits the others leaves residuals there that are up to {size:.2g} "
            f"times theirs",
            "look at the units of these sequences, or fit them apart if another system made them",
        )


def segment_squares(
    problem: FitProblem, model: Network, source: Source, chosen: IntArray
) -> SegmentSquares:
    """Squares of segments that begin at `chosen` rows: a forward pass over all."""
    parts = problem.engine.collect(partial(_of_batch, model=model, chosen=chosen), source)
    return SegmentSquares(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _of_batch(
    batch: Batch, model: Network, chosen: IntArray
) -> tuple[IntArray, IntArray, Array, Array]:
    rows, segments = batch.counted_rows, batch.segments
    place = np.repeat(np.arange(len(segments)), batch.lengths)[rows]
    counts = np.maximum(np.bincount(place, minlength=len(segments)), 1)
    from_bias = batch.targets - like(batch.targets, model.output_bias)
    residuals, outputs = (
        np.bincount(place, to_host(row_squares(each))[rows], minlength=len(segments)) / counts
        for each in (residual_rows(model, batch), from_bias)
    )
    kept = np.isin(segments.start, chosen)
    return segments.start[kept], segments.sequence[kept], residuals[kept], outputs[kept]
