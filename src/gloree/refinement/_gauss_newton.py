"""Gauss-Newton on the squared prediction error: exact gradients, J^T J from a part of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial

import numpy as np

from gloree.engine import Engine, Source
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import Curvature, hessian_rows, n_segments_of
from gloree.refinement._layout import Layout
from gloree.refinement._matrix import Matrix
from gloree.refinement._products import Products
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    SquareSums,
    gradient_sums,
    square_sums,
)
from gloree.sequences import Array

MOST_WEIGHTS = 1500
"""Weights up to which J^T J is formed as a matrix: 10 seconds, and standard errors with it."""

NEGLIGIBLE = 1e-4
"""A last step that gains less than this, in units of the noise variance, is not taken."""

FIRST_ROWS = 80_000
"""Rows of the part of the data on which the descent begins, at least."""

FIRST_ROWS_PER_PARAMETER = 20
"""Rows of that part for each free parameter, at least; it is a sixteenth of the data otherwise."""

FIRST_STRIDE = 4
"""The descent begins on a part if that is at most so small a fraction of the data."""

FIRST_TOLERANCE = 1.0
"""The descent on that part ends when a step gains less than this for each weight, what its
statistical error is worth: three times as much, at least, is left for all of the data to gain."""

CONVERGED = 1e-8
"""Gain of a step, in units of the noise variance, at which nothing falls any more."""

MAX_AGE = 5
"""Steps after which J^T J is computed anew."""

EFFICIENT, EFFICIENT_EACH = 0.25, 1e-3
"""Steps end with one that gains less than this, or this for each weight if that is more, in units
of the noise variance: it moves no combination of weights by more than the root of that, in standard
errors."""

FORESEEN = 0.2
"""A step is the last, too, if by the pace of the one before it will leave this fraction of that."""


class RefinementStatus(Enum):
    """How a refinement ended."""

    EFFICIENT = "the rest is far below the statistical error"
    CONVERGED = "no further decrease within rounding"
    STEP_LIMIT = "stopped at the limit of steps"
    TIME_LIMIT = "stopped at the limit of time"
    HELD_OUT = "held-out data gain no more"
    NO_DECREASE = "no step lowered the error: the start is kept"


@dataclass(frozen=True)
class Refinement:
    """Outcome of `gauss_newton`.

    Attributes
    ----------
    model : IORNN
    status : RefinementStatus
    n_steps : int
        Steps accepted.
    squares : ndarray of shape (n_outputs,)
        Sum of squared residuals of each output.
    n_rows : float
        Rows behind it.
    start_squares : ndarray of shape (n_outputs,)
        The same at the start.
    history : tuple of float
        Total sum of squares, start first.
    hessian : HessianSums or None
        Of the last Hessian pass, scaled to all the data; None if there are too many weights.
    """

    model: Network
    status: RefinementStatus
    n_steps: int
    squares: Array
    n_rows: float
    start_squares: Array
    history: tuple[float, ...]
    hessian: HessianSums | None = field(repr=False)


def gauss_newton(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    *,
    to_convergence: bool = False,
    max_steps: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    r"""Minimise sum |y - y^|^2 from a consistent start.

    One step :math:`(J^T J)^{-1} J^T r` from a root-N-consistent start is as good, asymptotically,
    as the least-squares estimate (Le Cam's one-step estimator). J^T J comes from a stratified
    subsample, the gradient from all data, so a few steps are taken; between them J^T J is
    corrected by the BFGS formula from the gradients seen, and computed anew where the error did
    not fall as predicted. Where there are many data, the descent begins on a part of them.

    Parameters
    ----------
    model : IORNN
        The start.
    layout : Layout
    engine, source
    to_convergence : bool, default False
        False: until no combination of weights is farther from the minimum than a part of its
        standard error, which takes two to four steps from a good start. True: until nothing falls
        any more.
    max_steps : int, optional
        Default 30, or 100 to convergence. With a number the descent does not begin on a part of the
        data.
    progress : callable, optional
        Called with (step, sum of squares) after each accepted step.

    Returns
    -------
    Refinement

    Notes
    -----
    The free scale of each unit (monomial activations) is fixed by keeping a_i on its sphere. A
    step that raises the error, or makes the recurrence explode, is shortened; nothing is accepted
    that is worse than the start.
    """
    limit = max_steps if max_steps is not None else (100 if to_convergence else 30)
    efficient = max(EFFICIENT, EFFICIENT_EACH * layout.size)
    tolerance = CONVERGED if to_convergence else efficient
    rows = max(FIRST_ROWS, FIRST_ROWS_PER_PARAMETER * layout.size, source.data.n_rows // 16)
    stride = source.data.n_rows // rows
    if stride < FIRST_STRIDE or max_steps is not None:
        return _descend(model, layout, engine, source, tolerance, limit, progress)
    some = replace(source, stride=stride)
    first = _descend(model, layout, engine, some, FIRST_TOLERANCE * layout.size, limit, progress)

    def later(step: int, value: float) -> None:
        if progress is not None:
            progress(first.n_steps + step, value)

    second = _descend(first.model, layout, engine, source, tolerance, limit, later)
    # the squared errors of the first steps on all data, by what they gained on their part of it
    tiny = np.finfo(np.float64).tiny
    scale = second.history[0] / max(first.history[-1], tiny)
    gained = first.start_squares / np.maximum(first.squares, tiny)
    return replace(
        second,
        n_steps=first.n_steps + second.n_steps,
        start_squares=gained * second.start_squares,
        history=(*(scale * value for value in first.history), *second.history[1:]),
    )


def _descend(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    tolerance: float,
    limit: int,
    progress: Callable[[int, float], None] | None,
) -> Refinement:
    """Descend on one set of data until `tolerance` is left to gain, in units of the noise variance.

    With `CONVERGED`, the J^T J that decides is one at the very model. Otherwise what a step will
    leave is foreseen: with a J^T J that is off by a fraction, each step gains the square of that
    fraction of what the one before gained. The gradient pass that would only confirm this is saved;
    the squared error has to fall by what the step was to gain.
    """
    to_convergence = tolerance <= CONVERGED
    model, current = finite_start(model, layout, engine, source)
    curve: type[Matrix] | type[Products] = Matrix if layout.size <= MOST_WEIGHTS else Products
    curvature: Curvature = curve(model, layout, engine, source, current)
    age, damping = 0, 1e-9
    before = 0.0  # what the step before gained, if it did as expected
    squares = start_squares = current.squares
    history = [float(start_squares.sum())]
    status = RefinementStatus.STEP_LIMIT

    def kept(squares: Array) -> None:
        """Note a step that was taken."""
        history.append(float(squares.sum()))
        if progress is not None:
            progress(len(history) - 1, history[-1])

    while len(history) <= limit:
        step = curvature.step(model, current.gradient, damping)
        gain = float(step @ current.gradient)
        variance = max(history[-1] / current.n_rows / layout.n_outputs, 1e-300)
        worth = gain / variance
        pace = min(gain / before, 1.0) if before > 0.0 else 1.0
        reached, undamped = worth <= tolerance, damping <= 1e-6
        if to_convergence and reached and undamped and age == 0:
            status = RefinementStatus.CONVERGED
            break
        if not to_convergence and undamped and (reached or worth * pace <= FORESEEN * tolerance):
            moved = layout.move(model, step)
            last = _squares_at(moved, engine, source) if worth > NEGLIGIBLE else None
            fall = history[-1] - float(last.squares.sum()) if last is not None else -np.inf
            if last is not None and (fall >= 0 if reached else _as_expected(fall, gain)):
                model, squares, reached = moved, last.squares, True
                kept(squares)
            if reached:
                status = RefinementStatus.EFFICIENT
                break
        found = line_search(model, layout, engine, source, step, current)
        if found is None and age == 0:
            if damping > 1e3:
                status = RefinementStatus.CONVERGED if history[1:] else RefinementStatus.NO_DECREASE
                break
            damping = max(damping, 1e-6) * 100
            continue
        poor = True
        if found is not None:
            moved, after, fraction = found
            fall = history[-1] - float(after.squares.sum())
            poor = fraction < 1 or not _as_expected(fall, gain)
            before = 0.0 if poor else gain
            curvature.correct(fraction * step, current.gradient - after.gradient)
            damping = max(damping / (1 if poor else 100), 1e-9)
            model, current, age = moved, after, age + 1
            squares = current.squares
            kept(squares)
            if fall <= 1e-12 * history[-1]:
                status = RefinementStatus.CONVERGED
                break
        if (poor or age >= MAX_AGE) and len(history) <= limit:
            curvature, age = curve(model, layout, engine, source, current), 0
    return Refinement(
        model,
        status,
        len(history) - 1,
        squares,
        current.n_rows,
        start_squares,
        tuple(history),
        curvature.hessian,
    )


def _as_expected(fall: float, gain: float) -> bool:
    """Whether the squared error fell by about as much as a step was to gain."""
    return 0.5 * gain < fall < 2.0 * gain


def _squares_at(model: Network, engine: Engine, source: Source) -> SquareSums | None:
    """Squared error of a model in a pass without derivatives; None if it explodes."""
    try:
        return engine.run(partial(square_sums, model=model), source, label="squares")
    except ExplosionError:
        return None


def finite_start(
    model: Network, layout: Layout, engine: Engine, source: Source
) -> tuple[Network, GradientSums]:
    """Halve U until no sequence explodes: a fit to part of the data may do so on the rest."""
    U = model.recurrent_weights
    for shrink in (1.0, 0.5, 0.25, 0.125, 0.0):
        start = model.replace(recurrent_weights=shrink * U)
        try:
            return start, gradient_pass(start, layout, engine, source)
        except ExplosionError:
            if shrink == 0.0:
                raise
    raise AssertionError("unreachable")


def line_search(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    step: Array,
    current: GradientSums,
) -> tuple[Network, GradientSums, float] | None:
    """Shorten a step (1, 1/3, 1/9, ..) until it lowers the error; None if six tries do not."""
    before = float(current.squares.sum())
    fraction = 1.0
    for _ in range(6):
        moved = layout.move(model, fraction * step)
        try:
            after = gradient_pass(moved, layout, engine, source)
        except ExplosionError:
            after = None
        if after is not None and float(after.squares.sum()) <= before:
            return moved, after, fraction
        fraction /= 3.0
    return None


def gradient_pass(model: Network, layout: Layout, engine: Engine, source: Source) -> GradientSums:
    """Squared error, J^T r and the segments of largest leverage that `hessian_pass` may want."""
    n_largest = 2 * n_segments_of(source, hessian_rows(layout, source.n_rows) // 2)
    function = partial(gradient_sums, model=model, layout=layout, n_largest=n_largest)
    return engine.run(function, source, label="J^T r")
