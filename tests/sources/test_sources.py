"""Data kept elsewhere than in arrays: the same fit as from arrays in memory."""

from __future__ import annotations

import tracemalloc
import zlib
from functools import partial

import numpy as np
import pytest
from helpers import estimates
from helpers.marks import first_of
from helpers.parts import (
    Again,
    PerPass,
    cut_in_parts,
    flat,
    write_flat_npy,
    write_flat_npz,
    write_npy,
    write_npz,
)

import gloree.sequences._sequences as sequences_module
import gloree.sources._parts as parts_module
from gloree import SpectralRNNRegressor, datasets, metrics, sources
from gloree.engine import Engine
from gloree.sequences import as_sequences
from gloree.sequences._sequences import checksum_of

# Sums in another order, through the end of a descent; and of data in single precision, whose
# rounding of 6e-8 is averaged.
SUMS, SINGLE = 1e-8, 1e-4

regressor = partial(estimates.regressor, 2)


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(1200, 8, 4, 2, 3, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def in_memory(data):
    return regressor().fit(*data).model_


@pytest.fixture(scope="module")
def in_batches(data):
    return regressor().fit(Again(cut_in_parts(*data))).model_


def write_compressed(folder, parts):
    # other arrays beside X and Y are not looked at
    for i, (x, y) in enumerate(parts):
        np.savez_compressed(folder / f"{i}.npz", X=x, Y=y, note=np.array([{"any": "object"}]))


def write_both_kinds(folder, parts):
    for i, (x, y) in enumerate(parts):
        if i % 2:
            np.savez(folder / f"{i}.npz", X=x, Y=y)
        else:
            np.save(folder / f"{i}.X.npy", x)
            np.save(folder / f"{i}.Y.npy", y)


def same_model(mine, theirs):
    return mine == theirs


def agree(mine, theirs, tolerance):
    return all(error < tolerance for error in metrics.weight_errors(mine, theirs).values())


# ------------------------------------------------------------------------------- equal results


@pytest.mark.parametrize(
    "write",
    first_of(
        [write_npz, write_compressed, write_flat_npz, write_npy, write_flat_npy, write_both_kinds],
        3,
    ),
)
def test_shards_of_every_kind_give_the_model_of_batches(write, data, in_batches, tmp_path):
    write(tmp_path, cut_in_parts(*data))
    assert regressor().fit(tmp_path).model_ == in_batches


def test_a_fit_from_parts_is_that_from_memory(in_batches, in_memory):
    assert agree(in_batches, in_memory, SUMS)


@pytest.mark.parametrize("engine", first_of(["threads", Engine("threads", n_workers=3)]))
def test_threads_give_the_bit_equal_model(engine, data, in_batches, tmp_path):
    write_npy(tmp_path, cut_in_parts(*data))
    assert regressor(engine=engine).fit(tmp_path).model_ == in_batches


@pytest.mark.slow
def test_paths_are_given_as_text_or_as_a_source(data, in_batches, tmp_path):
    write_npz(tmp_path, cut_in_parts(*data))
    for source in (str(tmp_path), sources.shards(str(tmp_path)), sources.shards(tmp_path)):
        assert regressor().fit(source).model_ == in_batches


@pytest.mark.slow
def test_lists_of_pairs_of_sequences_are_batches_too(data, in_batches):
    items = [list(zip(x, y, strict=True)) for x, y in cut_in_parts(*data)]
    assert regressor().fit(sources.batches(items)).model_ == in_batches


@pytest.mark.slow
def test_a_source_can_be_fitted_again(data, in_batches):
    source = sources.batches(cut_in_parts(*data))
    assert regressor().fit(source).model_ == regressor().fit(source).model_ == in_batches


@pytest.mark.slow
def test_shards_of_single_precision(data, in_memory, tmp_path):
    rounded = [values.astype(np.float32) for values in data]
    source = sources.shards(write_npz(tmp_path, cut_in_parts(*rounded)))
    assert source.open(0).X.dtype == np.float32
    rounded = [values.astype(np.float64) for values in rounded]
    model = regressor().fit(source).model_
    assert agree(model, regressor().fit(*rounded).model_, SUMS)
    assert agree(model, in_memory, SINGLE)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", first_of([np.float64, np.float32]))
def test_memory_maps_are_arrays(dtype, data, in_memory, tmp_path):
    X, Y = (values.astype(dtype) for values in data)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    expected = regressor().fit(X, Y).model_
    x, y = tmp_path / "X.npy", tmp_path / "Y.npy"
    mapped = sources.memory_map(x, y)
    assert mapped.X.dtype == dtype and not mapped.X.flags.owndata
    np.testing.assert_array_equal(mapped.X, flat(X))
    assert regressor().fit(mapped).model_ == expected
    assert regressor().fit(str(x), str(y)).model_ == expected
    np.save(tmp_path / "flat.npy", flat(X))
    np.save(tmp_path / "flat_Y.npy", flat(Y))
    lengths = [X.shape[1]] * len(X)
    model = regressor().fit(tmp_path / "flat.npy", tmp_path / "flat_Y.npy", lengths=lengths).model_
    assert model == expected


def test_a_vector_of_one_output_is_a_column(data, tmp_path):
    X, Y = data
    np.savez(tmp_path / "0.npz", X=X, Y=Y[..., 0])
    part = sources.shards(tmp_path).open(0)
    np.testing.assert_array_equal(part.Y, flat(Y[..., :1]))


@pytest.mark.slow
def test_a_linear_network_from_parts_is_that_from_memory():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 200, 2))
    state, y = np.zeros((6, 2)), np.empty((6, 200, 1))
    for t in range(200):
        state = 0.5 * state + x[:, t]
        y[:, t, 0] = state @ [1.0, 0.3]
    y += 0.1 * rng.standard_normal(y.shape)
    est = SpectralRNNRegressor(2, activation="linear", random_state=0, engine="serial")
    expected = est.fit(list(x), list(y)).model_
    assert est.fit(sources.batches([(x[:2], y[:2]), (x[2:], y[2:])])).model_ == expected


# ---------------------------------------------------------------------------------- what is known


def ragged(n_parts=4):
    rng = np.random.default_rng(3)
    items = []
    for lengths in ([3, 9, 2], [4, 4], [300], [1])[:n_parts]:
        n = sum(lengths)
        items.append((rng.standard_normal((n, 2)), rng.standard_normal((n, 1)), lengths))
    return items


def test_sizes_are_those_of_all_parts_together():
    source = sources.batches(ragged())
    assert (source.n_rows, source.n_sequences, source.n_inputs, source.n_outputs) == (323, 7, 2, 1)
    assert (source.longest, source.shortest, source.n_parts) == (300, 1, 4)
    together = sources.in_memory(source)
    assert source.n_interior(1, 2) == together.n_interior(1, 2) == 6 + 1 + 1 + 297
    assert source.part_rows.tolist() == [0, 14, 22, 322, 323]
    assert source.part_sequences.tolist() == [0, 3, 5, 6, 7]


def test_parts_in_memory_are_the_whole():
    items = ragged()
    together = sources.in_memory(sources.batches(items))
    np.testing.assert_array_equal(together.X, np.concatenate([x for x, _, _ in items]))
    np.testing.assert_array_equal(together.Y, np.concatenate([y for _, y, _ in items]))
    np.testing.assert_array_equal(together.lengths, [3, 9, 2, 4, 4, 300, 1])
    assert sources.in_memory(together) is together


def test_lengths_of_parts_take_little_memory():
    source = sources.batches([(np.ones((100_000, 2)), np.ones((100_000, 1)), [2] * 50_000)])
    (lengths,) = source.part_lengths
    assert lengths.strides == (0,) and lengths.shape == (50_000,)
    assert sources.batches(ragged()).part_lengths[0].dtype == np.uint8


def test_only_the_head_of_the_first_part_is_kept(monkeypatch):
    monkeypatch.setattr(parts_module, "HEAD_ROWS", 5)
    items = ragged()
    source = sources.batches(items)
    head = source.head(1000)
    np.testing.assert_array_equal(head.X, items[0][0][:5])
    np.testing.assert_array_equal(head.Y, items[0][1][:5])
    assert source.head(3).X.shape == (3, 2)
    assert [summary.head is None for summary in source.summaries] == [False, True, True, True]


def test_checksums_tell_data_apart():
    items = ragged()
    checksum = sources.batches(items).checksum
    assert sources.batches(ragged()).checksum == checksum
    assert sources.batches(items[::-1]).checksum != checksum
    assert sources.batches(items[:-1]).checksum != checksum
    changed = [tuple(np.array(value) for value in item) for item in items]
    changed[2][1][5] += 1e-12
    assert sources.batches(changed).checksum != checksum
    x, y, _ = items[0]
    plain, cut = as_sequences(x, y), as_sequences(x, y, lengths=[3, 9, 2])
    assert plain.checksum != cut.checksum
    assert plain.checksum == checksum_of(y, checksum_of(x, zlib.crc32(np.array([14]))))


def naive_checksum(raw, code):
    """Blocks of 3 x 3 words; sums of columns and rows of each, what is left of it as it is."""
    words = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw) // 8 * 8, 8)]
    words = [word ^ word >> 32 for word in words]
    for start in range(0, len(words), 9):
        block = words[start : start + 9]
        rows = [block[i : i + 3] for i in range(0, len(block) // 3 * 3, 3)]
        columns = [sum(row[j] for row in rows) for j in range(3)]
        for part in (columns, [sum(row) for row in rows], block[3 * len(rows) :]):
            code = zlib.crc32(np.array([each % 2**64 for each in part], dtype="<u8"), code)
    return zlib.crc32(raw[8 * len(words) :], code)


@pytest.mark.parametrize("n_bytes", [0, 5, 8, 23, 24, 72, 80, 200, 72 * 3 + 24 * 2 + 11])
def test_a_checksum_is_made_of_sums_of_rows_and_columns_of_words(n_bytes, monkeypatch):
    monkeypatch.setattr(sequences_module, "CHECKSUM_WORDS", 3)
    raw = np.random.default_rng(0).integers(0, 256, n_bytes).astype(np.uint8)
    assert checksum_of(raw, 7) == naive_checksum(raw.tobytes(), 7)


def test_any_word_that_is_another_or_somewhere_else_changes_the_checksum():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(3 * 2**16 + 700)
    known = checksum_of(values)
    assert checksum_of(values.reshape(4, -1)) == known != checksum_of(values, 1)
    last = values.size - 1
    for i, j in [
        (0, 1),
        (5, 5 + 256),
        (3, 2**16 + 3),
        (7, 2**16 + 900),
        (last - 1, last),
        (2, last),
    ]:
        changed = values.copy()
        changed[i] = np.nextafter(changed[i], np.inf)
        assert checksum_of(changed) != known
        changed = values.copy()
        changed[[i, j]] = changed[[j, i]]
        assert checksum_of(changed) != known
    assert checksum_of(-np.zeros(3)) != checksum_of(np.zeros(3))


@pytest.mark.parametrize("size", [2, 256, 512, 1000, 3 * 2**16])
@pytest.mark.parametrize("kind", ["normal", "single precision", "whole numbers"])
def test_a_change_of_all_words_alike_changes_the_checksum(kind, size):
    """A sign, or a power of two, adds the same power of two to every word of float64."""
    values = np.random.default_rng(1).standard_normal(size)
    if kind == "single precision":
        values = values.astype(np.float32).astype(np.float64)
    if kind == "whole numbers":
        values = np.round(10 * values) + 0.0
    half = values.copy()
    half[: size // 2] *= -1
    changed = [values, -values, half, *(values * 2.0**k for k in (1, 2, 16, -16, 64))]
    assert len({checksum_of(each) for each in changed}) == len(changed)


def test_a_scan_shows_progress_only_if_asked(capsys):
    sources.batches(ragged()).scan()
    assert capsys.readouterr().err == ""
    sources.batches(ragged()).scan(verbose=1)
    assert "scan" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- memory


def drawn(pool, n_batches):
    """Batches of twenty sequences, drawn from a pool when they are asked for."""
    for seed in range(n_batches):
        chosen = np.random.default_rng(seed).choice(len(pool[0]), 20, replace=False)
        yield tuple(values[chosen] for values in pool)


def peak_of_fit(pool, n_batches):
    tracemalloc.start()
    try:
        regressor(max_rounds=1).fit(PerPass(lambda _: drawn(pool, n_batches)))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.long
@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_batches():
    pool = datasets.make_rnn(100, 200, 4, 2, 3, random_state=0)[:2]
    peak_of_fit(pool, 4)
    # from 40 batches on, each of the 40 sequences of the subset that is kept is a piece of its own
    few, many = peak_of_fit(pool, 40), peak_of_fit(pool, 120)
    batch_bytes = 8 * 20 * 200 * (4 + 3)
    assert many < few + 0.05 * 80 * batch_bytes
    # standard errors and tests of specification hold what belongs to a bounded number of rows
    assert many < 40 * batch_bytes


# ------------------------------------------------------------------------------ reused buffers


def reused(items):
    """Fills the same two buffers with every batch, as streams commonly do."""
    inputs, outputs = (np.full_like(values, np.nan) for values in items[0])
    for x, y in items:
        inputs[:], outputs[:] = x, y
        yield inputs, outputs
    inputs[:], outputs[:] = 1e6, -1e6


@pytest.mark.parametrize(
    "engine, dtype",
    [
        pytest.param(Engine("serial"), np.float64, marks=pytest.mark.slow),
        (Engine("threads", n_workers=8), np.float64),
        pytest.param(Engine("threads", n_workers=2), np.float64, marks=pytest.mark.slow),
        pytest.param(Engine("threads", n_workers=4), np.float32, marks=pytest.mark.slow),
    ],
    ids=lambda value: f"{value.name}-{value.n_workers}" if isinstance(value, Engine) else None,
)
def test_an_iterable_may_fill_the_same_buffers_again(engine, dtype, data):
    # a buffer is filled six times in each of some thirty passes
    items = cut_in_parts(*(values[:120].astype(dtype) for values in data))
    expected = regressor(batch_size=64).fit(Again(items)).model_
    for _ in range(2):  # a race need not show the first time
        found = regressor(engine=engine, batch_size=64).fit(PerPass(lambda _: reused(items))).model_
        assert same_model(found, expected)


def test_parts_of_reused_buffers_are_gathered_as_they_were(data):
    items = cut_in_parts(*data)
    found = sources.in_memory(sources.batches(PerPass(lambda _: reused(items))))
    np.testing.assert_array_equal(found.X, np.concatenate([flat(x) for x, _ in items]))
    np.testing.assert_array_equal(found.Y, np.concatenate([flat(y) for _, y in items]))


def test_delayed_values_may_fill_the_same_buffers_again(data):
    dask = pytest.importorskip("dask")
    items = cut_in_parts(*data)
    inputs, outputs = (np.empty_like(values) for values in items[0])

    def fill(x, y):
        inputs[:], outputs[:] = x, y
        return inputs, outputs

    found = sources.in_memory(sources.partitions([dask.delayed(fill)(x, y) for x, y in items]))
    np.testing.assert_array_equal(found.X, np.concatenate([flat(x) for x, _ in items]))
    np.testing.assert_array_equal(found.Y, np.concatenate([flat(y) for _, y in items]))
