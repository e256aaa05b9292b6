"""Standard errors of all free weights at a refined model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy import linalg

from gloree.engine import Engine, Source
from gloree.models import CanonicalUnits, Network
from gloree.refinement._curvature import chunks
from gloree.refinement._gauss_newton import MOST_WEIGHTS
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import spread_sums
from gloree.refinement._solvers import Solution
from gloree.sequences import Array, IntArray

SPREAD_SEGMENTS, SPREAD_ROWS = (400, 1000), 100_000
"""Least and largest number of segments for the spread of the score, and their rows: standard errors
are then right to about 2 %, or 4 % where a thousand segments would have more rows."""


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of all free weights, for unit-norm rows a_i where scales are free.

    `covariance` of the parameter vector, (size, size), is a sandwich, clustered by sequence (by
    segment in long ones); `weights` are standard errors in the shapes of the weights.
    """

    covariance: Array = field(repr=False)
    weights: dict[str, Array]

    def shifted(self, layout: Layout, centre: Array) -> StandardErrors:
        """Those for inputs as given: b - A1 m and c - D^T m, where the fit is on x - m."""
        errors, index = dict(self.weights), layout.indices
        if layout.unit_bias:
            values = []
            for part in layout.directions:
                biases = index["hidden_bias"][part.units]
                rows = index[f"{part.prefix}input_weights"]
                values.append(self._of_sum(biases, rows, centre[part.columns]))
            errors["hidden_bias"] = np.concatenate(values)
        if layout.direct:
            rows = index["direct_weights"].T
            errors["output_bias"] = self._of_sum(index["output_bias"], rows, centre)
        return StandardErrors(self.covariance, errors)

    def _of_sum(self, places: IntArray, rows: IntArray, centre: Array) -> Array:
        """Standard errors of bias_i - weights_i . centre, from the indices of both."""
        direction = np.concatenate(([1.0], -centre))
        values = np.empty(places.shape[0])
        for i, (place, row) in enumerate(zip(places, rows, strict=True)):
            block = np.concatenate(([place], row))
            values[i] = direction @ self.covariance[np.ix_(block, block)] @ direction
        return np.asarray(np.sqrt(np.maximum(values, 0.0)))

    def canonical(self, units: CanonicalUnits, layout: Layout) -> StandardErrors:
        """Standard errors of the canonical form, whose units are scaled, signed and reordered."""
        scale, state, order = np.abs(units.scale), np.abs(units.state_scale), units.order
        errors = dict(self.weights)
        errors["output_weights"] = (errors["output_weights"] / state[:, None])[order]
        if "hidden_bias" in errors:
            errors["hidden_bias"] = (scale * errors["hidden_bias"])[order]
        for part in layout.directions:
            own, place = part.units, order[part.units] - part.units.start
            name = f"{part.prefix}input_weights"
            errors[name] = (scale[own, None] * errors[name])[place]
            name = f"{part.prefix}recurrent_weights"
            if name in errors:
                scaled = scale[own, None] * errors[name] / state[None, own]
                errors[name] = scaled[np.ix_(place, place)]
        return StandardErrors(self.covariance, errors)

    def relative(self, model: Network, layout: Layout) -> dict[str, float]:
        """Predicted relative error of each weight matrix: root sum of variances over its norm."""
        norms = {name: np.linalg.norm(values) for name, values in layout.weights(model).items()}
        return {
            name: float(np.linalg.norm(errors) / norms[name])
            for name, errors in self.weights.items()
            if norms[name] > 0
        }


def standard_errors(
    solution: Solution, layout: Layout, engine: Engine, source: Source
) -> StandardErrors:
    """Sandwich standard errors H^+ M H^+ at a refined model.

    M is the spread of the score summed over segments, from one more pass over (a systematic part
    of) the data; it needs neither equal nor Gaussian noise, and allows errors of one sequence to
    depend on each other. A ValueError if the solver formed no J^T J.
    """
    if solution.hessian is None:
        raise ValueError(
            f"`solution` has no J^T J, which standard errors need: `GaussNewton` forms it for up "
            f"to {MOST_WEIGHTS:,} weights, and there are {layout.size:,}"
        )
    model, H = solution.model, solution.hessian.hessian
    least, most = SPREAD_SEGMENTS
    wanted = SPREAD_ROWS * source.n_segments // source.data.n_rows
    chosen = source.sample(min(max(wanted, least), most))
    some = chunks(source, chosen, source.room * 2**19 // layout.size, source.batch_size)
    sums = engine.run(partial(spread_sums, model=model, layout=layout), some, label="spread")
    diagonal = np.where(np.diag(H) > 0, np.diag(H), 1.0)
    scale = 1.0 / np.sqrt(diagonal)
    fixed = layout.scale_constraints(model) * scale
    fixed /= np.maximum(np.linalg.norm(fixed, axis=1, keepdims=True), 1e-300)
    matrix = H * np.outer(scale, scale) + fixed.T @ fixed
    spread = sums.spread * (source.n_visited / sums.n_segments) * np.outer(scale, scale)
    try:
        factor = linalg.cho_factor(matrix)
        covariance = linalg.cho_solve(factor, linalg.cho_solve(factor, spread).T)
    except linalg.LinAlgError:
        inverse = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True)
        covariance = inverse @ spread @ inverse
    covariance = covariance * np.outer(scale, scale)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return StandardErrors(covariance, layout.named(errors))
