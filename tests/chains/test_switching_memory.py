"""How many steps a switching law looks back, where transitions are rare."""

import warnings

import numpy as np
import pytest

from gloree.chains import GaussianVAR, SwitchingVAR
from gloree.chains._messages import _of_logarithms, _of_probabilities
from gloree.sequences import as_sequences

PHI, SIGMA = [[[0.5]], [[0.2]]], [[[1.0]], [[4.0]]]


@pytest.mark.parametrize("rare", [1e-18, 1e-20, 1e-40, 1e-300, 0.0])
def test_rare_transitions_have_the_longest_memory_there_is(rare):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        law = SwitchingVAR(PHI, SIGMA, [[1 - rare, rare], [rare, 1 - rare]])
        assert law.context == (2000, 2000)
    X = np.random.default_rng(0).standard_normal((3, 5, 1))
    never = SwitchingVAR(PHI, SIGMA, np.eye(2))
    batch = as_sequences(X).whole()
    np.testing.assert_allclose(law.scores(batch), never.scores(batch), atol=1e-9)


@pytest.mark.parametrize("n_steps", [20, 300])
@pytest.mark.parametrize("late", [False, True])
def test_regimes_that_are_never_left_mix_whole_sequences(n_steps, late):
    """What is improbable by 1e-300 for some steps may be certain at the end."""
    coefficients, covariances = [[[0.5]], [[-0.5]]], [[[1.0]], [[1e-3]]]
    law = SwitchingVAR(coefficients, covariances, np.eye(2))
    parts = [GaussianVAR(*each) for each in zip(coefficients, covariances, strict=True)]
    X = np.concatenate([part.sample(1, n_steps, i)[0] for i, part in enumerate(parts)])
    X = X[::-1].copy() if late else X
    alone = np.array([part.log_density(X)[0] for part in parts])
    expected = np.logaddexp.reduce(alone - np.log(2))
    np.testing.assert_allclose(law.log_density(X), expected, rtol=1e-12)
    shares = np.exp(alone - np.log(2) - expected)
    np.testing.assert_allclose(law.regime_posterior(X), np.tile(shares, (len(X), 1)), atol=1e-12)
    batch = as_sequences(X).whole()
    scores = sum(w * part.scores(batch) for w, part in zip(shares, parts, strict=True))
    np.testing.assert_allclose(law.scores(batch), scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [[7, 4, 1, 6]])
def test_logarithms_and_probabilities_give_the_same_messages(lengths):
    X = np.random.default_rng(0).standard_normal((sum(lengths), 1))
    transition = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    law = SwitchingVAR([[[0.5]], [[0.2]], [[0.0]]], [[[1.0]], [[4.0]], [[2.0]]], transition)
    batch = as_sequences(X, lengths=lengths).whole()
    relative = batch.packing.pack(law._log_emissions(X, batch))
    relative -= relative.max(axis=1, keepdims=True)
    given = relative, batch.packing, law.regime_probabilities, transition
    for mine, other in zip(_of_logarithms(*given), _of_probabilities(*given), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_the_memory_is_that_of_the_contraction():
    """Of ratios 16 : 1 on either side: the diameter is log 256, and tanh(log(256) / 4) is 15/17."""
    law = SwitchingVAR(PHI, SIGMA, [[16 / 17, 1 / 17], [1 / 17, 16 / 17]])
    steps = np.ceil(16 * np.log(10) / np.log(17 / 15)) + 1
    assert law.context == (steps, steps)
