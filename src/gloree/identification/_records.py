"""Records as users give them: with or without channels, one or several, from arrays or a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gloree._arrays import without_tensors
from gloree.diagnostics import Finding, GloreeWarning, TooFewSamplesError
from gloree.identification._lag_tensors import LAG_WINDOW
from gloree.identification._problem import IdentificationSettings
from gloree.sequences import Sequences, as_sequences
from gloree.sources import as_data, in_memory, is_source

FEWEST_SAMPLES = 60
"""Samples below which no record says anything about a system."""

MOST_CHANNELS = 20
"""A record with at most so many rows and more columns than rows is taken to lie on its side."""

FEWEST_OF_A_MEAN = 5
"""Samples of a mean and a spread that are compared for drift, at least."""

DRIFT = 3.0
"""Distance of the means of the first and the last fifth of an output, in units of the standard
deviation within them, from which it is said to drift."""


def read_records(u: Any, y: Any = None, lengths: ArrayLike | None = None) -> Sequences:
    """Inputs and outputs of one or several records, or a source of both, in memory.

    Raises
    ------
    ValueError, TypeError
        If they are not usable; messages speak of `u` and `y`.
    """
    if is_source(u, y):
        with messages_of_u_and_y():
            records = in_memory(as_data(u, y, lengths=lengths))
        if records.Y is not None:
            return records
    if y is None:
        raise ValueError("`y` is missing: an output record is needed")
    for name, values in (("u", u), ("y", y)):
        _check_orientation(name, values)
    listed = isinstance(y, (list, tuple)) and len(y) > 0 and np.ndim(y[0]) > 0
    flat = bool(np.ndim(y[0] if listed else y) == 1)
    with messages_of_u_and_y():
        data = as_sequences(_with_channels(u), _with_channels(y), lengths=lengths)
    return Sequences(data.X, data.Y, data.lengths, data.form, flat)


def read_inputs(u: Any) -> Any:
    """Inputs of one or several records, with channels, in the form in which they were given.

    Raises
    ------
    ValueError
        If channels come first.
    """
    _check_orientation("u", u)
    return _with_channels(u)


@contextmanager
def messages_of_u_and_y() -> Iterator[None]:
    """Let messages about X and Y speak of u and y."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        text = str(error).replace("`X", "`u").replace("`Y", "`y")
        raise type(error)(text) from None


def check_records(data: Sequences, settings: IdentificationSettings) -> None:
    """Refuse records that are too short for what is asked for.

    Raises
    ------
    TooFewSamplesError
        If they are.
    """
    needed = max(FEWEST_SAMPLES, 20 * data.n_inputs)
    if data.n_rows < needed:
        raise TooFewSamplesError(
            f"{data.n_rows} samples are too few to identify a system of {data.n_inputs} inputs: "
            f"at least {needed} are needed, and some thousand for a nonlinear one"
        )
    wanted, longest = settings.n_linear or 0, int(data.lengths.max())
    if wanted and data.n_rows < 5 * wanted * (data.n_inputs + data.n_outputs):
        raise TooFewSamplesError(
            f"{data.n_rows} samples are too few for `n_linear`={wanted}: give more data, or lower "
            f"it"
        )
    if settings.n_nonlinear != 0 and longest < LAG_WINDOW:
        raise TooFewSamplesError(
            f"the longest record has {longest} samples, and the nonlinear part is found from "
            f"moments over {LAG_WINDOW} neighbouring samples: give one record of that length at "
            f"least, set n_nonlinear=0 for a linear model, or fit many short sequences with "
            f"SpectralRNNRegressor"
        )


def find_drift(data: Sequences) -> tuple[Finding, ...]:
    """First output whose mean moves along the longest record, if that can be told."""
    longest = int(np.argmax(data.lengths))
    assert data.Y is not None
    y = np.asarray(data.Y[data.starts[longest] : data.starts[longest + 1]], dtype=np.float64)
    fifth = y.shape[0] // 5
    if fifth < FEWEST_OF_A_MEAN:
        return ()
    first, last = y[:fifth], y[-fifth:]
    spread = np.sqrt((first.var(axis=0) + last.var(axis=0)) / 2)
    moved = np.abs(last.mean(axis=0) - first.mean(axis=0)) > DRIFT * spread
    if not moved.any():
        return ()
    finding = Finding(
        GloreeWarning,
        f"output {np.flatnonzero(moved)[0]} drifts over the record",
        "detrend it if that is not the doing of the input, or the model will explain it by a very "
        "slow pole",
    )
    return (finding,)


def _with_channels(values: Any) -> Any:
    """Records of one channel given as vectors, as columns; tensors as arrays."""
    values = without_tensors(values)
    if isinstance(values, (list, tuple)) and len(values) and np.ndim(values[0]) == 1:
        return [np.asarray(part)[:, None] for part in values]
    return np.asarray(values)[:, None] if np.ndim(values) == 1 else values


def _check_orientation(name: str, values: Any) -> None:
    """Refuse records with channels first."""
    parts = values if isinstance(values, (list, tuple)) else [values]
    for part in parts:
        shape = np.shape(part)
        if len(shape) == 2 and shape[0] <= MOST_CHANNELS and shape[1] > 3 * MOST_CHANNELS:
            raise ValueError(
                f"`{name}` has shape {shape}: {shape[0]} samples of {shape[1]} channels? Samples "
                f"come first: transpose it"
            )
