"""Any object that gives the same batches of (X, Y) each time it is iterated over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from gloree._mapped import SourceError
from gloree.sequences import Part
from gloree.sources._items import check_loader, check_no_dataset
from gloree.sources._parts import (
    ADVICE,
    Parts,
    Summary,
    own_part_of_values,
    part_failure,
    part_of_values,
    summarise,
)

NOTHING = object()
"""What follows the last item of an iterable."""


class Batches(Parts):
    """Data from an iterable (see `gloree.sources.batches`)."""

    def __init__(self, iterable: Iterable[object]) -> None:
        self._iterable = iterable
        self._position = 0
        self._iterator: Iterator[Any] | None = None

    @property
    def n_parts(self) -> int | None:
        """Batches, if the iterable has a length."""
        try:
            return len(self._iterable)  # type: ignore[arg-type]
        except TypeError:
            return None

    def scan_parts(self) -> Iterator[Summary]:
        """Iterate once."""
        iterator = iter(self._iterable)
        for index in count():
            name = f"batch {index}"
            value = _following(iterator, name)
            if value is NOTHING:
                return
            yield summarise(name, part_of_values(name, value), first=index == 0)

    def open(self, index: int) -> Part:
        """Go on to a batch; back to the start for an earlier one."""
        if self._iterator is None or index < self._position:
            self._iterator, self._position = iter(self._iterable), 0
        # an iteration that has failed cannot continue: the next one starts anew
        iterator, self._iterator = self._iterator, None
        for position in range(self._position, index):
            self._next(iterator, position)
        value = self._next(iterator, index)
        # finite then is finite now, if the checksum is the same
        part = self.checked(index, own_part_of_values(self.name(index), value))
        if index + 1 < len(self.summaries):
            self._iterator, self._position = iterator, index + 1
        elif _following(iterator, "the end of the data") is not NOTHING:
            raise SourceError(
                f"the data have more than the {len(self.summaries)} batches of the first pass: "
                f"{ADVICE}"
            )
        return part

    def _next(self, iterator: Iterator[object], position: int) -> object:
        value = _following(iterator, self.name(position))
        if value is NOTHING:
            raise SourceError(
                f"the data ended before {self.name(position)}, of {len(self.summaries)} in the "
                f"first pass: {ADVICE}"
            )
        return value

    def __str__(self) -> str:
        return "the iterable"


def _following(iterator: Iterator[object], name: str) -> object:
    """Next item, or `NOTHING` at the end; an error of the iterable names the batch."""
    try:
        return next(iterator, NOTHING)
    except Exception as error:
        raise part_failure(name, error) from error


def batches(iterable: object) -> Batches:
    """Data from any object that can be iterated over again and again.

    Parameters
    ----------
    iterable : iterable of (X, Y) or (X, Y, lengths), such as a DataLoader of PyTorch
        Each item one part of the data, X and Y in any of the forms of
        `gloree.sequences.as_sequences` or as tensors; also a list of the two, a dictionary with
        the keys "X" and "Y" (or "inputs" and "targets", "labels", ..), or a list of pairs (x, y)
        of sequences; for `predict` an array X alone, or (X, None). A generator is
        spent after one pass: give an object whose ``__iter__`` starts anew.

    Returns
    -------
    Batches
        To give to `fit` in place of X, without a Y.

    Raises
    ------
    TypeError
        If the argument is an iterator, which ends after one pass, or no iterable.
    ValueError
        If it is a DataLoader that shuffles.
    SourceError
        In a fit, if a later iteration gives other data than the first (compared by checksums), or
        a batch is not usable.

    Notes
    -----
    The values of every item are copied before the next one is asked for, so an iterable may fill
    the same buffers again and again. In memory are the item that is read and copies of those whose
    batches are under way: three, or one for each worker where an item is one batch.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree import sources
    >>> class Halves:
    ...     def __iter__(self):
    ...         for seed in range(2):
    ...             x = np.random.default_rng(seed).standard_normal((5, 3, 2))
    ...             yield x, x[..., :1] ** 2
    >>> sources.batches(Halves()).n_rows
    30
    """
    if hasattr(iterable, "__next__"):
        raise TypeError(
            "the data are an iterator (a generator, perhaps), which is spent after one pass, and a "
            "fit reads the data many times: give an object whose __iter__ starts anew, such as a "
            "list, or a class with a generator method __iter__"
        )
    check_no_dataset(iterable)
    check_loader(iterable)
    if not isinstance(iterable, Iterable):
        raise TypeError(f"the data are a {type(iterable).__name__}, which cannot be iterated over")
    return Batches(iterable)
