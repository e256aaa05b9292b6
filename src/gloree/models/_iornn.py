"""The input-output recurrent network with frozen weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import ArrayLike

from gloree.activations import Activation, get_activation
from gloree.models._network import Network
from gloree.models._recursion import Recursion
from gloree.models._validation import check_activation, check_lags, frozen_array


@dataclass(frozen=True, init=False, eq=False, repr=False)
class IORNN(Network):
    """Input-output recurrent neural network.

    ::

        z_t = A1 x_t + U h_(t-1) + b,    h_t = f(z_t),    h_0 = 0,
        E[y_t | x] = A2^T h_t + c  (+ D^T x_t with a direct path).

    With `lags` above 1, x_t stands for the window [x_t, x_(t-1), ..., x_(t-lags+1)] (zeros before
    the start), which the model builds from plain inputs. A run that is given a state starts from
    its h_0 and inputs before the start instead (see `predict`).

    Parameters
    ----------
    input_weights : ndarray of shape (n_hidden, lags * n_inputs)
        A1.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden) or None
        U; None means zeros, a network without recurrence.
    output_weights : ndarray of shape (n_hidden, n_outputs)
        A2.
    hidden_bias : ndarray of shape (n_hidden,), optional
        b; zeros by default.
    output_bias : ndarray of shape (n_outputs,), optional
        c; zeros by default.
    direct_weights : ndarray of shape (lags * n_inputs, n_outputs), optional
        D, a linear path beside the hidden units; None by default.
    activation : str or Activation, default "quadratic"
        f.
    lags : int, default 1
        Input steps in a window.

    Raises
    ------
    TypeError, ValueError
        If a weight is not a finite real array of the shape that the others imply.

    Notes
    -----
    The arrays are float64 copies, read-only: a model is a value. Use `replace` for a changed one.

    Weights are determined only up to symmetries of the network; see `canonical`.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, "Training Input-Output Recurrent Neural Networks through
       Spectral Methods", arXiv:1603.00954, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.models import IORNN
    >>> model = IORNN([[1.0, 0.0], [0.0, 2.0]], [[0.1, 0.0], [0.0, 0.0]], [[1.0], [3.0]])
    >>> model
    IORNN(n_inputs=2, n_hidden=2, n_outputs=1, activation='quadratic')
    >>> model.predict(np.array([[1.0, 0.0], [1.0, 1.0]]))
    array([[ 1.  ],
           [13.21]])
    """

    weight_names: ClassVar[tuple[str, ...]] = (
        "input_weights",
        "recurrent_weights",
        "output_weights",
        "hidden_bias",
        "output_bias",
        "direct_weights",
    )
    _sizes: ClassVar[tuple[str, ...]] = ("n_inputs", "n_hidden", "n_outputs")

    def __init__(
        self,
        input_weights: ArrayLike,
        recurrent_weights: ArrayLike | None,
        output_weights: ArrayLike,
        hidden_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        direct_weights: ArrayLike | None = None,
        activation: str | Activation = "quadratic",
        *,
        lags: int = 1,
    ) -> None:
        first = frozen_array(input_weights, "input_weights", (None, None))
        n_hidden, n_columns = first.shape
        check_lags(lags, n_columns)
        readout = frozen_array(output_weights, "output_weights", (n_hidden, None))
        n_outputs = readout.shape[1]
        direct = None
        if direct_weights is not None:
            direct = frozen_array(direct_weights, "direct_weights", (n_columns, n_outputs))
        values = {
            "input_weights": first,
            "recurrent_weights": frozen_array(
                recurrent_weights, "recurrent_weights", (n_hidden, n_hidden), default=True
            ),
            "output_weights": readout,
            "hidden_bias": frozen_array(hidden_bias, "hidden_bias", (n_hidden,), default=True),
            "output_bias": frozen_array(output_bias, "output_bias", (n_outputs,), default=True),
            "direct_weights": direct,
            "activation": check_activation(get_activation(activation), n_hidden),
            "lags": int(lags),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_inputs(self) -> int:
        """Columns of `X` (without lags)."""
        return self.n_columns // self.lags

    @property
    def n_forward(self) -> int:
        """Hidden units, all of them forward."""
        return self.n_hidden

    @property
    def recursions(self) -> tuple[Recursion, ...]:
        """The recursions of the network, forward first."""
        A1, U, b = self.input_weights, self.recurrent_weights, self.hidden_bias
        return (Recursion(A1, U, b, self.activation, self.lags, slice(0, self.n_hidden)),)
