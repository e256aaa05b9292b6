"""Smooth and piecewise linear functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from gloree._arrays import is_tensor, namespace
from gloree._extras import require
from gloree.activations._base import (
    Activation,
    Array,
    Evaluator,
    Spec,
    check_order,
    deliver,
    numbers,
)
from gloree.activations._polynomials import horner

FAR = 50.0
"""Distance from zero at which the normal density is zero in float64, times any polynomial."""


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


def _polynomial(coefficients: tuple[float, ...], z: Array) -> Array:
    """Sum of c_m z^m, of a tensor too."""
    if not is_tensor(z):
        return horner(coefficients, z)
    value: Array = namespace(z).zeros_like(z) + coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * z + c
    return value


class _Smooth(Activation):
    """What the functions of this module have in common: they run on tensors, and have a name."""

    @property
    def runs_on_tensors(self) -> bool:
        """Whether f and f' of a PyTorch tensor are tensors: yes."""
        return True

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": self.name}


@dataclass(frozen=True)
class Tanh(_Smooth):
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
        values = numbers(z)
        if is_tensor(values):
            return deliver(namespace(values).tanh(values), out)
        return np.asarray(np.tanh(values, out=out))

    def evaluator(self) -> Evaluator:
        """Return NumPy's own function (see `Activation`)."""
        return np.tanh

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, any order (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        # sech^2 from exp(-2|z|): 1 - tanh^2 loses all digits for large |z|
        decay = namespace(values).exp(-2.0 * abs(values))
        slope: Array = 4.0 * decay / (1.0 + decay) ** 2
        if order == 1:
            return slope
        higher: Array = slope * _polynomial(_slope_chain((1.0, 0.0, -1.0), order), self(values))
        return higher

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) = 1 - f(z)^2 with one tanh."""
        value = self(z)
        slope: Array = 1.0 - value * value
        return value, slope


@dataclass(frozen=True)
class Softplus(_Smooth):
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
        values = numbers(z)
        xp = namespace(values)
        return deliver(_positive(values) + xp.log1p(xp.exp(-abs(values))), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, any order (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        logistic = self.value_and_derivative(values)[1]
        if order == 1:
            return logistic
        decay = namespace(values).exp(-abs(values))
        slope = decay / (1.0 + decay) ** 2
        higher: Array = slope * _polynomial(_slope_chain((0.0, 1.0, -1.0), order - 1), logistic)
        return higher

    def value_and_derivative(self, z: ArrayLike) -> tuple[Array, Array]:
        """Evaluate f(z) and f'(z) with one exponential."""
        values = numbers(z)
        xp = namespace(values)
        decay = xp.exp(-abs(values))
        value: Array = _positive(values) + xp.log1p(decay)
        upper: Array = xp.where(values >= 0.0, xp.ones_like(decay), decay)
        return value, upper / (1.0 + decay)


def _positive(z: Array) -> Array:
    """Return max(z, 0)."""
    positive: Array = z.clip(min=0.0) if is_tensor(z) else np.maximum(z, 0.0)
    return positive


softplus = Softplus()
"""f(z) = log(1 + e^z)."""


@dataclass(frozen=True)
class Sigmoid(_Smooth):
    """Logistic function, f(z) = 1 / (1 + e^-z); odd about (0, 1/2).

    Examples
    --------
    >>> from gloree.activations import sigmoid
    >>> sigmoid([0.0, -1000.0, 1000.0])
    array([0.5, 0. , 1. ])
    """

    name = "sigmoid"
    centre = (0.0, 0.5)

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = numbers(z)
        if is_tensor(values):
            return deliver(softplus.derivative(values), out)
        return deliver(special.expit(values), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, any order (see `Activation`)."""
        return self(z) if check_order(order) == 0 else softplus.derivative(z, order + 1)


@dataclass(frozen=True)
class LeakyReLU(_Smooth):
    """Leaky rectifier, f(z) = max(z, 0) + slope min(z, 0); units have a free scale.

    At the kink f' is `slope`.

    Parameters
    ----------
    slope : float, default 0.01
        Below zero; less than 1 in size, as f would be linear with 1.

    Raises
    ------
    TypeError, ValueError
        If `slope` is no number between -1 and 1.

    Examples
    --------
    >>> from gloree.activations import LeakyReLU
    >>> LeakyReLU(0.1)([-2.0, 3.0])
    array([-0.2,  3. ])
    """

    slope: float = 0.01

    name = "leaky_relu"
    homogeneity = 1

    def __post_init__(self) -> None:
        """Check the slope."""
        if isinstance(self.slope, bool) or not isinstance(self.slope, (int, float)):
            raise TypeError(f"`slope` is {self.slope!r}, expected a number between -1 and 1")
        if not -1.0 < self.slope < 1.0:
            raise ValueError(f"`slope` is {self.slope}, expected a number between -1 and 1")

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = numbers(z)
        positive = _positive(values)
        return deliver(positive + self.slope * (values - positive), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, zero from order 2 on (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        xp = namespace(values)
        ones: Array = xp.ones_like(values)
        slopes: Array = xp.where(values > 0.0, ones, self.slope * ones)
        return slopes if order == 1 else 0.0 * ones

    def spec(self) -> Spec:
        """Describe the activation in JSON types."""
        return {"kind": self.name, "slope": float(self.slope)}


@dataclass(frozen=True)
class ReLU(_Smooth):
    """Rectifier, f(z) = max(z, 0), with f'(0) = 0; units have a free scale.

    Examples
    --------
    >>> from gloree.activations import relu
    >>> relu([-2.0, 3.0])
    array([0., 3.])
    """

    name = "relu"
    homogeneity = 1

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = numbers(z)
        if is_tensor(values):
            return deliver(_positive(values), out)
        return np.asarray(np.maximum(values, 0.0, out=out))

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(order)(z) elementwise, zero from order 2 on (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        xp = namespace(values)
        above: Array = xp.where(values > 0.0, xp.ones_like(values), xp.zeros_like(values))
        return above if order == 1 else 0.0 * above


@dataclass(frozen=True)
class GELU(_Smooth):
    """Gaussian error linear unit, f(z) = z Phi(z), with the exact normal distribution function.

    Examples
    --------
    >>> from gloree.activations import gelu
    >>> gelu([0.0, 1.0]).round(4)
    array([0.    , 0.8413])
    """

    name = "gelu"

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = numbers(z)
        return deliver(values * _normal_below(values), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(m)(z) = z Phi^(m) + m Phi^(m - 1), any order (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        below = _normal_density(values, order - 2) if order > 1 else _normal_below(values)
        found: Array = values * _normal_density(values, order - 1) + order * below
        return found


def _normal_below(z: Array) -> Array:
    """Distribution function of N(0, 1)."""
    if is_tensor(z):
        below: Array = require("torch", "torch", "work on tensors").special.ndtr(z)
        return below
    return np.asarray(special.ndtr(z))


def _normal_density(z: Array, order: int) -> Array:
    """Derivative (-1)^m He_m(z) phi(z) of the density of N(0, 1)."""
    z = z.clip(-FAR, FAR)  # squares would overflow, and zero times infinity is no number
    density = namespace(z).exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    hermite = np.polynomial.hermite_e.herme2poly([0.0] * order + [1.0])
    coefficients = tuple(float((-1) ** order * c) for c in hermite)
    found: Array = density * _polynomial(coefficients, z)
    return found


@dataclass(frozen=True)
class SiLU(_Smooth):
    """Sigmoid linear unit (swish), f(z) = z / (1 + e^-z).

    Examples
    --------
    >>> from gloree.activations import silu
    >>> silu([0.0, 1.0]).round(4)
    array([0.    , 0.7311])
    """

    name = "silu"

    def __call__(self, z: ArrayLike, out: Array | None = None) -> Array:
        """Evaluate f(z) elementwise (see `Activation`)."""
        values = numbers(z)
        return deliver(values * sigmoid(values), out)

    def derivative(self, z: ArrayLike, order: int = 1) -> Array:
        """Evaluate f^(m)(z) = z s^(m) + m s^(m - 1), s the sigmoid (see `Activation`)."""
        values = numbers(z)
        if check_order(order) == 0:
            return self(values)
        higher, lower = sigmoid.derivative(values, order), sigmoid.derivative(values, order - 1)
        found: Array = values * higher + order * lower
        return found


tanh = Tanh()
"""f(z) = tanh z."""
sigmoid = Sigmoid()
"""f(z) = 1 / (1 + e^-z)."""
relu = ReLU()
"""f(z) = max(z, 0)."""
leaky_relu = LeakyReLU()
"""f(z) = max(z, 0) + 0.01 min(z, 0)."""
gelu = GELU()
"""f(z) = z Phi(z)."""
silu = SiLU()
"""f(z) = z / (1 + e^-z)."""
