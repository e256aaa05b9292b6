"""Gauss-Newton, standard errors, and the way back to the inputs as given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from gloree.diagnostics import (
    ConvergenceWarning,
    OutlierWarning,
    RotationWarning,
)
from gloree.engine import Source, Subset
from gloree.estimators._data import WASHOUT
from gloree.estimators._state import State
from gloree.estimators._surrogate import from_surrogate
from gloree.models import ExplosionError, Network, canonical_units
from gloree.refinement import (
    GaussNewton,
    RefinementStatus,
    Solution,
    SquaredError,
    square_sums,
    standard_errors,
)

WASHOUT_TOLERANCE = 1e-6
"""The warm-up is long enough if four times as much changes the squared error by less."""

Descend = Callable[[Network, Source], Solution]
"""Gauss-Newton with all but the model and the source given."""

WASHOUT_PIECES = 100
"""Pieces on which it is tried."""


def refine(state: State, model: Network) -> Network:
    """Refine all weights together, find their errors, and undo what eased the fit."""
    settings, report = state.settings, state.report
    asked = settings.activation
    layout = state.layout_of(model)
    converted = not asked.is_monomial
    if converted:
        model = best_start(
            state, from_surrogate(model, asked, bias=settings.bias, direct=settings.direct)
        )
    elif settings.refine is None:
        return on_given_inputs(state, model)
    full = settings.refine == "full" or (converted and asked.degree == 3)
    if asked.degree == 2 and converted and settings.bias:
        report.warn(
            RotationWarning,
            f"activation {asked.name} with free biases: the scale of each unit is not "
            f"identified (it is z^2 with a bias), so weights are one of many equivalent sets; "
            f"predictions do not depend on it. Fix the scale with fit_bias=False, or use "
            f"'quadratic'",
        )
    solver = GaussNewton(to_convergence=full)

    def descend(model: Network, source: Source) -> Solution:
        return solver.minimise(SquaredError(), model, layout, settings.engine, source)

    with state.stage(solver.name) as detail:
        result, source = search(state, model, descend)
        if not converted:
            report.moments_rmse = result.start_rmse
        if state.wild is not None:
            result, source = include_wild(state, result, source, descend)
        report.refinement_status, report.refinement_steps = result.status, result.n_steps
        report.refined_rmse = result.rmse
        detail.append(f"{result.n_steps} steps, {result.status.value}")
        if result.status in (RefinementStatus.STEP_LIMIT, RefinementStatus.NO_DECREASE):
            report.warn(
                ConvergenceWarning,
                f"Gauss-Newton ended after {result.n_steps} steps ({result.status.value}): try "
                f"other n_hidden, or look for outputs and inputs of extreme size",
            )
        units = canonical_units(
            result.model.input_weights,
            result.model.output_weights,
            result.model.activation,
            result.model.n_forward,
        )
        if report.directions is not None:
            report.directions = report.directions.reordered(units.order)
        canonical = on_given_inputs(state, result.model.canonical())
        if result.hessian is None:
            detail.append(f"no standard errors of so many weights ({layout.size:,})")
            return canonical
        errors = standard_errors(result, layout, settings.engine, source)
        if state.source.centre is not None:
            errors = errors.shifted(layout, state.source.centre)
        errors = errors.canonical(units, layout)
        report.standard_errors = errors.weights
        report.predicted_errors = errors.relative(canonical, layout)
    return canonical


def best_start(state: State, starts: list[Network]) -> Network:
    """Return the start of least squared error on a subsample."""
    some = state.source.subset(20_000)
    errors = []
    for start in starts:
        try:
            sums = state.settings.engine.run(partial(square_sums, model=start), some)
            errors.append(float(sums.squares.sum()))
        except ExplosionError:
            errors.append(np.inf)
    return starts[int(np.argmin(errors))]


def search(state: State, model: Network, descend: Descend) -> tuple[Solution, Source]:
    """Gauss-Newton on the calm data, with pieces of long sequences that forget their start."""
    while True:
        result = descend(model, state.calm)
        if washed_out(state, result.model):
            return result, state.calm
        model = result.model


def include_wild(
    state: State, result: Solution, calm: Source, descend: Descend
) -> tuple[Solution, Source]:
    """Go on with all data; stay with the calm ones, and say so, where that does not settle."""
    assert state.wild is not None
    whole = descend(result.model, state.source)
    if whole.status in (RefinementStatus.EFFICIENT, RefinementStatus.CONVERGED):
        return whole, state.source
    state.report.warn(
        OutlierWarning,
        f"the {state.wild.shape[0]} segments of largest outputs were left out of the fit: with "
        f"them it does not settle. They come close to an explosion, or another system made them",
    )
    return result, calm


def washed_out(state: State, model: Network) -> bool:
    """Whether pieces of long sequences forget their start; if not, warm them up for longer.

    Some pieces are run with four times the warm-up: their squared error must not change.
    """
    source = state.calm
    if source.segment is None or state.settings.recurrence is None:
        return True
    squares = []
    longer = warmed_up(source)
    for tried in (source, longer):
        pieces = Subset(source, tried.sample(WASHOUT_PIECES).split_evenly(4))
        sums = state.settings.engine.run(partial(square_sums, model=model), pieces)
        squares.append(float(sums.squares.sum()))
    off = abs(squares[0] - squares[1]) / squares[1]
    if off < WASHOUT_TOLERANCE:
        return True
    if source.before > 16 * WASHOUT:
        state.report.warn(
            ConvergenceWarning,
            f"the network remembers for longer than the {source.before} steps that warm up "
            f"each piece of a long sequence: the squared error of the pieces changes by "
            f"{off:.1e} of itself with more",
        )
        return True
    state.source = warmed_up(state.source)
    return False


def warmed_up(source: Source) -> Source:
    """Return the data with four times the warm-up, on both sides for two directions."""
    after = 4 * source.after if source.both_ways else source.after
    return replace(source, before=4 * source.before, after=after)


def on_given_inputs(state: State, model: Network) -> Network:
    """Return the network on the inputs as they were given: not centred, before windows."""
    centre, lags = state.source.centre, state.settings.lags
    if centre is not None:
        direct = model.direct_weights
        model = model.replace(
            hidden_bias=model.hidden_bias - model.input_weights @ centre,
            output_bias=model.output_bias - (0.0 if direct is None else centre @ direct),
        )
    return model.replace(lags=lags) if lags > model.lags else model
