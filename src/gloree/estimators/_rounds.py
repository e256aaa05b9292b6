"""The second moment and the rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gloree.estimators._directions import turn_bidirectional
from gloree.estimators._span import find_range, plain_solver
from gloree.estimators._state import State
from gloree.models import Network, canonical_units
from gloree.moments import (
    Frame,
)
from gloree.recurrence import Contraction, top_degree
from gloree.refinement import (
    Rounds,
    RoundSums,
)

START_ROWS, START_ROWS_PER_PARAMETER = 8_000, 50
"""Rows of the subsample on which rounds run when a refinement follows, and rows for each weight, at
least. It has no fewer rows than the regression moment that went before."""

ROUND_GAIN = 1e-4
"""Rounds end when one lowers the squared error by less than this fraction."""

START_WORK = 2 * 10**8
"""Rows of that subsample times inputs, at most."""

START_GAIN = 0.05
"""The same where a refinement follows."""


def recurrence_and_rounds(state: State, model: Network, rounds: Rounds) -> Network:
    """Find the recurrence and the biases, then alternate with the residual first moment."""
    settings, report = state.settings, state.report
    with state.stage("recurrence") as detail:
        if rounds.settings.method in ("instrument", "cross", "score"):
            assert state.chain is not None
            contraction = Contraction.of(model, state.chain.precision_blocks(0))
            report.conditions["overlap"] = contraction.condition
        if settings.refine is not None:
            # one efficient step follows, so a consistent start from a subsample will do
            wanted = START_ROWS_PER_PARAMETER * rounds.settings.layout.size
            wanted = max(START_ROWS, min(wanted, START_WORK // state.n_inputs))
            if rounds.settings.solver is not None:
                wanted = max(wanted, state.moment_rows)
            rounds.source = state.subset(wanted)
        if settings.bidirectional:
            model, sums = turn_bidirectional(state, model, rounds, enough=ROUND_GAIN)
            detail.append(str(report.directions))
        else:
            model, sums = rounds.start(model)
        if state.full_whitening is not None and units_are_determined(state, model):
            model, sums = look_again(state, model, rounds)
        detail.append(f"RMS residual {_rms(sums):.5g}")
    with state.stage("rounds") as detail:
        kept = 0
        enough = ROUND_GAIN if settings.refine is None else START_GAIN
        for _ in range(settings.max_rounds):
            before = float(sums.squares.sum())
            updated, after = rounds.round(model, sums)
            if updated is model:
                break
            model, sums, kept = updated, after, kept + 1
            if float(sums.squares.sum()) > (1 - enough) * before:
                break
        if report.directions is not None:
            units = canonical_units(
                model.input_weights, model.output_weights, model.activation, model.n_forward
            )
            report.directions = report.directions.reordered(units.order)
        model = model.canonical()
        report.history = [(name, value) for name, value in rounds.history]
        report.moments_rmse = np.sqrt(sums.squares / sums.n_rows)
        detail.append(f"{kept} kept, RMS residual {_rms(sums):.5g}")
    return model


def units_are_determined(state: State, model: Network) -> bool:
    """Whether second moments of the residual say which directions the units span."""
    return top_degree(model)[0] == 2 and state.n_outputs > 1


def look_again(state: State, model: Network, rounds: Rounds) -> tuple[Network, RoundSums]:
    """Find the span of the units once more, from residual moments, for the rounds to use."""
    assert state.full_whitening is not None
    found = find_range(state, state.full_whitening, state.plan.n_directions, model)
    solver = plain_solver(state, found, top_degree(model)[0], state.subset(state.moment_rows))
    rounds.settings = replace(rounds.settings, frame=Frame.of_whitening(found), solver=solver)
    return model, rounds.evaluate(model, tensor=True)


def _rms(sums: RoundSums) -> float:
    return float(np.sqrt(sums.squares.sum() / sums.n_rows / sums.squares.shape[0]))
