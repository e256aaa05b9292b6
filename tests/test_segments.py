"""Segments: an array of segments with names, which travels in few bytes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloree._sums import MergeError
from gloree.sequences import Cut, Segments

COLUMNS = ("sequence", "context_start", "start", "stop", "context_stop")


def some(n_segments=6):
    """Pieces of 4 rows, of sequences of 12, with 2 rows of context before and 1 after."""
    cut = Cut(np.full(n_segments, 12), 4, 2, 1)
    return cut.segments(np.arange(n_segments))


def test_names_are_those_of_the_columns():
    segments = some(3)
    np.testing.assert_array_equal(
        segments.values, [[0, 0, 0, 4, 5], [0, 2, 4, 8, 9], [0, 6, 8, 12, 12]]
    )
    named = [getattr(segments, name) for name in COLUMNS]
    np.testing.assert_array_equal(named, segments.values.T)
    assert Segments.of(*named) == segments
    assert segments.lengths.tolist() == [5, 7, 6] and segments.n_rows == 18
    assert segments.counted.tolist() == [4, 4, 4] and segments.n_counted == 12


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 4),
        slice(None, None, -2),
        [4, 0],
        np.array([5]),
        np.arange(6) > 2,
        3,
        -1,
        slice(0, 0),
    ],
    ids=str,
)
def test_any_index_gives_segments(index):
    segments = some()
    expected = segments.values[index].reshape(-1, 5)
    assert segments[index] == Segments(expected)
    assert len(segments[index]) == len(expected)


def test_each_segment_in_turn():
    segments = some()
    each = list(segments)
    assert [len(one) for one in each] == [1] * 6
    assert Segments.concatenate(each) == segments


def test_what_is_no_array_of_segments_is_refused():
    with pytest.raises(
        ValueError, match=r"`values` has shape \(3, 4\), expected \(n_segments, 5\)"
    ):
        Segments(np.zeros((3, 4), dtype=np.int64))


def test_segments_differ_from_others_and_from_other_things():
    assert some() == some() and some() != some(5) and some(3) != some(3).values.tolist()
    changed = some().values.copy()
    changed[2, 3] += 1
    assert Segments(changed) != some()


def test_segments_merge_in_order_and_with_nothing_else():
    segments = some()
    assert segments[:2].merge(segments[2:]) == segments
    assert Segments.concatenate(()).merge(segments) == segments
    with pytest.raises(MergeError, match="cannot merge Segments with list"):
        segments.merge([])


@given(st.integers(0, 40), st.integers(1, 50))
def test_parts_are_of_about_equal_size_and_not_empty(n_segments, n_parts):
    segments = Cut(np.full(40, 3)).segments(np.arange(n_segments))
    parts = segments.split_evenly(n_parts)
    sizes = [len(part) for part in parts]
    assert all(sizes) and len(parts) <= n_parts
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert Segments.concatenate(parts) == segments


def test_rows_before_a_place_no_longer_count():
    later = some(3).counted_from(np.array([2, 8, 0]))
    # nothing is left of the second
    assert later.values.tolist() == [[0, 0, 2, 4, 5], [0, 6, 8, 12, 12]]


def test_counted_rows_are_split_with_all_rows_before_them_as_context():
    (whole,) = Cut(np.array([10])).batches(10)
    parts = whole.split_counted(3)
    assert parts.context_start.tolist() == [0, 0, 0]
    assert parts.start.tolist() == [0, 3, 6] and parts.stop.tolist() == [3, 6, 10]
    assert parts.context_stop.tolist() == [3, 6, 10]


@pytest.mark.parametrize("lengths", [[7] * 40, [7] * 40 + [5], [3, 9, 4, 4, 4], [6], [6, 6], []])
def test_segments_travel_in_few_bytes_and_come_back(lengths):
    (segments,) = Cut(np.array(lengths)).batches(10**6) if lengths else (Segments.concatenate(()),)
    sent = pickle.dumps(segments)
    back = pickle.loads(sent)
    assert back == segments == copy.deepcopy(segments)
    assert back.values.dtype == segments.values.dtype
    # of 41 segments, 1,640 bytes
    equal = len(set(lengths)) == 1
    assert (len(sent) < 1000) == (equal or len(lengths) < 10)
