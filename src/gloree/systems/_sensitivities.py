r"""A free run with its derivatives in all weights and in the state that it starts from.

.. math::
    z_t = A_1 x_t + U h_{t-1} + b, \qquad
    S_t = F_t \bigl(U S_{t-1} + E_t\bigr), \qquad \frac{d\hat y_t}{d\theta} = A_2^T S_t + \dots

with S_t the derivative of h_t, F_t the diagonal matrix of f'(z_t), and E_t what enters: (x_t,
h_{t-1}, 1) in the places of each unit. The derivative in the state before the first row begins as
the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gloree._brief import Brief
from gloree.models import IORNN, ExplosionError, explosion_limit, forward_packed
from gloree.refinement import Layout, polynomial_powers
from gloree.sequences import Array


@dataclass(frozen=True)
class FreeRun(Brief):
    """Outputs of a free run, their derivatives, and the state after it.

    Shapes: `outputs` (n_rows, n_outputs), `jacobian` (n_rows, n_outputs, n_weights) in the order of
    the layout, `from_state` (n_rows, n_outputs, n_hidden) in the state before the first row, and
    `states` (n_rows, n_hidden).
    """

    outputs: Array
    states: Array
    jacobian: Array = field(repr=False)
    from_state: Array = field(repr=False)


def layout_of(model: IORNN, *, free_coefficients: bool = False) -> Layout:
    """All weights of a network as one vector, coefficients of polynomial units if they are free."""
    powers = polynomial_powers(model.activation, model.n_hidden) if free_coefficients else ()
    return Layout(
        model.n_columns,
        model.n_hidden,
        model.n_outputs,
        direct=model.direct_weights is not None,
        free_coefficients=powers if any(powers) else (),
    )


def outputs_of(model: IORNN, windows: Array, h: Array) -> Array:
    """Outputs A2^T h_t + c + D^T x_t of states, (n_rows, n_outputs)."""
    outputs: Array = h @ model.output_weights + model.output_bias
    if model.direct_weights is not None:
        outputs = outputs + windows @ model.direct_weights
    return outputs


def states_along(model: IORNN, windows: Array, state: Array) -> tuple[Array, Array]:
    """Pre-activations and states of one record from the state before it, each (n_rows, n_hidden).

    Raises an ExplosionError where the states run away.
    """
    drive = windows @ model.input_weights.T + model.hidden_bias
    steps = np.arange(windows.shape[0] + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        z, h = forward_packed(
            drive, steps, model.recurrent_weights, model.activation, initial=state[None, :]
        )
        limit = explosion_limit(model.recurrent_weights, model.activation)
        wrong = np.flatnonzero(~np.all(np.abs(h) <= limit, axis=1))
    if wrong.size:
        raise ExplosionError(0, int(wrong[0]), float(np.abs(h[wrong[0]]).max()))
    return z, h


def free_run(
    model: IORNN,
    windows: Array,
    state: Array,
    layout: Layout,
    state_jacobian: Array | None = None,
) -> FreeRun:
    """Run a network along one record, with exact derivatives in all weights.

    Parameters
    ----------
    model : IORNN
    windows : ndarray of shape (n_rows, n_columns)
    state : ndarray of shape (n_hidden,)
        h before the first row.
    layout : Layout
    state_jacobian : ndarray of shape (n_hidden, n_weights), optional
        Derivative of `state` in the weights of the units; zero by default.

    Notes
    -----
    Time O(n_rows n_hidden^2 n_weights), memory O(n_rows n_outputs n_weights).
    """
    z, h = states_along(model, windows, state)
    (part,) = layout.directions
    n, p, size, m = windows.shape[0], model.n_outputs, model.n_hidden, part.width
    slopes = model.activation.derivative(z, 1)
    before = np.concatenate((state[None, :], h[:-1]))
    entering = np.column_stack((windows, before, np.ones(n)))
    powers = z[:, part.owners] ** part.powers
    width = part.size + size
    coefficients = np.arange(part.n_entering, part.size)
    U, A2 = np.asarray(model.recurrent_weights), np.ascontiguousarray(model.output_weights.T)
    # two buffers in turns, and views of the places where (x_t, h_{t-1}, 1) of each unit enter
    buffers = np.zeros((2, size, width))
    blocks = buffers[:, :, : part.n_entering].reshape(2, size, size, m)
    own = [np.einsum("iij->ij", block) for block in blocks]
    if state_jacobian is not None:
        buffers[1, :, : part.size] = state_jacobian[:, : part.size]
    buffers[1, :, part.size :] = np.eye(size)
    found = np.empty((n, p, width))
    for t in range(n):
        current = buffers[t % 2]
        np.matmul(U, buffers[(t + 1) % 2], out=current)
        own[t % 2] += entering[t]
        current *= slopes[t][:, None]
        if coefficients.size:
            current[part.owners, coefficients] += powers[t]
        np.matmul(A2, current, out=found[t])
    leaving = [h, np.ones((n, 1))] + ([windows] if layout.direct else [])
    jacobian = np.zeros((n, p, layout.size))
    jacobian[:, :, : part.size] = found[:, :, : part.size]
    for output in range(p):
        begin = layout.n_unit_parameters + output * layout.output_width
        jacobian[:, output, begin : begin + layout.output_width] = np.column_stack(leaving)
    outputs = outputs_of(model, windows, h)
    return FreeRun(outputs, h, jacobian, np.ascontiguousarray(found[:, :, part.size :]))


def equilibrium(model: IORNN, window: Array, layout: Layout) -> tuple[Array, Array]:
    r"""State at rest under a constant window, and its derivative in the weights of the units.

    .. math:: h = f(A_1 x + U h + b), \qquad \frac{dh}{d\theta} = (I - F U)^{-1} F E

    by Newton's method from zero. Raises a ValueError where it finds none. Shapes (n_hidden,) and
    (n_hidden, n_unit_weights).
    """
    (part,) = layout.directions
    U, n = model.recurrent_weights, model.n_hidden
    drive = model.input_weights @ window + model.hidden_bias
    h = np.zeros(n)
    for _ in range(MOST_NEWTON):
        z = drive + U @ h
        off = model.activation(z) - h
        if np.abs(off).max(initial=0.0) <= 1e-12 * (1.0 + np.abs(h).max(initial=0.0)):
            break
        slope = model.activation.derivative(z, 1)
        h = h + np.linalg.lstsq(np.eye(n) - slope[:, None] * U, off, rcond=None)[0]
    else:
        raise ValueError(
            "no state of equilibrium was found for the first input: give the state that the record "
            "starts from"
        )
    slope = model.activation.derivative(z, 1)
    entered = np.zeros((n, part.size))
    entering = np.concatenate((window, h, [1.0]))
    units = np.arange(n)[:, None]
    entered[units, units * part.width + np.arange(part.width)] = slope[:, None] * entering
    places = np.arange(part.n_entering, part.size)
    entered[part.owners, places] = z[part.owners] ** part.powers
    return np.asarray(h), np.asarray(np.linalg.solve(np.eye(n) - slope[:, None] * U, entered))


MOST_NEWTON = 100
"""Steps of Newton's method towards an equilibrium, at most."""
