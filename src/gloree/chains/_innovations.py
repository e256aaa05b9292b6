"""Laws of innovations with elliptical densities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from math import factorial
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, gammaln

import gloree.chains._linear_algebra as algebra
from gloree._brief import Brief
from gloree.chains._chain_rule import outer
from gloree.sequences import Array


class Innovations(Protocol):
    """Law of the innovations e of an autoregression, with a density."""

    @property
    def n_inputs(self) -> int:
        """Dimension of an innovation."""

    def log_density(self, e: Array) -> Array:
        """Log-density of every row, (n_rows,)."""

    def derivatives(self, e: Array, order: int) -> tuple[Array, ...]:
        """Derivatives of the log-density of orders 1 to `order`, (n_rows, n_inputs, ..) each."""

    def sample(self, rng: np.random.Generator, n_rows: int) -> Array:
        """Draw innovations, (n_rows, n_inputs)."""


@dataclass(frozen=True, eq=False)
class _Elliptical(ABC):
    """Density exp(phi(q)) with q = e^T P e and P the inverse of `scale`."""

    scale: Array

    def __post_init__(self) -> None:
        """Check the matrix."""
        raw = np.asarray(self.scale)
        size = raw.shape[0] if raw.ndim else 0
        object.__setattr__(self, "scale", algebra.positive_definite(self.scale, "scale", size))

    @property
    def n_inputs(self) -> int:
        """Dimension of an innovation."""
        return int(self.scale.shape[0])

    @cached_property
    def precision(self) -> Array:
        """P, (n_inputs, n_inputs)."""
        return algebra.frozen(algebra.inverse(self.scale))

    @cached_property
    def _root(self) -> Array:
        return np.asarray(np.linalg.cholesky(self.scale), dtype=np.float64)

    @cached_property
    def _half_log_determinant(self) -> float:
        return float(np.log(np.diag(self._root)).sum())

    def _squares(self, e: Array) -> Array:
        return np.asarray(np.einsum("ni,ni->n", e @ self.precision, e), dtype=np.float64)

    @abstractmethod
    def _radial(self, squares: Array, order: int) -> list[Array]:
        """Derivatives of phi at q, of orders 1 to `order`."""

    def derivatives(self, e: Array, order: int) -> tuple[Array, ...]:
        r"""Derivatives of phi(e^T P e) of orders 1 to `order`, (n_rows, n_inputs, ..) each.

        With F^a_k the k-th derivative of phi^(a)(e^T P e), and u = P e,

        .. math:: F^a_{k+1}[i, J] = 2 u_i F^{a+1}_k[J]
                  + 2 \sum_{j \in J} P_{ij} F^{a+1}_{k-1}[J - j]
        """
        u = e @ self.precision
        radial = self._radial(self._squares(e), order)
        matrix = self.precision[np.newaxis]

        @cache
        def tensor(a: int, k: int) -> Array:
            if k == 0:
                return radial[a - 1]
            total = 2 * outer(u, tensor(a + 1, k - 1))
            for place in range(k - 1):
                total += np.moveaxis(2 * outer(matrix, tensor(a + 1, k - 2)), 2, 2 + place)
            return total

        return tuple(tensor(0, k) for k in range(1, order + 1))


@dataclass(frozen=True, eq=False)
class GaussianInnovations(Brief, _Elliptical):
    """Innovations e ~ N(0, scale)."""

    def _radial(self, squares: Array, order: int) -> list[Array]:
        return [np.full_like(squares, -0.5 if a == 1 else 0.0) for a in range(1, order + 1)]

    def log_density(self, e: Array) -> Array:
        """Log-density of every row, (n_rows,)."""
        constant = self.n_inputs / 2 * np.log(2 * np.pi) + self._half_log_determinant
        return np.asarray(-0.5 * self._squares(e) - constant, dtype=np.float64)

    def sample(self, rng: np.random.Generator, n_rows: int) -> Array:
        """Draw innovations, (n_rows, n_inputs)."""
        return np.asarray(rng.standard_normal((n_rows, self.n_inputs)) @ self._root.T)


@dataclass(frozen=True, eq=False)
class StudentInnovations(Brief, _Elliptical):
    r"""Innovations with the multivariate t law of this scale matrix and `df` degrees of freedom.

    .. math:: \log p(e) = \text{const} - \tfrac{\nu + d}{2} \log(1 + e^T P e / \nu)
    """

    df: float

    def __post_init__(self) -> None:
        """Check the matrix and the degrees of freedom."""
        super().__post_init__()
        object.__setattr__(self, "df", check_df(self.df))

    def _radial(self, squares: Array, order: int) -> list[Array]:
        half, away = -(self.df + self.n_inputs) / 2, self.df + squares
        return [half * (-1) ** (a - 1) * factorial(a - 1) / away**a for a in range(1, order + 1)]

    def log_density(self, e: Array) -> Array:
        """Log-density of every row, (n_rows,)."""
        d, df = self.n_inputs, self.df
        # Gamma((df + d) / 2) / Gamma(df / 2), by a function that loses nothing where df is large
        constant = gammaln(d / 2) - betaln(d / 2, df / 2) - d / 2 * np.log(df * np.pi)
        tail = (df + d) / 2 * np.log1p(self._squares(e) / df)
        return np.asarray(constant - self._half_log_determinant - tail, dtype=np.float64)

    def sample(self, rng: np.random.Generator, n_rows: int) -> Array:
        """Draw innovations, (n_rows, n_inputs)."""
        normal = rng.standard_normal((n_rows, self.n_inputs)) @ self._root.T
        return np.asarray(normal / np.sqrt(rng.chisquare(self.df, n_rows) / self.df)[:, np.newaxis])


def innovations_of(
    scale: ArrayLike, df: float | None, name: str
) -> GaussianInnovations | StudentInnovations:
    """Gaussian innovations, or Student's where there are degrees of freedom."""
    raw = np.asarray(scale)
    size = raw.shape[0] if raw.ndim == 2 else 0
    if size == 0:
        raise ValueError(f"`{name}` has shape {raw.shape}, expected (n_inputs, n_inputs)")
    matrix = algebra.positive_definite(scale, name, size)
    if df is None:
        return GaussianInnovations(matrix)
    return StudentInnovations(matrix, check_df(df))


def check_df(df: object) -> float:
    """Degrees of freedom as a float above 0."""
    number = isinstance(df, (int, float, np.integer, np.floating)) and not isinstance(df, bool)
    if not number or not (np.isfinite(df) and df > 0):  # type: ignore[call-overload, operator]
        raise ValueError(f"`df` is {df!r}, expected a finite number above 0")
    return float(df)  # type: ignore[arg-type]
