"""The bidirectional recurrent network with frozen weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from gloree.activations import Activation, get_activation
from gloree.models._network import Network
from gloree.models._recursion import Recursion
from gloree.models._validation import check_activation, check_lags, frozen_array
from gloree.sequences import Array, IntArray


@dataclass(frozen=True, init=False, eq=False, repr=False)
class BRNN(Network):
    """Bidirectional input-output recurrent neural network.

    ::

        h_t = f(A1 x_t + U h_(t-1) + b_f),    h_0 = 0,
        w_t = f(B1 x_t + V w_(t+1) + b_b),    w_(n+1) = 0,
        E[y_t | x] = A2^T [h_t; w_t] + c  (+ D^T x_t with a direct path).

    With `lags` above 1, x_t stands for a window, with zeros beyond the ends of the sequence:
    [x_t, x_(t-1), ..., x_(t-lags+1)] for forward units, [x_t, x_(t+1), ..., x_(t+lags-1)] for
    backward units, and the joint window [x_t, x_(t-1), ..., x_(t-lags+1), x_(t+1), ...,
    x_(t+lags-1)] for the direct path. The model builds it from plain inputs.

    Parameters
    ----------
    forward_input_weights : ndarray of shape (n_forward, lags * n_inputs)
        A1. Either direction may have no units, but not both.
    forward_recurrent_weights : ndarray of shape (n_forward, n_forward) or None
        U; None means zeros.
    backward_input_weights : ndarray of shape (n_backward, lags * n_inputs)
        B1.
    backward_recurrent_weights : ndarray of shape (n_backward, n_backward) or None
        V; None means zeros.
    output_weights : ndarray of shape (n_forward + n_backward, n_outputs)
        A2, forward units first.
    hidden_bias : ndarray of shape (n_forward + n_backward,), optional
        [b_f; b_b]; zeros by default.
    output_bias : ndarray of shape (n_outputs,), optional
        c; zeros by default.
    direct_weights : ndarray of shape ((2 * lags - 1) * n_inputs, n_outputs), optional
        D, a linear path beside the hidden units; None by default.
    activation : str or Activation, default "quadratic"
        f.
    lags : int, default 1
        Input steps in the window of a unit, the current one included.

    Attributes
    ----------
    input_weights : ndarray of shape (n_hidden, n_columns)
        C, all units on the joint window: rows of A1 and B1, with zeros for what a unit does not
        see.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden)
        U and V as blocks of one matrix.

    Raises
    ------
    TypeError, ValueError
        If a weight is not a finite real array of the shape that the others imply.

    Notes
    -----
    The arrays are float64 copies, read-only: a model is a value. Use `replace` for a changed one.

    Weights are determined only up to symmetries of the network, within each direction; see
    `canonical`. A unit that takes no part in a recurrence has no direction: it computes
    the same in either chain (with `lags` of 1).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.models import BRNN
    >>> model = BRNN([[1.0]], [[0.1]], [[2.0]], [[0.5]], [[1.0], [10.0]])
    >>> model
    BRNN(n_inputs=1, n_forward=1, n_backward=1, n_outputs=1, activation='quadratic')
    >>> model.hidden_states(np.array([[1.0], [2.0], [0.0]]))
    array([[  1.      , 100.      ],
           [  4.41    ,  16.      ],
           [  0.194481,   0.      ]])
    """

    forward_input_weights: Array
    forward_recurrent_weights: Array
    backward_input_weights: Array
    backward_recurrent_weights: Array

    weight_names: ClassVar[tuple[str, ...]] = (
        "forward_input_weights",
        "forward_recurrent_weights",
        "backward_input_weights",
        "backward_recurrent_weights",
        "output_weights",
        "hidden_bias",
        "output_bias",
        "direct_weights",
    )
    _sizes: ClassVar[tuple[str, ...]] = ("n_inputs", "n_forward", "n_backward", "n_outputs")

    def __init__(
        self,
        forward_input_weights: ArrayLike,
        forward_recurrent_weights: ArrayLike | None,
        backward_input_weights: ArrayLike,
        backward_recurrent_weights: ArrayLike | None,
        output_weights: ArrayLike,
        hidden_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        direct_weights: ArrayLike | None = None,
        activation: str | Activation = "quadratic",
        *,
        lags: int = 1,
    ) -> None:
        ahead, behind = "forward_input_weights", "backward_input_weights"
        A1 = frozen_array(forward_input_weights, ahead, (None, None), no_rows=True)
        n_forward, n_seen = A1.shape
        check_lags(lags, n_seen, ahead)
        B1 = frozen_array(backward_input_weights, behind, (None, n_seen), no_rows=True)
        n_backward = B1.shape[0]
        n_hidden = n_forward + n_backward
        if n_hidden == 0:
            raise ValueError(
                f"`{ahead}` and `{behind}` have no rows, expected a hidden unit in at least one of "
                f"them"
            )
        U, V = (
            frozen_array(weights, f"{name}_recurrent_weights", (size, size), default=True)
            for name, weights, size in (
                ("forward", forward_recurrent_weights, n_forward),
                ("backward", backward_recurrent_weights, n_backward),
            )
        )
        A2 = frozen_array(output_weights, "output_weights", (n_hidden, None))
        n_outputs = A2.shape[1]
        C = np.zeros((n_hidden, (2 * lags - 1) * (n_seen // lags)))
        D = None
        if direct_weights is not None:
            D = frozen_array(direct_weights, "direct_weights", (C.shape[1], n_outputs))
        forward, backward = _seen_columns(C.shape[1], lags)
        C[:n_forward, forward] = A1
        C[n_forward:, backward] = B1
        W = np.zeros((n_hidden, n_hidden))
        W[:n_forward, :n_forward] = U
        W[n_forward:, n_forward:] = V
        C.flags.writeable = W.flags.writeable = False
        values = {
            "forward_input_weights": A1,
            "forward_recurrent_weights": U,
            "backward_input_weights": B1,
            "backward_recurrent_weights": V,
            "output_weights": A2,
            "hidden_bias": frozen_array(hidden_bias, "hidden_bias", (n_hidden,), default=True),
            "output_bias": frozen_array(output_bias, "output_bias", (n_outputs,), default=True),
            "direct_weights": D,
            "activation": check_activation(get_activation(activation), n_hidden),
            "lags": int(lags),
            "input_weights": C,
            "recurrent_weights": W,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_inputs(self) -> int:
        """Columns of `X` (without lags)."""
        return int(self.forward_input_weights.shape[1]) // self.lags

    @property
    def n_forward(self) -> int:
        """Hidden units of the forward chain."""
        return int(self.forward_input_weights.shape[0])

    def _unstacked(self, changes: dict[str, object]) -> dict[str, object]:
        stacks: dict[str, tuple[Array, IntArray, IntArray, str]] = {}
        if "input_weights" in changes:
            C = frozen_array(changes["input_weights"], "input_weights", (self.n_hidden, None))
            lags = check_lags(changes.get("lags", self.lags))
            if C.shape[1] % (2 * lags - 1):
                raise ValueError(
                    f"`input_weights` has {C.shape[1]} columns, expected a multiple of "
                    f"2 * lags - 1 = {2 * lags - 1}: the joint window of all units"
                )
            ahead, behind = _seen_columns(C.shape[1], lags)
            stacks["input_weights"] = (C, ahead, behind, "what the unit does not see")
        if "recurrent_weights" in changes:
            given, shape = changes["recurrent_weights"], (self.n_hidden, self.n_hidden)
            W = frozen_array(given, "recurrent_weights", shape, default=True)
            ahead, behind = np.split(np.arange(self.n_hidden), [self.n_forward])
            stacks["recurrent_weights"] = (W, ahead, behind, "units of different directions")
        kept = {name: value for name, value in changes.items() if name not in stacks}
        for name, (stack, ahead, behind, place) in stacks.items():
            other = stack.copy()
            rows = (slice(0, self.n_forward), ahead), (slice(self.n_forward, None), behind)
            for direction, block in zip(("forward", "backward"), rows, strict=True):
                if f"{direction}_{name}" in kept:
                    raise TypeError(
                        f"`replace` got '{direction}_{name}' and the stack of both directions that "
                        f"holds it: give one of them"
                    )
                kept[f"{direction}_{name}"] = stack[block]
                other[block] = 0.0
            _require_zeros(other, name, place)
        return kept

    @property
    def recursions(self) -> tuple[Recursion, ...]:
        """The recursions of the network, forward first."""
        forward, backward = slice(0, self.n_forward), slice(self.n_forward, self.n_hidden)
        A1, U = self.forward_input_weights, self.forward_recurrent_weights
        B1, V = self.backward_input_weights, self.backward_recurrent_weights
        b, f, lags = self.hidden_bias, self.activation, self.lags
        return (
            Recursion(A1, U, b[forward], f.select(forward), lags, forward),
            Recursion(B1, V, b[backward], f.select(backward), lags, backward, backward=True),
        )


def _seen_columns(n_columns: int, lags: int) -> tuple[IntArray, IntArray]:
    """Columns of the joint window that forward units and backward units see."""
    n_inputs = n_columns // (2 * lags - 1)
    columns = np.arange(n_columns)
    past = lags * n_inputs
    return columns[:past], np.concatenate((columns[:n_inputs], columns[past:]))


def _require_zeros(values: Array, name: str, place: str) -> None:
    """Raise if anything is left in the blocks of a stack that must be zero."""
    if not values.any():
        return
    where = tuple(int(i) for i in np.argwhere(values)[0])
    raise ValueError(
        f"`{name}` holds {values[where]} at {where}, expected 0: {place} (the units "
        f"of the forward chain stand first)"
    )
