"""The certificate: its two bounds against exact oracles, and what it accepts and refuses."""

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.planted import ALGEBRA, LOSS_RATIO, planted, symmetric_noise, unit

from gloree.decomposition import DecompositionStatus, cp_tensor, decompose
from gloree.decomposition._errors import (
    MARGIN,
    component_covariance,
    determined_components,
    largest_term,
    noise_ceiling,
    predicted_errors,
)
from gloree.decomposition._least_squares import Problem
from gloree.decomposition._levenberg_marquardt import minimise
from gloree.decomposition._search import Core, Starts, run_starts
from gloree.decomposition._tensor import NoiseMetric

# iteration: eight steps of the power iteration on a planted term shrink the rest by more than this
POWER = 1e-3
# statistics: standard errors that a mean may be above its bound
STANDARD_ERRORS = 4
# statistics: share of the ceiling that the mean of the maxima reaches, so that it is not idle
TIGHTNESS = 0.6
# statistics: a loss this many times the lowest is that of another minimum
WRONG = 1.01


@pytest.mark.parametrize(
    ("n_outputs", "size", "order"), [(1, 8, 2), (6, 8, 2), (1, 8, 3), (3, 5, 4)]
)
def test_noise_holds_no_rank_one_term_above_the_ceiling(n_outputs, size, order):
    rng = np.random.default_rng(order)
    ceiling = noise_ceiling(n_outputs, size, order)
    weights = []
    for _ in range(100):
        noise = symmetric_noise(rng, n_outputs, size, order).reshape(n_outputs, -1)
        weights.append(largest_term(noise, size))
    # statistics: weights vary by less than the standard deviation 1 of the noise
    assert np.mean(weights) < ceiling + STANDARD_ERRORS / np.sqrt(len(weights))
    assert np.max(weights) < ceiling + MARGIN
    assert np.mean(weights) > TIGHTNESS * ceiling


def test_largest_term_of_one_matrix_is_its_largest_eigenvalue():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    matrix = rotation @ np.diag([-5.0, 3, 2, 1, 0.5, 0.1]) @ rotation.T
    assert largest_term(matrix.reshape(1, -1), 6) == pytest.approx(5, rel=POWER)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_largest_term_of_orthogonal_components_is_the_largest_loading(order):
    rng = np.random.default_rng(order)
    components = np.linalg.qr(rng.standard_normal((7, 7)))[0][:3]
    loadings = np.diag([4.0, 2.0, 1.0]) @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    tensor = cp_tensor(loadings, components, order)
    assert largest_term(tensor.reshape(3, -1), 7) == pytest.approx(4, rel=POWER)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_errors_of_a_lone_component_are_those_of_the_rule(order):
    """sigma sqrt((d - 1) / p) / w of its direction and sigma sqrt(n) / w of its loadings."""
    rng = np.random.default_rng(order)
    size, n_outputs, weight, deviation = 6, 3, 5.0, 0.2
    row = unit(rng.standard_normal((1, size)))
    loadings = weight * unit(rng.standard_normal((1, n_outputs)))
    problem = Problem(cp_tensor(loadings, row, order))
    point = problem.evaluate(row)
    direction, loading = predicted_errors(
        problem, point, NoiseMetric(), deviation**2, component_covariance(problem, point)
    )
    expected = deviation * np.sqrt((size - 1) / order) / weight
    assert direction[0] == pytest.approx(expected, rel=ALGEBRA)
    assert loading[0] == pytest.approx(deviation * np.sqrt(n_outputs) / weight, rel=ALGEBRA)


@pytest.mark.parametrize("cell", [(12, 6, 6, 2), (8, 8, 8, 2), (8, 4, 3, 3), (6, 4, 4, 4)], ids=str)
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_one_certified_start_is_the_least_squares_solution(cell, noise):
    n_certified = 0
    for seed in range(5):
        tensor, components, _ = planted(*cell, noise=noise, seed=seed)
        result = decompose(tensor, cell[1], ridge=None, random_state=seed)
        reference = decompose(tensor, cell[1], initial=components, ridge=None)
        assert result.residual <= reference.residual * (1 + LOSS_RATIO)
        one = result.n_starts == 1
        assert not one or result.status is DecompositionStatus.CERTIFIED
        n_certified += one
    assert n_certified >= 3


@pytest.mark.parametrize("cell", [(5, 8, 1, 4), (8, 8, 3, 3), (10, 5, 1, 3), (6, 9, 9, 2)], ids=str)
@pytest.mark.parametrize("noise", first_of([0.002, 0.03]))
def test_wrong_minima_are_not_certified(cell, noise):
    rank, n_wrong = cell[1], 0
    for seed in range(4):
        tensor, components, _ = planted(*cell, noise=noise, seed=seed)
        problem = Problem(tensor)
        lowest = minimise(problem, components).point.loss
        starts = run_starts(Core(problem), rank, np.random.default_rng(seed), Starts(), 8)
        for point in starts.minima:
            if point.loss > lowest * WRONG:
                n_wrong += 1
                assert not determined_components(problem, point).all()
    assert n_wrong > 0


def test_a_missing_component_is_seen_in_the_residual():
    tensor, components, _ = planted(8, 5, 4, 3, noise=0.02, seed=0)
    problem = Problem(tensor)
    assert determined_components(problem, minimise(problem, components).point).all()
    without_last = minimise(problem, components[:4]).point
    assert not determined_components(problem, without_last).any()


def test_a_component_within_the_noise_is_undetermined_and_the_others_are_kept():
    loadings = np.array([[3.0], [-2.0], [0.02]])
    tensor, components, _ = planted(8, 3, 1, 3, noise=0.1, seed=0, loadings=loadings)
    problem = Problem(tensor)
    point = minimise(problem, components).point
    np.testing.assert_array_equal(determined_components(problem, point), [True, True, False])
    result = decompose(tensor, 3, ridge=None, random_state=0)
    assert result.n_starts > 1
    assert result.residual**2 <= 2 * point.loss * (1 + LOSS_RATIO)


def test_nothing_is_determined_without_degrees_of_freedom():
    tensor, components, _ = planted(10, 10, 2, 2, noise=0.01, seed=0)
    problem = Problem(tensor)
    assert not determined_components(problem, problem.evaluate(components)).any()
