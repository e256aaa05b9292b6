"""The recursions of a network over sequences in memory, a batch of rows at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gloree._brief import Brief
from gloree._mapped import loaded
from gloree.activations import Activation
from gloree.models._blocks import BLOCK_STEPS, forward_blocks
from gloree.models._forward import (
    ExplosionError,
    ExplosionWarning,
    explosion_limit,
    multiply_rows,
)
from gloree.models._states import with_past
from gloree.sequences import Array, IntArray, Segments, Sequences, lag_windows

OnExplosion = Literal["raise", "nan"]

# a step over a few hundred rows takes longer than the Python around it
_ROWS_PER_STEP = 256
_MIN_BATCH_ROWS = 2**15
_MAX_BATCH_ENTRIES = 2**22


@dataclass(frozen=True)
class Recursion(Brief):
    """The recursion h_t = f(A1 x_t + U h_(t-1) + b), with x_t a window of `lags` rows.

    Attributes
    ----------
    input_weights : ndarray of shape (n_units, lags * n_inputs)
        A1.
    recurrent_weights : ndarray of shape (n_units, n_units)
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
    recurrent_weights: Array
    hidden_bias: Array
    activation: Activation
    lags: int
    units: slice
    backward: bool = False

    def batch_rows(self, longest: int) -> int:
        """Rows of a batch for sequences of at most `longest` steps."""
        widest: int = max(self.input_weights.shape)
        most = max(_MIN_BATCH_ROWS, _MAX_BATCH_ENTRIES // widest)
        wanted = _ROWS_PER_STEP * min(longest, BLOCK_STEPS)
        return min(max(_MIN_BATCH_ROWS, wanted), most)


@dataclass(frozen=True)
class BatchStates:
    """States of one recursion on one batch.

    `rows` are the rows of the data in the order of the recursion (from last to first if it runs
    backwards), `windows` their inputs and `states` their hidden states, NaN after an explosion.
    """

    recursion: Recursion
    rows: slice
    windows: Array
    states: Array


@dataclass
class Explosions:
    """First exploded step of each sequence that has one, and the size of the state there.

    The first in the order of the recursion; of two, the one that was run first counts. A `limit`
    of None is that of `explosion_limit`.
    """

    on_explosion: OnExplosion = "raise"
    limit: float | None = None
    found: dict[int, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_explosion not in ("raise", "nan"):
            raise ValueError(f"`on_explosion` is {self.on_explosion!r}, expected 'raise' or 'nan'")

    def raise_first(self) -> None:
        """Raise the explosion of the first sequence that has one, if that is asked for."""
        if self.found and self.on_explosion == "raise":
            sequence = min(self.found)
            raise ExplosionError(sequence, *self.found[sequence])

    def warn(self, n_sequences: int) -> None:
        """Warn the caller of the caller, if there are any."""
        if not self.found:
            return
        sequence = min(self.found)
        warnings.warn(
            f"the hidden states of {len(self.found)} of {n_sequences} sequences exploded and are "
            f"NaN from there on, first sequence {sequence} at step {self.found[sequence][0]}; "
            f"`explosions` lists them",
            ExplosionWarning,
            stacklevel=3,
        )

    def table(self) -> IntArray:
        """Sequences and steps, of shape (n_exploded, 2)."""
        rows = [(sequence, self.found[sequence][0]) for sequence in sorted(self.found)]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)


def run_recursions(
    data: Sequences,
    recursions: Sequence[Recursion],
    explosions: Explosions,
    start: Array | None = None,
) -> Iterator[BatchStates]:
    """Run one recursion after another over all sequences, batch by batch.

    Parameters
    ----------
    data : Sequences
    recursions : sequence of Recursion
    explosions : Explosions
        Collects what explodes, and says whether the first explosion raises an `ExplosionError`.
    start : ndarray of shape (n_sequences, n_state), optional
        States before the first rows (see `Network.n_state`), of the forward recursion; zeros by
        default. A backward recursion always begins with zeros, behind the last rows.

    Yields
    ------
    BatchStates
    """
    for recursion in recursions:
        before = None if recursion.backward else start
        for batch in _run(data, recursion, explosions, before):
            # a backward recursion meets the first sequence last
            if not recursion.backward:
                explosions.raise_first()
            yield batch
        explosions.raise_first()


def _run(
    data: Sequences, recursion: Recursion, explosions: Explosions, before: Array | None
) -> Iterator[BatchStates]:
    """Batches of one recursion: a backward one is a forward one on the data read from the end."""
    walked = data
    if recursion.backward:
        walked = Sequences(data.X[::-1], None, data.lengths[::-1], "flat")
    longest = int(walked.lengths.max())
    segment = BLOCK_STEPS if longest > 2 * BLOCK_STEPS else None
    transposed = np.ascontiguousarray(recursion.input_weights.T)
    carried: Array | None = None
    limit = explosions.limit
    if limit is None:
        limit = explosion_limit(recursion.recurrent_weights, recursion.activation)
    for segments in walked.segments(batch_size=recursion.batch_rows(longest), segment=segment):
        start, stop = segments.start, segments.stop
        entering = None if before is None else before[segments.sequence]
        units = recursion.hidden_bias.shape[0]
        past = None if entering is None else entering[:, units:]
        windows = _windows(walked, segments, recursion.lags, past)
        with np.errstate(over="ignore", invalid="ignore"):
            drive = multiply_rows(windows, transposed)
            if recursion.hidden_bias.any():
                drive += recursion.hidden_bias
        run = forward_blocks(
            drive,
            stop - start,
            start != walked.starts[segments.sequence],
            recursion.recurrent_weights,
            recursion.activation,
            carried=carried,
            initial=None if entering is None else entering[:, :units],
            limit=limit,
        )
        for block, local in run.explosions.tolist():
            sequence, step, size = _blank(run.states, walked, segments, block, local)
            if recursion.backward:
                step = int(walked.lengths[sequence]) - 1 - step
                sequence = data.n_sequences - 1 - sequence
            explosions.found.setdefault(sequence, (step, size))
        # NaN is carried too: a sequence stays exploded
        carried = run.states[-1].copy()
        rows = slice(int(start[0]), int(stop[-1]))
        if recursion.backward:
            rows = _mirrored(rows, data.n_rows)
        yield BatchStates(recursion, rows, windows, run.states)


def _blank(
    states: Array, data: Sequences, segments: Segments, block: int, local: int
) -> tuple[int, int, float]:
    """Put NaN from an exploded row to the end of its sequence; sequence, step and size there."""
    sequence, offset = int(segments.sequence[block]), int(segments.start[0])
    row, end = int(segments.start[block]) + local, int(data.starts[sequence + 1])
    size = float(np.max(np.abs(states[row - offset])))
    states[row - offset : min(end, int(segments.stop[-1])) - offset] = np.nan
    return sequence, row - int(data.starts[sequence]), size


def _mirrored(rows: slice, n_rows: int) -> slice:
    """Rows of the data that stand at `rows` of the data read backwards."""
    last = n_rows - 1 - rows.stop
    return slice(n_rows - 1 - rows.start, last if last >= 0 else None, -1)


def _windows(data: Sequences, segments: Segments, lags: int, past: Array | None) -> Array:
    """Input windows of the rows of a batch, in float64; `past` are inputs before the sequences."""
    first, end = int(segments.start[0]), int(segments.stop[-1])
    if lags == 1:
        return np.ascontiguousarray(loaded(data.X[first:end]), dtype=np.float64)
    starts = data.starts[segments.sequence]
    extra = min(lags - 1, first - int(starts[0]))
    values = np.ascontiguousarray(loaded(data.X[first - extra : end]), dtype=np.float64)
    own = np.arange(first, end) - np.repeat(starts, segments.counted)
    steps = np.concatenate((own[0] - np.arange(extra, 0, -1), own))
    windows = lag_windows(values, steps, lags)[extra:]
    if past is not None:
        with_past(windows, own, np.repeat(past, segments.counted, axis=0), lags)
    return windows
