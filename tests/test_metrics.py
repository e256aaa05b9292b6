"""Errors of weights modulo the symmetries, and errors of predictions."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.generators import forward_network, two_way_network
from helpers.marks import first_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree import IORNN, datasets, metrics
from gloree.activations import Polynomial
from gloree.models import BRNN

# Algebra on small matrices: roundings, and roundings divided by a change of 0.001.
ROUNDING, OF_A_CHANGE = 1e-12, 1e-9
# Predictions of networks whose weights differ by roundings, through a recursion.
PREDICTED = 1e-8

# scales within [1/4, 4], cubed, times products of about 10 terms
ALGEBRA_TOLERANCE = 1e-11

ACTIVATIONS = {
    "quadratic": "quadratic",
    "cubic": "cubic",
    "scaled square": Polynomial((0, 0, -0.5)),
    "even": Polynomial((0.3, 0, 1.0)),
    "odd": Polynomial((0, 1.0, 0, 0.5)),
    "neither": Polynomial((0, 1.0, 0.5)),
}


def truth_of(activation="quadratic", n_inputs=5, n_hidden=4, n_outputs=3, **options):
    sizes = n_inputs, n_hidden, n_outputs
    return forward_network(*sizes, scale=1.0, activation=activation, **options)


def equivalent(model, order, signs, scales):
    """The same function with other weights: units reordered, signed and scaled."""
    f = model.activation
    scale = np.asarray(scales) if f.is_monomial else np.ones(model.n_hidden)
    sign = np.asarray(signs) if f.parity is not None else np.ones(model.n_hidden)
    s = scale * sign
    # h_i becomes t_i h_i
    t = scale**f.degree if f.is_monomial else np.ones(model.n_hidden)
    t = t * sign if f.parity == "odd" else t
    U = s[:, None] * model.recurrent_weights / t[None, :]
    return model.replace(
        input_weights=(s[:, None] * model.input_weights)[order],
        hidden_bias=(s * model.hidden_bias)[order],
        recurrent_weights=U[np.ix_(order, order)],
        output_weights=(model.output_weights / t[:, None])[order],
    )


symmetries = st.tuples(
    st.permutations(range(4)),
    st.lists(st.sampled_from([1.0, -1.0]), min_size=4, max_size=4),
    st.lists(st.floats(0.25, 4.0), min_size=4, max_size=4),
)


@pytest.mark.parametrize("activation", first_of(ACTIVATIONS.values(), 2), ids=ACTIVATIONS.keys())
@settings(max_examples=25, deadline=None)
@given(symmetry=symmetries, seed=st.integers(0, 5))
def test_equivalent_networks_have_no_weight_error(activation, symmetry, seed):
    truth = truth_of(activation, seed=seed, direct=True)
    model = equivalent(truth, *symmetry)
    X = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 5))
    np.testing.assert_allclose(model.predict(X), truth.predict(X), rtol=PREDICTED, atol=PREDICTED)
    errors = metrics.weight_errors(model, truth)
    assert set(errors) == set(metrics.WEIGHTS)
    assert max(errors.values()) < ALGEBRA_TOLERANCE


@settings(max_examples=25, deadline=None)
@given(symmetry=symmetries)
def test_align_finds_the_permutation(symmetry):
    truth = truth_of().canonical()
    found = metrics.align(equivalent(truth, *symmetry), truth)
    np.testing.assert_allclose(found.cosines, 1.0, atol=ALGEBRA_TOLERANCE)
    np.testing.assert_array_equal(np.sort(found.order), np.arange(4))
    np.testing.assert_allclose(
        found.model.input_weights, found.truth.input_weights, atol=ALGEBRA_TOLERANCE
    )


def test_align_leaves_the_function_as_it_is():
    model, truth = truth_of(seed=1, direct=True), truth_of(seed=2, direct=True)
    X = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 3, 5))
    np.testing.assert_allclose(metrics.align(model, truth).model.predict(X), model.predict(X))


@pytest.mark.parametrize("name", ["recurrent_weights", "output_weights", "output_bias"])
def test_the_error_of_a_known_perturbation_is_its_relative_size(name):
    truth = truth_of().canonical()
    values = getattr(truth, name)
    model = truth.replace(**{name: 1.001 * values})
    errors = metrics.weight_errors(model, truth)
    assert errors[name] == pytest.approx(0.001, rel=OF_A_CHANGE)
    assert all(error < ROUNDING for other, error in errors.items() if other != name)


def test_the_error_of_turned_rows_is_the_length_of_the_chord():
    truth = truth_of("quadratic", n_inputs=2, n_hidden=1).replace(input_weights=[[1.0, 0.0]])
    angle = 0.01
    model = truth.replace(input_weights=[[np.cos(angle), np.sin(angle)]])
    chord = 2 * np.sin(angle / 2)
    errors = metrics.weight_errors(model, truth)
    assert errors["input_weights"] == pytest.approx(chord, rel=OF_A_CHANGE)


def test_where_the_truth_is_zero_the_error_is_absolute():
    truth = truth_of().canonical().replace(hidden_bias=None)
    model = truth.replace(hidden_bias=[0.3, 0.0, 0.4, 0.0])
    assert metrics.weight_errors(model, truth)["hidden_bias"] == pytest.approx(0.5)


def test_a_direct_path_on_one_side_counts_in_full():
    truth = truth_of(direct=True)
    assert metrics.weight_errors(truth.replace(direct_weights=None), truth)["direct_weights"] == 1.0
    assert "direct_weights" not in metrics.weight_errors(truth_of(), truth_of())
    size = np.linalg.norm(truth.direct_weights)
    extra = metrics.weight_errors(truth, truth.replace(direct_weights=None))["direct_weights"]
    assert extra == pytest.approx(size)


@pytest.mark.parametrize(
    "change, name",
    [
        ({"n_inputs": 4}, "n_inputs"),
        ({"n_hidden": 3}, "n_hidden"),
        ({"n_outputs": 2}, "n_outputs"),
        ({"activation": "cubic"}, "activation"),
    ],
)
def test_networks_of_different_shapes_cannot_be_compared(change, name):
    with pytest.raises(ValueError, match=f"different `{name}` cannot be compared"):
        metrics.weight_errors(truth_of(**change), truth_of())


def test_networks_with_different_lags_cannot_be_compared():
    one = IORNN(np.ones((1, 2)), None, np.ones((1, 1)))
    two = IORNN(np.ones((1, 4)), None, np.ones((1, 1)), lags=2)
    assert one.n_inputs == two.n_inputs
    with pytest.raises(ValueError, match="`lags`"):
        metrics.weight_errors(two, one)


# ------------------------------------------------------------------------------- predictions


def data(seed=0, shape=(6, 5, 2)):
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal(shape)
    return Y, Y + 0.1 * rng.standard_normal(shape)


def test_rmse_and_r2_are_their_definitions():
    Y, P = data()
    rows, estimates = Y.reshape(-1, 2), P.reshape(-1, 2)
    rmse = np.sqrt(np.mean((rows - estimates) ** 2, axis=0))
    np.testing.assert_allclose(metrics.root_mean_square_error(Y, P), rmse)
    r2 = 1 - rmse**2 / rows.var(axis=0)
    assert metrics.r2_score(Y, P) == pytest.approx(r2.mean())
    assert metrics.r2_score(Y, Y) == 1.0
    mean = np.broadcast_to(rows.mean(axis=0), Y.shape)
    assert metrics.r2_score(Y, mean) == pytest.approx(0.0, abs=ROUNDING)


@pytest.mark.parametrize("skip", [0, 2])
def test_all_forms_give_the_same_errors(skip):
    Y, P = data()
    expected = metrics.root_mean_square_error(Y, P, skip=skip)
    score = metrics.r2_score(Y, P, skip=skip)
    np.testing.assert_allclose(expected, np.sqrt(np.mean((Y - P)[:, skip:] ** 2, axis=(0, 1))))
    for mine, theirs, lengths in (
        (list(Y), list(P), None),
        (Y.reshape(-1, 2), P.reshape(-1, 2), [5] * 6),
    ):
        options = {"skip": skip, "lengths": lengths}
        np.testing.assert_allclose(
            metrics.root_mean_square_error(mine, theirs, **options), expected
        )
        assert metrics.r2_score(mine, theirs, **options) == pytest.approx(score)


@pytest.mark.parametrize("skip", [0, 2])
def test_one_output_without_its_axis_gives_the_errors_of_one_output(skip):
    Y, P = data(shape=(6, 5, 1))
    expected = metrics.root_mean_square_error(Y, P, skip=skip)
    score = metrics.r2_score(Y, P, skip=skip)
    flat = {
        "list": ([y[:, 0] for y in Y], [p[:, 0] for p in P], None),
        "vector": (Y.ravel(), P.ravel(), [5] * 6),
    }
    for mine, theirs, lengths in flat.values():
        options = {"skip": skip, "lengths": lengths}
        np.testing.assert_allclose(
            metrics.root_mean_square_error(mine, theirs, **options), expected
        )
        assert metrics.r2_score(mine, theirs, **options) == pytest.approx(score)


def test_skip_leaves_out_the_start_of_every_sequence():
    Y = [np.zeros((4, 1)), np.zeros((3, 1)), np.zeros((1, 1))]
    P = [y.copy() for y in Y]
    for part in P:
        part[:2] = 7.0
    np.testing.assert_array_equal(metrics.root_mean_square_error(Y, P, skip=2), [0.0])
    with pytest.raises(ValueError, match="`skip`=4 leaves no steps: the longest sequence has 4"):
        metrics.root_mean_square_error(Y, P, skip=4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 123.456])
def test_outputs_that_do_not_vary_are_left_out_of_r2(value):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((10, 1))
    p = y + 0.1
    constant = np.full((10, 1), value)
    alone = metrics.r2_score(y, p)
    both = metrics.r2_score(np.hstack((y, constant)), np.hstack((p, constant + 1e-9)))
    assert both == pytest.approx(alone)
    with pytest.raises(ValueError, match="`Y` is constant"):
        metrics.r2_score(constant, constant)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"`Y` has shape \(4, 2\), `predictions` \(3, 2\)"):
        metrics.root_mean_square_error(np.ones((4, 2)), np.ones((3, 2)))


def test_lists_cut_differently_are_not_compared():
    Y = [np.ones((3, 1)), np.ones((2, 1))]
    with pytest.raises(ValueError, match="predictions"):
        metrics.root_mean_square_error(Y, Y[::-1])


def test_weight_errors_of_simulated_truth_against_itself_are_zero():
    _, _, truth, _ = datasets.make_rnn(1, 3, 4, 3, 2, random_state=0)
    assert set(metrics.weight_errors(truth, truth).values()) == {0.0}


def test_what_is_no_network_has_no_weight_errors():
    _, _, truth, _ = datasets.make_rnn(1, 2, 2, 2, 2, random_state=0)
    with pytest.raises(TypeError, match="`truth` is a NoneType, expected an IORNN or a BRNN"):
        metrics.weight_errors(truth, None)


# ------------------------------------------------------------------------------ both directions

SPLITS = {"3 and 4": (3, 4), "4 and 0": (4, 0), "0 and 4": (0, 4)}


def bidirectional_truth(n_forward=3, n_backward=4, activation="quadratic", seed=0, direct=True):
    sizes = n_forward, n_backward, 5, 3
    return two_way_network(*sizes, activation=activation, seed=seed, direct=direct)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
@pytest.mark.parametrize("seed", range(3))
def test_equivalent_bidirectional_networks_have_no_weight_error(activation, split, seed):
    truth = bidirectional_truth(*split, activation, seed)
    rng = np.random.default_rng(seed)
    k = truth.n_hidden
    order = np.concatenate((rng.permutation(split[0]), split[0] + rng.permutation(split[1])))
    model = equivalent(truth, order, rng.choice([-1.0, 1.0], k), rng.uniform(0.25, 4.0, k))
    errors = metrics.weight_errors(model, truth)
    assert tuple(errors) == BRNN.weight_names
    assert max(errors.values()) < ALGEBRA_TOLERANCE


def test_units_are_matched_within_each_direction():
    # the same unit in both chains, and a model whose copies are each closer to the other one
    rows = np.eye(2)
    truth = BRNN(rows[:1], None, rows[1:], None, np.eye(2))
    model = BRNN(rows[1:], None, rows[:1], None, np.eye(2)[::-1])
    found = metrics.align(model, truth)
    np.testing.assert_array_equal(found.order, [0, 1])
    np.testing.assert_array_equal(found.cosines, [0.0, 0.0])
    assert found.model == model


def test_the_error_of_a_known_perturbation_of_one_direction_is_its_own():
    truth = bidirectional_truth(direct=False).canonical()
    model = truth.replace(backward_recurrent_weights=1.001 * truth.backward_recurrent_weights)
    errors = metrics.weight_errors(model, truth)
    assert errors["backward_recurrent_weights"] == pytest.approx(0.001, rel=OF_A_CHANGE)
    assert errors["forward_recurrent_weights"] < ALGEBRA_TOLERANCE
    assert "direct_weights" not in errors


def test_networks_with_other_directions_cannot_be_compared():
    truth = bidirectional_truth(3, 4)
    with pytest.raises(ValueError, match="different `n_forward` cannot be compared: 4 and 3"):
        metrics.weight_errors(bidirectional_truth(4, 3), truth)
    with pytest.raises(ValueError, match="different `n_hidden` cannot be compared: 6 and 7"):
        metrics.weight_errors(bidirectional_truth(3, 3), truth)
    with pytest.raises(TypeError, match="`model` is a IORNN and `truth` a BRNN"):
        metrics.weight_errors(truth_of(n_hidden=7), truth)


@pytest.mark.parametrize("measure", [metrics.root_mean_square_error, metrics.r2_score])
def test_what_is_wrong_with_predictions_is_said_of_predictions(measure):
    good, bad = np.arange(6.0).reshape(3, 2), np.full((3, 2), np.nan)
    with pytest.raises(ValueError, match="`Y` holds nan at sequence 0, step 0, column 0"):
        measure(bad, good)
    with pytest.raises(ValueError, match="`predictions` holds nan"):
        measure(good, bad)
    with pytest.raises(TypeError, match="`predictions` has dtype"):
        measure(good, np.full((3, 2), "a"))
    with pytest.raises(ValueError, match="`lengths` sum to 2, but `Y` has 3 rows"):
        measure(good, good, lengths=[1, 1])
