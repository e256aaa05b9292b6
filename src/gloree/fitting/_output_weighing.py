r"""Weights of the outputs: by the covariance of their residuals, as given, or what equal ones cost.

Feasible generalised least squares: the covariance :math:`\Sigma` of the residuals at the optimum of
equal weights (of outputs in units of their spread) is consistent, and a step in the metric
:math:`\Sigma^{-1}` from there is as efficient as one with the true covariance. The outputs are
mixed so that their residuals are white, and the refinement goes on with these. Where some outputs
have much less noise than others, the first residuals hold the noise of these, too: it is done again
until the covariance stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import linalg

from gloree.diagnostics import Finding, OutputWeighting, ScaleWarning
from gloree.fitting._descent import Descent, Start, minimised
from gloree.fitting._inputs import InputSummary
from gloree.fitting._output_units import OutputUnits, with_mixed_outputs
from gloree.fitting._outputs import usual_variance
from gloree.fitting._problem import BY_RESIDUALS
from gloree.models import ExplosionError
from gloree.refinement import (
    GaussNewton,
    RefinementStatus,
    ResidualSums,
    Solution,
    most_to_lose,
    residual_sums,
    shrunk_covariance,
    weighting_loss,
)
from gloree.sequences import Array

MATTERS = 1.5
"""Loss from which it is said: standard errors larger by 22 %."""

NOTHING = 1.02
"""Loss, at most, up to which outputs stay as they are: a hundredth of a standard error."""

START_ROWS = 2**14
"""Rows behind the first sizes of the residuals."""

MOST_WEIGHINGS = 5
"""Times that the outputs are weighed by the residuals of the fit before, at most."""

ROUNDING = 1e-5
"""Residual, over the spread of its output, that counts at least: less is rounding."""

FOLLOWS = 1e-8
"""Part of the variance of a residual that others leave, below which it is theirs."""


@dataclass(frozen=True)
class Residuals:
    """E[r r^T] of a step for outputs as given, (n_outputs, n_outputs); how they were weighed."""

    covariance: Array
    weighting: OutputWeighting | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def rmse(self) -> Array:
        """Root mean square residual of each output."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def with_output_weights(descent: Descent) -> Descent:
    """Go on with outputs weighed by the covariance of their residuals, or by a metric as given."""
    asked = descent.problem.settings.output_weights
    if not isinstance(asked, str):
        if asked.ndim == 1:
            return descent
        sizes = np.sqrt(np.diag(asked))
        return reweighed(descent, _root(asked / np.outer(sizes, sizes), 0.5))
    for _ in range(MOST_WEIGHINGS):
        descent = descent.with_residuals
        sums, units = descent.residuals, descent.problem.units
        assert units is not None
        if np.all(np.diag(sums.covariance) <= np.diag(_rounding(units))):
            break  # without noise there is nothing to weigh by
        covariance = _bounded(sums, units)
        if most_to_lose(covariance) < NOTHING:
            break
        descent = reweighed(descent, _root(covariance, -0.5))
    return descent


def in_sizes_of_residuals(start: Start, inputs: InputSummary) -> tuple[Start, InputSummary]:
    """Outputs in units of what the network of moments leaves of them, before the refinement.

    Where that is nearly noise, and not correlated, nothing has to be weighed again after it.
    """
    problem, asked = start.problem, start.problem.settings.output_weights
    if not (problem.weighs and isinstance(asked, str)):
        return start, inputs
    some = inputs.inliers.subset(START_ROWS)
    try:
        sums = problem.engine.run(partial(residual_sums, model=start.model), some, label="sizes")
    except ExplosionError:
        return start, inputs
    units = problem.units
    assert units is not None
    factor = np.diag(1.0 / np.sqrt(np.diag(_bounded(sums, units))))
    mixed = units.mixed(factor)
    model = with_mixed_outputs(start.model, factor)
    source, inliers = (replace(each, encode=mixed) for each in (inputs.source, inputs.inliers))
    start = replace(start, problem=problem.in_units(mixed), model=model)
    return start, replace(inputs, source=source, inliers=inliers)


def _rounding(units: OutputUnits) -> Array:
    """Covariance of residuals, as passes see them, that are rounding."""
    mixing = np.eye(units.n_outputs) if units.mixing is None else units.mixing
    return np.asarray(ROUNDING**2 * (mixing.T @ mixing))


def _bounded(sums: ResidualSums, units: OutputUnits) -> Array:
    """Covariance of the residuals as passes see them, no less than rounding, shrunk."""
    return shrunk_covariance(_no_less(sums.covariance, _rounding(units)), sums.n_rows)


def _no_less(covariance: Array, least: Array) -> Array:
    """Covariance raised to `least` in the directions in which it is smaller, and in these alone.

    With v_i of C v_i = l_i L v_i and V^T L V = I, the sum of L v_i max(l_i, 1) v_i^T L.
    """
    values, vectors = linalg.eigh(covariance, least)
    if values[0] >= 1.0:
        return covariance
    duals = least @ vectors
    return np.asarray((duals * np.maximum(values, 1.0)) @ duals.T)


def _root(matrix: Array, power: float) -> Array:
    """Symmetric power of a positive definite matrix, through the correlations."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * values**power) @ vectors.T)


def reweighed(descent: Descent, factor: Array) -> Descent:
    """Go on with outputs times a matrix."""
    problem, before = descent.problem, descent.solution
    assert problem.units is not None
    units = problem.units.mixed(factor)
    problem, source = problem.in_units(units), replace(descent.source, encode=units)
    model = with_mixed_outputs(before.model, factor)
    solver = problem.settings.refinement
    if isinstance(solver, GaussNewton):
        solver = solver.from_near()
    found = minimised(problem, descent.layout, model, source, solver)
    return replace(descent, problem=problem, source=source, solution=_joined(before, found))


def _joined(before: Solution, after: Solution) -> Solution:
    """The second of two solutions, with the steps of both, their losses in units of the second."""
    unit = after.history[0].loss / max(before.history[-1].loss, np.finfo(np.float64).tiny)
    steps = (replace(each, loss=unit * each.loss) for each in before.history)
    ended = after.status is RefinementStatus.NO_DECREASE
    status = before.status if ended else after.status
    return replace(after, status=status, history=(*steps, *after.history[1:]))


def residuals_of(descent: Descent) -> Residuals:
    """Covariance of the residuals, how the outputs were weighed, and what that gained or cost."""
    problem, solution = descent.problem, descent.solution
    alone = problem.n_outputs == 1 and solution.squares is not None
    squares = solution.squares if alone else None
    if squares is not None:
        return Residuals((squares / solution.n_rows)[:, None])
    covariance = descent.residuals.covariance
    if problem.units is None:
        if not problem.settings.loss.least_squares:
            return Residuals(covariance)
        return _equally_weighed(descent, covariance)
    back = problem.units.to_given
    covariance = back.T @ covariance @ back
    by_name = problem.settings.output_weights == BY_RESIDUALS if _named(descent) else False
    gain = _gain(descent, covariance) if by_name else None
    exact = _bounded_outputs(descent, covariance) if by_name else ()
    kind = "residuals" if by_name else "given"
    return Residuals(covariance, OutputWeighting(kind, problem.units.metric, gain, exact))


def _named(descent: Descent) -> bool:
    return isinstance(descent.problem.settings.output_weights, str)


def _equally_weighed(descent: Descent, covariance: Array) -> Residuals:
    """Equal weights, and what they cost: by the sizes of the residuals alone."""
    problem, solution = descent.problem, descent.solution
    weighting = OutputWeighting("equal", np.eye(problem.n_outputs))
    variances, least = np.diag(covariance), ROUNDING**2 * usual_variance(problem)
    if solution.hessian is None or not (variances > least).any():
        return Residuals(covariance, weighting)
    sizes = np.diag(np.maximum(variances, least))
    if not MATTERS < most_to_lose(sizes) < np.inf:
        return Residuals(covariance, weighting)
    given = (solution.model, descent.layout, problem.engine, descent.source, sizes)
    loss = weighting_loss(*given)
    weighting = replace(weighting, gain=1.0 / loss)
    findings = (_unlike(np.sqrt(np.diag(sizes)), loss),) if loss > MATTERS else ()
    return Residuals(covariance, weighting, findings)


def _gain(descent: Descent, covariance: Array) -> float | None:
    """Variance of the input weights under equal weights of outputs as given, over that now."""
    units, source = descent.problem.units, descent.source
    assert units is not None
    if descent.solution.hessian is None:
        return None
    floor = (ROUNDING * units.scale) ** 2
    bounded = covariance + np.diag(np.maximum(floor - np.diag(covariance), 0.0))
    bounded = shrunk_covariance(bounded, descent.solution.n_rows)
    if most_to_lose(bounded) < NOTHING:
        return 1.0
    model, source = units.given_model(descent.solution.model), replace(source, encode=None)
    return weighting_loss(model, descent.layout, descent.problem.engine, source, bounded)


def _bounded_outputs(descent: Descent, covariance: Array) -> tuple[int, ...]:
    """Outputs whose residual is rounding, or follows from those of others: weights are bounded."""
    units = descent.problem.units
    assert units is not None
    sizes = np.sqrt(np.diag(covariance))
    noisy = sizes > ROUNDING * units.scale
    follows = np.zeros(sizes.shape, dtype=bool)
    if noisy.sum() > 1:
        correlations = (covariance / np.outer(*[np.where(noisy, sizes, 1.0)] * 2))[noisy][:, noisy]
        values, vectors = np.linalg.eigh(correlations)
        # of each output what the others leave is the reciprocal of the diagonal of the inverse
        left = 1.0 / np.sum(vectors**2 / np.maximum(values, FOLLOWS**2), axis=1)
        follows[noisy] = left < FOLLOWS
    return tuple(np.flatnonzero(~noisy | follows).tolist())


def _unlike(sizes: Array, loss: float) -> Finding:
    least, most = float(sizes.min()), float(sizes.max())
    return Finding(
        ScaleWarning,
        f"the outputs have very different residual sizes ({least:.2g} to {most:.2g}), and "
        f"count with their squares: standard errors of the input weights are "
        f"{np.sqrt(loss):.2g} times what they could be",
        "leave `output_weights`='residuals', which weighs them, or scale them",
    )
