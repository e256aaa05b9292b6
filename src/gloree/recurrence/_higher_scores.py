"""Estimators of U from scores of higher order: the joint score of two steps, and the paper's.

The joint score of two neighbouring steps, of order 2l - 1, is linear in U. The paper's estimator
takes the score of order l^2 in the step before, and is quadratic in U: a baseline.
"""

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

    `moment`, (n_hidden, n_hidden), is the sum over steps with a predecessor (for backward units, a
    successor) of Psi_e^-1 times the contracted moment.
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
    states = run_states(model, batch) if states is None else states
    residuals = residual_rows(model, batch, states) if residuals is None else residuals
    signal = residuals @ like(residuals, contraction.outputs.T)
    cut, k = model.n_forward, model.n_hidden
    total, n_rows = np.zeros((k, k)), 0
    # a backward unit has its neighbour at t + 1: the same moment, the other way round
    for units, shift in ((slice(0, cut), -1), (slice(cut, k), 1)):
        if units.start < units.stop:
            moment, n_rows = _neighbour_moment(batch, model, chain, contraction, signal, shift)
            total[units, units] = moment[units, units]
    return CrossSums(float(n_rows), total)


def _neighbour_moment(
    batch: Batch,
    model: Network,
    chain: HermiteLaw,
    contraction: Contraction,
    signal: Array,
    shift: int,
) -> tuple[Array, int]:
    """Solved moment with the score of step t + shift, and the steps that have one."""
    scores = chain.scores(batch)
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    lagged, (degree, _) = chain.precision_blocks(1), top_degree(model)
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
    return np.asarray(sums.moment / (sums.n_rows * factorial(degree) ** 2 * leading**2))


@dataclass(frozen=True)
class ScoreSums(Sums):
    """Contracted fourth-order moments E[(A2^+ y_t)_i S_4(t-1)(v_m, v_m, v_n, v_n)], summed.

    `moment` has the indices i, m, n; v are the dual vectors of the rows of A1.
    """

    n_rows: float
    moment: Array


def score_sums(
    batch: Batch, model: Network, chain: HermiteLaw, residuals: Array | None = None
) -> ScoreSums:
    """Sums of one batch for `score_update`.

    A ValueError if the activation is not quadratic, or n_hidden exceeds n_inputs or n_outputs.
    """
    check_score_method(model)
    residuals = batch.targets if residuals is None else residuals
    scores = chain.scores(batch)
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    rows = batch.counted_rows
    rows = rows[batch.local[rows] >= 1]
    dual = np.linalg.pinv(model.input_weights).T
    inverse = like(residuals, np.linalg.pinv(model.output_weights))
    signal = residuals[index(residuals, rows)] @ inverse
    k = model.n_hidden
    total = np.zeros((k, k, k))
    before = types[rows - 1]
    for boundary_type in np.unique(before):
        chosen = before == boundary_type
        beta = scores[index(scores, rows[chosen] - 1)] @ like(scores, dual.T)
        own = signal[index(signal, chosen)]
        sigma = dual @ covariances[boundary_type] @ dual.T
        for r in range(3):
            along = hermite_along(beta, np.diag(sigma), 2 - r)
            factor = factorial(r) * comb(2, r) ** 2 * (-sigma) ** r
            for i in range(k):
                total[i] += factor * to_host(along.T @ (along * own[:, i, None]))
    return ScoreSums(float(rows.shape[0]), total)


def check_score_method(model: Network) -> None:
    """Raise ValueError unless f is quadratic and n_hidden at most n_inputs and n_outputs."""
    degree, _ = top_degree(model)
    if degree != 2:
        raise ValueError(
            f"recurrence='score' needs a moment of order l^2 = {degree**2} for an activation of "
            f"degree {degree}, which no sample estimates: use `recurrence`='instrument' or "
            f"'cross'"
        )
    if model.n_hidden > min(model.n_inputs, model.n_outputs):
        raise ValueError(
            f"recurrence='score' inverts A1 and A2 and needs n_hidden <= n_inputs and n_outputs; "
            f"got n_hidden={model.n_hidden}, n_inputs={model.n_inputs}, "
            f"n_outputs={model.n_outputs}: use `recurrence`='instrument'"
        )


def score_update(sums: ScoreSums, leading: float) -> Array:
    r"""|U| row by row from the paper's moment; the sign of each row is not determined.

    The contraction along the dual vectors of A1 is
    :math:`4!\, c^3 (U_{im} U_{in} + 2 \delta_{mn} U_{im}^2) / 3`: the leading eigenvector of a
    k x k matrix for each unit. The sign returned makes the largest entry of a row positive.
    """
    moment = sums.moment / (sums.n_rows * factorial(4) * leading**3)
    k = moment.shape[0]
    scale = np.full((k, k), 3.0)
    np.fill_diagonal(scale, 1.0)
    U = np.zeros((k, k))
    for i in range(k):
        values, vectors = np.linalg.eigh((moment[i] + moment[i].T) / 2 * scale)
        row = np.sqrt(max(values[-1], 0.0)) * vectors[:, -1]
        U[i] = row * np.sign(row[np.argmax(np.abs(row))] or 1.0)
    return U
