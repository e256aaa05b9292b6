"""After the refinement of a regression: what simpler models of the same data do better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gloree.diagnostics import (
    AcceptanceWarning,
    ConvergenceWarning,
    Finding,
    ScaleWarning,
    SpecificationWarning,
)
from gloree.fitting._inputs import MATERIAL_MEAN, InputSummary
from gloree.fitting._large_biases import UNEXPLAINED
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._refine import RefinedFit
from gloree.sequences import Array

FAR_MEAN = 3.0
"""Means of the inputs, over their spread, from which zeros before a sequence spoil a fit."""

CENTRE = "centre `X`, or set `fit_bias`=True"
"""What to do about inputs with a mean."""

SAME_CAUSE = (AcceptanceWarning, ConvergenceWarning, ScaleWarning, SpecificationWarning)
"""Findings that lead astray where the origin of the inputs is what is wrong."""


def against_simpler(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    noise: Array | None,
    refined: RefinedFit,
) -> RefinedFit:
    """Keep a constant where the network is worse, and say what inputs with a mean ask for.

    Without hidden biases a network depends on the origin of the inputs. The regression on the
    inputs behind the first moment does not: where it leaves a clearly smaller squared error, the
    origin is what is wrong, and not the activation or the number of units. `noise`, (n_outputs,),
    is what that regression leaves, where there is one.
    """
    if problem.encode is not None:
        return replace(refined, findings=(*_of_labels(problem, inputs), *refined.findings))
    rmse = refined.moments_rmse if refined.rmse is None else refined.rmse
    if rmse is None:
        return refined
    if outputs.units is not None:
        rmse = rmse / outputs.units.scale
    error, constant = float(np.sum(rmse**2)), float(np.sum(outputs.std**2))
    restricted = not problem.settings.bias and inputs.offset > MATERIAL_MEAN
    if error > constant:
        finding = Finding(
            ConvergenceWarning,
            f"the network has a larger squared error than the mean of the outputs "
            f"(R^2 {1.0 - error / constant:.3g}): that constant is kept as the model",
            CENTRE if restricted else "look for values of extreme size, or try other `n_hidden`",
        )
        return _constant(refined, outputs, finding)
    if problem.settings.lags > 1 and inputs.offset > FAR_MEAN:
        refined = replace(refined, findings=(_zeros_before(inputs), *refined.findings))
    if not restricted or noise is None or error <= UNEXPLAINED * float(np.sum(noise**2)):
        return refined
    finding = Finding(
        SpecificationWarning,
        f"without hidden biases a network depends on the origin of the inputs, whose means are up "
        f"to {inputs.offset:.3g} times their spread: its squared error is "
        f"{error / max(float(np.sum(noise**2)), 1e-300):.3g} times that of a polynomial of the "
        f"inputs alone",
        CENTRE,
    )
    return replace(refined, findings=_advice(refined, finding))


def _zeros_before(inputs: InputSummary) -> Finding:
    return Finding(
        SpecificationWarning,
        f"zeros stand in the windows of `lags` inputs before the start of each sequence, and the "
        f"means of the inputs are up to {inputs.offset:.3g} times their spread: the first steps "
        f"of a sequence are predicted badly, and may spoil the recurrence",
        "centre `X`",
    )


def _of_labels(problem: FitProblem, inputs: InputSummary) -> list[Finding]:
    """What inputs with a mean do to labels, for which no simpler model is at hand to compare."""
    if inputs.offset <= FAR_MEAN:
        return []
    found = [_zeros_before(inputs)] if problem.settings.lags > 1 else []
    if not problem.settings.bias:
        text = (
            f"without hidden biases a network depends on the origin of the inputs, whose means are "
            f"up to {inputs.offset:.3g} times their spread: units then hardly tell steps apart"
        )
        found.append(Finding(SpecificationWarning, text, CENTRE))
    return found


def _advice(refined: RefinedFit, finding: Finding) -> tuple[Finding, ...]:
    """The finding, without those about units and activation: they have the same cause."""
    kept = (each for each in refined.findings if not issubclass(each.category, SAME_CAUSE))
    return (finding, *kept)


def _constant(refined: RefinedFit, outputs: OutputSummary, finding: Finding) -> RefinedFit:
    """The mean of the outputs as a network whose units have no part in them."""
    model, direct = refined.model, refined.model.direct_weights
    nothing = model.replace(
        recurrent_weights=0.0 * model.recurrent_weights,
        output_weights=0.0 * model.output_weights,
        output_bias=outputs.given_mean,
        direct_weights=None if direct is None else 0.0 * direct,
    )
    return replace(
        refined,
        model=nothing,
        rmse=outputs.given_std,
        errors=None,
        covariance=None,
        inverse_information=None,
        weights={},
        predicted_errors={},
        output_weighting=None,
        residual_covariance=np.diag(outputs.given_std**2),
        specification={},
        units=None,
        findings=_advice(refined, finding),
    )
