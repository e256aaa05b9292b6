"""Errors of predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from gloree._frames import with_columns
from gloree._mapped import loaded
from gloree._sums import Sums
from gloree.models import Network, Start, sum_predictions
from gloree.sequences import Array, Data, IntArray, Sequences, as_sequences


def root_mean_square_error(
    Y: object, predictions: object, *, skip: int = 0, lengths: ArrayLike | None = None
) -> Array:
    """Root mean square of Y - predictions for each output.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form.
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    ndarray of shape (n_outputs,)

    Examples
    --------
    >>> from gloree.metrics import root_mean_square_error
    >>> root_mean_square_error([[1.0], [2.0]], [[1.0], [5.0]]).round(3)
    array([2.121])
    """
    difference, counted = _differences(Y, predictions, skip, lengths)
    rms: Array = np.sqrt(np.mean(difference[counted] ** 2, axis=0))
    return rms


def r2_score(
    Y: object, predictions: object, *, skip: int = 0, lengths: ArrayLike | None = None
) -> float:
    """Coefficient of determination, averaged over outputs that vary.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form; arrays of two dimensions are one sequence, (n_steps, n_outputs).
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    float
        1 is perfect, 0 is as good as the mean.

    Examples
    --------
    >>> from gloree.metrics import r2_score
    >>> r2_score([[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]])
    0.5
    """
    difference, counted = _differences(Y, predictions, skip, lengths)
    return SquaredErrors.of(_as_rows(Y, lengths, "Y")[0][counted], difference[counted]).r2()


@dataclass(frozen=True)
class SquaredErrors(Sums):
    """What R^2 is made of, for each output.

    Attributes
    ----------
    n_rows : float
        Rows, whether or not an output is missing in them.
    mean, spread, largest : ndarray of shape (n_outputs,)
        Mean of the outputs, sum of their squares about it, and the largest magnitude.
    residual : ndarray of shape (n_outputs,)
        Sum of the squares of the errors.
    missing : ndarray of shape (n_outputs,)
        Rows in which the output is NaN, which do not count.
    """

    n_rows: float
    mean: Array
    spread: Array
    residual: Array
    largest: Array
    missing: Array

    @property
    def counted(self) -> Array:
        """Rows in which each output is there."""
        return self.n_rows - self.missing

    @classmethod
    def of(cls, values: Array, errors: Array) -> SquaredErrors:
        """Sums of some rows, of shape (n_rows, n_outputs); values that are NaN are missing."""
        missing = np.isnan(values)
        n_missing: Array = missing.astype(np.float64).sum(axis=0)
        if missing.any():
            values, errors = (np.where(missing, 0.0, each) for each in (values, errors))
        mean = values.sum(axis=0) / np.maximum(values.shape[0] - n_missing, 1.0)
        return cls(
            float(values.shape[0]),
            mean,
            np.sum(np.where(missing, 0.0, values - mean) ** 2, axis=0),
            np.sum(errors**2, axis=0),
            np.abs(values).max(axis=0, initial=0.0),
            n_missing,
        )

    def merge(self, other: object) -> SquaredErrors:
        """Return the sums of both: squares about the joint mean, so that nothing cancels."""
        both = super().merge(other)
        assert isinstance(other, SquaredErrors)
        share = other.counted / np.maximum(both.counted, 1.0)
        moved = other.mean - self.mean
        return replace(
            both,
            mean=self.mean + moved * share,
            spread=both.spread + moved**2 * self.counted * share,
            largest=np.maximum(self.largest, other.largest),
        )

    def r2(self) -> float:
        """R^2, averaged over the outputs that vary."""
        varies = self.spread > self.counted * (1e-12 * self.largest) ** 2
        if not varies.any():
            what = "constant" if self.counted.any() else "missing in all rows that count"
            raise ValueError(f"`Y` is {what}: R^2 is not defined")
        return float(np.mean(1.0 - self.residual[varies] / self.spread[varies]))


def score_model(
    model: Network,
    data: Data,
    *,
    skip: int = 0,
    engine: object = None,
    verbose: int = 0,
    start: Start | None = None,
) -> float:
    """R^2 of the predictions of a network for data kept anywhere, in sums over batches.

    `skip` steps at the start of every sequence are left out, and outputs that are NaN; `engine`,
    `verbose` and `start` are those of `gloree.models.predict_data`, which also lists the errors.
    """
    _check_skip(skip, data.longest)
    if data.n_outputs == 0:
        raise ValueError("`Y` is missing: score needs outputs")
    if data.n_outputs != model.n_outputs:
        raise ValueError(
            f"`Y` has {data.n_outputs} columns, the model has n_outputs = {model.n_outputs}"
        )
    function = partial(_squared_errors, skip=skip)
    return sum_predictions(function, model, data, engine=engine, verbose=verbose, start=start).r2()


def _squared_errors(predictions: Array, data: Sequences, skip: int) -> SquaredErrors:
    counted = _counted_rows(data.lengths, skip)
    values = np.asarray(data.Y, dtype=np.float64)
    return SquaredErrors.of(values[counted], (values - predictions)[counted])


def _as_rows(given: object, lengths: ArrayLike | None, name: str) -> tuple[Array, IntArray]:
    data = as_sequences(with_columns(given, name), lengths=lengths, name=name)
    return np.asarray(loaded(data.X), dtype=np.float64), data.lengths


def _differences(
    Y: object, predictions: object, skip: int, lengths: ArrayLike | None
) -> tuple[Array, IntArray]:
    truth, sizes = _as_rows(Y, lengths, "Y")
    estimate, own = _as_rows(predictions, lengths, "predictions")
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has shape {truth.shape}, `predictions` {estimate.shape}")
    if not np.array_equal(sizes, own):
        raise ValueError(f"sequences of `Y` have {sizes} steps, those of `predictions` {own}")
    _check_skip(skip, int(sizes.max()))
    return truth - estimate, _counted_rows(sizes, skip)


def _check_skip(skip: int, longest: int) -> None:
    if isinstance(skip, bool) or not isinstance(skip, (int, np.integer)) or skip < 0:
        raise ValueError(f"`skip` must be an integer of at least 0, got {skip!r}")
    if skip >= longest:
        raise ValueError(f"`skip`={skip} leaves no steps: the longest sequence has {longest}")


def _counted_rows(sizes: IntArray, skip: int) -> IntArray:
    steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.flatnonzero(steps >= skip)
