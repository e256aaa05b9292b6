"""Fits and data that figures are drawn of."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from helpers.systems import linear_network
from matplotlib import pyplot as plt

from gloree import SpectralRNNRegressor, datasets, decomposition
from gloree.recurrence import Directions
from gloree.score_functions import check_score
from gloree.sequences import as_sequences
from gloree.systems import uncertainty


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def fitted():
    X, Y, truth, _ = datasets.make_rnn(300, 20, 4, 3, 3, random_state=0)
    return X, Y, truth, SpectralRNNRegressor(3, random_state=0).fit(X, Y)


@pytest.fixture(scope="session")
def choice():
    rng = np.random.default_rng(0)
    T = decomposition.cp_tensor(rng.standard_normal((2, 3)), rng.standard_normal((2, 5)), order=2)
    E = 1e-3 * rng.standard_normal((2, *T.shape))
    E = E + E.swapaxes(2, 3)
    return decomposition.choose_rank(T + E[0], T + E[1], random_state=0)


@pytest.fixture(scope="session")
def check():
    X = datasets.make_inputs("gaussian", 200, 20, 3, random_state=0)
    return check_score(X)


@pytest.fixture(scope="session")
def both_ways():
    X, Y, truth, _ = datasets.make_rnn(300, 20, 6, 4, 4, bidirectional=True, random_state=0)
    return X, Y, truth, SpectralRNNRegressor(4, bidirectional=True, random_state=0).fit(X, Y)


@pytest.fixture
def directions():
    return Directions(
        forward=np.array([True, False, True, False, True]),
        margin=np.array([30.0, 4000.0, 700.0, -3.0, 1.0]),
        undetermined=np.array([False, False, False, False, True]),
        past=np.eye(5),
        future=np.eye(5),
        bias_change=np.zeros(5),
    )


@pytest.fixture(scope="session")
def bands():
    """A linear system, its records, and what is known of it."""
    rng = np.random.default_rng(0)
    model = linear_network([0.8 + 0.3j], 2, 1, rng)
    u = rng.standard_normal((400, 2))
    records = as_sequences(u, model.predict(u) + 0.1 * rng.standard_normal((400, 1)))
    return model, records, uncertainty(model, records)
