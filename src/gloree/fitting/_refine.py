"""What a regression ends with: the network on the inputs as given, its errors, and its tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gloree.diagnostics import (
    Certificate,
    ConvergenceWarning,
    Finding,
    OutputWeighting,
    SpecificationTest,
)
from gloree.fitting._descent import Descent
from gloree.fitting._given_units import (
    given_centre,
    in_given_outputs,
    in_given_units,
    on_given_inputs,
    scale_of_columns,
)
from gloree.fitting._inputs import InputSummary
from gloree.fitting._output_weighing import Residuals, residuals_of
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import Known, units_of
from gloree.fitting._specification import Specification
from gloree.fitting._units import UnitTests, judge_units, white_covariance
from gloree.models import Network
from gloree.recurrence import Directions
from gloree.refinement import (
    RefinementStatus,
    Solution,
    StandardErrors,
    in_other_units,
    on_uncentred_inputs,
    on_unmixed_outputs,
    standard_errors,
)
from gloree.sequences import Array


@dataclass(frozen=True)
class Precision:
    """Standard errors of the weights for the data as given, and the tests of the units.

    Both are None for very many weights.
    """

    residuals: Residuals
    errors: StandardErrors | None = None
    units: UnitTests | None = None

    @property
    def detail(self) -> str:
        """Outcome in words."""
        if self.errors is None:
            return "none: too many weights to form their covariance"
        return f"{self.errors.covariance.shape[0]} weights"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What units, errors and outputs have to say."""
        units = () if self.units is None else self.units.findings()
        errors = () if self.errors is None else self.errors.findings
        return (*units, *errors, *self.residuals.findings)


@dataclass(frozen=True)
class RefinedFit:
    """The network that a fit ends with, in canonical form, on the inputs as they were given.

    `status` is None without a refinement; `moments_rmse` and `rmse`, of shape (n_outputs,), are
    root mean square residuals with moments alone and after it. `covariance`, `inverse_information`
    and `weights` are those of the report. `units` are the tests of the units, where the covariance
    of the weights is there, `certificate` says of a fit with any activation whether it is at
    the optimum.
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
    certificate: Certificate | None = None
    output_weighting: OutputWeighting | None = None
    residual_covariance: Array | None = None
    inverse_information: Array | None = None
    findings: tuple[Finding, ...] = ()
    detail: str = ""


def keep_moments(
    problem: FitProblem, inputs: InputSummary, moments: Known, start: Network | None = None
) -> RefinedFit:
    """Network of moments alone (or `start`, made of it), on the inputs as they were given."""
    model = in_given_units(inputs.source, moments.model if start is None else start)
    units, directions = units_of(model), moments.directions
    if inputs.source.scale is not None or start is not None:
        model = model.canonical()
        directions = None if directions is None else directions.reordered(units.order)
    model = on_given_inputs(problem, inputs.source, model)
    return RefinedFit(model, directions, moments_rmse=_in_given_sizes(problem, moments.rmse))


def _in_given_sizes(problem: FitProblem, rmse: Array) -> Array:
    """Residuals of outputs that are scaled and not mixed, in their own units."""
    return rmse if problem.units is None else rmse * problem.units.scale


def interrupted(kept: RefinedFit, stage: str, source: str = "moments alone") -> RefinedFit:
    """Say that the fit ended early, and where its weights come from."""
    finding = Finding(
        ConvergenceWarning,
        f"the fit was interrupted in the stage {stage!r}: the weights are those before it, of "
        f"{source}, without the rest of the refinement, tests and standard errors",
        "fit again to refine them; with `checkpoint` a fit goes on where it was interrupted",
    )
    return replace(kept, findings=(finding, *kept.findings))


def find_precision(descent: Descent) -> Precision:
    """Standard errors, whether every unit is there, and what the units of the outputs cost."""
    problem, layout, source = descent.problem, descent.layout, descent.source
    result, residuals = descent.solution, residuals_of(descent)
    if result.hessian is None:
        return Precision(residuals)
    model, centre = in_given_units(source, result.model), given_centre(source)
    reported = on_uncentred_inputs(layout, centre)
    if source.scale is not None:
        reported = reported @ in_other_units(model, layout, scale_of_columns(source))
    to_given = None if problem.units is None else problem.units.to_given
    if to_given is not None:
        reported = reported @ on_unmixed_outputs(layout, to_given)
    errors = standard_errors(result, layout, problem.engine, source, reported=reported)
    covariances, units = [errors.covariance], units_of(model)
    if result.squares is not None:
        white = white_covariance(result, layout)
        if to_given is not None:
            back = on_unmixed_outputs(layout, to_given)
            white = back @ white @ back.T
        covariances.append(white)
    tests = judge_units(in_given_outputs(source, result.model), layout, covariances, units.order)
    # only of squares is the noise known, in whose units curvature is information
    inverse = None
    if result.squares is not None and errors.inverse_information is not None:
        inverse = float(np.mean(result.squares)) / result.n_rows * errors.inverse_information
    errors = replace(errors, inverse_information=inverse)
    return Precision(residuals, errors.canonical(units, layout), tests)


def refined_fit(
    moments: Known, descent: Descent, precision: Precision, specification: Specification
) -> RefinedFit:
    """Undo what eased the fit, and put together what is known about it."""
    problem, source, result = descent.problem, descent.source, descent.solution
    model, errors, layout = in_given_units(source, result.model), precision.errors, descent.layout
    canonical = on_given_inputs(problem, source, model.canonical())
    directions = moments.directions
    if directions is not None:
        directions = directions.reordered(units_of(model).order)
    findings = (*descent.findings, *_convergence(result), *precision.findings)
    residuals, unweighed = precision.residuals, problem.units is None and result.squares is not None
    left = result.n_rows - layout.size / problem.n_outputs
    inflation = result.n_rows / left if left > 1.0 else 1.0
    return RefinedFit(
        canonical,
        directions,
        result.status,
        result.n_steps,
        _in_given_sizes(problem, descent.moments_rmse),
        result.rmse if unweighed else residuals.rmse,
        errors,
        None if errors is None else errors.listed(layout),
        {} if errors is None else layout.weights(canonical),
        {} if errors is None else errors.relative(canonical, layout),
        specification=specification.tests,
        units=precision.units,
        output_weighting=residuals.weighting,
        residual_covariance=inflation * residuals.covariance,
        inverse_information=None if errors is None else errors.listed_inverse(layout),
        findings=(*findings, *specification.findings),
    )


def _convergence(result: Solution) -> list[Finding]:
    early = (
        RefinementStatus.STEP_LIMIT,
        RefinementStatus.NO_DECREASE,
        RefinementStatus.INTERRUPTED,
    )
    if result.status not in early:
        return []
    finding = Finding(
        ConvergenceWarning,
        f"the refinement ended after {result.n_steps} steps ({result.status.value})",
        "try other n_hidden, or look for outputs and inputs of extreme size",
    )
    return [finding]
