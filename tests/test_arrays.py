"""Helpers for the arrays of a pass: the same rows and sums as NumPy's own, however fast."""

from __future__ import annotations

import numpy as np
import pytest

from gloree._arrays import (
    column_squares,
    column_sums,
    float_rows,
    row_squares,
    rows_where,
    take_rows,
)

# Sums of a dozen numbers in another order.
ROUNDING = 1e-13

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((12, 6))


def unaligned(values):
    raw = np.zeros(values.nbytes + 1, dtype=np.uint8)
    shifted = raw[1:].view(np.float64).reshape(values.shape)
    shifted[:] = values
    return shifted


ARRAYS = {
    "contiguous": VALUES,
    "columns first": np.asfortranarray(VALUES),
    "every other row": np.repeat(VALUES, 2, axis=0)[::2],
    "some columns": np.hstack((VALUES, VALUES))[:, :6],
    "unaligned": unaligned(VALUES),
    "single precision": VALUES.astype(np.float32),
    "one column": VALUES[:, 0],
    "read only": np.frombuffer(VALUES.tobytes()).reshape(VALUES.shape),
}
ROWS = {
    "indices": np.array([3, 0, 11, 3]),
    "from the end": np.array([-1, -12]),
    "none": np.empty(0, dtype=np.int64),
    "mask": np.arange(12) % 3 == 0,
    "slice": slice(2, 9, 2),
    "table": np.array([[0, 1], [5, 4]]),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_rows_are_those_of_an_index(values, rows):
    found = take_rows(values, rows)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[rows])


def test_a_slice_of_rows_is_a_view():
    assert np.shares_memory(take_rows(VALUES, slice(3, 5)), VALUES)


@pytest.mark.parametrize("row", [12, -13])
def test_a_row_that_is_not_there_is_an_error(row):
    with pytest.raises(IndexError):
        take_rows(VALUES, np.array([0, row]))


@pytest.mark.parametrize("mask", [np.arange(12) < 12, np.arange(12) < 0, np.arange(12) % 2 == 1])
def test_rows_where_a_mask_holds(mask):
    np.testing.assert_array_equal(VALUES[rows_where(mask)], VALUES[mask])


def test_sums_are_those_of_numpy():
    for found, expected in (
        (column_sums(VALUES), VALUES.sum(axis=0)),
        (column_squares(VALUES), (VALUES**2).sum(axis=0)),
        (row_squares(VALUES), (VALUES**2).sum(axis=1)),
        (column_sums(VALUES[:0]), np.zeros(6)),
    ):
        np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("rows", [slice(None), slice(2, 9), np.array([3, 0, 11, 3])])
@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_rows_of_a_batch_are_contiguous_aligned_float64(values, rows):
    """As NumPy multiplies other ones by other routines, whose last bits differ."""
    found = float_rows(values, rows)
    assert found.flags.c_contiguous and found.flags.aligned and found.dtype == np.float64
    np.testing.assert_array_equal(found, values[rows].astype(np.float64))
