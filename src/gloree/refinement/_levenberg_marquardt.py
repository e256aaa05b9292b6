"""Levenberg-Marquardt on the simulation error: for starts that are far from the optimum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from gloree._sums import Sums
from gloree.engine import Engine, Selection
from gloree.models import ExplosionError, Network
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    SquareSums,
    gradient_sums,
    hessian_sums,
    square_sums,
)
from gloree.refinement._solution import Progress, RefinementStatus, Solution, Trace
from gloree.refinement._solvers import refuse_other_losses
from gloree.sequences import Array, Batch

FORGET = 0.9
"""What a step keeps of the diagonal that scales the damping."""

LEAST_GAIN = 1e-5
"""Steps that lower the error by less than this fraction are slow; five in a row end the search."""

UNDAMPED = 1e-8
"""Damping up to which a step says what there is left to gain."""

WORTHLESS = 0.01
"""A gain in the sum of squares of this many variances of a residual is none: what is left would
move no weight by more than a tenth of its standard error."""

PATIENCE = 25
"""Steps without a gain on held-out data after which the search ends."""


@dataclass(frozen=True)
class NormalSums(Sums):
    """J^T r and J^T J of one pass."""

    gradient: GradientSums = field(metadata={"nested": True})
    hessian: HessianSums = field(metadata={"nested": True})


def normal_sums(batch: Batch, model: Network, layout: Layout) -> NormalSums:
    """Sums of one batch: the gradient by the adjoint, J^T J by forward sensitivities."""
    return NormalSums(gradient_sums(batch, model, layout), hessian_sums(batch, model, layout))


@dataclass(frozen=True, eq=False)
class LevenbergMarquardt:
    r"""Minimise sum |y - y^|^2 from a start that may be far from the optimum.

    Steps solve :math:`(J^T J + \lambda D) s = J^T r` with exact J, D a slowly forgetting maximum
    of the diagonal of J^T J, and lambda from the ratio of actual to predicted gain. Directions
    that do not change the predictions (a change of state coordinates) are left to the damping.

    Parameters
    ----------
    max_steps : int, default 200
    max_seconds : float, optional
    damping : float, default 1e-3
        First lambda: small where the start is known to be close to the optimum.
    free : ndarray of bool of shape (size,), optional
        Weights that may move; all by default.
    admit : callable, optional
        Maps the model after a step to an admissible one near it (of stable recurrence, say).
    clock : callable, optional
        Gives seconds; see `gloree.engine.Clock` for a search that may go on from a checkpoint.

    Notes
    -----
    Each step takes one pass for J^T r and J^T J, O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), and
    about one forward pass. A keyboard interrupt ends the search and returns the best so far; with
    a checkpoint it ends the fit, which can go on from there.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.refinement import LevenbergMarquardt
    >>> X, Y, truth, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> est = SpectralRNNRegressor(2, refine=LevenbergMarquardt(max_steps=20), random_state=0)
    >>> bool(est.fit(X, Y).score(X, Y) > 0.9)
    True
    """

    max_steps: int = 200
    max_seconds: float = math.inf
    damping: float = 1e-3
    free: NDArray[np.bool_] | None = None
    admit: Callable[[Network], Network] | None = None
    clock: Callable[[], float] | None = None

    name: ClassVar[str] = "Levenberg-Marquardt"

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
        """Minimise half the sum of squares; see `Solver.minimise`.

        Raises
        ------
        ExplosionError
            If the start itself explodes.
        ValueError
            If the loss is no sum of squares.
        """
        refuse_other_losses(self.name, loss)
        trace = Trace(self.clock or time.perf_counter, progress)
        search = _Search(self, layout, engine, data, held_out, trace)
        status = RefinementStatus.STEP_LIMIT
        try:
            state = search.start(model)
            while state.status is None:
                state = search.step(state)
            status = state.status
        except KeyboardInterrupt:
            if not trace.steps or engine.checkpoint is not None:
                raise
        return trace.solution(status, search.n_rows)


@dataclass(frozen=True)
class _State:
    """Where a search stands."""

    model: Network
    sums: NormalSums
    error: float  # squared error of a row, summed over outputs
    damping: float
    scale: Array  # what the damping is multiplied by, for each free weight
    slow: int = 0  # steps in a row that gained little
    status: RefinementStatus | None = None


@dataclass(frozen=True)
class _Trial:
    """A step that lowers the error, by `ratio` times what it was to gain."""

    model: Network
    sums: SquareSums
    error: float
    damping: float
    ratio: float


class _Search:
    """The steps of one minimisation."""

    def __init__(
        self,
        solver: LevenbergMarquardt,
        layout: Layout,
        engine: Engine,
        data: Selection,
        held_out: Selection | None,
        trace: Trace,
    ) -> None:
        self.solver, self.layout, self.engine = solver, layout, engine
        self.data, self.held_out, self.trace = data, held_out, trace
        free = np.ones(layout.size, dtype=bool) if solver.free is None else solver.free
        self.chosen = np.flatnonzero(free)
        self.n_rows = math.nan

    def start(self, model: Network) -> _State:
        """Return the state at the start."""
        sums = self._normal(model)
        self.n_rows = sums.gradient.n_rows
        error = self._note(model, sums.gradient)
        return _State(model, sums, error, self.solver.damping, np.zeros(self.chosen.size))

    def step(self, state: _State) -> _State:
        """Take one step, or end the search."""
        trace = self.trace
        if trace.n_steps >= self.solver.max_steps:
            return replace(state, status=RefinementStatus.STEP_LIMIT)
        if trace.steps[-1].seconds >= self.solver.max_seconds:
            return replace(state, status=RefinementStatus.TIME_LIMIT)
        curvature = np.diag(state.sums.hessian.hessian)[self.chosen] / self.n_rows
        scale = np.maximum(FORGET * state.scale, curvature)
        state = replace(state, scale=np.maximum(scale, 1e-12 * scale.max()))
        trial = self._trial(state)
        if trial is None:
            return replace(state, status=RefinementStatus.CONVERGED)
        self._note(trial.model, trial.sums)
        slow = state.slow + 1 if state.error - trial.error < LEAST_GAIN * state.error else 0
        if slow >= 5:
            return replace(state, status=RefinementStatus.CONVERGED)
        if trace.n_steps - trace.best_at >= PATIENCE:
            return replace(state, status=RefinementStatus.HELD_OUT)
        factor = 1 / 9 if trial.ratio > 0.75 else 1 if trial.ratio > 0.25 else 3
        damping = max(trial.damping * factor, 1e-10)
        sums = self._normal(trial.model)
        return _State(trial.model, sums, trial.error, damping, state.scale, slow)

    def _trial(self, state: _State) -> _Trial | None:
        """Damp a step until it gains enough; None where it would gain nothing that matters."""
        H = state.sums.hessian.hessian[np.ix_(self.chosen, self.chosen)] / self.n_rows
        g = state.sums.gradient.gradient[self.chosen] / self.n_rows
        worthless = WORTHLESS / (self.n_rows * self.layout.n_outputs)
        damping = state.damping
        for _ in range(14):
            step = _damped_step(H, g, state.scale, damping)
            predicted = float(2.0 * step @ g - step @ H @ step)
            if damping <= UNDAMPED and predicted <= worthless * state.error:
                return None
            moved = self._moved(state.model, step)
            sums, error = self._squares(moved, self.data)
            ratio = (state.error - error) / max(predicted, 1e-300)
            if sums is not None and ratio > 0.01:
                return _Trial(moved, sums, error, damping, ratio)
            damping = max(4.0 * damping, 1e-9)
        return None

    def _moved(self, model: Network, step: Array) -> Network:
        """The admissible model after a step of the free weights."""
        full = np.zeros(self.layout.size)
        full[self.chosen] = step
        moved = self.layout.move(model, full)
        return moved if self.solver.admit is None else self.solver.admit(moved)

    def _normal(self, model: Network) -> NormalSums:
        function = partial(normal_sums, model=model, layout=self.layout)
        return self.engine.run(function, self.data, label="J^T J")

    def _squares(self, model: Network, data: Selection) -> tuple[SquareSums | None, float]:
        """Squared error, and that of a row; infinite where the model explodes."""
        try:
            sums = self.engine.run(partial(square_sums, model=model), data, label="squares")
        except ExplosionError:
            return None, math.inf
        error = _mean_square(sums)
        return sums, error if math.isfinite(error) else math.inf

    def _note(self, model: Network, sums: SquareSums | GradientSums) -> float:
        """Note the start or a step taken; return its squared error of a row."""
        error, outside = _mean_square(sums), math.nan
        if self.held_out is not None:
            _, outside = self._squares(model, self.held_out)
        self.trace.note(model, error / 2, sums.squares, held_out=outside / 2)
        return error


def _mean_square(sums: SquareSums | GradientSums) -> float:
    return float(sums.squares.sum()) / sums.n_rows


def _damped_step(H: Array, g: Array, scale: Array, damping: float) -> Array:
    """Solve (H + damping diag(scale)) s = g."""
    size = 1.0 / np.sqrt(scale)
    matrix = H * np.outer(size, size)
    matrix[np.diag_indices_from(matrix)] += damping
    try:
        factor = linalg.cho_factor(matrix, overwrite_a=True)
        solved: Array = size * linalg.cho_solve(factor, size * g)
        return solved
    except linalg.LinAlgError:
        matrix = H * np.outer(size, size) + damping * np.eye(g.shape[0])
        return np.asarray(size * np.linalg.lstsq(matrix, size * g, rcond=1e-12)[0])
