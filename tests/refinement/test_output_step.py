"""The step of output weights alone, against least squares on the states."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.batches import SERIAL

from gloree.engine import Source
from gloree.models import BRNN, IORNN
from gloree.refinement import Layout, LevenbergMarquardt, SquaredError
from gloree.refinement._output_step import output_step, output_sums, with_outputs
from gloree.sequences import as_sequences

ROUNDING = 1e-12
# least squares by two routes
TWO_ROUTES = 1e-9


def forward():
    rng = np.random.default_rng(0)
    U = 0.4 * rng.standard_normal((3, 3))
    arrays = rng.standard_normal((3, 2)), U, rng.standard_normal((3, 2))
    return IORNN(
        *arrays, hidden_bias=[0.1, 0.2, 0.3], direct_weights=np.ones((2, 2)), activation="tanh"
    )


def backward():
    rng = np.random.default_rng(1)
    A1, B1, A2 = (rng.standard_normal(shape) for shape in ((2, 2), (2, 2), (4, 2)))
    return BRNN(A1, 0.3 * np.eye(2), B1, 0.2 * np.eye(2), A2, activation="tanh")


def problem(model):
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((2, 4, 30, 2))
    direct = model.direct_weights is not None
    n_backward = model.n_backward if isinstance(model, BRNN) else None
    layout = Layout(2, model.n_hidden, 2, direct=direct, n_backward=n_backward)
    return as_sequences(X, Y).whole(), layout


def entering(model, batch):
    """(h_t, 1, x_t) row by row."""
    h = model.hidden_states(batch.X.reshape(4, 30, 2)).reshape(120, -1)
    direct = [] if model.direct_weights is None else [batch.X]
    return np.column_stack((h, np.ones(120), *direct))


@pytest.mark.parametrize("make", [forward, backward])
def test_squares_after_a_change_are_those_of_the_changed_network(make):
    model = make()
    batch, layout = problem(model)
    sums = output_sums(batch, model, layout).own
    change = 0.1 * np.random.default_rng(3).standard_normal((2, layout.output_width))
    moved = with_outputs(layout, model, change)
    expected = output_sums(batch, moved, layout).own.squares
    np.testing.assert_allclose(sums.after(change).squares, expected, rtol=1e-10)
    np.testing.assert_allclose(sums.after(0.0 * change).squares, sums.squares, rtol=0)


@pytest.mark.parametrize("make", [forward, backward])
def test_the_step_without_damping_is_least_squares_on_the_states(make):
    model = make()
    batch, layout = problem(model)
    sums = output_sums(batch, model, layout).own
    step = output_step(sums, np.ones((2, layout.output_width)), 0.0)
    phi, left = (
        entering(model, batch),
        batch.targets - model.predict(batch.X.reshape(4, 30, 2)).reshape(120, 2),
    )
    np.testing.assert_allclose(step.T, np.linalg.lstsq(phi, left, rcond=None)[0], rtol=TWO_ROUTES)


def test_a_damped_step_solves_its_equations_and_weights_without_a_scale_stay():
    model = forward()
    batch, layout = problem(model)
    sums = output_sums(batch, model, layout).own
    scale = np.random.default_rng(4).uniform(0.5, 2.0, (2, layout.output_width))
    scale[0, 2] = scale[1, :3] = 0.0
    step = output_step(sums, scale, 0.3)
    phi = entering(model, batch)
    assert not step[scale == 0.0].any()
    for own, size, g in zip(step, scale, sums.cross.T / 120, strict=True):
        free = size > 0.0
        H = phi[:, free].T @ phi[:, free] / 120 + 0.3 * np.diag(size[free])
        np.testing.assert_allclose(own[free], np.linalg.solve(H, g[free]), rtol=TWO_ROUTES)


def test_there_is_no_step_where_sums_overflow():
    model = forward()
    batch, layout = problem(model)
    sums = output_sums(batch, model, layout).own
    endless = replace(sums, gram=np.full_like(sums.gram, np.inf))
    assert not output_step(endless, np.ones((2, layout.output_width)), 0.1).any()


def test_rows_that_do_not_count_have_no_part():
    model = forward()
    batch, layout = problem(model)
    some = np.arange(120) < 50
    found = output_sums(replace(batch, mask=some), model, layout, ~some)
    phi = entering(model, batch)
    np.testing.assert_allclose(found.own.gram, phi[some].T @ phi[some], rtol=TWO_ROUTES)
    np.testing.assert_allclose(found.other.gram, phi[~some].T @ phi[~some], rtol=TWO_ROUTES)
    assert (found.own.n_rows, found.other.n_rows) == (50, 70)


def test_a_search_ends_with_output_weights_of_least_squares():
    """After few steps, far from the optimum of the others."""
    model = forward()
    layout = problem(model)[1]
    rng = np.random.default_rng(5)
    truth = layout.move(model, 0.3 * rng.standard_normal(layout.size))
    X = rng.standard_normal((4, 30, 2))
    data = Source(as_sequences(X, truth.predict(X)))
    end = LevenbergMarquardt(3, damping=1e-8).minimise(SquaredError(), model, layout, SERIAL, data)
    assert end.n_steps == 3
    seen = data.data.whole()
    own = output_sums(seen, end.model, layout).own
    least = own.after(output_step(own, np.ones((2, layout.output_width)), 0.0))
    assert own.total == pytest.approx(least.total, rel=1e-3)
    assert own.total > 1e-8
