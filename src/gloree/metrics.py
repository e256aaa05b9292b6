"""Errors of weights and predictions: the one home of "equal up to symmetry"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from gloree._frames import with_columns
from gloree._mapped import loaded
from gloree._sums import Sums
from gloree.models import IORNN, Network, sum_predictions
from gloree.sequences import Array, Data, IntArray, Sequences, as_sequences

__all__ = [
    "WEIGHTS",
    "Alignment",
    "SquaredErrors",
    "align",
    "r2_score",
    "root_mean_square_error",
    "score_model",
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
    Y: object, predictions: object, *, skip: int = 0, lengths: ArrayLike | None = None
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


def r2_score(
    Y: object, predictions: object, *, skip: int = 0, lengths: ArrayLike | None = None
) -> float:
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
    return SquaredErrors.of(_as_rows(Y, lengths, "Y")[0][counted], difference[counted]).r2()


@dataclass(frozen=True)
class SquaredErrors(Sums):
    """What R^2 is made of, for each output.

    Attributes
    ----------
    n_rows : float
    mean, spread, largest : ndarray of shape (n_outputs,)
        Mean of the outputs, sum of their squares about it, and the largest magnitude.
    residual : ndarray of shape (n_outputs,)
        Sum of the squares of the errors.
    """

    n_rows: float
    mean: Array
    spread: Array
    residual: Array
    largest: Array

    @classmethod
    def of(cls, values: Array, errors: Array) -> SquaredErrors:
        """Sums of some rows, of shape (n_rows, n_outputs)."""
        n_rows = values.shape[0]
        mean = values.mean(axis=0) if n_rows else np.zeros(values.shape[1])
        return cls(
            float(n_rows),
            mean,
            np.sum((values - mean) ** 2, axis=0),
            np.sum(errors**2, axis=0),
            np.abs(values).max(axis=0, initial=0.0),
        )

    def merge(self, other: object) -> SquaredErrors:
        """Return the sums of both: squares about the joint mean, so that nothing cancels."""
        both = super().merge(other)
        assert isinstance(other, SquaredErrors)
        share = other.n_rows / max(both.n_rows, 1.0)
        moved = other.mean - self.mean
        return replace(
            both,
            mean=self.mean + moved * share,
            spread=both.spread + moved**2 * self.n_rows * share,
            largest=np.maximum(self.largest, other.largest),
        )

    def r2(self) -> float:
        """R^2, averaged over the outputs that vary."""
        varies = self.spread > self.n_rows * (1e-12 * self.largest) ** 2
        if not varies.any():
            raise ValueError("`Y` is constant: R^2 is not defined")
        return float(np.mean(1.0 - self.residual[varies] / self.spread[varies]))


def score_model(
    model: Network, data: Data, *, skip: int = 0, engine: object = None, verbose: int = 0
) -> float:
    """R^2 of the predictions of a network for data kept anywhere, in sums over batches.

    `skip` steps at the start of every sequence are left out; `engine` and `verbose` are those of
    `gloree.models.predict_data`, which also lists the errors.
    """
    _check_skip(skip, data.longest)
    if data.n_outputs == 0:
        raise ValueError("`Y` is missing: score needs outputs")
    if data.n_outputs != model.n_outputs:
        raise ValueError(
            f"`Y` has {data.n_outputs} columns, the model has n_outputs = {model.n_outputs}"
        )
    function = partial(_squared_errors, skip=skip)
    return sum_predictions(function, model, data, engine=engine, verbose=verbose).r2()


def _squared_errors(predictions: Array, data: Sequences, skip: int) -> SquaredErrors:
    counted = _counted_rows(data.lengths, skip)
    values = np.asarray(data.Y, dtype=np.float64)
    return SquaredErrors.of(values[counted], (values - predictions)[counted])


def _as_rows(given: object, lengths: ArrayLike | None, name: str) -> tuple[Array, IntArray]:
    data = as_sequences(with_columns(given, name), lengths=lengths)
    return np.asarray(loaded(data.X), dtype=np.float64), data.lengths


def _differences(
    Y: object, predictions: object, skip: int, lengths: ArrayLike | None
) -> tuple[Array, IntArray]:
    truth, sizes = _as_rows(Y, lengths, "Y")
    estimate, own = _as_rows(predictions, lengths, "predictions")
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has shape {truth.shape}, `predictions` {estimate.shape}")
    if not np.array_equal(sizes, own):
        raise ValueError(f"sequences of `Y` have {sizes} steps, those of `predictions` {own}")
    _check_skip(skip, int(sizes.max()))
    return truth - estimate, _counted_rows(sizes, skip)


def _check_skip(skip: int, longest: int) -> None:
    if isinstance(skip, bool) or not isinstance(skip, (int, np.integer)) or skip < 0:
        raise ValueError(f"`skip` must be an integer of at least 0, got {skip!r}")
    if skip >= longest:
        raise ValueError(f"`skip`={skip} leaves no steps: the longest sequence has {longest}")


def _counted_rows(sizes: IntArray, skip: int) -> IntArray:
    steps = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.flatnonzero(steps >= skip)
