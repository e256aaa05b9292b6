"""What a pass runs over: the data of a fit, cut into the same batches each time, or a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import room
from gloree._brief import Brief
from gloree.engine._batching import Batching, BatchTransform
from gloree.sequences import (
    Array,
    Batch,
    Cut,
    Data,
    IntArray,
    Segments,
    Sequences,
    spread_over,
)

Rows = TypeVar("Rows")

BATCH_ROWS = 2**14
"""Rows of a batch where nothing else is asked for."""

LEAST_ROWS = 2**12
"""Rows of a batch of a small subset, at least."""

KEPT_NUMBERS = 2**22
"""Inputs and outputs of a subset that is kept in memory, at most: 32 MiB."""


def _between(numbers: IntArray | None, first: np.int64, end: np.int64) -> IntArray | None:
    if numbers is None:
        return None
    start, stop = np.searchsorted(numbers, (first, end))
    return numbers[start:stop]


@dataclass(frozen=True)
class Source(Brief):
    """The data of a fit and how they are cut: the same batches in every pass.

    Attributes
    ----------
    data : Data
    batch_size : int
        Rows that count in a batch, about.
    segment : int or None
        Sequences longer than this are cut into pieces of at most that many rows.
    before, after : int
        Rows of context on either side of a piece.
    lags, both_ways, scale, centre, encode, counting, beside
        See `BatchTransform`.
    stride : int
        Passes over all of the data visit every so many segments only.
    left_out : ndarray of int or None
        Sequences to leave out, in increasing order.
    skipped : ndarray of int or None
        First counted rows of segments to leave out, in increasing order.
    most_kept : int
        Inputs and outputs of a subset that may be kept in memory, at most.
    """

    data: Data
    batch_size: int = BATCH_ROWS
    segment: int | None = None
    before: int = 0
    after: int = 0
    lags: int = 1
    both_ways: bool = False
    scale: Array | None = None
    centre: Array | None = None
    encode: Callable[[Array], Array] | None = None
    counting: NDArray[np.bool_] | None = None
    stride: int = 1
    left_out: IntArray | None = None
    skipped: IntArray | None = None
    most_kept: int = KEPT_NUMBERS
    beside: Callable[[Batch], Array] | None = None

    def __post_init__(self) -> None:
        if self.segment is not None and self.before < self.lags - 1:
            raise ValueError("`before` must reach the `lags` of a window")
        if self.segment is not None and self.both_ways and self.after < self.lags - 1:
            raise ValueError("`after` must reach the `lags` of a window")

    @classmethod
    def around(cls, data: Data, before: int, after: int) -> Source:
        """Cut data for a pass that needs so many rows before and after each step."""
        segment = max(BATCH_ROWS, 4 * max(before, after))
        return cls(data, BATCH_ROWS, segment, before, after)

    @property
    def transform(self) -> BatchTransform:
        """What becomes of a batch, without the data."""
        given = (self.lags, self.both_ways, self.scale, self.centre, self.encode, self.counting)
        return BatchTransform(*given, self.beside)

    @property
    def batching(self) -> Batching:
        """How the data are cut into batches, without the data."""
        return Batching(**{each.name: getattr(self, each.name) for each in fields(Batching)})

    def batching_of(self, part: int) -> Batching:
        """The same for a task that holds one part: it needs what is left out of that part only."""
        sequences, rows = self.data.part_sequences, self.data.part_rows
        return replace(
            self.batching,
            left_out=_between(self.left_out, sequences[part], sequences[part + 1]),
            skipped=_between(self.skipped, rows[part], rows[part + 1]),
        )

    def read(self, segments: Segments) -> Batch:
        """Read one batch of one part of the data."""
        return self.transform(self.data.open(self.data.part_with(segments)).batch(segments))

    @cached_property
    def _cuts(self) -> list[Cut]:
        return self.data.cuts(segment=self.segment, before=self.before, after=self.after)

    @cached_property
    def _numbers(self) -> IntArray:
        """Number of the first segment of each part, and the number of segments at the end."""
        return np.concatenate(([0], np.cumsum([cut.n_segments for cut in self._cuts])))

    @property
    def n_segments(self) -> int:
        """Segments, those that are left out included."""
        return int(self._numbers[-1])

    @property
    def n_rows(self) -> int:
        """Steps that passes visit, about."""
        return self.data.n_rows // self.stride

    @cached_property
    def n_visited(self) -> int:
        """Segments that passes see."""
        if self.left_out is None and self.skipped is None:
            return self.n_segments
        return sum(len(segments) for segments in self.iter_batches())

    @property
    def n_columns(self) -> int:
        """Inputs and outputs of a row, as passes see them; lags included, encoded outputs not."""
        windows = 2 * self.lags - 1 if self.both_ways else self.lags
        return windows * self.data.n_inputs + self.data.n_outputs

    @property
    def room(self) -> int:
        """How many times as many rows go into a block where the data are (see `_arrays.room`)."""
        return room(self.data.X) if isinstance(self.data, Sequences) else 1

    @property
    def n_batches(self) -> int:
        """Batches of a pass over everything, about."""
        return int(np.sum(-(-np.diff(self.data.part_rows) // (self.batch_size * self.stride))))

    def iter_batches(self) -> Iterator[Segments]:
        """Segments of all batches, one batch at a time."""
        for cut in self._cuts:
            yield from self.batching.batches(cut)

    def as_subset(self) -> Subset:
        """All batches, listed: for data of moderate size."""
        return Subset(self, list(self.iter_batches()))

    def choose(self, numbers: IntArray) -> Segments:
        """Segments with these numbers (increasing), without those left out."""
        places = np.searchsorted(numbers, self._numbers)
        pieces = []
        for i in np.flatnonzero(np.diff(places)):
            own = numbers[places[i] : places[i + 1]]
            pieces.append(self._cuts[i].segments(own - self._numbers[i]))
        return self.batching.visited(Segments.concatenate(pieces))

    def whole(self, sequences: IntArray) -> Segments:
        """Segments of these sequences (increasing), without those left out."""
        bounds = self.data.part_sequences
        places = np.searchsorted(sequences, bounds)
        pieces = [
            cut.of_sequences(sequences[first:end] - bounds[i])
            for i, (cut, first, end) in enumerate(
                zip(self._cuts, places[:-1], places[1:], strict=True)
            )
        ]
        return self.batching.visited(Segments.concatenate(pieces))

    def sample(self, n_segments: int) -> Segments:
        """So many segments, evenly spread over the data."""
        return self.choose(spread_over(self.n_segments, n_segments))

    def subset(self, n_rows: int, *, keep: bool = False) -> Subset:
        """Batches of every m-th segment, about `n_rows` rows in all, spread over the data.

        The batches are of equal size, four at least, so that no worker waits for the last one; but
        of few rows fewer, since every batch costs half a millisecond.
        """
        if n_rows >= self.data.n_rows:
            return replace(self.as_subset(), keep=keep)
        chosen = self.sample(max(1, round(self.n_segments * n_rows / self.data.n_rows)))
        several = max(1, min(4, n_rows // (LEAST_ROWS * self.room)))
        batches = chosen.split_evenly(max(several, -(-n_rows // self.batch_size)))
        return Subset(self, batches, keep)


@dataclass(frozen=True, eq=False)
class Subset:
    """Some batches of a source, and nothing else.

    Attributes
    ----------
    source : Source
    batches : sequence of Segments
    keep : bool
        Whether engines may keep the rows in memory from the first pass on, if they are few. A dozen
        passes of a fit see a few thousand rows: taken from files or a stream each time, these would
        cost as much reading as passes over all that is there.
    """

    source: Source
    batches: Sequence[Segments]
    keep: bool = False
    _rows: list[Any] = field(default_factory=list, init=False, repr=False)

    @property
    def data(self) -> Data:
        """The data of the source."""
        return self.source.data

    @property
    def transform(self) -> BatchTransform:
        """What becomes of a batch."""
        return self.source.transform

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self.batches)

    @property
    def n_visited(self) -> int:
        """Segments of all batches."""
        return sum(map(len, self.batches))

    @property
    def n_rows(self) -> int:
        """Rows of all batches, context included."""
        return sum(segments.n_rows for segments in self.batches)

    @property
    def n_counted(self) -> int:
        """Rows of all batches that count."""
        counting = self.source.counting
        if counting is None:
            return sum(segments.n_counted for segments in self.batches)
        before = np.concatenate(([0], np.cumsum(counting)))
        rows = self.segments
        return int(np.sum(before[rows.stop] - before[rows.start]))

    @property
    def segments(self) -> Segments:
        """Segments of all batches."""
        return Segments.concatenate(self.batches)

    @property
    def is_kept(self) -> bool:
        """Whether the rows are kept in memory: they may be, and are few."""
        return self.keep and self.n_rows * self.source.n_columns <= self.source.most_kept

    def iter_batches(self) -> Iterator[Segments]:
        """Segments of all batches, one batch at a time."""
        return iter(self.batches)

    def as_subset(self) -> Subset:
        """Itself, as of a source."""
        return self

    def joined(self, other: Subset) -> Subset:
        """These batches and those of another subset of the same source."""
        return Subset(self.source, [*self.batches, *other.batches])

    def kept_rows(self, read: Callable[[Subset], Rows]) -> Rows:
        """Return what `read` gives, which is called when this is asked for first."""
        if not self._rows:
            self._rows.append(read(self))
        rows: Rows = self._rows[0]
        return rows

    @property
    def has_rows(self) -> bool:
        """Whether `kept_rows` has rows already."""
        return bool(self._rows)

    def forget_rows(self) -> None:
        """Let the rows be read again when they are asked for."""
        self._rows.clear()


Selection: TypeAlias = Source | Subset
"""What a pass runs over."""
