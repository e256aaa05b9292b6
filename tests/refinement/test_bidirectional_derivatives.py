"""Derivatives of both chains against differences of a naive network; the layout of its weights."""

from dataclasses import fields
from itertools import pairwise, product

import numpy as np
import pytest

from gloree.activations import Polynomial
from gloree.engine import Engine, Source
from gloree.models import BRNN, IORNN
from gloree.refinement import (
    Layout,
    gradient_sums,
    hessian_sums,
    polynomial_powers,
    spread_sums,
    square_sums,
)
from gloree.refinement._sensitivities import rows_at_once
from gloree.sequences import as_sequences

# Central differences at STEP: an error of STEP^2 times a third derivative, and eps / STEP of
# rounding, both relative to the size of the predictions.
STEP = 1e-5
DIFFERENCES = 2e-8
# Two exact algorithms for the same sums of a hundred terms.
ALGEBRA = 1e-11
# Eigenvalues of a sum of J^T J over eps times the largest are no rounding.
NULL = 1e-14

LENGTHS = (7, 3, 1, 5)
N_INPUTS, N_OUTPUTS = 2, 2

CASES = {
    "quadratic": {},
    "without biases": {"bias": False},
    "without hidden biases": {"hidden_bias": False},
    "without recurrence": {"recurrent": False},
    "direct path": {"direct": True},
    "two lags": {"lags": 2},
    "two lags, direct path": {"lags": 2, "direct": True},
    "three lags, without biases": {"lags": 3, "bias": False, "direct": True},
    "two lags without recurrence": {"lags": 2, "recurrent": False, "direct": True},
    "cubic": {"activation": "cubic"},
    "parabola": {"activation": Polynomial((0.3, -0.5, 0.8)), "direct": True},
    "tanh": {"activation": "tanh", "lags": 2},
    "mixed units": {"activation": ["linear", "tanh", "tanh", "quadratic"], "direct": True},
    "mixed units, two lags": {"activation": ["tanh", "linear", "softplus", "linear"], "lags": 2},
    "free coefficients": {
        "activation": ["cubic", "tanh", Polynomial((0.2, 0.5, -0.4)), "quadratic"],
        "direct": True,
        "coefficients": True,
    },
    "free coefficients, two lags": {
        "activation": [Polynomial((0.0, 1.0, 0.3, -0.2)), "linear", "softplus", "cubic"],
        "lags": 2,
        "coefficients": True,
    },
    "free coefficients of backward units only": {
        "activation": Polynomial((0.0, 1.0, 0.3)),
        "sizes": (0, 2),
        "coefficients": True,
    },
    "free coefficients without recurrence": {
        "activation": "quadratic",
        "recurrent": False,
        "coefficients": True,
    },
    "forward units only": {"sizes": (3, 0)},
    "backward units only": {"sizes": (0, 3)},
    "forward units only, two lags": {"sizes": (2, 0), "lags": 2, "direct": True},
    "backward units only, two lags": {"sizes": (0, 2), "lags": 2, "direct": True},
    "unequal chains": {"sizes": (1, 3)},
    "forward recurrence is zero": {"zero": ("forward",)},
    "backward recurrence is zero": {"zero": ("backward",)},
    "both recurrences are zero": {"zero": ("forward", "backward")},
}
CUTS = {
    "whole": {},
    "pieces": {"segment": 3},
    "before": {"segment": 3, "before": 2},
    "after": {"segment": 2, "after": 2},
    "context": {"segment": 2, "before": 2, "after": 2},
}


def make_case(case, cut="whole", seed=0):
    """Model, layout, batch as a fit reads it, and the plain inputs of its rows."""
    settings = CASES[case]
    flags = {"recurrent": True, "bias": True, "direct": False, "hidden_bias": True}
    flags |= {name: settings[name] for name in flags if name in settings}
    lags, (ahead, behind) = settings.get("lags", 1), settings.get("sizes", (2, 2))
    rng = np.random.default_rng(seed)
    zero = settings.get("zero", ())

    def recurrent(name, n_units):
        feedback = flags["recurrent"] and name not in zero
        return 0.15 * rng.standard_normal((n_units, n_units)) * feedback

    k, q = ahead + behind, N_OUTPUTS
    model = BRNN(
        rng.standard_normal((ahead, lags * N_INPUTS)) / 2,
        recurrent("forward", ahead),
        rng.standard_normal((behind, lags * N_INPUTS)) / 2,
        recurrent("backward", behind),
        rng.standard_normal((k, q)),
        0.3 * rng.standard_normal(k) * (flags["bias"] and flags["hidden_bias"]),
        rng.standard_normal(q) * flags["bias"],
        rng.standard_normal(((2 * lags - 1) * N_INPUTS, q)) if flags["direct"] else None,
        activation=settings.get("activation", "quadratic"),
        lags=lags,
    )
    X = [rng.standard_normal((n, N_INPUTS)) for n in LENGTHS]
    Y = [rng.standard_normal((n, q)) for n in LENGTHS]
    data = as_sequences(X, Y)
    source = Source(data, batch_size=10**6, lags=lags, both_ways=True, **CUTS[cut])
    (segments,) = source.as_subset().batches
    if "coefficients" in settings:
        flags["free_coefficients"] = polynomial_powers(model.activation, k)
    layout = Layout((2 * lags - 1) * N_INPUTS, k, q, n_backward=behind, lags=lags, **flags)
    return model, layout, source.read(segments), data


def windows_of(x, t, lags, step):
    """[x_t, x_{t + step}, ..], zeros beyond the ends."""
    parts = [
        x[t + step * lag] if 0 <= t + step * lag < len(x) else np.zeros(x.shape[1])
        for lag in range(lags)
    ]
    return np.concatenate(parts)


def naive_predictions(model, batch, data):
    """Counted rows, one segment at a time from states of zero; and the segment of each.

    Windows of counted rows are whole; those of context rows are cut off where the segment ends.
    """
    predictions, owners = [], []
    starts = np.concatenate(([0], np.cumsum(data.lengths)))
    for s, length in enumerate(batch.lengths):
        first = starts[batch.sequence[s]] + batch.first_step[s]
        x = data.X[first : first + length]
        ahead, behind = model.n_forward, model.n_backward
        states = np.zeros((length, ahead + behind))
        h, w = np.zeros(ahead), np.zeros(behind)
        for t in range(length):
            z = model.forward_input_weights @ windows_of(x, t, model.lags, -1)
            z = z + model.forward_recurrent_weights @ h + model.hidden_bias[:ahead]
            h = states[t, :ahead] = model.activation.select(slice(0, ahead))(z)
        for t in reversed(range(length)):
            z = model.backward_input_weights @ windows_of(x, t, model.lags, 1)
            z = z + model.backward_recurrent_weights @ w + model.hidden_bias[ahead:]
            w = states[t, ahead:] = model.activation.select(slice(ahead, None))(z)
        for t in range(batch.before[s], length - batch.after[s]):
            y = states[t] @ model.output_weights + model.output_bias
            if model.direct_weights is not None:
                past = windows_of(x, t, model.lags, -1)
                future = windows_of(x, t, model.lags, 1)[N_INPUTS:]
                y = y + np.concatenate((past, future)) @ model.direct_weights
            predictions.append(y)
            owners.append(s)
    return np.array(predictions), np.array(owners)


def difference_jacobian(model, layout, batch, data):
    """d prediction / d theta of the counted rows, (n_counted, n_outputs, size)."""
    columns = []
    for unit in np.eye(layout.size):
        ahead, _ = naive_predictions(layout.move(model, STEP * unit), batch, data)
        behind, _ = naive_predictions(layout.move(model, -STEP * unit), batch, data)
        columns.append((ahead - behind) / (2 * STEP))
    return np.stack(columns, axis=2)


def close(actual, expected, tolerance):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


CUT_CASES = [(case, "whole") for case in CASES]
CUT_CASES += [
    (case, cut)
    for case in ("quadratic", "direct path", "backward units only", "unequal chains")
    for cut in CUTS
    if cut != "whole"
]


@pytest.mark.parametrize(("case", "cut"), CUT_CASES)
def test_gradient_hessian_and_spread_are_those_of_the_naive_network(case, cut):
    model, layout, batch, data = make_case(case, cut)
    assert_derivatives(model, layout, batch, data)


@pytest.mark.parametrize("case", ["two lags", "two lags, direct path", "tanh"])
def test_joint_windows_reach_into_the_context_of_a_piece(case):
    """Pieces one at a time: rows of context complete the windows of those that count."""
    model, layout, _, data = make_case(case)
    source = Source(data, 1, segment=2, before=2, after=2, lags=2, both_ways=True)
    pieces = list(source.as_subset().segments)
    assert sum(source.read(segments).n_counted for segments in pieces) == data.n_rows
    for segments in pieces:
        assert_derivatives(model, layout, source.read(segments), data)


def assert_derivatives(model, layout, batch, data):
    predictions, owners = naive_predictions(model, batch, data)
    residuals = batch.targets[batch.counted] - predictions
    J = difference_jacobian(model, layout, batch, data)
    scale = max(1.0, np.abs(J).max()) * np.sqrt(len(owners))

    gradient = gradient_sums(batch, model, layout)
    assert gradient.n_rows == len(owners) == batch.n_counted
    close(gradient.squares, np.sum(residuals**2, axis=0), ALGEBRA)
    close(square_sums(batch, model).squares, gradient.squares, ALGEBRA)
    close(gradient.gradient, np.einsum("tap,ta->p", J, residuals), DIFFERENCES * scale)

    hessian = hessian_sums(batch, model, layout)
    assert hessian.n_rows == len(owners)
    close(hessian.hessian, np.einsum("tap,taq->pq", J, J), DIFFERENCES * scale)
    weights = np.linspace(0.5, 2.0, len(batch.lengths))
    weighted = np.einsum("t,tap,taq->pq", weights[owners], J, J)
    close(hessian_sums(batch, model, layout, weights).hessian, weighted, DIFFERENCES * scale)

    spread = spread_sums(batch, model, layout)
    assert spread.n_segments == len(batch.lengths)
    meat = np.zeros_like(spread.spread)
    for s in range(len(batch.lengths)):
        g = np.einsum("tap,ta->p", J[owners == s], residuals[owners == s])
        meat += np.outer(g, g)
    close(spread.spread, meat, DIFFERENCES * scale**2)


def test_leverage_is_the_largest_slope_times_state_of_all_units():
    model, layout, batch, data = make_case("cubic")
    expected = []
    starts = np.concatenate(([0], np.cumsum(data.lengths)))
    for begin, end in pairwise(starts):
        states = model.hidden_states(data.X[begin:end])
        # |f'(z)| = 3 |f(z)|^(2/3) for z^3
        slopes = 3.0 * np.abs(states) ** (2 / 3)
        size = np.linalg.norm(slopes, axis=1) * (1 + np.linalg.norm(states, axis=1))
        expected.append(size.max())
    found = gradient_sums(batch, model, layout).leverage.values
    np.testing.assert_allclose(found, expected, rtol=ALGEBRA)


@pytest.mark.parametrize("function", [gradient_sums, hessian_sums, spread_sums])
@pytest.mark.parametrize("case", ["quadratic", "two lags, direct path"])
def test_batches_of_any_size_add_to_the_whole(function, case):
    model, layout, batch, data = make_case(case)
    whole = function(batch, model, layout)
    source = Source(data, batch_size=4, lags=model.lags, both_ways=True)
    total = Engine("threads", n_workers=2).run(lambda b: function(b, model, layout), source)
    for entry in fields(whole):
        mine, all_at_once = getattr(total, entry.name), getattr(whole, entry.name)
        if entry.name == "leverage":
            mine, all_at_once = mine.values, all_at_once.values
        close(mine, all_at_once, ALGEBRA)


def reversed_in_time(model, data):
    """The network whose backward chain is the forward one, on sequences read from their ends."""
    k = model.n_forward
    turned = BRNN(
        model.backward_input_weights,
        model.backward_recurrent_weights,
        model.forward_input_weights,
        model.forward_recurrent_weights,
        np.vstack((model.output_weights[k:], model.output_weights[:k])),
        np.concatenate((model.hidden_bias[k:], model.hidden_bias[:k])),
        model.output_bias,
        activation=model.activation,
        lags=model.lags,
    )
    starts = np.concatenate(([0], np.cumsum(data.lengths)))
    parts = [slice(a, b) for a, b in pairwise(starts)]
    X = [data.X[part][::-1] for part in parts]
    Y = [data.Y[part][::-1] for part in parts]
    return turned, as_sequences(X, Y)


@pytest.mark.parametrize("case", ["quadratic", "two lags", "unequal chains", "backward units only"])
def test_the_mirror_image_has_the_same_derivatives(case):
    """A backward chain is a forward chain on reversed time: nothing else may change."""
    model, layout, batch, data = make_case(case)
    turned, mirrored = reversed_in_time(model, data)
    source = Source(mirrored, batch_size=10**6, lags=model.lags, both_ways=True)
    (segments,) = source.as_subset().batches
    other = Layout(
        layout.n_inputs,
        layout.n_hidden,
        layout.n_outputs,
        n_backward=model.n_forward,
        lags=model.lags,
    )
    # where each weight of the mirrored network stands in the vector of the other one
    k = model.n_forward
    mine = layout.indices
    swap = {"forward": "backward", "backward": "forward"}
    place = np.empty(layout.size, dtype=int)
    for name, index in other.indices.items():
        way, _, rest = name.partition("_")
        if way in swap:
            place[index] = mine[f"{swap[way]}_{rest}"]
        elif name in ("hidden_bias", "output_weights"):
            place[index] = np.concatenate((mine[name][k:], mine[name][:k]))
        else:
            place[index] = mine[name]
    there = source.read(segments)
    g = gradient_sums(batch, model, layout)
    close(gradient_sums(there, turned, other).gradient, g.gradient[place], ALGEBRA)
    H = hessian_sums(batch, model, layout).hessian
    close(hessian_sums(there, turned, other).hessian, H[np.ix_(place, place)], ALGEBRA)
    spread = spread_sums(batch, model, layout).spread
    close(spread_sums(there, turned, other).spread, spread[np.ix_(place, place)], ALGEBRA)


@pytest.mark.parametrize("recurrent", [True, False])
def test_a_chain_of_all_units_forward_has_the_derivatives_of_the_plain_network(recurrent):
    model, _, batch, _ = make_case("forward units only")
    feedback = model.forward_recurrent_weights if recurrent else None
    plain = IORNN(
        model.forward_input_weights,
        feedback,
        model.output_weights,
        model.hidden_bias,
        model.output_bias,
    )
    model = model.replace(forward_recurrent_weights=feedback)
    both = Layout(N_INPUTS, 3, N_OUTPUTS, recurrent=recurrent, n_backward=0)
    one = Layout(N_INPUTS, 3, N_OUTPUTS, recurrent=recurrent)
    assert both.size == one.size
    for function, name in (
        (gradient_sums, "gradient"),
        (hessian_sums, "hessian"),
        (spread_sums, "spread"),
    ):
        expected = getattr(function(batch, plain, one), name)
        close(getattr(function(batch, model, both), name), expected, ALGEBRA)


def test_kept_sensitivities_of_a_batch_stay_small():
    """Rows at once times what is kept of each stays below 32 MiB."""
    layout = Layout(20, 10, 4, n_backward=5)
    kept = layout.directions[0].n_units * layout.directions[0].size
    assert rows_at_once(layout) * kept * 8 <= 2**25


# ---------------------------------------------------------------------------------------- layout


FREE = [
    dict(zip(("recurrent", "bias", "direct"), flags, strict=True))
    for flags in product([True, False], repeat=3)
]
SHAPES = [(2, 2, 1), (3, 1, 2), (2, 0, 1), (0, 2, 2), (1, 2, 3)]


def layout_and_model(shape, free, seed=0):
    ahead, behind, lags = shape
    rng = np.random.default_rng(seed)
    n_columns, k = (2 * lags - 1) * N_INPUTS, ahead + behind
    model = BRNN(
        rng.standard_normal((ahead, lags * N_INPUTS)),
        0.1 * rng.standard_normal((ahead, ahead)) * free["recurrent"],
        rng.standard_normal((behind, lags * N_INPUTS)),
        0.1 * rng.standard_normal((behind, behind)) * free["recurrent"],
        rng.standard_normal((k, N_OUTPUTS)),
        rng.standard_normal(k) * free["bias"],
        rng.standard_normal(N_OUTPUTS) * free["bias"],
        rng.standard_normal((n_columns, N_OUTPUTS)) if free["direct"] else None,
        lags=lags,
    )
    return Layout(n_columns, k, N_OUTPUTS, n_backward=behind, lags=lags, **free), model


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("shape", SHAPES)
def test_size_counts_the_weights_of_either_direction(shape, free):
    layout, _ = layout_and_model(shape, free)
    ahead, behind, lags = shape
    units = (ahead + behind) * (lags * N_INPUTS + free["bias"])
    units += free["recurrent"] * (ahead**2 + behind**2)
    assert layout.n_unit_parameters == units
    outputs = ahead + behind + free["bias"] + free["direct"] * (2 * lags - 1) * N_INPUTS
    assert layout.size == units + N_OUTPUTS * outputs


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("shape", SHAPES)
def test_vector_and_move_undo_each_other(shape, free):
    """Every free weight has one place: moving to zero and back gives the model again."""
    layout, model = layout_and_model(shape, free)
    vector = layout.vector(model)
    places = np.concatenate([index.ravel() for index in layout.indices.values()])
    np.testing.assert_array_equal(np.sort(places), np.arange(layout.size))
    nothing = layout.move(model, -vector)
    assert all(not getattr(nothing, name).any() for name in layout.indices)
    # a difference and a sum of each weight
    close(layout.vector(layout.move(nothing, vector)), vector, ALGEBRA)
    units, coefficients, outputs = layout.split(vector)
    np.testing.assert_array_equal(layout.join(units, coefficients, outputs), vector)


@pytest.mark.parametrize("shape", SHAPES)
def test_constraints_hold_the_input_weights_that_a_unit_sees(shape):
    layout, model = layout_and_model(shape, FREE[0])
    rows = layout.scale_constraints(model)
    ahead, behind, _ = shape
    weights = [*model.forward_input_weights, *model.backward_input_weights]
    names = ["forward_input_weights"] * ahead + ["backward_input_weights"] * behind
    for i, (row, a, name) in enumerate(zip(rows, weights, names, strict=True)):
        index = layout.indices[name][i if i < ahead else i - ahead]
        np.testing.assert_allclose(row[index], a / np.linalg.norm(a), rtol=ALGEBRA)
        assert np.count_nonzero(row) == a.size


@pytest.mark.parametrize("shape", SHAPES)
def test_null_space_of_the_hessian_is_the_scale_symmetry_of_both_chains(shape):
    """H nu_i = 0 for every unit, column and row of its own recurrence included; none other."""
    layout, model = layout_and_model(shape, {"recurrent": True, "bias": True, "direct": False})
    rng = np.random.default_rng(1)
    data = as_sequences(rng.standard_normal((60, 5, N_INPUTS)), rng.standard_normal((60, 5, 2)))
    lags = model.lags
    source = Source(data, batch_size=10**6, lags=lags, both_ways=True)
    (segments,) = source.as_subset().batches
    H = hessian_sums(source.read(segments), model, layout).hessian
    degree, k = 2, model.n_hidden
    directions = np.zeros((k, layout.size))
    for i in range(k):
        scaled = {}
        for step in (STEP, -STEP):
            scale = np.ones(k)
            scale[i] += step
            moved = model.rearranged(np.arange(k), scale, scale**degree)
            scaled[step] = layout.vector(moved)
        directions[i] = (scaled[STEP] - scaled[-STEP]) / (2 * STEP)
    values = np.linalg.eigvalsh(H)
    assert np.sum(values < NULL * values[-1]) == k
    residual = np.linalg.norm(directions @ H, axis=1)
    # the directions are differences of weights
    assert np.all(residual <= DIFFERENCES * values[-1] * np.linalg.norm(directions, axis=1))
