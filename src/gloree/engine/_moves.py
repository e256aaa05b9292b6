"""Partitions that one worker of a Dask cluster has more of than its share are moved once.

Workers take the tasks that compute partitions one after another, as fast as they can. Of eight
partitions one of two workers may so have five or six, and every pass of a fit would wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gloree._extras import require
from gloree.engine._tasks import as_it_is
from gloree.sources import Partitions

if TYPE_CHECKING:
    from gloree.engine._dask import DaskEngine

GAIN = 0.1
"""Share by which passes have to become shorter for partitions to be moved."""


def move_partitions(engine: DaskEngine, data: Partitions) -> None:
    """Move partitions that were computed for these data; futures that were given stay."""
    own, futures, client = data.computed, data.futures, engine.client
    if not own or futures is None:
        return
    threads = engine.ask(client.nthreads)
    holders = engine.ask(client.who_has, [futures[part] for part in own])
    places = [next(iter(holders[futures[part].key]), "") for part in own]
    if not set(places) <= set(threads):
        return  # some are lost, and being computed again
    rows = np.diff(data.part_rows)[own].tolist()
    moved = moves(places, rows, threads)
    for index, address in moved.items():
        part = own[index]
        futures[part] = engine.ask(
            client.submit,
            as_it_is,
            futures[part],
            workers=[address],
            allow_other_workers=True,
            pure=False,
        )
    if moved:
        wait = require("distributed", "dask", "a Dask engine").wait
        engine.ask(wait, [futures[own[index]] for index in moved])


def moves(
    holders: list[str], rows: list[int], threads: dict[str, int], gain: float = GAIN
) -> dict[int, str]:
    """Partitions to move, and where to, so that no worker is at its share long after the others.

    The worker with most rows for a thread gives one partition to that with least, as long as that
    makes the larger of both shares smaller; nothing moves if this shortens passes by less than a
    share `gain`.
    """
    owned: dict[str, set[int]] = {address: set() for address in threads}
    for part, address in enumerate(holders):
        owned[address].add(part)
    loads = {
        address: sum(rows[part] for part in owned[address]) / threads[address]
        for address in threads
    }
    longest = max(loads.values())
    moved: dict[int, str] = {}
    while True:
        most, least = (choose(loads, key=loads.__getitem__) for choose in (max, min))
        after = {
            part: max(
                loads[most] - rows[part] / threads[most],
                loads[least] + rows[part] / threads[least],
            )
            for part in sorted(owned[most])
        }
        part = min(after, key=after.__getitem__)
        if after[part] >= loads[most]:
            break
        loads[most] -= rows[part] / threads[most]
        loads[least] += rows[part] / threads[least]
        owned[most].remove(part)
        owned[least].add(part)
        moved[part] = least
    shortened = 1 - max(loads.values()) / longest
    return moved if shortened > 0 and shortened >= gain else {}
