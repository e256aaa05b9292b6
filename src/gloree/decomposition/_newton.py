r"""The exact Hessian of the projected loss, for minima that Gauss-Newton approaches slowly.

Noise and badly separated components make the residual terms matter: Gauss-Newton then converges
linearly, in hundreds of steps, where Newton needs a handful. With S_j[a] = p R_a(., A_j, .., A_j),
the joint Hessian over (A, W) gains

    d2/dA_j dA_j : p (p-1) sum_a W[j, a] R_a(., ., A_j, ..)        d2/dW_ja dA_j : S_j[a]

and eliminating W gives the Hessian here. f does not change with the length of a row, so on unit
rows the Riemannian Hessian is the projection on the tangent space (less the radial slope, which is
zero unless there is a ridge).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrs

from ._problem import Point, Problem, gauss_newton_hessian
from ._result import FloatArray


def exact_hessian(problem: Problem, point: Point) -> FloatArray:
    """Return the Riemannian Hessian of f, (rank n, rank n), zero along each row of A."""
    components, weights, order = point.components, point.loadings, problem.order
    rank, size = components.shape
    lower = point.gram ** (order - 1)
    norm2 = problem.squared_norm
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

    curvature = weights @ point.residual(problem)
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
    hessian /= norm2
    return np.asarray((hessian + hessian.T) / 2)
