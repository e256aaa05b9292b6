"""Do the units of the outputs cost precision? What equal weights of them lose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.diagnostics import Finding, ScaleWarning
from gloree.fitting._descent import Descent
from gloree.fitting._outputs import usual_variance
from gloree.refinement import most_to_lose, weighting_loss
from gloree.sequences import Array

MATTERS = 1.5
"""Loss from which it is said: standard errors larger by 22 %."""

ROUNDING = 1e-5
"""Residual, over the spread of its output, that counts at least: less is rounding."""


@dataclass(frozen=True)
class OutputWeighting:
    """Variance of the input weights, over that with outputs scaled to residuals of equal size.

    `residuals`, (n_outputs,), are root mean squares, rounding at least; `loss` is 1 where they are
    so much alike that it cannot matter.
    """

    residuals: Array
    loss: float = 1.0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Say so if it matters."""
        if not self.loss > MATTERS:
            return ()
        least, most = float(self.residuals.min()), float(self.residuals.max())
        finding = Finding(
            ScaleWarning,
            f"the outputs have very different residual sizes ({least:.2g} to {most:.2g}), and "
            f"count with their squares: standard errors of the input weights are "
            f"{np.sqrt(self.loss):.2g} times what they could be",
            "scale them, dividing `Y` by `report_.refined_rmse`, and fit again",
        )
        return (finding,)


def weigh_outputs(descent: Descent) -> OutputWeighting | None:
    """Find what is lost; None without squared errors or J^T J, and where all outputs are exact."""
    problem, solution = descent.problem, descent.solution
    if solution.hessian is None or solution.squares is None:
        return None
    spread = usual_variance(problem)
    variances, least = solution.squares / solution.n_rows, ROUNDING**2 * spread
    if not (variances > least).any():
        return None
    covariance = np.diag(np.maximum(variances, least))
    residuals = np.sqrt(np.diag(covariance))
    if not MATTERS < most_to_lose(covariance) < np.inf:
        return OutputWeighting(residuals)
    given = (solution.model, descent.layout, problem.engine, descent.source, covariance)
    return OutputWeighting(residuals, weighting_loss(*given))
