r"""Does the residual still depend on the past? The certificate of a fit.

At the optimum of the right network the residual is noise: no function of what came before explains
more of it than chance. It is regressed on p features: monomials up to degree two in x_t and
h_{t-1}, up to three in six directions of x_t, and x_{t-1} and r_{t-1} linearly. With n rows, the
sum of squares explained E_a and the variance s_a^2 left of each output,

.. math:: \text{share} = \frac1q \sum_a \frac{E_a - p s_a^2}{\sum_t r_{ta}^2}, \qquad
          \text{score} = \frac{\sum_a E_a / s_a^2 - p q}{\sqrt{2 p q}}.

A false optimum, another f, and too few units leave shares of per cents; estimation at the optimum
leaves less than chance, so that the test errs on the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._arrays import to_host
from gloree._monomials import symmetric_powers
from gloree._sums import Sums
from gloree.engine import Subset
from gloree.fitting._derivatives import residual_gain
from gloree.fitting._inputs import InputSummary
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows, run_states

MOST_VARIABLES = 12
"""Directions of the inputs, and states, that enter other than linearly, at most."""

CUBIC_VARIABLES = 6
"""Directions of the inputs that enter with degree three."""

FEW_ROWS = 10_000
"""Rows behind the test of an attempt on a part of the data."""

ROWS, RESIDUALS = 40_000, 160_000
"""Rows behind the certificate, and residuals (rows times outputs): the larger number of rows."""


@dataclass(frozen=True)
class LackOfFit:
    """Estimated share of the squared error that features of the past explain, and its score.

    The share has chance subtracted; the score counts standard deviations of chance.
    """

    share: float
    score: float


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
        before = X[rows - 1]
        parts += [(before - self.centre)[:, -self.n_inputs :].T, residuals[rows - 1].T]
        return np.concatenate(parts)


def _states(batch: Batch, model: Network) -> Array:
    return to_host(run_states(model, batch).previous)[batch.counted_rows]


@dataclass(frozen=True)
class ResidualSums(Sums):
    """Normal equations of the residuals on the features, and sums of the residuals."""

    n_rows: float
    gram: Array
    cross: Array
    total: Array
    squares: Array


def residual_sums(batch: Batch, model: Network, frame: Frame) -> ResidualSums:
    """Sums of one batch; rows without a step before them do not count."""
    states = run_states(model, batch)
    residuals = to_host(residual_rows(model, batch, states))
    rows = batch.counted_rows
    rows = rows[batch.local[rows] > 0]
    phi = frame.features(batch, to_host(states.previous), residuals, rows)
    r = residuals[rows]
    return ResidualSums(
        float(rows.shape[0]), phi @ phi.T, phi @ r, r.sum(axis=0), np.einsum("ta,ta->a", r, r)
    )


def lack_of_fit(
    problem: FitProblem, inputs: InputSummary, model: Network, n_rows: int
) -> LackOfFit:
    """Test a model on some rows; all of the squared error is left where it explodes."""
    some = inputs.inliers.subset(n_rows)
    try:
        frame = Frame.of(problem, inputs, model, inputs.inliers.subset(2_000))
        function = partial(residual_sums, model=model, frame=frame)
        sums = problem.engine.run(function, some, label="certificate")
    except ExplosionError:
        return LackOfFit(1.0, np.inf)
    if sums.n_rows < 2 * sums.gram.shape[0]:
        return LackOfFit(0.0, np.inf)
    rank, explained = residual_gain(sums.gram, sums.cross)
    total = np.maximum(sums.squares - sums.total**2 / sums.n_rows, 1e-300)
    left = np.maximum(total - explained, 1e-300) / max(sums.n_rows - rank - 1.0, 1.0)
    share = float(np.mean((explained - rank * left) / total))
    chance = rank * total.shape[0]
    score = float((np.sum(explained / left) - chance) / np.sqrt(2.0 * chance))
    return LackOfFit(share, score)
