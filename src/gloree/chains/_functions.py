"""Functions of single steps with their derivatives: from PyTorch, from the user, or by Cauchy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from math import factorial
from types import ModuleType
from typing import Protocol, TypeAlias

import numpy as np

from gloree._extras import require
from gloree._monomials import monomial_positions
from gloree.chains._base import LawError
from gloree.sequences import Array, IntArray

RowFunction: TypeAlias = Callable[..., Array]

N_ANGLES = 32
"""Points of the circle from which derivatives of an analytic function are taken."""

DECAY = 1e-7
"""Middle Fourier coefficient, relative to the largest one of a derivative, up to which a circle
counts as small enough: what is folded onto the derivatives is about its square."""

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Relative rounding of values, and of arguments, that leaves nothing to see below it."""

SOME_ROWS = 16
"""Rows on which the size of the circles is tried first."""

DIFFERENCE = 1e-3
"""Step of the fourth-order central differences that check derivatives."""

AGREEMENT, ROUNDED = 1e-5, 1e-11
"""Largest difference of a derivative from central differences, relative to the largest entry, and
relative to the values that these are differences of."""


class Differentiable(Protocol):
    """A function of rows with derivatives in each of its arguments."""

    @property
    def max_order(self) -> int | None:
        """Largest order of the derivatives; None for any."""

    def __call__(self, *rows: Array) -> Array:
        """Values, (n_rows,) or (n_rows, n_outputs)."""

    def derivatives(self, place: int, order: int, *rows: Array) -> tuple[Array, ...]:
        """Derivatives of orders 1 to `order` in argument `place`; the axes of the values first."""


@cache
def _torch(what: str) -> ModuleType:
    """PyTorch, whose first transform loads modules that warn of their own age."""
    torch: ModuleType = require("torch", "torch", what)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.vmap(torch.func.jacfwd(torch.sin))(torch.zeros((1, 1)))
    return torch


@dataclass(frozen=True, eq=False)
class TorchFunction:
    """A PyTorch function of single steps, each of shape (n_inputs,); derivatives by torch.func."""

    function: Callable[..., object]
    what: str
    max_order: None = None

    def _mapped(self, function: Callable[..., object], rows: Sequence[Array]) -> Array:
        torch = _torch(self.what)
        tensors = [torch.from_numpy(np.array(each, dtype=np.float64)) for each in rows]
        values: Array = torch.func.vmap(function)(*tensors).detach().numpy(force=True)
        return values

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows."""
        return self._mapped(self.function, rows)

    def derivatives(self, place: int, order: int, *rows: Array) -> tuple[Array, ...]:
        """Derivatives by forward differentiation over and over."""
        torch = _torch(self.what)
        found, function = [], self.function
        for _ in range(order):
            function = torch.func.jacfwd(function, argnums=place)
            found.append(self._mapped(function, rows))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class GivenFunction:
    """A function of rows with derivatives given by the user: `given[place][k - 1]` of order k."""

    function: RowFunction
    given: tuple[tuple[RowFunction, ...], ...]

    @property
    def max_order(self) -> int:
        """Orders that are given for every argument."""
        return min(len(each) for each in self.given)

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows."""
        return self.function(*rows)

    def derivatives(self, place: int, order: int, *rows: Array) -> tuple[Array, ...]:
        """Evaluate what was given."""
        return tuple(function(*rows) for function in self.given[place][:order])


@dataclass(frozen=True, eq=False)
class InUnits:
    """A function of steps in other units: derivatives of order k are multiplied by unit^k."""

    function: Differentiable
    unit: float

    @property
    def max_order(self) -> int | None:
        """That of the function."""
        return self.function.max_order

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows."""
        return self.function(*(self.unit * each for each in rows))

    def derivatives(self, place: int, order: int, *rows: Array) -> tuple[Array, ...]:
        """Derivatives of orders 1 to `order` in argument `place`."""
        found = self.function.derivatives(place, order, *(self.unit * each for each in rows))
        return tuple(self.unit**k * each for k, each in enumerate(found, start=1))


@dataclass(frozen=True, eq=False)
class AnalyticFunction:
    r"""An analytic NumPy function of rows; derivatives from its values on circles (Cauchy).

    .. math:: \partial_v^k g(x) = \frac{k!}{M r^k} \sum_{j=1}^M e^{-2\pi i jk/M}
              g(x + r e^{2\pi i j/M} v)

    Entries of tensors are combinations of derivatives along the directions with entries that are
    whole numbers and add up to k, in units of the inputs: `units`, (n_inputs,), are those of
    arguments and values.
    """

    function: RowFunction
    units: Array
    max_order: None = None

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows."""
        return self.function(*rows)

    def derivatives(self, place: int, order: int, *rows: Array) -> tuple[Array, ...]:
        """Derivatives of orders 1 to `order` in the only argument."""
        x = rows[place]
        n_inputs = x.shape[1]
        directions = _exponents(n_inputs, order)
        along = np.stack([self._along(x, v.astype(np.float64), order) for v in directions], axis=1)
        found = []
        for k in range(1, order + 1):
            # d^k g along v is sum_beta (k! / beta!) v^beta T_beta
            exponents = _exponents(n_inputs, k)
            counts = np.array([np.prod([factorial(int(e)) for e in row]) for row in exponents])
            powers = directions[:, np.newaxis, :].astype(np.float64) ** exponents[np.newaxis]
            matrix = factorial(k) / counts * np.prod(powers, axis=2)
            packed = np.tensordot(np.linalg.pinv(matrix), along[k - 1], axes=1)
            tensor = np.moveaxis(packed, 0, -1)[..., monomial_positions(n_inputs, k)]
            values = self.units.reshape((-1,) + (1,) * k)
            found.append(tensor * values / powers_of(self.units, k))
        return tuple(found)

    def _along(self, x: Array, direction: Array, order: int) -> Array:
        """Derivatives of orders 1 to `order` along a direction, (order, *the shape of values).

        Direction and values are in `units`.
        """
        radius = 1.0 / np.abs(direction).sum()
        some = x[:: max(1, x.shape[0] // SOME_ROWS)]
        for _ in range(12):
            radius /= 2
            if not self._settled(self._coefficients(some, direction, radius), some, radius):
                continue
            coefficients = self._coefficients(x, direction, radius)
            if self._settled(coefficients, x, radius):
                factors = [factorial(k) / radius**k for k in range(1, order + 1)]
                return np.stack([f * coefficients[k] for k, f in enumerate(factors, start=1)])
        raise LawError(
            "`step` is no analytic function near its arguments (abs, maximum, where, ..): give "
            "its `derivatives`, or write it with PyTorch"
        )

    def _coefficients(self, x: Array, direction: Array, radius: float) -> Array:
        """Coefficients r^k g^(k) / k! of the first half of the powers, from half of the circle."""
        angles = 2 * np.pi * np.arange(N_ANGLES // 2 + 1) / N_ANGLES
        circle = radius * np.exp(1j * angles)
        points = x[np.newaxis] + circle[:, np.newaxis, np.newaxis] * (direction * self.units)
        values = self.function(points.reshape(-1, x.shape[1])).reshape(len(circle), *x.shape)
        values = values / self.units
        # real functions have conjugate values at conjugate points
        return np.fft.irfft(values.conj(), n=N_ANGLES, axis=0)[: N_ANGLES // 2 + 1]

    def _settled(self, coefficients: Array, x: Array, radius: float) -> bool:
        """Whether the powers of half the number of points no longer matter, in any row.

        The value itself does not count: it may be far from zero, and its rounding is all it brings.
        """
        found = np.abs(coefficients)
        moved = np.abs(x / self.units).max(axis=1, keepdims=True) / radius
        noise = ROUNDING * (found[0] + moved * found[1])
        return bool((found[-1] <= np.maximum(DECAY * found[1:].max(axis=0), noise)).all())


def powers_of(units: Array, order: int) -> Array:
    """Products of units, (n_inputs,) * order."""
    found = np.ones(())
    for _ in range(order):
        found = np.multiply.outer(found, units)
    return np.asarray(found)


def _exponents(n_inputs: int, degree: int) -> IntArray:
    """Exponents of all monomials of a degree, (n_monomials, n_inputs)."""
    chosen = combinations_with_replacement(range(n_inputs), degree)
    return np.array([np.bincount(each, minlength=n_inputs) for each in chosen])


@dataclass(frozen=True, eq=False)
class AtOnce:
    """A NumPy function that takes all rows at once."""

    function: Callable[..., object]

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows."""
        return np.asarray(self.function(*rows))


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A NumPy function of single steps."""

    function: Callable[..., object]

    def __call__(self, *rows: Array) -> Array:
        """Values of all rows, step after step."""
        found = (np.asarray(self.function(*steps)) for steps in zip(*rows, strict=True))
        return np.stack(list(found))


def in_rows(function: Callable[..., object], probes: Sequence[Array], name: str) -> RowFunction:
    """A NumPy function that takes rows: the given one, or a loop where it takes single steps alone.

    Parameters
    ----------
    function : callable
    probes : sequence of ndarray
        Some rows for each argument, by which it is found out which of the two it is.
    name : str
        The argument, for messages.
    """
    one_by_one, at_once = OneByOne(function), AtOnce(function)
    try:
        expected = one_by_one(*probes)
    except Exception as error:
        if _takes_rows(function, probes):
            return at_once
        raise LawError(
            f"`{name}` cannot be called with {len(probes)} NumPy array(s) of shape "
            f"{probes[0].shape[1:]} ({type(error).__name__}: {error})"
        ) from error
    try:
        found = at_once(*probes)
        alike = found.shape == expected.shape and np.allclose(found, expected, 1e-10, 1e-12)
    except Exception:
        alike = False
    return at_once if alike else one_by_one


def _takes_rows(function: Callable[..., object], probes: Sequence[Array]) -> bool:
    """Whether a function of NumPy rows gives values, each of which depends on its row alone."""
    try:
        found = np.asarray(function(*probes))
        alone = np.asarray(function(*(each[:1] for each in probes)))
        each = found.shape[:1] == probes[0].shape[:1]
        return each and np.allclose(alone, found[:1], 1e-10, 1e-12)
    except Exception:
        return False


def takes_numpy(function: Callable[..., object], probes: Sequence[Array]) -> bool:
    """Whether a function gives NumPy values for NumPy steps, or rows (a PyTorch function does not).

    A list of numbers is one, too.
    """
    for arguments in ([each[0] for each in probes], probes):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = function(*arguments)
        except Exception:
            continue
        values = found if isinstance(found, (list, tuple)) else [found]
        if all(isinstance(each, (np.ndarray, np.generic, float, int)) for each in values):
            return True
    return False


def check_values(name: str, values: Array, shape: tuple[int, ...]) -> None:
    """Refuse values of another shape, or that are not finite."""
    if values.shape != shape:
        raise LawError(
            f"`{name}` returned values of shape {values.shape[1:]} for one step, expected "
            f"{shape[1:]}"
        )
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise LawError(f"`{name}` returned values that are not finite real numbers on test steps")


def check_derivatives(
    name: str, function: Differentiable, place: int, *rows: Array, units: Array | None = None
) -> None:
    """Compare every derivative that was given with central differences of the one below it.

    With `units`, (n_inputs,), of arguments and values, which are then steps too.

    Raises
    ------
    LawError
        It names the order, the entry, and both values.
    """
    orders = function.max_order or 2
    n_inputs = rows[place].shape[1]
    steps = DIFFERENCE * (np.ones(n_inputs) if units is None else units)
    for order in range(1, orders + 1):
        found = function.derivatives(place, order, *rows)[order - 1]

        def below(x: Array, order: int = order) -> Array:
            moved = [*rows[:place], x, *rows[place + 1 :]]
            if order == 1:
                return function(*moved)
            return function.derivatives(place, order - 1, *moved)[order - 2]

        lower = below(rows[place])
        check_values(f"{name}[{order - 1}]", found, (*lower.shape, n_inputs))
        expected = np.empty_like(found)
        for i in range(n_inputs):
            h = np.zeros((1, n_inputs))
            h[0, i] = steps[i]
            near, far = (
                below(rows[place] + m * h) - below(rows[place] - m * h) for m in (1.0, 2.0)
            )
            expected[..., i] = (8 * near - far) / (12 * steps[i])
        wrong, size, below_it = np.abs(found - expected), np.abs(expected), np.abs(lower)
        if units is not None:
            values = units.reshape((-1,) + (1,) * (order - 1))
            below_it = below_it * powers_of(units, order - 1) / values
            factor = powers_of(units, order) / values[..., np.newaxis]
            wrong, size = wrong * factor, size * factor
        limit = AGREEMENT * max(1.0, float(size.max())) + ROUNDED * float(below_it.max())
        if not wrong.max() <= limit:
            at = tuple(int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))
            raise LawError(
                f"`{name}[{order - 1}]` is not the derivative of order {order}: entry {at[1:]} at "
                f"the step {np.array2string(rows[place][at[0]], precision=3)} is {found[at]:.6g}, "
                f"and differences of order {order - 1} say {expected[at]:.6g}"
            )
