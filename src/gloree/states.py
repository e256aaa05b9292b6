"""The states of a network on one batch: what every pass after the first moment starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.models import IORNN, ExplosionError, find_explosions, forward_packed
from gloree.sequences import Array, Batch


@dataclass(frozen=True)
class States:
    """Pre-activations and states of all rows of a batch, in the order of the rows.

    Attributes
    ----------
    z : ndarray of shape (n_rows, n_hidden)
        Pre-activations z_t.
    h : ndarray of shape (n_rows, n_hidden)
        States h_t = f(z_t).
    previous : ndarray of shape (n_rows, n_hidden)
        h_{t-1}; zero at the first row of a segment.
    """

    z: Array
    h: Array
    previous: Array


def run_states(model: IORNN, batch: Batch) -> States:
    """Run a network over the segments of a batch, each from h = 0.

    Parameters
    ----------
    model : IORNN
        `batch.X` holds its inputs (lag windows, if it uses them, are already in place).
    batch : Batch
        Rows of context before a piece of a long sequence warm its state up.

    Returns
    -------
    States

    Raises
    ------
    ExplosionError
        Naming the sequence and step, if a state leaves the range in which numbers make sense.

    Notes
    -----
    Time O(n_rows n_hidden (n_inputs + n_hidden)), memory O(n_rows n_hidden).
    """
    drive = batch.X @ model.input_weights.T
    drive += model.hidden_bias
    if not model.recurrent_weights.any():
        h = model.activation(drive)
        return States(drive, h, _shift(h, batch))
    packing = batch.packing
    packed_z, packed_h = forward_packed(
        packing.pack(drive),
        packing.step_starts,
        model.recurrent_weights,
        model.activation,
        overwrite_drive=True,
    )
    exploded = find_explosions(packed_h, packing)
    if exploded.size:
        segment, step = exploded[0]
        place = packing.step_starts[step] + np.flatnonzero(packing.order == segment)[0]
        size = float(np.abs(packed_h[place]).max())
        raise ExplosionError(
            int(batch.sequence[segment]), int(batch.first_step[segment] + step), size
        )
    h = packing.unpack(packed_h)
    return States(packing.unpack(packed_z), h, _shift(h, batch))


def _shift(h: Array, batch: Batch) -> Array:
    previous = np.empty_like(h)
    previous[1:] = h[:-1]
    previous[batch.starts] = 0.0
    return previous


def predict_rows(model: IORNN, batch: Batch, states: States) -> Array:
    """Predictions of all rows of a batch, shape (n_rows, n_outputs)."""
    predictions: Array = states.h @ model.output_weights
    predictions += model.output_bias
    if model.direct_weights is not None:
        predictions += batch.X @ model.direct_weights
    return predictions


def residual_rows(model: IORNN, batch: Batch, states: States | None = None) -> Array:
    """Residuals y - y^ of all rows of a batch, shape (n_rows, n_outputs)."""
    states = run_states(model, batch) if states is None else states
    residuals = predict_rows(model, batch, states)
    np.subtract(batch.targets, residuals, out=residuals)
    return residuals
