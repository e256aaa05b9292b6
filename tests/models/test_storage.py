"""Models on disk: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import zipfile
from functools import partial

import numpy as np
import pytest
from helpers.generators import forward_network

from gloree.activations import Activation, Polynomial
from gloree.models import IORNN
from gloree.models import _storage as storage

make_model = partial(forward_network, direct=True)


@pytest.mark.parametrize("activation", ["quadratic", "tanh", "softplus", Polynomial((0.1, 1, 0.3))])
@pytest.mark.parametrize("lags", [1, 2])
@pytest.mark.parametrize("direct", [False, True])
def test_a_saved_model_comes_back_to_the_bit(tmp_path, activation, lags, direct):
    model = make_model(activation=activation, lags=lags, direct=direct)
    path = tmp_path / "a model.npz"
    model.save(path)
    again = IORNN.load(str(path))
    assert again == model
    assert not again.input_weights.flags.writeable


def test_the_path_is_used_as_it_stands(tmp_path):
    make_model().save(tmp_path / "weights.gloree")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.gloree"]


def test_the_file_holds_plain_arrays_and_json(tmp_path):
    make_model().save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as archive:
        description = json.loads(str(archive["description"]))
        np.testing.assert_array_equal(archive["input_weights"], make_model().input_weights)
    assert description["format"] == "gloree-model"
    assert description["version"] == 1
    assert description["kind"] == "IORNN"
    assert description["settings"]["activation"] == {
        "kind": "polynomial",
        "coefficients": [0.0, 0.0, 1.0],
    }


def test_a_file_of_version_one_written_by_hand_is_read(tmp_path):
    # what the first release wrote, spelt out: later releases must go on reading it
    description = {
        "format": "gloree-model",
        "version": 1,
        "kind": "IORNN",
        "settings": {"activation": {"kind": "tanh"}, "lags": 1},
    }
    np.savez(
        tmp_path / "model.npz",
        description=np.array(json.dumps(description)),
        input_weights=[[1.0]],
        recurrent_weights=[[0.5]],
        output_weights=[[2.0]],
        hidden_bias=[0.1],
        output_bias=[0.2],
    )
    expected = IORNN([[1.0]], [[0.5]], [[2.0]], [0.1], [0.2], activation="tanh")
    assert IORNN.load(tmp_path / "model.npz") == expected


@pytest.mark.parametrize(
    ("version", "advice"), [(0, "save the model again"), (99, "upgrade"), (None, "again")]
)
def test_other_versions_are_refused_with_advice(tmp_path, monkeypatch, version, advice):
    monkeypatch.setattr(storage, "FORMAT_VERSION", version)
    make_model().save(tmp_path / "model.npz")
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=f"format version {version}, .* reads version 1: .*{advice}"
    ):
        IORNN.load(tmp_path / "model.npz")


def test_other_classes_are_refused(tmp_path):
    storage.write_model(tmp_path / "model.npz", "BRNN", {}, {})
    with pytest.raises(ValueError, match=r"of class BRNN, not IORNN: read it with BRNN\.load"):
        IORNN.load(tmp_path / "model.npz")


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    with pytest.raises(FileNotFoundError):
        IORNN.load(path)
    path.write_text("not an archive")
    with pytest.raises(ValueError, match="not a gloree-model file"):
        IORNN.load(path)
    np.savez(path, input_weights=np.ones((2, 2)))
    with pytest.raises(ValueError, match="not a gloree-model file"):
        IORNN.load(path)
    for text in ("no json", json.dumps([1]), json.dumps({"format": "other"})):
        np.savez(path, description=np.array(text))
        with pytest.raises(ValueError, match="not a gloree-model file"):
            IORNN.load(path)
    np.savez(path, description=np.ones(3))
    with pytest.raises(ValueError, match="not a gloree-model file"):
        IORNN.load(path)
    storage.write_model(path, "IORNN", {"input_weights": np.ones((2, 2))}, {})
    with pytest.raises(ValueError, match="damaged: it has no 'hidden_bias'"):
        IORNN.load(path)
    make_model().save(path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("input_weights.npy").header_offset
    content[start + 200] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        IORNN.load(path)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, description=np.array({"a": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        IORNN.load(path)


def test_a_failed_save_leaves_no_file(tmp_path):
    class Nameless(Activation):
        name = "nameless"

        def __call__(self, z, out=None):
            return np.sin(z, out=out)

        def derivative(self, z, order=1):
            return np.cos(z)

        def spec(self):
            return {"kind": object()}

    with pytest.raises(TypeError):
        make_model(activation=Nameless()).save(tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []
