"""How records are cut: segments that train, segments that are held out, and their warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gloree.engine import Source, Subset
from gloree.sequences import Segments, Sequences

FIRST_ROWS = 30_000
"""Training rows on which starts are made and the refinement begins."""

LARGEST_MODULUS = 0.9999
"""Modulus of the poles of the linear states, at most."""

HELD_OUT = 0.2
"""Share of the data, at its end, on which orders, starts and the refinement are compared."""

SEGMENT = 250
"""Rows of a segment of a long record."""

REMEMBERED = 0.02
"""What the refinement may leave of a state after the warm-up: slower poles would fit the unknown
states at the starts of the segments."""

LEAST_GAIN = 4.0
"""A larger model is taken if its held-out error, over that of the smaller one, is below
1 - LEAST_GAIN / sqrt(n), n the rows held out: a few hundred neighbouring samples are a weak test,
and what they chose was worse than the linear model on new data."""


@dataclass(frozen=True)
class RecordSplit:
    """Segments that train, and segments that are held out.

    `radius` bounds the poles of the linear states: what they forget within the warm-up.
    """

    source: Source
    training: Subset
    held_out: Subset
    radius: float

    @property
    def error_ratio(self) -> float:
        """Ratio of held-out errors below which a larger model is taken."""
        return 1.0 - LEAST_GAIN / math.sqrt(self.held_out.n_counted)

    def first_training(self, n_rows: int) -> Subset:
        """First so many training rows."""
        segments = self.training.segments
        rows = np.cumsum(segments.counted)
        return _in_two_batches(self.source, segments[: int(np.searchsorted(rows, n_rows)) + 1])


def split_records(
    records: Sequences, warm_up: int, modulus: float = LARGEST_MODULUS
) -> RecordSplit:
    """Cut records into segments that are warmed up for so many steps, and hold some out.

    The first steps of every record, at most a tenth of it, only warm up the states. A pole as slow
    as `modulus` is allowed whatever the warm-up.
    """
    longest = int(records.lengths.max())
    whole = longest < 20 * SEGMENT or warm_up > 4 * SEGMENT
    source = Source(
        records,
        batch_size=max(2**12, records.n_rows // 2),
        segment=None if whole else max(SEGMENT, 2 * warm_up),
        before=warm_up,
    )
    segments = source.as_subset().segments
    starts = records.starts[segments.sequence]
    lead = np.minimum(warm_up, records.lengths[segments.sequence] // 10)
    segments = segments.counted_from(starts + lead)
    if len(segments) < 5:
        segments = segments.split_counted(5)
    rows = np.cumsum(segments.counted)
    last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, len(segments) - 1)
    radius = LARGEST_MODULUS
    if not whole:
        forgetful = math.exp(math.log(REMEMBERED) / warm_up)
        radius = min(max(modulus, forgetful), LARGEST_MODULUS)
    return RecordSplit(
        source,
        _in_two_batches(source, segments[:last]),
        _in_two_batches(source, segments[last:]),
        radius,
    )


def _in_two_batches(source: Source, segments: Segments) -> Subset:
    """One batch for each of two workers: a step of a pass is a call over all segments."""
    return Subset(source, segments.split_evenly(2))
