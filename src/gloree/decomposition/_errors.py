"""Predicted standard errors, and the certificate that rests on them.

**Standard errors.** With noise of variance sigma^2 per independent entry (isotropic on symmetric
tensors), the covariance of (A, W) is sigma^2 (J^T J)^+ with the lengths of the rows of A fixed.
Eliminating W leaves sigma^2 / |T|^2 H^+ for A, H the Gauss-Newton Hessian of `_least_squares`, and
W follows A through dW = C^-1 (noise) - p C^-1 B_j dA_j.

**Certificate.** Noise of standard deviation sigma has rank-one terms of an expected weight up to
the ceiling, sigma (sqrt(n) + sqrt(p d)) (:eq:`noise-ceiling`), and beyond the ceiling + t sigma
with a probability below exp(-t^2 / 2). A minimum is taken for the answer under two conditions:

* *No component could be noise.* A lone component of weight w has the standard error
  sigma sqrt((d - 1) / p) / w of its direction and sigma sqrt(n) / w of its loadings (relative). A
  component is determined if its own errors are below those of w = ceiling + 3 sigma.
* *No component is left in the residual.* Its largest rank-one term is below the ceiling.

sigma^2 is the residual's mean square; structure left in it raises it, and with it all the errors.
No theorem says that a wrong minimum cannot pass; `benchmarks/decompose.py --certificate` counts
those that do. See :ref:`theory-agreement`, and R. Vershynin, High-Dimensional Probability (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrs

from ._least_squares import Point, Problem, add_gauge, coordinates_in_span, gauss_newton_hessian
from ._tensor import FloatArray, NoiseMetric, degrees_of_freedom

# t above: noise makes a component as heavy as that in at most one tensor of ninety.
MARGIN = 3.0
# The power iteration starts from this many leading directions of the residual. A term that merging
# or cancelling left over leads them, and eight steps bring it close to its value.
N_DIRECTIONS, N_STEPS = 5, 8


# Variances inflate by more where the Hessian is singular but for rounding (by 1e13 and more, seen).
SINGULAR = 1e11


class ComponentCovariance(NamedTuple):
    """Covariance of A for noise of variance one: inside the span of its rows, and off it."""

    inside: FloatArray  # (rank, m): the rows in the basis
    basis: FloatArray  # (d, m), m = min(rank, d)
    blocks: FloatArray  # (rank, m, rank, m)
    outside: FloatArray  # (rank,): variance of each row along any direction off the span
    inflation: float  # of variances, over those of a diagonal Hessian, at most

    @property
    def is_singular(self) -> bool:
        """Whether the Hessian is singular but for rounding: other tensors fit as well."""
        return self.inflation > SINGULAR

    def largest_variances(self) -> FloatArray:
        """Variance of each row along its least determined direction, (rank,)."""
        own = np.einsum("jpjq->jpq", self.blocks)
        return np.maximum(np.linalg.eigvalsh(own)[:, -1], self.outside)


def predicted_errors(
    problem: Problem,
    point: Point,
    metric: NoiseMetric,
    variance: float,
    covariance: ComponentCovariance | None,
) -> tuple[FloatArray, FloatArray]:
    """Return relative standard errors of the rows of A and of W, mapped back to user coordinates.

    O((rank min(rank, d))^3) time. Infinite without a covariance: where the Hessian is singular.
    """
    if covariance is None or not np.isfinite(variance):
        return np.full(len(point.components), np.inf), np.full(len(point.components), np.inf)
    inside, basis, blocks, outside, _ = covariance
    (rank, size), order = point.components.shape, problem.order

    # Components: a = L a~ / |L a~|, so da = P L da~ / |L a~| with P the projection off a.
    factor = np.eye(size) if metric.factor is None else metric.factor
    mapped = point.components @ factor.T
    lengths = np.linalg.norm(mapped, axis=1)
    units = mapped / lengths[:, None]
    spanned = factor @ basis
    own = np.einsum("jpjq->jpq", blocks)
    projected = spanned[None] - units[:, :, None] * (units @ spanned)[:, None, :]
    squares = ((projected @ own) * projected).sum(axis=(1, 2))
    pulled = units @ factor  # rows L^T a
    whole = np.vdot(factor, factor) - (pulled**2).sum(axis=1)
    squares += outside * (whole - (projected**2).sum(axis=(1, 2)))
    component_errors = np.sqrt(np.maximum(squares, 0.0) * variance) / lengths

    # Loadings: dW_ma |L a~|^p = (noise part) + sum_j W_ja E_m[j] . dA~_j, where E_m also carries
    # the length of row m, which moves from A into W.
    inverse_normal = dpotrs(point.factor, np.eye(rank), lower=1)[0]
    pulled_in = pulled @ basis
    # [m, j] = -p sum_i C^-1[m, i] g_ij^(p-1) A_i: row m of -p C^-1 B_j
    response = -order * inverse_normal[:, None, :] * (point.gram ** (order - 1))[None, :, :]
    effect = (response.reshape(-1, rank) @ inside).reshape(rank, rank, -1)
    effect[np.arange(rank), np.arange(rank)] += order * pulled_in / lengths[:, None]
    output_scales = np.ones(problem.n_slices) if metric.scales is None else metric.scales
    scaled = point.loadings * output_scales
    coupling = scaled @ scaled.T
    weighted = blocks * coupling[:, None, :, None]
    flat = effect.reshape(rank, -1)
    squares = ((flat @ weighted.reshape(inside.size, inside.size)) * flat).sum(axis=1)
    squares += np.sum(output_scales**2) * inverse_normal.diagonal()
    pulled_out = (pulled**2).sum(axis=1) - (pulled_in**2).sum(axis=1)
    squares += order**2 * coupling.diagonal() * outside * pulled_out / lengths**2
    sizes = np.linalg.norm(scaled, axis=1)
    with np.errstate(divide="ignore"):
        loading_errors = np.sqrt(np.maximum(squares, 0.0) * variance) / sizes
    return component_errors, loading_errors


def component_covariance(problem: Problem, point: Point) -> ComponentCovariance | None:
    """Return (J^T J)^+ of A, and None where J^T J has more null directions than the lengths.

    O((rank min(rank, d))^3) time.
    """
    (rank, size), order = point.components.shape, problem.order
    inside, basis = point.components, np.eye(size)
    omega = point.loadings @ point.loadings.T  # without 1 / |T|^2: H below is J^T J itself
    outside, scales = np.zeros(rank), order * omega.diagonal()
    if size > rank:
        inside, basis = coordinates_in_span(point.components)
    hessian = gauss_newton_hessian(inside, point.gram, point.factor, omega, order)
    add_gauge(hessian, inside, scales)
    try:
        covariance, inflation = _inverse(hessian)
        if size > rank:
            other, more = _inverse(order * omega * point.gram ** (order - 1))
            outside, inflation = other.diagonal(), max(inflation, more)
    except np.linalg.LinAlgError:
        return None
    add_gauge(covariance, inside, -1 / scales)  # leaves the pseudo-inverse on the tangent space
    blocks = covariance.reshape(inside.shape * 2)
    return ComponentCovariance(inside, basis, blocks, outside, inflation)


def _inverse(matrix: FloatArray) -> tuple[FloatArray, float]:
    """Invert a positive definite matrix after scaling it to unit diagonal.

    Returned with the largest diagonal entry of the scaled inverse, the inflation of variances.
    """
    diagonal = matrix.diagonal()
    if not (diagonal > 0).all():
        raise np.linalg.LinAlgError
    scale = 1 / np.sqrt(diagonal)
    inverse = np.linalg.inv(np.linalg.cholesky(matrix * scale[:, None] * scale))
    product = inverse.T @ inverse
    inflation = float(product.diagonal().max())
    return np.asarray(product * scale[:, None] * scale), inflation


def noise_ceiling(n_outputs: int, n_inputs: int, order: int) -> float:
    """Bound the expected weight of the largest rank-one term in noise of variance one."""
    return float(np.sqrt(n_outputs) + np.sqrt(order * n_inputs))


def determined_components(problem: Problem, point: Point) -> NDArray[np.bool_]:
    """Return which components are determined, shape (rank,): none if the residual holds another.

    O((rank min(rank, d))^3 + n d^(p+1)) time.
    """
    rank, size = point.components.shape
    n_outputs, order = problem.n_slices, problem.order
    freedom = degrees_of_freedom(n_outputs, size, rank, order)
    if freedom <= 0:
        return np.zeros(rank, dtype=bool)
    variance = 2 * point.loss * problem.squared_norm / freedom
    ceiling = noise_ceiling(n_outputs, size, order)
    if largest_term(problem.residual(point), size) > ceiling * np.sqrt(variance):
        return np.zeros(rank, dtype=bool)
    weight = ceiling + MARGIN
    covariance = component_covariance(problem, point)
    directions, loadings = predicted_errors(problem, point, NoiseMetric(), variance, covariance)
    return np.asarray(
        (directions < np.sqrt((size - 1) / order) / weight)
        & (loadings < np.sqrt(n_outputs) / weight)
    )


def distinct_components(
    problem: Problem, variance: float, covariance: ComponentCovariance | None, rank: int
) -> NDArray[np.bool_]:
    """Return which components noise of this variance leaves distinct, shape (rank,).

    A lone component of weight w has the standard error sigma / (w sqrt(p)) along every direction.
    A component is distinct if its own is below that of w = ceiling + 3 sigma along *all* directions
    (:eq:`distinct`): a component of mere noise has no such, nor have components that rotate into
    each other because their loadings are parallel, or they themselves linearly dependent.
    """
    if covariance is None or covariance.is_singular or not np.isfinite(variance):
        return np.zeros(rank, dtype=bool)
    weight = noise_ceiling(problem.n_slices, problem.size, problem.order) + MARGIN
    return covariance.largest_variances() * variance * problem.order * weight**2 < 1


def largest_term(residual: FloatArray, size: int) -> float:
    """Return the weight of the largest rank-one term found in R, (n_slices, size^p).

    It is approached by x <- sum_a u_a R_a(., x, .., x) + |u|^2 x, u = R(., x, .., x), the shifted
    power iteration; O(n d^p) time for each step and start.
    """
    n_slices = len(residual)
    matrix = residual.reshape(-1, size)
    columns = np.linalg.eigh(matrix.T @ matrix)[1][:, -N_DIRECTIONS:]
    squares = np.zeros(columns.shape[1])
    for _ in range(N_STEPS):
        contracted = matrix @ columns
        while contracted.size > n_slices * columns.size:
            contracted = (contracted.reshape(-1, *columns.shape) * columns).sum(axis=1)
        contracted = contracted.reshape(n_slices, *columns.shape)
        outputs = (contracted * columns).sum(axis=1)
        squares = (outputs**2).sum(axis=0)
        columns = (contracted * outputs[:, None]).sum(axis=0) + squares * columns
        columns /= np.sqrt((columns**2).sum(axis=0)) + 1e-300
    return float(np.sqrt(squares.max()))
