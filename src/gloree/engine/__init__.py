"""One way to run a pass: map a pure function over batches of the data and merge the results.

A *pass function* takes a `Batch` and returns a mergeable statistic: an object with
``merge(other)``. Batches are merged strictly in the order of the data, group by group, whatever
finishes first and wherever it runs, so every engine gives bit-equal results for the same batches.
"""

from gloree._sums import Sums
from gloree.engine._batching import BatchTransform
from gloree.engine._checkpoint import Checkpoint, CheckpointError
from gloree.engine._choice import get_engine
from gloree.engine._dask import DaskEngine
from gloree.engine._engine import Clock, Engine, EngineName, Mergeable
from gloree.engine._failure import PassFailure
from gloree.engine._source import Selection, Source, Subset
from gloree.engine._splits import every_nth, halves, split_after

__all__ = [
    "BatchTransform",
    "Checkpoint",
    "CheckpointError",
    "Clock",
    "DaskEngine",
    "Engine",
    "EngineName",
    "Mergeable",
    "PassFailure",
    "Selection",
    "Source",
    "Subset",
    "Sums",
    "every_nth",
    "get_engine",
    "halves",
    "split_after",
]
