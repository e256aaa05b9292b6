"""Population moments in, weights out: exact to rounding, up to the symmetries of the network.

The moments are closed forms, :eq:`first-moment` and :eq:`cross-recurrence`, or sums over
Gauss-Hermite nodes of short sequences; everything after them is the library's own path.
"""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from helpers import naive, recovery
from helpers.generators import stable_chain, with_biases
from helpers.marks import first_of
from helpers.quadrature import grid

from gloree import datasets
from gloree.decomposition import cp_tensor, decompose
from gloree.models import IORNN
from gloree.moments import Coordinates, cross_moment_sums
from gloree.recurrence import (
    Contraction,
    CrossSums,
    InstrumentSums,
    ScoreSums,
    cross_sums,
    cross_update,
    instrument_sums,
    instrument_update,
    pseudo_observations,
    score_sums,
    score_update,
)
from gloree.refinement import Layout, first_model
from gloree.sequences import as_sequences
from gloree.states import residual_rows, run_states

# The criterion: relative error of every weight matrix. Condition numbers of the linear systems
# are below 1e4 in all of these, so that rounding stays a factor 1e4 below it.
RECOVERY = 1e-8

# Quadrature adds up to 1e6 terms that reach far into the tails.
QUADRATURE = 1e-8

# Sweeps whose errors are below this no longer shrink.
ROUNDING = 1e-10

SEEDS = first_of(range(20), 2)
SIZES = [(20, 10, 10), (10, 10, 4), (20, 5, 5)]
OVERCOMPLETE = [((4, 6, 8), 2), ((4, 6, 3), 3)]
CASES = [(size, degree) for size in SIZES for degree in (2, 3)] + OVERCOMPLETE


@cache
def simulated(size, degree, seed):
    return datasets.make_rnn(40, 6, *size, degree=degree, random_state=seed)


@cache
def first_stage(size, degree, seed):
    _, Y, truth, chain = simulated(size, degree, seed)
    return recovery.first_stage(truth, chain, Y, degree, seed)


def assert_recovered(model, truth, names, tolerance=RECOVERY):
    recovery.assert_recovered(model, truth, tolerance, names)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_first_moment_gives_input_and_output_weights(size, degree, seed):
    truth = simulated(size, degree, seed)[2]
    found, model = first_stage(size, degree, seed)
    assert found.status.ok
    assert_recovered(model, truth, ["input_weights", "output_weights"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_cross_moment_gives_the_recurrence(size, degree, seed):
    """(b): (l!)^2 sum_ij U_ij A2_i (x) a_i^(l-1) (x) a_j^l, contracted along recovered weights.

    The inner matrix (A1 K^-1 A1^T)^{o l} of the units' inputs is invertible here, overcomplete
    networks included.
    """
    _, _, truth, chain = simulated(size, degree, seed)
    _, model = first_stage(size, degree, seed)
    covariances = chain.precision_blocks(0)
    contraction = Contraction.of(model, covariances)
    A1, A2 = truth.input_weights, truth.output_weights
    n_rows = 7.0
    total = 0.0
    # interior steps, and a last step after an interior one
    for now, before in ((0, 0), (2, 0)):
        D, E = contraction.inputs[now], contraction.inputs[before]
        moment = factorial(degree) ** 2 * (
            ((contraction.outputs @ A2.T) * (D @ A1.T) ** (degree - 1))
            @ truth.recurrent_weights
            @ ((E @ A1.T) ** degree).T
        )
        inner = (E @ model.input_weights.T) ** degree
        solved = np.linalg.solve(contraction.overlap[now], moment)
        total = total + n_rows / 2 * np.linalg.solve(inner, solved.T).T
    U = cross_update(CrossSums(n_rows, total), degree, 1.0)
    assert_recovered(
        model.replace(recurrent_weights=U),
        truth,
        ["input_weights", "recurrent_weights", "output_weights"],
    )


def true_unit_of(model, truth):
    """For each unit of `model`, the unit of the truth with the same input weights."""
    return np.argmax(np.abs(model.input_weights @ truth.input_weights.T), axis=1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [(20, 10, 10), (20, 5, 5)])
def test_score_moment_gives_the_recurrence_up_to_signs_of_rows(size, seed):
    """(a): 4! sum_i A2_i (x) sym[(sum_j U_ij a_j a_j^T)^2], contracted along dual vectors."""
    truth = simulated(size, 2, seed)[2]
    _, model = first_stage(size, 2, seed)
    A1, A2, U = truth.input_weights, truth.output_weights, truth.recurrent_weights
    dual = np.linalg.pinv(model.input_weights).T
    along = dual @ A1.T
    M = np.einsum("ij,mj,nj->imn", U, along, along)
    diagonal = np.einsum("imm->im", M)
    symmetric = (np.einsum("im,in->imn", diagonal, diagonal) + 2 * M**2) / 3
    weights = A2 @ np.linalg.pinv(model.output_weights)
    moment = factorial(4) * np.einsum("ir,imn->rmn", weights, symmetric)
    n_rows = 3.0
    found = score_update(ScoreSums(n_rows, n_rows * moment), 1.0)
    # in the order of the recovered units; scales are one, and the sign of a_i cancels in a_j^2
    order = true_unit_of(model, truth)
    expected = U[np.ix_(order, order)]
    size_of = np.linalg.norm(expected)
    assert np.linalg.norm(np.abs(found) - np.abs(expected)) <= RECOVERY * size_of
    signs = np.sign(np.sum(found * expected, axis=1))
    assert np.linalg.norm(signs[:, None] * found - expected) <= RECOVERY * size_of


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_instrument_moment_gives_recurrence_and_bias(size, degree, seed):
    """(c): E[(z - z^) g] E[(h_{t-1}, 1) g]^-1 = (U, b) when z^ = A1 x and h is the true state.

    The states are those of a sample: the identity holds for any average over them.
    """
    X, _, truth, _ = simulated(size, degree, seed)
    truth = with_biases(truth, seed)
    start, sums = recovery.exact_instruments(truth, X)
    U, b = instrument_update(sums, ridge=0.0)
    recovered = start.replace(recurrent_weights=U, hidden_bias=b)
    assert_recovered(recovered, truth, ["recurrent_weights", "hidden_bias"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("size", "degree"), [((20, 5, 5), 2), ((4, 6, 8), 2), ((20, 5, 5), 3)])
def test_instrument_sweeps_contract_to_the_recurrence(size, degree, seed):
    """With the model's own states as instruments, U^ -> U: the truth is the fixed point.

    Eight sweeps; the rate is of the order of |U| times the size of the states.
    """
    X, _, truth, _ = simulated(size, degree, seed)
    truth = recovery.calmed(truth, seed)
    errors = [error for _, error in recovery.instrument_sweeps(truth, X, 8)]
    assert all(b < 0.7 * a for a, b in pairwise(errors) if a > ROUNDING)
    assert errors[-1] < 0.02 * errors[0]


# ---------------------------------------------------------------- exact expectations by quadrature

IDENTITY = Coordinates(np.eye(2), np.eye(2))


def small_network(seed, degree, n_inputs=2, n_hidden=2, n_outputs=2):
    rng = np.random.default_rng(seed)
    return IORNN(
        rng.standard_normal((n_hidden, n_inputs)),
        0.3 * rng.standard_normal((n_hidden, n_hidden)),
        rng.standard_normal((n_hidden, n_outputs)),
        0.5 * rng.standard_normal(n_hidden),
        rng.standard_normal(n_outputs),
        activation="quadratic" if degree == 2 else "cubic",
    )


def quadrature_batch(chain, model, n_steps, degree):
    """A batch whose sequences are the nodes, and the weight of each row."""
    X, mass = grid(chain, n_steps, degree)
    batch = as_sequences(X, naive.predictions(model, X)).whole()
    return batch, np.repeat(mass, n_steps)


@pytest.mark.parametrize(("degree", "n_steps"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("var_order", [1, 2])
def test_weighted_nodes_give_the_first_moment(degree, n_steps, var_order):
    """Rows are nodes with weights: the accumulated T is l! c_l sum_i A2_i (x) a_i^(x)l."""
    chain = stable_chain(0, 2, var_order)
    model = small_network(1, degree)
    batch, weights = quadrature_batch(chain, model, n_steps, degree**n_steps + degree)
    sums = cross_moment_sums(replace(batch, weights=weights), chain, degree)
    loadings = factorial(degree) * model.output_weights
    expected = cp_tensor(loadings, model.input_weights, degree)
    assert sums.n_rows == pytest.approx(n_steps)
    for centre in (False, True):
        np.testing.assert_allclose(
            sums.finalize(centre=centre), expected, rtol=0, atol=QUADRATURE * np.abs(expected).max()
        )


@pytest.mark.parametrize("degree", [2, 3])
def test_weighted_nodes_give_all_weights(degree):
    """Quadrature moments through every stage: A1, A2, then U and b by the instrument."""
    chain = stable_chain(2, 2)
    truth = small_network(3, degree).canonical()
    n_steps = 2
    growth = degree**n_steps + degree ** (n_steps - 1) + degree
    batch, weights = quadrature_batch(chain, truth, n_steps, growth)
    T = cross_moment_sums(replace(batch, weights=weights), chain, degree).finalize()
    found = decompose(T, 2, random_state=0)
    layout = Layout(2, 2, 2)
    # the canonical form has the order and the signs of the truth
    model = first_model(found, IDENTITY, truth.activation, np.zeros(2), layout)
    contraction = Contraction.of(model, chain.precision_blocks(0))
    p = pseudo_observations(batch, model, chain, batch.targets, contraction)
    g = np.column_stack((run_states(truth, batch).previous, np.ones(batch.n_rows)))
    after = batch.local >= 1
    weighted = weights[after, None] * g[after]
    left = (p - batch.X @ model.input_weights.T)[after].T @ weighted
    sums = InstrumentSums(float(n_steps - 1), left, weighted.T @ g[after])
    U, b = instrument_update(sums, ridge=0.0)
    recovered = model.replace(recurrent_weights=U, hidden_bias=b)
    names = ["input_weights", "recurrent_weights", "output_weights", "hidden_bias"]
    # the quadrature of T, then two linear systems on top of it
    assert_recovered(recovered, truth, names, 10 * QUADRATURE)


@pytest.mark.slow
@pytest.mark.parametrize(("degree", "n_steps"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("n_outputs", first_of([1, 2]))
def test_pseudo_observations_have_the_mean_of_the_preactivations(degree, n_steps, n_outputs):
    """E[p_t g] = E[(z_t - z^_t) g], U^ and b^ wrong, at first, interior and last steps."""
    chain = stable_chain(4, 2)
    truth = small_network(5, degree, n_outputs=n_outputs)
    other = small_network(6, degree, n_outputs=n_outputs)
    model = other.replace(
        input_weights=truth.input_weights, output_weights=truth.output_weights, output_bias=None
    )
    growth = degree**n_steps + degree ** (n_steps - 1) + degree
    batch, weights = quadrature_batch(chain, truth, n_steps, growth)
    contraction = Contraction.of(model, chain.precision_blocks(0), np.eye(n_outputs) * 2.0)
    residuals = residual_rows(model, batch)
    p = pseudo_observations(batch, model, chain, residuals, contraction)
    z, states = run_states(truth, batch).z, run_states(model, batch)
    g = np.column_stack((states.previous, np.ones(batch.n_rows)))
    for t in range(n_steps):
        rows = batch.local == t
        weighted = weights[rows, None] * g[rows]
        expected = (z - states.z)[rows].T @ weighted
        scale = max(1.0, np.abs(expected).max()) * contraction.condition
        np.testing.assert_allclose(p[rows].T @ weighted, expected, rtol=0, atol=QUADRATURE * scale)


def weighted_residuals(batch, weights):
    """Moments are linear in the residuals: weights on them are weights on the nodes."""
    return batch.targets * weights[:, None]


@pytest.mark.parametrize(("degree", "n_steps"), [(2, 3), (3, 2)])
def test_cross_sums_over_the_nodes_give_the_recurrence(degree, n_steps):
    chain = stable_chain(7, 2)
    truth = small_network(8, degree)
    growth = degree**n_steps + 2 * degree - 1
    batch, weights = quadrature_batch(chain, truth, n_steps, growth)
    contraction = Contraction.of(truth, chain.precision_blocks(0))
    sums = cross_sums(
        batch, truth, chain, contraction, residuals=weighted_residuals(batch, weights)
    )
    sums = CrossSums(float(n_steps - 1), sums.moment)
    np.testing.assert_allclose(
        cross_update(sums, degree, 1.0),
        truth.recurrent_weights,
        rtol=0,
        atol=QUADRATURE * contraction.condition,
    )


@pytest.mark.parametrize("n_steps", [2, 3])
def test_score_sums_over_the_nodes_give_the_recurrence_up_to_signs(n_steps):
    chain = stable_chain(9, 2)
    truth = small_network(10, 2)
    batch, weights = quadrature_batch(chain, truth, n_steps, 2**n_steps + 4)
    sums = score_sums(batch, truth, chain, residuals=weighted_residuals(batch, weights))
    U = score_update(ScoreSums(float(n_steps - 1), sums.moment), 1.0)
    expected = truth.recurrent_weights
    signs = np.sign(np.sum(U * expected, axis=1))
    assert np.all(U[np.arange(2), np.argmax(np.abs(U), axis=1)] > 0)
    np.testing.assert_allclose(signs[:, None] * U, expected, rtol=0, atol=10 * QUADRATURE)


def test_instrument_sums_over_the_nodes_are_the_moment_of_the_identity():
    """The accumulator itself: sum p g^T over weighted residuals is sum_t E[(z - z^) g^T]."""
    chain = stable_chain(11, 2)
    truth = small_network(12, 2)
    model = truth.replace(recurrent_weights=0.5 * truth.recurrent_weights, hidden_bias=None)
    batch, weights = quadrature_batch(chain, truth, 3, 13)
    contraction = Contraction.of(model, chain.precision_blocks(0))
    residuals = residual_rows(model, batch) * weights[:, None]
    sums = instrument_sums(batch, model, chain, contraction, residuals=residuals)
    states = run_states(model, batch)
    g = np.column_stack((states.previous, np.ones(batch.n_rows)))
    difference = run_states(truth, batch).z - states.z
    expected = (weights[:, None] * difference).T @ g
    scale = np.abs(expected).max() * contraction.condition
    np.testing.assert_allclose(sums.cross, expected, rtol=0, atol=QUADRATURE * scale)
