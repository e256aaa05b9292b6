"""What a fit has to say about itself: kinds of warnings, and findings that become them once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

_INSIDE = ("gloree", "sklearn", "joblib")
"""Packages whose lines no warning points at."""


class GloreeWarning(UserWarning):
    """Base of all warnings about a fit."""


class RotationWarning(GloreeWarning):
    """Units are determined only up to a rotation; predictions do not depend on it."""


class ScoreWarning(GloreeWarning):
    """The score of the fitted input law is wrong for these inputs."""


class AcceptanceWarning(GloreeWarning):
    """Some component of the decomposition, or some hidden unit, may be wrong or mere noise."""


class OutlierWarning(GloreeWarning):
    """Some sequences were left out because their outputs are beyond any scale."""


class DirectionWarning(GloreeWarning):
    """The direction of some unit of a bidirectional network is not to be trusted."""


class PrecisionWarning(GloreeWarning):
    """Standard errors cannot be relied on: few independent pieces, or other weights fit as well."""


class LabelWarning(GloreeWarning):
    """Some labels were not seen in the fit."""


class LinearModelWarning(GloreeWarning):
    """Hidden units have no part in the model: a linear one is as good on held-out sequences."""


class ConditionWarning(GloreeWarning):
    """The inputs are nearly collinear, or of very different sizes."""


class ScaleWarning(GloreeWarning):
    """Residuals of the outputs are of very different sizes, and the smaller ones hardly count."""


class ConvergenceWarning(GloreeWarning):
    """An iteration ended without reaching what it aims for."""


class SpecificationWarning(GloreeWarning):
    """The data contradict the class of networks that is fitted to them."""


class IdentifiabilityError(ValueError):
    """The weights asked for are not determined by any amount of data of this kind."""


class TooFewSamplesError(ValueError):
    """The data hold fewer numbers than there are unknowns."""


@dataclass(frozen=True)
class Finding:
    """Something that whoever uses a result should know.

    Attributes
    ----------
    category : type of GloreeWarning
    text : str
        What was found, with figures.
    remedy : str
        What to do about it; empty where nothing needs to be done.
    """

    category: type[GloreeWarning]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


def emit(findings: Iterable[Finding]) -> None:
    """Warn of every finding, at the line of the caller of the library."""
    for finding in findings:
        warn_caller(str(finding), finding.category)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the first line up the stack that is not the library's.

    Calls from scikit-learn and joblib (a pipeline, a search over parameters) are passed over too.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in _INSIDE
