"""How sequences are cut into segments: numbered, and listed only as far as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gloree._arrays import IntArray
from gloree._brief import Brief
from gloree.sequences._segments import Segments

SEGMENTS_AT_ONCE = 2**16
"""Segments that `Cut.batches` lists at a time."""


def spread_over(total: int, wanted: int) -> IntArray:
    """Indices of `wanted` of `total` things, evenly spread (all of them if there are fewer)."""
    chosen = min(total, wanted)
    return np.arange(chosen, dtype=np.int64) * total // max(chosen, 1)


@dataclass(frozen=True)
class Cut(Brief):
    """How sequences that stand one after another in flat rows are cut into segments.

    A sequence longer than `segment` (None cuts nothing) is cut into equal pieces of at most that
    many rows; each piece carries up to `before` and `after` rows of context from its own sequence.
    `first_row` and `first_sequence` say where the sequences stand in the whole of the data.
    """

    lengths: IntArray
    segment: int | None = None
    before: int = 0
    after: int = 0
    first_row: int = 0
    first_sequence: int = 0

    @cached_property
    def n_segments(self) -> int:
        """Number of segments."""
        return int(self._ends[-1])

    @cached_property
    def _pieces(self) -> IntArray:
        """Pieces of each sequence."""
        if self.segment is None:
            return np.ones(self.lengths.shape[0], dtype=np.int64)
        return -(-self.lengths.astype(np.int64) // self.segment)

    @cached_property
    def _ends(self) -> IntArray:
        """Number after the last segment of each sequence."""
        return np.cumsum(self._pieces)

    @cached_property
    def _starts(self) -> IntArray:
        """Row at which each sequence begins, and the end of the last one."""
        return self.first_row + np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))

    def segments(self, numbers: IntArray) -> Segments:
        """Segments with these numbers."""
        sequence = np.searchsorted(self._ends, numbers, side="right")
        pieces = self._pieces[sequence]
        index = numbers - (self._ends[sequence] - pieces)
        first, end = self._starts[sequence], self._starts[sequence + 1]
        start = first + index * (end - first) // pieces
        stop = first + (index + 1) * (end - first) // pieces
        before, after = np.maximum(start - self.before, first), np.minimum(stop + self.after, end)
        return Segments.of(sequence + self.first_sequence, before, start, stop, after)

    def of_sequences(self, index: IntArray) -> Segments:
        """Segments of these sequences, counted from the first one here."""
        pieces = self._pieces[index]
        first = self._ends[index] - pieces
        skipped = np.cumsum(pieces) - pieces
        return self.segments(np.arange(int(pieces.sum())) + np.repeat(first - skipped, pieces))

    def batches(self, batch_size: int) -> Iterator[Segments]:
        """All segments in order, in batches of about `batch_size` counted rows, or one segment."""
        waiting: list[Segments] = []
        batch, counted = 0, 0
        for first in range(0, self.n_segments, SEGMENTS_AT_ONCE):
            end = min(first + SEGMENTS_AT_ONCE, self.n_segments)
            listed = self.segments(np.arange(first, end, dtype=np.int64))
            rows = listed.counted
            ends = counted + np.cumsum(rows)
            batch_of = (ends - rows) // max(batch_size, 1)
            counted = int(ends[-1])
            places = np.flatnonzero(np.diff(batch_of, prepend=batch))
            batch = int(batch_of[-1])
            for i, piece in enumerate(listed.split_at(places)):
                if i > 0 and waiting:
                    yield Segments.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                    waiting = []
                if len(piece):
                    waiting.append(piece)
        if waiting:
            yield Segments.concatenate(waiting)
