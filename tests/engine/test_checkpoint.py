"""Checkpoints: an interrupted fit goes on where it ended and gives the model of a whole one."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import pickletools
import re
import struct
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import estimates
from helpers.marks import first_of
from helpers.parts import PerPass, cut_in_parts, write_npz

import gloree
import gloree.engine._checkpoint as checkpoint_module
import gloree.engine._engine as engine_module
from gloree import GaussianVAR, SystemIdentifier, datasets
from gloree.engine import Checkpoint, CheckpointError, Clock, Engine, PassFailure, Source, Sums
from gloree.engine._records import RecordError, from_bytes, to_bytes
from gloree.models import ExplosionError
from gloree.refinement import RefinementStatus, _gauss_newton
from gloree.sequences import LargestSegments, Segments, as_sequences
from gloree.sources import batches, shards

regressor = partial(estimates.regressor, 2)


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(1000, 8, 4, 2, 3, random_state=0)
    return X, Y


class Passes:
    """Counts the passes that are run, and interrupts one of them."""

    def __init__(self, monkeypatch, interrupt=None):
        self.labels, self.interrupt = [], interrupt

        def counted(method):
            def run(engine, function, data, label):
                if len(self.labels) == self.interrupt:
                    raise KeyboardInterrupt
                self.labels.append(label)
                return method(engine, function, data, label)

            return run

        for name in ("_sum", "_sum_kept"):
            monkeypatch.setattr(Engine, name, counted(getattr(Engine, name)))


def interrupted(est, source, path, after):
    """Run so many passes of a fit."""
    with pytest.MonkeyPatch.context() as patch:
        Passes(patch, after)
        with pytest.raises(KeyboardInterrupt):
            est.fit(*source, checkpoint=path)


def resumed(est, source, path):
    """Model of a fit that goes on, and the passes that it took."""
    with pytest.MonkeyPatch.context() as patch:
        passes = Passes(patch)
        return est.fit(*source, checkpoint=path).model_, passes.labels


@pytest.fixture(scope="module")
def whole(data):
    """Model and passes of a fit without a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        passes = Passes(patch)
        return regressor().fit(*data).model_, passes.labels


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Content of the checkpoint of a whole fit."""
    path = tmp_path_factory.mktemp("finished") / "fit"
    regressor().fit(*data, checkpoint=path)
    return path.read_bytes()


@pytest.fixture
def on_file(finished, tmp_path):
    """Checkpoint of a whole fit."""
    path = tmp_path / "fit"
    path.write_bytes(finished)
    return path


# ------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("after", first_of([0, 1, 4, 7, -1], 2))
def test_a_fit_goes_on_after_any_pass(after, data, whole, tmp_path):
    model, labels = whole
    after %= len(labels)
    interrupted(regressor(), data, tmp_path / "fit", after)
    again, taken = resumed(regressor(), data, str(tmp_path / "fit"))
    assert again == model
    assert taken == labels[after:]


def test_a_fit_may_be_interrupted_in_every_pass(data, whole, tmp_path):
    model, labels = whole
    for _ in labels[1:]:
        interrupted(regressor(), data, tmp_path / "fit", 1)
    again, taken = resumed(regressor(), data, tmp_path / "fit")
    assert again == model and taken == labels[-1:]


def test_a_finished_fit_takes_no_pass(data, whole, on_file):
    again, taken = resumed(regressor(), data, on_file)
    assert again == whole[0] and taken == []


@pytest.mark.parametrize(
    "options",
    first_of(
        [
            {"n_hidden": None},
            pytest.param({"activation": "cubic", "n_hidden": 2}, marks=pytest.mark.slow),
            pytest.param({"activation": "linear", "n_hidden": 2}, marks=pytest.mark.slow),
            {"bidirectional": True, "n_hidden": (1, 1)},
            {"lags": 2, "recurrence": None},
        ]
    ),
    ids=lambda options: next(iter(options)),
)
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_every_kind_of_fit_resumes(options, data, tmp_path):
    expected = regressor().set_params(**options).fit(*data).model_
    interrupted(regressor().set_params(**options), data, tmp_path / "fit", 2)
    again, taken = resumed(regressor().set_params(**options), data, tmp_path / "fit")
    assert again == expected and taken


def test_rows_that_are_kept_in_memory_are_read_again(data, tmp_path, monkeypatch):
    """J^T J that is only multiplied with: its rows are not on file, what was found with them is."""
    monkeypatch.setattr(_gauss_newton, "MOST_WEIGHTS", 0)
    with pytest.MonkeyPatch.context() as patch:
        labels = Passes(patch).labels
        expected = regressor().fit(*data).model_
    after = labels.index("rows") + 1
    interrupted(regressor(), data, tmp_path / "fit", after)
    again, taken = resumed(regressor(), data, tmp_path / "fit")
    assert again == expected
    assert taken == ["rows", *labels[after:]]


@pytest.mark.slow
def test_a_random_start_is_kept_with_the_passes(data, tmp_path):
    path = tmp_path / "fit"
    est = regressor(random_state=None)
    interrupted(est, data, path, 6)
    first, _ = resumed(est, data, path)
    second, taken = resumed(est, data, path)
    assert first == second and taken == []


def test_a_generator_goes_on_as_it_was(data, tmp_path):
    expected = regressor(random_state=np.random.default_rng(5)).fit(*data).model_
    path = tmp_path / "fit"
    interrupted(regressor(random_state=np.random.default_rng(5)), data, path, 6)
    used = np.random.default_rng(5)
    used.standard_normal(100)
    again, _ = resumed(regressor(random_state=used), data, path)
    assert again == expected


def test_it_goes_on_with_another_engine_or_verbosity(data, whole, tmp_path):
    interrupted(regressor(), data, tmp_path / "fit", 5)
    other = regressor(engine=Engine("threads", n_workers=2), verbose=1)
    assert resumed(other, data, tmp_path / "fit")[0] == whole[0]


@pytest.mark.slow
def test_a_fit_from_shards_goes_on(data, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_npz(folder, cut_in_parts(*data))
    expected = regressor().fit(folder).model_
    interrupted(regressor(), [folder], tmp_path / "fit", 5)
    again, taken = resumed(regressor(), [folder], tmp_path / "fit")
    assert again == expected and len(taken) > 2
    assert resumed(regressor(), [shards(folder)], tmp_path / "fit") == (expected, [])


def test_a_finished_fit_reads_parts_only_for_the_scan(data, tmp_path):
    read = []

    def noted(_):
        for part in cut_in_parts(*data, n_parts=4):
            read.append(part)
            yield part

    regressor().fit(PerPass(noted), checkpoint=tmp_path / "fit")
    assert len(read) > 20
    read.clear()
    regressor().fit(batches(PerPass(noted)), checkpoint=tmp_path / "fit")
    assert len(read) == 4


def test_an_explosion_is_a_result_too(tmp_path):
    x = as_sequences(np.ones((3, 2, 1)))
    runs = []

    def explodes(batch):
        runs.append(batch)
        raise ExplosionError(2, 7, 1e9)

    for _ in range(2):
        engine = Engine("serial", checkpoint=Checkpoint(tmp_path / "fit", {}, {}))
        with pytest.raises(ExplosionError, match=r"sequence 2 reached 1.0e.09 at step 7"):
            engine.run(explodes, Source(x), label="squares")
    assert len(runs) == 1


class TooLong(PassFailure):
    """A failure of somebody else's pass function."""


@pytest.mark.parametrize(
    "failure",
    [
        ExplosionError(2, 7, 1e9),
        ExplosionError(np.int64(0), np.int64(3), np.float64(np.inf)),
        TooLong("step", 0.5, None),
    ],
    ids=repr,
)
def test_a_failure_comes_back_from_its_record(failure):
    again = from_bytes(to_bytes(failure))
    assert type(again) is type(failure)
    assert again.args == failure.args and str(again) == str(failure)
    assert vars(again) == vars(failure)


def test_passes_are_on_file_as_soon_as_they_are_done(tmp_path):
    log = Checkpoint(tmp_path / "fit", {"a": 1}, {"seed": 3})
    for i in range(3):
        log.append("pass", i)
        again = Checkpoint(tmp_path / "fit", {"a": 1}, {"seed": 4})
        assert (again.n_passes, again.start) == (i + 1, {"seed": 3})
    assert [again.take("pass") for _ in range(4)] == [
        (True, 0),
        (True, 1),
        (True, 2),
        (False, None),
    ]
    again.append("more", 3)
    assert Checkpoint(tmp_path / "fit", {"a": 1}, {}).n_passes == 4


# ----------------------------------------------------------------------------- with the time


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(0)
    u = rng.standard_normal(300)
    y = np.zeros(300)
    for t in range(1, 300):
        y[t] = 0.7 * y[t - 1] + np.tanh(u[t - 1])
    return u, y + 0.01 * rng.standard_normal(300)


def identifier(**options):
    return SystemIdentifier(1, 1, "tanh", **{"engine": "serial", "max_seconds": 1000, **options})


@pytest.fixture(scope="module")
def identified(record):
    """An identification without a checkpoint, and its passes."""
    with pytest.MonkeyPatch.context() as patch:
        labels = Passes(patch).labels
        return identifier().fit(*record), labels


@pytest.mark.slow
def test_an_identification_goes_on_after_any_pass(record, tmp_path):
    """Also in the middle of its refinement, where an interrupt without a file ends it softly."""
    with pytest.MonkeyPatch.context() as patch:
        labels = Passes(patch).labels
        expected = identifier().fit(*record)
    done = 0
    for share in (0.05, 0.7):
        after = int(share * len(labels))
        interrupted(identifier(), record, tmp_path / "fit", after - done)
        done = after
    again, taken = resumed(identifier(), record, tmp_path / "fit")
    assert again == expected.model_
    assert taken == labels[done:]


@pytest.mark.slow
def test_a_search_that_time_ended_is_the_same_from_its_file(record, tmp_path, monkeypatch):
    """Whatever the clock says now, decisions are those of the first run."""

    def fit(pace):
        ticks = itertools.count(step=pace)
        monkeypatch.setattr(engine_module.time, "perf_counter", lambda: next(ticks))
        return identifier(max_seconds=5).fit(*record, checkpoint=tmp_path / "fit")

    first, again = fit(0.1), fit(3.0)
    assert first.report_.refinement_status is RefinementStatus.TIME_LIMIT
    assert again.model_ == first.model_
    assert again.report_.history == first.report_.history
    assert again.report_.refinement_status is RefinementStatus.TIME_LIMIT


def test_time_counts_on_from_the_file(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: now[0])

    def clock():
        return Clock(Engine("serial", checkpoint=Checkpoint(tmp_path / "fit", {}, {})))

    read = clock()
    now[0] = 107.0
    assert read() == 7.0
    now[0] = 109.0
    assert read() == 9.0
    now[0] = 5000.0
    again = clock()
    now[0] = 5001.0
    assert [again(), again()] == [7.0, 9.0]
    now[0] = 5004.0
    assert again() == 12.0
    assert Checkpoint(tmp_path / "fit", {}, {}).n_passes == 3


def test_an_identification_of_other_data_or_settings_is_refused(record, tmp_path):
    path = tmp_path / "fit"
    identifier(max_seconds=0.1).fit(*record, checkpoint=path)
    refused("max_seconds is '0.1' there and '1000' here", identifier(), record, path)
    changed = record[0].copy(), record[1]
    changed[0][7] += 1e-9
    refused("checksum of the data", identifier(max_seconds=0.1), changed, path)
    with pytest.raises(TypeError, match="`checkpoint` must be the path of a file, got 3"):
        identifier().fit(*record, checkpoint=3)


# ------------------------------------------------------------------- records, without pickles


@dataclass(frozen=True)
class Inner(Sums):
    """Somebody's statistic, nested in another one."""

    peaks: np.ndarray = field(metadata={"concatenate": True})


@dataclass(frozen=True)
class Outer(Sums):
    """Somebody's statistic with a field of every sort."""

    name: str = field(metadata={"setting": True})
    n_rows: float
    gram: np.ndarray
    inner: Inner | None = field(metadata={"nested": True})
    nothing: Inner | None = field(metadata={"nested": True})
    largest: LargestSegments = field(metadata={"nested": True})


def same(one, other):
    """Equal in type, value and order of the bytes."""
    assert type(one) is type(other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Sums):
        return all(same(getattr(one, name), getattr(other, name)) for name in vars(one))
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert other.flags.c_contiguous == (not one.flags.fnc)
        assert other.flags.aligned and other.flags.writeable
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one == other or one != one


SEGMENTS = Segments(np.arange(10, dtype=np.int64).reshape(2, 5))
VALUES = [
    None,
    True,
    -3,
    2**130,
    0.1,
    float("inf"),
    float("nan"),
    "words, \u00fc",
    np.float64(1 / 3),
    np.float32(1 / 3),
    np.int64(-5),
    np.bool_(True),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(12, dtype=np.int32)[::2],
    np.array([[1 + 2j]]),
    np.array(3.5),
    np.empty((0, 4)),
    np.array([True, False]),
    np.arange(3, dtype=">f8"),
    [1, (2.0, "a"), {"a": np.ones(2), "b": [None]}],
    SEGMENTS,
    Outer(
        "x", np.float64(3), np.eye(2), Inner(np.arange(3.0)), None,
        LargestSegments(np.array([1.0, 2.0]), SEGMENTS, 2),
    ),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_record_gives_its_value_back(value):
    again = from_bytes(to_bytes(value))
    assert same(value, again)


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_a_generator_draws_and_spawns_as_before(kind):
    rng = np.random.Generator(kind(np.random.SeedSequence(3, spawn_key=(1, 2))))
    rng.spawn(2)
    rng.standard_normal(7)
    again = from_bytes(to_bytes(rng))
    np.testing.assert_array_equal(rng.standard_normal(5), again.standard_normal(5))
    child, other = rng.spawn(1)[0], again.spawn(1)[0]
    np.testing.assert_array_equal(child.standard_normal(5), other.standard_normal(5))


class Counts:
    """A statistic that merges, but is no `Sums`."""

    def merge(self, other):
        return self


@pytest.mark.parametrize(
    "value, name",
    [
        (Counts(), "test_checkpoint.Counts"),
        ([{"a": Counts()}], "test_checkpoint.Counts"),
        (np.array([object()]), "numpy.ndarray"),
        (np.array(["a"]), "numpy.ndarray"),
        ({1: 2}, "builtins.dict"),
        (len, "builtin"),
    ],
    ids=["statistic", "nested statistic", "objects", "text", "keys", "function"],
)
def test_what_no_record_can_hold_is_refused_by_its_type(value, name, tmp_path):
    with pytest.raises(RecordError, match=name):
        to_bytes(value)
    log = Checkpoint(tmp_path / "fit", {}, {})
    size = (tmp_path / "fit").stat().st_size
    with pytest.raises(
        CheckpointError, match=rf"cannot hold the result of pass 'p': .*{name}.*engine\.Sums"
    ):
        log.append("p", value)
    assert (tmp_path / "fit").stat().st_size == size and log.n_passes == 0


def test_random_numbers_that_cannot_spawn_are_refused(tmp_path):
    class Own(np.random.PCG64):
        pass

    with pytest.raises(CheckpointError, match="random numbers of a Own"):
        Checkpoint(tmp_path / "fit", {}, {"rng": np.random.Generator(Own(3))})
    assert not (tmp_path / "fit").exists()


def test_a_file_holds_json_and_numbers_only(finished):
    place, n_records = len(checkpoint_module.MAGIC), 0
    while place < len(finished):
        size, _ = struct.unpack_from("<QI", finished, place)
        record = finished[place + 12 : place + 12 + size]
        (length,) = struct.unpack_from("<I", record)
        assert record[4 : 4 + length].decode().startswith('{"value": {"tuple": [')
        with pytest.raises(Exception, match=r".+"):
            list(pickletools.genops(record))
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(record)
        place, n_records = place + 12 + size, n_records + 1
    assert place == len(finished) and n_records > 10


def test_no_module_of_the_package_imports_pickle():
    package = Path(gloree.__file__).parent
    imports = re.compile(r"^\s*(import|from)\s+(c?pickle|dill|cloudpickle|marshal|shelve)\b", re.M)
    assert not [path for path in package.rglob("*.py") if imports.search(path.read_text())]


def test_a_checkpoint_of_version_0_1_0_is_refused(data, tmp_path):
    path = tmp_path / "fit"
    payload = pickle.dumps(({}, {}))
    head = struct.pack("<QI", len(payload), zlib.crc32(payload))
    path.write_bytes(b"gloree checkpoint 1\n" + head + payload)
    error = refused(
        "is a checkpoint of gloree 0.1.0, which this version does not", regressor(), data, path
    )
    assert "finish its fit with that version, or remove it to begin anew" in str(error)


def written(path, text, content=b""):
    """Checkpoint whose second record is this, with a checksum that is right."""
    Checkpoint(path, {}, {})
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    payload = struct.pack("<I", len(text)) + text + content
    with open(path, "ab") as file:
        file.write(struct.pack("<QI", len(payload), zlib.crc32(payload)) + payload)
    return Checkpoint(path, {}, {})


def pair(value, *arrays):
    return {"value": {"tuple": ["p", value]}, "arrays": list(arrays)}


PICKLED = pickle.dumps(np.array([object()], dtype=object))


@pytest.mark.parametrize(
    "text, content",
    [
        (b"", b""),
        (b"{", b""),
        (b"[" * 100_000, b""),
        (b"\xff\xfe", b""),
        (b"9" * 5000, b""),
        ({"value": 3}, b""),
        ({"value": {"tuple": [1]}, "arrays": []}, b""),
        (pair({"array": 0}), b""),
        (pair({"array": 0}, ["<f8", [2**60], "C"]), bytes(8)),
        (pair({"array": 0}, ["<f8", [2**40, 2**40, 0], "C"]), b""),
        (pair({"array": 0}, ["<f8", [10**30, 0], "C"]), b""),
        (pair({"array": 0}, ["<f8", [-1], "C"]), bytes(8)),
        (pair({"array": 0}, ["<f8", ["a"], "C"]), bytes(8)),
        (pair({"array": 0}, ["<f8", 1, "C"]), bytes(8)),
        (pair({"array": 0}, ["<f8", [1], "A"]), bytes(8)),
        (pair({"array": 0}, ["<f8", [1], "C"]), bytes(9)),
        (pair({"array": 0}, ["|O", [1], "C"]), bytes(8)),
        (pair({"array": 0}, ["|O", [1], "C"]), PICKLED),
        (pair({"array": 0}, ["(9,9)<f8", [1], "C"]), bytes(648)),
        (pair({"array": 0}, ["<f8,<f8", [1], "C"]), bytes(16)),
        (pair({"array": 0}, ["|V8", [1], "C"]), bytes(8)),
        (pair({"array": 0}, ["<U9999999", [1], "C"]), bytes(8)),
        (pair({"array": "x"}, ["<f8", [1], "C"]), bytes(8)),
        (pair({"scalar": 0}, ["<f8", [2], "C"], ["<f8", [2], "C"]), bytes(16)),
        (pair({"call": ["os.system", "true"]}), b""),
        (pair({"Sums": ["os.system", {}]}), b""),
        (pair({"Sums": ["gloree.sequences._segments.Segments", {}]}), b""),
        (pair({"Sums": ["gloree.sequences._segments.Segments", {"values": 3}]}), b""),
        (pair({"Sums": ["gloree.sequences._segments.Segments", {"__class__": 3}]}), b""),
        (pair({"PassFailure": ["SystemExit", [3]]}), b""),
        (pair({"PassFailure": ["ExplosionError", ["a", "b", "c"]]}), b""),
        (pair({"PassFailure": ["ExplosionError", []]}), b""),
        (pair({"Generator": {"dict": {"state": 1, "seed": 2}}}), b""),
        (pair({"Generator": {"dict": {"state": {"dict": {"bit_generator": "os"}}}}}), b""),
        (pair({}), b""),
        (pair({"a": 1, "b": 2}), b""),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_hostile_records_are_refused_and_nothing_else(text, content, tmp_path):
    log = written(tmp_path / "fit", text, content)
    with pytest.raises(CheckpointError, match=r"cannot be read \(.*remove it to begin anew"):
        log.take("p")


def test_a_statistic_whose_class_is_not_there_is_refused(tmp_path):
    log = written(tmp_path / "fit", pair({"Sums": ["elsewhere.Theirs", {}]}))
    with pytest.raises(
        CheckpointError, match=r"Sums of class elsewhere\.Theirs, which has not been imported"
    ):
        log.take("p")


def test_a_flipped_byte_gives_no_other_error():
    """Of a record whose checksum was made anew for the damaged bytes."""
    whole = to_bytes(("p", VALUES))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            from_bytes(bytes(damaged))
        except RecordError:
            continue


# --------------------------------------------------------------------------------- other fits


def refused(match, est, source, path):
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=match) as caught:
        est.fit(*source, checkpoint=path)
    assert isinstance(caught.value, OSError) and isinstance(caught.value, ValueError)
    assert path.read_bytes() == content
    return caught.value


def test_a_checkpoint_of_other_data_is_refused(data, on_file):
    X, Y = data
    refused(
        "another fit: number of steps is 8000 there and 7992", regressor(), (X[1:], Y[1:]), on_file
    )
    changed = Y.copy()
    changed[-1, -1, -1] += 1e-9
    refused("another fit: checksum of the data is", regressor(), (X, changed), on_file)
    rows = X.reshape(-1, 4), Y.reshape(-1, 3)
    refused("another fit: number of sequences", regressor(), rows, on_file)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"n_hidden": 3}, "n_hidden is '2' there and '3' here"),
        ({"random_state": 1}, "random_state is 0 there and 1 here"),
        ({"random_state": None}, "random_state"),
        ({"fit_bias": False}, "fit_bias"),
        ({"batch_size": 500}, "batch_size"),
        ({"refine": None}, "refine"),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(options, name, data, on_file):
    error = refused(name, regressor().set_params(**options), data, on_file)
    assert "Give another path, or remove the file" in str(error)


@pytest.mark.slow
def test_a_checkpoint_of_another_input_law_is_refused(data, tmp_path):
    path, law = tmp_path / "fit", GaussianVAR(np.zeros((4, 4)), np.eye(4))
    regressor(chain=law).fit(*data, checkpoint=path)
    shifted = GaussianVAR(np.zeros((4, 4)), np.eye(4), 1e-3 * np.ones(4))
    assert repr(shifted) == repr(law)
    refused("another fit: chain is", regressor(chain=shifted), data, path)
    same = GaussianVAR(np.zeros((4, 4)), np.eye(4))
    assert resumed(regressor(chain=same), data, path)[1] == []


def test_a_checkpoint_of_another_version_is_refused(data, on_file, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "__version__", "99.0")
    refused("another fit: version is '.*' there and '99.0' here", regressor(), data, on_file)


def test_a_file_of_another_kind_is_refused(data, tmp_path):
    path = tmp_path / "shard.npz"
    np.savez(path, X=data[0])
    refused("is no checkpoint of this library", regressor(), data, path)


def test_passes_of_another_name_are_refused(tmp_path):
    Checkpoint(tmp_path / "fit", {}, {}).append("outputs", 1)
    with pytest.raises(CheckpointError, match=r"next pass is 'outputs', this fit's is 'squares'"):
        Checkpoint(tmp_path / "fit", {}, {}).take("squares")


# ------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("lost", first_of([1, 5, 200]))
def test_a_damaged_tail_costs_the_last_pass_only(lost, data, whole, on_file):
    model, labels = whole
    os.truncate(on_file, on_file.stat().st_size - lost)
    again, taken = resumed(regressor(), data, on_file)
    assert again == model and taken == labels[-1:]
    assert resumed(regressor(), data, on_file) == (model, [])


def test_what_stands_behind_a_flipped_byte_is_run_again(data, whole, on_file):
    model, labels = whole
    content = bytearray(on_file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    on_file.write_bytes(bytes(content))
    again, taken = resumed(regressor(), data, on_file)
    assert again == model and 0 < len(taken) < len(labels)
    assert taken == labels[-len(taken) :]


@pytest.mark.parametrize("tail", [b"\xff" * 12, bytes(5), bytes(12), bytes(5000)])
def test_what_a_loss_of_power_leaves_behind_is_no_record(tail, tmp_path):
    log = Checkpoint(tmp_path / "fit", {}, {})
    log.append("pass", 1)
    with open(tmp_path / "fit", "ab") as file:
        file.write(tail)
    again = Checkpoint(tmp_path / "fit", {}, {})
    assert again.n_passes == 1
    again.append("next", 2)
    assert Checkpoint(tmp_path / "fit", {}, {}).n_passes == 2


def test_a_start_of_zeros_says_to_begin_anew(data, tmp_path):
    (tmp_path / "fit").write_bytes(checkpoint_module.MAGIC + bytes(4096))
    refused("is damaged at its start: remove it to begin anew", regressor(), data, tmp_path / "fit")


def test_a_damaged_start_says_to_begin_anew(data, on_file):
    content = bytearray(on_file.read_bytes())
    content[len(checkpoint_module.MAGIC) + 20] ^= 0xFF
    on_file.write_bytes(bytes(content))
    refused("is damaged at its start: remove it to begin anew", regressor(), data, on_file)


def test_an_empty_file_is_a_new_checkpoint(data, whole, tmp_path):
    path = tmp_path / "fit"
    path.touch()
    model, taken = resumed(regressor(), data, path)
    assert model == whole[0] and taken == whole[1]


# ---------------------------------------------------------------------------- room and rights


class FullDisk:
    """os.fsync of a disk that is full after so many writes."""

    def __init__(self, n_writes):
        self.n_writes = n_writes

    def __call__(self, descriptor):
        if self.n_writes == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.n_writes -= 1


@pytest.mark.parametrize("n_writes", first_of([1, 4, 9]))
def test_a_full_disk_costs_no_pass_before(n_writes, data, whole, tmp_path):
    model, labels = whole
    path = tmp_path / "fit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", FullDisk(n_writes))
        with pytest.raises(
            CheckpointError, match=r"No space left .* before are safe; make"
        ) as caught:
            regressor().fit(*data, checkpoint=path)
    assert f"after pass {n_writes} ({labels[n_writes - 1]!r})" in str(caught.value)
    again, taken = resumed(regressor(), data, path)
    assert again == model and taken == labels[n_writes - 1 :]


def test_a_write_that_stops_midway_costs_no_pass_before(tmp_path, monkeypatch):
    path = tmp_path / "fit"
    log = Checkpoint(path, {}, {})
    log.append("first", np.arange(5))
    size = path.stat().st_size

    def half(descriptor):
        os.truncate(path, path.stat().st_size - 3)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", half)
        with pytest.raises(CheckpointError, match="after pass 2"):
            log.append("second", np.arange(5))
    assert path.stat().st_size == size
    # the same object can go on, too
    log.append("second", np.arange(5))
    assert Checkpoint(path, {}, {}).n_passes == 2


def test_paths_that_cannot_be_written_to(data, tmp_path):
    with pytest.raises(CheckpointError, match=r"at its start .*No such file.*folder that can be"):
        regressor().fit(*data, checkpoint=tmp_path / "nowhere" / "fit")
    with pytest.raises(CheckpointError, match=r"cannot be read: .*Give the path of a file"):
        regressor().fit(*data, checkpoint=tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write it")
def test_a_folder_without_write_permission(data, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match=r"at its start .*Permission denied"):
        regressor().fit(*data, checkpoint=tmp_path / "fit")


def test_a_checkpoint_error_travels():
    error = pickle.loads(pickle.dumps(CheckpointError("text")))
    assert isinstance(error, CheckpointError) and str(error) == "text"
