"""A recurrence estimator: units that feed back to themselves only, so that U is diagonal."""

from dataclasses import replace

import numpy as np

from gloree import SpectralRNNRegressor, datasets
from gloree.metrics import weight_errors
from gloree.recurrence import RecurrenceEstimator, linearised_update


class SelfFeedback(RecurrenceEstimator):
    """Least squares of the prediction error with the diagonal of U in place of all of it."""

    name = "self-feedback"

    def sums(self, seen):
        # normal equations of the unknowns of the units: U_ij has owner i and source j, and the
        # bias b_i has source n_hidden
        sums = seen.linearised(recurrent=seen.free.recurrent, bias=seen.free.unit_bias)
        kept = (sums.source == sums.owner) | (sums.source == seen.model.n_hidden)
        return replace(
            sums,
            owner=sums.owner[kept],
            source=sums.source[kept],
            unit_gram=sums.unit_gram[np.ix_(kept, kept)],
            unit_cross=sums.unit_cross[kept],
            mixed=sums.mixed[kept],
        )

    def update(self, sums, model, free):
        return linearised_update(sums, model, bias=free.bias, ridge=free.ridge)


# Few and noisy data of a network whose units feed back to themselves.
truth = datasets.random_rnn(n_inputs=6, n_hidden=4, n_outputs=4, random_state=0)
truth = truth.replace(recurrent_weights=np.diag([0.1, -0.1, 0.08, 0.12]))
X = np.random.default_rng(1).standard_normal((200, 20, 6))
Y = truth.simulate(X, noise=0.5, random_state=2)


def fit(recurrence):
    # a refinement would free all of U
    est = SpectralRNNRegressor(4, recurrence=recurrence, refine=None, random_state=0).fit(X, Y)
    return est, weight_errors(est.model_, truth)["recurrent_weights"]


usual, usual_error = fit("least-squares")
diagonal, diagonal_error = fit(SelfFeedback())

U = diagonal.model_.recurrent_weights
assert diagonal.report_.recurrence == "self-feedback"
assert not np.any(U - np.diag(np.diag(U)))
assert diagonal_error < 0.7 * usual_error
