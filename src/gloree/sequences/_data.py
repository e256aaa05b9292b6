"""What every pass needs of data, wherever they are kept: sizes, and rows a part at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import IntArray, float_rows
from gloree._brief import Brief
from gloree._frames import Names
from gloree._mapped import SourceError
from gloree.sequences._batch import Batch
from gloree.sequences._cut import Cut
from gloree.sequences._segments import Segments


@runtime_checkable
class Readable(Protocol):
    """What a task on another machine reads a part from."""

    def read(self) -> Flat:
        """All rows of the part, as they were in the scan."""


class Flat(Protocol):
    """Flat rows and the rows at which sequences begin."""

    @property
    def X(self) -> NDArray[np.generic]:
        """Inputs."""

    @property
    def Y(self) -> NDArray[np.generic] | None:
        """Outputs."""

    @property
    def starts(self) -> IntArray:
        """First row of each sequence, and the number of rows."""


@dataclass(frozen=True)
class Part(Brief):
    """Rows of the data that are at hand, and where they stand in the whole.

    `X` and `Y` keep the dtype they were given in. `starts`, (n_sequences + 1,), are the rows, in
    the whole, at which the sequences of this part begin, and where the last one ends; `first_row`
    and `first_sequence` are the place of the first row, and of the first sequence in `starts`.
    """

    X: NDArray[Any]
    Y: NDArray[Any] | None
    starts: IntArray
    first_row: int = 0
    first_sequence: int = 0

    @classmethod
    def of(cls, data: Flat, first_row: int = 0, first_sequence: int = 0) -> Part:
        """All rows of sequences in memory, at a place in the whole."""
        return cls(data.X, data.Y, first_row + data.starts, first_row, first_sequence)

    def batch(self, segments: Segments) -> Batch:
        """Read one batch: the rows of some segments as float64.

        Whole neighbouring sequences are a view of the data where the dtype allows it.
        """
        sequence, first, start, stop, end = segments.columns
        lengths = end - first
        if bool(np.all(first[1:] == end[:-1])):
            rows: Any = slice(int(first[0]) - self.first_row, int(end[-1]) - self.first_row)
        else:
            shifts = first - (np.cumsum(lengths) - lengths) - self.first_row
            rows = np.arange(int(lengths.sum())) + np.repeat(shifts, lengths)
        starts, index = self.starts, sequence - self.first_sequence
        return Batch(
            X=float_rows(self.X, rows),
            Y=None if self.Y is None else float_rows(self.Y, rows),
            lengths=lengths,
            before=start - first,
            after=end - stop,
            from_start=first == starts[index],
            to_end=end == starts[index + 1],
            sequence=sequence,
            first_step=first - starts[index],
            segments=segments,
        )

    def excerpt(self, first: int, end: int) -> Part:
        """Rows from `first` to before `end` of the whole, without copying them."""
        rows = slice(first - self.first_row, end - self.first_row)
        begin = int(np.searchsorted(self.starts, first, side="right") - 1)
        stop = int(np.searchsorted(self.starts, end, side="left"))
        X, Y = self.X[rows], None if self.Y is None else self.Y[rows]
        return Part(X, Y, self.starts[begin : stop + 1], first, self.first_sequence + begin)


class Data(ABC):
    """Sequences of inputs and outputs in one or more parts; no sequence reaches over two parts."""

    @property
    @abstractmethod
    def n_inputs(self) -> int:
        """Columns of the inputs."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Columns of the outputs (0 without outputs)."""

    @property
    def input_names(self) -> Names | None:
        """Names of the columns of the inputs, where they came as data frames."""
        return None

    @property
    def output_names(self) -> Names | None:
        """Names of the columns of the outputs alike."""
        return None

    @property
    @abstractmethod
    def part_lengths(self) -> Sequence[IntArray]:
        """Steps of the sequences of each part."""

    @abstractmethod
    def open(self, index: int) -> Part:
        """Read a part. A pass opens each part once, in order."""

    @property
    def n_rows(self) -> int:
        """Steps of all sequences together."""
        return int(self.part_rows[-1])

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return int(self.part_sequences[-1])

    @cached_property
    def part_rows(self) -> IntArray:
        """Row at which each part begins, and the number of rows at the end."""
        sizes = [int(lengths.sum(dtype=np.int64)) for lengths in self.part_lengths]
        return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)

    @cached_property
    def part_sequences(self) -> IntArray:
        """Sequence with which each part begins, and the number of sequences at the end."""
        sizes = [lengths.shape[0] for lengths in self.part_lengths]
        return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return max(int(lengths.max()) for lengths in self.part_lengths)

    @property
    def shortest(self) -> int:
        """Steps of the shortest sequence."""
        return min(int(lengths.min()) for lengths in self.part_lengths)

    @property
    @abstractmethod
    def checksum(self) -> int:
        """Number that distinguishes these data from others."""

    def scan(self, *, verbose: int = 0) -> object:
        """Find out what there is, where that needs a first pass over the data."""
        return None

    def remote(self, index: int) -> object:
        """What a task on another machine reads a part from; None if it must be sent its rows.

        A future of the part's value, or something `Readable`.
        """
        return None

    def content(self) -> int | None:
        """What `require_unchanged` compares; None where the passes of a fit compare already."""
        return None

    def require_unchanged(self, before: int | None) -> None:
        """Raise a `SourceError` if values in files are others than when `content` was asked for."""
        if before is not None and self.content() != before:
            raise SourceError(
                "the files that are mapped hold other values than when the fit began: a fit reads "
                "the data many times, and each time they must be the same (no file that is still "
                "written to)"
            )

    def part_checksum(self, index: int) -> int | None:
        """Number that tells a part from other data, if it is read anew in every pass."""
        return None

    def name(self, index: int) -> str:
        """Name of a part, for messages."""
        return f"part {index}"

    def place(self, index: int) -> tuple[int, int]:
        """Row and sequence with which a part begins."""
        return int(self.part_rows[index]), int(self.part_sequences[index])

    def n_interior(self, before: int, after: int) -> int:
        """Steps with at least so many steps of their sequence before and after them."""
        inside = (lengths.astype(np.int64) - before - after for lengths in self.part_lengths)
        return sum(int(np.maximum(counts, 0).sum()) for counts in inside)

    def head(self, n_rows: int) -> Part:
        """About so many rows at the start, for first guesses of location and scale."""
        return self.open(0).excerpt(0, min(n_rows, int(self.part_rows[1])))

    def cuts(self, *, segment: int | None, before: int, after: int) -> list[Cut]:
        """Segments of each part (see `Cut`)."""
        places = zip(self.part_lengths, self.part_rows, self.part_sequences, strict=False)
        return [
            Cut(lengths, segment, before, after, int(row), int(sequence))
            for lengths, row, sequence in places
        ]

    def part_of(self, row: int) -> int:
        """Part in which a row stands."""
        return int(np.searchsorted(self.part_rows, row, side="right") - 1)

    def by_part(self, segments: Segments) -> list[Segments]:
        """Split where the segments go from one part to the next."""
        if len(self.part_lengths) == 1:
            return [segments]
        part = np.searchsorted(self.part_rows, segments.start, side="right")
        return segments.split_at(np.flatnonzero(np.diff(part)) + 1)

    def part_with(self, segments: Segments) -> int:
        """Part in which the first of some segments stands."""
        return self.part_of(int(segments.start[0]))

    def group_of(self, segments: Segments) -> int:
        """Group whose sums a batch of segments joins first: its part.

        The sums of a group are merged before they join the total, so that a group may be summed
        anywhere, with the same result to the last bit.
        """
        return self.part_with(segments)


def walk(data: Data, batches: Iterable[Segments]) -> Iterator[tuple[int, Part, Segments]]:
    """Batches of a pass in order: group, part it is read from, segments.

    Segments that reach over several parts become several batches.
    """
    opened, part = -1, None
    for batch in batches:
        for piece in data.by_part(batch):
            wanted = data.part_with(piece)
            if part is None or wanted != opened:
                part, opened = data.open(wanted), wanted
            yield data.group_of(piece), part, piece
