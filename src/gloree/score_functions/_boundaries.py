"""Kinds of steps near the ends of sequences, and second derivatives, for laws of any kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gloree._monomials import block_rows
from gloree.chains import HermiteLaw, law_derivatives
from gloree.score_functions._whitening import SymmetricWhitening
from gloree.sequences import Array, Batch, IntArray


@dataclass(frozen=True)
class Boundaries:
    """Kinds of steps near the ends of sequences, and K of each (zero where it is none).

    `chain` is the law of these kinds; None where steps are told apart by what they lack.
    """

    chain: HermiteLaw | None
    covariances: Array

    @property
    def n_types(self) -> int:
        """Number of kinds."""
        return int(self.covariances.shape[0])

    def types(self, batch: Batch) -> IntArray:
        """Kind of every row."""
        if self.chain is not None:
            return self.chain.boundary_types(batch)
        first, last = batch.steps_before == 0, batch.steps_after == 0
        return np.asarray(2 * first + last, dtype=np.int64)

    def name(self, kind: int) -> str:
        """Which steps, in words."""
        if self.chain is not None:
            return self.chain.boundary_name(kind)
        return ("interior", "last", "first", "only step")[kind]


def boundaries_of(chain: HermiteLaw) -> Boundaries:
    """Kinds of steps of a law: its own where it is Hermite, else interior, last, first, only."""
    if chain.capabilities.hermite:
        return Boundaries(chain, chain.precision_blocks(0))
    return Boundaries(None, np.zeros((4, chain.n_inputs, chain.n_inputs)))


def second_terms(
    batch: Batch,
    chain: HermiteLaw,
    whitening: SymmetricWhitening,
    counted: IntArray,
    types: IntArray,
    weights: Array,
) -> tuple[Array, Array]:
    """White vech D_2 of the counted rows, (n_pairs, n_counted), and sums of -D_2 by boundary type.

    Derivatives are taken for a block of rows at a time.
    """
    at, n_types = law_derivatives(chain, batch, 2), boundaries_of(chain).n_types
    i, j = np.triu_indices(whitening.inputs.shape[0])
    white = np.empty((i.size, counted.shape[0]))
    sums = np.zeros((n_types, chain.n_inputs, chain.n_inputs))
    step = block_rows(chain.n_inputs**2)
    for begin in range(0, counted.shape[0], step):
        rows = np.arange(begin, min(begin + step, counted.shape[0]))
        second = at(counted[rows])[1]
        white[:, rows] = (whitening.scores @ second @ whitening.scores.T)[:, i, j].T
        for boundary_type in np.unique(types[rows]):
            mine = types[rows] == boundary_type
            sums[boundary_type] -= np.tensordot(weights[rows][mine], second[mine], axes=1)
    return white, sums
