r"""Noise of a free run: a stationary autoregression of the residuals, and forms in its covariance.

Residuals of a free run are what the model does not explain together with all noise of the system,
and that noise is not white: whatever comes in before the output is filtered by the system.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import linalg

from gloree._brief import Brief
from gloree.sequences import Array

FORGOTTEN = 1e-4
"""Autocovariances smaller than this, relative to the variance, are taken as zero."""

MOST_LAGS = 20_000
"""Lags at which autocovariances are cut off in any case."""

PAIRS = 20
"""One in so many pairs of rows has to be known for a mean over those that are."""


@dataclass(frozen=True)
class Noise(Brief):
    r"""Stationary noise :math:`e_t = \sum_k A_k e_{t-k} + w_t` of the outputs.

    Attributes
    ----------
    coefficients : ndarray of shape (order, n_outputs, n_outputs)
        A_1, A_2, ...
    covariance : ndarray of shape (n_outputs, n_outputs)
        Of e_t.
    head : ndarray of shape (order + 1, n_outputs, n_outputs)
        Autocovariances E[e_{t+k} e_t^T] of the lags that they are fitted to.
    """

    coefficients: Array
    covariance: Array
    head: Array = field(repr=False)

    @property
    def order(self) -> int:
        """Order of the autoregression; 0 for white noise."""
        return int(self.coefficients.shape[0])

    @cached_property
    def autocovariances(self) -> Array:
        """E[e_{t+k} e_t^T] for k = 0, 1, ... until it is forgotten, (n_lags, n, n)."""
        listed, q = list(self.head), self.order
        if q == 0:
            return self.head[:1]
        size = np.sqrt(np.diag(self.covariance))
        floor = FORGOTTEN * np.outer(size, size)
        quiet = 0
        while quiet < q + 1 and len(listed) < MOST_LAGS:
            following = np.einsum("kab,kbc->ac", self.coefficients, np.array(listed[: -q - 1 : -1]))
            listed.append(following)
            quiet = quiet + 1 if np.all(np.abs(following) <= floor) else 0
        return np.array(listed)

    def times(self, factor: float) -> Noise:
        """The same noise, its covariances so many times as large."""
        return Noise(self.coefficients, factor * self.covariance, factor * self.head)

    def applied(self, values: Array) -> Array:
        """Covariance of the noise of one record, times `values` of shape (n_rows, n_outputs, n)."""
        n, p, _ = values.shape
        gamma = self.autocovariances[:n]
        if gamma.shape[0] == 1:
            return np.asarray(np.einsum("ab,tbc->tac", gamma[0], values))
        found = np.zeros_like(values)
        for a in range(p):
            for b in range(p):
                found[:, a] += _smoothed(values[:, b], gamma[:, a, b], gamma[:, b, a])
        return found

    def applied_to_one(self, values: Array, output: int) -> Array:
        """The same for one output: its covariance times `values` of shape (n_rows, n)."""
        gamma = self.autocovariances[: values.shape[0], output, output]
        return gamma[0] * values if gamma.size == 1 else _smoothed(values, gamma, gamma)

    def effective_rows(self, n_rows: int) -> float:
        r"""Independent rows that say as much about the variance: n / (1 + 2 sum of rho_k^2)."""
        variances = np.diag(self.covariance)
        correlations = np.einsum("kaa->ka", self.autocovariances) / np.where(
            variances > 0, variances, 1.0
        )
        return float(n_rows / (1.0 + 2.0 * np.sum(correlations[1:] ** 2, axis=0).max(initial=0.0)))


def _smoothed(values: Array, ahead: Array, behind: Array) -> Array:
    """Sum over s of gamma(t - s) values_s, with gamma(k) = ahead_k and gamma(-k) = behind_k."""
    from scipy import signal  # slow to import

    kernel, n = np.concatenate((behind[:0:-1], ahead))[:, None], ahead.size
    full = signal.oaconvolve(values, kernel, mode="full", axes=0)
    return np.asarray(full[n - 1 : n - 1 + values.shape[0]])


def fit_noise(records: Sequence[Array], *, max_order: int | None = None) -> Noise:
    """Fit the autoregression to residuals by the Yule-Walker equations, of the order of least AIC.

    Parameters
    ----------
    records : sequence of ndarray of shape (n_rows, n_outputs)
        Residuals; rows of NaN are gaps.
    max_order : int, optional
        By default 10 log10 of the number of rows, and at most a twentieth of them for each output.

    Notes
    -----
    The solution is stationary whatever the data are (where rows are missing, its order is bounded
    by that). AIC is n log det of the covariance of the innovations and two for each coefficient; n
    are the rows that are known, or where some are missing the neighbours, by their share.
    """
    n = sum(int(np.all(np.isfinite(r), axis=1).sum()) for r in records)
    n_rows, p = sum(r.shape[0] for r in records), records[0].shape[1]
    shortest = max(r.shape[0] for r in records) - 1
    limit = int(min(10 * np.log10(max(n, 1)), n // (20 * p), shortest))
    limit = max(0, limit if max_order is None else min(max_order, shortest))
    gamma = _autocovariances(records, limit, n)
    # in units of each output: in those of the records, equations may look singular that are not
    size = np.sqrt(np.diag(gamma[0]))
    size = np.where(size > 0.0, size, 1.0)
    coefficients = _least_aic(gamma / np.outer(size, size), n, n_rows)
    order = coefficients.shape[0]
    return Noise(coefficients * size[:, None] / size, gamma[0], gamma[: order + 1])


def _least_aic(gamma: Array, n: int, n_rows: int) -> Array:
    """Coefficients of the autoregression of least AIC, (order, n_outputs, n_outputs)."""
    p = gamma.shape[1]
    known = n * n / max(n_rows, 1)
    best, least = np.zeros((0, p, p)), known * _log_det(gamma[0])
    if not np.isfinite(least):
        return best
    for order in range(1, gamma.shape[0]):
        coefficients = _yule_walker(gamma[: order + 1])
        if coefficients is None:
            break
        left = gamma[0] - np.einsum("kab,kcb->ac", coefficients, gamma[1 : order + 1])
        criterion = known * _log_det(left) + 2 * order * p * p
        if not np.isfinite(criterion) or (n < n_rows and not _is_stationary(coefficients)):
            break
        if criterion < least:
            least, best = criterion, coefficients
    return best


def _autocovariances(records: Sequence[Array], most: int, n: int) -> Array:
    """Means of e_{t+k} e_t^T over records, times the share of the rows that have a row k before.

    A positive sequence where no rows are missing. Where some are, means are those over the pairs of
    which both are known, if that is one in `PAIRS` at least: products of others are zeros.
    """
    p = records[0].shape[1]
    gamma, known, pairs = np.zeros((most + 1, p, p)), np.zeros(most + 1), np.zeros(most + 1)
    for record in records:
        seen = np.isfinite(record)
        values, whole = np.where(seen, record, 0.0), np.asarray(seen.all(axis=1))
        for k in range(min(most + 1, record.shape[0])):
            gamma[k] += values[k:].T @ values[: values.shape[0] - k]
            known[k] += np.sum(whole[k:] & whole[: whole.shape[0] - k])
            pairs[k] += whole.shape[0] - k
    share = n / max(pairs[0], 1.0)
    more = np.where(PAIRS * known >= pairs, share * pairs / np.maximum(known, 1.0), 1.0)
    return gamma * more[:, None, None] / max(n, 1)


def _is_stationary(coefficients: Array) -> bool:
    """Whether an autoregression, (order, p, p), has its poles inside the unit circle."""
    q, p, _ = coefficients.shape
    companion = np.eye(q * p, k=-p)
    companion[:p] = np.hstack(list(coefficients))
    return bool(np.abs(np.linalg.eigvals(companion)).max() < 1.0)


def _yule_walker(gamma: Array) -> Array | None:
    """Coefficients A_k with Gamma(j) = sum_k A_k Gamma(j - k), j = 1, ..., q."""
    q, p = gamma.shape[0] - 1, gamma.shape[1]
    both = np.concatenate((gamma[:0:-1].swapaxes(1, 2), gamma))  # Gamma(-q), ..., Gamma(q)
    lags = np.arange(q) - np.arange(q)[:, None]
    matrix = both[lags + q].swapaxes(1, 2).reshape(q * p, q * p)  # block (k, j) is Gamma(j - k)
    right = np.concatenate(list(gamma[1:]), axis=1)
    with warnings.catch_warnings():
        # so nearly singular, as residuals of rounding are, it has no coefficients to give either
        warnings.simplefilter("error", linalg.LinAlgWarning)
        try:
            solved = linalg.solve(matrix.T, right.T, assume_a="gen").T
        except (linalg.LinAlgError, linalg.LinAlgWarning, ValueError):
            return None
    return np.asarray(solved.reshape(p, q, p).swapaxes(0, 1))


def _log_det(matrix: Array) -> float:
    sign, value = np.linalg.slogdet(matrix)
    return float(value) if sign > 0 else -np.inf
