"""Sequences in memory (or in a file that is mapped into it)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import IntArray, index, is_tensor, to_host
from gloree._brief import Brief
from gloree._frames import Names
from gloree._mapped import is_mapped, loaded
from gloree.sequences._batch import Batch
from gloree.sequences._cut import Cut
from gloree.sequences._data import Data, Part
from gloree.sequences._segments import Segments

GROUP_ROWS = 2**17
"""Rows of a group of batches (see `Sequences.group_of`)."""

CHECKSUM_ROWS = 2**16
"""Rows that `Sequences.checksum` reads at a time."""

CHECKSUM_WORDS = 2**8
"""Words of 64 bits in a row, and rows in a block, whose sums a checksum is made of: half a MiB."""

Form = Literal["single", "array", "list", "flat"]


def checksum_of(values: NDArray[np.generic], code: int = 0) -> int:
    """Checksum of the bytes of an array and of those before it (`code`), faster than a CRC of them.

    Bytes are taken as 64-bit words w, in blocks of 256 rows and columns; the checksum is the CRC-32
    of the sums of w xor w / 2^32, modulo 2^64, over all rows and columns. Another word changes a
    sum of either kind, two words that change places those of one kind at least. (Sums of w itself
    would not see a sign or a power of two that changes in an even number of words: it adds the same
    to each, and 2^64 in all.) Several changes that leave all sums as they were would go unseen.
    """
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    words = raw[: raw.size // 8 * 8].view(np.uint64)
    scratch = np.empty(min(words.size, CHECKSUM_WORDS**2), dtype=np.uint64)
    for start in range(0, words.size, CHECKSUM_WORDS**2):
        block = words[start : start + CHECKSUM_WORDS**2]
        block = np.bitwise_xor(block, block >> np.uint64(32), out=scratch[: block.size])
        whole = block.size // CHECKSUM_WORDS * CHECKSUM_WORDS
        square = block[:whole].reshape(-1, CHECKSUM_WORDS)
        for part in (square.sum(axis=0), square.sum(axis=1), block[whole:]):
            code = zlib.crc32(part, code)
    return zlib.crc32(raw[words.nbytes :], code)


@dataclass(frozen=True)
class Sequences(Brief, Data):
    """Validated data: flat rows with lengths, and the form in which the caller gave them.

    Build it with `as_sequences`. `X` and `Y` are flat rows in the caller's dtype (views where
    possible), `lengths` the steps of each sequence. `form` is "single", "array", "list" or "flat",
    and `restore` gives it to predictions; `flat_outputs` says whether the one output was given
    without its last axis. `input_names` and `output_names` are the columns of data frames.
    """

    X: NDArray[Any]
    Y: NDArray[Any] | None
    lengths: IntArray
    form: Form
    flat_outputs: bool = False
    input_names: Names | None = None
    output_names: Names | None = None

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

    @cached_property
    def starts(self) -> IntArray:
        """Row at which each sequence begins, and the number of rows at the end."""
        return np.concatenate(([0], np.cumsum(self.lengths))).astype(np.int64)

    @property
    def part_lengths(self) -> Sequence[IntArray]:
        """All sequences are one part."""
        return (self.lengths,)

    def open(self, index: int = 0) -> Part:
        """All rows."""
        return Part.of(self)

    def group_of(self, segments: Segments) -> int:
        """Group whose sums a batch of segments joins first: a block of rows."""
        return int(segments.start[0]) // GROUP_ROWS

    @property
    def checksum(self) -> int:
        """Checksum of lengths, inputs and outputs (see `checksum_of`); a pass over them."""
        code = zlib.crc32(np.ascontiguousarray(self.lengths, dtype=np.int64))
        for values in (self.X, self.Y):
            if values is not None:
                for start in range(0, self.n_rows, CHECKSUM_ROWS):
                    rows = loaded(values[start : start + CHECKSUM_ROWS])
                    code = checksum_of(to_host(rows), code)
        return code

    def content(self) -> int | None:
        """Checksum of values in files that are mapped, where somebody may write to them."""
        return self.checksum if is_mapped(self.X) or is_mapped(self.Y) else None

    def on_host(self) -> Sequences:
        """The same data as NumPy arrays."""
        if not is_tensor(self.X):
            return self
        return replace(self, X=to_host(self.X), Y=None if self.Y is None else to_host(self.Y))

    def select(self, indices: ArrayLike) -> Sequences:
        """Take the sequences with these indices, as a copy in list form."""
        chosen = np.asarray(indices, dtype=np.int64)
        rows = np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in chosen])
        outputs = None if self.Y is None else self.Y[index(self.Y, rows)]
        inputs, lengths = self.X[index(self.X, rows)], self.lengths[chosen]
        return replace(self, X=inputs, Y=outputs, lengths=lengths, form="list")

    def restore(self, rows: NDArray[np.generic]) -> Any:
        """Give flat rows the form of the input: one array, a 3-D array or a list."""
        if self.form in ("single", "flat"):
            return rows
        if self.form == "array":
            return rows.reshape(self.n_sequences, -1, *rows.shape[1:])
        return [rows[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def segments(
        self, *, batch_size: int, segment: int | None = None, before: int = 0, after: int = 0
    ) -> list[Segments]:
        """Cut the data into batches of about `batch_size` counted rows, otherwise as `Cut`."""
        return list(Cut(self.lengths, segment, before, after).batches(batch_size))

    def batch(self, segments: Segments) -> Batch:
        """Read one batch (see `Part.batch`)."""
        return self.open().batch(segments)

    def batches(
        self,
        batch_size: int = 2**15,
        *,
        segment: int | None = None,
        before: int = 0,
        after: int = 0,
    ) -> Iterator[Batch]:
        """Iterate over the data in batches (see `segments`)."""
        yield from map(self.batch, Cut(self.lengths, segment, before, after).batches(batch_size))

    def whole(self) -> Batch:
        """All sequences as one batch (small data, tests, teaching)."""
        return self.batch(self.segments(batch_size=self.n_rows)[0])
