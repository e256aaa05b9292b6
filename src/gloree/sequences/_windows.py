"""Windows of lagged rows, never across the start of a sequence."""

from __future__ import annotations

import numpy as np

from gloree._arrays import Array, IntArray, index, zeros


def lag_windows(values: Array, local_steps: IntArray, lags: int) -> Array:
    """Join every row with the rows before it in its own sequence.

    The window at step t is [x_t, x_(t-1), ..., x_(t-lags+1)], most recent first, with zeros in
    place of steps before the start. `local_steps`, (n_rows,), counts the rows of the same sequence
    before each row. Returns (n_rows, lags * n_columns); time and memory are of this size: use it
    batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.sequences import lag_windows
    >>> lag_windows(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0, 1, 0, 1]), 2)
    array([[1., 0.],
           [2., 1.],
           [3., 0.],
           [4., 3.]])
    """
    if lags == 1:
        return values
    n_rows, n_columns = values.shape
    windows: Array = zeros(values, (n_rows, lags, n_columns))
    windows[:, 0] = values
    _fill_lags(windows[:, 1:], values, local_steps)
    return windows.reshape(n_rows, lags * n_columns)


def record_windows(values: Array, lags: int, past: Array | None = None) -> Array:
    """Windows as `lag_windows` makes them of a single record, with the rows before it.

    `past`, (lags - 1, n_columns) or flat, are those rows, the latest first; zeros by default.
    Returns (n_rows, lags * n_columns), for arrays of NumPy.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.sequences import record_windows
    >>> record_windows(np.array([[3.0], [4.0]]), 3, np.array([2.0, 1.0]))
    array([[3., 2., 1.],
           [4., 3., 2.]])
    """
    if lags == 1:
        return values
    before = np.zeros((lags - 1, values.shape[1]))
    if past is not None:
        before[:] = np.reshape(past, before.shape)
    longer = np.concatenate((before[::-1], values))
    return lag_windows(longer, np.arange(longer.shape[0]), lags)[lags - 1 :]


def joint_windows(values: Array, steps_before: IntArray, steps_after: IntArray, lags: int) -> Array:
    """Join every row with the rows before it and the rows after it in its own sequence.

    The window at step t is [x_t, x_(t-1), ..., x_(t-lags+1), x_(t+1), ..., x_(t+lags-1)], what
    the units of a bidirectional network see between them, with zeros in place of steps beyond the
    ends of the sequence. `steps_before` and `steps_after`, (n_rows,), count the rows of the same
    sequence on either side of each row. Returns (n_rows, (2 * lags - 1) * n_columns).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.sequences import joint_windows
    >>> values = np.array([[1.0], [2.0], [3.0], [4.0]])  # a sequence of three steps and one of one
    >>> joint_windows(values, np.array([0, 1, 2, 0]), np.array([2, 1, 0, 0]), 2)
    array([[1., 0., 2.],
           [2., 1., 3.],
           [3., 2., 0.],
           [4., 0., 0.]])
    """
    if lags == 1:
        return values
    n_rows, n_columns = values.shape
    n_parts = 2 * lags - 1
    windows: Array = zeros(values, (n_rows, n_parts, n_columns))
    windows[:, 0] = values
    _fill_lags(windows[:, 1:lags], values, steps_before)
    for lead in range(1, min(lags, n_rows)):
        place = lags + lead - 1
        windows[:-lead, place] = values[lead:]
        windows[index(values, steps_after < lead), place] = 0.0
    return windows.reshape(n_rows, n_parts * n_columns)


def _fill_lags(windows: Array, values: Array, local_steps: IntArray) -> None:
    """Write the rows 1, 2, ... steps back into windows of zeros, (n_rows, n_lags, n_columns)."""
    n_rows, n_lags = windows.shape[:2]
    for lag in range(1, min(n_lags + 1, n_rows)):
        windows[lag:, lag - 1] = values[:-lag]
        windows[index(values, local_steps < lag), lag - 1] = 0.0
