r"""The direction that a nonlinearity sees, from moments of order two and three over output lags.

With x~ the whitened [h_{t-1}, u_t] of the linear model and r what it leaves of the output,

.. math:: T_k = E[r_{t+k}\, He_m(\tilde x_t)], \qquad m = 2, 3.

If the residual is a filtered function of one direction, r_t = sum_j g_j f(w . x~_{t-j}), then
neighbouring steps of x~ being correlated with R(s) = E[x~_t x~_{t+s}^T] gives

.. math:: T_k = c_m \sum_j g_j\, (R(k-j)\, w)^{\otimes m}

for Gaussian inputs: shifted copies of one rank-one family. The filter g is eliminated by least
squares, and w fitted to both orders at once, so that even and odd nonlinearities are both seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from math import factorial
from typing import Any

import numpy as np
from scipy import optimize

from gloree.sequences import Array, IntArray

FIRST_LAG, LAST_LAG = -5, 39
"""Output lags k of the moments."""

N_FILTER = 40
"""Terms of the filter g."""

FILTER_RIDGE = 1e-6
"""Relative ridge of the least squares for g."""

TRIED = 20
"""Random directions that are tried, for each dimension."""

WHITEN_RTOL = 1e-8
"""Directions of relative variance below this are left out."""


@dataclass(frozen=True)
class LagTensors:
    """Second- and third-order moments of a residual at several lags.

    Attributes
    ----------
    whitening : ndarray of shape (n_columns, n_directions)
        x~ = (z - mean) W for z = [h_{t-1}, u_t].
    mean : ndarray of shape (n_columns,)
    second : ndarray of shape (n_lags, n_outputs, n_directions, n_directions)
    third : ndarray of shape (n_lags, n_outputs, n_directions, n_directions, n_directions)
    shifts : ndarray of shape (n_shifts, n_directions, n_directions)
        R(s) for s from `first_shift` on.
    first_shift : int
    """

    whitening: Array
    mean: Array
    second: Array = field(repr=False)
    third: Array = field(repr=False)
    shifts: Array = field(repr=False)
    first_shift: int


def lag_tensors(z: Array, residual: Array) -> LagTensors:
    """Moments of one record.

    Parameters
    ----------
    z : ndarray of shape (n_rows, n_columns)
        [h_{t-1}, u_t] of neighbouring steps.
    residual : ndarray of shape (n_rows, n_outputs)
        Of the linear model, at the same steps.

    Notes
    -----
    Time O(n_rows (n_lags n_outputs + n_columns) n_columns^3).
    """
    n = z.shape[0]
    mean = z.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(z.T, ddof=0).reshape(z.shape[1], z.shape[1]))
    kept = values > WHITEN_RTOL * values[-1]
    W = vectors[:, kept] / np.sqrt(values[kept])
    X = (z - mean) @ W
    d = X.shape[1]
    residual = residual - residual.mean(axis=0)
    residual = residual - X @ (X.T @ residual / n)
    lags = np.arange(FIRST_LAG, LAST_LAG + 1)
    moved = np.zeros((n, lags.shape[0], residual.shape[1]))
    for place, lag in enumerate(lags.tolist()):
        if lag >= 0:
            moved[: n - lag, place] = residual[lag:]
        else:
            moved[-lag:, place] = residual[:lag]
    shifted = moved.reshape(n, -1)
    tensors = []
    for order in (2, 3):
        places = np.array(list(combinations_with_replacement(range(d), order)))
        features = np.prod(X[:, places], axis=2)
        features -= features.mean(axis=0)
        # Hermite polynomials of the sample: nothing linear is left in the products
        features -= X @ (X.T @ features / n)
        packed = (shifted.T @ features / n).reshape(lags.shape[0], -1, places.shape[0])
        full = np.empty((*packed.shape[:2], *(d,) * order))
        for place, index in enumerate(places.tolist()):
            for axes in set(_orders(tuple(index))):
                target: Any = (slice(None), slice(None), *axes)
                full[target] = packed[:, :, place]
        tensors.append(full)
    first, last = FIRST_LAG - N_FILTER + 1, LAST_LAG
    shifts = np.stack(
        [
            X[: n - s].T @ X[s:] / n if s >= 0 else X[-s:].T @ X[: n + s] / n
            for s in range(first, last + 1)
        ]
    )
    return LagTensors(W, mean, tensors[0], tensors[1], shifts, first)


def _orders(index: tuple[int, ...]) -> list[tuple[int, ...]]:
    if len(index) == 1:
        return [index]
    return [
        (index[i], *rest) for i in range(len(index)) for rest in _orders(index[:i] + index[i + 1 :])
    ]


@dataclass(frozen=True)
class NonlinearDirection:
    """What the nonlinearity of a system sees.

    Attributes
    ----------
    weights : ndarray of shape (n_columns,)
        v_t = weights . [h_{t-1}, u_t] + offset has mean zero and variance one.
    offset : float
    explained : tuple of float
        Shares of the second- and third-order moments that shifted copies of one direction
        explain: near 1 for a single static nonlinearity, whatever is linear around it.
    """

    weights: Array
    offset: float
    explained: tuple[float, float]


def find_direction(tensors: LagTensors, *, n_starts: int = 3) -> NonlinearDirection:
    """Fit the direction w, with the filter eliminated.

    Parameters
    ----------
    tensors : LagTensors
    n_starts : int, default 3
        Directions that are followed to a minimum: the best of the eigenvectors of
        sum_k T_k T_k^T and of a fixed set of random ones.
    """
    d = tensors.whitening.shape[1]
    n_lags = tensors.second.shape[0]
    place = (np.arange(n_lags)[:, None] - np.arange(N_FILTER)[None, :]) + N_FILTER - 1
    totals = [float(np.sum(T**2)) / factorial(m) for m, T in _orders_of(tensors)]

    def shares(w: Array) -> tuple[float, float]:
        moved = tensors.shifts @ w
        inner = moved @ moved.T
        values = []
        for (m, T), total in zip(_orders_of(tensors), totals, strict=True):
            power = inner**m
            G = power[place[:, :, None], place[:, None, :]].sum(axis=0)
            G[np.diag_indices(N_FILTER)] += FILTER_RIDGE * np.trace(G) / N_FILTER + 1e-300
            b = _contract(T, moved, place, m)
            g = np.linalg.solve(G, b)
            values.append(float(np.sum(b * g)) / factorial(m) / max(total, 1e-300))
        return values[0], values[1]

    def loss(w: Array) -> float:
        second, third = shares(w / max(float(np.linalg.norm(w)), 1e-300))
        return -(second * totals[0] + third * totals[1]) / max(sum(totals), 1e-300)

    spread = np.einsum("kaij,kalj->il", tensors.second, tensors.second)
    spread = spread / max(np.trace(spread), 1e-300)
    cubes = np.einsum("kaijm,kaljm->il", tensors.third, tensors.third)
    spread = totals[0] * spread + totals[1] * cubes / max(np.trace(cubes), 1e-300)
    _, vectors = np.linalg.eigh(spread)
    # the loss has local minima: the best of many directions, always the same ones
    drawn = np.random.default_rng(0).standard_normal((TRIED * d, d))
    starts = np.concatenate((vectors.T[::-1], drawn))
    order = np.argsort([loss(start) for start in starts], kind="stable")
    best = None
    for start in starts[order[:n_starts]]:
        found = optimize.minimize(loss, start, method="BFGS", options={"maxiter": 40})
        if best is None or found.fun < best.fun:
            best = found
    assert best is not None
    w = best.x / np.linalg.norm(best.x)
    weights = tensors.whitening @ w
    return NonlinearDirection(weights, -float(tensors.mean @ weights), shares(w))


def _orders_of(tensors: LagTensors) -> tuple[tuple[int, Array], tuple[int, Array]]:
    return (2, tensors.second), (3, tensors.third)


def _contract(T: Array, moved: Array, place: IntArray, order: int) -> Array:
    """b_ja = sum_k <T_ka, (R(k-j) w)^(x)order>, shape (n_filter, n_outputs)."""
    v = moved[place]
    if order == 2:
        seen = np.einsum("kji,kail->kjal", v, T, optimize=True)
        return np.asarray(np.einsum("kjl,kjal->ja", v, seen, optimize=True))
    seen = np.einsum("kji,kailm->kjalm", v, T, optimize=True)
    seen = np.einsum("kjl,kjalm->kjam", v, seen, optimize=True)
    return np.asarray(np.einsum("kjm,kjam->ja", v, seen, optimize=True))
