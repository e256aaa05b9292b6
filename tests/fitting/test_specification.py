"""Is the class of networks right: what fits find out about it, on data of both kinds."""

import numpy as np
import pytest
from helpers.generators import with_biases
from helpers.marks import first_of, long_but_first

from gloree import SpectralRNNRegressor, datasets
from gloree.activations import Polynomial
from gloree.diagnostics import OutlierWarning, SpecificationWarning
from gloree.fitting._specification import missing_powers
from gloree.models import IORNN

SIZES = (500, 10, 5, 3, 3)
WRONG = {
    "relu": lambda z: np.maximum(z, 0.0),
    "absolute value": np.abs,
    "softplus": lambda z: np.logaddexp(0.0, z),
}
NOISE = 0.1


def outputs(X, truth, f, before=None):
    """Outputs of a network with any activation, as a loop over steps."""
    h, Y = np.zeros((len(X), truth.n_hidden)), np.empty((*X.shape[:2], truth.n_outputs))
    for t in range(X.shape[1]):
        z = X[:, t] @ truth.input_weights.T + h @ truth.recurrent_weights.T + truth.hidden_bias
        if before is not None and t > 0:
            z = z + X[:, t - 1] @ before.T
        h = f(z)
        Y[:, t] = h @ truth.output_weights
    return Y


def noisy(values, seed):
    return values + NOISE * np.random.default_rng([seed, 1]).standard_normal(values.shape)


def system(seed, **options):
    X, _, truth, _ = datasets.make_rnn(*SIZES, noise=0.0, random_state=seed, **options)
    return X, with_biases(truth, seed)


def regressor(n_hidden=3, **options):
    return SpectralRNNRegressor(n_hidden, random_state=0, engine="serial", **options)


@pytest.mark.parametrize("name", first_of(list(WRONG)))
def test_a_wrong_activation_is_named(name):
    X, truth = system(0)
    with pytest.warns(SpecificationWarning, match="contradict the activation.*degree 3, 4"):
        est = regressor().fit(X, noisy(outputs(X, truth, WRONG[name]), 0))
    test = est.report_.specification["activation"]
    assert test.p_value < 1e-6 and 0.0 < test.gain < 1.0
    assert "specification, activation: chi square" in str(est.report_)


def test_a_missing_lag_is_named_and_the_remedy_works():
    X, truth = system(1)
    before = 0.3 * np.random.default_rng(1).standard_normal(truth.input_weights.shape)
    Y = noisy(outputs(X, truth, np.square, before), 1)
    with pytest.warns(SpecificationWarning, match="1 step.s. before.*try lags=2"):
        est = regressor().fit(X, Y)
    assert est.report_.specification["lag"].p_value < 1e-6
    lagged = regressor(lags=2).fit(X, Y)
    assert lagged.report_.specification["lag"].p_value > 1e-4
    assert lagged.score(X, Y) > est.score(X, Y)


def test_a_missing_lag_of_the_direct_path_is_named():
    X, truth = system(2)
    Y = noisy(outputs(X, truth, np.square), 2)
    Y[:, 1:] += 0.1 * X[:, :-1, :3]
    with pytest.warns(SpecificationWarning, match="try lags=2"):
        regressor(direct=True).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "fitted"),
    [
        ({}, {}),
        ({"bidirectional": True}, {"bidirectional": True}),
        ({"degree": 3}, {"activation": "cubic"}),
    ],
)
def test_the_right_class_passes(options, fitted):
    X, truth = system(3, **options)
    est = regressor(**fitted).fit(X, noisy(truth.predict(X), 3))
    tests = est.report_.specification
    assert set(tests) == {"activation", "lag"}
    assert all(test.p_value > 1e-4 for test in tests.values())


@pytest.mark.slow
def test_nothing_is_tested_where_there_is_no_optimum_or_no_noise():
    X, truth = system(4)
    Y = truth.predict(X)
    assert regressor(refine=None).fit(X, noisy(Y, 4)).report_.specification == {}
    assert regressor(refine="full").fit(X, Y).report_.specification == {}


@pytest.mark.slow
def test_the_test_does_not_depend_on_units_or_batches():
    X, truth = system(5)
    Y = noisy(truth.predict(X), 5)
    tests = regressor().fit(X, Y).report_.specification
    for other in (
        regressor(batch_size=300).fit(X, Y),
        regressor().fit(X * 2.0**20, Y),
        regressor().fit(X, Y * 2.0**20),
    ):
        for name, test in other.report_.specification.items():
            assert test.p_value == pytest.approx(tests[name].p_value, rel=1e-3)


def test_missing_powers_leave_out_what_biases_imitate():
    assert missing_powers(Polynomial((0, 0, 1.0)), unit_bias=True) == (3, 4)
    assert missing_powers(Polynomial((0, 0, 1.0)), unit_bias=False) == (1, 3, 4)
    assert missing_powers(Polynomial((0, 0, 0, 1.0)), unit_bias=True) == (1, 4, 5)
    assert missing_powers(Polynomial((0, 1.0, 0.5)), unit_bias=True) == (3, 4)


NULLS = {
    "iid": {},
    "larger": {"sizes": (2000, 10, 5, 3, 3)},
    "heteroscedastic": {"noise": "heteroscedastic"},
    "common to a sequence": {"noise": "common"},
    "bidirectional": {"system": {"bidirectional": True}, "fit": {"bidirectional": True}},
    "cubic": {"system": {"degree": 3}, "fit": {"activation": "cubic"}},
    "one record": {"sizes": (1, 3000, 5, 3, 3)},
}
REPLICATIONS = 200


@pytest.mark.slow
def test_a_fit_that_parts_of_the_data_contradict_is_named():
    """Units with biases fitted without: settled, and far from what parts of the data ask for."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((1000, 20, 4))
    A1 = rng.standard_normal((3, 4))
    A1 /= np.linalg.norm(A1, axis=1)[:, None]
    U = 0.1 * rng.standard_normal((3, 3)) / np.sqrt(3.0)
    A2, b = rng.standard_normal((3, 2)), 0.3 * rng.standard_normal(3)
    Y = noisy(IORNN(A1, U, A2, b).predict(X), 5)
    est = regressor(fit_bias=False)
    with pytest.warns(SpecificationWarning):
        est.fit(X, Y)
    assert np.sqrt(np.mean((Y - est.predict(X)) ** 2)) > 1.5 * NOISE


def test_one_extreme_output_leaves_the_test_of_the_others():
    X, truth = system(0)
    Y = noisy(truth.predict(X), 0)
    Y[25, 0, 0] = 1e8
    est = regressor()
    with pytest.warns(OutlierWarning):
        est.fit(X, Y)
    assert est.report_.specification
    assert not any("residual sizes" in text for text in est.report_.warnings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")  # of some, by their level
@pytest.mark.parametrize("name", long_but_first(NULLS, 2))
def test_p_values_are_calibrated_where_the_class_is_right(name):
    case = NULLS[name]
    sizes, kind = case.get("sizes", SIZES), case.get("noise")
    p_values = {"activation": [], "lag": []}
    for seed in range(REPLICATIONS):
        rng = np.random.default_rng([seed, 3])
        X, _, truth, _ = datasets.make_rnn(
            *sizes, noise=0.0, random_state=seed, **case.get("system", {})
        )
        Y = truth.predict(X)
        noise = rng.standard_normal(Y.shape)
        if kind == "heteroscedastic":
            noise *= 0.3 + np.abs(X[..., :1])
        if kind == "common":
            noise += rng.standard_normal((Y.shape[0], 1, Y.shape[2]))
        tests = regressor(**case.get("fit", {})).fit(X, Y + NOISE * noise).report_.specification
        for each, test in tests.items():
            p_values[each].append(test.p_value)
    for values in p_values.values():
        n, rejected = len(values), float(np.mean(np.array(values) < 0.05))
        assert n > 0.9 * REPLICATIONS
        # four standard errors of a share of 5 %, and a third of it for what is asymptotic
        assert rejected < 0.05 + 4 * np.sqrt(0.05 * 0.95 / n) + 0.015
        assert np.mean(np.array(values) < 0.5) > 0.5 - 4 * 0.5 / np.sqrt(n) - 0.05
