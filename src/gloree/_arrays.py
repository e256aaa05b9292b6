"""NumPy arrays and PyTorch tensors behind one set of functions.

A pass function runs where its batch is. For NumPy arrays every function here is the NumPy call
that it is named after; for tensors it is its counterpart in the array API standard (as
array-api-compat provides it), on the device of the tensor. Statistics come back as NumPy arrays,
so nothing outside the pass functions knows of tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gloree._extras import require

DEVICE_ROOM = 64
"""Rows of a block on an accelerator, for each row of a block that suits a processor's cache:
there is no such cache to stay in, and every operation costs a launch."""


def is_tensor(value: Any) -> bool:
    """Whether this is a PyTorch tensor (PyTorch is not imported to find out)."""
    if type(value) is np.ndarray:
        return False
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(x: Any) -> Any:
    """Functions for arrays like `x`: NumPy, or PyTorch under the names of the standard."""
    if not is_tensor(x):
        return np
    return require("array_api_compat.torch", "torch", "work on tensors")


def to_host(values: Any) -> NDArray[Any]:
    """NumPy array with the values of an array or tensor (NumPy arrays as they are)."""
    if not is_tensor(values):
        return np.asarray(values)
    values = values.detach().cpu()
    # NumPy has no such numbers
    return np.asarray((values.float() if "bfloat16" in str(values.dtype) else values).numpy())


def without_tensors(value: Any) -> Any:
    """NumPy arrays in place of tensors, in a list too."""
    if isinstance(value, (list, tuple)) and any(map(is_tensor, value)):
        return [to_host(part) if is_tensor(part) else part for part in value]
    return to_host(value) if is_tensor(value) else value


def like(x: Any, values: Any) -> Any:
    """Put an array where `x` is.

    Parameters
    ----------
    x : ndarray or tensor
    values : ndarray or tensor
        Small, as a rule: weights, or the indices of rows.

    Returns
    -------
    ndarray or tensor
        `values` themselves for NumPy arrays, else a copy on the device of `x`.
    """
    if not is_tensor(x) or is_tensor(values):
        return values
    return namespace(x).asarray(np.array(values, order="C"), device=x.device)


def index(x: Any, rows: Any) -> Any:
    """Indices (or a mask, or a slice) of rows of `x`, where `x` is."""
    if isinstance(rows, slice) or not is_tensor(x):
        return rows
    # a mask would have to come back from the device, to be counted
    return like(x, np.flatnonzero(rows) if rows.dtype == np.bool_ else rows)


def rows_where(mask: NDArray[np.bool_]) -> NDArray[np.int64] | slice:
    """Rows for which a mask holds; the slice of all of them if they are."""
    return slice(None) if mask.all() else np.flatnonzero(mask)


def take_rows(x: Any, rows: Any) -> Any:
    """Some rows of `x`: indices, a mask, or a slice, which gives a view.

    Where rows are narrow and stand one after another, ``take`` is several times as fast as an
    index in brackets; it would first copy all of any other array.
    """
    if isinstance(rows, slice):
        return x[rows]
    if is_tensor(x):
        return x[index(x, rows)]
    if not (x.flags.c_contiguous and x.flags.aligned):
        return x[rows]
    return x.take(np.flatnonzero(rows) if rows.dtype == np.bool_ else rows, axis=0)


def float_rows(values: Any, rows: Any) -> Any:
    """Some rows as contiguous float64; a view where they are that already.

    Aligned too: arrays that have come over a network need not be, and NumPy multiplies those by
    another routine, with other last bits.
    """
    if not is_tensor(values):
        return np.require(take_rows(values, rows), np.float64, ("C", "A"))
    xp = namespace(values)
    return xp.astype(values[index(values, rows)], xp.float64, copy=False).contiguous()


def empty(x: Any, shape: Sequence[int]) -> Any:
    """Array of float64 beside `x`, with any values."""
    if not is_tensor(x):
        return np.empty(shape)
    xp = namespace(x)
    return xp.empty(tuple(shape), dtype=xp.float64, device=x.device)


def zeros(x: Any, shape: Sequence[int]) -> Any:
    """Array of float64 zeros beside `x`."""
    if not is_tensor(x):
        return np.zeros(shape)
    xp = namespace(x)
    return xp.zeros(tuple(shape), dtype=xp.float64, device=x.device)


def ones(x: Any, shape: Sequence[int]) -> Any:
    """Array of float64 ones beside `x`."""
    return np.ones(shape) if not is_tensor(x) else zeros(x, shape) + 1.0


def copied(x: Any) -> Any:
    """A copy."""
    return x.copy() if not is_tensor(x) else x.clone()


def contiguous(x: Any) -> Any:
    """The same values in the order of their axes."""
    return np.ascontiguousarray(x) if not is_tensor(x) else x.contiguous()


def beside(parts: Sequence[Any]) -> Any:
    """Columns of 2-D arrays, side by side."""
    if not is_tensor(parts[0]):
        return np.column_stack(parts)
    return namespace(parts[0]).concat(list(parts), axis=1)


def row_squares(x: Any) -> Any:
    """Sum of the squares in each row."""
    return (x * x) @ np.ones(x.shape[1]) if not is_tensor(x) else (x * x).sum(axis=1)


def column_sums(x: Any) -> Any:
    """Sum of each column of a matrix with many rows: a product, faster than NumPy's sums."""
    return np.ones(x.shape[0]) @ x if not is_tensor(x) else x.sum(axis=0)


def column_squares(x: Any) -> Any:
    """Sum of the squares in each column."""
    return column_sums(x * x)


def total_square(x: Any) -> float:
    """Sum of all squares."""
    return float(np.vdot(x, x)) if not is_tensor(x) else float((x * x).sum())


def column_minima(x: Any) -> Any:
    """Smallest entry of each column."""
    return namespace(x).min(x, axis=0)


def column_maxima(x: Any) -> Any:
    """Largest entry of each column."""
    return namespace(x).max(x, axis=0)


def stretch_sums(x: Any, first: NDArray[np.int64]) -> Any:
    """Sums over stretches of rows that begin at `first` (and end where the next one begins)."""
    if not is_tensor(x):
        return np.add.reduceat(x, first, axis=0)
    return _reduced(x, first, "sum")


def stretch_maxima(x: Any, first: NDArray[np.int64]) -> Any:
    """Column maxima over stretches of rows."""
    if not is_tensor(x):
        return np.maximum.reduceat(x, first, axis=0)
    return _reduced(x, first, "max")


def _reduced(x: Any, first: NDArray[np.int64], operation: str) -> Any:
    lengths = np.diff(first, append=x.shape[0])
    # the standard has no reduction over stretches
    torch = require("torch", "torch", "work on tensors")
    return torch.segment_reduce(x.contiguous(), operation, lengths=like(x, lengths), axis=0)


def on_accelerator(x: Any) -> bool:
    """Whether this is a tensor outside the memory of the processor."""
    return is_tensor(x) and x.device.type != "cpu"


def room(x: Any) -> int:
    """How many times as many rows as fit into a processor's cache go into a block."""
    return DEVICE_ROOM if on_accelerator(x) else 1
