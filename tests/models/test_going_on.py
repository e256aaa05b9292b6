"""Runs from a state: they equal the loop over steps, and the whole where a sequence was cut."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.generators import forward_network, ragged, two_way_network
from helpers.naive import run, run_from
from helpers.parts import write_npz

from gloree import sources
from gloree.models import ExplosionWarning

# sums of some ten terms of size one, over a memory of a few steps
ALGEBRA = 1e-12

PER_UNIT = ("linear", "tanh", "tanh", "softplus")
NETWORKS = {
    "one row": {},
    "windows": {"lags": 3},
    "no recurrence": {"recurrent_weights": None, "lags": 2},
    "per unit": {"activation": PER_UNIT, "lags": 4, "direct": True, "norm": 0.7},
}


def networks():
    return pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())


def network(options, seed=0):
    return forward_network(seed=seed, **{"direct": True, **options})


def some_states(model, n=None, seed=7):
    shape = (model.n_state,) if n is None else (n, model.n_state)
    return np.random.default_rng(seed).standard_normal(shape)


@networks()
def test_the_state_is_the_hidden_one_and_the_last_inputs_newest_first(options):
    model = network(options)
    assert model.n_state == model.n_hidden + (model.lags - 1) * model.n_inputs
    x, start = np.random.default_rng(1).standard_normal((20, 3)), some_states(model)
    outputs, state = model.predict(x, state=start, return_state=True)
    expected, last = run_from(model, x, start)
    assert_close(outputs, expected, ALGEBRA)
    assert_close(state, last, ALGEBRA)
    np.testing.assert_array_equal(state[model.n_hidden :], x[: -model.lags : -1].ravel())


@networks()
@pytest.mark.parametrize("n_rows", [7, 1500])  # in one piece, and in blocks side by side
def test_a_sequence_cut_anywhere_and_gone_on_with_equals_the_whole(options, n_rows):
    model = network(options)
    x, start = np.random.default_rng(2).standard_normal((n_rows, 3)), some_states(model)
    whole, end = model.predict(x, state=start, return_state=True)
    assert_close(whole, run_from(model, x, start)[0], ALGEBRA)
    for cut in (1, 2, 3, n_rows // 2, n_rows - 1):
        first, state = model.predict(x[:cut], state=start, return_state=True)
        second, last = model.predict(x[cut:], state=state, return_state=True)
        assert_close(np.concatenate((first, second)), whole, ALGEBRA)
        assert_close(last, end, ALGEBRA)


@networks()
def test_every_sequence_has_a_state_whatever_the_form(options):
    model = network(options)
    X, _ = ragged(3, 2, lengths=(5, 1, 1100, 2))
    starts = some_states(model, 4)
    runs = [run_from(model, x, start) for x, start in zip(X, starts, strict=True)]
    ends = np.array([state for _, state in runs])
    listed, states = model.predict(X, state=starts, return_state=True)
    assert [len(y) for y in listed] == [5, 1, 1100, 2]
    flat, of_flat = model.predict(
        np.concatenate(X), lengths=[5, 1, 1100, 2], state=starts, return_state=True
    )
    for found in (np.concatenate(listed), flat):
        assert_close(found, np.concatenate([outputs for outputs, _ in runs]), ALGEBRA)
    for found in (states, of_flat):
        assert_close(found, ends, ALGEBRA)
    box = np.stack([X[0], X[0]])
    outputs, states = model.predict(box, state=starts[0], return_state=True)
    assert_close(outputs, np.stack([runs[0][0]] * 2), ALGEBRA)
    assert_close(states, np.stack([runs[0][1]] * 2), ALGEBRA)
    drawn, states = model.simulate(X, state=starts, return_state=True)
    assert_close(np.concatenate(drawn), flat, ALGEBRA)
    assert_close(states, ends, ALGEBRA)


def test_hidden_states_start_from_a_state_too():
    model = network({"lags": 2})
    x, start = np.random.default_rng(3).standard_normal((30, 3)), some_states(model)
    states, last = model.hidden_states(x, state=start, return_state=True)
    expected = [run_from(model, x[:n], start)[1][: model.n_hidden] for n in range(1, 31)]
    assert_close(states, np.array(expected), ALGEBRA)
    assert_close(last, run_from(model, x, start)[1], ALGEBRA)


def test_without_a_state_a_run_starts_from_zeros():
    model = network({"lags": 3})
    x = np.random.default_rng(4).standard_normal((40, 3))
    np.testing.assert_array_equal(model.predict(x), model.predict(x, state=np.zeros(model.n_state)))


@pytest.mark.parametrize("lags", [1, 3])
def test_a_state_in_two_directions_is_that_of_the_forward_units(lags):
    model = two_way_network(lags=lags, direct=True)
    assert model.n_state == model.n_forward + (lags - 1) * model.n_inputs
    x = np.random.default_rng(5).standard_normal((12, 3))
    # past inputs in front of the rows, and the state that forward units have after them
    before = np.random.default_rng(6).standard_normal((lags - 1, 3))
    h = np.random.default_rng(7).standard_normal(model.n_forward)
    outputs, state = model.predict(x, state=np.concatenate((h, *before[::-1])), return_state=True)
    padded = run(model, np.concatenate((before, x)))
    backward = slice(model.n_forward, None)
    entering, hidden = h, []
    A1, U, b = (
        model.forward_input_weights,
        model.forward_recurrent_weights,
        model.hidden_bias[: model.n_forward],
    )
    rows = np.concatenate((before, x))
    windows = [rows[t : t + lags][::-1].ravel() for t in range(12)]
    for window in windows:
        entering = (A1 @ window + U @ entering + b) ** 2
        hidden.append(entering)
    h_all = np.hstack((hidden, padded.h[lags - 1 :, backward]))
    ahead = np.concatenate((x, np.zeros((lags, 3))))
    future = [ahead[t + 1 : t + lags].ravel() for t in range(12)]
    both = np.hstack((windows, np.reshape(future, (12, -1))))
    expected = h_all @ model.output_weights + model.output_bias + both @ model.direct_weights
    assert_close(outputs, expected, ALGEBRA)
    assert_close(state, np.concatenate((hidden[-1], *rows[::-1][: lags - 1])), ALGEBRA)


def test_data_in_parts_have_states_too(tmp_path):
    model = network({"lags": 2})
    X, Y = ragged(3, 2, lengths=(4,) * 6)
    folder = write_npz(
        tmp_path, [(np.stack(X[i : i + 2]), np.stack(Y[i : i + 2])) for i in (0, 2, 4)]
    )
    starts = some_states(model, 6)
    expected, ends = model.predict(X, state=starts, return_state=True)
    for engine in ("serial", "threads"):
        found, states = model.predict(str(folder), state=starts, return_state=True, engine=engine)
        assert_close(np.array(found), np.array(expected), ALGEBRA)
        assert_close(states, ends, ALGEBRA)
    with pytest.raises(
        ValueError, match=r"`state` has shape \(5, 7\), expected \(7,\) or \(6, 7\)"
    ):
        model.predict(sources.shards(folder), state=starts[:5])


def test_the_state_of_an_exploded_sequence_is_nan():
    model = network({}).replace(recurrent_weights=5.0 * np.eye(4))
    x = np.ones((2, 60, 3))
    x[1] = 0.0
    with pytest.warns(ExplosionWarning):
        _, states = model.predict(
            x, state=[[9.0] * 4, [0.0] * 4], return_state=True, on_explosion="nan"
        )
    assert np.all(np.isnan(states[0]))


@pytest.mark.parametrize(
    "state, error, words",
    [
        (np.zeros(4), ValueError, r"`state` has shape \(4,\), expected \(7,\) or \(1, 7\)"),
        (np.zeros((2, 7)), ValueError, r"`state` has shape \(2, 7\)"),
        ([0.0] * 6 + [np.nan], ValueError, r"`state` holds nan at \(0, 6\)"),
        (["a"] * 7, TypeError, "`state` has dtype"),
        ([[0.0], [0.0, 1.0]], ValueError, "`state` is not a regular array"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state, error, words):
    model, x = network({"lags": 2}), np.zeros((5, 3))
    for function in (model.predict, model.hidden_states, model.simulate):
        with pytest.raises(error, match=words):
            function(x, state=state)
    with pytest.raises(error, match=words):
        model.stepper(state)
