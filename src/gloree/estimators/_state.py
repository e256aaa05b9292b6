"""What the stages of a fit share: data, settings, and what has been found so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from gloree._arrays import like, to_host
from gloree.activations import Polynomial
from gloree.chains import HermiteLaw
from gloree.diagnostics import FitReport, check_samples
from gloree.engine import Engine, Source, Subset
from gloree.estimators._stages import Stages
from gloree.models import BRNN, Network
from gloree.moments import MomentPlan, Whitening
from gloree.refinement import Layout
from gloree.sequences import Array, Batch, Data, IntArray

DEFECT_LIMIT = 0.45
"""Stein defect from which the Gaussian score is not used for the recurrence."""

RADIUS_LIMIT = 0.75
"""Rho from which it is not: residual rounds with a score converge only below 1."""


WIDE = 200
"""Inputs beyond which `State.is_wide`."""


@dataclass(frozen=True)
class Settings:
    """Parameters of the estimator, checked and resolved."""

    n_hidden: int | None
    n_forward: int | None
    bidirectional: bool
    activation: Polynomial
    chain: HermiteLaw | None
    moment: str
    direct: bool
    bias: bool
    recurrence: str | None
    lags: int
    max_rounds: int
    refine: str | None
    batch_size: int | None
    memory_limit: int | None
    engine: Engine
    rng: np.random.Generator
    verbose: int


class Encoding(Protocol):
    """What makes outputs of the data as they are kept: (n_rows, n_columns) to (.., n_outputs)."""

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""

    def __call__(self, values: Array, /) -> Array:
        """Outputs."""


@dataclass
class State(Stages):
    """One fit: each stage reads what those before it left, adds its own, and reports itself."""

    data: Data
    settings: Settings
    report: FitReport
    source: Source = field(init=False)
    wild: IntArray | None = field(init=False, default=None)
    plan: MomentPlan = field(init=False)
    moment_rows: int = field(init=False, default=0)
    _subset: tuple[int, Source, IntArray | None, Subset] | None = field(init=False, default=None)
    plan_outputs: int | None = field(init=False, default=None)
    encode: Encoding | None = field(init=False, default=None)
    n_rows: int = field(init=False)
    output_mean: Array = field(init=False)
    chain: HermiteLaw | None = field(init=False, default=None)
    fitted_chain: HermiteLaw | None = field(init=False, default=None)
    full_whitening: Whitening | None = field(init=False, default=None)
    bar: Any = field(init=False, default=None)

    @property
    def calm(self) -> Source:
        """The data without the few segments whose size would drown all others in a moment."""
        return replace(self.source, skipped=self.wild)

    def subset(self, n_rows: int) -> Subset:
        """About so many of the calm rows; the same ones if they are asked for again."""
        if self._subset is not None:
            rows, source, wild, subset = self._subset
            if rows == n_rows and source is self.source and wild is self.wild:
                return subset
        calm = self.calm
        subset = Subset(calm, calm.subset(n_rows))
        self._subset = n_rows, self.source, self.wild, subset
        return subset

    @property
    def n_outputs(self) -> int:
        """Outputs as passes see them."""
        return self.data.n_outputs if self.encode is None else self.encode.n_outputs

    @property
    def n_inputs(self) -> int:
        """Inputs of the network, lags included."""
        lags = self.settings.lags
        return self.data.n_inputs * (2 * lags - 1 if self.settings.bidirectional else lags)

    def first_rows(self, n_rows: int) -> tuple[Array, Array]:
        """About so many inputs and outputs at the start of the data."""
        part, encode = self.data.head(n_rows), self.encode
        assert part.Y is not None
        X, Y = (to_host(values).astype(np.float64) for values in (part.X, part.Y))
        return X, Y if encode is None else encode(Y)

    def layout(self, n_hidden: int, n_backward: int | None = None) -> Layout:
        """Free weights of the network asked for."""
        settings = self.settings
        return Layout(
            self.n_inputs,
            n_hidden,
            self.n_outputs,
            recurrent=settings.recurrence is not None,
            bias=settings.bias,
            direct=settings.direct,
            hidden_bias=not self.bias_is_direct,
            n_backward=n_backward,
            lags=settings.lags,
        )

    def layout_of(self, model: Network) -> Layout:
        """Free weights of a network of this fit."""
        backward = model.n_backward if isinstance(model, BRNN) else None
        return self.layout(model.n_hidden, backward)

    @property
    def is_wide(self) -> bool:
        """Whether there are so many inputs that neither a law nor J^T J of all weights is formed.

        Scores would cost as much as everything else together; without one the recurrence comes
        from linearised least squares.
        """
        settings = self.settings
        asked = settings.chain is not None or settings.moment == "score"
        asked = asked or settings.recurrence in ("cross", "score") or settings.lags > 1
        return not asked and self.data.n_inputs > WIDE and self.plan.n_directions < self.n_inputs

    @property
    def bias_is_direct(self) -> bool:
        """Whether hidden biases are only another name for a part of the direct path.

        They are for (a.x + b)^2 beside a free linear path, without a recurrence: b stays zero.
        """
        settings = self.settings
        quadratic = settings.activation.is_monomial and settings.activation.degree == 2
        return settings.direct and settings.recurrence is None and quadratic

    def check_samples(self, n_hidden: int) -> None:
        """Refuse data that are too few for this many units."""
        backward = n_hidden // 2 if self.settings.bidirectional else None
        unknowns = self.layout(n_hidden, backward).size
        check_samples(self.n_rows, self.n_outputs, unknowns, self.n_inputs)

    @property
    def score_is_wrong(self) -> bool:
        """Whether the Stein defect, or rho, rules the Gaussian score out."""
        check = self.report.score_check
        if check is None:
            return False
        # noise alone has a spectral radius too; an eigenvalue well outside of it is a true one
        seen = check.radius > 1.5 * check.radius_noise
        divergent = seen and check.radius > RADIUS_LIMIT + check.radius_error
        return check.defect > DEFECT_LIMIT or divergent

    @property
    def centred_outputs(self) -> Callable[[Batch], Array]:
        """What gives the outputs of a batch less their mean."""
        return partial(centred, mean=self.output_mean)


def centred(batch: Batch, mean: Array) -> Array:
    """Outputs of a batch less a mean."""
    values: Array = batch.targets - like(batch.targets, mean)
    return values
