"""Least squares of the prediction error, linear in everything but the input weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gloree._sums import Sums
from gloree.models import IORNN
from gloree.recurrence._contraction import ridge_solve
from gloree.sequences import Array, Batch, IntArray
from gloree.states import States, residual_rows, run_states


@dataclass(frozen=True)
class LinearisedSums(Sums):
    r"""Normal equations of the prediction error, linear in everything but A1.

    The prediction changes by

    .. math:: A_2^T [ f'(z) \circ (dU\, h_{t-1} + db) ] + dA_2^T h_t + dc + dD^T x_t

    (the effect of dU on later states is left out: it is of second order in |U|).

    Attributes
    ----------
    recurrent, bias : bool
        Whether U, and b, are among the unknowns.
    n_rows : float
    squares : float
        Sum of |y - y^|^2.
    unit_gram : ndarray of shape (m, m)
        Sum of Q Q^T, Q = (f'(z_i) g_j) for units i; g holds h_{t-1} where U is free and 1 where b
        is, so m = n_hidden len(g).
    unit_cross : ndarray of shape (m, n_outputs)
        Sum of Q r^T.
    mixed : ndarray of shape (m, n_regressors)
        Sum of Q phi^T, phi = (h_t, 1, x_t).
    gram : ndarray of shape (n_regressors, n_regressors)
        Sum of phi phi^T.
    cross : ndarray of shape (n_regressors, n_outputs)
        Sum of phi r^T.
    """

    recurrent: bool = field(metadata={"setting": True})
    bias: bool = field(metadata={"setting": True})
    n_rows: float
    squares: float
    unit_gram: Array = field(repr=False)
    unit_cross: Array = field(repr=False)
    mixed: Array = field(repr=False)
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)


def linearised_sums(
    batch: Batch,
    model: IORNN,
    *,
    recurrent: bool = True,
    bias: bool = True,
    direct: bool = False,
    states: States | None = None,
    residuals: Array | None = None,
) -> LinearisedSums:
    """Sums of one batch for `linearised_update` and for the output regression.

    Parameters
    ----------
    recurrent, bias : bool, default True
        Whether U, and b, are among the unknowns.
    direct : bool, default False
        Whether x_t is among the output regressors.

    Notes
    -----
    Time O(n_rows n_hidden^2 (n_hidden^2 / 2 + n_outputs + n_inputs)).
    """
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    counted = batch.counted
    r, h = residuals[counted], states.h[counted]
    ones = np.ones((h.shape[0], 1))
    phi = np.column_stack((h, ones, batch.X[counted]) if direct else (h, ones))
    n_hidden, n_outputs, n_phi = model.n_hidden, r.shape[1], phi.shape[1]
    entering = [states.previous[counted]] if recurrent else []
    entering += [ones] if bias else []
    m = n_hidden * sum(part.shape[1] for part in entering)
    unit_gram, unit_cross = np.zeros((m, m)), np.zeros((m, n_outputs))
    mixed = np.zeros((m, n_phi))
    if m:
        z, g = states.z[counted], np.column_stack(entering)
        step = max(64, 2**17 // m)
        for begin in range(0, r.shape[0], step):
            part = slice(begin, begin + step)
            slope = model.activation.derivative(z[part], 1)
            Q = (slope[:, :, None] * g[part, None, :]).reshape(-1, m)
            unit_gram += Q.T @ Q
            unit_cross += Q.T @ r[part]
            mixed += Q.T @ phi[part]
    return LinearisedSums(
        recurrent,
        bias,
        float(batch.n_counted),
        float(np.vdot(r, r)),
        unit_gram,
        unit_cross,
        mixed,
        phi.T @ phi,
        phi.T @ r,
    )


@dataclass(frozen=True)
class WeightChange:
    """Changes of all weights but A1."""

    recurrent: Array
    bias: Array
    output: Array
    output_bias: Array
    direct: Array | None

    def apply(self, model: IORNN, fraction: float = 1.0, *, units: bool = True) -> IORNN:
        """Model after this fraction of the change (of U and b; outputs change in full)."""
        U, b = model.recurrent_weights, model.hidden_bias
        return model.replace(
            recurrent_weights=U + fraction * self.recurrent if units else U,
            hidden_bias=b + fraction * self.bias if units else b,
            output_weights=model.output_weights + self.output,
            output_bias=model.output_bias + self.output_bias,
            direct_weights=(
                model.direct_weights
                if self.direct is None or model.direct_weights is None
                else model.direct_weights + self.direct
            ),
        )


def output_update(
    sums: LinearisedSums, model: IORNN, *, bias: bool = True, ridge: float = 1e-10
) -> WeightChange:
    """Least squares of the residual on (h_t, 1, x_t): changes of A2, c and D alone."""
    keep = _kept_regressors(sums, model, bias)
    solution = np.zeros_like(sums.cross)
    solution[keep] = ridge_solve(sums.gram[np.ix_(keep, keep)], sums.cross[keep], ridge)
    return _as_change(solution, np.zeros((model.n_hidden, model.n_hidden + 1)), model)


def linearised_update(
    sums: LinearisedSums,
    model: IORNN,
    *,
    bias: bool = True,
    ridge: float = 1e-10,
) -> WeightChange:
    r"""Joint least-squares change of U, b, A2, c and D.

    The part of U and b has the Gram matrix
    :math:`(A_2 A_2^T \otimes 1 1^T) \circ E[Q Q^T]`, the rest is the output regression.

    Parameters
    ----------
    sums : LinearisedSums
    model : IORNN
        The model of the pass.
    bias : bool, default True
        Whether c is free.
    ridge : float
        Relative ridge of the solve.
    """
    k, q = model.n_hidden, model.n_outputs
    A2 = model.output_weights
    phi = _kept_regressors(sums, model, bias)
    n_units, n_phi = sums.unit_gram.shape[0], phi.shape[0]
    owner = np.repeat(np.arange(k), n_units // k)
    size = n_units + n_phi * q
    gram = np.zeros((size, size))
    right = np.zeros(size)
    gram[:n_units, :n_units] = sums.unit_gram * (A2 @ A2.T)[np.ix_(owner, owner)]
    right[:n_units] = np.einsum("ma,ma->m", sums.unit_cross, A2[owner])
    # outputs are ordered (output, regressor)
    for a in range(q):
        block = slice(n_units + a * n_phi, n_units + (a + 1) * n_phi)
        gram[block, block] = sums.gram[np.ix_(phi, phi)]
        coupling = sums.mixed[:, phi] * A2[owner, a][:, None]
        gram[:n_units, block] = coupling
        gram[block, :n_units] = coupling.T
        right[block] = sums.cross[phi, a]
    solution = ridge_solve(gram, right[:, None], ridge)[:, 0]
    columns = [*range(k)] * sums.recurrent + [k] * sums.bias
    unit_change = np.zeros((k, k + 1))
    unit_change[:, columns] = solution[:n_units].reshape(k, len(columns))
    output_change = np.zeros_like(sums.cross)
    output_change[phi] = solution[n_units:].reshape(q, n_phi).T
    return _as_change(output_change, unit_change, model)


def _kept_regressors(sums: LinearisedSums, model: IORNN, bias: bool) -> IntArray:
    keep = np.ones(sums.gram.shape[0], dtype=bool)
    keep[model.n_hidden] = bias
    return np.flatnonzero(keep)


def _as_change(solution: Array, units: Array, model: IORNN) -> WeightChange:
    k = model.n_hidden
    direct = solution[k + 1 :] if solution.shape[0] > k + 1 else None
    return WeightChange(units[:, :k], units[:, k], solution[:k], solution[k], direct)
