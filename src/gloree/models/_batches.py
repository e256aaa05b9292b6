"""Forward passes over data of any size, a batch of rows at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gloree.activations import Activation
from gloree.models._blocks import BLOCK_STEPS, forward_blocks
from gloree.models._forward import (
    EXPLOSION_LIMIT,
    ExplosionError,
    ExplosionWarning,
    multiply_rows,
)
from gloree.sequences import Segments, Sequences, lag_windows

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
OnExplosion = Literal["raise", "nan"]

# a step over a few hundred rows takes longer than the Python around it
_ROWS_PER_STEP = 256
_MIN_BATCH_ROWS = 2**15
_MAX_BATCH_ENTRIES = 2**22


@dataclass(frozen=True)
class Chain:
    """The recursion h_t = f(A1 x_t + U h_(t-1) + b), with x_t a window of `lags` rows.

    Attributes
    ----------
    input_weights : ndarray of shape (n_units, lags * n_inputs)
        A1.
    recurrent_weights : ndarray of shape (n_units, n_units) or None
        U.
    hidden_bias : ndarray of shape (n_units,)
        b.
    activation : Activation
    lags : int
    units : slice
        Hidden units of the network that these are.
    backward : bool
        Whether time runs backwards: h_(t-1) stands for the state at the next step, and the window
        reaches into the future.
    """

    input_weights: Array
    recurrent_weights: Array | None
    hidden_bias: Array
    activation: Activation
    lags: int
    units: slice
    backward: bool = False


@dataclass(frozen=True)
class BatchStates:
    """States of one chain on one batch.

    Attributes
    ----------
    chain : Chain
        The chain.
    rows : slice
        The rows of the data, in the order of the chain: from last to first if it runs backwards.
    windows : ndarray of shape (n_rows, lags * n_inputs)
        Their input windows.
    states : ndarray of shape (n_rows, n_units)
        Their hidden states; NaN after an explosion.
    """

    chain: Chain
    rows: slice
    windows: Array
    states: Array


@dataclass
class Explosions:
    """First exploded step of each sequence that has one, and the size of the state there.

    The first in the order of the chain; of two chains, the one that was run first counts.
    """

    found: dict[int, tuple[int, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.found)

    def first(self) -> tuple[int, int, float]:
        """Sequence, step and size of the first one."""
        sequence = min(self.found)
        return (sequence, *self.found[sequence])

    def table(self) -> IntArray:
        """Sequences and steps, of shape (n_exploded, 2)."""
        rows = [(sequence, self.found[sequence][0]) for sequence in sorted(self.found)]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)


def check_columns(data: Sequences, n_inputs: int, n_columns: int) -> None:
    """Raise unless the data have `n_inputs` columns; windows of them have `n_columns`."""
    if data.n_inputs == n_inputs:
        return
    hint = ""
    if data.n_inputs == n_columns:
        hint = ": give plain inputs, the model builds the windows of its lags itself"
    raise ValueError(
        f"`X` has {data.n_inputs} columns, the model expects n_inputs = {n_inputs}{hint}"
    )


def guarded_batches(
    data: Sequences, chains: Sequence[Chain], on_explosion: OnExplosion
) -> Iterator[BatchStates]:
    """Run chain after chain, batch by batch; raise at an explosion, or warn of it at the end.

    Parameters
    ----------
    data : Sequences
    chains : sequence of Chain
    on_explosion : {"raise", "nan"}

    Yields
    ------
    BatchStates
    """
    if on_explosion not in ("raise", "nan"):
        raise ValueError(f"`on_explosion` is {on_explosion!r}, expected 'raise' or 'nan'")
    explosions = Explosions()
    for chain in chains:
        for batch in run_batches(data, chain, EXPLOSION_LIMIT, explosions):
            # a backward chain meets the first sequence last
            if explosions and on_explosion == "raise" and not chain.backward:
                raise ExplosionError(*explosions.first())
            yield batch
        if explosions and on_explosion == "raise":
            raise ExplosionError(*explosions.first())
    if explosions:
        sequence, step, _ = explosions.first()
        warnings.warn(
            f"the hidden states of {len(explosions.found)} of {data.n_sequences} sequences "
            f"exploded and are NaN from there on, first sequence {sequence} at step {step}; "
            f"`explosions` lists them",
            ExplosionWarning,
            stacklevel=4,
        )


def run_batches(
    data: Sequences, chain: Chain, limit: float, explosions: Explosions
) -> Iterator[BatchStates]:
    """Run a chain over all sequences, batch by batch, in their order or against it.

    Parameters
    ----------
    data : Sequences
    chain : Chain
    limit : float
        Largest size of a sound state.
    explosions : Explosions
        Collects what exploded so far.

    Yields
    ------
    BatchStates

    Notes
    -----
    A backward chain is a forward one on the data read from the last row to the first, a view.
    """
    walked = data
    if chain.backward:
        walked = Sequences(data.X[::-1], None, data.lengths[::-1], "flat")
    longest = int(walked.lengths.max())
    segment = BLOCK_STEPS if longest > 2 * BLOCK_STEPS else None
    most = max(_MIN_BATCH_ROWS, _MAX_BATCH_ENTRIES // max(chain.input_weights.shape))
    wanted = _ROWS_PER_STEP * min(longest, BLOCK_STEPS)
    batch_size = min(max(_MIN_BATCH_ROWS, wanted), most)
    transposed = np.ascontiguousarray(chain.input_weights.T)
    carried: Array | None = None
    for segments in walked.segments(batch_size=batch_size, segment=segment):
        start, stop = segments.start, segments.stop
        windows = _windows(walked, segments, chain.lags)
        with np.errstate(over="ignore", invalid="ignore"):
            drive = multiply_rows(windows, transposed)
            if chain.hidden_bias.any():
                drive += chain.hidden_bias
        run = forward_blocks(
            drive,
            stop - start,
            start != walked.starts[segments.sequence],
            chain.recurrent_weights,
            chain.activation,
            carried=carried,
            limit=limit,
        )
        for block, local in run.explosions.tolist():
            _mark(run.states, walked, segments, block, local, chain.backward, explosions)
        # NaN is carried too: a sequence stays exploded
        carried = run.states[-1].copy()
        rows = slice(int(start[0]), int(stop[-1]))
        if chain.backward:
            rows = _mirrored(rows, data.n_rows)
        yield BatchStates(chain, rows, windows, run.states)


def _mirrored(rows: slice, n_rows: int) -> slice:
    """Rows of the data that stand at `rows` of the data read backwards."""
    last = n_rows - 1 - rows.stop
    return slice(n_rows - 1 - rows.start, last if last >= 0 else None, -1)


def _windows(data: Sequences, segments: Segments, lags: int) -> Array:
    """Input windows of the rows of a batch, in float64."""
    first, end = int(segments.start[0]), int(segments.stop[-1])
    if lags == 1:
        return np.ascontiguousarray(data.X[first:end], dtype=np.float64)
    starts = data.starts[segments.sequence]
    extra = min(lags - 1, first - int(starts[0]))
    values = np.ascontiguousarray(data.X[first - extra : end], dtype=np.float64)
    steps = np.arange(first, end) - np.repeat(starts, segments.counted)
    steps = np.concatenate((steps[0] - np.arange(extra, 0, -1), steps))
    return lag_windows(values, steps, lags)[extra:]


def _mark(
    states: Array,
    data: Sequences,
    segments: Segments,
    block: int,
    local: int,
    backward: bool,
    explosions: Explosions,
) -> None:
    """Note an explosion, and put NaN from there to the end of its sequence."""
    sequence, offset = int(segments.sequence[block]), int(segments.start[0])
    start, end = int(data.starts[sequence]), int(data.starts[sequence + 1])
    row = int(segments.start[block]) + local
    place, step = sequence, row - start
    if backward:
        place, step = data.n_sequences - 1 - sequence, end - 1 - row
    if place not in explosions.found:
        explosions.found[place] = (step, float(np.max(np.abs(states[row - offset]))))
    states[row - offset : min(end, int(segments.stop[-1])) - offset] = np.nan
