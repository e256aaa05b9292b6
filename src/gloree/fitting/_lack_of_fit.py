r"""Does the residual still depend on the past? The certificate of a fit.

At the optimum of the right network the residual is noise: no function of what came before explains
any of it. Features are monomials up to degree two in x_t and h_{t-1}, up to three in six directions
of x_t, linearly x_{t-1}, ..., x_{t-6}, which a missing unit may see, and r_{t-1}, and the squared
norms of the whitened v_{t-1}, ..., v_{t-6}. With phi the features, whitened by their Gram matrix,
and z_k the sum of phi r^T over block k of the rows (some hundred steps each, dealt out to K
blocks), what features explain with chance left out is a U-statistic,

.. math:: T = \sum_{k \ne l} \langle z_k, z_l \rangle, \qquad
          \text{share} = T \Big/ \sum_t |r_t|^2, \qquad
          \text{score} = T \Big/ \Big( 2 \sum_{k \ne l} (\langle z_k, z_l \rangle - m)^2
          \Big)^{1/2},

m the mean of the products: blocks of noise, whatever its sizes, have products of mean zero. A
false optimum, another f, and too few units leave shares of per cents; estimation at the optimum
leaves less than chance, so that the test errs on the safe side. This holds of any metric of the
features that residuals have no part in: where there are many rows their Gram matrix is of some of
them. One of n_g rows has an inverse that is n_g / (n_g - p - 1) times too large in the mean (that
of a Wishart matrix), which is taken out of the share; the power of the test falls by p / 2 n_g.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy import linalg

from gloree._arrays import to_host
from gloree._monomials import block_rows, n_monomials, symmetric_powers
from gloree._sums import Sums
from gloree.engine import Source, Subset
from gloree.fitting._derivatives import DEPENDENT
from gloree.fitting._inputs import InputSummary
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.sequences import Array, Batch, IntArray
from gloree.states import States, residual_rows, run_states

MOST_VARIABLES = 12
"""Directions of the inputs, and states, that enter other than linearly, at most."""

CUBIC_VARIABLES = 6
"""Directions of the inputs that enter with degree three."""

MOST_LAGS = 6
"""Steps back to which inputs are looked at; zero, their mean, where a sequence began later."""

FEW_ROWS = 10_000
"""Rows behind the test of an attempt on a part of the data."""

BLOCKS, BLOCK_ROWS = 16, 100
"""Blocks that rows are dealt out to, and rows in a row that go to the same one."""

GRAM_ROWS = 80
"""Rows for each feature, about, that their Gram matrix is of, if there are more: the spread of T is
a hundredth larger then, and a tenth for Student inputs with five degrees of freedom."""

MORE_ROWS = 1.25
"""Rows over those by which a share would be seen, where chance turns out larger than foreseen."""

WELL_CONDITIONED = 1e-6
"""Reciprocal condition from which on no features are dependent."""

ENOUGH_ROWS = 3
"""Rows for each feature without which nothing is tested."""

EXACT = 1e-10
"""Residuals over outputs, root mean square, that are rounding: there is nothing to explain."""

CERTAIN = 2.5
"""Standard deviations of chance that are a finding."""

CERTIFIED_SHARE, MARGIN = 5e-4, 0.8
"""Share of the squared error that a certified fit may leave whatever its score, and that its test
has to be able to see; and what is aimed at, as the spread of chance is an estimate, too."""


@dataclass(frozen=True)
class LackOfFit:
    """Estimated share of the squared error that features of the past explain, and its score.

    Chance is left out of the share, and the score counts its standard deviations. NaN where there
    were too few rows for a test.
    """

    share: float
    score: float

    @property
    def detectable(self) -> float:
        """Share that would have been seen; infinite without a test, zero without residuals."""
        if not np.isfinite(self.share) or self.score == 0.0:
            return 0.0 if self.share == 0.0 else np.inf
        return CERTAIN * abs(self.share / self.score)

    @property
    def is_few(self) -> bool:
        """Whether features of the past explain no more than chance, or less than matters."""
        return not (self.share >= CERTIFIED_SHARE and self.is_clear)

    @property
    def is_clear(self) -> bool:
        """Whether features of the past explain more than chance."""
        return bool(self.score >= CERTAIN)

    def __str__(self) -> str:
        if np.isnan(self.share):
            return "too few rows for a test"
        return f"lack of fit {max(self.share, 0.0):.1e}, score {self.score:.1f}"


@dataclass(frozen=True)
class Frame:
    """Coordinates of the features: directions of the inputs, means and spreads of the states.

    `matrix`, (n_columns, r), takes x - `centre` to uncorrelated coordinates, those that the units
    see most of first. `n_inputs` are those of one step.
    """

    centre: Array
    matrix: Array
    state_mean: Array
    state_spread: Array
    n_inputs: int
    recurrent: bool

    @classmethod
    def of(cls, problem: FitProblem, inputs: InputSummary, model: Network, some: Subset) -> Frame:
        """Frame of a model, from some rows."""
        whitening = inputs.whitening
        seen = model.input_weights @ whitening.inverse
        seen = seen * np.linalg.norm(model.output_weights, axis=1)[:, None]
        turned = np.linalg.svd(seen, full_matrices=True)[2]
        states = np.concatenate(problem.engine.collect(partial(_states, model=model), some))
        return cls(
            whitening.mean,
            whitening.matrix.T @ turned.T,
            states.mean(axis=0),
            np.maximum(states.std(axis=0), 1e-9),
            problem.data.n_inputs,
            problem.settings.recurrence is not None,
        )

    @cached_property
    def n_features(self) -> int:
        """Number of features, but for the residuals of the step before."""
        n = int(self.matrix.shape[1])
        few, some = min(CUBIC_VARIABLES, n), min(MOST_VARIABLES, n)
        if self.recurrent:
            some += min(MOST_VARIABLES, self.state_mean.shape[0])
        second, third = some * (some + 1) // 2, few * (few + 1) * (few + 2) // 6
        beyond = max(0, n - MOST_VARIABLES) + MOST_LAGS * (self.n_inputs + 1)
        return 1 + some + second + third + beyond

    def rows_to_see(self, share: float, n_outputs: int) -> int:
        """Rows on which chance leaves `CERTAIN` of its standard deviations no more than a share.

        With p features of n rows and q outputs T has the variance 2 p q of noise of variance one,
        the sum of squares is n q, and n = `CERTAIN` (2 p / q)^1/2 / share.
        """
        return math.ceil(CERTAIN * math.sqrt(2.0 * self.n_features / n_outputs) / share)

    def seen_in(self, batch: Batch, previous: Array, residuals: Array) -> Seen:
        """What the features of a batch are made of, with rows of the batch as columns."""
        X = to_host(batch.X) - self.centre
        v = np.ascontiguousarray((X @ self.matrix).T)
        h = ((previous - self.state_mean) / self.state_spread).T if self.recurrent else v[:0]
        some = np.concatenate([v[:MOST_VARIABLES], h[:MOST_VARIABLES]])
        before = np.concatenate([X[:, -self.n_inputs :].T, np.sum(v * v, axis=0)[None]])
        return Seen(some, v[MOST_VARIABLES:], before, np.ascontiguousarray(residuals.T))

    def features(self, batch: Batch, seen: Seen, rows: IntArray) -> Array:
        """Features of some rows, (n_features, len(rows)), the constant first."""
        some = seen.some[:, rows]
        few = some[: min(CUBIC_VARIABLES, self.matrix.shape[1])]
        n_before, local = seen.before.shape[0], batch.local[rows]
        phi = np.empty((self.n_features + seen.residuals.shape[0], rows.shape[0]))
        phi[0] = 1.0
        place = 1
        for part, degree in ((some, 1), (some, 2), (few, 3)):
            end = place + n_monomials(part.shape[0], degree)
            symmetric_powers(part, degree, out=phi[place:end])
            place = end
        end = place + seen.others.shape[0]
        phi[place:end] = seen.others[:, rows]
        for lag in range(1, MOST_LAGS + 1):
            place, end = end, end + n_before
            phi[place:end] = seen.before[:, np.maximum(rows - lag, 0)]
            phi[place:end, local < lag] = 0.0
        phi[end:] = seen.residuals[:, rows - 1]
        return phi


@dataclass(frozen=True)
class Seen:
    """What the features of a batch are made of; columns are its rows.

    `some` are the directions of the inputs and the states that enter other than linearly, `others`
    the other directions, `before` what is looked at of earlier steps: inputs, and their squared
    norm.
    """

    some: Array
    others: Array
    before: Array
    residuals: Array


def _states(batch: Batch, model: Network) -> Array:
    return to_host(run_states(model, batch).previous)[batch.counted_rows]


@dataclass(frozen=True)
class FeatureSums(Sums):
    """Gram matrix of the features, products with residuals by blocks, and sums of the residuals.

    `gram`, of `gram_rows` of the rows, has shape (n_features, n_features), `cross` (`BLOCKS`,
    n_features, n_outputs); `outputs` is the sum of the squares of the outputs themselves.
    """

    n_rows: float
    gram: Array
    cross: Array
    squares: float
    outputs: float
    gram_rows: float


Residuals = Callable[[Network, Batch, States], Array]
"""Residuals of all rows of a batch, (n_rows, n_outputs), with the states that a network runs to."""


def feature_sums(
    batch: Batch,
    model: Network,
    frame: Frame,
    residuals_of: Residuals = residual_rows,
    gram_every: int = 1,
) -> FeatureSums:
    """Sums of one batch; rows without a step before them do not count.

    Features are made, and used, of as many rows at once as stay in the cache, and the Gram matrix
    is of the first of these, one in `gram_every`.
    """
    states = run_states(model, batch)
    residuals = to_host(residuals_of(model, batch, states))
    seen = frame.seen_in(batch, to_host(states.previous), residuals)
    rows = batch.counted_rows
    rows = rows[batch.local[rows] > 0]
    n_features = frame.n_features + residuals.shape[1]
    gram, gram_rows = np.zeros((n_features, n_features)), 0
    cross = np.zeros((BLOCKS, n_features, residuals.shape[1]))
    together = BLOCK_ROWS * max(1, block_rows(n_features) // BLOCK_ROWS)
    for begin in range(0, rows.shape[0], together):
        some = rows[begin : begin + together]
        phi, r = frame.features(batch, seen, some), residuals[some]
        for first in range(0, some.shape[0], BLOCK_ROWS):
            part = slice(first, first + BLOCK_ROWS)
            cross[(begin + first) // BLOCK_ROWS % BLOCKS] += phi[:, part] @ r[part]
        sample = phi[:, : -(-some.shape[0] // gram_every)]
        gram += sample @ sample.T
        gram_rows += sample.shape[1]
    squares = float(np.sum(residuals[rows] ** 2))
    outputs = float(np.sum(to_host(batch.targets)[rows] ** 2))
    return FeatureSums(float(rows.shape[0]), gram, cross, squares, outputs, float(gram_rows))


def statistic_of(sums: FeatureSums) -> LackOfFit:
    """The U-statistic over its blocks; the constant is one of the features.

    Nothing is left where the residuals are rounding of the outputs.
    """
    if sums.squares <= EXACT**2 * sums.outputs:
        return LackOfFit(0.0, 0.0)
    n_features = sums.gram.shape[0]
    if sums.n_rows < ENOUGH_ROWS * n_features:
        return LackOfFit(np.nan, np.nan)
    z = _whitened(sums.gram, sums.cross.swapaxes(0, 1).reshape(n_features, -1))
    rank = z.shape[0]
    z = z.reshape(rank, BLOCKS, -1).swapaxes(0, 1).reshape(BLOCKS, -1)
    products = (z @ z.T)[~np.eye(BLOCKS, dtype=bool)]
    if sums.gram_rows < sums.n_rows:
        # as of all rows, but for what an inverse of some is too large in the mean
        products *= (sums.gram_rows - rank - 1.0) / sums.n_rows
    total = float(products.sum())
    spread = float(np.sqrt(2.0 * np.sum((products - products.mean()) ** 2)))
    return LackOfFit(total / max(sums.squares, 1e-300), total / max(spread, 1e-300))


def _whitened(gram: Array, columns: Array) -> Array:
    """Columns times a root of the inverse of a Gram matrix, without directions that are dependent.

    By its Cholesky factor if none is by far, else by its eigenvectors.
    """
    size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled, columns = gram / np.outer(size, size), columns / size[:, None]
    factor, failed = linalg.lapack.dpotrf(scaled, lower=True)
    if not failed:
        condition = linalg.lapack.dpocon(factor, np.linalg.norm(scaled, 1), uplo="L")[0]
        if condition > WELL_CONDITIONED:
            found: Array = linalg.solve_triangular(factor, columns, lower=True)
            return found
    values, vectors = np.linalg.eigh(scaled)
    kept = values > DEPENDENT * values[-1]
    return np.asarray((vectors[:, kept] / np.sqrt(values[kept])).T @ columns)


def lack_of_fit(
    problem: FitProblem,
    inputs: InputSummary,
    model: Network,
    n_rows: int | None,
    residuals_of: Residuals = residual_rows,
) -> LackOfFit:
    """Test a model on some rows; all of the squared error is left where it explodes.

    None is for as many as show a share that is no longer certified, and for more where the first
    test turns out not to.
    """
    try:
        frame = Frame.of(problem, inputs, model, inputs.inliers.subset(2_000))
        given = problem, inputs.inliers, model, frame, residuals_of
        if n_rows is not None:
            return _tested(*given, n_rows)
        n_rows = frame.rows_to_see(MARGIN * CERTIFIED_SHARE, problem.n_outputs)
        found = _tested(*given, n_rows)
        if found.is_few and CERTIFIED_SHARE <= found.detectable < np.inf:
            more = math.ceil(MORE_ROWS * n_rows * found.detectable / CERTIFIED_SHARE)
            found = _tested(*given, more, whole=True)
        return found
    except ExplosionError:
        return LackOfFit(1.0, np.inf)


def _tested(
    problem: FitProblem,
    data: Source,
    model: Network,
    frame: Frame,
    residuals_of: Residuals,
    n_rows: int,
    whole: bool = False,
) -> LackOfFit:
    """Test on so many rows; `whole` if the Gram matrix is to be of all of these."""
    some = data.subset(n_rows)
    every = 1 if whole else max(1, round(some.n_counted / (GRAM_ROWS * frame.n_features)))
    function = partial(
        feature_sums, model=model, frame=frame, residuals_of=residuals_of, gram_every=every
    )
    return statistic_of(problem.engine.run(function, some, label="certificate"))
