"""Search of linear systems of several orders: starts that compete, and descents from the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    rows = sum(len(u) for u in records.u)
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
) -> list[SystemTrial]:
    """Best system of every order that starts support.

    From the largest order down: the balanced truncation of each is a start of the next.
    """
    trials: list[SystemTrial] = []
    above: OutputErrorFit | None = None
    for order in sorted(orders, reverse=True):
        candidates: list[tuple[OutputErrorFit, str]] = []
        for start in starts:
            pair = stable_pair(start, order) if order <= start.largest else None
            if pair is not None:
                candidates.append((fit_inputs(*pair, records), start.name))
            if ended() and candidates:
                break
        if above is not None:
            candidates.append((fit_inputs(*truncated(above, order), records), "truncation"))
        candidates = [each for each in candidates if math.isfinite(each[0].squares)]
        if not candidates:
            continue
        candidates.sort(key=lambda each: each[0].squares)
        chosen = candidates[:FOLLOWED]
        for steps, kept in ((FIRST_STEPS, 1), (MORE_STEPS, 1)):
            chosen = [
                (refine(fit, records, steps, settled=SETTLED, ended=ended), name)
                for fit, name in chosen
            ]
            chosen = sorted(chosen, key=lambda each: each[0].squares)[:kept]
        above, name = chosen[0]
        trials.append(SystemTrial(above, name))
        if ended():
            break
    return trials[::-1]


def truncated(fit: OutputErrorFit, order: int) -> tuple[Array, Array]:
    """(A, C) of the balanced truncation of a system."""
    system = fit.system
    _, T, inverse = balanced(system.A, system.B, system.C, 4000)
    return inverse[:order] @ system.A @ T[:, :order], system.C @ T[:, :order]
