"""The joint score of two neighbouring steps: order 2l - 1, linear in U."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, factorial

import numpy as np

from gloree._arrays import index, like, to_host
from gloree._sums import Sums
from gloree.chains import HermiteLaw
from gloree.models import Network
from gloree.recurrence._contraction import Contraction, solve_overlap, top_degree
from gloree.score_functions import hermite_along
from gloree.sequences import Array, Batch
from gloree.states import States, residual_rows, run_states


@dataclass(frozen=True)
class CrossSums(Sums):
    """Contracted joint-score moments E[(B y)_i He(D_i s_t, D_j s_{t-1})], summed.

    Attributes
    ----------
    n_rows : float
    moment : ndarray of shape (n_hidden, n_hidden)
        Sum over steps with a predecessor (for backward units, a successor) of Psi_e^-1 times the
        contracted moment.
    """

    n_rows: float
    moment: Array


def cross_sums(
    batch: Batch,
    model: Network,
    chain: HermiteLaw,
    contraction: Contraction,
    states: States | None = None,
    residuals: Array | None = None,
) -> CrossSums:
    r"""Sums of one batch for `cross_update`.

    The joint Hermite polynomial of two correlated variables is

    .. math::
        He_{m,n}(\alpha, \beta) = \sum_r (-\sigma)^r r! \binom{m}{r} \binom{n}{r}
                                  He_{m-r}(\alpha) He_{n-r}(\beta),

    so the moment of order 2l - 1, contracted along all pairs of units, is a sum of l products of
    matrices; no score tensor is formed.
    """
    degree, _ = top_degree(model)
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    signal = residuals @ like(residuals, contraction.outputs.T)
    cut, k = model.n_forward, model.n_hidden
    # a backward unit has its neighbour at t + 1: the same moment, the other way round
    parts = [(slice(0, cut), -1), (slice(cut, k), 1)]
    total, n_rows = np.zeros((k, k)), 0
    for units, shift in parts:
        if units.start == units.stop:
            continue
        moment, n_rows = _neighbour_moment(
            batch, model, chain, contraction, signal, degree=degree, shift=shift
        )
        total[units, units] = moment[units, units]
    return CrossSums(float(n_rows), total)


def _neighbour_moment(
    batch: Batch,
    model: Network,
    chain: HermiteLaw,
    contraction: Contraction,
    signal: Array,
    *,
    degree: int,
    shift: int,
) -> tuple[Array, int]:
    """Solved moment with the score of step t + shift, and the steps that have one."""
    scores = chain.scores(batch)
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    lagged = chain.precision_blocks(1)
    rows = batch.counted_rows
    last = np.repeat(batch.lengths, batch.lengths) - 1
    inside = batch.local[rows] >= 1 if shift < 0 else batch.local[rows] < last[rows]
    rows = rows[inside]
    k = model.n_hidden
    total = np.zeros((k, k))
    pairs = types[rows] * covariances.shape[0] + types[rows + shift]
    for pair in np.unique(pairs):
        chosen = rows[pairs == pair]
        now, other = divmod(int(pair), covariances.shape[0])
        D, E = contraction.inputs[now], contraction.inputs[other]
        place, neighbour = index(scores, chosen), index(scores, chosen + shift)
        alpha = scores[place] @ like(scores, D.T)
        beta = scores[neighbour] @ like(scores, E.T)
        alpha_variance = np.einsum("id,de,ie->i", D, covariances[now], D)
        beta_variance = np.einsum("id,de,ie->i", E, covariances[other], E)
        sigma = D @ (lagged[now] if shift < 0 else lagged[other].T) @ E.T
        moment = np.zeros((k, k))
        for r in range(degree):
            left = signal[place] * hermite_along(alpha, alpha_variance, degree - 1 - r)
            right = hermite_along(beta, beta_variance, degree - r)
            factor = factorial(r) * comb(degree - 1, r) * comb(degree, r)
            moment += (-sigma) ** r * factor * to_host(left.T @ right)
        inner = (E @ model.input_weights.T) ** degree
        solved = solve_overlap(contraction.overlap[now], moment)
        total += solve_overlap(inner, solved.T).T
    return total, int(rows.shape[0])


def cross_update(sums: CrossSums, degree: int, leading: float) -> Array:
    """Change of U from the joint score: linear, and right in sign.

    E[y_t (x) S_{l-1,l}(t, t-1)] = (l!)^2 c_l^2 sum_ij U_ij A2_i (x) a_i^(l-1) (x) a_j^l.
    """
    change: Array = sums.moment / (sums.n_rows * factorial(degree) ** 2 * leading**2)
    return change
