"""Starts of a network with any activation, and descents from them on a part of the data.

In their order: the units of the derivatives; the same with later outputs, where outputs are fewer
than units; the same on windows of 2, 4, .., 64 steps, for recurrences that amplify; with units in
two directions, the other direction of doubtful units; and units at random, the last resort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree.engine import Subset
from gloree.fitting._any_units import UnitStart, units_from_derivatives, with_readout
from gloree.fitting._directions import by_windows, doubtful, regress_both_sides
from gloree.fitting._first_state import Images, images_of, widened, with_first_step
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lack_of_fit import FEW_ROWS, LackOfFit, lack_of_fit
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.moments import Whitening
from gloree.recurrence import Directions, bidirectional_model
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    RefinementStatus,
    Solution,
    SquaredError,
    hessian_sums,
)
from gloree.sequences import Array, Segments

LEAST_ROWS, ROWS_PER_WEIGHT, RESIDUALS_PER_WEIGHT = 4_000, 10, 100
"""Rows of the part, rows for each weight, and residuals for each weight, at least."""

PIECE = 64
"""Rows of a piece of a long sequence in that part."""

STEPS, FREE_STATE_STEPS, STATIC_STEPS, WINDOW_STEPS = 60, 40, 15, 15
"""Steps of a descent on the part: of all weights, with a free state before the first step, of units
without recurrence, and for each length of a window."""

ENOUGH = 0.25
"""Noise variances that a descent on the part may leave to gain: its optimum is as many from that of
all data as there are weights, and starts are alike up to some."""

WINDOWS = (2, 4, 8, 16, 32, 64)
"""Lengths of windows that a recurrence is found on, one after the other."""

RESTARTS = 10
"""Starts at random, at most."""

ALIKE = 1e-4
"""Relative difference of squared errors up to which two starts ended at the same optimum."""


@dataclass(frozen=True)
class Attempt:
    """Where a descent on a part of the data ended.

    `loss` is the mean squared residual of that part, `lack` the test on other rows. `margin` is how
    much worse other mirror images are there, in noise variances.
    """

    name: str
    model: Network
    loss: float
    lack: LackOfFit
    n_steps: int
    directions: Directions | None = None
    margin: float = np.inf
    at_random: bool = False

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return (
            f"{self.name}: {self.n_steps} steps, RMS residual {np.sqrt(self.loss):.5g}, {self.lack}"
        )


@dataclass(frozen=True)
class NoAttempt:
    """A start that explodes."""

    name: str

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.name}: explodes"


@dataclass(frozen=True)
class Begin:
    """A start, and how to go on from it: on short windows first, or not."""

    name: str
    model: Callable[[], Network]
    windows: bool = False
    directions: Directions | None = None
    at_random: bool = False


@dataclass(frozen=True)
class Part:
    """The part of the data on which descents are tried, and what they need."""

    problem: FitProblem
    inputs: InputSummary
    rows: Subset
    pieces: bool

    @classmethod
    def of(cls, problem: FitProblem, inputs: InputSummary, n_hidden: int) -> Part:
        """Choose the rows, evenly spread."""
        backward = n_hidden // 2 if problem.settings.bidirectional else None
        size = problem.layout(n_hidden, backward).size
        wanted = RESIDUALS_PER_WEIGHT * size // problem.n_outputs
        wanted = max(LEAST_ROWS, ROWS_PER_WEIGHT * size, wanted)
        source = inputs.inliers
        pieces = source.segment is not None
        if pieces and source.skipped is None:
            source = replace(source, segment=PIECE)
        return cls(problem, inputs, source.subset(wanted, keep=True), pieces)

    def allowed(self, layout: Layout, certified: float) -> float:
        """Share of lack of fit that the noise of the part itself explains, twice."""
        return certified + 2.0 * layout.size / (self.rows.n_counted * self.problem.n_outputs)

    @property
    def marks_first_steps(self) -> bool:
        """Whether mirror images are told by the first steps of the part."""
        settings = self.problem.settings
        centre = settings.activation.centre
        known = centre is not None and centre[1] != 0.0 and settings.bias
        return known and settings.recurrence is not None and not self.two_sided and not self.pieces

    @property
    def two_sided(self) -> bool:
        """Whether there are two chains."""
        return self.problem.settings.bidirectional

    def descend(self, model: Network, rows: Subset | None = None, steps: int = STEPS) -> Solution:
        """Levenberg-Marquardt on the part, or other rows."""
        layout = self.problem.layout_of(model)
        return self.minimise(model, layout, self.rows if rows is None else rows, steps)

    def minimise(self, model: Network, layout: Layout, rows: Subset, steps: int) -> Solution:
        """The same of a layout; a keyboard interrupt is one of the whole search."""
        # acceleration saves few of the few steps that white inputs take, and costs passes
        solver = LevenbergMarquardt(max_steps=steps, accelerated=False, enough=ENOUGH)
        found = solver.minimise(SquaredError(), model, layout, self.problem.engine, rows)
        if found.status is RefinementStatus.INTERRUPTED:
            raise KeyboardInterrupt
        return found

    def free_images(self, model: Network) -> tuple[Images, int]:
        """Mirror images after a descent with a free state before the first step, and its steps."""
        marked = Subset(with_first_step(self.rows.source), self.rows.batches, keep=True)
        layout = self.problem.layout_of(model)
        wide = replace(layout, n_inputs=layout.n_inputs + 1)
        found = self.minimise(widened(model), wide, marked, FREE_STATE_STEPS)
        function = partial(hessian_sums, model=found.model, layout=wide)
        hessian = self.problem.engine.run(function, marked, label="J^T J").hessian
        variance = float(np.mean(found.rmse**2))
        return images_of(found.model, wide, hessian, variance), found.n_steps

    @property
    def first_counted(self) -> int:
        """Steps at the start of a sequence that do not count, as their window of inputs is cut."""
        return self.problem.settings.lags - 1

    def windows(self, length: int) -> Subset:
        """About as many rows in windows of a length: the first steps of each segment that count."""
        longest = min(self.inputs.inliers.data.longest, PIECE if self.pieces else 10**9)
        wanted = self.rows.n_counted * max(1, longest // length)
        each = self.rows.source.subset(wanted).segments
        stop = np.minimum(each.stop, each.start + self.first_counted + length)
        end = np.minimum(each.context_stop, stop)
        some = Segments.of(each.sequence, each.context_start, each.start, stop, end)
        return Subset(self.rows.source, some.split_evenly(1 + some.n_rows // 2**14), keep=True)


def attempt(part: Part, begin: Begin) -> Attempt | NoAttempt:
    """Descend from a start on the part, and test where it ends on other rows."""
    problem, n_steps, margin = part.problem, 0, np.inf
    try:
        model = begin.model()
        if begin.windows:
            model = by_growing_windows(part, model)
        if part.marks_first_steps:
            images, n_steps = part.free_images(model)
            model, margin = images.network(0), images.margin
        result = part.descend(model)
    except ExplosionError:
        return NoAttempt(begin.name)
    lack = lack_of_fit(problem, part.inputs, result.model, FEW_ROWS)
    loss = float(np.mean(result.rmse**2))
    steps = n_steps + result.n_steps
    return Attempt(
        begin.name, result.model, loss, lack, steps, begin.directions, margin, begin.at_random
    )


def by_growing_windows(part: Part, model: Network) -> Network:
    """Descend on short windows first, then on longer ones."""
    for length in WINDOWS:
        if part.first_counted + length >= part.inputs.inliers.data.longest:
            break
        model = part.descend(model, part.windows(length), WINDOW_STEPS).model
    return model


def starts(
    part: Part, outputs: OutputSummary, first: UnitStart, random: bool = True
) -> Iterator[Begin]:
    """Starts in their order; each is made when it is asked for."""
    problem, settings = part.problem, part.problem.settings
    if settings.bidirectional:
        yield from _two_sided(part, first)
    else:
        yield Begin("derivatives", lambda: _complete(part, first.model))
        longest = part.inputs.inliers.data.longest - part.first_counted
        several = longest > 2 and settings.recurrence is not None
        if several and problem.n_outputs < first.model.n_hidden:
            yield Begin("later outputs", lambda: _with_leads(part, outputs))
        if several:
            yield Begin("windows", lambda: _complete(part, first.model, part.windows(2)), True)
    for number in range(RESTARTS if random else 0):
        yield Begin(f"random {number + 1}", lambda: _at_random(part, first), at_random=True)


def _complete(part: Part, model: Network, rows: Subset | None = None) -> Network:
    """Output weights of a start."""
    layout = part.problem.layout_of(model)
    return with_readout(part.problem, model, layout, part.rows if rows is None else rows)


def _with_leads(part: Part, outputs: OutputSummary) -> Network:
    found = units_from_derivatives(part.problem, outputs, part.inputs, leads=1)
    return _complete(part, found.model)


def random_units(problem: FitProblem, whitening: Whitening, k: int) -> tuple[Array, Array]:
    """Rows of A1 in random directions of whitened inputs, (k, n_columns), and biases, (k,)."""
    rng = problem.rng
    directions = rng.standard_normal((k, whitening.n_directions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    A1 = directions @ whitening.matrix
    bias = 0.5 * rng.standard_normal(k) - A1 @ whitening.mean
    return A1, bias if problem.settings.bias else np.zeros(k)


def _at_random(part: Part, first: UnitStart) -> Network:
    """Directions at random, for inputs of unit variance."""
    problem, k = part.problem, first.model.n_hidden
    A1, bias = random_units(problem, part.inputs.whitening, k)
    model = _complete(part, first.model.replace(input_weights=A1, hidden_bias=bias))
    if not part.two_sided:
        return model
    n_forward = problem.settings.n_forward
    sides = np.arange(k) < (k - k // 2 if n_forward is None else n_forward)
    found = replace(Directions.unknown(k, n_forward), forward=sides)
    return bidirectional_model(model, found, lags=problem.settings.lags)


def _two_sided(part: Part, first: UnitStart) -> Iterator[Begin]:
    """Units refined without recurrence, then in the directions found, and doubtful ones turned."""
    problem = part.problem
    model = _complete(part, first.model)
    layout = replace(problem.layout(model.n_hidden), recurrent=False)
    static = part.minimise(model, layout, part.rows, STATIC_STEPS).model
    if problem.settings.recurrence is None:
        found = by_windows(problem, part.inputs, static)
    else:
        found = regress_both_sides(problem, part.inputs, static, layout, part.rows)
    make = partial(bidirectional_model, static, lags=problem.settings.lags)

    def begin(name: str, tried: Directions) -> Begin:
        return Begin(name, partial(make, tried), directions=tried.reordered(tried.order))

    yield begin("derivatives", found)
    if problem.settings.n_forward is not None:
        return
    for unit in doubtful(found, undetermined=True):
        forward = found.forward.copy()
        forward[unit] = not forward[unit]
        yield begin(f"unit {unit} turned", replace(found, forward=forward))
