"""NumPy arrays and PyTorch tensors behind one set of functions.

A pass function runs where its batch is. For NumPy arrays every function here is the NumPy call
that it is named after; for tensors it is its counterpart in the array API standard (as
array-api-compat provides it), on the device of the tensor. Statistics come back as NumPy arrays,
so nothing outside the pass functions knows of tensors, and types name arrays where either may be.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from gloree._extras import require
from gloree._mapped import is_mapped, loaded, loaded_rows

Array: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = "IntArray | NDArray[np.bool_] | slice"
Values = TypeVar("Values")

DEVICE_ROOM = 64
"""Rows of a block on an accelerator, for each row of a block that suits a processor's cache:
there is no such cache to stay in, and every operation costs a launch."""

MOST_DOUBLE = 2**20
"""Numbers that are kept for an iteration in double precision, at most: 8 MiB."""


def kept_precision(n_numbers: int) -> type[np.floating[Any]]:
    """Precision of numbers that are kept; the last digits decide when an iteration ends."""
    return np.float64 if n_numbers <= MOST_DOUBLE else np.float32


def is_tensor(value: object) -> bool:
    """Whether this is a PyTorch tensor (PyTorch is not imported to find out)."""
    if type(value) is np.ndarray:
        return False
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(x: object) -> ModuleType:
    """Functions for arrays like `x`: NumPy, or PyTorch under the names of the standard."""
    if not is_tensor(x):
        return np
    found: ModuleType = require("array_api_compat.torch", "torch", "work on tensors")
    return found


def to_host(values: Values) -> Values:
    """NumPy array with the values of an array or tensor (NumPy arrays as they are)."""
    host: Any = values
    if is_tensor(host):
        host = host.detach().cpu()
        # NumPy has no such numbers
        host = (host.float() if "bfloat16" in str(host.dtype) else host).numpy()
    return cast(Values, np.asarray(host))


def without_tensors(value: object) -> object:
    """NumPy arrays in place of tensors, in a list too."""
    if isinstance(value, (list, tuple)) and any(map(is_tensor, value)):
        return [to_host(part) if is_tensor(part) else part for part in value]
    return to_host(value) if is_tensor(value) else value


def like(x: object, values: Values) -> Values:
    """Put a small array (weights, indices of rows) where `x` is; a copy if that is a device."""
    if not is_tensor(x) or is_tensor(values):
        return values
    xp, where = namespace(x), _device(x)
    return cast(Values, xp.asarray(np.array(values, order="C"), device=where))


def _device(x: object) -> object:
    return cast(Any, x).device


def index(x: object, rows: Rows) -> IntArray:
    """Indices (or a mask, or a slice) of rows of `x`, where `x` is."""
    if not isinstance(rows, slice) and is_tensor(x):
        # a mask would have to come back from the device, to be counted
        rows = like(x, np.flatnonzero(rows) if rows.dtype == np.bool_ else rows)
    return cast(IntArray, rows)


def rows_where(mask: NDArray[np.bool_]) -> IntArray | slice:
    """Rows for which a mask holds; the slice of all of them if they are."""
    return slice(None) if mask.all() else np.flatnonzero(mask)


def take_rows(x: Values, rows: Rows) -> Values:
    """Some rows of `x`: indices, a mask, or a slice, which gives a view.

    Where rows are narrow and stand one after another, ``take`` is several times as fast as an
    index in brackets; it would first copy all of any other array.
    """
    values: Any = x
    if (
        isinstance(rows, slice)
        or is_tensor(x)
        or not (values.flags.c_contiguous and values.flags.aligned)
    ):
        return cast(Values, values[index(x, rows)])
    return cast(
        Values, values.take(np.flatnonzero(rows) if rows.dtype == np.bool_ else rows, axis=0)
    )


def float_rows(values: NDArray[np.generic], rows: Rows) -> Array:
    """Some rows as contiguous float64; a view where they are that already, in memory.

    Aligned too: arrays that have come over a network need not be, and NumPy multiplies those by
    another routine, with other last bits.
    """
    if is_mapped(values):
        some = loaded(values[rows]) if isinstance(rows, slice) else loaded_rows(values, rows)
        return np.require(some, np.float64, ("C", "A"))
    if not is_tensor(values):
        return np.require(take_rows(values, rows), np.float64, ("C", "A"))
    xp = namespace(values)
    taken: Array = xp.astype(values[index(values, rows)], xp.float64, copy=False).contiguous()
    return taken


def _made(name: str, x: object, shape: Sequence[int]) -> Array:
    if not is_tensor(x):
        made: Array = getattr(np, name)(shape)
    else:
        xp = namespace(x)
        made = getattr(xp, name)(tuple(shape), dtype=xp.float64, device=_device(x))
    return made


def empty(x: object, shape: Sequence[int]) -> Array:
    """Array of float64 beside `x`, with any values."""
    return _made("empty", x, shape)


def zeros(x: object, shape: Sequence[int]) -> Array:
    """Array of float64 zeros beside `x`."""
    return _made("zeros", x, shape)


def ones(x: object, shape: Sequence[int]) -> Array:
    """Array of float64 ones beside `x`."""
    return _made("ones", x, shape)


def copied(x: Values) -> Values:
    """A copy."""
    values: Any = x
    return cast(Values, values.clone() if is_tensor(x) else values.copy())


def contiguous(x: Values) -> Values:
    """The same values in the order of their axes."""
    values: Any = x
    return cast(Values, values.contiguous() if is_tensor(x) else np.ascontiguousarray(values))


def beside(parts: Sequence[Array]) -> Array:
    """Columns of 2-D arrays, side by side."""
    if not is_tensor(parts[0]):
        return np.column_stack(parts)
    joined: Array = namespace(parts[0]).concat(list(parts), axis=1)
    return joined


def row_squares(x: Array) -> Array:
    """Sum of the squares in each row."""
    return (x * x) @ np.ones(x.shape[1]) if not is_tensor(x) else (x * x).sum(axis=1)


def column_sums(x: Array) -> Array:
    """Sum of each column of a matrix with many rows: a product, faster than NumPy's sums."""
    return np.ones(x.shape[0]) @ x if not is_tensor(x) else x.sum(axis=0)


def column_squares(x: Array) -> Array:
    """Sum of the squares in each column."""
    return column_sums(x * x)


def total_square(x: Array) -> float:
    """Sum of all squares."""
    return float(np.vdot(x, x)) if not is_tensor(x) else float((x * x).sum())


def stretch_sums(x: Array, first: IntArray) -> Array:
    """Sums over stretches of rows that begin at `first` (and end where the next one begins)."""
    return _reduced(x, first, "sum") if is_tensor(x) else np.add.reduceat(x, first, axis=0)


def stretch_maxima(x: Array, first: IntArray) -> Array:
    """Column maxima over stretches of rows."""
    return _reduced(x, first, "max") if is_tensor(x) else np.maximum.reduceat(x, first, axis=0)


def _reduced(x: Array, first: IntArray, operation: str) -> Array:
    lengths = like(x, np.diff(first, append=x.shape[0]))
    # the standard has no reduction over stretches
    torch = require("torch", "torch", "work on tensors")
    reduced: Array = torch.segment_reduce(contiguous(x), operation, lengths=lengths, axis=0)
    return reduced


def on_accelerator(x: object) -> bool:
    """Whether this is a tensor outside the memory of the processor."""
    return is_tensor(x) and getattr(_device(x), "type", "cpu") != "cpu"


def room(x: object) -> int:
    """How many times as many rows as fit into a processor's cache go into a block."""
    return DEVICE_ROOM if on_accelerator(x) else 1
