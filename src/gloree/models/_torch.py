"""Networks as PyTorch modules (imported only when asked for)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gloree.activations import (
    GELU,
    Activation,
    LeakyReLU,
    PerUnit,
    Polynomial,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from gloree.sequences import Array

# torch is optional and not always typed: its base class is Any by decree, in both cases alike
_Module: Any = torch.nn.Module


_FUNCTIONS: dict[type[Activation], Callable[[Tensor], Tensor]] = {
    Tanh: torch.tanh,
    Sigmoid: torch.sigmoid,
    Softplus: lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    ReLU: torch.relu,
    GELU: torch.nn.functional.gelu,
    SiLU: torch.nn.functional.silu,
}


def activate(activation: Activation, z: Tensor) -> Tensor:
    """Evaluate an activation of this library on a tensor, with gradients."""
    if isinstance(activation, Polynomial):
        value = torch.full_like(z, activation.coefficients[-1])
        for c in activation.coefficients[-2::-1]:
            value = value * z
            if c != 0.0:
                value = value + c
        return value
    if isinstance(activation, PerUnit):
        parts = [activate(f, z[..., units]) for units, f in activation.runs]
        return torch.cat(parts, dim=-1)
    if isinstance(activation, LeakyReLU):
        return torch.nn.functional.leaky_relu(z, activation.slope)
    known = _FUNCTIONS.get(type(activation))
    if known is None:
        raise TypeError(
            f"the activation {activation.name!r} ({type(activation).__name__}) has no PyTorch "
            f"form: use one of gloree.activations"
        )
    return known(z)


def lag_windows(values: Tensor, lags: int) -> Tensor:
    """Join each step with the `lags` - 1 steps before it, zeros before the start."""
    if lags == 1:
        return values
    n_steps = values.shape[1]
    padded = torch.nn.functional.pad(values, (0, 0, lags - 1, 0))
    parts = [padded[:, lags - 1 - lag : lags - 1 - lag + n_steps] for lag in range(lags)]
    return torch.cat(parts, dim=-1)


def run_chain(drive: Tensor, recurrent_weights: Tensor, activation: Activation) -> Tensor:
    """States of h_t = f(d_t + U h_(t-1)) for a tensor of shape (n_sequences, n_steps, n_units)."""
    state = activate(activation, drive[:, 0])
    states = [state]
    for step in range(1, drive.shape[1]):
        state = activate(activation, drive[:, step] + state @ recurrent_weights.T)
        states.append(state)
    return torch.stack(states, dim=1)


class TorchNetwork(_Module, ABC):  # type: ignore[misc]
    """`Network` with trainable parameters of the same names, in float64."""

    def __init__(
        self, weights: Mapping[str, Array | None], activation: Activation, lags: int
    ) -> None:
        super().__init__()
        self.activation, self.lags = activation, lags
        for name, values in weights.items():
            tensor = None if values is None else torch.tensor(values, dtype=torch.float64)
            parameter = None if tensor is None else torch.nn.Parameter(tensor)
            self.register_parameter(name, parameter)
        # an activation without a form for tensors is refused now
        activate(activation, torch.zeros_like(self.hidden_bias))

    def hidden_states(self, inputs: Tensor) -> Tensor:
        """Hidden states of a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        states, _ = self._states_and_windows(inputs)
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions for a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        states, windows = self._states_and_windows(inputs)
        outputs: Tensor = states @ self.output_weights + self.output_bias
        if self.direct_weights is not None:
            outputs = outputs + windows @ self.direct_weights
        return outputs

    def _states_and_windows(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        batched = inputs if inputs.ndim == 3 else inputs[None]
        states, windows = self._run(batched.to(self.output_weights.dtype))
        return (states, windows) if inputs.ndim == 3 else (states[0], windows[0])

    @abstractmethod
    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        """States and input windows."""


class TorchIORNN(TorchNetwork):
    """`IORNN` with trainable parameters of the same names, in float64."""

    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        windows = lag_windows(batched, self.lags)
        drive = windows @ self.input_weights.T + self.hidden_bias
        return run_chain(drive, self.recurrent_weights, self.activation), windows


class TorchBRNN(TorchNetwork):
    """`BRNN` with trainable parameters of the same names, in float64."""

    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        past, future = (lag_windows(each, self.lags) for each in (batched, batched.flip(1)))
        k = self.forward_input_weights.shape[0]
        forward = past @ self.forward_input_weights.T + self.hidden_bias[:k]
        backward = future @ self.backward_input_weights.T + self.hidden_bias[k:]
        ahead, behind = (self.activation.select(u) for u in (slice(0, k), slice(k, None)))
        states = (
            run_chain(forward, self.forward_recurrent_weights, ahead),
            run_chain(backward, self.backward_recurrent_weights, behind).flip(1),
        )
        windows = (past, future.flip(1)[..., batched.shape[-1] :])
        return torch.cat(states, dim=-1), torch.cat(windows, dim=-1)
