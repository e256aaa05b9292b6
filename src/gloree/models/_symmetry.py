"""Symmetries of hidden units, and the representative that `canonical` picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gloree._brief import Brief
from gloree.activations import Activation
from gloree.sequences import Array, IntArray

if TYPE_CHECKING:
    from gloree.models._network import Network

N = TypeVar("N", bound="Network")


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
        if activation.homogeneity is not None:
            used = norms > 0.0
            scale[used] = 1.0 / norms[used]
            state_scale = scale**activation.homogeneity
        peak = np.argmax(np.abs(input_weights), axis=1)
        negative = input_weights[np.arange(n_hidden), peak] < 0.0
        if activation.parity is not None:
            scale[negative] *= -1.0
        if activation.parity == "odd":
            state_scale[negative] *= -1.0
    strength = np.linalg.norm(output_weights / state_scale[:, None], axis=1)
    if degree == 1 or activation.homogeneity is None:
        strength = strength * norms
    is_backward = np.arange(n_hidden) >= (n_hidden if n_forward is None else n_forward)
    order = np.lexsort((-strength, is_backward)).astype(np.int64)
    return CanonicalUnits(order, scale, state_scale)


def mirror_images(model: N, units: IntArray) -> N:
    """Network with some units in their mirror images, for f(2 z0 - z) = 2 f0 - f(z).

    A unit i whose drive becomes 2 z0 - z_i has the state 2 f0 - h_i (:eq:`mirror`)::

        a_i, U_ij -> -a_i, -U_ij;   U_ji, A2_i -> -U_ji, -A2_i   (j /= i; U_ii stays)
        b_i -> 2 z0 - b_i - 2 f0 U_ii;   b_j -> b_j + 2 f0 U_ji;   c -> c + 2 f0 A2_i

    Predictions stay the same but for the step before the first one, where the state is zero and not
    2 f0; all of them where f0 = 0. A ValueError where f has no such point.
    """
    centre = model.activation.centre
    if centre is None:
        raise ValueError(f"`model` has the activation {model.activation.name!r}, which is not odd")
    middle, height = centre
    signs = np.ones(model.n_hidden)
    signs[units] = -1.0
    turned = signs < 0
    bias = model.hidden_bias + 2 * height * model.recurrent_weights[:, turned].sum(axis=1)
    offset = 2 * height * model.output_weights[turned].sum(axis=0)
    return model.rearranged(np.arange(model.n_hidden), signs, signs).replace(
        hidden_bias=np.where(turned, 2 * middle - bias, bias),
        output_bias=model.output_bias + offset,
    )
