"""The joint score of two neighbouring steps: order 2l - 1, linear in U."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, factorial

import numpy as np

from gloree._sums import Sums
from gloree.chains import GaussianChain
from gloree.models import IORNN
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
        Sum over steps with a predecessor of Psi_e^-1 times the contracted moment.
    """

    n_rows: float
    moment: Array


def cross_sums(
    batch: Batch,
    model: IORNN,
    chain: GaussianChain,
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
    scores = chain.scores(batch)
    kinds, covariances = chain.score_covariance_kinds(batch)
    lagged = chain.precision_blocks(1)
    rows = np.arange(batch.n_rows)[batch.counted]
    rows = rows[batch.local[rows] >= 1]
    signal = residuals @ contraction.outputs.T
    k = model.n_hidden
    total = np.zeros((k, k))
    pairs = kinds[rows] * covariances.shape[0] + kinds[rows - 1]
    for pair in np.unique(pairs):
        chosen = rows[pairs == pair]
        now, before = divmod(int(pair), covariances.shape[0])
        D, E = contraction.inputs[now], contraction.inputs[before]
        alpha, beta = scores[chosen] @ D.T, scores[chosen - 1] @ E.T
        alpha_variance = np.einsum("id,de,ie->i", D, covariances[now], D)
        beta_variance = np.einsum("id,de,ie->i", E, covariances[before], E)
        sigma = D @ lagged[now] @ E.T
        moment = np.zeros((k, k))
        for r in range(degree):
            left = signal[chosen] * hermite_along(alpha, alpha_variance, degree - 1 - r)
            right = hermite_along(beta, beta_variance, degree - r)
            factor = factorial(r) * comb(degree - 1, r) * comb(degree, r)
            moment += (-sigma) ** r * factor * (left.T @ right)
        inner = (E @ model.input_weights.T) ** degree
        solved = solve_overlap(contraction.overlap[now], moment)
        total += solve_overlap(inner, solved.T).T
    return CrossSums(float(rows.shape[0]), total)


def cross_update(sums: CrossSums, degree: int, leading: float) -> Array:
    """Change of U from the joint score: linear, and right in sign.

    E[y_t (x) S_{l-1,l}(t, t-1)] = (l!)^2 c_l^2 sum_ij U_ij A2_i (x) a_i^(l-1) (x) a_j^l.
    """
    change: Array = sums.moment / (sums.n_rows * factorial(degree) ** 2 * leading**2)
    return change
