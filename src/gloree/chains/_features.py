"""Features of a step and its two neighbours, with derivatives of every order that scores take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gloree.sequences import Array, IntArray

BENDS = (1.0, 3.0)
"""Slopes of the hyperbolic tangents, per standard deviation."""


def _linear(z: Array, k: int) -> Array:
    return z if k == 0 else np.full_like(z, 1.0 if k == 1 else 0.0)


def _square(z: Array, k: int) -> Array:
    """z^2 / 2."""
    return z * z / 2 if k == 0 else z if k == 1 else np.full_like(z, 1.0 if k == 2 else 0.0)


def _tanh(z: Array, k: int) -> Array:
    t = np.tanh(z)
    if k == 0:
        return np.asarray(t)
    g = 1 - t * t
    if k == 1:
        return np.asarray(g)
    if k == 2:
        return np.asarray(-2 * t * g)
    return np.asarray(g * (6 * t * t - 2) if k == 3 else g * t * (16 - 24 * t * t))


def _log_cosh(z: Array, k: int) -> Array:
    if k == 0:
        return np.asarray(np.logaddexp(z, -z) - np.log(2.0))
    return _tanh(z, k - 1)


def _tanh_square(z: Array, k: int) -> Array:
    """tanh(z)^2 / 2, whose derivative is tanh times its own."""
    t = np.tanh(z)
    s = t * t
    if k == 0:
        return np.asarray(s / 2)
    g = 1 - s
    if k == 1:
        return np.asarray(t * g)
    if k == 2:
        return np.asarray(g * (1 - 3 * s))
    return np.asarray(g * t * (12 * s - 8) if k == 3 else g * (-8 + 60 * s - 60 * s * s))


def _log_tail(z: Array, k: int) -> Array:
    """log(1 + z^2) / 2: the logarithm of a density with heavy tails."""
    s = z * z
    w = 1 + s
    if k == 0:
        return np.asarray(np.log(w) / 2)
    if k == 1:
        return np.asarray(z / w)
    if k == 2:
        return np.asarray((1 - s) / w**2)
    return np.asarray(z * (2 * s - 6) / w**3 if k == 3 else (-6 + 36 * s - 6 * s * s) / w**4)


SHAPES: tuple[Callable[[Array, int], Array], ...] = (
    _linear,
    _square,
    _tanh,
    _log_cosh,
    _tanh_square,
    _log_tail,
)
LINEAR, SQUARE, TANH, LOG_COSH, TANH_SQUARE, LOG_TAIL = range(6)


@dataclass(frozen=True, eq=False)
class Features:
    """Features c(x_{t-1}, x_{t+1}) rho(w . x_t + a . x_{t-1} + b . x_{t+1}), in white coordinates.

    Features with the same rho, w, a and b share a *ridge*, which is evaluated once.

    Attributes
    ----------
    directions, past, future : ndarray of shape (n_ridges, n_inputs)
        w, a and b.
    shapes : ndarray of int of shape (n_ridges,)
        rho, an index of `SHAPES`.
    ridges, factors : ndarray of int of shape (n_features,)
        Ridge of every feature, and c, a column of (1, x_{t-1}, x_{t+1}, tanh(G x_{t-1})).
    bends : ndarray of shape (n_bends, n_inputs)
        G.
    """

    directions: Array
    past: Array
    future: Array
    shapes: IntArray
    ridges: IntArray
    factors: IntArray
    bends: Array

    @property
    def size(self) -> int:
        """Number of features."""
        return int(self.ridges.shape[0])

    def without(self, side: str) -> Features:
        """Features that do not look at the past (at the future)."""
        d = self.directions.shape[1]
        of_future = (self.factors > d) & (self.factors <= 2 * d)
        of_side = of_future if side == "future" else (self.factors > 0) & ~of_future
        looks = getattr(self, side).any(axis=1)[self.ridges]
        kept = np.flatnonzero(~(of_side | looks))
        return replace(self, ridges=self.ridges[kept], factors=self.factors[kept])

    def sides(self, before: Array, after: Array) -> Array:
        """All factors c, (n_rows, 1 + 2 n_inputs + n_bends)."""
        one = np.ones((before.shape[0], 1))
        return np.hstack((one, before, after, np.tanh(before @ self.bends.T)))

    def ridge_terms(self, now: Array, before: Array, after: Array, order: int) -> Array:
        """Derivatives rho^(k)(z) of every ridge for k = 1, .., order: (order, n_rows, n_ridges)."""
        z = now @ self.directions.T + before @ self.past.T + after @ self.future.T
        found = np.empty((order, *z.shape))
        for shape in np.unique(self.shapes):
            mine = np.flatnonzero(self.shapes == shape)
            for k in range(order):
                found[k][:, mine] = SHAPES[shape](z[:, mine], k + 1)
        return found

    def of_ridges(self, weights: Array) -> Array:
        """Weights of the features as coefficients of the factors, (n_factors, n_ridges)."""
        d, n_bends = self.directions.shape[1], self.bends.shape[0]
        table = np.zeros((1 + 2 * d + n_bends, self.directions.shape[0]))
        np.add.at(table, (self.factors, self.ridges), weights)
        return table


def features_of(slopes: Array, size: Array, rows: Array) -> Features:
    """Features for white inputs that a linear autoregression fits roughly.

    All that a Gaussian chain has; tails and bends of every input; products of the neighbours with
    hyperbolic tangents of this step, and of this step with tangents of the one before, along the
    inputs and along `rows`; and tails of the innovations of this and the next step.

    Parameters
    ----------
    slopes : ndarray of shape (n_inputs, n_inputs)
        Coefficients of the linear autoregression of the white inputs.
    size : ndarray of shape (n_inputs,)
        Standard deviations of its innovations.
    rows : ndarray of shape (n_inputs, n_inputs)
        Unit directions along which it predicts the inputs as given: where x_{t+1, i} is a function
        of one combination of x_t, these are the combinations.
    """
    d = slopes.shape[0]
    eye, none = np.eye(d), np.zeros(d)
    bends = np.vstack([bend * rows for bend in BENDS])
    found: list[tuple[Array, Array, Array, int, int]] = []
    for i in range(d):
        found += [(eye[i], none, none, LINEAR, c) for c in range(1 + 2 * d + len(bends))]
        found += [(eye[i], none, none, TANH, c) for c in range(1, 1 + 2 * d)]
        found += [(eye[i], none, none, s, 0) for s in (SQUARE, LOG_COSH, TANH_SQUARE, LOG_TAIL)]
        found += [(eye[i] + eye[j], none, none, SQUARE, 0) for j in range(i)]
        arriving = (eye[i] / size[i], -slopes[i] / size[i], none)
        leaving = (-slopes[i] / size[i], none, eye[i] / size[i])
        for place in (arriving, leaving):
            found += [(*place, shape, 0) for shape in (LOG_COSH, LOG_TAIL)]
    for direction in bends:
        found += [(direction, none, none, TANH, c) for c in range(1 + d, 1 + 2 * d)]
        found.append((direction, none, none, TANH_SQUARE, 0))
    places: dict[bytes, int] = {}
    ridges = []
    for w, a, b, shape, _ in found:
        key = np.concatenate((w, a, b, [shape])).tobytes()
        ridges.append(places.setdefault(key, len(places)))
    table = np.array([np.frombuffer(key) for key in places])
    return Features(
        table[:, :d],
        table[:, d : 2 * d],
        table[:, 2 * d : 3 * d],
        table[:, -1].astype(np.int64),
        np.array(ridges),
        np.array([row[-1] for row in found]),
        bends,
    )
