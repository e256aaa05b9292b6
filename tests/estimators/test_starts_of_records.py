"""Where a record starts: at rest, from a state, from its first outputs; and going on after it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.comparisons import assert_close
from helpers.marks import first_of
from helpers.naive import run_from
from helpers.parts import write_npz
from scipy.signal import lfilter

from gloree import SpectralRNNClassifier, SpectralRNNRegressor, SystemIdentifier, datasets
from gloree.diagnostics import GloreeWarning
from gloree.identification import estimate_state
from gloree.metrics import r2_score
from gloree.models import IORNN, EquilibriumError

# sums of some ten terms of size one, over a memory of a hundred steps
ALGEBRA = 1e-11
# states found from outputs, within 1e6 roundings
STATES = 1e-8

MODEL = IORNN(
    [[0.5, 0.1], [0.2, -1.0], [0.3, 0.3]],
    [[0.9, 0.0, 0.2], [0.1, 0.7, 0.0], [0.0, 0.1, 0.1]],
    [[1.0], [0.5], [1.0]],
    [0.1, 0.2, 0.0],
    [20.0],
    [[0.3], [0.0]],
    ["linear", "linear", "tanh"],
)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((300, 2))
    est = SystemIdentifier(1, 0, max_seconds=2, engine="serial")
    est.fit(u, MODEL.predict(u)[:, 0] + 0.1 * rng.standard_normal(300))
    est.model_ = MODEL  # the fit is not what is tested here, nor are its errors
    est._output_noise = np.zeros(1)
    return est


@pytest.fixture
def record():
    rng = np.random.default_rng(1)
    u = rng.standard_normal((90, 2))
    state = MODEL.equilibrium(u[0]) + rng.standard_normal(3)
    return u, MODEL.predict(u, state=state)[:, 0], state


@pytest.mark.slow
def test_an_equilibrium_is_a_rest_at_the_first_input(fitted, record):
    u, _, _ = record
    state = MODEL.equilibrium(u[0])
    expected = run_from(MODEL, u, state)[0][:, 0]
    assert_close(fitted.predict(u, initial="equilibrium"), expected, ALGEBRA)
    assert_close(fitted.simulate(u, initial=state), expected, ALGEBRA)


def test_by_default_a_record_that_stands_still_stays_there(fitted, record):
    u, _, _ = record
    still = np.tile(u[0], (30, 1))
    outputs = fitted.predict(still)
    assert_close(outputs, np.full(30, outputs[0]), ALGEBRA)
    np.testing.assert_array_equal(outputs, fitted.predict(still, initial="auto"))


def test_rest_is_a_state_of_zeros(fitted, record):
    u, _, _ = record
    expected = run_from(MODEL, u, np.zeros(3))[0][:, 0]
    assert_close(fitted.predict(u, initial="rest"), expected, ALGEBRA)


def test_a_parameter_of_the_estimator_is_the_default(fitted, record):
    u, y, _ = record
    try:
        fitted.initial = "rest"
        np.testing.assert_array_equal(fitted.predict(u), fitted.predict(u, initial="rest"))
        assert fitted.score(u, y) == fitted.score(u, y, initial="rest")
    finally:
        fitted.initial = "auto"


def test_first_outputs_tell_the_state(fitted, record):
    u, y, state = record
    outputs, last = fitted.predict(u, y, n_init=40, return_state=True)
    assert_close(outputs, y, STATES)  # the first rows too: they are the fit of them
    assert_close(last, run_from(MODEL, u, state)[1], STATES)
    assert_close(fitted.predict(u, y[:40], n_init=40), y, STATES)
    assert_close(fitted.predict(u, y[:, None], n_init=40), y, STATES)
    missing = y.copy()
    missing[[0, 7, 60]] = np.nan
    assert_close(fitted.predict(u, missing, n_init=40), y, STATES)


def test_states_are_no_nearer_to_the_first_outputs_than_the_fit_is(fitted, record, monkeypatch):
    u, y, _ = record
    monkeypatch.setattr(fitted, "_output_noise", np.array([0.5]))
    found = fitted.predict(u, y, n_init=10, return_state=True)[1]
    state = estimate_state(MODEL, u, y, 10, noise=[0.5])
    assert_close(found, run_from(MODEL, u, state)[1], ALGEBRA)
    assert np.abs(estimate_state(MODEL, u, y, 10) - state).max() > 1e-3


def test_a_fit_knows_the_size_of_its_errors():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((300, 2))
    y = MODEL.predict(u)[:, 0] + 0.1 * rng.standard_normal(300)
    est = SystemIdentifier(1, 0, max_seconds=2, engine="serial").fit(u, y)
    left = y - est.predict(u, state=est.initial_states_[0])
    assert est._output_noise == pytest.approx([left.std()], rel=0.05)


def test_a_fit_that_was_saved_without_its_errors_takes_any(fitted, record, monkeypatch, tmp_path):
    u, y, _ = record
    monkeypatch.delattr(fitted, "_output_noise")
    fitted.save(tmp_path / "fit")
    found = SystemIdentifier.load(tmp_path / "fit").predict(u, y, n_init=10, return_state=True)[1]
    assert_close(found, run_from(MODEL, u, estimate_state(MODEL, u, y, 10))[1], ALGEBRA)


def test_measured_outputs_are_not_read_beyond_the_first_rows(fitted, record):
    u, y, _ = record
    other = y.copy()
    other[20:] = -1e6
    np.testing.assert_array_equal(
        fitted.predict(u, other, n_init=20), fitted.predict(u, y, n_init=20)
    )
    np.testing.assert_array_equal(fitted.predict(u, y), fitted.predict(u))


def test_the_prior_of_an_estimate_is_what_initial_says(fitted, record):
    u, y, _ = record
    y = y + np.random.default_rng(2).standard_normal(90)
    for initial in ("rest", [1.0, 2.0, 0.5]):
        state = estimate_state(MODEL, u, y, 4, prior=initial)
        assert_close(
            fitted.predict(u, y, n_init=4, initial=initial),
            MODEL.predict(u, state=state)[:, 0],
            ALGEBRA,
        )


@pytest.mark.parametrize("start", ["rest", "equilibrium", "state", "auto"])
def test_a_cut_record_equals_the_whole_from_a_start_that_looks_at_no_more_than_its_first_row(
    fitted, record, start
):
    white, _, state = record
    u = lfilter([1.0], [1.0, -0.9], white, axis=0)
    options = {"state": state} if start == "state" else {"initial": start}
    whole = fitted.predict(u, **options)
    for cut in (1, 20, 89):
        first, after = fitted.predict(u[:cut], return_state=True, **options)
        joined = np.concatenate((first, fitted.predict(u[cut:], state=after)))
        if start == "auto":
            # it expects what came before from the inputs of the whole record
            assert np.abs(joined - whole).max() > 1e-3 * np.std(whole)
        else:
            assert_close(joined, whole, ALGEBRA)


def test_a_record_without_errors_cut_behind_its_first_outputs_equals_the_whole(fitted, record):
    u, y, _ = record
    whole, end = fitted.predict(u, y, n_init=10, return_state=True)
    for cut in (10, 47, 89):
        first, state = fitted.predict(u[:cut], y[:cut], n_init=10, return_state=True)
        second, last = fitted.simulate(u[cut:], state=state, return_state=True)
        assert_close(np.concatenate((first, second)), whole, ALGEBRA)
        assert_close(last, end, ALGEBRA)


@pytest.mark.slow
def test_records_have_a_state_each(fitted, record):
    u, y, state = record
    U, Y = [u, u[5:50], u[::-1]], [y, y[5:50], y]
    Y[2] = MODEL.predict(U[2], state=-state)[:, 0]
    outputs, states = fitted.predict(U, Y, n_init=30, return_state=True)
    assert states.shape == (3, 3)
    for found, expected in zip(outputs, Y, strict=True):
        assert_close(found, expected, STATES)
    again = fitted.predict(U, state=states)
    expected = [MODEL.predict(x, state=s)[:, 0] for x, s in zip(U, states, strict=True)]
    for found, one in zip(again, expected, strict=True):
        assert_close(found, one, ALGEBRA)
    flat, of_flat = fitted.predict(
        np.concatenate(U), np.concatenate(Y), n_init=30, lengths=[90, 45, 90], return_state=True
    )
    assert_close(flat, np.concatenate(outputs), ALGEBRA)
    assert_close(of_flat, states, ALGEBRA)


def naive_r2(outputs, y, rows):
    left = np.sum((outputs - y)[rows] ** 2)
    return 1 - left / np.sum((y[rows] - y[rows].mean()) ** 2)


def test_a_score_counts_rows_after_the_first_that_are_measured(fitted, record):
    u, y, _ = record
    y = y + 0.3 * np.random.default_rng(3).standard_normal(90)
    y[[2, 40, 41]] = np.nan
    for skip, n_init in ((0, 0), (0, 15), (25, 15), (5, 15)):
        rows = [t for t in range(max(skip, n_init), 90) if np.isfinite(y[t])]
        outputs = fitted.predict(u, y, n_init=n_init)
        found = fitted.score(u, y, skip=skip, n_init=n_init)
        assert found == pytest.approx(naive_r2(outputs, y, rows), abs=ALGEBRA)
    state = np.array([1.0, 0.0, 0.0])
    rows = np.flatnonzero(np.isfinite(y))
    for given in ({"state": state}, {"initial": state}):
        outputs = fitted.predict(u, **given)
        assert fitted.score(u, y, **given) == pytest.approx(naive_r2(outputs, y, rows), abs=ALGEBRA)


@pytest.mark.slow
def test_each_output_counts_where_it_was_measured():
    rng = np.random.default_rng(4)
    model = MODEL.replace(
        output_weights=[[1.0, 0.0], [0.5, 1.0], [1.0, 2.0]],
        output_bias=None,
        direct_weights=None,
    )
    u = rng.standard_normal((60, 2))
    est = SystemIdentifier(1, 0, max_seconds=2, engine="serial").fit(u, model.predict(u))
    est.model_ = model
    y = est.predict(u) + 0.3 * rng.standard_normal((60, 2))
    y[:30, 0] = np.nan
    one, two = (
        r2_score(y[rows, [i]][:, None], est.predict(u)[rows, [i]][:, None])
        for i, rows in ((0, slice(30, None)), (1, slice(None)))
    )
    assert est.score(u, y) == pytest.approx((one + two) / 2, abs=ALGEBRA)


@pytest.mark.slow
@pytest.mark.parametrize("engine", first_of(["serial", "threads"]))
def test_records_in_shards_start_and_go_on_alike(fitted, record, engine, tmp_path):
    rng = np.random.default_rng(5)
    U = rng.standard_normal((6, 40, 2))
    Y = MODEL.predict(U, state=rng.standard_normal((6, 3))) + 0.1 * rng.standard_normal((6, 40, 1))
    folder = str(write_npz(tmp_path, [(U[i : i + 2], Y[i : i + 2]) for i in (0, 2, 4)]))
    est = SystemIdentifier(engine=engine)
    vars(est).update({name: each for name, each in vars(fitted).items() if name != "engine"})
    for options in (
        {},
        {"initial": "rest"},
        {"n_init": 20},
        {"state": rng.standard_normal((6, 3))},
    ):
        given = () if "n_init" not in options else (Y,)
        expected, states = fitted.predict(U, *given, return_state=True, **options)
        found, ends = est.predict(folder, return_state=True, **options)
        assert_close(np.array(found), expected, ALGEBRA)
        assert_close(ends, states, ALGEBRA)
        score = fitted.score(U, Y, **options)
        assert est.score(folder, **options) == pytest.approx(score, abs=ALGEBRA)


def test_starts_travel_to_dask_workers(fitted, record):
    dask = pytest.importorskip("dask")
    u, y, _ = record
    y = y + 0.1 * np.random.default_rng(8).standard_normal(90)
    parts = [dask.delayed(lambda pair: pair)((u[None], y[None, :, None])) for _ in range(2)]
    for options in ({}, {"n_init": 20}, {"state": np.ones((2, 3))}):
        given = (np.stack((y, y))[..., None],) if "n_init" in options else ()
        expected = fitted.predict(np.stack((u, u)), *given, **options)
        assert_close(np.array(fitted.predict(parts, **options)), expected, ALGEBRA)


def test_a_network_without_a_rest_starts_from_zeros_and_says_so(fitted, record):
    u, _, _ = record
    est = SystemIdentifier()
    vars(est).update(vars(fitted))
    est.model_ = MODEL.replace(recurrent_weights=np.diag([1.0, 0.5, 0.1]))  # it integrates
    with pytest.raises(EquilibriumError):
        est.model_.equilibrium(u[0])
    with pytest.warns(
        GloreeWarning, match=r"1 record\(s\), .* have no stable equilibrium"
    ) as given:
        found = est.predict(u, initial="equilibrium")
    assert given[0].filename == __file__
    np.testing.assert_array_equal(found, est.predict(u, initial="rest"))


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"n_init": 91}, ValueError, "`n_init` is 91, but the shortest record has 90 rows"),
        ({"n_init": -1}, ValueError, "`n_init` must be at least 0, got -1"),
        ({"n_init": 1.5}, TypeError, "`n_init` must be an integer, got 1.5"),
        ({"n_init": "5"}, TypeError, "`n_init` must be an integer, got '5'"),
        ({"n_init": None}, TypeError, "`n_init` must be an integer, got None"),
        ({"n_init": False}, TypeError, "`n_init` must be an integer, got False"),
        ({"n_init": None, "state": np.zeros(3)}, TypeError, "`n_init` must be an integer"),
        ({"n_init": 9, "state": np.zeros(3)}, ValueError, "`state` and `n_init` were both given"),
        (
            {"initial": "rest", "state": np.zeros(3)},
            ValueError,
            "`state` and `initial` were both given",
        ),
        ({"state": np.zeros(4)}, ValueError, r"`state` has shape \(4,\), expected \(3,\)"),
        ({"initial": np.zeros(4)}, ValueError, r"`initial` has shape \(4,\), expected \(3,\)"),
        (
            {"initial": "still"},
            ValueError,
            "`initial` must be one of 'auto', 'equilibrium', 'rest', or states",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(fitted, record, options, error, words):
    u, y, _ = record
    for function in (fitted.predict, fitted.simulate, fitted.score):
        with pytest.raises(error, match=words):
            function(u, y, **options)


def test_outputs_that_are_missing_are_asked_for(fitted, record):
    u, y, _ = record
    with pytest.raises(ValueError, match="`y` is missing: `n_init` needs the first outputs"):
        fitted.predict(u, n_init=10)
    with pytest.raises(ValueError, match="`y` is missing: score needs outputs"):
        fitted.score(u)
    with pytest.raises(ValueError, match="`u` has 90 steps, `y` has 5"):
        fitted.predict(u, y[:5], n_init=10)
    with pytest.raises(ValueError, match="missing in all rows that count"):
        fitted.score(u, np.full(90, np.nan))
    with pytest.raises(ValueError, match="`n_init`=90 leaves no rows to score"):
        fitted.score(u, y, n_init=90)


# --------------------------------------------------------------------- regressor and classifier


@pytest.fixture(scope="module")
def data():
    X, Y, _, _ = datasets.make_rnn(400, 8, 3, 2, 3, random_state=0)
    return X, Y


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")  # of another class
@pytest.mark.parametrize("options", [{}, {"lags": 2, "recurrence": None}, {"bidirectional": True}])
def test_a_regressor_goes_on_from_a_state(data, options):
    X, Y = data
    est = SpectralRNNRegressor(2, random_state=0, engine="serial", **options).fit(X, Y)
    states = 0.1 * np.random.default_rng(6).standard_normal((400, est.model_.n_state))
    outputs, last = est.predict(X, state=states, return_state=True)
    expected, ends = est.model_.predict(X, state=states, return_state=True)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(last, ends)
    np.testing.assert_array_equal(est.predict(X), est.model_.predict(X))
    if not options.get("bidirectional"):
        first, state = est.predict(X[:, :3], return_state=True)
        second = est.predict(X[:, 3:], state=state)
        assert_close(np.concatenate((first, second), axis=1), est.predict(X), ALGEBRA)
    with pytest.raises(ValueError, match="`state` has shape"):
        est.predict(X, state=states[:9])


def test_a_classifier_goes_on_from_a_state(data):
    X, Y = data
    labels = np.array(["a", "b", "c"])[Y.argmax(axis=2)]
    clf = SpectralRNNClassifier(2, random_state=0, engine="serial").fit(X, labels)
    for function in (clf.predict, clf.predict_proba, clf.decision_function):
        whole, end = function(X, return_state=True)
        first, state = function(X[:, :5], return_state=True)
        second, last = function(X[:, 5:], state=state, return_state=True)
        joined = np.concatenate((first, second), axis=1)
        if joined.dtype.kind == "f":
            assert_close(joined, whole, ALGEBRA)
        else:
            np.testing.assert_array_equal(joined, whole)
        assert_close(last, end, ALGEBRA)
        assert end.shape == (400, clf.model_.n_state)
        np.testing.assert_array_equal(function(X), whole)


def test_predictions_and_intervals_of_an_integrator_start_at_its_states_in_the_fit():
    rng = np.random.default_rng(0)
    u = rng.standard_normal(200)
    y = 30.0 + 0.1 * np.cumsum(u) + 0.01 * rng.standard_normal(200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pole at the edge of stability, a drift
        est = SystemIdentifier(1, 0, max_seconds=5, engine="serial").fit(u, y)
        expected = est.predict(u, state=est.initial_states_)
        intervals = est.prediction_intervals(u, records=(u, y))
    assert np.abs(expected - y).max() < 0.1
    for found in (est.predict(u), est.predict(u, initial="auto"), intervals.mean[:, 0]):
        assert_close(found, expected, ALGEBRA)
