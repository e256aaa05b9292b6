"""Levenberg-Marquardt, records of steps and losses: either side of every limit."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.batches import SERIAL

from gloree.engine import Source, split_after
from gloree.models import IORNN
from gloree.refinement import (
    HessianSums,
    Layout,
    LevenbergMarquardt,
    Loss,
    RefinementStatus,
    Solution,
    SquaredError,
    Step,
)
from gloree.refinement import _levenberg_marquardt as module
from gloree.refinement._damping import damped_step
from gloree.refinement._levenberg_marquardt import _Search
from gloree.refinement._losses import _checked
from gloree.refinement._output_step import OutputSums, TwoOutputSums, output_sums
from gloree.refinement._search_state import OutOfTimeError, SearchState
from gloree.refinement._search_sums import NormalSums, counted_along
from gloree.refinement._sensitivities import SquareSums
from gloree.refinement._solvers import Trace, refuse_other_losses
from gloree.sequences import as_sequences

ROUNDING = 1e-12
# Small linear systems by two routes.
TWO_ROUTES = 1e-8

LAYOUT = Layout(1, 1, 1)
SIZE = LAYOUT.size
N_ROWS = 50.0


def network():
    return IORNN([[1.0]], [[0.1]], [[1.0]], [0.0], [0.0], activation="tanh")


@pytest.mark.parametrize("damping", [0.0, 1e-3, 2.0])
def test_a_damped_step_solves_its_equations(damping):
    """(H + damping diag(scale)) s = g, for weights of unlike units."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((9, 4)) * np.array([1.0, 1e4, 1e-3, 1.0])
    H, g = root.T @ root, rng.standard_normal(4)
    scale = np.diag(H) * np.array([1.0, 3.0, 2.0, 1.0])
    expected = np.linalg.solve(H + damping * np.diag(scale), g)
    np.testing.assert_allclose(damped_step(H, g, scale, damping), expected, rtol=TWO_ROUTES)


def test_a_damped_step_of_an_indefinite_matrix_is_that_of_least_squares():
    H, g = np.diag([2.0, -1.0, 0.0]), np.array([1.0, 2.0, 0.0])
    scale = np.array([1.0, 4.0, 1.0])
    found = damped_step(H, g, scale, 0.05)
    np.testing.assert_allclose(found, [1.0 / 2.05, 2.0 / (-1.0 + 0.2), 0.0], rtol=TWO_ROUTES)


def search(max_steps=200, **options):
    given = Source(as_sequences(np.zeros((50, 1)), np.zeros((50, 1))))
    solver = LevenbergMarquardt(max_steps, **options)
    trace = Trace(lambda: 0.0)
    return _Search(solver, LAYOUT, SERIAL, given, None, trace, np.arange(SIZE))


def state_of(damping=1e-3, H=None, g=None, mean=4.0, slow=0):
    """Sums of 50 rows with this J^T J and J^T r of a row, and squared error."""
    H = np.eye(SIZE) if H is None else H
    g = np.eye(1, SIZE)[0] if g is None else g
    gradient = SimpleNamespace(gradient=N_ROWS * g, n_rows=N_ROWS)
    sums = NormalSums(gradient, HessianSums(N_ROWS, N_ROWS * H))
    squares = SquareSums(N_ROWS, np.array([N_ROWS * mean]))
    return SearchState(network(), sums, squares, damping, np.ones(SIZE), slow)


def squares_of(mean):
    return SquareSums(N_ROWS, np.array([N_ROWS * mean]))


def settled(mean, other=None):
    """Sums of a pass with this squared error, which output weights alone do not lower."""
    sums = OutputSums(N_ROWS, np.array([N_ROWS * mean]), np.eye(2), np.zeros((2, 1)))
    return TwoOutputSums(sums, other)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(1.0, 1 / 9), (0.76, 1 / 9), (0.74, 1.0), (0.26, 1.0), (0.24, 3.0), (0.011, 3.0)],
)
@pytest.mark.parametrize("damping", [0.5, 2e-10])
def test_damping_follows_the_ratio_of_gains(ratio, factor, damping, monkeypatch):
    """With H = I and g = e: a step s has the predicted gain 2 s - s^2."""
    s = 1.0 / (1.0 + damping)
    error = 4.0 - ratio * (2 * s - s**2)
    tried = []

    def squares(self, model):
        tried.append(model)
        return settled(error)

    monkeypatch.setattr(_Search, "_squares", squares)
    found = search()._trial(state_of(damping))
    assert len(tried) == 1
    moved = LAYOUT.vector(found[0]) - LAYOUT.vector(network())
    np.testing.assert_allclose(moved, s * np.eye(1, SIZE)[0], atol=ROUNDING)
    assert found[1].mean == pytest.approx(error, rel=ROUNDING)
    assert found[3] == pytest.approx(max(factor * damping, 1e-10), rel=ROUNDING)


@pytest.mark.parametrize("damping", [1e-10, 0.5])
def test_a_step_that_gains_nothing_is_damped_four_times_as_much(damping, monkeypatch):
    tried = []

    def squares(self, model):
        tried.append(LAYOUT.vector(model)[0] - 1.0)
        return None if len(tried) % 2 else settled(4.0)

    monkeypatch.setattr(_Search, "_squares", squares)
    assert search()._trial(state_of(damping)) is None
    expected, lam = [], damping
    for _ in range(14):
        expected.append(1.0 / (1.0 + lam))
        lam = max(4.0 * lam, 1e-9)
    np.testing.assert_allclose(tried, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("damping", "factor", "ended"),
    [
        (1e-8, 0.99, True),
        (1e-8, 1.01, False),
        (1.1e-8, 0.99, False),
    ],
)
def test_a_gain_of_a_hundredth_of_a_variance_ends_an_undamped_search(
    damping, factor, ended, monkeypatch
):
    """A predicted gain of .01 of the mean square of 50 rows of one output."""
    worth = 0.01 / N_ROWS * 4.0
    g = np.sqrt(factor * worth) * np.eye(1, SIZE)[0]
    tried = []

    def squares(self, model):
        tried.append(model)
        return settled(3.0)

    monkeypatch.setattr(_Search, "_squares", squares)
    assert (search()._trial(state_of(damping, g=g)) is None) is ended
    assert len(tried) == (not ended)


@pytest.mark.parametrize(
    ("gain", "slow", "expected"),
    [(0.9e-5, 0, 1), (1.1e-5, 3, 0), (0.9e-5, 3, 4), (0.9e-5, 4, None)],
)
def test_five_slow_steps_in_a_row_end_the_search(gain, slow, expected, monkeypatch):
    after = 4.0 * (1.0 - gain)
    monkeypatch.setattr(
        _Search, "_trial", lambda self, state: (network(), squares_of(after), None, 0.25)
    )
    monkeypatch.setattr(_Search, "_normal", lambda self, model, known=None: "sums")
    found = search().step(state_of(slow=slow))
    if expected is None:
        assert found.status is RefinementStatus.CONVERGED
    else:
        assert (found.slow, found.damping, found.status) == (expected, 0.25, None)
        assert found.sums == "sums"


def test_a_search_starts_with_no_slow_step_and_the_damping_that_is_given():
    found = search(damping=0.3).start(network())
    assert (found.slow, found.damping, found.status) == (0, 0.3, None)
    np.testing.assert_array_equal(found.scale, np.zeros(SIZE))


def test_the_scale_of_the_damping_forgets_a_tenth_and_has_a_floor(monkeypatch):
    seen = []
    monkeypatch.setattr(_Search, "_trial", lambda self, state: seen.append(state.scale))
    H = np.diag([4.0, 0.5, 0.0, 0.0, 0.0][:SIZE])
    state = state_of(H=H)
    found = search().step(state)
    expected = np.full(SIZE, 0.9)
    expected[0] = 4.0
    np.testing.assert_allclose(seen[0], expected, rtol=ROUNDING)
    assert found.status is RefinementStatus.CONVERGED
    nothing = module.replace(state, scale=np.zeros(SIZE))
    search().step(nothing)
    np.testing.assert_allclose(seen[1][1:], [0.5, 4e-12, 4e-12, 4e-12][: SIZE - 1], rtol=ROUNDING)


def test_limits_of_steps_and_of_patience(monkeypatch):
    monkeypatch.setattr(
        _Search, "_trial", lambda self, state: (network(), squares_of(3.0), None, 0.25)
    )
    monkeypatch.setattr(_Search, "_normal", lambda self, model, known=None: "sums")
    for n_steps, ended in ((1, False), (2, True)):
        given = search(2)
        for _ in range(n_steps + 1):
            given.trace.note(network(), 2.0)
        found = given.step(state_of())
        assert (found.status is RefinementStatus.STEP_LIMIT) is ended
    # the first one is the best; after the step the best is `patience` steps ago
    for n_steps, ended in ((1, False), (2, True)):
        given = search(patience=3)
        given.trace.note(network(), 1.0)
        for _ in range(n_steps):
            given.trace.note(network(), 2.0)
        found = given.step(state_of())
        assert (found.status is RefinementStatus.HELD_OUT) is ended


@pytest.mark.parametrize(("seconds", "out"), [(8.9, False), (9.0, True)])
def test_no_pass_begins_that_would_end_too_late(seconds, out):
    """The start took two seconds, and another pass half as long as that."""
    now = [0.0]
    given = module.replace(search(max_seconds=10.0), trace=Trace(lambda: now[0]))
    given._look_at_the_clock()
    now[0] = 2.0
    given.trace.note(network(), 1.0)
    now[0] = seconds
    if out:
        with pytest.raises(OutOfTimeError):
            given._look_at_the_clock()
    else:
        given._look_at_the_clock()
    module.replace(given, solver=LevenbergMarquardt())._look_at_the_clock()


def test_steps_move_the_chosen_weights_and_are_admitted():
    given = search(admit=lambda model: model.replace(output_bias=[7.0]))
    given = module.replace(given, chosen=np.array([0, 2]))
    moved = given._moved(network(), np.array([0.5, 0.25]))
    change = np.zeros(SIZE)
    change[[0, 2]] = 0.5, 0.25
    assert moved == LAYOUT.move(network(), change).replace(output_bias=[7.0])


def test_the_first_step_is_judged_without_that_of_the_output_weights(monkeypatch):
    """They would make some use of states that have gone astray: worse by itself, better with it."""
    sums = OutputSums(N_ROWS, N_ROWS * np.array([5.0]), N_ROWS * np.eye(2), np.zeros((2, 1)))
    sums.cross[1] = N_ROWS * 2.0
    monkeypatch.setattr(_Search, "_squares", lambda self, model: TwoOutputSums(sums, None))
    assert search()._trial(state_of()) is None
    found = search()._trial(module.replace(state_of(), solved=True))
    # 5 - 2 c 2 + c^2 with c = 2 / (1 + damping)
    assert found[1].mean == pytest.approx(1.0, abs=1e-5)
    assert found[0].output_bias[0] == pytest.approx(2.0, abs=1e-2)


def test_output_weights_stay_where_their_step_is_not_admitted():
    sums = OutputSums(N_ROWS, N_ROWS * np.array([5.0]), N_ROWS * np.eye(2), np.ones((2, 1)))
    given = search(admit=lambda model: model.replace(output_bias=[7.0]))
    model, squares, outside = given._solved(network(), TwoOutputSums(sums, sums), state_of(), 0.1)
    assert model == network()
    assert (squares.mean, outside) == (5.0, 5.0)


def test_squares_of_some_rows_are_added_beside_those_of_all():
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal((2, 3, 10, 1))
    batch, some = as_sequences(u, y).whole(), np.arange(30) >= 20
    found = output_sums(batch, network(), LAYOUT, some)
    squares = ((y - network().predict(u)) ** 2).ravel()
    assert (found.own.n_rows, found.other.n_rows) == (30, 10)
    assert found.own.total == pytest.approx(squares.sum(), rel=ROUNDING)
    assert found.other.total == pytest.approx(squares[20:].sum(), rel=ROUNDING)


def test_rows_of_a_pass_hold_the_held_out_ones_where_it_visits_their_segments():
    """Of the same data, cut in the same way, with rows that count in either."""
    X = np.zeros((4, 10, 1))
    data = as_sequences(X, X)
    early = np.tile(np.arange(10) < 5, 4)

    def source(counting, **options):
        return replace(Source(data, segment=5, **options), counting=counting)

    training, held_out = source(early), source(~early)
    assert counted_along(training, held_out) is held_out.counting
    assert counted_along(source(None), held_out) is None
    assert counted_along(training, source(None)) is None
    other = replace(held_out, data=as_sequences(X, X))
    assert counted_along(training, other) is None
    longer = replace(Source(data, segment=10), counting=~early)
    assert counted_along(training, longer) is None
    first, second = split_after(training, 4)
    assert counted_along(first, second) is None
    assert counted_along(training, second) is training.counting


def test_the_curvature_is_that_of_all_rows_unless_less_than_half_are_wanted(monkeypatch):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((100, 1))
    source = Source(as_sequences(u, u), batch_size=100, segment=5, before=5)
    given = module.replace(search(), data=source)
    for wanted, whole in ((50, True), (49, False)):
        monkeypatch.setattr(module, "hessian_rows", lambda *_, wanted=wanted, **__: wanted)
        asked = []
        within = module.Strata.within
        monkeypatch.setattr(
            module.Strata,
            "within",
            lambda *a, asked=asked, within=within: asked.append(a[1]) or within(*a),
        )
        given._normal(network())
        assert asked == ([] if whole else [49])
        monkeypatch.setattr(module.Strata, "within", within)


# ------------------------------------------------------------------------------ records of steps


def test_a_trace_keeps_the_best_model_and_its_squares():
    now, seen = [5.0], []
    trace = Trace(lambda: now[0], lambda *given: seen.append(given))
    for i, (loss, held_out) in enumerate(((3.0, 4.0), (2.0, 2.0), (1.0, 2.5))):
        now[0] += 1.0
        trace.note(f"model {i}", loss, np.array([loss]), held_out=held_out, share=0.25 * i)
    assert (trace.n_steps, trace.waited, trace.seconds) == (2, 1, 3.0)
    assert seen == [(0, 4.0, 0.0), (1, 2.0, 0.25), (2, 2.5, 0.5)]
    found = trace.solution(RefinementStatus.CONVERGED, 8.0)
    assert found.model == "model 1"
    assert (found.squares[0], found.start_squares[0]) == (2.0, 3.0)
    assert [step.seconds for step in found.history] == [1.0, 2.0, 3.0]
    assert found.final is found.history[1]
    assert (found.n_steps, found.best_share) == (2, 0.5)
    assert found.outcome == "2 steps, no further decrease within rounding"
    np.testing.assert_allclose((found.rmse, found.start_rmse), ([0.5], [np.sqrt(3.0 / 8.0)]))
    alone = Solution("model", RefinementStatus.EFFICIENT, 1.0, found.history[:1])
    assert (alone.n_steps, alone.best_share) == (0, 0.0)
    assert Solution("m", RefinementStatus.EFFICIENT, 1.0, found.history[:2]).outcome == (
        "1 step, the rest is far below the statistical error"
    )
    with pytest.raises(ValueError, match="no `rmse`"):
        _ = alone.rmse


def test_losses_of_a_part_are_scaled_so_that_the_last_is_given():
    trace = Trace(lambda: 0.0)
    for loss in (8.0, 4.0, 2.0):
        trace.note("model", loss)
    trace.rescale(3.0)
    assert [step.loss for step in trace.steps] == [12.0, 6.0, 3.0]


def test_a_tie_keeps_the_earlier_model():
    trace = Trace(lambda: 0.0)
    for name in ("first", "second"):
        trace.note(name, 1.0)
    assert trace.solution(RefinementStatus.CONVERGED, 1.0).model == "first"
    assert trace.waited == 1


def test_the_loss_that_decides_is_that_of_held_out_data_where_there_are_any():
    assert Step(0.0, 1.0).judged == 1.0
    assert Step(0.0, 1.0, 2.0).judged == 2.0
    assert math.isnan(Step(0.0, 1.0).share)


# ------------------------------------------------------------------------------------- losses


class Scaled(Loss):
    """Half the squares, with a slope that is off by a factor."""

    name = "scaled"
    least_squares = True

    def __init__(self, factor, from_row=0):
        self.factor, self.from_row = factor, from_row

    def rows(self, outputs, targets):
        residuals = targets - outputs
        factors = np.where(np.arange(len(residuals)) >= self.from_row, self.factor, 1.0)
        return residuals**2 / 2, residuals * factors[:, None]


@pytest.mark.parametrize(
    ("factor", "wrong"), [(1.0, False), (1.9, False), (2.1, True), (-1.0, True)]
)
def test_slopes_are_compared_with_differences_within_a_half(factor, wrong):
    """|expected - given| > .5 |given|: |1 - f| > f / 2, so that f may be between 2 / 3 and 2."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal((2, 9, 2))
    targets = outputs + np.abs(targets)
    if wrong:
        with pytest.raises(ValueError, match="its signal is not minus the derivative"):
            _checked(Scaled(factor), outputs, targets)
    else:
        values, signal = _checked(Scaled(factor), outputs, targets)
        assert values.shape == signal.shape == (9, 2)
    _checked(Scaled(factor, from_row=5), outputs, targets)  # five rows are looked at
    if wrong:
        with pytest.raises(ValueError, match="its signal"):
            _checked(Scaled(10 * factor, from_row=4), outputs, targets)


def test_differences_of_a_slope_are_of_a_millionth():
    """At steps of the size of the residuals themselves this slope would look wrong."""

    class Quartic(Loss):
        name = "quartic"

        def rows(self, outputs, targets):
            residuals = targets - outputs
            return residuals**4 / 4, residuals**3

    outputs = np.zeros((5, 1))
    values, signal = _checked(Quartic(), outputs, outputs + 0.5)
    np.testing.assert_allclose((values[0], signal[0]), ([0.5**4 / 4], [0.125]))


def test_a_loss_that_is_not_finite_is_named_where_outputs_are():
    class Wild(Scaled):
        def rows(self, outputs, targets):
            values, signal = super().rows(outputs, targets)
            return np.where(np.isfinite(outputs), np.inf, values), signal

    outputs, targets = np.zeros((3, 1)), np.ones((3, 1))
    with pytest.raises(ValueError, match="is not finite for finite outputs"):
        _checked(Wild(1.0), outputs, targets)


@pytest.mark.parametrize(
    ("loss", "refused"), [(SquaredError(), False), (Scaled(1.0), False), (Scaled(1.1), True)]
)
def test_solvers_of_squares_look_at_the_slope(loss, refused):
    if refused:
        with pytest.raises(ValueError, match="cannot minimise `loss`, the scaled"):
            refuse_other_losses("a solver", loss)
    else:
        refuse_other_losses("a solver", loss)


def test_a_weight_that_nothing_depends_on_stays_where_it_is():
    """A rectifier that never acts has no curvature at all: its scale of zero was divided by."""
    np.testing.assert_array_equal(damped_step(np.zeros((2, 2)), np.zeros(2), np.zeros(2), 0.1), 0.0)
    found = damped_step(np.diag([4.0, 0.0]), np.array([1.0, 0.0]), np.array([4.0, 0.0]), 0.0625)
    np.testing.assert_allclose(found, [1.0 / 4.25, 0.0])
