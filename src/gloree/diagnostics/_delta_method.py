"""Standard errors of functions of the weights: the delta method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from gloree.diagnostics._report import FitReport
from gloree.sequences import Array

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Step of a central difference, relative to the weight or its standard error: its own error and
that of rounding are then alike, some 1e-10."""

Weights = Mapping[str, Array]


def delta_method(
    function: Callable[[dict[str, Array]], ArrayLike],
    report: FitReport,
    *,
    gradient: Callable[[dict[str, Array]], Weights] | None = None,
) -> tuple[Array, Array]:
    r"""Value of a function of the weights of a fit, and its standard error.

    To first order in the errors of the weights :math:`\theta`, whose covariance is V,

    .. math:: \mathrm{se}(g(\hat\theta))^2 = \nabla g^\top V\, \nabla g .

    Parameters
    ----------
    function : callable
        From the weights, a dict of arrays named as `report.weights`, to a number or an array of any
        shape.
    report : FitReport
        `report_` of a fit that has standard errors.
    gradient : callable, optional
        From the weights to a dict of derivatives, in the shape of the value followed by that of the
        weights; names that are left out have none. Central differences by default.

    Returns
    -------
    value : ndarray
        Of the shape that the function gives; of shape () for a number.
    standard_error : ndarray
        Alike.

    Raises
    ------
    ValueError
        If the fit has no standard errors, or derivatives are not finite or of a wrong shape.
    TypeError
        If `report` is no report.

    Notes
    -----
    Two calls of the function for each weight, without a gradient. Where the scales of units are
    free, weights are those with rows :math:`a_i` of unit length, and functions may ask for nothing
    else. First order says little of a function that bends within an error, such as a product of two
    weights that are about zero.

    Examples
    --------
    How long the hidden states remember, by the spectral radius of U:

    >>> import numpy as np
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.diagnostics import delta_method
    >>> X, Y, truth, _ = datasets.make_rnn(200, 20, 4, 2, 3, random_state=0)
    >>> est = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    >>> def radius(weights):
    ...     return np.abs(np.linalg.eigvals(weights["recurrent_weights"])).max()
    >>> value, error = delta_method(radius, est.report_)
    >>> true = np.abs(np.linalg.eigvals(truth.recurrent_weights)).max()
    >>> bool(abs(value - true) < 4 * error)
    True
    """
    if not hasattr(report, "covariance"):
        raise TypeError(
            f"`report` is of type {type(report).__name__}: expected `report_` of a fit, after the "
            f"function"
        )
    if report.covariance is None or not report.weights:
        raise ValueError(
            "`report` has no covariance of the weights. Regressors have one by default, with fewer "
            "than 1,500 weights, and keep it in `partial_fit`; classifiers have one with "
            "refine='likelihood' that came to a maximum, and none after `partial_fit`: fit old and "
            "new rows together then"
        )
    if not callable(function):
        raise TypeError(f"`function` must be a function of the weights, got {function!r:.100}")
    weights = {name: np.array(values) for name, values in report.weights.items()}
    value = _real(function(weights))
    slopes = (
        _differences(function, weights, report, value.shape)
        if gradient is None
        else _given(gradient(weights), weights, value.shape)
    )
    if not np.isfinite(slopes).all():
        raise ValueError("`function` has derivatives that are not finite at the weights of the fit")
    used = np.any(slopes != 0, axis=tuple(range(value.ndim)))
    slopes = slopes[..., used]
    covariance = report.covariance[np.ix_(used, used)]
    variance = np.einsum("...i,ij,...j->...", slopes, covariance, slopes)
    return value, np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _real(value: ArrayLike) -> Array:
    """A value of the function, of real numbers: imaginary parts would be dropped."""
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise TypeError(
            f"`function` gives {value!r:.100}, expected real numbers (of complex ones, give their "
            f"modulus, or real and imaginary parts)"
        )
    return found.astype(np.float64)


def _given(slopes: Weights, weights: Weights, shape: tuple[int, ...]) -> Array:
    """Derivatives by name, as one array with the weights in the order of the covariance last."""
    unknown = sorted(set(slopes) - set(weights))
    if unknown:
        raise ValueError(
            f"`gradient` has derivatives in {unknown}, and weights are {list(weights)}"
        )
    parts = []
    for name, values in weights.items():
        own = np.asarray(slopes.get(name, np.zeros(shape + values.shape)), dtype=np.float64)
        if own.shape != shape + values.shape:
            raise ValueError(
                f"`gradient` of {name!r} has shape {own.shape}, expected {shape + values.shape}: "
                f"that of the value, then that of the weights"
            )
        parts.append(own.reshape(*shape, values.size))
    return np.concatenate(parts, axis=-1)


def _differences(
    function: Callable[[dict[str, Array]], ArrayLike],
    weights: Weights,
    report: FitReport,
    shape: tuple[int, ...],
) -> Array:
    """Central differences, with the weights in the order of the covariance last."""
    found = []
    for name, values in weights.items():
        errors = np.where(
            np.isfinite(report.standard_errors[name]), report.standard_errors[name], 0
        )
        steps = STEP * np.maximum(np.maximum(np.abs(values), errors), np.finfo(np.float64).tiny)
        for place in np.ndindex(values.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = {other: np.array(each) for other, each in weights.items()}
                moved[name][place] += sign * steps[place]
                ends.append((moved[name][place], _real(function(moved))))
            (high, above), (low, below) = ends
            if above.shape != shape or below.shape != shape:
                raise ValueError(f"`function` gives shape {above.shape} after {shape}")
            found.append((above - below) / (high - low) if high > low else np.zeros(shape))
    return np.stack(found, axis=-1)
