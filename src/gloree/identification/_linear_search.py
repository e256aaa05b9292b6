"""Search of linear systems of several orders: starts that compete, and descents from the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gloree.identification._linear_starts import (
    LinearStart,
    arx_start,
    decimated,
    response_start,
    stable_pair,
    subspace_starts,
    undecimated,
)
from gloree.identification._output_error import (
    STABLE,
    OutputErrorFit,
    balanced,
    fit_inputs,
    refine,
)
from gloree.identification._realisation import PoleLimit
from gloree.identification._weighted_records import WeightedRecords
from gloree.sequences import Array

HORIZONS = (10, 30)
"""Steps of past and future in subspace methods, where there are rows enough."""

ARX_LAGS = (10, 40)
SHORT = (5, 3, 2)  # steps and lags where there are rows for none of these; the first that has
FACTORS = (6, 36)
"""Rows that are averaged for starts of slow systems that were sampled fast."""

FEWEST_MEANS = 60  # averages that are worth a start

FOLLOWED = 2  # starts of an order that descend for the first steps
FIRST_STEPS, MORE_STEPS = 4, 16
SETTLED = 1e-4
PILOT = 3  # the small order at which all starts are tried
BEST_STARTS = 3  # starts of each of the two orders that are tried at all orders
EXACT = 1e-6  # error, relative to the outputs' size, that counts as none
NEAR = 2.0  # truncations whose squares are within this factor of those of a fit are followed
BALANCED_ROWS = 4000  # steps over which systems are balanced


@dataclass(frozen=True)
class SystemTrial:
    """The best system of an order, and the start that led to it."""

    fit: OutputErrorFit
    start: str

    @property
    def order(self) -> int:
        """States."""
        return self.fit.system.order


def all_starts(records: WeightedRecords, responses: Sequence[Array]) -> list[LinearStart]:
    """Starts of all kinds that the records support."""
    starts: list[LinearStart] = []
    for g in responses:
        starts += response_start(g, f"response, {len(g)} lags")
    for method, steps in ((subspace_starts, HORIZONS), (arx_start, ARX_LAGS)):
        found = [start for n in steps for start in method(records, n)]
        starts += found or next(filter(None, (method(records, n) for n in SHORT)), [])
    rows = max(len(u) for u in records.u)
    for factor in FACTORS:
        if rows < FEWEST_MEANS * factor:
            continue
        means = decimated(records, factor)
        found = [*subspace_starts(means, 10), *arx_start(means, 10)]
        starts += [undecimated(start, factor) for start in found]
    return starts


def few_starts(records: WeightedRecords) -> list[LinearStart]:
    """Starts that cost little."""
    return [*subspace_starts(records, HORIZONS[0]), *arx_start(records, ARX_LAGS[0])]


def search_systems(
    records: WeightedRecords,
    orders: Sequence[int],
    starts: Sequence[LinearStart],
    ended: Callable[[], bool] = lambda: False,
    more_steps: int = MORE_STEPS,
    followed: int = FOLLOWED,
    limit: PoleLimit = STABLE,
) -> list[SystemTrial]:
    """Best system of every order that starts support, from the least order up.

    All starts are tried at one small order and at the largest, the best of these at all others. A
    system that explains the records exactly is the last. Then, from the largest order down, the
    balanced truncation of each is a start of the next. No pole exceeds the limit. Where time ends
    before an order has its turn, it has the best start as it is, if starts were tried there.
    """
    ascending = sorted(orders)
    pilots = {ascending[-1], min(ascending, key=lambda order: abs(order - PILOT))}
    best: dict[str, LinearStart] = {}
    ranked = {order: _ranked(order, starts, records, ended, limit) for order in sorted(pilots)}
    for candidates in ranked.values():
        best |= {start.name: start for _, start in candidates[:BEST_STARTS]}
    trials: dict[int, SystemTrial] = {}
    for order in ascending:
        if trials and ended():
            continue
        candidates = ranked.get(order) or _ranked(order, list(best.values()), records, ended, limit)
        chosen = [SystemTrial(fit, start.name) for fit, start in candidates[:followed]]
        chosen = [each for each in chosen if math.isfinite(each.fit.squares)]
        if not chosen:
            continue
        chosen = [_refined(each, records, FIRST_STEPS, ended, limit) for each in chosen]
        found = min(chosen, key=lambda each: each.fit.squares)
        trials[order] = _refined(found, records, more_steps, ended, limit)
        if trials[order].fit.error <= EXACT:
            break
    else:
        for order, candidates in ranked.items():
            for fit, origin in candidates[:1]:
                if math.isfinite(fit.squares):
                    trials.setdefault(order, SystemTrial(fit, origin.name))
    above: SystemTrial | None = None
    for order in sorted(trials, reverse=True):
        if above is not None and not ended():
            start = SystemTrial(fit_inputs(*truncated(above.fit, order), records), "truncation")
            if start.fit.squares < NEAR * trials[order].fit.squares:
                found = _refined(start, records, FIRST_STEPS, ended, limit)
                if found.fit.squares < trials[order].fit.squares:
                    trials[order] = _refined(found, records, more_steps, ended, limit)
        above = trials[order]
    return [trials[order] for order in sorted(trials)]


def _refined(
    trial: SystemTrial,
    records: WeightedRecords,
    max_steps: int,
    ended: Callable[[], bool],
    limit: PoleLimit,
) -> SystemTrial:
    found = refine(trial.fit, records, max_steps, settled=SETTLED, limit=limit, ended=ended)
    return replace(trial, fit=found)


def _ranked(
    order: int,
    starts: Sequence[LinearStart],
    records: WeightedRecords,
    ended: Callable[[], bool],
    limit: PoleLimit,
) -> list[tuple[OutputErrorFit, LinearStart]]:
    """Fits from all starts, the best one first."""
    found: list[tuple[OutputErrorFit, LinearStart]] = []
    for start in starts:
        pair = stable_pair(start, order, limit) if order <= start.largest else None
        if pair is not None:
            found.append((fit_inputs(*pair, records), start))
        if found and ended():
            break
    return sorted(found, key=lambda each: each[0].squares)


def truncated(fit: OutputErrorFit, order: int) -> tuple[Array, Array]:
    """(A, C) of the balanced truncation of a system."""
    system = fit.system
    _, T, inverse = balanced(system.A, system.B, system.C, BALANCED_ROWS)
    return inverse[:order] @ system.A @ T[:, :order], system.C @ T[:, :order]
