"""The report of a fit, made once from what its stages returned."""

from __future__ import annotations

from dataclasses import replace

from gloree.diagnostics import FitReport, Stage
from gloree.fitting._any_activation import Search
from gloree.fitting._first_moment import FirstMoment
from gloree.fitting._inputs import InputSummary
from gloree.fitting._labels import ClassWhitening
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import MomentFit, RecurrentStart
from gloree.fitting._refine import RefinedFit

NO_START = 0.5
"""Predicted error of the first moment from which it cannot be told from zero, and is no start."""


def fit_report(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    first: FirstMoment,
    start: RecurrentStart,
    moments: MomentFit,
    refined: RefinedFit,
    stages: tuple[Stage, ...],
) -> FitReport:
    """Collect what is to be reported."""
    conditions = {"inputs": inputs.condition, "components": first.decomposition.condition}
    if inputs.score_check is not None:
        conditions["Stein defect"] = inputs.score_check.defect
    if start.overlap is not None:
        conditions["overlap"] = start.overlap
    doubts = first.doubts if _in_doubt(first, refined) else ()
    findings = (*outputs.findings, *inputs.findings, *first.findings, *doubts, *start.findings)
    report = FitReport(
        sizes=sizes_of(problem, first.decomposition.rank),
        moment=first.moment,
        recurrence=start.recurrence,
        stages=stages,
        score_check=inputs.score_check,
        decomposition=first.decomposition,
        rank_reason=first.rank_reason,
        history=moments.current.history,
        conditions=conditions,
        findings=findings,
    )
    return completed_report(report, problem, outputs, refined)


def report_of_search(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    search: Search,
    refined: RefinedFit,
    stages: tuple[Stage, ...],
) -> FitReport:
    """The same of a fit with any activation."""
    start = search.start
    recurrent = problem.settings.recurrence is not None
    conditions = {} if problem.settings.few_values else {"inputs": inputs.condition}
    if start.decomposition is not None:
        conditions["components"] = start.decomposition.condition
    findings = (*outputs.findings, *inputs.findings, *start.findings)
    report = FitReport(
        sizes=sizes_of(problem, start.model.n_hidden),
        moment="average derivatives",
        recurrence="with all weights" if recurrent else "none",
        stages=stages,
        decomposition=start.decomposition,
        rank_reason=start.rank_reason,
        history=search.history,
        conditions=conditions,
        findings=findings,
    )
    return completed_report(report, problem, outputs, refined)


def completed_report(
    report: FitReport, problem: FitProblem, outputs: OutputSummary, refined: RefinedFit
) -> FitReport:
    """The report with what the refinement found."""
    errors = refined.errors
    return replace(
        report,
        directions=refined.directions,
        moments_rmse=refined.moments_rmse,
        refined_rmse=refined.rmse,
        # of whitened indicators it would say nothing
        output_std=None if isinstance(problem.encode, ClassWhitening) else outputs.given_std,
        refinement_status=refined.status,
        refinement_steps=refined.n_steps,
        standard_errors={} if errors is None else errors.weights,
        degrees_of_freedom={} if errors is None else errors.degrees_of_freedom,
        covariance=refined.covariance,
        inverse_information=refined.inverse_information,
        weights=refined.weights,
        n_undetermined=0 if errors is None else errors.n_undetermined,
        predicted_errors=refined.predicted_errors,
        specification=refined.specification,
        accuracies=refined.accuracies,
        certificate=refined.certificate,
        output_weighting=refined.output_weighting,
        residual_covariance=refined.residual_covariance,
        findings=(*report.findings, *refined.findings),
        plan=str(outputs.plan),
    )


def _in_doubt(first: FirstMoment, refined: RefinedFit) -> bool:
    """Whether what the first moment leaves in doubt stays so after the refinement.

    Tests of the refined units replace doubts about single components, and large predicted errors
    where every unit passes; not a decomposition that failed, as the descent may then have started
    anywhere.
    """
    found = first.decomposition
    if refined.units is None or not found.overall_objection:
        return refined.units is None
    lost = not max(found.component_error, found.loading_error) < NO_START
    return lost or not found.status.ok or refined.units.doubtful.size > 0


def sizes_of(problem: FitProblem, hidden: int) -> dict[str, int]:
    """Sizes of data and network."""
    data = problem.data
    sizes = {"sequences": data.n_sequences, "steps": data.n_rows, "inputs": data.n_inputs}
    if isinstance(problem.encode, ClassWhitening):
        sizes["labels"] = problem.encode.counts.shape[0]
    else:
        sizes["outputs"] = data.n_outputs
    return {**sizes, "hidden": hidden, "weights": problem.layout(hidden).size}
