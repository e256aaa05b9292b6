"""Inputs with large means: the origin of the inputs is no matter, or the fit says so."""

import warnings
from functools import cache

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets
from gloree.diagnostics import ConvergenceWarning, SpecificationWarning
from gloree.fitting._large_biases import Settled, _biases, shifted_units
from gloree.models import IORNN
from gloree.refinement import Layout
from gloree.refinement._curvature import bias_columns_apart, solve_step

# Digits that subtracting a mean of 1e4 spreads loses, times the steps of a descent.
ROUNDING = 1e-6
ALGEBRA = 1e-9
SAME_LOSS = 1e-3
NOISE = 0.1
KINDS = {
    "one direction": (2, {}, {}),
    "two directions": (4, {"bidirectional": True}, {"bidirectional": True}),
    "cubic": (2, {"degree": 3}, {"activation": "cubic"}),
    "cubic, two directions": (
        4, {"degree": 3, "bidirectional": True}, {"activation": "cubic", "bidirectional": True}
    ),
}  # fmt: skip


def system(kind, seed, n_sequences=300):
    k, made, fitted = KINDS[kind]
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, 10, k + 1, k, k, noise=NOISE, random_state=seed, **made
    )
    est = SpectralRNNRegressor(k, random_state=0, engine="serial", **fitted)
    return X, Y, truth, est


def mean_square(values):
    return float(np.mean(np.square(values)))


# -- networks on centred inputs, data with an offset


@cache
def loss_of_centred(kind, seed):
    X, Y, _, est = system(kind, seed)
    centred = X - X.mean(axis=(0, 1))
    return mean_square(Y - est.fit(centred, Y).predict(centred))


@pytest.mark.parametrize(
    "columns", first_of([slice(None), slice(1)]), ids=["all columns", "one column"]
)
@pytest.mark.parametrize("offset", first_of([1e4, 30.0, 3.0, 1e3]))
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_fit_does_not_depend_on_the_origin_of_the_inputs(kind, offset, columns):
    X, Y, _, est = system(kind, seed=1)
    shift = np.zeros(X.shape[2])
    shift[columns] = offset * X.std()
    before = loss_of_centred(kind, seed=1)
    after = mean_square(Y - est.fit(X + shift, Y).predict(X + shift))
    assert after == pytest.approx(before, rel=SAME_LOSS)
    errors = est.report_.standard_errors
    assert errors and all(np.isfinite(values).all() for values in errors.values())


# -- networks without biases on inputs with a mean


def on_large_means(kind, seed, offset):
    """Data of a network without biases whose recurrence stays small on inputs with a mean."""
    X, _, truth, est = system(kind, seed)
    X = X + offset
    degree = truth.activation.degree
    size = offset ** (degree if degree == 3 else 2) / 3
    names = ["recurrent_weights"]
    if hasattr(truth, "forward_recurrent_weights"):
        names = ["forward_recurrent_weights", "backward_recurrent_weights"]
    truth = truth.replace(**{name: getattr(truth, name) / size for name in names})
    noise = NOISE * np.random.default_rng(seed).standard_normal((*X.shape[:2], truth.n_outputs))
    return X, truth.predict(X) + noise, noise, est


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the decomposition of the first moment")
@pytest.mark.parametrize("offset", first_of([30.0, 3.0, 100.0]))
@pytest.mark.parametrize("kind", ["one direction", "two directions", "cubic"])
def test_networks_that_are_small_on_inputs_with_a_mean_are_found(kind, offset):
    X, Y, noise, est = on_large_means(kind, 3, offset)
    # the least squares fit the data no worse than the network that made them
    assert mean_square(Y - est.fit(X, Y).predict(X)) < mean_square(noise)
    errors = est.report_.standard_errors
    assert errors and all(np.isfinite(values).all() for values in errors.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_where_the_directions_of_such_units_are_missed_the_fit_says_so(seed, recwarn):
    for offset in (3.0, 30.0):
        X, Y, noise, est = on_large_means("cubic, two directions", seed, offset)
        recwarn.clear()
        left = mean_square(Y - est.fit(X, Y).predict(X))
        assert left < mean_square(noise) or recwarn.list


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["one direction", "cubic"])
def test_large_means_are_no_matter_for_any_seed(kind, seed):
    for offset in (3.0, 30.0, 100.0):
        X, Y, noise, est = on_large_means(kind, seed, offset)
        left = mean_square(Y - est.fit(X, Y).predict(X))
        assert left < (1.0 + SAME_LOSS) * mean_square(noise)


@pytest.mark.parametrize("degree", [2, 3])
def test_biases_of_units_without_noise_are_those_of_their_taylor_series(degree):
    rng = np.random.default_rng(0)
    A1 = rng.standard_normal((2, 4))
    A1 /= np.linalg.norm(A1, axis=1, keepdims=True)
    name = {2: "quadratic", 3: "cubic"}[degree]
    truth = IORNN(A1, None, rng.standard_normal((2, 3)), hidden_bias=[0.2, -40.0], activation=name)
    X = rng.standard_normal((500, 4))
    rows = Settled(X, truth.predict(X), np.zeros(2))
    near = A1 + 0.01 * rng.standard_normal(A1.shape)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    start = truth.replace(input_weights=near, hidden_bias=None)
    found, error = shifted_units(start, rows, Layout(4, 2, 3))
    assert error < ALGEBRA * mean_square(rows.Y)
    np.testing.assert_allclose(found.hidden_bias, truth.hidden_bias, rtol=ALGEBRA**0.5)
    np.testing.assert_allclose(found.input_weights, A1, atol=ALGEBRA**0.5)


def test_small_biases_are_left_to_the_other_start():
    rng = np.random.default_rng(0)
    model = IORNN(np.eye(2), None, rng.standard_normal((2, 2)), hidden_bias=[0.5, -0.5])
    X = rng.standard_normal((500, 2))
    rows = Settled(X, model.predict(X), np.zeros(2))
    assert shifted_units(model.replace(hidden_bias=None), rows, Layout(2, 2, 2))[0] is None


@pytest.mark.parametrize("degree", [2, 3])
def test_biases_from_either_coefficient(degree):
    b = np.array([5.0, -0.3])
    powers = np.array([np.polynomial.Polynomial([x, 1.0]) ** degree for x in b])
    coefficients = np.array([each.coef[1:] for each in powers]).T
    named = np.array([0, degree - 1])
    scaled = coefficients / coefficients[named, [0, 1]]
    others = [[row for row in range(degree) if row != own] for own in named]
    free = np.array([scaled[rows, i] for i, rows in enumerate(others)]).T
    np.testing.assert_allclose(_biases(free, named, degree), b)


# -- damping beside the columns of the biases


def columns(mean, rng):
    """Columns of J of one static quadratic unit with one output, on inputs of mean 0."""
    layout = Layout(2, 1, 1, recurrent=False)
    X = rng.standard_normal((2000, 2))
    z = X[:, 0] + mean
    J = np.empty((2000, layout.size))
    index = layout.indices
    J[:, index["input_weights"].ravel()] = 2 * z[:, None] * X
    J[:, index["hidden_bias"]] = 2 * z[:, None]
    J[:, index["output_weights"].ravel()] = z[:, None] ** 2
    J[:, index["output_bias"]] = 1.0
    return layout, J


def test_damping_leaves_steps_alone_where_states_have_a_large_mean():
    layout, J = columns(100.0, np.random.default_rng(0))
    step = np.random.default_rng(1).standard_normal(layout.size)
    H, fixed = J.T @ J, np.eye(layout.size)[:1]
    step[0] = 0.0
    T = bias_columns_apart(H, layout)
    found = T @ solve_step(T.T @ H @ T, T.T @ (H @ step), fixed @ T, 1e-9)
    damped = solve_step(H, H @ step, fixed, 1e-9)
    assert np.abs(found - step).max() < 1e-2 * np.abs(damped - step).max()


def test_columns_of_weights_have_no_parts_along_those_of_the_biases():
    rng = np.random.default_rng(0)
    layout = Layout(3, 2, 2)
    J = rng.standard_normal((200, layout.size)) + 5.0
    c, b = (layout.indices[name].ravel() for name in ("output_bias", "hidden_bias"))
    J[:, c] = np.repeat(np.eye(2), 100, axis=0)
    J[:, 0] = 3.0 * J[:, c[0]] + 1e-4 * rng.standard_normal(200)
    J = J @ bias_columns_apart(J.T @ J, layout)
    rest = np.setdiff1d(np.arange(layout.size), [*c, *b])
    sizes = np.linalg.norm(J, axis=0)
    cosines = J.T @ J / np.outer(sizes, sizes)
    for rows, others in ((c, b), (c, rest), (b, rest)):
        np.testing.assert_allclose(cosines[np.ix_(rows, others)], 0.0, atol=ALGEBRA)


def test_steps_are_as_before_where_states_have_a_usual_mean():
    layout, J = columns(1.0, np.random.default_rng(0))
    assert bias_columns_apart(J.T @ J, layout) is None


# -- without hidden biases


@pytest.mark.parametrize("offset", first_of([1e3, 3.0, 30.0, 1e4]))
@pytest.mark.parametrize("refine", ["one-step", None])
def test_a_fit_is_never_worse_than_a_constant(offset, refine):
    X, Y, _, est = system("one direction", seed=3)
    est.set_params(fit_bias=False, refine=refine)
    told = (ConvergenceWarning, SpecificationWarning)
    with pytest.warns(told, match="centre `X`, or set `fit_bias`=True") as caught:
        est.fit(X + offset, Y)
    assert est.score(X + offset, Y) >= -ALGEBRA
    advice = [str(each.message) for each in caught if issubclass(each.category, told)]
    assert len(advice) == 1
    np.testing.assert_array_equal(np.isfinite(est.predict(X + offset)), True)


def test_networks_without_biases_that_fit_inputs_with_a_mean_are_silent(recwarn):
    X, Y, noise, est = on_large_means("one direction", 3, 3.0)
    est.set_params(fit_bias=False).fit(X, Y)
    assert mean_square(Y - est.predict(X)) < mean_square(noise)
    assert not [each for each in recwarn.list if issubclass(each.category, SpecificationWarning)]


# -- labels

LABELLINGS = {
    "one direction": {},
    "two directions": {"bidirectional": True},
    "no direct path": {"direct": False},
    "readout alone": {"refine": None},
}
CHANGES = {
    "one factor": (3.0, 0.0),
    "factors": (np.array([1.0, 1e3, 1e-3, 7.0]), 0.0),
    "origin": (1.0, 100.0),
    "one column": (1.0, np.array([1e4, 0.0, 0.0, 0.0])),
    "both": (np.array([1.0, 1e3, 1e-3, 7.0]), np.array([100.0, 1.0, -3.0, 0.0])),
}


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.DirectionWarning")
@pytest.mark.parametrize("options", first_of(LABELLINGS.values()), ids=LABELLINGS)
def test_probabilities_of_labels_do_not_depend_on_origin_and_units(options):
    X, Y, _, _ = datasets.make_rnn(300, 10, 4, 2, 3, random_state=1)
    noise = np.random.default_rng(0).standard_normal(Y.shape)
    labels = np.argmax(Y + 0.5 * noise, axis=2)
    est = SpectralRNNClassifier(2, random_state=0, engine="serial", **options)
    plain = est.fit(X, labels).predict_proba(X)
    for factor, offset in CHANGES.values():
        other = (X + offset) * factor
        found = est.fit(other, labels).predict_proba(other)
        np.testing.assert_allclose(found, plain, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_probabilities_on_windows_do_not_depend_on_units():
    # windows that reach before the start of a record hold zeros, which depend on the origin
    X, Y, _, _ = datasets.make_rnn(300, 10, 4, 2, 3, random_state=1)
    labels, factors = np.argmax(Y, axis=2), CHANGES["factors"][0]
    est = SpectralRNNClassifier(2, lags=2, random_state=0, engine="serial")
    plain = est.fit(X, labels).predict_proba(X)
    found = est.fit(X * factors, labels).predict_proba(X * factors)
    np.testing.assert_allclose(found, plain, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_directions_of_a_labelling_network_are_in_the_order_of_its_units():
    X, Y, _, _ = datasets.make_rnn(300, 10, 5, 4, 4, bidirectional=True, random_state=0)
    labels = np.argmax(Y, axis=2)
    est = SpectralRNNClassifier(4, bidirectional=True, random_state=0, engine="serial")
    est.fit(X * np.array([1.0, 30.0, 1.0, 1.0, 0.1]), labels)
    forward = est.report_.directions.forward
    np.testing.assert_array_equal(forward, np.arange(4) < est.model_.n_forward)


def test_windows_of_inputs_with_a_mean_are_named():
    """Zeros stand before the start of a sequence, far from inputs with a mean."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 10, 3))
    weights = rng.standard_normal((2, 6)), 0.01 * np.eye(2), rng.standard_normal((2, 2))
    Y = IORNN(*weights, lags=2).predict(X) + NOISE * rng.standard_normal((300, 10, 2))
    est = SpectralRNNRegressor(2, lags=2, random_state=0, engine="serial")
    est.fit(X, Y)
    assert not any("zeros stand" in text for text in est.report_.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X + 100.0, Y)
    assert any("zeros stand in the windows" in text for text in est.report_.warnings)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"lags": 2}, "zeros stand in the windows"), ({"fit_bias": False}, "without hidden biases")],
)
def test_labels_that_depend_on_the_origin_of_the_inputs_are_named(options, said):
    X, Y, _, _ = datasets.make_rnn(60, 10, 3, 2, 3, random_state=0)
    labels = np.argmax(Y, axis=2)
    est = SpectralRNNClassifier(2, random_state=0, refine=None, engine="serial", **options)
    for mean, named in ((0.0, False), (100.0, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            est.fit(X + mean, labels)
        assert any(said in text for text in est.report_.warnings) == named
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = SpectralRNNClassifier(2, random_state=0, refine=None, engine="serial")
        plain.fit(X + 100.0, labels)
    assert not any("origin" in text or "zeros" in text for text in plain.report_.warnings)
