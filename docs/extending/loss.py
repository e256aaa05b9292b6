"""A loss: Huber's, which outlying outputs hardly move."""

from dataclasses import dataclass

import numpy as np

from gloree import SpectralRNNRegressor, datasets
from gloree.refinement import LBFGS, Loss


@dataclass(frozen=True)
class Huber(Loss):
    """r^2 / 2 for residuals |r| below `limit`, and linear beyond."""

    limit: float

    name = "Huber loss"

    def rows(self, outputs, targets):
        residuals = targets - outputs
        signal = np.clip(residuals, -self.limit, self.limit)
        return signal * (residuals - signal / 2), signal


# One output in a hundred is off by far more than the noise.
X, observed, truth, _ = datasets.make_rnn(1000, 10, 5, 3, 3, noise=0.1, random_state=0)
rng = np.random.default_rng(1)
Y = observed + 5 * rng.standard_normal(observed.shape) * (rng.random(observed.shape) < 0.01)


def error(**options):
    """Root mean square of what predictions are off by, noise and outlying outputs apart."""
    est = SpectralRNNRegressor(3, random_state=0, **options).fit(X, Y)
    return np.sqrt(np.mean((est.predict(X) - truth.predict(X)) ** 2))


robust = error(loss=Huber(limit=0.2), refine=LBFGS())
assert robust < error(loss="squared error", refine="full") / 2
