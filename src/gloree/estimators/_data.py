"""First stages: the outputs, how the data are cut, the law of the inputs."""

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
from gloree._sums import Largest, Sums
from gloree.chains import GaussianVAR, LagMoments, NonStationaryChainError, lag_moments
from gloree.diagnostics import (
    CONDITION_LIMIT,
    ConditionWarning,
    OutlierWarning,
    ScoreWarning,
    check_covariance,
)
from gloree.engine import Source
from gloree.estimators._state import State
from gloree.moments import (
    Whitening,
    plan,
)
from gloree.score_functions import ScoreCheck, SymmetricWhitening, stein_statistic
from gloree.sequences import Array, Batch, IntArray, Sequences

SEGMENT = 250
"""Rows of a piece of a long sequence."""

WASHOUT = 50
"""Rows of context that warm up the state of a piece."""

OUTLIER_FACTOR = 1e4
"""Outputs beyond this many times their median size count as exploded."""

WILD_FACTOR = 8.0
"""Segments with outputs beyond this many times the median size (to the power of half the degree)
stay out of the moments: the fourth powers in them would leave room for nothing else. The
refinement sees them again."""

DEVICE_BATCH_ROWS = 2**18
"""Rows of a batch on an accelerator: each operation there costs a launch, whatever its size."""

HEAD_ROWS = 1000
"""Rows at the start of the data from which first guesses of location are taken."""

PEAKS = 20_000
"""Segments, evenly spread, whose largest outputs give the median and the quantiles of sizes."""

CHECK_ROWS, START_CHECK_ROWS = 60_000, 20_000
"""Steps on which Stein's identity is checked; fewer where the score is for a start at most."""

WILD_SHARE = 0.02
"""Share of the segments that is kept out at most: the largest ones."""

COVARIANCE_ROWS = 50
"""Rows for each input from which the covariance of very many inputs is taken, at least."""

COVARIANCE_WORK = 10**11
"""Rows times squared inputs up to which all rows are taken."""

SCALE_LIMIT = 30.0
"""Ratio of the standard deviations of two inputs from which a warning advises to scale them."""

WINDOW_RTOL = 1e-4
"""Lag windows are whitened along directions of at least this relative variance. Neighbouring
samples of a band-limited input are nearly collinear; along weaker directions the units would fit
noise, and windows that reach before the start of a record would be far outside their range."""


@dataclass(frozen=True)
class OutputSums(Sums):
    """First pass over the data: sums of outputs, and sizes of the largest one in a segment.

    `peaks` are those of every so many segments, to find a median from; `highest` is the one
    largest of all.
    """

    centre: Array = field(metadata={"setting": True})
    n_rows: float
    total: Array
    squares: Array
    highest: Largest = field(metadata={"nested": True})
    peaks: Array = field(metadata={"concatenate": True})


@dataclass(frozen=True)
class InputSums(Sums):
    """Mean and covariance of the (lag-window) inputs about a provisional centre."""

    n_rows: float
    centre: Array = field(metadata={"setting": True})
    total: Array
    products: Array


def output_sums(batch: Batch, centre: Array, every: int) -> OutputSums:
    """Map of the pass over the outputs, about a provisional centre; peaks of each `every`-th."""
    counted = take_rows(batch.targets, batch.counted) - like(batch.targets, centre)
    peaks = output_peaks(batch, centre)
    return OutputSums(
        centre,
        float(batch.n_counted),
        to_host(column_sums(counted)),
        to_host(column_squares(counted)),
        Largest.of(peaks, batch.table, 1),
        peaks[::every],
    )


def output_peaks(batch: Batch, centre: Array) -> Array:
    """Largest |y - centre| in each segment, its context included."""
    sizes = abs(batch.targets - like(batch.targets, centre))
    peaks: Array = to_host(stretch_maxima(sizes, batch.starts)).max(axis=1)
    return peaks


@dataclass(frozen=True)
class Beyond(Sums):
    """Tables of segments with outputs beyond a limit."""

    tables: IntArray = field(metadata={"concatenate": True})


def beyond(batch: Batch, centre: Array, limit: float) -> Beyond:
    """Map of a pass for segments with outputs beyond a limit."""
    return Beyond(batch.table[output_peaks(batch, centre) > limit])


def input_sums(batch: Batch, centre: Array) -> InputSums:
    """Map of the pass over the inputs."""
    values = take_rows(batch.X, batch.counted) - like(batch.X, centre)
    return InputSums(
        float(batch.n_counted), centre, to_host(column_sums(values)), to_host(values.T @ values)
    )


def read_outputs(state: State) -> None:
    """Cut the data, leave out what has exploded, and find mean and spread of the outputs."""
    settings = state.settings
    with state.stage("data") as detail:
        cut_source(state)
        sums = summarise_outputs(state)
        median = float(np.median(sums.peaks))
        if not np.all(np.isfinite(sums.squares)):
            raise ValueError(
                f"`Y` holds values so large that their squares overflow (the largest: "
                f"{sums.highest.values[0]:.3g}): bring the outputs to a scale near 1"
            )
        if median > 0 and sums.highest.values[0] > OUTLIER_FACTOR * median:
            leave_out(state, sums, median)
            sums = summarise_outputs(state)
            median = float(np.median(sums.peaks))
        find_wild(state, sums, median)
        if state.wild is not None:
            detail.append(f"{state.wild.shape[0]} wild segment(s) kept out of the moments")
        if sums.n_rows < 1:
            raise ValueError(
                f"no sequence has {settings.lags} steps, the length of one window: lower `lags`"
            )
        offset = sums.total / sums.n_rows
        variance = np.maximum(sums.squares / sums.n_rows - offset**2, 0.0)
        state.n_rows = int(sums.n_rows)
        state.output_mean = sums.centre + offset
        rounding = 1e-14 * np.abs(state.output_mean)
        if not np.any(np.sqrt(variance) > rounding):
            raise ValueError("`Y` is constant: there is nothing to fit")
        state.check_samples(settings.n_hidden or 1)
        state.report.output_std = np.sqrt(variance)
        detail.append(f"{state.n_rows:,} steps count")


def summarise_outputs(state: State) -> OutputSums:
    """Run the pass over the outputs."""
    centre = np.median(state.first_rows(HEAD_ROWS)[1], axis=0)
    every = max(1, state.source.n_segments // PEAKS)
    function = partial(output_sums, centre=centre, every=every)
    return state.settings.engine.run(function, state.source, label="outputs")


def cut_source(state: State) -> None:
    """Decide how the data are cut into batches."""
    settings = state.settings
    past, future = (1, 1) if settings.chain is None else settings.chain.context
    washout = WASHOUT if settings.recurrence is not None else 0
    ahead = washout + settings.lags - 1 if settings.bidirectional else 0
    batch_size, n_workers = settings.batch_size, settings.engine.n_workers
    if isinstance(state.data, Sequences) and on_accelerator(state.data.X):
        n_workers = 1
        if settings.memory_limit is None:
            batch_size = batch_size or DEVICE_BATCH_ROWS
    state.plan = plan(
        state.data.n_rows,
        state.n_inputs,
        state.plan_outputs or state.n_outputs,
        n_hidden=settings.n_hidden or 10,
        degree=settings.activation.degree,
        moment=settings.moment,
        score=settings.lags == 1,
        n_workers=n_workers,
        batch_size=batch_size,
        memory_limit=settings.memory_limit,
    )
    state.report.plan = str(state.plan)
    state.source = Source(
        state.data,
        batch_size=state.plan.batch_size,
        segment=SEGMENT if state.data.longest > 2 * SEGMENT else None,
        before=max(washout, past + 1) + settings.lags - 1,
        after=max(ahead, future),
        lags=settings.lags,
        both_ways=settings.bidirectional,
        encode=state.encode,
    )


def segments_beyond(state: State, sums: OutputSums, limit: float) -> IntArray:
    """Table of the segments with outputs beyond a limit: one more pass, if there are any."""
    if sums.highest.values[0] <= limit:
        return sums.highest.tables[:0]
    function = partial(beyond, centre=sums.centre, limit=limit)
    return state.settings.engine.run(function, state.source, label="sizes").tables


def leave_out(state: State, sums: OutputSums, median: float) -> None:
    """Leave out sequences whose outputs are beyond any scale, with a warning."""
    table = segments_beyond(state, sums, OUTLIER_FACTOR * median)
    bad, total = np.unique(table[:, 0]), state.data.n_sequences
    if bad.size == total or bad.size > 0.05 * total:
        raise ValueError(
            f"outputs of {bad.size} of {total} sequences exceed "
            f"{OUTLIER_FACTOR:.0e} times their median size {median:.3g} (the largest: "
            f"{sums.highest.values[0]:.3g}, first in sequence {bad[0]}): the system that made them "
            f"explodes, or their scale is broken. Leave such sequences or stretches out"
        )
    state.source = replace(state.source, left_out=bad)
    count = "1 sequence was" if bad.size == 1 else f"{bad.size} sequences were"
    state.report.warn(
        OutlierWarning,
        f"{count} left out of the fit: their outputs exceed "
        f"{OUTLIER_FACTOR:.0e} times the median size {median:.3g} (sequences "
        f"{', '.join(map(str, bad[:10]))}{', ..' if bad.size > 10 else ''})",
    )


def find_wild(state: State, sums: OutputSums, median: float) -> None:
    """Keep segments out of the moments that come close to an explosion."""
    if median <= 0 or sums.peaks.shape[0] * WILD_SHARE < 1:
        return
    factor = WILD_FACTOR ** (state.settings.activation.degree / 2)
    limit = max(factor * median, float(np.quantile(sums.peaks, 1.0 - WILD_SHARE)))
    table = segments_beyond(state, sums, limit)
    if table.shape[0]:
        state.wild = table[:, 2]


def read_inputs(state: State) -> Whitening:
    """Find the law of the inputs, centre them, and check the score on them."""
    settings = state.settings
    with state.stage("inputs") as detail:
        if settings.lags > 1 or state.is_wide:
            mean, covariance, condition = input_moments(state)
            mean = centre_inputs(state, mean, covariance)
            rtol = WINDOW_RTOL if settings.lags > 1 else 1e-12
            whitening = Whitening.from_covariance(mean, covariance, rtol=rtol)
            detail.append(
                f"windows of {settings.lags} steps" if settings.lags > 1 else "no law is fitted"
            )
        else:
            order = 1 if settings.chain is None else settings.chain.context[0]
            moments = settings.engine.run(
                partial(lag_moments, order=order), state.source, label="input law"
            )
            summary = moments.finalize()
            covariance = summary.covariance
            condition = check_covariance(covariance, summary.mean)
            mean = centre_inputs(state, summary.mean, covariance)
            whitening = Whitening.from_covariance(mean, covariance)
            state.fitted_chain = settings.chain
            if state.fitted_chain is None and state.data.longest > 1:
                state.fitted_chain = fit_chain(state, moments)
            if state.fitted_chain is not None:
                detail.append(type(state.fitted_chain).__name__)
                # The law of the inputs as the passes see them.
                state.chain = state.fitted_chain
                if state.source.centre is not None:
                    state.chain = state.fitted_chain.shifted(state.source.centre)
                check_score(state, mean, covariance)
        state.report.conditions["inputs"] = condition
        if condition > CONDITION_LIMIT and settings.lags == 1:
            state.report.warn(
                ConditionWarning,
                f"the inputs are nearly collinear (condition number {condition:.1e}): errors "
                f"along their weak directions are large; see the standard errors",
            )
        if settings.lags == 1:
            spread = np.sqrt(np.diag(covariance))
            if spread.max() > SCALE_LIMIT * spread.min():
                state.report.warn(
                    ConditionWarning,
                    f"the columns of `X` have standard deviations from {spread.min():.1e} to "
                    f"{spread.max():.1e}: bring them to similar units, or weights of the small "
                    f"ones will be found badly or not at all",
                )
    return whitening


def input_moments(state: State) -> tuple[Array, Array, float]:
    """Mean, covariance and condition of the (lag-window) inputs, from part of very many."""
    settings, n_inputs = state.settings, state.data.n_inputs
    centre = np.tile(state.first_rows(HEAD_ROWS)[0].mean(axis=0), state.n_inputs // n_inputs)
    rows = max(COVARIANCE_ROWS * state.n_inputs, COVARIANCE_WORK // state.n_inputs**2)
    sums = settings.engine.run(
        partial(input_sums, centre=centre),
        state.source,
        label="input covariance",
        tables=state.source.subset(rows) if rows < state.data.n_rows else None,
    )
    offset = sums.total / sums.n_rows
    covariance = sums.products / sums.n_rows - np.outer(offset, offset)
    if settings.lags > 1:
        check_covariance(covariance[:n_inputs, :n_inputs])
    condition = check_covariance(covariance, allow_singular=settings.lags > 1)
    return centre + offset, covariance, condition


def centre_inputs(state: State, mean: Array, covariance: Array) -> Array:
    """Subtract a material mean from the inputs; return what is left of it.

    With free biases the network on x - m is the network on x with b and c shifted, and states
    of z^l with a large mean would drown their own variation.
    """
    material = np.any(np.abs(mean) > 0.25 * np.sqrt(np.diag(covariance)))
    if not (material and state.settings.bias):
        return mean
    state.source = replace(state.source, centre=mean)
    return np.zeros_like(mean)


def fit_chain(state: State, moments: LagMoments) -> GaussianVAR | None:
    """Fit the Gaussian chain; None, with a warning, where there is no stationary one."""
    chain = GaussianVAR.from_moments(moments, require_stationary=False)
    if chain.is_stationary:
        return chain
    message = (
        f"the inputs wander or grow: their fitted chain has spectral radius "
        f"{chain.spectral_radius:.6g} and no stationary law"
    )
    settings = state.settings
    if settings.moment == "score" or settings.recurrence in ("cross", "score"):
        raise NonStationaryChainError(
            f"{message}, so there is no score. Difference or detrend the inputs, or use "
            f"moment='regression' and recurrence='instrument', which then do without one"
        )
    state.report.warn(
        ScoreWarning,
        f"{message}: the fit does without a score (`xreg` features and least squares for "
        f"U). Difference or detrend the inputs if they are not meant to wander",
    )
    return None


def check_score(state: State, mean: Array, covariance: Array) -> None:
    """Check Stein's identity on a subsample: is the Gaussian score right for these inputs."""
    assert state.chain is not None
    values = np.linalg.eigvalsh(covariance)
    if values[0] <= 1e-12 * values[-1]:
        return
    whitening = SymmetricWhitening.from_moments(mean, covariance, max_inputs=8)
    settings = state.settings
    asked = settings.moment == "score" or settings.recurrence in ("cross", "score")
    final = asked or settings.refine is None
    tables = state.source.subset(CHECK_ROWS if final else START_CHECK_ROWS)
    function = partial(stein_statistic, chain=state.chain, whitening=whitening, block=SEGMENT)
    sums = settings.engine.run(function, state.source, label="score", tables=tables)
    if np.count_nonzero(sums.counts) < 2:
        return
    check: ScoreCheck = sums.finalize(state.chain)
    state.report.score_check = check
    state.report.conditions["Stein defect"] = check.defect
