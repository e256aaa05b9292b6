"""Standard errors of functions of weights, against closed forms."""

import numpy as np
import pytest

from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import FitReport, delta_method

# central differences of cube roots of eps, and what third derivatives make of them
DIFFERENCE = 1e-7
ALGEBRA = 1e-12


@pytest.fixture(scope="module")
def report():
    X, Y, _, _ = datasets.make_rnn(100, 10, 4, 2, 3, noise=0.2, random_state=0)
    return SpectralRNNRegressor(2, random_state=0, engine="serial").fit(X, Y).report_


def places(report, name):
    """Rows of the covariance that belong to some weights, in their shape."""
    start = 0
    for other, errors in report.standard_errors.items():
        if other == name:
            return start + np.arange(errors.size).reshape(errors.shape)
        start += errors.size
    raise KeyError(name)


def test_a_weight_has_its_standard_error(report):
    for name, errors in report.standard_errors.items():
        value, error = delta_method(lambda weights, name=name: weights[name], report)
        np.testing.assert_array_equal(value, report.weights[name])
        np.testing.assert_allclose(error, errors, rtol=DIFFERENCE)


def test_a_linear_function_has_the_closed_form(report):
    place = places(report, "output_weights")
    c = np.random.default_rng(0).standard_normal(place.shape)
    covariance = report.covariance[np.ix_(place.ravel(), place.ravel())]
    expected = np.sqrt(c.ravel() @ covariance @ c.ravel())
    value, error = delta_method(lambda weights: np.sum(c * weights["output_weights"]), report)
    assert value == np.sum(c * report.weights["output_weights"])
    assert value.shape == error.shape == ()
    np.testing.assert_allclose(error, expected, rtol=DIFFERENCE)
    exact = delta_method(
        lambda weights: np.sum(c * weights["output_weights"]),
        report,
        gradient=lambda weights: {"output_weights": c},
    )
    np.testing.assert_allclose(exact[1], expected, rtol=ALGEBRA)


def test_a_ratio_has_the_closed_form(report):
    """r = u / v: se(r)^2 = r^2 (var u / u^2 + var v / v^2 - 2 cov / (u v))."""
    place = places(report, "output_weights")
    i, j = place[0, 0], place[0, 1]
    (u, v), V = report.weights["output_weights"][0, :2], report.covariance
    expected = np.abs(u / v) * np.sqrt(V[i, i] / u**2 + V[j, j] / v**2 - 2 * V[i, j] / (u * v))

    def ratio(weights):
        return weights["output_weights"][0, 0] / weights["output_weights"][0, 1]

    def slopes(weights):
        found = np.zeros((2, 3))
        found[0, :2] = 1 / v, -u / v**2
        return {"output_weights": found}

    for gradient, tolerance in ((None, DIFFERENCE), (slopes, ALGEBRA)):
        value, error = delta_method(ratio, report, gradient=gradient)
        assert value == u / v
        np.testing.assert_allclose(error, expected, rtol=tolerance)


def test_an_array_of_functions_has_errors_of_its_shape(report):
    value, error = delta_method(lambda weights: weights["recurrent_weights"] ** 2, report)
    assert value.shape == error.shape == (2, 2)
    U, errors = report.weights["recurrent_weights"], report.standard_errors["recurrent_weights"]
    np.testing.assert_allclose(error, 2 * np.abs(U) * errors, rtol=1e-5)


def test_weights_of_the_report_stay_what_they_are(report):
    before = {name: values.copy() for name, values in report.weights.items()}

    def spoils(weights):
        weights["output_weights"] *= 2.0
        return weights["output_weights"].sum()

    delta_method(spoils, report)
    for name, values in before.items():
        np.testing.assert_array_equal(report.weights[name], values)


def test_what_cannot_be_told_is_an_error(report):
    with pytest.raises(ValueError, match=r"no covariance of the weights\. Regressors have one"):
        delta_method(lambda weights: 1.0, FitReport({}))
    with pytest.raises(ValueError, match=r"has derivatives in \['nothing'\]"):
        delta_method(lambda weights: 1.0, report, gradient=lambda weights: {"nothing": 1.0})
    with pytest.raises(ValueError, match=r"has shape \(\), expected \(2, 3\)"):
        delta_method(lambda weights: 1.0, report, gradient=lambda weights: {"output_weights": 1.0})
    with pytest.raises(ValueError, match="not finite"), np.errstate(invalid="ignore"):
        delta_method(lambda weights: np.sqrt(-np.abs(weights["output_weights"]) - 1.0), report)


def test_swapped_arguments_say_their_order():
    with pytest.raises(
        TypeError, match=r"`report` is of type builtin_function_or_method: .* after the function"
    ):
        delta_method(None, len)


@pytest.mark.parametrize(
    "function", [lambda w: 1j * w["output_bias"], lambda w: None, lambda w: "a"]
)
def test_what_is_not_real_is_refused(function, report):
    """The imaginary part was dropped: errors of zero for a function of the weights."""
    with pytest.raises(TypeError, match=r"`function` gives .*, expected real"):
        delta_method(function, report)
    with pytest.raises(TypeError, match="`function` must be a function of the weights, got None"):
        delta_method(None, report)
