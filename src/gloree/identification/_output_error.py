r"""Least squares of the output error on a compressed record: many starts for a linear system.

A record enters the squared error of a linear system only by the sums behind its impulse response.
With w_t the centred window of the last inputs, S = sum_t w_t w_t^T / N, S = V diag(s) V^T,

.. math:: \frac1N\sum_t|y_t-\sum_jg_ju_{t-j}|^2=\|Z-R\,\bar g\|_F^2+\text{const},\qquad
          R=s^{1/2}V^T,\quad Z=s^{-1/2}V^T\frac1N\sum_tw_ty_t^T,

where row (j, i) of g^- is (g_j)_{:, i}: as many rows as the window has columns take the place of
all steps of the record. R whitens the noise of the Markov parameters; the response beyond the lags
is not taken into account.

The descent has g_j = C U^{j-1} B, the form in which a pole may pass through zero. A network has
g_j = A2^T U^j A1: the same poles, U and A1 = B, with A2^T = C U^{-1}, so that a pole near zero is
hard to see in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from gloree.identification._markov import ImpulseResponse
from gloree.identification._realisation import (
    LARGEST_RADIUS,
    Realisation,
    ho_kalman,
    modal_form,
    pulled_inside,
    supported_order,
)
from gloree.sequences import Array

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

    `states` (n_lags, n, n_inputs) are U^{j-1} B for lag j from 1 on; `basis` spans the columns of
    the regressors R [U^{j-1} B].
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
    left, values, right = np.linalg.svd(
        record.R @ states.transpose(0, 2, 1).reshape(-1, n), full_matrices=False
    )
    kept = values > 1e-13 * max(values[0], 1e-300)
    basis = left[:, kept]
    inside = basis.T @ record.Z
    C = (right[kept].T / values[kept]) @ inside
    return _Fit(U, B, states, basis, C.T, record.Z - basis @ inside)


def _normal_equations(record: CompressedRecord, fit: _Fit) -> tuple[Array, Array]:
    r"""J^T J and J^T r over (U, B), C eliminated (variable projection, Kaufman's form).

    .. math:: d(CU^{j-1}B)=\sum_{i+l=j-2}(CU^i)\,dU\,(U^lB)+CU^{j-1}\,dB,

    a convolution over lags, of which the part within the span of the regressors is left out.
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
            U = pulled_inside(fit.U + step[: n * n].reshape(n, n), LARGEST_RADIUS)
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
    needed = max(-(-order // n_outputs) + 1, -(-order // n_inputs))
    largest = n_lags // 2
    blocks = {int(np.ceil(factor * needed)) for factor in HANKEL_BLOCKS} | {largest // 2, largest}
    return sorted(2 * count for count in blocks if needed <= count <= largest)


def least_squares_realisation(response: ImpulseResponse, order: int) -> Realisation:
    """Realise a linear system of least squared output error, by a descent from several starts.

    In the single Hankel matrix of Ho-Kalman a mode that is weak, or near zero, is lost in the noise
    of the later Markov parameters; a descent from there ends at a local minimum. Here the starts
    are realisations of Hankel matrices of several sizes. All descend for a few steps on the
    compressed record, the best of them to convergence.

    Parameters
    ----------
    response : ImpulseResponse
    order : int

    Returns
    -------
    Realisation
        Stable; `singular_values` are those of the start that it came from, and `n_moved` counts
        the poles held at the limit of stability.

    Raises
    ------
    ValueError
        If the order is not supported by so many lags.

    Notes
    -----
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
