"""Is it the right class of networks? Score tests of other powers of z and of one more lag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree.activations import Activation, Polynomial
from gloree.diagnostics import Finding, SpecificationTest, SpecificationWarning
from gloree.engine import Source, Subset
from gloree.fitting._descent import Descent
from gloree.fitting._given_units import in_given_units
from gloree.fitting._outputs import usual_variance
from gloree.fitting._problem import FitProblem
from gloree.fitting._recurrence import units_of
from gloree.models import Network
from gloree.refinement import (
    Alternatives,
    EfficientScores,
    Layout,
    RefinementStatus,
    coupling_sums,
    left_to_gain,
    score_rows,
    unit_sums,
)

SCORE_ROWS = 10_000
"""Rows behind a test, about: enough to see what costs a few hundredths of the squared error, and a
small part of a large fit."""

COUPLING_ROWS, ROWS_PER_WEIGHT = 2_000, 5
"""Rows behind b, and rows for each weight, at least. The part of V that is due to fewer rows is
known too badly: with a quarter of these, 6 % of right networks are rejected at the level of 5 %."""

COUPLING_NUMBERS = 2**18
"""Numbers that a batch of that pass holds, about: they stay in the cache of a processor, and more
of them take up to three times as long for each row."""

UNIT_ROWS = 2_000
"""Rows behind mean and spread of the pre-activations."""

MOST_COMPONENTS = 60
"""Inputs of one step further back are combined where they, times the units, are more than this."""

LEAST_BLOCKS, MOST_BLOCKS = 40, 400
"""Blocks that scores are summed over: sequences, if there are as many."""

FEWEST_BLOCKS = 10
"""Blocks below which no test is made."""

MOST_LEFT = 4.0
"""Gain of another step for each weight, in units of the noise variance, beyond which weights are
too far from the optimum for a test."""

ROUNDING = 1e-5
"""Residual, over the spread of the outputs, below which it is rounding, or what the last step left,
and not noise."""

LEVEL = 0.01
"""Probability of a warning where the class of networks is right, both tests together. p-values are
calibrated at every level; at 5 % one fit of twenty would warn of nothing."""


OFFSET_LEVEL = 1e-3
"""p-value below which outputs get an offset that was not asked for."""

SMOOTH_POWERS = (2, 3)
"""Powers of z that are tried beside a function that is no polynomial."""

TESTS = ("activation", "lag", "offset")
"""Names of the tests, in the order of their components."""


@dataclass(frozen=True)
class Specification:
    """Tests by name, and what they found."""

    tests: dict[str, SpecificationTest]
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """Outcome in words."""
        listed = (f"{name} p = {test.p_value:.2g}" for name, test in self.tests.items())
        return ", ".join(listed) or "not tested"

    @property
    def lacks_offset(self) -> bool:
        """Whether outputs have an offset that the network cannot make."""
        return "offset" in self.tests and self.tests["offset"].p_value < OFFSET_LEVEL


def check_specification(descent: Descent) -> Specification:
    """Test other powers of the pre-activations, and inputs of one step further back.

    And an offset of the outputs, where there is none. These are tests at the optimum, on a part of
    the rows. Empty where a refinement did not get there or formed no J^T J, where blocks are few,
    and where the residual is not noise.
    """
    problem, layout, source = descent.problem, descent.layout, descent.source
    hessian, model = descent.solution.hessian, descent.solution.model
    run = problem.engine.run
    if hessian is None or not problem.settings.loss.least_squares:
        return Specification({})
    some = source.subset(SCORE_ROWS)
    n_segments = some.n_visited
    blocks = 1.0
    if not LEAST_BLOCKS <= n_segments <= MOST_BLOCKS:
        blocks = (LEAST_BLOCKS if n_segments < LEAST_BLOCKS else MOST_BLOCKS) / n_segments
    powers = missing_powers(problem.settings.activation, unit_bias=layout.unit_bias)
    tried = _alternatives(problem, model, layout, source, powers)
    function = partial(score_rows, model=model, layout=layout, alternatives=tried, blocks=blocks)
    rows = run(function, some, label="specification: scores")
    noise = rows.squares / rows.n_rows / layout.n_outputs
    spreads = usual_variance(problem)
    # in a metric those of outputs without noise are huge
    spread = spreads[spreads > 0].min(initial=np.inf)
    if rows.weights.shape[0] < FEWEST_BLOCKS or noise <= ROUNDING**2 * spread:
        return Specification({})
    if not left_to_gain(rows, hessian, model, layout) < MOST_LEFT:
        ends = RefinementStatus.EFFICIENT, RefinementStatus.CONVERGED
        return Specification({}, (_not_tested(),) if descent.solution.status in ends else ())
    coupling = partial(coupling_sums, model=model, layout=layout, alternatives=tried)
    first, second = (
        run(coupling, part, label="specification: tangents")
        for part in _coupling_rows(source, tried, layout)
    )
    found = EfficientScores.of(rows, (first, second), hessian, model, layout)
    n_powers, n_lagged, _ = tried.n_of(layout)
    tests, findings = {}, []
    cuts = (0, n_powers, n_powers + n_lagged, rows.others.shape[1])
    for name, begin, end in zip(TESTS, cuts[:-1], cuts[1:], strict=True):
        own = (found.kept >= begin) & (found.kept < end)
        if not own.any():
            continue
        gains, sizes = found.gains[own], (int(own.sum()), rows.weights.shape[0])
        test = SpecificationTest(*found.test(own), *sizes, float(gains.max()))
        tests[name] = test
        if name == "offset" or not test.p_value < LEVEL / 2:
            continue
        if name == "activation":
            power, unit = divmod(int(found.kept[own][np.argmax(gains)]), layout.n_hidden)
            place = int(np.flatnonzero(units_of(in_given_units(source, model)).order == unit)[0])
            findings.append(_wrong_activation(test, powers, powers[power], place))
        else:
            findings.append(_missing_lag(test, problem.settings.lags))
    return Specification(tests, tuple(findings))


def missing_powers(activation: Activation, *, unit_bias: bool) -> tuple[int, ...]:
    """Powers up to two above the degree that an activation lacks; 2 and 3 of no polynomial.

    With free biases the weights imitate the power below the highest one: f(z + b) holds it.
    """
    if not isinstance(activation, Polynomial):
        return SMOOTH_POWERS
    degree, coefficients = activation.degree, activation.coefficients
    present = {power for power, each in enumerate(coefficients) if each != 0.0}
    imitated = {degree - 1} if unit_bias else set()
    return tuple(p for p in range(1, degree + 3) if p not in present | imitated)


def _alternatives(
    problem: FitProblem, model: Network, layout: Layout, source: Source, powers: tuple[int, ...]
) -> Alternatives:
    """Powers in standard units, and combinations of the inputs that are few enough."""
    few = source.subset(UNIT_ROWS)
    sums = problem.engine.run(partial(unit_sums, model=model), few, label="specification: units")
    centre, x_mean = sums.z / sums.n_rows, sums.x / sums.n_rows
    scale = np.sqrt(np.maximum(sums.z_squares / sums.n_rows - centre**2, 0.0))
    x_scale = np.sqrt(np.maximum(sums.x_squares / sums.n_rows - x_mean**2, 0.0))
    n_inputs = problem.data.n_inputs
    columns = np.diag(1.0 / np.where(x_scale > 0, x_scale, 1.0)[:n_inputs])
    widest = layout.n_hidden + (layout.n_outputs if layout.direct else 0)
    most = max(1, MOST_COMPONENTS // widest)
    if n_inputs > most:
        # a fixed choice: the test of the same data is the same
        mixed = np.random.default_rng(0).standard_normal((n_inputs, most)) / np.sqrt(n_inputs)
        columns = columns @ mixed
    scale = np.where(scale > 0, scale, 1.0)
    return Alternatives(powers, centre, scale, columns, layout.direct, offset=not layout.bias)


def _coupling_rows(source: Source, tried: Alternatives, layout: Layout) -> tuple[Subset, Subset]:
    """Rows for b, every other segment in one half, in batches of bounded memory."""
    some = source.subset(max(COUPLING_ROWS, ROWS_PER_WEIGHT * layout.size)).segments
    numbers = some.n_rows * sum(tried.n_of(layout)) * (2 * layout.n_hidden + layout.n_outputs)
    n_batches = max(1, -(-numbers // (2 * COUPLING_NUMBERS)))
    first, second = some[::2], some[1::2] if len(some) > 1 else some
    halves = (Subset(source, half.split_evenly(n_batches)) for half in (first, second))
    return next(halves), next(halves)


def _not_tested() -> Finding:
    return Finding(
        SpecificationWarning,
        "the tests of specification could not be made: parts of the data ask for other weights by "
        "more than noise explains",
        "free what is fixed (`fit_bias`, lower terms of the `activation`), or try another "
        "`activation` or other `lags`",
    )


def _wrong_activation(
    test: SpecificationTest, powers: tuple[int, ...], best: int, unit: int
) -> Finding:
    listed = ", ".join(map(str, powers))
    return Finding(
        SpecificationWarning,
        f"the residuals contradict the activation: terms of degree {listed} of the pre-activations "
        f"are missing ({test}); the one of degree {best} of unit {unit} alone would lower the "
        f"squared error by about {100 * test.gain:.2g} %",
        "try another `activation`, or more hidden units, which make up for it; weights and their "
        "standard errors are those of the best network of a wrong class",
    )


def _missing_lag(test: SpecificationTest, lags: int) -> Finding:
    return Finding(
        SpecificationWarning,
        f"the residuals depend on the inputs of {lags} step(s) before, which units see through "
        f"the recurrence at most ({test})",
        f"try lags={lags + 1}, or look for an input with a delay",
    )
