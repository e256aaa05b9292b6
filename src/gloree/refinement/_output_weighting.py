r"""The covariance of the residuals as metric of the outputs, and what equal weights cost.

Least squares with the outputs as they come, and with the inverse covariance
:math:`\Sigma` of the residuals of a step as metric (generalised least squares), have for white
noise the covariances [1]_

.. math::
    V_{=} = H_I^+ H_\Sigma H_I^+, \qquad V_{\Sigma} = H_{\Sigma^{-1}}^+, \qquad
    H_G = \sum_t J_t^T G J_t ,

and no other weighting is more precise than the latter. By Kantorovich's inequality
:math:`V_{=} \preceq (1 + \kappa)^2 / (4 \kappa) \, V_{\Sigma}` with the condition number
:math:`\kappa` of :math:`\Sigma`.

References
----------
.. [1] A. C. Aitken, "On least squares and linear combination of observations", Proceedings of the
   Royal Society of Edinburgh 55 (1935).
.. [2] A. Zellner, "An efficient method of estimating seemingly unrelated regressions and tests for
   aggregation bias", Journal of the American Statistical Association 57 (1962).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement._curvature import chunks
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import hessian_sums, rows_at_once, segments_at_once
from gloree.refinement._standard_errors import inverse_root
from gloree.sequences import Array

WEIGHTING_ROWS, ROWS_PER_WEIGHT = 2_000, 5
"""Rows behind the sums, and rows for each weight, at least."""


def shrunk_covariance(covariance: Array, n_rows: float) -> Array:
    r"""Covariance with correlations shrunk by what chance makes of them in so many rows.

    With S the correlations of q outputs, :math:`(1-\rho)S+\rho I` with the oracle-approximating
    shrinkage [1]_

    .. math::
        \rho = \min\Bigl(1, \frac{\mathrm{tr}(S^2)/q^2 + 1}
                            {(n+1)(\mathrm{tr}(S^2)/q^2 - 1/q)}\Bigr),

    which goes like 1/n, and leaves nothing of correlations that are chance. Outputs that are equal,
    whose correlations are singular, keep eigenvalues of that size.

    References
    ----------
    .. [1] Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero, "Shrinkage algorithms for MMSE covariance
       estimation", IEEE Transactions on Signal Processing 58 (2010).
    """
    sizes = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(sizes, sizes)
    q = sizes.shape[0]
    square = float(np.mean(correlations**2))
    apart = (n_rows + 1.0) * (square - 1.0 / q)
    share = min(1.0, (square + 1.0) / apart) if apart > 0 else 1.0
    shrunk = (1.0 - share) * correlations + share * np.eye(q)
    return np.asarray(shrunk * np.outer(sizes, sizes))


def scaled_inverse(covariance: Array) -> Array:
    """Inverse of a covariance of variables in unlike units, through their correlations."""
    sizes = np.sqrt(np.diag(covariance))
    units = np.outer(sizes, sizes)
    inverse = np.linalg.inv(covariance / units) / units
    return np.asarray((inverse + inverse.T) / 2)


def most_to_lose(covariance: Array) -> float:
    """Kantorovich's bound of the loss, for a covariance of residuals, (n_outputs, n_outputs)."""
    values = np.linalg.eigvalsh(covariance)
    if not values[0] > 0:
        return np.inf
    kappa = float(values[-1] / values[0])
    return (1.0 + kappa) ** 2 / (4.0 * kappa)


def weighting_loss(
    model: Network, layout: Layout, engine: Engine, source: Source, covariance: Array
) -> float:
    """Variance of the input weights under equal weights, over that under the best ones.

    Both are summed over the rows a_i, with scales of units fixed: they belong to all outputs alike
    and do not depend on their units. `covariance` is that of the residuals of a step, positive
    definite. Three passes over a part of the rows, and O(size^3) time.
    """
    wanted = max(WEIGHTING_ROWS, ROWS_PER_WEIGHT * layout.size)
    segments = source.subset(wanted).segments
    room = source.room
    n_rows = min(source.batch_size, max(1, room // 8) * rows_at_once(layout))
    some = chunks(source, segments, room * segments_at_once(layout), n_rows)
    constraints = layout.scale_constraints(model)

    def curvature(metric: Array) -> Array:
        function = partial(hessian_sums, model=model, layout=layout, metric=metric)
        return engine.run(function, some, label="output weights").hessian

    def spread(hessian: Array, noise: Array) -> float:
        """Sum over the input weights of H^+ N H^+, for the curvature N of the noise."""
        root = inverse_root(hessian, constraints)
        return float(np.diag(root @ (root.T @ noise @ root) @ root.T)[chosen].sum())

    names = [f"{part.prefix}input_weights" for part in layout.directions]
    chosen = np.concatenate([layout.indices[name].ravel() for name in names])
    best = curvature(scaled_inverse(covariance))
    equal = spread(curvature(np.eye(layout.n_outputs)), curvature(covariance))
    least = spread(best, best)
    return equal / least if least > 0 else 1.0
