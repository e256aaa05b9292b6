"""What an activation is: an elementwise function with its derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import is_tensor

Array: TypeAlias = NDArray[np.float64]
Parity = Literal["even", "odd"]
Spec: TypeAlias = dict[str, object]
Evaluator: TypeAlias = Callable[[Array, Array], object]
"""Writes f of its first argument to its second one."""


class Activation(ABC):
    """An elementwise function f with its derivatives.

    A new activation defines `name`, `__call__` and `derivative` (order 1 is enough for fits); the
    other properties have answers that suit a smooth function without symmetry. `Custom` makes one
    of two functions.
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

    @property
    def homogeneity(self) -> int | None:
        """Degree l of f(s z) = s^l f(z) for every s > 0: units have a free scale; else None."""
        return self.degree if self.is_monomial else None

    @property
    def centre(self) -> tuple[float, float] | None:
        """Point (z0, f0) about which f is odd, f(2 z0 - z) = 2 f0 - f(z); None without one."""
        return (0.0, 0.0) if self.parity == "odd" else None

    @property
    def runs_on_tensors(self) -> bool:
        """Whether f and f' of a PyTorch tensor are tensors."""
        return self.is_polynomial

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

    def evaluator(self) -> Evaluator:
        """Return a function that writes f(z) to `out`, for float64 arrays and without checks.

        A loop over steps calls it: what is left out there costs as much as a small step itself.
        """
        return lambda z, out: self(z, out=out)

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) together, each of the shape of z."""
        return self(z), self.derivative(z)

    def spec(self) -> Spec:
        """Describe the activation in JSON types; `from_spec` reads it.

        A TypeError where nothing could read it: networks with it can be pickled, but not saved.
        """
        raise TypeError(
            f"the activation {self.name!r} ({type(self).__name__}) is not one of this package, so "
            f"no file can tell what it is: pickle the network, or save its arrays"
        )

    @property
    def n_units(self) -> int | None:
        """Units it is made for; None for any number, all alike."""
        return None

    def select(self, units: slice) -> Activation:
        """Return the activation of some of the units."""
        return self


def check_order(order: int) -> int:
    """Order of a derivative, an integer of at least 0; else raise."""
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"`order` is {order!r}, expected an integer of at least 0")
    if order < 0:
        raise ValueError(f"`order` is {order}, expected an integer of at least 0")
    return int(order)


def deliver(values: Array, out: Array | None) -> Array:
    """Values, written to `out` where there is one."""
    if out is None:
        return values
    out[...] = values
    return out


def numbers(z: ArrayLike) -> Array:
    """Array of float64, or the tensor that was given."""
    if type(z) is not np.ndarray and is_tensor(z):
        return cast(Array, z)
    return np.asarray(z, dtype=np.float64)
