"""The paper's estimator: order l^2 in the step before, quadratic in U. A baseline."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, factorial

import numpy as np

from gloree._arrays import index, like, to_host
from gloree._sums import Sums
from gloree.chains import HermiteLaw
from gloree.models import Network
from gloree.recurrence._contraction import top_degree
from gloree.score_functions import hermite_along
from gloree.sequences import Array, Batch


@dataclass(frozen=True)
class ScoreSums(Sums):
    """Contracted fourth-order moments E[(A2^+ y_t)_i S_4(t-1)(v_m, v_m, v_n, v_n)], summed.

    Attributes
    ----------
    n_rows : float
    moment : ndarray of shape (n_hidden, n_hidden, n_hidden)
        Indices i, m, n; v are the dual vectors of the rows of A1.
    """

    n_rows: float
    moment: Array


def score_sums(
    batch: Batch, model: Network, chain: HermiteLaw, residuals: Array | None = None
) -> ScoreSums:
    """Sums of one batch for `score_update` (quadratic activation only)."""
    check_score_method(model)
    residuals = batch.targets if residuals is None else residuals
    scores = chain.scores(batch)
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    rows = batch.counted_rows
    rows = rows[batch.local[rows] >= 1]
    dual = np.linalg.pinv(model.input_weights).T
    signal = residuals[index(residuals, rows)] @ like(
        residuals, np.linalg.pinv(model.output_weights)
    )
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
    """Refuse what the paper's recurrence estimator cannot do.

    Raises
    ------
    ValueError
        If f is not quadratic, or n_hidden exceeds n_inputs or n_outputs.
    """
    degree, _ = top_degree(model)
    if degree != 2:
        raise ValueError(
            f"recurrence='score' needs a moment of order l^2 = {degree**2} for an activation of "
            f"degree {degree}, which no sample estimates: use 'instrument' or 'cross'"
        )
    if model.n_hidden > min(model.n_inputs, model.n_outputs):
        raise ValueError(
            f"recurrence='score' inverts A1 and A2 and needs n_hidden <= n_inputs and n_outputs; "
            f"got n_hidden={model.n_hidden}, n_inputs={model.n_inputs}, "
            f"n_outputs={model.n_outputs}: use 'instrument'"
        )


def score_update(sums: ScoreSums, leading: float) -> Array:
    r"""|U| row by row from the paper's moment; the sign of each row is not determined.

    The contraction along the dual vectors of A1 is
    :math:`4!\, c^3 (U_{im} U_{in} + 2 \delta_{mn} U_{im}^2) / 3`: the leading eigenvector of a
    k x k matrix for each unit. The sign returned makes the largest entry of a row positive.

    Returns
    -------
    ndarray of shape (n_hidden, n_hidden)
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
