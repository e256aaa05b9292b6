"""Sensitivities, covariances and bands, against differences and direct formulas."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.differences import central
from helpers.systems import dead_time_network, linear_network, mixed_network
from scipy import signal
from scipy.linalg import toeplitz

from gloree.activations import PerUnit
from gloree.diagnostics import ConvergenceWarning, TooFewSamplesError
from gloree.models import IORNN
from gloree.sequences import as_sequences, record_windows
from gloree.systems import (
    Channels,
    FrequencyResponse,
    at_records,
    characteristics,
    fit_noise,
    free_run,
    frequency_response,
    layout_of,
    prediction_intervals,
    spectral_response,
    time_response,
    to_state_space,
    uncertainty,
)
from gloree.systems._frequency import transfer, transfer_gradient
from gloree.systems._identifiable import coordinate_changes
from gloree.systems._sensitivities import equilibrium

DIFFERENCE = 1e-6  # relative, of central differences with steps of 1e-6


def noisy(model, n, rng, size=0.2, pole=0.0):
    """Inputs and outputs with autoregressive noise."""
    u = rng.standard_normal((n, model.n_inputs))
    clean = model.predict(u)
    noise = signal.lfilter([1.0], [1.0, -pole], rng.standard_normal((n + 100, model.n_outputs)), 0)
    return u, clean + size * clean.std(axis=0) * noise[100:]


def refined(model, records, size, steps=12):
    """Gauss-Newton from a model to the least squares of its free run."""

    def at(candidate):
        if np.abs(np.linalg.eigvals(candidate.recurrent_weights)).max() >= 1:
            return np.inf, None
        found = at_records(candidate, records, output_size=size)
        return sum(np.sum(r**2 * found.weights) for r in found.residuals), found

    error, here = at(model)
    for _ in range(steps):
        pairs = zip(here.jacobians, here.residuals, strict=True)
        g = sum(np.einsum("tap,a,ta->p", J, here.weights, r) for J, r in pairs)
        step = here.basis @ (here.bread @ g)
        for fraction in (1.0, 0.3, 0.1, 0.03):
            moved = here.layout.move(here.model, fraction * step)
            after, there = at(moved)
            if after < error:
                error, here = after, there
                break
        else:
            break
    return here.model


def directions(layout, rng, n=6):
    return rng.standard_normal((n, layout.size))


def test_derivatives_of_a_free_run_are_those_of_differences(rng):
    model = mixed_network(rng)
    layout = layout_of(model, free_coefficients=True)
    windows, state = (
        record_windows(rng.standard_normal((30, 2)), model.lags),
        0.1 * rng.standard_normal(5),
    )
    run = free_run(model, windows, state, layout)
    for v in directions(layout, rng):
        found = central(
            lambda s, v=v: free_run(layout.move(model, s * v), windows, state, layout).outputs,
            0,
            1e-6,
        )
        assert np.allclose(run.jacobian @ v, found, atol=DIFFERENCE * np.abs(found).max())
    for v in rng.standard_normal((3, 5)):
        found = central(
            lambda s, v=v: free_run(model, windows, state + s * v, layout).outputs, 0, 1e-6
        )
        assert np.allclose(run.from_state @ v, found, atol=DIFFERENCE * np.abs(found).max())


def test_a_free_run_from_rest_is_what_the_network_predicts(rng):
    model, u = mixed_network(rng), rng.standard_normal((40, 2))
    run = free_run(model, record_windows(u, model.lags), np.zeros(5), layout_of(model))
    assert np.allclose(run.outputs, model.predict(u), rtol=0, atol=1e-12)


def test_an_equilibrium_stays_and_moves_with_the_weights_as_differences_do(rng):
    model = mixed_network(rng)
    layout, window = layout_of(model, free_coefficients=True), rng.standard_normal(4)
    state, slope = equilibrium(model, window, layout)
    after = model.activation(
        model.input_weights @ window + model.recurrent_weights @ state + model.hidden_bias
    )
    assert np.allclose(after, state, rtol=0, atol=1e-10)
    for v in directions(layout, rng):
        found = central(
            lambda s, v=v: equilibrium(layout.move(model, s * v), window, layout)[0], 0, 1e-6
        )
        assert np.allclose(
            slope @ v[: slope.shape[1]], found, atol=DIFFERENCE * np.abs(found).max()
        )


@pytest.mark.parametrize("make", [mixed_network, dead_time_network])
def test_changes_of_coordinates_leave_outputs_as_they_are(rng, make):
    model = make(rng)
    layout = layout_of(model)
    windows = record_windows(rng.standard_normal((40, 2)), model.lags)
    changes = coordinate_changes(model, layout)
    run = free_run(model, windows, np.zeros(model.n_hidden), layout)
    # but for the start: the state moves along with its coordinates
    left = run.jacobian @ changes.T
    fitted, *_ = np.linalg.lstsq(
        run.from_state.reshape(-1, model.n_hidden), left.reshape(-1, len(changes)), rcond=None
    )
    rest = left.reshape(-1, len(changes)) - run.from_state.reshape(-1, model.n_hidden) @ fitted
    assert np.abs(rest).max() < 1e-10 * np.abs(run.jacobian).max()


@pytest.mark.parametrize("make", [dead_time_network, lambda rng: linear_network([0.9], 2, 1, rng)])
def test_derivatives_of_a_transfer_matrix_are_those_of_differences(rng, make):
    model = make(rng)
    layout, z = layout_of(model), np.exp(2j * np.pi * np.array([0.01, 0.2, 0.5]))
    _, gradient = transfer_gradient(model, layout, z)
    for v in directions(layout, rng):
        found = central(lambda s, v=v: transfer(layout.move(model, s * v), z), 0, 1e-6)
        assert np.allclose(gradient @ v, found, atol=DIFFERENCE * np.abs(found).max())


def test_a_transfer_matrix_is_that_of_the_state_space_model(rng):
    model = dead_time_network(rng)
    system, response = to_state_space(model), frequency_response(model, [0.0, 0.1, 0.37])
    for G, nu in zip(response.response, response.frequencies, strict=True):
        resolvent = np.linalg.inv(np.exp(2j * np.pi * nu) * np.eye(len(system.A)) - system.A)
        assert np.allclose(G, system.C @ resolvent @ system.B + system.D, rtol=0, atol=1e-10)


def test_noise_has_the_autocovariances_of_its_autoregression(rng):
    e = signal.lfilter([1.0], [1.0, -1.2, 0.6], rng.standard_normal((20_000, 1)), axis=0)
    noise = fit_noise([e])
    gamma = noise.autocovariances[:, 0, 0]
    # of an AR(2): rho_1 = a1 / (1 - a2), and rho_k = a1 rho_(k-1) + a2 rho_(k-2)
    rho = [1.0, 1.2 / 1.6]
    for _ in range(6):
        rho.append(1.2 * rho[-1] - 0.6 * rho[-2])
    standard_error = np.sqrt(noise.autocovariances.shape[0] / 20_000)
    assert np.allclose(gamma[:8] / gamma[0], rho, atol=3 * standard_error)


@pytest.mark.parametrize("outputs", [1, 2])
def test_noise_that_is_seen_in_a_part_of_the_rows_is_no_whiter(outputs, rng):
    e = signal.lfilter([1.0], [1.0, -0.8], rng.standard_normal((20_000, outputs)), axis=0)
    e[rng.random(20_000) < 0.5] = np.nan
    noise = fit_noise([e[:8000], e[8000:]])
    found = noise.autocovariances[:6] / noise.covariance
    diagonal = np.arange(outputs)
    # five standard errors of an autocorrelation, of which a fourth of the pairs are known
    expected = 0.8 ** np.arange(6)[:, None]
    assert np.abs(found[:, diagonal, diagonal] - expected).max() < 0.1
    assert noise.autocovariances.shape[0] < 5000
    # a row in two: what is never seen counts for nothing
    e = signal.lfilter([1.0], [1.0, -0.8], rng.standard_normal((20_000, 1)), axis=0)
    e[1::2] = np.nan
    found = fit_noise([e]).autocovariances[:5:2, 0, 0]
    assert np.abs(found / found[0] - 0.8 ** np.array([0, 2, 4])).max() < 0.1


def test_a_form_in_the_noise_is_that_of_the_dense_covariance_matrix(rng):
    e = rng.standard_normal((300, 2))
    e[1:] += 0.8 * e[:-1, ::-1]
    noise = fit_noise([e])
    gamma, n = noise.autocovariances, 60
    dense = np.zeros((n, 2, n, 2))
    for t in range(n):
        for s in range(n):
            if abs(t - s) < len(gamma):
                dense[t, :, s] = gamma[t - s] if t >= s else gamma[s - t].T
    X = rng.standard_normal((n, 2, 3))
    expected = np.einsum("tasb,sbk->tak", dense, X)
    assert noise.order > 0
    assert np.allclose(noise.applied(X), expected, rtol=0, atol=1e-10)


def test_without_states_the_covariance_is_the_sandwich_of_regression(rng):
    # a network whose unit is idle is a regression of y on u
    idle = np.zeros((1, 2)), None, np.zeros((1, 1))
    u = rng.standard_normal((200, 2))
    noise = signal.lfilter([1.0], [1.0, -0.7], rng.standard_normal((200, 1)), axis=0)
    y = u @ [[1.0], [2.0]] + noise
    design = np.column_stack((u, np.ones(200)))
    beta, *_ = np.linalg.lstsq(design, y, rcond=None)
    model = IORNN(*idle, output_bias=beta[2], direct_weights=beta[:2], activation="linear")
    known = uncertainty(model, as_sequences(u, y))
    gamma = known.noise.autocovariances[:200, 0, 0]
    omega = toeplitz(np.concatenate((gamma, np.zeros(200 - len(gamma)))))
    bread = np.linalg.inv(design.T @ design)
    expected = (bread @ design.T @ omega @ design @ bread)[:2, :2]
    places = known.layout.indices["direct_weights"][:, 0]
    assert known.noise.order > 0
    assert np.allclose(known.root[places] @ known.root[places].T, expected, rtol=1e-6)


def test_errors_of_poles_gains_and_responses_do_not_depend_on_coordinates(rng):
    truth = linear_network([0.8 + 0.3j, 0.5], 2, 2, rng)
    u, y = noisy(truth, 400, rng, pole=0.7)
    records = as_sequences(u, y)
    model = refined(truth, records, y.std(axis=0))
    T = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    inverse = np.linalg.inv(T)
    other = model.replace(
        input_weights=T @ model.input_weights,
        recurrent_weights=T @ model.recurrent_weights @ inverse,
        output_weights=inverse.T @ model.output_weights,
        hidden_bias=T @ model.hidden_bias,
    )
    one, two = (uncertainty(each, records) for each in (model, other))
    a, b = (characteristics(each.model, uncertainty=each) for each in (one, two))
    assert np.allclose(a.poles.covariance, b.poles.covariance, rtol=1e-5, atol=1e-12)
    assert np.allclose(a.zeros.covariance, b.zeros.covariance, rtol=1e-4, atol=1e-10)
    assert np.allclose(a.gain_errors, b.gain_errors, rtol=1e-5)
    first, second = (frequency_response(each.model, uncertainty=each) for each in (one, two))
    assert np.allclose(first.covariance, second.covariance, rtol=1e-4, atol=1e-12)
    # states of order n, m inputs and p outputs: n (m + p) + m p weights, and an offset each
    assert one.rank == two.rank == 3 * 4 + 4 + 2


@pytest.mark.parametrize("quantity", ["poles", "zeros", "time_constant", "damping", "frequency"])
def test_errors_of_poles_and_zeros_are_those_of_differences_along_the_root(rng, quantity):
    truth = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    u, y = noisy(truth, 400, rng)
    known = uncertainty(truth, as_sequences(u, y))
    channels = Channels.numbered(1, 1, dt=0.1)

    def value(model):
        found = characteristics(model, channels=channels)
        if quantity in ("poles", "zeros"):
            roots = getattr(found, quantity).values
            return np.stack((roots.real, roots.imag), axis=1)
        return found.poles.quantities[quantity][0][:, None]

    found = characteristics(truth, uncertainty=known, channels=channels)
    if quantity in ("poles", "zeros"):
        errors = getattr(found, quantity).errors()
    else:
        errors = found.poles.quantities[quantity][1][:, None]
    steps = [
        central(lambda s, c=c: value(known.layout.move(truth, s * c)), 0, 1e-4)
        for c in known.root.T
    ]
    expected = np.sqrt(np.sum(np.square(steps), axis=0))
    assert np.allclose(errors, expected, rtol=1e-4, atol=1e-8)


def test_a_step_response_ends_at_the_static_gain(rng):
    model = dead_time_network(rng)
    u, y = noisy(model, 300, rng)
    known = uncertainty(model, as_sequences(u, y))
    step = time_response(model, 300, uncertainty=known)
    gains = characteristics(model, uncertainty=known)
    assert np.allclose(step.response[-1], gains.gains, atol=1e-8)
    assert np.allclose(step.errors[-1], gains.gain_errors, rtol=1e-6)
    assert not step.response[:3, :, 0].any()  # a dead time of three samples
    impulse = time_response(model, 300, kind="impulse")
    assert np.allclose(np.cumsum(impulse.response, axis=0), step.response, atol=1e-10)


def test_intervals_are_those_of_noise_and_weights(rng):
    model = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    u, y = noisy(model, 500, rng)
    known = uncertainty(model, as_sequences(u, y))
    new = rng.standard_normal((60, 1))
    found = prediction_intervals(known, new, initial="rest")
    assert np.allclose(found.mean, model.predict(new))
    run = free_run(model, new, np.zeros(3), known.layout)
    covariance = known.root @ known.root.T
    spread = np.einsum("tap,pq,taq->ta", run.jacobian, covariance, run.jacobian)
    assert np.allclose(found.model_errors**2, spread)
    half = known.quantile(0.95) * np.sqrt(spread + known.noise.covariance[0, 0])
    assert np.allclose(found.upper - found.mean, half)


def test_a_record_that_goes_on_has_the_intervals_of_one_record(rng):
    model = dead_time_network(rng)
    u, y = noisy(model, 500, rng)
    known = uncertainty(model, as_sequences(u, y))
    whole = prediction_intervals(known, u, initial="rest")
    state = np.concatenate((model.hidden_states(u[:100])[-1], u[97:100][::-1].ravel()))
    rest = prediction_intervals(known, u[100:], initial=state)
    assert np.allclose(rest.mean, whole.mean[100:], rtol=0, atol=1e-10)


def test_a_constant_input_from_equilibrium_gives_a_constant_output(rng):
    model = dead_time_network(rng)
    u, y = noisy(model, 300, rng)
    known = uncertainty(model, as_sequences(u, y))
    found = prediction_intervals(known, np.full((50, 2), 1.5))
    assert np.ptp(found.mean, axis=0).max() < 1e-10
    assert np.ptp(found.model_errors, axis=0).max() < 1e-8


def test_intervals_refuse_what_is_no_record_of_the_system(rng):
    model = linear_network([0.5], 2, 1, rng)
    u, y = noisy(model, 200, rng)
    known = uncertainty(model, as_sequences(u, y))
    with pytest.raises(ValueError, match=r"`u` has shape \(20, 3\)"):
        prediction_intervals(known, np.ones((20, 3)))
    with pytest.raises(ValueError, match="`u` holds NaN"):
        prediction_intervals(known, np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match="`initial` is 'later'"):
        prediction_intervals(known, u, initial="later")
    with pytest.raises(ValueError, match=r"`initial` has shape \(7,\)"):
        prediction_intervals(known, u, initial=np.zeros(7))
    with pytest.raises(ValueError, match="`level`"):
        prediction_intervals(known, u, 95)


@pytest.mark.slow
def test_a_network_that_is_not_the_least_squares_is_told(rng):
    truth = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    u, y = noisy(truth, 500, rng)
    records = as_sequences(u, y)
    assert not uncertainty(refined(truth, records, y.std(axis=0)), records).findings
    off = truth.replace(output_weights=1.5 * truth.output_weights)
    (finding,) = uncertainty(off, records).findings
    assert finding.category is ConvergenceWarning
    assert "not at the least squares of these records" in finding.text


def test_missing_outputs_count_as_gaps(rng):
    truth = linear_network([0.8], 1, 1, rng)
    u, y = noisy(truth, 400, rng)
    whole = at_records(truth, as_sequences(u, y))
    records = as_sequences(u, y)
    records.Y[100:150] = np.nan
    gaps = at_records(truth, records, output_size=y.std(axis=0))
    assert whole.n_rows - gaps.n_rows == 50
    assert not gaps.jacobians[0][100:150].any()


def test_fewer_numbers_than_unknowns_are_refused(rng):
    model = linear_network([0.8 + 0.3j, 0.5], 1, 1, rng)
    with pytest.raises(TooFewSamplesError, match="nothing is left to measure the noise by"):
        uncertainty(model, as_sequences(rng.standard_normal((12, 1)), rng.standard_normal((12, 1))))


def test_bands_of_another_model_are_refused(rng):
    one, other = (linear_network([pole], 1, 1, rng) for pole in (0.5, 0.6))
    u, y = noisy(one, 200, rng)
    known = uncertainty(one, as_sequences(u, y))
    with pytest.raises(ValueError, match="`uncertainty` is that of another network"):
        frequency_response(other, uncertainty=known)


def test_averaged_cross_spectra_find_the_response_of_a_mimo_system(rng):
    model = linear_network([0.8 + 0.3j, 0.5], 2, 2, rng)
    u, y = noisy(model, 20_000, rng, size=0.1)
    found = spectral_response(as_sequences(u, y), segment=256)
    truth = frequency_response(model, found.frequencies).response
    z = (np.abs(found.response) - np.abs(truth)) / found.errors
    # leakage of a window of 256 samples adds to the noise
    assert np.sqrt(np.mean(z[20:] ** 2)) < 1.5
    assert found.coherence.min() > 0.5


def test_frequencies_are_hertz_where_there_is_a_sampling_time(rng):
    model = linear_network([0.5], 1, 1, rng)
    channels = Channels.numbered(1, 1, dt=0.01)
    found = frequency_response(model, channels=channels)
    assert np.isclose(found.frequencies[-1], 50.0)
    with pytest.raises(ValueError, match="half the sampling rate, 50 Hz"):
        frequency_response(model, [60.0], channels=channels)


@pytest.mark.slow
def test_intervals_of_a_nonlinear_network_hold_measured_outputs_as_often_as_they_say():
    U = [[0.7, 0.2, 0.3], [-0.2, 0.7, 0.0], [0.5, 0.5, 0.0]]
    units = PerUnit(["linear", "linear", "tanh"])
    truth = IORNN(
        [[0.6], [0.3], [1.0]], U, [[1.0], [0.5], [0.8]], [0.0, 0.0, 0.5], activation=units
    )
    shares = []
    for seed in range(30):
        u, y = noisy(truth, 800, np.random.default_rng(seed), size=0.1, pole=0.5)
        records = as_sequences(u[:400], y[:400])
        known = uncertainty(refined(truth, records, y[:400].std(axis=0), 6), records)
        found = prediction_intervals(known, u, initial="rest")
        shares.append(np.mean((y >= found.lower)[420:] & (y <= found.upper)[420:]))
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - 0.95) < 4 * error


@pytest.mark.slow
def test_shift_and_scales_of_a_polynomial_unit_are_no_unknowns(rng):
    model = mixed_network(rng, lags=1)
    u = rng.standard_normal((400, 2))
    records = as_sequences(u, model.predict(u) + 0.1 * rng.standard_normal((400, 2)))
    fixed, free = (uncertainty(model, records, free_coefficients=each) for each in (False, True))
    # three free coefficients, and three changes that they can undo: those of the bias, and of the
    # scales of what enters the unit and of what leaves it
    assert free.layout.size == fixed.layout.size + 3
    assert free.rank == fixed.rank
    # they move states, from which a record may start, and leave outputs as they are
    for start in ("rest", "equilibrium", np.full(5, 0.1)):
        intervals = prediction_intervals(free, u[:10], initial=start)
        assert np.isfinite(intervals.model_errors).all()


def responses_with_errors(rng, n):
    """Numbers of several sizes with covariances of size one, some of them nearly singular."""
    root = rng.standard_normal((n, 1, 1, 2, 2)) * np.array([1.0, 0.1])
    G = np.exp(rng.uniform(-2, 4, (n, 1, 1)) + 2j * np.pi * rng.random((n, 1, 1)))
    channels = Channels.numbered(1, 1)
    return FrequencyResponse(
        np.linspace(0.01, 0.49, n), G, root @ root.swapaxes(-1, -2), 1.96, 0.95, channels
    )


def test_a_phase_is_in_the_band_where_the_component_across_it_may_be_zero(rng):
    found = responses_with_errors(rng, 400)
    low, high = found.phase_band()
    whole = high - low > 359.9
    assert 20 < whole.sum() < 380
    assert np.all(whole | (high - low < 180.0))
    assert np.all((low <= found.degrees) & (found.degrees <= high))
    for end in (low, high):
        across = 1j * np.exp(1j * np.deg2rad(end))
        component = np.abs((found.response * across.conj()).real)
        limit = 1.96 * found.errors(across)
        np.testing.assert_allclose(component[~whole], limit[~whole], rtol=1e-6)


def test_a_phase_is_any_where_the_response_may_be_zero():
    # at half the sampling rate a response is real, its phase 0 or 180 degrees
    G = np.array([0.1, -0.01], dtype=np.complex128)[:, None, None]
    covariance = np.tile(np.diag([0.01**2, 0.0]), (2, 1, 1, 1, 1))
    channels = Channels.numbered(1, 1)
    found = FrequencyResponse(np.array([0.5, 0.5]), G, covariance, 1.96, 0.95, channels)
    low, high = found.phase_band()
    np.testing.assert_allclose((high - low).ravel(), [0.0, 360.0], atol=1e-9)
    assert found.magnitude_band()[0][1, 0, 0] == 0.0


def test_without_uncertainty_a_phase_has_no_band(rng):
    model = linear_network([0.5], 1, 1, rng)
    low, high = frequency_response(model, [0.1, 0.2]).phase_band()
    assert np.isnan(low).all() and np.isnan(high).all()


def test_inputs_that_move_together_have_no_responses_of_their_own(rng):
    one = linear_network([0.7], 1, 1, rng)
    both = one.replace(
        input_weights=one.input_weights @ [[0.3, 0.7]], direct_weights=[[0.1], [0.2]]
    )
    u = np.repeat(rng.standard_normal((200, 1)), 2, axis=1)
    records = as_sequences(u, both.predict(u) + 0.1 * rng.standard_normal((200, 1)))
    known = uncertainty(both, records)
    table = characteristics(both, uncertainty=known)
    assert np.isfinite(table.poles.errors()).all() and table.poles.n == 1
    assert np.isinf(table.gain_errors).all() and " inf" in str(table)
    response = frequency_response(both, [0.1, 0.5], uncertainty=known)
    low, high = response.magnitude_band()
    assert np.all(low == 0.0) and np.isinf(high).all()
    low, high = response.phase_band()
    np.testing.assert_allclose(high - low, 360.0)
    assert np.isinf(time_response(both, 5, uncertainty=known).errors).all()
    assert np.isinf(spectral_response(records).errors).all()
    # what they do together is known: as well as the response of the one input that there is
    together = prediction_intervals(known, u[:20], noise=False)
    alone = uncertainty(
        one.replace(direct_weights=[[0.3]]), as_sequences(u[:, :1], np.asarray(records.Y))
    )
    expected = prediction_intervals(alone, u[:20, :1], noise=False)
    np.testing.assert_allclose(together.model_errors, expected.model_errors, rtol=0.02)
    apart = prediction_intervals(known, u[:20] * [1.0, -1.0])
    assert np.isinf(apart.upper).all()
