"""First moments as objects: the features or scores that are averaged, and what follows from them.

A `FirstMomentEstimator` is a choice, made from a name or given as an object. Bound to the inputs of
a fit it becomes a `BoundMoment`: a pass (batch to sums), and what the merged sums tell. Rounds take
moments of residuals in the same coordinates, by a `ResidualMoment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from gloree._arrays import like
from gloree._monomials import n_monomials
from gloree._sums import Sums
from gloree.chains import HermiteLaw, InputLaw, require
from gloree.moments._coordinates import Coordinates, score_coordinates
from gloree.moments._cross import CrossMoment, cross_moment_sums
from gloree.moments._regression import (
    RegressionFeatures,
    RegressionSolver,
    RegressionSums,
    Whitening,
    regression_sums,
)
from gloree.sequences import Array, Batch

UNION_ROWS = 4
"""Interior steps for each feature that a `union` moment needs."""


class ResidualMoment(Protocol):
    """First moment of residuals, for rounds.

    Attributes
    ----------
    prepared : bool
        Whether something of the data was prepared for it (a Gram matrix): rounds then see the same
        rows at least.
    """

    prepared: ClassVar[bool]

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the tensor."""
        ...

    def sums(self, batch: Batch, residuals: Array) -> Sums:
        """Sums of one batch and its residuals, shape (n_rows, n_outputs)."""
        ...

    def tensor(self, sums: Any) -> Array:
        """Tensor of shape (n_outputs, n_directions, ..)."""
        ...


@dataclass(frozen=True)
class MomentEstimate:
    """What the sums of a first moment tell.

    Attributes
    ----------
    tensor : ndarray of shape (n_outputs, n_directions, ..)
        Estimate of l! c_l sum_i A2_i (x) a~_i^(x)l.
    noise : ndarray of shape (n_outputs,) or None
        Standard deviation of what the fit behind the moment leaves of each output; None where
        there is no such fit, and the outputs themselves are the noise.
    residual : ResidualMoment or None
        For rounds; None takes that of `PlainRegression` on the same rows.
    """

    tensor: Array
    noise: Array | None
    residual: ResidualMoment | None


class BoundMoment(Protocol):
    """A first moment on given inputs.

    Attributes
    ----------
    coordinates : Coordinates
        In which the tensor is taken.
    """

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the tensor."""
        ...

    def sums(self, batch: Batch, output_mean: Array) -> Sums:
        """Sums of one batch; a pure function. The outputs have about the mean given."""
        ...

    def estimate(self, sums: Any) -> MomentEstimate:
        """Tensor, noise, and the moment of residuals that rounds may use."""
        ...


class FirstMomentEstimator(Protocol):
    """What a fit asks of a first moment.

    Attributes
    ----------
    name : str
        Stands in the report.
    uses_scores : bool
        Whether it needs the law of the inputs.
    regression : bool
        Whether it comes from a regression, whose Gram matrix has n_features^2 entries, and which a
        part of the rows settles as well; an average of products takes all rows.
    """

    name: str
    uses_scores: bool = False
    regression: bool = True

    def n_features(self, n_directions: int, degree: int) -> int:
        """Numbers that are averaged for each output: they decide cost, and rows needed."""
        ...

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundMoment:
        """Moment of order `degree` on inputs with this whitening and law."""
        ...

    def suited_to(self, n_interior: int, n_features: int) -> FirstMomentEstimator:
        """Itself, or another one where so few steps have all of their neighbours."""
        del n_interior, n_features
        return self

    def without_scores(self) -> FirstMomentEstimator | None:
        """Moment to take where there is no law of the inputs; None where there is no other."""
        return None if self.uses_scores else self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


# ------------------------------------------------------------------------------------- regression


@dataclass(frozen=True)
class RegressionResidual:
    """Regression moments of residuals, on features whose Gram matrix is factored already."""

    coordinates: Coordinates
    solver: RegressionSolver
    prepared: ClassVar[bool] = True

    def sums(self, batch: Batch, residuals: Array) -> RegressionSums:
        """Right-hand side alone."""
        return regression_sums(batch, self.solver.features, targets=lambda _: residuals, gram=False)

    def tensor(self, sums: RegressionSums) -> Array:
        """Average derivative of the fit to the residuals."""
        return self.solver.tensor(sums)


@dataclass(frozen=True)
class BoundRegression:
    """A regression moment on given features."""

    features: RegressionFeatures

    @property
    def coordinates(self) -> Coordinates:
        """Those of the whitening."""
        return Coordinates.of_whitening(self.features.whitening)

    def sums(self, batch: Batch, output_mean: Array) -> RegressionSums:
        """Regression of the centred outputs (see `regression_sums`)."""
        centred = batch.targets - like(batch.targets, output_mean)
        return regression_sums(batch, self.features, targets=lambda _: centred)

    def estimate(self, sums: RegressionSums) -> MomentEstimate:
        """Average derivative of the fit, and what it leaves of the outputs."""
        solver = RegressionSolver.from_sums(self.features, sums)
        # scores of residuals would bring their noise into every round
        plain = self.features.chain is None
        residual = RegressionResidual(self.coordinates, solver) if plain else None
        noise = np.sqrt(solver.residual_variance(sums))
        return MomentEstimate(solver.tensor(sums), noise, residual)


class PlainRegression(FirstMomentEstimator):
    """``xreg``: regression on the monomials of the whitened inputs (see `RegressionFeatures`)."""

    name = "xreg"

    def n_features(self, n_directions: int, degree: int) -> int:
        """Monomials of degrees 1 to l, a constant, and indicators of first and last steps."""
        return 3 + _n_powers(n_directions, degree)

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundRegression:
        """Needs no law."""
        del law
        return BoundRegression(RegressionFeatures(whitening, degree))


class UnionRegression(FirstMomentEstimator):
    """``union``: regression on the monomials of inputs and scores (see `RegressionFeatures`)."""

    name = "union"
    uses_scores = True

    def n_features(self, n_directions: int, degree: int) -> int:
        """Twice the monomials of degrees 1 to l, and a constant."""
        return 1 + 2 * _n_powers(n_directions, degree)

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundRegression:
        """Needs a law with Hermite scores."""
        return BoundRegression(RegressionFeatures(whitening, degree, _hermite(law, 1, self.name)))

    def suited_to(self, n_interior: int, n_features: int) -> FirstMomentEstimator:
        """Plain regression where interior steps are fewer than `UNION_ROWS` for each feature."""
        return self if n_interior >= UNION_ROWS * n_features else PlainRegression()

    def without_scores(self) -> FirstMomentEstimator:
        """Plain regression."""
        return PlainRegression()


# ------------------------------------------------------------------------------------------ score


@dataclass(frozen=True)
class ScoreResidual:
    """Score moments of residuals."""

    coordinates: Coordinates
    law: HermiteLaw
    degree: int
    prepared: ClassVar[bool] = False

    def sums(self, batch: Batch, residuals: Array) -> CrossMoment:
        """See `cross_moment_sums`."""
        projection = self.coordinates.from_inputs
        return cross_moment_sums(
            batch, self.law, self.degree, projection=projection, targets=lambda _: residuals
        )

    def tensor(self, sums: CrossMoment) -> Array:
        """Moment tensor."""
        return sums.finalize()


@dataclass(frozen=True)
class BoundScore:
    """The paper's score moment, in coordinates that make its noise white."""

    coordinates: Coordinates
    law: HermiteLaw
    degree: int

    def sums(self, batch: Batch, output_mean: Array) -> CrossMoment:
        """See `cross_moment_sums`; a `CrossMoment` centres the outputs itself."""
        del output_mean
        projection = self.coordinates.from_inputs
        return cross_moment_sums(batch, self.law, self.degree, projection=projection)

    def estimate(self, sums: CrossMoment) -> MomentEstimate:
        """Moment tensor; the noise is the outputs'."""
        residual = ScoreResidual(self.coordinates, self.law, self.degree)
        return MomentEstimate(sums.finalize(), None, residual)


class ScoreMoment(FirstMomentEstimator):
    """``score``: the paper's E[y (x) S_l]."""

    name = "score"
    uses_scores = True
    regression = False

    def n_features(self, n_directions: int, degree: int) -> int:
        """Different entries of the score tensors of orders l, l - 2, .."""
        return sum(n_monomials(n_directions, m) for m in range(degree, -1, -2))

    def bind(self, degree: int, whitening: Whitening, law: InputLaw | None) -> BoundScore:
        """Needs a law with Hermite scores of order l."""
        del whitening
        known = _hermite(law, degree, "moment='score'")
        coordinates = score_coordinates(known.precision_blocks(0)[0])
        return BoundScore(coordinates, known, degree)


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
