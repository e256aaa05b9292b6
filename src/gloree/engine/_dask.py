"""Passes on the workers of a Dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from threadpoolctl import threadpool_limits

from gloree._arrays import is_tensor
from gloree._extras import require
from gloree.engine._engine import Engine, Merger, Statistic
from gloree.engine._source import Reading, Source
from gloree.sequences import GROUP_ROWS, Batch, Data, IntArray, Part, Sequences
from gloree.sources import Partitions, SourceError, part_of_values

IN_FLIGHT = 4
"""Groups that are under way at once, for each thread of the workers."""

MARGIN = 2048
"""Rows on either side of a block of an array that travel with it: context of its segments."""

ATTEMPTS = 3
"""Times that a group is sent anew where its rows were lost with a worker."""


def sum_group(
    value: Any,
    place: tuple[int, int],
    tables: list[IntArray],
    reading: Reading,
    function: Callable[[Batch], Any],
    name: str,
) -> Any:
    """Task: read and sum the batches of one group.

    Parameters
    ----------
    value : Part, value of a partition, or something with a method ``read``
        The rows, or what they are read from.
    place : (int, int)
        Row and sequence of the whole with which a partition or shard begins.
    """
    if isinstance(value, Part):
        part = value
    else:
        data = value.read() if hasattr(value, "read") else part_of_values(name, value)
        part = Part.of(data, *place)
    merger = Merger()
    with threadpool_limits(limits=1, user_api="blas"):
        for table in tables:
            merger.add(0, function(reading(part, table)))
    return merger.result()


def as_it_is(value: Any) -> Any:
    """Task that holds a value for other tasks."""
    return value


@dataclass(frozen=True)
class DaskEngine(Engine):
    """Passes whose groups of batches are tasks of a Dask cluster.

    Partitions of a Dask collection stay on their workers, shards are read by the workers (which
    must see the same directory), and arrays are sent to the workers once, in blocks. Only sums
    come back. They merge in the order of the data, so results equal those of the other engines to
    the last bit. A task whose worker is lost runs again somewhere else.

    Parameters
    ----------
    client : distributed.Client
        Of a `LocalCluster`, or of any other scheduler.
    """

    client: Any = None
    _blocks: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def look(self, data: Data) -> None:
        """Take the first look at partitions where they are."""
        if isinstance(data, Partitions):
            data.keep_on(self.client)
        super().look(data)

    def _map(
        self,
        function: Callable[[Batch], Statistic],
        source: Source,
        tables: Iterable[IntArray],
        label: str,
    ) -> Iterator[tuple[int, Statistic]]:
        """Group and statistic of every group, in order."""
        data, reading = source.data, source.reading
        if isinstance(data, Sequences) and is_tensor(data.X):
            raise TypeError(
                "a Dask engine runs on NumPy arrays, and the data are tensors: give arrays, or use "
                "engine='serial', which runs where the tensors are"
            )
        # it may hold large matrices: one copy for each worker, not one for each task
        shared = self.client.submit(as_it_is, function, pure=False)

        def submit(group: int, own: list[IntArray]) -> Any:
            part = data.part_of(int(own[0][0, 2]))
            rows = data.remote(part)
            if rows is None:
                rows = self._block(data, part, group, own)
            return self.client.submit(
                sum_group, rows, data.place(part), own, reading, shared, data.name(part), pure=False
            )

        def result(group: int, own: list[IntArray], future: Any) -> tuple[int, Statistic]:
            for _ in range(ATTEMPTS):
                try:
                    statistic: Statistic = future.result()
                    return group, statistic
                except lost:
                    self._blocks.pop((id(data), group), None)
                    future = submit(group, own)
                except killed as error:
                    name = data.name(data.part_of(int(own[0][0, 2])))
                    raise SourceError(
                        f"{name}: its worker died each time it was summed (pass {label!r}), most "
                        f"likely out of memory: use smaller partitions or larger workers"
                    ) from error
            raise SourceError(f"{data.name(0)}: rows were lost with their workers {ATTEMPTS} times")

        distributed = require("distributed", "dask", "a Dask engine")
        lost, killed = distributed.client.CancelledError, distributed.scheduler.KilledWorker
        width = max(2, IN_FLIGHT * sum(self.client.nthreads().values()))
        waiting: deque[tuple[int, list[IntArray], Any]] = deque()
        pieces = (piece for table in tables for piece in data.by_part(table))
        for group, own in groupby(pieces, key=data.group_of):
            tables_of_group = list(own)
            waiting.append((group, tables_of_group, submit(group, tables_of_group)))
            if len(waiting) >= width:
                yield result(*waiting.popleft())
        while waiting:
            yield result(*waiting.popleft())

    def _block(self, data: Data, part: int, group: int, tables: list[IntArray]) -> Any:
        """Rows to send: the block of an array, kept by the workers, or what the tables need."""
        first = min(int(table[:, 1].min()) for table in tables)
        end = max(int(table[:, 4].max()) for table in tables)
        if not isinstance(data, Sequences):
            return data.open(part).excerpt(first, end)
        low = max(0, group * GROUP_ROWS - MARGIN)
        high = min(data.n_rows, (group + 1) * GROUP_ROWS + MARGIN)
        if first < low or end > high:
            return data.open().excerpt(first, end)
        key = (id(data), group)
        if key not in self._blocks:
            rows = data.open().excerpt(low, high)
            # the data are kept beside the future, so that no other data take their id
            self._blocks[key] = data, self.client.scatter(rows, hash=False)
        return self._blocks[key][1]
