"""Engines: the same batches, merged in the order of the data, whatever finishes first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers.parts import Again

from gloree._sums import MergeError, Sums
from gloree.engine import Engine, Source, Subset, every_nth, get_engine, halves, split_after
from gloree.sequences import as_sequences
from gloree.sources import batches


@dataclass(frozen=True)
class Trace:
    """Not commutative: remembers the order in which it was merged."""

    rows: tuple[float, ...]

    def merge(self, other):
        return Trace(self.rows + other.rows)


@dataclass(frozen=True)
class Total(Sums):
    n_rows: float
    products: np.ndarray


def trace(batch):
    return Trace(tuple(batch.X[batch.counted, 0]))


def total(batch):
    return Total(float(batch.n_counted), batch.X.T @ batch.X)


def source(n_sequences=40, n_steps=6, **cut):
    X = np.random.default_rng(0).standard_normal((n_sequences, n_steps, 3))
    return Source(as_sequences(X), **{"batch_size": 30, **cut})


@pytest.mark.parametrize("n_workers", [None, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 17, 30, 10_000])
def test_threads_and_serial_give_bit_equal_results(n_workers, batch_size):
    data = source(batch_size=batch_size)
    alone = Engine("serial").run(total, data)
    pooled = Engine("threads", n_workers=n_workers).run(total, data)
    assert alone.n_rows == pooled.n_rows == 240
    np.testing.assert_array_equal(alone.products, pooled.products)


def test_batches_merge_in_the_order_of_the_data_whatever_finishes_first():
    data = source()
    assert data.as_subset().n_batches > 5

    def slow_start(batch):
        # the first batches of the data finish last
        time.sleep(0.02 if batch.sequence[0] < 10 else 0.0)
        return trace(batch)

    pooled = Engine("threads", n_workers=4).run(slow_start, data)
    np.testing.assert_array_equal(pooled.rows, data.data.X[:, 0])


@pytest.mark.parametrize(
    "short, n_workers, pooled", [(0.0, None, True), (1e9, None, False), (1e9, 2, True)]
)
def test_a_short_pass_needs_no_pool_unless_threads_are_asked_for(
    short, n_workers, pooled, monkeypatch
):
    monkeypatch.setattr("gloree.engine._engine.SHORT", short)
    monkeypatch.setattr("gloree.engine._engine.n_cores", lambda: 2)
    seen = []

    def watched(batch):
        seen.append(threading.current_thread() is threading.main_thread())
        return trace(batch)

    data, engine = source(), Engine("threads", n_workers=n_workers)
    # the first batch of the first pass tells how long the others will take
    for first in (1 if n_workers is None else 0, 0):
        seen.clear()
        found = engine.run(watched, data)
        np.testing.assert_array_equal(found.rows, data.data.X[:, 0])
        assert all(seen[:first]) and len(seen) > 2
        assert all(here is not pooled for here in seen[first:])


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_an_error_in_a_pass_reaches_the_caller(name):
    def fails(batch):
        if 20 in batch.sequence:
            raise ZeroDivisionError("in batch with sequence 20")
        return trace(batch)

    with pytest.raises(ZeroDivisionError, match="sequence 20"):
        Engine(name, n_workers=3).run(fails, source())


def test_no_more_than_a_few_batches_are_in_flight():
    n_workers, in_flight, most = 2, 0, 0
    lock = threading.Lock()

    def watched(batch):
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        time.sleep(0.001)
        with lock:
            in_flight -= 1
        return trace(batch)

    Engine("threads", n_workers=n_workers).run(watched, source(batch_size=6))
    assert most <= n_workers


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_nothing_is_shown_unless_asked_for(name, capsys):
    Engine(name).run(trace, source(), label="quiet pass")
    Engine(name, verbose=1).run(trace, source(), label="quiet pass")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""
    Engine(name, verbose=2).run(trace, source(), label="loud pass")
    captured = capsys.readouterr()
    assert captured.out == "" and "loud pass" in captured.err


def test_a_pass_over_nothing_is_an_error():
    with pytest.raises(ValueError, match="no batches"):
        Engine("serial").run(trace, Subset(source(), []))


def test_a_pass_visits_only_the_batches_it_is_given():
    data = source()
    some = Subset(data, data.as_subset().batches[1:3])
    expected = np.concatenate([data.read(segments).X[:, 0] for segments in some.batches])
    np.testing.assert_array_equal(Engine("threads").run(trace, some).rows, expected)


@pytest.mark.parametrize("n_rows", [1, 50, 120, 239])
def test_a_subset_is_spread_evenly_and_of_about_the_size_asked_for(n_rows):
    data = source()
    subset = data.subset(n_rows)
    assert abs(subset.n_counted - max(n_rows, 6)) <= 6
    sequence = subset.segments.sequence
    assert np.unique(sequence).size == len(sequence) == subset.n_visited
    gaps = np.diff(np.append(sequence, 40))
    assert gaps.max() - gaps.min() <= 1


def test_a_subset_of_all_rows_is_all_batches():
    data = source()
    for n_rows in (240, 10**9):
        assert data.subset(n_rows).batches == data.as_subset().batches


@pytest.mark.parametrize("batch_size", [1, 6, 17, 30, 1000])
def test_halves_are_alternate_segments_and_together_everything(batch_size):
    first, second = halves(source(batch_size=batch_size))
    assert min(first.n_visited, second.n_visited) >= 15
    both = first.joined(second).segments
    np.testing.assert_array_equal(np.sort(both.sequence), np.arange(40))


def test_one_segment_has_no_halves():
    with pytest.raises(ValueError, match="one segment"):
        halves(source(n_sequences=1))


def test_a_window_cannot_reach_beyond_the_context():
    with pytest.raises(ValueError, match="`before` must reach the `lags`"):
        source(segment=3, before=1, lags=3)


def test_windows_of_pieces_are_those_of_the_whole_sequence():
    X = np.arange(60.0).reshape(30, 2)
    cut = Source(as_sequences(X), batch_size=1, segment=7, before=4, after=1, lags=3)
    whole = Source(as_sequences(X), lags=3)
    assert cut.as_subset().n_batches > 3
    np.testing.assert_array_equal(
        Engine("serial").run(trace, cut).rows, Engine("serial").run(trace, whole).rows
    )
    (segments,) = whole.as_subset().batches
    batch = whole.read(segments)
    assert batch.n_counted == 28
    np.testing.assert_array_equal(batch.X[batch.counted][0], [4, 5, 2, 3, 0, 1])


def test_sequences_shorter_than_the_window_count_nothing():
    batch_source = Source(as_sequences([np.ones((2, 1)), np.ones((4, 1))]), lags=3)
    batch = batch_source.read(batch_source.as_subset().segments)
    assert batch.n_counted == 2
    assert np.arange(6)[batch.counted].tolist() == [4, 5]


def test_sums_of_different_kinds_do_not_merge():
    one = Total(1.0, np.zeros((2, 2)))
    with pytest.raises(MergeError, match="cannot merge Total with Trace"):
        one.merge(Trace(()))
    with pytest.raises(MergeError, match=r"`products` has shape \(2, 2\) against \(3, 3\)"):
        one.merge(Total(1.0, np.zeros((3, 3))))


@pytest.mark.parametrize("engine, name", [(None, "threads"), ("threads", "threads")])
def test_engines_are_found_by_name(engine, name):
    assert get_engine(engine, verbose=2) == Engine(name, verbose=2)
    assert get_engine("serial") == Engine("serial")
    own = Engine("threads", n_workers=3)
    assert get_engine(own, verbose=2) is own


@pytest.mark.parametrize("engine", ["thread", 3, True])
def test_an_unknown_engine_is_refused(engine):
    with pytest.raises(ValueError, match="`engine` must be None, 'threads', 'serial'"):
        get_engine(engine)


def uneven():
    """Six segments in batches of three, one and two."""
    data = source(n_sequences=6, batch_size=100)
    (whole,) = data.as_subset().batches
    return Subset(data, [whole[:3], whole[3:4], whole[4:]]), whole


@pytest.mark.parametrize("n_segments", [0, 1, 3, 4, 6, 9])
def test_a_split_is_within_a_batch_and_keeps_the_order(n_segments):
    subset, whole = uneven()
    first, second = split_after(subset, n_segments)
    assert first.n_visited == min(n_segments, 6)
    assert all(len(segments) for segments in [*first.batches, *second.batches])
    assert first.joined(second).segments == whole


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 7])
def test_every_nth_segment_wherever_batches_begin(stride):
    subset, whole = uneven()
    assert every_nth(subset, stride).segments == whole[::stride]


# ---------------------------------------------------------------------------------- subsets


def scanned(items):
    data = batches(items)
    data.scan()
    return data


def subset_of(data, n_rows, **cut):
    return Source(data, batch_size=64, **cut).subset(n_rows, keep=True)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("name", ["serial", "threads"])
@pytest.mark.parametrize("in_parts", [True, False])
def test_a_subset_gives_the_sums_of_its_batches_to_the_last_bit(name, in_parts, small):
    """Kept in memory or not: rows of a part join the sums of that part first."""
    rng = np.random.default_rng(0)
    items = [(rng.standard_normal((12, 9, 3)), rng.standard_normal((12, 9, 2))) for _ in range(5)]
    whole = [np.concatenate(values) for values in zip(*items, strict=True)]
    data = scanned(items) if in_parts else as_sequences(*whole)
    subset = subset_of(data, 200, most_kept=10**6 if small else 0)
    expected = Engine("serial").run(total, Subset(subset.source, subset.batches))
    for _ in range(2):
        found = Engine(name, n_workers=3).run(total, subset)
        np.testing.assert_array_equal(found.products, expected.products)
    assert subset.is_kept is small


@pytest.mark.parametrize("keep, n_read", [(True, 1), (False, 3)])
def test_a_small_subset_is_read_once_if_it_may_be_kept(keep, n_read):
    rng = np.random.default_rng(0)
    data = Again([(rng.standard_normal((12, 9, 3)), rng.standard_normal((12, 9, 2)))] * 5)
    subset = replace(subset_of(scanned(data), 100), keep=keep)
    before = data.n_passes
    for _ in range(3):
        Engine("serial").run(total, subset)
    assert data.n_passes == before + n_read


def test_rows_that_are_kept_do_not_hold_their_part():
    rng = np.random.default_rng(0)
    data = as_sequences(rng.standard_normal((10, 50, 3)), rng.standard_normal((10, 50, 2)))
    source = Source(data, batch_size=50)
    first = [segments[:1] for segments in source.iter_batches()]
    for _, batch in Subset(source, first).kept_rows(Engine("serial")._read):
        assert not np.shares_memory(batch.X, data.X)
        assert not np.shares_memory(batch.Y, data.Y)
