"""Last stages of a regression: from the network of moments to the optimum of all weights.

Each takes what the one before it returned. A `Descent` is a point on that way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._sums import required
from gloree.diagnostics import ConvergenceWarning, Finding, OutlierWarning, RotationWarning
from gloree.engine import Source, Subset
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lower_terms import with_lower_terms
from gloree.fitting._mirrors import best_mirror, has_mirrors
from gloree.fitting._outlying import segment_squares
from gloree.fitting._outputs import WASHOUT
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import Known, MomentFit, lacks_offset
from gloree.models import ExplosionError, Network
from gloree.refinement import (
    Layout,
    RefinementStatus,
    ResidualSums,
    Solution,
    Solver,
    residual_sums,
    square_sums,
)
from gloree.sequences import Array

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


@dataclass(frozen=True)
class Start:
    """Network that a refinement starts from, and the problem, which may have an offset now."""

    problem: FitProblem
    model: Network
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """Outcome in words."""
        offset = " and an offset of the outputs" if self.problem.settings.offset else ""
        return f"{self.model.activation.name}{offset}"


@dataclass(frozen=True)
class SummedResiduals:
    """Products of the residuals that a solution leaves on a source."""

    solution: Solution
    source: Source
    sums: ResidualSums


@dataclass(frozen=True)
class Descent:
    """How far a refinement has come: `solution`, with which free weights, on what data.

    `moments_rmse`, (n_outputs,), is the root mean square residual of the network of moments,
    `summed` the products of the residuals of the last solution that they were asked of.
    """

    problem: FitProblem
    layout: Layout
    source: Source
    solution: Solution
    moments_rmse: Array
    findings: tuple[Finding, ...] = ()
    summed: SummedResiduals | None = None

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return self.solution.outcome

    @property
    def with_residuals(self) -> Descent:
        """The same with the products of the residuals of its solution: a pass, if not known."""
        known, solution, source = self.summed, self.solution, self.source
        if known is not None and known.solution is solution and known.source is source:
            return self
        if solution.products is not None:
            sums = ResidualSums(solution.n_rows, solution.products)
        else:
            function = partial(residual_sums, model=solution.model)
            sums = self.problem.engine.run(function, source, label="residuals")
        return replace(self, summed=SummedResiduals(solution, source, sums))

    @property
    def residuals(self) -> ResidualSums:
        """These products."""
        summed = self.with_residuals.summed
        assert summed is not None
        return summed.sums

    @property
    def has_mirrors(self) -> bool:
        """Whether units have mirror images that differ by more than a symmetry."""
        return has_mirrors(self.solution.model, self.layout)

    def moved(self, solution: Solution, *findings: Finding) -> Descent:
        """The same with another solution, and what was found on the way to it."""
        return replace(self, solution=solution, findings=(*self.findings, *findings))


def moments_as_they_are(problem: FitProblem, moments: MomentFit) -> Start:
    """Start from the network of moments, which has the activation asked for."""
    return Start(problem, moments.model)


def with_activation(problem: FitProblem, inputs: InputSummary, moments: MomentFit) -> Start:
    """Rewrite the network of moments, which has a monomial, with the polynomial asked for."""
    settings, asked = problem.settings, problem.settings.polynomial
    free = {"bias": settings.bias, "direct": settings.direct}
    start = best_start(problem, inputs, with_lower_terms(moments.model, asked, **free))
    if lacks_offset(problem, start, inputs.inliers.subset(START_ROWS)):
        starts = with_lower_terms(moments.model, asked, **free, offset=True)
        problem, start = problem.with_offset(), best_start(problem, inputs, starts)
    free_scale = asked.degree == 2 and settings.bias
    return Start(problem, start, (_free_scale(asked.name),) if free_scale else ())


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


def descend(start: Start, inputs: InputSummary, moments: Known) -> Descent:
    """Descend on the inliers, with pieces of long sequences that forget their start.

    Some pieces are run with four times the warm-up: their squared error must not change. If it
    does, the descent goes on with so much.
    """
    problem, model, source = start.problem, start.model, inputs.inliers
    layout, findings = problem.layout_of(model), start.findings
    while True:
        result = minimised(problem, layout, model, source)
        if source.segment is None or problem.settings.recurrence is None:
            break
        longer = _warmed_up(source)
        off = _washout_error(problem, result.model, source, longer)
        if off < WASHOUT_TOLERANCE:
            break
        if source.before > LONGEST_WASHOUT:
            findings = (*findings, _remembers(source, off))
            break
        model, source = result.model, longer
    # lower terms are not what the moments were fitted with
    known = problem.settings.activation.is_monomial and problem.settings.loss.least_squares
    before = result.start_rmse if known else moments.rmse
    if known and problem.units is not None and problem.units.mixing is not None:
        # sizes alone so far, see `in_sizes_of_residuals`
        before = before / np.diag(problem.units.mixing)
    return Descent(problem, layout, source, result, before, findings)


def minimised(
    problem: FitProblem,
    layout: Layout,
    start: Network,
    source: Source,
    solver: Solver | None = None,
) -> Solution:
    """What the solver asked for, or another one, makes of a start."""
    solver = solver or problem.settings.refinement
    assert solver is not None
    found = solver.minimise(problem.settings.loss, start, layout, problem.engine, source)
    return required(found, Solution, f"`minimise` of {solver!r:.100}")


def out_of_mirrors(descent: Descent) -> Descent:
    """Descend again from mirror images of units as long as they fit better; say if some may."""
    problem, layout, source = descent.problem, descent.layout, descent.source
    result, missed = descent.solution, False
    for _ in range(MOST_MIRRORS):
        found = best_mirror(result.model, layout, problem.engine, source)
        missed = found.missed
        if not found.is_new:
            break
        again = minimised(problem, layout, found.model, source)
        if again.final.loss >= result.final.loss:
            break
        result = again
    return descent.moved(result, *([_missed_mirrors()] if missed else []))


def with_outliers(descent: Descent) -> Descent:
    """Go on with all data; without segments that the fit of the others does not explain.

    Stay with the inliers, and say so, where that does not settle.
    """
    problem, outliers = descent.problem, descent.source.skipped
    assert outliers is not None
    everything = replace(descent.source, skipped=None)
    with contextlib.suppress(ExplosionError):
        whole = _settled(descent, everything)
        usual = 2.0 * descent.solution.final.loss
        squares = partial(segment_squares, problem, source=everything, chosen=outliers)
        if whole and not squares(whole.model).unlike(usual).start.size:
            return replace(descent, solution=whole, source=everything)
        others = squares(descent.solution.model).unlike(usual)
        some = replace(everything, skipped=others.start)
        if others.start.size:
            with contextlib.suppress(ExplosionError):
                whole = _settled(descent, some)
            if whole:
                found = replace(descent, solution=whole, source=some)
                return found.moved(whole, others.finding(usual))
    finding = Finding(
        OutlierWarning,
        f"the {outliers.shape[0]} segments of largest outputs were left out of the fit: with "
        f"them it does not settle. They come close to an explosion, or another system made them",
    )
    return descent.moved(descent.solution, finding)


def _settled(descent: Descent, source: Source) -> Solution | None:
    """What the descent becomes on other rows; None if it does not settle there."""
    found = minimised(descent.problem, descent.layout, descent.solution.model, source)
    ended = found.status in (RefinementStatus.EFFICIENT, RefinementStatus.CONVERGED)
    return found if ended else None


def with_free_offset(descent: Descent) -> Descent:
    """Go on with a free offset of the outputs."""
    problem, model = descent.problem.with_offset(), descent.solution.model
    layout = problem.layout_of(model)
    result = minimised(problem, layout, model, descent.source)
    return replace(descent, problem=problem, layout=layout, solution=result)


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


def _remembers(source: Source, off: float) -> Finding:
    return Finding(
        ConvergenceWarning,
        f"the network remembers for longer than the {source.before} steps that warm up "
        f"each piece of a long sequence: the squared error of the pieces changes by "
        f"{off:.1e} of itself with more",
    )


def _missed_mirrors() -> Finding:
    return Finding(
        ConvergenceWarning,
        "mirror images of some hidden units may fit better (f is odd about a point, and biases are "
        "free), but none of those tried did",
        "compare the loss with fits of other `n_hidden` or of other parts of the data",
    )


def _free_scale(name: str) -> Finding:
    return Finding(
        RotationWarning,
        f"activation {name} with free biases: the scale of each unit is not identified (it is z^2 "
        f"with a bias), so weights are one of many equivalent sets; predictions do not depend on "
        f"it. Fix the scale with fit_bias=False, or use 'quadratic'",
    )
