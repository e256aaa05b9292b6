"""How records are cut into segments that train and segments that are held out."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.identification._records import LARGEST_MODULUS, REMEMBERED, SEGMENT, split_records
from gloree.sequences import as_sequences

LENGTHS = {
    "one short": [400],
    "many": [30] * 40,
    "one long": [20 * SEGMENT],
    "mixed": [6000, 90, 7],
}


def counted(rows):
    """Rows that count, each as often as it does."""
    segments = rows.segments
    return np.concatenate(
        [np.arange(a, b) for a, b in zip(segments.start, segments.stop, strict=True)]
    )


def records(lengths):
    n = sum(lengths)
    return as_sequences(np.ones((n, 1)), np.ones((n, 1)), lengths=lengths)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("warm_up", [10, 60])
def test_every_row_after_the_warm_up_trains_or_is_held_out(lengths, warm_up):
    split = split_records(records(lengths), warm_up)
    starts = np.cumsum([0, *lengths[:-1]])
    expected = np.concatenate(
        [
            np.arange(start + min(warm_up, n // 10), start + n)
            for start, n in zip(starts, lengths, strict=True)
        ]
    )
    training, held_out = counted(split.training), counted(split.held_out)
    np.testing.assert_array_equal(np.concatenate((training, held_out)), expected)
    assert training.size > held_out.size > 0
    assert split.training.n_counted == training.size


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


def test_few_held_out_rows_ask_for_a_larger_gain():
    few, many = (split_records(records([n]), 10).error_ratio for n in (400, 4000))
    assert 0.0 < few < many < 1.0
