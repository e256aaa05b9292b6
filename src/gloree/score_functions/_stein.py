"""Stein's identity on data: whether the score of the fitted law fits the inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import column_sums, contiguous, like, room, rows_where, take_rows, to_host
from gloree._brief import Brief
from gloree._monomials import block_rows, symmetric_powers
from gloree._sums import Sums
from gloree.chains import GaussianVAR, HermiteLaw, lag_moments, require
from gloree.engine import Engine, Source
from gloree.score_functions._hermite import check_order
from gloree.score_functions._verdict import EdgeCheck, ScoreCheck, judge
from gloree.sequences import Array, Batch, IntArray, as_sequences


@dataclass(frozen=True)
class SymmetricWhitening(Brief):
    """Coordinates in which the inputs have unit covariance, or some of these coordinates.

    Attributes
    ----------
    centre : ndarray of shape (n_inputs,)
        Mean of the inputs.
    inputs : ndarray of shape (n_checked, n_inputs)
        Rows of W, the symmetric inverse square root of Cov(x): x~ = W (x - centre).
    scores : ndarray of shape (n_checked, n_inputs)
        Rows of W^-T: the score of x~ is s~ = W^-T s.
    """

    centre: Array
    inputs: Array
    scores: Array

    @classmethod
    def from_moments(
        cls, mean: Array, covariance: Array, max_inputs: int | None = None
    ) -> SymmetricWhitening:
        """Build from mean and covariance, with at most `max_inputs` coordinates, evenly spread."""
        values, vectors = np.linalg.eigh(covariance)
        if values[0] <= np.finfo(np.float64).eps * values[-1]:
            raise ValueError(
                f"the covariance of the inputs is singular (eigenvalues {values[0]:.3g} to "
                f"{values[-1]:.3g}): leave out constant or collinear columns"
            )
        n_inputs, root = mean.shape[0], np.sqrt(values)
        n_checked = n_inputs if max_inputs is None else min(max_inputs, n_inputs)
        checked = np.round(np.linspace(0, n_inputs - 1, n_checked)).astype(np.int64)
        inputs, scores = (vectors / root) @ vectors.T, (vectors * root) @ vectors.T
        return cls(mean.copy(), inputs[checked], scores[checked])


@dataclass(frozen=True)
class SteinStatistic(Sums):
    """Sums behind the Stein defect; a commutative monoid under `merge`.

    The products of S_2 with x~ x~^T are kept in `n_groups` groups of sequences (of blocks of
    steps, in long ones), which give the standard errors.

    `block` steps of a sequence share a group of `counts` rows. `tensor_sums` and `square_sums`,
    (n_groups, n_pairs), are sums of vech S_2~ and vech x~ x~^T, `products` of their outer products;
    `boundary_counts`, `_scores` and `_products` are the steps of every boundary type and their sums
    of s and s s^T, `input_products` the sum of s (x - centre)^T over all steps.
    """

    block: int = field(metadata={"setting": True})
    counts: Array
    tensor_sums: Array
    square_sums: Array
    products: Array
    boundary_counts: Array
    boundary_scores: Array
    boundary_products: Array
    input_products: Array

    @classmethod
    def identity(
        cls, chain: HermiteLaw, whitening: SymmetricWhitening, *, n_groups: int, block: int
    ) -> SteinStatistic:
        """Return the statistic of no data."""
        k, d, types = whitening.inputs.shape[0], chain.n_inputs, chain.n_boundary_types
        pairs = (n_groups, k * (k + 1) // 2)
        groups = map(np.zeros, ((n_groups,), pairs, pairs, (*pairs, pairs[1])))
        ends = map(np.zeros, ((types,), (types, d), (types, d, d), (d, d)))
        return cls(block, *groups, *ends)

    def finalize(self, chain: HermiteLaw) -> ScoreCheck:
        """Compute the check; a ValueError if fewer than two groups hold data."""
        used = np.flatnonzero(self.counts > 0)
        if used.size < 2:
            raise ValueError(
                f"the check needs two groups of sequences or blocks of steps to estimate its own "
                f"noise, and the data fill {used.size}: give more data"
            )
        n_pairs = self.tensor_sums.shape[1]
        n_checked = round((np.sqrt(8 * n_pairs + 1) - 1) / 2)
        i, j = np.triu_indices(n_checked)
        target = np.where(i == j, 2.0, 1.0)  # the diagonal of C
        norm = float(np.linalg.norm(target))
        sums = self.counts, self.tensor_sums, self.square_sums, self.products
        totals = [each.sum(axis=0) for each in sums]
        whole = _covariance(*totals)
        left_out = np.array(
            [_covariance(*(t - s[g] for t, s in zip(totals, sums, strict=True))) for g in used]
        )
        variance = _jackknife_variance(left_out)
        noise = float(np.sqrt(variance.sum())) / norm
        defect = float(np.linalg.norm(whole - np.diag(target))) / norm
        defects = np.linalg.norm(left_out - np.diag(target), axis=(1, 2)) / norm
        defect_error = float(np.sqrt(_jackknife_variance(defects)))
        excess = float(np.sqrt(max(defect**2 - noise**2, 0.0)))
        radius = _iteration_radius(whole, target)
        radii = np.array([_iteration_radius(q, target) for q in left_out])
        radius_error = float(np.sqrt(_jackknife_variance(radii)))
        count = float(self.boundary_counts.sum())
        return ScoreCheck(
            status=judge(excess, defect_error, noise, radius, radius_error),
            defect=excess,
            defect_raw=defect,
            defect_error=defect_error,
            noise_floor=noise,
            radius=radius,
            radius_error=radius_error,
            # The radius of a matrix of independent noise: the circular law.
            radius_noise=float(np.sqrt((variance / target**2).sum() / n_pairs)),
            n_steps=round(count),
            n_inputs=chain.n_inputs,
            n_checked=n_checked,
            n_groups=int(used.size),
            edges=self._edges(chain),
            input_slope=self.input_products / count,
            chain=repr(chain),
        )

    def _edges(self, chain: HermiteLaw) -> tuple[EdgeCheck, ...]:
        covariances, counts = chain.precision_blocks(0), self.boundary_counts
        return tuple(
            EdgeCheck(
                name=chain.boundary_name(int(boundary_type)),
                n_steps=round(float(counts[boundary_type])),
                mean=self.boundary_scores[boundary_type] / counts[boundary_type],
                covariance=self.boundary_products[boundary_type] / counts[boundary_type],
                expected=covariances[boundary_type],
            )
            for boundary_type in np.flatnonzero(counts > 0)
        )


def stein_statistic(
    batch: Batch,
    chain: HermiteLaw,
    whitening: SymmetricWhitening,
    *,
    n_groups: int = 20,
    block: int = 2**40,
) -> SteinStatistic:
    """Sums behind the Stein defect over one batch: the map of a pass.

    Parameters
    ----------
    batch : Batch
        Segments cut out of a sequence must carry `chain.context` rows on either side.
    chain : HermiteLaw
    whitening : SymmetricWhitening
        The same for all batches.
    n_groups, block : int
        Groups for the jackknife: step t of sequence i is in group (i + t // block) mod n_groups,
        however the data are cut.

    Notes
    -----
    Time O(n_rows n_checked^4 / 4), memory O(n_groups n_checked^4 / 4).
    """
    sums = SteinStatistic.identity(chain, whitening, n_groups=n_groups, block=block)
    counted = batch.counted_rows
    scores = take_rows(chain.scores(batch), batch.counted)
    inputs = take_rows(batch.X, batch.counted) - like(batch.X, whitening.centre)
    types, covariances = chain.boundary_types(batch)[counted], chain.precision_blocks(0)
    weights = np.ones(counted.shape[0]) if batch.weights is None else batch.weights[counted]
    weighted = scores if batch.weights is None else scores * like(scores, weights)[:, np.newaxis]

    boundary_counts = _count(types, weights, chain.n_boundary_types)
    for boundary_type in np.flatnonzero(boundary_counts):
        rows = rows_where(types == boundary_type)
        part = take_rows(weighted, rows)
        sums.boundary_scores[boundary_type] = to_host(column_sums(part))
        sums.boundary_products[boundary_type] = to_host(part.T @ take_rows(scores, rows))

    i, j = np.triu_indices(whitening.inputs.shape[0])
    expected = (whitening.scores @ covariances @ whitening.scores.T)[:, i, j]
    white_scores = scores @ like(scores, whitening.scores.T)
    white_inputs = inputs @ like(inputs, whitening.inputs.T)
    steps = batch.local + np.repeat(batch.first_step, batch.lengths)
    groups = (np.repeat(batch.sequence, batch.lengths) + steps // block)[counted] % n_groups
    for group, rows in _grouped(groups, block_rows(i.size, room(scores))):
        tensors = symmetric_powers(contiguous(take_rows(white_scores, rows).T), 2)
        squares = symmetric_powers(contiguous(take_rows(white_inputs, rows).T), 2)
        # S_2 = s s^T - K: the second term is taken off the sums
        of_type = np.zeros((chain.n_boundary_types, rows.shape[0]))
        of_type[types[rows], np.arange(rows.shape[0])] = weights[rows]
        own_weights = like(scores, weights[rows])
        if batch.weights is not None:
            tensors *= own_weights
        sums.square_sums[group] += to_host(squares @ own_weights)
        sums.tensor_sums[group] += to_host(tensors.sum(axis=1)) - of_type.sum(axis=1) @ expected
        known = to_host(like(scores, of_type) @ squares.T)
        sums.products[group] += to_host(tensors @ squares.T) - expected.T @ known
    return replace(
        sums,
        counts=_count(groups, weights, n_groups),
        boundary_counts=boundary_counts,
        input_products=to_host(weighted.T @ inputs),
    )


def _count(labels: IntArray, weights: Array, size: int) -> Array:
    return np.bincount(labels, weights, minlength=size).astype(np.float64)


def _grouped(groups: IntArray, size: int) -> list[tuple[int, IntArray]]:
    """Rows of every group, in pieces of at most `size`."""
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [
        (int(groups[rows[0]]), rows[start : start + size])
        for rows in np.split(order, cuts)
        for start in range(0, rows.shape[0], size)
    ]


def _covariance(count: Array, left: Array, right: Array, products: Array) -> Array:
    return np.asarray(products / count - np.outer(left / count, right / count))


def _jackknife_variance(left_out: Array) -> Array:
    """Variance of an estimate, entry by entry, from its values without each of the groups."""
    n_groups = left_out.shape[0]
    spread = left_out - left_out.mean(axis=0)
    return np.asarray((n_groups - 1) / n_groups * (spread**2).sum(axis=0))


def _iteration_radius(covariance: Array, target: Array) -> float:
    """Spectral radius of I - Q C^-1."""
    error = np.eye(target.shape[0]) - covariance / target
    return float(np.abs(np.linalg.eigvals(error)).max())


def check_score(
    X: object,
    *,
    chain: HermiteLaw | None = None,
    lengths: ArrayLike | None = None,
    order: int = 1,
    max_inputs: int | None = 16,
    n_groups: int = 20,
) -> ScoreCheck:
    r"""Check Stein's identity on inputs: whether their score can be trusted.

    In whitened coordinates x~ = W (x - m), with s~ the score of x~ and S_2 = s~ s~^T - K~,

    .. math:: Q = \operatorname{Cov}(\operatorname{vech} S_2, \operatorname{vech} x̃ x̃^T)

    equals C = diag(2 on squares, 1 on products) by Stein's identity, whatever the inputs' law,
    if s is their score. The *Stein defect* is |Q - C| / |C|, and rho the spectral radius of
    I - Q C^-1, the factor by which residual rounds with this score shrink an error.
    See :eq:`stein-defect` and :eq:`rho-iteration`.

    Parameters
    ----------
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    chain : HermiteLaw, optional
        The law to check, which need not be exact at the ends of sequences; by default a
        `GaussianVAR` that is fitted to `X`.
    lengths : sequence of int, optional
        Steps of each sequence in a flat `X`.
    order : int, default 1
        Order of the `GaussianVAR`.
    max_inputs : int or None, default 16
        Whitened coordinates to check, evenly spread; None checks all, at a cost that grows with
        the fourth power of their number.
    n_groups : int, default 20
        Groups of sequences (of blocks of steps, in long ones) for standard errors.

    Returns
    -------
    ScoreCheck

    Raises
    ------
    TypeError, LawError
        If `chain` is no input law, or its score tensors of order 2 are not Hermite tensors.
    NonStationaryChainError, ValueError
        See `GaussianVAR.fit`.

    Notes
    -----
    The thresholds come from a study of eleven laws: with a defect below .3, fits with the score
    converged in 19 of 19 cases; between .3 and .45, in 8 of 9; above, in none of 58 (rho of 1.6 and
    more). A larger defect with rho below .75 is called doubtful: for one and the same marginal law
    the defect grows as inputs get fewer. The verdict uses the defect with the noise floor taken
    off. Least squares makes the mean of s, E[s x^T] and E[s s^T] of interior steps right for any
    inputs; those of first and last steps tell more.

    Two passes. Time O(n_rows (n_inputs^2 + n_checked^4 / 4)), memory O(n_groups n_checked^4 / 4).

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import GaussianVAR
    >>> from gloree.score_functions import check_score
    >>> X = GaussianVAR(0.5 * np.eye(2), np.eye(2)).sample(1000, 20, random_state=0)
    >>> check_score(X).status
    'fine'
    >>> check_score(np.random.default_rng(0).exponential(size=(1000, 20, 2))).status
    'fails'
    """
    n_groups = check_order(n_groups, "n_groups", minimum=2)
    if max_inputs is not None:
        max_inputs = check_order(max_inputs, "max_inputs")
    if chain is not None:
        require(chain, order=2, hermite=True, purpose="`check_score`")
    data, engine = as_sequences(X, lengths=lengths, keep_tensors=True), Engine()
    order = check_order(order, "order", minimum=0) if chain is None else 0
    source = Source.around(data, before=order, after=0)
    moments = engine.run(partial(lag_moments, order=order), source)
    if chain is None:
        chain = GaussianVAR.from_moments(moments)
    summary = moments.finalize()
    whitening = SymmetricWhitening.from_moments(summary.mean, summary.covariance, max_inputs)
    # Four blocks of a single long sequence for each group; blocks should outlast its memory.
    block = max(data.n_rows // (4 * n_groups), 8)
    function = partial(
        stein_statistic, chain=chain, whitening=whitening, n_groups=n_groups, block=block
    )
    return engine.run(function, Source.around(data, *chain.context)).finalize(chain)
