r"""J^T J times a vector, without J: a tangent sweep forward and an adjoint sweep back.

References
----------
.. [1] B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994).
.. [2] N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient
   descent", Neural Computation 14 (2002).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gloree._arrays import beside, column_squares, like, namespace, ones, to_host, zeros
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    backpropagate,
    coefficient_slopes,
    output_regressors,
    seen_inputs,
)
from gloree.sequences import Array, Batch, Packing
from gloree.states import States, chains_of


@dataclass(frozen=True)
class ProductSums(Sums):
    """J^T J times a vector.

    Attributes
    ----------
    product : ndarray of shape (size,)
        Sum of J^T (J v).
    """

    product: Array = field(repr=False)


def product_sums(
    batch: Batch,
    model: Network,
    layout: Layout,
    states: States,
    slopes: Array,
    vector: Array,
    weights: Array,
) -> ProductSums:
    """Sums of one batch for J^T W J v, at states and slopes f'(z_t) that are known.

    W counts each row `weights` times, shape (n_rows, 1); context rows not at all.

    Notes
    -----
    Time O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)): about two forward passes.
    """
    change = tangent_rows(batch, model, layout, states, slopes, vector)
    change *= weights
    return ProductSums(backpropagate(batch, model, layout, states, slopes, change))


def tangent_rows(
    batch: Batch, model: Network, layout: Layout, states: States, slopes: Array, vector: Array
) -> Array:
    r"""J v: change of all predictions along v, shape (n_rows, n_outputs).

    .. math::
        \dot h_t = f'(z_t) \circ (\dot A_1 x_t + \dot U h_{t-1} + \dot b + U \dot h_{t-1})
            + \sum_m \dot c_m \circ z_t^m, \qquad
        \dot y_t = A_2^T \dot h_t + \dot A_2^T h_t + \dot c + \dot D^T x_t

    and with :math:`w_{t+1}` for backward units.
    """
    units, coefficients, outputs = layout.split(vector)
    tangent = zeros(slopes, states.h.shape)
    for direction, weights, powers in zip(layout.directions, units, coefficients, strict=True):
        own, d = direction.units, direction.columns.shape[0]
        drive = seen_inputs(batch, direction) @ like(slopes, weights[:, :d].T)
        if layout.recurrent:
            feedback = weights[:, d : d + direction.n_units]
            drive += states.previous[:, own] @ like(slopes, feedback.T)
        if layout.unit_bias:
            drive += like(slopes, weights[:, -1])
        drive *= slopes[:, own]
        if powers.shape[0]:
            terms = coefficient_slopes(states, direction) * like(slopes, powers)
            sums = np.zeros((powers.shape[0], direction.n_units))
            sums[np.arange(powers.shape[0]), direction.owners] = 1.0
            drive += terms @ like(slopes, sums)
        tangent[:, own] = drive
    if layout.recurrent and model.recurrent_weights.any():
        for own, packing in chains_of(model, batch):
            tangent[:, own] = _tangent_chain(model, tangent[:, own], slopes[:, own], own, packing)
    A2, k = model.output_weights, layout.n_hidden
    change: Array = tangent @ like(slopes, A2) + states.h @ like(slopes, outputs[:, :k].T)
    if layout.bias:
        change += like(slopes, outputs[:, k])
    if layout.direct:
        change += batch.X @ like(slopes, outputs[:, k + layout.bias :].T)
    return change


def _tangent_chain(
    model: Network, drive: Array, slopes: Array, units: slice, packing: Packing
) -> Array:
    """Solve h._t = drive_t + f'(z_t) o U h._{t-1} along a chain."""
    U = like(drive, model.recurrent_weights[units, units].T)
    tangent, slope = packing.pack(drive), packing.pack(slopes)
    bounds = packing.step_starts.tolist()
    for t in range(1, packing.n_steps):
        before, begin, end = bounds[t - 1], bounds[t], bounds[t + 1]
        tangent[begin:end] += slope[begin:end] * (tangent[before : before + end - begin] @ U)
    return packing.unpack(tangent)


@dataclass(frozen=True)
class BlockSums(Sums):
    """What the diagonal blocks of J^T J look like, one for each unit and each output.

    Attributes
    ----------
    n_rows : float
    entering : ndarray of shape (n_inputs + n_hidden + 1, n_inputs + n_hidden + 1)
        Second moments of what enters the units, (x_t, h_{t-1}, 1).
    leaving : ndarray of shape (output_width, output_width)
        Second moments of what enters the outputs, (h_t, 1, x_t).
    slopes : ndarray of shape (n_hidden,)
        Sums of f'(z_ti)^2.
    coefficients : ndarray of shape (n_coefficients,)
        Sums of z_ti^(2 m) for each free coefficient.
    """

    n_rows: float
    entering: Array = field(repr=False)
    leaving: Array = field(repr=False)
    slopes: Array = field(repr=False)
    coefficients: Array = field(repr=False)


def block_sums(
    batch: Batch, layout: Layout, states: States, slopes: Array, weights: Array
) -> BlockSums:
    """Sums of one batch for the diagonal blocks, with weights as for `product_sums`.

    Notes
    -----
    Time O(n_rows (n_inputs + n_hidden)^2).
    """
    entering = beside((batch.X, states.previous, ones(states.h, (batch.n_rows, 1))))
    leaving = output_regressors(batch, states, layout)
    powers = [coefficient_slopes(states, direction) for direction in layout.directions]
    root = namespace(weights).sqrt(weights)
    return BlockSums(
        float(to_host(weights.sum())),
        to_host((weights * entering).T @ entering),
        to_host((weights * leaving).T @ leaving),
        to_host(column_squares(root * slopes)),
        to_host(column_squares(root * beside(powers))),
    )
