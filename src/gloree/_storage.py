"""Files that are whole or not there; versioned .npz files: plain arrays, never pickles."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class FormatError(ValueError):
    """A file does not hold what it was asked for."""


@contextlib.contextmanager
def replaced_file(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """File to write to that takes the place of `path` once it is whole and on the disk.

    It stands beside the old one, whose permissions it takes over, and goes away if anything fails:
    a full disk, an interrupt or a loss of power leaves the old file as it was. What is no
    regular file (a device, a pipe) is written to as it is.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():
        with open(path, "wb") as file:
            yield file
        return
    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.filename == str(beside):
            # whoever saves knows the file by its own name
            error.filename, error.filename2 = os.fspath(path), None
        raise


def save_arrays(
    path: str | PathLike[str], name: str, version: int, arrays: Mapping[str, Any]
) -> None:
    """Write arrays with the name and version of their format."""
    with replaced_file(path) as file:
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
