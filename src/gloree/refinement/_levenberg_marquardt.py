"""Levenberg-Marquardt on the simulation error: for starts that are far from the optimum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy import linalg

from gloree._sums import Sums
from gloree.engine import Engine, Selection
from gloree.models import ExplosionError, Network
from gloree.refinement._gauss_newton import RefinementStatus
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    gradient_sums,
    hessian_sums,
    square_sums,
)
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


@dataclass(frozen=True)
class Descent:
    """Outcome of `levenberg_marquardt`.

    Attributes
    ----------
    model : IORNN or BRNN
        The best one on held-out data, if there are any.
    status : RefinementStatus
    n_steps : int
        Steps accepted.
    mean_square : float
        Squared error a step, summed over outputs, on the data of the fit.
    held_out : float
        The same on held-out data (NaN without any).
    history : tuple of (float, float, float)
        Seconds, and both errors, after each accepted step.
    """

    model: Network
    status: RefinementStatus
    n_steps: int
    mean_square: float
    held_out: float
    history: tuple[tuple[float, float, float], ...]


def levenberg_marquardt(
    model: Network,
    layout: Layout,
    engine: Engine,
    data: Selection,
    *,
    free: Array | None = None,
    held_out: Selection | None = None,
    admit: Callable[[Network], Network] | None = None,
    max_steps: int = 200,
    max_seconds: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
    damping: float = 1e-3,
    progress: Callable[[int, float, float], None] | None = None,
) -> Descent:
    r"""Minimise sum |y - y^|^2 over the free weights.

    Steps solve :math:`(J^T J + \lambda D) s = J^T r` with exact J, D a slowly forgetting maximum
    of the diagonal of J^T J, and lambda from the ratio of actual to predicted gain. Directions
    that do not change the predictions (a change of state coordinates) are left to the damping.

    Parameters
    ----------
    model : IORNN or BRNN
        The start.
    layout : Layout
    engine : Engine
    data : Source or Subset
        What the weights are fitted to.
    free : ndarray of bool of shape (size,), optional
        Weights that may move; all by default.
    held_out : Source or Subset, optional
        What they are judged by.
    admit : callable, optional
        Maps the model after a step to an admissible one near it (of stable recurrence, say).
    max_steps : int, default 200
    max_seconds : float, optional
    clock : callable, optional
        Gives seconds; see `Clock` for a search that may go on from a checkpoint.
    damping : float, default 1e-3
        First lambda: small where the start is known to be close to the optimum.
    progress : callable, optional
        Called with (step, root mean square error, the same on held-out data).

    Returns
    -------
    Descent

    Raises
    ------
    ExplosionError
        If the start itself explodes.

    Notes
    -----
    Each step takes one pass for J^T r and J^T J, O(n_rows n_hidden^3 (n_inputs + n_hidden)^2), and
    about one forward pass. A keyboard interrupt ends the search and returns the best so far; with
    a checkpoint it ends the fit, which can go on from there.
    """
    begin = clock()
    chosen = np.flatnonzero(np.ones(layout.size, dtype=bool) if free is None else free)

    def mean_square(candidate: Network, where: Selection) -> float:
        try:
            sums = engine.run(partial(square_sums, model=candidate), where, label="squares")
        except ExplosionError:
            return math.inf
        value = float(sums.squares.sum()) / sums.n_rows
        return value if math.isfinite(value) else math.inf

    def normal(candidate: Network) -> NormalSums:
        return engine.run(
            partial(normal_sums, model=candidate, layout=layout),
            data,
            label="J^T J",
        )

    best, best_error, best_step = model, math.inf, 0
    history: list[tuple[float, float, float]] = []
    n_steps, seconds = 0, 0.0

    def note(candidate: Network, error: float) -> None:
        nonlocal best, best_error, best_step, seconds
        outside = math.nan if held_out is None else mean_square(candidate, held_out)
        judged = error if held_out is None else outside
        if judged < best_error:
            best, best_error, best_step = candidate, judged, n_steps
        seconds = clock() - begin
        history.append((seconds, error, outside))
        if progress is not None:
            progress(n_steps, math.sqrt(error), math.sqrt(outside))

    status = RefinementStatus.STEP_LIMIT
    try:
        sums = normal(model)
        n_rows = sums.gradient.n_rows
        error = float(sums.gradient.squares.sum()) / n_rows
        note(model, error)
        slow = 0
        worthless = WORTHLESS / (n_rows * layout.n_outputs)
        scale = np.zeros(chosen.size)
        while n_steps < max_steps:
            if seconds >= max_seconds:
                status = RefinementStatus.TIME_LIMIT
                break
            H = sums.hessian.hessian[np.ix_(chosen, chosen)] / n_rows
            g = sums.gradient.gradient[chosen] / n_rows
            scale = np.maximum(FORGET * scale, np.diag(H))
            scale = np.maximum(scale, 1e-12 * scale.max())
            moved: Network | None = None
            after = ratio = 0.0
            for _ in range(14):
                step = _damped_step(H, g, scale, damping)
                predicted = float(2.0 * step @ g - step @ H @ step)
                if damping <= UNDAMPED and predicted <= worthless * error:
                    break
                full = np.zeros(layout.size)
                full[chosen] = step
                candidate = layout.move(model, full)
                if admit is not None:
                    candidate = admit(candidate)
                after = mean_square(candidate, data)
                ratio = (error - after) / max(predicted, 1e-300)
                if ratio > 0.01:
                    moved = candidate
                    break
                damping = max(4.0 * damping, 1e-9)
            if moved is None:
                status = RefinementStatus.CONVERGED
                break
            damping = max(damping * (1 / 9 if ratio > 0.75 else 1 if ratio > 0.25 else 3), 1e-10)
            slow = slow + 1 if error - after < LEAST_GAIN * error else 0
            model, error, n_steps = moved, after, n_steps + 1
            note(model, error)
            if slow >= 5:
                status = RefinementStatus.CONVERGED
                break
            if n_steps - best_step >= PATIENCE:
                status = RefinementStatus.HELD_OUT
                break
            sums = normal(model)
    except KeyboardInterrupt:
        if not history or engine.checkpoint is not None:
            raise
    _, final, outside = min(history, key=lambda row: row[1] if held_out is None else row[2])
    return Descent(best, status, n_steps, final, outside, tuple(history))


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
