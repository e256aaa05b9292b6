"""Networks whose units have different activations: `PerUnit` alone, and inside the models."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
from helpers import naive
from helpers.comparisons import assert_close, assert_same_in_torch
from helpers.generators import forward_network, two_way_network, uniform_inputs
from helpers.marks import first_of

from gloree.activations import (
    PerUnit,
    Polynomial,
    cubic,
    from_spec,
    get_activation,
    linear,
    quadratic,
    softplus,
    tanh,
)

KINDS = (linear, linear, tanh, quadratic, softplus, Polynomial((0.1, -1.0, 0.2)), cubic, tanh)
MIXED = PerUnit(KINDS)
GRID = np.linspace(-2.0, 2.0, 5 * len(KINDS)).reshape(5, len(KINDS))

# the same sums in another order, over states of size one
ALGEBRA_TOLERANCE = 1e-12
# a long sequence is run in blocks that are iterated until the states settle to rounding
BLOCK_TOLERANCE = 1e-10

UNITS = ["linear", "tanh", "linear", "softplus", "quadratic"]


make_iornn = partial(forward_network, 2, 5, 3, direct=True, activation=UNITS)
make_brnn = partial(
    two_way_network, n_inputs=2, n_outputs=3, norm=0.2, direct=True, activation=UNITS
)
MODELS = {
    "iornn": make_iornn,
    "brnn": make_brnn,
    "forward units only": partial(make_brnn, 5, 0),
    "backward units only": partial(make_brnn, 0, 5),
}


# --------------------------------------------------------------------------- the activation


def test_values_are_those_of_each_activation():
    expected = np.column_stack([f(GRID[:, i]) for i, f in enumerate(KINDS)])
    np.testing.assert_array_equal(MIXED(GRID), expected)
    np.testing.assert_array_equal(MIXED(GRID[2]), expected[2])
    np.testing.assert_array_equal(MIXED(GRID[None]), expected[None])


def test_values_are_written_where_they_are_asked_for():
    out = np.empty_like(GRID)
    assert MIXED(GRID, out=out) is out
    np.testing.assert_array_equal(out, MIXED(GRID))


@pytest.mark.parametrize("order", range(5))
def test_derivatives_are_those_of_each_activation(order):
    expected = np.column_stack([f.derivative(GRID[:, i], order) for i, f in enumerate(KINDS)])
    np.testing.assert_array_equal(MIXED.derivative(GRID, order), expected)


def test_value_and_derivative_agree_with_the_separate_calls():
    value, slope = MIXED.value_and_derivative(GRID)
    np.testing.assert_array_equal(value, MIXED(GRID))
    np.testing.assert_array_equal(slope, MIXED.derivative(GRID))


@pytest.mark.parametrize("order", range(6))
def test_polynomials_of_one_degree_are_evaluated_together(order):
    kinds = [Polynomial((0.1 * i, 1.0, -0.3, 0.2 + i)) for i in range(4)]
    kinds += [cubic, quadratic, quadratic, Polynomial((0.0, 2.0, 1.0)), linear, Polynomial((1, 2))]
    z = np.random.default_rng(0).standard_normal((7, len(kinds)))
    together, out = PerUnit(kinds), np.empty_like(z)
    expected = np.column_stack([f.derivative(z[:, i], order) for i, f in enumerate(kinds)])
    np.testing.assert_array_equal(together.derivative(z, order), expected)
    np.testing.assert_array_equal(together(z, out=out), together.derivative(z, 0))
    assert pickle.loads(pickle.dumps(together)) == PerUnit(kinds)


def test_runs_join_neighbours_of_one_kind():
    runs = MIXED.runs
    assert [f for _, f in runs] == [linear, tanh, quadratic, softplus, KINDS[5], cubic, tanh]
    assert runs[0][0] == slice(0, 2)
    covered = np.concatenate([np.arange(len(KINDS))[units] for units, _ in runs])
    np.testing.assert_array_equal(covered, np.arange(len(KINDS)))
    assert PerUnit(["linear", "linear", "tanh"]).name == "2 linear, 1 tanh"


def test_what_is_said_of_mixed_units_holds_for_all_of_them():
    assert MIXED.n_units == len(KINDS)
    assert tanh.n_units is None
    assert MIXED.degree is None
    assert MIXED.parity is None
    assert not MIXED.is_monomial


@pytest.mark.parametrize("units", [slice(0, 3), slice(3, None), slice(2, 3), slice(None)])
def test_select_takes_the_activations_of_some_units(units):
    part = MIXED.select(units)
    assert part == PerUnit(KINDS[units])
    np.testing.assert_array_equal(part(GRID[:, units]), MIXED(GRID)[:, units])


def test_select_of_no_units_acts_on_no_columns():
    assert MIXED.select(slice(2, 2))(np.zeros((4, 0))).shape == (4, 0)


def test_select_leaves_activations_of_any_size_alone():
    assert tanh.select(slice(0, 2)) is tanh


def test_spec_is_json_and_comes_back():
    assert from_spec(json.loads(json.dumps(MIXED.spec()))) == MIXED
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED
    assert hash(PerUnit(KINDS)) == hash(MIXED)
    assert PerUnit(KINDS[::-1]) != MIXED


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_names_is_an_activation_for_each_unit(kind):
    assert get_activation(kind(["linear", tanh])) == PerUnit([linear, tanh])
    assert get_activation(MIXED) is MIXED


def test_errors_of_the_activation_say_what_was_seen():
    with pytest.raises(ValueError, match=r"`z` has shape \(5, 3\), expected \(\.\.\., 8\)"):
        MIXED(GRID[:, :3])
    with pytest.raises(ValueError, match=r"`z` has shape \(\)"):
        MIXED.derivative(1.0)
    with pytest.raises(ValueError, match="`units` is empty"):
        get_activation([])
    with pytest.raises(TypeError, match="`units` is 'tanh', expected a sequence"):
        PerUnit("tanh")
    with pytest.raises(TypeError, match="holds a PerUnit"):
        PerUnit([tanh, MIXED])
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        get_activation(["linear", "tahn"])
    with pytest.raises(TypeError, match="`activation` is of type int"):
        get_activation(["linear", 2])


# ------------------------------------------------------------------------------- the models


@pytest.mark.parametrize("make", [make_iornn, make_brnn], ids=["make_iornn", "make_brnn"])
def test_a_wrong_number_of_units_is_an_error(make):
    with pytest.raises(ValueError, match="`activation` is made for 2 units, the weights have 5"):
        make(activation=["linear", "tanh"])


@pytest.mark.parametrize("lags", [1, 2])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_forward_pass_is_that_of_a_naive_loop(make, lags):
    model = make(lags=lags)
    rng = np.random.default_rng(1)
    X = [rng.standard_normal((n, 2)) for n in (9, 1, 4, 4, 13)]
    for x, h, y in zip(X, model.hidden_states(X), model.predict(X), strict=True):
        assert_close(h, naive.run(model, x).h, ALGEBRA_TOLERANCE)
        assert_close(y, naive.predictions(model, x), ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("make", first_of(MODELS.values(), 2), ids=MODELS)
def test_one_long_sequence_is_that_of_a_naive_loop(make):
    model = make()
    x = 0.5 * np.random.default_rng(2).standard_normal((6000, 2))
    assert_close(model.predict(x), naive.predictions(model, x), BLOCK_TOLERANCE)


def test_units_of_one_kind_are_the_network_of_that_kind():
    x = np.random.default_rng(3).standard_normal((50, 2))
    one, many = (make_iornn(activation=kind) for kind in ("tanh", ["tanh"] * len(UNITS)))
    assert_close(many.predict(x), one.predict(x), ALGEBRA_TOLERANCE)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_canonical_leaves_mixed_units_in_their_places(make):
    model = make()
    assert model.canonical() == model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_saved_model_comes_back_to_the_bit(make, tmp_path):
    model = make()
    model.save(tmp_path / "mixed.npz")
    again = type(model).load(tmp_path / "mixed.npz")
    assert again == model
    assert again.activation == PerUnit(UNITS)


def test_the_name_of_mixed_units_is_in_the_representation():
    assert "1 linear, 1 tanh, 1 linear, 1 softplus, 1 quadratic" in repr(make_iornn())


@pytest.mark.parametrize("lags", [1, 2])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_torch_module_reproduces_predictions_and_states(make, lags):
    assert_same_in_torch(make(lags=lags), uniform_inputs(n_inputs=2), ALGEBRA_TOLERANCE)


def test_torch_gradients_flow_through_mixed_units():
    torch = pytest.importorskip("torch")
    module = make_iornn().to_torch()
    module(torch.ones((2, 5, 2), dtype=torch.float64)).square().mean().backward()
    for parameter in module.parameters():
        assert bool(torch.all(torch.isfinite(parameter.grad)))
        assert bool(torch.any(parameter.grad != 0))
