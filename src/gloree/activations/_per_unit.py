"""A different activation for each unit, and activations by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike

from gloree.activations._base import Activation, Array, Evaluator, Spec
from gloree.activations._functions import (
    LeakyReLU,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from gloree.activations._polynomials import Polynomial, cubic, differentiated, linear, quadratic


@dataclass(frozen=True)
class _Polynomials:
    """Polynomials of one degree l, one for each column; row m of `coefficients` holds the c_m."""

    coefficients: Array

    def __call__(self, z: Array) -> Array:
        value = z * self.coefficients[-1]
        for row in self.coefficients[-2:0:-1]:
            value += row
            value *= z
        value += self.coefficients[0]
        return np.asarray(value)

    def evaluator(self) -> Evaluator:
        return lambda z, out: np.copyto(out, self(z))

    def derivative(self, z: Array, order: int) -> Array:
        columns = [differentiated(tuple(c), order) for c in self.coefficients.T.tolist()]
        if len(columns[0]) == 1:
            return np.full_like(z, [c[0] for c in columns])
        return _Polynomials(np.array(columns).T)(z)


def _shared(unit: Activation) -> Activation | int:
    """What neighbouring units have in common that are evaluated at once."""
    if isinstance(unit, Polynomial) and unit.degree >= 2:
        return unit.degree
    return unit


def _stretches(
    units: Sequence[Activation], shared: Callable[[Activation], object]
) -> Iterator[tuple[slice, list[Activation]]]:
    """Neighbouring units that share something, and where they stand."""
    begin = 0
    for _, group in groupby(units, shared):
        members = list(group)
        yield slice(begin, begin + len(members)), members
        begin += len(members)


@dataclass(frozen=True)
class PerUnit(Activation):
    """A different activation for each unit; the last axis of z runs over the units.

    Parameters
    ----------
    units : sequence of str or Activation
        One for each unit, in their order.

    Raises
    ------
    ValueError
        If there is none, or a name is not known.
    TypeError
        If one is not an activation of a single unit.

    Examples
    --------
    >>> from gloree.activations import PerUnit
    >>> f = PerUnit(["linear", "linear", "tanh"])
    >>> f.name
    '2 linear, 1 tanh'
    >>> f([[1.0, 2.0, 0.0], [3.0, 4.0, 50.0]])
    array([[1., 2., 0.],
           [3., 4., 1.]])
    """

    units: tuple[Activation, ...]

    def __init__(self, units: Iterable[str | Activation]) -> None:
        if isinstance(units, (str, Activation)):
            raise TypeError(f"`units` is {units!r}, expected a sequence of activations, one a unit")
        chosen = tuple(get_activation(unit) for unit in units)
        if not chosen:
            raise ValueError("`units` is empty, expected an activation for each unit")
        if any(isinstance(unit, PerUnit) for unit in chosen):
            raise TypeError("`units` holds a PerUnit, expected activations of single units")
        object.__setattr__(self, "units", chosen)

    @property
    def runs(self) -> list[tuple[slice, Activation]]:
        """Stretches of units that share an activation."""
        return [(units, members[0]) for units, members in _stretches(self.units, lambda unit: unit)]

    @property
    def name(self) -> str:
        """How many units there are of each activation, in their order."""
        return ", ".join(f"{units.stop - units.start} {f.name}" for units, f in self.runs)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.units)

    def select(self, units: slice) -> Activation:
        """Return the activation of some of the units."""
        return PerUnit(self.units[units]) if self.units[units] else linear

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f_i(z_i) along the last axis (see `Activation`)."""
        values = np.asarray(z, dtype=np.float64)
        self._check(values)
        result = np.empty_like(values) if out is None else out
        if result is not values:
            result[...] = values
        for units, f in self._nonlinear_parts:
            result[..., units] = f(values[..., units])
        return result

    def evaluator(self) -> Evaluator:
        """Return a function that copies all units, and evaluates those that are not linear."""
        parts = [(units, f.evaluator()) for units, f in self._nonlinear_parts]

        def evaluate(z: Array, out: Array) -> None:
            if out is not z:
                np.copyto(out, z)
            for units, f in parts:
                f(z[..., units], out[..., units])

        return evaluate

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f_i^(order)(z_i) along the last axis (see `Activation`)."""
        values = np.asarray(z, dtype=np.float64)
        result = np.empty_like(values)
        self._check(values)
        for units, f in self._parts:
            result[..., units] = f.derivative(values[..., units], order)
        return result

    @cached_property
    def _parts(self) -> list[tuple[slice, Activation | _Polynomials]]:
        """Stretches of units that are evaluated at once: of one activation, or of one degree."""
        found: list[tuple[slice, Activation | _Polynomials]] = []
        for units, members in _stretches(self.units, _shared):
            polynomials = [unit.coefficients for unit in members if isinstance(unit, Polynomial)]
            alike = all(unit == members[0] for unit in members)
            found.append((units, members[0] if alike else _Polynomials(np.array(polynomials).T)))
        return found

    @cached_property
    def _nonlinear_parts(self) -> list[tuple[slice, Activation | _Polynomials]]:
        return [(units, f) for units, f in self._parts if f != linear]

    def _check(self, values: Array) -> None:
        if values.ndim == 0 or values.shape[-1] != len(self.units):
            raise ValueError(
                f"`z` has shape {values.shape}, expected (..., {self.n_units}): one column a unit"
            )

    @property
    def runs_on_tensors(self) -> bool:
        """Whether f and f' of a PyTorch tensor are tensors: no."""
        return False

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": "per-unit", "units": [unit.spec() for unit in self.units]}


_FUNCTIONS = (tanh, sigmoid, softplus, relu, leaky_relu, gelu, silu)

_KNOWN: dict[str, Activation] = {f.name: f for f in (linear, quadratic, cubic, *_FUNCTIONS)}


def get_activation(
    activation: str | Activation | Sequence[str | Activation],
) -> Activation:
    """Look up an activation by name; an `Activation` passes through.

    Parameters
    ----------
    activation : str, Activation, or a list
        "linear", "quadratic", "cubic", "tanh", "sigmoid", "softplus", "relu", "leaky_relu", "gelu"
        or "silu". A list holds one activation for each unit (see `PerUnit`).

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        If no activation has this name.
    TypeError
        If it is neither a string nor an `Activation`.

    Examples
    --------
    >>> from gloree.activations import get_activation
    >>> get_activation("quadratic")
    Polynomial(coefficients=(0.0, 0.0, 1.0))
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, (list, tuple)):
        return PerUnit(activation)
    if isinstance(activation, str):
        if activation in _KNOWN:
            return _KNOWN[activation]
        close = difflib.get_close_matches(activation.lower(), _KNOWN, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`activation` is {activation!r}, expected one of {', '.join(map(repr, _KNOWN))} or a "
            f"Polynomial{hint}"
        )
    raise TypeError(
        f"`activation` is of type {type(activation).__name__}, expected a name or an Activation, "
        f"for example Polynomial((0, 1, 0.5)) for z + 0.5 z^2, or Custom of a function and its "
        f"derivative"
    )


def from_spec(spec: Mapping[str, object]) -> Activation:
    """Rebuild an activation from what its `spec` returned; ValueError for no known kind.

    Examples
    --------
    >>> from gloree.activations import cubic, from_spec
    >>> from_spec(cubic.spec()) == cubic
    True
    """
    kind = spec.get("kind")
    coefficients, units = spec.get("coefficients"), spec.get("units")
    if kind == "polynomial" and isinstance(coefficients, Iterable):
        return Polynomial(coefficients)
    if kind == "leaky_relu" and isinstance(spec.get("slope"), (int, float)):
        return LeakyReLU(float(str(spec["slope"])))
    if kind in {f.name for f in _FUNCTIONS if f is not leaky_relu}:
        return _KNOWN[str(kind)]
    if kind == "per-unit" and isinstance(units, Iterable):
        return PerUnit([from_spec(unit) for unit in units])
    raise ValueError(
        f"`spec` is {dict(spec)!r}, expected a 'kind' of 'polynomial' (with 'coefficients') or "
        f"{', '.join(repr(f.name) for f in _FUNCTIONS)}"
    )
