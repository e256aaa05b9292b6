"""From what a caller gives to `Sequences`: shapes, types, lengths and values are checked here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import IntArray, is_tensor, namespace, room, to_host, without_tensors
from gloree._frames import Names, feature_names, listing, plain
from gloree._mapped import is_mapped, loaded, uncovered
from gloree.sequences._padded import is_padded, lengths_hint, unpadded
from gloree.sequences._sequences import Form, Sequences

LAZY = ("dask", "distributed")
"""Packages whose values may have to be computed first."""


def as_sequences(
    X: object,
    Y: object = None,
    *,
    lengths: ArrayLike | None = None,
    check_finite: bool = True,
    keep_tensors: bool = False,
    name: str = "X",
) -> Sequences:
    """Validate inputs (and outputs) in any of the accepted forms.

    Parameters
    ----------
    X : array of shape (n_steps, n_inputs), (n_sequences, n_steps, n_inputs), or list of 2-D arrays
        One sequence, many of equal length, or many of any length. With `lengths`, the first form
        holds the sequences one after another; with one length for each sequence of the second, it
        is padded, and what comes later is not looked at. In place of a 2-D array a pandas or
        polars DataFrame, whose column names are kept.
    Y : array or list of the same form, optional
        Outputs. One output may be given without its last axis (a Series, say).
    lengths : sequence of int, optional
        Steps of each sequence in a flat `X`, which sum to its rows, or in a padded one, whose
        sequences become a list (so do predictions).
    check_finite : bool, default True
        Refuse NaN and infinity, naming the sequence and step.
    keep_tensors : bool, default False
        Leave PyTorch tensors where they are, for passes over the data on their device; otherwise
        they are copied to NumPy arrays. These are not copied; a list is joined once.
    name : str, default "X"
        What errors call `X`.

    Raises
    ------
    TypeError
        If `X` or `Y` is not numeric (columns of a table are named), or tensors that are kept are
        not all on one device.
    ValueError
        If shapes, lengths, values or names of columns do not fit together, or entries are masked or
        missing.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.sequences import as_sequences
    >>> data = as_sequences([np.zeros((3, 2)), np.ones((1, 2))])
    >>> data.n_sequences, data.n_rows, data.form
    (2, 4, 'list')
    """
    if not keep_tensors:
        X, Y = without_tensors(X), without_tensors(Y)
    if is_padded(X, lengths):
        assert lengths is not None
        Y = None if Y is None else unpadded(Y, lengths, "Y")
        X, lengths = unpadded(X, lengths, name), None
    inputs, sizes, form = _flatten(X, name)
    if inputs.ndim == 1:
        raise ValueError(
            f"`{name}` holds vectors where (n_steps, n_inputs) arrays are expected. Reshape your "
            f"data: for a single input add the last axis: {name}[..., np.newaxis]"
        )
    if lengths is not None:
        sizes = _check_lengths(lengths, inputs.shape[0], form, name)
        form = "flat"
    if inputs.shape[1] == 0:
        raise ValueError(
            f"`{name}` has no columns (n_inputs = 0): 0 feature(s) (shape={tuple(inputs.shape)}) "
            f"while a minimum of 1 is required."
        )
    empty = np.flatnonzero(sizes == 0)
    if empty.size:
        raise ValueError(
            f"sequence {empty[0]} of `{name}` has no steps ({empty.size} such sequences): leave "
            f"them out"
        )
    if inputs.shape[0] == 0:
        raise ValueError(f"`{name}` holds no steps")
    outputs, flat_outputs = None, False
    if Y is not None:
        outputs, flat_outputs = _match_outputs(Y, sizes, form)
        _require_together(inputs, outputs, "X", "Y")
    names = (_names(X, name), None if Y is None else _names(Y, "Y"))
    data = Sequences(inputs, outputs, sizes, form, flat_outputs, *names)
    if check_finite:
        for of, values, columns in zip((name, "Y"), (data.X, data.Y), names, strict=True):
            if values is not None:
                _require_finite(values, of, data, columns)
    return data


def _require_together(first: object, other: object, name: str, other_name: str) -> None:
    """Refuse tensors beside arrays, or on another device."""

    def described(x: Any) -> str:
        return f"a tensor on {x.device}" if is_tensor(x) else "an array"

    if described(first) != described(other):
        raise TypeError(
            f"`{name}` is {described(first)} and `{other_name}` is {described(other)}: give both "
            f"as NumPy arrays, or both as tensors on one device"
        )


def _numeric(value: object, name: str) -> NDArray[np.generic]:
    split = " (complex numbers: split them into real and imaginary columns)"
    if is_tensor(value):
        tensor: Any = value
        if tensor.is_complex():
            raise TypeError(f"`{name}` has dtype {tensor.dtype}, expected real numbers{split}")
        kept: NDArray[np.generic] = tensor.detach()
        return kept
    if type(value).__module__.partition(".")[0] in LAZY and not hasattr(type(value), "__array__"):
        raise TypeError(
            f"`{name}` is a {type(value).__name__} of Dask, which only `fit`, `predict` and "
            f"`score` take, in place of inputs and outputs: compute it first, {name}.compute() or "
            f"{name}.result()"
        )
    value = plain(value, name)
    try:
        # a map is recognised by its type, where it is read
        array = cast(NDArray[Any], value) if is_mapped(value) else uncovered(np.asarray(value))
    except ValueError as error:
        raise ValueError(
            f"`{name}` is not a regular array: {error}. Sequences of unequal length go into a "
            f"list of (n_steps, n_columns) arrays"
        ) from error
    if hasattr(value, "nnz"):
        raise TypeError(f"`{name}` is a sparse matrix: pass a dense array, {name}.toarray()")
    if array.dtype.kind not in "biuf":
        hint = split if array.dtype.kind == "c" else ""
        raise TypeError(f"`{name}` has dtype {array.dtype}, expected real numbers{hint}")
    return array


def _names(value: object, name: str) -> Names | None:
    """Names of the columns, the same in all tables of a list."""
    if not isinstance(value, (list, tuple)) or np.isscalar(value[0]):
        return feature_names(value, name)
    names = feature_names(value[0], f"{name}[0]")
    for i, part in enumerate(value):
        own = feature_names(part, f"{name}[{i}]")
        if own != names:
            raise ValueError(
                f"`{name}[{i}]` has {_columns(own)}, `{name}[0]` has {_columns(names)}: all "
                f"sequences need the same columns in the same order"
            )
    return names


def _columns(names: Names | None) -> str:
    return "columns without names" if names is None else f"the columns {listing(map(repr, names))}"


def _flatten(value: object, name: str) -> tuple[NDArray[np.generic], IntArray, Form]:
    """Rows, lengths and form of one argument (vectors stay vectors)."""
    if isinstance(value, (list, tuple)) and len(value) == 0:
        raise ValueError(f"`{name}` is an empty list")
    if isinstance(value, (list, tuple)) and not np.isscalar(value[0]):
        return _join(value, name)
    array = _numeric(value, name)
    if array.ndim == 3:
        sizes = np.full(array.shape[0], array.shape[1], dtype=np.int64)
        return _rows_of(array), sizes, "array"
    if array.ndim in (1, 2):
        return array, np.array([array.shape[0]], dtype=np.int64), "single"
    raise ValueError(
        f"`{name}` has {array.ndim} dimensions, expected (n_steps, n_columns), "
        f"(n_sequences, n_steps, n_columns) or a list of the former"
    )


def _join(value: Sequence[object], name: str) -> tuple[NDArray[np.generic], IntArray, Form]:
    parts = [_numeric(part, f"{name}[{i}]") for i, part in enumerate(value)]
    ndim = parts[0].ndim
    if ndim > 2:
        raise ValueError(
            f"`{name}[0]` has shape {parts[0].shape}, expected (n_steps, n_columns) in a list"
        )
    for i, part in enumerate(parts):
        if part.ndim != ndim or part.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"`{name}[{i}]` has shape {part.shape}, but `{name}[0]` has {parts[0].shape}: all "
                f"sequences need the same columns"
            )
    sizes = np.array([part.shape[0] for part in parts], dtype=np.int64)
    if any(map(is_tensor, parts)):
        for i, part in enumerate(parts):
            _require_together(parts[0], part, f"{name}[0]", f"{name}[{i}]")
        return namespace(parts[0]).concat(parts, axis=0), sizes, "list"
    return np.concatenate([loaded(part) for part in parts]), sizes, "list"


def _rows_of(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Rows of all sequences, (n_rows, n_columns)."""
    if is_mapped(array) and not array.flags.c_contiguous:
        array = loaded(array)
    return array.reshape(array.shape[0] * array.shape[1], array.shape[2])


def _check_lengths(lengths: ArrayLike, n_rows: int, form: Form, name: str) -> IntArray:
    if form != "single":
        raise ValueError(
            "`lengths` goes with one flat (n_rows, n_columns) array, or with a padded one of three "
            "dimensions, not with a " + form
        )
    sizes = np.asarray(plain(lengths, "lengths"))
    if sizes.ndim != 1 or sizes.size == 0 or sizes.dtype.kind not in "iu":
        raise ValueError(
            f"`lengths` must be a 1-D sequence of integers, got shape {sizes.shape}, "
            f"dtype {sizes.dtype}"
        )
    if int(sizes.min()) < 1:
        raise ValueError(
            f"`lengths[{int(sizes.argmin())}]` is {sizes.min()}: every sequence needs a step"
        )
    if int(sizes.sum()) != n_rows:
        raise ValueError(
            f"`lengths` sum to {sizes.sum()}, but `{name}` has {n_rows} rows. (Cross-validation "
            f"takes rows out of flat data and not out of `lengths`: give it a list of sequences, "
            f"or a padded array)"
        )
    return sizes.astype(np.int64)


def _match_outputs(Y: object, sizes: IntArray, form: Form) -> tuple[NDArray[np.generic], bool]:
    """Rows of the outputs, checked against the sequences of the inputs."""
    if form == "array":
        array = _numeric(Y, "Y")
        steps = (sizes.shape[0], int(sizes[0]))
        if array.shape[:2] != steps or array.ndim > 3:
            raise ValueError(
                f"`Y` has shape {array.shape}, expected ({steps[0]}, {steps[1]}, n_outputs) to "
                f"match `X`"
            )
        flat = array.ndim == 2
        n_columns = 1 if flat else array.shape[2]
        if n_columns == 0:
            raise ValueError("`Y` has no columns (n_outputs = 0)")
        return _rows_of(array if array.ndim == 3 else array[..., np.newaxis]), flat
    rows, own, own_form = _flatten(Y, "Y")
    if own_form != ("single" if form == "flat" else form):
        raise ValueError(f"`X` was given as {form}, `Y` as {own_form}: give both in the same form")
    if form == "list":
        if own.shape != sizes.shape:
            raise ValueError(f"`X` has {sizes.shape[0]} sequences, `Y` has {own.shape[0]}")
        wrong = np.flatnonzero(own != sizes)
        if wrong.size:
            i = int(wrong[0])
            raise ValueError(f"`X[{i}]` has {sizes[i]} steps, `Y[{i}]` has {own[i]}")
    elif rows.shape[0] != int(sizes.sum()):
        n_rows = int(sizes.sum())
        hint = lengths_hint(rows, n_rows) if form == "single" else ""
        raise ValueError(f"`X` has {n_rows} steps, `Y` has {rows.shape[0]}{hint}")
    flat = rows.ndim == 1
    rows = rows[:, np.newaxis] if flat else rows
    if rows.shape[1] == 0:
        raise ValueError("`Y` has no columns (n_outputs = 0)")
    return rows, flat


def _require_finite(rows: object, name: str, data: Sequences, columns: Names | None) -> None:
    values: Any = rows
    xp = namespace(values)
    if not (values.dtype.is_floating_point if xp is not np else values.dtype.kind == "f"):
        return
    block = max(1, room(values) * 2**18 // values.shape[1])
    for start in range(0, values.shape[0], block):
        part = loaded(values[start : start + block])
        with np.errstate(invalid="ignore", over="ignore"):
            total = xp.sum(part, dtype=xp.float64)
        if np.isfinite(float(total)):
            continue
        part = to_host(part)
        for row, column in np.argwhere(~np.isfinite(part))[:1].tolist():
            sequence = int(np.searchsorted(data.starts, start + row, side="right") - 1)
            raise ValueError(
                f"`{name}` holds {part[row, column]} at sequence {sequence}, step "
                f"{start + row - int(data.starts[sequence])}, column "
                f"{repr(columns[column]) if columns else column}: NaN and infinity are not "
                f"understood, fill such steps or leave them out"
            )
