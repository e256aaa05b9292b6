"""Which way each unit runs: the regression on both neighbours, its errors, and the partition."""

from itertools import permutations, product

import numpy as np
import pytest
from helpers.batches import merged, only_batch
from helpers.comparisons import assert_close, assert_same_sums
from helpers.generators import forward_network, memoryless, ragged
from helpers.marks import first_of
from scipy.stats import chi2

from gloree import datasets
from gloree.engine import Engine, Source
from gloree.metrics import weight_errors
from gloree.models import BRNN, IORNN
from gloree.recurrence import (
    SpreadSums,
    TwoSidedFit,
    bidirectional_model,
    choose_directions,
    estimate,
    two_sided_spread,
    two_sided_sums,
)
from gloree.sequences import as_sequences
from gloree.states import run_states

# Sums of up to a thousand terms in another order, and linear systems of condition up to 1e4.
ALGEBRA = 1e-9
# Normal equations square the condition of the dense design they are compared with.
LEAST_SQUARES = 1e-7
# Margins that noise does not reach: twenty units of a chi-square.
BEYOND_DOUBT = 20.0
# A variance of 200 draws has a relative error of sqrt(2 / 200) = .1: five of these, and the
# sandwich is a few percent too small with 150 clusters.
FIVE_SIGMA = 0.5
# Relative size of what linearising leaves out at |U| = .02, states of size one or two.
SECOND_ORDER = 0.1

LENGTHS = (9, 1, 12, 2, 7) * 6


def small_case(seed=0, direct=False, lengths=LENGTHS):
    """A memoryless model that is wrong, and data that have nothing to do with it."""
    model = memoryless(forward_network(3, 2, direct=direct, seed=seed))
    return model, as_sequences(*ragged(3, 2, lengths, seed=[1, seed]))


def brnn(seed, n_forward, n_backward, n_outputs=6, norm=0.1, n_inputs=8):
    sizes = n_inputs, n_forward, n_backward, n_outputs
    return datasets.random_brnn(*sizes, recurrence_norm=norm, random_state=seed)


def simulate(truth, seed, n_sequences=400, n_steps=10, noise=0.1):
    rng = np.random.default_rng(1000 + seed)
    X = rng.standard_normal((n_sequences, n_steps, truth.n_inputs))
    return X, truth.simulate(X, noise=noise, random_state=rng)


def find(model, X, Y, n_forward=None, bias=False):
    data = as_sequences(X, Y)
    source, engine = Source(data), Engine("serial")
    sums = engine.run(lambda b: two_sided_sums(b, model, bias=bias), source)
    fit = TwoSidedFit.of(sums, model)
    spread = engine.run(lambda b: two_sided_spread(b, model, fit), source)
    return choose_directions(fit, spread, n_forward=n_forward)


def shuffled(truth, seed):
    """A memoryless network with its units in any order, and which of them are forward."""
    order = np.random.default_rng(2000 + seed).permutation(truth.n_hidden)
    return memoryless(truth, order), order < truth.n_forward


# ---------------------------------------------------------------------- sums against naive loops


def naive_rows(model, batch, *, bias=False, direct=False):
    """(segment, Q, r, phi) of every counted row, one step at a time."""
    k = model.n_hidden
    for s, (start, length) in enumerate(zip(batch.starts, batch.lengths, strict=True)):
        x = batch.X[start : start + length]
        z = x @ model.input_weights.T + model.hidden_bias
        h = model.activation(z)
        slopes = model.activation.derivative(z, 1)
        for t in range(batch.before[s], length - batch.after[s]):
            before = h[t - 1] if t > 0 else np.zeros(k)
            after = h[t + 1] if t + 1 < length else np.zeros(k)
            neighbours = (*before, *after, 1.0) if bias else (*before, *after)
            Q = [slopes[t, i] * value for i in range(k) for value in neighbours]
            prediction = h[t] @ model.output_weights + model.output_bias
            if model.direct_weights is not None:
                prediction = prediction + x[t] @ model.direct_weights
            phi = (*h[t], 1.0, *x[t]) if direct else (*h[t], 1.0)
            yield s, np.array(Q), batch.targets[start + t] - prediction, np.array(phi)


CUTS = {
    "whole": {},
    "pieces": {"segment": 4},
    "context": {"segment": 4, "before": 1, "after": 1},
    "more context": {"segment": 3, "before": 3, "after": 2},
}


def read(data, cut):
    return only_batch(Source(data, batch_size=10**6, **CUTS[cut]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_two_sided_sums_equal_the_naive_loop(cut, direct, bias):
    model, data = small_case(direct=direct)
    batch = read(data, cut)
    sums = two_sided_sums(batch, model, bias=bias, direct=direct)
    rows = list(naive_rows(model, batch, bias=bias, direct=direct))
    assert sums.n_rows == len(rows) == data.n_rows
    assert_close(sums.squares, sum(r @ r for _, _, r, _ in rows), ALGEBRA)
    assert_close(sums.unit_gram, sum(np.outer(Q, Q) for _, Q, _, _ in rows), ALGEBRA)
    assert_close(sums.unit_cross, sum(np.outer(Q, r) for _, Q, r, _ in rows), ALGEBRA)
    assert_close(sums.mixed, sum(np.outer(Q, phi) for _, Q, _, phi in rows), ALGEBRA)
    assert_close(sums.gram, sum(np.outer(phi, phi) for _, _, _, phi in rows), ALGEBRA)
    assert_close(sums.cross, sum(np.outer(phi, r) for _, _, r, phi in rows), ALGEBRA)
    k = model.n_hidden
    pairs = list(product(range(k), range(2 * k + bias)))
    assert [(int(i), int(j)) for i, j in zip(sums.owner, sums.source, strict=True)] == pairs


@pytest.mark.parametrize("cut", ["context", "more context"])
def test_pieces_of_long_sequences_with_context_equal_whole_sequences(cut):
    """One row of context on either side is enough: states have no memory."""
    model, data = small_case(lengths=(40, 3, 25))
    whole = two_sided_sums(data.whole(), model)
    engine = Engine("threads", n_workers=2)
    total = engine.run(lambda b: two_sided_sums(b, model), Source(data, 10, **CUTS[cut]))
    assert_same_sums(total, whole, ALGEBRA)


def dense_design(model, batch, *, bias=False, direct=False):
    """Regressors of all residuals together, (rows, outputs, unknowns): units, then outputs."""
    A2, k = model.output_weights, model.n_hidden
    owner = np.repeat(np.arange(k), 2 * k + bias)
    design, right, segment = [], [], []
    for s, Q, r, phi in naive_rows(model, batch, bias=bias, direct=direct):
        left = (A2[owner] * Q[:, None]).T
        design.append(np.column_stack((left, np.kron(np.eye(len(r)), phi))))
        right.append(r)
        segment.append(s)
    return np.array(design), np.array(right), np.array(segment)


@pytest.mark.parametrize(("direct", "bias"), [(False, False), (True, False), (False, True)])
def test_fit_is_dense_least_squares_of_all_outputs_and_unknowns(direct, bias):
    model, data = small_case(direct=direct)
    batch = data.whole()
    sums = two_sided_sums(batch, model, bias=bias, direct=direct)
    fit = TwoSidedFit.of(sums, model, ridge=0.0)
    design, right, _ = dense_design(model, batch, bias=bias, direct=direct)
    flat = design.reshape(-1, design.shape[2])
    solution = np.linalg.lstsq(flat, right.ravel(), rcond=None)[0]
    m = fit.coefficients.size
    assert_close(fit.coefficients.ravel(), solution[:m], LEAST_SQUARES)
    assert_close(fit.output_change, solution[m:].reshape(right.shape[1], -1).T, LEAST_SQUARES)


def test_information_is_that_of_the_units_with_the_outputs_projected_out():
    """Frisch, Waugh, Lovell: the Schur complement of the joint Gram matrix."""
    model, data = small_case()
    batch = data.whole()
    fit = TwoSidedFit.of(two_sided_sums(batch, model), model)
    design, _, _ = dense_design(model, batch)
    flat = design.reshape(-1, design.shape[2])
    m = fit.coefficients.size
    units, outputs = flat[:, :m], flat[:, m:]
    left = units - outputs @ np.linalg.lstsq(outputs, units, rcond=None)[0]
    assert_close(fit.information, left.T @ left, ALGEBRA)


@pytest.mark.parametrize(("direct", "bias"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("cut", CUTS)
def test_spread_gives_the_clustered_sandwich_of_the_joint_regression(cut, direct, bias):
    """H^-1 (sum over segments of g g^T) H^-1 with all unknowns, its block of the units."""
    model, data = small_case(1, direct=direct)
    batch = read(data, cut)
    sums = two_sided_sums(batch, model, bias=bias, direct=direct)
    fit = TwoSidedFit.of(sums, model, ridge=0.0)
    spread = two_sided_spread(batch, model, fit, direct=direct)
    assert spread.n_segments == len(batch.lengths)
    design, right, segment = dense_design(model, batch, bias=bias, direct=direct)
    size, m = design.shape[2], fit.coefficients.size
    flat = design.reshape(-1, size)
    theta = np.linalg.lstsq(flat, right.ravel(), rcond=None)[0]
    left = right - design @ theta
    inverse = np.linalg.inv(flat.T @ flat)
    meat = np.zeros((size, size))
    for s in np.unique(segment):
        g = np.einsum("nap,na->p", design[segment == s], left[segment == s])
        meat += np.outer(g, g)
    expected = (inverse @ meat @ inverse)[:m, :m]
    own = np.linalg.inv(fit.information)
    found = own @ spread.spread @ own
    assert_close(found / np.abs(expected).max(), expected / np.abs(expected).max(), LEAST_SQUARES)


def test_scores_of_all_segments_add_to_zero_at_the_solution():
    """With everything in one segment the spread is the square of a vanishing gradient."""
    model, data = small_case(2, lengths=(200,))
    batch = data.whole()
    fit = TwoSidedFit.of(two_sided_sums(batch, model), model, ridge=0.0)
    alone = two_sided_spread(batch, model, fit).spread
    pieces = two_sided_spread(read(data, "context"), model, fit).spread
    assert np.abs(alone).max() <= ALGEBRA * np.abs(pieces).max()


def test_spread_of_batches_is_a_monoid():
    model, data = small_case(3)
    fit = TwoSidedFit.of(two_sided_sums(data.whole(), model), model)
    whole = two_sided_spread(data.whole(), model, fit)
    parts = [two_sided_spread(batch, model, fit) for batch in data.batches(20)]
    assert len(parts) > 3
    for a, b, c in permutations(parts[:3]):
        left, right = a.merge(b).merge(c), a.merge(b.merge(c))
        assert_same_sums(left, right, ALGEBRA)
        assert_same_sums(a.merge(b), b.merge(a), ALGEBRA)
    assert whole.n_segments == data.n_sequences
    assert_same_sums(merged(parts), whole, ALGEBRA)


# ------------------------------------------------------------------- the partition, from statistics


def statistics(coefficients, variances=None):
    """A fit and a spread whose covariance is diagonal: t values are known exactly."""
    k = len(coefficients)
    variances = np.ones((k, 2 * k)) if variances is None else np.asarray(variances)
    fit = TwoSidedFit(
        np.asarray(coefficients, dtype=float),
        np.eye(2 * k * k),
        np.zeros((2 * k * k, k + 1)),
        np.zeros((k + 1, 2)),
    )
    return fit, SpreadSums(10.0, np.diag(variances.ravel()))


def naive_evidence(coefficients, forward, i):
    """Row and column evidence of unit i, by the formula of the theory page."""
    k = len(coefficients)
    past, future = coefficients[:, :k], coefficients[:, k:]
    side = np.sum(past[i] ** 2) - k
    other = np.sum(future[i] ** 2) - k
    for j in range(k):
        if j != i and forward[j]:
            side += past[j, i] ** 2 - 1
        if j != i and not forward[j]:
            other += future[j, i] ** 2 - 1
    return side - other


@pytest.mark.parametrize("seed", range(10))
def test_partition_is_a_fixed_point_of_the_rule_of_rows_and_columns(seed):
    rng = np.random.default_rng(seed)
    k = 5
    forward = rng.random(k) < 0.5
    coefficients = rng.standard_normal((k, 2 * k))
    for i, j in product(range(k), repeat=2):
        if forward[i] == forward[j]:
            coefficients[i, j + k * (not forward[i])] += rng.choice([-9.0, 9.0])
    found = choose_directions(*statistics(coefficients))
    np.testing.assert_array_equal(found.forward, forward)
    assert not found.undetermined.any()
    expected = [naive_evidence(coefficients, forward, i) for i in range(k)]
    assert_close(found.margin, np.where(forward, 1.0, -1.0) * expected, ALGEBRA)
    assert_close(found.past, coefficients[:, :k], ALGEBRA)
    assert_close(found.future, coefficients[:, k:], ALGEBRA)
    order = found.order
    assert sorted(order) == list(range(k))
    assert found.forward[order].tolist() == sorted(forward.tolist(), reverse=True)


def test_standard_errors_count_not_sizes():
    """A large coefficient of a large variance is no evidence."""
    coefficients = np.zeros((2, 4))
    coefficients[:, :2] = 10.0
    coefficients[:, 2:] = 100.0
    variances = np.ones((2, 4))
    variances[:, 2:] = 1e4
    found = choose_directions(*statistics(coefficients, variances))
    assert found.forward.all()
    # W^- = 200 and W^+ = 2 for either row, and 99 from the column of the other unit
    assert_close(found.margin, np.full(2, 200.0 - 2.0 + 99.0), ALGEBRA)


def test_a_unit_that_hears_nothing_is_decided_by_who_hears_it():
    """Row of zeros, column of a backward unit; and the same on the other side."""
    for side in (0, 1):
        coefficients = np.zeros((3, 6))
        coefficients[1, 3 * side + np.arange(3)] = 8.0
        coefficients[2, 3 * side + np.arange(3)] = 8.0
        # slightly more on the wrong side of its row: only the column is right
        coefficients[0, 3 * (1 - side)] = 1.5
        found = choose_directions(*statistics(coefficients))
        np.testing.assert_array_equal(found.forward, np.full(3, side == 0))
        assert not found.undetermined.any()
        # two columns of 64 - 1 each, against a row of 2.25
        assert_close(found.margin[0], 2 * 63 - 2.25, ALGEBRA)


def test_columns_count_only_what_units_of_that_side_use():
    """A forward unit's coefficient on a future state says nothing about that state's unit."""
    coefficients = np.zeros((3, 6))
    coefficients[0, 0], coefficients[1, 1] = 20.0, 20.0
    coefficients[0, 3 + 2] = 10.0
    coefficients[2, 2] = 6.0
    found = choose_directions(*statistics(coefficients))
    assert found.forward.all()
    # its own row, 36 against 0, and two null columns of forward units, -1 each
    assert_close(found.margin[2], 36.0 - 2.0, ALGEBRA)


def limit_of(k):
    return chi2.ppf(0.9999, 2 * k - 1) + 4 * (2 * k - 1)


def test_units_without_row_and_column_are_undetermined_and_follow_the_larger_part():
    k = 4
    coefficients = np.zeros((k, 2 * k))
    for i in (1, 2, 3):
        coefficients[i, k + np.array([1, 2, 3])] = 9.0
    found = choose_directions(*statistics(coefficients))
    assert found.undetermined.tolist() == [True, False, False, False]
    # rows alone, a tie of nothing against nothing, would have it forward
    assert not found.forward.any()
    assert "0 forward, 4 backward, 1 of them undetermined" in str(found)


def test_undetermined_units_of_clear_evidence_stay_on_their_side():
    """Too little to count as a recurrence is not nothing: half of the limit on the past."""
    k = 4
    coefficients = np.zeros((k, 2 * k))
    for i in (1, 2, 3):
        coefficients[i, k + np.array([1, 2, 3])] = 9.0
    coefficients[0, 0] = np.sqrt(limit_of(k) / 2)
    found = choose_directions(*statistics(coefficients))
    assert found.undetermined.tolist() == [True, False, False, False]
    assert found.forward.tolist() == [True, False, False, False]
    assert found.margin[0] > 0


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_limit_of_undetermined_units(factor):
    """Evidence of the chosen side against chi2_.9999 + 4 (2k - 1), row and column together."""
    k = 2
    coefficients = np.zeros((k, 2 * k))
    size = np.sqrt(factor * limit_of(k) / 2)
    coefficients[0, 0] = size  # its row
    coefficients[1, 0] = size  # its column
    coefficients[1, 1] = 30.0
    found = choose_directions(*statistics(coefficients))
    assert found.forward.all()
    assert found.undetermined.tolist() == [factor < 1, False]


def test_nothing_at_all_is_undetermined_and_forward():
    found = choose_directions(*statistics(np.zeros((3, 6))))
    assert found.undetermined.all()
    assert found.forward.all()
    assert str(found) == "3 forward, 0 backward, 3 of them undetermined"


@pytest.mark.parametrize("n_forward", [0, 1, 2, 3])
def test_a_known_size_of_the_forward_part_takes_the_units_of_most_evidence(n_forward):
    k = 3
    coefficients = np.zeros((k, 2 * k))
    for i, size in enumerate((12.0, 30.0, 20.0)):
        coefficients[i, i] = size
    found = choose_directions(*statistics(coefficients), n_forward=n_forward)
    expected = np.isin(np.arange(k), [1, 2, 0][:n_forward])
    np.testing.assert_array_equal(found.forward, expected)
    # who stands against the evidence has a negative margin
    np.testing.assert_array_equal(found.margin > 0, expected)


# ------------------------------------------------------------------------ the partition, from data


@pytest.mark.parametrize("seed", first_of(range(10), 40))
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("split", [(3, 3), (4, 1), (1, 4), (4, 0), (0, 4)])
def test_directions_of_all_units_are_found(split, noise, seed):
    truth = brnn(seed, *split)
    model, forward = shuffled(truth, seed)
    found = find(model, *simulate(truth, seed, noise=noise))
    np.testing.assert_array_equal(found.forward, forward)
    assert not found.undetermined.any()
    assert found.margin.min() > BEYOND_DOUBT


@pytest.mark.parametrize("seed", range(5))
def test_time_reversed_data_turn_every_direction(seed):
    """Sequences read from their ends swap past and future, with the same margins."""
    truth = brnn(seed, 3, 2)
    model, _ = shuffled(truth, seed)
    X, Y = simulate(truth, seed)
    found, turned = find(model, X, Y), find(model, X[:, ::-1], Y[:, ::-1])
    np.testing.assert_array_equal(turned.forward, ~found.forward)
    assert_close(turned.past, found.future, LEAST_SQUARES)
    assert_close(turned.future, found.past, LEAST_SQUARES)
    assert_close(turned.margin / found.margin, np.ones(5), LEAST_SQUARES)


STRONG = 0.1 * np.array([[0.6, -0.5, 0.4], [0.5, 0.6, -0.5], [-0.4, 0.5, 0.6]])


@pytest.mark.parametrize("size", [10.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_directions_do_not_depend_on_the_scales_of_units(seed, size):
    """(c_i, alpha_i) -> (s c_i, alpha_i / s^2) is the same network: inputs may have any units."""
    truth = brnn(seed, 3, 2)
    model = memoryless(truth)
    scale = np.ones(5)
    scale[1], scale[4] = size, 1 / size
    X, Y = simulate(truth, seed, noise=0.3)
    found = find(model, X, Y)
    scaled = find(model.rearranged(np.arange(5), scale, scale**2), X, Y)
    np.testing.assert_array_equal(scaled.forward, found.forward)
    np.testing.assert_array_equal(scaled.undetermined, found.undetermined)
    assert_close(scaled.margin / found.margin, np.ones(5), LEAST_SQUARES)
    both = np.outer(scale, 1 / scale**2)
    assert_close(scaled.past / both, found.past, LEAST_SQUARES)
    assert_close(scaled.future / both, found.future, LEAST_SQUARES)


@pytest.mark.parametrize("seed", range(5))
def test_biases_of_a_model_without_recurrence_do_not_feign_the_other_side(seed):
    """Where they are free they hold the means of what the neighbours add, c_i.x + E[U h] + b_i.

    With a column of their own the coefficients are as good as with the right biases.
    """
    truth = brnn(seed, 3, 2, norm=0.02)
    X, Y = simulate(truth, seed, noise=0.0)
    model = memoryless(truth)
    entering = run_states(truth, as_sequences(X).whole()).previous.mean(axis=0)
    shifted = model.replace(hidden_bias=truth.recurrent_weights @ entering)
    expected = np.zeros((5, 10))
    expected[:3, :3] = truth.forward_recurrent_weights
    expected[3:, 8:] = truth.backward_recurrent_weights
    size = np.linalg.norm(expected)
    errors = {}
    for name, other, bias in (
        ("right", model, True), ("absorbed", shifted, True), ("no column", shifted, False)
    ):  # fmt: skip
        found = find(other, X, Y, bias=bias)
        gap = np.hstack((found.past, found.future)) - expected
        errors[name] = np.linalg.norm(gap) / size
        if name == "absorbed":
            # what was absorbed comes out again, but for terms of second order
            turned = bidirectional_model(shifted, found)
            off = np.linalg.norm(turned.hidden_bias) / np.linalg.norm(shifted.hidden_bias)
            assert off < SECOND_ORDER
    # both are of second order: the mean of what is absorbed is itself of first
    assert errors["absorbed"] < errors["right"] + SECOND_ORDER
    assert errors["no column"] > 2 * errors["absorbed"]


def weakened(truth, **parts):
    """Three and three units of even recurrences, with rows or columns of them set to zero."""
    U, V = STRONG.copy(), STRONG.T.copy()
    for name, unit in parts.items():
        way, axis = name.split("_")
        weights = U if way == "forward" else V
        if axis in ("row", "both"):
            weights[unit] = 0.0
        if axis in ("column", "both"):
            weights[:, unit] = 0.0
    return truth.replace(forward_recurrent_weights=U, backward_recurrent_weights=V)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_unit_with_a_row_of_zeros_is_decided_by_its_column_in_data(way, seed):
    truth = weakened(brnn(seed, 3, 3), **{f"{way}_row": 1})
    found = find(memoryless(truth), *simulate(truth, seed))
    np.testing.assert_array_equal(found.forward, np.arange(6) < 3)
    unit = 1 if way == "forward" else 4
    assert not found.undetermined[unit]
    # most of its evidence is the others': its own row has nothing to say
    own, other = (found.past, found.future) if way == "forward" else (found.future, found.past)
    assert np.linalg.norm(own[:, unit]) > 4 * np.linalg.norm(other[:, unit])
    assert found.margin[unit] > BEYOND_DOUBT


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_unit_that_takes_no_part_is_undetermined_in_data(way, seed):
    truth = weakened(brnn(seed, 3, 3), **{f"{way}_both": 1})
    found = find(memoryless(truth), *simulate(truth, seed, noise=0.3))
    unit = 1 if way == "forward" else 4
    assert np.flatnonzero(found.undetermined).tolist() == [unit]
    others = np.arange(6) != unit
    np.testing.assert_array_equal(found.forward[others], (np.arange(6) < 3)[others])


@pytest.mark.parametrize("seed", range(3))
def test_a_network_without_recurrence_has_no_directions(seed):
    truth = brnn(seed, 2, 2).replace(recurrent_weights=None)
    found = find(memoryless(truth), *simulate(truth, seed, noise=1.0))
    assert found.undetermined.all()


@pytest.mark.parametrize("seed", range(3))
def test_a_known_size_is_kept_in_data(seed):
    truth = brnn(seed, 3, 2)
    model, forward = shuffled(truth, seed)
    X, Y = simulate(truth, seed, noise=0.3)
    right = find(model, X, Y, n_forward=3)
    np.testing.assert_array_equal(right.forward, forward)
    for n_forward in (1, 5):
        assert find(model, X, Y, n_forward=n_forward).forward.sum() == n_forward


@pytest.mark.parametrize("seed", range(3))
def test_coefficients_are_the_recurrences_up_to_second_order(seed):
    """Theta^- is U, Theta^+ is V: errors fall like |U|^2 as the recurrence becomes weak."""
    errors = []
    for norm in (0.04, 0.02, 0.01):
        truth = brnn(seed, 3, 2, norm=norm)
        found = find(memoryless(truth), *simulate(truth, seed, n_sequences=200, noise=0.0))
        expected = np.zeros((5, 10))
        expected[:3, :3] = truth.forward_recurrent_weights
        expected[3:, 8:] = truth.backward_recurrent_weights
        errors.append(np.linalg.norm(np.hstack((found.past, found.future)) - expected))
    # a factor of four each, three to be safe
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3


@pytest.mark.parametrize("seed", range(3))
def test_predicted_variances_are_those_of_the_coefficients(seed):
    """Sandwich errors of 200 repetitions of the noise, within sampling error of their variance."""
    repeats, truth = 200, brnn(seed, 1, 1, n_outputs=3, norm=0.05, n_inputs=3)
    model = memoryless(truth)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((150, 6, 3))
    mean, noise = truth.predict(X), rng.standard_normal((repeats, 150, 6, 3))
    found, predicted = [], []
    for draw in noise:
        batch = as_sequences(X, mean + draw).whole()
        fit = TwoSidedFit.of(two_sided_sums(batch, model), model)
        inverse = np.linalg.inv(fit.information)
        spread = two_sided_spread(batch, model, fit).spread
        predicted.append(np.diag(inverse @ spread @ inverse))
        found.append(fit.coefficients.ravel())
    ratio = np.mean(predicted, axis=0) / np.var(found, axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=FIVE_SIGMA)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_weak_recurrences_in_much_noise_and_few_outputs_are_told_apart(seed):
    """|U| = |V| = .05, noise 1.0, 4 outputs for 8 units, 200,000 steps: no direction is wrong."""
    truth = brnn(seed, 4, 4, n_outputs=4, norm=0.05, n_inputs=12)
    model, forward = shuffled(truth, seed)
    X, Y = simulate(truth, seed, n_sequences=20_000, noise=1.0)
    found = find(model, X, Y)
    known = ~found.undetermined
    np.testing.assert_array_equal(found.forward[known], forward[known])
    # at most one unit is too weak to be told
    assert known.sum() >= 7


# --------------------------------------------------------------------------- the network of a guess


@pytest.mark.parametrize("seed", range(3))
def test_bidirectional_model_has_the_units_of_the_partition(seed):
    truth = brnn(seed, 3, 2)
    model, forward = shuffled(truth, seed)
    found = find(model, *simulate(truth, seed))
    model = model.replace(hidden_bias=np.arange(5.0))
    turned = bidirectional_model(model, found)
    assert isinstance(turned, BRNN)
    assert (turned.n_forward, turned.n_backward) == (3, 2)
    order = np.concatenate((np.flatnonzero(forward), np.flatnonzero(~forward)))
    np.testing.assert_array_equal(turned.input_weights, model.input_weights[order])
    np.testing.assert_array_equal(turned.output_weights, model.output_weights[order])
    np.testing.assert_array_equal(turned.hidden_bias, model.hidden_bias[order])
    ahead, behind = order[:3], order[3:]
    assert_close(turned.forward_recurrent_weights, found.past[np.ix_(ahead, ahead)], ALGEBRA)
    assert_close(turned.backward_recurrent_weights, found.future[np.ix_(behind, behind)], ALGEBRA)


def test_bidirectional_model_of_windows_keeps_what_a_direction_sees():
    """Joint windows (x_t, x_{t-1}, x_{t+1}): forward units keep the first two."""
    rng = np.random.default_rng(0)
    model = IORNN(rng.standard_normal((3, 6)), None, rng.standard_normal((3, 2)))
    coefficients = np.zeros((3, 6))
    coefficients[0, 3], coefficients[1, 1], coefficients[2, 5] = 30.0, 40.0, 50.0
    found = choose_directions(*statistics(coefficients))
    assert found.forward.tolist() == [False, True, False]
    turned = bidirectional_model(model, found, lags=2)
    assert turned.lags == 2
    np.testing.assert_array_equal(turned.forward_input_weights, model.input_weights[[1], :4])
    backward = model.input_weights[[0, 2]][:, [0, 1, 4, 5]]
    np.testing.assert_array_equal(turned.backward_input_weights, backward)


def test_first_recurrences_are_scaled_down_to_a_norm_of_a_half():
    model = IORNN(np.eye(2), None, np.eye(2))
    coefficients = np.zeros((2, 4))
    coefficients[0, 0], coefficients[1, 3] = 30.0, 0.4
    variances = np.full((2, 4), 1e-4)
    found = choose_directions(*statistics(coefficients, variances))
    turned = bidirectional_model(model, found)
    assert_close(turned.forward_recurrent_weights, [[0.5]], ALGEBRA)
    assert_close(turned.backward_recurrent_weights, [[0.4]], ALGEBRA)


# Relative error of U and V from 20,000 steps with noise .1: 2 % by the joint score, the noisiest.
FROM_DATA = 0.1


@pytest.mark.parametrize("method", ["instrument", "least-squares", "cross"])
def test_every_estimator_of_a_known_partition_finds_both_recurrences(method):
    X, Y, truth, chain = datasets.make_rnn(2000, 10, 5, 4, 3, bidirectional=True, random_state=0)
    start = truth.replace(recurrent_weights=None)
    found = estimate(chain, X, Y, start, method=method)
    errors = weight_errors(found, truth)
    assert errors["forward_recurrent_weights"] < FROM_DATA
    assert errors["backward_recurrent_weights"] < FROM_DATA


@pytest.mark.parametrize(("n_forward", "forward"), [(1, False), (2, True)])
def test_idle_units_go_with_half_of_the_others(n_forward, forward):
    """Of three and of four units that are known, one and two of which run forward."""
    k = 4 + (n_forward == 2)
    coefficients = np.zeros((k, 2 * k))
    for i in range(1, k):
        ahead = i <= n_forward
        others = [j for j in range(1, k) if (j <= n_forward) is ahead]
        coefficients[i, k * (not ahead) + np.array(others)] = 19.0
    found = choose_directions(*statistics(coefficients))
    assert found.undetermined.tolist() == [True] + [False] * (k - 1)
    assert found.forward[1:].sum() == n_forward
    assert bool(found.forward[0]) is forward


@pytest.mark.parametrize(("evidence", "forward"), [(19.9, False), (20.1, True)])
def test_undetermined_units_with_evidence_of_twenty_stay_on_their_side(evidence, forward):
    """A row on the past, and 1 for each of three columns on the future that are nothing."""
    k = 4
    coefficients = np.zeros((k, 2 * k))
    for i in (1, 2, 3):
        coefficients[i, k + np.array([1, 2, 3])] = 9.0
    coefficients[0, 0] = np.sqrt(evidence - 3.0)
    found = choose_directions(*statistics(coefficients))
    assert found.undetermined.tolist() == [True, False, False, False]
    assert found.forward.tolist() == [forward, False, False, False]


@pytest.mark.parametrize(("more", "forward"), [(0.5, False), (1.5, True)])
def test_units_of_either_side_go_where_there_is_more_evidence(more, forward):
    """Rows on both sides, and -1 for the column of the other unit, which runs forward."""
    coefficients = np.zeros((2, 4))
    coefficients[1, 1] = 30.0
    coefficients[0, 0], coefficients[0, 2] = np.sqrt(60.0 + more), np.sqrt(60.0)
    found = choose_directions(*statistics(coefficients))
    assert found.forward.tolist() == [forward, True]
    assert not found.undetermined.any()
    assert_close(found.margin[0], abs(more - 1.0), ALGEBRA)
