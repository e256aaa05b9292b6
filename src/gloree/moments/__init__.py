"""Cross moments of outputs and score functions, as mergeable sums over the data."""

from gloree.moments._coordinates import Coordinates, Whitening, score_coordinates
from gloree.moments._cross import CrossMoment, cross_moment, cross_moment_sums
from gloree.moments._estimators import (
    FIRST_MOMENTS,
    BoundMoment,
    FirstMomentEstimator,
    MomentEstimate,
    PlainRegression,
    ResidualMoment,
    ScoreMoment,
    ScoreResidual,
    UnionRegression,
)
from gloree.moments._plan import MemoryLimitError, MomentPlan, plan
from gloree.moments._range import RangeSums, range_basis, range_sums
from gloree.moments._regression import (
    RegressionFeatures,
    RegressionSolver,
    RegressionSums,
    regression_sums,
)
from gloree.moments._regression_moment import regression_moment

__all__ = [
    "FIRST_MOMENTS",
    "BoundMoment",
    "Coordinates",
    "CrossMoment",
    "FirstMomentEstimator",
    "MemoryLimitError",
    "MomentEstimate",
    "MomentPlan",
    "PlainRegression",
    "RangeSums",
    "RegressionFeatures",
    "RegressionSolver",
    "RegressionSums",
    "ResidualMoment",
    "ScoreMoment",
    "ScoreResidual",
    "UnionRegression",
    "Whitening",
    "cross_moment",
    "cross_moment_sums",
    "plan",
    "range_basis",
    "range_sums",
    "regression_moment",
    "regression_sums",
    "score_coordinates",
]
