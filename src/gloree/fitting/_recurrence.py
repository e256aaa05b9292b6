"""Fourth and fifth stage: the recurrence, and rounds with the residual in place of the output."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from gloree.chains import require, with_metric
from gloree.diagnostics import Finding, ScoreWarning
from gloree.engine import Selection
from gloree.fitting._directions import find_directions
from gloree.fitting._first_moment import FirstMoment
from gloree.fitting._inputs import InputSummary
from gloree.fitting._large_biases import biases_again, with_large_biases
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._range_finder import find_range, plain_residual
from gloree.models import CanonicalUnits, ExplosionError, Network, canonical_units
from gloree.recurrence import (
    BatchAtWeights,
    Contraction,
    Directions,
    FreeWeights,
    LeastSquares,
    LinearisedSums,
    OutputsOnly,
    RecurrenceEstimator,
    ridge_solve,
    top_degree,
)
from gloree.refinement import Iterate, Rounds, evaluate, residual_round, start_rounds
from gloree.sequences import Array, Batch

START_ROWS, START_ROWS_PER_PARAMETER = 8_000, 50
"""Rows of the subsample on which rounds run when a refinement follows, and rows for each weight, at
least. It has no fewer rows than the regression moment that went before."""

START_WORK = 2 * 10**8
"""Rows of that subsample times inputs, at most."""

ROUND_GAIN, START_GAIN = 1e-4, 0.05
"""Rounds end when one lowers the squared error by less than this fraction; where a refinement
follows, by the second one."""

LARGE_BIAS_SWEEPS = 4
"""Sweeps that find the recurrence of units with large biases."""

LARGE_BIAS_ROUNDS = 6
"""Times that these biases are found once more with the recurrence known, at most."""

OFFSET_GAIN = 0.05
"""Part of the squared error that an offset of the outputs has to save before it is fitted without
being asked for. The refinement sees smaller ones."""

WINDOW_RIDGE = 1e-6
"""Relative ridge of the regressions on lag windows."""

RIDGE = 1e-10
"""Relative ridge of the regressions on states and inputs otherwise."""


@dataclass(frozen=True)
class RecurrentStart:
    """A network with a recurrence, and the rounds that follow.

    `recurrence` is the name of the estimator of U ("none" without one), `overlap` the condition
    number of Psi where scores are used.
    """

    current: Iterate
    rounds: Rounds
    recurrence: str
    overlap: float | None
    directions: Directions | None
    findings: tuple[Finding, ...]

    @property
    def detail(self) -> str:
        """Outcome in words."""
        found = "" if self.directions is None else f"{self.directions}; "
        return f"{found}RMS residual {self.current.sums.rms:.5g}"


class Known(Protocol):
    """Weights that a refinement starts from, in canonical form: those of moments, or of a fit.

    `rmse`, (n_outputs,), is their root mean square residual.
    """

    @property
    def model(self) -> Network:
        """The network."""

    @property
    def directions(self) -> Directions | None:
        """Of its units, where there are two."""

    @property
    def rmse(self) -> Array:
        """Root mean square residual of each output."""


@dataclass(frozen=True)
class MomentFit:
    """The network of moments alone, in canonical form, with its sums and history in `current`.

    `directions` are in the order of the model; `kept` counts the rounds that lowered the error.
    """

    model: Network
    current: Iterate
    directions: Directions | None
    kept: int

    @property
    def rmse(self) -> Array:
        """Root mean square residual of each output, (n_outputs,)."""
        sums = self.current.sums
        return np.sqrt(sums.squares / sums.n_rows)

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return f"{self.kept} kept, RMS residual {self.current.sums.rms:.5g}"


def start_recurrence(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary, first: FirstMoment
) -> RecurrentStart:
    """Find the recurrence and the biases, and the direction of every unit if there are two."""
    estimator, findings = recurrence_estimator(problem, inputs, first.model)
    law, overlap = None, None
    if estimator.uses_scores:
        hermite = getattr(estimator, "hermite", True)
        purpose = f"recurrence={estimator.name!r}"
        found = require(inputs.law, hermite=hermite, purpose=purpose)
        law = with_metric(found, np.eye(found.n_inputs))
        overlap = Contraction.of(first.model, law.precision_blocks(0)).condition
    data = rows_of_rounds(problem, inputs, first)
    ridge = WINDOW_RIDGE if problem.settings.lags > 1 else RIDGE
    rounds = Rounds(first.layout, estimator, first.residual, law, problem.engine, data, ridge)
    attempt = run_start(problem, inputs, first.model, rounds)
    with suppress(ExplosionError, np.linalg.LinAlgError):
        shifted = with_large_biases(problem, outputs, inputs, first, attempt.current)
        if shifted is not None:
            other = start_with_biases(problem, inputs, shifted, rounds)
            if other.current.sums.total < attempt.current.sums.total:
                attempt = other
    rounds, current, directions = attempt.rounds, attempt.current, attempt.directions
    findings += attempt.findings
    if first.reduced and top_degree(current.model)[0] == 2 and problem.n_outputs > 1:
        # second moments of the residual say which directions the units span, once more
        size = outputs.plan.n_directions
        whitening = find_range(problem, outputs, inputs, size, current.model)
        rounds = replace(rounds, moment=plain_residual(problem, whitening, first.rows))
        current = replace(current, sums=evaluate(rounds, current.model, tensor=True))
    name = "none" if problem.settings.recurrence is None else estimator.name
    return RecurrentStart(current, rounds, name, overlap, directions, findings)


@dataclass(frozen=True)
class Attempt:
    """A recurrence from given units without one, and the direction of each if there are two."""

    current: Iterate
    rounds: Rounds
    directions: Directions | None = None
    findings: tuple[Finding, ...] = ()


def run_start(
    problem: FitProblem, inputs: InputSummary, model: Network, rounds: Rounds, sweeps: int = 2
) -> Attempt:
    """Sweeps of one direction, or both once every unit has one."""
    if not problem.settings.bidirectional:
        return Attempt(start_rounds(rounds, model, sweeps), rounds)
    settled = bool(model.hidden_bias.any())
    found = find_directions(problem, inputs, model, rounds, enough=ROUND_GAIN, undetermined=settled)
    return Attempt(found.current, found.rounds, found.directions, found.findings)


def start_with_biases(
    problem: FitProblem, inputs: InputSummary, model: Network, rounds: Rounds
) -> Attempt:
    """Recurrence of units with large biases by least squares, and biases once more."""
    careful = replace(rounds, estimator=LeastSquares())
    found = run_start(problem, inputs, model, careful, LARGE_BIAS_SWEEPS)
    current, its_rounds = found.current, found.rounds
    for _ in range(LARGE_BIAS_ROUNDS):
        again = biases_again(problem, inputs, current)
        if again is None:
            break
        after = start_rounds(its_rounds, again, LARGE_BIAS_SWEEPS)
        if after.sums.total >= current.sums.total:
            break
        before, current = current, replace(after, history=current.history + after.history[1:])
        if current.sums.total > (1 - ROUND_GAIN) * before.sums.total:
            break
    return replace(found, current=current, rounds=replace(its_rounds, estimator=rounds.estimator))


def run_rounds(problem: FitProblem, start: RecurrentStart) -> MomentFit:
    """Alternate with the residual first moment until a round gains little."""
    settings, current, rounds = problem.settings, start.current, start.rounds.later()
    enough = ROUND_GAIN if settings.solver is None else START_GAIN
    kept = 0
    for _ in range(settings.max_rounds):
        after = residual_round(rounds, current)
        if after is current:
            break
        before, current, kept = current.sums.total, after, kept + 1
        if current.sums.total > (1 - enough) * before:
            break
    directions, model = start.directions, current.model
    if directions is not None:
        directions = directions.reordered(units_of(model).order)
    return MomentFit(model.canonical(), current, directions, kept)


def lacks_offset(problem: FitProblem, model: Network, data: Selection) -> bool:
    """Whether a free offset of the outputs would lower the squared error of moments materially.

    Both least-squares fits of the residual on the states, with a constant and without one, come
    from one pass. Moments do not depend on the offset, but U and A2 would have to make it: a large
    one has to be known before all weights are refined. Small ones are seen at the optimum.
    """
    settings = problem.settings
    if settings.bias or settings.offset or problem.encode is not None:
        return False
    layout = problem.layout(model.n_hidden)
    free = FreeWeights(layout.recurrent, layout.bias, layout.unit_bias, layout.direct, RIDGE)

    def sums(batch: Batch) -> LinearisedSums:
        return OutputsOnly().sums(BatchAtWeights(batch, model, free, None, None))

    try:
        regression = problem.engine.run(sums, data, label="offset")
    except ExplosionError:
        return False
    return offset_gain(regression, model.n_hidden) > OFFSET_GAIN


def offset_gain(sums: LinearisedSums, place: int) -> float:
    """Part of the squared residual that a constant saves beside the other output regressors."""
    others = np.delete(np.arange(sums.gram.shape[0]), place)
    gram, cross = sums.gram[np.ix_(others, others)], sums.cross[others]
    known = ridge_solve(gram, np.column_stack((cross, sums.gram[others, place])), RIDGE)
    left = sums.squares - float(np.sum(cross * known[:, :-1]))
    own = sums.gram[place, place] - float(sums.gram[place, others] @ known[:, -1])
    signal = sums.cross[place] - sums.gram[place, others] @ known[:, :-1]
    if own <= RIDGE * sums.gram[place, place] or left <= 0.0:
        return 0.0
    return float(signal @ signal) / float(own) / left


def units_of(model: Network) -> CanonicalUnits:
    """How the units of a model become canonical."""
    return canonical_units(
        model.input_weights, model.output_weights, model.activation, model.n_forward
    )


def recurrence_estimator(
    problem: FitProblem, inputs: InputSummary, model: Network
) -> tuple[RecurrenceEstimator, tuple[Finding, ...]]:
    """Estimator of U and b that these inputs allow; an error where there is none."""
    asked = problem.settings.recurrence
    if asked is None:
        return LeastSquares(), ()
    asked.check(model, bidirectional=problem.settings.bidirectional)
    if not asked.uses_scores:
        return asked, ()
    other = asked.without_scores()
    if inputs.law is None:
        if other is None:
            raise ValueError(
                f"recurrence={asked.name!r} needs an input law, and lag windows have none: use "
                f"`recurrence`='instrument', which falls back on least squares"
            )
        return other, ()
    if not inputs.score_is_wrong:
        return asked, ()
    if other is not None:
        return other, ()
    assert inputs.score_check is not None
    finding = Finding(
        ScoreWarning,
        f"recurrence={asked.name!r} relies on the score of the input law "
        f"({inputs.law!s:.60}), which fails Stein's identity on these inputs "
        f"(defect {inputs.score_check.defect:.2f})",
        "use 'instrument', which switches to least squares",
    )
    return asked, (finding,)


def rows_of_rounds(problem: FitProblem, inputs: InputSummary, first: FirstMoment) -> Selection:
    """Rows for the rounds: all, or a subsample if a refinement follows, for a consistent start.

    Rows of the first moment that the rounds do not use are let go.
    """
    if problem.settings.solver is None:
        first.rows.forget_rows()
        return inputs.inliers
    wanted = START_ROWS_PER_PARAMETER * first.layout.size
    wanted = max(START_ROWS, min(wanted, START_WORK // problem.n_inputs))
    if first.residual.prepared:
        wanted = max(wanted, first.n_rows)
    if min(wanted, problem.data.n_rows) == first.n_rows:
        return first.rows
    first.rows.forget_rows()
    return inputs.inliers.subset(wanted, keep=True)
