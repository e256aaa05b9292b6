"""Segments: which rows of the data a pass reads, and which of them it counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import IntArray
from gloree._sums import Sums

Index: TypeAlias = "int | np.integer | slice | NDArray[np.bool_] | IntArray | list[int]"

_COLUMNS = 5


@dataclass(frozen=True, eq=False)
class Segments(Sums):
    """Stretches of rows of the whole data, each within one sequence.

    Rows ``start`` to before ``stop`` of a segment count in sums; a pass also reads the *context*
    around them, from ``context_start`` to before ``context_stop``, to warm up states and to fill
    windows: context_start <= start <= stop <= context_stop.

    Segments index like an array, by mask, slice, indices or one number, and give segments. Code
    outside of this module uses the attributes, not the columns of `values`, (n_segments, 5).
    """

    values: IntArray = field(metadata={"concatenate": True})

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != _COLUMNS:
            raise ValueError(
                f"`values` has shape {self.values.shape}, expected (n_segments, {_COLUMNS})"
            )

    @classmethod
    def of(
        cls,
        sequence: IntArray,
        context_start: IntArray,
        start: IntArray,
        stop: IntArray,
        context_stop: IntArray,
    ) -> Segments:
        """Segments from their columns, each of shape (n_segments,)."""
        columns = (sequence, context_start, start, stop, context_stop)
        return cls(np.column_stack(columns).astype(np.int64))

    @classmethod
    def concatenate(cls, parts: Iterable[Segments]) -> Segments:
        """All segments of the parts, in their order."""
        each = [part.values for part in parts]
        return cls(np.concatenate(each) if each else np.empty((0, _COLUMNS), dtype=np.int64))

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def __getitem__(self, index: Index) -> Segments:
        chosen = self.values[index]
        return Segments(chosen if chosen.ndim == 2 else chosen[None])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segments) and bool(np.array_equal(self.values, other.values))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Segments of equal length differ by the same from one to the next: a few numbers."""
        steps = np.diff(self.values, axis=0)
        if len(self) < 3 or bool((steps != steps[0]).any()):
            return Segments, (self.values,)
        return _progression, (self.values[0], steps[0], len(self))

    @property
    def columns(self) -> tuple[IntArray, ...]:
        """All attributes, in the order in which `of` takes them."""
        return tuple(self.values.T)

    @property
    def sequence(self) -> IntArray:
        """Number of the sequence that each segment is cut from."""
        return self.values[:, 0]

    @property
    def context_start(self) -> IntArray:
        """First row that is read."""
        return self.values[:, 1]

    @property
    def start(self) -> IntArray:
        """First row that counts; no two segments of one cut share it."""
        return self.values[:, 2]

    @property
    def stop(self) -> IntArray:
        """Row after the last one that counts."""
        return self.values[:, 3]

    @property
    def context_stop(self) -> IntArray:
        """Row after the last one that is read."""
        return self.values[:, 4]

    @property
    def lengths(self) -> IntArray:
        """Rows of each segment, context included."""
        return self.context_stop - self.context_start

    @property
    def counted(self) -> IntArray:
        """Rows of each segment that count."""
        return self.stop - self.start

    @property
    def n_rows(self) -> int:
        """Rows of all segments, context included."""
        return int(self.lengths.sum())

    @property
    def n_counted(self) -> int:
        """Rows of all segments that count."""
        return int(self.counted.sum())

    def split_at(self, places: IntArray) -> list[Segments]:
        """Split before each of these places (increasing)."""
        return [Segments(part) for part in np.split(self.values, places)]

    def split_evenly(self, n_parts: int) -> list[Segments]:
        """Split into at most `n_parts` of about equal size, none of them empty."""
        parts = np.array_split(self.values, n_parts)
        return [Segments(part) for part in parts if part.shape[0]]

    def counted_from(self, rows: IntArray) -> Segments:
        """Count nothing before a row of each segment; without segments of which nothing is left."""
        start = np.minimum(np.maximum(self.start, rows), self.stop)
        moved = Segments.of(self.sequence, self.context_start, start, self.stop, self.context_stop)
        return moved[moved.counted > 0]

    def split_counted(self, n_parts: int) -> Segments:
        """Split the counted rows of each segment; all rows before a part are its context."""
        parts = []
        for sequence, first, start, stop, end in self.values.tolist():
            places = np.linspace(start, stop, n_parts + 1).astype(np.int64)
            parts += [(sequence, first, a, b, min(b, end)) for a, b in pairwise(places.tolist())]
        return Segments(np.array([part for part in parts if part[3] > part[2]], dtype=np.int64))


def _progression(first: IntArray, step: IntArray, count: int) -> Segments:
    return Segments(first + np.arange(count)[:, None] * step)


@dataclass(frozen=True)
class LargestSegments(Sums):
    """Segments with the `limit` largest values of something (None: all), in order of the data."""

    values: NDArray[np.float64] = field(metadata={"concatenate": True})
    segments: Segments = field(metadata={"nested": True})
    limit: int | None = field(default=None, metadata={"setting": True})

    @classmethod
    def of(
        cls, values: NDArray[np.float64], segments: Segments, limit: int | None
    ) -> LargestSegments:
        """Keep the largest values; of equal ones, those that come first."""
        if limit is None or values.shape[0] <= limit:
            return cls(values, segments, limit)
        kept = np.sort(np.argsort(-values, kind="stable")[:limit])
        return cls(values[kept], segments[kept], limit)

    def merge(self, other: object) -> LargestSegments:
        """Return the largest values of both."""
        both = super().merge(other)
        return LargestSegments.of(both.values, both.segments, both.limit)
