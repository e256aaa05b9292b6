"""Activations: elementwise functions with exact derivatives.

The moment identities of the paper hold for polynomials, f(z) = sum_m c_m z^m, and the quadratic is
the main case; networks with any other function are fitted too (tanh, sigmoid, softplus, ReLU and
what is made of them, or a function of one's own). All are frozen values: they compare by content,
can be pickled, and `spec` writes them as JSON.
"""

from gloree.activations._base import Activation
from gloree.activations._custom import Custom
from gloree.activations._functions import (
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from gloree.activations._per_unit import PerUnit, from_spec, get_activation
from gloree.activations._polynomials import Polynomial, cubic, linear, quadratic

# fmt: off
__all__ = [
    "GELU", "Activation", "Custom", "LeakyReLU", "PerUnit", "Polynomial", "ReLU", "SiLU", "Sigmoid",
    "Softplus", "Tanh", "cubic", "from_spec", "gelu", "get_activation", "leaky_relu",
    "linear", "quadratic", "relu", "sigmoid", "silu", "softplus", "tanh",
]
# fmt: on
