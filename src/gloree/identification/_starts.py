"""Third stage: a small grid of starts, compared after a few steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from operator import itemgetter

from gloree.engine import Subset
from gloree.identification._descent import Search
from gloree.identification._direction import NonlinearDirection
from gloree.identification._linear import LinearFit
from gloree.identification._networks import (
    LinearModel,
    nested_partitions,
    unit_biases,
    with_shared_states,
)
from gloree.identification._nonlinearity import Nonlinearity, unless_explosive
from gloree.identification._problem import IdentificationProblem
from gloree.identification._split import FIRST_ROWS
from gloree.models import IORNN, ExplosionError

TRIAL_ROWS = 10_000
"""Rows on which starts are compared."""

TRIAL_STEPS = 6
"""Steps of the refinement after which they are."""

TRIAL_TIME = 0.2
"""Share of the time that these comparisons may take."""

KEPT = 3
"""Starts of each number of units and each set of directions that are refined for a few steps."""


@dataclass(frozen=True)
class RankedStarts:
    """Starts of the refinement, the best one first."""

    models: tuple[IORNN, ...] = ()
    detail: str = ""


def rank_starts(
    problem: IdentificationProblem, fit: LinearFit, found: Nonlinearity, search: Search
) -> RankedStarts:
    """Compare starts by their held-out errors after a few steps on few rows."""
    rows = fit.split.first_training(TRIAL_ROWS)
    until = search.clock() + TRIAL_TIME * problem.settings.max_seconds
    linear = fit.linear.shortened(FIRST_ROWS)
    candidates: list[tuple[float, IORNN]] = []
    for q, directions in product(found.unit_counts, found.directions[::-1]):
        if q < len(directions):
            continue
        made = [
            (problem.error(model, rows), model)
            for model in networks_of(problem, linear, directions, q)
        ]
        candidates += sorted(made, key=itemgetter(0))[:KEPT]
        if search.clock() > until:
            break
    models = tuple(descended(search, sorted(candidates, key=itemgetter(0)), rows, until))
    if not models:
        return RankedStarts()
    n_units = models[0].n_hidden - fit.order
    return RankedStarts(models, f"{len(models)} compared, {n_units} nonlinear units in the best")


def networks_of(
    problem: IdentificationProblem,
    linear: LinearModel,
    directions: tuple[NonlinearDirection, ...],
    n_units: int,
) -> Iterator[IORNN]:
    """Networks of so many units, one for each partition of the linear states."""
    biases = unit_biases(n_units, n_directions=len(directions))
    for seen, driven in nested_partitions(linear, directions):
        yield from unless_explosive(
            with_shared_states, linear, directions, problem.settings.unit, biases, seen, driven
        )


def descended(
    search: Search, candidates: list[tuple[float, IORNN]], rows: Subset, until: float
) -> list[IORNN]:
    """Networks after a few steps, as many as there is time for, the best one first."""
    ends: list[tuple[float, IORNN]] = []
    for error, model in candidates:
        if not math.isfinite(error) or (ends and search.clock() > until):
            continue
        try:
            end = search.descend(model, rows, max_steps=TRIAL_STEPS)
        except ExplosionError:
            continue
        ends.append((end.held_out, end.model))
    return [model for _, model in sorted(ends, key=itemgetter(0))]
