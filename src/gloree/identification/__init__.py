"""Systems from records of their inputs and outputs: linear states, nonlinear units, refinement.

`identify` runs all stages; the steps behind them are plain functions.
"""

from gloree.identification._direction import (
    NonlinearDirection,
    find_direction,
    find_directions,
    growing_directions,
)
from gloree.identification._lag_tensors import LagTensors, lag_tensors
from gloree.identification._markov import (
    ImpulseResponse,
    ResponseSums,
    impulse_response,
    response_sums,
)
from gloree.identification._networks import (
    LinearModel,
    linear_model,
    nested_partitions,
    unit_biases,
    unit_directions,
    with_copied_states,
    with_outputs,
    with_shared_states,
)
from gloree.identification._output_error import least_squares_realisation
from gloree.identification._pipeline import Identified, identify
from gloree.identification._problem import (
    FREE_POLYNOMIAL,
    IdentificationProblem,
    IdentificationSettings,
)
from gloree.identification._realisation import (
    Realisation,
    hankel_matrix,
    ho_kalman,
    modal_form,
    pulled_inside,
    stabilised,
    supported_order,
)
from gloree.identification._records import (
    check_records,
    find_drift,
    messages_of_u_and_y,
    read_inputs,
    read_records,
)

__all__ = [
    "FREE_POLYNOMIAL",
    "IdentificationProblem",
    "IdentificationSettings",
    "Identified",
    "ImpulseResponse",
    "LagTensors",
    "LinearModel",
    "NonlinearDirection",
    "Realisation",
    "ResponseSums",
    "check_records",
    "find_direction",
    "find_directions",
    "find_drift",
    "growing_directions",
    "hankel_matrix",
    "ho_kalman",
    "identify",
    "impulse_response",
    "lag_tensors",
    "least_squares_realisation",
    "linear_model",
    "messages_of_u_and_y",
    "modal_form",
    "nested_partitions",
    "pulled_inside",
    "read_inputs",
    "read_records",
    "response_sums",
    "stabilised",
    "supported_order",
    "unit_biases",
    "unit_directions",
    "with_copied_states",
    "with_outputs",
    "with_shared_states",
]
