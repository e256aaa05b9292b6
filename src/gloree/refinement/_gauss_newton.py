"""Gauss-Newton on the squared prediction error: exact gradients, J^T J from a part of the data."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree.engine import Engine, Selection, Source
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import Curvature, hessian_rows, n_segments_of
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._matrix import Matrix
from gloree.refinement._products import Products
from gloree.refinement._sensitivities import (
    GradientSums,
    SquareSums,
    gradient_sums,
    square_sums,
)
from gloree.refinement._solution import Progress, RefinementStatus, Solution, Step, Trace
from gloree.refinement._solvers import refuse_other_losses
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


@dataclass(frozen=True)
class GaussNewton:
    r"""Minimise sum |y - y^|^2 from a consistent start.

    One step :math:`(J^T J)^{-1} J^T r` from a root-N-consistent start is as good, asymptotically,
    as the least-squares estimate (Le Cam's one-step estimator). J^T J comes from a stratified
    subsample, the gradient from all data, so a few steps are taken; between them J^T J is
    corrected by the BFGS formula from the gradients seen, and computed anew where the error did
    not fall as predicted. Where there are many data, the descent begins on a part of them.

    Parameters
    ----------
    to_convergence : bool, default False
        False: until no combination of weights is farther from the minimum than a part of its
        standard error, which takes two to four steps from a good start. True: until nothing falls
        any more.
    max_steps : int, optional
        Default 30, or 100 to convergence. With a number the descent does not begin on a part of the
        data.

    Notes
    -----
    The free scale of each unit (monomial activations) is fixed by keeping a_i on its sphere. A
    step that raises the error, or makes the recurrence explode, is shortened; nothing is accepted
    that is worse than the start.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, datasets
    >>> from gloree.refinement import GaussNewton
    >>> X, Y, truth, _ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    >>> est = SpectralRNNRegressor(2, refine=GaussNewton(max_steps=20), random_state=0)
    >>> bool(est.fit(X, Y).score(X, Y) > 0.9)
    True
    """

    to_convergence: bool = False
    max_steps: int | None = None

    @property
    def name(self) -> str:
        """Name of the stage, as reports show it."""
        return "Gauss-Newton" if self.to_convergence else "one step"

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
        ValueError
            If the loss is no sum of squares, or there are held-out data.
        TypeError
            If the data are a subset.
        """
        refuse_other_losses("Gauss-Newton", loss)
        if held_out is not None:
            raise ValueError(
                "Gauss-Newton takes no `held_out` data: it ends where statistical error begins. "
                "Use `LevenbergMarquardt` or `LBFGS` to stop a search by them"
            )
        if not isinstance(data, Source):
            raise TypeError(
                f"Gauss-Newton takes J^T J from segments of a Source, and `data` is of type "
                f"{type(data).__name__}: give the source, or use `LevenbergMarquardt`"
            )
        limit = self.max_steps
        if limit is None:
            limit = 100 if self.to_convergence else 30
        trace = Trace(time.perf_counter, progress)
        efficient = max(EFFICIENT, EFFICIENT_EACH * layout.size)
        descent = _Descent(layout, engine, data, CONVERGED if self.to_convergence else efficient)
        rows = max(FIRST_ROWS, FIRST_ROWS_PER_PARAMETER * layout.size, data.data.n_rows // 16)
        stride = data.data.n_rows // rows
        if stride < FIRST_STRIDE or self.max_steps is not None:
            start, end = descent.run(model, limit, trace)
            return _solution(end, start.squares, trace.steps)
        part = replace(data, stride=stride)
        on_part = replace(descent, source=part, tolerance=FIRST_TOLERANCE * layout.size)
        began, ended = on_part.run(model, limit, trace)
        n_noted = len(trace.steps)
        start, end = descent.run(ended.model, limit, trace)
        # the squared errors of the first steps on all data, by what they gained on their part of it
        tiny = np.finfo(np.float64).tiny
        gained = began.squares / np.maximum(ended.squares, tiny)
        scale = start.loss / max(ended.loss, tiny)
        first = [replace(step, loss=scale * step.loss) for step in trace.steps[:n_noted]]
        return _solution(end, gained * start.squares, first + trace.steps[n_noted:])


@dataclass(frozen=True)
class _State:
    """Where a descent stands."""

    model: Network
    current: GradientSums  # at the model; after a last step, at the one before
    squares: Array  # of the model
    curvature: Curvature
    n_steps: int = 0
    age: int = 0  # steps since J^T J was computed
    stale: bool = False  # whether it has to be computed anew
    damping: float = 1e-9
    before: float = 0.0  # what the step before gained, if it did as expected
    status: RefinementStatus | None = None

    @property
    def total(self) -> float:
        """Squared error of all outputs."""
        return float(self.squares.sum())

    @property
    def loss(self) -> float:
        """Half the squared error of a row."""
        return self.total / 2 / self.current.n_rows


def _solution(end: _State, start_squares: Array, steps: list[Step]) -> Solution:
    return Solution(
        end.model,
        end.status or RefinementStatus.STEP_LIMIT,
        len(steps) - 1,
        end.current.n_rows,
        steps[-1],
        tuple(steps),
        end.squares,
        start_squares,
        end.curvature.hessian,
    )


@dataclass(frozen=True)
class _Descent:
    """Steps on one set of data until `tolerance` is left to gain, in units of the noise variance.

    With `CONVERGED`, the J^T J that decides is one at the very model. Otherwise what a step will
    leave is foreseen: with a J^T J that is off by a fraction, each step gains the square of that
    fraction of what the one before gained. The gradient pass that would only confirm this is saved;
    the squared error has to fall by what the step was to gain.
    """

    layout: Layout
    engine: Engine
    source: Source
    tolerance: float

    def run(self, model: Network, limit: int, trace: Trace) -> tuple[_State, _State]:
        """Descend for at most so many steps; return where it started and ended."""
        model, current = finite_start(model, self.layout, self.engine, self.source)
        start = _State(model, current, current.squares, self._curvature(model, current))
        if not trace.steps:
            trace.note(model, start.loss)
        state = start
        while state.status is None and state.n_steps < limit:
            before, state = state, self.step(state)
            if state.n_steps > before.n_steps:
                trace.note(state.model, state.loss)
        return start, state

    def step(self, state: _State) -> _State:
        """Take a step, or damp it for the next try, or end the descent."""
        if state.stale:
            curvature = self._curvature(state.model, state.current)
            state = replace(state, curvature=curvature, age=0, stale=False)
        step = state.curvature.step(state.model, state.current.gradient, state.damping)
        ended = self._ended(state, step)
        return self._searched(state, step) if ended is None else ended

    def _curvature(self, model: Network, current: GradientSums) -> Curvature:
        curve: type[Matrix] | type[Products] = Products
        if self.layout.size <= MOST_WEIGHTS:
            curve = Matrix
        return curve(model, self.layout, self.engine, self.source, current)

    def _ended(self, state: _State, step: Array) -> _State | None:
        """The end, with the step if that is the last; None if there is more to gain."""
        if state.damping > 1e-6:
            return None
        gain = float(step @ state.current.gradient)
        variance = max(state.total / state.current.n_rows / self.layout.n_outputs, 1e-300)
        worth = gain / variance
        reached = worth <= self.tolerance
        if self.tolerance <= CONVERGED:
            exact = reached and state.age == 0
            return replace(state, status=RefinementStatus.CONVERGED) if exact else None
        pace = min(gain / state.before, 1.0) if state.before > 0.0 else 1.0
        if not reached and worth * pace > FORESEEN * self.tolerance:
            return None
        if worth > NEGLIGIBLE:
            moved = self.layout.move(state.model, step)
            last = _squares_at(moved, self.engine, self.source)
            fall = -np.inf if last is None else state.total - float(last.squares.sum())
            if last is not None and (fall >= 0 if reached else _as_expected(fall, gain)):
                state = replace(state, model=moved, squares=last.squares, n_steps=state.n_steps + 1)
                reached = True
        return replace(state, status=RefinementStatus.EFFICIENT) if reached else None

    def _searched(self, state: _State, step: Array) -> _State:
        """Take what the line search finds; where it finds nothing, damp more or renew J^T J."""
        model, current = state.model, state.current
        found = line_search(model, self.layout, self.engine, self.source, step, current)
        if found is None:
            if state.age > 0:
                return replace(state, stale=True)
            if state.damping <= 1e3:
                return replace(state, damping=max(state.damping, 1e-6) * 100)
            moved = state.n_steps > 0
            status = RefinementStatus.CONVERGED if moved else RefinementStatus.NO_DECREASE
            return replace(state, status=status)
        model, after, fraction = found
        gain = float(step @ current.gradient)
        fall = state.total - float(after.squares.sum())
        poor = fraction < 1 or not _as_expected(fall, gain)
        state.curvature.correct(fraction * step, current.gradient - after.gradient)
        return _State(
            model,
            after,
            after.squares,
            state.curvature,
            n_steps=state.n_steps + 1,
            age=state.age + 1,
            stale=poor or state.age + 1 >= MAX_AGE,
            damping=max(state.damping / (1 if poor else 100), 1e-9),
            before=0.0 if poor else gain,
            status=RefinementStatus.CONVERGED if fall <= 1e-12 * state.total else None,
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
