"""States of networks of one direction and of both on batches, against loops over steps."""

from itertools import product

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_close
from helpers.generators import ragged, two_way_network

from gloree.models import BRNN, ExplosionError
from gloree.sequences import as_sequences
from gloree.states import predict_rows, residual_rows, run_states

# Sums of up to ten products in another order.
ALGEBRA = 1e-12

LENGTHS = (5, 1, 8, 2, 3)
SPLITS = [(2, 3), (3, 1), (2, 0), (0, 2)]


RECURRENT = list(product([True, False], repeat=2))


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("recurrent", RECURRENT)
@pytest.mark.parametrize("split", SPLITS)
def test_states_of_both_chains_equal_the_naive_loop(split, recurrent, direct):
    model = two_way_network(*split, direct=direct, recurrent=recurrent)
    X, Y = ragged(3, 2)
    batch = as_sequences(X, Y).whole()
    states = run_states(model, batch)
    runs = [naive.run(model, x) for x in X]
    for name, field in (("z", "z"), ("h", "h"), ("previous", "entering")):
        values = np.concatenate([getattr(run, field) for run in runs])
        assert_close(getattr(states, name), values, ALGEBRA)
    expected = np.concatenate([run.outputs for run in runs])
    assert_close(predict_rows(model, batch, states), expected, ALGEBRA)
    assert_close(residual_rows(model, batch), np.concatenate(Y) - expected, ALGEBRA)


@pytest.mark.parametrize("split", SPLITS)
def test_pieces_with_context_on_both_sides_have_the_states_of_the_whole(split):
    model = two_way_network(*split)
    data = as_sequences(ragged(3, 2, lengths=(60, 4, 33))[0])
    whole = run_states(model, data.whole())
    found = {name: [] for name in ("z", "h", "previous")}
    for batch in data.batches(10, segment=10, before=40, after=40):
        states = run_states(model, batch)
        for name, parts in found.items():
            parts.append(getattr(states, name)[batch.counted])
    # the recurrence forgets a factor of two or more with each step of warm-up
    for name, parts in found.items():
        assert_close(np.concatenate(parts), getattr(whole, name), 0.5**40 + ALGEBRA)


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
