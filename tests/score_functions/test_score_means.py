"""The mean of a score: zero for the law of the inputs, not for a law about another mean."""

import warnings

import numpy as np
import pytest

from gloree import SpectralRNNRegressor
from gloree.chains import GaussianVAR, LawError, StudentVAR
from gloree.datasets import make_rnn
from gloree.diagnostics import ScoreWarning
from gloree.moments import cross_moment
from gloree.score_functions import check_law, check_score, score_tensors
from gloree.sequences import as_sequences

# Statistics: 20,000 steps give third moments of normal numbers within .05.
THIRD_MOMENTS = 0.1

# Algebra: means of some thousand products near 1.
ALGEBRA = 1e-9

LAWS = {
    "Gaussian": GaussianVAR(0.3 * np.eye(3), np.eye(3)),
    "Student": StudentVAR(0.3 * np.eye(3), np.eye(3), df=30),
}


def moved_inputs(law, by):
    return law.sample(500, 20, random_state=0) + by


@pytest.mark.parametrize("kind", LAWS)
def test_a_law_about_another_mean_fails_and_the_same_about_this_one_does_not(kind):
    law, offset = LAWS[kind], np.array([2.0, -1.0, 0.5])
    X = moved_inputs(law, offset)
    assert check_score(X, chain=law).status == "fails"
    assert check_score(X, chain=law.shifted(-offset)).status == "fine"
    assert check_score(X).status == "fine"


def test_the_moment_of_the_law_that_fails_is_wrong():
    """E[(x - 1)^2 S_2] is 2, and 2 - 4 m with a score of mean m."""
    law = GaussianVAR(np.zeros((0, 1, 1)), np.eye(1))
    X = law.sample(1000, 20, random_state=0)
    for m, verdict in ((0.0, "fine"), (2.0, "fails")):
        chain = law.shifted([m])
        assert check_score(X, chain=chain).status == verdict
        moment = cross_moment(chain, X, (X - 1) ** 2, 2)
        assert moment.item() == pytest.approx(2 - 4 * m, abs=THIRD_MOMENTS * (1 + m))


@pytest.mark.parametrize("n_orders", [1, 2])
def test_arrays_of_scores_with_a_mean_fail(n_orders):
    law = LAWS["Gaussian"]
    X = moved_inputs(law, 0.0)
    batch = as_sequences(X).whole()

    def tensors(chain):
        found = score_tensors(chain, batch, n_orders)(np.arange(batch.n_rows))
        return found if n_orders > 1 else found[0]

    assert check_score(X, chain=tensors(law)).status == "fine"
    assert check_score(X, chain=tensors(law.shifted(np.full(3, 3.0)))).status == "fails"


def test_its_defect_is_the_covariance_of_the_second_score_with_white_inputs():
    """Of independent normal inputs, whose white coordinates they are themselves."""
    rng, m = np.random.default_rng(0), np.array([0.5, -0.3])
    X = rng.standard_normal((1000, 20, 2))
    found = check_score(X, chain=GaussianVAR(np.zeros((0, 2, 2)), np.eye(2), -m)).mean
    x = X.reshape(-1, 2) - X.mean(axis=(0, 1))
    s, (i, j) = X.reshape(-1, 2) + m, np.triu_indices(2)
    second = s[:, i] * s[:, j] - np.eye(2)[i, j]
    naive = np.linalg.norm((second - second.mean(axis=0)).T @ x / len(x))
    assert found.defect == pytest.approx(naive / np.sqrt(2**2 + 2**2 + 1), abs=THIRD_MOMENTS)
    exact = np.linalg.norm(s.mean(axis=0)) * np.sqrt((2 + 3) / 9)
    assert np.hypot(found.defect, found.noise) == pytest.approx(exact, abs=THIRD_MOMENTS / 5)


def test_a_fitted_chain_has_no_mean_defect():
    for law in LAWS.values():
        found = check_score(moved_inputs(law, 5.0)).mean
        assert found.defect <= 3 * found.noise


def test_a_fit_that_relies_on_a_law_about_another_mean_says_which_law_it_is():
    X, Y, _, law = make_rnn(1000, 10, 3, 2, 2, random_state=0)
    chain = law.shifted(np.full(3, 3.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SpectralRNNRegressor(2, chain=chain, moment="score", random_state=0).fit(X, Y)
    text = [str(each.message) for each in caught if issubclass(each.category, ScoreWarning)]
    assert len(text) == 1
    assert "the score of the input law (Gaussian VAR(1))" in text[0]
    assert "from the mean of the score" in text[0]


def test_a_law_that_draws_about_another_mean_than_its_density_has_is_refused():
    law = LAWS["Gaussian"]

    class Elsewhere(GaussianVAR):
        def sample(self, n_sequences, n_steps, random_state=None):
            return super().sample(n_sequences, n_steps, random_state) + 3.0

    other = Elsewhere(law.coefficients, law.innovation_covariance)
    assert check_law(law, n_sequences=200, random_state=0).status == "fine"
    with pytest.raises(LawError, match="from the mean of the score"):
        check_law(other, n_sequences=200, random_state=0)


def orders_one_and_two(law, X):
    batch = as_sequences(X).whole()
    return score_tensors(law, batch, 2)(np.arange(batch.n_rows))


@pytest.mark.parametrize(
    "change",
    [
        lambda s, S: (-s, S),
        lambda s, S: (2 * s, S),
        lambda s, S: (np.roll(s, 1, axis=0), S),
        lambda s, S: (s, S + np.eye(3)),
        lambda s, S: (s, s[:, :, np.newaxis] * s[:, np.newaxis, :]),
    ],
    ids=["sign", "size", "other steps", "offset", "no K"],
)
def test_scores_of_two_orders_that_do_not_belong_together_fail(change):
    law = LAWS["Gaussian"]
    X = moved_inputs(law, 0.0)
    first, second = orders_one_and_two(law, X)
    assert check_score(X, chain=(first, second)).status == "fine"
    assert check_score(X, chain=change(first, second)).status == "fails"


class WrongInformation(GaussianVAR):
    """A Gaussian chain that claims another covariance of its score."""

    def precision_blocks(self, lag=0):
        return 2.0 * super().precision_blocks(lag)


def test_a_law_that_claims_another_covariance_of_its_score_fails():
    law = LAWS["Gaussian"]
    claims = WrongInformation(law.coefficients, law.innovation_covariance)
    X = moved_inputs(law, 0.0)
    assert check_score(X, chain=law).status == "fine"
    found = check_score(X, chain=claims)
    assert found.status == "fails" and found.defect < 0.1 and found.second.defect > 0.9
    with pytest.raises(LawError, match="from E S_2"):
        check_law(claims, n_sequences=200, random_state=0)


def test_identities_of_the_lowest_orders_are_those_of_plain_means():
    """In white coordinates, which are those of the inputs where these are white."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 10, 2))
    X -= X.mean(axis=(0, 1))
    X = X @ np.linalg.inv(np.linalg.cholesky(np.cov(X.reshape(-1, 2).T, bias=True))).T
    law = GaussianVAR(np.zeros((0, 2, 2)), 0.5 * np.eye(2))
    found = check_score(X, chain=law)
    x, s = X.reshape(-1, 2), 2 * X.reshape(-1, 2)
    slope = np.linalg.norm(s.T @ x / len(x) - np.eye(2)) / np.sqrt(2)
    second = np.linalg.norm(s.T @ s / len(x) - 2 * np.eye(2))
    second /= np.trace(s.T @ s / len(x)) / np.sqrt(2)
    for part, value in ((found.slope, slope), (found.second, second)):
        assert np.hypot(part.defect, part.noise) == pytest.approx(value, abs=ALGEBRA)


def test_a_fitted_chain_is_not_asked_for_what_least_squares_makes_right():
    found = check_score(moved_inputs(LAWS["Student"], 0.0))
    assert found.slope is None and found.second is None
