"""An identification from records to networks, on one page: stages that return values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gloree._brief import Brief
from gloree.diagnostics import IdentificationReport, Stage
from gloree.engine import Clock
from gloree.fitting import stage_runner
from gloree.identification._linear import LinearFit, fit_linear
from gloree.identification._nonlinearity import Nonlinearity, find_nonlinearity
from gloree.identification._problem import IdentificationProblem
from gloree.identification._refinement import (
    RankedStarts,
    RefinedLinear,
    RefinedNetwork,
    Search,
    rank_starts,
    refine_linear,
    refine_network,
)
from gloree.models import IORNN

N_STAGES = 5  # stages of an identification, at most


@dataclass(frozen=True)
class Identified(Brief):
    """Outcome of an identification, with networks in the units of the original records.

    `model` is the network that is kept, `linear_model` the linear one of least simulation error,
    and `moments_model` the one made from moments alone.
    """

    model: IORNN
    linear_model: IORNN
    moments_model: IORNN
    report: IdentificationReport


def identify(problem: IdentificationProblem) -> Identified:
    """Run all stages.

    Raises a ValueError if the samples do not support as many linear states as were asked for, and a
    TooFewSamplesError if no record is long enough.
    """
    settings, clock = problem.settings, Clock(problem.engine)
    with problem.engine.small_matrices(), stage_runner(N_STAGES, settings.verbose) as stages:
        fit = stages.run("linear model", fit_linear, problem)
        search = Search(problem, fit.split, clock, stages.show)
        moments, starts = Nonlinearity(fit.linear.model), RankedStarts()
        if settings.n_nonlinear != 0:
            moments = stages.run("nonlinearity", find_nonlinearity, problem, fit, clock)
        if moments.unit_counts:
            starts = stages.run("starts", rank_starts, search, fit, moments)
        linear = stages.run("linear refinement", refine_linear, search, fit, moments)
        if settings.n_nonlinear == 0:
            end = linear.end
            network = RefinedNetwork(end.model, status=end.status, n_steps=end.n_steps)
        else:
            network = stages.run("refinement", refine_network, search, starts, moments, linear)
        report = _report(problem, fit, moments, linear, network, stages.done)
    kept, straight, initial = (problem.unscaled(m.model) for m in (network, linear, moments))
    return Identified(kept, straight, initial, report)


def _report(
    problem: IdentificationProblem,
    fit: LinearFit,
    moments: Nonlinearity,
    linear: RefinedLinear,
    network: RefinedNetwork,
    stages: tuple[Stage, ...],
) -> IdentificationReport:
    records, states = problem.records, slice(fit.order)
    poles = np.linalg.eigvals(network.model.recurrent_weights[states, states])
    directions = moments.directions[-1] if moments.directions else ()
    sizes = {"records": records.n_sequences, "samples": records.n_rows}
    sizes |= {"inputs": records.n_inputs, "outputs": records.n_outputs}
    return IdentificationReport(
        sizes=sizes,
        stages=stages,
        ridge=fit.response.ridge,
        input_condition=fit.response.condition,
        orders=fit.trials,
        poles=poles.astype(np.complex128),
        explained=directions[0].explained if directions else (math.nan, math.nan),
        n_directions=len(directions),
        linear_error=linear.error,
        moments_error=linear.moments_error,
        refined_error=network.error,
        training_error=network.training_error,
        nonlinear=network.nonlinear,
        history=network.history,
        refinement_status=network.status,
        refinement_steps=network.n_steps,
        output_size=problem.output_size,
        notes=network.notes,
        findings=(*fit.findings, *problem.findings),
    )
