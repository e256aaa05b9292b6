"""Damped least-squares steps."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from gloree.sequences import Array


def damped_step(H: Array, g: Array, scale: Array, damping: float) -> Array:
    """Solve (H + damping diag(scale)) s = g.

    A scale of zero is one: nothing depends on such a weight, as on any of a rectifier that never
    acts, and it stays where it is.
    """
    size = 1.0 / np.sqrt(np.where(scale > 0.0, scale, 1.0))
    matrix = H * np.outer(size, size)
    matrix[np.diag_indices_from(matrix)] += damping
    try:
        factor = linalg.cho_factor(matrix, overwrite_a=True)
        solved: Array = size * linalg.cho_solve(factor, size * g)
        return solved
    except linalg.LinAlgError:
        matrix = H * np.outer(size, size) + damping * np.eye(g.shape[0])
        return np.asarray(size * np.linalg.lstsq(matrix, size * g, rcond=1e-12)[0])
