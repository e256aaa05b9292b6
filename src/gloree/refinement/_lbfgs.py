"""L-BFGS with exact gradients: for every loss, with or without held-out data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from scipy import optimize

from gloree._parameters import check_integer, check_number
from gloree.engine import Engine, Selection, Subset
from gloree.models import ExplosionError, Network
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss, LossSums
from gloree.refinement._solvers import Progress, RefinementStatus, Solution, Trace
from gloree.sequences import Array

HELD_OUT = 10
"""One segment in this many is held out for early stopping."""

PATIENCE = 10
"""Iterations without a gain on held-out data after which the search ends."""

MEMORY = 20
"""Pairs of steps and gradient changes that L-BFGS keeps."""

EXPLODED = 1e3
"""Loss per row that stands for that of a model that explodes, or ten times that of the start if
this is more."""


@dataclass(frozen=True)
class LBFGS:
    """Minimise any loss by L-BFGS on all free weights.

    Parameters
    ----------
    max_steps : int, default 200
    penalty : float, default 1e-6
        Added to the loss per row for each unit of squared change of a weight, in units of the root
        mean square of the weight matrix that it belongs to.

    Notes
    -----
    About one pass over the data for each iteration, and one over the held-out data. With these, the
    iterate of least held-out loss is returned (the start included), and the search ends when ten
    iterations have not improved on it.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.refinement import LBFGS
    >>> X, Y, truth, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> est = SpectralRNNRegressor(2, refine=LBFGS(max_steps=100), random_state=0)
    >>> bool(est.fit(X, Y).score(X, Y) > 0.9)
    True
    """

    max_steps: int = 200
    penalty: float = 1e-6

    def __post_init__(self) -> None:
        check_integer("max_steps", self.max_steps, 1)
        check_number("penalty", self.penalty, least=0.0)

    name: ClassVar[str] = "L-BFGS"

    def minimise(
        self,
        loss: Loss,
        model: Network,
        layout: Layout,
        engine: Engine,
        data: Selection,
        *,
        held_out: Selection | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Minimise a loss; see `Solver.minimise`. A start that explodes is an `ExplosionError`."""
        trace = Trace(time.perf_counter, progress)
        problem = _Problem(loss, model, layout, engine, data, held_out, self.penalty, trace)
        found = optimize.minimize(
            problem.objective,
            np.zeros(layout.size),
            jac=True,
            method="L-BFGS-B",
            callback=problem.judge,
            options={"maxiter": self.max_steps, "maxcor": MEMORY, "maxfun": 4 * self.max_steps},
        )
        limited = RefinementStatus.STEP_LIMIT if found.status == 1 else RefinementStatus.CONVERGED
        if found.status == 2 and not trace.n_steps:  # the line search found nothing lower
            limited = RefinementStatus.NO_DECREASE
        status = RefinementStatus.HELD_OUT if problem.patience_ended else limited
        return trace.solution(status, problem.sums.n_rows)


@dataclass
class _Problem:
    """The objective of a minimisation, and the judge of its iterates."""

    loss: Loss
    start: Network
    layout: Layout
    engine: Engine
    data: Selection
    held_out: Selection | None
    penalty: float
    trace: Trace

    def __post_init__(self) -> None:
        self.scale = _scales(self.layout, self.start)
        self.sums: LossSums  # of the latest point: that of an iterate once it is one
        self.exploded = EXPLODED
        self.outside = self._outside(self.start)

    @property
    def patience_ended(self) -> bool:
        """Whether held-out data have gained nothing for too long."""
        return self.held_out is not None and self.trace.waited >= PATIENCE

    def objective(self, change: Array) -> tuple[float, Array]:
        """Loss per row with the penalty, and its gradient, in units of the scales."""
        moved = self.layout.move(self.start, self.scale * change)
        function = partial(self.loss.sums, model=moved, layout=self.layout)
        try:
            sums = self.engine.run(function, self.data, label=self.loss.name)
        except ExplosionError:
            if not self.trace.steps:
                raise
            return self.exploded, np.zeros_like(change)
        self.sums = sums
        if not self.trace.steps:
            self.exploded = max(EXPLODED, 10.0 * sums.loss / sums.n_rows)
            self._note(moved)
        value = sums.loss / sums.n_rows + self.penalty * float(change @ change)
        return value, self.scale * sums.gradient / sums.n_rows + 2.0 * self.penalty * change

    def judge(self, change: Array) -> None:
        """Note an iterate; end the search once held-out data gain no more."""
        moved = self.layout.move(self.start, self.scale * change)
        self.outside = self._outside(moved)
        self._note(moved)
        if self.patience_ended:
            raise StopIteration

    def _outside(self, model: Network) -> tuple[float, float]:
        """Loss per row and share correct on the held-out data; those of what explodes are bad."""
        if self.held_out is None:
            return math.nan, math.nan
        held_out = partial(self.loss.sums, model=model)
        try:
            sums = self.engine.run(held_out, self.held_out, label="held out")
        except ExplosionError:
            return math.inf, 0.0
        loss = sums.loss / sums.n_rows
        return loss if math.isfinite(loss) else math.inf, sums.share_correct

    def _note(self, model: Network) -> None:
        sums, (held_out, share) = self.sums, self.outside
        squares = 2.0 * sums.losses if self.loss.least_squares else None
        self.trace.note(model, sums.loss / sums.n_rows, squares, held_out=held_out, share=share)


def _scales(layout: Layout, model: Network) -> Array:
    """Unit of each weight: the root mean square of its weight matrix."""
    scale = np.ones(layout.size)
    for name, weights in layout.weights(model).items():
        if weights.size:
            scale[layout.indices[name]] = float(np.sqrt(np.mean(weights**2))) or 0.1
    return scale


def split_held_out(selection: Selection) -> tuple[Subset, Subset]:
    """Batches without every tenth segment, and batches of these; one segment is a ValueError."""
    whole = selection.as_subset()
    if whole.n_visited < 2:
        raise ValueError(
            "one segment cannot be split into training and held-out data: give more sequences, or "
            "`refine`=None"
        )
    every = min(HELD_OUT, whole.n_visited)
    training, held_out, count = [], [], 0
    for segments in whole.batches:
        chosen = (count + np.arange(len(segments))) % every == every - 1
        count += len(segments)
        if not chosen.all():
            training.append(segments[~chosen])
        if chosen.any():
            held_out.append(segments[chosen])
    return Subset(whole.source, training), Subset(whole.source, held_out)
