"""The step of the output weights alone, in which predictions are linear (variable projection)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import column_squares, take_rows, to_host
from gloree._sums import Sums
from gloree.models import Network
from gloree.refinement._damping import damped_step
from gloree.refinement._layout import Layout
from gloree.refinement._linearisation import what_leaves
from gloree.refinement._sensitivities import SquareSums
from gloree.sequences import Array, Batch
from gloree.states import residual_rows, run_states

LOST = 1e-8
"""Part of the squared error that a step of the output weights leaves, below which it is measured:
as a difference of sums it has lost half of its digits."""


@dataclass(frozen=True)
class OutputSums(SquareSums):
    """Squared errors, and what tells those after a change of the output weights.

    With phi_t = (h_t, 1, x_t) what enters an output: `gram` is sum phi phi^T, (width, width), and
    `cross` is sum phi r^T, (width, n_outputs).
    """

    gram: Array = field(repr=False)
    cross: Array = field(repr=False)

    @np.errstate(over="ignore", invalid="ignore")
    def after(self, change: Array) -> SquareSums:
        r"""Squared errors after a `change` of the weights, (n_outputs, width).

        .. math:: \sum_t (r_{ta} - c_a \cdot \phi_t)^2
            = \sum_t r_{ta}^2 - 2 c_a \cdot \sum_t \phi_t r_{ta} + c_a^T \sum_t \phi_t \phi_t^T c_a
        """
        less = np.sum(change * (2.0 * self.cross.T - change @ self.gram), axis=1)
        # below zero by rounding, where nothing is left
        return SquareSums(self.n_rows, np.maximum(self.squares - less, 0.0))


@dataclass(frozen=True)
class TwoOutputSums(Sums):
    """`OutputSums` of the rows that count, and of others if they are asked for, of one pass."""

    own: OutputSums = field(metadata={"nested": True})
    other: OutputSums | None = field(metadata={"nested": True})


def output_sums(
    batch: Batch, model: Network, layout: Layout, other: NDArray[np.bool_] | None = None
) -> TwoOutputSums:
    """Sums of one batch, and of those of its rows that are among `other` rows of the data.

    A forward pass, and O(n_rows width (width + n_outputs)).
    """
    states = run_states(model, batch)
    residuals, phi = residual_rows(model, batch, states), what_leaves(batch, layout, states)

    def of(rows: Batch) -> OutputSums:
        left, entering = take_rows(residuals, rows.counted), take_rows(phi, rows.counted)
        squares, gram, cross = (
            to_host(each)
            for each in (column_squares(left), entering.T @ entering, entering.T @ left)
        )
        return OutputSums(float(rows.n_counted), squares, gram, cross)

    others = None if other is None else of(replace(batch, mask=other[batch.data_rows]))
    return TwoOutputSums(of(batch), others)


def output_step(sums: OutputSums, scale: Array, damping: float) -> Array:
    """Damped step of the weights of every output by itself, (n_outputs, output_width).

    `scale`, of the same shape, is what the damping multiplies, per row; weights where it is zero
    stay. No step where the sums are not finite.
    """
    change = np.zeros_like(scale)
    if np.isfinite(sums.gram).all() and np.isfinite(sums.cross).all():
        H, g = sums.gram / sums.n_rows, sums.cross.T / sums.n_rows
        for own, part, size in zip(change, g, scale, strict=True):
            free = np.flatnonzero(size)
            own[free] = damped_step(H[np.ix_(free, free)], part[free], size[free], damping)
    return change


def with_outputs(layout: Layout, model: Network, change: Array) -> Network:
    """A model after a step of its output weights, (n_outputs, output_width)."""
    step = np.zeros(layout.size)
    step[layout.n_unit_parameters :] = change.ravel()
    return layout.move(model, step)


def with_best_outputs(
    model: Network,
    sums: TwoOutputSums,
    layout: Layout,
    scale: Array,
    damping: float,
    measure: Callable[[Network], TwoOutputSums | None],
    admit: Callable[[Network], Network] | None = None,
) -> tuple[Network, SquareSums, SquareSums | None]:
    """A model after the damped step of its output weights, if admissible, and if the error falls.

    With its squared errors on the rows of `sums`. `measure` makes the sums of a model in a pass,
    and is asked where a difference of sums could be rounding: of states that have gone astray,
    small weights of huge states would seem to explain everything. `scale` is of all weights.
    """
    change = output_step(sums.own, layout.split(scale)[2], damping)
    solved, nothing = with_outputs(layout, model, change), np.zeros_like(change)
    known: TwoOutputSums | None = sums
    if sums.own.after(change).mean < LOST * sums.own.mean:
        known, change = measure(solved), nothing
    after = None if known is None else known.own.after(change)
    worse = after is None or not after.mean <= sums.own.mean
    if known is None or worse or (admit and admit(solved) is not solved):
        solved, known, change = model, sums, nothing
    others = None if known.other is None else known.other.after(change)
    return solved, known.own.after(change), others
