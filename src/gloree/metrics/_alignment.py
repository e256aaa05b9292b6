"""Networks that are equal up to the symmetries of their units, and how far others are from that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from gloree._brief import Brief
from gloree.activations import Activation, PerUnit, Polynomial
from gloree.metrics._response import response_errors
from gloree.models import IORNN, Network, canonical_units, mirror_images
from gloree.sequences import Array, IntArray

WEIGHTS = IORNN.weight_names
"""Weight arrays of a network of one direction."""


@dataclass(frozen=True)
class Alignment(Brief):
    """A model brought as close to the truth as its symmetries allow.

    Attributes
    ----------
    model, truth : IORNN or BRNN
        Both in canonical scale; the units of `model` reordered and signed to match.
    order : ndarray of int of shape (n_hidden,)
        Unit of the canonical model that stands at each place.
    cosines : ndarray of shape (n_hidden,)
        Cosine between matched rows of the input weights.
    """

    model: Network
    truth: Network
    order: IntArray
    cosines: Array


def align(model: Network, truth: Network) -> Alignment:
    """Match the hidden units of two models.

    Units are determined up to a permutation among those of the same direction and activation, and
    each up to the symmetries of its own activation: for f(z) = c z^l a scale; for even f the sign
    of its row of A1, U and b; for odd f that sign together with the sign of its output weights
    and of its column of U; for f that is odd about another point (the sigmoid, cubics) its mirror
    image about that point, which differs by the state before the first step alone; for other
    parabolas the mirror image about their vertex. Rectifiers have a scale. Scales are set by the
    canonical form (unit rows), signs and the permutation by an assignment that minimises the
    distance of the units' input weights, biases and output weights.

    Parameters
    ----------
    model, truth : IORNN or BRNN
        Of the same class and shapes, with as many units of each activation in each direction.

    Returns
    -------
    Alignment

    Raises
    ------
    TypeError
        If one is no network, or they are not of the same class.
    ValueError
        If shapes, directions or activations differ; for linear networks, whose states are
        determined up to a similarity only (see `weight_errors`), and for two or more linear units
        in one direction beside others.

    Notes
    -----
    Time O(n_hidden^3 + n_hidden^2 (n_columns + n_outputs)).
    """
    _require_comparable(model, truth)
    _require_determined(truth)
    model, truth = _standard(model), _standard(truth)
    own, others = _kinds(model), _kinds(truth)
    flips = _flips(model)
    output_scale = max(float(np.linalg.norm(truth.output_weights, axis=1).max()), 1e-300)
    costs = np.full((2, model.n_hidden, model.n_hidden), np.inf)
    inputs = np.column_stack((model.input_weights, model.hidden_bias))
    targets = np.column_stack((truth.input_weights, truth.hidden_bias))
    if flips.moves_biases:
        # biases of an image depend on which other units are in theirs
        inputs, targets = model.input_weights, truth.input_weights
    for i, sign in enumerate((1.0, -1.0)):
        mirrored = inputs.copy() if sign > 0 else -inputs
        output_sign = np.ones(model.n_hidden)
        if sign < 0:
            if not flips.moves_biases:
                mirrored[:, -1] -= flips.shift
            output_sign = flips.output_sign
        distance = _distances(output_sign[:, None] * model.output_weights, truth.output_weights)
        costs[i] = _distances(mirrored, targets) + distance / output_scale**2
    costs[1, ~flips.allowed] = np.inf
    different = np.array([[mine != theirs for theirs in others] for mine in own])
    costs[:, different] = np.inf
    chosen = np.argmin(costs, axis=0)
    rows, columns = linear_sum_assignment(costs.min(axis=0))
    order = rows[np.argsort(columns)].astype(np.int64)
    flipped = np.zeros(model.n_hidden, dtype=bool)
    flipped[order] = chosen[order, np.arange(model.n_hidden)] == 1
    if model.activation.centre not in (None, (0.0, 0.0)):
        model, flipped = mirror_images(model, np.flatnonzero(flipped)), np.zeros_like(flipped)
    state_scale = np.where(flipped, flips.output_sign, 1.0)
    aligned = model.rearranged(order, np.where(flipped, -1.0, 1.0), state_scale)
    shift = np.where(flipped, flips.shift, 0.0)[order]
    aligned = aligned.replace(hidden_bias=aligned.hidden_bias - shift, activation=truth.activation)
    norms = np.linalg.norm(aligned.input_weights, axis=1) * np.linalg.norm(
        truth.input_weights, axis=1
    )
    products = np.einsum("ij,ij->i", aligned.input_weights, truth.input_weights)
    return Alignment(aligned, truth, order, products / np.where(norms > 0, norms, 1.0))


def _require_comparable(model: Network, truth: Network) -> None:
    for name, value in (("model", model), ("truth", truth)):
        if not isinstance(value, Network):
            raise TypeError(f"`{name}` is a {type(value).__name__}, expected an IORNN or a BRNN")
    if type(model) is not type(truth):
        raise TypeError(
            f"`model` is a {type(model).__name__} and `truth` a {type(truth).__name__}: networks "
            f"of one direction and of both cannot be compared by their weights, compare predictions"
        )
    for name in ("n_inputs", "n_hidden", "n_forward", "n_outputs", "lags"):
        mine, theirs = getattr(model, name), getattr(truth, name)
        if mine != theirs:
            raise ValueError(
                f"models of different `{name}` cannot be compared: {mine} and {theirs}"
            )
    if Counter(_kinds(model)) != Counter(_kinds(truth)):
        raise ValueError(
            f"models of different `activation` cannot be compared: {model.activation!r} and "
            f"{truth.activation!r}"
        )


def _units(network: Network) -> tuple[Activation, ...]:
    f = network.activation
    return f.units if isinstance(f, PerUnit) else (f,) * network.n_hidden


def _kinds(network: Network) -> list[tuple[bool, Activation]]:
    """Direction and activation of each unit."""
    return [(i < network.n_forward, f) for i, f in enumerate(_units(network))]


def _require_determined(network: Network) -> None:
    linear = Counter(forward for forward, f in _kinds(network) if f.degree == 1)
    if network.is_linear:
        raise ValueError(
            "the states of a linear network are determined up to a similarity only, so its units "
            "cannot be matched: `weight_errors` compares its response, and predictions can be "
            "compared"
        )
    if max(linear.values(), default=0) > 1:
        raise ValueError(
            f"`activation` has {max(linear.values())} linear units in one direction, which are "
            f"determined up to a similarity only, so they cannot be matched: compare predictions"
        )


def _standard(network: Network) -> Network:
    """Canonical form; scales of units of several kinds are set too, and their places are kept."""
    f = network.activation
    if not isinstance(f, PerUnit):
        return network.canonical()
    scale, state_scale = np.ones(network.n_hidden), np.ones(network.n_hidden)
    for kind in set(f.units):
        places = np.array([i for i, unit in enumerate(f.units) if unit == kind])
        rows = network.input_weights[places]
        if kind.degree == 1 and kind.is_monomial:
            norms = np.linalg.norm(rows, axis=1)
            scale[places] = state_scale[places] = 1.0 / np.where(norms > 0, norms, 1.0)
            continue
        found = canonical_units(rows, network.output_weights[places], kind)
        scale[places], state_scale[places] = found.scale, found.state_scale
    return network.rearranged(np.arange(network.n_hidden), scale, state_scale)


@dataclass(frozen=True)
class _Flips:
    """Mirror images z -> -z - shift of the units that have one, and the sign of h there.

    `moves_biases` says whether f is odd about another point than zero, as then its images do.
    """

    allowed: np.ndarray
    output_sign: Array
    shift: Array
    moves_biases: bool = False


def _flips(network: Network) -> _Flips:
    units, centre = _units(network), network.activation.centre
    if centre is not None and centre != (0.0, 0.0):
        every = np.ones(len(units), dtype=bool)
        return _Flips(every, -np.ones(len(units)), np.zeros(len(units)), moves_biases=True)
    allowed = np.array([f.parity is not None for f in units])
    output_sign = np.array([-1.0 if f.parity == "odd" else 1.0 for f in units])
    shift = np.zeros(len(units))
    for i, f in enumerate(units):
        if isinstance(f, Polynomial) and f.degree == 2 and f.parity is None:
            # f(-z - c1 / c2) = f(z)
            allowed[i], shift[i] = True, f.coefficients[1] / f.coefficients[2]
    return _Flips(allowed, output_sign, shift)


def _distances(rows: Array, others: Array) -> Array:
    difference = rows[:, None, :] - others[None, :, :]
    distances: Array = np.einsum("ijk,ijk->ij", difference, difference)
    return distances


def weight_errors(model: Network, truth: Network) -> dict[str, float]:
    """Relative errors |W^ - W| / |W| of all weights, modulo the symmetries.

    Parameters
    ----------
    model, truth : IORNN or BRNN
        Of the same class and shapes, with as many units of each activation in each direction.

    Returns
    -------
    dict of str to float
        Keys are the arrays that the constructor takes: ``input_weights``, ``recurrent_weights``,
        ``output_weights``, ``hidden_bias``, ``output_bias`` and, if either model has a direct
        path, ``direct_weights``; of bidirectional networks ``forward_input_weights``,
        ``forward_recurrent_weights``, ``backward_input_weights`` and
        ``backward_recurrent_weights`` in place of the first two. Where the truth is zero the error
        is the absolute norm.

        Of linear networks, whose weights are determined up to a similarity of the states, the keys
        are ``response``, the relative H2 norm of the difference of both (the root of the summed
        squares of the difference of all Markov parameters, over that of the truth), and
        ``offset``, that of the outputs at zero input.

    Raises
    ------
    TypeError, ValueError
        If the models cannot be compared, see `align`; for linear networks whose response does not
        end.

    Examples
    --------
    >>> from gloree import datasets, metrics
    >>> _, _, truth, _ = datasets.make_rnn(1, 5, 3, 2, 2, random_state=0)
    >>> flipped = truth.replace(input_weights=-truth.input_weights,
    ...                         recurrent_weights=-truth.recurrent_weights)
    >>> metrics.weight_errors(flipped, truth)["input_weights"]
    0.0
    """
    _require_comparable(model, truth)
    if truth.is_linear:
        return response_errors(model, truth)
    aligned = align(model, truth)
    targets = aligned.truth.arrays()
    errors = {}
    for name, estimate in aligned.model.arrays().items():
        target = targets[name]
        if estimate is None or target is None:
            present = target if estimate is None else estimate
            if present is None:
                continue
            # a path on one side counts in full
            estimate = np.zeros_like(present) if estimate is None else estimate
            target = np.zeros_like(present) if target is None else target
        size = float(np.linalg.norm(target))
        errors[name] = float(np.linalg.norm(estimate - target)) / (size if size > 0 else 1.0)
    return errors
