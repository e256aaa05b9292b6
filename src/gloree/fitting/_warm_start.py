"""Fits that go on from the weights of an earlier one: no stage before the refinement is run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._brief import Brief
from gloree.activations import PerUnit
from gloree.diagnostics import FitReport, Stage
from gloree.fitting._given_units import on_seen_inputs
from gloree.fitting._inputs import InputSummary
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._refine import RefinedFit
from gloree.fitting._report import completed_report, sizes_of
from gloree.models import BRNN, ExplosionError, Network
from gloree.recurrence import Directions
from gloree.refinement import square_sums
from gloree.sequences import Array

NONE = "none (warm start)"
"""First moment and recurrence of such a fit."""


@dataclass(frozen=True)
class FittedWeights(Brief):
    """Weights of an earlier fit, on inputs as passes see them (see `Known`)."""

    model: Network
    directions: Directions | None
    rmse: Array

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"weights of the fit before, RMS residual {np.sqrt(np.mean(self.rmse**2)):.5g}"


def earlier_weights(
    problem: FitProblem, inputs: InputSummary, model: Network, *, labels: bool
) -> FittedWeights:
    """Weights of an earlier fit on the inputs of this one; their residual is NaN for labels."""
    seen = on_seen_inputs(inputs.source, model)
    if labels:
        return FittedWeights(seen, None, np.full(1, np.nan))
    try:
        sums = problem.engine.run(partial(square_sums, model=seen), inputs.inliers, label="start")
    except ExplosionError:  # the descent starts from weaker recurrences
        return FittedWeights(seen, None, np.full(problem.n_outputs, np.inf))
    return FittedWeights(seen, None, np.sqrt(sums.squares / sums.n_rows))


def check_start(
    problem: FitProblem, model: Network, n_outputs: int, what: str = "`warm_start`=True"
) -> FitProblem:
    """Refuse data or parameters that the weights of an earlier fit do not belong to.

    The problem has a free offset of the outputs afterwards, if these weights have one.
    """
    settings, both_ways = problem.settings, isinstance(model, BRNN)
    n_forward = model.n_forward if isinstance(model, BRNN) else None
    units = settings.activation
    same_units = model.activation == units or isinstance(model.activation, PerUnit)
    facts = (
        ("`X`", "inputs", problem.data.n_inputs, model.n_inputs),
        ("`labels`" if problem.encode else "`Y`", "outputs or classes", n_outputs, model.n_outputs),
        ("`n_hidden`", "units", settings.n_hidden or model.n_hidden, model.n_hidden),
        ("`n_hidden`", "forward units", settings.n_forward or n_forward, n_forward),
        ("`lags`", "steps in a window", settings.lags, model.lags),
        ("`bidirectional`", "directions", 1 + settings.bidirectional, 1 + both_ways),
        ("`direct`", "direct paths", int(settings.direct), int(model.direct_weights is not None)),
        ("`activation`", "activation", units.name, units.name if same_units else model.activation),
    )
    for name, kind, wanted, known in facts:
        if wanted != known:
            raise ValueError(
                f"{what} goes on from `model_`, and {name} does not fit it ({kind}: "
                f"{wanted} now, {getattr(known, 'name', known)} in `model_`): give data and "
                f"parameters as in the fit before, or fit a clone"
            )
    if settings.recurrence is None and model.recurrent_weights.any():
        raise ValueError(
            f"{what} goes on from `model_`, which has recurrent weights, with "
            f"`recurrence`=None: leave it as it was, or fit a clone"
        )
    if settings.bias:
        return problem
    if model.hidden_bias.any():
        raise ValueError(
            f"{what} goes on from `model_`, which has hidden biases, with "
            f"`fit_bias`=False: leave it as it was, or fit a clone"
        )
    return problem.with_offset() if model.output_bias.any() else problem


def warm_report(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    refined: RefinedFit,
    stages: tuple[Stage, ...],
) -> FitReport:
    """The report of such a fit: no moments, and no certificate."""
    report = FitReport(
        sizes=sizes_of(problem, refined.model.n_hidden),
        moment=NONE,
        recurrence=NONE,
        stages=stages,
        score_check=inputs.score_check,
        conditions={"inputs": inputs.condition},
        findings=(*outputs.findings, *inputs.findings),
    )
    return completed_report(report, problem, outputs, refined)
