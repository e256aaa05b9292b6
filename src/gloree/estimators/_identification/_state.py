"""What the stages share: the records, the parts that judge and train, what is known so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gloree.activations import Activation
from gloree.diagnostics import IdentificationReport
from gloree.engine import Clock, Engine, Selection, Source, Subset
from gloree.estimators._stages import Stages
from gloree.models import IORNN, ExplosionError
from gloree.refinement import square_sums
from gloree.sequences import Segments, Sequences

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
    training: Subset = field(init=False)
    held_out: Subset = field(init=False)

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
        pieces = source.as_subset().segments
        starts = self.data.starts[pieces.sequence]
        lead = np.minimum(washout, self.data.lengths[pieces.sequence] // 10)
        pieces = pieces.counted_from(starts + lead)
        if len(pieces) < 5:
            pieces = pieces.split_counted(5)
        rows = np.cumsum(pieces.counted)
        last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, len(pieces) - 1)
        self.source = source
        self.training = self._subset(pieces[:last])
        self.held_out = self._subset(pieces[last:])

    def _subset(self, pieces: Segments) -> Subset:
        """Two batches, one for each of two workers: a step of a pass is a call over all pieces."""
        return Subset(self.source, pieces.split_evenly(2))

    def error(self, model: IORNN, data: Selection) -> float:
        """Root mean square simulation error, over outputs; infinite where it explodes."""
        try:
            sums = self.settings.engine.run(partial(square_sums, model=model), data)
        except ExplosionError:
            return math.inf
        return float(np.sqrt(sums.squares.sum() / sums.n_rows / self.data.n_outputs))

    @property
    def n_held_out(self) -> int:
        """Rows that are held out."""
        return self.held_out.n_counted

    @property
    def worth(self) -> float:
        """Ratio of held-out errors below which the larger model is taken."""
        return 1.0 - WORTH / math.sqrt(self.n_held_out)

    def stretch(self, n_rows: int) -> Subset:
        """First so many training rows."""
        pieces = self.training.segments
        rows = np.cumsum(pieces.counted)
        return self._subset(pieces[: int(np.searchsorted(rows, n_rows)) + 1])


def percent(error: float) -> str:
    """Error in words."""
    return f"{100 * error:.3g} %"
