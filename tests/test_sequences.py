"""Sequences: four forms of the same data, batches within boundaries, errors that say why."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from helpers import generators

from gloree.sequences import FAR, Packing, as_sequences

LENGTHS = (4, 1, 3, 7, 1, 2)
ragged = partial(generators.ragged, 3, 2)


# ------------------------------------------------------------------------------------- forms


def test_all_forms_of_equal_sequences_hold_the_same_rows():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 4, 2))
    forms = {
        "array": as_sequences(X, Y),
        "list": as_sequences(list(X), list(Y)),
        "flat": as_sequences(X.reshape(20, 3), Y.reshape(20, 2), lengths=[4] * 5),
    }
    for form, data in forms.items():
        assert data.form == form
        np.testing.assert_array_equal(data.X, X.reshape(20, 3))
        np.testing.assert_array_equal(data.Y, Y.reshape(20, 2))
        np.testing.assert_array_equal(data.lengths, [4] * 5)
        np.testing.assert_array_equal(data.starts, [0, 4, 8, 12, 16, 20])


def test_one_sequence_is_the_same_in_every_form():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    every = [
        as_sequences(x, y),
        as_sequences([x], [y]),
        as_sequences(x[None], y[None]),
        as_sequences(x, y, lengths=[6]),
    ]
    assert [data.form for data in every] == ["single", "list", "array", "flat"]
    for data in every:
        np.testing.assert_array_equal(data.X, x)
        np.testing.assert_array_equal(data.Y, y)
        assert (data.n_rows, data.n_sequences, data.n_inputs, data.n_outputs) == (6, 1, 3, 2)


def test_tuples_and_nested_lists_of_numbers_are_lists_of_sequences():
    data = as_sequences(([[1, 2], [3, 4]], [[5, 6]]))
    assert data.form == "list"
    np.testing.assert_array_equal(data.X, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(data.lengths, [2, 1])


def test_restore_gives_every_form_back():
    X, _ = ragged(LENGTHS)
    listed = as_sequences(X)
    back = listed.restore(listed.X)
    assert isinstance(back, list)
    for mine, theirs in zip(back, X, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    flat = as_sequences(np.concatenate(X), lengths=LENGTHS)
    np.testing.assert_array_equal(flat.restore(flat.X), np.concatenate(X))
    single = as_sequences(X[0])
    np.testing.assert_array_equal(single.restore(single.X), X[0])
    cube = np.arange(24.0).reshape(2, 4, 3)
    array = as_sequences(cube)
    np.testing.assert_array_equal(array.restore(array.X), cube)


@pytest.mark.parametrize("columns", [(1,), (5,), (2, 3)])
def test_restore_takes_rows_of_other_widths(columns):
    array = as_sequences(np.zeros((2, 4, 3)))
    assert array.restore(np.zeros((8, *columns))).shape == (2, 4, *columns)
    listed = as_sequences([np.zeros((3, 1)), np.zeros((1, 1))])
    assert [part.shape for part in listed.restore(np.zeros((4, *columns)))] == [
        (3, *columns),
        (1, *columns),
    ]


@pytest.mark.parametrize(
    "X, Y, lengths",
    [
        (np.ones((3, 4, 2)), np.arange(12.0).reshape(3, 4), None),
        ([np.ones((2, 2)), np.ones((1, 2))], [np.arange(2.0), np.array([2.0])], None),
        (np.ones((5, 2)), np.arange(5.0), None),
        (np.ones((5, 2)), np.arange(5.0), [2, 3]),
    ],
    ids=["array", "list", "single", "flat"],
)
def test_one_output_may_come_without_its_axis(X, Y, lengths):
    data = as_sequences(X, Y, lengths=lengths)
    assert data.flat_outputs
    np.testing.assert_array_equal(data.Y, np.arange(data.n_rows)[:, None])


def test_select_takes_whole_sequences():
    X, Y = ragged(LENGTHS)
    part = as_sequences(X, Y).select([3, 0])
    np.testing.assert_array_equal(part.X, np.concatenate([X[3], X[0]]))
    np.testing.assert_array_equal(part.Y, np.concatenate([Y[3], Y[0]]))
    np.testing.assert_array_equal(part.lengths, [7, 4])


# ------------------------------------------------------------------------------------ memory


def test_a_contiguous_array_of_float64_is_not_copied():
    X, Y = np.zeros((6, 5, 3)), np.zeros((6, 5, 2))
    data = as_sequences(X, Y)
    assert np.shares_memory(data.X, X)
    assert np.shares_memory(data.Y, Y)
    whole = data.whole()
    assert np.shares_memory(whole.X, X)
    assert np.shares_memory(whole.Y, Y)
    for batch in data.batches(batch_size=10):
        assert np.shares_memory(batch.X, X)


@pytest.mark.parametrize(
    "convert",
    [
        lambda values: np.asfortranarray(values),
        lambda values: values.astype(np.float32),
        lambda values: values.astype(np.int16),
        lambda values: np.repeat(values, 2, axis=-1)[..., ::2],
        lambda values: values[::-1].copy()[::-1],
        lambda values: values.astype(">f8"),
    ],
    ids=["Fortran", "float32", "integer", "strided", "reversed", "big-endian"],
)
def test_batches_are_float64_and_contiguous_whatever_came(convert):
    values = np.arange(60).reshape(5, 4, 3).astype(float)
    data = as_sequences(convert(values), convert(values[..., :2]))
    for batch in data.batches(batch_size=8):
        for rows in (batch.X, batch.Y):
            assert rows.dtype == np.float64
            assert rows.flags.c_contiguous
    whole = data.whole()
    np.testing.assert_array_equal(whole.X, values.reshape(20, 3))
    np.testing.assert_array_equal(whole.Y, values.reshape(20, 3)[:, :2])


def test_read_only_data_are_accepted_and_stay_as_they_are():
    X, Y = np.ones((3, 4, 2)), np.ones((3, 4, 1))
    X.flags.writeable = Y.flags.writeable = False
    whole = as_sequences(X, Y).whole()
    np.testing.assert_array_equal(whole.X, 1.0)


# ----------------------------------------------------------------------------------- batches


def test_a_batch_knows_where_its_rows_stand():
    X, Y = ragged((5, 2))
    (batch,) = as_sequences(X, Y).batches()
    np.testing.assert_array_equal(batch.starts, [0, 5])
    np.testing.assert_array_equal(batch.local, [0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(batch.steps_before, batch.local)
    np.testing.assert_array_equal(batch.steps_after, [4, 3, 2, 1, 0, 1, 0])
    assert batch.counted == slice(None)
    assert (batch.n_rows, batch.n_counted, batch.has_context) == (7, 7, False)


def test_pieces_of_a_long_sequence_carry_context_and_count_each_row_once():
    x = np.arange(20.0)[:, None]
    data = as_sequences([x, 100 + x[:3]])
    batches = list(data.batches(batch_size=1, segment=7, before=2, after=1))
    assert len(batches) == 4
    counted = np.concatenate([batch.X[batch.counted] for batch in batches])
    np.testing.assert_array_equal(counted[:, 0], np.concatenate([x[:, 0], 100 + x[:3, 0]]))
    middle = batches[1]
    assert not middle.from_start[0] and not middle.to_end[0]
    assert (middle.before[0], middle.after[0]) == (2, 1)
    assert middle.steps_before[0] >= FAR and middle.steps_after[0] >= FAR
    first = batches[0]
    assert first.from_start[0] and first.before[0] == 0


def test_context_stops_at_the_boundary_of_the_sequence():
    X = [np.full((n, 1), float(i)) for i, n in enumerate((9, 1, 9))]
    for batch in as_sequences(X).batches(batch_size=3, segment=3, before=5, after=5):
        for start, length, sequence in zip(
            batch.starts, batch.lengths, batch.sequence, strict=True
        ):
            np.testing.assert_array_equal(batch.X[start : start + length], float(sequence))


def test_weights_and_targets_are_refused_where_there_are_none():
    batch = as_sequences(np.ones((3, 2))).whole()
    assert batch.weights is None
    with pytest.raises(ValueError, match=r"needs outputs.*without `Y`"):
        _ = batch.targets


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (4, 4), (3, 1, 5, 5, 2), (1, 9)])
def test_packing_puts_equal_steps_side_by_side(lengths):
    sizes = np.array(lengths)
    packing = Packing.from_lengths(sizes)
    steps = np.concatenate([np.arange(n) for n in lengths])
    values = np.arange(sizes.sum() * 2.0).reshape(-1, 2)
    np.testing.assert_array_equal(packing.unpack(packing.pack(values)), values)
    assert packing.n_steps == max(lengths)
    packed = packing.pack(steps)
    segment_of = packing.pack(np.repeat(np.arange(sizes.size), sizes))
    for t in range(packing.n_steps):
        block = slice(packing.step_starts[t], packing.step_starts[t + 1])
        np.testing.assert_array_equal(packed[block], t)
        alive = packing.order[: packing.step_starts[t + 1] - packing.step_starts[t]]
        np.testing.assert_array_equal(segment_of[block], alive)


# ------------------------------------------------------------------------------------ errors

ONE = np.ones((4, 2))
BAD = {
    "text": (("abc",), {}, TypeError, "`X` has dtype <U3, expected real numbers"),
    "nothing": ((None,), {}, TypeError, "`X` has dtype object"),
    "complex": ((ONE + 1j,), {}, TypeError, "`X` has dtype complex128.*real and imaginary"),
    "object": ((ONE.astype(object),), {}, TypeError, "`X` has dtype object"),
    "complex outputs": ((ONE, ONE * 1j), {}, TypeError, "`Y` has dtype complex128"),
    "scalar": ((3.0,), {}, ValueError, "`X` has 0 dimensions, expected"),
    "four dimensions": ((np.ones((1, 2, 3, 4)),), {}, ValueError, "`X` has 4 dimensions"),
    "vector": ((np.ones(4),), {}, ValueError, r"`X` holds vectors.*X\[\.\.\., np\.newaxis\]"),
    "vectors": (([np.ones(4)],), {}, ValueError, "`X` holds vectors"),
    "3-D in a list": (([ONE[None]],), {}, ValueError, r"`X\[0\]` has shape \(1, 4, 2\)"),
    "empty list": (([],), {}, ValueError, "`X` is an empty list"),
    "empty outputs": (([ONE], []), {}, ValueError, "`Y` is an empty list"),
    "no sequences": ((np.ones((0, 3, 2)),), {}, ValueError, "`X` holds no steps"),
    "no steps": ((np.ones((0, 2)),), {}, ValueError, "`X`.*no steps"),
    "one has no steps": (
        ([ONE, ONE[:0]],),
        {},
        ValueError,
        "sequence 1 of `X` has no steps.*leave them out",
    ),
    "no inputs": ((np.ones((4, 0)),), {}, ValueError, r"`X` has no columns \(n_inputs = 0\)"),
    "no outputs": ((ONE, np.ones((4, 0))), {}, ValueError, r"`Y` has no columns"),
    "no outputs, 3-D": ((ONE[None], np.ones((1, 4, 0))), {}, ValueError, r"`Y` has no columns"),
    "columns differ": (
        ([ONE, np.ones((4, 3))],),
        {},
        ValueError,
        r"`X\[1\]` has shape \(4, 3\), but `X\[0\]` has \(4, 2\)",
    ),
    "ragged nest": (([[[1.0, 2.0], [3.0]]],), {}, ValueError, r"`X\[0\]` is not a regular array"),
    "forms differ": (
        ([ONE], np.ones((1, 4, 1))),
        {},
        ValueError,
        "`X` was given as list, `Y` as array",
    ),
    "counts differ": (([ONE], [ONE, ONE]), {}, ValueError, "`X` has 1 sequences, `Y` has 2"),
    "steps differ": (
        ([ONE, ONE], [ONE, ONE[:3]]),
        {},
        ValueError,
        r"`X\[1\]` has 4 steps, `Y\[1\]` has 3",
    ),
    "steps differ, one": ((ONE, ONE[:3]), {}, ValueError, "`X` has 4 steps, `Y` has 3"),
    "steps differ, 3-D": (
        (ONE[None], ONE[None, :3]),
        {},
        ValueError,
        r"`Y` has shape \(1, 3, 2\), expected \(1, 4, n_outputs\)",
    ),
    "lengths of an array": (
        (ONE[None],),
        {"lengths": [2, 2]},
        ValueError,
        "one integer for each sequence: `X` has 1 sequences, `lengths` has shape",
    ),
    "longer than padding": (
        (ONE[None],),
        {"lengths": [5]},
        ValueError,
        r"`lengths\[0\]` is 5, and `X\[0\]` has 4 steps",
    ),
    "lengths of a list": (([ONE],), {"lengths": [4]}, ValueError, "`lengths` goes with one flat"),
    "lengths are floats": ((ONE,), {"lengths": [2.0, 2.0]}, ValueError, "sequence of integers"),
    "lengths are 2-D": ((ONE,), {"lengths": [[4]]}, ValueError, r"`lengths` must be a 1-D"),
    "lengths hold zero": ((ONE,), {"lengths": [4, 0]}, ValueError, r"`lengths\[1\]` is 0"),
    "lengths do not sum": (
        (ONE,),
        {"lengths": [1, 2]},
        ValueError,
        "`lengths` sum to 3, but `X` has 4 rows",
    ),
}


@pytest.mark.parametrize("arguments, options, kind, message", BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_and_named(arguments, options, kind, message):
    with pytest.raises(kind, match=message):
        as_sequences(*arguments, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "Y"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_value_that_is_not_finite_is_located(value, name, dtype):
    X, Y = ragged(LENGTHS)
    X, Y = [x.astype(dtype) for x in X], [y.astype(dtype) for y in Y]
    {"X": X, "Y": Y}[name][3][5, 1] = value
    message = f"`{name}` holds {value} at sequence 3, step 5, column 1"
    with pytest.raises(ValueError, match=re.escape(message)):
        as_sequences(X, Y)
    assert as_sequences(X, Y, check_finite=False).n_sequences == len(LENGTHS)


def test_infinities_of_both_signs_are_located_without_a_numpy_warning():
    X = np.zeros((3, 2))
    X[1, 0], X[2, 1] = np.inf, -np.inf
    with pytest.raises(ValueError, match="`X` holds inf at sequence 0, step 1, column 0"):
        as_sequences(X)


def test_finite_values_whose_sum_overflows_are_finite():
    X = np.full((3, 2), 1.7e308)
    np.testing.assert_array_equal(as_sequences(X).X, X)


def test_a_padded_array_is_a_list_of_its_first_steps():
    rng = np.random.default_rng(0)
    X, Y, lengths = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5)), [5, 1, 3]
    listed = as_sequences(
        [x[:n] for x, n in zip(X, lengths, strict=True)],
        [y[:n] for y, n in zip(Y, lengths, strict=True)],
    )
    X[1, 1:], Y[2, 3:] = np.nan, np.inf  # padding is not looked at
    padded = as_sequences(X, Y, lengths=lengths)
    np.testing.assert_array_equal(padded.X, listed.X)
    np.testing.assert_array_equal(padded.Y, listed.Y)
    np.testing.assert_array_equal(padded.lengths, lengths)
    assert padded.form == "list" and padded.flat_outputs


def test_lengths_in_the_place_of_outputs_are_recognised():
    X = np.zeros((6, 2))
    with pytest.raises(ValueError, match=r"lengths of sequences go by name, fit\(X, Y, lengths="):
        as_sequences(X, [2, 3, 1])
    for other in ([2.0, 3.0, 1.0], [2, 3], [6, 0], [7, -1]):
        with pytest.raises(ValueError, match=r"`X` has 6 steps, `Y` has [23]$"):
            as_sequences(X, other)
