"""Last stages: from starts to the network that is kept, fitted to all rows at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gloree.engine import Subset
from gloree.identification._cross_comparison import CROSS_ROWS
from gloree.identification._forgetting import is_lost
from gloree.identification._linear import LinearFit, refit_linear
from gloree.identification._nonlinearity import started
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._ranking import Origin, RankedStarts, Start, judged_start
from gloree.identification._search import History, Search, SearchEnd
from gloree.identification._split import FIRST_ROWS
from gloree.identification._verdict import judge_network
from gloree.models import IORNN
from gloree.refinement import RefinementStatus

LINEAR_STEPS = 30  # steps of a linear model that networks follow
LINEAR_TIME = 0.2  # share of the time for a linear model with a network to follow
WHOLE_TIME = 0.05  # of the time for the linear model of all rows, before networks are tried

ROUND_STEPS = 15  # steps of starts in each round of their comparison
COMPARE_TIME = 0.4  # share of the time for that, at most
SECOND_TIME = 0.5  # share of the time that is left for the second best, where the best has settled
MOST_STEPS = 120  # steps of the search for the whole network
WHOLE_STEPS = 40  # steps on short records as a whole, after quick ones
FIRST_TIME = 0.6  # share of the time for the search on the first rows of many
LAST_STEPS = 8  # steps on all rows, after everything is chosen
LAST_TIME = 0.1  # share of the time that is kept for them
CROSS_TIME = 0.25  # the same of records on which networks are cross-validated


@dataclass(frozen=True)
class RefinedLinear:
    """Linear model of least simulation error on training rows, and its held-out error.

    `whole` is the linear model of all rows, which is kept where no network is worth having: it is
    made before any network, so that it is there when the time is up.
    """

    end: SearchEnd
    error: float
    whole: LinearFit

    @property
    def model(self) -> IORNN:
        """The linear model."""
        return self.end.model

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.end.n_steps} steps, {self.end.status.value}"


def refine_linear(search: Search, fit: LinearFit, given: IdentificationProblem) -> RefinedLinear:
    """Refine the linear model for a while, on the rows and by the measure of networks.

    The one of all rows is refined first. `given` is the problem that `fit` was made of.
    """
    problem, split, budget = search.problem, search.split, search.budget
    whole = refit_linear(given, fit, budget, WHOLE_TIME)
    rows, seconds = split.first_training(FIRST_ROWS), LINEAR_TIME * budget.left()
    start = split.starts.extended(fit.linear.model, fit.initial_states)
    end = search.descend(start, rows, max_steps=LINEAR_STEPS, max_seconds=seconds)
    return RefinedLinear(end, problem.error(end.model, split.held_out), whole)


@dataclass(frozen=True)
class RefinedNetwork:
    """The network that is kept, and a linear one, both with columns for the starts of records.

    Errors, status and steps are those of the nonlinear network, whether it is kept or not. `whole`
    is the nonlinear one after steps on all rows, where they were taken to compare it.
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
    detail: str = ""
    whole: IORNN | None = None


def refine_network(origin: Origin, starts: RankedStarts, linear: RefinedLinear) -> RefinedNetwork:
    """Refine on growing data; the linear model stays where nothing is gained over it.

    The starts that are left are refined on the first rows, and the best of them on all training
    rows.
    """
    search = origin.search
    problem, split, budget = search.problem, search.split, search.budget
    finalists = starts.finalists
    notes: tuple[str, ...] = ()
    if not finalists:
        if origin.moments.model.n_hidden == linear.model.n_hidden:
            note = "no nonlinear unit could be started: the linear model was kept"
            return RefinedNetwork(linear.model, linear.model, notes=(note,))
        what = "no start was sound, on inputs a little larger than these too"
        if budget.ran_out:
            what = "time was too short to compare starts"
        if budget.interrupted:
            what = "the fit was interrupted before starts had been compared"
        notes = (f"{what}: the network of moments alone was refined",)
        end = SearchEnd(started(origin.fit, origin.moments.model))
        finalists = (Start(end, math.inf, 0),)
    begin = budget.left()
    many = split.training.n_counted > 1.5 * FIRST_ROWS
    long = many or origin.quick is not search
    last = CROSS_TIME if problem.records.n_rows <= CROSS_ROWS else LAST_TIME
    kept = 1.0 - FIRST_TIME if long else last
    best, ends = _compete(origin.quick, finalists, many, kept * begin)
    end = best.end
    candidates = [end.model, started(origin.fit, origin.moments.model)]
    if long:
        limit = budget.left() - last * begin
        rows = search.split.training
        max_steps = MOST_STEPS if many else WHOLE_STEPS
        end = search.descend(end.model, rows, max_steps=max_steps, max_seconds=limit)
        ends.append(end)
        candidates.insert(0, end.model)
    errors = [judged_start(search, search.measured(each)) for each in candidates]
    least = min(errors)
    model, status = candidates[errors.index(least)], end.status
    if lost := is_lost(problem, model, linear.model):
        for i in sorted(range(len(errors)), key=errors.__getitem__):
            if math.isfinite(errors[i]) and not is_lost(problem, candidates[i], linear.model):
                model, lost = candidates[i], False
                break
    n_steps = sum(each.n_steps for each in ends)
    history: History = tuple(step for each in ends for step in each.history)
    found = judge_network(search, linear.model, model, sound=math.isfinite(least), lost=lost)
    if found.note:
        model, notes = linear.model, (*notes, found.note)
    detail = (
        f"{n_steps} steps, {status.value}, held-out {percent(found.error)}, better than linear by "
        f"{found.standard_errors:.1f} standard errors"
    )
    return RefinedNetwork(
        model,
        linear.model,
        not found.note,
        found.error,
        found.training_error,
        status,
        n_steps,
        history,
        notes,
        detail,
        found.whole,
    )


def _compete(
    search: Search, finalists: Sequence[Start], many: bool, spare: float
) -> tuple[Start, list[SearchEnd]]:
    """Refine starts for some steps, the better half for as many more, and the best to its end.

    A few steps do not tell which of them ends best: where one settles early the second goes on as
    well, and where polynomials explode in the end, the next. Seconds to `spare` are left. Returns
    the best, and the ends of all searches.
    """
    tried: list[Start] = []
    budget = search.budget
    rows = search.split.first_training(FIRST_ROWS) if many else search.split.training
    until = budget.left() - COMPARE_TIME * (budget.left() - spare)

    def refined(start: Start, max_steps: int, seconds: float) -> Start:
        end = search.descend(start.end.model, rows, max_steps=max_steps, max_seconds=seconds)
        tried.append(replace(start, end=end, error=judged_start(search, end)))
        return tried[-1]

    runners, waiting = list(finalists), list[Start]()
    while len(runners) > 1 and budget.left() > until:
        turns = zip(runners, range(len(runners), 0, -1), strict=True)
        runners = [refined(each, ROUND_STEPS, (budget.left() - until) / n) for each, n in turns]
        runners.sort(key=lambda start: start.error)
        half = (len(runners) + 1) // 2
        runners, waiting = runners[:half], runners[half:] + waiting
    n_sound = 0
    for start in runners + waiting:
        if n_sound and budget.left() <= spare:
            break
        share = SECOND_TIME if n_sound else 1.0
        found = refined(start, MOST_STEPS, share * (budget.left() - spare))
        n_sound += math.isfinite(found.error)
        if n_sound == 2:
            break
    return min(tried, key=lambda start: start.error), [start.end for start in tried]


@dataclass(frozen=True)
class Refitted:
    """The network and the linear model after some steps on all rows."""

    model: IORNN
    linear: IORNN
    detail: str


def refit(
    search: Search, network: RefinedNetwork, problem: IdentificationProblem, found: LinearFit
) -> Refitted:
    """Fit what was chosen to all rows, held-out ones included, for a few steps.

    `found` is the linear model of all rows, and `problem` the one that it was made of.
    """
    rows = search.split.everything
    model = network.model
    if network.nonlinear:
        model = network.whole or _on_all(search, model, rows, LAST_STEPS)
    if found.end.status is RefinementStatus.TIME_LIMIT:
        found = refit_linear(problem, found, search.budget)
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
