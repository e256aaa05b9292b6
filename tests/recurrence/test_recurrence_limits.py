"""Sizes on either side of a limit, flags one by one, and defaults, of estimators of U and b."""

import numpy as np
import pytest
from helpers.generators import forward_network, ragged, two_way_network

from gloree.chains import GaussianVAR
from gloree.models import IORNN
from gloree.recurrence import (
    RECURRENCES,
    BatchAtWeights,
    Contraction,
    Directions,
    FreeWeights,
    InstrumentSums,
    ScoreSums,
    TwoSidedFit,
    WeightChange,
    bidirectional_model,
    cross_sums,
    estimate,
    instrument_sums,
    instrument_update,
    linearised_sums,
    linearised_update,
    output_update,
    score_update,
    two_sided_spread,
    two_sided_sums,
)
from gloree.recurrence._contraction import ridge_solve, unit_scale
from gloree.recurrence._linearised import row_blocks
from gloree.sequences import as_sequences
from gloree.states import residual_rows, run_states

ROUNDING = 1e-12
# Small systems solved by two routes.
TWO_ROUTES = 1e-8

CHAIN = GaussianVAR(0.2 * np.eye(3), np.eye(3))


def seen(model, free=None, seed=0):
    X = CHAIN.sample(20, 6, random_state=seed)
    Y = np.random.default_rng(seed).standard_normal((20, 6, model.n_outputs))
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, CHAIN.precision_blocks(0))
    return BatchAtWeights(batch, model, free or FreeWeights(), CHAIN, contraction)


@pytest.mark.parametrize(
    ("name", "degree", "order"),
    [
        ("instrument", 1, 1),
        ("instrument", 2, 1),
        ("instrument", 3, 2),
        ("cross", 2, 3),
        ("cross", 3, 5),
        ("score", 2, 4),
        ("score", 3, 9),
        ("least-squares", 3, 1),
    ],
)
def test_orders_of_the_score_tensors(name, degree, order):
    assert RECURRENCES[name].score_order(degree) == order


def test_estimators_declare_what_they_need():
    declared = {name: (each.uses_scores, each.hermite) for name, each in RECURRENCES.items()}
    assert declared == {
        "instrument": (True, False),
        "least-squares": (False, True),
        "cross": (True, True),
        "score": (True, True),
    }
    assert RECURRENCES["instrument"].without_scores().name == "least-squares"
    assert RECURRENCES["least-squares"].without_scores().name == "least-squares"
    assert RECURRENCES["cross"].without_scores() is None
    assert repr(RECURRENCES["cross"]) == "Cross()"


def test_later_rounds_solve_for_a_thousand_recurrent_weights_together():
    instrument = RECURRENCES["instrument"]
    assert instrument.later(31).name == "least-squares"
    assert instrument.later(32) is instrument
    assert RECURRENCES["cross"].later(2).name == "cross"


@pytest.mark.parametrize("name", ["instrument", "cross", "score"])
@pytest.mark.parametrize(
    "free", [{}, {"recurrent": False}, {"unit_bias": False}, {"bias": False}, {"direct": True}]
)
def test_weights_that_are_not_free_do_not_change(name, free):
    """U, then b for what U leaves, E[z - z^] = 0, and the regression of the outputs."""
    model = forward_network(3, 2, 2, direct_weights=np.zeros((3, 2)))
    if name == "score":
        model = model.replace(recurrent_weights=np.zeros((2, 2)))
    weights = FreeWeights(**free)
    at, estimator = seen(model, weights), RECURRENCES[name]
    sums = estimator.sums(at)
    change = estimator.update(sums, model, weights)
    assert bool(np.any(change.recurrent)) is weights.recurrent
    assert bool(np.any(change.bias)) is weights.unit_bias
    assert bool(np.any(change.output_bias)) is weights.bias
    assert (change.direct is not None) is weights.direct
    expected = output_update(sums.outputs, model, bias=weights.bias)
    np.testing.assert_array_equal(change.output, expected.output)
    if weights.unit_bias and (name != "instrument" or not weights.recurrent):
        cross, gram = sums.instrument.cross, sums.instrument.gram
        mean = (cross[:, -1] - change.recurrent @ gram[:-1, -1]) / sums.instrument.n_rows
        np.testing.assert_allclose(change.bias, mean, rtol=TWO_ROUTES)


def test_the_score_method_leaves_a_recurrence_that_there_is():
    model = forward_network(3, 2, 2)
    at, estimator = seen(model), RECURRENCES["score"]
    assert np.any(model.recurrent_weights)
    assert not np.any(estimator.update(estimator.sums(at), model, FreeWeights()).recurrent)
    with pytest.raises(ValueError, match="starts from U = 0"):
        estimator.check(model)
    none = model.replace(recurrent_weights=np.zeros((2, 2)))
    estimator.check(none)
    with pytest.raises(ValueError, match="bidirectional"):
        estimator.check(none, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional"):
        estimator.check(two_way_network(1, 1))


def test_the_score_method_takes_the_signs_along_which_the_error_falls():
    model = forward_network(3, 2, 2).replace(recurrent_weights=np.zeros((2, 2)))
    at, estimator = seen(model), RECURRENCES["score"]
    sums = estimator.sums(at)
    dU = estimator.update(sums, model, FreeWeights()).recurrent
    np.testing.assert_allclose(np.abs(dU), np.abs(score_update(sums.moment, 1.0)), rtol=ROUNDING)
    h = run_states(model, at.batch)
    slopes = model.activation.derivative(h.z, 1)
    # derivative of minus half the squared error in U_ij: r^T A2_i f'(z_i) h_j
    signal = residual_rows(model, at.batch) @ model.output_weights.T
    gain = (slopes * signal).T @ h.previous
    assert np.all(np.sum(dU * gain, axis=1) > 0)


def test_squares_of_a_row_of_the_recurrence_come_back_with_a_positive_largest_entry():
    """4! c^3 (U_im U_in + 2 d_mn U_im^2) / 3."""
    U = np.array([[0.3, -0.5, 0.1], [0.0, 0.2, 0.2], [0.4, 0.1, -0.2]])
    c, n = 0.7, 50.0
    products = U[:, :, None] * U[:, None, :]
    moment = 24 * c**3 * (products + 2 * products * np.eye(3)) / 3
    found = score_update(ScoreSums(n, n * moment), c)
    largest = U[np.arange(3), np.argmax(np.abs(U), axis=1)]
    np.testing.assert_allclose(found, U * np.sign(largest)[:, None], atol=TWO_ROUTES)
    # eigenvalues that are zero but for rounding have roots of that
    np.testing.assert_allclose(score_update(ScoreSums(n, -n * moment), c), 0.0, atol=1e-7)


def test_sums_take_states_and_residuals_that_are_known():
    model = forward_network(3, 2, 2)
    at = seen(model)
    batch, _, law, contraction, states, residuals = at.scored
    for function, arguments in (
        (instrument_sums, (batch, model, law, contraction)),
        (cross_sums, (batch, model, law, contraction)),
    ):
        own, given = function(*arguments), function(*arguments, states, residuals)
        twice = function(*arguments, states, 2 * residuals)
        name = "cross" if function is instrument_sums else "moment"
        np.testing.assert_array_equal(getattr(own, name), getattr(given, name))
        np.testing.assert_allclose(
            getattr(twice, name), 2 * getattr(own, name), rtol=1e-9, atol=1e-9
        )


def test_what_is_left_out_is_free_but_the_direct_path():
    model = forward_network(3, 2, 2, direct_weights=np.zeros((3, 2)))
    batch = seen(model).batch
    sums = linearised_sums(batch, model)
    all_of_it = linearised_sums(batch, model, recurrent=True, bias=True, direct=False)
    np.testing.assert_array_equal(sums.unit_gram, all_of_it.unit_gram)
    assert sums.gram.shape == (2 + 1, 2 + 1)
    assert sums.owner.tolist() == [0, 0, 0, 1, 1, 1]
    for function in (linearised_update, output_update):
        plain, given = function(sums, model), function(sums, model, bias=True, ridge=1e-10)
        np.testing.assert_array_equal(plain.output, given.output)
        assert np.any(plain.output_bias)
    plain, both = two_sided_sums(batch, model), two_sided_sums(batch, model, bias=True, direct=True)
    assert plain.unit_gram.shape == (2 * 4, 2 * 4)
    assert both.unit_gram.shape == (2 * 5, 2 * 5)
    assert (plain.gram.shape, both.gram.shape) == ((3, 3), (6, 6))
    fit = TwoSidedFit.of(plain, model)
    np.testing.assert_array_equal(
        fit.coefficients, TwoSidedFit.of(plain, model, ridge=1e-8).coefficients
    )
    assert two_sided_spread(batch, model, fit).spread.shape == (8, 8)


def test_digits_that_units_lose_by_cancelling_each_other():
    """Squares of what units add one by one, over those of what they add together."""
    model = forward_network(3, 2, 2).replace(recurrent_weights=np.zeros((2, 2)))
    batch = seen(model).batch
    fit = TwoSidedFit.of(two_sided_sums(batch, model), model)
    h, A2 = run_states(model, batch).h, model.output_weights
    apart = sum(np.sum(np.outer(h[:, i], A2[i]) ** 2) for i in range(2))
    assert fit.cancellation == pytest.approx(apart / np.sum((h @ A2) ** 2), rel=TWO_ROUTES)
    silent = model.replace(output_weights=np.zeros((2, 2)))
    assert TwoSidedFit.of(two_sided_sums(batch, silent), silent).cancellation == 1.0


def test_a_ridge_is_relative_to_the_diagonal():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((9, 3)) * np.array([1.0, 1e3, 1e-2])
    gram, right = root.T @ root, rng.standard_normal((3, 2))
    found = ridge_solve(gram, right, 0.1)
    expected = np.linalg.solve(gram + 0.1 * np.diag(np.diag(gram)), right)
    np.testing.assert_allclose(found, expected, rtol=TWO_ROUTES)
    np.testing.assert_array_equal(unit_scale(np.diag([4.0, 0.0, -1e-20])), [2.0, 1.0, 1.0])


def test_the_instrument_update_solves_each_direction_by_itself():
    rng = np.random.default_rng(1)
    g = np.column_stack((rng.standard_normal((40, 3)), np.ones(40)))
    target = rng.standard_normal((40, 3))
    sums = InstrumentSums(40.0, target.T @ g, g.T @ g)
    dU, db = instrument_update(sums, n_forward=1, ridge=0.0)
    for units in ([0], [1, 2]):
        entering = g[:, [*units, 3]]
        expected = np.linalg.lstsq(entering, target[:, units], rcond=None)[0].T
        np.testing.assert_allclose(dU[np.ix_(units, units)], expected[:, :-1], atol=TWO_ROUTES)
        np.testing.assert_allclose(db[units], expected[:, -1], atol=TWO_ROUTES)
    assert not np.any(dU[0, 1:])
    assert not np.any(dU[1:, 0])
    for n_forward in (0, 3, None):
        dU, _ = instrument_update(sums, n_forward=n_forward)
        assert np.all(dU != 0)


@pytest.mark.parametrize(("n_rows", "width"), [(1, 1), (64, 10**9), (65, 10**9), (3000, 100)])
def test_blocks_of_rows_are_all_rows_once(n_rows, width):
    blocks = row_blocks(n_rows, width)
    rows = np.arange(n_rows)
    np.testing.assert_array_equal(np.concatenate([rows[each] for each in blocks]), rows)
    assert all(len(rows[each]) >= 64 for each in blocks[:-1])
    assert row_blocks(10**6, 100)[0] == slice(0, 2**17 // 100)
    assert row_blocks(10**6, 100, 3)[0] == slice(0, 3 * 2**17 // 100)


@pytest.mark.parametrize("norm", [0.4, 0.5, 2.0])
def test_first_recurrences_have_a_norm_of_a_half_at_most(norm):
    model = forward_network(2, 3, 2).replace(recurrent_weights=np.zeros((3, 3)))
    rng = np.random.default_rng(0)
    past, future = rng.standard_normal((2, 3, 3))
    change = rng.standard_normal(3)
    past[:2, :2] *= norm / np.linalg.norm(past[:2, :2], 2)
    found = Directions(
        np.array([True, True, False]), np.ones(3), np.zeros(3, bool), past, 0.0 * future, change
    )
    two_way = bidirectional_model(model, found)
    factor = min(1.0, 0.5 / norm)
    np.testing.assert_allclose(
        two_way.forward_recurrent_weights, factor * past[:2, :2], rtol=TWO_ROUTES
    )
    np.testing.assert_array_equal(two_way.backward_recurrent_weights, 0.0)
    expected = model.hidden_bias + np.array([factor, factor, 1.0]) * change
    np.testing.assert_allclose(two_way.hidden_bias, expected, rtol=TWO_ROUTES)


def test_directions_in_words():
    nothing = np.zeros((3, 3))

    def words(forward, margin, undetermined):
        given = [np.array(each) for each in (forward, margin, undetermined)]
        return str(Directions(*given, nothing, nothing, np.zeros(3)))

    known = [False] * 3
    assert words([1, 1, 0], [5.0, 3.25, 9.0], known) == (
        "2 forward, 1 backward; smallest margin 3.25"
    )
    text = words(np.array([True] * 3), [5.0, 3.0, 9.0], [False, True, False])
    assert text == (
        "3 forward, 0 backward, 1 of them undetermined; nothing runs backward; smallest margin 5"
    )
    text = words(np.array([False] * 3), [5.0, 3.0, 9.0], known)
    assert text == "0 forward, 3 backward; nothing runs forward; smallest margin 3"
    unknown = Directions.unknown(3, 2)
    assert unknown.forward.tolist() == [True, True, False]
    assert unknown.undetermined.all()
    assert Directions.unknown(3).forward.all()
    assert not np.any(unknown.margin)


def test_a_change_of_another_shape_is_named():
    model = forward_network(3, 2, 2)
    change = WeightChange(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 2)), np.zeros(2), None)
    assert np.array_equal(change.apply(model).recurrent_weights, model.recurrent_weights)
    wrong = WeightChange(np.zeros((2, 2)), np.zeros(3), np.zeros((2, 2)), np.zeros(2), None)
    with pytest.raises(ValueError, match=r"`bias` of a WeightChange has shape \(3,\), expected"):
        wrong.apply(model)


def test_sweeps_add_to_the_weights_one_after_another():
    """Two sweeps are two calls of one, output weights as they were."""
    model = forward_network(3, 2, 2)
    X = CHAIN.sample(300, 6, random_state=1)
    Y = model.predict(X)
    start = model.replace(recurrent_weights=np.zeros((2, 2)), hidden_bias=np.zeros(2))
    one = estimate(CHAIN, X, Y, start, sweeps=1)
    two = estimate(CHAIN, X, Y, one, sweeps=1)
    both = estimate(CHAIN, X, Y, start)
    np.testing.assert_array_equal(both.recurrent_weights, two.recurrent_weights)
    np.testing.assert_array_equal(both.hidden_bias, two.hidden_bias)
    np.testing.assert_array_equal(both.output_weights, model.output_weights)
    unbiased = estimate(CHAIN, X, Y, start, bias=False)
    np.testing.assert_array_equal(unbiased.hidden_bias, 0.0)
    assert np.any(unbiased.recurrent_weights)


def test_a_metric_of_the_outputs_enters_the_directions():
    model = forward_network(3, 2, 2)
    K = CHAIN.precision_blocks(0)
    V = np.array([[2.0, 0.3], [0.3, 0.5]])
    found = Contraction.of(model, K, V)
    B = model.output_weights @ np.linalg.inv(V)
    np.testing.assert_allclose(found.outputs, B, rtol=TWO_ROUTES)
    for e in range(len(K)):
        D = model.input_weights @ np.linalg.inv(K[e])
        np.testing.assert_allclose(found.inputs[e], D, rtol=TWO_ROUTES)
        Psi = (B @ model.output_weights.T) * (D @ model.input_weights.T)
        np.testing.assert_allclose(found.overlap[e], Psi, rtol=TWO_ROUTES)
    scale = np.sqrt(np.diag(found.overlap[0]))
    expected = np.linalg.cond(found.overlap[0] / np.outer(scale, scale))
    assert found.condition == pytest.approx(expected, rel=TWO_ROUTES)
    lost = IORNN([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], None, [[1.0, 1.0], [0.0, 0.0]])
    assert Contraction.of(lost, K).condition == np.inf


def test_cross_sums_count_steps_with_a_neighbour():
    model = forward_network(3, 2, 2)
    X, Y = ragged(3, 2, (4, 1, 3))
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, CHAIN.precision_blocks(0))
    assert cross_sums(batch, model, CHAIN, contraction).n_rows == 3 + 0 + 2
    backward = two_way_network(0, 2)
    contraction = Contraction.of(
        backward, GaussianVAR(np.zeros((3, 3)), np.eye(3)).precision_blocks(0)
    )
    assert cross_sums(batch, backward, CHAIN, contraction).n_rows == 5
