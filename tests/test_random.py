"""Random states of every kind, wherever one is taken."""

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.planted import planted

from gloree import GaussianVAR, SpectralRNNClassifier, SpectralRNNRegressor, datasets
from gloree._random import as_generator
from gloree.decomposition import choose_rank, decompose, tensor_power_iteration
from gloree.models import IORNN

KINDS = {
    "none": lambda: None,
    "int": lambda: 3,
    "numpy integer": lambda: np.int8(3),
    "seed sequence": lambda: np.random.SeedSequence(3),
    "generator": lambda: np.random.default_rng(3),
    "generator that cannot spawn": lambda: np.random.Generator(np.random.MT19937(3)),
    "random state": lambda: np.random.RandomState(3),
}
LAW = GaussianVAR(0.5 * np.eye(2), np.eye(2))
TENSOR = planted(4, 2, 3, noise=0.05, signs=False).tensor
X, Y, _, _ = datasets.make_rnn(60, 8, 3, 2, 3, random_state=0)

USES = {
    "generator": lambda state: as_generator(state).standard_normal(3),
    "make_rnn": lambda state: datasets.make_rnn(2, 3, 3, 2, 2, random_state=state)[0],
    "sample": lambda state: LAW.sample(2, 3, random_state=state),
    "simulate": lambda state: IORNN([[1.0]], [[0.1]], [[1.0]]).simulate(
        np.ones((3, 1)), noise=0.5, random_state=state
    ),
    "decompose": lambda state: decompose(TENSOR, 2, random_state=state).components,
    "power": lambda state: tensor_power_iteration(TENSOR, 2, random_state=state).components,
    "choose_rank": lambda state: choose_rank(TENSOR, TENSOR, random_state=state).singular_values,
    "regressor": lambda state: (
        SpectralRNNRegressor(2, random_state=state, engine="serial").fit(X, Y).predict(X)
    ),
    "classifier": lambda state: (
        SpectralRNNClassifier(2, random_state=state, engine="serial")
        .fit(X, Y.argmax(axis=2))
        .predict(X)
    ),
}


FITS = ("regressor", "classifier")
PAIRS = [
    (use, kind)
    for use in USES
    for kind in KINDS
    if use not in FITS or kind in ("seed sequence", "random state")
]


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(("use", "kind"), first_of(PAIRS, 14, several=True))
def test_every_kind_is_taken_and_repeats_itself(use, kind):
    first, second = (USES[use](KINDS[kind]()) for _ in range(2))
    if kind != "none":
        np.testing.assert_array_equal(first, second)
    assert np.shape(first) == np.shape(second)


@pytest.mark.parametrize("kind", ["generator", "random state", "generator that cannot spawn"])
def test_what_holds_a_state_moves_on(kind):
    state = KINDS[kind]()
    first, second = (as_generator(state).standard_normal(3) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("state", [-1, 1.5, True, "a", [1]])
def test_other_values_are_refused_by_name(state):
    with pytest.raises(TypeError, match="`random_state` must be None, an integer of at least 0"):
        as_generator(state)
