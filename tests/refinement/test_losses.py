"""Losses and solvers: slopes of every loss, one of one's own, and what a solver refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.batches import SERIAL, only_batch
from helpers.differences import by_weights
from helpers.engines import noted_explosions
from helpers.generators import model_and_layout
from helpers.marks import first_of
from scipy.optimize import least_squares

from gloree.engine import Source, split_after
from gloree.models import IORNN, ExplosionError
from gloree.refinement import (
    LBFGS,
    LOSSES,
    CrossEntropy,
    GaussNewton,
    Layout,
    LevenbergMarquardt,
    Loss,
    RefinementStatus,
    Solver,
    SquaredError,
    gradient_sums,
    split_held_out,
    square_sums,
)
from gloree.sequences import as_sequences

# Central differences at STEP: an error of STEP^2 times a third derivative, and eps / STEP of
# rounding times the loss, both relative to the gradient.
STEP = 1e-5
DIFFERENCES = 1e-7
# Two programs for the same sums of a few dozen terms.
ALGEBRA = 1e-12
# L-BFGS-B ends at falls of 2e-9 of the loss: it is at its minimum to a few dozen of these, and
# residuals of unit size are right to the root of that.
SAME_LOSS = 1e-7
SAME_PREDICTIONS = 1e-3

# SciPy goes on until rounding stops it: falls of a few eps, moves of the root of that and less.
TO_THE_END = {"xtol": 1e-12, "ftol": 1e-14}

LENGTHS = (7, 3, 1, 9)
N_OUTPUTS = 3


class Huber(Loss):
    """Squares of small residuals, and absolute values of large ones."""

    name = "Huber loss"

    def rows(self, outputs, targets):
        residuals = targets - outputs
        signal = np.clip(residuals, -1.0, 1.0)
        return signal * (residuals - signal / 2), signal


ALL = {**LOSSES, "Huber loss": Huber()}
all_losses = pytest.mark.parametrize("loss", ALL.values(), ids=ALL.keys())


def make_case(kind, loss, seed=0):
    """Model, layout and source of a few short sequences."""
    rng = np.random.default_rng(seed)
    draw, q = rng.standard_normal, N_OUTPUTS
    X = [draw((n, 2)) for n in LENGTHS]
    if isinstance(loss, CrossEntropy):
        Y = [rng.integers(q, size=(n, 1)) for n in LENGTHS]
    else:
        Y = [3.0 * draw((n, q)) for n in LENGTHS]
    both_ways, lags = kind == "windows", 2 if kind == "windows" else 1
    model, layout = model_and_layout(rng, N_OUTPUTS, lags=lags, both_ways=both_ways)
    cut = {"segment": 4, "before": 2} if kind == "pieces" else {}
    return model, layout, Source(as_sequences(X, Y), lags=lags, both_ways=both_ways, **cut)


@pytest.mark.parametrize("kind", ["forward", "windows", "pieces"])
@all_losses
def test_gradient_of_a_loss_is_its_slope(loss, kind):
    model, layout, source = make_case(kind, loss)
    batch = only_batch(source)
    sums = loss.sums(batch, model, layout)
    slopes = by_weights(lambda moved: loss.sums(batch, moved).loss, model, layout, STEP)
    atol = DIFFERENCES * np.abs(slopes).max()
    np.testing.assert_allclose(sums.gradient, slopes, rtol=0, atol=atol)
    assert sums.n_rows == sum(LENGTHS)
    assert math.isnan(sums.correct) is not isinstance(loss, CrossEntropy)


@pytest.mark.parametrize("kind", ["forward", "windows", "pieces"])
def test_squared_error_is_that_of_the_specialised_sums(kind):
    model, layout, source = make_case(kind, SquaredError())
    batch = only_batch(source)
    sums, exact = SquaredError().sums(batch, model, layout), gradient_sums(batch, model, layout)
    np.testing.assert_allclose(2 * sums.losses, exact.squares, rtol=ALGEBRA)
    np.testing.assert_allclose(2 * sums.losses, square_sums(batch, model).squares, rtol=ALGEBRA)
    scale = np.abs(exact.gradient).max()
    np.testing.assert_allclose(sums.gradient, -exact.gradient, rtol=0, atol=ALGEBRA * scale)
    assert SquaredError().sums(batch, model).gradient.shape == (0,)


@pytest.mark.parametrize("lack", ["values", "signal"])
def test_a_loss_of_other_shapes_is_refused_by_name(lack):
    class Wrong(Huber):
        name = "wrong loss"

        def rows(self, outputs, targets):
            values, signal = super().rows(outputs, targets)
            return (values[1:], signal) if lack == "values" else (values, signal[:, 1:])

    model, layout, source = make_case("forward", Wrong())
    with pytest.raises(ValueError, match="`rows` of the wrong loss gave values of shape"):
        SERIAL.run(lambda batch: Wrong().sums(batch, model, layout), source)


def test_a_loss_without_rows_is_none():
    class Nothing(Loss):
        name = "nothing"

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_labels_stand_in_one_column():
    model, layout, source = make_case("forward", SquaredError())
    with pytest.raises(ValueError, match="targets have 3 columns"):
        LBFGS().minimise(CrossEntropy(), model, layout, SERIAL, source)


# ---------------------------------------------------------------------------------- minimisation


@pytest.fixture(scope="module")
def outliers():
    """A tiny network, outputs with outliers, and a start near it."""
    rng = np.random.default_rng(3)
    truth = IORNN([[1.0, -0.4]], [[0.3]], [[1.5]], [0.2], [0.1], [[0.5], [-0.5]], activation="tanh")
    x = rng.standard_normal((300, 2))
    y = truth.predict(x) + 0.1 * rng.standard_normal((300, 1))
    y[::10] += 3.0
    layout = Layout(2, 1, 1, direct=True)
    start = layout.move(truth, 0.1 * rng.standard_normal(layout.size))
    return start, layout, Source(as_sequences(x, y)), x, y


def of_scipy(problem, loss):
    """Least loss, summed over rows, and the predictions there: steps of another program."""
    start, layout, _, x, y = problem

    def residuals(theta):
        return (y - layout.move(start, theta).predict(x))[:, 0]

    found = least_squares(residuals, np.zeros(layout.size), loss=loss, **TO_THE_END)
    return found.cost, layout.move(start, found.x).predict(x)


@pytest.mark.parametrize(
    ("loss", "name"), first_of([(Huber(), "huber"), (SquaredError(), "linear")], several=True)
)
def test_minimum_is_that_of_scipy(outliers, loss, name):
    start, layout, source, x, _ = outliers
    end = LBFGS(penalty=0.0).minimise(loss, start, layout, SERIAL, source)
    cost, predictions = of_scipy(outliers, name)
    assert end.status is RefinementStatus.CONVERGED
    assert end.final.loss * end.n_rows == pytest.approx(cost, rel=SAME_LOSS)
    np.testing.assert_allclose(end.model.predict(x), predictions, rtol=0, atol=SAME_PREDICTIONS)
    other = of_scipy(outliers, {"huber": "linear", "linear": "huber"}[name])[1]
    assert np.abs(predictions - other).max() > 100 * SAME_PREDICTIONS  # losses tell them apart


@pytest.mark.slow
def test_minimum_of_squares_is_that_of_gauss_newton(outliers):
    start, layout, source, x, y = outliers
    ends = [
        solver.minimise(SquaredError(), start, layout, SERIAL, source)
        for solver in (LBFGS(penalty=0.0), GaussNewton(to_convergence=True), LevenbergMarquardt())
    ]
    for end in ends:
        np.testing.assert_allclose(end.rmse, ends[1].rmse, rtol=SAME_LOSS)
        np.testing.assert_allclose(end.start_rmse, ends[1].start_rmse, rtol=ALGEBRA)
        rmse = np.sqrt(np.mean((y - end.model.predict(x)) ** 2, axis=0))
        np.testing.assert_allclose(end.rmse, rmse, rtol=ALGEBRA)
        assert end.final.loss == pytest.approx(float(np.sum(rmse**2)) / 2, rel=ALGEBRA)
        assert end.n_rows == len(x)
        assert end.n_steps == len(end.history) - 1


def test_loss_falls_with_every_iteration_and_progress_sees_it(outliers):
    start, layout, source, *_ = outliers
    seen = []
    end = LBFGS(max_steps=6).minimise(
        Huber(), start, layout, SERIAL, source, progress=lambda *step: seen.append(step)
    )
    losses = [step.loss for step in end.history]
    assert np.all(np.diff(losses) < 0)
    assert (end.status, end.n_steps) == (RefinementStatus.STEP_LIMIT, 6)
    assert end.final is end.history[-1]
    assert [step[:2] for step in seen] == list(enumerate(losses))
    assert math.isnan(end.best_share)


def test_best_model_on_held_out_data_is_returned_for_any_loss(outliers):
    """Few rows to fit, many weights: the held-out loss rises again."""
    _, _, source, x, y = outliers
    rng = np.random.default_rng(0)
    source = Source(as_sequences([x[:40], x[40:]], [y[:40], y[40:]]), batch_size=10**6)
    training, held_out = split_after(source, 1)
    layout, draw = Layout(2, 4, 1, direct=True), rng.standard_normal
    start = IORNN(
        draw((4, 2)), 0.3 * draw((4, 4)), draw((4, 1)), direct_weights=draw((2, 1)),
        activation="tanh",
    )  # fmt: skip
    seen = []
    end = LBFGS().minimise(
        Huber(), start, layout, SERIAL, training,
        held_out=held_out, progress=lambda *step: seen.append(step),
    )  # fmt: skip
    outside = [step.held_out for step in end.history]
    assert end.status is RefinementStatus.HELD_OUT
    assert end.final is end.history[int(np.argmin(outside))]
    assert end.n_steps - int(np.argmin(outside)) == 10
    loss = SERIAL.run(lambda batch: Huber().sums(batch, end.model), held_out)
    assert loss.loss / loss.n_rows == pytest.approx(min(outside), rel=ALGEBRA)
    assert [step[1] for step in seen] == outside


def test_an_exploding_start_is_an_error(outliers):
    _, _, source, *_ = outliers
    start = IORNN(np.ones((2, 2)), 5.0 * np.eye(2), np.ones((2, 1)))
    with pytest.raises(ExplosionError):
        LBFGS().minimise(Huber(), start, Layout(2, 2, 1), SERIAL, source)


def test_iterates_that_explode_are_worse_than_a_start_of_any_loss(monkeypatch):
    """A start of a million a row: steps that explode must not look like an improvement."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 30, 2))
    truth = IORNN(rng.standard_normal((2, 2)), 0.05 * np.eye(2), 1e3 * np.ones((2, 1)))
    source, layout = Source(as_sequences(x, truth.predict(x))), Layout(2, 2, 1)
    start = truth.replace(output_weights=-truth.output_weights)
    exploded = noted_explosions(monkeypatch)
    end = LBFGS(max_steps=60).minimise(SquaredError(), start, layout, SERIAL, source)
    assert exploded
    losses = [step.loss for step in end.history]
    assert losses[0] > 1e5
    assert losses == sorted(losses, reverse=True)
    assert end.final.loss < 0.5 * losses[0]


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("loss", [Huber(), CrossEntropy()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("solver", [GaussNewton(), LevenbergMarquardt()], ids=["GN", "LM"])
def test_solvers_of_least_squares_refuse_other_losses_by_name(outliers, solver, loss):
    start, layout, source, *_ = outliers
    with pytest.raises(ValueError, match=rf"`loss`, the {loss.name}: .*Use `LBFGS`"):
        solver.minimise(loss, start, layout, SERIAL, source)


def test_gauss_newton_refuses_held_out_data_and_subsets(outliers):
    start, layout, *_, x, y = outliers
    source = Source(as_sequences(x.reshape(30, 10, 2), y.reshape(30, 10, 1)))
    training, held_out = split_held_out(source)
    with pytest.raises(ValueError, match=r"no `held_out` data.*`LevenbergMarquardt` or `LBFGS`"):
        GaussNewton().minimise(SquaredError(), start, layout, SERIAL, source, held_out=held_out)
    with pytest.raises(TypeError, match="`data` is of type Subset: give the source"):
        GaussNewton().minimise(SquaredError(), start, layout, SERIAL, training)


def test_root_mean_square_errors_are_for_squares(outliers):
    start, layout, source, *_ = outliers
    end = LBFGS(max_steps=1).minimise(Huber(), start, layout, SERIAL, source)
    assert end.squares is None
    with pytest.raises(ValueError, match=r"see `final\.loss`"):
        _ = end.rmse


@pytest.mark.parametrize(
    ("solver", "name"),
    [
        (GaussNewton(), "one step"),
        (GaussNewton(to_convergence=True), "Gauss-Newton"),
        (LevenbergMarquardt(), "Levenberg-Marquardt"),
        (LBFGS(), "L-BFGS"),
    ],
)
def test_solvers_say_their_names(solver, name):
    assert isinstance(solver, Solver)
    assert solver.name == name
