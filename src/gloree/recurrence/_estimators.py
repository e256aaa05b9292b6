"""Estimators of U and b as objects: what each sums over the data, and what it makes of the sums.

A fit alternates passes at frozen weights with small linear algebra. In a pass, an estimator sees
every batch once (`RecurrenceEstimator.sums`); between passes it turns the merged sums into a change
of the weights (`RecurrenceEstimator.update`). An object of your own with these methods is accepted
wherever a name is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from gloree._sums import Sums
from gloree.chains import HermiteLaw
from gloree.models import Network
from gloree.recurrence._contraction import Contraction, top_degree
from gloree.recurrence._cross import CrossSums, cross_sums, cross_update
from gloree.recurrence._instrument import InstrumentSums, instrument_sums, instrument_update
from gloree.recurrence._linearised import (
    LinearisedSums,
    WeightChange,
    linearised_sums,
    linearised_update,
    output_update,
)
from gloree.recurrence._score import ScoreSums, check_score_method, score_sums, score_update
from gloree.sequences import Array, Batch
from gloree.states import States

MOST_FEEDBACK = 1000
"""Recurrent weights up to which later rounds solve for all of them together."""


@dataclass(frozen=True)
class FreeWeights:
    """Which weights an estimator may change.

    Attributes
    ----------
    recurrent : bool
        U.
    bias : bool
        The output bias c.
    unit_bias : bool
        The hidden biases b.
    direct : bool
        D.
    ridge : float
        Relative ridge of the regressions.
    """

    recurrent: bool = True
    bias: bool = True
    unit_bias: bool = True
    direct: bool = False
    ridge: float = 1e-10


@dataclass(frozen=True)
class BatchAtWeights:
    """One batch of the data, seen with the current weights.

    Attributes
    ----------
    batch : Batch
    model : IORNN or BRNN
        With the current weights.
    states : States
        Of the model on the batch.
    residuals : ndarray of shape (n_rows, n_outputs)
        y - y^.
    free : FreeWeights
    law : HermiteLaw or None
        Law of the inputs; given to estimators that use scores.
    contraction : Contraction or None
        Directions A2 V^-1 and A1 K^-1 of the current weights; given along with a law.
    """

    batch: Batch
    model: Network
    states: States
    residuals: Array
    free: FreeWeights
    law: HermiteLaw | None = None
    contraction: Contraction | None = None

    def linearised(self, *, recurrent: bool, bias: bool) -> LinearisedSums:
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

    A class of your own writes `name`, `sums` and `update`; deriving it from this one gives the
    rest.

    Attributes
    ----------
    name : str
        Stands in the report.
    uses_scores : bool
        Whether `sums` needs the law of the inputs.
    """

    name: str
    uses_scores: bool = False

    def check(self, model: Network, *, bidirectional: bool = False) -> None:
        """Raise ValueError, naming the estimator, for a network that it cannot serve.

        Parameters
        ----------
        model : IORNN
            Units without recurrence.
        bidirectional : bool, default False
            Whether some of them will run backward.
        """
        del bidirectional
        top_degree(model)

    def score_order(self, degree: int) -> int:
        """Order of the score tensors that it rests on, for an activation of this degree."""
        del degree
        return 1

    def sums(self, seen: BatchAtWeights) -> Sums:
        """Sums of one batch; a pure function."""
        ...

    def update(self, sums: Any, model: Network, free: FreeWeights) -> WeightChange:
        """Change of the weights of `model` from the sums of a pass with these weights."""
        ...

    def without_scores(self) -> RecurrenceEstimator | None:
        """Estimator to use where no score can be trusted; None where there is no other."""
        return None if self.uses_scores else self

    def later(self, n_hidden: int) -> RecurrenceEstimator:
        """Estimator of the rounds that follow a start by this one."""
        del n_hidden
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True)
class SecondMomentSums(Sums):
    """Output regression beside the moments of an estimator."""

    outputs: LinearisedSums = field(metadata={"nested": True})
    instrument: InstrumentSums | None = field(default=None, metadata={"nested": True})
    cross: CrossSums | None = field(default=None, metadata={"nested": True})
    score: ScoreSums | None = field(default=None, metadata={"nested": True})


class OutputsOnly(RecurrenceEstimator):
    """Least squares of A2, c and D; U and b stay."""

    name = "none"

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums:
        """Regression of the residual on states and inputs."""
        return SecondMomentSums(seen.linearised(recurrent=False, bias=False))

    def update(self, sums: SecondMomentSums, model: Network, free: FreeWeights) -> WeightChange:
        """Change of the outputs."""
        return output_update(sums.outputs, model, bias=free.bias, ridge=free.ridge)


class LeastSquares(RecurrenceEstimator):
    """All weights but A1 together, from the linearised prediction error; for any inputs."""

    name = "least-squares"

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums:
        """Normal equations of U, b, A2, c and D (see `LinearisedSums`)."""
        free = seen.free
        return SecondMomentSums(seen.linearised(recurrent=free.recurrent, bias=free.unit_bias))

    def update(self, sums: SecondMomentSums, model: Network, free: FreeWeights) -> WeightChange:
        """Joint solution (see `linearised_update`)."""
        return linearised_update(sums.outputs, model, bias=free.bias, ridge=free.ridge)


class Instrument(RecurrenceEstimator):
    """Moments of order l - 1 with the model's own previous states as instruments: the default.

    With A1 and A2 of a first round, least squares beats it, since all of its unknowns are solved
    for together; later rounds use that, unless its matrix would cost more than everything else.
    """

    name = "instrument"
    uses_scores = True

    def score_order(self, degree: int) -> int:
        """Return l - 1."""
        return max(degree - 1, 1)

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums:
        """See `InstrumentSums`."""
        outputs = seen.linearised(recurrent=False, bias=False)
        return SecondMomentSums(outputs, instrument=_instrument(seen))

    def update(self, sums: SecondMomentSums, model: Network, free: FreeWeights) -> WeightChange:
        """See `instrument_update`."""
        assert sums.instrument is not None
        dU, db = instrument_update(sums.instrument, bias=free.unit_bias, n_forward=model.n_forward)
        if not free.recurrent:
            dU = np.zeros_like(dU)
            db = _remaining_bias(sums.instrument, dU, free)
        return _with_units(sums, model, free, dU, db)

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

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums:
        """See `CrossSums`; biases come from the moments of `Instrument`."""
        assert seen.law is not None
        assert seen.contraction is not None
        outputs = seen.linearised(recurrent=False, bias=False)
        given = (seen.batch, seen.model, seen.law, seen.contraction)
        cross = cross_sums(*given, seen.states, seen.residuals)
        return SecondMomentSums(outputs, instrument=_instrument(seen), cross=cross)

    def update(self, sums: SecondMomentSums, model: Network, free: FreeWeights) -> WeightChange:
        """See `cross_update`."""
        assert sums.cross is not None
        assert sums.instrument is not None
        dU = cross_update(sums.cross, *top_degree(model)) * free.recurrent
        db = _remaining_bias(sums.instrument, dU, free)
        return _with_units(sums, model, free, dU, db)


class Score(RecurrenceEstimator):
    """The paper's: order l^2 in the step before, quadratic in U, from U = 0 only. A baseline.

    Its moment leaves the sign of each row of U open; that along which the squared error falls is
    taken.
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
                "'instrument' or 'cross' for bidirectional networks"
            )
        check_score_method(model)
        if model.recurrent_weights.any():
            raise ValueError(
                "recurrence='score' starts from U = 0, and the model has recurrent weights: use "
                "'instrument' to improve them"
            )

    def sums(self, seen: BatchAtWeights) -> SecondMomentSums:
        """See `ScoreSums`."""
        assert seen.law is not None
        outputs = seen.linearised(recurrent=seen.free.recurrent, bias=False)
        score = score_sums(seen.batch, seen.model, seen.law, seen.residuals)
        return SecondMomentSums(outputs, instrument=_instrument(seen), score=score)

    def update(self, sums: SecondMomentSums, model: Network, free: FreeWeights) -> WeightChange:
        """See `score_update`; once U is not zero only the other weights change."""
        assert sums.score is not None
        assert sums.instrument is not None
        dU = np.zeros_like(model.recurrent_weights)
        if free.recurrent and not model.recurrent_weights.any():
            dU = score_update(sums.score, top_degree(model)[1])
            k = model.n_hidden
            slope = np.einsum(
                "ia,ija->ij", model.output_weights, sums.outputs.unit_cross.reshape(k, k, -1)
            )
            dU = dU * np.where(np.sum(dU * slope, axis=1) < 0, -1.0, 1.0)[:, None]
        db = _remaining_bias(sums.instrument, dU, free)
        return _with_units(sums, model, free, dU, db)


RECURRENCES: dict[str, RecurrenceEstimator] = {
    each.name: each for each in (Instrument(), LeastSquares(), Cross(), Score())
}
"""Estimators by name."""


def _instrument(seen: BatchAtWeights) -> InstrumentSums:
    assert seen.law is not None
    assert seen.contraction is not None
    given = (seen.batch, seen.model, seen.law, seen.contraction)
    return instrument_sums(*given, seen.states, seen.residuals)


def _remaining_bias(sums: InstrumentSums, dU: Array, free: FreeWeights) -> Array:
    """Change of b that matches E[z - z^] once U has changed."""
    if not free.unit_bias:
        return np.zeros(dU.shape[0])
    mean = (sums.cross[:, -1] - dU @ sums.gram[:-1, -1]) / sums.n_rows
    return np.asarray(mean)


def _with_units(
    sums: SecondMomentSums, model: Network, free: FreeWeights, dU: Array, db: Array
) -> WeightChange:
    """Changes of U and b beside those of the output regression."""
    outputs = output_update(sums.outputs, model, bias=free.bias, ridge=free.ridge)
    return replace(outputs, recurrent=dU, bias=db)
