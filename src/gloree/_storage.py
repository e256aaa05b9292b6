"""Versioned .npz files: plain arrays, a format name and a version, never pickles."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np

from gloree._archives import read_archive


class FormatError(ValueError):
    """A file of a model, of moments or of word vectors that is none, or is damaged."""


def save_arrays(
    path: str | PathLike[str], name: str, version: int, arrays: Mapping[str, Any]
) -> None:
    """Write arrays with the name and version of their format."""
    with open(path, "wb") as file:
        np.savez(file, format=np.array(name), version=np.array(version), **arrays)


@contextmanager
def reading(path: str | PathLike[str], what: str) -> Iterator[None]:
    """Turn whatever is wrong with the content of a file into a `FormatError` that names it."""
    try:
        yield
    except (FormatError, OSError):
        raise
    except Exception as error:  # of values that nobody has checked
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise FormatError(
            f"{os.fspath(path)!r} is not a {what} file, or damaged: {kind}{error}"
        ) from error


def load_arrays(
    path: str | PathLike[str], name: str, version: int, known: Collection[str]
) -> dict[str, Any]:
    """Read the arrays of a file that `save_arrays` wrote; all that are `known` must be there.

    Raises
    ------
    FormatError
        If the file is no such file, of another format, of a later version, or damaged.
    """
    with reading(path, name):
        arrays: dict[str, Any] = read_archive(path, ("format", "version"), others=True).arrays
        found = str(arrays.get("format", "no format name"))
        if found != name:
            raise FormatError(f"{path} holds {found}, expected {name}")
        stored = int(arrays["version"])
        if stored > version:
            raise FormatError(
                f"{path} was written in version {stored} of {name}; this gloree reads up to "
                f"version {version}: upgrade it"
            )
        arrays = dict(read_archive(path, ("format", "version", *known)).arrays)
        missing = sorted(set(known) - set(arrays))
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
    return {each: arrays[each] for each in known}
