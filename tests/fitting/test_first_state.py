"""Mirror images told by a free state before the first step: against all images, and by loops."""

from itertools import product

import numpy as np
import pytest
from helpers import naive

from gloree import IORNN
from gloree.activations import Polynomial, get_activation
from gloree.engine import Source
from gloree.fitting._first_state import (
    first_step,
    images_of,
    widened,
    with_first_step,
)
from gloree.models import BRNN, mirror_images
from gloree.refinement import Layout
from gloree.sequences import as_sequences

# algebra: two evaluations of the same network over a dozen steps
ALGEBRA = 1e-10
CUBIC = Polynomial((0.3, 1.0, 0.5, 0.2))


def network(seed, k=4, activation="sigmoid", norm=0.8):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((k, k))
    return IORNN(
        rng.standard_normal((k, 3)),
        norm * U / np.linalg.norm(U, 2),
        rng.standard_normal((k, 2)),
        hidden_bias=rng.standard_normal(k),
        output_bias=rng.standard_normal(2),
        direct_weights=rng.standard_normal((3, 2)),
        activation=get_activation(activation),
    )


@pytest.mark.parametrize("activation, norm", [("sigmoid", 0.8), (CUBIC, 0.03), ("tanh", 0.8)])
def test_a_mirror_image_from_the_state_of_the_centre_is_the_network(activation, norm):
    """Images of any units, started at h_i = 2 f0, predict what the network does from zero."""
    model = network(0, activation=activation, norm=norm)
    x = np.random.default_rng(1).standard_normal((7, 3))
    height = model.activation.centre[1]
    for units in ([0], [1, 3], [0, 1, 2, 3]):
        image = mirror_images(model, np.array(units))
        start = np.zeros(4)
        start[units] = 2 * height
        np.testing.assert_allclose(
            naive.predictions(image, x, start), model.predict(x), atol=ALGEBRA
        )
        back = mirror_images(image, np.array(units))
        for name, values in model.arrays().items():
            np.testing.assert_allclose(back.arrays()[name], values, atol=ALGEBRA)


def test_images_of_two_directions_differ_at_the_ends_alone():
    rng = np.random.default_rng(2)
    draw = rng.standard_normal
    model = BRNN(
        *(draw((2, 3)), 0.1 * draw((2, 2)), draw((2, 3)), 0.1 * draw((2, 2)), draw((4, 2))),
        hidden_bias=draw(4),
        activation="sigmoid",
    )
    x = draw((60, 3))
    image = mirror_images(model, np.array([1, 2]))
    off = np.abs(image.predict(x) - model.predict(x)).max(axis=1)
    # a recurrence of norm 0.3 and slopes of a quarter forget a state within twenty steps
    assert off[20:40].max() < 1e-12
    assert off[0] > 1e-6
    assert off[-1] > 1e-6


def with_free_state(model, units, noise, rng):
    """An image in which e = U h_0 of its state before the first step, with noise in e."""
    image = widened(mirror_images(model, np.array(units, dtype=int)))
    state = np.zeros(model.n_hidden)
    state[units] = 2 * model.activation.centre[1]
    A = np.array(image.input_weights)
    A[:, -1] = image.recurrent_weights @ state + noise * rng.standard_normal(model.n_hidden)
    return image.replace(input_weights=A)


@pytest.mark.parametrize("seed", range(6))
def test_the_units_chosen_are_the_best_of_all_sets(seed):
    """W(h) is min d^T H d over changes d of all weights that make e - U h zero, by its KKT system;
    and the sets that are given are the least of all 2^k."""
    rng = np.random.default_rng(seed)
    k = 2 + seed % 3
    model = network(seed, k)
    image = with_free_state(model, [0], 0.1, rng)
    layout = Layout(4, k, 2, direct=True)
    root = rng.standard_normal((layout.size, 2 * layout.size))
    H = root @ root.T
    losses = {}
    for each in product((0, 1), repeat=k):
        h = 2 * 0.5 * np.array(each, dtype=float)
        D = np.zeros((k, layout.size))
        for i in range(k):
            D[i, layout.indices["input_weights"][i, -1]] = 1.0
            D[i, layout.indices["recurrent_weights"][i]] = -h
        g = image.input_weights[:, -1] - image.recurrent_weights @ h
        system = np.block([[2 * H, D.T], [D, np.zeros((k, k))]])
        change = np.linalg.solve(system, np.concatenate([np.zeros(layout.size), -g]))
        change = change[: layout.size]
        losses[each] = float(change @ H @ change) / 0.3
    found = images_of(image, layout, H, 0.3)
    order = sorted(losses, key=losses.get)[: len(found.losses)]
    np.testing.assert_allclose(found.losses, [losses[each] for each in order], rtol=1e-6)
    np.testing.assert_array_equal(found.sets, np.array(order, dtype=bool))
    assert found.margin == pytest.approx(found.losses[1] - found.losses[0])


def test_many_units_are_found_by_changes_of_single_ones():
    rng = np.random.default_rng(7)
    k, units = 12, [1, 4, 5, 9]
    image = with_free_state(network(7, k), units, 1e-6, rng)
    layout = Layout(4, k, 2, direct=True)
    found = images_of(image, layout, np.eye(layout.size), 1.0)
    np.testing.assert_array_equal(np.flatnonzero(found.sets[0]), units)


def test_a_free_first_state_makes_all_images_alike_and_tells_which_it_is():
    """With e = U h_0 in the new column, the image predicts as the network; its units come back."""
    model = network(3)
    rng = np.random.default_rng(4)
    image = with_free_state(model, [0, 2], 0.0, rng)
    x = rng.standard_normal((9, 3))
    marked = np.column_stack([x, np.arange(9) == 0])
    np.testing.assert_allclose(image.predict(marked), model.predict(x), atol=ALGEBRA)
    layout = Layout(4, 4, 2, direct=True)
    back = images_of(image, layout, np.eye(layout.size), 1.0).network(0)
    for name, values in model.arrays().items():
        np.testing.assert_allclose(back.arrays()[name], values, atol=ALGEBRA)


def test_the_column_marks_first_steps_of_sequences_and_not_of_pieces():
    X = [np.zeros((n, 2)) for n in (3, 8)]
    for segment in (None, 4):
        source = with_first_step(
            Source(as_sequences(X, [x[:, :1] for x in X]), segment=segment, before=2)
        )
        batch = source.read(source.as_subset().segments)
        marked = batch.X[:, -1]
        np.testing.assert_array_equal(marked, first_step(batch)[:, 0])
        assert marked.sum() == 2
        assert marked[batch.steps_before == 0].all()
