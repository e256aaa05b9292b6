"""Stein's identity of the lowest orders: E s = 0, E[s x^T] = 1 and E S_2 = 0.

Least squares makes them right for a chain that is fitted, whatever the inputs are. A law or scores
that were given may fail them alone: S_2 tells its own identity, and nothing of a mean of s, nor of
first-order scores that do not belong to it.
"""

from __future__ import annotations

import numpy as np

from gloree.score_functions._verdict import NeighbourDefect
from gloree.score_functions._whitening import jackknife_variance
from gloree.sequences import Array, IntArray


def mean_and_others(sums: Array, counts: Array, used: IntArray) -> tuple[Array, Array]:
    """Mean over all groups, and the means without each of those that hold data."""
    total, count = sums.sum(axis=0), counts.sum()
    others = (count - counts[used]).reshape((-1,) + (1,) * total.ndim)
    return np.asarray(total / count), np.asarray((total - sums[used]) / others)


def defect_of(wrong: Array, left_out: Array, size: float) -> NeighbourDefect:
    """Norm of what is expected zero over `size`, its noise taken off, from jackknife values."""
    norms = np.linalg.norm(left_out.reshape(len(left_out), -1), axis=1) / size
    noise = float(np.sqrt(jackknife_variance(left_out).sum())) / size
    raw = float(np.linalg.norm(wrong)) / size
    error = float(np.sqrt(jackknife_variance(norms)))
    return NeighbourDefect(float(np.sqrt(max(raw**2 - noise**2, 0.0))), error, noise)


def mean_defect(sums: Array, counts: Array, used: IntArray) -> NeighbourDefect:
    """Defect of a mean of the white score, from sums of shape (n_groups, k).

    A score s~ + m in the place of s~ adds s~ m^T + m s~^T to S_2, and so (k + 3) |m|^2 to the
    squared norm of Cov(vech S_2, x~), expected zero; that of C is k (k + 7) / 2.
    """
    k = sums.shape[1]
    return defect_of(
        *mean_and_others(sums, counts, used), float(np.sqrt(k * (k + 7) / 2 / (k + 3)))
    )


def slope_defect(sums: Array, counts: Array, used: IntArray) -> NeighbourDefect:
    """|E[s~ x~^T] - 1| / |1|, from sums of shape (n_groups, k, k)."""
    k = sums.shape[1]
    whole, others = mean_and_others(sums, counts, used)
    return defect_of(whole - np.eye(k), others - np.eye(k), float(np.sqrt(k)))


def second_defect(
    sums: Array, information: Array, counts: Array, used: IntArray
) -> NeighbourDefect:
    """|E S_2~| over tr E[s~ s~^T] / sqrt(k), from sums of vech S_2~ and of |s~|^2."""
    n_pairs = sums.shape[1]
    k = round((np.sqrt(8 * n_pairs + 1) - 1) / 2)
    i, j = np.triu_indices(k)
    weights = np.where(i == j, 1.0, np.sqrt(2.0))
    trace = float(information.sum() / counts.sum())
    whole, others = mean_and_others(sums * weights, counts, used)
    return defect_of(whole, others, max(trace, 1e-300) / np.sqrt(k))
