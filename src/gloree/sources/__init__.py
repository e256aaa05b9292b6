"""Where data may be kept, beside arrays in memory: files, any iterable, Dask workers.

Each function gives something that `fit` takes in place of X (and Y). Passes over the data then
read a part at a time, so memory is bounded by the parts, whatever their number.
"""

from gloree._mapped import SourceError
from gloree.sources._batches import Batches, batches
from gloree.sources._choice import as_data, is_source
from gloree.sources._clients import ask
from gloree.sources._files import memory_map
from gloree.sources._partitions import Future, Partitions, partitions
from gloree.sources._parts import (
    Parts,
    Summary,
    in_memory,
    part_failure,
    part_of_values,
    require_same,
)
from gloree.sources._shards import Shards, shards

__all__ = [
    "Batches",
    "Future",
    "Partitions",
    "Parts",
    "Shards",
    "SourceError",
    "Summary",
    "as_data",
    "ask",
    "batches",
    "in_memory",
    "is_source",
    "memory_map",
    "part_failure",
    "part_of_values",
    "partitions",
    "require_same",
    "shards",
]
