"""The projected least-squares problem: its derivatives, its minimum, its predicted errors."""

import numpy as np
import pytest
from planted import symmetric_noise, unit
from scipy.linalg import null_space

from gloree.decomposition import cp_tensor, decompose
from gloree.decomposition._errors import predicted_errors
from gloree.decomposition._lm import minimise
from gloree.decomposition._newton import exact_hessian
from gloree.decomposition._outcome import solve_loadings
from gloree.decomposition._problem import Problem, gauss_newton_hessian
from gloree.decomposition._whitening import NoiseMetric

# algebra: rounding times the condition of small Gram matrices
ALGEBRA = 1e-10
# central differences with step h have error h^2 + eps / h, second differences h^2 + eps / h^2
DIFFERENCE, SECOND_DIFFERENCE = 1e-6, 1e-5


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
    assert point.loss == pytest.approx(np.sum(residual**2) / (2 * problem.squared_norm))


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
        h = 1e-5
        ahead, behind = loss(point.components + h * move), loss(point.components - h * move)
        assert np.vdot(gradient, move) == pytest.approx((ahead - behind) / (2 * h), abs=DIFFERENCE)
        h = 1e-3
        ahead, behind = loss(point.components + h * move), loss(point.components - h * move)
        slope = (ahead + behind - 2 * point.loss) / h**2
        curvature = move.ravel() @ hessian @ move.ravel()
        assert curvature == pytest.approx(slope, abs=SECOND_DIFFERENCE * np.abs(hessian).max() * 10)


def jacobians(problem, point):
    """Numerical Jacobians of the model in A and in W, as (entries, parameters) matrices."""
    order, h = problem.order, 1e-6
    columns = []
    for index in np.ndindex(point.components.shape):
        step = np.zeros_like(point.components)
        step[index] = h
        ahead = cp_tensor(point.loadings, point.components + step, order)
        behind = cp_tensor(point.loadings, point.components - step, order)
        columns.append((ahead - behind).ravel() / (2 * h))
    by_components = np.stack(columns, axis=1)
    columns = []
    for index in np.ndindex(point.loadings.shape):
        step = np.zeros_like(point.loadings)
        step[index] = 1.0
        columns.append(cp_tensor(step, point.components, order).ravel())
    return by_components, np.stack(columns, axis=1)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("rank", [2, 3, 5])
def test_gauss_newton_hessian_is_jtj_after_projecting_out_the_loadings(order, rank):
    problem, point, _ = setting(order, rank)
    by_components, by_loadings = jacobians(problem, point)
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
    metric = NoiseMetric(n_outputs, size, root @ root.T, scales)
    jacobian = np.hstack(jacobians(problem, point))
    lengths = np.zeros((rank, jacobian.shape[1]))
    for m in range(rank):
        lengths[m, m * size : (m + 1) * size] = point.components[m]
    tangent = null_space(lengths)
    covariance = tangent @ np.linalg.inv((jacobian @ tangent).T @ (jacobian @ tangent)) @ tangent.T

    def restored(flat):
        rows = flat[: rank * size].reshape(rank, size)
        weights = flat[rank * size :].reshape(rank, n_outputs)
        rows, weights, _ = metric.restore(rows, weights, order)
        return np.concatenate([rows.ravel(), weights.ravel()])

    centre = np.concatenate([point.components.ravel(), point.loadings.ravel()])
    h = 1e-6
    moves = np.eye(len(centre)) * h
    mapping = np.stack([(restored(centre + m) - restored(centre - m)) / (2 * h) for m in moves], 1)
    variances = np.diag(mapping @ covariance @ mapping.T)
    expected_rows = np.sqrt(variances[: rank * size].reshape(rank, size).sum(axis=1))
    sizes = np.linalg.norm(restored(centre)[rank * size :].reshape(rank, n_outputs), axis=1)
    spread = variances[rank * size :].reshape(rank, n_outputs).sum(axis=1)
    rows, weights = predicted_errors(problem, point, metric, 1.0)
    np.testing.assert_allclose(rows, expected_rows, rtol=1e3 * DIFFERENCE)
    np.testing.assert_allclose(weights, np.sqrt(spread) / sizes, rtol=1e3 * DIFFERENCE)


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
    assert end.converged
    assert np.abs(problem.gradient(end.point)).max() < 1e-7 * first


@pytest.mark.parametrize(
    ("size", "rank", "n_outputs", "order"), [(10, 5, 4, 2), (6, 8, 8, 2), (8, 4, 1, 3)]
)
def test_predicted_standard_errors_are_calibrated(size, rank, n_outputs, order):
    rng = np.random.default_rng(1)
    components = unit(rng.standard_normal((rank, size)))
    loadings = rng.standard_normal((rank, n_outputs))
    truth = cp_tensor(loadings, components, order)
    level = 0.002 * np.linalg.norm(truth) / np.sqrt(truth.size)
    n_draws = 60
    actual, predicted = np.zeros(2), np.zeros(2)
    for _ in range(n_draws):
        # symmetric_noise has unit variance per independent direction of the Frobenius norm
        tensor = truth + level * symmetric_noise(rng, n_outputs, size, order)
        fit = decompose(tensor, rank, initial=components, ridge=None)
        cosines = fit.components @ components.T
        match = np.abs(cosines).argmax(axis=1)
        assert sorted(match) == list(range(rank))
        signs = np.sign(cosines[np.arange(rank), match])[:, None]
        weights = fit.loadings * (signs if order % 2 else 1.0)
        sizes = np.linalg.norm(loadings[match], axis=1)
        actual += [
            np.sum((signs * fit.components - components[match]) ** 2),
            np.sum(((weights - loadings[match]) / sizes[:, None]) ** 2),
        ]
        predicted += [np.sum(fit.component_errors**2), np.sum(fit.loading_errors**2)]
    # statistics: mean squares over 60 draws of >= 8 parameters; 5 standard errors of a chi-square
    # ratio with the fewest effective degrees of freedom seen (about 4 per draw)
    band = 5 * np.sqrt(2 / (4 * n_draws))
    np.testing.assert_allclose(actual / predicted, 1.0, atol=band)
