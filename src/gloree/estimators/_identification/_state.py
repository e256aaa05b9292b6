"""What the stages share: the records, the parts that judge and train, what is known so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from gloree.activations import Activation
from gloree.diagnostics import IdentificationReport
from gloree.engine import Clock, Engine, Source
from gloree.estimators._stages import Stages
from gloree.models import IORNN, ExplosionError
from gloree.refinement import square_sums
from gloree.sequences import IntArray, Sequences

STRETCH = 30_000
"""Rows of the stretch on which starts are made and the refinement begins."""

LARGEST_RADIUS = 0.9999
"""Spectral radius of the linear states, at most."""

HELD_OUT = 0.2
"""Share of the data, at its end, that judges orders, starts and the refinement."""

PIECE = 250
"""Rows of a piece of a long record."""

WORTH = 4.0
"""The nonlinear network is kept if its held-out error, over that of the linear model, is below
1 - WORTH / sqrt(n), n the rows held out: a few hundred neighbouring samples judge badly, and what
they chose was worse than the linear model on new data. One more direction is taken by the same
rule."""


@dataclass(frozen=True)
class IdentifierSettings:
    """Parameters of the estimator, checked and resolved."""

    n_linear: int | None
    n_nonlinear: int | None
    unit: Activation
    max_seconds: float
    engine: Engine
    verbose: int
    free_coefficients: bool = False
    n_directions: int | None = None


@dataclass
class Identification(Stages):
    """One fit: normalised data, the parts that judge and train, and what is known so far."""

    data: Sequences
    settings: IdentifierSettings
    report: IdentificationReport
    clock: Clock = field(init=False)
    source: Source = field(init=False)
    bar: Any = field(init=False, default=None)
    radius: float = field(init=False, default=LARGEST_RADIUS)
    training: list[IntArray] = field(init=False)
    held_out: list[IntArray] = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(self.settings.engine)

    def cut(self, washout: int) -> None:
        """Cut the records into pieces that are warmed up for so many steps, and hold some out.

        The first steps of every record, at most a tenth of it, only warm up the states.
        """
        longest = int(self.data.lengths.max())
        segment = None if longest < 20 * PIECE or washout > 4 * PIECE else max(PIECE, 2 * washout)
        source = Source(
            self.data,
            batch_size=max(2**12, self.data.n_rows // 2),
            segment=segment,
            before=washout,
        )
        table = np.concatenate(source.tables())
        starts = self.data.starts[table[:, 0]]
        lead = np.minimum(washout, self.data.lengths[table[:, 0]] // 10)
        table[:, 2] = np.minimum(np.maximum(table[:, 2], starts + lead), table[:, 3])
        table = table[table[:, 3] > table[:, 2]]
        rows = np.cumsum(table[:, 3] - table[:, 2])
        if table.shape[0] < 5:
            table = _split_rows(table, 5)
            rows = np.cumsum(table[:, 3] - table[:, 2])
        last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, table.shape[0] - 1)
        self.source = source
        self.training = _batches(table[:last])
        self.held_out = _batches(table[last:])

    def error(self, model: IORNN, tables: list[IntArray]) -> float:
        """Root mean square simulation error, over outputs; infinite where it explodes."""
        try:
            sums = self.settings.engine.run(
                partial(square_sums, model=model), self.source, tables=tables
            )
        except ExplosionError:
            return math.inf
        return float(np.sqrt(sums.squares.sum() / sums.n_rows / self.data.n_outputs))

    @property
    def n_held_out(self) -> int:
        """Rows that are held out."""
        return sum(int((table[:, 3] - table[:, 2]).sum()) for table in self.held_out)

    @property
    def worth(self) -> float:
        """Ratio of held-out errors below which the larger model is taken."""
        return 1.0 - WORTH / math.sqrt(self.n_held_out)

    def stretch(self, n_rows: int) -> list[IntArray]:
        """First so many training rows."""
        table = np.concatenate(self.training)
        rows = np.cumsum(table[:, 3] - table[:, 2])
        return _batches(table[: int(np.searchsorted(rows, n_rows)) + 1])


def _split_rows(table: IntArray, wanted: int) -> IntArray:
    """Cut few long pieces into parts that keep all rows before them as their warm-up."""
    parts = []
    for sequence, first, begin, stop, end in table.tolist():
        cuts = np.linspace(begin, stop, wanted + 1).astype(np.int64)
        parts += [(sequence, first, a, b, min(b, end)) for a, b in pairwise(cuts.tolist())]
    return np.array([part for part in parts if part[3] > part[2]], dtype=np.int64)


def _batches(table: IntArray) -> list[IntArray]:
    """Two batches, one for each of two workers: the step of a pass is a call over all pieces."""
    return [part for part in np.array_split(table, 2) if part.shape[0]]


def percent(error: float) -> str:
    """Error in words."""
    return f"{100 * error:.3g} %"
