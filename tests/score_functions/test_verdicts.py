"""Verdicts on either side of every limit, and every figure of a check against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from gloree.chains import GaussianVAR, LawError, StudentVAR
from gloree.score_functions import (
    EdgeCheck,
    NeighbourDefect,
    check_law,
    check_score,
    partial_score,
    window_score,
    window_score_covariance,
)
from gloree.score_functions import _check_law as law_module
from gloree.score_functions._hermite import check_order
from gloree.score_functions._verdict import _round_up, judge, judge_alone

# Algebra: sums of a few thousand products of numbers near 1.
ALGEBRA = 1e-9
# Algebra: eigenvalues of small matrices that are not symmetric.
EIGENVALUES = 1e-6

CHAIN = GaussianVAR(0.3 * np.eye(2) + 0.2 * np.eye(2, k=1), np.eye(2))


def beside(defect, error=0.0, noise=0.1):
    return NeighbourDefect(defect, error, noise)


@pytest.mark.parametrize(
    ("excess", "error", "noise", "radius", "radius_error", "neighbour", "status"),
    [
        (0.30, 0.0, 0.1, 0.9, 0.0, None, "fine"),
        (0.31, 0.0, 0.1, 0.9, 0.0, None, "doubtful"),
        (0.45, 0.0, 0.1, 0.9, 0.0, None, "doubtful"),
        (0.46, 0.0, 0.1, 0.9, 0.0, None, "fails"),
        # a radius of three fourths still contracts, two standard errors included
        (0.90, 0.0, 0.1, 0.74, 0.0, None, "doubtful"),
        (0.90, 0.0, 0.1, 0.75, 0.0, None, "fails"),
        (0.90, 0.0, 0.1, 0.55, 0.09, None, "doubtful"),
        (0.90, 0.0, 0.1, 0.55, 0.11, None, "fails"),
        (0.20, 0.0, 0.1, 0.99, 0.0, None, "fine"),
        (0.20, 0.0, 0.1, 1.0, 0.0, None, "fails"),
        # noise hides what is not beyond doubt
        (0.20, 0.0, 0.30, 0.9, 0.0, None, "fine"),
        (0.20, 0.0, 0.31, 0.9, 0.0, None, "undecided"),
        (0.65, 0.1, 0.31, 0.9, 0.0, None, "undecided"),
        (0.66, 0.1, 0.31, 0.9, 0.0, None, "fails"),
        (0.66, 0.1, 0.31, 0.7, 0.0, None, "undecided"),
        # steps beside
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.30), "fine"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.31), "doubtful"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.46), "fails"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.65, 0.1), "doubtful"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.66, 0.1), "fails"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.10, 0.0, 0.30), "fine"),
        (0.10, 0.0, 0.1, 0.9, 0.0, beside(0.10, 0.0, 0.31), "undecided"),
    ],
)
def test_verdicts_at_their_limits(excess, error, noise, radius, radius_error, neighbour, status):
    assert judge(excess, error, noise, radius, radius_error, neighbour) == status


@pytest.mark.parametrize(
    ("excess", "error", "noise", "neighbour", "status"),
    [
        (0.30, 0.0, 0.1, None, "fine"),
        (0.31, 0.0, 0.1, None, "doubtful"),
        (0.45, 0.0, 0.1, None, "doubtful"),
        (0.46, 0.0, 0.1, None, "fails"),
        (0.46, 0.1, 0.3, None, "fails"),
        (0.46, 0.1, 0.31, None, "undecided"),
        (0.65, 0.1, 0.31, None, "undecided"),
        (0.66, 0.1, 0.31, None, "fails"),
        (0.10, 0.0, 0.30, None, "fine"),
        (0.10, 0.0, 0.31, None, "undecided"),
        (0.10, 0.0, 0.1, beside(0.30), "fine"),
        (0.10, 0.0, 0.1, beside(0.31), "doubtful"),
        (0.10, 0.0, 0.1, beside(0.46), "fails"),
        (0.10, 0.0, 0.1, beside(0.65, 0.1), "doubtful"),
        (0.10, 0.0, 0.1, beside(0.66, 0.1), "fails"),
        (0.10, 0.0, 0.1, beside(0.10, 0.0, 0.30), "fine"),
        (0.10, 0.0, 0.1, beside(0.10, 0.0, 0.31), "undecided"),
    ],
)
def test_verdicts_without_a_radius_at_their_limits(excess, error, noise, neighbour, status):
    assert judge_alone(excess, error, noise, neighbour) == status


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0.2, 1), (1.0, 1), (9.1, 10), (12.1, 13), (99.5, 100), (101.0, 110), (5444.4, 5500)],
)
def test_steps_are_rounded_up_to_two_digits(number, expected):
    assert _round_up(number) == expected


@pytest.fixture(scope="module")
def checked():
    X = CHAIN.sample(60, 12, random_state=0)
    return X, check_score(X, chain=CHAIN)


def test_an_undecided_check_says_how_many_steps_halve_the_limit(checked):
    """The noise floor falls like one over the root of the steps, and should be .15."""
    found = replace(checked[1], status="undecided", n_steps=1000, noise_floor=0.45)
    assert "about 9,000 steps would settle it" in found.verdict
    assert "regression" in found.verdict


def test_figures_of_a_boundary_type():
    K = np.array([[4.0, 1.0], [1.0, 9.0]])
    found = EdgeCheck("first", 100, np.array([0.4, -0.3]), K + np.eye(2), K)
    assert found.mean_deviation == pytest.approx(max(0.4 / 0.2, 0.3 / 0.3), rel=ALGEBRA)
    size = np.sqrt(16 + 81 + 2)
    assert found.covariance_deviation == pytest.approx(np.sqrt(2) / size, rel=ALGEBRA)
    expected = np.sqrt((13.0**2 + size**2) / 100) / size
    assert found.covariance_noise == pytest.approx(expected, rel=ALGEBRA)


def test_the_larger_defect_of_neighbours_counts():
    low, high = beside(0.1, 0.5), beside(0.2, 0.01)
    assert NeighbourDefect.largest([low, None, high]) is high
    assert NeighbourDefect.largest([None, low]) is low
    assert NeighbourDefect.largest([None]) is None


def white_coordinates(X):
    """Inputs by W, the root of their inverse correlations over their spread, and W^-T."""
    flat = X.reshape(-1, X.shape[-1])
    values, vectors = np.linalg.eigh(np.corrcoef(flat.T))
    W = vectors @ np.diag(values**-0.5) @ vectors.T / flat.std(axis=0)
    return (X - flat.mean(axis=0)) @ W.T, np.linalg.inv(W).T


def jackknife(values):
    values = np.asarray(values)
    return (len(values) - 1) / len(values) * np.sum((values - values.mean(axis=0)) ** 2, axis=0)


def covariance(left, right):
    return (left - left.mean(axis=0)).T @ (right - right.mean(axis=0)) / len(left)


@pytest.mark.parametrize("shape", [(60, 12), (2, 150), (1, 100)])
def test_every_figure_of_a_check_is_that_of_plain_loops(shape):
    """Long sequences are cut into blocks: four for each group, of eight steps at least."""
    X, n_groups = CHAIN.sample(*shape, random_state=0), 5
    found = check_score(X, chain=CHAIN, n_groups=n_groups)
    n, steps, d = X.shape
    white, V = white_coordinates(X)
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    S = V @ partial_score(CHAIN, X, 2) @ V.T
    left = np.stack([S[..., i, j] for i, j in pairs], axis=-1)
    right = np.stack([white[..., i] * white[..., j] for i, j in pairs], axis=-1)
    block = max(n * steps // (4 * n_groups), 8)
    t = np.arange(steps)
    groups = (np.arange(n)[:, None] + t // block) % n_groups
    target = np.array([2.0 if i == j else 1.0 for i, j in pairs])
    norm = np.linalg.norm(target)

    def figures(left, right, groups, target):
        whole = covariance(left, right)
        parts = [covariance(left[groups != g], right[groups != g]) for g in range(n_groups)]
        raw = np.linalg.norm(whole - np.diag(target)) / norm
        variance = jackknife(parts)
        noise = np.sqrt(variance.sum()) / norm
        error = np.sqrt(jackknife([np.linalg.norm(p - np.diag(target)) / norm for p in parts]))
        return whole, parts, variance, (np.sqrt(max(raw**2 - noise**2, 0.0)), raw, error, noise)

    flat = [each.reshape(n * steps, -1) for each in (left, right)]
    whole, parts, variance, expected = figures(*flat, groups.ravel(), target)
    given = (found.defect, found.defect_raw, found.defect_error, found.noise_floor)
    np.testing.assert_allclose(given, expected, rtol=ALGEBRA)

    def radius(Q):
        return np.abs(np.linalg.eigvals(np.eye(len(pairs)) - Q / target)).max()

    error = np.sqrt(jackknife([radius(p) for p in parts]))
    by_chance = np.sqrt((variance / target**2).sum() / len(pairs))
    given = (found.radius, found.radius_error, found.radius_noise)
    np.testing.assert_allclose(given, (radius(whole), error, by_chance), rtol=EIGENVALUES)
    sides = []
    for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        one, other = left[:, here], right[:, there]
        flat = one.reshape(-1, len(pairs)), other.reshape(-1, len(pairs))
        sides.append(figures(*flat, groups[:, here].ravel(), np.zeros(len(pairs)))[3])
    defect, _, error, noise = max(sides, key=lambda each: each[0])
    given = found.neighbours
    np.testing.assert_allclose(
        (given.defect, given.error, given.noise), (defect, error, noise), rtol=ALGEBRA
    )
    assert (found.n_steps, found.n_inputs, found.n_checked) == (n * steps, d, d)
    assert found.n_groups == n_groups


def test_boundary_types_of_a_check_are_means_over_their_steps(checked):
    X, found = checked
    scores = partial_score(CHAIN, X)
    types = {"first": [0], "interior": range(1, 11), "last": [11]}
    assert {edge.name: edge.n_steps for edge in found.edges} == {
        name: 60 * len(steps) for name, steps in types.items()
    }
    for edge in found.edges:
        own = scores[:, list(types[edge.name])].reshape(-1, 2)
        np.testing.assert_allclose(edge.mean, own.mean(axis=0), atol=ALGEBRA)
        np.testing.assert_allclose(edge.covariance, own.T @ own / len(own), rtol=ALGEBRA)
    flat = X.reshape(-1, 2)
    slope = scores.reshape(-1, 2).T @ (flat - flat.mean(axis=0)) / len(flat)
    np.testing.assert_allclose(found.input_slope, slope, atol=ALGEBRA)
    share = np.linalg.norm(slope - np.eye(2)) / np.sqrt(2)
    assert f"|E[s x^T] - I|/|I|   {share:.3f}  blind" in str(found)


def test_every_figure_of_scores_of_order_one_is_that_of_plain_loops():
    rng = np.random.default_rng(1)
    X = rng.laplace(size=(20, 9, 2)) @ np.array([[1.0, 0.3], [0.0, 0.8]])
    s = X + 0.2 * X**2
    found = check_score(X, chain=s, n_groups=4)
    white, V = white_coordinates(X)
    own, x = (s @ V.T).reshape(-1, 2), white.reshape(-1, 2)
    cubes = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    products = np.stack([x[:, i] * x[:, j] * x[:, k] for i, j, k in cubes], axis=1)
    target = np.array([[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 3.0]])
    norm, n = np.linalg.norm(target), len(x)
    group = np.repeat(np.arange(4), n // 4)

    def off(rows):
        return own[rows].T @ products[rows] / rows.sum() - target

    whole = off(np.ones(n, dtype=bool))
    parts = [off(group != g) for g in range(4)]
    raw, noise = np.linalg.norm(whole) / norm, np.sqrt(jackknife(parts).sum()) / norm
    error = np.sqrt(jackknife([np.linalg.norm(p) / norm for p in parts]))
    expected = (np.sqrt(max(raw**2 - noise**2, 0.0)), raw, error, noise)
    given = (found.defect, found.defect_raw, found.defect_error, found.noise_floor)
    np.testing.assert_allclose(given, expected, rtol=ALGEBRA)
    # steps beside: groups of those that have one
    sides = []
    for lag in (1, -1):
        step = np.tile(np.arange(9), 20)
        there = np.flatnonzero((step >= 1) if lag > 0 else (step <= 7))
        found_of = []
        for rows in np.array_split(there, 4):
            left = (own[rows][:, :, None] * x[rows][:, None, :]).reshape(-1, 4)
            other = x[rows - lag]
            right = np.stack([other[:, 0] ** 2, other[:, 0] * other[:, 1], other[:, 1] ** 2], 1)
            found_of.append(left.T @ (right - right.mean(axis=0)) / len(rows))
        found_of, size = np.array(found_of), np.sqrt(9.0)
        noise = np.sqrt((found_of.var(axis=0, ddof=1) / 4).sum()) / size
        raw = np.linalg.norm(found_of.mean(axis=0)) / size
        others = [found_of[np.arange(4) != g].mean(axis=0) for g in range(4)]
        error = np.sqrt(jackknife([np.linalg.norm(each) / size for each in others]))
        sides.append((np.sqrt(max(raw**2 - noise**2, 0.0)), error, noise))
    given = found.neighbours
    np.testing.assert_allclose((given.defect, given.error, given.noise), max(sides), rtol=ALGEBRA)
    (edge,) = found.edges
    flat = s.reshape(-1, 2)
    assert (edge.name, edge.n_steps, found.n_steps) == ("all", n, n)
    # the score is minus the derivative: arrays are the score itself
    np.testing.assert_allclose(edge.covariance, flat.T @ flat / n, rtol=ALGEBRA)
    np.testing.assert_allclose(edge.mean, flat.mean(axis=0), rtol=ALGEBRA)
    np.testing.assert_allclose(
        found.input_slope, flat.T @ (X.reshape(-1, 2) - X.mean(axis=(0, 1))) / n, atol=ALGEBRA
    )


def test_single_steps_have_no_neighbours_and_a_single_one_is_too_few():
    x = np.random.default_rng(0).standard_normal((50, 1, 1))
    assert check_score(x, chain=x).neighbours is None
    assert check_score(x, chain=CHAIN_OF_ONE).neighbours is None
    assert check_score(x.reshape(25, 2, 1), chain=CHAIN_OF_ONE).neighbours is not None
    assert check_score(x[:2], chain=x[:2]).n_steps == 2
    # of two steps each the pairs are as many as sequences
    assert check_score(x[:4].reshape(2, 2, 1), chain=x[:4].reshape(2, 2, 1)).neighbours is None


CHAIN_OF_ONE = GaussianVAR([[0.0]], [[1.0]])


@pytest.mark.parametrize(
    ("defect", "error", "neighbour", "wrong"),
    [
        (0.30, 0.0, None, False),
        (0.31, 0.0, None, True),
        (0.49, 0.1, None, False),
        (0.51, 0.1, None, True),
        (0.10, 0.1, beside(0.30), False),
        (0.10, 0.1, beside(0.49, 0.1), False),
        (0.10, 0.1, beside(0.51, 0.1), True),
        (0.51, 0.1, beside(0.1, 0.1), True),
    ],
)
def test_a_law_fails_beyond_two_standard_errors(
    defect, error, neighbour, wrong, checked, monkeypatch
):
    seen = {}

    def check(X, **options):
        seen.update(options, shape=X.shape)
        return replace(checked[1], defect=defect, defect_error=error, neighbours=neighbour)

    monkeypatch.setattr(law_module, "check_score", check)
    options = {"n_sequences": 3, "n_steps": 4, "max_inputs": 5, "random_state": 0}
    if wrong:
        with pytest.raises(LawError, match="fails Stein's identity") as failed:
            check_law(CHAIN, **options)
        assert ("with the steps beside" in str(failed.value)) is (neighbour is not None)
    else:
        assert check_law(CHAIN, **options).defect == defect
    assert seen == {"chain": CHAIN, "max_inputs": 5, "shape": (3, 4, 2)}


def test_the_limit_of_memory_is_that_of_the_tensors():
    X = CHAIN.sample(3, 5, random_state=0)
    needed = 8 * 15 * 2**2
    assert partial_score(CHAIN, X, 2, memory_limit=needed).shape == (3, 5, 2, 2)
    with pytest.raises(MemoryError, match="4 entries each"):
        partial_score(CHAIN, X, 2, memory_limit=needed - 1)
    needed = 8 * 15 * 4**2
    assert window_score(CHAIN, X, 2, 2, memory_limit=needed).shape == (3, 4, 4, 4)
    with pytest.raises(MemoryError, match="16 entries each"):
        window_score(CHAIN, X, 2, 2, memory_limit=needed - 1)


def test_a_window_may_begin_with_a_sequence_and_end_with_it():
    X = CHAIN.sample(4000, 3, random_state=0)
    scores = window_score(CHAIN, X, 3)[:, 0]
    covariance_of = window_score_covariance(CHAIN, 3, before=2, after=0)
    assert np.abs(scores.T @ scores / 4000 - covariance_of).max() < 0.3
    # what is known of such a window is all: the covariance is the precision of the sequence
    flat = np.linalg.inv(covariance_of)
    order = [4, 5, 2, 3, 0, 1]
    assert np.abs(np.cov(X.reshape(4000, 6)[:, order].T) - flat).max() < 0.3
    for options in ({"before": 1}, {"after": -1}):
        with pytest.raises(ValueError, match=r"does not fit|`after` must be at least 0"):
            window_score_covariance(CHAIN, 3, **options)
    far = window_score_covariance(CHAIN, 3, before=50, after=50)
    np.testing.assert_array_equal(far, window_score_covariance(CHAIN, 3))


def test_orders_are_integers_from_their_minimum_on():
    assert check_order(np.int64(1), "order") == 1
    assert check_order(0, "order", minimum=0) == 0
    for wrong in (0, True, 1.0, "1"):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            check_order(wrong, "order")


def test_groups_of_a_check_are_counted_where_they_hold_data():
    X = np.random.default_rng(0).standard_normal((3, 4, 1))
    assert check_score(X, chain=CHAIN_OF_ONE, n_groups=7).n_groups == 3
    assert check_score(X[:2], chain=CHAIN_OF_ONE).n_groups == 2
    with pytest.raises(ValueError, match="the data fill 1"):
        check_score(X[:1], chain=CHAIN_OF_ONE)


def test_a_law_with_heavier_tails_than_a_gaussian_one_has_second_terms_of_its_own():
    """Its check is that of its tensors given as arrays."""
    law = StudentVAR(0.3 * np.eye(2), np.eye(2), df=9)
    X = law.sample(40, 6, random_state=0)
    tensors = tuple(partial_score(law, X, m) for m in (1, 2))
    found, arrays = check_score(X, chain=law), check_score(X, chain=tensors)
    for name in ("defect", "defect_error", "noise_floor", "radius", "radius_error"):
        assert getattr(found, name) == pytest.approx(getattr(arrays, name), rel=EIGENVALUES)
    for one, other in zip(found.edges, arrays.edges, strict=True):
        np.testing.assert_allclose(one.expected, other.expected, rtol=EIGENVALUES)
