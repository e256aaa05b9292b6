"""Source: segments of data in several parts, listed on demand; the same sums in every engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from engine_rounding import rounded
from helpers.parts import ragged_parts
from hypothesis import given, settings
from hypothesis import strategies as st

import gloree.sequences._cut as cut_module
import gloree.sequences._sequences as sequences_module
from gloree.engine import Engine, Source
from gloree.sequences import Segments, as_sequences, walk
from gloree.sources import batches

CUTS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 90),
        "segment": st.one_of(st.none(), st.integers(1, 25)),
        "before": st.integers(0, 6),
        "after": st.integers(0, 6),
    }
)
PARTS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=5)


def parts_of(lengths):
    parts, together = ragged_parts(lengths)
    return batches(parts), together


# ------------------------------------------------------------------------------------ segments


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS)
def test_segments_of_parts_are_those_of_all_sequences_together(lengths, cut):
    data, together = parts_of(lengths)
    mine, theirs = Source(data, **cut), Source(together, **cut)
    assert mine.n_segments == theirs.n_segments == mine.n_visited
    assert mine.as_subset().segments == theirs.as_subset().segments
    numbers = np.arange(mine.n_segments)
    assert mine.choose(numbers) == theirs.as_subset().segments
    assert mine.choose(numbers[1::3][:1]) == theirs.choose(numbers[1::3][:1])


@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS, st.integers(1, 400))
def test_samples_and_subsets_do_not_depend_on_the_parts(lengths, cut, wanted):
    data, together = parts_of(lengths)
    mine, theirs = Source(data, **cut), Source(together, **cut)
    assert mine.sample(wanted) == theirs.sample(wanted)
    assert mine.subset(wanted).segments == theirs.subset(wanted).segments


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS, st.data())
def test_what_is_left_out_or_skipped_is_seen_by_no_pass(lengths, cut, draw):
    data, together = parts_of(lengths)
    whole = Source(together, **cut).as_subset().segments
    sequences = draw.draw(st.sets(st.sampled_from(whole.sequence.tolist())))
    rows = draw.draw(st.sets(st.sampled_from(whole.start.tolist())))
    out = np.isin(whole.sequence, list(sequences)) | np.isin(whole.start, list(rows))
    expected = whole[~out]
    source = Source(
        data, **cut, left_out=np.array(sorted(sequences), int), skipped=np.array(sorted(rows), int)
    )
    assert source.as_subset().segments == expected
    assert source.choose(np.arange(source.n_segments)) == expected
    assert source.n_visited == len(expected)
    assert source.n_segments == len(whole)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS, st.data(), st.integers(1, 3))
def test_a_task_that_holds_a_part_cuts_it_as_the_source_does(lengths, cut, draw, stride):
    data, together = parts_of(lengths)
    whole = Source(together, **cut).as_subset().segments
    left_out, skipped = (
        np.array(sorted(draw.draw(st.sets(st.sampled_from(numbers.tolist())))), int)
        for numbers in (whole.sequence, whole.start)
    )
    source = Source(data, **cut, stride=stride, left_out=left_out, skipped=skipped)
    mine = []
    for part in range(len(lengths)):
        batching = source.batching_of(part)
        sequences = np.arange(*data.part_sequences[part : part + 2])
        assert set(batching.left_out) == set(left_out) & set(sequences)
        mine += batching.batches_of(data.open(part))
    assert mine == source.as_subset().batches


@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS, st.integers(1, 5), st.integers(1, 60))
def test_a_stride_picks_the_same_segments_whatever_the_batches(lengths, cut, stride, batch_size):
    data, _ = parts_of(lengths)
    cuts = Source(data, **cut)._cuts
    expected = [each.segments(np.arange(0, each.n_segments, stride)) for each in cuts]
    source = Source(data, **{**cut, "batch_size": batch_size}, stride=stride)
    assert source.as_subset().segments == Segments.concatenate(expected)


def test_every_segment_is_seen_once_however_few_are_listed_at_once(monkeypatch):
    data, together = parts_of([[20] * 40, [3] * 50, [7, 90, 1]])
    cut = {"batch_size": 33, "segment": 8, "before": 3, "after": 2}
    expected = Source(data, **cut).as_subset()
    monkeypatch.setattr(cut_module, "SEGMENTS_AT_ONCE", 7)
    assert Source(data, **cut).as_subset().batches == expected.batches
    assert expected.segments == Source(together, **cut).as_subset().segments


# ------------------------------------------------------------------------------------- batches


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(PARTS, CUTS)
def test_batches_never_reach_over_two_parts_and_hold_the_right_rows(lengths, cut):
    data, together = parts_of(lengths)
    source, ends = Source(data, **cut), np.cumsum([sum(part) for part in lengths])
    # batches of the whole reach over parts, and are split
    for subset in (source.as_subset(), Source(together, **cut).as_subset()):
        seen = []
        for _, part, segments in walk(data, subset.batches):
            assert np.unique(np.searchsorted(ends, segments.start, side="right")).size == 1
            batch, expected = part.batch(segments), together.batch(segments)
            for name in ("X", "Y", "lengths", "before", "after", "from_start", "to_end"):
                np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
            np.testing.assert_array_equal(batch.first_step, expected.first_step)
            seen.append(segments)
        assert Segments.concatenate(seen) == subset.segments


@settings(max_examples=40, deadline=None)
@given(PARTS, CUTS, st.data())
def test_an_excerpt_gives_the_same_batches(lengths, cut, draw):
    _, together = parts_of(lengths)
    segments = draw.draw(st.sampled_from(Source(together, **cut).as_subset().batches))
    part = together.open()
    excerpt = part.excerpt(int(segments.context_start.min()), int(segments.context_stop.max()))
    assert np.shares_memory(excerpt.X, part.X)
    mine, theirs = excerpt.batch(segments), part.batch(segments)
    for name in ("X", "Y", "from_start", "to_end", "first_step", "sequence"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_a_pass_opens_each_part_once():
    data, _ = parts_of([[5] * 4, [6] * 3, [7]])
    opened = []
    plain_open = data.open
    data.open = lambda index: opened.append(index) or plain_open(index)
    Engine("threads", n_workers=3).run(rounded, Source(data, batch_size=6))
    assert opened == [0, 1, 2]


# -------------------------------------------------------------------------------------- groups


ENGINES = [Engine("threads", n_workers=n) for n in (1, 2, 5)]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: f"{engine.n_workers}")
@pytest.mark.parametrize("batch_size", [1, 13, 1000])
@pytest.mark.parametrize("parts", [True, False], ids=["parts", "together"])
def test_sums_are_bit_equal_for_any_number_of_threads(engine, batch_size, parts, monkeypatch):
    # groups of a few rows, so that there are many
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 64)
    data = parts_of([[5, 9, 30] * 8, [2] * 60, [41], [3, 80]])[0 if parts else 1]
    source = Source(data, batch_size=batch_size, segment=10, before=2, after=1)
    expected = Engine("serial").run(rounded, source)
    assert engine.run(rounded, source) == expected
    assert len(expected.rows) == data.n_rows
    subset = source.subset(150)
    assert engine.run(rounded, subset) == Engine("serial").run(rounded, subset)


def test_the_sums_of_a_group_are_merged_before_they_join_the_total(monkeypatch):
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 20)

    @dataclass(frozen=True)
    class Tree:
        text: str

        def merge(self, other):
            return Tree(f"({self.text}{other.text})")

    def leaf(batch):
        return Tree("abcdefghij"[batch.sequence[0]])

    x = np.ones((8, 5, 1))
    together = Engine("serial").run(leaf, Source(as_sequences(x, x), batch_size=5)).text
    assert together == "((((ab)c)d)(((ef)g)h))"
    data = batches([(x[:1], x[:1]), (x[1:4], x[1:4]), (x[4:], x[4:])])
    assert Engine("serial").run(leaf, Source(data, batch_size=5)).text == "((a((bc)d))(((ef)g)h))"
