"""Arrays in files: mapped into memory for their shape, but read by calls, a few rows at a time.

Whoever touches a page of a map behind the end of a file that was cut short is killed by a signal
(SIGBUS), and no handler can turn that into an error. A call that reads the same bytes returns fewer
of them. It also leaves no page of the file among those of this process, so that data of any size
are read in the memory of a batch.
"""

from __future__ import annotations

import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from gloree._archives import Header, open_file

Values: TypeAlias = NDArray[Any]

Stamp: TypeAlias = tuple[int, ...]
"""Size, number, and times of the last change of the content and of the status of a file. Anybody
may set the first of the times back, and nobody the second."""


CAN_READ = hasattr(os, "preadv")
"""Whether this system reads at a place of a file; one that does not lets nobody cut a map short."""


RESIDENT_BYTES = 2**21
"""Bytes of a map of the caller's that are in the memory of this process at a time."""


class SourceError(ValueError):
    """Data that cannot be read, or that are not the same in every pass; the part is named."""


def stamp_of(file: BinaryIO) -> Stamp:
    """Stamp of an open file."""
    found = os.fstat(file.fileno())
    return (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(eq=False)
class MappedFile:
    """An open ``.npy`` file, and where in memory its values are mapped (see `map_array`)."""

    path: str
    descriptor: int
    offset: int
    n_bytes: int
    address: int
    stamp: Stamp

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def place_of(self, values: Values) -> int | None:
        """Byte of the file at which contiguous values begin; None if they are not in the map."""
        place = values.__array_interface__["data"][0] - self.address
        return self.offset + place if 0 <= place < self.n_bytes else None

    def read(self, place: int, view: memoryview) -> None:
        """Fill memory with what stands in the file from a byte on."""
        while len(view):
            n_read = os.preadv(self.descriptor, [view], place)
            if n_read == 0:
                raise cut_short(self.path)
            view, place = view[n_read:], place + n_read


class MappedArray(np.ndarray[Any, np.dtype[Any]]):
    """Array in a file that was opened by `map_array`; parts and other shapes of it are, too."""

    mapped: MappedFile | None = None

    def __array_finalize__(self, other: object) -> None:
        mapped = getattr(other, "mapped", None)
        # what was computed from it stands elsewhere
        inside = mapped is not None and mapped.place_of(self) is not None
        self.mapped = mapped if inside else None

    def __array_wrap__(
        self, array: Any, context: object = None, return_scalar: bool = False
    ) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def __reduce__(self) -> Any:
        return loaded(self).__reduce__()


def map_array(path: str | Path) -> MappedArray:
    """Map an ``.npy`` file; a ValueError if it is none, or of another size than it should be."""
    with open_file(path) as file:
        stamp = stamp_of(file)
        header = Header.read(file, stamp[0])
        if not header.n_bytes:
            return np.empty(header.shape, header.dtype).view(MappedArray)
        order: Literal["C", "F"] = "F" if header.fortran_order else "C"
        where: dict[str, Any] = {"mode": "r", "offset": header.offset, "shape": header.shape}
        values: Values = np.asarray(np.memmap(file, header.dtype, order=order, **where))
        address = values.__array_interface__["data"][0]
        found = values.view(MappedArray)
        sizes = (header.offset, header.n_bytes, address, stamp)
        found.mapped = MappedFile(str(path), os.dup(file.fileno()), *sizes)
    return found


def is_mapped(values: object) -> bool:
    """Whether the values stand in a file that somebody may write to, and not in memory."""
    if isinstance(values, MappedArray):
        return values.mapped is not None
    return isinstance(values, np.memmap) and getattr(values, "_mmap", None) is not None


def uncovered(values: Values) -> Values:
    """Values in a map that ``numpy.asarray`` hides, as part of this map; others as they are."""
    base = values.base if type(values) is np.ndarray else None
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and is_mapped(base):
            found = values.view(np.memmap)
            found.__array_finalize__(base)
            return found
        base = base.base
    return values


def loaded(values: Values) -> Values:
    """Values of (a part of) a mapped array in memory; other arrays as they are.

    Raises
    ------
    SourceError
        If the file has been cut short.
    """
    if not is_mapped(values):
        return values
    if isinstance(values, np.memmap):
        return _copied_map(values)
    mapped = cast(MappedArray, values).mapped
    assert mapped is not None
    if not CAN_READ:
        return np.array(np.asarray(values))
    if values.ndim > 1 and values.strides[0] < 0:
        return loaded(values[::-1])[::-1]
    found = np.empty(values.shape, values.dtype)
    if values.flags.c_contiguous:
        _read_into(mapped, values, found)
    elif values.ndim == 2 and values.T[0].flags.c_contiguous:  # columns one after another
        for column in range(values.shape[1]):
            part = np.empty(values.shape[0], values.dtype)
            _read_into(mapped, values[:, column], part)
            found[:, column] = part
    else:
        for index in range(values.shape[0]):
            found[index] = loaded(values[index]) if values.ndim > 1 else values[index]
    return found


def loaded_rows(values: Values, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Values:
    """Rows of a mapped array (indices or a mask), in memory: neighbours are read together."""
    rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
    if not rows.size:
        return np.asarray(values[:0])
    if isinstance(values, np.memmap):
        return _copied_map(values, rows)
    found = np.empty((rows.size, *values.shape[1:]), values.dtype)
    begins = np.concatenate(([0], np.flatnonzero(np.diff(rows) != 1) + 1, [rows.size]))
    mapped = cast(MappedArray, values).mapped
    place = None if mapped is None else mapped.place_of(values)
    if mapped is None or place is None or not values.flags.c_contiguous or not CAN_READ:
        for start, stop in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
            first = int(rows[start])
            found[start:stop] = loaded(values[first : first + stop - start])
        return found
    view, width = memoryview(found.reshape(-1).view(np.uint8)), values.strides[0]
    places, bounds = (place + rows[begins[:-1]] * width).tolist(), (begins * width).tolist()
    for first, start, stop in zip(places, bounds[:-1], bounds[1:], strict=True):
        mapped.read(first, view[start:stop])
    return found


def cut_short(path: object) -> SourceError:
    """Error about a file whose end is missing."""
    return SourceError(
        f"{path} has been cut short since it was opened: a fit reads the data many times, and each "
        f"time they must be the same (no file that is still written to)"
    )


def _read_into(mapped: MappedFile, values: Values, found: Values) -> None:
    place = mapped.place_of(values)
    if values.size:
        assert place is not None
        mapped.read(place, memoryview(found.reshape(-1).view(np.uint8)))


def _copied_map(values: np.memmap[Any, Any], rows: NDArray[np.int64] | None = None) -> Values:
    """Copy part of a map that the caller has made, whose file has to be as long as it was."""
    kept, plain = cast(Any, values), np.asarray(values)
    pages, granularity = kept._mmap, mmap.ALLOCATIONGRANULARITY
    if pages.size() < kept.offset // granularity * granularity + len(pages):
        raise cut_short(kept.filename)
    ordered = rows is None or not np.any(rows[1:] < rows[:-1])
    whole = values.size and values.flags.c_contiguous
    if kept.mode != "r" or not (ordered and whole and CAN_READ):
        return np.array(plain if rows is None else plain[rows])
    # pages that were read count among the memory of this process until they are let go
    step = max(1, RESIDENT_BYTES // (values.nbytes // values.shape[0]))
    found = np.empty(
        (values.shape[0] if rows is None else rows.size, *values.shape[1:]), values.dtype
    )
    place = 0
    for start in range(0, values.shape[0], step):
        stop = start + step
        if rows is None:
            some = plain[start:stop]
        else:
            inside = slice(*np.searchsorted(rows, (start, stop)).tolist())
            some = plain[rows[inside]]
        if some.shape[0]:
            found[place : place + some.shape[0]] = some
            place += some.shape[0]
            _let_go(pages, plain[start:stop])
    return found


def _let_go(pages: mmap.mmap, values: Values) -> None:
    """Take the pages of contiguous values from those of this process; they stay with the system."""
    begin = values.__array_interface__["data"][0]
    begin -= np.frombuffer(pages, np.uint8, 1).__array_interface__["data"][0]
    first = begin // mmap.PAGESIZE * mmap.PAGESIZE
    pages.madvise(mmap.MADV_DONTNEED, first, begin - first + values.nbytes)
