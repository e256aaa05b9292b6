"""Every statistic of a pass is a commutative monoid. Integer values make the laws exact."""

from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.batches import merged
from helpers.marks import first_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.chains import GaussianVAR
from gloree.engine import MergeError
from gloree.moments import (
    CrossMoment,
    RangeSums,
    RegressionFeatures,
    RegressionSums,
    Whitening,
    cross_moment_sums,
    range_sums,
    regression_sums,
)
from gloree.recurrence import (
    CrossSums,
    InstrumentSums,
    LinearisedSums,
    ScoreSums,
    SecondMomentSums,
    SpreadSums,
)
from gloree.refinement import GradientSums, HessianSums, RoundSums
from gloree.sequences import LargestSegments, Segments, as_sequences

LAW = np.array([[[2.0, 1.0], [1.0, 3.0]]])

# Shapes of the summed fields; settings are given as values, "nested" and "concatenate" in words.
PAIRS = np.divmod(np.arange(4), 2)
SHAPES = {
    CrossMoment: {
        "order": 2,
        "covariances": LAW,
        "counts": (1,),
        "output_sums": (1, 2),
        "sums": (1, 3, 4),
    },
    RegressionSums: {
        "features": "xreg",
        "n_rows": (),
        "gram": (3, 3),
        "cross": (3, 2),
        "squares": (2,),
    },
    RangeSums: {"n_rows": (), "products": (2, 3, 2), "weights": (2,)},
    InstrumentSums: {"n_rows": (), "cross": (2, 3), "gram": (3, 3)},
    LinearisedSums: {
        "owner": PAIRS[0],
        "source": PAIRS[1],
        "n_rows": (),
        "squares": (),
        "unit_gram": (4, 4),
        "unit_cross": (4, 1),
        "mixed": (4, 3),
        "gram": (3, 3),
        "cross": (3, 1),
    },
    CrossSums: {"n_rows": (), "moment": (2, 2)},
    ScoreSums: {"n_rows": (), "moment": (2, 2, 2)},
    GradientSums: {"n_rows": (), "squares": (2,), "gradient": (5,), "leverage": None},
    HessianSums: {"n_rows": (), "hessian": (3, 3)},
    SpreadSums: {"n_segments": (), "spread": (3, 3)},
}
STATISTICS = sorted(SHAPES, key=lambda cls: cls.__name__)


def build(cls, rng, low=-1000, high=1000):
    values = {}
    for name, shape in SHAPES[cls].items():
        if name == "leverage":
            n_kept = int(rng.integers(1, 4))
            sizes = rng.integers(low, high, n_kept).astype(float)
            values[name] = LargestSegments(sizes, Segments(rng.integers(0, 100, (n_kept, 5))))
        elif not isinstance(shape, tuple):
            values[name] = shape
        else:
            draw = rng.integers(low, high + 1, shape)
            values[name] = float(draw) if shape == () else draw.astype(float)
    return cls(**values)


def identity(cls):
    if cls is GradientSums:
        nothing = LargestSegments(np.zeros(0), Segments.concatenate(()))
        return cls(0.0, np.zeros(2), np.zeros(5), nothing)
    zeros = {
        name: shape if not isinstance(shape, tuple) else (0.0 if shape == () else np.zeros(shape))
        for name, shape in SHAPES[cls].items()
    }
    return cls(**zeros)


def assert_equal(first, second, *, unordered=()):
    assert type(first) is type(second)
    for entry in fields(first):
        mine, theirs = getattr(first, entry.name), getattr(second, entry.name)
        if isinstance(mine, Segments):
            mine, theirs = mine.values, theirs.values
        if hasattr(mine, "merge"):
            assert_equal(mine, theirs, unordered=unordered)
        elif entry.name in unordered:
            np.testing.assert_array_equal(np.sort(mine, axis=0), np.sort(theirs, axis=0))
        else:
            np.testing.assert_array_equal(mine, theirs)


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("cls", STATISTICS)
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_merging_is_associative(cls, seed):
    rng = np.random.default_rng(seed)
    a, b, c = (build(cls, rng) for _ in range(3))
    assert_equal(a.merge(b).merge(c), a.merge(b.merge(c)))


@pytest.mark.parametrize("cls", STATISTICS)
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_merging_is_commutative(cls, seed):
    """Up to the order of what is listed segment by segment."""
    rng = np.random.default_rng(seed)
    a, b = build(cls, rng), build(cls, rng)
    assert_equal(a.merge(b), b.merge(a), unordered=("values", "segments"))


@pytest.mark.parametrize("cls", STATISTICS)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_statistic_of_no_data_is_the_identity(cls, seed):
    a = build(cls, np.random.default_rng(seed))
    assert_equal(a.merge(identity(cls)), a)
    assert_equal(identity(cls).merge(a), a)


@pytest.mark.parametrize("cls", STATISTICS)
def test_merging_changes_neither_side(cls):
    a, b = build(cls, np.random.default_rng(0)), build(cls, np.random.default_rng(1))
    a.merge(b)
    assert_equal(a, build(cls, np.random.default_rng(0)))
    assert_equal(b, build(cls, np.random.default_rng(1)))


@pytest.mark.parametrize("cls", STATISTICS)
def test_merging_another_type_is_an_error(cls):
    a = identity(cls)
    other = identity(CrossSums if cls is not CrossSums else ScoreSums)
    with pytest.raises(MergeError, match=f"cannot merge {cls.__name__} with"):
        a.merge(other)
    assert issubclass(MergeError, TypeError)


ADDED = [
    (cls, name)
    for cls in STATISTICS
    for name, shape in SHAPES[cls].items()
    if isinstance(shape, tuple) and shape
]


@pytest.mark.parametrize(("cls", "name"), ADDED, ids=lambda value: getattr(value, "__name__", None))
def test_merge_error_names_the_field_of_another_shape(cls, name):
    a = identity(cls)
    larger = np.zeros(tuple(n + 1 for n in SHAPES[cls][name]))
    with pytest.raises(MergeError, match=f"{cls.__name__}: `{name}` has shape"):
        a.merge(replace(a, **{name: larger}))


SETTINGS = [
    (CrossMoment, "order", 3),
    (CrossMoment, "covariances", LAW + 1.0),
    (LinearisedSums, "owner", np.array([1, 1, 0, 0])),
    (LinearisedSums, "source", np.array([0, 1, 2, 3])),
]


@pytest.mark.parametrize(("cls", "name", "value"), SETTINGS)
def test_merge_error_names_the_setting(cls, name, value):
    a = identity(cls)
    with pytest.raises(MergeError, match=f"{cls.__name__}: `{name}` differs"):
        a.merge(replace(a, **{name: value}))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_statistics_of_a_round_merge_part_by_part(seed):
    rng = np.random.default_rng(seed)

    def parts():
        return RoundSums(
            np.ones(2),
            3.0,
            np.eye(2),
            SecondMomentSums(build(LinearisedSums, rng), build(InstrumentSums, rng), None),
            build(RegressionSums, rng),
        )

    a, b, c = parts(), parts(), parts()
    assert_equal(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert_equal(a.merge(b), b.merge(a))
    assert a.merge(b).recurrence.moment is None
    with pytest.raises(MergeError, match="RoundSums: only one side has `moment`"):
        a.merge(replace(b, moment=None))
    other = replace(b.recurrence, instrument=None)
    with pytest.raises(MergeError, match="SecondMomentSums: only one side has `instrument`"):
        a.merge(replace(b, recurrence=other))


# Integer inputs of a white law: scores, monomials and their sums are integers, so batches of any
# cut add to the same bits.
WHITE = GaussianVAR(np.zeros((2, 2)), np.eye(2))
UNIT = Whitening.from_covariance(np.zeros(2), np.eye(2))


def passes():
    features = {
        "xreg": RegressionFeatures(UNIT, 2),
        "union": RegressionFeatures(UNIT, 2, WHITE),
    }
    probes = np.array([[1.0, 2.0], [-1.0, 3.0]])
    return {
        "moment 2": lambda batch: cross_moment_sums(batch, WHITE, 2),
        "moment 3": lambda batch: cross_moment_sums(batch, WHITE, 3),
        "moment 4": lambda batch: cross_moment_sums(batch, WHITE, 4),
        "xreg": lambda batch: regression_sums(batch, features["xreg"]),
        "union": lambda batch: regression_sums(batch, features["union"]),
        "range": lambda batch: range_sums(batch, lambda b: b.X, lambda b: b.targets, probes),
    }


@pytest.mark.parametrize("name", first_of(list(passes()), 2))
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    batch_size=st.integers(1, 20),
    segment=st.integers(1, 6),
    seed=seeds,
)
@settings(max_examples=25, deadline=None)
def test_any_cut_of_the_data_gives_the_same_bits(name, lengths, batch_size, segment, seed):
    rng = np.random.default_rng(seed)
    X = [rng.integers(-9, 10, (n, 2)).astype(float) for n in lengths]
    Y = [rng.integers(-9, 10, (n, 3)).astype(float) for n in lengths]
    function = passes()[name]
    data = as_sequences(X, Y)
    whole = function(data.whole())
    before, after = WHITE.context
    pieces = data.batches(batch_size, segment=segment, before=before, after=after)
    assert_equal(merged(map(function, pieces)), whole)


@given(seed=seeds, n=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_any_order_of_the_sequences_gives_the_same_bits(seed, n):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, n)
    X = [rng.integers(-9, 10, (m, 2)).astype(float) for m in lengths]
    Y = [rng.integers(-9, 10, (m, 1)).astype(float) for m in lengths]
    turn = rng.permutation(n)
    for function in passes().values():
        turned = as_sequences([X[i] for i in turn], [Y[i] for i in turn])
        assert_equal(function(turned.whole()), function(as_sequences(X, Y).whole()))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_a_sequence_does_not_see_its_neighbours(seed):
    """The statistic of two sequences is the sum of the two alone."""
    rng = np.random.default_rng(seed)
    X = [rng.integers(-9, 10, (m, 2)).astype(float) for m in rng.integers(1, 6, 2)]
    Y = [x[:, :1] * x[:, 1:] for x in X]
    for function in passes().values():
        alone = [function(as_sequences([x], [y]).whole()) for x, y in zip(X, Y, strict=True)]
        assert_equal(function(as_sequences(X, Y).whole()), alone[0].merge(alone[1]))
