"""Population moments in, weights of a bidirectional network out, up to its symmetries.

The first moment is the closed form :eq:`first-moment`; the stages after it take noise-free data,
of which the identities hold for any average, and the library's own path from there.
"""

from functools import cache
from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from helpers import recovery
from helpers.generators import with_biases
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Engine, Source
from gloree.models import BRNN, IORNN
from gloree.recurrence import (
    Contraction,
    CrossSums,
    TwoSidedFit,
    bidirectional_model,
    choose_directions,
    cross_update,
    instrument_update,
    linearised_sums,
    linearised_update,
    two_sided_spread,
    two_sided_sums,
)
from gloree.refinement import GaussNewton, Layout, RefinementStatus, SquaredError
from gloree.sequences import as_sequences

# The criterion: relative error of every weight matrix. Condition numbers of the linear systems
# are below 1e4 in all of these, so that rounding stays a factor 1e4 below it.
RECOVERY = 1e-8

SEEDS = first_of(range(20), 2)
# (inputs, hidden, outputs), half of the hidden units in either direction
SIZES = [(20, 10, 10), (12, 8, 4), (10, 5, 5)]
CASES = [(size, degree) for size in SIZES for degree in (2, 3)]


@cache
def simulated(size, degree, seed):
    """Noise-free sequences, the network that made them, and the law of their inputs."""
    return datasets.make_rnn(
        400, 8, *size, degree=degree, bidirectional=True, noise=0.0, random_state=seed
    )


def without_recurrence(truth):
    return IORNN(
        truth.input_weights, None, truth.output_weights, activation=truth.activation
    ).canonical()


@cache
def first_stage(size, degree, seed):
    _, Y, truth, chain = simulated(size, degree, seed)
    return recovery.first_stage(truth, chain, Y, degree, seed)


@cache
def turned(size, degree, seed):
    """Directions of the units and their network, from the regression on both neighbours."""
    X, Y, _, _ = simulated(size, degree, seed)
    _, model = first_stage(size, degree, seed)
    batch = as_sequences(X, Y).whole()
    fit = TwoSidedFit.of(two_sided_sums(batch, model), model)
    found = choose_directions(fit, two_sided_spread(batch, model, fit))
    return found, bidirectional_model(model, found)


def assert_recovered(model, truth, names=None):
    recovery.assert_recovered(model, truth, RECOVERY, names)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_first_moment_gives_all_units_of_both_directions(size, degree, seed):
    truth = simulated(size, degree, seed)[2]
    found, model = first_stage(size, degree, seed)
    assert found.status.ok
    names = ["input_weights", "output_weights"]
    assert_recovered(model, without_recurrence(truth), names)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_directions_of_the_recovered_units_are_those_of_the_truth(size, degree, seed):
    truth = simulated(size, degree, seed)[2]
    model = first_stage(size, degree, seed)[1]
    found, network = turned(size, degree, seed)
    unit = np.argmax(np.abs(model.input_weights @ truth.input_weights.T), axis=1)
    np.testing.assert_array_equal(found.forward, unit < truth.n_forward)
    assert (network.n_forward, network.n_backward) == (truth.n_forward, truth.n_backward)
    names = ["forward_input_weights", "backward_input_weights", "output_weights"]
    assert_recovered(network, truth, names)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_linearised_solves_converge_to_both_recurrences(size, degree, seed):
    """From the closed form of T to all weights: C, directions, then U, V, A2 and c together."""
    X, Y, truth, _ = simulated(size, degree, seed)
    model = turned(size, degree, seed)[1]
    batch = as_sequences(X, Y).whole()
    for _ in range(40):
        sums = linearised_sums(batch, model, bias=False)
        change = linearised_update(sums, model, ridge=0.0)
        model = change.apply(model)
        if np.linalg.norm(change.recurrent) < RECOVERY**2:
            break
    assert_recovered(model, truth)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_instrument_moment_gives_both_recurrences_and_biases(size, degree, seed):
    """E[(z - z^) g] E[g g]^-1, g = (h_{t-1}, 1) or (w_{t+1}, 1), when the states are the true ones.

    The states are those of a sample: the identity holds for any average over them.
    """
    X, _, truth, _ = simulated(size, degree, seed)
    truth = with_biases(truth, seed)
    start, sums = recovery.exact_instruments(truth, X)
    W, b = instrument_update(sums, ridge=0.0, n_forward=truth.n_forward)
    recovered = start.replace(recurrent_weights=W, hidden_bias=b)
    names = ["forward_recurrent_weights", "backward_recurrent_weights", "hidden_bias"]
    assert_recovered(recovered, truth, names)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("size", "degree"), [((12, 8, 4), 2), ((10, 5, 5), 2), ((10, 5, 5), 3)])
def test_instrument_sweeps_contract_to_both_recurrences(size, degree, seed):
    """With the model's own states as instruments, U^ -> U and V^ -> V, at the rate of |U|."""
    X, _, truth, _ = simulated(size, degree, seed)
    truth = recovery.calmed(truth, seed)
    sweeps = recovery.instrument_sweeps(truth, X, 60, until=RECOVERY / 10)
    errors = [error for _, error in sweeps]
    assert all(b < 0.8 * a for a, b in pairwise(errors))
    assert_recovered(sweeps[-1][0], truth)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "degree"), CASES)
def test_cross_moment_gives_both_recurrences(size, degree, seed):
    """(l!)^2 sum_ij U_ij A2_i (x) c_i^(l-1) (x) c_j^l with t - 1, and the same of V with t + 1,
    contracted along the recovered weights of all units."""
    _, _, truth, chain = simulated(size, degree, seed)
    _, model = turned(size, degree, seed)
    contraction = Contraction.of(model, chain.precision_blocks(0))
    C, A2, cut = truth.input_weights, truth.output_weights, truth.n_forward
    n_rows, total = 5.0, np.zeros_like(truth.recurrent_weights)
    D = contraction.inputs[0]
    overlap = (contraction.outputs @ A2.T) * (D @ C.T) ** (degree - 1)
    inner = (D @ model.input_weights.T) ** degree
    for units in (slice(0, cut), slice(cut, None)):
        one_way = np.zeros_like(total)
        one_way[units, units] = truth.recurrent_weights[units, units]
        moment = factorial(degree) ** 2 * overlap @ one_way @ ((D @ C.T) ** degree).T
        solved = np.linalg.solve(contraction.overlap[0], n_rows * moment)
        total[units, units] = np.linalg.solve(inner, solved.T).T[units, units]
    W = cross_update(CrossSums(n_rows, total), degree, 1.0)
    assert_recovered(model.replace(recurrent_weights=W), truth)


def nearby(truth, seed, size=0.05):
    """All weights moved by a few percent of their norm."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name in truth.weight_names[:5]:
        value = getattr(truth, name)
        step = rng.standard_normal(value.shape)
        moved[name] = value + size * np.linalg.norm(value) / np.linalg.norm(step) * step
    return truth.replace(**moved)


@pytest.mark.parametrize("seed", first_of(range(10), 3))
@pytest.mark.parametrize(("size", "degree"), [((6, 4, 4), 2), ((6, 3, 2), 2), ((6, 4, 4), 3)])
def test_gauss_newton_reaches_the_truth_from_a_near_start(size, degree, seed):
    X, Y, truth, _ = simulated(size, degree, seed)
    layout = Layout(size[0], size[1], size[2], bias=False, n_backward=truth.n_backward)
    source = Source(as_sequences(X, Y))
    start = nearby(truth, seed)
    result = GaussNewton(to_convergence=True).minimise(
        SquaredError(), start, layout, Engine("serial"), source
    )
    assert isinstance(result.model, BRNN)
    assert result.status in (RefinementStatus.CONVERGED, RefinementStatus.NO_DECREASE)
    assert_recovered(result.model, truth)


@pytest.mark.parametrize("split", [(3, 0), (0, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_of_a_single_direction_reaches_the_truth(split, seed):
    """Chains of no units take no part."""
    truth = datasets.random_brnn(5, *split, 3, recurrence_norm=0.1, random_state=seed)
    X = np.random.default_rng(seed).standard_normal((200, 8, 5))
    source = Source(as_sequences(X, truth.predict(X)))
    moved = {name: getattr(truth, name) * 1.05 for name in truth.weight_names[:4]}
    layout = Layout(5, 3, 3, bias=False, n_backward=split[1])
    result = GaussNewton(to_convergence=True).minimise(
        SquaredError(), truth.replace(**moved), layout, Engine("serial"), source
    )
    name = "forward" if split[0] else "backward"
    names = [f"{name}_input_weights", f"{name}_recurrent_weights", "output_weights"]
    assert_recovered(result.model, truth, names)


@pytest.mark.slow
@pytest.mark.parametrize("seed", first_of(range(3)))
def test_noise_free_data_give_all_weights_from_nothing(seed):
    """The whole method: no law of the inputs, no directions and no start are given."""
    X, Y, truth, _ = datasets.make_rnn(
        1000, 10, 8, 4, 4, bidirectional=True, noise=0.0, random_state=seed
    )
    found = SpectralRNNRegressor(n_hidden=4, bidirectional=True, random_state=0).fit(X, Y)
    assert_recovered(found.model_, truth)
