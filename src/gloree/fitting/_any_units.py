"""Units of a network with any activation, from average derivatives: a start without recurrence.

Order of work: sums of a polynomial regression (one pass, more rows where a few do not decide), one
decomposition of T_2 and T_3 (of inputs that take few values: ridge polynomials in the metric of the
data), scale and bias of each unit, output weights by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gloree._monomials import n_monomials
from gloree.decomposition import Decomposition, choose_rank, decompose
from gloree.diagnostics import AcceptanceWarning, ConditionWarning, Finding
from gloree.engine import Subset, halves
from gloree.fitting._derivatives import (
    Derivatives,
    Features,
    Neighbours,
    PolynomialSums,
    along_few,
    average_derivatives,
    polynomial_sums,
)
from gloree.fitting._inputs import InputSummary
from gloree.fitting._outputs import OutputSummary
from gloree.fitting._problem import FitProblem
from gloree.fitting._range_finder import find_range
from gloree.fitting._ridge_polynomials import RidgeFit, best_ridges, fit_ridges
from gloree.fitting._unit_scales import (
    BACKFIT_ROWS,
    PROJECTION_ROWS,
    units_by_projection,
    units_in_turn,
)
from gloree.models import IORNN, Network
from gloree.moments import Whitening
from gloree.recurrence import BatchAtWeights, FreeWeights, LinearisedSums, OutputsOnly, ridge_solve
from gloree.refinement import Layout
from gloree.sequences import Array, Batch

MOST_FEATURES = 1000
"""Monomials at most; of more inputs a few directions are found first."""

LEAST_ROWS, ROWS_PER_FEATURE, ROWS_PER_SECOND = 8_000, 40, 20
"""Rows of the regression, and rows for each monomial up to degree three, or two, at least."""

MORE_ROWS = 4
"""Times as many rows where a single output's third moment is weak, or a decomposition is not
accepted."""

SURE_ERROR, SURE_SIGNAL = 0.1, 20.0
"""Predicted error of the components up to which, and signal over noise from which, one output is
enough."""

SPARE = 3
"""Directions that are kept beside as many as units."""

RANDOM_STARTS = 6
"""Random starts of the fit in the metric of the data, where the decomposition was not accepted or
inputs take few values."""

READOUT_RIDGE = 1e-6
"""Relative ridge of the least squares of y on the first states."""

NO_CURVATURE = 3.0
"""Standard deviations of chance below which outputs are linear in the inputs as far as is seen."""


@dataclass(frozen=True)
class UnitStart:
    """A network without recurrence on the columns that passes see, and what it rests on.

    `derivatives` and `decomposition` are those of the last pass; there is none where everything is
    linear in the inputs, as of one-hot columns.
    """

    model: IORNN
    derivatives: Derivatives
    decomposition: Decomposition | None
    rank_reason: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """Outcome in words."""
        found, kind = self.derivatives, "directions at random"
        if self.decomposition is not None:
            kind = f"decomposition {self.decomposition.status.name.lower()}"
            kind = "ridge polynomials" if found.collinear else kind
        few = found.features.n_directions
        return f"{kind}, {len(found.tensors)} orders in {few} directions, {found.n_rows:,.0f} steps"


def units_from_derivatives(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary, leads: int = 0
) -> UnitStart:
    """Find the units; with `leads` the outputs of so many later steps say of them too.

    y_{t+1} sees x_t through the same units, with loadings of the size of U.
    """
    settings = problem.settings
    data, n_hidden, reason = inputs.inliers, settings.n_hidden, None
    features = features_of(problem, outputs, inputs, leads)
    wanted = rows_of(features, n_hidden)
    while True:
        rows = data.subset(wanted, keep=True)
        found = estimate(problem, features, rows, n_hidden)
        if n_hidden is None:
            n_hidden, reason = number_of_units(problem, found, data.subset(4 * wanted))
            found = estimate(problem, features, rows, n_hidden)
        decomposition = None
        if found.n_nonlinear:
            stack, scale = found.slices
            decomposition = decompose(stack, n_hidden, output_scale=scale, random_state=problem.rng)
        everything = wanted >= problem.data.n_rows
        if everything or decomposition is None or found.collinear:
            break
        if is_sure(problem, found, decomposition):
            break
        rows.forget_rows()
        wanted = min(MORE_ROWS * wanted, problem.data.n_rows)
    model = _network(problem, found, decomposition, n_hidden, rows)
    rows.forget_rows()
    findings = (*_dependent(problem, inputs), *_linear(found))
    return UnitStart(model, found, decomposition, reason, findings)


def features_of(
    problem: FitProblem, outputs: OutputSummary, inputs: InputSummary, leads: int
) -> Features:
    """Monomials of degree three, or two of more inputs, and what is beside them."""
    settings = problem.settings
    recurrent = settings.recurrence is not None
    beside = Neighbours(
        problem.data.n_inputs,
        past=recurrent,
        ahead=recurrent and settings.bidirectional,
        outputs=not settings.bidirectional,
        leads=leads,
    )
    whitening, mean = inputs.whitening, outputs.mean
    if _size(whitening.n_directions, 2) > MOST_FEATURES:
        whitening = _spanned(problem, outputs, inputs)
    degree = 3 if _size(whitening.n_directions, 3) <= _room(problem) else 2
    return Features(whitening, degree, beside, mean, linear=not settings.direct)


def _size(n_directions: int, degree: int) -> int:
    return sum(n_monomials(n_directions, m) for m in range(1, degree + 1))


def _room(problem: FitProblem) -> int:
    return min(MOST_FEATURES, problem.data.n_rows // 4)


def _spanned(problem: FitProblem, outputs: OutputSummary, inputs: InputSummary) -> Whitening:
    """Few directions among very many inputs: those that the second moments span."""
    most = 1
    while _size(most + 1, 2) <= MOST_FEATURES:
        most += 1
    size = min(most, 2 * (problem.settings.n_hidden or 10) + SPARE)
    return find_range(problem, outputs, inputs, size)


def rows_of(features: Features, n_hidden: int | None) -> int:
    """Rows of the first pass."""
    r = features.n_directions
    third = _size(r if features.degree > 2 else (n_hidden or 10) + SPARE, 3)
    return max(
        LEAST_ROWS, ROWS_PER_SECOND * _size(r, 2), ROWS_PER_FEATURE * min(third, MOST_FEATURES)
    )


def estimate(
    problem: FitProblem, features: Features, rows: Subset, n_hidden: int | None
) -> Derivatives:
    """Derivatives of three orders, along few directions where all would be too many."""
    found = average_derivatives(problem.engine, rows, features)
    if features.degree > 2:
        return found
    few = min(features.n_directions, (n_hidden or 10) + SPARE)
    while few > 1 and _size(few, 3) > min(MOST_FEATURES, rows.n_counted // 4):
        few -= 1
    if n_hidden is not None and few < min(n_hidden + 1, features.n_directions):
        return found
    return average_derivatives(problem.engine, rows, along_few(features, found, few))


def is_sure(problem: FitProblem, found: Derivatives, decomposition: Decomposition) -> bool:
    """Whether so many rows will do: nearly linear units have small third moments."""
    if not decomposition.accepted:
        return False
    several = problem.n_outputs > 1
    return several or decomposition.component_error < SURE_ERROR or found.signal > SURE_SIGNAL


def number_of_units(problem: FitProblem, found: Derivatives, rows: Subset) -> tuple[int, str]:
    """Number of units from the derivatives of four quarters of the rows (see `choose_rank`)."""
    try:
        quarters = [each for half in halves(rows) for each in halves(half)]
    except ValueError as error:
        raise ValueError(
            "`n_hidden=None` compares four parts of the data, and these are a few pieces: set "
            "`n_hidden`"
        ) from error
    if found.collinear:
        raise ValueError(
            "`n_hidden=None` counts units by the moments of the inputs, and inputs that take few "
            "values have none: set `n_hidden`, and compare the losses of several"
        )
    function = partial(polynomial_sums, features=found.features)
    sums: list[PolynomialSums] = [
        problem.engine.run(function, each, label="quarters") for each in quarters
    ]
    parts = [Derivatives.of(found.features, each).slices[0] for each in sums]
    scale, mean = found.slices[1], np.mean(parts, axis=0)
    contrasts = [
        np.tensordot(signs, parts, axes=1) / 4
        for signs in ((1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))
    ]
    weights = scale[:, None, None]
    noise = max(contrasts, key=lambda each: float(np.linalg.norm(each / weights)))
    chosen = choose_rank(mean + noise, mean - noise, output_scale=scale, random_state=problem.rng)
    return max(chosen.rank, 1), str(chosen)


def _network(
    problem: FitProblem,
    found: Derivatives,
    decomposition: Decomposition | None,
    n_hidden: int,
    rows: Subset,
) -> IORNN:
    """Network of the units: scales, biases and output weights beside their directions."""
    settings, features = problem.settings, found.features
    free = {"free_biases": settings.bias}
    fitted = _directions(problem, found, decomposition, n_hidden)
    v, y, beside = _some_rows(problem, found, rows)
    activation, noise = settings.activation, found.scale
    some = v[:: max(1, len(v) // PROJECTION_ROWS)]
    units = units_by_projection(activation, fitted.directions, fitted.loadings, found, some, **free)
    few = np.unique(np.linspace(0, len(v) - 1, min(BACKFIT_ROWS, len(v))).astype(int))
    units = units_in_turn(activation, units, v[few], y[few] / noise, beside[few], **free)
    A1 = units.scales[:, None] * units.directions @ features.whitening.matrix
    shift = A1 @ features.whitening.mean if settings.bias else 0.0
    return IORNN(
        A1,
        None,
        np.zeros((A1.shape[0], problem.n_outputs)),
        hidden_bias=units.biases - shift,
        output_bias=np.zeros(problem.n_outputs),
        direct_weights=np.zeros((A1.shape[1], problem.n_outputs)) if settings.direct else None,
        activation=activation,
    )


def _directions(
    problem: FitProblem, found: Derivatives, decomposition: Decomposition | None, n_hidden: int
) -> RidgeFit:
    """Directions of the units, and the polynomial of each."""
    if decomposition is None:
        features = found.features
        start = problem.rng.standard_normal((n_hidden, features.n_directions))
        start /= np.linalg.norm(start, axis=1, keepdims=True)
        if found.root.shape[0]:
            # the first order tells the span
            return best_ridges(found, start, problem.rng, RANDOM_STARTS)
        return RidgeFit(start, np.zeros((features.degree, n_hidden, len(found.scale))), 0.0)
    if found.collinear:
        return best_ridges(found, decomposition.components, problem.rng, RANDOM_STARTS)
    return fit_ridges(found, decomposition.components, max_steps=0)


def _some_rows(problem: FitProblem, found: Derivatives, rows: Subset) -> tuple[Array, Array, Array]:
    """Whitened inputs, outputs less controls, and what is beside the units, of some rows.

    Linear terms of v stay in y, or are beside the units where a direct path has them.
    """
    function = partial(_rows_of, found=found)
    parts = problem.engine.collect(function, rows)
    v, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    pick = np.unique(np.linspace(0, len(v) - 1, min(len(v), PROJECTION_ROWS)).astype(int))
    v, y = v[pick], y[pick]
    return v, y, np.zeros((len(v), 0)) if found.features.linear else v


def _rows_of(batch: Batch, found: Derivatives) -> tuple[Array, Array]:
    v, controls, y = found.features.rows_of(batch)
    n = controls.shape[0] - (0 if found.features.linear else v.shape[1])
    return v, y - controls[:n].T @ found.linear[:n]


def with_readout(problem: FitProblem, model: Network, layout: Layout, rows: Subset) -> Network:
    """Output weights (offset, direct path) by least squares on the states, in one pass."""
    free = FreeWeights(layout.recurrent, layout.bias, layout.unit_bias, layout.direct)

    def sums(batch: Batch) -> LinearisedSums:
        return OutputsOnly().sums(BatchAtWeights(batch, model, free, None, None))

    found = problem.engine.run(sums, rows, label="readout")
    k = model.n_hidden
    places = np.arange(found.gram.shape[0])
    if not layout.bias:
        places = np.delete(places, k)
    gram = found.gram[np.ix_(places, places)]
    change = np.zeros(found.cross.shape)
    change[places] = ridge_solve(gram, found.cross[places], READOUT_RIDGE)
    direct = model.direct_weights
    return model.replace(
        output_weights=model.output_weights + change[:k],
        output_bias=model.output_bias + change[k],
        direct_weights=None if direct is None else direct + change[k + 1 :],
    )


def _dependent(problem: FitProblem, inputs: InputSummary) -> Sequence[Finding]:
    """Say that columns are dependent, and which weights are given."""
    if not problem.settings.few_values:
        return ()
    if inputs.whitening.n_directions == inputs.whitening.matrix.shape[1]:
        return ()
    return (
        Finding(
            ConditionWarning,
            f"`X` has {inputs.whitening.matrix.shape[1]} columns in "
            f"{inputs.whitening.n_directions} directions (one-hot columns add up to one): of "
            f"input weights and biases that act alike, the smallest input weights are given",
            "nothing, for predictions; do not read these weights one by one",
        ),
    )


def _linear(found: Derivatives) -> Sequence[Finding]:
    """Say that the units cannot be told from linear ones."""
    if found.n_nonlinear == 0 or found.nonlinearity > NO_CURVATURE:
        return ()
    return (
        Finding(
            AcceptanceWarning,
            f"the outputs depend on the inputs linearly, as far as {found.n_rows:,.0f} steps tell "
            f"(terms of degree two and three: {found.nonlinearity:.1f} standard deviations of "
            f"chance): the activation cannot be told from a linear one on these data",
            "use activation='linear', more data, or inputs that vary more",
        ),
    )
