"""The least-squares problem with its loadings eliminated, and its derivatives.

With A (rank x n, unit rows), p symmetric modes, g = A A^T and C = g^{o p} (elementwise power), the
loadings W = C^-1 b, b[m, a] = T_a(A_m, .., A_m), are eliminated, and f(A) = |R|^2 / (2 |T|^2) with
R_a = sum_m W[m, a] A_m^{(x) p} - T_a is minimised over A alone (:eq:`varpro`). Its gradient is
:eq:`varpro-gradient`, and its Gauss-Newton Hessian, Om = W W^T / |T|^2, is :eq:`varpro-hessian`,

    H_jl = Om_jl ( p g_jl^(p-1) I + p (p-1) g_jl^(p-2) A_l A_j^T - p^2 B_j^T C^-1 B_l ).

B_j, with rows g_ij^(p-1) A_i, lies in the span of the rows of A. So outside that span H is the
(rank x rank) matrix p Om o g^{o (p-1)} times the identity: a step costs O((rank min(rank, n))^3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

from ._tensor import FloatArray, multiply_modes

# Keeps C positive definite when two rows coincide; ten times rounding, so no result shows it.
GRAM_SHIFT = 2e-15
# Slices are multiples of one matrix if their second singular value is this share of the first.
DEPENDENT = 1e-12


class Point(NamedTuple):
    """One A, and what was computed on the way to its loss."""

    components: FloatArray  # A: (rank, n)
    gram: FloatArray  # g: (rank, rank)
    factor: FloatArray  # lower Cholesky factor of C
    loadings: FloatArray  # W: (rank, n_slices)
    contraction: FloatArray  # (n_slices, n, rank): T_a(., A_m, .., A_m)
    loss: float


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
        """Eliminate the loadings at `components` and compute the loss; O(rank n_slices n^p)."""
        rank = len(components)
        gram = components @ components.T
        normal = gram**self.order
        normal.flat[:: rank + 1] += GRAM_SHIFT + self.penalty
        factor, failed = dpotrf(normal, lower=1)
        if failed:  # coinciding rows: a larger shift, as rare as it is harmless to a line search
            normal.flat[:: rank + 1] += 1e-8
            factor, failed = dpotrf(normal, lower=1)
        powers = khatri_rao_power(components, self.order - 1)
        contraction = (self.matrix @ powers.T).reshape(self.n_slices, self.size, rank)
        projections = (contraction * components.T).sum(axis=1)
        loadings = dpotrs(factor, projections.T, lower=1)[0]
        residual = loadings.T @ khatri_rao(powers, components)
        residual -= self.flat
        loss = float(np.vdot(residual, residual))
        if self.penalty:
            loss += self.penalty * float(np.vdot(loadings, loadings))
        loss /= 2 * self.squared_norm
        return Point(components, gram, factor, loadings, contraction, loss)

    def residual(self, point: Point) -> FloatArray:
        """Return R as a (n_slices, n^p) matrix."""
        powers = khatri_rao_power(point.components, self.order)
        return np.asarray(point.loadings.T @ powers - self.flat)

    def gradient(self, point: Point) -> FloatArray:
        """Return df/dA of the projected loss, on the tangent space of unit rows."""
        weights = point.loadings
        coupling = (weights @ weights.T) * point.gram ** (self.order - 1)
        pulled = (point.contraction * weights.T[:, None, :]).sum(axis=0).T
        slope = coupling @ point.components - pulled
        slope *= self.order / self.squared_norm
        slope -= (slope * point.components).sum(axis=1)[:, None] * point.components
        return np.asarray(slope)


def khatri_rao(left: FloatArray, right: FloatArray) -> FloatArray:
    """Multiply rows by rows: (rank, m), (rank, n) -> (rank, m n)."""
    return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(left), -1))


def khatri_rao_power(rows: FloatArray, order: int) -> FloatArray:
    """Return the outer powers of all rows, flattened: (rank, n) -> (rank, n^order)."""
    powers = rows
    for _ in range(order - 1):
        powers = khatri_rao(powers, rows)
    return powers


def coordinates_in_span(components: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rows in an orthonormal basis (n, rank) of their span, and that basis."""
    basis, triangle = np.linalg.qr(components.T)
    return np.ascontiguousarray(triangle.T), basis


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


def exact_hessian(problem: Problem, point: Point) -> FloatArray:
    """Return the Riemannian Hessian of f, (rank n, rank n), zero along each row of A.

    It is that of Gauss-Newton with :eq:`newton-terms`, W eliminated, projected on the tangent space
    of unit rows (less the radial slope, zero unless there is a ridge).
    """
    components, weights, order = point.components, point.loadings, problem.order
    rank, size = components.shape
    lower = point.gram ** (order - 1)
    hessian = gauss_newton_hessian(components, point.gram, point.factor, weights @ weights.T, order)
    blocks = hessian.reshape(rank, size, rank, size)

    # S[a, j] = p R_a(., A_j, .., A_j), and W_j . S_l = sum_a W[j, a] S[a, l]
    fitted = (weights.T[:, None, :] * lower) @ components
    slopes = order * (fitted - point.contraction.swapaxes(1, 2))
    flat_slopes = slopes.reshape(problem.n_slices, rank * size)
    crossed = (weights @ flat_slopes).reshape(rank, rank, size)
    inverse_normal = dpotrs(point.factor, np.eye(rank), lower=1)[0]
    rows = (lower[:, :, None] * components[:, None, :]).reshape(rank, rank * size)
    solved = (inverse_normal @ rows).reshape(rank, rank, size)  # [l, j] = (C^-1 B_j)[l]
    product = order * solved.transpose(1, 2, 0)[:, :, :, None] * crossed[:, None, :, :]
    mixed = product.reshape(rank * size, rank * size)
    hessian -= mixed
    hessian -= mixed.T
    squares = (flat_slopes.T @ flat_slopes).reshape(rank, size, rank, size)
    squares *= inverse_normal[:, None, :, None]
    blocks -= squares

    curvature = weights @ problem.residual(point)
    for _ in range(order - 2):
        curvature = (curvature.reshape(rank, -1, size) @ components[:, :, None]).reshape(rank, -1)
    curvature = curvature.reshape(rank, size, size) * (order * (order - 1))
    own = np.arange(rank)
    radial = (crossed[own, own] * components).sum(axis=1)
    curvature[:, np.arange(size), np.arange(size)] -= radial[:, None]
    np.einsum("jpjq->jpq", blocks)[...] += curvature

    wide = hessian.reshape(rank, size, rank * size)
    wide -= components[:, :, None] * (components[:, None, :] @ wide)
    tall = hessian.reshape(rank * size, rank, size)
    along = (tall * components).sum(axis=2)
    tall -= along[:, :, None] * components
    hessian /= problem.squared_norm
    return np.asarray((hessian + hessian.T) / 2)


def solve_loadings(tensor: FloatArray, components: FloatArray) -> FloatArray | None:
    """Solve sum_m W_m (x) A_m^{(x) p} = T for W by QR; None if the powers are dependent."""
    rank, size = components.shape
    inside = components
    if size > rank:
        inside, basis = coordinates_in_span(components)
        tensor = multiply_modes(tensor, basis.T)
    powers = khatri_rao_power(inside, tensor.ndim - 1)
    if powers.shape[1] < rank:
        return None
    orthogonal, triangle = np.linalg.qr(powers.T)
    diagonal = np.abs(triangle.diagonal())
    if diagonal.min() < 1e-13 * diagonal.max():
        return None
    projected = orthogonal.T @ tensor.reshape(len(tensor), -1).T
    return np.asarray(solve_triangular(triangle, projected, check_finite=False))


def matrix_minimum(problem: Problem, rank: int) -> Point | None:
    """Return a minimum of the problem of a matrix, and None where the problem is none of a matrix.

    With p = 2 and slices that are multiples of one, components are determined up to a rotation
    only: here the `rank` eigenvectors with the largest |eigenvalues|.
    """
    flat = problem.flat
    if problem.order != 2 or rank == 1:
        return None
    if problem.n_slices > 1:  # a quick look, up to rounding of squares
        squares = np.linalg.eigvalsh(flat @ flat.T)
        if not squares[-2] < DEPENDENT * squares[-1]:
            return None
    left, values, _ = np.linalg.svd(flat, full_matrices=False)
    if np.any(values[1:] > DEPENDENT * values[0]):
        return None
    matrix = (left[:, 0] @ flat).reshape(problem.size, problem.size)
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-np.abs(values))[:rank]
    rows, weights = vectors[:, order].T, values[order, None] * left[:, 0]
    if rank > len(matrix):  # nothing is left to explain: repeat directions without weight
        extra = np.arange(rank - len(matrix)) % len(matrix)
        rows = np.vstack([rows, rows[extra]])
        weights = np.vstack([weights, np.zeros((len(extra), problem.n_slices))])
    return Point(rows, rows @ rows.T, np.eye(rank), weights, np.empty(0), float("nan"))
