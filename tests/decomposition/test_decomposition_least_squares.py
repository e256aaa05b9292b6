"""The projected least-squares problem: its derivatives, its minimum, its predicted errors."""

import numpy as np
import pytest
from helpers.planted import (
    ALGEBRA,
    DIFFERENCE,
    FIRST_STEP,
    JACOBIAN_STEP,
    SECOND_DIFFERENCE,
    SECOND_STEP,
    aligned,
    dense_jacobians,
    symmetric_noise,
    unit,
)
from scipy.linalg import null_space

from gloree.decomposition import cp_tensor, decompose
from gloree.decomposition._errors import component_covariance, predicted_errors
from gloree.decomposition._least_squares import (
    Problem,
    exact_hessian,
    gauss_newton_hessian,
    solve_loadings,
)
from gloree.decomposition._levenberg_marquardt import Ending, minimise
from gloree.decomposition._tensor import NoiseMetric

# algebra: a quadratic form of a unit move sums as many entries as there are unknowns, 12 or more
UNKNOWNS = 10
# algebra: differences, times the condition of the Jacobian that is inverted
INVERTED_DIFFERENCE = 1e3 * DIFFERENCE
# iteration: gradient at the end, over the first loss: the square root of the last decrease, 1e-13
STATIONARY = 1e-7
# statistics: mean squares of at least 8 parameters have about 4 effective degrees of freedom in a
# draw, the fewest seen
STANDARD_ERRORS, FREEDOM_OF_A_DRAW = 5, 4


def setting(order, rank=3, size=4, n_outputs=3, penalty=0.0):
    rng = np.random.default_rng(10 * order + rank)
    tensor = symmetric_noise(rng, n_outputs, size, order)
    problem = Problem(tensor, penalty)
    return problem, problem.evaluate(unit(rng.standard_normal((rank, size)))), rng


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("rank", [3, 6])
def test_eliminated_loadings_equal_dense_least_squares(order, rank):
    problem, point, _ = setting(order, rank)
    design = np.stack([cp_tensor([[1.0]], row[None], order).ravel() for row in point.components], 1)
    expected = np.linalg.lstsq(design, problem.flat.T, rcond=None)[0]
    np.testing.assert_allclose(point.loadings, expected, atol=ALGEBRA, rtol=ALGEBRA)
    by_qr = solve_loadings(problem.tensor, point.components)
    np.testing.assert_allclose(by_qr, expected, atol=ALGEBRA, rtol=ALGEBRA)
    residual = design @ expected - problem.flat.T
    assert point.loss == pytest.approx(
        np.sum(residual**2) / (2 * problem.squared_norm), rel=ALGEBRA
    )


@pytest.mark.parametrize(
    ("order", "rank", "penalty"),
    [(2, 3, 0.0), (2, 6, 0.0), (3, 3, 0.0), (3, 6, 0.0), (4, 3, 0.0), (2, 3, 0.3), (3, 3, 0.3)],
)
def test_gradient_and_exact_hessian_match_finite_differences(order, rank, penalty):
    problem, point, rng = setting(order, rank, penalty=penalty)
    gradient, hessian = problem.gradient(point), exact_hessian(problem, point)

    def loss(rows):
        return problem.evaluate(unit(rows)).loss

    for _ in range(3):
        move = rng.standard_normal(point.components.shape)
        move -= (move * point.components).sum(axis=1)[:, None] * point.components
        move /= np.linalg.norm(move)
        h = FIRST_STEP
        ahead, behind = loss(point.components + h * move), loss(point.components - h * move)
        assert np.vdot(gradient, move) == pytest.approx((ahead - behind) / (2 * h), abs=DIFFERENCE)
        h = SECOND_STEP
        ahead, behind = loss(point.components + h * move), loss(point.components - h * move)
        slope = (ahead + behind - 2 * point.loss) / h**2
        curvature = move.ravel() @ hessian @ move.ravel()
        tolerance = SECOND_DIFFERENCE * np.abs(hessian).max() * UNKNOWNS
        assert curvature == pytest.approx(slope, abs=tolerance)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("rank", [2, 3, 5])
def test_gauss_newton_hessian_is_jtj_after_projecting_out_the_loadings(order, rank):
    _, point, _ = setting(order, rank)
    by_components, by_loadings = dense_jacobians(point.loadings, point.components, order)
    orthogonal = np.linalg.qr(by_loadings)[0]
    projected = by_components - orthogonal @ (orthogonal.T @ by_components)
    omega = point.loadings @ point.loadings.T
    hessian = gauss_newton_hessian(point.components, point.gram, point.factor, omega, order)
    expected = projected.T @ projected
    np.testing.assert_allclose(hessian, expected, atol=DIFFERENCE * np.abs(expected).max())


@pytest.mark.parametrize(("rank", "size"), [(3, 4), (2, 5), (5, 4)])
@pytest.mark.parametrize("order", [2, 3])
def test_predicted_errors_are_the_delta_method_of_the_full_jacobian(rank, size, order):
    """Through a noise metric too: the dense covariance mapped to user coordinates."""
    rng = np.random.default_rng(5)
    n_outputs = 4
    problem = Problem(symmetric_noise(rng, n_outputs, size, order))
    point = problem.evaluate(unit(rng.standard_normal((rank, size))))
    root = rng.standard_normal((size, size)) + 2 * np.eye(size)
    scales = np.exp(rng.standard_normal(n_outputs))
    metric = NoiseMetric.of(problem.tensor, root @ root.T, scales)
    jacobian = np.hstack(dense_jacobians(point.loadings, point.components, order))
    lengths = np.zeros((rank, jacobian.shape[1]))
    for m in range(rank):
        lengths[m, m * size : (m + 1) * size] = point.components[m]
    tangent = null_space(lengths)
    covariance = tangent @ np.linalg.inv((jacobian @ tangent).T @ (jacobian @ tangent)) @ tangent.T

    def restored(flat):
        rows = flat[: rank * size].reshape(rank, size)
        weights = flat[rank * size :].reshape(rank, n_outputs)
        rows, weights = metric.restore(rows, weights, order)
        return np.concatenate([rows.ravel(), weights.ravel()])

    centre = np.concatenate([point.components.ravel(), point.loadings.ravel()])
    h = JACOBIAN_STEP
    moves = np.eye(len(centre)) * h
    mapping = np.stack([(restored(centre + m) - restored(centre - m)) / (2 * h) for m in moves], 1)
    variances = np.diag(mapping @ covariance @ mapping.T)
    expected_rows = np.sqrt(variances[: rank * size].reshape(rank, size).sum(axis=1))
    sizes = np.linalg.norm(restored(centre)[rank * size :].reshape(rank, n_outputs), axis=1)
    spread = variances[rank * size :].reshape(rank, n_outputs).sum(axis=1)
    covariance = component_covariance(problem, point)
    rows, weights = predicted_errors(problem, point, metric, 1.0, covariance)
    np.testing.assert_allclose(rows, expected_rows, rtol=INVERTED_DIFFERENCE)
    np.testing.assert_allclose(weights, np.sqrt(spread) / sizes, rtol=INVERTED_DIFFERENCE)


def test_a_minimum_is_stationary_and_the_loss_never_rises():
    rng = np.random.default_rng(3)
    problem = Problem(symmetric_noise(rng, 5, 6, 2))
    start = unit(rng.standard_normal((4, 6)))
    first = problem.evaluate(start).loss
    losses = [first]
    for limit in range(1, 40, 3):
        losses.append(minimise(problem, start, max_iterations=limit).point.loss)
    assert (np.diff(losses) <= 0).all()
    end = minimise(problem, start, max_iterations=1000)
    assert end.ending is Ending.CONVERGED
    assert np.abs(problem.gradient(end.point)).max() < STATIONARY * first


@pytest.mark.parametrize(
    ("size", "rank", "n_outputs", "order"), [(10, 5, 4, 2), (6, 8, 8, 2), (8, 4, 1, 3)]
)
def test_predicted_standard_errors_are_calibrated(size, rank, n_outputs, order):
    rng = np.random.default_rng(1)
    components = unit(rng.standard_normal((rank, size)))
    loadings = rng.standard_normal((rank, n_outputs))
    truth = cp_tensor(loadings, components, order)
    level = 0.002 * np.linalg.norm(truth) / np.sqrt(truth.size)
    sizes = np.linalg.norm(loadings, axis=1, keepdims=True)
    n_draws = 60
    actual, predicted = np.zeros(2), np.zeros(2)
    for _ in range(n_draws):
        # symmetric_noise has unit variance per independent direction of the Frobenius norm
        tensor = truth + level * symmetric_noise(rng, n_outputs, size, order)
        fit = decompose(tensor, rank, initial=components, ridge=None)
        rows, weights = aligned(fit, components)
        actual += [np.sum((rows - components) ** 2), np.sum(((weights - loadings) / sizes) ** 2)]
        predicted += [np.sum(fit.component_errors**2), np.sum(fit.loading_errors**2)]
    # statistics: a mean of squares has the relative standard error of a chi-square
    band = STANDARD_ERRORS * np.sqrt(2 / (FREEDOM_OF_A_DRAW * n_draws))
    np.testing.assert_allclose(actual / predicted, 1.0, atol=band)
