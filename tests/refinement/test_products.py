"""J^T J that is only multiplied with: the same products, steps and minimum as with the matrix."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.batches import SERIAL, gradient_of, hessian_of, only_batch
from helpers.descents import gauss_newton
from helpers.differences import central
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.engine import Engine, Source
from gloree.fitting import _inputs
from gloree.models import BRNN
from gloree.moments import _plan
from gloree.refinement import (
    Layout,
    RefinementStatus,
    hessian_sums,
    polynomial_powers,
    standard_errors,
)
from gloree.refinement import _gauss_newton as descent
from gloree.refinement import _products as products
from gloree.refinement._curvature import Matrix
from gloree.refinement._linearisation import Linearisation
from gloree.refinement._products import Blocks, Kept, Products, block_sums, product_sums
from gloree.sequences import as_sequences
from gloree.states import predict_rows, run_states

SIZES = (6, 4, 3)
NAMES = ("input_weights", "recurrent_weights", "output_weights")
# Two exact programs for sums of a few hundred terms.
ALGEBRA = 1e-10
# Central differences at STEP: its square times a third derivative, and eps / STEP of rounding.
STEP, DIFFERENCES = 1e-6, 1e-7
# The ridge of the blocks is 1e-8 of their diagonal; conditions are below a hundred.
RIDGE = 1e-6
# Conjugate gradients to 1e-10 of the gradient: what the step leaves is far below that.
SOLVED = 1e-10
# Damping of a step, as a share of the diagonal: any will do.
DAMPING = 1e-3
# The BFGS formula, with a matrix of condition 1e4 or so.
SECANT = 1e-9
# Both descents end where the error falls by less than 1e-8 of the noise variance.
SAME_MINIMUM = 1e-8
# Left to gain after an efficient step, as a share of what the statistical error is worth.
EFFICIENT_SHARE = 0.1
# The mean loss of a part of the data against that of all: a few standard errors.
PART = 0.02

# What a descent is to leave, in units of the noise variance: errors may differ by its root.
WITHIN = 1.0 + np.sqrt(descent.FORESEEN * descent.EFFICIENT)

CASES = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "one empty direction": {"bidirectional": True, "n_backward": 0},
    "direct": {"direct": True},
    "no recurrence": {"recurrent": False},
    "no biases": {"bias": False},
    "free coefficients": {"free": True},
    "pieces": {"segment": 7},
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
LONG = (pytest.mark.slow, pytest.mark.long)
descents = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=LONG if name == "free coefficients" else ())
        for name, case in CASES.items()
    ],
    ids=CASES.keys(),
)


def problem(
    seed=0,
    n_sequences=200,
    *,
    sizes=SIZES,
    bidirectional=False,
    n_backward=None,
    direct=False,
    recurrent=True,
    bias=True,
    free=False,
    segment=None,
):
    """A network near the truth, its layout and data."""
    rng = np.random.default_rng(seed)
    X, Y, truth, _ = datasets.make_rnn(
        n_sequences, 12, *sizes, bidirectional=bidirectional, random_state=seed
    )
    if n_backward == 0:
        nothing = np.zeros((0, sizes[0]))
        feedback = 0.1 * np.eye(sizes[1])
        truth = BRNN(truth.input_weights, feedback, nothing, None, truth.output_weights)
    if direct:
        D = 0.3 * rng.standard_normal((sizes[0], sizes[2]))
        Y = Y + X @ D
        truth = truth.replace(direct_weights=D)
    layout = Layout(
        *sizes,
        recurrent=recurrent,
        bias=bias,
        direct=direct,
        n_backward=truth.n_backward if isinstance(truth, BRNN) else None,
        free_coefficients=polynomial_powers(truth.activation, sizes[1]) if free else (),
    )
    if not recurrent:
        truth = truth.replace(recurrent_weights=np.zeros((sizes[1],) * 2))
    before = 3 if segment else 0
    after = before if bidirectional else 0
    source = Source(as_sequences(X, Y), batch_size=500, segment=segment, before=before, after=after)
    start = layout.move(truth, 0.01 * rng.standard_normal(layout.size))
    return start, layout, source


def counted(batch):
    """Weight one for every row but those of context."""
    rows = np.zeros((batch.n_rows, 1))
    rows[batch.counted_rows] = 1.0
    return rows


# -------------------------------------------------------------------------------- products


@cases
def test_product_is_that_of_the_exact_matrix(case):
    model, layout, source = problem(n_sequences=20, **case)
    H = hessian_of(model, layout, source).hessian
    vector = np.random.default_rng(1).standard_normal(layout.size)

    def product(batch):
        return product_sums(Kept(Linearisation.of(batch, model, layout), counted(batch)), vector)

    found = SERIAL.run(product, source)
    expected = H @ vector
    np.testing.assert_allclose(
        found.product, expected, rtol=0, atol=ALGEBRA * np.abs(expected).max()
    )


@cases
def test_tangent_is_the_change_of_predictions(case):
    """J v by central differences."""
    model, layout, source = problem(n_sequences=5, **case)
    batch = only_batch(source)
    vector = np.random.default_rng(2).standard_normal(layout.size)
    found = Linearisation.of(batch, model, layout).tangent(vector)

    def predictions(size):
        moved = layout.move(model, size * vector)
        return predict_rows(moved, batch, run_states(moved, batch))

    expected = central(predictions, 0.0, STEP)
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIFFERENCES * np.abs(expected).max())


@pytest.mark.parametrize("case", [CASES["plain"], CASES["bidirectional"]])
def test_change_of_variables_makes_the_blocks_the_identity(case):
    """Exactly so for linear units without a recurrence, whose slopes are all one."""
    model, layout, source = problem(n_sequences=20, recurrent=False, **case)
    model = model.replace(activation="linear")
    batch = only_batch(source)
    # of some rows, for as many rows as there are
    H = 3.0 * hessian_sums(batch, model, layout).hessian
    kept = Kept(Linearisation.of(batch, model, layout), counted(batch))
    blocks = Blocks(block_sums(kept), model, layout, 3.0 * batch.n_counted)
    units = np.eye(layout.size)
    changed = np.array([blocks.from_unit(row) for row in units])
    seen = changed @ H @ changed.T
    for direction in layout.directions:
        for i in range(direction.n_units):
            start = direction.start + i * direction.width
            own = slice(start, start + direction.width)
            np.testing.assert_allclose(seen[own, own], np.eye(direction.width), atol=RIDGE)
    for a in range(layout.n_outputs):
        start = layout.n_unit_parameters + a * layout.output_width
        own = slice(start, start + layout.output_width)
        np.testing.assert_allclose(seen[own, own], np.eye(layout.output_width), atol=RIDGE)


def test_blocks_of_free_coefficients_are_sums_of_weighed_squares_of_powers():
    model, layout, source = problem(n_sequences=20, free=True)
    seen = np.arange(model.n_hidden)[:, None] > 0  # nothing depends on the first unit
    model = model.replace(output_weights=model.output_weights * seen)
    batch = only_batch(source)
    rows = np.linspace(0.5, 2.0, batch.n_rows)[:, None]
    at = Linearisation.of(batch, model, layout)
    blocks = Blocks(block_sums(Kept(at, rows)), model, layout, 3.0 * rows.sum())
    sizes = (model.output_weights**2).sum(axis=1)
    for part, found in zip(layout.directions, blocks.coefficients, strict=True):
        squares = np.sum(rows * np.asarray(at.powers(part)) ** 2, axis=0)
        expected = 3.0 * squares * sizes[part.units][part.owners]
        expected[part.owners == 0] = 1.0
        np.testing.assert_allclose(found, np.sqrt(expected), rtol=1e-10)


# ------------------------------------------------------------------------------------ steps


# free coefficients leave null directions (c_i against A2_i) that nothing fixes
determined = [case for case in CASES.values() if "free" not in case]


@pytest.mark.parametrize("case", determined, ids=lambda case: next(iter(case), "plain"))
def test_step_is_that_of_the_matrix(case, monkeypatch):
    monkeypatch.setattr(products, "SOLVED", SOLVED)
    monkeypatch.setattr(products, "MOST_PRODUCTS", 2000)
    model, layout, source = problem(n_sequences=20, **case)
    current = gradient_of(model, layout, source)
    steps = [
        curve(model, layout, SERIAL, source, current).step(model, current.gradient, 0.0)
        for curve in (Matrix, Products)
    ]
    # the same change of the predictions: along null directions weights may differ
    H = hessian_of(model, layout, source).hessian
    difference = steps[0] - steps[1]
    assert difference @ H @ difference < SOLVED * (steps[0] @ H @ steps[0])


@pytest.mark.parametrize("curve", [Matrix, Products])
def test_correction_satisfies_the_secant_equation(curve):
    """BFGS: B s = y along the last step, and B stays as it was where it was right."""
    model, layout, source = problem(n_sequences=20)
    current = gradient_of(model, layout, source)
    curvature = curve(model, layout, SERIAL, source, current)
    H = hessian_of(model, layout, source).hessian
    step = curvature.step(model, current.gradient, DAMPING)
    change = 1.3 * H @ step
    curvature.correct(step, change)
    product = curvature._corrected @ step if curve is Matrix else curvature.product(step)
    np.testing.assert_allclose(product, change, rtol=0, atol=SECANT * np.abs(change).max())


# ---------------------------------------------------------------------------------- descent


@descents
def test_minimum_is_that_with_the_matrix(case, monkeypatch):
    start, layout, source = problem(**case)
    full = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    monkeypatch.setattr(descent, "MOST_WEIGHTS", 0)
    found = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    assert found.hessian is None
    assert found.squares.sum() == pytest.approx(full.squares.sum(), rel=SAME_MINIMUM)


@pytest.mark.slow
def test_efficient_stop_is_within_a_fraction_of_the_statistical_error(monkeypatch):
    start, layout, source = problem(1, 1000)
    full = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    monkeypatch.setattr(descent, "MOST_WEIGHTS", 0)
    found = gauss_newton(start, layout, SERIAL, source)
    assert found.status is RefinementStatus.EFFICIENT
    # the whole fit gains about one noise variance for each weight
    gained = full.squares.sum() / full.n_rows / SIZES[2] * layout.size
    assert found.squares.sum() - full.squares.sum() < EFFICIENT_SHARE * gained
    with pytest.raises(ValueError, match="has no J\\^T J, which standard errors need"):
        standard_errors(found, layout, SERIAL, source)


@pytest.mark.slow
@pytest.mark.parametrize("most", first_of([10**6, 0]))
def test_descent_that_begins_on_a_part_ends_as_well(most, monkeypatch):
    monkeypatch.setattr(descent, "MOST_WEIGHTS", most)
    start, layout, source = problem(2, 2000)
    full = gauss_newton(start, layout, SERIAL, source, to_convergence=True)
    monkeypatch.setattr(descent, "FIRST_ROWS", 1000)
    monkeypatch.setattr(descent, "FIRST_ROWS_PER_PARAMETER", 1)
    found = gauss_newton(start, layout, SERIAL, source)
    assert found.status is RefinementStatus.EFFICIENT
    gained = full.squares.sum() / full.n_rows / SIZES[2] * layout.size
    assert found.squares.sum() - full.squares.sum() < EFFICIENT_SHARE * gained
    assert found.n_steps == len(found.history) - 1
    losses = [step.loss for step in found.history]
    assert losses == sorted(losses, reverse=True)
    seconds = [step.seconds for step in found.history]
    assert seconds == sorted(seconds)
    assert found.final is found.history[-1]
    # the start is judged on a part of the data, and by what that part became on all of them
    assert losses[0] == pytest.approx(full.history[0].loss, rel=PART)


@pytest.mark.parametrize("n_workers", [2, 3])
def test_engines_agree_to_the_last_bit(n_workers, monkeypatch):
    monkeypatch.setattr(descent, "MOST_WEIGHTS", 0)
    start, layout, source = problem()
    ends = [
        gauss_newton(start, layout, engine, source)
        for engine in (SERIAL, Engine("threads", n_workers=n_workers))
    ]
    assert ends[0].model == ends[1].model


# -------------------------------------------------------------------------------- estimators


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.SpecificationWarning")  # by their level
def test_fit_of_very_many_weights_is_as_good_as_one_with_the_matrix(monkeypatch):
    X, Y, truth, _ = datasets.make_rnn(2000, 10, 40, 3, 4, random_state=5)
    monkeypatch.setattr(_plan, "MAX_FEATURES", 300)
    whole = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    assert whole.report_.standard_errors
    monkeypatch.setattr(_inputs, "WIDE", 30)
    monkeypatch.setattr(descent, "MOST_WEIGHTS", 100)
    wide = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    assert wide.chain_ is None
    assert not wide.report_.standard_errors
    assert "none: too many weights to form their covariance" in str(wide.report_)
    for name in NAMES:
        errors = [metrics.weight_errors(est.model_, truth)[name] for est in (whole, wide)]
        assert errors[1] < WITHIN * errors[0]


@pytest.mark.slow
def test_wild_segments_are_taken_in_with_very_many_weights(monkeypatch):
    X, Y, truth, _ = datasets.make_rnn(2000, 10, 40, 3, 4, random_state=6)
    noise = Y[:7] - truth.predict(X[:7])
    X[:7] *= 3.0
    Y[:7] = truth.predict(X[:7]) + noise
    monkeypatch.setattr(_plan, "MAX_FEATURES", 300)
    whole = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    monkeypatch.setattr(_inputs, "WIDE", 30)
    monkeypatch.setattr(descent, "MOST_WEIGHTS", 100)
    est = SpectralRNNRegressor(3, random_state=0).fit(X, Y)
    for name in NAMES:
        errors = [metrics.weight_errors(fit.model_, truth)[name] for fit in (whole, est)]
        assert errors[1] < WITHIN * errors[0]
