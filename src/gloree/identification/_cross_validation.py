"""Systems fitted without some rows each, from one pass over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gloree.identification._folds import Fold
from gloree.identification._output_error import (
    OutputErrorFit,
    basis_of_changes,
    grams_of_pieces,
    moved_by,
    normalised,
    prior_of_states,
    without_states,
)
from gloree.identification._realisation import PoleLimit
from gloree.identification._weighted_records import RecordGroup, WeightedRecords
from gloree.sequences import Array

DAMPINGS = (1e-3, 1e-1, 1e1, 1e4)
"""Damping of (A, C) relative to the diagonal of J^T J: the first that lowers the error is taken."""


def without_folds(
    fit: OutputErrorFit, records: WeightedRecords, folds: Sequence[Fold], limit: PoleLimit
) -> Iterator[tuple[OutputErrorFit, WeightedRecords]]:
    """The fit without each fold, and the records with the rows that it was fitted to.

    J^T J and J^T r are sums over rows. Those of a fold are taken from those of all, and one
    Gauss-Newton step from the fit to all rows leads to the optimum without the fold: to first order
    in (A, C), and exactly in the rest. Where the step does not lower the error, it is damped. Time:
    one pass over the rows for any number of folds, and a free run or two for each.
    """
    fit = normalised(fit, records)
    system, tangent = fit.system, basis_of_changes(fit.system)
    prior = prior_of_states(system, fit.states, records, fit.error**2)
    pieces: list[tuple[Array, Array]] = []
    for group in records.groups:
        edges = _edges(group, folds)
        own = grams_of_pieces(system, fit.states[group.numbers], group, True, tangent, edges)
        begins, grams = zip(*own, strict=True)
        pieces.append((np.array(begins), np.array(grams)))
    for fold in folds:
        weights = [(part == 0)[:, None] for part in fold]
        training = records.weighted([w * f for w, f in zip(records.w, weights, strict=True)])
        left = [
            np.einsum("pr,prab->rab", _kept(begins, group, fold), grams)
            for group, (begins, grams) in zip(records.groups, pieces, strict=True)
        ]
        parts = without_states(system, fit.states, records, prior, left)
        for damping in DAMPINGS:
            step, _ = parts.solve(damping, tangent.shape[1])
            found = moved_by(fit, parts, step, tangent, training, prior, limit)
            if found.squares <= parts.reduced[-1, -1]:
                break
        yield found, training


def _edges(group: RecordGroup, folds: Sequence[Fold]) -> list[int]:
    """Rows at which a block of any fold begins or ends in any record of a group."""
    found: set[int] = set()
    for fold in folds:
        for number in group.numbers.tolist():
            found |= set((np.flatnonzero(np.diff(fold[number])) + 1).tolist())
    return sorted(found)


def _kept(begins: Array, group: RecordGroup, fold: Fold) -> Array:
    """Whether each piece of each record is in no block of a fold, (n_pieces, n_records)."""
    kept = np.zeros((begins.size, group.numbers.size))
    for place, number in enumerate(group.numbers.tolist()):
        inside = begins < len(fold[number])
        kept[inside, place] = fold[number][begins[inside]] == 0
    return kept
