"""Score functions: tensors of any order for teaching and tests, and Stein's identity on data."""

from gloree.score_functions._hermite import hermite_along, hermite_tensor
from gloree.score_functions._stein import (
    SteinStatistic,
    SymmetricWhitening,
    check_score,
    stein_statistic,
)
from gloree.score_functions._tensors import (
    joint_score,
    partial_score,
    window_score,
    window_score_covariance,
)
from gloree.score_functions._verdict import DOUBTFUL, FINE, EdgeCheck, ScoreCheck

__all__ = [
    "DOUBTFUL",
    "FINE",
    "EdgeCheck",
    "ScoreCheck",
    "SteinStatistic",
    "SymmetricWhitening",
    "check_score",
    "hermite_along",
    "hermite_tensor",
    "joint_score",
    "partial_score",
    "stein_statistic",
    "window_score",
    "window_score_covariance",
]
