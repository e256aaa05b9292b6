"""What a score test makes of its sums: efficient scores, and p-values by flips of signs.

See `_specification`, which has the sums and the references.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import chdtrc

from gloree._brief import Brief
from gloree.models import Network
from gloree.refinement._curvature import held, informed
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import HessianSums
from gloree.refinement._specification import CouplingSums, ScoreRows
from gloree.sequences import Array, IntArray

NEW_SHARE = 0.01
"""Least part of a component, in mean square, that the weights of the network do not imitate."""

DEPENDENT = 1e-12
"""Part of the squared products of all blocks that is rounding."""

MOST_SAMPLED = 0.5
"""Part of V that may be ascribed to sampling, at most."""


def left_to_gain(rows: ScoreRows, hessian: HessianSums, model: Network, layout: Layout) -> float:
    """Gain of one more Gauss-Newton step for each weight, in units of the noise variance.

    Around 1 or less where the weights are within their standard errors of the optimum.
    """
    gradient = rows.weights.sum(axis=0)
    H = hessian.hessian * (rows.n_rows / hessian.n_rows)
    step = _solve(H, gradient[:, None], layout.scale_constraints(model))[:, 0]
    variance = rows.squares / rows.n_rows / layout.n_outputs
    return float(gradient @ step) / max(variance, 1e-300) / layout.size


@dataclass(frozen=True)
class EfficientScores(Brief):
    """Efficient scores of blocks, (n_blocks, n_kept), of the components that are new.

    `kept` are their places among all; `sampled` is the part of V that is due to b being estimated
    from part of the rows; `gains` is the part of the squared error that each component would save
    alone, to first order. `correction` is by how much V is too small, as least squares has left
    less of the noise than there was: n_blocks / (n_blocks - 1) times n / (n - size) for n
    residuals, as usual with clusters.
    """

    scores: Array
    kept: IntArray
    sampled: Array
    gains: Array
    correction: float

    @classmethod
    def of(
        cls,
        rows: ScoreRows,
        halves: tuple[CouplingSums, CouplingSums],
        hessian: HessianSums,
        model: Network,
        layout: Layout,
    ) -> EfficientScores:
        r"""Take from the scores what the weights imitate.

        b comes from two samples of rows. With :math:`H^{-1} b` off by :math:`\delta`, the scores
        of blocks are off by :math:`\delta^T \sum_t J_t^T r_t`, which enters V; their sum is not,
        as far as the sum of J^T r vanishes. Half the difference of the two samples is such a
        :math:`\delta`.
        """
        H, constraints = hessian.hessian / hessian.n_rows, layout.scale_constraints(model)
        couplings = np.hstack([each.coupling / each.n_rows for each in halves])
        first, second = np.hsplit(_solve(H, couplings, constraints), 2)
        whole = np.mean([each.squares / each.n_rows for each in halves], axis=0)
        new = whole - np.einsum("pj,pj->j", first, H @ second)
        kept = np.flatnonzero(new > NEW_SHARE * whole)
        first, second, new = first[:, kept], second[:, kept], new[kept]
        scores = rows.others[:, kept] - rows.weights @ ((first + second) / 2)
        off = rows.weights @ ((first - second) / 2)
        seen = sum(each.n_rows for each in halves) / hessian.n_rows
        part = max(1.0 - seen, 0.0) * min(rows.n_rows / hessian.n_rows, 1.0)
        spread = np.maximum((scores**2).sum(axis=0), 1e-300)
        sampled = np.minimum(part * (off**2).sum(axis=0) / spread, MOST_SAMPLED)
        gains = scores.sum(axis=0) ** 2 / (new * rows.n_rows * max(rows.squares, 1e-300))
        n_blocks, n_residuals = scores.shape[0], hessian.n_rows * layout.n_outputs
        correction = n_blocks / max(n_blocks - 1, 1) / max(1.0 - layout.size / n_residuals, 0.1)
        return cls(scores, kept, sampled, gains, correction)

    def test(self, chosen: np.ndarray) -> tuple[float, float, float]:
        """Statistic, degrees of freedom and p-value of some of the components (see `flip_test`)."""
        factors = self.correction * (1.0 - self.sampled[chosen])
        return flip_test(self.scores[:, chosen], factors)


def _solve(H: Array, b: Array, constraints: Array) -> Array:
    """Return H^+ b, with scales of units fixed and rows scaled to unit diagonal.

    Weights that no row depends on but by rounding stay where they are.
    """
    diagonal = np.diag(H).copy()
    known = informed(diagonal)
    diagonal[~known] = diagonal.max() if known.any() else 1.0
    scale = known / np.sqrt(diagonal)
    matrix = held(H, constraints, scale)
    right = scale[:, None] * b
    try:
        solved = linalg.cho_solve(linalg.cho_factor(matrix), right)
    except linalg.LinAlgError:
        solved = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ right
    return np.asarray(scale[:, None] * solved)


def flip_test(scores: Array, factors: Array | float = 1.0) -> tuple[float, float, float]:
    """Statistic, degrees of freedom and p-value of scores of shape (n_blocks, n).

    V are the sums of squares times `factors`, (n,). The p-value is that of a chi square,
    `scipy.stats.chi2.sf(statistic, df)`; NaN where nothing varies.
    """
    spread = (scores**2).sum(axis=0)
    varies = spread > 0
    scaled = scores[:, varies] / np.sqrt(spread[varies])
    own = np.broadcast_to(factors, spread.shape)[varies]
    total = float((scaled.sum(axis=0) ** 2 / own).sum())
    # products of components have the same sum of squares as those of blocks
    gram = scaled.T @ scaled if scaled.shape[1] < scaled.shape[0] else scaled @ scaled.T
    whole = float((gram**2).sum())
    variance = 2.0 * (whole - float(((scaled**2).sum(axis=1) ** 2).sum()))
    mean = float(scaled.shape[1])
    if variance <= DEPENDENT * whole:
        return np.nan, np.nan, np.nan
    factor = 2.0 * mean / variance
    statistic, df = total * factor, mean * factor
    return statistic, df, float(chdtrc(df, statistic))
