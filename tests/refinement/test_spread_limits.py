"""Standard errors: findings on either side of their limits, clusters, and curvature by hand."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.batches import SERIAL, gradient_of
from helpers.generators import forward_network
from scipy import linalg, stats

from gloree.engine import Source
from gloree.refinement import (
    GaussNewton,
    HessianSums,
    Layout,
    SquaredError,
    hessian_sums,
    standard_errors,
)
from gloree.refinement import _clusters as clustering
from gloree.refinement import _curvature as curvature
from gloree.refinement import _standard_errors as module
from gloree.refinement._clusters import WHOLE, Clusters, ClusterSums, _products, find_clusters
from gloree.refinement._curvature import (
    Matrix,
    Strata,
    _along,
    _heaviest,
    bias_columns_apart,
    chunks,
    held,
    hessian_rows,
    informed,
    n_segments_of,
    solve_step,
)
from gloree.refinement._efficient_scores import EfficientScores, _solve, flip_test
from gloree.refinement._output_weighting import (
    most_to_lose,
    scaled_inverse,
    shrunk_covariance,
    weighting_loss,
)
from gloree.refinement._products import _factor
from gloree.refinement._sensitivities import residual_sums, rows_at_once, segments_at_once
from gloree.refinement._specification import CouplingSums, ScoreRows
from gloree.refinement._standard_errors import (
    _dependence,
    _persistence,
    _too_few,
    _undetermined,
    inverse_root,
    inverse_roots,
    joined,
)
from gloree.sequences import as_sequences

ROUNDING = 1e-12
# Small systems by two routes.
TWO_ROUTES = 1e-8
SIZE = 2


def sums_of(n_clusters=6, n_rows=10.0, lagged=0.0, squares=1.0):
    labels = np.column_stack((np.zeros(n_clusters, dtype=int), np.arange(n_clusters)))
    return ClusterSums(
        labels,
        np.full(n_clusters, n_rows),
        np.ones((n_clusters, SIZE)),
        np.zeros((n_clusters, 0, 0)),
        np.full(SIZE, lagged),
        np.full(SIZE, squares),
    )


def clusters_of(n_sequences=4, **options):
    return Clusters(sums_of(**options), None, n_sequences, 1.0, 10)


# ---------------------------------------------------------------------------------- findings


@pytest.mark.parametrize("n_sequences", [1, 2, 9, 10])
@pytest.mark.parametrize("side", [0.98, 1.02])
def test_dependence_is_named_at_a_level_of_a_hundredth_over_all_weights(n_sequences, side):
    """F = larger / variance with the degrees of freedom of both, for 2 to 9 sequences."""
    few, many = np.array([3.0, 3.0]), np.array([40.0, 40.0])
    limit = stats.f.isf(0.01 / 2, 3.0, 40.0)
    larger = np.array([1.0, side * limit]) * 0.5
    found = _dependence(clusters_of(n_sequences), larger, np.full(2, 0.5), few, many)
    assert len(found) == (2 <= n_sequences <= 9 and side > 1)
    if found:
        assert f"up to {np.sqrt(side * limit):.2g} times" in found[0].text
        assert f"rest on {n_sequences} sequences, with 3.0 degrees" in found[0].text


def test_weights_without_a_variance_show_no_dependence():
    few = np.full(2, 3.0)
    found = _dependence(clusters_of(), np.array([1e9, 1.0]), np.array([0.0, 1.0]), few, few)
    assert found == []


@pytest.mark.parametrize("n_sequences", [1, 9, 10])
@pytest.mark.parametrize("side", [0.98, 1.02])
def test_blocks_that_miss_a_fourth_of_the_variance_are_named(n_sequences, side):
    """Of length 10 at a correlation r: 2 r / (1 - r^2) / 10 = 1/4."""
    r = side * (np.sqrt(1 + 2.5**2) - 1) / 2.5
    found = _persistence(clusters_of(n_sequences, lagged=r, n_clusters=100))
    assert len(found) == (n_sequences < 10 and side > 1)
    if found:
        missed = 2 * r / (1 - r**2) / 10
        assert f"a correlation of {r:.2f}, and blocks of 10 steps miss" in found[0].text
        assert f"about {missed:.0%} of the variance" in found[0].text


@pytest.mark.parametrize(("n_clusters", "named"), [(4, False), (6, True)])
def test_a_correlation_that_may_be_chance_is_not_named(n_clusters, named):
    """Three standard errors, 3 / sqrt(n): of .6 for 25 rows, which 20 are not and 30 are."""
    r = 0.6
    found = _persistence(clusters_of(lagged=r, n_clusters=n_clusters, n_rows=5.0))
    assert bool(3 / np.sqrt(5 * n_clusters) <= r) is bool(found) is named


def test_rows_that_were_not_looked_at_show_no_persistence():
    assert _persistence(clusters_of(lagged=0.9, squares=0.0)) == []
    mixed = clusters_of(lagged=0.0, n_clusters=100)
    lagged, squares = np.array([0.0, 0.99]), np.array([1.0, 1.0])
    sums = replace(mixed.sums, lagged=lagged, squares=squares)
    assert _persistence(replace(mixed, sums=sums))
    assert not _persistence(replace(mixed, sums=replace(sums, squares=np.array([1.0, 0.0]))))


def test_weights_with_less_than_one_and_a_half_degrees_of_freedom_are_counted():
    assert _too_few(clusters_of(), np.array([1.5, 9.0])) == []
    (found,) = _too_few(clusters_of(), np.array([1.49, 1.5, 0.25]))
    assert found.text.startswith(
        "6 pieces of the data are too few for standard errors of 3 weights"
    )
    assert "2 of them have less than 1.5 degrees of freedom (the least: 0.25)" in found.text


def test_weights_that_no_row_depends_on_are_counted_by_name():
    layout = Layout(1, 2, 1)
    free = np.zeros(layout.size, dtype=bool)
    assert _undetermined(free, layout) == []
    free[layout.indices["recurrent_weights"].ravel()[:3]] = True
    free[layout.indices["hidden_bias"][1]] = True
    (found,) = _undetermined(free, layout)
    assert "depends on 3 of `recurrent_weights`, 1 of `hidden_bias`: these" in found.text


def test_a_single_cluster_without_its_matrix_has_no_degrees_of_freedom_and_a_finite_spread():
    nothing = np.zeros(2)
    alone = ClusterSums(
        np.zeros((1, 2), dtype=np.int64),
        np.array([30.0]),
        np.array([[1.0, 2.0]]),
        np.zeros((1, 0, 0)),
        nothing,
        nothing,
    )
    terms, degrees = module.spread(alone, np.eye(2), np.eye(2), 30.0)
    np.testing.assert_array_equal(degrees, [0.0, 0.0])
    # the share of the rows that it leaves is a millionth at least
    np.testing.assert_allclose(terms, [[1e3, 2e3]], rtol=1e-6)


def test_degrees_of_sums_where_one_part_has_none():
    """(a + b)^2 / (a^2 / m + b^2 / n); those of the clusters where nothing varies."""
    total, found = joined(
        np.array([1.0, 0.0, 2.0, 1.0]),
        np.array([9.0, 9.0, 4.0, 0.5]),
        np.array([3.0, 0.0, 1.0, 2.0]),
        np.array([2.0, 2.0, 2.0, 0.25]),
    )
    np.testing.assert_allclose(total, [3.0, 0.0, 2.0, 2.0])
    few = 4.0 / (1.0 / 0.5 + 1.0 / 0.25)
    np.testing.assert_allclose(found, [9.0 / (1.0 / 9.0 + 4.0 / 2.0), 9.0, 4.0, few])


# -------------------------------------------------------------------------------- small algebra


@pytest.mark.parametrize("size", [0.01, 0.099, 0.101, 0.9])
def test_inverse_roots_by_a_series_and_by_eigenvectors(size):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    block = turn @ np.diag([size, 0.3 * size, 0.0]) @ turn.T
    block *= size / np.linalg.norm(block)
    (found,) = inverse_roots(block[None])
    expected = np.linalg.inv(linalg.sqrtm(np.eye(3) - block).real)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_what_leaves_nothing_has_no_inverse_root():
    (found,) = inverse_roots(np.diag([1.0, 1.0 - 0.9e-6, 1.0 - 4e-6])[None])
    np.testing.assert_allclose(np.diag(found), [0.0, 0.0, 500.0], rtol=1e-6)


def test_a_root_of_an_inverse_under_constraints():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((9, 4)) * np.array([1.0, 1e3, 1e-3, 1.0])
    H = J.T @ J
    root = inverse_root(H, np.zeros((0, 4)))
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(H), rtol=1e-6)
    # a direction without information is held by its constraint, of any length
    null = np.array([1.0, 1e-3, 0.0, 1.0])
    P = np.eye(4) - np.outer(null, null) / (null @ null)
    flat = P @ H @ P
    for length in (1.0, 7.0):
        held = inverse_root(flat, length * null[None])
        np.testing.assert_allclose(
            flat @ held @ held.T @ flat, flat, rtol=1e-5, atol=1e-5 * np.abs(flat).max()
        )


def test_constraints_are_scaled_to_length_one_and_those_of_nothing_hold_nothing():
    H, scale = np.diag([4.0, 9.0]), np.array([0.5, 1 / 3])
    constraints = np.array([[6.0, 12.0], [0.0, 0.0]])
    along = np.array([3.0, 4.0]) / 5.0
    np.testing.assert_allclose(
        held(H, constraints, scale), np.eye(2) + np.outer(along, along), rtol=ROUNDING
    )


def test_a_combination_without_information_is_left_out():
    # with and without a factor that exists by rounding
    for rounding in (0.0, 3e-14):
        matrix = np.array([[1.0, 1.0], [1.0, 1.0 + rounding]])
        root = inverse_root(matrix, np.zeros((0, 2)))
        assert root.shape == (2, 1)
        np.testing.assert_allclose(root @ root.T, np.full((2, 2), 0.25), rtol=TWO_ROUTES)


def test_coefficients_of_columns_on_some_of_them():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((20, 5)) * np.array([1.0, 1e4, 1.0, 1.0, 1.0])
    H = J.T @ J
    found = _along(H[:2, :2], H[:2])
    expected = np.linalg.lstsq(J[:, :2], J, rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_coordinates_in_which_no_column_is_along_those_of_biases():
    """T^T H T: columns of other weights are what is theirs alone, those of b what c leaves."""
    model = forward_network(1, 2, 1, activation="tanh", hidden_bias=np.array([4.0, 5.0]))
    layout = Layout(1, 2, 1)
    rng = np.random.default_rng(0)
    J = rng.standard_normal((60, layout.size))
    assert bias_columns_apart(J.T @ J, layout) is None
    first, second = layout.indices["output_bias"], layout.indices["hidden_bias"]
    rest = np.setdiff1d(np.arange(layout.size), np.concatenate((first, second)))
    J[:, first] = 1.0
    J[:, rest] = 1.0 + 1e-4 * J[:, rest] + J[:, second] @ rng.standard_normal((2, rest.size))
    T = bias_columns_apart(J.T @ J, layout)
    columns = J @ T
    np.testing.assert_allclose(columns[:, first], J[:, first], rtol=TWO_ROUTES)
    b = J[:, second] - J[:, second].mean(axis=0)
    np.testing.assert_allclose(columns[:, second], b, rtol=1e-6, atol=1e-6)
    both = np.column_stack((np.ones(60), J[:, second]))
    own = J[:, rest] - both @ np.linalg.lstsq(both, J[:, rest], rcond=None)[0]
    np.testing.assert_allclose(columns[:, rest], own, rtol=1e-3, atol=1e-6)
    assert model.n_hidden == 2


@pytest.mark.parametrize(("share", "apart"), [(0.9e-5, True), (1.1e-5, False)])
def test_a_hundred_thousandth_of_its_own_leaves_a_column_as_it_is(share, apart):
    layout = Layout(1, 1, 1, recurrent=False, hidden_bias=False)
    size = layout.size
    (bias,) = layout.indices["output_bias"]
    H = np.eye(size)
    other = next(i for i in range(size) if i != bias)
    H[bias, other] = H[other, bias] = np.sqrt(1.0 - share)
    assert (bias_columns_apart(H, layout) is not None) is apart


def test_a_step_of_a_matrix_that_is_not_definite_gets_a_ridge():
    """1e-12 of a unit diagonal, ten times as much until a factor exists."""
    H = np.array([[1.0, 1.0], [1.0, 1.0]])
    found = solve_step(H, np.array([1.0, 1.0]), np.zeros((0, 2)), 0.0)
    np.testing.assert_allclose(found, [0.5, 0.5], rtol=1e-3)
    indefinite = np.array([[1.0, 3.0], [3.0, 1.0]])
    found = solve_step(indefinite, np.array([1.0, 0.0]), np.zeros((0, 2)), 0.0)
    assert np.isfinite(found).all()


def test_information_is_relative_to_the_largest():
    np.testing.assert_array_equal(
        informed(np.array([1e10, 1e-91, 1e-89, 0.0])), [True, False, True, False]
    )
    assert not informed(np.zeros(3)).any()
    assert informed(np.zeros(0)).shape == (0,)


def test_the_correction_of_a_matrix_satisfies_the_secant_equation():
    layout = Layout(1, 1, 1)
    given = Matrix.__new__(Matrix)
    rng = np.random.default_rng(0)
    J = rng.standard_normal((9, layout.size))
    H = J.T @ J
    step = rng.standard_normal(layout.size)
    for factor, taken in ((0.11, True), (0.09, False), (-1.0, False)):
        given.layout, given._corrected = layout, H.copy()
        change = H @ step * factor
        given.correct(step, change)
        np.testing.assert_allclose(
            given._corrected @ step, change if taken else H @ step, rtol=TWO_ROUTES
        )


def test_a_factor_of_a_block_without_information_is_one():
    np.testing.assert_array_equal(_factor(np.zeros((2, 2))), np.eye(2))
    block = np.array([[4.0, 1.0], [1.0, 9.0]])
    np.testing.assert_allclose(_factor(block), np.linalg.cholesky(block), rtol=1e-6)


def test_coefficients_are_free_of_each_unit_and_of_powers_from_one_on():
    assert Layout(1, 2, 1, free_coefficients=((1, 2), (3,))).size == Layout(1, 2, 1).size + 3
    for powers, message in (
        (((1,),), "has 1 entries, expected the powers of each of 2 units"),
        (((0,), (1,)), "of unit 0 is"),
        (((1,), (2, 2)), "of unit 1 is"),
    ):
        with pytest.raises(ValueError, match=message):
            Layout(1, 2, 1, free_coefficients=powers)


def test_variances_of_equal_weights_are_at_most_those_of_kantorovich():
    """(1 + k)^2 / (4 k) with the condition k of the covariance."""
    assert most_to_lose(np.diag([1.0, 9.0])) == pytest.approx(100.0 / 36.0, rel=ROUNDING)
    assert most_to_lose(np.diag([1.0, 0.0])) == math.inf
    found = scaled_inverse(np.array([[4.0, 1.0], [1.0, 9.0]]))
    np.testing.assert_allclose(found, np.array([[9.0, -1.0], [-1.0, 4.0]]) / 35.0, rtol=ROUNDING)


@pytest.mark.parametrize(("r", "n"), [(0.5, 10.0), (0.9, 1000.0), (0.0, 5.0), (0.3, 2.0)])
def test_correlations_are_shrunk_by_what_chance_makes_of_them(r, n):
    sizes = np.array([2.0, 5.0])
    S = np.array([[1.0, r], [r, 1.0]])
    found = shrunk_covariance(S * np.outer(sizes, sizes), n)
    square = np.sum(S**2) / 4
    share = min(1.0, (square + 1) / ((n + 1) * (square - 0.5))) if r else 1.0
    expected = np.array([[1.0, (1 - share) * r], [(1 - share) * r, 1.0]])
    np.testing.assert_allclose(found, expected * np.outer(sizes, sizes), rtol=TWO_ROUTES)


def test_the_loss_by_equal_weights_is_that_of_dense_matrices():
    """Sum over A1 of the diagonals of H_I^+ H_S H_I^+ over those of H_{S^-1}^+."""
    model = forward_network(2, 2, 2, activation="tanh")
    layout = Layout(2, 2, 2)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 8, 2))
    source = Source(as_sequences(X, model.predict(X)))
    covariance = np.array([[4.0, 0.3], [0.3, 0.1]])
    found = weighting_loss(model, layout, SERIAL, source, covariance)
    batch = source.data.whole()

    def H(metric):
        return hessian_sums(batch, model, layout, metric=metric).hessian

    # no scale of a tanh unit is free
    equal = np.linalg.inv(H(np.eye(2)))
    best = np.linalg.inv(H(np.linalg.inv(covariance)))
    chosen = layout.indices["input_weights"].ravel()
    noisy = np.diag(equal @ H(covariance) @ equal)[chosen].sum()
    assert found == pytest.approx(noisy / np.diag(best)[chosen].sum(), rel=1e-6)
    assert found > 1.1
    same = weighting_loss(model, layout, SERIAL, source, np.eye(2))
    assert same == pytest.approx(1.0, rel=TWO_ROUTES)
    residuals = rng.standard_normal((80, 2))
    noisy = Source(as_sequences(X, model.predict(X) + residuals.reshape(10, 8, 2)))
    products = residual_sums(noisy.data.whole(), model)
    np.testing.assert_allclose(products.covariance, residuals.T @ residuals / 80, rtol=TWO_ROUTES)


def test_a_network_without_inputs_loses_nothing_by_equal_weights():
    """No unit sees an input: all variances of A1 are zero."""
    model = forward_network(1, 1, 1, activation="tanh")
    layout = Layout(1, 1, 1)
    X = np.random.default_rng(0).standard_normal((4, 5, 1))
    silent = model.replace(output_weights=np.zeros((1, 1)))
    source = Source(as_sequences(X, silent.predict(X)))
    assert weighting_loss(silent, layout, SERIAL, source, np.eye(1)) == pytest.approx(1.0)


# ------------------------------------------------------------------------------------- the rows


@pytest.mark.parametrize(
    ("n_rows", "size", "n_outputs", "expected"),
    [
        (10**3, 10, 1, 4_000),
        (10**5, 600, 100, 6_000),  # ten rows for each weight
        (10**5, 100, 2, 6_000),
        (10**5, 100, 1, 10_000),  # a hundred residuals for each weight
        (10**6, 100, 5, 20_000),
        (10**6, 500, 50, 12_000),
        (10**8, 500, 50, 75_000),
        (10**9, 2000, 100, 2**18),
        (10**9, 100, 50, 20_000),
    ],
)
def test_rows_behind_the_matrix(n_rows, size, n_outputs, expected):
    layout = SimpleNamespace(size=size, n_outputs=n_outputs)
    assert hessian_rows(layout, n_rows) == expected


@pytest.mark.parametrize(
    ("n_rows", "n_segments"), [(1, 1), (10, 1), (11, 2), (20, 2), (1000, 100), (0, 1)]
)
def test_segments_that_hold_so_many_rows(n_rows, n_segments):
    source = SimpleNamespace(n_segments=100, data=SimpleNamespace(n_rows=1000))
    assert n_segments_of(source, n_rows) == n_segments


@pytest.mark.parametrize(
    ("total", "n_segments", "n_rows", "expected"),
    [(10, 100, 10**6, 1), (128, 1000, 10**6, 4), (1000, 1000, 10**6, 4), (96, 10, 10**6, 10),
     (95, 10, 10**6, 10), (64, 1000, 10**6, 2), (100, 1000, 50, 10),
     (100, 1000, 60, 9), (100, 30, 499, 4), (100, 1000, 499, 3)],
)  # fmt: skip
def test_batches_of_chosen_segments(total, n_segments, n_rows, expected):
    """Four for the workers if each has 32 segments, and no more segments or rows than asked."""
    X = np.zeros((total, 5, 1))
    source = Source(as_sequences(X, X), batch_size=10**6)
    segments = source.sample(source.n_segments)
    found = chunks(source, segments, n_segments, n_rows)
    assert found.n_batches == expected
    assert sum(len(each) for each in found.batches) == total


def test_sizes_of_sensitivities():
    layout = Layout(3, 4, 2)
    assert segments_at_once(layout) == 2**18 // (4 * layout.n_unit_parameters)
    assert segments_at_once(Layout(3000, 400, 2, recurrent=False)) == 8
    assert rows_at_once(layout) == 2**22
    two_way = Layout(3, 4, 2, n_backward=1)
    assert rows_at_once(two_way) == 2**22 // (3 * two_way.directions[0].size)
    assert rows_at_once(Layout(3000, 400, 2, n_backward=100)) == 256


def heavy_source(n_sequences=400):
    """Every tenth sequence has inputs, and so slopes and states, that are ten times as large."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_sequences, 5, 1))
    X[::10] *= 10.0
    model = forward_network(1, 1, 1, activation="quadratic").replace(
        recurrent_weights=np.zeros((1, 1))
    )
    layout = Layout(1, 1, 1)
    source = Source(as_sequences(X, model.predict(X)), batch_size=500)
    return gradient_of(model, layout, source), source


@pytest.mark.parametrize("how", ["of", "within"])
def test_heavy_segments_count_once_and_others_for_all_the_rest(how):
    current, source = heavy_source()
    found = Strata.of(source, current, 200) if how == "of" else Strata.within(current, 200)
    heavy, light = found.segments[found.heavy], found.segments[~found.heavy]
    # those of largest leverage that hold half of what is wanted
    order = np.argsort(-current.leverage.values, kind="stable")
    starts = current.leverage.segments.start[order[: len(heavy)]]
    np.testing.assert_array_equal(heavy.start, np.sort(starts))
    assert len(heavy) == 100 // 5
    assert abs(light.n_counted - 100) <= 15
    assert found.weight == pytest.approx((2000 - 100) / light.n_counted, rel=ROUNDING)
    assert np.all(np.diff(found.segments.start) > 0)
    half = Strata.of(source, current, 1000) if how == "of" else Strata.within(current, 1000)
    assert (half.heavy.all(), half.weight, len(half.segments)) == (True, 1.0, 400)
    less = Strata.of(source, current, 999) if how == "of" else Strata.within(current, 999)
    assert not less.heavy.all()


def test_nothing_beside_the_heavy_segments_has_no_share():
    source = Source(as_sequences(np.zeros((4, 5, 1)), np.zeros((4, 5, 1))))
    segments = source.sample(4)
    nothing = segments[np.zeros(0, dtype=np.intp)]
    found = Strata._joined(segments, nothing, 20.0)
    assert found.heavy.all()
    assert found.weight == 0.0


@pytest.mark.parametrize(("n_rows", "n"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_the_heaviest_segments_hold_the_rows(n_rows, n):
    source = Source(as_sequences(np.zeros((4, 5, 1)), np.zeros((4, 5, 1))))
    segments = source.sample(4)
    found = _heaviest(segments, np.array([0.5, 3.0, 1.0, 2.0]), n_rows)
    np.testing.assert_array_equal(found.start, np.sort([5, 15, 10, 0][:n]))


# ------------------------------------------------------------------------------------- clusters


def clusters_found(n_sequences, n_steps, monkeypatch, layout=None, **constants):
    for name, value in constants.items():
        monkeypatch.setattr(clustering, name, value)
    layout = layout or Layout(1, 1, 1)
    model = forward_network(1, 1, 1, activation="tanh")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_sequences, n_steps, 1))
    Y = model.predict(X) + rng.standard_normal((n_sequences, n_steps, 1))
    return find_clusters(model, layout, SERIAL, Source(as_sequences(X, Y)))


@pytest.mark.parametrize(("n_sequences", "length"), [(49, 4), (50, WHOLE)])
def test_fifty_sequences_are_the_clusters(n_sequences, length, monkeypatch):
    found = clusters_found(n_sequences, 16, monkeypatch)
    assert found.length == length
    assert found.sums.n_clusters == (49 * 4 if length == 4 else 50)
    assert (found.coarse is None) is (length == WHOLE)
    assert (found.n_sequences, found.share) == (n_sequences, 1.0)


def test_there_are_four_hundred_blocks_at_most(monkeypatch):
    """Of 40 sequences of 100 steps: ten steps each; of 200 steps, twenty, and not fifteen."""
    assert clusters_found(40, 100, monkeypatch).length == 10
    assert clusters_found(40, 200, monkeypatch).length == 20
    assert clusters_found(27, 297, monkeypatch).length == 21
    assert clusters_found(2, 101, monkeypatch).length == 11


@pytest.mark.parametrize(("n_steps", "n_coarse"), [(256, None), (289, 5), (400, 5)])
def test_blocks_of_one_sequence_are_joined_by_four_where_five_of_these_remain(
    n_steps, n_coarse, monkeypatch
):
    found = clusters_found(1, n_steps, monkeypatch)
    if n_coarse is None:
        assert found.coarse is None
    else:
        assert found.coarse.n_clusters == n_coarse
        assert found.coarse.n_rows.sum() == n_steps


@pytest.mark.parametrize(("n_steps", "wanted"), [(50, 1000), (150, 666), (500, 400)])
def test_so_many_sequences_are_looked_at(n_steps, wanted, monkeypatch):
    """Between 400 and 1,000, of 100,000 rows together."""
    seen = []
    spread_over = clustering.spread_over
    monkeypatch.setattr(
        clustering, "spread_over", lambda total, n: seen.append(n) or spread_over(total, 5)
    )
    found = clusters_found(60, n_steps, monkeypatch)
    assert seen == [wanted]
    assert found.share == pytest.approx(5 / 60)


def test_matrices_of_clusters_are_formed_where_they_have_few_numbers(monkeypatch):
    """20 blocks at most, of 4 sequences; of whole sequences a fourth of the numbers."""
    size = Layout(1, 1, 1).size
    few = (4 + 64 // 4) * size**2
    for n_numbers, formed in ((few, True), (few - 1, False)):
        found = clusters_found(4, 16, monkeypatch, MOST_NUMBERS=n_numbers)
        assert bool(found.sums.hessians.shape[1]) is formed
    many = 50 * size**2
    for n_numbers, formed in ((4 * many, True), (4 * many - 4, False)):
        found = clusters_found(50, 16, monkeypatch, MOST_NUMBERS=n_numbers)
        assert bool(found.sums.hessians.shape[1]) is formed


def test_errors_from_some_sequences_are_those_of_all_of_them(monkeypatch):
    """Every sequence is there twice, and one of both is looked at."""
    model, layout = forward_network(2, 2, 3), Layout(2, 2, 3)
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((60, 10, 2)), 2, axis=0)
    noise = np.repeat(rng.standard_normal((60, 10, 3)), 2, axis=0)
    source = Source(as_sequences(X, model.predict(X) + 0.1 * noise))
    end = GaussNewton(to_convergence=True).minimise(SquaredError(), model, layout, SERIAL, source)
    whole = standard_errors(end, layout, SERIAL, source)
    monkeypatch.setattr(clustering, "SAMPLED", (60, 60))
    assert find_clusters(end.model, layout, SERIAL, source).share == 0.5
    some = standard_errors(end, layout, SERIAL, source)
    # J^T J is that of the descent where some are looked at, of a model some steps before the last
    scale = np.abs(whole.covariance).max()
    np.testing.assert_allclose(some.covariance, whole.covariance, atol=0.2 * scale)
    for name, errors in whole.weights.items():
        np.testing.assert_allclose(some.weights[name], errors, rtol=0.2)
    assert whole.n_undetermined == some.n_undetermined == 0


def test_products_over_stretches_of_any_lengths():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((12, 2)), rng.standard_normal((12, 3))
    for bounds in ([0, 4, 8, 12], [0, 5, 6, 12], [0, 12]):
        first, ends = np.array(bounds[:-1]), np.array(bounds[1:])
        expected = [left[a:b].T @ right[a:b] for a, b in zip(first, ends, strict=True)]
        np.testing.assert_allclose(_products(left, right, first, ends), expected, rtol=TWO_ROUTES)
    none = np.zeros(0, dtype=int)
    assert _products(left[:0], right[:0], none, none).shape == (0, 2, 3)


def test_coarser_clusters_are_sums_of_neighbours():
    found = sums_of(n_clusters=7).coarser(3)
    np.testing.assert_array_equal(found.labels, [(0, 0), (0, 1), (0, 2)])
    np.testing.assert_array_equal(found.n_rows, [30.0, 30.0, 10.0])
    np.testing.assert_array_equal(found.scores[:, 0], [3.0, 3.0, 1.0])


# ------------------------------------------------------------------------- efficient scores


@pytest.mark.parametrize(("share", "kept"), [(0.011, True), (0.009, False)])
def test_a_component_of_which_a_hundredth_is_new_is_kept(share, kept):
    model, layout = forward_network(1, 1, 1, activation="tanh"), Layout(1, 1, 1)
    size, n = layout.size, 100.0
    hessian = HessianSums(n, n * np.eye(size))
    along = np.zeros((size, 1))
    along[0] = np.sqrt(1.0 - share)
    half = CouplingSums(n, n * along, np.array([n]))
    rows = ScoreRows(n, n, np.zeros((4, size)), np.arange(4.0)[:, None])
    found = EfficientScores.of(rows, (half, half), hessian, model, layout)
    assert found.kept.tolist() == ([0] if kept else [])
    if kept:
        np.testing.assert_allclose(found.scores[:, 0], np.arange(4.0))
        gain = 6.0**2 / (share * n * n)
        np.testing.assert_allclose(found.gains, gain, rtol=1e-6)
    correction = 4 / 3 / (1.0 - size / n)
    assert found.correction == pytest.approx(correction, rel=ROUNDING)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_what_is_new_of_a_component_is_relative_to_its_own_size(size):
    model, layout = forward_network(1, 1, 1, activation="tanh"), Layout(1, 1, 1)
    n = 100.0
    hessian = HessianSums(n, n * np.eye(layout.size))
    along = np.zeros((layout.size, 2))
    along[0] = size * np.sqrt(1.0 - np.array([0.011, 0.009]))
    half = CouplingSums(n, n * along, np.full(2, n * size**2))
    rows = ScoreRows(n, n, np.zeros((4, layout.size)), np.ones((4, 2)))
    found = EfficientScores.of(rows, (half, half), hessian, model, layout)
    assert found.kept.tolist() == [0]


def test_a_single_block_has_a_correction_of_one_for_blocks():
    model, layout = forward_network(1, 1, 1, activation="tanh"), Layout(1, 1, 1)
    n = 100.0
    half = CouplingSums(n, np.zeros((layout.size, 1)), np.array([n]))
    rows = ScoreRows(n, n, np.zeros((1, layout.size)), np.ones((1, 1)))
    hessian = HessianSums(n, n * np.eye(layout.size))
    found = EfficientScores.of(rows, (half, half), hessian, model, layout)
    assert found.correction == pytest.approx(1.0 / (1.0 - layout.size / n), rel=ROUNDING)


def test_what_is_due_to_sampling_is_a_half_at_most():
    """Half the difference of two samples of a tenth of the rows each, on the blocks' scores."""
    model, layout = forward_network(1, 1, 1, activation="tanh"), Layout(1, 1, 1)
    size, n = layout.size, 100.0
    hessian = HessianSums(n, n * np.eye(size))
    weights = np.zeros((4, size))
    weights[:, 0] = [1.0, -1.0, 1.0, -1.0]
    others = np.array([[1.0], [2.0], [-1.0], [0.5]])

    def found(off, n_half=10.0, n_rows=n):
        halves = []
        for sign in (1.0, -1.0):
            coupling = np.zeros((size, 1))
            coupling[0] = sign * off
            halves.append(CouplingSums(n_half, n_half * coupling, np.array([n_half])))
        return EfficientScores.of(
            ScoreRows(n_rows, n_rows, weights, others), tuple(halves), hessian, model, layout
        )

    spread = np.sum(others**2)
    part = 1.0 - 20.0 / 100.0
    np.testing.assert_allclose(found(0.3).sampled, part * 4 * 0.3**2 / spread, rtol=1e-6)
    np.testing.assert_allclose(found(5.0).sampled, 0.5)
    np.testing.assert_allclose(found(0.3, n_half=50.0).sampled, 0.0)
    np.testing.assert_allclose(
        found(0.3, n_rows=50.0).sampled, part * 0.5 * 4 * 0.3**2 / spread, rtol=1e-6
    )
    chosen = found(0.3)
    statistic = chosen.test(np.array([0]))
    factors = chosen.correction * (1.0 - chosen.sampled)
    np.testing.assert_allclose(statistic, flip_test(others, factors), rtol=TWO_ROUTES)
    total = np.sum(others) ** 2 / spread / factors[0]
    gram = others @ others.T / spread
    factor = 2.0 / (2.0 * (np.sum(gram**2) - np.sum(np.diag(gram) ** 2)))
    np.testing.assert_allclose(statistic[:2], (total * factor, factor), rtol=TWO_ROUTES)


def test_solutions_with_scales_fixed_are_those_of_dense_matrices():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((9, 4)) * np.array([1.0, 1e3, 1.0, 1.0])
    H, b = J.T @ J, rng.standard_normal((4, 2))
    np.testing.assert_allclose(_solve(H, b, np.zeros((0, 4))), np.linalg.solve(H, b), rtol=1e-6)
    singular = np.diag([1.0, 4.0, 0.0, 2.0])
    found = _solve(singular, np.ones((4, 1)) * (np.diag(singular) > 0)[:, None], np.zeros((0, 4)))
    np.testing.assert_allclose(found[:, 0], [1.0, 0.25, 0.0, 0.5], atol=TWO_ROUTES)
    assert module.NULL == 1e-12
    assert curvature.DEPENDENT == 1e-12
