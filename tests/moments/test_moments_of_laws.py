"""Moments with laws of any kind, and with scores in their place."""

from functools import reduce

import numpy as np
import pytest
from helpers.generators import stable_chain

from gloree import datasets
from gloree.chains import (
    GaussianVAR,
    LawError,
    NonlinearAR,
    ScoreFunction,
    StudentVAR,
    as_law,
    with_metric,
)
from gloree.moments import cross_moment, cross_moment_sums
from gloree.score_functions import partial_score
from gloree.sequences import as_sequences

# Sums of some thousand products of numbers of size 100.
ALGEBRA = 1e-9

STUDENT = StudentVAR(0.5 * np.eye(2), np.eye(2), df=9)


def simulated(law, n_sequences=40, n_steps=6, seed=0):
    X = law.sample(n_sequences, n_steps, random_state=seed)
    return X, np.random.default_rng(seed).standard_normal((n_sequences, n_steps, 3))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moment_is_the_average_of_outputs_and_score_tensors(order):
    X, Y = simulated(STUDENT)
    tensors = partial_score(STUDENT, X, order).reshape(240, -1)
    outputs = Y.reshape(240, 3)
    plain = (outputs.T @ tensors / 240).reshape((3,) + (2,) * order)
    centred = ((outputs - outputs.mean(axis=0)).T @ tensors / 239).reshape(plain.shape)
    options = {"control": False}
    np.testing.assert_allclose(
        cross_moment(STUDENT, X, Y, order, centre=False, **options), plain, atol=ALGEBRA
    )
    np.testing.assert_allclose(cross_moment(STUDENT, X, Y, order, **options), centred, atol=ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_pieces_merge_to_the_whole(order):
    X, Y = simulated(STUDENT)
    law = with_metric(STUDENT, np.eye(2))
    projection = np.array([[1.0, 0.3], [0.2, -1.0]])
    data = as_sequences(X, Y)
    parts = [
        cross_moment_sums(batch, law, order, projection=projection)
        for batch in data.batches(20, segment=2, before=1, after=1)
    ]
    merged = reduce(lambda a, b: a.merge(b), parts).finalize()
    whole = cross_moment_sums(data.whole(), law, order, projection=projection).finalize()
    np.testing.assert_allclose(merged, whole, atol=ALGEBRA)
    contracted = cross_moment(law, X, Y, order, control=False)
    for axis in range(1, order + 1):
        contracted = np.moveaxis(np.tensordot(contracted, projection, (axis, 0)), -1, axis)
    np.testing.assert_allclose(whole * 240 / 239, contracted, atol=ALGEBRA)


def test_slopes_of_a_score_function_are_those_of_the_law_beside_a_step_far_out():
    X = STUDENT.sample(6, 8, random_state=0)
    X[3, 4] = 1e6
    batch, rows = as_sequences(X).whole(), np.arange(48)
    found = ScoreFunction(lambda x: partial_score(STUDENT, x), 2).derivatives(batch, 2)(rows)[1]
    expected = STUDENT.derivatives(batch, 2)(rows)[1]
    # differences of order four in steps of a thousandth, and rounding over such a step
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("context", [(1, 1), (3, 2), (2, 3), (0, 0)])
def test_a_score_function_that_looks_beyond_its_context_is_refused(context):
    law = GaussianVAR(np.stack([0.2 * np.eye(2)] * 3), np.eye(2))
    batch, rows = as_sequences(law.sample(5, 9, random_state=0)).whole(), np.arange(45)

    def score(x):
        return partial_score(law, x)

    with pytest.raises(LawError, match=r"`context` .* moves scores -3 to \+3 steps away"):
        ScoreFunction(score, 2, (0, 0)).derivatives(batch, 2)
    if context != (0, 0):
        with pytest.raises(LawError, match="`context` of the score function"):
            ScoreFunction(score, 2, context).derivatives(batch, 2)
    found = ScoreFunction(score, 2, (3, 3)).derivatives(batch, 2)(rows)
    for mine, values in zip(found, law.derivatives(batch, 2)(rows), strict=True):
        np.testing.assert_allclose(mine, values, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ((0,), ValueError, "size"),
        ((2.0,), TypeError, "size"),
        ((2, (-1, 1)), ValueError, "context"),
        ((2, (1, 0.5)), TypeError, "context"),
        ((2, 1), ValueError, "context"),
    ],
)
def test_numbers_of_a_score_function_are_checked(arguments, error, name):
    with pytest.raises(error, match=f"`{name}`"):
        ScoreFunction(lambda x: x, *arguments)


def test_scores_of_other_data_are_refused():
    X = STUDENT.sample(6, 5, random_state=0)
    law = as_law(X, n_inputs=2, lengths=np.full(6, 5))
    for other in (np.concatenate((X, X)), np.concatenate((X, X), axis=1)):
        with pytest.raises(LawError, match="scores were given for 6 sequences of 30 steps"):
            law.scores(as_sequences(other).whole())
    np.testing.assert_array_equal(law.scores(as_sequences(X).whole()), X.reshape(30, 2))
    for wrong in ([1.0, 2.0, 3.0], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="`scale` has shape"):
            law.scaled(wrong)


def test_a_gaussian_law_that_is_no_hermite_law_has_the_same_moments():
    phi = np.array([[0.5, 0.1], [0.0, 0.4]])
    chain = GaussianVAR(phi, np.eye(2))
    same = NonlinearAR(
        lambda x: x @ phi.T, np.eye(2), initial_covariance=chain.stationary_covariance
    )
    X, Y = simulated(chain)
    for order in (1, 2, 3):
        options = {"centre": False, "control": False}
        np.testing.assert_allclose(
            cross_moment(same, X, Y, order, **options),
            cross_moment(chain, X, Y, order, **options),
            atol=1e-7,
        )


def test_scores_in_the_place_of_the_law_give_its_moments():
    X, Y = simulated(STUDENT)
    own = tuple(partial_score(STUDENT, X, m) for m in (1, 2))
    expected = cross_moment(STUDENT, X, Y, 2)
    np.testing.assert_allclose(cross_moment(own, X, Y, 2), expected, atol=ALGEBRA)
    np.testing.assert_allclose(
        cross_moment(own[0], X, Y, 1), cross_moment(STUDENT, X, Y, 1), atol=ALGEBRA
    )
    found = cross_moment(lambda x: partial_score(STUDENT, x), X, Y, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"asks the input law|score tensors of order 2"):
        cross_moment(own[0], X, Y, 2)


@pytest.mark.parametrize("degree", [2, 3])
def test_the_control_variate_changes_noise_and_not_the_mean(degree):
    """For outputs that are polynomials of this degree the moment is exact, whatever the law."""
    X = STUDENT.sample(300, 5, random_state=0)
    A = np.array([[1.0, 0.5], [-0.3, 0.8]])
    Y = (X @ A.T) ** degree @ np.array([[1.0, 2.0], [0.5, -1.0]])
    powers = A[:, :, None] * A[:, None, :]
    if degree == 3:
        powers = powers[..., None] * A[:, None, None, :]
    T = (2 if degree == 2 else 6) * np.tensordot([[1.0, 0.5], [2.0, -1.0]], powers, (1, 0))
    np.testing.assert_allclose(cross_moment(STUDENT, X, Y, degree), T, atol=1e-8)
    assert np.abs(cross_moment(STUDENT, X, Y, degree, control=False) - T).max() > 0.1
    # Gaussian laws take it when asked
    chain = stable_chain(0, 2)
    np.testing.assert_allclose(cross_moment(chain, X, Y, degree, control=True), T, atol=1e-8)


@pytest.mark.slow
def test_the_true_law_of_a_nonlinear_autoregression_gives_the_first_moment():
    """The cell of the study: error at most .05, where the Gaussian score is biased."""

    def slope(x):
        return 3 * (1 - np.tanh(2 * x)[..., None] ** 2) * np.eye(6)

    def curvature(x):
        t = np.tanh(2 * x)
        return np.einsum("...i,ij,ik->...ijk", -12 * t * (1 - t**2), np.eye(6), np.eye(6))

    law = NonlinearAR(
        lambda x: 1.5 * np.tanh(2 * x),
        np.eye(6),
        derivatives=(slope, curvature),
        initial_covariance=3 * np.eye(6),
    )
    X = law.sample(2000, 100, random_state=0)[:, 50:]
    truth = datasets.random_rnn(6, 6, 3, recurrence_norm=0.1, random_state=0)
    truth = truth.replace(input_weights=truth.input_weights / X.std())
    Y = truth.simulate(X, noise=0.1, random_state=0)
    A1, A2 = truth.input_weights, truth.output_weights
    T = 2 * np.einsum("io,ia,ib->oab", A2, A1, A1)

    def error(M):
        return np.linalg.norm(M - T) / np.linalg.norm(T)

    assert error(cross_moment(law, X, Y, 2)) <= 0.05
    assert error(cross_moment(GaussianVAR.fit(X), X, Y, 2)) > 0.2
