"""Starts for the search of a linear system: (A, C) of any order from subspaces, ARX and responses.

B, D, the offset and all initial states follow from (A, C) by exact least squares, so that a start
is a pair (A, C). All starts leave out windows with an output that does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gloree.identification._output_error import STABLE, balanced
from gloree.identification._realisation import PoleLimit, hankel_matrix, pulled_inside
from gloree.identification._weighted_records import WeightedRecords
from gloree.sequences import Array

MOST_WINDOWS = 20_000  # windows of a regression, spread over the records
WINDOWS_PER_COLUMN = 2.0  # fewer windows than this for each column of a regression are too few
LONG_RESPONSE = 4000  # steps over which a start is balanced, at most

Pair = tuple[Array, Array]


@dataclass(frozen=True)
class LinearStart:
    """Name, and (A, C) of an order; orders above `largest` are not supported."""

    name: str
    largest: int
    realise: Callable[[int], Pair]


def windows(records: WeightedRecords, past: int, future: int) -> Pair:
    """Windows of inputs and outputs around rows t, (n_windows, past + future, n_channels) each.

    Time runs from t - past to t + future - 1. Windows with an output that does not count are left
    out, and no more than `MOST_WINDOWS` are returned, evenly spread.
    """
    width = past + future
    parts: list[Pair] = []
    for u, y, w in zip(records.u, records.y, records.w, strict=True):
        if len(u) < width:
            continue
        views = [sliding_window_view(part, width, axis=0) for part in (u, y, w)]
        good = np.flatnonzero((views[2] > 0.0).all(axis=(1, 2)))
        parts.append((views[0][good], views[1][good]))
    if not parts:
        return np.empty((0, width, records.n_inputs)), np.empty((0, width, records.n_outputs))
    count = sum(len(U) for U, _ in parts)
    every = max(1, -(-count // MOST_WINDOWS))
    U: Array = np.concatenate([part[::every] for part, _ in parts])
    Y: Array = np.concatenate([part[::every] for _, part in parts])
    return U.transpose(0, 2, 1), Y.transpose(0, 2, 1)


def subspace_starts(records: WeightedRecords, horizon: int) -> list[LinearStart]:
    """Past-output MOESP [1]_ and canonical variates (CVA) [2]_ with a horizon of so many steps.

    Future outputs are projected onto the past, orthogonally to the future inputs; the left singular
    vectors of what is left span the observability matrix, weighted with the covariance of the
    future outputs for CVA.

    References
    ----------
    .. [1] M. Verhaegen, "Identification of the deterministic part of MIMO state space models given
       in innovations form from input-output data", Automatica 30 (1994) 61-74.
    .. [2] W. E. Larimore, "Canonical variate analysis in identification, filtering, and adaptive
       control", Proc. 29th IEEE Conf. on Decision and Control (1990) 596-604.
    """
    q, d = records.n_outputs, records.n_inputs
    U, Y = windows(records, horizon, horizon)
    n_columns = 2 * horizon * (d + q) + 1
    if len(U) < WINDOWS_PER_COLUMN * n_columns:
        return []
    ones = np.ones((len(U), 1))
    flat = [part.reshape(len(U), -1) for part in (U[:, horizon:], U[:, :horizon], Y)]
    known = horizon * d + 1
    R: Array = np.asarray(np.linalg.qr(np.hstack((ones, *flat)), mode="r"))
    n_past = horizon * (d + q)
    projected = R[known : known + n_past, known + n_past :].T
    rest = R[known + n_past :, known + n_past :].T
    covariance = projected @ projected.T + rest @ rest.T
    values, vectors = np.linalg.eigh(covariance)
    root = np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    starts = []
    for name, weight, back in (
        ("MOESP", None, None),
        ("CVA", (vectors / root) @ vectors.T, (vectors * root) @ vectors.T),
    ):
        left, size, _ = np.linalg.svd(projected if weight is None else weight @ projected)
        observed = left[:, : size.size] * np.sqrt(size)
        observed = observed if back is None else back @ observed
        starts.append(
            LinearStart(
                f"{name}, horizon {horizon}", (horizon - 1) * q, _shift_realisation(observed, q)
            )
        )
    return starts


def _shift_realisation(observed: Array, q: int) -> Callable[[int], Pair]:
    def realise(order: int) -> Pair:
        part = observed[:, :order]
        A = np.linalg.lstsq(part[:-q], part[q:], rcond=1e-12)[0]
        return np.asarray(A, dtype=np.float64), part[:q]

    return realise


def arx_start(records: WeightedRecords, n_lags: int) -> list[LinearStart]:
    """Least squares of y_t = sum_i a_i y_{t-i} + sum_j b_j u_{t-j} + c, and a balanced reduction.

    Many lags make the noise model flexible, so that the part from inputs to outputs is nearly
    unbiased; the reduction keeps the states that inputs reach and outputs show.
    """
    q, d = records.n_outputs, records.n_inputs
    U, Y = windows(records, n_lags, 1)
    n_columns = n_lags * (q + d) + d + 1
    if len(U) < WINDOWS_PER_COLUMN * n_columns:
        return []
    past = Y[:, -2::-1].reshape(len(U), -1)
    W = np.hstack((past, U[:, ::-1].reshape(len(U), -1), np.ones((len(U), 1))))
    weights = np.linalg.lstsq(W, Y[:, -1], rcond=1e-10)[0]
    a = weights[: n_lags * q].reshape(n_lags, q, q).transpose(0, 2, 1)
    b = weights[n_lags * q : -1].reshape(n_lags + 1, d, q).transpose(0, 2, 1)
    size = n_lags * q
    A = np.eye(size, k=q)
    A[:, :q] = a.reshape(size, q)
    B = (b[1:] + a @ b[0]).reshape(size, d)
    C = np.eye(q, size)
    n_rows = min(LONG_RESPONSE, max(len(u) for u in records.u))
    try:
        A = pulled_inside(A, PoleLimit(1.0 - 1e-4))
        _, T, inverse = balanced(A, B, C, n_rows)
    except np.linalg.LinAlgError:
        return []

    def realise(order: int) -> Pair:
        return inverse[:order] @ A @ T[:, :order], C @ T[:, :order]

    return [LinearStart(f"ARX, {n_lags} lags", size - 1, realise)]


def response_start(parameters: Array, name: str) -> list[LinearStart]:
    """Ho-Kalman: the shift of the observability matrix in a Hankel matrix of g_1, g_2, .."""
    q = parameters.shape[1]
    left, values, _ = np.linalg.svd(hankel_matrix(parameters), full_matrices=False)
    observed = left * np.sqrt(values)
    largest = min(observed.shape[0] - q, observed.shape[1])
    return [LinearStart(name, largest, _shift_realisation(observed, q))] if largest > 0 else []


def decimated(records: WeightedRecords, factor: int) -> WeightedRecords:
    """Means over so many rows each; outputs count where all of a mean's do."""
    parts: list[tuple[Array, Array, Array]] = []
    for u, y, w in zip(records.u, records.y, records.w, strict=True):
        n = len(u) // factor
        if n == 0:
            continue
        cut = [part[: n * factor].reshape(n, factor, -1) for part in (u, y, w)]
        parts.append((cut[0].mean(axis=1), cut[1].mean(axis=1), cut[2].min(axis=1)))
    columns = ([part[i] for part in parts] for i in range(3))
    return WeightedRecords(*(tuple(column) for column in columns))


def undecimated(start: LinearStart, factor: int) -> LinearStart:
    """Start of the record itself: A^(1/factor), with the principal roots of its poles."""

    def realise(order: int) -> Pair:
        A, C = start.realise(order)
        poles, vectors = np.linalg.eig(A)
        roots = np.abs(poles) ** (1.0 / factor) * np.exp(1j * np.angle(poles) / factor)
        # a negative real pole has no real root: one of its modulus instead
        real = np.abs(poles.imag) <= 1e-12 * np.abs(poles)
        roots = np.where(real, np.abs(roots), roots)
        return np.real((vectors * roots) @ np.linalg.inv(vectors)), C

    return LinearStart(f"{start.name}, means of {factor} rows", start.largest, realise)


def stable_pair(start: LinearStart, order: int, limit: PoleLimit = STABLE) -> Pair | None:
    """(A, C) with poles outside the unit circle reflected into it; None where that fails.

    Poles beyond their limits are shortened to these.
    """
    try:
        A, C = start.realise(order)
        poles, vectors = np.linalg.eig(A)
        size, most = np.abs(poles), limit.of(poles)
        if (size > most).any():
            wanted = np.where(size > 1.0, 1.0 / np.maximum(size, 1.0), size)
            wanted = np.minimum(wanted, most)
            moved = np.where(size > 0.0, poles / np.maximum(size, 1e-300) * wanted, poles)
            A = np.real((vectors * moved) @ np.linalg.inv(vectors))
    except np.linalg.LinAlgError:
        return None
    return (A, C) if np.isfinite(A).all() and np.isfinite(C).all() else None
