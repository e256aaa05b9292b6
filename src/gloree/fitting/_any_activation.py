"""A fit with any activation: from units of the derivatives to an optimum with a certificate.

The descents on a part of the data come first. One that leaves no more lack of fit than the noise of
that part goes on with all data, and is certified, or the next start is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gloree.diagnostics import (
    Certificate,
    CertificateStatus,
)
from gloree.engine import Subset
from gloree.fitting._any_units import UnitStart, units_from_derivatives, with_readout
from gloree.fitting._attempts import (
    ALIKE,
    Attempt,
    NoAttempt,
    Part,
    attempt,
    starts,
)
from gloree.fitting._certificate import (
    AMPLIFIES,
    CONTRADICTED,
    SETTLED,
    Certified,
    certified,
    findings_of,
)
from gloree.fitting._descent import Descent, Start, descend, minimised, out_of_mirrors
from gloree.fitting._first_state import images_of, widened, with_first_step
from gloree.fitting._given_units import smallest_input_weights
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lack_of_fit import CERTIFIED_SHARE
from gloree.fitting._output_weighing import with_output_weights
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import PRECISE, FitProblem
from gloree.fitting._recurrence import MomentFit, lacks_offset
from gloree.fitting._refine import RefinedFit, interrupted, keep_moments
from gloree.fitting._stages import StageRunner
from gloree.models import ExplosionError, Network
from gloree.refinement import (
    GaussNewton,
    Iterate,
    LevenbergMarquardt,
    RefinementStatus,
    RoundSums,
    SquaredError,
    square_sums,
)
from gloree.sequences import Segments

ALL_ROWS_STEPS, ALL_ROWS_DAMPING = 25, 1e-6
"""Steps with J^T J of all rows where one of a part of them does not settle, and first damping."""

OPEN = 1e-6
"""Least eigenvalue of J^T J, with a diagonal of ones, below which weights are not determined: 1e-3
for strong recurrences, 1e-9 for units too many."""

CLEAR, POSSIBLE = 40.0, 20.0
"""Noise variances by which other mirror images have to be worse on the part to be ruled out, and by
which those that are tried on all data may be worse than the best."""

PREFIX_STEPS = 12
"""Steps on the prefixes of all sequences for each length."""

FITS_ITS_PART = 0.1
"""Lack of fit on other rows from which a network fits nothing but its part."""

HOPEFUL = 0.02
"""Lack of fit from which on all data a descent would not settle either."""


@dataclass(frozen=True)
class Search:
    """Attempts so far, and those that went on with all data."""

    start: UnitStart
    moments: MomentFit
    attempts: tuple[Attempt, ...] = ()
    tried: tuple[str, ...] = ()
    finals: tuple[Certified, ...] = ()

    @property
    def best(self) -> Attempt:
        """Attempt of least squared error."""
        return min(self.attempts, key=lambda each: each.loss)

    @property
    def agree(self) -> bool:
        """Whether several starts ended where the best one did, one of them at random if need be.

        Those that begin at the same derivatives may share a false optimum. Where the residuals
        there still depend on the past, the class of networks is to blame only if a start that has
        nothing in common with them ends alike.
        """
        limit = min((each.loss for each in self.attempts), default=0.0) * (1.0 + ALIKE)
        alike = [each for each in self.attempts if each.loss < limit]
        apart = any(each.at_random for each in alike)
        return len(alike) > 1 and (apart or not alike[0].lack.is_clear)

    @property
    def history(self) -> tuple[tuple[str, float], ...]:
        """Mean squared residual of the derivatives and of each attempt, on a part of the data."""
        return (
            *self.moments.current.history,
            *((each.name, each.loss) for each in self.attempts),
        )

    @property
    def final(self) -> Certified:
        """The network of least squared error on all data."""
        return min(self.finals, key=lambda each: each.before.solution.final.loss)

    @property
    def certificate(self) -> Certificate:
        """How sure it is."""
        final = self.final
        status = CertificateStatus.UNCERTAIN
        if final.passed:
            status = CertificateStatus.CERTIFIED
        elif self.agree and final.descended and final.amplification <= AMPLIFIES:
            status = CertificateStatus.AGREED
        lack = final.lack
        return Certificate(
            status, lack.share, lack.score, self.tried, final.attempt.name, lack.detectable
        )


def first_search(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary, stages: StageRunner
) -> tuple[FitProblem, Part, Search]:
    """Units of the derivatives; an offset of the outputs if they turn out to have one."""
    start = stages.run("derivatives", units_from_derivatives, problem, outputs, inputs)
    if problem.settings.n_hidden is None:
        found = replace(problem.settings, n_hidden=start.model.n_hidden)
        problem = replace(problem, settings=found)
    part = Part.of(problem, inputs, start.model.n_hidden)
    if lacks_offset(problem, start.model, part.rows):
        problem = problem.with_offset()
        part = replace(part, problem=problem)
    return problem, part, Search(start, _as_moments(problem, part, start))


def _as_moments(problem: FitProblem, part: Part, start: UnitStart) -> MomentFit:
    """The network of the derivatives alone, and its squared error on the part."""
    layout = problem.layout(start.model.n_hidden)
    model = with_readout(problem, start.model, layout, part.rows)
    found = problem.engine.run(partial(square_sums, model=model), part.rows, label="squares")
    products = np.diag(found.squares)
    current = Iterate(model, RoundSums(found.squares, found.n_rows, products))
    return MomentFit(model, current.noted("derivatives"), None, 0)


def certified_search(
    part: Part,
    outputs: OutputSummary,
    inputs: InputSummary,
    search: Search,
    stages: StageRunner,
) -> Iterator[Search]:
    """Try starts in turn until one is certified, or the rest is without hope.

    Yields what was found so far, after every descent.
    """
    layout = part.problem.layout_of(search.start.model)
    allowed = part.allowed(layout, CERTIFIED_SHARE)
    for begin in starts(part, outputs, search.start):
        at_random = begin.at_random
        hopeful = bool(search.attempts) and search.best.lack.share < HOPEFUL
        if at_random and hopeful and not search.finals:
            # the whole of the data may lead where a part of them did not
            search = _finished(part, search, search.best, stages)
            yield search
            if search.finals[-1].is_enough:
                return
        if at_random and search.agree and not part.problem.settings.few_values:
            # of one-hot columns the first starts know little, and agree all the same
            break
        found = stages.run("descent on a part", attempt, part, begin)
        search = replace(search, tried=(*search.tried, begin.name))
        if isinstance(found, NoAttempt):
            continue
        search = replace(search, attempts=(*search.attempts, found))
        yield search
        if found.lack.share < allowed and search.best is found:
            # one that ended above another has nothing to add on all data
            search = _finished(part, search, found, stages)
            yield search
            if search.finals[-1].is_enough:
                return
    if not search.attempts:
        raise ExplosionError(0, 0, np.inf)
    if all(each.attempt is not search.best for each in search.finals):
        yield _finished(part, search, search.best, stages)


def as_interrupted(part: Part, inputs: InputSummary, search: Search, stage: str) -> RefinedFit:
    """The best network of a search that did not come to its end."""
    model, directions, words = None, None, "the derivatives alone, without a recurrence"
    certificate = Certificate(CertificateStatus.UNCERTAIN, np.nan, np.nan, search.tried)
    if search.finals or search.attempts:
        found = search.final.attempt if search.finals else search.best
        model, words = found.model, "the best descent on a part of the data so far"
        if search.finals:
            model, words = search.final.before.solution.model, "the best descent so far"
        directions, lack = found.directions, found.lack
        certificate = replace(certificate, share=lack.share, score=lack.score, best=found.name)
    moments = replace(search.moments, directions=directions)
    kept = keep_moments(part.problem, inputs, moments, model)
    return interrupted(replace(kept, certificate=certificate), stage, words)


def plain_search(part: Part, outputs: OutputSummary, search: Search, stages: StageRunner) -> Search:
    """The first start that does not explode, and the directions of doubtful units: for labels.

    The network of least squared error of whitened indicators is a start for their cross-entropy,
    and no more.
    """
    for begin in starts(part, outputs, search.start):
        if search.attempts and not begin.name.startswith("unit"):
            break
        found = stages.run("descent on a part", attempt, part, begin)
        search = replace(search, tried=(*search.tried, begin.name))
        if isinstance(found, Attempt):
            search = replace(search, attempts=(*search.attempts, found))
    if not search.attempts:
        raise ExplosionError(0, 0, np.inf)
    return search


def units_of_labels(part: Part, search: Search, best: Attempt) -> MomentFit:
    """An attempt in the place of the network of moments."""
    problem = part.problem
    sums = problem.engine.run(partial(square_sums, model=best.model), part.rows, label="squares")
    current = Iterate(best.model, RoundSums(sums.squares, sums.n_rows, np.diag(sums.squares)))
    return replace(search.moments, model=best.model, current=current, directions=best.directions)


def with_certificate(
    part: Part, inputs: InputSummary, search: Search, refined: RefinedFit
) -> RefinedFit:
    """The fit with what the certificate has to say, and with the smallest of weights alike."""
    model, findings = refined.model, findings_of(search.final, search.certificate)
    certificate, tests = search.certificate, refined.specification
    contradicted = (tests[name].p_value for name in ("activation", "lag") if name in tests)
    if search.final.passed and min(contradicted, default=1.0) < CONTRADICTED:
        certificate = replace(certificate, status=CertificateStatus.UNCERTAIN)
    if part.problem.settings.few_values and part.problem.settings.lags == 1:
        model = smallest_input_weights(inputs, model)
    findings = (*findings, *refined.findings)
    return replace(refined, model=model, certificate=certificate, findings=findings)


def _finished(part: Part, search: Search, found: Attempt, stages: StageRunner) -> Search:
    """The search with one of its attempts gone on with all data."""
    descent = stages.run("descent", to_optimum, part, found, search.moments)
    before = descent = _out_of_images(part, found, descent, stages)
    if before.problem.weighs:
        # outputs with much noise would hide what the others have to say
        descent = stages.run("output weights", with_output_weights, before)
        descent = _out_of_images(part, found, descent, stages)
    final = stages.run("certificate", certified, descent, part.inputs, found, before)
    return replace(search, finals=(*search.finals, final))


def _out_of_images(part: Part, found: Attempt, descent: Descent, stages: StageRunner) -> Descent:
    """The best of mirror images, where these may fit better; of no optimum they say nothing."""
    if descent.solution.status not in SETTLED:
        return descent
    if part.marks_first_steps and found.margin < CLEAR:
        return stages.run("mirror images", best_image, descent)
    if descent.has_mirrors and part.two_sided:
        return stages.run("mirror images", out_of_mirrors, descent)
    return descent


def to_optimum(part: Part, found: Attempt, moments: MomentFit) -> Descent:
    """Descend on all data; with J^T J of all rows where one of a part of them does not settle.

    Where a recurrence amplifies, most of J^T J may come from a few stretches of large
    sensitivities, which a part of the rows misses.
    """
    problem, inputs, model = part.problem, part.inputs, found.model
    if found.lack.share > FITS_ITS_PART and not part.pieces:
        model = by_growing_prefixes(part, model)
    descent = descend(Start(problem, model), inputs, moments)
    if descent.solution.status in SETTLED or not problem.settings.loss.least_squares:
        return descent
    if not determined(descent):
        return descent
    solver = LevenbergMarquardt(ALL_ROWS_STEPS, damping=ALL_ROWS_DAMPING, accelerated=False)
    given = (descent.layout, problem.engine, descent.source)
    again = solver.minimise(SquaredError(), descent.solution.model, *given)
    after = minimised(problem, descent.layout, again.model, descent.source)
    ended = again.status in SETTLED and after.status is RefinementStatus.NO_DECREASE
    if ended:
        after = replace(after, status=again.status)
    return descent.moved(after)


def determined(descent: Descent) -> bool:
    """Whether J^T J determines all weights: what it leaves open does not settle on any rows."""
    found = descent.solution.hessian
    if found is None:
        return True
    size = 1.0 / np.sqrt(np.maximum(np.diag(found.hessian), 1e-300))
    matrix = found.hessian * np.outer(size, size)
    # free scales of units are no lack
    fixed = descent.layout.scale_constraints(descent.solution.model) * size
    norms = np.linalg.norm(fixed, axis=1, keepdims=True)
    fixed = fixed / np.where(norms > 0, norms, 1.0)
    return bool(np.linalg.eigvalsh(matrix + fixed.T @ fixed)[0] > OPEN)


def best_image(descent: Descent) -> Descent:
    """Go on from the mirror images that a free first state, on all data, leaves possible."""
    problem, layout, source = descent.problem, descent.layout, descent.source
    wide = replace(layout, n_inputs=layout.n_inputs + 1)
    found = GaussNewton(enough=PRECISE).minimise(
        SquaredError(),
        widened(descent.solution.model),
        wide,
        problem.engine,
        with_first_step(source),
    )
    if found.hessian is None:
        return descent
    variance = float(np.mean(found.rmse**2))
    images, best = images_of(found.model, wide, found.hessian.hessian, variance), descent.solution
    for place in range(len(images.losses)):
        if images.losses[place] > images.losses[0] + POSSIBLE:
            break
        with suppress(ExplosionError):
            tried = minimised(problem, layout, images.network(place), source)
            if tried.final.loss < best.final.loss:
                best = tried
    return descent.moved(best)


def by_growing_prefixes(part: Part, model: Network) -> Network:
    """Descend on the first 4, 8, .. steps that count of all sequences, where a part misled."""
    source, length, before = part.inputs.inliers, 4, part.first_counted
    while before + length < source.data.longest:
        each = source.as_subset().segments
        stop = np.minimum(each.stop, each.start + before + length)
        ends = np.minimum(each.context_stop, stop)
        some = Segments.of(each.sequence, each.context_start, each.start, stop, ends)
        rows = Subset(source, some.split_evenly(1 + some.n_rows // 2**14))
        try:
            model = part.descend(model, rows, PREFIX_STEPS).model
        except ExplosionError:
            break
        length *= 2
    return model
