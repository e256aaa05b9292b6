"""The paper's decomposition: whitening, then the tensor power method with deflation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._outcome import Outcome, build_decomposition, eigen_outcome, is_one_slice
from ._problem import Problem
from ._result import Decomposition, DecompositionStatus, FloatArray
from ._validation import check_not_zero, check_rank, check_tensor
from ._whitening import NoiseMetric, multiply_modes

N_COMBINATIONS = 100
# An eigenvalue below this share of the largest is a direction the combination does not see.
SMALLEST_EIGENVALUE = 1e-10


class _SignalWhitening(NamedTuple):
    matrix: FloatArray  # (d, rank): maps the components to orthonormal ones
    definite: bool


def tensor_power_iteration(
    T: ArrayLike,
    rank: int,
    *,
    output_mode: bool = True,
    n_restarts: int = 10,
    n_iterations: int = 200,
    tol: float = 1e-10,
    random_state: Any = None,
) -> Decomposition:
    r"""Decompose by signal whitening and the tensor power method, as in [1]_ and [2]_.

    1. Contract T with a vector over the outputs and with another over all but two symmetric modes:
       M = sum_m c_m A_m A_m^T. Of many random combinations keep the best conditioned with all c_m
       of one sign; with Q diag(e) Q^T its leading eigenpairs, Q diag(|e|^-1/2) makes the vectors
       sqrt(|c_m|) A_m orthonormal.
    2. On the whitened tensor iterate v <- T(T(., v, .., v), ., v, .., v), normalised: the ascent of
       |T(., v, .., v)|^2, which needs no sign of the weights. Of `n_restarts` starts, uniform on
       the whole sphere, the largest value wins. Deflate by projecting later starts off v.
    3. Undo the whitening and solve for the loadings on the unwhitened tensor.

    Layouts: (n_outputs, d, d) with p = 2 works on the set of whitened slices, which is what stands
    in for the third symmetric mode; p >= 3 with or without an output mode is the textbook method
    when there is one output. One slice of order two is a matrix: its eigenvectors are returned,
    with the status ROTATION.

    Parameters
    ----------
    T : array_like of shape (n_outputs, d, d[, d, ..])
        Moment tensor: output mode first, then p >= 2 symmetric input modes.
    rank : int
        Number of components, at most d.
    output_mode : bool, default True
        With False, `T` has the p symmetric modes only.
    n_restarts : int, default 10
        Random starts per component.
    n_iterations : int, default 200
        Limit of iterations per start.
    tol : float, default 1e-10
        A start has converged when v moves by less than this.
    random_state : None, int, SeedSequence or Generator
        Passed to `numpy.random.default_rng`; every component draws from a spawned child.

    Returns
    -------
    Decomposition
        With status POWER_CONVERGED, POWER_LIMIT, or WHITENING_FAILED when no combination was
        definite: with loadings of mixed signs there often is none, and the components are then
        wrong even without noise. Predicted errors are those of least squares and say nothing about
        the bias of this method.

    Raises
    ------
    ValueError
        For invalid input, and for rank > d, which cannot be whitened.

    See Also
    --------
    decompose : needs no whitening, and reaches the least-squares solution.

    Notes
    -----
    O(rank n_restarts n_iterations n_outputs rank^p) time after whitening.

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
    tensor = check_tensor(T, output_mode=output_mode)
    check_not_zero(tensor)
    n_outputs, n_inputs = tensor.shape[:2]
    if rank > n_inputs:
        raise ValueError(
            f"`rank` = {rank} exceeds the number of inputs {n_inputs}: components that are not "
            "linearly independent cannot be whitened; use `decompose`."
        )
    if n_restarts < 1 or n_iterations < 1:
        raise ValueError(
            "`n_restarts` and `n_iterations` must be at least 1, got "
            f"{n_restarts} and {n_iterations}."
        )
    metric = NoiseMetric(n_outputs, n_inputs)
    problem = Problem(tensor)
    if problem.order == 2 and rank > 1 and is_one_slice(tensor):
        return build_decomposition(problem, eigen_outcome(tensor, rank), metric, output_mode)

    rng = np.random.default_rng(random_state)
    whitening = _whiten_signal(tensor, rank, rng.spawn(1)[0])
    white = multiply_modes(tensor, whitening.matrix.T)
    directions = np.zeros((0, rank))
    total, all_converged = 0, True
    for child in rng.spawn(rank):
        direction, iterations, converged = _power(
            white, directions, child.standard_normal((n_restarts, rank)), n_iterations, tol
        )
        directions = np.vstack([directions, direction])
        total += iterations
        all_converged &= converged
    components = directions @ np.linalg.pinv(whitening.matrix)
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    if not whitening.definite:
        status = DecompositionStatus.WHITENING_FAILED
    elif all_converged:
        status = DecompositionStatus.POWER_CONVERGED
    else:
        status = DecompositionStatus.POWER_LIMIT
    return build_decomposition(
        problem,
        Outcome(problem.evaluate(components), status, n_restarts * rank, rank, total),
        metric,
        output_mode,
    )


def _whiten_signal(tensor: FloatArray, rank: int, rng: np.random.Generator) -> _SignalWhitening:
    """Find the best conditioned definite combination of slices, or admit that there is none."""
    n_outputs, n_inputs = tensor.shape[:2]
    order = tensor.ndim - 1
    best: tuple[bool, float] = (False, -1.0)
    matrix = np.eye(n_inputs, rank)
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
            best = candidate
            matrix = vectors / np.sqrt(np.abs(values))
    return _SignalWhitening(matrix, best[0])


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
    moved = np.full(len(rows), np.inf)
    values = np.zeros(len(rows))
    n_done, settled = 0, False
    while n_done < n_iterations and not settled:
        n_done += 1
        powers = rows
        for _ in range(order - 2):
            powers = (powers[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
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
