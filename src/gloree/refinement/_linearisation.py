r"""Predictions linearised in the free weights: J v by a tangent sweep, J^T r by the adjoint.

References
----------
.. [1] B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994).
.. [2] N. N. Schraudolph, "Fast curvature matrix-vector products for second-order gradient
   descent", Neural Computation 14 (2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._arrays import beside, column_sums, index, like, ones, to_host, zeros
from gloree.models import Network
from gloree.refinement._layout import Direction, Layout
from gloree.sequences import Array, Batch, IntArray, Packing
from gloree.states import (
    States,
    chains_of,
    residual_rows,
    run_states,
    step_after,
    step_before,
    without_context,
)


def what_leaves(batch: Batch, layout: Layout, states: States) -> Array:
    """What enters an output on all rows of a batch: (h_t, 1, x_t), (n_rows, output_width)."""
    parts = [states.h]
    if layout.bias:
        parts.append(ones(states.h, (batch.n_rows, 1)))
    if layout.direct:
        parts.append(batch.X)
    joined: Array = beside(parts)
    return joined


@dataclass(frozen=True)
class Linearisation:
    """A network linearised on the rows of a batch, with J the derivative of its predictions.

    `slopes` holds f'(z_t) of every row, shape (n_rows, n_hidden).
    """

    batch: Batch
    model: Network
    layout: Layout
    states: States
    slopes: Array

    @classmethod
    def of(
        cls, batch: Batch, model: Network, layout: Layout, states: States | None = None
    ) -> Linearisation:
        """Run the model over a batch, unless the states are known."""
        states = run_states(model, batch) if states is None else states
        return cls(batch, model, layout, states, model.activation.derivative(states.z, 1))

    def residuals(self) -> Array:
        """Return y - y^, zero on rows of context."""
        return without_context(self.batch, residual_rows(self.model, self.batch, self.states))

    def inputs(self, direction: Direction) -> Array:
        """Inputs that the units of a direction see."""
        X = self.batch.X
        if direction.columns.shape[0] == X.shape[1]:
            return X
        columns: IntArray = index(X, direction.columns)
        return X[:, columns]

    def entering(self, direction: Direction) -> Array:
        """What enters a unit of a direction: (x_t, h_{t-1}, 1)."""
        parts = [self.inputs(direction)]
        if self.layout.recurrent:
            parts.append(self.states.previous[:, direction.units])
        if self.layout.unit_bias:
            parts.append(ones(self.states.h, (self.batch.n_rows, 1)))
        joined: Array = beside(parts)
        return joined

    def leaving(self) -> Array:
        """What enters an output: (h_t, 1, x_t)."""
        return what_leaves(self.batch, self.layout, self.states)

    def powers(self, direction: Direction) -> Array:
        """Slope z^m of a unit in each free coefficient c_m, (n_rows, n_coefficients)."""
        z = self.states.z[:, direction.units]
        powers: Array = z[:, index(z, direction.owners)] ** like(z, direction.powers)
        return powers

    def adjoint(self, signal: Array) -> Array:
        r"""Adjoint :math:`\delta_t = f'(z_t) \circ (A_2 s_t + U^T \delta_{t+1})` of all rows.

        Backward units have :math:`V^T \delta_{t-1}`.
        """
        delta: Array = signal @ like(signal, self.model.output_weights.T)
        if not self.layout.recurrent or not self.model.recurrent_weights.any():
            delta *= self.slopes
            return delta
        chains = chains_of(self.model, self.batch)
        if len(chains) == 1:
            return _adjoint_chain(self.model, delta, self.slopes, *chains[0])
        for units, packing in chains:
            own, slopes = delta[:, units], self.slopes[:, units]
            delta[:, units] = _adjoint_chain(self.model, own, slopes, units, packing)
        return delta

    def coefficient_terms(self, signal: Array, delta: Array) -> list[Array]:
        """Terms of J^T s of the free coefficients, (n_rows, n_coefficients) of each direction.

        These are (A2 s_t + U^T delta_{t+1})_i z_{ti}^m. Their first factor is the adjoint of h_t,
        which cannot be found from delta_t, f'(z_t) times it, where f' is zero.
        """
        layout = self.layout
        if not layout.free_coefficients:
            return [zeros(signal, (self.batch.n_rows, 0)) for _ in layout.directions]
        adjoint = signal @ like(signal, self.model.output_weights.T)
        if layout.recurrent:
            for direction in layout.directions:
                follow = step_before if direction.prefix == "backward_" else step_after
                units = direction.units
                U = like(delta, self.model.recurrent_weights[units, units])
                adjoint[:, units] += follow(self.batch, delta[:, units]) @ U
        return [
            adjoint[:, direction.units][:, index(adjoint, direction.owners)]
            * self.powers(direction)
            for direction in layout.directions
        ]

    def pulled_back(self, signal: Array, delta: Array | None = None) -> Array:
        """Return J^T s for s of shape (n_rows, n_outputs), zero on rows that do not count.

        `delta` is the adjoint of s, if that is known.
        """
        layout, delta = self.layout, self.adjoint(signal) if delta is None else delta
        terms = self.coefficient_terms(signal, delta)
        units = []
        for direction in layout.directions:
            own = delta[:, direction.units]
            parts = [own.T @ self.inputs(direction)]
            if layout.recurrent:
                parts.append(own.T @ self.states.previous[:, direction.units])
            if layout.unit_bias:
                parts.append(column_sums(own)[:, None])
            units.append(to_host(beside(parts)))
        outputs = [signal.T @ self.states.h]
        if layout.bias:
            outputs.append(column_sums(signal)[:, None])
        if layout.direct:
            outputs.append(signal.T @ self.batch.X)
        coefficients = [to_host(column_sums(values)) for values in terms]
        return layout.join(units, coefficients, to_host(beside(outputs)))

    def tangent(self, vector: Array) -> Array:
        r"""Return J v, the change of all predictions along v, shape (n_rows, n_outputs).

        .. math::
            \dot h_t = f'(z_t) \circ (\dot A_1 x_t + \dot U h_{t-1} + \dot b + U \dot h_{t-1})
                + \sum_m \dot c_m \circ z_t^m, \qquad
            \dot y_t = A_2^T \dot h_t + \dot A_2^T h_t + \dot c + \dot D^T x_t

        and with :math:`w_{t+1}` for backward units.
        """
        layout, model, slopes, h = self.layout, self.model, self.slopes, self.states.h
        units, coefficients, outputs = layout.split(vector)
        tangent = zeros(slopes, h.shape)
        for direction, weights, changes in zip(layout.directions, units, coefficients, strict=True):
            own, d = direction.units, direction.columns.shape[0]
            drive = self.inputs(direction) @ like(slopes, weights[:, :d].T)
            if layout.recurrent:
                feedback = weights[:, d : d + direction.n_units]
                drive += self.states.previous[:, own] @ like(slopes, feedback.T)
            if layout.unit_bias:
                drive += like(slopes, weights[:, -1])
            drive *= slopes[:, own]
            if changes.shape[0]:
                sums = np.zeros((changes.shape[0], direction.n_units))
                sums[np.arange(changes.shape[0]), direction.owners] = 1.0
                drive += (self.powers(direction) * like(slopes, changes)) @ like(slopes, sums)
            tangent[:, own] = drive
        if layout.recurrent and model.recurrent_weights.any():
            for own, packing in chains_of(model, self.batch):
                chain = _tangent_chain(model, tangent[:, own], slopes[:, own], own, packing)
                tangent[:, own] = chain
        change: Array = tangent @ like(slopes, model.output_weights)
        change += h @ like(slopes, outputs[:, : layout.n_hidden].T)
        if layout.bias:
            change += like(slopes, outputs[:, layout.n_hidden])
        if layout.direct:
            change += self.batch.X @ like(slopes, outputs[:, layout.n_hidden + layout.bias :].T)
        return change


def _adjoint_chain(
    model: Network, signal: Array, slopes: Array, units: slice, packing: Packing
) -> Array:
    """Solve delta_t = f'(z_t) o (signal_t + U^T delta_{t+1}) along a chain."""
    U = like(signal, model.recurrent_weights[units, units])
    delta, slope = packing.pack(signal), packing.pack(slopes)
    bounds = packing.step_starts.tolist()
    delta[bounds[-2] :] *= slope[bounds[-2] :]
    for t in range(packing.n_steps - 2, -1, -1):
        begin, end, stop = bounds[t], bounds[t + 1], bounds[t + 2]
        delta[begin : begin + stop - end] += delta[end:stop] @ U
        delta[begin:end] *= slope[begin:end]
    return packing.unpack(delta)


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
