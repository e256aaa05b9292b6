r"""Does the residual still depend on the past? The certificate of a fit.

At the optimum of the right network the residual is noise: no function of what came before explains
any of it. Features are monomials up to degree two in x_t and h_{t-1}, up to three in six directions
of x_t, linearly x_{t-1}, ..., x_{t-6}, which a missing unit may see, and r_{t-1}, and the squared
norms of the whitened v_{t-1}, ..., v_{t-6}. With phi the features, whitened by their Gram matrix
over all rows, and z_k the sum of phi r^T over block k of the rows (some hundred steps each, dealt
out to K blocks), what features explain with chance left out is a U-statistic,

.. math:: T = \sum_{k \ne l} \langle z_k, z_l \rangle, \qquad
          \text{share} = T \Big/ \sum_t |r_t|^2, \qquad
          \text{score} = T \Big/ \Big( 2 \sum_{k \ne l} (\langle z_k, z_l \rangle - m)^2
          \Big)^{1/2},

m the mean of the products: blocks of noise, whatever its sizes, have products of mean zero. A
false optimum, another f, and too few units leave shares of per cents; estimation at the optimum
leaves less than chance, so that the test errs on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._arrays import to_host
from gloree._monomials import symmetric_powers
from gloree._sums import Sums
from gloree.engine import Subset
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

    @property
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

    def features(self, batch: Batch, previous: Array, residuals: Array, rows: IntArray) -> Array:
        """Features of some rows, (n_features, len(rows)), the constant first."""
        X = to_host(batch.X)
        v = ((X[rows] - self.centre) @ self.matrix).T
        h = ((previous[rows] - self.state_mean) / self.state_spread).T
        some = v[:MOST_VARIABLES]
        if self.recurrent:
            some = np.concatenate([some, h[:MOST_VARIABLES]])
        few = np.ascontiguousarray(v[:CUBIC_VARIABLES])
        parts = [np.ones((1, rows.shape[0])), some, symmetric_powers(some, 2)]
        parts += [symmetric_powers(few, 3), v[MOST_VARIABLES:]]
        for lag in range(1, MOST_LAGS + 1):
            there = batch.local[rows] >= lag
            before = np.where(there[:, None], X[np.where(there, rows - lag, 0)] - self.centre, 0.0)
            size = np.sum((before @ self.matrix) ** 2, axis=1, keepdims=True)
            parts += [before[:, -self.n_inputs :].T, size.T]
        parts += [residuals[rows - 1].T]
        return np.concatenate(parts)


def _states(batch: Batch, model: Network) -> Array:
    return to_host(run_states(model, batch).previous)[batch.counted_rows]


@dataclass(frozen=True)
class FeatureSums(Sums):
    """Gram matrix of the features, products with residuals by blocks, and sums of the residuals.

    `gram` has shape (n_features, n_features), `cross` (`BLOCKS`, n_features, n_outputs); `outputs`
    is the sum of the squares of the outputs themselves.
    """

    n_rows: float
    gram: Array
    cross: Array
    squares: float
    outputs: float


Residuals = Callable[[Network, Batch, States], Array]
"""Residuals of all rows of a batch, (n_rows, n_outputs), with the states that a network runs to."""


def feature_sums(
    batch: Batch, model: Network, frame: Frame, residuals_of: Residuals = residual_rows
) -> FeatureSums:
    """Sums of one batch; rows without a step before them do not count."""
    states = run_states(model, batch)
    residuals = to_host(residuals_of(model, batch, states))
    rows = batch.counted_rows
    rows = rows[batch.local[rows] > 0]
    phi = frame.features(batch, to_host(states.previous), residuals, rows)
    r = residuals[rows]
    cross = np.zeros((BLOCKS, phi.shape[0], r.shape[1]))
    for begin in range(0, rows.shape[0], BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        cross[begin // BLOCK_ROWS % BLOCKS] += phi[:, part] @ r[part]
    squares, outputs = float(np.sum(r * r)), float(np.sum(to_host(batch.targets)[rows] ** 2))
    return FeatureSums(float(rows.shape[0]), phi @ phi.T, cross, squares, outputs)


def statistic_of(sums: FeatureSums) -> LackOfFit:
    """The U-statistic over its blocks; the constant is one of the features.

    Nothing is left where the residuals are rounding of the outputs.
    """
    if sums.squares <= EXACT**2 * sums.outputs:
        return LackOfFit(0.0, 0.0)
    if sums.n_rows < ENOUGH_ROWS * sums.gram.shape[0]:
        return LackOfFit(np.nan, np.nan)
    size = np.sqrt(np.maximum(np.diag(sums.gram), 1e-300))
    values, vectors = np.linalg.eigh(sums.gram / np.outer(size, size))
    kept = values > DEPENDENT * values[-1]
    whitening = (vectors[:, kept] / np.sqrt(values[kept])).T / size
    z = (whitening @ sums.cross).reshape(BLOCKS, -1)
    products = (z @ z.T)[~np.eye(BLOCKS, dtype=bool)]
    total = float(products.sum())
    spread = float(np.sqrt(2.0 * np.sum((products - products.mean()) ** 2)))
    return LackOfFit(total / max(sums.squares, 1e-300), total / max(spread, 1e-300))


def lack_of_fit(
    problem: FitProblem,
    inputs: InputSummary,
    model: Network,
    n_rows: int | None,
    residuals_of: Residuals = residual_rows,
) -> LackOfFit:
    """Test a model on some rows; all of the squared error is left where it explodes.

    None is for as many as show a share that is no longer certified.
    """
    try:
        frame = Frame.of(problem, inputs, model, inputs.inliers.subset(2_000))
        if n_rows is None:
            n_rows = frame.rows_to_see(MARGIN * CERTIFIED_SHARE, problem.n_outputs)
        some = inputs.inliers.subset(n_rows)
        function = partial(feature_sums, model=model, frame=frame, residuals_of=residuals_of)
        return statistic_of(problem.engine.run(function, some, label="certificate"))
    except ExplosionError:
        return LackOfFit(1.0, np.inf)
