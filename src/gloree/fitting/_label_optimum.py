"""Is a maximum of the likelihood of labels the highest one? A test of its residuals, other starts.

At the maximum of the right network e - p, the indicator of a label less the probabilities, has the
mean zero whatever was before: what features of the past explain of it is lack of fit, as of other
residuals. Networks with units at random show whether there is a higher maximum, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from gloree._arrays import to_host
from gloree.diagnostics import (
    Certificate,
    CertificateStatus,
    ConvergenceWarning,
    Finding,
    PrecisionWarning,
    SpecificationWarning,
)
from gloree.engine import Subset
from gloree.fitting._attempts import ALIKE, random_units
from gloree.fitting._inputs import InputSummary
from gloree.fitting._labels import Readout
from gloree.fitting._lack_of_fit import CERTAIN, LackOfFit, lack_of_fit
from gloree.fitting._other_weights import any_elsewhere
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.moments import Whitening
from gloree.refinement import (
    LBFGS,
    CrossEntropy,
    FisherScoring,
    Layout,
    RefinementStatus,
    Solution,
    fisher_information,
    logistic_readout,
)
from gloree.sequences import Array, Batch
from gloree.states import States, predict_rows

ROWS = 160_000
"""Rows behind the test: most of what labels do is chance."""

PART_ROWS, ROWS_PER_WEIGHT = 20_000, 50
"""Rows of the part that other starts are compared on, and rows for each weight, at least."""

LEFT, DETECTABLE = 1e-4, 3e-4
"""Share of the squares that a certified maximum may leave whatever its score, and share that its
test has to be able to see: a likelihood a thousandth too low leaves some 4 in 10,000."""

RESTARTS, STEPS = 8, 300
"""Starts at random, at most, and steps of each."""

LEAST_STARTS, ENOUGH_ALIKE, ENOUGH_CONTRADICTED = 4, 2, 4
"""Starts before any agreement counts, as two may share a false optimum; and starts that have to end
alike: where the test has nothing to say, and where it contradicts."""

OTHER_WEIGHTS = Finding(
    PrecisionWarning,
    "networks with clearly other weights give the labels the same likelihood within a part in "
    "10,000: probabilities can be relied on, the weights and their standard errors cannot",
    "give more data, or lower `n_hidden`",
)


@dataclass(frozen=True)
class Maximum:
    """A maximum of the likelihood of all data, and what features of the past explain there."""

    name: str
    solution: Solution
    lack: LackOfFit

    @property
    def few(self) -> bool:
        """Whether that is no more than chance."""
        return not (self.lack.share >= LEFT and self.lack.score >= CERTAIN)

    @property
    def is_enough(self) -> bool:
        """Whether it is one, and more could have been seen: other starts have nothing to gain."""
        settled = self.solution.status is RefinementStatus.CONVERGED
        return settled and self.few and self.lack.detectable < DETECTABLE


def label_residuals(model: Network, batch: Batch, states: States) -> Array:
    """Residuals e - p of all rows of a batch, shape (n_rows, n_labels)."""
    logits = predict_rows(model, batch, states)
    return to_host(CrossEntropy().rows(logits, batch.targets)[1])


@dataclass(frozen=True)
class Search:
    """The highest maximum so far, and the losses on the part that starts ended at.

    `models` are the networks there, and `elsewhere` says whether ends of equal likelihood have
    other weights than the lowest one.
    """

    best: Maximum
    ends: tuple[float, ...] = ()
    models: tuple[Network, ...] = ()
    elsewhere: bool = False
    tried: tuple[str, ...] = ("moments",)
    interrupted: bool = False

    @property
    def least(self) -> float:
        """Lowest loss on the part."""
        return min(self.ends, default=np.inf)

    @property
    def agreed(self) -> bool:
        """Whether several starts ended there: two, or more where the test contradicts them."""
        if len(self.ends) < LEAST_STARTS:
            return False
        wanted = ENOUGH_ALIKE if self.best.few else ENOUGH_CONTRADICTED
        return len(self.alike) >= wanted

    @property
    def alike(self) -> tuple[int, ...]:
        """Numbers of the starts that ended at the lowest loss, the lowest one first."""
        order = sorted(range(len(self.ends)), key=self.ends.__getitem__)
        return tuple(i for i in order if self.ends[i] <= self.least * (1.0 + ALIKE))

    @property
    def certificate(self) -> Certificate:
        """How sure it is."""
        status = CertificateStatus.UNCERTAIN
        if self.best.is_enough:
            status = CertificateStatus.CERTIFIED
        elif self.agreed:
            status = CertificateStatus.AGREED
        lack = self.best.lack
        return Certificate(
            status, lack.share, lack.score, self.tried, self.best.name, lack.detectable
        )


@dataclass(frozen=True)
class _Likelihood:
    """Labels, and the test of what a network leaves of them."""

    problem: FitProblem
    inputs: InputSummary
    readout: Readout
    solver: FisherScoring
    layout: Layout
    part: Subset

    def tested(self, name: str, solution: Solution) -> Maximum:
        """A maximum with its test."""
        lack = lack_of_fit(self.problem, self.inputs, solution.model, ROWS, label_residuals)
        return Maximum(name, solution, lack)

    def tried(self, search: Search, name: str, model: Network) -> Search:
        """Search from one more start: on the part, and on all data where it ends lower there."""
        problem, first = self.problem, not search.ends
        given = (problem.settings.loss, self.layout, problem.engine)
        found = LBFGS(max_steps=STEPS).minimise(given[0], model, *given[1:], self.part)
        if found.status is RefinementStatus.INTERRUPTED:
            raise KeyboardInterrupt
        ended, best = found.final.loss, search.best
        if ended < search.least * (1.0 - ALIKE) and not first:
            again = self.solver.minimise(given[0], found.model, *given[1:], self.readout.source)
            if again.final.loss < best.solution.final.loss:
                best = self.tested(name, again)
        ends, models = (*search.ends, ended), (*search.models, found.model)
        return replace(
            search,
            best=best,
            ends=ends,
            models=models,
            tried=search.tried if first else (*search.tried, name),
        )

    def compared(self, search: Search) -> Search:
        """Whether starts that ended alike have other weights."""
        lowest, *others = (search.models[i].canonical() for i in search.alike)
        engine = self.problem.engine
        information = fisher_information(lowest, self.layout, engine, self.part)
        found = any_elsewhere(lowest, others, information, self.layout)
        return replace(search, elsewhere=found)

    def at_random(self, model: Network) -> Network:
        """Units without a recurrence in directions at random, and their readout."""
        A1, bias = random_units(self.problem, self.inputs.whitening, model.n_hidden)
        nothing = np.zeros_like(model.recurrent_weights)
        units = model.replace(input_weights=A1, recurrent_weights=nothing, hidden_bias=bias)
        return logistic_readout(units, self.problem.engine, self.part, model.n_outputs)


def highest_maximum(
    problem: FitProblem,
    inputs: InputSummary,
    readout: Readout,
    first: Solution,
    show: Callable[[str], None],
) -> Search:
    """Test a maximum, and look for a higher one from units at random where it does not pass.

    Other starts descend on 20,000 rows (50 for each weight) until one ends where another did. Time
    of at most nine searches of 300 steps on these rows, and of Fisher scoring on all rows for each
    that ends lower than those before.
    """
    solver, layout = problem.settings.solver, problem.layout_of(first.model)
    assert isinstance(solver, FisherScoring)
    part = readout.source.subset(max(PART_ROWS, ROWS_PER_WEIGHT * layout.size), keep=True)
    labels = _Likelihood(
        *(problem, on_standardised(inputs, readout), readout, solver, layout, part)
    )
    search = Search(labels.tested("moments", first))
    if search.best.is_enough:
        return search
    try:
        search = labels.tried(search, "moments", first.model)
        for number in range(1, RESTARTS + 1):
            show(f"start {number} at random")
            with suppress(ExplosionError):
                search = labels.tried(search, f"random {number}", labels.at_random(first.model))
            if search.agreed or search.best.is_enough:
                break
        if len(search.alike) > 1:
            search = labels.compared(search)
    except KeyboardInterrupt:
        if problem.engine.checkpoint is not None:
            raise
        # the highest maximum so far is the fit
        search = replace(search, interrupted=True)
    return search


def on_standardised(inputs: InputSummary, readout: Readout) -> InputSummary:
    """What is known of the inputs, as the readout sees them."""
    n_columns = inputs.spread.shape[0]
    before, after = (
        np.ones(n_columns) if scale is None else np.tile(scale, n_columns // scale.shape[0])
        for scale in (inputs.source.scale, readout.source.scale)
    )
    unit, known = after / before, inputs.whitening
    whitening = Whitening(known.mean * unit, known.matrix / unit, known.inverse * unit[:, None])
    return replace(inputs, source=readout.source, inliers=readout.source, whitening=whitening)


def findings_of(search: Search) -> tuple[Finding, ...]:
    """What is to be said of a maximum, beside its certificate."""
    certificate, best = search.certificate, search.best
    if certificate.status is CertificateStatus.CERTIFIED or (best.few and search.agreed):
        return (OTHER_WEIGHTS,) if search.elsewhere else ()
    if best.solution.status is not RefinementStatus.CONVERGED:
        return ()  # that there is no maximum is said
    if search.interrupted:
        return (
            Finding(
                ConvergenceWarning,
                "the search for a higher maximum of the likelihood was interrupted: the weights "
                "are the best so far, which may be those of a false optimum",
                "fit again to search to the end",
            ),
        )
    left = f"features of it explain {100 * best.lack.share:.2g} % of the squares that are left"
    if search.agreed:
        return (
            Finding(
                SpecificationWarning,
                f"the labels still depend on the past, beyond their probabilities: {left}, and "
                f"different starts end alike, so the class of networks is likely wrong",
                "try another `activation`, more hidden units, `direct=True` or more `lags`",
            ),
        )
    if best.few:
        return (
            Finding(
                ConvergenceWarning,
                "the data are too few to tell a false optimum by what the labels still depend on, "
                "and no two starts ended alike: the fit may have ended in one",
                "give more data, lower `n_hidden`, or compare fits of other `random_state`",
            ),
        )
    return (
        Finding(
            ConvergenceWarning,
            f"the fit may have ended in a false optimum of the likelihood, or the class of "
            f"networks is wrong: the labels still depend on the past, {left}, and no two starts "
            f"ended alike",
            "try another `random_state`, another `activation`, or other `n_hidden`",
        ),
    )
