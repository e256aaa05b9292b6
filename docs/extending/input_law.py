"""An input law: independent Gaussian steps whose mean and variances are known."""

from dataclasses import dataclass, replace

import numpy as np

from gloree import SpectralRNNRegressor, datasets
from gloree.chains import Capabilities
from gloree.metrics import weight_errors
from gloree.sequences import as_sequences


@dataclass(frozen=True)
class WhiteNoise:
    """x_t = mean + noise, with independent components of the given variances."""

    mean: np.ndarray
    variances: np.ndarray

    context = (0, 0)  # the score of a step depends on no other step
    n_boundary_types = 1  # first and last steps are like all others
    capabilities = Capabilities(max_score_order=None, hermite=True, edges=True)

    @property
    def n_inputs(self):
        return self.mean.shape[0]

    def scores(self, batch):
        return (batch.X - self.mean) / self.variances

    def precision_blocks(self, lag=0):
        covariance = np.diag(1 / self.variances) if lag == 0 else np.zeros((self.n_inputs,) * 2)
        return covariance[np.newaxis]

    def boundary_types(self, batch):
        return np.zeros(batch.n_rows, dtype=np.int64)

    def boundary_name(self, boundary_type):
        return "any step"

    def shifted(self, offset):
        return replace(self, mean=self.mean - offset)

    def sample(self, n_sequences, n_steps, random_state=None):
        noise = np.random.default_rng(random_state).standard_normal(
            (n_sequences, n_steps, self.n_inputs)
        )
        return self.mean + np.sqrt(self.variances) * noise

    def log_density(self, X, *, lengths=None):
        data = as_sequences(X, lengths=lengths)
        squares = (data.X - self.mean) ** 2 / self.variances
        rows = -0.5 * (squares + np.log(2 * np.pi * self.variances)).sum(axis=1)
        return np.add.reduceat(rows, np.cumsum(data.lengths) - data.lengths)


# A fit by the score moment of the paper: this law in place of the one that is fitted otherwise.
law = WhiteNoise(mean=np.array([0.0, 1.0, -1.0, 0.0, 2.0]), variances=np.array([1, 2, 1, 0.5, 1]))
truth = datasets.random_rnn(5, 3, 3, random_state=0)
X = law.sample(4000, 10, random_state=1)
Y = truth.simulate(X, noise=0.1, random_state=2)

est = SpectralRNNRegressor(3, chain=law, moment="score", recurrence="cross", random_state=0)
est.fit(X, Y)

assert est.chain_ is law
assert est.report_.moment == "score"
assert est.report_.recurrence == "cross"
assert max(weight_errors(est.model_, truth).values()) < 0.02
