"""Means and covariances of neighbouring steps, as a mergeable statistic of one pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from gloree._arrays import (
    column_maxima,
    column_minima,
    column_sums,
    empty,
    index,
    like,
    take_rows,
    to_host,
)
from gloree._sums import MergeError, Sums
from gloree.sequences import Array, Batch


@dataclass(frozen=True)
class LagCovariances:
    """What `LagMoments.finalize` returns: counts, means and centred covariances.

    Attributes
    ----------
    order, n_inputs : int
    n_windows : float
        Windows (x_t, x_{t-1}, .., x_{t-order}) that lie within a sequence.
    window_mean : ndarray of shape ((order + 1) n_inputs,)
        Mean of the window, most recent step first.
    window_covariance : ndarray of shape ((order + 1) n_inputs, (order + 1) n_inputs)
    n_rows : float
        Steps.
    mean : ndarray of shape (n_inputs,)
        Mean over all steps.
    covariance : ndarray of shape (n_inputs, n_inputs)
    n_starts : float
        Sequences with at least `order` steps.
    start_mean : ndarray of shape (order n_inputs,)
        Mean of the first `order` steps (x_1, .., x_order), *oldest* first.
    start_covariance : ndarray of shape (order n_inputs, order n_inputs)
        All covariances divide by the count; with a count of 0 they are NaN.
    """

    order: int
    n_inputs: int
    n_windows: float
    window_mean: Array
    window_covariance: Array
    n_rows: float
    mean: Array
    covariance: Array
    n_starts: float
    start_mean: Array
    start_covariance: Array


@dataclass(frozen=True)
class LagMoments(Sums):
    """Sums over steps and over windows of neighbouring steps; a monoid under `merge`.

    All sums are taken of x - centre, with a provisional centre near the mean, so that nothing
    cancels when means are large. The centre is a short binary fraction: shifting to another
    centre, which `merge` does, is exact for data that are. Windows never cross a sequence
    boundary, and context rows of a batch count only as the past of counted ones.

    Build it with `lag_moments` (one batch) or `LagMoments.identity` (nothing yet).

    Attributes
    ----------
    order, n_inputs : int
    centre : ndarray of shape (n_inputs,) or None
        None for the identity.
    n_windows, window_sum, window_products
        Count, sum and sum of outer products of the windows (x_t, .., x_{t-order}).
    n_rows, row_sum, row_products
        The same of all steps.
    n_starts, start_sum, start_products
        The same of the first `order` steps of the sequences that have them, oldest first.
    """

    order: int
    n_inputs: int
    centre: Array | None
    n_windows: float
    window_sum: Array
    window_products: Array
    n_rows: float
    row_sum: Array
    row_products: Array
    n_starts: float
    start_sum: Array
    start_products: Array

    @classmethod
    def identity(cls, order: int, n_inputs: int) -> LagMoments:
        """Return the statistic of no data."""
        window, start = (order + 1) * n_inputs, order * n_inputs
        return cls(
            order,
            n_inputs,
            None,
            0.0,
            np.zeros(window),
            np.zeros((window, window)),
            0.0,
            np.zeros(n_inputs),
            np.zeros((n_inputs, n_inputs)),
            0.0,
            np.zeros(start),
            np.zeros((start, start)),
        )

    def merge(self, other: object) -> LagMoments:
        """Return the statistic of both data sets.

        Raises
        ------
        MergeError
            If `other` is something else, or `order` or `n_inputs` differ.
        """
        if not isinstance(other, LagMoments):
            raise MergeError(f"cannot merge LagMoments with {type(other).__name__}")
        for name in ("order", "n_inputs"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise MergeError(
                    f"lag moments with `{name}` = {mine} and {theirs} cannot be merged"
                )
        if other.centre is None:
            return self
        if self.centre is None:
            return other
        moved = other._about(self.centre)
        sums = {
            field.name: getattr(self, field.name) + getattr(moved, field.name)
            for field in fields(self)[3:]
        }
        return LagMoments(self.order, self.n_inputs, self.centre, **sums)

    def finalize(self) -> LagCovariances:
        """Return means and covariances."""
        centre = np.zeros(self.n_inputs) if self.centre is None else self.centre
        window = _mean_and_covariance(self.n_windows, self.window_sum, self.window_products)
        row = _mean_and_covariance(self.n_rows, self.row_sum, self.row_products)
        start = _mean_and_covariance(self.n_starts, self.start_sum, self.start_products)
        return LagCovariances(
            self.order,
            self.n_inputs,
            self.n_windows,
            window[0] + np.tile(centre, self.order + 1),
            window[1],
            self.n_rows,
            row[0] + centre,
            row[1],
            self.n_starts,
            start[0] + np.tile(centre, self.order),
            start[1],
        )

    def _about(self, centre: Array) -> LagMoments:
        """Return the same statistic about another centre."""
        assert self.centre is not None
        shift = self.centre - centre
        if not shift.any():
            return self
        window = _shift(
            self.n_windows, self.window_sum, self.window_products, np.tile(shift, self.order + 1)
        )
        row = _shift(self.n_rows, self.row_sum, self.row_products, shift)
        start = _shift(
            self.n_starts, self.start_sum, self.start_products, np.tile(shift, self.order)
        )
        return LagMoments(
            self.order,
            self.n_inputs,
            centre,
            self.n_windows,
            *window,
            self.n_rows,
            *row,
            self.n_starts,
            *start,
        )


def _shift(count: float, total: Array, products: Array, shift: Array) -> tuple[Array, Array]:
    """Sum and outer products of v + shift."""
    cross = np.outer(total, shift)
    return total + count * shift, products + cross + cross.T + count * np.outer(shift, shift)


def _mean_and_covariance(count: float, total: Array, products: Array) -> tuple[Array, Array]:
    if count == 0:
        return np.full_like(total, np.nan), np.full_like(products, np.nan)
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    return mean, (covariance + covariance.T) / 2


CENTRE_ROWS = 1024
"""Rows behind a provisional centre, at least, where a batch has as many."""


def provisional_centre(X: Array) -> Array:
    """Column means, rounded to a binary fraction of the column's spread.

    Few significant bits make x - centre, and shifts between centres, exact for most data.
    """
    some = X[:: max(1, X.shape[0] // CENTRE_ROWS)]
    low, high, mean = (
        to_host(part) for part in (column_minima(some), column_maxima(some), some.mean(axis=0))
    )
    spread = high - low
    # A quarter of the range, rounded down to a power of two.
    unit = np.exp2(np.floor(np.log2(np.where(spread > 0, spread, 1.0))) - 2)
    rounded = np.round(mean / unit) * unit
    return np.asarray(np.where(spread > 0, rounded, to_host(X[0])), dtype=np.float64)


def lag_moments(batch: Batch, order: int, centre: Array | None = None) -> LagMoments:
    """Sums over the steps and windows of one batch: the map of a pass that fits a chain.

    A window (x_t, .., x_{t-order}) counts where x_t is a counted row with `order` steps before it
    in its sequence.

    Parameters
    ----------
    batch : Batch
        Segments that do not begin a sequence must carry `order` rows of context.
    order : int
        Steps of the past in a window; 0 gives mean and covariance only.
    centre : ndarray of shape (n_inputs,), optional
        Provisional centre; by default one near the mean of the batch.

    Returns
    -------
    LagMoments

    Raises
    ------
    ValueError
        If a segment lacks context.

    Notes
    -----
    Time O(n_rows ((order + 1) n_inputs)^2), memory O(n_rows (order + 1) n_inputs).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import lag_moments
    >>> from gloree.sequences import as_sequences
    >>> batch = as_sequences(np.array([[1.0], [2.0], [4.0]])).whole()
    >>> summary = lag_moments(batch, order=1).finalize()
    >>> summary.n_windows, summary.window_mean
    (2.0, array([3. , 1.5]))
    """
    require_context(batch, order, 0)
    cut = np.flatnonzero(batch.from_start & ~batch.to_end & (batch.lengths < order))
    if cut.size:
        raise ValueError(
            f"segment {cut[0]} of the batch begins a sequence and is cut after "
            f"{batch.lengths[cut[0]]} rows, fewer than `order` = {order}: use longer segments"
        )
    if batch.n_counted == 0:
        return LagMoments.identity(order, batch.X.shape[1])
    if centre is None:
        centre = provisional_centre(batch.X)
    shifted = batch.X - like(batch.X, centre)
    n_inputs = shifted.shape[1]
    counted = batch.counted_rows

    rows = counted[batch.local[counted] >= order] if order else counted
    window = empty(shifted, (rows.shape[0], (order + 1) * n_inputs))
    for lag in range(order + 1):
        window[:, lag * n_inputs : (lag + 1) * n_inputs] = take_rows(shifted, rows - lag)
    row = window if order == 0 else take_rows(shifted, batch.counted)

    whole_start = batch.from_start & (batch.lengths >= order) & (batch.before == 0)
    first = batch.starts[whole_start & (batch.lengths - batch.after > 0)]
    start = shifted[index(shifted, (first[:, np.newaxis] + np.arange(order)).ravel())]
    start = start.reshape(first.shape[0], order * n_inputs)

    weights = batch.weights
    return LagMoments(
        order,
        n_inputs,
        centre,
        *_sums(window, None if weights is None else weights[rows]),
        *_sums(row, None if weights is None else weights[counted]),
        *_sums(start, None if weights is None else weights[first]),
    )


def _sums(values: Array, weights: Array | None) -> tuple[float, Array, Array]:
    if weights is None:
        return float(values.shape[0]), to_host(column_sums(values)), to_host(values.T @ values)
    weighted = values * like(values, weights)[:, np.newaxis]
    sums = to_host(column_sums(weighted)), to_host(weighted.T @ values)
    return float(weights.sum()), *sums


def require_context(batch: Batch, before: int, after: int) -> None:
    """Refuse a batch whose counted rows lack their neighbours.

    Raises
    ------
    ValueError
        Naming the segment, what it carries and what it needs.
    """
    inside = batch.lengths > batch.before + batch.after
    for name, open_end, carried, needed in (
        ("before", ~batch.from_start, batch.before, before),
        ("after", ~batch.to_end, batch.after, after),
    ):
        short = np.flatnonzero(inside & open_end & (carried < needed))
        if short.size:
            raise ValueError(
                f"segment {short[0]} of the batch carries {carried[short[0]]} rows of context "
                f"{name} its counted rows, and {needed} are needed: cut the data with "
                f"`{name}={needed}`"
            )
