"""First stage: how the data are cut, which segments stand apart, mean and spread of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._arrays import (
    column_squares,
    column_sums,
    like,
    on_accelerator,
    stretch_maxima,
    take_rows,
    to_host,
)
from gloree._cores import n_cores
from gloree._sums import Sums
from gloree.diagnostics import Finding, OutlierWarning, check_size
from gloree.engine import Source, Subset
from gloree.fitting._output_units import VARIES, OutputUnits, units_of_outputs
from gloree.fitting._problem import FitProblem
from gloree.moments import MomentPlan, plan
from gloree.sequences import Array, Batch, Data, IntArray, LargestSegments, Segments, Sequences

SEGMENT = 250
"""Rows of a piece of a long sequence."""

WASHOUT = 50
"""Rows of context that warm up the state of a piece."""

OUTLIER_FACTOR = 1e4
"""Outputs beyond this many times their median size count as exploded."""

APART_FACTOR = 8.0
"""Segments with outputs beyond this many times the median size (to the power of half the degree)
stay out of the moments: the fourth powers in them would leave room for nothing else. The
refinement sees them again."""

APART_SHARE, FEWEST_SEGMENTS = 0.02, 10
"""Share of the segments that is kept out at most: the largest ones; one of so many or more."""

LEFT_OUT_SHARE = 0.05
"""Share of the sequences that may have exploded."""

DEVICE_BATCH_ROWS = 2**18
"""Rows of a batch on an accelerator: each operation there costs a launch, whatever its size."""

HEAD_ROWS = 1000
"""Rows at the start of the data from which first guesses of location are taken."""

HEAD_KEPT = 10_000
"""Rows at the start of a source that its scan keeps."""

TWO_WAY_BYTES = 2**25
"""Sensitivities of two chains that a worker holds at a time."""

ROW_SENSITIVITIES, CLUSTER_HESSIANS = 2**24, 2**25
"""Bytes of what standard errors are made of: a batch's sensitivities, and J^T J of every piece."""

READOUT_ROWS = 2**18
"""Rows that a readout of labels is fitted to, at most."""

PEAKS = 20_000
"""Segments, evenly spread, whose largest outputs give the median and the quantiles of sizes."""


@dataclass(frozen=True)
class OutputSums(Sums):
    """First pass over the data: sums of outputs, and sizes of the largest one in a segment.

    `peaks` are those of every so many segments, to find a median from; `highest` is the one
    largest of all; both in units of `scale`.
    """

    centre: Array = field(metadata={"setting": True})
    scale: Array = field(metadata={"setting": True})
    n_rows: float
    total: Array
    squares: Array
    highest: LargestSegments = field(metadata={"nested": True})
    peaks: Array = field(metadata={"concatenate": True})

    @property
    def largest(self) -> float:
        """Largest |y - centre| / scale."""
        return float(self.highest.values[0])

    @property
    def median(self) -> float:
        """Median of the largest |y - centre| / scale of a segment."""
        return float(np.median(self.peaks))


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by its size
def output_sums(batch: Batch, centre: Array, scale: Array, every: int) -> OutputSums:
    """Map of the pass over the outputs, about a provisional centre; peaks of each `every`-th."""
    counted = take_rows(batch.targets, batch.counted) - like(batch.targets, centre)
    peaks = output_peaks(batch, centre, scale)
    sums = (to_host(column_sums(counted)), to_host(column_squares(counted)))
    largest = LargestSegments.of(peaks, batch.segments, 1)
    return OutputSums(centre, scale, float(batch.n_counted), *sums, largest, peaks[::every])


def output_peaks(batch: Batch, centre: Array, scale: Array) -> Array:
    """Largest |y - centre| / scale in each segment, its context included."""
    sizes = abs(batch.targets - like(batch.targets, centre)) / like(batch.targets, scale)
    return np.asarray(to_host(stretch_maxima(sizes, batch.starts)).max(axis=1))


def segments_beyond(batch: Batch, centre: Array, scale: Array, limit: float) -> Segments:
    """Map of a pass for segments with outputs beyond a limit."""
    return batch.segments[output_peaks(batch, centre, scale) > limit]


@dataclass(frozen=True)
class OutputSummary:
    """What is known once the outputs have been seen.

    `source` holds the data as they are cut, without sequences that have exploded; `n_rows` counts
    its steps. `outliers` are the first counted rows of segments that stay out of the moments.
    `mean` and `std` are those of the outputs as passes see them, in `units` if there are any.
    """

    source: Source
    plan: MomentPlan
    n_rows: int
    mean: Array
    std: Array
    outliers: IntArray | None
    findings: tuple[Finding, ...] = ()
    units: OutputUnits | None = None

    @property
    def given_mean(self) -> Array:
        """Mean of the outputs as given."""
        return self.mean if self.units is None else self.units.given(self.mean)

    @property
    def given_std(self) -> Array:
        """Standard deviations of the outputs as given; they are not mixed here."""
        return self.std if self.units is None else self.units.scale * self.std

    @property
    def detail(self) -> str:
        """Outcome in words."""
        rows = f"{self.n_rows:,} steps count"
        if self.outliers is None:
            return rows
        return f"{self.outliers.shape[0]} outlying segment(s) kept out of the moments; {rows}"


def summarise_outputs(problem: FitProblem) -> OutputSummary:
    """Cut the data, leave out what has exploded, and find mean and spread of the outputs."""
    settings = problem.settings
    planned = plan_moment(problem)
    source = cut_data(problem, planned)
    findings: tuple[Finding, ...] = ()
    sums = sum_outputs(problem, source)
    check_size("Y", sums.squares / max(sums.n_rows, 1.0))
    if sums.median > 0 and sums.largest > OUTLIER_FACTOR * sums.median:
        unit = unit_of_largest(problem, source, sums)
        exploded = exploded_sequences(problem, source, sums, unit)
        findings = (exploded_finding(exploded, unit * sums.median),)
        source = replace(source, left_out=exploded)
        sums = sum_outputs(problem, source)
    outliers = find_outliers(problem, source, sums)
    if sums.n_rows < 1:
        raise ValueError(
            f"no sequence has {settings.lags} steps, the length of one window: lower `lags`"
        )
    offset = sums.total / sums.n_rows
    variance = np.maximum(sums.squares / sums.n_rows - offset**2, 0.0)
    n_rows, mean, std = int(sums.n_rows), sums.centre + offset, np.sqrt(variance)
    if not np.any(std > 1e-14 * np.abs(mean)):
        raise ValueError("`Y` is constant: there is nothing to fit")
    check_size("Y", variance[std > 1e-14 * np.abs(mean)], small=False)
    problem.check_samples(n_rows, settings.n_hidden or 1)
    units = output_units(problem, mean, std)
    if units is not None:
        source, mean, std = replace(source, encode=units), units(mean), std / units.scale
    return OutputSummary(source, planned, n_rows, mean, std, outliers, findings, units)


def output_units(problem: FitProblem, mean: Array, std: Array) -> OutputUnits | None:
    """Units of the outputs up to the refinement: spreads, or what weights of theirs ask for."""
    given = problem.settings.output_weights
    if not problem.weighs:
        return None
    if isinstance(given, str):
        return units_of_outputs(std, mean)
    return OutputUnits(1.0 / np.sqrt(given if given.ndim == 1 else np.diag(given)))


def usual_variance(problem: FitProblem) -> Array:
    """Variance of each output in the first rows, (n_outputs,), with a hundredth of them clipped.

    A single value of extreme size would make all that is left of the others look like rounding.
    """
    Y = problem.first_rows(HEAD_ROWS)[1]
    low, high = np.quantile(Y, (0.01, 0.99), axis=0)
    return np.asarray(np.clip(Y, low, high).var(axis=0))


@dataclass(frozen=True)
class OutputRows(Sums):
    """Rows of numbers for each output, (n, n_outputs), of few batches."""

    rows: Array = field(metadata={"concatenate": True})


def counted_outputs(batch: Batch) -> OutputRows:
    """Map of a pass that gathers the outputs of some rows."""
    rows = to_host(take_rows(batch.targets, batch.counted))
    return OutputRows(np.asarray(rows, dtype=np.float64))


def plan_moment(problem: FitProblem, n_labels: int | None = None) -> MomentPlan:
    """Features, rows and memory of the first moment, from shapes alone.

    `n_labels` are the outputs that labels will become, before they have.
    """
    settings = problem.settings
    n_outputs = problem.n_outputs if n_labels is None else n_labels
    labels = n_labels is not None or problem.encode is not None
    batch_size, n_workers = settings.batch_size, problem.engine.n_workers
    if isinstance(problem.data, Sequences) and on_accelerator(problem.data.X):
        n_workers = 1
        if settings.memory_limit is None:
            batch_size = batch_size or DEVICE_BATCH_ROWS
    if problem.engine.name == "serial":
        n_workers = 1
    return plan(
        problem.data.n_rows,
        problem.n_inputs,
        n_outputs,
        n_hidden=settings.n_hidden or 10,
        degree=2 if settings.all_orders else settings.polynomial.degree,
        moment="regression" if settings.all_orders else settings.moment,
        score=settings.lags == 1,
        n_workers=n_workers,
        batch_size=batch_size,
        memory_limit=settings.memory_limit,
        n_segments=number_of_segments(problem.data),
        beside=bytes_beside(problem, n_outputs, n_workers or n_cores(), labels=labels),
    )


def number_of_segments(data: Data) -> int:
    """Sequences, or pieces of long ones."""
    if data.longest <= 2 * SEGMENT:
        return data.n_sequences
    return sum(
        int(np.sum(-(-lengths.astype(np.int64) // SEGMENT))) for lengths in data.part_lengths
    )


def bytes_beside(problem: FitProblem, n_outputs: int, n_workers: int, *, labels: bool) -> int:
    """Memory beside batches and sums: parts of the data, both directions, a readout of labels."""
    data, settings = problem.data, problem.settings
    columns = data.n_inputs + data.n_outputs
    total = 0
    if not isinstance(data, Sequences):
        # those that the workers hold, the one that is read, and as many bytes that it is made of
        largest = int(np.diff(data.part_rows).max())
        total += 8 * columns * ((n_workers + 4) * largest + 2 * HEAD_KEPT)
    if settings.solver is not None and not labels:
        weights = problem.layout(settings.n_hidden or 10).size
        total += min(ROW_SENSITIVITIES, 8 * weights * data.n_rows) * n_workers
        total += 2 * min(CLUSTER_HESSIANS, 8 * 1000 * weights**2)
    if settings.bidirectional:
        total += TWO_WAY_BYTES * n_workers
    if labels and settings.n_hidden is not None:
        rows = min(READOUT_ROWS, data.n_rows)
        total += rows * (12 * (settings.n_hidden + problem.n_inputs) + 40 * (n_outputs + 1))
    return total


def cut_data(problem: FitProblem, planned: MomentPlan) -> Source:
    """Decide how the data are cut into batches."""
    settings, data = problem.settings, problem.data
    past = 1 if settings.law is None else settings.law.context[0]
    washout = WASHOUT if settings.recurrence is not None else 0
    ahead = washout + settings.lags - 1 if settings.bidirectional else 0
    source = Source(
        data,
        batch_size=planned.batch_size,
        segment=SEGMENT if data.longest > 2 * SEGMENT else None,
        before=max(washout, past + 1) + settings.lags - 1,
        after=max(ahead, past),
        lags=settings.lags,
        both_ways=settings.bidirectional,
        encode=problem.encode,
    )
    if settings.memory_limit is None:
        return source
    return replace(source, most_kept=planned.row_bytes // 8)


def sum_outputs(problem: FitProblem, source: Source) -> OutputSums:
    """Run the pass over the outputs."""
    centre = np.median(problem.first_rows(HEAD_ROWS)[1], axis=0)
    scale = usual_sizes(problem, source, centre) if problem.weighs else np.ones(centre.shape)
    every = max(1, source.n_segments // PEAKS)
    function = partial(output_sums, centre=centre, scale=scale, every=every)
    return problem.engine.run(function, source, label="outputs")


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by its size
def usual_sizes(problem: FitProblem, source: Source, centre: Array) -> Array:
    """Usual spread of each output, from rows all over the data.

    An output that is constant there is measured by the largest of the others.
    """
    some = source.subset(HEAD_ROWS)
    rows = problem.engine.run(counted_outputs, some, label="sizes of outputs").rows
    if not rows.size:
        return np.ones(centre.shape)
    few, low, high, most = np.quantile(rows, (0.01, 0.25, 0.75, 0.99), axis=0)
    constant = VARIES * np.abs(centre)
    # outputs that are mostly at rest are measured by what they do otherwise
    spread = np.where(high - low > constant, high - low, most - few)
    spread = np.where(spread > constant, spread, spread.max())
    return np.asarray(np.where(np.isfinite(spread) & (spread > 0), spread, 1.0))


def find_segments(problem: FitProblem, source: Source, sums: OutputSums, limit: float) -> Segments:
    """Segments with outputs beyond a limit: one more pass, if there are any."""
    if sums.largest <= limit:
        return sums.highest.segments[:0]
    function = partial(segments_beyond, centre=sums.centre, scale=sums.scale, limit=limit)
    return problem.engine.run(function, source, label="sizes")


def unit_of_largest(problem: FitProblem, source: Source, sums: OutputSums) -> float:
    """Scale of the output that the largest value of all belongs to, to name sizes as given."""
    if (sums.scale == sums.scale[0]).all():
        return float(sums.scale[0])
    where = Subset(source, [sums.highest.segments])
    function = partial(output_sizes, centre=sums.centre, scale=sums.scale)
    found = problem.engine.run(function, where, label="largest output").rows
    return float(sums.scale[np.argmax(np.max(found, axis=0))])


def output_sizes(batch: Batch, centre: Array, scale: Array) -> OutputRows:
    """Largest |y - centre| / scale of each output."""
    sizes = abs(batch.targets - like(batch.targets, centre)) / like(batch.targets, scale)
    return OutputRows(np.max(to_host(sizes), axis=0)[None])


def exploded_sequences(
    problem: FitProblem, source: Source, sums: OutputSums, unit: float
) -> IntArray:
    """Sequences whose outputs are beyond any scale; an error if there are many of them."""
    found = find_segments(problem, source, sums, OUTLIER_FACTOR * sums.median)
    bad, total = np.unique(found.sequence), problem.data.n_sequences
    if bad.size == total or bad.size > LEFT_OUT_SHARE * total:
        raise ValueError(
            f"outputs of {bad.size} of {total} sequences exceed "
            f"{OUTLIER_FACTOR:.0e} times their median size {unit * sums.median:.3g} (the "
            f"largest: {unit * sums.largest:.3g}, first in sequence {bad[0]}): the system that "
            f"made them explodes, or their scale is broken. Leave such sequences or stretches out "
            f"of `X` and `Y`"
        )
    return bad


def exploded_finding(exploded: IntArray, median: float) -> Finding:
    """Say which sequences are left out."""
    count = "1 sequence was" if exploded.size == 1 else f"{exploded.size} sequences were"
    return Finding(
        OutlierWarning,
        f"{count} left out of the fit: their outputs exceed "
        f"{OUTLIER_FACTOR:.0e} times the median size {median:.3g} (sequences "
        f"{', '.join(map(str, exploded[:10]))}{', ..' if exploded.size > 10 else ''})",
    )


def find_outliers(problem: FitProblem, source: Source, sums: OutputSums) -> IntArray | None:
    """First counted rows of segments that come close to an explosion, if there are any."""
    if sums.median <= 0 or sums.peaks.shape[0] < FEWEST_SEGMENTS:
        return None
    factor = APART_FACTOR ** ((problem.settings.activation.degree or 2) / 2)
    limit = max(factor * sums.median, float(np.quantile(sums.peaks, 1.0 - APART_SHARE)))
    found = find_segments(problem, source, sums, limit)
    return found.start if len(found) else None
