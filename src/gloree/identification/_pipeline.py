"""An identification from records to networks, on one page: stages that return values."""

from __future__ import annotations

from dataclasses import dataclass

from gloree.diagnostics import IdentificationReport
from gloree.engine import Clock
from gloree.fitting import stage_runner
from gloree.identification._descent import Search
from gloree.identification._linear import fit_linear
from gloree.identification._nonlinearity import Nonlinearity, find_nonlinearity
from gloree.identification._problem import IdentificationProblem
from gloree.identification._refinement import keep_linear, refine_linear, refine_network
from gloree.identification._report import identification_report
from gloree.identification._starts import RankedStarts, rank_starts
from gloree.models import IORNN

N_STAGES = 5
"""Stages of an identification, at most."""


@dataclass(frozen=True)
class Identified:
    """Outcome of an identification; networks on records as they were given.

    Attributes
    ----------
    model : IORNN
        The network that is kept.
    linear_model : IORNN
        The linear model of least simulation error.
    moments_model : IORNN
        The network of moments alone.
    report : IdentificationReport
    """

    model: IORNN
    linear_model: IORNN
    moments_model: IORNN
    report: IdentificationReport


def identify(problem: IdentificationProblem) -> Identified:
    """Run all stages.

    Raises
    ------
    ValueError
        If the samples do not support as many linear states as were asked for.
    TooFewSamplesError
        If no record is long enough.
    """
    settings, clock = problem.settings, Clock(problem.engine)
    with problem.engine.small_matrices(), stage_runner(N_STAGES, settings.verbose) as stages:
        fit = stages.run("linear model", fit_linear, problem)
        search = Search(problem, fit.split, clock, stages.show)
        moments, starts = Nonlinearity(fit.linear.model), RankedStarts()
        if settings.n_nonlinear != 0:
            moments = stages.run("nonlinearity", find_nonlinearity, problem, fit, clock)
        if moments.unit_counts:
            starts = stages.run("starts", rank_starts, problem, fit, moments, search)
        linear = stages.run("linear refinement", refine_linear, problem, fit, moments, search)
        if settings.n_nonlinear == 0:
            network = keep_linear(linear)
        else:
            network = stages.run(
                "refinement", refine_network, problem, starts, moments, linear, search
            )
        report = identification_report(problem, fit, moments, linear, network, stages.done)
    undo = problem.scaling.undo
    return Identified(undo(network.model), undo(linear.model), undo(moments.model), report)
