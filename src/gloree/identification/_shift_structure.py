r"""The share of lag moments that shifted copies of a few directions explain, and its gradient.

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

from math import factorial

import numpy as np

from gloree.identification._lag_tensors import N_FILTER, LagTensors
from gloree.sequences import Array

FILTER_RIDGE = 1e-6
"""Relative ridge of the least squares for g."""


class ShiftStructure:
    """Shares explained by given directions.

    Parameters
    ----------
    tensors : LagTensors
    ridge : float, default 1e-6
        Of the least squares for the filters, relative to the mean diagonal of G.

    Attributes
    ----------
    totals : ndarray of shape (2,)
        sum_k |T_k|^2 / m! for m = 2, 3. Hermite tensors of order m have variances up to m!, so that
        both orders then count by what they say about the output.
    """

    def __init__(self, tensors: LagTensors, *, ridge: float = FILTER_RIDGE) -> None:
        self._ridge = ridge
        self._shifts = tensors.shifts
        self._n_lags, self._n_outputs, self._d = tensors.second.shape[:3]
        self._pairs = np.triu_indices(self._d)
        # <T_k, . x x> for all lags is one product of matrices: products of pairs, each pair once
        twice = np.where(self._pairs[0] == self._pairs[1], 1.0, 2.0)
        third = tensors.third[..., self._pairs[0], self._pairs[1]] * twice
        self._unfolded = {
            2: tensors.second.reshape(-1, self._d),
            3: third.reshape(-1, twice.shape[0]),
        }
        self.totals = np.array([np.sum(T**2) / factorial(m) for m, T in tensors.by_order])

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
            # the ridge moves with tr G = sum_s seen_s |x_s|^(2 m)
            pairs[np.diag_indices(r * n_shifts)] += ridge * np.sum(g**2) * np.tile(seen, r)
            toward = (flat[:, None, :] @ open_)[:, 0]
            slope += (2 * m / factorial(m)) * (toward - (pairs * lower) @ x)
        back = np.einsum("sij,rsi->rj", self._shifts, slope.reshape(r, n_shifts, d))
        return explained, back
