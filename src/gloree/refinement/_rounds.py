"""Rounds of residual moments: the model as control variate of its own estimate.

All that a round needs are sums over batches at frozen weights: `evaluate` is one pass that returns
them together with the squared error; the rest is small linear algebra. A change is kept only if
the squared error, measured by the next pass, falls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import factorial

import numpy as np
from scipy.optimize import linear_sum_assignment

from gloree._arrays import column_squares, take_rows, to_host
from gloree._brief import Brief
from gloree._sums import Sums, required
from gloree.activations import Activation
from gloree.chains import HermiteLaw
from gloree.decomposition import Decomposition, decompose
from gloree.engine import Engine, Source, Subset
from gloree.models import IORNN, ExplosionError, Network
from gloree.moments import Coordinates, ResidualMoment
from gloree.recurrence import (
    BatchAtWeights,
    Contraction,
    FreeWeights,
    OutputsOnly,
    RecurrenceEstimator,
    WeightChange,
    top_degree,
)
from gloree.refinement._layout import Layout
from gloree.sequences import Array, Batch

SHORTENINGS = 7
"""Lengths 1, 1/2, 1/4, .. of a change of U and b that are tried."""

LARGEST_GROWTH = 100.0
"""Times by which the largest component of the first moment may grow in a round. Beyond it,
components cancel that are nearly parallel: the least squares of a tensor of few or outlying rows
may have no minimum, and its components then grow without end."""


@dataclass(frozen=True)
class RoundSums(Sums):
    """Sums of one pass at frozen weights.

    `squares`, (n_outputs,), and `output_moment`, (n_outputs, n_outputs), are the sums of r^2 and of
    r r^T; the others those of the recurrence estimator and of the first moment of the residuals.
    """

    squares: Array
    n_rows: float
    output_moment: Array
    recurrence: Sums | None = field(default=None, metadata={"nested": True})
    moment: Sums | None = field(default=None, metadata={"nested": True})

    @property
    def total(self) -> float:
        """Sum of squared residuals over all outputs."""
        return float(self.squares.sum())

    @property
    def rms(self) -> float:
        """Root mean square residual over all outputs."""
        return float(np.sqrt(self.squares.sum() / self.n_rows / self.squares.shape[0]))


@dataclass(frozen=True)
class Rounds:
    """Settings and data of the rounds of a fit; `law` is None where no score is used.

    `ridge` is that of the regressions on states and inputs, relative.
    """

    layout: Layout
    estimator: RecurrenceEstimator
    moment: ResidualMoment
    law: HermiteLaw | None
    engine: Engine
    data: Source | Subset
    ridge: float = 1e-10

    @property
    def free(self) -> FreeWeights:
        """Weights that an estimator may change."""
        free = self.layout
        return FreeWeights(free.recurrent, free.bias, free.unit_bias, free.direct, self.ridge)

    def later(self) -> Rounds:
        """Rounds with the estimator of later rounds."""
        return replace(self, estimator=self.estimator.later(self.layout.n_hidden))


@dataclass(frozen=True)
class Iterate(Brief):
    """A model, the sums of a pass with it, and the squared errors on the way to it.

    `history` holds the mean squared error after the first moment and after each step kept.
    """

    model: Network
    sums: RoundSums
    history: tuple[tuple[str, float], ...] = ()

    def noted(self, label: str) -> Iterate:
        """Iterate with its squared error in the history."""
        mean_square = float(self.sums.squares.mean()) / self.sums.n_rows
        return replace(self, history=(*self.history, (label, mean_square)))


def evaluate(
    rounds: Rounds, model: Network, *, tensor: bool = False, output_moment: Array | None = None
) -> RoundSums:
    """Run one pass at frozen weights; an `ExplosionError` if the model explodes.

    With `tensor`, the first moment of the residuals is taken too. `output_moment` is the metric of
    the outputs for the contraction, (n_outputs, n_outputs): E[r r^T] of the pass before.
    """
    estimator, free = rounds.estimator, rounds.free
    moment = rounds.moment if tensor else None
    law, contraction = rounds.law if estimator.uses_scores else None, None
    if law is not None:
        contraction = Contraction.of(model, law.precision_blocks(0), output_moment)

    def sums(batch: Batch) -> RoundSums:
        seen = BatchAtWeights(batch, model, free, law, contraction)
        counted = take_rows(seen.residuals, batch.counted)
        squares, products = to_host(column_squares(counted)), to_host(counted.T @ counted)
        recurrence = required(estimator.sums(seen), Sums, f"`sums` of {estimator!r}")
        moments = None if moment is None else moment.sums(batch, seen.residuals)
        return RoundSums(squares, float(batch.n_counted), products, recurrence, moments)

    return rounds.engine.run(sums, rounds.data, label="moments")


def sweep(rounds: Rounds, start: Iterate, *, tensor: bool) -> Iterate:
    """One update of U, b, A2, c and D, shortened until the error falls; else `start` itself."""
    model, sums = start.model, start.sums
    estimator = rounds.estimator
    change = estimator.update(sums.recurrence, model, rounds.free)
    change = required(change, WeightChange, f"`update` of {estimator!r}")
    output_moment = sums.output_moment / sums.n_rows
    for halvings in range(SHORTENINGS):
        moved = change.apply(model, 0.5**halvings)
        try:
            after = evaluate(rounds, moved, tensor=tensor, output_moment=output_moment)
        except ExplosionError:
            continue
        if after.total <= sums.total:
            return replace(start, model=moved, sums=after)
    return start


def start_rounds(rounds: Rounds, model: Network, sweeps: int = 2) -> Iterate:
    """Outputs, U and b from A1 and A2 of the first moment, starting at U = 0."""
    if rounds.layout.direct:
        # the direct path may make up most of the outputs: it is fitted before the units
        outputs = replace(rounds, estimator=OutputsOnly())
        sums = evaluate(outputs, model)
        change = outputs.estimator.update(sums.recurrence, model, rounds.free)
        model = change.apply(model, units=False)
    current = Iterate(model, evaluate(rounds, model)).noted("first moment")
    for i in range(sweeps):
        moved = sweep(rounds, current, tensor=i == sweeps - 1)
        current = current if moved is current else moved.noted("recurrence")
    return current


def residual_round(rounds: Rounds, start: Iterate) -> Iterate:
    """One round: residual first moment, `polished`, `sweep`; for the rounds of `Rounds.later`.

    Returns `start` itself if the error does not fall, or the components cancel each other.
    """
    seen = start
    if start.sums.moment is None:
        seen = replace(start, sums=evaluate(rounds, start.model, tensor=True))
    candidate = polished(rounds, seen)
    if _largest_component(rounds, candidate) > LARGEST_GROWTH * _largest_component(
        rounds, seen.model
    ):
        return start
    try:
        fresh = evaluate(rounds, candidate)
        after = sweep(rounds, replace(seen, model=candidate, sums=fresh), tensor=True)
    except ExplosionError:
        return start
    return after.noted("round") if after.sums.total < seen.sums.total else start


def _largest_component(rounds: Rounds, model: Network) -> float:
    """Largest norm of a component A2_i (x) a_i^(x)l, in whitened coordinates."""
    degree, _ = top_degree(model)
    sizes = np.linalg.norm(rounds.moment.coordinates.components(model), axis=1) ** degree
    return float(np.max(sizes * np.linalg.norm(model.output_weights, axis=1), initial=0.0))


def polished(rounds: Rounds, start: Iterate) -> Network:
    """Model with A1 and A2 from the residual moment plus the model's own moment."""
    model, sums, coordinates = start.model, start.sums, rounds.moment.coordinates
    degree, leading = top_degree(model)
    tensor = coordinates.model_tensor(model, degree, leading) + rounds.moment.tensor(sums.moment)
    scale = np.sqrt(np.maximum(np.diag(sums.output_moment) / sums.n_rows, 1e-300))
    initial = coordinates.components(model)
    found = decompose(tensor, model.n_hidden, output_scale=scale, initial=initial, ridge=None)
    return with_components(model, found, coordinates, rounds.layout)


def with_components(
    model: Network, found: Decomposition, coordinates: Coordinates, layout: Layout
) -> Network:
    """Model with A1 and A2 from a decomposition, in the order of its own units.

    Rows keep the norm and sign of those they replace, so U and b stay valid.
    """
    degree, leading = top_degree(model)
    old = coordinates.components(model)
    cosines, norms = old @ found.components.T, np.linalg.norm(old, axis=1)
    _, order = linear_sum_assignment(-np.abs(cosines / norms[:, None]))
    size = norms * np.where(cosines[np.arange(len(order)), order] < 0, -1.0, 1.0)
    seen = np.zeros(model.input_weights.shape, dtype=bool)
    for direction in layout.directions:
        seen[direction.units, direction.columns] = True
    rows = (size[:, None] * found.components[order]) @ coordinates.to_inputs
    scale = factorial(degree) * leading * size**degree
    return model.replace(
        input_weights=np.where(seen, rows, 0.0),
        output_weights=found.loadings[order] / scale[:, None],
    )


def first_model(
    found: Decomposition,
    coordinates: Coordinates,
    activation: Activation,
    means: Array,
    layout: Layout,
) -> Network:
    """Network of a first moment: unit rows A1, A2 from the loadings, no recurrence yet."""
    model = IORNN(
        found.components @ coordinates.to_inputs,
        np.zeros((layout.n_hidden, layout.n_hidden)),
        found.loadings,
        output_bias=means if layout.bias else None,
        direct_weights=np.zeros((layout.n_inputs, layout.n_outputs)) if layout.direct else None,
        activation=activation,
    )
    degree, leading = top_degree(model)
    model = model.replace(output_weights=found.loadings / (factorial(degree) * leading))
    return model.canonical()
