"""The state that a record starts from, by least squares on its outputs."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from gloree.models import IORNN, ExplosionError
from gloree.refinement import Layout
from gloree.sequences import Array
from gloree.systems._sensitivities import equilibrium, outputs_of, states_along

STATE_STEPS = 20  # steps of Gauss-Newton to the state that a record starts from, at most
FORGOTTEN = 1e-14  # part of a state that has no effect
SETTLED = 1e-9  # relative fall of the squared error below which these end


def starting_state(model: IORNN, windows: Array, y: Array, weights: Array, layout: Layout) -> Array:
    """State before the first row under which a record is explained best (Gauss-Newton).

    Exact in one step for a linear model. For others it begins at zero, or the equilibrium of the
    first row if that is better.
    """
    root, seen = np.sqrt(weights), np.all(np.isfinite(y), axis=1)
    linear = model.is_linear
    starts = [np.zeros(model.n_hidden)]
    if not linear:
        with suppress(ValueError, np.linalg.LinAlgError):
            starts.insert(0, equilibrium(model, windows[0], layout)[0])

    def tried(state: Array) -> tuple[float, Array, Array, Array] | None:
        """Squared error, state, residuals and pre-activations; None where it explodes."""
        try:
            z, h = states_along(model, windows, state)
        except ExplosionError:
            return None
        left = ((y - outputs_of(model, windows, h)) * root)[seen]
        return float(np.sum(left**2)), state, left, z

    sound = [each for start in starts if (each := tried(start)) is not None]
    if not sound:
        raise ExplosionError(0, 0, np.inf)
    best = min(sound, key=lambda each: each[0])
    for _ in range(1 if linear else STATE_STEPS):
        error, state, residual, z = best
        J = (_from_state(model, z) * root[:, None])[seen].reshape(-1, model.n_hidden)
        step, _, _, _ = np.linalg.lstsq(J, residual.ravel(), rcond=1e-9)
        if linear:
            return np.asarray(state + step)
        for fraction in (1.0, 0.3, 0.1, 0.01):
            moved = tried(state + fraction * step)
            if moved is not None and moved[0] < error:
                best = moved
                break
        if best[0] >= (1.0 - SETTLED) * error:
            break
    return best[1]


def _from_state(model: IORNN, z: Array) -> Array:
    """Derivative of the outputs in the state before the first row: products of F_t U."""
    slopes = model.activation.derivative(z, 1)
    U, A2 = model.recurrent_weights, model.output_weights.T
    current = np.eye(model.n_hidden)
    found = np.zeros((z.shape[0], model.n_outputs, model.n_hidden))
    for t in range(z.shape[0]):
        current = slopes[t][:, None] * (U @ current)
        if np.abs(current).max(initial=0.0) < FORGOTTEN:
            break
        found[t] = A2 @ current
    return found
