"""The state that is to be expected before a record of which nothing but inputs is known."""

from __future__ import annotations

import math
import warnings

import numpy as np

from gloree._mapped import loaded
from gloree.models import ExplosionWarning, Network, find_equilibria
from gloree.sequences import Array, IntArray, Sequences

STEPS_BEFORE, RECORDS_AT_ONCE = 1000, 256
"""Rows before a record that are made up (what is older counts for nothing), and records whose rows
are in memory at a time."""


def expected_states(model: Network, data: Sequences) -> Array:
    """States (n_sequences, n_state) before the first rows of records, from their inputs.

    * Where all inputs stand still at first, for as long as the slowest linear state takes to decay
      to 1/e (or to the end), it is the equilibrium at the first row.
    * Otherwise inputs before the record are taken to have moved as they do in it: each channel is a
      stationary autoregression of order one about the rest m of the model, which runs backwards as
      it runs forwards, so that E[u_{-j} | u_0] = m + phi^j (u_0 - m). The network runs over these
      inputs, from zeros. For a phi near 1 that is nearly the equilibrium, for white noise (phi = 0)
      nearly the rest.

    The rest m is the input nearest to the mean of the record at which zeros are a state at rest
    of the linear units: the mean of the inputs of the fit.
    """
    states = np.zeros((data.n_sequences, model.n_state))
    first = np.asarray(data.X[data.starts[:-1]], dtype=np.float64)
    rest, phi = np.empty_like(first), np.empty_like(first)
    steps, moving = _time_constant(model), np.ones(data.n_sequences, dtype=bool)
    for number, (begin, end) in enumerate(zip(data.starts, data.starts[1:], strict=False)):
        u = np.asarray(loaded(data.X[begin:end]), dtype=np.float64)
        moving[number] = _rows_held(u) < min(u.shape[0], steps)
        rest[number], phi[number] = _rest(model, u.mean(axis=0)), persistence(u)
    still = np.flatnonzero(~moving)
    if still.size:
        at_rest = find_equilibria(model, first[still])
        states[still] = at_rest.states
        moving[still[~at_rest.found]] = True
    numbers = np.flatnonzero(moving)
    ages = np.arange(STEPS_BEFORE, 0, -1)[:, np.newaxis]
    for begin in range(0, numbers.size, RECORDS_AT_ONCE):
        some = numbers[begin : begin + RECORDS_AT_ONCE]
        m = rest[some, np.newaxis]
        before = m + phi[some, np.newaxis] ** ages * (first[some, np.newaxis] - m)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplosionWarning)
            found = model.predict(before, return_state=True, on_explosion="nan")[1]
        states[some] = np.where(np.all(np.isfinite(found), axis=1, keepdims=True), found, 0.0)
    return states


def persistence(u: Array) -> Array:
    """Autocorrelations of neighbouring rows, (n_inputs,), less a standard error, from 0 to 1."""
    about = u - u.mean(axis=0)
    squares = np.sum(about**2, axis=0)
    r = np.sum(about[1:] * about[:-1], axis=0) / np.where(squares > 0.0, squares, 1.0)
    r = np.where(squares > 0.0, r, 1.0)
    error = np.sqrt(np.maximum(1.0 - r**2, 0.0) / u.shape[0])
    return np.asarray(np.clip(r - error, 0.0, 1.0))


def _rows_held(u: Array) -> int:
    """Rows at the start that are equal to the first."""
    moved = np.any(u != u[0], axis=1)
    return int(np.argmax(moved)) if moved.any() else u.shape[0]


def _linear_units(model: Network) -> IntArray:
    """Those of the forward chain."""
    units = model.linear_units
    return units[units < model.n_forward]


def _time_constant(model: Network) -> float:
    """Rows in which the slowest linear state decays to 1/e, and one at least."""
    units = _linear_units(model)
    U = model.recursions[0].recurrent_weights[np.ix_(units, units)]
    modulus = float(np.abs(np.linalg.eigvals(U)).max(initial=0.0))
    if modulus >= 1.0:
        return math.inf
    return 1.0 if modulus == 0.0 else max(1.0, -1.0 / math.log(modulus))


def _rest(model: Network, mean: Array) -> Array:
    """Input nearest to `mean` that leaves linear states at zero, by what inputs do there."""
    chain, units = model.recursions[0], _linear_units(model)
    weights = chain.input_weights[units].reshape(units.size, model.lags, model.n_inputs).sum(axis=1)
    left = -chain.hidden_bias[units] - weights @ mean
    size = np.linalg.norm(weights, axis=0)
    size = np.where(size > 0.0, size, 1.0)
    return np.asarray(mean + np.linalg.lstsq(weights / size, left, rcond=None)[0] / size)
