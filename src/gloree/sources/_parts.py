"""Data in several parts: what a scan of each of them finds, and the check of every later one."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from gloree._arrays import copied
from gloree._brief import Brief
from gloree._frames import Names
from gloree._mapped import SourceError, loaded
from gloree.sequences import Data, IntArray, Part, Sequences, as_sequences
from gloree.sources._items import values_of

HEAD_ROWS = 10_000
"""Rows of the first part that are kept for first guesses of location and scale."""

ADVICE = (
    "a fit reads the data many times, and each time they must be the same, in the same order (no "
    "shuffling, fixed seeds, no file that is still written to)"
)


def part_failure(name: str, error: BaseException) -> SourceError:
    """Error that names the part."""
    return SourceError(f"{name} failed: {type(error).__name__}: {error}")


@dataclass(frozen=True)
class Summary(Brief):
    """What the scan of a part finds: its name for messages, sizes, checksum, and first rows.

    Lengths that are equal share one number in memory; only the first part has a `head`.
    """

    name: str
    lengths: IntArray
    n_inputs: int
    n_outputs: int
    checksum: int
    input_names: Names | None = None
    output_names: Names | None = None
    head: tuple[NDArray[Any], NDArray[Any] | None] | None = field(default=None, repr=False)


def summarise(name: str, data: Sequences, *, first: bool) -> Summary:
    """Scan one part that is in memory, and keep the head of the first one."""
    rows, head = slice(0, HEAD_ROWS), None
    if first:
        Y = None if data.Y is None else np.array(loaded(data.Y[rows]))
        head = (np.array(loaded(data.X[rows])), Y)
    sizes = (data.n_inputs, data.n_outputs, data.checksum, data.input_names, data.output_names)
    return Summary(name, compact(data.lengths), *sizes, head)


def require_same(name: str, data: Sequences, checksum: int | None) -> Sequences:
    """Give a part back, if it is what the scan has found; else a `SourceError` that names it."""
    if checksum is not None and data.checksum != checksum:
        raise SourceError(f"{name} is not what it was in the first pass: {ADVICE}")
    return data


def compact(lengths: IntArray) -> IntArray:
    """Lengths in little memory: one number where all are equal, else the smallest type."""
    if int(lengths.min()) == int(lengths.max()):
        return np.broadcast_to(np.int64(lengths[0]), lengths.shape)
    return lengths.astype(np.min_scalar_type(int(lengths.max())))


def part_of_values(name: str, value: object, *, check_finite: bool = True) -> Sequences:
    """Validate one part in any of the forms of `values_of`.

    Its arrays may be those of the caller, who may write into them again: see `own_part_of_values`.
    A `SourceError` names the part, and what is wrong with it.
    """
    try:
        X, Y, lengths = values_of(value)
        return as_sequences(X, Y, lengths=lengths, check_finite=check_finite)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{name}: {error}") from error


def own_part_of_values(name: str, value: object) -> Sequences:
    """Part from values that are read again for a pass, in arrays that nobody else can write into.

    Whoever handed them over may fill the same buffers with what comes next, while batches of this
    part still wait for a thread. Whether the values are finite is not checked again.
    """
    data = part_of_values(name, value, check_finite=False)
    return replace(data, X=copied(data.X), Y=None if data.Y is None else copied(data.Y))


class Parts(Data):
    """Base of data in several parts, each read when a pass comes to it.

    Notes
    -----
    A scan of all parts finds their sizes, checks every value, and takes a checksum of
    each; it comes with the first thing that is asked of the data.
    """

    @abstractmethod
    def scan_parts(self) -> Iterable[Summary]:
        """Scan every part, in order."""

    @property
    @abstractmethod
    def n_parts(self) -> int | None:
        """Parts, where that is known beforehand."""

    _found: list[Summary] | None = None

    @property
    def summaries(self) -> list[Summary]:
        """What the scan has found."""
        return self.scan()

    def scan(self, *, verbose: int = 0) -> list[Summary]:
        """Scan all parts, unless that was done; with a progress bar if `verbose`."""
        if self._found is not None:
            return self._found
        found: list[Summary] = []
        for summary in tqdm(
            self.scan_parts(), total=self.n_parts, desc="scan", disable=not verbose, leave=False
        ):
            if found:
                _require_same_columns(found[0], summary)
            found.append(summary)
        if not found:
            raise SourceError(f"{self} holds no data")
        self._found = found
        return found

    @property
    def n_inputs(self) -> int:
        """Columns of the inputs."""
        return self.summaries[0].n_inputs

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""
        return self.summaries[0].n_outputs

    @property
    def input_names(self) -> Names | None:
        """Names of the columns of the inputs, the same in all parts."""
        return self.summaries[0].input_names

    @property
    def output_names(self) -> Names | None:
        """Names of the columns of the outputs."""
        return self.summaries[0].output_names

    @cached_property
    def part_lengths(self) -> Sequence[IntArray]:
        """Steps of the sequences of each part."""
        return [summary.lengths for summary in self.summaries]

    def head(self, n_rows: int) -> Part:
        """First rows of the first part, as the scan found them."""
        head = self.summaries[0].head
        assert head is not None
        (X, Y), rows = head, slice(0, n_rows)
        starts = np.array([0, X.shape[0]], dtype=np.int64)
        return Part(X[rows], None if Y is None else Y[rows], starts)

    def name(self, index: int) -> str:
        """Name of a part, for messages."""
        return self.summaries[index].name

    def part_checksum(self, index: int) -> int:
        """Checksum of a part."""
        return self.summaries[index].checksum

    def checked(self, index: int, data: Sequences) -> Part:
        """Part from what was read again for a pass, if it is the same as in the scan."""
        return Part.of(
            require_same(self.name(index), data, self.part_checksum(index)), *self.place(index)
        )

    @property
    def checksum(self) -> int:
        """CRC-32 of the checksums of all parts."""
        codes = [summary.checksum for summary in self.summaries]
        return zlib.crc32(np.array(codes, dtype=np.int64))


def in_memory(data: Data) -> Sequences:
    """All parts in memory, as NumPy arrays, for what needs the data as a whole."""
    if isinstance(data, Sequences):
        return data.on_host()
    parts = [data.open(index) for index in range(len(data.part_lengths))]
    outputs = [part.Y for part in parts if part.Y is not None]
    lengths = np.concatenate(data.part_lengths).astype(np.int64)
    X = np.concatenate([loaded(part.X) for part in parts])
    Y = np.concatenate([loaded(values) for values in outputs]) if outputs else None
    return Sequences(X, Y, lengths, "list", False, data.input_names, data.output_names)


def _require_same_columns(first: Summary, other: Summary) -> None:
    for what, expected, found in (
        ("input", first.n_inputs, other.n_inputs),
        ("output", first.n_outputs, other.n_outputs),
    ):
        if expected != found:
            raise SourceError(
                f"{other.name} has {found or 'no'} {what} columns, {first.name} has "
                f"{expected or 'none'}: all parts need the same columns"
            )
    for what, names, own in (
        ("input", first.input_names, other.input_names),
        ("output", first.output_names, other.output_names),
    ):
        if names != own:
            raise SourceError(
                f"{other.name} has the {what} columns {own or 'without names'}, {first.name} has "
                f"{names or 'them without names'}: all parts need the same columns in the same "
                f"order"
            )
