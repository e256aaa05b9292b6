"""Last stages: searches for least simulation error, from starts, linear model and whole network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from operator import itemgetter

import numpy as np

from gloree.engine import Clock, Subset
from gloree.identification._linear import LinearFit
from gloree.identification._networks import nested_partitions, unit_biases, with_shared_states
from gloree.identification._nonlinearity import Nonlinearity, unless_explosive
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._realisation import pulled_inside
from gloree.identification._records import FIRST_ROWS, RecordSplit
from gloree.models import IORNN, ExplosionError, Network
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    RefinementStatus,
    SquaredError,
    polynomial_powers,
)

TRIAL_ROWS, TRIAL_STEPS = 10_000, 6  # rows and steps of refinement on which starts are compared
TRIAL_TIME = 0.2  # share of the time that these comparisons may take
KEPT = 3
"""Starts of each number of units and each set of directions that are refined for a few steps."""

NEAR_OPTIMUM = 1e-9  # first damping where a linear model starts from least squares on its response
LINEAR_STEPS, LINEAR_SECONDS, LINEAR_TIME = 30, 5.0, 0.1
"""Limits on steps, seconds and share of the time for a linear model with a network to follow."""

MOST_STEPS = 400  # steps of each search for the whole network
FIRST_TIME = 0.45  # share of the time for the search on the first rows of many
LEAST_TIME = 0.2
"""Share of its time that must be left for one search to follow another on the same rows."""

History = tuple[tuple[float, float, float], ...]
"""Seconds since the identification began, error on the rows, and held-out error of each step."""


@dataclass(frozen=True)
class SearchEnd:
    """Outcome of a search; `held_out` is the mean square error there, summed over outputs."""

    model: IORNN
    status: RefinementStatus
    n_steps: int
    held_out: float
    history: History


@dataclass(frozen=True)
class Search:
    """Searches of one identification: the split of its records, its clock, and its progress bar."""

    problem: IdentificationProblem
    split: RecordSplit
    clock: Clock
    show: Callable[[str], None]

    def descend(
        self,
        model: IORNN,
        rows: Subset,
        *,
        max_steps: int,
        max_seconds: float = math.inf,
        validate: bool = True,
        damping: float = 1e-3,
    ) -> SearchEnd:
        """Run Levenberg-Marquardt; linear units keep no bias, and forget within the warm-up.

        Coefficients of polynomial units are free if the settings ask for it. The weights that are
        best on held-out data are kept; without `validate`, those of least error on `rows`.
        """
        sizes = model.n_inputs, model.n_hidden, model.n_outputs
        free_coefficients = self.problem.settings.free_coefficients
        powers = polynomial_powers(model.activation, model.n_hidden) if free_coefficients else ()
        layout = Layout(*sizes, direct=True, free_coefficients=powers)
        linear = model.linear_units
        free = np.ones(layout.size, dtype=bool)
        free[layout.indices["hidden_bias"][linear]] = False
        states = np.ix_(linear, linear)

        def stable(candidate: Network) -> Network:
            # refusing the step instead would let one pole at the limit stop all the others
            U = candidate.recurrent_weights.copy()
            block = U[states]
            inside = pulled_inside(block, self.split.radius)
            if inside is block:
                return candidate
            U[states] = inside
            return candidate.replace(recurrent_weights=U)

        def progress(step: int, loss: float, share: float) -> None:
            what = "held-out" if validate else "error"
            self.show(f"step {step}, {what} {percent(math.sqrt(2.0 * loss))}")

        solver = LevenbergMarquardt(max_steps, max_seconds, damping, free, stable, self.clock)
        begin, engine = self.clock(), self.problem.engine
        held_out = self.split.held_out if validate else None
        end = solver.minimise(
            SquaredError(), model, layout, engine, rows, held_out=held_out, progress=progress
        )
        assert isinstance(end.model, IORNN)
        size = float(np.sqrt(model.n_outputs))
        # losses are half the squared errors
        history = tuple(
            (begin + s.seconds, math.sqrt(2 * s.loss) / size, math.sqrt(2 * s.held_out) / size)
            for s in end.history
        )
        return SearchEnd(end.model, end.status, end.n_steps, 2.0 * end.final.held_out, history)


@dataclass(frozen=True)
class RankedStarts:
    """Starts of the refinement, the best one first."""

    models: tuple[IORNN, ...] = ()
    detail: str = ""


def rank_starts(search: Search, fit: LinearFit, found: Nonlinearity) -> RankedStarts:
    """Compare starts by their held-out errors after a few steps on few rows."""
    problem, unit = search.problem, search.problem.settings.unit
    rows = search.split.first_training(TRIAL_ROWS)
    until = search.clock() + TRIAL_TIME * problem.settings.max_seconds
    linear = fit.linear.shortened(FIRST_ROWS)
    candidates: list[tuple[float, IORNN]] = []
    for q, directions in product(found.unit_counts, found.directions[::-1]):
        if q < len(directions):
            continue
        biases = unit_biases(q, n_directions=len(directions))
        made = [
            (problem.error(model, rows), model)
            for seen, driven in nested_partitions(linear, directions)
            for model in unless_explosive(
                with_shared_states, linear, directions, unit, biases, seen, driven
            )
        ]
        candidates += sorted(made, key=itemgetter(0))[:KEPT]
        if search.clock() > until:
            break
    ends: list[tuple[float, IORNN]] = []
    for error, model in sorted(candidates, key=itemgetter(0)):
        if not math.isfinite(error) or (ends and search.clock() > until):
            continue
        try:
            end = search.descend(model, rows, max_steps=TRIAL_STEPS)
        except ExplosionError:
            continue
        ends.append((end.held_out, end.model))
    if not ends:
        return RankedStarts()
    models = tuple(model for _, model in sorted(ends, key=itemgetter(0)))
    n_units = models[0].n_hidden - fit.order
    return RankedStarts(models, f"{len(models)} compared, {n_units} nonlinear units in the best")


@dataclass(frozen=True)
class RefinedLinear:
    """Linear model of least simulation error; held-out errors of it and of moments alone."""

    end: SearchEnd
    error: float
    moments_error: float

    @property
    def model(self) -> IORNN:
        """The linear model."""
        return self.end.model

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.end.n_steps} steps, {self.end.status.value}"


def refine_linear(search: Search, fit: LinearFit, moments: Nonlinearity) -> RefinedLinear:
    """Refine the realisation: for a while, or to convergence on all rows if nothing follows."""
    problem, split = search.problem, search.split
    model, max_seconds = fit.linear.model, problem.settings.max_seconds
    if problem.settings.n_nonlinear == 0:
        # nothing remains to be compared on held-out rows
        rows = split.training.joined(split.held_out)
        seconds = max_seconds - search.clock()
        end = search.descend(
            model, rows, max_steps=200, max_seconds=seconds, validate=False, damping=NEAR_OPTIMUM
        )
    else:
        seconds = min(LINEAR_SECONDS, LINEAR_TIME * max_seconds)
        rows = split.first_training(FIRST_ROWS)
        end = search.descend(model, rows, max_steps=LINEAR_STEPS, max_seconds=seconds)
    error = problem.error(end.model, split.held_out)
    return RefinedLinear(end, error, problem.error(moments.model, split.held_out))


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
    history: History = ()
    notes: tuple[str, ...] = ()
    detail: str = ""


def refine_network(
    search: Search, starts: RankedStarts, moments: Nonlinearity, linear: RefinedLinear
) -> RefinedNetwork:
    """Refine on growing data; the linear model stays where nothing is gained over it."""
    problem, split, candidates = search.problem, search.split, starts.models
    seconds = problem.settings.max_seconds - search.clock()
    plan = [(split.training, seconds)]
    if split.training.n_counted > 1.5 * FIRST_ROWS:
        plan.insert(0, (split.first_training(FIRST_ROWS), FIRST_TIME * seconds))
    notes: tuple[str, ...] = ()
    if not candidates and moments.model.n_hidden > linear.model.n_hidden:
        notes = ("time was too short to compare starts: the network of moments alone was refined",)
        candidates = (moments.model,)
    if not candidates:
        note = "no nonlinear unit could be started: the linear model was kept"
        return RefinedNetwork(linear.model, notes=(note,))
    n_steps, status = 0, RefinementStatus.STEP_LIMIT
    history: History = ()
    for rows, seconds in plan:
        ends = search_from(search, candidates, rows, seconds)
        if not ends:
            break
        best = min(ends, key=lambda end: end.held_out)
        candidates, status = (best.model,), best.status
        n_steps += sum(end.n_steps for end in ends)
        history += tuple(step for end in ends for step in end.history)
    pair = (candidates[0], moments.model)
    model = min(pair, key=lambda each: problem.error(each, split.held_out))
    error = problem.error(model, split.held_out)
    training_error = problem.error(model, split.training)
    nonlinear = error <= split.error_ratio * linear.error
    if not nonlinear:
        note = (
            f"the nonlinearity is not worth having: its gain over the linear model is within what "
            f"{split.held_out.n_counted:,} held-out samples can tell, and the linear model was kept"
        )
        model, notes = linear.model, (*notes, note)
    detail = f"{n_steps} steps, {status.value}, held-out {percent(error)}"
    return RefinedNetwork(
        model, nonlinear, error, training_error, status, n_steps, history, notes, detail
    )


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
        ends.append(end)
    return ends
