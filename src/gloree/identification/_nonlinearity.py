"""Second stage: directions of the nonlinearities, and the network of moments alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gloree.identification._budget import Budget
from gloree.identification._comparison import compare
from gloree.identification._directions import NonlinearDirection, growing_directions, lag_tensors
from gloree.identification._linear import LinearFit
from gloree.identification._networks import Directions, unit_biases, with_copied_states
from gloree.identification._problem import IdentificationProblem, n_free_weights
from gloree.identification._starts import equilibria
from gloree.models import IORNN, ExplosionError

UNITS = (5, 3, 2, 1)
"""Numbers of nonlinear units that are tried where none is given, as far as the data allow."""

VALUES_PER_WEIGHT = 10  # training values that each weight needs for a number of units to be tried
PLENTY = 100
"""With so many training values for each weight the largest number of units is taken directly."""

MOST_DIRECTIONS = 2  # directions at most, where no number is given
ENOUGH = 0.2
"""A second direction is not sought if one lowers the held-out error of the linear model to this
share: the refinement can do the rest."""

DIRECTION_TIME = 0.2
"""Directions are sought for this share of the time: a limit, on a slow machine."""


@dataclass(frozen=True)
class Nonlinearity:
    """Directions for nonlinear units, and the network made from moments alone.

    `model` is the linear one where no other has a smaller held-out error. Each set of directions
    has one more than the set before it. Without `unit_counts` the data allow no unit.
    """

    model: IORNN
    directions: tuple[tuple[NonlinearDirection, ...], ...] = ()
    unit_counts: tuple[int, ...] = ()
    detail: str = ""


def find_nonlinearity(
    problem: IdentificationProblem, fit: LinearFit, budget: Budget
) -> Nonlinearity:
    """Find directions from moments of the residual, as many as lower the held-out error."""
    settings, split = problem.settings, fit.split
    enough = (1.0 - DIRECTION_TIME) * budget.left()
    counts = unit_counts(problem, fit)
    tensors = lag_tensors(fit.linear.entering, fit.linear.residual)
    growing = growing_directions(tensors, ended=lambda: budget.left() < enough)
    found = [next(islice(growing, (settings.n_directions or 1) - 1, None))]
    if not counts:
        detail = "too few samples for any nonlinear unit"
        return Nonlinearity(fit.linear.model, tuple(found), detail=detail)
    error, model = _best_cascade(problem, fit, found[-1], counts)
    linear_error = problem.error(started(fit, fit.linear.model), split.held_out)
    while settings.n_directions is None and len(found[-1]) < min(MOST_DIRECTIONS, counts[0]):
        if budget.left() < enough or error < ENOUGH * linear_error:
            break
        further = next(growing)
        trial = _best_cascade(problem, fit, further, counts)
        if not compare(
            problem, split.held_out, started(fit, model), started(fit, trial[1])
        ).is_certain:
            break
        error, model = trial
        found.append(further)
    model = fit.linear.model if error > linear_error else model
    second, third = found[-1][0].explained
    detail = (
        f"{len(found[-1])} direction(s) explain {second:.3f} and {third:.3f} of the second and "
        f"third moments"
    )
    return Nonlinearity(model, tuple(found), counts, detail)


def _best_cascade(
    problem: IdentificationProblem, fit: LinearFit, directions: Directions, counts: Sequence[int]
) -> tuple[float, IORNN]:
    """Held-out error and network of the best one without feedback, if there is any."""
    r, unit = len(directions), problem.settings.unit
    trials = [
        (problem.error(started(fit, model), fit.split.held_out), model)
        for biases in (unit_biases(q, n_directions=r) for q in counts[:2] if q >= r)
        for model in unless_explosive(with_copied_states, fit.linear, directions, unit, biases)
    ]
    return min(trials, key=lambda pair: pair[0], default=(math.inf, fit.linear.model))


def is_plenty(problem: IdentificationProblem, fit: LinearFit) -> bool:
    """Whether there are so many values for each weight that the larger size is taken directly."""
    records = problem.records
    n_values = fit.split.training.n_counted * records.n_outputs
    return bool(
        n_values
        >= PLENTY * n_free_weights(fit.order, UNITS[0], records.n_inputs, records.n_outputs)
    )


def unit_counts(problem: IdentificationProblem, fit: LinearFit) -> tuple[int, ...]:
    """Numbers of units to try, the largest one first."""
    if problem.settings.n_nonlinear is not None:
        return (problem.settings.n_nonlinear,)
    records = problem.records
    n_values = fit.split.training.n_counted * records.n_outputs
    least = problem.settings.n_directions or 1
    units = tuple(q for q in UNITS if q >= least) or (least,)
    sizes = [n_free_weights(fit.order, q, records.n_inputs, records.n_outputs) for q in units]
    if is_plenty(problem, fit):
        return units[:1]
    return tuple(
        q for q, size in zip(units, sizes, strict=True) if n_values >= VALUES_PER_WEIGHT * size
    )


def started(fit: LinearFit, model: IORNN) -> IORNN:
    """Network whose linear states start where those of the linear model do, the others at rest."""
    starts, order = fit.split.starts, fit.order
    if not starts.own:
        return starts.extended(model)
    at_rest = equilibria(model, starts.first_inputs)
    states = np.column_stack((fit.initial_states, at_rest[:, order:]))
    return starts.extended(model, states)


def unless_explosive(make: Callable[..., IORNN], *arguments: object) -> list[IORNN]:
    """Make a network; an empty list where its recurrence explodes."""
    try:
        return [make(*arguments)]
    except (ExplosionError, np.linalg.LinAlgError):
        return []
