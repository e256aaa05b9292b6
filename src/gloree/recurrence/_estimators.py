"""Estimators of U and b as objects: what each sums over the data, and what it makes of the sums.

A fit alternates passes at frozen weights with small linear algebra. In a pass, an estimator sees
every batch once (`RecurrenceEstimator.sums`); between passes it turns the merged sums into a change
of the weights (`RecurrenceEstimator.update`). An object of your own with these methods is accepted
wherever a name is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from gloree._brief import Brief
from gloree._sums import Sums
from gloree.chains import HermiteLaw
from gloree.models import Network
from gloree.recurrence._contraction import Contraction, top_degree
from gloree.recurrence._higher_scores import (
    CrossSums,
    ScoreSums,
    check_score_method,
    cross_sums,
    cross_update,
    score_sums,
    score_update,
)
from gloree.recurrence._instrument import InstrumentSums, instrument_sums, instrument_update
from gloree.recurrence._linearised import (
    LinearisedSums,
    WeightChange,
    linearised_sums,
    linearised_update,
    output_update,
)
from gloree.sequences import Array, Batch
from gloree.states import States, residual_rows, run_states

Moment = TypeVar("Moment", CrossSums, ScoreSums, None)

MOST_FEEDBACK = 1000
"""Recurrent weights up to which later rounds solve for all of them together."""


@dataclass(frozen=True)
class FreeWeights:
    """Which weights an estimator may change.

    Attributes
    ----------
    recurrent, bias, unit_bias, direct : bool
        Whether U, the output bias c, the hidden biases b, and D are free.
    ridge : float
        Relative ridge of the regressions.
    """

    recurrent: bool = True
    bias: bool = True
    unit_bias: bool = True
    direct: bool = False
    ridge: float = 1e-10


@dataclass(frozen=True)
class BatchAtWeights(Brief):
    """One batch of the data, with what the current weights make of it.

    Attributes
    ----------
    batch : Batch
    model : IORNN or BRNN
        With the current weights.
    free : FreeWeights
    law : HermiteLaw or None
        Law of the inputs; given to estimators that use scores.
    contraction : Contraction or None
        Directions A2 V^-1 and A1 K^-1 of the current weights; given along with a law.
    """

    batch: Batch
    model: Network
    free: FreeWeights
    law: HermiteLaw | None = None
    contraction: Contraction | None = None

    @cached_property
    def states(self) -> States:
        """States of the model on the batch."""
        return run_states(self.model, self.batch)

    @cached_property
    def residuals(self) -> Array:
        """Residuals y - y^, shape (n_rows, n_outputs)."""
        return residual_rows(self.model, self.batch, self.states)

    @property
    def scored(self) -> tuple[Batch, Network, HermiteLaw, Contraction, States, Array]:
        """Arguments of `instrument_sums` and `cross_sums`; for estimators that use scores."""
        assert self.law is not None
        assert self.contraction is not None
        given = (self.batch, self.model, self.law, self.contraction)
        return (*given, self.states, self.residuals)

    def linearised(self, *, recurrent: bool = False, bias: bool = False) -> LinearisedSums:
        """Normal equations of the outputs, and of U and b where these are asked for."""
        return linearised_sums(
            self.batch,
            self.model,
            recurrent=recurrent,
            bias=bias,
            direct=self.free.direct,
            states=self.states,
            residuals=self.residuals,
        )


class RecurrenceEstimator(Protocol):
    """What a fit asks of an estimator of the recurrence.

    A class of your own defines `name`, `sums` and `update`; the rest it can inherit from this one.

    Attributes
    ----------
    name : str
        Shown in reports and messages.
    uses_scores : bool
        Whether `sums` needs the law of the inputs; False by default.
    hermite : bool
        Whether the score tensors of that law have to be Hermite tensors; True by default.
    """

    name: str
    uses_scores: bool = False
    hermite: bool = True

    def check(self, model: Network, *, bidirectional: bool = False) -> None:
        """Raise ValueError, naming the estimator, for a network that it cannot serve.

        Parameters
        ----------
        model : IORNN
            Units without recurrence.
        bidirectional : bool, default False
            Whether some of them will run backward.
        """
        top_degree(model)

    def score_order(self, degree: int) -> int:
        """Order of the score tensors that `sums` needs, for an activation of this degree."""
        return 1

    def sums(self, seen: BatchAtWeights) -> Sums:
        """Sums of one batch: a pure function.

        Parameters
        ----------
        seen : BatchAtWeights

        Returns
        -------
        Sums
            A frozen dataclass whose fields add over batches.
        """

    def update(self, sums: Any, model: Network, free: FreeWeights) -> WeightChange:
        """Change of the weights of `model` from the sums of a pass with these weights.

        Parameters
        ----------
        sums : Sums
            What `sums` gave, merged over all batches.
        model : IORNN or BRNN
        free : FreeWeights
            The change has to be zero for all other weights.

        Returns
        -------
        WeightChange
        """

    def without_scores(self) -> RecurrenceEstimator | None:
        """Estimator to use where the score is missing or wrong; None where there is none."""
        return None if self.uses_scores else self

    def later(self, n_hidden: int) -> RecurrenceEstimator:
        """Estimator for the rounds after the first estimate."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True)
class SecondMomentSums(Sums, Generic[Moment]):
    """Sums of an estimator that uses scores.

    `outputs` are those of the regression of the residual on states and inputs, `instrument` those
    that b comes from, if not U too, `moment` those that U comes from otherwise.
    """

    outputs: LinearisedSums = field(metadata={"nested": True})
    instrument: InstrumentSums = field(metadata={"nested": True})
    moment: Moment = field(metadata={"nested": True})


class OutputsOnly(RecurrenceEstimator):
    """Least squares of A2, c and D; U and b stay."""

    name = "none"

    def sums(self, seen: BatchAtWeights) -> LinearisedSums:
        """Regression of the residual on states and inputs."""
        return seen.linearised()

    def update(self, sums: LinearisedSums, model: Network, free: FreeWeights) -> WeightChange:
        """See `output_update`."""
        return output_update(sums, model, bias=free.bias, ridge=free.ridge)


class LeastSquares(RecurrenceEstimator):
    """All weights but A1 together, from the linearised prediction error; for any inputs."""

    name = "least-squares"

    def sums(self, seen: BatchAtWeights) -> LinearisedSums:
        """Normal equations of U, b, A2, c and D; see `LinearisedSums`."""
        return seen.linearised(recurrent=seen.free.recurrent, bias=seen.free.unit_bias)

    def update(self, sums: LinearisedSums, model: Network, free: FreeWeights) -> WeightChange:
        """See `linearised_update`."""
        return linearised_update(sums, model, bias=free.bias, ridge=free.ridge)


class Instrument(RecurrenceEstimator):
    """Moments of order l - 1 with the model's own previous states as instruments: the default.

    Once A1 and A2 are known from a first round, least squares is more accurate, since it solves for
    all unknowns together; later rounds use it, unless its matrix would cost more than everything
    else.
    """

    name = "instrument"
    uses_scores = True
    hermite = False

    def score_order(self, degree: int) -> int:
        """Return l - 1."""
        return max(degree - 1, 1)

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums[None]:
        """See `InstrumentSums`."""
        return SecondMomentSums(seen.linearised(), instrument_sums(*seen.scored), None)

    def update(
        self, sums: SecondMomentSums[None], model: Network, free: FreeWeights
    ) -> WeightChange:
        """See `instrument_update`."""
        dU, db = instrument_update(sums.instrument, bias=free.unit_bias, n_forward=model.n_forward)
        if free.recurrent:
            outputs = output_update(sums.outputs, model, bias=free.bias, ridge=free.ridge)
            return replace(outputs, recurrent=dU, bias=db)
        return _with_recurrent(np.zeros_like(dU), sums, model, free)

    def without_scores(self) -> RecurrenceEstimator:
        """Linearised least squares."""
        return LeastSquares()

    def later(self, n_hidden: int) -> RecurrenceEstimator:
        """Linearised least squares, up to `MOST_FEEDBACK` recurrent weights."""
        return LeastSquares() if n_hidden**2 <= MOST_FEEDBACK else self


class Cross(RecurrenceEstimator):
    """The joint score of two neighbouring steps: order 2l - 1, linear in U."""

    name = "cross"
    uses_scores = True

    def score_order(self, degree: int) -> int:
        """Return 2 l - 1."""
        return 2 * degree - 1

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums[CrossSums]:
        """See `CrossSums`; biases come from the moments of `Instrument`."""
        outputs, cross = seen.linearised(), cross_sums(*seen.scored)
        return SecondMomentSums(outputs, instrument_sums(*seen.scored), cross)

    def update(
        self, sums: SecondMomentSums[CrossSums], model: Network, free: FreeWeights
    ) -> WeightChange:
        """See `cross_update`."""
        dU = cross_update(sums.moment, *top_degree(model)) * free.recurrent
        return _with_recurrent(dU, sums, model, free)


class Score(RecurrenceEstimator):
    """The paper's: order l^2 in the step before, quadratic in U, from U = 0 only. A baseline.

    Its moment leaves the sign of each row of U open; the sign along which the squared error falls
    is taken.
    """

    name = "score"
    uses_scores = True

    def score_order(self, degree: int) -> int:
        """Return l^2."""
        return degree**2

    def check(self, model: Network, *, bidirectional: bool = False) -> None:
        """Refuse degrees other than 2, sizes that are too large, backward units, and a given U."""
        if bidirectional or model.n_forward < model.n_hidden:
            raise ValueError(
                "recurrence='score' gives U without the signs of its rows, and V not at all: use "
                "'instrument' or 'cross' as `recurrence` of bidirectional networks"
            )
        check_score_method(model)
        if model.recurrent_weights.any():
            raise ValueError(
                "recurrence='score' starts from U = 0, and the model has recurrent weights: use "
                "`recurrence`='instrument' to improve them"
            )

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums[ScoreSums]:
        """See `ScoreSums`; biases come from the moments of `Instrument`."""
        batch, model, law, *_ = seen.scored
        outputs = seen.linearised(recurrent=seen.free.recurrent)
        score = score_sums(batch, model, law, seen.residuals)
        return SecondMomentSums(outputs, instrument_sums(*seen.scored), score)

    def update(
        self, sums: SecondMomentSums[ScoreSums], model: Network, free: FreeWeights
    ) -> WeightChange:
        """See `score_update`; once U is not zero only the other weights change."""
        dU = np.zeros_like(model.recurrent_weights)
        if free.recurrent and not model.recurrent_weights.any():
            dU = score_update(sums.moment, top_degree(model)[1])
            k = model.n_hidden
            cross = sums.outputs.unit_cross.reshape(k, k, -1)
            slope = np.einsum("ia,ija->ij", model.output_weights, cross)
            dU = dU * np.where(np.sum(dU * slope, axis=1) < 0, -1.0, 1.0)[:, None]
        return _with_recurrent(dU, sums, model, free)


RECURRENCES: dict[str, RecurrenceEstimator] = {
    each.name: each for each in (Instrument(), LeastSquares(), Cross(), Score())
}
"""Estimators by name."""


def _with_recurrent(
    dU: Array, sums: SecondMomentSums[Moment], model: Network, free: FreeWeights
) -> WeightChange:
    """Change of U, the change of b that then matches E[z - z^], and the output regression."""
    outputs = output_update(sums.outputs, model, bias=free.bias, ridge=free.ridge)
    cross, gram = sums.instrument.cross, sums.instrument.gram
    mean = (cross[:, -1] - dU @ gram[:-1, -1]) / sums.instrument.n_rows
    db = mean if free.unit_bias else np.zeros(dU.shape[0])
    return replace(outputs, recurrent=dU, bias=db)
