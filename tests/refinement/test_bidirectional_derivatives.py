"""Derivatives of both chains against differences of a naive network; the layout of its weights."""

from itertools import pairwise, product

import numpy as np
import pytest
from helpers.batches import only_batch
from helpers.comparisons import assert_close, assert_same_sums
from helpers.derivatives import ALGEBRA, DIFFERENCES, STEP, assert_derivatives
from helpers.differences import central
from helpers.generators import mirrored, ragged, restricted, two_way_network
from helpers.marks import first_of

from gloree.activations import Polynomial
from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.refinement import (
    Layout,
    gradient_sums,
    hessian_sums,
    polynomial_powers,
    spread_sums,
)
from gloree.refinement._sensitivities import rows_at_once
from gloree.sequences import as_sequences

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
    """Model, layout, batch as a fit reads it, and the sequences that it is cut from."""
    settings = CASES[case]
    flags = {"recurrent": True, "bias": True, "direct": False, "hidden_bias": True}
    flags |= {name: settings[name] for name in flags if name in settings}
    lags, sizes = settings.get("lags", 1), settings.get("sizes", (2, 2))
    activation = settings.get("activation", "quadratic")
    model = two_way_network(
        *sizes, N_INPUTS, N_OUTPUTS, direct=True, lags=lags, activation=activation, seed=seed
    )
    model = restricted(model, **flags)
    for way in settings.get("zero", ()):
        model = model.replace(**{f"{way}_recurrent_weights": None})
    data = as_sequences(*ragged(N_INPUTS, N_OUTPUTS, LENGTHS, seed=[1, seed]))
    batch = only_batch(Source(data, batch_size=10**6, lags=lags, both_ways=True, **CUTS[cut]))
    if "coefficients" in settings:
        flags["free_coefficients"] = polynomial_powers(model.activation, sum(sizes))
    return model, layout_of(model, **flags), batch, data


def layout_of(model, **flags):
    sizes = model.n_columns, model.n_hidden, model.n_outputs
    return Layout(*sizes, n_backward=model.n_backward, lags=model.lags, **flags)


CUT_CASES = [(case, "whole") for case in CASES]
CUT_CASES += [
    (case, cut)
    for case in ("quadratic", "direct path", "backward units only", "unequal chains")
    for cut in CUTS
    if cut != "whole"
]


@pytest.mark.parametrize(("case", "cut"), first_of(CUT_CASES, 20, several=True))
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


def test_leverage_is_the_largest_adjoint_times_state_of_all_units():
    model, layout, batch, data = make_case("cubic")
    expected = []
    starts = np.concatenate(([0], np.cumsum(data.lengths)))
    ways = (
        (slice(0, model.n_forward), model.forward_recurrent_weights, -1),
        (slice(model.n_forward, None), model.backward_recurrent_weights, 1),
    )
    for begin, end in pairwise(starts):
        X, Y = data.X[begin:end], data.Y[begin:end]
        states = model.hidden_states(X)
        # |f'(z)| = 3 |f(z)|^(2/3) for z^3
        slopes = 3.0 * np.abs(states) ** (2 / 3)
        pulled = (Y - model.predict(X)) @ model.output_weights.T
        delta = np.zeros_like(states)
        for units, W, way in ways:
            after = np.zeros(W.shape[0])
            for t in range(len(X))[::way]:
                after = slopes[t, units] * (pulled[t, units] + W.T @ after)
                delta[t, units] = after
        size = np.linalg.norm(delta, axis=1) * (1 + np.linalg.norm(states, axis=1))
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
    assert_same_sums(total, whole, ALGEBRA)


def reversed_in_time(data):
    """Sequences read from their ends."""
    ends = np.cumsum(data.lengths)[:-1]
    return as_sequences(*([part[::-1] for part in np.split(v, ends)] for v in (data.X, data.Y)))


@pytest.mark.parametrize("case", ["quadratic", "two lags", "unequal chains", "backward units only"])
def test_the_mirror_image_has_the_same_derivatives(case):
    """A backward chain is a forward chain on reversed time: nothing else may change."""
    model, layout, batch, data = make_case(case)
    turned = mirrored(model)
    other = layout_of(turned)
    there = only_batch(Source(reversed_in_time(data), lags=model.lags, both_ways=True))
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
    g = gradient_sums(batch, model, layout)
    assert_close(gradient_sums(there, turned, other).gradient, g.gradient[place], ALGEBRA)
    H = hessian_sums(batch, model, layout).hessian
    assert_close(hessian_sums(there, turned, other).hessian, H[np.ix_(place, place)], ALGEBRA)
    spread = spread_sums(batch, model, layout).spread
    assert_close(spread_sums(there, turned, other).spread, spread[np.ix_(place, place)], ALGEBRA)


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
        assert_close(getattr(function(batch, model, both), name), expected, ALGEBRA)


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


def layout_and_model(shape, free):
    ahead, behind, lags = shape
    model = two_way_network(ahead, behind, N_INPUTS, N_OUTPUTS, direct=True, lags=lags)
    model = restricted(model, **free)
    return layout_of(model, **free), model


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
    assert_close(layout.vector(layout.move(nothing, vector)), vector, ALGEBRA)
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
    batch = only_batch(Source(data, batch_size=10**6, lags=model.lags, both_ways=True))
    H = hessian_sums(batch, model, layout).hessian
    degree, k = 2, model.n_hidden

    def scaled(scale):
        return layout.vector(model.rearranged(np.arange(k), scale, scale**degree))

    directions = central(scaled, np.ones(k), STEP)
    values = np.linalg.eigvalsh(H)
    assert np.sum(values < NULL * values[-1]) == k
    residual = np.linalg.norm(directions @ H, axis=1)
    # the directions are differences of weights
    assert np.all(residual <= DIFFERENCES * values[-1] * np.linalg.norm(directions, axis=1))
