"""Simulated data with their truth, input laws, and the CSV reader."""

from __future__ import annotations

import numpy as np
import pytest

from gloree import datasets
from gloree.models import ExplosionError

# rounding of a mean and a standard deviation over a few thousand numbers
ALGEBRA_TOLERANCE = 1e-12
# a stationary covariance solves a linear system, of condition 1 / (1 - .95^2) here
STATIONARY = 1e-10
# the mean fourth power of 80,000 normal numbers has a standard error of .035, and a little more
# where steps are correlated: four of them
FOURTH_MOMENT = 0.15
# 40,000 correlated steps of variance 1: standard error below 0.02; five of them
STATISTICS_TOLERANCE = 0.1


def test_make_rnn_has_the_shapes_and_the_truth_it_says():
    X, Y, truth, chain = datasets.make_rnn(7, 5, 4, 3, 2, random_state=0)
    assert X.shape == (7, 5, 4) and Y.shape == (7, 5, 2)
    assert (truth.n_inputs, truth.n_hidden, truth.n_outputs) == (4, 3, 2)
    assert truth == truth.canonical()
    assert (chain.n_inputs, chain.order) == (4, 1)
    assert np.linalg.norm(truth.recurrent_weights, 2) == pytest.approx(0.1)
    np.testing.assert_allclose(np.linalg.norm(truth.input_weights, axis=1), 1.0)


def test_without_noise_outputs_are_those_of_the_truth():
    X, Y, truth, _ = datasets.make_rnn(7, 5, 4, 3, 2, noise=0.0, random_state=0)
    np.testing.assert_array_equal(Y, truth.predict(X))


def test_noise_has_the_standard_deviation_asked_for():
    X, Y, truth, _ = datasets.make_rnn(400, 50, 4, 3, 2, noise=0.25, random_state=0)
    residual = Y - truth.predict(X)
    assert residual.std() == pytest.approx(0.25, rel=5 / np.sqrt(2 * residual.size))


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_the_degree_is_that_of_the_activation(degree):
    _, _, truth, _ = datasets.make_rnn(
        3, 4, 3, 2, 2, degree=degree, recurrence_norm=0.001, random_state=0
    )
    z = np.array([-2.0, 0.5, 3.0])
    np.testing.assert_allclose(truth.activation(z), z**degree)


def test_the_same_seed_gives_the_same_data_and_another_seed_others():
    first, second, other = (datasets.make_rnn(3, 4, 5, 2, 2, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert first[2] == second[2]
    assert not np.array_equal(first[0], other[0])
    generated = datasets.make_rnn(3, 4, 5, 2, 2, random_state=np.random.default_rng(0))
    np.testing.assert_array_equal(first[0], generated[0])


def test_no_global_random_state_is_used():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    datasets.make_rnn(3, 4, 5, 2, 2, random_state=0)
    datasets.make_inputs("tokens", 3, 4, 5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_chains_are_stationary_with_unit_variances():
    for memory in (0.0, 0.5, 0.95):
        chain = datasets.make_chain(6, memory=memory, random_state=3)
        assert chain.spectral_radius == pytest.approx(memory, abs=ALGEBRA_TOLERANCE)
        variances = np.diag(chain.stationary_covariance)
        np.testing.assert_allclose(variances, 1.0, atol=STATIONARY)


def test_simulated_inputs_follow_the_chain():
    X, _, _, chain = datasets.make_rnn(4000, 10, 4, 2, 2, random_state=0)
    rows = X.reshape(-1, 4)
    np.testing.assert_allclose(
        rows.T @ rows / len(rows), chain.stationary_covariance, atol=STATISTICS_TOLERANCE
    )
    lagged = X[:, 1:].reshape(-1, 4).T @ X[:, :-1].reshape(-1, 4) / (4000 * 9)
    np.testing.assert_allclose(
        lagged, chain.coefficients[0] @ chain.stationary_covariance, atol=STATISTICS_TOLERANCE
    )


@pytest.mark.parametrize(
    "name", ["n_sequences", "n_steps", "n_inputs", "n_hidden", "n_outputs", "degree"]
)
def test_sizes_below_one_are_refused_by_name(name):
    sizes = {"n_sequences": 2, "n_steps": 2, "n_inputs": 2, "n_hidden": 2, "n_outputs": 2}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        datasets.make_rnn(**{**sizes, name: 0})


def test_a_strong_recurrence_explodes_and_says_where():
    with pytest.raises(ExplosionError, match=r"sequence \d+ .* at step \d+"):
        datasets.make_rnn(50, 50, 4, 4, 2, recurrence_norm=3.0, random_state=0)


# -------------------------------------------------------------------------------- input laws


@pytest.mark.parametrize("law", datasets.INPUT_LAWS)
def test_inputs_have_mean_zero_and_variance_one(law):
    X = datasets.make_inputs(law, 200, 20, 4, random_state=0)
    assert X.shape == (200, 20, 4) and X.flags.c_contiguous
    assert np.all(np.isfinite(X))
    np.testing.assert_allclose(X.mean(axis=(0, 1)), 0.0, atol=ALGEBRA_TOLERANCE)
    np.testing.assert_allclose(X.std(axis=(0, 1)), 1.0, atol=ALGEBRA_TOLERANCE)
    np.testing.assert_array_equal(X, datasets.make_inputs(law, 200, 20, 4, random_state=0))


def kurtosis(X):
    return float(np.mean(X**4))


def test_laws_have_the_shape_they_are_named_for():
    inputs = {
        law: datasets.make_inputs(law, 1000, 20, 4, random_state=0) for law in datasets.INPUT_LAWS
    }
    assert kurtosis(inputs["gaussian"]) == pytest.approx(3.0, abs=FOURTH_MOMENT)
    assert kurtosis(inputs["var2"]) == pytest.approx(3.0, abs=FOURTH_MOMENT)
    for heavy in ("laplace", "t5", "switching", "exponential"):
        assert kurtosis(inputs[heavy]) > 3.3
    assert kurtosis(inputs["uniform"]) < 2.8
    assert np.mean(inputs["exponential"] ** 3) > 0.5
    assert len(np.unique(inputs["tokens"].reshape(-1, 4), axis=0)) <= 200


@pytest.mark.parametrize("law", ["laplace", "t5", "uniform", "exponential"])
def test_steps_remember_their_past(law):
    X = datasets.make_inputs(law, 1000, 20, 3, random_state=0)
    lagged = X[:, 1:].reshape(-1, 3).T @ X[:, :-1].reshape(-1, 3) / (1000 * 19)
    # the autoregression is half a rotation: all singular values about 0.5
    np.testing.assert_allclose(np.linalg.svd(lagged)[1], 0.5, atol=STATISTICS_TOLERANCE)


def test_an_unknown_law_is_refused():
    with pytest.raises(ValueError, match=r"`law` must be one of gaussian, .*, got 'cauchy'"):
        datasets.make_inputs("cauchy", 2, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.make_rnn(2.5, 3, 2, 1, 1), "`n_sequences` must be an integer, got 2.5"),
        (lambda: datasets.make_rnn(2, 3, 2, 1, None), "`n_outputs` must be an integer"),
        (lambda: datasets.make_rnn(2, 3, 2, 0, 1), "`n_hidden` must be at least 1"),
        (lambda: datasets.make_rnn(2, 3, 2, 1, 1, degree=2.0), "`degree` must be an integer"),
        (lambda: datasets.make_rnn(2, 3, 2, 1, 1, recurrence_norm=-0.1), "`recurrence_norm`"),
        (lambda: datasets.make_rnn(2, 3, 2, 1, 1, bidirectional="no"), "`bidirectional`"),
        (lambda: datasets.make_inputs("gaussian", 2, 3.0, 1), "`n_steps` must be an integer"),
        (lambda: datasets.make_inputs("gaussian", 1, 1, 1), "a single row has no variance"),
        (lambda: datasets.make_chain("2"), "`n_inputs` must be an integer"),
        (lambda: datasets.make_chain(2, memory=-0.5), "`memory` must be at least 0"),
        (lambda: datasets.random_rnn(2, -1, 1), "`n_hidden` must be at least 1"),
        (lambda: datasets.random_rnn(2, 1, 1, bias="a"), "`bias` must be a number"),
        (lambda: datasets.random_brnn(2, 1, -1, 1), "`n_backward` must be at least 0"),
    ],
)
def test_sizes_of_simulated_data_are_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
