"""check_score: its statistic against a naive computation, and its verdicts on known laws."""

import re
from dataclasses import fields

import numpy as np
import pytest
from helpers.comparisons import assert_same_sums
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree._sums import MergeError
from gloree.chains import GaussianVAR, NonStationaryChainError
from gloree.score_functions import (
    SteinStatistic,
    SymmetricWhitening,
    check_score,
    partial_score,
    stein_statistic,
)
from gloree.score_functions._verdict import FINE
from gloree.sequences import as_sequences

# Algebra: sums of a few thousand products of four numbers near 1, relative to their size.
ALGEBRA = 1e-10

# Algebra: eigenvalues of a matrix of size 10 that is not symmetric lose some digits more.
EIGENVALUES = 1e-8

# Algebra: a whitening of inputs with an offset of 7 and units of 1e3, and float32 as float64.
OTHER_UNITS, OTHER_FORMS = 1e-6, 1e-9

# Statistics: 50,000 squares of uniform inputs give their variance within .005.
UNIFORM_DEFECT = 0.02

# Statistics: ten draws of a norm of 100 entries, and the noise floor itself, within some per cent.
MEAN_DEFECT = 0.25

# Statistics: twenty groups give each floor within a few per cent.
SLOPE = 0.1

# Statistics: three times the floor, or this where the floor of a few steps happens to be smaller.
LEAST_NOISE = 1e-3

SHAPE = (500, 40, 4)


def gaussian(rng):
    return GaussianVAR(0.3 * np.eye(4) + 0.2 * np.eye(4, k=1), np.eye(4)).sample(500, 40, rng)


def switching(rng):
    """The scale of all inputs jumps between two levels and stays there for twenty steps."""
    level = np.empty(SHAPE[:2], dtype=bool)
    level[:, 0] = rng.random(SHAPE[0]) < 0.5
    for t in range(1, SHAPE[1]):
        level[:, t] = level[:, t - 1] ^ (rng.random(SHAPE[0]) < 0.05)
    return np.where(level, 2.5, 0.5)[..., np.newaxis] * rng.standard_normal(SHAPE)


LAWS = {
    "gaussian": (gaussian, "fine"),
    "offset": (lambda rng: 1e3 + gaussian(rng) * [1.0, 10.0, 0.1, 1.0], "fine"),
    "laplace": (lambda rng: rng.laplace(size=SHAPE), "fails"),
    "exponential": (lambda rng: rng.exponential(size=SHAPE), "fails"),
    "switching": (switching, "fails"),
    "student": (lambda rng: rng.standard_t(5, size=SHAPE), "fails"),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("law", LAWS)
def test_verdict(law, seed):
    draw, expected = LAWS[law]
    result = check_score(draw(np.random.default_rng(seed)))
    assert result.status == expected
    assert result.verdict.startswith(expected)
    assert (result.radius < 1) == (expected == "fine")


def test_second_order_inputs_fitted_at_first_order_are_harmless():
    chain = GaussianVAR([0.4 * np.eye(3), 0.3 * np.eye(3)], np.eye(3))
    X = chain.sample(400, 50, 0)
    assert check_score(X).status == "fine"
    assert check_score(X, order=2).status == "fine"


def test_light_tails_are_doubtful_not_failing():
    """Uniform inputs: a large defect, yet a radius below 1."""
    result = check_score(np.random.default_rng(0).uniform(-1, 1, size=SHAPE))
    assert result.status == "doubtful"
    assert result.radius < 1
    # One dimension: |Var(x^2) - 2| / 2 = .6 for a uniform law of unit variance.
    single = check_score(np.random.default_rng(0).uniform(-1, 1, size=(500, 100, 1)))
    assert single.defect == pytest.approx(0.6, abs=UNIFORM_DEFECT)


def test_too_few_steps_are_undecided_and_say_how_many_would_do():
    result = check_score(np.random.default_rng(3).standard_normal((20, 10, 8)))
    assert result.status == "undecided"
    assert result.noise_floor > 0.3
    assert "steps would settle it" in result.verdict
    # the noise floor falls with the root of the number of steps, which is rounded up to two digits
    needed = int(re.search(r"about ([\d,]+) steps", result.verdict)[1].replace(",", ""))
    then = result.noise_floor * np.sqrt(result.n_steps / needed)
    assert 0.95 * FINE / 2 < then <= FINE / 2


def test_defect_with_noise_taken_off_does_not_grow_in_small_samples():
    """The raw defect of Gaussian inputs is its noise floor; the corrected one stays near zero."""
    chain = GaussianVAR(0.3 * np.eye(4), np.eye(4))
    results = [check_score(chain.sample(40, 50, seed)) for seed in range(10)]
    floor = np.mean([r.noise_floor for r in results])
    raw = np.mean([r.defect_raw for r in results])
    assert raw == pytest.approx(floor, rel=MEAN_DEFECT)
    assert np.mean([r.defect for r in results]) < 0.5 * floor


def test_noise_falls_like_root_n():
    chain = GaussianVAR(0.3 * np.eye(3), np.eye(3))
    sizes = (100, 1600)
    floors = [
        np.mean([check_score(chain.sample(n, 20, s)).noise_floor for s in range(4)]) for n in sizes
    ]
    slope = np.log(floors[1] / floors[0]) / np.log(sizes[1] / sizes[0])
    assert slope == pytest.approx(-0.5, abs=SLOPE)


def test_long_single_sequence():
    chain = GaussianVAR(0.5 * np.eye(2), np.eye(2))
    result = check_score(chain.sample(1, 20_000, 0)[0])
    assert result.status == "fine"
    assert result.n_groups == 20
    assert {edge.name: edge.n_steps for edge in result.edges} == {
        "interior": 19_998,
        "last": 1,
        "first": 1,
    }


def test_edges_show_sequences_that_start_from_rest():
    """Interior moments are blind by construction; those of the first step are not."""
    X = gaussian(np.random.default_rng(0))
    X[:, 0] = 0.01 * X[:, 0]
    edges = {edge.name: edge for edge in check_score(X).edges}
    assert edges["first"].covariance_deviation > 5 * edges["first"].covariance_noise
    assert edges["interior"].covariance_deviation < edges["interior"].covariance_noise
    X = gaussian(np.random.default_rng(0))
    for edge in check_score(X).edges:
        assert edge.covariance_deviation < 3 * max(edge.covariance_noise, LEAST_NOISE)


def test_given_chain_is_checked_as_it_is():
    X = gaussian(np.random.default_rng(0))
    wrong = GaussianVAR(np.zeros((4, 4)), 3 * np.eye(4))
    result = check_score(X, chain=wrong)
    assert result.chain == repr(wrong)
    assert result.status == "fails"
    assert np.abs(result.input_slope - np.eye(4)).max() > 0.3


def test_defect_and_radius_against_naive_loops():
    X = gaussian(np.random.default_rng(0))[:60]
    chain = GaussianVAR.fit(X)
    result = check_score(X, chain=chain)
    flat = X.reshape(-1, 4)
    values, vectors = np.linalg.eigh(np.corrcoef(flat.T))
    W = vectors @ np.diag(values**-0.5) @ vectors.T / flat.std(axis=0)
    white = (flat - flat.mean(axis=0)) @ W.T
    V = np.linalg.inv(W).T
    S = partial_score(chain, X, 2).reshape(-1, 4, 4)
    pairs = [(i, j) for i in range(4) for j in range(i, 4)]
    left = np.array([[(V @ tensor @ V.T)[p] for p in pairs] for tensor in S])
    right = np.array([[np.outer(x, x)[p] for p in pairs] for x in white])
    Q = (left - left.mean(axis=0)).T @ (right - right.mean(axis=0)) / len(flat)
    C = np.diag([2.0 if i == j else 1.0 for i, j in pairs])
    assert result.defect_raw == pytest.approx(
        np.linalg.norm(Q - C) / np.linalg.norm(C), rel=ALGEBRA
    )
    radius = np.abs(np.linalg.eigvals(np.eye(10) - Q @ np.linalg.inv(C))).max()
    assert result.radius == pytest.approx(radius, rel=EIGENVALUES)


@pytest.mark.parametrize("units", [1e3, [1e6, 1.0, 3.0, 1e-6]], ids=["one", "far apart"])
def test_check_does_not_depend_on_linear_units(units):
    X = gaussian(np.random.default_rng(0))
    plain, scaled = check_score(X), check_score((X - 7.0) * units)
    assert scaled.defect_raw == pytest.approx(plain.defect_raw, rel=OTHER_UNITS)
    assert scaled.radius == pytest.approx(plain.radius, rel=OTHER_UNITS)


def test_many_inputs_are_checked_in_part():
    X = np.random.default_rng(0).standard_normal((400, 25, 30))
    result = check_score(X, max_inputs=6)
    assert (result.n_inputs, result.n_checked) == (30, 6)
    assert result.status == "fine"
    assert "6 of them checked" in str(result)
    assert check_score(np.exp(X), max_inputs=6).status == "fails"


def test_report_is_readable_and_marks_what_is_blind():
    text = str(check_score(gaussian(np.random.default_rng(0))))
    for words in ("Stein defect", "rho", "interior", "first", "last", "blind", "verdict: fine"):
        assert words in text
    assert max(len(line) for line in text.splitlines()[:-1]) <= 110


@pytest.mark.parametrize("form", ["list", "flat", "float32", "fortran"])
def test_forms_of_input(form):
    X = gaussian(np.random.default_rng(0))[:100].astype(np.float32).astype(np.float64)
    expected = check_score(X)
    lengths = None
    given = {
        "list": lambda: list(X),
        "flat": lambda: X.reshape(-1, 4),
        "float32": lambda: X.astype(np.float32),
        "fortran": lambda: np.asfortranarray(X),
    }[form]()
    if form == "flat":
        lengths = [40] * 100
    result = check_score(given, lengths=lengths)
    assert result.defect_raw == pytest.approx(expected.defect_raw, rel=OTHER_FORMS)


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(NonStationaryChainError):
        check_score(1.1 ** np.arange(99)[:, np.newaxis] * (1 + 0.01 * rng.random((99, 1))))
    with pytest.raises(ValueError, match="`n_groups` is 1"):
        check_score(np.zeros((9, 2)), n_groups=1)
    with pytest.raises(ValueError, match="two groups"):
        check_score(rng.standard_normal((8, 1)))
    with pytest.raises(ValueError, match="singular"):
        check_score(np.ones((30, 2)), chain=GaussianVAR(np.zeros((2, 2)), np.eye(2)))
    with pytest.raises(TypeError, match="`chain` is of type str"):
        check_score(rng.standard_normal((30, 2)), chain="gaussian-var")


# -- the statistic is a monoid --------------------------------------------------------------------

INTEGER_CHAIN = GaussianVAR([[1.0, 0.0], [1.0, -1.0]], np.eye(2), initial_covariance=np.eye(2))
INTEGER_WHITENING = SymmetricWhitening(np.zeros(2), np.array([[1.0, 0.0], [2.0, 1.0]]), np.eye(2))

integers = st.integers(-6, 6)
sequences = st.lists(
    st.lists(st.tuples(integers, integers), min_size=1, max_size=5), min_size=1, max_size=3
)


def statistic(parts, n_groups=3):
    data = as_sequences([np.array(part, dtype=np.float64).reshape(-1, 2) for part in parts])
    return stein_statistic(
        data.whole(), INTEGER_CHAIN, INTEGER_WHITENING, n_groups=n_groups, block=2
    )


@settings(max_examples=40, deadline=None)
@given(sequences, sequences, sequences)
def test_merge_is_exact_associative_and_commutative(a, b, c):
    """Integer data, an integer chain: every sum is an integer, so equality is exact."""
    x, y, z = statistic(a), statistic(b), statistic(c)
    assert_same_sums(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert_same_sums(x.merge(y), y.merge(x))
    nothing = SteinStatistic.identity(INTEGER_CHAIN, INTEGER_WHITENING, n_groups=3, block=2)
    assert_same_sums(x.merge(nothing), x)
    assert_same_sums(nothing.merge(x), x)


@pytest.mark.parametrize("segment", [3, 5])
@pytest.mark.parametrize("order", [1, 2])
def test_segments_with_context_equal_whole_sequences(segment, order):
    """Groups are tied to steps of sequences, so even they do not depend on the cut."""
    chain = GaussianVAR(np.stack([0.4 * np.eye(2)] * order) / order, np.eye(2))
    data = as_sequences([chain.sample(1, n, n)[0] for n in (30, 2, 11, 1)])
    whitening = SymmetricWhitening.from_moments(np.zeros(2), np.eye(2))
    options = {"n_groups": 4, "block": 7}
    whole = stein_statistic(data.whole(), chain, whitening, **options)
    pieces = SteinStatistic.identity(chain, whitening, **options)
    for batch in data.batches(6, segment=segment, before=order, after=order):
        pieces = pieces.merge(stein_statistic(batch, chain, whitening, **options))
    for field in fields(whole):
        np.testing.assert_allclose(
            getattr(pieces, field.name), getattr(whole, field.name), atol=ALGEBRA
        )


def test_reading_changes_nothing():
    x = statistic([[(k % 3, k % 5 - 2) for k in range(40)], [(1, 2), (0, 1)]])
    copies = [np.array(getattr(x, field.name)) for field in fields(x)]
    x.finalize(INTEGER_CHAIN)
    x.merge(x)
    for field, copy in zip(fields(x), copies, strict=True):
        np.testing.assert_array_equal(getattr(x, field.name), copy)


def test_statistics_with_other_groups_do_not_merge():
    with pytest.raises(MergeError, match="`counts`"):
        statistic([[(1, 2)]], 3).merge(statistic([[(1, 2)]], 4))


def test_weights_count_as_repetitions():
    chain = GaussianVAR(0.4 * np.eye(2), np.eye(2))
    X = chain.sample(4, 5, 0)
    whitening = SymmetricWhitening.from_moments(np.zeros(2), np.eye(2))
    batch = as_sequences(X).whole()
    object.__setattr__(batch, "weights", np.repeat([1.0, 2.0, 1.0, 3.0], 5))
    weighted = stein_statistic(batch, chain, whitening, n_groups=1)
    repeated = as_sequences(np.repeat(X, [1, 2, 1, 3], axis=0)).whole()
    expected = stein_statistic(repeated, chain, whitening, n_groups=1)
    for field in fields(weighted):
        np.testing.assert_allclose(
            getattr(weighted, field.name), getattr(expected, field.name), atol=ALGEBRA
        )
