r"""The least-squares problem with the loadings eliminated, for any number of symmetric modes.

With A (rank x n, unit rows), g = A A^T and C = g^{o p} (elementwise power), the loadings are
eliminated, W = C^-1 b with b[m, a] = T_a(A_m, .., A_m), and

    f(A) = |R|^2 / (2 |T|^2),    R_a = sum_m W[m, a] A_m^{(x) p} - T_a

is minimised over A alone. With Om = W W^T / |T|^2 and B_j the matrix with rows g_ij^(p-1) A_i,

    G_m  = p / |T|^2  sum_a W[m, a] R_a(., A_m, .., A_m)
    H_jl = Om_jl ( p g_jl^(p-1) I + p (p-1) g_jl^(p-2) A_l A_j^T - p^2 B_j^T C^-1 B_l )

are its gradient and its Gauss-Newton Hessian. B_j lives in the span of the rows of A, so outside
that span H is the (rank x rank) matrix p Om o g^{o (p-1)} times the identity: a step costs
O((rank min(rank, n))^3) however large n is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

from ._result import FloatArray

# Keeps C factorable when two rows coincide; ten times rounding, so it never shows in a result.
GRAM_SHIFT = 2e-15


class Point(NamedTuple):
    """Everything known about one A."""

    components: FloatArray  # (rank, n)
    gram: FloatArray  # (rank, rank)
    factor: FloatArray  # lower Cholesky factor of C
    loadings: FloatArray  # (rank, n_slices)
    contraction: FloatArray  # (n_slices, n, rank): T_a(., A_m, .., A_m)
    loss: float

    def residual(self, problem: Problem) -> FloatArray:
        """Return R as a (n_slices, n^p) matrix."""
        powers = self.components
        for _ in range(problem.order - 1):
            powers = khatri_rao(powers, self.components)
        return np.asarray(self.loadings.T @ powers - problem.flat)


def khatri_rao(left: FloatArray, right: FloatArray) -> FloatArray:
    """Multiply rows by rows: (rank, m), (rank, n) -> (rank, m n)."""
    return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(left), -1))


class Problem:
    """The least-squares problem of one tensor of shape (n_slices, n, .., n), symmetric in n.

    `penalty` is the ridge mu: f gets mu |W|^2 / (2 |T|^2), and C becomes C + mu I.
    """

    def __init__(self, tensor: FloatArray, penalty: float = 0.0) -> None:
        self.tensor = np.ascontiguousarray(tensor)
        self.n_slices, self.size = tensor.shape[:2]
        self.order = tensor.ndim - 1
        self.penalty = penalty
        self.flat = self.tensor.reshape(self.n_slices, -1)
        self.matrix = self.tensor.reshape(self.n_slices * self.size, -1)
        self.squared_norm = float(np.vdot(self.flat, self.flat))

    def evaluate(self, components: FloatArray) -> Point:
        """Eliminate the loadings at `components` and compute the loss."""
        rank = len(components)
        gram = components @ components.T
        normal = gram**self.order
        normal.flat[:: rank + 1] += GRAM_SHIFT + self.penalty
        factor, failed = dpotrf(normal, lower=1)
        if failed:  # coinciding rows: a larger shift, as rare as it is harmless to a line search
            normal.flat[:: rank + 1] += 1e-8
            factor, failed = dpotrf(normal, lower=1)
        powers = components
        for _ in range(self.order - 2):
            powers = khatri_rao(powers, components)
        contraction = (self.matrix @ powers.T).reshape(self.n_slices, self.size, rank)
        projections = (contraction * components.T).sum(axis=1)
        loadings = dpotrs(factor, projections.T, lower=1)[0]
        full_powers = khatri_rao(powers, components)
        residual = loadings.T @ full_powers
        residual -= self.flat
        loss = float(np.vdot(residual, residual))
        if self.penalty:
            loss += self.penalty * float(np.vdot(loadings, loadings))
        return Point(
            components, gram, factor, loadings, contraction, loss / (2 * self.squared_norm)
        )

    def gradient(self, point: Point) -> FloatArray:
        """Return df/dA of the projected loss, on the tangent space of unit rows."""
        weights = point.loadings
        coupling = (weights @ weights.T) * point.gram ** (self.order - 1)
        pulled = (point.contraction * weights.T[:, None, :]).sum(axis=0).T
        slope = coupling @ point.components - pulled
        slope *= self.order / self.squared_norm
        slope -= (slope * point.components).sum(axis=1)[:, None] * point.components
        return np.asarray(slope)

    def squared_loadings(self, point: Point) -> FloatArray:
        """Return Om = W W^T / |T|^2."""
        return np.asarray(point.loadings @ point.loadings.T / self.squared_norm)


def gauss_newton_hessian(
    components: FloatArray, gram: FloatArray, factor: FloatArray, omega: FloatArray, order: int
) -> FloatArray:
    """Return the Hessian H, (rank n, rank n), in the coordinates of `components` (rank, n)."""
    rank, size = components.shape
    lower = gram ** (order - 1)
    rows = (lower[:, :, None] * components[:, None, :]).reshape(rank, rank * size)
    half = dtrtrs(factor, rows, lower=1)[0]
    hessian = np.asarray(half.T @ half)
    hessian *= -(order**2)
    blocks = hessian.reshape(rank, size, rank, size)
    left: FloatArray = components.T[None, :, :] * (order * (order - 1.0))
    if order > 2:
        left = left * (gram ** (order - 2))[:, None, :]
    blocks += left[:, :, :, None] * components[:, None, None, :]
    np.einsum("jplp->jlp", blocks)[...] += order * lower[:, :, None]
    blocks *= omega[:, None, :, None]
    return hessian


def add_gauge(hessian: FloatArray, components: FloatArray, scales: FloatArray) -> None:
    """Add scale_j A_j A_j^T to block j: W absorbs the length of a row, so H is zero there."""
    rank, size = components.shape
    blocks = hessian.reshape(rank, size, rank, size)
    outer = components[:, :, None] * components[:, None, :]
    np.einsum("jpjq->jpq", blocks)[...] += scales[:, None, None] * outer
