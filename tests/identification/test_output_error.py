"""Least squares of linear systems on a compressed record."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.differences import central
from helpers.marks import first_of
from helpers.systems import linear_network, pole_distance
from scipy.signal import lfilter

from gloree import SpectralRNNRegressor
from gloree.engine import Engine
from gloree.identification import ho_kalman, impulse_response, least_squares_realisation
from gloree.identification._realisation import (
    LARGEST_RADIUS,
    CompressedRecord,
    _fit_outputs,
    _normal_equations,
    hankel_lags,
)
from gloree.sequences import as_sequences

SERIAL = Engine("serial")
LAGS = 120
# Sums of a thousand products in another order; a product and its transpose.
ALGEBRA, SYMMETRY = 1e-10, 1e-12
# Central differences at STEP: its square times a third derivative, eps / STEP of rounding.
STEP, DIFFERENCES = 1e-5, 1e-6
# Eigenvalues of J^T J above this share of the largest are no rounding.
NULL = 1e-9
# Responses without noise: the descent ends at steps of 1e-8 or so, times the condition of poles.
EXACT = 1e-6
# The radius is restored from eigenvectors: to rounding times their condition.
RESTORED = 1e-6
# Without noise, a ridge is all that moves poles: by its size relative to the power at their angle.
LIMITED_BAND = 1e-4


def record_of(system, n_rows, rng, noise=0.0):
    u = rng.standard_normal((n_rows, system.n_inputs))
    y = system.predict(u)
    return u, y + noise * y.std(axis=0) * rng.standard_normal(y.shape)


def markov(system, n_lags):
    """g_1, .. g_{n_lags - 1}, by powers."""
    power, g = system.input_weights, []
    for _ in range(n_lags - 1):
        power = system.recurrent_weights @ power
        g.append(system.output_weights.T @ power)
    return np.array(g)


def modelled(response, realisation):
    """g_1, .. of a realisation, its outputs by least squares on the compressed record."""
    fit = _fit_outputs(CompressedRecord.of(response), realisation.transition, realisation.inputs)
    return np.einsum("an,knj->kaj", fit.C, fit.states)


# 0.8^120 is 2e-12: the response ends within the lags
RINGS = {
    "two": [0.6 + 0.3j],
    "one near zero": [0.6 + 0.3j, -0.7 + 0j, 0.02 + 0j],
    "seven, two near zero": [0.2 + 0.7j, -0.6 + 0.4j, 0.75 + 0j, 0.03 + 0j, -0.05 + 0j],
    "twenty": [0.8 * np.exp(1j * np.pi * (k + 0.5) / 10) for k in range(10)],
    "twenty, one near zero": [
        *(0.8 * np.exp(1j * np.pi * (k + 0.5) / 9) for k in range(9)),
        0.6 + 0j,
        0.02 + 0j,
    ],
}


@pytest.mark.parametrize(
    ("n_inputs", "n_outputs"), first_of([(2, 2), (1, 3), (3, 1)], 1, several=True)
)
@pytest.mark.parametrize("name", first_of(RINGS, 3))
def test_responses_without_noise_are_recovered(name, n_inputs, n_outputs):
    rng = np.random.default_rng(0)
    system = linear_network(RINGS[name], n_inputs, n_outputs, rng)
    response = impulse_response(as_sequences(*record_of(system, 3000, rng)), LAGS, SERIAL)
    found = least_squares_realisation(response, system.n_hidden)
    expected = markov(system, LAGS)
    np.testing.assert_allclose(
        modelled(response, found), expected, atol=EXACT * np.abs(expected).max()
    )
    assert found.order == system.n_hidden
    assert found.n_moved == 0
    assert pole_distance(found.poles, np.linalg.eigvals(system.recurrent_weights)) < EXACT


def test_compressed_error_is_that_of_the_rows():
    """floor + |Z - R g|^2, and the sum over rows, of any response with the best g_0 and offset."""
    rng = np.random.default_rng(1)
    u = lfilter([1.0], [1.0, -0.6], rng.standard_normal((900, 2)), axis=0) + 1.0
    y = rng.standard_normal((900, 3)) + u @ rng.standard_normal((2, 3))
    lags = 4
    record = CompressedRecord.of(impulse_response(as_sequences(u, y), lags, SERIAL))
    g = rng.standard_normal((lags - 1, 3, 2))
    windows = [u[lags - 1 - j : 900 - j] for j in range(lags)]
    left = y[lags - 1 :] - sum(w @ part.T for w, part in zip(windows[1:], g, strict=True))
    free = np.column_stack((windows[0], np.ones(len(left))))
    left = left - free @ np.linalg.lstsq(free, left, rcond=None)[0]
    compressed = record.Z - record.R @ g.transpose(0, 2, 1).reshape(-1, 3)
    error = record.floor + np.sum(compressed**2)
    assert error == pytest.approx(np.sum(left**2) / len(left), rel=ALGEBRA)


def test_gradient_is_that_of_the_error_with_outputs_eliminated():
    rng = np.random.default_rng(2)
    system = linear_network([0.5 + 0.4j, 0.6 + 0j], 2, 3, rng)
    response = impulse_response(as_sequences(*record_of(system, 2000, rng, 0.1)), 30, SERIAL)
    record = CompressedRecord.of(response)
    U = 0.5 * np.eye(3) + 0.1 * rng.standard_normal((3, 3))
    B = rng.standard_normal((3, 2))
    hessian, gradient = _normal_equations(record, _fit_outputs(record, U, B))

    def error(values):
        return _fit_outputs(record, values[:9].reshape(3, 3), values[9:].reshape(3, 2)).error

    numeric = central(error, np.concatenate((U.ravel(), B.ravel())), STEP)
    np.testing.assert_allclose(-2.0 * gradient, numeric, atol=DIFFERENCES * np.abs(numeric).max())
    size = np.abs(hessian).max()
    np.testing.assert_allclose(hessian, hessian.T, atol=SYMMETRY * size)
    assert np.linalg.eigvalsh(hessian)[0] > -ALGEBRA * size
    # changes of coordinates move nothing: 9 of the 15 directions
    assert np.sum(np.linalg.eigvalsh(hessian) > NULL * size) == 6


def test_weak_modes_are_found_where_one_hankel_matrix_misses_them():
    """A strong direct path and a weak mode beside strong ones: the response is told from noise."""
    rng = np.random.default_rng(1043)
    system = linear_network([0.135 + 0.436j, -0.472 + 0.314j, -0.637 + 0j], 2, 2, rng)
    u, y = record_of(system, 20_000, rng, 0.1)
    response = impulse_response(as_sequences(u, y), LAGS, SERIAL)
    record = CompressedRecord.of(response)

    def error(realisation):
        return _fit_outputs(record, realisation.transition, realisation.inputs).error

    found = least_squares_realisation(response, 5)
    truth = _fit_outputs(record, system.recurrent_weights, system.input_weights).error
    assert error(found) <= truth
    assert error(found) < error(ho_kalman(response.parameters, 5))


def test_poles_are_held_inside_the_circle():
    rng = np.random.default_rng(3)
    u, y = rng.standard_normal((2, 400, 1))
    response = impulse_response(as_sequences(u, y), 40, SERIAL)
    for order in (1, 4, 9):
        found = least_squares_realisation(response, order)
        assert np.abs(found.poles).max() <= LARGEST_RADIUS + RESTORED
        assert found.n_moved == np.sum(np.abs(found.poles) > LARGEST_RADIUS * (1 - RESTORED))


def test_a_limited_band_of_the_inputs_is_no_obstacle():
    rng = np.random.default_rng(4)
    system = linear_network([0.5 + 0.4j], 1, 1, rng)
    u = np.convolve(rng.standard_normal(4000), np.hanning(25), mode="same")[:, None]
    y = system.predict(u)
    response = impulse_response(as_sequences(u, y), 60, SERIAL)
    assert response.ridge > 0.0
    found = least_squares_realisation(response, 2)
    # directions without power are left out; the others say enough for two poles
    assert pole_distance(found.poles, np.linalg.eigvals(system.recurrent_weights)) < LIMITED_BAND


@pytest.mark.parametrize("order", [0, 21])
def test_unsupported_orders_are_errors(order):
    rng = np.random.default_rng(5)
    u = rng.standard_normal((500, 1))
    response = impulse_response(as_sequences(u, u), 42, SERIAL)
    with pytest.raises(ValueError, match=r"`order` is .* support orders from 1 to 20"):
        least_squares_realisation(response, order)


def test_hankel_sizes_reach_from_what_the_order_needs_to_all_lags():
    assert hankel_lags(120, 4, 2, 2) == [6, 10, 12, 24, 60, 120]
    assert hankel_lags(10, 4, 1, 1) == [10]
    for lags in hankel_lags(120, 20, 1, 3):
        assert ho_kalman(np.random.default_rng(6).standard_normal((lags, 1, 3)), 20).order == 20


# ------------------------------------------------------------------------------- with noise


def random_linear_system(rng, order):
    """Two inputs and outputs; poles anywhere, a direct path beside them."""
    poles = []
    n_poles = 0
    while n_poles < order:
        if order - n_poles >= 2 and rng.random() < 0.7:
            radius, angle = rng.uniform(0.4, 0.95), rng.uniform(0.1, np.pi - 0.1)
            poles.append(radius * np.exp(1j * angle))
            n_poles += 2
        else:
            poles.append(complex(rng.uniform(-0.9, 0.95)))
            n_poles += 1
    return linear_network(poles, 2, 2, rng)


def pole_errors(system, u, noise):
    """Poles, and the roots of their Cramer-Rao bounds.

    The information of (U, B), all other weights eliminated, is that of the compressed record of a
    system without noise, times the number of rows; it is singular in the n^2 changes of coordinates
    alone. d lambda = w^H dU v.
    """
    n = system.n_hidden
    scaled = system.replace(
        output_weights=system.output_weights / noise, direct_weights=system.direct_weights / noise
    )
    response = impulse_response(as_sequences(u, scaled.predict(u)), LAGS, SERIAL)
    fit = _fit_outputs(
        CompressedRecord.of(response), system.recurrent_weights, system.input_weights
    )
    information = len(u) * _normal_equations(CompressedRecord.of(response), fit)[0]
    values, vectors = np.linalg.eigh(information)
    values, vectors = values[n * n :], vectors[:, n * n :]
    poles, right = np.linalg.eig(system.recurrent_weights)
    left = np.linalg.inv(right)
    variances = []
    for w, v in zip(left, right.T, strict=True):
        g = np.concatenate((np.outer(w, v).ravel(), np.zeros(2 * n)))
        variances.append(np.sum(np.abs(vectors.T @ g) ** 2 / values))
    return poles, np.sqrt(variances)


@pytest.mark.slow
@pytest.mark.parametrize(("order", "seed"), [(5, 1043), (9, 1037), (10, 1038)])
def test_poles_of_systems_with_a_weak_mode_are_within_their_standard_errors(order, seed):
    """One Hankel matrix of 120 lags and its descent end 10 (seed 1043) and 22 (1037) away."""
    rng = np.random.default_rng(seed)
    system = random_linear_system(rng, order)
    u = rng.standard_normal((20_000, 2))
    y = system.predict(u)
    noise = 0.1 * y.std(axis=0)
    y += noise * rng.standard_normal(y.shape)
    est = SpectralRNNRegressor(order, activation="linear").fit(u, y)
    found = np.linalg.eigvals(est.model_.recurrent_weights)
    assert np.abs(found).max() < 1.0
    poles, errors = pole_errors(system, u, noise)
    # the largest of ten: more than 3.5 in one of 200 cases of independent normal errors
    assert pole_distance(found, poles, errors) < 3.5
    # what least squares has to expect of a prediction, in standard deviations of the noise
    fresh = rng.standard_normal((20_000, 2))
    missed = (est.predict(fresh) - system.predict(fresh)) / noise
    expected = np.sqrt((4 * order + 6) / y.size)
    assert np.sqrt(np.mean(missed[200:] ** 2)) < 1.5 * expected
