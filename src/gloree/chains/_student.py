"""Vector autoregressions with Student-t innovations."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

import gloree.chains._linear_algebra as algebra
from gloree._parameters import check_integer
from gloree.chains._chain_rule import composed
from gloree.chains._gaussian_var import GaussianVAR
from gloree.chains._innovations import check_df, innovations_of
from gloree.chains._markov import MarkovLaw
from gloree.sequences import Array, as_sequences


class StudentVAR(MarkovLaw):
    r"""Vector autoregression of order one with innovations from a multivariate t law.

    .. math:: x_t = m + \Phi (x_{t-1} - m) + e_t, \qquad
              p(e) \propto (1 + e^T \Sigma^{-1} e / \nu)^{-(\nu + d)/2}

    Parameters
    ----------
    coefficients : array of shape (n_inputs, n_inputs)
        Phi.
    innovation_scale : array of shape (n_inputs, n_inputs)
        Sigma, positive definite; the covariance of e is nu / (nu - 2) times it if nu > 2.
    df : float
        nu, degrees of freedom.
    mean : array of shape (n_inputs,), optional
        m; zero by default.
    initial_scale : array of shape (n_inputs, n_inputs), optional
        Scale matrix of x_1, which has a t law of `df` degrees of freedom about m; by default that
        of the stationary covariance. (The stationary law itself has no closed form.)

    Attributes
    ----------
    spectral_radius : float

    Raises
    ------
    NonStationaryChainError
        If the spectral radius is 1 or more, and no `initial_scale` was given.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import StudentVAR
    >>> law = StudentVAR(0.5 * np.eye(2), np.eye(2), df=5)
    >>> law
    StudentVAR(n_inputs=2, df=5, spectral_radius=0.5)
    >>> fitted = StudentVAR.fit(law.sample(400, 20, random_state=0))
    >>> bool(abs(fitted.df - 5) < 1)
    True
    """

    def __init__(
        self,
        coefficients: ArrayLike,
        innovation_scale: ArrayLike,
        df: float,
        mean: ArrayLike | None = None,
        *,
        initial_scale: ArrayLike | None = None,
    ) -> None:
        # shapes, the mean and the stationary scale are those of the Gaussian chain
        twin = GaussianVAR(coefficients, innovation_scale, mean, initial_covariance=initial_scale)
        if twin.order != 1:
            raise ValueError(
                f"`coefficients` has shape {np.shape(coefficients)}, expected (n_inputs, "
                f"n_inputs): a StudentVAR has order 1"
            )
        self.coefficients, self.mean = twin.coefficients[0], twin.mean
        self.df, self.spectral_radius = check_df(df), twin.spectral_radius
        self._given_first = twin.initial_covariance
        self.innovations = innovations_of(twin.innovation_covariance, df, "innovation_scale")
        self._first = innovations_of(twin.first_steps_covariance, df, "initial_scale")

    def __repr__(self) -> str:
        return (
            f"StudentVAR(n_inputs={self.n_inputs}, df={self.df:.4g}, "
            f"spectral_radius={self.spectral_radius:.3g})"
        )

    def __str__(self) -> str:
        return f"VAR(1) with t innovations of {self.df:.3g} degrees of freedom"

    @property
    def n_inputs(self) -> int:
        """Dimension of one step."""
        return int(self.mean.shape[0])

    @property
    def arguments(self) -> dict[str, object]:
        """What the law was made of: ``StudentVAR(**law.arguments)`` is the same law."""
        return {
            "coefficients": self.coefficients,
            "innovation_scale": self.innovation_scale,
            "df": self.df,
            "mean": self.mean,
            "initial_scale": self._given_first,
        }

    @cached_property
    def condition(self) -> float:
        """What rounding errors are multiplied by: `GaussianVAR.condition` of these matrices."""
        first, scale = self._given_first, self.innovation_scale
        return GaussianVAR(self.coefficients, scale, initial_covariance=first).condition

    @property
    def innovation_scale(self) -> Array:
        """Sigma, (n_inputs, n_inputs)."""
        return self.innovations.scale

    def _residuals(self, new: Array, old: Array) -> Array:
        return np.asarray(new - self.mean - (old - self.mean) @ self.coefficients.T)

    def _log_first(self, x: Array) -> Array:
        return self._first.log_density(x - self.mean)

    def _log_next(self, new: Array, old: Array) -> Array:
        return self.innovations.log_density(self._residuals(new, old))

    def _first_derivatives(self, x: Array, order: int) -> tuple[Array, ...]:
        return self._first.derivatives(x - self.mean, order)

    def _new_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        return self.innovations.derivatives(self._residuals(new, old), order)

    def _old_derivatives(self, new: Array, old: Array, order: int) -> tuple[Array, ...]:
        outside = self._new_derivatives(new, old, order)
        return composed(outside, [-self.coefficients[np.newaxis], *[None] * (order - 1)], order)

    def _draw_first(self, rng: np.random.Generator, n_rows: int) -> Array:
        return self.mean + self._first.sample(rng, n_rows)

    def _draw_next(self, rng: np.random.Generator, old: Array) -> Array:
        new = self.mean + (old - self.mean) @ self.coefficients.T
        return np.asarray(new + self.innovations.sample(rng, old.shape[0]))

    @classmethod
    def fit(
        cls, X: object, *, lengths: ArrayLike | None = None, max_iterations: int = 200
    ) -> StudentVAR:
        r"""Maximum likelihood given the first steps, by expectation and maximisation.

        With weights w_t = (nu + d) / (nu + e_t^T Sigma^-1 e_t), the least squares of every step on
        the one before is weighted by w, Sigma is the mean of w e e^T, and nu maximises the
        likelihood [1]_.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
        lengths : sequence of int, optional
            Steps of each sequence in a flat `X`.
        max_iterations : int, default 200
            At least 1. Iterations end before when none moves a coefficient by 1e-6 of its spread.

        Raises
        ------
        NonStationaryChainError, ValueError
            As in `GaussianVAR.fit`, where it starts.

        Warns
        -----
        RuntimeWarning
            If `max_iterations` ended it.

        References
        ----------
        .. [1] C. Liu, D. B. Rubin, ML estimation of the t distribution using EM and its extensions,
           ECM and ECME, Statistica Sinica 5 (1995).
        """
        max_iterations = check_integer("max_iterations", max_iterations, 1)
        batch = as_sequences(X, lengths=lengths).whole()
        # in units of their own about their mean, which the iterations end by
        centre, units = batch.X.mean(axis=0), batch.X.std(axis=0)
        start = GaussianVAR.fit(X, lengths=lengths).shifted(centre).scaled(1.0 / units)
        later = np.flatnonzero(batch.local >= 1)
        values = (batch.X - centre) / units
        old, new = np.column_stack((np.ones(later.size), values[later - 1])), values[later]
        d, df = start.n_inputs, 10.0
        slopes = np.vstack(
            (start.mean - start.coefficients[0] @ start.mean, start.coefficients[0].T)
        )
        scale = start.innovation_covariance * (df - 2) / df
        for _ in range(max_iterations):
            residuals = new - old @ slopes
            squares = np.einsum("ni,ni->n", residuals @ algebra.inverse(scale), residuals)
            df = _best_df(squares, d, df)
            weights = (df + d) / (df + squares)
            before = slopes
            weighted = old * weights[:, np.newaxis]
            slopes = np.linalg.solve(weighted.T @ old, weighted.T @ new)
            residuals = new - old @ slopes
            updated = (residuals * weights[:, np.newaxis]).T @ residuals / later.size
            moved = np.abs(slopes - before).max() + np.abs(updated - scale).max() / scale.max()
            scale = (updated + updated.T) / 2
            if moved < 1e-6 * max(1.0, float(np.abs(slopes).max())):
                break
        else:
            warnings.warn(
                f"`StudentVAR.fit` stopped at the limit of `max_iterations` = {max_iterations}, "
                f"before it settled: the last one moved a coefficient by {moved:.1e} of its spread",
                RuntimeWarning,
                stacklevel=2,
            )
        mean = np.linalg.solve(np.eye(d) - slopes[1:].T, slopes[0])
        return cls(
            slopes[1:].T * (units[:, np.newaxis] / units),
            scale * np.outer(units, units),
            df,
            mean * units + centre,
        )


def _best_df(squares: Array, d: int, start: float) -> float:
    """Degrees of freedom of greatest likelihood for given squares e^T Sigma^-1 e."""

    def loss(log_df: float) -> float:
        df = np.exp(log_df)
        constant = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df)
        return float(-(constant - (df + d) / 2 * np.log1p(squares / df).mean()))

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(1e4)), method="bounded")
    return float(np.exp(found.x)) if loss(found.x) <= loss(np.log(start)) else start
