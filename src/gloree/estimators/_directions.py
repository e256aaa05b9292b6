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

DIRECTION_ROWS = 400_000
"""Rows of the regression on both neighbours, at most."""

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
    found = regress_both_sides(state, model, rounds)
    state.report.directions = found
    found = warn_of_doubts(state, model, found)
    turned, sums = run_both_ways(state, model, rounds, found)
    for unit in doubtful(found):
        if state.settings.n_forward is not None:
            break
        forward = found.forward.copy()
        forward[unit] = not forward[unit]
        other = replace(found, forward=forward)
        candidate, after = run_both_ways(state, model, rounds, other)
        if float(after.squares.sum()) < float(sums.squares.sum()):
            found, turned, sums = other, candidate, after
    state.report.directions = found
    rounds.settings = replace(
        rounds.settings, layout=replace(rounds.settings.layout, n_backward=turned.n_backward)
    )
    return turned, sums


def regress_both_sides(state: State, model: IORNN, rounds: Rounds) -> Directions:
    """Two passes: the regression on both neighbours, and the spread of its score."""
    engine, source = state.settings.engine, state.calm
    tables = source.subset(DIRECTION_ROWS)
    direct = rounds.settings.layout.direct
    sums = engine.run(
        partial(two_sided_sums, model=model, direct=direct),
        source,
        label="directions",
        tables=tables,
    )
    fit = TwoSidedFit.of(sums, model)
    spread = engine.run(
        partial(two_sided_spread, model=model, fit=fit, direct=direct),
        source,
        label="directions",
        tables=tables,
    )
    return choose_directions(fit, spread, n_forward=state.settings.n_forward)


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


def warn_of_doubts(state: State, model: IORNN, found: Directions) -> Directions:
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
    return found


def _cosines(rows: Array) -> Array:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    cosines: Array = unit @ unit.T
    np.fill_diagonal(cosines, 0.0)
    return cosines
