"""Gauss-Newton on the squared error: exact gradients, and J^T J from a part of the data."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._parameters import check_flag, check_number, optional_integer
from gloree.engine import Engine, Selection, Source
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import Matrix, hessian_rows, n_segments_of
from gloree.refinement._enough import RENEWED, STEADY, has_kinks
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss, SquaredError
from gloree.refinement._products import Products
from gloree.refinement._sensitivities import (
    GradientSums,
    SquaresAndProducts,
    SquareSums,
    gradient_sums,
    residual_sums,
)
from gloree.refinement._solvers import (
    Progress,
    RefinementStatus,
    Solution,
    Trace,
    refuse_other_losses,
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
"""The descent begins on a part only if it is at most a fourth of the data."""

FIRST_TOLERANCE = 1.0
"""The descent on that part ends when a step gains less than this for each weight, which is what the
statistical error is worth: all of the data can still gain three times as much, at least."""

CONVERGED = 1e-8
"""Gain of a step, in units of the noise variance, below which the error falls no more."""

SETTLED = 3.0
"""Times the tolerance: a step across kinks that gains no more, and not as predicted, is the last
one. All the next ones together would gain about as much."""

MAX_AGE = 5
"""Steps after which J^T J is computed anew, unless the gains of steps still fall fast."""

EFFICIENT, EFFICIENT_EACH = 0.25, 1e-3
"""The last step gains less than the first number, or the second for each weight if that is more,
in units of the noise variance: it moves no combination of weights by more than the root of that, in
standard errors."""

LITTLE = 0.1
"""Part of the squared error, at most, that steps among rounding gain."""

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Residuals, over the size of the outputs, that are rounding of the passes: a step from there gains
by chance."""

FORESEEN = 0.2
"""A step is the last, too, if it is expected to leave less than this fraction of that to gain."""


@dataclass(frozen=True)
class GaussNewton:
    r"""Minimise sum |y - y^|^2 from a consistent start.

    One step :math:`(J^T J)^{-1} J^T r` from a root-N-consistent start is as good, asymptotically,
    as the least-squares estimate (Le Cam's one-step estimator). J^T J comes from a stratified
    subsample, the gradient from all data, so a few steps are taken. Between them J^T J is
    corrected by the BFGS formula from the gradients, and computed anew where the error did not
    fall as predicted. On large data sets the descent begins on a part of the data.

    Parameters
    ----------
    to_convergence : bool, default False
        False: stop once no combination of weights is farther from the minimum than a part of its
        standard error, which takes two to four steps from a good start. True: stop when the error
        falls no more.
    max_steps : int, optional
        Default 30, or 100 to convergence; 0 gives the start back. If given, the descent uses all of
        the data from the first step on.
    enough : float, optional
        Noise variances of the sum of squares that may be left to gain at the end; by default 0.25,
        or a thousandth for each weight if that is more, and none to convergence.

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
    enough: float | None = None

    def __post_init__(self) -> None:
        check_flag("to_convergence", self.to_convergence)
        optional_integer("max_steps", self.max_steps, 0)
        if self.enough is not None:
            check_number("enough", self.enough, above=0.0)

    @property
    def name(self) -> str:
        """Name that reports show."""
        return "Gauss-Newton" if self.to_convergence else "one step"

    @property
    def most_steps(self) -> int:
        """Limit of steps."""
        default = 100 if self.to_convergence else 30
        return default if self.max_steps is None else self.max_steps

    def from_near(self) -> GaussNewton:
        """The same for a start near the optimum: all of the data from the first step on."""
        return replace(self, max_steps=self.most_steps)

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

        Other losses and held-out data raise a ValueError, a subset of the data a TypeError.
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
        limit = self.most_steps
        efficient = self.enough or max(EFFICIENT, EFFICIENT_EACH * layout.size)
        descent = _Descent(layout, engine, data, CONVERGED if self.to_convergence else efficient)
        trace, gained = Trace(time.perf_counter, progress), np.ones(layout.n_outputs)
        rows = max(FIRST_ROWS, FIRST_ROWS_PER_PARAMETER * layout.size, data.data.n_rows // 16)
        stride = data.data.n_rows // rows
        if stride >= FIRST_STRIDE and self.max_steps is None:
            part, enough = replace(data, stride=stride), FIRST_TOLERANCE * layout.size
            first, end = replace(descent, source=part, tolerance=enough).run(model, limit, trace)
            tiny = np.finfo(np.float64).tiny
            model, gained = end.model, first / np.maximum(end.squares.squares, tiny)
            del end  # and the rows that its J^T J keeps
        first, end = descent.run(model, limit, trace)
        status = end.status or RefinementStatus.STEP_LIMIT
        squares, steps = (end.squares.squares, gained * first), tuple(trace.steps)
        last, hessian = end.squares, end.curvature.hessian
        products = last.products if isinstance(last, SquaresAndProducts) else None
        return Solution(end.model, status, end.current.n_rows, steps, *squares, hessian, products)


@dataclass(frozen=True)
class _State:
    """Where a descent stands.

    `current` is the gradient at the model (after a last step, at the one before), `age` the steps
    since J^T J was computed, `stale` whether it has to be computed anew, `before` what the previous
    step gained if that was as expected, and zero if not; `status` is set at the end.
    """

    model: Network
    current: GradientSums
    squares: SquareSums
    curvature: Matrix | Products
    n_steps: int = 0
    age: int = 0
    stale: bool = False
    damping: float = 1e-9
    before: float = 0.0
    status: RefinementStatus | None = None


@dataclass(frozen=True)
class _Descent:
    """Steps on one set of data until `tolerance` is left to gain, in units of the noise variance.

    With `CONVERGED`, the J^T J that decides is that of the very model. Otherwise what a step will
    leave is predicted: with a J^T J that is off by a fraction, each step gains the square of that
    fraction of what the one before gained. This saves the gradient pass that would only confirm it;
    the squared error has to fall by as much as predicted.
    """

    layout: Layout
    engine: Engine
    source: Source
    tolerance: float

    def run(self, model: Network, limit: int, trace: Trace) -> tuple[Array, _State]:
        """Squared errors of the start, and the state after at most `limit` steps."""
        model, current = self.finite_start(model)
        state = _State(model, current, current, self._curvature(model, current))
        if trace.steps:
            trace.rescale(current.total / 2 / current.n_rows)
        else:
            trace.note(model, current.total / 2 / current.n_rows)
        while state.status is None and state.n_steps < limit:
            taken, state = state.n_steps, self.step(state)
            if state.n_steps > taken:
                trace.note(state.model, state.squares.total / 2 / current.n_rows)
        return current.squares, state

    def step(self, state: _State) -> _State:
        """Take a step, damp it more for the next try, or end the descent."""
        if state.stale:
            curvature = self._curvature(state.model, state.current)
            state = replace(state, curvature=curvature, age=0, stale=False)
        step = state.curvature.step(state.model, state.current.gradient, state.damping)
        if state.age > 0 and float(step @ state.current.gradient) > RENEWED * state.before > 0.0:
            return replace(state, stale=True)
        ended = self._ended(state, step)
        return self._searched(state, step) if ended is None else ended

    def _curvature(self, model: Network, current: GradientSums) -> Matrix | Products:
        given = (model, self.layout, self.engine, self.source, current)
        return Matrix(*given) if self.layout.size <= MOST_WEIGHTS else Products(*given)

    def _ended(self, state: _State, step: Array) -> _State | None:
        """The end, after the step if that is the last; None if there is more to gain."""
        if state.damping > 1e-6:
            return None
        gain = float(step @ state.current.gradient)
        before = state.squares.total
        variance = max(before / state.current.n_rows / self.layout.n_outputs, 1e-300)
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
            last = self.squares(moved)
            fall = -np.inf if last is None else before - last.total
            if last is not None and (fall >= 0 if reached else _as_expected(fall, gain)):
                state = replace(state, model=moved, squares=last, n_steps=state.n_steps + 1)
                reached = True
        return replace(state, status=RefinementStatus.EFFICIENT) if reached else None

    def _searched(self, state: _State, step: Array) -> _State:
        """Take what the line search finds; where it finds nothing, damp more or renew J^T J."""
        current = state.current
        found = self.line_search(state.model, step, current)
        if found is None:
            if state.age > 0:
                return replace(state, stale=True)
            if state.damping <= 1e3:
                return replace(state, damping=max(state.damping, 1e-6) * 100)
            nothing, status = RefinementStatus.NO_DECREASE, RefinementStatus.CONVERGED
            return replace(state, status=status if state.n_steps > 0 else nothing)
        model, after, fraction = found
        gain, fall = float(step @ current.gradient), state.squares.total - after.total
        poor = fraction < 1 or not _as_expected(fall, gain)
        converged = fall <= 1e-12 * state.squares.total
        settled = poor and self._is_little(fall, state)
        if poor and state.age == 0 and fall <= LITTLE * state.squares.total:
            converged = converged or after.total <= self.rounding(model)
        state.curvature.correct(fraction * step, current.gradient - after.gradient)
        return _State(
            model,
            after,
            after,
            state.curvature,
            n_steps=state.n_steps + 1,
            age=state.age + 1,
            stale=poor or (state.age + 1 >= MAX_AGE and gain > STEADY * state.before),
            damping=max(state.damping / (1 if poor else 100), 1e-9),
            before=0.0 if poor else gain,
            status=_ended(converged, settled),
        )

    def _is_little(self, fall: float, state: _State) -> bool:
        """Whether a step of rectifiers has gained about what the descent may leave.

        Across their kinks steps never gain what J^T J predicts, if it is new or did well in the
        step before. Of smooth units small gains, if they are not as predicted, are those along a
        valley that leads on.
        """
        if not has_kinks(state.model.activation) or (state.age > 0 and not state.before):
            return False
        variance = state.squares.total / state.current.n_rows / self.layout.n_outputs
        return self.tolerance > CONVERGED and fall <= SETTLED * self.tolerance * variance

    def squares(self, model: Network) -> SquareSums | None:
        """Squared error of a model in a pass without derivatives; None if it explodes."""
        function = partial(residual_sums, model=model)
        try:
            found = self.engine.run(function, self.source, label="squares")
        except ExplosionError:
            return None
        return SquaresAndProducts(found.n_rows, np.diag(found.products), found.products)

    def rounding(self, model: Network) -> float:
        """Squared error that rounding leaves of outputs of this size: a pass."""
        names = ("output_weights", "output_bias", "direct_weights")
        given = {name: getattr(model, name) for name in names}
        nothing = {name: 0.0 * value for name, value in given.items() if value is not None}
        outputs = self.squares(model.replace(**nothing))
        return 0.0 if outputs is None else ROUNDING**2 * outputs.total

    def gradient(self, model: Network) -> GradientSums:
        """Squared error, J^T r, and the segments of largest leverage that J^T J may need."""
        rows = hessian_rows(self.layout, self.source.n_rows) // 2
        n_largest = 2 * n_segments_of(self.source, rows)
        function = partial(gradient_sums, model=model, layout=self.layout, n_largest=n_largest)
        return self.engine.run(function, self.source, label="J^T r")

    def finite_start(self, model: Network) -> tuple[Network, GradientSums]:
        """Halve U until no sequence explodes: a fit to part of the data may do so on the rest."""
        for shrink in (1.0, 0.5, 0.25, 0.125):
            start = model.replace(recurrent_weights=shrink * model.recurrent_weights)
            try:
                return start, self.gradient(start)
            except ExplosionError:
                continue
        start = model.replace(recurrent_weights=0.0 * model.recurrent_weights)
        return start, self.gradient(start)

    def line_search(
        self, model: Network, step: Array, current: GradientSums
    ) -> tuple[Network, GradientSums, float] | None:
        """Shorten a step (1, 1/3, 1/9, ..) until the error falls; None if six tries do not help."""
        fraction = 1.0
        for _ in range(6):
            moved = self.layout.move(model, fraction * step)
            try:
                after = self.gradient(moved)
            except ExplosionError:
                after = None
            if after is not None and after.total <= current.total:
                return moved, after, fraction
            fraction /= 3.0
        return None


def _ended(converged: bool, settled: bool) -> RefinementStatus | None:
    if converged:
        return RefinementStatus.CONVERGED
    return RefinementStatus.EFFICIENT if settled else None


def _as_expected(fall: float, gain: float) -> bool:
    """Whether the squared error fell by about as much as a step was to gain."""
    return 0.5 * gain < fall < 2.0 * gain


def gauss_newton(
    model: Network,
    layout: Layout,
    engine: Engine,
    data: Selection,
    *,
    to_convergence: bool = False,
    max_steps: int | None = None,
) -> Solution:
    """Minimise the squared error by `GaussNewton`, in one call."""
    solver = GaussNewton(to_convergence, max_steps)
    return solver.minimise(SquaredError(), model, layout, engine, data)
