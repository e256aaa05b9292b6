"""`SystemIdentifier` on records as they are measured: starts, gaps, spikes, limits, interrupts."""

from __future__ import annotations

import os
import re
import signal
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from helpers.marks import first_of
from scipy.signal import lfilter

from gloree import SystemIdentifier
from gloree.diagnostics import GloreeWarning, OutlierWarning, TooFewSamplesError
from gloree.engine import Engine
from gloree.identification import (
    IdentificationProblem,
    IdentificationSettings,
    _pipeline,
    read_records,
)
from gloree.identification._budget import Budget
from gloree.identification._comparison import compare, n_experiments
from gloree.identification._search import Search
from gloree.models import IORNN
from gloree.sequences import as_sequences

LONG = 900  # seconds that no fit here needs
# weights by least squares on noise-free records, of a search that ends at gains of 1e-5
NEARLY = 1e-3


def saturating(u, state=0.0):
    """y_t = x_t with x_t = 0.8 x_{t-1} + tanh u_{t-1}, from a state."""
    y = np.empty(len(u))
    x = state
    for t, value in enumerate(u):
        y[t] = x
        x = 0.8 * x + np.tanh(2 * value)
    return y


def plant(n=400, seed=0, noise=0.01):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n)
    y = saturating(u)
    return u, y + noise * y.std() * rng.standard_normal(n)


def quick(**options):
    return SystemIdentifier(1, 1, "tanh", max_seconds=LONG, engine="serial", **options)


@pytest.fixture(scope="module")
def fitted():
    u, y = plant()
    return quick().fit(u, y), u, y


@pytest.mark.slow
def test_records_that_start_anywhere_are_fitted_as_one_system():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(n) for n in (500, 350, 400)]
    outputs = [saturating(u, s) for u, s in zip(inputs, (8.0, -5.0, 0.0), strict=True)]
    est = SystemIdentifier(2, 2, "tanh", max_seconds=LONG, engine="serial").fit(inputs, outputs)
    started = est.predict(inputs, state=est.initial_states_)
    for fitted, wanted in zip(started, outputs, strict=True):
        # the state 8 is found too: no transient is left at the start
        assert np.abs(fitted - wanted).max() < 0.1
    assert np.abs(est.report_.poles - 0.8).min() < 0.01


def test_a_linear_record_may_start_at_any_state():
    u = np.random.default_rng(1).standard_normal(600)
    y = lfilter([0.0, 1.0], [1.0, -0.9], u, zi=[20.0])[0] + 5.0
    est = SystemIdentifier(1, 0, max_seconds=LONG).fit(u, y)
    assert est.report_.poles == pytest.approx([0.9], abs=NEARLY)
    left = y - est.predict(u, state=est.initial_states_)
    assert np.abs(left).max() < NEARLY * y.std()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nan", "masked", "list", "frame"])
def test_rows_without_an_output_do_not_count(fitted, form):
    est, u, y = fitted
    lost = np.zeros(u.size, dtype=bool)
    lost[[3, 350]] = lost[200:260] = True
    wrong = np.where(lost, 1e6, y)
    if form == "nan":
        found = quick().fit(u, np.where(lost, np.nan, y))
    elif form == "masked":
        found = quick().fit(u, np.ma.masked_array(wrong, lost))
    elif form == "list":
        found = quick().fit([u], [np.ma.masked_array(wrong, lost)[:, None]])
    else:
        pd = pytest.importorskip("pandas")
        found = quick().fit(u, pd.Series(y, dtype="Float64").mask(lost))
    assert any(note.startswith("62 of 400 rows lack an output") for note in found.report_.notes)
    v, z = plant(seed=5)
    assert found.score(v, z, skip=50) > 0.99
    assert found.score(v, z, skip=50) == pytest.approx(est.score(v, z, skip=50), abs=0.005)


def test_inputs_cannot_be_missing():
    u, y = plant(200)
    u[[20, 50]] = np.nan
    with pytest.raises(
        ValueError, match=r"`u` holds nan at .*step 20.* \(2 in all\).*cut the record"
    ):
        quick().fit(u, y)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20.0, 1e4])
def test_spikes_do_no_harm_and_are_named(fitted, size):
    est, u, y = fitted
    bad = y.copy()
    bad[[100, 250, 350]] += size * y.std()
    with pytest.warns(OutlierWarning, match=r"row\(s\) 100, 250, 350") as caught:
        found = quick().fit(u, bad)
    assert {warning.filename for warning in caught} == {__file__}
    v, z = plant(seed=5)
    assert found.score(v, z, skip=50) == pytest.approx(est.score(v, z, skip=50), abs=0.005)


@pytest.mark.slow
def test_a_drift_can_be_taken_out():
    u, y = plant(800)
    drift = np.linspace(0.0, 10.0 * y.std(), y.size)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SystemIdentifier(1, 0).fit(u, y + drift)
    texts = [str(each.message) for each in caught if issubclass(each.category, GloreeWarning)]
    assert any(re.match("output 0 drifts .*detrend='linear'", text) for text in texts)
    assert any("held at a time constant of 160 samples" in text for text in texts)
    est = quick(detrend="linear").fit(u, y + drift)
    v, z = plant(seed=5)
    # around the mean of the outputs of the fit
    assert np.mean(est.predict(v)) == pytest.approx(np.mean(y + drift), abs=0.1 * drift[-1])
    assert np.corrcoef(est.predict(v)[50:], z[50:])[0, 1] > 0.99
    with pytest.raises(ValueError, match="`detrend` must be None, 'constant' or 'linear'"):
        quick(detrend="quadratic").fit(u, y)


@pytest.mark.slow
def test_two_fits_with_time_to_spare_are_equal(fitted):
    est, u, y = fitted
    again = SystemIdentifier(1, 1, "tanh", max_seconds=2 * LONG, engine="serial").fit(u, y)
    assert again.model_ == est.model_
    assert again.linear_model_ == est.linear_model_
    np.testing.assert_array_equal(again.initial_states_, est.initial_states_)
    assert not any("time was up" in note for note in est.report_.notes)


STAGES = (
    "fit_linear",
    "refine_linear",
    "find_nonlinearity",
    "rank_starts",
    "refine_network",
    "refit",
)


@pytest.fixture
def interruptible():
    """Interrupts raise, also where the tests were begun without them, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.filterwarnings("ignore:.*interrupted:gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("stage", first_of(STAGES[::-2] + STAGES[::2]))
def test_an_interrupt_ends_a_fit_with_a_model(stage, monkeypatch):
    """Whatever the stage in which it comes, no search begins after it.

    What there is of a network by then is compared with the linear model.
    """
    u, y = plant()
    before, begun = signal.getsignal(signal.SIGINT), []

    def noted(name, function):
        def run(*given, **options):
            begun.append(name)
            if name == stage:
                os.kill(os.getpid(), signal.SIGINT)
            return function(*given, **options)

        return run

    for name in STAGES:
        monkeypatch.setattr(_pipeline, name, noted(name, getattr(_pipeline, name)))
    est = quick().fit(u, y)
    compared = stage in ("find_nonlinearity", "rank_starts")
    assert begun[-1] == ("refine_network" if compared else stage)
    assert est.report_.nonlinear or stage != "refit"
    if compared:
        assert "better than linear by" in est.report_.stages[-1].detail
    assert signal.getsignal(signal.SIGINT) is before
    assert any("interrupted" in note for note in est.report_.notes)
    assert any("interrupted" in text for text in est.report_.warnings)
    assert not any("sound" in note for note in est.report_.notes)
    assert est.score(u, y) > 0.5


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_is_raised():
    budget = Budget(Engine("serial"), 100.0)
    with budget.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert budget.interrupted
        assert budget.is_over
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)


def test_time_is_over_when_it_is_over():
    budget = Budget(Engine("serial"), 1e-9)
    assert budget.is_over
    assert budget.ran_out
    assert not budget.interrupted


@pytest.mark.parametrize("seconds", first_of([1e-3, 1.0]))
def test_little_time_gives_some_model(seconds):
    u, y = plant(2000)
    est = SystemIdentifier(max_seconds=seconds, engine="serial").fit(u, y)
    assert est.score(u, y) > 0.5
    assert any("time was up" in note for note in est.report_.notes)


def compared(u, y, gain=0.0, offset=0.0):
    """Comparison of y^ = 0 with y^ = gain u + offset, in units of the normalised record."""
    problem = IdentificationProblem.of(
        read_records(u, y), IdentificationSettings(), Engine("serial")
    )
    zero = IORNN([[0.0]], [[0.0]], [[0.0]], direct_weights=[[0.0]], activation="linear")
    other = zero.replace(
        direct_weights=gain * np.ones((1, 1)) * problem.input_size / problem.output_size,
        output_bias=np.array([offset]),
    )
    held_out = problem.split(50).held_out
    found = compare(problem, held_out, zero, other)
    assert found.n_rows == held_out.n_counted
    assert 1.0 <= found.n_independent <= found.n_rows
    return found


def test_a_gain_in_white_residuals_counts_every_row():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((4000, 1))
    found = compared(u, 0.3 * u[:, 0] + rng.standard_normal(4000), gain=0.3)
    assert found.is_certain
    assert found.n_independent > 0.5 * found.n_rows


def test_a_gain_by_chance_in_slow_residuals_is_not_certain():
    """An offset gains nothing on the whole, and much on some stretches of a hundred rows."""
    certain = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        slow = np.repeat(rng.standard_normal(40), 100) + 0.1 * rng.standard_normal(4000)
        found = compared(rng.standard_normal((4000, 1)), slow, offset=0.1)
        assert found.n_independent < 0.1 * found.n_rows
        certain.append(found.is_certain)
    # one in forty by chance; three standard deviations of such a number on top
    assert sum(certain) <= 1 + 3


def test_a_response_to_few_steps_is_few_experiments():
    """Steps of the input at rows 1000 and 2500 of 4000: three, however many rows there are."""
    rng = np.random.default_rng(0)
    u = np.repeat([0.5, -1.0, 1.0], [1000, 1500, 1500])[:, None]
    y = 0.3 * u[:, 0] + rng.standard_normal(4000)
    found = compared(u, y, gain=0.3)
    assert found.n_independent == 3
    moving = compared(u + 0.01 * rng.standard_normal((4000, 1)), y, gain=0.3)
    assert moving.n_independent > 0.5 * moving.n_rows


def test_experiments_are_stretches_in_which_no_input_moves():
    parts = [[[1, 0], [1, 0], [2, 0]], [[2, 0], [2, 5]], [[2, 5], [2, 5]]]
    data = as_sequences([np.array(part, float) for part in parts])
    assert n_experiments(data) == 2 + 2 + 1


@pytest.mark.parametrize(("held_out", "words"), [(1.0, "does not repeat"), (0.01, "unlike the")])
def test_parts_of_the_data_that_are_unlike_are_named(held_out, words):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((1000, 1))
    chosen = np.arange(1000) // 100 % 4 == 1
    noise = np.where(chosen, held_out, 0.1) * rng.standard_normal(1000)
    parts = np.split(u, 2), np.split(u[:, 0] + noise, 2)
    problem = IdentificationProblem.of(
        read_records(*parts), IdentificationSettings(), Engine("serial")
    )
    problem = replace(problem, held_out=chosen)
    gain = problem.input_size / problem.output_size
    model = IORNN([[0.0]], [[0.0]], [[0.0]], direct_weights=[gain], activation="linear")
    search = Search(problem, problem.split(50), Budget(Engine("serial"), LONG), print)
    (finding,) = _pipeline._unlike(search, model)
    assert words in finding.text
    alike = replace(problem, held_out=np.arange(1000) % 4 == 1)
    search = Search(alike, alike.split(50), Budget(Engine("serial"), LONG), print)
    assert not _pipeline._unlike(search, model)


def test_rows_that_count_must_be_enough():
    u, y = plant(400)
    y[:381] = np.nan
    with pytest.raises(TooFewSamplesError, match="19 samples are too few"):
        quick().fit(u, y)


def test_the_linear_model_is_that_of_all_rows_when_the_time_is_up(monkeypatch):
    """It is fitted before networks are, so that their searches cannot leave it half done."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(400)
    y = lfilter([0.0, 1.0, 0.5], [1.0, -1.5, 0.7], u) + 0.1 * rng.standard_normal(400)
    alone = SystemIdentifier(2, 0, engine="serial").fit(u, y)
    late = _pipeline.rank_starts

    def over(origin, budget):
        budget.max_seconds = 0.0
        return late(origin, budget)

    monkeypatch.setattr(_pipeline, "rank_starts", over)
    est = SystemIdentifier(2, 1, engine="serial").fit(u, y)
    assert not est.report_.nonlinear
    np.testing.assert_allclose(est.predict(u), alone.predict(u), atol=1e-6)
    np.testing.assert_allclose(est.linear_model_.output_weights, est.model_.output_weights)


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_few_rows_of_many_channels_give_a_linear_model_with_a_warning():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((254, 5))
    y = lfilter([0.0, 0.3], [1.0, -0.7], u @ rng.standard_normal((5, 3)), axis=0)
    y += 0.1 * y.std(axis=0) * rng.standard_normal(y.shape)
    with pytest.warns(GloreeWarning, match=r"54 samples are few .* has 27 unknowns"):
        est = SystemIdentifier(engine="serial").fit(u[:54], y[:54])
    assert not est.report_.nonlinear
    assert est.score(u[54:], y[54:], skip=20) > 0.9
    with pytest.raises(TooFewSamplesError, match=r"17 samples .* at least 20"):
        SystemIdentifier().fit(u[:17], y[:17])


def test_records_of_other_channels_are_named():
    u, y = plant(200)
    with pytest.raises(ValueError, match=r"`u\[1\]` has shape \(200, 2\)"):
        quick().fit([u[:, None], np.column_stack((u, u))], [y, y])
    with pytest.raises(ValueError, match=r"`y\[1\]` has shape \(200, 2\)"):
        quick().fit([u, u], [y[:, None], np.column_stack((y, y))])


@pytest.mark.parametrize("n_rows", first_of([300, 3000]))
def test_a_response_that_ends_has_its_poles_at_zero(n_rows):
    """y_t = .5 u_{t-1} + .2 u_{t-2}: a double pole at zero, which no eigenvectors tell apart."""
    u = np.random.default_rng(0).standard_normal(2 * n_rows)
    y = np.zeros_like(u)
    y[1:] += 0.5 * u[:-1]
    y[2:] += 0.2 * u[:-2]
    est = SystemIdentifier(n_linear=2, n_nonlinear=0).fit(u[:n_rows], y[:n_rows])
    assert est.score(u[n_rows:], y[n_rows:], skip=50) > 1.0 - 1e-9
    assert np.abs(est.report_.poles).max() < 1e-6


@pytest.mark.slow
def test_spikes_do_not_enter_the_tests_of_residuals():
    """Rows that the fit leaves out say nothing of what it missed."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(2000)
    y = lfilter([0.0, 0.5], [1.0, -0.8], u) + 0.05 * rng.standard_normal(2000)
    clean = SystemIdentifier(n_linear=1, n_nonlinear=0).fit(u, y).report_.residuals
    y[[300, 1200]] += [40.0, 1e6]
    with pytest.warns(OutlierWarning):
        spiked = SystemIdentifier(n_linear=1, n_nonlinear=0).fit(u, y).report_.residuals
    assert spiked is not None
    np.testing.assert_allclose(spiked.whiteness, clean.whiteness, atol=0.1)


def test_inputs_that_explain_next_to_nothing_are_named():
    rng = np.random.default_rng(0)
    u, y = rng.standard_normal((2, 400, 1))
    with pytest.warns(GloreeWarning, match="explains [01] % of the outputs' variance on held-out"):
        SystemIdentifier(max_seconds=2, engine="serial").fit(u, y)


@pytest.mark.parametrize("error", [0.0, 0.9, np.nan])
def test_a_model_that_explains_more_is_no_reason_to_warn(error):
    assert not _pipeline._little(error)


def test_inputs_that_move_together_are_named():
    u, y = np.random.default_rng(0).standard_normal((200, 3)), np.random.default_rng(1)
    u[:, 2] = 1e-3 * u[:, 0] + 7.0
    y = lfilter([0.0, 1.0], [1.0, -0.5], u[:, 0] + u[:, 1]) + 0.1 * y.standard_normal(200)
    with pytest.warns(GloreeWarning, match="the inputs in columns 0, 2 move together"):
        SystemIdentifier(1, 0, max_seconds=LONG).fit(u, y)
