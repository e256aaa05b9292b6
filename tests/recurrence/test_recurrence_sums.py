"""Every pass of the recurrence estimators against a loop over steps and explicit score tensors."""

from itertools import product
from math import factorial

import numpy as np
import pytest

from gloree.chains import GaussianVAR
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

LENGTHS = (5, 1, 8, 2, 3)


def make_chain(seed=0, n_inputs=3, order=1):
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((order, n_inputs, n_inputs))
    for k in range(order):
        coefficients[k] *= 0.5 / (order * np.linalg.norm(coefficients[k], 2))
    factor = np.eye(n_inputs) + 0.3 * rng.standard_normal((n_inputs, n_inputs))
    return GaussianVAR(coefficients, factor @ factor.T, rng.standard_normal(n_inputs))


def make_model(degree=2, *, seed=1, n_inputs=3, n_hidden=2, n_outputs=2, direct=False):
    rng = np.random.default_rng(seed)
    return IORNN(
        rng.standard_normal((n_hidden, n_inputs)) / 2,
        0.1 * rng.standard_normal((n_hidden, n_hidden)),
        rng.standard_normal((n_hidden, n_outputs)),
        0.3 * rng.standard_normal(n_hidden),
        rng.standard_normal(n_outputs),
        rng.standard_normal((n_inputs, n_outputs)) if direct else None,
        activation="quadratic" if degree == 2 else "cubic",
    )


def make_data(seed=2, n_inputs=3, n_outputs=2, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, n_inputs)) for n in lengths]
    return X, [rng.standard_normal((n, n_outputs)) for n in lengths]


def naive_run(model, x):
    """z_t, h_t and h_{t-1} of one sequence."""
    h = np.zeros(model.n_hidden)
    rows = []
    for step in x:
        z = model.input_weights @ step + model.recurrent_weights @ h + model.hidden_bias
        previous, h = h, model.activation(z)
        rows.append((z, h, previous))
    return rows


def naive_residuals(model, x, y):
    left = []
    for (_, h, _), step, target in zip(naive_run(model, x), x, y, strict=True):
        prediction = h @ model.output_weights + model.output_bias
        if model.direct_weights is not None:
            prediction = prediction + step @ model.direct_weights
        left.append(target - prediction)
    return np.array(left)


def close(actual, expected, tolerance=ALGEBRA):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def types_of(chain, x):
    return chain.boundary_types(as_sequences(x).whole())


@pytest.mark.parametrize("direct", [False, True])
def test_states_and_residuals_equal_the_naive_loop(direct):
    model = make_model(direct=direct)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    states = run_states(model, batch)
    naive = [row for x in X for row in naive_run(model, x)]
    for name, column in (("z", 0), ("h", 1), ("previous", 2)):
        close(getattr(states, name), np.array([row[column] for row in naive]))
    expected = np.concatenate([naive_residuals(model, x, y) for x, y in zip(X, Y, strict=True)])
    close(residual_rows(model, batch), expected)
    close(batch.targets - predict_rows(model, batch, states), expected)


def test_states_without_recurrence_equal_the_naive_loop():
    model = make_model().replace(recurrent_weights=None)
    X, Y = make_data()
    states = run_states(model, as_sequences(X, Y).whole())
    naive = [row for x in X for row in naive_run(model, x)]
    for name, column in (("z", 0), ("h", 1), ("previous", 2)):
        close(getattr(states, name), np.array([row[column] for row in naive]))


def test_pieces_with_enough_warm_up_have_the_states_of_the_whole():
    model = make_model()
    X, _ = make_data(lengths=(60,))
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
    close(found, whole.z, 0.5**40 + ALGEBRA)


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
    close(contraction.outputs, B)
    close(contraction.inputs, np.stack(D))
    close(contraction.overlap, np.stack(psi))
    scale = np.sqrt(np.abs(np.diag(psi[0])))
    assert contraction.condition == pytest.approx(np.linalg.cond(psi[0] / np.outer(scale, scale)))


def contract(tensor, b, first, second=None, orders=(0, 0)):
    """tensor(b, first, .., first, second, .., second)."""
    value = np.tensordot(b, tensor, (0, 0))
    for vector, times in ((first, orders[0]), (second, orders[1])):
        for _ in range(times):
            value = np.tensordot(vector, value, (0, 0))
    return float(value)


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("degree", [2, 3])
def test_instrument_sums_equal_the_contracted_score_tensors(degree, var_order):
    """sum_t Psi^-1 [ r_t (x) S_{l-1}(t) (B_i, D_i, ..) ] g_t^T / (l! c_l), step by step."""
    model, chain = make_model(degree), make_chain(order=var_order)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    contraction = Contraction.of(model, chain.precision_blocks(0))
    B, D, psi = explicit_contraction(model, chain)
    k = model.n_hidden
    cross, gram, surrogates = np.zeros((k, k + 1)), np.zeros((k + 1, k + 1)), []
    for x, y, S in zip(X, Y, partial_score(chain, X, degree - 1), strict=True):
        types, residuals = types_of(chain, x), naive_residuals(model, x, y)
        for t, (_, _, previous) in enumerate(naive_run(model, x)):
            moment = np.multiply.outer(residuals[t], S[t])
            contracted = [
                contract(moment, B[i], D[types[t]][i], orders=(degree - 1, 0)) for i in range(k)
            ]
            p = np.linalg.solve(psi[types[t]], contracted) / factorial(degree)
            g = np.append(previous, 1.0)
            cross += np.outer(p, g)
            gram += np.outer(g, g)
            surrogates.append(p)
    sums = instrument_sums(batch, model, chain, contraction)
    close(sums.cross, cross)
    close(sums.gram, gram)
    assert sums.n_rows == sum(LENGTHS)
    residuals = residual_rows(model, batch)
    found = pseudo_observations(batch, model, chain, residuals, contraction)
    close(found, np.array(surrogates))


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("degree", [2, 3])
def test_cross_sums_equal_the_contracted_joint_score_tensors(degree, var_order):
    """sum_t Psi^-1 M_t (D A1^T)^{o l}^-T, M_t = r_t (x) S_{l-1,l}(t, t-1)(B_i, D_i.., D_j..)."""
    model, chain = make_model(degree, n_inputs=2), make_chain(n_inputs=2, order=var_order)
    X, Y = make_data(n_inputs=2)
    contraction = Contraction.of(model, chain.precision_blocks(0))
    B, D, psi = explicit_contraction(model, chain)
    k = model.n_hidden
    total, n_rows = np.zeros((k, k)), 0
    orders = (degree - 1, degree)
    for x, y, S in zip(X, Y, joint_score(chain, X, orders), strict=True):
        types, residuals = types_of(chain, x), naive_residuals(model, x, y)
        for t in range(1, len(x)):
            now, before = types[t], types[t - 1]
            moment = np.multiply.outer(residuals[t], S[t - 1])
            M = np.zeros((k, k))
            for i, j in product(range(k), repeat=2):
                M[i, j] = contract(moment, B[i], D[now][i], D[before][j], orders)
            inner = (D[before] @ model.input_weights.T) ** degree
            total += np.linalg.inv(psi[now]) @ M @ np.linalg.inv(inner).T
            n_rows += 1
    sums = cross_sums(as_sequences(X, Y).whole(), model, chain, contraction)
    assert sums.n_rows == n_rows
    close(sums.moment, total)


def test_score_sums_equal_the_contracted_score_tensors():
    """sum_t (A2^+ y_t)_i S_4(t-1)(v_m, v_m, v_n, v_n), v the dual vectors of the rows of A1."""
    model, chain = make_model(), make_chain()
    X, Y = make_data()
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
    close(sums.moment, expected)
    residual = residual_rows(model, batch)
    other = score_sums(batch, model, chain, residuals=residual)
    shifted = as_sequences(X, np.split(residual, np.cumsum(LENGTHS)[:-1])).whole()
    close(other.moment, score_sums(shifted, model, chain).moment)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("degree", [2, 3])
def test_linearised_sums_equal_the_naive_loop(degree, direct, bias, recurrent):
    model = make_model(degree, direct=direct)
    X, Y = make_data()
    k, q = model.n_hidden, model.n_outputs
    Q, R, P = [], [], []
    for x, y in zip(X, Y, strict=True):
        residuals = naive_residuals(model, x, y)
        for t, (z, h, previous) in enumerate(naive_run(model, x)):
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
        close(sums.unit_gram, Q.T @ Q)
        close(sums.unit_cross, Q.T @ R)
        close(sums.mixed, Q.T @ P)
    else:
        assert sums.unit_gram.shape == (0, 0)
    close(sums.gram, P.T @ P)
    close(sums.cross, P.T @ R)


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
    X, Y = make_data()
    whole = run_pass(name, as_sequences(X, Y).whole(), model, chain)
    total = None
    for x, y in zip(X, Y, strict=True):
        part = run_pass(name, as_sequences([x], [y]).whole(), model, chain)
        total = part if total is None else total.merge(part)
    for field in vars(whole):
        close(np.asarray(getattr(total, field), float), np.asarray(getattr(whole, field), float))


@pytest.mark.parametrize("name", PASSES)
def test_pieces_with_warm_up_equal_whole_sequences(name):
    model, chain = make_model(), make_chain(order=2)
    X, Y = make_data(lengths=(90, 7))
    data = as_sequences(X, Y)
    whole = run_pass(name, data.whole(), model, chain)
    total = None
    for batch in data.batches(30, segment=20, before=45, after=chain.context[1]):
        part = run_pass(name, batch, model, chain)
        total = part if total is None else total.merge(part)
    assert total.n_rows == whole.n_rows
    for field in vars(whole):
        close(
            np.asarray(getattr(total, field), float),
            np.asarray(getattr(whole, field), float),
            100 * ALGEBRA,
        )


def test_degree_of_anything_but_a_polynomial_is_refused():
    with pytest.raises(TypeError, match="need a polynomial activation, the model has tanh"):
        top_degree(make_model().replace(activation="tanh"))
    assert top_degree(make_model(3)) == (3, 1.0)
