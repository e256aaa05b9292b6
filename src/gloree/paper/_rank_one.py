"""The best part of rank one of symmetric tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gloree.sequences import Array


def rank_one_roots(powers: Array, units: NDArray[np.bool_]) -> Array:
    """Best rank-one part u^{(x)l} of the tensor of each of some units, over these units only.

    For l = 2 the leading eigenvector; for higher orders the power method from the best slice.
    """
    k, order = powers.shape[0], powers.ndim - 1
    found, chosen = np.zeros((k, k)), np.flatnonzero(units)
    for i in chosen:
        tensor = powers[i][np.ix_(*[chosen] * order)]
        values, vectors = np.linalg.eigh(_leading_matrix(tensor))
        vector = vectors[:, np.argmax(values)]
        for _ in range(200 if order > 2 else 0):
            updated = _applied(tensor, vector, order - 1)
            size = np.linalg.norm(updated)
            if size == 0:
                break
            updated = updated / size
            if np.abs(updated - vector).max() < 1e-15:
                break
            vector = updated
        value = float(_applied(tensor, vector, order))
        if order % 2 == 0:
            root = max(value, 0.0) ** (1.0 / order)
            root *= np.sign(vector[np.argmax(np.abs(vector))]) or 1.0
        else:
            root = np.sign(value) * np.abs(value) ** (1.0 / order)
        found[i, chosen] = root * vector
    return found


def _leading_matrix(tensor: Array) -> Array:
    """Symmetric matrix whose leading eigenvector is that of a rank-one tensor."""
    if tensor.ndim == 2:
        return (tensor + tensor.T) / 2
    unfolded = tensor.reshape(tensor.shape[0], -1)
    return np.asarray(unfolded @ unfolded.T)


def _applied(tensor: Array, vector: Array, times: int) -> Array:
    for _ in range(times):
        tensor = tensor @ vector
    return tensor
