"""Some rows of the data that several passes see, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gloree.engine._source import Source
from gloree.sequences import IntArray

Rows = TypeVar("Rows")

HELD_NUMBERS = 2**22
"""Inputs and outputs of a subset that is kept in memory, at most: 32 MiB."""


@dataclass
class Subset:
    """Batches of a source, read once and kept in memory if they are few.

    A dozen passes of a fit see a few thousand rows. Taken from files or a stream each time, these
    would cost as much reading as passes over all that is there.

    Attributes
    ----------
    source : Source
    tables : list of ndarray
        The batches (see `gloree.sequences.Cut`).
    """

    source: Source
    tables: list[IntArray]
    _held: Any = field(default=None, init=False, repr=False)

    @property
    def is_small(self) -> bool:
        """Whether the rows may be kept."""
        return self.n_rows * self.source.n_columns <= HELD_NUMBERS

    @property
    def n_rows(self) -> int:
        """Rows of all batches, those around their segments included."""
        return sum(int((table[:, 4] - table[:, 1]).sum()) for table in self.tables)

    def held(self, read: Callable[[Subset], Rows]) -> Rows:
        """Return what `read` gives, which is called when this is asked for first."""
        if self._held is None:
            self._held = read(self)
        rows: Rows = self._held
        return rows

    def let_go(self) -> None:
        """Forget the rows: they are read again when they are asked for."""
        self._held = None
