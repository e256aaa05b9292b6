r"""A linear network as a state-space model of SciPy or python-control.

.. math::
    h_t = U h_{t-1} + A_1 x_t + b, \qquad y_t = A_2^T h_t + c + D^T x_t

with windows x_t = [u_t, ..., u_{t-lags+1}] becomes, in deviations from an operating point
(:eq:`control-state-space`),

.. math::
    s_{t+1} = \mathcal{A} s_t + \mathcal{B} u_t, \qquad y_t = \mathcal{C} s_t + \mathcal{D} u_t,
    \qquad s_t = [h_{t-1}, u_{t-1}, \dots, u_{t-\mathrm{lags}+1}] .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gloree._brief import Brief
from gloree._extras import require
from gloree.models import IORNN
from gloree.sequences import Array, IntArray
from gloree.systems._channels import Channels, sampling_time

if TYPE_CHECKING:
    from scipy import signal

EXACT = 1e-9
"""Relative size of what the inputs at the operating point may leave of the biases."""


@dataclass(frozen=True)
class OperatingPoint(Brief):
    """Where the deviations of a state-space model are measured from.

    Attributes
    ----------
    inputs : ndarray of shape (n_inputs,)
    outputs : ndarray of shape (n_outputs,)
    states : ndarray of shape (n_states,)
        State of the network there, [h, inputs before]: subtract it from a state of the network
        to have that of the state-space model.
    """

    inputs: Array
    outputs: Array
    states: Array


def require_linear(model: IORNN) -> None:
    """Raise a ValueError unless all units are linear."""
    if not isinstance(model, IORNN):
        raise TypeError(f"`model` is a {type(model).__name__}, expected an IORNN of one direction")
    if not model.is_linear:
        raise ValueError(
            f"`model` has the units {model.activation.name!r}, and only a linear network has a "
            f"state-space model: take `linear_model_`, or fit with n_nonlinear=0"
        )


def unit_slopes(model: IORNN) -> Array:
    """Slopes of linear units, (n_hidden,), 1 unless someone chose others."""
    slopes: Array = model.activation.derivative(np.zeros((1, model.n_hidden)), 1)[0]
    return slopes


def matrices(model: IORNN) -> tuple[Array, Array, Array, Array]:
    """A, B, C, D of the state-space model, the inputs of a window as shift states."""
    n, m, kept = model.n_hidden, model.n_inputs, model.lags - 1
    f = unit_slopes(model)[:, None]
    U, A1, C = f * model.recurrent_weights, f * model.input_weights, model.output_weights.T
    direct = np.zeros((model.n_columns, model.n_outputs))
    if model.direct_weights is not None:
        direct = model.direct_weights
    size = n + kept * m
    A, B = np.zeros((size, size)), np.zeros((size, m))
    A[:n, :n], A[:n, n:], B[:n] = U, A1[:, m:], A1[:, :m]
    if kept:
        B[n : n + m] = np.eye(m)
        A[n + m :, n:-m] = np.eye((kept - 1) * m)
    return A, B, np.hstack((C @ U, C @ A1[:, m:] + direct.T[:, m:])), C @ B[:n] + direct[:m].T


def to_state_space(model: IORNN, dt: float | None = None) -> signal.StateSpace:
    """State-space model of a linear network, with its direct path and its delays.

    Parameters
    ----------
    model : IORNN
        With linear units.
    dt : float, optional
        Seconds between two samples; without it SciPy counts samples (``dt=True``).

    Returns
    -------
    scipy.signal.StateSpace
        Discrete in time, in deviations from `operating_point`. Inputs at earlier steps, which a
        network with `lags` sees, are states that are shifted on.

    Raises
    ------
    ValueError, TypeError
        If the network is not linear, or `dt` is no positive number.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import signal
    >>> from gloree.models import IORNN
    >>> from gloree.systems import to_state_space
    >>> model = IORNN([[1.0]], [[0.5]], [[2.0]], activation="linear")
    >>> _, y, _ = signal.dlsim(to_state_space(model, dt=0.1), np.ones((3, 1)))
    >>> y.ravel()
    array([2. , 3. , 3.5])
    """
    from scipy.signal import StateSpace  # slow to import

    require_linear(model)
    step = sampling_time(dt)
    return StateSpace(*matrices(model), dt=True if step is None else step)


def to_control(model: IORNN, dt: float | None = None, channels: Channels | None = None) -> Any:
    """State-space model of python-control, as `to_state_space`, with names of the channels.

    Parameters
    ----------
    model : IORNN
        With linear units.
    dt : float, optional
        Seconds between two samples; by default that of the channels, or python-control's True.
    channels : Channels, optional

    Returns
    -------
    control.StateSpace

    Raises
    ------
    ImportError
        Without python-control, which the extra ``control`` installs.
    ValueError, TypeError
        If the network is not linear, or `dt` is no positive number.
    """
    control = require("control", "control", "`to_control`")
    require_linear(model)
    step = sampling_time(dt if dt is not None or channels is None else channels.dt)
    names = channels or Channels.numbered(model.n_inputs, model.n_outputs)
    return control.ss(
        *matrices(model),
        True if step is None else step,
        inputs=[name.replace(".", "_") for name in names.input_names],
        outputs=[name.replace(".", "_") for name in names.output_names],
    )


def operating_point(model: IORNN) -> OperatingPoint:
    """Inputs, outputs and state from which a state-space model measures deviations.

    Inputs u that leave the states of the network at zero, A1 u + b = 0, where there are such: a
    fit has them at the means of its inputs (with fewer states than inputs at others as well, of
    which these are the smallest in what they do to the states). The units are zero there then, and
    the inputs before (of a network with dead times) are u: the network from this state is the
    state-space model from zero, and without dead times that is rest. For other biases u is zero,
    and the state is that of equilibrium. Raises a ValueError for a network that is not linear, or
    that integrates.
    """
    require_linear(model)
    m, lags, f = model.n_inputs, model.lags, unit_slopes(model)
    A1 = (f[:, None] * model.input_weights).reshape(-1, lags, m)
    b = np.asarray(model.activation(model.hidden_bias[None, :])[0])
    direct = np.zeros((m, model.n_outputs))
    if model.direct_weights is not None:
        direct = model.direct_weights.reshape(lags, m, -1).sum(axis=0)
    total = A1.sum(axis=1)
    size = np.linalg.norm(total, axis=0)
    size = np.where(size > 0.0, size, 1.0)  # inputs in any units
    u = np.linalg.lstsq(total / size, -b, rcond=None)[0] / size
    left = total @ u + b
    h = np.zeros(model.n_hidden)
    if np.abs(left).max(initial=0.0) > EXACT * np.abs(b).max(initial=0.0):
        u = np.zeros(m)
        left_over = np.eye(model.n_hidden) - f[:, None] * model.recurrent_weights
        if np.linalg.cond(left_over) > 1.0 / EXACT:
            raise ValueError(
                "the network integrates, and its biases are those of no constant input: it has no "
                "operating point"
            )
        h = np.linalg.solve(left_over, b)
    y = h @ model.output_weights + model.output_bias + u @ direct
    return OperatingPoint(u, y, np.concatenate((h, np.tile(u, lags - 1))))


def dead_times(model: IORNN) -> IntArray:
    """Samples after which each input is first seen: the leading zero columns of its window.

    Returns an array of shape (n_inputs,); -1 for an input that is not seen at all.
    """
    m, lags = model.n_inputs, model.lags
    used = np.any(model.input_weights != 0.0, axis=0)
    if model.direct_weights is not None:
        used |= np.any(model.direct_weights != 0.0, axis=1)
    windows = used.reshape(lags, m)
    first = np.where(windows.any(axis=0), windows.argmax(axis=0), -1)
    return first.astype(np.int64)
