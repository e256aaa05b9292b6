"""Going on with an earlier fit: warm starts, and new rows without the old ones."""

import pickle
import warnings

import numpy as np
import pytest
from helpers.generators import forward_network
from helpers.marks import first_of
from sklearn.base import clone

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, metrics
from gloree.chains import GaussianVAR, lag_moments
from gloree.diagnostics import (
    AcceptanceWarning,
    ConvergenceWarning,
    GloreeWarning,
    LabelWarning,
    OutlierWarning,
    ScoreWarning,
    SpecificationWarning,
)
from gloree.engine import Engine, Source
from gloree.sequences import as_sequences

# Rounding of sums over a few thousand rows, through one inverse of a well-conditioned matrix.
ALGEBRA = 1e-10
# Descents end where a step would gain less than 1e-5; the last one ends far below.
SEARCH_ENDS = 1e-5
LABELS = np.array(["a", "b", "c", "d"])


@pytest.fixture(scope="module")
def data():
    X, Y, truth, _ = datasets.make_rnn(600, 12, 5, 3, 4, random_state=1)
    noise = np.random.default_rng(0).normal(size=Y.shape)
    return X, Y, LABELS[(Y + 0.5 * noise).argmax(axis=2)], truth


@pytest.fixture(scope="module")
def fitted(data):
    X, Y, labels, _ = data
    with warnings.catch_warnings():
        # of a decomposition of few rows, which the readout makes up for
        warnings.simplefilter("ignore", AcceptanceWarning)
        return both_fitted(X, Y, labels)


def both_fitted(X, Y, labels):
    regressor = SpectralRNNRegressor(3, random_state=0).fit(X[:300], Y[:300])
    classifier = SpectralRNNClassifier(3, random_state=0, warm_start=True)
    return regressor, classifier.fit(X[:300], labels[:300])


@pytest.fixture(scope="module")
def partial(data):
    X, Y, labels, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AcceptanceWarning)
        return both_begun(X, Y, labels)


def both_begun(X, Y, labels):
    regressor = SpectralRNNRegressor(3, random_state=0).partial_fit(X[:300], Y[:300])
    classifier = SpectralRNNClassifier(3, random_state=0)
    return regressor, classifier.partial_fit(X[:300], labels[:300], classes=LABELS)


def copy(estimator):
    return pickle.loads(pickle.dumps(estimator))


def vector(model):
    return np.concatenate([np.ravel(each) for each in model.arrays().values() if each is not None])


@pytest.mark.slow
def test_the_first_call_of_partial_fit_is_a_fit(fitted, partial):
    np.testing.assert_array_equal(vector(fitted[0].model_), vector(partial[0].model_))
    np.testing.assert_array_equal(vector(fitted[1].model_), vector(partial[1].model_))


def test_the_law_of_all_rows_is_that_of_a_fit_to_all_rows_to_rounding(data, partial):
    X, Y, *_ = data
    est = copy(partial[0]).partial_fit(X[300:], Y[300:])
    whole = Engine("serial").run(lambda b: lag_moments(b, order=1), Source(as_sequences(X)))
    law = GaussianVAR.from_moments(whole)
    assert est.report_.sizes["steps"] == X.shape[0] * X.shape[1]
    for name in ("coefficients", "innovation_covariance", "mean"):
        np.testing.assert_allclose(getattr(est.chain_, name), getattr(law, name), atol=ALGEBRA)


def test_three_calls_end_within_a_part_of_the_standard_error_of_a_fit_to_all_rows(data, partial):
    X, Y, _, truth = data
    est = copy(partial[0])
    for part in (slice(300, 450), slice(450, 600)):
        est.partial_fit(X[part], Y[part])
    whole = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    for name, errors in whole.report_.standard_errors.items():
        off = (getattr(est.model_, name) - getattr(whole.model_, name)) / errors
        # the efficient weighing of the outputs moves them, too: a third of a standard error
        assert np.sqrt(np.mean(off**2)) < 0.35, name
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < 0.02
    for name, errors in est.report_.standard_errors.items():
        ratio = errors / whole.report_.standard_errors[name]
        assert 0.7 < np.median(ratio) < 1.3, name
    conditions = est.report_.conditions
    assert conditions["weights moved (standard errors)"] < 2.0
    assert conditions["off by the parabola"] < 0.1
    assert est.report_.stages[-1].detail.startswith("1,800 new steps after 5,400")
    assert [stage.name for stage in est.report_.stages].count("more rows") == 1


def test_partial_fit_goes_on_from_a_fit_by_the_covariance_of_its_weights(data, fitted, partial):
    X, Y, *_ = data
    est = copy(fitted[0]).partial_fit(X[300:], Y[300:])
    other = copy(partial[0]).partial_fit(X[300:], Y[300:])
    errors = np.concatenate([e.ravel() for e in other.report_.standard_errors.values()])
    weights = [
        np.concatenate([np.ravel(getattr(e.model_, n)) for n in e.report_.weights])
        for e in (est, other)
    ]
    assert np.sqrt(np.mean(((weights[0] - weights[1]) / errors) ** 2)) < 0.35


@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_after_a_fit_old_rows_count_by_their_information_and_not_by_their_sandwich(mean):
    """Forty clusters for 23 weights: the inverse of their sandwich is far from the information."""
    X, Y, *_ = datasets.make_rnn(80, 20, 4, 2, 3, random_state=0, noise=0.3)
    fitted, partial = (SpectralRNNRegressor(2, random_state=0, engine="serial") for _ in range(2))
    fitted.fit(X[:40] + mean, Y[:40]).partial_fit(X[40:] + mean, Y[40:])
    partial.partial_fit(X[:40] + mean, Y[:40]).partial_fit(X[40:] + mean, Y[40:])
    for name, errors in partial.report_.standard_errors.items():
        off = (getattr(fitted.model_, name) - getattr(partial.model_, name)) / errors
        # what is left is of second order, and small beside a standard error
        assert np.sqrt(np.mean(off**2)) < 0.1, name
        # the sandwich of a fit is corrected for few clusters, which sums cannot be
        ratio = fitted.report_.standard_errors[name] / errors
        assert ratio.min() > 0.9 and ratio.max() < 1.3, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_labels_go_on_from_a_fit_as_from_a_first_call():
    X, Y, *_ = datasets.make_rnn(80, 20, 4, 2, 3, random_state=0, noise=0.3)
    labels = Y.argmax(axis=2)
    fitted, partial = (
        SpectralRNNClassifier(2, refine="likelihood", random_state=0, engine="serial")
        for _ in range(2)
    )
    fitted.fit(X[:40], labels[:40]).partial_fit(X[40:], labels[40:])
    partial.partial_fit(X[:40], labels[:40], classes=[0, 1, 2]).partial_fit(X[40:], labels[40:])
    np.testing.assert_allclose(fitted.predict_proba(X), partial.predict_proba(X), atol=SEARCH_ENDS)


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            {"lags": 2},
            pytest.param({"fit_bias": False}, marks=pytest.mark.slow),
            {"direct": True},
            {"recurrence": None},
            pytest.param({"activation": "tanh"}, marks=pytest.mark.slow),
        ],
        2,
    ),
)
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_inputs_of_any_size_and_mean_give_the_same_weights_in_other_units(data, options):
    X, _, _, _ = data
    model = forward_network(5, 3, 4, seed=3, norm=0.05, lags=options.get("lags", 1))
    if options.get("activation"):
        model = model.replace(activation=options["activation"])
    noise = 0.1 * np.random.default_rng(1).normal(size=(*X.shape[:2], 4))
    Y = model.predict(X) + noise
    size = np.array([1.0, 1e3, 1e-3, 1.0, 1.0])
    free = options.get("fit_bias", True) and "lags" not in options
    mean = np.array([0.0, 2e3, 0.0, 5.0, 0.0]) * free
    found = []
    for inputs in (X, X * size + mean):
        est = SpectralRNNRegressor(3, random_state=0, **options)
        for part in (slice(0, 300), slice(300, 600)):
            est.partial_fit(inputs[part], Y[part])
        found.append(est.predict(inputs[:20]))
    assert np.sqrt(np.mean((found[0] - found[1]) ** 2)) < 0.05 * np.std(noise)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.AcceptanceWarning")
def test_labels_come_in_parts(data, partial):
    X, _, labels, _ = data
    est = copy(partial[1]).partial_fit(X[300:450], labels[300:450])
    est.partial_fit(X[450:], labels[450:])
    whole = SpectralRNNClassifier(3, random_state=0).fit(X, labels)
    assert est.score(X, labels) > whole.score(X, labels) - 0.005
    assert est.report_.sizes["steps"] == labels.size
    assert est.report_.accuracies.popitem()[1] > 0.5


@pytest.mark.slow
def test_a_label_that_comes_later_is_learned(data):
    X, _, labels, _ = data
    est, some = SpectralRNNClassifier(3, random_state=0), labels.copy()
    some[:300][some[:300] == "d"] = "a"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GloreeWarning)
        with pytest.warns(LabelWarning, match="labels d do not occur"):
            est.partial_fit(X[:300], some[:300], classes=LABELS)
        assert est.predict_proba(X)[..., 3].max() < 0.01
        est.partial_fit(X[300:], some[300:])
    share = est.predict_proba(X)[..., 3].mean()
    assert abs(share - np.mean(some == "d")) < 0.1


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.ConvergenceWarning")
def test_new_rows_of_another_system_are_noticed(data, partial):
    X, Y, *_ = data
    with pytest.warns(SpecificationWarning, match="no one set of weights fits the old and the new"):
        copy(partial[0]).partial_fit(X[300:], Y[300:] + 0.5 * X[300:, :, :1])


def test_new_inputs_of_another_law_are_noticed_and_those_of_the_same_are_not(data, partial):
    X, _, _, truth = data
    noise = 0.1 * np.random.default_rng(2).normal(size=(300, 12, 4))
    with pytest.warns(ScoreWarning, match="inputs of the new rows follow another law"):
        copy(partial[0]).partial_fit(1.6 * X[300:], truth.predict(1.6 * X[300:]) + noise)
    copy(partial[0]).partial_fit(X[300:], truth.predict(X[300:]) + noise)


def test_new_rows_that_are_far_off_are_left_out_and_named(data, partial):
    X, Y, *_ = data
    bad = Y.copy()
    bad[310] *= 30.0
    bad[320, 4, 1] += 1000.0
    wanted = copy(partial[0]).partial_fit(
        np.delete(X[300:], [10, 20], 0), np.delete(Y[300:], [10, 20], 0)
    )
    with pytest.warns(OutlierWarning, match=r"of sequence\(s\) 10, 20, were left out"):
        found = copy(partial[0]).partial_fit(X[300:], bad[300:])
    for name, values in wanted.model_.arrays().items():
        if values is not None:
            np.testing.assert_allclose(found.model_.arrays()[name], values, atol=ALGEBRA)


@pytest.mark.parametrize("size", [1, 3])
def test_a_few_steps_of_labels_are_no_reason_for_warnings(data, partial, size):
    """Weights move by a tenth of a standard error; what rows say of curvature is noise."""
    X, _, labels, _ = data
    classifier = copy(partial[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for first in range(300, 300 + 12 * size, size):
            classifier.partial_fit(X[first : first + size], labels[first : first + size])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.SpecificationWarning")
def test_weights_that_move_too_far_for_the_parabola_are_noticed(data, partial):
    X, Y, *_ = data
    with pytest.warns(ConvergenceWarning, match=r"weights moved by .* too far for the parabola"):
        copy(partial[0]).partial_fit(X[300:], Y[300:] + 0.5 * X[300:, :, :1])


@pytest.mark.slow
def test_files_pickles_and_clones_keep_or_forget_the_sums(data, partial, tmp_path):
    X, Y, labels, _ = data
    for est, outputs in zip(partial, (Y, labels), strict=True):
        est.save(tmp_path / "est.npz")
        read = type(est).load(tmp_path / "est.npz")
        read.partial_fit(X[300:], outputs[300:])
        other = copy(est).partial_fit(X[300:], outputs[300:])
        np.testing.assert_array_equal(vector(read.model_), vector(other.model_))
        assert not hasattr(clone(est), "model_")


def test_a_call_that_fails_changes_nothing(data, partial):
    X, Y, *_ = data
    est = copy(partial[0])
    before = vector(est.model_)
    with pytest.raises(ValueError, match=r"`X` drives every network"):
        est.partial_fit(1e6 * X[300:310], Y[300:310])
    np.testing.assert_array_equal(vector(est.model_), before)


def test_what_partial_fit_cannot_go_on_with_is_refused_by_name(data, partial, fitted):
    X, Y, labels, _ = data
    regressor, classifier = partial
    for options, message in (
        ({"refine": None}, "`refine`=None"),
        ({"activation": "linear"}, "activation='linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            SpectralRNNRegressor(3, **options).partial_fit(X, Y)
    with pytest.raises(ValueError, match="X has 4 features, but SpectralRNNRegressor is expecting"):
        regressor.partial_fit(X[..., :4], Y)
    with pytest.raises(ValueError, match="`Y` does not fit it"):
        regressor.partial_fit(X, Y[..., :3])
    with pytest.raises(ValueError, match="`n_hidden` is 4 and was 3 in the first call"):
        copy(regressor).set_params(n_hidden=4).partial_fit(X, Y)
    with pytest.raises(ValueError, match="`classes` must be passed on the first call"):
        SpectralRNNClassifier(3).partial_fit(X, labels)
    with pytest.raises(ValueError, match="labels z are not among the `classes`"):
        copy(classifier).partial_fit(X, np.where(labels == "a", "z", labels))
    with pytest.raises(ValueError, match=r"`classes` is .* and was"):
        copy(classifier).partial_fit(X, labels, classes=["a", "b"])
    with pytest.raises(ValueError, match="call `partial_fit` from the first rows on"):
        copy(fitted[1]).partial_fit(X, labels)


def test_parameters_that_are_others_than_in_the_first_call_are_refused_by_name(data):
    X, Y, *_ = data
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    est = SpectralRNNRegressor(3, output_weights=weights, random_state=0)
    est.partial_fit(X[:300], Y[:300]).set_params(output_weights=weights.copy(), batch_size=1000)
    est.partial_fit(X[300:400], Y[300:400])
    for name, value in (("output_weights", "equal"), ("moment", "score"), ("refine", "full")):
        other = copy(est).set_params(**{name: value})
        with pytest.raises(ValueError, match=f"`{name}` is .* in the first call of `partial_fit`"):
            other.partial_fit(X[400:], Y[400:])


def test_a_warm_start_ends_where_a_fit_from_moments_does(data):
    X, Y, *_ = data
    warm = SpectralRNNRegressor(3, random_state=0, warm_start=True).fit(X[:300], Y[:300])
    warm.fit(X, Y)
    whole = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    for name, errors in whole.report_.standard_errors.items():
        off = (getattr(warm.model_, name) - getattr(whole.model_, name)) / errors
        assert np.abs(off).max() < 0.35, name
    assert warm.report_.moment == "none (warm start)"
    assert [s.name for s in warm.report_.stages][:3] == ["data", "inputs", "weights so far"]
    assert warm.report_.sizes["steps"] == X.shape[0] * X.shape[1]


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_a_warm_start_with_the_same_data_stays_at_the_optimum(data, shift):
    X, Y, *_ = data
    est = SpectralRNNRegressor(3, random_state=0, warm_start=True, refine="full")
    est.fit(X + shift, Y)
    before = vector(est.model_)
    est.fit(X + shift, Y)
    np.testing.assert_allclose(vector(est.model_), before, rtol=1e-4, atol=1e-4)


def test_a_warm_classifier_goes_on(data, fitted):
    X, _, labels, _ = data
    est = copy(fitted[1]).fit(X, labels)
    assert est.report_.recurrence == "none (warm start)"
    assert est.score(X, labels) > fitted[1].score(X, labels) - 0.005
    with pytest.raises(ValueError, match="`warm_start`=True goes on from `model_`, whose labels"):
        copy(fitted[1]).fit(X, np.where(labels == "a", "b", labels))


def test_a_warm_start_from_other_data_is_refused_by_name(data, tmp_path):
    X, Y, *_ = data
    est = SpectralRNNRegressor(3, random_state=0, warm_start=True).fit(X[:300], Y[:300])
    for changes, message in (
        ({"n_hidden": 2}, "`n_hidden` does not fit it"),
        ({"activation": "tanh"}, "`activation` does not fit it"),
        ({"direct": True}, "`direct` does not fit it"),
        ({"lags": 2}, "`lags` does not fit it"),
        ({"recurrence": None}, "`recurrence`=None"),
        ({"fit_bias": False}, "`fit_bias`=False"),
        ({"bidirectional": True}, "`bidirectional` does not fit it"),
    ):
        with pytest.raises(ValueError, match=message):
            copy(est).set_params(**changes).fit(X, Y)
    with pytest.raises(ValueError, match="`X` does not fit it"):
        est.fit(X[..., :4], Y)
    with pytest.raises(ValueError, match="`checkpoint` is for fits that start anew"):
        est.fit(X, Y, checkpoint=tmp_path / "file")
    with pytest.raises(TypeError, match="`warm_start` must be True or False"):
        SpectralRNNRegressor(3, warm_start="yes").fit(X, Y)
    with pytest.raises(ValueError, match="activation='linear'"):
        SpectralRNNRegressor(3, activation="linear", warm_start=True).fit(X, Y)
