r"""A start for units whose biases are many times the spread of their inputs.

A network that is small on inputs with a large mean m has biases b + A1 m on centred ones. With
:math:`z = a \cdot x + b + \bar u`, where :math:`\bar u` is the mean that the recurrence adds once
it has settled, a unit's monomial of degree l is nearly linear:

.. math::
    :label: taylor-shift

    c_l (a \cdot x + \beta)^l = c_l\,(a \cdot x)^l + l\,c_l\,\beta\,(a \cdot x)^{l-1} + \dots,
    \qquad \beta = b + \bar u,

so that the regression of the outputs on the powers of :math:`a_i \cdot x` has coefficients
:math:`c_l A_{2i}` of order l and :math:`l c_l \beta_i A_{2i}` of order l - 1. The first steps of
sequences, where the recurrence adds nothing yet, would blur all of that, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._arrays import index, to_host
from gloree.activations import PerUnit, Polynomial
from gloree.decomposition import decompose
from gloree.engine import Engine, Source
from gloree.fitting._first_moment import FirstMoment, output_scale
from gloree.fitting._inputs import InputSummary
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.models import Network
from gloree.moments import PlainRegression
from gloree.recurrence import top_degree
from gloree.refinement import GaussNewton, Iterate, Layout, SquaredError
from gloree.sequences import Array, Batch, Sequences

UNEXPLAINED = 1.5
"""Squared error of a start, over that of a regression on the inputs alone, from which a start with
large biases is looked for: a network that sees earlier inputs, too, should have the smaller one."""

LARGE = 2.0
"""Bias of a unit, over the spread of its pre-activation, that is large."""

TOLD = 0.5
"""Squared error with large biases over that without that makes them worth a try."""

SETTLING = 2
"""Steps at the start of a sequence that are left out: the recurrence has not settled there."""

ROWS, ROWS_PER_PARAMETER = 8_000, 50
"""Rows for the units without recurrence, and rows for each of their weights, at least."""

STEPS = 20
"""Steps of their refinement."""

@dataclass(frozen=True)
class Settled:
    """Inputs and outputs of steps at which the recurrence has settled, as sequences of one step."""

    X: Array
    Y: Array

    @classmethod
    def of(cls, problem: FitProblem, inputs: InputSummary, n_weights: int) -> Settled:
        """Collect a part of the data that fits into memory."""
        settings, source = problem.settings, inputs.inliers
        most = source.most_kept // (problem.n_inputs + problem.n_outputs)
        wanted = min(max(ROWS, ROWS_PER_PARAMETER * n_weights), max(most, 1))
        left_out = 0 if settings.recurrence is None else SETTLING

        def settled(batch: Batch) -> tuple[Array, Array]:
            rows = batch.counted_rows
            inside = batch.steps_before[rows] >= left_out
            if settings.bidirectional:
                inside &= batch.steps_after[rows] >= left_out
            chosen = index(batch.X, rows[inside])
            return to_host(batch.X[chosen]), to_host(batch.targets[chosen])

        parts = problem.engine.collect(settled, source.subset(wanted))
        X, Y = (np.concatenate(values) for values in zip(*parts, strict=True))
        return cls(X, Y)

    @property
    def source(self) -> Source:
        """The same for passes."""
        return Source(Sequences(self.X, self.Y, np.ones(len(self.X), dtype=np.int64), "flat"))

    def least_squares(self, regressors: Array) -> tuple[Array, Array, float]:
        """Coefficients, constant, and mean squared error of a regression of the outputs."""
        mean, target = regressors.mean(axis=0), self.Y.mean(axis=0)
        found = np.linalg.lstsq(regressors - mean, self.Y - target, rcond=None)[0]
        left = self.Y - target - (regressors - mean) @ found
        return found, target - mean @ found, float(np.mean(np.sum(left**2, axis=1)))


def with_large_biases(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    first: FirstMoment,
    current: Iterate,
) -> Network | None:
    """Units without recurrence and with large biases, where the start suggests these; else None.

    The units are those of the first moment, and for degree 3 those of the moment of order 2, which
    then tells more: the ones of lesser squared error.
    """
    noise, error = first.noise, current.sums.total / current.sums.n_rows
    free = first.layout.unit_bias and noise is not None
    if noise is None or not free or error <= UNEXPLAINED * float(np.sum(noise**2)):
        return None
    rows = Settled.of(problem, inputs, first.layout.size)
    if len(rows.X) < 2 * first.layout.size:
        return None
    candidates = [first.model]
    if problem.degree == 3 and not first.reduced:
        candidates.append(_of_lower_order(problem, outputs, inputs, first, rows))
    found, least = None, np.inf
    for model in candidates:
        shifted, error = shifted_units(model, rows, first.layout, problem.engine)
        if error < least:
            found, least = shifted, error
    return found


def _of_lower_order(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    first: FirstMoment,
    rows: Settled,
) -> Network:
    """Units whose input weights come from the moment of order l - 1."""
    bound = PlainRegression().bind(problem.degree - 1, inputs.whitening, None)
    function = partial(bound.sums, output_mean=outputs.mean)
    estimate = bound.estimate(problem.engine.run(function, rows.source, label="lower moment"))
    scale = output_scale(outputs, estimate.noise)
    k = first.layout.n_hidden
    found = decompose(estimate.tensor, k, output_scale=scale, random_state=0)
    directions = found.components @ bound.coordinates.to_inputs
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
    return first.model.replace(input_weights=directions)


def shifted_units(
    model: Network, rows: Settled, layout: Layout, engine: Engine
) -> tuple[Network | None, float]:
    """Units with biases by :eq:`taylor-shift`, and their squared error; none if none are large.

    Input weights and biases are refined together, in coordinates in which the outputs are close to
    linear: the largest coefficient of each unit's polynomial goes into its output weights, and the
    others are free.
    """
    degree, leading = top_degree(model)
    z, direct = rows.X @ model.input_weights.T, model.direct_weights
    also = rows.X if direct is not None else rows.X[:, :0]
    powers, offset, free = rows.least_squares(
        np.hstack([z**power for power in range(1, degree + 1)] + [also])
    )
    *_, plain = rows.least_squares(np.hstack((z**degree, also)))
    k = model.n_hidden
    parts = powers[: degree * k].reshape(degree, k, -1)
    size = np.maximum(np.sum(parts[-1] ** 2, axis=1), np.finfo(np.float64).tiny)
    b = np.sum(parts[-1] * parts[-2], axis=1) / (degree * size)
    large = np.abs(b) > LARGE * z.std(axis=0)
    if not large.any() or free > TOLD * plain:
        return None, np.inf
    named = np.where(large, 0, degree - 1)
    outputs = parts[named, np.arange(k)]
    ratios = np.einsum("pia,ia->pi", parts, outputs) / np.sum(outputs**2, axis=1)
    start = model.replace(
        activation=PerUnit([Polynomial((0.0, *_nonzero(each))) for each in ratios.T]),
        output_weights=outputs,
        output_bias=offset,
        direct_weights=None if direct is None else powers[degree * k :],
    )
    orders = [tuple(p for p in range(1, degree + 1) if p != own + 1) for own in named]
    coefficients = replace(
        layout, recurrent=False, hidden_bias=False, free_coefficients=tuple(orders)
    )
    solver = GaussNewton(max_steps=STEPS)
    given = (SquaredError(), start, coefficients, engine, rows.source)
    refined = solver.minimise(*given).model
    units = refined.activation.units
    e = np.array([unit.coefficients[1:] for unit in units]).T
    if degree == 2:
        b = e[0] / (2 * e[1])
    else:
        b = np.where(large, e[0] / e[1], e[1] / (3 * e[2]))
    lengths = np.linalg.norm(refined.input_weights, axis=1)
    A1, b = refined.input_weights / lengths[:, None], b / lengths
    states = leading * (rows.X @ A1.T + b) ** degree
    found, offset, error = rows.least_squares(np.hstack((states, also)))
    shifted = model.replace(
        input_weights=A1,
        hidden_bias=b,
        output_weights=found[:k],
        output_bias=offset,
        direct_weights=None if direct is None else found[k:],
    )
    return shifted, error


def _nonzero(coefficients: Array) -> Array:
    """Coefficients whose last one is not exactly zero."""
    tiny = np.finfo(np.float64).tiny
    return np.where(coefficients == 0.0, tiny, coefficients)
