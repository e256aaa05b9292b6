r"""Which components of a minimum could not be noise, and when that makes it the answer.

White noise of standard deviation sigma per independent entry, isotropic on the tensors symmetric
in p modes of size d with n outputs, contains rank-one terms u (x) x^{(x) p}, |u| = |x| = 1, of
weight

    E max_{u, x} <u (x) x^{(x) p}, noise>  <=  sigma (sqrt(n) + sqrt(p d))

because |u (x) x^{(x) p} - v (x) y^{(x) p}|^2 <= |u - v|^2 + p |x - y|^2: the Sudakov-Fernique
inequality with two independent normal vectors. Call the right-hand side the ceiling; by Gaussian
concentration the maximum exceeds the ceiling + t sigma with a probability below exp(-t^2 / 2). What
the right fit leaves of the noise is a projection of it, with the same bounds. Two conditions:

* *The component could not be noise.* A lone component of weight w has the standard error
  sigma sqrt((d - 1) / p) / w of its direction and sigma sqrt(n) / w of its loadings (relative). A
  component is determined if its own errors are below those of w = ceiling + 3 sigma. Wrong minima,
  which merge two components and spend the one set free on noise or on cancelling, violate this.
* *No component is left in the residual.* Its largest rank-one term is below the ceiling.

If both hold for all components the minimum is taken for the answer. sigma^2 is the residual's mean
square; structure left in it raises it, and with it all the errors. No theorem says that a wrong
minimum cannot pass; `benchmarks/decompose.py --certificate` counts those that do.

References
----------
R. Vershynin, High-Dimensional Probability, Cambridge University Press (2018), chapters 5 and 7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._errors import predicted_errors
from ._problem import Point, Problem
from ._result import FloatArray
from ._validation import degrees_of_freedom
from ._whitening import NoiseMetric

# t above: noise makes a component as heavy as that in at most one tensor of ninety.
MARGIN = 3.0
# The power iteration starts from this many leading directions of the residual. A term that merging
# or cancelling left over leads them, and eight steps bring it close to its value.
N_DIRECTIONS, N_STEPS = 5, 8


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
    if largest_term(point.residual(problem), size) > ceiling * np.sqrt(variance):
        return np.zeros(rank, dtype=bool)
    weight = ceiling + MARGIN
    directions, loadings = predicted_errors(problem, point, NoiseMetric(n_outputs, size), variance)
    return np.asarray(
        (directions < np.sqrt((size - 1) / order) / weight)
        & (loadings < np.sqrt(n_outputs) / weight)
    )


def largest_term(residual: FloatArray, size: int) -> float:
    """Return the weight of the largest rank-one term found in R, (n_slices, size^p).

    The largest of some local maxima of |R(., x, .., x)| over unit x, approached by the shifted
    power iteration x <- sum_a u_a R_a(., x, .., x) + |u|^2 x, u = R(., x, .., x); O(n d^p) time for
    each step and start.
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
