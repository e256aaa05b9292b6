"""Networks as ONNX models that run records of any length."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree._extras import require
from gloree._storage import replaced_file
from gloree.models._onnx_graph import Graph, activate

if TYPE_CHECKING:
    from onnx import ModelProto

    from gloree.models._network import Network

OPSET = 17
IR_VERSION = 8
"""Versions that runtimes of several years read."""

FLOOR = 1e-12
"""Least estimate of a probability by least squares (see `SpectralRNNClassifier.predict_proba`)."""

Precision = Literal["float64", "float32"]
ClassOutputs = Literal["logits", "estimates"]


@dataclass(frozen=True, eq=False)
class ClassOutput(Brief):
    """What outputs say of labels: `classes`, by logits or by estimates of their probabilities."""

    classes: NDArray[np.generic]
    outputs: ClassOutputs = "logits"


def to_onnx(
    model: Network, *, dtype: Precision = "float64", labels: ClassOutput | None = None
) -> ModelProto:
    """Build the ONNX model of a network (see `export_onnx`)."""
    if dtype not in ("float64", "float32"):
        raise ValueError(f"`dtype` must be 'float64' or 'float32', got {dtype!r}")
    if not hasattr(model, "weight_names"):
        raise TypeError(f"`model` is a {type(model).__name__}, expected an IORNN or a BRNN")
    graph = Graph(dtype)
    m, lags, n_forward = model.n_inputs, model.lags, model.n_forward
    past, future = _windows(graph, model)
    columns = lags * m
    joint = past if future is None else graph.node("Concat", [past, *future[1:]], axis=1)
    forward, backward = slice(0, n_forward), slice(n_forward, None)
    units, ends = [], []
    if n_forward:
        start = graph.rows("state", 0, n_forward)
        last, states = _chain(
            graph, model, forward, past, model.input_weights[forward, :columns], start
        )
        units.append(states)
        ends.append(last)
    if future is not None and model.n_hidden > n_forward:
        own = np.r_[0:m, columns : columns + (lags - 1) * m]
        window = future[0] if lags == 1 else graph.node("Concat", future, axis=1)
        start = graph.constant(np.zeros(model.n_hidden - n_forward))
        weights = model.input_weights[backward][:, own]
        units.append(_chain(graph, model, backward, window, weights, start)[1])
    h = units[0] if len(units) == 1 else graph.node("Concat", units, axis=1)
    y = graph.affine(h, model.output_weights, model.output_bias)
    if model.direct_weights is not None:
        straight = graph.node("MatMul", [joint, graph.constant(model.direct_weights)])
        y = graph.node("Add", [y, straight])
    if lags > 1:
        ends.append(graph.reshaped(graph.rows(_padded(graph, model), -1, -lags, -1), -1))
    if len(ends) > 1:
        graph.node("Concat", ends, "last_state", axis=0)
    else:
        graph.node("Identity", ends or ["state"], "last_state")
    outputs = _outputs(graph, y, model.n_outputs, labels)
    given = [graph.value("inputs", "n_steps", m), graph.value("state", model.n_state)]
    made = graph.helper.make_graph(
        graph.nodes,
        "gloree",
        given,
        [*outputs, graph.value("last_state", model.n_state)],
        initializer=graph.constants,
    )
    proto: ModelProto = graph.helper.make_model(
        made,
        opset_imports=[graph.helper.make_opsetid("", OPSET)],
        producer_name="gloree",
        ir_version=IR_VERSION,
    )
    require("onnx.checker", "onnx", "`export_onnx`").check_model(proto)
    return proto


def export_onnx(
    model: Network,
    path: str | os.PathLike[str],
    *,
    dtype: Precision = "float64",
    labels: ClassOutput | None = None,
) -> Path:
    """Write a network into an ONNX file that runs records of any length.

    Parameters
    ----------
    model : IORNN or BRNN
        With all activations of `gloree.activations` but `Custom`, windows and a direct path or not.
    path : path-like
    dtype : {"float64", "float32"}, default "float64"
        Of weights, inputs and outputs.
    labels : ClassOutput, optional
        What the outputs say of labels; estimators give it.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        Without onnx, which the extra ``onnx`` installs.
    TypeError
        If an activation is not one of this library's.
    ValueError
        If `dtype` is neither of these.

    Notes
    -----
    Inputs of the graph are "inputs", (n_steps, n_inputs), and "state", (n_state,): the (forward)
    units and then the inputs before, newest first (zeros for rest). Outputs are "outputs",
    (n_steps, n_outputs), and "last_state", from which the next record can go on, if there are no
    backward units. Of a classifier they are "labels", (n_steps,), and "probabilities", (n_steps,
    n_classes), in place of "outputs". The recurrence is a `Scan`; operator set 17.

    Examples
    --------
    >>> from gloree.models import IORNN, export_onnx
    >>> model = IORNN([[1.0]], [[0.5]], [[1.0]], activation="tanh")
    >>> export_onnx(model, "plant.onnx").name  # doctest: +SKIP
    'plant.onnx'
    """
    content = to_onnx(model, dtype=dtype, labels=labels).SerializeToString()
    path = Path(path)
    with replaced_file(path) as file:
        file.write(content)
    return path


def _padded(graph: Graph, model: Network) -> str:
    """Inputs of the state, oldest first, then those of the record: (.., n_inputs)."""
    kept = graph.reshaped(
        graph.rows("state", model.n_forward, None), model.lags - 1, model.n_inputs
    )
    return graph.node("Concat", [graph.rows(kept, -1, None, -1), "inputs"], axis=0)


def _windows(graph: Graph, model: Network) -> tuple[str, list[str] | None]:
    """Windows of past inputs, (n_steps, lags n_inputs), and inputs 0, 1, .. steps ahead."""
    lags, m = model.lags, model.n_inputs
    both_ways = "forward_input_weights" in model.weight_names
    if lags == 1:
        return "inputs", ["inputs"] if both_ways else None
    padded = _padded(graph, model)
    steps = [graph.rows(padded, lags - 1 - j, -j or None) for j in range(lags)]
    past = graph.node("Concat", steps, axis=1)
    if not both_ways:
        return past, None
    zeros = graph.constant(np.zeros((lags - 1, m)))
    ahead = graph.node("Concat", ["inputs", zeros], axis=0)
    return past, [graph.rows(ahead, j, j - lags + 1 or None) for j in range(lags)]


def _chain(
    graph: Graph,
    model: Network,
    units: slice,
    window: str,
    weights: NDArray[np.float64],
    start: str,
) -> tuple[str, str]:
    """Last state and all states of the units of one direction, by a `Scan`."""
    backward = units.start > 0 or units.stop is None
    drive = graph.affine(window, weights.T, model.hidden_bias[units])
    k, U = weights.shape[0], model.recurrent_weights[units, units]
    prefix = "backward_" if backward else "forward_"
    body = Graph(graph.dtype.name, prefix)
    row = body.reshaped(f"{prefix}before", 1, k)
    fed = body.reshaped(body.node("MatMul", [row, body.constant(U.T)]), k)
    z = body.node("Add", [f"{prefix}drive", fed])
    h = activate(body, model.activation.select(units), z, k)
    body.node("Identity", [h], f"{prefix}after")
    body.node("Identity", [h], f"{prefix}seen")
    inner = body.helper.make_graph(
        body.nodes,
        f"{prefix}step",
        [body.value(f"{prefix}before", k), body.value(f"{prefix}drive", k)],
        [body.value(f"{prefix}after", k), body.value(f"{prefix}seen", k)],
        initializer=body.constants,
    )
    way = [int(backward)]
    last, states = graph.nodes_of(
        "Scan",
        [start, drive],
        ["", ""],
        body=inner,
        num_scan_inputs=1,
        scan_input_directions=way,
        scan_output_directions=way,
    )
    return last, states


def _outputs(graph: Graph, y: str, n_outputs: int, labels: ClassOutput | None) -> list[object]:
    """Outputs of the graph, or labels and probabilities."""
    if labels is None:
        graph.node("Identity", [y], "outputs")
        return [graph.value("outputs", "n_steps", n_outputs)]
    if labels.outputs == "logits":
        graph.node("Softmax", [y], "probabilities", axis=1)
    else:
        positive = graph.node("Max", [y, graph.constant(FLOOR)])
        axis = graph.constant(np.array([1], dtype=np.int64))
        total = graph.node("ReduceSum", [positive, axis], keepdims=1)
        graph.node("Div", [positive, total], "probabilities")
    number = graph.node("ArgMax", [y], axis=1, keepdims=0)
    classes = labels.classes
    types = require("onnx", "onnx", "`export_onnx`").TensorProto
    if classes.dtype.kind in "iub" or all(_is_whole(each) for each in classes.tolist()):
        names, kind = classes.astype(np.int64), types.INT64
    elif all(isinstance(each, str) for each in classes.tolist()):
        names, kind = classes.astype(object), types.STRING
    else:
        raise TypeError(
            f"the labels {classes.tolist()!r:.60} are neither texts nor whole numbers, which is "
            f"all that ONNX knows: fit whole numbers in their place"
        )
    graph.node("Gather", [graph.constant(names), number], "labels")
    found = graph.value("probabilities", "n_steps", n_outputs)
    return [graph.value("labels", "n_steps", kind=kind), found]


def _is_whole(label: object) -> bool:
    return isinstance(label, float) and label.is_integer()
