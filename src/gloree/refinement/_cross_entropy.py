"""Refinement of a labelling network: softmax cross-entropy by L-BFGS with exact gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy import optimize

from gloree._arrays import index, namespace
from gloree._sums import Sums
from gloree.engine import Engine, Selection, Subset
from gloree.models import ExplosionError, Network
from gloree.refinement._gauss_newton import RefinementStatus
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import backpropagate
from gloree.sequences import Array, Batch
from gloree.states import predict_rows, run_states

HELD_OUT = 10
"""Every so manieth segment is held out for early stopping."""

PATIENCE = 10
"""Iterations without a gain on the held-out segments after which the search ends."""

MEMORY = 20
"""Pairs of steps and gradient changes that L-BFGS keeps."""


@dataclass(frozen=True)
class CrossEntropySums(Sums):
    """Cross-entropy of the labels under the softmax of the outputs.

    Attributes
    ----------
    n_rows : float
    loss : float
        Sum of -log p(label).
    correct : float
        Steps whose label has the largest output.
    gradient : ndarray of shape (size,) or (0,)
        Of the loss; empty where it was not asked for.
    """

    n_rows: float
    loss: float
    correct: float
    gradient: Array = field(repr=False)


def cross_entropy_sums(
    batch: Batch, model: Network, layout: Layout | None = None
) -> CrossEntropySums:
    r"""Sums of one batch, with the gradient if there is a layout.

    With p the softmax of the outputs and e the indicator of the label,

    .. math:: -\nabla \sum_t \log p_{t, y_t} = -J^T (e - p)

    Parameters
    ----------
    batch : Batch
        Its targets are the numbers of the labels, shape (n_rows, 1).
    model : IORNN or BRNN
        Outputs are the logits of the labels.
    layout : Layout, optional

    Notes
    -----
    A forward and a backward pass, O(n_rows (n_hidden + n_outputs) (n_inputs + n_hidden)).
    """
    states = run_states(model, batch)
    logits = predict_rows(model, batch, states)
    counted = index(logits, batch.counted_rows)
    xp = namespace(logits)
    labels = xp.asarray(batch.targets[counted, 0], dtype=xp.int64)
    correct = float((xp.argmax(logits[counted], axis=1) == labels).sum())
    probabilities, log_total = softmax(logits)
    own = logits[counted, labels] - log_total[counted]
    loss = -float(own.sum())
    gradient = np.zeros(0)
    if layout is not None:
        signal = xp.zeros_like(probabilities)
        signal[counted] = -probabilities[counted]
        signal[counted, labels] += 1.0
        slopes = model.activation.derivative(states.z, 1)
        gradient = -backpropagate(batch, model, layout, states, slopes, signal)
    return CrossEntropySums(float(batch.n_counted), loss, correct, gradient)


def softmax(logits: Array) -> tuple[Array, Array]:
    """Probabilities, and the logarithm of what the exponentials sum to."""
    xp = namespace(logits)
    largest = xp.max(logits, axis=1)
    probabilities = xp.exp(logits - largest[:, None])
    total = probabilities.sum(axis=1)
    probabilities /= total[:, None]
    return probabilities, xp.log(total) + largest


@dataclass(frozen=True)
class LabelRefinement:
    """Outcome of `minimise_cross_entropy`.

    Attributes
    ----------
    model : IORNN or BRNN
        The best one on the held-out segments, the start included.
    status : RefinementStatus
    n_steps : int
        Iterations run.
    history : tuple of (float, float, float)
        After each iteration: cross-entropy a step on the training segments, the same and the
        accuracy on the held-out ones.
    """

    model: Network
    status: RefinementStatus
    n_steps: int
    history: tuple[tuple[float, float, float], ...]


def minimise_cross_entropy(
    model: Network,
    layout: Layout,
    engine: Engine,
    data: Selection,
    *,
    held_out: Selection | None = None,
    penalty: float = 1e-6,
    max_steps: int = 200,
    progress: Callable[[int, float, float], None] | None = None,
) -> LabelRefinement:
    """Minimise the cross-entropy of the labels from a start.

    L-BFGS on all free weights; the iterate of least cross-entropy on held-out segments is
    returned.

    Parameters
    ----------
    model : IORNN or BRNN
        The start; outputs are logits.
    layout : Layout
    engine : Engine
    data : Source or Subset
        Its outputs are the numbers of the labels.
    held_out : Source or Subset, optional
        What stops the search; by default a part of the data, split off by `split_held_out`. The
        start must not have been fitted to it, or it stops the search too early.
    penalty : float, default 1e-6
        Of the squared change of the weights, each in units of the root mean square of its kind,
        beside the cross-entropy of one step.
    max_steps : int, default 200
    progress : callable, optional
        Called with (iteration, held-out cross-entropy, held-out accuracy).

    Returns
    -------
    LabelRefinement

    Raises
    ------
    ValueError
        If there are too few segments to hold any out.

    Notes
    -----
    About one pass over the data for each iteration.
    """
    if held_out is None:
        data, held_out = split_held_out(data)
    judging = held_out
    scale = _scales(layout, model)
    start = model
    history: list[tuple[float, float, float]] = []
    outside = engine.run(partial(cross_entropy_sums, model=model), judging, label="held out")
    best, best_loss, best_at = model, outside.loss / outside.n_rows, 0
    status = RefinementStatus.CONVERGED

    def objective(change: Array) -> tuple[float, Array]:
        moved = layout.move(start, scale * change)
        try:
            sums = engine.run(
                partial(cross_entropy_sums, model=moved, layout=layout),
                data,
                label="cross-entropy",
            )
        except ExplosionError:
            return 1e3, np.zeros_like(change)
        last[0] = sums.loss / sums.n_rows
        value = sums.loss / sums.n_rows + penalty * float(change @ change)
        return value, scale * sums.gradient / sums.n_rows + 2.0 * penalty * change

    def judge(change: Array) -> None:
        nonlocal best, best_loss, best_at, status
        moved = layout.move(start, scale * change)
        sums = engine.run(partial(cross_entropy_sums, model=moved), judging, label="held out")
        loss, accuracy = sums.loss / sums.n_rows, sums.correct / sums.n_rows
        history.append((last[0], loss, accuracy))
        if progress is not None:
            progress(len(history), loss, accuracy)
        if loss < best_loss:
            best, best_loss, best_at = moved, loss, len(history)
        elif len(history) >= best_at + PATIENCE:
            status = RefinementStatus.HELD_OUT
            raise StopIteration

    last = [math.inf]
    found = optimize.minimize(
        objective,
        np.zeros(layout.size),
        jac=True,
        method="L-BFGS-B",
        callback=judge,
        options={"maxiter": max_steps, "maxcor": MEMORY, "maxfun": 4 * max_steps},
    )
    if status is not RefinementStatus.HELD_OUT and found.nit >= max_steps:
        status = RefinementStatus.STEP_LIMIT
    return LabelRefinement(best, status, len(history), tuple(history))


def _scales(layout: Layout, model: Network) -> Array:
    """Unit of each weight: the root mean square of those of its kind."""
    scale = np.ones(layout.size)
    weights = layout.weights(model)
    for name, places in layout.indices.items():
        if not places.size:
            continue
        size = float(np.sqrt(np.mean(weights[name] ** 2)))
        scale[places] = size if size > 0 else 0.1
    return scale


def split_held_out(selection: Selection) -> tuple[Subset, Subset]:
    """Batches without, and of, every tenth segment.

    Raises
    ------
    ValueError
        If there is only one segment.
    """
    whole = selection.as_subset()
    total = whole.n_visited
    if total < 2:
        raise ValueError(
            "one segment cannot be split into training and held-out data: give more sequences"
        )
    every = min(HELD_OUT, total)
    training, held_out, count = [], [], 0
    for segments in whole.batches:
        chosen = (count + np.arange(len(segments))) % every == every - 1
        count += len(segments)
        if not chosen.all():
            training.append(segments[~chosen])
        if chosen.any():
            held_out.append(segments[chosen])
    return Subset(whole.source, training), Subset(whole.source, held_out)
