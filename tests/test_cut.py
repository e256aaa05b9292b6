"""Cut: numbered segments equal the plain definition, however few are listed at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gloree.sequences._cut as cut_module
from gloree.sequences import Cut, Segments, spread_over

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)
SEGMENTS = st.one_of(st.none(), st.integers(1, 50))
CONTEXT = st.integers(0, 12)


def plain(lengths, segment, before, after, first_row=0, first_sequence=0):
    """The definition, one segment at a time."""
    rows = []
    start = first_row
    for i, length in enumerate(lengths):
        pieces = 1 if segment is None else -(-length // segment)
        for j in range(pieces):
            begin, stop = start + j * length // pieces, start + (j + 1) * length // pieces
            head = max(start, begin - before)
            tail = min(start + length, stop + after)
            rows.append((first_sequence + i, head, begin, stop, tail))
        start += length
    return Segments(np.array(rows, dtype=np.int64))


def plain_batches(segments, batch_size):
    """A batch ends with the segment that passes the next multiple of the batch size."""
    batches, counted = {}, 0
    for segment in segments:
        batches.setdefault(counted // batch_size, []).append(segment)
        counted += segment.n_counted
    return [Segments.concatenate(several) for several in batches.values()]


@given(LENGTHS, SEGMENTS, CONTEXT, CONTEXT, st.integers(0, 1000), st.integers(0, 1000))
def test_segments_equal_the_definition(lengths, segment, before, after, row, sequence):
    cut = Cut(np.array(lengths), segment, before, after, row, sequence)
    expected = plain(lengths, segment, before, after, row, sequence)
    assert cut.n_segments == len(expected)
    assert cut.segments(np.arange(cut.n_segments)) == expected


@given(LENGTHS, SEGMENTS, st.data())
def test_any_segments_can_be_asked_for(lengths, segment, data):
    cut = Cut(np.array(lengths), segment, 2, 3)
    numbers = np.array(
        data.draw(st.lists(st.integers(0, cut.n_segments - 1), max_size=10)), dtype=np.int64
    )
    assert cut.segments(numbers) == plain(lengths, segment, 2, 3)[numbers]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS, st.integers(1, 200), st.integers(1, 9))
def test_batches_do_not_depend_on_how_many_segments_are_listed_at_once(
    lengths, segment, batch_size, at_once
):
    cut = Cut(np.array(lengths), segment, 1, 1)
    whole = list(cut.batches(batch_size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut_module, "SEGMENTS_AT_ONCE", at_once)
        few = list(cut.batches(batch_size))
    expected = plain_batches(plain(lengths, segment, 1, 1), batch_size)
    assert len(whole) == len(few) == len(expected)
    for mine, theirs, plainly in zip(whole, few, expected, strict=True):
        assert mine == theirs == plainly


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_lengths_may_be_kept_in_a_small_type(dtype):
    lengths = np.array([200, 255, 3, 199] * 50)
    small = Cut(lengths.astype(dtype), 50, 20, 30, first_row=7)
    assert small.segments(np.arange(small.n_segments)) == plain(lengths, 50, 20, 30, 7)


def test_lengths_may_share_one_number():
    cut = Cut(np.broadcast_to(np.int64(10), (10**6,)), 4)
    assert cut.n_segments == 3 * 10**6
    np.testing.assert_array_equal(
        cut.segments(np.array([3 * 10**6 - 1])).values,
        [[10**6 - 1, 10**7 - 4, 10**7 - 4, 10**7, 10**7]],
    )


def test_a_segment_longer_than_a_batch_is_a_batch():
    batches = Cut(np.array([50, 1, 1, 50])).batches(10)
    assert [segments.sequence.tolist() for segments in batches] == [[0], [1, 2, 3]]


@given(st.integers(0, 500), st.integers(1, 500))
def test_spread_indices_are_even_and_different(total, wanted):
    chosen = spread_over(total, wanted)
    assert chosen.shape[0] == min(total, wanted)
    gaps = np.diff(np.append(chosen, total))
    assert chosen.shape[0] == 0 or gaps.max() - gaps.min() <= 1
