"""Decomposition of moment tensors into the weights of hidden units.

`decompose` is the default: least squares from several starts, with a status, predicted standard
errors and a rule for accepting the result. `tensor_power_iteration` is the method of the paper.
`choose_rank` estimates the number of units.
"""

from ._decompose import decompose
from ._power import tensor_power_iteration
from ._rank import RankChoice, choose_rank
from ._result import Decomposition, DecompositionStatus, cp_tensor
from ._tensor import degrees_of_freedom

__all__ = [
    "Decomposition",
    "DecompositionStatus",
    "RankChoice",
    "choose_rank",
    "cp_tensor",
    "decompose",
    "degrees_of_freedom",
    "tensor_power_iteration",
]
