"""How many steps a switching law looks back, where transitions are rare."""

import warnings

import numpy as np
import pytest

from gloree.chains import SwitchingVAR
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


def test_the_memory_is_that_of_the_contraction():
    """Of ratios 16 : 1 on either side: the diameter is log 256, and tanh(log(256) / 4) is 15/17."""
    law = SwitchingVAR(PHI, SIGMA, [[16 / 17, 1 / 17], [1 / 17, 16 / 17]])
    steps = np.ceil(16 * np.log(10) / np.log(17 / 15)) + 1
    assert law.context == (steps, steps)
