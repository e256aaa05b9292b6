"""The plan of a first moment, from shapes alone."""

from math import comb

import pytest

from gloree.moments import MemoryLimitError, plan
from gloree.moments._plan import MAX_FEATURES

MIB = 2**20


def n_powers(d, degree):
    return sum(comb(d + m - 1, m) for m in range(1, degree + 1))


@pytest.mark.parametrize("degree", [2, 3])
def test_number_of_features(degree):
    shapes = {"n_hidden": 5, "degree": degree, "n_workers": 2}
    assert plan(10**6, 6, 2, **shapes).n_features == 1 + 2 * n_powers(6, degree)
    assert plan(10**6, 6, 2, score=False, **shapes).n_features == 3 + n_powers(6, degree)
    score = sum(comb(6 + m - 1, m) for m in range(degree, -1, -2))
    assert plan(10**6, 6, 2, moment="score", **shapes).n_features == score


@pytest.mark.parametrize(
    ("n_rows", "n_inputs", "settings", "expected"),
    [
        (200_000, 20, {}, "union"),
        (200_000, 20, {"score": False}, "xreg"),
        (200_000, 20, {"moment": "score"}, "score"),
        (200_000, 20, {"moment": "regression"}, "union"),
        # 462 union features want four rows each
        (1_500, 20, {}, "xreg"),
        # and 233 xreg features want three
        (500, 20, {}, "score"),
        (500, 20, {"moment": "regression"}, "xreg"),
        (500, 20, {"score": False}, "xreg"),
    ],
)
def test_choice_of_the_moment(n_rows, n_inputs, settings, expected):
    assert plan(n_rows, n_inputs, 10, **settings).moment == expected


def test_many_inputs_are_reduced_first():
    planned = plan(10**6, 500, 4, n_hidden=8)
    assert planned.n_directions == 2 * 8 + 10
    assert planned.n_features <= MAX_FEATURES
    assert "on 26 directions found first" in str(planned)
    assert "found first" not in str(plan(10**6, 20, 4, n_hidden=8))


@pytest.mark.parametrize("name", ["n_rows", "n_inputs", "n_outputs"])
@pytest.mark.parametrize("moment", ["regression", "score"])
def test_cost_and_memory_grow_with_the_data(name, moment):
    last = None
    for factor in (1, 2, 3):
        sizes = {"n_rows": 30_000, "n_inputs": 8, "n_outputs": 3}
        sizes[name] *= factor
        planned = plan(**sizes, moment=moment, n_workers=2)
        if last is not None:
            assert planned.gigaflops >= last.gigaflops
            assert planned.batch_bytes >= last.batch_bytes
            assert planned.sum_bytes >= last.sum_bytes
            assert planned.total_bytes >= last.total_bytes
        last = planned


def test_memory_grows_with_workers_and_batches():
    small = plan(10**6, 10, 3, n_workers=1, batch_size=1000)
    assert plan(10**6, 10, 3, n_workers=4, batch_size=1000).total_bytes > small.total_bytes
    assert plan(10**6, 10, 3, n_workers=1, batch_size=4000).total_bytes > small.total_bytes


@pytest.mark.parametrize("limit", [20 * MIB, 40 * MIB, 80 * MIB])
def test_memory_limit_is_kept(limit):
    planned = plan(10**6, 12, 4, n_workers=2, memory_limit=limit)
    assert planned.total_bytes <= limit
    assert 256 <= planned.batch_size <= 2**16


def test_a_larger_limit_never_makes_batches_smaller():
    sizes = [
        plan(10**6, 12, 4, n_workers=2, memory_limit=limit * MIB).batch_size
        for limit in (20, 25, 30, 40, 80, 160)
    ]
    assert sizes == sorted(sizes)


def test_limit_that_cannot_be_kept_is_an_error_with_numbers():
    with pytest.raises(MemoryLimitError, match=r"`memory_limit`=1,000 bytes: this fit needs"):
        plan(10**6, 12, 4, memory_limit=1000)
    with pytest.raises(MemoryLimitError, match="lower `batch_size`"):
        plan(10**6, 12, 4, n_workers=2, batch_size=10**6, memory_limit=40 * MIB)
    assert issubclass(MemoryLimitError, MemoryError)


def test_the_least_limit_that_the_error_names_is_enough():
    with pytest.raises(MemoryLimitError) as caught:
        plan(10**6, 12, 4, n_workers=2, memory_limit=MIB)
    needed = int(str(caught.value).split("at least ")[1].split(" ")[0].replace(",", ""))
    assert plan(10**6, 12, 4, n_workers=2, memory_limit=needed).total_bytes <= needed


def test_batches_are_never_larger_than_the_data():
    assert plan(100, 3, 1).batch_size == 100


def test_unknown_moment_is_refused():
    with pytest.raises(ValueError, match="`moment` must be one of 'auto', 'regression', 'xreg'"):
        plan(100, 3, 1, moment="stein")


def test_plan_says_what_it_will_do():
    text = str(plan(200_000, 20, 10, n_workers=2))
    for part in ("`union` of order 2", "461 features", "200,000 steps", "GFLOP", "MiB"):
        assert part in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 2.5}, "`n_rows` must be an integer"),
        ({"n_inputs": 0}, "`n_inputs` must be at least 1"),
        ({"degree": 2.0}, "`degree` must be an integer"),
        ({"n_workers": 0}, "`n_workers` must be at least 1"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"n_segments": -1}, "`n_segments` must be at least 0"),
        ({"score": "x"}, "`score` must be True or False"),
    ],
)
def test_sizes_that_are_none_are_refused_by_name(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        plan(**{"n_rows": 1000, "n_inputs": 4, "n_outputs": 3, **options})
