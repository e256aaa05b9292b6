"""Ragged sequences of inputs and outputs, cut into batches that never cross a boundary.

All data are kept as one flat block of rows, sequence after sequence, with the lengths beside it.
A pass over the data sees `Batch` objects: a few whole sequences, or segments of long ones with
rows of context around the rows that count. Recurrences run in *time-major* order (`Packing`):
step t of every segment that has one stands in one contiguous block, so a step is one matrix
product whatever the lengths are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Form = Literal["single", "array", "list", "flat"]

FAR = np.int64(2**40)
"""Added to the step index of a segment that does not start (or end) where its sequence does."""


def spread_over(total: int, wanted: int) -> IntArray:
    """Indices of `wanted` of `total` things, evenly spread (all of them if there are fewer)."""
    chosen = min(total, wanted)
    return np.arange(chosen, dtype=np.int64) * total // max(chosen, 1)


def split_evenly(table: IntArray, n_parts: int) -> list[IntArray]:
    """Cut a table of segments into at most `n_parts` of about equal size, none of them empty."""
    return [part for part in np.array_split(table, n_parts) if part.shape[0]]


@dataclass(frozen=True)
class Packing:
    """Time-major order of the rows of a batch: step t of all segments that have one, contiguous.

    Attributes
    ----------
    rows : ndarray of shape (n_rows,)
        Flat row that stands at each packed position.
    step_starts : ndarray of shape (n_steps_max + 1,)
        Packed position at which step t begins; segments stand in order of decreasing length, so
        the segments alive at step t + 1 are a prefix of those alive at step t.
    order : ndarray of shape (n_segments,)
        Index of the segment that stands at each place of a step.
    """

    rows: IntArray
    step_starts: IntArray
    order: IntArray

    @classmethod
    def from_lengths(cls, lengths: IntArray) -> Packing:
        """Build the order for segments of the given lengths (each at least 1)."""
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
        longest = int(lengths.max())
        if int(lengths.min()) == longest:
            n_segments = lengths.shape[0]
            rows = np.arange(n_segments * longest, dtype=np.int64)
            rows = rows.reshape(n_segments, longest).T.ravel()
            step_starts = np.arange(longest + 1, dtype=np.int64) * n_segments
            return cls(rows, step_starts, np.arange(n_segments, dtype=np.int64))
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
        return values[self.rows]

    def unpack(self, packed: Array) -> Array:
        """Undo `pack`."""
        values = np.empty_like(packed)
        values[self.rows] = packed
        return values


@dataclass(frozen=True)
class Batch:
    """A few segments of sequences, float64, stacked by rows: what a pass function sees.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_inputs)
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
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows in sums; None means 1.
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
    weights: Array | None = None

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
        """Whether any row is context only."""
        return bool(self.before.any() or self.after.any())

    @cached_property
    def counted(self) -> NDArray[np.int64] | slice:
        """Rows that count in sums: a slice of all, or their indices."""
        if not self.has_context:
            return slice(None)
        last = np.repeat(self.lengths - self.after, self.lengths)
        inside = (self.local >= np.repeat(self.before, self.lengths)) & (self.local < last)
        return np.flatnonzero(inside)

    @cached_property
    def n_counted(self) -> int:
        """Rows that count in sums."""
        return int(np.sum(self.lengths - self.before - self.after))

    @property
    def targets(self) -> Array:
        """`Y`, for passes that need it."""
        if self.Y is None:
            raise ValueError("this pass needs outputs, and the data were given without `Y`")
        return self.Y


@dataclass(frozen=True)
class Sequences:
    """Validated data: flat rows with lengths, and the form in which the caller gave them.

    Build it with `as_sequences`.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_inputs)
        All inputs, sequence after sequence, in the caller's dtype (a view where possible).
    Y : ndarray of shape (n_rows, n_outputs) or None
        All outputs.
    lengths : ndarray of shape (n_sequences,)
        Steps of each sequence.
    form : {"single", "array", "list", "flat"}
        Form of the input; `restore` gives predictions the same one.
    flat_outputs : bool
        Whether outputs came without their last axis (one output given as a vector).
    """

    X: NDArray[Any]
    Y: NDArray[Any] | None
    lengths: IntArray
    form: Form
    flat_outputs: bool = False
    _starts: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = np.concatenate(([0], np.cumsum(self.lengths))).astype(np.int64)
        object.__setattr__(self, "_starts", starts)

    @property
    def n_rows(self) -> int:
        """Steps of all sequences together."""
        return int(self.X.shape[0])

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return int(self.lengths.shape[0])

    @property
    def n_inputs(self) -> int:
        """Columns of `X`."""
        return int(self.X.shape[1])

    @property
    def n_outputs(self) -> int:
        """Columns of `Y` (0 without outputs)."""
        return 0 if self.Y is None else int(self.Y.shape[1])

    @property
    def starts(self) -> IntArray:
        """Row at which each sequence begins, and the number of rows at the end."""
        return self._starts

    def select(self, indices: ArrayLike) -> Sequences:
        """Take the sequences with these indices, as a copy in list form."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows = np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in chosen])
        outputs = None if self.Y is None else self.Y[rows]
        return Sequences(self.X[rows], outputs, self.lengths[chosen], "list", self.flat_outputs)

    def restore(self, rows: NDArray[Any]) -> Any:
        """Give flat rows the form of the input: one array, a 3-D array or a list.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_columns)

        Returns
        -------
        ndarray or list of ndarray
        """
        if self.form in ("single", "flat"):
            return rows
        if self.form == "array":
            return rows.reshape(self.n_sequences, -1, *rows.shape[1:])
        return [rows[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def segments(
        self, *, batch_size: int, segment: int | None = None, before: int = 0, after: int = 0
    ) -> list[IntArray]:
        """Cut the data into batches of segments.

        A sequence longer than `segment` is cut into equal pieces of at most that many rows; each
        piece carries up to `before` and `after` rows of context from its own sequence.

        Parameters
        ----------
        batch_size : int
            Rows that count in a batch, about; a batch holds at least one segment.
        segment : int or None
            Longest piece; None cuts nothing.
        before, after : int
            Rows of context on either side of a piece.

        Returns
        -------
        list of ndarray of shape (n_segments, 5)
            Columns: sequence, first row of the context, first counted row, end of the counted
            rows, end of the context (rows of the flat block).
        """
        pieces = np.ones(self.n_sequences, dtype=np.int64)
        if segment is not None:
            pieces = -(-self.lengths // segment)
        sequence = np.repeat(np.arange(self.n_sequences, dtype=np.int64), pieces)
        index = np.arange(sequence.shape[0]) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first, end = self.starts[sequence], self.starts[sequence + 1]
        begin = first + index * self.lengths[sequence] // pieces[sequence]
        stop = first + (index + 1) * self.lengths[sequence] // pieces[sequence]
        table = np.column_stack(
            (
                sequence,
                np.maximum(begin - before, first),
                begin,
                stop,
                np.minimum(stop + after, end),
            )
        ).astype(np.int64)
        batch_of = (np.cumsum(stop - begin) - (stop - begin)) // max(batch_size, 1)
        cuts = np.flatnonzero(np.diff(batch_of)) + 1
        return np.split(table, cuts)

    def batch(self, table: IntArray) -> Batch:
        """Read one batch: the rows of `table` (see `segments`) as float64.

        Whole neighbouring sequences are a view of the data where the dtype allows it.
        """
        sequence, first, begin, stop, end = table.T
        lengths = end - first
        if bool(np.all(first[1:] == end[:-1])):
            rows: Any = slice(int(first[0]), int(end[-1]))
        else:
            offsets = np.cumsum(lengths) - lengths
            rows = np.arange(int(lengths.sum())) + np.repeat(first - offsets, lengths)
        outputs = None if self.Y is None else np.ascontiguousarray(self.Y[rows], dtype=np.float64)
        return Batch(
            X=np.ascontiguousarray(self.X[rows], dtype=np.float64),
            Y=outputs,
            lengths=lengths,
            before=begin - first,
            after=end - stop,
            from_start=first == self.starts[sequence],
            to_end=end == self.starts[sequence + 1],
            sequence=sequence,
            first_step=first - self.starts[sequence],
        )

    def batches(
        self,
        batch_size: int = 2**15,
        *,
        segment: int | None = None,
        before: int = 0,
        after: int = 0,
    ) -> Iterator[Batch]:
        """Iterate over the data in batches (see `segments`)."""
        for table in self.segments(
            batch_size=batch_size, segment=segment, before=before, after=after
        ):
            yield self.batch(table)

    def whole(self) -> Batch:
        """All sequences as one batch (small data, tests, teaching)."""
        return self.batch(self.segments(batch_size=self.n_rows)[0])


def as_sequences(
    X: Any, Y: Any = None, *, lengths: ArrayLike | None = None, check_finite: bool = True
) -> Sequences:
    """Validate inputs (and outputs) in any of the accepted forms.

    Parameters
    ----------
    X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D arrays
        One sequence, many of equal length, or many of any length. With `lengths`, the first form
        holds the sequences one after another.
    Y : array or list of the same form, optional
        Outputs. One output may be given without its last axis.
    lengths : sequence of int, optional
        Steps of each sequence in a flat `X`; they must sum to its rows.
    check_finite : bool, default True
        Refuse NaN and infinity, naming the sequence and step.

    Returns
    -------
    Sequences

    Raises
    ------
    TypeError
        If `X` or `Y` is not numeric.
    ValueError
        If shapes, lengths or values do not fit together.

    Notes
    -----
    Arrays are not copied; a list is joined once. Time O(n_rows (n_inputs + n_outputs)).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.sequences import as_sequences
    >>> data = as_sequences([np.zeros((3, 2)), np.ones((1, 2))])
    >>> data.n_sequences, data.n_rows, data.form
    (2, 4, 'list')
    """
    inputs, sizes, form = _flatten(X, "X")
    if inputs.ndim == 1:
        raise ValueError(
            "`X` holds vectors where (n_steps, n_inputs) arrays are expected. For a single input "
            "add the last axis: X[..., np.newaxis]"
        )
    if lengths is not None:
        sizes = _check_lengths(lengths, inputs.shape[0], form)
        form = "flat"
    if inputs.shape[1] == 0:
        raise ValueError("`X` has no columns (n_inputs = 0)")
    empty = np.flatnonzero(sizes == 0)
    if empty.size:
        raise ValueError(
            f"sequence {empty[0]} of `X` has no steps ({empty.size} such sequences): leave them out"
        )
    if inputs.shape[0] == 0:
        raise ValueError("`X` holds no steps")
    outputs, flat_outputs = None, False
    if Y is not None:
        outputs, flat_outputs = _match_outputs(Y, sizes, form)
    data = Sequences(inputs, outputs, sizes, form, flat_outputs)
    if check_finite:
        for name, values in (("X", data.X), ("Y", data.Y)):
            if values is not None:
                _require_finite(values, name, data)
    return data


def _numeric(value: Any, name: str) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is not a regular array: {error}. Sequences of unequal length go into a "
            f"list of (n_steps, n_columns) arrays"
        ) from error
    if hasattr(value, "nnz"):
        raise TypeError(f"`{name}` is a sparse matrix: pass a dense array, {name}.toarray()")
    if array.dtype.kind not in "biuf":
        hint = " (complex numbers: split them into real and imaginary columns)"
        raise TypeError(
            f"`{name}` has dtype {array.dtype}, expected real numbers"
            f"{hint if array.dtype.kind == 'c' else ''}"
        )
    return array


def _flatten(value: Any, name: str) -> tuple[NDArray[Any], IntArray, Form]:
    """Rows, lengths and form of one argument (vectors stay vectors)."""
    if isinstance(value, (list, tuple)) and len(value) == 0:
        raise ValueError(f"`{name}` is an empty list")
    if isinstance(value, (list, tuple)) and not np.isscalar(value[0]):
        return _join(value, name)
    array = _numeric(value, name)
    if array.ndim == 3:
        n_sequences, n_steps, n_columns = array.shape
        sizes = np.full(n_sequences, n_steps, dtype=np.int64)
        return array.reshape(n_sequences * n_steps, n_columns), sizes, "array"
    if array.ndim in (1, 2):
        return array, np.array([array.shape[0]], dtype=np.int64), "single"
    raise ValueError(
        f"`{name}` has {array.ndim} dimensions, expected (n_steps, n_columns), "
        f"(n_sequences, n_steps, n_columns) or a list of the former"
    )


def _join(value: Sequence[Any], name: str) -> tuple[NDArray[Any], IntArray, Form]:
    parts = [_numeric(part, f"{name}[{i}]") for i, part in enumerate(value)]
    ndim = parts[0].ndim
    if ndim > 2:
        raise ValueError(
            f"`{name}[0]` has shape {parts[0].shape}, expected (n_steps, n_columns) in a list"
        )
    for i, part in enumerate(parts):
        if part.ndim != ndim or part.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"`{name}[{i}]` has shape {part.shape}, but `{name}[0]` has {parts[0].shape}: all "
                f"sequences need the same columns"
            )
    sizes = np.array([part.shape[0] for part in parts], dtype=np.int64)
    return np.concatenate(parts), sizes, "list"


def _check_lengths(lengths: ArrayLike, n_rows: int, form: Form) -> IntArray:
    if form != "single":
        raise ValueError("`lengths` goes with one flat (n_rows, n_columns) array, not with " + form)
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"`lengths` must be a 1-D sequence of integers, got shape {sizes.shape}, "
            f"dtype {sizes.dtype}"
        )
    if int(sizes.min()) < 1:
        raise ValueError(
            f"`lengths[{int(sizes.argmin())}]` is {sizes.min()}: every sequence needs a step"
        )
    if int(sizes.sum()) != n_rows:
        raise ValueError(f"`lengths` sum to {sizes.sum()}, but `X` has {n_rows} rows")
    return sizes.astype(np.int64)


def _match_outputs(Y: Any, sizes: IntArray, form: Form) -> tuple[NDArray[Any], bool]:
    """Rows of the outputs, checked against the sequences of the inputs."""
    if form == "array":
        array = _numeric(Y, "Y")
        steps = (sizes.shape[0], int(sizes[0]))
        if array.shape[:2] != steps or array.ndim > 3:
            raise ValueError(
                f"`Y` has shape {array.shape}, expected ({steps[0]}, {steps[1]}, n_outputs) to "
                f"match `X`"
            )
        flat = array.ndim == 2
        n_columns = 1 if flat else array.shape[2]
        if n_columns == 0:
            raise ValueError("`Y` has no columns (n_outputs = 0)")
        return array.reshape(steps[0] * steps[1], n_columns), flat
    rows, own, own_form = _flatten(Y, "Y")
    if own_form != ("single" if form == "flat" else form):
        raise ValueError(f"`X` was given as {form}, `Y` as {own_form}: give both in the same form")
    if form == "list":
        if own.shape != sizes.shape:
            raise ValueError(f"`X` has {sizes.shape[0]} sequences, `Y` has {own.shape[0]}")
        wrong = np.flatnonzero(own != sizes)
        if wrong.size:
            i = int(wrong[0])
            raise ValueError(f"`X[{i}]` has {sizes[i]} steps, `Y[{i}]` has {own[i]}")
    elif rows.shape[0] != int(sizes.sum()):
        raise ValueError(f"`X` has {int(sizes.sum())} steps, `Y` has {rows.shape[0]}")
    flat = rows.ndim == 1
    rows = rows[:, np.newaxis] if flat else rows
    if rows.shape[1] == 0:
        raise ValueError("`Y` has no columns (n_outputs = 0)")
    return rows, flat


def _require_finite(values: NDArray[Any], name: str, data: Sequences) -> None:
    if values.dtype.kind != "f":
        return
    block = max(1, 2**18 // values.shape[1])
    for start in range(0, values.shape[0], block):
        part = values[start : start + block]
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.sum(part, dtype=np.float64)
        if np.isfinite(total):
            continue
        bad = np.argwhere(~np.isfinite(part))
        if bad.size == 0:
            continue
        row, column = int(bad[0, 0]) + start, int(bad[0, 1])
        sequence = int(np.searchsorted(data.starts, row, side="right") - 1)
        raise ValueError(
            f"`{name}` holds {values[row, column]} at sequence {sequence}, step "
            f"{row - int(data.starts[sequence])}, column {column}: fill or leave out such steps "
            f"before fitting"
        )
