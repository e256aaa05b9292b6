"""Which inputs take few values, and when that changes the way of a fit."""

import warnings

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNRegressor
from gloree.datasets import random_rnn
from gloree.fitting._few_values import takes_few_values

RNG = np.random.default_rng(0)
N = 2000
BINARY = RNG.choice((-1.0, 1.0), size=(N, 4))
ONE_HOT = np.eye(5)[RNG.integers(5, size=N)]
THREE = RNG.choice((-1.0, 0.0, 2.0), size=(N, 3))
TOKENS = RNG.standard_normal((40, 5))[RNG.integers(40, size=N)]
NORMAL = RNG.standard_normal((N, 4))


@pytest.mark.parametrize(
    "X, degree, few",
    [
        (BINARY, 2, True),
        (ONE_HOT, 2, True),
        (np.column_stack([NORMAL, BINARY[:, :1]]), 2, True),
        (THREE, 2, False),
        (THREE, 3, True),
        (TOKENS, 3, True),
        (NORMAL, 3, False),
        (np.round(NORMAL, 1), 3, False),
        (np.column_stack([NORMAL, np.ones(N)]), 2, False),
        (NORMAL[:30], 3, False),
    ],
    ids=["binary", "one-hot", "one binary", "three, 2", "three, 3", "tokens", "normal", "rounded",
         "constant", "few rows"],
)  # fmt: skip
def test_values_are_few_where_monomials_are_dependent(X, degree, few):
    assert takes_few_values(X, degree) is few


def simulated(X):
    rng = np.random.default_rng(1)
    X = X.reshape(200, 10, -1)
    A = rng.standard_normal((2, X.shape[2])) / np.sqrt(X.shape[2])
    return X, (X @ A.T) ** 2 @ rng.standard_normal((2, 3)) + 0.1 * rng.standard_normal((200, 10, 3))


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(
    "options, general",
    first_of(
        [
            pytest.param({}, True, marks=pytest.mark.slow),
            ({"moment": "xreg"}, False),
            ({"n_hidden": None}, False),
            ({"refine": None}, False),
        ],
        1,
        several=True,
    ),
    ids=str,
)
def test_what_was_asked_for_by_name_stays(options, general):
    X, Y = simulated(BINARY)
    est = SpectralRNNRegressor(**{"n_hidden": 2, "random_state": 0, **options}).fit(X, Y)
    assert (est.report_.certificate is not None) is general


def test_units_of_tokens_are_not_counted():
    X, Y = simulated(BINARY)
    with pytest.raises(
        ValueError, match="`n_hidden=None` counts units by the moments of the inputs"
    ):
        SpectralRNNRegressor(activation="tanh", random_state=0).fit(X, Y)


@pytest.mark.parametrize(("kind", "warned"), [("binary", True), ("normal", False)])
def test_units_counted_by_a_moment_that_inputs_do_not_define_are_said_to_be(kind, warned):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 4, 3))
    X = np.sign(X) if kind == "binary" else X
    Y = random_rnn(3, 2, 2, random_state=0).simulate(X, noise=0.05, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SpectralRNNRegressor(recurrence=None, random_state=0).fit(X, Y)
    assert any("`n_hidden=None` counts" in str(each.message) for each in caught) == warned


def test_the_advice_for_one_hot_columns_is_to_leave_them_as_they_are():
    X = np.eye(3)[np.random.default_rng(0).integers(0, 3, (100, 5))]
    with pytest.raises(ValueError, match="One-hot columns are fitted as they are where `n_hidden`"):
        SpectralRNNRegressor().fit(X, X @ np.ones((3, 2)) + X[..., :2])
