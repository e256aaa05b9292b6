"""Networks as PyTorch modules (imported only when asked for), which TorchScript understands too.

TorchScript reads the annotations: they are no strings here, and name its own types.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


POLYNOMIAL, TANH, SOFTPLUS, SIGMOID, LEAKY, NORMAL, SILU = range(7)

_KINDS: dict[type[Activation], int] = {
    Tanh: TANH,
    Softplus: SOFTPLUS,
    Sigmoid: SIGMOID,
    ReLU: LEAKY,
    GELU: NORMAL,
    SiLU: SILU,
}

Runs = list[tuple[int, int, int, list[float]]]
"""Units (from, up to), kind of activation, coefficients of a polynomial: all that scripts know."""


def runs_of(activation: Activation, n_units: int) -> Runs:
    """Activation of this library in the types of TorchScript; TypeError for any other."""
    if isinstance(activation, PerUnit):
        found = []
        for units, each in activation.runs:
            start, stop, _ = units.indices(n_units)
            ((_, size, kind, coefficients),) = runs_of(each, stop - start)
            found.append((start, start + size, kind, coefficients))
        return found
    if isinstance(activation, Polynomial):
        return [(0, n_units, POLYNOMIAL, [float(c) for c in activation.coefficients])]
    if isinstance(activation, LeakyReLU):
        return [(0, n_units, LEAKY, [float(activation.slope)])]
    if type(activation) in _KINDS:
        return [(0, n_units, _KINDS[type(activation)], [0.0])]
    raise TypeError(
        f"the activation {activation.name!r} ({type(activation).__name__}) has no PyTorch form: "
        f"use one of gloree.activations"
    )


def activate(z: Tensor, runs: list[tuple[int, int, int, list[float]]]) -> Tensor:
    """Evaluate an activation on a tensor, with gradients, in its own precision."""
    parts: list[Tensor] = []
    for start, stop, kind, coefficients in runs:
        part = z if len(runs) == 1 else z[..., start:stop]
        if kind == 1:
            parts.append(torch.tanh(part))
        elif kind == 2:
            parts.append(torch.logaddexp(part, torch.zeros_like(part)))
        elif kind == 3:
            parts.append(torch.sigmoid(part))
        elif kind == 4:
            parts.append(torch.where(part > 0.0, part, coefficients[0] * part))
        elif kind == 5:
            parts.append(torch.nn.functional.gelu(part))
        elif kind == 6:
            parts.append(torch.nn.functional.silu(part))
        else:
            degree = len(coefficients) - 1
            value = torch.full_like(part, coefficients[degree])
            for m in range(degree):
                c = coefficients[degree - 1 - m]
                value = value * part
                if c != 0.0:
                    value = value + c
            parts.append(value)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def lag_windows(values: Tensor, lags: int) -> Tensor:
    """Join each step with the `lags` - 1 steps before it, zeros before the start."""
    if lags == 1:
        return values
    n_steps = values.shape[1]
    padded = torch.nn.functional.pad(values, [0, 0, lags - 1, 0])
    parts = [padded[:, lags - 1 - lag : lags - 1 - lag + n_steps] for lag in range(lags)]
    return torch.cat(parts, dim=-1)


def run_chain(
    drive: Tensor, recurrent_weights: Tensor, runs: list[tuple[int, int, int, list[float]]]
) -> Tensor:
    """States of h_t = f(d_t + U h_(t-1)) for a tensor of shape (n_sequences, n_steps, n_units)."""
    state = activate(drive[:, 0], runs)
    states = [state]
    for step in range(1, drive.shape[1]):
        state = activate(drive[:, step] + state @ recurrent_weights.t(), runs)
        states.append(state)
    return torch.stack(states, dim=1)


class TorchNetwork(_Module, ABC):  # type: ignore[misc]
    """`Network` with trainable parameters of the same names, in float64.

    After ``module.float()`` all of it is in float32. `torch.jit.script` takes it as it is.
    """

    def __init__(
        self, weights: Mapping[str, Array | None], activation: Activation, lags: int
    ) -> None:
        super().__init__()
        self.activation, self.lags = activation, lags
        for name, values in weights.items():
            tensor = None if values is None else torch.tensor(values, dtype=torch.float64)
            parameter = None if tensor is None else torch.nn.Parameter(tensor)
            self.register_parameter(name, parameter)
        rows = next(v for k, v in weights.items() if k.endswith("input_weights") and v is not None)
        self.n_inputs = int(rows.shape[1]) // lags
        # an activation without a form for tensors is refused now
        self.runs = runs_of(activation, self.hidden_bias.shape[0])

    @torch.jit.export
    def hidden_states(self, inputs: Tensor) -> Tensor:
        """Hidden states of a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        states, _ = self._states_and_windows(inputs)
        return states

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions for a tensor of shape ([n_sequences,] n_steps, n_inputs)."""
        states, windows = self._states_and_windows(inputs)
        outputs: Tensor = states @ self.output_weights + self.output_bias
        direct = self.direct_weights
        if direct is not None:
            outputs = outputs + windows @ direct
        return outputs

    def _states_and_windows(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        wrong = inputs.ndim not in (2, 3) or inputs.shape[-1] != self.n_inputs
        if wrong or inputs.shape[-2] == 0:
            raise ValueError(
                f"`inputs` has shape {inputs.shape}, expected ([n_sequences,] n_steps, "
                f"{self.n_inputs}) with a step or more"
            )
        batched = inputs if inputs.ndim == 3 else inputs.unsqueeze(0)
        states, windows = self._run(batched.to(self.output_weights.dtype))
        if inputs.ndim == 3:
            return states, windows
        return states[0], windows[0]

    @abstractmethod
    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        """States and input windows."""


class TorchIORNN(TorchNetwork):
    """`IORNN` with trainable parameters of the same names, in float64."""

    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        windows = lag_windows(batched, self.lags)
        drive = windows @ self.input_weights.t() + self.hidden_bias
        return run_chain(drive, self.recurrent_weights, self.runs), windows


class TorchBRNN(TorchNetwork):
    """`BRNN` with trainable parameters of the same names, in float64."""

    def __init__(
        self, weights: Mapping[str, Array | None], activation: Activation, lags: int
    ) -> None:
        super().__init__(weights, activation, lags)
        k, n_units = self.forward_input_weights.shape[0], self.hidden_bias.shape[0]
        self.runs_ahead = runs_of(activation.select(slice(0, k)), k)
        self.runs_behind = runs_of(activation.select(slice(k, None)), n_units - k)

    def _run(self, batched: Tensor) -> tuple[Tensor, Tensor]:
        past = lag_windows(batched, self.lags)
        future = lag_windows(batched.flip([1]), self.lags)
        k = self.forward_input_weights.shape[0]
        forward = past @ self.forward_input_weights.t() + self.hidden_bias[:k]
        backward = future @ self.backward_input_weights.t() + self.hidden_bias[k:]
        ahead = run_chain(forward, self.forward_recurrent_weights, self.runs_ahead)
        behind = run_chain(backward, self.backward_recurrent_weights, self.runs_behind).flip([1])
        seen = future.flip([1])[..., batched.shape[-1] :]
        return torch.cat([ahead, behind], dim=-1), torch.cat([past, seen], dim=-1)
