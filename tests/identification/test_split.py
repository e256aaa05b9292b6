"""Which rows train and which are held out, and how records are cut into segments for passes."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.identification._split import (
    HELD_OUT,
    LARGEST_MODULUS,
    LEAST_BLOCK,
    ONE_BATCH,
    REMEMBERED,
    SEGMENT,
    autocorrelation,
    hold_out,
    independent_samples,
    split_records,
)
from gloree.sequences import as_sequences

LENGTHS = {
    "one short": [400],
    "many": [30] * 40,
    "one long": [20 * SEGMENT],
    "mixed": [6000, 200, 150],
}


def counted(rows):
    """Rows that count, each as often as it does, in their order."""
    source, found = rows.source, []
    for segments in rows.iter_batches():
        batch = source.read(segments)
        first = np.repeat(batch.segments.context_start, batch.lengths)
        found.append((first + batch.local)[batch.counted_rows])
        assert batch.n_counted == found[-1].size
    assert sum(map(len, found)) == rows.n_counted
    return np.sort(np.concatenate(found))


def records(lengths, seed=0):
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    return as_sequences(*rng.standard_normal((2, n, 1)), lengths=lengths)


def all_rows(data):
    return np.ones(data.n_rows, dtype=bool)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("warm_up", [10, 60])
def test_every_row_that_counts_trains_or_is_held_out(lengths, warm_up):
    data = records(lengths)
    known = np.random.default_rng(1).uniform(size=data.n_rows) > 0.1
    split = split_records(data, warm_up, counted=known)
    training, held_out = counted(split.training), counted(split.held_out)
    assert training.size > held_out.size > 0
    assert not np.intersect1d(training, held_out).size
    both = np.sort(np.concatenate((training, held_out)))
    np.testing.assert_array_equal(both, counted(split.everything))
    # the first rows of many records, which share their starts, only warm up
    lead = np.repeat(np.minimum(warm_up, data.lengths // 10), data.lengths)
    step = np.arange(data.n_rows) - np.repeat(data.starts[:-1], data.lengths)
    expected = known if split.starts.own else known & (step >= lead)
    np.testing.assert_array_equal(both, np.flatnonzero(expected))


@pytest.mark.parametrize("lengths", [[400], [3000, 500, 200], [100] * 12], ids=str)
def test_every_record_has_rows_of_both_kinds(lengths):
    data = records(lengths)
    chosen = hold_out(data, all_rows(data))
    for begin, end in zip(data.starts[:-1], data.starts[1:], strict=True):
        share = chosen[begin:end].mean()
        assert share == pytest.approx(HELD_OUT, abs=2 / LEAST_BLOCK)


def test_blocks_are_long_against_the_correlation_of_the_outputs():
    rng = np.random.default_rng(0)
    slow = np.convolve(rng.standard_normal(8000), np.ones(100), mode="valid")[:, None]
    data = as_sequences(rng.standard_normal(slow.shape), slow)
    edges = np.flatnonzero(np.diff(hold_out(data, all_rows(data)).astype(int)))
    # correlated over a hundred rows, blocks of five hundred at least
    assert np.diff(edges)[::2].min() >= 500


def test_of_records_of_a_few_steps_every_fifth_is_held_out_whole():
    data = records([30] * 40)
    chosen = hold_out(data, all_rows(data)).reshape(40, 30)
    assert set(chosen.sum(axis=1).tolist()) == {0, 30}
    assert chosen[:, 0].sum() == 8


def test_something_is_held_out_whatever_is_missing():
    data = records([100])
    known = ~hold_out(data, all_rows(data))
    chosen = hold_out(data, known)
    assert (chosen & known).any()
    assert (~chosen & known).any()


def test_the_first_training_rows_are_whole_segments():
    split = split_records(records([40 * SEGMENT]), 50)
    first = counted(split.first_training(3 * SEGMENT))
    np.testing.assert_array_equal(first, counted(split.training)[: first.size])
    assert 3 * SEGMENT <= first.size <= 5 * SEGMENT
    everything = counted(split.first_training(10**9))
    np.testing.assert_array_equal(everything, counted(split.training))


def test_states_forget_within_the_warm_up_of_a_segment():
    long = records([40 * SEGMENT])
    assert split_records(long, 50, 0.5).radius ** 50 == pytest.approx(REMEMBERED)
    # what the linear model has is allowed, short of the edge of stability
    assert split_records(long, 50, 0.99).radius == 0.99
    assert split_records(long, 50, 1.0).radius == LARGEST_MODULUS
    # a record that is not cut has one unknown state, at its start
    assert split_records(records([400]), 50, 0.5).radius == LARGEST_MODULUS


def test_autocorrelation_is_that_of_a_loop():
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.standard_normal(60))
    known = rng.uniform(size=60) > 0.3
    centred = values - values[known].mean()
    expected = []
    for lag in range(30):
        pairs = [t for t in range(60 - lag) if known[t] and known[t + lag]]
        expected.append(sum(centred[t] * centred[t + lag] for t in pairs) / max(len(pairs), 1))
    found = autocorrelation(values, known)
    # sums by fast transforms of 128 numbers
    np.testing.assert_allclose(found, np.array(expected) / expected[0], atol=1e-12)


@pytest.mark.parametrize("pole", [0.0, 0.8, 0.95])
def test_independent_samples_of_a_first_order_process(pole):
    """The variance of a mean is that of n (1 - a) / (1 + a) independent ones."""
    rng = np.random.default_rng(0)
    n, found = 4000, []
    for _ in range(20):
        values = np.empty(n)
        values[0] = rng.standard_normal()
        for t, noise in enumerate(np.sqrt(1 - pole**2) * rng.standard_normal(n - 1)):
            values[t + 1] = pole * values[t] + noise
        found.append(independent_samples(values, np.ones(n, dtype=bool)))
    assert np.median(found) == pytest.approx(n * (1 - pole) / (1 + pole), rel=0.25)


def test_few_rows_are_one_batch_and_many_are_two():
    few, many = (split_records(records([n]), 50) for n in (ONE_BATCH // 2, 4 * ONE_BATCH))
    assert few.training.n_batches == 1
    assert many.training.n_batches == 2
    assert few.first_training(1000).n_batches == 1
