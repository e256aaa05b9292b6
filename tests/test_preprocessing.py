"""The scaler of sequences: the same numbers as scikit-learn's for rows, in every form."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from helpers.estimates import regressor
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from gloree import IORNN, datasets
from gloree.models import BRNN
from gloree.preprocessing import SequenceScaler

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 5, 3)) * [1.0, 1000.0, 1e-3] + [5.0, -3000.0, 0.0]
LENGTHS = (5, 5, 5, 2, 1, 4)
ROWS = StandardScaler().fit_transform(X.reshape(-1, 3))


def test_every_form_is_scaled_as_its_rows():
    np.testing.assert_allclose(SequenceScaler().fit_transform(X), ROWS.reshape(X.shape))
    np.testing.assert_allclose(SequenceScaler().fit_transform(X.reshape(-1, 3)), ROWS)
    listed = SequenceScaler().fit_transform([x[:n] for x, n in zip(X, LENGTHS, strict=True)])
    assert [part.shape for part in listed] == [(n, 3) for n in LENGTHS]
    kept = np.concatenate([x[:n] for x, n in zip(X, LENGTHS, strict=True)])
    np.testing.assert_allclose(np.concatenate(listed), StandardScaler().fit_transform(kept))


def test_padding_does_not_count_and_stays():
    lengths = np.array(LENGTHS)
    padded = X.copy()
    for i, length in enumerate(lengths):
        padded[i, length:] = np.nan
    scaler = SequenceScaler().fit(padded, lengths=lengths)
    kept = np.concatenate([x[:n] for x, n in zip(X, lengths, strict=True)])
    np.testing.assert_allclose(scaler.mean_, kept.mean(axis=0))
    assert scaler.n_samples_seen_ == lengths.sum()
    np.testing.assert_array_equal(np.isnan(scaler.transform(padded)), np.isnan(padded))


def test_the_inverse_is_one():
    scaler = SequenceScaler().fit(X)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)
    for options in ({"with_mean": False}, {"with_std": False}):
        scaler = SequenceScaler(**options).fit(X)
        assert scaler.get_params() == clone(scaler).get_params()
        np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)
    assert not SequenceScaler(with_mean=False).fit(X).mean_.any()
    assert (SequenceScaler(with_std=False).fit(X).scale_ == 1.0).all()


def test_constant_columns_are_centred_and_left():
    constant = np.full((4, 2), 0.1)
    np.testing.assert_allclose(SequenceScaler().fit_transform(constant), 0.0, atol=1e-15)


def networks():
    direct = rng.normal(size=(3, 2))
    yield IORNN(rng.normal(size=(2, 3)), 0.1 * np.eye(2), np.eye(2), [0.1, 0.2], [1.0, 2.0], direct)
    yield datasets.random_brnn(3, 2, 1, 2, random_state=0)


@pytest.mark.parametrize("model", list(networks()), ids=lambda model: type(model).__name__)
def test_networks_in_units_of_the_data_predict_the_same(model):
    scaler = SequenceScaler().fit(X)
    unscaled = scaler.unscale(model)
    assert isinstance(unscaled, BRNN) == isinstance(model, BRNN)
    expected = model.predict(scaler.transform(X))
    np.testing.assert_allclose(unscaled.predict(X), expected, rtol=1e-9, atol=1e-9)


def test_windows_begin_with_zeros_which_are_the_mean_of_scaled_inputs():
    model = IORNN(rng.normal(size=(2, 6)), 0.1 * np.eye(2), np.eye(2), lags=2)
    with pytest.raises(ValueError, match="windows of inputs, which begin with zeros"):
        SequenceScaler().fit(X).unscale(model)
    scaler = SequenceScaler(with_mean=False).fit(X)
    expected = model.predict(scaler.transform(X))
    np.testing.assert_allclose(scaler.unscale(model).predict(X), expected)
    with pytest.raises(ValueError, match="`model` has 3 inputs, the scaler has 2"):
        SequenceScaler().fit(X[..., :2]).unscale(model)


def test_names_of_columns_and_tables():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X.reshape(-1, 3), columns=["a", "b", "c"])
    scaler = SequenceScaler().set_output(transform="pandas").fit(table)
    assert scaler.feature_names_in_.tolist() == scaler.get_feature_names_out().tolist()
    made = scaler.transform(table)
    assert isinstance(made, pandas.DataFrame) and made.columns.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(made.to_numpy(), ROWS)
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        scaler.transform(table[["b", "a", "c"]])
    with pytest.raises(ValueError, match="`X` is a list of sequences, of which set_output"):
        scaler.transform([table, table])
    assert SequenceScaler().fit(X).get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    with pytest.raises(ValueError, match="X has 2 features, but SequenceScaler is expecting 3"):
        SequenceScaler().fit(X).transform(X[..., :2])


def test_names_reach_the_estimator_behind_it():
    pandas = pytest.importorskip("pandas")
    U, V, _, _ = datasets.make_rnn(1, 2000, 3, 2, 2, random_state=0)
    table = pandas.DataFrame(U[0], columns=["a", "b", "c"])
    pipe = make_pipeline(SequenceScaler().set_output(transform="pandas"), regressor(2))
    pipe.fit(table, V[0])
    assert pipe[-1].feature_names_in_.tolist() == ["a", "b", "c"]
    assert pipe.feature_names_in_.tolist() == ["a", "b", "c"]


OTHERWISE = {
    "check_complex_data": "refused in words of our own",
    "check_dtype_object": "arrays of objects are refused",
    "check_estimators_nan_inf": "the padding of an array may be NaN, and stays so",
    "check_transformer_data_not_an_array": "a list holds sequences, not rows",
}
"""Checks of scikit-learn that cannot hold, and why."""


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_has_no_other_objections():
    if "on_fail" not in inspect.signature(check_estimator).parameters:
        pytest.skip("this scikit-learn stops at the first check that fails")
    results = check_estimator(SequenceScaler(), on_fail=None, on_skip=None)
    failed = {each["check_name"] for each in results if each["status"] == "failed"}
    assert failed <= set(OTHERWISE)


def test_what_is_no_choice_and_no_network_is_refused_by_name():
    X = np.arange(6.0).reshape(3, 2)
    with pytest.raises(TypeError, match="`with_mean` must be True or False, got 'x'"):
        SequenceScaler(with_mean="x").fit(X)
    with pytest.raises(TypeError, match="`model` is of type int, expected an IORNN or a BRNN"):
        SequenceScaler().fit(X).unscale(3)
