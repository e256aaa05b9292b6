r"""Ho-Kalman: a linear network from its Markov parameters.

A network with f(z) = z has the response g_0 = A2^T A1 + D^T, g_k = A2^T U^k A1: the block Hankel
matrix of g_1, g_2, .. has the rank of its state, and its singular vectors give the weights up to a
similarity of the states.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gloree.sequences import Array, IntArray

LARGEST_RADIUS = 0.999
"""Spectral radius of a realisation, at most: poles beyond it are reflected or pulled in."""


@dataclass(frozen=True)
class Realisation:
    """States of a linear system in block-diagonal coordinates, h_t = U h_{t-1} + B u_t.

    Attributes
    ----------
    transition : ndarray of shape (order, order)
        U, real with blocks of one or two rows: the modes.
    inputs : ndarray of shape (order, n_inputs)
        B.
    modes : tuple of ndarray of int
        States of each mode: one for a real pole, two for a complex pair.
    singular_values : ndarray
        Of the block Hankel matrix.
    n_moved : int
        Unstable poles that were moved inside the unit circle.
    """

    transition: Array
    inputs: Array
    modes: tuple[IntArray, ...]
    singular_values: Array = field(repr=False)
    n_moved: int = 0

    @property
    def order(self) -> int:
        """States."""
        return int(self.transition.shape[0])

    @property
    def poles(self) -> Array:
        """Eigenvalues of U."""
        return np.asarray(np.linalg.eigvals(self.transition))


def hankel_matrix(parameters: Array) -> Array:
    """Block Hankel matrix whose block (i, j) is g_{i+j+1}, square in blocks."""
    n_lags, n_outputs, n_inputs = parameters.shape
    n_blocks = n_lags // 2
    blocks: Array = parameters[np.add.outer(np.arange(n_blocks), np.arange(n_blocks)) + 1]
    return blocks.transpose(0, 2, 1, 3).reshape(n_blocks * n_outputs, n_blocks * n_inputs)


def supported_order(n_lags: int, n_outputs: int, n_inputs: int) -> int:
    """Largest order that so many Markov parameters determine: U takes all block rows but one."""
    n_blocks = n_lags // 2
    return min((n_blocks - 1) * n_outputs, n_blocks * n_inputs)


def ho_kalman(parameters: Array, order: int) -> Realisation:
    """Realise Markov parameters by a stable system of a given order.

    Parameters
    ----------
    parameters : ndarray of shape (n_lags, n_outputs, n_inputs)
        g_0, g_1, .. with n_lags of at least twice the order over the number of inputs (outputs).
    order : int

    Returns
    -------
    Realisation
        Always stable; `n_moved` says how many poles had to be moved for that. Output weights are
        left to a least-squares fit on its states.

    Raises
    ------
    ValueError
        If the order is not supported by so many lags.

    References
    ----------
    .. [1] B. L. Ho, R. E. Kalman, "Effective construction of linear state-variable models from
       input/output functions", Regelungstechnik 14 (1966) 545-548.
    """
    H = hankel_matrix(parameters)
    n_outputs, n_inputs = parameters.shape[1:]
    largest = supported_order(*parameters.shape)
    if not 1 <= order <= largest:
        raise ValueError(
            f"`order` is {order}: {parameters.shape[0]} Markov parameters of {n_outputs} x "
            f"{n_inputs} support orders from 1 to {largest}"
        )
    left, values, right = np.linalg.svd(H, full_matrices=False)
    root = np.sqrt(np.maximum(values[:order], 1e-300))
    observability = left[:, :order] * root
    inputs = (right[:order] * root[:, None])[:, :n_inputs]
    # block row i is C U^i, so the next block row is this one times U
    U = np.linalg.lstsq(observability[:-n_outputs], observability[n_outputs:], rcond=1e-12)[0]
    U, n_moved = stabilised(U)
    transition, change, modes = modal_form(U)
    return Realisation(transition, np.linalg.solve(change, inputs), modes, values, n_moved)


def stabilised(U: Array) -> tuple[Array, int]:
    """Reflect poles outside the unit circle into it, pull those near it below the limit, and count.

    The matrix itself is returned where no pole had to be moved.
    """
    poles, vectors = np.linalg.eig(U)
    size = np.abs(poles)
    bad = size > LARGEST_RADIUS
    if not bad.any():
        return U, 0
    wanted = np.minimum(np.where(size > 1.0, 1.0 / size, size), LARGEST_RADIUS)
    moved = np.where(bad, poles / size * wanted, poles)
    return np.real((vectors * moved) @ np.linalg.inv(vectors)), int(bad.sum())


def pulled_inside(U: Array, limit: float) -> Array:
    """Shorten poles of larger modulus than a limit to it; U itself where there are none."""
    poles, vectors = np.linalg.eig(U)
    size = np.abs(poles)
    if not (size > limit).any():
        return U
    moved = np.where(size > limit, poles * (limit * (1.0 - 1e-9) / np.maximum(size, limit)), poles)
    return np.real((vectors * moved) @ np.linalg.inv(vectors))


def modal_form(U: Array) -> tuple[Array, Array, tuple[IntArray, ...]]:
    """Real block-diagonal M and T with U = T M T^-1, and the rows of each block.

    Blocks have one row for a real pole and two for a complex pair, by decreasing modulus. Defective
    matrices have no such form; rounding makes them nearly so, with large T.
    """
    poles, vectors = np.linalg.eig(U)
    used = np.zeros(poles.shape[0], dtype=bool)
    columns: list[Array] = []
    modes: list[IntArray] = []
    for i in np.argsort(-np.abs(poles), kind="stable"):
        if used[i]:
            continue
        used[i] = True
        start = len(columns)
        if abs(poles[i].imag) <= 1e-12 * abs(poles[i]):
            columns.append(vectors[:, i].real)
        else:
            distance = np.abs(poles - np.conj(poles[i])) + 10.0 * used
            used[int(np.argmin(distance))] = True
            columns += [vectors[:, i].real, vectors[:, i].imag]
        modes.append(np.arange(start, len(columns)))
    T = np.column_stack(columns)
    M = np.linalg.solve(T, U @ T)
    blocks = np.zeros_like(M)
    for mode in modes:
        blocks[np.ix_(mode, mode)] = M[np.ix_(mode, mode)]
    return blocks, T, tuple(modes)
