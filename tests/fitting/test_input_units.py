"""Inputs in other units, and outputs with an offset: the same network."""

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, metrics
from gloree.activations import Polynomial
from gloree.chains import GaussianVAR
from gloree.diagnostics import ConditionWarning
from gloree.fitting._inputs import Moments, unit_scale
from gloree.refinement import LBFGS

ROUNDING = 1e-12
# A factor that is no power of two: another rounding of the inputs, times the steps of the fit.
OTHER_ROUNDING = 1e-7
# Inputs rescaled by less than two: solvers end elsewhere within a part of a standard error.
WITHIN_ERRORS = 0.05


def regressor(n_hidden, **options):
    return SpectralRNNRegressor(n_hidden, random_state=0, engine="serial", **options)


def system(*sizes, **options):
    X, Y, truth, _ = datasets.make_rnn(*sizes, random_state=0, **options)
    return X, Y, truth


def in_units(model, scale):
    """Network on x of one on scale * x."""
    windows = model.input_weights.shape[1] // model.n_inputs
    factors = np.tile(np.broadcast_to(scale, (model.n_inputs,)), windows)
    direct = model.direct_weights
    return model.replace(
        input_weights=model.input_weights * factors,
        direct_weights=None if direct is None else direct * factors[:, None],
    )


CASES = {
    "one direction": ((200, 10, 5, 3, 3), {}, {}),
    "two directions": ((200, 10, 5, 4, 4), {"bidirectional": True}, {"bidirectional": True}),
    "cubic": ((200, 10, 4, 2, 3), {"degree": 3}, {"activation": "cubic"}),
    "windows": ((200, 10, 3, 2, 3), {}, {"lags": 2}),
    "windows both ways": (
        (200, 10, 3, 2, 3), {"bidirectional": True}, {"lags": 2, "bidirectional": True}
    ),
    "no recurrence": ((200, 10, 3, 2, 3), {"recurrence_norm": 0.0}, {"recurrence": None}),
    "direct path": ((200, 10, 3, 2, 3), {}, {"direct": True}),
    "no biases": ((200, 10, 3, 2, 3), {}, {"fit_bias": False}),
    "moments alone": ((200, 10, 3, 2, 3), {}, {"refine": None}),
    "score moment": ((200, 10, 3, 2, 3), {}, {"moment": "score", "recurrence": "cross"}),
    "another solver": ((200, 10, 3, 2, 3), {}, {"refine": LBFGS()}),
}  # fmt: skip


FACTORS = [(name, 2.0**40) for name in CASES]
FACTORS += [("one direction", 2.0**-33), ("one direction", 1e9), ("windows both ways", 1e-9)]


@pytest.mark.parametrize(("name", "factor"), first_of(FACTORS, 7, several=True))
def test_fits_do_not_depend_on_the_unit_of_the_inputs(name, factor):
    sizes, options, fitted = CASES[name]
    X, Y, truth = system(*sizes, **options)
    plain = regressor(truth.n_hidden, **fitted).fit(X, Y)
    scaled = regressor(truth.n_hidden, **fitted).fit(X * factor, Y)
    back = in_units(scaled.model_, factor)
    tolerance = ROUNDING if np.log2(factor) % 1 == 0 else OTHER_ROUNDING
    same = metrics.weight_errors(back, plain.model_)
    biases = {"hidden_bias", "output_bias"}
    assert max(error for key, error in same.items() if key not in biases) < tolerance
    np.testing.assert_allclose(scaled.predict(X * factor), plain.predict(X), atol=1e3 * tolerance)
    np.testing.assert_array_equal(np.linalg.norm(scaled.model_.input_weights, axis=1).round(9), 1.0)
    for key, error in plain.report_.predicted_errors.items():
        assert scaled.report_.predicted_errors[key] == pytest.approx(error, rel=1e3 * tolerance)
    if plain.chain_ is not None:
        np.testing.assert_allclose(
            scaled.chain_.innovation_covariance / factor**2,
            plain.chain_.innovation_covariance, rtol=1e-9,
        )  # fmt: skip


@pytest.mark.slow
def test_columns_of_very_different_units_are_scaled_each_by_itself(recwarn):
    X, Y, _ = system(400, 10, 5, 3, 3)
    scale = np.array([1e8, 1.0, 1e-8, 300.0, 1.0])
    plain, mixed = regressor(3).fit(X, Y), regressor(3).fit(X * scale, Y)
    errors = metrics.weight_errors(in_units(mixed.model_, scale), plain.model_)
    for key, error in plain.report_.predicted_errors.items():
        if "bias" not in key:
            assert errors[key] < WITHIN_ERRORS * error
    assert not [each for each in recwarn.list if each.category is ConditionWarning]


def test_units_near_one_stay_as_they_are():
    def scale_of(spread):
        covariance = np.diag(np.array(spread) ** 2)
        return unit_scale(Moments(np.zeros(len(spread)), covariance, 1.0), len(spread))

    assert scale_of([1.0, 20.0]) is None
    assert scale_of([500.0, 1000.0]) is None
    np.testing.assert_array_equal(scale_of([1.0, 40.0]), [1.0, 2.0**-5])
    np.testing.assert_array_equal(scale_of([2000.0, 500.0]), [2.0**-10, 2.0**-10])


def test_a_given_law_is_scaled_with_the_inputs():
    X, Y, _ = system(200, 10, 3, 2, 3)
    law = GaussianVAR.fit(X)
    plain = regressor(2, chain=law).fit(X, Y)
    other = regressor(2, chain=law.scaled([1e9] * 3)).fit(X * 1e9, Y)
    np.testing.assert_allclose(other.predict(X * 1e9), plain.predict(X), atol=1e-6)
    np.testing.assert_array_equal(other.chain_.coefficients, law.coefficients)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_labels_do_not_depend_on_units():
    X, Y, _ = system(300, 10, 4, 2, 3)
    labels = np.argmax(Y, axis=2)
    plain = SpectralRNNClassifier(2, random_state=0, engine="serial").fit(X, labels)
    other = SpectralRNNClassifier(2, random_state=0, engine="serial").fit(X * 2.0**40, labels)
    np.testing.assert_array_equal(other.predict(X * 2.0**40), plain.predict(X))


# -- offsets of the outputs


@pytest.mark.parametrize(
    ("options", "offset"),
    first_of(
        [({}, 0.05), ({}, -300.0), ({"refine": None}, 1.0), ({"activation": "cubic"}, 1.0)],
        1,
        several=True,
    ),
)
def test_outputs_with_an_offset_have_the_weights_of_those_without(options, offset):
    degree = {"degree": 3} if "activation" in options else {}
    X, Y, truth = system(800, 10, 4, 2, 3, **degree)
    plain = regressor(2, fit_bias=False, **options).fit(X, Y)
    assert not plain.model_.output_bias.any()
    est = regressor(2, fit_bias=False, **options).fit(X, Y + offset)
    assert not est.model_.hidden_bias.any()
    np.testing.assert_allclose(est.model_.output_bias, offset, atol=0.03)
    errors, before = (metrics.weight_errors(each.model_, truth) for each in (est, plain))
    for name in ("input_weights", "recurrent_weights", "output_weights"):
        assert errors[name] < 1.5 * before[name] + 1e-3


def test_a_small_offset_is_seen_by_the_refinement():
    X, Y, truth = system(1500, 10, 6, 4, 4)
    est = regressor(4, fit_bias=False).fit(X, Y + 0.02)
    assert [stage.name for stage in est.report_.stages].count("rounds") == 1
    np.testing.assert_allclose(est.model_.output_bias, 0.02, atol=0.005)
    assert metrics.weight_errors(est.model_, truth)["output_weights"] < 0.002


def test_polynomials_with_lower_terms_have_offsets_too():
    activation = Polynomial((0, 1, 0.5))
    truth = datasets.random_rnn(5, 2, 3, activation=activation, random_state=3)
    X = datasets.make_chain(5, random_state=0).sample(1000, 10, random_state=1)
    Y = truth.simulate(X, noise=0.1, random_state=2)
    est = regressor(2, activation=activation, fit_bias=False).fit(X, Y + 5.0)
    np.testing.assert_allclose(est.model_.output_bias, 5.0, atol=0.05)
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < 0.01
