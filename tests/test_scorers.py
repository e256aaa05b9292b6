"""Scorers of sequences give what scikit-learn's give for the rows of all sequences."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from helpers.estimates import regressor
from helpers.marks import first_of
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import (
    get_scorer,
    log_loss,
    make_scorer,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
)
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline

from gloree import SpectralRNNClassifier, datasets
from gloree.metrics import sequence_scorer
from gloree.preprocessing import SequenceScaler

pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 3, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def fitted(data):
    return regressor(2).fit(*data)


@pytest.mark.parametrize("name", ["neg_mean_squared_error", "r2", "neg_median_absolute_error"])
def test_scores_of_regressors_are_those_of_the_rows(name, data, fitted):
    X, Y = data
    rows = Y.reshape(-1, 3)

    class Rows(RegressorMixin, BaseEstimator):
        def predict(self, flat):
            return fitted.predict(flat.reshape(X.shape)).reshape(-1, 3)

        def fit(self, X, y):
            return self

    expected = get_scorer(name)(Rows(), X.reshape(-1, 4), rows)
    assert sequence_scorer(name)(fitted, X, Y) == pytest.approx(expected)
    assert sequence_scorer(name)(fitted, list(X), list(Y)) == pytest.approx(expected)
    flat = sequence_scorer(name)(fitted, X.reshape(-1, 4), rows, lengths=[10] * 200)
    assert flat == pytest.approx(expected)


def test_steps_at_the_start_may_be_left_out(data, fitted):
    X, Y = data
    scorer = sequence_scorer("neg_mean_squared_error", skip=3)
    expected = -mean_squared_error(Y[:, 3:].reshape(-1, 3), fitted.predict(X)[:, 3:].reshape(-1, 3))
    for given in ((X, Y), (list(X), list(Y))):
        assert scorer(fitted, *given) == pytest.approx(expected)
    flat = scorer(fitted, X.reshape(-1, 4), Y.reshape(-1, 3), lengths=[10] * 200)
    assert flat == pytest.approx(expected)
    one = scorer(fitted, X[0], Y[0])
    assert one == pytest.approx(-mean_squared_error(Y[0, 3:], fitted.predict(X[0])[3:]))
    with pytest.raises(ValueError, match="`skip`=10 leaves no steps: the longest sequence has 10"):
        sequence_scorer("r2", skip=10)(fitted, X, Y)
    with pytest.raises(ValueError, match="`skip` must be an integer of at least 0"):
        sequence_scorer("r2", skip=-1)


def test_one_output_may_come_without_its_axis(data):
    X, Y = data
    est = regressor(2, recurrence=None).fit(X, Y[..., 0])
    found = sequence_scorer("r2")(est, X, Y[..., 0])
    assert found == pytest.approx(r2_score(Y[..., 0].ravel(), est.predict(X).ravel()))
    assert sequence_scorer("r2")(est, list(X), list(Y[..., 0])) == pytest.approx(found)


def test_scorers_of_ones_own(data, fitted):
    X, Y = data
    own = sequence_scorer(
        make_scorer(lambda y, p: float(np.abs(y - p).max()), greater_is_better=False)
    )
    assert own(fitted, X, Y) == pytest.approx(-np.abs(Y - fitted.predict(X)).max())
    with pytest.raises(ValueError, match="'nonsense'"):
        sequence_scorer("nonsense")


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "neg_log_loss", "roc_auc"])
def test_scores_of_classifiers(name, data):
    X, Y = data
    labels = np.where(Y[..., 0] > 0.3, "yes", "no")
    clf = SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0).fit(X, labels)
    found = sequence_scorer(name)(clf, X, labels)
    assert sequence_scorer(name)(clf, list(X), list(labels)) == pytest.approx(found)
    flat = get_scorer(name)(clf, X.reshape(-1, 4), labels.ravel())  # no recurrence: rows alone
    assert found == pytest.approx(flat)
    if name == "neg_log_loss":
        assert found == pytest.approx(
            -log_loss(labels.ravel(), clf.predict_proba(X).reshape(-1, 2))
        )


def test_cross_validation_of_sequences_is_a_number(data):
    X, Y = data
    scorer = sequence_scorer("neg_mean_squared_error")
    found = cross_val_score(regressor(2), X, Y, cv=KFold(2), scoring=scorer, error_score="raise")
    assert np.isfinite(found).all()
    for fold, (train, test) in enumerate(KFold(2).split(X)):
        predicted = regressor(2).fit(X[train], Y[train]).predict(X[test])
        assert found[fold] == pytest.approx(-np.mean((Y[test] - predicted) ** 2))


@pytest.mark.slow
def test_lengths_and_groups_go_through_cross_validation(data):
    X, Y = data
    lengths = np.random.default_rng(0).integers(4, 11, len(X))
    padded, outputs = X.copy(), Y.copy()
    for i, length in enumerate(lengths):
        padded[i, length:] = outputs[i, length:] = np.nan
    lists = tuple([v[:n] for v, n in zip(values, lengths, strict=True)] for values in data)
    expected = cross_val_score(regressor(2), *lists, cv=KFold(3), error_score="raise")
    squares = cross_val_score(
        regressor(2), *lists, cv=KFold(3), scoring=sequence_scorer("neg_mean_squared_error")
    )
    groups = np.arange(len(X)) % 7
    by_group = cross_val_score(regressor(2), *lists, cv=GroupKFold(3), groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        est = regressor(2).set_fit_request(lengths=True).set_score_request(lengths=True)
        given = {"params": {"lengths": lengths}, "error_score": "raise"}
        found = cross_validate(est, padded, outputs, cv=KFold(3), **given)
        np.testing.assert_allclose(found["test_score"], expected)
        pipe = make_pipeline(SequenceScaler().set_fit_request(lengths=True), est)
        found = cross_validate(pipe, padded, outputs, cv=KFold(3), **given)
        np.testing.assert_allclose(found["test_score"], expected, rtol=1e-3)
        scorer = sequence_scorer("neg_mean_squared_error").set_score_request(lengths=True)
        found = cross_validate(est, padded, outputs, cv=KFold(3), scoring=scorer, **given)
        np.testing.assert_allclose(found["test_score"], squares)
        given["params"] = {"lengths": lengths, "groups": groups}
        found = cross_validate(est, padded, outputs, cv=GroupKFold(3), **given)
        np.testing.assert_allclose(found["test_score"], by_group)


def test_flat_data_and_lengths_do_not_go_through_cross_validation_and_say_so(data):
    X, Y = data
    with pytest.raises(ValueError, match="give it a list of sequences, or a padded array"):
        cross_val_score(
            regressor(2),
            X.reshape(-1, 4),
            Y.reshape(-1, 3),
            params={"lengths": [10] * 200},
            cv=2,
            error_score="raise",
        )


def test_labels_of_padded_arrays(data):
    X, Y = data
    labels = np.where(Y[..., 0] > 0.3, "yes", "no")
    lengths = np.random.default_rng(1).integers(4, 11, len(X))
    padded = X.copy()
    for i, length in enumerate(lengths):
        padded[i, length:] = np.nan
    clf = SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0)
    cut = [v[:n] for v, n in zip(X, lengths, strict=True)]
    of_steps = [v[:n] for v, n in zip(labels, lengths, strict=True)]
    expected = clf.fit(cut, of_steps).model_
    assert clf.fit(padded, labels, lengths=lengths).model_ == expected
    assert clf.score(padded, labels, lengths=lengths) == clf.score(cut, of_steps)


@pytest.mark.parametrize("name", ["fit", "score"])
def test_lengths_by_the_habit_of_hmmlearn_get_a_message(name, data, fitted):
    X, _ = data
    with pytest.raises(ValueError, match=r"go by name, fit\(X, Y, lengths=lengths\)"):
        getattr(fitted, name)(X.reshape(-1, 4), [10] * 200)


# -- scorers of rows, given by their names ------------------------------------------------------


@pytest.mark.parametrize(
    "name", first_of(["neg_mean_squared_error", "r2", "neg_mean_absolute_error"])
)
@pytest.mark.parametrize("form", [np.asarray, list], ids=["array", "list"])
def test_a_plain_name_for_sequences_says_what_to_write(name, form, data, fitted):
    X, Y = (form(values) for values in data)
    advice = rf"sequence_scorer\('{name}'\)"
    with pytest.raises(ValueError, match=advice):
        get_scorer(name)(fitted, X, Y)
    with pytest.raises(ValueError, match=advice):
        pipeline = make_pipeline(SequenceScaler(), regressor(2))
        GridSearchCV(
            pipeline,
            {"spectralrnnregressor__n_hidden": [2]},
            cv=2,
            scoring=name,
            error_score="raise",
        ).fit(X, Y)
    with pytest.warns(UserWarning, match=advice):
        assert np.isnan(cross_val_score(regressor(2), X, Y, cv=2, scoring=name)).all()


def test_labels_are_not_scored_by_whole_sequences(data):
    X, Y = data
    labels = (Y[..., 0] > 0).astype(int) + (Y[..., 1] > 0)
    clf = SpectralRNNClassifier(2, random_state=0).fit(X, labels)
    with pytest.raises(ValueError, match=r"sequence_scorer\('accuracy'\)"):
        get_scorer("accuracy")(clf, X, labels)
    assert sequence_scorer("accuracy")(clf, X, labels) == pytest.approx(clf.score(X, labels))


@pytest.mark.slow
def test_scorers_that_are_right_are_let_through(data, fitted):
    X, Y = data
    rows, outputs = X.reshape(-1, 4), Y.reshape(-1, 3)
    assert get_scorer("r2")(fitted, rows, outputs) > 0.9
    own = make_scorer(lambda y, predicted: -np.mean((y - predicted) ** 2))
    assert own(fitted, X, Y) == pytest.approx(
        sequence_scorer("neg_mean_squared_error")(fitted, X, Y)
    )
    one = regressor(2, activation="cubic").fit(X, Y[..., 0])
    for name in ("neg_mean_squared_error", "neg_mean_absolute_error"):
        same = sequence_scorer(name)(one, X, Y[..., 0])
        assert get_scorer(name)(one, X, Y[..., 0]) == pytest.approx(same)
    with pytest.raises(ValueError, match=r"sequence_scorer\('r2'\)"):
        get_scorer("r2")(one, X, Y[..., 0])
    with pytest.raises(ValueError, match=r"sequence_scorer\(make_scorer\(mean_pinball_loss"):
        make_scorer(mean_pinball_loss, alpha=0.3)(fitted, X, Y)


def test_a_metric_in_the_place_of_a_scorer_says_what_to_write():
    with pytest.raises(ValueError, match=r"make_scorer\(mean_squared_error\)"):
        sequence_scorer(mean_squared_error)


def test_a_scorer_without_outputs_says_what_to_use():
    with pytest.raises(ValueError, match="`Y` is missing: a scorer of sequences"):
        sequence_scorer("r2")(BaseEstimator(), [np.zeros((3, 1))], None)
