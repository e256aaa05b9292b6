"""A fit from data to network, on one page: stages that take values and return values.

The regressor and the classifier, with units in one direction or two, all run through `run_fit`;
they differ in the parts of a `Task`, what comes before the moments and what comes after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from gloree._brief import Brief
from gloree._mapped import SourceError
from gloree.chains import InputLaw
from gloree.diagnostics import FitReport, IdentifiabilityError
from gloree.fitting._any_activation import (
    Search,
    as_interrupted,
    certified_search,
    first_search,
    plain_search,
    units_of_labels,
    with_certificate,
)
from gloree.fitting._attempts import Part
from gloree.fitting._baseline import against_simpler
from gloree.fitting._descent import (
    Descent,
    Start,
    descend,
    moments_as_they_are,
    out_of_mirrors,
    with_activation,
    with_free_offset,
    with_outliers,
)
from gloree.fitting._few_values import with_few_values
from gloree.fitting._first_moment import estimate_first_moment, with_offset
from gloree.fitting._inputs import InputSummary, summarise_inputs
from gloree.fitting._label_errors import likely_labels
from gloree.fitting._labels import (
    ClassWhitening,
    fit_readout,
    keep_readout,
    known_readout,
    refine_labels,
    whiten_classes,
)
from gloree.fitting._output_weighing import in_sizes_of_residuals, with_output_weights
from gloree.fitting._outputs import OutputSummary, summarise_outputs
from gloree.fitting._problem import FitProblem
from gloree.fitting._readout_choice import Choice, choose_readout, steps_are_few
from gloree.fitting._recurrence import (
    Known,
    MomentFit,
    lacks_offset,
    run_rounds,
    start_recurrence,
)
from gloree.fitting._refine import (
    RefinedFit,
    find_precision,
    interrupted,
    keep_moments,
    refined_fit,
)
from gloree.fitting._report import fit_report, report_of_search
from gloree.fitting._specification import check_specification
from gloree.fitting._stages import StageRunner, stage_runner
from gloree.fitting._warm_start import earlier_weights, warm_report
from gloree.models import ExplosionError, Network
from gloree.refinement import FisherScoring, RefinementStatus
from gloree.sequences import Data

N_STAGES = 16
"""Stages of a fit, at most."""


class Task(Protocol):
    """What a fit is for."""

    def outputs(self, problem: FitProblem, stages: StageRunner) -> FitProblem:
        """Problem with the outputs that moments are taken of."""

    def refined(
        self, problem: FitProblem, inputs: InputSummary, moments: MomentFit, stages: StageRunner
    ) -> RefinedFit:
        """What becomes of the network that moments give; `problem` is the one of `outputs`.

        An interrupt keeps what there is by then, if it is what was asked for; with a checkpoint, by
        which the fit can go on, it stays an interrupt.
        """

    def searched(
        self,
        part: Part,
        outputs: OutputSummary,
        inputs: InputSummary,
        search: Search,
        stages: StageRunner,
    ) -> tuple[Search, RefinedFit]:
        """What becomes of units of any activation, and what was tried on the way."""

    def continued(
        self, problem: FitProblem, inputs: InputSummary, known: Known, stages: StageRunner
    ) -> RefinedFit:
        """What becomes of the weights of an earlier fit; `problem` is the one of `outputs`."""


@dataclass(frozen=True)
class FittedNetwork(Brief):
    """Network in canonical form and law of the inputs, both on the inputs as given; the report."""

    model: Network
    law: InputLaw | None
    report: FitReport


def run_fit(problem: FitProblem, task: Task, model: Network | None = None) -> FittedNetwork:
    """Run all stages, or those after the moments from the `model` of an earlier fit.

    For errors see `SpectralRNNRegressor.fit`.
    """
    problem.check_shapes()
    verbose = problem.settings.verbose
    with (
        same_data(problem.data),
        faults_explained(problem),
        problem.engine.small_matrices(),
        stage_runner(N_STAGES, verbose) as stages,
    ):
        problem = with_few_values(task.outputs(problem, stages))
        outputs = stages.run("data", summarise_outputs, problem)
        problem = problem.in_units(outputs.units)
        inputs = stages.run("inputs", summarise_inputs, problem, outputs)
        if model is not None:
            return from_weights(problem, outputs, inputs, task, model, stages)
        if problem.settings.all_orders:
            return by_all_orders(problem, outputs, inputs, task, stages)
        first = stages.run("first moment", estimate_first_moment, problem, outputs, inputs)
        start = stages.run("recurrence", start_recurrence, problem, outputs, inputs, first)
        moments = stages.run("rounds", run_rounds, problem, start)
        lower_terms = not problem.settings.activation.is_monomial
        if not lower_terms and lacks_offset(problem, moments.current.model, start.rounds.data):
            problem = problem.with_offset()
            first = with_offset(problem, outputs, first)
            start = stages.run("with an offset", start_recurrence, problem, outputs, inputs, first)
            moments = stages.run("rounds", run_rounds, problem, start)
        refined = task.refined(problem, inputs, moments, stages)
        refined = against_simpler(problem, outputs, inputs, first.noise, refined)
    report = fit_report(problem, outputs, inputs, first, start, moments, refined, stages.done)
    return FittedNetwork(refined.model, inputs.given_law, report)


def by_all_orders(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    task: Task,
    stages: StageRunner,
) -> FittedNetwork:
    """Fit any activation, from derivatives of several orders to the optimum."""
    problem, part, search = first_search(problem, outputs, inputs, stages)
    search, refined = task.searched(part, outputs, inputs, search, stages)
    noise = search.start.derivatives.scale[: problem.n_outputs]
    refined = against_simpler(problem, outputs, inputs, noise, refined)
    report = report_of_search(problem, outputs, inputs, search, refined, stages.done)
    return FittedNetwork(refined.model, inputs.given_law, report)


def from_weights(
    problem: FitProblem,
    outputs: OutputSummary,
    inputs: InputSummary,
    task: Task,
    model: Network,
    stages: StageRunner,
) -> FittedNetwork:
    """Refine the weights of an earlier fit."""
    labels = isinstance(problem.encode, ClassWhitening)
    given = (problem, inputs, model)
    known = stages.run("weights so far", partial(earlier_weights, labels=labels), *given)
    refined = task.continued(problem, inputs, known, stages)
    refined = against_simpler(problem, outputs, inputs, None, refined)
    report = warm_report(problem, outputs, inputs, refined, stages.done)
    return FittedNetwork(refined.model, inputs.given_law, report)


@contextmanager
def same_data(data: Data) -> Iterator[None]:
    """Raise a `SourceError` if data in files have changed, whatever else came of it."""
    before = data.content()
    try:
        yield
    except SourceError:
        raise
    except Exception:
        data.require_unchanged(before)
        raise
    data.require_unchanged(before)


@contextmanager
def faults_explained(problem: FitProblem) -> Iterator[None]:
    """Turn what no smaller step and no other method prevents into errors about the data."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise IdentifiabilityError(
            f"`n_hidden`={problem.settings.n_hidden} units cannot be told apart on these data "
            f"({error}): lower it, and bring the columns of `X` and `Y` to similar sizes"
        ) from error
    except ExplosionError as error:
        raise ValueError(
            f"`X` drives every network that was tried out of all bounds: a hidden state of "
            f"sequence {error.sequence} reached {error.size:.1e} at step {error.step}. Leave such "
            f"inputs out, or bring them to a scale near 1"
        ) from error


@dataclass(frozen=True)
class Regression:
    """Outputs as they are; Gauss-Newton."""

    def outputs(self, problem: FitProblem, stages: StageRunner) -> FitProblem:
        """Nothing to do."""
        return problem

    def refined(
        self, problem: FitProblem, inputs: InputSummary, moments: MomentFit, stages: StageRunner
    ) -> RefinedFit:
        """All weights together, if asked for, what they fail to explain, and their errors."""
        solver = problem.settings.refinement
        if solver is None:
            return keep_moments(problem, inputs, moments)
        start = moments_as_they_are(problem, moments)
        try:
            if not problem.settings.activation.is_monomial:
                start = stages.run("lower terms", with_activation, problem, inputs, moments)
            begin, seen = in_sizes_of_residuals(start, inputs)
            return self._descended(solver.name, begin, seen, moments, stages)
        except KeyboardInterrupt:
            asked = start.model.activation == problem.settings.activation
            if problem.engine.checkpoint is not None or not asked:
                raise
            return interrupted(keep_moments(problem, inputs, moments, start.model), stages.current)

    def _descended(
        self,
        name: str,
        start: Start,
        inputs: InputSummary,
        moments: Known,
        stages: StageRunner,
    ) -> RefinedFit:
        fitted = stages.run(name, descend, start, inputs, moments)
        if fitted.has_mirrors:
            # outputs with much noise would hide which image is the right one
            fitted = self._weighed(fitted, stages)
            fitted = stages.run("mirror images", out_of_mirrors, fitted)
        return self._completed(fitted, moments, stages)

    def continued(
        self, problem: FitProblem, inputs: InputSummary, known: Known, stages: StageRunner
    ) -> RefinedFit:
        """Descend from the weights of an earlier fit; an interrupt keeps these."""
        solver = problem.settings.refinement
        assert solver is not None
        try:
            return self._descended(solver.name, Start(problem, known.model), inputs, known, stages)
        except KeyboardInterrupt:
            kept = keep_moments(problem, inputs, known)
            return interrupted(kept, stages.current, "the fit before")

    def searched(
        self,
        part: Part,
        outputs: OutputSummary,
        inputs: InputSummary,
        search: Search,
        stages: StageRunner,
    ) -> tuple[Search, RefinedFit]:
        """The optimum that is certified, or the best one."""
        try:
            for found in certified_search(part, outputs, inputs, search, stages):
                search = found
            final = search.final
            moments = replace(search.moments, directions=final.attempt.directions)
            refined = self._completed(final.descent, moments, stages)
        except KeyboardInterrupt:
            if part.problem.engine.checkpoint is not None:
                raise
            return search, as_interrupted(part, inputs, search, stages.current)
        return search, with_certificate(part, inputs, search, refined)

    def _completed(self, fitted: Descent, moments: Known, stages: StageRunner) -> RefinedFit:
        """All of the data, an offset if one is missing, tests and standard errors."""
        if fitted.source.skipped is not None:
            fitted = stages.run("outliers", with_outliers, fitted)
        fitted = self._weighed(fitted, stages)
        tests = stages.run("specification", check_specification, fitted)
        if tests.lacks_offset:
            fitted = stages.run("with an offset", with_free_offset, fitted)
            fitted = self._weighed(fitted, stages)
            tests = stages.run("specification", check_specification, fitted)
        precision = stages.run("standard errors", find_precision, fitted)
        return refined_fit(moments, fitted, precision, tests)

    def _weighed(self, fitted: Descent, stages: StageRunner) -> Descent:
        """Several outputs in the metric of their residuals, or another one that was asked for."""
        ended = fitted.solution.status is RefinementStatus.INTERRUPTED
        if ended or not fitted.problem.weighs:
            return fitted
        return stages.run("output weights", with_output_weights, fitted)


@dataclass(frozen=True)
class Labelling:
    """Whitened indicators of labels; a readout ("logistic" or "least-squares"), cross-entropy."""

    n_classes: int
    readout: str

    def outputs(self, problem: FitProblem, stages: StageRunner) -> FitProblem:
        """Whiten the classes."""
        whitening = stages.run("labels", whiten_classes, problem, self.n_classes)
        return problem.with_outputs(whitening)

    def refined(
        self, problem: FitProblem, inputs: InputSummary, moments: MomentFit, stages: StageRunner
    ) -> RefinedFit:
        """Fit the readout, then all weights together, if asked for."""
        whitening = problem.encode
        assert isinstance(whitening, ClassWhitening)
        arguments = (problem, inputs, moments, whitening, self.readout)
        readout = stages.run("readout", fit_readout, *arguments)
        problem = problem.with_outputs(whitening.coding)
        if isinstance(problem.settings.solver, FisherScoring):
            given = (problem, inputs, readout, stages.show)
            return stages.run("likelihood", likely_labels, *given)
        choice = Choice(readout)
        if steps_are_few(problem, readout, self.n_classes):
            few = (problem, readout, self.n_classes)
            choice = stages.run("held-out parts", choose_readout, *few)
        readout, problem = choice.readout, choice.judging(problem)
        if problem.settings.solver is None:
            return choice.noted(keep_readout(problem, readout))
        try:
            found = stages.run("cross-entropy", refine_labels, problem, readout, stages.show)
        except KeyboardInterrupt:
            if problem.engine.checkpoint is not None:
                raise
            found = interrupted(keep_readout(problem, readout), stages.current)
        return choice.noted(found)

    def continued(
        self, problem: FitProblem, inputs: InputSummary, known: Known, stages: StageRunner
    ) -> RefinedFit:
        """Go on with the cross-entropy; an interrupt keeps the weights there were."""
        whitening = problem.encode
        assert isinstance(whitening, ClassWhitening)
        problem = problem.with_outputs(whitening.coding)
        readout = stages.run("readout", known_readout, problem, inputs, known)
        if isinstance(problem.settings.solver, FisherScoring):
            given = (problem, inputs, readout, stages.show)
            return stages.run("likelihood", likely_labels, *given)
        try:
            return stages.run("cross-entropy", refine_labels, problem, readout, stages.show)
        except KeyboardInterrupt:
            return interrupted(keep_readout(problem, readout), stages.current, "the fit before")

    def searched(
        self,
        part: Part,
        outputs: OutputSummary,
        inputs: InputSummary,
        search: Search,
        stages: StageRunner,
    ) -> tuple[Search, RefinedFit]:
        """Units by least squares of the whitened indicators, then as from moments."""
        search = plain_search(part, outputs, search, stages)
        best = search.best
        found = stages.run("units", units_of_labels, part, search, best)
        problem = part.problem
        return search, self.refined(problem, inputs, found, stages)
