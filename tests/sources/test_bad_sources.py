"""Sources that cannot be read, or that change: the error names the part and what to do."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from helpers import estimates
from helpers.parts import PerPass

from gloree import SpectralRNNRegressor, sources
from gloree.engine import Engine, get_engine
from gloree.sequences import as_sequences
from gloree.sources import SourceError, _shards

regressor = partial(estimates.regressor, 2)


def block(seed, n_sequences=20, n_inputs=3, n_outputs=2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_sequences, 5, n_inputs))
    return x, rng.standard_normal((n_sequences, 5, n_outputs))


def write(folder, n_shards, **changed):
    for i in range(n_shards):
        x, y = block(i)
        np.savez(folder / f"s{i:02d}.npz", X=x, Y=y, **changed)


# ----------------------------------------------------------------------- iterators, iterables


def test_an_iterator_is_refused_at_once():
    items = [block(0), block(1)]
    for iterator in ((item for item in items), iter(items), zip(*items, strict=True)):
        with pytest.raises(TypeError, match=r"spent after one pass.*__iter__ starts anew"):
            sources.batches(iterator)
        with pytest.raises(TypeError, match="spent after one pass"):
            regressor().fit(iterator)


def test_what_cannot_be_iterated_over_is_refused():
    with pytest.raises(TypeError, match="a int, which cannot be iterated over"):
        sources.batches(3)


ITEMS = [block(i) for i in range(4)]


def touched(index):
    items = list(ITEMS)
    x, y = items[index]
    items[index] = (x, y + 1e-9)
    return items


@pytest.mark.parametrize(
    "later, message",
    [
        (touched(2), "batch 2 is not what it was in the first pass: .*no shuffling"),
        (ITEMS[:1] + ITEMS[2:0:-1] + ITEMS[3:], "batch 1 is not what it was in the first pass"),
        (ITEMS[:3], "the data ended before batch 3, of 4 in the first pass"),
        ([], "the data ended before batch 0, of 4 in the first pass"),
        ([*ITEMS, block(9)], "more than the 4 batches of the first pass"),
        ([(x[:-1], y[:-1]) for x, y in ITEMS], "batch 0 is not what it was"),
        ([*ITEMS[:3], "text"], r"batch 3: expected \(X, Y\).*got a str"),
    ],
    ids=["values", "order", "fewer", "none", "more", "shapes", "type"],
)
@pytest.mark.parametrize("engine", ["serial", Engine("threads", n_workers=2)], ids=str)
def test_an_iterable_that_changes_between_passes_is_caught(later, message, engine):
    with pytest.raises(SourceError, match=message):
        regressor(engine=engine).fit(PerPass(lambda n: ITEMS if n == 1 else later))


def test_after_a_failed_pass_an_iterable_starts_anew():
    class Fails:
        left = 1

        def __iter__(self):
            yield ITEMS[0]
            if self.left == 0:
                self.left -= 1
                raise OSError("the disk is away")
            self.left -= 1
            yield ITEMS[1]

    source = sources.batches(Fails())
    assert source.n_rows == 200
    source.open(0)
    with pytest.raises(SourceError, match="batch 1 failed: OSError: the disk is away"):
        source.open(1)
    np.testing.assert_array_equal(source.open(1).X, ITEMS[1][0].reshape(-1, 3))


@pytest.mark.parametrize(
    "item, message",
    [
        (3, r"batch 1: expected \(X, Y\).*got a int"),
        (np.ones((3, 3)), "batch 1 has no output columns, batch 0 has 2: all parts need"),
        ((np.ones((3, 2)),), "batch 1: .*got a tuple of 1"),
        ([], "batch 1: it holds no sequences"),
        ([(1, 2, 3)], r"batch 1: element 0 is a tuple of 3, expected a pair \(x, y\)"),
        ((np.ones((4, 3)), np.ones((5, 2))), "batch 1: `X` has 4 steps, `Y` has 5"),
        ((np.ones((4, 3)), np.ones((4, 2)), [3]), "batch 1: `lengths` sum to 3, but `X` has 4"),
        ((np.array([["a"]]), np.ones((1, 2))), "batch 1: `X` has dtype <U1"),
        ((np.ones((0, 3)), np.ones((0, 2))), "batch 1: sequence 0 of `X` has no steps"),
        (block(0, n_inputs=4), "batch 1 has 4 input columns, batch 0 has 3: all parts need"),
        (block(0, n_outputs=1), "batch 1 has 1 output columns, batch 0 has 2: all parts need"),
    ],
)
def test_a_batch_that_is_not_usable_is_named(item, message):
    with pytest.raises(SourceError, match=message):
        regressor().fit(sources.batches([block(0), item]))


def test_an_iterable_of_nothing_holds_no_data():
    with pytest.raises(SourceError, match="the iterable holds no data"):
        regressor().fit(sources.batches([]))


def test_batches_without_outputs_are_refused():
    with pytest.raises(ValueError, match="`Y` is missing"):
        regressor().fit(sources.batches([(block(0)[0], None)]))


# -------------------------------------------------------------------------------------- shards


def test_a_directory_that_does_not_exist(tmp_path):
    for path in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(SourceError, match="nowhere is not a directory"):
            regressor().fit(path)


def test_an_empty_directory_says_what_belongs_there(tmp_path):
    (tmp_path / "readme.txt").write_text("none")
    with pytest.raises(SourceError, match=r"holds no shards: expected files NAME.npz .*X and Y"):
        regressor().fit(tmp_path)


def test_one_broken_value_in_sixty_shards_is_located(tmp_path):
    write(tmp_path, 60)
    x, y = block(57)
    y[7, 3, 1] = np.nan
    np.savez(tmp_path / "s57.npz", X=x, Y=y)
    with pytest.raises(SourceError, match=r"s57.npz: `Y` holds nan at sequence 7, step 3, column"):
        regressor().fit(tmp_path)


def test_an_empty_shard_is_named(tmp_path):
    write(tmp_path, 3)
    np.savez(tmp_path / "s01.npz", X=np.ones((0, 5, 3)), Y=np.ones((0, 5, 2)))
    with pytest.raises(SourceError, match=r"s01.npz: `X` holds no steps"):
        regressor().fit(tmp_path)


@pytest.mark.parametrize("options, what", [({"n_inputs": 4}, "input"), ({"n_outputs": 5}, "outp")])
def test_shards_of_other_widths_are_named(options, what, tmp_path):
    write(tmp_path, 3)
    x, y = block(2, **options)
    np.savez(tmp_path / "s02.npz", X=x, Y=y)
    with pytest.raises(SourceError, match=rf"s02.npz has \d {what}.*, s00.npz has \d: all parts"):
        regressor().fit(tmp_path)


def test_a_shard_without_outputs_is_named(tmp_path):
    write(tmp_path, 2)
    np.savez(tmp_path / "s01.npz", X=block(1)[0], labels=block(1)[1])
    with pytest.raises(SourceError, match=r"s01.npz: holds \['X', 'labels'\], expected arrays X"):
        regressor().fit(tmp_path)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("X", r"1\.\*\.npy: holds \['Y'\], expected arrays X and Y"),
        ("Y", r"1\.\*\.npy has no output columns, 0\.\*\.npy has 2: all parts need"),
    ],
)
def test_a_pair_without_its_other_half_is_named(missing, message, tmp_path):
    for i in range(2):
        for key, values in zip("XY", block(i), strict=True):
            np.save(tmp_path / f"{i}.{key}.npy", values)
    (tmp_path / f"1.{missing}.npy").unlink()
    with pytest.raises(SourceError, match=message):
        regressor().fit(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.98])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_archive_is_named(kept, save, tmp_path):
    write(tmp_path, 2)
    path = tmp_path / "s01.npz"
    x, y = block(1)
    save(path, X=x, Y=y)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SourceError, match=r"s01.npz: cannot be read \(.+\)"):
        regressor().fit(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_with_a_flipped_byte_is_named(save, tmp_path):
    write(tmp_path, 2)
    path = tmp_path / "s01.npz"
    x, y = block(1)
    save(path, X=x, Y=y)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"s01.npz: cannot be read"):
        regressor().fit(tmp_path)


def test_what_is_no_archive_is_named_without_advice_to_load_it_anyway(tmp_path):
    write(tmp_path, 2)
    (tmp_path / "s01.npz").write_bytes(b"garbage")
    with pytest.raises(SourceError, match=r"s01.npz: cannot be read \(no archive of arrays"):
        regressor().fit(tmp_path)


def test_a_single_array_in_an_archive_is_named(tmp_path):
    np.save(tmp_path / "s.npy", np.ones((4, 2)))
    (tmp_path / "s.npy").rename(tmp_path / "s.npz")
    with pytest.raises(
        SourceError, match=r"s.npz: cannot be read \(one array, expected an archive"
    ):
        regressor().fit(tmp_path)


def test_a_truncated_npy_file_is_named(tmp_path):
    for key, values in zip("XY", block(0), strict=True):
        np.save(tmp_path / f"a.{key}.npy", values)
    path = tmp_path / "a.Y.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"a\.\*\.npy: cannot be read"):
        regressor().fit(tmp_path)


def test_pickled_objects_are_never_loaded(tmp_path):
    write(tmp_path, 1)
    np.savez(tmp_path / "s01.npz", X=np.array([{}, {}]), Y=np.ones(2))
    with pytest.raises(SourceError, match=r"s01.npz: cannot be read \(.*allow_pickle=False"):
        regressor().fit(tmp_path)


@pytest.mark.parametrize("n_sequences, offset", [(19, 0.0), (20, 1.0)], ids=["shape", "values"])
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_a_shard_that_changes_during_a_fit_is_named(n_sequences, offset, engine, tmp_path):
    write(tmp_path, 3)
    source = sources.shards(tmp_path)
    source.scan()
    x, y = block(1, n_sequences)
    np.savez(tmp_path / "s01.npz", X=x, Y=y + offset)
    with pytest.raises(SourceError, match=r"s01.npz is not what it was .*still written to"):
        regressor(engine=engine).fit(source)


def test_a_shard_that_vanishes_during_a_fit_is_named(tmp_path):
    write(tmp_path, 3)
    source = sources.shards(tmp_path)
    source.scan()
    (tmp_path / "s01.npz").unlink()
    with pytest.raises(SourceError, match=r"s01.npz: cannot be read \(.*No such file"):
        regressor().fit(source)


# -------------------------------------------------------------------------- arguments beside it


@pytest.mark.parametrize("extra", [{"Y": np.ones((3, 2))}, {"lengths": [3]}])
def test_a_source_already_holds_outputs_and_lengths(extra, tmp_path):
    write(tmp_path, 2)
    (name,) = extra
    for source in (sources.batches(ITEMS), sources.shards(tmp_path), tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match=f"`{name}` was given beside a source.*leave it out"):
            regressor().fit(source, **extra)


def test_a_list_of_batches_is_taken_for_sequences_and_refused():
    with pytest.raises(ValueError, match=r"`X\[0\]`"):
        regressor().fit(ITEMS)


def test_memory_maps_that_cannot_be_made(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((4, 2)))
    np.savez(tmp_path / "both.npz", X=np.ones((4, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "X.npy").read_bytes()[:-8])
    good = tmp_path / "X.npy"
    for bad in ("cut.npy", "gone.npy"):
        with pytest.raises(SourceError, match=re.escape(f"{bad} cannot be mapped")):
            sources.memory_map(good, tmp_path / bad)
    with pytest.raises(SourceError, match=r"both.npz holds several arrays, expected an .npy"):
        sources.memory_map(tmp_path / "both.npz")
    with pytest.raises(TypeError, match=r"`Y` is a ndarray, expected the path"):
        regressor().fit(good, np.ones((4, 1)))
    with pytest.raises(ValueError, match="`Y` is missing"):
        regressor().fit(good)


# -------------------------------------------------------------------------------------- engines


def test_a_misspelt_engine_gets_a_hint():
    with pytest.raises(ValueError, match=r"`engine` must be None.*did you mean 'dask'"):
        get_engine("dsk")
    with pytest.raises(ValueError, match="did you mean 'threads'"):
        regressor(engine="thread").fit(*block(0))


def test_pairs_in_a_list_and_a_path_that_is_none_are_named():
    x = np.ones((4, 5, 2))
    with pytest.raises(ValueError, match=r"`X\[0\]` is a tuple: give sources.batches\(X\)"):
        SpectralRNNRegressor(1).fit([(x, x), (x, x)])
    with pytest.raises(TypeError, match="`checkpoint` must be the path of a file, got True"):
        SpectralRNNRegressor(1).fit(x, x, checkpoint=True)


def test_values_of_dask_are_for_estimators_alone():
    dask = pytest.importorskip("dask")
    x = np.random.default_rng(0).standard_normal((60, 5, 2))
    for X in (dask.delayed(x), [dask.delayed(x)]):
        with pytest.raises(
            TypeError, match=r"is a Delayed\w* of Dask, which only `fit`, `predict` and"
        ):
            as_sequences(X)
    array = pytest.importorskip("dask.array").from_array(x)
    np.testing.assert_array_equal(as_sequences(array).X, x.reshape(-1, 2))


def test_a_tuple_of_parts_is_told_what_to_do():
    with pytest.raises(ValueError, match=r"`X\[0\]` is a tuple: give sources.batches\(X\)"):
        regressor().fit((block(0), block(1)))


def stale(is_stale):
    """Fails at its third batch, or gives six."""
    for number in range(6):
        if number == 2 and is_stale:
            raise OSError("stale handle")
        yield block(number)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_batch_that_cannot_be_read_is_named(at):
    with pytest.raises(SourceError, match=r"^batch 2 failed: OSError: stale handle$") as caught:
        regressor().fit(sources.batches(PerPass(lambda n: stale(n == at))))
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("at", [2, 4])
def test_outputs_that_change_their_sign_are_named(at):
    """512 words each: sums of the words themselves would be the same."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 64, 8, 2)), rng.standard_normal((4, 64, 8, 1))
    source = sources.batches(PerPass(lambda n: zip(x, y if n < at else -y, strict=True)))
    with pytest.raises(SourceError, match="batch 0"):
        regressor().fit(source)


def test_a_shard_that_is_written_to_while_it_is_looked_at_is_compared_later(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(4):
        x, y = rng.standard_normal((50, 8, 3)), rng.standard_normal((50, 8, 2))
        np.savez(tmp_path / f"s{i}.npz", X=x, Y=y)
    read, written = _shards.Shard.read, []

    def meddled(self, **options):
        found = read(self, **options)
        if self.name == "s2.npz" and not written:
            written.append(1)
            np.savez(tmp_path / "s2.npz", X=2 * x, Y=y, more=np.ones(3))
        return found

    monkeypatch.setattr(_shards.Shard, "read", meddled)
    with pytest.raises(SourceError, match=r"s2\.npz"):
        regressor().fit(tmp_path)
