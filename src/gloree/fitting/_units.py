r"""Is every hidden unit there? A Wald test of what each gives to the outputs.

A unit too many fits noise: of all directions of the inputs it takes the one that noise happens to
favour. With w_i the output weights of unit i and C_i their covariance,

.. math:: w_i^\top C_i^{-1} w_i \;\le\; \bigl(\sqrt{n_{out}} + \sqrt{l\, n_{in}} + 3\bigr)^2

then holds in all but about one case of a hundred: the bound of the largest rank-one term in noise
of variance one (:eq:`noise-ceiling`, :eq:`unit-test`), l the degree of the activation. The column
i of U, which says what the unit gives to the other ones, is judged alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree.diagnostics import Finding, UnitWarning
from gloree.models import Network
from gloree.refinement import Layout
from gloree.sequences import Array, IntArray

MARGIN = 3.0
"""Noise exceeds the bound without this with a probability of exp(-9 / 2), 1.1 %, at most."""

DEPENDENT = 1e-10
"""Directions of less than this part of the largest (correlation) variance are left out."""


@dataclass(frozen=True)
class UnitTests:
    """Wald statistics of each unit, and what noise alone would reach; all (n_hidden,).

    `outputs` are those of the output weights, `feedback` those of the columns of U (zero without a
    recurrence).
    """

    outputs: Array
    feedback: Array
    output_limits: Array
    feedback_limits: Array

    @property
    def doubtful(self) -> IntArray:
        """Units whose output weights noise could have made."""
        return np.flatnonzero(~(self.outputs > self.output_limits))

    def findings(self) -> tuple[Finding, ...]:
        """Warn of units that might be noise."""
        doubtful = self.doubtful
        if doubtful.size == 0:
            return ()
        each = ", ".join(
            f"{i} ({self.outputs[i]:.3g}, noise up to {self.output_limits[i]:.3g})"
            for i in doubtful
        )
        text = (
            f"hidden unit(s) {each} of {self.outputs.shape[0]} cannot be told from noise: in "
            f"brackets the Wald statistic of the output weights"
        )
        loud = doubtful[self.feedback[doubtful] > self.feedback_limits[doubtful]]
        if loud.size:
            names = ", ".join(map(str, loud))
            text += (
                f"; unit(s) {names} act through the recurrence alone, gain from a few large "
                f"states, and may explode on new data"
            )
        remedy = f"lower `n_hidden` by {doubtful.size}, or give more data if the units are real"
        return (Finding(UnitWarning, text, remedy),)


def judge_units(
    model: Network, layout: Layout, covariance: Array, order: IntArray | None = None
) -> UnitTests:
    """Test every unit by the covariance of the weights, (size, size), in the order of `layout`.

    `order` are the old units at each new place, where the units of the model that is reported stand
    in another order. O(n_hidden (n_outputs + n_hidden)^3) time.
    """
    index, weights = layout.indices, layout.weights(model)
    degree = model.activation.degree or 2
    shape = (layout.n_hidden,)
    outputs, feedback = np.zeros(shape), np.zeros(shape)
    output_limits, feedback_limits = np.zeros(shape), np.full(shape, np.inf)
    for part in layout.directions:
        name, n_inputs = f"{part.prefix}recurrent_weights", part.columns.shape[0]
        for own, unit in enumerate(range(part.units.start, part.units.stop)):
            places, values = index["output_weights"][unit], weights["output_weights"][unit]
            outputs[unit] = wald(values, covariance[np.ix_(places, places)])
            output_limits[unit] = noise_limit(layout.n_outputs, degree * n_inputs)
            if name in index:
                places, values = index[name][:, own], weights[name][:, own]
                feedback[unit] = wald(values, covariance[np.ix_(places, places)])
                feedback_limits[unit] = noise_limit(part.n_units, degree * n_inputs)
    order = np.arange(layout.n_hidden) if order is None else order
    return UnitTests(outputs[order], feedback[order], output_limits[order], feedback_limits[order])


def noise_limit(n_values: int, n_directions: int) -> float:
    """Wald statistic of `n_values` weights that noise reaches, the best of many directions."""
    return float((np.sqrt(n_values) + np.sqrt(n_directions) + MARGIN) ** 2)


def wald(values: Array, covariance: Array) -> float:
    """Return w^T C^+ w, C scaled to unit diagonal for the inverse; infinite where C says nothing.

    Weights without any variance (an exact fit) are there if they are not zero.
    """
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    if not np.isfinite(covariance).all():
        return 0.0
    free = deviations > 0
    if not free.all():
        return np.inf if values[~free].any() else wald(values[free], covariance[free][:, free])
    ratios = values / deviations
    spread, axes = np.linalg.eigh(covariance / np.outer(deviations, deviations))
    kept = spread > DEPENDENT * max(spread.max(initial=0.0), 1.0)
    return float(np.sum((ratios @ axes[:, kept]) ** 2 / spread[kept]))
