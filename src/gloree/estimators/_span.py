"""The span of the units when there are many inputs, found before any tensor is formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._arrays import like, to_host
from gloree._sums import Sums
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
from gloree.sequences import Array, Batch, IntArray
from gloree.states import residual_rows


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
    if model is not None:
        targets = partial(model_residuals, model=model, weights=weights)
    else:
        targets = partial(
            linear_residuals,
            whitening=whitening,
            outputs=state.centred_outputs,
            slopes=linear_fit(state, whitening),
            weights=weights,
            directions=directions,
        )
    vectors = partial(whitened_inputs, whitening=whitening)
    probes = gaussian_probes(whitening.n_directions, size, rng)
    for _ in range(2):
        sums = engine.run(
            partial(range_sums, vectors=vectors, targets=targets, probes=probes),
            source,
            label="range",
        )
        columns = sums.finalize(probes)
        if model is not None:
            columns = columns + _model_columns(model, whitening, weights, probes)
        basis = range_basis(columns, size)
        probes = basis
    return whitening.restrict(basis)


def whitened_inputs(batch: Batch, whitening: Whitening) -> Array:
    """Whitened inputs of a batch."""
    return whitening(batch.X)


def model_residuals(batch: Batch, model: Network, weights: Array) -> Array:
    """Residuals of a model, combined with `weights`, shape (n_rows, n_weights)."""
    residuals = residual_rows(model, batch)
    combined: Array = residuals @ like(residuals, weights)
    return combined


def linear_residuals(
    batch: Batch,
    whitening: Whitening,
    outputs: Callable[[Batch], Array],
    slopes: Array,
    weights: Array,
    directions: Array | None,
) -> Array:
    """Residuals of a linear fit, combined, and times the inputs along `directions`."""
    inputs = whitening(batch.X)
    left = outputs(batch) - inputs @ like(inputs, slopes)
    combined: Array = left @ like(left, weights)
    return combined if directions is None else combined * (inputs @ like(inputs, directions))


def plain_solver(
    state: State, whitening: Whitening, degree: int, tables: list[IntArray]
) -> RegressionSolver:
    """Factor the Gram matrix of `xreg` features, for the residual moments of the rounds."""
    features = RegressionFeatures(whitening, degree)
    sums = state.settings.engine.run(
        partial(regression_sums, features=features), state.calm, label="Gram", tables=tables
    )
    return RegressionSolver.from_sums(features, sums)


def linear_fit(state: State, whitening: Whitening) -> Array:
    """Least squares of y on the whitened inputs, shape (n_directions, n_outputs)."""
    function = partial(slope_sums, whitening=whitening, outputs=state.centred_outputs)
    sums = state.settings.engine.run(function, state.calm, label="linear")
    slopes: Array = sums.cross / sums.n_rows
    return slopes


@dataclass(frozen=True)
class SlopeSums(Sums):
    """Sums of outputs times whitened inputs."""

    n_rows: float
    cross: Array


def slope_sums(batch: Batch, whitening: Whitening, outputs: Callable[[Batch], Array]) -> SlopeSums:
    """Map of the pass over whitened inputs and outputs."""
    rows = batch.counted
    cross = whitening(batch.X[rows]).T @ outputs(batch)[rows]
    return SlopeSums(float(batch.n_counted), to_host(cross))


def _model_columns(model: Network, whitening: Whitening, weights: Array, probes: Array) -> Array:
    """What a quadratic model adds to `RangeSums.finalize`: (w.A2_i) 2 c a~_i (a~_i Omega)."""
    components = Frame.of_whitening(whitening).components(model)
    leading = 2.0 * top_degree(model)[1] * model.output_weights @ weights
    seen = components @ probes
    return np.concatenate([components.T @ (column[:, None] * seen) for column in leading.T], axis=1)
