"""Fitted systems as control engineers use them: linear models, bands, residual tests, exports.

Functions of a network and, where something is to be said about errors, of its `Uncertainty`, which
comes from the records that it was fitted to. `SystemIdentifier` has methods for most of them.
"""

from gloree.models import export_onnx, to_onnx
from gloree.systems._c_code import c_code, export_c
from gloree.systems._channels import Channels, sampling_time
from gloree.systems._frequency import (
    FrequencyResponse,
    SpectralResponse,
    frequency_response,
    spectral_response,
)
from gloree.systems._modes import LinearCharacteristics, Roots, characteristics
from gloree.systems._noise import Noise, fit_noise
from gloree.systems._residuals import ResidualTests, residual_tests
from gloree.systems._responses import (
    PredictionIntervals,
    TimeResponse,
    prediction_intervals,
    time_response,
)
from gloree.systems._sensitivities import FreeRun, free_run, layout_of
from gloree.systems._state_space import (
    OperatingPoint,
    dead_times,
    operating_point,
    to_control,
    to_state_space,
)
from gloree.systems._uncertainty import (
    AtRecords,
    Uncertainty,
    at_records,
    first_rows,
    uncertainty,
)

__all__ = [
    "AtRecords",
    "Channels",
    "FreeRun",
    "FrequencyResponse",
    "LinearCharacteristics",
    "Noise",
    "OperatingPoint",
    "PredictionIntervals",
    "ResidualTests",
    "Roots",
    "SpectralResponse",
    "TimeResponse",
    "Uncertainty",
    "at_records",
    "c_code",
    "characteristics",
    "dead_times",
    "export_c",
    "export_onnx",
    "first_rows",
    "fit_noise",
    "free_run",
    "frequency_response",
    "layout_of",
    "operating_point",
    "prediction_intervals",
    "residual_tests",
    "sampling_time",
    "spectral_response",
    "time_response",
    "to_control",
    "to_onnx",
    "to_state_space",
    "uncertainty",
]
