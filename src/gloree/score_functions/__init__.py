"""Score functions: tensors of any order for teaching and tests, and Stein's identity on data."""

from gloree.score_functions._bell import bell_tensors, score_tensors, scores_along
from gloree.score_functions._check_law import check_law
from gloree.score_functions._hermite import hermite_along, hermite_tensor
from gloree.score_functions._stein import SteinStatistic, check_score, stein_statistic
from gloree.score_functions._tensors import (
    joint_score,
    partial_score,
    window_score,
    window_score_covariance,
)
from gloree.score_functions._verdict import (
    DOUBTFUL,
    FINE,
    EdgeCheck,
    NeighbourDefect,
    ScoreCheck,
)
from gloree.score_functions._whitening import SymmetricWhitening

__all__ = [
    "DOUBTFUL",
    "FINE",
    "EdgeCheck",
    "NeighbourDefect",
    "ScoreCheck",
    "SteinStatistic",
    "SymmetricWhitening",
    "bell_tensors",
    "check_law",
    "check_score",
    "hermite_along",
    "hermite_tensor",
    "joint_score",
    "partial_score",
    "score_tensors",
    "scores_along",
    "stein_statistic",
    "window_score",
    "window_score_covariance",
]
