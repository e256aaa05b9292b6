"""What a solver is, what it returns, and how it records its steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from gloree._brief import Brief
from gloree.engine import Engine, Selection
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._sensitivities import HessianSums
from gloree.sequences import Array

Progress: TypeAlias = Callable[[int, float, float], None]
"""Called with (step, loss per row, share correct), on held-out data where there are any.

Step 0 is the start; the share is NaN without labels.
"""


class RefinementStatus(Enum):
    """How a refinement ended."""

    EFFICIENT = "the rest is far below the statistical error"
    CONVERGED = "no further decrease within rounding"
    STEP_LIMIT = "stopped at the limit of steps"
    TIME_LIMIT = "stopped at the limit of time"
    HELD_OUT = "held-out data gain no more"
    INTERRUPTED = "interrupted from the keyboard"
    NO_DECREASE = "no step lowered the error: the start is kept"


@dataclass(frozen=True)
class Step:
    """A point of a minimisation.

    Attributes
    ----------
    seconds : float
        Since the start.
    loss : float
        Mean loss per row of the data that are fitted; for squares half their sum over outputs.
    held_out : float
        The same on held-out data; NaN without any.
    share : float
        Share of held-out labels that are predicted correctly; NaN without labels or such data.
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
class Solution(Brief):
    """Outcome of a minimisation by any solver.

    Attributes
    ----------
    model : IORNN or BRNN
        The best one: on held-out data if there are any, else on the data that are fitted.
    status : RefinementStatus
    n_rows : float
        Rows of the data that are fitted.
    history : tuple of Step
        The start, and each step taken.
    squares, start_squares : ndarray of shape (n_outputs,) or None
        Sum of the squared residuals of each output, for `model` and for the start; None for other
        losses.
    hessian : HessianSums or None
        J^T J of the last pass that formed it, scaled to all the data.
    products : ndarray of shape (n_outputs, n_outputs) or None
        Sum of r r^T for `model`, if its last pass made it.
    """

    model: Network
    status: RefinementStatus
    n_rows: float
    history: tuple[Step, ...] = field(repr=False)
    squares: Array | None = None
    start_squares: Array | None = None
    hessian: HessianSums | None = field(default=None, repr=False)
    products: Array | None = field(default=None, repr=False)

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return len(self.history) - 1

    @property
    def outcome(self) -> str:
        """Steps and status in words."""
        return f"{self.n_steps} step{'' if self.n_steps == 1 else 's'}, {self.status.value}"

    @property
    def final(self) -> Step:
        """The step that led to `model`."""
        return min(self.history, key=lambda step: step.judged)

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
        """Largest share of held-out labels predicted correctly after a step, or at a lone start."""
        return max(step.share for step in self.history[1:] or self.history)


@runtime_checkable
class Solver(Protocol):
    """An object with the settings of a minimisation, which it runs.

    `GaussNewton` is for squared errors from a start as good as moments give, `LevenbergMarquardt`
    for squared errors from starts that are far away, `LBFGS` for every loss.
    """

    @property
    def name(self) -> str:
        """Name that reports show."""

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
        """Minimise a loss over the free weights.

        Parameters
        ----------
        loss : Loss
        model : IORNN or BRNN
            The start.
        layout : Layout
            The free weights.
        engine : Engine
        data : Source or Subset
            What the weights are fitted to.
        held_out : Source or Subset, optional
            What they are judged by. The start must not have been fitted to it.
        progress : callable, optional
            Called with (step, loss per row, share correct) for the start (step 0) and after each
            step, on held-out data where there are any; the share is NaN without labels.

        Returns
        -------
        Solution

        Raises
        ------
        ValueError
            If the solver cannot minimise this loss, or cannot use such data.
        """


class Trace:
    """Records the start and the steps of a minimisation, and keeps the model of least loss."""

    def __init__(self, clock: Callable[[], float], progress: Progress | None = None) -> None:
        self._clock, self._progress, self._begin = clock, progress, clock()
        self.steps: list[Step] = []
        self._best_at = 0
        self._best: Network
        self._squares: Array | None = None
        self._start_squares: Array | None = None

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return len(self.steps) - 1

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begin

    @property
    def waited(self) -> int:
        """Steps since the best one."""
        return self.n_steps - self._best_at

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
        step = Step(self.seconds, loss, held_out, share)
        if not self.steps:
            self._start_squares = squares
        if not self.steps or step.judged < self.steps[self._best_at].judged:
            self._best_at, self._best, self._squares = len(self.steps), model, squares
        self.steps.append(step)
        if self._progress is not None:
            self._progress(self.n_steps, step.judged, share)

    def rescale(self, loss: float) -> None:
        """Scale all losses, which are those on a part of the data, so that the last is `loss`."""
        scale = loss / max(self.steps[-1].loss, np.finfo(np.float64).tiny)
        self.steps = [replace(step, loss=scale * step.loss) for step in self.steps]

    def solution(self, status: RefinementStatus, n_rows: float) -> Solution:
        """Solution with the best model."""
        steps = tuple(self.steps)
        return Solution(self._best, status, n_rows, steps, self._squares, self._start_squares)


def refuse_other_losses(solver: str, loss: Loss) -> None:
    """Raise an error where a solver for squared errors is given another loss."""
    outputs, targets = np.zeros((1, 2)), np.array([[1.0, 3.0]])
    squares = loss.least_squares and np.allclose(loss.rows(outputs, targets)[1], targets)
    if not squares:
        raise ValueError(
            f"{solver} cannot minimise `loss`, the {loss.name}: it needs half a sum of squared "
            f"residuals (`SquaredError`). Use `LBFGS`, which takes every loss"
        )
