"""Parts of records that are left out in turn: folds of blocks, or of whole records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gloree.sequences import Array, IntArray

FOLDS = 4
BLOCKS = 5  # blocks of each fold in a record, between those of the others
FIRST = 4  # a record that is left out keeps this part of a block to find its state
MOST_ALONE = 40  # so many records are left out in two halves

Fold = list[Array]
"""The number of the block that each row of each record is in, or 0 for those that stay."""


def whole_records(lengths: IntArray) -> list[Fold]:
    """Folds of whole records but for their first rows; none where there are too few records."""
    if len(lengths) < FOLDS:
        return []
    parts = FIRST * BLOCKS
    fine = [np.arange(n) * parts // max(n, 1) for n in lengths.tolist()]
    numbers = [np.where(each > 0, 1 + each // FIRST, 0) for each in fine]
    count = FOLDS if len(lengths) < MOST_ALONE else 2
    return [[each * (i % count == fold) for i, each in enumerate(numbers)] for fold in range(count)]


def interleaved(lengths: IntArray) -> list[Fold]:
    """Folds of blocks spread over all records."""
    return _folds(lengths, BLOCKS, lambda number: number % FOLDS)


def in_stretches(lengths: IntArray) -> list[Fold]:
    """Folds of one long stretch of every record, in blocks of the length of interleaved ones."""
    return _folds(lengths, BLOCKS, lambda number: number // BLOCKS)


def contiguous(lengths: IntArray) -> list[Fold]:
    """Folds of one long stretch of every record."""
    return _folds(lengths, 1, lambda number: number % FOLDS)


def _folds(lengths: IntArray, blocks: int, fold_of: Callable[[IntArray], IntArray]) -> list[Fold]:
    """Folds of equal stretches of every record, numbered from 0: so many blocks of each fold.

    The first stretch of every record is in no fold: states in front of it come from it.
    """
    parts = FOLDS * blocks + 1
    numbers = [np.arange(n) * parts // max(n, 1) for n in lengths.tolist()]
    return [
        [np.where((each > 0) & (fold_of(each - 1) == fold), each, 0) for each in numbers]
        for fold in range(FOLDS)
    ]
