"""Initial states as columns of the inputs: against recursions from these states."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.activations import PerUnit, linear, tanh
from gloree.identification._starts import MOST_OWN, Starts, equilibria
from gloree.models import IORNN
from gloree.sequences import as_sequences

# the same sums in another order; systems of a few equations of condition below a thousand
ALGEBRA = 1e-10
# Newton's method ends within 1e-12 of the size of a state
NEWTON = 1e-10


def network(seed=0, d=2):
    rng = np.random.default_rng(seed)
    U = 0.4 * rng.standard_normal((4, 4))
    units = PerUnit([linear, linear, tanh, tanh])
    weights = rng.standard_normal((4, d)), U, rng.standard_normal((4, 3))
    b = np.array([0.0, 0.0, 0.3, -0.5])
    return IORNN(*weights, b, direct_weights=rng.standard_normal((d, 3)), activation=units)


def from_state(model, u, h):
    outputs = []
    for row in u:
        h = model.activation(
            model.input_weights @ row + model.recurrent_weights @ h + model.hidden_bias
        )
        outputs.append(h @ model.output_weights + model.output_bias + row @ model.direct_weights)
    return np.array(outputs)


def records(n_records, seed=1):
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((n, 2)) for n in rng.integers(5, 20, n_records)]
    return as_sequences(parts, [np.zeros((len(part), 3)) for part in parts]), parts


def test_columns_start_a_network_at_any_states():
    data, parts = records(3)
    starts, model = Starts.of(data), network()
    states = np.random.default_rng(2).standard_normal((3, 4))
    whole = starts.with_columns(data)
    outputs = starts.extended(model, states).predict(np.asarray(whole.X), lengths=whole.lengths)
    expected = [from_state(model, u, h) for u, h in zip(parts, states, strict=True)]
    np.testing.assert_allclose(outputs, np.concatenate(expected), atol=ALGEBRA)


def test_states_are_read_from_the_columns():
    data, _ = records(3)
    starts, model = Starts.of(data), network()
    states = np.random.default_rng(2).standard_normal((3, 4))
    extended = starts.extended(model, states)
    np.testing.assert_allclose(starts.states(extended), states, atol=ALGEBRA)
    assert starts.reduced(extended) == model


@pytest.mark.parametrize("n_records", [2, MOST_OWN + 5])
def test_records_start_in_equilibrium_unless_it_is_said_otherwise(n_records):
    """Of linear states exactly, by columns of their own or by shared ones."""
    data, parts = records(n_records)
    U = np.diag([0.9, -0.3])
    model = IORNN(
        np.eye(2), U, np.ones((2, 3)), direct_weights=np.zeros((2, 3)), activation="linear"
    )
    starts = Starts.of(data)
    whole = starts.with_columns(data)
    outputs = starts.extended(model).predict(np.asarray(whole.X), lengths=whole.lengths)
    expected = [from_state(model, u, np.linalg.solve(np.eye(2) - U, u[0])) for u in parts]
    np.testing.assert_allclose(outputs, np.concatenate(expected), atol=ALGEBRA)


def test_equilibria_are_fixed_points():
    model, inputs = network(), np.random.default_rng(4).standard_normal((6, 2))
    h = equilibria(model, inputs)
    again = model.activation(
        inputs @ model.input_weights.T + h @ model.recurrent_weights.T + model.hidden_bias
    )
    np.testing.assert_allclose(again, h, atol=NEWTON)


def test_integrators_start_somewhere_finite():
    model = IORNN([[1.0]], [[1.0]], [[1.0]], direct_weights=[[0.0]], activation="linear")
    assert np.isfinite(equilibria(model, np.array([[0.0], [2.0]]))).all()
