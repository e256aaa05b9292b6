"""Laws of inputs in other units, and laws whose scores hold few digits."""

import numpy as np
import pytest

from gloree import moments
from gloree.chains import GaussianVAR, LawError, NonlinearAR, StudentVAR, SwitchingVAR
from gloree.engine import MergeError
from gloree.score_functions import partial_score

ALGEBRA = 1e-12


@pytest.mark.parametrize("order", [0, 1, 2])
def test_scores_of_a_scaled_law_are_scores_over_the_scale(order):
    rng = np.random.default_rng(0)
    law = GaussianVAR(0.2 * rng.standard_normal((order, 2, 2)), [[1.0, 0.3], [0.3, 2.0]], [1.0, -1])
    scale = np.array([1e8, 1e-3])
    X = rng.standard_normal((3, 7, 2))
    found = partial_score(law.scaled(scale), X * scale)
    np.testing.assert_allclose(found * scale, partial_score(law, X), rtol=1e-9, atol=ALGEBRA)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("unit", [1e-3, 1e-6, 1e-9])
def test_the_stationary_law_of_inputs_in_units_far_apart_is_that_of_equal_units(order, unit):
    # the input in small units is the one that remembers: its variance comes from 500 steps
    coefficients = np.zeros((order, 2, 2))
    coefficients[-1] = [[0.1, 0.0], [0.05, 0.99]]
    law = GaussianVAR(coefficients, [[1.0, 0.3], [0.3, 1.0]])
    scale = np.array([1.0 / unit, unit])
    found = law.scaled(scale).first_steps_covariance
    expected = law.first_steps_covariance * np.outer(np.tile(scale, order), np.tile(scale, order))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_covariances_have_to_be_symmetric_in_the_units_of_their_inputs(unit):
    scale = np.outer([1.0 / unit, unit], [1.0 / unit, unit])
    with pytest.raises(ValueError, match="`innovation_covariance` is not symmetric"):
        GaussianVAR(np.zeros((2, 2)), np.array([[1.0, 0.9], [0.0, 1.0]]) * scale)


def test_scales_have_to_be_positive_and_fit():
    law = GaussianVAR([[0.5]], [[1.0]], initial_covariance=[[3.0]])
    assert law.scaled([2.0]).initial_covariance[0, 0] == 12.0
    for wrong in ([1.0, 2.0], [-1.0]):
        with pytest.raises(ValueError, match="`scale` has shape"):
            law.scaled(wrong)


def nearly_singular(gap):
    return GaussianVAR(np.zeros((2, 2)), [[1.0, 1 - gap], [1 - gap, 1.0]])


def test_laws_say_how_many_digits_their_scores_hold():
    X = np.zeros((1, 3, 2))
    partial_score(nearly_singular(1e-4), X)
    with pytest.warns(RuntimeWarning, match="nearly singular.*hold about 5 digits"):
        partial_score(nearly_singular(1e-10), X)
    with pytest.raises(LawError, match="at least 4 are needed"):
        partial_score(nearly_singular(1e-13), X)


NEARLY_SINGULAR = {
    "Student": lambda sigma: StudentVAR(0.5 * np.eye(2), sigma, df=4),
    "switching": lambda sigma: SwitchingVAR([0.5 * np.eye(2)], [sigma], [[1.0]]),
    "nonlinear": lambda sigma: NonlinearAR(np.tanh, sigma),
    "moved": lambda sigma: StudentVAR(0.5 * np.eye(2), sigma, df=4).shifted([1.0, 1.0]),
}


@pytest.mark.parametrize("kind", NEARLY_SINGULAR)
def test_laws_of_all_kinds_say_how_many_digits_their_scores_hold(kind):
    X = np.zeros((1, 3, 2))

    def law(gap):
        units = np.outer([1e6, 1e-6], [1e6, 1e-6])
        return NEARLY_SINGULAR[kind](np.array([[1.0, 1 - gap], [1 - gap, 1.0]]) * units)

    partial_score(law(1e-4), X)
    with pytest.warns(RuntimeWarning, match="nearly singular.*hold about 5 digits"):
        partial_score(law(1e-10), X)
    with pytest.raises(LawError, match="nearly singular"):
        partial_score(law(1e-13), X)


def test_digits_are_lost_by_the_condition():
    """Scores against those of the exact inverse: errors grow as the condition does."""
    gap = 2.0**-30  # exact in binary
    law = nearly_singular(gap)
    X = np.array([[[1.0, 1.0 + gap]]])
    determinant = 1 - (1 - gap) ** 2
    exact = np.array([1 - (1 - gap) * (1 + gap), (1 + gap) - (1 - gap)]) / determinant
    with pytest.warns(RuntimeWarning, match="nearly singular"):
        found = partial_score(law, X)[0, 0]
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert error < 10 * law.condition * np.finfo(float).eps


def test_sums_under_other_laws_are_not_merged():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((5, 4, 2)), rng.standard_normal((5, 4, 3))
    one, other = (GaussianVAR(s * 0.5 * np.eye(2), np.eye(2)) for s in (1, -1))
    np.testing.assert_array_equal(one.score_covariances, other.score_covariances)
    sums = [moments.CrossMoment.identity(law, 3, 2) for law in (one, other)]
    sums[0].merge(moments.CrossMoment.identity(GaussianVAR(0.5 * np.eye(2), np.eye(2)), 3, 2))
    with pytest.raises(MergeError, match="`law` differs"):
        sums[0].merge(sums[1])
    turned = [moments.CrossMoment.identity(one, 3, 2, P) for P in (np.eye(2), -np.eye(2))]
    with pytest.raises(MergeError, match="`law` differs"):
        turned[0].merge(turned[1])
    assert X.shape[0] == Y.shape[0]


@pytest.mark.parametrize(("order", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_regression_moments_of_order_one_or_more(order, error):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 4, 2)), rng.standard_normal((50, 4, 1))
    with pytest.raises(error, match="`order` must be"):
        moments.regression_moment(X, Y, order)
    slopes = moments.regression_moment(X, X @ np.array([[2.0], [-3.0]]), 1)
    np.testing.assert_allclose(slopes, [[2.0, -3.0]], atol=1e-10)
    assert Y.shape == (50, 4, 1)
