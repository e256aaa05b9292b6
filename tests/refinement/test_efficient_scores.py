"""Score tests of what a network leaves out: sums by dense Jacobians, p-values by all flips."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers.differences import central
from helpers.generators import forward_network, ragged, two_way_network
from scipy.stats import chi2

from gloree.engine import Engine, Source
from gloree.refinement import (
    Alternatives,
    EfficientScores,
    HessianSums,
    Layout,
    coupling_sums,
    flip_test,
    left_to_gain,
    score_rows,
    unit_sums,
)
from gloree.sequences import as_sequences
from gloree.states import step_after, step_before

STEP = 1e-5
# Central differences of products of a few numbers of size 1: step^2 and eps / step.
FROM_DIFFERENCES = 1e-7
ALGEBRA = 1e-10
POWERS, N_INPUTS, N_OUTPUTS = (3, 4), 3, 2


def hermite(power, u):
    return {1: u, 3: u**3 - 3 * u, 4: u**4 - 6 * u**2 + 3}[power]


def larger_predictions(model, batch, alternatives, gamma):
    """Predictions of the larger network, as a loop over steps."""
    n_powers, k, d = len(POWERS), model.n_hidden, batch.X.shape[1]
    counts = np.cumsum([n_powers * k, d * k, d * N_OUTPUTS * alternatives.outputs])
    of_powers, lagged, outer, offset = np.split(gamma, counts)
    of_powers, lagged = of_powers.reshape(n_powers, k), lagged.reshape(d, k)
    X = batch.X
    before = np.empty((batch.n_rows, d, k))
    cut = model.n_forward
    before[:, :, :cut] = step_before(batch, X)[:, :, None]
    before[:, :, cut:] = step_after(batch, X)[:, :, None]
    drive = X @ model.input_weights.T + model.hidden_bias
    drive = drive + np.einsum("rdk,dk->rk", before, lagged)
    h = np.zeros((batch.n_rows, k))
    for start, length in zip(batch.starts, batch.lengths, strict=True):
        for units, rows in (
            (slice(0, cut), range(start, start + length)),
            (slice(cut, k), range(start + length - 1, start - 1, -1)),
        ):
            state = np.zeros(units.stop - units.start)
            for row in rows:
                z = drive[row, units] + model.recurrent_weights[units, units] @ state
                u = (z - alternatives.centre[units]) / alternatives.scale[units]
                u = np.clip(u, -3.0, 3.0)
                extra = sum(
                    g[units] * hermite(p, u) for p, g in zip(POWERS, of_powers, strict=True)
                )
                state = h[row, units] = z**2 + extra
    outputs = h @ model.output_weights + model.output_bias
    if model.direct_weights is not None:
        outputs = outputs + X @ model.direct_weights
    if alternatives.outputs:
        outputs = outputs + step_before(batch, X) @ outer.reshape(d, N_OUTPUTS)
    return outputs + (offset if alternatives.offset else 0.0)


def case(both_ways, *, direct=False, bias=True):
    model = (
        two_way_network(2, 1, N_INPUTS, N_OUTPUTS, direct=direct)
        if both_ways
        else forward_network(N_INPUTS, 3, N_OUTPUTS)
    )
    if direct and not both_ways:
        model = model.replace(direct_weights=np.ones((N_INPUTS, N_OUTPUTS)))
    if not bias:
        model = model.replace(hidden_bias=None, output_bias=None)
    X, Y = ragged(N_INPUTS, N_OUTPUTS, (6, 1, 9, 4, 7, 5))
    source = Source(as_sequences(X, Y))
    batch = source.read(next(iter(source.iter_batches())))
    layout = Layout(
        N_INPUTS, 3, N_OUTPUTS, bias=bias, direct=direct, n_backward=1 if both_ways else None
    )
    alternatives = Alternatives(
        POWERS, np.array([0.1, 0.0, -0.2]), np.array([0.5, 0.7, 0.9]), np.eye(N_INPUTS), direct,
        offset=not bias,
    )  # fmt: skip
    return model, layout, alternatives, batch


def dense(model, layout, alternatives, batch):
    """Jacobians in gamma and in the weights, (n_rows, n_outputs, n), and the residuals."""
    n = sum(alternatives.n_of(layout))
    zero = np.zeros(n)
    of_gamma = central(lambda g: larger_predictions(model, batch, alternatives, g), zero, STEP)
    of_weights = central(
        lambda s: larger_predictions(layout.move(model, s), batch, alternatives, zero),
        np.zeros(layout.size), STEP,
    )  # fmt: skip
    residuals = batch.Y - larger_predictions(model, batch, alternatives, zero)
    return np.moveaxis(of_gamma, 0, -1), np.moveaxis(of_weights, 0, -1), residuals


CASES = [
    (False, {}), (True, {}), (False, {"direct": True}), (True, {"direct": True}),
    (False, {"bias": False}),
]  # fmt: skip


@pytest.mark.parametrize(("both_ways", "options"), CASES)
def test_couplings_are_products_of_dense_jacobians(both_ways, options):
    model, layout, alternatives, batch = case(both_ways, **options)
    of_gamma, of_weights, _ = dense(model, layout, alternatives, batch)
    found = coupling_sums(batch, model, layout, alternatives)
    wanted = np.einsum("rap,ran->pn", of_weights, of_gamma)
    np.testing.assert_allclose(found.coupling, wanted, atol=FROM_DIFFERENCES * np.abs(wanted).max())
    squares = np.einsum("ran,ran->n", of_gamma, of_gamma)
    np.testing.assert_allclose(found.squares, squares, rtol=FROM_DIFFERENCES)


@pytest.mark.parametrize(("both_ways", "options"), CASES)
def test_scores_of_sequences_are_jacobians_times_residuals(both_ways, options):
    model, layout, alternatives, batch = case(both_ways, **options)
    of_gamma, of_weights, residuals = dense(model, layout, alternatives, batch)
    found = score_rows(batch, model, layout, alternatives, 1.0)
    for values, jacobian in ((found.weights, of_weights), (found.others, of_gamma)):
        wanted = np.add.reduceat(np.einsum("ran,ra->rn", jacobian, residuals), batch.starts)
        np.testing.assert_allclose(values, wanted, atol=FROM_DIFFERENCES * np.abs(wanted).max())


@pytest.mark.parametrize("blocks", [0.5, 2.0, 100.0])
def test_blocks_are_whole_sequences_or_stretches_and_lose_nothing(blocks):
    model, layout, alternatives, batch = case(True)
    whole = score_rows(batch, model, layout, alternatives, 1.0)
    found = score_rows(batch, model, layout, alternatives, blocks)
    counts = {0.5: 3, 2.0: 11, 100.0: batch.n_rows}  # two of each sequence but that of one step
    assert found.others.shape[0] == counts[blocks]
    for name in ("weights", "others"):
        total = getattr(whole, name).sum(axis=0)
        np.testing.assert_allclose(
            getattr(found, name).sum(axis=0), total, atol=ALGEBRA * np.abs(total).max()
        )


def test_context_belongs_to_the_block_beside_it():
    model, layout, alternatives, _ = case(False)
    X, Y = ragged(N_INPUTS, N_OUTPUTS, (40,))
    data = as_sequences(X, Y)
    source = Source(data, segment=10, before=6, after=0)
    found = Engine("serial").run(
        lambda batch: score_rows(batch, model, layout, alternatives, 2.0), source
    )
    assert found.others.shape[0] == 2 * source.n_segments
    assert found.n_rows == 40


def test_statistic_has_the_mean_and_variance_that_all_flips_of_signs_give():
    rng = np.random.default_rng(0)
    scores = rng.standard_t(3, (10, 4)) @ rng.standard_normal((4, 6))
    spread = (scores**2).sum(axis=0)
    flips = np.array(list(product((-1.0, 1.0), repeat=10)))
    values = ((flips @ scores) ** 2 / spread).sum(axis=1)
    statistic, df, p_value = flip_test(scores)
    factor = 2 * values.mean() / values.var()
    assert values.mean() == pytest.approx(6, rel=ALGEBRA)
    assert df == pytest.approx(values.mean() * factor, rel=ALGEBRA)
    assert statistic == pytest.approx(values[-1] * factor, rel=ALGEBRA)
    assert p_value == pytest.approx(chi2.sf(statistic, df), rel=ALGEBRA)
    # and the exact share of flips that are as large is near it
    assert abs(p_value - np.mean(values >= values[-1])) < 0.05


def test_scores_that_do_not_vary_have_no_p_value():
    assert np.isnan(flip_test(np.zeros((5, 3)))).all()


def test_efficient_scores_are_those_of_the_part_that_weights_do_not_imitate():
    model, layout, alternatives, batch = case(False)
    of_gamma, of_weights, residuals = dense(model, layout, alternatives, batch)
    J, t = (each.reshape(-1, each.shape[-1]) for each in (of_weights, of_gamma))
    # a ridge in place of many more rows
    hessian = HessianSums(float(batch.n_rows), J.T @ J + np.eye(layout.size))
    coupling = coupling_sums(batch, model, layout, alternatives)
    rows = score_rows(batch, model, layout, alternatives, 1.0)
    found = EfficientScores.of(rows, (coupling, coupling), hessian, model, layout)
    constraints = layout.scale_constraints(model)
    scale = 1.0 / np.sqrt(np.diag(hessian.hessian))
    fixed = constraints * scale
    fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)
    solved = scale[:, None] * np.linalg.solve(
        hessian.hessian * np.outer(scale, scale) + fixed.T @ fixed,
        scale[:, None] * (J.T @ t),
    )
    per_row = np.einsum("ran,ra->rn", of_gamma - of_weights @ solved, residuals)
    wanted = np.add.reduceat(per_row, batch.starts)[:, found.kept]
    np.testing.assert_allclose(
        found.scores, wanted, atol=FROM_DIFFERENCES * 10 * np.abs(wanted).max()
    )
    assert found.sampled.max() == 0.0  # both halves are the same


def test_what_is_left_to_gain_is_what_a_step_takes_off_the_squared_error():
    model, layout, alternatives, batch = case(False)
    _, of_weights, residuals = dense(model, layout, alternatives, batch)
    J, r = of_weights.reshape(-1, layout.size), residuals.ravel()
    # scales of units are fixed in the step, but cost nothing: J has them in its null space
    hessian = HessianSums(float(batch.n_rows), J.T @ J)
    explained = J @ np.linalg.lstsq(J, r, rcond=1e-6)[0]
    rows = score_rows(batch, model, layout, alternatives, 1.0)
    wanted = explained @ explained / np.mean(r**2) / layout.size
    found = left_to_gain(rows, hessian, model, layout)
    assert found == pytest.approx(wanted, rel=10 * FROM_DIFFERENCES)
    at_optimum = replace(batch, Y=batch.Y - explained.reshape(residuals.shape))
    rows = score_rows(at_optimum, model, layout, alternatives, 1.0)
    assert left_to_gain(rows, hessian, model, layout) < FROM_DIFFERENCES


@pytest.mark.parametrize("curvature", [0.0, 2e-309, 1e-250])
def test_a_weight_that_data_tell_nothing_of_has_nothing_to_gain(curvature):
    """As where tanh units have gone to their limits on a rare token: 1 / 2e-309 overflows."""
    model, layout, alternatives, batch = case(False)
    _, of_weights, _ = dense(model, layout, alternatives, batch)
    J = of_weights.reshape(-1, layout.size)
    rows = score_rows(batch, model, layout, alternatives, 1.0)
    H, place = J.T @ J, int(layout.indices["hidden_bias"][0])
    H[place], H[:, place] = 0.0, 0.0
    rows.weights[:, place] = 0.0
    H[place, place] = curvature
    found = left_to_gain(rows, HessianSums(float(batch.n_rows), H), model, layout)
    H[place, place] = 1.0
    wanted = left_to_gain(rows, HessianSums(float(batch.n_rows), H), model, layout)
    assert found == pytest.approx(wanted, rel=FROM_DIFFERENCES)


def test_sums_of_units_are_those_of_the_rows():
    model, _, _, batch = case(False)
    found = unit_sums(batch, model)
    assert found.n_rows == batch.n_rows
    np.testing.assert_allclose(found.x, batch.X.sum(axis=0), atol=ALGEBRA)
    np.testing.assert_allclose(found.x_squares, (batch.X**2).sum(axis=0), rtol=ALGEBRA)
