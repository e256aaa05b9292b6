"""Linear networks as models of SciPy and python-control."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.systems import dead_time_network, linear_network, mixed_network
from scipy import signal

from gloree.models import IORNN
from gloree.systems import (
    Channels,
    dead_times,
    operating_point,
    to_control,
    to_state_space,
)

ROUNDING = 1e-12  # of sums over a few states, relative to outputs of size one to ten


def simulated(model, u, dt=0.5):
    """Outputs of the SciPy model for inputs of the network, started where the network starts."""
    point = operating_point(model)
    _, y, _ = signal.dlsim(
        to_state_space(model, dt), u - point.inputs, t=dt * np.arange(len(u)), x0=-point.states
    )
    return y + point.outputs


def test_scipy_simulates_what_the_network_does(rng):
    model = linear_network([0.8 + 0.3j, 0.5], 2, 3, rng)
    u = rng.standard_normal((50, 2))
    assert np.allclose(simulated(model, u), model.predict(u), rtol=0, atol=ROUNDING)


def test_delays_become_shift_states(rng):
    model, u = dead_time_network(rng), rng.standard_normal((50, 2))
    assert np.allclose(simulated(model, u), model.predict(u), rtol=0, atol=10 * ROUNDING)
    assert to_state_space(model).A.shape == (3 + 3 * 2, 3 + 3 * 2)
    assert dead_times(model).tolist() == [3, 1]


def test_biases_of_no_constant_input_are_those_of_an_equilibrium(rng):
    model = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    model = model.replace(hidden_bias=rng.standard_normal(3), output_bias=[2.0])
    u = rng.standard_normal((50, 1))
    assert np.allclose(simulated(model, u), model.predict(u), rtol=0, atol=10 * ROUNDING)


def test_at_the_operating_point_of_a_fit_the_state_is_zero(rng):
    point = operating_point(dead_time_network(rng))
    assert np.allclose(point.inputs, [2.0, -1.0])
    assert not point.states[:3].any()


def test_an_integrator_with_a_bias_has_no_operating_point():
    model = IORNN([[1.0], [0.0]], np.eye(2), [[1.0], [1.0]], [0.0, 1.0], activation="linear")
    with pytest.raises(ValueError, match="integrates"):
        operating_point(model)


def test_only_linear_networks_have_a_state_space_model(rng):
    with pytest.raises(ValueError, match=r"`model` has the units .*take `linear_model_`"):
        to_state_space(mixed_network(rng))


@pytest.mark.parametrize("dt", [0.0, -1.0, np.nan, "fast", True])
def test_a_sampling_time_is_a_positive_number(rng, dt):
    model = linear_network([0.5], 1, 1, rng)
    with pytest.raises((TypeError, ValueError), match="`dt`"):
        to_state_space(model, dt)


def test_python_control_simulates_the_same_with_names(rng):
    control = pytest.importorskip("control")
    model = linear_network([0.8 + 0.3j, 0.5], 2, 2, rng)
    channels = Channels.of(["valve (%)", "pump"], ["level (m)", "flow"], dt=0.5)
    system = to_control(model, channels=channels)
    assert system.input_labels == ["valve", "pump"] and system.dt == 0.5
    u = rng.standard_normal((50, 2))
    found = control.forced_response(system, 0.5 * np.arange(50), u.T)
    assert np.allclose(found.outputs.T, model.predict(u), rtol=0, atol=ROUNDING)


def test_units_stand_in_brackets_behind_names():
    channels = Channels.of(["u [V]", "T (deg C)", "plain"], ["y"])
    assert channels.input_units == ("V", "deg C", "")
    assert channels.input_names == ("u", "T", "plain")
    assert channels.time_unit == "samples"
    with pytest.raises(ValueError, match="`input_units` has 2 entries"):
        Channels(("u",), ("y",), ("V", "A"))
