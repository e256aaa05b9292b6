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

    What `Layout` takes as `free_coefficients` where all of them are to be free.

    Parameters
    ----------
    activation : Activation
    n_hidden : int

    Returns
    -------
    tuple of tuples of int
        Empty for units of other kinds, linear ones among them: their slope is the scale of
        their weights.
    """
    return tuple(
        tuple(range(1, kind.degree + 1)) if kind.degree is not None and kind.degree >= 2 else ()
        for kind in _units_of(activation, n_hidden)
    )


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
    owners, powers : ndarray of int of shape (n_coefficients,)
        Unit, counted from the first one of the direction, and power of each free coefficient.
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
        """Units."""
        return int(self.units.stop - self.units.start)

    @property
    def n_entering(self) -> int:
        """Parameters that enter the units; those after them in the block are coefficients."""
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
    free_coefficients : tuple of tuples of int
        Powers of each unit's polynomial whose coefficients are free (see `polynomial_powers`);
        empty where the activation is fixed. The constant term cannot be free: it acts as the
        biases do.

    Raises
    ------
    ValueError
        If `free_coefficients` is not made for the units.
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
        if self.n_backward is None:
            width = self.n_inputs + self.recurrent * self.n_hidden + self.unit_bias
            units = slice(0, self.n_hidden)
            return (Direction("", units, everything, width, 0, *self._coefficients(units)),)
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
            parts.append(
                Direction(prefix, units, columns, width, start, *self._coefficients(units))
            )
        return tuple(parts)

    def _coefficients(self, units: slice) -> tuple[IntArray, IntArray]:
        """Owners and powers of the free coefficients of some units."""
        pairs = [
            (owner, power)
            for owner, powers in enumerate(self.free_coefficients[units])
            for power in powers
        ]
        owners, powers = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return owners, powers

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
        """Vector from its parts.

        Parameters
        ----------
        units : sequence of ndarray of shape (n_units, width)
            One a direction.
        coefficients : sequence of ndarray of shape (n_coefficients,)
            One a direction.
        outputs : ndarray of shape (n_outputs, output_width)
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
        """Return the model after a step in the free parameters.

        Raises
        ------
        ValueError
            If coefficients are free of a unit that is no polynomial of such a degree.
        """
        weights, changes = self.weights(model), self.named(step)
        moved: dict[str, Any] = {name: weights[name] + change for name, change in changes.items()}
        if self.free_coefficients:
            moved["activation"] = self._activation(model, moved.pop("coefficients"))
        return model.replace(**moved)

    def named(self, vector: Array) -> dict[str, Array]:
        """Parts of a parameter vector in the shapes of the weights they belong to.

        Free coefficients are one vector, `coefficients`, unit after unit.
        """
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

        Raises
        ------
        ValueError
            If coefficients are free of a unit that is no polynomial of such a degree.
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
        kinds = _units_of(model.activation, self.n_hidden)
        for unit, (kind, powers) in enumerate(zip(kinds, self.free_coefficients, strict=True)):
            if not powers:
                continue
            if not isinstance(kind, Polynomial) or kind.degree < max(powers):
                raise ValueError(
                    f"`free_coefficients` of unit {unit} is {powers}, but the unit is "
                    f"{kind.name!r}: expected a polynomial of degree {max(powers)} or more"
                )
            values += [kind.coefficients[power] for power in powers]
        return np.array(values)

    def _activation(self, model: Network, values: Array) -> PerUnit:
        """Activation of a model with other values of the free coefficients."""
        kinds, given = [], iter(values.tolist())
        old = _units_of(model.activation, self.n_hidden)
        for kind, powers in zip(old, self.free_coefficients, strict=True):
            if powers:
                assert isinstance(kind, Polynomial)
                coefficients = list(kind.coefficients)
                for power in powers:
                    coefficients[power] = next(given)
                # a leading coefficient of exactly zero would be a polynomial of lower degree
                coefficients[-1] = coefficients[-1] or float(np.finfo(np.float64).tiny)
                kind = Polynomial(coefficients)
            kinds.append(kind)
        return PerUnit(kinds)

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
