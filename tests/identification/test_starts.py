"""Networks of linear states and nonlinear units: against loops, and on systems of their kind."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.activations import linear, quadratic, tanh
from gloree.identification import (
    NonlinearDirection,
    Realisation,
    linear_model,
    nested_partitions,
    unit_biases,
    with_copied_states,
    with_outputs,
    with_shared_states,
)
from gloree.identification._networks import unit_directions

# the same sums in another order, over a few hundred steps
ALGEBRA = 1e-10
# the relative ridge of least squares, and what it leaves of a residual, by the condition of states
RIDGE, BY_THE_RIDGE = 1e-10, 1e-5
# the same ridge in weights and in a residual, by a smaller condition
LEAST_SQUARES = 1e-6

U1, B1 = np.array([[0.8, 0.3], [-0.3, 0.8]]), np.array([[1.0], [0.5]])
U2, B2 = np.array([[0.5]]), np.array([[1.0]])
W = np.array([0.6, -0.4])
BIASES = np.array([-0.5, 0.5])


def cascade(u, gain=0.5):
    """h sees u; a unit sees h; x takes up u and the unit of the step before; y reads x and h."""
    h, x, unit = np.zeros(2), np.zeros(1), np.zeros(2)
    outputs = []
    for row in u:
        seen = W @ h
        h = U1 @ h + B1 @ row
        x = U2 @ x + B2 @ row + gain * np.array([unit.sum()])
        unit = np.tanh(seen + BIASES)
        outputs.append([x[0] + 0.2 * h[0]])
    return np.array(outputs)


def realisation():
    transition = np.zeros((3, 3))
    transition[:2, :2], transition[2:, 2:] = U1, U2
    modes = (np.array([0, 1]), np.array([2]))
    return Realisation(transition, np.vstack((B1, B2)), modes, np.ones(3))


def known_direction(part):
    """The direction W on the scaled states of a linear model."""
    states = part.entering[:, :2]
    true = Realisation(U1, B1, (np.array([0, 1]),), np.ones(2))
    h = np.zeros(2)
    values = []
    for row in part.u:
        values.append(W @ h)
        h = true.transition @ h + true.inputs @ row
    values = np.array(values)
    size = values.std()
    weights = np.zeros(4)
    weights[:2] = np.linalg.lstsq(states, values, rcond=None)[0] / size
    return NonlinearDirection(weights, -float(values.mean() / size), (1.0, 1.0)), values


@pytest.fixture(scope="module")
def system():
    u = 1.5 * np.random.default_rng(0).standard_normal((2500, 1))
    part = linear_model(realisation(), u, cascade(u))
    direction, values = known_direction(part)
    return part, direction, values


def naive_copies(part, network, directions, biases):
    """Linear states h, and copies of them driven by tanh units, each of its direction of (h, u)."""
    n, found = len(part.realisation.transition), part.realisation
    injection = network.recurrent_weights[n : 2 * n, 2 * n :]
    h, copy, units = np.zeros(n), np.zeros(n), np.zeros(len(biases))
    states = []
    for row in part.u:
        seen = np.concatenate((h, row))
        v = np.array([direction.weights @ seen + direction.offset for direction in directions])
        h = found.transition @ h + found.inputs @ row
        copy = found.transition @ copy + injection @ units
        units = np.tanh(v + biases)
        states.append(np.concatenate((h, copy, units)))
    outputs = np.array(states) @ network.output_weights + network.output_bias
    return outputs + part.u @ network.direct_weights


def test_copied_states_are_the_linear_model_and_a_filtered_nonlinearity(system):
    part, direction, _ = system
    n, q = 3, 2
    network = with_copied_states(part, (direction,), tanh, BIASES)
    assert network.n_hidden == 2 * n + q
    assert network.activation.units == (linear,) * 6 + (tanh,) * 2
    expected = naive_copies(part, network, (direction,) * 2, BIASES)
    np.testing.assert_allclose(network.predict(part.u), expected, atol=ALGEBRA)


def test_copied_states_lower_the_error_of_the_linear_model(system):
    part, direction, _ = system
    network = with_copied_states(part, (direction,), tanh, unit_biases(3))
    left = part.y - network.predict(part.u)
    assert np.std(left) < 0.5 * np.std(part.residual)


def test_true_partition_of_a_cascade_leaves_little(system):
    part, direction, values = system
    # biases and slope of the true units, which the direction of variance one has divided by
    size = values.std()
    scaled = NonlinearDirection(
        direction.weights * size, direction.offset * size + values.mean(), (1.0, 1.0)
    )
    seen, driven = np.array([0, 1]), np.array([2])
    network = with_shared_states(part, (scaled,), tanh, BIASES, seen, driven)
    assert network.n_hidden == 5
    assert not network.recurrent_weights[:2, 3:].any()  # seen states are not driven
    assert not network.recurrent_weights[3:, 2].any()  # the driven one is not seen
    left = part.y - network.predict(part.u)
    # not exact: injections are fitted for the outputs of the linear model, whose weights hold the
    # linear part of tanh as well
    assert np.std(left) < 0.25 * np.std(part.residual)
    # with outputs that are right the fit of injections would be exact; so is one made of truth
    injection = np.zeros((5, 5))
    injection[:, :] = network.recurrent_weights
    true_gain = 0.5 * part.realisation.inputs[2, 0] / B2[0, 0]
    injection[2, 3:] = true_gain
    exact = with_outputs(network.replace(recurrent_weights=injection), part.u, part.y)
    left = part.y - exact.predict(part.u)
    assert np.std(left) < BY_THE_RIDGE * np.std(part.residual)


def test_units_of_a_direction_with_variance_one_come_close(system):
    part, direction, _ = system
    seen, driven = np.array([0, 1]), np.array([2])
    network = with_shared_states(part, (direction,), tanh, unit_biases(5), seen, driven)
    left = part.y - network.predict(part.u)
    # five units of another slope stand for two: an approximation, far below the linear model
    assert np.std(left) < 0.25 * np.std(part.residual)


@pytest.mark.parametrize("unit", [tanh, quadratic])
def test_several_outputs_have_one_injection(system, unit):
    part, direction, _ = system
    y = np.column_stack((part.y, np.roll(part.y, 1)))
    several = linear_model(realisation(), part.u, y)
    network = with_copied_states(several, (direction,), unit, BIASES)
    assert network.n_outputs == 2
    assert np.std(y - network.predict(part.u)) <= np.std(several.residual) * (1 + LEAST_SQUARES)


def test_partitions_are_nested_begin_with_inputs_alone_and_end_with_feedback(system):
    part, direction, _ = system
    (unseen, everything), *parts = nested_partitions(part, (direction,))
    assert unseen.size == 0
    np.testing.assert_array_equal(everything, [0, 1, 2])
    assert len(parts) == 3
    np.testing.assert_array_equal(parts[0][0], [0, 1])  # the mode that v owes most
    np.testing.assert_array_equal(parts[0][1], [2])
    np.testing.assert_array_equal(parts[1][0], [0, 1])
    np.testing.assert_array_equal(parts[1][1], [0, 1, 2])
    np.testing.assert_array_equal(parts[-1][0], [0, 1, 2])
    np.testing.assert_array_equal(parts[-1][1], [0, 1, 2])


def test_biases_are_spread_over_a_normal_variable():
    np.testing.assert_array_equal(unit_biases(3), [-2.0, 0.0, 2.0])
    np.testing.assert_array_equal(unit_biases(5, 1.0), [-1.0, -0.5, 0.0, 0.5, 1.0])
    assert unit_biases(1).shape == (1,)
    assert unit_biases(1)[0] != 0.0  # a unit that is odd in v would miss what is even


def test_units_are_shared_among_directions():
    np.testing.assert_array_equal(unit_directions(5, 1), [0] * 5)
    np.testing.assert_array_equal(unit_directions(5, 2), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(unit_directions(3, 3), [0, 1, 2])
    # each direction has biases of its own
    np.testing.assert_array_equal(unit_biases(5, n_directions=2), [-2.0, 0.0, 2.0, -2.0, 2.0])
    np.testing.assert_array_equal(unit_biases(3, n_directions=2), [-2.0, 2.0, 0.5])
    for n_units, n_directions in ((1, 2), (3, 0)):
        with pytest.raises(ValueError, match="each direction needs one"):
            unit_directions(n_units, n_directions)


def second_direction(part):
    """Another function of the states, of mean zero and variance one."""
    weights = np.array([0.3, 0.9, -0.8, 0.4])
    v = part.entering @ weights
    return NonlinearDirection(weights / v.std(), -float(v.mean() / v.std()), (1.0, 1.0))


def test_copied_states_of_two_directions_are_one_filtered_sum(system):
    part, direction, _ = system
    directions = direction, second_direction(part)
    network = with_copied_states(part, directions, tanh, unit_biases(3, n_directions=2))
    of_units = (directions[0], directions[0], directions[1])
    expected = naive_copies(part, network, of_units, [-2.0, 2.0, 0.5])
    np.testing.assert_allclose(network.predict(part.u), expected, atol=ALGEBRA)


def test_shared_states_fit_every_direction_to_the_states_that_are_seen(system):
    part, direction, _ = system
    directions = (direction, second_direction(part))
    seen, driven = np.array([0, 1]), np.array([2])
    biases = unit_biases(3, n_directions=2)
    network = with_shared_states(part, directions, tanh, biases, seen, driven)
    regressors = np.column_stack((part.entering[:, [0, 1, 3]], np.ones(len(part.u))))
    for units, one in (([3, 4], directions[0]), ([5], directions[1])):
        target = part.entering @ one.weights + one.offset
        expected = np.linalg.lstsq(regressors, target, rcond=None)[0]
        for unit in units:
            weights = network.recurrent_weights[unit]
            np.testing.assert_allclose(weights[:2], expected[:2], atol=LEAST_SQUARES)
            assert not weights[2:].any()
            np.testing.assert_allclose(network.input_weights[unit], expected[2], atol=LEAST_SQUARES)
            bias = network.hidden_bias[unit] - biases[unit - 3]
            assert bias == pytest.approx(expected[3], abs=LEAST_SQUARES)


def test_partitions_count_all_directions(system):
    part, direction, _ = system
    other = np.zeros(4)
    other[2] = 10.0 / part.entering[:, 2].std()
    parts = nested_partitions(part, (direction, NonlinearDirection(other, 0.0, (1.0, 1.0))))
    np.testing.assert_array_equal(parts[1][0], [2])


def test_units_of_inputs_alone_see_them_in_the_spread_of_the_direction(system):
    part, direction, _ = system
    network = with_shared_states(
        part, (direction,), tanh, BIASES[:1], np.arange(0), np.arange(part.realisation.order)
    )
    assert not network.recurrent_weights[3].any()
    v = part.entering @ direction.weights
    seen = part.u @ network.input_weights[3]
    assert seen.std() == pytest.approx(v.std(), rel=LEAST_SQUARES)
    assert np.corrcoef(seen, v)[0, 1] > 0


def test_outputs_are_those_of_least_squares(system):
    part, _, _ = system
    noisy = part.y + np.random.default_rng(1).standard_normal(part.y.shape)
    model = with_outputs(part.model, part.u, noisy)
    regressors = np.column_stack((part.h, part.u, np.ones(len(part.u))))
    expected = np.linalg.lstsq(regressors, noisy, rcond=None)[0]
    got = np.vstack((model.output_weights, model.direct_weights, model.output_bias[None]))
    # magnified by the condition of the Gram matrix
    ridge = RIDGE * np.linalg.cond(regressors) ** 2
    np.testing.assert_allclose(got, expected, atol=10 * ridge * np.abs(expected).max())
