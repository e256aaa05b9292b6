"""Predicted errors, what is determined, and noise of scores: by dense matrices and plain loops."""

from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest
from helpers.planted import ALGEBRA, planted, unit

from gloree.decomposition import _score_noise as noise
from gloree.decomposition import choose_rank, cp_tensor, decompose
from gloree.decomposition._decompose import _check_initial, _fixed_penalty
from gloree.decomposition._errors import (
    ComponentCovariance,
    _inverse,
    component_covariance,
    determined_components,
    distinct_components,
    largest_term,
    noise_ceiling,
    predicted_errors,
)
from gloree.decomposition._least_squares import (
    Problem,
    gauss_newton_hessian,
    matrix_minimum,
    solve_loadings,
)
from gloree.decomposition._result import DecompositionStatus, Outcome, _status
from gloree.decomposition._tensor import NoiseMetric, check_tensor, multiply_modes, unit_scale
from gloree.score_functions import hermite_tensor

# Inverses of small matrices of conditions up to 1e4.
INVERSE = 1e-8
SIZE, N_OUTPUTS = 6, 3


@pytest.mark.parametrize("order", [2, 3])
def test_covariance_of_components_is_the_pseudo_inverse_on_the_tangent_space(order):
    """(J^T J)^+: zero along each row, whose length is fixed."""
    tensor, components, _ = planted(3, 3, 5, order, noise=0.05)
    problem = Problem(tensor)
    point = problem.evaluate(components)
    omega = point.loadings @ point.loadings.T
    H = gauss_newton_hessian(components, point.gram, point.factor, omega, order)
    found = component_covariance(problem, point)
    expected = np.linalg.pinv(H, rcond=1e-9, hermitian=True)
    np.testing.assert_allclose(found.blocks.reshape(9, 9), expected, rtol=1e-6, atol=INVERSE)
    own = expected.reshape(3, 3, 3, 3)[np.arange(3), :, np.arange(3)]
    largest = [np.linalg.eigvalsh(each)[-1] for each in own]
    np.testing.assert_allclose(found.largest_variances(), largest, rtol=1e-6)
    assert np.all(found.outside == 0)


def test_directions_off_the_span_have_the_variance_of_a_small_matrix():
    tensor, components, _ = planted(7, 2, 5, 3, noise=0.05)
    problem = Problem(tensor)
    point = problem.evaluate(components)
    found = component_covariance(problem, point)
    omega = 3 * (point.loadings @ point.loadings.T) * point.gram**2
    np.testing.assert_allclose(found.outside, np.diag(np.linalg.inv(omega)), rtol=INVERSE)
    assert np.all(found.largest_variances() >= found.outside)


def test_inflation_is_the_largest_variance_at_unit_diagonal():
    matrix = np.array([[4.0, 3.0], [3.0, 9.0]])
    inverse, inflation = _inverse(matrix)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=ALGEBRA)
    assert inflation == pytest.approx(1.0 / (1.0 - 0.25), rel=ALGEBRA)
    for wrong in (np.diag([1.0, 0.0]), np.diag([1.0, -1.0])):
        with pytest.raises(np.linalg.LinAlgError):
            _inverse(wrong)


@pytest.mark.parametrize(("inflation", "singular"), [(1e11, False), (1.01e11, True)])
def test_a_hessian_is_singular_where_variances_inflate_by_a_hundred_billion(inflation, singular):
    given = ComponentCovariance(
        np.eye(1), np.eye(1), np.zeros((1, 1, 1, 1)), np.zeros(1), inflation
    )
    assert given.is_singular is singular
    problem = Problem(cp_tensor([[1.0]], [[1.0, 0.0]], 2))
    assert distinct_components(problem, 1.0, given, 1).tolist() == [not singular]
    assert not distinct_components(problem, np.inf, given, 1).any()
    assert not distinct_components(problem, 1.0, None, 1).any()


def lone(weight, order, extra=0.0):
    """A component of this weight, and another one that is left in the residual."""
    rng = np.random.default_rng(order)
    rows = np.linalg.qr(rng.standard_normal((SIZE, 2)))[0].T
    loadings = np.linalg.qr(rng.standard_normal((N_OUTPUTS, 2)))[0].T * [[weight], [extra]]
    problem = Problem(cp_tensor(loadings, rows, order))
    freedom = N_OUTPUTS * len(symmetric_entries(order)) - (SIZE + N_OUTPUTS - 1)
    # a loss by which the noise of an entry is one
    point = problem.evaluate(rows[:1])._replace(loss=freedom / (2 * problem.squared_norm))
    return problem, point


def symmetric_entries(order):
    return list(combinations_with_replacement(range(SIZE), order))


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("side", [0.99, 1.01])
def test_a_component_three_deviations_above_the_ceiling_is_determined_and_distinct(order, side):
    weight = side * (np.sqrt(N_OUTPUTS) + np.sqrt(order * SIZE) + 3.0)
    problem, point = lone(weight, order)
    assert determined_components(problem, point).tolist() == [side > 1]
    covariance = component_covariance(problem, point)
    assert distinct_components(problem, 1.0, covariance, 1).tolist() == [side > 1]


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_a_residual_with_a_term_above_the_ceiling_determines_nothing(side):
    problem, point = lone(100.0, 2, extra=side * noise_ceiling(N_OUTPUTS, SIZE, 2))
    assert largest_term(problem.residual(point), SIZE) == pytest.approx(
        side * noise_ceiling(N_OUTPUTS, SIZE, 2), rel=1e-3
    )
    assert determined_components(problem, point).tolist() == [side < 1]


def test_errors_without_a_covariance_or_a_variance_are_infinite():
    problem, point = lone(5.0, 2)
    covariance = component_covariance(problem, point)
    for variance, given in ((np.inf, covariance), (1.0, None)):
        errors = predicted_errors(problem, point, NoiseMetric(), variance, given)
        assert np.isinf(errors).all()


# ------------------------------------------------------------------------------ noise of scores


@pytest.mark.parametrize("p", [2, 3])
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_noise_of_scores_is_that_of_the_tensors_of_every_draw(p, size, monkeypatch):
    """Rows J^T vec(y (x) He_p(s)), and |y|^2 |He_p(s)|^2, for the same draws."""
    n, d, k, q = 60, 4, 2, 3
    monkeypatch.setattr(noise, "DRAWS", n)
    rng = np.random.default_rng(p)
    A = unit(rng.standard_normal((k, d)))
    W = size * rng.standard_normal((k, q))
    total, spread = noise._simulated(A, W, p)
    draws = np.random.default_rng(0)
    s, other = draws.standard_normal((n, d)), draws.standard_normal((n, d))
    factorial = {2: 2.0, 3: 6.0}[p]
    explained = np.array([W[:, a] @ ((A @ A.T) ** p) @ W[:, a] for a in range(q)]) / factorial
    rho = min(explained.mean(), 1.0) ** (1 / (2 * p))
    tensors = hermite_tensor(s, np.eye(d), p)
    rows, sizes = [], []
    for t in range(n):
        w = rho * (A @ s[t]) + np.sqrt(1 - rho**2) * (A @ other[t])
        he = w**2 - 1 if p == 2 else w**3 - 3 * w
        y = he @ W / (rho**p * factorial)
        along = []
        for i in range(k):
            vector = tensors[t]
            for _ in range(p - 1):
                vector = vector @ A[i]
            along.append(vector)
        row = [p * (W[i] @ y) * along[i] for i in range(k)]
        row += [y * (along[i] @ A[i]) for i in range(k)]
        rows.append(np.concatenate(row))
        sizes.append(y @ y * np.sum(tensors[t] ** 2))
    rows = np.array(rows) - np.mean(rows, axis=0)
    np.testing.assert_allclose(spread, rows.T @ rows / n, rtol=1e-9, atol=1e-9)
    expected = np.mean(sizes) - factorial * explained.sum()
    assert total == pytest.approx(expected, rel=1e-9)


def test_errors_of_scores_are_isotropic_ones_times_ratios_of_dense_forms(monkeypatch):
    """Of (J^T J)^-1 S (J^T J)^-1 over the variance that the residual has, through L and scales."""
    monkeypatch.setattr(noise, "DRAWS", 300)
    rng = np.random.default_rng(0)
    A, W = unit(rng.standard_normal((2, 3))), 0.4 * rng.standard_normal((2, 4))
    L, scales = (
        np.linalg.cholesky(np.array([[2.0, 0.3, 0], [0.3, 1.0, 0], [0, 0, 0.5]])),
        (np.array([1.0, 2.0, 0.5, 1.0])),
    )
    H, gauge = noise.normal_matrix(A, W, 2)
    total, spread = noise._simulated(A, W, 2)
    inverse, freedom = np.linalg.inv(H + gauge), 7
    variance = (total - np.trace(inverse @ spread)) / freedom
    found = noise._ratios(A, W, 2, freedom, L, scales)
    for i in range(2):
        a = L @ A[i]
        J = np.zeros((3, 14))
        u = a / np.linalg.norm(a)
        J[:, 3 * i : 3 * i + 3] = (np.eye(3) - np.outer(u, u)) @ L
        G = np.zeros((4, 14))
        G[:, 6 + 4 * i : 10 + 4 * i] = np.diag(scales)
        G[:, 3 * i : 3 * i + 3] = 2 * np.outer(scales * W[i], u @ L) / np.linalg.norm(a)
        for part, M in zip(found, (J, G), strict=True):
            own = np.trace(M @ inverse @ spread @ inverse @ M.T)
            isotropic = variance * np.trace(M @ inverse @ H @ inverse @ M.T)
            assert part[i] == pytest.approx(np.sqrt(own / isotropic), rel=1e-6)


# ------------------------------------------------------------------ arguments and small parts


@pytest.mark.parametrize(
    "covariance",
    [
        np.array([[1.0, np.inf], [np.inf, 1.0]]),
        np.array([[1.0, 0.5], [0.4, 1.0]]),
        np.array([[1e12, 0.5], [0.4, 1e-12]]),
    ],
)
def test_covariances_that_are_not_finite_or_not_symmetric_are_refused(covariance):
    with pytest.raises(ValueError, match="must be finite and symmetric"):
        decompose(np.ones((2, 2, 2)), 1, score_covariance=covariance)


def test_the_smallest_eigenvalue_of_a_covariance_is_named():
    with pytest.raises(ValueError, match="smallest eigenvalue is -2;"):
        decompose(np.ones((2, 2, 2)), 1, score_covariance=np.diag([1.0, -2.0]))


def test_covariances_of_rounding_asymmetry_are_taken():
    K = np.array([[1.0, 0.5], [0.5 * (1 + 1e-7), 1.0]])
    tensor = planted(2, 2, 3, noise=0.01).tensor
    assert decompose(tensor, 2, score_covariance=K, random_state=0).rank == 2


@pytest.mark.parametrize("scale", [[np.nan, 1.0], [-1.0, 1.0], [0.0, 1.0]])
def test_scales_of_outputs_that_are_not_positive_are_refused(scale):
    with pytest.raises(ValueError, match="must be positive and finite"):
        decompose(np.ones((2, 2, 2)), 1, output_scale=scale)


def test_ridges_are_numbers_that_are_not_negative():
    assert _fixed_penalty("auto") is None
    assert _fixed_penalty(None) == 0.0
    assert (_fixed_penalty(0), _fixed_penalty(0.5)) == (0.0, 0.5)
    for wrong in (True, "none", np.nan, np.inf, -1e-9):
        with pytest.raises(ValueError, match="`ridge` must be"):
            _fixed_penalty(wrong)


def test_initial_rows_are_scaled_by_powers_of_two():
    found = _check_initial([[3.0, 4.0], [0.0, 1e-300]], 2, 2)
    np.testing.assert_array_equal(found[0] * 8.0, [3.0, 4.0])
    assert 0.5 <= np.abs(found[1]).max() < 1.0
    with pytest.raises(ValueError, match="finite rows, none of them zero"):
        _check_initial([[1.0, np.nan]], 1, 2)


def test_entries_are_scaled_to_between_a_half_and_one():
    found, exponent = unit_scale(np.array([3.0, -5.0]))
    np.testing.assert_array_equal(found, [0.375, -0.625])
    assert exponent == 3
    assert unit_scale(np.zeros(2))[1] == -1100


@pytest.mark.parametrize(("share", "taken"), [(0.099, True), (0.101, False)])
def test_a_tenth_of_a_tensor_may_be_antisymmetric(share, taken):
    """|T - sym T| / |T|, and the symmetric part is what is decomposed."""
    symmetric = np.zeros((1, 3, 3))
    symmetric[0, 0, 0] = np.sqrt(1 - share**2)
    skew = np.zeros((1, 3, 3))
    skew[0, 1, 2], skew[0, 2, 1] = share / np.sqrt(2), -share / np.sqrt(2)
    if taken:
        tensor, exponent = check_tensor(symmetric + skew, output_mode=True)
        np.testing.assert_allclose(np.ldexp(tensor, exponent), symmetric, atol=ALGEBRA)
    else:
        with pytest.raises(ValueError, match=r"has 0\.1 of its norm \(limit 0\.1\)"):
            check_tensor(symmetric + skew, output_mode=True)


def test_third_order_tensors_are_averaged_over_all_permutations():
    rng = np.random.default_rng(0)
    T = planted(3, 2, 2, 3).tensor
    off = 1e-3 * rng.standard_normal(T.shape)
    expected = sum((T + off).transpose(0, *axes) for axes in permutations((1, 2, 3))) / 6
    tensor, exponent = check_tensor(T + off, output_mode=True)
    np.testing.assert_allclose(np.ldexp(tensor, exponent), expected, rtol=ALGEBRA, atol=ALGEBRA)


def test_shapes_of_tensors():
    for shape, mode in (((2, 2), False), ((1, 2, 2), True), ((1, 1, 1), True)):
        T = np.ones(shape)
        assert check_tensor(T, output_mode=mode)[0].ndim == 3
    for T, mode in ((np.ones(2), False), (np.ones((2, 2)), True), (np.ones((0, 2, 2)), True)):
        with pytest.raises(ValueError, match="`T` must have shape"):
            check_tensor(T, output_mode=mode)


def test_multiplied_modes_are_those_of_einsum():
    rng = np.random.default_rng(0)
    T, M = rng.standard_normal((2, 3, 3, 3)), rng.standard_normal((4, 3))
    expected = np.einsum("aijk,xi,yj,zk->axyz", T, M, M, M)
    np.testing.assert_allclose(multiply_modes(T, M), expected, rtol=ALGEBRA, atol=ALGEBRA)


def test_loadings_of_dependent_powers_are_none():
    rows = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert solve_loadings(np.ones((2, 2, 2)), rows) is None
    four = unit(np.random.default_rng(0).standard_normal((5, 2)))
    assert solve_loadings(np.ones((2, 2, 2)), four) is None


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_the_minimum_of_a_matrix_is_that_of_its_eigenvectors(rank):
    """Slices that are multiples of one matrix; directions are repeated without weight."""
    M = np.diag([3.0, -5.0, 1.0])
    for slices in (M[None], np.stack([M, -2.0 * M]), np.stack([M, -2.0 * M, 0.5 * M])):
        found = matrix_minimum(Problem(slices), rank)
        if rank == 1:
            assert found is None
            continue
        fitted = np.einsum("ma,mi,mj->aij", found.loadings, found.components, found.components)
        kept = np.diag([3.0, -5.0, 1.0 if rank >= 3 else 0.0])
        np.testing.assert_allclose(fitted[0], kept, atol=ALGEBRA)
        assert found.components.shape == (rank, 3)
    for off, found in ((1e-13, True), (1e-11, False), (1e-3, False)):
        apart = np.stack([M, 2.0 * M + off * np.diag([0.0, 0.0, 5.0])])
        assert (matrix_minimum(Problem(apart), 2) is not None) is found


@pytest.mark.parametrize(
    ("found", "converged", "freedom", "residual", "unique", "status"),
    [
        ("AGREED", False, 5, 0.1, True, "ITERATION_LIMIT"),
        ("ROTATION", True, 0, 0.1, False, "ROTATION"),
        ("POWER_LIMIT", True, 0, 0.1, False, "POWER_LIMIT"),
        ("WHITENING_FAILED", True, 0, 0.1, False, "WHITENING_FAILED"),
        ("AGREED", True, 0, 0.1, True, "UNDERDETERMINED"),
        ("POWER_CONVERGED", True, 0, 0.1, True, "POWER_CONVERGED"),
        ("AGREED", True, 1, 0.1, False, "NOT_UNIQUE"),
        ("POWER_CONVERGED", True, 1, 0.1, False, "NOT_UNIQUE"),
        ("POWER_CONVERGED", True, 1, 0.0, True, "POWER_CONVERGED"),
        ("AGREED", True, 1, 0.9e-12, True, "EXACT"),
        ("AGREED", True, 1, 1.1e-12, True, "AGREED"),
        ("CERTIFIED", True, 1, 0.1, True, "CERTIFIED"),
    ],
)
def test_what_a_method_found_counts_for_less_than_what_the_tensor_says(
    found, converged, freedom, residual, unique, status
):
    outcome = Outcome(None, DecompositionStatus[found], converged)
    assert _status(outcome, freedom, residual, unique=unique) is DecompositionStatus[status]


def test_success_is_what_a_method_promises():
    good = {"EXACT", "AGREED", "CERTIFIED", "POLISHED", "POWER_CONVERGED"}
    assert {status.name for status in DecompositionStatus if status.ok} == good


def test_a_choice_of_halves_of_unlike_size_shows_their_own_units():
    """T1 and T2 of sizes 2^40 apart are brought to one scale, and figures are those of T."""
    tensor = planted(4, 2, 3).tensor
    large, small = np.ldexp(tensor, 30), np.ldexp(tensor, 30) * (1 + 1e-3)
    found = choose_rank(large, small, random_state=0)
    mean = (large + small) / 2
    expected = np.linalg.svd(mean.swapaxes(0, 1).reshape(4, -1), compute_uv=False)
    np.testing.assert_allclose(found.singular_values[:2], expected[:2], rtol=INVERSE)
    half = (large - small) / 2
    level = max(
        np.linalg.svd(each, compute_uv=False)[0]
        for each in (half.swapaxes(0, 1).reshape(4, -1), half.reshape(3, -1))
    )
    assert found.noise_level == pytest.approx(level, rel=INVERSE)
    assert found.rank == 2
