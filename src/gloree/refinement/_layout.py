"""Which weights are free, and their order in a parameter vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gloree.activations import Activation, PerUnit, Polynomial
from gloree.models import Network
from gloree.sequences import Array, IntArray


def _units_of(activation: Activation, n_hidden: int) -> tuple[Activation, ...]:
    """Activation of each unit."""
    return activation.units if isinstance(activation, PerUnit) else (activation,) * n_hidden


def polynomial_powers(activation: Activation, n_hidden: int) -> tuple[tuple[int, ...], ...]:
    """Powers 1, ..., l of each unit whose activation is a polynomial of degree l >= 2.

    Empty for all other units: the slope of a linear one is the scale of its weights.
    """
    degrees = [unit.degree or 0 for unit in _units_of(activation, n_hidden)]
    return tuple(tuple(range(1, degree + 1)) if degree >= 2 else () for degree in degrees)


@dataclass(frozen=True)
class Direction:
    """Units that run the same way through time: a block of the parameter vector from `start` on.

    `prefix` ("", "forward_" or "backward_") begins the names of their weights. They see `columns`
    of the inputs; `width` parameters (a_i, U_i, b_i) enter each. `owners` and `powers` are the
    unit, counted within the direction, and the power of each free coefficient.
    """

    prefix: str
    units: slice
    columns: IntArray
    width: int
    start: int
    owners: IntArray
    powers: IntArray

    @property
    def n_units(self) -> int:
        """Number of units."""
        return int(self.units.stop - self.units.start)

    @property
    def n_entering(self) -> int:
        """Parameters that enter the units; the rest of the block are coefficients."""
        return self.n_units * self.width

    @property
    def size(self) -> int:
        """Parameters of the block."""
        return self.n_entering + int(self.owners.shape[0])

    @property
    def block(self) -> slice:
        """The block in the parameter vector."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class Layout:
    """Free weights of a network as one vector.

    Unit after unit (a_i, U_i, b_i), then the free coefficients of these units, both for forward
    units first, then output after output (A2[:, a], c_a, D[:, a]); parts that are not free are
    left out. A unit of a bidirectional network has the recurrent weights of its own direction
    only, and with lags the windows of its own direction.

    `n_inputs` counts the columns that a batch holds, windows included. `recurrent`, `bias` (of
    hidden units only with `hidden_bias`) and `direct` say whether U, b and c, and D are free.
    `n_backward` is None for an `IORNN`, `lags` is that of a `BRNN`. `free_coefficients` are powers
    of each unit's polynomial (see `polynomial_powers`), not 0: the constant term acts as the biases
    do. They are empty where the activation is fixed.
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
    free_coefficients: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.free_coefficients:
            return
        if len(self.free_coefficients) != self.n_hidden:
            raise ValueError(
                f"`free_coefficients` has {len(self.free_coefficients)} entries, expected the "
                f"powers of each of {self.n_hidden} units"
            )
        for unit, powers in enumerate(self.free_coefficients):
            if any(power < 1 for power in powers) or len(set(powers)) < len(powers):
                raise ValueError(
                    f"`free_coefficients` of unit {unit} is {powers}, expected distinct powers of "
                    f"at least 1: a constant term acts as the biases do"
                )

    @property
    def unit_bias(self) -> bool:
        """Whether b is free."""
        return self.bias and self.hidden_bias

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """Blocks of units, one for each direction."""
        everything = np.arange(self.n_inputs, dtype=np.int64)
        sides = [("", slice(0, self.n_hidden), everything)]
        if self.n_backward is not None:
            cut, step = self.n_hidden - self.n_backward, self.n_inputs // (2 * self.lags - 1)
            past, future = everything[: self.lags * step], everything[self.lags * step :]
            future = np.concatenate((everything[:step], future))
            sides = [
                ("forward_", slice(0, cut), past),
                ("backward_", slice(cut, self.n_hidden), future),
            ]
        parts: list[Direction] = []
        for prefix, units, columns in sides:
            width = columns.shape[0] + self.recurrent * (units.stop - units.start) + self.unit_bias
            free = enumerate(self.free_coefficients[units])
            pairs = [(owner, power) for owner, powers in free for power in powers]
            owners, powers = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            start = parts[-1].block.stop if parts else 0
            parts.append(Direction(prefix, units, columns, width, start, owners, powers))
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

    def join(self, units: Sequence[Array], coefficients: Sequence[Array], outputs: Array) -> Array:
        """Parameter vector from its parts.

        For each direction what enters its units, (n_units, width), and its free coefficients,
        (n_coefficients,); for the outputs what enters them, (n_outputs, output_width).
        """
        blocks = [part.ravel() for pair in zip(units, coefficients, strict=True) for part in pair]
        return np.concatenate([*blocks, outputs.ravel()])

    def split(self, vector: Array) -> tuple[list[Array], list[Array], Array]:
        """Undo `join`."""
        blocks = [vector[part.block] for part in self.directions]
        pairs = list(zip(self.directions, blocks, strict=True))
        units = [block[: p.n_entering].reshape(p.n_units, p.width) for p, block in pairs]
        coefficients = [block[p.n_entering :] for p, block in pairs]
        outputs = vector[self.n_unit_parameters :]
        return units, coefficients, outputs.reshape(self.n_outputs, self.output_width)

    def move(self, model: Network, step: Array) -> Network:
        """Model after a step in the free parameters; a ValueError as for `weights`."""
        weights, changes = self.weights(model), self.named(step)
        moved: dict[str, Any] = {name: weights[name] + change for name, change in changes.items()}
        if self.free_coefficients:
            moved["activation"] = self._activation(model, moved.pop("coefficients"))
        return model.replace(**moved)

    def named(self, vector: Array) -> dict[str, Array]:
        """Parts of a parameter vector, shaped as the weights; `coefficients` are one vector."""
        units, coefficients, outputs = self.split(vector)
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
        if self.free_coefficients:
            parts["coefficients"] = np.concatenate(coefficients)
        if self.bias:
            parts["output_bias"] = outputs[:, self.n_hidden]
        if self.direct:
            parts["direct_weights"] = outputs[:, self.n_hidden + self.bias :].T
        return parts

    def weights(self, model: Network) -> dict[str, Array]:
        """Free weights of a model, named and shaped as by `named`.

        A ValueError if coefficients are free of a unit that is no polynomial of such a degree.
        """
        return {
            name: self._coefficients_of(model) if name == "coefficients" else getattr(model, name)
            for name in self.indices
        }

    def vector(self, model: Network) -> Array:
        """Free weights of a model as a parameter vector."""
        values = np.empty(self.size)
        weights = self.weights(model)
        for name, index in self.indices.items():
            values[index] = weights[name]
        return values

    def _coefficients_of(self, model: Network) -> Array:
        values = []
        units = _units_of(model.activation, self.n_hidden)
        for i, (unit, powers) in enumerate(zip(units, self.free_coefficients, strict=True)):
            if powers and (not isinstance(unit, Polynomial) or unit.degree < max(powers)):
                raise ValueError(
                    f"`free_coefficients` of unit {i} is {powers}, but the unit is "
                    f"{unit.name!r}: expected a polynomial of degree {max(powers)} or more"
                )
            if isinstance(unit, Polynomial):
                values += [unit.coefficients[power] for power in powers]
        return np.array(values)

    def _activation(self, model: Network, values: Array) -> PerUnit:
        """Activation of a model with other values of the free coefficients."""
        units, given = [], iter(values.tolist())
        old = _units_of(model.activation, self.n_hidden)
        for unit, powers in zip(old, self.free_coefficients, strict=True):
            if powers and isinstance(unit, Polynomial):
                coefficients = list(unit.coefficients)
                for power in powers:
                    coefficients[power] = next(given)
                # a leading coefficient of exactly zero would be a polynomial of lower degree
                coefficients[-1] = coefficients[-1] or float(np.finfo(np.float64).tiny)
                unit = Polynomial(coefficients)
            units.append(unit)
        return PerUnit(units)

    @cached_property
    def indices(self) -> dict[str, IntArray]:
        """Index of every weight in the parameter vector, in the shapes of the weights."""
        places = self.named(np.arange(self.size, dtype=np.float64))
        return {name: index.astype(np.int64) for name, index in places.items()}

    def scale_constraints(self, model: Network) -> Array:
        """Rows a_i / |a_i| in the place of unit i's input weights: a_i stays on its sphere.

        None unless scales are free, as for monomials, rectifiers, and (but for h_0) any parabola
        with free biases. Shape (n_hidden or 0, size).
        """
        parabola = model.activation.degree == 2 and self.unit_bias
        if model.activation.homogeneity is None and not parabola:
            return np.zeros((0, self.size))
        rows = np.zeros((self.n_hidden, self.size))
        for direction in self.directions:
            weights = model.input_weights[direction.units][:, direction.columns]
            for i, a in enumerate(weights):
                start = direction.start + i * direction.width
                norm = float(np.linalg.norm(a)) or 1.0
                rows[direction.units.start + i, start : start + a.shape[0]] = a / norm
        return rows
