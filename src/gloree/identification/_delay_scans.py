"""Proposals of dead times: every delay of each input is tried in small models, at once.

Two kinds of models, each in least squares from correlations alone. ARX models, which are exact
for responses of few states without noise; and Laguerre filters of the inputs, which see slow
responses that noise hides from ARX models, and inputs that move only once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from gloree.identification._linear_system import propagate
from gloree.identification._weighted_records import WeightedRecords, shifted_inputs
from gloree.sequences import Array, IntArray

MOST_DELAY = 400  # samples, at most; and an eighth of the longest record
SHORTEST = 2  # samples; a system without direct path has a delay of one
SCANNED = (1, 3)  # orders of the ARX models
PASSES = 2  # rounds over all inputs
SAME_SQUARES = 1.02
"""Of ARX models with squared errors within this factor of the least, the latest is proposed."""

FILTERS = 4  # Laguerre functions of each input
TIME_CONSTANTS = 10  # of the filters that are tried, from FASTEST samples
FASTEST = 1.5
SLOWEST = 1 / 6  # of the longest record
NEAR = 3  # samples; proposals that differ by fewer are one
LEAST = 1e-12  # share of the outputs' squares that counts as none


def proposed_delays(records: WeightedRecords) -> list[IntArray]:
    """Delays of least squared error of small models, one input after another.

    Cost: a few hundred transforms of the records for every pair of an input and an output.
    """
    most = _most_delay(records)
    if most < 1:
        return []
    found = [*_arx_delays(records, most), *_laguerre_delays(records, most)]
    proposals: list[IntArray] = []
    for delays in found:
        apart = [np.abs(delays - other).max() >= NEAR for other in proposals]
        if delays.max() >= SHORTEST and all(apart):
            proposals.append(delays)
    return proposals


def _most_delay(records: WeightedRecords) -> int:
    return min(MOST_DELAY, max(len(u) for u in records.u) // 8)


def _laguerre_delays(records: WeightedRecords, most: int) -> list[IntArray]:
    """Delays at which Laguerre filters of the inputs explain the outputs best.

    For each input in turn, with the others at the delays that they have so far. Where outputs
    differ, the shortest of their own delays is proposed too: what is left of the others' is their
    own response.
    """
    slowest = max(SLOWEST * max(len(u) for u in records.u), 2 * FASTEST)
    poles = np.exp(-1.0 / np.geomspace(FASTEST, slowest, TIME_CONSTANTS))
    banks = [laguerre_bank(float(pole), FILTERS) for pole in poles]
    used = [banks[TIME_CONSTANTS // 2]] * records.n_inputs
    none = np.zeros(records.n_inputs, dtype=np.int64)
    shortest = none.copy()

    def best(delays: IntArray, k: int) -> int:
        errors = np.stack(
            [_scan(records, k, most, delays, _with_bank(used, k, bank)) for bank in banks]
        )  # (n_poles, most + 1, n_outputs)
        least = errors.min(axis=0)
        found = int(least.sum(axis=1).argmin())
        shortest[k] = int(least.argmin(axis=0).min())
        used[k] = banks[int(errors[:, found].sum(axis=1).argmin())]
        return found

    delays = _in_turn(none, best)
    return [_with_direct_path(delays), _with_direct_path(shortest)]


def delays_at_poles(records: WeightedRecords, A: Array, delays: IntArray) -> IntArray:
    """Delays of least squared error of systems with the poles of A, one input after another."""
    most = _most_delay(records)
    banks = [input_normal_bank(A)] * records.n_inputs

    def best(delays: IntArray, k: int) -> int:
        return int(_scan(records, k, most, delays, banks).sum(axis=1).argmin())

    return _with_direct_path(_in_turn(np.maximum(delays - 1, 0), best))


def _in_turn(delays: IntArray, best: Callable[[IntArray, int], int]) -> IntArray:
    """Set the delay of one input after another, until none changes or after `PASSES` rounds."""
    for _ in range(PASSES if len(delays) > 1 else 1):
        before = delays
        for k in range(len(delays)):
            delays = with_delay(delays, k, best(delays, k))
        if np.array_equal(before, delays):
            break
    return delays


def _with_direct_path(delays: IntArray) -> IntArray:
    """Filters answer a sample after their input; systems with a direct path at once."""
    return np.where(delays > 0, delays + 1, 0)


def _with_bank(banks: list[FilterBank], k: int, bank: FilterBank) -> list[FilterBank]:
    return [bank if i == k else each for i, each in enumerate(banks)]


def _scan(
    records: WeightedRecords, k: int, most: int, delays: IntArray, banks: list[FilterBank]
) -> Array:
    """Log mean squares of the outputs for every delay d of input k, (most + 1, n_outputs).

    y(t) on f(t - d), f the filters of u_k, on those of the other inputs at their `delays`, and in
    each record on a constant and the free runs of the filters of u_k: where the states may be in
    front. Sums over t of w(t) f_i(t - d) f_j(t - d), and of w(t) f_i(t - d) times any other
    column, are correlations, by fast Fourier transform for all d at once.
    """
    if all(np.array_equal(w, np.repeat(w[:, :1], w.shape[1], axis=1)) for w in records.w):
        return _scan_outputs(records, range(records.n_outputs), k, most, delays, banks)
    parts = [_scan_outputs(records, [j], k, most, delays, banks) for j in range(records.n_outputs)]
    return np.hstack(parts)


def _scan_outputs(
    records: WeightedRecords,
    outputs: Sequence[int],
    k: int,
    most: int,
    delays: IntArray,
    banks: list[FilterBank],
) -> Array:
    """The same for outputs that count in the same rows."""
    others = [i for i in range(records.n_inputs) if i != k]
    n, n_fixed = banks[k].order, sum(banks[i].order for i in others)
    n_beside = n_fixed + len(outputs)
    gram = np.zeros((most + 1, n, n))
    cross = np.zeros((most + 1, n_beside, n))
    fixed = np.zeros((n_beside, n_beside))
    for u, y, w in zip(records.u, records.y, records.w, strict=True):
        good = w[:, outputs[:1]]
        filters = banks[k].filtered(u[:, k])
        late = shifted_inputs(u, delays)
        columns = [banks[i].filtered(late[:, i]) for i in others]
        beside = np.column_stack([*columns, np.where(good > 0.0, y[:, outputs], 0.0)])
        left = np.sqrt(good) * np.column_stack((np.ones(len(u)), banks[k].free_runs(len(u))))
        left = np.sqrt(good) * np.linalg.qr(left)[0]  # w F (F'wF)^-1/2
        products = (filters[:, :, None] * filters[:, None]).reshape(len(u), n * n)
        own = _correlations(good, products, most)[:, 0].reshape(most + 1, n, n)
        mixed = _correlations(np.hstack((left, good * beside)), filters, most)
        n_free = left.shape[1]  # fewer than n + 1 in a record of fewer rows
        ends, mixed = mixed[:, :n_free], mixed[:, n_free:]
        part = left.T @ beside
        gram += own - ends.transpose(0, 2, 1) @ ends
        cross += mixed - part.T @ ends
        fixed += beside.T @ (good * beside) - part.T @ part
    total = np.maximum(np.diag(fixed)[n_fixed:], np.finfo(float).tiny)
    inner, outer = cross[:, :n_fixed], cross[:, n_fixed:]
    inverse = np.linalg.pinv(fixed[:n_fixed, :n_fixed], rcond=1e-10, hermitian=True)
    onto = inverse @ fixed[:n_fixed, n_fixed:]
    squares = total - np.sum(fixed[:n_fixed, n_fixed:] * onto, axis=0)
    gram = gram - inner.transpose(0, 2, 1) @ (inverse @ inner)
    outer = (outer - onto.T @ inner).transpose(0, 2, 1)  # (most + 1, n, n_outputs)
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] / n
    gram = gram + (1e-10 * np.maximum(size, 0.0) + np.finfo(float).tiny) * np.eye(n)
    explained = np.sum(outer * np.linalg.solve(gram, outer), axis=1)
    return np.asarray(np.log(np.maximum(squares - explained, LEAST * total) / total))


@dataclass(frozen=True)
class FilterBank:
    """Filters x(t + 1) = A x(t) + b u(t) of one input, orthonormal for white noise."""

    A: Array
    b: Array

    @property
    def order(self) -> int:
        """Filters."""
        return len(self.b)

    def filtered(self, u: Array) -> Array:
        """Outputs x(t) from equilibrium at the first input, less that, (n_rows, order)."""
        v = (u - u[0])[None, :, None, None] * self.b
        return propagate(self.A, v, np.zeros((1, 1, self.order)))[0][0, :, 0]

    def free_runs(self, n_rows: int) -> Array:
        """Outputs b^T A^t of all states in front, (n_rows, order)."""
        v = np.zeros((1, n_rows, 1, self.order))
        return propagate(self.A.T, v, self.b[None, None])[0][0, :, 0]


def laguerre_bank(pole: float, n: int) -> FilterBank:
    r"""First n discrete Laguerre filters.

    .. math:: L_1(z) = \frac{\sqrt{1-p^2}}{z-p}, \qquad L_{i+1}(z) = \frac{1-pz}{z-p}L_i(z).
    """
    i = np.arange(n)
    apart = i[:, None] - i[None, :]
    below = (1.0 - pole**2) * (-pole) ** np.maximum(apart - 1, 0)
    A: Array = np.where(apart > 0, below, 0.0) + pole * np.eye(n)
    return FilterBank(A, np.asarray(math.sqrt(1.0 - pole**2) * (-pole) ** i, dtype=np.float64))


def input_normal_bank(A: Array) -> FilterBank:
    """Filters with the poles of A, in coordinates where A A^T + b b^T = 1."""
    n = A.shape[0]
    b = np.random.default_rng(0).standard_normal(n)  # any b that reaches all modes
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(A, np.outer(b, b)))
    scale = np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    T, back = (vectors / scale).T, vectors * scale
    return FilterBank(T @ A @ back, T @ b)


def _correlations(a: Array, b: Array, most: int) -> Array:
    """sum_t a_i(t) b_j(t - d) for d = 0, ..., most, (most + 1, n_a, n_b)."""
    size = 1 << int(len(a) + most).bit_length()
    left, right = np.fft.rfft(a, size, axis=0), np.conj(np.fft.rfft(b, size, axis=0))
    return np.asarray(np.fft.irfft(left[:, :, None] * right[:, None], size, axis=0)[: most + 1])


def _arx_delays(records: WeightedRecords, most: int) -> list[IntArray]:
    """Delays of least squared error of ARX models of a few orders, one input after another."""
    covariances = _covariances(records, most + max(SCANNED) + 2)

    def best(delays: IntArray, k: int, order: int) -> int:
        every = [with_delay(delays, k, delay) for delay in range(most + 1)]
        errors = np.array([_arx_error(covariances, order, each) for each in every])
        near = np.flatnonzero(errors <= errors.min() + math.log(SAME_SQUARES))
        return 0 if near[0] == 0 else int(near[-1])

    none = np.zeros(records.n_inputs, dtype=np.int64)
    return [_in_turn(none, partial(best, order=order)) for order in SCANNED]


def with_delay(delays: IntArray, k: int, delay: int) -> IntArray:
    """Return the delays with another one of input k."""
    changed = delays.copy()
    changed[k] = delay
    return changed


def _covariances(records: WeightedRecords, n_lags: int) -> Array:
    """r_{ab}(l) = mean of a(t) b(t - l), (n_channels, n_channels, 2 n_lags + 1); outputs first.

    Channels are centred; missing outputs count as their mean.
    """
    total = np.zeros((records.n_outputs + records.n_inputs,) * 2 + (2 * n_lags + 1,))
    means = [
        sum(part.sum(axis=0) for part in values) / max(count, 1.0)
        for values, count in (
            (
                [np.where(w > 0, y, 0.0) for y, w in zip(records.y, records.w, strict=True)],
                sum(w[:, 0].sum() for w in records.w),
            ),
            (records.u, sum(len(u) for u in records.u)),
        )
    ]
    for u, y, w in zip(records.u, records.y, records.w, strict=True):
        z = np.hstack((np.where(w > 0, y - means[0], 0.0), u - means[1]))
        size = 1 << int(len(z) + n_lags).bit_length()
        spectrum = np.fft.rfft(z, size, axis=0)
        for a in range(z.shape[1]):
            r = np.fft.irfft(spectrum[:, a : a + 1] * np.conj(spectrum), size, axis=0)
            total[a] += np.concatenate((r[size - n_lags :], r[: n_lags + 1])).T
    return total / sum(len(u) for u in records.u)


def _arx_error(covariances: Array, order: int, delays: IntArray) -> float:
    """Sum over outputs of the log mean squares of y_t on `order` outputs and delayed inputs."""
    n_lags, d = covariances.shape[2] // 2, len(delays)
    q = covariances.shape[0] - d
    lags = np.arange(1, order + 1)
    channel = np.concatenate(
        (np.repeat(np.arange(q), order), np.repeat(q + np.arange(d), order + 1))
    )
    late = np.concatenate((np.tile(lags, q), *(delay + np.arange(order + 1) for delay in delays)))
    # regressors z_c(t - l): E z_c(t - l) z_c'(t - l') = r_{cc'}(l' - l)
    apart = np.clip(late[None, :] - late[:, None], -n_lags, n_lags)
    gram = covariances[channel[:, None], channel[None, :], apart + n_lags]
    cross = covariances[np.arange(q)[:, None], channel[None, :], late + n_lags].T
    gram = gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, cross)
    left = covariances[np.arange(q), np.arange(q), n_lags] - np.sum(weights * cross, axis=0)
    return float(np.sum(np.log(np.maximum(left, 1e-12))))
