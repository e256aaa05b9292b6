"""The data of a fit and how they are cut: the same batches in every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gloree._arrays import like, room
from gloree.models import joint_windows, lag_windows
from gloree.sequences import (
    Array,
    Batch,
    Cut,
    Data,
    IntArray,
    Part,
    Sequences,
    split_evenly,
    spread_over,
)

BATCH_ROWS = 2**14
"""Rows of a batch where nothing else is asked for."""

LEAST_ROWS = 2**12
"""Rows of a batch of a small subset, at least."""


@dataclass(frozen=True)
class Reading:
    """What becomes of a batch between the data and a pass function.

    Attributes
    ----------
    lags : int
        Inputs become windows [x_t, x_{t-1}, .., x_{t-lags+1}]; the first lags - 1 steps of a
        sequence, whose windows reach before its start, are context.
    both_ways : bool
        Windows look ahead too, [.., x_{t+1}, .., x_{t+lags-1}], for bidirectional networks; all
        steps count then, with zeros beyond the ends.
    centre : ndarray of shape (n_columns,) or None
        Subtracted from the inputs (from the windows, if `lags` > 1).
    encode : callable or None
        Applied to the outputs: shape (n_rows, n_outputs) to any number of columns.
    """

    lags: int = 1
    both_ways: bool = False
    centre: Array | None = None
    encode: Callable[[Array], Array] | None = None

    def __call__(self, part: Part, table: IntArray) -> Batch:
        """Read one batch."""
        return self.of(part.batch(table))

    def of(self, batch: Batch) -> Batch:
        """Make what a pass function sees of a batch as it is in the data."""
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
        return batch


@dataclass(frozen=True)
class Cutting:
    """How parts of the data are cut into batches, without the data: for tasks that hold a part.

    Attributes
    ----------
    batch_size, segment, before, after, stride, left_out, skipped
        See `Source`.
    """

    batch_size: int
    segment: int | None
    before: int
    after: int
    stride: int
    left_out: IntArray | None
    skipped: IntArray | None

    def tables_of(self, part: Part) -> Iterator[IntArray]:
        """Tables of all batches of a part (see `gloree.sequences.Cut`), one at a time."""
        lengths = np.diff(part.starts)
        place = (part.first_row, part.first_sequence)
        return self.tables(Cut(lengths, self.segment, self.before, self.after, *place))

    def tables(self, cut: Cut) -> Iterator[IntArray]:
        """Tables of all batches of one cut."""
        for table in every(cut.batches(self.batch_size * self.stride), self.stride):
            kept = self.kept(table)
            if kept.shape[0]:
                yield kept

    def kept(self, table: IntArray) -> IntArray:
        """Table without the segments that are left out."""
        for column, left_out in ((0, self.left_out), (2, self.skipped)):
            if left_out is not None and left_out.size:
                place = np.searchsorted(left_out, table[:, column])
                found = left_out[np.minimum(place, left_out.size - 1)] == table[:, column]
                table = table[~found]
        return table


def _between(numbers: IntArray | None, first: np.int64, end: np.int64) -> IntArray | None:
    if numbers is None:
        return None
    start, stop = np.searchsorted(numbers, (first, end))
    return numbers[start:stop]


@dataclass(frozen=True)
class Source:
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
    lags, both_ways, centre, encode
        See `Reading`.
    stride : int
        Passes over all of the data visit every so many segments only.
    left_out : ndarray of int or None
        Sequences to leave out, in increasing order.
    skipped : ndarray of int or None
        First counted rows of segments to leave out, in increasing order.
    """

    data: Data
    batch_size: int = BATCH_ROWS
    segment: int | None = None
    before: int = 0
    after: int = 0
    lags: int = 1
    both_ways: bool = False
    centre: Array | None = None
    encode: Callable[[Array], Array] | None = None
    stride: int = 1
    left_out: IntArray | None = None
    skipped: IntArray | None = None

    def __post_init__(self) -> None:
        if self.segment is not None and self.before < self.lags - 1:
            raise ValueError("`before` must reach the `lags` of a window")
        if self.segment is not None and self.both_ways and self.after < self.lags - 1:
            raise ValueError("`after` must reach the `lags` of a window")

    @classmethod
    def around(cls, data: Data, before: int, after: int) -> Source:
        """Cut data for a pass that looks so many rows before and after each step."""
        segment = max(BATCH_ROWS, 4 * max(before, after))
        return cls(data, BATCH_ROWS, segment, before, after)

    @property
    def reading(self) -> Reading:
        """How a batch is read, without the data."""
        return Reading(self.lags, self.both_ways, self.centre, self.encode)

    @property
    def cutting(self) -> Cutting:
        """How the data are cut into batches, without the data."""
        return Cutting(
            batch_size=self.batch_size,
            segment=self.segment,
            before=self.before,
            after=self.after,
            stride=self.stride,
            left_out=self.left_out,
            skipped=self.skipped,
        )

    def cutting_of(self, part: int) -> Cutting:
        """The same for a task that holds one part: it needs what is left out of that part only."""
        sequences, rows = self.data.part_sequences, self.data.part_rows
        return replace(
            self.cutting,
            left_out=_between(self.left_out, sequences[part], sequences[part + 1]),
            skipped=_between(self.skipped, rows[part], rows[part + 1]),
        )

    def read(self, table: IntArray) -> Batch:
        """Read one batch of one part of the data."""
        return self.reading(self.data.open(self.data.part_of(int(table[0, 2]))), table)

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
    def n_kept(self) -> int:
        """Segments that passes see."""
        if self.left_out is None and self.skipped is None:
            return self.n_segments
        return sum(table.shape[0] for table in self.each())

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

    def each(self) -> Iterator[IntArray]:
        """Tables of all batches (see `gloree.sequences.Cut`), one at a time."""
        for cut in self._cuts:
            yield from self.cutting.tables(cut)

    def tables(self) -> list[IntArray]:
        """Tables of all batches: for data of moderate size."""
        return list(self.each())

    def choose(self, numbers: IntArray) -> IntArray:
        """Table of the segments with these numbers (increasing), without those left out."""
        places = np.searchsorted(numbers, self._numbers)
        pieces = [np.empty((0, 5), dtype=np.int64)]
        for i in np.flatnonzero(np.diff(places)):
            own = numbers[places[i] : places[i + 1]]
            pieces.append(self._cuts[i].table(own - self._numbers[i]))
        return self.cutting.kept(np.concatenate(pieces))

    def sample(self, n_segments: int) -> IntArray:
        """Table of so many segments, evenly spread over the data."""
        return self.choose(spread_over(self.n_segments, n_segments))

    def subset(self, n_rows: int) -> list[IntArray]:
        """Batches of every m-th segment, about `n_rows` rows in all, spread over the data.

        The batches are of equal size, four at least, so that no worker waits for the last one; but
        of few rows fewer, since every batch costs half a millisecond.
        """
        if n_rows >= self.data.n_rows:
            return self.tables()
        chosen = self.sample(max(1, round(self.n_segments * n_rows / self.data.n_rows)))
        several = max(1, min(4, n_rows // (LEAST_ROWS * self.room)))
        return split_evenly(chosen, max(several, -(-n_rows // self.batch_size)))


def every(tables: Iterable[IntArray], stride: int) -> Iterator[IntArray]:
    """Every so many of the segments of all tables, wherever these begin; no table is empty."""
    seen = 0
    for table in tables:
        kept = table[-seen % stride :: stride]
        seen += table.shape[0]
        if kept.shape[0]:
            yield kept


def split_tables(
    tables: Iterable[IntArray], n_segments: int
) -> tuple[list[IntArray], list[IntArray]]:
    """Split batches after so many segments; a batch across the cut becomes two."""
    first, second = [], []
    for table in tables:
        cut = min(max(n_segments, 0), table.shape[0])
        first.append(table[:cut])
        second.append(table[cut:])
        n_segments -= table.shape[0]
    first, second = ([table for table in part if table.shape[0]] for part in (first, second))
    return first, second


def halves(tables: Iterable[IntArray]) -> tuple[list[IntArray], list[IntArray]]:
    """Split batches into two halves of alternate segments, for noise estimates.

    Raises
    ------
    ValueError
        If there is only one segment.
    """
    first, second, parity, total = [], [], 0, 0
    for table in tables:
        first.append(table[parity::2])
        second.append(table[1 - parity :: 2])
        parity = (parity + table.shape[0]) % 2
        total += table.shape[0]
    if total < 2:
        raise ValueError("one segment cannot be split into halves: cut the data into more")
    first = [table for table in first if table.shape[0]]
    second = [table for table in second if table.shape[0]]
    return first, second
