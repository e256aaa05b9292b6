"""The states of a network on one batch: what every pass after the first moment starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._arrays import beside, index, is_tensor, like, namespace
from gloree._brief import Brief
from gloree.models import (
    ExplosionError,
    Network,
    explosion_limit,
    find_explosions,
    forward_packed,
)
from gloree.sequences import Array, Batch, Packing

__all__ = [
    "States",
    "chains_of",
    "entering_states",
    "predict_rows",
    "residual_rows",
    "run_states",
    "step_after",
    "step_before",
    "without_context",
]


@dataclass(frozen=True)
class States(Brief):
    """Pre-activations and states of all rows of a batch, in the order of the rows.

    Attributes
    ----------
    z : ndarray of shape (n_rows, n_hidden)
        Pre-activations z_t.
    h : ndarray of shape (n_rows, n_hidden)
        States f(z_t); of a bidirectional network [h_t; w_t], forward units first.
    previous : ndarray of shape (n_rows, n_hidden)
        The states that enter the recurrence: h_{t-1} of forward units, w_{t+1} of backward units;
        zero at the first (last) row of a segment.
    """

    z: Array
    h: Array
    previous: Array


def chains_of(model: Network, batch: Batch) -> list[tuple[slice, Packing]]:
    """Units of each direction that has any, and the order in which they walk a batch."""
    cut = model.n_forward
    parts = [(slice(0, cut), batch.packing)] if cut else []
    if cut < model.n_hidden:
        parts.append((slice(cut, model.n_hidden), batch.mirrored))
    return parts


def run_states(model: Network, batch: Batch) -> States:
    """Run a network over the segments of a batch, each chain from a state of zero.

    Parameters
    ----------
    model : IORNN or BRNN
        `batch.X` holds its inputs (lag windows, if it uses them, are already in place).
    batch : Batch
        Rows of context around a piece of a long sequence warm its states up.

    Returns
    -------
    States

    Raises
    ------
    ExplosionError
        Naming the sequence and step, if a state leaves the range in which numbers make sense.
    TypeError
        If the batch holds tensors, on which the activation does not run.

    Notes
    -----
    Time O(n_rows n_hidden (n_inputs + n_hidden)), memory O(n_rows n_hidden).
    """
    if is_tensor(batch.X) and not model.activation.runs_on_tensors:
        raise TypeError(
            f"activation {model.activation.name!r} runs on NumPy arrays, and the data are tensors: "
            f"give arrays, or use an activation of this package"
        )
    drive = batch.X @ like(batch.X, model.input_weights.T)
    drive += like(drive, model.hidden_bias)
    if not model.recurrent_weights.any():
        h = model.activation(drive)
        return States(drive, h, entering_states(model, batch, h))
    chains = chains_of(model, batch)
    if len(chains) == 1:
        units, packing = chains[0]
        z, h = _run_chain(model, batch, drive, units, packing)
    else:
        xp = namespace(drive)
        z, h = xp.empty_like(drive), xp.empty_like(drive)
        for units, packing in chains:
            z[:, units], h[:, units] = _run_chain(model, batch, drive, units, packing)
    return States(z, h, entering_states(model, batch, h))


def _run_chain(
    model: Network, batch: Batch, drive: Array, units: slice, packing: Packing
) -> tuple[Array, Array]:
    packed_z, packed_h = forward_packed(
        packing.pack(drive[:, units]),
        packing.step_starts,
        model.recurrent_weights[units, units],
        model.activation.select(units),
        overwrite_drive=True,
    )
    limit = explosion_limit(model.recurrent_weights[units, units], model.activation.select(units))
    exploded = find_explosions(packed_h, packing, limit)
    if exploded.size:
        segment, step = exploded[0]
        place = packing.step_starts[step] + np.flatnonzero(packing.order == segment)[0]
        row = int(packing.rows[place])
        raise ExplosionError(
            int(batch.sequence[segment]),
            int(batch.first_step[segment] + batch.local[row]),
            float(abs(packed_h[place]).max()),
        )
    return packing.unpack(packed_z), packing.unpack(packed_h)


def entering_states(model: Network, batch: Batch, h: Array) -> Array:
    """Return `States.previous` for given states."""
    cut = model.n_forward
    if cut == model.n_hidden:
        return step_before(batch, h)
    both: Array = beside((step_before(batch, h[:, :cut]), step_after(batch, h[:, cut:])))
    return both


def step_before(batch: Batch, h: Array) -> Array:
    """Rows of the step before, zero at the first row of a segment."""
    previous: Array = namespace(h).empty_like(h)
    previous[1:] = h[:-1]
    previous[index(h, batch.starts)] = 0.0
    return previous


def step_after(batch: Batch, h: Array) -> Array:
    """Rows of the step after, zero at the last row of a segment."""
    following: Array = namespace(h).empty_like(h)
    following[:-1] = h[1:]
    following[index(h, batch.starts + batch.lengths - 1)] = 0.0
    return following


def predict_rows(model: Network, batch: Batch, states: States) -> Array:
    """Predictions of all rows of a batch, shape (n_rows, n_outputs)."""
    predictions: Array = states.h @ like(states.h, model.output_weights)
    predictions += like(predictions, model.output_bias)
    if model.direct_weights is not None:
        predictions += batch.X @ like(batch.X, model.direct_weights)
    return predictions


def residual_rows(model: Network, batch: Batch, states: States | None = None) -> Array:
    """Residuals y - y^ of all rows of a batch, shape (n_rows, n_outputs)."""
    states = run_states(model, batch) if states is None else states
    residuals = predict_rows(model, batch, states)
    namespace(residuals).subtract(batch.targets, residuals, out=residuals)
    return residuals


def without_context(batch: Batch, residuals: Array) -> Array:
    """Put zeros on the rows of context, in place."""
    if batch.has_context:
        context = np.ones(batch.n_rows, dtype=bool)
        context[batch.counted_rows] = False
        residuals[index(residuals, context)] = 0.0
    return residuals
