"""A first moment: principal Hessian directions, the covariance of the inputs weighted by y."""

from dataclasses import dataclass

import numpy as np

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Sums
from gloree.metrics import weight_errors
from gloree.moments import Coordinates, FirstMomentEstimator, MomentEstimate


@dataclass(frozen=True)
class WeightedCovariance(Sums):
    """What a pass adds up; `Sums` knows how to merge the sums of two batches."""

    n_rows: float
    products: np.ndarray  # sum of y (x) (x x^T - 1), of shape (n_outputs, n_inputs, n_inputs)


class PrincipalHessian(FirstMomentEstimator):
    """T = E[(y - E y) (x) (x x^T - 1)] of whitened inputs x (Li, 1992)."""

    name = "principal Hessian directions"
    regression = False  # an average of products, no least-squares fit

    def n_features(self, n_directions, degree):
        return n_directions * (n_directions + 1) // 2

    def bind(self, degree, whitening, law):
        if degree != 2:
            raise ValueError(f"{self.name} are for activations of degree 2, not {degree}")
        return OnInputs(whitening)


@dataclass(frozen=True)
class OnInputs:
    """The same moment once the mean and the covariance of the inputs are known."""

    whitening: object

    @property
    def coordinates(self):
        return Coordinates.of_whitening(self.whitening)

    def sums(self, batch, output_mean):
        x = self.whitening(batch.X)[batch.counted]
        y = (batch.targets - output_mean)[batch.counted]
        products = np.einsum("ta,ti,tj->aij", y, x, x, optimize=True)
        identity = y.sum(axis=0)[:, None, None] * np.eye(x.shape[1])
        return WeightedCovariance(float(x.shape[0]), products - identity)

    def estimate(self, sums):
        return MomentEstimate(sums.products / sums.n_rows, noise=None, residual=None)


# Independent Gaussian inputs, for which this moment is unbiased.
truth = datasets.random_rnn(n_inputs=8, n_hidden=3, n_outputs=4, random_state=0)
X = np.random.default_rng(1).standard_normal((3000, 10, 8))
Y = truth.simulate(X, noise=0.1, random_state=2)

est = SpectralRNNRegressor(3, moment=PrincipalHessian(), random_state=0).fit(X, Y)
assert est.report_.moment == "principal Hessian directions"
assert max(weight_errors(est.model_, truth).values()) < 0.02

# Without rounds and refinement, A1 is what the moment alone gives.
est.set_params(max_rounds=0, refine=None).fit(X, Y)
assert weight_errors(est.model_, truth)["input_weights"] < 0.05
