"""Files of every kind, damaged at random or by design: the values they held, or our own error."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
import zlib
from itertools import chain

import numpy as np
import pytest

from gloree import SpectralRNNRegressor, datasets, sources
from gloree.chains import GaussianVAR
from gloree.engine import Checkpoint, CheckpointError
from gloree.engine._records import to_bytes
from gloree.models import BRNN, IORNN, FormatError
from gloree.moments import CrossMoment, cross_moment_sums
from gloree.sequences import as_sequences
from gloree.sources import SourceError

MOST_BYTES, SECONDS = 2**23, 2.0
"""Memory and time to read a damaged file: the valid ones hold less than 40 kB."""

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 20, 3)), RNG.standard_normal((6, 20, 2))
WORDS = [["the", "dog", "barks"], ["a", "cat", "sleeps"], ["the", "cat", "barks"]] * 4
TAGS = [["DET", "NOUN", "VERB"]] * 12


class Model:
    """`save` and `load` of a network."""

    error = FormatError
    value = IORNN(RNG.standard_normal((3, 4)), None, RNG.standard_normal((3, 2)))

    def write(self, path):
        self.value.save(path)

    def read(self, path):
        return [type(self.value).load(path)]


class TwoWayModel(Model):
    value = BRNN([[1.0]], [[0.1]], [[2.0]], [[0.5]], [[1.0], [10.0]], activation="tanh")


class Moments:
    error = FormatError
    chain = GaussianVAR([[[0.5]]], [[1.0]], [0.0])

    def write(self, path):
        batch = as_sequences(X[..., :1], Y).whole()
        cross_moment_sums(batch, self.chain, order=2).save(path)

    def read(self, path):
        found = CrossMoment.load(path)
        return [found.order, found.covariances, found.counts, found.output_sums, found.sums]


class Vectors:
    error = FormatError

    def write(self, path):
        datasets.WordVectors.fit_transform(WORDS, tags=TAGS, n_dimensions=2)[0].save(path)

    def read(self, path):
        found = datasets.WordVectors.load(path)
        return [found.feature_names, found.tag_names, found.weights, found.offset]


class ContextVectors:
    error = FormatError

    def write(self, path):
        datasets.ContextVectors.fit_transform(WORDS, tags=TAGS, n_dimensions=2)[0].save(path)

    def read(self, path):
        found = datasets.ContextVectors.load(path)
        parts = [(each.feature_names, each.weights) for each in (found.words, found.beside)]
        pairs = [found.code_names, found.known, *found.pair_keys, found.pair_weights]
        return [*chain(*parts), *pairs, found.offset]


class Passes:
    """A checkpoint: passes that cannot be read are taken again, those that can are as they were."""

    error = CheckpointError
    results = (np.arange(50.0), {"a": 1, "b": [1.5, None, "text"]}, np.arange(6).reshape(2, 3))

    def write(self, path):
        log = Checkpoint(path, {"data": 1}, {"seed": 3})
        for number, result in enumerate(self.results):
            log.append(f"pass {number}", result)

    def read(self, path):
        log = Checkpoint(path, {"data": 1}, {"seed": 3})
        found = [dict(log.start)]
        for number, result in enumerate(self.results):
            known, read = log.take(f"pass {number}")
            found.append(read if known else result)
        return found


class Shard:
    error = SourceError
    save = staticmethod(np.savez)

    def write(self, path):
        with open(path, "wb") as file:
            self.save(file, X=X, Y=Y)

    def read(self, path):
        part = sources.shards(path.parent).open(0)
        return [part.X.shape, part.X, part.Y]


class CompressedShard(Shard):
    save = staticmethod(np.savez_compressed)


class Mapped:
    """One array without a checksum: damaged values are values; their number is the same."""

    error = (SourceError, ValueError, TypeError)

    def write(self, path):
        np.save(path, X)

    def read(self, path):
        return [np.array(sources.memory_map(path).X).nbytes]


KINDS = {
    "model.npz": Model(),
    "both.npz": TwoWayModel(),
    "moments.npz": Moments(),
    "vectors.npz": Vectors(),
    "context.npz": ContextVectors(),
    "fit.checkpoint": Passes(),
    "shard.npz": Shard(),
    "compressed.npz": CompressedShard(),
    "array.npy": Mapped(),
}


def damaged(rng, content):
    """Bytes that were changed, lost, added or moved."""
    how, place = rng.integers(6), int(rng.integers(len(content)))
    some = int(rng.integers(1, 64))
    changed = bytearray(content)
    if how == 0:
        for each in rng.integers(len(content), size=rng.integers(1, 9)):
            changed[each] ^= int(rng.integers(1, 256))
    elif how == 1:
        changed = changed[:place]
    elif how == 2:
        changed[place:place] = rng.bytes(some)
    elif how == 3:
        del changed[place : place + some]
    elif how == 4:
        changed[place : place + some] = bytes(len(changed[place : place + some]))
    else:
        start = int(rng.integers(len(content)))
        changed[place : place + some] = content[start : start + some]
    return bytes(changed)


def same(found, expected):
    return all(
        np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b
        for a, b in zip(found, expected, strict=True)
    )


def read_damaged(name, n_files, seed, folder):
    """Read so many damaged files of a kind; how many were read, how many refused."""
    kind, path = KINDS[name], folder / name
    kind.write(path)
    content, expected = path.read_bytes(), kind.read(path)
    rng = np.random.default_rng(seed)
    ends = {"read": 0, "refused": 0}
    tracemalloc.start()
    try:
        for number in range(n_files):
            path.write_bytes(damaged(rng, content))
            tracemalloc.reset_peak()
            begin = time.perf_counter()
            try:
                found = kind.read(path)
            except kind.error as error:
                ends["refused"] += 1
                assert str(error), number
            else:
                ends["read"] += 1
                assert same(found, expected), number
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES, number
            assert time.perf_counter() - begin < SECONDS, number
    finally:
        tracemalloc.stop()
    return ends


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_hold_what_they_held_or_are_refused(name, tmp_path):
    ends = read_damaged(name, 30, 0, tmp_path)
    assert ends["refused"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 3))
@pytest.mark.parametrize("name", KINDS)
def test_many_damaged_files_hold_what_they_held_or_are_refused(name, seed, tmp_path):
    ends = read_damaged(name, 500, seed, tmp_path)
    assert ends["refused"] > 50


# ------------------------------------------------------------------------------- hostile files


def header(shape, descr="<f8"):
    """The bytes before the values of an array."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def members(path, **added):
    """Add members to an archive: bytes, or (bytes, method of compression)."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in added.items():
            data, method = content if isinstance(content, tuple) else (content, zipfile.ZIP_STORED)
            archive.writestr(f"{name}.npy", data, compress_type=method)


ZEROS = header((2**21,)) + bytes(2**24)
ADDED = {
    "an unknown array": {"junk": header((2,)) + bytes(16)},
    "an unknown array, compressed": {"junk": (ZEROS, zipfile.ZIP_BZIP2)},
    "an array twice as text": {"weights": header((1,), "<U4") + bytes(16)},
}


@pytest.mark.parametrize(
    "name", ["model.npz", "both.npz", "moments.npz", "vectors.npz", "context.npz"]
)
@pytest.mark.parametrize("added", ADDED.values(), ids=ADDED)
def test_arrays_that_the_format_does_not_know_are_refused_unread(name, added, tmp_path):
    kind, path = KINDS[name], tmp_path / name
    kind.write(path)
    if "weights" in added and name == "vectors.npz":
        pytest.skip("has an array of that name")
    members(path, **added)
    tracemalloc.start()
    with pytest.raises(FormatError, match=rf"{name}.*'(junk|weights)', which does not belong"):
        kind.read(path)
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()


LIES = {
    "more than there is": header((2**40,)) + bytes(16),
    "less than there is": header((2,)) + bytes(64),
    "no shape": header((2**70, 2**70)) + bytes(16),
    "nothing of a size": header((10**12,), "<U0"),
    "objects": header((2,), "|O") + bytes(16),
    "records": header((2,), "<V8") + bytes(16),
    "a long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(64),
    "no array": b"text",
    "nothing": b"",
    "another method": (ZEROS, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_what_a_header_claims_is_not_allocated(lie, tmp_path):
    model, shard = tmp_path / "model.npz", tmp_path / "shards" / "a.npz"
    shard.parent.mkdir()
    description = {"format": "gloree-model", "version": 1, "kind": "IORNN", "settings": {}}
    np.savez(model, description=np.array(json.dumps(description)))
    members(model, input_weights=lie)
    np.savez(shard, X=X)
    members(shard, Y=lie)
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"model\.npz"):
        IORNN.load(model)
    with pytest.raises(SourceError, match=r"a\.npz: cannot be read"):
        sources.shards(shard.parent).scan()
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2**40,), (3, 2**33), (7,), (2**70, 2)])
def test_an_array_larger_than_its_file_is_not_mapped(shape, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(header(shape) + bytes(48))
    with pytest.raises(SourceError, match=r"`X`: .*a\.npy cannot be mapped"):
        sources.memory_map(path)


def described(text):
    buffer = io.BytesIO()
    np.savez(buffer, description=np.array(text), input_weights=np.ones((1, 1)))
    return buffer.getvalue()


DEEP = "[" * 200_000
GIVEN = {"format": "gloree-model", "version": 1, "kind": "IORNN"}
TEXTS = {
    "brackets": DEEP,
    "no settings": json.dumps(GIVEN),
    "settings of another type": json.dumps({**GIVEN, "settings": 3}),
    "an unknown setting": json.dumps({**GIVEN, "settings": {"activation": {}, "size": 3}}),
    "deep settings": json.dumps({**GIVEN, "settings": 0}).replace("0}", '{"activation":' + DEEP),
    "a large integer": json.dumps(GIVEN).replace("1", "1" * 5000),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_descriptions_that_are_none_are_refused(text, tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(described(text))
    with pytest.raises(FormatError, match=r"model\.npz"):
        IORNN.load(path)


def test_records_of_a_checkpoint_that_claim_more_than_they_hold_are_refused(tmp_path):
    path = tmp_path / "fit"
    Passes().write(path)
    content = path.read_bytes()
    start = content.index(b"{") - 4 - 12
    payload = to_bytes(({}, {}))
    claims = {"value": [{"array": 0}, {}], "arrays": [["<f8", [2**40], "C"]]}
    for text in (json.dumps(claims), '{"value": ' + DEEP, "[]"):
        payload = struct.pack("<I", len(text)) + text.encode() + bytes(16)
        frame = struct.pack("<QI", len(payload), zlib.crc32(payload)) + payload
        path.write_bytes(content[:start] + frame)
        with pytest.raises(CheckpointError, match="fit"):
            Checkpoint(path, {"data": 1}, {})


# ----------------------------------------------------------------------- what is there is no file


def pipe(path):
    os.mkfifo(path)


def loop(path):
    other = path.with_name("other")
    path.symlink_to(other)
    other.symlink_to(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes in folders")
@pytest.mark.parametrize("make", [pipe, loop, device, folder])
def test_what_is_no_file_is_named_and_not_waited_for(make, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    np.savez(shards / "a.npz", X=X, Y=Y)
    make(shards / "b.npz")
    with pytest.raises(SourceError, match=r"b\.npz: cannot be read"):
        SpectralRNNRegressor(1).fit(shards)
    (shards / "b.npz").rmdir() if make is folder else (shards / "b.npz").unlink()
    (shards / "a.npz").unlink()
    make(tmp_path / "c.npy")
    with pytest.raises(SourceError, match=r"c\.npy cannot be mapped"):
        sources.memory_map(tmp_path / "c.npy")
    make = {loop: lambda path: path.symlink_to(path)}.get(make, make)
    for key in ("X", "Y"):
        make(shards / f"d.{key}.npy")
    with pytest.raises(SourceError, match=r"d\.\*\.npy: cannot be read"):
        SpectralRNNRegressor(1).fit(shards)
    make(tmp_path / "e")
    with pytest.raises((FormatError, OSError), match=r"e'"):
        IORNN.load(tmp_path / "e")
    if not (tmp_path / "e").is_symlink() or (tmp_path / "e").exists():  # else it is replaced
        with pytest.raises(CheckpointError, match="/e "):
            Checkpoint(tmp_path / "e", {}, {})
