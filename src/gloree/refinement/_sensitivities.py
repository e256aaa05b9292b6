"""Exact derivatives of the prediction error: gradient by the adjoint, J^T J by sensitivities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from gloree._sums import Sums
from gloree.models import IORNN
from gloree.refinement._layout import Layout
from gloree.sequences import Array, Batch
from gloree.states import States, residual_rows, run_states


@dataclass(frozen=True)
class GradientSums(Sums):
    """Squared error and its gradient.

    Attributes
    ----------
    n_rows : float
    squares : ndarray of shape (n_outputs,)
        Sum of (y - y^)^2 of each output.
    gradient : ndarray of shape (size,)
        J^T r, minus half the gradient of the squared error.
    leverage : ndarray of shape (n_segments,)
        Largest |f'(z_t)| (1 + |h_t|) of each segment, in the order of the data.
    """

    n_rows: float
    squares: Array
    gradient: Array = field(repr=False)
    leverage: Array = field(repr=False, metadata={"concatenate": True})


def gradient_sums(batch: Batch, model: IORNN, layout: Layout) -> GradientSums:
    r"""Sums of one batch for the gradient of the squared error.

    .. math::
        \delta_t = f'(z_t) \circ (A_2 r_t + U^T \delta_{t+1}), \qquad
        J^T r = \Big( \sum_t \delta_t (x_t, h_{t-1}, 1)^T,\; \sum_t r_t (h_t, 1, x_t)^T \Big)

    Notes
    -----
    Time O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)): about two forward passes.
    """
    states = run_states(model, batch)
    residuals = counted_residuals(model, batch, states)
    slopes = model.activation.derivative(states.z, 1)
    delta = adjoint_rows(model, batch, slopes, residuals, recurrent=layout.recurrent)
    unit_parts = [delta.T @ batch.X]
    if layout.recurrent:
        unit_parts.append(delta.T @ states.previous)
    if layout.unit_bias:
        unit_parts.append(delta.sum(axis=0)[:, None])
    output_parts = [residuals.T @ states.h]
    if layout.bias:
        output_parts.append(residuals.sum(axis=0)[:, None])
    if layout.direct:
        output_parts.append(residuals.T @ batch.X)
    steepness = np.sqrt(np.einsum("ni,ni->n", slopes, slopes))
    leverage = steepness * (1.0 + np.sqrt(np.einsum("ni,ni->n", states.h, states.h)))
    return GradientSums(
        float(batch.n_counted),
        np.einsum("na,na->a", residuals, residuals),
        layout.join(np.column_stack(unit_parts), np.column_stack(output_parts)),
        np.maximum.reduceat(leverage, batch.starts),
    )


@dataclass(frozen=True)
class SquareSums(Sums):
    """Squared error alone.

    Attributes
    ----------
    n_rows : float
    squares : ndarray of shape (n_outputs,)
        Sum of (y - y^)^2 of each output.
    """

    n_rows: float
    squares: Array


def square_sums(batch: Batch, model: IORNN) -> SquareSums:
    """Squared error of one batch: a forward pass."""
    residuals = residual_rows(model, batch)[batch.counted]
    return SquareSums(float(batch.n_counted), np.einsum("na,na->a", residuals, residuals))


def counted_residuals(model: IORNN, batch: Batch, states: States) -> Array:
    """Residuals, zero on the rows of context."""
    residuals = residual_rows(model, batch, states)
    if batch.has_context:
        context = np.ones(batch.n_rows, dtype=bool)
        context[batch.counted] = False
        residuals[context] = 0.0
    return residuals


def adjoint_rows(
    model: IORNN, batch: Batch, slopes: Array, residuals: Array, *, recurrent: bool
) -> Array:
    """Adjoint states delta_t of all rows, shape (n_rows, n_hidden)."""
    signal = residuals @ model.output_weights.T
    U = model.recurrent_weights
    if not recurrent or not U.any():
        signal *= slopes
        return signal
    packing = batch.packing
    delta, slope = packing.pack(signal), packing.pack(slopes)
    bounds = packing.step_starts.tolist()
    delta[bounds[-2] :] *= slope[bounds[-2] :]
    for t in range(packing.n_steps - 2, -1, -1):
        begin, end, stop = bounds[t], bounds[t + 1], bounds[t + 2]
        delta[begin : begin + stop - end] += delta[end:stop] @ U
        delta[begin:end] *= slope[begin:end]
    return packing.unpack(delta)


@dataclass(frozen=True)
class HessianSums(Sums):
    """Gauss-Newton Hessian.

    Attributes
    ----------
    n_rows : float
    hessian : ndarray of shape (size, size)
        Sum of J^T J.
    """

    n_rows: float
    hessian: Array = field(repr=False)

    def weighted(self, weight: float) -> HessianSums:
        """Return the sums with every row counted `weight` times."""
        return HessianSums(weight * self.n_rows, weight * self.hessian)


def segments_at_once(layout: Layout) -> int:
    """Segments whose sensitivities fit into 4 MiB."""
    return max(8, 2**19 // (layout.n_hidden * layout.n_unit_parameters))


def hessian_sums(batch: Batch, model: IORNN, layout: Layout) -> HessianSums:
    r"""Sums of one batch for J^T J by exact forward sensitivities.

    .. math::
        \frac{\partial h_t}{\partial \theta_i} = f'(z_t) \circ
            \Big( e_i (x_t, h_{t-1}, 1)^T + U \frac{\partial h_{t-1}}{\partial \theta_i} \Big)

    Notes
    -----
    Time O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), memory O(n_segments n_hidden^2
    (n_inputs + n_hidden)); for a subsample of the data.
    """
    states = run_states(model, batch)
    packing = batch.packing
    counted = np.zeros(batch.n_rows, dtype=bool)
    counted[batch.counted] = True
    counted = counted[packing.rows]
    slopes = packing.pack(model.activation.derivative(states.z, 1))
    entering, regressors = _packed_regressors(batch, states, layout)

    k, q, width = layout.n_hidden, layout.n_outputs, layout.n_unit_parameters
    root = np.linalg.qr(model.output_weights.T, mode="r")  # R^T R = A2 A2^T
    units = np.zeros((width, width))
    mixed = np.zeros((k, width, layout.output_width))
    advance = _sensitivity_stepper(model, layout)
    bounds = packing.step_starts.tolist()
    sensitivity: Array | None = None
    for begin, end in pairwise(bounds):
        sensitivity = advance(sensitivity, entering[begin:end], slopes[begin:end])
        chosen = np.flatnonzero(counted[begin:end])
        if chosen.size == 0:
            continue
        rows = chosen + begin
        part = sensitivity if chosen.size == end - begin else sensitivity[:, chosen]
        seen = (root @ part.reshape(k, -1)).reshape(-1, width)
        units += seen.T @ seen
        mixed += part.transpose(0, 2, 1) @ regressors[rows]
    hessian = np.zeros((layout.size, layout.size))
    hessian[:width, :width] = units
    coupling = np.einsum("ja,jpf->paf", model.output_weights, mixed).reshape(width, -1)
    hessian[:width, width:] = coupling
    hessian[width:, :width] = coupling.T
    kept = regressors[counted]
    hessian[width:, width:] = np.kron(np.eye(q), kept.T @ kept)
    return HessianSums(float(batch.n_counted), hessian)


def _packed_regressors(batch: Batch, states: States, layout: Layout) -> tuple[Array, Array]:
    """What enters a unit, (x_t, h_{t-1}, 1), and an output, (h_t, 1, x_t), in packed order."""
    one = np.ones((batch.n_rows, 1))
    entering_ones = [one] if layout.unit_bias else []
    ones = [one] if layout.bias else []
    feedback = [states.previous] if layout.recurrent else []
    direct = [batch.X] if layout.direct else []
    pack = batch.packing.pack
    return (
        pack(np.column_stack((batch.X, *feedback, *entering_ones))),
        pack(np.column_stack((states.h, *ones, *direct))),
    )


@dataclass(frozen=True)
class SpreadSums(Sums):
    """Spread of the score over segments, the middle of sandwich standard errors.

    Attributes
    ----------
    n_segments : float
    spread : ndarray of shape (size, size)
        Sum over segments of g g^T, g = sum of J^T r in the segment.
    """

    n_segments: float
    spread: Array = field(repr=False)


def spread_sums(batch: Batch, model: IORNN, layout: Layout) -> SpreadSums:
    """Sums of one batch for the spread of the score, by the adjoint.

    Notes
    -----
    Time O(n_rows n_hidden (n_inputs + n_hidden) + n_segments size^2), memory O(n_segments size).
    """
    states = run_states(model, batch)
    residuals = counted_residuals(model, batch, states)
    slopes = model.activation.derivative(states.z, 1)
    delta = adjoint_rows(model, batch, slopes, residuals, recurrent=layout.recurrent)
    packing = batch.packing
    delta, residuals = packing.pack(delta), packing.pack(residuals)
    entering, regressors = _packed_regressors(batch, states, layout)
    n_segments = batch.lengths.shape[0]
    units = np.zeros((n_segments, layout.n_hidden, layout.unit_width))
    outputs = np.zeros((n_segments, layout.n_outputs, layout.output_width))
    for begin, end in pairwise(packing.step_starts.tolist()):
        alive = end - begin
        units[:alive] += delta[begin:end, :, None] * entering[begin:end, None, :]
        outputs[:alive] += residuals[begin:end, :, None] * regressors[begin:end, None, :]
    scores = np.hstack((units.reshape(n_segments, -1), outputs.reshape(n_segments, -1)))
    return SpreadSums(float(n_segments), scores.T @ scores)


def _sensitivity_stepper(
    model: IORNN, layout: Layout
) -> Callable[[Array | None, Array, Array], Array]:
    """Return the map from d h_{t-1} / d theta to d h_t / d theta, shape (k, n_alive, k width)."""
    k, m = layout.n_hidden, layout.unit_width
    U = model.recurrent_weights
    recurrent = layout.recurrent and bool(U.any())

    def advance(previous: Array | None, entering: Array, slopes: Array) -> Array:
        alive = entering.shape[0]
        if previous is None or not recurrent:
            current = np.zeros((k, alive, k, m))
        else:
            kept = np.ascontiguousarray(previous[:, :alive])
            current = (U @ kept.reshape(k, -1)).reshape(k, alive, k, m)
        for i in range(k):
            current[i, :, i] += entering
        current *= slopes.T[:, :, None, None]
        return current.reshape(k, alive, k * m)

    return advance
