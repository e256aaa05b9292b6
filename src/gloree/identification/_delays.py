"""Dead times of inputs: proposed by scans of small ARX models, taken where systems gain by them.

A smooth response that rises slowly is no dead time: a delay is taken only if systems of the same
orders fit better with it, or as well with as many states fewer as the delay has samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from gloree.identification._linear_search import SystemTrial, few_starts, search_systems
from gloree.identification._output_error import (
    OutputErrorFit,
    fit_inputs,
    refine,
    run_records,
    squares_of,
)
from gloree.identification._weighted_records import WeightedRecords, shifted
from gloree.sequences import Array, IntArray

MOST_DELAY = 400  # samples, at most; and an eighth of the longest record
SCANNED = (1, 3)  # orders of the ARX models of the scans
PASSES = 2  # rounds over all inputs
SAME_SQUARES = 1.02
"""Of delays whose squared errors are within this factor of the least, the longest is proposed."""

SHORTEST = 2  # samples; a system without direct path has a delay of one
TRIAL_ORDERS = (1, 2, 3, 5)
LARGER_ORDERS = (7, 9)  # that a smooth response may need without delays
TRIAL_ROWS, TRIAL_STEPS = 4000, 12
SAVED = 2  # states that a delay has to save where it does not lower the error, at least
LEAST_GAIN = 0.95  # ratio of errors that makes a delay worth having at the same orders
SAME_ERROR, SAME_ROWS = 0.005, 50.0  # errors differ little by this share, or so many rows' of all

MEANS = 12  # means over lags that are left out, by which a delay is checked
MISSED = 0.05  # share of the residual that these may explain
EXACT = 1e-6  # error, relative to the outputs' size, that counts as none


def find_delays(records: WeightedRecords, ended: Callable[[], bool] = lambda: False) -> IntArray:
    """Delay of each input in samples, zero where the data do not show one."""
    none = np.zeros(records.n_inputs, dtype=np.int64)
    proposals = proposed_delays(records)
    if not proposals:
        return none
    cut = int(max(delays.max() for delays in proposals)) + 1
    few = records.first(TRIAL_ROWS + cut)
    chosen = _trials(few, none, cut, ended)
    best, n_counted = none, few.n_counted
    for delays in proposals:
        longest, trials = int(delays.max()), _trials(few, delays, cut, ended)
        if best is none and trials:
            # what gains over few states must gain over many, and over all but those that it saves
            saving = _least_order(trials, n_counted) + _saved(trials, longest) - 1
            more = {*LARGER_ORDERS, min(saving, max(LARGER_ORDERS))}
            for order in sorted(more - {each.order for each in chosen}):
                if _hopeless(trials, chosen, n_counted):
                    break
                chosen = [*chosen, *_trials(few, none, cut, ended, (order,))]
        if _gains(trials, chosen, n_counted, longest):
            best, chosen = delays, trials
    if best is none:
        return none
    order = _least_order(chosen, few.n_counted)
    trial = next(each for each in chosen if each.order == order)
    delays, fit = _polished(few, best, cut, trial, ended)
    return none if _missed(few, delays, cut, fit) > MISSED else delays


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


def proposed_delays(records: WeightedRecords) -> list[IntArray]:
    """Delays of least squared error of ARX models of a few orders, one input after another."""
    longest = max(len(u) for u in records.u)
    most = min(MOST_DELAY, longest // 8)
    if most < 1:
        return []
    covariances = _covariances(records, most + max(SCANNED) + 2)
    found: dict[tuple[int, ...], IntArray] = {}
    for order in SCANNED:
        delays = np.zeros(records.n_inputs, dtype=np.int64)
        for _ in range(PASSES if records.n_inputs > 1 else 1):
            before = delays.copy()
            for k in range(records.n_inputs):
                errors = np.array(
                    [
                        _arx_error(covariances, order, _with(delays, k, delay))
                        for delay in range(most + 1)
                    ]
                )
                near = np.flatnonzero(errors <= errors.min() + math.log(SAME_SQUARES))
                delays[k] = 0 if near[0] == 0 else near[-1]
            if np.array_equal(before, delays):
                break
        if delays.max() >= SHORTEST:
            found[tuple(delays.tolist())] = delays
    return list(found.values())


def _with(delays: IntArray, k: int, delay: int) -> IntArray:
    changed = delays.copy()
    changed[k] = delay
    return changed


def _covariances(records: WeightedRecords, n_lags: int) -> Array:
    """r_{ab}(l) = mean of a(t) b(t - l), (n_channels, n_channels, 2 n_lags + 1); outputs first.

    Channels are centred; missing outputs count as their mean.
    """
    total = np.zeros((records.n_outputs + records.n_inputs,) * 2 + (2 * n_lags + 1,))
    means = [
        sum(part.sum(axis=0) for part in values) / max(count, 1.0)
        for values, count in (
            (
                [np.where(w > 0, y, 0.0) for y, w in zip(records.y, records.w, strict=True)],
                sum(w[:, 0].sum() for w in records.w),
            ),
            (records.u, sum(len(u) for u in records.u)),
        )
    ]
    for u, y, w in zip(records.u, records.y, records.w, strict=True):
        z = np.hstack((np.where(w > 0, y - means[0], 0.0), u - means[1]))
        size = 1 << int(len(z) + n_lags).bit_length()
        spectrum = np.fft.rfft(z, size, axis=0)
        for a in range(z.shape[1]):
            r = np.fft.irfft(spectrum[:, a : a + 1] * np.conj(spectrum), size, axis=0)
            total[a] += np.concatenate((r[size - n_lags :], r[: n_lags + 1])).T
    return total / sum(len(u) for u in records.u)


def _arx_error(covariances: Array, order: int, delays: IntArray) -> float:
    """Sum over outputs of the log mean squares of y_t on `order` outputs and delayed inputs."""
    n_lags, d = covariances.shape[2] // 2, len(delays)
    q = covariances.shape[0] - d
    lags = np.arange(1, order + 1)
    channel = np.concatenate(
        (np.repeat(np.arange(q), order), np.repeat(q + np.arange(d), order + 1))
    )
    late = np.concatenate((np.tile(lags, q), *(delay + np.arange(order + 1) for delay in delays)))
    # regressors z_c(t - l): E z_c(t - l) z_c'(t - l') = r_{cc'}(l' - l)
    apart = np.clip(late[None, :] - late[:, None], -n_lags, n_lags)
    gram = covariances[channel[:, None], channel[None, :], apart + n_lags]
    cross = covariances[np.arange(q)[:, None], channel[None, :], late + n_lags].T
    gram = gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, cross)
    left = covariances[np.arange(q), np.arange(q), n_lags] - np.sum(weights * cross, axis=0)
    return float(np.sum(np.log(np.maximum(left, 1e-12))))


def _trials(
    records: WeightedRecords,
    delays: IntArray,
    cut: int,
    ended: Callable[[], bool],
    orders: tuple[int, ...] = TRIAL_ORDERS,
) -> list[SystemTrial]:
    moved = shifted(records, delays).after(cut)
    return search_systems(moved, orders, few_starts(moved), ended, TRIAL_STEPS)


def _error(trials: list[SystemTrial]) -> float:
    return max(min((each.fit.error for each in trials), default=math.inf), EXACT)


def _margin(n_counted: float) -> float:
    return 1.0 + max(SAME_ERROR, SAME_ROWS / max(n_counted, 1.0))


def _least_order(trials: list[SystemTrial], n_counted: float) -> int:
    largest = _margin(n_counted) * _error(trials)
    return min(each.order for each in trials if each.fit.error <= largest)


def _hopeless(new: list[SystemTrial], old: list[SystemTrial], n_counted: float) -> bool:
    """Whether new delays raise the error beyond what samples can mistake."""
    return not new or _error(new) > _margin(n_counted) * _error(old)


def _gains(new: list[SystemTrial], old: list[SystemTrial], n_counted: float, longest: int) -> bool:
    """Whether new delays lower the error, or keep it with fewer states."""
    if _hopeless(new, old, n_counted):
        return False
    if _error(new) < LEAST_GAIN * _error(old):
        return True
    fewest = _least_order(new, n_counted) + _saved(new, longest)
    return fewest <= _least_order(old, n_counted)


def _saved(new: list[SystemTrial], longest: int) -> int:
    """States that a delay of so many samples has to save where it does not lower the error.

    As many poles at zero, but for the one that a system without direct path has.
    """
    return max(longest - 1, 1 if _error(new) == EXACT else SAVED)


def _polished(
    records: WeightedRecords,
    delays: IntArray,
    cut: int,
    trial: SystemTrial,
    ended: Callable[[], bool],
) -> tuple[IntArray, OutputErrorFit]:
    """Delays of least error near those that were found, of equal ones the longest; and the fit.

    Errors are those of outputs alone: what states in front cost by their prior depends on the
    inputs in the first rows, which are others for every delay.
    """
    A, C = trial.fit.system.A, trial.fit.system.C
    same = 1.0 + 4.0 / max(records.n_counted, 1.0)

    def fitted(candidate: IntArray) -> tuple[OutputErrorFit, float]:
        moved = shifted(records, candidate).after(cut)
        found = refine(fit_inputs(A, C, moved), moved, 6, settled=1e-6)
        squares = squares_of(found.system, found.states, moved)
        return found, max(math.sqrt(squares / max(found.n_counted, 1.0)), EXACT)

    fit, now = fitted(delays)
    for _ in range(PASSES):
        before = delays
        for k in range(len(delays)):
            for step in (1, -1):
                while not ended():
                    candidate = _with(delays, k, int(delays[k]) + step)
                    if candidate[k] < 0:
                        break
                    trial_fit, value = fitted(candidate)
                    better = value <= same * now if step > 0 else same * value < now
                    if not better:
                        break
                    delays, fit, now = candidate, trial_fit, value
        if np.array_equal(before, delays):
            break
    return delays, fit
