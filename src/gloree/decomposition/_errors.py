"""Predicted standard errors of components and loadings, from the Jacobian at the solution.

With noise of variance sigma^2 per independent entry (isotropic on symmetric tensors), the
covariance of (A, W) is sigma^2 (J^T J)^+ with the lengths of the rows of A fixed. Eliminating W
leaves sigma^2 / |T|^2 H^+ for A, H the Gauss-Newton Hessian of `_problem`, and W follows A through
dW = C^-1 (noise) - p C^-1 B_j dA_j.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrs

from ._problem import Point, Problem, add_gauge, gauss_newton_hessian
from ._result import FloatArray
from ._whitening import NoiseMetric


def predicted_errors(
    problem: Problem, point: Point, metric: NoiseMetric, variance: float
) -> tuple[FloatArray, FloatArray]:
    """Return relative standard errors of the rows of A and of W, mapped back to user coordinates.

    O((rank min(rank, d))^3) time. Infinite where the Hessian is singular.
    """
    rank, size = point.components.shape
    order = problem.order
    infinite = np.full(rank, np.inf)
    if not np.isfinite(variance):
        return infinite, infinite.copy()
    inside, basis = point.components, None
    if size > rank:
        basis, triangle = np.linalg.qr(point.components.T)
        inside = np.ascontiguousarray(triangle.T)
    n = inside.shape[1]
    omega = point.loadings @ point.loadings.T  # without 1 / |T|^2: H below is J^T J itself
    hessian = gauss_newton_hessian(inside, point.gram, point.factor, omega, order)
    scales = order * omega.diagonal()
    add_gauge(hessian, inside, scales)
    lower = point.gram ** (order - 1)
    try:
        covariance = _inverse(hessian)
        outer = _inverse(order * omega * lower).diagonal() if size > rank else np.zeros(rank)
    except np.linalg.LinAlgError:
        return infinite, infinite.copy()
    add_gauge(covariance, inside, -1 / scales)  # leaves the pseudo-inverse on the tangent space

    # Components: a = L a~ / |L a~|, so da = P L da~ / |L a~| with P the projection off a.
    factor = np.eye(size) if metric.factor is None else metric.factor
    mapped = point.components @ factor.T
    lengths = np.linalg.norm(mapped, axis=1)
    units = mapped / lengths[:, None]
    spanned = factor if basis is None else factor @ basis
    blocks = np.einsum("jpjq->jpq", covariance.reshape(rank, n, rank, n))
    projected = spanned[None] - units[:, :, None] * (units @ spanned)[:, None, :]
    squares = ((projected @ blocks) * projected).sum(axis=(1, 2))
    pulled = units @ factor  # rows L^T a
    if size > rank:
        whole = np.vdot(factor, factor) - (pulled**2).sum(axis=1)
        squares += outer * (whole - (projected**2).sum(axis=(1, 2)))
    component_errors = np.sqrt(np.maximum(squares, 0.0) * variance) / lengths

    # Loadings: dW_ma |L a~|^p = (noise part) + sum_j W_ja E_m[j] . dA~_j, where E_m also carries
    # the length of row m, which moves from A into W.
    inverse_normal = dpotrs(point.factor, np.eye(rank), lower=1)[0]
    pulled_in = pulled if basis is None else pulled @ basis
    # [m, j] = -p sum_i C^-1[m, i] g_ij^(p-1) A_i: row m of -p C^-1 B_j
    seen = -order * inverse_normal[:, None, :] * lower[None, :, :]
    effect = (seen.reshape(-1, rank) @ inside).reshape(rank, rank, n)
    effect[np.arange(rank), np.arange(rank)] += order * pulled_in / lengths[:, None]
    output_scales = np.ones(problem.n_slices) if metric.scales is None else metric.scales
    scaled = point.loadings * output_scales
    coupling = scaled @ scaled.T
    weighted = covariance.reshape(rank, n, rank, n) * coupling[:, None, :, None]
    flat = effect.reshape(rank, rank * n)
    squares = ((flat @ weighted.reshape(rank * n, rank * n)) * flat).sum(axis=1)
    squares += np.sum(output_scales**2) * inverse_normal.diagonal()
    if size > rank:
        pulled_out = (pulled**2).sum(axis=1) - (pulled_in**2).sum(axis=1)
        squares += order**2 * coupling.diagonal() * outer * pulled_out / lengths**2
    sizes = np.linalg.norm(scaled, axis=1)
    with np.errstate(divide="ignore"):
        loading_errors = np.sqrt(np.maximum(squares, 0.0) * variance) / sizes
    return component_errors, loading_errors


def _inverse(matrix: FloatArray) -> FloatArray:
    """Invert a positive definite matrix after scaling it to unit diagonal."""
    diagonal = matrix.diagonal()
    if not (diagonal > 0).all():
        raise np.linalg.LinAlgError
    scale = 1 / np.sqrt(diagonal)
    inverse = np.linalg.inv(np.linalg.cholesky(matrix * scale[:, None] * scale))
    return np.asarray((inverse.T @ inverse) * scale[:, None] * scale)
