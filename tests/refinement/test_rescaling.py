"""Standard errors of weights on inputs in other units, by differences of the change of units."""

import numpy as np
import pytest
from helpers.differences import central
from helpers.generators import forward_network, two_way_network

from gloree.refinement import Layout, StandardErrors, in_other_units

STEP = 1e-6
# Central differences: step^2 and eps / step, relative to covariances of size 1.
FROM_DIFFERENCES = 1e-7
SCALE = np.array([100.0, 0.01, 1.0])


def of_unit_length(model, lengths, degree):
    """The same function with rows of these lengths."""
    s = lengths / np.linalg.norm(model.input_weights, axis=1)
    return model.rearranged(np.arange(model.n_hidden), s, s**degree)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("both_ways", [False, True])
def test_covariances_change_as_the_weights_do(both_ways, degree):
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
    rng = np.random.default_rng(0)
    root = rng.standard_normal((layout.size, layout.size))
    covariance = root @ root.T
    errors = StandardErrors(covariance, layout.named(np.sqrt(np.diag(covariance))))
    found = in_other_units(errors, layout, given, SCALE)
    wanted = J @ covariance @ J.T
    size = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(found.covariance, wanted, atol=FROM_DIFFERENCES * size.max() ** 2)
    named = layout.named(size)
    for name, values in found.weights.items():
        np.testing.assert_allclose(values, named[name], atol=FROM_DIFFERENCES * size.max())


def test_one_factor_for_all_inputs_changes_nothing_but_units():
    model = forward_network(3, 3, 2)
    layout = Layout(3, 3, 2)
    covariance = np.eye(layout.size)
    errors = StandardErrors(covariance, layout.named(np.ones(layout.size)))
    found = in_other_units(errors, layout, model, np.full(3, 4.0))
    np.testing.assert_array_equal(found.weights["input_weights"], np.full((3, 3), 4.0))
    np.testing.assert_array_equal(found.weights["output_weights"], np.ones((3, 2)))
