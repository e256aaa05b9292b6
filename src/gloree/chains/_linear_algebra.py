"""Checks and matrix equations behind the Gaussian chains."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from gloree._frames import refuse_masked
from gloree.chains._moments import LagCovariances
from gloree.sequences import Array

COLLINEAR_CONDITION = 1e12
"""Condition of a correlation matrix from which its inverse holds fewer than four digits."""

CONSTANT_SPREAD = 1e-13
"""Standard deviation, relative to the mean, below which a column is taken for constant."""

ACROSS_STEPS = (
    "over neighbouring steps (the past determines the next step, or columns are delayed copies of "
    "one another)"
)

UNIT_ROOT_CONDITION = 1e8
"""Condition of I - sum Phi_k from which the mean of a chain is not determined by its recursion."""


def frozen(array: Array) -> Array:
    """Write-protect an array that is shared."""
    array.flags.writeable = False
    return array


def inverse(matrix: Array) -> Array:
    """Inverse of a symmetric positive definite matrix, exactly symmetric."""
    factor = scipy.linalg.cho_factor(matrix, lower=True)
    inverted = scipy.linalg.cho_solve(factor, np.eye(matrix.shape[0]))
    return np.asarray((inverted + inverted.T) / 2, dtype=np.float64)


def correlation_condition(covariance: Array) -> float:
    """Condition number of the correlation matrix of a covariance; infinite where it is singular."""
    scale = np.sqrt(np.diag(covariance))
    values = np.linalg.eigvalsh(covariance / np.outer(scale, scale))
    return float(values[-1] / values[0]) if values[0] > 0 else np.inf


def read_only(value: ArrayLike, name: str) -> Array:
    """Copy finite real numbers to float64, and write-protect them."""
    refuse_masked(value, name)
    raw = np.asarray(value)
    if raw.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` has dtype {raw.dtype}, expected real numbers")
    array = np.array(raw, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds NaN or infinity")
    return frozen(array)


def positive_definite(value: ArrayLike, name: str, size: int) -> Array:
    """Check a covariance matrix of this size, and make it exactly symmetric."""
    matrix = read_only(value, name)
    if matrix.shape != (size, size):
        raise ValueError(f"`{name}` has shape {matrix.shape}, expected ({size}, {size})")
    scale, units = float(np.abs(matrix).max()), np.sqrt(np.abs(np.diag(matrix)))
    if (np.abs(matrix - matrix.T) > 1e-8 * np.outer(units, units)).any():
        raise ValueError(
            f"`{name}` is not symmetric: largest difference from its transpose is "
            f"{np.abs(matrix - matrix.T).max():.3g}"
        )
    matrix = (matrix + matrix.T) / 2
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(matrix)[0])
        raise ValueError(
            f"`{name}` is not positive definite: its smallest eigenvalue is {smallest:.3g}, its "
            f"largest entry {scale:.3g}"
        ) from None
    return frozen(matrix)


def companion_matrix(coefficients: Array) -> Array:
    """Matrix that takes (x_{t-1}, .., x_{t-p}) to (x_t, .., x_{t-p+1}), noise left out."""
    order, n_inputs = coefficients.shape[:2]
    companion = np.eye(order * n_inputs, k=-n_inputs)
    companion[:n_inputs] = coefficients.transpose(1, 0, 2).reshape(n_inputs, order * n_inputs)
    return companion


def discrete_lyapunov(transition: Array, noise: Array) -> Array:
    """Solve G = F G F^T + Q by doubling, for a spectral radius below 1.

    G is the sum of F^k Q F^kT; the doubled partial sums stay positive semidefinite to rounding,
    also where F nearly has a unit root. They end where no variance grows: each has its own unit.
    """
    total, power = noise, transition
    for _ in range(64):
        added = power @ total @ power.T
        total = total + added
        power = power @ power
        if (np.diag(added) <= np.finfo(np.float64).eps * np.diag(total) / 4).all():
            break
    # Terms fall geometrically: those after the first negligible one are lost without harm.
    return (total + total.T) / 2


def regress_on_past(summary: LagCovariances) -> tuple[Array, Array, Array]:
    """Coefficients, innovation covariance and mean of the least-squares autoregression."""
    p, d = summary.order, summary.n_inputs
    needed = (p + 1) * d + 1
    if summary.n_windows < needed:
        raise ValueError(
            f"{summary.n_windows:g} steps of `X` have {p} steps before them in their sequence, "
            f"but a chain of order {p} with {d} inputs needs at least {needed}: give more data"
            f"{' or lower `order`' if p else ''}"
        )
    covariance, mean = summary.window_covariance, summary.window_mean
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    constant = np.flatnonzero((scale <= CONSTANT_SPREAD * np.abs(mean)) | (scale == 0.0))
    if constant.size:
        columns = sorted({int(index) % d for index in constant})
        raise ValueError(
            f"columns {columns} of `X` are constant: they have no density, leave them out (the "
            f"model has a bias for them)"
        )
    correlation = covariance / np.outer(scale, scale)
    _require_independent(correlation, d)
    if p:
        across = correlation[:d, d:]
        scaled = scipy.linalg.solve(correlation[d:, d:], across.T, assume_a="pos").T
        innovation = correlation[:d, :d] - scaled @ across.T
        stacked = scaled * scale[:d, np.newaxis] / scale[d:]
    else:
        innovation, stacked = correlation, np.zeros((d, 0))
    innovation = (innovation + innovation.T) / 2 * np.outer(scale[:d], scale[:d])
    coefficients = stacked.reshape(d, p, d).transpose(1, 0, 2)
    # The intercept as a mean, in units of the inputs and from their average: nothing cancels.
    drift = (mean - np.tile(summary.mean, p + 1)) / scale
    drift = drift[:d] - (stacked / scale[:d, np.newaxis] * scale[d:]) @ drift[d:]
    units = scale[:d]
    gain = np.eye(d) - coefficients.sum(axis=0) / units[:, np.newaxis] * units
    if np.linalg.cond(gain) < UNIT_ROOT_CONDITION:
        return coefficients, innovation, summary.mean + units * np.linalg.solve(gain, drift)
    # A unit root: any mean fits as well, take the average.
    return coefficients, innovation, summary.mean


def second_moment_of_starts(summary: LagCovariances, mean: Array) -> Array:
    """Second moment about the mean of the first steps of all sequences."""
    size = summary.order * summary.n_inputs
    if summary.n_starts <= size:
        raise ValueError(
            f"`initial='data'` needs more than {size} sequences of at least {summary.order} "
            f"steps, got {summary.n_starts:g}: use initial='stationary'"
        )
    offset = summary.start_mean - np.tile(mean, summary.order)
    moment = summary.start_covariance + np.outer(offset, offset)
    scale = np.sqrt(np.maximum(np.diag(moment), 0.0))
    values = np.linalg.eigvalsh(moment / np.outer(scale, scale)) if scale.all() else np.zeros(1)
    if values[0] * COLLINEAR_CONDITION <= values[-1]:
        raise ValueError(
            f"`initial='data'` needs first steps that vary in every direction, but over the "
            f"{summary.n_starts:g} sequences of `X` they do not (all start from the same point?): "
            f"leave out the first {summary.order} steps of each or use initial='stationary'"
        )
    return moment


def _require_independent(correlation: Array, n_inputs: int) -> None:
    values, vectors = np.linalg.eigh(correlation)
    if values[0] > 0 and values[-1] < COLLINEAR_CONDITION * values[0]:
        return
    condition = np.inf if values[0] <= 0 else values[-1] / values[0]
    weights = np.abs(vectors[:, 0])
    columns = sorted({int(i) % n_inputs for i in np.flatnonzero(weights > 0.1 * weights.max())})
    inside = np.linalg.eigvalsh(correlation[:n_inputs, :n_inputs])
    where = "at the same step" if inside[0] * COLLINEAR_CONDITION < inside[-1] else ACROSS_STEPS
    raise ValueError(
        f"columns {columns} of `X` are collinear {where}: the correlation matrix has condition "
        f"{condition:.3g}, at most {COLLINEAR_CONDITION:.0e} is workable. Leave columns out or "
        f"project the inputs on their principal components"
    )
