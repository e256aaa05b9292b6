"""Going on with new rows: what a fit keeps of rows that are gone, and what new ones make of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._arrays import to_host
from gloree._brief import Brief
from gloree._sums import Sums
from gloree.chains import LagMoments, lag_moments
from gloree.diagnostics import ConvergenceWarning, Finding, FitReport, SpecificationWarning, Stage
from gloree.engine import Source
from gloree.fitting._given_units import (
    given_centre,
    in_given_units,
    on_given_inputs,
    on_seen_inputs,
    scale_of_columns,
)
from gloree.fitting._input_changes import SegmentMoments, change_of_inputs, moments_of_inputs
from gloree.fitting._outlying import without_unlike
from gloree.fitting._outputs import cut_data, plan_moment, usual_variance
from gloree.fitting._pipeline import faults_explained, same_data
from gloree.fitting._problem import EQUAL, FitProblem
from gloree.fitting._recurrence import units_of
from gloree.models import Network
from gloree.refinement import (
    MOST_WEIGHTS,
    Continuation,
    Layout,
    Likelihood,
    NormalOutputs,
    NormalSums,
    SoftmaxLabels,
    StandardErrors,
    chance,
    covariance_of,
    go_on,
    in_other_units,
    inverse_root,
    on_uncentred_inputs,
    residual_sums,
    sum_normal_equations,
    sums_of_report,
)
from gloree.sequences import Array, Batch

CURVED, MOVED = 1.0, 0.5
"""Standard errors by which the parabola of the old rows may lead the weights astray, unwarned, and
by which they have to move for that: below this its curvature would have to change more than
twofold within half a standard error, and what a few new rows seem to say of it is their noise."""

MORE_ROWS = "more rows"
"""Stage of a report that stands for all rows after the first ones."""

AT_ODDS, LEVEL = 2.0, 1e-6
"""Chi square over its degrees of freedom, and its level, from which old and new rows disagree."""

ROWS_PER_DEGREE = 2.0
"""New rows of labels for each degree of freedom, at least: the score of few has heavy tails, since
one label of small probability outweighs all others."""

FLOOR = 1e-6
"""Part of its variance that is added to the noise of each output, so that none is without any."""


@dataclass(frozen=True, eq=False)
class KeptRows(Brief):
    """All that is kept of rows: sums at the weights they led to.

    Attributes
    ----------
    model : Network
        These weights, on inputs times `scale` less `centre` (as of `Source`).
    sums : NormalSums
    precision : ndarray of shape (n_outputs, n_outputs) or None
        Of the noise of the outputs; None for labels.
    centre, scale : ndarray or None
    origin : ndarray of shape (n_inputs,) or None
        Of the inputs times `scale`, about which their moments are taken.
    inputs : SegmentMoments or None
        Moments of the inputs, by segments.
    law : LagMoments or None
        Sums behind the law of the inputs.
    """

    model: Network
    sums: NormalSums = field(repr=False)
    precision: Array | None
    centre: Array | None = None
    scale: Array | None = None
    origin: Array | None = None
    inputs: SegmentMoments | None = field(default=None, repr=False)
    law: LagMoments | None = field(default=None, repr=False)

    @property
    def likelihood(self) -> Likelihood:
        """How outputs come about."""
        return SoftmaxLabels() if self.precision is None else NormalOutputs(self.precision)

    def source(self, problem: FitProblem) -> Source:
        """New data, cut and scaled as the old ones."""
        cut = cut_data(problem, plan_moment(problem))
        return replace(cut, centre=self.centre, scale=self.scale)


def check_size(layout: Layout) -> None:
    """Refuse more weights than normal equations are formed of."""
    if layout.size > MOST_WEIGHTS:
        raise ValueError(
            f"`partial_fit` keeps the normal equations of all weights, of up to {MOST_WEIGHTS:,}, "
            f"and there are {layout.size:,}: use `warm_start`=True with old and new rows together"
        )


def keep_rows(problem: FitProblem, model: Network, *, labels: bool, order: int) -> KeptRows:
    """What is kept of the rows that a network was fitted to; `order` is that of their law.

    Three passes: the law, the noise, and the normal equations.
    """
    check_size(problem.layout_of(model))
    run, source = problem.engine.run, cut_data(problem, plan_moment(problem))
    law = law_sums(problem, source, order)
    found = law.finalize()
    spread = np.sqrt(np.diag(found.covariance))
    scale = np.exp2(-np.round(np.log2(np.where(spread > 0.0, spread, 1.0))))
    mean = found.mean * scale
    moments = moments_of_inputs(problem.engine, source, mean, scale)
    free = problem.layout_of(model).unit_bias
    centre = np.tile(mean, problem.n_inputs // mean.shape[0]) if free else None
    source = replace(source, centre=centre, scale=scale)
    seen, precision = on_seen_inputs(source, model), None
    if not labels:
        noise = run(partial(residual_sums, model=seen), source, label="residuals").covariance
        precision = _metric(problem, noise + FLOOR**2 * np.diag(usual_variance(problem)))
    kept = KeptRows(seen, _NONE, precision, centre, scale, mean, moments, law)
    given = (seen, problem.layout_of(seen), problem.engine, source, kept.likelihood)
    sums = sum_normal_equations(*given)
    if labels:  # weights that held-out steps chose are taken to be the best for all of them
        sums = replace(sums, gradient=np.zeros_like(sums.gradient))
    return replace(kept, sums=sums)


_NONE = NormalSums(0.0, 0.0, *(np.zeros(0) for _ in range(4)))


def kept_of_report(
    problem: FitProblem, model: Network, report: FitReport, *, labels: bool
) -> KeptRows:
    """What the report of a fit knows of its rows: weights, their covariance, and the noise."""
    layout, noise = problem.layout_of(model), report.residual_covariance
    check_size(layout)
    if report.covariance is None or (noise is None and not labels):
        raise ValueError(
            "`partial_fit` after `fit` goes on from the covariance of the weights, and this fit "
            "has none: call `partial_fit` from the first rows on"
        )
    order = np.concatenate([layout.indices[name].ravel() for name in report.weights])
    place = np.ix_(order, order)
    covariance, inverse = np.empty_like(report.covariance), None
    covariance[place] = report.covariance
    if report.inverse_information is not None:
        inverse = np.empty_like(covariance)
        inverse[place] = report.inverse_information
    n_rows = float(report.sizes["steps"])
    seen = on_seen_inputs(Source(problem.data), model)
    if labels or noise is None:
        # how many of them were wrong is not known, nor how often each occurred
        misses = np.concatenate(([np.nan], np.full(model.n_outputs, n_rows / model.n_outputs)))
        return KeptRows(
            seen, sums_of_report(covariance, n_rows, misses, layout.size, inverse), None
        )
    sums = sums_of_report(covariance, n_rows, n_rows * noise.ravel(), layout.size, inverse)
    return KeptRows(seen, sums, _metric(problem, noise))


def law_sums(problem: FitProblem, source: Source, order: int) -> LagMoments:
    """Sums behind a Gaussian chain of the inputs as given."""
    plain = replace(source, lags=1, both_ways=False, scale=None, centre=None, encode=None)
    return problem.engine.run(partial(lag_moments, order=order), plain, label="input law")


@dataclass(frozen=True)
class LabelCounts(Sums):
    """Rows with each label."""

    counts: Array


def label_counts(batch: Batch, n_classes: int) -> LabelCounts:
    """Map of the pass over labels."""
    numbers = to_host(batch.targets)[batch.counted_rows, 0].astype(np.int64)
    return LabelCounts(np.bincount(numbers, minlength=n_classes).astype(np.float64))


def with_new_labels(
    problem: FitProblem, kept: KeptRows, source: Source, layout: Layout
) -> KeptRows:
    r"""Give labels that come for the first time the frequency :math:`\pi` they have in all rows.

    The old rows, which are without them, have no curvature there: it is that of as many rows with
    this frequency, n pi (1 - pi) for the output bias.
    """
    n, model, bias = kept.sums.n_rows, kept.model, kept.model.output_bias.copy()
    function = partial(label_counts, n_classes=model.n_outputs)
    counts = problem.engine.run(function, source, label="labels").counts
    before = kept.sums.misses[1:]
    new = np.flatnonzero((before == 0) & (counts > 0))
    if not new.size or not layout.bias:
        return kept
    share = counts / (n + counts.sum())
    usual = np.log(np.exp(bias - bias.max())[before > 0].sum()) + bias.max()
    bias[new] = usual + np.log(share[new])
    information = kept.sums.information.copy()
    at = layout.indices["output_bias"][new]
    information[at, at] += n * share[new] * (1.0 - share[new])
    sums = replace(kept.sums, information=information)
    return replace(kept, model=model.replace(output_bias=bias), sums=sums)


@dataclass(frozen=True, eq=False)
class Continued(Brief):
    """Old and new rows together: what is kept of them, the weights, and what was found."""

    kept: KeptRows
    step: Continuation
    model: Network
    findings: tuple[Finding, ...]
    n_old: float
    n_new: float

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return (
            f"{self.n_new:,.0f} new steps after {self.n_old:,.0f}; weights moved by "
            f"{self.step.moved:.2g} standard errors, the parabola may be off by "
            f"{self.step.curved:.2g}"
        )


def continue_with(problem: FitProblem, kept: KeptRows) -> Continued:
    """Add new rows to those that are kept."""
    with (
        same_data(problem.data),
        faults_explained(problem),
        problem.engine.small_matrices(),
    ):
        return _continued(problem, kept)


def _continued(problem: FitProblem, kept: KeptRows) -> Continued:
    source, old = kept.source(problem), kept.sums.n_rows
    layout = problem.layout_of(kept.model)
    if kept.precision is None:
        kept = with_new_labels(problem, kept, source, layout)
    like: Source = source
    screened: tuple[Finding, ...] = ()
    if kept.precision is not None:  # what is added to the sums stays there
        like, screened = without_unlike(problem, kept.model, source, kept.precision)
    step = go_on(kept.sums, kept.model, layout, problem.engine, like, kept.likelihood)
    n_new = step.sums.n_rows - old
    tells = kept.precision is not None or n_new >= ROWS_PER_DEGREE * step.degrees
    findings = [*screened, *_findings(step, tells=tells)]
    now = replace(kept, model=step.model, sums=step.sums)
    if kept.inputs is not None and kept.law is not None:
        assert kept.origin is not None and kept.scale is not None
        inputs = moments_of_inputs(problem.engine, source, kept.origin, kept.scale)
        change = change_of_inputs(kept.inputs, inputs)
        findings += [] if change is None else [change]
        law = kept.law.merge(law_sums(problem, source, kept.law.order))
        now = replace(now, inputs=kept.inputs.merge(inputs), law=law)
    given = in_given_units(source, step.model).canonical()
    model = on_given_inputs(problem, source, given)
    return Continued(now, step, model, tuple(findings), old, n_new)


def continued_report(
    problem: FitProblem, report: FitReport, continued: Continued, seconds: float
) -> FitReport:
    """The report of all rows so far: weights and their errors anew, the rest of the first fit."""
    step, kept = continued.step, continued.kept
    sizes = dict(report.sizes)
    sizes["steps"] += problem.data.n_rows
    sizes["sequences"] += problem.data.n_sequences
    report = replace(
        report,
        sizes=sizes,
        stages=_stages(report, continued, seconds),
        conditions={
            **report.conditions,
            "weights moved (standard errors)": step.moved,
            "off by the parabola": step.curved,
        },
        refinement_steps=step.n_steps,
        specification={},
        certificate=None,
        findings=continued.findings,
    )
    n_rows = step.sums.n_rows
    if kept.precision is None:
        right = 1.0 - float(step.sums.misses[0]) / n_rows
        return replace(
            report,
            accuracies={"all rows, each at the weights of its time": right},
            standard_errors={},
            degrees_of_freedom={},
            covariance=None,
            inverse_information=None,
            weights={},
            predicted_errors={},
        )
    errors, layout = _errors(problem, continued)
    covariance = step.sums.misses.reshape(kept.precision.shape) / n_rows
    left = n_rows - layout.size / layout.n_outputs
    return replace(
        report,
        refined_rmse=np.sqrt(np.diag(covariance)),
        residual_covariance=covariance * (n_rows / left if left > 1.0 else 1.0),
        standard_errors=errors.weights,
        degrees_of_freedom=errors.degrees_of_freedom,
        covariance=errors.listed(layout),
        inverse_information=errors.listed_inverse(layout),
        weights=layout.weights(continued.model),
        predicted_errors=errors.relative(continued.model, layout),
    )


def _stages(report: FitReport, continued: Continued, seconds: float) -> tuple[Stage, ...]:
    """Stages of the fit, and one of all calls since."""
    earlier = tuple(each for each in report.stages if each.name != MORE_ROWS)
    seconds += sum(each.seconds for each in report.stages if each.name == MORE_ROWS)
    return (*earlier, Stage(MORE_ROWS, seconds, continued.detail))


def _errors(problem: FitProblem, continued: Continued) -> tuple[StandardErrors, Layout]:
    """Sandwich standard errors of the canonical weights on the inputs as given."""
    kept, step = continued.kept, continued.step
    source, layout = kept.source(problem), problem.layout_of(step.model)
    model = in_given_units(source, step.model)
    reported = on_uncentred_inputs(layout, given_centre(source))
    if source.scale is not None:
        reported = reported @ in_other_units(model, layout, scale_of_columns(source))
    covariance = reported @ covariance_of(step.sums, layout, step.model) @ reported.T
    root = reported @ inverse_root(step.sums.information, layout.scale_constraints(step.model))
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    pieces = np.inf if kept.inputs is None else max(kept.inputs.n_segments - 1.0, 1.0)
    degrees = layout.named(np.full(layout.size, pieces))
    named = layout.named(errors)
    found = StandardErrors(covariance, named, degrees, inverse_information=root @ root.T)
    return found.canonical(units_of(model), layout), layout


def _findings(step: Continuation, *, tells: bool) -> tuple[Finding, ...]:
    """What a continuation has to say; `tells`: whether the new rows are enough for chi square."""
    found = []
    if not step.settled:
        found.append(
            Finding(
                ConvergenceWarning,
                f"the weights of old and new rows had not settled after {step.n_steps} steps",
                "look for outputs and inputs of extreme size in the new rows",
            )
        )
    if step.curved > CURVED and step.moved > MOVED:
        found.append(
            Finding(
                ConvergenceWarning,
                f"the weights moved by {step.moved:.2g} standard errors of the old rows, too far "
                f"for the parabola that stands for these: it may lead them astray by "
                f"{step.curved:.2g} standard errors",
                "fit old and new rows together if they are still there, or more rows at first",
            )
        )
    ratio = step.disagreement / max(step.degrees, 1.0)
    if tells and ratio > AT_ODDS and chance(step.disagreement, step.degrees) < LEVEL:
        found.append(
            Finding(
                SpecificationWarning,
                f"no one set of weights fits the old and the new rows: chi square "
                f"{step.disagreement:.4g}, {step.degrees:.0f} degrees of freedom",
                "the system may have changed: fit the new rows alone, and compare",
            )
        )
    return tuple(found)


def _metric(problem: FitProblem, covariance: Array) -> Array:
    """Inverse covariance of the residuals, or the metric that was asked for, in units of it."""
    given = problem.settings.output_weights
    if not isinstance(given, str):
        metric = np.diag(given) if given.ndim == 1 else given
    elif given == EQUAL:
        metric = np.eye(len(covariance))
    else:
        return np.asarray(np.linalg.inv(covariance + np.diag(FLOOR * np.diag(covariance))))
    return np.asarray(metric * (len(covariance) / float(np.sum(metric * covariance))))
