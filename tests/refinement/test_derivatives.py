"""Gradient and J^T J of the prediction error against differences of a naive forward pass."""

from dataclasses import fields

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_close, assert_same_sums
from helpers.derivatives import ALGEBRA, STEP, assert_derivatives
from helpers.differences import by_weights
from helpers.generators import forward_network, ragged, restricted
from helpers.marks import first_of

from gloree.activations import Polynomial
from gloree.engine import Engine, Source
from gloree.refinement import (
    Layout,
    gradient_sums,
    hessian_sums,
    polynomial_powers,
    spread_sums,
    square_sums,
)
from gloree.sequences import as_sequences

# The same numbers, up to the rounding of a few operations.
ROUNDING = 1e-12
# A slope of the squared error by differences: its rounding is that of a sum of a few hundred.
SLOPE = 1e-6

LENGTHS = (7, 3, 1, 5)

CASES = {
    "quadratic": {},
    "without biases": {"bias": False},
    "without recurrence": {"recurrent": False},
    "direct path": {"direct": True},
    "direct path alone": {"direct": True, "recurrent": False, "bias": False},
    "cubic": {"activation": "cubic"},
    "parabola": {"activation": Polynomial((0.3, -0.5, 0.8)), "direct": True},
    "polynomial of degree 3": {"activation": Polynomial((0.1, 0.4, -0.3, 0.2))},
    "tanh": {"activation": "tanh"},
    "softplus": {"activation": "softplus", "direct": True},
    "mixed units": {"activation": ["linear", "tanh", "quadratic"], "n_hidden": 3, "direct": True},
    "linear and tanh": {"activation": ["linear", "linear", "tanh", "tanh"], "n_hidden": 4},
    "free coefficients": {"activation": Polynomial((0.2, 0.5, -0.4, 0.3)), "coefficients": True},
    "free coefficients of different units": {
        "activation": [
            "linear",
            Polynomial((0.0, 1.0, 0.3)),
            "tanh",
            Polynomial((0.1, -0.5, 0.0, 0.4)),
        ],
        "n_hidden": 4,
        "direct": True,
        "coefficients": True,
    },
    "free coefficients without recurrence": {
        "activation": ["cubic", "tanh"],
        "recurrent": False,
        "bias": False,
        "coefficients": True,
    },
    "no feedback at the weights": {"zero": True},
    "more units than outputs": {"n_hidden": 4, "n_outputs": 1},
    "more outputs than units": {"n_hidden": 1, "n_outputs": 3},
}
CUTS = {
    "whole": {},
    "pieces": {"batch_size": 10**6, "segment": 3},
    "washout": {"batch_size": 10**6, "segment": 3, "before": 2},
    "context": {"batch_size": 10**6, "segment": 2, "before": 1, "after": 1},
}


def make_case(case, cut="whole", seed=0):
    """Model, layout, batch, and the sequences that it is cut from."""
    settings = CASES[case]
    flags = {"recurrent": True, "bias": True, "direct": False}
    flags |= {name: settings[name] for name in flags if name in settings}
    k, q = settings.get("n_hidden", 2), settings.get("n_outputs", 2)
    activation = settings.get("activation", "quadratic")
    model = forward_network(3, k, q, norm=0.3, direct=True, activation=activation, seed=seed)
    model = restricted(model, **flags)
    if settings.get("zero", False):
        model = model.replace(recurrent_weights=None)
    data = as_sequences(*ragged(3, q, LENGTHS, seed=[1, seed]))
    batch = data.whole() if cut == "whole" else next(iter(data.batches(**CUTS[cut])))
    if "coefficients" in settings:
        flags["free_coefficients"] = polynomial_powers(model.activation, k)
    return model, Layout(3, k, q, **flags), batch, data


CUT_CASES = [(case, "whole") for case in CASES]
CUT_CASES += [
    (case, cut)
    for case in (
        "quadratic",
        "direct path",
        "tanh",
        "mixed units",
        "free coefficients of different units",
    )
    for cut in CUTS
]
CUT_CASES = list(dict.fromkeys(CUT_CASES))


@pytest.mark.parametrize(("case", "cut"), first_of(CUT_CASES, 18, several=True))
def test_gradient_and_hessian_are_those_of_the_naive_network(case, cut):
    model, layout, batch, data = make_case(case, cut)
    assert_derivatives(model, layout, batch, data)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_spread_of_one_segment_is_the_square_of_its_gradient(case, seed):
    model, layout, batch, _ = make_case(case, seed=seed)
    for s in range(len(batch.lengths)):
        rows = slice(batch.starts[s], batch.starts[s] + batch.lengths[s])
        alone = as_sequences(batch.X[rows], batch.targets[rows]).whole()
        g = gradient_sums(alone, model, layout).gradient
        assert_close(spread_sums(alone, model, layout).spread, np.outer(g, g), ALGEBRA)


def test_gradient_is_minus_half_that_of_the_squared_error():
    model, layout, batch, _ = make_case("quadratic")
    slopes = by_weights(lambda m: square_sums(batch, m).squares.sum(), model, layout, STEP)
    gradient = gradient_sums(batch, model, layout).gradient
    direction = np.random.default_rng(1).standard_normal(layout.size)
    assert slopes @ direction == pytest.approx(-2 * gradient @ direction, rel=SLOPE)


def test_leverage_is_the_largest_adjoint_times_state_of_each_segment():
    """delta_t = f'(z_t) (A2 r_t + U^T delta_{t+1}), backwards by a plain loop."""
    model, layout, batch, _ = make_case("cubic")
    expected = []
    for start, length in zip(batch.starts, batch.lengths, strict=True):
        rows = slice(start, start + length)
        run, delta, largest = naive.run(model, batch.X[rows]), np.zeros(model.n_hidden), 0.0
        residuals = batch.targets[rows] - run.h @ model.output_weights - model.output_bias
        if model.direct_weights is not None:
            residuals -= batch.X[rows] @ model.direct_weights
        for t in reversed(range(length)):
            r = residuals[t] * np.isin(start + t, batch.counted_rows)
            pulled = model.output_weights @ r + model.recurrent_weights.T @ delta
            delta = model.activation.derivative(run.z[t], 1) * pulled
            largest = max(largest, np.linalg.norm(delta) * (1 + np.linalg.norm(run.h[t])))
        expected.append(largest)
    np.testing.assert_allclose(
        gradient_sums(batch, model, layout).leverage.values, expected, rtol=ROUNDING
    )


@pytest.mark.parametrize("function", [gradient_sums, hessian_sums, spread_sums])
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_batches_of_any_size_add_to_the_whole(function, engine):
    model, layout, batch, data = make_case("quadratic")
    whole = function(batch, model, layout)
    total = Engine(engine, n_workers=2).run(
        lambda b: function(b, model, layout), Source(data, batch_size=4)
    )
    assert_same_sums(total, whole, ALGEBRA)


def test_hessian_is_symmetric_and_positive_semidefinite():
    model, layout, batch, _ = make_case("direct path")
    for matrix in (
        hessian_sums(batch, model, layout).hessian,
        spread_sums(batch, model, layout).spread,
    ):
        np.testing.assert_allclose(matrix, matrix.T, atol=ALGEBRA * np.abs(matrix).max())
        assert np.linalg.eigvalsh(matrix)[0] > -ALGEBRA * np.abs(matrix).max()


@pytest.mark.parametrize("case", ["quadratic", "direct path", "free coefficients"])
def test_rows_of_a_segment_count_as_often_as_its_weight(case):
    model, layout, batch, _ = make_case(case)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, batch.lengths.shape[0])
    found = hessian_sums(batch, model, layout, weights)
    alone = [
        hessian_sums(batch.of_segments(np.arange(weights.shape[0]) == i), model, layout)
        for i in range(weights.shape[0])
    ]
    for entry in fields(found):
        terms = [w * getattr(sums, entry.name) for w, sums in zip(weights, alone, strict=True)]
        assert_close(getattr(found, entry.name), np.sum(terms, axis=0), ALGEBRA)


@pytest.mark.parametrize("lengths", [[4, 4, 4], [5, 1, 6]])
def test_spread_of_segments_of_equal_and_of_other_lengths(lengths):
    """One product for all segments of one length, a product for each otherwise."""
    model, layout, *_ = make_case("direct path")
    rng = np.random.default_rng(2)
    X = rng.standard_normal((12, model.n_inputs))
    batch = as_sequences(X, rng.standard_normal((12, model.n_outputs)), lengths=lengths).whole()
    scores = [
        gradient_sums(batch.of_segments(np.arange(3) == i), model, layout).gradient
        for i in range(3)
    ]
    assert_close(
        spread_sums(batch, model, layout).spread, sum(np.outer(g, g) for g in scores), ALGEBRA
    )


def test_a_sequence_does_not_see_its_neighbours():
    model, layout, batch, data = make_case("quadratic")
    turned = data.select([2, 0, 3, 1]).whole()
    first, second = (gradient_sums(each, model, layout) for each in (batch, turned))
    assert_close(second.gradient, first.gradient, ALGEBRA)
    np.testing.assert_allclose(
        second.leverage.values, first.leverage.values[[2, 0, 3, 1]], rtol=ROUNDING
    )
