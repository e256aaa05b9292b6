"""Visits: a worker of a Dask cluster sums all groups that it holds in one direct call.

A task waits four times for the next message between client, scheduler and worker, and once more
for each partition that it is the task of: some seven milliseconds, and three for each further one.
`Client.run` calls a worker at once, for one millisecond. It is outside of all that a scheduler does
for tasks, so a visit is short, returns what it has, and leaves everything else to tasks: what it
has no time or room for, partitions that are not there, workers that are lost, and errors but those
of a search for a step.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from gloree._extras import require
from gloree.engine._batching import Batching, BatchTransform
from gloree.engine._engine import Mergeable
from gloree.engine._failure import PassFailure
from gloree.engine._tasks import Group, Place, sum_group
from gloree.sequences import Batch, Data, Readable, Segments
from gloree.sources import SourceError, ask

if TYPE_CHECKING:
    from gloree.engine._dask import DaskEngine

SPELL = 2.0
"""Seconds after which a visit begins no other group. Tasks have the rest: they can be cancelled,
stolen and watched, and beside so much work cost little."""

PIECE = 0.05
"""Seconds, about, for which a thread of a worker sums without looking at these limits."""

MOST_BYTES = 2**26
"""Bytes of sums after which a visit begins no other group."""

NARROW = 2**23
"""The same of a few rows of all parts, which one worker can bring together instead: then one sum
travels, rather than one for each part."""


@dataclass(frozen=True)
class Held:
    """A group for a visit: `rows` is the key of its partition, or what a worker reads it from."""

    number: int
    rows: str | Readable
    place: Place
    batches: list[Segments] | Batching


@dataclass(frozen=True)
class Visit:
    """What all visits of a pass are given.

    `function` is the pair of a transform and a pass function, pickled; `at_hand` asks for
    partitions of which batches can be read without making arrays of all of it.
    """

    function: bytes
    most_bytes: int = MOST_BYTES
    at_hand: bool = False

    def takes(self, value: object) -> bool:
        """Whether a partition is there, and as it has to be."""
        if not self.at_hand:
            return value is not None
        return isinstance(value, tuple) and all(isinstance(each, np.ndarray) for each in value[:2])


class State(Protocol):
    """Of a worker of Dask."""

    nthreads: int


class Worker(Protocol):
    """What a visit needs of a worker of Dask, beside its status."""

    address: str
    status: Enum
    data: Mapping[str, object]
    executors: Mapping[str, Executor]
    state: State


async def sum_held(
    visit: Visit, shares: dict[str, list[Held]], dask_worker: Worker
) -> dict[int, object]:
    """On a worker: sums of its groups by their number, or the `PassFailure` at which they end."""
    if dask_worker.status.name != "running":
        return {}  # short of memory, or about to leave
    loads = require("distributed", "dask", "a Dask engine").protocol.pickle.loads
    transform, function = loads(visit.function)
    loop = asyncio.get_running_loop()
    end, room, n_threads = loop.time() + SPELL, visit.most_bytes, dask_worker.state.nthreads
    waiting, found = deque(shares[dask_worker.address]), dict[int, object]()

    async def work() -> None:
        nonlocal room
        seconds = PIECE
        while waiting and room > 0 and loop.time() < end:
            # few at a time: partitions may have to come from the disk
            n_next = min(PIECE / seconds, -(-len(waiting) // n_threads))
            some = [waiting.popleft() for _ in range(max(1, int(n_next)))]
            values = [
                dask_worker.data.get(each.rows) if isinstance(each.rows, str) else each.rows
                for each in some
            ]
            if not all(map(visit.takes, values)):
                waiting.clear()
                return
            begin = loop.time()
            sums, n_bytes, ended = await loop.run_in_executor(
                dask_worker.executors["default"], _sums, values, some, transform, function
            )
            seconds = (loop.time() - begin) / len(some)
            found.update(sums)
            room -= n_bytes
            if ended:
                waiting.clear()

    await asyncio.gather(*(work() for _ in range(n_threads)))
    return found


def _sums(
    values: list[object],
    groups: list[Held],
    transform: BatchTransform,
    function: Callable[[Batch], Mergeable],
) -> tuple[dict[int, object], int, bool]:
    """Sums of groups, their bytes, and whether they ended in an error.

    One of the search for a step is a result; any other is raised again, in the order of the data,
    by the task of its group.
    """
    dumps = require("distributed", "dask", "a Dask engine").protocol.pickle.dumps
    found: dict[int, object] = {}
    n_bytes, buffers = 0, list[Any]()
    try:
        for value, group in zip(values, groups, strict=True):
            statistic = sum_group(value, group.place, group.batches, transform, function)
            n_bytes += len(dumps(statistic, buffer_callback=buffers.append, protocol=5))
            found[group.number] = statistic
    except PassFailure as failure:
        return {**found, group.number: failure}, 0, True
    except Exception:
        return found, 0, True
    return found, n_bytes + sum(buffer.raw().nbytes for buffer in buffers), False


def sums_of_visits(
    engine: DaskEngine, data: Data, groups: list[Group], visit: Visit
) -> dict[int, object]:
    """What the workers find, by the numbers of the groups; others are left to tasks."""
    rows, places, batches = engine.arguments(data, groups)
    if isinstance(rows[0], Readable):
        anywhere = list(engine.ask(engine.client.nthreads))
        able = [anywhere] * len(rows)
    else:
        try:
            holders = engine.ask(engine.client.who_has, rows)
        except CancelledError:
            return {}  # rows are lost: tasks find them again, or name them
        rows = [cast("Any", each).key for each in rows]
        able = [holders[key] for key in rows]
    shares: dict[str, list[Held]] = defaultdict(list)
    load: dict[str, int] = defaultdict(int)
    for group, row, place, own, workers in zip(groups, rows, places, batches, able, strict=True):
        if workers:
            address = min(workers, key=load.__getitem__)
            load[address] += group.n_batches
            held = Held(group.number, cast("str | Readable", row), place, own)
            shares[address].append(held)
    visits = _call_workers(engine, visit, shares)
    return {number: sums for found in visits.values() for number, sums in found.items()}


def _call_workers(
    engine: DaskEngine, visit: Visit, shares: dict[str, list[Held]]
) -> dict[str, dict[int, object]]:
    """What each worker finds; nothing where one of them is lost meanwhile."""
    client, addresses = engine.client, list(shares)
    call = partial(client.run, sum_held, visit, shares, workers=addresses, on_error="ignore")

    def is_one_lost() -> bool:
        # a scheduler goes on for half a minute to connect to a worker that has gone
        return not shares.keys() <= engine.ask(client.nthreads).keys()

    try:
        found: dict[str, dict[int, object]] = ask(client, call, hopeless=is_one_lost)
        return found
    except SourceError:
        raise  # the client closed
    except Exception:
        return {}


def in_order(groups: list[Group], found: dict[int, object]) -> Iterator[tuple[int, object]]:
    """Groups and their sums, but those of which everything is left out."""
    for group in groups:
        statistic = found[group.number]
        if isinstance(statistic, PassFailure):
            raise statistic
        if statistic is not None:
            yield group.number, statistic
