"""Arrays in ``.npy`` files, mapped into memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

from numpy.typing import ArrayLike

from gloree._mapped import MappedArray, SourceError, map_array
from gloree.sequences import Sequences, as_sequences


def memory_map(X: object, Y: object = None, *, lengths: ArrayLike | None = None) -> Sequences:
    """Data in ``.npy`` files, of which passes read a batch at a time.

    Parameters
    ----------
    X, Y : str or Path
        Files written by `numpy.save`, in any of the forms of `gloree.sequences.as_sequences`.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    Sequences
        To give to `fit` in place of X, without a Y.

    Raises
    ------
    SourceError
        If a file cannot be mapped.
    ValueError
        If shapes or values do not fit together.

    Notes
    -----
    All values are read once, to check that they are finite.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from gloree.sources import memory_map
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "X.npy", np.zeros((5, 20, 3)))
    ...     memory_map(Path(folder) / "X.npy").n_rows
    100
    """
    return as_sequences(_mapped(X, "X"), None if Y is None else _mapped(Y, "Y"), lengths=lengths)


def _mapped(path: object, name: str) -> MappedArray:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"`{name}` is a {type(path).__name__}, expected the path of an .npy file")
    try:
        return map_array(path)
    except Exception as error:  # whatever the system makes of what such a file claims
        if Path(path).is_file() and zipfile.is_zipfile(path):
            raise SourceError(
                f"`{name}`: {path} holds several arrays, expected an .npy file"
            ) from None
        raise SourceError(f"`{name}`: {path} cannot be mapped ({error})") from error
