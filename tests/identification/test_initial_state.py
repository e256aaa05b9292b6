"""The state before a record from its first outputs, against exact states and dense formulas."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.differences import central
from helpers.generators import forward_network, two_way_network
from helpers.naive import run_from
from scipy.signal import butter, lfilter

from gloree.diagnostics import GloreeWarning
from gloree.identification import estimate_state
from gloree.identification._state_estimate import (
    outputs_and_slopes,
    ridge_estimate,
    spread_of_states,
)
from gloree.models import IORNN

# sums of some ten terms of size one
ALGEBRA = 1e-11

# states of the systems below are found from outputs within 1e6 roundings
STATES = 1e-8

TANH = ("linear", "linear", "tanh", "tanh")


def linear_network(order, n_outputs=1, seed=0, lags=1):
    """Poles between .3 and .95, turned so that no state stands alone."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((order, order)))[0]
    return IORNN(
        rng.standard_normal((order, 2 * lags)),
        Q @ np.diag(np.linspace(0.3, 0.95, order)) @ Q.T,
        rng.standard_normal((order, n_outputs)),
        rng.standard_normal(order),
        rng.standard_normal(n_outputs),
        rng.standard_normal((2 * lags, n_outputs)),
        "linear",
        lags=lags,
    )


def record(model, n_rows=60, seed=1, noise=0.0):
    rng = np.random.default_rng(seed)
    u, state = rng.standard_normal((n_rows, model.n_inputs)), rng.standard_normal(model.n_state)
    y = model.predict(u, state=state)
    return u, y + noise * rng.standard_normal(y.shape), state


@pytest.mark.parametrize("prior", ["equilibrium", "rest", None])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_state_of_a_linear_model_without_noise_is_exact(order, prior):
    model = linear_network(order)
    u, y, state = record(model)
    assert_close(estimate_state(model, u, y, 30, prior=prior), state, STATES)


@pytest.mark.parametrize("activation", [TANH, "tanh", "softplus"])
def test_the_state_of_a_network_without_noise_is_exact(activation):
    model = forward_network(activation=activation, norm=0.9, direct=True)
    u, y, state = record(model)
    assert_close(estimate_state(model, u, y, 20), state, STATES)


def test_what_outputs_do_not_determine_stays_nearest_to_the_centre():
    # two units of one pole: the outputs see their sum alone
    model = IORNN([[1.0], [1.0]], 0.8 * np.eye(2), [[1.0], [1.0]], activation="linear")
    u = np.ones((20, 1))
    y = model.predict(u, state=[7.0, 1.0])
    for prior, centre in (("equilibrium", [5.0, 5.0]), ("rest", [0.0, 0.0]), ([9.0, 1.0],) * 2):
        state = estimate_state(model, u, y, 20, prior=prior)
        assert state.sum() == pytest.approx(8.0, abs=STATES)
        assert_close(model.predict(u, state=state), y, STATES)
        moved = state - centre
        assert moved[0] == pytest.approx(moved[1], abs=1e-4)  # the prior's own rounding: 1e-12^1/2


def test_without_a_prior_it_is_least_squares():
    model = linear_network(3, n_outputs=2)
    u, y, _ = record(model, noise=0.5)
    zero = run_from(model, u[:20], np.zeros(3))[0]
    columns = [run_from(model, u[:20], e)[0] - zero for e in np.eye(3)]
    # outputs count by their deviations under white inputs
    spread = np.sqrt(np.mean((u - u[0]) ** 2, axis=0))
    L = spread_of_states(model, np.zeros(3), u[0], spread)
    J = np.stack(columns, axis=-1)
    weight = 1 / np.sqrt(np.mean(np.sum((J @ L) ** 2, axis=2), axis=0))
    A = (J * weight[:, None]).reshape(-1, 3)
    expected = np.linalg.lstsq(A, ((y[:20] - zero) * weight).ravel(), rcond=None)[0]
    assert_close(estimate_state(model, u, y, 20, prior=None), expected, STATES)


@pytest.mark.slow
def test_the_prior_helps_where_outputs_are_few_and_noisy():
    model = linear_network(4, seed=3)
    errors = {"auto": [], None: []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        u = rng.standard_normal((80, 2))
        _, state = model.predict(rng.standard_normal((50, 2)), return_state=True)
        clean = model.predict(u, state=state)
        y = clean + clean.std() * rng.standard_normal(clean.shape)
        for prior, found in errors.items():
            left = model.predict(u, state=estimate_state(model, u, y, 10, prior=prior)) - clean
            found.append(np.sum(left[10:] ** 2))
    # paired differences of 40 records: at least three standard errors
    gain = np.array(errors[None]) - np.array(errors["auto"])
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(40)


def test_units_of_the_outputs_do_not_matter():
    model = linear_network(3, n_outputs=2)
    u, y, _ = record(model, noise=0.3)
    sizes = np.array([1e3, 1e-4])
    scaled = model.replace(
        output_weights=model.output_weights * sizes,
        output_bias=model.output_bias * sizes,
        direct_weights=model.direct_weights * sizes,
    )
    assert_close(estimate_state(scaled, u, y * sizes, 20), estimate_state(model, u, y, 20), STATES)


@pytest.mark.parametrize("activation", ["linear", TANH])
def test_missing_outputs_do_not_count(activation):
    model = forward_network(activation=activation, norm=0.9, direct=True)
    u, y, state = record(model)
    y = y.copy()
    y[[0, 3, 4]] = np.nan
    y[10:, 1] = np.nan
    assert_close(estimate_state(model, u, y, 25), state, STATES)
    # what stands after the first rows is not read
    y[25:] = 1e9
    assert_close(estimate_state(model, u, y, 25), state, STATES)


def test_masked_outputs_are_missing_ones():
    model = linear_network(2)
    u, y, state = record(model)
    hidden = np.ma.masked_array(y, mask=np.arange(60)[:, None] % 5 == 2)
    hidden.data[2::5] = 1e9
    assert_close(estimate_state(model, u, hidden, 25), state, STATES)
    assert_close(estimate_state(model, [u], [hidden[:25]], 25), [state], STATES)


def test_a_record_without_a_measured_output_keeps_the_centre():
    model = linear_network(2)
    u, y, state = record(model)
    y = np.stack((y, np.full_like(y, np.nan)))
    with pytest.warns(GloreeWarning, match=r"1 record\(s\), the first of them record 1, have no"):
        states = estimate_state(model, np.stack((u, u)), y, 30, prior="equilibrium")
    assert_close(states, np.array([state, model.equilibrium(u[0])]), STATES)


def test_every_record_has_a_state_of_its_own():
    model = linear_network(2)
    records = [record(model, n, seed) for seed, n in enumerate((40, 31, 90))]
    U, Y, states = (list(each) for each in zip(*records, strict=True))
    assert_close(estimate_state(model, U, Y, 30), np.array(states), STATES)
    lengths = [40, 31, 90]
    flat = estimate_state(model, np.concatenate(U), np.concatenate(Y), 30, lengths=lengths)
    assert_close(flat, np.array(states), STATES)
    # outputs of the first rows are enough
    short = [y[:30] for y in Y]
    assert_close(estimate_state(model, U, short, 30), np.array(states), STATES)
    assert estimate_state(model, U[0], Y[0][:30], 30).shape == (2,)
    assert estimate_state(model, U[:1], Y[:1], 30).shape == (1, 2)


def test_vectors_are_channels():
    model = IORNN([[1.0]], [[0.9]], [[1.0]], activation="linear")
    u = np.random.default_rng(0).standard_normal(30)
    y = model.predict(u[:, None], state=[4.0])[:, 0]
    assert_close(estimate_state(model, u, y, 10), [4.0], STATES)


@pytest.mark.parametrize("activation", ["linear", TANH])
@pytest.mark.parametrize("lags", [1, 2, 4])
def test_slopes_of_outputs_are_those_of_central_differences(activation, lags):
    model = forward_network(activation=activation, norm=0.9, direct=True, lags=lags)
    u, _, state = record(model, n_rows=6)
    outputs, slopes = outputs_and_slopes(model, u, state)
    assert_close(outputs, run_from(model, u, state)[0], ALGEBRA)
    found = central(lambda s: run_from(model, u, s)[0], state, 1e-5)
    assert_close(slopes, np.moveaxis(found, 0, -1), 1e-8)  # step^2 f''' / 6


def test_slopes_of_outputs_do_not_depend_on_the_rows_that_are_kept_at_once(monkeypatch):
    model = forward_network(activation=TANH, norm=0.9, direct=True, lags=3)
    u, _, state = record(model, n_rows=11)
    whole = outputs_and_slopes(model, u, state)
    monkeypatch.setattr("gloree.identification._state_estimate.TOGETHER", 2 * model.n_forward)
    for found, expected in zip(outputs_and_slopes(model, u, state), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("lags", [1, 3])
def test_the_prior_is_the_covariance_of_the_state_under_white_inputs(lags):
    model = linear_network(3, lags=lags)
    size = np.array([0.5, 2.0])
    L = spread_of_states(model, np.zeros(model.n_state), np.zeros(2), size)
    # sum over impulses, each input and each age: s_t is linear in the inputs before
    expected = np.zeros((model.n_state, model.n_state))
    still = model.replace(hidden_bias=None)
    for column in range(2):
        impulse = size * np.eye(2)[[column]]
        state = np.zeros(model.n_state)
        for age in range(1, 800):
            state = run_from(still, impulse if age == 1 else np.zeros((1, 2)), state)[1]
            expected += np.outer(state, state)
    # .95^800 of the response is left
    assert_close(L @ L.T, expected, 1e-10)


@pytest.mark.parametrize("n_rows", [3, 12])
def test_the_ridge_is_the_one_of_most_evidence(n_rows):
    rng = np.random.default_rng(n_rows)
    J = rng.standard_normal((n_rows, 5)) * [1.0, 0.5, 0.1, 1e-2, 1e-3]
    target = J @ rng.standard_normal(5) + 0.1 * rng.standard_normal(n_rows)
    estimate, ridge, loss = ridge_estimate(J, target)

    def evidence(r):
        K = J @ J.T + r * np.eye(n_rows)
        scale = target @ np.linalg.solve(K, target)  # times n: the best variance
        return np.linalg.slogdet(K)[1] + n_rows * np.log(scale)

    assert loss == pytest.approx(evidence(ridge), abs=1e-6)
    for other in ridge * np.array([0.1, 0.5, 2.0, 10.0]):
        assert evidence(other) > loss
    dense = np.linalg.solve(J.T @ J + ridge * np.eye(5), J.T @ target)
    assert_close(estimate, dense, ALGEBRA)


@pytest.mark.parametrize("least", [0.0, 0.05, 2.0])
def test_errors_are_as_large_as_they_are_known_to_be(least):
    """Of all sizes t, l of prior and errors with l t >= least, those of most evidence."""
    rng = np.random.default_rng(5)
    J = rng.standard_normal((12, 3)) * [1.0, 0.3, 0.01]
    target = J @ [0.5, -1.0, 2.0] + 0.1 * rng.standard_normal(12)
    loss = ridge_estimate(J, target, least=least)[2]

    def evidence(prior, error):
        K = prior * J @ J.T + error * np.eye(12)
        return np.linalg.slogdet(K)[1] + target @ np.linalg.solve(K, target)

    sizes = np.logspace(-4, 3, 113)
    grid = min(evidence(p, e) for p in sizes for e in np.maximum(sizes, least))
    found = loss - 12 * np.log(12) + 12  # what does not depend on the sizes
    assert found == pytest.approx(grid, abs=0.1)  # ridges are a factor of 1.8 apart


def test_a_single_measured_value_is_believed():
    """All ridges have the same evidence then: the least is taken, not one that rounding picks."""
    model = IORNN([[1.0]], [[0.9]], [[1.0]], activation="linear")
    u = np.random.default_rng(0).standard_normal((50, 1))
    y = model.predict(u, state=[3.0])
    assert_close(estimate_state(model, u, y, 1), [3.0], STATES)
    later = y.copy()
    later[:4] = np.nan
    assert_close(estimate_state(model, u, later, 5), [3.0], STATES)
    for error in (1e-3, 0.1, 0.5):
        state = estimate_state(model, u, y, 1, noise=[error])
        assert np.abs(model.predict(u, state=state) - y)[0] <= error


@pytest.mark.parametrize("prior", ["rest", None])
@pytest.mark.parametrize("noise", [None, [0.5]])
def test_outputs_that_no_state_reaches_do_not_count(noise, prior):
    rng = np.random.default_rng(1)
    u = rng.standard_normal((40, 1))

    def model(n_silent):
        weights = np.zeros((2, 1 + n_silent))
        weights[:, 0] = 1.0
        direct = np.ones((1, 1 + n_silent))
        U = np.diag([0.98, 0.9])
        return IORNN([[1.0], [1.0]], U, weights, direct_weights=direct, activation="linear")

    y = model(0).predict(u, state=[1.0, -2.0]) + 0.5 * rng.standard_normal((40, 1))
    alone = estimate_state(model(0), u, y, 10, prior=prior, noise=noise)
    more = np.hstack((y, rng.standard_normal((40, 9))))
    sizes = None if noise is None else noise * 10
    together = estimate_state(model(9), u, more, 10, prior=prior, noise=sizes)
    assert_close(together, alone, ALGEBRA)


def test_outputs_weigh_by_their_errors():
    """Generalised least squares: a loud output adds next to nothing to a quiet one."""
    rng = np.random.default_rng(2)
    model = IORNN(
        [[1.0], [1.0]], np.diag([0.98, 0.9]), [[1.0, 1.0], [1.0, -1.0]], activation="linear"
    )
    u, state = rng.standard_normal((40, 1)), np.array([3.0, -2.0])
    errors = np.array([0.01, 5.0])
    y = model.predict(u, state=state) + errors * rng.standard_normal((40, 2))
    found = estimate_state(model, u, y, 20, prior=None, noise=errors)
    free = estimate_state(model, u, np.zeros((40, 2)), 20, prior=None)
    rest = model.predict(u, state=np.zeros(2))[:20]
    slopes = np.stack([model.predict(u, state=e)[:20] - rest for e in np.eye(2)], axis=2)
    J = (slopes / errors[:, None]).reshape(40, 2)
    expected = np.linalg.lstsq(J, ((y[:20] - rest) / errors).ravel(), rcond=None)[0]
    assert_close(found, expected, STATES)
    assert np.abs(found - free).max() > 1.0
    # an output without values has no say, whatever its errors
    quiet = y.copy()
    quiet[:, 1] = np.nan
    one, other = (estimate_state(model, u, quiet, 20, noise=[0.01, e]) for e in (5.0, 1e-4))
    assert_close(one, other, ALGEBRA)


@pytest.mark.parametrize("n_init", [2, 5, 20])
@pytest.mark.parametrize("gain", [0.8, 1.1])
def test_states_of_saturating_units_follow_the_first_rows(gain, n_init):
    """Ridge and state chosen in turns without a common objective would go in circles."""
    model = IORNN([[1.0]], [[gain]], [[1.0]], activation="tanh", hidden_bias=[0.0])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        u = 0.3 * rng.standard_normal((40, 1))
        state = np.clip(2.0 * rng.standard_normal(1), -0.97, 0.97)
        y = model.predict(u, state=state) + 0.1 * rng.standard_normal((40, 1))

        def squares(s, u=u, y=y):
            return np.sum((model.predict(u, state=s) - y)[:n_init] ** 2)

        assert squares(estimate_state(model, u, y, n_init, prior=None)) <= 1.001 * squares(state)
        found = estimate_state(model, u, y, n_init, noise=[0.1])
        assert squares(found) <= 2.0 * squares(state) + n_init * 0.1**2


def test_steps_along_slopes_that_nearly_vanish_leave_a_finite_state():
    """Saturated units: slopes of 1e-15 ask for states of 1e300 where nothing holds them."""
    model = IORNN([[1.0]], [[0.9]], [[1.0]], activation="sigmoid", hidden_bias=[0.0])
    u = np.array([7.0, -15.0, -29.0, -12.0, 57.0, -10.0, -33.0])
    for seed in (1, 21, 24):
        y = np.random.default_rng(seed).standard_normal((7, 1))
        state = estimate_state(model, u, y, 7, prior=None)
        assert np.isfinite(state).all()
        outputs = model.predict(u[:, None], state=state)
        assert np.sum((outputs - y) ** 2) <= np.sum((model.predict(u[:, None]) - y) ** 2)


def test_states_that_run_away_are_named():
    model = IORNN([[1.0]], [[1.0]], [[1.0]], activation="quadratic", hidden_bias=[0.0])
    u = np.full((30, 1), 3.0)
    with pytest.warns(GloreeWarning, match=r"run away in the first 20 rows of 1 record\(s\)"):
        state = estimate_state(model, u, np.ones((30, 1)), 20, prior="rest")
    assert_close(state, [0.0], ALGEBRA)


def slow_modes(seed):
    """Two slow pairs of poles and a slow pole, with a smooth input: the record of a slow plant."""
    rng = np.random.default_rng(seed)
    U = np.zeros((5, 5))
    for i, pole in enumerate((0.994 * np.exp(0.033j), 0.995 * np.exp(0.023j))):
        rows = slice(2 * i, 2 * i + 2)
        U[rows, rows] = [[pole.real, -pole.imag], [pole.imag, pole.real]]
    U[4, 4] = 0.986
    model = IORNN(rng.standard_normal((5, 1)), U, rng.standard_normal((5, 1)), activation="linear")
    u = lfilter(*butter(2, 0.02), rng.standard_normal((1800, 1)), axis=0)
    u /= u.std()
    _, state = model.predict(u[:1000], return_state=True)
    return model, u[1000:], state, rng


def test_errors_of_the_model_that_persist_do_not_throw_the_state_off():
    """States far off follow fifty rows to a percent; a fit knows that it errs by fifteen."""
    worst = {"known": [], "unknown": []}
    for seed in range(10):
        model, u, state, rng = slow_modes(seed)
        y = model.predict(u, state=state)
        drift = lfilter([1.0], [1.0, -0.98], rng.standard_normal((2000, 1)), axis=0)[1200:]
        drift *= 0.15 * y.std() / drift.std()
        measured = y + drift + 0.01 * y.std() * rng.standard_normal(y.shape)
        for name, noise in (("known", [drift.std()]), ("unknown", None)):
            found = model.predict(u, state=estimate_state(model, u, measured, 50, noise=noise))
            worst[name].append(np.sqrt(np.mean((found - y) ** 2)) / drift.std())
    assert max(worst["known"]) < 3.0
    assert max(worst["unknown"]) > 10.0
    assert np.median(worst["known"]) < np.median(worst["unknown"])


def test_exact_records_give_the_exact_state_whatever_the_fit_knows():
    model, u, state, _ = slow_modes(0)
    y = model.predict(u, state=state)
    noise = [1e-9 * y.std()]
    assert_close(estimate_state(model, u, y, 60, noise=noise), state, 1e-5)


@pytest.mark.parametrize("noise", [0.1, [0.1, 0.1], [-1.0], [np.nan], ["a"]])
def test_sizes_of_errors_that_are_none_are_refused(noise):
    model, u, _, _ = slow_modes(0)
    with pytest.raises(ValueError, match=r"`noise` must be 1 standard deviation\(s\), .* got"):
        estimate_state(model, u, np.zeros((800, 1)), 20, noise=noise)


GOOD = np.zeros((20, 2))


@pytest.mark.parametrize(
    "changes, error, words",
    [
        ({"n_init": 21}, ValueError, "`n_init` is 21, but the shortest record has 20 rows"),
        ({"n_init": 0}, ValueError, "`n_init` must be at least 1, got 0"),
        ({"n_init": -3}, ValueError, "`n_init` must be at least 1, got -3"),
        ({"n_init": 2.0}, TypeError, "`n_init` must be an integer"),
        ({"n_init": "5"}, TypeError, "`n_init` must be an integer, got '5'"),
        ({"y": np.zeros((20, 1)) * 1j}, TypeError, "`y` has dtype complex128"),
        ({"y": np.full((20, 1), "1")}, TypeError, "`y` has dtype <U1"),
        ({"y": [np.zeros((20, 1)) * 1j]}, TypeError, r"`y\[0\]` has dtype complex128"),
        (
            {"prior": "zero"},
            ValueError,
            "`prior` must be one of 'auto', 'equilibrium', 'rest', or states",
        ),
        ({"prior": np.zeros(5)}, ValueError, r"`prior` has shape \(5,\), expected \(3,\)"),
        ({"y": np.zeros((20, 4))}, ValueError, "`y` has 4 columns, the model has n_outputs = 1"),
        ({"u": np.zeros((20, 3))}, ValueError, "`u` has 3 columns, the model expects n_inputs"),
        ({"u": GOOD + np.nan}, ValueError, "`u` holds nan"),
        ({"y": np.full(20, np.inf)}, ValueError, "`y` holds inf in row 0, column 0: give NaN"),
        ({"y": np.zeros(7)}, ValueError, "`u` has 20 steps, `y` has 7"),
        ({"model": two_way_network(2, 1)}, ValueError, "network without backward units"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, error, words):
    given = {"model": linear_network(3), "u": GOOD, "y": np.zeros(20), "n_init": 10, **changes}
    with pytest.raises(error, match=words):
        estimate_state(
            given["model"], given["u"], given["y"], given["n_init"], prior=given.get("prior")
        )
