"""How records are cut: segments that train, segments that are held out, and their warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gloree.engine import Source, Subset
from gloree.sequences import Segments, Sequences

FIRST_ROWS = 30_000  # training rows on which starts are made and the refinement begins
LARGEST_MODULUS = 0.9999  # modulus of the poles of the linear states, at most
HELD_OUT = 0.2
"""Share of the data, at its end, on which orders, starts and the refinement are compared."""

SEGMENT = 250  # rows of a segment of a long record
REMEMBERED = 0.02
"""Share of a state that refined poles may keep over a warm-up: slower ones would fit the unknown
states at the starts of the segments."""

LEAST_GAIN = 4.0
"""A larger model is taken if its held-out error, divided by that of the smaller one, is below
1 - LEAST_GAIN / sqrt(n) for n rows held out: a few hundred neighbouring samples are a weak test,
and networks chosen by them without a margin were worse than the linear model on new data."""


@dataclass(frozen=True)
class RecordSplit:
    """Segments that train, segments that are held out, and the bound on the poles' modulus.

    Linear states with poles within `radius` have forgotten their start after the warm-up.
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
        """Training segments up to the one that contains row number `n_rows`."""
        segments = self.training.segments
        rows = np.cumsum(segments.counted)
        return _in_two_batches(self.source, segments[: int(np.searchsorted(rows, n_rows)) + 1])


def split_records(
    records: Sequences, warm_up: int, modulus: float = LARGEST_MODULUS
) -> RecordSplit:
    """Cut records into segments, each with so many steps of warm-up, and hold the last ones out.

    The first steps of every record, at most a tenth of it, only warm up the states. A pole as slow
    as `modulus` is allowed however short the warm-up is.
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
    lead = np.minimum(warm_up, records.lengths[segments.sequence] // 10)
    segments = segments.counted_from(records.starts[segments.sequence] + lead)
    if len(segments) < 5:
        segments = segments.split_counted(5)
    rows = np.cumsum(segments.counted)
    last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, len(segments) - 1)
    radius = LARGEST_MODULUS
    if not whole:
        forgetful = math.exp(math.log(REMEMBERED) / warm_up)
        radius = min(max(modulus, forgetful), LARGEST_MODULUS)
    training, held_out = (_in_two_batches(source, s) for s in (segments[:last], segments[last:]))
    return RecordSplit(source, training, held_out, radius)


def _in_two_batches(source: Source, segments: Segments) -> Subset:
    """One batch for each of two workers; a batch runs all its segments side by side."""
    return Subset(source, segments.split_evenly(2))
