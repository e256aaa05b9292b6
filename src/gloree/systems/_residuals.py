r"""Tests of what a free run leaves: whether it is white, and depends on the input.

The residual of a free run holds all noise of the system, and noise that enters before the output is
filtered: it need not be white, and a test of whiteness says what the noise is like, not whether the
model is right. Whether it is right, the input tells: with the lagged inputs Phi and the derivatives
J of the free run, least squares leave r = (I - P) e, P the projection on J, so that

.. math:: c = \Phi^T r = \Phi_\perp^T e, \qquad \mathrm{cov}(c) = \Phi_\perp^T \Omega \Phi_\perp,
    \qquad \Phi_\perp = (I - P)^T \Phi,

holds for coloured noise of covariance Omega and accounts for the weights that were fitted
(:eq:`control-residuals`, compare [1]_).

References
----------
.. [1] T. Soderstrom and P. Stoica, "System Identification" (1989), section 11.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree._parameters import check_integer
from gloree.diagnostics import check_level
from gloree.sequences import Array
from gloree.systems._channels import Channels
from gloree.systems._noise import fit_noise
from gloree.systems._uncertainty import AtRecords, not_at_least_squares

N_LAGS = 25  # of the tests, where nobody chooses
DETERMINED = 1e-6
"""Share of its variance that must be left of a correlation: what weights were fitted to is zero by
construction."""


@dataclass(frozen=True)
class ResidualTests(Brief):
    """Whiteness of residuals, and their correlation with the inputs; printing it gives a table.

    Attributes
    ----------
    lags : ndarray of int of shape (n_lags,)
        1, 2, ..., of `autocorrelation`.
    autocorrelation : ndarray of shape (n_lags, n_outputs)
    white_limit : float
        Half-width of the band for white residuals.
    whiteness : ndarray of shape (n_outputs,)
        p-values of the portmanteau test of Ljung and Box.
    noise_order : int
        Order of the autoregression that describes the residuals; 0 for white ones.
    input_lags : ndarray of int of shape (2 n_lags + 1,)
        -n_lags, ..., n_lags: residuals so many steps after the input.
    cross_correlation, cross_limits : ndarray of shape (2 n_lags + 1, n_outputs, n_inputs)
        Correlation of residuals with inputs, and half-widths of their bands under coloured noise.
    dynamics, feedback : ndarray of shape (n_outputs, n_inputs)
        p-values of all correlations at lags of 0 and more together (small: the model misses how the
        output follows the input), and at negative ones, with whitened inputs (small: the input
        follows the output).
    level : float
        Of the bands, each lag for itself.
    channels : Channels
    """

    lags: Array = field(repr=False)
    autocorrelation: Array = field(repr=False)
    white_limit: float
    whiteness: Array
    noise_order: int
    input_lags: Array = field(repr=False)
    cross_correlation: Array = field(repr=False)
    cross_limits: Array = field(repr=False)
    dynamics: Array
    feedback: Array
    level: float
    channels: Channels

    def rows(self) -> list[tuple[str, str, str]]:
        """Lines of the table: test, p-value, and what it says."""
        lines = []
        alpha = 1.0 - self.level
        for a, p in enumerate(self.whiteness):
            text = (
                "white" if p >= alpha else f"coloured (autoregression of order {self.noise_order})"
            )
            lines.append((f"whiteness of {self.channels.output_names[a]}", _p(float(p)), text))
        for a, b in np.ndindex(self.dynamics.shape):
            path = self.channels.path(a, b)
            for name, values, wrong in (
                ("dynamics", self.dynamics, "the model misses a part of them"),
                ("feedback", self.feedback, "the input follows the output"),
            ):
                p = values[a, b]
                lines.append((f"{name} {path}", _p(float(p)), "" if not p < alpha else wrong))
        return lines

    def __str__(self) -> str:
        rows = [("test", "p-value", ""), *self.rows()]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{a:<{width}}  {b:>8}  {c}".rstrip() for a, b, c in rows)


def _p(value: float) -> str:
    return "-" if not np.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def residual_tests(
    at: AtRecords,
    *,
    n_lags: int | None = None,
    level: float = 0.95,
    channels: Channels | None = None,
) -> ResidualTests:
    """Test the residuals of a free run along its training records.

    Parameters
    ----------
    at : AtRecords
        Made by `at_records` from a model and the records that it was fitted to.
    n_lags : int, optional
        25 by default, and at most a fourth of the longest record.
    level : float, default 0.95
        Of the bands.
    channels : Channels, optional

    Returns
    -------
    ResidualTests

    Raises
    ------
    ValueError
        If `n_lags` is not from 1 to the length of the longest record less one.

    Notes
    -----
    Correlations at negative lags with a smooth input are an echo of those at positive ones: that is
    why the test for feedback whitens the inputs first, by an autoregression.

    Where the residual is a nonlinear function of the input rather than noise, limits are those of
    noise with the same spectrum, and the tests show it as missed dynamics only so far as it is
    correlated with the input at one lag.
    """
    check_level(level)
    model = at.model
    m, p = model.n_inputs, model.n_outputs
    channels = channels or Channels.numbered(m, p)
    longest = max(r.shape[0] for r in at.residuals)
    K = min(N_LAGS, longest // 4) if n_lags is None else check_integer("n_lags", n_lags, 1)
    if not 1 <= K < longest:
        raise ValueError(f"`n_lags` is {n_lags}, expected from 1 to {longest - 1}")
    from scipy import stats  # slow to import

    quantile = float(stats.norm.ppf(0.5 + level / 2))
    auto, n = _autocorrelations(at, K)
    portmanteau = n * (n + 2) * np.sum(auto**2 / (n - np.arange(1, K + 1))[:, None], axis=0)
    whiteness = stats.chi2.sf(portmanteau, K)

    lags = np.arange(-K, K + 1)
    shape = (lags.size, p, m)
    correlations, limits = np.zeros(shape), np.full(shape, np.inf)
    dynamics, feedback = np.full((p, m), np.nan), np.full((p, m), np.nan)
    spread = np.sqrt(np.maximum(np.diag(at.noise.covariance), 1e-300))
    seen = AlongDerivatives.of(at)
    inputs = [windows[:, :m] for windows in at.inputs]
    whitened = _whitened(inputs)
    for a, b in np.ndindex(p, m):
        features = _lagged(at, [u[:, b] for u in inputs], K)
        total, covariance, plain, power, least = seen.correlations(features, a)
        scale = float(np.sqrt(power / lags.size * n) * spread[a]) or 1.0
        correlations[:, a, b] = total / scale
        limits[:, a, b] = quantile * np.sqrt(np.maximum(np.diag(covariance), 0.0)) / scale
        dynamics[a, b] = _joint(least, covariance, plain, lags >= 0)
        echoless = _lagged(at, [u[:, b] for u in whitened], K)
        _, covariance, plain, _, least = seen.correlations(echoless, a)
        feedback[a, b] = _joint(least, covariance, plain, lags < 0)
    return ResidualTests(
        np.arange(1, K + 1), auto, quantile / np.sqrt(n), whiteness, at.noise.order, lags,
        correlations, limits, dynamics, feedback, level, channels,
    )  # fmt: skip


def _autocorrelations(at: AtRecords, K: int) -> tuple[Array, int]:
    """Autocorrelations at lags 1, ..., K, (K, n_outputs), and the number of rows."""
    p = at.model.n_outputs
    sums, squares, n = np.zeros((K, p)), np.zeros(p), 0
    for record in at.residuals:
        seen = np.isfinite(record[:, 0])
        r = np.where(seen[:, None], record, 0.0)
        n += int(seen.sum())
        squares += np.sum(r**2, axis=0)
        for k in range(1, min(K + 1, r.shape[0])):
            sums[k - 1] += np.sum(r[k:] * r[:-k], axis=0)
    return sums / np.maximum(squares, 1e-300), n


def _whitened(inputs: list[Array]) -> list[Array]:
    """What an autoregression of the inputs leaves of them, of all channels together."""
    mean = np.concatenate(inputs).mean(axis=0)
    moved = [u - mean for u in inputs]
    coefficients, found = fit_noise(moved).coefficients, []
    for u in moved:
        left = u.copy()
        for k, A in enumerate(coefficients[: u.shape[0] - 1], start=1):
            left[k:] -= u[:-k] @ A.T
        found.append(left)
    return found


def _lagged(at: AtRecords, columns: list[Array], K: int) -> tuple[Array, ...]:
    """An input at lags -K, ..., K less its mean, (n_rows, 2 K + 1), for each record.

    Column k holds u_{t-k} at row t of the outputs, zero beyond the record and where the outputs are
    missing, so that its product with the residual is their covariance.
    """
    mean = np.concatenate(columns).mean()
    found = []
    for column, residual in zip(columns, at.residuals, strict=True):
        u, n = column - mean, column.shape[0]
        f = np.zeros((n, 2 * K + 1))
        for place, k in enumerate(range(-K, K + 1)):
            if 0 <= k < n:
                f[k:, place] = u[: n - k]
            elif 0 < -k < n:
                f[:k, place] = u[-k:]
        f[~np.isfinite(residual[:, 0])] = 0.0
        found.append(f)
    return tuple(found)


@dataclass(frozen=True)
class AlongDerivatives:
    """What all correlations of residuals need: Omega W J of each record, and J^T W Omega W J.

    `left` (n_weights,) is the step from the model to the least squares of the records, H^+ J^T W r:
    the limits are those of residuals there, (I - P) r, and a fit ends a little before. It is zero
    for a model that is far from there, whose residuals show what it misses.
    """

    at: AtRecords
    through: tuple[Array, ...] = field(repr=False)
    meat: Array = field(repr=False)
    left: Array = field(repr=False)

    @classmethod
    def of(cls, at: AtRecords) -> AlongDerivatives:
        """Filter the derivatives by the covariance of the noise."""
        weighted = [at.weighted(J) for J in at.jacobians]
        through = tuple(at.noise.applied(each) for each in weighted)
        pairs = zip(weighted, through, strict=True)
        meat = np.asarray(sum(np.einsum("tap,taq->pq", a, b) for a, b in pairs))
        far = bool(not_at_least_squares(at, meat))
        left = np.zeros_like(at.gradient) if far else at.bread @ at.gradient
        return cls(at, through, meat, left)

    def correlations(
        self, features: tuple[Array, ...], output: int
    ) -> tuple[Array, Array, Array, float, Array]:
        r"""Phi^T r at one output, its covariance, its variances if nothing was fitted, |Phi|^2.

        The last is what Phi^T r is at the least squares, which a fit ends near. With
        B = H^+ J^T Phi, :math:`\Phi_\perp = \Phi - W J B`.
        """
        at, k = self.at, features[0].shape[1]
        total, plain, mixed = np.zeros(k), np.zeros((k, k)), np.zeros((k, self.meat.shape[0]))
        crossed = np.zeros_like(mixed)
        for f, r, J, ojw in zip(features, at.residuals, at.jacobians, self.through, strict=True):
            total += f.T @ np.where(np.isfinite(r[:, output]), r[:, output], 0.0)
            plain += f.T @ at.noise.applied_to_one(f, output)
            mixed += f.T @ J[:, output]
            crossed += f.T @ ojw[:, output]
        back = at.bread @ mixed.T
        both = crossed @ back
        covariance = plain - both - both.T + back.T @ self.meat @ back
        power = float(sum(np.sum(f**2) for f in features))
        return total, covariance, np.diag(plain), power, total - mixed @ self.left


def _joint(total: Array, covariance: Array, plain: Array, chosen: NDArray[np.bool_]) -> float:
    """p-value of some correlations together, in the combinations that are left to be tested."""
    size = np.sqrt(np.maximum(plain[chosen], 1e-300))
    z = total[chosen] / size
    matrix = covariance[np.ix_(chosen, chosen)] / np.outer(size, size)
    values, vectors = np.linalg.eigh(matrix)
    used = values > DETERMINED * max(1.0, float(values.max(initial=0.0)))
    if not used.any():
        return float("nan")
    statistic = float(np.sum((vectors[:, used].T @ z) ** 2 / values[used]))
    from scipy import stats

    return float(stats.chi2.sf(statistic, int(used.sum())))
