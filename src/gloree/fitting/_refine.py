"""Last stage of a regression: all weights together, their errors, and the inputs as given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._sums import required
from gloree.diagnostics import ConvergenceWarning, Finding, OutlierWarning, RotationWarning
from gloree.engine import Source, Subset
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lower_terms import with_lower_terms
from gloree.fitting._outputs import WASHOUT
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import MomentFit, units_of
from gloree.models import CanonicalUnits, ExplosionError, Network
from gloree.recurrence import Directions
from gloree.refinement import (
    Layout,
    RefinementStatus,
    Solution,
    StandardErrors,
    square_sums,
    standard_errors,
)
from gloree.sequences import Array, IntArray

WASHOUT_TOLERANCE = 1e-6
"""The warm-up is long enough if four times as much changes the squared error by less."""

WASHOUT_PIECES = 100
"""Pieces on which it is tried."""

LONGEST_WASHOUT = 16 * WASHOUT
"""Steps of warm-up beyond which it is not made longer."""

START_ROWS = 20_000
"""Rows on which starts of polynomials with lower terms are compared."""

Descend = Callable[[Network, Source], Solution]
"""A solver with everything given but the start and the data."""


@dataclass(frozen=True)
class RefinedFit:
    """The network that a fit ends with, in canonical form, on the inputs as they were given.

    `status` is None without a refinement; `moments_rmse` and `rmse`, of shape (n_outputs,), are
    root mean square residuals with moments alone and after it. `covariance` and `weights` are those
    of the report.
    """

    model: Network
    directions: Directions | None
    status: RefinementStatus | None = None
    n_steps: int = 0
    moments_rmse: Array | None = None
    rmse: Array | None = None
    errors: StandardErrors | None = None
    covariance: Array | None = None
    weights: dict[str, Array] = field(default_factory=dict)
    predicted_errors: dict[str, float] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    detail: str = ""


def keep_moments(problem: FitProblem, inputs: InputSummary, moments: MomentFit) -> RefinedFit:
    """Network of moments alone, on the inputs as they were given."""
    model = on_given_inputs(problem, inputs.source, moments.model)
    return RefinedFit(model, moments.directions, moments_rmse=_rmse_of_moments(moments))


def refine(problem: FitProblem, inputs: InputSummary, moments: MomentFit) -> RefinedFit:
    """Refine all weights together, find their errors, and undo what eased the fit."""
    settings, asked = problem.settings, problem.settings.activation
    solver = settings.refinement
    assert solver is not None
    model, layout = moments.model, problem.layout_of(moments.model)
    findings: list[Finding] = []
    if not asked.is_monomial:
        starts = with_lower_terms(model, asked, bias=settings.bias, direct=settings.direct)
        model = best_start(problem, inputs, starts)
        if asked.degree == 2 and settings.bias:
            findings.append(_free_scale(asked.name))

    def descend(start: Network, source: Source) -> Solution:
        found = solver.minimise(settings.loss, start, layout, problem.engine, source)
        return required(found, Solution, f"`minimise` of {solver!r:.100}")

    result, source, remembers = settle(problem, inputs, model, descend)
    # lower terms are not what the moments were fitted with
    known = asked.is_monomial and settings.loss.least_squares
    start = result.start_rmse if known else _rmse_of_moments(moments)
    outliers = inputs.inliers.skipped
    if outliers is not None:
        result, source, apart = with_outliers(result, source, outliers, descend)
        findings += apart
    findings = [*findings, *remembers, *_convergence(result)]
    units = units_of(result.model)
    canonical = on_given_inputs(problem, source, result.model.canonical())
    errors = find_errors(problem, result, layout, source, units)
    directions = moments.directions
    detail = result.outcome
    if errors is None:
        detail += "; no standard errors: too many weights to form their covariance"
    else:
        findings += errors.findings
    return RefinedFit(
        canonical,
        None if directions is None else directions.reordered(units.order),
        result.status,
        result.n_steps,
        start,
        _rmse(problem, result, source),
        errors,
        None if errors is None else errors.listed(layout),
        {} if errors is None else layout.weights(canonical),
        {} if errors is None else errors.relative(canonical, layout),
        findings=tuple(findings),
        detail=detail,
    )


def best_start(problem: FitProblem, inputs: InputSummary, starts: Sequence[Network]) -> Network:
    """Return the start of least squared error on a subsample."""
    some = inputs.source.subset(START_ROWS)
    errors = []
    for start in starts:
        try:
            sums = problem.engine.run(partial(square_sums, model=start), some)
            errors.append(float(sums.squares.sum()))
        except ExplosionError:
            errors.append(np.inf)
    return starts[int(np.argmin(errors))]


def settle(
    problem: FitProblem, inputs: InputSummary, model: Network, descend: Descend
) -> tuple[Solution, Source, list[Finding]]:
    """Descend on the inliers, with pieces of long sequences that forget their start.

    Some pieces are run with four times the warm-up: their squared error must not change. If it
    does, the descent goes on with so much.
    """
    source = inputs.inliers
    while True:
        result = descend(model, source)
        if source.segment is None or problem.settings.recurrence is None:
            return result, source, []
        longer = _warmed_up(source)
        off = _washout_error(problem, result.model, source, longer)
        if off < WASHOUT_TOLERANCE:
            return result, source, []
        if source.before > LONGEST_WASHOUT:
            finding = Finding(
                ConvergenceWarning,
                f"the network remembers for longer than the {source.before} steps that warm up "
                f"each piece of a long sequence: the squared error of the pieces changes by "
                f"{off:.1e} of itself with more",
            )
            return result, source, [finding]
        model, source = result.model, longer


def _washout_error(problem: FitProblem, model: Network, source: Source, longer: Source) -> float:
    """Relative change of the squared error of some pieces with a longer warm-up."""
    squares = []
    for tried in (source, longer):
        some = Subset(source, tried.sample(WASHOUT_PIECES).split_evenly(4))
        try:
            sums = problem.engine.run(partial(square_sums, model=model), some)
        except ExplosionError:
            return np.inf
        squares.append(float(sums.squares.sum()))
    difference = abs(squares[0] - squares[1])
    return difference / squares[1] if difference else 0.0


def _warmed_up(source: Source) -> Source:
    """Return the data with four times the warm-up, on both sides for two directions."""
    after = 4 * source.after if source.both_ways else source.after
    return replace(source, before=4 * source.before, after=after)


def with_outliers(
    result: Solution, inliers: Source, outliers: IntArray, descend: Descend
) -> tuple[Solution, Source, list[Finding]]:
    """Go on with all data; stay with the inliers, and say so, where that does not settle."""
    everything = replace(inliers, skipped=None)
    with contextlib.suppress(ExplosionError):
        whole = descend(result.model, everything)
        if whole.status in (RefinementStatus.EFFICIENT, RefinementStatus.CONVERGED):
            return whole, everything, []
    finding = Finding(
        OutlierWarning,
        f"the {outliers.shape[0]} segments of largest outputs were left out of the fit: with "
        f"them it does not settle. They come close to an explosion, or another system made them",
    )
    return result, inliers, [finding]


def find_errors(
    problem: FitProblem, result: Solution, layout: Layout, source: Source, units: CanonicalUnits
) -> StandardErrors | None:
    """Standard errors in canonical form, on the inputs as given; None for very many weights."""
    if result.hessian is None:
        return None
    errors = standard_errors(result, layout, problem.engine, source, centre=source.centre)
    return errors.canonical(units, layout)


def on_given_inputs(problem: FitProblem, source: Source, model: Network) -> Network:
    """Return the network on the inputs as they were given: not centred, before windows."""
    centre, lags = source.centre, problem.settings.lags
    if centre is not None:
        direct = model.direct_weights
        model = model.replace(
            hidden_bias=model.hidden_bias - model.input_weights @ centre,
            output_bias=model.output_bias - (0.0 if direct is None else centre @ direct),
        )
    return model.replace(lags=lags) if lags > model.lags else model


def _rmse(problem: FitProblem, result: Solution, source: Source) -> Array:
    if problem.settings.loss.least_squares:
        return result.rmse
    function = partial(square_sums, model=result.model)
    sums = problem.engine.run(function, source, label="squares")
    return np.asarray(np.sqrt(sums.squares / sums.n_rows))


def _rmse_of_moments(moments: MomentFit) -> Array:
    sums = moments.current.sums
    return np.sqrt(sums.squares / sums.n_rows)


def _free_scale(name: str) -> Finding:
    return Finding(
        RotationWarning,
        f"activation {name} with free biases: the scale of each unit is not identified (it is z^2 "
        f"with a bias), so weights are one of many equivalent sets; predictions do not depend on "
        f"it. Fix the scale with fit_bias=False, or use 'quadratic'",
    )


def _convergence(result: Solution) -> list[Finding]:
    if result.status not in (RefinementStatus.STEP_LIMIT, RefinementStatus.NO_DECREASE):
        return []
    finding = Finding(
        ConvergenceWarning,
        f"the refinement ended after {result.n_steps} steps ({result.status.value})",
        "try other n_hidden, or look for outputs and inputs of extreme size",
    )
    return [finding]
