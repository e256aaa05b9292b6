"""How parts of the data are cut into batches, and what becomes of a batch: without the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import beside, like
from gloree._brief import Brief
from gloree.sequences import (
    Array,
    Batch,
    Cut,
    IntArray,
    Part,
    Segments,
    joint_windows,
    lag_windows,
)


@dataclass(frozen=True)
class BatchTransform(Brief):
    """What becomes of a batch between the data and a pass function.

    Attributes
    ----------
    lags : int
        Inputs become windows [x_t, x_{t-1}, .., x_{t-lags+1}]; the first lags - 1 steps of a
        sequence, whose windows reach before its start, are context.
    both_ways : bool
        Windows look ahead too, [.., x_{t+1}, .., x_{t+lags-1}], for bidirectional networks; all
        steps count then, with zeros beyond the ends.
    scale : ndarray of shape (n_inputs,) or None
        Powers of two that the inputs are multiplied by: units of the data become units near 1.
    centre : ndarray of shape (n_columns,) or None
        Subtracted from the inputs (from the windows, if `lags` > 1).
    encode : callable or None
        Applied to the outputs: shape (n_rows, n_outputs) to any number of columns.
    counting : ndarray of bool of shape (n_rows of the data,) or None
        Rows of the data that may count in sums; None means all.
    beside : callable or None
        Gives more columns of the inputs, (n_rows, any number), of a batch that is otherwise ready.
    """

    lags: int = 1
    both_ways: bool = False
    scale: Array | None = None
    centre: Array | None = None
    encode: Callable[[Array], Array] | None = None
    counting: NDArray[np.bool_] | None = None
    beside: Callable[[Batch], Array] | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Make what a pass function sees of a batch as it is in the data."""
        if self.counting is not None:
            batch = replace(batch, mask=self.counting[batch.data_rows])
        if self.scale is not None:
            batch = replace(batch, X=batch.X * like(batch.X, self.scale))
        if self.lags > 1 and self.both_ways:
            windows = joint_windows(batch.X, batch.local, batch.local_after, self.lags)
            batch = replace(batch, X=windows)
        elif self.lags > 1:
            incomplete = np.minimum(self.lags - 1 - batch.first_step, batch.lengths - batch.after)
            batch = replace(
                batch,
                X=lag_windows(batch.X, batch.local, self.lags),
                before=np.maximum(batch.before, np.maximum(incomplete, 0)),
            )
        if self.encode is not None:
            batch = replace(batch, Y=self.encode(batch.targets))
        if self.centre is not None:
            batch = replace(batch, X=batch.X - like(batch.X, self.centre))
        if self.beside is not None:
            batch = replace(batch, X=beside((batch.X, like(batch.X, self.beside(batch)))))
        return batch


@dataclass(frozen=True)
class Batching:
    """How parts of the data are cut into batches, for tasks that hold a part (see `Source`)."""

    batch_size: int
    segment: int | None
    before: int
    after: int
    stride: int
    left_out: IntArray | None
    skipped: IntArray | None

    def batches_of(self, part: Part) -> Iterator[Segments]:
        """Segments of all batches of a part, one batch at a time."""
        lengths = np.diff(part.starts)
        place = (part.first_row, part.first_sequence)
        return self.batches(Cut(lengths, self.segment, self.before, self.after, *place))

    def batches(self, cut: Cut) -> Iterator[Segments]:
        """Segments of all batches of one cut."""
        for listed in every(cut.batches(self.batch_size * self.stride), self.stride):
            segments = self.visited(listed)
            if len(segments):
                yield segments

    def visited(self, segments: Segments) -> Segments:
        """Segments without those that are left out."""
        if self.left_out is not None and self.left_out.size:
            segments = segments[~_is_among(segments.sequence, self.left_out)]
        if self.skipped is not None and self.skipped.size:
            segments = segments[~_is_among(segments.start, self.skipped)]
        return segments


def _is_among(numbers: IntArray, increasing: IntArray) -> np.ndarray:
    place = np.searchsorted(increasing, numbers)
    found: np.ndarray = increasing[np.minimum(place, increasing.size - 1)] == numbers
    return found


def every(batches: Iterable[Segments], stride: int) -> Iterator[Segments]:
    """Every so many of the segments of all batches, wherever these begin; no batch is empty."""
    if stride == 1:
        yield from filter(len, batches)
        return
    seen = 0
    for segments in batches:
        chosen = segments[-seen % stride :: stride]
        seen += len(segments)
        if len(chosen):
            yield chosen
