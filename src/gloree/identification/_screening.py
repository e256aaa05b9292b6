"""Bad samples: gaps, spikes and trends of the outputs, found before anything is fitted.

Spikes and trends show in what a coarse linear response leaves of the outputs,

    r_t = y_t - c - sum_k a_k^T ubar_{t,k},

with ubar_{t,k} the mean of u over lags 0, 1, 2, 3..4, 5..8, 9..16, ..: a few columns that reach far
back. A *spike* is a row whose r_t is far from the median of its neighbourhood, beyond a gap in the
distribution of such distances (heavy tails have none), where the input did nothing unusual, and
which does not decay from a start far off the rest of the record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import stats

from gloree._brief import Brief
from gloree.diagnostics import Finding, GloreeWarning, OutlierWarning, check_size
from gloree.sequences import Array, IntArray, Sequences

Detrend = Literal["constant", "linear"] | None
BoolArray = NDArray[np.bool_]

NEIGHBOURS = 7  # rows whose median stands for what a row should be near
FAR, GAP = 12.0, 2.0
"""A row is a spike if its distance is FAR robust standard deviations at least, and GAP times that
of the farthest row that is none."""

SEEN = 4.0  # robust standard deviations by which a spike is seen in the output itself
MOST = 0.03  # share of the rows that may be spikes
UNUSUAL = 8.0  # an input that moves by so many robust deviations excuses what follows
EXCUSED = 10  # rows that a move of the input, or the start of a record, excuses
SEVERAL = 3  # spikes among the first of these rows that are no spikes, but one response
EXTREMES = (0.0015, 0.9985)  # quantiles beyond which an input excuses the next few rows
ROUNDS = 5  # of fitting without spikes and seeking them

LONGEST_WINDOW = 1024  # lags, at most, that a window of the coarse response ends at
TREND_CHANCE = 1e-4  # of naming a trend in all outputs and records that have none, by Student's t
TREND_SIZE = 3.0  # and standard deviations of what is left around it that it spans
NAMED = 10  # rows that a message lists


@dataclass(frozen=True)
class Screened(Brief):
    """Records with finite outputs, and the rows that count.

    `counted`, (n_rows,), is False where an output is missing, and at `spikes`. The coarse response
    and its residual from before and after bridge such rows, for programs that need a number.
    """

    data: Sequences
    counted: BoolArray
    n_missing: int = 0
    spikes: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    findings: tuple[Finding, ...] = ()

    @classmethod
    def unseen(cls, data: Sequences) -> Screened:
        """Records of which every row counts."""
        return cls(data, np.ones(data.n_rows, dtype=bool))

    @property
    def known(self) -> Sequences:
        """The records with NaN for the outputs that do not count."""
        assert self.data.Y is not None
        Y = np.where(self.counted[:, None], np.asarray(self.data.Y, np.float64), np.nan)
        return replace(self.data, Y=Y)


def screen_records(data: Sequences, detrend: str | None = None) -> Screened:
    """Find gaps (NaN), spikes and trends of the outputs; take out trends if that is asked for.

    Raises a ValueError where `detrend` is none of None, "constant" and "linear".
    """
    check_detrend(detrend)
    assert data.Y is not None
    u, y = (np.array(values, dtype=np.float64) for values in (data.X, data.Y))
    missing: BoolArray = np.asarray(np.isnan(y).any(axis=1))
    check_largest("u", u)
    bounds = [slice(int(a), int(b)) for a, b in zip(data.starts[:-1], data.starts[1:], strict=True)]
    for number, rows in enumerate(bounds):
        _check_outputs(u[rows], y[rows], number, len(bounds))
        y[rows] = _filled(y[rows])
    counted: BoolArray = np.asarray(~missing)
    spikes = find_spikes(u, y, bounds, counted)
    counted[spikes] = False
    findings = _spike_findings(spikes, data)
    if not counted.all():
        _bridge(y, _windows(u, bounds), bounds, counted)
    if detrend is None:
        findings += find_trends(u, y, bounds, counted)
    else:
        u, y = _without_trends(u, y, bounds, counted, linear=detrend == "linear")
    return Screened(replace(data, X=u, Y=y), counted, int(missing.sum()), spikes, findings)


def check_detrend(detrend: object) -> None:
    """Raise a ValueError unless it is None or one of the names."""
    if not (detrend is None or (isinstance(detrend, str) and detrend in ("constant", "linear"))):
        raise ValueError(f"`detrend` must be None, 'constant' or 'linear', got {detrend!r:.100}")


def check_largest(name: str, values: Array) -> None:
    """Refuse channels whose squares leave the range of numbers."""
    # of the largest value: a mean square of records may overflow
    check_size(name, np.square(np.minimum(np.abs(values).max(axis=0), 1e150)))


def _check_outputs(u: Array, y: Array, number: int, n_records: int) -> None:
    """Refuse a record whose outputs say nothing."""
    name = "`y`" if n_records == 1 else f"`y[{number}]`"
    for column in range(y.shape[1]):
        if np.isnan(y[:, column]).all():
            raise ValueError(
                f"{name} has no value in column {column}, all {y.shape[0]} are missing: leave that "
                f"{'column' if n_records == 1 else 'record'} out"
            )
    if np.isnan(y).any(axis=1).all():
        raise ValueError(
            f"{name} has no row without a missing value: a row counts where all outputs are known"
        )
    if n_records > 1 and np.all(np.nanmax(y, 0) == np.nanmin(y, 0)) and np.ptp(u, 0).any():
        raise ValueError(
            f"{name} is constant while its input moves: if the sensor was off, leave that record "
            f"out"
        )


def _filled(y: Array) -> Array:
    """Missing values by linear interpolation in time, and those at the ends by the nearest one."""
    steps = np.arange(y.shape[0])
    for column in np.flatnonzero(np.isnan(y).any(axis=0)):
        known = np.flatnonzero(~np.isnan(y[:, column]))
        y[:, column] = np.interp(steps, known, y[known, column])
    return y


# ------------------------------------------------------------------------------ coarse response


def _windows(u: Array, bounds: list[slice]) -> Array:
    """Means of the inputs over windows of lags, (n_rows, n_windows n_inputs), after u_0."""
    longest = max(rows.stop - rows.start for rows in bounds)
    last = min(LONGEST_WINDOW, max(longest // 5, 2))
    edges = [0, 1, 2]
    while edges[-1] < last:
        edges.append(3 if edges[-1] == 2 else 2 * edges[-1] - 1)
    columns = np.empty((u.shape[0], len(edges) - 1, u.shape[1]))
    for rows in bounds:
        padded = np.vstack((np.broadcast_to(u[rows.start], (edges[-1], u.shape[1])), u[rows]))
        sums = np.cumsum(padded - padded.mean(axis=0), axis=0)
        sums = np.vstack((np.zeros((1, u.shape[1])), sums))
        end = edges[-1] + 1 + np.arange(rows.stop - rows.start)
        for k, (near, far) in enumerate(pairwise(edges)):
            mean = (sums[end - near] - sums[np.maximum(end - far, 0)]) / (far - near)
            columns[rows, k] = mean + padded.mean(axis=0)
    return columns.reshape(u.shape[0], -1)


def coarse_residual(windows: Array, y: Array, counted: BoolArray) -> Array:
    """What least squares of the outputs on the windows and a constant leaves, of all rows."""
    centre, middle = windows[counted].mean(axis=0), y[counted].mean(axis=0)
    size = np.maximum(windows[counted].std(axis=0), 1e-300)
    scaled = (windows - centre) / size
    known = scaled[counted]
    gram = known.T @ known / max(len(known), 1)
    right = known.T @ (y[counted] - middle) / max(len(known), 1)
    ridge = 1e-6 + len(gram) / max(len(known), 1)
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), right)
    return np.asarray(y - middle - scaled @ weights)


def _bridge(y: Array, windows: Array, bounds: list[slice], counted: BoolArray) -> None:
    """Put the coarse response, and its residual interpolated, where outputs do not count."""
    residual = coarse_residual(windows, y, counted)
    for rows in bounds:
        known = np.flatnonzero(counted[rows])
        bad = np.flatnonzero(~counted[rows])
        for column in range(y.shape[1]):
            between = np.interp(bad, known, residual[rows][known, column])
            y[rows.start + bad, column] += between - residual[rows][bad, column]


# ----------------------------------------------------------------------------------- spikes


def find_spikes(u: Array, y: Array, bounds: list[slice], counted: BoolArray) -> IntArray:
    """Rows whose outputs are spikes (see the module), among those that count."""
    if counted.sum() < 5 * NEIGHBOURS:
        return np.empty(0, dtype=np.int64)
    # a scale that squares do not overflow
    y = y / np.maximum(np.abs(y).max(axis=0), 1e-300)
    ordinary = counted & ~_excused(u, bounds)
    found = _beyond_gap(_distances(y, bounds, counted).max(axis=1) * counted, ordinary)
    windows = _windows(u, bounds)
    for _ in range(ROUNDS):
        known = counted.copy()
        known[found] = False
        residual = coarse_residual(windows, y, known)
        distance = _distances(residual, bounds, known).max(axis=1)
        seen = _distances(y, bounds, known).max(axis=1) > SEEN
        again = _beyond_gap(distance * counted, ordinary & seen)
        if np.array_equal(again, found):
            break
        found = again
    return found[~_from_starts(residual, found, bounds, known)]


def _from_starts(
    residual: Array, found: IntArray, bounds: list[slice], known: BoolArray
) -> BoolArray:
    """Which of the rows found decay from the state that their record starts in, (n_found,).

    Such a response is there at the first row already, or in several rows in a row; an error of a
    sensor is not.
    """
    decaying: BoolArray = np.zeros(found.shape[0], dtype=bool)
    scale = _scale(_apart(residual, bounds), residual, known)
    for rows in bounds:
        own = np.flatnonzero((found >= rows.start) & (found < rows.start + EXCUSED))
        if not own.size:
            continue
        later = np.median(residual[rows][1:NEIGHBOURS], axis=0)
        first = np.abs(residual[rows.start] - later) / scale
        if known[rows.start] and (first.max() >= FAR or own.size >= SEVERAL):
            # and what follows them closely: all of one response
            place = np.flatnonzero((found >= rows.start) & (found < rows.stop))
            apart = np.diff(found[place], prepend=rows.start)
            ends = np.flatnonzero(apart > EXCUSED)
            decaying[place[: ends[0] if ends.size else place.size]] = True
    return decaying


def _apart(values: Array, bounds: list[slice]) -> Array:
    """Distance of each row from the median of its neighbours."""
    apart = np.zeros_like(values)
    half = NEIGHBOURS // 2
    for rows in bounds:
        own = values[rows]
        if own.shape[0] < NEIGHBOURS:
            continue
        padded = np.pad(own, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
        middle = np.median(sliding_window_view(padded, NEIGHBOURS, axis=0), axis=-1)
        # a reflection about the last row hides what is wrong with it: the line of those before
        before = own[-NEIGHBOURS:-1]
        slope = np.median(np.diff(before, axis=0), axis=0)
        steps = np.arange(len(before), 0, -1)[:, None]
        middle[-1] = np.median(before + steps * slope, axis=0)
        apart[rows] = np.abs(own - middle)
    return apart


def _scale(apart: Array, values: Array, counted: BoolArray) -> Array:
    """Robust standard deviations of these distances, (n_outputs,)."""
    known = apart[counted]
    half_way, far = np.quantile(known, [0.5, 0.95], axis=0)
    scale = np.maximum(1.4826 * half_way, far / 2.0)
    spread = np.quantile(values[counted], [0.01, 0.99], axis=0)
    least = np.maximum(1e-4 * (spread[1] - spread[0]), 1e-12 * np.abs(values).max(axis=0))
    return np.asarray(np.maximum(np.maximum(scale, least), 1e-300))


def _distances(values: Array, bounds: list[slice], counted: BoolArray) -> Array:
    """Distance of each row from the median of its neighbours, in robust standard deviations."""
    apart = _apart(values, bounds)
    return np.asarray(apart / _scale(apart, values, counted))


def _beyond_gap(distance: Array, candidates: BoolArray) -> IntArray:
    """Candidates among the rows beyond the last wide gap in the distances, few and far."""
    order = np.argsort(-distance, kind="stable")
    values = distance[order[: max(3, int(MOST * distance.shape[0])) + 1]]
    wide = np.flatnonzero((values[:-1] >= FAR) & (values[:-1] >= GAP * values[1:]))
    chosen = order[: int(wide[-1]) + 1] if wide.size else order[:0]
    return np.sort(chosen[candidates[chosen]])


def _excused(u: Array, bounds: list[slice]) -> BoolArray:
    """Rows shortly after the input moved, or stood, where it rarely does."""
    moved = np.zeros(u.shape[0], dtype=bool)
    for rows in bounds:
        change = np.abs(np.diff(u[rows], axis=0, prepend=u[rows][:1]))
        scale = np.quantile(change, 0.95, axis=0) / 2.0
        low, high = np.quantile(u[rows], EXTREMES, axis=0)
        causes = (
            (EXCUSED, (change > UNUSUAL * scale) & (change > 0)),
            (NEIGHBOURS // 2 + 1, (u[rows] < low) | (u[rows] > high)),
        )
        for n_steps, cause in causes:
            rare = np.flatnonzero(cause.any(axis=1))
            for step in range(n_steps):
                moved[rows.start + rare[rare + step < rows.stop - rows.start] + step] = True
    return moved


def _spike_findings(spikes: IntArray, data: Sequences) -> tuple[Finding, ...]:
    if not spikes.size:
        return ()
    text = (
        f"{spikes.size} sample(s) of the output stand far out of their neighbours and of what the "
        f"input can explain, and were left out: {listed_rows(spikes, data)}"
    )
    return (Finding(OutlierWarning, text, "look at them; the fit does not count these rows"),)


def listed_rows(rows: IntArray, data: Sequences) -> str:
    """Rows of the whole data as rows of records, a few of them."""
    record = np.searchsorted(data.starts, rows, side="right") - 1
    texts = []
    for each in np.unique(record[:NAMED]):
        own = (rows[:NAMED] - data.starts[each])[record[:NAMED] == each]
        place = f" of record {each}" if data.n_sequences > 1 else ""
        texts.append(f"row(s) {', '.join(map(str, own.tolist()))}{place}")
    return "; ".join(texts) + (", .." if rows.size > NAMED else "")


# ----------------------------------------------------------------------------------- trends


def find_trends(u: Array, y: Array, bounds: list[slice], counted: BoolArray) -> tuple[Finding, ...]:
    """Warn of the first output whose coarse residual has a trend along some record."""
    y = y / np.maximum(np.abs(y).max(axis=0), 1e-300)
    windows = _windows(u, bounds)
    residual = coarse_residual(windows, y, counted)
    for output in range(y.shape[1]):
        for number, rows in enumerate(bounds):
            known = counted[rows]
            chance = TREND_CHANCE / (y.shape[1] * len(bounds))
            if known.sum() < 5 * NEIGHBOURS or not _has_trend(
                residual[rows, output], windows[rows], known, chance
            ):
                continue
            place = "the record" if len(bounds) == 1 else f"record {number}"
            text = (
                f"output {output} drifts over {place}: what a linear model leaves of it has a trend"
            )
            remedy = (
                "detrend it (detrend='linear') unless the input caused it, or a very slow pole "
                "will have to explain it"
            )
            return (Finding(GloreeWarning, text, remedy),)
    return ()


def _has_trend(residual: Array, windows: Array, known: BoolArray, chance: float) -> bool:
    """Whether a slope is far beyond its standard error, neighbouring samples counted as few.

    It is the coefficient of time beside the windows of the input: what these can follow of a ramp
    is taken out of both sides (Frisch and Waugh).
    """
    time = np.linspace(-0.5, 0.5, residual.shape[0])
    own = coarse_residual(windows, time[:, None], known)[known, 0]
    r = residual[known] - residual[known].mean()
    size = float(own @ own)
    slope = float(own @ r) / max(size, 1e-300)
    left = r - slope * own
    variance = float(left @ left) / left.shape[0]
    if slope == 0.0 or size < 1e-6 * left.shape[0]:
        return False
    alike = float(left[1:] @ left[:-1]) / max(float(left @ left), 1e-300)
    independent = left.shape[0] * (1.0 - alike) / (1.0 + max(alike, 0.0))
    if independent < 4.0:
        return False
    error = math.sqrt(variance / size * left.shape[0] / independent)
    certain = stats.t.isf(chance, independent - 2.0) * error
    return bool(abs(slope) > max(certain, TREND_SIZE * math.sqrt(variance)))


def _without_trends(
    u: Array, y: Array, bounds: list[slice], counted: BoolArray, *, linear: bool
) -> tuple[Array, Array]:
    """Take the mean (or line) of every record from its inputs and outputs; keep those of all."""
    everything = np.ones(u.shape[0], dtype=bool)
    for values, known in ((u, everything), (y, counted)):
        whole = values[known].mean(axis=0)
        for rows in bounds:
            own = known[rows]
            time = np.linspace(-0.5, 0.5, own.shape[0])
            columns = np.column_stack((np.ones_like(time), time)[: 2 if linear else 1])
            line = np.linalg.lstsq(columns[own], values[rows][own], rcond=None)[0]
            values[rows] += whole - columns @ line
    return u, y
