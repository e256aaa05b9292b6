"""Which combinations of the weights of a network the derivatives along records determine."""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg

from gloree.models import IORNN
from gloree.refinement import Layout
from gloree.sequences import Array

UNSEEN = 1e-12
"""Share of the information below which a combination of weights is not determined at all."""


def free_weights(model: IORNN, layout: Layout) -> Array:
    """Which weights were fitted: not those of inputs that a dead time leaves out."""
    free = np.ones(layout.size, dtype=bool)
    if model.lags == 1:
        return free
    unused = ~np.any(model.input_weights != 0.0, axis=0)
    if model.direct_weights is not None:
        unused &= ~np.any(model.direct_weights != 0.0, axis=1)
        free[layout.indices["direct_weights"][unused]] = False
    free[layout.indices["input_weights"][:, unused]] = False
    return free


def coordinate_changes(model: IORNN, layout: Layout) -> Array:
    """Changes of weights that leave all outputs as they are, (n, n_weights), to first order.

    With states h' = (I + E) h + s of the linear units: A1 by E A1, U by E U - U E, A2 by -E^T A2,
    b by E b + (I - U) s, and c by -A2^T s.
    """
    L, n = model.linear_units, model.n_hidden
    A1, U, A2 = model.input_weights, model.recurrent_weights, model.output_weights
    rows = np.zeros((L.size * (L.size + 1), layout.size))
    places = layout.indices
    for number, (i, j) in enumerate((i, j) for i in L for j in L):
        E = np.zeros((n, n))
        E[i, j] = 1.0
        changes = {
            "input_weights": E @ A1,
            "recurrent_weights": E @ U - U @ E,
            "output_weights": -E.T @ A2,
            "hidden_bias": E @ model.hidden_bias,
        }
        for name, change in changes.items():
            rows[number, places[name]] = change
    for number, i in enumerate(L, start=L.size**2):
        s = np.zeros(n)
        s[i] = 1.0
        rows[number, places["hidden_bias"]] = s - U @ s
        rows[number, places["output_bias"]] = -A2[i]
    return rows


def identifiable(
    model: IORNN, layout: Layout, free: Array, jacobians: tuple[Array, ...], weights: Array
) -> tuple[Array, Array, Array]:
    """Combinations of the weights that data determine, the inverse of J^T W J in them, and others.

    The others are scaled by the least that their errors can be for noise of variance one.
    """
    H = sum(np.einsum("tap,a,taq->pq", J, weights, J, optimize=True) for J in jacobians)
    H = np.asarray(H)
    scale = np.sqrt(np.where(np.diag(H) > 0, np.diag(H), 1.0))
    fixed = coordinate_changes(model, layout)[:, free] * scale
    norms = np.linalg.norm(fixed, axis=1, keepdims=True)
    complement = linalg.null_space(fixed / np.where(norms > 0, norms, 1.0), rcond=1e-10)
    gram = complement.T @ (H / np.outer(scale, scale)) @ complement
    values, vectors = np.linalg.eigh(gram)
    least = UNSEEN * max(float(values.max(initial=0.0)), 1e-300)
    used, found = values > least, np.zeros((layout.size, values.size))
    found[free] = (complement @ vectors) / scale[:, None]
    return found[:, used], np.diag(1.0 / values[used]), found[:, ~used] / math.sqrt(least)
