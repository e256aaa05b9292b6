"""Inputs of any law: the fit is as good as least squares where the Gaussian score fails."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.estimates import regressor, smallest_loss
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import ScoreWarning

# squared error above that of the least-squares estimate: the published criterion
LOSS_TOLERANCE = 1e-3
NOT_GAUSSIAN = ("laplace", "t5", "exponential", "switching", "tanh", "tokens")


def simulate(law, n_sequences=1000, n_steps=10):
    truth = datasets.random_rnn(6, 3, 3, random_state=1)
    X = datasets.make_inputs(law, n_sequences, n_steps, 6, random_state=0)
    return X, truth.simulate(X, noise=0.1, random_state=0), truth


def fit(X, Y, **options):
    est = regressor(**options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est.fit(X, Y)
    return est, [each.category for each in caught]


@pytest.mark.parametrize("law", first_of(datasets.INPUT_LAWS, 3))
def test_the_fit_reaches_least_squares_whatever_the_law(law):
    X, Y, truth = simulate(law)
    est, caught = fit(X, Y)
    assert not caught
    loss = float(np.sum(est.report_.refined_rmse**2))
    assert loss < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth)


@pytest.mark.parametrize("law", datasets.INPUT_LAWS)
def test_the_recurrence_switches_to_least_squares_where_the_score_is_wrong(law):
    X, Y, _ = simulate(law, n_sequences=500)
    est, _ = fit(X, Y, max_rounds=0, refine=None)
    defect = est.report_.score_check.defect
    if law in NOT_GAUSSIAN:
        assert defect > 0.3
        assert est.report_.recurrence == "least-squares"
    elif law != "uniform":
        assert defect < 0.3
        assert est.report_.recurrence == "instrument"


@pytest.mark.parametrize("law", first_of(["gaussian", "var2", "laplace", "exponential", "tokens"]))
def test_asking_for_the_score_where_it_is_wrong_brings_a_warning(law):
    X, Y, _ = simulate(law, n_sequences=300)
    est, caught = fit(X, Y, moment="score")
    assert (ScoreWarning in caught) == (law in NOT_GAUSSIAN)
    assert est.report_.moment == "score"
    for recurrence in ("cross", "score") if law in ("gaussian", "laplace") else ():
        est, caught = fit(X, Y, recurrence=recurrence, max_rounds=1)
        assert (ScoreWarning in caught) == (law in NOT_GAUSSIAN)
        assert est.report_.recurrence == recurrence


@pytest.mark.slow
def test_the_warning_says_what_to_use_instead():
    X, Y, _ = simulate("laplace", n_sequences=300)
    est = SpectralRNNRegressor(3, moment="score", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X, Y)
    (message,) = (text for text in est.report_.warnings if "Stein" in text)
    assert "fails Stein's identity" in message
    assert "use moment='regression'" in message
    assert message in str(est.report_)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "n_steps"),
    first_of(
        [
            ({}, 20_000),
            ({"refine": None, "max_rounds": 0}, 60_000),
            ({"moment": "score"}, 60_000),
            ({"recurrence": "cross"}, 60_000),
        ],
        2,
        several=True,
    ),
)
def test_the_score_is_checked_on_more_steps_where_estimates_rest_on_it(options, n_steps):
    X, Y, _ = simulate("gaussian", n_sequences=8000)
    est, _ = fit(X, Y, **options)
    assert est.report_.score_check.n_steps == n_steps


@pytest.mark.slow
def test_score_moments_see_inputs_whose_single_steps_alone_are_gaussian():
    """x_t = .95 r_t x_{t-1} + e_t with random signs r: each step is N(0, 1), no chain is."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 20, 3))
    for t in range(1, 20):
        signs = rng.choice((-1.0, 1.0), size=(2000, 1))
        X[:, t] = 0.95 * signs * X[:, t - 1] + np.sqrt(1 - 0.95**2) * X[:, t]
    truth = datasets.make_rnn(2, 2, 3, 2, 2, random_state=0)[2]
    Y = truth.simulate(X, noise=0.1, random_state=rng)
    est = SpectralRNNRegressor(2, moment="score", random_state=0)
    with pytest.warns(ScoreWarning, match=r"fails Stein's identity .* with the steps beside"):
        est.fit(X, Y)
