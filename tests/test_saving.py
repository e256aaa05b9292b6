"""A save that fails leaves the old file; every writer of the library goes through one function."""

from __future__ import annotations

import ast
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gloree
from gloree import IORNN, datasets
from gloree._storage import replaced_file, write_plain
from gloree.datasets import ContextVectors, WordVectors
from gloree.engine import Checkpoint
from gloree.moments import CrossMoment, cross_moment_sums
from gloree.sequences import as_sequences

PACKAGE = Path(gloree.__file__).parent


def _moment(seed):
    X, Y, _, chain = datasets.make_rnn(20, 5, 2, 2, 2, random_state=seed)
    return cross_moment_sums(as_sequences(X, Y).whole(), chain, 2)


def _vectors(n, kind=WordVectors):
    words = [["the", "dog", "barks"], ["a", "cat", "sleeps"]] * 6
    return kind.fit_transform(words, tags=[["D", "N", "V"]] * 12, n_dimensions=n)[0]


WRITERS = {
    "model": (lambda i: datasets.random_rnn(4, 3, 2, random_state=i), IORNN.load),
    "word vectors": (lambda i: _vectors(2 + i), WordVectors.load),
    "context vectors": (lambda i: _vectors(2 + i, ContextVectors), ContextVectors.load),
}


@pytest.fixture(params=WRITERS)
def saved(request, tmp_path):
    """A writer, an object, another one, and what reads them."""
    make, load = WRITERS[request.param]
    return make(0), make(1), load, tmp_path / "file.npz"


class Failure:
    """`np.savez` that writes a part and fails; or another function that fails at once."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *arguments, **arrays):
        if hasattr(arguments[0], "write"):
            arguments[0].write(b"PK\x03\x04 a part")
        raise self.error


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("module, name", [(np, "savez"), (os, "fsync"), (os, "replace")])
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), MemoryError()])
def test_a_save_that_fails_keeps_the_old_file(module, name, error, saved, monkeypatch):
    old, new, load, path = saved
    old.save(path)
    content = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(module, name, Failure(error))
        new.save(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]
    load(path)
    new.save(path)
    assert path.read_bytes() != content
    assert os.listdir(path.parent) == [path.name]


def test_a_save_that_fails_the_first_time_leaves_nothing(saved, monkeypatch):
    old, _, _, path = saved
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np, "savez", Failure(FULL))
        old.save(path)
    assert os.listdir(path.parent) == []


def test_moments_are_written_alike(tmp_path, monkeypatch):
    path = tmp_path / "moment.npz"
    old, new = _moment(0), _moment(1)
    old.save(path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np, "savez", Failure(FULL))
        new.save(path)
    np.testing.assert_array_equal(CrossMoment.load(path).sums, old.sums)
    assert os.listdir(tmp_path) == ["moment.npz"]


def test_a_checkpoint_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "fit.checkpoint"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="could not be written"):
        patch.setattr(os, "fsync", Failure(FULL))
        Checkpoint(path, {"data": 1}, {})
    assert os.listdir(tmp_path) == []
    assert Checkpoint(path, {"data": 1}, {}).n_passes == 0


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_saves_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.npz"
    old = datasets.random_rnn(4, 3, 2, random_state=0)
    old.save(path)
    code = f"""
import os, signal
import numpy as np
from gloree import datasets
def killed(file, **arrays):
    file.write(b"a part"); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
np.savez = killed
datasets.random_rnn(4, 3, 2, random_state=1).save({str(path)!r})
"""
    source = {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **source}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert IORNN.load(path) == old


def test_permissions_and_links_stay(tmp_path):
    path, link = tmp_path / "model.npz", tmp_path / "link.npz"
    model = datasets.random_rnn(4, 3, 2, random_state=0)
    model.save(path)
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    path.chmod(0o640)
    link.symlink_to(path)
    other = datasets.random_rnn(4, 3, 2, random_state=1)
    other.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert IORNN.load(path) == other


def test_what_is_no_file_is_written_to_as_it_is(tmp_path):
    with replaced_file(os.devnull) as file:
        file.write(b"anything")
    assert not Path(os.devnull).is_file()
    with pytest.raises(IsADirectoryError), replaced_file(tmp_path):
        pass


def test_a_folder_that_is_not_there_is_named_by_the_path_that_was_given(tmp_path):
    model = datasets.random_rnn(4, 3, 2, random_state=0)
    with pytest.raises(FileNotFoundError, match=r"nowhere/model\.npz'"):
        model.save(tmp_path / "nowhere" / "model.npz")


def test_arrays_of_objects_are_refused(tmp_path):
    """Whatever the version of NumPy, which would keep them as pickles."""
    with (
        pytest.raises(ValueError, match="array 'b' holds objects"),
        replaced_file(tmp_path / "f") as f,
    ):
        write_plain(f, {"a": np.ones(2), "b": np.array([None, 1])})
    assert list(tmp_path.iterdir()) == []
    with replaced_file(tmp_path / "f.npz") as file:
        write_plain(file, {"a": np.ones(2), "b": np.array("text")}, compressed=True)
    with np.load(tmp_path / "f.npz") as archive:
        assert sorted(archive.files) == ["a", "b"]


@pytest.mark.slow
def test_nothing_else_in_the_library_opens_files_to_write():
    """But for the checkpoint, which appends records."""
    writing = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
            opens = name == "open" and any(set(str(m)) & set("wxa+") for m in modes[:1])
            if opens or name in ("write_text", "write_bytes", "savetxt", "tofile", "dump"):
                writing.append(path.name)
    assert sorted(writing) == ["_checkpoint.py", "_storage.py", "_storage.py"]
