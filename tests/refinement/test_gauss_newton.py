"""Gauss-Newton: one step is enough, the limit does not depend on the start, nothing explodes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.batches import SERIAL, gradient_of, hessian_of
from helpers.comparisons import assert_same_sums
from helpers.descents import gauss_newton
from helpers.engines import Counted

from gloree import datasets
from gloree.engine import Engine, Source
from gloree.metrics import weight_errors
from gloree.models import IORNN, canonical_units
from gloree.refinement import (
    Layout,
    RefinementStatus,
    hessian_pass,
    standard_errors,
)
from gloree.refinement import _curvature as matrix
from gloree.refinement import _gauss_newton as descent
from gloree.refinement._curvature import (
    LEAST_ROWS,
    MOST_ROWS,
    ROWS_PER_PARAMETER,
    hessian_rows,
    solve_step,
)
from gloree.sequences import as_sequences

# Two steps with sums merged in one order, by libraries that may split a product otherwise.
SAME_STEPS = 1e-10
# Small linear systems, and products of a thousand rows in another order.
ALGEBRA = 1e-9
# The same sums in another order.
ROUNDING = 1e-12
# Linear systems solved by two routes: normal equations square conditions of up to 1e5.
TWO_ROUTES = 1e-6
# A descent ends when the error falls by less than 1e-12 of it: what a step could still gain then,
# in units of the squared error, and in weights whose exact error is zero, the root of that.
LEFT_TO_GAIN = 1e-8
EXACT_WEIGHTS = 1e-6

# Eigenvalues of J^T J below this share of the largest are rounding, of scales that are free.
SINGULAR = 1e-10

# Two minimisations agree to where a step no longer lowers the squared error: the tolerance of
# the loop is 1e-12 of the error, or 1e-8 of the statistical error.
SAME_LOSS = 1e-9
# Weights then agree to about the root of that times their statistical error.
SAME_WEIGHTS = 1e-4

# Left to gain after an efficient step, as a share of what statistical error is worth: of second
# order in the distance of the start, a few hundredths here at three standard errors.
EFFICIENT_SHARE = 0.1


def make_problem(seed=0, n_sequences=150, *, sizes=(3, 2, 3), n_steps=8, degree=2, bias=False):
    # a cubic explodes sooner
    norm = 0.1 if degree == 2 else 0.02
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, n_steps, *sizes, degree=degree, recurrence_norm=norm, random_state=seed
    )
    layout = Layout(*sizes, bias=bias)
    return truth, layout, Source(as_sequences(X, Y), batch_size=400)


def totals(end):
    """Total sum of squares at the start and after each step."""
    return [2 * step.loss * end.n_rows for step in end.history]


def loss(model, layout, source):
    return float(gradient_of(model, layout, source).squares.sum())


def perturbed(model, layout, source, size, seed=0):
    """The model moved by `size` statistical errors in a random direction of every weight."""
    H = hessian_of(model, layout, source).hessian
    constraints = layout.scale_constraints(model)
    variance = loss(model, layout, source) / (source.data.n_rows * layout.n_outputs)
    values, vectors = np.linalg.eigh(H + np.abs(H).max() * constraints.T @ constraints)
    # signs of eigenvectors hang on rounding
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(layout.size)])
    draw = np.random.default_rng(seed).standard_normal(layout.size)
    step = vectors @ (draw / np.sqrt(values)) * np.sqrt(variance)
    return layout.move(model, size * step)


# ------------------------------------------------------------------------------------ the minimum


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_truth_and_perturbed_start_reach_the_same_loss(seed, degree):
    truth, layout, source = make_problem(seed, degree=degree)
    starts = [truth, perturbed(truth, layout, source, 30.0, seed)]
    ends = [gauss_newton(m, layout, SERIAL, source, to_convergence=True) for m in starts]
    assert all(end.status is RefinementStatus.CONVERGED for end in ends)
    first, second = (end.squares.sum() for end in ends)
    assert second == pytest.approx(first, rel=SAME_LOSS)
    for name, error in weight_errors(ends[0].model, ends[1].model).items():
        assert error < SAME_WEIGHTS, name


@pytest.mark.parametrize("free", [{"recurrent": False}, {"bias": True}, {"direct": True}])
def test_minimum_is_stationary(free):
    truth, _, source = make_problem()
    layout = Layout(3, 2, 3, **({"bias": False} | free))
    if not layout.recurrent:
        truth = truth.replace(recurrent_weights=None)
    if layout.direct:
        truth = truth.replace(direct_weights=np.zeros((3, 3)))
    end = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    sums = gradient_of(end.model, layout, source)
    # what a step from here could still gain, against the squared error
    H = hessian_of(end.model, layout, source).hessian
    step = solve_step(H, sums.gradient, layout.scale_constraints(end.model), 0.0)
    assert step @ sums.gradient < LEFT_TO_GAIN * sums.squares.sum()
    np.testing.assert_allclose(end.squares, sums.squares, rtol=ROUNDING)
    assert end.n_rows == source.data.n_rows


def test_exact_outputs_give_the_truth():
    truth, layout, source = make_problem()
    Y = truth.predict(source.data.X.reshape(-1, 8, 3))
    source = Source(as_sequences(source.data.X.reshape(-1, 8, 3), Y), batch_size=400)
    rng = np.random.default_rng(0)
    start = layout.move(truth, 0.02 * rng.standard_normal(layout.size))
    end = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    assert max(weight_errors(end.model, truth).values()) < EXACT_WEIGHTS


@pytest.mark.parametrize("seed", range(5))
def test_one_step_from_a_root_n_start_is_efficient(seed):
    """Le Cam: from three statistical errors away, what is left to gain is far below one.

    The excess of the squared error over its minimum, in units of the noise variance, is about
    the number of parameters times 9 at the start.
    """
    truth, layout, source = make_problem(seed, 1000)
    minimum = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    variance = minimum.squares.sum() / (minimum.n_rows * layout.n_outputs)
    start = perturbed(minimum.model, layout, source, 3.0, seed)
    H = hessian_of(start, layout, source).hessian
    gradient = gradient_of(start, layout, source).gradient
    step = solve_step(H, gradient, layout.scale_constraints(start), 0.0)
    values = [loss(model, layout, source) for model in (start, layout.move(start, step))]
    excess = [(value - minimum.squares.sum()) / variance for value in values]
    assert excess[0] > 2 * layout.size
    assert excess[1] < EFFICIENT_SHARE * layout.size


@pytest.mark.parametrize("seed", range(5))
def test_default_ends_where_statistical_error_begins(seed):
    """With J^T J from a subsample it takes a few steps, and stops there."""
    truth, layout, source = make_problem(seed, 1000)
    minimum = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    variance = minimum.squares.sum() / (minimum.n_rows * layout.n_outputs)
    start = perturbed(minimum.model, layout, source, 3.0, seed)
    end = gauss_newton(start, layout, SERIAL, source)
    assert end.status is RefinementStatus.EFFICIENT
    assert end.n_steps <= 6
    assert end.squares.sum() - minimum.squares.sum() < descent.EFFICIENT * variance


FEW_ROWS = 1500
"""Rows behind J^T J, of 16,000: it is off by enough for several steps."""

BLIND = 1e-300
"""In place of `FORESEEN`: no step is foreseen to be the last."""


@pytest.mark.parametrize(("seed", "size"), [(1, 3.0), (3, 10.0), (5, 20.0)])
def test_the_pace_of_the_steps_foresees_the_last_one(seed, size, monkeypatch):
    """One gradient pass less, and no more is left to gain than is allowed."""
    monkeypatch.setattr(matrix, "hessian_rows", lambda layout, n_rows: FEW_ROWS)
    truth, layout, source = make_problem(seed, 2000)
    start = perturbed(truth, layout, source, size, seed)
    engine, blind = Counted("serial"), Counted("serial")
    end = gauss_newton(start, layout, engine, source)
    monkeypatch.setattr(descent, "FORESEEN", BLIND)
    gauss_newton(start, layout, blind, source)
    assert engine.labels.count("J^T r") == blind.labels.count("J^T r") - 1
    assert engine.labels[-1] == "squares"
    assert end.status is RefinementStatus.EFFICIENT
    current = gradient_of(end.model, layout, source)
    np.testing.assert_allclose(end.squares, current.squares, rtol=ROUNDING)
    H = hessian_of(end.model, layout, source).hessian
    step = solve_step(H, current.gradient, layout.scale_constraints(end.model), 0.0)
    variance = end.squares.sum() / (end.n_rows * layout.n_outputs)
    assert step @ H @ step <= descent.EFFICIENT * variance


def test_a_step_moves_no_combination_by_more_than_it_gains():
    """|v.s| <= sqrt(s^T H s / sigma^2) standard errors sigma sqrt(v^T H^+ v), for all v.

    With equality for v = H s; moves that the scale of a unit leaves free are no combinations.
    """
    truth, layout, source = make_problem(3, 200)
    start = perturbed(truth, layout, source, 2.0, 3)
    current = gradient_of(start, layout, source)
    H = hessian_of(start, layout, source).hessian
    step = solve_step(H, current.gradient, layout.scale_constraints(start), 0.0)
    gain = step @ current.gradient
    assert gain == pytest.approx(step @ H @ step, rel=LEFT_TO_GAIN)
    rng = np.random.default_rng(0)
    inverse = np.linalg.pinv(H, rcond=SINGULAR, hermitian=True)
    combinations = [H @ step, *(rng.standard_normal((20, layout.size)) @ H)]
    ratios = [abs(v @ step) / np.sqrt(gain * (v @ inverse @ v)) for v in combinations]
    assert ratios[0] == pytest.approx(1.0, rel=TWO_ROUTES)
    assert max(ratios) < 1.0 + TWO_ROUTES


@pytest.mark.parametrize("factor", [0.0, 0.4, 2.5])
def test_a_fall_that_was_not_foreseen_is_no_end(factor, monkeypatch):
    """The descent goes on as if nothing had been foreseen, and to the same end."""
    monkeypatch.setattr(matrix, "hessian_rows", lambda layout, n_rows: FEW_ROWS)
    truth, layout, source = make_problem(2, 2000)
    start = perturbed(truth, layout, source, 10.0, 2)
    history = [loss(start, layout, source)]
    squares, tried = descent._Descent.squares, []

    def other(self, model):
        found = squares(self, model)
        tried.append(model)
        if len(tried) > 1:
            return found
        before, after = history[-1], found.squares.sum()
        return replace(found, squares=found.squares * (before - factor * (before - after)) / after)

    def note(step, value, share):
        if step > 0:
            history.append(2 * value * source.data.n_rows)

    monkeypatch.setattr(descent._Descent, "squares", other)
    end = gauss_newton(start, layout, SERIAL, source, progress=note)
    assert len(tried) == 2
    monkeypatch.setattr(descent, "FORESEEN", BLIND)
    assert end.model == gauss_newton(start, layout, SERIAL, source).model


def test_history_falls_and_starts_at_the_start():
    truth, layout, source = make_problem()
    start = perturbed(truth, layout, source, 30.0)
    seen = []
    end = gauss_newton(start, layout, SERIAL, source, progress=lambda *step: seen.append(step))
    assert totals(end)[0] == pytest.approx(loss(start, layout, source), rel=ROUNDING)
    assert end.start_squares.sum() == pytest.approx(totals(end)[0], rel=ROUNDING)
    assert end.squares.sum() == pytest.approx(totals(end)[-1], rel=ROUNDING)
    np.testing.assert_array_equal(end.rmse, np.sqrt(end.squares / end.n_rows))
    np.testing.assert_array_equal(end.start_rmse, np.sqrt(end.start_squares / end.n_rows))
    assert totals(end) == sorted(totals(end), reverse=True)
    assert end.n_steps == len(end.history) - 1
    assert end.final is end.history[-1]
    assert [step for step, *_ in seen] == list(range(end.n_steps + 1))
    assert [value for _, value, _ in seen] == [step.loss for step in end.history]
    assert all(np.isnan([step.held_out, step.share]).all() for step in end.history)
    seconds = [step.seconds for step in end.history]
    assert seconds == sorted(seconds)


def test_efficient_start_takes_no_step():
    truth, layout, source = make_problem()
    minimum = gauss_newton(truth, layout, SERIAL, source, to_convergence=True).model
    again = gauss_newton(minimum, layout, SERIAL, source)
    assert again.status is RefinementStatus.EFFICIENT
    assert again.n_steps == 0
    assert again.model == minimum


def test_no_steps_allowed_returns_the_start():
    truth, layout, source = make_problem()
    end = gauss_newton(truth, layout, SERIAL, source, max_steps=0)
    assert (end.status, end.n_steps, end.model) == (RefinementStatus.STEP_LIMIT, 0, truth)


def test_rows_keep_their_norm():
    """The gauge keeps a_i on its sphere, to first order of each step."""
    truth, layout, source = make_problem()
    start = perturbed(truth, layout, source, 3.0)
    before = np.linalg.norm(start.input_weights, axis=1)
    end = gauss_newton(start, layout, SERIAL, source, max_steps=1)
    moved = np.linalg.norm(end.model.input_weights - start.input_weights, axis=1)
    after = np.linalg.norm(end.model.input_weights, axis=1)
    # |a + s|^2 = |a|^2 + |s|^2 for s orthogonal to a
    np.testing.assert_allclose(after**2 - before**2, moved**2, atol=TWO_ROUTES)


def test_threads_and_serial_take_the_same_steps():
    truth, layout, source = make_problem()
    start = perturbed(truth, layout, source, 5.0)
    ends = [
        gauss_newton(start, layout, engine, source, max_steps=2)
        for engine in (SERIAL, Engine("threads", n_workers=2))
    ]
    np.testing.assert_allclose(totals(ends[0]), totals(ends[1]), rtol=SAME_STEPS)


# ---------------------------------------------------------------------------------- explosions


def test_start_that_explodes_is_calmed():
    truth, layout, source = make_problem()
    wild = truth.replace(recurrent_weights=40.0 * truth.recurrent_weights)
    end = gauss_newton(wild, layout, SERIAL, source, max_steps=3)
    assert np.all(np.isfinite(totals(end)))
    assert totals(end)[-1] <= totals(end)[0]
    end.model.predict(source.data.X.reshape(-1, 8, 3))


@pytest.mark.parametrize("n_found", [0, 1])
def test_a_search_that_finds_nothing_ends_the_descent(n_found, monkeypatch):
    """Without a step it says that none was found, after one that there is none left."""
    truth, layout, source = make_problem()
    start = perturbed(truth, layout, source, 30.0)
    found, search = [], descent._Descent.line_search

    def line_search(self, *given):
        if len(found) == n_found:
            return None
        found.append(search(self, *given))
        return found[-1]

    monkeypatch.setattr(descent._Descent, "line_search", line_search)
    end = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    expected = RefinementStatus.CONVERGED if n_found else RefinementStatus.NO_DECREASE
    assert (end.n_steps, end.status) == (n_found, expected)


def test_line_search_shortens_a_step_that_explodes():
    truth, layout, source = make_problem()
    current = gradient_of(truth, layout, source)
    H = hessian_of(truth, layout, source).hessian
    good = solve_step(H, current.gradient, layout.scale_constraints(truth), 0.0)
    search = descent._Descent(layout, SERIAL, source, descent.CONVERGED).line_search
    moved, after, fraction = search(truth, good, current)
    assert fraction == 1.0
    assert after.squares.sum() < current.squares.sum()
    assert moved == layout.move(truth, good)
    wild = layout.named(np.arange(layout.size, dtype=float))["recurrent_weights"].astype(int)
    long = np.zeros(layout.size)
    long[wild.ravel()] = 50.0
    assert search(truth, long, current) is None
    found = search(truth, 100.0 * good, current)
    assert found is None or (found[2] < 1.0 and found[1].squares.sum() <= current.squares.sum())


def test_long_steps_from_a_poor_start_never_raise_the_error():
    truth, layout, source = make_problem()
    rng = np.random.default_rng(3)
    start = layout.move(truth, 0.3 * rng.standard_normal(layout.size))
    end = gauss_newton(start, layout, SERIAL, source, to_convergence=True, max_steps=15)
    assert totals(end) == sorted(totals(end), reverse=True)
    assert np.all(np.isfinite(totals(end)))


# ------------------------------------------------------------------------- the linear system


def test_step_solves_the_constrained_normal_equations():
    """Along a null direction fixed by C the step has no part; elsewhere H s = g."""
    rng = np.random.default_rng(0)
    J = rng.standard_normal((40, 6)) @ np.diag([1.0, 1e3, 1e-3, 1.0, 10.0, 1.0])
    null = rng.standard_normal(6)
    J -= np.outer(J @ null, null) / (null @ null)
    H, g = J.T @ J, J.T @ rng.standard_normal(40)
    step = solve_step(H, g, null[None], 0.0)
    scale = np.sqrt(np.diag(H))
    np.testing.assert_allclose((H @ step - g) / scale, 0.0, atol=TWO_ROUTES)
    assert abs(null @ step) < TWO_ROUTES * np.linalg.norm(null) * np.linalg.norm(step)


def test_step_without_constraints_is_newton():
    rng = np.random.default_rng(1)
    J = rng.standard_normal((30, 4))
    g = rng.standard_normal(4)
    none = np.zeros((0, 4))
    np.testing.assert_allclose(
        solve_step(J.T @ J, g, none, 0.0), np.linalg.solve(J.T @ J, g), rtol=ALGEBRA
    )


def test_damping_adds_to_the_diagonal():
    rng = np.random.default_rng(2)
    J = rng.standard_normal((30, 4))
    H, g = J.T @ J, rng.standard_normal(4)
    expected = np.linalg.solve(H + 0.3 * np.diag(np.diag(H)), g)
    np.testing.assert_allclose(solve_step(H, g, np.zeros((0, 4)), 0.3), expected, rtol=ALGEBRA)


def test_weights_whose_rows_are_nearly_nothing_get_no_step():
    """Derivatives of saturated units underflow; a scale of one over their root would overflow."""
    H = np.diag([1.0, 3e-313, 2.0])
    step = solve_step(H, np.array([1.0, 0.0, 1.0]), np.zeros((0, 3)), 0.0)
    np.testing.assert_allclose(step, [1.0, 0.0, 0.5], rtol=ALGEBRA)


def test_step_of_a_singular_system_is_finite():
    H = np.diag([1.0, 0.0, 2.0])
    step = solve_step(H, np.array([1.0, 0.0, 1.0]), np.zeros((0, 3)), 0.0)
    np.testing.assert_allclose(step[[0, 2]], [1.0, 0.5], rtol=TWO_ROUTES)
    assert np.all(np.isfinite(solve_step(np.zeros((3, 3)), np.ones(3), np.zeros((0, 3)), 0.0)))


def test_step_does_not_depend_on_units_of_measurement():
    """Parameters in other units: s -> D^-1 s."""
    rng = np.random.default_rng(4)
    J = rng.standard_normal((30, 4))
    H, g, D = J.T @ J, rng.standard_normal(4), np.array([1e-4, 1.0, 1e3, 1e6])
    none = np.zeros((0, 4))
    np.testing.assert_allclose(
        solve_step(H * np.outer(D, D), D * g, none, 0.0) * D,
        solve_step(H, g, none, 0.0),
        rtol=ALGEBRA,
    )


# ------------------------------------------------------------------------------ Hessian pass


def test_rows_of_the_hessian_pass_grow_with_the_data_until_they_are_enough():
    layout = Layout(10, 5, 5)
    sizes = [hessian_rows(layout, n) for n in (10**4, 10**5, 10**6, 10**7, 10**9)]
    assert sizes == sorted(sizes)
    assert sizes[0] == LEAST_ROWS
    assert sizes[1] == 6 * 10**5 // layout.size
    assert sizes[-2] == sizes[-1] == max(150 * layout.size, 20_000)
    many = Layout(30, 40, 20)
    assert many.size * 150 > MOST_ROWS
    assert hessian_rows(many, 10**9) == MOST_ROWS


def test_hessian_pass_of_few_data_is_exact():
    truth, layout, source = make_problem(n_sequences=20)
    assert ROWS_PER_PARAMETER * layout.size >= source.data.n_rows
    current = gradient_of(truth, layout, source)
    found = hessian_pass(truth, layout, SERIAL, source, current)
    assert_same_sums(found, hessian_of(truth, layout, source), ALGEBRA)


@pytest.mark.parametrize("ragged", [False, True])
def test_stratified_weights_sum_to_the_number_of_rows(ragged):
    rng = np.random.default_rng(5)
    layout = Layout(1, 1, 1)
    lengths = rng.integers(1, 12, 300) if ragged else np.full(300, 6)
    X = [rng.standard_normal((n, 1)) for n in lengths]
    model = IORNN([[1.0]], [[0.1]], [[1.0]])
    source = Source(as_sequences(X, [model.predict(x) for x in X]), batch_size=100)
    assert ROWS_PER_PARAMETER * layout.size < lengths.sum() / 2
    found = hessian_pass(model, layout, SERIAL, source, gradient_of(model, layout, source))
    assert found.n_rows == pytest.approx(float(lengths.sum()), rel=ROUNDING)
    # the last diagonal entry is the one of the output bias: it counts the rows
    assert found.hessian[-1, -1] == pytest.approx(float(lengths.sum()), rel=ROUNDING)


# The other sequences, of which a part is seen, carry a few hundredths of J^T J.
SUBSAMPLE = 0.05


def test_segments_of_largest_leverage_always_enter():
    """One sequence carries nearly all of J^T J: a stratified pass does not miss it."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((400, 4, 1))
    X[237] *= 12.0
    model, layout = IORNN([[1.0]], [[0.0]], [[1.0]]), Layout(1, 1, 1, recurrent=False)
    source = Source(as_sequences(X, model.predict(X)), batch_size=100)
    found = hessian_pass(model, layout, SERIAL, source, gradient_of(model, layout, source))
    whole = hessian_of(model, layout, source)
    assert found.n_rows == 1600.0
    assert found.hessian[0, 0] == pytest.approx(whole.hessian[0, 0], rel=SUBSAMPLE)


# --------------------------------------------------------------------------- standard errors


def test_standard_errors_hold_the_norm_of_the_rows_fixed():
    truth, layout, source = make_problem()
    end = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    # the last Hessian of the search belongs to the step before the end
    end = replace(end, hessian=hessian_of(end.model, layout, source))
    covariance = standard_errors(end, layout, SERIAL, source).covariance
    constraints = layout.scale_constraints(end.model)
    along = np.einsum("ip,pq,iq->i", constraints, covariance, constraints)
    assert np.all(along < LEFT_TO_GAIN * np.diag(covariance)[:3].max())


def test_standard_errors_follow_the_units_to_the_canonical_form():
    """Units scaled, signed and reordered: their errors change as they do."""
    truth, layout, source = make_problem(bias=True)
    end = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    s = np.array([-1.7, 0.4])
    scaled = end.model.replace(
        input_weights=(s[:, None] * end.model.input_weights)[::-1],
        hidden_bias=(s * end.model.hidden_bias)[::-1],
        recurrent_weights=(s[:, None] * end.model.recurrent_weights / s[None, :] ** 2)[::-1, ::-1],
        output_weights=(end.model.output_weights / s[:, None] ** 2)[::-1],
    )
    errors = []
    for model in (scaled, scaled.canonical()):
        sums = hessian_of(model, layout, source)
        result = replace(end, model=model, hessian=sums)
        errors.append(standard_errors(result, layout, SERIAL, source))
    units = canonical_units(scaled.input_weights, scaled.output_weights, scaled.activation)
    moved = errors[0].canonical(units, layout)
    for name, expected in errors[1].weights.items():
        np.testing.assert_allclose(moved.weights[name], expected, rtol=TWO_ROUTES, err_msg=name)


REPLICATES = 40
# 500 clusters of a heavy-tailed score make a sandwich a few per cent too small.
FEW_CLUSTERS = 0.1
# Normal scores of four or five standard errors, for one number and for dozens of them.
FOUR_SIGMA, MANY_SIGMA = 4.0, 4.5
# The check is worth something only if the mean square is known to this.
LARGEST_SPREAD = 0.4


def z_scores(seed, *, bias):
    """(estimate - truth) / standard error of every weight, in the gauge of unit rows."""
    _, _, truth, chain = datasets.make_rnn(1, 2, 2, 2, 2, random_state=100)
    rng = np.random.default_rng(seed)
    X = chain.sample(500, 6, random_state=rng)
    Y = truth.simulate(X, noise=0.1, random_state=rng)
    layout = Layout(2, 2, 2, bias=bias)
    source = Source(as_sequences(X, Y))
    end = gauss_newton(truth, layout, SERIAL, source, to_convergence=True)
    sums = hessian_of(end.model, layout, source)
    end = replace(end, hessian=sums)
    errors = standard_errors(end, layout, SERIAL, source)
    norms = np.linalg.norm(end.model.input_weights, axis=1)
    unit = end.model.replace(
        input_weights=end.model.input_weights / norms[:, None],
        hidden_bias=end.model.hidden_bias / norms,
        recurrent_weights=end.model.recurrent_weights / norms[:, None] * norms[None, :] ** 2,
        output_weights=end.model.output_weights * norms[:, None] ** 2,
    )
    return {
        name: ((getattr(unit, name) - getattr(truth, name)) / values).ravel()
        for name, values in errors.weights.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("bias", [False, True])
def test_standard_errors_are_calibrated(bias):
    """Mean square of the z-scores is one, within four standard errors over the replicates."""
    found = [z_scores(seed, bias=bias) for seed in range(REPLICATES)]
    for name in found[0]:
        squares = np.array([np.mean(scores[name] ** 2) for scores in found])
        spread = squares.std(ddof=1) / np.sqrt(REPLICATES)
        assert abs(squares.mean() - 1.0) < FOUR_SIGMA * spread + FEW_CLUSTERS, name
        assert spread < LARGEST_SPREAD, name


@pytest.mark.long
@pytest.mark.slow
def test_standard_errors_are_calibrated_for_each_weight():
    found = [z_scores(seed, bias=True) for seed in range(1000, 1400)]
    scores = np.array([np.concatenate(list(one.values())) for one in found])
    mean_square = np.mean(scores**2, axis=0)
    # a chi-square of 400 degrees, for 16 weights at once
    assert np.all(np.abs(mean_square - 1.0) < MANY_SIGMA * np.sqrt(2 / 400) + FEW_CLUSTERS)
    assert np.all(np.abs(scores.mean(axis=0)) < MANY_SIGMA / np.sqrt(400) + FEW_CLUSTERS)
