"""What a solver returns, and how it notes its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np

from gloree.models import Network
from gloree.refinement._sensitivities import HessianSums
from gloree.sequences import Array

Progress: TypeAlias = Callable[[int, float, float], None]
"""Called with (step, loss a row, share correct), of held-out data where there are any.

Step 0 is the start; the share is NaN where there are no labels.
"""


class RefinementStatus(Enum):
    """How a refinement ended."""

    EFFICIENT = "the rest is far below the statistical error"
    CONVERGED = "no further decrease within rounding"
    STEP_LIMIT = "stopped at the limit of steps"
    TIME_LIMIT = "stopped at the limit of time"
    HELD_OUT = "held-out data gain no more"
    NO_DECREASE = "no step lowered the error: the start is kept"


@dataclass(frozen=True)
class Step:
    """A point of a minimisation.

    Attributes
    ----------
    seconds : float
        Since the start.
    loss : float
        Of a row of the data that are fitted, on average; of squares half their sum over outputs.
    held_out : float
        The same on held-out data; NaN without any.
    share : float
        Share of their labels that is predicted correctly; NaN without labels or held-out data.
    """

    seconds: float
    loss: float
    held_out: float = math.nan
    share: float = math.nan

    @property
    def judged(self) -> float:
        """The loss that decides: on held-out data where there are any."""
        return self.loss if math.isnan(self.held_out) else self.held_out


@dataclass(frozen=True, eq=False)
class Solution:
    """Outcome of a minimisation by any solver.

    Attributes
    ----------
    model : IORNN or BRNN
        The best one: on held-out data if there are any, else on the data that are fitted.
    status : RefinementStatus
    n_steps : int
        Steps taken.
    n_rows : float
        Rows of the data that are fitted.
    final : Step
        That of `model`.
    history : tuple of Step
        The start, and each step taken.
    squares, start_squares : ndarray of shape (n_outputs,) or None
        Sum of the squared residuals of each output, for `model` and for the start; None for other
        losses.
    hessian : HessianSums or None
        J^T J of the last pass that formed it, scaled to all the data.
    """

    model: Network
    status: RefinementStatus
    n_steps: int
    n_rows: float
    final: Step
    history: tuple[Step, ...] = field(repr=False)
    squares: Array | None = None
    start_squares: Array | None = None
    hessian: HessianSums | None = field(default=None, repr=False)

    @property
    def rmse(self) -> Array:
        """Root mean square error of each output."""
        return self._root_mean(self.squares)

    @property
    def start_rmse(self) -> Array:
        """Root mean square error of each output at the start."""
        return self._root_mean(self.start_squares)

    def _root_mean(self, squares: Array | None) -> Array:
        if squares is None:
            raise ValueError("a loss that is no squared error has no `rmse`: see `final.loss`")
        return np.asarray(np.sqrt(squares / self.n_rows))

    @property
    def best_share(self) -> float:
        """Largest share of held-out labels that was predicted correctly after a step.

        That of the start where no step was taken; NaN without labels or held-out data.
        """
        return max(step.share for step in self.history[1:] or self.history)


class Trace:
    """Notes the steps of a minimisation, and keeps the model of least loss.

    Attributes
    ----------
    steps : list of Step
        The start, and each step taken.
    best_at : int
        Number of the best one.
    """

    def __init__(self, clock: Callable[[], float], progress: Progress | None = None) -> None:
        self._clock, self._progress, self._begin = clock, progress, clock()
        self.steps: list[Step] = []
        self.best_at = 0
        self._best: Network | None = None
        self._squares: Array | None = None
        self._start_squares: Array | None = None

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return len(self.steps) - 1

    def note(
        self,
        model: Network,
        loss: float,
        squares: Array | None = None,
        *,
        held_out: float = math.nan,
        share: float = math.nan,
    ) -> None:
        """Note the start, or a step taken; see `Step` and `Solution`."""
        step = Step(self._clock() - self._begin, loss, held_out, share)
        if not self.steps:
            self._start_squares = squares
        if not self.steps or step.judged < self.steps[self.best_at].judged:
            self.best_at, self._best, self._squares = len(self.steps), model, squares
        self.steps.append(step)
        if self._progress is not None:
            self._progress(self.n_steps, step.judged, share)

    def solution(self, status: RefinementStatus, n_rows: float) -> Solution:
        """Return the best model with what was noted."""
        assert self._best is not None
        return Solution(
            self._best,
            status,
            self.n_steps,
            n_rows,
            self.steps[self.best_at],
            tuple(self.steps),
            self._squares,
            self._start_squares,
        )
