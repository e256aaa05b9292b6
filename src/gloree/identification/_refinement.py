"""Last stages: from starts to the network that is kept, fitted to all rows at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product, zip_longest
from operator import itemgetter

from gloree.engine import Subset
from gloree.identification._comparison import compare
from gloree.identification._linear import LinearFit, refit_linear
from gloree.identification._networks import nested_partitions, unit_biases, with_shared_states
from gloree.identification._nonlinearity import Nonlinearity, started, unless_explosive
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._search import History, Search, SearchEnd
from gloree.identification._split import FIRST_ROWS
from gloree.models import IORNN
from gloree.refinement import RefinementStatus

TRIAL_ROWS = 10_000  # rows on which starts are compared
TRIALS = ((10, 4), (3, 10))
"""Rounds of the comparison: how many of the best starts go on, and for how many steps."""

OF_A_KIND = 3  # starts of each number of units and of directions in the first round, at most

LOUDER = 1.3
"""Polynomials must not explode on inputs that are so many times those of the records."""

POLYNOMIAL_GAIN = 0.9
"""Polynomials are taken if their mean square error is below this share of that of bounded units,
where both compete: beyond the amplitudes of the records they may go anywhere."""

TRIAL_TIME = 0.4  # share of the time that these comparisons may take: a limit, as all are
LINEAR_STEPS = 30  # steps of a linear model that networks follow
LINEAR_TIME = 0.2  # share of the time for a linear model with a network to follow

MOST_STEPS = 120  # steps of the search for the whole network
FIRST_TIME = 0.6  # share of the time for the search on the first rows of many
LAST_STEPS = 8  # steps on all rows, after everything is chosen
LAST_TIME = 0.1  # share of the time that is kept for them

OPTIMISTIC = 3.0
"""Held-out errors so many times the training error, or more, are named."""


@dataclass(frozen=True)
class RankedStarts:
    """Starts of the refinement, the best one first, on the way already."""

    ends: tuple[SearchEnd, ...] = ()
    detail: str = ""


def rank_starts(search: Search, fit: LinearFit, found: Nonlinearity) -> RankedStarts:
    """Compare starts by their held-out errors after a few steps on few rows."""
    problem = search.problem
    rows = search.split.first_training(TRIAL_ROWS)
    enough = (1.0 - TRIAL_TIME) * search.budget.left()
    linear = fit.linear.shortened(FIRST_ROWS)
    kinds: list[list[tuple[float, IORNN]]] = [[] for _ in problem.settings.kinds]
    n_made = 0
    for q, directions, (made, unit) in product(
        found.unit_counts,
        found.directions[::-1],
        list(zip(kinds, problem.settings.kinds, strict=True)),
    ):
        if q < len(directions) or (n_made and search.budget.left() < enough):
            continue
        biases = unit_biases(q, n_directions=len(directions))
        alike = [
            (problem.error(start, rows), start)
            for seen, driven in nested_partitions(linear, directions)
            for model in unless_explosive(
                with_shared_states, linear, directions, unit, biases, seen, driven
            )
            for start in (started(fit, model),)
        ]
        made += sorted(alike, key=itemgetter(0))[:OF_A_KIND]
        n_made += len(alike)
    ends = _first_of_each_kind(kinds)
    for n_kept, n_steps in TRIALS:
        tried: list[SearchEnd] = []
        for end in ends[:n_kept]:
            if tried and search.budget.left() < enough:
                break
            tried.append(search.descend(end.model, rows, max_steps=n_steps))
        ends = sorted(tried, key=partial(_judged, search))
    if not ends or not math.isfinite(_judged(search, ends[0])):
        return RankedStarts()
    n_units = ends[0].model.n_hidden - fit.order
    detail = f"{n_made} made, {n_units} nonlinear units in the best"
    return RankedStarts(tuple(ends), detail)


def _first_of_each_kind(kinds: Sequence[Sequence[tuple[float, IORNN]]]) -> list[SearchEnd]:
    """Sound starts by their errors, those of several kinds of units in turns."""
    ranked = [
        sorted((pair for pair in made if math.isfinite(pair[0])), key=itemgetter(0))
        for made in kinds
    ]
    in_turns = [pair for turn in zip_longest(*ranked) for pair in turn if pair is not None]
    return [SearchEnd(model, held_out=error) for error, model in in_turns]


def _judged(search: Search, end: SearchEnd) -> float:
    """Error of a start; polynomials that are not bounded by far must be better by a margin.

    Infinite for polynomials that explode when the inputs are somewhat larger than in the records.
    """
    error = search.judged(end)
    if not search.problem.settings.auto or not _is_polynomial(end.model):
        return error
    louder = end.model.replace(
        input_weights=LOUDER * end.model.input_weights,
        direct_weights=None
        if end.model.direct_weights is None
        else LOUDER * end.model.direct_weights,
    )
    if not math.isfinite(search.problem.error(louder, search.split.everything)):
        return math.inf
    return error / POLYNOMIAL_GAIN


def _is_polynomial(model: IORNN) -> bool:
    """Whether any unit is a polynomial of degree two or more."""
    return any((unit.degree or 0) >= 2 for unit in getattr(model.activation, "units", ()))


@dataclass(frozen=True)
class RefinedLinear:
    """Linear model of least simulation error, and its held-out error."""

    end: SearchEnd
    error: float

    @property
    def model(self) -> IORNN:
        """The linear model."""
        return self.end.model

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.end.n_steps} steps, {self.end.status.value}"


def refine_linear(search: Search, fit: LinearFit) -> RefinedLinear:
    """Refine the linear model for a while, on the rows and by the measure of networks."""
    problem, split, budget = search.problem, search.split, search.budget
    rows, seconds = split.first_training(FIRST_ROWS), LINEAR_TIME * budget.left()
    start = split.starts.extended(fit.linear.model, fit.initial_states)
    end = search.descend(start, rows, max_steps=LINEAR_STEPS, max_seconds=seconds)
    return RefinedLinear(end, problem.error(end.model, split.held_out))


@dataclass(frozen=True)
class RefinedNetwork:
    """The network that is kept, and a linear one, both with columns for the starts of records.

    Errors, status and steps are those of the nonlinear network, whether it is kept or not.
    """

    model: IORNN
    linear: IORNN
    nonlinear: bool = False
    error: float = math.nan
    training_error: float = math.nan
    status: RefinementStatus | None = None
    n_steps: int = 0
    history: History = ()
    notes: tuple[str, ...] = ()
    n_independent: float = math.nan
    detail: str = ""


def refine_network(
    search: Search,
    fit: LinearFit,
    starts: RankedStarts,
    moments: Nonlinearity,
    linear: RefinedLinear,
) -> RefinedNetwork:
    """Refine on growing data; the linear model stays where nothing is gained over it."""
    problem, split, budget = search.problem, search.split, search.budget
    nothing = RefinedNetwork(linear.model, linear.model)
    notes: tuple[str, ...] = ()
    ends = starts.ends
    if not ends and moments.model.n_hidden > linear.model.n_hidden:
        notes = ("time was too short to compare starts: the network of moments alone was refined",)
        ends = (SearchEnd(started(fit, moments.model)),)
    if not ends:
        note = "no nonlinear unit could be started: the linear model was kept"
        return replace(nothing, notes=(note,))
    begin = budget.left()
    plan = [(split.training, LAST_TIME)]
    if split.training.n_counted > 1.5 * FIRST_ROWS:
        plan.insert(0, (split.first_training(FIRST_ROWS), 1.0 - FIRST_TIME))
    best, n_steps = ends[0], 0
    history: History = ()
    for rows, kept in plan:
        limit = budget.left() - kept * begin
        end = search.descend(best.model, rows, max_steps=MOST_STEPS, max_seconds=limit)
        n_steps, history = n_steps + end.n_steps, history + end.history
        best = end
    pair = (search.measured(best.model), search.measured(started(fit, moments.model)))
    model = min(pair, key=search.judged).model
    error = problem.error(model, split.held_out)
    training_error = problem.error(model, split.training)
    compared = compare(problem, split.held_out, linear.model, model)
    if not compared.is_certain:
        note = (
            f"the nonlinearity is not worth having: its gain over the linear model is within what "
            f"{compared.n_rows:,} held-out samples, as good as {compared.n_independent:,.0f} "
            f"independent ones, can tell, and the linear model was kept"
        )
        model, notes = linear.model, (*notes, note)
    detail = (
        f"{n_steps} steps, {best.status.value}, held-out {percent(error)}, better than linear by "
        f"{compared.gain / max(compared.error, 1e-300):.1f} standard errors"
    )
    return RefinedNetwork(
        model,
        linear.model,
        compared.is_certain,
        error,
        training_error,
        best.status,
        n_steps,
        history,
        notes,
        compared.n_independent,
        detail,
    )


@dataclass(frozen=True)
class Refitted:
    """The network and the linear model after some steps on all rows."""

    model: IORNN
    linear: IORNN
    detail: str


def refit(
    search: Search, network: RefinedNetwork, problem: IdentificationProblem, fit: LinearFit
) -> Refitted:
    """Fit what was chosen to all rows, held-out ones included, for a few steps.

    `problem` is the one that `fit` was made of.
    """
    rows = search.split.everything
    model = network.model
    if network.nonlinear:
        model = _on_all(search, model, rows, LAST_STEPS)
    found = refit_linear(problem, fit, None, search.budget)
    alone = search.split.starts.extended(found.linear.model, found.initial_states)
    linear = min(alone, network.linear, key=lambda each: search.problem.error(each, rows))
    if not network.nonlinear:
        model = linear
    return Refitted(model, linear, f"on all {rows.n_counted:,} rows that count")


def _on_all(search: Search, model: IORNN, rows: Subset, max_steps: int) -> IORNN:
    """Take steps on all rows; the model itself where these lead nowhere."""
    end = search.descend(model, rows, max_steps=max_steps, validate=False)
    before = search.problem.error(model, rows)
    return end.model if search.problem.error(end.model, rows) <= before else model
