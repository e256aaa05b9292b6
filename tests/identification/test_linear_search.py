"""Starts, dead times and the choice of the order of a linear system."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.marks import first_of
from helpers.state_spaces import random_state_space, records_of
from scipy import linalg
from scipy.signal import butter, cheby1, lfilter

from gloree import SystemIdentifier
from gloree.identification._cross_validation import without_folds
from gloree.identification._delays import find_delays, proposed_delays
from gloree.identification._folds import contiguous, in_stretches, interleaved, whole_records
from gloree.identification._linear_choice import (
    SLOWER,
    Candidate,
    _last_that_pays,
    choose,
    steady,
    without_drift,
    without_idle_poles,
)
from gloree.identification._linear_search import all_starts, search_systems, truncated
from gloree.identification._linear_starts import (
    arx_start,
    decimated,
    response_start,
    stable_pair,
    subspace_starts,
    undecimated,
    windows,
)
from gloree.identification._linear_system import LinearSystem
from gloree.identification._output_error import (
    STABLE,
    fit_inputs,
    prior_of_states,
    refine,
    squares_of,
)
from gloree.identification._realisation import PoleLimit, pulled_inside
from gloree.identification._weighted_records import WeightedRecords, shifted


def records(u, y):
    """Records of standardised outputs, all rows counted."""
    u, y = np.reshape(u, (len(u), -1)), np.reshape(y, (len(y), -1))
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    return WeightedRecords((u,), (y,), (np.ones_like(y),))


def chosen(data, orders=range(1, 6)):
    return choose(search_systems(data, orders, all_starts(data, [])), data)[0]


def starts_of(data, system):
    g = system.response(40)
    return [
        *subspace_starts(data, 8),
        *arx_start(data, 10),
        *response_start(g, "response"),
    ]


@pytest.mark.parametrize(("n", "d", "q"), [(2, 1, 1), (3, 2, 2), (4, 2, 1)])
def test_all_starts_have_the_poles_of_a_system_without_noise(n, d, q):
    rng = np.random.default_rng(n)
    system = random_state_space(rng, n, d, q, radius=0.8)
    data, _ = records_of(rng, system, [700, 500])
    expected = np.sort_complex(system.poles)
    for start in starts_of(data, system):
        A, C = stable_pair(start, n)
        np.testing.assert_allclose(
            np.sort_complex(np.linalg.eigvals(A)), expected, atol=1e-4, err_msg=start.name
        )
        assert C.shape == (q, n)


def test_windows_with_outputs_that_do_not_count_are_left_out():
    u = np.arange(30.0)[:, None]
    w = np.ones((30, 1))
    w[12] = 0.0
    U, Y = windows(WeightedRecords((u,), (10.0 * u,), (w,)), 3, 2)
    assert U.shape == (30 - 4 - 5, 5, 1)
    np.testing.assert_array_equal(Y, 10.0 * U)
    assert not (U == 12.0).any()
    np.testing.assert_array_equal(U[0, :, 0], np.arange(5.0))


def test_roots_of_poles_undo_the_means_over_rows():
    slow = 0.999
    rng = np.random.default_rng(0)
    u = np.repeat(rng.standard_normal(200), 60)
    data = records(u, lfilter([0.0, 1.0], [1.0, -slow], u))
    start = undecimated(arx_start(decimated(data, 20), 4)[0], 20)
    A, _ = stable_pair(start, 1)
    assert A[0, 0] == pytest.approx(slow, abs=2e-4)


def test_unstable_starts_are_reflected():
    start = response_start(np.array([[[1.25**k]] for k in range(20)]), "growing")[0]
    A, _ = stable_pair(start, 1)
    assert A[0, 0] == pytest.approx(0.8, abs=1e-6)


def test_truncation_of_a_larger_fit_starts_the_smaller_one():
    rng = np.random.default_rng(3)
    system = random_state_space(rng, 2, 1, 1, radius=0.8)
    data, _ = records_of(rng, system, [800], noise=0.01)
    large = refine(fit_inputs(np.diag([0.8, -0.5, 0.3, 0.1]), np.ones((1, 4)), data), data, 40)
    small = fit_inputs(*truncated(large, 2), data)
    assert small.error < 1.5 * large.error


@pytest.mark.slow
@pytest.mark.parametrize("delay", first_of([0, 2, 30, 1, 150], 3))
def test_dead_times_without_noise_are_exact(delay):
    u = np.random.default_rng(0).standard_normal(3000)
    y = np.concatenate((np.zeros(delay), lfilter([1.0], [1.0, -0.8], u)[: 3000 - delay]))
    # a system without direct path answers one sample later: a delay of one is no dead time
    expected = delay if delay > 1 else 0
    assert find_delays(records(u, y)).tolist() == [expected]


@pytest.mark.slow
@pytest.mark.parametrize("seed", first_of([11, 13, 19], 1))
def test_a_dead_time_in_noise_is_exact_wherever_the_record_starts(seed):
    """What states in front cost depends on the first inputs, and is no reason for a delay."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((2000, 1))
    y = np.concatenate((np.zeros((41, 1)), lfilter([1.0], [1.0, -0.8], u, axis=0)[:-41]))
    y += 0.02 * rng.standard_normal((2000, 1))
    assert find_delays(records(u, y)).tolist() == [41]


def test_each_input_has_a_dead_time_of_its_own():
    rng = np.random.default_rng(1)
    u = rng.standard_normal((2000, 3))
    late = shifted(WeightedRecords((u,), (u,), (u,)), np.array([0, 12, 60])).u[0]
    y = sum(lfilter([k + 1.0], [1.0, -0.7, 0.2], late[:, k]) for k in range(3))
    y = y + 0.05 * rng.standard_normal(2000)
    assert find_delays(records(u, y)).tolist() == [0, 12, 60]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "noise"), first_of([(0, 0.02), (1, 0.3)], several=True))
def test_a_slow_rise_is_no_dead_time(seed, noise):
    rng = np.random.default_rng(seed)
    u = lfilter([1.0], [1.0, -0.7], rng.standard_normal(1500))
    y = lfilter([0.0, 0.1**3], np.poly([0.9, 0.9, 0.9]), u)
    data = records(u, y + noise * y.std() * rng.standard_normal(1500))
    assert find_delays(data).tolist() == [0]


def test_white_noise_has_no_delay():
    rng = np.random.default_rng(5)
    data = records(rng.standard_normal((1000, 2)), rng.standard_normal(1000))
    assert find_delays(data).tolist() == [0, 0]
    assert all(each.shape == (2,) for each in proposed_delays(data))


def test_a_slow_response_of_many_states_is_no_dead_time():
    """Five states and a delay beat five without one; seven without are as good."""
    rng = np.random.default_rng(0)
    u = lfilter(*butter(2, 0.6), rng.standard_normal(5000))
    v = lfilter(*cheby1(3, 0.5, 0.2), u)
    y = lfilter(*butter(3, 0.24), np.minimum(v / v.std(), 0.3))
    data = records(u, y + 0.02 * y.std() * rng.standard_normal(5000))
    assert max(delays.max() for delays in proposed_delays(data)) > 1
    assert find_delays(data).tolist() == [0]


def test_orders_that_have_no_turn_in_time_have_their_best_start():
    rng = np.random.default_rng(3)
    system = random_state_space(rng, 6, 1, 1, radius=0.9)
    data, _ = records_of(rng, system, [2000])
    calls = iter(range(10**6))

    def ended():
        return next(calls) > 16  # after the starts of the two orders that are tried first

    (least, *_, largest) = search_systems(data, range(1, 7), all_starts(data, []), ended)
    assert least.order == 1 and largest.order == 6
    assert largest.fit.n_steps == 0
    assert largest.fit.error < 0.5 * least.fit.error


@pytest.mark.parametrize("order", first_of([2, 1, 3]))
def test_the_order_of_a_system_is_chosen(order):
    rng = np.random.default_rng(order)
    system = random_state_space(rng, order, 1, 1, radius=0.9)
    data, _ = records_of(rng, system, [3000])
    y = data.y[0] / data.y[0].std()
    found = chosen(records(data.u[0], y + 0.05 * rng.standard_normal(y.shape)))
    assert found.order == order
    assert found.error == pytest.approx(0.05, rel=0.1)


def test_of_a_system_without_noise_no_state_too_many_is_taken():
    rng = np.random.default_rng(11)
    system = random_state_space(rng, 3, 1, 1, radius=0.9)
    data, _ = records_of(rng, system, [1000])
    found = chosen(records(data.u[0], data.y[0]))
    assert found.order == 3
    assert found.fit.error < 1e-6


@pytest.mark.slow
def test_an_integrator_keeps_its_pole():
    rng = np.random.default_rng(12)
    u = rng.standard_normal(2000)
    data = records(u, lfilter([0.0, 1.0], [1.0, -1.0], u))
    found = chosen(data, range(1, 4))
    assert (found.order, found.kind) == (1, 2)
    assert 1.0 - 1e-4 < found.fit.system.poles.real.max() < 1.0


@pytest.mark.parametrize("seed", first_of(range(4)))
def test_an_integrator_behind_a_lag_is_fitted_to_the_noise(seed):
    """Whatever the mean of the input: a state of its own, far from the equilibrium, is no fault."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(2000)
    y = np.cumsum(lfilter([0.0, 0.1], [1.0, -0.8], u + 0.05))
    noise = 0.03 * rng.standard_normal(2000)
    data = records(u, y / y.std() + noise)
    found = chosen(data, range(1, 4))
    assert (found.order, found.kind) == (2, 2)
    assert found.fit.error == pytest.approx(0.03, rel=0.05)
    np.testing.assert_allclose(np.sort(found.fit.system.poles.real), [0.8, 1.0], atol=0.02)


def test_states_that_do_not_settle_have_no_prior():
    data = records(np.random.default_rng(0).standard_normal(500), np.arange(500.0))
    system = LinearSystem(
        np.diag([0.5, 1.0]), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), np.zeros(1)
    )
    F = system.settling(500)
    np.testing.assert_allclose(F, np.diag([1.0 / (1.0 + (0.01 / 0.5) ** 2), 0.0]), atol=1e-12)
    prior = prior_of_states(system, np.zeros((1, 2)), data, 0.01)
    assert prior[0, 0] > 1e-6 > prior[1, 1] > 0.0


@pytest.mark.parametrize("seed", first_of([3, 4, 13, 18]))
def test_modes_that_ring_along_with_the_noise_are_not_taken(seed):
    """A system of two states with a tenth of noise: modes more would gain half a percent."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(2000)
    y = lfilter([0.0, 0.3, 0.1], [1.0, -1.8 * np.cos(0.4), 0.81], u)
    data = records(u, y / y.std() + 0.1 * rng.standard_normal(2000))
    assert chosen(data, range(1, 11)).order == 2


@pytest.mark.slow
def test_a_lightly_damped_mode_is_kept():
    rng = np.random.default_rng(13)
    u = rng.standard_normal(3000)
    poles = 0.9995 * np.exp(1j * np.array([0.3, -0.3]))
    y = lfilter([0.0, 1.0], np.poly(poles).real, u)
    found = chosen(records(u, y + 0.1 * y.std() * rng.standard_normal(3000)), range(1, 4))
    assert (found.order, found.kind) == (2, 0)
    np.testing.assert_allclose(np.abs(found.fit.system.poles), 0.9995, atol=2e-4)


def test_a_weak_mode_that_rings_for_long_does_not_drift():
    """Beyond a fifth of the record, but with a hundred periods in it: worth what it explains."""
    rng = np.random.default_rng(15)
    u, pair = rng.standard_normal(1200), 0.9985 * np.exp(1j * np.array([0.5, -0.5]))
    parts = [lfilter([0.0, 1.0], a, u) for a in ([1.0, -0.8], np.poly(pair).real)]
    y = sum(size * part / part.std() for size, part in zip((1.0, 0.2), parts, strict=True))
    data = records(u, y + 0.3 * rng.standard_normal(1200))
    assert steady(data).drifting < 0.9985
    found = chosen(data, range(1, 5))
    assert (found.order, found.kind) == (3, 0)
    np.testing.assert_allclose(np.abs(found.fit.system.poles).max(), 0.9985, atol=1e-3)


def test_poles_that_drift_have_a_limit_of_their_own():
    limit = PoleLimit(0.999, drifting=0.9, angle=0.1)
    turned = np.exp(1j * np.array([0.0, 0.09, -0.09, 0.11, np.pi]))
    np.testing.assert_array_equal(limit.of(turned), [0.9, 0.9, 0.9, 0.999, 0.999])
    np.testing.assert_array_equal(limit.at_most(0.8).of(turned), 0.8)
    block = 0.9995 * np.array([[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]])
    U = linalg.block_diag(0.95, block)
    np.testing.assert_allclose(
        pulled_inside(U, limit), linalg.block_diag(0.9, block * 0.999 / 0.9995), rtol=1e-6
    )
    inside = linalg.block_diag(0.89, 0.99 * block)
    assert pulled_inside(inside, limit) is inside


def test_a_system_competes_without_its_drifting_modes():
    """A slow state that explains little: the smaller system is the one that was always there."""
    rng = np.random.default_rng(16)
    u = rng.standard_normal(1000)
    y = lfilter([0.0, 1.0], [1.0, -0.6], u) + np.cumsum(0.02 * rng.standard_normal(1000))
    data = records(u, y + 0.05 * rng.standard_normal(1000))
    fit = refine(fit_inputs(np.diag([0.6, 0.9995]), np.ones((1, 2)), data), data, 20)
    limit = steady(data)
    assert np.abs(fit.system.poles).max() > limit.drifting
    left = without_drift(fit, data, limit, lambda: False)
    assert left.system.poles == pytest.approx([0.6], abs=0.05)
    alone = fit_inputs(np.array([[0.9995]]), np.ones((1, 1)), data)
    assert without_drift(alone, data, limit, lambda: False) is None


def test_a_pole_that_hardly_shows_is_no_slower_than_twice_the_others():
    rng = np.random.default_rng(17)
    u = rng.standard_normal(3000)
    y = lfilter([0.0, 1.0], [1.0, -0.8], u) + 0.1 * rng.standard_normal(3000)
    data = records(u, y)
    fit = refine(fit_inputs(np.diag([0.8, 0.999]), np.ones((1, 2)), data), data, 3)
    assert np.abs(fit.system.poles).max() > 0.95
    found = without_idle_poles(Candidate(fit, STABLE, 0, "given"), data, lambda: False)
    assert found.order == 2
    assert np.abs(found.fit.system.poles).max() <= 1.0 - 0.9 * (1.0 - 0.8) / SLOWER
    assert found.fit.error <= 1.02 * fit.error
    assert found.limit.modulus < 0.95


def test_slow_poles_that_show_stay():
    rng = np.random.default_rng(18)
    u = rng.standard_normal(3000)
    y = lfilter([0.0, 1.0], [1.0, -0.8], u) + lfilter([0.0, 0.3], [1.0, -0.995], u)
    data = records(u, y + 0.1 * rng.standard_normal(3000))
    fit = refine(fit_inputs(np.diag([0.8, 0.99]), np.ones((1, 2)), data), data, 20)
    given = Candidate(fit, STABLE, 0, "given")
    assert without_idle_poles(given, data, lambda: False) is given


@pytest.mark.slow
@pytest.mark.slow
def test_a_smaller_system_with_an_integrator_beats_larger_ones_that_imitate_it():
    """A drift would need states beside those of the system."""
    rng = np.random.default_rng(4)
    u = np.repeat(rng.standard_normal(20), 50)
    u -= u.mean()
    y = lfilter([3e-4], [1.0, -1.0], u) + lfilter([0.002], [1.0, -0.98], u) + 0.03 * u
    found = chosen(records(u, y + 0.003 * rng.standard_normal(u.size)), range(1, 5))
    assert np.abs(found.fit.system.poles) == pytest.approx([0.98, 1.0], abs=2e-3)


@pytest.mark.slow
def test_modes_that_ring_on_in_the_rest_of_the_output_have_to_pay_on_long_stretches():
    """Slow noise that the input did not cause is followed by such modes between blocks."""
    rng = np.random.default_rng(3)
    u = np.repeat(rng.standard_normal(20), 50)
    noise = lfilter(*butter(2, 0.02), rng.standard_normal(u.size))
    y = lfilter([0.05], [1.0, -0.95], u)
    found = chosen(records(u, y + 0.3 * y.std() / noise.std() * noise), range(1, 5))
    assert found.order == 1


def test_short_records_have_starts_of_several_states():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((60, 3))
    y = sum(lfilter([0.0, b], [1.0, -a], u[:, k]) for k, (a, b) in enumerate(((0.8, 1), (0.3, 2))))
    starts = all_starts(records(u, y), [])
    assert starts
    pair = starts[-1].realise(2)
    np.testing.assert_allclose(np.sort(linalg.eigvals(pair[0]).real), (0.3, 0.8), atol=1e-6)


def test_a_weak_drift_of_the_output_is_not_taken_for_a_slow_state():
    rng = np.random.default_rng(14)
    u = rng.standard_normal(2000)
    y = lfilter([0.0, 1.0], [1.0, -0.8], u) + np.linspace(-0.3, 0.3, 2000)
    found = chosen(records(u, y + 0.2 * rng.standard_normal(2000)), range(1, 5))
    assert (found.order, found.kind) == (1, 0)
    assert found.fit.system.poles[0] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("errors", "orders", "taken"),
    [
        ([0.57, 0.38, 0.277], [2, 4, 8], 0),
        ([0.36, 0.1, 0.08], [1, 3, 4], 1),
        ([1.0, 0.9, 0.1], [2, 2, 2], 2),
        ([1.0, 0.9, 0.7], [4, 4, 2], 2),
        ([1.0, 0.9, 0.75], [4, 4, 2], 0),
    ],
)
def test_slow_poles_have_to_pay_over_all_models_without_them(errors, orders, taken):
    """By half, and by a fifth where they come with fewer states."""
    assert _last_that_pays(list(zip(errors, orders, strict=True))) == taken


def test_folds_cover_all_rows_but_the_first_ones_once():
    lengths = np.array([400, 90])
    for folds in (interleaved(lengths), in_stretches(lengths), contiguous(lengths)):
        for i, n in enumerate((400, 90)):
            times = sum((fold[i] > 0).astype(int) for fold in folds)
            first = int(np.argmax(times))
            assert 0 < first < n / 4
            np.testing.assert_array_equal(times[first:], 1)
    # the same blocks, next to each other
    for apart, together in zip(interleaved(lengths), in_stretches(lengths), strict=True):
        for rows, stretch in zip(apart, together, strict=True):
            assert len(set(rows[rows > 0])) == len(set(stretch[stretch > 0])) == 5
            inside = np.flatnonzero(stretch)
            assert inside.size == inside[-1] - inside[0] + 1
    assert whole_records(lengths) == []


def test_several_records_are_left_out_whole():
    folds = whole_records(np.full(5, 100))
    for i in range(5):
        assert [bool(fold[i].any()) for fold in folds].count(True) == 1
        mine = next(fold[i] for fold in folds if fold[i].any())
        np.testing.assert_array_equal(mine[:5], 0)
        assert (mine[5:] > 0).all()


@pytest.mark.slow
def test_a_fit_reports_its_dead_time_and_sees_delayed_inputs():
    u = np.random.default_rng(0).standard_normal(2000)
    y = np.concatenate((np.zeros(25), lfilter([2.0], [1.0, -0.8], u)[:-25])) + 3.0
    est = SystemIdentifier(n_nonlinear=0, max_seconds=60).fit(u, y)
    assert est.report_.delays == (25,)
    assert "dead times of the inputs: 25 samples" in str(est.report_)
    assert (est.model_.n_hidden, est.model_.lags) == (1, 26)
    np.testing.assert_allclose(est.predict(u)[60:], y[60:], atol=1e-3)
    assert est.report_.poles == pytest.approx([0.8], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("x", first_of([[5.0, -3.0], [0.0, 0.0]]))
def test_a_linear_fit_goes_through_a_record_that_starts_anywhere(x):
    rng = np.random.default_rng(1)
    system = random_state_space(rng, 2, 2, 2, radius=0.98)
    u = rng.standard_normal((800, 2)) + 2.0
    y = system.simulate(u, np.array(x))[0]
    est = SystemIdentifier(n_nonlinear=0, max_seconds=60).fit(u, y)
    assert est.model_.n_hidden == 2
    fitted = est.predict(u, state=est.initial_states_)
    assert np.abs(fitted - y).max() < 1e-6 * y.std()


@pytest.mark.parametrize("make", first_of([interleaved, contiguous]))
def test_one_step_leads_to_the_fit_without_a_fold(make):
    """The sums of the other rows, from those of all, against descents on the other rows alone."""
    rng = np.random.default_rng(5)
    u = rng.standard_normal((1500, 2))
    y = lfilter([0.0, 0.5, 0.2], [1.0, -1.2, 0.6], u[:, 0]) + lfilter([0.3], [1.0, -0.5], u[:, 1])
    data = records(u, y + 0.2 * rng.standard_normal(1500))
    (trial,) = search_systems(data, [3], all_starts(data, []))
    fit = refine(trial.fit, data, 50)
    folds = make(data.lengths)
    for fold, (found, rows) in zip(folds, without_folds(fit, data, folds, STABLE), strict=True):
        assert rows.n_counted == np.sum(fold[0] == 0)
        exact = refine(fit, rows, 50)
        gained = squares_of(fit.system, fit.states, rows) - exact.squares
        # the step is of first order in (A, C): most of the way, and next to nothing of the error
        assert found.squares - exact.squares < 0.5 * gained
        assert found.squares < 1.001 * exact.squares
