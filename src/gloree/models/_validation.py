"""Checks shared by the models."""

from __future__ import annotations

import numpy as np

from gloree._frames import refuse_masked
from gloree.activations import Activation
from gloree.sequences import Array


def frozen_array(
    value: object,
    name: str,
    shape: tuple[int | None, ...],
    *,
    default: bool = False,
    no_rows: bool = False,
) -> Array:
    """Copy to a read-only float64 array of the given shape (None: any size of at least 1).

    With `default`, None means zeros; with `no_rows`, the first axis may have size 0.
    """
    expected = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if len(shape) == 1:
        expected = f"({shape[0]},)"
    if value is None:
        if not default:
            raise TypeError(f"`{name}` is None, expected an array of shape {expected}")
        array = np.zeros(tuple(int(n or 0) for n in shape))
    else:
        array = _real_copy(value, name, expected)
    if array.ndim != len(shape) or any(
        n is not None and n != m for n, m in zip(shape, array.shape, strict=False)
    ):
        raise ValueError(
            f"`{name}` has shape {array.shape}, expected {expected}{_hint(array.shape, shape)}"
        )
    free = [m for n, m in zip(shape, array.shape, strict=True) if n is None]
    if 0 in (free[1:] if no_rows else free):
        raise ValueError(f"`{name}` is empty, of shape {array.shape}")
    if not np.all(np.isfinite(array)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"`{name}` holds {array[where]} at {where}, expected finite numbers")
    array.flags.writeable = False
    return array


def _real_copy(value: object, name: str, expected: str) -> Array:
    refuse_masked(value, name)
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` is not a regular array: {error}") from error
    if given.dtype.kind not in "biuf":
        raise TypeError(
            f"`{name}` has dtype {given.dtype}, expected real numbers of shape {expected}"
        )
    return np.array(given, dtype=np.float64, order="C", copy=True)


def _hint(got: tuple[int, ...], shape: tuple[int | None, ...]) -> str:
    if len(got) == 2 and len(shape) == 2:
        turned = got[::-1]
        if all(n is None or n == m for n, m in zip(shape, turned, strict=True)):
            return ": transpose it"
    return ""


def check_activation(activation: Activation, n_hidden: int) -> Activation:
    """Raise unless the activation is made for this many units."""
    if activation.n_units not in (None, n_hidden):
        raise ValueError(
            f"`activation` is made for {activation.n_units} units, the weights have {n_hidden}"
        )
    return activation


def check_lags(lags: object, n_columns: int = 0, name: str = "input_weights") -> int:
    """Raise unless `lags` is a positive integer that divides the columns of the weights."""
    if isinstance(lags, bool) or not isinstance(lags, (int, np.integer)):
        raise TypeError(f"`lags` is {lags!r}, expected an integer of at least 1")
    if lags < 1:
        raise ValueError(f"`lags` is {lags}, expected an integer of at least 1")
    if n_columns % lags:
        raise ValueError(
            f"`{name}` has {n_columns} columns, expected a multiple of `lags` = {lags}: "
            f"lags * n_inputs"
        )
    return int(lags)
