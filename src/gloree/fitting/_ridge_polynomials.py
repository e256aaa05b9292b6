r"""Sums of ridge polynomials in the metric of the data: units of inputs that take few values.

Where inputs take few values (x_j^2 = 1, one-hot columns, a few hundred tokens), monomials of them
are dependent and the entries of a moment tensor are not defined. The polynomial that was fitted
is, as a function on these inputs, and with R^T R the Gram matrix of the monomials

.. math:: \min_{|a_i| = 1,\, w} \Big\| R \Big( B - \sum_{i, m} \kappa_m(a_i) w_{im}^T \Big)
          \Big\|^2, \qquad (a \cdot v)^m = \kappa_m(a)^T \phi(v),

is the best network of polynomial units of it, exact for any law of the inputs, with no pass over
the data. W is eliminated; the rest is Levenberg-Marquardt on spheres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from math import factorial

import numpy as np

from gloree._monomials import monomial_factorials
from gloree.fitting._derivatives import Derivatives
from gloree.sequences import Array, IntArray

MOST_STEPS, LEAST_GAIN = 60, 1e-9
"""Steps at most, and gain of a step relative to the error below which no other follows."""

DEPENDENT = 1e-6
"""Singular values of the scaled features that count as zero, relative to the largest."""

BETTER = 1e-6
"""Part of its error by which another start has to be better."""


@dataclass(frozen=True)
class RidgePowers:
    """Coefficients kappa_m(a) of (a . v)^m in the monomials of v, and their derivatives in a."""

    n_directions: int
    degree: int

    @cached_property
    def monomials(self) -> list[IntArray]:
        """Variables of each monomial of degree m, (n_monomials, m), for m = 1, .., `degree`."""
        variables = range(self.n_directions)
        return [
            np.array(list(combinations_with_replacement(variables, m)), dtype=np.int64)
            for m in range(1, self.degree + 1)
        ]

    @cached_property
    def counts(self) -> list[Array]:
        """Number of orders in which the variables of each monomial can stand."""
        return [
            factorial(m) / monomial_factorials(self.n_directions, m)
            for m in range(1, self.degree + 1)
        ]

    def coefficients(self, A: Array) -> Array:
        """All kappa_m(a_i), zero outside of their degree: (n_monomials, degree, n_units)."""
        blocks = [
            count[:, None] * np.prod(A.T[index], axis=1)
            for index, count in zip(self.monomials, self.counts, strict=True)
        ]
        found = np.zeros((sum(len(block) for block in blocks), self.degree, A.shape[0]))
        begin = 0
        for m, block in enumerate(blocks):
            found[begin : begin + len(block), m] = block
            begin += len(block)
        return found

    def slopes(self, root: Array, A: Array) -> Array:
        """Products R d kappa_m / d a, (degree, n_units, rank, n_directions)."""
        found = np.zeros((self.degree, A.shape[0], root.shape[0], self.n_directions))
        begin = 0
        for m, (index, count) in enumerate(zip(self.monomials, self.counts, strict=True)):
            end = begin + index.shape[0]
            part, entries = root[:, begin:end] * count, A.T[index]
            for place in range(m + 1):
                others = np.prod(np.delete(entries, place, axis=1), axis=1)
                for variable in range(self.n_directions):
                    here = index[:, place] == variable
                    found[m, :, :, variable] += (part[:, here] @ others[here]).T
            begin = end
        return found


@dataclass(frozen=True)
class RidgeFit:
    """Unit directions A, (n_units, n_directions), and W, (degree, n_units, n_outputs).

    `error` is what is left, per row and in units of the noise of each output; W is in these units.
    """

    directions: Array
    loadings: Array
    error: float


@dataclass(frozen=True)
class _Point:
    """A, with W eliminated: residual, basis of the features, and W."""

    directions: Array
    error: float
    residual: Array
    basis: Array
    loadings: Array


def fit_ridges(found: Derivatives, directions: Array, *, max_steps: int = MOST_STEPS) -> RidgeFit:
    """Best ridge polynomials from a start; with `max_steps` 0 the loadings of these directions.

    Time for each step O(rank n_monomials degree n_units n_directions).
    """
    search = _Search(found)
    point, damping = search.at(directions), 1e-3
    for _ in range(max_steps):
        after, damping = search.step(point, damping)
        if after is None:
            break
        gain, point = point.error - after.error, after
        if gain < LEAST_GAIN * point.error:
            break
    return RidgeFit(point.directions, point.loadings, point.error)


class _Search:
    def __init__(self, found: Derivatives) -> None:
        features = found.features
        self.powers = RidgePowers(features.n_directions, features.degree)
        self.root = found.root
        self.target = found.root @ (found.coefficients / found.scale)

    def at(self, A: Array) -> _Point:
        """Eliminate W: least squares on R kappa_m(a_i)."""
        degree, k = self.powers.degree, A.shape[0]
        flat = self.root @ self.powers.coefficients(A).reshape(self.root.shape[1], -1)
        size = np.linalg.norm(flat, axis=0)
        size[size == 0.0] = 1.0
        left, values, right = np.linalg.svd(flat / size, full_matrices=False)
        kept = values > DEPENDENT * values[0]
        basis, along = left[:, kept], left[:, kept].T @ self.target
        loadings = (right[kept].T / values[kept]) @ along / size[:, None]
        residual = self.target - basis @ along
        error = float(np.sum(residual**2))
        return _Point(A, error, residual, basis, loadings.reshape(degree, k, -1))

    def step(self, point: _Point, damping: float) -> tuple[_Point | None, float]:
        """A damped step that lowers the error, and the next damping; None where there is none."""
        A, W = point.directions, point.loadings
        k, r = A.shape
        flat = self.powers.slopes(self.root, A).transpose(2, 0, 1, 3)
        flat = flat.reshape(self.root.shape[0], -1)
        # W follows: what it makes up for is no part of the slope
        flat = flat - point.basis @ (point.basis.T @ flat)
        gram = (flat.T @ flat).reshape(len(W), k, r, len(W), k, r)
        shared = np.einsum("mia,nja->minj", W, W)
        H = np.einsum("mipnjs,minj->ipjs", gram, shared).reshape(k * r, k * r)
        toward = (point.residual.T @ flat).reshape(-1, len(W), k, r)
        g = np.einsum("amij,mia->ij", toward, W).ravel()
        diagonal = np.diag(H)
        scale = np.maximum(diagonal, 1e-10 * diagonal.max(initial=0.0) + 1e-300)
        for _ in range(12):
            move = np.linalg.solve(H + damping * np.diag(scale), g).reshape(k, r)
            # rows stay on the sphere
            move -= np.sum(move * A, axis=1, keepdims=True) * A
            moved = A + move
            after = self.at(moved / np.linalg.norm(moved, axis=1, keepdims=True))
            if after.error < point.error:
                return after, max(damping / 5, 1e-9)
            damping *= 4
        return None, damping


def best_ridges(
    found: Derivatives, start: Array, rng: np.random.Generator, n_random: int
) -> RidgeFit:
    """Best of a start and so many at random."""
    best = fit_ridges(found, start)
    for _ in range(n_random):
        other = rng.standard_normal(start.shape)
        tried = fit_ridges(found, other / np.linalg.norm(other, axis=1, keepdims=True))
        if tried.error < best.error * (1.0 - BETTER):
            best = tried
    return best
