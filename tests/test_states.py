"""States of networks of one direction and of both on batches, against loops over steps."""

from itertools import product

import numpy as np
import pytest

from gloree.models import BRNN, ExplosionError
from gloree.sequences import as_sequences
from gloree.states import predict_rows, residual_rows, run_states

# Sums of up to ten products in another order.
ALGEBRA = 1e-12

LENGTHS = (5, 1, 8, 2, 3)
SPLITS = [(2, 3), (3, 1), (2, 0), (0, 2)]


def make_model(n_forward, n_backward, *, direct=False, recurrent=(True, True), seed=0):
    rng = np.random.default_rng(seed)
    k = n_forward + n_backward
    return BRNN(
        rng.standard_normal((n_forward, 3)) / 2,
        0.1 * rng.standard_normal((n_forward, n_forward)) * recurrent[0],
        rng.standard_normal((n_backward, 3)) / 2,
        0.1 * rng.standard_normal((n_backward, n_backward)) * recurrent[1],
        rng.standard_normal((k, 2)),
        0.3 * rng.standard_normal(k),
        rng.standard_normal(2),
        rng.standard_normal((3, 2)) if direct else None,
    )


def make_data(lengths=LENGTHS, seed=1):
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, 3)) for n in lengths]
    return X, [rng.standard_normal((n, 2)) for n in lengths]


def naive_run(model, x):
    """z, h and what enters the recurrences, (n_steps, n_hidden) each, of one sequence."""
    cut, n = model.n_forward, len(x)
    z = np.zeros((n, model.n_hidden))
    h, entering = np.zeros_like(z), np.zeros_like(z)
    chains = (
        (slice(0, cut), range(n), model.forward_input_weights, model.forward_recurrent_weights),
        (
            slice(cut, None),
            range(n - 1, -1, -1),
            model.backward_input_weights,
            model.backward_recurrent_weights,
        ),
    )
    for units, steps, A, U in chains:
        state = np.zeros(len(A))
        for t in steps:
            entering[t, units] = state
            z[t, units] = A @ x[t] + U @ state + model.hidden_bias[units]
            state = h[t, units] = model.activation(z[t, units])
    return z, h, entering


def close(actual, expected, tolerance=ALGEBRA):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


RECURRENT = list(product([True, False], repeat=2))


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("recurrent", RECURRENT)
@pytest.mark.parametrize("split", SPLITS)
def test_states_of_both_chains_equal_the_naive_loop(split, recurrent, direct):
    model = make_model(*split, direct=direct, recurrent=recurrent)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    states = run_states(model, batch)
    naive = [naive_run(model, x) for x in X]
    for name, values in zip(("z", "h", "previous"), zip(*naive, strict=True), strict=True):
        close(getattr(states, name), np.concatenate(values))
    expected = np.concatenate([h for _, h, _ in naive]) @ model.output_weights + model.output_bias
    if direct:
        expected += batch.X @ model.direct_weights
    close(predict_rows(model, batch, states), expected)
    close(residual_rows(model, batch), np.concatenate(Y) - expected)


@pytest.mark.parametrize("split", SPLITS)
def test_pieces_with_context_on_both_sides_have_the_states_of_the_whole(split):
    model = make_model(*split)
    data = as_sequences(make_data(lengths=(60, 4, 33))[0])
    whole = run_states(model, data.whole())
    found = {name: [] for name in ("z", "h", "previous")}
    for batch in data.batches(10, segment=10, before=40, after=40):
        states = run_states(model, batch)
        for name, parts in found.items():
            parts.append(getattr(states, name)[batch.counted])
    # the recurrence forgets a factor of two or more with each step of warm-up
    for name, parts in found.items():
        close(np.concatenate(parts), getattr(whole, name), 0.5**40 + ALGEBRA)


def exploding(way):
    one, none = [[1.0]], np.zeros((0, 1))
    ahead, behind = (one, none) if way == "forward" else (none, one)
    return BRNN(ahead, ahead if len(ahead) else None, behind, behind if len(behind) else None, one)


@pytest.mark.parametrize(("way", "step"), [("forward", 6), ("backward", 2)])
def test_explosion_names_the_step_at_which_a_chain_runs_away(way, step):
    """Nine steps of ones: the seventh on the way is beyond all bounds."""
    batch = as_sequences([np.zeros((9, 1)), np.ones((9, 1)), np.zeros((4, 1))]).whole()
    with pytest.raises(ExplosionError) as caught:
        run_states(exploding(way), batch)
    assert (caught.value.sequence, caught.value.step) == (1, step)


@pytest.mark.parametrize(("way", "step"), [("forward", 26), ("backward", 8)])
def test_explosion_in_a_piece_names_the_step_of_the_sequence(way, step):
    """Pieces start at rest: at step 20 of ones that begin there, or at step 14, the last one."""
    x = np.zeros((30, 1))
    x[20:] = 1.0
    x = x if way == "forward" else 1.0 - x
    data = as_sequences([np.zeros((4, 1)), x])
    with pytest.raises(ExplosionError) as caught:
        for table in data.segments(batch_size=1, segment=15):
            run_states(exploding(way), data.batch(table))
    assert (caught.value.sequence, caught.value.step) == (1, step)
