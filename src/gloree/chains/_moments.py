"""Means and covariances of neighbouring steps, as a mergeable statistic of one pass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gloree._arrays import column_sums, empty, like, namespace, take_rows, to_host
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.sequences import Array, Batch


@dataclass(frozen=True)
class LagCovariances(Brief):
    """Counts, means and covariances of steps and windows: the result of `LagMoments.finalize`.

    Covariances divide by the count. Where a count is 0, mean and covariance are NaN.

    There are `n_windows` windows (x_t, x_{t-1}, .., x_{t-order}) within sequences, most recent step
    first, `n_rows` steps, and `n_starts` sequences with at least `order` steps. `window_mean` and
    `window_covariance` have (order + 1) n_inputs entries and rows, `mean` and `covariance`
    n_inputs, and those of the first steps (x_1, .., x_order), *oldest* first, order n_inputs.
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
class VectorSums(Sums):
    """Count, sum, and sum of outer products of vectors v."""

    count: float
    total: Array
    products: Array

    @classmethod
    def of(cls, values: Array, weights: Array | None) -> VectorSums:
        """Sum over rows, with a weight for each unless `weights` is None."""
        if weights is None:
            products = to_host(values.T @ values)
            return cls(float(values.shape[0]), to_host(column_sums(values)), products)
        weighted = values * like(values, weights)[:, np.newaxis]
        sums = to_host(column_sums(weighted)), to_host(weighted.T @ values)
        return cls(float(weights.sum()), *sums)

    def shifted(self, shift: Array) -> VectorSums:
        """Return the sums of v + shift."""
        cross = np.outer(self.total, shift)
        products = self.products + cross + cross.T + self.count * np.outer(shift, shift)
        return VectorSums(self.count, self.total + self.count * shift, products)

    def mean_and_covariance(self, centre: Array) -> tuple[float, Array, Array]:
        """Count, mean of v + centre, and covariance."""
        if self.count == 0:
            return 0.0, np.full_like(self.total, np.nan), np.full_like(self.products, np.nan)
        mean = self.total / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        return self.count, mean + centre, (covariance + covariance.T) / 2


@dataclass(frozen=True)
class LagMoments(Sums):
    """Sums over steps and over windows of neighbouring steps; a monoid under `merge`.

    Sums are taken of x - centre, with a provisional centre near the mean, so that nothing cancels
    when means are large. The centre is a short binary fraction: `merge`, which shifts to another
    centre, is exact for data that are short fractions too. Windows never cross a sequence boundary,
    and context rows count only as the past of others. Build it with `lag_moments` or
    `LagMoments.identity`.

    Attributes
    ----------
    order, n_inputs : int
    centre : ndarray of shape (n_inputs,) or None
        None for the identity.
    windows, rows, starts : VectorSums
        Count, sum and sum of outer products of the windows (x_t, .., x_{t-order}), of all steps,
        and of the first `order` steps (oldest first) of the sequences that have as many.
    """

    order: int = field(metadata={"setting": True})
    n_inputs: int = field(metadata={"setting": True})
    centre: Array | None = field(metadata={"setting": True})
    windows: VectorSums = field(metadata={"nested": True})
    rows: VectorSums = field(metadata={"nested": True})
    starts: VectorSums = field(metadata={"nested": True})

    @classmethod
    def identity(cls, order: int, n_inputs: int) -> LagMoments:
        """Return the statistic of no data."""
        sizes = ((order + 1) * n_inputs, n_inputs, order * n_inputs)
        nothing = (VectorSums(0.0, np.zeros(n), np.zeros((n, n))) for n in sizes)
        return cls(order, n_inputs, None, *nothing)

    @np.errstate(over="ignore", invalid="ignore")
    def merge(self, other: object) -> LagMoments:
        """Return the statistic of both data sets; a MergeError if `order` or `n_inputs` differ."""
        sizes = self.order, self.n_inputs
        if not isinstance(other, LagMoments) or (other.order, other.n_inputs) != sizes:
            return super().merge(other)  # refuses it
        centre = other.centre if self.centre is None else self.centre
        return super(LagMoments, self._about(centre)).merge(other._about(centre))

    @np.errstate(over="ignore", invalid="ignore")
    def finalize(self) -> LagCovariances:
        """Return means and covariances; infinite or NaN where sums have overflowed."""
        p, centre = self.order, np.zeros(self.n_inputs) if self.centre is None else self.centre
        return LagCovariances(
            p,
            self.n_inputs,
            *self.windows.mean_and_covariance(np.tile(centre, p + 1)),
            *self.rows.mean_and_covariance(centre),
            *self.starts.mean_and_covariance(np.tile(centre, p)),
        )

    def _about(self, centre: Array | None) -> LagMoments:
        """Return the same statistic about another centre."""
        if self.centre is None or centre is None:
            return replace(self, centre=centre)
        shift = self.centre - centre
        if not shift.any():
            return self
        windows = self.windows.shifted(np.tile(shift, self.order + 1))
        starts = self.starts.shifted(np.tile(shift, self.order))
        sums = (windows, self.rows.shifted(shift), starts)
        return LagMoments(self.order, self.n_inputs, centre, *sums)


CENTRE_ROWS = 1024
"""Rows behind a provisional centre, at least, where a batch has as many."""


def provisional_centre(X: Array) -> Array:
    """Column means, rounded to a binary fraction of the column's spread.

    Few significant bits make x - centre, and shifts between centres, exact for most data.
    """
    some = X[:: max(1, X.shape[0] // CENTRE_ROWS)]
    xp = namespace(some)
    extremes = xp.min(some, axis=0), xp.max(some, axis=0)
    low, high, mean = map(to_host, (*extremes, some.mean(axis=0)))
    spread = high - low
    # A quarter of the range, rounded down to a power of two.
    unit = np.exp2(np.floor(np.log2(np.where(spread > 0, spread, 1.0))) - 2)
    rounded = np.round(mean / unit) * unit
    return np.asarray(np.where(spread > 0, rounded, to_host(X[0])), dtype=np.float64)


@np.errstate(over="ignore", invalid="ignore")  # who reads the sums refuses them
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
    n_inputs, counted, weights = shifted.shape[1], batch.counted_rows, batch.weights
    rows = counted[batch.local[counted] >= order] if order else counted
    window = empty(shifted, (rows.shape[0], (order + 1) * n_inputs))
    for lag in range(order + 1):
        window[:, lag * n_inputs : (lag + 1) * n_inputs] = take_rows(shifted, rows - lag)
    row = window if order == 0 else take_rows(shifted, batch.counted)
    whole_start = batch.from_start & (batch.lengths >= order) & (batch.before == 0)
    first = batch.starts[whole_start & (batch.lengths - batch.after > 0)]
    start = take_rows(shifted, (first[:, np.newaxis] + np.arange(order)).ravel())
    start = start.reshape(first.shape[0], order * n_inputs)
    parts = ((window, rows), (row, counted), (start, first))
    sums = (VectorSums.of(v, None if weights is None else weights[at]) for v, at in parts)
    return LagMoments(order, n_inputs, centre, *sums)


def require_context(batch: Batch, before: int, after: int) -> None:
    """Refuse a batch whose counted rows lack their neighbours, with a ValueError."""
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
