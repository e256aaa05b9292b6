"""Errors of weights and predictions: the one home of "equal up to symmetry"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from gloree.models import IORNN
from gloree.sequences import Array, IntArray, Sequences, as_sequences

WEIGHTS = (
    "input_weights",
    "recurrent_weights",
    "output_weights",
    "hidden_bias",
    "output_bias",
    "direct_weights",
)


@dataclass(frozen=True)
class Alignment:
    """A model brought as close to the truth as its symmetries allow.

    Attributes
    ----------
    model, truth : IORNN
        Both in canonical scale; the units of `model` reordered and signed to match.
    order : ndarray of int of shape (n_hidden,)
        Unit of the canonical model that stands at each place.
    cosines : ndarray of shape (n_hidden,)
        Cosine between matched rows of the input weights.
    """

    model: IORNN
    truth: IORNN
    order: IntArray
    cosines: Array


def align(model: IORNN, truth: IORNN) -> Alignment:
    """Match the hidden units of two models.

    Units are determined up to a permutation; for f(z) = c z^l also up to a scale, and for even or
    odd f up to a sign. Scales are set by the canonical form (unit rows), signs and the permutation
    by an assignment that minimises the distance of the units' input and output weights.

    Parameters
    ----------
    model, truth : IORNN
        Of the same shapes and activation.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        If shapes or activations differ.

    Notes
    -----
    Time O(n_hidden^3 + n_hidden^2 (n_inputs + n_outputs)).
    """
    for name, value in (("model", model), ("truth", truth)):
        if not isinstance(value, IORNN):
            raise TypeError(f"`{name}` is a {type(value).__name__}, expected an IORNN")
    for name in ("n_inputs", "n_hidden", "n_outputs", "activation", "lags"):
        mine, theirs = getattr(model, name), getattr(truth, name)
        if mine != theirs:
            raise ValueError(
                f"models of different `{name}` cannot be compared: {mine} and {theirs}"
            )
    model, truth = model.canonical(), truth.canonical()
    parity = model.activation.parity if model.activation.degree != 1 else None
    signs = (1.0,) if parity is None else (1.0, -1.0)
    output_scale = max(float(np.linalg.norm(truth.output_weights, axis=1).max()), 1e-300)
    costs = np.full((len(signs), model.n_hidden, model.n_hidden), np.inf)
    for i, sign in enumerate(signs):
        output_sign = sign if parity == "odd" else 1.0
        inputs = _distances(sign * model.input_weights, truth.input_weights)
        outputs = _distances(output_sign * model.output_weights, truth.output_weights)
        costs[i] = inputs + outputs / output_scale**2
    chosen_sign = np.argmin(costs, axis=0)
    rows, columns = linear_sum_assignment(costs.min(axis=0))
    order = rows[np.argsort(columns)].astype(np.int64)
    sign = np.array(signs)[chosen_sign[order, np.arange(model.n_hidden)]]
    aligned = _rearrange(model, order, sign, odd=parity == "odd")
    norms = np.linalg.norm(aligned.input_weights, axis=1) * np.linalg.norm(
        truth.input_weights, axis=1
    )
    products = np.einsum("ij,ij->i", aligned.input_weights, truth.input_weights)
    return Alignment(aligned, truth, order, products / np.where(norms > 0, norms, 1.0))


def _distances(rows: Array, others: Array) -> Array:
    difference = rows[:, None, :] - others[None, :, :]
    distances: Array = np.einsum("ijk,ijk->ij", difference, difference)
    return distances


def _rearrange(model: IORNN, order: IntArray, sign: Array, *, odd: bool) -> IORNN:
    """Reorder units and flip the signs of some; the function computed stays the same."""
    state_sign = sign if odd else np.ones_like(sign)
    return model.replace(
        input_weights=sign[:, None] * model.input_weights[order],
        hidden_bias=sign * model.hidden_bias[order],
        recurrent_weights=sign[:, None]
        * model.recurrent_weights[np.ix_(order, order)]
        * state_sign[None, :],
        output_weights=state_sign[:, None] * model.output_weights[order],
    )


def weight_errors(model: IORNN, truth: IORNN) -> dict[str, float]:
    """Relative errors |W^ - W| / |W| of all weights, modulo the symmetries.

    Parameters
    ----------
    model, truth : IORNN

    Returns
    -------
    dict of str to float
        Keys ``input_weights``, ``recurrent_weights``, ``output_weights``, ``hidden_bias``,
        ``output_bias`` and, if either model has a direct path, ``direct_weights``. Where the truth
        is zero the error is the absolute norm.

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
    errors = {}
    for name in WEIGHTS:
        estimate, target = getattr(aligned.model, name), getattr(aligned.truth, name)
        if estimate is None and target is None:
            continue
        estimate = np.zeros_like(target) if estimate is None else estimate
        target = np.zeros_like(estimate) if target is None else target
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
    """
    difference, counted = _differences(Y, predictions, skip, lengths)
    rms: Array = np.sqrt(np.mean(difference[counted] ** 2, axis=0))
    return rms


def r2_score(Y: Any, predictions: Any, *, skip: int = 0, lengths: ArrayLike | None = None) -> float:
    """Coefficient of determination, averaged over outputs that vary.

    Parameters and form as in `root_mean_square_error`; 1 is perfect, 0 is as good as the mean.
    Arrays of two dimensions are one sequence, (n_steps, n_outputs).
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
    steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    counted = np.flatnonzero(steps >= skip)
    if counted.size == 0:
        raise ValueError(f"`skip`={skip} leaves no steps: the longest sequence has {sizes.max()}")
    return counted
