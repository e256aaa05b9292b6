"""Coefficients of polynomial units as free weights: their places, derivatives and recovery."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from helpers.batches import SERIAL, only_batch
from helpers.descents import gauss_newton, levenberg_marquardt
from helpers.differences import by_weights
from helpers.engines import noted_explosions
from helpers.generators import forward_network

from gloree.activations import PerUnit, Polynomial, cubic, linear, quadratic, tanh
from gloree.engine import Source
from gloree.models import BRNN, IORNN
from gloree.refinement import (
    LBFGS,
    CrossEntropy,
    Layout,
    gradient_sums,
    hessian_sums,
    polynomial_powers,
    standard_errors,
)
from gloree.sequences import as_sequences
from gloree.states import run_states

# central differences at STEP: STEP^2 times a third derivative and eps / STEP of rounding
STEP = 1e-5
DIFFERENCES = 1e-6
# one addition and its inverse, for numbers of size one
INVERSE = 1e-14
# the same sums of a few thousand terms in another order
ALGEBRA = 1e-10
# outputs of one network by two programs
SAME_OUTPUTS = 1e-12
# the search ends after steps that gain less than 1e-5 each: a few of these, and what a descent of
# steps without damping can still find from there
LEAST_GAINS, LEFT_TO_GAIN = 1e-4, 1e-3
# the slope of a unit is nearly a matter of the linear states: it is what noise moves most
SAME_CURVE = 5e-3
# what takes the place of a leading coefficient of zero
TINY = 1e-300

MIXED = PerUnit(
    [linear, Polynomial((0.2, 1.0, 0.4)), tanh, Polynomial((0.0, -0.5, 0.0, 0.3)), cubic]
)
POWERS = ((), (1, 2), (), (1, 2, 3), (1, 2, 3))


network = partial(forward_network, 2, 5, scale=0.4, direct=True, activation=MIXED)


def bidirectional(seed=0):
    rng = np.random.default_rng(seed)
    parts = [0.15 * rng.standard_normal(shape) for shape in ((3, 4), (3, 3), (2, 4), (2, 2))]
    return BRNN(*parts, rng.standard_normal((5, 2)), activation=MIXED, lags=2)


def layout_of(model, **options):
    powers = polynomial_powers(model.activation, model.n_hidden)
    return Layout(
        model.n_columns, model.n_hidden, model.n_outputs, free_coefficients=powers, **options
    )


# ------------------------------------------------------------------------------------- layout


def test_polynomials_of_degree_two_or_more_have_free_coefficients():
    assert polynomial_powers(MIXED, 5) == POWERS
    assert polynomial_powers(quadratic, 2) == ((1, 2), (1, 2))
    assert polynomial_powers(tanh, 2) == polynomial_powers(linear, 2) == ((), ())


def test_coefficients_stand_after_the_weights_that_enter_their_units():
    model = network()
    layout = layout_of(model, direct=True)
    plain = Layout(2, 5, 2, direct=True)
    assert layout.size == plain.size + 8
    assert layout.n_unit_parameters == plain.n_unit_parameters + 8
    expected = np.arange(plain.n_unit_parameters, plain.n_unit_parameters + 8)
    np.testing.assert_array_equal(layout.indices["coefficients"], expected)
    np.testing.assert_array_equal(
        layout.vector(model)[expected], [1.0, 0.4, -0.5, 0.0, 0.3, 0.0, 0.0, 1.0]
    )
    np.testing.assert_array_equal(np.delete(layout.vector(model), expected), plain.vector(model))


@pytest.mark.parametrize("make", [network, bidirectional], ids=["network", "bidirectional"])
def test_vector_and_move_undo_each_other(make):
    model = make()
    options = {} if make is network else {"n_backward": 2, "lags": 2}
    options["direct"] = model.direct_weights is not None
    layout = layout_of(model, **options)
    vector = np.random.default_rng(1).standard_normal(layout.size)
    moved = layout.move(model, vector - layout.vector(model))
    np.testing.assert_allclose(layout.vector(moved), vector, atol=INVERSE)
    np.testing.assert_array_equal(layout.join(*layout.split(vector)), vector)
    assert layout.move(model, np.zeros(layout.size)) == model
    # constant terms and units of other kinds stay
    kinds = moved.activation.units
    assert kinds[0] == linear
    assert kinds[2] == tanh
    assert [kinds[i].coefficients[0] for i in (1, 3, 4)] == [0.2, 0.0, 0.0]
    places = layout.indices["coefficients"]
    np.testing.assert_allclose(vector[places][:2], kinds[1].coefficients[1:], atol=INVERSE)
    np.testing.assert_allclose(vector[places][-3:], kinds[4].coefficients[1:], atol=INVERSE)


def test_units_of_one_activation_get_coefficients_of_their_own():
    model = network(activation="cubic")
    layout = layout_of(model, direct=True)
    step = np.zeros(layout.size)
    step[layout.indices["coefficients"][-2]] = 0.5
    moved = layout.move(model, step)
    assert moved.activation == PerUnit([cubic] * 4 + [Polynomial((0.0, 0.0, 0.5, 1.0))])


def test_some_powers_may_be_free():
    model = network()
    layout = Layout(2, 5, 2, direct=True, free_coefficients=((), (2,), (), (3, 1), ()))
    np.testing.assert_array_equal(layout.weights(model)["coefficients"], [0.4, 0.3, -0.5])


def test_a_leading_coefficient_of_zero_keeps_the_degree():
    model = network()
    layout = layout_of(model, direct=True)
    step = np.zeros(layout.size)
    step[layout.indices["coefficients"][1]] = -0.4
    moved = layout.move(model, step)
    assert moved.activation.units[1].degree == 2
    assert moved.activation.units[1].leading == pytest.approx(0.0, abs=TINY)
    assert layout.move(moved, -step) == model


@pytest.mark.parametrize(
    ("powers", "message"),
    [
        (((1, 2),), "has 1 entries, expected the powers of each of 5 units"),
        (((), (0, 1), (), (), ()), r"unit 1 is \(0, 1\), expected distinct powers of at least 1"),
        (((), (2, 2), (), (), ()), r"unit 1 is \(2, 2\), expected distinct powers"),
    ],
)
def test_powers_that_no_unit_has_are_errors(powers, message):
    with pytest.raises(ValueError, match=message):
        Layout(2, 5, 2, free_coefficients=powers)


@pytest.mark.parametrize(
    ("powers", "message"),
    [
        (((), (), (1, 2), (), ()), "unit 2 is .*'tanh': expected a polynomial of degree 2"),
        (((), (1, 3), (), (), ()), "unit 1 is .* expected a polynomial of degree 3 or more"),
    ],
)
def test_units_without_such_coefficients_are_errors(powers, message):
    model, layout = network(), Layout(2, 5, 2, direct=True, free_coefficients=powers)
    with pytest.raises(ValueError, match=message):
        layout.vector(model)
    with pytest.raises(ValueError, match=message):
        layout.move(model, np.zeros(layout.size))


# -------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("lags", [1, 3])
def test_derivatives_in_coefficients_are_differences_of_predictions(lags):
    rng = np.random.default_rng(2)
    model = network(lags=lags)
    layout = layout_of(model, direct=True)
    X = [rng.standard_normal((n, 2)) for n in (12, 5)]
    Y = [rng.standard_normal((len(x), 2)) for x in X]
    source = Source(as_sequences(X, Y), batch_size=10**6, lags=lags)
    batch = only_batch(source)

    def predictions(candidate):
        # the first steps, whose windows reach before the start, do not count
        return np.concatenate([part[lags - 1 :] for part in candidate.predict(X)])

    places = layout.indices["coefficients"]
    J = by_weights(predictions, model, layout, STEP)[..., places]
    residuals = np.concatenate([part[lags - 1 :] for part in Y]) - predictions(model)

    gradient = gradient_sums(batch, model, layout).gradient[places]
    np.testing.assert_allclose(gradient, np.einsum("tap,ta->p", J, residuals), rtol=DIFFERENCES)
    hessian = hessian_sums(batch, model, layout).hessian[np.ix_(places, places)]
    expected = np.einsum("tap,taq->pq", J, J)
    np.testing.assert_allclose(hessian, expected, atol=DIFFERENCES * np.abs(expected).max())


# ----------------------------------------------------------------------------------- recovery

NOISE = 0.003
RECORDS, STEPS = 40, 100
ROWS = RECORDS * STEPS


def simulated(n_records=RECORDS, seed=0):
    """Two polynomial units beside two linear ones, each unit with a law of its own."""
    rng = np.random.default_rng(seed)
    truth = IORNN(
        [[1.0], [0.3], [0.8], [-0.4]],
        [
            [0.6, 0.2, 0.2, 0.0],
            [-0.2, 0.5, 0.0, 0.3],
            [0.5, 0.0, 0.0, 0.0],
            [0.0, 0.6, 0.1, 0.0],
        ],
        [[1.0], [-0.5], [0.4], [0.7]],
        [0.0, 0.0, 0.2, -0.3],
        [0.1],
        [[0.2]],
        [
            linear,
            linear,
            Polynomial((0.0, 0.5, 0.3, -0.1)),
            Polynomial((0.0, -0.3, 0.4, 0.15)),
        ],
    )
    u = 0.7 * rng.standard_normal((n_records, STEPS, 1))
    return truth, u, truth.predict(u)


def affine_remainder(values, reference):
    """Share of the variance of each reference that no affine map of its values explains."""
    left = []
    for value, wanted in zip(values.T, reference.T, strict=True):
        basis = np.column_stack((value, np.ones_like(value)))
        fitted = basis @ np.linalg.lstsq(basis, wanted, rcond=None)[0]
        left.append(np.var(wanted - fitted) / np.var(wanted))
    return np.array(left)


@pytest.fixture(scope="module")
def recovered():
    truth, u, clean = simulated()
    rng = np.random.default_rng(5)
    y = clean + NOISE * rng.standard_normal(clean.shape)
    # every unit starts from the same polynomial, and from weights that are off by a tenth
    start = truth.replace(activation=[linear, linear, *2 * [Polynomial((0.0, 0.3, 0.3, 0.02))]])
    layout = layout_of(start, direct=True)
    change = 0.1 * rng.standard_normal(layout.size)
    change[layout.indices["coefficients"]] = 0.0
    start = layout.move(start, change)
    source = Source(as_sequences(u, y))
    return levenberg_marquardt(start, layout, SERIAL, source), start, layout, source


def test_different_polynomials_are_recovered_to_the_noise(recovered):
    end, start, layout, _ = recovered
    _, u, clean = simulated()
    assert np.mean((clean - start.predict(u)) ** 2) > 100 * NOISE**2
    # the noise, less what so many weights take up of it, and four standard errors of its mean
    # square
    assert 2 * end.final.loss == pytest.approx(
        NOISE**2, rel=layout.size / ROWS + 4 * math.sqrt(2 / ROWS) + LEAST_GAINS
    )
    # on new data: what the weights take up of the noise comes back as an error
    _, fresh, wanted = simulated(seed=1)
    error = np.mean((wanted - end.model.predict(fresh)) ** 2)
    assert error < 4 * NOISE**2 * layout.size / ROWS


def test_curve_of_every_unit_is_recovered_up_to_its_scales(recovered):
    end, start, _, source = recovered
    truth, batch = simulated()[0], source.data.whole()

    def curve(model):
        states = run_states(model, batch)
        return states.z[:, 2:], states.h[:, 2:]

    for found, wanted in zip(curve(end.model), curve(truth), strict=True):
        assert np.all(affine_remainder(found, wanted) < SAME_CURVE)
    assert np.any(affine_remainder(curve(start)[1], curve(truth)[1]) > 2 * SAME_CURVE)


def test_coefficients_that_may_not_move_stay(recovered):
    _, start, layout, source = recovered
    free = np.ones(layout.size, dtype=bool)
    free[layout.indices["coefficients"][:3]] = False
    end = levenberg_marquardt(start, layout, SERIAL, source, free=free, max_steps=3)
    assert end.model.activation.units[2] == start.activation.units[2]
    assert end.model.activation.units[3] != start.activation.units[3]


def test_admitted_candidates_confine_coefficients(recovered):
    _, start, layout, source = recovered

    def admit(model):
        kinds = model.activation.units
        return model.replace(activation=[*kinds[:3], start.activation.units[3]])

    end = levenberg_marquardt(start, layout, SERIAL, source, admit=admit, max_steps=3)
    assert end.n_steps > 0
    assert end.model.activation.units[2] != start.activation.units[2]
    assert end.model.activation.units[3] == start.activation.units[3]


def test_fitted_polynomials_come_back_from_a_file(recovered, tmp_path):
    model = recovered[0].model
    model.save(tmp_path / "model.npz")
    again = IORNN.load(tmp_path / "model.npz")
    assert again == model
    assert all(isinstance(unit, Polynomial) for unit in again.activation.units)


def test_fitted_polynomials_run_in_torch(recovered):
    torch = pytest.importorskip("torch")
    model = recovered[0].model
    u = 0.7 * np.random.default_rng(6).standard_normal((50, 1))
    with torch.no_grad():
        outputs = model.to_torch()(torch.tensor(u)).numpy()
    np.testing.assert_allclose(outputs, model.predict(u), atol=SAME_OUTPUTS)


def test_gauss_newton_takes_free_coefficients(recovered):
    end, start, layout, source = recovered
    found = gauss_newton(start, layout, SERIAL, source, max_steps=5)
    assert found.squares.sum() < 0.5 * found.start_squares.sum()
    found = gauss_newton(end.model, layout, SERIAL, source)
    assert found.squares.sum() / ROWS == pytest.approx(2 * end.final.loss, rel=LEFT_TO_GAIN)
    errors = standard_errors(found, layout, SERIAL, source)
    assert errors.weights["coefficients"].shape == (6,)
    assert errors.relative(found.model, layout)["coefficients"] > 0


def test_cross_entropy_takes_free_coefficients():
    rng = np.random.default_rng(7)
    X = [rng.standard_normal((20, 2)) for _ in range(10)]
    labels = [(x[:, :1] ** 2 > 0.5).astype(float) for x in X]
    source = Source(as_sequences(X, labels))
    model = network(seed=1)
    layout = layout_of(model, direct=True)
    found = LBFGS(max_steps=5).minimise(CrossEntropy(), model, layout, SERIAL, source)
    assert found.n_steps == 5
    assert found.final.loss < found.history[0].loss
    assert found.model.activation.units[1] != model.activation.units[1]


def test_steps_that_explode_are_refused(monkeypatch):
    truth, u, _ = simulated(4)
    y = 30.0 * truth.predict(u) ** 3
    layout = layout_of(truth, direct=True)
    source = Source(as_sequences(u, y))
    explosions = noted_explosions(monkeypatch)
    end = levenberg_marquardt(truth, layout, SERIAL, source, max_steps=10)
    assert explosions
    assert end.n_steps > 0
    assert 2 * end.final.loss < np.mean((y - truth.predict(u)) ** 2)
    assert 2 * end.final.loss == pytest.approx(
        np.mean((y - end.model.predict(u)) ** 2), rel=ALGEBRA
    )
