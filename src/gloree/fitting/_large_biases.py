r"""A start for units whose biases are many times the spread of their inputs.

A network that is small on inputs with a large mean m has biases b + A1 m on centred ones. With
:math:`z = a \cdot x + b + \bar u`, where :math:`\bar u` is the mean that the recurrence adds once
it has settled, a unit's monomial of degree l is nearly linear:

.. math::
    c_l (a \cdot x + \beta)^l = c_l\,(a \cdot x)^l + l\,c_l\,\beta\,(a \cdot x)^{l-1} + \dots,
    \qquad \beta = b + \bar u,

so that the regression of the outputs on the powers of :math:`a_i \cdot x` has coefficients
:math:`c_l A_{2i}` of order l and :math:`l c_l \beta_i A_{2i}` of order l - 1. The first steps of
sequences, where the recurrence adds nothing yet, would blur that, and are left out
(:eq:`taylor-shift`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

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
from gloree.states import run_states

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
    added: Array

    @classmethod
    def of(
        cls, problem: FitProblem, inputs: InputSummary, n_weights: int, model: Network
    ) -> Settled:
        """Collect a part of the data that fits into memory.

        What the recurrence of a model does to the outputs is taken off, but for what its mean does,
        `added` to the pre-activations.
        """
        settings, source = problem.settings, inputs.inliers
        most = source.most_kept // (problem.n_inputs + problem.n_outputs)
        wanted = min(max(ROWS, ROWS_PER_PARAMETER * n_weights), max(most, 1))
        left_out = 0 if settings.recurrence is None else SETTLING

        function = partial(
            settled_rows, model=model, left_out=left_out, both_ways=settings.bidirectional
        )
        parts = problem.engine.collect(function, source.subset(wanted))
        X, Y, z, h = (np.concatenate(values) for values in zip(*parts, strict=True))
        drive = X @ model.input_weights.T + model.hidden_bias
        added = (z - drive).mean(axis=0) if len(X) else np.zeros(model.n_hidden)
        Y = Y - (h - model.activation(drive + added)) @ model.output_weights
        return cls(X, Y, added)

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


def settled_rows(batch: Batch, model: Network, left_out: int, both_ways: bool) -> tuple[Array, ...]:
    """Inputs, outputs, pre-activations and states of the rows that are not left out."""
    rows = batch.counted_rows
    inside = batch.steps_before[rows] >= left_out
    if both_ways:
        inside &= batch.steps_after[rows] >= left_out
    states, chosen = run_states(model, batch), index(batch.X, rows[inside])
    return tuple(to_host(each[chosen]) for each in (batch.X, batch.targets, states.z, states.h))


def with_large_biases(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    first: FirstMoment,
    current: Iterate,
) -> Network | None:
    """Units without recurrence and with large biases, where the start suggests these; else None.

    The units are those of the first moment, and for degree 3 those of the moment of order 2, which
    then tells more: the ones of lesser squared error. A direct path may be what is linear, and no
    biases are looked for beside one.
    """
    noise, left = first.noise, current.sums.total / current.sums.n_rows
    if not first.layout.unit_bias or first.layout.direct or noise is None:
        return None
    if left <= UNEXPLAINED * float(np.sum(noise**2)):
        return None
    rows = Settled.of(problem, inputs, first.layout.size, first.model)
    if len(rows.X) < 2 * first.layout.size:
        return None
    candidates = [first.model]
    if problem.degree == 3 and not first.reduced:
        candidates.append(_of_lower_order(outputs, inputs, first, rows))
    tried = [shifted_units(model, rows, first.layout) for model in candidates]
    found, error = min(tried, key=lambda each: each[1])
    return found if np.isfinite(error) else None


def biases_again(problem: FitProblem, inputs: InputSummary, start: Iterate) -> Network | None:
    """Input weights and biases once more, now that the recurrence is known; None if it fails."""
    model = start.model
    layout = replace(problem.layout_of(model), bias=True, hidden_bias=True)
    rows = Settled.of(problem, inputs, layout.size, model)
    found, _ = shifted_units(model, rows, layout)
    return None if found is None else found.replace(hidden_bias=found.hidden_bias - rows.added)


def _of_lower_order(
    outputs: OutputSummary, inputs: InputSummary, first: FirstMoment, rows: Settled
) -> Network:
    """Units of degree 3 whose input weights come from the moment of order 2."""
    bound = PlainRegression().bind(2, inputs.whitening, None)
    function = partial(bound.sums, output_mean=outputs.mean)
    estimate = bound.estimate(Engine("serial").run(function, rows.source, label="lower moment"))
    scale = output_scale(outputs, estimate.noise)
    k = first.layout.n_hidden
    found = decompose(estimate.tensor, k, output_scale=scale, random_state=0)
    directions = found.components @ bound.coordinates.to_inputs
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
    return first.model.replace(input_weights=directions)


def shifted_units(model: Network, rows: Settled, layout: Layout) -> tuple[Network | None, float]:
    """Units with biases by :eq:`taylor-shift`, and their squared error; none if none are large."""
    degree, leading = top_degree(model)
    z, k = rows.X @ model.input_weights.T, model.n_hidden
    powers, offset, free = rows.least_squares(
        np.hstack([z**power for power in range(1, degree + 1)])
    )
    *_, plain = rows.least_squares(z**degree)
    parts = powers.reshape(degree, k, -1)
    size = np.maximum(np.sum(parts[-1] ** 2, axis=1), np.finfo(np.float64).tiny)
    b = np.sum(parts[-1] * parts[-2], axis=1) / (degree * size)
    large = np.abs(b) > LARGE * z.std(axis=0)
    if not large.any() or free > TOLD * plain:
        return None, np.inf
    A1, b = _refined_together(model, rows, layout, parts, offset, large)
    states = leading * (rows.X @ A1.T + b) ** degree
    outputs, offset, error = rows.least_squares(states)
    shifted = model.replace(
        input_weights=A1, hidden_bias=b, output_weights=outputs, output_bias=offset
    )
    return shifted, error


def _refined_together(
    model: Network,
    rows: Settled,
    layout: Layout,
    parts: Array,
    offset: Array,
    large: NDArray[np.bool_],
) -> tuple[Array, Array]:
    """Input weights of length 1 and biases, from coefficients (degree, n_hidden, n_outputs).

    In terms of biases and output weights the squared error has narrow curved valleys. Here the
    coefficient of each unit that is largest goes into the output weights (of order 1 where the bias
    is large, else the highest), the others are free, and the outputs are close to linear in all.
    """
    degree, k = parts.shape[:2]
    named = np.where(large, 0, degree - 1)
    outputs = parts[named, np.arange(k)]
    ratios = np.einsum("pia,ia->pi", parts, outputs) / np.sum(outputs**2, axis=1)
    # a polynomial of lower degree would have no such coefficient
    ratios = np.where(ratios == 0.0, np.finfo(np.float64).tiny, ratios)
    start = model.replace(
        recurrent_weights=None,
        hidden_bias=None,
        activation=PerUnit([Polynomial((0.0, *each)) for each in ratios.T.tolist()]),
        output_weights=outputs,
        output_bias=offset,
    )
    orders = [tuple(p for p in range(1, degree + 1) if p != own + 1) for own in named]
    free = replace(layout, recurrent=False, hidden_bias=False, free_coefficients=tuple(orders))
    solver = GaussNewton(max_steps=STEPS)
    found = solver.minimise(SquaredError(), start, free, Engine("serial"), rows.source).model
    coefficients = free.weights(found)["coefficients"].reshape(k, degree - 1).T
    lengths = np.linalg.norm(found.input_weights, axis=1)
    b = _biases(coefficients, named, degree) / lengths
    return found.input_weights / lengths[:, None], b


def _biases(free: Array, named: Array, degree: int) -> Array:
    """Biases b of units c_l (z + b)^l with the coefficients e_1, .., e_l but for e_0.

    One of them is 1, the one of order 1 or l (`named` 0 or l - 1), and the others are `free`,
    (degree - 1, n_hidden): then e_(l-1) / e_l = l b, and e_1 / e_2 = b for degree 3.
    """
    linear, highest = 1.0 / (2.0 * free[0]), free[0] / 2.0
    if degree == 3:
        linear, highest = 1.0 / free[0], free[1] / 3.0
    return np.asarray(np.where(named == 0, linear, highest))
