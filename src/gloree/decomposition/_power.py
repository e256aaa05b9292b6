"""The paper's decomposition: whitening, then the tensor power method with deflation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gloree._parameters import check_integer, check_number
from gloree._random import RandomState, as_generator

from ._least_squares import Problem, khatri_rao_power, matrix_minimum
from ._result import Decomposition, DecompositionStatus, Outcome, conclude
from ._tensor import (
    FloatArray,
    NoiseMetric,
    check_not_zero,
    check_rank,
    check_tensor,
    multiply_modes,
)

N_COMBINATIONS = 100
# An eigenvalue below this share of the largest is a direction that the combination misses.
SMALLEST_EIGENVALUE = 1e-10


def tensor_power_iteration(
    T: ArrayLike,
    rank: int,
    *,
    output_mode: bool = True,
    n_restarts: int = 10,
    n_iterations: int = 200,
    tol: float = 1e-10,
    random_state: RandomState = None,
) -> Decomposition:
    r"""Decompose a moment tensor by signal whitening and the tensor power method.

    After [1]_ and [2]_:

    1. Contract T with a vector over the outputs, and with another one over all but two symmetric
       modes: :math:`M = \sum_m c_m A_m A_m^\top`. Of many random combinations take the best
       conditioned one whose :math:`c_m` all have the same sign. With :math:`Q \Lambda Q^\top` its
       leading eigenpairs, :math:`Q |\Lambda|^{-1/2}` makes the vectors :math:`|c_m|^{1/2} A_m`
       orthonormal.
    2. On the whitened tensor iterate

       .. math:: v \leftarrow T\bigl(T(\cdot, v, \dots, v), \cdot, v, \dots, v\bigr)

       and normalise: the ascent of :math:`\|T(\cdot, v, \dots, v)\|^2`, which does not need to
       know the sign of a weight. Of `n_restarts` starts, uniform on the whole sphere, the largest
       value wins. Deflate by projecting v out of all later starts.
    3. Undo the whitening, and solve for the loadings on the original tensor.

    Parameters
    ----------
    T : array_like of shape (n_outputs, d, d[, d, ..])
        Moment tensor: output mode first, then p >= 2 symmetric input modes.
    rank : int
        Number of components, at most d.
    output_mode : bool, default True
        With False, `T` has the p symmetric modes only.
    n_restarts : int, default 10
        Random starts for each component.
    n_iterations : int, default 200
        Limit of iterations for the starts of one component.
    tol : float, default 1e-10
        A start has converged when v moves by less than this.
    random_state : None, int, SeedSequence, Generator or RandomState
        Every component draws from a spawned child.

    Returns
    -------
    Decomposition
        The status is POWER_CONVERGED, POWER_LIMIT, or WHITENING_FAILED if no combination was
        definite: with loadings of mixed signs there often is none, and the components are then
        wrong even without noise. The predicted errors are those of least squares, and leave out
        the bias of this method.

    Raises
    ------
    ValueError, TypeError
        For input that `decompose` would refuse, and for what cannot be whitened: rank > d, or a
        tensor whose slices, and all their combinations, have a lower rank.

    See Also
    --------
    decompose : needs no whitening, and reaches the least-squares solution.

    Notes
    -----
    One start takes O(n_iterations n_outputs rank^p) time after whitening, which takes O(d^3) for
    each combination. How the two kinds of whitening differ: :ref:`theory-whitening`.

    With p = 2, the whitened slices as a set stand in for the third symmetric mode of the textbook
    method; with p >= 3 and one output this is the textbook method. One slice with p = 2 is a
    matrix: its eigenvectors are returned, with the status ROTATION.

    References
    ----------
    .. [1] A. Anandkumar, R. Ge, D. Hsu, S. Kakade, M. Telgarsky, Tensor decompositions for learning
       latent variable models, Journal of Machine Learning Research 15 (2014).
    .. [2] H. Sedghi, A. Anandkumar, Training input-output recurrent neural networks through
       spectral methods, arXiv:1603.00954 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.decomposition import cp_tensor, tensor_power_iteration
    >>> T = cp_tensor([[3.0], [2.0]], np.eye(3)[:2], order=3)
    >>> tensor_power_iteration(T, 2, random_state=0).loadings.round(6)
    array([[3.],
           [2.]])
    """
    rank = check_rank(rank)
    tensor, exponent = check_tensor(T, output_mode=output_mode)
    check_not_zero(tensor)
    n_inputs = tensor.shape[1]
    if rank > n_inputs:
        raise ValueError(
            f"`rank` = {rank} exceeds the number of inputs {n_inputs}: components that are not "
            "linearly independent cannot be whitened; use `decompose`."
        )
    n_restarts = check_integer("n_restarts", n_restarts, 1)
    n_iterations = check_integer("n_iterations", n_iterations, 1)
    tol = check_number("tol", tol, least=0.0)
    problem = Problem(tensor)
    if (matrix := matrix_minimum(problem, rank)) is not None:
        outcome = Outcome(matrix, DecompositionStatus.ROTATION)
        return conclude(problem, NoiseMetric(), outcome, output_mode, exponent)

    rng = as_generator(random_state)
    whitening, definite = _whiten_signal(tensor, rank, rng.spawn(1)[0])
    white = multiply_modes(tensor, whitening.T)
    directions = np.zeros((0, rank))
    total, status = 0, DecompositionStatus.POWER_CONVERGED
    for child in rng.spawn(rank):
        starts = child.standard_normal((n_restarts, rank))
        direction, iterations, converged = _power(white, directions, starts, n_iterations, tol)
        directions = np.vstack([directions, direction])
        total += iterations
        if not converged:
            status = DecompositionStatus.POWER_LIMIT
    components = directions @ np.linalg.pinv(whitening)
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    if not definite:
        status = DecompositionStatus.WHITENING_FAILED
    point = problem.evaluate(components)
    outcome = Outcome(point, status, True, n_restarts * rank, rank, total)
    return conclude(problem, NoiseMetric(), outcome, output_mode, exponent)


def _whiten_signal(
    tensor: FloatArray, rank: int, rng: np.random.Generator
) -> tuple[FloatArray, bool]:
    """Return a (d, rank) matrix that makes the components orthonormal, and whether it does.

    It comes from the best conditioned definite combination of the slices, or from an indefinite one
    if there is none.
    """
    (n_outputs, n_inputs), order = tensor.shape[:2], tensor.ndim - 1
    best, matrix = (False, 0.0), None
    for trial in range(N_COMBINATIONS):
        combined = np.tensordot(rng.standard_normal(n_outputs), tensor, axes=1)
        for _ in range(order - 2):
            combined = combined @ rng.standard_normal(n_inputs)
        if trial < n_outputs and order == 2:  # the slices themselves come first
            combined = tensor[trial]
        values, vectors = np.linalg.eigh(combined)
        kept = np.argsort(-np.abs(values))[:rank]
        values, vectors = values[kept], vectors[:, kept]
        if not np.abs(values[-1]) > SMALLEST_EIGENVALUE * np.abs(values[0]):
            continue
        definite = bool((values > 0).all() or (values < 0).all())
        candidate = (definite, float(np.abs(values[-1] / values[0])))
        if candidate > best:
            best, matrix = candidate, vectors / np.sqrt(np.abs(values))
    if matrix is None:
        raise ValueError(
            f"`rank` = {rank} exceeds the rank of every combination of the slices of `T`: fewer "
            f"directions than components cannot be whitened. Lower `rank`, or use `decompose`, "
            "which tells whether such components are determined."
        )
    return matrix, best[0]


def _power(
    tensor: FloatArray, found: FloatArray, starts: FloatArray, n_iterations: int, tol: float
) -> tuple[FloatArray, int, bool]:
    """Run all starts side by side, off the span of what was found; return the largest maximum."""
    n_slices, size = tensor.shape[:2]
    order = tensor.ndim - 1
    matrix = tensor.reshape(n_slices * size, -1)

    def deflate(rows: FloatArray) -> FloatArray:
        rows = rows - (rows @ found.T) @ found
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    rows = deflate(starts)
    moved, values = np.full(len(rows), np.inf), np.zeros(len(rows))
    n_done, settled = 0, False
    while n_done < n_iterations and not settled:
        n_done += 1
        powers = khatri_rao_power(rows, order - 1)
        contracted = (matrix @ powers.T).reshape(n_slices, size, len(rows))
        outputs = (contracted * rows.T).sum(axis=1)  # T(., v, .., v), one column per start
        values = (outputs**2).sum(axis=0)
        ascent = (contracted * outputs[:, None, :]).sum(axis=0).T
        updated = deflate(ascent + np.finfo(np.float64).tiny)
        moved = np.abs(updated - rows).max(axis=1)
        rows = updated
        settled = bool(moved.max() < tol)
    winner = int(np.argmax(values))
    return rows[winner], n_done, bool(moved[winner] < tol)
