"""Files that are whole or not there; versioned .npz files: plain arrays, never pickles."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gloree._archives import read_archive


class FormatError(ValueError):
    """A file of a model, of moments or of word vectors that is none, or is damaged."""


@contextmanager
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
        with suppress(OSError):
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


def write_plain(file: BinaryIO, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write arrays that need no pickle; ``allow_pickle`` is an array to `savez` of NumPy < 2.1."""
    for name, values in arrays.items():
        if np.asarray(values).dtype.hasobject:
            raise ValueError(f"array {name!r} holds objects, which only a pickle could keep")
    (np.savez_compressed if compressed else np.savez)(file, **arrays)


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
    path: str | PathLike[str],
    name: str,
    version: int,
    known: Collection[str],
    *,
    optional: Collection[str] = (),
    no_longer: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Read the arrays of a file that `save_arrays` wrote; all that are `known` must be there.

    Those that are `optional` may be. `no_longer` says of earlier versions that cannot be read what
    was wrong with them and what to do.

    Raises
    ------
    FormatError
        If the file is no such file, of another format, of a version that is not read, or damaged.
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
        if no_longer and stored in no_longer:
            raise FormatError(
                f"{path} was written in version {stored} of {name}, {no_longer[stored]}"
            )
        arrays = dict(read_archive(path, ("format", "version", *known, *optional)).arrays)
        missing = sorted(set(known) - set(arrays))
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
    return {each: arrays[each] for each in (*known, *optional) if each in arrays}
