"""Starts of networks from a linear model, compared after a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest

import numpy as np

from gloree.activations import Activation
from gloree.engine import Subset
from gloree.identification._budget import Budget
from gloree.identification._linear import LinearFit, memory_of
from gloree.identification._networks import nested_partitions, unit_biases, with_shared_states
from gloree.identification._nonlinearity import (
    MOST_DIRECTIONS,
    Nonlinearity,
    started,
    unless_explosive,
)
from gloree.identification._search import Search, SearchEnd
from gloree.identification._split import FIRST_ROWS
from gloree.sequences import Array

QUICK_MEMORIES = 2  # warm-up of quick searches, as a multiple of the memory of the linear model
TRIAL_ROWS = 10_000  # rows on which starts are compared
OF_A_KIND = 4  # starts of one number of units and directions that are compared
FIRST_TRIALS, FIRST_STEPS = 12, 4  # starts that take some steps, and how many
LAST_TRIALS, LAST_STEPS = 4, 52  # those that go on, and their steps together

FAR_BEHIND = 9.0
"""Starts with so many times the mean square error of the best are left."""

TRIAL_TIME = 0.4  # share of the time that these comparisons may take: a limit, as all are

POLYNOMIAL_UNITS = 2  # units that are polynomials of their own, at most, where kinds compete
LOUDER, LOUDER_ASKED = 2.0, 1.3
"""Polynomials must not explode on inputs that are so many times those of the records; the second
where they were asked for."""

POLYNOMIAL_GAIN = 0.9
"""Polynomials are taken if their mean square error is below this share of that of bounded units,
where both compete: beyond the amplitudes of the records they may go anywhere."""


@dataclass(frozen=True)
class Origin:
    """A linear model with its directions: what starts are made of.

    `quick` searches begin segments of short records by a warm-up, `search` runs them whole.
    """

    search: Search
    quick: Search
    fit: LinearFit
    moments: Nonlinearity

    @classmethod
    def of(cls, search: Search, fit: LinearFit, moments: Nonlinearity) -> Origin:
        """Origin whose quick searches cut short records into segments that run side by side."""
        memory = QUICK_MEMORIES * memory_of(fit.linear.model)
        slowest = float(np.abs(fit.system.poles).max())
        split = search.problem.split(memory, slowest, quick=True)
        long = fit.split.training.n_visited >= split.training.n_visited
        return cls(search, search if long else replace(search, split=split), fit, moments)


@dataclass(frozen=True)
class Start:
    """A network on its way, the error by which it is compared, and the number of its kind."""

    end: SearchEnd
    error: float
    kind: int


@dataclass(frozen=True)
class RankedStarts:
    """Starts of the refinement, the best one first."""

    starts: tuple[Start, ...] = ()
    detail: str = ""

    @property
    def finalists(self) -> tuple[Start, ...]:
        """Starts to be refined: those that have not fallen far behind."""
        return tuple(
            each for each in self.starts if each.error <= FAR_BEHIND * self.starts[0].error
        )


def rank_starts(origin: Origin, budget: Budget) -> RankedStarts:
    """Make starts of all kinds, and compare them on few rows, in two rounds of few steps."""
    enough = (1.0 - TRIAL_TIME) * budget.left()
    search = origin.quick
    rows = search.split.first_training(TRIAL_ROWS)
    kinds: list[list[Start]] = []
    n_made = 0
    for kind in range(len(search.problem.settings.kinds)):
        if n_made and budget.left() < enough:
            break
        made = _starts_of(origin, kind, rows, lambda: budget.left() < enough)
        n_made += len(made)
        kinds.append(made)
    in_turns = [start for turn in zip_longest(*kinds) for start in turn if start is not None]
    chosen = in_turns[:FIRST_TRIALS]
    # one start of a kind leaves nothing to choose but the kind
    last = LAST_STEPS // LAST_TRIALS if len(chosen) > len(kinds) else FIRST_STEPS
    for n_steps in (FIRST_STEPS, last):
        tried: list[Start] = []
        for start in chosen:
            if tried and budget.left() < enough:
                break
            seconds = budget.left() - enough
            end = search.descend(start.end.model, rows, max_steps=n_steps, max_seconds=seconds)
            tried.append(replace(start, end=end, error=judged_start(search, end)))
        chosen = _best_of_kinds(tried)
    chosen = [start for start in chosen if math.isfinite(start.error)]
    if not chosen:
        return RankedStarts()
    order = origin.fit.order
    n_units = chosen[0].end.model.n_hidden - order
    detail = f"{n_made} made, order {order} and {n_units} nonlinear unit(s) in the best"
    return RankedStarts(tuple(chosen), detail)


def _starts_of(origin: Origin, kind: int, rows: Subset, ended: Callable[[], bool]) -> list[Start]:
    """Starts with one kind of units, by their errors before any step; no more once it `ended`."""
    problem, fit, found = origin.search.problem, origin.fit, origin.moments
    unit, counts = problem.settings.kinds[kind], found.unit_counts
    if kind > 0:
        counts = tuple(sorted({min(q, POLYNOMIAL_UNITS) for q in counts}, reverse=True))
    linear = fit.linear.shortened(FIRST_ROWS)
    made: list[Start] = []
    for q, directions in product(counts, found.directions[::-1]):
        if q < len(directions):
            continue
        biases = unit_biases(q, n_directions=len(directions))
        parts = product(_with_signs(biases, len(directions)), nested_partitions(linear, directions))
        alike: list[Start] = []
        for signed, (seen, driven) in parts:
            if (made or alike) and ended():
                break
            given = (linear, directions, unit, signed, seen, driven)
            for plain in unless_explosive(with_shared_states, *given):
                model = started(fit, plain)
                start = Start(SearchEnd(model), problem.error(model, rows), kind)
                alike += [start] if math.isfinite(start.error) else []
        made += sorted(alike, key=lambda start: start.error)[:OF_A_KIND]
    return sorted(made, key=lambda start: start.error)


def _with_signs(biases: Array, n_directions: int) -> list[Array]:
    """Biases of both signs where a direction, whose own sign is a convention, has a single unit."""
    if biases.size > n_directions:
        return [biases]
    if n_directions > MOST_DIRECTIONS:
        return [biases, -biases]
    return [biases * signs for signs in product((1.0, -1.0), repeat=n_directions)]


def _best_of_kinds(starts: Sequence[Start]) -> list[Start]:
    """The best of every kind, and others up to a number in all; the best of all first."""
    ranked = sorted(starts, key=lambda start: start.error)
    firsts = {start.kind: start for start in reversed(ranked)}
    others = [start for start in ranked if firsts[start.kind] is not start]
    kept = [*firsts.values(), *others[: max(LAST_TRIALS - len(firsts), 0)]]
    return sorted(kept, key=lambda start: start.error)


def judged_start(search: Search, end: SearchEnd) -> float:
    """Error of a start; where kinds compete, polynomials must be better by a margin.

    Infinite for polynomials that explode when the inputs are somewhat larger than in the records,
    or when the records start from a state of zero.
    """
    error, model = search.judged(end), end.model
    if not _is_polynomial(model.activation):
        return error
    assert model.direct_weights is not None
    d = search.problem.records.n_inputs
    factor = LOUDER if search.problem.settings.auto else LOUDER_ASKED
    louder = model.replace(
        input_weights=factor * model.input_weights, direct_weights=factor * model.direct_weights
    )
    from_zero = model.input_weights.copy()
    from_zero[:, d:] = 0.0
    for changed in (louder, model.replace(input_weights=from_zero)):
        if not math.isfinite(search.problem.error(changed, search.split.everything)):
            return math.inf
    return error / POLYNOMIAL_GAIN if search.problem.settings.auto else error


def _is_polynomial(activation: Activation) -> bool:
    """Whether any unit is a polynomial of degree two or more."""
    return any((unit.degree or 0) >= 2 for unit in getattr(activation, "units", ()))
