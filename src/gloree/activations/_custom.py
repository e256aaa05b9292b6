"""An activation made of two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from gloree._brief import Brief
from gloree.activations._base import Activation, Array, Parity, check_order, deliver

_PARITY_GRID = np.linspace(0.013, 4.0, 50)
_PARITY_GRID.setflags(write=False)


@dataclass(frozen=True)
class Custom(Brief, Activation):
    """An activation made of a function and its first derivative.

    Fits need no more. It is known to Python alone: networks with it are pickled where the functions
    can be, and not saved.

    Parameters
    ----------
    function, slope : callable
        f and f', elementwise on arrays of float64.
    label : str, default "custom"
        Name in messages and tables.

    Raises
    ------
    TypeError
        If one cannot be called.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.activations import Custom
    >>> f = Custom(np.sin, np.cos, "sine")
    >>> f.name, f([0.0]), f.derivative([0.0])
    ('sine', array([0.]), array([1.]))
    """

    function: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    label: str = "custom"

    def __post_init__(self) -> None:
        """Check that both can be called."""
        for name in ("function", "slope"):
            if not callable(getattr(self, name)):
                raise TypeError(f"`{name}` is {getattr(self, name)!r}, expected a function")

    @property
    def name(self) -> str:
        """Short name for messages and tables."""
        return self.label

    @cached_property
    def parity(self) -> Parity | None:
        """Return "even", "odd" or None, from values on a grid."""
        with np.errstate(all="ignore"):
            ahead, behind = self(_PARITY_GRID.copy()), self(-_PARITY_GRID)
        if np.allclose(ahead, behind, rtol=1e-13, atol=0.0):
            return "even"
        return "odd" if np.allclose(ahead, -behind, rtol=1e-13, atol=0.0) else None

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        return deliver(self._real(self.function, z), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f or f' elementwise; a ValueError for higher orders (see `Activation`)."""
        if check_order(order) == 0:
            return self(z)
        if order > 1:
            raise ValueError(f"`order` is {order}: {self.name!r} has a first derivative only")
        return self._real(self.slope, z)

    def _real(self, function: Callable[[Array], Array], z: ArrayLike) -> Array:
        """Values of f or f'; a TypeError where they are complex."""
        found = np.asarray(function(np.asarray(z, dtype=np.float64)))
        if found.dtype.kind == "c":
            raise TypeError(f"{self.name!r} gives complex numbers, expected real ones")
        return np.asarray(found, dtype=np.float64)
