"""Rounds of residual moments, losses and solvers: from consistent weights to efficient ones."""

from gloree.refinement._curvature import hessian_pass
from gloree.refinement._efficient_scores import EfficientScores, flip_test, left_to_gain
from gloree.refinement._fisher_scoring import (
    FisherScoring,
    fisher_information,
    label_gauge,
    without_common_part,
)
from gloree.refinement._gauss_newton import MOST_WEIGHTS, GaussNewton, gauss_newton
from gloree.refinement._kept_rows import (
    Continuation,
    Likelihood,
    NormalOutputs,
    NormalSums,
    SoftmaxLabels,
    chance,
    covariance_of,
    go_on,
    normal_sums,
    sum_normal_equations,
    sums_of_report,
)
from gloree.refinement._layout import Layout, polynomial_powers
from gloree.refinement._lbfgs import LBFGS, split_held_out
from gloree.refinement._levenberg_marquardt import LevenbergMarquardt
from gloree.refinement._losses import LOSSES, CrossEntropy, Loss, LossSums, SquaredError, softmax
from gloree.refinement._output_weighting import most_to_lose, shrunk_covariance, weighting_loss
from gloree.refinement._readout import INVERSE_RIDGE, logistic_readout
from gloree.refinement._rescaling import (
    in_other_units,
    on_uncentred_inputs,
    on_unmixed_outputs,
)
from gloree.refinement._rounds import (
    Iterate,
    Rounds,
    RoundSums,
    evaluate,
    first_model,
    polished,
    residual_round,
    start_rounds,
    sweep,
    with_components,
)
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    ResidualSums,
    SquareSums,
    gradient_sums,
    hessian_sums,
    residual_sums,
    spread_sums,
    square_sums,
)
from gloree.refinement._solvers import Progress, RefinementStatus, Solution, Solver, Step
from gloree.refinement._specification import Alternatives, coupling_sums, score_rows, unit_sums
from gloree.refinement._standard_errors import StandardErrors, inverse_root, standard_errors

__all__ = [
    "INVERSE_RIDGE",
    "LBFGS",
    "LOSSES",
    "MOST_WEIGHTS",
    "Alternatives",
    "Continuation",
    "CrossEntropy",
    "EfficientScores",
    "FisherScoring",
    "GaussNewton",
    "GradientSums",
    "HessianSums",
    "Iterate",
    "Layout",
    "LevenbergMarquardt",
    "Likelihood",
    "Loss",
    "LossSums",
    "NormalOutputs",
    "NormalSums",
    "Progress",
    "RefinementStatus",
    "ResidualSums",
    "RoundSums",
    "Rounds",
    "SoftmaxLabels",
    "Solution",
    "Solver",
    "SquareSums",
    "SquaredError",
    "StandardErrors",
    "Step",
    "chance",
    "coupling_sums",
    "covariance_of",
    "evaluate",
    "first_model",
    "fisher_information",
    "flip_test",
    "gauss_newton",
    "go_on",
    "gradient_sums",
    "hessian_pass",
    "hessian_sums",
    "in_other_units",
    "inverse_root",
    "label_gauge",
    "left_to_gain",
    "logistic_readout",
    "most_to_lose",
    "normal_sums",
    "on_uncentred_inputs",
    "on_unmixed_outputs",
    "polished",
    "polynomial_powers",
    "residual_round",
    "residual_sums",
    "score_rows",
    "shrunk_covariance",
    "softmax",
    "split_held_out",
    "spread_sums",
    "square_sums",
    "standard_errors",
    "start_rounds",
    "sum_normal_equations",
    "sums_of_report",
    "sweep",
    "unit_sums",
    "weighting_loss",
    "with_components",
    "without_common_part",
]
