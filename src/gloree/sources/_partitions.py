"""Dask collections: partitions that stay where they are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from gloree._extras import require
from gloree._mapped import SourceError
from gloree.sequences import Part
from gloree.sources._clients import ask
from gloree.sources._parts import (
    Parts,
    Summary,
    compact,
    own_part_of_values,
    part_failure,
    part_of_values,
    summarise,
)


def scan_part(name: str, value: object, first: bool) -> Summary:
    """Task of the scan of a partition."""
    return summarise(name, part_of_values(name, value), first=first)


def is_future(value: object) -> bool:
    """Whether this is the future of a value on a cluster (delayed values have any attribute)."""
    return type(value).__module__.partition(".")[0] == "distributed"


class Future(Protocol):
    """Future of a value on a cluster, or a delayed value."""

    def result(self) -> object:
        """Compute the value and fetch it."""


class Partitions(Parts):
    """Data in the partitions of a Dask collection (see `gloree.sources.partitions`)."""

    def __init__(self, delayed: Sequence[object]) -> None:
        self.delayed: list[Any] = list(delayed)
        self.client: Any = None
        self.futures: list[Any] | None = None

    def name(self, index: int) -> str:
        """Name of a partition, for messages."""
        return f"partition {index}"

    def keep_on(self, client: object) -> None:
        """Compute the partitions on the workers of a client, and leave them there."""
        if self.client is client and self.futures is not None:
            return
        # all at once: partitions of one collection share a graph
        self.client = client
        delayed = [each for each in self.delayed if not is_future(each)]
        computed = iter(ask(client, partial(self.client.compute, delayed)))
        self.futures = [each if is_future(each) else next(computed) for each in self.delayed]

    @property
    def computed(self) -> list[int]:
        """Partitions that `keep_on` had computed; the others were futures when they were given."""
        return [index for index, each in enumerate(self.delayed) if not is_future(each)]

    @property
    def n_parts(self) -> int:
        """Partitions."""
        return len(self.delayed)

    def value(self, index: int) -> object:
        """Fetch a partition to this process."""
        each = self.delayed[index]
        try:
            if self.futures is not None and self.client.status == "running":
                return ask(self.client, self.futures[index].result)
            return each.result() if is_future(each) else each.compute()
        except SourceError:
            raise
        except Exception as error:
            raise part_failure(self.name(index), error) from error

    def scan_parts(self) -> Iterator[Summary]:
        """Scan every partition, on its worker if there is one."""
        if self.futures is None:
            for index in range(self.n_parts):
                yield scan_part(self.name(index), self.value(index), index == 0)
            return
        futures, client = self.futures, self.client
        tasks = ask(
            client,
            lambda: [
                client.submit(scan_part, self.name(i), future, i == 0, pure=False)
                for i, future in enumerate(futures)
            ],
        )
        for index, task in enumerate(tasks):
            try:
                summary = ask(client, task.result)
            except SourceError:
                raise
            except Exception as error:
                raise part_failure(self.name(index), error) from error
            # on their way here equal lengths were written out
            yield replace(summary, lengths=compact(summary.lengths))

    def open(self, index: int) -> Part:
        """Fetch a partition: for engines that run in this process."""
        return self.checked(index, own_part_of_values(self.name(index), self.value(index)))

    def remote(self, index: int) -> object:
        """Future of a partition on its worker."""
        return None if self.futures is None else self.futures[index]

    def __str__(self) -> str:
        return "the Dask collection"


def partitions(collection: object) -> Partitions:
    """Data in the partitions of a Dask bag, or in a list of delayed values or futures.

    Parameters
    ----------
    collection : dask.bag.Bag, or list of dask.delayed.Delayed or distributed.Future
        Each delayed value (X, Y), (X, Y, lengths) or a list of pairs (x, y) of sequences; the
        elements of a bag are such pairs. No sequence continues from one partition to the next.

    Returns
    -------
    Partitions
        To give to `fit` in place of X, without a Y.

    Raises
    ------
    ImportError
        Without the ``dask`` extra.
    TypeError
        If the argument is none of these.
    SourceError
        In a fit: the partition that fails, or is not usable, is named.

    Notes
    -----
    With a Dask engine partitions are computed once and stay on their workers; only the sums of a
    pass travel. A worker that is lost is made up for: its partitions are computed again, so
    computing them has to give the same data each time.

    Examples
    --------
    >>> import dask
    >>> import numpy as np
    >>> from gloree.sources import partitions
    >>> part = dask.delayed((np.zeros((5, 20, 3)), np.zeros((5, 20, 1))))
    >>> type(partitions([part, part])).__name__
    'Partitions'
    """
    dask = require("dask", "dask", "a Dask collection")
    if type(collection).__name__ == "Bag":
        collection = collection.to_delayed()  # type: ignore[attr-defined]
    elif is_future(collection) or (
        dask.is_dask_collection(collection) and type(collection).__name__ == "Delayed"
    ):
        collection = [collection]
    if not isinstance(collection, (list, tuple)) or not collection:
        raise TypeError(
            f"expected a Dask bag, or a list of delayed values or futures, got "
            f"{type(collection).__name__}. Arrays: delay a function that gives (X, Y) of a block"
        )
    for i, each in enumerate(collection):
        if not (is_future(each) or dask.is_dask_collection(each)):
            raise TypeError(f"element {i} is a {type(each).__name__}, expected a delayed value")
    return Partitions(collection)
