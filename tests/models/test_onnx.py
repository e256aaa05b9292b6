"""ONNX files of networks and estimators, run by a runtime, against `predict`."""

import warnings

import numpy as np
import pytest
from helpers.generators import forward_network, two_way_network

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree.activations import Custom, LeakyReLU, PerUnit, Polynomial
from gloree.models import ClassOutput, to_onnx

# Rounding of sums in another order, relative to outputs of size one: some hundred operations.
EQUAL = {"float64": 1e-12, "float32": 1e-6}

ACTIVATIONS = {
    **{
        name: name
        for name in ("linear", "quadratic", "cubic", "tanh", "sigmoid", "softplus", "relu", "gelu")
    },
    "silu": "silu",
    "leaky": LeakyReLU(0.2),
    "polynomial": Polynomial([0.1, 1.0, 0.3, -0.2, 0.05]),
    "mixed": PerUnit(["tanh", "gelu", "gelu", Polynomial([0.0, 1.0, 0.2])]),
}


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def network(kind, activation, lags, direct):
    free = {"lags": lags, "direct": direct, "activation": activation, "norm": 0.05}
    if kind == "forward":
        return forward_network(3, 4, 2, scale=0.2, **free)
    n_forward = {"both ways": 2, "all ahead": 4, "all behind": 0}[kind]
    return two_way_network(n_forward, 4 - n_forward, 3, 2, **free)


def assert_same_runs(session, model, dtype, lengths=(1, 2, 5, 40)):
    rng = np.random.default_rng(1)
    for n_steps in lengths:
        u = 0.7 * rng.standard_normal((n_steps, model.n_inputs))
        state = 0.5 * rng.standard_normal(model.n_state)
        feed = {"inputs": u.astype(dtype), "state": state.astype(dtype)}
        found = session.run(None, feed)
        expected = model.predict(u, state=state, return_state=True)
        for mine, other in zip(found, expected, strict=True):
            assert mine.dtype == dtype
            assert mine.shape == other.shape
            size = max(1.0, np.abs(other).max(initial=0.0))
            np.testing.assert_allclose(mine, other, atol=EQUAL[dtype] * size)


@pytest.mark.parametrize("dtype", EQUAL)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_file_runs_records_of_any_length_from_any_state(runtime, activation, dtype, tmp_path):
    for kind, lags, direct in (("forward", 3, False), ("both ways", 1, True)):
        model = network(kind, ACTIVATIONS[activation], lags, direct)
        path = model.export_onnx(tmp_path / "net.onnx", dtype=dtype)
        assert_same_runs(runtime.InferenceSession(path), model, dtype)


@pytest.mark.parametrize("kind", ["forward", "both ways", "all ahead", "all behind"])
def test_every_kind_of_network_goes_into_a_file(runtime, kind, tmp_path):
    for lags, direct in ((1, False), (3, True)):
        model = network(kind, "tanh", lags, direct)
        session = runtime.InferenceSession(model.export_onnx(tmp_path / "net.onnx"))
        assert_same_runs(session, model, "float64")


def test_a_record_in_two_parts_is_the_whole(runtime, tmp_path):
    model = network("forward", "tanh", 3, True)
    session = runtime.InferenceSession(model.export_onnx(tmp_path / "net.onnx"))
    u, state, found = np.random.default_rng(0).standard_normal((30, 3)), np.zeros(model.n_state), []
    for part in (u[:1], u[1:12], u[12:]):
        outputs, state = session.run(None, {"inputs": part, "state": state})
        found.append(outputs)
    np.testing.assert_allclose(np.concatenate(found), model.predict(u), atol=EQUAL["float64"])


def test_gelu_keeps_its_digits_in_both_tails(runtime, tmp_path):
    model = forward_network(1, 1, 1).replace(
        input_weights=[[1.0]],
        recurrent_weights=[[0.0]],
        output_weights=[[1.0]],
        hidden_bias=[0.0],
        output_bias=[0.0],
        activation="gelu",
    )
    session = runtime.InferenceSession(model.export_onnx(tmp_path / "net.onnx"))
    z = np.linspace(-30.0, 30.0, 2001)[:, None]
    found, _ = session.run(None, {"inputs": z, "state": np.zeros(1)})
    np.testing.assert_allclose(found, model.predict(z), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("names", [["b", "a", "c", "d"], [7, 3, 2, 11], [0.0, 1.0, 2.0, 3.0]])
def test_a_classifier_gives_labels_and_probabilities(runtime, names, tmp_path):
    X, Y, *_ = datasets.make_rnn(400, 10, 5, 3, 4, random_state=1)
    labels = np.array(names)[Y.argmax(axis=2)]
    for options in ({}, {"readout": "least-squares", "refine": None}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clf = SpectralRNNClassifier(3, random_state=0, **options).fit(X, labels)
        session = runtime.InferenceSession(clf.export_onnx(tmp_path / "clf.onnx"))
        assert [each.name for each in session.get_outputs()] == [
            "labels",
            "probabilities",
            "last_state",
        ]
        state = np.zeros(clf.model_.n_state)
        for x in X[:5]:
            found, p, last = session.run(None, {"inputs": x, "state": state})
            np.testing.assert_array_equal(found, clf.predict(x))
            np.testing.assert_allclose(p, clf.predict_proba(x), atol=EQUAL["float64"])
            assert last.shape == state.shape


def test_regressors_and_identified_systems_have_the_same_method(runtime, tmp_path):
    X, Y, *_ = datasets.make_rnn(200, 10, 4, 2, 2, random_state=0)
    est = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    path = est.export_onnx(tmp_path / "est.onnx", dtype="float32")
    assert_same_runs(runtime.InferenceSession(path), est.model_, "float32")
    u = np.random.default_rng(0).standard_normal((400, 1))
    y = np.convolve(u[:, 0], 0.5 ** np.arange(1, 9))[:400, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plant = SystemIdentifier(n_linear=1, n_nonlinear=0).fit(u, y)
    session = runtime.InferenceSession(plant.export_onnx(tmp_path / "plant.onnx"))
    assert_same_runs(session, plant.model_, "float64")


def test_what_has_no_onnx_form_is_refused_by_name(runtime):
    own = Custom(np.sin, np.cos, "sine")
    with pytest.raises(TypeError, match=r"'sine' \(Custom\) has no ONNX form"):
        to_onnx(network("forward", own, 1, False))
    with pytest.raises(ValueError, match="`dtype` must be 'float64' or 'float32', got 'int8'"):
        to_onnx(network("forward", "tanh", 1, False), dtype="int8")
    with pytest.raises(TypeError, match="`model` is a int"):
        to_onnx(3)
    objects = np.empty(2, dtype=object)
    objects[:] = [(1, 2), (3, 4)]
    with pytest.raises(TypeError, match="neither texts nor whole numbers"):
        to_onnx(network("forward", "tanh", 1, False), labels=ClassOutput(objects))


def test_files_say_what_reads_them(runtime):
    proto = to_onnx(network("both ways", "gelu", 2, True))
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 17)]
    assert proto.ir_version == 8
