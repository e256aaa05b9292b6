"""Maximum likelihood of labels on all of the data, and standard errors of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gloree.diagnostics import CertificateStatus, ConvergenceWarning, Finding
from gloree.fitting._given_units import given_centre, in_given_units, scale_of_columns
from gloree.fitting._inputs import InputSummary
from gloree.fitting._label_optimum import findings_of, highest_maximum
from gloree.fitting._labels import Readout, accuracy, on_inputs_as_given
from gloree.fitting._other_weights import unit_effects
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import units_of
from gloree.fitting._refine import RefinedFit
from gloree.refinement import (
    LBFGS,
    FisherScoring,
    Layout,
    RefinementStatus,
    Solution,
    StandardErrors,
    in_other_units,
    label_gauge,
    on_uncentred_inputs,
    standard_errors,
)


def likely_labels(
    problem: FitProblem, inputs: InputSummary, readout: Readout, show: Callable[[str], None]
) -> RefinedFit:
    """Maximise the likelihood from the readout: by L-BFGS on a part, to the end on all data.

    Other starts follow where the labels still depend on the past.
    """
    solver, layout = problem.settings.solver, problem.layout_of(readout.model)
    assert isinstance(solver, FisherScoring)

    def progress(step: int, loss: float, share: float) -> None:
        show(f"step {step}, loss {loss:.4f}")

    loss, engine = problem.settings.loss, problem.engine
    given = (loss, readout.model, layout, engine, readout.training)
    first = LBFGS().minimise(*given, held_out=readout.held_out, progress=progress)
    found = solver.minimise(loss, first.model, layout, engine, readout.source, progress=progress)
    search = highest_maximum(problem, inputs, readout, found, show)
    found, errors = search.best.solution, None
    findings = (*findings_of(search), *readout.findings)
    share = accuracy(problem, readout.source, found.model)
    if found.status is RefinementStatus.CONVERGED and share < 1.0:
        errors = label_errors(problem, readout, found, layout)
        findings = (*findings, *errors.findings, *_undetermined(readout, found, layout))
    else:
        findings = (*findings, _no_maximum(found, separated=share == 1.0))
    certificate = search.certificate
    if found.status is not RefinementStatus.CONVERGED:
        # other starts that ended alike say nothing of weights that are not where these ended
        certificate = replace(certificate, status=CertificateStatus.UNCERTAIN)
    model, directions = on_inputs_as_given(problem, readout, found.model)
    accuracies = {
        **readout.accuracies,
        "refined, training": share,
    }
    fit = RefinedFit(
        *(model, directions, found.status, found.n_steps),
        accuracies=accuracies,
        certificate=certificate,
        findings=findings,
        detail=found.outcome,
    )
    if errors is None:
        return fit
    return replace(
        fit,
        errors=errors,
        covariance=errors.listed(layout),
        inverse_information=errors.listed_inverse(layout),
        weights=layout.weights(model),
        predicted_errors=errors.relative(model, layout),
    )


def label_errors(
    problem: FitProblem, readout: Readout, found: Solution, layout: Layout
) -> StandardErrors:
    """Sandwich of the multinomial likelihood, of the weights for the inputs as given.

    Weights of the outputs add up to zero over the labels.
    """
    source = readout.source
    model = in_given_units(source, found.model)
    reported = on_uncentred_inputs(layout, given_centre(source))
    if source.scale is not None:
        reported = reported @ in_other_units(model, layout, scale_of_columns(source))
    errors = standard_errors(
        found,
        layout,
        problem.engine,
        source,
        reported=reported,
        loss=problem.settings.loss,
        gauge=label_gauge(layout),
    )
    return errors.canonical(units_of(model), layout)


def _undetermined(readout: Readout, found: Solution, layout: Layout) -> tuple[Finding, ...]:
    """Which units the labels do not determine, by their numbers in the report."""
    assert found.hessian is not None
    order = units_of(in_given_units(readout.source, found.model)).order
    return unit_effects(found.model, found.hessian, layout, order).findings()


def _no_maximum(found: Solution, *, separated: bool) -> Finding:
    why = "the network separates all labels" if separated else f"{found.status.value}"
    return Finding(
        ConvergenceWarning,
        f"no maximum of the likelihood was found ({found.n_steps} steps; {why}), and there are no "
        f"standard errors",
        "give more steps or fit fewer units, or use refine='full', which stops by held-out data",
    )
