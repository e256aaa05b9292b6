"""First moments as objects, so that another one can take the place of those that have a name.

A fit uses a `FirstMomentEstimator` in this order. It asks for `n_features`, and then for another
estimator where there is no input law (`without_scores`) or too few steps (`suited_to`). `bind`
gives the moment on the inputs of this fit, a `BoundMoment`: the fit sums its `sums` over batches,
and calls `estimate` on the total. Refinement by rounds needs the same moment of residuals, a
`ResidualMoment`. All of them are sent to worker processes, so they must be picklable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from gloree._arrays import like
from gloree._brief import Brief
from gloree._monomials import n_monomials
from gloree._sums import Sums
from gloree.chains import HermiteLaw, InputLaw, require, with_metric
from gloree.moments._coordinates import Coordinates, Whitening, score_coordinates
from gloree.moments._cross import CrossMoment, cross_moment_sums
from gloree.moments._regression import (
    RegressionFeatures,
    RegressionSolver,
    RegressionSums,
    regression_sums,
)
from gloree.sequences import Array, Batch

UNION_ROWS = 4
"""Steps for each feature that a `union` moment needs, at least."""


class ResidualMoment(Protocol):
    """First moment of the residuals of a model, for rounds.

    Attributes
    ----------
    prepared : bool
        Whether it holds a statistic of the data, such as a Gram matrix; rounds then use the rows
        behind that statistic, or more.
    """

    prepared: ClassVar[bool]

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the tensor."""

    def sums(self, batch: Batch, residuals: Array) -> Sums:
        """Sums of one batch, given its residuals of shape (n_rows, n_outputs)."""

    def tensor(self, sums: Any) -> Array:
        """Tensor of the merged sums, shape (n_outputs, n_directions, .., n_directions)."""


@dataclass(frozen=True)
class MomentEstimate(Brief):
    """Estimate of a first moment of order l.

    Attributes
    ----------
    tensor : ndarray of shape (n_outputs, n_directions, .., n_directions)
        Estimate of l! c_l sum_i A2_i (x) a~_i^(x)l.
    noise : ndarray of shape (n_outputs,) or None
        Standard deviation of the residuals of the regression behind the moment; None where there
        is no regression, and the outputs themselves are the noise.
    residual : ResidualMoment or None
        For rounds; None takes that of `PlainRegression` on the same rows.
    """

    tensor: Array
    noise: Array | None
    residual: ResidualMoment | None


class BoundMoment(Protocol):
    """A first moment on given inputs."""

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the tensor."""

    def sums(self, batch: Batch, output_mean: Array) -> Sums:
        """Sums of one batch: a pure function.

        The mean of the outputs, shape (n_outputs,), may be estimated from part of the data.
        """

    def estimate(self, sums: Any) -> MomentEstimate:
        """Estimate from the merged sums."""


class FirstMomentEstimator(Protocol):
    """What a fit needs to know of a first moment. Derive from it to get the defaults.

    Attributes
    ----------
    name : str
        For the report.
    uses_scores : bool, default False
        Whether it needs the law of the inputs.
    regression : bool, default True
        Whether it comes from a regression: its Gram matrix takes n_features^2 numbers, and part of
        the rows is enough. Otherwise it is an average of products over all rows.
    hermite : bool, default True
        Whether the score tensors of that law have to be Hermite tensors.
    """

    name: str
    uses_scores: bool = False
    regression: bool = True
    hermite: bool = True

    def n_features(self, n_directions: int, degree: int) -> int:
        """Numbers that are averaged for each output; cost and rows are planned from them."""

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundMoment:
        """Moment of order `degree` on inputs with this whitening and law."""

    def suited_to(self, n_interior: int, n_features: int) -> FirstMomentEstimator:
        """Itself, or another estimator if so few steps have all of their neighbours."""
        return self

    def without_scores(self) -> FirstMomentEstimator | None:
        """Estimator to use where there is no input law; None if there is no other."""
        return None if self.uses_scores else self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True)
class _BoundRegression:
    features: RegressionFeatures
    coordinates: Coordinates

    def sums(self, batch: Batch, output_mean: Array) -> RegressionSums:
        centred = batch.targets - like(batch.targets, output_mean)
        return regression_sums(batch, self.features, targets=lambda _: centred)

    def estimate(self, sums: RegressionSums) -> MomentEstimate:
        solver = RegressionSolver.from_sums(self.features, sums)
        noise = np.sqrt(solver.residual_variance(sums))
        # scores of residuals would bring their noise into every round
        residual = solver if self.features.chain is None else None
        return MomentEstimate(solver.tensor(sums), noise, residual)


class PlainRegression(FirstMomentEstimator):
    """``xreg``: regression on the monomials of the whitened inputs (see `RegressionFeatures`)."""

    name = "xreg"

    def n_features(self, n_directions: int, degree: int) -> int:
        """Monomials of degrees 1 to l, a constant, and indicators of first and last steps."""
        return 3 + _n_powers(n_directions, degree)

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundMoment:
        """Regression that needs no law."""
        features = RegressionFeatures(whitening, degree)
        return _BoundRegression(features, Coordinates.of_whitening(whitening))


class UnionRegression(FirstMomentEstimator):
    """``union``: regression on the monomials of inputs and scores (see `RegressionFeatures`)."""

    name = "union"
    uses_scores = True

    def n_features(self, n_directions: int, degree: int) -> int:
        """Twice the monomials of degrees 1 to l, and a constant."""
        return 1 + 2 * _n_powers(n_directions, degree)

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundMoment:
        """Regression on the scores of a Hermite law."""
        features = RegressionFeatures(whitening, degree, _hermite(law, 1, self.name))
        return _BoundRegression(features, Coordinates.of_whitening(whitening))

    def suited_to(self, n_interior: int, n_features: int) -> FirstMomentEstimator:
        """Plain regression for less than `UNION_ROWS` interior steps for each feature."""
        return self if n_interior >= UNION_ROWS * n_features else PlainRegression()

    def without_scores(self) -> FirstMomentEstimator:
        """Plain regression."""
        return PlainRegression()


@dataclass(frozen=True)
class ScoreResidual:
    """Score moment of residuals."""

    coordinates: Coordinates
    law: HermiteLaw
    degree: int
    prepared: ClassVar[bool] = False

    def sums(self, batch: Batch, residuals: Array) -> CrossMoment:
        """Sums of residuals times score tensors."""
        projection = self.coordinates.from_inputs
        return cross_moment_sums(
            batch, self.law, self.degree, projection=projection, targets=lambda _: residuals
        )

    def tensor(self, sums: CrossMoment) -> Array:
        """Moment tensor."""
        return sums.finalize()


@dataclass(frozen=True)
class _BoundScore:
    residual: ScoreResidual
    coordinates: Coordinates

    def sums(self, batch: Batch, output_mean: Array) -> CrossMoment:
        # `CrossMoment` centres the outputs itself
        return self.residual.sums(batch, batch.targets)

    def estimate(self, sums: CrossMoment) -> MomentEstimate:
        return MomentEstimate(sums.finalize(), None, self.residual)


class ScoreMoment(FirstMomentEstimator):
    """``score``: the paper's E[y (x) S_l]."""

    name = "score"
    uses_scores = True
    regression = False
    hermite = False

    def n_features(self, n_directions: int, degree: int) -> int:
        """Different entries of the score tensors of orders l, l - 2, .."""
        return sum(n_monomials(n_directions, m) for m in range(degree, -1, -2))

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundMoment:
        """Moment with the scores of a law, in coordinates that make its noise (nearly) white."""
        if law is None:
            raise ValueError("moment='score' needs an input law, and there is none")
        found = require(law, order=degree, tensors=True, purpose="moment='score'")
        known = with_metric(found, whitening.inverse @ whitening.inverse.T)
        coordinates = score_coordinates(known.precision_blocks(0)[0])
        return _BoundScore(ScoreResidual(coordinates, known, degree), coordinates)


FIRST_MOMENTS: dict[str, FirstMomentEstimator] = {
    each.name: each for each in (PlainRegression(), UnionRegression(), ScoreMoment())
}
"""First moments by name."""


def _n_powers(n_directions: int, degree: int) -> int:
    return sum(n_monomials(n_directions, m) for m in range(1, degree + 1))


def _hermite(law: InputLaw | None, order: int, purpose: str) -> HermiteLaw:
    if law is None:
        raise ValueError(f"{purpose} needs an input law, and there is none")
    return require(law, order=order, hermite=True, purpose=purpose)
