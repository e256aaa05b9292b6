"""One row at a time: the numbers of the run over the whole record."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.generators import forward_network, two_way_network

from gloree.activations import Activation, Polynomial
from gloree.models import IORNN, ExplosionError

# sums of some ten terms of size one, over a memory of a few steps
ALGEBRA = 1e-12


class Sine(Activation):
    """An activation of one's own, which cannot be hashed."""

    name = "sine"
    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, Sine)

    def __call__(self, z, out=None):
        return np.sin(z, out=out)

    def derivative(self, z, order=1):
        return np.sin(np.asarray(z) + order * np.pi / 2)

    def spec(self):
        return {"kind": "sine"}


FREE = (Polynomial((0.0, 1.0, 0.2)), Polynomial((0.0, 0.5, 0.0, 0.1)))
ACTIVATIONS = {
    "quadratic": "quadratic",
    "tanh": "tanh",
    "softplus": "softplus",
    "linear": "linear",
    "per unit": ("linear", "tanh", "linear", "quadratic"),
    "free": ("linear", "linear", *FREE),
    "powers": ("quadratic", "cubic", Polynomial((0.5, 0.0, 1.0)), "softplus"),
    "own": Sine(),
}


@pytest.mark.parametrize("lags", [1, 2, 5])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_a_stepper_gives_the_rows_of_the_batch_run(activation, direct, lags):
    model = forward_network(activation=activation, direct=direct, lags=lags, norm=0.5)
    rng = np.random.default_rng(lags)
    x, start = rng.uniform(-0.3, 0.3, (200, 3)), 0.2 * rng.standard_normal(model.n_state)
    expected, end = model.predict(x, state=start, return_state=True)
    step = model.stepper(start)
    assert_close(np.array([step(row) for row in x]), expected, ALGEBRA)
    assert_close(step.state, end, ALGEBRA)
    step.reset()
    np.testing.assert_array_equal(step.state, start)
    assert_close(step(x[0]), expected[0], ALGEBRA)
    step.reset(np.zeros(model.n_state))
    assert_close(np.array([step(row) for row in x]), model.predict(x), ALGEBRA)


def test_the_state_can_be_read_and_set_at_any_row():
    model = forward_network(lags=3, direct=True)
    x = np.random.default_rng(0).standard_normal((30, 3))
    step = model.stepper()
    for row in x[:11]:
        step(row)
    _, state = model.predict(x[:11], return_state=True)
    assert_close(step.state, state, ALGEBRA)
    other = model.stepper()
    other.state = state
    np.testing.assert_array_equal(other(x[11]), model.stepper(state)(x[11]))
    step.state[:] = np.nan  # a copy
    assert np.all(np.isfinite(step.state))


def test_copies_and_pickles_go_on_alone():
    model = forward_network(lags=2)
    x = np.random.default_rng(1).standard_normal((20, 3))
    step = model.stepper(np.full(model.n_state, 0.1))
    for row in x[:9]:
        step(row)
    for other in (copy.copy(step), copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        before = step.state
        rows = [other(row) for row in x[9:]]
        assert_close(np.array(rows), model.predict(x[9:], state=before), ALGEBRA)
        np.testing.assert_array_equal(step.state, before)
        other.reset()
        np.testing.assert_array_equal(other.state, np.full(model.n_state, 0.1))


def test_rows_come_as_lists_integers_or_a_number():
    model = IORNN([[1.0]], [[0.5]], [[2.0]], activation="linear")
    step = model.stepper()
    outputs = [step(x) for x in ([1.0], 1, np.array([1]), np.float32(1.0))]
    assert_close(np.array(outputs), model.predict(np.ones((4, 1))), ALGEBRA)
    assert len({id(y) for y in outputs}) == 4  # each an array of its own


@pytest.mark.parametrize(
    "row, error, words",
    [
        ([1.0, 2.0], ValueError, r"`x` has shape \(2,\), expected one row of inputs, \(3,\)"),
        (np.zeros((1, 3)), ValueError, r"`x` has shape \(1, 3\)"),
        ([1.0, np.nan, 0.0], ValueError, "`x` holds nan in column 1: fill in a missing input"),
        ([1.0, 0.0, np.inf], ValueError, "`x` holds inf in column 2"),
        (["a", "b", "c"], TypeError, "`x` has dtype"),
    ],
)
@pytest.mark.parametrize("activation", ["tanh", "quadratic"])
def test_a_row_that_is_refused_leaves_the_state(row, error, words, activation):
    model = forward_network(lags=2, direct=True, activation=activation)
    x = np.random.default_rng(2).standard_normal((6, 3))
    step = model.stepper()
    for each in x[:3]:
        step(each)
    before = step.state
    with pytest.raises(error, match=words):
        step(row)
    np.testing.assert_array_equal(step.state, before)
    assert_close(step(x[3]), model.predict(x)[3], ALGEBRA)


def test_a_state_that_runs_away_is_an_explosion_at_the_step_of_the_batch_run():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    with pytest.raises(ExplosionError) as whole:
        model.predict(np.ones((9, 1)))
    step = model.stepper()
    with pytest.raises(ExplosionError) as last:
        for _ in range(9):
            step([1.0])
    assert (last.value.step, last.value.size) == (whole.value.step, whole.value.size)


def test_large_inputs_are_no_explosion_without_a_recurrence():
    model = IORNN([[1.0]], None, [[1.0]], activation="linear")
    np.testing.assert_array_equal(model.stepper()([1e200]), model.predict(np.array([[1e200]]))[0])


def test_networks_that_look_ahead_have_no_stepper():
    for model in (two_way_network(3, 2), two_way_network(3, 0, lags=2, direct=True)):
        with pytest.raises(ValueError, match="BRNN with backward units, or a window into the"):
            model.stepper()
    model = two_way_network(3, 0)
    x = np.random.default_rng(3).standard_normal((5, 3))
    step = model.stepper()
    assert_close(np.array([step(row) for row in x]), model.predict(x), ALGEBRA)
