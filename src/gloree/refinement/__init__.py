"""Residual rounds and Gauss-Newton steps: from consistent weights to efficient ones."""

from gloree.refinement._gauss_newton import (
    Refinement,
    RefinementStatus,
    StandardErrors,
    gauss_newton,
    hessian_pass,
    standard_errors,
)
from gloree.refinement._layout import Layout
from gloree.refinement._rounds import (
    Rounds,
    RoundSettings,
    RoundSums,
    evaluate_batch,
    first_model,
    with_components,
)
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    SpreadSums,
    SquareSums,
    gradient_sums,
    hessian_sums,
    spread_sums,
    square_sums,
)

__all__ = [
    "GradientSums",
    "HessianSums",
    "Layout",
    "Refinement",
    "RefinementStatus",
    "RoundSettings",
    "RoundSums",
    "Rounds",
    "SpreadSums",
    "SquareSums",
    "StandardErrors",
    "evaluate_batch",
    "first_model",
    "gauss_newton",
    "gradient_sums",
    "hessian_pass",
    "hessian_sums",
    "spread_sums",
    "square_sums",
    "standard_errors",
    "with_components",
]
