"""An identification from records to networks, on one page: stages that return values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gloree._brief import Brief
from gloree.diagnostics import Finding, GloreeWarning, IdentificationReport, Stage
from gloree.fitting import StageRunner, stage_runner
from gloree.identification._budget import Budget
from gloree.identification._initial_state import estimate_state
from gloree.identification._linear import LinearFit, fit_linear, refit_linear, with_more_states
from gloree.identification._linear_system import with_delays
from gloree.identification._more_states import LEAST_TIME, Attempt, try_more_states
from gloree.identification._nonlinearity import Nonlinearity, find_nonlinearity, is_plenty, started
from gloree.identification._problem import IdentificationProblem
from gloree.identification._ranking import Origin, RankedStarts, rank_starts
from gloree.identification._refinement import (
    RefinedLinear,
    RefinedNetwork,
    Refitted,
    refine_linear,
    refine_network,
    refit,
)
from gloree.identification._search import Search, SearchEnd
from gloree.models import IORNN
from gloree.sequences import Array

N_STAGES = 7  # stages of an identification, at most
SEARCH_TIME = 0.93  # share of the time for all stages; the rest is for the tests of residuals
SEVERAL = 3.0  # ratio of errors on training and on held-out rows from which on it is named
EXACT = 0.01  # errors below this share of the outputs' size are alike
LITTLE = 0.95  # error on held-out rows from which on less than a tenth of the variance is explained
STATE_ROWS = 1000  # rows that tell the state before a record of a network with windows


@dataclass(frozen=True)
class Identified(Brief):
    """Outcome of an identification, with networks in the units of the original records.

    `model` is the network that is kept, `linear_model` the linear one of least simulation error,
    and `moments_model` the one made from moments alone. `initial_states` (n_records, n_state) are
    states of `model` before the first row of each record, as they were fitted.
    """

    model: IORNN
    linear_model: IORNN
    moments_model: IORNN
    report: IdentificationReport
    initial_states: Array


Value = TypeVar("Value")


def identify(problem: IdentificationProblem) -> Identified:
    """Run all stages.

    A keyboard interrupt ends them at once, with the best model so far, unless there is a
    checkpoint.

    Raises a ValueError if the samples do not support as many linear states as were asked for, and a
    TooFewSamplesError if no record is long enough.
    """
    settings = problem.settings
    budget = Budget(problem.engine, SEARCH_TIME * settings.max_seconds)
    with (
        problem.engine.small_matrices(),
        budget.listening(),
        stage_runner(N_STAGES, settings.verbose) as stages,
    ):
        fit = stages.run("linear model", fit_linear, problem, budget)
        run = _Stages(stages, budget).run
        delayed = fit.delayed(problem)
        search = Search(delayed, fit.split, budget, stages.show)
        origin = Origin.of(search, fit, Nonlinearity(fit.linear.model))
        starts = RankedStarts()
        found = fit
        if settings.n_nonlinear == 0:
            found = run(fit, "linear refinement", refit_linear, problem, fit, budget)
        end = SearchEnd(
            fit.split.starts.extended(found.linear.model, found.initial_states),
            found.end.status,
            found.end.n_steps,
        )
        linear = RefinedLinear(end, fit.error, found)
        if settings.n_nonlinear != 0:
            linear = run(linear, "linear refinement", refine_linear, search, fit, problem)
            plenty = is_plenty(problem, fit)
            larger = with_more_states(problem, fit, budget) if plenty else fit
            moments = Nonlinearity(larger.linear.model)
            moments = run(moments, "nonlinearity", find_nonlinearity, delayed, larger, budget)
            origin = Origin.of(replace(search, split=larger.split), larger, moments)
            if moments.unit_counts:
                starts = run(starts, "starts", rank_starts, origin, budget)
        end = linear.end
        network = RefinedNetwork(end.model, end.model, status=end.status, n_steps=end.n_steps)
        if settings.n_nonlinear != 0:
            # without time what there is so far is still compared with the linear model
            judged = _Stages(stages, budget, on_time=False).run
            if moments.unit_counts or not budget.interrupted:
                network = judged(network, "refinement", refine_network, origin, starts, linear)
            if (
                settings.n_linear is None
                and moments.unit_counts
                and budget.left() > LEAST_TIME * budget.max_seconds
            ):
                attempt = Attempt(origin, network)
                given = (attempt, problem, larger, linear, budget, plenty)
                attempt = run(attempt, "more states", try_more_states, *given)
                origin, network = attempt.origin, attempt.network
            last = Refitted(network.model, network.linear, "")
            runner = run if budget.interrupted else judged
            last = runner(last, "all rows", refit, origin.search, network, problem, linear.whole)
        else:
            last = Refitted(end.model, end.model, "")
        report = _report(problem, found, origin, linear, network, last, budget, stages.done)
    split = fit.split.starts

    def whole(model: IORNN) -> IORNN:
        return with_delays(problem.unscaled(model), fit.delays)

    kept, straight = (whole(split.reduced(m)) for m in (last.model, last.linear))
    if settings.n_nonlinear == 0:
        # exact, also where the system has a pole at zero
        kept = straight = whole(found.network)
    exact = settings.n_nonlinear == 0 or split.are_states(last.model)
    initial = _states_before(problem, kept, split.states(last.model), exact)
    return Identified(kept, straight, whole(origin.moments.model), report, initial)


def _states_before(
    problem: IdentificationProblem, kept: IORNN, states: Array, exact: bool
) -> Array:
    """States of the network that is kept before every record, from those without windows.

    Windows hold inputs from before a record too: its first one. Where a pole at zero makes windows
    of more than the delays, and where no states do what the fit did at the first rows (they are not
    `exact`), they are fitted anew.
    """
    records = problem.records
    first = np.asarray(records.X[records.starts[:-1]]) * problem.input_size + problem.input_mean
    found = np.column_stack((states, np.tile(first, kept.lags - 1)))
    if exact and (kept.activation.degree != 1 or kept.lags == 1):
        return found
    n_rows = int(min(records.lengths.min(), STATE_ROWS))
    assert records.Y is not None
    u = records.X * problem.input_size + problem.input_mean
    y = records.Y * problem.output_size + problem.output_mean
    y[~problem.counted] = np.nan
    fitted = estimate_state(kept, u, y, n_rows, prior=found, lengths=records.lengths)
    return fitted.reshape(records.n_sequences, -1)


@dataclass(frozen=True)
class _Stages:
    """Runs stages that an interrupt may end: what stood before them is their result then.

    So is it where time is up, or there was an interrupt before, unless they are not `on_time`.
    """

    runner: StageRunner
    budget: Budget
    on_time: bool = True

    def run(
        self, before: Value, name: str, function: Callable[..., Value], *given: object
    ) -> Value:
        """Return the value of a stage, or `before`."""
        if self.on_time and (self.budget.interrupted or self.budget.is_over):
            return before
        try:
            return self.runner.run(name, function, *given)  # type: ignore[type-var]
        except KeyboardInterrupt:
            self.budget.interrupt()
            return before


def _unlike(search: Search, model: IORNN) -> list[Finding]:
    """Warn where errors on training and on held-out rows differ several-fold.

    Errors below a percent are alike; that on training rows may be large at the start of a record.
    """
    split = search.split
    fitted, outside = (search.problem.error(model, r) for r in (split.training, split.held_out))
    ratio = max(outside, EXACT) / max(fitted, EXACT)
    several = search.problem.records.n_sequences > 1
    if not (ratio > SEVERAL or (several and ratio < 1.0 / SEVERAL)):
        return []
    text = f"the error on held-out rows is {ratio:.2g} times that on training rows"
    if ratio > SEVERAL:
        text += ": the model fits what does not repeat, or parts of the data are unlike the others"
        remedy = "give more data, or fewer units and states (`n_nonlinear`, `n_linear`)"
    else:
        text += ": parts of the data are unlike the others"
        remedy = "look at the residuals of every record, and along each"
    return [Finding(GloreeWarning, text, remedy)]


def _little(error: float) -> list[Finding]:
    """Warn where the model explains next to nothing of the outputs."""
    if not error > LITTLE:
        return []
    explained = max(0.0, 1.0 - error**2)
    text = f"the model explains {100 * explained:.0f} % of the outputs' variance on held-out rows"
    remedy = (
        "look for other inputs that drive the outputs; a linear model sees nothing of an output "
        "that is a magnitude or a power, and does not change with the sign of an input: allow "
        "nonlinear units, more time and states, or give the square of the input beside it"
    )
    return [Finding(GloreeWarning, text, remedy)]


def _report(
    problem: IdentificationProblem,
    fit: LinearFit,
    origin: Origin,
    linear: RefinedLinear,
    network: RefinedNetwork,
    last: Refitted,
    budget: Budget,
    stages: tuple[Stage, ...],
) -> IdentificationReport:
    records, moments = problem.records, origin.moments
    states = slice(origin.fit.order if network.nonlinear else fit.order)
    poles = np.linalg.eigvals(last.model.recurrent_weights[states, states])
    if problem.settings.n_nonlinear == 0:
        poles = fit.system.poles  # the network without windows has none at zero
    directions = moments.directions[-1] if moments.directions else ()
    sizes = {"records": records.n_sequences, "samples": records.n_rows}
    sizes |= {"inputs": records.n_inputs, "outputs": records.n_outputs}
    notes, findings = network.notes, [*fit.findings, *problem.findings]
    if problem.n_missing:
        notes += (
            f"{problem.n_missing:,} of {records.n_rows:,} rows lack an output: the free run goes "
            f"through them, and they do not count",
        )
    if budget.interrupted:
        text = "the fit was interrupted from the keyboard: this is the best model so far"
        findings.append(Finding(GloreeWarning, text))
        notes += (text,)
    elif budget.ran_out:
        notes += ("the time was up before all that was planned had been tried",)
    findings += _unlike(origin.search, network.model)
    findings += _little(network.error if network.nonlinear else linear.error)
    return IdentificationReport(
        sizes=sizes,
        stages=stages,
        ridge=fit.response.ridge,
        input_condition=fit.response.condition,
        orders=fit.trials,
        poles=poles.astype(np.complex128),
        explained=directions[0].explained if directions else (math.nan, math.nan),
        n_directions=len(directions),
        linear_error=linear.error,
        moments_error=origin.search.problem.error(
            started(origin.fit, moments.model), origin.search.split.held_out
        ),
        refined_error=network.error,
        training_error=network.training_error,
        nonlinear=network.nonlinear,
        history=network.history,
        refinement_status=network.status,
        refinement_steps=network.n_steps,
        output_size=problem.output_size,
        notes=notes,
        findings=tuple(findings),
        delays=tuple(fit.delays.tolist()),
    )
