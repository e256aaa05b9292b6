"""Versioned .npz files: plain arrays, a format name and a version, never pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np


class FormatError(ValueError):
    """A file does not hold what it was asked for."""


def save_arrays(
    path: str | PathLike[str], name: str, version: int, arrays: Mapping[str, Any]
) -> None:
    """Write arrays with the name and version of their format."""
    with open(path, "wb") as file:
        np.savez(file, format=np.array(name), version=np.array(version), **arrays)


def load_arrays(path: str | PathLike[str], name: str, version: int) -> dict[str, Any]:
    """Read the arrays of a file that `save_arrays` wrote.

    Raises
    ------
    FormatError
        If the file is no such file, of another format, or of a later version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise FormatError(f"{path} is not a {name} file: {error}") from error
    found = str(arrays.pop("format", "no format name"))
    if found != name:
        raise FormatError(f"{path} holds {found}, expected {name}")
    stored = int(arrays.pop("version"))
    if stored > version:
        raise FormatError(
            f"{path} was written in version {stored} of {name}; this gloree reads up to version "
            f"{version}: upgrade it"
        )
    return arrays
