"""Levenberg-Marquardt on the simulation error: for starts that are far from the optimum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from gloree._brief import Brief
from gloree._parameters import check_callable, check_flag, check_integer, check_mask, check_number
from gloree._sums import Sums
from gloree.engine import Engine, Selection, Subset
from gloree.models import ExplosionError, Network
from gloree.refinement._curvature import Strata, hessian_rows, stratified_sums
from gloree.refinement._damping import damped_step
from gloree.refinement._enough import UNDAMPED, Taken, has_kinks, in_variances, worth_of
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._output_step import TwoOutputSums, output_sums, with_best_outputs
from gloree.refinement._search_state import OutOfTimeError, SearchState, mean_of
from gloree.refinement._search_sums import (
    NormalSums,
    counted_along,
    curved_sums,
    normal_sums,
)
from gloree.refinement._sensitivities import (
    HessianSums,
    SquareSums,
    gradient_sums,
    square_sums,
)
from gloree.refinement._solvers import (
    Progress,
    RefinementStatus,
    Solution,
    Trace,
    refuse_other_losses,
)
from gloree.sequences import Array, Batch, IntArray

SumsType = TypeVar("SumsType", bound=Sums)

FORGET = 0.9
"""Fraction of the diagonal that scales the damping which a step keeps."""

LEAST_GAIN = 1e-5
"""Steps that lower the error by less than this fraction are slow; five in a row end the search."""

WORTHLESS = 0.01
"""The search ends when less than this is left to gain in the sum of squares, in variances of a
residual: it would move no weight by more than a tenth of its standard error."""

PATIENCE = 25

FAITHFUL, POOR = 0.75, 0.25
"""Ratios of actual to predicted gain from which on the damping falls, and below which it grows."""

REACH = 0.1
"""Part of a step at which predictions are compared with the line, to tell how they curve."""

MOST_BENT = 0.75
"""Largest correction for curvature, over the step: beyond that the expansion says nothing."""


@dataclass(frozen=True, eq=False)
class LevenbergMarquardt(Brief):
    r"""Minimise sum |y - y^|^2 from a start that may be far from the optimum.

    Steps solve :math:`(J^T J + \lambda D) s = J^T r` with exact J, D a slowly forgetting maximum
    of the diagonal of J^T J, and lambda from the ratio of actual to predicted gain. To a step is
    added half of what makes up for the curvature of the predictions along it (geodesic
    acceleration [1]_), :math:`(J^T J + \lambda D)\, a = -J^T \hat y_{ss}`: along a curved valley
    damped steps are many times longer with it. Then the weights of the outputs, in which
    predictions are linear, take the same kind of step by themselves (variable projection [2]_).
    Directions that do not change the predictions (a change of state coordinates) are left to the
    damping. Where there are far more rows than weights, J^T J is of some of them: those of largest
    leverage, and a sample of the others. The gradient, the curvature along a step and the error are
    always of all rows.

    Parameters
    ----------
    max_steps : int, default 200
        0 gives the start back.
    max_seconds : float, optional
        No pass over the data begins after this; it may end as much later as a pass takes.
    damping : float, default 1e-3
        First lambda: small if the start is known to be close to the optimum.
    free : ndarray of bool of shape (size,), optional
        Weights that may move; all by default.
    admit : callable, optional
        Maps the model after a step to an admissible one near it (of stable recurrence, say).
    clock : callable, optional
        Gives seconds; see `gloree.engine.Clock` for a search that can resume from a checkpoint.
    patience : int, default 25
        Steps without a gain on held-out data after which the search ends.
    accelerated : bool, default True
        Whether steps are corrected for the curvature of the predictions.
    enough : float, optional
        Noise variances of the sum of squares that may be left to gain at the end. J^T J is then
        formed only where the step before did not do as expected. By default steps go on until none
        gains anything.

    Notes
    -----
    Each step takes a gradient and about one forward pass over all rows, three forward passes and an
    adjoint for the curvature, and a pass for J^T J, O(n_rows n_hidden^3 (n_inputs + n_hidden)^2)
    for the rows that it is formed of. A keyboard interrupt ends the search and returns the best so
    far; with a checkpoint it ends the fit, which can go on from there.

    References
    ----------
    .. [1] M. K. Transtrum, J. P. Sethna, "Improvements to the Levenberg-Marquardt algorithm for
       nonlinear least-squares minimization", arXiv:1201.5885 (2012).
    .. [2] G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
       squares problems whose variables separate", SIAM Journal on Numerical Analysis 10 (1973)
       413-432.

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
    patience: int = PATIENCE
    accelerated: bool = True
    enough: float | None = None

    def __post_init__(self) -> None:
        check_integer("max_steps", self.max_steps, 0)
        # below zero where no time is left
        check_number("max_seconds", self.max_seconds, finite=False)
        check_number("damping", self.damping, above=0.0)
        check_integer("patience", self.patience, 1)
        check_flag("accelerated", self.accelerated)
        if self.enough is not None:
            check_number("enough", self.enough, above=0.0)
        for name in ("admit", "clock"):
            check_callable(name, getattr(self, name))
        check_mask("free", self.free)

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

        Other losses raise a ValueError, a start that explodes an `ExplosionError`.
        """
        refuse_other_losses(self.name, loss)
        trace = Trace(self.clock or time.perf_counter, progress)
        chosen = np.arange(layout.size) if self.free is None else np.flatnonzero(self.free)
        together = None if held_out is None else counted_along(data, held_out)
        search = _Search(self, layout, engine, data, held_out, trace, chosen, together)
        status, state = RefinementStatus.STEP_LIMIT, search.start(model)
        try:
            while state.status is None:
                state = search.step(state)
            status = state.status
        except OutOfTimeError:
            status = RefinementStatus.TIME_LIMIT
        except KeyboardInterrupt:
            if engine.checkpoint is not None:
                raise
            status = RefinementStatus.INTERRUPTED
        return trace.solution(status, state.sums.gradient.n_rows)


@dataclass(frozen=True)
class _Search:
    """The steps of one minimisation of the `chosen` weights.

    `together` are the rows of the data that are held out, where passes over `data` visit them.
    """

    solver: LevenbergMarquardt
    layout: Layout
    engine: Engine
    data: Selection
    held_out: Selection | None
    trace: Trace
    chosen: IntArray
    together: NDArray[np.bool_] | None = None

    def start(self, model: Network) -> SearchState:
        """Return the state at the start."""
        sums = self._normal(model)
        self._note(model, sums.gradient, self._outside(model))
        nothing = np.zeros(self.chosen.size)
        return SearchState(model, sums, sums.gradient, self.solver.damping, nothing)

    def step(self, state: SearchState) -> SearchState:
        """Take one step, or end the search."""
        trace, before = self.trace, state.squares
        if trace.n_steps >= self.solver.max_steps:
            return replace(state, status=RefinementStatus.STEP_LIMIT)
        curvature = np.diag(state.sums.hessian.hessian)[self.chosen] / before.n_rows
        scale = np.maximum(FORGET * state.scale, curvature)
        state = replace(state, scale=np.maximum(scale, 1e-12 * scale.max()))
        worth, enough = self._worth(state), self.solver.enough or 0.0
        promises = state.kept and worth > state.worth
        found = None if promises or worth <= enough else self._trial(state)
        if found is None:
            if state.kept and worth > enough:
                return replace(state, sums=self._normal(state.model), kept=False)
            return replace(state, status=RefinementStatus.CONVERGED)
        model, squares, outside, damping = found
        self._note(model, squares, self._outside(model) if outside is None else outside)
        taken = Taken(worth, state.worth, (before.mean - squares.mean) / in_variances(before))
        kinks = has_kinks(model.activation)
        if (taken.left_across_kinks if kinks else taken.left) <= enough:
            return replace(state, status=RefinementStatus.CONVERGED)
        slow = state.slow + 1 if before.mean - squares.mean < LEAST_GAIN * before.mean else 0
        if slow >= 5:
            return replace(state, status=RefinementStatus.CONVERGED)
        if trace.waited >= self.solver.patience:
            return replace(state, status=RefinementStatus.HELD_OUT)
        keep = state.sums.hessian if enough and taken.is_steady and not kinks else None
        sums = self._normal(model, keep)
        given = (model, sums, squares, damping, state.scale, slow)
        return SearchState(*given, solved=True, worth=worth, kept=keep is not None)

    def _worth(self, state: SearchState) -> float:
        """What is left to gain, in noise variances, if anybody wants to know."""
        if self.solver.enough is None:
            return math.inf
        return worth_of(*self._equations(state), state.scale, state.squares)

    def _equations(self, state: SearchState) -> tuple[Array, Array]:
        """J^T J and J^T r of the free weights, per row."""
        n_rows, free = state.squares.n_rows, self.chosen
        H = state.sums.hessian.hessian[np.ix_(free, free)] / n_rows
        return H, state.sums.gradient.gradient[free] / n_rows

    def _trial(self, state: SearchState) -> tuple[Network, SquareSums, float | None, float] | None:
        """Take a step damped until it gains enough, or none.

        Model, error, that on held-out rows if it is known, and the next damping.
        """
        before, damping = state.squares, state.damping
        H, g = self._equations(state)
        worthless = WORTHLESS / (before.n_rows * self.layout.n_outputs)
        for _ in range(14):
            step = damped_step(H, g, state.scale, damping)
            predicted = float(2.0 * step @ g - step @ H @ step)
            if damping <= UNDAMPED and predicted <= worthless * before.mean:
                return None
            if self.solver.accelerated:
                step = step + self._bend(state, H, step, damping)
            moved = self._moved(state.model, step)
            sums = self._squares(moved)
            if sums is not None:
                moved, squares, outside = self._solved(moved, sums, state, damping)
                after = squares if state.solved else sums.own
                ratio = (before.mean - mean_of(after)) / max(predicted, 1e-300)
                if ratio > 0.01:
                    factor = 1 / 9 if ratio > FAITHFUL else 1 if ratio > POOR else 3
                    return moved, squares, outside, max(damping * factor, 1e-10)
            damping = max(4.0 * damping, 1e-9)
        return None

    def _bend(self, state: SearchState, H: Array, step: Array, damping: float) -> Array:
        """Half of the acceleration along a step, zero where it is not small beside the step."""
        ahead, behind = (self._at(state.model, part * step) for part in (REACH, -REACH))
        wanted = self._wanted
        strata = None if wanted is None else Strata.within(state.sums.gradient, wanted)
        function = partial(
            curved_sums,
            model=state.model,
            layout=self.layout,
            ahead=ahead,
            behind=behind,
            strata=strata,
        )
        nothing = np.zeros_like(step)
        sums = self._sums(function, self._rows_of(strata), "curvature")
        if sums is None:
            return nothing
        against = sums.gradient[self.chosen] / (REACH**2 * state.squares.n_rows)
        bend = damped_step(H, against, state.scale, damping) / 2.0
        sizes = [float(part @ (state.scale * part)) for part in (bend, step)]
        return bend if sizes[0] <= MOST_BENT**2 / 4.0 * sizes[1] else nothing

    def _at(self, model: Network, step: Array) -> Network:
        """The model after a step of the free weights."""
        full = np.zeros(self.layout.size)
        full[self.chosen] = step
        return self.layout.move(model, full)

    def _moved(self, model: Network, step: Array) -> Network:
        """The admissible model after a step."""
        moved = self._at(model, step)
        return moved if self.solver.admit is None else self.solver.admit(moved)

    def _look_at_the_clock(self) -> None:
        """Raise an error where another pass would end too late, judging by the first step."""
        trace, limit = self.trace, self.solver.max_seconds
        if trace.steps and math.isfinite(limit):
            seconds = trace.seconds
            if seconds + 0.5 * trace.steps[0].seconds >= limit:
                raise OutOfTimeError

    @property
    def _wanted(self) -> int | None:
        """Rows that stand for all in J^T J; None where those are all."""
        n_rows = self.data.as_subset().n_counted
        wanted = hessian_rows(self.layout, n_rows, rough=self.solver.enough is not None)
        return wanted if 2 * wanted < n_rows else None

    def _rows_of(self, strata: Strata | None) -> Subset:
        """The rows of strata, or all of the data."""
        data = self.data.as_subset()
        if strata is None:
            return data
        return Subset(data.source, strata.segments.split_evenly(data.n_batches))

    def _normal(self, model: Network, known: HessianSums | None = None) -> NormalSums:
        """J^T r of all rows, J^T J of all or of those that stand for them, unless it is known."""
        self._look_at_the_clock()
        data, layout, wanted = self.data.as_subset(), self.layout, self._wanted
        if wanted is None and known is None:
            function = partial(normal_sums, model=model, layout=layout)
            return self.engine.run(function, data, label="J^T J")
        of_gradient = partial(gradient_sums, model=model, layout=layout)
        gradient = self.engine.run(of_gradient, data, label="gradient")
        if wanted is None or known is not None:
            assert known is not None
            return NormalSums(gradient, known)
        strata = Strata.within(gradient, wanted)
        of_curvature = partial(stratified_sums, model=model, layout=layout, strata=strata)
        hessian = self.engine.run(of_curvature, self._rows_of(strata), label="J^T J")
        return NormalSums(gradient, hessian)

    def _squares(self, model: Network) -> TwoOutputSums | None:
        """Squared error, and that of held-out rows if the same pass visits them.

        None where the model explodes.
        """
        function = partial(output_sums, model=model, layout=self.layout, other=self.together)
        return self._sums(function, self.data, "squares")

    def _solved(
        self, model: Network, sums: TwoOutputSums, state: SearchState, damping: float
    ) -> tuple[Network, SquareSums, float | None]:
        """A model after a step of its output weights alone, damped like that of all weights.

        With the squared error, and that per held-out row if it is known.
        """
        scale = np.zeros(self.layout.size)
        scale[self.chosen] = state.scale
        given = (self.layout, scale, damping, self._squares, self.solver.admit)
        solved, squares, other = with_best_outputs(model, sums, *given)
        return solved, squares, None if other is None else mean_of(other)

    def _outside(self, model: Network) -> float:
        """Squared error per held-out row, infinite where the model explodes."""
        if self.held_out is None:
            return math.nan
        return mean_of(self._sums(partial(square_sums, model=model), self.held_out, "squares"))

    def _sums(
        self, function: Callable[[Batch], SumsType], data: Selection, label: str
    ) -> SumsType | None:
        self._look_at_the_clock()
        try:
            return self.engine.run(function, data, label=label)
        except ExplosionError:
            return None

    def _note(self, model: Network, sums: SquareSums, outside: float) -> None:
        """Note the start or a step taken."""
        self.trace.note(model, sums.mean / 2, sums.squares, held_out=outside / 2)
