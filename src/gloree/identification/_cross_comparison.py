"""Whether a network is better than the linear model, where held-out rows are few: both fitted anew.

A few hundred held-out rows are one or two swings of slow noise, and a network that happens to lie
nearer to these by an offset seems certain to be better. So every part of the records is left out
once, and how much better the network is on each of them tells what chance does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gloree.identification._comparison import (
    NOTHING_LEFT,
    Comparison,
    independent_of,
    squared_rows,
)
from gloree.identification._folds import Fold, interleaved, whole_records
from gloree.identification._search import Search
from gloree.models import IORNN, ExplosionError
from gloree.sequences import Array, IntArray

CROSS_ROWS = 6_000
"""Rows of the records up to which networks are cross-validated: of more, those held out do."""

WHOLE_STEPS = 8  # steps on all rows, from which the fits without a fold begin
FOLD_STEPS = 10
"""Steps of these. After three a network of eighty weights still knew what it was to forget: it
seemed better by three standard errors on blocks of 520 rows, and after ten it was not.
"""

SHARE = 0.9  # of the time that is left, for all of them: no steps on all rows are needed then


@dataclass(frozen=True)
class CrossComparison:
    """Gain of a network in cross-validation, and the network after steps on all rows."""

    comparison: Comparison
    model: IORNN


def cross_compare(search: Search, smaller: IORNN, larger: IORNN) -> CrossComparison | None:
    r"""Compare a network with the linear model on parts that neither was fitted to.

    From the fits to all rows, either takes some steps on the rows without each fold, and runs over
    the fold. With mean squares s_b^2 of the one and s_b'^2 of the other on block b,

    .. math:: g = \frac 1 n \sum_b \log\frac{s_b^2}{s_b'^2}, \quad
        \mathrm{var}(g) = \mathrm{var}_b / n_{eff},

    with the effective number of blocks for their autocorrelation, and not more than there were
    experiments. The logarithm lets no single block decide. Time: about 50 steps of a search on all
    rows for each model. None where there are too many rows, or little time is left.
    """
    records = search.problem.records
    if records.n_rows > CROSS_ROWS:
        return None
    folds = whole_records(records.lengths) or interleaved(records.lengths)
    left_out = [np.concatenate(fold) > 0 for fold in folds]
    seconds = SHARE * search.budget.left() / 2.0
    found: list[_LeftOut] = []
    for model in (smaller, larger):
        without = _fitted_without(search, model, left_out, seconds)
        if without is None:
            return None
        found.append(without)
    blocks = _blocks(folds)
    rows = np.flatnonzero((blocks > 0) & np.isfinite(found[0].squares))
    _, block, n_rows = np.unique(blocks[rows], return_inverse=True, return_counts=True)
    means = [np.bincount(block, each.squares[rows]) / n_rows for each in found]
    smaller_logs, larger_logs = (np.log(np.maximum(each, NOTHING_LEFT**2)) for each in means)
    d = smaller_logs - larger_logs
    if d.size < 2 or not np.isfinite(d).all():
        return CrossComparison(Comparison(-math.inf, 1.0, rows.size, 1.0), found[1].model)
    independent = independent_of(d, np.ones(d.size, dtype=bool), records)
    error = float(d.std(ddof=1)) / math.sqrt(independent)
    compared = Comparison(float(d.mean()), error, rows.size, independent)
    return CrossComparison(compared, found[1].model)


@dataclass(frozen=True)
class _LeftOut:
    """A model after steps on all rows, and squared errors (n_rows,) of fits without each fold.

    NaN in rows that do not count, infinite where the model explodes.
    """

    model: IORNN
    squares: Array


def _fitted_without(
    search: Search, model: IORNN, left_out: Sequence[NDArray[np.bool_]], seconds: float
) -> _LeftOut | None:
    """Fits without each of some sets of rows; None as soon as they seem to take too long."""
    problem, split, begin = search.problem, search.split, search.budget.left()
    whole = search.descend(
        model, split.everything, max_steps=WHOLE_STEPS, max_seconds=seconds, validate=False
    ).model
    squares = np.full(problem.records.n_rows, np.nan)
    for number, rows in enumerate(left_out, 1):
        training, outside = split.counting(~rows), split.counting(rows)
        if not training.n_counted or not outside.n_counted:
            continue
        end = search.descend(whole, training, max_steps=FOLD_STEPS, validate=False)
        try:
            run = problem.engine.run(partial(squared_rows, model=end.model), outside, label="rows")
            squares[run.rows] = run.squares
        except ExplosionError:
            squares[rows] = np.inf
        taken = begin - search.budget.left()
        if search.budget.is_over or taken * len(left_out) > number * seconds:
            return None
    return _LeftOut(whole, squares)


def _blocks(folds: Sequence[Fold]) -> IntArray:
    """Number of the block of every row, over all records, (n_rows,); 0 for rows of none."""
    numbers = [np.max([fold[i] for fold in folds], axis=0) for i in range(len(folds[0]))]
    first = np.cumsum([0, *(int(each.max(initial=0)) for each in numbers)]).tolist()
    return np.concatenate(
        [np.where(each > 0, each + begin, 0) for each, begin in zip(numbers, first, strict=False)]
    )
