"""Second stage: directions of the nonlinearities, and the network of moments alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gloree.engine import Clock
from gloree.identification._direction import NonlinearDirection, growing_directions
from gloree.identification._lag_tensors import lag_tensors
from gloree.identification._linear import LinearFit
from gloree.identification._networks import unit_biases, with_copied_states
from gloree.identification._problem import IdentificationProblem
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


@dataclass(frozen=True)
class Nonlinearity:
    """What nonlinear units may see, and the network of moments alone.

    `model` is the linear one where no other has a smaller held-out error. Each set of directions
    has one more than the set before it. No `unit_counts`: the data allow no unit.
    """

    model: IORNN
    directions: tuple[tuple[NonlinearDirection, ...], ...] = ()
    unit_counts: tuple[int, ...] = ()
    detail: str = ""

    @property
    def n_directions(self) -> int:
        """Directions of the largest set."""
        return len(self.directions[-1]) if self.directions else 0

    @property
    def explained(self) -> tuple[float, float]:
        """Shares of the residual's second and third moments that they explain."""
        return self.directions[-1][0].explained if self.directions else (math.nan, math.nan)


def find_nonlinearity(problem: IdentificationProblem, fit: LinearFit, clock: Clock) -> Nonlinearity:
    """Find directions from moments of the residual; one more while held-out data gain by it."""
    settings, split = problem.settings, fit.split
    until = clock() + DIRECTION_TIME * settings.max_seconds
    counts = unit_counts(problem, fit)
    growing = growing_directions(lag_tensors(fit.linear.entering, fit.linear.residual))
    found = [next(islice(growing, (settings.n_directions or 1) - 1, None))]
    if not counts:
        detail = "too few samples for any nonlinear unit"
        return Nonlinearity(fit.linear.model, tuple(found), detail=detail)
    error, model = _best_cascade(problem, fit, found[-1], counts)
    linear_error = problem.error(fit.linear.model, split.held_out)
    while settings.n_directions is None and len(found[-1]) < min(MOST_DIRECTIONS, counts[0]):
        if clock() > until or error < ENOUGH * linear_error:
            break
        further = next(growing)
        trial = _best_cascade(problem, fit, further, counts)
        if trial[0] > split.error_ratio * error:
            break
        error, model = trial
        found.append(further)
    second, third = found[-1][0].explained
    return Nonlinearity(
        fit.linear.model if error > linear_error else model,
        tuple(found),
        counts,
        f"{len(found[-1])} direction(s) explain {second:.3f} and {third:.3f} of the second and "
        f"third moments",
    )


def _best_cascade(
    problem: IdentificationProblem,
    fit: LinearFit,
    directions: Sequence[NonlinearDirection],
    counts: Sequence[int],
) -> tuple[float, IORNN]:
    """Network without feedback of least held-out error, if there is one."""
    r, unit = len(directions), problem.settings.unit
    trials = [
        (problem.error(model, fit.split.held_out), model)
        for q in counts[:2]
        if q >= r
        for model in unless_explosive(
            with_copied_states, fit.linear, directions, unit, unit_biases(q, n_directions=r)
        )
    ]
    return min(trials, key=lambda pair: pair[0], default=(math.inf, fit.linear.model))


def unit_counts(problem: IdentificationProblem, fit: LinearFit) -> tuple[int, ...]:
    """Numbers of units to try."""
    if problem.settings.n_nonlinear is not None:
        return (problem.settings.n_nonlinear,)
    rows = fit.split.training.n_counted
    least = problem.settings.n_directions or 1
    units = tuple(q for q in UNITS if q >= least) or (least,)
    n_weights = [(fit.order + q) * (fit.order + q + 3) for q in units]
    if rows >= PLENTY * n_weights[0]:
        return units[:1]
    pairs = zip(units, n_weights, strict=True)
    return tuple(q for q, size in pairs if rows >= ROWS_PER_WEIGHT * size)


def unless_explosive(make: Callable[..., IORNN], *arguments: object) -> list[IORNN]:
    """The network that is made, or nothing where its recurrence explodes."""
    try:
        return [make(*arguments)]
    except (ExplosionError, np.linalg.LinAlgError):
        return []
