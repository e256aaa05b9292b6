"""Linear states from Markov parameters: Ho-Kalman, and least squares of the output error.

The block Hankel matrix of g_1, g_2, .. has the rank of the state, and its singular vectors give the
weights up to a similarity (:eq:`si-hankel`). The squared error is |Z - R g|^2 + const, with as many
rows as the window of inputs has columns in place of all steps of the record (:eq:`si-compressed`).
The response beyond the lags is not taken into account.

The descent has g_j = C U^{j-1} B, the form in which a pole may pass through zero. A network has g_j
= A2^T U^j A1: the same poles, U and A1 = B, with A2^T = C U^{-1}, so that a pole near zero is hard
to see in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gloree._brief import Brief
from gloree.identification._markov import ImpulseResponse
from gloree.sequences import Array, IntArray

LARGEST_RADIUS = 0.999
"""Spectral radius of a realisation, at most: poles beyond it are reflected or pulled in."""


@dataclass(frozen=True)
class Realisation(Brief):
    """States of a linear system in block-diagonal coordinates, h_t = U h_{t-1} + B u_t.

    `transition` is U (order, order), real with blocks of one row for a real pole and two for a
    complex pair; `modes` are the states of each block. `inputs` is B (order, n_inputs).
    `singular_values` are those of the block Hankel matrix, and `n_moved` counts the unstable poles
    that were moved inside the unit circle.
    """

    transition: Array
    inputs: Array
    modes: tuple[IntArray, ...]
    singular_values: Array = field(repr=False)
    n_moved: int = 0

    @property
    def order(self) -> int:
        """States."""
        return int(self.transition.shape[0])

    @property
    def poles(self) -> Array:
        """Eigenvalues of U."""
        return np.asarray(np.linalg.eigvals(self.transition))


def hankel_matrix(parameters: Array) -> Array:
    """Block Hankel matrix whose block (i, j) is g_{i+j+1}, square in blocks."""
    n_lags, n_outputs, n_inputs = parameters.shape
    n_blocks = n_lags // 2
    blocks: Array = parameters[np.add.outer(np.arange(n_blocks), np.arange(n_blocks)) + 1]
    return blocks.transpose(0, 2, 1, 3).reshape(n_blocks * n_outputs, n_blocks * n_inputs)


def supported_order(n_lags: int, n_outputs: int, n_inputs: int) -> int:
    """Largest order that so many Markov parameters determine: U takes all block rows but one."""
    n_blocks = n_lags // 2
    return min((n_blocks - 1) * n_outputs, n_blocks * n_inputs)


def lags_of_order(order: int, n_outputs: int, n_inputs: int) -> int:
    """Markov parameters, at least, that support an order."""
    return 2 * max(-(-order // n_outputs) + 1, -(-order // n_inputs))


def ho_kalman(parameters: Array, order: int) -> Realisation:
    """Realise Markov parameters, (n_lags, n_outputs, n_inputs), by a stable system [1]_.

    There must be at least twice as many lags as the order over the number of inputs (outputs), else
    a ValueError is raised. `n_moved` says how many poles had to be moved for stability. Output
    weights are left to a least-squares fit on the states.

    References
    ----------
    .. [1] B. L. Ho, R. E. Kalman, "Effective construction of linear state-variable models from
       input/output functions", Regelungstechnik 14 (1966) 545-548.
    """
    H = hankel_matrix(parameters)
    n_outputs, n_inputs = parameters.shape[1:]
    largest = supported_order(*parameters.shape)
    if not 1 <= order <= largest:
        raise ValueError(
            f"`order` is {order}: {parameters.shape[0]} Markov parameters of {n_outputs} x "
            f"{n_inputs} support orders from 1 to {largest}"
        )
    left, values, right = np.linalg.svd(H, full_matrices=False)
    root = np.sqrt(np.maximum(values[:order], 1e-300))
    observability = left[:, :order] * root
    inputs = (right[:order] * root[:, None])[:, :n_inputs]
    # block row i is C U^i, so the next block row is this one times U
    U = np.linalg.lstsq(observability[:-n_outputs], observability[n_outputs:], rcond=1e-12)[0]
    U, n_moved = stabilised(U)
    transition, change, modes = modal_form(U)
    return Realisation(transition, np.linalg.solve(change, inputs), modes, values, n_moved)


def stabilised(U: Array) -> tuple[Array, int]:
    """Reflect poles outside the unit circle, pull others below the limit, and count them."""
    poles, vectors = np.linalg.eig(U)
    size = np.abs(poles)
    bad = size > LARGEST_RADIUS
    if not bad.any():
        return U, 0
    wanted = np.minimum(np.where(size > 1.0, 1.0 / size, size), LARGEST_RADIUS)
    moved = np.where(bad, poles / size * wanted, poles)
    return np.real((vectors * moved) @ np.linalg.inv(vectors)), int(bad.sum())


@dataclass(frozen=True)
class PoleLimit:
    """Largest moduli of poles: `drifting` of those within an angle of one (radians a step).

    The others turn faster than that, and their limit is `modulus`.
    """

    modulus: float
    drifting: float = 1.0
    angle: float = 0.0

    def of(self, poles: np.ndarray) -> Array:
        """Limit of each pole."""
        drifts = np.abs(np.angle(poles)) < self.angle
        return np.asarray(np.where(drifts, min(self.drifting, self.modulus), self.modulus))

    def reached(self, poles: np.ndarray) -> NDArray[np.bool_]:
        """Which poles are at their limit, up to rounding, or beyond."""
        return np.asarray(np.abs(poles) >= self.of(poles) - 1e-6)

    def at_most(self, modulus: float) -> PoleLimit:
        """The same limits, and one for all poles."""
        return replace(self, modulus=min(self.modulus, modulus))


def pulled_inside(U: Array, limit: PoleLimit) -> Array:
    """Shorten poles of larger modulus than their limits to these; U itself if there are none."""
    poles, vectors = np.linalg.eig(U)
    size, most = np.abs(poles), limit.of(poles)
    if not (size > most).any():
        return U
    moved = np.where(size > most, poles * (most * (1.0 - 1e-9) / np.maximum(size, most)), poles)
    return np.real((vectors * moved) @ np.linalg.inv(vectors))


def modal_form(U: Array) -> tuple[Array, Array, tuple[IntArray, ...]]:
    """Real block-diagonal M and T with U = T M T^-1, and the rows of each block.

    Blocks have one row for a real pole and two for a complex pair, by decreasing modulus. Defective
    matrices have no such form; rounding makes them nearly so, with large T.
    """
    poles, vectors = np.linalg.eig(U)
    used = np.zeros(poles.shape[0], dtype=bool)
    columns: list[Array] = []
    modes: list[IntArray] = []
    for i in np.argsort(-np.abs(poles), kind="stable"):
        if used[i]:
            continue
        used[i] = True
        start = len(columns)
        if abs(poles[i].imag) <= 1e-12 * abs(poles[i]):
            columns.append(vectors[:, i].real)
        else:
            distance = np.abs(poles - np.conj(poles[i])) + 10.0 * used
            used[int(np.argmin(distance))] = True
            columns += [vectors[:, i].real, vectors[:, i].imag]
        modes.append(np.arange(start, len(columns)))
    T = np.column_stack(columns)
    M = np.linalg.solve(T, U @ T)
    blocks = np.zeros_like(M)
    for mode in modes:
        blocks[np.ix_(mode, mode)] = M[np.ix_(mode, mode)]
    return blocks, T, tuple(modes)


HANKEL_BLOCKS = (1.0, 1.5, 2.0, 4.0)
"""Block rows of the Hankel matrices of the starts, as multiples of what the order needs; the
largest number that the response allows, and its half, are tried as well. Large matrices separate
slow poles; small ones have less of the noise that hides poles near zero."""

EXCITED = 1e-12
"""Variance of the windows, relative to the largest, below which a direction is not excited."""

FIRST_STEPS, MOST_STEPS = 12, 200  # steps of every start, and of those that are then the best
BEST = 2  # starts that are followed to convergence
SETTLED = 1e-9
"""The descent ends when three gains in a row are no larger than this, relative to the error."""


@dataclass(frozen=True)
class CompressedRecord:
    """R and Z of the record for responses g_1, g_2, ..; g_0 is free and eliminated.

    R has a column for each (lag, input), lags from 1 on. `floor` is the mean squared error, summed
    over outputs, that no response of so many lags can avoid.
    """

    R: Array
    Z: Array
    floor: float

    @classmethod
    def of(cls, response: ImpulseResponse) -> CompressedRecord:
        """Compress the record behind an impulse response."""
        sums, n_inputs = response.sums, response.parameters.shape[2]
        n = sums.n_rows
        mean, output_mean = sums.gram[:-1, -1] / n, sums.cross[-1] / n
        S = sums.gram[:-1, :-1] / n - np.outer(mean, mean)
        cross = sums.cross[:-1] / n - np.outer(mean, output_mean)
        s, V = np.linalg.eigh(S)
        kept = s > EXCITED * max(s[-1], 1e-300)
        root = np.sqrt(s[kept])
        R, Z = root[:, None] * V[:, kept].T, (V[:, kept].T @ cross) / root[:, None]
        floor = float(np.sum(sums.squares / n - output_mean**2) - np.sum(Z**2))
        # rows orthogonal to the columns of g_0
        Q = np.linalg.qr(R[:, :n_inputs], mode="complete")[0][:, n_inputs:]
        return cls(Q.T @ R[:, n_inputs:], Q.T @ Z, max(floor, 0.0))


@dataclass(frozen=True)
class _Fit:
    """One (U, B), and C by least squares given these: g_j = C U^{j-1} B.

    `states` are U^{j-1} B, (n_lags, n, n_inputs); `basis` spans the regressors R [U^{j-1} B].
    """

    U: Array
    B: Array
    states: Array
    basis: Array
    C: Array
    residual: Array

    @property
    def error(self) -> float:
        return float(np.sum(self.residual**2))


def _fit_outputs(record: CompressedRecord, U: Array, B: Array) -> _Fit:
    n, n_inputs = B.shape
    states = np.empty((record.R.shape[1] // n_inputs, n, n_inputs))
    states[0] = B
    for k in range(1, states.shape[0]):
        states[k] = U @ states[k - 1]
    regressors = record.R @ states.transpose(0, 2, 1).reshape(-1, n)
    left, values, right = np.linalg.svd(regressors, full_matrices=False)
    kept = values > 1e-13 * max(values[0], 1e-300)
    basis = left[:, kept]
    inside = basis.T @ record.Z
    C = (right[kept].T / values[kept]) @ inside
    return _Fit(U, B, states, basis, C.T, record.Z - basis @ inside)


def _normal_equations(record: CompressedRecord, fit: _Fit) -> tuple[Array, Array]:
    """J^T J and J^T r over (U, B), C eliminated: variable projection in Kaufman's form.

    d(C U^{j-1} B) = sum_{i+l=j-2} (C U^i) dU (U^l B) + C U^{j-1} dB, a convolution over lags.
    """
    n, n_inputs = fit.B.shape
    n_lags, n_free = fit.states.shape[0], n * (n + n_inputs)
    observed = np.empty((n_lags, *fit.C.shape))  # C U^{j-1}
    observed[0] = fit.C
    for k in range(1, n_lags):
        observed[k] = observed[k - 1] @ fit.U
    length = 2 * n_lags  # of the transforms: no wrap around
    seen = np.fft.rfft(observed, length, axis=0)
    reached = np.fft.rfft(fit.states, length, axis=0).transpose(0, 2, 1)
    hessian, gradient = np.zeros((n_free, n_free)), np.zeros(n_free)
    for a in range(fit.C.shape[0]):
        product = seen[:, a, None, :, None] * reached[:, :, None, :]
        J = np.zeros((n_lags, n_inputs, n_free))
        # entry (x, y) of dU takes state y of the inputs to row x of the outputs
        turned = np.fft.irfft(product, length, axis=0)[: n_lags - 1]
        J[1:, :, : n * n] = turned.reshape(n_lags - 1, n_inputs, n * n)
        for i in range(n_inputs):
            J[:, i, n * n + i :: n_inputs] = observed[:, a]
        whitened = record.R @ J.reshape(-1, n_free)
        whitened -= fit.basis @ (fit.basis.T @ whitened)
        hessian += whitened.T @ whitened
        gradient += whitened.T @ fit.residual[:, a]
    return hessian, gradient


def _descend(record: CompressedRecord, fit: _Fit, max_steps: int) -> _Fit:
    """Levenberg-Marquardt on (U, B)."""
    n = fit.U.shape[0]
    damping, settled = 1e-3, 0
    for _ in range(max_steps):
        hessian, gradient = _normal_equations(record, fit)
        scale = np.sqrt(np.maximum(np.diag(hessian), 1e-12 * np.diag(hessian).max() + 1e-300))
        matrix = hessian / np.outer(scale, scale)
        gain = 0.0
        while damping < 1e8:
            damped = matrix + damping * np.eye(matrix.shape[0])
            try:
                step = linalg.cho_solve(linalg.cho_factor(damped), gradient / scale) / scale
            except linalg.LinAlgError:
                damping = 4.0 * damping
                continue
            U = pulled_inside(fit.U + step[: n * n].reshape(n, n), PoleLimit(LARGEST_RADIUS))
            candidate = _fit_outputs(record, U, fit.B + step[n * n :].reshape(n, -1))
            gain = fit.error - candidate.error
            if gain > 0.0:
                break
            damping = max(4.0 * damping, 1e-9)
        if not gain > 0.0:
            break
        fit = candidate
        ratio = gain / max(float(2.0 * step @ gradient - step @ hessian @ step), 1e-300)
        damping = max(damping * (1 / 9 if ratio > 0.75 else 1 if ratio > 0.25 else 3), 1e-12)
        settled = settled + 1 if gain <= SETTLED * (record.floor + fit.error) else 0
        if settled == 3:
            break
    return fit


def hankel_lags(n_lags: int, order: int, n_outputs: int, n_inputs: int) -> list[int]:
    """Numbers of Markov parameters, g_0 included, from which starts of an order are realised."""
    needed = lags_of_order(order, n_outputs, n_inputs) // 2
    largest = n_lags // 2
    blocks = {int(np.ceil(factor * needed)) for factor in HANKEL_BLOCKS} | {largest // 2, largest}
    return sorted(2 * count for count in blocks if needed <= count <= largest)


def least_squares_realisation(response: ImpulseResponse, order: int) -> Realisation:
    """Realise a linear system of least squared output error, by a descent from several starts.

    In the single Hankel matrix of Ho-Kalman a mode that is weak, or near zero, is lost in the noise
    of the later Markov parameters; a descent from there ends at a local minimum. Here the starts
    are realisations of Hankel matrices of several sizes. All descend for a few steps on the
    compressed record, the best of them to convergence.

    The realisation is stable; `singular_values` are those of the start that it came from, and
    `n_moved` counts the poles held at the limit of stability. An order that so many lags do not
    support raises a ValueError.

    A step costs O(q^2 n_outputs n (n + n_inputs)) for windows of q = n_lags n_inputs columns,
    whatever the length of the record. The output weights are eliminated: variable projection [1]_
    in the form of Kaufman [2]_. Changes of the states' coordinates are left to the damping.

    References
    ----------
    .. [1] G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
       squares problems whose variables separate", SIAM J. Numer. Anal. 10 (1973) 413-432.
    .. [2] L. Kaufman, "A variable projection method for solving separable nonlinear least squares
       problems", BIT 15 (1975) 49-57.
    """
    g = response.parameters
    if not 1 <= order <= supported_order(*g.shape):
        return ho_kalman(g, order)  # raises the error, and says what is supported
    record = CompressedRecord.of(response)
    starts = [ho_kalman(g[:lags], order) for lags in hankel_lags(g.shape[0], order, *g.shape[1:])]
    ends = [(_fit_outputs(record, start.transition, start.inputs), start) for start in starts]
    for max_steps in (FIRST_STEPS, MOST_STEPS):
        ends = [(_descend(record, fit, max_steps), start) for fit, start in ends]
        ends = sorted(ends, key=lambda end: end[0].error)[:BEST]
    best, start = ends[0]
    transition, change, modes = modal_form(best.U)
    inputs = np.asarray(np.linalg.solve(change, best.B), dtype=np.float64)
    at_limit = np.abs(np.linalg.eigvals(best.U)) > LARGEST_RADIUS * (1.0 - 1e-6)
    return Realisation(transition, inputs, modes, start.singular_values, int(at_limit.sum()))
