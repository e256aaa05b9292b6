"""Every identity that GLOREE-B rests on (:doc:`/theory/bidirectional`), exact at every step.

Expectations are sums over Gauss-Hermite nodes; the networks of the oracle are plain loops.
"""

from dataclasses import replace
from itertools import product
from math import factorial

import numpy as np
import pytest
from helpers.generators import stable_chain
from helpers.marks import first_of
from helpers.quadrature import (
    ALGEBRA,
    CUBIC,
    QUADRATIC,
    assert_close,
    grid,
    make_two_way,
    mean,
    polynomial,
)
from helpers.tensors import power, rank_one_sum

from gloree.activations import Polynomial
from gloree.models import BRNN, IORNN
from gloree.recurrence import (
    Contraction,
    CrossSums,
    InstrumentSums,
    TwoSidedFit,
    cross_sums,
    cross_update,
    instrument_sums,
    instrument_update,
    linearised_sums,
    linearised_update,
    pseudo_observations,
    two_sided_sums,
)
from gloree.score_functions import joint_score, partial_score
from gloree.sequences import as_sequences
from gloree.states import residual_rows, run_states

# Quadrature adds up to 1e6 terms that reach far into the tails.
QUADRATURE = 1e-8

# (f, inputs, steps, order of the chain): small enough for grids, with an interior where affordable.
GRIDS = {
    "quadratic": (QUADRATIC, 2, 3, 1),
    "quadratic, chain of order 2": (QUADRATIC, 1, 4, 2),
    "cubic, two steps": (CUBIC, 2, 2, 1),
    "cubic, one input": (CUBIC, 1, 3, 1),
}


def library_model(network):
    """The same weights as a model of the library."""
    return BRNN(
        network.forward.A1,
        network.forward.U,
        network.backward.A1,
        network.backward.U,
        network.A2,
        network.b,
        network.forward.c,
        activation=Polynomial(tuple(network.forward.f.coef)),
    )


def nodes(name, seed, extra):
    """Network, chain, and nodes that integrate y_t times a polynomial of degree `extra`."""
    f, n_inputs, n_steps, order = GRIDS[name]
    chain = stable_chain(seed, n_inputs, order)
    # one input leaves the rows of C parallel: three outputs keep the overlap regular;
    # long compositions grow: smaller weights keep the terms of a sum near its value
    network = make_two_way(seed + 1, n_inputs, f, n_outputs=3, scale=1.0 if n_inputs > 1 else 0.3)
    X, w = grid(chain, n_steps, degree=f.degree() ** n_steps + extra)
    return network, chain, X, w


# ------------------------------------------------------------------------------------ first moment


@pytest.mark.parametrize("name", GRIDS)
def test_first_moment_is_the_sum_over_the_stack_at_every_step(name):
    """E[y_t (x) S_l(t)] = l! c_l sum over C = [A1; B1] of A2_i (x) c_i^(x)l, ends included."""
    f = GRIDS[name][0]
    degree = f.degree()
    network, chain, X, w = nodes(name, 0, extra=degree)
    y, S = network.outputs(X), partial_score(chain, X, degree)
    expected = factorial(degree) * f.coef[degree] * rank_one_sum(network.A2, network.C, degree)
    for t in range(X.shape[1]):
        assert_close(mean(w, y[:, t], S[:, t]), expected)


def test_first_moment_of_a_cubic_at_an_interior_step_of_two_inputs():
    """The second of three steps, where y has degree 9 only."""
    chain, network = stable_chain(10, 2), make_two_way(11, 2, CUBIC)
    X, w = grid(chain, 3, degree=12)
    y, S = network.outputs(X), partial_score(chain, X, 3)
    expected = factorial(3) * CUBIC.coef[3] * rank_one_sum(network.A2, network.C, 3)
    assert_close(mean(w, y[:, 1], S[:, 1]), expected)


def test_first_moment_of_residuals_corrects_a_memoryless_model():
    """mu(theta^) + E[(y - y^) (x) S_2] = T for U^ = V^ = 0 and wrong C, A2: directions unknown."""
    chain, truth = stable_chain(12, 2), make_two_way(13, 2, QUADRATIC)
    model = make_two_way(14, 2, QUADRATIC)
    for part in (model.forward, model.backward):
        part.U = np.zeros_like(part.U)
    X, w = grid(chain, 3, degree=10)
    residual, S = truth.outputs(X) - model.outputs(X), partial_score(chain, X, 2)
    top = 2 * QUADRATIC.coef[2]
    for t in range(3):
        corrected = top * rank_one_sum(model.A2, model.C, 2) + mean(w, residual[:, t], S[:, t])
        assert_close(corrected, top * rank_one_sum(truth.A2, truth.C, 2))


@pytest.mark.parametrize("name", GRIDS)
def test_bias_moment_holds_the_means_of_both_neighbours(name):
    """E[y_t (x) S_{l-1}(t)]: E[z_i] = c_i.E[x] + U_i.E[h_{t-1}] or V_i.E[w_{t+1}], + b_i."""
    f = GRIDS[name][0]
    degree = f.degree()
    network, chain, X, w = nodes(name, 20, extra=degree)
    y, S = network.outputs(X), partial_score(chain, X, degree - 1)
    h, v = network.forward.run(X)[1], network.backward.run(X)[1]
    for t in range(X.shape[1]):
        past = mean(w, h[:, t - 1]) if t else np.zeros(2)
        future = mean(w, v[:, t + 1]) if t + 1 < X.shape[1] else np.zeros(1)
        fed = np.concatenate((network.forward.U @ past, network.backward.U @ future))
        mean_z = network.C @ chain.mean + fed + network.b
        gains = factorial(degree) * f.coef[degree] * mean_z
        gains += factorial(degree - 1) * f.coef[degree - 1]
        expected = rank_one_sum(gains[:, None] * network.A2, network.C, degree - 1)
        assert_close(mean(w, y[:, t], S[:, t]), expected)


# ------------------------------------------------------------------------------------- instruments


@pytest.mark.parametrize("name", first_of(GRIDS, 2))
def test_instrument_moment_of_any_function_of_the_other_inputs(name):
    """M_g = sum_i A2_i (x) c_i^(l-1) (l! c_l E[z_i g] + (l-1)! c_{l-1} E[g]), g past and future."""
    f, _, n_steps, _ = GRIDS[name]
    degree = f.degree()
    network, chain, X, w = nodes(name, 30, extra=degree + 1 + degree ** (n_steps - 1))
    y, S = network.outputs(X), partial_score(chain, X, degree - 1)
    z, s = network.run(X)
    for t in range(n_steps):
        past = s[:, t - 1, 0] if t else np.ones(len(w))
        future = s[:, t + 1, 2] if t + 1 < n_steps else np.ones(len(w))
        mixed = (X[:, t - 1, 0] if t else 1.0) * (X[:, t + 1, 0] if t + 1 < n_steps else 1.0)
        for g in (np.ones(len(w)), past, future, mixed * np.ones(len(w))):
            gains = factorial(degree) * f.coef[degree] * mean(w, z[:, t], g)
            gains = gains + factorial(degree - 1) * f.coef[degree - 1] * mean(w, g)
            expected = rank_one_sum(gains[:, None] * network.A2, network.C, degree - 1)
            assert_close(mean(w, y[:, t], S[:, t], g), expected)


@pytest.mark.parametrize("metric", first_of([None, np.diag([2.0, 1.0, 0.5])], 4))
@pytest.mark.parametrize("name", GRIDS)
def test_pseudo_observations_have_the_mean_of_the_preactivations(name, metric):
    """E[p_t g] = E[(z_t - z^_t) g] for past and future states, U^, V^ and b^ wrong."""
    f, _, n_steps, _ = GRIDS[name]
    degree = f.degree()
    network, chain, X, w = nodes(name, 40, extra=degree - 1 + degree ** (n_steps - 1))
    truth = library_model(network)
    model = truth.replace(
        recurrent_weights=-0.5 * truth.recurrent_weights,
        hidden_bias=np.array([0.3, -0.2, 0.1]),
        output_bias=None,
    )
    batch = as_sequences(X, network.outputs(X)).whole()
    contraction = Contraction.of(model, chain.precision_blocks(0), metric)
    p = pseudo_observations(batch, model, chain, residual_rows(model, batch), contraction)
    p = p.reshape(len(w), n_steps, 3)
    z, s = network.run(X)
    states = run_states(model, batch)
    difference = z - states.z.reshape(p.shape)
    own = states.h.reshape(p.shape)
    for t in range(n_steps):
        instruments = [np.ones(len(w))]
        # true and estimated states, of units of both directions
        if t > 0:
            instruments += [s[:, t - 1, 0], own[:, t - 1, 1]]
        if t + 1 < n_steps:
            instruments += [s[:, t + 1, 2], own[:, t + 1, 2]]
        for g in instruments:
            expected = mean(w, difference[:, t], g)
            assert_close(mean(w, p[:, t], g), expected, QUADRATURE * contraction.condition)


def memoryless_pseudo_observations(seed, extra):
    """Pseudo-observations of the true network's data at the weights without U and V."""
    network, chain, X, w = nodes("quadratic", seed, extra=extra)
    truth = library_model(network)
    memoryless = IORNN(
        truth.input_weights,
        None,
        truth.output_weights,
        truth.hidden_bias,
        activation=truth.activation,
    )
    batch = as_sequences(X, network.outputs(X)).whole()
    contraction = Contraction.of(memoryless, chain.precision_blocks(0))
    residuals = residual_rows(memoryless, batch)
    p = pseudo_observations(batch, memoryless, chain, residuals, contraction).reshape(-1, 3, 3)
    return network, X, w, memoryless, batch, contraction, p


def test_pseudo_observations_need_the_other_side_of_the_input_only():
    """A memoryless model's own states at either neighbour are instruments for every unit."""
    network, X, w, memoryless, batch, contraction, p = memoryless_pseudo_observations(50, extra=5)
    states = run_states(memoryless, batch)
    z, own = states.z.reshape(p.shape), states.h.reshape(p.shape)
    gap = network.run(X)[0] - z
    for t, other in ((0, 1), (1, 0), (1, 2), (2, 1)):
        expected = mean(w, gap[:, t], own[:, other])
        actual = mean(w, p[:, t], own[:, other])
        assert_close(actual, expected, QUADRATURE * contraction.condition)


@pytest.mark.slow
def test_coefficients_on_the_wrong_side_vanish_in_population():
    """E[p g^T] E[g g^T]^-1 = [U 0 | 0 0; 0 0 | 0 V] for g = (f(C x_{t-1}), f(C x_{t+1}), 1).

    The second of three steps, whose neighbours have states without a recurrence of their own.
    """
    network, _, w, memoryless, batch, contraction, p = memoryless_pseudo_observations(60, extra=6)
    h = run_states(memoryless, batch).h.reshape(p.shape)
    # the states that are no instruments of the truth: a backward unit's past, a forward's future
    g = np.column_stack((h[:, 0], h[:, 2], np.ones(len(w))))
    gram = mean(w, g, g)
    coefficients = np.linalg.solve(gram, mean(w, p[:, 1], g).T).T
    expected = np.zeros((3, 7))
    expected[:2, :2], expected[2, 5] = network.forward.U, network.backward.U[0, 0]
    tolerance = ALGEBRA * np.linalg.cond(gram) * contraction.condition
    assert_close(coefficients, expected, tolerance)


# ------------------------------------------------------- the two-sided regression, without a score


def all_sequences(alphabet, n_steps=3):
    """Every sequence over an alphabet once: independent inputs of a discrete law, exactly."""
    choices = product(range(len(alphabet)), repeat=n_steps)
    return np.array([alphabet[list(choice)] for choice in choices])


def middle_steps(X, Y):
    """A batch in which only the second of three steps counts."""
    batch = as_sequences(X, Y).whole()
    ones = np.ones(len(X), dtype=np.int64)
    return replace(batch, before=ones, after=ones)


@pytest.mark.parametrize("split", [(2, 1), (1, 2), (3, 0), (0, 3)])
def test_two_sided_regression_is_exact_for_independent_symmetric_inputs_of_any_law(split):
    """Linearised, at U = V = 0: Theta^- = [U 0; 0 0], Theta^+ = [0 0; 0 V], no score needed.

    The inputs take ten values, +-v: there is no density. What linearising leaves out, the squares
    of the recurrent part, is even in x_t where the regressors are odd, and goes to the constant.
    """
    rng = np.random.default_rng(70)
    alphabet = rng.standard_normal((5, 2))
    X = all_sequences(np.vstack((alphabet, -alphabet)))
    network = make_two_way(71, 2, polynomial(0.0, 0.0, 1.0), *split, n_outputs=3)
    for part in (network.forward, network.backward):
        part.b[:] = 0.0
    truth = library_model(network)
    memoryless = IORNN(truth.input_weights, None, truth.output_weights)
    batch = middle_steps(X, network.outputs(X))
    sums = two_sided_sums(batch, memoryless)
    fit = TwoSidedFit.of(sums, memoryless, ridge=0.0)
    expected = np.zeros((3, 6))
    cut = split[0]
    expected[:cut, :cut] = truth.forward_recurrent_weights
    expected[cut:, 3 + cut :] = truth.backward_recurrent_weights
    tolerance = ALGEBRA * np.linalg.cond(fit.information) ** 0.5
    assert_close(fit.coefficients, expected, tolerance)


@pytest.mark.parametrize("split", [(2, 1), (1, 2), (3, 0), (0, 3)])
def test_linearised_least_squares_has_the_truth_as_fixed_point(split):
    """At the truth no weight moves, whatever the law of the inputs."""
    rng = np.random.default_rng(72)
    network = make_two_way(73, 3, polynomial(0.0, 0.0, 1.0), *split, n_outputs=3)
    # long sequences need a calm recurrence
    for chain in (network.forward, network.backward):
        chain.U *= 0.1
    truth = library_model(network)
    X = rng.uniform(-1, 1, (100, 5, 3))
    batch = as_sequences(X, network.outputs(X)).whole()
    change = linearised_update(linearised_sums(batch, truth), truth)
    for part in (change.recurrent, change.bias, change.output, change.output_bias):
        assert_close(part, np.zeros_like(part))


# ------------------------------------------------------------------------------------- joint score


@pytest.mark.parametrize("name", GRIDS)
def test_cross_moment_with_the_step_before_gives_the_forward_recurrence(name):
    """E[y_t (x) S_{l-1,l}(t, t-1)] = (l! c_l)^2 sum over forward i, j of U_ij A2_i c_i^(l-1) c_j^l.

    Backward units do not contain x_{t-1} where they meet x_t, so they drop out.
    """
    f, _, n_steps, _ = GRIDS[name]
    degree = f.degree()
    network, chain, X, w = nodes(name, 80, extra=2 * degree - 1)
    y, S = network.outputs(X), joint_score(chain, X, (degree - 1, degree))
    part = network.forward
    expected = sum(
        part.U[i, j]
        * np.multiply.outer(
            part.A2[i], np.multiply.outer(power(part.A1[i], degree - 1), power(part.A1[j], degree))
        )
        for i, j in product(range(2), repeat=2)
    )
    expected = (factorial(degree) * f.coef[degree]) ** 2 * expected
    for t in range(1, n_steps):
        assert_close(mean(w, y[:, t], S[:, t - 1]), expected)


@pytest.mark.parametrize("name", GRIDS)
def test_cross_moment_with_the_step_after_gives_the_backward_recurrence(name):
    """E[y_t (x) S_{l,l-1}(t+1, t)] = (l! c_l)^2 sum over backward of V_ij A2_i c_j^l c_i^(l-1)."""
    f, _, n_steps, _ = GRIDS[name]
    degree = f.degree()
    network, chain, X, w = nodes(name, 90, extra=2 * degree - 1)
    y, S = network.outputs(X), joint_score(chain, X, (degree, degree - 1))
    part = network.backward
    outer = np.multiply.outer(power(part.A1[0], degree), power(part.A1[0], degree - 1))
    expected = (factorial(degree) * f.coef[degree]) ** 2 * part.U[0, 0]
    expected = expected * np.multiply.outer(part.A2[0], outer)
    for t in range(n_steps - 1):
        assert_close(mean(w, y[:, t], S[:, t]), expected)


@pytest.mark.parametrize("split", [(2, 1), (1, 2), (3, 0), (0, 3)])
@pytest.mark.parametrize("name", ["quadratic", "cubic, two steps"])
def test_cross_sums_over_the_nodes_give_both_recurrences(name, split):
    f, n_inputs, n_steps, _ = GRIDS[name]
    degree = f.degree()
    chain = stable_chain(100, n_inputs)
    network = make_two_way(101, n_inputs, f, *split, n_outputs=3)
    X, w = grid(chain, n_steps, degree=degree**n_steps + 2 * degree - 1)
    truth = library_model(network)
    batch = as_sequences(X, network.outputs(X)).whole()
    contraction = Contraction.of(truth, chain.precision_blocks(0))
    weighted = batch.targets * np.repeat(w, n_steps)[:, None]
    sums = cross_sums(batch, truth, chain, contraction, residuals=weighted)
    assert sums.n_rows == len(w) * (n_steps - 1)
    found = cross_update(CrossSums(float(n_steps - 1), sums.moment), degree, f.coef[degree])
    inner = (contraction.inputs[0] @ truth.input_weights.T) ** degree
    tolerance = QUADRATURE * contraction.condition * np.linalg.cond(inner)
    assert_close(found, truth.recurrent_weights, tolerance)


# --------------------------------------------------------------------------- sums and their update


@pytest.mark.parametrize("split", first_of([(2, 1), (1, 2), (3, 0), (0, 3)], 2))
def test_instrument_sums_over_the_nodes_are_the_moment_of_the_identity(split):
    """sum p g^T over weighted residuals is sum_t E[(z - z^) g^T], g = (h^_{t-1}; w^_{t+1}; 1)."""
    chain = stable_chain(110, 2)
    network = make_two_way(111, 2, QUADRATIC, *split, n_outputs=3)
    truth = library_model(network)
    model = truth.replace(recurrent_weights=0.5 * truth.recurrent_weights, hidden_bias=None)
    X, w = grid(chain, 3, degree=13)
    batch = as_sequences(X, network.outputs(X)).whole()
    contraction = Contraction.of(model, chain.precision_blocks(0))
    weights = np.repeat(w, 3)[:, None]
    residuals = residual_rows(model, batch) * weights
    sums = instrument_sums(batch, model, chain, contraction, residuals=residuals)
    states = run_states(model, batch)
    g = np.column_stack((states.previous, np.ones(batch.n_rows)))
    difference = network.run(X)[0].reshape(-1, 3) - states.z
    expected = (weights * difference).T @ g
    assert_close(sums.cross, expected, QUADRATURE * contraction.condition)


@pytest.mark.parametrize("name", ["quadratic", "cubic, two steps"])
def test_one_instrument_update_from_true_states_gives_both_recurrences_and_all_biases(name):
    """(U, b) and (V, b') from E[(z - z^) g] E[g g^T]^-1, each with the states of its own side."""
    f, _, n_steps, _ = GRIDS[name]
    degree = f.degree()
    network, chain, X, w = nodes(name, 120, extra=degree - 1 + degree ** (n_steps - 1))
    truth = library_model(network)
    start = truth.replace(recurrent_weights=None, hidden_bias=None, output_bias=None)
    batch = as_sequences(X, network.outputs(X)).whole()
    contraction = Contraction.of(start, chain.precision_blocks(0))
    p = pseudo_observations(batch, start, chain, residual_rows(start, batch), contraction)
    known = np.column_stack((run_states(truth, batch).previous, np.ones(batch.n_rows)))
    weighted = np.repeat(w, n_steps)[:, None] * known
    sums = InstrumentSums(1.0, p.T @ weighted, weighted.T @ known)
    U, b = instrument_update(sums, ridge=0.0, n_forward=2)
    tolerance = QUADRATURE * contraction.condition * np.linalg.cond(sums.gram)
    assert_close(U, truth.recurrent_weights, tolerance)
    assert_close(b, truth.hidden_bias, tolerance)
