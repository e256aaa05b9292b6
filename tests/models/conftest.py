"""The naive oracle: one sequence at a time, one step at a time, straight from the equation."""

from __future__ import annotations

import numpy as np
import pytest


def states_of_one(model, x):
    x = np.asarray(x, dtype=float)
    state = np.zeros(model.n_hidden)
    states = np.empty((len(x), model.n_hidden))
    windows = np.empty((len(x), model.lags * x.shape[1]))
    with np.errstate(all="ignore"):
        for t in range(len(x)):
            past = [x[t - lag] if t >= lag else 0.0 * x[0] for lag in range(model.lags)]
            windows[t] = np.concatenate(past)
            drive = model.input_weights @ windows[t] + model.hidden_bias
            state = model.activation(drive + model.recurrent_weights @ state)
            states[t] = state
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
def naive_predictions():
    return predictions_of_one
