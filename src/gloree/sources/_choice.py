"""From the X and Y of `fit` to data, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

from numpy.typing import ArrayLike

from gloree.sequences import Data, as_sequences
from gloree.sources._batches import batches
from gloree.sources._files import memory_map
from gloree.sources._items import check_no_dataset
from gloree.sources._partitions import partitions
from gloree.sources._shards import shards


def as_data(
    X: object, Y: object = None, *, lengths: ArrayLike | None = None, keep_tensors: bool = True
) -> Data:
    """Data in any form that `fit`, `predict` and `score` take.

    Parameters
    ----------
    X : array, list of arrays, Data, path, Dask collection or iterable
        Arrays (or tensors, which stay on their device) with their outputs in `Y` (see
        `gloree.sequences.as_sequences`). Without a `Y`: what
        a function of `gloree.sources` gives; the path of a directory of shards; a Dask bag, or a
        list of delayed values; any object that iterates over batches (X, Y), such as a
        DataLoader of PyTorch, or over X alone for `predict`. The path of an ``.npy`` file goes
        with that of its outputs in `Y`.
    Y : array, list or path, optional
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.
    keep_tensors : bool, default True
        Whether tensors given as `X` and `Y` stay tensors.

    Raises
    ------
    TypeError, ValueError
        If the form is none of these.
    """
    if Y is None and isinstance(X, (list, tuple)) and X and isinstance(X[0], tuple):
        raise ValueError(
            "`X[0]` is a tuple: give sources.batches(X) if these are parts (X, Y) of the data, or "
            "the inputs and the outputs as two lists"
        )
    check_no_dataset(X)
    if not is_source(X, Y):
        return as_sequences(X, Y, lengths=lengths, keep_tensors=keep_tensors)
    if isinstance(X, (str, Path)) and Path(X).suffix == ".npy":
        return memory_map(X, Y, lengths=lengths)
    for name, value in (("Y", Y), ("lengths", lengths)):
        if value is not None:
            raise ValueError(
                f"`{name}` was given beside a source of data, whose parts hold inputs and outputs "
                f"(and lengths): leave it out"
            )
    if isinstance(X, Data):
        return X
    if isinstance(X, (str, Path)):
        return shards(X)
    return partitions(X) if _are_delayed(X) else batches(X)


def is_source(X: object, Y: object = None) -> bool:
    """Whether these are not arrays, but say where parts (X, Y) of the data are to be found."""
    if isinstance(X, (Data, str, Path)) or _are_delayed(X):
        return True
    arrays = isinstance(X, (list, tuple)) or hasattr(X, "__array__") or hasattr(X, "nnz")
    return Y is None and not arrays and hasattr(X, "__iter__")


def _are_delayed(X: object) -> bool:
    return _is_delayed(X) or (isinstance(X, (list, tuple)) and bool(X) and _is_delayed(X[0]))


def _is_delayed(value: object) -> bool:
    """Whether this is a Dask bag, a delayed value or a future."""
    return type(value).__module__.partition(".")[0] in ("dask", "distributed")
