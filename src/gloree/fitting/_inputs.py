"""Second stage: the law of the inputs, their centre and whitening, and whether the score fits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gloree._arrays import column_sums, like, take_rows, to_host
from gloree._sums import Sums
from gloree.chains import (
    GaussianVAR,
    HermiteLaw,
    InputLaw,
    LagMoments,
    NonStationaryChainError,
    lag_moments,
    with_metric,
)
from gloree.diagnostics import (
    CONDITION_LIMIT,
    ConditionWarning,
    Finding,
    ScoreWarning,
    check_covariance,
    check_size,
)
from gloree.engine import Source
from gloree.fitting._outputs import HEAD_ROWS, SEGMENT, OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.moments import Whitening
from gloree.score_functions import ScoreCheck, SymmetricWhitening, stein_statistic
from gloree.sequences import Array, Batch

WIDE = 200
"""Inputs beyond which neither a law nor J^T J of all weights is formed, unless it is asked for."""

CHECK_ROWS, START_CHECK_ROWS = 60_000, 20_000
"""Steps on which Stein's identity is checked; fewer where the score is for a start at most."""

CHECKED_INPUTS = 8
"""Inputs on which it is checked, evenly spread."""

DEFECT_LIMIT = 0.45
"""Stein defect from which the score is not used for the recurrence."""

RADIUS_LIMIT = 0.75
"""Rho from which it is not: residual rounds with a score converge only below 1."""

COVARIANCE_ROWS = 50
"""Rows for each input from which the covariance of very many inputs is taken, at least."""

COVARIANCE_WORK = 10**11
"""Rows times squared inputs up to which all rows are taken."""

SCALE_LIMIT = 30.0
"""Ratio of the standard deviations of two inputs from which they are scaled."""

LARGEST_UNIT = 2.0**10
"""Standard deviation of an input, and its inverse, up to which inputs stay in their own units."""

MATERIAL_MEAN = 0.25
"""Mean of an input, over its standard deviation, from which the inputs are centred."""

WINDOW_RTOL = 1e-4
"""Lag windows are whitened along directions of at least this relative variance. Neighbouring
samples of a band-limited input are nearly collinear; along weaker directions the units would fit
noise, and windows that reach before the start of a record would be far outside their range."""


@dataclass(frozen=True)
class InputSums(Sums):
    """Mean and covariance of the (lag-window) inputs about a provisional centre."""

    n_rows: float
    centre: Array = field(metadata={"setting": True})
    total: Array
    products: Array


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused by its size
def input_sums(batch: Batch, centre: Array) -> InputSums:
    """Map of the pass over the inputs."""
    values = take_rows(batch.X, batch.counted) - like(batch.X, centre)
    return InputSums(
        float(batch.n_counted), centre, to_host(column_sums(values)), to_host(values.T @ values)
    )


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of the inputs, and the condition number of their correlations."""

    mean: Array
    covariance: Array
    condition: float

    @property
    def spread(self) -> Array:
        """Standard deviations."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def offset(self) -> float:
        """Largest mean of an input, over its standard deviation."""
        return float(np.max(np.abs(self.mean) / np.where(self.spread > 0, self.spread, np.inf)))


@dataclass(frozen=True)
class InputSummary:
    """What is known once the inputs have been seen.

    `source` holds the data with centred inputs where their mean is material, `inliers` the same
    without segments that stay out of the moments. `law` is that of the inputs as passes see them,
    `given_law` that of the inputs as given; both are None where there is none to use. `condition`
    is the condition number of the inputs, `offset` the largest mean over its standard deviation;
    `spread`, (n_columns,), are standard deviations as passes see the columns.
    """

    source: Source
    inliers: Source
    law: HermiteLaw | None
    given_law: InputLaw | None
    whitening: Whitening
    condition: float
    spread: Array
    score_check: ScoreCheck | None
    detail: str
    findings: tuple[Finding, ...] = ()
    offset: float = 0.0

    @property
    def score_is_wrong(self) -> bool:
        """Whether the Stein defect, or rho, rules the score out."""
        check = self.score_check
        if check is None:
            return False
        # noise alone has a spectral radius too; an eigenvalue well outside of it is a true one
        seen = check.radius > 1.5 * check.radius_noise
        divergent = seen and check.radius > RADIUS_LIMIT + check.radius_error
        parts = (check.neighbours, *check.lower_orders)
        off = any(part is not None and part.is_large for part in parts)
        return check.defect > DEFECT_LIMIT or divergent or off


def summarise_inputs(problem: FitProblem, outputs: OutputSummary) -> InputSummary:
    """Find the law of the inputs, centre them, and check the score on them."""
    settings, source = problem.settings, outputs.source
    findings: list[Finding] = []
    given: InputLaw | None = None
    asked = scaled_law(settings.law, source.scale)
    windows = settings.lags > 1
    if windows or settings.all_orders or _is_wide(problem, outputs):
        moments = _window_moments(problem, source)
        given = asked if settings.all_orders and not windows else None
        detail = f"windows of {settings.lags} steps" if windows else "no law is fitted"
    else:
        known = settings.law
        order = 1 if known is None or not known.capabilities.hermite else known.context[0]
        sums = problem.engine.run(partial(lag_moments, order=order), source, label="input law")
        found = sums.finalize()
        condition = check_covariance(found.covariance, found.mean)
        moments = Moments(found.mean, found.covariance, condition)
        given, trouble = asked, None
        if given is None and problem.data.longest > 1:
            given, trouble = _fit_law(problem, sums)
        findings += [trouble] if trouble is not None else []
        detail = "" if given is None else f"{given}"
    scale = unit_scale(moments, problem.data.n_inputs)
    if scale is not None and source.scale is None and _can_be_scaled(settings.law):
        return summarise_inputs(problem, replace(outputs, source=replace(source, scale=scale)))
    centre = _centre(problem, moments)
    seen, mean = given, moments.mean
    if centre is not None:
        source, mean = replace(source, centre=centre), np.zeros_like(mean)
        seen = None if given is None else given.shifted(centre)
    law = None if seen is None else with_metric(seen, moments.covariance)
    whitening = Whitening.from_covariance(
        mean, moments.covariance, rtol=WINDOW_RTOL if windows else 1e-12
    )
    check = None
    if law is not None and has_tensors(law, 2) and not settings.all_orders:
        check = _check_score(problem, source, law, mean, moments.covariance)
        findings += _given_law_findings(law, check)
    if not (windows or settings.few_values):
        findings += _scale_findings(moments)
    inliers = replace(source, skipped=outputs.outliers)
    if source.scale is not None:
        given = settings.law or scaled_law(given, 1.0 / source.scale)
    return InputSummary(
        *(source, inliers, law, given, whitening, moments.condition, moments.spread, check, detail),
        findings=tuple(findings),
        offset=moments.offset,
    )


def has_tensors(law: InputLaw, order: int) -> bool:
    """Whether a law declares score tensors of this order, Hermite or from derivatives."""
    most = law.capabilities.max_score_order
    known = law.capabilities.hermite or hasattr(law, "derivatives")
    return known and (most is None or most >= order)


def _given_law_findings(law: HermiteLaw, check: ScoreCheck | None) -> list[Finding]:
    """Warn of a law given as `chain`, other than a Gaussian chain, that these inputs do not follow.

    Gaussian ones are the default, and what they are wrong in is found where it matters.
    """
    if check is None or law.capabilities.hermite:
        return []
    if not check.defect - 2 * check.defect_error > DEFECT_LIMIT:
        return []
    text = (
        f"the law given as `chain` ({law!r:.80}) fails Stein's identity on these inputs (defect "
        f"{check.defect:.2f}, limit {DEFECT_LIMIT})"
    )
    remedy = (
        "the fit does without its score where it can. Correct the law, estimate a score with "
        "`chains.ScoreMatching.fit`, or leave `chain` out"
    )
    return [Finding(ScoreWarning, text, remedy)]


def unit_scale(moments: Moments, n_inputs: int) -> Array | None:
    """Powers of two that bring every input near unit variance; None where units are no matter.

    A multiplication by them is exact: the fit of inputs in other units is the same fit. Inputs
    within `SCALE_LIMIT` of each other get one factor, or none within `LARGEST_UNIT` of 1.
    """
    spread = np.sqrt(np.diag(moments.covariance)[:n_inputs])
    alike = spread.max() <= SCALE_LIMIT * spread.min()
    if alike and spread.min() >= 1.0 / LARGEST_UNIT and spread.max() <= LARGEST_UNIT:
        return None
    exponents = np.log2(spread)
    return np.exp2(-np.round(np.full_like(spread, exponents.mean()) if alike else exponents))


def _can_be_scaled(law: InputLaw | None) -> bool:
    return law is None or hasattr(law, "scaled")


def scaled_law(law: InputLaw | None, scale: Array | None) -> InputLaw | None:
    """Law of inputs times `scale`; a law of somebody else needs a method ``scaled`` for that."""
    if law is None or scale is None:
        return law
    scaled: InputLaw = law.scaled(scale)  # type: ignore[attr-defined]
    return scaled


def _is_wide(problem: FitProblem, outputs: OutputSummary) -> bool:
    """Whether inputs are so many that scores would cost as much as all the rest of a fit."""
    settings = problem.settings
    asked = settings.law is not None or settings.asks_for_score
    reduced = outputs.plan.n_directions < problem.n_inputs
    return not asked and problem.data.n_inputs > WIDE and reduced


def _window_moments(problem: FitProblem, source: Source) -> Moments:
    """Mean, covariance and condition of the (lag-window) inputs, from part of very many."""
    windows, n_inputs = problem.settings.lags > 1, problem.data.n_inputs
    dependent = problem.settings.few_values
    head = problem.first_rows(HEAD_ROWS)[0].mean(axis=0)
    if source.scale is not None:
        head = head * source.scale
    centre = np.tile(head, problem.n_inputs // n_inputs)
    rows = max(COVARIANCE_ROWS * problem.n_inputs, COVARIANCE_WORK // problem.n_inputs**2)
    sums = problem.engine.run(
        partial(input_sums, centre=centre),
        source.subset(rows) if rows < problem.data.n_rows else source,
        label="input covariance",
    )
    check_size("X", np.diagonal(sums.products) / sums.n_rows)
    offset = sums.total / sums.n_rows
    covariance = sums.products / sums.n_rows - np.outer(offset, offset)
    if windows:
        check_covariance(covariance[:n_inputs, :n_inputs], allow_singular=dependent)
    condition = check_covariance(covariance, allow_singular=windows or dependent)
    return Moments(centre + offset, covariance, condition)


def _centre(problem: FitProblem, moments: Moments) -> Array | None:
    """Mean to subtract from the inputs, if it is material.

    With free biases the network on x - m is the network on x with b and c shifted, and states
    of z^l with a large mean would drown their own variation. For labels every mean is, so that a
    search which is stopped by held-out data does not depend on the origin.
    """
    material = problem.encode is not None or moments.offset > MATERIAL_MEAN
    return moments.mean if material and problem.settings.bias else None


def _fit_law(problem: FitProblem, moments: LagMoments) -> tuple[GaussianVAR | None, Finding | None]:
    """Fit a Gaussian chain; none, with a finding, where there is no stationary one."""
    chain = GaussianVAR.from_moments(moments, require_stationary=False)
    if chain.is_stationary:
        return chain, None
    text = (
        f"the inputs wander or grow: their fitted chain has spectral radius "
        f"{chain.spectral_radius:.6g} and no stationary law"
    )
    if problem.settings.asks_for_score:
        raise NonStationaryChainError(
            f"{text}, so there is no score. Difference or detrend the inputs, or use "
            f"moment='regression' and recurrence='instrument', which then do without one"
        )
    remedy = (
        "the fit does without a score (`xreg` features and least squares for U). Difference or "
        "detrend the inputs if they are not meant to wander"
    )
    return None, Finding(ScoreWarning, text, remedy)


def _check_score(
    problem: FitProblem, source: Source, law: HermiteLaw, mean: Array, covariance: Array
) -> ScoreCheck | None:
    """Check Stein's identity on a subsample: is the score right for these inputs."""
    values = np.linalg.eigvalsh(covariance)
    if values[0] <= 1e-12 * values[-1]:
        return None
    settings = problem.settings
    final = settings.asks_for_score or settings.solver is None
    whitening = SymmetricWhitening.from_moments(mean, covariance, max_inputs=CHECKED_INPUTS)
    function = partial(stein_statistic, chain=law, whitening=whitening, block=SEGMENT)
    some = source.subset(CHECK_ROWS if final else START_CHECK_ROWS)
    sums = problem.engine.run(function, some, label="score")
    if np.count_nonzero(sums.counts) < 2:
        return None
    beside = []
    if settings.asks_for_score and problem.data.longest > 1:
        # nothing but the score is used: single steps may have the right law, and transitions not
        around = replace(source, before=max(source.before, 1), after=max(source.after, 1))
        some = around.subset(CHECK_ROWS)
        for lag in (1, -1):
            found = problem.engine.run(partial(function, lag=lag), some, label="score")
            beside += [found] if np.count_nonzero(found.counts) >= 2 else []
    return sums.finalize(law, beside, given=settings.law is not None)


def _scale_findings(moments: Moments) -> list[Finding]:
    """What the sizes (of inputs whose law cannot be scaled) and correlations let expect."""
    findings = []
    if moments.condition > CONDITION_LIMIT:
        text = f"the inputs are nearly collinear (condition number {moments.condition:.1e})"
        remedy = "errors along their weak directions are large; see the standard errors"
        findings.append(Finding(ConditionWarning, text, remedy))
    spread = np.sqrt(np.diag(moments.covariance))
    if spread.max() > SCALE_LIMIT * spread.min():
        sizes = f"{spread.min():.1e} to {spread.max():.1e}"
        text = f"the columns of `X` have standard deviations from {sizes}"
        remedy = (
            "bring them to similar units, or give the law (`chain`) a method `scaled`, or weights "
            "of the small ones will be found badly or not at all"
        )
        findings.append(Finding(ConditionWarning, text, remedy))
    return findings
