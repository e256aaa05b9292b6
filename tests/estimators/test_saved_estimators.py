"""Estimators in files without pickles: read back, everything is the same; nothing else is read."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pickle
import warnings

import numpy as np
import pytest
import sklearn
from helpers.estimates import regressor
from helpers.marks import first_of
from sklearn.exceptions import NotFittedError

from gloree import (
    IORNN,
    GaussianVAR,
    SpectralRNNClassifier,
    SpectralRNNRegressor,
    SystemIdentifier,
    datasets,
)
from gloree.activations import Polynomial, quadratic
from gloree.chains import StudentVAR, SwitchingVAR, fingerprint
from gloree.estimators import _saving
from gloree.models import FormatError
from gloree.refinement import GaussNewton
from gloree.score_functions import partial_score

pytestmark = pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(200, 10, 4, 2, 3, random_state=0)
    return X, Y


def same(one, other):
    """Whether two trees of values are the same, arrays to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind in "fc"
        )
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def read_back(est, path):
    est.save(path)
    with np.load(path) as file:  # no pickles, by NumPy's own word
        assert all(file[name].dtype.kind != "O" for name in file.files)
    return type(est).load(path)


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            {},
            {"bidirectional": True},
            {
                "refine": GaussNewton(to_convergence=True),
                "random_state": np.int8(3),
                "direct": True,
            },
            {"activation": Polynomial([0.5, 1.0, 0.3])},
            {"moment": "score"},
            pytest.param({"activation": "linear", "n_hidden": 1}, marks=pytest.mark.slow),
            {"lags": 2, "recurrence": None},
            {"n_hidden": (1, 1), "bidirectional": True},
            {"chain": GaussianVAR(0.5 * np.eye(4)[None], np.eye(4))},
            {"output_weights": (1.0, 2.0, 3.0)},
            {"activation": "softplus"},
        ],
        5,
    ),
    ids=lambda options: "-".join(options) or "default",
)
def test_regressors_come_back_as_they_were(options, data, tmp_path):
    X, Y = data
    est = SpectralRNNRegressor(**{"n_hidden": 2, "random_state": 0, **options}).fit(X, Y)
    read = read_back(est, tmp_path / "fit.npz")
    assert read.model_ == est.model_
    np.testing.assert_array_equal(read.predict(X), est.predict(X))
    assert same(read.report_, est.report_) and str(read.report_) == str(est.report_)
    if options.get("activation") != "linear":
        assert same(read.report_.intervals(), est.report_.intervals())
    assert repr(read.chain_) == repr(est.chain_)
    kept = {k: v for k, v in est.get_params().items() if k != "chain"}
    assert {k: read.get_params()[k] for k in kept} == kept
    assert read.fit(X, Y).model_ == est.fit(X, Y).model_


@pytest.mark.parametrize("kind", [str, int, bool, "datetime64[D]", object])
def test_classifiers_keep_the_type_of_their_labels(kind, data, tmp_path):
    X, Y = data
    labels = (Y[..., 0] > 0.3).astype(int)
    labels = np.where(labels, "yes", "no").astype(object) if kind is object else labels.astype(kind)
    est = SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0).fit(X, labels)
    read = read_back(est, tmp_path / "fit")
    assert same(read.classes_, est.classes_)
    assert same(read.predict(X), est.predict(X))
    np.testing.assert_array_equal(read.predict_proba(X), est.predict_proba(X))


@pytest.mark.slow
def test_identifiers_come_back_with_their_views(tmp_path):
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal(1200), np.zeros(1200)
    for t in range(1, 1200):
        y[t] = 0.7 * y[t - 1] + np.tanh(u[t - 1]) + 0.05 * rng.standard_normal()
    est = SystemIdentifier(1, 1, unit="polynomial", dt=0.1, max_seconds=2).fit(u, y)
    read = read_back(est, tmp_path / "fit.npz")
    assert same(read.report_, est.report_)
    for name in ("model_", "linear_model_", "moments_model_"):
        assert getattr(read, name) == getattr(est, name)
    np.testing.assert_array_equal(read.predict(u), est.predict(u))
    records = {"records": (u, y)}
    intervals = (each.prediction_intervals(u[:50], **records) for each in (read, est))
    assert same(*[each.upper for each in intervals])
    assert str(read.residual_tests(u, y)) == str(est.residual_tests(u, y))


def test_names_of_columns_come_back(data, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, Y = (values.reshape(-1, values.shape[2]) for values in data)
    frames = (pandas.DataFrame(X, columns=list("abcd")), pandas.DataFrame(Y, columns=list("xyz")))
    read = read_back(regressor(2).fit(*frames, lengths=[10] * 200), tmp_path / "fit")
    assert read.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="must be in the same order"):
        read.predict(frames[0][list("bacd")])
    with pytest.raises(ValueError, match="in fit it had"):
        read.score(frames[0], frames[1][list("yxz")])


class Own(Polynomial):
    """A user's own activation."""

    @property
    def name(self):
        return "own"


def test_ones_own_objects_are_refused_when_saved(data, tmp_path):
    X, Y = data
    own = Own(quadratic.coefficients)
    model = IORNN(np.eye(2), None, np.eye(2), activation=own)
    for save in (model.save, regressor(2, activation=own).fit(X, Y).save):
        with pytest.raises(TypeError, match="`activation` is of the class Own, which no file can"):
            save(tmp_path / "file")

    class Law(GaussianVAR):
        pass

    law = Law(0.5 * np.eye(4)[None], np.eye(4))
    with pytest.raises(TypeError, match="`chain` is of type Law, which a file without pickles"):
        regressor(2, chain=law).fit(X, Y).save(tmp_path / "file")
    days = np.where(Y[..., 0] > 0, datetime.date(2020, 1, 1), datetime.date(2021, 1, 1))
    est = SpectralRNNClassifier(2, recurrence=None, refine=None, random_state=0).fit(X, days)
    with pytest.raises(TypeError, match="`classes_` is of type date"):
        est.save(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []  # no half-written file


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("kind", [StudentVAR, SwitchingVAR])
def test_laws_of_other_kinds_come_back_to_the_last_bit(kind, fitted, data, tmp_path):
    X, Y = data
    if fitted:
        law = kind.fit(X)
    elif kind is StudentVAR:
        law = StudentVAR(0.5 * np.eye(4), np.eye(4), 7, np.ones(4), initial_scale=2.0 * np.eye(4))
    else:
        phi = [0.5 * np.eye(4), -0.3 * np.eye(4), np.zeros((4, 4))]
        start = [np.eye(4)] * 3
        chance = [[0.7, 0.1, 0.2], [0.3, 0.3, 0.4], [1 / 3, 1 / 3, 1 / 3]]
        law = SwitchingVAR(phi, start, chance, initial_covariances=start)
    est = SpectralRNNRegressor(2, chain=law, random_state=0, engine="serial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X, Y)
    read = read_back(est, tmp_path / "fit")
    for found in (read.chain, read.chain_):
        assert type(found) is kind
        assert fingerprint(found) == fingerprint(law)
        np.testing.assert_array_equal(partial_score(found, X[:3]), partial_score(law, X[:3]))
        np.testing.assert_array_equal(
            found.sample(2, 3, random_state=0), law.sample(2, 3, random_state=0)
        )
    np.testing.assert_array_equal(read.predict(X), est.predict(X))


def test_what_belongs_to_a_process_stays_there(data, tmp_path):
    X, Y = data
    est = regressor(2, random_state=np.random.default_rng(0), engine="serial").fit(X, Y)
    read = read_back(est, tmp_path / "fit")
    assert read.engine is None and read.random_state is None
    with sklearn.config_context(enable_metadata_routing=True):
        est.set_fit_request(lengths=True)
        assert read_back(est, tmp_path / "fit").model_ == est.model_


def test_nothing_else_is_read(data, tmp_path):
    X, Y = data
    est, path = regressor(2).fit(X, Y), tmp_path / "fit.npz"
    est.save(path)
    with pytest.raises(FormatError, match=r"holds a SpectralRNNRegressor, not a SystemIdentifier"):
        SystemIdentifier.load(path)
    est.model_.save(tmp_path / "model")
    with pytest.raises(FormatError, match=r"not a gloree-estimator file \(a model is read by"):
        SpectralRNNRegressor.load(tmp_path / "model")
    with pytest.raises(FormatError, match="not a gloree-model file"):
        IORNN.load(path)
    (tmp_path / "pickle").write_bytes(pickle.dumps(est))
    with pytest.raises(FormatError):
        SpectralRNNRegressor.load(tmp_path / "pickle")
    with pytest.raises(FileNotFoundError):
        SpectralRNNRegressor.load(tmp_path / "none")
    with pytest.raises(NotFittedError):
        regressor(2).save(tmp_path / "unfitted")


@pytest.mark.parametrize(
    "change",
    first_of(
        [
            {"version": 2},
            {"learned": {}},
            {"parameters": {"nonsense": 1}},
            {"learned": {"model_": {"class": "Popen", "fields": {"args": "ls"}}}},
            {"learned": {"model_": {"warning": "np"}}},
            {"learned": {"model_": {"array": "missing"}}},
            {"learned": 3},
            {"format": "other"},
        ],
        2,
    ),
    ids=str,
)
def test_damaged_files_are_refused(change, data, tmp_path):
    est, path = regressor(2).fit(*data), tmp_path / "fit.npz"
    est.save(path)
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    description = {**json.loads(str(content[_saving.DESCRIPTION])), **change}
    content[_saving.DESCRIPTION] = np.array(json.dumps(description))
    np.savez(path, **content)
    with pytest.raises(FormatError):
        SpectralRNNRegressor.load(path)
