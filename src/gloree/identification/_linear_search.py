"""Search of linear systems of several orders: starts that compete, and descents from the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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
    OutputErrorFit,
    balanced,
    fit_inputs,
    refine,
)
from gloree.identification._weighted_records import WeightedRecords
from gloree.sequences import Array

HORIZONS = (10, 30)
"""Steps of past and future in subspace methods, where there are rows enough."""

ARX_LAGS = (10, 40)
FACTORS = (6, 36)
"""Rows that are averaged for starts of slow systems that were sampled fast."""

FEWEST_MEANS = 60  # averages that are worth a start

FOLLOWED = 2  # starts of an order that descend for the first steps
FIRST_STEPS, MORE_STEPS = 5, 25
SETTLED = 1e-5
PILOT = 3  # the small order at which all starts are tried
BEST_STARTS = 3  # starts of each of the two orders that are tried at all orders
EXACT = 1e-6  # error, relative to the outputs' size, that counts as none
NOTHING = 1e-7  # Hankel singular values, relative to the largest, that count as none then
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
    for horizon in HORIZONS:
        starts += subspace_starts(records, horizon)
    for n_lags in ARX_LAGS:
        starts += arx_start(records, n_lags)
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
) -> list[SystemTrial]:
    """Best system of every order that starts support.

    From the largest order down: the balanced truncation of each is a start of the next. All starts
    are tried at the largest order and at one small one, the best of these at all others. Of a
    record that a system explains exactly no order beyond that of the system is tried.
    """
    descending = sorted(orders, reverse=True)
    pilots = {descending[0], min(descending, key=lambda order: abs(order - PILOT))}
    best: dict[str, LinearStart] = {}
    ranked = {order: _ranked(order, starts, records, ended) for order in pilots}
    for candidates in ranked.values():
        best |= {start.name: start for _, start in candidates[:BEST_STARTS]}
    trials: list[SystemTrial] = []
    above: OutputErrorFit | None = None
    for order in descending:
        if trials and (order > _exact_order(above) or ended()):
            continue
        candidates = ranked.get(order) or _ranked(order, list(best.values()), records, ended)
        chosen = [(fit, start.name) for fit, start in candidates]
        if above is not None:
            chosen.append((fit_inputs(*truncated(above, order), records), "truncation"))
        chosen = [each for each in chosen if math.isfinite(each[0].squares)]
        if not chosen:
            continue
        chosen = sorted(chosen, key=lambda each: each[0].squares)[:followed]
        for steps in (FIRST_STEPS, more_steps):
            chosen = [
                (refine(fit, records, steps, settled=SETTLED, ended=ended), name)
                for fit, name in chosen
            ]
            chosen = sorted(chosen, key=lambda each: each[0].squares)[:1]
        above, name = chosen[0]
        trials.append(SystemTrial(above, name))
    return trials[::-1]


def _ranked(
    order: int,
    starts: Sequence[LinearStart],
    records: WeightedRecords,
    ended: Callable[[], bool],
) -> list[tuple[OutputErrorFit, LinearStart]]:
    """Fits from all starts, the best one first."""
    found: list[tuple[OutputErrorFit, LinearStart]] = []
    for start in starts:
        pair = stable_pair(start, order) if order <= start.largest else None
        if pair is not None:
            found.append((fit_inputs(*pair, records), start))
        if found and ended():
            break
    return sorted(found, key=lambda each: each[0].squares)


def _exact_order(fit: OutputErrorFit | None) -> float:
    """States that a fit without error may need, about; infinite with an error."""
    if fit is None or fit.error > EXACT:
        return math.inf
    values, _, _ = balanced(fit.system.A, fit.system.B, fit.system.C, BALANCED_ROWS)
    return 1 + int(np.sum(values > NOTHING * values[0]))


def truncated(fit: OutputErrorFit, order: int) -> tuple[Array, Array]:
    """(A, C) of the balanced truncation of a system."""
    system = fit.system
    _, T, inverse = balanced(system.A, system.B, system.C, BALANCED_ROWS)
    return inverse[:order] @ system.A @ T[:, :order], system.C @ T[:, :order]
