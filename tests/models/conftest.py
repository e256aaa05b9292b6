"""The naive oracle: one sequence at a time, one step at a time, straight from the equation."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.models import BRNN


def chain_of_one(input_weights, recurrent_weights, bias, activation, windows):
    state = np.zeros(len(input_weights))
    states = np.empty((len(windows), len(input_weights)))
    with np.errstate(all="ignore"):
        for t, window in enumerate(windows):
            state = activation(input_weights @ window + bias + recurrent_weights @ state)
            states[t] = state
    return states


def window_of_one(x, t, offsets):
    inside = [x[t + o] if 0 <= t + o < len(x) else 0.0 * x[0] for o in offsets]
    return np.concatenate(inside)


def windows_of_one(x, offsets):
    return np.array([window_of_one(x, t, offsets) for t in range(len(x))])


def states_of_one(model, x):
    """States, and the windows of the direct path."""
    x = np.asarray(x, dtype=float)
    past, future = -np.arange(model.lags), np.arange(model.lags)
    if isinstance(model, BRNN):
        k = model.n_forward
        forward = chain_of_one(
            model.forward_input_weights,
            model.forward_recurrent_weights,
            model.hidden_bias[:k],
            model.activation.select(slice(0, k)),
            windows_of_one(x, past),
        )
        backward = chain_of_one(
            model.backward_input_weights,
            model.backward_recurrent_weights,
            model.hidden_bias[k:],
            model.activation.select(slice(k, None)),
            windows_of_one(x, future)[::-1],
        )
        states = np.hstack((forward, backward[::-1]))
        return states, windows_of_one(x, [*past, *future[1:]])
    windows = windows_of_one(x, past)
    states = chain_of_one(
        model.input_weights,
        model.recurrent_weights,
        model.hidden_bias,
        model.activation,
        windows,
    )
    return states, windows


def predictions_of_one(model, x):
    states, windows = states_of_one(model, x)
    outputs = states @ model.output_weights + model.output_bias
    if model.direct_weights is not None:
        outputs = outputs + windows @ model.direct_weights
    return outputs


@pytest.fixture(scope="session")
def naive_states():
    return lambda model, x: states_of_one(model, x)[0]


@pytest.fixture(scope="session")
def naive_windows():
    return lambda model, x: states_of_one(model, x)[1]


@pytest.fixture(scope="session")
def naive_predictions():
    return predictions_of_one
