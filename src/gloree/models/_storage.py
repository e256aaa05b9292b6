"""Models on disk: one `.npz` file of arrays and a JSON description, with a version."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gloree._archives import read_archive
from gloree._storage import FormatError, reading, replaced_file, write_plain
from gloree.activations import Activation, from_spec
from gloree.sequences import Array

FORMAT_NAME = "gloree-model"
FORMAT_VERSION = 1
_DESCRIPTION = "description"


def write_model(
    path: str | os.PathLike[str],
    kind: str,
    arrays: Mapping[str, Array | None],
    settings: Mapping[str, object],
) -> None:
    """Write a model of class `kind`; entries of `arrays` that are None are left out."""
    description = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "kind": kind,
        "settings": dict(settings),
    }
    content = {name: values for name, values in arrays.items() if values is not None}
    text = np.array(json.dumps(description))
    with replaced_file(path) as file:
        write_plain(file, {_DESCRIPTION: text, **content})


def read_model(
    path: str | os.PathLike[str], kind: str, known: Collection[str]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read arrays and settings that `write_model` wrote, of class `kind`, without any pickles.

    Raises a `FormatError` for any other file, class, or version, and for arrays that are not
    `known`.
    """
    with reading(path, FORMAT_NAME):
        content = read_archive(path, (_DESCRIPTION,), others=True).arrays
        if _DESCRIPTION not in content:
            raise _foreign(path)
        description = _parse(content[_DESCRIPTION], path)
        _check(description, kind, path)
        arrays: dict[str, Any] = dict(read_archive(path, (_DESCRIPTION, *known)).arrays)
        del arrays[_DESCRIPTION]
        return arrays, description["settings"]


def storable_spec(activation: Activation) -> dict[str, object]:
    """Specification of an activation that a file can hold: one that is read back as it is."""
    try:
        spec = dict(activation.spec())
        if from_spec(spec) == activation:
            return spec
    except Exception as error:  # of somebody's own class
        cause: Exception | None = error
    else:
        cause = None
    raise TypeError(
        f"`activation` is of the class {type(activation).__name__}, which no file can hold: it "
        f"would be read without the code behind it. Pickle the object, or keep the weights, "
        f"`arrays()`"
    ) from cause


def _foreign(path: str | os.PathLike[str]) -> FormatError:
    return FormatError(
        f"{os.fspath(path)!r} is not a {FORMAT_NAME} file: expected what the `save` method of a "
        f"model wrote"
    )


def _parse(text: NDArray[np.generic], path: str | os.PathLike[str]) -> dict[str, Any]:
    if text.dtype.kind != "U" or text.ndim != 0:
        raise _foreign(path)
    try:
        description = json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise _foreign(path) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT_NAME:
        raise _foreign(path)
    return description


def _check(description: dict[str, object], kind: str, path: str | os.PathLike[str]) -> None:
    version = description.get("version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "upgrade gloree" if newer else "save the model again with a current release"
        raise FormatError(
            f"{os.fspath(path)!r} has format version {version}, and this release of gloree reads "
            f"version {FORMAT_VERSION}: {advice}"
        )
    if description.get("kind") != kind:
        raise FormatError(
            f"{os.fspath(path)!r} holds a model of class {description.get('kind')}, not {kind}: "
            f"read it with {description.get('kind')}.load"
        )
