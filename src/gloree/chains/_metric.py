"""A law with a metric of its scores, in the place of K where the log-density is not quadratic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

import gloree.chains._linear_algebra as algebra
from gloree._random import RandomState
from gloree.chains._base import DerivativeLaw, Derivatives, HermiteLaw, InputLaw
from gloree.chains._markov import LawAround, law_derivatives
from gloree.sequences import Array, Batch, IntArray


@dataclass(frozen=True, eq=False)
class LawWithMetric(LawAround):
    """A law whose score tensors are not Hermite, with a matrix in the place of K.

    Estimators contract moments along directions that a metric of the scores makes good ones: any
    positive definite matrix makes them right. It has the members of a `HermiteLaw`, with one
    boundary type, and declares ``hermite=False``.

    Attributes
    ----------
    law : DerivativeLaw
    metric : ndarray of shape (n_inputs, n_inputs)
        The inverse covariance of the inputs, below the covariance of any score.
    """

    law: DerivativeLaw
    metric: Array

    def __repr__(self) -> str:
        return repr(self.law)

    @property
    def n_boundary_types(self) -> int:
        """One: the metric is the same everywhere."""
        return 1

    def boundary_types(self, batch: Batch) -> IntArray:
        """Zero for every row."""
        return np.zeros(batch.n_rows, dtype=np.int64)

    def boundary_name(self, boundary_type: int) -> str:
        """All steps."""
        return "all"

    def precision_blocks(self, lag: int = 0) -> Array:
        """The metric at lag 0, zero beyond: (1, n_inputs, n_inputs)."""
        return self.metric[np.newaxis] * (lag == 0)

    def derivatives(self, batch: Batch, order: int) -> Derivatives:
        """Those of the law."""
        return law_derivatives(self.law, batch, order)

    def scores(self, batch: Batch) -> Array:
        """Those of the law."""
        return self.law.scores(batch)

    def log_density(self, X: object, *, lengths: ArrayLike | None = None) -> Array:
        """That of the law."""
        return self.law.log_density(X, lengths=lengths)

    def sample(self, n_sequences: int, n_steps: int, random_state: RandomState = None) -> Array:
        """Draw from the law."""
        return self.law.sample(n_sequences, n_steps, random_state)

    def shifted(self, offset: Array) -> LawWithMetric:
        """Law of x - offset."""
        return replace(self, law=self.law.shifted(offset))


def with_metric(law: InputLaw, covariance: Array) -> HermiteLaw:
    """Law with a K: its own where it is Hermite, else the inverse of this covariance of inputs.

    A ValueError if that covariance is singular.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree.chains import StudentVAR, with_metric
    >>> law = with_metric(StudentVAR([[0.5]], [[1.0]], df=5), np.array([[4.0]]))
    >>> law.precision_blocks(0)
    array([[[0.25]]])
    """
    if law.capabilities.hermite or isinstance(law, LawWithMetric):
        return law  # type: ignore[return-value]
    known = algebra.positive_definite(covariance, "covariance", law.n_inputs)
    return LawWithMetric(law, algebra.frozen(algebra.inverse(known)))  # type: ignore[arg-type]
