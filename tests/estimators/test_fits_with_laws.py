"""Fits with laws of any kind as `chain`, and with scores in their place."""

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, metrics
from gloree.chains import (
    LawError,
    NonlinearAR,
    ScoreMatching,
    StudentVAR,
    SwitchingVAR,
    with_metric,
)
from gloree.diagnostics import ScoreWarning
from gloree.recurrence import Contraction, pseudo_observations
from gloree.score_functions import partial_score
from gloree.sequences import as_sequences


def slope(x):
    return 1.8 * (1 - np.tanh(1.5 * x)[..., None] ** 2) * np.eye(4)


def curvature(x):
    t = np.tanh(1.5 * x)
    return np.einsum("...i,ij,ik->...ijk", -5.4 * t * (1 - t**2), np.eye(4), np.eye(4))


TANH = NonlinearAR(
    lambda x: 1.2 * np.tanh(1.5 * x),
    0.5 * np.eye(4),
    derivatives=(slope, curvature),
    initial_covariance=1.5 * np.eye(4),
)
STUDENT = StudentVAR(0.5 * np.eye(4), 0.4 * np.eye(4), df=9)
SWITCHING = SwitchingVAR(
    [0.5 * np.eye(4), -0.4 * np.eye(4)],
    [0.6 * np.eye(4), 0.3 * np.eye(4)],
    [[0.9, 0.1], [0.1, 0.9]],
)


def simulated(law, activation="quadratic", n_sequences=600, n_steps=20, seed=0):
    X = law.sample(n_sequences, n_steps, random_state=seed)
    truth = datasets.random_rnn(
        4, 3, 3, recurrence_norm=0.1, activation=activation, random_state=seed
    )
    return X, truth.simulate(X, noise=0.05, random_state=seed), truth


def worst(model, truth):
    return max(metrics.weight_errors(model, truth).values())


@pytest.mark.parametrize("law", first_of([TANH, STUDENT, SWITCHING]), ids=repr)
@pytest.mark.parametrize("moment", ["auto", "score"])
def test_fits_take_any_law(law, moment):
    X, Y, truth = simulated(law)
    fit = SpectralRNNRegressor(3, chain=law, moment=moment, random_state=0).fit(X, Y)
    assert worst(fit.model_, truth) < 0.05
    assert fit.chain_ is law
    assert fit.report_.moment == ("score" if moment == "score" else "xreg")


@pytest.mark.slow
def test_inputs_with_a_mean_and_in_other_units_have_the_law_moved():
    X, Y, truth = simulated(STUDENT)
    scale = np.array([1e5, 1.0, 1e-5, 1.0])
    moved = STUDENT.shifted([0.0, -3.0, 0.0, 2.0]).scaled(scale)
    values = (X - np.array([0.0, -3.0, 0.0, 2.0])) * scale
    fit = SpectralRNNRegressor(3, chain=moved, random_state=0).fit(values, Y)
    plain = SpectralRNNRegressor(3, chain=STUDENT, random_state=0).fit(X, Y)
    np.testing.assert_allclose(fit.predict(values), plain.predict(X), atol=0.02)
    assert worst(plain.model_, truth) < 0.05


@pytest.mark.slow
def test_one_long_record_is_cut_with_the_context_of_the_law():
    X = SWITCHING.sample(1, 12_000, random_state=0)[0]
    truth = datasets.random_rnn(4, 3, 3, recurrence_norm=0.1, random_state=0)
    Y = truth.simulate(X, noise=0.05, random_state=0)
    fit = SpectralRNNRegressor(3, chain=SWITCHING, moment="score", random_state=0).fit(X, Y)
    assert worst(fit.model_, truth) < 0.05


@pytest.mark.slow
def test_scores_serve_in_the_place_of_a_law():
    X, Y, truth = simulated(TANH)
    own = tuple(partial_score(TANH, X, m) for m in (1, 2))
    law, arrays, function, first = (
        SpectralRNNRegressor(3, chain=chain, moment=moment, random_state=0).fit(X, Y)
        for chain, moment in (
            (TANH, "score"),
            (own, "score"),
            (lambda x: partial_score(TANH, x), "score"),
            (own[0], "regression"),
        )
    )
    for other in (law, arrays, function, first):
        assert worst(other.model_, truth) < 0.05
    for other in (arrays, function):
        np.testing.assert_allclose(other.model_.input_weights, law.model_.input_weights, atol=1e-3)


def test_cubic_units_take_tensors_of_order_two_along_directions():
    """Pseudo-observations: Psi^-1 [(B r_t) o S_2(D_i, D_i)] / (3! c), with any metric."""
    X = STUDENT.sample(5, 6, random_state=0)
    truth = datasets.random_rnn(4, 3, 3, activation="cubic", random_state=0)
    law = with_metric(STUDENT, np.cov(X.reshape(-1, 4).T))
    contraction = Contraction.of(truth, law.precision_blocks(0))
    residuals = np.random.default_rng(0).standard_normal((30, 3))
    batch = as_sequences(X, residuals.reshape(5, 6, 3)).whole()
    found = pseudo_observations(batch, truth, law, residuals, contraction)
    D, B = contraction.inputs[0], contraction.outputs
    squares = np.einsum("sab,ia,ib->si", partial_score(STUDENT, X, 2).reshape(30, 4, 4), D, D)
    expected = np.linalg.solve(contraction.overlap[0], ((residuals @ B.T) * squares).T).T / 6
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_labels_take_any_law():
    X, Y, _ = simulated(TANH)
    labels = (Y - Y.mean(axis=(0, 1))).argmax(axis=-1)
    fit = SpectralRNNClassifier(3, chain=TANH, random_state=0).fit(X, labels)
    plain = SpectralRNNClassifier(3, random_state=0).fit(X, labels)
    assert fit.score(X, labels) > plain.score(X, labels) - 0.02


def test_an_estimated_score_serves():
    X, Y, truth = simulated(TANH, n_sequences=1000)
    law = ScoreMatching.fit(X)
    fit = SpectralRNNRegressor(3, chain=law, moment="score", random_state=0).fit(X, Y)
    assert worst(fit.model_, truth) < 0.05


# -- what is refused, and what warns ------------------------------------------------------------


def test_a_law_that_the_inputs_do_not_follow_warns():
    X, Y, truth = simulated(TANH, n_sequences=1500)
    wrong = StudentVAR(np.zeros((4, 4)), 0.02 * np.eye(4), df=9)
    with pytest.warns(ScoreWarning, match="the law given as `chain` .* fails Stein's identity"):
        fit = SpectralRNNRegressor(3, chain=wrong, random_state=0).fit(X, Y)
    assert worst(fit.model_, truth) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recurrence": "cross"}, "recurrence='cross' asks .* Hermite tensors"),
        ({"recurrence": "score"}, "recurrence='score' asks .* Hermite tensors"),
    ],
)
def test_estimators_that_need_hermite_tensors_say_so(options, message):
    X, Y, _ = simulated(TANH, n_sequences=20)
    with pytest.raises(LawError, match=message):
        SpectralRNNRegressor(3, chain=TANH, **options).fit(X, Y)


def test_scores_of_another_shape_are_refused():
    X, Y, _ = simulated(TANH, n_sequences=20)
    with pytest.raises(ValueError, match="`chain` holds scores of order 1 of shape"):
        SpectralRNNRegressor(3, chain=partial_score(TANH, X)[:, 1:]).fit(X, Y)
    with pytest.raises(LawError, match=r"moment='score' asks .* score tensors of order 2"):
        SpectralRNNRegressor(3, chain=partial_score(TANH, X), moment="score").fit(X, Y)
    with pytest.raises(ValueError, match="`chain` has 2 inputs, `X` has 4"):
        SpectralRNNRegressor(3, chain=StudentVAR(0.5 * np.eye(2), np.eye(2), 5)).fit(X, Y)
