"""Batches: what a pass function sees, and the time-major order of their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import (
    Array,
    IntArray,
    contiguous,
    index,
    is_tensor,
    like,
    namespace,
    take_rows,
)
from gloree._brief import Brief
from gloree.sequences._segments import Segments

FAR = np.int64(2**40)
"""Added to the step index of a segment that does not start (or end) where its sequence does."""


MOST_KEPT = 2**17
"""Rows of a batch of equal lengths, at most, whose order is kept for others like it."""


def _even_order(n_segments: int, length: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Order of segments of one length: `rows`, `step_starts`, `order`, and the inverse of `rows`.

    All batches of a pass but the last ask for the same.
    """
    places = np.arange(n_segments * length, dtype=np.int64)
    found = (
        places.reshape(n_segments, length).T.ravel(),
        np.arange(length + 1, dtype=np.int64) * n_segments,
        np.arange(n_segments, dtype=np.int64),
        places.reshape(length, n_segments).T.ravel(),
    )
    for each in found:
        each.flags.writeable = False
    return found


_kept_order = lru_cache(maxsize=16)(_even_order)


@dataclass(frozen=True)
class Packing(Brief):
    """Time-major order of the rows of a batch: step t of all segments that have one, contiguous.

    `rows`, (n_rows,), is the flat row at each packed position, `step_starts`, (n_steps_max + 1,),
    the position at which step t begins, `order` the segment at each place of a step. Segments stand
    in order of decreasing length, so those alive at step t + 1 are a prefix of those at step t.
    """

    rows: IntArray
    step_starts: IntArray
    order: IntArray
    _inverse: IntArray | None = field(default=None, repr=False, compare=False)
    _moved: Any = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_lengths(cls, lengths: IntArray) -> Packing:
        """Build the order for segments of the given lengths (each at least 1)."""
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
        longest = int(lengths.max())
        if int(lengths.min()) == longest:
            n_segments = lengths.shape[0]
            even = _kept_order if n_segments * longest <= MOST_KEPT else _even_order
            return cls(*even(n_segments, longest))
        order = np.argsort(-lengths, kind="stable").astype(np.int64)
        steps = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        rank = np.empty_like(order)
        rank[order] = np.arange(order.shape[0])
        alive = np.bincount(steps, minlength=longest)
        step_starts = np.concatenate(([0], np.cumsum(alive))).astype(np.int64)
        rows = np.empty(steps.shape[0], dtype=np.int64)
        rows[step_starts[steps] + np.repeat(rank, lengths)] = np.arange(steps.shape[0])
        return cls(rows, step_starts, order)

    @property
    def n_steps(self) -> int:
        """Length of the longest segment."""
        return int(self.step_starts.shape[0] - 1)

    def pack(self, values: Array) -> Array:
        """Rows in time-major order (a copy)."""
        packed: Array = take_rows(contiguous(values), self.places(values))
        return packed

    def unpack(self, packed: Array) -> Array:
        """Undo `pack`."""
        if not is_tensor(packed):
            # reading rows at random is several times faster than writing them so
            rows: Array = take_rows(packed, self._back)
            return rows
        values: Array = namespace(packed).empty_like(packed)
        values[self.places(packed)] = packed
        return values

    @cached_property
    def _back(self) -> IntArray:
        """Packed position of each flat row."""
        if self._inverse is not None:
            return self._inverse
        back = np.empty_like(self.rows)
        back[self.rows] = np.arange(self.rows.shape[0])
        return back

    def places(self, values: Array) -> IntArray:
        """`rows`, where `values` are: moved to the device of tensors once."""
        if not is_tensor(values):
            return self.rows
        if self._moved is None:
            object.__setattr__(self, "_moved", like(values, self.rows))
        moved: IntArray = self._moved
        return moved


@dataclass(frozen=True)
class Batch(Brief):
    """A few segments of sequences, float64, stacked by rows: what a pass function sees.

    `X` and `Y` may be tensors, on any device; everything else is small, and NumPy's.

    Attributes
    ----------
    X : ndarray or tensor of shape (n_rows, n_inputs)
        Inputs of all segments, segment after segment, context rows included.
    Y : ndarray of shape (n_rows, n_outputs) or None
        Outputs alike.
    lengths : ndarray of shape (n_segments,)
        Rows of each segment, context included.
    before, after : ndarray of shape (n_segments,)
        Rows of context at the head and at the tail of each segment. They do not count in sums.
    from_start, to_end : ndarray of bool of shape (n_segments,)
        Whether the segment's first (last) row is the first (last) of its sequence.
    sequence : ndarray of shape (n_segments,)
        Index of the sequence that each segment is cut from.
    first_step : ndarray of shape (n_segments,)
        Step index of each segment's first row within its sequence.
    segments : Segments
        Where they stand in the whole data.
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows in sums; None means 1.
    mask : ndarray of bool of shape (n_rows,) or None
        Rows that may count in sums, context or not; None means all. The others are run through.
    """

    X: Array
    Y: Array | None
    lengths: IntArray
    before: IntArray
    after: IntArray
    from_start: NDArray[np.bool_]
    to_end: NDArray[np.bool_]
    sequence: IntArray
    first_step: IntArray
    segments: Segments
    weights: Array | None = None
    mask: NDArray[np.bool_] | None = None

    @property
    def n_rows(self) -> int:
        """Rows, context included."""
        return int(self.X.shape[0])

    @cached_property
    def starts(self) -> IntArray:
        """Row at which each segment begins."""
        return np.concatenate(([0], np.cumsum(self.lengths)[:-1])).astype(np.int64)

    @cached_property
    def packing(self) -> Packing:
        """Time-major order of the rows."""
        return Packing.from_lengths(self.lengths)

    @cached_property
    def mirrored(self) -> Packing:
        """Time-major order of the rows with every segment read from its end: backward chains."""
        packing = self.packing
        both_ends = np.repeat(2 * self.starts + self.lengths - 1, self.lengths)
        rows = both_ends[packing.rows] - packing.rows
        return Packing(rows, packing.step_starts, packing.order)

    @cached_property
    def local(self) -> IntArray:
        """Step index of each row within its segment."""
        return np.arange(self.n_rows, dtype=np.int64) - np.repeat(self.starts, self.lengths)

    @property
    def data_rows(self) -> IntArray:
        """Row of the data that each row is."""
        first = np.repeat(self.segments.context_start, self.lengths)
        return np.asarray(first + self.local, dtype=np.int64)

    @cached_property
    def local_after(self) -> IntArray:
        """Rows of its segment after each row."""
        return np.asarray(np.repeat(self.lengths - 1, self.lengths) - self.local, dtype=np.int64)

    @cached_property
    def steps_before(self) -> IntArray:
        """Steps of the same sequence before each row (at least; `FAR` or more where unseen)."""
        unseen = np.where(self.from_start, 0, FAR)
        return np.asarray(self.local + np.repeat(unseen, self.lengths), dtype=np.int64)

    @cached_property
    def steps_after(self) -> IntArray:
        """Steps of the same sequence after each row (at least; `FAR` or more where unseen)."""
        unseen = np.where(self.to_end, 0, FAR)
        return np.asarray(self.local_after + np.repeat(unseen, self.lengths), dtype=np.int64)

    @cached_property
    def has_context(self) -> bool:
        """Whether any row is context only, or masked."""
        masked = self.mask is not None and not self.mask.all()
        return bool(masked or self.before.any() or self.after.any())

    @cached_property
    def counted(self) -> NDArray[np.int64] | slice:
        """Rows that count in sums: a slice of all, or their indices where `X` is."""
        if not self.has_context:
            return slice(None)
        rows: NDArray[np.int64] = index(self.X, self.counted_rows)
        return rows

    @cached_property
    def counted_rows(self) -> IntArray:
        """Indices of the rows that count in sums."""
        if not self.has_context:
            return np.arange(self.n_rows, dtype=np.int64)
        last = np.repeat(self.lengths - self.after, self.lengths)
        inside = (self.local >= np.repeat(self.before, self.lengths)) & (self.local < last)
        return np.flatnonzero(inside if self.mask is None else inside & self.mask)

    @cached_property
    def n_counted(self) -> int:
        """Rows that count in sums."""
        if self.mask is not None:
            return int(self.counted_rows.shape[0])
        return int(np.sum(self.lengths - self.before - self.after))

    def of_segments(self, chosen: NDArray[np.bool_]) -> Batch:
        """Return the batch of some of the segments."""
        if chosen.all():
            return self
        rows = np.flatnonzero(np.repeat(chosen, self.lengths))
        of_rows: dict[str, Any] = {
            name: None if values is None else take_rows(values, rows)
            for name, values in (
                ("X", self.X),
                ("Y", self.Y),
                ("weights", self.weights),
                ("mask", self.mask),
            )
        }
        names = ("lengths", "before", "after", "from_start", "to_end", "sequence", "first_step")
        each: dict[str, Any] = {name: getattr(self, name)[chosen] for name in names}
        return replace(self, **of_rows, **each, segments=self.segments[chosen])

    @property
    def targets(self) -> Array:
        """`Y`, for passes that need it."""
        if self.Y is None:
            raise ValueError("this pass needs outputs, and the data were given without `Y`")
        return self.Y
