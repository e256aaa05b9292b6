"""Least squares of the prediction error, linear in everything but the input weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import (
    beside,
    like,
    namespace,
    ones,
    room,
    take_rows,
    to_host,
    total_square,
    zeros,
)
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.models import Network
from gloree.recurrence._contraction import ridge_solve
from gloree.sequences import Array, Batch, IntArray
from gloree.states import States, residual_rows, run_states


@dataclass(frozen=True)
class LinearisedSums(Sums):
    r"""Normal equations of the prediction error, linear in everything but A1.

    The prediction changes by

    .. math:: A_2^T [ f'(z) \circ (dU\, h_{t-1} + db) ] + dA_2^T h_t + dc + dD^T x_t

    (the effect of dU on later states is left out: it is of second order in |U|). Unknown m of the
    units adds f'(z_i) g_j to unit i = owner[m], where g_j is the entering state of unit
    j = source[m] of the same direction, or 1 (the bias) for j = n_hidden. With Q = (f'(z_i) g_j),
    phi = (h_t, 1, x_t) and the residual r, the sums are `squares` of r^T r, `unit_gram` of Q Q^T,
    `unit_cross` of Q r^T, `mixed` of Q phi^T, `gram` of phi phi^T and `cross` of phi r^T.
    """

    owner: IntArray = field(metadata={"setting": True}, repr=False)
    source: IntArray = field(metadata={"setting": True}, repr=False)
    n_rows: float
    squares: float
    unit_gram: Array = field(repr=False)
    unit_cross: Array = field(repr=False)
    mixed: Array = field(repr=False)
    gram: Array = field(repr=False)
    cross: Array = field(repr=False)


def linearised_sums(
    batch: Batch,
    model: Network,
    *,
    recurrent: bool = True,
    bias: bool = True,
    direct: bool = False,
    states: States | None = None,
    residuals: Array | None = None,
) -> LinearisedSums:
    """Sums of one batch for `linearised_update` and for the output regression.

    `recurrent` and `bias` say whether U (and V), and b, are among the unknowns, `direct` whether
    x_t is among the output regressors. Time O(n_rows n_hidden^2 (n_hidden^2 / 2 + n_outputs +
    n_inputs)).
    """
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    k, cut = model.n_hidden, model.n_forward
    free = np.zeros((k, k + 1), dtype=bool)
    free[:cut, :cut] = free[cut:, cut:k] = recurrent
    free[:, k] = bias
    entering = beside((states.previous, ones(states.h, (batch.n_rows, 1))))
    return normal_equations(batch, model, states, residuals, entering, free, direct=direct)


def normal_equations(
    batch: Batch,
    model: Network,
    states: States,
    residuals: Array,
    entering: Array,
    free: NDArray[np.bool_],
    *,
    direct: bool,
) -> LinearisedSums:
    """Sums for any regressors `entering` the units, `free` (n_hidden, n_sources) among them."""
    owner, source = np.nonzero(free)
    counted = batch.counted
    r = take_rows(residuals, counted)
    phi = take_rows(output_regressors(batch, states, direct=direct), counted)
    m = owner.shape[0]
    unit_gram, unit_cross = zeros(r, (m, m)), zeros(r, (m, r.shape[1]))
    mixed = zeros(r, (m, phi.shape[1]))
    if m:
        z, g = take_rows(states.z, counted), take_rows(entering, counted)
        for part in row_blocks(r.shape[0], m, room(r)):
            Q = unit_regressors(model, z[part], g[part], owner, source)
            unit_gram += Q.T @ Q
            unit_cross += Q.T @ r[part]
            mixed += Q.T @ phi[part]
    products = (unit_gram, unit_cross, mixed, phi.T @ phi, phi.T @ r)
    return LinearisedSums(
        owner, source, float(batch.n_counted), total_square(r), *map(to_host, products)
    )


def row_blocks(n_rows: int, width: int, room: int = 1) -> list[slice]:
    """Slices of rows, so that blocks of `width` columns stay within `room` times the cache."""
    step = max(64, room * 2**17 // width)
    return [slice(begin, begin + step) for begin in range(0, n_rows, step)]


def unit_regressors(
    model: Network, z: Array, entering: Array, owner: IntArray, source: IntArray
) -> Array:
    """Return Q, the derivative of a unit's state in each unknown, shape (n_rows, m)."""
    slopes, take = model.activation.derivative(z, 1), namespace(z).take
    Q: Array = take(slopes, like(z, owner), axis=1)
    Q *= take(entering, like(z, source), axis=1)
    return Q


def output_regressors(batch: Batch, states: States, *, direct: bool) -> Array:
    """Return phi = (h_t, 1, x_t) of all rows."""
    parts = [states.h, ones(states.h, (batch.n_rows, 1)), batch.X]
    phi: Array = beside(parts if direct else parts[:2])
    return phi


@dataclass(frozen=True)
class WeightChange(Brief):
    """Changes of all weights but A1.

    Attributes
    ----------
    recurrent : ndarray of shape (n_hidden, n_hidden)
        Of U; of U and V on the diagonal for two directions.
    bias : ndarray of shape (n_hidden,)
        Of the hidden biases b.
    output : ndarray of shape (n_hidden, n_outputs)
        Of A2.
    output_bias : ndarray of shape (n_outputs,)
        Of c.
    direct : ndarray of shape (n_inputs, n_outputs) or None
        Of D.
    """

    recurrent: Array
    bias: Array
    output: Array
    output_bias: Array
    direct: Array | None

    def apply(self, model: Network, fraction: float = 1.0, *, units: bool = True) -> Network:
        """Model after `fraction` of the changes of U and b, and all of the others.

        Parameters
        ----------
        model : IORNN or BRNN
        fraction : float, default 1
        units : bool, default True
            Whether U and b change.

        Returns
        -------
        IORNN or BRNN
        """
        U, b, D = model.recurrent_weights, model.hidden_bias, model.direct_weights
        A2, c = model.output_weights, model.output_bias
        for (name, change), weights in zip(vars(self).items(), (U, b, A2, c, D), strict=True):
            shape = () if weights is None else weights.shape
            if change is not None and np.shape(change) != shape:
                found = np.shape(change)
                raise ValueError(f"`{name}` of a WeightChange has shape {found}, expected {shape}")
        return model.replace(
            recurrent_weights=U + fraction * self.recurrent if units else U,
            hidden_bias=b + fraction * self.bias if units else b,
            output_weights=model.output_weights + self.output,
            output_bias=model.output_bias + self.output_bias,
            direct_weights=D if self.direct is None or D is None else D + self.direct,
        )


def output_update(
    sums: LinearisedSums, model: Network, *, bias: bool = True, ridge: float = 1e-10
) -> WeightChange:
    """Least squares of the residual on (h_t, 1, x_t): changes of A2, c and D alone."""
    keep = _kept_regressors(sums, model, bias)
    solution = np.zeros_like(sums.cross)
    solution[keep] = ridge_solve(sums.gram[np.ix_(keep, keep)], sums.cross[keep], ridge)
    return _as_change(solution, np.zeros((model.n_hidden, model.n_hidden + 1)), model)


def linearised_update(
    sums: LinearisedSums, model: Network, *, bias: bool = True, ridge: float = 1e-10
) -> WeightChange:
    r"""Joint least-squares change of U, b, A2, c (unless `bias` is False) and D.

    The part of U and b has the Gram matrix
    :math:`(A_2 A_2^T \otimes 1 1^T) \circ E[Q Q^T]`, the rest is the output regression.
    `ridge` is relative.
    """
    solution, output_change = solve_normal_equations(sums, model, bias=bias, ridge=ridge)
    unit_change = np.zeros((model.n_hidden, model.n_hidden + 1))
    unit_change[sums.owner, sums.source] = solution
    return _as_change(output_change, unit_change, model)


def solve_normal_equations(
    sums: LinearisedSums, model: Network, *, bias: bool, ridge: float
) -> tuple[Array, Array]:
    """Joint solution: unknowns of the units, (m,), and of the outputs, (n_phi, n_outputs)."""
    q, A2 = model.n_outputs, model.output_weights
    phi = _kept_regressors(sums, model, bias)
    n_units, n_phi = sums.owner.shape[0], phi.shape[0]
    size = n_units + n_phi * q
    gram, right = np.zeros((size, size)), np.zeros(size)
    gram[:n_units, :n_units] = sums.unit_gram * (A2 @ A2.T)[np.ix_(sums.owner, sums.owner)]
    right[:n_units] = np.einsum("ma,ma->m", sums.unit_cross, A2[sums.owner])
    # outputs are ordered (output, regressor)
    for a in range(q):
        block = slice(n_units + a * n_phi, n_units + (a + 1) * n_phi)
        gram[block, block] = sums.gram[np.ix_(phi, phi)]
        coupling = sums.mixed[:, phi] * A2[sums.owner, a][:, None]
        gram[:n_units, block] = coupling
        gram[block, :n_units] = coupling.T
        right[block] = sums.cross[phi, a]
    solution = ridge_solve(gram, right[:, None], ridge)[:, 0]
    output_change = np.zeros_like(sums.cross)
    output_change[phi] = solution[n_units:].reshape(q, n_phi).T
    return solution[:n_units], output_change


def _kept_regressors(sums: LinearisedSums, model: Network, bias: bool) -> IntArray:
    keep = np.ones(sums.gram.shape[0], dtype=bool)
    keep[model.n_hidden] = bias
    return np.flatnonzero(keep)


def _as_change(solution: Array, units: Array, model: Network) -> WeightChange:
    k = model.n_hidden
    direct = solution[k + 1 :] if solution.shape[0] > k + 1 else None
    return WeightChange(units[:, :k], units[:, k], solution[:k], solution[k], direct)
