"""Records as plain arrays with a weight for every output: what counts in a linear fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from gloree.engine import Subset
from gloree.sequences import Array, IntArray, Sequences

GROUP_ROWS = 2**15  # rows of a group of several records, padding included, at most
PADDING = 1.2  # records whose lengths differ by this factor at most run side by side


@dataclass(frozen=True)
class RecordGroup:
    """Records of similar length side by side, padded at their ends with rows of weight zero.

    `numbers` (n,) are those of the records, `lengths` (n,) their rows. Shapes: `u` (n, n_rows,
    n_inputs), `y` and `w` (n, n_rows, n_outputs). Missing outputs are zero.
    """

    numbers: IntArray
    lengths: IntArray
    u: Array = field(repr=False)
    y: Array = field(repr=False)
    w: Array = field(repr=False)


@dataclass(frozen=True)
class WeightedRecords:
    """Inputs, outputs and weights of every record.

    Shapes, for record r: `u[r]` (n_r, n_inputs), `y[r]` and `w[r]` (n_r, n_outputs). An output of
    weight 0 does not count: it is held out, missing (NaN), or an outlier. Inputs always count: the
    free run goes on through such rows.
    """

    u: tuple[Array, ...] = field(repr=False)
    y: tuple[Array, ...] = field(repr=False)
    w: tuple[Array, ...] = field(repr=False)

    @classmethod
    def of(cls, data: Sequences, rows: Subset | None = None) -> WeightedRecords:
        """Records in which the counted rows of a subset count (None: all rows); NaN never does."""
        assert data.Y is not None
        u, y = np.asarray(data.X, np.float64), np.asarray(data.Y, np.float64)
        counts = np.ones(u.shape[0], dtype=bool)
        if rows is not None:
            counts[:] = False
            segments = rows.segments
            for start, stop in zip(segments.start, segments.stop, strict=True):
                counts[start:stop] = True
            if rows.source.counting is not None:
                counts &= rows.source.counting
        w = (counts[:, None] & np.isfinite(y)).astype(np.float64)
        places = data.starts[1:-1]
        parts = [tuple(np.split(values, places)) for values in (u, y, w)]
        return cls(*parts)

    @property
    def n_records(self) -> int:
        """Records."""
        return len(self.u)

    @property
    def lengths(self) -> IntArray:
        """Rows of each record, (n_records,)."""
        return np.array([len(u) for u in self.u], dtype=np.int64)

    @property
    def n_inputs(self) -> int:
        """Columns of u."""
        return int(self.u[0].shape[1])

    @property
    def n_outputs(self) -> int:
        """Columns of y."""
        return int(self.y[0].shape[1])

    @property
    def n_counted(self) -> float:
        """Outputs that count, by weight."""
        return float(sum(w.sum() for w in self.w))

    @property
    def counted(self) -> Array:
        """Outputs that count in each record, (n_records,)."""
        return np.array([w.sum() for w in self.w])

    def weighted(self, weights: Sequence[Array]) -> WeightedRecords:
        """Return the same rows with other weights."""
        return replace(self, w=tuple(weights))

    def plus(self, other: WeightedRecords) -> WeightedRecords:
        """Return the same rows, counted where they count in either."""
        return self.weighted([np.maximum(a, b) for a, b in zip(self.w, other.w, strict=True)])

    def first(self, n_rows: int) -> WeightedRecords:
        """Rows at the starts of the records, about `n_rows` in all, in proportion to lengths."""
        lengths = self.lengths
        if lengths.sum() <= n_rows:
            return self
        kept = np.maximum(1, lengths * n_rows // int(lengths.sum())).tolist()
        return self.between([slice(n) for n in kept])

    def after(self, n_rows: int) -> WeightedRecords:
        """Records without their first rows; one row is left of each at least."""
        return self.between([slice(min(n_rows, len(u) - 1), None) for u in self.u])

    def between(self, rows: Sequence[slice]) -> WeightedRecords:
        """Return some rows of each record."""
        parts = (
            tuple(part[some] for part, some in zip(values, rows, strict=True))
            for values in (self.u, self.y, self.w)
        )
        return WeightedRecords(*parts)

    @cached_property
    def groups(self) -> tuple[RecordGroup, ...]:
        """All records, those of similar length side by side."""
        lengths = self.lengths
        groups: list[RecordGroup] = []
        order = np.argsort(-lengths, kind="stable").tolist()
        while order:
            longest = int(lengths[order[0]])
            most = max(1, GROUP_ROWS // max(longest, 1))
            chosen = [i for i in order[:most] if PADDING * lengths[i] >= longest]
            order = order[len(chosen) :]
            groups.append(self._group(chosen, longest))
        return tuple(groups)

    def _group(self, chosen: list[int], n_rows: int) -> RecordGroup:
        shape = (len(chosen), n_rows)
        u = np.zeros((*shape, self.n_inputs))
        y, w = np.zeros((2, *shape, self.n_outputs))
        for place, i in enumerate(chosen):
            n = len(self.u[i])
            u[place, :n], w[place, :n] = self.u[i], self.w[i]
            y[place, :n] = np.nan_to_num(self.y[i], posinf=0.0, neginf=0.0)
        lengths = np.array([len(self.u[i]) for i in chosen])
        return RecordGroup(np.array(chosen), lengths, u, y, w)


def shifted(records: WeightedRecords, delays: IntArray) -> WeightedRecords:
    """Delay each input: row t holds u_k(t - delays[k]); before the start, the first input.

    Inputs before the record are not known: fits leave out the first rows, by `after`.
    """
    return replace(records, u=tuple(shifted_inputs(u, delays) for u in records.u))


def shifted_inputs(u: Array, delays: IntArray) -> Array:
    """The same for the inputs of one record."""
    if not np.any(delays):
        return u
    rows = np.maximum(np.arange(u.shape[0])[:, None] - np.asarray(delays), 0)
    return np.asarray(np.take_along_axis(u, rows, axis=0))


def shifted_data(data: Sequences, delays: IntArray) -> Sequences:
    """The same for records as the rest of an identification has them."""
    if not np.any(delays):
        return data
    parts = np.split(np.asarray(data.X, np.float64), data.starts[1:-1])
    return replace(data, X=np.concatenate([shifted_inputs(part, delays) for part in parts]))
