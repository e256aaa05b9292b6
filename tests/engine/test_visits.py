"""Visits of Dask workers: the bit-equal sums of tasks, whatever a visit leaves to these."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from engine_rounding import rounded
from helpers.parts import ragged_parts

from gloree import sources
from gloree.engine import DaskEngine, Engine, Source, _dask, _moves, _visits
from gloree.models import ExplosionError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

N_PARTS = 7
# workers in this process, which all the same send everything to each other as bytes
OPTIONS = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}


@pytest.fixture(scope="module", params=[(2, 1), (1, 3)], ids=["2 workers", "3 threads"])
def client(request):
    n_workers, n_threads = request.param
    with (
        distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=n_threads, **OPTIONS
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def parts():
    return ragged_parts([[5, 9, 30]] * N_PARTS)[0]


@pytest.fixture(scope="module")
def expected(parts):
    data = sources.batches(parts)
    data.scan()
    return Engine("serial").run(rounded, Source(data, batch_size=17))


@pytest.fixture
def source(client, parts):
    return source_of(client, parts)


def source_of(client, parts):
    data = sources.partitions([dask.delayed(list)(part) for part in parts])
    DaskEngine("dask", client=client).scan(data)
    return Source(data, batch_size=17)


@pytest.fixture
def by_tasks(monkeypatch):
    """Numbers of the groups that are left to tasks."""
    numbers, plain = [], _dask.Tasks.begin

    def begin(self, wave):
        numbers.extend(group.number for group in wave)
        return plain(self, wave)

    monkeypatch.setattr(_dask.Tasks, "begin", begin)
    return numbers


def test_a_pass_over_partitions_needs_no_task(client, source, expected, by_tasks):
    assert DaskEngine("dask", client=client).run(rounded, source) == expected
    assert by_tasks == []


@pytest.mark.parametrize(
    "name, value",
    [("LIGHT", 0), ("Visit", lambda function, *_: _visits.Visit(function, 0))],
    ids=["a large function", "wide sums"],
)
def test_tasks_sum_what_visits_do_not(name, value, client, source, expected, by_tasks, monkeypatch):
    monkeypatch.setattr(_dask, name, value)
    assert DaskEngine("dask", client=client).run(rounded, source) == expected
    assert by_tasks == list(range(N_PARTS))


@dataclass(frozen=True)
class Counted:
    """Sequences by number, as an array."""

    sequences: np.ndarray

    def merge(self, other):
        return Counted(np.concatenate((self.sequences, other.sequences)))


def counted(batch):
    return Counted(batch.sequence)


@pytest.mark.parametrize("limit", ["seconds", "bytes"])
def test_tasks_sum_what_a_visit_has_no_time_or_room_for(
    limit, client, source, by_tasks, monkeypatch
):
    n_visited = 0
    if limit == "seconds":
        monkeypatch.setattr(_visits, "SPELL", 0.0)
    else:
        # a thread sums one group before it knows how wide sums are
        monkeypatch.setattr(_dask, "Visit", lambda function, *_: _visits.Visit(function, 1))
        n_visited = sum(client.nthreads().values())
    found = DaskEngine("dask", client=client).run(counted, source)
    np.testing.assert_array_equal(found.sequences, np.arange(3 * N_PARTS))
    assert len(by_tasks) == N_PARTS - n_visited


class FailsFor:
    """Pass function that fails at sequences, of a kind."""

    def __init__(self, failures):
        self.failures = failures

    def __call__(self, batch):
        for number in batch.sequence.tolist():
            if number in self.failures:
                raise self.failures[number]
        return rounded(batch)


@pytest.mark.parametrize("first, second", [(4, 13), (13, 16), (1, 20)])
def test_of_several_failures_that_of_the_first_group_is_raised(
    first, second, client, source, by_tasks
):
    engine = DaskEngine("dask", client=client)
    failures = {number: ExplosionError(number, 7, 1e9) for number in (first, second)}
    with pytest.raises(ExplosionError, match=f"sequence {first} reached"):
        engine.run(FailsFor(failures), source)
    assert by_tasks == []


def test_an_error_that_is_no_step_of_a_search_is_that_of_a_task(client, source, by_tasks):
    engine = DaskEngine("dask", client=client)
    with pytest.raises(ZeroDivisionError, match="here"):
        engine.run(FailsFor({10: ZeroDivisionError("here")}), source)
    assert 10 // 3 in by_tasks


def test_a_worker_that_is_short_of_memory_is_not_visited(
    client, source, expected, by_tasks, monkeypatch
):
    real = _visits.sum_held

    async def paused(visit, shares, dask_worker):
        class Worker:
            status = distributed.core.Status.paused
            address = dask_worker.address

        return await real(visit, shares, Worker())

    monkeypatch.setattr(_visits, "sum_held", paused)
    assert DaskEngine("dask", client=client).run(rounded, source) == expected
    assert by_tasks == list(range(N_PARTS))


def test_a_worker_that_is_lost_ends_the_wait_for_it():
    class Client:
        status = "running"

    forever = Event()
    with pytest.raises(TimeoutError):
        sources.ask(Client(), forever.wait, hopeless=lambda: True)
    forever.set()


def test_rows_that_the_scheduler_has_forgotten_are_left_to_tasks():
    class Lost:
        client = SimpleNamespace(who_has=None)

        def arguments(self, data, groups):
            return [SimpleNamespace(key="lost")], [0], [None]

        def ask(self, call, *arguments):
            raise CancelledError

    assert _visits.sums_of_visits(Lost(), None, [None], None) == {}


# ----------------------------------------------------------------------------- equal shares


def loads(holders, rows, threads, moved):
    """Rows for each thread of every worker."""
    found = dict.fromkeys(threads, 0.0)
    for part, address in enumerate(holders):
        address = moved.get(part, address)
        found[address] += rows[part] / threads[address]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_moves_leave_none_to_the_least_busy_that_would_shorten_passes(seed):
    rng = np.random.default_rng(seed)
    threads = {"a": 1, "b": 2, "c": 1}
    for _ in range(20):
        rows = rng.integers(1, 10, 8).tolist()
        holders = rng.choice(list(threads), 8).tolist()
        before, after = (
            loads(holders, rows, threads, moved)
            for moved in ({}, _moves.moves(holders, rows, threads, gain=0.0))
        )
        moved = _moves.moves(holders, rows, threads, gain=0.0)
        assert max(after.values()) < max(before.values()) or not moved
        least = min(after, key=after.__getitem__)
        for part in range(8):
            one_more = loads(holders, rows, threads, {**moved, part: least})
            assert max(one_more.values()) >= max(after.values())
        # nothing moves for a small gain
        gained = loads(holders, rows, threads, _moves.moves(holders, rows, threads))
        assert gained == before or max(gained.values()) <= 0.9 * max(before.values())


def test_moves_of_equal_partitions_make_equal_shares():
    for n_first in range(9):
        holders = ["a"] * n_first + ["b"] * (8 - n_first)
        moved = _moves.moves(holders, [5] * 8, {"a": 1, "b": 1})
        assert loads(holders, [5] * 8, {"a": 1, "b": 1}, moved) == {"a": 20, "b": 20}
        assert len(moved) == abs(n_first - 4)


def test_partitions_that_one_worker_computed_are_shared_out(client, parts, expected):
    addresses = list(client.nthreads())
    with dask.annotate(workers=addresses[:1]):
        delayed = [dask.delayed(list)(part) for part in parts]
    data = sources.partitions(delayed)
    engine = DaskEngine("dask", client=client)
    engine.scan(data)
    held = client.who_has(data.futures)
    shares = [sum(address in where for where in held.values()) for address in addresses]
    assert max(shares) <= -(-N_PARTS // len(addresses))
    assert engine.run(rounded, Source(data, batch_size=17)) == expected


def test_partitions_that_were_given_as_futures_stay(client, parts):
    addresses = list(client.nthreads())
    futures = client.scatter(list(parts), workers=addresses[:1])
    data = sources.partitions(futures)
    DaskEngine("dask", client=client).scan(data)
    assert data.futures == futures
    assert all(where == (addresses[0],) for where in client.who_has(futures).values())
