"""Exact derivatives of the prediction error: gradient by the adjoint, J^T J by sensitivities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

from gloree._arrays import (
    beside,
    column_squares,
    column_sums,
    contiguous,
    empty,
    index,
    like,
    namespace,
    ones,
    row_squares,
    stretch_maxima,
    take_rows,
    to_host,
    zeros,
)
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._layout import Direction, Layout
from gloree.sequences import Array, Batch, IntArray, LargestSegments, Packing
from gloree.states import (
    States,
    chains_of,
    residual_rows,
    run_states,
    step_after,
    step_before,
    without_context,
)


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
    leverage : LargestSegments
        Largest |f'(z_t)| (1 + |h_t|) of each segment.
    """

    n_rows: float
    squares: Array
    gradient: Array = field(repr=False)
    leverage: LargestSegments = field(repr=False, metadata={"nested": True})


def gradient_sums(
    batch: Batch, model: Network, layout: Layout, n_largest: int | None = None
) -> GradientSums:
    r"""Sums of one batch for the gradient of the squared error.

    The leverage of `n_largest` segments is kept (None: of all).

    .. math::
        \delta_t = f'(z_t) \circ (A_2 r_t + U^T \delta_{t+1}), \qquad
        J^T r = \Big( \sum_t \delta_t (x_t, h_{t-1}, 1)^T,\; \sum_t r_t (h_t, 1, x_t)^T \Big)

    and for backward units with :math:`V^T \delta_{t-1}` and :math:`w_{t+1}`. The coefficient of
    :math:`z^m` in unit i has :math:`\sum_t (A_2 r_t + U^T \delta_{t+1})_i z_{ti}^m`.

    Notes
    -----
    Time O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)): about two forward passes.
    """
    states = run_states(model, batch)
    residuals = without_context(batch, residual_rows(model, batch, states))
    slopes = model.activation.derivative(states.z, 1)
    sqrt = namespace(slopes).sqrt
    leverage = sqrt(row_squares(slopes)) * (1.0 + sqrt(row_squares(states.h)))
    return GradientSums(
        float(batch.n_counted),
        to_host(column_squares(residuals)),
        backpropagate(batch, model, layout, states, slopes, residuals),
        LargestSegments.of(
            to_host(stretch_maxima(leverage, batch.starts)), batch.segments, n_largest
        ),
    )


def backpropagate(
    batch: Batch, model: Network, layout: Layout, states: States, slopes: Array, residuals: Array
) -> Array:
    """Return J^T r for any r of shape (n_rows, n_outputs), zero on rows that do not count."""
    delta = adjoint_rows(model, batch, slopes, residuals, recurrent=layout.recurrent)
    coefficients = [
        to_host(column_sums(products))
        for products in coefficient_products(batch, model, layout, states, delta, residuals)
    ]
    units = []
    for direction in layout.directions:
        own = delta[:, direction.units]
        parts = [own.T @ seen_inputs(batch, direction)]
        if layout.recurrent:
            parts.append(own.T @ states.previous[:, direction.units])
        if layout.unit_bias:
            parts.append(column_sums(own)[:, None])
        units.append(to_host(beside(parts)))
    outputs = [residuals.T @ states.h]
    if layout.bias:
        outputs.append(column_sums(residuals)[:, None])
    if layout.direct:
        outputs.append(residuals.T @ batch.X)
    return layout.join(units, coefficients, to_host(beside(outputs)))


def coefficient_slopes(states: States, direction: Direction) -> Array:
    """Slope of a unit in each free coefficient of its polynomial, (n_rows, n_coefficients).

    d f(z) / d c_m = z^m for f(z) = sum_m c_m z^m.
    """
    z = states.z[:, direction.units]
    powers: Array = z[:, index(z, direction.owners)] ** like(z, direction.powers)
    return powers


def coefficient_products(
    batch: Batch, model: Network, layout: Layout, states: States, delta: Array, residuals: Array
) -> list[Array]:
    """Terms of J^T r of the free coefficients, (n_rows, n_coefficients) of each direction.

    (A2 r_t + U^T delta_{t+1})_i z_{ti}^m: the adjoint of h_t, which delta_t = f'(z_t) times it
    does not give back where f' is zero.
    """
    if not layout.free_coefficients:
        return [zeros(residuals, (batch.n_rows, 0)) for _ in layout.directions]
    adjoint = residuals @ like(residuals, model.output_weights.T)
    if layout.recurrent:
        for direction in layout.directions:
            follow = step_before if direction.prefix == "backward_" else step_after
            U = like(delta, model.recurrent_weights[direction.units, direction.units])
            adjoint[:, direction.units] += follow(batch, delta[:, direction.units]) @ U
    return [
        adjoint[:, direction.units][:, index(adjoint, direction.owners)]
        * coefficient_slopes(states, direction)
        for direction in layout.directions
    ]


def seen_inputs(batch: Batch, direction: Direction) -> Array:
    """Return the inputs that the units of a direction see."""
    if direction.columns.shape[0] == batch.X.shape[1]:
        return batch.X
    columns: IntArray = index(batch.X, direction.columns)
    return batch.X[:, columns]


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


def square_sums(batch: Batch, model: Network) -> SquareSums:
    """Squared error of one batch: a forward pass."""
    residuals = take_rows(residual_rows(model, batch), batch.counted)
    return SquareSums(float(batch.n_counted), to_host(column_squares(residuals)))


def adjoint_rows(
    model: Network, batch: Batch, slopes: Array, residuals: Array, *, recurrent: bool
) -> Array:
    """Adjoint states delta_t of all rows, shape (n_rows, n_hidden)."""
    signal: Array = residuals @ like(residuals, model.output_weights.T)
    if not recurrent or not model.recurrent_weights.any():
        signal *= slopes
        return signal
    chains = chains_of(model, batch)
    if len(chains) == 1:
        return _adjoint_chain(model, signal, slopes, *chains[0])
    for units, packing in chains:
        signal[:, units] = _adjoint_chain(model, signal[:, units], slopes[:, units], units, packing)
    return signal


def _adjoint_chain(
    model: Network, signal: Array, slopes: Array, units: slice, packing: Packing
) -> Array:
    U = like(signal, model.recurrent_weights[units, units])
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


def segments_at_once(layout: Layout) -> int:
    """Segments whose sensitivities fit into 4 MiB."""
    return max(8, 2**19 // (layout.n_hidden * layout.n_unit_parameters))


def rows_at_once(layout: Layout) -> int:
    """Rows whose sensitivities, kept where there are two chains, fit into 32 MiB."""
    kept = sum(part.n_units * part.size for part in layout.directions[:-1])
    return max(256, 2**22 // max(kept, 1))


def hessian_sums(
    batch: Batch, model: Network, layout: Layout, weights: Array | None = None
) -> HessianSums:
    r"""Sums of one batch for J^T J by exact forward sensitivities.

    .. math::
        \frac{\partial h_t}{\partial \theta_i} = f'(z_t) \circ
            \Big( e_i (x_t, h_{t-1}, 1)^T + U \frac{\partial h_{t-1}}{\partial \theta_i} \Big),
        \qquad
        \frac{\partial h_t}{\partial c_{im}} = e_i z_{ti}^m + f'(z_t) \circ
            U \frac{\partial h_{t-1}}{\partial c_{im}}

    Of two chains, those of the forward one are found first and kept: the other one walks the
    steps in the opposite order. All this is linear in what enters a unit, so weights of segments
    enter there, as their roots.

    Parameters
    ----------
    batch : Batch
    model : IORNN or BRNN
    layout : Layout
    weights : ndarray of shape (n_segments,), optional
        What the rows of each segment count; 1 by default.

    Notes
    -----
    Time O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), memory O(n_segments n_hidden^2
    (n_inputs + n_hidden)), for a bidirectional network with n_rows in place of n_segments; for a
    subsample of the data.
    """
    states = run_states(model, batch)
    roots = None
    if weights is not None:
        roots = like(states.h, np.repeat(np.sqrt(weights), batch.lengths)[:, None])
    counted = np.zeros(batch.n_rows, dtype=bool)
    counted[batch.counted_rows] = True
    slopes = model.activation.derivative(states.z, 1)
    regressors = _scaled(output_regressors(batch, states, layout), roots)
    root = np.asarray(np.linalg.qr(model.output_weights.T, mode="r"))  # R^T R = A2 A2^T
    root = like(slopes, root)
    *others, last = [direction for direction in layout.directions if direction.n_units]
    run = partial(_sensitivity_steps, batch, model, layout, states, slopes, roots)
    kept = [_all_rows(run(other), other, batch, slopes) for other in others]

    q, width = layout.n_outputs, layout.n_unit_parameters
    units = zeros(slopes, (width, width))
    mixed = [
        zeros(slopes, (part.n_units, part.size, layout.output_width)) for part in (*others, last)
    ]
    for rows, sensitivity in run(last):
        chosen = np.flatnonzero(counted[rows])
        if chosen.size == 0:
            continue
        whole, place = chosen.size == rows.size, index(slopes, rows[chosen])
        own = sensitivity if whole else sensitivity[:, index(slopes, chosen)]
        parts = [*(values[:, place] for values in kept), own]
        seen = [
            (root[:, part.units] @ values.reshape(part.n_units, -1)).reshape(-1, part.size)
            for part, values in zip((*others, last), parts, strict=True)
        ]
        joined = seen[0] if len(seen) == 1 else beside(seen)
        units += joined.T @ joined
        for total, values in zip(mixed, parts, strict=True):
            total += values.swapaxes(1, 2) @ regressors[place]
    hessian = np.zeros((layout.size, layout.size))
    hessian[:width, :width] = to_host(units)
    for part, total in zip((*others, last), mixed, strict=True):
        coupling = np.einsum("ja,jpf->paf", model.output_weights[part.units], to_host(total))
        hessian[part.block, width:] = coupling.reshape(part.size, -1)
    hessian[width:, :width] = hessian[:width, width:].T
    phi = regressors[index(regressors, counted)]
    hessian[width:, width:] = np.kron(np.eye(q), to_host(phi.T @ phi))
    rows_of = batch.lengths - batch.before - batch.after
    n_rows = batch.n_counted if weights is None else weights @ rows_of
    return HessianSums(float(n_rows), hessian)


def _scaled(values: Array, roots: Array | None) -> Array:
    """Rows times the roots of their weights."""
    return values if roots is None else values * roots


def entering_unit(batch: Batch, states: States, layout: Layout, direction: Direction) -> Array:
    """What enters a unit of a direction: (x_t, h_{t-1}, 1)."""
    parts = [seen_inputs(batch, direction)]
    if layout.recurrent:
        parts.append(states.previous[:, direction.units])
    if layout.unit_bias:
        parts.append(ones(states.h, (batch.n_rows, 1)))
    joined: Array = beside(parts)
    return joined


def output_regressors(batch: Batch, states: States, layout: Layout) -> Array:
    """What enters an output: (h_t, 1, x_t)."""
    parts = [states.h]
    if layout.bias:
        parts.append(ones(states.h, (batch.n_rows, 1)))
    if layout.direct:
        parts.append(batch.X)
    joined: Array = beside(parts)
    return joined


def _packing_of(batch: Batch, direction: Direction) -> Packing:
    return batch.mirrored if direction.prefix == "backward_" else batch.packing


def _sensitivity_steps(
    batch: Batch,
    model: Network,
    layout: Layout,
    states: States,
    slopes: Array,
    roots: Array | None,
    direction: Direction,
) -> Iterator[tuple[IntArray, Array]]:
    """Rows of each step and d h_t / d theta there, shape (n_units, n_rows, size).

    Times the `roots` of their weights, of shape (n_rows, 1).
    """
    k, m, cut, size = direction.n_units, direction.width, direction.n_entering, direction.size
    U = like(slopes, model.recurrent_weights[direction.units, direction.units])
    recurrent = layout.recurrent and bool(U.any())
    packing = _packing_of(batch, direction)
    entering = packing.pack(_scaled(entering_unit(batch, states, layout, direction), roots))
    steep = packing.pack(slopes[:, direction.units])
    own = packing.pack(_scaled(coefficient_slopes(states, direction), roots))
    owners, places = index(slopes, direction.owners), index(slopes, np.arange(cut, size))
    current: Array | None = None
    for begin, end in pairwise(packing.step_starts.tolist()):
        alive = end - begin
        if current is None or not recurrent:
            current = zeros(slopes, (k, alive, size))
        else:
            before = contiguous(current[:, :alive])
            current = (U @ before.reshape(k, -1)).reshape(k, alive, size)
        for i in range(k):
            current[i, :, i * m : (i + 1) * m] += entering[begin:end]
        current *= steep[begin:end].T[:, :, None]
        if size > cut:
            current[owners, :, places] += own[begin:end].T
        yield packing.rows[begin:end], current


def _all_rows(
    steps: Iterator[tuple[IntArray, Array]], direction: Direction, batch: Batch, slopes: Array
) -> Array:
    """Sensitivities of all rows of a batch, shape (n_units, n_rows, size)."""
    kept: Array = empty(slopes, (direction.n_units, batch.n_rows, direction.size))
    for rows, values in steps:
        kept[:, index(kept, rows)] = values
    return kept
