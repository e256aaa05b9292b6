r"""Regression moments: the average l-th derivative of a polynomial fit.

Least squares of y on features phi of the window around t gives B = E[phi phi^T]^+ E[phi y^T], and

.. math:: T = \sum_p B_p \otimes E[\nabla^l_{x_t} \phi_p]

estimates the same tensor as E[y (x) S_l], with the variance of the residual instead of that of
the signal, for inputs of nearly any law. Inputs are whitened, x~ = W (x - m), and so is the
Gaussian score, s~ = L^-1 s with L L^T = K; everything here is in the coordinates of x~, where a
row a of the input weights is a~ with a = W^T a~.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy import linalg

from gloree._arrays import (
    column_squares,
    contiguous,
    empty,
    is_tensor,
    like,
    namespace,
    room,
    take_rows,
    to_host,
    zeros,
)
from gloree._brief import Brief
from gloree._monomials import (
    apply_to_modes,
    block_rows,
    monomial_factorials,
    n_monomials,
    symmetric_powers,
    unpack_symmetric,
)
from gloree._sums import Sums
from gloree.chains import HermiteLaw
from gloree.moments._coordinates import Coordinates, Whitening
from gloree.sequences import Array, Batch, IntArray

UNDETERMINED = 1e-5
"""Derivative of a combination of white features of mean square one that adds up to nothing, beyond
which it is none of rounding: eigenvectors of the Gram matrix are known to 1e-16 / 1e-9 = 1e-7."""


@dataclass(frozen=True)
class RegressionFeatures:
    """Features of a regression moment.

    * ``xreg``: 1, first step, last step, and the monomials of x~ up to degree l. Exact for i.i.d.
      inputs of any law, and for any inputs when there is no recurrence.
    * ``union``: 1 and the monomials of x~ and of s~ up to degree l. It contains S_l of a Gaussian
      chain too, so it is exact for those with any recurrence; interior steps only.

    Attributes
    ----------
    whitening : Whitening
    degree : int
        l, 1 or more.
    chain : HermiteLaw or None
        For ``union``; None means ``xreg``.
    """

    whitening: Whitening
    degree: int
    chain: HermiteLaw | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the coordinates, so that sums in different ones are never merged."""
        parts = [self.whitening.mean, self.whitening.matrix]
        if self.chain is not None:
            parts += [self.chain.precision_blocks(0), self.chain.precision_blocks(1)]
        joined = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        name = "xreg" if self.chain is None else "union"
        return f"{name}, degree {self.degree}, {hashlib.sha256(joined).hexdigest()[:12]}"

    @property
    def n_offsets(self) -> int:
        """Features that do not depend on the inputs."""
        return 3 if self.chain is None else 1

    @property
    def power_sizes(self) -> tuple[int, ...]:
        """Monomials of each degree 1, .., l of one vector."""
        d = self.whitening.n_directions
        return tuple(n_monomials(d, degree) for degree in range(1, self.degree + 1))

    @property
    def size(self) -> int:
        """Number of features."""
        return self.n_offsets + (1 if self.chain is None else 2) * sum(self.power_sizes)

    @property
    def score_map(self) -> Array:
        """J = d s~ / d x~ of interior steps, the transpose of L: (n_directions, n_directions)."""
        if self.chain is None:
            raise ValueError("`xreg` features hold no score")
        inverse = self.whitening.inverse
        covariance = inverse.T @ self.chain.precision_blocks(0)[0] @ inverse
        return np.asarray(np.linalg.cholesky(covariance).T, dtype=np.float64)

    def rows(self, batch: Batch) -> IntArray:
        """Rows of a batch that enter the regression."""
        counted = batch.counted_rows
        if self.chain is None:
            return counted
        before, after = self.chain.context
        inside = (batch.steps_before[counted] >= before) & (batch.steps_after[counted] >= after)
        return counted[inside]

    def evaluate(self, batch: Batch, rows: IntArray, scores: Array | None) -> Array:
        """Features of some rows, shape (size, len(rows)); `scores` are those of all rows."""
        features: Array = empty(batch.X, (self.size, rows.shape[0]))
        features[0] = 1.0
        if self.chain is None:
            features[1] = like(features, batch.steps_before[rows] == 0)
            features[2] = like(features, batch.steps_after[rows] == 0)
        start = self.n_offsets
        vectors = [self.whitening(take_rows(batch.X, rows))]
        if scores is not None:
            vectors.append(take_rows(scores, rows))
        for vector in vectors:
            columns = contiguous(vector.T)
            for degree, size in enumerate(self.power_sizes, start=1):
                symmetric_powers(columns, degree, features[start : start + size])
                start += size
        return features

    def whitened_scores(self, batch: Batch) -> Array | None:
        """Return s~ of all rows, or None for ``xreg``."""
        if self.chain is None:
            return None
        root, found = self.score_map.T, self.chain.scores(batch)
        projected = found @ like(found, self.whitening.inverse)
        scores: Array
        if is_tensor(projected):
            solve = namespace(projected).linalg.solve
            scores = contiguous(solve(like(projected, root), projected.T).T)
        else:
            scores = linalg.solve_triangular(root, projected.T, lower=True).T
        return scores

    def tensor(self, coefficients: Array) -> Array:
        """Average l-th derivative of a fit with coefficients of shape (size, n_outputs)."""
        d, degree = self.whitening.n_directions, self.degree
        total = np.zeros((coefficients.shape[1],) + (d,) * degree)
        start = self.n_offsets
        for part in range(1 if self.chain is None else 2):
            first, start = start + sum(self.power_sizes[:-1]), start + sum(self.power_sizes)
            top = coefficients[first:start].T
            derivative = unpack_symmetric(top * monomial_factorials(d, degree), d, degree)
            total += apply_to_modes(derivative, self.score_map.T, degree) if part else derivative
        return total


@dataclass(frozen=True)
class RegressionSums(Sums):
    """Normal equations of a regression moment.

    Attributes
    ----------
    features : str
        Fingerprint of the features.
    n_rows : float
    gram : ndarray of shape (size, size)
        Sum of phi phi^T; of shape (0, 0) if only the right-hand side was summed.
    cross : ndarray of shape (size, n_outputs)
        Sum of phi y^T.
    squares : ndarray of shape (n_outputs,)
        Sum of y^2.
    """

    features: str = field(metadata={"setting": True})
    n_rows: float
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)
    squares: Array


def regression_sums(
    batch: Batch,
    features: RegressionFeatures,
    *,
    targets: Callable[[Batch], Array] | None = None,
    gram: bool = True,
) -> RegressionSums:
    """Sums of one batch: the map of a regression pass.

    Parameters
    ----------
    batch : Batch
    features : RegressionFeatures
    targets : callable, optional
        Outputs to use; the batch's own by default.
    gram : bool, default True
        Whether to sum phi phi^T too, the larger part of the work.

    Notes
    -----
    Time O(n_rows size (size / 2 + n_outputs)), memory a cache-sized block and the sums.
    """
    outputs = batch.targets if targets is None else targets(batch)
    rows, scores = features.rows(batch), features.whitened_scores(batch)
    size, n_outputs = features.size, outputs.shape[1]
    total_gram = zeros(outputs, (size, size) if gram else (0, 0))
    total_cross = zeros(outputs, (size, n_outputs))
    squares = zeros(outputs, (n_outputs,))
    step = block_rows(size, room(outputs))
    for begin in range(0, rows.shape[0], step):
        chosen = rows[begin : begin + step]
        phi = features.evaluate(batch, chosen, scores)
        values = take_rows(outputs, chosen)
        weighted = phi
        if batch.weights is not None:
            own = like(phi, batch.weights[chosen])
            weighted, values = phi * own, values * own[:, None] ** 0.5
        if gram:
            total_gram += weighted @ phi.T
        total_cross += weighted @ take_rows(outputs, chosen)
        squares += column_squares(values)
    totals = map(to_host, (total_gram, total_cross, squares))
    count = rows.shape[0] if batch.weights is None else batch.weights[rows].sum()
    return RegressionSums(features.fingerprint, float(count), *totals)


@dataclass(frozen=True)
class RegressionSolver(Brief):
    """A factored Gram matrix: regression moments of any outputs on the same features.

    It is a `ResidualMoment`: the outputs may be the residuals of a model.

    Attributes
    ----------
    features : RegressionFeatures
    rank : int
        Numerical rank; less than `features.size` where features are collinear (the minimum-norm
        fit is taken then).
    """

    features: RegressionFeatures
    rank: int
    _root: Array = field(repr=False)
    prepared: ClassVar[bool] = True

    @classmethod
    def from_sums(
        cls, features: RegressionFeatures, sums: RegressionSums, *, rtol: float = 1e-9
    ) -> RegressionSolver:
        """Factor the Gram matrix of a pass.

        After features are scaled to unit mean square, eigenvalues below the fraction `rtol` of the
        largest count as zero.
        """
        gram = sums.gram / sums.n_rows
        scale = np.sqrt(np.diag(gram))
        inverse_scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        scaled = gram * np.outer(inverse_scale, inverse_scale)
        lower, failed = linalg.lapack.dpotrf(scaled, lower=True, clean=True)
        if failed == 0 and float(np.diag(lower).min()) > np.sqrt(rtol):
            inverse = linalg.solve_triangular(lower, np.diag(inverse_scale), lower=True)
            return cls(features, scaled.shape[0], inverse.T)
        values, vectors = np.linalg.eigh(scaled)
        kept = values > rtol * values[-1]
        root = inverse_scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])
        return cls(features, int(kept.sum()), root)

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the tensor."""
        return Coordinates.of_whitening(self.features.whitening)

    def sums(self, batch: Batch, residuals: Array) -> RegressionSums:
        """Right-hand side of the normal equations, for residuals of shape (n_rows, n_outputs)."""
        return regression_sums(batch, self.features, targets=lambda _: residuals, gram=False)

    def coefficients(self, sums: RegressionSums) -> Array:
        """Least-squares coefficients B, shape (size, n_outputs)."""
        fitted: Array = self._root @ (self._root.T @ (sums.cross / sums.n_rows))
        return fitted

    def tensor(self, sums: RegressionSums) -> Array:
        """Regression moment, shape (n_outputs, n_directions, .., n_directions)."""
        return self.features.tensor(self.coefficients(sums))

    def determines(self, sums: RegressionSums) -> bool:
        """Whether the features of these sums determine the tensor: no collinear ones are in it."""
        if self.rank == self.features.size:
            return True
        size = np.sqrt(np.diag(sums.gram / sums.n_rows))
        unit = np.divide(1.0, size, out=np.ones_like(size), where=size > 0)
        free = np.eye(self.features.size) - self._root @ (self._root.T @ (sums.gram / sums.n_rows))
        # columns are combinations of features that add up to nothing, in units of each
        return bool(np.abs(self.features.tensor(free * unit)).max() <= UNDETERMINED)

    def residual_variance(self, sums: RegressionSums) -> Array:
        """Mean square that the fit leaves, for each output (rows of the Gram only)."""
        explained = self._root.T @ (sums.cross / sums.n_rows)
        left: Array = sums.squares / sums.n_rows - np.einsum("pa,pa->a", explained, explained)
        return np.maximum(left, 0.0)
