"""A fit from data to network, made of values (see `gloree.fitting.run_fit`)."""

from gloree.fitting._labels import LabelCoding
from gloree.fitting._pipeline import FittedNetwork, Labelling, Regression, Task, run_fit
from gloree.fitting._problem import BY_RESIDUALS, EQUAL, FitProblem, FitSettings
from gloree.fitting._stages import StageRunner, stage_runner

__all__ = [
    "BY_RESIDUALS",
    "EQUAL",
    "FitProblem",
    "FitSettings",
    "FittedNetwork",
    "LabelCoding",
    "Labelling",
    "Regression",
    "StageRunner",
    "Task",
    "run_fit",
    "stage_runner",
]
