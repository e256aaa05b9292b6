"""The oracles of the tests themselves, on examples that can be worked out by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import naive
from helpers.batches import merged, only_batch
from helpers.comparisons import assert_close, assert_same_sums
from helpers.differences import by_weights, central
from helpers.tensors import contract, power, rank_one_sum, symmetrise

from gloree.engine import Source
from gloree.models import BRNN, IORNN
from gloree.refinement import Layout
from gloree.sequences import as_sequences


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


def test_naive_explosions_are_the_first_on_the_way_of_a_unit():
    # h = x + 10 h before: 1, 11, 111 from the left; the other unit the same from the right
    model = BRNN([[1.0]], [[10.0]], [[1.0]], [[10.0]], [[1.0], [1.0]], activation="linear")
    one_way = model.replace(forward_recurrent_weights=None)
    X = np.ones((2, 3, 1)) * [[[1.0]], [[0.0]]]
    np.testing.assert_array_equal(naive.explosions(model, X, limit=10.0), [[0, 1]])
    np.testing.assert_array_equal(naive.explosions(one_way, X, limit=100.0), [[0, 0]])
    assert naive.explosions(model, X, limit=111.0).shape == (0, 2)


def test_naive_outputs_of_pieces_start_from_zero_in_their_context():
    # steps 0 and 1: h = 1, 2; steps 2 and 3 after step 1 as context: h = 1, 2, 3
    model = IORNN([[1.0]], [[1.0]], [[1.0]], activation="linear")
    data = as_sequences(np.ones((4, 1)), np.zeros((4, 1)))
    batch = only_batch(Source(data, segment=2, before=1))
    outputs, owners = naive.counted(model, batch, data)
    np.testing.assert_array_equal(outputs, [[1.0], [2.0], [2.0], [3.0]])
    np.testing.assert_array_equal(owners, [0, 0, 1, 1])


def test_central_differences_of_a_quadratic_are_exact():
    found = central(lambda p: np.array([p[0] ** 2, p[0] * p[1]]), [3.0, 5.0], 0.5)
    np.testing.assert_array_equal(found, [[6.0, 5.0], [0.0, 3.0]])


def test_derivatives_by_weights_stand_in_the_order_of_the_layout():
    # y = 2 (3 x)^2 + 1 at x = 1: d/da = 4 a, d/dA2 = a^2, d/dc = 1
    model, layout = IORNN([[3.0]], None, [[2.0]], [0.0], [1.0]), Layout(1, 1, 1, recurrent=False)
    found = by_weights(lambda m: m.predict(np.ones((1, 1))), model, layout, 0.5)
    expected = np.zeros((1, 1, layout.size))
    for name, slope in (("input", 12.0), ("output", 9.0)):
        expected[..., layout.indices[f"{name}_weights"]] = slope
    expected[..., layout.indices["hidden_bias"]] = 12.0
    expected[..., layout.indices["output_bias"]] = 1.0
    np.testing.assert_array_equal(found, expected)


@dataclass
class Total:
    values: np.ndarray
    name: str = "one"

    def merge(self, other):
        return Total(self.values + other.values)


def test_sums_are_merged_and_compared_field_by_field():
    total = merged(Total(np.array([n, 0.0])) for n in (1e6, 2e6))
    assert_same_sums(total, Total(np.array([3e6, 1.0])), 1e-6)
    for other in (
        Total(np.array([3e6, 10.0])),
        Total(np.array([3e6])),
        Total(np.array([3e6, 0.0]), "two"),
    ):
        with pytest.raises(AssertionError):
            assert_same_sums(total, other, 1e-6)


def test_closeness_is_relative_to_the_largest_entry():
    assert_close(np.array([1e6, 1.0]), np.array([1e6, 0.0]), 1e-5)
    with pytest.raises(AssertionError):
        assert_close(np.array([1.0]), np.array([1.1]), 1e-2)


def test_tensors_are_those_worked_out_by_hand():
    np.testing.assert_array_equal(power([1.0, 2.0], 2), [[1.0, 2.0], [2.0, 4.0]])
    total = rank_one_sum([[2.0], [3.0]], [[1.0, 0.0], [0.0, 1.0]], 2)
    np.testing.assert_array_equal(total, [[[2.0, 0.0], [0.0, 3.0]]])
    matrix = np.array([[1.0, 2.0], [4.0, 8.0]])
    assert contract(matrix, [1.0, 0.0], [0.0, 1.0]) == 2.0
    np.testing.assert_array_equal(symmetrise(matrix), [[1.0, 3.0], [3.0, 8.0]])
