r"""Standard errors of all free weights at a refined model, and their degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gloree._brief import Brief
from gloree.diagnostics import Finding, PrecisionWarning
from gloree.engine import Engine, Source
from gloree.models import CanonicalUnits, Network
from gloree.refinement._clusters import Clusters, ClusterSums, find_clusters
from gloree.refinement._curvature import held, informed
from gloree.refinement._gauss_newton import MOST_WEIGHTS
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._solvers import Solution
from gloree.sequences import Array, IntArray

SATURATED = 1e-6
"""A combination of weights of which other clusters hold less than this share of the information
has no spread to be seen: without its cluster it could not be estimated."""

NULL = 1e-12  # eigenvalues of a scaled J^T J, relative to the largest, that count as zero

SMALL = 0.1
"""Norm of the leverage of a cluster below which a power series is as good as eigenvectors."""

SERIES = tuple((2 * n - 1) / (2 * n) for n in range(6, 0, -1))
"""Ratios of the coefficients of (1 - x)^{-1/2}, the last first: an error of 1e-7 at `SMALL`."""

SEEN = 0.1
"""Least share of an expected variance that must be seen for a standard error to be finite."""

FIXED = 1e-12  # share of a variance without constraints below which these hold a weight fixed

FEW = 10  # sequences below which dependence that the clusters do not catch is warned of

TINY = 1e-9  # in place of no degrees of freedom

LEAST_DEGREES = 1.5  # degrees of freedom below which intervals say next to nothing

PERSISTENT = 0.25
"""Share of a variance that blocks may miss, at the correlation of neighbouring steps, unwarned."""

NOTICEABLE = 3.0  # standard errors of such a correlation beyond which it is not chance

SIGNIFICANT = 0.01
"""Level of the test for errors common to a sequence, over all weights."""


@dataclass(frozen=True)
class StandardErrors(Brief):
    """Standard errors of all free weights, for unit-norm rows a_i where scales are free.

    Attributes
    ----------
    covariance : ndarray of shape (size, size)
        Of the parameter vector, a sandwich clustered by sequence or by block.
    weights : dict of str to ndarray
        Standard errors, in the shapes of the weights.
    degrees_of_freedom : dict of str to ndarray
        Those of the t distribution that (estimate - truth) / standard error has, about.
    findings : tuple of Finding
        Why they should not be trusted, if they should not.
    n_undetermined : int
        Combinations of weights that the data do not determine, beside scales: they are held fixed.
    inverse_information : ndarray of shape (size, size) or None
        H^+ alone, without the scores: the covariance if the loss is minus the log-likelihood.
    """

    covariance: Array = field(repr=False)
    weights: dict[str, Array]
    degrees_of_freedom: dict[str, Array] = field(repr=False)
    findings: tuple[Finding, ...] = ()
    n_undetermined: int = 0
    inverse_information: Array | None = field(default=None, repr=False)

    def canonical(self, units: CanonicalUnits, layout: Layout) -> StandardErrors:
        """Those of the canonical form, whose units are scaled, signed and reordered."""
        scale, state, order = units.scale, units.state_scale, units.order
        old, factors = dict(layout.indices), layout.named(np.ones(layout.size))
        old["output_weights"] = old["output_weights"][order]
        factors["output_weights"] = (factors["output_weights"] / state[:, None])[order]
        if "hidden_bias" in old:
            old["hidden_bias"] = old["hidden_bias"][order]
            factors["hidden_bias"] = scale[order]
        for part in layout.directions:
            own, place = part.units, order[part.units] - part.units.start
            name = f"{part.prefix}input_weights"
            old[name] = old[name][place]
            factors[name] = (factors[name] * scale[own, None])[place]
            name = f"{part.prefix}recurrent_weights"
            if name in old:
                both = np.ix_(place, place)
                old[name] = old[name][both]
                factors[name] = (scale[own, None] / state[None, own])[both]
        source, factor = np.empty(layout.size, dtype=np.int64), np.empty(layout.size)
        for name, index in layout.indices.items():
            source[index], factor[index] = old[name], factors[name]
        rows, factors_of_both = np.ix_(source, source), np.outer(factor, factor)
        inverse = self.inverse_information
        return StandardErrors(
            self.covariance[rows] * factors_of_both,
            {name: self._at(self.weights, layout)[old[name]] * abs(factors[name]) for name in old},
            {name: self._at(self.degrees_of_freedom, layout)[old[name]] for name in old},
            self.findings,
            self.n_undetermined,
            None if inverse is None else inverse[rows] * factors_of_both,
        )

    @staticmethod
    def _at(values: dict[str, Array], layout: Layout) -> Array:
        """Parameter vector of values in the shapes of the weights."""
        vector = np.empty(layout.size)
        for name, index in layout.indices.items():
            vector[index] = values[name]
        return vector

    def relative(self, model: Network, layout: Layout) -> dict[str, float]:
        """Predicted relative error of each weight matrix: root sum of variances over its norm."""
        norms = {name: np.linalg.norm(values) for name, values in layout.weights(model).items()}
        return {
            name: float(np.linalg.norm(errors) / norms[name])
            for name, errors in self.weights.items()
            if norms[name] > 0
        }

    def listed(self, layout: Layout) -> Array:
        """Covariance in the order of `weights`: one after another, each row by row."""
        return np.asarray(self.covariance[self._order(layout)])

    def listed_inverse(self, layout: Layout) -> Array | None:
        """The inverse of the information in that order."""
        values = self.inverse_information
        return None if values is None else np.asarray(values[self._order(layout)])

    def _order(self, layout: Layout) -> tuple[IntArray, ...]:
        order = np.concatenate([layout.indices[name].ravel() for name in self.weights])
        return np.ix_(order, order)


def standard_errors(
    solution: Solution,
    layout: Layout,
    engine: Engine,
    source: Source,
    *,
    reported: Array | None = None,
    loss: Loss | None = None,
    gauge: Array | None = None,
) -> StandardErrors:
    r"""Standard errors at a refined model, from the scores of clusters.

    With the clusters' scores g_q and their A_q = J_q^T J_q, the inverse H^+ of the sum of these
    under the constraints, and any combination c of the weights, the variance is (CR2, [1]_ [2]_)

    .. math::
        V = \sum_q \bigl(c^T R (I - R^T A_q R)^{-1/2} R^T g_q\bigr)^2, \qquad R R^T = H^+ ,

    which is unbiased for white noise, and its degrees of freedom are those of the chi-square
    distribution with the mean and variance that it has for white normal noise (see `degrees`).
    It needs neither equal nor normal noise, nor independence within a cluster. Where there are
    larger clusters, too, what they add to V counts, with the degrees of freedom that it has.

    Parameters
    ----------
    solution : Solution
        Of a solver that formed J^T J.
    layout : Layout
    engine : Engine
    source : Source
    reported : ndarray of shape (size, size), optional
        Combinations of the weights whose errors are asked for, in rows, in place of the weights
        themselves (see `on_uncentred_inputs`, `in_other_units`).
    loss : Loss, optional
        That of the solution, whose J^T J is the information then; squared errors by default.
    gauge : ndarray of shape (n, size), optional
        More combinations of the weights that are fixed, beside the scales of units.

    Returns
    -------
    StandardErrors

    Raises
    ------
    ValueError
        If the solver formed no J^T J.

    Notes
    -----
    One more pass over (a part of) the data.

    References
    ----------
    .. [1] R. M. Bell and D. F. McCaffrey, "Bias reduction in standard errors for linear
       regression with multi-stage samples", Survey Methodology 28 (2002).
    .. [2] J. E. Pustejovsky and E. Tipton, "Small-sample methods for cluster-robust variance
       estimation and hypothesis testing in fixed effects models", Journal of Business & Economic
       Statistics 36 (2018).
    """
    if solution.hessian is None:
        raise ValueError(
            f"`solution` has no J^T J, which standard errors need: `GaussNewton` forms it for up "
            f"to {MOST_WEIGHTS:,} weights, and there are {layout.size:,}"
        )
    model = solution.model
    clusters = find_clusters(model, layout, engine, source, loss)
    sums = clusters.sums
    whole = clusters.share == 1.0 and sums.hessians.shape[1] > 0
    H = sums.hessians.sum(axis=0) if whole else solution.hessian.hessian
    fixed = layout.scale_constraints(model)
    root = inverse_root(H, fixed if gauge is None else np.vstack((fixed, gauge)))
    contrasts = root if reported is None else reported @ root

    terms, finest = spread(sums, root, contrasts, solution.n_rows)
    variance = np.einsum("qc,qc->c", terms, terms)
    total, degrees = variance, finest
    findings: list[Finding] = []
    if clusters.coarse is not None and clusters.coarse.n_clusters > 1:
        larger, few = spread(clusters.coarse, root, contrasts, solution.n_rows)
        own = np.einsum("qc,qc->c", larger, larger)
        findings += _dependence(clusters, own, variance, few, finest)
        total, degrees = joined(variance, finest, own, few)
    findings += _persistence(clusters)
    findings += _too_few(clusters, finest)
    factor = np.sqrt(total / np.where(variance > 0, variance, 1.0))
    covariance = (terms.T @ terms) * np.outer(factor, factor)
    free = ~informed(np.diag(H))
    findings += _undetermined(free, layout)
    unseen = (finest == 0) | (free if reported is None else abs(reported) @ free > 0)
    total, degrees = np.where(unseen, np.inf, total), np.where(unseen, 1.0, degrees)
    covariance[np.diag_indices_from(covariance)] = total
    errors = layout.named(np.sqrt(total / clusters.share))
    undetermined = layout.size - root.shape[1]
    found = (errors, layout.named(degrees), tuple(findings), undetermined)
    return StandardErrors(covariance / clusters.share, *found, contrasts @ contrasts.T)


def inverse_root(H: Array, constraints: Array) -> Array:
    """R with R R^T = (H + C^T C)^{-1}, which acts as H^+ on what does not see the constraints."""
    diagonal = np.where(informed(np.diag(H)), np.diag(H), 1.0)
    scale = 1.0 / np.sqrt(diagonal)
    matrix = held(H, constraints, scale)
    try:
        factor = linalg.cholesky(matrix, lower=True)
        # by rounding a factor of a singular matrix may exist, whose inverse is huge
        sound = float(np.diag(factor).min()) ** 2 > NULL * float(np.diag(matrix).max())
    except linalg.LinAlgError:
        sound = False
    if sound:
        root = linalg.solve_triangular(factor, np.eye(H.shape[0]), lower=True).T
    else:
        values, vectors = np.linalg.eigh(matrix)
        used = values > NULL * values[-1]
        root = vectors[:, used] / np.sqrt(values[used])
    return np.asarray(scale[:, None] * root)


def spread(sums: ClusterSums, root: Array, contrasts: Array, n_rows: float) -> tuple[Array, Array]:
    """Terms of the variance of each combination, (n_clusters, n), and degrees of freedom, (n,).

    Without the clusters' J^T J, these are taken to be their share of the rows of the whole.
    """
    scores = sums.scores @ root
    if sums.hessians.shape[1] == 0:
        shares = np.minimum(sums.n_rows / n_rows, 1.0 - SATURATED)
        left = 1.0 - shares
        mixed = shares / np.sqrt(left)
        gamma = np.diag(shares / left) - np.outer(mixed, mixed)
        count = float(np.trace(gamma) ** 2 / np.sum(gamma**2)) if shares.size > 1 else 0.0
        terms = (scores / np.sqrt(left)[:, None]) @ contrasts.T
        return terms, np.full(contrasts.shape[0], count)
    blocks = root.T @ sums.hessians @ root
    adjusted = inverse_roots(blocks)
    terms = np.einsum("qij,qj->qi", adjusted, scores) @ contrasts.T
    expected, found = degrees(contrasts, blocks, adjusted)
    unseen = expected <= SEEN
    terms /= np.sqrt(np.where(unseen, 1.0, expected))
    terms[:, unseen] = 0.0
    return terms, np.where(unseen, 0.0, found)


def inverse_roots(blocks: Array) -> Array:
    """(I - B)^{-1/2} of each matrix, 0 along what leaves nothing, by a series where B is small."""
    size = blocks.shape[1]
    found = np.zeros_like(blocks)
    small = np.sum(blocks**2, axis=(1, 2)) < SMALL**2
    for factor in SERIES:
        found[small] = np.eye(size) + factor * blocks[small] @ found[small]
    values, vectors = np.linalg.eigh(blocks[~small])
    left = 1.0 - np.clip(values, 0.0, 1.0)
    power = np.where(left > SATURATED, 1.0 / np.sqrt(np.maximum(left, SATURATED)), 0.0)
    found[~small] = (vectors * power[:, None, :]) @ vectors.swapaxes(1, 2)
    return found


def degrees(contrasts: Array, blocks: Array, adjusted: Array) -> tuple[Array, Array]:
    r"""Expected share of each variance that is seen, and its degrees of freedom, for white noise.

    With the leverage :math:`B_q` of a cluster and :math:`u_q = B_q(I-B_q)^{-1/2}c`, the terms of
    the variance have the covariance (in units of that of the noise)

    .. math::
        \Gamma_{qr} = \delta_{qr}\, u_q^T (I - B_q)^{-1/2} c - u_q^T u_r, \qquad
        \nu = (\mathrm{tr}\, \Gamma)^2 / \|\Gamma\|_F^2 .
    """
    shares, found = np.zeros(contrasts.shape[0]), np.zeros(contrasts.shape[0])
    plain = np.einsum("ci,ij,cj->c", contrasts, blocks.sum(axis=0), contrasts)
    Q = contrasts @ adjusted
    U = Q @ blocks
    own, lengths = np.sum(Q * U, axis=2), np.sum(U**2, axis=2)
    for i, c in enumerate(contrasts):
        u = U[:, i]
        trace = np.sum(own[:, i] - lengths[:, i])
        gram = u.T @ u if u.shape[1] < u.shape[0] else u @ u.T
        norm = own[:, i] @ own[:, i] - 2 * own[:, i] @ lengths[:, i] + np.sum(gram**2)
        if plain[i] <= FIXED * float(c @ c):
            shares[i], found[i] = 1.0, blocks.shape[0] - 1.0
        elif norm > 0:
            shares[i], found[i] = trace / plain[i], trace**2 / norm
    return shares, found


def joined(variance: Array, degrees: Array, larger: Array, few: Array) -> tuple[Array, Array]:
    """Variances of clusters and what larger ones add, and the degrees of freedom of the sums."""
    added = np.maximum(larger - variance, 0.0)
    total = variance + added
    uncertain = variance**2 / np.maximum(degrees, TINY) + added**2 / np.maximum(few, TINY)
    known = uncertain > 0
    return total, np.where(known, total**2 / np.where(known, uncertain, 1.0), degrees)


def _dependence(
    clusters: Clusters, larger: Array, variance: Array, few: Array, degrees: Array
) -> list[Finding]:
    """Few sequences whose errors differ as wholes: all rests on their number."""
    if not 1 < clusters.n_sequences < FEW:
        return []
    ratio = larger / np.where(variance > 0, variance, np.inf)
    from scipy import stats  # slow to import

    levels = stats.f.sf(ratio, np.maximum(few, TINY), np.maximum(degrees, TINY))
    if np.min(levels) * levels.size > SIGNIFICANT:
        return []
    text = (
        f"errors of whole sequences depend on each other (offsets of their own, say): standard "
        f"errors of up to {np.sqrt(np.max(ratio)):.2g} times those of independent blocks rest "
        f"on {clusters.n_sequences} sequences, with {np.median(few):.1f} degrees of freedom"
    )
    remedy = "give more sequences, or take their offsets out; use `report_.intervals()`"
    return [Finding(PrecisionWarning, text, remedy)]


def _persistence(clusters: Clusters) -> list[Finding]:
    """Blocks that are short beside the memory of the scores in them."""
    sums = clusters.sums
    if clusters.n_sequences >= FEW or not np.any(sums.squares > 0):
        return []
    used = sums.squares > 0
    correlation = np.clip(sums.lagged[used] / sums.squares[used], 0.0, 1.0 - 1e-6)
    length, strongest = float(np.max(sums.n_rows)), float(np.max(correlation))
    missed = 2 * strongest / (1 - strongest**2) / length
    if missed < PERSISTENT or strongest < NOTICEABLE / np.sqrt(np.sum(sums.n_rows)):
        return []
    text = (
        f"residuals persist: scores of neighbouring steps have a correlation of "
        f"{strongest:.2f}, and blocks of {length:.0f} steps miss about "
        f"{min(missed, 1.0):.0%} of the variance: standard errors are too small"
    )
    remedy = "give a longer record or more of them, or look for inputs and lags that are missing"
    return [Finding(PrecisionWarning, text, remedy)]


def _undetermined(free: NDArray[np.bool_], layout: Layout) -> list[Finding]:
    """Weights that no row depends on: of a rectifier to itself that never acts twice, say."""
    if not np.any(free):
        return []
    counts = {name: int(values.sum()) for name, values in layout.named(free.astype(float)).items()}
    of_which = ", ".join(f"{count} of `{name}`" for name, count in counts.items() if count)
    text = (
        f"no row of the data depends on {of_which}: these weights stay where they began, and their "
        f"standard errors are infinite"
    )
    return [Finding(PrecisionWarning, text, "give more data, or fit fewer units")]


def _too_few(clusters: Clusters, degrees: Array) -> list[Finding]:
    """Too few independent pieces for the weights."""
    if np.min(degrees) >= LEAST_DEGREES:
        return []
    text = (
        f"{clusters.sums.n_clusters} pieces of the data are too few for standard errors of "
        f"{degrees.size} weights: {np.sum(degrees < LEAST_DEGREES)} of them have less than "
        f"{LEAST_DEGREES} degrees of freedom (the least: {np.min(degrees):.2f})"
    )
    return [Finding(PrecisionWarning, text, "give longer or more sequences, or fit fewer units")]
