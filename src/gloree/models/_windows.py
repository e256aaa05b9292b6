"""Windows of lagged rows, never across the start of a sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def lag_windows(values: Array, local_steps: IntArray, lags: int) -> Array:
    """Join every row with the rows before it in its own sequence.

    The window at step t is [x_t, x_(t-1), ..., x_(t-lags+1)], most recent first, with zeros in
    place of steps before the start.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        Rows of sequences (or of segments of them), one after another.
    local_steps : ndarray of int of shape (n_rows,)
        Rows of the same sequence that stand before each row; rows before the first one of
        `values` count as zeros.
    lags : int
        Rows in a window; 1 returns `values` itself.

    Returns
    -------
    ndarray of shape (n_rows, lags * n_columns)

    Notes
    -----
    O(n_rows * lags * n_columns) in time and memory: use it batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.models import lag_windows
    >>> lag_windows(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 0, 1]), 2)
    array([[1., 0.],
           [2., 1.],
           [3., 0.],
           [4., 3.]])
    """
    if lags == 1:
        return values
    n_rows, n_columns = values.shape
    windows = np.zeros((n_rows, lags, n_columns))
    windows[:, 0] = values
    for lag in range(1, min(lags, n_rows)):
        windows[lag:, lag] = values[:-lag]
        windows[local_steps < lag, lag] = 0.0
    return windows.reshape(n_rows, lags * n_columns)
