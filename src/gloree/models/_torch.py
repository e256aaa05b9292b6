"""The network as a PyTorch module (imported only when asked for)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gloree.activations import Activation, Polynomial, Softplus, Tanh

if TYPE_CHECKING:
    from gloree.models._iornn import IORNN

# torch is optional and not always typed: its base class is Any by decree, in both cases alike
_Module: Any = torch.nn.Module


def activate(activation: Activation, z: Any) -> Any:
    """Evaluate an activation of this library on a tensor, with gradients."""
    if isinstance(activation, Polynomial):
        value = torch.full_like(z, activation.coefficients[-1])
        for c in activation.coefficients[-2::-1]:
            value = value * z
            if c != 0.0:
                value = value + c
        return value
    if isinstance(activation, Tanh):
        return torch.tanh(z)
    if isinstance(activation, Softplus):
        return torch.logaddexp(z, torch.zeros_like(z))
    raise TypeError(
        f"the activation {activation.name!r} ({type(activation).__name__}) has no PyTorch form: "
        f"use a Polynomial, tanh or softplus"
    )


def lag_windows(values: Any, lags: int) -> Any:
    """Join each step with the `lags` - 1 steps before it, zeros before the start."""
    if lags == 1:
        return values
    n_steps = values.shape[1]
    padded = torch.nn.functional.pad(values, (0, 0, lags - 1, 0))
    parts = [padded[:, lags - 1 - lag : lags - 1 - lag + n_steps] for lag in range(lags)]
    return torch.cat(parts, dim=-1)


class TorchIORNN(_Module):  # type: ignore[misc]
    """`IORNN` with trainable parameters of the same names, in float64.

    Parameters
    ----------
    model : IORNN
    """

    def __init__(self, model: IORNN) -> None:
        super().__init__()
        self.activation = model.activation
        self.lags = model.lags
        activate(self.activation, torch.zeros(1, dtype=torch.float64))
        for name, values in model._arrays().items():
            tensor = None if values is None else torch.tensor(values, dtype=torch.float64)
            parameter = None if tensor is None else torch.nn.Parameter(tensor)
            self.register_parameter(name, parameter)

    def hidden_states(self, inputs: Any) -> Any:
        """Hidden states of a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        batched = inputs if inputs.ndim == 3 else inputs[None]
        states = self._states(self._windows(batched))
        return states if inputs.ndim == 3 else states[0]

    def forward(self, inputs: Any) -> Any:
        """Predictions for a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        batched = inputs if inputs.ndim == 3 else inputs[None]
        windows = self._windows(batched)
        outputs = self._states(windows) @ self.output_weights + self.output_bias
        if self.direct_weights is not None:
            outputs = outputs + windows @ self.direct_weights
        return outputs if inputs.ndim == 3 else outputs[0]

    def _windows(self, batched: Any) -> Any:
        return lag_windows(batched.to(self.input_weights.dtype), self.lags)

    def _states(self, windows: Any) -> Any:
        drive = windows @ self.input_weights.T + self.hidden_bias
        state = activate(self.activation, drive[:, 0])
        states = [state]
        for step in range(1, drive.shape[1]):
            state = activate(self.activation, drive[:, step] + state @ self.recurrent_weights.T)
            states.append(state)
        return torch.stack(states, dim=1)
