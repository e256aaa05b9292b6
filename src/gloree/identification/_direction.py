r"""The directions that nonlinearities see, from moments of order two and three over output lags.

With x~ the whitened [h_{t-1}, u_t] of the linear model and r what it leaves of the output,

.. math:: T_k = E[r_{t+k}\, He_m(\tilde x_t)], \qquad m = 2, 3.

If the residual is a sum of filtered functions of one direction each,
r_t = sum_i sum_j g_ij f_i(w_i . x~_{t-j}), then neighbouring steps of x~ being correlated with
R(s) = E[x~_t x~_{t+s}^T] gives

.. math:: T_k = \sum_i c_{im} \sum_j g_{ij}\, (R(k-j)\, w_i)^{\otimes m}

for Gaussian inputs: shifted copies of one rank-one family for each nonlinearity. The filters g are
eliminated by least squares, and the w_i fitted to both orders at once, so that even and odd
nonlinearities are both seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy import optimize

from gloree.identification._lag_tensors import LagTensors
from gloree.identification._shift_structure import FILTER_RIDGE, ShiftStructure
from gloree.sequences import Array

TRIED = 20
"""Random directions that are tried, for each dimension."""

N_STARTS = 5
"""Starts that are followed, by default."""

APART = 0.7
"""Cosine between two of them, at most. The share explained has local minima, at directions shifted
by a step (R(1) w in place of w) for instance, and the best starts often lie near the same one."""

FEW_STEPS, MOST_STEPS = 40, 300
"""Steps of a descent from each start, and of that from the best of their ends."""

GRADIENT = 1e-8
"""Largest entry of the gradient of the share at which a descent ends."""


@dataclass(frozen=True)
class NonlinearDirection:
    """What one nonlinearity of a system sees.

    Attributes
    ----------
    weights : ndarray of shape (n_columns,)
        v_t = weights . [h_{t-1}, u_t] + offset has mean zero and variance one.
    offset : float
    explained : tuple of float
        Shares of the second- and third-order moments that shifted copies of this direction, and of
        those found together with it, explain: near 1 if there are no more static nonlinearities
        than directions, whatever is linear around them.
    """

    weights: Array
    offset: float
    explained: tuple[float, float]


def find_direction(tensors: LagTensors, *, n_starts: int = N_STARTS) -> NonlinearDirection:
    """Fit one direction: `find_directions` with a single one."""
    return find_directions(tensors, 1, n_starts=n_starts)[0]


def find_directions(
    tensors: LagTensors,
    n_directions: int,
    *,
    n_starts: int = N_STARTS,
    ridge: float = FILTER_RIDGE,
) -> tuple[NonlinearDirection, ...]:
    """Fit several directions w_i jointly, with their filters eliminated.

    Parameters
    ----------
    tensors : LagTensors
    n_directions : int
    n_starts : int, default 5
        Starts that are followed for each further direction: the best, beside those already found
        and apart from each other, of the eigenvectors of sum_k T_k T_k^T and of a fixed set of
        random ones. All directions move in these descents, those found before among them.
    ridge : float, default 1e-6
        Relative ridge of the least squares for the filters.

    Returns
    -------
    tuple of NonlinearDirection
        In the order in which each adds most to the share that the ones before it explain.

    Notes
    -----
    One and two directions were found from exact moments in all systems that were tried. Of three,
    the search may end at a local minimum.

    Moments of order two of nonlinearities with the same filter g behind them determine the plane
    of their directions only, not a basis of it: other filters, or moments of order three, do.
    """
    if n_directions < 1:
        raise ValueError(f"`n_directions` must be at least 1, got {n_directions}")
    growing = growing_directions(tensors, n_starts=n_starts, ridge=ridge)
    return next(islice(growing, n_directions - 1, None))


def growing_directions(
    tensors: LagTensors, *, n_starts: int = N_STARTS, ridge: float = FILTER_RIDGE
) -> Iterator[tuple[NonlinearDirection, ...]]:
    """One direction, two directions and so on without end, as `find_directions` gives them."""
    structure = ShiftStructure(tensors, ridge=ridge)
    starts = _starts(tensors, structure.totals)
    w = np.zeros((0, starts.shape[1]))
    while True:
        w = _with_another(structure, w, starts, n_starts)
        # the ones found before stood alone then, and may sit between the true ones
        for i in range(w.shape[0] - 1):
            others = np.delete(w, i, axis=0)
            w = min(w, _with_another(structure, others, starts, n_starts), key=structure.loss)
        w = _by_gain(structure, _descend(structure, w, MOST_STEPS))
        explained = structure.shares(w)
        yield tuple(
            NonlinearDirection(weights, -float(tensors.mean @ weights), explained)
            for weights in (tensors.whitening @ w.T).T
        )


def _with_another(structure: ShiftStructure, w: Array, starts: Array, n_starts: int) -> Array:
    """Add the start that leads to the least loss, all directions moving."""
    order = np.argsort([structure.loss(np.vstack((w, start))) for start in starts])
    followed = _apart(starts[order], n_starts)
    ends = [_descend(structure, np.vstack((w, start)), FEW_STEPS) for start in followed]
    return min(ends, key=structure.loss)


def _descend(structure: ShiftStructure, w: Array, n_steps: int) -> Array:
    """Directions of unit length at the end of a quasi-Newton descent from w."""
    end = optimize.minimize(
        structure.loss_and_gradient,
        w.ravel(),
        jac=True,
        method="BFGS",
        options={"maxiter": n_steps, "gtol": GRADIENT},
    )
    found = end.x.reshape(w.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _starts(tensors: LagTensors, totals: Array) -> Array:
    """Eigenvectors of the moments, and random directions that are always the same ones."""
    second, third = tensors.second, tensors.third
    spread = np.einsum("kaij,kalj->il", second, second)
    cubes = np.einsum("kaijm,kaljm->il", third, third)
    spread = totals[0] * spread / max(np.trace(spread), 1e-300)
    spread += totals[1] * cubes / max(np.trace(cubes), 1e-300)
    _, vectors = np.linalg.eigh(spread)
    d = spread.shape[0]
    drawn = np.random.default_rng(0).standard_normal((TRIED * d, d))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.concatenate((vectors.T[::-1], drawn))


def _apart(starts: Array, n_starts: int) -> list[Array]:
    """First starts, no two of them close to each other."""
    kept: list[Array] = []
    for start in starts:
        if len(kept) == n_starts:
            break
        if all(abs(float(start @ other)) <= APART for other in kept):
            kept.append(start)
    return kept


def _by_gain(structure: ShiftStructure, w: Array) -> Array:
    """Order directions by what each adds to those before it."""
    chosen: list[int] = []
    while len(chosen) < w.shape[0]:
        left = [i for i in range(w.shape[0]) if i not in chosen]
        chosen.append(min(left, key=lambda i: structure.loss(w[[*chosen, i]])))
    return np.asarray(w[chosen])
