"""Last stages: least simulation error of the linear model, then of the whole network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gloree.engine import Subset
from gloree.identification._descent import Search, SearchEnd
from gloree.identification._linear import LinearFit
from gloree.identification._nonlinearity import Nonlinearity
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._split import FIRST_ROWS, RecordSplit
from gloree.identification._starts import RankedStarts
from gloree.models import IORNN, ExplosionError
from gloree.refinement import RefinementStatus

NEAR_OPTIMUM = 1e-9
"""First damping of the refinement of a linear model that least squares on its response began."""

LINEAR_STEPS, LINEAR_SECONDS, LINEAR_TIME = 30, 5.0, 0.1
"""Steps, seconds and share of the time of the linear model that a nonlinear network follows."""

MOST_STEPS = 400
"""Steps of each search."""

FIRST_TIME = 0.45
"""Share of the time for the search on the first rows of many."""

LEAST_TIME = 0.2
"""Share of its time that must be left where one search follows another on the same rows."""


@dataclass(frozen=True)
class RefinedLinear:
    """Linear model of least simulation error; held-out errors of it and of moments alone."""

    model: IORNN
    error: float
    moments_error: float
    end: SearchEnd

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.end.n_steps} steps, {self.end.status.value}"


@dataclass(frozen=True)
class RefinedNetwork:
    """The network that is kept.

    Errors, status and steps are those of the nonlinear network, whether it is kept or not.
    """

    model: IORNN
    nonlinear: bool = False
    error: float = math.nan
    training_error: float = math.nan
    status: RefinementStatus | None = None
    n_steps: int = 0
    history: tuple[tuple[float, float, float], ...] = ()
    notes: tuple[str, ...] = ()
    detail: str = ""


def refine_linear(
    problem: IdentificationProblem, fit: LinearFit, moments: Nonlinearity, search: Search
) -> RefinedLinear:
    """Refine the realisation: for a while, or to convergence on all rows if nothing follows."""
    split = fit.split
    if problem.settings.n_nonlinear == 0:
        # nothing is left to be compared on held-out rows
        end = search.descend(
            fit.linear.model,
            split.training.joined(split.held_out),
            validate=False,
            max_steps=200,
            max_seconds=problem.settings.max_seconds - search.clock(),
            damping=NEAR_OPTIMUM,
        )
    else:
        seconds = min(LINEAR_SECONDS, LINEAR_TIME * problem.settings.max_seconds)
        rows = split.first_training(FIRST_ROWS)
        end = search.descend(fit.linear.model, rows, max_steps=LINEAR_STEPS, max_seconds=seconds)
    error = problem.error(end.model, split.held_out)
    return RefinedLinear(end.model, error, problem.error(moments.model, split.held_out), end)


def keep_linear(linear: RefinedLinear) -> RefinedNetwork:
    """The linear model, where no other was asked for."""
    return RefinedNetwork(linear.model, status=linear.end.status, n_steps=linear.end.n_steps)


def refine_network(
    problem: IdentificationProblem,
    starts: RankedStarts,
    moments: Nonlinearity,
    linear: RefinedLinear,
    search: Search,
) -> RefinedNetwork:
    """Refine on growing data; the linear model stays where nothing is gained over it."""
    split = search.split
    plan = refinement_plan(split, problem.settings.max_seconds - search.clock())
    candidates = starts.models
    notes: tuple[str, ...] = ()
    if not candidates and moments.model.n_hidden > linear.model.n_hidden:
        notes = ("time was too short to compare starts: the network of moments alone was refined",)
        candidates = (moments.model,)
    if not candidates:
        note = "no nonlinear unit could be started: the linear model was kept"
        return RefinedNetwork(linear.model, notes=(note,))
    every_end: list[SearchEnd] = []
    status = RefinementStatus.STEP_LIMIT
    for rows, seconds in plan:
        ends = search_from(search, candidates, rows, seconds)
        if not ends:
            break
        best = min(ends, key=lambda end: end.held_out)
        candidates, status = (best.model,), best.status
        every_end += ends
    model = min(
        (candidates[0], moments.model), key=lambda each: problem.error(each, split.held_out)
    )
    error = problem.error(model, split.held_out)
    training_error = problem.error(model, split.training)
    nonlinear = error <= split.error_ratio * linear.error
    if not nonlinear:
        model, notes = linear.model, (*notes, _no_gain(split))
    n_steps = sum(end.n_steps for end in every_end)
    return RefinedNetwork(
        model,
        nonlinear,
        error,
        training_error,
        status,
        n_steps,
        tuple(row for end in every_end for row in end.history),
        notes,
        f"{n_steps} steps, {status.value}, held-out {percent(error)}",
    )


def refinement_plan(split: RecordSplit, seconds: float) -> list[tuple[Subset, float]]:
    """Rows and seconds of each search."""
    if split.training.n_counted <= 1.5 * FIRST_ROWS:
        return [(split.training, seconds)]
    return [
        (split.first_training(FIRST_ROWS), FIRST_TIME * seconds),
        (split.training, seconds),
    ]


def search_from(
    search: Search, candidates: tuple[IORNN, ...], rows: Subset, seconds: float
) -> list[SearchEnd]:
    """Search from one start after another: one that settles early leaves time for the next."""
    until = min(search.clock() + seconds, search.problem.settings.max_seconds)
    ends: list[SearchEnd] = []
    for candidate in candidates:
        begin = search.clock()
        if ends and until - begin < LEAST_TIME * seconds:
            break
        try:
            end = search.descend(candidate, rows, max_steps=MOST_STEPS, max_seconds=until - begin)
        except ExplosionError:
            # it was sound on the rows that it was made on, not on these
            continue
        history = tuple((begin + t, error, held_out) for t, error, held_out in end.history)
        ends.append(replace(end, history=history))
    return ends


def _no_gain(split: RecordSplit) -> str:
    return (
        f"the nonlinearity is not worth having: its gain over the linear model is within what "
        f"{split.held_out.n_counted:,} held-out samples can tell, and the linear model was kept"
    )
