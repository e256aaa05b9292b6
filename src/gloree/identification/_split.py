"""Which rows train, which are held out, and how records are cut into segments for passes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gloree.engine import Source, Subset
from gloree.identification._starts import Starts
from gloree.sequences import Array, Segments, Sequences

BoolArray = NDArray[np.bool_]

FIRST_ROWS = 30_000  # training rows on which starts are made and the refinement begins
LARGEST_MODULUS = 0.9999  # modulus of the poles of the linear states, at most

HELD_OUT = 0.2  # share of the rows on which orders, starts and networks are compared
MOST_BLOCKS = 4  # blocks of a record that are held out, at most
LEAST_BLOCK = 20  # rows of a block, at least; records of fewer than five blocks are held out whole
CORRELATED = 0.1
"""A block is ten times as long as the autocorrelation of the outputs needs to fall to this."""

ONE_BATCH = 2**14  # rows, warm-ups included, up to which there is one batch
SEGMENT = 250  # rows of a segment of a long record
FEWEST_MEMORIES = 6  # records of no more than so many warm-ups run whole in quick passes too
REMEMBERED = 0.02
"""Share of a state that refined poles may keep over a warm-up: slower ones would fit the unknown
states at the starts of the segments."""


def hold_out(records: Sequences, counted: BoolArray) -> BoolArray:
    """Rows that are held out: blocks spread over all records, long against their correlation.

    Every record has one block at least, each somewhere in its own part of the record (by a sequence
    of low discrepancy, so that no period of the input is met). Of records too short for that every
    fifth is held out whole. Free runs go through the rows around a block, so that its state is that
    of the model.
    """
    chosen = np.zeros(records.n_rows, dtype=bool)
    block = max(LEAST_BLOCK, 10 * correlation_length(records, counted))
    bounds = list(zip(records.starts[:-1].tolist(), records.starts[1:].tolist(), strict=True))
    short = [b for b in bounds if b[1] - b[0] < LEAST_BLOCK / HELD_OUT]
    if len(short) >= 5:
        for begin, end in short[2::5]:
            chosen[begin:end] = True
        bounds = [b for b in bounds if b[1] - b[0] >= LEAST_BLOCK / HELD_OUT]
    place = 0
    for begin, end in bounds:
        rows = HELD_OUT * (end - begin)
        n_blocks = int(min(MOST_BLOCKS, max(1, rows // block)))
        for part in range(n_blocks):
            first = begin + (end - begin) * part // n_blocks
            size = (end - begin) / n_blocks
            place += 1
            # the golden section: between a tenth and all of the room in the part
            at = first + (0.1 + 0.9 * (place * 0.6180339887498949 % 1.0)) * (1 - HELD_OUT) * size
            chosen[int(at) : int(at + HELD_OUT * size)] = True
    if not (chosen & counted).any() or not (~chosen & counted).any():
        known = np.flatnonzero(counted)
        chosen[:] = False
        chosen[known[int((1 - HELD_OUT) * known.size) :]] = True
    return chosen


def correlation_length(records: Sequences, counted: BoolArray) -> int:
    """Steps after which the autocorrelation of the slowest output stays below `CORRELATED`."""
    longest = int(np.argmax(records.lengths))
    begin, end = int(records.starts[longest]), int(records.starts[longest + 1])
    end = min(end, begin + FIRST_ROWS)
    assert records.Y is not None
    y = np.asarray(records.Y[begin:end], dtype=np.float64)
    return max(last_correlated(y[:, a], counted[begin:end]) for a in range(y.shape[1]))


def last_correlated(values: Array, counted: BoolArray, level: float = CORRELATED) -> int:
    """First lag at which the autocorrelation of values is below a level."""
    rho = autocorrelation(values, counted)
    below = np.flatnonzero(rho < level)
    return int(below[0]) if below.size else rho.shape[0]


def autocorrelation(values: Array, counted: BoolArray) -> Array:
    """Autocorrelation at lags 0 to n / 2; rows that do not count are left out."""
    n = values.shape[0]
    centred = np.where(counted, values - values[counted].mean(), 0.0) if counted.any() else values
    size = 2 ** math.ceil(math.log2(max(2 * n, 2)))
    spectrum, seen = np.fft.rfft(centred, size), np.fft.rfft(counted.astype(np.float64), size)
    sums = np.fft.irfft(np.abs(spectrum) ** 2, size)[: max(n // 2, 1)]
    pairs = np.fft.irfft(np.abs(seen) ** 2, size)[: max(n // 2, 1)]
    means = sums / np.maximum(pairs, 1.0)
    return np.asarray(means / max(float(means[0]), 1e-300))


def independent_samples(values: Array, counted: BoolArray) -> float:
    """Effective number of samples of a mean: n / (1 + 2 sum of autocorrelations while positive)."""
    n = int(counted.sum())
    if n < 2:
        return float(n)
    rho = autocorrelation(values, counted)[1:]
    ends = np.flatnonzero(rho <= 0.0)
    total = 1.0 + 2.0 * float(rho[: ends[0] if ends.size else None].sum())
    return float(min(n, max(1.0, n / max(total, 1e-9))))


@dataclass(frozen=True)
class RecordSplit:
    """Passes over rows that train, rows that are held out, and all; the bound on poles' moduli.

    All three run over the same segments, and count other rows. The records of `source` have the
    columns of `starts` beside their inputs. Linear states with poles within `radius` have forgotten
    their start after the warm-up of a segment within a record.
    """

    source: Source
    training: Subset
    held_out: Subset
    everything: Subset
    starts: Starts
    radius: float

    def counting(self, rows: BoolArray) -> Subset:
        """Passes over those of all rows that are among these."""
        counted = self.everything.source.counting
        assert counted is not None
        return _counting(self.source, counted & rows)

    def first_training(self, n_rows: int) -> Subset:
        """Training segments up to the one that contains training row number `n_rows`."""
        counting = self.training.source.counting
        assert counting is not None
        segments = self.training.segments
        before = np.concatenate(([0], np.cumsum(counting)))
        rows = np.cumsum(before[segments.stop] - before[segments.start])
        chosen = segments[: int(np.searchsorted(rows, n_rows)) + 1]
        return _in_batches(self.training.source, chosen)


def split_records(
    records: Sequences,
    warm_up: int,
    modulus: float = LARGEST_MODULUS,
    counted: BoolArray | None = None,
    held_out: BoolArray | None = None,
    *,
    quick: bool = False,
) -> RecordSplit:
    """Cut records into segments, each with so many steps of warm-up.

    Short records, and those that are short against the warm-up, run whole from their starts. Where
    records have no start of their own (see `Starts`) the first steps, at most a tenth of each,
    only warm up the states. A pole as slow as `modulus` is allowed however short the warm-up is.
    With `quick`, short records are cut as well: segments side by side take a fraction of the time.
    """
    counted = np.ones(records.n_rows, dtype=bool) if counted is None else counted
    held_out = hold_out(records, counted) if held_out is None else held_out
    longest = int(records.lengths.max())
    if quick:
        whole = longest <= FEWEST_MEMORIES * warm_up
        segment = max(SEGMENT // 2, 2 * warm_up)
    else:
        whole = longest < 20 * SEGMENT or warm_up > 4 * SEGMENT
        segment = max(SEGMENT, 2 * warm_up)
    starts = Starts.of(records)
    source = Source(
        starts.with_columns(records),
        batch_size=max(2**12, records.n_rows // 2),
        segment=None if whole else segment,
        before=warm_up,
    )
    if not starts.own:
        counted = counted & ~_first_rows(records, warm_up)
    radius = LARGEST_MODULUS
    if not whole:
        forgetful = math.exp(math.log(REMEMBERED) / warm_up)
        radius = min(max(modulus, forgetful), LARGEST_MODULUS)
    training, outside, everything = (
        _counting(source, rows) for rows in (counted & ~held_out, counted & held_out, counted)
    )
    return RecordSplit(source, training, outside, everything, starts, radius)


def _first_rows(records: Sequences, warm_up: int) -> BoolArray:
    steps = np.arange(records.n_rows) - np.repeat(records.starts[:-1], records.lengths)
    lead = np.repeat(np.minimum(warm_up, records.lengths // 10), records.lengths)
    return np.asarray(steps < lead)


def _counting(source: Source, rows: BoolArray) -> Subset:
    """The segments of a source with any of some rows, which alone count."""
    segments = source.as_subset().segments
    before = np.concatenate(([0], np.cumsum(rows)))
    some = before[segments.stop] > before[segments.start]
    return _in_batches(replace(source, counting=rows), segments[some])


def _in_batches(source: Source, segments: Segments) -> Subset:
    """One batch for each of two workers; a batch runs all its segments side by side.

    Of few rows one batch: what a step costs is the calls around it, however many segments it has.
    """
    n_rows = int(np.sum(segments.context_stop - segments.context_start))
    return Subset(source, segments.split_evenly(1 if n_rows < ONE_BATCH else 2))
