"""Activations: elementwise functions with exact derivatives of any order.

The moment identities hold for polynomials, f(z) = sum_m c_m z^m, and the quadratic is the main
case. `tanh` and `softplus` follow the same interface. All are frozen values: they compare by
content, can be pickled, and `spec` writes them as JSON. (One module: five classes of one interface,
half of it their documentation.)
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import is_tensor, namespace

Array: TypeAlias = NDArray[np.float64]
Parity = Literal["even", "odd"]
Spec: TypeAlias = dict[str, object]

# fmt: off
__all__ = [
    "Activation", "PerUnit", "Polynomial", "Softplus", "Tanh", "cubic", "from_spec",
    "get_activation", "linear", "quadratic", "softplus", "tanh",
]
# fmt: on


class Activation(ABC):
    """An elementwise function f with its derivatives.

    A new activation defines `name`, `__call__`, `derivative` and `spec`; the other properties
    have answers that suit a smooth function without symmetry.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name for messages and tables."""

    @property
    def degree(self) -> int | None:
        """Degree of a polynomial; None for other functions."""
        return None

    @property
    def is_polynomial(self) -> bool:
        """Whether f is a polynomial."""
        return self.degree is not None

    @property
    def parity(self) -> Parity | None:
        """Return "even" if f(-z) = f(z), "odd" if f(-z) = -f(z), None otherwise."""
        return None

    @property
    def is_monomial(self) -> bool:
        """Whether f(z) = c z^l, so that every unit of a network has a free scale."""
        return False

    @abstractmethod
    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise.

        Parameters
        ----------
        z : ndarray of any shape
        out : ndarray of the same shape, optional
            Where to write the values; it must not overlap `z`.

        Returns
        -------
        ndarray of the same shape
        """

    @abstractmethod
    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise (order 0 is f itself), in the shape of z."""

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) together, each of the shape of z."""
        return self(z), self.derivative(z)

    @abstractmethod
    def spec(self) -> Spec:
        """Describe the activation in JSON types; `from_spec` reads it."""

    @property
    def n_units(self) -> int | None:
        """Units it is made for; None for any number, all alike."""
        return None

    def select(self, units: slice) -> Activation:
        """Return the activation of some of the units."""
        return self


def _check_order(order: int) -> int:
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"`order` is {order!r}, expected an integer of at least 0")
    if order < 0:
        raise ValueError(f"`order` is {order}, expected an integer of at least 0")
    return int(order)


def _deliver(values: Array, out: Array | None) -> Array:
    if out is None:
        return values
    out[...] = values
    return out


_SQUARE = (0.0, 0.0, 1.0)


def _horner(coefficients: tuple[float, ...], z: Array, out: Array | None = None) -> Array:
    """Sum of c_m z^m; products by one and sums with zero are left out."""
    if coefficients == _SQUARE:
        return np.asarray(np.multiply(z, z, out=out))
    if out is None:
        out = np.empty_like(z)
    if len(coefficients) == 1:
        out.fill(coefficients[0])
        return out
    leading, *rest = coefficients[::-1]
    value = z
    if leading != 1.0:
        value = np.multiply(z, leading, out=out)
    for c in rest[:-1]:
        if c != 0.0:
            value = np.add(value, c, out=out)
        value = np.multiply(value, z, out=out)
    if rest[-1] != 0.0:
        return np.add(value, rest[-1], out=out)
    if value is z:
        np.copyto(out, z)
    return out


def _tensor_horner(
    coefficients: tuple[float, ...], z: ArrayLike, out: Array | None = None
) -> Array:
    """The same for a tensor, where it is."""
    tensor = cast(Array, z)
    if coefficients == _SQUARE:
        return _deliver(tensor * tensor, out)
    value: Array = namespace(tensor).zeros_like(tensor) + coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * tensor if c == 0.0 else value * tensor + c
    return _deliver(value, out)


@lru_cache(maxsize=256)
def _differentiate(coefficients: tuple[float, ...], order: int) -> tuple[float, ...]:
    higher = coefficients[order:]
    if not higher:
        return (0.0,)
    return tuple(c * math.perm(m + order, order) for m, c in enumerate(higher))


_NAMES = {(0.0, 1.0): "linear", (0.0, 0.0, 1.0): "quadratic", (0.0, 0.0, 0.0, 1.0): "cubic"}


@dataclass(frozen=True)
class Polynomial(Activation):
    """Polynomial activation, f(z) = c_0 + c_1 z + ... + c_l z^l.

    Parameters
    ----------
    coefficients : sequence of float
        c_0, ..., c_l, of any degree l >= 1; the last one is not zero.

    Raises
    ------
    TypeError
        If `coefficients` is not a sequence of real numbers.
    ValueError
        If there are fewer than two, one is not finite, or the last one is zero.

    Notes
    -----
    Evaluated by Horner's rule in O(l) operations per element; the quadratic takes one product.
    A polynomial of a PyTorch tensor is a tensor.

    Examples
    --------
    >>> from gloree.activations import Polynomial
    >>> f = Polynomial([0.0, 1.0, 0.5])
    >>> f.name, f.degree, f.leading
    ('z + 0.5 z^2', 2, 0.5)
    >>> f([1.0, 2.0])
    array([1.5, 4. ])
    >>> f.derivative([1.0, 2.0])
    array([2., 3.])
    """

    coefficients: tuple[float, ...]

    def __init__(self, coefficients: Iterable[float]) -> None:
        try:
            values = tuple(float(c) for c in coefficients)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"`coefficients` is {coefficients!r}, expected real numbers c_0, c_1, ..., c_l"
            ) from error
        if len(values) < 2:
            raise ValueError(
                f"`coefficients` has {len(values)} entries, expected c_0, ..., c_l with l >= 1: a "
                f"constant carries nothing from inputs to outputs"
            )
        if not all(map(math.isfinite, values)):
            raise ValueError(f"`coefficients` is {values}, expected finite numbers")
        if values[-1] == 0.0:
            raise ValueError(
                f"`coefficients` is {values}, whose last entry is zero: leave out trailing zeros, "
                f"so that the degree is what the length says"
            )
        object.__setattr__(self, "coefficients", values)

    @property
    def degree(self) -> int:
        """Degree l."""
        return len(self.coefficients) - 1

    @property
    def leading(self) -> float:
        """Coefficient c_l of the highest power."""
        return self.coefficients[-1]

    @property
    def name(self) -> str:
        """A known name, or the formula."""
        known = _NAMES.get(self.coefficients)
        if known is not None:
            return known
        text = ""
        for power, c in enumerate(self.coefficients):
            if c == 0.0:
                continue
            size = abs(c)
            factor = "" if size == 1.0 and power else f"{size:g}"
            variable = ("", "z", f"z^{power}")[min(power, 2)]
            sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
            text += sign + " ".join(part for part in (factor, variable) if part)
        return text

    @property
    def parity(self) -> Parity | None:
        """Return "even", "odd" or None, from the powers that occur."""
        if not any(self.coefficients[1::2]):
            return "even"
        if not any(self.coefficients[0::2]):
            return "odd"
        return None

    @property
    def is_monomial(self) -> bool:
        """Whether only the highest power occurs."""
        return not any(self.coefficients[:-1])

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        # a loop over steps comes here once a step
        if type(z) is not np.ndarray and is_tensor(z):
            return _tensor_horner(self.coefficients, z, out)
        return _horner(self.coefficients, np.asarray(z, dtype=np.float64), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise; zero beyond the degree (see `Activation`)."""
        coefficients = _differentiate(self.coefficients, _check_order(order))
        if is_tensor(z):
            return _tensor_horner(coefficients, z)
        return _horner(coefficients, np.asarray(z, dtype=np.float64))

    def spec(self) -> Spec:
        """Describe the polynomial in JSON types."""
        return {"kind": "polynomial", "coefficients": list(self.coefficients)}


@lru_cache(maxsize=64)
def _slope_chain(base: tuple[float, ...], order: int) -> tuple[float, ...]:
    """Coefficients of Q_order, where Q_1 = 1 and Q_(m+1) = d/ds [ base(s) Q_m(s) ].

    If ds/dz = base(s), then d^m s / dz^m = base(s) Q_m(s).
    """
    chain = np.array([1.0])
    for _ in range(order - 1):
        chain = np.convolve(base, chain)
        chain = chain[1:] * np.arange(1, chain.shape[0])
    return tuple(float(c) for c in chain)


@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent, f(z) = tanh z; f' = 1 - f^2, odd.

    Examples
    --------
    >>> from gloree.activations import tanh
    >>> tanh.derivative([0.0], order=3)
    array([-2.])
    """

    name = "tanh"
    parity = "odd"

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        return np.asarray(np.tanh(np.asarray(z, dtype=np.float64), out=out))

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, any order (see `Activation`)."""
        values = np.asarray(z, dtype=np.float64)
        if _check_order(order) == 0:
            return self(values)
        # sech^2 from exp(-2|z|): 1 - tanh^2 loses all digits for large |z|
        decay = np.exp(-2.0 * np.abs(values))
        slope = np.asarray(4.0 * decay / (1.0 + decay) ** 2)
        if order == 1:
            return slope
        return np.asarray(slope * _horner(_slope_chain((1.0, 0.0, -1.0), order), self(values)))

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) = 1 - f(z)^2 with one tanh."""
        value = self(z)
        return value, np.asarray(1.0 - value * value)

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": "tanh"}


@dataclass(frozen=True)
class Softplus(Activation):
    """Softplus, f(z) = log(1 + e^z); f' is the logistic function.

    Evaluated as max(z, 0) + log(1 + e^-|z|), which neither overflows nor loses digits.

    Examples
    --------
    >>> from gloree.activations import softplus
    >>> softplus([0.0, 1000.0])
    array([6.93147181e-01, 1.00000000e+03])
    """

    name = "softplus"

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = np.asarray(z, dtype=np.float64)
        return _deliver(np.maximum(values, 0.0) + np.log1p(np.exp(-np.abs(values))), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, any order (see `Activation`)."""
        values = np.asarray(z, dtype=np.float64)
        if _check_order(order) == 0:
            return self(values)
        logistic = self.value_and_derivative(values)[1]
        if order == 1:
            return logistic
        decay = np.exp(-np.abs(values))
        slope = decay / (1.0 + decay) ** 2
        return np.asarray(slope * _horner(_slope_chain((0.0, 1.0, -1.0), order - 1), logistic))

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) with one exponential."""
        values = np.asarray(z, dtype=np.float64)
        decay = np.exp(-np.abs(values))
        value = np.maximum(values, 0.0) + np.log1p(decay)
        return np.asarray(value), np.where(values >= 0.0, 1.0, decay) / (1.0 + decay)

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": "softplus"}


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

    def derivative(self, z: Array, order: int) -> Array:
        columns = [_differentiate(tuple(c), order) for c in self.coefficients.T.tolist()]
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
        # a loop over steps comes here once a step: linear units, of which there may be many, are
        # copied with all others
        values = np.asarray(z, dtype=np.float64)
        self._check(values)
        result = np.empty_like(values) if out is None else out
        if result is not values:
            result[...] = values
        for units, f in self._nonlinear_parts:
            result[..., units] = f(values[..., units])
        return result

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

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": "per-unit", "units": [unit.spec() for unit in self.units]}


linear = Polynomial((0.0, 1.0))
"""f(z) = z."""
quadratic = Polynomial((0.0, 0.0, 1.0))
"""f(z) = z^2, the main case."""
cubic = Polynomial((0.0, 0.0, 0.0, 1.0))
"""f(z) = z^3."""
tanh = Tanh()
"""f(z) = tanh z."""
softplus = Softplus()
"""f(z) = log(1 + e^z)."""

_KNOWN: dict[str, Activation] = {f.name: f for f in (linear, quadratic, cubic, tanh, softplus)}


def get_activation(
    activation: str | Activation | Sequence[str | Activation],
) -> Activation:
    """Look up an activation by name; an `Activation` passes through.

    Parameters
    ----------
    activation : {"linear", "quadratic", "cubic", "tanh", "softplus"}, Activation, or a list
        A list holds one activation for each unit (see `PerUnit`).

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
        f"`activation` is a {type(activation).__name__}, expected a name or an Activation, for "
        f"example Polynomial((0, 1, 0.5)) for z + 0.5 z^2"
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
    if kind in ("tanh", "softplus"):
        return _KNOWN[str(kind)]
    if kind == "per-unit" and isinstance(units, Iterable):
        return PerUnit([from_spec(unit) for unit in units])
    raise ValueError(
        f"`spec` is {dict(spec)!r}, expected a 'kind' of 'polynomial' (with 'coefficients'), "
        f"'tanh' or 'softplus'"
    )
