"""J^T J as a matrix."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import linalg

from gloree.engine import Engine, Source
from gloree.models import Network
from gloree.refinement._curvature import (
    LEAST_CURVATURE,
    Strata,
    chunks,
    hessian_rows,
)
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    hessian_sums,
    rows_at_once,
    segments_at_once,
)
from gloree.sequences import Array, Batch


class Matrix:
    """J^T J as a matrix, from a stratified subsample, corrected by the BFGS formula.

    Notes
    -----
    Time of the pass O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), of a step O(size^3).
    """

    def __init__(
        self, model: Network, layout: Layout, engine: Engine, source: Source, current: GradientSums
    ) -> None:
        self.layout = layout
        self.hessian = hessian_pass(model, layout, engine, source, current)
        self._corrected = self.hessian.hessian.copy()

    def step(self, model: Network, gradient: Array, damping: float) -> Array:
        """Solve with one Cholesky factor; see `Curvature`."""
        constraints = self.layout.scale_constraints(model)
        return solve_step(self._corrected, gradient, constraints, damping)

    def correct(self, step: Array, change: Array) -> None:
        """See `Curvature`."""
        along = float(step @ change)
        curved = self._corrected @ step
        expected = float(step @ curved)
        if along > LEAST_CURVATURE * expected > 0:
            self._corrected += np.outer(change, change) / along
            self._corrected -= np.outer(curved, curved) / expected


def stratified_sums(batch: Batch, model: Network, layout: Layout, strata: Strata) -> HessianSums:
    """Sums of one batch of segments of both strata, reweighted."""
    return hessian_sums(batch, model, layout, strata.weights_of(batch))


def hessian_pass(
    model: Network, layout: Layout, engine: Engine, source: Source, current: GradientSums
) -> HessianSums:
    """J^T J of all data from a stratified subsample of segments.

    `current` is what `gradient_sums` gives for the same model.
    """
    strata = Strata.of(source, current, hessian_rows(layout, source.n_rows))
    room = source.room
    n_segments = room * segments_at_once(layout)
    n_rows = min(source.batch_size, max(1, room // 8) * rows_at_once(layout))
    return engine.run(
        partial(stratified_sums, model=model, layout=layout, strata=strata),
        chunks(source, strata.segments, n_segments, n_rows),
        label="J^T J",
    )


def solve_step(curvature: Array, gradient: Array, constraints: Array, damping: float) -> Array:
    """Solve (H + damping diag(H) + C^T C) s = g, with rows and columns scaled to unit diagonal."""
    diagonal = np.diag(curvature).copy()
    diagonal[diagonal <= 0] = diagonal.max() if diagonal.max() > 0 else 1.0
    scale = 1.0 / np.sqrt(diagonal)
    matrix = curvature * np.outer(scale, scale)
    fixed = constraints * scale
    norms = np.linalg.norm(fixed, axis=1, keepdims=True)
    fixed = fixed / np.where(norms > 0, norms, 1.0)
    matrix += fixed.T @ fixed
    matrix[np.diag_indices_from(matrix)] += damping
    right = scale * gradient
    ridge = 0.0
    for _ in range(12):
        try:
            factor = linalg.cho_factor(matrix + ridge * np.eye(matrix.shape[0]))
        except linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-12)
            continue
        solved: Array = scale * linalg.cho_solve(factor, right)
        return solved
    return np.asarray(scale * np.linalg.lstsq(matrix, right, rcond=None)[0])
