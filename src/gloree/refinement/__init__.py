"""Residual rounds and Gauss-Newton steps: from consistent weights to efficient ones."""

from gloree.refinement._cross_entropy import (
    CrossEntropySums,
    LabelRefinement,
    cross_entropy_sums,
    minimise_cross_entropy,
    softmax,
    split_held_out,
)
from gloree.refinement._gauss_newton import (
    Refinement,
    RefinementStatus,
    gauss_newton,
)
from gloree.refinement._layout import Layout, polynomial_powers
from gloree.refinement._levenberg_marquardt import (
    Descent,
    NormalSums,
    levenberg_marquardt,
    normal_sums,
)
from gloree.refinement._matrix import hessian_pass
from gloree.refinement._readout import logistic_readout
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
from gloree.refinement._standard_errors import StandardErrors, standard_errors

__all__ = [
    "CrossEntropySums",
    "Descent",
    "GradientSums",
    "HessianSums",
    "LabelRefinement",
    "Layout",
    "NormalSums",
    "Refinement",
    "RefinementStatus",
    "RoundSettings",
    "RoundSums",
    "Rounds",
    "SpreadSums",
    "SquareSums",
    "StandardErrors",
    "cross_entropy_sums",
    "evaluate_batch",
    "first_model",
    "gauss_newton",
    "gradient_sums",
    "hessian_pass",
    "hessian_sums",
    "levenberg_marquardt",
    "logistic_readout",
    "minimise_cross_entropy",
    "normal_sums",
    "polynomial_powers",
    "softmax",
    "split_held_out",
    "spread_sums",
    "square_sums",
    "standard_errors",
    "with_components",
]
