"""Segments of large outputs: whether the system that made the others made them, too.

A network that explains the others explains these to a part of their size, with residuals like
theirs: large states are what a refinement learns most from. Of another system, or in other units,
they are not explained, and one of them outweighs a hundred others.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._arrays import like, row_squares, to_host
from gloree.diagnostics import Finding, OutlierWarning
from gloree.engine import Source
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows

UNLIKE = 25.0
"""Mean square residual of a segment, over that of the others, from which on it is not like them."""

UNEXPLAINED = 0.01
"""The same over the mean square of its own outputs: a tenth of their size."""

UNLIKE_ROWS, FEWEST_SEGMENTS, LEFT_OUT_SHARE = 100.0, 10, 0.1
"""The first number for rows that are added to a fit, of so many segments or more, up to this share:
more of them are another system."""


@dataclass(frozen=True)
class SegmentSquares:
    """Of segments: first rows, sequences, mean squares of residuals and of outputs; all (n,).

    Outputs are measured from the bias of the network.
    """

    start: IntArray
    sequence: IntArray
    residuals: Array
    outputs: Array

    def unlike(self, usual: float, factor: float = UNLIKE) -> SegmentSquares:
        """Those that are not explained, given the mean square residual of the others."""
        chosen = (self.residuals > factor * usual) & (self.residuals > UNEXPLAINED * self.outputs)
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


def without_unlike(
    problem: FitProblem, model: Network, source: Source, precision: Array
) -> tuple[Source, tuple[Finding, ...]]:
    """Rows to be added to a fit, without the few segments that it does not explain at all.

    `precision` is that of the noise of the outputs, (n_outputs, n_outputs).
    """
    if source.n_segments < FEWEST_SEGMENTS:
        return source, ()
    root = np.asarray(np.linalg.cholesky(precision / len(precision)), dtype=np.float64)
    with suppress(ExplosionError):  # which the descent names
        squares = segment_squares(problem, model, source, root=root)
        usual = max(1.0, float(np.median(squares.residuals)))
        found = squares.unlike(usual, UNLIKE_ROWS)
        if 0 < found.start.size <= LEFT_OUT_SHARE * squares.start.size:
            return replace(source, skipped=found.start), (found.finding(usual),)
    return source, ()


def segment_squares(
    problem: FitProblem,
    model: Network,
    source: Source,
    chosen: IntArray | None = None,
    root: Array | None = None,
) -> SegmentSquares:
    """Squares of segments that begin at `chosen` rows, or of all: a forward pass.

    With `root` of rows times this matrix, (n_outputs, n_outputs).
    """
    function = partial(_of_batch, model=model, chosen=chosen, root=root)
    parts = problem.engine.collect(function, source)
    return SegmentSquares(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _of_batch(
    batch: Batch, model: Network, chosen: IntArray | None, root: Array | None = None
) -> tuple[IntArray, IntArray, Array, Array]:
    rows, segments = batch.counted_rows, batch.segments
    place = np.repeat(np.arange(len(segments)), batch.lengths)[rows]
    counts = np.maximum(np.bincount(place, minlength=len(segments)), 1)
    from_bias = batch.targets - like(batch.targets, model.output_bias)
    values = [to_host(each)[rows] for each in (residual_rows(model, batch), from_bias)]
    if root is not None:
        values = [each @ root for each in values]
    residuals, outputs = (
        np.bincount(place, row_squares(each), minlength=len(segments)) / counts for each in values
    )
    everything = np.ones(len(segments), dtype=bool)
    kept = everything if chosen is None else np.isin(segments.start, chosen)
    return segments.start[kept], segments.sequence[kept], residuals[kept], outputs[kept]
