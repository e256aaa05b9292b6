"""The report of an identification, made once from what its stages returned."""

from __future__ import annotations

import numpy as np

from gloree.diagnostics import IdentificationReport, Stage
from gloree.identification._linear import LinearFit
from gloree.identification._nonlinearity import Nonlinearity
from gloree.identification._problem import IdentificationProblem
from gloree.identification._refinement import RefinedLinear, RefinedNetwork


def identification_report(
    problem: IdentificationProblem,
    fit: LinearFit,
    moments: Nonlinearity,
    linear: RefinedLinear,
    network: RefinedNetwork,
    stages: tuple[Stage, ...],
) -> IdentificationReport:
    """Collect what is to be reported."""
    records, linear_states = problem.records, slice(fit.order)
    poles = np.linalg.eigvals(network.model.recurrent_weights[linear_states, linear_states])
    return IdentificationReport(
        sizes={
            "records": records.n_sequences,
            "samples": records.n_rows,
            "inputs": records.n_inputs,
            "outputs": records.n_outputs,
        },
        stages=stages,
        ridge=fit.response.ridge,
        input_condition=fit.response.condition,
        orders=fit.trials,
        poles=poles.astype(np.complex128),
        explained=moments.explained,
        n_directions=moments.n_directions,
        linear_error=linear.error,
        moments_error=linear.moments_error,
        refined_error=network.error,
        training_error=network.training_error,
        nonlinear=network.nonlinear,
        history=network.history,
        refinement_status=network.status,
        refinement_steps=network.n_steps,
        output_size=problem.scaling.output_size,
        notes=network.notes,
        findings=(*fit.findings, *problem.findings),
    )
