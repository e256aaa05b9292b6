"""Dask: the bit-equal sums and models of the other engines, also when workers are lost."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from engine_rounding import Rounded, rounded
from helpers import estimates
from helpers.marks import first_of
from helpers.parts import Again, cut_in_parts, ragged_parts, write_npz
from tqdm.auto import tqdm

import gloree.sequences._sequences as sequences_module
from gloree import SpectralRNNClassifier, SpectralRNNRegressor, datasets, sources
from gloree.engine import DaskEngine, Engine, Source, Subset, _dask, _tasks, get_engine
from gloree.engine._tasks import Picked
from gloree.models import ExplosionError
from gloree.refinement import _gauss_newton
from gloree.sequences import as_sequences
from gloree.sources import SourceError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
bag = pytest.importorskip("dask.bag")

regressor = partial(estimates.regressor, 2)
N_PARTS = 6
CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
# workers in this process, which all the same send everything to each other as bytes
NEAR = {**CLUSTER, "processes": False, "protocol": "tcp://"}


SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    with distributed.LocalCluster(**NEAR) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def mortal():
    """Client of a cluster whose workers may be killed."""
    # not shared: a worker that is killed while it starts is not started again
    with distributed.LocalCluster(**CLUSTER) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(1200, 8, 4, 2, 3, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def items(data):
    return cut_in_parts(*data, N_PARTS)


@pytest.fixture(scope="module")
def folder(items, tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("shards"), items)


@pytest.fixture(scope="module")
def in_memory(data):
    return regressor().fit(*data).model_


@pytest.fixture(scope="module")
def in_parts(folder):
    return regressor().fit(folder).model_


def part_of(items, index):
    return items[index]


def delayed(items):
    return [dask.delayed(part_of)([item], 0) for item in items]


# ------------------------------------------------------------------------------- equal models


def test_arrays_give_the_bit_equal_model(client, data, in_memory):
    assert regressor(engine=client).fit(*data).model_ == in_memory


@pytest.mark.slow
def test_a_memory_map_gives_the_bit_equal_model(client, data, in_memory, tmp_path):
    for name, values in zip("XY", data, strict=True):
        np.save(tmp_path / f"{name}.npy", values)
    est = regressor(engine=client).fit(tmp_path / "X.npy", tmp_path / "Y.npy")
    assert est.model_ == in_memory


@pytest.mark.slow
def test_shards_give_the_bit_equal_model(client, folder, in_parts):
    assert regressor(engine="dask").fit(folder).model_ == in_parts


@pytest.mark.slow
def test_batches_give_the_bit_equal_model(client, items, in_parts):
    assert regressor(engine=client).fit(Again(items)).model_ == in_parts


@pytest.mark.slow
def test_delayed_values_give_the_bit_equal_model(client, items, in_parts):
    assert regressor(engine=None).fit(delayed(items)).model_ == in_parts


@pytest.mark.slow
def test_futures_give_the_bit_equal_model(client, items, in_parts):
    futures = client.scatter(items)
    assert regressor(engine=client).fit(futures).model_ == in_parts
    # and are fetched by an engine of this process
    assert regressor().fit(futures).model_ == in_parts


@pytest.mark.slow
def test_a_bag_gives_the_bit_equal_model(client, data, in_parts):
    pairs = bag.from_sequence(zip(*data, strict=True), npartitions=N_PARTS)
    assert regressor(engine=client).fit(pairs).model_ == in_parts


@pytest.mark.slow
def test_rows_that_are_kept_in_memory_give_the_bit_equal_model(client, items, folder, monkeypatch):
    monkeypatch.setattr(_gauss_newton, "MOST_WEIGHTS", 0)
    expected = regressor().fit(folder).model_
    assert regressor(engine=client).fit(delayed(items)).model_ == expected


def test_collections_need_no_cluster(items, in_parts):
    with dask.config.set(scheduler="synchronous"):
        assert regressor().fit(sources.partitions(delayed(items))).model_ == in_parts


@pytest.mark.slow
def test_an_engine_lets_go_of_the_data_of_the_fit_before(client, data, in_memory):
    engine = DaskEngine("dask", client=client)
    for _ in range(2):
        assert regressor(engine=engine).fit(*data).model_ == in_memory
        assert len({id(block.data) for block in engine._blocks.values()}) == 1


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_dask(client, folder, in_parts, tmp_path, monkeypatch):
    labels, plain = [], Engine._sum

    def summed(engine, function, selection, label):
        if len(labels) == 5:
            raise KeyboardInterrupt
        labels.append(label)
        return plain(engine, function, selection, label)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_sum", summed)
        with pytest.raises(KeyboardInterrupt):
            regressor(engine=client).fit(folder, checkpoint=tmp_path / "fit")
    est = regressor(engine=client).fit(folder, checkpoint=tmp_path / "fit")
    assert est.model_ == in_parts


# -------------------------------------------------------------------------------- equal sums


RAGGED = [[5, 9, 30] * 4, [2] * 30, [41], [3, 80]]
CUT = {"batch_size": 17, "segment": 10, "before": 2, "after": 1}


def kinds(folder):
    parts, together = ragged_parts(RAGGED)
    for i, part in enumerate(parts):
        X, Y = (np.concatenate([pair[j] for pair in part]) for j in (0, 1))
        lengths = [len(x) for x, _ in part]
        np.savez(folder / f"{i}.npz", X=X, Y=Y, lengths=lengths)
    yield together
    yield sources.batches(parts)
    yield sources.shards(folder)
    yield sources.partitions([dask.delayed(list)(part) for part in parts])


@pytest.mark.parametrize("few", [False, True], ids=["all", "subset"])
def test_sums_are_bit_equal_in_the_order_of_the_data(few, client, tmp_path, monkeypatch):
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 64)
    engine, expected = DaskEngine("dask", client=client), None
    for data in kinds(tmp_path):
        engine.scan(data)
        source = Source(data, **CUT)
        selection = source.subset(60) if few else source
        found = engine.run(rounded, selection)
        assert found == Engine("serial").run(rounded, selection)
        assert expected is None or found.rows == expected
        expected = found.rows


@pytest.mark.slow
@pytest.mark.parametrize("fetched, light", [(1, 0), (2, 2**20), (3, 0)])
def test_several_waves_give_the_bit_equal_sums(fetched, light, client, tmp_path, monkeypatch):
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 64)
    for name, value in (("IN_FLIGHT", 1), ("FETCHED", fetched), ("LIGHT", light)):
        monkeypatch.setattr(_dask, name, value)
    for data in kinds(tmp_path):
        engine = DaskEngine("dask", client=client)
        engine.scan(data)
        source = Source(data, **CUT)
        groups = {
            data.group_of(piece) for each in source.iter_batches() for piece in data.by_part(each)
        }
        # a wave is two groups, one for each worker
        assert len(groups) > 3
        assert engine.run(rounded, source) == Engine("serial").run(rounded, source)


# ------------------------------------------------------------------------- a worker is killed


@dataclass(frozen=True)
class KillsItsWorker:
    """Pass function that kills the process it runs in, once, when it comes to a sequence."""

    flag: Path
    sequence: int
    function: Callable = rounded

    def __call__(self, batch):
        if self.sequence in batch.sequence:
            try:
                os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.function(batch)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
@pytest.mark.parametrize(
    "kind",
    range(4),
    ids=["arrays", "batches", "shards", "delayed"],
)
def test_killed_workers_do_not_change_the_sums(kind, mortal, tmp_path, monkeypatch):
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 64)
    data = list(kinds(tmp_path))[kind]
    engine = DaskEngine("dask", client=mortal)
    engine.scan(data)
    source = Source(data, **CUT)
    expected = Engine("serial").run(rounded, source)
    assert engine.run(rounded, source) == expected
    # between two passes, with rows that are on the workers
    kill(mortal)
    assert engine.run(rounded, source) == expected
    # in the middle of a pass
    flag = tmp_path / "killed"
    assert engine.run(KillsItsWorker(flag, 43), source) == expected
    assert flag.exists()
    assert engine.run(rounded, source) == expected


def kill(client, *addresses):
    """Kill one worker, or those with these addresses."""
    pids = client.run(os.getpid)
    for address in addresses or list(pids)[:1]:
        os.kill(pids[address], signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
@pytest.mark.slow
def test_a_fit_whose_workers_are_killed_gives_the_same_model(
    mortal, items, in_parts, tmp_path, monkeypatch
):
    plain, labels = Engine._sum, []

    def summed(engine, function, selection, label):
        labels.append(label)
        if len(labels) in (2, 7):
            function = KillsItsWorker(tmp_path / str(len(labels)), 500, function)
        return plain(engine, function, selection, label)

    monkeypatch.setattr(Engine, "_sum", summed)
    assert regressor(engine=mortal).fit(delayed(items)).model_ == in_parts
    assert (tmp_path / "2").exists()


# --------------------------------------------------------------------------------- what travels


@pytest.mark.slow
def test_partitions_stay_on_their_workers(client, items, in_parts, monkeypatch):
    def fetched(self, index):
        raise AssertionError("a partition was fetched")

    monkeypatch.setattr(sources.Partitions, "value", fetched)
    sizes, one, many = [], distributed.Future.result, distributed.Client.gather
    direct = distributed.Client.run

    def result(self, timeout=None):
        value = one(self, timeout)
        sizes.append(len(pickle.dumps(value)))
        return value

    def gather(self, futures, **options):
        values = many(self, futures, **options)
        sizes.extend(len(pickle.dumps(value)) for value in values)
        return values

    def run(self, *arguments, **options):
        found = direct(self, *arguments, **options)
        sizes.extend(len(pickle.dumps(each)) for sums in found.values() for each in sums.values())
        return found

    monkeypatch.setattr(distributed.Future, "result", result)
    monkeypatch.setattr(distributed.Client, "gather", gather)
    monkeypatch.setattr(distributed.Client, "run", run)
    data = sources.partitions(delayed(items))
    get_engine(client).scan(data)
    scans = sizes.copy()
    sizes.clear()
    assert regressor(engine=client).fit(data).model_ == in_parts
    part_bytes = sum(values.nbytes for values in items[0])
    # the head of the first partition comes with its scan, the other scans are small
    assert len(scans) == N_PARTS and max(scans[1:]) < part_bytes / 3
    # for standard errors a matrix comes of every sequence, of bounded size together: more than
    # data as small as these, in one pass
    large = [size for size in sizes if size >= part_bytes / 3]
    assert len(sizes) > 5 * N_PARTS and len(large) <= N_PARTS


@pytest.mark.slow
def test_a_partition_of_which_everything_is_left_out_adds_nothing(client, items):
    n_sequences = len(items[0][0])
    left_out = np.concatenate((np.arange(n_sequences), [n_sequences + 2]))
    local = Source(sources.batches(items), batch_size=50, left_out=left_out)
    data = sources.partitions(delayed(items))
    engine = DaskEngine("dask", client=client)
    engine.scan(data)
    found = engine.run(rounded, replace(local, data=data))
    assert found == Engine("serial").run(rounded, local)
    everything = np.arange(N_PARTS * n_sequences)
    with pytest.raises(ValueError, match="no batches"):
        engine.run(rounded, Source(data, left_out=everything))


def test_progress_counts_batches_to_the_end(client, items, capsys, monkeypatch):
    # shown after every update, however quick
    monkeypatch.setattr("gloree.engine._engine.tqdm", partial(tqdm, mininterval=0))
    data = sources.partitions(delayed(items))
    engine = DaskEngine("dask", verbose=2, client=client)
    engine.scan(data)
    source = Source(data, batch_size=50)
    capsys.readouterr()
    engine.run(rounded, source, label="loud pass")
    shown = capsys.readouterr().err
    assert "loud pass: 100%" in shown and f"{source.n_batches}/{source.n_batches}" in shown


def test_arrays_are_sent_once_and_samples_as_the_rows_they_need(client, monkeypatch):
    monkeypatch.setattr(sequences_module, "GROUP_ROWS", 500)
    sent, plain = [], DaskEngine._send

    def send(self, rows):
        picked = isinstance(rows, Picked)
        sent.append(sum(b.n_rows for b in rows.batches) if picked else rows.X.shape[0])
        return plain(self, rows)

    monkeypatch.setattr(DaskEngine, "_send", send)
    monkeypatch.setattr("gloree.engine._dask.MARGIN", 20)
    engine = DaskEngine("dask", client=client)
    x = np.random.default_rng(0).standard_normal((400, 5, 2))
    # batches do not end where groups do
    source = Source(as_sequences(x, x), batch_size=230)
    expected = engine.run(rounded, source)
    assert 2000 <= sum(sent) <= 2000 + 4 * 2 * 20
    sent.clear()
    assert engine.run(rounded, source) == expected
    assert sent == []
    subset = source.subset(200)
    assert engine.run(rounded, subset) == Engine("serial").run(rounded, subset)
    assert sum(sent) <= 200


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about the allocator of glibc")
@pytest.mark.parametrize(("value", "calls"), [("65536", 2), ("100000", 0), (None, 0)])
def test_freed_memory_is_kept_only_against_the_setting_of_dask(value, calls, monkeypatch):
    seen = []

    class Library:
        def mallopt(self, name, number):
            seen.append((name, number))

    monkeypatch.setattr(_tasks.ctypes, "CDLL", lambda _: Library())
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    if value is not None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", value)
    _tasks._keep_freed_memory.__wrapped__()
    assert len(seen) == calls


def test_large_functions_and_batches_travel_without_a_warning(client):
    x = np.ones((4, 400_000, 2))
    engine = DaskEngine("dask", client=client)
    source = Source(sources.batches([(x[:2], x[:2]), (x[2:], x[2:])]))
    weights = np.ones(1_500_000)
    first = source.as_subset().batches[0]
    total = engine.run(Weighted(weights), Subset(source, [first]))
    assert total.total == Weighted(weights)(source.read(first)).total


@dataclass(frozen=True)
class Weighted:
    weights: np.ndarray

    def __call__(self, batch):
        return Rounded((), float(self.weights[0] * batch.X.sum()))


# --------------------------------------------------------------------------------------- errors


def test_a_partition_that_fails_is_named_with_its_error(client, items):
    def fails():
        raise ZeroDivisionError("no such file")

    parts = [*delayed(items[:2]), dask.delayed(fails)()]
    message = "partition 2 failed: ZeroDivisionError: no such file"
    with pytest.raises(SourceError, match=message):
        regressor(engine=client).fit(parts)
    with dask.config.set(scheduler="synchronous"), pytest.raises(SourceError, match=message):
        regressor().fit(parts)


@pytest.mark.parametrize("engine", ["serial", "dask"])
def test_a_partition_that_is_not_usable_is_named(engine, client, items):
    x, y = items[1]
    broken = y.copy()
    broken[3, 2, 1] = np.nan
    with (
        dask.config.set(scheduler="synchronous" if engine == "serial" else None),
        pytest.raises(SourceError, match="partition 1: `Y` holds nan at sequence 3, step 2, col"),
    ):
        regressor(engine=engine).fit(delayed([items[0], (x, broken)]))
    with pytest.raises(SourceError, match="partition 1 has 3 input columns, partition 0 has 4"):
        regressor(engine=engine).fit(delayed([items[0], (x[..., 1:], y)]))


def test_a_partition_that_is_different_each_time_is_caught(items):
    def noisy():
        return items[1][0], items[1][1] + np.random.default_rng().standard_normal()

    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(SourceError, match=r"partition 1 is not what it was .*fixed seeds"),
    ):
        regressor().fit([dask.delayed(part_of)(items, 0), dask.delayed(noisy)()])


@pytest.mark.parametrize("n_sequences, offset", [(19, 0.0), (20, 1.0)], ids=["shape", "values"])
def test_a_shard_that_changes_during_a_fit_is_named(n_sequences, offset, client, items, tmp_path):
    write_npz(tmp_path, items)
    source = sources.shards(tmp_path)
    source.scan()
    x, y = items[1]
    np.savez(tmp_path / "1.npz", X=x[:n_sequences], Y=y[:n_sequences] + offset)
    with pytest.raises(SourceError, match=r"1.npz is not what it was in the first pass"):
        regressor(engine=client).fit(source)


def test_an_error_in_a_pass_reaches_the_caller(client):
    x = np.ones((4, 5, 1))
    source = Source(as_sequences(x, x))
    engine = DaskEngine("dask", client=client)
    with pytest.raises(ExplosionError, match="sequence 3 reached") as caught:
        engine.run(explodes, source)
    assert caught.value.step == 7


def explodes(batch):
    raise ExplosionError(3, 7, 1e9)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_futures_that_are_lost_for_good_are_named(mortal, items):
    futures = mortal.scatter(items[:2])
    data = sources.partitions(futures)
    engine = get_engine(mortal)
    engine.scan(data)
    (holder,) = mortal.who_has(futures)[futures[1].key]
    mortal.replicate(futures[:1])
    kill(mortal, holder)
    with pytest.raises(SourceError, match=r"partition [01]: its rows were lost .*delayed values"):
        engine.run(rounded, Source(data))


@pytest.mark.parametrize("value", [np.ones(3), [], "text", [1, 2]], ids=str)
def test_what_is_no_collection_is_refused(value):
    with pytest.raises(TypeError, match="expected a"):
        sources.partitions(value)


def test_arrays_of_dask_are_refused_with_what_to_do():
    array = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match=r"Arrays: delay a function that gives \(X, Y\)"):
        sources.partitions(array.ones((4, 2), chunks=2))


def test_dask_without_a_client_says_how_to_start_one(monkeypatch):
    def nothing():
        raise ValueError("no clients found")

    monkeypatch.setattr(distributed, "default_client", nothing)
    with pytest.raises(ValueError, match=r"there is none: start one with dask.distributed.Client"):
        regressor(engine="dask").fit(np.ones((3, 3, 2)), np.ones((3, 3, 2)))


def test_engines_on_a_client_are_dask_engines(client, items):
    for name in ("dask", client):
        assert get_engine(name, verbose=2) == DaskEngine("dask", verbose=2, client=client)
    assert isinstance(get_engine(None, data=sources.partitions(delayed(items))), DaskEngine)
    assert not isinstance(get_engine(None, data=sources.batches(items)), DaskEngine)


@pytest.mark.slow
def test_subsets_are_bit_equal_wherever_they_are_kept(client, tmp_path):
    """Several batches of a group: rows that this process has are read by it, others stay."""
    engine = DaskEngine("dask", client=client)
    for data in kinds(tmp_path):
        engine.scan(data)
        source = Source(data, **CUT)
        expected = Engine("serial").run(rounded, source.subset(60))
        kept = source.subset(60, keep=True)
        for _ in range(2):
            assert engine.run(rounded, kept) == expected


def subset_of_partitions(client, items):
    """A few rows of partitions that workers have, and their sums in this process."""
    data = sources.partitions(delayed(items))
    get_engine(client).scan(data)
    source = Source(data, batch_size=50)
    local = replace(source, data=sources.batches(items))
    local.data.scan()
    expected = Engine("serial").run(rounded, local.subset(600))
    return source.subset(600, keep=True), expected


@pytest.mark.parametrize(
    "kind, narrow, tasks",
    [("arrays", 2**23, 0), ("arrays", 0, 1), ("pairs", 2**23, 1)],
    ids=["of few numbers", "of many numbers", "of lists"],
)
def test_sums_over_few_rows_are_no_tasks_or_one(kind, narrow, tasks, client, items, monkeypatch):
    """Wide sums, or rows of lists, which are made arrays of first: one worker keeps the rows."""
    monkeypatch.setattr(_dask, "NARROW", narrow)
    engine = get_engine(client)
    given = items if kind == "arrays" else [list(zip(*item, strict=True)) for item in items]
    subset, expected = subset_of_partitions(client, given)
    assert engine.run(rounded, subset) == expected
    submitted = []
    one, many = distributed.Client.submit, distributed.Client.map
    monkeypatch.setattr(
        distributed.Client, "submit", lambda *a, **k: submitted.append(1) or one(*a, **k)
    )
    monkeypatch.setattr(
        distributed.Client, "map", lambda *a, **k: submitted.append(len(a[2])) or many(*a, **k)
    )
    assert engine.run(rounded, subset) == expected
    assert sum(submitted) == tasks


def test_an_error_in_a_pass_over_kept_rows_reaches_the_caller(client, items):
    engine = get_engine(client)
    subset, expected = subset_of_partitions(client, items)
    with pytest.raises(ExplosionError, match="sequence 3 reached"):
        engine.run(explodes, subset)
    assert engine.run(rounded, subset) == expected


def test_a_partition_that_fails_is_named_by_a_pass_over_few_rows(client, items):
    def fails():
        raise ZeroDivisionError("no such file")

    subset, _ = subset_of_partitions(client, items)
    subset.source.data.futures[2] = client.submit(fails)
    with pytest.raises(SourceError, match="partition 2 failed: ZeroDivisionError: no such file"):
        get_engine(client).run(rounded, subset)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_rows_that_a_worker_kept_are_read_again_when_it_is_killed(
    mortal, items, tmp_path, monkeypatch
):
    monkeypatch.setattr(_dask, "NARROW", 0)
    engine = get_engine(mortal)
    subset, expected = subset_of_partitions(mortal, items)
    assert engine.run(rounded, subset) == expected
    # between two passes
    kept = subset.kept_rows(engine._keep)
    (holder,) = mortal.who_has([kept])[kept.key]
    kill(mortal, holder)
    assert engine.run(rounded, subset) == expected
    # in the middle of a pass
    flag = tmp_path / "killed"
    middle = int(subset.batches[0].sequence[0])
    assert engine.run(KillsItsWorker(flag, middle), subset) == expected
    assert flag.exists()


@pytest.mark.parametrize(
    "options",
    first_of(
        [{"moment": "score"}, {"n_hidden": None}, {"batch_size": 77}, {"recurrence": "cross"}]
    ),
    ids=str,
)
def test_fits_of_arrays_equal_those_in_this_process(options, client, data):
    options = {"n_hidden": 2, "random_state": 0, **options}
    expected = SpectralRNNRegressor(**options, engine="serial").fit(*data).model_
    assert SpectralRNNRegressor(**options, engine=client).fit(*data).model_ == expected


@pytest.mark.parametrize(
    "options",
    [{"refine": None}, *(pytest.param(o, marks=SLOW) for o in ({}, {"bidirectional": True}))],
    ids=str,
)
def test_labelling_fits_of_arrays_equal_those_in_this_process(options, client, data):
    X, Y = data
    options = {"n_hidden": 2, "random_state": 0, **options}
    labels = np.array(["a", "b", "c"])[Y.argmax(axis=2)]
    expected = SpectralRNNClassifier(**options, engine="serial").fit(X, labels).model_
    assert SpectralRNNClassifier(**options, engine=client).fit(X, labels).model_ == expected


@pytest.mark.slow
def test_a_client_that_is_closed_is_named(data):
    with distributed.LocalCluster(**NEAR) as cluster:
        closed = distributed.Client(cluster)
        closed.close()
        with pytest.raises(ValueError, match=r"^`engine`: the Dask client is closed"):
            regressor(engine=closed).fit(*data)


@pytest.mark.slow
def test_shards_of_a_relative_path_are_found_by_workers_elsewhere(
    client, folder, in_parts, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    assert regressor(engine=client).fit(folder.name).model_ == in_parts


@pytest.mark.slow
def test_a_single_future_is_one_partition(client, data):
    future = client.submit(tuple, data)
    expected = regressor(engine="serial").fit(sources.batches([tuple(data)])).model_
    assert regressor(engine=client).fit(future).model_ == expected


@pytest.fixture
def closing():
    """Client of a cluster in this process, and what closes both in the middle of a pass."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    client = distributed.Client(processes=False, **options)
    yield client
    client.close()


def _with_closing_client(client, monkeypatch, after, action):
    """Run an action whose client closes when it has been asked so many times."""
    asked = [0]
    ask = _dask.ask

    def counted(of, call, **options):
        asked[0] += 1
        if asked[0] == after:
            client.close()
        return ask(of, call, **options)

    monkeypatch.setattr(_dask, "ask", counted)
    return action()


@pytest.mark.parametrize("after", first_of([1, 2, 7, 20]))
@pytest.mark.parametrize("kind", ["arrays", "partitions"])
def test_a_client_that_closes_is_named(after, kind, closing, data, items, monkeypatch):
    given = data if kind == "arrays" else ([dask.delayed(item) for item in items],)
    fit = partial(regressor(engine=closing).fit, *given)
    with pytest.raises(sources.SourceError, match=r"Dask client closed.*checkpoint"):
        _with_closing_client(closing, monkeypatch, after, fit)


@pytest.mark.slow
def test_a_call_without_an_answer_ends_once_the_client_is_closed():
    """Futures of a client that closes may stay pending for ever."""
    import threading

    class Client:
        status = "running"

    client, forever = Client(), threading.Event()

    def close():
        client.status = "closed"

    threading.Timer(0.2, close).start()
    with pytest.raises(sources.SourceError, match="'closed'"):
        sources.ask(client, forever.wait)
    forever.set()


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_client(closing, client, data, tmp_path, monkeypatch):
    path = tmp_path / "fit.checkpoint"
    whole = regressor(engine=client).fit(*data).model_
    with monkeypatch.context() as patch, pytest.raises(sources.SourceError):
        fit = partial(regressor(engine=closing).fit, *data, checkpoint=path)
        _with_closing_client(closing, patch, 15, fit)
    assert regressor(engine=client).fit(*data, checkpoint=path).model_ == whole
