"""The bidirectional network: both chains, their stack, and everything that is the mirror image."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
import tracemalloc
from functools import partial

import numpy as np
import pytest
from helpers import naive
from helpers.blocks import assert_blocks_are_the_loop, tiny_blocks
from helpers.comparisons import assert_close, assert_same_in_torch, assert_same_weights
from helpers.generators import mirrored, two_way_network, uniform_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.activations import Polynomial
from gloree.models import (
    BRNN,
    IORNN,
    ExplosionError,
    ExplosionWarning,
    Network,
    joint_windows,
)

# A change of the inputs must show in the states by far more than rounding.
VISIBLE = 1e-3

# sums of up to 20 products, in another order
ALGEBRA_TOLERANCE = 1e-12
# blocks begin at states that agree to 1e-14, and sums remember some of them
BLOCK_TOLERANCE = 1e-12
# scales up to 5 each way, to the fourth power, over 8 steps
CANONICAL_TOLERANCE = 1e-10

ACTIVATIONS = {
    "linear": "linear",
    "quadratic": "quadratic",
    "cubic": "cubic",
    "even": Polynomial((0.3, 0, 1.0)),
    "odd": Polynomial((0, 1.0, 0, 0.5)),
    "mixed": Polynomial((0, 1.0, 0.5)),
    "tanh": "tanh",
}
SPLITS = [(3, 2), (2, 3), (1, 1), (4, 0), (0, 4)]
make_model = partial(two_way_network, norm=0.1, direct=True)


# ------------------------------------------------------------------------------ forward passes


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("lags", [1, 2, 3])
@pytest.mark.parametrize("direct", [False, True])
def test_states_and_predictions_are_those_of_the_equation(split, lags, direct):
    model = make_model(*split, lags=lags, direct=direct)
    X = uniform_inputs()
    assert_close(model.hidden_states(X), naive.run(model, X).h, ALGEBRA_TOLERANCE)
    assert_close(model.predict(X), naive.predictions(model, X), ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_any_activation_will_do(activation):
    model, X = make_model(activation=activation), uniform_inputs()
    assert_close(model.predict(X), naive.predictions(model, X), ALGEBRA_TOLERANCE)


@pytest.mark.slow
@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    name=st.sampled_from(["quadratic", "cubic", "tanh", "linear"]),
    recurrence=st.sampled_from([0.0, 0.05, 0.3]),
    lags=st.integers(1, 3),
    split=st.sampled_from(SPLITS),
    rows=st.sampled_from([1, 8, 50, 10**4]),
    seed=st.integers(0, 99),
)
def test_batches_and_blocks_never_cross_a_boundary(
    lengths, name, recurrence, lags, split, rows, seed
):
    model = make_model(*split, norm=recurrence, activation=name, lags=lags, seed=seed)
    rng = np.random.default_rng(seed)
    X = [rng.uniform(-1, 1, (n, 3)) for n in lengths]
    assert_blocks_are_the_loop(model, X, rows, BLOCK_TOLERANCE)


@pytest.mark.parametrize("radius", [0.1, 0.95, 1.0])
def test_one_long_sequence_is_the_plain_loop_whatever_is_remembered(radius):
    rng = np.random.default_rng(2)
    turns = [radius * np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2)]
    model = BRNN(
        0.3 * rng.standard_normal((3, 6)),
        turns[0],
        0.3 * rng.standard_normal((3, 6)),
        turns[1],
        rng.standard_normal((6, 2)),
        direct_weights=rng.standard_normal((9, 2)),
        activation="linear",
        lags=2,
    )
    X = rng.uniform(-1, 1, (5000, 3))
    assert_close(model.predict(X), naive.predictions(model, X), BLOCK_TOLERANCE)


@pytest.mark.slow
def test_a_record_of_several_batches_is_carried_over_from_its_end():
    # integrators of integers: both chains have to be joined through all batches, exactly
    model = BRNN([[1.0]], [[1.0]], [[1.0]], [[1.0]], [[1.0], [1.0]], activation="linear")
    X = np.random.default_rng(3).integers(-3, 4, (200_000, 1))
    expected = np.hstack((np.cumsum(X, axis=0), np.cumsum(X[::-1], axis=0)[::-1]))
    np.testing.assert_array_equal(model.hidden_states(X), expected)


@pytest.mark.parametrize("lags", [1, 3])
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_swapping_directions_reverses_time(split, lags):
    model = make_model(*split, lags=lags)
    lengths = [1, 9, 4, 2000]
    X = [uniform_inputs(1, n, seed=n)[0] for n in lengths]
    reversed_outputs = mirrored(model).predict([x[::-1] for x in X])
    for y, mirror in zip(model.predict(X), reversed_outputs, strict=True):
        assert_close(mirror[::-1], y, ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("lags", [1, 2])
def test_without_backward_units_it_is_the_network_of_one_direction(lags):
    model = make_model(3, 0, lags=lags, direct=lags == 1)
    one = IORNN(
        model.forward_input_weights,
        model.forward_recurrent_weights,
        model.output_weights,
        model.hidden_bias,
        model.output_bias,
        model.direct_weights,
        lags=lags,
    )
    X = uniform_inputs()
    np.testing.assert_array_equal(model.predict(X), one.predict(X))
    np.testing.assert_array_equal(model.hidden_states(X), one.hidden_states(X))


def test_each_chain_sees_its_own_side():
    model, X = make_model(lags=2), uniform_inputs()
    changed = X.copy()
    changed[:, 5:] = 0.5
    k = model.n_forward
    before, after = model.hidden_states(X), model.hidden_states(changed)
    np.testing.assert_array_equal(before[:, :5, :k], after[:, :5, :k])
    np.testing.assert_array_equal(
        model.hidden_states(X[:, 3:])[..., k:], model.hidden_states(X)[:, 3:, k:]
    )
    assert np.abs(before[:, :5, k:] - after[:, :5, k:]).max() > VISIBLE


def test_predictions_come_back_in_the_form_of_the_input():
    model, X = make_model(), uniform_inputs()
    stacked = model.predict(X)
    assert stacked.shape == (5, 8, 2)
    np.testing.assert_array_equal(np.stack(model.predict(list(X))), stacked)
    assert_close(model.predict(X[0]), stacked[0], ALGEBRA_TOLERANCE)
    flat = model.predict(X.reshape(-1, 3), lengths=[8] * 5)
    np.testing.assert_array_equal(flat.reshape(5, 8, 2), stacked)
    assert [h.shape for h in model.hidden_states([X[0], X[1, :2]])] == [(8, 5), (2, 5)]
    assert_close(model.predict(np.asfortranarray(X)), stacked, ALGEBRA_TOLERANCE)
    np.testing.assert_array_equal(
        model.predict(np.ones((4, 3), dtype=int)), model.predict(np.ones((4, 3)))
    )


@pytest.mark.slow
def test_a_pass_holds_only_a_batch_beside_its_result():
    model = make_model(1, 1, n_inputs=1, lags=2)
    beside = []
    for n_rows in (400_000, 1_200_000):
        X = np.zeros((n_rows, 1))
        tracemalloc.start()
        outputs = model.predict(X)
        beside.append(tracemalloc.get_traced_memory()[1] - outputs.nbytes)
        tracemalloc.stop()
    assert beside[1] < 1.1 * beside[0]


def test_simulated_outputs_are_predictions_and_noise():
    model, X = make_model(), uniform_inputs(200, 50)
    np.testing.assert_array_equal(model.simulate(X), model.predict(X))
    residual = (model.simulate(X, noise=0.5, random_state=0) - model.predict(X)).ravel()
    # standard error of a standard deviation: sigma / sqrt(2 n); four of them
    assert abs(residual.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * residual.size)


# ---------------------------------------------------------------------------------- explosions


def runaways(forward=0.0, backward=1.0):
    """One unit for each direction; it runs away on ones where its recurrence is 1."""
    return BRNN([[1.0]], [[forward]], [[1.0]], [[backward]], [[1.0], [1.0]])


@pytest.mark.parametrize("blocks", [False, True])
def test_an_explosion_of_the_backward_chain_is_named_in_true_time(blocks):
    model = runaways()
    calm, wild = np.zeros((9, 1)), np.ones((9, 1))
    data = [calm, calm[:2], wild, calm[:4], np.ones((12, 1)), calm]
    with tiny_blocks(block=4, rows=8) if blocks else contextlib.nullcontext():
        # ones run away in 7 steps: from the last step 8 down to step 2
        np.testing.assert_array_equal(model.explosions(data), [[2, 2], [4, 5]])
        with pytest.raises(ExplosionError, match=r"sequence 2 reached .* at step 2") as caught:
            model.predict(data)
        with pytest.warns(ExplosionWarning, match="2 of 6 .* sequence 2 at step 2") as warned:
            states = model.hidden_states(data, on_explosion="nan")
        with pytest.warns(ExplosionWarning):
            outputs = model.predict(data, on_explosion="nan")
    assert (caught.value.sequence, caught.value.step) == (2, 2)
    assert caught.value.size > 1e16
    assert len(warned) == 1
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(states[2][:, 1]), np.arange(9) <= 2)
    np.testing.assert_array_equal(np.isnan(states[4][:, 1]), np.arange(12) <= 5)
    for i, (h, y) in enumerate(zip(states, outputs, strict=True)):
        assert np.isfinite(h[:, 0]).all()
        assert i in (2, 4) or np.isfinite(h).all()
        np.testing.assert_array_equal(np.isnan(y[:, 0]), np.isnan(h).any(axis=1))


def test_where_both_chains_run_away_the_forward_one_is_named():
    model = runaways(forward=1.0)
    data = [np.zeros((9, 1)), np.ones((9, 1))]
    np.testing.assert_array_equal(model.explosions(data), [[1, 6]])
    with pytest.raises(ExplosionError) as caught:
        model.predict(data)
    assert (caught.value.sequence, caught.value.step) == (1, 6)
    with pytest.warns(ExplosionWarning, match="1 of 2 sequences"):
        states = model.hidden_states(data, on_explosion="nan")
    np.testing.assert_array_equal(np.isnan(states[1]), [[t >= 6, t <= 2] for t in range(9)])


@pytest.mark.slow
@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    blocks=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_explosions_are_where_the_plain_loop_has_them(lengths, blocks, seed):
    model = make_model(2, 2, n_inputs=2, norm=0.8, seed=seed % 7)
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, 2)) for n in lengths]
    with tiny_blocks() if blocks else contextlib.nullcontext():
        got = model.explosions(X)
    np.testing.assert_array_equal(got, naive.explosions(model, X))


# ---------------------------------------------------------------------------------- the stacks


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("lags", [1, 2, 3])
def test_the_stack_computes_the_drive_of_all_units_from_the_joint_window(split, lags):
    model = make_model(*split, lags=lags, norm=0.0)
    x = uniform_inputs()[0]
    assert model.n_columns == (2 * lags - 1) * 3 == model.input_weights.shape[1]
    window = naive.windows(x, [*range(0, -lags, -1), *range(1, lags)])
    drive = window @ model.input_weights.T + model.hidden_bias
    assert_close(model.activation(drive), model.hidden_states(x), ALGEBRA_TOLERANCE)


def test_the_stack_of_recurrences_is_block_diagonal():
    model = make_model(2, 3)
    W = model.recurrent_weights
    np.testing.assert_array_equal(W[:2, :2], model.forward_recurrent_weights)
    np.testing.assert_array_equal(W[2:, 2:], model.backward_recurrent_weights)
    assert not W[:2, 2:].any()
    assert not W[2:, :2].any()


@pytest.mark.parametrize("lags", [1, 3])
def test_stacks_can_be_replaced(lags):
    model = make_model(lags=lags)
    other = make_model(lags=lags, seed=1)
    stacks = ("input_weights", "recurrent_weights")
    changed = model.replace(**{name: getattr(other, name) for name in stacks})
    for name in (*stacks, *BRNN.weight_names[:4]):
        np.testing.assert_array_equal(getattr(changed, name), getattr(other, name))
    np.testing.assert_array_equal(changed.output_weights, model.output_weights)
    assert model.replace(**{name: getattr(model, name) for name in stacks}) == model
    assert not model.replace(recurrent_weights=None).recurrent_weights.any()


def test_stacks_with_entries_where_none_can_be_are_refused():
    model = make_model(lags=2)
    C, W = np.ones((5, 9)), np.ones((5, 5))
    with pytest.raises(ValueError, match=r"`input_weights` holds 1.0 at \(0, 6\), expected 0"):
        model.replace(input_weights=C)
    C[:3, 6:] = 0.0
    with pytest.raises(ValueError, match=r"`input_weights` holds 1.0 at \(3, 3\), expected 0"):
        model.replace(input_weights=C)
    C[3:, 3:6] = 0.0
    assert model.replace(input_weights=C).backward_input_weights.tolist() == [[1.0] * 6] * 2
    with pytest.raises(ValueError, match=r"`recurrent_weights` holds 1.0 at \(0, 3\), expected 0"):
        model.replace(recurrent_weights=W)
    with pytest.raises(ValueError, match=r"8 columns, expected a multiple of 2 \* lags - 1 = 3"):
        model.replace(input_weights=np.ones((5, 8)))
    with pytest.raises(ValueError, match=r"`recurrent_weights` has shape \(3, 3\)"):
        model.replace(recurrent_weights=np.ones((3, 3)))
    with pytest.raises(TypeError, match="`replace` got 'forward_input_weights' and the stack"):
        model.replace(input_weights=C, forward_input_weights=np.ones((3, 6)))
    with pytest.raises(TypeError, match="`replace` got 'bias'"):
        model.replace(bias=None)


def test_both_kinds_offer_the_same_views():
    one = IORNN(np.ones((4, 6)), None, np.ones((4, 2)), lags=2)
    both = make_model(3, 1, lags=2)
    assert isinstance(one, Network)
    assert isinstance(both, Network)
    assert (one.n_inputs, one.n_hidden, one.n_forward, one.n_backward) == (3, 4, 4, 0)
    assert (both.n_inputs, both.n_hidden, both.n_forward, both.n_backward) == (3, 4, 3, 1)
    assert (one.n_columns, both.n_columns) == (6, 9)
    assert (one.n_outputs, both.n_outputs) == (2, 2)


@pytest.mark.slow
@settings(deadline=None)  # other work on the machine must not fail a test
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    lags=st.integers(1, 5),
    n_columns=st.integers(1, 3),
    cut=st.integers(0, 3),
)
def test_joint_windows_are_those_of_each_sequence_alone(lengths, lags, n_columns, cut):
    values = np.random.default_rng(0).standard_normal((sum(lengths), n_columns))
    before = np.concatenate([np.arange(n) for n in lengths])
    after = np.concatenate([np.arange(n)[::-1] for n in lengths])
    windows = joint_windows(values, before, after, lags).reshape(-1, 2 * lags - 1, n_columns)
    for row in range(len(values)):
        for place, offset in enumerate([*range(0, -lags, -1), *range(1, lags)]):
            inside = -before[row] <= offset <= after[row]
            expected = values[row + offset] if inside else np.zeros(n_columns)
            np.testing.assert_array_equal(windows[row, place], expected)
    # rows that are there but not in `values` count as zeros
    part = slice(cut, None)
    far = np.full(len(values), 2**40)
    seen = joint_windows(values[part], far[part], far[part], lags)
    padded = np.pad(values[part], ((lags, lags), (0, 0)))
    offsets = [*range(0, -lags, -1), *range(1, lags)]
    expected = [padded[lags + o : lags + o + len(values) - cut] for o in offsets]
    if len(values) > cut:
        np.testing.assert_array_equal(seen, np.hstack(expected))


# -------------------------------------------------------------------------------------- values


def test_weights_are_read_only_copies():
    model = make_model(lags=2)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other == model
        for name in (*BRNN.weight_names, "input_weights", "recurrent_weights"):
            assert not getattr(other, name).flags.writeable
            assert getattr(other, name).dtype == np.float64
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.input_weights = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.forward_input_weights = None


def test_defaults_are_zeros_and_no_direct_path():
    model = BRNN(np.ones((2, 3)), None, np.ones((1, 3)), None, np.ones((3, 1)))
    np.testing.assert_array_equal(model.recurrent_weights, np.zeros((3, 3)))
    np.testing.assert_array_equal(model.hidden_bias, np.zeros(3))
    np.testing.assert_array_equal(model.output_bias, np.zeros(1))
    assert model.direct_weights is None
    assert model.n_parameters == 6 + 4 + 3 + 1 + 3 + 3 + 1
    assert repr(model) == (
        "BRNN(n_inputs=3, n_forward=2, n_backward=1, n_outputs=1, activation='quadratic')"
    )
    assert repr(make_model(lags=2)).endswith("lags=2, direct)")


def test_equality_is_of_content_and_class():
    model = make_model()
    assert model == copy.copy(model) == model.replace()
    assert model != model.replace(output_bias=None)
    assert model != model.replace(backward_recurrent_weights=None)
    assert model != model.replace(activation="cubic")
    # the same stack, cut elsewhere
    flat = make_model(3, 1).replace(recurrent_weights=None)
    assert flat != BRNN(
        flat.input_weights[:2],
        None,
        flat.input_weights[2:],
        None,
        *(getattr(flat, name) for name in BRNN.weight_names[4:]),
    )
    one = IORNN(np.ones((2, 2)), None, np.ones((2, 1)))
    assert one != BRNN(np.ones((1, 2)), None, np.ones((1, 2)), None, np.ones((2, 1)))


@pytest.mark.parametrize("activation", ["quadratic", "tanh", Polynomial((0.1, 1, 0.3))])
@pytest.mark.parametrize("split", [(3, 2), (4, 0), (0, 4)], ids=str)
@pytest.mark.parametrize("direct", [False, True])
def test_a_saved_model_comes_back_to_the_bit(tmp_path, activation, split, direct):
    model = make_model(*split, lags=2, direct=direct, activation=activation)
    path = tmp_path / "model.npz"
    model.save(path)
    assert BRNN.load(path) == model
    with pytest.raises(ValueError, match=r"of class BRNN, not IORNN: read it with BRNN\.load"):
        IORNN.load(path)


GOOD = {
    "forward_input_weights": np.ones((3, 4)),
    "forward_recurrent_weights": np.ones((3, 3)),
    "backward_input_weights": np.ones((2, 4)),
    "backward_recurrent_weights": np.ones((2, 2)),
    "output_weights": np.ones((5, 2)),
}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"forward_input_weights": None}, TypeError, "`forward_input_weights` is None"),
        ({"forward_input_weights": np.ones(4)}, ValueError, "`forward_input_weights` has shape"),
        (
            {"forward_input_weights": np.ones((3, 0))},
            ValueError,
            "`forward_input_weights` is empty",
        ),
        (
            {"backward_input_weights": np.ones((2, 3))},
            ValueError,
            r"`backward_input_weights` has shape \(2, 3\), expected \(any, 4\)",
        ),
        (
            {
                "forward_input_weights": np.ones((0, 4)),
                "forward_recurrent_weights": None,
                "backward_input_weights": np.ones((0, 4)),
                "backward_recurrent_weights": None,
            },
            ValueError,
            "have no rows, expected a hidden unit in at least one",
        ),
        ({"forward_recurrent_weights": np.ones((2, 2))}, ValueError, r"expected \(3, 3\)"),
        ({"backward_recurrent_weights": np.ones((3, 3))}, ValueError, r"expected \(2, 2\)"),
        ({"backward_input_weights": np.full((2, 4), np.inf)}, ValueError, r"inf at \(0, 0\)"),
        ({"output_weights": np.ones((3, 2))}, ValueError, r"`output_weights` .* \(5, any\)"),
        ({"output_weights": np.ones((5, 0))}, ValueError, "`output_weights` is empty"),
        ({"hidden_bias": np.ones(3)}, ValueError, r"expected \(5,\)"),
        ({"direct_weights": np.ones((4, 2)), "lags": 2}, ValueError, r"expected \(6, 2\)"),
        ({"activation": "quadratik"}, ValueError, "did you mean 'quadratic'"),
        ({"lags": 3}, ValueError, "`forward_input_weights` has 4 columns, .* `lags` = 3"),
        ({"lags": 0}, ValueError, "`lags` is 0"),
        ({"lags": 1.0}, TypeError, "`lags` is 1.0"),
    ],
)
def test_wrong_weights_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        BRNN(**{**GOOD, **changes})


def test_wrong_data_are_named():
    with pytest.raises(ValueError, match="`X` has 2 columns, the model expects n_inputs = 3"):
        make_model().predict(np.ones((5, 2)))
    with pytest.raises(ValueError, match="builds the windows"):
        make_model(lags=2).predict(np.ones((5, 9)))
    with pytest.raises(ValueError, match="`on_explosion` is 'ignore'"):
        make_model().predict(np.ones((5, 3)), on_explosion="ignore")


# --------------------------------------------------------------------------------- symmetries


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_canonical_form_leaves_predictions_unchanged(activation, split):
    model, X = make_model(*split, activation=activation, lags=2), uniform_inputs()
    canonical = model.canonical()
    np.testing.assert_allclose(
        canonical.predict(X), model.predict(X), rtol=CANONICAL_TOLERANCE, atol=CANONICAL_TOLERANCE
    )
    assert (canonical.n_forward, canonical.n_backward) == split
    again = canonical.canonical()
    assert_same_weights(again, canonical, ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_canonical_form_is_the_same_for_equivalent_weights(degree):
    f = Polynomial([0.0] * degree + [1.0])
    model = make_model(3, 3, activation=f, lags=2)
    rng = np.random.default_rng(5)
    s = rng.choice([-1.0, 1.0], 6) * rng.uniform(0.2, 5.0, 6)
    order = np.concatenate((rng.permutation(3), 3 + rng.permutation(3)))
    first = model.canonical()
    second = model.rearranged(order, s, s**degree).canonical()
    assert_same_weights(first, second, CANONICAL_TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(first.input_weights, axis=1), 1.0)
    sizes = np.linalg.norm(first.output_weights, axis=1)
    assert np.all(np.diff(sizes[:3]) <= 0)
    assert np.all(np.diff(sizes[3:]) <= 0)


# --------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("activation", ["linear", "quadratic", "tanh"])
@pytest.mark.parametrize("split", [(3, 2), (4, 0), (0, 4)], ids=str)
@pytest.mark.parametrize(("lags", "direct"), [(1, True), (1, False), (3, True)])
def test_module_reproduces_predictions_and_states(activation, split, lags, direct):
    model = make_model(*split, activation=activation, lags=lags, direct=direct)
    assert_same_in_torch(model, uniform_inputs(), ALGEBRA_TOLERANCE)


def test_the_module_can_be_trained():
    torch = pytest.importorskip("torch")
    module = make_model(lags=2).to_torch()
    module(torch.tensor(uniform_inputs())).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
