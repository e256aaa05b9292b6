"""Hypothesis: whatever the lengths and cuts, batches cover the data once and cross no boundary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.engine import Source, halves
from gloree.sequences import Packing, as_sequences

ragged_lengths = st.lists(st.integers(1, 12), min_size=1, max_size=9)
cuts = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 40),
        "segment": st.none() | st.integers(1, 12),
        "before": st.integers(0, 4),
        "after": st.integers(0, 4),
    }
)


def labelled(lengths):
    """Rows (sequence, step), so that every row says where it comes from."""
    return [np.column_stack((np.full(n, i), np.arange(n))) for i, n in enumerate(lengths)]


@settings(max_examples=60, deadline=None)
@given(ragged_lengths, cuts)
def test_every_row_counts_exactly_once_and_in_order(lengths, cut):
    data = as_sequences(labelled(lengths))
    counted = [batch.X[batch.counted] for batch in data.batches(**cut)]
    np.testing.assert_array_equal(np.concatenate(counted), data.X)
    n_counted = sum(batch.n_counted for batch in data.batches(**cut))
    assert n_counted == data.n_rows


@settings(max_examples=60, deadline=None)
@given(ragged_lengths, cuts)
def test_no_segment_crosses_a_boundary_and_each_row_knows_its_step(lengths, cut):
    data = as_sequences(labelled(lengths))
    for batch in data.batches(**cut):
        np.testing.assert_array_equal(batch.X[:, 0], np.repeat(batch.sequence, batch.lengths))
        step = batch.local + np.repeat(batch.first_step, batch.lengths)
        np.testing.assert_array_equal(batch.X[:, 1], step)
        seen = np.repeat(batch.from_start, batch.lengths)
        np.testing.assert_array_equal(batch.steps_before[seen], step[seen])
        total = np.asarray(lengths)[np.repeat(batch.sequence, batch.lengths)]
        seen = np.repeat(batch.to_end, batch.lengths)
        np.testing.assert_array_equal(batch.steps_after[seen], (total - 1 - step)[seen])


@settings(max_examples=60, deadline=None)
@given(ragged_lengths, cuts)
def test_a_piece_has_the_context_asked_for_or_all_there_is(lengths, cut):
    data = as_sequences(labelled(lengths))
    for segments in data.segments(**cut):
        for sequence, first, begin, stop, end in segments.values:
            start, finish = data.starts[sequence], data.starts[sequence + 1]
            assert start <= first <= begin < stop <= end <= finish
            assert begin - first == min(cut["before"], begin - start)
            assert end - stop == min(cut["after"], finish - stop)
            if cut["segment"] is not None:
                assert stop - begin <= cut["segment"]
            else:
                assert (begin, stop) == (start, finish)


@settings(max_examples=60, deadline=None)
@given(ragged_lengths)
def test_packing_is_a_permutation_and_unpack_undoes_it(lengths):
    packing = Packing.from_lengths(np.array(lengths))
    n_rows = sum(lengths)
    np.testing.assert_array_equal(np.sort(packing.rows), np.arange(n_rows))
    values = np.random.default_rng(0).standard_normal((n_rows, 2))
    np.testing.assert_array_equal(packing.unpack(packing.pack(values)), values)
    assert np.all(np.diff(np.diff(packing.step_starts)) <= 0)


@settings(max_examples=60, deadline=None)
@given(ragged_lengths)
def test_list_and_flat_form_hold_the_same_data(lengths):
    X = labelled(lengths)
    listed, flat = as_sequences(X), as_sequences(np.concatenate(X), lengths=lengths)
    np.testing.assert_array_equal(listed.X, flat.X)
    np.testing.assert_array_equal(listed.lengths, flat.lengths)
    back = listed.restore(listed.X)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(back, X, strict=True))


@settings(max_examples=60, deadline=None)
@given(ragged_lengths, cuts, st.integers(2, 5))
def test_lag_windows_of_a_source_are_those_of_a_naive_loop(lengths, cut, lags):
    X = [1.0 + part for part in labelled(lengths)]
    if cut["segment"] is not None:
        cut = {**cut, "before": max(cut["before"], lags - 1)}
    source = Source(as_sequences(X), lags=lags, **cut)
    windows, counted = [], []
    for segments in source.as_subset().batches:
        batch = source.read(segments)
        rows = np.arange(batch.n_rows)[batch.counted]
        windows.append(batch.X[rows])
        counted.append(np.repeat(batch.sequence, batch.lengths)[rows])
    naive = [
        (i, np.concatenate([x[t - lag] for lag in range(lags)]))
        for i, x in enumerate(X)
        for t in range(lags - 1, len(x))
    ]
    np.testing.assert_array_equal(np.concatenate(counted), [i for i, _ in naive])
    if naive:
        np.testing.assert_array_equal(np.concatenate(windows), [window for _, window in naive])


@settings(max_examples=60, deadline=None)
@given(ragged_lengths, cuts)
def test_halves_are_disjoint_not_empty_and_together_everything(lengths, cut):
    whole = Source(as_sequences(labelled(lengths)), **cut).as_subset()
    if whole.n_visited < 2:
        return
    first, second = halves(whole)
    assert min(first.n_visited, second.n_visited) > 0
    both = first.joined(second).segments
    assert both[np.argsort(both.start)] == whole.segments
    assert abs(first.n_visited - second.n_visited) <= max(1, whole.n_batches)
