r"""Is every hidden unit there? A Wald test of what each gives to the outputs.

A unit too many fits noise: of all directions of the inputs it takes the one that noise happens to
favour. With w_i the output weights of unit i and C_i their covariance,

.. math:: w_i^\top C_i^{-1} w_i \;\le\; \bigl(\sqrt{n_{out}} + \sqrt{l\, n_{in}} + 3\bigr)^2

then holds in all but about one case of a hundred: the bound of the largest rank-one term in noise
of variance one (:eq:`noise-ceiling`, :eq:`unit-test`), l the degree of the activation. The column
i of U, which says what the unit gives to the other ones, is judged alike. The covariance is the one
of the standard errors, or that of white noise where it says less: few sequences tell little of the
former, and heavy tails of the latter.

None of this sees two units too many that are nearly one and cancel each other: there the network
is not nearly linear in the weights, and both units look certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from gloree.diagnostics import AcceptanceWarning, Finding
from gloree.models import Network
from gloree.refinement import Layout, Solution, inverse_root
from gloree.sequences import Array, IntArray

MARGIN = 3.0
"""Noise exceeds the bound without this with a probability of exp(-9 / 2), 1.1 %, at most."""

ALIKE = 0.1
"""Distance of the input weights of two units, over their size, up to which they are nearly one; and
part of their output weights, at most, that is left of the sum of units that cancel each other."""

DEPENDENT = 1e-10
"""Directions of less than this part of the largest (correlation) variance are left out."""


@dataclass(frozen=True)
class UnitTests:
    """Wald statistics of each unit, and what noise alone would reach; all (n_hidden,).

    `outputs` are those of the output weights, `feedback` those of the columns of U (zero without a
    recurrence). `cancelling` are pairs of units that cancel each other.
    """

    outputs: Array
    feedback: Array
    output_limits: Array
    feedback_limits: Array
    cancelling: tuple[tuple[int, int], ...] = ()

    @property
    def doubtful(self) -> IntArray:
        """Units whose output weights noise could have made."""
        return np.flatnonzero(~(self.outputs > self.output_limits))

    def findings(self) -> tuple[Finding, ...]:
        """Warn of units that might be noise."""
        return (*self._noise(), *self._cancelled())

    def _cancelled(self) -> tuple[Finding, ...]:
        if not self.cancelling:
            return ()
        pairs = ", ".join(f"{i} and {j}" for i, j in self.cancelling)
        text = (
            f"hidden units {pairs} of {self.outputs.shape[0]} are nearly one and cancel each "
            f"other: small differences of large values gain from a few rows, may explode on new "
            f"data, and have larger errors than the standard errors say"
        )
        remedy = "lower `n_hidden` by 2 and compare, or give more data if the units are real"
        return (Finding(AcceptanceWarning, text, remedy),)

    def _noise(self) -> tuple[Finding, ...]:
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
        remedy = (
            "lower `n_hidden` by 1 and fit again (two units in the place of one both look like "
            "noise), or give more data if the units are real"
        )
        return (Finding(AcceptanceWarning, text, remedy),)


def judge_units(
    model: Network,
    layout: Layout,
    covariances: Sequence[Array],
    order: IntArray | None = None,
) -> UnitTests:
    """Test every unit by covariances of the weights, (size, size), in the order of `layout`.

    Of several the least statistic counts. `order` are the old units at each new place, where the
    units of the model that is reported stand in another order. O(n_hidden (n_outputs + n_hidden)^3)
    time.
    """
    index, weights = layout.indices, layout.weights(model)
    degree = model.activation.degree or 2
    shape = (layout.n_hidden,)
    outputs, feedback = np.zeros(shape), np.zeros(shape)
    output_limits, feedback_limits = np.zeros(shape), np.full(shape, np.inf)

    def least(places: IntArray, values: Array) -> float:
        return min(wald(values, matrix[np.ix_(places, places)]) for matrix in covariances)

    for part in layout.directions:
        name, n_inputs = f"{part.prefix}recurrent_weights", part.columns.shape[0]
        for own, unit in enumerate(range(part.units.start, part.units.stop)):
            outputs[unit] = least(index["output_weights"][unit], weights["output_weights"][unit])
            output_limits[unit] = noise_limit(layout.n_outputs, degree * n_inputs)
            if name in index:
                feedback[unit] = least(index[name][:, own], weights[name][:, own])
                feedback_limits[unit] = noise_limit(part.n_units, degree * n_inputs)
    order = np.arange(layout.n_hidden) if order is None else order
    place = np.argsort(order).tolist()
    pairs = [sorted((place[i], place[j])) for i, j in cancelling_units(model, layout)]
    return UnitTests(
        outputs[order],
        feedback[order],
        output_limits[order],
        feedback_limits[order],
        tuple((i, j) for i, j in sorted(pairs)),
    )


def cancelling_units(model: Network, layout: Layout) -> list[tuple[int, int]]:
    """Pairs of units with nearly equal rows a_i and nearly opposite output weights w_i.

    Rows of monomial units are equal up to a sign s, with which f(s z) = s^l f(z).
    """
    weights, found = layout.weights(model), []
    signs = (1.0, -1.0) if model.activation.is_monomial else (1.0,)
    w = weights["output_weights"]
    for part in layout.directions:
        a, first = weights[f"{part.prefix}input_weights"], part.units.start
        for (i, j), sign in product(combinations(range(part.n_units), 2), signs):
            left = w[first + i] + sign ** (model.activation.degree or 1) * w[first + j]
            near = np.linalg.norm(a[i] - sign * a[j]) < ALIKE * np.linalg.norm(a[i])
            if near and np.linalg.norm(left) < ALIKE * np.linalg.norm(w[first + i]):
                found.append((first + i, first + j))
    return found


def white_covariance(solution: Solution, layout: Layout) -> Array:
    """Covariance sigma^2 H^+ of the weights for white noise, H the J^T J of a refinement.

    The weights of output a have the noise of that output. O(size^3) time.
    """
    assert solution.hessian is not None
    assert solution.squares is not None
    root = inverse_root(solution.hessian.hessian, layout.scale_constraints(solution.model))
    variances = solution.squares / solution.n_rows
    scale = np.full(layout.size, np.sqrt(variances.mean()))
    if variances.all():
        places = layout.indices["output_weights"]
        scale[places] *= np.sqrt(variances / variances.mean())
    root = scale[:, None] * root
    return np.asarray(root @ root.T)


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
