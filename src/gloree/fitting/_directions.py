"""From units of unknown direction to a bidirectional network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree.diagnostics import DirectionWarning, Finding
from gloree.engine import Selection, Source
from gloree.fitting._inputs import InputSummary
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.recurrence import (
    Directions,
    TwoSidedFit,
    bidirectional_model,
    choose_directions,
    two_sided_spread,
    two_sided_sums,
)
from gloree.refinement import Iterate, Layout, Rounds, residual_round, start_rounds

MEMORYLESS_ROUNDS = 2
"""Residual rounds before directions are looked for: they sharpen A1 and A2, which are right
whatever the recurrence is."""

DIRECTION_WORK = 4e10
"""Rows of the regression on both neighbours, times the square of its unknowns, at most."""

FIRST_ROWS, DIRECTION_ROWS = 8_000, 50
"""Rows of that regression, and rows for each unknown, at least: so many are used first."""

CLEAR = 200.0
"""Margin of every unit from which these few rows are enough."""

DOUBTFUL = 30.0
"""Units whose margin is below this are tried the other way round."""

MOST_FLIPS = 3
"""Units that are tried the other way round, at most."""

SAME_INPUTS = 0.98
"""|cos| of the input weights of two units beyond which their directions cannot be told apart."""

RAISED = 1.1
"""Squared error with recurrences, over that without, beyond which they are left out. Units that see
their own side of the windows only may have a slightly larger one."""

CANCELLING = 1e8
"""Squares that the units add to the outputs one by one, over those of their sum, beyond which they
cancel but for rounding, and a regression on them says nothing."""

HEAD_ROWS = 10_000
"""Rows at the start of the data that tell the sizes of the inputs."""


@dataclass(frozen=True)
class DirectedStart:
    """Both chains of a bidirectional network, and rounds with its layout."""

    current: Iterate
    rounds: Rounds
    directions: Directions
    findings: tuple[Finding, ...]


def find_directions(
    problem: FitProblem,
    inputs: InputSummary,
    model: Network,
    rounds: Rounds,
    *,
    enough: float,
    undetermined: bool = False,
) -> DirectedStart:
    """Find the direction of every unit, and the recurrence of both chains.

    `model` and the layout of `rounds` hold no recurrence. Rounds without recurrence end when one
    gains less than the fraction `enough`. Units whose margin is small are tried the other way
    round, and those of undetermined direction if asked for: first and last steps may tell.
    """
    current, rounds = _without_memory(model, rounds, enough)
    findings = _shared_inputs(current.model)
    if problem.settings.recurrence is None:
        found = by_windows(problem, inputs, current.model)
    else:
        found = regress_both_sides(problem, inputs, current.model, rounds.layout, rounds.data)
        findings += _unknown(found)
    turned, both, grown = start_both_ways(problem, current, rounds, found)
    findings += grown
    fixed = problem.settings.n_forward is not None or problem.settings.recurrence is None
    for unit in [] if fixed else doubtful(found, undetermined=undetermined):
        forward = found.forward.copy()
        forward[unit] = not forward[unit]
        margin = np.where(np.arange(forward.size) == unit, -found.margin, found.margin)
        other = replace(found, forward=forward, margin=margin)
        candidate, its_rounds = run_both_ways(problem, current, rounds, other)
        if candidate.sums.total < turned.sums.total:
            found, turned, both = other, candidate, its_rounds
    return DirectedStart(turned, both, found.reordered(found.order), findings)


def _without_memory(model: Network, rounds: Rounds, enough: float) -> tuple[Iterate, Rounds]:
    """Residual rounds of units without recurrence, and the rounds to go on with."""
    current = start_rounds(rounds, model, sweeps=1)
    rounds = rounds.later()
    for _ in range(MEMORYLESS_ROUNDS):
        after = residual_round(rounds, current)
        if after is current:
            break
        before, current = current.sums.total, after
        if current.sums.total > (1 - enough) * before:
            break
    return current, rounds


def regress_both_sides(
    problem: FitProblem, inputs: InputSummary, model: Network, layout: Layout, some: Selection
) -> Directions:
    """Regress on both neighbours: on a few rows, and on many where these leave a doubt."""
    unknowns = 2 * model.n_hidden**2
    few = max(FIRST_ROWS, DIRECTION_ROWS * unknowns)
    many = min(int(DIRECTION_WORK / unknowns**2), problem.data.n_rows)
    found = _directions_from(problem, inputs, model, layout, some, few)
    clear = found.margin.min() >= CLEAR and not found.undetermined.any()
    if clear or many <= few:
        return found
    return _directions_from(problem, inputs, model, layout, some, many)


def _directions_from(
    problem: FitProblem,
    inputs: InputSummary,
    model: Network,
    layout: Layout,
    some: Selection,
    n_rows: int,
) -> Directions:
    """Two passes: the regression on both neighbours, and the spread of its score."""
    whole = inputs.inliers.n_visited
    if n_rows < problem.data.n_rows or isinstance(some, Source) or some.n_visited < whole:
        some = inputs.inliers.subset(n_rows, keep=True)
    bias, direct = layout.unit_bias, layout.direct
    function = partial(two_sided_sums, model=model, bias=bias, direct=direct)
    fit = TwoSidedFit.of(problem.engine.run(function, some, label="directions"), model)
    if not fit.cancellation <= CANCELLING:
        return Directions.unknown(model.n_hidden, problem.settings.n_forward)
    spread = problem.engine.run(
        partial(two_sided_spread, model=model, fit=fit, direct=direct), some, label="directions"
    )
    return choose_directions(fit, spread, n_forward=problem.settings.n_forward)


def by_windows(problem: FitProblem, inputs: InputSummary, model: Network) -> Directions:
    """Direction of units without recurrence: the side of the window that they see more of.

    The margin is the share of the past in the variance of z beside the present, less that of the
    future, in per cent.
    """
    k, lags = model.n_hidden, problem.settings.lags
    n_inputs = model.n_columns // (2 * lags - 1)
    std = problem.first_rows(HEAD_ROWS)[0].std(axis=0)
    if inputs.source.scale is not None:
        std = std * inputs.source.scale
    seen = (model.input_weights * np.tile(std, 2 * lags - 1)) ** 2
    past = seen[:, n_inputs : lags * n_inputs].sum(axis=1)
    future = seen[:, lags * n_inputs :].sum(axis=1)
    evidence = 100.0 * (past - future) / np.maximum(seen.sum(axis=1), 1e-300)
    forward = evidence >= 0
    if problem.settings.n_forward is not None:
        forward = np.zeros(k, dtype=bool)
        forward[np.argsort(-evidence, kind="stable")[: problem.settings.n_forward]] = True
    margin, undetermined = np.where(forward, evidence, -evidence), np.full(k, lags == 1)
    nothing = np.zeros((k, k))
    return Directions(forward, margin, undetermined, nothing, nothing, np.zeros(k))


def start_both_ways(
    problem: FitProblem, current: Iterate, rounds: Rounds, found: Directions
) -> tuple[Iterate, Rounds, tuple[Finding, ...]]:
    """Network of a partition, whose recurrences are left out where they raise the squared error."""
    turned, both = run_both_ways(problem, current, rounds, found)
    if turned.sums.total <= RAISED * current.sums.total:
        return turned, both, ()
    nothing = replace(found, past=0.0 * found.past, future=0.0 * found.future)
    idle, _ = run_both_ways(problem, current, rounds, nothing)
    if turned.sums.total <= idle.sums.total:
        return turned, both, ()
    finding = Finding(
        DirectionWarning,
        f"the recurrences that belong to the directions of the units raise the root mean square "
        f"residual from {idle.sums.rms:.3g} to {turned.sums.rms:.3g}, so the fit went on without",
        "the directions are not to be trusted: use more data or fewer units",
    )
    return idle, both, (finding,)


def run_both_ways(
    problem: FitProblem, current: Iterate, rounds: Rounds, found: Directions
) -> tuple[Iterate, Rounds]:
    """Network of a partition, after sweeps of its recurrences; halved until it does not explode."""
    turned = bidirectional_model(current.model, found, lags=problem.settings.lags)
    layout = replace(
        rounds.layout,
        recurrent=problem.settings.recurrence is not None,
        n_backward=turned.n_backward,
        lags=problem.settings.lags,
    )
    both = replace(rounds, layout=layout)
    for shrink in (1.0, 0.5, 0.25):
        start = turned.replace(recurrent_weights=shrink * turned.recurrent_weights)
        try:
            return _after(current, start_rounds(both, start)), both
        except ExplosionError:
            continue
    # a network without recurrence does not explode
    start = turned.replace(recurrent_weights=0.0 * turned.recurrent_weights)
    return _after(current, start_rounds(both, start)), both


def _after(before: Iterate, current: Iterate) -> Iterate:
    """Iterate with the history of what went before it."""
    return replace(current, history=before.history + current.history)


def doubtful(found: Directions, *, undetermined: bool = False) -> list[int]:
    """Units of small margin, the smallest first, `MOST_FLIPS` at most."""
    margin = np.where(found.undetermined, 0.0 if undetermined else np.inf, found.margin)
    doubts = [int(i) for i in np.argsort(margin, kind="stable") if margin[i] < DOUBTFUL]
    return doubts[:MOST_FLIPS]


def _unknown(found: Directions) -> tuple[Finding, ...]:
    """Units about whose directions nothing was found."""
    if found.margin.any() or not found.undetermined.all():
        return ()
    finding = Finding(
        DirectionWarning,
        "the hidden units cancel each other all but exactly, so nothing can be said about their "
        "directions, and they begin without recurrence",
        "use more data or fewer units, and look for steps of extreme size",
    )
    return (finding,)


def _shared_inputs(model: Network) -> tuple[Finding, ...]:
    """Pairs of units with the same inputs, whose directions cannot be told apart."""
    rows = model.input_weights
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0.0)
    i, j = np.unravel_index(int(np.argmax(np.abs(cosines))), cosines.shape)
    if abs(cosines[i, j]) <= SAME_INPUTS:
        return ()
    finding = Finding(
        DirectionWarning,
        f"units {i} and {j} have nearly the same input weights (cosine {cosines[i, j]:.3f}): "
        f"a forward and a backward unit with the same inputs cannot be told apart, so their "
        f"directions and output weights are not to be trusted",
    )
    return (finding,)
