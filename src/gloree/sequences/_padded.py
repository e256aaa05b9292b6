"""Sequences of unequal lengths in one padded array, and lengths in a place where none belong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gloree._frames import plain


def is_padded(X: object, lengths: object) -> bool:
    """Whether inputs are a padded array: three dimensions, and the lengths of its sequences."""
    return lengths is not None and getattr(X, "ndim", 0) == 3


def unpadded(values: object, lengths: ArrayLike, name: str) -> list[object]:
    """Sequences of a padded array (or of labels in a list for each): the first steps of each row.

    Parameters
    ----------
    values : array or tensor of shape (n_sequences, n_steps, ...), or a list
    lengths : sequence of int
        Steps of each sequence; later ones are padding and are not looked at.
    name : str
        Of the argument, for messages.

    Raises
    ------
    ValueError
        If there is not one length for each sequence, of at most as many steps as the array has.
    """
    sizes = np.asarray(plain(lengths, "lengths"))
    rows: Any = values
    if not hasattr(rows, "__len__") or sizes.shape != (len(rows),) or sizes.dtype.kind not in "iu":
        n_rows = len(rows) if hasattr(rows, "__len__") else 0
        raise ValueError(
            f"`lengths` of a padded array must be one integer for each sequence: `{name}` has "
            f"{n_rows} sequences, `lengths` has shape {sizes.shape}, dtype {sizes.dtype}"
        )
    for i, size in enumerate(sizes.tolist()):
        if not 1 <= size <= len(rows[i]):
            raise ValueError(
                f"`lengths[{i}]` is {size}, and `{name}[{i}]` has {len(rows[i])} steps: give the "
                f"number of steps before the padding, at least 1"
            )
    return [rows[i][:size] for i, size in enumerate(sizes.tolist())]


def lengths_hint(values: object, n_rows: int) -> str:
    """What to write, if values in the place of outputs or labels are lengths of sequences."""
    found = np.asarray(values)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    is_lengths = found.ndim == 1 and found.dtype.kind in "iu" and 0 < found.size < n_rows
    if not is_lengths or int(found.min()) < 1 or int(found.sum()) != n_rows:
        return ""
    return (
        ". These whole numbers sum to the rows of `X`: lengths of sequences go by name, "
        "fit(X, Y, lengths=lengths), after the outputs or labels"
    )
