"""Whether a descent ended at the optimum of the right networks, and what is said if not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gloree._arrays import to_host
from gloree.diagnostics import (
    Certificate,
    CertificateStatus,
    ConvergenceWarning,
    Finding,
    SpecificationWarning,
)
from gloree.fitting._attempts import Attempt
from gloree.fitting._descent import Descent
from gloree.fitting._inputs import InputSummary
from gloree.fitting._lack_of_fit import CERTIFIED_SHARE, LackOfFit, lack_of_fit
from gloree.fitting._problem import FitProblem
from gloree.models import ExplosionError, Network
from gloree.refinement import RefinementStatus
from gloree.sequences import Array, Batch
from gloree.states import run_states

AMPLIFIES = 5.0
"""Growth of a small change, root mean square over median, from which nothing is certified: 1 to 3.3
for networks whose optimum is found (norms of U up to 2.5, polynomials), 5 to 10,000 where it often
is not (norms of 4 to 6)."""

CONTRADICTED = 1e-3
"""p-value of a test of specification below which nothing is certified: a false optimum that
features of the past miss shows there."""

SMALL, GROWTH_ROWS = 1e-6, 40_000
"""Change of the biases that is followed, and rows on which it is."""

SETTLED = (RefinementStatus.EFFICIENT, RefinementStatus.CONVERGED)


@dataclass(frozen=True)
class Certified:
    """A descent on all data, what it leaves, and whether that is noise.

    `before` is where it stood with the outputs in the units of all attempts.
    """

    descent: Descent
    lack: LackOfFit
    attempt: Attempt
    before: Descent
    amplification: float = 1.0

    @property
    def few(self) -> bool:
        """Whether features of the past explain no more than chance."""
        return self.lack.is_few

    @property
    def is_enough(self) -> bool:
        """Whether that could have been seen: other starts have nothing to gain."""
        return self.few and self.lack.detectable < CERTIFIED_SHARE

    @property
    def passed(self) -> bool:
        """Whether it settled, too, with a recurrence whose optimum can be told."""
        settled = self.descent.solution.status in SETTLED
        return self.is_enough and settled and self.amplification <= AMPLIFIES

    @property
    def descended(self) -> bool:
        """Whether it is an end of a descent: a start that was kept as it is may be anywhere."""
        solution = self.descent.solution
        return solution.n_steps > 0 or solution.status in SETTLED

    @property
    def detail(self) -> str:
        """Outcome in words."""
        return str(self.lack)


def certified(descent: Descent, inputs: InputSummary, found: Attempt, before: Descent) -> Certified:
    """Test the residuals of a descent, in the units of its outputs."""
    problem = descent.problem
    inputs = replace(inputs, inliers=replace(inputs.inliers, encode=descent.source.encode))
    model = descent.solution.model
    lack = lack_of_fit(problem, inputs, model, None)
    return Certified(descent, lack, found, before, amplification(problem, inputs, model))


def amplification(problem: FitProblem, inputs: InputSummary, model: Network) -> float:
    """How unevenly states depend on what was before: growth of a change, RMS over median.

    A small change of all biases is followed along the rows. It grows about alike everywhere in a
    network that forgets; where a recurrence amplifies, rare stretches rule the mean square, and the
    squared error has optima that differ in these alone.
    """
    if problem.settings.recurrence is None:
        return 1.0
    moved = model.replace(hidden_bias=model.hidden_bias + SMALL)

    def growth(batch: Batch) -> Array:
        change = abs(run_states(moved, batch).h - run_states(model, batch).h)
        return np.asarray(to_host(change).max(axis=1)[batch.counted_rows] / SMALL)

    try:
        found = np.concatenate(problem.engine.collect(growth, inputs.inliers.subset(GROWTH_ROWS)))
    except ExplosionError:
        return np.inf
    found = found[found > 0.0]  # rectifiers are at rest where nothing depends on a state
    return float(np.sqrt(np.mean(found**2)) / np.median(found)) if found.size else 1.0


def findings_of(final: Certified, certificate: Certificate) -> tuple[Finding, ...]:
    """What a fit that is not certified has to say."""
    if certificate.status is CertificateStatus.CERTIFIED:
        return ()
    settled = final.descent.solution.status in SETTLED
    enough = not settled and (final.few or not final.descended)
    if certificate.status is CertificateStatus.UNCERTAIN and enough:
        # what a descent says that has not settled is enough
        return ()
    left = f"{100 * max(certificate.share, 0.0):.2g} % of the squared error"
    unseen = final.few and not final.lack.detectable < CERTIFIED_SHARE
    if certificate.status is CertificateStatus.AGREED:
        if final.few:
            return ()
        return (
            Finding(
                SpecificationWarning,
                f"the residuals still depend on the past: features of it explain {left}, and "
                f"different starts end alike, so the class of networks is likely wrong (or the "
                f"noise autocorrelated)",
                "try another `activation`, more hidden units, or more `lags`",
            ),
        )
    growth = final.amplification
    times = f"{growth:.2g} times as much" if np.isfinite(growth) else "without bound"
    if growth > AMPLIFIES:
        return (
            Finding(
                ConvergenceWarning,
                f"the recurrence amplifies: a small change of a state grows {times} in the mean "
                f"square as usual, so the fit may have ended in a false optimum that differs in "
                f"rare stretches only (features of the past explain {left})",
                "give shorter and more sequences, or more outputs, which see the states",
            ),
        )
    if unseen:
        return (
            Finding(
                ConvergenceWarning,
                "the data are too few to tell a false optimum by what residuals depend on, and no "
                "two starts ended alike: the fit may have ended in one",
                "give more data, lower `n_hidden`, or compare fits of other `random_state`",
            ),
        )
    return (
        Finding(
            ConvergenceWarning,
            f"the fit may have ended in a false optimum, or the class of networks is wrong: "
            f"features of the past explain {left} that is left, and no two starts ended alike",
            "try another `random_state`, another `activation`, or other `n_hidden`",
        ),
    )
