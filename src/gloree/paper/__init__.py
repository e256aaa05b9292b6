"""The published algorithms, GLOREE and GLOREE-B, step by step and in one call."""

from gloree.paper._algorithm import PaperMoments, gloree, gloree_b, recover
from gloree.paper._moments import (
    ErrorSums,
    HighOrderSums,
    SampleMoments,
    error_sums,
    rank_one_entries,
    second_moment_sums,
)
from gloree.paper._result import PaperFit

__all__ = [
    "ErrorSums",
    "HighOrderSums",
    "PaperFit",
    "PaperMoments",
    "SampleMoments",
    "error_sums",
    "gloree",
    "gloree_b",
    "rank_one_entries",
    "recover",
    "second_moment_sums",
]
