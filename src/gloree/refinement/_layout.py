"""Which weights are free, and their order in a parameter vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gloree.models import Network
from gloree.sequences import Array, IntArray


@dataclass(frozen=True)
class Direction:
    """Units that run the same way through time: a block of the parameter vector.

    Attributes
    ----------
    prefix : {"", "forward_", "backward_"}
        Of the names of the weights; empty for an `IORNN`.
    units : slice
        The units among all hidden ones.
    columns : ndarray of int of shape (n_columns,)
        Columns of the inputs that they see.
    width : int
        Parameters that enter one unit: (a_i, U_i, b_i).
    start : int
        Where the block begins.
    """

    prefix: str
    units: slice
    columns: IntArray
    width: int
    start: int

    @property
    def n_units(self) -> int:
        """Units."""
        return int(self.units.stop - self.units.start)

    @property
    def size(self) -> int:
        """Parameters of the block."""
        return self.n_units * self.width

    @property
    def block(self) -> slice:
        """The block in the parameter vector."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class Layout:
    """Free weights of a network as one vector.

    Unit after unit (a_i, U_i, b_i), forward units first, then output after output
    (A2[:, a], c_a, D[:, a]); parts that are not free are left out. A unit of a bidirectional
    network has the recurrent weights of its own direction only, and with lags the windows of its
    own direction.

    Attributes
    ----------
    n_inputs, n_hidden, n_outputs : int
        `n_inputs` counts the columns that a batch holds, windows included.
    recurrent, bias, direct : bool
        Whether U, the biases b and c, and D are free.
    hidden_bias : bool
        Whether b is among the free biases.
    n_backward : int or None
        Backward units of a `BRNN` (0 too); None for an `IORNN`.
    lags : int
        Of a `BRNN`, whose windows look both ways.
    """

    n_inputs: int
    n_hidden: int
    n_outputs: int
    recurrent: bool = True
    bias: bool = True
    direct: bool = False
    hidden_bias: bool = True
    n_backward: int | None = None
    lags: int = 1

    @property
    def unit_bias(self) -> bool:
        """Whether b is free."""
        return self.bias and self.hidden_bias

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """Blocks of units, one for each direction."""
        everything = np.arange(self.n_inputs, dtype=np.int64)
        if self.n_backward is None:
            width = self.n_inputs + self.recurrent * self.n_hidden + self.unit_bias
            return (Direction("", slice(0, self.n_hidden), everything, width, 0),)
        cut, step = self.n_hidden - self.n_backward, self.n_inputs // (2 * self.lags - 1)
        past = everything[: self.lags * step]
        future = np.concatenate((everything[:step], everything[self.lags * step :]))
        parts: list[Direction] = []
        for prefix, units, columns in (
            ("forward_", slice(0, cut), past),
            ("backward_", slice(cut, self.n_hidden), future),
        ):
            n_units = units.stop - units.start
            width = columns.shape[0] + self.recurrent * n_units + self.unit_bias
            start = parts[-1].block.stop if parts else 0
            parts.append(Direction(prefix, units, columns, width, start))
        return tuple(parts)

    @property
    def output_width(self) -> int:
        """Parameters of one output."""
        return self.n_hidden + self.bias + self.direct * self.n_inputs

    @property
    def n_unit_parameters(self) -> int:
        """Parameters of all units."""
        return sum(part.size for part in self.directions)

    @property
    def size(self) -> int:
        """Free parameters."""
        return self.n_unit_parameters + self.n_outputs * self.output_width

    def join(self, units: Sequence[Array], outputs: Array) -> Array:
        """Vector from one block (n_units, width) a direction, and (n_outputs, output_width)."""
        return np.concatenate([*(block.ravel() for block in units), outputs.ravel()])

    def split(self, vector: Array) -> tuple[list[Array], Array]:
        """Undo `join`."""
        units = [vector[part.block].reshape(part.n_units, part.width) for part in self.directions]
        outputs = vector[self.n_unit_parameters :]
        return units, outputs.reshape(self.n_outputs, self.output_width)

    def move(self, model: Network, step: Array) -> Network:
        """Return the model after a step in the free parameters."""
        parts = self.named(step)
        changes = {name: getattr(model, name) + change for name, change in parts.items()}
        return model.replace(**changes)

    def named(self, vector: Array) -> dict[str, Array]:
        """Parts of a parameter vector in the shapes of the weights they belong to."""
        units, outputs = self.split(vector)
        parts = {}
        for direction, block in zip(self.directions, units, strict=True):
            d = direction.columns.shape[0]
            parts[f"{direction.prefix}input_weights"] = block[:, :d]
            if self.recurrent:
                feedback = block[:, d : d + direction.n_units]
                parts[f"{direction.prefix}recurrent_weights"] = feedback
        parts["output_weights"] = outputs[:, : self.n_hidden].T
        if self.unit_bias:
            parts["hidden_bias"] = np.concatenate([block[:, -1] for block in units])
        if self.bias:
            parts["output_bias"] = outputs[:, self.n_hidden]
        if self.direct:
            parts["direct_weights"] = outputs[:, self.n_hidden + self.bias :].T
        return parts

    def vector(self, model: Network) -> Array:
        """Free weights of a model as a parameter vector."""
        values = np.empty(self.size)
        for name, index in self.indices.items():
            values[index] = getattr(model, name)
        return values

    @cached_property
    def indices(self) -> dict[str, IntArray]:
        """Places of every weight in the parameter vector, in the shapes of the weights."""
        places = self.named(np.arange(self.size, dtype=np.float64))
        return {name: index.astype(np.int64) for name, index in places.items()}

    def scale_constraints(self, model: Network) -> Array:
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
        for direction in self.directions:
            weights = model.input_weights[direction.units][:, direction.columns]
            for i, a in enumerate(weights):
                start = direction.start + i * direction.width
                norm = float(np.linalg.norm(a))
                place = slice(start, start + a.shape[0])
                rows[direction.units.start + i, place] = a / (norm if norm > 0 else 1.0)
        return rows
