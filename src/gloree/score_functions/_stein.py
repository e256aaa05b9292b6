"""Stein's identity on data: whether the score of the fitted law fits the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import (
    column_sums,
    contiguous,
    index,
    like,
    room,
    rows_where,
    take_rows,
    to_host,
)
from gloree._monomials import block_rows, symmetric_powers
from gloree._sums import Sums
from gloree.chains import (
    GaussianVAR,
    HermiteLaw,
    ScoreArrays,
    as_law,
    lag_moments,
    require,
    with_metric,
)
from gloree.engine import Engine, Source
from gloree.score_functions._boundaries import boundaries_of, second_terms
from gloree.score_functions._first_order import first_order_check
from gloree.score_functions._groups import count_of, rows_by_group
from gloree.score_functions._hermite import check_order
from gloree.score_functions._lower_orders import defect_of, mean_defect, second_defect, slope_defect
from gloree.score_functions._verdict import (
    EdgeCheck,
    NeighbourDefect,
    ScoreCheck,
    judge,
)
from gloree.score_functions._whitening import SymmetricWhitening, jackknife_variance
from gloree.sequences import Array, Batch, IntArray, as_sequences


@dataclass(frozen=True)
class SteinStatistic(Sums):
    """Sums behind the Stein defect; a commutative monoid under `merge`.

    The products of S_2 with x~ x~^T are kept in `n_groups` groups of sequences (of blocks of
    steps, in long ones), which give the standard errors.

    `block` steps of a sequence share a group of `counts` rows. `score_sums`, (n_groups, n_checked),
    are sums of s~, `slope_sums` of s~ x~^T, `information` of |s~|^2, `tensor_sums` and
    `square_sums`, (n_groups, n_pairs), of vech S_2~ and vech x~ x~^T, `products` of the outer
    products of these two; `boundary_counts`, `_scores` and `_products` are the steps of every
    boundary type and their sums of s, of s s^T and (where the law is not Hermite) of -D_2,
    `input_products` the sum of s (x - centre)^T over all steps.
    """

    block: int = field(metadata={"setting": True})
    counts: Array
    score_sums: Array
    slope_sums: Array
    information: Array
    tensor_sums: Array
    square_sums: Array
    products: Array
    boundary_counts: Array
    boundary_scores: Array
    boundary_products: Array
    boundary_curvatures: Array
    input_products: Array

    @classmethod
    def identity(
        cls, chain: HermiteLaw, whitening: SymmetricWhitening, *, n_groups: int, block: int
    ) -> SteinStatistic:
        """Return the statistic of no data."""
        k, d, types = whitening.inputs.shape[0], chain.n_inputs, boundaries_of(chain).n_types
        pairs = (n_groups, k * (k + 1) // 2)
        lower = map(np.zeros, ((n_groups,), (n_groups, k), (n_groups, k, k), (n_groups,)))
        groups = map(np.zeros, (pairs, pairs, (*pairs, pairs[1])))
        ends = map(np.zeros, ((types,), (types, d), (types, d, d), (types, d, d), (d, d)))
        return cls(block, *lower, *groups, *ends)

    def finalize(
        self,
        chain: HermiteLaw,
        neighbours: Sequence[SteinStatistic] = (),
        *,
        given: bool = False,
    ) -> ScoreCheck:
        """Compute the check; a ValueError if fewer than two groups hold data.

        `neighbours` are the statistics of other lags, of which the check then has the defect too.
        Of a law that was `given`, not fitted to these inputs, E[s x^T] and E S_2 count too.
        """
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
        whole, left_out = self._covariances(used)
        variance, wrong = jackknife_variance(left_out), whole - np.diag(target)
        own = defect_of(wrong, left_out - np.diag(target), norm)
        radius = _iteration_radius(whole, target)
        radii = np.array([_iteration_radius(q, target) for q in left_out])
        radius_error = float(np.sqrt(jackknife_variance(radii)))
        count = float(self.boundary_counts.sum())
        beside = NeighbourDefect.largest([each._neighbour(norm) for each in neighbours])
        mean = mean_defect(self.score_sums, self.counts, used)
        slope = second = None
        if given:
            slope = slope_defect(self.slope_sums, self.counts, used)
            second = second_defect(self.tensor_sums, self.information, self.counts, used)
        others = (beside, mean, slope, second)
        return ScoreCheck(
            status=judge(own.defect, own.error, own.noise, radius, radius_error, *others),
            defect=own.defect,
            defect_raw=float(np.linalg.norm(wrong)) / norm,
            defect_error=own.error,
            noise_floor=own.noise,
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
            neighbours=beside,
            mean=mean,
            slope=slope,
            second=second,
        )

    def _covariances(self, used: IntArray) -> tuple[Array, Array]:
        """Covariance of S_2 and x~ x~^T, and the same without each of the groups."""
        sums = self.counts, self.tensor_sums, self.square_sums, self.products
        totals = [each.sum(axis=0) for each in sums]
        left_out = np.array(
            [_covariance(*(t - s[g] for t, s in zip(totals, sums, strict=True))) for g in used]
        )
        return _covariance(*totals), left_out

    def _neighbour(self, norm: float) -> NeighbourDefect | None:
        """Defect of the statistic of another lag, whose expected covariance is zero."""
        used = np.flatnonzero(self.counts > 0)
        return None if used.size < 2 else defect_of(*self._covariances(used), norm)

    def _edges(self, chain: HermiteLaw) -> tuple[EdgeCheck, ...]:
        law, counts = boundaries_of(chain), self.boundary_counts
        curvatures = (
            self.boundary_curvatures / np.maximum(counts, 1e-300)[:, np.newaxis, np.newaxis]
        )
        expected = law.covariances if chain.capabilities.hermite else curvatures
        return tuple(
            EdgeCheck(
                name=law.name(int(boundary_type)),
                n_steps=round(float(counts[boundary_type])),
                mean=self.boundary_scores[boundary_type] / counts[boundary_type],
                covariance=self.boundary_products[boundary_type] / counts[boundary_type],
                expected=expected[boundary_type],
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
    lag: int = 0,
) -> SteinStatistic:
    """Sums behind the Stein defect over one batch: the map of a pass.

    Parameters
    ----------
    batch : Batch
        Segments cut out of a sequence must carry `chain.context` rows on either side.
    chain : HermiteLaw or DerivativeLaw
    whitening : SymmetricWhitening
        The same for all batches.
    n_groups, block : int
        Groups for the jackknife: step t of sequence i is in group (i + t // block) mod n_groups,
        however the data are cut.
    lag : int, default 0
        S_2 of step t is multiplied with x~ x~^T of step t - lag, over the steps t that have one in
        the batch. At any lag but 0 the expected covariance is zero.

    Notes
    -----
    Time O(n_rows n_checked^4 / 4), memory O(n_groups n_checked^4 / 4).
    """
    law = boundaries_of(chain)
    sums = SteinStatistic.identity(chain, whitening, n_groups=n_groups, block=block)
    counted = batch.counted_rows
    if lag:
        there = batch.local[counted] >= lag if lag > 0 else batch.local_after[counted] >= -lag
        counted = counted[there]
    where = batch.counted if not lag else index(batch.X, counted)
    scores = take_rows(chain.scores(batch), where)
    centre = like(batch.X, whitening.centre)
    inputs = take_rows(batch.X, where) - centre
    others = inputs if not lag else take_rows(batch.X, index(batch.X, counted - lag)) - centre
    types, covariances = law.types(batch)[counted], law.covariances
    weights = np.ones(counted.shape[0]) if batch.weights is None else batch.weights[counted]
    weighted = scores if batch.weights is None else scores * like(scores, weights)[:, np.newaxis]

    boundary_counts = count_of(types, weights, law.n_types)
    for boundary_type in np.flatnonzero(boundary_counts):
        rows = rows_where(types == boundary_type)
        part = take_rows(weighted, rows)
        sums.boundary_scores[boundary_type] = to_host(column_sums(part))
        sums.boundary_products[boundary_type] = to_host(part.T @ take_rows(scores, rows))

    i, j = np.triu_indices(whitening.inputs.shape[0])
    expected = (whitening.scores @ covariances @ whitening.scores.T)[:, i, j]
    second = None
    if not chain.capabilities.hermite:
        second, curvatures = second_terms(batch, chain, whitening, counted, types, weights)
        sums.boundary_curvatures[:] = curvatures
    white_scores = scores @ like(scores, whitening.scores.T)
    white_inputs = others @ like(inputs, whitening.inputs.T)
    steps = batch.local + np.repeat(batch.first_step, batch.lengths)
    groups = (np.repeat(batch.sequence, batch.lengths) + steps // block)[counted] % n_groups
    for group, rows in rows_by_group(groups, block_rows(i.size, room(scores))):
        tensors = symmetric_powers(contiguous(take_rows(white_scores, rows).T), 2)
        squares = symmetric_powers(contiguous(take_rows(white_inputs, rows).T), 2)
        if second is not None:  # S_2 = s s^T + D_2, with a second term of its own in every row
            tensors += like(scores, second[:, rows])
        # S_2 = s s^T - K: the second term is taken off the sums
        of_type = np.zeros((law.n_types, rows.shape[0]))
        of_type[types[rows], np.arange(rows.shape[0])] = weights[rows]
        own_weights = like(scores, weights[rows])
        if batch.weights is not None:
            tensors *= own_weights
        own, now = take_rows(white_scores, rows), take_rows(white_inputs, rows)
        weighing = own_weights[:, np.newaxis] * own
        sums.score_sums[group] += to_host(weighing.sum(axis=0))
        sums.slope_sums[group] += to_host(weighing.T @ now)
        sums.information[group] += float(to_host((weighing * own).sum()))
        sums.square_sums[group] += to_host(squares @ own_weights)
        sums.tensor_sums[group] += to_host(tensors.sum(axis=1)) - of_type.sum(axis=1) @ expected
        known = to_host(like(scores, of_type) @ squares.T)
        sums.products[group] += to_host(tensors @ squares.T) - expected.T @ known
    return replace(
        sums,
        counts=count_of(groups, weights, n_groups),
        boundary_counts=boundary_counts,
        input_products=to_host(weighted.T @ inputs),
    )


def _covariance(count: Array, left: Array, right: Array, products: Array) -> Array:
    return np.asarray(products / count - np.outer(left / count, right / count))


def _iteration_radius(covariance: Array, target: Array) -> float:
    """Spectral radius of I - Q C^-1."""
    error = np.eye(target.shape[0]) - covariance / target
    return float(np.abs(np.linalg.eigvals(error)).max())


def check_score(
    X: object,
    *,
    chain: object = None,
    lengths: ArrayLike | None = None,
    order: int = 1,
    max_inputs: int | None = 16,
    n_groups: int = 20,
) -> ScoreCheck:
    r"""Check Stein's identity on inputs: whether their score can be trusted.

    In whitened coordinates x~ = W (x - m), W the symmetric inverse root of the correlations over
    the standard deviations, with s~ the score of x~ and S_2 = s~ s~^T - K~,

    .. math:: Q = \operatorname{Cov}(\operatorname{vech} S_2, \operatorname{vech} x̃ x̃^T)

    equals C = diag(2 on squares, 1 on products) by Stein's identity, whatever the inputs' law,
    if s is their score. The *Stein defect* is |Q - C| / |C|, and rho the spectral radius of
    I - Q C^-1, the factor by which residual rounds with this score shrink an error.
    See :eq:`stein-defect` and :eq:`rho-iteration`. The mean of s has to be zero, which a law about
    another mean fails; of a law that is given, E[s x^T] has to be the identity and E S_2 zero,
    which scores of other data or another K fail. The covariance of S_2 with x~ x~^T of the steps
    before and after has to be zero: what a chain that has the right law of single steps and the
    wrong one of transitions fails.

    Parameters
    ----------
    X : array of shape (n_sequences, n_steps, n_inputs), or any form `as_sequences` accepts
    chain : HermiteLaw, DerivativeLaw, callable or arrays, optional
        The law to check, which need not be exact at the ends of sequences, or scores in its place
        (as in `gloree.moments.cross_moment`); by default a `GaussianVAR` that is fitted to `X`.
    lengths : sequence of int, optional
        Steps of each sequence in a flat `X`.
    order : int, default 1
        Order of that `GaussianVAR`; a `chain` that is given has its own.
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
        If `chain` is no input law, or has no score tensors of order 2.
    NonStationaryChainError, ValueError
        See `GaussianVAR.fit`.

    Notes
    -----
    The thresholds come from a study of eleven laws: with a defect below .3, fits with the score
    converged in 19 of 19 cases; between .3 and .45, in 8 of 9; above, in none of 58 (rho of 1.6 and
    more). A larger defect with rho below .75 is called doubtful: for one and the same marginal law
    the defect grows as inputs get fewer. The verdict uses the defect with the noise floor taken
    off. Scores of order 1 alone (an array) are checked by E[s_i x_j x_k x_l] and the derivatives of
    these monomials, on the same scale, and have no rho. Least squares makes the mean of s,
    E[s x^T] and E[s s^T] of interior steps right for any inputs; those of first and last steps
    tell more.

    Four passes. Time O(n_rows (n_inputs^2 + n_checked^4 / 4)), memory O(n_groups n_checked^4 / 4).

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
    order = check_order(order, "order", minimum=0)
    data, engine = as_sequences(X, lengths=lengths, keep_tensors=True), Engine()
    if chain is not None:
        given = as_law(chain, n_inputs=data.n_inputs, lengths=data.lengths)
        if isinstance(given, ScoreArrays) and len(given.tensors) == 1:
            return first_order_check(data, given, max_inputs=max_inputs, n_groups=n_groups)
        law = require(given, order=2, tensors=True, purpose="`check_score`")
        if law.n_inputs != data.n_inputs:
            raise ValueError(f"`X` has {data.n_inputs} inputs, `chain` has {law.n_inputs}")
    order = order if chain is None else 0
    source = Source.around(data, before=order, after=0)
    moments = engine.run(partial(lag_moments, order=order), source)
    summary = moments.finalize()
    scored: HermiteLaw
    if chain is None:
        scored = GaussianVAR.from_moments(moments)
    else:
        scored = with_metric(law, summary.covariance)
    whitening = SymmetricWhitening.from_moments(summary.mean, summary.covariance, max_inputs)
    # Four blocks of a single long sequence for each group; blocks should outlast its memory.
    block = max(data.n_rows // (4 * n_groups), 8)
    function = partial(
        stein_statistic, chain=scored, whitening=whitening, n_groups=n_groups, block=block
    )
    around = Source.around(data, *(max(each, 1) for each in scored.context))
    neighbours = []
    if data.longest > 1:
        neighbours = [engine.run(partial(function, lag=lag), around) for lag in (1, -1)]
    sums = engine.run(function, Source.around(data, *scored.context))
    return sums.finalize(scored, neighbours, given=chain is not None)
