"""Every pass of the recurrence estimators against a loop over steps and explicit score tensors."""

from functools import partial
from itertools import product
from math import factorial

import numpy as np
import pytest
from helpers import naive
from helpers.batches import merged
from helpers.comparisons import assert_close, assert_same_sums
from helpers.generators import LENGTHS, MONOMIALS, forward_network, ragged, stable_chain
from helpers.tensors import contract

from gloree.activations import Polynomial
from gloree.chains import StudentVAR, with_metric
from gloree.models import IORNN, ExplosionError
from gloree.recurrence import (
    Contraction,
    cross_sums,
    instrument_sums,
    linearised_sums,
    pseudo_observations,
    score_sums,
    top_degree,
)
from gloree.score_functions import joint_score, partial_score
from gloree.sequences import as_sequences
from gloree.states import predict_rows, residual_rows, run_states

# Sums of up to a hundred terms in another order, and one small linear system.
ALGEBRA = 1e-10

make_chain = partial(stable_chain, 0, 3)


def make_model(degree=2, n_inputs=3, **options):
    return forward_network(n_inputs, 2, seed=2, activation=MONOMIALS[degree], **options)


def assert_runs(states, model, X):
    runs = [naive.run(model, x) for x in X]
    for mine, theirs in (("z", "z"), ("h", "h"), ("previous", "entering")):
        expected = np.concatenate([getattr(run, theirs) for run in runs])
        assert_close(getattr(states, mine), expected, ALGEBRA)


def types_of(chain, x):
    return chain.boundary_types(as_sequences(x).whole())


@pytest.mark.parametrize("direct", [False, True])
def test_states_and_residuals_equal_the_naive_loop(direct):
    model = make_model(direct=direct)
    X, Y = ragged(3, 2)
    batch = as_sequences(X, Y).whole()
    states = run_states(model, batch)
    assert_runs(states, model, X)
    expected = np.concatenate([y - naive.predictions(model, x) for x, y in zip(X, Y, strict=True)])
    assert_close(residual_rows(model, batch), expected, ALGEBRA)
    assert_close(batch.targets - predict_rows(model, batch, states), expected, ALGEBRA)


def test_states_without_recurrence_equal_the_naive_loop():
    model = make_model().replace(recurrent_weights=None)
    X, Y = ragged(3, 2)
    states = run_states(model, as_sequences(X, Y).whole())
    assert_runs(states, model, X)


def test_pieces_with_enough_warm_up_have_the_states_of_the_whole():
    model = make_model()
    X, _ = ragged(3, 2, lengths=(60,))
    data = as_sequences(X)
    whole = run_states(model, data.whole())
    found = np.full_like(whole.z, np.nan)
    start = 0
    for batch in data.batches(10, segment=10, before=40):
        states = run_states(model, batch)
        part = states.z[batch.counted]
        found[start : start + len(part)] = part
        start += len(part)
    # the recurrence forgets a factor of two or more with each step of warm-up
    assert_close(found, whole.z, 0.5**40 + ALGEBRA)


def test_explosion_names_the_sequence_and_step():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    batch = as_sequences([np.zeros((9, 1)), np.ones((9, 1))]).whole()
    with pytest.raises(ExplosionError) as caught:
        run_states(model, batch)
    assert (caught.value.sequence, caught.value.step) == (1, 6)


def test_explosion_in_a_piece_names_the_step_of_the_sequence():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    x = np.zeros((30, 1))
    x[20:] = 1.0
    batches = as_sequences([np.zeros((4, 1)), x]).segments(batch_size=1, segment=15)
    batch = as_sequences([np.zeros((4, 1)), x]).batch(batches[-1])
    with pytest.raises(ExplosionError) as caught:
        run_states(model, batch)
    assert caught.value.sequence == 1
    assert caught.value.step == 26


def test_explosion_tells_the_size_of_the_state_it_names():
    """Later steps are larger still: they are not what is reported."""
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    X = [np.ones((9, 1)), np.zeros((2, 1)), np.zeros((2, 1))]
    with pytest.raises(ExplosionError) as caught:
        run_states(model, as_sequences(X).whole())
    with pytest.raises(ExplosionError) as expected:
        model.predict(X)
    assert (caught.value.sequence, caught.value.step) == (0, 6)
    assert caught.value.size == pytest.approx(expected.value.size)


def explicit_contraction(model, chain, metric=None):
    """B, D_e and Psi_e from their definition, one entry at a time."""
    degree = model.activation.degree
    A1, A2 = model.input_weights, model.output_weights
    B = A2 if metric is None else A2 @ np.linalg.inv(metric)
    D = [A1 @ np.linalg.inv(K) for K in chain.precision_blocks(0)]
    psi = [
        np.array([[B[i] @ A2[j] * (d[i] @ A1[j]) ** (degree - 1) for j in range(len(A1))]
                  for i in range(len(A1))])
        for d in D
    ]  # fmt: skip
    return B, D, psi


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("metric", [None, np.array([[2.0, 0.3], [0.3, 1.0]])])
def test_contraction_holds_the_overlaps_of_the_units(degree, metric):
    model, chain = make_model(degree), make_chain()
    contraction = Contraction.of(model, chain.precision_blocks(0), metric)
    B, D, psi = explicit_contraction(model, chain, metric)
    assert_close(contraction.outputs, B, ALGEBRA)
    assert_close(contraction.inputs, np.stack(D), ALGEBRA)
    assert_close(contraction.overlap, np.stack(psi), ALGEBRA)
    scale = np.sqrt(np.abs(np.diag(psi[0])))
    assert contraction.condition == pytest.approx(np.linalg.cond(psi[0] / np.outer(scale, scale)))


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("degree", [2, 3])
def test_instrument_sums_equal_the_contracted_score_tensors(degree, var_order):
    """sum_t Psi^-1 [ r_t (x) S_{l-1}(t) (B_i, D_i, ..) ] g_t^T / (l! c_l), step by step."""
    model, chain = make_model(degree), make_chain(order=var_order)
    X, Y = ragged(3, 2)
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, chain.precision_blocks(0))
    B, D, psi = explicit_contraction(model, chain)
    k = model.n_hidden
    cross, gram, surrogates = np.zeros((k, k + 1)), np.zeros((k + 1, k + 1)), []
    for x, y, S in zip(X, Y, partial_score(chain, X, degree - 1), strict=True):
        types, residuals = types_of(chain, x), y - naive.predictions(model, x)
        for t, previous in enumerate(naive.run(model, x).entering):
            moment = np.multiply.outer(residuals[t], S[t])
            contracted = [
                contract(moment, B[i], *[D[types[t]][i]] * (degree - 1)) for i in range(k)
            ]
            p = np.linalg.solve(psi[types[t]], contracted) / factorial(degree)
            g = np.append(previous, 1.0)
            cross += np.outer(p, g)
            gram += np.outer(g, g)
            surrogates.append(p)
    sums = instrument_sums(batch, model, chain, contraction)
    assert_close(sums.cross, cross, ALGEBRA)
    assert_close(sums.gram, gram, ALGEBRA)
    assert sums.n_rows == sum(LENGTHS)
    residuals = residual_rows(model, batch)
    found = pseudo_observations(batch, model, chain, residuals, contraction)
    assert_close(found, np.array(surrogates), ALGEBRA)


@pytest.mark.parametrize("degree", [3, 4])
def test_pseudo_observations_of_a_law_without_hermite_scores_are_contracted_tensors(degree):
    """Psi^-1 [r_t (x) S_{l-1}(t) (B_i, D_i, ..)] / (l! c_l), from the first row on."""
    coefficients = (0.0, 1.0, 0.5, 0.4, 0.3)[: degree + 1]
    model = make_model().replace(activation=Polynomial(coefficients))
    law = with_metric(
        StudentVAR(0.4 * np.eye(3), np.diag([1.0, 2.0, 0.5]), df=9), np.diag([2.0, 1.0, 0.5])
    )
    X, Y = ragged(3, 2)
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, law.precision_blocks(0))
    B, D, psi = explicit_contraction(model, law)
    residuals = residual_rows(model, batch)
    S = np.concatenate(partial_score(law, X, degree - 1))
    expected = np.empty((batch.n_rows, 2))
    for t in range(batch.n_rows):
        moment = np.multiply.outer(residuals[t], S[t])
        along = [contract(moment, B[i], *[D[0][i]] * (degree - 1)) for i in range(2)]
        expected[t] = np.linalg.solve(psi[0], along) / (factorial(degree) * coefficients[-1])
    assert_close(pseudo_observations(batch, model, law, residuals, contraction), expected, ALGEBRA)


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("degree", [2, 3])
def test_cross_sums_equal_the_contracted_joint_score_tensors(degree, var_order):
    """sum_t Psi^-1 M_t (D A1^T)^{o l}^-T, M_t = r_t (x) S_{l-1,l}(t, t-1)(B_i, D_i.., D_j..)."""
    model, chain = make_model(degree, n_inputs=2), stable_chain(0, 2, var_order)
    X, Y = ragged(2, 2)
    contraction = Contraction.of(model, chain.precision_blocks(0))
    B, D, psi = explicit_contraction(model, chain)
    k = model.n_hidden
    total, n_rows = np.zeros((k, k)), 0
    for x, y, S in zip(X, Y, joint_score(chain, X, (degree - 1, degree)), strict=True):
        types, residuals = types_of(chain, x), y - naive.predictions(model, x)
        for t in range(1, len(x)):
            now, before = types[t], types[t - 1]
            moment = np.multiply.outer(residuals[t], S[t - 1])
            M = np.zeros((k, k))
            for i, j in product(range(k), repeat=2):
                along = [D[now][i]] * (degree - 1) + [D[before][j]] * degree
                M[i, j] = contract(moment, B[i], *along)
            inner = (D[before] @ model.input_weights.T) ** degree
            total += np.linalg.inv(psi[now]) @ M @ np.linalg.inv(inner).T
            n_rows += 1
    sums = cross_sums(as_sequences(X, Y).whole(), model, chain, contraction)
    assert sums.n_rows == n_rows
    assert_close(sums.moment, total, ALGEBRA)


def test_score_sums_equal_the_contracted_score_tensors():
    """sum_t (A2^+ y_t)_i S_4(t-1)(v_m, v_m, v_n, v_n), v the dual vectors of the rows of A1."""
    model, chain = make_model(), make_chain()
    X, Y = ragged(3, 2)
    dual = np.linalg.pinv(model.input_weights).T
    inverse = np.linalg.pinv(model.output_weights)
    k = model.n_hidden
    expected, n_rows = np.zeros((k, k, k)), 0
    for y, S in zip(Y, partial_score(chain, X, 4), strict=True):
        for t in range(1, len(y)):
            along = np.einsum("pqrs,mp,mq,nr,ns->mn", S[t - 1], dual, dual, dual, dual)
            expected += np.multiply.outer(y[t] @ inverse, along)
            n_rows += 1
    batch = as_sequences(X, Y).whole()
    sums = score_sums(batch, model, chain)
    assert sums.n_rows == n_rows
    assert_close(sums.moment, expected, ALGEBRA)
    residual = residual_rows(model, batch)
    other = score_sums(batch, model, chain, residuals=residual)
    shifted = as_sequences(X, np.split(residual, np.cumsum(LENGTHS)[:-1])).whole()
    assert_close(other.moment, score_sums(shifted, model, chain).moment, ALGEBRA)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("degree", [2, 3])
def test_linearised_sums_equal_the_naive_loop(degree, direct, bias, recurrent):
    model = make_model(degree, direct=direct)
    X, Y = ragged(3, 2)
    k, q = model.n_hidden, model.n_outputs
    Q, R, P = [], [], []
    for x, y in zip(X, Y, strict=True):
        residuals = y - naive.predictions(model, x)
        for t, (z, h, previous, _) in enumerate(zip(*naive.run(model, x), strict=True)):
            g = [*(previous if recurrent else []), *([1.0] if bias else [])]
            Q.append([degree * z[i] ** (degree - 1) * entry for i in range(k) for entry in g])
            P.append([*h, 1.0, *(x[t] if direct else [])])
            R.append(residuals[t])
    Q, R, P = np.array(Q), np.array(R).reshape(-1, q), np.array(P)
    sums = linearised_sums(
        as_sequences(X, Y).whole(), model, recurrent=recurrent, bias=bias, direct=direct
    )
    pairs = [(i, j) for i in range(k) for j in [*range(k)] * recurrent + [k] * bias]
    assert list(zip(sums.owner, sums.source, strict=True)) == pairs
    assert sums.n_rows == len(P)
    assert sums.squares == pytest.approx(np.sum(R**2))
    if Q.size:
        assert_close(sums.unit_gram, Q.T @ Q, ALGEBRA)
        assert_close(sums.unit_cross, Q.T @ R, ALGEBRA)
        assert_close(sums.mixed, Q.T @ P, ALGEBRA)
    else:
        assert sums.unit_gram.shape == (0, 0)
    assert_close(sums.gram, P.T @ P, ALGEBRA)
    assert_close(sums.cross, P.T @ R, ALGEBRA)


PASSES = ["instrument", "cross", "score", "linearised"]


def run_pass(name, batch, model, chain):
    contraction = Contraction.of(model, chain.precision_blocks(0))
    if name == "instrument":
        return instrument_sums(batch, model, chain, contraction)
    if name == "cross":
        return cross_sums(batch, model, chain, contraction)
    if name == "score":
        return score_sums(batch, model, chain)
    return linearised_sums(batch, model)


@pytest.mark.parametrize("name", PASSES)
def test_sequences_add(name):
    """The statistic of many sequences is the sum of those of each alone."""
    model, chain = make_model(), make_chain()
    X, Y = ragged(3, 2)
    whole = run_pass(name, as_sequences(X, Y).whole(), model, chain)
    parts = [as_sequences([x], [y]).whole() for x, y in zip(X, Y, strict=True)]
    total = merged(run_pass(name, part, model, chain) for part in parts)
    assert_same_sums(total, whole, ALGEBRA)


@pytest.mark.parametrize("name", PASSES)
def test_pieces_with_warm_up_equal_whole_sequences(name):
    model, chain = make_model(), make_chain(order=2)
    X, Y = ragged(3, 2, lengths=(90, 7))
    data = as_sequences(X, Y)
    whole = run_pass(name, data.whole(), model, chain)
    pieces = data.batches(30, segment=20, before=45, after=chain.context[1])
    total = merged(run_pass(name, batch, model, chain) for batch in pieces)
    assert_same_sums(total, whole, 100 * ALGEBRA)


def test_degree_of_anything_but_a_polynomial_is_refused():
    with pytest.raises(TypeError, match="need a polynomial activation, the model has tanh"):
        top_degree(make_model().replace(activation="tanh"))
    assert top_degree(make_model(3)) == (3, 1.0)
