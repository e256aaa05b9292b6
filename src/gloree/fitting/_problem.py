"""What is to be fitted: data, settings and engine, resolved once and never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from gloree._arrays import like, to_host
from gloree._brief import Brief
from gloree._mapped import loaded
from gloree.activations import Activation, Polynomial
from gloree.chains import InputLaw
from gloree.diagnostics import TooFewSamplesError, check_samples, recoverable_degree, rows_for
from gloree.engine import Engine
from gloree.fitting._output_units import OutputUnits
from gloree.models import BRNN, Network
from gloree.moments import FirstMomentEstimator
from gloree.recurrence import RecurrenceEstimator
from gloree.refinement import GaussNewton, Layout, Loss, Solver
from gloree.sequences import Array, Batch, Data


class Encoding(Protocol):
    """What makes outputs of the data as they are kept: (n_rows, n_columns) to (.., n_outputs)."""

    @property
    def n_outputs(self) -> int:
        """Columns of the outputs."""

    def __call__(self, values: Array, /) -> Array:
        """Outputs."""


PRECISE = 0.002
"""Noise variances that may be left to gain at the end with any activation: a twentieth of the
standard error of any combination of weights. With a quarter, weights that are hardly determined
show it."""


EQUAL, BY_RESIDUALS = "equal", "residuals"
"""Weights of outputs by name: all alike as they come, and by the covariance of their noise."""


@dataclass(frozen=True)
class FitSettings(Brief):
    """Parameters of an estimator (see `SpectralRNNRegressor`), with objects in place of names.

    `n_hidden` counts all units and is None where their number is to be found; `n_forward` is None
    where directions are; `moment` is a string where the sizes of the data decide. `bias` says
    whether hidden biases are free; the offset of the outputs is free with them, and without them
    where the outputs turn out to have one (`offset`). `few_values` says whether inputs take so few
    values that monomials of them are dependent. `output_weights` are a name, weights of the outputs
    or a metric of them.
    """

    n_hidden: int | None
    n_forward: int | None
    bidirectional: bool
    activation: Activation
    law: InputLaw | None
    moment: FirstMomentEstimator | str
    direct: bool
    bias: bool
    recurrence: RecurrenceEstimator | None
    lags: int
    max_rounds: int
    solver: Solver | None
    loss: Loss
    batch_size: int | None
    memory_limit: int | None
    verbose: int
    output_weights: str | Array = EQUAL
    offset: bool = False
    few_values: bool = False

    @property
    def all_orders(self) -> bool:
        """Whether units come from derivatives of several orders, with a descent from there.

        Polynomials of degree 2 and 3 have the moment of that order, which is enough unless inputs
        take few values.
        """
        return self.few_values or self.activation.degree not in (2, 3)

    @property
    def polynomial(self) -> Polynomial:
        """Activation of a fit by the moment of its degree."""
        assert isinstance(self.activation, Polynomial)
        return self.activation

    @property
    def asks_for_score(self) -> bool:
        """Whether a score moment, or a recurrence that has nothing else, was asked for by name."""
        moment, recurrence = self.moment, self.recurrence
        if not isinstance(moment, str) and moment.uses_scores:
            return True
        return recurrence is not None and recurrence.without_scores() is None

    @property
    def refinement(self) -> Solver | None:
        """Solver of the refinement: Gauss-Newton for polynomials with lower terms.

        Moments give their leading term alone, and the cubic start is too rough for few steps.
        """
        few = self.solver is None or self.solver == GaussNewton()
        if self.all_orders:
            return GaussNewton(enough=PRECISE) if few else self.solver
        if self.activation.is_monomial:
            return self.solver
        cubic = self.activation.degree == 3
        return GaussNewton(to_convergence=cubic) if few else self.solver

    @property
    def bias_is_direct(self) -> bool:
        """Whether hidden biases are only another name for a part of the direct path.

        They are for (a.x + b)^2 beside a free linear path, without a recurrence: b stays zero.
        """
        quadratic = self.activation.is_monomial and self.activation.degree == 2
        return self.direct and self.recurrence is None and quadratic


@dataclass(frozen=True)
class FitProblem:
    """One fit: data, settings and engine.

    Random numbers are drawn from `rng` in the order of the stages. `encode` makes the outputs that
    passes see of labels in the data; `units` are those of measured outputs, if they have any.
    """

    data: Data
    settings: FitSettings
    engine: Engine
    rng: np.random.Generator
    encode: Encoding | None = None
    units: OutputUnits | None = None

    @cached_property
    def degree(self) -> int:
        """Order l of the first moment."""
        return recoverable_degree(self.settings.activation)[0]

    @property
    def n_inputs(self) -> int:
        """Inputs of the network, lags included."""
        lags = self.settings.lags
        return self.data.n_inputs * (2 * lags - 1 if self.settings.bidirectional else lags)

    @property
    def n_outputs(self) -> int:
        """Outputs as passes see them."""
        return self.data.n_outputs if self.encode is None else self.encode.n_outputs

    def with_outputs(self, encode: Encoding | None) -> FitProblem:
        """The same problem with other outputs."""
        return replace(self, encode=encode)

    def in_units(self, units: OutputUnits | None) -> FitProblem:
        """The same problem with outputs in other units."""
        return replace(self, units=units)

    @property
    def weighs(self) -> bool:
        """Whether outputs have units of their own: several, of a squared error."""
        by_name = isinstance(self.settings.output_weights, str)
        equal = by_name and self.settings.output_weights == EQUAL
        several = self.data.n_outputs > 1 and self.encode is None
        return several and not equal and self.settings.loss.least_squares

    def with_offset(self) -> FitProblem:
        """The same problem with a free offset of the outputs."""
        return replace(self, settings=replace(self.settings, offset=True))

    def first_rows(self, n_rows: int) -> tuple[Array, Array]:
        """About so many inputs and outputs at the start of the data."""
        part = self.data.head(n_rows)
        assert part.Y is not None
        X, Y = (to_host(loaded(values)).astype(np.float64) for values in (part.X, part.Y))
        encode = self.encode or self.units
        return X, Y if encode is None else encode(Y)

    def layout(self, n_hidden: int, n_backward: int | None = None) -> Layout:
        """Free weights of the network asked for."""
        settings = self.settings
        return Layout(
            self.n_inputs,
            n_hidden,
            self.n_outputs,
            recurrent=settings.recurrence is not None,
            bias=settings.bias or settings.offset,
            direct=settings.direct,
            hidden_bias=settings.bias and not settings.bias_is_direct,
            n_backward=n_backward,
            lags=settings.lags,
        )

    def layout_of(self, model: Network) -> Layout:
        """Free weights of a network of this fit."""
        backward = model.n_backward if isinstance(model, BRNN) else None
        return replace(self.layout(model.n_hidden, backward), n_outputs=model.n_outputs)

    def check_shapes(self) -> None:
        """Refuse windows longer than all sequences, and more inputs than the steps can tell of.

        Before anything of that size is allocated.
        """
        lags, n_rows = self.settings.lags, self.data.n_rows
        if lags > self.data.longest:
            raise ValueError(
                f"no sequence has {lags} steps, the length of one window: lower `lags`"
            )
        needed = rows_for(self.n_inputs)
        if n_rows < needed:
            windows = f" ({self.data.n_inputs} in each of the `lags`={lags} steps)"
            raise TooFewSamplesError(
                f"{n_rows} steps for {self.n_inputs} inputs{windows if lags > 1 else ''}: at least "
                f"{needed} steps are needed. Give more data or fewer inputs"
            )

    def check_samples(self, n_rows: int, n_hidden: int) -> None:
        """Refuse data that are too few for this many units."""
        backward = n_hidden // 2 if self.settings.bidirectional else None
        unknowns = self.layout(n_hidden, backward).size
        check_samples(n_rows, self.n_outputs, unknowns, self.n_inputs)


def centred_outputs(batch: Batch, mean: Array) -> Array:
    """Outputs of a batch less a mean."""
    values: Array = batch.targets - like(batch.targets, mean)
    return values
