"""The span of the units when there are many inputs, found before any tensor is formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._arrays import like, take_rows, to_host
from gloree._sums import Sums
from gloree.engine import Selection, Subset
from gloree.estimators._state import State
from gloree.models import Network
from gloree.moments import (
    Frame,
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    gaussian_probes,
    range_basis,
    range_sums,
    regression_sums,
)
from gloree.recurrence import top_degree
from gloree.sequences import Array, Batch
from gloree.states import residual_rows

RANGE_ROWS = 50
"""Rows for each input from which the span is found, at least."""

RANGE_WORK = 10**10
"""Rows times inputs times directions up to which all rows are used."""

START_RANGE_WORK = 5 * 10**9
"""The same where a refinement follows, which moves the span itself."""


def find_range(
    state: State, whitening: Whitening, size: int, model: Network | None = None
) -> Whitening:
    """Project the whitened inputs on the span of the units, found from second moments.

    With a model, the moments are those of its residuals plus its own: a second, much more
    accurate look once first weights are known.
    """
    engine, source, rng = state.settings.engine, state.calm, state.settings.rng
    cubic = state.settings.activation.degree == 3
    n_weights = 8 if cubic else min(state.n_outputs, 4)
    std = state.report.output_std
    assert std is not None
    weights = rng.standard_normal((state.n_outputs, n_weights))
    # for degree 3 the moment of order three, contracted with random directions
    directions = rng.standard_normal((whitening.n_directions, n_weights)) if cubic else None
    weights /= np.maximum(std, 1e-12 * std.max())[:, None]
    work = RANGE_WORK if state.settings.refine is None else START_RANGE_WORK
    rows = max(RANGE_ROWS * state.n_inputs, work // (state.n_inputs * size))
    seen = source.subset(rows) if rows < state.data.n_rows else source
    if model is not None:
        targets = partial(model_residuals, model=model, weights=weights)
    else:
        slopes = linear_fit(state, whitening, seen)
        targets = partial(
            linear_residuals,
            mean=whitening.mean,
            outputs=state.centred_outputs,
            slopes=whitening.matrix.T @ slopes @ weights,
            weights=weights,
            directions=None if directions is None else whitening.matrix.T @ directions,
        )
    # rows are not whitened, O(n_inputs^2) each: their sums are
    vectors = partial(centred_inputs, mean=whitening.mean)
    probes = gaussian_probes(whitening.n_directions, size, rng)
    for _ in range(2):
        function = partial(
            range_sums, vectors=vectors, targets=targets, probes=whitening.matrix.T @ probes
        )
        sums = engine.run(function, seen, label="range")
        columns = replace(sums, products=whitening.matrix @ sums.products).finalize(probes)
        if model is not None:
            columns = columns + _model_columns(model, whitening, weights, probes)
        basis = range_basis(columns, size)
        probes = basis
    return whitening.restrict(basis)


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


def plain_solver(state: State, whitening: Whitening, degree: int, some: Subset) -> RegressionSolver:
    """Factor the Gram matrix of `xreg` features, for the residual moments of the rounds."""
    features = RegressionFeatures(whitening, degree)
    sums = state.settings.engine.run(
        partial(regression_sums, features=features), some, label="Gram"
    )
    return RegressionSolver.from_sums(features, sums)


def linear_fit(state: State, whitening: Whitening, seen: Selection) -> Array:
    """Least squares of y on the whitened inputs, shape (n_directions, n_outputs)."""
    function = partial(slope_sums, mean=whitening.mean, outputs=state.centred_outputs)
    sums = state.settings.engine.run(function, seen, label="linear")
    slopes: Array = whitening.matrix @ sums.cross / sums.n_rows
    return slopes


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


def _model_columns(model: Network, whitening: Whitening, weights: Array, probes: Array) -> Array:
    """What a quadratic model adds to `RangeSums.finalize`: (w.A2_i) 2 c a~_i (a~_i Omega)."""
    components = Frame.of_whitening(whitening).components(model)
    leading = 2.0 * top_degree(model)[1] * model.output_weights @ weights
    seen = components @ probes
    return np.concatenate([components.T @ (column[:, None] * seen) for column in leading.T], axis=1)
