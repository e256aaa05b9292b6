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
    from_first_state,
    images_of,
    widened,
    with_first_step,
)
from gloree.models import BRNN, mirror_images
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


@pytest.mark.parametrize("seed", range(12))
def test_the_units_chosen_are_the_best_of_all_sets(seed):
    """min |e - U h|^2 over all 2^k states h, with noise in e."""
    rng = np.random.default_rng(seed)
    k = 2 + seed % 6
    U, height = rng.standard_normal((k, k)), 0.5 + rng.random()
    h = height * rng.integers(2, size=k)
    e = U @ h + 0.02 * rng.standard_normal(k)
    errors = {
        each: float(np.sum((e - U @ (height * np.array(each))) ** 2))
        for each in product((0, 1), repeat=k)
    }
    best = min(errors, key=errors.get)
    np.testing.assert_array_equal(images_of(e, U, height), np.flatnonzero(best))


def test_a_free_first_state_makes_all_images_alike_and_tells_which_it_is():
    """With e = U h_0 in the new column, the image predicts as the network; its units come back."""
    model = network(3)
    image = widened(mirror_images(model, np.array([0, 2])))
    state = np.zeros(4)
    state[[0, 2]] = 2 * 0.5
    A = np.array(image.input_weights)
    A[:, -1] = image.recurrent_weights @ state
    image = image.replace(input_weights=A)
    x = np.random.default_rng(4).standard_normal((9, 3))
    marked = np.column_stack([x, np.arange(9) == 0])
    np.testing.assert_allclose(image.predict(marked), model.predict(x), atol=ALGEBRA)
    back = from_first_state(image)
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
