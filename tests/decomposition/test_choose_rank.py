"""The number of components from split halves."""

import numpy as np
import pytest

from gloree.decomposition import choose_rank, cp_tensor


def halves(size, rank, n_outputs, noise, seed, mapping=None, scales=1.0):
    rng = np.random.default_rng(seed)
    components = rng.standard_normal((rank, size))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    truth = cp_tensor(rng.standard_normal((rank, n_outputs)), components, 2)
    root = np.eye(size) if mapping is None else mapping
    both = []
    for _ in range(2):
        draw = rng.standard_normal(truth.shape)
        draw = draw + draw.swapaxes(1, 2)
        draw *= noise * np.linalg.norm(truth) / np.linalg.norm(draw)
        both.append(root @ (truth + draw) @ root.T * np.reshape(scales, (-1, 1, 1)))
    return both


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
    both = halves(8, 5, 5, 0.03, 1, mapping=root, scales=scales)
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


def test_halves_must_match():
    with pytest.raises(ValueError, match="must have one shape"):
        choose_rank(np.ones((2, 3, 3)), np.ones((3, 3, 3)))
