"""Weights for inputs in other units: their changes, by differences of the change of units."""

import numpy as np
import pytest
from helpers.differences import central
from helpers.generators import forward_network, two_way_network

from gloree.refinement import Layout, in_other_units

STEP = 1e-6
# Central differences: step^2 and eps / step, relative to the largest.
FROM_DIFFERENCES = 1e-7
SCALE = np.array([100.0, 0.01, 1.0])


def of_unit_length(model, lengths, degree):
    """The same function with rows of these lengths."""
    s = lengths / np.linalg.norm(model.input_weights, axis=1)
    return model.rearranged(np.arange(model.n_hidden), s, s**degree)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("both_ways", [False, True])
def test_changes_of_weights_in_other_units_are_those_of_differences(both_ways, degree):
    model = two_way_network(2, 1, direct=True) if both_ways else forward_network(3, 3, 2)
    model = model.replace(
        activation={2: "quadratic", 3: "cubic"}[degree], direct_weights=np.ones((3, 2))
    )
    layout = Layout(3, 3, 2, direct=True, n_backward=1 if both_ways else None)
    given = model.replace(
        input_weights=model.input_weights * SCALE,
        direct_weights=model.direct_weights * SCALE[:, None],
    )
    lengths = np.linalg.norm(given.input_weights, axis=1)

    def in_given_units(step):
        moved = layout.move(model, step)
        moved = moved.replace(
            input_weights=moved.input_weights * SCALE,
            direct_weights=moved.direct_weights * SCALE[:, None],
        )
        return layout.vector(of_unit_length(moved, lengths, degree))

    J = central(in_given_units, np.zeros(layout.size), STEP).T
    found = in_other_units(given, layout, SCALE)
    np.testing.assert_allclose(found, J, atol=FROM_DIFFERENCES * abs(J).max())


def test_one_factor_for_all_inputs_changes_nothing_but_units():
    layout = Layout(3, 3, 2)
    found = in_other_units(forward_network(3, 3, 2), layout, np.full(3, 4.0))
    np.testing.assert_array_equal(found, np.diag(np.diag(found)))
    factors = layout.named(np.diag(found))
    np.testing.assert_array_equal(factors["input_weights"], np.full((3, 3), 4.0))
    np.testing.assert_array_equal(factors["output_weights"], np.ones((3, 2)))
