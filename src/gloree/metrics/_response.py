"""Linear networks, compared by what they do: their states are determined up to a similarity."""

from __future__ import annotations

import numpy as np

from gloree.models import Network
from gloree.sequences import Array

LARGEST_RADIUS = 1.0 - 1e-4
"""Spectral radius of a recurrence up to which its response is summed: half a million steps."""

FORGOTTEN = 1e-17
"""The sum ends where a step is below this fraction of the largest one."""


def response_errors(model: Network, truth: Network) -> dict[str, float]:
    r"""Relative errors of the response of a linear network, and of its outputs at rest.

    The impulse response of a network of one direction is

    .. math:: G_0 = A_2^T A_1 + D^T, \qquad G_j = A_2^T U^j A_1,

    that of two directions goes on to negative j with B1 and V, and windows of lags shift and add
    it. ``response`` is :math:`\sqrt{\sum_j |\hat G_j - G_j|^2 / \sum_j |G_j|^2}`, the relative
    H2 norm of the difference of both; ``offset`` is that of
    :math:`A_2^T (1 - U)^{-1} b + c`, absolute where the truth has none. A ValueError for a network
    whose response does not end.
    """
    found, wanted = _responses(model), _responses(truth)
    difference = size = 0.0
    for place in sorted(found.keys() | wanted.keys()):
        G = wanted.get(place, np.zeros((truth.n_outputs, truth.n_inputs)))
        other = found.get(place, np.zeros_like(G))
        difference += float(np.sum((other - G) ** 2))
        size += float(np.sum(G**2))
    at_rest, rest = _offset(model), _offset(truth)
    scale = float(np.linalg.norm(rest))
    return {
        "response": float(np.sqrt(difference) / (np.sqrt(size) if size > 0 else 1.0)),
        "offset": float(np.linalg.norm(at_rest - rest)) / (scale if scale > 0 else 1.0),
    }


def _responses(network: Network) -> dict[int, Array]:
    """G_j by j, steps since the input; constant gains of the units are part of them."""
    d, lags = network.n_inputs, network.lags
    gains = _gains(network)
    found: dict[int, Array] = {}

    def add(place: int, values: Array) -> None:
        found[place] = found[place] + values if place in found else values

    for part in network.recursions:
        n_units = part.units.stop - part.units.start
        if n_units == 0:
            continue
        gain = gains[part.units]
        step = gain[:, None] * part.recurrent_weights
        radius = float(np.abs(np.linalg.eigvals(step)).max())
        if radius > LARGEST_RADIUS:
            raise ValueError(
                f"a linear network whose recurrence has spectral radius {radius:.6g} has no "
                f"response of finite size to compare (at most {LARGEST_RADIUS} is summed): compare "
                f"predictions"
            )
        state = gain[:, None] * part.input_weights
        largest, j = 0.0, 0
        while True:
            seen = network.output_weights[part.units].T @ state
            for lag in range(lags):
                values = seen[:, lag * d : (lag + 1) * d]
                add(-(j + lag) if part.backward else j + lag, values)
            size = float(np.abs(state).max())
            largest = max(largest, size)
            if size <= FORGOTTEN * largest:
                break
            state, j = step @ state, j + 1
    if network.direct_weights is not None:
        D = network.direct_weights.T
        for block in range(D.shape[1] // d):
            # windows of both directions go on with the steps ahead
            add(block if block < lags else lags - 1 - block, D[:, block * d : (block + 1) * d])
    return found


def _offset(network: Network) -> Array:
    """Outputs where all inputs are zero."""
    f = network.activation
    h = np.zeros(network.n_hidden)
    gains, constant = _gains(network), f(np.zeros(network.n_hidden))
    for part in network.recursions:
        own, n_units = part.units, part.units.stop - part.units.start
        if n_units:
            drive = gains[own] * network.hidden_bias[own] + constant[own]
            h[own] = np.linalg.solve(
                np.eye(n_units) - gains[own, None] * part.recurrent_weights, drive
            )
    rest: Array = network.output_weights.T @ h + network.output_bias
    return rest


def _gains(network: Network) -> Array:
    """Slope of each unit."""
    slopes: Array = network.activation.derivative(np.zeros(network.n_hidden), 1)
    return slopes
