"""Whether a model is better than another on held-out rows, neighbouring samples counted as few."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gloree._arrays import row_squares, take_rows, to_host
from gloree._sums import Sums
from gloree.engine import Subset
from gloree.identification._problem import IdentificationProblem
from gloree.identification._split import independent_samples
from gloree.identification._starts import Starts
from gloree.models import IORNN, ExplosionError, Network
from gloree.sequences import Array, Batch, IntArray, Sequences
from gloree.states import residual_rows

CHANCE = 0.05 / 12  # of taking a network that gains nothing, the best of a dozen that were tried
MOVED = 1e-9  # change of an input, over its size, that is one
NOTHING_LEFT = 1e-9  # errors below this, over the outputs' size, are rounding


@dataclass(frozen=True)
class SquaredRows(Sums):
    """Squared residuals of rows of the data, summed over outputs."""

    rows: IntArray = field(metadata={"concatenate": True})
    squares: Array = field(metadata={"concatenate": True})


def squared_rows(batch: Batch, model: Network) -> SquaredRows:
    """Map of the pass."""
    squares = to_host(row_squares(take_rows(residual_rows(model, batch), batch.counted)))
    return SquaredRows(batch.data_rows[batch.counted_rows], squares)


@dataclass(frozen=True)
class Comparison:
    """Gain of a model over another (`compare`), its standard error, and samples.

    `n_independent` is the number of independent samples that would be worth as much as the held-out
    rows are: their squared errors, and so the gains, are alike in neighbours. There are no more of
    them than experiments, stretches in which no input moves.
    """

    gain: float
    error: float
    n_rows: int
    n_independent: float

    @property
    def is_certain(self) -> bool:
        """Whether the gain is beyond what so few samples can mistake, by Student's t."""
        certain = stats.t.isf(CHANCE, max(self.n_independent - 1.0, 1.0))
        return bool(self.gain > certain * self.error)


def compare(
    problem: IdentificationProblem, rows: Subset, smaller: IORNN, larger: IORNN
) -> Comparison:
    r"""Gain of the larger model: the logarithm of a ratio of mean squares, and its standard error.

    .. math:: g = \log\frac{s^2}{s'^2}, \quad d_t = \frac{e_t^2}{s^2} - \frac{e_t'^2}{s'^2}, \quad
        \mathrm{var}(g) = \mathrm{var}(d) / n_{eff}, \quad n_{eff} = n / (1 + 2 \sum_k \rho_k)

    with the mean squares :math:`s^2` and the autocorrelations rho_k of d while they are positive:
    twice the gain in the likelihood of normal errors of unknown sizes [1]_. The mean of
    :math:`e_t^2 - e_t'^2` itself is never many standard errors from zero in a short record, however
    little the larger model leaves. A network that explodes gains nothing. Of records whose inputs
    move now and then, n_eff is at most the number of stretches in which they do not: how many rows
    the response to one step was sampled at says nothing about the next one.

    References
    ----------
    .. [1] Q. H. Vuong, "Likelihood ratio tests for model selection and non-nested hypotheses",
       Econometrica 57 (1989) 307-333.
    """
    counted = np.zeros(problem.records.n_rows, dtype=bool)
    d = np.zeros(problem.records.n_rows)
    gain = 0.0
    for sign, model in ((1.0, smaller), (-1.0, larger)):
        seen = model
        if model.n_inputs < rows.data.n_inputs:
            seen = Starts.of(problem.records).extended(model)
        try:
            found = problem.engine.run(partial(squared_rows, model=seen), rows, label="rows")
        except ExplosionError:
            return Comparison(-math.inf, 1.0, rows.n_counted, 1.0)
        counted[found.rows] = True
        mean = max(float(found.squares.mean()), NOTHING_LEFT**2)
        gain += sign * math.log(mean)
        d[found.rows] += sign * found.squares / mean
    n, independent = int(counted.sum()), independent_of(d, counted, problem.records)
    error = float(d[counted].std()) / math.sqrt(max(independent, 1.0))
    return Comparison(gain, error, n, independent)


def independent_of(d: Array, counted: NDArray[np.bool_], records: Sequences) -> float:
    """Effective number of samples of a mean of gains; no more than there were experiments."""
    return min(independent_samples(d, counted), float(n_experiments(records)))


def n_experiments(records: Sequences) -> int:
    """Stretches of all records in which no input moves; as many as rows where one always does."""
    moves = np.abs(np.diff(np.asarray(records.X, np.float64), axis=0)).max(axis=1) > MOVED
    moves[records.starts[1:-1] - 1] = True
    return int(moves.sum()) + 1
