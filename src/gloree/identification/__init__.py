"""Linear realisation and the directions of nonlinearities: the steps of `SystemIdentifier`."""

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
from gloree.identification._output_error import least_squares_realisation
from gloree.identification._realisation import (
    Realisation,
    hankel_matrix,
    ho_kalman,
    modal_form,
    pulled_inside,
    stabilised,
    supported_order,
)
from gloree.identification._starts import (
    LinearModel,
    linear_model,
    nested_partitions,
    unit_biases,
    unit_directions,
    with_copied_states,
    with_outputs,
    with_shared_states,
)

__all__ = [
    "ImpulseResponse",
    "LagTensors",
    "LinearModel",
    "NonlinearDirection",
    "Realisation",
    "ResponseSums",
    "find_direction",
    "find_directions",
    "growing_directions",
    "hankel_matrix",
    "ho_kalman",
    "impulse_response",
    "lag_tensors",
    "least_squares_realisation",
    "linear_model",
    "modal_form",
    "nested_partitions",
    "pulled_inside",
    "response_sums",
    "stabilised",
    "supported_order",
    "unit_biases",
    "unit_directions",
    "with_copied_states",
    "with_outputs",
    "with_shared_states",
]
