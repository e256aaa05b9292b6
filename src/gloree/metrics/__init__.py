"""Errors of weights and predictions: the one home of "equal up to symmetry"."""

from gloree.metrics._alignment import WEIGHTS, Alignment, align, weight_errors
from gloree.metrics._scorers import SequenceScorer, sequence_scorer
from gloree.metrics._scores import SquaredErrors, r2_score, root_mean_square_error, score_model

__all__ = [
    "WEIGHTS",
    "Alignment",
    "SequenceScorer",
    "SquaredErrors",
    "align",
    "r2_score",
    "root_mean_square_error",
    "score_model",
    "sequence_scorer",
    "weight_errors",
]
