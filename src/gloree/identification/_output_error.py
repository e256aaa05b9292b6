r"""Least squares of the free run over a linear system and the states in front of all records.

The outputs are linear in B, D, c and the initial states x_0: given (A, C) these are found exactly,
and only (A, C) is sought by Levenberg-Marquardt (variable projection). (A, C) is kept in
coordinates in which a free decay from x_0 has the energy |x_0|^2, and changes of coordinates are
left out of the steps: n_outputs times order directions remain (a tangent space of dimension n q).

The derivatives come from the dual system. With s^{(a, v)}_{t+1} = A^T s_t + C_a^T v_t, an impulse
response of output a to all states, driven by a signal v:

    dy_a/dB_{ik} = s_i^{(a, u_k)},  dy_a/dA_{ij} = s_i^{(a, x_j)},  dy_a/dC_{aj} = x_j,
    dy_a/dx_0 = C_a A^t,  dy_a/dD_{ak} = u_k,  dy_a/dc_a = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise

import numpy as np
from scipy import linalg

from gloree.identification._linear_system import LinearSystem, output_normal, propagate
from gloree.identification._realisation import PoleLimit, pulled_inside
from gloree.identification._weighted_records import RecordGroup, WeightedRecords
from gloree.refinement import RefinementStatus
from gloree.sequences import Array, IntArray

STABLE = PoleLimit(1.0 - 1e-6)
"""Modulus of poles, at most: integrators are met to within a memory of a million samples."""

PRIOR = 1e-12
"""Least weight of |x_0 - equilibrium|^2, where a free decay has the energy |x_0|^2."""

WELL_PREDICTED = 0.5
"""Where a step gains at least this share of what was predicted, B, D, c and x_0 need not be solved
for anew: the next step moves them too."""

BLOCK_NUMBERS = 2**17  # entries of a block of derivatives, about
DIRECTION = 1e-13  # eigenvalues of scaled normal equations below which a direction is left out


@dataclass(frozen=True)
class OutputErrorFit:
    """A system, the states in front of all records (n_records, n), and its sum of squares."""

    system: LinearSystem
    states: Array = field(repr=False)
    squares: float
    n_counted: float
    n_steps: int = 0
    status: RefinementStatus = RefinementStatus.NO_DECREASE

    @property
    def error(self) -> float:
        """Root mean square of the free run over the outputs that count."""
        return math.sqrt(max(self.squares, 0.0) / max(self.n_counted, 1.0))


@dataclass(frozen=True)
class Equations:
    """Normal equations of all columns but x_0, which is eliminated; the residual comes last.

    `reduced` (p + 1, p + 1), `gains` (n_records, n, p + 1): x_0 moves by gains (-step, 1).
    """

    reduced: Array
    gains: Array

    def solve(self, damping: float = 0.0, n_damped: int = 0) -> tuple[Array, float]:
        """Step and the gain in squares that the quadratic predicts."""
        S, g = self.reduced[:-1, :-1], self.reduced[:-1, -1]
        diagonal = np.diag(S)
        scale = np.sqrt(np.maximum(diagonal, 1e-24 * diagonal.max(initial=0.0) + 1e-300))
        matrix = S / np.outer(scale, scale)
        matrix[np.arange(n_damped), np.arange(n_damped)] += damping
        values, vectors = np.linalg.eigh(matrix)
        kept = values > DIRECTION * max(values[-1], 1e-300)
        inside = vectors[:, kept].T @ (g / scale)
        step = vectors[:, kept] @ (inside / values[kept]) / scale
        return step, float(2.0 * step @ g - step @ S @ step)


def run_records(
    system: LinearSystem, states: Array, records: WeightedRecords
) -> Iterator[tuple[RecordGroup, Array, Array]]:
    """Groups with residuals (n, n_rows, n_outputs) of the free run, and states x_t before rows."""
    for group in records.groups:
        x, _ = propagate(system.A, (group.u @ system.B.T)[:, :, None], states[group.numbers, None])
        fitted = x[:, :, 0] @ system.C.T + group.u @ system.D.T + system.c
        yield group, group.y - fitted, x[:, :, 0]


def squares_of(system: LinearSystem, states: Array, records: WeightedRecords) -> float:
    """Weighted sum of squares of the free run."""
    parts = run_records(system, states, records)
    return float(sum(np.sum(group.w * np.square(r)) for group, r, _ in parts))


def with_states(
    system: LinearSystem, records: WeightedRecords, noise: float = 0.0
) -> OutputErrorFit:
    """Find the states in front of all records by least squares; the system stays.

    With a variance `noise` of the outputs' noise, states have a prior: the mean is the equilibrium
    of a record's first input, and the variance that of the states along the records.
    """
    n_rows = max(len(u) for u in records.u)
    T = output_normal(system.A, system.C, n_rows)
    normal = system.changed(T)
    states: Array = normal.equilibrium(np.array([u[0] for u in records.u]), n_rows)
    prior = prior_of_states(normal, states, records, noise)
    for _ in range(2):  # once more for rounding
        parts = _equations(normal, states, records, prior, free=False, tangent=None)
        states = states + parts.gains[:, :, -1]
    squares = squares_of(normal, states, records)
    given = np.asarray(np.linalg.solve(T, states.T).T, dtype=np.float64)
    return OutputErrorFit(system, given, squares, records.n_counted)


def fit_inputs(A: Array, C: Array, records: WeightedRecords) -> OutputErrorFit:
    """B, D, c and all initial states by least squares, given (A, C)."""
    n, q, d = A.shape[0], C.shape[0], records.n_inputs
    T = output_normal(A, C, max(len(u) for u in records.u))
    system = LinearSystem(A, np.zeros((n, d)), C, np.zeros((q, d)), np.zeros(q)).changed(T)
    return _solved(system, np.zeros((records.n_records, n)), records, PRIOR * np.eye(n))


def refine(
    fit: OutputErrorFit,
    records: WeightedRecords,
    max_steps: int,
    *,
    settled: float = 1e-9,
    limit: PoleLimit = STABLE,
    ended: Callable[[], bool] = lambda: False,
) -> OutputErrorFit:
    """Levenberg-Marquardt on (A, C), the rest eliminated, until three gains in a row are small.

    A step costs O(N q (n q + n d)^2 + N q n^2 (n + d)) for N rows, n states, d inputs and q
    outputs. `settled` is relative to the sum of squares; `ended` is asked before every step.
    """
    damping, small, n_steps = 1e-3, 0, 0
    status = RefinementStatus.STEP_LIMIT
    fit = normalised(fit, records)
    for _ in range(max_steps):
        if ended():
            status = RefinementStatus.TIME_LIMIT
            break
        if fit.squares <= 1e-26 * fit.n_counted:
            status = RefinementStatus.CONVERGED
            break
        tangent = basis_of_changes(fit.system)
        prior = prior_of_states(fit.system, fit.states, records, fit.error**2)
        parts = _equations(fit.system, fit.states, records, prior, free=True, tangent=tangent)
        now, gain = float(parts.reduced[-1, -1]), 0.0
        while damping < 1e8:
            step, predicted = parts.solve(damping, tangent.shape[1])
            candidate = moved_by(fit, parts, step, tangent, records, prior, limit)
            gain = now - candidate.squares
            if gain < WELL_PREDICTED * predicted and math.isfinite(candidate.squares):
                candidate = _solved(candidate.system, candidate.states, records, prior)
                gain = now - candidate.squares
            if gain > 0.0 or predicted <= 1e-16 * now:
                break
            damping = max(4.0 * damping, 1e-9)
        if not gain > 0.0:
            status = RefinementStatus.CONVERGED
            break
        n_steps += 1
        fit = normalised(candidate, records)
        ratio = gain / max(predicted, 1e-300)
        damping = max(damping * (1 / 9 if ratio > 0.75 else 1 if ratio > 0.25 else 3), 1e-12)
        small = small + 1 if gain <= settled * fit.squares else 0
        if small == 3:
            status = RefinementStatus.CONVERGED
            break
    return replace(fit, n_steps=n_steps, status=status)


def normalised(fit: OutputErrorFit, records: WeightedRecords) -> OutputErrorFit:
    """The same fit in coordinates in which a free decay from x_0 has the energy |x_0|^2."""
    T = output_normal(fit.system.A, fit.system.C, max(len(u) for u in records.u))
    return replace(fit, system=fit.system.changed(T), states=fit.states @ T.T)


def basis_of_changes(system: LinearSystem) -> Array:
    """Orthonormal basis of changes of (A^T, C) that no change of coordinates makes."""
    n, A, C = system.order, system.A, system.C
    same = np.empty((n * n + C.size, n * n))
    for k in range(n * n):
        X = np.zeros((n, n))
        X.flat[k] = 1.0
        same[:, k] = np.concatenate(((X @ A - A @ X).T.ravel(), -(C @ X).ravel()))
    left = np.linalg.svd(same, full_matrices=True)[0]
    return left[:, n * n :]


def moved_by(
    fit: OutputErrorFit,
    parts: Equations,
    step: Array,
    tangent: Array,
    records: WeightedRecords,
    prior: Array,
    limit: PoleLimit,
) -> OutputErrorFit:
    """Fit after a step of all unknowns."""
    system, n = fit.system, fit.system.order
    change = tangent @ step[: tangent.shape[1]]
    moved = _with_linear(system, step[tangent.shape[1] :])
    try:
        A = pulled_inside(system.A + change[: n * n].reshape(n, n).T, limit)
    except np.linalg.LinAlgError:
        return replace(fit, squares=math.inf)
    C = system.C + change[n * n :].reshape(system.C.shape)
    states = fit.states + parts.gains[:, :, -1] - parts.gains[:, :, :-1] @ step
    moved = replace(moved, A=A, C=C)
    return OutputErrorFit(moved, states, _cost(moved, states, records, prior), records.n_counted)


def _with_linear(system: LinearSystem, step: Array) -> LinearSystem:
    n, d, q = system.order, system.B.shape[1], system.C.shape[0]
    B, D, c = np.split(step, (n * d, n * d + q * d))
    return replace(
        system,
        B=system.B + B.reshape(d, n).T,
        D=system.D + D.reshape(q, d),
        c=system.c + c,
    )


def _solved(
    system: LinearSystem, states: Array, records: WeightedRecords, prior: Array
) -> OutputErrorFit:
    """Least squares over B, D, c and x_0, from where they are.

    The sum of squares is that of the run: what the equations predict has no digit left where the
    inputs hardly move.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        parts = _equations(system, states, records, prior, free=True, tangent=None)
        if not np.isfinite(parts.reduced).all():
            return OutputErrorFit(system, states, math.inf, records.n_counted)
    step, _ = parts.solve()
    states = states + parts.gains[:, :, -1] - parts.gains[:, :, :-1] @ step
    moved = _with_linear(system, step)
    return OutputErrorFit(moved, states, _cost(moved, states, records, prior), records.n_counted)


def _cost(system: LinearSystem, states: Array, records: WeightedRecords, prior: Array) -> float:
    """Sum of squares of the free run, and what the states in front cost by their prior."""
    n_rows = max(len(u) for u in records.u)
    away = system.equilibrium(np.array([u[0] for u in records.u]), n_rows) - states
    with np.errstate(over="ignore", invalid="ignore"):
        cost = squares_of(system, states, records) + float(np.sum((away @ prior) * away))
    return cost if math.isfinite(cost) else math.inf


def _equations(
    system: LinearSystem,
    states: Array,
    records: WeightedRecords,
    prior: Array,
    *,
    free: bool,
    tangent: Array | None,
) -> Equations:
    """Normal equations at a system: of x_0, with `free` of B, D, c, and of a tangent of (A, C)."""
    grams: list[Array] = []
    for group in records.groups:
        pieces = grams_of_pieces(system, states[group.numbers], group, free, tangent)
        grams.append(reduce(np.add, (gram for _, gram in pieces)))
    return without_states(system, states, records, prior, grams)


def without_states(
    system: LinearSystem, states: Array, records: WeightedRecords, prior: Array, grams: list[Array]
) -> Equations:
    """Eliminate x_0 from the Gram matrices of all groups of records."""
    n = system.order
    n_rows = max(len(u) for u in records.u)
    gains: list[tuple[IntArray, Array]] = []
    reduced: Array | None = None
    for group, G in zip(records.groups, grams, strict=True):
        # the order of columns: everything, x_0, residual
        rest = np.r_[: G.shape[1] - n - 1, G.shape[1] - 1]
        x = np.arange(G.shape[1] - n - 1, G.shape[1] - 1)
        away = system.equilibrium(group.u[:, 0], n_rows) - states[group.numbers]
        inner = G[:, x[:, None], x] + prior
        cross = G[:, x[:, None], rest]
        cross[:, :, -1] += away @ prior
        K = np.linalg.solve(inner, cross)
        # the sum of cross^T K over the records is one product
        eliminated = cross.reshape(-1, len(rest)).T @ K.reshape(-1, len(rest))
        part = G.sum(axis=0)[np.ix_(rest, rest)] - eliminated
        part[-1, -1] += np.sum((away @ prior) * away)
        reduced = part if reduced is None else reduced + part
        gains.append((group.numbers, np.asarray(K, dtype=np.float64)))
    assert reduced is not None
    every = np.empty((records.n_records, *gains[0][1].shape[1:]))
    for numbers, K in gains:
        every[numbers] = K
    return Equations(reduced, every)


def prior_of_states(
    system: LinearSystem, states: Array, records: WeightedRecords, noise: float
) -> Array:
    """Weight of (x_0 - equilibrium): noise over the mean square of states on the way, isotropic.

    None but a ridge along modes that do not settle within a record: an integrator may be anywhere,
    and its state at the input that leaves it where it is, which is not the mean, may be large.
    """
    total, count = 0.0, 0
    for group, _, x in run_records(system, states, records):
        inside = np.arange(x.shape[1]) < group.lengths[:, None]
        away = (x - x[inside].mean(axis=0)) * inside[..., None]
        total, count = total + float(np.sum(np.square(away))), count + int(inside.sum())
    n_rows = max(len(u) for u in records.u)
    weight = noise * count / max(total, 1e-300)
    return np.asarray(PRIOR * np.eye(system.order) + weight * system.settling(n_rows))


def grams_of_pieces(
    system: LinearSystem,
    states: Array,
    group: RecordGroup,
    free: bool,
    tangent: Array | None,
    edges: Sequence[int] = (),
) -> Iterator[tuple[int, Array]]:
    """First rows of pieces, and Gram matrices of derivatives and residual of each record there.

    A Gram matrix is (n_records, p + 1, p + 1). Rows are cut before each of `edges`, and wherever
    that keeps blocks small.
    """
    n, d, q = system.order, system.B.shape[1], system.C.shape[0]
    r, n_rows = group.u.shape[:2]
    n_driving = (n if tangent is not None else 0) + (d if free else 0)
    block = max(128, BLOCK_NUMBERS // (r * q * n * (n_driving + 1)))
    x = states[:, None]
    # the last dual run of each output has no input: it is the decay C A^t
    first = np.zeros((r, q, n_driving + 1, n))
    first[:, :, -1] = system.C
    s: Array = first.reshape(r, -1, n)
    starts = {*range(0, n_rows, block), *edges} - {n_rows}
    for begin, end in pairwise([*sorted(starts), n_rows]):
        rows = slice(begin, end)
        u, w = group.u[:, rows], group.w[:, rows]
        count = u.shape[1]
        along, x = propagate(system.A, (u @ system.B.T)[:, :, None], x)
        along = along[:, :, 0]
        residual = group.y[:, rows] - along @ system.C.T - u @ system.D.T - system.c
        signals = [np.zeros((r, count, 1))]
        signals = [u, *signals] if free else signals
        signals = [along, *signals] if tangent is not None else signals
        driven, s = propagate(system.A.T, _crossed(np.concatenate(signals, axis=2), system.C), s)
        driven = driven.reshape(r, count, q, n_driving + 1, n)
        parts: list[Array] = []
        if tangent is not None:
            moved = driven[:, :, :, :n].reshape(r, count, q, n * n) @ tangent[: n * n]
            outputs = tangent[n * n :].reshape(q, n, -1)
            parts.append(moved + np.einsum("rtj,ajm->rtam", along, outputs))
        if free:
            inputs = driven[:, :, :, n_driving - d : n_driving]
            parts.append(inputs.reshape(r, count, q, d * n))
            direct = np.zeros((r, count, q, q, d))
            for a in range(q):
                direct[:, :, a, a] = u
            parts.append(direct.reshape(r, count, q, q * d))
            parts.append(np.broadcast_to(np.eye(q), (r, count, q, q)))
        parts.append(driven[:, :, :, -1])
        parts.append(residual[..., None])
        columns = np.concatenate(parts, axis=3) * np.sqrt(w)[..., None]
        columns = columns.reshape(r, count * q, -1)
        # a product of one matrix with its own transpose is half the work
        alone = r == 1
        gram = columns[0].T @ columns[0] if alone else columns.transpose(0, 2, 1) @ columns
        yield begin, gram.reshape(r, *gram.shape[-2:])


def _crossed(signals: Array, C: Array) -> Array:
    """Every signal into the dual system of every output, (r, n_rows, q k, n)."""
    r, n_rows, k = signals.shape
    v = signals[:, :, None, :, None] * C[:, None, :]
    return v.reshape(r, n_rows, C.shape[0] * k, C.shape[1])


def balanced(A: Array, B: Array, C: Array, n_rows: int) -> tuple[Array, Array, Array]:
    """Square-root balancing: Hankel singular values, T (x = T z), and its left inverse."""
    observed = output_normal(A, C, n_rows)
    reached = output_normal(A.T, B.T, n_rows)
    left, values, right = linalg.svd(observed @ reached.T)
    root = np.sqrt(np.maximum(values, 1e-300))
    return values, reached.T @ right.T / root, (left / root).T @ observed
