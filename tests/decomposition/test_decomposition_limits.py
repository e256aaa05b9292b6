"""Limits of the decomposition on either side, and what it counts."""

import dataclasses
from itertools import combinations_with_replacement

import numpy as np
import pytest
from helpers.planted import ALGEBRA, planted, symmetric_noise, unit

from gloree.decomposition import (
    DecompositionStatus,
    choose_rank,
    cp_tensor,
    decompose,
    tensor_power_iteration,
)
from gloree.decomposition import _decompose as decomposing
from gloree.decomposition import _search as searching
from gloree.decomposition._errors import noise_ceiling
from gloree.decomposition._least_squares import Point, Problem
from gloree.decomposition._levenberg_marquardt import Ending, _is_next_to, minimise
from gloree.decomposition._search import compress, pencil_starts, uwedge
from gloree.decomposition._tensor import NoiseMetric

STEP = 1e-3
"""Beyond a limit, as a share of it."""


def n_entries(size, order):
    return len(list(combinations_with_replacement(range(size), order)))


@pytest.mark.parametrize(
    ("size", "rank", "n_outputs", "order"), [(8, 3, 6, 2), (7, 4, 2, 3), (5, 4, 9, 2)]
)
def test_noise_outside_of_the_core_predicts_its_loss(size, rank, n_outputs, order):
    """Noise per entry outside, times the degrees of freedom inside, within three deviations."""
    problem = Problem(planted(size, rank, n_outputs, order, noise=0.1).tensor)
    core = compress(problem, rank)
    d, n = min(rank, size), min(rank, n_outputs)
    assert core.problem.tensor.shape == (n,) + (d,) * order
    inside = n * n_entries(d, order) - rank * (d + n - 1)
    turned = d * (size - d) + n * (n_outputs - n)
    outside = n_outputs * n_entries(size, order) - n * n_entries(d, order) - turned
    kept = core.problem.squared_norm
    variance = (problem.squared_norm - kept) / outside
    expected, spread = variance * inside / (2 * kept), 3 * np.sqrt(2 / inside + 2 / outside)
    if min(inside, outside) < 20:
        assert core.noise_band is None
    else:
        low, high = expected * max(0.0, 1 - spread), expected * (1 + spread)
        np.testing.assert_allclose(core.noise_band, (low, high), rtol=ALGEBRA)
    assert not core.is_whole


def test_a_band_wider_than_its_centre_begins_at_zero():
    """With 20 and 21 degrees of freedom, three deviations are 1.34 of the expected loss."""
    rng = np.random.default_rng(0)
    core = compress(Problem(symmetric_noise(rng, 9, 7, 2)), 6)
    assert core.noise_band is None or core.noise_band[0] >= 0.0
    # 6 of 7 inputs and outputs: 20 degrees inside
    core = compress(Problem(planted(9, 5, 7, noise=0.3).tensor), 5)
    inside, outside = 5 * 15 - 5 * 9, 7 * 45 - (5 * 15 + 5 * 4 + 5 * 2)
    spread = 3 * np.sqrt(2 / inside + 2 / outside)
    assert core.noise_band[1] / core.noise_band[0] == pytest.approx((1 + spread) / (1 - spread))


def test_an_exact_tensor_leaves_nothing_outside_of_the_core():
    core = compress(Problem(planted(8, 3, 6).tensor), 3)
    assert core.is_whole
    assert core.noise_band is None
    assert core.basis.shape == (8, 3)


@pytest.fixture(scope="module")
def good():
    return decompose(planted(8, 4, 5, noise=0.02).tensor, 4, random_state=0)


@pytest.mark.parametrize(
    ("name", "limit"), [("component_errors", 0.2), ("loading_errors", 0.2), ("max_cosine", 0.98)]
)
def test_limits_of_acceptance(good, name, limit):
    for factor, accepted in ((1 - STEP, True), (1.0, False), (1 + STEP, False)):
        value = factor * limit
        of_each = value if name.startswith("max") else np.full(4, value)
        # equal loadings, so that means of equal squares are exact
        found = dataclasses.replace(good, loadings=np.ones((4, 4)), **{name: of_each})
        assert found.accepted is accepted
        assert ("|cos|" in found.objection) is (not accepted and name == "max_cosine")


def test_components_that_cancel_by_three_are_not_accepted(good):
    assert dataclasses.replace(good, max_loading=3 - STEP).accepted
    assert dataclasses.replace(good, max_loading=3.0).objection == "largest |W|/|T| 3"


def test_a_single_loading_may_be_off_by_a_fourth(good):
    """The others are exact: all together are within the limit of 0.2."""
    for error, named in ((0.25 - STEP, False), (0.25, True)):
        errors = np.array([0.0, 0.0, error, 0.0])
        found = dataclasses.replace(good, loading_errors=errors)
        assert found.overall_objection == ""
        assert ("component(s) 2," in found.objection) is named


def test_errors_of_all_are_root_mean_squares(good):
    """Of components over all rows, of loadings weighed by their squares."""
    errors = np.array([0.1, 0.2, 0.3, 0.4])
    found = dataclasses.replace(good, component_errors=errors, loading_errors=errors)
    squares = np.sum(good.loadings**2, axis=1)
    assert found.component_error == pytest.approx(np.sqrt(np.mean(errors**2)), rel=ALGEBRA)
    expected = np.sqrt(np.sum(errors**2 * squares) / np.sum(squares))
    assert found.loading_error == pytest.approx(expected, rel=ALGEBRA)
    nothing = np.zeros((4, 5))
    assert dataclasses.replace(good, loadings=nothing).loading_error == np.inf


class Counted:
    """`minimise`, and where its calls ended."""

    def __init__(self, change=lambda problem, end: end):
        self.ends, self.change = [], change

    def __call__(self, problem, *arguments, **options):
        self.ends.append(self.change(problem, minimise(problem, *arguments, **options)))
        return self.ends[-1]

    @property
    def n_iterations(self):
        return sum(end.n_iterations for end in self.ends)


def test_a_result_counts_the_iterations_of_all_starts_and_of_the_polish(monkeypatch):
    """The polish of the first start alone, after which more follow, is not among them."""
    polish, search = Counted(), Counted()
    monkeypatch.setattr(decomposing, "minimise", polish)
    monkeypatch.setattr(searching, "minimise", search)
    tensor = planted(5, 5, 3, noise=0.4, seed=1).tensor
    found = decompose(tensor, 5, max_starts=14, ridge=0.1, random_state=0)
    first = polish.ends[0].n_iterations
    assert found.n_iterations == polish.n_iterations - first + search.n_iterations
    assert found.n_starts == len(search.ends) > 1
    assert found.ridge == 0.1


def test_the_whole_tensor_takes_thirteen_starts_at_most(monkeypatch):
    def apart(problem, end):
        point = end.point._replace(loss=(1.0 + len(search.ends)) * end.point.loss)
        return end._replace(point=point, ending=Ending.CONVERGED)

    search = Counted(apart)
    monkeypatch.setattr(searching, "minimise", search)
    tensor = planted(6, 3, 5, noise=2.0, seed=0).tensor
    found = decompose(tensor, 3, max_starts=20, ridge=None, random_state=1)
    assert found.status is DecompositionStatus.NO_AGREEMENT
    assert found.n_starts == len(search.ends) == 20 + 12


@pytest.mark.parametrize("which", [0, 1])
def test_either_polish_at_its_limit_is_no_convergence(which, monkeypatch):
    """The one without a penalty, and the one with it."""

    def cut(problem, end):
        return end._replace(ending=Ending.LIMIT) if bool(problem.penalty) is bool(which) else end

    tensor, components, _ = planted(6, 3, 4, noise=0.05)
    assert decompose(tensor, 3, initial=components, ridge=0.01).status.ok
    monkeypatch.setattr(decomposing, "minimise", Counted(cut))
    found = decompose(tensor, 3, initial=components, ridge=0.01)
    assert found.status is DecompositionStatus.ITERATION_LIMIT


def test_the_automatic_ridge_is_the_noise_over_the_mean_square_of_loadings():
    """mu = sigma^2 rank n_outputs / |T|^2, where the predicted error is above a tenth."""
    tensor = planted(6, 6, 4, noise=0.3, seed=2).tensor
    plain = decompose(tensor, 6, ridge=None, max_starts=3, random_state=0)
    assert max(plain.component_error, plain.loading_error) > 0.1
    found = decompose(tensor, 6, max_starts=3, random_state=0)
    expected = plain.residual**2 / plain.degrees_of_freedom * 6 * 4
    assert found.ridge == pytest.approx(expected, rel=ALGEBRA)
    calm = planted(6, 3, 4, noise=0.01).tensor
    assert decompose(calm, 3, random_state=0).ridge == 0.0


def test_a_single_restart_and_a_single_start_are_enough_to_try():
    tensor = planted(6, 3, 4, 3, signs=False, seed=1).tensor
    found = tensor_power_iteration(tensor, 3, n_restarts=1, random_state=0)
    assert (found.n_starts, found.n_agreeing) == (3, 3)
    assert decompose(tensor, 3, max_starts=1, random_state=0).n_starts == 1
    assert tensor_power_iteration(tensor, 3, random_state=0).n_starts == 30
    for options in ({"n_restarts": 0}, {"n_iterations": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            tensor_power_iteration(tensor, 3, **options)


def test_iterations_of_the_power_method_are_limited():
    tensor = planted(6, 3, 4, 3, signs=False, seed=1).tensor
    found = tensor_power_iteration(tensor, 3, n_iterations=2, tol=0.0, random_state=0)
    assert found.n_iterations == 3 * 2


@pytest.mark.parametrize("cosine", [0.9985, 0.9995])
@pytest.mark.parametrize("ratio", [1.29, 1.31, 0.99])
def test_a_basin_is_a_third_of_the_loss_and_a_twentieth_of_a_radian(cosine, ratio):
    rows = np.eye(2, 4)
    turned = rows.copy()
    turned[1] = [0.0, cosine, np.sqrt(1 - cosine**2), 0.0]

    def point(components, loss):
        gram = components @ components.T
        return Point(components, gram, np.eye(2), np.ones((2, 1)), np.empty(0), loss)

    expected = cosine > 0.999 and 1 < ratio < 1.3
    assert _is_next_to(point(turned, ratio), point(rows, 1.0)) is expected
    assert _is_next_to(point(-turned[::-1], ratio), point(rows, 1.0)) is expected


def test_iterations_of_a_descent_are_limited_and_counted():
    tensor = planted(6, 5, 3, noise=0.1).tensor
    rows = unit(np.random.default_rng(0).standard_normal((5, 6)))
    for limit in (1, 2, 3):
        end = minimise(Problem(tensor), rows, limit)
        assert (end.ending, end.n_iterations) == (Ending.LIMIT, limit)
    end = minimise(Problem(tensor), rows)
    assert end.ending is Ending.CONVERGED
    again = minimise(Problem(tensor), rows, end.n_iterations)
    assert again.ending is Ending.CONVERGED
    assert minimise(Problem(tensor), rows, known=end.point._replace(loss=0.0)).ending is not (
        Ending.JOINED
    )


def test_a_descent_joins_a_minimum_that_is_known():
    tensor, components, _ = planted(6, 3, 4, noise=0.05)
    known = minimise(Problem(tensor), components).point
    rng = np.random.default_rng(0)
    near = known.components + 1e-3 * rng.standard_normal((3, 6))
    end = minimise(Problem(tensor), near, known=known)
    assert (end.ending, end.n_iterations) == (Ending.JOINED, 0)


def two_halves(values, noise):
    """T1 and T2 of one output with the given singular values, and of their half-difference."""
    mean, half = np.diag(np.asarray(values, float)), np.diag(np.asarray(noise, float))
    return (mean + half)[None], (mean - half)[None]


@pytest.mark.parametrize(("factor", "count"), [(1.09, 1), (1.11, 2)])
def test_signal_is_a_tenth_above_the_largest_singular_value_of_the_noise(factor, count):
    halves = two_halves([5.0, factor * 0.3, 0.0, 0.0], [0.3, 0.0, 0.1, 0.0])
    found = choose_rank(*halves, random_state=0)
    assert found.reason.startswith(f"{count} singular values exceed 1.1 times")
    # of both unfoldings: that of a single output is a row of all entries
    assert found.noise_level == pytest.approx(np.hypot(0.3, 0.1), rel=ALGEBRA)
    np.testing.assert_allclose(found.singular_values, [5.0, factor * 0.3, 0.0, 0.0], atol=ALGEBRA)


def test_outputs_may_show_more_directions_than_inputs():
    """Of three inputs and five outputs with two components and noise in neither."""
    tensor = planted(3, 5, 6).tensor
    found = choose_rank(tensor, tensor, random_state=0)
    assert found.reason.startswith("5 singular values exceed")
    np.testing.assert_allclose(
        found.output_singular_values[:5],
        np.linalg.svd(tensor.reshape(6, -1), compute_uv=False)[:5],
        rtol=ALGEBRA,
    )


@pytest.mark.parametrize("rank", [3, 4])
def test_the_residual_of_the_chosen_rank_is_noise_and_below_its_limit(rank):
    """|R|^2 / (sigma^2 (N - q)) < 1 + 3 sqrt(2 / (N - q) + 2 / N)."""
    rng = np.random.default_rng(rank)
    truth = planted(6, rank, 4, seed=rank).tensor
    T1, T2 = (truth + 0.05 * symmetric_noise(rng, 4, 6, 2) for _ in range(2))
    found = choose_rank(T1, T2, random_state=0)
    n, q = 4 * 21, found.rank * (6 + 4 - 1)
    fit = decompose((T1 + T2) / 2, found.rank, ridge=None, random_state=0).to_tensor()
    variance = np.sum((T1 - T2) ** 2) / 4 / n
    ratio = np.sum((fit - (T1 + T2) / 2) ** 2) / variance / (n - q)
    limit = 1 + 3 * np.sqrt(2 / (n - q) + 2 / n)
    assert f"(ratio {ratio:.3g}, limit {limit:.3g})" in found.reason
    assert found.rank == rank
    assert not found.is_lower_bound


def test_three_times_the_inputs_are_tried_if_all_of_these_carry_signal():
    """Halves that hardly differ, of a tensor that no number of components below six explains."""
    rng = np.random.default_rng(0)
    wild = symmetric_noise(rng, 20, 3, 2)
    found = choose_rank(wild, wild + 1e-9 * symmetric_noise(rng, 20, 3, 2), random_state=0)
    assert found.is_lower_bound
    assert found.rank == 6  # of the outputs
    assert "no rank up to 9 leaves a residual" in found.reason


def test_starts_end_with_the_first_that_is_exact():
    core = searching.Core(Problem(planted(4, 4, 3).tensor))
    rng = np.random.default_rng(0)
    found = searching.run_starts(core, 4, rng, searching.Starts(), 10)
    assert len(found.losses) == 1
    again = searching.run_starts(core, 4, rng, searching.Starts(), 1)
    assert len(again.losses) == 1


def test_the_largest_gap_of_one_half_is_counted():
    assert "a factor of 1, follows number 1" in choose_rank(np.ones((3, 1, 1))).reason
    found = choose_rank(np.diag([8.0, 6.0, 0.5, 0.4])[None])
    assert found.rank == 2
    assert "a factor of 12, follows number 2" in found.reason
    np.testing.assert_allclose(found.singular_values, [8.0, 6.0, 0.5, 0.4], rtol=ALGEBRA)
    # singular values of exactly zero are rounding, of 1e-12 of the largest
    none = choose_rank(np.diag([8.0, 6.0, 0.0, 0.0])[None])
    assert "a factor of 7.5e+11, follows number 2" in none.reason


def test_a_metric_of_nothing_changes_nothing():
    tensor = np.diag([8.0, 6.0])[None]
    metric = NoiseMetric()
    np.testing.assert_array_equal(metric.whiten(tensor), tensor)
    assert metric.exponent == 0


@pytest.mark.parametrize("halved", [False, True])
def test_singular_values_are_in_the_metric_of_the_noise(halved):
    """diag(8, 6) with a covariance of scores of 1024: entries over 1024, and outputs over 1/512."""
    T = np.diag([8.0, 6.0])[None]
    halves = (T, 0.999 * T) if halved else (T,)
    found = choose_rank(*halves, score_covariance=1024.0 * np.eye(2), output_scale=[1 / 512])
    scale = 0.5 * (0.9995 if halved else 1.0)
    np.testing.assert_allclose(found.singular_values, [8.0 * scale, 6.0 * scale], rtol=ALGEBRA)


def test_a_component_that_no_singular_value_shows_is_found_above_rounding():
    """A fourth one of 1e-5 in three inputs and three directions of outputs, without noise."""
    rng = np.random.default_rng(3)
    rows = unit(rng.standard_normal((4, 3)))
    loadings = rng.standard_normal((4, 3)) @ rng.standard_normal((3, 6))
    loadings[3] *= 1e-5
    tensor = cp_tensor(rows, loadings, order=2)
    assert choose_rank(tensor, tensor, random_state=0).rank == 4


def test_one_degree_of_freedom_is_enough_for_the_automatic_ridge():
    tensor = np.diag([1.0, 0.9])[None]
    plain = decompose(tensor, 1, ridge=None, random_state=0)
    assert plain.degrees_of_freedom == 1
    assert max(plain.component_error, plain.loading_error) > 0.1
    found = decompose(tensor, 1, random_state=0)
    assert found.ridge == pytest.approx(plain.residual**2, rel=ALGEBRA)


def test_each_component_has_to_be_next_to_one_of_a_minimum_that_is_known():
    """And each of the minimum's next to one: two that share a neighbour are elsewhere."""
    apart, close = np.eye(2, 4), np.eye(2, 4)
    close[1] = [1.0, 1e-3, 0.0, 0.0]

    def point(components, loss):
        gram = components @ components.T
        return Point(components, gram, np.eye(2), np.ones((2, 1)), np.empty(0), loss)

    assert not _is_next_to(point(close, 1.1), point(apart, 1.0))
    assert not _is_next_to(point(apart, 1.1), point(close, 1.0))


@pytest.mark.parametrize("order", [2, 3])
def test_the_ceiling_of_noise_is_that_of_the_equation(order):
    assert noise_ceiling(9, 8, order) == pytest.approx(3 + np.sqrt(order * 8), rel=ALGEBRA)


def test_pencils_that_fail_are_random_directions_of_unit_length():
    rng = np.random.default_rng(0)
    singular = np.zeros((3, 4, 4))
    rows = pencil_starts(singular, 2, rng)
    assert rows.shape == (2, 4, 4)
    assert np.isfinite(rows).all()


def test_uwedge_of_exact_components_stays_there():
    tensor, components, _ = planted(4, 4, 3)
    refined = unit(uwedge(tensor, components))
    np.testing.assert_allclose(np.abs(refined @ components.T).max(axis=1), 1.0, atol=ALGEBRA)
    singular = np.ones((4, 4))
    assert uwedge(tensor, singular) is singular or np.isfinite(uwedge(tensor, singular)).all()


def test_a_tensor_without_an_output_mode_has_one_column_of_loadings():
    tensor = cp_tensor([[2.0], [1.0]], np.eye(2, 3), order=3)[0]
    found = decompose(tensor, 2, output_mode=False, random_state=0)
    assert found.loadings.shape == (2, 1)
    assert not found.output_mode
    assert found.to_tensor().shape == (3, 3, 3)
