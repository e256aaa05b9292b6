"""Ragged sequences of inputs and outputs, cut into batches that never cross a boundary.

All data are flat rows, sequence after sequence, with the lengths beside them, in one part
(`Sequences`: in memory) or in many (`gloree.sources`). A pass over the data sees `Batch` objects:
a few whole sequences, or segments of long ones with rows of context around the rows that count.
Recurrences run in *time-major* order (`Packing`): step t of every segment that has one stands in
one contiguous block, so a step is one matrix product whatever the lengths are.
"""

from gloree._arrays import Array, IntArray
from gloree.sequences._batch import FAR, Batch, Packing
from gloree.sequences._cut import Cut, spread_over
from gloree.sequences._data import Data, Part, Readable, walk
from gloree.sequences._padded import is_padded, lengths_hint, unpadded
from gloree.sequences._segments import LargestSegments, Segments
from gloree.sequences._sequences import Form, Sequences
from gloree.sequences._validation import as_sequences
from gloree.sequences._windows import joint_windows, lag_windows, record_windows

__all__ = [
    "FAR",
    "Array",
    "Batch",
    "Cut",
    "Data",
    "Form",
    "IntArray",
    "LargestSegments",
    "Packing",
    "Part",
    "Readable",
    "Segments",
    "Sequences",
    "as_sequences",
    "is_padded",
    "joint_windows",
    "lag_windows",
    "lengths_hint",
    "record_windows",
    "spread_over",
    "unpadded",
    "walk",
]
