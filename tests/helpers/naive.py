"""Networks as loops over steps, one unit direction after the other, straight from the equations.

    h_t = f(A1 x_t + U h_{t-1} + b),    w_t = f(B1 x_t + V w_{t+1} + b'),
    y_t = A2^T [h_t; w_t] + c + D^T x_t

With lags, x_t is the window of the last inputs (of the next ones for w), zeros beyond the ends.
"""

from typing import NamedTuple

import numpy as np

from gloree.models import BRNN


class Run(NamedTuple):
    """Pre-activations, states, the states that enter the recurrences, and predictions.

    Each of shape (.., n_steps, n_hidden) or (.., n_steps, n_outputs).
    """

    z: np.ndarray
    h: np.ndarray
    entering: np.ndarray
    outputs: np.ndarray


def windows(x, offsets):
    """Rows (x_{t + o} for each offset o), of x of shape (.., n_steps, n_inputs)."""
    n = x.shape[-2]
    rows = [
        np.concatenate(
            [x[..., t + o, :] if 0 <= t + o < n else np.zeros_like(x[..., 0, :]) for o in offsets],
            axis=-1,
        )
        for t in range(n)
    ]
    return np.stack(rows, axis=-2)


def run(model, x, start=0.0):
    """Run a network over sequences of shape (.., n_steps, n_inputs), from the state `start`."""
    x = np.asarray(x, dtype=float)
    n, cut, lags = x.shape[-2], model.n_forward, range(model.lags)
    past, future = windows(x, [-o for o in lags]), windows(x, lags)
    z = np.zeros((*x.shape[:-1], model.n_hidden))
    h, entering = np.zeros_like(z), np.zeros_like(z)
    if isinstance(model, BRNN):
        forward = model.forward_input_weights, model.forward_recurrent_weights
        backward = model.backward_input_weights, model.backward_recurrent_weights
        directions = [
            (slice(0, cut), past, range(n), *forward),
            (slice(cut, None), future, range(n - 1, -1, -1), *backward),
        ]
    else:
        directions = [(slice(None), past, range(n), model.input_weights, model.recurrent_weights)]
    with np.errstate(all="ignore"):
        for units, seen, steps, A, U in directions:
            state = np.zeros_like(h[..., 0, units]) + start
            for t in steps:
                entering[..., t, units] = state
                z[..., t, units] = seen[..., t, :] @ A.T + state @ U.T + model.hidden_bias[units]
                state = h[..., t, units] = model.activation.select(units)(z[..., t, units])
        outputs = h @ model.output_weights + model.output_bias
        if model.direct_weights is not None:
            both = np.concatenate((past, future[..., x.shape[-1] :]), axis=-1)
            outputs = outputs + (both if isinstance(model, BRNN) else past) @ model.direct_weights
    return Run(z, h, entering, outputs)


def predictions(model, x, start=0.0):
    """Outputs of `run`."""
    return run(model, x, start).outputs


def explosions(model, X, limit=1e16):
    """(sequence, step) where states pass the limit: forward units first, then backward ones."""
    found = []
    for i, x in enumerate(X):
        bad = ~(np.abs(run(model, x).h) <= limit)
        ahead, behind = bad[:, : model.n_forward], bad[:, model.n_forward :]
        ahead, behind = (np.flatnonzero(side.any(axis=1)) for side in (ahead, behind))
        if ahead.size or behind.size:
            found.append((i, ahead[0] if ahead.size else behind[-1]))
    return np.array(found, dtype=int).reshape(-1, 2)


def counted(model, batch, data):
    """Outputs of the counted rows of a batch, and the segment of each.

    Segments run one at a time from states of zero over their inputs in `data`; windows of context
    rows are cut off where the segment ends.
    """
    outputs, owners = [], []
    starts = np.cumsum(data.lengths) - data.lengths
    for s, length in enumerate(batch.lengths):
        first = starts[batch.sequence[s]] + batch.first_step[s]
        rows = predictions(model, data.X[first : first + length])
        outputs.append(rows[batch.before[s] : length - batch.after[s]])
        owners += [s] * len(outputs[-1])
    return np.concatenate(outputs), np.array(owners)


def run_from(model, x, state):
    """Outputs of a forward network from the state before the first row, and the state after all.

    The state is [h, last row of inputs, the row before it, ...], `lags` - 1 rows.
    """
    k, outputs = model.n_hidden, []
    h, past = state[:k], list(state[k:].reshape(model.lags - 1, model.n_inputs))
    for row in x:
        window = np.concatenate([row, *past])
        h = model.activation(
            model.input_weights @ window + model.recurrent_weights @ h + model.hidden_bias
        )
        y = model.output_weights.T @ h + model.output_bias
        if model.direct_weights is not None:
            y = y + model.direct_weights.T @ window
        outputs.append(y)
        past = [row, *past][: model.lags - 1]
    return np.array(outputs), np.concatenate([h, *past])
