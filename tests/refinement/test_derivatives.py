"""Gradient and J^T J of the prediction error against differences of a naive forward pass."""

from dataclasses import fields

import numpy as np
import pytest

from gloree.activations import Polynomial
from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.refinement import Layout, gradient_sums, hessian_sums, polynomial_powers, spread_sums
from gloree.sequences import as_sequences

# Central differences at STEP: an error of STEP^2 times a third derivative, and eps / STEP of
# rounding, both relative to the size of the predictions.
STEP = 1e-5
DIFFERENCES = 2e-8
# Two exact algorithms for the same sums of a hundred terms.
ALGEBRA = 1e-11
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
    settings = CASES[case]
    flags = {"recurrent": True, "bias": True, "direct": False}
    flags |= {name: settings[name] for name in flags if name in settings}
    k, q = settings.get("n_hidden", 2), settings.get("n_outputs", 2)
    rng = np.random.default_rng(seed)
    feedback = flags["recurrent"] and not settings.get("zero", False)
    model = IORNN(
        rng.standard_normal((k, 3)) / 2,
        0.15 * rng.standard_normal((k, k)) * feedback,
        rng.standard_normal((k, q)),
        0.3 * rng.standard_normal(k) * flags["bias"],
        rng.standard_normal(q) * flags["bias"],
        rng.standard_normal((3, q)) if flags["direct"] else None,
        activation=settings.get("activation", "quadratic"),
    )
    X = [rng.standard_normal((n, 3)) for n in LENGTHS]
    Y = [rng.standard_normal((n, q)) for n in LENGTHS]
    data = as_sequences(X, Y)
    batch = data.whole() if cut == "whole" else next(iter(data.batches(**CUTS[cut])))
    if "coefficients" in settings:
        flags["free_coefficients"] = polynomial_powers(model.activation, k)
    return model, Layout(3, k, q, **flags), batch


def naive_predictions(model, batch):
    """Counted rows, one segment at a time from h = 0; and the segment of each."""
    predictions, owners, rows = [], [], []
    for s, (start, length) in enumerate(zip(batch.starts, batch.lengths, strict=True)):
        h = np.zeros(model.n_hidden)
        for t in range(length):
            x = batch.X[start + t]
            h = model.activation(
                model.input_weights @ x + model.recurrent_weights @ h + model.hidden_bias
            )
            if batch.before[s] <= t < length - batch.after[s]:
                y = h @ model.output_weights + model.output_bias
                if model.direct_weights is not None:
                    y = y + x @ model.direct_weights
                predictions.append(y)
                owners.append(s)
                rows.append(start + t)
    return np.array(predictions), np.array(owners), np.array(rows)


def difference_jacobian(model, layout, batch):
    """d prediction / d theta of the counted rows, (n_counted, n_outputs, size)."""
    columns = []
    for unit in np.eye(layout.size):
        ahead, _, _ = naive_predictions(layout.move(model, STEP * unit), batch)
        behind, _, _ = naive_predictions(layout.move(model, -STEP * unit), batch)
        columns.append((ahead - behind) / (2 * STEP))
    return np.stack(columns, axis=2)


def close(actual, expected, tolerance):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


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


@pytest.mark.parametrize(("case", "cut"), CUT_CASES)
def test_gradient_and_hessian_are_those_of_the_naive_network(case, cut):
    model, layout, batch = make_case(case, cut)
    predictions, owners, rows = naive_predictions(model, batch)
    residuals = batch.targets[rows] - predictions
    J = difference_jacobian(model, layout, batch)
    scale = max(1.0, np.abs(J).max()) * np.sqrt(len(rows))

    gradient = gradient_sums(batch, model, layout)
    assert gradient.n_rows == len(rows) == batch.n_counted
    close(gradient.squares, np.sum(residuals**2, axis=0), ALGEBRA)
    close(gradient.gradient, np.einsum("tap,ta->p", J, residuals), DIFFERENCES * scale)

    hessian = hessian_sums(batch, model, layout)
    assert hessian.n_rows == len(rows)
    close(hessian.hessian, np.einsum("tap,taq->pq", J, J), DIFFERENCES * scale)
    spread = spread_sums(batch, model, layout)
    assert spread.n_segments == len(batch.lengths)
    meat = np.zeros_like(spread.spread)
    for s in range(len(batch.lengths)):
        g = np.einsum("tap,ta->p", J[owners == s], residuals[owners == s])
        meat += np.outer(g, g)
    close(spread.spread, meat, DIFFERENCES * scale**2)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_spread_of_one_segment_is_the_square_of_its_gradient(case, seed):
    model, layout, batch = make_case(case, seed=seed)
    for s in range(len(batch.lengths)):
        rows = slice(batch.starts[s], batch.starts[s] + batch.lengths[s])
        alone = as_sequences(batch.X[rows], batch.targets[rows]).whole()
        g = gradient_sums(alone, model, layout).gradient
        close(spread_sums(alone, model, layout).spread, np.outer(g, g), ALGEBRA)


def test_gradient_is_minus_half_that_of_the_squared_error():
    model, layout, batch = make_case("quadratic")
    direction = np.random.default_rng(1).standard_normal(layout.size)

    def error(step):
        return gradient_sums(batch, layout.move(model, step * direction), layout).squares.sum()

    slope = (error(STEP) - error(-STEP)) / (2 * STEP)
    gradient = gradient_sums(batch, model, layout).gradient
    assert slope == pytest.approx(-2 * gradient @ direction, rel=SLOPE)


def test_leverage_is_the_largest_slope_times_state_of_each_segment():
    model, layout, batch = make_case("cubic")
    expected = []
    for start, length in zip(batch.starts, batch.lengths, strict=True):
        h, largest = np.zeros(model.n_hidden), 0.0
        for t in range(length):
            z = model.input_weights @ batch.X[start + t] + model.recurrent_weights @ h
            z = z + model.hidden_bias
            h = model.activation(z)
            slope = np.linalg.norm(model.activation.derivative(z, 1))
            largest = max(largest, slope * (1 + np.linalg.norm(h)))
        expected.append(largest)
    np.testing.assert_allclose(
        gradient_sums(batch, model, layout).leverage.values, expected, rtol=ROUNDING
    )


@pytest.mark.parametrize("function", [gradient_sums, hessian_sums, spread_sums])
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_batches_of_any_size_add_to_the_whole(function, engine):
    model, layout, batch = make_case("quadratic")
    data = as_sequences(batch.X, batch.targets, lengths=batch.lengths)
    whole = function(batch, model, layout)
    total = Engine(engine, n_workers=2).run(
        lambda b: function(b, model, layout), Source(data, batch_size=4)
    )
    for entry in fields(whole):
        mine, all_at_once = getattr(total, entry.name), getattr(whole, entry.name)
        if entry.name == "leverage":
            mine, all_at_once = mine.values, all_at_once.values
        close(mine, all_at_once, ALGEBRA)


def test_hessian_is_symmetric_and_positive_semidefinite():
    model, layout, batch = make_case("direct path")
    for matrix in (
        hessian_sums(batch, model, layout).hessian,
        spread_sums(batch, model, layout).spread,
    ):
        np.testing.assert_allclose(matrix, matrix.T, atol=ALGEBRA * np.abs(matrix).max())
        assert np.linalg.eigvalsh(matrix)[0] > -ALGEBRA * np.abs(matrix).max()


@pytest.mark.parametrize("case", ["quadratic", "direct path", "free coefficients"])
def test_rows_of_a_segment_count_as_often_as_its_weight(case):
    model, layout, batch = make_case(case)
    weights = np.random.default_rng(1).uniform(0.1, 3.0, batch.lengths.shape[0])
    found = hessian_sums(batch, model, layout, weights)
    alone = [
        hessian_sums(batch.of_segments(np.arange(weights.shape[0]) == i), model, layout)
        for i in range(weights.shape[0])
    ]
    for entry in fields(found):
        terms = [w * getattr(sums, entry.name) for w, sums in zip(weights, alone, strict=True)]
        close(getattr(found, entry.name), np.sum(terms, axis=0), ALGEBRA)


@pytest.mark.parametrize("lengths", [[4, 4, 4], [5, 1, 6]])
def test_spread_of_segments_of_equal_and_of_other_lengths(lengths):
    """One product for all segments of one length, a product for each otherwise."""
    model, layout, _ = make_case("direct path")
    rng = np.random.default_rng(2)
    X = rng.standard_normal((12, model.n_inputs))
    batch = as_sequences(X, rng.standard_normal((12, model.n_outputs)), lengths=lengths).whole()
    scores = [
        gradient_sums(batch.of_segments(np.arange(3) == i), model, layout).gradient
        for i in range(3)
    ]
    close(spread_sums(batch, model, layout).spread, sum(np.outer(g, g) for g in scores), ALGEBRA)


def test_a_sequence_does_not_see_its_neighbours():
    model, layout, batch = make_case("quadratic")
    data = as_sequences(batch.X, batch.targets, lengths=batch.lengths).select([2, 0, 3, 1])
    first, second = gradient_sums(batch, model, layout), gradient_sums(data.whole(), model, layout)
    close(second.gradient, first.gradient, ALGEBRA)
    np.testing.assert_allclose(
        second.leverage.values, first.leverage.values[[2, 0, 3, 1]], rtol=ROUNDING
    )
