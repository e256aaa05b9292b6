"""The network as a value: weights, predictions in the form of the input, canonical form."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_close, assert_same_weights
from helpers.generators import forward_network, uniform_inputs
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.activations import Polynomial
from gloree.models import IORNN, ExplosionError

# sums of up to 10 products, in another order
ALGEBRA_TOLERANCE = 1e-13
# scales up to 1e3 each way, cubed, over 8 steps
CANONICAL_TOLERANCE = 1e-10

ACTIVATIONS = {
    "linear": "linear",
    "quadratic": "quadratic",
    "cubic": "cubic",
    "scaled square": Polynomial((0, 0, -0.5)),
    "even": Polynomial((0.3, 0, 1.0)),
    "odd": Polynomial((0, 1.0, 0, 0.5)),
    "mixed": Polynomial((0, 1.0, 0.5)),
    "tanh": "tanh",
    "softplus": "softplus",
}
make_model = partial(forward_network, norm=0.2, direct=True)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("lags", [1, 3])
@pytest.mark.parametrize("direct", [False, True])
def test_predictions_are_those_of_the_equation(activation, lags, direct):
    model = make_model(activation=activation, lags=lags, direct=direct)
    X = uniform_inputs()
    assert_close(model.predict(X), naive.predictions(model, X), ALGEBRA_TOLERANCE)


def test_predictions_come_back_in_the_form_of_the_input():
    model, X = make_model(), uniform_inputs()
    stacked = model.predict(X)
    assert stacked.shape == (5, 8, 2)
    listed = model.predict(list(X))
    assert isinstance(listed, list)
    np.testing.assert_array_equal(np.stack(listed), stacked)
    single = model.predict(X[0])
    assert single.shape == (8, 2)
    np.testing.assert_allclose(single, stacked[0], atol=ALGEBRA_TOLERANCE)
    flat = model.predict(X.reshape(-1, 3), lengths=[8] * 5)
    np.testing.assert_array_equal(flat.reshape(5, 8, 2), stacked)
    assert model.hidden_states(X).shape == (5, 8, 4)
    assert [h.shape for h in model.hidden_states([X[0], X[1, :2]])] == [(8, 4), (2, 4)]


def test_any_layout_and_dtype_is_read():
    model = make_model()
    whole = np.random.default_rng(0).integers(-2, 3, (5, 8, 3))
    expected = model.predict(whole.astype(np.float64))
    read_only = whole.astype(np.float64)
    read_only.flags.writeable = False
    strided = np.zeros((5, 16, 6))
    strided[:, ::2, ::2] = whole
    for X in (
        whole,
        read_only,
        whole.astype(np.float32),
        np.asfortranarray(whole.astype(np.float64)),
        strided[:, ::2, ::2],
    ):
        np.testing.assert_allclose(model.predict(X), expected, rtol=0, atol=ALGEBRA_TOLERANCE * 10)
        assert model.predict(X).dtype == np.float64


@pytest.mark.slow
@settings(deadline=None)  # other work on the machine must not fail a test
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.randoms())
def test_the_order_of_sequences_does_not_matter(lengths, shuffler):
    model = make_model()
    X = [uniform_inputs(1, n, seed=i)[0] for i, n in enumerate(lengths)]
    order = list(range(len(X)))
    shuffler.shuffle(order)
    straight, shuffled = model.predict(X), model.predict([X[i] for i in order])
    for place, i in enumerate(order):
        np.testing.assert_allclose(
            shuffled[place], straight[i], rtol=0, atol=ALGEBRA_TOLERANCE * 10
        )


def test_the_future_does_not_matter():
    model, X = make_model(lags=2), uniform_inputs()
    changed = X.copy()
    changed[:, 5:] = 7.0
    np.testing.assert_array_equal(model.predict(X)[:, :5], model.predict(changed)[:, :5])


def test_weights_are_read_only_copies():
    given_weights = np.ones((2, 3))
    model = IORNN(given_weights, None, np.ones((2, 1)))
    given_weights[:] = 5.0
    np.testing.assert_array_equal(model.input_weights, np.ones((2, 3)))
    for other in (
        model,
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        model.canonical(),
    ):
        for name in ("input_weights", "recurrent_weights", "output_weights", "hidden_bias"):
            assert not getattr(other, name).flags.writeable
            assert getattr(other, name).dtype == np.float64
    with pytest.raises(AttributeError):
        model.input_weights = given_weights
    with pytest.raises(ValueError, match="read-only"):
        model.input_weights[0, 0] = 2.0


def test_defaults_are_zeros_and_no_direct_path():
    model = IORNN(np.ones((2, 3)), None, np.ones((2, 1)))
    np.testing.assert_array_equal(model.recurrent_weights, np.zeros((2, 2)))
    np.testing.assert_array_equal(model.hidden_bias, np.zeros(2))
    np.testing.assert_array_equal(model.output_bias, np.zeros(1))
    assert model.direct_weights is None
    assert (model.n_inputs, model.n_hidden, model.n_outputs) == (3, 2, 1)
    assert model.n_parameters == 6 + 4 + 2 + 2 + 1
    assert make_model(lags=2).n_inputs == 3
    assert "n_hidden=4" in repr(make_model())
    assert "lags=2" in repr(make_model(lags=2))


def test_equality_is_of_content():
    model = make_model()
    assert model == copy.copy(model) == pickle.loads(pickle.dumps(model)) == model.replace()
    assert model != model.replace(output_bias=None)
    assert model != model.replace(activation="cubic")
    assert model != model.replace(direct_weights=None)
    assert model != make_model(n_hidden=2)
    assert model != "a model"
    with pytest.raises(TypeError, match="unhashable"):
        hash(model)


def test_replace_refuses_names_that_are_no_arguments():
    with pytest.raises(TypeError, match="`replace` got 'bias'"):
        make_model().replace(bias=None)


GOOD = {
    "input_weights": np.ones((4, 3)),
    "recurrent_weights": np.ones((4, 4)),
    "output_weights": np.ones((4, 2)),
}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_weights": np.ones(3)}, ValueError, r"`input_weights` has shape \(3,\)"),
        ({"input_weights": None}, TypeError, "`input_weights` is None"),
        ({"input_weights": np.ones((0, 3))}, ValueError, "`input_weights` is empty"),
        ({"input_weights": [["a"]]}, TypeError, "`input_weights` has dtype"),
        ({"input_weights": [[1.0], [1.0, 2.0]]}, ValueError, "`input_weights` is not a regular"),
        ({"input_weights": np.full((4, 3), np.nan)}, ValueError, r"holds nan at \(0, 0\)"),
        ({"recurrent_weights": np.ones((3, 3))}, ValueError, r"expected \(4, 4\)"),
        ({"output_weights": np.ones((2, 4))}, ValueError, "transpose it"),
        ({"hidden_bias": np.ones(3)}, ValueError, r"expected \(4,\)"),
        ({"output_bias": np.ones((2, 1))}, ValueError, r"expected \(2,\)"),
        ({"direct_weights": np.ones((2, 3))}, ValueError, r"`direct_weights` .* transpose it"),
        ({"activation": "quadratik"}, ValueError, "did you mean 'quadratic'"),
        ({"lags": 2}, ValueError, "multiple of `lags` = 2"),
        ({"lags": 0}, ValueError, "`lags` is 0"),
        ({"lags": 1.0}, TypeError, "`lags` is 1.0"),
    ],
)
def test_wrong_weights_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        IORNN(**{**GOOD, **changes})


def test_wrong_data_are_named():
    model = make_model()
    with pytest.raises(ValueError, match="`X` has 2 columns, the model expects n_inputs = 3"):
        model.predict(np.ones((5, 2)))
    with pytest.raises(ValueError, match="builds the windows"):
        make_model(lags=2).predict(np.ones((5, 6)))
    with pytest.raises(ValueError, match="`on_explosion` is 'ignore'"):
        model.predict(np.ones((5, 3)), on_explosion="ignore")
    with pytest.raises(ValueError, match="sequence 0, step 1"):
        model.predict(np.array([[1.0, 1.0, 1.0], [np.nan, 1.0, 1.0]]))


def test_explosion_names_sequence_step_size_and_advice():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    calm, wild = np.zeros((9, 1)), np.ones((9, 1))
    with pytest.raises(ExplosionError, match=r"sequence 2 reached .*e\+.* at step 6") as caught:
        model.predict([calm, calm[:2], wild, wild])
    assert (caught.value.sequence, caught.value.step) == (2, 6)
    assert caught.value.size > 1e16
    assert "smaller recurrent weights" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    np.testing.assert_array_equal(model.explosions([wild, calm, wild]), [[0, 6], [2, 6]])
    np.testing.assert_array_equal(model.explosions([wild, calm], limit=100.0), [[0, 3]])


def test_any_positive_limit_will_do():
    model = IORNN([[1.0]], [[1.0]], [[1.0]])
    X = np.ones((2000, 1))
    np.testing.assert_array_equal(model.explosions(X, limit=np.inf), [[0, 10]])
    np.testing.assert_array_equal(model.explosions(X, limit=1e-9), [[0, 0]])
    for limit in (0.0, np.nan):
        with pytest.raises(ValueError, match="`limit`"):
            model.explosions(X, limit=limit)


def test_without_recurrence_only_overflow_counts():
    model = IORNN([[1.0]], None, [[1.0]])
    X = np.array([[1e12], [1.0], [1e200], [1.0]])
    np.testing.assert_array_equal(model.explosions(X), [[0, 2]])
    assert model.predict(X[:2])[0, 0] == pytest.approx(1e24)
    np.testing.assert_array_equal(model.explosions([X[:2], X[1:]]), [[1, 1]])


def test_simulated_outputs_scatter_about_the_predictions():
    model, X = make_model(), uniform_inputs(200, 50)
    spread = np.array([0.5, 2.0])
    outputs = model.simulate(X, noise=spread, random_state=0)
    residual = (outputs - model.predict(X)).reshape(-1, 2)
    # standard error of a standard deviation: sigma / sqrt(2 n); four of them
    error = 4 * spread / np.sqrt(2 * len(residual))
    assert np.all(np.abs(residual.std(axis=0) - spread) < error)
    np.testing.assert_array_equal(outputs, model.simulate(X, noise=spread, random_state=0))
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(outputs, model.simulate(X, noise=spread, random_state=generator))
    assert not np.array_equal(outputs, model.simulate(X, noise=spread, random_state=1))
    np.testing.assert_array_equal(model.simulate(X), model.predict(X))
    assert isinstance(model.simulate(list(X), noise=1.0), list)
    with pytest.raises(ValueError, match="`noise`"):
        model.simulate(X, noise=-1.0)
    with pytest.raises(ValueError, match="2 of them"):
        model.simulate(X, noise=[1.0, 1.0, 1.0])


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("seed", range(3))
def test_canonical_form_leaves_predictions_unchanged(activation, seed):
    model = make_model(activation=activation, seed=seed)
    scales = np.random.default_rng(seed).uniform(0.3, 3.0, 4)[:, None]
    model = model.replace(input_weights=model.input_weights * scales)
    X = uniform_inputs()
    canonical = model.canonical()
    np.testing.assert_allclose(
        canonical.predict(X), model.predict(X), rtol=CANONICAL_TOLERANCE, atol=CANONICAL_TOLERANCE
    )
    again = canonical.canonical()
    assert_same_weights(again, canonical, ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_canonical_form_is_the_same_for_equivalent_weights(degree):
    f = Polynomial([0.0] * degree + [1.0])
    model = make_model(activation=f)
    rng = np.random.default_rng(5)
    s = rng.choice([-1.0, 1.0], 4) * rng.uniform(0.2, 5.0, 4)
    t = s**degree
    order = rng.permutation(4)
    equivalent = IORNN(
        (model.input_weights * s[:, None])[order],
        (model.recurrent_weights * np.outer(s, 1 / t))[np.ix_(order, order)],
        (model.output_weights / t[:, None])[order],
        (model.hidden_bias * s)[order],
        model.output_bias,
        model.direct_weights,
        f,
    )
    first, second = model.canonical(), equivalent.canonical()
    assert_same_weights(first, second, CANONICAL_TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(first.input_weights, axis=1), 1.0)
    peaks = np.argmax(np.abs(first.input_weights), axis=1)
    assert np.all(first.input_weights[np.arange(4), peaks] > 0)
    sizes = np.linalg.norm(first.output_weights, axis=1)
    assert np.all(np.diff(sizes) <= 0)


def test_canonical_form_of_a_unit_without_inputs():
    model = IORNN([[0.0, 0.0], [3.0, -4.0]], [[0.0, 0.2], [0.1, 0.0]], [[1.0], [1.0]], [0.5, -0.1])
    X = uniform_inputs(n_inputs=2)
    np.testing.assert_allclose(
        model.canonical().predict(X), model.predict(X), rtol=CANONICAL_TOLERANCE
    )


@pytest.mark.slow
def test_importing_models_loads_no_optional_dependency():
    code = (
        "import sys, numpy as np; before = np.geterr(); state = np.random.get_state()[1].copy();"
        "import gloree.models, gloree.activations;"
        "assert not {'torch', 'matplotlib', 'dask'} & set(sys.modules);"
        "assert np.geterr() == before;"
        "assert (np.random.get_state()[1] == state).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
