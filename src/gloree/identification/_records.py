"""Records: read in the forms that users give, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._frames import columns_of, is_column, is_frame, missing_places, with_columns
from gloree._mapped import loaded
from gloree.diagnostics import Finding, GloreeWarning, TooFewSamplesError
from gloree.identification._directions import LAG_WINDOW
from gloree.identification._problem import IdentificationSettings
from gloree.sequences import Sequences, as_sequences
from gloree.sources import as_data, in_memory, is_source

FEWEST_SAMPLES = 20  # records with fewer samples are refused
VALUES_PER_WEIGHT = 2  # outputs for each weight of a system of one state, at least
PLENTY, PLENTY_PER_INPUT = 60, 10  # samples below which linear models alone are fitted, and a word
MOST_CHANNELS = 20
"""An array with at most this many rows and far more columns is taken to be transposed."""


def read_records(
    u: object, y: object = None, *, lengths: ArrayLike | None = None, gaps: bool = False
) -> Sequences:
    """Gather one or several records, or a source, in memory; errors call them `u` and `y`.

    With `gaps`, outputs may be NaN or masked, and are NaN then; otherwise that is an error.
    """
    if is_source(u, y):
        with messages_of_u_and_y():
            records = in_memory(as_data(u, y, lengths=lengths))
        if records.Y is not None:
            return records
    if y is None:
        raise ValueError(
            "`y` is missing: an output record is needed (a fit requires y to be passed, but the "
            "target y is None)"
        )
    given = without_masks(y) if gaps else y
    inputs, outputs = read_inputs(u), read_inputs(given, "y")
    with messages_of_u_and_y():
        data = as_sequences(inputs, outputs, lengths=lengths, check_finite=False)
        _refuse_missing_inputs(data)
        assert data.Y is not None
        values = np.asarray(loaded(data.Y))
        missing = np.isnan(values) if gaps and values.dtype.kind == "f" else np.False_
        if missing.any():
            known = np.where(missing, 0.0, values)
            as_sequences(data.X, known, lengths=data.lengths)
        else:
            data = as_sequences(inputs, outputs, lengths=lengths)
    return replace(data, flat_outputs=_is_vector(y))


def _refuse_missing_inputs(data: Sequences) -> None:
    """Raise a ValueError that says what to do where an input is NaN."""
    values = np.asarray(loaded(data.X))
    if values.dtype.kind != "f" or not np.isnan(np.sum(values)):
        return
    places = np.argwhere(np.isnan(values))
    if not places.size:  # infinities, which are refused later
        return
    row, column = places[0].tolist()
    sequence = int(np.searchsorted(data.starts, row, side="right") - 1)
    raise ValueError(
        f"`u` holds nan at sequence {sequence}, step {row - int(data.starts[sequence])}, column "
        f"{repr(data.input_names[column]) if data.input_names else column} ({len(places)} in all): "
        f"the state cannot be followed without its input. Fill short gaps (by the value before, "
        f"or by interpolation), or cut the record there and give its parts as a list of records"
    )


def without_masks(y: object) -> object:
    """Masked entries, and cells that tables lack, as NaN."""
    if isinstance(y, (list, tuple)) and y and not np.isscalar(y[0]):
        return [without_masks(part) for part in y]
    if isinstance(y, np.ma.MaskedArray) and np.ma.is_masked(y):
        masked: Any = y.astype(np.float64)
        return masked.filled(np.nan)
    if is_column(y):
        return _filled_column(y) if missing_places(cast(Any, y)).size else y
    if is_frame(y) and any(missing_places(column).size for column in columns_of(y)):
        return np.column_stack([_filled_column(column) for column in columns_of(y)])
    return y


def _filled_column(column: object) -> NDArray[np.float64]:
    """One column of a table, with NaN where it has no value."""
    values = np.asarray(cast(Any, column).to_numpy(), dtype=object).copy()
    values[missing_places(cast(Any, column))] = np.nan
    return values.astype(np.float64)


def read_inputs(u: object, name: str = "u") -> object:
    """Turn tensors into arrays and vectors into columns; refuse arrays with channels first."""
    given = with_columns(u, name)
    for part in given if isinstance(given, list) else [given]:
        shape = np.shape(cast(ArrayLike, part))
        if len(shape) == 2 and shape[0] <= MOST_CHANNELS and shape[1] > 3 * MOST_CHANNELS:
            raise ValueError(
                f"`{name}` has shape {shape}: {shape[0]} samples of {shape[1]} channels? Samples "
                f"come first: transpose it"
            )
    return given


def _is_vector(y: object) -> bool:
    """Whether an output was given without its last axis."""
    first: Any = y[0] if isinstance(y, (list, tuple)) and y and not np.isscalar(y[0]) else y
    known = hasattr(first, "ndim") or not hasattr(first, "__array__")  # a tensor has it
    return np.ndim(first if known else np.asarray(first)) == 1


def messages_of_u_and_y(*, turned: bool = False) -> AbstractContextManager[None]:
    """Turn error messages about X and Y into messages about u and y, or back."""
    pairs = ("`X", "`u"), ("`Y", "`y")
    return _renamed(*((new, old) if turned else (old, new) for old, new in pairs))


def messages_of_y() -> AbstractContextManager[None]:
    """Turn error messages about X into messages about y, where outputs are read by themselves."""
    return _renamed(("`X", "`y"))


@contextmanager
def _renamed(*pairs: tuple[str, str]) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        text = str(error)
        for pair in pairs:
            text = text.replace(*pair)
        raise type(error)(text) from None


def check_records(
    data: Sequences, settings: IdentificationSettings, n_counted: int | None = None
) -> None:
    """Raise a TooFewSamplesError for records that are too short for the settings.

    Of all rows `n_counted` have outputs (None: all).
    """
    n_rows, p = data.n_rows if n_counted is None else n_counted, data.n_outputs
    weights = VALUES_PER_WEIGHT * weights_of_one_state(data)
    needed = max(FEWEST_SAMPLES, -(-weights // p))
    if n_rows < needed:
        raise TooFewSamplesError(
            f"{n_rows} samples are too few to identify a system of {data.n_inputs} input(s): "
            f"at least {needed} are needed, and some thousand for a nonlinear one"
        )
    wanted, longest = settings.n_linear or 0, int(data.lengths.max())
    if wanted and n_rows * data.n_outputs < 5 * wanted * (data.n_inputs + data.n_outputs):
        raise TooFewSamplesError(
            f"{n_rows} samples are too few for `n_linear`={wanted}: give more data, or lower it"
        )
    units = settings.n_nonlinear or 0
    # at least: those of the linear states not counted
    unknowns = units * (units + (settings.n_linear or 1) + data.n_inputs + data.n_outputs + 1)
    if n_rows * data.n_outputs < unknowns:
        raise TooFewSamplesError(
            f"{n_rows} samples of {data.n_outputs} output(s) are too few for "
            f"`n_nonlinear`={units}, with {unknowns} unknown weights: give more data, or lower it"
        )
    if settings.n_nonlinear and longest < LAG_WINDOW:
        raise TooFewSamplesError(
            f"the longest record has {longest} samples, and the nonlinear part is found from "
            f"moments over {LAG_WINDOW} neighbouring samples: give one record of that length at "
            f"least, set n_nonlinear=0 for a linear model, or fit many short sequences with "
            f"SpectralRNNRegressor"
        )


def weights_of_one_state(data: Sequences) -> int:
    """Weights of a linear system of one state, with its state at the start."""
    d, p = data.n_inputs, data.n_outputs
    return (1 + d + p) + (d + 1) * p


def suited_to(
    data: Sequences, settings: IdentificationSettings, n_counted: int
) -> tuple[IdentificationSettings, tuple[Finding, ...]]:
    """Settings of a linear model alone where records are too short for more, and what to say.

    Only where the number of units is left to the data. Of all rows `n_counted` have outputs.
    """
    longest, plenty = int(data.lengths.max()), max(PLENTY, PLENTY_PER_INPUT * data.n_inputs)
    if n_counted < plenty:
        text = (
            f"{n_counted} samples are few for {data.n_inputs} input(s) and {data.n_outputs} "
            f"output(s): a system of one state has {weights_of_one_state(data)} unknowns, and what "
            f"held-out rows say of so few is uncertain itself"
        )
        remedy = (
            f"give {plenty} samples at least; look at `prediction_intervals` and the bands of "
            f"responses, which tell what these leave open, and leave out inputs that matter little"
        )
    elif settings.n_nonlinear is None and longest < LAG_WINDOW:
        text = (
            f"the longest record has {longest} samples, and nonlinear units are found from moments "
            f"over {LAG_WINDOW} neighbouring ones: a linear model was fitted"
        )
        remedy = (
            f"give one record of {LAG_WINDOW} samples, fit many short sequences with "
            f"SpectralRNNRegressor, or set n_nonlinear=0 if linear is meant"
        )
    else:
        return settings, ()
    if settings.n_nonlinear is None:
        settings = replace(settings, n_nonlinear=0)
    return settings, (Finding(GloreeWarning, text, remedy),)
