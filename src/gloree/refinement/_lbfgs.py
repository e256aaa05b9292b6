"""L-BFGS with exact gradients: for every loss, with or without held-out data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from scipy import optimize

from gloree.engine import Engine, Selection
from gloree.models import ExplosionError, Network
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss, LossSums
from gloree.refinement._solution import Progress, RefinementStatus, Solution, Trace
from gloree.sequences import Array

PATIENCE = 10
"""Iterations without a gain on the held-out segments after which the search ends."""

MEMORY = 20
"""Pairs of steps and gradient changes that L-BFGS keeps."""

EXPLODED = 1e3
"""Loss a row that the line search is told of a model that explodes, or ten times that of the start
if this is more."""


@dataclass(frozen=True)
class LBFGS:
    """Minimise any loss by L-BFGS on all free weights.

    Parameters
    ----------
    max_steps : int, default 200
    penalty : float, default 1e-6
        Of the squared change of the weights, each in units of the root mean square of its kind,
        beside the loss of one row.

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
        """Minimise a loss; see `Solver.minimise`.

        Raises
        ------
        ExplosionError
            If the start itself explodes.
        """
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
        status = RefinementStatus.CONVERGED
        if problem.patience_ended:
            status = RefinementStatus.HELD_OUT
        elif found.status == 1:
            status = RefinementStatus.STEP_LIMIT
        return trace.solution(status, problem.sums.n_rows)


class _Problem:
    """The objective of a minimisation, and the judge of its iterates."""

    def __init__(
        self,
        loss: Loss,
        start: Network,
        layout: Layout,
        engine: Engine,
        data: Selection,
        held_out: Selection | None,
        penalty: float,
        trace: Trace,
    ) -> None:
        self.loss, self.start, self.layout, self.engine = loss, start, layout, engine
        self.data, self.held_out, self.penalty, self.trace = data, held_out, penalty, trace
        self.scale = _scales(layout, start)
        self.sums: LossSums  # of the point seen last: that of an iterate once it is one
        self.exploded = EXPLODED
        self.outside = self._outside(start)

    @property
    def patience_ended(self) -> bool:
        """Whether held-out data have gained nothing for too long."""
        waited = self.trace.n_steps - self.trace.best_at
        return self.held_out is not None and waited >= PATIENCE

    def objective(self, change: Array) -> tuple[float, Array]:
        """Loss a row with the penalty, and its gradient, in units of the scales."""
        moved = self._moved(change)
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
        """Note an iterate; end the search where held-out data gain no more."""
        moved = self._moved(change)
        self.outside = self._outside(moved)
        self._note(moved)
        if self.patience_ended:
            raise StopIteration

    def _moved(self, change: Array) -> Network:
        return self.layout.move(self.start, self.scale * change)

    def _outside(self, model: Network) -> tuple[float, float]:
        """Loss a row and share correct on the held-out data."""
        if self.held_out is None:
            return math.nan, math.nan
        function = partial(self.loss.sums, model=model)
        sums = self.engine.run(function, self.held_out, label="held out")
        loss = sums.loss / sums.n_rows
        return loss if math.isfinite(loss) else math.inf, sums.share_correct

    def _note(self, model: Network) -> None:
        sums, (held_out, share) = self.sums, self.outside
        squares = 2.0 * sums.losses if self.loss.least_squares else None
        loss = sums.loss / sums.n_rows
        self.trace.note(model, loss, squares, held_out=held_out, share=share)


def _scales(layout: Layout, model: Network) -> Array:
    """Unit of each weight: the root mean square of those of its kind."""
    scale = np.ones(layout.size)
    weights = layout.weights(model)
    for name, places in layout.indices.items():
        if not places.size:
            continue
        size = float(np.sqrt(np.mean(weights[name] ** 2)))
        scale[places] = size if size > 0 else 0.1
    return scale
