"""The number of components from split halves."""

import numpy as np
import pytest
from helpers.planted import halves

from gloree.decomposition import choose_rank, decompose


@pytest.mark.parametrize(
    ("size", "rank", "n_outputs"), [(12, 6, 4), (20, 10, 3), (8, 8, 6), (10, 10, 10), (5, 7, 8)]
)
def test_rank_is_found_below_at_and_above_the_number_of_inputs(size, rank, n_outputs):
    for seed in range(4):
        choice = choose_rank(*halves(size, rank, n_outputs, 0.03, seed), random_state=seed)
        assert choice.rank == rank
        assert not choice.is_lower_bound
        assert "noise" in str(choice)


def test_noise_metric_is_used():
    rng = np.random.default_rng(0)
    root = np.linalg.qr(rng.standard_normal((8, 8)))[0] * np.geomspace(1, 0.05, 8)
    scales = np.geomspace(1, 0.1, 5)
    both = halves(8, 5, 5, 0.03, 1, root=root, scales=scales)
    choice = choose_rank(*both, score_covariance=root @ root.T, output_scale=scales, random_state=0)
    assert choice.rank == 5


def test_identical_halves_hold_no_noise():
    first, _ = halves(6, 3, 4, 0.0, 0)
    assert choose_rank(first, first).rank == 3


def test_one_half_gives_a_guess_and_says_so():
    first, _ = halves(8, 4, 5, 0.01, 0)
    choice = choose_rank(first)
    assert choice.rank == 4
    assert choice.is_lower_bound
    assert "guess" in choice.reason
    assert np.isnan(choice.noise_level)


def test_a_limit_too_low_gives_a_lower_bound():
    choice = choose_rank(*halves(6, 8, 7, 0.01, 0), max_rank=7, random_state=0)
    assert choice.is_lower_bound
    assert "lower bound" in choice.reason


def test_one_input_has_rank_one():
    choice = choose_rank(np.ones((3, 1, 1)))
    assert choice.rank == 1
    assert choice.is_lower_bound


def test_halves_must_match():
    with pytest.raises(ValueError, match="must have one shape"):
        choose_rank(np.ones((2, 3, 3)), np.ones((3, 3, 3)))


def test_the_largest_rank_that_is_allowed_is_tried():
    both = halves(6, 8, 7, 0.01, 0)
    choice = choose_rank(*both, max_rank=8, random_state=0)
    assert choice.rank == 8
    assert not choice.is_lower_bound


@pytest.mark.parametrize("output_mode", [True, False])
def test_errors_of_shapes_name_the_layout_that_is_wanted(output_mode):
    layout = r"\(n_outputs, d, d\[, d \.\.\]\)" if output_mode else r"\(d, d\[, d \.\.\]\)"
    with pytest.raises(ValueError, match=f"must have shape {layout}"):
        decompose(np.ones(3), 1, output_mode=output_mode)


def test_no_rank_above_the_largest_one_that_may_be_tried_is_returned():
    T = np.ones((1, 2, 2)) + 5.0 * np.diag([1.0, 2.0])
    first, second = halves(6, 8, 7, 0.01, 0)
    for choice in (
        choose_rank(T, max_rank=1),
        choose_rank(first, max_rank=3),
        choose_rank(first, second, max_rank=3, random_state=0),
    ):
        assert choice.rank <= 3
        assert choice.is_lower_bound
    assert choose_rank(T, max_rank=1).rank == 1


@pytest.mark.parametrize("value", [0, 1.5, "2"])
def test_a_largest_rank_that_is_none_is_refused(value):
    with pytest.raises((TypeError, ValueError), match="`max_rank` must be"):
        choose_rank(np.eye(2)[None], max_rank=value)
