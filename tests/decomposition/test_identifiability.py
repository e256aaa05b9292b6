"""Which tensors have components of their own, and which components noise alone could have made."""

import dataclasses

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.planted import planted, symmetric_noise, unit

from gloree.decomposition import (
    DecompositionStatus,
    choose_rank,
    cp_tensor,
    decompose,
    tensor_power_iteration,
)
from gloree.decomposition._errors import (
    MARGIN,
    component_covariance,
    distinct_components,
    noise_ceiling,
)
from gloree.decomposition._least_squares import Problem, gauss_newton_hessian

# algebra: entries of matrices of size 15, products of numbers near one
ALGEBRA = 1e-12
# noise below which the Hessian is singular to the accuracy of its entries, and clearly above it
ROUNDING = (0.0, 1e-13, 1e-11, 1e-9)
SMALL_NOISE = (1e-6, 1e-4, 1e-2)


def parallel_loadings(seed, *, rank=3, size=5, n_outputs=4):
    """The first two components can be rotated into each other, maybe hyperbolically."""
    _, components, loadings = planted(size, rank, n_outputs, seed=seed)
    loadings[1] = 1.7 * loadings[0]
    return components, loadings


def dependent_components(seed, *, rank=3, size=5, n_outputs=4):
    """Three symmetric rank-one matrices in the three dimensions that two directions span."""
    _, components, loadings = planted(size, rank, n_outputs, seed=seed)
    components[-1] = components[0] + components[1]
    return unit(components), loadings


KINDS = {"parallel loadings": parallel_loadings, "dependent components": dependent_components}


@pytest.mark.parametrize("kind", KINDS)
def test_the_hessian_of_a_tensor_with_other_decompositions_is_singular(kind):
    """Beyond the rank directions in which only lengths of rows change."""
    components, loadings = KINDS[kind](0)
    point = Problem(cp_tensor(loadings, components, 2)).evaluate(components)
    omega = loadings @ loadings.T
    hessian = gauss_newton_hessian(components, point.gram, point.factor, omega, 2)
    values = np.linalg.eigvalsh(hessian)
    rank = len(components)
    assert np.abs(values[: rank + 1]).max() < ALGEBRA * values[-1]
    _, components, loadings = planted(5, 3, 4)
    point = Problem(cp_tensor(loadings, components, 2)).evaluate(components)
    omega = loadings @ loadings.T
    hessian = gauss_newton_hessian(components, point.gram, point.factor, omega, 2)
    values = np.linalg.eigvalsh(hessian)
    assert np.abs(values[:rank]).max() < ALGEBRA * values[-1]
    assert values[rank] > 1e-4 * values[-1]


@pytest.mark.parametrize("noise", ROUNDING)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_tensors_with_other_decompositions_are_not_unique(kind, noise, seed):
    components, loadings = KINDS[kind](seed)
    draw = symmetric_noise(np.random.default_rng(seed), 4, 5, 2)
    result = decompose(cp_tensor(loadings, components, 2) + noise * draw, 3, random_state=seed)
    assert not result.accepted
    limit = DecompositionStatus.ITERATION_LIMIT
    assert result.status in (DecompositionStatus.NOT_UNIQUE, limit)
    assert "status" in result.objection


@pytest.mark.slow
@pytest.mark.parametrize("noise", first_of(SMALL_NOISE))
@pytest.mark.parametrize("kind", first_of(KINDS))
def test_noise_does_not_make_them_acceptable(kind, noise):
    for seed in range(2):
        components, loadings = KINDS[kind](seed)
        draw = symmetric_noise(np.random.default_rng(seed), 4, 5, 2)
        result = decompose(
            cp_tensor(loadings, components, 2) + noise * draw, 3, max_starts=6, random_state=seed
        )
        assert not result.accepted
        assert not result.distinct.all()


@pytest.mark.parametrize("order", [3, 4])
def test_parallel_loadings_are_unique_from_order_three_on(order):
    components, loadings = parallel_loadings(0)
    result = decompose(cp_tensor(loadings, components, order), 3, random_state=0)
    assert result.status is DecompositionStatus.EXACT
    assert result.accepted


def test_a_component_too_many_of_an_exact_tensor_is_not_accepted():
    """It fits what rounding left, or nothing at all."""
    for seed in range(3):
        result = decompose(planted(6, 3, 5, seed=seed).tensor, 4, random_state=0)
        assert not result.accepted
        assert not result.distinct[-1]


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_a_lone_component_is_distinct_above_what_noise_makes(order, factor):
    """A weight of (sqrt(n) + sqrt(p d) + 3) sigma: its direction has the variance 1 / (p w^2)."""
    rng = np.random.default_rng(order)
    size, n_outputs, deviation = 6, 3, 0.2
    weight = factor * deviation * (noise_ceiling(n_outputs, size, order) + MARGIN)
    row = unit(rng.standard_normal((1, size)))
    loadings = weight * unit(rng.standard_normal((1, n_outputs)))
    problem = Problem(cp_tensor(loadings, row, order))
    covariance = component_covariance(problem, problem.evaluate(row))
    np.testing.assert_allclose(
        covariance.largest_variances(), 1 / (order * weight**2), rtol=ALGEBRA
    )
    assert distinct_components(problem, deviation**2, covariance, 1)[0] == (factor > 1)


def test_one_component_too_many_is_named_and_not_accepted():
    """The one that noise made is the last: components are in order of decreasing loadings."""
    truth = planted(14, 11, 12, noise=0.05)
    found = decompose(truth.tensor, 12, random_state=0)
    assert found.component_error < 0.2
    assert not found.accepted
    assert np.flatnonzero(~found.distinct)[-1] == 11
    assert "11" in found.objection
    assert found.objection in str(found)
    assert decompose(truth.tensor, 11, random_state=0).accepted


def test_acceptance_asks_for_every_component():
    good = decompose(planted(10, 5, 5, noise=0.02)[0], 5, random_state=0)
    assert good.objection == ""
    distinct = np.array([True, True, False, True, True])
    other = dataclasses.replace(good, distinct=distinct)
    assert not other.accepted
    assert other.objection.startswith("noise might have made component(s) 2,")


@pytest.mark.slow
@pytest.mark.parametrize("snr", [100, 20, 10])
@pytest.mark.parametrize("cell", [(5, 3, 4), (8, 5, 8), (10, 8, 10), (14, 12, 12)], ids=str)
def test_one_component_too_many_is_never_accepted_and_the_right_number_is(cell, snr):
    size, rank, n_outputs = cell
    n_tensors, right, wrong = 25, 0, 0
    for seed in range(n_tensors):
        truth = planted(size, rank, n_outputs, noise=1 / snr, seed=100 + seed)
        right += decompose(truth.tensor, rank, random_state=seed).accepted
        fewer = planted(size, rank - 1, n_outputs, noise=1 / snr, seed=100 + seed)
        wrong += decompose(fewer.tensor, rank, random_state=seed).accepted
    assert wrong == 0
    # among tensors of the smallest size a few have components that noise of a tenth blurs
    assert right >= (0.8 if size == 5 else 0.92) * n_tensors


# ------------------------------------------------------------------------------------------ scale


@pytest.mark.parametrize("exponent", first_of([-990, -565, -1, 3, 530, 1000], 4))
@pytest.mark.parametrize("order", [2, 3])
def test_powers_of_two_scale_results_exactly(exponent, order):
    tensor = planted(6, 3, 4, order, noise=0.02).tensor
    scale = np.arange(1.0, 5.0)
    options = {"output_scale": scale, "random_state": 0}
    one = decompose(tensor, 3, **options)
    other = decompose(np.ldexp(tensor, exponent), 3, **options)
    np.testing.assert_array_equal(other.components, one.components)
    np.testing.assert_array_equal(other.loadings, np.ldexp(one.loadings, exponent))
    for name in ("status", "residual", "component_error", "loading_error", "accepted"):
        assert getattr(other, name) == getattr(one, name)
    power = tensor_power_iteration(np.ldexp(tensor, exponent), 3, random_state=0)
    np.testing.assert_array_equal(
        power.components, tensor_power_iteration(tensor, 3, random_state=0).components
    )
    halves = [planted(6, 3, 4, order, noise=0.02, seed=seed).tensor for seed in (0, 1)]
    chosen = choose_rank(*halves, random_state=0)
    scaled = choose_rank(*(np.ldexp(half, exponent) for half in halves), random_state=0)
    assert scaled.reason == chosen.reason
    np.testing.assert_array_equal(
        scaled.singular_values, np.ldexp(chosen.singular_values, exponent)
    )


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_metrics_of_any_scale_lead_to_the_same_components(scale):
    tensor = planted(6, 3, 4, noise=0.02).tensor
    root = np.tril(np.random.default_rng(0).standard_normal((6, 6))) + 3 * np.eye(6)
    plain = decompose(
        tensor, 3, output_scale=np.arange(1.0, 5.0), score_covariance=root @ root.T, random_state=0
    )
    scaled = decompose(
        tensor,
        3,
        output_scale=scale * np.arange(1.0, 5.0),
        score_covariance=scale * (root @ root.T),
        random_state=0,
    )
    # iteration: the minimum is the same, its last digits depend on rounding
    np.testing.assert_allclose(scaled.components, plain.components, atol=1e-9)
    np.testing.assert_allclose(scaled.loadings, plain.loadings, atol=1e-9)
    assert scaled.accepted


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_initial_rows_may_have_any_length(scale):
    truth = planted(6, 3, 4, noise=0.02)
    plain = decompose(truth.tensor, 3, initial=truth.components)
    scaled = decompose(truth.tensor, 3, initial=scale * truth.components)
    np.testing.assert_allclose(scaled.components, plain.components, atol=1e-9)


# -------------------------------------------------------------------------------- power iteration


@pytest.mark.parametrize("order", [2, 3])
def test_power_iteration_refuses_a_tensor_of_lower_rank(order):
    tensor = planted(6, 2, 4, order, signs=False).tensor
    with pytest.raises(ValueError, match="`rank` = 3 exceeds the rank of every combination"):
        tensor_power_iteration(tensor, 3, random_state=0)


def test_power_iteration_says_that_components_are_not_unique():
    components, loadings = parallel_loadings(0)
    tensor = cp_tensor(np.abs(loadings), components, 2)
    result = tensor_power_iteration(tensor, 3, random_state=0)
    assert result.status is DecompositionStatus.NOT_UNIQUE
    assert not result.accepted
