"""Rounds of residual moments: the model as control variate of its own estimate.

Every quantity a round needs is a sum over batches at frozen weights, so `evaluate` is one pass
that returns them together with the squared error; the rest is small linear algebra. A change is
kept only if the squared error, measured by the next pass, falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import factorial
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from gloree._arrays import column_squares, take_rows, to_host
from gloree._sums import Sums
from gloree.activations import Activation
from gloree.chains import HermiteLaw
from gloree.decomposition import Decomposition, decompose
from gloree.engine import Engine, Source, Subset
from gloree.models import IORNN, ExplosionError, Network
from gloree.moments import (
    CrossMoment,
    Frame,
    RegressionSolver,
    RegressionSums,
    cross_moment_sums,
    regression_sums,
)
from gloree.recurrence import (
    Contraction,
    CrossSums,
    InstrumentSums,
    LinearisedSums,
    ScoreSums,
    cross_sums,
    cross_update,
    instrument_sums,
    instrument_update,
    linearised_sums,
    linearised_update,
    output_update,
    score_sums,
    score_update,
    top_degree,
)
from gloree.refinement._layout import Layout
from gloree.sequences import Array, Batch
from gloree.states import residual_rows, run_states

MOST_FEEDBACK = 1000
"""Recurrent weights up to which rounds solve for them together."""

UnitMethod = Literal["instrument", "least-squares", "cross", "score", "none"]


@dataclass(frozen=True)
class RoundSums(Sums):
    """What one pass at frozen weights returns; parts that were not asked for are None."""

    squares: Array
    n_rows: float
    output_moment: Array
    linear: LinearisedSums | None = field(default=None, metadata={"nested": True})
    instrument: InstrumentSums | None = field(default=None, metadata={"nested": True})
    cross: CrossSums | None = field(default=None, metadata={"nested": True})
    score: ScoreSums | None = field(default=None, metadata={"nested": True})
    regression: RegressionSums | None = field(default=None, metadata={"nested": True})
    moment: CrossMoment | None = field(default=None, metadata={"nested": True})


@dataclass(frozen=True)
class RoundSettings:
    """How the moments of a fit are taken.

    Attributes
    ----------
    layout : Layout
        Free weights.
    method : str
        Estimator of U and b.
    frame : Frame
        Coordinates of the first moment.
    solver : RegressionSolver or None
        Factored features of regression moments; None takes score moments.
    chain : HermiteLaw or None
        Input law, where a score is used.
    ridge : float
        Relative ridge of the regressions on states and inputs.
    """

    layout: Layout
    method: UnitMethod
    frame: Frame
    solver: RegressionSolver | None
    chain: HermiteLaw | None
    ridge: float = 1e-10


def evaluate_batch(
    batch: Batch,
    model: Network,
    settings: RoundSettings,
    contraction: Contraction | None,
    *,
    units: bool,
    tensor: bool,
) -> RoundSums:
    """Map of a round's pass: squared error, and the moments asked for."""
    states = run_states(model, batch)
    residuals = residual_rows(model, batch, states)
    counted = take_rows(residuals, batch.counted)
    method, chain, layout = settings.method, settings.chain, settings.layout
    parts: dict[str, object] = {}
    parts["linear"] = linearised_sums(
        batch,
        model,
        recurrent=units and method in ("least-squares", "score") and layout.recurrent,
        bias=units and method == "least-squares" and layout.unit_bias,
        direct=layout.direct,
        states=states,
        residuals=residuals,
    )
    if units and contraction is not None and chain is not None:
        if method in ("instrument", "cross", "score"):
            parts["instrument"] = instrument_sums(
                batch, model, chain, contraction, states, residuals
            )
        if method == "cross":
            parts["cross"] = cross_sums(batch, model, chain, contraction, states, residuals)
        if method == "score":
            parts["score"] = score_sums(batch, model, chain, residuals)
    if tensor:
        if settings.solver is not None:
            parts["regression"] = regression_sums(
                batch, settings.solver.features, targets=lambda _: residuals, gram=False
            )
        elif chain is not None:
            degree, _ = top_degree(model)
            parts["moment"] = cross_moment_sums(
                batch,
                chain,
                degree,
                projection=settings.frame.from_inputs,
                targets=lambda _: residuals,
            )
    return RoundSums(
        to_host(column_squares(counted)),
        float(batch.n_counted),
        to_host(counted.T @ counted),
        **parts,  # type: ignore[arg-type]
    )


@dataclass
class Rounds:
    """The alternation of first and second moment on one data set.

    Parameters
    ----------
    settings : RoundSettings
    engine : Engine
    source : Source or Subset
        What passes see: all of the data, or a part.
    progress : callable, optional
        Called with (label, mean squared error) after each step kept.

    Attributes
    ----------
    history : list of (str, float)
        Mean squared error after the first moment and after each step kept.
    """

    settings: RoundSettings
    engine: Engine
    source: Source | Subset
    progress: Callable[[str, float], None] | None = None
    history: list[tuple[str, float]] = field(default_factory=list)

    def evaluate(
        self,
        model: Network,
        *,
        units: bool = True,
        tensor: bool = False,
        output_moment: Array | None = None,
    ) -> RoundSums:
        """Run one pass at frozen weights."""
        settings = self.settings
        contraction = None
        if (
            units
            and settings.chain is not None
            and settings.method
            in (
                "instrument",
                "cross",
                "score",
            )
        ):
            covariances = settings.chain.precision_blocks(0)
            contraction = Contraction.of(model, covariances, output_moment)
        return self.engine.run(
            partial(
                evaluate_batch,
                model=model,
                settings=settings,
                contraction=contraction,
                units=units,
                tensor=tensor,
            ),
            self.source,
            label="moments",
        )

    def sweep(
        self, model: Network, sums: RoundSums, *, tensor: bool = False
    ) -> tuple[Network, RoundSums]:
        """One update of U, b, A2, c and D, shortened until the squared error falls.

        Returns
        -------
        model, sums : the updated model and its own pass, or the arguments where nothing helps.
        """
        before = float(sums.squares.sum())
        output_moment = sums.output_moment / sums.n_rows
        fraction = 1.0
        for _ in range(7):
            moved = self._updated(model, sums, fraction)
            try:
                after = self.evaluate(moved, tensor=tensor, output_moment=output_moment)
            except ExplosionError:
                after = None
            if after is not None and float(after.squares.sum()) <= before:
                return moved, after
            fraction /= 2.0
        return model, sums

    def _updated(self, model: Network, sums: RoundSums, fraction: float) -> Network:
        layout, method = self.settings.layout, self.settings.method
        linear = sums.linear
        assert linear is not None
        if method == "least-squares":
            change = linearised_update(linear, model, bias=layout.bias, ridge=self.settings.ridge)
            return change.apply(model, fraction)
        changed = output_update(linear, model, bias=layout.bias, ridge=self.settings.ridge).apply(
            model, units=False
        )
        if sums.instrument is None:
            return changed
        dU, db = instrument_update(
            sums.instrument, bias=layout.unit_bias, n_forward=model.n_forward
        )
        if method == "cross":
            assert sums.cross is not None
            dU = cross_update(sums.cross, *top_degree(model))
            db = _remaining_bias(sums.instrument, dU, layout.unit_bias)
        if method == "score":
            dU = self._score_change(model, sums)
            db = _remaining_bias(sums.instrument, dU, layout.unit_bias)
        if not layout.recurrent:
            dU, db = np.zeros_like(dU), _remaining_bias(sums.instrument, 0 * dU, layout.unit_bias)
        return changed.replace(
            recurrent_weights=model.recurrent_weights + fraction * dU,
            hidden_bias=model.hidden_bias + fraction * db,
        )

    def _score_change(self, model: Network, sums: RoundSums) -> Array:
        """The paper's |U|, each row with the sign along which the squared error falls."""
        if model.recurrent_weights.any():
            return np.zeros_like(model.recurrent_weights)
        assert sums.score is not None
        assert sums.linear is not None
        U = score_update(sums.score, top_degree(model)[1])
        k = model.n_hidden
        slope = np.einsum(
            "ia,ija->ij", model.output_weights, sums.linear.unit_cross.reshape(k, k, -1)
        )
        sign = np.where(np.sum(U * slope, axis=1) < 0, -1.0, 1.0)
        return U * sign[:, None]

    def start(self, model: Network, sweeps: int = 2) -> tuple[Network, RoundSums]:
        """Outputs, U and b from the first moment's A1 and A2 (start at U = 0)."""
        sums = self.evaluate(model)
        layout = self.settings.layout
        if layout.direct and sums.linear is not None:
            # a linear path may be most of the outputs: the units are sought in what it leaves
            change = output_update(sums.linear, model, bias=layout.bias, ridge=self.settings.ridge)
            model = change.apply(model, units=False)
            sums = self.evaluate(model)
        self._note("first moment", sums)
        for i in range(sweeps):
            moved, sums = self.sweep(model, sums, tensor=i == sweeps - 1)
            if moved is not model:
                self._note("recurrence", sums)
            model = moved
        return model, sums

    def round(self, model: Network, sums: RoundSums) -> tuple[Network, RoundSums]:
        """One round: residual first moment, polish, sweep. Kept only if the error falls.

        With A1 and A2 this good, linearised least squares beats the instrument (all of its
        unknowns are solved for together), so rounds after an instrument start use it, unless there
        are so many units that its matrix costs more than everything else.
        """
        few = self.settings.layout.n_hidden**2 <= MOST_FEEDBACK
        if self.settings.method == "instrument" and few:
            self.settings = replace(self.settings, method="least-squares")
        if sums.regression is None and sums.moment is None:
            sums = self.evaluate(model, tensor=True)
        candidate = self.polished(model, sums)
        after = None
        try:
            fresh = self.evaluate(candidate)
            candidate, after = self.sweep(candidate, fresh, tensor=True)
        except ExplosionError:
            return model, sums
        if float(after.squares.sum()) >= float(sums.squares.sum()):
            return model, sums
        self._note("round", after)
        return candidate, after

    def polished(self, model: Network, sums: RoundSums) -> Network:
        """A1 and A2 from the residual moment plus the model's own."""
        frame = self.settings.frame
        degree, leading = top_degree(model)
        tensor = frame.model_tensor(model, degree, leading) + self.residual_tensor(sums)
        scale = np.sqrt(np.maximum(np.diag(sums.output_moment) / sums.n_rows, 1e-300))
        found = decompose(
            tensor,
            model.n_hidden,
            output_scale=scale,
            initial=frame.components(model),
            ridge=None,
        )
        return with_components(model, found, frame, self.settings.layout)

    def residual_tensor(self, sums: RoundSums) -> Array:
        """First moment of the residual, in the coordinates of the frame."""
        if sums.regression is not None:
            assert self.settings.solver is not None
            return self.settings.solver.tensor(sums.regression)
        assert sums.moment is not None
        return sums.moment.finalize()

    def _note(self, label: str, sums: RoundSums) -> None:
        mean_square = float(sums.squares.mean()) / sums.n_rows
        self.history.append((label, mean_square))
        if self.progress is not None:
            self.progress(label, mean_square)


def _remaining_bias(sums: InstrumentSums, dU: Array, free: bool) -> Array:
    """Change of b that matches E[z - z^] once U has changed."""
    if not free:
        return np.zeros(dU.shape[0])
    mean = (sums.cross[:, -1] - dU @ sums.gram[:-1, -1]) / sums.n_rows
    return np.asarray(mean)


def with_components(model: Network, found: Decomposition, frame: Frame, layout: Layout) -> Network:
    """Model with A1 and A2 replaced by a decomposition's units, signed and ordered like its own.

    Components keep the norm and sign of the rows they replace, so U and b stay valid.
    """
    degree, leading = top_degree(model)
    old = frame.components(model)
    cosines = old @ found.components.T
    _, order = linear_sum_assignment(-np.abs(cosines / np.linalg.norm(old, axis=1)[:, None]))
    sign = np.where(cosines[np.arange(len(order)), order] < 0, -1.0, 1.0)
    size = np.linalg.norm(old, axis=1) * sign
    seen = np.zeros(model.input_weights.shape, dtype=bool)
    for direction in layout.directions:
        seen[direction.units, direction.columns] = True
    return model.replace(
        input_weights=np.where(
            seen, (size[:, None] * found.components[order]) @ frame.to_inputs, 0.0
        ),
        output_weights=found.loadings[order]
        / (factorial(degree) * leading * size**degree)[:, None],
    )


def first_model(
    found: Decomposition, frame: Frame, activation: Activation, means: Array, layout: Layout
) -> Network:
    """Network of a first moment: unit rows A1, A2 from the loadings, no recurrence yet."""
    model = IORNN(
        found.components @ frame.to_inputs,
        np.zeros((layout.n_hidden, layout.n_hidden)),
        found.loadings,
        output_bias=means if layout.bias else None,
        direct_weights=np.zeros((layout.n_inputs, layout.n_outputs)) if layout.direct else None,
        activation=activation,
    )
    degree, leading = top_degree(model)
    model = model.replace(output_weights=found.loadings / (factorial(degree) * leading))
    return model.canonical()
