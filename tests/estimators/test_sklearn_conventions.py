"""What scikit-learn's tools ask of an estimator: its kind, clones, pickles, names of arguments."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
from helpers.estimates import regressor
from helpers.marks import first_of
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gloree import (
    Engine,
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    SystemIdentifier,
    datasets,
)
from gloree.engine import DaskEngine
from gloree.models import IORNN

pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 3, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def record():
    """One record of one output of a linear network: what scikit-learn's ensembles take."""
    rng = np.random.default_rng(1)
    model = IORNN([[1.0, -0.5]], [[0.6]], [[2.0]], activation="linear")
    X = rng.standard_normal((600, 2))
    return X, model.predict(X)[:, 0] + 0.1 * rng.standard_normal(600)


def linear(**options):
    return SpectralRNNRegressor(1, activation="linear", **options)


def classifier(**options):
    return SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0, **options)


# -------------------------------------------------------------------------------- kind and tools


@pytest.mark.parametrize("kind", [SpectralRNNRegressor, SystemIdentifier])
def test_regressors_are_regressors(kind):
    assert is_regressor(kind()) and not is_classifier(kind())


def test_classifiers_are_classifiers():
    assert is_classifier(SpectralRNNClassifier()) and not is_regressor(SpectralRNNClassifier())


def test_tags_say_what_the_estimators_take():
    get_tags = pytest.importorskip("sklearn.utils").__dict__.get("get_tags")
    if get_tags is None:
        pytest.skip("this scikit-learn has no get_tags")
    for kind, of in (
        (SpectralRNNRegressor, "regressor"),
        (SystemIdentifier, "regressor"),
        (SpectralRNNClassifier, "classifier"),
    ):
        tags = get_tags(kind())
        assert tags.estimator_type == of
        assert tags.target_tags.required
        assert tags.target_tags.multi_output == (of == "regressor")
        assert tags.input_tags.two_d_array and tags.input_tags.three_d_array
        assert not tags.input_tags.allow_nan and not tags.input_tags.sparse


@pytest.mark.slow
def test_ensembles_of_scikit_learn_take_our_regressors(record):
    X, y = record
    members = [("ours", linear()), ("theirs", LinearRegression())]
    vote = VotingRegressor(members).fit(X, y)
    parts = [linear().fit(X, y).predict(X), LinearRegression().fit(X, y).predict(X)]
    np.testing.assert_allclose(vote.predict(X), np.mean(parts, axis=0))
    stack = StackingRegressor(members, cv=3).fit(X, y)
    # noise of .1 under a signal of size 2; the linear regression alone sees one step only
    assert stack.score(X, y) > 0.99 > LinearRegression().fit(X, y).score(X, y)


@pytest.mark.slow
def test_pipelines_and_searches_take_our_estimators(data):
    X, Y = data
    flat, outputs = X.reshape(-1, 4), Y.reshape(-1, 3)
    pipe = make_pipeline(StandardScaler(), regressor(2)).fit(flat, outputs)
    assert pipe.n_features_in_ == 4 and pipe.predict(flat).shape == outputs.shape
    search = GridSearchCV(regressor(2), {"n_hidden": np.array([1, 2], dtype=np.int8)}, cv=2)
    assert search.fit(X, Y).best_params_ == {"n_hidden": 2}


@pytest.mark.slow
def test_areas_under_the_curve_of_two_classes_are_those_of_the_probabilities(data):
    X, Y = data
    X = X.reshape(-1, 4)
    for labels in (
        np.where(Y[..., 0] > 0, "yes", "no").ravel(),
        (Y[..., 0] > 0).ravel(),
        (Y[..., 0] > 0).astype(float).ravel(),
    ):
        scores = cross_val_score(classifier(), X, labels, cv=KFold(2), scoring="roc_auc")
        expected = []
        for train, test in KFold(2).split(X):
            clf = classifier().fit(X[train], labels[train])
            of_second = clf.predict_proba(X[test])[:, 1]
            expected.append(roc_auc_score(labels[test] == clf.classes_[1], of_second))
        np.testing.assert_allclose(scores, expected)
        assert min(scores) > 0.7
    for scoring in ("accuracy", "f1_macro", "neg_log_loss", "neg_brier_score", "average_precision"):
        found = cross_val_score(
            classifier(), X, (Y[..., 0] > 0).ravel(), cv=KFold(2), scoring=scoring
        )
        assert np.isfinite(found).all()


@pytest.mark.parametrize("readout", ["logistic", "least-squares"])
def test_decisions_between_two_classes_are_one_number_a_step(readout, data):
    X, Y = data
    labels = np.where(Y[..., 0] > 0, "yes", "no")
    clf = classifier(readout=readout).fit(X, labels)
    decisions = clf.decision_function(X)
    assert decisions.shape == labels.shape
    np.testing.assert_array_equal(clf.classes_[(decisions > 0).astype(int)], clf.predict(X))
    if readout == "logistic":
        odds = clf.predict_proba(X)
        np.testing.assert_allclose(decisions, np.log(odds[..., 1] / odds[..., 0]), atol=1e-6)
    listed = clf.decision_function(list(X))
    np.testing.assert_array_equal(np.array(listed), decisions)


@pytest.mark.slow
def test_decisions_among_three_classes_are_a_number_for_each(data):
    X, Y = data
    clf = classifier().fit(X, Y.argmax(axis=2))
    assert clf.decision_function(X).shape == (*X.shape[:2], 3)
    scores = cross_val_predict(
        classifier(),
        X.reshape(-1, 4),
        Y.argmax(axis=2).ravel(),
        cv=KFold(2),
        method="decision_function",
    )
    assert scores.shape == (2000, 3)


# --------------------------------------------------------------------------- names of arguments


@pytest.mark.slow
def test_outputs_may_be_called_y(data):
    X, Y = data
    given = regressor(2).fit(X, Y)
    for named in (regressor(2).fit(X, y=Y), regressor(2).fit(X=X, Y=Y)):
        assert named.model_ == given.model_
    assert given.score(X, y=Y) == given.score(X, Y=Y) == given.score(X, Y)
    with pytest.raises(TypeError, match="`Y` and `y` are one argument: give one of them"):
        given.fit(X, Y, y=Y)
    with pytest.raises(TypeError, match="`Y` and `y` are one argument"):
        given.score(X, Y, y=Y)


@pytest.mark.slow
def test_labels_may_be_called_y(data):
    X, Y = data
    labels = Y.argmax(axis=2)
    given = classifier().fit(X, labels)
    for named in (classifier().fit(X, y=labels), classifier().fit(X, labels=labels)):
        assert named.model_ == given.model_
    assert given.score(X, y=labels) == given.score(X, labels=labels) == given.score(X, labels)
    with pytest.raises(TypeError, match="`y` and `labels` are one argument"):
        given.fit(X, labels, labels=labels)
    with pytest.raises(TypeError, match="`y` and `labels` are one argument"):
        given.score(X, labels, labels=labels)


# --------------------------------------------------------------------------- NumPy's own scalars

SMALL = {
    "n_hidden": np.int8(2),
    "lags": np.uint8(1),
    "max_rounds": np.int16(3),
    "batch_size": np.int16(500),
    "memory_limit": np.int32(2**30),
    "verbose": np.int8(0),
    "random_state": np.uint8(0),
    "direct": np.bool_(True),
    "fit_bias": np.bool_(False),
    "bidirectional": np.bool_(False),
}


def plain(options):
    return {name: value.item() for name, value in options.items()}


@pytest.mark.slow
def test_small_numbers_of_numpy_are_parameters(data):
    X, Y = data
    small, usual = SpectralRNNRegressor(**SMALL), SpectralRNNRegressor(**plain(SMALL))
    assert small.fit(X, Y).model_ == usual.fit(X, Y).model_
    assert small.score(X, Y, skip=np.int8(2)) == usual.score(X, Y, skip=2)
    labels = Y.argmax(axis=2)
    small, usual = classifier(), classifier()
    for est, options in ((small, SMALL), (usual, plain(SMALL))):
        est.set_params(**options).fit(X, labels)
    assert small.model_ == usual.model_


@pytest.mark.slow
def test_small_pairs_of_units_do_not_overflow(data):
    X, Y = data
    options = {"bidirectional": True, "random_state": 0}
    small = SpectralRNNRegressor((np.int8(1), np.int8(1)), **options).fit(X, Y)
    assert small.model_ == SpectralRNNRegressor((1, 1), **options).fit(X, Y).model_
    # 100 + 100 is -56 in eight bits
    with pytest.raises(ValueError, match="2000 steps of 3 outputs for 21603 unknown weights"):
        SpectralRNNRegressor((np.int8(100), np.int8(100)), **options).fit(X, Y)


@pytest.mark.slow
def test_small_numbers_are_parameters_of_an_identifier(record):
    X, y = record
    small = SystemIdentifier(
        np.int8(1), np.uint8(0), max_seconds=np.float32(60), verbose=np.int8(0)
    )
    assert small.fit(X, y).model_ == SystemIdentifier(1, 0, max_seconds=60.0).fit(X, y).model_


def test_a_checkpoint_does_not_tell_numbers_of_numpy_from_others(data, tmp_path):
    X, Y = data
    first = regressor(np.int8(2)).fit(X, Y, checkpoint=tmp_path / "fit")
    again = regressor(2).fit(X, Y, checkpoint=tmp_path / "fit")
    assert again.model_ == first.model_


# -------------------------------------------------------------------------------- random states


@pytest.mark.slow
def test_a_random_state_of_numpy_seeds_a_fit(data):
    X, Y = data

    def fit(state):
        return regressor(2, random_state=state).fit(X, Y).model_

    assert fit(np.random.RandomState(7)) == fit(np.random.RandomState(7))
    state = np.random.RandomState(7)
    fit(state)
    # the state was drawn from, as by scikit-learn's estimators
    assert state.randint(2**31) != np.random.RandomState(7).randint(2**31)
    est = regressor(2, random_state=np.random.RandomState(7))
    assert clone(est).fit(X, Y).model_ == est.fit(X, Y).model_
    assert cross_val_score(est, X, Y, cv=2).min() > 0.9


# --------------------------------------------------------------------- copies, pickles, and clients


class Connection:
    """Like a Dask client: it cannot be copied, pickled or shared with another process."""

    status = "running"

    def submit(self, *arguments):
        raise AssertionError

    def __reduce__(self):
        raise TypeError("cannot pickle '_asyncio.Task' object")


@pytest.fixture
def connection(monkeypatch):
    monkeypatch.setattr(Connection, "__module__", "distributed.client")
    return Connection()


ESTIMATORS = [SpectralRNNRegressor, SpectralRNNClassifier, SystemIdentifier]


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: DaskEngine("dask", client=c)])
def test_copies_share_a_client_and_pickles_leave_it(kind, wrap, connection):
    engine = wrap(connection)
    est = kind(2, random_state=3, engine=engine)
    for copied in (clone(est), copy.copy(est), copy.deepcopy(est)):
        assert copied is not est and type(copied) is kind
        assert copied.get_params() == est.get_params()
        assert copied.engine is engine
    nested = copy.deepcopy([est, est])
    assert nested[0] is nested[1] and nested[0].engine is engine
    read = pickle.loads(pickle.dumps(est))
    assert read.engine is None
    assert {**read.get_params(), "engine": engine} == est.get_params()
    assert est.engine is engine


def test_a_fitted_estimator_with_a_client_goes_into_a_file(data, connection):
    X, Y = data
    est = regressor(2).fit(X, Y)
    est.engine = connection
    file = io.BytesIO()
    pickle.dump(est, file)
    file.seek(0)
    read = pickle.load(file)
    np.testing.assert_array_equal(read.predict(X), est.predict(X))
    assert not hasattr(clone(est), "model_")
    assert copy.deepcopy(est).model_ == est.model_


@pytest.mark.parametrize("engine", [None, "serial", Engine("threads", n_workers=2)])
def test_other_engines_stay_in_a_pickle(engine, data):
    X, Y = data
    est = regressor(2, engine=engine).fit(X, Y)
    read = pickle.loads(pickle.dumps(est))
    assert read.engine == engine
    assert read.fit(X, Y).model_ == est.model_


@pytest.mark.slow
def test_a_client_of_dask_stays_through_cross_validation(data):
    distributed = pytest.importorskip("distributed")
    X, Y = data
    expected = cross_val_score(regressor(2), X, Y, cv=2)
    with distributed.Client(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as client:
        est = regressor(2, engine=client)
        np.testing.assert_array_equal(cross_val_score(est, X, Y, cv=2), expected)
        assert clone(est).engine is client
        est.fit(X, Y)
        content = pickle.dumps(est)
    read = pickle.loads(content)
    np.testing.assert_array_equal(read.predict(X), regressor(2).fit(X, Y).predict(X))


# ----------------------------------------------------------------------------- records of one kind


@pytest.mark.parametrize("n_hidden", first_of([2, None]))
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_record_is_enough_for_a_classifier(n_hidden, bidirectional):
    """Its last stretches are held out, where there are no other sequences to hold out."""
    X, Y, _, _ = datasets.make_rnn(1, 2000, 4, 2, 3, random_state=0)
    labels = Y.argmax(axis=2)
    clf = SpectralRNNClassifier(n_hidden, bidirectional=bidirectional, random_state=0)
    clf.fit(X, labels)
    assert "refined, held out" in clf.report_.accuracies
    assert clf.score(X, labels) > 0.8
    flat = SpectralRNNClassifier(n_hidden, bidirectional=bidirectional, random_state=0)
    assert flat.fit(X[0], labels[0]).model_ == clf.model_


def test_measurements_are_no_labels(data):
    X, Y = data
    with pytest.raises(
        ValueError, match="Unknown label type: `labels` is a continuous target, 2000"
    ):
        classifier().fit(X, Y[..., 0])
    # but numbers with fractions that come again and again are
    halves = Y.argmax(axis=2) / 2
    assert classifier().fit(X, halves).classes_.tolist() == [0.0, 0.5, 1.0]
