"""A fit from data to network, made of values (see `gloree.fitting.run_fit`)."""

from gloree.fitting._input_changes import SegmentMoments
from gloree.fitting._kept_rows import (
    Continued,
    KeptRows,
    continue_with,
    continued_report,
    keep_rows,
    kept_of_report,
)
from gloree.fitting._labels import LabelCoding
from gloree.fitting._pipeline import FittedNetwork, Labelling, Regression, Task, run_fit
from gloree.fitting._problem import BY_RESIDUALS, EQUAL, FitProblem, FitSettings
from gloree.fitting._stages import StageRunner, stage_runner
from gloree.fitting._warm_start import check_start

__all__ = [
    "BY_RESIDUALS",
    "EQUAL",
    "Continued",
    "FitProblem",
    "FitSettings",
    "FittedNetwork",
    "KeptRows",
    "LabelCoding",
    "Labelling",
    "Regression",
    "SegmentMoments",
    "StageRunner",
    "Task",
    "check_start",
    "continue_with",
    "continued_report",
    "keep_rows",
    "kept_of_report",
    "run_fit",
    "stage_runner",
]
