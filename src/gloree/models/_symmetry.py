"""Symmetries of hidden units, and the representative that `canonical` picks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._brief import Brief
from gloree.activations import Activation
from gloree.sequences import Array, IntArray


@dataclass(frozen=True)
class CanonicalUnits(Brief):
    """Change of the hidden units that leaves predictions as they are.

    Attributes
    ----------
    order : ndarray of int of shape (n_hidden,)
        Old unit at each new place.
    scale : ndarray of shape (n_hidden,)
        s_i: row i of A1, U and b is multiplied by it (before reordering).
    state_scale : ndarray of shape (n_hidden,)
        t_i = f(s_i z) / f(z), with which h_i changes: row i of A2 and column i of U are divided.
    """

    order: IntArray
    scale: Array
    state_scale: Array


def canonical_units(
    input_weights: Array,
    output_weights: Array,
    activation: Activation,
    n_forward: int | None = None,
) -> CanonicalUnits:
    """Find scales, signs and the order of the units (see `Network.canonical`).

    Parameters
    ----------
    input_weights : ndarray of shape (n_hidden, n_columns)
        A1, or the stack C of both directions.
    output_weights : ndarray of shape (n_hidden, n_outputs)
        A2.
    activation : Activation
    n_forward : int, optional
        Units of the forward direction, which stand first and stay first; all by default.

    Returns
    -------
    CanonicalUnits
    """
    n_hidden = input_weights.shape[0]
    if activation.n_units is not None:
        # units with different activations keep their places
        return CanonicalUnits(np.arange(n_hidden), np.ones(n_hidden), np.ones(n_hidden))
    scale = np.ones(n_hidden)
    state_scale = np.ones(n_hidden)
    norms = np.linalg.norm(input_weights, axis=1)
    degree = activation.degree
    if degree != 1:
        if activation.is_monomial and degree is not None:
            used = norms > 0.0
            scale[used] = 1.0 / norms[used]
            state_scale = scale**degree
        peak = np.argmax(np.abs(input_weights), axis=1)
        negative = input_weights[np.arange(n_hidden), peak] < 0.0
        if activation.parity is not None:
            scale[negative] *= -1.0
        if activation.parity == "odd":
            state_scale[negative] *= -1.0
    strength = np.linalg.norm(output_weights / state_scale[:, None], axis=1)
    if degree == 1 or not activation.is_monomial:
        strength = strength * norms
    is_backward = np.arange(n_hidden) >= (n_hidden if n_forward is None else n_forward)
    order = np.lexsort((-strength, is_backward)).astype(np.int64)
    return CanonicalUnits(order, scale, state_scale)
