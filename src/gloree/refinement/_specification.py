r"""Score test of what a refined network leaves out.

Take a family of larger networks, :math:`\gamma = 0` being the one fitted: other powers of the
pre-activations, or inputs of one step further back,

.. math::
    h_{ti} = f(z_{ti}) + \sum_m \gamma_{im} He_m(u_{ti}), \qquad
    z_t \mathrel{+}= \Gamma x_{t-L}, \qquad \hat y_t \mathrel{+}= \Delta^T x_{t-L}

(the last one beside a direct path only; in networks without biases an offset of the outputs
alike), where u is z in standard units, held within `LARGEST`, and He_m a Hermite polynomial: u^m,
less what lower powers say of it. The efficient score of a component is

.. math::
    e_j = \sum_t \Big( \frac{\partial \hat y_t}{\partial \gamma_j}
        - J_t H^{-1} b_j \Big)^T r_t, \qquad b_j = \sum_t J_t^T \frac{\partial \hat y_t}
        {\partial \gamma_j}, \qquad H = \sum_t J_t^T J_t,

which weights within their standard errors of the optimum do not move (Neyman's C(alpha)). It is
summed over blocks c of whole sequences, or of stretches of long ones, and with
:math:`V_j = \sum_c e_{cj}^2`

.. math:: T = \sum_j \Big( \sum_c e_{cj} \Big)^2 / V_j .

Under the null, blocks are independent with mean zero, whatever their variances are and however
noise depends on time, inputs and outputs within them: flipping the signs of all components of a
block is as likely. Over these flips T has mean m and variance
:math:`2 \sum_{c \ne c'} (\sum_j e_{cj} e_{c'j} / V_j)^2`; the scaled chi square with these two
moments gives the p-value. Nothing is inverted but H, so more components than blocks are no matter.

References
----------
.. [1] J. Neyman, "Optimal asymptotic tests of composite statistical hypotheses", in: Probability
   and Statistics, The Harald Cramer Volume (1959).
.. [2] J. M. Wooldridge, "A unified approach to robust, regression-based specification tests",
   Econometric Theory 6 (1990).
.. [3] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
   Biometrics Bulletin 2 (1946).
.. [4] A. C. Davidson, E. Flachaire, "The wild bootstrap, tamed at last", Journal of Econometrics
   146 (2008).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from gloree._arrays import to_host
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._layout import Direction, Layout
from gloree.refinement._linearisation import Linearisation
from gloree.sequences import Array, Batch, IntArray
from gloree.states import chains_of, run_states, step_after, step_before

LARGEST = 3.0
"""Standard deviations from the mean at which pre-activations are held: without that a few rows
would make up most of a sum of fourth powers."""


@dataclass(frozen=True)
class Alternatives(Brief):
    """What might be missing in a network: powers of z, and x of `lag` steps before.

    Attributes
    ----------
    powers : tuple of int
        m above.
    centre, scale : ndarray of shape (n_hidden,)
        Mean and standard deviation of z.
    columns : ndarray of shape (n_inputs, n_combinations)
        Combinations of the inputs of one step (without windows) that are tried.
    outputs : bool
        Whether they are tried at the outputs too.
    offset : bool
        Whether an offset of the outputs is tried.
    """

    powers: tuple[int, ...]
    centre: Array
    scale: Array
    columns: Array
    outputs: bool
    offset: bool = False

    def powers_of(self, at: Linearisation) -> Array:
        """Hermite polynomials of u of all rows, shape (n_rows, n_powers, n_hidden)."""
        u = np.clip((at.states.z - self.centre) / self.scale, -LARGEST, LARGEST)
        found = np.empty((u.shape[0], len(self.powers), u.shape[1]))
        before, hermite = np.ones_like(u), u
        for m in range(1, max(self.powers) + 1):
            if m in self.powers:
                found[:, self.powers.index(m)] = hermite
            before, hermite = hermite, u * hermite - m * before
        return found

    def inputs_before(self, at: Linearisation, direction: Direction) -> Array:
        """What one more lag would show to the units of a direction, (n_rows, n_combinations)."""
        n_inputs = self.columns.shape[0]
        oldest = at.inputs(direction)[:, -n_inputs:] @ self.columns
        backward = direction.prefix == "backward_"
        return step_after(at.batch, oldest) if backward else step_before(at.batch, oldest)

    def at_outputs(self, at: Linearisation) -> Array:
        """What might be added to every output, shape (n_rows, n): lagged inputs, and 1."""
        parts = [np.zeros((at.batch.n_rows, 0))]
        if self.outputs:
            parts.append(self.inputs_before(at, at.layout.directions[0]))
        if self.offset:
            parts.append(np.ones((at.batch.n_rows, 1)))
        return np.concatenate(parts, axis=1)

    def n_of(self, layout: Layout) -> tuple[int, int, int]:
        """Number of components: powers, lagged inputs, offsets. They stand in this order."""
        lagged = self.columns.shape[1] * (layout.n_hidden + layout.n_outputs * self.outputs)
        return layout.n_hidden * len(self.powers), lagged, layout.n_outputs * self.offset


@dataclass(frozen=True)
class UnitSums(Sums):
    """Sums over rows of z and of the inputs, and of their squares."""

    n_rows: float
    z: Array
    z_squares: Array
    x: Array
    x_squares: Array


def unit_sums(batch: Batch, model: Network) -> UnitSums:
    """Map of the pass for mean and spread of pre-activations and inputs."""
    z, x = (to_host(v)[batch.counted_rows] for v in (run_states(model, batch).z, batch.X))
    sums = (each.sum(axis=0) for v in (z, x) for each in (v, v**2))
    return UnitSums(float(batch.n_counted), *sums)


@dataclass(frozen=True)
class CouplingSums(Sums):
    """Sums over rows of J^T d y^ / d gamma, shape (size, n), and of |d y^ / d gamma|^2, (n,)."""

    n_rows: float
    coupling: Array = field(repr=False)
    squares: Array


def coupling_sums(
    batch: Batch, model: Network, layout: Layout, alternatives: Alternatives
) -> CouplingSums:
    """Map of the pass for b: a tangent sweep and an adjoint sweep of all components at once.

    Time O(n_rows n (n_hidden^2 + n_hidden n_outputs + n_hidden n_inputs)), memory O(n_rows n
    (n_hidden + n_outputs)), for n components.
    """
    at = _linearised(batch, model, layout)
    changes = _tangents(at, alternatives)
    changes[~_is_counted(batch)] = 0.0
    adjoint = _times(changes, model.output_weights.T)
    recurrent = layout.recurrent and bool(model.recurrent_weights.any())
    parts = {part.units.start: part for part in layout.directions}
    units: list[Array] = []
    for own, packing in chains_of(model, batch):
        signal = packing.pack(adjoint[:, :, own])
        slopes = packing.pack(at.slopes[:, own])[:, None]
        U, bounds = model.recurrent_weights[own, own], packing.step_starts.tolist()
        for t in range(packing.n_steps - 1, -1, -1):
            begin, end = bounds[t], bounds[t + 1]
            if recurrent and t + 1 < packing.n_steps:
                stop = bounds[t + 2]
                signal[begin : begin + stop - end] += _times(signal[end:stop], U)
            signal[begin:end] *= slopes[begin:end]
        entering = packing.pack(at.entering(parts[own.start]))
        flat = signal.reshape(batch.n_rows, -1).T @ entering
        units.append(flat.reshape(changes.shape[1], -1))
    leaving = changes.reshape(batch.n_rows, -1).T @ at.leaving()
    coupling = np.concatenate([*units, leaving.reshape(changes.shape[1], -1)], axis=1)
    squares = np.einsum("rma,rma->m", changes, changes)
    return CouplingSums(float(batch.n_counted), coupling.T, squares)


def _tangents(at: Linearisation, alternatives: Alternatives) -> Array:
    """Derivatives d y^_t / d gamma of all components, shape (n_rows, n, n_outputs)."""
    model, layout, n_rows = at.model, at.layout, at.batch.n_rows
    counts = alternatives.n_of(layout)
    n_powers, changes = counts[0], np.zeros((n_rows, sum(counts), layout.n_outputs))
    powers, outer = alternatives.powers_of(at), alternatives.at_outputs(at)
    recurrent = layout.recurrent and bool(model.recurrent_weights.any())
    parts = {part.units.start: part for part in layout.directions}
    for own, packing in chains_of(model, at.batch):
        part, k = parts[own.start], own.stop - own.start
        lagged = alternatives.inputs_before(at, part)[:, :, None] * at.slopes[:, None, own]
        drives = np.concatenate((powers[:, :, own], lagged), axis=1)
        packed, slopes = packing.pack(drives), packing.pack(at.slopes[:, own])[:, None, None]
        # component (j, i) enters unit i alone
        state = np.zeros((*packed.shape, k))
        state[:, :, np.arange(k), np.arange(k)] = packed
        U, bounds = model.recurrent_weights[own, own].T, packing.step_starts.tolist()
        for t in range(1, packing.n_steps if recurrent else 0):
            before, begin, end = bounds[t - 1], bounds[t], bounds[t + 1]
            earlier = state[before : before + end - begin]
            state[begin:end] += slopes[begin:end] * _times(earlier, U)
        seen = packing.unpack(_times(state, model.output_weights[own]))
        cut = powers.shape[1]
        for first, block in ((0, seen[:, :cut]), (n_powers, seen[:, cut:])):
            count = block.shape[1]
            width = layout.n_hidden
            places = first + np.arange(count)[:, None] * width + np.arange(own.start, own.stop)
            changes[:, places.ravel()] = block.reshape(n_rows, -1, layout.n_outputs)
    first = sum(counts) - outer.shape[1] * layout.n_outputs
    for a in range(layout.n_outputs):
        changes[:, first + np.arange(outer.shape[1]) * layout.n_outputs + a, a] = outer
    return changes


def _times(values: Array, matrix: Array) -> Array:
    """Product of the last axis with a matrix, as one product and not one for each row."""
    product: Array = values.reshape(-1, matrix.shape[0]) @ matrix
    return product.reshape(*values.shape[:-1], matrix.shape[1])


@dataclass(frozen=True)
class ScoreRows(Sums):
    """Scores of blocks: J^T r, shape (n_blocks, size), and (d y^ / d gamma)^T r, (n_blocks, n)."""

    n_rows: float
    squares: float
    weights: Array = field(repr=False, metadata={"concatenate": True})
    others: Array = field(repr=False, metadata={"concatenate": True})


def score_rows(
    batch: Batch, model: Network, layout: Layout, alternatives: Alternatives, blocks: float
) -> ScoreRows:
    """Map of the pass for scores, by the adjoint.

    A block is a stretch of a segment, or so many segments where `blocks`, their number for each
    segment, is below 1. Time O(n_rows n_hidden (n_inputs + n_hidden + n / n_hidden)).
    """
    at = _linearised(batch, model, layout)
    residuals = at.residuals()
    delta = at.adjoint(residuals)
    # the adjoint of h itself, of which delta is f' times
    of_states = residuals @ model.output_weights.T
    if layout.recurrent:
        for part in layout.directions:
            follow = step_before if part.prefix == "backward_" else step_after
            U = model.recurrent_weights[part.units, part.units]
            of_states[:, part.units] += follow(batch, delta[:, part.units]) @ U
    starts = _block_starts(batch, blocks)
    scores = [
        _block_products(starts, delta[:, part.units], at.entering(part))
        for part in layout.directions
        if part.n_units
    ]
    scores.append(_block_products(starts, residuals, at.leaving()))
    powers = alternatives.powers_of(at) * of_states[:, None]
    parts = [np.add.reduceat(powers, starts).reshape(starts.shape[0], -1)]
    lagged = np.empty((starts.shape[0], alternatives.columns.shape[1], layout.n_hidden))
    for part in layout.directions:
        if part.n_units:
            before = alternatives.inputs_before(at, part)
            own = _block_products(starts, before, delta[:, part.units])
            lagged[:, :, part.units] = own.reshape(starts.shape[0], -1, part.n_units)
    parts.append(lagged.reshape(starts.shape[0], -1))
    parts.append(_block_products(starts, alternatives.at_outputs(at), residuals))
    squares = float(np.vdot(residuals, residuals))
    others = np.concatenate(parts, axis=1)
    return ScoreRows(float(batch.n_counted), squares, np.concatenate(scores, axis=1), others)


def _linearised(batch: Batch, model: Network, layout: Layout) -> Linearisation:
    """Linearisation on this machine's memory, wherever the batch is."""
    host = replace(batch, X=to_host(batch.X), Y=to_host(batch.targets))
    return Linearisation.of(host, model, layout)


def _is_counted(batch: Batch) -> np.ndarray:
    counted = np.zeros(batch.n_rows, dtype=bool)
    counted[batch.counted_rows] = True
    return counted


def _block_starts(batch: Batch, blocks: float) -> IntArray:
    """First row of each block; context belongs to the block beside it."""
    if blocks <= 1:
        return batch.starts[:: max(1, round(1 / blocks))]
    starts = []
    rows = zip(batch.starts, batch.before, batch.lengths - batch.before - batch.after, strict=True)
    for start, before, counted in rows:
        n_blocks = max(1, min(round(blocks), int(counted)))
        inner = before + np.arange(n_blocks) * counted // n_blocks
        inner[0] = 0
        starts.append(start + inner)
    return np.concatenate(starts)


def _block_products(starts: IntArray, left: Array, right: Array) -> Array:
    """Sum of left_t (x) right_t over each block, shape (n_blocks, n_left * n_right)."""
    n_blocks, n_rows = starts.shape[0], left.shape[0]
    if n_rows % n_blocks == 0 and (starts == np.arange(0, n_rows, n_rows // n_blocks)).all():
        length, width = n_rows // n_blocks, left.shape[1] * right.shape[1]
        stacked = left.reshape(n_blocks, length, left.shape[1]).swapaxes(1, 2)
        products: Array = stacked @ right.reshape(n_blocks, length, right.shape[1])
        return products.reshape(n_blocks, width)
    total = np.empty((n_blocks, left.shape[1], right.shape[1]))
    for i, (begin, end) in enumerate(pairwise([*starts.tolist(), n_rows])):
        total[i] = left[begin:end].T @ right[begin:end]
    return total.reshape(n_blocks, left.shape[1] * right.shape[1])
