"""What a fit finds out about itself: checks before it, findings during it, the report after it."""

from gloree.diagnostics._checks import (
    CONDITION_LIMIT,
    check_covariance,
    check_identifiable,
    check_samples,
    recoverable_degree,
)
from gloree.diagnostics._findings import (
    AcceptanceWarning,
    ConditionWarning,
    ConvergenceWarning,
    DirectionWarning,
    Finding,
    GloreeWarning,
    IdentifiabilityError,
    LabelWarning,
    OutlierWarning,
    RotationWarning,
    ScoreWarning,
    SpecificationWarning,
    TooFewSamplesError,
    emit,
    warn_caller,
)
from gloree.diagnostics._identification import IdentificationReport, OrderTrial
from gloree.diagnostics._report import FitReport, Stage
from gloree.diagnostics._specification import SpecificationTest

__all__ = [
    "CONDITION_LIMIT",
    "AcceptanceWarning",
    "ConditionWarning",
    "ConvergenceWarning",
    "DirectionWarning",
    "Finding",
    "FitReport",
    "GloreeWarning",
    "IdentifiabilityError",
    "IdentificationReport",
    "LabelWarning",
    "OrderTrial",
    "OutlierWarning",
    "RotationWarning",
    "ScoreWarning",
    "SpecificationTest",
    "SpecificationWarning",
    "Stage",
    "TooFewSamplesError",
    "check_covariance",
    "check_identifiable",
    "check_samples",
    "emit",
    "recoverable_degree",
    "warn_caller",
]
