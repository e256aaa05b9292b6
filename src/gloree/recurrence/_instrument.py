"""The default: moments of order l - 1 with the model's own previous states as instruments."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from gloree._arrays import beside, index, like, namespace, ones, rows_where, take_rows, to_host
from gloree._monomials import block_rows
from gloree._sums import Sums
from gloree.chains import HermiteLaw, law_derivatives
from gloree.models import Network
from gloree.recurrence._contraction import Contraction, ridge_solve, solve_overlap_rows, top_degree
from gloree.score_functions import hermite_along, scores_along
from gloree.sequences import Array, Batch
from gloree.states import States, residual_rows, run_states


@dataclass(frozen=True)
class InstrumentSums(Sums):
    """Sums behind E[(z - z^) g] and E[(h_{t-1}, 1) g], with g = (h^_{t-1}, 1).

    For backward units w^_{t+1} stands in the place of h^_{t-1}. `cross`, (n_hidden, n_hidden + 1),
    is the sum of p_t g_t^T, where p_t has the mean of z_t - z^_t given everything but x_t; `gram`,
    (n_hidden + 1, n_hidden + 1), that of (h_{t-1}, 1) g_t^T.
    """

    n_rows: float
    cross: Array
    gram: Array


def pseudo_observations(
    batch: Batch, model: Network, chain: HermiteLaw, residuals: Array, contraction: Contraction
) -> Array:
    r"""Unbiased surrogates of z_t - z^_t for every unit, shape (n_rows, n_hidden).

    .. math::
        p_t = \frac{1}{l!\, c_l} \Psi^{-1}
              [ (B r_t) \circ He_{l-1}(D s_t; \mathrm{diag}\, D K D^T) ]

    has E[p_t g] = E[(z_t - z^_t) g] for every g that does not depend on x_t, provided A1 and A2
    are right.
    """
    degree, leading = top_degree(model)
    signal = residuals @ like(residuals, contraction.outputs.T)
    if not chain.capabilities.hermite and degree > 2:
        found = _pseudo_observations_of(batch, chain, to_host(signal), contraction, degree)
        scaled: Array = like(residuals, found / (factorial(degree) * leading))
        return scaled
    scores = chain.scores(batch)
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    p: Array = namespace(signal).empty_like(signal)
    for boundary_type in np.unique(types):
        rows = index(signal, rows_where(types == boundary_type))
        D = contraction.inputs[boundary_type]
        variances = np.einsum("id,de,ie->i", D, covariances[boundary_type], D)
        along = hermite_along(take_rows(scores, rows) @ like(scores, D.T), variances, degree - 1)
        moments = take_rows(signal, rows) * along
        p[rows] = solve_overlap_rows(contraction.overlap[boundary_type], moments)
    p /= factorial(degree) * leading
    return p


def _pseudo_observations_of(
    batch: Batch, chain: HermiteLaw, signal: Array, contraction: Contraction, degree: int
) -> Array:
    """Psi^-1 [(B r_t) o S_{l-1}(D, .., D)] for score tensors that are not Hermite, (n_rows, k).

    Rows that do not count are zero: they may lack the neighbours that a score needs.
    """
    at, counted = law_derivatives(chain, batch, degree - 1), batch.counted_rows
    D, p = contraction.inputs[0], np.zeros_like(signal)
    step = block_rows(chain.n_inputs ** (degree - 1))
    for begin in range(0, counted.shape[0], step):
        rows = counted[begin : begin + step]
        moments = signal[rows] * scores_along(at(rows), D)
        p[rows] = solve_overlap_rows(contraction.overlap[0], moments)
    return p


def instrument_sums(
    batch: Batch,
    model: Network,
    chain: HermiteLaw,
    contraction: Contraction,
    states: States | None = None,
    residuals: Array | None = None,
) -> InstrumentSums:
    """Sums of one batch for `instrument_update`.

    Time O(n_rows n_hidden (n_inputs + n_outputs + n_hidden)): the cheapest of the estimators.
    """
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    p = pseudo_observations(batch, model, chain, residuals, contraction)
    g = beside((states.previous, ones(states.h, (batch.n_rows, 1))))
    p, g = take_rows(p, batch.counted), take_rows(g, batch.counted)
    return InstrumentSums(float(batch.n_counted), to_host(p.T @ g), to_host(g.T @ g))


def instrument_update(
    sums: InstrumentSums, *, bias: bool = True, ridge: float = 1e-10, n_forward: int | None = None
) -> tuple[Array, Array]:
    """Changes of U and b: (dU, db) = E[(z - z^) g] E[(h^_{t-1}, 1) g]^-1.

    Each direction of a bidirectional network is solved for separately, with the states that enter
    its units as instruments, so dU is block diagonal. `ridge` is relative: a state that never
    varies gets no weight.
    """
    k = sums.cross.shape[0]
    cut = k if n_forward is None else n_forward
    recurrent, change = np.zeros((k, k)), np.zeros(k)
    for begin, end in ((0, cut), (cut, k)):
        if begin == end:
            continue
        units = np.arange(begin, end)
        known = np.append(units, k) if bias else units
        gram, cross = sums.gram[np.ix_(known, known)], sums.cross[np.ix_(units, known)]
        solution = ridge_solve(gram, cross.T, ridge).T
        recurrent[begin:end, begin:end] = solution[:, : end - begin]
        if bias:
            change[begin:end] = solution[:, -1]
    return recurrent, change
