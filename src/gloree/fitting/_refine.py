"""Last stage of a regression: all weights together, their errors, and the inputs as given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._sums import required
from gloree.diagnostics import (
    ConvergenceWarning,
    Finding,
    OutlierWarning,
    RotationWarning,
    SpecificationTest,
)
from gloree.engine import Source, Subset
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lower_terms import with_lower_terms
from gloree.fitting._mirrors import best_mirror, has_mirrors
from gloree.fitting._outputs import WASHOUT
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import OFFSET_GAIN, MomentFit, units_of
from gloree.fitting._specification import check_specification
from gloree.fitting._units import UnitTests, judge_units, white_covariance
from gloree.models import ExplosionError, Network
from gloree.recurrence import Directions
from gloree.refinement import (
    Layout,
    RefinementStatus,
    Solution,
    StandardErrors,
    in_other_units,
    on_uncentred_inputs,
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

MOST_MIRRORS = 4
"""Descents from mirror images of units, at most."""

Descend = Callable[[Network, Source], Solution]
"""A solver with everything given but the start and the data."""


@dataclass(frozen=True)
class RefinedFit:
    """The network that a fit ends with, in canonical form, on the inputs as they were given.

    `status` is None without a refinement; `moments_rmse` and `rmse`, of shape (n_outputs,), are
    root mean square residuals with moments alone and after it. `covariance` and `weights` are those
    of the report. `units` are the tests of the units, where the covariance of the weights is there.
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
    specification: dict[str, SpecificationTest] = field(default_factory=dict)
    units: UnitTests | None = None
    findings: tuple[Finding, ...] = ()
    detail: str = ""


def keep_moments(problem: FitProblem, inputs: InputSummary, moments: MomentFit) -> RefinedFit:
    """Network of moments alone, on the inputs as they were given."""
    model = in_given_units(inputs.source, moments.model)
    units, directions = units_of(model), moments.directions
    if inputs.source.scale is not None:
        model = model.canonical()
        directions = None if directions is None else directions.reordered(units.order)
    model = on_given_inputs(problem, inputs.source, model)
    return RefinedFit(model, directions, moments_rmse=_rmse_of_moments(moments))


def refine(problem: FitProblem, inputs: InputSummary, moments: MomentFit) -> RefinedFit:
    """Refine all weights together, find their errors, and undo what eased the fit."""
    settings, asked = problem.settings, problem.settings.activation
    solver = settings.refinement
    assert solver is not None
    model, layout = moments.model, problem.layout_of(moments.model)
    findings: list[Finding] = []
    if not asked.is_monomial:
        free = {"bias": settings.bias, "direct": settings.direct}
        start, error = best_start(problem, inputs, with_lower_terms(model, asked, **free))
        if not settings.bias:
            starts = with_lower_terms(model, asked, **free, offset=True)
            moved, with_one = best_start(problem, inputs, starts)
            if with_one < (1.0 - OFFSET_GAIN) * error:
                start, problem = moved, problem.with_offset()
        model, layout = start, problem.layout_of(start)
        if asked.degree == 2 and settings.bias:
            findings.append(_free_scale(asked.name))

    def descend(start: Network, source: Source, layout: Layout = layout) -> Solution:
        found = solver.minimise(settings.loss, start, layout, problem.engine, source)
        return required(found, Solution, f"`minimise` of {solver!r:.100}")

    result, source, remembers = settle(problem, inputs, model, descend)
    if has_mirrors(result.model, layout):
        result, apart = out_of_mirrors(problem, result, layout, source, descend)
        remembers += apart
    # lower terms are not what the moments were fitted with
    known = asked.is_monomial and settings.loss.least_squares
    before = result.start_rmse if known else _rmse_of_moments(moments)
    outliers = inputs.inliers.skipped
    if outliers is not None:
        result, source, apart = with_outliers(result, source, outliers, descend)
        findings += apart
    as_given = in_given_units(source, result.model)
    tested = check_specification(problem, result, layout, source, units_of(as_given))
    if tested.lacks_offset:
        problem = problem.with_offset()
        layout = problem.layout_of(result.model)
        result = descend(result.model, source, layout)
        as_given = in_given_units(source, result.model)
        tested = check_specification(problem, result, layout, source, units_of(as_given))
    findings = [*findings, *remembers, *_convergence(result)]
    units = units_of(as_given)
    canonical = on_given_inputs(problem, source, as_given.canonical())
    errors, tests = find_errors(problem, result, layout, source), None
    if errors is not None:
        covariances = [errors.covariance]
        if result.squares is not None:
            covariances.append(white_covariance(result, layout))
        tests = judge_units(result.model, layout, covariances, units.order)
        findings += tests.findings()
        errors = errors.canonical(units, layout)
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
        before,
        _rmse(problem, result, source),
        errors,
        None if errors is None else errors.listed(layout),
        {} if errors is None else layout.weights(canonical),
        {} if errors is None else errors.relative(canonical, layout),
        specification=tested.tests,
        units=tests,
        findings=(*findings, *tested.findings),
        detail=detail,
    )


def best_start(
    problem: FitProblem, inputs: InputSummary, starts: Sequence[Network]
) -> tuple[Network, float]:
    """Return the start of least squared error on a subsample, and that error."""
    some = inputs.source.subset(START_ROWS)
    errors = []
    for start in starts:
        try:
            sums = problem.engine.run(partial(square_sums, model=start), some)
            errors.append(float(sums.squares.sum()))
        except ExplosionError:
            errors.append(np.inf)
    best = int(np.argmin(errors))
    return starts[best], errors[best]


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


def out_of_mirrors(
    problem: FitProblem, result: Solution, layout: Layout, source: Source, descend: Descend
) -> tuple[Solution, list[Finding]]:
    """Descend again from mirror images of units as long as they fit better; say if some may."""
    missed = False
    for _ in range(MOST_MIRRORS):
        found = best_mirror(result.model, layout, problem.engine, source)
        missed = found.missed
        if not found.is_new:
            break
        again = descend(found.model, source)
        if again.final.loss >= result.final.loss:
            break
        result = again
    if not missed:
        return result, []
    finding = Finding(
        ConvergenceWarning,
        "mirror images of some hidden units may fit better (f is odd about a point, and biases are "
        "free), but none of those tried did",
        "compare the loss with fits of other `n_hidden` or of other parts of the data",
    )
    return result, [finding]


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
    problem: FitProblem, result: Solution, layout: Layout, source: Source
) -> StandardErrors | None:
    """Standard errors of the weights for the inputs as given; None for very many weights."""
    if result.hessian is None:
        return None
    model, centre = in_given_units(source, result.model), given_centre(source)
    reported = on_uncentred_inputs(layout, centre)
    if source.scale is not None:
        reported = reported @ in_other_units(layout, model, scale_of_columns(source))
    return standard_errors(result, layout, problem.engine, source, reported=reported)


def scale_of_columns(source: Source) -> Array:
    """Scale of every column that passes see, windows included."""
    assert source.scale is not None
    windows = 2 * source.lags - 1 if source.both_ways else source.lags
    return np.tile(source.scale, windows)


def given_centre(source: Source) -> Array | None:
    """What is subtracted from the columns, in units of the data."""
    if source.centre is None or source.scale is None:
        return source.centre
    return source.centre / scale_of_columns(source)


def in_given_units(source: Source, model: Network) -> Network:
    """Network for inputs in units of the data, of one for inputs as passes see them."""
    if source.scale is None:
        return model
    scale, direct = scale_of_columns(source), model.direct_weights
    return model.replace(
        input_weights=model.input_weights * scale,
        direct_weights=None if direct is None else direct * scale[:, None],
    )


def on_given_inputs(problem: FitProblem, source: Source, model: Network) -> Network:
    """Network on the inputs as given, not centred and before windows, of one in their units."""
    centre, lags = given_centre(source), problem.settings.lags
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
