"""Parts of ONNX graphs: nodes, constants, and activations as nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gloree._extras import require
from gloree.activations import (
    GELU,
    Activation,
    LeakyReLU,
    PerUnit,
    Polynomial,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)

SERIES = 28
"""Chebyshev coefficients of erfc in double precision: the last are below 1e-14."""


class Graph:
    """Nodes and constants of a graph, with names counted up."""

    def __init__(self, dtype: str, prefix: str = "") -> None:
        self.helper = require("onnx.helper", "onnx", "`export_onnx`")
        self.numpy_helper = require("onnx.numpy_helper", "onnx", "`export_onnx`")
        self.dtype, self.prefix = np.dtype(dtype), prefix
        self.nodes: list[object] = []
        self.constants: list[object] = []

    def constant(self, values: object) -> str:
        """A constant in the precision of the graph, unless it is of whole numbers or texts."""
        array: NDArray[Any] = np.asarray(values)
        if array.dtype.kind == "f":
            array = np.ascontiguousarray(array, dtype=self.dtype)
        name = f"{self.prefix}constant{len(self.constants)}"
        self.constants.append(self.numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        """A node of one output, whose name is returned."""
        return self.nodes_of(kind, inputs, [output], **attributes)[0]

    def nodes_of(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: object
    ) -> list[str]:
        """A node of several outputs, whose names are returned."""
        names = [
            name or f"{self.prefix}{kind.lower()}{len(self.nodes)}_{i}"
            for i, name in enumerate(outputs)
        ]
        self.nodes.append(self.helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def affine(self, values: str, weights: object, bias: object) -> str:
        """Rows times weights, plus a bias."""
        product = self.node("MatMul", [values, self.constant(weights)])
        return self.node("Add", [product, self.constant(bias)])

    def rows(self, values: str, start: int, stop: int | None, step: int = 1) -> str:
        """Rows of a matrix, or entries of a vector, as by a slice."""
        end = (
            (np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min)
            if stop is None
            else stop
        )
        places = [self.constant(np.array([each], dtype=np.int64)) for each in (start, end, 0, step)]
        return self.node("Slice", [values, *places])

    def reshaped(self, values: str, *shape: int) -> str:
        """The same numbers in another shape."""
        return self.node("Reshape", [values, self.constant(np.array(shape, dtype=np.int64))])

    def value(self, name: str, *shape: int | str, kind: object = None) -> object:
        """Description of an input or output."""
        given = self.helper.np_dtype_to_tensor_dtype(self.dtype) if kind is None else kind
        return self.helper.make_tensor_value_info(name, given, list(shape))


def activate(body: Graph, activation: Activation, z: str, n_units: int) -> str:
    """States of all units, stretch by stretch."""
    if not isinstance(activation, PerUnit):
        return _function(body, activation, z)
    runs = [(units.indices(n_units)[:2], f) for units, f in activation.runs]
    if len(runs) == 1:
        return _function(body, runs[0][1], z)
    parts = [_function(body, f, body.rows(z, *ends)) for ends, f in runs]
    return body.node("Concat", parts, axis=0)


def _function(body: Graph, activation: Activation, z: str) -> str:
    if isinstance(activation, Polynomial):
        return _polynomial(body, activation.coefficients, z)
    if isinstance(activation, Tanh):
        return body.node("Tanh", [z])
    if isinstance(activation, Sigmoid):
        return body.node("Sigmoid", [z])
    if isinstance(activation, SiLU):
        return body.node("Mul", [z, body.node("Sigmoid", [z])])
    if isinstance(activation, ReLU):
        return body.node("Max", [z, body.constant(0.0)])
    if isinstance(activation, LeakyReLU):
        below = body.node(
            "Mul", [body.node("Min", [z, body.constant(0.0)]), body.constant(activation.slope)]
        )
        return body.node("Add", [body.node("Max", [z, body.constant(0.0)]), below])
    if isinstance(activation, GELU):
        return body.node("Mul", [z, _normal_below(body, z)])
    if isinstance(activation, Softplus):
        # max(z, 0) + log(1 + e^-|z|), which does not overflow
        decay = body.node("Exp", [body.node("Neg", [body.node("Abs", [z])])])
        tail = body.node("Log", [body.node("Add", [decay, body.constant(1.0)])])
        return body.node("Add", [body.node("Max", [z, body.constant(0.0)]), tail])
    raise TypeError(
        f"the activation {activation.name!r} ({type(activation).__name__}) has no ONNX form: use "
        f"one of gloree.activations"
    )


def _polynomial(body: Graph, coefficients: Sequence[float], z: str) -> str:
    if tuple(coefficients) == (0.0, 1.0):
        return z
    found = body.node("Mul", [z, body.constant(coefficients[-1])])
    for coefficient in coefficients[-2:0:-1]:
        found = body.node("Add", [found, body.constant(coefficient)])
        found = body.node("Mul", [found, z])
    return body.node("Add", [found, body.constant(coefficients[0])])


def _normal_below(body: Graph, z: str) -> str:
    r"""Distribution function of N(0, 1).

    By `Erf` in float32, which is all that runtimes have, else by a series: with x = |z| / sqrt(2)
    and t = 2 / (2 + x), erfc(x) = t exp(-x^2 + P(t)), P a Chebyshev series (W. H. Press et al.,
    "Numerical Recipes", 3rd ed., 6.2.2), whose coefficients come from SciPy.
    """
    half = body.constant(0.5)
    if body.dtype == np.float32:
        erf = body.node("Erf", [body.node("Mul", [z, body.constant(1.0 / math.sqrt(2.0))])])
        return body.node("Mul", [body.node("Add", [erf, body.constant(1.0)]), half])
    x = body.node("Mul", [body.node("Abs", [z]), body.constant(1.0 / math.sqrt(2.0))])
    two = body.constant(2.0)
    t = body.node("Div", [two, body.node("Add", [x, two])])
    # u = 2 t - 1 runs over [-1, 1]; Clenshaw's recurrence takes 2 u
    u = body.node("Sub", [body.node("Mul", [t, body.constant(4.0)]), two])
    series = _complement_series()
    before, now = body.node("Mul", [u, body.constant(0.0)]), ""
    now = body.node("Add", [before, body.constant(series[-1])])
    for coefficient in series[-2:0:-1]:
        turned = body.node("Sub", [body.node("Mul", [u, now]), before])
        before, now = now, body.node("Add", [turned, body.constant(float(coefficient))])
    turned = body.node("Mul", [body.node("Mul", [u, now]), half])
    P = body.node("Add", [body.node("Sub", [turned, before]), body.constant(float(series[0]))])
    exponent = body.node("Sub", [P, body.node("Mul", [x, x])])
    tail = body.node("Mul", [body.node("Mul", [t, body.node("Exp", [exponent])]), half])
    above = body.node("Sub", [body.constant(1.0), tail])
    return body.node("Where", [body.node("Less", [z, body.constant(0.0)]), tail, above])


def _complement_series() -> NDArray[np.float64]:
    """Chebyshev coefficients of log(erfcx(x) / t) in u = 2 t - 1, t = 2 / (2 + x)."""
    # interpolation at the Chebyshev points
    angles = np.pi * (np.arange(SERIES) + 0.5) / SERIES
    t = (np.cos(angles) + 1.0) / 2.0
    values = np.log(special.erfcx(2.0 / t - 2.0) / t)
    found = 2.0 / SERIES * np.cos(np.outer(np.arange(SERIES), angles)) @ values
    found[0] /= 2.0
    return np.asarray(found)
