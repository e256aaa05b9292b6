r"""The directions that nonlinearities see, from moments of order two and three over output lags.

Let x~ be the whitened [h_{t-1}, u_t] of the linear model, with R(s) = E[x~_t x~_{t+s}^T], and let
its residual be a sum of filtered functions of one direction each, r_t = sum_ij g_ij f_i(w_i .
x~_{t-j}). For Gaussian inputs its moments are shifted copies of one rank-one family for each i,

.. math:: T_k = E[r_{t+k}\, He_m(\tilde x_t)] = \sum_i c_{im} \sum_j g_{ij}\,
          (R(k-j)\, w_i)^{\otimes m}, \qquad m = 2, 3.

The filters g are eliminated by least squares, and the w_i fitted to both orders at once, so that
even and odd nonlinearities are both seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy import optimize

from gloree.identification._lag_tensors import FILTER_RIDGE, LagTensors, ShiftStructure
from gloree.sequences import Array

TRIED = 20  # random directions that are tried, for each dimension
N_STARTS = 5  # starts that are followed for each further direction
APART = 0.7
"""Cosine between two starts, at most. The share explained has local minima, for instance at
directions shifted by a step (R(1) w in place of w), and the best starts often lie near the same."""

FEW_STEPS, MOST_STEPS = 40, 300
"""Steps of a descent from each start, and from the best point reached."""

GRADIENT = 1e-8  # a descent ends when no entry of the gradient of the share is larger


@dataclass(frozen=True)
class NonlinearDirection:
    """The linear combination that one nonlinearity of a system sees.

    Attributes
    ----------
    weights : ndarray of shape (n_columns,)
        v_t = weights . [h_{t-1}, u_t] + offset has mean zero and variance one.
    offset : float
    explained : tuple of float
        Shares of the second- and third-order moments that shifted copies of this direction, and of
        those found together with it, explain: near 1 if there are no more static nonlinearities
        than directions, however the linear parts around them look.
    """

    weights: Array
    offset: float
    explained: tuple[float, float]


def find_directions(
    tensors: LagTensors, n_directions: int, *, ridge: float = FILTER_RIDGE
) -> tuple[NonlinearDirection, ...]:
    """Fit one or several directions w_i jointly, with their filters eliminated.

    Parameters
    ----------
    tensors : LagTensors
    n_directions : int
    ridge : float, default 1e-6
        Relative ridge of the least squares for the filters.

    Returns
    -------
    tuple of NonlinearDirection
        In the order in which each adds most to the share that the ones before it explain.

    Raises
    ------
    ValueError
        If `n_directions` is below 1.

    Notes
    -----
    For each further direction a few starts are followed, with all directions moving: the best
    ones, apart from each other, of the eigenvectors of sum_k T_k T_k^T and of fixed random vectors.
    One and two directions were found from exact moments in all systems that were tried; the search
    for three may end at a local minimum.

    Moments of order two of nonlinearities with the same filter g behind them determine the plane
    of their directions only, not a basis of it: other filters, or moments of order three, do.
    """
    if n_directions < 1:
        raise ValueError(f"`n_directions` must be at least 1, got {n_directions}")
    return next(islice(growing_directions(tensors, ridge), n_directions - 1, None))


def growing_directions(
    tensors: LagTensors, ridge: float = FILTER_RIDGE
) -> Iterator[tuple[NonlinearDirection, ...]]:
    """Yield one direction, two directions and so on without end (see `find_directions`)."""
    structure = ShiftStructure(tensors, ridge=ridge)
    starts = _starts(tensors, structure.totals)
    w = np.zeros((0, starts.shape[1]))
    while True:
        w = _with_another(structure, w, starts)
        # the older ones were found alone, and may lie between the true ones
        for i in range(w.shape[0] - 1):
            others = np.delete(w, i, axis=0)
            w = min(w, _with_another(structure, others, starts), key=structure.loss)
        w = _by_gain(structure, _descend(structure, w, MOST_STEPS))
        explained = structure.shares(w)
        yield tuple(
            NonlinearDirection(weights, -float(tensors.mean @ weights), explained)
            for weights in (tensors.whitening @ w.T).T
        )


def _with_another(structure: ShiftStructure, w: Array, starts: Array) -> Array:
    """Add the direction that leads to the least loss, from starts apart, all directions moving."""
    order = np.argsort([structure.loss(np.vstack((w, start))) for start in starts])
    kept: list[Array] = []
    for start in starts[order]:
        if all(abs(float(start @ other)) <= APART for other in kept):
            kept.append(start)
    ends = [_descend(structure, np.vstack((w, s)), FEW_STEPS) for s in kept[:N_STARTS]]
    return min(ends, key=structure.loss)


def _descend(structure: ShiftStructure, w: Array, n_steps: int) -> Array:
    """Directions of unit length at the end of a quasi-Newton descent from w."""
    options = {"maxiter": n_steps, "gtol": GRADIENT}
    end = optimize.minimize(
        structure.loss_and_gradient, w.ravel(), jac=True, method="BFGS", options=options
    )
    found = end.x.reshape(w.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _starts(tensors: LagTensors, totals: Array) -> Array:
    """Eigenvectors of the moments, and random directions from a fixed seed."""
    spread = np.einsum("kaij,kalj->il", tensors.second, tensors.second)
    cubes = np.einsum("kaijm,kaljm->il", tensors.third, tensors.third)
    spread = totals[0] * spread / max(np.trace(spread), 1e-300)
    spread += totals[1] * cubes / max(np.trace(cubes), 1e-300)
    _, vectors = np.linalg.eigh(spread)
    d = spread.shape[0]
    drawn = np.random.default_rng(0).standard_normal((TRIED * d, d))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.concatenate((vectors.T[::-1], drawn))


def _by_gain(structure: ShiftStructure, w: Array) -> Array:
    """Order directions so that each adds most to those before it."""
    chosen: list[int] = []
    while len(chosen) < w.shape[0]:
        left = [i for i in range(w.shape[0]) if i not in chosen]
        chosen.append(min(left, key=lambda i: structure.loss(w[[*chosen, i]])))
    return np.asarray(w[chosen])
