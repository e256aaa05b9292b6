"""Second stage: directions of the nonlinearities, and the network of moments alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from gloree.estimators._identification._state import Identification
from gloree.identification import (
    LinearModel,
    NonlinearDirection,
    growing_directions,
    lag_tensors,
    unit_biases,
    with_copied_states,
)
from gloree.models import IORNN, ExplosionError

UNITS = (5, 3, 2, 1)
"""Numbers of nonlinear units that are tried where none is given, as far as the data allow."""

ROWS_PER_WEIGHT = 10
"""Rows for each weight that a number of units must have."""

PLENTY = 100
"""Rows for each weight from which the largest number of units is taken without comparing."""

MOST_DIRECTIONS = 2
"""Directions that nonlinearities see, at most, where no number is given."""

ENOUGH = 0.2
"""Held-out error of one direction, over that of the linear model, below which no second one is
looked for: the refinement does the rest."""

DIRECTION_TIME = 0.1
"""Share of the time from which the search of one direction leaves none for that of more."""


def nonlinear_stage(
    fit: Identification, linear: LinearModel
) -> tuple[IORNN, list[tuple[NonlinearDirection, ...]], list[int]]:
    """Directions of the nonlinearities, and the network of moments alone.

    Returns
    -------
    moments : IORNN
        The linear model where no nonlinear network has a smaller held-out error.
    found : list of tuple of NonlinearDirection
        Sets of directions, each with one more than the set before it.
    counts : list of int
        Numbers of units to try; empty where the data allow none.
    """
    settings, report = fit.settings, fit.report
    with fit.stage("nonlinearity") as detail:
        until = fit.clock() + DIRECTION_TIME * settings.max_seconds
        counts = _unit_counts(fit, linear.realisation.order)
        growing = growing_directions(lag_tensors(linear.entering, linear.residual))
        r = settings.n_directions or 1
        directions = next(islice(growing, r - 1, None))
        report.explained, report.n_directions = directions[0].explained, r
        found = [directions]
        if not counts:
            detail.append("too few samples for any nonlinear unit")
            return linear.model, found, counts
        error, moments = _best_copied(fit, linear, directions, counts)
        linear_error = fit.error(linear.model, fit.held_out)
        while settings.n_directions is None and r < min(MOST_DIRECTIONS, counts[0]):
            if fit.clock() > until or error < ENOUGH * linear_error:
                break
            further = next(growing)
            trial = _best_copied(fit, linear, further, counts)
            if trial[0] > fit.worth * error:
                break
            (error, moments), r = trial, r + 1
            found.append(further)
            report.explained, report.n_directions = further[0].explained, r
        if error > linear_error:
            moments = linear.model
        detail.append(
            f"{r} direction(s) explain {report.explained[0]:.3f} and "
            f"{report.explained[1]:.3f} of the second and third moments"
        )
    return moments, found, counts


def _best_copied(
    fit: Identification,
    linear: LinearModel,
    directions: Sequence[NonlinearDirection],
    counts: list[int],
) -> tuple[float, IORNN]:
    """Network with copied states of least held-out error, if one is sound."""
    r, unit = len(directions), fit.settings.unit
    trials = [
        (fit.error(model, fit.held_out), model)
        for q in counts[:2]
        if q >= r
        for model in safely(
            with_copied_states, linear, directions, unit, unit_biases(q, n_directions=r)
        )
    ]
    return min(trials, key=lambda pair: pair[0], default=(math.inf, linear.model))


def _unit_counts(fit: Identification, order: int) -> list[int]:
    """Numbers of units to try."""
    if fit.settings.n_nonlinear is not None:
        return [fit.settings.n_nonlinear]
    rows = fit.training.n_counted
    least = fit.settings.n_directions or 1
    units = [q for q in UNITS if q >= least] or [least]
    weights = [(order + q) * (order + q + 3) for q in units]
    if rows >= PLENTY * weights[0]:
        return units[:1]
    return [q for q, size in zip(units, weights, strict=True) if rows >= ROWS_PER_WEIGHT * size]


def safely(make: Any, *arguments: Any) -> list[IORNN]:
    """The network of a start, or nothing where its recurrence explodes."""
    try:
        return [make(*arguments)]
    except (ExplosionError, np.linalg.LinAlgError):
        return []
