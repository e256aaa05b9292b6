"""Blocks and batches of a recursion so small that every path through them is taken."""

import contextlib

import pytest

from gloree.models import _blocks, _recursion


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
