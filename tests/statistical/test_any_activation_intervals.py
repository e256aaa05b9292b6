"""Standard errors of fits with other activations: intervals hold the truth as often as they say."""

import numpy as np
import pytest

from gloree import IORNN, SpectralRNNRegressor
from gloree.metrics import align

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_two_standard_errors_hold_nineteen_of_twenty_weights(activation):
    inside = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, U = rng.standard_normal((3, 5)), rng.standard_normal((3, 3))
        truth = IORNN(
            A / np.linalg.norm(A, axis=1, keepdims=True),
            0.6 * U / np.linalg.norm(U, 2),
            rng.standard_normal((3, 4)),
            hidden_bias=0.5 * rng.standard_normal(3),
            activation=activation,
        )
        X = rng.standard_normal((1000, 8, 5))
        Y = truth.simulate(X, noise=0.15, random_state=rng)
        est = SpectralRNNRegressor(3, activation=activation, random_state=0).fit(X, Y)
        expected = align(truth, est.model_).model
        for name, errors in est.report_.standard_errors.items():
            off = np.abs(getattr(est.model_, name) - getattr(expected, name))
            inside += list((off < 1.96 * errors).ravel())
    # some 500 weights in 12 fits, correlated within a fit: four standard errors of 200 are 0.06
    assert abs(np.mean(inside) - 0.95) < 0.06
