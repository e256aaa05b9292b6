"""Gauss-Newton and L-BFGS: what a state becomes, on either side of every limit."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.batches import SERIAL

from gloree.engine import Source, split_after
from gloree.models import IORNN, ExplosionError
from gloree.refinement import LBFGS, GaussNewton, Layout, Loss, RefinementStatus, SquaredError
from gloree.refinement import _gauss_newton as module
from gloree.refinement import _lbfgs as lbfgs
from gloree.refinement._gauss_newton import _as_expected, _Descent, _State
from gloree.refinement._lbfgs import _Problem, _scales
from gloree.refinement._sensitivities import SquareSums
from gloree.refinement._solvers import Trace
from gloree.sequences import as_sequences

ROUNDING = 1e-12

LAYOUT = Layout(1, 2, 1)
N_ROWS = 100.0


def network(layout=LAYOUT, size=0.1):
    k, p, q = layout.n_hidden, layout.n_inputs, layout.n_outputs
    return IORNN(
        np.ones((k, p)),
        size * np.eye(k),
        np.ones((k, q)),
        np.zeros(k),
        np.zeros(q),
        activation="tanh",
    )


class Curvature:
    """J^T J that gives a step, and notes how it is corrected."""

    def __init__(self):
        self.corrections = []

    def correct(self, step, change):
        self.corrections.append((step, change))


def sums(total, gradient=0.0):
    """Squared errors of a pass, and a gradient along the first weight."""
    return SimpleNamespace(
        n_rows=N_ROWS,
        total=total,
        squares=np.array([total]),
        gradient=gradient * np.eye(1, LAYOUT.size)[0],
    )


def state_of(total=100.0, gradient=1.0, **changes):
    current = sums(total, gradient)
    return replace(_State(network(), current, current, Curvature()), **changes)


def descent(tolerance=1.0):
    source = Source(as_sequences(np.zeros((100, 1)), np.zeros((100, 1))))
    return _Descent(LAYOUT, SERIAL, source, tolerance)


STEP = np.eye(1, LAYOUT.size)[0]


@pytest.mark.parametrize(
    ("damping", "expected"), [(1e-9, 1e-4), (1e-6, 1e-4), (1e-5, 1e-3), (1.0, 100.0), (1e3, 1e5)]
)
def test_a_search_that_finds_nothing_damps_a_hundredfold(damping, expected, monkeypatch):
    monkeypatch.setattr(_Descent, "line_search", lambda *_: None)
    found = descent()._searched(state_of(damping=damping), STEP)
    assert found.damping == pytest.approx(expected, rel=ROUNDING)
    assert (found.status, found.n_steps, found.stale) == (None, 0, False)


def test_an_old_matrix_is_renewed_before_a_step_is_damped(monkeypatch):
    monkeypatch.setattr(_Descent, "line_search", lambda *_: None)
    found = descent()._searched(state_of(age=1), STEP)
    assert (found.stale, found.damping, found.status) == (True, 1e-9, None)


@pytest.mark.parametrize(("n_steps", "status"), [(0, "NO_DECREASE"), (1, "CONVERGED")])
def test_the_end_where_no_damping_helps(n_steps, status, monkeypatch):
    monkeypatch.setattr(_Descent, "line_search", lambda *_: None)
    found = descent()._searched(state_of(damping=1.1e3, n_steps=n_steps), STEP)
    assert found.status is RefinementStatus[status]
    assert found.n_steps == n_steps


@pytest.mark.parametrize(
    ("fall", "fraction", "poor"),
    [
        (1.0, 1.0, False),
        (0.51, 1.0, False),
        (0.49, 1.0, True),
        (1.99, 1.0, False),
        (2.01, 1.0, True),
        (1.0, 1 / 3, True),
    ],
)
@pytest.mark.parametrize("age", [0, 3, 4])
def test_what_a_step_leaves(fall, fraction, poor, age, monkeypatch):
    """Expected to gain 1 of 100: the damping falls, J^T J is kept for five steps."""
    after = sums(100.0 - fall, 0.5)
    monkeypatch.setattr(_Descent, "line_search", lambda *_: ("moved", after, fraction))
    monkeypatch.setattr(_Descent, "rounding", lambda *_: 0.0)
    before = state_of(damping=1e-3, n_steps=7, age=age)
    found = descent()._searched(before, STEP)
    assert (found.model, found.current, found.squares) == ("moved", after, after)
    assert (found.n_steps, found.age) == (8, age + 1)
    assert found.stale is (poor or age == 4)
    assert found.damping == pytest.approx(1e-3 if poor else 1e-5, rel=ROUNDING)
    assert found.before == (0.0 if poor else 1.0)
    assert found.status is None
    ((step, change),) = before.curvature.corrections
    np.testing.assert_allclose(step, fraction * STEP)
    np.testing.assert_allclose(change, 0.5 * STEP)
    again = descent()._searched(state_of(damping=1e-8), STEP)
    assert again.damping == (1e-8 if poor else 1e-9)


@pytest.mark.parametrize(
    ("fall", "tolerance", "ended"),
    [(0.29, 0.1, True), (0.31, 0.1, False), (0.29, 1e-9, False)],
)
def test_a_poor_step_across_kinks_that_gains_little_is_the_last(
    fall, tolerance, ended, monkeypatch
):
    """A noise variance of 1; a descent to convergence goes on."""
    after = sums(100.0 - fall, 0.5)
    monkeypatch.setattr(_Descent, "line_search", lambda *_: ("moved", after, 1.0))
    monkeypatch.setattr(_Descent, "rounding", lambda *_: 0.0)
    rectifiers = network().replace(activation="relu")
    found = descent(tolerance)._searched(state_of(model=rectifiers), STEP)
    assert found.status is (RefinementStatus.EFFICIENT if ended else None)
    steady = state_of(model=rectifiers, age=1, before=1.0)
    assert descent(tolerance)._searched(steady, STEP).status is found.status
    for other in (state_of(model=rectifiers, age=1), state_of()):  # smooth units go on
        assert descent(tolerance)._searched(other, STEP).status is None


@pytest.mark.parametrize(
    ("before", "age", "renewed"),
    [(3.3, 1, True), (3.4, 1, False), (3.3, 0, False), (0.0, 1, False)],
)
def test_a_step_that_promises_a_third_of_the_one_before_takes_a_new_matrix(
    before, age, renewed, monkeypatch
):
    """The step promises 1."""
    monkeypatch.setattr(Curvature, "step", lambda *_: STEP, raising=False)
    monkeypatch.setattr(_Descent, "_ended", lambda self, state, step: state)
    assert descent().step(state_of(before=before, age=age)).stale is renewed


@pytest.mark.parametrize(("before", "stale"), [(9.9, True), (10.1, False)])
def test_a_matrix_lives_longer_where_gains_fall_to_a_tenth(before, stale, monkeypatch):
    """Expected to gain 1 of 100 with a J^T J of five steps."""
    monkeypatch.setattr(_Descent, "line_search", lambda *_: ("moved", sums(99.0), 1.0))
    found = descent()._searched(state_of(before=before, age=4), STEP)
    assert found.stale is stale


@pytest.mark.parametrize(("fall", "ended"), [(0.9e-10, True), (1.1e-10, False)])
def test_a_fall_of_rounding_is_convergence(fall, ended, monkeypatch):
    monkeypatch.setattr(_Descent, "line_search", lambda *_: ("moved", sums(100.0 - fall), 1.0))
    monkeypatch.setattr(_Descent, "rounding", lambda *_: 0.0)
    found = descent(1e-9)._searched(state_of(), STEP)
    assert found.status is (RefinementStatus.CONVERGED if ended else None)


@pytest.mark.parametrize(
    ("fall", "gain", "age", "share", "ends"),
    [
        (9.9, 1.0, 0, 1.0, True),
        (9.9, 1.0, 0, 0.99, False),  # more is left than rounding
        (9.9, 1.0, 1, 1.0, False),
        (10.1, 1.0, 0, 1.0, False),  # a tenth of the squared error is no chance
        (9.9, 9.9, 0, 1.0, False),  # as expected
    ],
)
def test_a_step_among_rounding_ends_a_descent(fall, gain, age, share, ends, monkeypatch):
    after = sums(100.0 - fall)
    monkeypatch.setattr(_Descent, "line_search", lambda *_: ("moved", after, 1.0))
    monkeypatch.setattr(_Descent, "rounding", lambda *_: share * after.total)
    found = descent()._searched(state_of(gradient=gain, age=age), STEP)
    assert (found.status is RefinementStatus.CONVERGED) is ends


def test_losses_of_a_part_are_scaled_to_half_the_mean_square_of_all(monkeypatch):
    monkeypatch.setattr(_Descent, "finite_start", lambda self, model: (model, sums(50.0)))
    monkeypatch.setattr(_Descent, "_curvature", lambda *_: None)
    trace = Trace(lambda: 0.0)
    for loss in (8.0, 2.0):
        trace.note(network(), loss)
    descent().run(network(), 0, trace)
    assert [step.loss for step in trace.steps] == pytest.approx([4 * 0.25, 0.25])


def test_rounding_is_eight_times_that_of_the_outputs():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((100, 1))
    given = replace(descent(), source=Source(as_sequences(np.ones((100, 1)), y)))
    expected = (8 * np.finfo(float).eps) ** 2 * np.sum(y**2)
    assert given.rounding(network()) == pytest.approx(expected, rel=ROUNDING)
    # of the outputs as they are: whatever the network says of them
    offset = network().replace(output_bias=[3.0], direct_weights=[[2.0]])
    assert given.rounding(offset) == pytest.approx(expected, rel=ROUNDING)


def ended(state, monkeypatch, tolerance=1.0, after=None):
    """The end of a descent, if it is one; `after` is the squared error of the last step."""
    seen = []

    def squares(self, model):
        seen.append(model)
        return None if after is None else SquareSums(N_ROWS, np.array([after]))

    monkeypatch.setattr(_Descent, "squares", squares)
    return descent(tolerance)._ended(state, STEP), seen


@pytest.mark.parametrize(
    ("gain", "last", "done"),
    [
        (0.9, 99.1, True),  # worth less than the tolerance: the last step, if it lowers the error
        (1.0, 99.0, True),
        (0.9, 100.0, True),
        (0.9, 100.1, True),  # it is not taken
        (1.1, 98.9, False),
    ],
)
def test_the_last_step_is_worth_less_than_the_tolerance(gain, last, done, monkeypatch):
    """The variance of the noise is 100 / 100 rows / 1 output."""
    found, tried = ended(state_of(gradient=gain), monkeypatch, after=last)
    assert (found is not None) is done
    if not done:
        assert not tried
        return
    assert found.status is RefinementStatus.EFFICIENT
    assert found.n_steps == (last <= 100.0)
    if last <= 100.0:
        assert found.squares.total == last
        assert found.model == LAYOUT.move(network(), STEP)
    else:
        assert found.model == network()


def test_a_damped_descent_does_not_end_there(monkeypatch):
    assert ended(state_of(gradient=0.5, damping=1.1e-6), monkeypatch, after=99.0)[0] is None
    assert ended(state_of(gradient=0.5, damping=1e-6), monkeypatch, after=99.0)[0] is not None


@pytest.mark.parametrize(
    ("gain", "before", "done"),
    [
        (1.9, 19.1, True),  # the pace of a tenth leaves .19 of a tolerance of 1
        (2.1, 21.0, False),
        (1.1, 0.0, False),
        (1.1, 1.0, False),  # no pace above one
        (0.0, 0.0, True),
    ],
)
def test_the_pace_foresees_a_fifth_of_the_tolerance(gain, before, done, monkeypatch):
    found, _ = ended(state_of(gradient=gain, before=before), monkeypatch, after=100.0 - gain)
    assert (found is not None) is done


@pytest.mark.parametrize(("fall", "done"), [(0.9, False), (1.0, True), (3.7, True), (3.9, False)])
def test_a_step_that_was_foreseen_as_the_last_has_to_gain_as_foreseen(fall, done, monkeypatch):
    state = state_of(gradient=1.9, before=190.0)
    found, tried = ended(state, monkeypatch, after=100.0 - fall)
    assert len(tried) == 1
    assert (found is not None) is done
    assert found is None or found.n_steps == 1
    assert ended(state, monkeypatch)[0] is None  # it explodes


@pytest.mark.parametrize(("gain", "taken"), [(0.9e-4, False), (1.1e-4, True)])
def test_a_step_that_is_worth_nothing_is_not_taken(gain, taken, monkeypatch):
    found, tried = ended(state_of(gradient=gain), monkeypatch, after=100.0 - gain)
    assert found.status is RefinementStatus.EFFICIENT
    assert len(tried) == found.n_steps == taken


@pytest.mark.parametrize(
    ("gain", "age", "done"), [(0.9, 0, True), (0.9, 1, False), (1.1, 0, False)]
)
def test_to_convergence_the_matrix_has_to_be_that_of_the_model(gain, age, done, monkeypatch):
    state = state_of(gradient=gain * module.CONVERGED, age=age)
    found, tried = ended(state, monkeypatch, tolerance=module.CONVERGED)
    assert not tried
    assert (found is not None) is done
    if done:
        assert (found.status, found.n_steps) == (RefinementStatus.CONVERGED, 0)


@pytest.mark.parametrize(
    ("fall", "expected"),
    [(0.5, False), (0.51, True), (1.0, True), (1.99, True), (2.0, False), (-1.0, False)],
)
def test_about_as_much_is_between_half_and_twice(fall, expected):
    assert _as_expected(fall, 1.0) is expected


@pytest.mark.parametrize("fails", [0, 1, 5, 6])
@pytest.mark.parametrize("how", ["explodes", "rises"])
def test_a_step_is_shortened_to_a_third_six_times_at_most(fails, how, monkeypatch):
    tried = []

    def gradient(self, model):
        tried.append(LAYOUT.vector(model)[0] - LAYOUT.vector(network())[0])
        if len(tried) <= fails and how == "explodes":
            raise ExplosionError(0, 0, math.inf)
        return sums(100.0 + (len(tried) <= fails))

    monkeypatch.setattr(_Descent, "gradient", gradient)
    found = descent().line_search(network(), STEP, sums(100.0))
    np.testing.assert_allclose(tried, 3.0 ** -np.arange(min(fails + 1, 6)), rtol=1e-9)
    if fails < 6:
        assert found[2] == pytest.approx(3.0**-fails)
        assert found[1].total == 100.0
    else:
        assert found is None


@pytest.mark.parametrize("fails", range(5))
def test_a_start_that_explodes_has_its_recurrence_halved_three_times(fails, monkeypatch):
    tried = []

    def gradient(self, model):
        tried.append(model.recurrent_weights[0, 0] / 0.1)
        if len(tried) <= fails:
            raise ExplosionError(0, 0, math.inf)
        return sums(100.0)

    monkeypatch.setattr(_Descent, "gradient", gradient)
    start, _ = descent().finite_start(network())
    np.testing.assert_allclose(tried, [1.0, 0.5, 0.25, 0.125, 0.0][: fails + 1])
    assert start.recurrent_weights[0, 0] == pytest.approx(0.1 * tried[-1])


@pytest.mark.parametrize(("size", "name"), [(1500, "Matrix"), (1501, "Products")])
def test_a_matrix_is_formed_for_fifteen_hundred_weights(size, name, monkeypatch):
    for each in ("Matrix", "Products"):
        monkeypatch.setattr(module, each, lambda *_, each=each: each)
    given = replace(descent(), layout=SimpleNamespace(size=size))
    assert given._curvature(None, None) == name


@pytest.mark.parametrize(
    ("n_rows", "stride"),
    [(319_999, None), (320_000, 4), (399_999, 4), (400_000, 5), (1_600_000, 16)],
)
def test_a_descent_begins_on_a_part_of_many_data(n_rows, stride, monkeypatch):
    """Of 80,000 rows at least, a fourth of the data at most; with a tolerance of 1 a weight."""
    runs, X = [], np.broadcast_to(0.0, (n_rows, 1))
    source = Source(as_sequences(X, X), batch_size=10**6)

    def run(self, model, limit, trace):
        runs.append((self.source.stride, self.tolerance, limit))
        end = SimpleNamespace(
            model=model,
            status=None,
            squares=SquareSums(N_ROWS, np.array([2.0])),
            current=sums(2.0),
            curvature=SimpleNamespace(hessian=None),
        )
        return np.array([6.0]), end

    monkeypatch.setattr(_Descent, "run", run)
    solver = GaussNewton()
    found = solver.minimise(SquaredError(), network(), LAYOUT, SERIAL, source)
    first = [] if stride is None else [(stride, 1.0 * LAYOUT.size, 30)]
    assert runs == [*first, (source.stride, 0.25, 30)]
    # what the first descent gained on its part counts for the start
    np.testing.assert_allclose(found.start_squares, [6.0 if stride is None else 6.0 * 6.0 / 2.0])
    assert found.status is RefinementStatus.STEP_LIMIT
    runs.clear()
    solver.from_near().minimise(SquaredError(), network(), LAYOUT, SERIAL, source)
    GaussNewton(True).minimise(
        SquaredError(), network(), LAYOUT, SERIAL, source
    ) if not stride else 0
    assert runs[0] == (source.stride, 0.25, 30)
    assert stride or runs[1] == (source.stride, module.CONVERGED, 100)


def test_a_thousandth_for_each_weight_may_be_left_to_gain(monkeypatch):
    seen = []
    monkeypatch.setattr(_Descent, "run", lambda self, *_: seen.append(self.tolerance))
    wide = Layout(1, 30, 1)
    source = Source(as_sequences(np.zeros((50, 1)), np.zeros((50, 1))))
    for solver, layout in (
        (GaussNewton(), LAYOUT),
        (GaussNewton(), wide),
        (GaussNewton(enough=0.7), wide),
    ):
        with pytest.raises(TypeError):
            solver.minimise(SquaredError(), network(layout), layout, SERIAL, source)
    assert seen == [0.25, pytest.approx(1e-3 * wide.size), 0.7]


def test_limits_of_steps():
    assert (GaussNewton().most_steps, GaussNewton(True).most_steps) == (30, 100)
    assert GaussNewton(max_steps=7).most_steps == 7
    assert GaussNewton(True).from_near() == GaussNewton(True, 100)
    assert (GaussNewton().name, GaussNewton(True).name) == ("one step", "Gauss-Newton")


# ------------------------------------------------------------------------------------- L-BFGS


class Square(Loss):
    name = "a loss"

    def rows(self, outputs, targets):
        return (targets - outputs) ** 2 / 2, targets - outputs


def problem(loss=None, held_out=None, penalty=0.3):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((40, 1))
    source = Source(as_sequences(u, rng.standard_normal((40, 1))))
    model = network().replace(hidden_bias=[0.0, 0.0])
    trace = Trace(lambda: 0.0)
    return _Problem(
        loss or SquaredError(), model, LAYOUT, SERIAL, source, held_out, penalty, trace
    ), source


def test_the_objective_is_the_loss_per_row_with_the_penalty_and_its_slope():
    given, source = problem()
    rng = np.random.default_rng(1)
    change, step = 0.1 * rng.standard_normal((2, LAYOUT.size))
    given.objective(np.zeros(LAYOUT.size))
    value, slope = given.objective(change)
    moved = LAYOUT.move(given.start, given.scale * change)
    residuals = source.data.Y - moved.predict(source.data.X)
    expected = np.mean(residuals**2) / 2 + 0.3 * change @ change
    assert value == pytest.approx(expected, rel=ROUNDING)
    ahead, behind = (given.objective(change + s * 1e-5 * step)[0] for s in (1.0, -1.0))
    assert slope @ step == pytest.approx((ahead - behind) / 2e-5, rel=1e-6)


def test_units_of_weights_are_root_mean_squares_or_a_tenth():
    model = network().replace(input_weights=[[3.0], [4.0]])
    scale = LAYOUT.named(_scales(LAYOUT, model))
    np.testing.assert_allclose(scale["input_weights"], np.sqrt(12.5))
    np.testing.assert_allclose(scale["recurrent_weights"], np.sqrt(0.01 / 2))
    np.testing.assert_allclose(scale["hidden_bias"], 0.1)
    np.testing.assert_allclose(scale["output_bias"], 0.1)


@pytest.mark.parametrize(("size", "expected"), [(1.0, 1e3), (1e4, None)])
def test_what_explodes_costs_a_thousand_or_ten_times_the_start(size, expected, monkeypatch):
    given, source = problem(penalty=0.0)
    given.start = given.start.replace(output_bias=[size])
    start, _ = given.objective(np.zeros(LAYOUT.size))

    def explode(*_, **__):
        raise ExplosionError(0, 0, math.inf)

    monkeypatch.setattr(type(given.engine), "run", explode)
    value, slope = given.objective(np.ones(LAYOUT.size))
    assert value == pytest.approx(expected or 10 * start, rel=ROUNDING)
    assert not np.any(slope)
    assert np.isnan(given._outside(given.start)).all()  # without held-out data
    given.held_out = source
    assert given._outside(given.start) == (math.inf, 0.0)


def test_an_iterate_of_squares_notes_squares_of_each_output():
    for loss, known in ((SquaredError(), True), (Square(), False)):
        given, source = problem(loss)
        given.objective(np.zeros(LAYOUT.size))
        residuals = source.data.Y - given.start.predict(source.data.X)
        found = given.trace.solution(RefinementStatus.CONVERGED, 40.0)
        if known:
            np.testing.assert_allclose(found.squares, np.sum(residuals**2, axis=0))
            np.testing.assert_allclose(found.start_squares, np.sum(residuals**2, axis=0))
        else:
            assert found.squares is None
        assert found.final.loss == pytest.approx(np.mean(residuals**2) / 2, rel=ROUNDING)


def test_ten_iterations_without_a_gain_on_held_out_data_end_the_search(monkeypatch):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((4, 30, 1))
    whole = Source(as_sequences(u, rng.standard_normal((4, 30, 1))))
    training, held_out = split_after(whole, 2)
    monkeypatch.setattr(_Problem, "_outside", lambda self, model: (1.0, math.nan))
    found = LBFGS(penalty=0.0).minimise(
        SquaredError(), network(), LAYOUT, SERIAL, training, held_out=held_out
    )
    assert found.status is RefinementStatus.HELD_OUT
    assert found.n_steps == lbfgs.PATIENCE == 10
    assert found.model == network()
    free = LBFGS(max_steps=13, penalty=0.0).minimise(
        SquaredError(), network(), LAYOUT, SERIAL, training
    )
    assert (free.status, free.n_steps) == (RefinementStatus.STEP_LIMIT, 13)


def test_a_start_that_nothing_improves_is_kept_and_said_so():
    """The loss and its slope contradict each other: no line search finds anything lower."""

    class Wrong(SquaredError):
        def sums(self, batch, model, layout=None):
            found = super().sums(batch, model, layout)
            return replace(found, gradient=-found.gradient)

    rng = np.random.default_rng(0)
    data = as_sequences(rng.standard_normal((30, 1)), rng.standard_normal((30, 1)))
    found = LBFGS().minimise(Wrong(), network(), LAYOUT, SERIAL, Source(data))
    assert (found.status, found.n_steps) == (RefinementStatus.NO_DECREASE, 0)
    assert found.model == network()
