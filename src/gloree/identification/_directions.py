"""The directions that nonlinearities see, from moments of order two and three over output lags.

Let x~ be the whitened [h_{t-1}, u_t] of the linear model, with R(s) = E[x~_t x~_{t+s}^T], and let
its residual be a sum of filtered functions of one direction each, r_t = sum_ij g_ij f_i(w_i .
x~_{t-j}). For Gaussian inputs its moments of order m = 2, 3 at output lag k are, with the shifted
directions x_{is} = R(s) w_i (:eq:`si-rank`),

    T_k = E[r_{t+k} He_m(x~_t)] = sum_i c_im sum_j g_ij x_{i,k-j}^{(x) m}.

The unit w_i are fitted to both orders at once, so that even and odd nonlinearities are both seen.
The filters g = G^-1 b are eliminated (variable projection, Golub and Pereyra 1973):

    b_ij = sum_k <T_k, x_{i,k-j}^{(x) m}>,    G_{ij,i'j'} = sum_k (x_{i,k-j} . x_{i',k-j'})^m

explain b^T g of sum_k |T_k|^2, which changes by 2 g^T db - g^T dG g with the directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, islice, permutations
from math import factorial

import numpy as np
from scipy import optimize, stats

from gloree._brief import Brief
from gloree.sequences import Array

FIRST_LAG, LAST_LAG = -5, 39  # output lags k of the moments
N_FILTER = 40  # terms of a filter g
FIRST_SHIFT = FIRST_LAG - N_FILTER + 1  # of R(s), as the terms of a filter reach back
LAG_WINDOW = max(N_FILTER - FIRST_LAG, LAST_LAG + 1)
"""Samples that a record must have: all lags, and the shifts by a filter beyond them."""

WHITEN_RTOL = 1e-8  # directions of relative variance below this are left out
FAR = 1e-6
"""Rows whose whitened regressors are longer than those of a normal law are with this probability
are left out: a jump of the input may be a hundred deviations in a direction of little variance, and
its cube outweighs all other rows."""

MOST_FAR = 0.05  # share of the rows that may be left out
BLOCK_ROWS = 4096  # rows whose products are held in memory at a time
FILTER_RIDGE = 1e-6  # relative ridge of the least squares for g


@dataclass(frozen=True)
class LagTensors(Brief):
    """Second- and third-order moments of a residual at several lags.

    The whitened regressors are x~ = (z - mean) W, z = [h_{t-1}, u_t]. Shapes: `whitening` W
    (n_columns, n_whitened), `mean` (n_columns,), `second` (n_lags, n_outputs, n_whitened,
    n_whitened), `third` with one axis of n_whitened more, and `shifts`, the R(s) for s from -44 on,
    (n_shifts, n_whitened, n_whitened).
    """

    whitening: Array
    mean: Array
    second: Array = field(repr=False)
    third: Array = field(repr=False)
    shifts: Array = field(repr=False)


def lag_tensors(z: Array, residual: Array) -> LagTensors:
    """Moments of one record, from z = [h_{t-1}, u_t] and the residual of the linear model.

    The rows of both, (n_rows, n_columns) and (n_rows, n_outputs), are neighbouring steps; fewer
    than `LAG_WINDOW`, other numbers of them and gaps raise a ValueError. Rows far from all others
    (`FAR`) do not count. Time O(n_rows (n_lags n_outputs + n_columns) n_columns^3), and memory for
    `BLOCK_ROWS` rows of n_columns^3 products.
    """
    n = z.shape[0]
    if n < LAG_WINDOW:
        raise ValueError(f"`z` has {n} rows, and moments over all lags take {LAG_WINDOW} at least")
    if residual.shape[0] != n:
        raise ValueError(f"`residual` has {residual.shape[0]} rows, and `z` has {n}")
    for name, values in (("z", z), ("residual", residual)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise ValueError(f"`{name}` is not finite in row {row}: give rows without gaps")
    counted = np.ones(n, dtype=bool)
    while True:
        mean, W = _whitening(z[counted])
        X = (z - mean) @ W
        limit = stats.chi2.isf(FAR, X.shape[1])
        near = np.einsum("ij,ij->i", X, X) <= limit
        if not (counted & ~near).any() or (~near).sum() > MOST_FAR * n:
            break
        counted &= near
    X[~counted] = 0.0
    n_counted = int(counted.sum())
    residual = residual - residual.mean(axis=0)
    residual = residual - X @ (X.T @ residual / n_counted)
    lags = range(FIRST_LAG, LAST_LAG + 1)
    moved = np.zeros((n, len(lags), residual.shape[1]))
    for place, lag in enumerate(lags):
        if lag >= 0:
            moved[: n - lag, place] = residual[lag:]
        else:
            moved[-lag:, place] = residual[:lag]
    moved[~counted] = 0.0
    targets, d = moved.reshape(n, -1), X.shape[1]
    second = _hermite_moments(targets, X, 2, n_counted).reshape(*moved.shape[1:], d, d)
    third = _hermite_moments(targets, X, 3, n_counted).reshape(*moved.shape[1:], d, d, d)
    shifts = [
        (X[: n - s].T @ X[s:] if s >= 0 else X[-s:].T @ X[: n + s]) / n_counted
        for s in range(FIRST_SHIFT, LAST_LAG + 1)
    ]
    return LagTensors(W, mean, second, third, np.stack(shifts))


def _whitening(z: Array) -> tuple[Array, Array]:
    """Mean of rows, and W with which (z - mean) W has the covariance I."""
    values, vectors = np.linalg.eigh(np.cov(z.T, ddof=0).reshape(z.shape[1], z.shape[1]))
    kept = values > WHITEN_RTOL * values[-1]
    return z.mean(axis=0), vectors[:, kept] / np.sqrt(values[kept])


def _hermite_moments(targets: Array, X: Array, order: int, n_counted: int) -> Array:
    """E[targets (x) He(x)], (t, d, .., d), of targets (n, t) and X (n, d), in one pass over blocks.

    The mean is over `n_counted` rows; all others are zero. With F the products of so many columns
    and E[X] = 0, E[X X^T] = I in the sample, the Hermite polynomials of the sample are
    F - E[F] - X E[X^T F].
    """
    (n_rows, d), t = X.shape, targets.shape[1]
    n = n_counted
    places = np.array(list(combinations_with_replacement(range(d), order)))
    moments = np.zeros((t, places.shape[0]))
    constant, linear = np.zeros(places.shape[0]), np.zeros((d, places.shape[0]))
    for begin in range(0, n_rows, BLOCK_ROWS):
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
    """Shares of lag moments that given directions explain; the ridge is relative to mean diag G.

    `totals` are sum_k |T_k|^2 / m! for m = 2, 3: Hermite tensors of order m have variances up to
    m!, and each order then counts by its part in the output.
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


TRIED = 20  # random directions that are tried, for each dimension
N_STARTS = 5  # starts that are followed for each further direction
APART = 0.7
"""Cosine between two starts, at most. The share explained has local minima, for instance at
directions shifted by a step (R(1) w in place of w), and the best starts often lie near the same."""

FEW_STEPS, MOST_STEPS = 40, 300
"""Steps of a descent from each start, and from the best point reached."""

GRADIENT = 1e-8  # a descent ends when no entry of the gradient of the share is larger


@dataclass(frozen=True)
class NonlinearDirection(Brief):
    """The linear combination that one nonlinearity of a system sees.

    v_t = weights . [h_{t-1}, u_t] + offset has mean zero and variance one. `explained` are the
    shares of the second- and third-order moments that shifted copies of this direction, and of
    those found together with it, explain: near 1 if there are no more static nonlinearities than
    directions, however the linear parts around them look.
    """

    weights: Array
    offset: float
    explained: tuple[float, float]


def find_directions(
    tensors: LagTensors, n_directions: int, *, ridge: float = FILTER_RIDGE
) -> tuple[NonlinearDirection, ...]:
    """Fit `n_directions` directions w_i jointly, with their filters eliminated.

    They come in the order in which each adds most to the share that the ones before it explain.
    `ridge` is that of the least squares for the filters. Fewer than one raises a ValueError.

    Notes
    -----
    For each further direction a few starts are followed, with all directions moving: the best ones,
    apart from each other, of the eigenvectors of sum_k T_k T_k^T and of fixed random vectors. One
    and two directions were found from exact moments in all systems that were tried; the search for
    three may end at a local minimum. Moments of order two of nonlinearities with the same filter g
    determine only the plane of their directions: other filters, or moments of order three,
    determine the directions themselves.
    """
    if n_directions < 1:
        raise ValueError(f"`n_directions` must be at least 1, got {n_directions}")
    return next(islice(growing_directions(tensors, ridge), n_directions - 1, None))


def growing_directions(
    tensors: LagTensors,
    ridge: float = FILTER_RIDGE,
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[NonlinearDirection, ...]]:
    """Yield one direction, two directions and so on without end (see `find_directions`).

    Descents stop where they are once `ended` says so.
    """
    structure = ShiftStructure(tensors, ridge=ridge)
    starts = _starts(tensors, structure.totals)
    w = np.zeros((0, starts.shape[1]))
    while True:
        w = _with_another(structure, w, starts, ended)
        # the older ones were found alone, and may lie between the true ones
        for i in range(w.shape[0] - 1):
            others = np.delete(w, i, axis=0)
            w = min(w, _with_another(structure, others, starts, ended), key=structure.loss)
        w = _by_gain(structure, _descend(structure, w, MOST_STEPS, ended))
        explained = structure.shares(w)
        yield tuple(
            NonlinearDirection(weights, -float(tensors.mean @ weights), explained)
            for weights in (tensors.whitening @ w.T).T
        )


def _with_another(
    structure: ShiftStructure, w: Array, starts: Array, ended: Callable[[], bool]
) -> Array:
    """Add the direction that leads to the least loss, from starts apart, all directions moving."""
    order = np.argsort([structure.loss(np.vstack((w, start))) for start in starts])
    kept: list[Array] = []
    for start in starts[order]:
        if all(abs(float(start @ other)) <= APART for other in kept):
            kept.append(start)
    ends = [_descend(structure, np.vstack((w, s)), FEW_STEPS, ended) for s in kept[:N_STARTS]]
    return min(ends, key=structure.loss)


def _descend(structure: ShiftStructure, w: Array, n_steps: int, ended: Callable[[], bool]) -> Array:
    """Directions of unit length at the end of a quasi-Newton descent from w."""

    def look(_: object) -> None:
        if ended():
            raise StopIteration

    options = {"maxiter": n_steps, "gtol": GRADIENT}
    end = optimize.minimize(
        structure.loss_and_gradient,
        w.ravel(),
        jac=True,
        method="BFGS",
        options=options,
        callback=look,
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
