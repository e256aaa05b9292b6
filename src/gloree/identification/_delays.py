"""Dead times of inputs: proposed by scans of small models, taken where systems gain by them.

A smooth response that rises slowly is no dead time: a delay is taken only if systems of the same
orders fit better with it, or as well with as many states fewer as the delay has samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gloree.identification._delay_scans import (
    PASSES,
    SHORTEST,
    delays_at_poles,
    proposed_delays,
    with_delay,
)
from gloree.identification._linear_search import SystemTrial, few_starts, search_systems
from gloree.identification._linear_system import LinearSystem
from gloree.identification._output_error import (
    OutputErrorFit,
    fit_inputs,
    refine,
    run_records,
    squares_of,
)
from gloree.identification._weighted_records import WeightedRecords, shifted
from gloree.sequences import Array, IntArray

SCANNED_ROWS = 5000  # of all records, at most
HOPS = 8  # starts of windows of rows, in each window's length
MOVING = 0.9  # share of the largest variance of the inputs that a window may have

TRIAL_ORDERS = (1, 2, 3, 5)
SMALL = 2  # order of the systems that lead from a proposal to delays of less error
ROUNDS = 3  # of poles and delays in turn
WORTH_POLISHING = 2.0  # ratio of errors, with delays that may be some samples off
POLISHING, POLISHED = 6, 1e-5  # steps of a fit for every delay that is tried, and gains that end it
LARGER_ORDERS = (7, 9)  # that a smooth response may need without delays
TRIAL_STEPS = 12
SAVED = 2  # states that a delay has to save where it does not lower the error, at least
LEAST_GAIN = 0.95  # ratio of errors that makes a delay worth having at the same orders
TIE = 0.25  # share of what samples can mistake by which it may raise it, with fewer states
MOST_SAVED = 4  # states that any delay has to save, at most
SAME_ERROR, SAME_ROWS = 0.005, 50.0  # errors differ little by this share, or so many rows' of all

MEANS = 12  # means over lags that are left out, by which a delay is checked
MISSED = 0.05  # share of the residual that these may explain
EXACT = 1e-7  # error, relative to the outputs' size, that counts as none


def find_delays(records: WeightedRecords, ended: Callable[[], bool] = lambda: False) -> IntArray:
    """Delay of each input in samples, zero where the data do not show one."""
    none = np.zeros(records.n_inputs, dtype=np.int64)
    records = _moving(records, SCANNED_ROWS)
    n_counted = records.n_counted
    best, chosen = none, list[SystemTrial]()
    tried: set[tuple[int, ...]] = set()
    for proposal in proposed_delays(records):
        delays = _settled(records, proposal, ended)
        if ended() or delays.max() < SHORTEST or tuple(delays.tolist()) in tried:
            continue
        tried.add(tuple(delays.tolist()))
        cut = _first_row(delays)
        small = [_trials(records, each, cut, ended, (SMALL,)) for each in (delays, none)]
        if _error(small[0]) > WORTH_POLISHING * _error(small[1]):
            continue
        trials = _trials(records, delays, cut, ended)
        others = chosen or _trials(records, none, cut, ended)
        if not trials or _error(trials) > WORTH_POLISHING * _error(others):
            continue
        polished = _polished(records, delays, cut, _least(trials, n_counted), ended)
        if not np.array_equal(polished, delays):
            delays, trials = polished, _trials(records, polished, cut, ended)
        longest = int(delays.max())
        if not chosen:
            others = _with_larger(others, trials, records, cut, longest, ended)
        if _gains(trials, others, n_counted, longest) and not (
            _missed(records, delays, cut, _least(trials, n_counted).fit) > MISSED
        ):
            best, chosen = delays, trials
    return best


def _with_larger(
    chosen: list[SystemTrial],
    trials: list[SystemTrial],
    records: WeightedRecords,
    cut: int,
    longest: int,
    ended: Callable[[], bool],
) -> list[SystemTrial]:
    """Add larger systems without delays.

    What gains over few states must gain over many, and over all but those that it saves.
    """
    none = np.zeros(records.n_inputs, dtype=np.int64)
    saving = _least(trials, records.n_counted).order + _saved(trials, longest) - 1
    more = {*LARGER_ORDERS, min(saving, max(LARGER_ORDERS))}
    for order in sorted(more - {each.order for each in chosen}):
        if _hopeless(trials, chosen, records.n_counted):
            break
        chosen = [*chosen, *_trials(records, none, cut, ended, (order,))]
    return chosen


def _settled(records: WeightedRecords, delays: IntArray, ended: Callable[[], bool]) -> IntArray:
    """Delays of least error near a proposal: poles and delays in turn, in small systems."""
    cut = _first_row(delays)
    trials = _trials(records, delays, cut, ended, (SMALL,))
    if not trials:
        return delays
    system = trials[0].fit.system
    for _ in range(ROUNDS):
        before, delays = delays, delays_at_poles(records, system.A, delays)
        if ended() or np.array_equal(before, delays):
            break
        moved = shifted(records, delays).after(_first_row(delays))
        start = fit_inputs(system.A, system.C, moved)
        system = refine(start, moved, TRIAL_STEPS, settled=1e-4).system
    return delays


def _first_row(delays: IntArray) -> int:
    """First row that counts: later than the delays, and than those that are tried from them."""
    longest = int(delays.max())
    return longest + 2 + longest // 8


def _moving(records: WeightedRecords, n_rows: int) -> WeightedRecords:
    """About `n_rows` rows, in one window of each record: where its inputs move.

    The first window in which every input has, of its variance in the record, at least a share of
    what it has in the window where it moves most.
    """
    total = sum(len(u) for u in records.u)
    if total <= n_rows:
        return records
    windows = []
    for u in records.u:
        size = max(1, len(u) * n_rows // total)
        hops = np.arange(0, len(u) - size + 1, max(1, size // HOPS))
        sums = np.concatenate((np.zeros((2, 1, u.shape[1])), np.cumsum((u, u**2), axis=1)), axis=1)
        mean, square = (sums[:, hops + size] - sums[:, hops]) / size
        variance = np.maximum(square - mean**2, 0.0)
        share = variance / np.maximum(variance.max(axis=0), np.finfo(float).tiny)
        start = int(hops[np.argmax(share.min(axis=1) >= MOVING * share.min(axis=1).max())])
        windows.append(slice(start, start + size))
    return records.between(windows)


def _missed(records: WeightedRecords, delays: IntArray, cut: int, fit: OutputErrorFit) -> float:
    """Share of the residual that inputs explain which the delays leave out; none of it should.

    Means over neighbouring lags are the regressors: few of them, of a response that is smooth.
    """
    if fit.error <= EXACT:
        return 0.0
    rows: list[Array] = []
    targets: list[Array] = []
    q = records.n_outputs
    moved = shifted(records, delays).after(cut)
    for group, residual, _ in run_records(fit.system, fit.states, moved):
        for place, i in enumerate(group.numbers.tolist()):
            n = int(group.lengths[place])
            good = np.asarray((group.w[place, :n] > 0.0).all(axis=1))
            u = np.vstack((np.zeros((1, records.n_inputs)), np.cumsum(records.u[i], axis=0)))
            t = cut + np.flatnonzero(good)
            columns = []
            for k, delay in enumerate(delays.tolist()):
                edges = np.unique(np.linspace(0, delay, min(delay, MEANS) + 1).astype(int))
                ends = [u[np.maximum(t + 1 - edge, 0), k] for edge in edges]
                columns += [a - b for a, b in pairwise(ends)]
            rows.append(np.column_stack(columns))
            targets.append(residual[place, :n][good].reshape(-1, q))
    W, target = np.vstack(rows), np.vstack(targets)
    W, target = W - W.mean(axis=0), target - target.mean(axis=0)
    left = target - W @ np.linalg.lstsq(W, target, rcond=1e-10)[0]
    free = max(len(W) - W.shape[1], 1) / max(len(W), 1)
    return float(1.0 - np.sum(left**2) / np.sum(target**2) / free)


def _trials(
    records: WeightedRecords,
    delays: IntArray,
    cut: int,
    ended: Callable[[], bool],
    orders: tuple[int, ...] = TRIAL_ORDERS,
) -> list[SystemTrial]:
    """Systems, whose errors are those of outputs alone.

    What states in front cost by their prior depends on the inputs in the first rows, which are
    others for every delay.
    """
    moved = shifted(records, delays).after(cut)
    trials = search_systems(moved, orders, few_starts(moved), ended, TRIAL_STEPS)
    return [replace(each, fit=_of_outputs(each.fit, moved)) for each in trials]


def _of_outputs(fit: OutputErrorFit, records: WeightedRecords) -> OutputErrorFit:
    return replace(fit, squares=squares_of(fit.system, fit.states, records))


def _error(trials: list[SystemTrial]) -> float:
    return max(min((each.fit.error for each in trials), default=math.inf), EXACT)


def _margin(n_counted: float, share: float = 1.0) -> float:
    """Ratio of errors that samples can mistake, or a share of it."""
    return 1.0 + share * max(SAME_ERROR, SAME_ROWS / max(n_counted, 1.0))


def _least(trials: list[SystemTrial], n_counted: float) -> SystemTrial:
    """Return the system of least order that is as good as any, but for what samples can mistake."""
    largest = _margin(n_counted) * _error(trials)
    return min((each for each in trials if each.fit.error <= largest), key=lambda each: each.order)


def _hopeless(new: list[SystemTrial], old: list[SystemTrial], n_counted: float) -> bool:
    """Whether new delays raise the error beyond what samples can mistake."""
    return not new or _error(new) > _margin(n_counted) * _error(old)


def _gains(new: list[SystemTrial], old: list[SystemTrial], n_counted: float, longest: int) -> bool:
    """Whether new delays lower the error, or keep it with fewer states."""
    if _hopeless(new, old, n_counted):
        return False
    if _error(new) < LEAST_GAIN * _error(old):
        return True
    fewer, more = _least(new, n_counted), _least(old, n_counted)
    return fewer.order + _saved(new, longest) <= more.order and max(
        fewer.fit.error, EXACT
    ) <= _margin(n_counted, TIE) * max(more.fit.error, EXACT)


def _saved(new: list[SystemTrial], longest: int) -> int:
    """States that a delay of so many samples has to save where it does not lower the error.

    As many poles at zero, but for the one that a system without direct path has; a few of a long
    delay, which smooth systems are near to in noise.
    """
    return min(max(longest - 1, 1 if _error(new) == EXACT else SAVED), MOST_SAVED)


def _polished(
    records: WeightedRecords,
    delays: IntArray,
    cut: int,
    trial: SystemTrial,
    ended: Callable[[], bool],
) -> IntArray:
    """Delays of less error near those that were found: shorter ones only where that is plain.

    In the end, longer by a sample where that is as good: without direct path a system has a delay
    of its own.
    """
    same = 1.0 + 4.0 / max(records.n_counted, 1.0)

    def fitted(candidate: IntArray, near: LinearSystem) -> tuple[float, LinearSystem]:
        moved = shifted(records, candidate).after(cut)
        start = fit_inputs(near.A, near.C, moved)
        found = refine(start, moved, POLISHING, settled=POLISHED)
        return max(_of_outputs(found, moved).error, EXACT), found.system

    now, system = fitted(delays, trial.fit.system)
    for _ in range(PASSES):
        before = delays
        for k in range(len(delays)):
            for change in (1, -1):
                while not ended():
                    candidate = with_delay(delays, k, int(delays[k]) + change)
                    if not 0 <= candidate[k] < cut:
                        break
                    value, found = fitted(candidate, system)
                    if value >= (now if change > 0 else now / same):
                        break
                    delays, now, system = candidate, value, found
        if np.array_equal(before, delays):
            break
    for k in range(len(delays)):
        longer = with_delay(delays, k, int(delays[k]) + 1)
        if not ended() and longer[k] < cut and fitted(longer, system)[0] <= same * now:
            delays = longer
    return delays
