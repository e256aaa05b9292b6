"""Arrays in files that anybody may have written: no read goes beyond what a file can hold.

What NumPy writes, ``.npy`` files and archives of them, is read here from its bytes: types and
shapes are taken from the headers, and must fit the bytes that there are, before anything of that
size is allocated. Nothing is executed, and no file is waited for.
"""

from __future__ import annotations

import math
import os
import re
import stat
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
"""How a file of a single array begins."""

LONGEST_HEADER = 2**16
"""Bytes of the header of an array, at most: a header is about a hundred bytes long."""

DEFLATE_RATIO = 1032
"""Bytes that one compressed byte can stand for, at most: the limit of the deflate format."""

BLOCK = 2**20
"""Bytes that are read at a time."""

_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>|=]?[a-zA-Z]\d*)',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(([\dL, ]*)\),?\s*\}\s*"
)
_OTHERS = {
    stat.S_ISDIR: "a directory",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def require_file(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError for what is there but no file: a directory, a pipe or a device."""
    mode = os.stat(path).st_mode
    for is_other, what in _OTHERS.items():
        if is_other(mode):
            raise ValueError(f"it is {what}, expected a file")


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; what is no file is a ValueError, and is never waited for."""
    require_file(path)

    def at_once(name: str, flags: int) -> int:
        # it may be a pipe by now
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    return open(path, "rb", opener=at_once)


@dataclass(frozen=True)
class Header:
    """Type, shape and order of an array in a file, and the byte at which its values begin."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @classmethod
    def read(cls, file: IO[bytes], size: int) -> Header:
        """Read the header of an array whose file, header included, has `size` bytes."""
        start = _exactly(file, len(MAGIC) + 2)
        if not start.startswith(MAGIC) or start[-2] not in (1, 2, 3):
            raise ValueError("no array of NumPy's format")
        width = 2 if start[-2] == 1 else 4
        length = int.from_bytes(_exactly(file, width), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"an array with a header of {length:,} bytes")
        text = _exactly(file, length)
        found = _HEADER.fullmatch(text)
        if found is None:
            raise ValueError(f"an array with the header {text[:80]!r}")
        name, fortran, sizes = found.groups()
        if name.endswith(b"O"):
            raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
        dtype = np.dtype(name.decode())
        shape = tuple(int(each) for each in sizes.replace(b"L", b"").split(b",") if each.strip())
        header = cls(dtype, shape, fortran == b"True", len(start) + width + length)
        if dtype.kind not in "biufcSU" or not dtype.itemsize:
            raise ValueError(f"an array of type {dtype.str!r}, expected numbers or text")
        if header.offset + header.n_bytes != size:
            raise ValueError(
                f"an array of shape {shape} and type {dtype.str!r} takes {header.n_bytes:,} bytes "
                f"behind its header, and there are {size - header.offset:,}"
            )
        return header


def _exactly(file: IO[bytes], n_bytes: int) -> bytes:
    found = file.read(n_bytes)
    if len(found) != n_bytes:
        raise ValueError("it ends in the middle of a header")
    return found


@dataclass(frozen=True)
class Archive:
    """Arrays of an archive, of those that were wanted, and the names of all that it holds.

    `codes` are checksums (CRC-32) of the arrays and of their headers, which the reader compares.
    """

    names: list[str]
    arrays: dict[str, NDArray[np.generic]]
    codes: dict[str, int]


def read_archive(
    path: str | os.PathLike[str], wanted: Collection[str] | None, *, others: bool = False
) -> Archive:
    """Read the arrays with these names (None: all) of an ``.npz`` file.

    Others are refused, or left unread if there may be `others`. Whatever is wrong with the content
    is a ValueError; an OSError comes from the file system.
    """
    with open_file(path) as file:
        single = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        try:
            if single:
                raise ValueError("one array, expected an archive of several")
            if not zipfile.is_zipfile(file):
                raise ValueError("no archive of arrays, or only a part of one")
            return _read_members(file, wanted, others=others)
        except ValueError:
            raise
        except Exception as error:  # whatever a parser makes of bytes that it did not expect
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_members(file: BinaryIO, wanted: Collection[str] | None, *, others: bool) -> Archive:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) != len(archive.filelist):
            raise ValueError("two arrays of one name")
        chosen = list(members) if wanted is None else [name for name in members if name in wanted]
        unknown = [] if others else sorted(set(members) - set(chosen))
        if unknown:
            raise ValueError(f"it holds {unknown[0]!r}, which does not belong there")
        for name in set(members) - set(chosen):
            archive.open(members[name]).close()  # compares the name with that beside the content
        arrays = {name: _read_member(archive, members[name], size) for name in chosen}
    return Archive(list(members), arrays, {name: members[name].CRC for name in chosen})


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[np.generic]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by a method other than deflate")
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO
    if info.file_size > ratio * min(info.compress_size, size):
        raise ValueError(
            f"{info.filename} claims to hold {info.file_size:,} bytes in {info.compress_size:,}"
        )
    with archive.open(info) as member:
        header = Header.read(member, info.file_size)
        values = np.empty(math.prod(header.shape), header.dtype)
        place, view = 0, values.view(np.uint8)
        while place < view.size:
            block = member.read(min(BLOCK, view.size - place))
            if not block:
                raise ValueError(f"{info.filename} ends after {place:,} of {view.size:,} bytes")
            view[place : place + len(block)] = np.frombuffer(block, np.uint8)
            place += len(block)
        member.read(1)  # the end, where the checksum is compared
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def array_header(path: str | Path) -> Header:
    """Header of an ``.npy`` file, whose size must fit it; else a ValueError."""
    with open_file(path) as file:
        return Header.read(file, os.fstat(file.fileno()).st_size)
