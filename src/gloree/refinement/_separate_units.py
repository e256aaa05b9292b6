r"""J^T J where no unit depends on another: before there is a recurrence, and of fits without one.

With :math:`b_t = (f'(z_{ti})\,(x_t, h_{t-1}, 1))_i` and a metric G of the outputs, the block of the
weights that enter units i and j is :math:`(A_2 G A_2^T)_{ij} \sum_t b_{ti} b_{tj}^T`: one product
in place of one for each output.
"""

from __future__ import annotations

import numpy as np

from gloree._arrays import beside, index, take_rows, to_host, zeros
from gloree.refinement._linearisation import Linearisation
from gloree.sequences import Array, IntArray

ROWS_AT_ONCE = 512
"""Rows of b that are multiplied at once."""


def units_are_separate(at: Linearisation) -> bool:
    """Whether a unit's weights act on its own states alone, and each enters by its slope."""
    recurrent = at.layout.recurrent and bool(at.model.recurrent_weights.any())
    return not recurrent and not at.layout.free_coefficients


def separate_sums(
    at: Linearisation, roots: Array, regressors: Array, metric: Array, counted: IntArray
) -> tuple[Array, Array]:
    """Blocks of J^T G J: of the weights of units, (p, p), and beside outputs, (p, n_outputs, m).

    Rows count the squares of their `roots`, (n_rows, 1), which `regressors`, (n_rows, m), have
    already. Time O(n_rows n_hidden^2 (n_inputs + n_hidden)^2).
    """
    parts = [part for part in at.layout.directions if part.n_units]
    entering = [at.entering(part) * roots for part in parts]
    width = at.layout.n_unit_parameters
    units = zeros(at.slopes, (width, width))
    mixed = zeros(at.slopes, (width, regressors.shape[1]))
    for begin in range(0, counted.shape[0], ROWS_AT_ONCE):
        rows = index(at.slopes, counted[begin : begin + ROWS_AT_ONCE])
        slopes = take_rows(at.slopes, rows)
        columns = [
            slopes[:, part.units, None] * take_rows(own, rows)[:, None, :]
            for part, own in zip(parts, entering, strict=True)
        ]
        joined = beside([each.reshape(rows.shape[0], -1) for each in columns])
        units += joined.T @ joined
        mixed += joined.T @ take_rows(regressors, rows)
    owners = np.concatenate(
        [np.repeat(np.arange(part.units.start, part.units.stop), part.width) for part in parts]
    )
    loadings = at.model.output_weights @ metric
    between = loadings @ at.model.output_weights.T
    coupling = to_host(mixed)[:, None, :] * loadings[owners][:, :, None]
    return np.asarray(to_host(units) * between[np.ix_(owners, owners)]), np.asarray(coupling)
