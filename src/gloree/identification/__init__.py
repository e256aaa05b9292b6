"""Systems from records of their inputs and outputs: linear states, nonlinear units, refinement.

`identify` runs all stages; the steps behind them are plain functions.
"""

from gloree.identification._directions import (
    LagTensors,
    NonlinearDirection,
    find_directions,
    lag_tensors,
)
from gloree.identification._initial_state import (
    check_initial,
    estimate_state,
    read_measured,
    start_of_records,
)
from gloree.identification._linear_system import LinearSystem, with_delays
from gloree.identification._markov import ImpulseResponse, impulse_response
from gloree.identification._networks import (
    LinearModel,
    linear_model,
    nested_partitions,
    unit_biases,
    with_copied_states,
    with_outputs,
    with_shared_states,
)
from gloree.identification._pipeline import Identified, identify
from gloree.identification._problem import (
    FREE_POLYNOMIAL,
    IdentificationProblem,
    IdentificationSettings,
)
from gloree.identification._realisation import Realisation, ho_kalman, least_squares_realisation
from gloree.identification._records import (
    check_records,
    messages_of_u_and_y,
    read_inputs,
    read_records,
    suited_to,
)
from gloree.identification._screening import Screened, check_detrend, screen_records

__all__ = [
    "FREE_POLYNOMIAL",
    "IdentificationProblem",
    "IdentificationSettings",
    "Identified",
    "ImpulseResponse",
    "LagTensors",
    "LinearModel",
    "LinearSystem",
    "NonlinearDirection",
    "Realisation",
    "Screened",
    "check_detrend",
    "check_initial",
    "check_records",
    "estimate_state",
    "find_directions",
    "ho_kalman",
    "identify",
    "impulse_response",
    "lag_tensors",
    "least_squares_realisation",
    "linear_model",
    "messages_of_u_and_y",
    "nested_partitions",
    "read_inputs",
    "read_measured",
    "read_records",
    "screen_records",
    "start_of_records",
    "suited_to",
    "unit_biases",
    "with_copied_states",
    "with_delays",
    "with_outputs",
    "with_shared_states",
]
