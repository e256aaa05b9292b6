"""Long sequences without a long loop: blocks side by side, each from a warm-up.

A block that does not begin its sequence starts from h = 0 a few steps early. Where the state it
reaches at its first row is, to rounding, the last state of the block before it, nothing else is
to be done. Where it is not (the network remembers longer, or the warm-up ran away), the block is
run again from that last state: side by side while that converges, else one after another, which
is the plain loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree.activations import Activation
from gloree.models._forward import EXPLOSION_LIMIT, find_explosions, forward_packed
from gloree.sequences import Array, IntArray, Packing

BoolArray = NDArray[np.bool_]

BLOCK_STEPS = 512
"""Longest block; sequences of at most twice as many steps are not cut."""
WARM_UP_STEPS = 64
"""Steps run before a block; memories that fade by 0.6 a step are gone to rounding."""
AGREEMENT = 1e-14
"""Difference of two states, relative to the terms of a step, that counts as rounding (50 eps)."""

_LARGEST = float(np.finfo(np.float64).max)


@dataclass
class BlockRun(Brief):
    """States of a run over blocks.

    Attributes
    ----------
    states : ndarray of shape (n_rows, n_hidden)
        Hidden states, rows in the order of the drive. After an explosion they are not defined
        until the chain of blocks ends.
    explosions : ndarray of int of shape (n, 2)
        Block and row in the block of the first exploded state of each chain that has one.
    rounds : int
        Times that blocks were run again.
    """

    states: Array
    explosions: IntArray
    rounds: int = 0


class _Blocks:
    """Blocks of one batch, their initial states, and the states found so far."""

    def __init__(
        self,
        drive: Array,
        lengths: IntArray,
        recurrent_weights: Array,
        activation: Activation,
        limit: float,
    ) -> None:
        self.drive = drive
        self.lengths = lengths
        self.starts = (np.cumsum(lengths) - lengths).astype(np.int64)
        self.last = self.starts + lengths - 1
        self.recurrent_weights = recurrent_weights
        self.activation = activation
        self.limit = limit
        self.initial = np.zeros((lengths.shape[0], drive.shape[1]))
        self.first_bad = np.full(lengths.shape[0], -1, dtype=np.int64)
        self.states = np.empty_like(drive)

    def warm_up(self, blocks: IntArray) -> None:
        """Guess the initial states of `blocks` from h = 0 a few rows earlier."""
        n_steps = min(WARM_UP_STEPS, int(self.lengths[blocks - 1].min()))
        transposed = np.ascontiguousarray(self.recurrent_weights.T)
        rows = self.starts[blocks] - n_steps
        state = self.activation(self.drive[rows])
        for _ in range(n_steps - 1):
            rows += 1
            state = self.activation(self.drive[rows] + state @ transposed)
        self.initial[blocks] = self.tame(state)

    def tame(self, states: Array) -> Array:
        """Replace states that ran away by zeros, so that a guess stays a number."""
        bad = ~np.all(np.abs(states) <= self.limit, axis=1)
        return np.where(bad[:, np.newaxis], 0.0, states)

    def run(self, blocks: IntArray | None = None) -> None:
        """Run all blocks, or some of them, from their initial states."""
        lengths = self.lengths if blocks is None else self.lengths[blocks]
        packing = Packing.from_lengths(lengths)
        rows = packing.rows
        order = packing.order
        if blocks is not None:
            shift = self.starts[blocks] - (np.cumsum(lengths) - lengths)
            rows = rows + np.repeat(shift, lengths)[rows]
            order = blocks[order]
        _, states = forward_packed(
            self.drive.take(rows, axis=0),
            packing.step_starts,
            self.recurrent_weights,
            self.activation,
            self.initial[order],
            overwrite_drive=True,
        )
        if blocks is None:
            self.states = packing.unpack(states)
        else:
            self.states[rows] = states
        found = find_explosions(states, packing, self.limit)
        chosen = slice(None) if blocks is None else blocks
        self.first_bad[chosen] = -1
        exploded = found[:, 0] if blocks is None else blocks[found[:, 0]]
        self.first_bad[exploded] = found[:, 1]

    def gaps(self, followers: IntArray) -> Array:
        """Difference of initial states and the last states of the blocks before, in roundings.

        The unit is |h| + |f'(z)| (|d| + |U| |h_before|): eps times it bounds the rounding error
        of one step, cancellation in z = d + U h_before included.
        """
        before = followers - 1
        last = self.last[before]
        final = self.states[last]
        inside = (self.lengths[before] > 1)[:, np.newaxis]
        previous = np.where(inside, self.states[last - 1], self.initial[before])
        drive, transposed = self.drive[last], self.recurrent_weights.T
        slope = self.activation.derivative(drive + previous @ transposed)
        size = np.abs(drive) + np.abs(previous) @ np.abs(transposed)
        scale = np.abs(final) + np.abs(slope) * size
        difference = np.abs(self.initial[followers] - final)
        # equal states agree whatever the unit; NaN and infinity never do
        relative = np.where(np.isfinite(scale), difference / scale, np.inf)
        relative[difference == 0.0] = 0.0
        relative[~np.isfinite(final)] = np.inf
        return np.asarray(relative.max(axis=1, initial=0.0))


def forward_blocks(
    drive: Array,
    lengths: IntArray,
    continues: BoolArray,
    recurrent_weights: Array | None,
    activation: Activation,
    *,
    carried: Array | None = None,
    initial: Array | None = None,
    limit: float = EXPLOSION_LIMIT,
) -> BlockRun:
    """Run the recursion over blocks of sequences that stand one after another.

    Equal to the plain loop up to rounding, whatever the network remembers.

    Parameters
    ----------
    drive : ndarray of shape (n_rows, n_hidden)
        A1 x_t + b, block after block.
    lengths : ndarray of int of shape (n_blocks,)
        Rows of each block.
    continues : ndarray of bool of shape (n_blocks,)
        Whether a block continues where the one before it ended (the first: from `carried`); the
        others begin at h = 0, or at their row of `initial`.
    recurrent_weights : ndarray of shape (n_hidden, n_hidden) or None
        U.
    activation : Activation
    carried : ndarray of shape (n_hidden,), optional
        State before the first block, if it continues an earlier one.
    initial : ndarray of shape (n_blocks, n_hidden), optional
        States before the blocks that do not continue; the other rows are not used.
    limit : float, default EXPLOSION_LIMIT

    Notes
    -----
    O(n_rows n_hidden^2) time in max(lengths) steps when memory fades within a block, in n_rows
    steps in the worst case; about three arrays of the size of `drive`.
    """
    if recurrent_weights is None or not recurrent_weights.any():
        return _without_recurrence(drive, lengths, activation)
    limit = min(limit, _LARGEST)
    blocks = _Blocks(drive, lengths, recurrent_weights, activation, limit)
    if initial is not None:
        blocks.initial[~continues] = initial[~continues]
    if carried is not None and continues[0]:
        blocks.initial[0] = carried
    followers = np.flatnonzero(continues[1:]).astype(np.int64) + 1
    rounds = 0
    with np.errstate(all="ignore"):
        if followers.size:
            blocks.warm_up(followers)
        blocks.run()
        if followers.size:
            rounds = _join(blocks, followers)
    chain = np.ones(lengths.shape[0], dtype=np.bool_)
    chain[followers] = False
    chain_of = np.cumsum(chain)
    exploded = np.flatnonzero(blocks.first_bad >= 0)
    _, first = np.unique(chain_of[exploded], return_index=True)
    where = exploded[first]
    explosions = np.column_stack((where, blocks.first_bad[where])).astype(np.int64)
    return BlockRun(blocks.states, explosions, rounds)


def _without_recurrence(drive: Array, lengths: IntArray, activation: Activation) -> BlockRun:
    with np.errstate(all="ignore"):
        states = activation(drive)
        finite = math.isfinite(float(np.sum(states)))
    explosions = np.empty((0, 2), dtype=np.int64)
    if not finite:
        bad = np.flatnonzero(~np.all(np.isfinite(states), axis=1))
        block = np.searchsorted(np.cumsum(lengths), bad, side="right")
        found, first = np.unique(block, return_index=True)
        local = bad[first] - (np.cumsum(lengths) - lengths)[found]
        explosions = np.column_stack((found, local)).astype(np.int64)
    return BlockRun(states, explosions)


def _join(blocks: _Blocks, followers: IntArray) -> int:
    """Run blocks again until each begins where the one before it ended."""
    n_blocks = blocks.lengths.shape[0]
    is_head = np.ones(n_blocks, dtype=np.bool_)
    is_head[followers] = False
    heads = np.flatnonzero(is_head)
    chain_of = np.cumsum(is_head) - 1
    gap = np.zeros(n_blocks)
    previous = math.inf
    side_by_side = True
    rounds = 0
    while True:
        gap[followers] = blocks.gaps(followers)
        open_ = gap > AGREEMENT
        exact = _count_within(open_, heads, chain_of) == 0
        exploded = exact & (blocks.first_bad >= 0)
        # what follows a true explosion is not defined: leave it
        dead = (_count_within(exploded, heads, chain_of) - exploded) > 0
        todo = np.flatnonzero(open_ & ~dead)
        if todo.size == 0:
            blocks.first_bad[~exploded] = -1
            return rounds
        current = float(np.median(gap[todo]))
        if rounds > 0:
            side_by_side = side_by_side and _worthwhile(current, previous, todo.size)
        previous = current
        if side_by_side:
            chosen = todo
        else:
            _, first = np.unique(chain_of[todo], return_index=True)
            chosen = todo[first]
        blocks.initial[chosen] = blocks.tame(blocks.states[blocks.last[chosen - 1]])
        blocks.run(chosen)
        rounds += 1


def _worthwhile(current: float, previous: float, n_open: int) -> bool:
    """Whether rounds side by side will close the gaps sooner than one block after another."""
    if not current < previous:
        return False
    if not math.isfinite(previous):
        return True
    needed = math.log(AGREEMENT / current) / math.log(current / previous)
    return needed < n_open / 3


def _count_within(flags: BoolArray, heads: IntArray, chain_of: IntArray) -> IntArray:
    """Flags set up to and including each block, counted from the head of its chain."""
    total = np.cumsum(flags)
    before: IntArray = (total - flags)[heads]
    return np.asarray(total - before[chain_of], dtype=np.int64)
