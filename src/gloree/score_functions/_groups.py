"""Rows in groups of sequences, which give standard errors."""

from __future__ import annotations

import numpy as np

from gloree.sequences import Array, IntArray


def count_of(labels: IntArray, weights: Array, size: int) -> Array:
    """Sum of weights by label."""
    return np.bincount(labels, weights, minlength=size).astype(np.float64)


def rows_by_group(groups: IntArray, size: int) -> list[tuple[int, IntArray]]:
    """Rows of every group, in pieces of at most `size`."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [
        (int(groups[rows[0]]), rows[start : start + size])
        for rows in np.split(order, cuts)
        for start in range(0, rows.shape[0], size)
    ]
