r"""Moments of a residual with whitened states over output lags, and the shares of directions.

The model of the tensor T_k of order m at output lag k is, for directions w_i of unit length,

.. math:: \hat T_k = \sum_{i=1}^{r} \sum_j g_{ij} (R(k-j)\, w_i)^{\otimes m}.

It is linear in the filters g, which are eliminated by least squares (variable projection, Golub and
Pereyra 1973). With the shifted directions x_{is} = R(s) w_i,

.. math::

    b_{ij} = \sum_k \langle T_k, x_{i,k-j}^{\otimes m} \rangle, \qquad
    G_{ij,i'j'} = \sum_k (x_{i,k-j} \cdot x_{i',k-j'})^m,

the model explains b^T G^{-1} b of sum_k |T_k|^2. Since g = G^{-1} b, a small change of the
directions changes this by 2 g^T db - g^T dG g: no derivative of g is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement, permutations
from math import factorial

import numpy as np

from gloree.sequences import Array

FIRST_LAG, LAST_LAG = -5, 39  # output lags k of the moments
N_FILTER = 40  # terms of a filter g
LAG_WINDOW = max(N_FILTER - FIRST_LAG, LAST_LAG + 1)
"""Samples that a record must have: all lags, and the shifts by a filter beyond them."""

WHITEN_RTOL = 1e-8  # directions of relative variance below this are left out
BLOCK_ROWS = 4096  # rows whose products are held in memory at a time
FILTER_RIDGE = 1e-6  # relative ridge of the least squares for g


@dataclass(frozen=True)
class LagTensors:
    """Second- and third-order moments of a residual at several lags.

    Attributes
    ----------
    whitening : ndarray of shape (n_columns, n_whitened)
        x~ = (z - mean) W for z = [h_{t-1}, u_t].
    mean : ndarray of shape (n_columns,)
    second : ndarray of shape (n_lags, n_outputs, n_whitened, n_whitened)
    third : ndarray of shape (n_lags, n_outputs, n_whitened, n_whitened, n_whitened)
    shifts : ndarray of shape (n_shifts, n_whitened, n_whitened)
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
        Outputs minus those of the linear model, at the same steps.

    Returns
    -------
    LagTensors

    Raises
    ------
    ValueError
        If the record is shorter than `LAG_WINDOW`.

    Notes
    -----
    Time O(n_rows (n_lags n_outputs + n_columns) n_columns^3), and memory for `BLOCK_ROWS` rows of
    n_columns^3 products.
    """
    n = z.shape[0]
    if n < LAG_WINDOW:
        raise ValueError(f"`z` has {n} rows, and moments over all lags take {LAG_WINDOW} at least")
    mean = z.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(z.T, ddof=0).reshape(z.shape[1], z.shape[1]))
    kept = values > WHITEN_RTOL * values[-1]
    W = vectors[:, kept] / np.sqrt(values[kept])
    X = (z - mean) @ W
    residual = residual - residual.mean(axis=0)
    residual = residual - X @ (X.T @ residual / n)
    lags = range(FIRST_LAG, LAST_LAG + 1)
    moved = np.zeros((n, len(lags), residual.shape[1]))
    for place, lag in enumerate(lags):
        if lag >= 0:
            moved[: n - lag, place] = residual[lag:]
        else:
            moved[-lag:, place] = residual[:lag]
    targets, d = moved.reshape(n, -1), X.shape[1]
    second, third = (
        _hermite_moments(targets, X, order).reshape(*moved.shape[1:], *(d,) * order)
        for order in (2, 3)
    )
    first = FIRST_LAG - N_FILTER + 1
    shifts = [
        X[: n - s].T @ X[s:] / n if s >= 0 else X[-s:].T @ X[: n + s] / n
        for s in range(first, LAST_LAG + 1)
    ]
    return LagTensors(W, mean, second, third, np.stack(shifts), first)


def _hermite_moments(targets: Array, X: Array, order: int) -> Array:
    """E[targets (x) He(x)]: products of so many columns, less their constant and linear parts.

    With F the products and E[X] = 0, E[X X^T] = I in the sample, the Hermite polynomials of the
    sample are F - E[F] - X E[X^T F], so that a single pass over blocks of rows gives the moments.
    Shapes: targets (n, t), X (n, d); result (t, d, .., d).
    """
    (n, d), t = X.shape, targets.shape[1]
    places = np.array(list(combinations_with_replacement(range(d), order)))
    moments = np.zeros((t, places.shape[0]))
    constant, linear = np.zeros(places.shape[0]), np.zeros((d, places.shape[0]))
    for begin in range(0, n, BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        columns = np.ascontiguousarray(X[rows].T)
        products = columns[places[:, 0]]
        for axis in range(1, order):
            products *= columns[places[:, axis]]
        moments += (products @ targets[rows]).T
        constant += products.sum(axis=1)
        linear += (products @ X[rows]).T
    moments -= np.outer(targets.sum(axis=0), constant / n) + targets.T @ X @ (linear / n)
    moments /= n
    full = np.empty((t, *(d,) * order))
    for axes in permutations(range(order)):
        full[(slice(None), *places[:, axes].T)] = moments
    return full


class ShiftStructure:
    """Shares of lag moments that given directions explain.

    The ridge is relative to the mean diagonal of G. `totals` are sum_k |T_k|^2 / m! for m = 2, 3:
    Hermite tensors of order m have variances up to m!, and each order then counts by its part in
    the output.
    """

    def __init__(self, tensors: LagTensors, *, ridge: float = FILTER_RIDGE) -> None:
        self._ridge = ridge
        self._shifts = tensors.shifts
        self._n_lags, self._n_outputs, self._d = tensors.second.shape[:3]
        self._pairs = np.triu_indices(self._d)
        # <T_k, . x x> for all lags is one product of matrices: products of pairs, each pair once
        twice = np.where(self._pairs[0] == self._pairs[1], 1.0, 2.0)
        third = tensors.third[..., self._pairs[0], self._pairs[1]] * twice
        second = tensors.second.reshape(-1, self._d)
        self._unfolded = {2: second, 3: third.reshape(-1, twice.shape[0])}
        self.totals = np.array([np.sum(tensors.second**2) / 2, np.sum(tensors.third**2) / 6])

    def shares(self, w: Array) -> tuple[float, float]:
        """Shares of the second- and third-order moments, directions w of shape (r, n_whitened)."""
        explained, _ = self._explained(w, gradient=False)
        shares = explained / np.maximum(self.totals, 1e-300)
        return float(shares[0]), float(shares[1])

    def loss(self, directions: Array) -> float:
        """Minus the share of both orders together; directions of any length, flat or not."""
        w, _ = self._unit(directions)
        explained, _ = self._explained(w, gradient=False)
        return -float(explained.sum() / max(self.totals.sum(), 1e-300))

    def loss_and_gradient(self, directions: Array) -> tuple[float, Array]:
        """Loss, and its gradient in the shape of `directions`."""
        w, size = self._unit(directions)
        explained, gradient = self._explained(w, gradient=True)
        scale = max(float(self.totals.sum()), 1e-300)
        # the length of a direction does not matter: nothing is left along it
        gradient = gradient - np.sum(gradient * w, axis=1, keepdims=True) * w
        return -float(explained.sum() / scale), (-gradient / size / scale).reshape(directions.shape)

    def _unit(self, directions: Array) -> tuple[Array, Array]:
        v = directions.reshape(-1, self._d)
        size = np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300)
        return v / size, size

    def _explained(self, w: Array, *, gradient: bool) -> tuple[Array, Array]:
        """b^T g / m! of both orders (2,), and the gradient of their sum (r, n_whitened).

        Filters run backwards here: term q = n_filter - 1 - j of lag k sees shift number k + q.
        """
        r, d, K, A, N = w.shape[0], self._d, self._n_lags, self._n_outputs, N_FILTER
        n_shifts = self._shifts.shape[0]
        lag = np.arange(K)[:, None]
        shift = lag + np.arange(N)
        seen = np.bincount(shift.ravel(), minlength=n_shifts)
        x = np.moveaxis(self._shifts @ w.T, 2, 0).reshape(r * n_shifts, d)
        inner = x @ x.T
        # a general power costs a hundred times what these products cost
        one_less = {2: (x, inner), 3: (x[:, self._pairs[0]] * x[:, self._pairs[1]], inner * inner)}
        explained, slope = np.zeros(2), np.zeros_like(x)
        for place, (m, unfolded) in enumerate(self._unfolded.items()):
            # <T_ka, . x^(m-1)> for every shift, lag and output: (r n_shifts, K A, d)
            products, lower = one_less[m]
            open_ = (products @ unfolded.T).reshape(-1, K * A, d)
            closed = (open_ @ x[:, :, None]).reshape(r, n_shifts, K, A)
            power = (lower * inner).reshape(r, n_shifts, r, n_shifts)
            blocks = np.zeros((r, N, r, N))
            for k in range(K):
                blocks += power[:, k : k + N, :, k : k + N]
            G = blocks.reshape(r * N, r * N)
            b = closed[:, shift, lag].sum(axis=1).reshape(r * N, A)
            ridge = self._ridge / (r * N)
            G[np.diag_indices(r * N)] += ridge * np.trace(G) + 1e-300
            g = np.linalg.solve(G, b)
            explained[place] = np.sum(b * g) / factorial(m)
            if not gradient:
                continue
            # filters[i, s, k] = g[i, s - k], zero outside
            filters = np.zeros((r, n_shifts, K, A))
            filters[:, shift, lag] = g.reshape(r, 1, N, A)
            flat = filters.reshape(r * n_shifts, K * A)
            pairs = flat @ flat.T
            # the ridge depends on the directions by tr G = sum_s seen_s |x_s|^(2 m)
            pairs[np.diag_indices(r * n_shifts)] += ridge * np.sum(g**2) * np.tile(seen, r)
            toward = (flat[:, None, :] @ open_)[:, 0]
            slope += (2 * m / factorial(m)) * (toward - (pairs * lower) @ x)
        back = np.einsum("sij,rsi->rj", self._shifts, slope.reshape(r, n_shifts, d))
        return explained, back
