"""A network as an ONNX model that runs records of any length."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gloree._extras import require
from gloree._storage import replaced_file
from gloree.activations import Activation, PerUnit, Polynomial, Softplus, Tanh
from gloree.models import IORNN
from gloree.sequences import Array

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
IR_VERSION = 8
"""Versions that runtimes of several years read."""


class _Graph:
    """Nodes and constants of a graph, with names counted up."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[object] = []
        self.constants: list[object] = []

    def constant(self, name: str, values: object) -> str:
        """A constant under this name."""
        self.constants.append(self.numpy_helper.from_array(np.asarray(values), name))
        return name

    def number(self, value: float) -> str:
        """A number as a constant."""
        return self.constant(f"number{len(self.constants)}", np.float64(value))

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        """A node of one output, whose name is returned."""
        output = output or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        return output


def to_onnx(model: IORNN) -> ModelProto:
    """Build the ONNX model of a network (see `export_onnx`)."""
    helper = require("onnx.helper", "onnx", "`export_onnx`")
    numpy_helper = require("onnx.numpy_helper", "onnx", "`export_onnx`")
    if not isinstance(model, IORNN):
        raise TypeError(
            f"`model` is a {type(model).__name__}, and only an IORNN of one direction can be run "
            f"sample by sample"
        )
    n, m, p, kept = model.n_hidden, model.n_inputs, model.n_outputs, model.lags - 1
    double = require("onnx", "onnx", "`export_onnx`").TensorProto.DOUBLE

    def value(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, double, list(shape))

    body = _Graph(helper, numpy_helper)
    # state [h, past] (n_state,) and one row of inputs (m,)
    row = body.node("Reshape", ["u", body.constant("row_shape", np.array([1, m]))])
    before, past = "state_in", ""
    if kept:
        sizes = body.constant("parts", np.array([n, kept * m]))
        helper_node = helper.make_node("Split", ["state_in", sizes], ["before", "past"], axis=0)
        body.nodes.append(helper_node)
        before, past = "before", "past"
    window = row
    if kept:
        flat = body.node("Reshape", [past, body.constant("past_shape", np.array([1, kept * m]))])
        window = body.node("Concat", [row, flat], axis=1)
    state = body.node("Reshape", [before, body.constant("state_shape", np.array([1, n]))])
    drive = body.node("MatMul", [window, body.constant("A1", _copy(model.input_weights.T))])
    fed = body.node("MatMul", [state, body.constant("U", _copy(model.recurrent_weights.T))])
    z = body.node("Add", [drive, fed])
    z = body.node("Add", [z, body.constant("b", model.hidden_bias[None, :])])
    h = _activate(body, model, z)
    y = body.node("MatMul", [h, body.constant("A2", _copy(model.output_weights))])
    y = body.node("Add", [y, body.constant("c", model.output_bias[None, :])])
    if model.direct_weights is not None:
        straight = body.node("MatMul", [window, body.constant("D", _copy(model.direct_weights))])
        y = body.node("Add", [y, straight])
    after = h
    if kept:
        keep = [body.constant(k, np.array(v)) for k, v in (("from", [0]), ("to", [kept * m]))]
        recent = body.node("Slice", [window, *keep, body.constant("axis", np.array([1]))])
        after = body.node("Concat", [h, recent], axis=1)
    n_state = n + kept * m
    flat_shape = body.constant("flat_state", np.array([n_state]))
    body.node("Reshape", [after, flat_shape], "state_out")
    body.node("Reshape", [y, body.constant("flat_row", np.array([p]))], "y")
    inner = helper.make_graph(
        body.nodes,
        "step",
        [value("state_in", n_state), value("u", m)],
        [value("state_out", n_state), value("y", p)],
        initializer=body.constants,
    )
    scan = helper.make_node(
        "Scan", ["state", "inputs"], ["last_state", "outputs"], body=inner, num_scan_inputs=1
    )
    graph = helper.make_graph(
        [scan],
        "gloree",
        [value("inputs", "n_steps", m), value("state", n_state)],
        [value("outputs", "n_steps", p), value("last_state", n_state)],
    )
    opset = [helper.make_opsetid("", OPSET)]
    proto: ModelProto = helper.make_model(
        graph, opset_imports=opset, producer_name="gloree", ir_version=IR_VERSION
    )
    require("onnx.checker", "onnx", "`export_onnx`").check_model(proto)
    return proto


def export_onnx(model: IORNN, path: str | Path) -> Path:
    """Write a network into an ONNX file: a `Scan` over a record of any length, in float64.

    Parameters
    ----------
    model : IORNN
        Linear or not, with windows or not. Units may be polynomials, tanh and softplus.
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without onnx, which the extra ``onnx`` installs.
    TypeError
        If the network is bidirectional, or an activation is not known.

    Notes
    -----
    Inputs of the graph are "inputs", (n_steps, n_inputs), and "state", (n_state,), the units and
    then the inputs before, newest first (zeros for rest). Outputs are "outputs", (n_steps,
    n_outputs), and "last_state", from which the next record can go on.
    """
    content = to_onnx(model).SerializeToString()
    path = Path(path)
    with replaced_file(path) as file:
        file.write(content)
    return path


def _copy(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


def _activate(body: _Graph, model: IORNN, z: str) -> str:
    """States of all units, stretch by stretch."""
    if not isinstance(model.activation, PerUnit):
        return _function(body, model.activation, z)
    runs = model.activation.runs
    sizes = np.array([units.stop - units.start for units, _ in runs])
    names = [f"z{i}" for i in range(len(runs))]
    if len(runs) == 1:
        return _function(body, runs[0][1], z)
    split = body.helper.make_node("Split", [z, body.constant("stretches", sizes)], names, axis=1)
    body.nodes.append(split)
    parts = [_function(body, f, name) for name, (_, f) in zip(names, runs, strict=True)]
    return body.node("Concat", parts, axis=1)


def _function(body: _Graph, activation: Activation, z: str) -> str:
    if isinstance(activation, Polynomial):
        if activation.coefficients == (0.0, 1.0):
            return z
        found = body.node("Mul", [z, body.number(activation.coefficients[-1])])
        for coefficient in activation.coefficients[-2:0:-1]:
            found = body.node("Add", [found, body.number(coefficient)])
            found = body.node("Mul", [found, z])
        return body.node("Add", [found, body.number(activation.coefficients[0])])
    if isinstance(activation, Tanh):
        return body.node("Tanh", [z])
    if isinstance(activation, Softplus):
        # max(z, 0) + log(1 + e^-|z|), which does not overflow
        decay = body.node("Exp", [body.node("Neg", [body.node("Abs", [z])])])
        tail = body.node("Log", [body.node("Add", [decay, body.number(1.0)])])
        return body.node("Add", [body.node("Max", [z, body.number(0.0)]), tail])
    raise TypeError(
        f"the activation {activation.name!r} ({type(activation).__name__}) has no ONNX form: use a "
        f"Polynomial, tanh or softplus"
    )
