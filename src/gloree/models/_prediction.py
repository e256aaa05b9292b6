"""Predictions for data kept anywhere: in memory at once, from other sources batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import to_host
from gloree._mapped import loaded
from gloree.engine import Engine, Mergeable, Source, get_engine
from gloree.models._forward import ExplosionError, multiply_rows
from gloree.models._recursion import BatchStates, Explosions, OnExplosion, run_recursions
from gloree.models._states import GivenStates, Start, in_form, past_inputs, read_states
from gloree.sequences import Array, Batch, Data, Sequences

if TYPE_CHECKING:
    from gloree.models._network import Network

Statistic = TypeVar("Statistic", bound=Mergeable)


class RowFunction(Protocol):
    """What is said of all rows of data in memory: `predict_rows`, or more columns."""

    def __call__(
        self,
        model: Network,
        data: Sequences,
        explosions: Explosions,
        start: Array | None = None,
        last: Array | None = None,
    ) -> Array:
        """Rows of shape (n_rows, n_columns)."""


def predict_rows(
    model: Network,
    data: Sequences,
    explosions: Explosions,
    start: Array | None = None,
    last: Array | None = None,
) -> Array:
    """Predictions for all rows of data in memory, of shape (n_rows, n_outputs).

    `start` are the states before the first rows, (n_sequences, n_state), zeros by default; into
    `last`, of this shape, go those after the last rows.
    """
    outputs = np.empty((data.n_rows, model.n_outputs))
    outputs[:] = model.output_bias
    cut = model.lags * model.n_inputs
    for batch in run_recursions(data, model.recursions, explosions, start):
        backward = batch.recursion.backward
        part = multiply_rows(batch.states, model.output_weights[batch.recursion.units])
        if model.direct_weights is not None:
            # the forward recursion sees the present too: the backward one adds only the future
            seen = slice(model.n_inputs, None) if backward else slice(None)
            direct = model.direct_weights[cut:] if backward else model.direct_weights[:cut]
            part += multiply_rows(batch.windows[:, seen], direct)
        outputs[batch.rows] += part
        if last is not None and not backward:
            note_ends(data, batch, last)
    if last is not None:
        last[:, model.n_forward :] = past_inputs(model, data, start)
    return outputs


def note_ends(data: Sequences, batch: BatchStates, last: Array) -> None:
    """Put hidden states at the last rows of sequences that end in a (forward) batch into `last`."""
    ends = data.starts[1:] - 1
    begin, end = np.searchsorted(ends, (batch.rows.start, batch.rows.stop))
    last[begin:end, batch.recursion.units] = batch.states[ends[begin:end] - batch.rows.start]


def predict_data(
    model: Network,
    data: Data,
    explosions: Explosions,
    *,
    engine: object = None,
    verbose: int = 0,
    convert: Callable[[Array], NDArray[np.generic]] = np.asarray,
    start: Start | None = None,
    return_state: bool = False,
    rows_of: RowFunction | None = None,
) -> Any:
    """Predictions for data kept anywhere, in the form of the data.

    Parameters
    ----------
    model, data : Network, Data
        Outputs that the data may hold are not used (but by `start`).
    explosions : Explosions
        What to do about states that run away, and a list of them in the end.
    engine : None, "threads", "serial", "dask", distributed.Client or Engine
        Where predictions for data in several parts are computed.
    verbose : int
    convert : callable
        What to make of the predictions of some rows, shape (n_rows, n_outputs): one value or one
        row for each.
    start : Start, optional
        Makes the states before the first rows; zeros by default. Where passes run elsewhere it
        goes along, so it has to be picklable.
    return_state : bool, default False
        Whether to return the states after the last rows too.
    rows_of : callable, optional
        In place of the predictions of data in memory, picklable; more columns, say.

    Returns
    -------
    predictions : ndarray or list of ndarray
        For `Sequences` in their own form. For data in several parts a list of arrays, one for
        each sequence, in the order of the data.
    state : ndarray of shape (n_sequences, n_state), or (n_state,) for a single sequence
        With `return_state`.
    """
    if isinstance(data, Sequences):
        data = data.on_host()
        check_columns(model, data)
        first = None if start is None else start(model, data, np.arange(data.n_sequences))
        last = np.empty((data.n_sequences, model.n_state)) if return_state else None
        rows = (rows_of or predict_rows)(model, data, explosions, first, last)
        made = data.restore(convert(rows))
        return made if last is None else (made, in_form(last, data))
    runner, source = _plan(model, data, engine, verbose)
    function = partial(
        _sequences_of_batch,
        model=model,
        on_explosion=explosions.on_explosion,
        convert=convert,
        start=start,
        rows_of=rows_of or predict_rows,
    )
    predictions, states = [], []
    for listed, found, ends in runner.collect(function, source):
        predictions += listed
        explosions.found.update(found)
        states.append(ends)
    return (predictions, np.concatenate(states)) if return_state else predictions


def start_at(
    model: Network, data: Data, state: object, *, engine: object = None, verbose: int = 0
) -> Start | None:
    """Start of runs from the `state` that a caller gave for the sequences of the data, if any.

    Raises as `read_states` does; data in several parts may have to be read once to count them.
    """
    if state is None:
        return None
    if not isinstance(data, Sequences):
        get_engine(engine, verbose=verbose, data=data).scan(data)
    return GivenStates(read_states(model, state, data.n_sequences))


def sum_predictions(
    function: Callable[[Array, Sequences], Statistic],
    model: Network,
    data: Data,
    *,
    engine: object = None,
    verbose: int = 0,
    start: Start | None = None,
) -> Statistic:
    """Statistic of predictions and of the data beside them, such as a sum of squared errors.

    `function` makes a mergeable statistic of predictions, (n_rows, n_outputs), and the sequences
    that they are for: of everything at once for `Sequences`, else batch by batch, a few of which
    are in memory at a time. The other arguments, and the errors, are those of `predict_data`.
    """
    if isinstance(data, Sequences):
        data = data.on_host()
        check_columns(model, data)
        # a file that was cut short may be named where it is read, and nowhere else
        data = data if data.Y is None else replace(data, Y=loaded(data.Y))
        first = None if start is None else start(model, data, np.arange(data.n_sequences))
        return function(predict_rows(model, data, Explosions(), first), data)
    runner, source = _plan(model, data, engine, verbose)
    # a score is no pass of a fit: it has no place in a checkpoint
    runner = replace(runner, checkpoint=None)
    function_of_batch = partial(_sum_of_batch, model=model, function=function, start=start)
    return runner.run(function_of_batch, source, label="score")


def check_columns(model: Network, data: Data) -> None:
    """Raise unless the data have the inputs of the model."""
    if data.n_inputs == model.n_inputs:
        return
    hint = ""
    if data.n_inputs == model.n_columns:
        hint = ": give plain inputs, the model builds the windows of its lags itself"
    raise ValueError(
        f"`X` has {data.n_inputs} columns, the model expects n_inputs = {model.n_inputs}{hint} "
        f"(X has {data.n_inputs} features, but {type(model).__name__} is expecting "
        f"{model.n_inputs} features as input)"
    )


def _plan(model: Network, data: Data, engine: object, verbose: int) -> tuple[Engine, Source]:
    """Engine, and batches of whole sequences."""
    runner = get_engine(engine, verbose=verbose, data=data)
    runner.scan(data)
    check_columns(model, data)
    rows = min(recursion.batch_rows(data.longest) for recursion in model.recursions)
    return runner, Source(data, rows)


def _of_batch(
    model: Network,
    batch: Batch,
    explosions: Explosions,
    start: Start | None,
    rows_of: RowFunction = predict_rows,
) -> tuple[Array, Sequences, Array]:
    """Predictions for a batch of whole sequences, the batch as data in memory, and last states."""
    outputs = None if batch.Y is None else to_host(batch.Y)
    data = Sequences(to_host(batch.X), outputs, batch.lengths, "list")
    last = np.empty((data.n_sequences, model.n_state))
    try:
        first = None if start is None else start(model, data, batch.sequence)
        return rows_of(model, data, explosions, first, last), data, last
    except ExplosionError as error:
        raise ExplosionError(int(batch.sequence[error.sequence]), error.step, error.size) from None


def _sequences_of_batch(
    batch: Batch,
    model: Network,
    on_explosion: OnExplosion,
    convert: Callable[[Array], NDArray[np.generic]],
    start: Start | None,
    rows_of: RowFunction,
) -> tuple[list[NDArray[np.generic]], dict[int, tuple[int, float]], Array]:
    explosions = Explosions(on_explosion)
    predictions, data, last = _of_batch(model, batch, explosions, start, rows_of)
    found = {int(batch.sequence[i]): first for i, first in explosions.found.items()}
    listed: list[NDArray[np.generic]] = data.restore(convert(predictions))
    return listed, found, last


def _sum_of_batch(
    batch: Batch,
    model: Network,
    function: Callable[[Array, Sequences], Statistic],
    start: Start | None,
) -> Statistic:
    predictions, data, _ = _of_batch(model, batch, Explosions(), start)
    return function(predictions, data)
