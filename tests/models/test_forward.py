"""The recursion over packed segments and over blocks equals the plain loop."""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np
import pytest
from helpers import naive
from helpers.blocks import assert_blocks_are_the_loop, tiny_blocks
from helpers.comparisons import assert_close
from helpers.generators import forward_network
from helpers.marks import first_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gloree.activations import linear, quadratic, tanh
from gloree.models import (
    IORNN,
    ExplosionError,
    ExplosionWarning,
    find_explosions,
    forward_blocks,
    forward_packed,
    lag_windows,
    multiply_rows,
)
from gloree.sequences import Packing

# products of up to 10 terms summed in another order: eps x terms x steps remembered
ALGEBRA_TOLERANCE = 1e-13
# blocks begin at states that agree to 1e-14, and memories of 1e4 steps add up 20 of them
BLOCK_TOLERANCE = 1e-12

make_model = partial(forward_network, 2, 3, direct=True)


@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    name=st.sampled_from(["linear", "quadratic", "cubic", "tanh", "softplus"]),
    seed=st.integers(0, 99),
)
def test_packed_recursion_is_the_plain_one(lengths, name, seed):
    model = make_model(norm=0.3, activation=name, seed=seed)
    rng = np.random.default_rng(seed)
    X = [rng.uniform(-1, 1, (n, 2)) for n in lengths]
    packing = Packing.from_lengths(np.array(lengths))
    expected = np.concatenate([naive.run(model, x).h for x in X])
    assume(np.all(np.abs(expected) < 1e3))
    drive = np.concatenate(X) @ model.input_weights.T + model.hidden_bias
    z, h = forward_packed(
        packing.pack(drive), packing.step_starts, model.recurrent_weights, model.activation
    )
    assert_close(packing.unpack(h), expected, ALGEBRA_TOLERANCE)
    np.testing.assert_array_equal(model.activation(z), h)


def test_initial_states_continue_a_cut_sequence():
    rng = np.random.default_rng(1)
    drive, recurrent = rng.uniform(-1, 1, (10, 3)), 0.2 * rng.standard_normal((3, 3))
    z, h = forward_packed(drive, np.arange(11), recurrent, tanh)
    later = forward_packed(drive[4:], np.arange(7), recurrent, tanh, initial=h[3:4])
    assert_close(later[0], z[4:], ALGEBRA_TOLERANCE)
    assert_close(later[1], h[4:], ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("recurrent", [None, np.zeros((3, 3))])
def test_no_recurrence_is_one_call_of_the_activation(recurrent):
    drive = np.random.default_rng(0).standard_normal((10, 3))
    calls = []

    class Counted(type(quadratic)):
        def __call__(self, z, out=None):
            calls.append(1)
            return super().__call__(z, out)

    z, h = forward_packed(drive, np.arange(11), recurrent, Counted((0, 0, 1)))
    np.testing.assert_array_equal(h, drive**2)
    assert len(calls) == 1
    assert not np.shares_memory(z, drive)


def test_the_drive_is_overwritten_only_if_allowed():
    drive = np.random.default_rng(0).standard_normal((10, 3))
    before = drive.copy()
    recurrent = 0.1 * np.eye(3)
    z, _ = forward_packed(drive, np.arange(11), recurrent, quadratic)
    np.testing.assert_array_equal(drive, before)
    again, _ = forward_packed(drive, np.arange(11), recurrent, quadratic, overwrite_drive=True)
    assert again is drive
    np.testing.assert_array_equal(again, z)


@pytest.mark.slow
@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    name=st.sampled_from(["quadratic", "cubic", "tanh", "linear"]),
    recurrence=st.sampled_from([0.0, 0.05, 0.3]),
    lags=st.integers(1, 3),
    rows=st.sampled_from([1, 8, 50, 10**4]),
    seed=st.integers(0, 99),
)
def test_batches_and_blocks_never_cross_a_boundary(lengths, name, recurrence, lags, rows, seed):
    model = make_model(norm=recurrence, activation=name, lags=lags, seed=seed)
    rng = np.random.default_rng(seed)
    X = [rng.uniform(-1, 1, (n, 2)) for n in lengths]
    assert_blocks_are_the_loop(model, X, rows, BLOCK_TOLERANCE)


@pytest.mark.parametrize(
    ("name", "radius"),
    first_of(
        [("quadratic", 0.1), ("tanh", 0.97), ("linear", 0.95), ("linear", 0.9999), ("linear", 1.0)],
        3,
        several=True,
    ),
)
def test_blocks_equal_the_loop_whatever_is_remembered(name, radius):
    rng = np.random.default_rng(2)
    orthogonal = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    model = IORNN(0.3 * rng.standard_normal((5, 3)), radius * orthogonal, np.ones((5, 1)),
                  activation=name)  # fmt: skip
    X = [rng.uniform(-1, 1, (n, 3)) for n in (3, 20_000, 1, 3_001, 600)]
    for x, h in zip(X, model.hidden_states(X), strict=True):
        assert_close(h, naive.run(model, x).h, BLOCK_TOLERANCE)


@pytest.mark.slow
def test_a_record_of_several_batches_is_carried_over():
    # an integrator remembers the first step for good: all batches have to be joined
    model = IORNN([[1.0]], [[1.0]], [[1.0]], activation="linear")
    X = np.random.default_rng(3).integers(-3, 4, (200_000, 1))
    np.testing.assert_array_equal(model.hidden_states(X), np.cumsum(X, axis=0))


def test_a_chaotic_unit_takes_the_plain_loop_to_the_bit():
    # z -> z^2 - 1.5 is chaotic: warm-ups never agree, and any rounding would grow
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    X = np.full((500, 1), -1.5)
    state, expected = 0.0, []
    for _ in range(500):
        state = (state - 1.5) * (state - 1.5)
        expected.append(state)
    with tiny_blocks():
        np.testing.assert_array_equal(model.hidden_states(X)[:, 0], expected)


def test_fading_memories_are_joined_side_by_side_in_few_rounds():
    rng = np.random.default_rng(4)
    n_blocks, steps = 40, 200
    recurrent = 0.9 * np.linalg.qr(rng.standard_normal((4, 4)))[0]
    drive = rng.standard_normal((n_blocks * steps, 4))
    continues = np.arange(n_blocks) > 0
    run = forward_blocks(drive, np.full(n_blocks, steps), continues, recurrent, linear)
    assert 1 <= run.rounds <= 3
    whole = forward_packed(drive, np.arange(len(drive) + 1), recurrent, linear)[1]
    assert_close(run.states, whole, BLOCK_TOLERANCE)


def test_a_warm_up_may_run_away_where_the_path_does_not():
    # z = d - h: the pulses at 11 and 12 cancel, but a warm-up from h = 0 at 12 sees only one
    model = IORNN([[1.0]], [[-1.0]], [[1.0]])
    X = np.full((64, 1), 0.1)
    X[11], X[12] = 1.5, 3.0
    alone = naive.run(model, X[12:16]).h
    assert np.abs(alone).max() > 1e3
    with tiny_blocks(block=8, warm_up=4, rows=64):
        states = model.hidden_states(X)
        assert model.explosions(X).shape == (0, 2)
    assert_close(states, naive.run(model, X).h, ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("method", ["hidden_states", "predict"])
def test_the_warning_points_at_the_callers_line(method):
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    with pytest.warns(ExplosionWarning, match="sequence 0 at step 6") as caught:
        result = getattr(model, method)(np.ones((9, 1)), on_explosion="nan")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(result[:, 0]), np.arange(9) >= 6)


def first_runaway(states):
    return int(np.flatnonzero(~(np.abs(states) <= 1e16).all(axis=1))[0])


@pytest.mark.parametrize("pulse", [3, 20, 26])
def test_a_path_may_run_away_where_the_warm_up_does_not(pulse):
    # beyond the unstable fixed point of h = (.1 + h)^2 states grow slowly, then fast
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    X = np.full((64, 1), 0.1)
    unstable = 0.4 + np.sqrt(0.15)
    X[pulse] = np.sqrt(unstable + 1e-5) - naive.run(model, X).h[pulse - 1, 0]
    step = first_runaway(naive.run(model, X).h)
    assert step > pulse + 10
    data = [np.zeros((40, 1)), X, np.zeros((3, 1))]
    for rows in (8, 16, 200):
        with tiny_blocks(block=8, warm_up=4, rows=rows):
            np.testing.assert_array_equal(model.explosions(data), [[1, step]])
            with pytest.raises(ExplosionError) as caught:
                model.predict(data)
            assert (caught.value.sequence, caught.value.step) == (1, step)
            with pytest.warns(ExplosionWarning, match="1 of 3 sequences"):
                states = model.hidden_states(data, on_explosion="nan")
        assert np.isnan(states[1][step:]).all()
        expected = naive.run(model, X).h[:step] / 1e16
        assert_close(states[1][:step] / 1e16, expected, ALGEBRA_TOLERANCE)
        assert np.isfinite(states[0]).all()
        assert np.isfinite(states[2]).all()


@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    blocks=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_explosions_are_where_the_plain_loop_has_them(lengths, blocks, seed):
    model = make_model(norm=0.8, seed=seed % 7)
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, 2)) for n in lengths]
    with tiny_blocks() if blocks else contextlib.nullcontext():
        got = model.explosions(X)
    np.testing.assert_array_equal(got, naive.explosions(model, X))


def test_find_explosions_names_segment_and_first_step():
    lengths = np.array([2, 5, 3])
    packing = Packing.from_lengths(lengths)
    states = np.zeros((10, 2))
    assert find_explosions(packing.pack(states), packing).shape == (0, 2)
    states[4, 1] = np.nan  # segment 1, step 2
    states[5, 0] = np.inf
    states[9, 0] = -1e17  # segment 2, step 2
    np.testing.assert_array_equal(find_explosions(packing.pack(states), packing), [[1, 2], [2, 2]])
    found = find_explosions(packing.pack(np.full((10, 2), 3.0)), packing, limit=2.0)
    np.testing.assert_array_equal(found, [[0, 0], [1, 0], [2, 0]])


@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    lags=st.integers(1, 5),
    n_columns=st.integers(1, 3),
)
def test_windows_are_those_of_each_sequence_alone(lengths, lags, n_columns):
    values = np.random.default_rng(0).standard_normal((sum(lengths), n_columns))
    steps = np.concatenate([np.arange(n) for n in lengths])
    windows = lag_windows(values, steps, lags).reshape(-1, lags, n_columns)
    for row, step in enumerate(steps):
        for lag in range(lags):
            expected = values[row - lag] if lag <= step else np.zeros(n_columns)
            np.testing.assert_array_equal(windows[row, lag], expected)


@pytest.mark.parametrize("shape", [(5, 4), (10_000, 4), (3_000, 40)])
def test_products_by_parts_are_products(shape):
    rng = np.random.default_rng(0)
    values, matrix = rng.standard_normal(shape), rng.standard_normal((shape[1], 13))
    out = np.empty((shape[0], 13))
    assert multiply_rows(values, matrix, out=out) is out
    assert_close(out, values @ matrix, ALGEBRA_TOLERANCE)
    assert_close(multiply_rows(values, np.asfortranarray(matrix)), out, ALGEBRA_TOLERANCE)
