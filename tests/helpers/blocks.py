"""Blocks and batches of a recursion so small that every path through them is taken."""

import contextlib

import numpy as np
import pytest
from hypothesis import assume

from gloree.models import _blocks, _recursion
from helpers import naive
from helpers.comparisons import assert_close


@contextlib.contextmanager
def tiny_blocks(block=8, warm_up=4, rows=32):
    """Make blocks and batches of so few steps and rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recursion, "BLOCK_STEPS", block)
        patch.setattr(_recursion, "_ROWS_PER_STEP", 1)
        patch.setattr(_recursion, "_MIN_BATCH_ROWS", rows)
        patch.setattr(_recursion, "_MAX_BATCH_ENTRIES", 1)
        patch.setattr(_blocks, "WARM_UP_STEPS", warm_up)
        yield


def assert_blocks_are_the_loop(model, X, rows, tolerance):
    """States and outputs of tiny blocks are those of a loop over the steps of each sequence."""
    runs = [naive.run(model, x) for x in X]
    assume(all(np.all(np.abs(run.h) < 1e3) for run in runs))
    with tiny_blocks(rows=rows):
        states, outputs = model.hidden_states(X), model.predict(X)
    for h, y, run in zip(states, outputs, runs, strict=True):
        assert_close(h, run.h, tolerance)
        assert_close(y, run.outputs, tolerance)
