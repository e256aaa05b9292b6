"""Choice among linear systems of several orders by cross-validated errors of the free run.

Poles with a time constant beyond a fifth of the record, and fewer than five periods in it, or with
one beyond ten records, are hard to tell from a drift of the output: a free run on new data goes
astray with them. So every system with such *drifting* poles competes with one without their modes,
and with one whose poles are held at that limit; and where poles end at it, or beyond, they are
taken only where they pay clearly on long stretches that they were not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gloree.identification._cross_validation import without_folds
from gloree.identification._folds import (
    FOLDS,
    Fold,
    contiguous,
    in_stretches,
    interleaved,
    whole_records,
)
from gloree.identification._linear_search import SystemTrial
from gloree.identification._output_error import (
    STABLE,
    OutputErrorFit,
    fit_inputs,
    refine,
    run_records,
    with_states,
)
from gloree.identification._realisation import PoleLimit, modal_form, pulled_inside
from gloree.identification._weighted_records import WeightedRecords
from gloree.sequences import Array

SLOW = 5.0  # time constants or periods that the longest record must hold: a pole drifts else
RINGING = 10.0  # longest records that a mode of many periods may ring for
SHORT = 100  # rows: poles that such a record can tell do not drift in shorter ones either
PENALTY = 10.0  # of a free weight, over rows: more than 2, since residuals are correlated
LIMIT_STEPS = 8
SETTLED = 1e-4
LEAST_GAIN = 0.99  # ratio of errors that makes a larger order worth a cross-validation
MOST_LOSS = 1.02  # the least order is taken within this factor of the least error, and one s.e.
SMALL_LOSS = 1.015  # the same where a network follows, however small the standard error is
EXACT = 1e-7  # errors, relative to the outputs' size, that count as none
SLOW_GAIN = 0.5  # ratio of errors on long stretches below which drifting poles are taken
FEWER_GAIN = 0.8  # the same of a system with fewer states: a drift would need more of them
SLOWER = 2.0  # ratio of the time constants of poles that hardly show to others, at most
POSSIBLE = 0.7  # ratio of errors on the rows of the fit above which that is out of reach


@dataclass(frozen=True)
class Candidate:
    """A fit on all rows, the limit of its poles, and mean squares on blocks left out.

    `kind` is 0 without drifting poles, 1 with such poles held at their limit, and 2 where they are
    free.
    """

    fit: OutputErrorFit
    limit: PoleLimit
    kind: int
    start: str
    blocks: Array = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def order(self) -> int:
        """States."""
        return self.fit.system.order

    @property
    def error(self) -> float:
        """Root mean squares of the blocks, in the geometric mean, as candidates are compared by.

        In the mean of squares a stretch that fits without it lead astray would be all that shows.
        """
        return math.exp(self.logs.mean() / 2.0) if self.blocks.size else math.inf

    @property
    def logs(self) -> Array:
        """Logarithms of the mean squares: no single block or record decides alone."""
        return np.asarray(np.log(np.maximum(self.blocks, EXACT**2)))


def choose(
    trials: Sequence[SystemTrial],
    records: WeightedRecords,
    ended: Callable[[], bool] = lambda: False,
    *,
    followed: bool = False,
) -> tuple[Candidate, list[Candidate]]:
    """Return the candidate that is taken, and all that were cross-validated.

    A smaller order is worth a little error where networks follow. Of a single order there is no
    system without some of its modes.
    """
    limit, lengths = steady(records), records.lengths
    rivals = (_held, without_drift) if len({each.order for each in trials}) > 1 else (_held,)
    by_kind: list[list[Candidate]] = [[], [], []]
    for trial in trials:
        if not drifting(trial.fit, limit).any():
            by_kind[0].append(Candidate(trial.fit, limit, 0, trial.start))
            continue
        by_kind[2].append(Candidate(trial.fit, STABLE, 2, trial.start))
        for other in rivals:
            fit = other(trial.fit, records, limit, ended)
            if fit is not None:
                kind = int(drifting(fit, limit).any())
                by_kind[kind].append(Candidate(fit, limit, kind, trial.start))
    tried: list[Candidate] = []
    best: list[Candidate] = []
    splits = whole_records(lengths) or [*interleaved(lengths), *in_stretches(lengths)]
    needed = POSSIBLE * min((max(each.fit.error, EXACT) for each in by_kind[0]), default=math.inf)
    for kind, alike in enumerate(by_kind):
        if kind > 0 and best and min((c.fit.error for c in alike), default=math.inf) > needed:
            continue
        judged = [_judged(each, records, splits, ended) for each in _worthwhile(alike)]
        if ended():
            judged = [_penalised(each, records) for each in judged]
        if judged:
            tried += judged
            best.append(_least(judged, records, followed))
    stretches = whole_records(lengths) or contiguous(lengths)
    best[0] = _unless_it_rings(best[0], tried, limit, records, stretches, followed, ended)
    chosen = best[0]
    if len(best) > 1:
        judged = [_judged(each, records, stretches, ended) for each in best]
        if ended():
            judged = [_penalised(each, records) for each in best]
        chosen = best[_last_that_pays([(each.error, each.order) for each in judged])]
    return chosen, sorted(tried, key=lambda each: (each.order, each.kind))


def _last_that_pays(candidates: Sequence[tuple[float, int]]) -> int:
    """Number of the last of (error, order) that is below a share of all errors before, else 0."""
    (least, chosen), last = candidates[0], 0
    for number, (error, order) in enumerate(candidates):
        if error < (FEWER_GAIN if order < chosen else SLOW_GAIN) * least:
            last, chosen = number, order
        least = min(least, error)
    return last


def _unless_it_rings(
    chosen: Candidate,
    tried: Sequence[Candidate],
    limit: PoleLimit,
    records: WeightedRecords,
    stretches: Sequence[Fold],
    followed: bool,
    ended: Callable[[], bool],
) -> Candidate:
    """The best smaller system without modes that ring on, unless these pay on long stretches.

    A mode that rings for a fifth of the record can follow a drift of the outputs through blocks
    that lie between rows of its fit.
    """

    def rings(each: Candidate) -> bool:
        return bool(np.any(np.abs(each.fit.system.poles) > limit.drifting))

    plain = [c for c in tried if c.kind == chosen.kind and c.order < chosen.order and not rings(c)]
    if not plain or not rings(chosen) or ended():
        return chosen
    other = _least(plain, records, followed)
    errors = [_judged(each, records, stretches, ended).error for each in (chosen, other)]
    return chosen if ended() or errors[0] < errors[1] else other


def steady(records: WeightedRecords) -> PoleLimit:
    """Limit of poles that do not drift over the longest record."""
    rows = max(SHORT, *(len(u) for u in records.u))
    modulus = 1.0 - 1.0 / (RINGING * rows)
    return PoleLimit(modulus, 1.0 - SLOW / rows, 2.0 * np.pi * SLOW / rows)


def drifting(fit: OutputErrorFit, limit: PoleLimit) -> NDArray[np.bool_]:
    """Which poles are at the limit of those that drift, or beyond."""
    return limit.reached(fit.system.poles)


def _held(
    fit: OutputErrorFit, records: WeightedRecords, limit: PoleLimit, ended: Callable[[], bool]
) -> OutputErrorFit:
    A = pulled_inside(fit.system.A, limit)
    return _refitted(A, fit.system.C, records, limit, ended)


def without_drift(
    fit: OutputErrorFit, records: WeightedRecords, limit: PoleLimit, ended: Callable[[], bool]
) -> OutputErrorFit | None:
    """The system without its drifting modes; None where these are all."""
    A, T, modes = modal_form(fit.system.A)
    poles = [np.linalg.eigvals(A[np.ix_(rows, rows)]) for rows in modes]
    kept = [r for r, p in zip(modes, poles, strict=True) if np.all(np.abs(p) <= limit.of(p))]
    if not kept or not np.isfinite(T).all():
        return None
    rows = np.concatenate(kept)
    return _refitted(A[np.ix_(rows, rows)], (fit.system.C @ T)[:, rows], records, limit, ended)


def without_idle_poles(
    chosen: Candidate, records: WeightedRecords, ended: Callable[[], bool]
) -> Candidate:
    """Bring poles that hardly show into the range of the others: a slow one makes passes long.

    Where an order was asked for that linear data do not tell, some poles may be anywhere. The
    slowest modes are left out as long as that costs less than `MOST_LOSS`; what is left sets the
    limit of all poles, at a memory of `SLOWER` times its own.
    """
    fit, most = chosen.fit, MOST_LOSS * max(chosen.fit.error, EXACT)
    sizes = np.unique(np.round(np.abs(fit.system.poles), 9))[::-1]
    slowest = float(sizes[0])
    for size, following in pairwise(sizes.tolist()):
        below = chosen.limit.at_most(0.5 * (size + following))
        smaller = without_drift(fit, records, below, ended)
        if smaller is None or ended() or smaller.error > most:
            break
        slowest = float(np.abs(smaller.system.poles).max())
    limit = chosen.limit.at_most(1.0 - (1.0 - slowest) / SLOWER)
    if not limit.reached(fit.system.poles).any():
        return chosen
    found = _held(fit, records, limit, ended)
    return replace(chosen, fit=found, limit=limit) if found.error <= most else chosen


def _refitted(
    A: Array, C: Array, records: WeightedRecords, limit: PoleLimit, ended: Callable[[], bool]
) -> OutputErrorFit:
    found = fit_inputs(A, C, records)
    return refine(found, records, LIMIT_STEPS, settled=SETTLED, limit=limit, ended=ended)


def _worthwhile(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that lower the error of all smaller ones."""
    kept: list[Candidate] = []
    least = math.inf
    for each in sorted(candidates, key=lambda each: each.order):
        error = max(each.fit.error, EXACT)
        if error < LEAST_GAIN * least:
            kept.append(each)
            least = error
    return kept


def _least(candidates: Sequence[Candidate], records: WeightedRecords, followed: bool) -> Candidate:
    """The least order whose score is not larger than the least by more than one standard error.

    The score is the logarithm of the mean squares on blocks, and that of the rows over the rows for
    each free weight, as in Schwarz's criterion: a mode that rings along with the noise is fitted to
    the whole record, and folds that are left out by a step from there do not quite forget it. Where
    networks follow, a small share is allowed: of long records every state is significant.
    """
    n = max(records.n_counted, math.e)

    def score(each: Candidate) -> float:
        d, q = each.fit.system.B.shape[1], each.fit.system.C.shape[0]
        return float(each.logs.mean() + each.order * (d + q) * math.log(n) / n)

    best = min(candidates, key=score)
    for each in candidates:
        apart = each.logs - best.logs
        spread = float(apart.std(ddof=1)) / math.sqrt(apart.size) if apart.size > 1 else 0.0
        most = min(spread, 2.0 * math.log(MOST_LOSS))
        most = max(most, 2.0 * math.log(SMALL_LOSS) if followed else 0.0)
        if score(each) - score(best) <= most:
            return each
    return best


def _penalised(candidate: Candidate, records: WeightedRecords) -> Candidate:
    """Error on the rows of the fit, for its free weights, where there is no time to refit."""
    system = candidate.fit.system
    d, q = system.B.shape[1], system.C.shape[0]
    share = PENALTY * (system.order * (d + q) + d * q + q) / max(records.n_counted, 1.0)
    return replace(candidate, blocks=np.array([candidate.fit.error**2 * math.exp(share)]))


def _judged(
    candidate: Candidate,
    records: WeightedRecords,
    splits: Sequence[Fold],
    ended: Callable[[], bool],
) -> Candidate:
    """Refit without each fold from where the fit on all rows is, and add the errors on it."""
    blocks: list[float] = []
    whole = records.n_records >= FOLDS
    # of records that are left out, the first rows are kept for their states alone
    folds = [
        [np.full_like(part, part.max(initial=0)) if whole and part.any() else part for part in fold]
        for fold in splits
    ]
    fits = without_folds(candidate.fit, records, folds, candidate.limit)
    for fold, (fit, training) in zip(splits, fits, strict=True):
        if training.n_counted == 0.0:
            continue
        if ended():
            break
        states = _states(fit, training, records, fold)
        for group, residual, _ in run_records(fit.system, states, records):
            for place, i in enumerate(group.numbers.tolist()):
                n = len(fold[i])
                squares = np.square(residual[place, :n]) * group.w[place, :n]
                for block in np.unique(fold[i][fold[i] > 0]):
                    rows = fold[i] == block
                    weight = float(group.w[place, :n][rows].sum())
                    if weight:
                        blocks.append(float(squares[rows].sum()) / weight)
    kept = np.minimum(np.nan_to_num(np.array(blocks), nan=1e12), 1e12)
    return replace(candidate, blocks=kept)


def _states(
    fit: OutputErrorFit,
    training: WeightedRecords,
    records: WeightedRecords,
    fold: Fold,
) -> Array:
    """States in front of records; of those left out, by their first rows, which are in no block."""
    alone = training.counted == 0.0
    if not alone.any():
        return fit.states
    first = [
        w * (np.cumsum(part > 0) == 0)[:, None] for w, part in zip(records.w, fold, strict=True)
    ]
    states = fit.states.copy()
    states[alone] = with_states(fit.system, records.weighted(first), fit.error**2).states[alone]
    return states
