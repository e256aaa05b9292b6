"""Tasks of a Dask cluster: what workers run, and how they learn which rows to sum."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby
from typing import Any

import numpy as np

from gloree._extras import require
from gloree.engine._batching import Batching, BatchTransform
from gloree.engine._engine import (
    Result,
    Statistic,
    copied_batch,
    merge_all,
    merged,
    one_blas_thread,
)
from gloree.engine._source import Selection, Source
from gloree.sequences import Batch, Part, Readable, Segments
from gloree.sources import part_of_values, require_same

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of these settings in malloc.h."""


@dataclass(frozen=True)
class Group:
    """What one task sums: batches of a part, or of a whole part how its task is to cut it."""

    number: int
    part: int
    batches: list[Segments] | Batching
    n_batches: int


@dataclass(frozen=True)
class Picked:
    """Batches to send as they are in the data, where a group needs few rows of a wide range."""

    batches: list[Batch]


@dataclass(frozen=True)
class Place:
    """Where a value stands in the whole of the data: row and sequence, name and checksum."""

    row: int
    sequence: int
    name: str
    checksum: int | None


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
    value: object,
    place: Place,
    batches: list[Segments] | Batching,
    transform: BatchTransform,
    function: Callable[[Batch], Statistic] | bytes,
) -> Statistic | None:
    """Task: read and sum the batches of one group; None of a part that is left out.

    The value is a `Part`, `Picked`, the value of a partition, or something with a method ``read``;
    the function may be pickled by Dask.
    """
    _keep_freed_memory()
    found: Any = function
    if isinstance(function, bytes):
        found = require("distributed", "dask", "a Dask engine").protocol.pickle.loads(function)
    with one_blas_thread():
        return merge_all((0, found(transform(each))) for each in _batches(value, place, batches))


def _batches(value: object, place: Place, batches: list[Segments] | Batching) -> Iterable[Batch]:
    """Batches of a group as they are in the data, one at a time."""
    if isinstance(value, Picked):
        return value.batches
    part = value
    if not isinstance(part, Part):
        if isinstance(value, Readable):
            data = value.read()
        else:
            data = part_of_values(place.name, value, check_finite=False)
            first = _first_array(value)
            known = _known.get((place.name, place.checksum))
            if known is None or first is None or known() is not first:
                require_same(place.name, data, place.checksum)
                if first is not None:
                    _known[place.name, place.checksum] = weakref.ref(first)
        part = Part.of(data, place.row, place.sequence)
    each = batches.batches_of(part) if isinstance(batches, Batching) else batches
    return map(part.batch, each)


_known: dict[tuple[str, int | None], weakref.ref[np.ndarray]] = {}
"""First arrays of the partitions of this process whose checksums were compared: a value that was
computed again is another array."""


def _first_array(value: object) -> np.ndarray | None:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, np.ndarray) else None


def pick_group(
    value: object,
    place: Place,
    batches: list[Segments],
    number: int,
    transform: BatchTransform,
) -> list[tuple[int, Batch]]:
    """Task: the batches of one group, and its number; parameters as of `sum_group`."""
    return [(number, copied_batch(transform(batch))) for batch in _batches(value, place, batches)]


def joined(groups: list[list[tuple[int, Batch]]]) -> list[tuple[int, Batch]]:
    """Task: batches of all groups, on one worker."""
    return list(chain.from_iterable(groups))


def sum_kept(kept: list[tuple[int, Batch]], function: Callable[[Batch], Statistic]) -> Statistic:
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


def as_it_is(value: Result) -> Result:
    """Task that holds a value for other tasks."""
    return value
