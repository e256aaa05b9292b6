"""Regression moments of data in a call, and as the control variate of score moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import to_host
from gloree._monomials import apply_to_modes, block_rows
from gloree.chains import HermiteLaw, lag_moments, require
from gloree.engine import Engine, Source
from gloree.moments._coordinates import Whitening
from gloree.moments._regression import RegressionFeatures, RegressionSolver, regression_sums
from gloree.sequences import Array, Batch, as_sequences


def control_variate(source: Source, order: int) -> tuple[Array, Callable[[Batch], Array]]:
    """Polynomial of the inputs fitted to the outputs: its moment of `order`, and its residuals.

    The moment, (n_outputs, n_inputs, .., n_inputs), is the average derivative of the polynomial in
    the coordinates of the inputs. Residuals are a function of batches, of shape (n_rows,
    n_outputs).
    """
    engine = Engine()
    law = engine.run(partial(lag_moments, order=0), source).finalize()
    whitening = Whitening.from_covariance(law.mean, law.covariance)
    features = RegressionFeatures(whitening, order)
    sums = engine.run(partial(regression_sums, features=features), source)
    solver = RegressionSolver.from_sums(features, sums)
    coefficients = solver.coefficients(sums)

    def residuals(batch: Batch) -> Array:
        rows = np.arange(batch.n_rows)
        fitted = np.empty((rows.shape[0], coefficients.shape[1]))
        step = block_rows(features.size)
        for begin in range(0, rows.shape[0], step):
            chosen = rows[begin : begin + step]
            phi = to_host(features.evaluate(batch, chosen, None))
            fitted[chosen] = phi.T @ coefficients
        left: Array = to_host(batch.targets) - fitted
        return left

    return apply_to_modes(features.tensor(coefficients), whitening.matrix.T, order), residuals


def regression_moment(
    X: object,
    Y: object,
    order: int = 2,
    *,
    chain: HermiteLaw | None = None,
    lengths: ArrayLike | None = None,
) -> Array:
    """Regression moment T in the coordinates of the inputs: the average derivative of a fit.

    It estimates the same tensor as `cross_moment`, l! c_l sum_i A2_i (x) a_i^(x)l, with less noise
    and for inputs of nearly any law.

    Parameters
    ----------
    X, Y : array or list
        Inputs and outputs (see `gloree.sequences.as_sequences`).
    order : int, default 2
        l >= 1.
    chain : HermiteLaw, optional
        Law whose score joins the features (``union``); None uses the inputs only (``xreg``).
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    ndarray of shape (n_outputs, n_inputs, .., n_inputs)

    Raises
    ------
    TypeError, LawError
        If `order` is no integer, `chain` is no input law, or its score tensors are not Hermite
        tensors.
    ValueError
        If `order` < 1, or there are fewer rows than features.

    Warns
    -----
    RuntimeWarning
        If the inputs do not determine the moment (columns that are constant or collinear; of 0 and
        1, say, whose squares are they themselves): it is that of the fit of least norm.

    Examples
    --------
    >>> from gloree import datasets, moments
    >>> X, Y, truth, chain = datasets.make_rnn(50, 10, 4, 2, 3, random_state=0)
    >>> moments.regression_moment(X, Y, chain=chain).shape
    (3, 4, 4)
    """
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)):
        raise TypeError(f"`order` must be an integer, got {order!r}")
    if order < 1:
        raise ValueError(f"`order` must be at least 1, got {order}")
    if chain is not None:
        purpose = "`regression_moment` with a law"
        require(chain, order=order, hermite=True, digits=True, purpose=purpose)
    data = as_sequences(X, Y, lengths=lengths, keep_tensors=True)
    if data.Y is None:
        raise ValueError("`Y` is missing: a regression moment needs outputs")
    engine = Engine()
    source = Source.around(data, *((0, 0) if chain is None else chain.context))
    law = engine.run(partial(lag_moments, order=0), source).finalize()
    whitening = Whitening.from_covariance(law.mean, law.covariance)
    features = RegressionFeatures(whitening, order, chain)
    sums = engine.run(partial(regression_sums, features=features), source)
    if sums.n_rows < features.size:
        raise ValueError(
            f"{sums.n_rows:.0f} usable steps for {features.size} features: give more data, or use "
            f"`cross_moment`"
        )
    solver = RegressionSolver.from_sums(features, sums)
    if whitening.n_directions < data.n_inputs or not solver.determines(sums):
        warnings.warn(
            f"`X` does not determine the derivatives of order {order} (columns that are constant "
            f"or collinear, or take so few values that their powers are): the moment is that of "
            f"the fit of least norm, one of many. Leave columns out, or lower `order`",
            RuntimeWarning,
            stacklevel=2,
        )
    return apply_to_modes(solver.tensor(sums), whitening.matrix.T, order)
