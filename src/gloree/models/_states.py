"""The state of a network before a row: what runs start from, and can go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from gloree._frames import refuse_masked
from gloree._mapped import loaded
from gloree.sequences import Array, IntArray, Sequences

if TYPE_CHECKING:
    from gloree.models._network import Network


class Start(Protocol):
    """States before the first rows of sequences."""

    def __call__(self, model: Network, data: Sequences, sequence: IntArray) -> Array:
        """States of shape (n_sequences, n_state) for some sequences, and their numbers in all."""


class GivenStates:
    """A `Start` from states that a caller gave: one of each sequence, or one for all of them."""

    def __init__(self, states: Array) -> None:
        self.states = states

    def __call__(self, model: Network, data: Sequences, sequence: IntArray) -> Array:
        """States of the sequences with these numbers."""
        return self.states[np.asarray(sequence) if self.states.shape[0] > 1 else 0 * sequence]


def read_states(model: Network, state: object, n_sequences: int, name: str = "state") -> Array:
    """States given by a caller, as float64 of shape (n_sequences, n_state).

    One state, (n_state,), stands for all sequences. Raises a TypeError or ValueError for other
    shapes, and for values that are no finite numbers.
    """
    refuse_masked(state, name)
    try:
        given = np.asarray(state)
    except ValueError as error:
        raise ValueError(f"`{name}` is not a regular array: {error}") from error
    wanted = (n_sequences, model.n_state)
    expected = f"expected ({model.n_state},) or {wanted}: the model has n_state = {model.n_state}"
    if given.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` has dtype {given.dtype}, expected real numbers: {expected}")
    if given.shape not in ((model.n_state,), wanted):
        raise ValueError(f"`{name}` has shape {given.shape}, {expected}")
    states = np.broadcast_to(given.astype(np.float64), wanted)
    if not np.all(np.isfinite(states)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(states))[0])
        raise ValueError(f"`{name}` holds {states[where]} at {where}, expected finite numbers")
    return states


def in_form(states: Array, data: Sequences) -> Array:
    """States for each sequence, (n_sequences, n_state); (n_state,) for a single record."""
    return states[0] if data.form == "single" else states


def n_past(model: Network) -> int:
    """Entries of the state that are inputs: the last `lags` - 1 rows of them."""
    return (model.lags - 1) * model.n_inputs


def past_inputs(model: Network, data: Sequences, start: Array | None) -> Array:
    """Last `lags` - 1 inputs of each sequence, newest first: (n_sequences, n_past).

    Where a sequence is shorter, those of the state that it started from follow.
    """
    n_inputs, kept = model.n_inputs, model.lags - 1
    past = np.zeros((data.n_sequences, kept, n_inputs))
    if start is not None:
        past[:] = start[:, model.n_forward :].reshape(past.shape)
    if kept:
        for sequence, (begin, end) in enumerate(zip(data.starts, data.starts[1:], strict=False)):
            last = np.asarray(loaded(data.X[max(begin, end - kept) : end]), np.float64)[::-1]
            past[sequence] = np.concatenate((last, past[sequence]))[:kept]
    return past.reshape(data.n_sequences, kept * n_inputs)


def with_past(windows: Array, steps: IntArray, past: Array, lags: int) -> None:
    """Write inputs from before the start, newest first, into windows that reach beyond it.

    `windows` are (n_rows, lags * n_inputs), `steps` and the rows of `past`, (n_rows,
    (lags - 1) * n_inputs), belong to its rows; in place.
    """
    n_inputs = windows.shape[1] // lags
    for step in range(lags - 1):
        rows = np.flatnonzero(steps == step)
        windows[rows, (step + 1) * n_inputs :] = past[rows, : (lags - 1 - step) * n_inputs]
