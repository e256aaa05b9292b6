"""Lag moments: against naive loops, and the laws of a commutative monoid."""

from copy import deepcopy
from dataclasses import astuple, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree._sums import MergeError
from gloree.chains import LagMoments, lag_moments
from gloree.sequences import as_sequences

# Algebra: sums of a few hundred products near 1, divided by their count.
ALGEBRA = 1e-12

# Algebra: adding 1e9 rounds data of size 1 to 1e-7.
ROUNDED_DATA = 1e-6

# Algebra: sums of 5,000 squares about a centre that is off by less than a standard deviation, of
# data which 1e6 rounds to 1e-10.
SQUARES = 1e-10


def naive(parts, order):
    """Counts, means and covariances window by window."""
    d = parts[0].shape[1]
    windows = [x[t - order : t + 1][::-1].ravel() for x in parts for t in range(order, len(x))]
    rows = [row for x in parts for row in x]
    starts = [x[:order].ravel() for x in parts if len(x) >= order]

    def summary(values, size):
        if not values:
            return 0, np.full(size, np.nan), np.full((size, size), np.nan)
        array = np.array(values).reshape(len(values), size)
        centred = array - array.mean(axis=0)
        return len(values), array.mean(axis=0), centred.T @ centred / len(values)

    return (
        *summary(windows, (order + 1) * d),
        *summary(rows, d),
        *summary(starts, order * d),
    )


def compare(summary, expected, tolerance=ALGEBRA):
    names = [field.name for field in fields(summary)][2:]
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(
            getattr(summary, name), value, rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_against_naive_loops(order):
    rng = np.random.default_rng(order)
    parts = [rng.standard_normal((n, 2)) for n in (1, 7, 2, 3, 12, 1)]
    compare(lag_moments(as_sequences(parts).whole(), order).finalize(), naive(parts, order))


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("segment", [3, 5, 8])
def test_segments_with_context_equal_whole_sequences(order, segment):
    rng = np.random.default_rng(order)
    parts = [rng.standard_normal((n, 2)) for n in (30, 1, 11, 4)]
    moments = LagMoments.identity(order, 2)
    for batch in as_sequences(parts).batches(6, segment=segment, before=order, after=2):
        moments = moments.merge(lag_moments(batch, order))
    compare(moments.finalize(), naive(parts, order))


def test_windows_never_cross_a_boundary():
    """Joining two sequences would add the window that spans them."""
    x = np.arange(12.0).reshape(6, 2)
    apart = lag_moments(as_sequences([x[:3], x[3:]]).whole(), 1)
    joined = lag_moments(as_sequences(x).whole(), 1)
    assert apart.windows.count == 4
    assert joined.windows.count == 5


def test_large_means_do_not_cancel():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 2))
    offset = np.array([1e9, -1e9])
    near = lag_moments(as_sequences(x).whole(), 1).finalize()
    far = lag_moments(as_sequences(x + offset).whole(), 1).finalize()
    np.testing.assert_allclose(far.window_covariance, near.window_covariance, atol=ROUNDED_DATA)


def test_rest_before_data_far_from_zero_does_not_cancel():
    """The centre comes from the whole batch, not from its first row."""
    x = np.concatenate((np.zeros((1, 1)), 1e6 + np.random.default_rng(0).random((5000, 1))))
    summary = lag_moments(as_sequences(x).whole(), 0).finalize()
    assert summary.covariance[0, 0] == pytest.approx(np.var(x), rel=SQUARES)


def test_weights_count_as_repetitions():
    x = np.random.default_rng(0).standard_normal((4, 5, 2))
    batch = as_sequences(x).whole()
    object.__setattr__(batch, "weights", np.repeat([1.0, 2.0, 1.0, 3.0], 5))
    weighted = lag_moments(batch, 1).finalize()
    repeated = lag_moments(as_sequences(np.repeat(x, [1, 2, 1, 3], axis=0)).whole(), 1).finalize()
    for field in fields(weighted):
        np.testing.assert_allclose(
            getattr(weighted, field.name), getattr(repeated, field.name), atol=ALGEBRA
        )


def test_reading_and_merging_change_nothing():
    a, b = (lag_moments(as_sequences(np.full((4, 1), v)).whole(), 1) for v in (1.0, 5.0))
    copy = deepcopy(a)
    a.merge(b), a.finalize(), b.merge(a)
    assert_equal(a, copy)


def test_identity_of_no_data_finalises_to_nan():
    summary = LagMoments.identity(1, 2).finalize()
    assert summary.n_rows == 0
    assert np.isnan(summary.mean).all()


def test_merging_incompatible_statistics_names_the_field():
    with pytest.raises(MergeError, match=r"`order` differs \(1 against 2\)"):
        LagMoments.identity(1, 2).merge(LagMoments.identity(2, 2))
    with pytest.raises(MergeError, match=r"`n_inputs` differs \(2 against 3\)"):
        LagMoments.identity(1, 2).merge(LagMoments.identity(1, 3))
    with pytest.raises(MergeError, match="with int"):
        LagMoments.identity(1, 2).merge(3)


def test_missing_context_is_refused():
    batches = list(as_sequences(np.zeros((12, 1))).batches(4, segment=4, before=1))
    with pytest.raises(ValueError, match="`before=2`"):
        lag_moments(batches[1], 2)
    with pytest.raises(ValueError, match="longer segments"):
        lag_moments(batches[0], 5)


# -- the monoid, exactly, on integers -------------------------------------------------------------

integers = st.integers(-40, 40)
sequences = st.lists(
    st.lists(st.tuples(integers, integers), min_size=1, max_size=6), min_size=1, max_size=4
)


def statistic(parts, order):
    arrays = [np.array(part, dtype=np.float64).reshape(-1, 2) for part in parts]
    return lag_moments(as_sequences(arrays).whole(), order)


def assert_equal(a, b):
    """Exactly equal as statistics: the same sums about the same centre."""
    assert (a.centre is None) == (b.centre is None)
    moved = b._about(a.centre)
    assert (a.order, a.n_inputs) == (moved.order, moved.n_inputs)
    np.testing.assert_equal(a.centre, moved.centre)
    for name in ("windows", "rows", "starts"):
        mine, theirs = astuple(getattr(a, name)), astuple(getattr(moved, name))
        for x, y in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(sequences, sequences, sequences, st.integers(0, 2))
def test_merge_is_associative_commutative_and_exact(a, b, c, order):
    x, y, z = (statistic(parts, order) for parts in (a, b, c))
    assert_equal(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert_equal(x.merge(y), y.merge(x))
    assert_equal(x.merge(y).merge(z), statistic(a + b + c, order))


@settings(max_examples=30, deadline=None)
@given(sequences, st.integers(0, 2))
def test_identity_is_neutral(a, order):
    x, nothing = statistic(a, order), LagMoments.identity(order, 2)
    assert_equal(x.merge(nothing), x)
    assert_equal(nothing.merge(x), x)


@settings(max_examples=30, deadline=None)
@given(sequences, st.randoms(use_true_random=False), st.integers(0, 2))
def test_order_of_sequences_does_not_matter(a, random, order):
    shuffled = list(a)
    random.shuffle(shuffled)
    assert_equal(statistic(a, order), statistic(shuffled, order))
