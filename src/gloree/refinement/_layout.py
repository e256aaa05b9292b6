"""Which weights are free, and their order in a parameter vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.models import IORNN
from gloree.sequences import Array


@dataclass(frozen=True)
class Layout:
    """Free weights of a network as one vector.

    Unit after unit (a_i, U_i, b_i), then output after output (A2[:, a], c_a, D[:, a]); parts that
    are not free are left out.

    Attributes
    ----------
    n_inputs, n_hidden, n_outputs : int
    recurrent, bias, direct : bool
        Whether U, the biases b and c, and D are free.
    hidden_bias : bool
        Whether b is among the free biases.
    """

    n_inputs: int
    n_hidden: int
    n_outputs: int
    recurrent: bool = True
    bias: bool = True
    direct: bool = False
    hidden_bias: bool = True

    @property
    def unit_bias(self) -> bool:
        """Whether b is free."""
        return self.bias and self.hidden_bias

    @property
    def unit_width(self) -> int:
        """Parameters that enter one unit."""
        return self.n_inputs + self.recurrent * self.n_hidden + self.unit_bias

    @property
    def output_width(self) -> int:
        """Parameters of one output."""
        return self.n_hidden + self.bias + self.direct * self.n_inputs

    @property
    def n_unit_parameters(self) -> int:
        """Parameters of all units."""
        return self.n_hidden * self.unit_width

    @property
    def size(self) -> int:
        """Free parameters."""
        return self.n_unit_parameters + self.n_outputs * self.output_width

    def join(self, units: Array, outputs: Array) -> Array:
        """Vector from blocks (n_hidden, unit_width) and (n_outputs, output_width)."""
        return np.concatenate((units.ravel(), outputs.ravel()))

    def split(self, vector: Array) -> tuple[Array, Array]:
        """Undo `join`."""
        cut = self.n_unit_parameters
        return (
            vector[:cut].reshape(self.n_hidden, self.unit_width),
            vector[cut:].reshape(self.n_outputs, self.output_width),
        )

    def move(self, model: IORNN, step: Array) -> IORNN:
        """Return the model after a step in the free parameters."""
        parts = self.named(step)
        changes = {name: getattr(model, name) + change for name, change in parts.items()}
        return model.replace(**changes)

    def named(self, vector: Array) -> dict[str, Array]:
        """Parts of a parameter vector in the shapes of the weights they belong to."""
        units, outputs = self.split(vector)
        d, k = self.n_inputs, self.n_hidden
        parts = {"input_weights": units[:, :d], "output_weights": outputs[:, :k].T}
        if self.recurrent:
            parts["recurrent_weights"] = units[:, d : d + k]
        if self.unit_bias:
            parts["hidden_bias"] = units[:, -1]
        if self.bias:
            parts["output_bias"] = outputs[:, k]
        if self.direct:
            parts["direct_weights"] = outputs[:, k + self.bias :].T
        return parts

    def scale_constraints(self, model: IORNN) -> Array:
        """Directions that fix the free scale of each unit: a_i stays on its sphere.

        Returns
        -------
        ndarray of shape (n_hidden or 0, size)
            Row i is a_i in the place of unit i's input weights; empty where scales are not free.
            They are for monomials, and (but for h_0) for any parabola with free biases.
        """
        parabola = model.activation.degree == 2 and self.bias
        if not (model.activation.is_monomial or parabola):
            return np.zeros((0, self.size))
        rows = np.zeros((self.n_hidden, self.size))
        for i, a in enumerate(model.input_weights):
            start = i * self.unit_width
            norm = float(np.linalg.norm(a))
            rows[i, start : start + self.n_inputs] = a / (norm if norm > 0 else 1.0)
        return rows
