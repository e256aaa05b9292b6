"""From units of unknown direction to a bidirectional network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gloree.diagnostics import DirectionWarning
from gloree.estimators._state import State
from gloree.models import BRNN, IORNN, ExplosionError, Network
from gloree.recurrence import (
    Directions,
    TwoSidedFit,
    bidirectional_model,
    choose_directions,
    two_sided_spread,
    two_sided_sums,
)
from gloree.refinement import Rounds, RoundSums
from gloree.sequences import Array

MEMORYLESS_ROUNDS = 2
"""Residual rounds before directions are looked for: they sharpen A1 and A2, which are right
whatever the recurrence is."""

DIRECTION_WORK = 4e10
"""Rows of the regression on both neighbours, times the square of its unknowns, at most."""

FIRST_ROWS, DIRECTION_ROWS = 8_000, 50
"""Rows of that regression, and rows for each unknown, at least: that many are looked at first."""

CLEAR = 200.0
"""Margin of every unit from which these few rows are enough."""

DOUBTFUL = 30.0
"""Units whose margin is below this are tried the other way round."""

SAME_INPUTS = 0.98
"""|cos| of the input weights of two units beyond which their directions cannot be told apart."""


def turn_bidirectional(
    state: State, model: Network, rounds: Rounds, *, enough: float
) -> tuple[Network, RoundSums]:
    """Find the direction of every unit, and the recurrence of both chains."""
    model, sums = rounds.start(model, sweeps=1)
    for _ in range(MEMORYLESS_ROUNDS):
        before = float(sums.squares.sum())
        updated, sums = rounds.round(model, sums)
        if updated is model:
            break
        model = updated
        if float(sums.squares.sum()) > (1 - enough) * before:
            break
    assert isinstance(model, IORNN)
    if state.settings.recurrence is None:
        found = by_windows(state, model)
    else:
        found = regress_both_sides(state, model, rounds)
    warn_of_doubts(state, model)
    turned, sums = run_both_ways(state, model, rounds, found)
    fixed = state.settings.n_forward is not None or state.settings.recurrence is None
    for unit in [] if fixed else doubtful(found):
        forward = found.forward.copy()
        forward[unit] = not forward[unit]
        margin = np.where(np.arange(forward.size) == unit, -found.margin, found.margin)
        other = replace(found, forward=forward, margin=margin)
        candidate, after = run_both_ways(state, model, rounds, other)
        if float(after.squares.sum()) < float(sums.squares.sum()):
            found, turned, sums = other, candidate, after
    state.report.directions = found.reordered(found.order)
    rounds.settings = replace(
        rounds.settings, layout=replace(rounds.settings.layout, n_backward=turned.n_backward)
    )
    return turned, sums


def regress_both_sides(state: State, model: IORNN, rounds: Rounds) -> Directions:
    """Regress on both neighbours: on a few rows, and on many where these leave a doubt."""
    unknowns = 2 * model.n_hidden**2
    few = max(FIRST_ROWS, DIRECTION_ROWS * unknowns)
    many = min(int(DIRECTION_WORK / unknowns**2), state.data.n_rows)
    found = directions_from(state, model, rounds, few)
    clear = found.margin.min() >= CLEAR and not found.undetermined.any()
    return found if clear or many <= few else directions_from(state, model, rounds, many)


def directions_from(state: State, model: IORNN, rounds: Rounds, n_rows: int) -> Directions:
    """Two passes: the regression on both neighbours, and the spread of its score."""
    engine, some = state.settings.engine, state.subset(n_rows)
    bias, direct = rounds.settings.layout.unit_bias, rounds.settings.layout.direct
    sums = engine.run(
        partial(two_sided_sums, model=model, bias=bias, direct=direct),
        some,
        label="directions",
    )
    fit = TwoSidedFit.of(sums, model)
    spread = engine.run(
        partial(two_sided_spread, model=model, fit=fit, direct=direct),
        some,
        label="directions",
    )
    return choose_directions(fit, spread, n_forward=state.settings.n_forward)


def by_windows(state: State, model: IORNN) -> Directions:
    """Direction of units without recurrence: the side of the window that they see more of.

    The margin is the share of the past in the variance of z beside the present, less that of the
    future, in per cent.
    """
    k, lags = model.n_hidden, state.settings.lags
    n_inputs = model.n_columns // (2 * lags - 1)
    std = state.first_rows(10_000)[0].std(axis=0)
    seen = (model.input_weights * np.tile(std, 2 * lags - 1)) ** 2
    past = seen[:, n_inputs : lags * n_inputs].sum(axis=1)
    future = seen[:, lags * n_inputs :].sum(axis=1)
    evidence = 100.0 * (past - future) / np.maximum(seen.sum(axis=1), 1e-300)
    forward = evidence >= 0
    if state.settings.n_forward is not None:
        forward = np.zeros(k, dtype=bool)
        forward[np.argsort(-evidence, kind="stable")[: state.settings.n_forward]] = True
    nothing = np.zeros((k, k))
    return Directions(
        forward,
        np.where(forward, evidence, -evidence),
        np.full(k, lags == 1),
        nothing,
        nothing,
        np.zeros(k),
    )


def run_both_ways(
    state: State, model: IORNN, rounds: Rounds, found: Directions
) -> tuple[BRNN, RoundSums]:
    """Network of a partition, after sweeps of its recurrences; halved until it does not explode."""
    turned = bidirectional_model(model, found, lags=state.settings.lags)
    layout = replace(
        rounds.settings.layout,
        recurrent=state.settings.recurrence is not None,
        n_backward=turned.n_backward,
        lags=state.settings.lags,
    )
    rounds.settings = replace(rounds.settings, layout=layout)
    for shrink in (1.0, 0.5, 0.25, 0.0):
        start = turned.replace(recurrent_weights=shrink * turned.recurrent_weights)
        try:
            result, sums = rounds.start(start)
        except ExplosionError:
            continue
        assert isinstance(result, BRNN)
        return result, sums
    raise AssertionError("unreachable: a network without recurrence does not explode")


def doubtful(found: Directions) -> list[int]:
    """Up to three units of small margin, the smallest first."""
    order = np.argsort(found.margin)
    return [int(i) for i in order if found.margin[i] < DOUBTFUL and not found.undetermined[i]][:3]


def warn_of_doubts(state: State, model: IORNN) -> None:
    """Warn of pairs of units with the same inputs, whose directions cannot be told apart."""
    cosines = _cosines(model.input_weights)
    i, j = np.unravel_index(int(np.argmax(np.abs(cosines))), cosines.shape)
    if abs(cosines[i, j]) > SAME_INPUTS:
        state.report.warn(
            DirectionWarning,
            f"units {i} and {j} have nearly the same input weights (cosine {cosines[i, j]:.3f}): "
            f"a forward and a backward unit with the same inputs cannot be told apart, so their "
            f"directions and output weights are not to be trusted",
        )


def _cosines(rows: Array) -> Array:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    cosines: Array = unit @ unit.T
    np.fill_diagonal(cosines, 0.0)
    return cosines
