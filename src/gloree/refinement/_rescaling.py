"""How small changes of the weights of a fit change those on inputs as they were given."""

from __future__ import annotations

import numpy as np

from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.sequences import Array


def on_uncentred_inputs(layout: Layout, centre: Array | None) -> Array:
    """Matrix (size, size) from changes in a fit on x - m to those of b - A1 m and c - D^T m."""
    matrix = np.eye(layout.size)
    if centre is None:
        return matrix
    index = layout.indices
    if layout.unit_bias:
        for part in layout.directions:
            rows = index[f"{part.prefix}input_weights"]
            for place, row in zip(index["hidden_bias"][part.units], rows, strict=True):
                matrix[place, row] = -centre[part.columns]
    if layout.direct and layout.bias:
        for place, row in zip(index["output_bias"], index["direct_weights"].T, strict=True):
            matrix[place, row] = -centre
    return matrix


def in_other_units(model: Network, layout: Layout, scale: Array) -> Array:
    r"""Matrix from changes of the weights fitted to scale * x to those for inputs x.

    Weights of inputs are multiplied by their scale. Where scales of units are free, the fit has
    kept the length of :math:`a_i` in its own units, and here lengths in the units of x are kept:
    with :math:`g_i = a_i \cdot da_i / |a_i|^2` and f(z) = c z^l,

    .. math:: da_i \mathrel{-}= g_i a_i, \quad db_i \mathrel{-}= g_i b_i, \quad
              dA_{2i} \mathrel{+}= l g_i A_{2i}, \quad
              dU_{ij} \mathrel{+}= (l g_j - g_i) U_{ij}.

    Parameters
    ----------
    model : Network
        In units of x.
    layout : Layout
    scale : ndarray of shape (n_columns,)

    Returns
    -------
    ndarray of shape (size, size)

    Notes
    -----
    Time O(n_hidden size^2).
    """
    factors = np.ones(layout.size)
    index = layout.indices
    for part in layout.directions:
        factors[index[f"{part.prefix}input_weights"]] = scale[part.columns]
    if layout.direct:
        factors[index["direct_weights"]] = scale[:, None]
    matrix = np.diag(factors)
    homogeneity = model.activation.homogeneity
    free = layout.scale_constraints(model).size > 0 and homogeneity is not None
    # lengths that are all changed by one factor are kept
    if free and not (scale == scale[0]).all():
        matrix -= _scale_directions(layout, model) @ (_lengths(layout, model) * factors)
    return matrix


def on_unmixed_outputs(layout: Layout, matrix: Array) -> Array:
    """Matrix (size, size) from changes in a fit of y~ to those in one of y = y~ B.

    Of B with shape (n_outputs, n_outputs): output a has the weights, offset and direct path
    sum_c B_ca times those of the outputs c of the fit.
    """
    found = np.eye(layout.size)
    first = layout.n_unit_parameters
    found[first:, first:] = np.kron(matrix.T, np.eye(layout.output_width))
    return found


def _lengths(layout: Layout, model: Network) -> Array:
    """Rows that take g_i from a change of the weights, shape (n_hidden, size)."""
    constraints = layout.scale_constraints(model)
    norms = np.linalg.norm(model.input_weights, axis=1)
    return constraints / np.where(norms > 0, norms, 1.0)[:, None]


def _scale_directions(layout: Layout, model: Network) -> Array:
    """Changes of the weights along which each unit is scaled, shape (size, n_hidden)."""
    degree, index = model.activation.homogeneity or 1, layout.indices
    along = np.zeros((layout.size, layout.n_hidden))
    for part in layout.directions:
        rows = index[f"{part.prefix}input_weights"]
        recurrent = index.get(f"{part.prefix}recurrent_weights")
        U = model.recurrent_weights[part.units, part.units]
        for i, unit in enumerate(range(part.units.start, part.units.stop)):
            along[rows[i], unit] = model.input_weights[unit, part.columns]
            if recurrent is not None:
                along[recurrent[i], unit] += U[i]
                along[recurrent[:, i], unit] -= degree * U[:, i]
            if layout.unit_bias:
                along[index["hidden_bias"][unit], unit] = model.hidden_bias[unit]
            along[index["output_weights"][unit], unit] = -degree * model.output_weights[unit]
    return along
