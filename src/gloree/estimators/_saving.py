"""Estimators on disk: one `.npz` file of plain arrays and a JSON description, never a pickle.

Parameters and what a fit has learned are a tree of numbers, texts, collections, arrays and a few
classes of the library. The tree is written as JSON, with arrays by number beside it; a class is
named, and built again from its fields when its name is one of `CLASSES`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gloree.diagnostics as diagnostics
from gloree._archives import read_archive
from gloree._storage import FormatError, reading, replaced_file, write_plain
from gloree._version import __version__
from gloree.activations import Activation, from_spec
from gloree.chains import GaussianVAR, LagMoments, StudentVAR, SwitchingVAR, VectorSums
from gloree.decomposition import Decomposition, DecompositionStatus
from gloree.fitting import KeptRows, SegmentMoments
from gloree.models import BRNN, IORNN, Network, storable_spec
from gloree.moments import FIRST_MOMENTS
from gloree.recurrence import RECURRENCES, Directions
from gloree.refinement import (
    LBFGS,
    LOSSES,
    FisherScoring,
    GaussNewton,
    LevenbergMarquardt,
    NormalSums,
    RefinementStatus,
)
from gloree.score_functions import EdgeCheck, NeighbourDefect, ScoreCheck
from gloree.systems import Channels, ResidualTests

FORMAT_NAME = "gloree-estimator"
FORMAT_VERSION = 1
DESCRIPTION = "description"

_STRATEGIES = {
    type(each) for table in (FIRST_MOMENTS, RECURRENCES, LOSSES) for each in table.values()
}
CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(diagnostics.FitReport, diagnostics.IdentificationReport, diagnostics.Stage),
        *(diagnostics.Finding, diagnostics.SpecificationTest, diagnostics.OrderTrial),
        *(diagnostics.OutputWeighting, diagnostics.Certificate),
        *(ScoreCheck, EdgeCheck, NeighbourDefect, Decomposition, Directions),
        *(ResidualTests, Channels),
        *(GaussNewton, LevenbergMarquardt, LBFGS, FisherScoring, GaussianVAR, *_STRATEGIES),
        *(KeptRows, NormalSums, SegmentMoments, LagMoments, VectorSums),
    )
}
"""Dataclasses of the library that a file may name."""

STATES: dict[str, type[Enum]] = {
    e.__name__: e for e in (DecompositionStatus, RefinementStatus, diagnostics.CertificateStatus)
}
LAWS: dict[str, type[StudentVAR] | type[SwitchingVAR]] = {
    "StudentVAR": StudentVAR,
    "SwitchingVAR": SwitchingVAR,
}
"""Laws that are made anew of their arguments."""

NETWORKS: dict[str, type[Network]] = {kind.__name__: kind for kind in (IORNN, BRNN)}


class Writer:
    """Turns values into JSON, and keeps the arrays that belong to it."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def tree(self, value: object, name: str) -> object:
        """JSON of a value; `name` is what an error calls it."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.ndarray):
            return self._array(value, name)
        if isinstance(value, (np.generic, complex)):
            return {"scalar": self._array(np.asarray(value), name)}
        if isinstance(value, (tuple, list)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self.tree(each, f"{name}[{i}]") for i, each in enumerate(value)]}
        if isinstance(value, Mapping):
            items = value.items()
            return {
                "dict": [[self.tree(k, name), self.tree(v, f"{name}[{k!r}]")] for k, v in items]
            }
        return self._object(value, name)

    def _object(self, value: object, name: str) -> object:
        kind = type(value).__name__
        if isinstance(value, Enum) and STATES.get(kind) is type(value):
            return {"state": [kind, value.name]}
        warning = getattr(value, "__name__", "")
        if isinstance(value, type) and getattr(diagnostics, warning, None) is value:
            return {"warning": warning}
        if isinstance(value, Activation):
            return {"activation": storable_spec(value)}
        if LAWS.get(kind) is type(value):
            law: Any = value
            return {"law": kind, "arguments": self.tree(law.arguments, name)}
        if NETWORKS.get(kind) is type(value):
            network: Any = value
            return {
                "network": kind,
                "weights": self.tree(network.arrays(), name),
                "settings": {"activation": storable_spec(network.activation), "lags": network.lags},
            }
        if is_dataclass(value) and CLASSES.get(kind) is type(value):
            shown = ((each.name, getattr(value, each.name)) for each in fields(value) if each.init)
            return {"class": kind, "fields": {k: self.tree(v, f"{name}.{k}") for k, v in shown}}
        raise TypeError(
            f"`{name}` is of type {kind}, which a file without pickles cannot hold: save `model_` "
            f"alone, or pickle the estimator"
        )

    def _array(self, values: NDArray[np.generic], name: str) -> object:
        if values.dtype.kind in "mM":  # by their numbers and unit
            return {"time": values.dtype.str, "numbers": self._array(values.view(np.int64), name)}
        if values.dtype.kind == "O":
            return {"objects": [self.tree(each, name) for each in values.tolist()]}
        key = f"array{len(self.arrays)}"
        self.arrays[key] = np.ascontiguousarray(values).reshape(values.shape)
        return {"array": key}


def _read(tree: object, arrays: Mapping[str, NDArray[np.generic]]) -> Any:
    """Value of what `Writer.tree` gave."""
    if not isinstance(tree, dict):
        return tree
    tag: str
    content: Any
    tag, content = next(iter(tree.items()))
    if tag == "array":
        return arrays[content]
    if tag == "scalar":
        return _read(content, arrays)[()]
    if tag == "time":
        return _read(tree["numbers"], arrays).view(np.dtype(content))
    if tag == "objects":
        found = np.empty(len(content), dtype=object)
        found[:] = [_read(each, arrays) for each in content]
        return found
    if tag in ("tuple", "list"):
        items = [_read(each, arrays) for each in content]
        return tuple(items) if tag == "tuple" else items
    if tag == "dict":
        return {_read(key, arrays): _read(value, arrays) for key, value in content}
    if tag == "state":
        return STATES[content[0]][content[1]]
    if tag == "warning":
        category = getattr(diagnostics, content)
        if not issubclass(category, diagnostics.GloreeWarning):
            raise ValueError(f"{content!r} is no warning")
        return category
    if tag == "activation":
        return from_spec(content)
    if tag == "law":
        return LAWS[content](**_read(tree["arguments"], arrays))
    if tag == "network":
        settings = {**tree["settings"], "activation": from_spec(tree["settings"]["activation"])}
        return NETWORKS[content](**_read(tree["weights"], arrays), **settings)
    values = {name: _read(value, arrays) for name, value in tree["fields"].items()}
    return CLASSES[content](**values)


def write_estimator(
    path: str | os.PathLike[str],
    kind: str,
    parameters: Mapping[str, object],
    learned: Mapping[str, object],
) -> None:
    """Write an estimator of class `kind`; TypeError for what a file cannot hold."""
    writer = Writer()
    description = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "gloree": __version__,
        "kind": kind,
        "parameters": {name: writer.tree(value, name) for name, value in parameters.items()},
        "learned": {name: writer.tree(value, name) for name, value in learned.items()},
    }
    text = np.array(json.dumps(description))
    with replaced_file(path) as file:
        write_plain(file, {DESCRIPTION: text, **writer.arrays}, compressed=True)


def read_estimator(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, object], dict[str, object]]:
    """Parameters and what was learned, of an estimator of class `kind`.

    Raises a `FormatError` for any other file, class or version, and for damaged ones.
    """
    shown = os.fspath(path)
    with reading(path, FORMAT_NAME):
        arrays = read_archive(path, None).arrays
        text = arrays.get(DESCRIPTION)
        description = json.loads(str(text)) if text is not None else {}
        if not isinstance(description, dict) or description.get("format") != FORMAT_NAME:
            other = (
                " (a model is read by its own class, IORNN.load)" if "kind" in description else ""
            )
            raise FormatError(f"{shown!r} is not a {FORMAT_NAME} file{other}")
        if description["version"] != FORMAT_VERSION:
            raise FormatError(
                f"{shown!r} has format version {description['version']}, written by gloree "
                f"{description.get('gloree')}; this release reads version {FORMAT_VERSION}"
            )
        if description["kind"] != kind:
            raise FormatError(
                f"{shown!r} holds a {description['kind']}, not a {kind}: read it with "
                f"{description['kind']}.load"
            )
        groups = (description["parameters"], description["learned"])
        parameters, learned = (
            {name: _read(tree, arrays) for name, tree in group.items()} for group in groups
        )
    return parameters, learned
