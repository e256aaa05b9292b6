"""Passes on the workers of a Dask cluster."""

from __future__ import annotations

import ctypes
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, groupby, islice
from typing import Any

import numpy as np

from gloree._arrays import is_tensor
from gloree._extras import require
from gloree.engine._batching import Batching, BatchTransform
from gloree.engine._engine import (
    Engine,
    Merger,
    Result,
    Statistic,
    copied_batch,
    merged,
    one_blas_thread,
)
from gloree.engine._failure import PassFailure
from gloree.engine._source import Selection, Source, Subset
from gloree.sequences import Batch, Data, Part, Segments, Sequences
from gloree.sources import Partitions, SourceError, part_failure, part_of_values, require_same

IN_FLIGHT = 4
"""Groups of a wave, for each thread of the workers; two waves are under way at once."""

FETCHED = 8
"""Statistics that come back in one message."""

MARGIN = 2048
"""Rows on either side of a block of an array that travel with it: context of its segments."""

ATTEMPTS = 4
"""Times that a group is sent, where its rows are lost with a worker each time."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of these settings in malloc.h."""

LIGHT = 2**16
"""Bytes up to which a pass function travels with every task; a larger one is sent to a worker once,
and from there to the others, which is one more way for all tasks to wait for."""

KEPT_ROWS = 2**15
"""Rows of a subset that one worker keeps, at most: as many as a batch has. A pass over them is one
task; over more rows, one for each part, wherever it is."""

PAUSES = (0.05, 0.5, 2.0)
"""Seconds in which the scheduler may notice that a worker has gone, before rows are sent anew."""


@dataclass(frozen=True)
class Group:
    """What one task sums.

    Attributes
    ----------
    number : int
        Its place among the groups.
    part : int
        Part of the data in which its rows stand.
    batches : list of Segments, or Batching
        Its batches; of a whole part, how its task is to cut it.
    n_batches : int
        Batches, about.
    """

    number: int
    part: int
    batches: list[Segments] | Batching
    n_batches: int


@dataclass(frozen=True)
class Picked:
    """Batches to send, where a group needs few rows of a wide range.

    Attributes
    ----------
    batches : list of Batch
        As they are in the data.
    """

    batches: list[Batch]


@dataclass(frozen=True)
class Block:
    """Rows of an array that the workers keep.

    Attributes
    ----------
    data : Sequences
        Kept beside the future, so that no other data take their id.
    first, end : int
        The rows.
    rows : distributed.Future
        Of a `Part`.
    """

    data: Sequences
    first: int
    end: int
    rows: Any


@cache
def _keep_freed_memory() -> None:
    """Let the allocator of this worker keep memory that a batch has freed for the next one.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536: every temporary of a pass is then asked
    of the system page by page, which takes a third of the time of a pass and more. This sets the
    limits to which the allocator of glibc goes by itself without that. Another value of the
    variable, or another allocator, is left alone.
    """
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != "65536" or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**26)


def sum_group(
    value: Any,
    place: tuple[int, int],
    batches: list[Segments] | Batching,
    name: str,
    checksum: int | None,
    transform: BatchTransform,
    function: Callable[[Batch], Any] | bytes,
) -> Any:
    """Task: read and sum the batches of one group.

    Parameters
    ----------
    value : Part, Picked, value of a partition, or something with a method ``read``
        The rows, or what they are read from.
    place : (int, int)
        Row and sequence of the whole with which a partition or shard begins.
    batches
        The batches, or how to cut the whole part into them.
    name, checksum
        Of the partition or shard.
    transform, function
        What becomes of a batch; the function may be pickled.

    Returns
    -------
    statistic
        None of a part of which everything is left out.
    """
    _keep_freed_memory()
    found: Any = function
    if isinstance(function, bytes):
        found = require("distributed", "dask", "a Dask engine").protocol.pickle.loads(function)
    merger = Merger()
    with one_blas_thread():
        for batch in _batches(value, place, batches, name, checksum):
            merger.add(0, found(transform(batch)))
    return merger.result() if merger.any else None


def _batches(
    value: Any,
    place: tuple[int, int],
    batches: list[Segments] | Batching,
    name: str,
    checksum: int | None,
) -> Iterable[Batch]:
    """Batches of a group as they are in the data, one at a time."""
    if isinstance(value, Picked):
        return value.batches
    part = value
    if not isinstance(value, Part):
        if hasattr(value, "read"):
            data = value.read()
        else:
            data = part_of_values(name, value, check_finite=False)
            if checksum is not None and not _is_known(name, value, checksum):
                require_same(name, data, checksum)
                _remember(name, value, checksum)
        part = Part.of(data, *place)
    each = batches.batches_of(part) if isinstance(batches, Batching) else batches
    return map(part.batch, each)


_known: dict[tuple[str, int], weakref.ref[np.ndarray]] = {}
"""Partitions of this process whose checksums were compared: their first array."""


def _first_array(value: Any) -> np.ndarray | None:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, np.ndarray) else None


def _is_known(name: str, value: Any, checksum: int) -> bool:
    """Whether this very value, not one that was computed again, was found to be the same."""
    seen = _known.get((name, checksum))
    first = _first_array(value)
    return seen is not None and first is not None and seen() is first


def _remember(name: str, value: Any, checksum: int) -> None:
    first = _first_array(value)
    if first is not None:
        _known[name, checksum] = weakref.ref(first)


def pick_group(
    value: Any,
    place: tuple[int, int],
    batches: list[Segments],
    name: str,
    checksum: int | None,
    number: int,
    transform: BatchTransform,
) -> list[tuple[int, Batch]]:
    """Task: the batches of one group, and its number; parameters as of `sum_group`."""
    each = _batches(value, place, batches, name, checksum)
    return [(number, copied_batch(transform(batch))) for batch in each]


def joined(groups: list[list[tuple[int, Batch]]]) -> list[tuple[int, Batch]]:
    """Task: batches of all groups, on one worker."""
    return list(chain.from_iterable(groups))


def sum_kept(kept: list[tuple[int, Batch]], function: Callable[[Batch], Any]) -> Any:
    """Task: sum over batches that this worker keeps."""
    _keep_freed_memory()
    with one_blas_thread():
        return merged((number, function(batch)) for number, batch in kept)


def groups_of(selection: Selection) -> Iterator[Group]:
    """Groups of a pass, in order.

    To list the batches of large data takes longer than to begin their sum. A task that reads a
    whole part cuts it itself, so that all workers list at once.
    """
    data = selection.data
    if isinstance(selection, Source) and data.remote(0) is not None:
        batch_rows = selection.batch_size * selection.stride
        for part, rows in enumerate(np.diff(data.part_rows)):
            yield Group(part, part, selection.batching_of(part), -(-int(rows) // batch_rows))
        return
    pieces = (piece for each in selection.iter_batches() for piece in data.by_part(each))
    for number, some in groupby(pieces, key=data.group_of):
        own = list(some)
        yield Group(number, data.part_with(own[0]), own, len(own))


def unwarned() -> AbstractContextManager[Any]:
    """Context in which a large message is sent without a warning."""
    config = require("dask", "dask", "a Dask engine").config
    settings = {"distributed.admin.large-graph-warning-threshold": "1TB"}
    context: AbstractContextManager[Any] = config.set(settings)
    return context


def as_it_is(value: Any) -> Any:
    """Task that holds a value for other tasks."""
    return value


def _is_elsewhere(subset: Subset) -> bool:
    """Whether tasks read the rows where they are."""
    return subset.data.remote(0) is not None


@dataclass(frozen=True)
class DaskEngine(Engine):
    """Passes whose groups of batches are tasks of a Dask cluster.

    Partitions of a Dask collection stay on their workers, shards are read by the workers (which
    must see the same directory), and arrays are sent to the workers once, in blocks. Only sums
    come back. They merge in the order of the data, so results equal those of the other engines to
    the last bit. A task whose worker is lost runs again somewhere else. Where Dask has left its own
    default MALLOC_TRIM_THRESHOLD_ to the workers, they keep up to 64 MiB of freed memory instead.

    Parameters
    ----------
    name, n_workers, verbose, checkpoint
        As of `Engine`.
    client : distributed.Client
        Of a `LocalCluster`, or of any other scheduler.

    Examples
    --------
    >>> from dask.distributed import Client  # doctest: +SKIP
    >>> engine = DaskEngine("dask", client=Client())  # doctest: +SKIP
    >>> SpectralRNNRegressor(4, engine=engine).fit(X, Y)  # doctest: +SKIP
    """

    client: Any = None
    _blocks: dict[tuple[int, int], Block] = field(default_factory=dict, repr=False, compare=False)

    def scan(self, data: Data) -> None:
        """Scan partitions where they are; forget the data of other fits."""
        for key, block in list(self._blocks.items()):
            if block.data is not data:
                del self._blocks[key]
        if isinstance(data, Partitions):
            data.keep_on(self.client)
        super().scan(data)

    def _keeps(self, subset: Subset) -> bool:
        """Rows that are elsewhere stay there, on one worker: only sums travel to this process."""
        few = not _is_elsewhere(subset) or subset.n_rows <= KEPT_ROWS
        return super()._keeps(subset) and few

    def _sum_kept(
        self, function: Callable[[Batch], Statistic], subset: Subset, label: str
    ) -> Statistic:
        if not _is_elsewhere(subset):
            return super()._sum_kept(function, subset, label)
        try:
            with unwarned():
                kept = subset.kept_rows(self._keep)
                future = self.client.submit(sum_kept, kept, function, pure=False)
            statistic: Statistic = future.result()
            return statistic
        except PassFailure:
            raise  # part of the search for a step
        except Exception:
            # which part was lost, or has failed, shows where each of them is summed by itself
            subset.forget_rows()
            return self._sum(function, subset, label)

    def _keep(self, subset: Subset) -> Any:
        """Future of the batches of a subset, and their groups, on one worker."""
        groups = list(groups_of(subset))
        each = self.client.map(
            pick_group,
            *self._of_parts(subset.data, groups),
            [group.number for group in groups],
            transform=subset.transform,
            pure=False,
        )
        return self.client.submit(joined, each, pure=False)

    def _of_parts(self, data: Data, groups: list[Group]) -> tuple[list[Any], ...]:
        """What tasks are told about their groups: the first parameters of `sum_group`."""
        rows = []
        for group in groups:
            remote = data.remote(group.part)
            rows.append(self._rows(data, group) if remote is None else remote)
        return (
            rows,
            [data.place(group.part) for group in groups],
            [group.batches for group in groups],
            [data.name(group.part) for group in groups],
            [data.part_checksum(group.part) for group in groups],
        )

    def _read(self, subset: Subset) -> list[tuple[int, Batch]]:
        """Read in this process, where the rows are; tasks return sums alone."""
        each = Engine._map(self, copied_batch, subset, "rows")
        return [(group, batch) for group, _, batch in each]

    def _map(
        self, function: Callable[[Batch], Result], selection: Selection, label: str
    ) -> Iterator[tuple[int, int, Result]]:
        """Group, number of batches and their sum, in order."""
        distributed = require("distributed", "dask", "a Dask engine")
        lost, killed = distributed.client.CancelledError, distributed.scheduler.KilledWorker
        data, transform = selection.data, selection.transform
        if isinstance(data, Sequences) and is_tensor(data.X):
            raise TypeError(
                "a Dask engine runs on NumPy arrays, and the data are tensors: give arrays, or use "
                "engine='serial', which runs where the tensors are"
            )
        shared: Any = distributed.protocol.pickle.dumps(function)
        if len(shared) > LIGHT:
            # it may hold large matrices: one copy for each worker, not one for each task
            with unwarned():
                shared = self.client.submit(as_it_is, function, pure=False)

        def submit(wave: list[Group]) -> list[Any]:
            """Futures of some groups: one message for all of them."""
            with unwarned():
                futures: list[Any] = self.client.map(
                    sum_group,
                    *self._of_parts(data, wave),
                    transform=transform,
                    function=shared,
                    pure=False,
                )
            return futures

        def alone(group: Group, future: Any) -> Result | None:
            """Result of one group, sent again where its rows are lost."""
            name = data.name(group.part)
            for trial in range(ATTEMPTS):
                try:
                    if trial or future is None:
                        (future,) = submit([group])
                    statistic: Result | None = future.result()
                    return statistic
                except lost:
                    self._blocks.pop((id(data), group.number), None)
                except killed as error:
                    raise SourceError(
                        f"{name}: its worker died each time it was summed (pass {label!r}), most "
                        f"likely out of memory: use smaller partitions or larger workers"
                    ) from error
                except Exception as error:
                    if getattr(data.remote(group.part), "status", "") == "error":
                        raise part_failure(name, error) from error
                    raise
            raise SourceError(
                f"{name}: its rows were lost with their workers {ATTEMPTS} times (pass {label!r}). "
                f"Futures of values that were sent to the workers cannot be computed again: give "
                f"delayed values"
            )

        def begin(wave: list[Group]) -> tuple[list[Group], list[Any]]:
            try:
                return wave, submit(wave)
            except lost:
                return wave, [None] * len(wave)

        def finish(wave: list[Group], futures: list[Any]) -> Iterator[tuple[int, int, Result]]:
            for first in range(0, len(wave), FETCHED):
                some, own = wave[first : first + FETCHED], futures[first : first + FETCHED]
                try:
                    if None in own:
                        raise lost
                    statistics = self.client.gather(own)
                except Exception:
                    # which of them were lost, now or when they were sent, shows by itself
                    statistics = [alone(*each) for each in zip(some, own, strict=True)]
                for group, statistic in zip(some, statistics, strict=True):
                    if statistic is not None:
                        yield group.number, group.n_batches, statistic

        size = max(2, IN_FLIGHT * sum(self.client.nthreads().values()))
        groups = groups_of(selection)
        under_way: deque[tuple[list[Group], list[Any]]] = deque()
        while wave := list(islice(groups, size)):
            under_way.append(begin(wave))
            if len(under_way) > 1:
                yield from finish(*under_way.popleft())
        while under_way:
            yield from finish(*under_way.popleft())

    def _rows(self, data: Data, group: Group) -> Any:
        """Future of what to send: the block of an array that the workers keep, or less."""
        batches = group.batches
        assert not isinstance(batches, Batching)  # only tasks that read a whole part cut it
        first = min(int(segments.context_start.min()) for segments in batches)
        end = max(int(segments.context_stop.max()) for segments in batches)
        key = (id(data), group.number)
        block = self._blocks.get(key)
        if block is not None and block.first <= first and end <= block.end:
            return block.rows
        opened = data.open(group.part)
        needed = sum(segments.n_rows for segments in batches)
        if needed < (end - first) / 2:
            return self._send(Picked([opened.batch(segments) for segments in batches]))
        if not isinstance(data, Sequences):
            return self._send(opened.excerpt(first, end))
        first, end = max(0, first - MARGIN), min(data.n_rows, end + MARGIN)
        rows = self._send(opened.excerpt(first, end))
        self._blocks[key] = Block(data, first, end, rows)
        return rows

    def _send(self, rows: Part | Picked) -> Any:
        """Send rows to a worker: to another one, if it has just gone."""
        for pause in PAUSES:
            try:
                return self.client.scatter(rows, hash=False)
            except OSError:
                time.sleep(pause)
        return self.client.scatter(rows, hash=False)
