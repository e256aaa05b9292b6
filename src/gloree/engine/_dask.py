"""Passes on the workers of a Dask cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, cast

from gloree._arrays import is_tensor
from gloree._extras import require
from gloree.engine._batching import Batching, BatchTransform
from gloree.engine._engine import Engine, Result, Statistic, copied_batch, merged
from gloree.engine._failure import PassFailure
from gloree.engine._moves import move_partitions
from gloree.engine._source import Selection, Subset
from gloree.engine._tasks import (
    Group,
    Picked,
    Place,
    as_it_is,
    groups_of,
    joined,
    pick_group,
    sum_group,
    sum_kept,
)
from gloree.engine._visits import MOST_BYTES, NARROW, Visit, in_order, sums_of_visits
from gloree.sequences import Batch, Data, Part, Segments, Sequences
from gloree.sources import Future, Partitions, SourceError, ask, part_failure

IN_FLIGHT = 4
"""Groups of a wave, for each thread of the workers; two waves are under way at once."""

FETCHED = 8
"""Statistics that come back in one message."""

MARGIN = 2048
"""Rows on either side of a block of an array that travel with it: context of its segments."""

ATTEMPTS = 4
"""Times that a group is sent, where its rows are lost with a worker each time."""

LIGHT = 2**16
"""Bytes up to which a pass function travels with every task; a larger one is sent to a worker once,
and from there to the others, which is one more way for all tasks to wait for."""

KEPT_ROWS = 2**15
"""Rows of a subset that one worker keeps, at most: as many as a batch has. A pass over them is one
task; over more rows, one for each part, wherever it is."""

PAUSES = (0.05, 0.5, 2.0)
"""Seconds in which the scheduler may notice that a worker has gone, before rows are sent anew."""


@dataclass(frozen=True)
class Block:
    """Rows `first` to before `end` of an array that the workers keep, and their future.

    The data stay beside it, so that no other data take their id.
    """

    data: Sequences
    first: int
    end: int
    rows: Future


def unwarned() -> AbstractContextManager[object]:
    """Context in which a large message is sent without a warning."""
    config = require("dask", "dask", "a Dask engine").config
    settings = {"distributed.admin.large-graph-warning-threshold": "1TB"}
    context: AbstractContextManager[object] = config.set(settings)
    return context


def _is_elsewhere(selection: Selection) -> bool:
    """Whether tasks read the rows where they are."""
    return selection.data.remote(0) is not None


def _pickled(value: object) -> bytes:
    distributed = require("distributed", "dask", "a Dask engine")
    pickled: bytes = distributed.protocol.pickle.dumps(value)
    return pickled


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

    def ask(self, call: Callable[..., Any], /, *arguments: object, **options: object) -> Any:
        """Result of a function of the client; a `SourceError` if that closes meanwhile."""
        return ask(self.client, partial(call, *arguments, **options))

    def scan(self, data: Data) -> None:
        """Scan partitions where they are; forget the data of other fits."""
        for key, block in list(self._blocks.items()):
            if block.data is not data:
                del self._blocks[key]
        if isinstance(data, Partitions):
            data.keep_on(self.client)
        super().scan(data)
        if isinstance(data, Partitions):
            move_partitions(self, data)

    def _keeps(self, subset: Subset) -> bool:
        """Rows that are elsewhere stay there, on one worker: only sums travel to this process."""
        few = not _is_elsewhere(subset) or subset.n_rows <= KEPT_ROWS
        return super()._keeps(subset) and few

    def _sum_kept(
        self, function: Callable[[Batch], Statistic], subset: Subset, label: str
    ) -> Statistic:
        if not _is_elsewhere(subset):
            return super()._sum_kept(function, subset, label)
        if not subset.has_rows:
            groups = list(groups_of(subset))
            found = self._visited(function, subset, groups, most_bytes=NARROW, at_hand=True)
            if all(group.number in found for group in groups):
                return merged(cast("Iterator[tuple[int, Statistic]]", in_order(groups, found)))
        try:
            with unwarned():
                kept = subset.kept_rows(self._keep)
                future = self.ask(self.client.submit, sum_kept, kept, function, pure=False)
            statistic: Statistic = self.ask(future.result)
            return statistic
        except PassFailure:
            raise  # part of the search for a step
        except Exception:
            # which part was lost, or has failed, shows where each of them is summed by itself
            subset.forget_rows()
            return self._sum(function, subset, label)

    def _keep(self, subset: Subset) -> Future:
        """Future of the batches of a subset, and their groups, on one worker."""
        groups = list(groups_of(subset))
        each = self.ask(
            self.client.map,
            pick_group,
            *self.arguments(subset.data, groups),
            [group.number for group in groups],
            transform=subset.transform,
            pure=False,
        )
        kept: Future = self.ask(self.client.submit, joined, each, pure=False)
        return kept

    def arguments(
        self, data: Data, groups: list[Group]
    ) -> tuple[list[object], list[Place], list[list[Segments] | Batching]]:
        """Rows, places and batches of groups: the first arguments of their tasks."""
        rows: list[object] = []
        for group in groups:
            remote = data.remote(group.part)
            rows.append(self._rows(data, group) if remote is None else remote)
        places = [
            Place(*data.place(part), data.name(part), data.part_checksum(part))
            for part in (group.part for group in groups)
        ]
        return rows, places, [group.batches for group in groups]

    def forget(self, data: Data, group: Group) -> None:
        """Send the rows of a group anew when they are needed again."""
        self._blocks.pop((id(data), group.number), None)

    def _read(self, subset: Subset) -> list[tuple[int, Batch]]:
        """Read in this process, where the rows are; tasks return sums alone."""
        each = Engine._map(self, copied_batch, subset, "rows")
        return [(group, batch) for group, _, batch in each]

    def _map(
        self, function: Callable[[Batch], Result], selection: Selection, label: str
    ) -> Iterator[tuple[int, int, Result]]:
        """Group, number of batches and their sum, in order."""
        if isinstance(selection.data, Sequences) and is_tensor(selection.data.X):
            raise TypeError(
                "a Dask engine runs on NumPy arrays, and the data are tensors: give arrays, or use "
                "engine='serial', which runs where the tensors are"
            )
        groups = list(groups_of(selection))
        found = self._visited(function, selection, groups)
        left = [group for group in groups if group.number not in found]
        others = self._by_tasks(function, selection, iter(left), label)
        for group in groups:
            # a sum is kept until its turn comes
            statistic: Any = found.pop(group.number) if group.number in found else next(others)
            if isinstance(statistic, PassFailure):
                raise statistic
            if statistic is not None:
                yield group.number, group.n_batches, statistic

    def _visited(
        self,
        function: Callable[[Batch], Result],
        selection: Selection,
        groups: list[Group],
        most_bytes: int = MOST_BYTES,
        at_hand: bool = False,
    ) -> dict[int, object]:
        """What visits find of groups whose rows the workers have, or read."""
        if not _is_elsewhere(selection):
            return {}
        pickled = _pickled((selection.transform, function))
        if len(pickled) > LIGHT:
            return {}
        return sums_of_visits(self, selection.data, groups, Visit(pickled, most_bytes, at_hand))

    def _by_tasks(
        self,
        function: Callable[[Batch], Result],
        selection: Selection,
        groups: Iterator[Group],
        label: str,
    ) -> Iterator[object]:
        """Results of groups, in order; None of a group that is left out."""
        tasks = Tasks(self, selection.data, selection.transform, self._shared(function), label)
        size = max(2, IN_FLIGHT * sum(self.ask(self.client.nthreads).values()))
        under_way: deque[tuple[list[Group], list[Future | None]]] = deque()
        while wave := list(islice(groups, size)):
            under_way.append((wave, tasks.begin(wave)))
            if len(under_way) > 1:
                yield from tasks.finish(*under_way.popleft())
        while under_way:
            yield from tasks.finish(*under_way.popleft())

    def _shared(self, function: Callable[[Batch], Result]) -> bytes | Future:
        """What tasks are given: a function with large matrices goes once to each worker."""
        pickled = _pickled(function)
        if len(pickled) <= LIGHT:
            return pickled
        with unwarned():
            shared: Future = self.ask(self.client.submit, as_it_is, function, pure=False)
        return shared

    def _rows(self, data: Data, group: Group) -> Future:
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

    def _send(self, rows: Part | Picked) -> Future:
        """Send rows to a worker: to another one, if it has just gone."""
        for pause in (*PAUSES, None):
            try:
                future: Future = self.ask(self.client.scatter, rows, hash=False)
                return future
            except OSError:
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError


@dataclass(frozen=True)
class Tasks:
    """Tasks of one pass: `function` is pickled, or a future."""

    engine: DaskEngine
    data: Data
    transform: BatchTransform
    function: bytes | Future
    label: str

    def submit(self, groups: list[Group]) -> list[Future]:
        """Futures of some groups: one message for all of them."""
        with unwarned():
            futures: list[Future] = self.engine.ask(
                self.engine.client.map,
                sum_group,
                *self.engine.arguments(self.data, groups),
                transform=self.transform,
                function=self.function,
                pure=False,
            )
        return futures

    def begin(self, wave: list[Group]) -> list[Future | None]:
        """Futures of a wave; None where rows were lost when they were to be sent."""
        try:
            return [*self.submit(wave)]
        except _errors().lost:
            return [None] * len(wave)

    def finish(self, wave: list[Group], futures: list[Future | None]) -> Iterator[object]:
        """Results of a wave, in order."""
        for first in range(0, len(wave), FETCHED):
            some, own = wave[first : first + FETCHED], futures[first : first + FETCHED]
            try:
                if None in own:
                    raise _errors().lost
                statistics = self.engine.ask(self.engine.client.gather, own)
            except Exception:
                # which of them were lost, now or when they were sent, shows by itself
                statistics = [self.alone(*each) for each in zip(some, own, strict=True)]
            yield from statistics

    def alone(self, group: Group, future: Future | None) -> object:
        """Result of one group, sent again where its rows are lost."""
        name, errors = self.data.name(group.part), _errors()
        for trial in range(ATTEMPTS):
            try:
                if trial or future is None:
                    (future,) = self.submit([group])
                return self.engine.ask(future.result)
            except SourceError:
                raise
            except errors.lost:
                self.engine.forget(self.data, group)
            except errors.killed as error:
                raise SourceError(
                    f"{name}: its worker died each time it was summed (pass {self.label!r}), most "
                    f"likely out of memory: use smaller partitions or larger workers"
                ) from error
            except Exception as error:
                if getattr(self.data.remote(group.part), "status", "") == "error":
                    raise part_failure(name, error) from error
                raise
        raise SourceError(
            f"{name}: its rows were lost with their workers {ATTEMPTS} times (pass {self.label!r})."
            f" Futures of values that were sent to the workers cannot be computed again: give "
            f"delayed values"
        )


class Errors(NamedTuple):
    """Errors of Dask: rows that are lost, and a task whose workers died."""

    lost: type[Exception]
    killed: type[Exception]


def _errors() -> Errors:
    distributed = require("distributed", "dask", "a Dask engine")
    return Errors(distributed.client.CancelledError, distributed.scheduler.KilledWorker)
