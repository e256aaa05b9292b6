"""Levenberg-Marquardt: its minimum, and what ends or confines the search."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.batches import SERIAL
from helpers.descents import levenberg_marquardt
from helpers.differences import by_weights
from scipy.optimize import least_squares

from gloree.engine import Engine, Source, split_after
from gloree.models import IORNN, ExplosionError
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    RefinementStatus,
    SquaredError,
    gradient_sums,
    hessian_sums,
)
from gloree.refinement._curvature import Strata
from gloree.refinement._search_sums import curved_sums, normal_sums
from gloree.sequences import as_sequences

# the search ends after five steps that gain less than 1e-5 each: the error is at its minimum to
# a few of these
LEAST_GAINS = 1e-4
# a mean of 400 squares in another order
ALGEBRA = 1e-10
# a norm of what was scaled to that norm
ROUNDING = 1e-12
# exact outputs: residuals of rounding, squared
NOTHING_LEFT = 1e-25
# damping of steps that are those of Gauss and Newton
ALMOST_NONE = 1e-9
# central differences of predictions: a step, and the error of their slope relative to the largest
DIFFERENCE, SLOPE = 1e-5, 1e-7
ROWS = 400


def network(seed, units=("linear", "tanh")):
    rng = np.random.default_rng(seed)
    k = len(units)
    return IORNN(
        rng.standard_normal((k, 1)),
        0.3 * rng.standard_normal((k, k)),
        rng.standard_normal((k, 1)),
        0.3 * rng.standard_normal(k),
        [0.1],
        [[0.5]],
        activation=list(units),
    )


@pytest.fixture
def problem():
    """A network with noise, a start that is not far from it, and its parameters."""
    return problem_of(ROWS)


def problem_of(n_rows):
    rng = np.random.default_rng(3)
    truth = network(3)
    truth = truth.replace(recurrent_weights=0.5 * truth.recurrent_weights)
    u = rng.standard_normal((n_rows, 1))
    y = truth.predict(u) + 0.1 * rng.standard_normal((n_rows, 1))
    layout = Layout(1, 2, 1, direct=True)
    start = layout.move(truth, 0.2 * rng.standard_normal(layout.size))
    data = as_sequences(u, y)
    return start, layout, Source(data), u, y


def mean_square(model, u, y):
    return float(np.mean((y - model.predict(u)) ** 2))


def test_minimum_is_that_of_scipy(problem):
    start, layout, source, u, y = problem
    end = levenberg_marquardt(start, layout, SERIAL, source)

    def residuals(theta):
        return (y - layout.move(start, theta).predict(u))[:, 0]

    reference = least_squares(residuals, np.zeros(layout.size))
    assert end.status is RefinementStatus.CONVERGED
    assert 2 * end.final.loss == pytest.approx(2 * reference.cost / ROWS, rel=LEAST_GAINS)
    assert 2 * end.final.loss == pytest.approx(mean_square(end.model, u, y), rel=ALGEBRA)
    assert 2 * end.final.loss < 0.5 * mean_square(start, u, y)
    assert math.isnan(end.final.held_out)


def test_error_falls_with_every_step(problem):
    start, layout, source, u, y = problem
    end = levenberg_marquardt(start, layout, SERIAL, source)
    errors = [2 * step.loss for step in end.history]
    seconds = [step.seconds for step in end.history]
    assert errors[0] == pytest.approx(mean_square(start, u, y), rel=ALGEBRA)
    assert np.all(np.diff(errors) < 0)
    assert np.all(np.diff(seconds) >= 0)
    assert len(errors) == end.n_steps + 1


def test_normal_sums_are_gradient_and_hessian(problem):
    start, layout, source, _, _ = problem
    batch = source.data.whole()
    sums = normal_sums(batch, start, layout)
    np.testing.assert_array_equal(
        sums.gradient.gradient, gradient_sums(batch, start, layout).gradient
    )
    np.testing.assert_array_equal(sums.hessian.hessian, hessian_sums(batch, start, layout).hessian)


def test_curved_sums_are_those_of_second_differences(problem):
    start, layout, source, u, _ = problem
    rng = np.random.default_rng(0)
    step = 0.1 * rng.standard_normal(layout.size)
    ahead, behind = layout.move(start, step), layout.move(start, -step)
    counting = rng.random(ROWS) < 0.7
    batch = replace(source.data.whole(), mask=counting)
    found = curved_sums(batch, start, layout, ahead, behind)

    def predicted(model):
        return model.predict(u)[:, 0]

    J = by_weights(predicted, start, layout, DIFFERENCE)
    second = predicted(ahead) - 2.0 * predicted(start) + predicted(behind)
    expected = -J[counting].T @ second[counting]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.gradient, expected, atol=SLOPE * scale)
    assert found.n_rows == counting.sum()


def test_curved_sums_of_strata_count_their_rows_as_often_as_they_stand_for(problem):
    start, layout, source, _, _ = problem
    source = replace(source, segment=ROWS // 10)
    step = np.full(layout.size, 0.01)
    ahead, behind = layout.move(start, step), layout.move(start, -step)
    segments = source.sample(source.n_segments)
    heavy = np.arange(len(segments)) % 3 == 0
    strata = Strata(segments, heavy, 2.5)

    def gradient(chosen, **given):
        batch = source.read(segments[chosen])
        return curved_sums(batch, start, layout, ahead, behind, **given).gradient

    found = gradient(np.ones_like(heavy), strata=strata)
    np.testing.assert_allclose(found, gradient(heavy) + 2.5 * gradient(~heavy), rtol=1e-9)


@pytest.mark.parametrize("seed", [1, 7])
def test_along_a_curved_valley_acceleration_saves_steps(seed):
    """One linear and two bounded states of a slow mode: 28 steps for 46, and 17 for 24."""
    rng = np.random.default_rng(seed)
    truth = IORNN(
        rng.standard_normal((3, 1)),
        np.diag([0.8, 0.15, 0.1]) + 0.2 * rng.standard_normal((3, 3)),
        rng.standard_normal((3, 1)),
        0.3 * rng.standard_normal(3),
        [0.1],
        [[0.5]],
        activation=["linear", "tanh", "tanh"],
    )
    u = rng.standard_normal((500, 1))
    y = truth.predict(u) + 0.01 * rng.standard_normal((500, 1))
    layout, source = Layout(1, 3, 1, direct=True), Source(as_sequences(u, y))
    start = layout.move(truth, 0.15 * rng.standard_normal(layout.size))
    plain, found = (
        LevenbergMarquardt(accelerated=each).minimise(SquaredError(), start, layout, SERIAL, source)
        for each in (False, True)
    )
    assert found.final.loss == pytest.approx(plain.final.loss, rel=2e-3)
    assert found.n_steps < 0.75 * plain.n_steps


def test_weights_that_are_not_free_stay(problem):
    start, layout, source, u, y = problem
    free = np.ones(layout.size, dtype=bool)
    free[layout.indices["recurrent_weights"]] = False
    free[layout.indices["hidden_bias"][0]] = False
    end = levenberg_marquardt(start, layout, SERIAL, source, free=free)
    np.testing.assert_array_equal(end.model.recurrent_weights, start.recurrent_weights)
    assert end.model.hidden_bias[0] == start.hidden_bias[0]
    assert end.model.hidden_bias[1] != start.hidden_bias[1]
    assert 2 * end.final.loss < mean_square(start, u, y)


def test_candidates_are_what_is_admitted(problem):
    start, layout, source, _, _ = problem
    limit = np.linalg.norm(start.output_weights) * 1.001

    def calm(model):
        return np.linalg.norm(model.output_weights) <= limit * (1 + ROUNDING)

    def admit(model):
        size = np.linalg.norm(model.output_weights)
        return model.replace(output_weights=model.output_weights * min(1.0, limit / size))

    free = levenberg_marquardt(start, layout, SERIAL, source)
    assert not calm(free.model)  # the limit is felt
    end = levenberg_marquardt(start, layout, SERIAL, source, admit=admit)
    assert calm(end.model)
    assert end.n_steps > 0
    assert 2 * end.final.loss >= 2 * free.final.loss


def test_where_only_the_start_is_admitted_it_is_the_end(problem):
    start, layout, source, u, y = problem
    end = levenberg_marquardt(start, layout, SERIAL, source, admit=lambda model: start)
    assert end.model is start
    assert end.n_steps == 0
    assert 2 * end.final.loss == pytest.approx(mean_square(start, u, y), rel=ALGEBRA)


def test_number_of_steps_is_limited(problem):
    start, layout, source, _, _ = problem
    end = levenberg_marquardt(start, layout, SERIAL, source, max_steps=2)
    assert end.n_steps == 2
    assert end.status is RefinementStatus.STEP_LIMIT


def test_time_is_limited(problem):
    start, layout, source, _, _ = problem
    end = levenberg_marquardt(
        start,
        layout,
        SERIAL,
        source,
        max_seconds=0.05,
        progress=lambda *_: time.sleep(0.06),
    )
    assert end.n_steps <= 1
    assert end.status is RefinementStatus.TIME_LIMIT


def test_best_iterate_on_held_out_data_is_returned():
    """Few rows to fit, many weights: the held-out error rises again."""
    rng = np.random.default_rng(1)
    truth = network(0)
    u = rng.standard_normal((600, 1))
    y = truth.predict(u) + 1.0 * rng.standard_normal((600, 1))
    data = as_sequences([u[:60], u[60:]], [y[:60], y[60:]])
    source = Source(data, batch_size=10**6)
    training, held_out = split_after(source, 1)
    units = ("tanh",) * 4
    layout = Layout(1, 4, 1, direct=True)
    end = levenberg_marquardt(network(7, units), layout, SERIAL, training, held_out=held_out)
    outside = [step.held_out for step in end.history]
    best = int(np.argmin(outside))
    assert 0 < best < len(outside) - 1  # it does rise again
    assert end.final is end.history[best]
    assert mean_square(end.model, u[60:], y[60:]) == pytest.approx(
        2 * end.final.held_out, rel=ALGEBRA
    )
    assert mean_square(end.model, u[:60], y[:60]) == pytest.approx(2 * end.final.loss, rel=ALGEBRA)


def test_keyboard_interrupt_returns_the_best_so_far(problem):
    start, layout, source, u, y = problem

    def interrupt(step, loss, share):
        if step == 3:
            raise KeyboardInterrupt

    end = levenberg_marquardt(start, layout, SERIAL, source, progress=interrupt)
    assert end.n_steps == 3
    assert 2 * end.final.loss == pytest.approx(mean_square(end.model, u, y), rel=ALGEBRA)
    assert 2 * end.final.loss < mean_square(start, u, y)


def test_keyboard_interrupt_in_a_pass_returns_the_best_so_far(problem, monkeypatch):
    start, layout, source, u, y = problem
    calls = []
    engine = Engine("serial")
    run = Engine.run

    def interrupted(self, *arguments, **options):
        calls.append(options.get("label"))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return run(self, *arguments, **options)

    monkeypatch.setattr(Engine, "run", interrupted)
    end = levenberg_marquardt(start, layout, engine, source)
    monkeypatch.undo()
    assert 2 * end.final.loss == pytest.approx(mean_square(end.model, u, y), rel=ALGEBRA)
    assert 2 * end.final.loss < mean_square(start, u, y)


def test_keyboard_interrupt_before_the_first_pass_is_not_swallowed(problem, monkeypatch):
    start, layout, source, _, _ = problem

    def interrupted(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        levenberg_marquardt(start, layout, SERIAL, source)


def test_an_exploding_start_is_an_error(problem):
    _, layout, source, _, _ = problem
    wild = IORNN([[1.0], [1.0]], 5.0 * np.eye(2), [[1.0], [1.0]], direct_weights=[[0.0]])
    with pytest.raises(ExplosionError):
        levenberg_marquardt(wild, layout, SERIAL, source)


def test_an_exact_start_stays():
    truth = network(0)
    u = np.random.default_rng(2).standard_normal((ROWS, 1))
    layout = Layout(1, 2, 1, direct=True)
    end = levenberg_marquardt(truth, layout, SERIAL, Source(as_sequences(u, truth.predict(u))))
    assert 2 * end.final.loss < NOTHING_LEFT


def test_from_the_minimum_no_step_is_taken(problem):
    start, layout, source, _, _ = problem
    first = levenberg_marquardt(start, layout, SERIAL, source)
    again = levenberg_marquardt(first.model, layout, SERIAL, source, damping=ALMOST_NONE)
    settled = levenberg_marquardt(again.model, layout, SERIAL, source, damping=ALMOST_NONE)
    assert settled.n_steps == 0
    assert settled.model is again.model
    assert settled.status is RefinementStatus.CONVERGED


def in_pieces(problem):
    """The same problem with the record cut into pieces of twenty rows, each warmed up by forty."""
    start, layout, source, _, _ = problem
    return start, layout, Source(source.data, batch_size=100, segment=20, before=40)


@pytest.mark.slow
def test_curvature_of_some_rows_ends_at_the_same_minimum(monkeypatch):
    """The gradient is of all rows, so that a sampled J^T J changes the way, not the end."""
    start, layout, source = in_pieces(problem_of(5 * ROWS))
    of_all = levenberg_marquardt(start, layout, SERIAL, source)
    asked = []
    monkeypatch.setattr(
        "gloree.refinement._levenberg_marquardt.hessian_rows",
        lambda *_, **__: asked.append(1) or 500,
    )
    of_some = levenberg_marquardt(start, layout, SERIAL, source)
    assert of_some.squares.sum() == pytest.approx(of_all.squares.sum(), rel=LEAST_GAINS)
    assert len(asked) > of_some.n_steps / 2


def test_strata_within_known_rows_count_all_of_them(problem):
    """Segments of largest leverage count once, the others so often that no row is missing."""
    start, layout, source = in_pieces(problem)
    gradient = SERIAL.run(partial(gradient_sums, model=start, layout=layout), source)
    strata = Strata.within(gradient, 100)
    heavy, light = strata.segments[strata.heavy], strata.segments[~strata.heavy]
    assert len(light) > 0
    assert strata.segments.n_counted < ROWS / 2
    counted = heavy.n_counted + strata.weight * light.n_counted
    assert counted == pytest.approx(ROWS, rel=ROUNDING)
    known = gradient.leverage
    of_heavy = known.values[np.isin(known.segments.start, heavy.start)]
    of_rest = known.values[~np.isin(known.segments.start, heavy.start)]
    assert of_heavy.min() >= of_rest.max()
