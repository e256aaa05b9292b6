"""Polynomials, of any degree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import is_tensor, namespace
from gloree.activations._base import (
    Activation,
    Array,
    Evaluator,
    Parity,
    Spec,
    check_order,
    deliver,
)

_SQUARE = (0.0, 0.0, 1.0)


def horner(coefficients: tuple[float, ...], z: Array, out: Array | None = None) -> Array:
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
        return deliver(tensor * tensor, out)
    value: Array = namespace(tensor).zeros_like(tensor) + coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * tensor if c == 0.0 else value * tensor + c
    return deliver(value, out)


@lru_cache(maxsize=256)
def differentiated(coefficients: tuple[float, ...], order: int) -> tuple[float, ...]:
    higher = coefficients[order:]
    if not higher:
        return (0.0,)
    return tuple(c * math.perm(m + order, order) for m, c in enumerate(higher))


_NAMES = {(0.0, 1.0): "linear", (0.0, 0.0, 1.0): "quadratic", (0.0, 0.0, 0.0, 1.0): "cubic"}


@dataclass(frozen=True)
class Polynomial(Activation):
    """Polynomial activation, the sum of c_i z^i for i from 0 to l.

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

    @property
    def centre(self) -> tuple[float, float] | None:
        """Point about which it is odd: of every cubic, and of odd polynomials."""
        if self.parity == "odd":
            return 0.0, 0.0
        if self.degree != 3:
            return None
        middle = -self.coefficients[2] / (3 * self.coefficients[3])
        return middle, float(self(np.array(middle)))

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        # a loop over steps comes here once a step
        if type(z) is not np.ndarray and is_tensor(z):
            return _tensor_horner(self.coefficients, z, out)
        return horner(self.coefficients, np.asarray(z, dtype=np.float64), out)

    def evaluator(self) -> Evaluator:
        """Return Horner's scheme alone (see `Activation`)."""
        return partial(horner, self.coefficients)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise; zero beyond the degree (see `Activation`)."""
        coefficients = differentiated(self.coefficients, check_order(order))
        if is_tensor(z):
            return _tensor_horner(coefficients, z)
        return horner(coefficients, np.asarray(z, dtype=np.float64))

    def spec(self) -> Spec:
        """Describe the polynomial in JSON types."""
        return {"kind": "polynomial", "coefficients": list(self.coefficients)}


linear = Polynomial((0.0, 1.0))
"""f(z) = z."""
quadratic = Polynomial((0.0, 0.0, 1.0))
"""f(z) = z^2, the main case."""
cubic = Polynomial((0.0, 0.0, 0.0, 1.0))
"""f(z) = z^3."""
