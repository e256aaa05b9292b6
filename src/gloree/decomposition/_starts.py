"""Where Levenberg-Marquardt starts: matrix pencils, joint diagonalisation, random rows."""

from __future__ import annotations

import numpy as np

from ._result import FloatArray


def random_start(rank: int, size: int, rng: np.random.Generator) -> FloatArray:
    """Return independent normal rows: uniform directions on the sphere."""
    return rng.standard_normal((rank, size))


def pencil_starts(slices: FloatArray, n_pencils: int, rng: np.random.Generator) -> FloatArray:
    """Return the components of `n_pencils` random pencils, shape (n_pencils, n, n).

    For symmetric slices T_a = A^T diag(W_a) A with A square and two random combinations X, Y of
    them, the eigenvectors of X Y^-1 are the rows of A (Jennrich's algorithm). Noise makes pairs of
    eigenvalues complex; such a pair (v, conj v) gives the rows Re v and Im v, since two real parts
    would be one component twice.
    """
    n_slices, size = slices.shape[:2]
    weights = rng.standard_normal((2 * n_pencils, n_slices))
    combined = (weights @ slices.reshape(n_slices, -1)).reshape(2, n_pencils, size, size)
    try:
        # (Y^-1 X)^T = X Y^-1 for symmetric X and Y
        products = np.linalg.solve(combined[1], combined[0]).swapaxes(1, 2)
        values, vectors = np.linalg.eig(products)
    except np.linalg.LinAlgError:
        return rng.standard_normal((n_pencils, size, size))
    columns = np.where(values.imag[:, None, :] < 0, vectors.imag, vectors.real)
    rows = columns.swapaxes(1, 2)
    lengths = np.linalg.norm(rows, axis=2, keepdims=True)
    if not np.isfinite(rows).all() or lengths.min() < 1e-300:
        return rng.standard_normal((n_pencils, size, size))
    return np.asarray(rows / lengths, dtype=np.float64)


def uwedge(slices: FloatArray, components: FloatArray, n_iterations: int = 10) -> FloatArray:
    """Refine square components by approximate joint diagonalisation (uniform weights).

    With V = A^-T, the matrices V T_a V^T are nearly diagonal, D_a. The mixing left over, I + E, is
    fitted to their off-diagonal entries, M_a[i, j] = E[i, j] D_a[j] + E[j, i] D_a[i], pair by pair,
    and V becomes (I + E)^-1 V.

    References
    ----------
    P. Tichavsky, A. Yeredor, Fast approximate joint diagonalization incorporating weight
    matrices, IEEE Transactions on Signal Processing 57 (2009).
    """
    size = slices.shape[1]
    mixing = components.T
    try:
        for _ in range(n_iterations):
            demixing = np.linalg.inv(mixing)
            rotated = demixing @ slices @ demixing.T
            diagonals = np.einsum("aii->ai", rotated)
            products = diagonals.T @ diagonals
            crossed = np.einsum("aij,aj->ij", rotated, diagonals)
            squares = products.diagonal()
            determinant = np.outer(squares, squares) - products**2
            np.fill_diagonal(determinant, 1.0)
            floor = 1e-12 * np.outer(squares, squares)
            np.fill_diagonal(floor, 0.0)
            determinant = np.maximum(determinant, floor + 1e-300)
            update = (squares[:, None] * crossed - products * crossed.T) / determinant
            np.fill_diagonal(update, 1.0)
            mixing = mixing @ update
            mixing = mixing / np.linalg.norm(mixing, axis=0)
            if np.abs(update - np.eye(size)).max() < 1e-6:
                break
    except np.linalg.LinAlgError:
        return components
    return np.asarray(mixing.T) if np.isfinite(mixing).all() else components
