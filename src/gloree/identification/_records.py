"""Records: read in the forms that users give, checked, and cut into segments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from gloree._frames import with_columns
from gloree.diagnostics import Finding, GloreeWarning, TooFewSamplesError
from gloree.engine import Source, Subset
from gloree.identification._directions import LAG_WINDOW
from gloree.identification._problem import IdentificationSettings, longest_record
from gloree.sequences import Segments, Sequences, as_sequences
from gloree.sources import as_data, in_memory, is_source

FEWEST_SAMPLES = 60  # records with fewer samples are refused
MOST_CHANNELS = 20
"""An array with at most this many rows and far more columns is taken to be transposed."""

FEWEST_OF_A_MEAN = 5  # samples in each of the two means that are compared for drift, at least
DRIFT = 3.0
"""An output drifts if its means over the first and the last fifth differ by this many standard
deviations within a fifth."""


def read_records(u: object, y: object = None, *, lengths: ArrayLike | None = None) -> Sequences:
    """Gather one or several records, or a source, in memory; errors call them `u` and `y`."""
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
    inputs, outputs = read_inputs(u), read_inputs(y, "y")
    with messages_of_u_and_y():
        data = as_sequences(inputs, outputs, lengths=lengths)
    return replace(data, flat_outputs=_is_vector(y))


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


@contextmanager
def messages_of_u_and_y(*, turned: bool = False) -> Iterator[None]:
    """Turn error messages about X and Y into messages about u and y, or back."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        text = str(error)
        for pair in (("`X", "`u"), ("`Y", "`y")):
            text = text.replace(*(reversed(pair) if turned else pair))
        raise type(error)(text) from None


def check_records(data: Sequences, settings: IdentificationSettings) -> None:
    """Raise a TooFewSamplesError for records that are too short for the settings."""
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
    units = settings.n_nonlinear or 0
    # at least: those of the linear states not counted
    unknowns = units * (units + (settings.n_linear or 1) + data.n_inputs + data.n_outputs + 1)
    if data.n_rows * data.n_outputs < unknowns:
        raise TooFewSamplesError(
            f"{data.n_rows} samples of {data.n_outputs} output(s) are too few for "
            f"`n_nonlinear`={units}, with {unknowns} unknown weights: give more data, or lower it"
        )
    if settings.n_nonlinear != 0 and longest < LAG_WINDOW:
        raise TooFewSamplesError(
            f"the longest record has {longest} samples, and the nonlinear part is found from "
            f"moments over {LAG_WINDOW} neighbouring samples: give one record of that length at "
            f"least, set n_nonlinear=0 for a linear model, or fit many short sequences with "
            f"SpectralRNNRegressor"
        )


@np.errstate(over="ignore", invalid="ignore")  # values that overflow are refused later
def find_drift(data: Sequences) -> tuple[Finding, ...]:
    """Warn of the first output that drifts along the longest record."""
    y = longest_record(data, data.n_rows)[1]
    fifth = y.shape[0] // 5
    if fifth < FEWEST_OF_A_MEAN:
        return ()
    first, last = y[:fifth], y[-fifth:]
    spread = np.sqrt((first.var(axis=0) + last.var(axis=0)) / 2)
    moved = np.flatnonzero(np.abs(last.mean(axis=0) - first.mean(axis=0)) > DRIFT * spread)
    remedy = "detrend it unless the input caused it, or a very slow pole will have to explain it"
    texts = [f"output {output} drifts over the record" for output in moved[:1]]
    return tuple(Finding(GloreeWarning, text, remedy) for text in texts)


FIRST_ROWS = 30_000  # training rows on which starts are made and the refinement begins
LARGEST_MODULUS = 0.9999  # modulus of the poles of the linear states, at most
HELD_OUT = 0.2
"""Share of the data, at its end, on which orders, starts and the refinement are compared."""

SEGMENT = 250  # rows of a segment of a long record
REMEMBERED = 0.02
"""Share of a state that refined poles may keep over a warm-up: slower ones would fit the unknown
states at the starts of the segments."""

LEAST_GAIN = 4.0
"""A larger model is taken if its held-out error, divided by that of the smaller one, is below
1 - LEAST_GAIN / sqrt(n) for n rows held out: a few hundred neighbouring samples are a weak test,
and networks chosen by them without a margin were worse than the linear model on new data."""


@dataclass(frozen=True)
class RecordSplit:
    """Segments that train, segments that are held out, and the bound on the poles' modulus.

    Linear states with poles within `radius` have forgotten their start after the warm-up.
    """

    source: Source
    training: Subset
    held_out: Subset
    radius: float

    @property
    def error_ratio(self) -> float:
        """Ratio of held-out errors below which a larger model is taken."""
        return 1.0 - LEAST_GAIN / math.sqrt(self.held_out.n_counted)

    def first_training(self, n_rows: int) -> Subset:
        """Training segments up to the one that contains row number `n_rows`."""
        segments = self.training.segments
        rows = np.cumsum(segments.counted)
        return _in_two_batches(self.source, segments[: int(np.searchsorted(rows, n_rows)) + 1])


def split_records(
    records: Sequences, warm_up: int, modulus: float = LARGEST_MODULUS
) -> RecordSplit:
    """Cut records into segments, each with so many steps of warm-up, and hold the last ones out.

    The first steps of every record, at most a tenth of it, only warm up the states. A pole as slow
    as `modulus` is allowed however short the warm-up is.
    """
    longest = int(records.lengths.max())
    whole = longest < 20 * SEGMENT or warm_up > 4 * SEGMENT
    source = Source(
        records,
        batch_size=max(2**12, records.n_rows // 2),
        segment=None if whole else max(SEGMENT, 2 * warm_up),
        before=warm_up,
    )
    segments = source.as_subset().segments
    lead = np.minimum(warm_up, records.lengths[segments.sequence] // 10)
    segments = segments.counted_from(records.starts[segments.sequence] + lead)
    if len(segments) < 5:
        segments = segments.split_counted(5)
    rows = np.cumsum(segments.counted)
    last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, len(segments) - 1)
    radius = LARGEST_MODULUS
    if not whole:
        forgetful = math.exp(math.log(REMEMBERED) / warm_up)
        radius = min(max(modulus, forgetful), LARGEST_MODULUS)
    training, held_out = (_in_two_batches(source, s) for s in (segments[:last], segments[last:]))
    return RecordSplit(source, training, held_out, radius)


def _in_two_batches(source: Source, segments: Segments) -> Subset:
    """One batch for each of two workers; a batch runs all its segments side by side."""
    return Subset(source, segments.split_evenly(2))
