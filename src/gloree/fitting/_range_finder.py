"""Directions of the units among many inputs, found before any tensor is formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._arrays import like, take_rows, to_host
from gloree._sums import Sums
from gloree.engine import Selection, Subset
from gloree.fitting._inputs import InputSummary
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem, centred_outputs
from gloree.models import Network
from gloree.moments import (
    Coordinates,
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    range_basis,
    range_sums,
    regression_sums,
)
from gloree.recurrence import top_degree
from gloree.sequences import Array, Batch
from gloree.states import residual_rows

RANGE_ROWS = 50
"""Rows for each input from which the directions are found, at least."""

RANGE_WORK = 10**10
"""Rows times inputs times directions up to which all rows are used."""

START_RANGE_WORK = 5 * 10**9
"""The same where a refinement follows, which moves the directions itself."""

OUTPUT_MIXTURES, CUBIC_MIXTURES = 4, 8
"""Random combinations of the outputs whose moments are looked at, at most; for degree 3 each comes
with a random direction of the inputs."""

POWER_ITERATIONS = 2
"""Passes of the range finder."""


def find_range(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    size: int,
    model: Network | None = None,
) -> Whitening:
    """Project the whitened inputs on the span of the units, found from second moments.

    With a model, the moments are those of its residuals plus its own: a second, much more
    accurate estimate once first weights are known. The whitening has `size` coordinates.
    """
    source, rng, whitening = inputs.inliers, problem.rng, inputs.whitening
    cubic = problem.settings.activation.degree == 3
    n_weights = CUBIC_MIXTURES if cubic else min(problem.n_outputs, OUTPUT_MIXTURES)
    weights = rng.standard_normal((problem.n_outputs, n_weights))
    # for degree 3 the moment of order three, contracted with random directions
    directions = rng.standard_normal((whitening.n_directions, n_weights)) if cubic else None
    weights /= np.maximum(outputs.std, 1e-12 * outputs.std.max())[:, None]
    work = RANGE_WORK if problem.settings.solver is None else START_RANGE_WORK
    rows = max(RANGE_ROWS * problem.n_inputs, work // (problem.n_inputs * size))
    some: Selection = source.subset(rows) if rows < problem.data.n_rows else source
    if model is not None:
        targets = partial(model_residuals, model=model, weights=weights)
    else:
        targets = partial(
            linear_residuals,
            mean=whitening.mean,
            outputs=partial(centred_outputs, mean=outputs.mean),
            slopes=whitening.matrix.T @ _linear_fit(problem, outputs, whitening, some) @ weights,
            weights=weights,
            directions=None if directions is None else whitening.matrix.T @ directions,
        )
    # rows are not whitened, O(n_inputs^2) each: their sums are
    vectors = partial(centred_inputs, mean=whitening.mean)
    probes = rng.standard_normal((whitening.n_directions, size))
    basis = probes
    for _ in range(POWER_ITERATIONS):
        function = partial(
            range_sums, vectors=vectors, targets=targets, probes=whitening.matrix.T @ probes
        )
        sums = problem.engine.run(function, some, label="range")
        columns = replace(sums, products=whitening.matrix @ sums.products).finalize(probes)
        if model is not None:
            columns = columns + _model_columns(model, whitening, weights, probes)
        probes = basis = range_basis(columns, size)
    return whitening.restrict(basis)


def plain_residual(problem: FitProblem, whitening: Whitening, rows: Subset) -> RegressionSolver:
    """Residual moments by regression on the inputs alone: one pass for the Gram matrix."""
    features = RegressionFeatures(whitening, problem.degree)
    sums = problem.engine.run(partial(regression_sums, features=features), rows, label="Gram")
    return RegressionSolver.from_sums(features, sums)


def centred_inputs(batch: Batch, mean: Array) -> Array:
    """Inputs of a batch less their mean."""
    values: Array = batch.X - like(batch.X, mean)
    return values


def model_residuals(batch: Batch, model: Network, weights: Array) -> Array:
    """Residuals of a model, combined with `weights`, shape (n_rows, n_weights)."""
    residuals = residual_rows(model, batch)
    combined: Array = residuals @ like(residuals, weights)
    return combined


def linear_residuals(
    batch: Batch,
    mean: Array,
    outputs: Callable[[Batch], Array],
    slopes: Array,
    weights: Array,
    directions: Array | None,
) -> Array:
    """Residuals of a linear fit, combined, and times the inputs along `directions`."""
    inputs = centred_inputs(batch, mean)
    left = outputs(batch)
    combined: Array = left @ like(left, weights) - inputs @ like(inputs, slopes)
    return combined if directions is None else combined * (inputs @ like(inputs, directions))


@dataclass(frozen=True)
class SlopeSums(Sums):
    """Sums of outputs times centred inputs."""

    n_rows: float
    cross: Array


def slope_sums(batch: Batch, mean: Array, outputs: Callable[[Batch], Array]) -> SlopeSums:
    """Map of the pass over centred inputs and outputs."""
    rows = batch.counted
    cross = take_rows(centred_inputs(batch, mean), rows).T @ take_rows(outputs(batch), rows)
    return SlopeSums(float(batch.n_counted), to_host(cross))


def _linear_fit(
    problem: FitProblem, outputs: OutputSummary, whitening: Whitening, some: Selection
) -> Array:
    """Least squares of y on the whitened inputs, shape (n_directions, n_outputs)."""
    targets = partial(centred_outputs, mean=outputs.mean)
    function = partial(slope_sums, mean=whitening.mean, outputs=targets)
    sums = problem.engine.run(function, some, label="linear")
    return np.asarray(whitening.matrix @ sums.cross / sums.n_rows)


def _model_columns(model: Network, whitening: Whitening, weights: Array, probes: Array) -> Array:
    """What a quadratic model adds to `RangeSums.finalize`: (w.A2_i) 2 c a~_i (a~_i Omega)."""
    components = Coordinates.of_whitening(whitening).components(model)
    leading = 2.0 * top_degree(model)[1] * model.output_weights @ weights
    seen = components @ probes
    return np.concatenate([components.T @ (column[:, None] * seen) for column in leading.T], axis=1)
