"""Sums of derivatives against central differences of a naive network."""

import numpy as np

from gloree.refinement import gradient_sums, hessian_sums, spread_sums, square_sums
from helpers import naive
from helpers.comparisons import assert_close
from helpers.differences import by_weights

# Central differences at STEP: an error of STEP^2 times a third derivative, and eps / STEP of
# rounding, both relative to the size of the predictions.
STEP = 1e-5
DIFFERENCES = 2e-8
# Two exact algorithms for the same sums of a hundred terms.
ALGEBRA = 1e-11


def assert_derivatives(model, layout, batch, data):
    """Squared error, gradient, J^T J and spread of the counted rows are those of the network."""
    predictions, owners = naive.counted(model, batch, data)
    residuals = batch.targets[batch.counted] - predictions
    J = by_weights(lambda moved: naive.counted(moved, batch, data)[0], model, layout, STEP)
    tolerance = DIFFERENCES * max(1.0, np.abs(J).max()) * np.sqrt(len(owners))

    gradient = gradient_sums(batch, model, layout)
    assert gradient.n_rows == len(owners) == batch.n_counted
    assert_close(gradient.squares, np.sum(residuals**2, axis=0), ALGEBRA)
    assert_close(square_sums(batch, model).squares, gradient.squares, ALGEBRA)
    assert_close(gradient.gradient, np.einsum("tap,ta->p", J, residuals), tolerance)

    hessian = hessian_sums(batch, model, layout)
    assert hessian.n_rows == len(owners)
    assert_close(hessian.hessian, np.einsum("tap,taq->pq", J, J), tolerance)
    weights = np.linspace(0.5, 2.0, len(batch.lengths))
    weighted = np.einsum("t,tap,taq->pq", weights[owners], J, J)
    assert_close(hessian_sums(batch, model, layout, weights).hessian, weighted, tolerance)

    root = np.eye(layout.n_outputs) + 0.5 * np.tri(layout.n_outputs)
    metric = root @ root.T
    aimed = np.einsum("tap,ab,tbq->pq", J, metric, J)
    found = hessian_sums(batch, model, layout, metric=metric).hessian
    assert_close(found, aimed, tolerance * np.linalg.norm(metric, 2))

    spread = spread_sums(batch, model, layout)
    assert spread.n_segments == len(batch.lengths)
    segments = [owners == s for s in range(len(batch.lengths))]
    scores = [np.einsum("tap,ta->p", J[rows], residuals[rows]) for rows in segments]
    # the scale of the slopes enters a second time
    scale = tolerance / DIFFERENCES
    assert_close(spread.spread, sum(np.outer(g, g) for g in scores), tolerance * scale)
