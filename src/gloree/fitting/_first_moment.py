"""Third stage: the first moment, the number of units, and the decomposition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree._sums import required
from gloree.decomposition import Decomposition, RankChoice, choose_rank, decompose
from gloree.diagnostics import (
    AcceptanceWarning,
    Finding,
    IdentifiabilityError,
    RotationWarning,
    ScoreWarning,
    TooFewSamplesError,
    check_identifiable,
)
from gloree.engine import Subset, halves
from gloree.fitting._few_values import uncounted
from gloree.fitting._inputs import DEFECT_LIMIT, RADIUS_LIMIT, InputSummary
from gloree.fitting._lower_terms import leading_monomial
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._range_finder import find_range, plain_residual
from gloree.models import Network
from gloree.moments import (
    BoundMoment,
    FirstMomentEstimator,
    MomentEstimate,
    ResidualMoment,
    ScoreMoment,
)
from gloree.refinement import Layout, first_model
from gloree.sequences import Array

CAREFUL = 4
"""Times as many rows where the number of units is looked for, in four parts of them, or where no
refinement follows."""

MORE_ROWS = 4
"""Times as many rows for the next first moment, where the decomposition of one is not accepted."""

MOMENT_WORK = 10**11
"""Rows times squared features of such a moment, at most."""

NOISE_FLOOR = 1e-8
"""Least noise of an output that the decomposition reckons with, relative to the largest output."""

FEWEST_SEGMENTS = 8
"""Segments that are cut into four parts, at least; longer ones are cut up for it."""

CONTRASTS = ((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
"""Signs of the quarters in differences that hold nothing but noise."""


@dataclass(frozen=True)
class FirstMoment:
    """Units without recurrence: A1 and A2 from the decomposition of a moment, U = 0.

    `moment` is the name of its estimator, `residual` the moment of residuals for the rounds,
    `rows` what it was taken of (`n_rows` were asked for). `reduced` says whether it was taken along
    a few directions of the inputs that were found first. `doubts` are findings on the
    decomposition, which tests of the refined units replace. `noise`, (n_outputs,), is what a
    regression on the inputs alone leaves, where there was one.
    """

    model: Network
    layout: Layout
    moment: str
    residual: ResidualMoment
    decomposition: Decomposition
    rank_reason: str | None
    rows: Subset
    n_rows: int
    reduced: bool
    findings: tuple[Finding, ...]
    doubts: tuple[Finding, ...]
    detail: str
    noise: Array | None = None


def estimate_first_moment(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary
) -> FirstMoment:
    """Estimate and decompose the first moment, from more rows where a few do not decide it."""
    settings, planned = problem.settings, outputs.plan
    estimator = usable_estimator(problem, outputs, inputs)
    findings = (*_score_findings(estimator, inputs), *uncounted(problem))
    details, whitening = [], inputs.whitening
    reduced = planned.n_directions < whitening.n_directions
    if reduced:
        whitening = find_range(problem, outputs, inputs, planned.n_directions)
        details.append(f"{whitening.n_directions} directions found")
    n_features = estimator.n_features(whitening.n_directions, problem.degree)
    context = (0, 0) if inputs.law is None else inputs.law.context
    estimator = estimator.suited_to(problem.data.n_interior(*context), n_features)
    bound = estimator.bind(problem.degree, whitening, inputs.law)
    n_hidden, wanted, rank_reason = settings.n_hidden, planned.first_rows, None
    if n_hidden is None or settings.solver is None:
        wanted *= CAREFUL
    n_rows = 0
    while wanted != n_rows:
        n_rows = min(wanted, problem.data.n_rows)
        rows = inputs.inliers.subset(wanted, keep=True)
        estimate = take_moment(problem, outputs, bound, rows, "first moment")
        scale = output_scale(outputs, estimate.noise)
        if n_hidden is None:
            choice = number_of_units(problem, outputs, bound, rows)
            n_hidden, rank_reason = choice.rank, str(choice)
        determined = check_sizes(problem, outputs, n_hidden)
        # scores in these coordinates are white, and their noise is not isotropic
        white = np.eye(estimate.tensor.shape[1]) if isinstance(estimator, ScoreMoment) else None
        found = decompose(
            estimate.tensor,
            n_hidden,
            score_covariance=white,
            output_scale=scale,
            random_state=problem.rng,
        )
        wanted = _next_rows(problem, outputs, found, n_rows)
    residual = estimate.residual or plain_residual(problem, whitening, rows)
    layout = unit_layout(problem, found.rank)
    model = first_model(
        found, bound.coordinates, leading_monomial(settings.polynomial), outputs.mean, layout
    )
    details.append(f"decomposition {found.status.name.lower()}")
    if n_rows != planned.first_rows:
        details.append(f"from {n_rows:,} steps")
    findings += _rotation(determined=determined)
    return FirstMoment(
        *(model, layout, estimator.name, residual, found, rank_reason, rows, n_rows),
        *(reduced, findings, _doubts(problem, found), "; ".join(details), estimate.noise),
    )


def take_moment(
    problem: FitProblem, outputs: OutputSummary, bound: BoundMoment, rows: Subset, label: str
) -> MomentEstimate:
    """One pass, and what it tells."""
    function = partial(bound.sums, output_mean=outputs.mean)
    found = bound.estimate(problem.engine.run(function, rows, label=label))
    found = required(found, MomentEstimate, f"`estimate` of {bound!r:.100}")
    shape = (problem.n_outputs, *[bound.coordinates.n_directions] * problem.degree)
    if np.shape(found.tensor) != shape or not np.isfinite(found.tensor).all():
        raise ValueError(
            f"the first moment of {bound!r:.100} has a tensor of shape {np.shape(found.tensor)}, "
            f"expected finite numbers in shape {shape}: (n_outputs, n_directions, ..)"
        )
    return found


def output_scale(outputs: OutputSummary, noise: Array | None) -> Array:
    """Noise of the outputs in a moment, bounded from below."""
    floor = NOISE_FLOOR * float(outputs.std.max())
    return np.maximum(outputs.std if noise is None else noise, floor)


def number_of_units(
    problem: FitProblem, outputs: OutputSummary, bound: BoundMoment, rows: Subset
) -> RankChoice:
    """Number of units from the moments of four quarters of the data.

    They contrast in three ways, each with the noise of their mean; the loudest contrast sets the
    bar, as one alone may happen to be quiet.
    """
    source = rows.source
    whole = source.as_subset() if rows.n_batches == 1 else rows
    if whole.n_visited < FEWEST_SEGMENTS:
        whole = replace(source, segment=max(20, outputs.n_rows // 8)).as_subset()
    try:
        quarters = [each for half in halves(whole) for each in halves(half)]
    except ValueError as error:
        raise ValueError(
            "`n_hidden=None` compares four parts of the data, and these are a few short pieces: "
            "set `n_hidden`"
        ) from error
    found = [take_moment(problem, outputs, bound, each, "quarters") for each in quarters]
    tensors = [each.tensor for each in found]
    scales = [each.noise for each in found if each.noise is not None]
    scale = np.mean(scales, axis=0) if scales else outputs.std
    if not scale.any():  # quarters with as many rows as features leave no noise
        scale = outputs.std
    scale = np.maximum(scale, NOISE_FLOOR * scale.max())
    mean = np.mean(tensors, axis=0)
    contrasts = [np.tensordot(sign, tensors, axes=1) / 4 for sign in CONTRASTS]
    weights = scale.reshape(-1, *[1] * problem.degree)
    noise = max(contrasts, key=lambda contrast: float(np.linalg.norm(contrast / weights)))
    return choose_rank(mean + noise, mean - noise, output_scale=scale, random_state=problem.rng)


def with_offset(problem: FitProblem, outputs: OutputSummary, first: FirstMoment) -> FirstMoment:
    """The same units with a free offset of the outputs, which starts at their mean."""
    layout = unit_layout(problem, first.layout.n_hidden)
    return replace(first, layout=layout, model=first.model.replace(output_bias=outputs.mean))


def unit_layout(problem: FitProblem, n_hidden: int) -> Layout:
    """Free weights while units are looked for."""
    settings = problem.settings
    lower_terms = not settings.activation.is_monomial
    hidden = settings.bias or lower_terms
    return Layout(
        problem.n_inputs,
        n_hidden,
        problem.n_outputs,
        # directions are found among units without memory
        recurrent=settings.recurrence is not None and not settings.bidirectional,
        bias=hidden or settings.offset,
        direct=settings.direct or (problem.degree == 3 and lower_terms),
        hidden_bias=hidden and not settings.bias_is_direct,
    )


def check_sizes(problem: FitProblem, outputs: OutputSummary, n_hidden: int) -> bool:
    """Refuse sizes that the data cannot determine; False where units are free to rotate."""
    recurrent = problem.settings.recurrence is not None
    if recurrent and problem.data.longest == 1:
        raise IdentifiabilityError(
            "all sequences have a single step, which no recurrence reaches: use recurrence=None"
        )
    problem.check_samples(outputs.n_rows, n_hidden)
    sizes = (problem.n_inputs, n_hidden, problem.n_outputs, problem.degree)
    return check_identifiable(*sizes, recurrent=recurrent)


def usable_estimator(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary
) -> FirstMomentEstimator:
    """Estimator that was planned, or what takes its place where there is no law of the inputs."""
    estimator = outputs.plan.estimator
    known = inputs.law is not None
    if inputs.law is not None and not inputs.law.capabilities.hermite:
        known = not getattr(estimator, "hermite", True)
    if known or not estimator.uses_scores:
        return estimator
    other = estimator.without_scores()
    if other is not None:
        return other
    if problem.settings.moment == "auto":
        raise TooFewSamplesError(
            f"{outputs.n_rows} steps are too few for a regression moment of {problem.n_inputs} "
            f"inputs, and without an input law there is no score moment: give more data"
        )
    raise ValueError(
        f"`moment='{estimator.name}'` needs an input law, and none can be fitted to single steps "
        f"or lag windows: use moment='regression'"
    )


def _score_findings(estimator: FirstMomentEstimator, inputs: InputSummary) -> tuple[Finding, ...]:
    """Warn of a score that is wrong where nothing but the score is used."""
    check = inputs.score_check
    alone = estimator.uses_scores and estimator.without_scores() is None
    if not alone or check is None or not inputs.score_is_wrong:
        return ()
    beside = check.neighbours
    steps = "" if beside is None else f", {beside.defect:.2f} with the steps beside"
    names = ("the mean of the score", "E[s x^T]", "E S_2")
    for part, where in zip(check.lower_orders, names, strict=True):
        if part is not None and part.is_large:
            steps += f", {part.defect:.2f} from {where}"
    finding = Finding(
        ScoreWarning,
        f"moment={estimator.name!r}: the score of the input law ({inputs.law!s:.60}) fails Stein's "
        f"identity on these inputs (defect {check.defect:.2f}{steps}, rho {check.radius:.2f}; "
        f"limits {DEFECT_LIMIT} and {RADIUS_LIMIT}), so the score moment is biased and its "
        f"rounds need not converge",
        "use moment='regression'",
    )
    return (finding,)


def _rotation(*, determined: bool) -> tuple[Finding, ...]:
    if determined:
        return ()
    text = (
        "one output and a quadratic activation: the hidden units are determined only up to a "
        "rotation (the eigenvectors of the quadratic form are returned); predictions do not "
        "depend on it"
    )
    return (Finding(RotationWarning, text),)


def _doubts(problem: FitProblem, found: Decomposition) -> tuple[Finding, ...]:
    """Say that the decomposition may be wrong, or which of its components might be noise."""
    if found.accepted or _free_to_rotate(problem, found):
        return ()
    text = "the decomposition of the first moment is not reliable"
    if found.overall_objection:
        text += (
            f" (status {found.status.name}, predicted errors {found.component_error:.2g} and "
            f"{found.loading_error:.2g}, largest |cos| {found.max_cosine:.2f}, largest |W|/|T| "
            f"{found.max_loading:.2g}): the units may be wrong"
        )
        remedy = "use more data, more outputs or fewer units"
    else:
        text += f": {found.objection} (of {found.rank}, in the order of `report_.decomposition`)"
        remedy = "lower `n_hidden`, or use more data or more outputs"
    return (Finding(AcceptanceWarning, text, remedy),)


def _next_rows(
    problem: FitProblem, outputs: OutputSummary, found: Decomposition, n_rows: int
) -> int:
    """Rows for another first moment: as many as before if it will do, or there are no more."""
    if found.accepted or _free_to_rotate(problem, found):
        return n_rows
    most = min(problem.data.n_rows, MOMENT_WORK // outputs.plan.n_features**2)
    return max(n_rows, min(MORE_ROWS * n_rows, most))


def _free_to_rotate(problem: FitProblem, found: Decomposition) -> bool:
    """Whether the components are determined up to a rotation at most, by any number of rows."""
    return problem.n_outputs == 1 and found.order == 2
