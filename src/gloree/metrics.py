"""Errors of weights and predictions: the one home of "equal up to symmetry"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from gloree.models import IORNN, Network
from gloree.sequences import Array, IntArray, Sequences, as_sequences

__all__ = [
    "WEIGHTS",
    "Alignment",
    "align",
    "r2_score",
    "root_mean_square_error",
    "score_rows",
    "weight_errors",
]

WEIGHTS = IORNN.weight_names
"""Weight arrays of a network of one direction."""


@dataclass(frozen=True)
class Alignment:
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

    Units are determined up to a permutation (within a direction, for bidirectional networks); for
    f(z) = c z^l also up to a scale, and for even or odd f up to a sign. Scales are set by the
    canonical form (unit rows), signs and the permutation by an assignment that minimises the
    distance of the units' input and output weights.

    Parameters
    ----------
    model, truth : IORNN or BRNN
        Of the same class, shapes and activation.

    Returns
    -------
    Alignment

    Raises
    ------
    TypeError
        If one is no network, or they are not of the same class.
    ValueError
        If shapes, directions or activations differ.

    Notes
    -----
    Time O(n_hidden^3 + n_hidden^2 (n_columns + n_outputs)).
    """
    _require_comparable(model, truth)
    model, truth = model.canonical(), truth.canonical()
    n_hidden = model.n_hidden
    parity = model.activation.parity if model.activation.degree != 1 else None
    signs = (1.0,) if parity is None else (1.0, -1.0)
    output_scale = max(float(np.linalg.norm(truth.output_weights, axis=1).max()), 1e-300)
    costs = np.full((len(signs), n_hidden, n_hidden), np.inf)
    for i, sign in enumerate(signs):
        output_sign = sign if parity == "odd" else 1.0
        inputs = _distances(sign * model.input_weights, truth.input_weights)
        outputs = _distances(output_sign * model.output_weights, truth.output_weights)
        costs[i] = inputs + outputs / output_scale**2
    is_forward = np.arange(n_hidden) < truth.n_forward
    costs[:, is_forward[:, None] != is_forward] = np.inf
    chosen_sign = np.argmin(costs, axis=0)
    rows, columns = linear_sum_assignment(costs.min(axis=0))
    order = rows[np.argsort(columns)].astype(np.int64)
    scale = np.ones(n_hidden)
    scale[order] = np.array(signs)[chosen_sign[order, np.arange(n_hidden)]]
    aligned = model.rearranged(order, scale, scale if parity == "odd" else np.ones(n_hidden))
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
    for name in ("n_inputs", "n_hidden", "n_forward", "n_outputs", "activation", "lags"):
        mine, theirs = getattr(model, name), getattr(truth, name)
        if mine != theirs:
            raise ValueError(
                f"models of different `{name}` cannot be compared: {mine} and {theirs}"
            )


def _distances(rows: Array, others: Array) -> Array:
    difference = rows[:, None, :] - others[None, :, :]
    distances: Array = np.einsum("ijk,ijk->ij", difference, difference)
    return distances


def weight_errors(model: Network, truth: Network) -> dict[str, float]:
    """Relative errors |W^ - W| / |W| of all weights, modulo the symmetries.

    Parameters
    ----------
    model, truth : IORNN or BRNN
        Of the same class, shapes and activation.

    Returns
    -------
    dict of str to float
        Keys are the arrays that the constructor takes: ``input_weights``, ``recurrent_weights``,
        ``output_weights``, ``hidden_bias``, ``output_bias`` and, if either model has a direct
        path, ``direct_weights``; of bidirectional networks ``forward_input_weights``,
        ``forward_recurrent_weights``, ``backward_input_weights`` and
        ``backward_recurrent_weights`` in place of the first two. Where the truth is zero the error
        is the absolute norm.

    Raises
    ------
    TypeError, ValueError
        If the models cannot be compared, see `align`.

    Examples
    --------
    >>> from gloree import datasets, metrics
    >>> _, _, truth, _ = datasets.make_rnn(1, 5, 3, 2, 2, random_state=0)
    >>> flipped = truth.replace(input_weights=-truth.input_weights,
    ...                         recurrent_weights=-truth.recurrent_weights)
    >>> metrics.weight_errors(flipped, truth)["input_weights"]
    0.0
    """
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


def root_mean_square_error(
    Y: Any, predictions: Any, *, skip: int = 0, lengths: ArrayLike | None = None
) -> Array:
    """Root mean square of Y - predictions for each output.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form.
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    ndarray of shape (n_outputs,)

    Examples
    --------
    >>> from gloree.metrics import root_mean_square_error
    >>> root_mean_square_error([[1.0], [2.0]], [[1.0], [5.0]]).round(3)
    array([2.121])
    """
    difference, counted = _differences(Y, predictions, skip, lengths)
    rms: Array = np.sqrt(np.mean(difference[counted] ** 2, axis=0))
    return rms


def r2_score(Y: Any, predictions: Any, *, skip: int = 0, lengths: ArrayLike | None = None) -> float:
    """Coefficient of determination, averaged over outputs that vary.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form; arrays of two dimensions are one sequence, (n_steps, n_outputs).
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.

    Returns
    -------
    float
        1 is perfect, 0 is as good as the mean.

    Examples
    --------
    >>> from gloree.metrics import r2_score
    >>> r2_score([[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]])
    0.5
    """
    difference, counted = _differences(Y, predictions, skip, lengths)
    return _r2(_as_rows(Y, lengths)[0][counted], difference[counted])


def _r2(values: Array, difference: Array) -> float:
    residual = np.sum(difference**2, axis=0)
    total = np.sum((values - values.mean(axis=0)) ** 2, axis=0)
    varies = total > values.shape[0] * (1e-12 * np.abs(values).max(axis=0)) ** 2
    if not varies.any():
        raise ValueError("`Y` is constant: R^2 is not defined")
    return float(np.mean(1.0 - residual[varies] / total[varies]))


def score_rows(data: Sequences, predictions: Array, skip: int) -> float:
    """R^2 of predictions for the rows of `data` (used by the estimators)."""
    counted = _counted_rows(data.lengths, skip)
    values = np.asarray(data.Y, dtype=np.float64)
    if values.shape != predictions.shape:
        raise ValueError(
            f"`Y` has {values.shape[1]} columns, the model has n_outputs = {predictions.shape[1]}"
        )
    return _r2(values[counted], (values - predictions)[counted])


def _as_rows(values: Any, lengths: ArrayLike | None) -> tuple[Array, IntArray]:
    if np.ndim(values[0]) == 0:
        values = np.asarray(values)[:, None]
    elif isinstance(values, (list, tuple)) and np.ndim(values[0]) == 1:
        values = [np.asarray(part)[:, None] for part in values]
    data = as_sequences(values, lengths=lengths)
    return np.asarray(data.X, dtype=np.float64), data.lengths


def _differences(
    Y: Any, predictions: Any, skip: int, lengths: ArrayLike | None
) -> tuple[Array, IntArray]:
    truth, sizes = _as_rows(Y, lengths)
    estimate, own = _as_rows(predictions, lengths)
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has shape {truth.shape}, `predictions` {estimate.shape}")
    if not np.array_equal(sizes, own):
        raise ValueError(f"sequences of `Y` have {sizes} steps, those of `predictions` {own}")
    return truth - estimate, _counted_rows(sizes, skip)


def _counted_rows(sizes: IntArray, skip: int) -> IntArray:
    if isinstance(skip, bool) or not isinstance(skip, (int, np.integer)) or skip < 0:
        raise ValueError(f"`skip` must be an integer of at least 0, got {skip!r}")
    steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    counted = np.flatnonzero(steps >= skip)
    if counted.size == 0:
        raise ValueError(f"`skip`={skip} leaves no steps: the longest sequence has {sizes.max()}")
    return counted
