"""From the point where a method ended to the `Decomposition` it returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from ._errors import predicted_errors
from ._problem import Point, Problem, khatri_rao
from ._result import Decomposition, DecompositionStatus, FloatArray, canonical, cp_tensor
from ._search import EXACT_LOSS
from ._validation import degrees_of_freedom
from ._whitening import NoiseMetric, multiply_modes

# What the tensor itself says, underdetermined or fitted exactly, comes before these.
_LEAST_SQUARES = (
    DecompositionStatus.EXACT,
    DecompositionStatus.AGREED,
    DecompositionStatus.CERTIFIED,
    DecompositionStatus.POLISHED,
    DecompositionStatus.NO_AGREEMENT,
)


class Outcome(NamedTuple):
    """A polished point, and how it was found."""

    point: Point
    status: DecompositionStatus
    n_starts: int
    n_agreeing: int
    n_iterations: int


def build_decomposition(
    problem: Problem,
    outcome: Outcome,
    metric: NoiseMetric,
    output_mode: bool,
) -> Decomposition:
    """Solve for the loadings once more, accurately, and put everything in canonical form."""
    point, order = outcome.point, problem.order
    rank, size = point.components.shape
    rotation = outcome.status is DecompositionStatus.ROTATION
    if not problem.penalty and not rotation:
        loadings = solve_loadings(problem.tensor, point.components)
        if loadings is not None:
            point = point._replace(loadings=loadings)
    fit = cp_tensor(point.loadings, point.components, order)
    fit -= problem.tensor
    residual = float(np.linalg.norm(fit)) / np.sqrt(problem.squared_norm)
    freedom = degrees_of_freedom(problem.n_slices, size, rank, order)
    status = outcome.status
    if status in _LEAST_SQUARES:
        if freedom <= 0:
            status = DecompositionStatus.UNDERDETERMINED
        elif residual**2 / 2 < EXACT_LOSS:
            status = DecompositionStatus.EXACT
    variance = residual**2 * problem.squared_norm / freedom if freedom > 0 else np.inf
    if rotation:
        variance = np.inf
    component_errors, loading_errors = predicted_errors(problem, point, metric, variance)
    largest = float(np.linalg.norm(point.loadings, axis=1).max()) / np.sqrt(problem.squared_norm)
    cosines = np.abs(point.gram - np.diag(point.gram.diagonal()))
    rows, weights, _ = metric.restore(point.components, point.loadings, order)
    rows, weights, arrangement = canonical(rows, weights, order)
    singular = np.linalg.svd(rows, compute_uv=False)
    return Decomposition(
        components=rows,
        loadings=weights,
        status=status,
        residual=float(residual),
        condition=float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf"),
        order=order,
        output_mode=output_mode,
        n_starts=outcome.n_starts,
        n_agreeing=outcome.n_agreeing,
        n_iterations=outcome.n_iterations,
        component_errors=component_errors[arrangement],
        loading_errors=loading_errors[arrangement],
        max_cosine=float(cosines.max()),
        max_loading=float(largest),
        degrees_of_freedom=freedom,
        ridge=problem.penalty,
    )


def solve_loadings(tensor: FloatArray, components: FloatArray) -> FloatArray | None:
    """Solve sum_m W_m (x) A_m^{(x) p} = T for W by QR, not by the squared Gram matrix."""
    rank, size = components.shape
    inside = components
    if size > rank:
        basis, triangle = np.linalg.qr(components.T)
        inside, tensor = triangle.T, multiply_modes(tensor, basis.T)
    powers = inside
    for _ in range(tensor.ndim - 2):
        powers = khatri_rao(powers, inside)
    if powers.shape[1] < rank:
        return None
    orthogonal, triangle = np.linalg.qr(powers.T)
    diagonal = np.abs(triangle.diagonal())
    if diagonal.min() < 1e-13 * diagonal.max():
        return None
    projected = orthogonal.T @ tensor.reshape(len(tensor), -1).T
    return np.asarray(solve_triangular(triangle, projected, check_finite=False))


def eigen_outcome(tensor: FloatArray, rank: int) -> Outcome:
    """Return the `rank` eigenvectors of largest |eigenvalue| of the single slice of `tensor`."""
    flat = tensor.reshape(len(tensor), -1)
    left, _, _ = np.linalg.svd(flat, full_matrices=False)
    matrix = (left[:, 0] @ flat).reshape(tensor.shape[1:])
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-np.abs(values))[:rank]
    rows, weights = vectors[:, order].T, values[order, None] * left[:, 0]
    if rank > len(matrix):  # nothing is left to explain: repeat directions without weight
        extra = np.arange(rank - len(matrix)) % len(matrix)
        rows = np.vstack([rows, rows[extra]])
        weights = np.vstack([weights, np.zeros((len(extra), len(tensor)))])
    gram = rows @ rows.T
    point = Point(rows, gram, np.eye(rank), weights, np.empty(0), float("nan"))
    return Outcome(point, DecompositionStatus.ROTATION, 0, 0, 0)


def is_one_slice(tensor: FloatArray) -> bool:
    """Whether all output slices are multiples of one."""
    if len(tensor) == 1:
        return True
    flat = tensor.reshape(len(tensor), -1)
    squares = np.linalg.eigvalsh(flat @ flat.T)
    return bool(squares[-2] < 1e-24 * squares[-1])
