"""The oracles of the tests themselves, on examples that can be worked out by hand."""

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_close
from helpers.differences import central

from gloree.models import BRNN, IORNN


def test_naive_run_of_a_forward_network():
    model = IORNN([[1.0]], [[2.0]], [[3.0]], [0.5], [1.0], [[10.0]])
    run = naive.run(model, [[1.0], [0.0]])
    np.testing.assert_array_equal(run.z, [[1.5], [5.0]])
    np.testing.assert_array_equal(run.entering, [[0.0], [2.25]])
    np.testing.assert_array_equal(run.outputs, [[1 + 3 * 2.25 + 10], [1 + 3 * 25.0]])
    np.testing.assert_array_equal(naive.run(model, [[0.0]], start=1.0).z, [[2.5]])


def test_naive_run_of_both_directions_with_lags():
    # forward units see (x_t, x_{t-1}), backward units (x_t, x_{t+1}), the direct path all three
    model = BRNN(
        *([[1.0, 10.0]], [[1.0]], [[1.0, 100.0]], [[1.0]], [[1.0], [1.0]]),
        direct_weights=[[0.0], [0.0], [1000.0]],
        activation="linear",
        lags=2,
    )
    run = naive.run(model, [[1.0], [2.0]])
    np.testing.assert_array_equal(run.h, [[1.0, 201.0 + 2.0], [12.0 + 1.0, 2.0]])
    np.testing.assert_array_equal(run.entering, [[0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_array_equal(run.outputs, [[204.0 + 2000.0], [15.0]])


def test_naive_runs_of_many_sequences_are_those_of_each():
    model = IORNN([[1.0, -1.0]], [[0.5]], [[1.0]])
    x = np.arange(12.0).reshape(2, 3, 2)
    expected = [naive.predictions(model, each) for each in x]
    np.testing.assert_array_equal(naive.predictions(model, x), expected)


def test_central_differences_of_a_quadratic_are_exact():
    found = central(lambda p: np.array([p[0] ** 2, p[0] * p[1]]), [3.0, 5.0], 0.5)
    np.testing.assert_array_equal(found, [[6.0, 5.0], [0.0, 3.0]])


def test_closeness_is_relative_to_the_largest_entry():
    assert_close(np.array([1e6, 1.0]), np.array([1e6, 0.0]), 1e-5)
    with pytest.raises(AssertionError):
        assert_close(np.array([1.0]), np.array([1.1]), 1e-2)
