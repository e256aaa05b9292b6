"""Standard deviations of predictions: against derivatives by differences, in every form of data."""

import warnings

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.marks import first_of
from helpers.parts import cut_in_parts, write_npz
from scipy import stats

from gloree import SpectralRNNRegressor, datasets
from gloree.models import WeightErrors, prediction_variances
from gloree.sequences import as_sequences

# central differences of 1e-6: their own error 1e-12 times third derivatives, rounding of 1e-10
DIFFERENCE, STEP = 1e-6, 1e-6
ALGEBRA = 1e-10


def simulate(seed=0, **options):
    X, Y, _, _ = datasets.make_rnn(100, 8, 4, 2, 3, noise=0.3, random_state=seed, **options)
    return X, Y


KINDS = {
    "one direction": {},
    "lags": {"lags": 2},
    "direct path": {"direct": True},
    "no biases": {"fit_bias": False},
    "no recurrence": {"recurrence": None},
    "two directions": {"n_hidden": (1, 1), "bidirectional": True},
    "two directions, lags": {
        "n_hidden": (1, 1),
        "bidirectional": True,
        "lags": 2,
        "direct": True,
    },
    "backward alone": {"n_hidden": (0, 2), "bidirectional": True, "lags": 2, "direct": True},
    "tanh": {"activation": "tanh"},
}


@pytest.fixture(scope="module", params=first_of(KINDS, 3))
def fitted(request):
    X, Y = simulate()
    if request.param == "tanh":
        truth = datasets.random_rnn(4, 2, 3, activation="tanh", recurrence_norm=0.4, random_state=0)
        Y = truth.simulate(X, noise=0.1, random_state=1)
    options = {"n_hidden": 2, "random_state": 0, "engine": "serial", **KINDS[request.param]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SpectralRNNRegressor(**options).fit(X, Y)


def by_differences(est, X, **given):
    """Variances g^T V g of predictions, g by differences, and the noise."""
    report, model = est.report_, est.model_
    names = list(report.standard_errors)
    gradient = []
    for name in names:
        values = getattr(model, name)
        for place in np.ndindex(values.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = np.array(values)
                moved[place] += sign * STEP
                ends.append(model.replace(**{name: moved}).predict(X, **given))
            gradient.append((ends[0] - ends[1]) / (2 * STEP))
    g = np.array(gradient)
    variance = np.einsum("i...,ij,j...->...", g, report.covariance, g)
    return np.sqrt(variance + np.diag(report.residual_covariance))


@pytest.mark.filterwarnings("ignore")
def test_they_are_those_of_the_delta_method(fitted):
    X = simulate(1)[0][:5]
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, fitted.predict(X))
    np.testing.assert_allclose(std, by_differences(fitted, X), rtol=DIFFERENCE)


@pytest.mark.filterwarnings("ignore")
def test_a_given_state_counts(fitted):
    X = simulate(1)[0][:5]
    state = 0.3 * np.random.default_rng(0).standard_normal((5, fitted.model_.n_state))
    mean, std, last = fitted.predict(X, state=state, return_std=True, return_state=True)
    expected, its_last = fitted.predict(X, state=state, return_state=True)
    np.testing.assert_array_equal(mean, expected)
    np.testing.assert_array_equal(last, its_last)
    np.testing.assert_allclose(std, by_differences(fitted, X, state=state), rtol=DIFFERENCE)


@pytest.fixture(scope="module")
def forward():
    X, Y = simulate()
    return SpectralRNNRegressor(2, random_state=0, engine="serial").fit(X, Y)


def test_every_form_of_data_gives_the_same(forward, tmp_path):
    X, Y = simulate(2)
    mean, std = forward.predict(X, return_std=True)
    ragged = [X[0], X[1][:3], X[2][:1]]
    means, stds = forward.predict(ragged, return_std=True)
    for i, rows in enumerate((8, 3, 1)):
        assert_close(means[i], mean[i, :rows], ALGEBRA)
        assert_close(stds[i], std[i, :rows], ALGEBRA)
    for values, expected in zip(
        forward.predict(X[3], return_std=True), (mean[3], std[3]), strict=True
    ):
        assert_close(values, expected, ALGEBRA)
    rows = X.reshape(-1, 4)
    flat = forward.predict(rows, lengths=[8] * 100, return_std=True)
    assert_close(flat[1], std.reshape(-1, 3), ALGEBRA)
    write_npz(tmp_path, cut_in_parts(X, Y, 3))
    listed = forward.predict(str(tmp_path), return_std=True)
    assert_close(np.array(listed[0]), mean, ALGEBRA)
    assert_close(np.array(listed[1]), std, ALGEBRA)


def test_outputs_without_their_axis_have_deviations_without_it():
    X, Y = simulate()
    one = SpectralRNNRegressor(1, activation="cubic", recurrence=None, random_state=0)
    one.fit(X, X[..., 0] ** 3 + 0.1 * Y[..., 0])
    mean, std = one.predict(X, return_std=True)
    assert mean.shape == std.shape == X.shape[:2]
    lower, upper = one.prediction_intervals(X)
    assert lower.shape == upper.shape == X.shape[:2]


def test_many_rows_and_long_sequences_are_cut_without_a_trace(forward, monkeypatch):
    from gloree.models import _prediction_errors as module

    X = simulate(2)[0]
    expected = forward.predict(X, return_std=True)[1]
    monkeypatch.setattr(module, "CHUNK_ROWS", 20)
    monkeypatch.setattr(module, "CHUNK_NUMBERS", 50)
    assert_close(forward.predict(X, return_std=True)[1], expected, ALGEBRA)


def test_intervals_are_quantiles_of_the_normal_distribution(forward):
    X = simulate(2)[0]
    mean, std = forward.predict(X, return_std=True)
    lower, upper = forward.prediction_intervals(X, 0.8)
    half = stats.norm.ppf(0.9) * std
    assert_close(upper - mean, half, ALGEBRA)
    assert_close(mean - lower, half, ALGEBRA)
    narrow = forward.prediction_intervals(X, 0.8, noise=False)
    noise = np.diag(forward.report_.residual_covariance)
    expected = stats.norm.ppf(0.9) * np.sqrt(std**2 - noise)
    np.testing.assert_allclose((narrow[1] - narrow[0]) / 2, expected, rtol=1e-6)
    lists = forward.prediction_intervals([X[0], X[1][:3]], 0.8)
    assert [each.shape for each in lists[0]] == [(8, 3), (3, 3)]


def test_a_saved_fit_has_the_same_deviations(forward, tmp_path):
    X = simulate(2)[0]
    forward.save(tmp_path / "fit.npz")
    loaded = SpectralRNNRegressor.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(
        loaded.predict(X, return_std=True)[1], forward.predict(X, return_std=True)[1]
    )


def test_a_root_of_a_singular_covariance_is_one():
    """Of rank one, over weights of unlike size: the variance of a sum of outputs."""
    X = np.random.default_rng(0).standard_normal((2, 3, 4))
    truth = datasets.random_rnn(4, 2, 3, random_state=0)
    direction = np.zeros((2, 3))
    direction[0] = [1.0, 1e3, 1e-3]
    shapes = {
        "input_weights": (2, 4),
        "recurrent_weights": (2, 2),
        "output_weights": (2, 3),
    }
    v = np.concatenate((np.zeros(12), direction.ravel()))
    errors = WeightErrors.of(np.outer(v, v), shapes, np.zeros(3))
    found = prediction_variances(truth, as_sequences(X), errors)
    states = truth.replace(output_weights=np.eye(2, 3)).predict(X)[..., :1]
    expected = (states * direction[0]).reshape(-1, 3) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_fits_without_standard_errors_say_what_to_do():
    X, Y = simulate()
    moments = SpectralRNNRegressor(2, refine=None, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="moments alone were fitted: fit with refine='one-step'"):
        moments.predict(X, return_std=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pole that is too slow for such sequences
        linear = SpectralRNNRegressor(1, activation="linear").fit(X, X @ np.ones((4, 1)) + 0.1 * Y)
    with pytest.raises(ValueError, match="use `SystemIdentifier"):
        linear.prediction_intervals(X)
    rng = np.random.default_rng(0)
    tokens = np.eye(4)[rng.integers(0, 4, (300, 10))]  # columns add up to one
    truth = datasets.random_rnn(4, 2, 3, activation="tanh", recurrence_norm=0.5, random_state=0)
    values = truth.simulate(tokens, noise=0.1, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dependent = SpectralRNNRegressor(2, activation="tanh", random_state=0).fit(tokens, values)
    assert dependent.report_.n_undetermined == 2
    with pytest.raises(ValueError, match=r"do not determine 2 combination\(s\) of them: leave out"):
        dependent.predict(tokens, return_std=True)
    with pytest.raises(ValueError, match="`level` is 95"):
        moments.prediction_intervals(X, 95)
