"""Cross moments of outputs and score functions, as mergeable sums over the data."""

from gloree._sums import MergeError
from gloree.moments._cross import CrossMoment, cross_moment, cross_moment_sums
from gloree.moments._frames import Frame, score_frame
from gloree.moments._plan import MemoryLimitError, MomentPlan, plan
from gloree.moments._range import RangeSums, gaussian_probes, range_basis, range_sums
from gloree.moments._regression import (
    RegressionFeatures,
    RegressionSolver,
    RegressionSums,
    Whitening,
    regression_moment,
    regression_sums,
)

__all__ = [
    "CrossMoment",
    "Frame",
    "MemoryLimitError",
    "MergeError",
    "MomentPlan",
    "RangeSums",
    "RegressionFeatures",
    "RegressionSolver",
    "RegressionSums",
    "Whitening",
    "cross_moment",
    "cross_moment_sums",
    "gaussian_probes",
    "plan",
    "range_basis",
    "range_sums",
    "regression_moment",
    "regression_sums",
    "score_frame",
]
