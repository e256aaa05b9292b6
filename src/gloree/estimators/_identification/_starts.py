"""Third stage: a small grid of starts, compared after a few steps."""

from __future__ import annotations

import math
from itertools import product

from gloree.estimators._identification._descent import descend
from gloree.estimators._identification._nonlinear import safely
from gloree.estimators._identification._state import STRETCH, Identification
from gloree.identification import (
    LinearModel,
    NonlinearDirection,
    nested_partitions,
    unit_biases,
    with_shared_states,
)
from gloree.models import IORNN, ExplosionError

TRIAL_ROWS = 10_000
"""Rows on which starts are compared."""

TRIAL_STEPS = 6
"""Steps of the refinement after which they are."""

TRIAL_TIME = 0.2
"""Share of the time that these comparisons may take."""


def starts_stage(
    fit: Identification,
    linear: LinearModel,
    found: list[tuple[NonlinearDirection, ...]],
    counts: list[int],
) -> list[IORNN]:
    """Starts of the refinement, the best one first."""
    with fit.stage("starts") as detail:
        starts = ranked_starts(fit, linear.shortened(STRETCH), found, counts)
        if starts:
            n_units = starts[0].n_hidden - linear.realisation.order
            detail.append(f"{len(starts)} compared, {n_units} nonlinear units in the best")
    return starts


def ranked_starts(
    fit: Identification,
    linear: LinearModel,
    found: list[tuple[NonlinearDirection, ...]],
    counts: list[int],
) -> list[IORNN]:
    """Small grid of starts, in the order of their errors after a few steps on a short stretch."""
    unit = fit.settings.unit
    short = fit.stretch(TRIAL_ROWS)
    until = fit.clock() + TRIAL_TIME * fit.settings.max_seconds
    candidates: list[tuple[float, IORNN]] = []
    for q, directions in product(counts, found[::-1]):
        if q < len(directions):
            continue
        biases = unit_biases(q, n_directions=len(directions))
        made = []
        for seen, driven in nested_partitions(linear, directions):
            for model in safely(with_shared_states, linear, directions, unit, biases, seen, driven):
                made.append((fit.error(model, short), model))
        candidates += sorted(made, key=lambda pair: pair[0])[:3]
        if fit.clock() > until:
            break
    results: list[tuple[float, IORNN]] = []
    for error, model in sorted(candidates, key=lambda pair: pair[0]):
        if not math.isfinite(error) or (results and fit.clock() > until):
            continue
        try:
            end = descend(fit, model, short, max_steps=TRIAL_STEPS)
        except ExplosionError:
            continue
        assert isinstance(end.model, IORNN)
        results.append((end.final.held_out, end.model))
    return [model for _, model in sorted(results, key=lambda pair: pair[0])]
