"""`SystemIdentifier` on simulated systems, small and quick, and on what goes wrong."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from helpers.marks import first_of
from scipy.signal import lfilter
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from gloree import SystemIdentifier, sources
from gloree.activations import PerUnit, Polynomial, get_activation
from gloree.diagnostics import GloreeWarning, TooFewSamplesError
from gloree.engine import Engine
from gloree.identification import (
    IdentificationProblem,
    IdentificationSettings,
    identify,
    read_records,
)
from gloree.identification._budget import Budget
from gloree.identification._linear import fit_linear
from gloree.identification._markov import typical_length
from gloree.identification._nonlinearity import find_nonlinearity
from gloree.identification._verdict import WORTH
from gloree.models import IORNN

SECONDS = 200  # a limit: searches count their steps
# the same model on the same data by another path
ALGEBRA = 1e-10
# the same sums in other parts, through a linear system
SUMS = 1e-8
# the same data in another form: the search takes the same path
SAME_DATA = 1e-6
# ends of two searches that stop at gains of 1e-5: an error differs by a few hundred of these at
# most, and outputs by the root
SAME_ERROR, SAME_OUTPUTS = 1e-3, 1e-2
# a score is relative to the variance of all steps, the error here to that of those that count
MEAN_OF_OUTPUTS = 1e-3
# what the weights of a linear model take up of the noise
FEW_WEIGHTS = 0.02
# a response of 2000 steps without noise is cut off where 0.97^n is small, not zero
POLE = 1e-3
# noise of one percent leaves what some twenty weights take up of it
LEFT_OF_NOISE = 0.003


def cascade(u, f=np.tanh):
    """Filter, static nonlinearity, filter: y_t depends on u_t and before."""
    inner = lfilter([1.0, 0.3], [1.0, -1.2, 0.5], u, axis=0)
    return lfilter([0.5, 0.4], [1.0, -0.7], f(inner), axis=0)


def linear_system(u):
    return lfilter([0.2, 0.5], [1.0, -1.3, 0.6], u, axis=0)


def saturation(n=4000, seed=0):
    u = np.random.default_rng(seed).standard_normal(n)
    return u, cascade(u)


@pytest.fixture(scope="module")
def saturated():
    u, y = saturation(500)
    return SystemIdentifier(3, 2, "tanh", max_seconds=SECONDS).fit(u, y)


@pytest.fixture(scope="module")
def fitted_linear():
    u = np.random.default_rng(1).standard_normal(3000)
    y = 5.0 * linear_system(u) + 100.0
    y += 0.05 * y.std() * np.random.default_rng(2).standard_normal(3000)
    return SystemIdentifier(n_linear=2, n_nonlinear=2, max_seconds=10).fit(u, y), u, y


def relative_error(model, u, y, skip=50):
    left = (y.reshape(len(y), -1) - model.predict(u.reshape(len(u), -1)))[skip:]
    return float(np.sqrt(np.mean(left**2)) / y[skip:].std())


def radius(est):
    return float(np.abs(est.report_.poles).max())


# ------------------------------------------------------------------------------ what it finds


@pytest.mark.slow
def test_a_saturated_cascade_is_better_than_its_linear_model():
    # of a record whose one large swing is held out the linear model is kept: a single event
    saturated = SystemIdentifier(3, 2, "tanh", max_seconds=SECONDS).fit(*saturation(1500, seed=1))
    u, y = saturation(seed=9)  # data that it has not seen
    report = saturated.report_
    assert report.nonlinear
    linear = relative_error(saturated.linear_model_, u, y)
    found = relative_error(saturated.model_, u, y)
    assert found < 0.5 * linear
    assert report.refined_error < 0.5 * report.linear_error
    # free run on fresh data: the held-out error and the optimism of having chosen by it
    assert found < 1.5 * report.refined_error
    assert saturated.score(u, y, skip=50) == pytest.approx(1 - found**2, abs=MEAN_OF_OUTPUTS)
    assert saturated.model_.n_hidden == 5
    assert saturated.n_features_in_ == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("f", [np.tanh, lambda v: v + v**2 / 4], ids=["odd", "mixed"])
def test_order_and_number_of_units_are_chosen_where_none_is_given(f):
    u = np.random.default_rng(3).standard_normal(4000)
    y = cascade(u, f)
    est = SystemIdentifier(max_seconds=SECONDS).fit(u, y)
    assert est.report_.nonlinear
    found = relative_error(est.model_, u, y)
    assert found < 0.8 * relative_error(est.linear_model_, u, y)


def parallel(n, seed):
    """Two cascades with other filters and nonlinearities, side by side."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(n)
    second = lfilter([1.0, -0.4], [1.0, 0.5], u)
    y = cascade(u) + lfilter([0.6, -0.3], [1.0, 0.2, 0.3], second + 0.4 * second**2)
    return u, y + 0.01 * y.std() * rng.standard_normal(n)


@pytest.fixture(scope="module")
def moments_of_parallel():
    u, y = parallel(10_000, seed=0)
    return {
        r: SystemIdentifier(4, 5, "tanh", n_directions=r, max_seconds=20).fit(u, y) for r in (1, 2)
    }


@pytest.mark.long
@pytest.mark.slow
def test_two_directions_are_better_than_one_for_two_nonlinearities(moments_of_parallel):
    u, y = parallel(10_000, seed=1)  # data that no fit has seen
    one, two = (moments_of_parallel[r] for r in (1, 2))
    assert (one.report_.n_directions, two.report_.n_directions) == (1, 2)
    # moments alone: what they reach does not depend on time
    assert two.moments_model_.n_hidden == one.moments_model_.n_hidden
    error = relative_error(two.moments_model_, u, y)
    assert error < 0.6 * relative_error(one.moments_model_, u, y)
    assert "2 direction(s) explain" in str(two.report_)
    assert min(two.report_.explained) > max(0.0, min(one.report_.explained))


def single(n, seed):
    u, y = saturation(n, seed)
    return u, y + 0.01 * y.std() * np.random.default_rng(seed + 100).standard_normal(n)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("system", "expected"), [(single, 1), (parallel, 2)], ids=["one", "two"])
def test_number_of_directions_is_chosen_by_held_out_data(system, expected, seed):
    """The choice alone, with time enough."""
    data, engine = read_records(*system(10_000, seed)), Engine()
    settings = IdentificationSettings(max_seconds=1000)
    problem = IdentificationProblem.of(data, settings, engine)
    found = find_nonlinearity(problem, fit_linear(problem), Budget(engine, 1000))
    assert len(found.directions[-1]) == expected


@pytest.mark.slow
def test_one_unit_sees_one_direction():
    u, y = parallel(1500, seed=2)
    est = SystemIdentifier(n_linear=3, n_nonlinear=1, max_seconds=2).fit(u, y)
    assert est.report_.n_directions == 1


@pytest.mark.slow
def test_moments_alone_are_not_thrown_away_for_want_of_time():
    """Whatever the time, the model is not far worse than what was already there.

    A linear model stays where a network gains less than a tenth.
    """
    u, y = saturation()
    est = SystemIdentifier(max_seconds=0.5).fit(u, y)
    report = est.report_
    kept = report.refined_error if report.nonlinear else report.linear_error
    assert kept <= report.moments_error / WORTH


@pytest.mark.slow
def test_of_a_linear_system_the_linear_model_is_kept(fitted_linear):
    est, _, _ = fitted_linear
    assert not est.report_.nonlinear
    assert est.model_ is est.linear_model_ or est.model_ == est.linear_model_
    assert any("not worth having" in note for note in est.report_.notes)
    # noise of five percent is left, within four standard errors of an RMS of 600 residuals
    assert est.report_.linear_error == pytest.approx(0.05, rel=4 / np.sqrt(1200) + FEW_WEIGHTS)
    # poles of z^2 - 1.3 z + 0.6 have modulus sqrt 0.6
    assert radius(est) < 0.95


def test_a_linear_fit_that_is_asked_for_has_no_units():
    u, y = saturation(500)
    est = SystemIdentifier(n_linear=2, n_nonlinear=0, max_seconds=SECONDS).fit(u, y)
    assert est.model_ == est.linear_model_
    assert est.model_.n_hidden == 2
    assert not est.report_.nonlinear


@pytest.mark.slow
def test_units_and_scales_of_the_data_do_not_matter():
    u, y = saturation(600)
    options = {"n_linear": 2, "n_nonlinear": 0, "max_seconds": SECONDS}
    plain = SystemIdentifier(**options).fit(u, y)
    scaled = SystemIdentifier(**options).fit(1e4 * u - 7.0, 1e-5 * y + 2.0)
    assert scaled.report_.linear_error == pytest.approx(plain.report_.linear_error, rel=SAME_ERROR)
    np.testing.assert_allclose(
        (scaled.predict(1e4 * u - 7.0) - 2.0) / 1e-5, plain.predict(u), atol=SAME_OUTPUTS * y.std()
    )


@pytest.mark.slow
def test_several_records_are_one_system():
    records = [saturation(n, seed=n) for n in (1500, 900, 1600)]
    est = SystemIdentifier(3, 2, "tanh", max_seconds=SECONDS)
    est.fit([u for u, _ in records], [y for _, y in records])
    assert est.report_.sizes["records"] == 3
    assert est.report_.nonlinear
    u, y = saturation(seed=9)
    assert relative_error(est.model_, u, y) < 0.5 * relative_error(est.linear_model_, u, y)
    outputs = est.predict([u for u, _ in records])
    assert isinstance(outputs, list)
    assert [part.shape for part in outputs] == [(1500,), (900,), (1600,)]
    np.testing.assert_allclose(outputs[1], est.predict(records[1][0]), atol=ALGEBRA)


@pytest.mark.slow
def test_flat_records_with_lengths_are_lists_of_records():
    records = [saturation(n, seed=n) for n in (300, 200)]
    options = {"n_linear": 2, "n_nonlinear": 0, "max_seconds": SECONDS}
    listed = SystemIdentifier(**options).fit([u for u, _ in records], [y for _, y in records])
    flat = SystemIdentifier(**options).fit(
        np.concatenate([u for u, _ in records]),
        np.concatenate([y for _, y in records]),
        lengths=[300, 200],
    )
    assert flat.report_.sizes["records"] == 2
    outputs = listed.predict([u for u, _ in records])
    assert [part.shape for part in outputs] == [(300,), (200,)]
    np.testing.assert_allclose(outputs[1], listed.predict(records[1][0]), atol=ALGEBRA)
    assert flat.report_.linear_error == pytest.approx(listed.report_.linear_error, rel=SAME_DATA)


@pytest.mark.long
@pytest.mark.slow
def test_several_inputs_and_outputs():
    rng = np.random.default_rng(4)
    u = rng.standard_normal((3000, 2))
    first = linear_system(u[:, 0]) + 0.3 * np.tanh(2 * linear_system(u[:, 1]))
    y = np.column_stack((first, lfilter([1.0], [1.0, -0.5], u[:, 1]) + linear_system(u[:, 0])))
    est = SystemIdentifier(max_seconds=SECONDS).fit(u, y)
    assert est.model_.n_inputs == est.model_.n_outputs == 2
    assert est.predict(u).shape == (3000, 2)
    assert est.report_.output_size.shape == (2,)
    assert est.score(u, y, skip=50) > 0.9


# slow modes may be taken for a drift
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.slow
def test_a_mode_near_the_unit_circle_does_not_become_unstable():
    rng = np.random.default_rng(5)
    u = rng.standard_normal(4000)
    y = lfilter([1.0], [1.0, -0.9995], u) + 0.1 * rng.standard_normal(4000)
    est = SystemIdentifier(max_seconds=5).fit(u, y)
    assert radius(est) < 1.0
    outputs = est.predict(rng.standard_normal(100_000))
    assert np.all(np.isfinite(outputs))
    assert np.abs(outputs).max() < 100 * np.abs(y).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("seed", first_of(range(3)))
def test_models_of_noise_are_stable(seed):
    rng = np.random.default_rng(seed)
    u, y = rng.standard_normal((2, 600))
    est = SystemIdentifier(max_seconds=1).fit(u, y)
    assert radius(est) < 1.0
    assert np.all(np.isfinite(est.predict(rng.standard_normal(20_000))))
    # nothing is to be found; the linear model may cost what its weights cost
    assert est.score(u, y) > -0.2


# ----------------------------------------------------------------------------- forms of data


@pytest.mark.parametrize("u_flat", first_of([True, False]))
@pytest.mark.parametrize("y_flat", [True, False])
def test_records_come_with_or_without_channels(u_flat, y_flat):
    u, y = saturation(400)
    u_given, y_given = u if u_flat else u[:, None], y if y_flat else y[:, None]
    est = SystemIdentifier(n_linear=2, n_nonlinear=0, max_seconds=2).fit(u_given, y_given)
    expected = (400,) if y_flat else (400, 1)
    for form in (u, u[:, None]):
        assert est.predict(form).shape == expected
    assert est.predict([u, u[:100]])[1].shape == ((100,) if y_flat else (100, 1))
    np.testing.assert_array_equal(est.predict(u), est.simulate(u))
    for form in (y, y[:, None]):
        assert est.score(u, form) == pytest.approx(est.score(u_given, y_given), abs=ALGEBRA)


@pytest.mark.slow
def test_integer_data_are_data():
    rng = np.random.default_rng(6)
    u = rng.integers(-50, 50, 800)
    y = np.round(10 * linear_system(u.astype(float))).astype(np.int64)
    options = {"n_linear": 2, "n_nonlinear": 0, "max_seconds": SECONDS}
    whole = SystemIdentifier(**options).fit(u, y)
    real = SystemIdentifier(**options).fit(u.astype(float), y.astype(float))
    assert whole.report_.linear_error == pytest.approx(real.report_.linear_error, rel=SAME_DATA)
    assert whole.predict(u).dtype == np.float64
    assert whole.score(u, y, skip=20) > 0.999


@pytest.mark.slow
def test_stacked_records_of_equal_length_are_records():
    records = [saturation(800, seed=s) for s in (1, 2)]
    u, y = (np.stack([r[i] for r in records])[..., None] for i in range(2))
    est = SystemIdentifier(n_linear=2, n_nonlinear=0, max_seconds=2).fit(u, y)
    assert est.report_.sizes["records"] == 2
    assert est.predict(u).shape == (2, 800, 1)
    np.testing.assert_allclose(est.predict(u)[1], est.predict(u[1]), atol=ALGEBRA)


@pytest.mark.slow
def test_lists_of_numbers_are_records():
    u, y = saturation(800)
    est = SystemIdentifier(n_linear=1, n_nonlinear=0, max_seconds=2).fit(u.tolist(), y.tolist())
    assert np.asarray(est.predict(u.tolist())).shape == (800,)


def test_prediction_starts_from_rest_and_sees_nothing_ahead(saturated):
    u, _ = saturation(300, seed=8)
    np.testing.assert_allclose(saturated.predict(u)[:100], saturated.predict(u[:100]), atol=ALGEBRA)


def test_score_leaves_out_the_start_of_every_record(saturated):
    records = [saturation(400, seed=s) for s in (11, 12)]
    u, y = [u for u, _ in records], [y.copy() for _, y in records]
    clean = saturated.score(u, y, skip=30)
    for part in y:
        part[:30] += 1000.0
    assert saturated.score(u, y, skip=30) == pytest.approx(clean, abs=ALGEBRA)
    assert saturated.score(u, y) < clean - 0.5
    by_hand = np.concatenate([y[i][30:] for i in range(2)])
    left = np.concatenate([y[i][30:] - saturated.predict(u[i])[30:] for i in range(2)])
    assert clean == pytest.approx(1 - np.mean(left**2) / by_hand.var(), abs=ALGEBRA)


# ---------------------------------------------------------------------- habits of an estimator


def test_clone_and_parameters():
    est = SystemIdentifier(3, 2, "softplus", max_seconds=7, random_state=1, verbose=0)
    assert est.get_params() == {
        "n_linear": 3,
        "n_nonlinear": 2,
        "unit": "softplus",
        "n_directions": None,
        "detrend": None,
        "initial": "auto",
        "max_seconds": 7,
        "dt": None,
        "random_state": 1,
        "engine": None,
        "verbose": 0,
    }
    assert clone(est).get_params() == est.get_params()
    assert "n_linear=3" in repr(est)


@pytest.mark.parametrize("dt", [0, -1.0, float("nan"), "1 s", True])
def test_a_sampling_time_that_is_none_is_refused(dt):
    u, y = saturation(100)
    with pytest.raises((TypeError, ValueError), match="`dt`"):
        SystemIdentifier(dt=dt).fit(u, y)


def test_an_unknown_start_of_records_is_refused():
    u, y = saturation(100)
    with pytest.raises(ValueError, match="`initial` must be"):
        SystemIdentifier(initial="middle").fit(u, y)


def test_what_is_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        SystemIdentifier().predict(np.zeros(5))
    with pytest.raises(NotFittedError):
        SystemIdentifier().score(np.zeros(5), np.zeros(5))


def test_a_fitted_estimator_can_be_pickled(saturated):
    u, _ = saturation(100)
    again = pickle.loads(pickle.dumps(saturated))
    np.testing.assert_array_equal(again.predict(u), saturated.predict(u))


@pytest.mark.slow
def test_a_nonlinearity_that_is_not_worth_having_is_noted(fitted_linear):
    assert "note: the nonlinearity is not worth having" in str(fitted_linear[0].report_)


def test_report_prints_what_was_done(saturated):
    text = str(saturated.report_)
    for part in ("linear model", "refined", "moments alone", "singular value", "largest modulus"):
        assert part in text
    assert "samples 500" in text
    assert saturated.report_.seconds > 0
    assert len(saturated.report_.history) >= 1


@pytest.mark.slow
def test_the_estimator_is_the_pipeline_on_its_settings():
    u, y = saturation(500)
    est = SystemIdentifier(2, 0, max_seconds=1000).fit(u, y)
    settings = IdentificationSettings(n_linear=2, n_nonlinear=0, max_seconds=1000)
    data = read_records(u, y)
    found = identify(IdentificationProblem.of(data, settings, Engine()))
    assert (found.model, found.linear_model) == (est.model_, est.linear_model_)
    assert found.moments_model == est.moments_model_
    report, again = found.report, est.report_
    assert (report.linear_error, report.orders) == (again.linear_error, again.orders)
    assert [stage.name for stage in report.stages] == ["linear model", "linear refinement"]
    with pytest.raises(FrozenInstanceError):
        report.nonlinear = True


@pytest.mark.slow
def test_time_is_a_limit():
    u, y = saturation(4000)
    est = SystemIdentifier(max_seconds=1).fit(u, y)
    # a pass that has begun is finished; a shared machine is slow
    assert est.report_.seconds < 4
    assert any("time was up" in note for note in est.report_.notes)


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("softplus", marks=pytest.mark.slow),
        pytest.param("quadratic", marks=pytest.mark.slow),
        Polynomial((0.0, 0.5, 0.2)),
    ],
    ids=str,
)
def test_other_units_are_fitted(unit):
    u, y = saturation(1000)
    est = SystemIdentifier(n_linear=3, n_nonlinear=1, unit=unit, max_seconds=1).fit(u, y)
    assert np.all(np.isfinite(est.predict(u)))
    assert est.score(u, y, skip=50) > 0.5


@pytest.mark.long
@pytest.mark.slow
def test_one_polynomial_is_fitted_to_a_quadratic_and_cubic_nonlinearity(tmp_path):
    """Slope and curvature of a single cubic unit are one number, which linear paths may make up."""

    def record(seed):
        rng = np.random.default_rng(seed)
        u = rng.standard_normal(3000)
        clean = cascade(u, lambda v: v + 0.16 * v**2 - 0.024 * v**3)
        return u, clean, clean + 0.01 * clean.std() * rng.standard_normal(3000)

    u, _, y = record(0)
    fits = {
        unit: SystemIdentifier(3, 1, unit, max_seconds=SECONDS).fit(u, y)
        for unit in ("polynomial", "cubic")
    }
    fresh, wanted, _ = record(1)
    error = {
        unit: relative_error(est.model_, fresh, wanted, skip=100) for unit, est in fits.items()
    }
    assert error["polynomial"] < LEFT_OF_NOISE
    assert error["polynomial"] < 2 * error["cubic"]

    model = fits["polynomial"].model_
    *states, unit = model.activation.units
    assert all(kind == Polynomial((0.0, 1.0)) for kind in states)
    assert isinstance(unit, Polynomial)
    assert unit.degree == 3
    assert unit.coefficients[0] == 0.0
    model.save(tmp_path / "model.npz")
    again = IORNN.load(tmp_path / "model.npz")
    assert again == model
    np.testing.assert_array_equal(
        again.predict(fresh[:, None])[:, 0], fits["polynomial"].predict(fresh, initial="rest")
    )
    assert fits["cubic"].model_.activation.units[-1] == get_activation("cubic")


@pytest.mark.slow
def test_coefficients_are_fitted_in_a_feedback_too():
    rng = np.random.default_rng(7)
    u, y = rng.standard_normal(3000), np.zeros(3000)
    for t in range(2, 3000):
        feedback = 0.1 * y[t - 1] ** 2 + 0.08 * y[t - 1] ** 3
        y[t] = 1.2 * y[t - 1] - 0.6 * y[t - 2] + 0.4 * u[t - 1] - feedback
    est = SystemIdentifier(2, 1, "polynomial", max_seconds=SECONDS).fit(u[:2000], y[:2000])
    assert relative_error(est.model_, u, y) < 0.01 * relative_error(est.linear_model_, u, y)


@pytest.mark.slow
def test_a_linear_system_has_no_use_for_polynomials(fitted_linear):
    _, u, y = fitted_linear
    est = SystemIdentifier(2, 1, "polynomial", max_seconds=SECONDS).fit(u, y)
    assert not est.report_.nonlinear
    assert est.model_ == est.linear_model_


# --------------------------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def record():
    return saturation(500)


@pytest.mark.parametrize(("name", "value"), [("u", np.nan), ("u", np.inf), ("y", np.inf)])
def test_values_that_are_not_finite_are_located(name, value, record):
    data = {"u": record[0].copy(), "y": record[1].copy()}
    data[name][17] = value
    with pytest.raises(ValueError, match=rf"`{name}` holds {value} at .*step 17"):
        SystemIdentifier().fit(data["u"], data["y"])


def test_predict_speaks_of_u(saturated):
    with pytest.raises(ValueError, match="`u` holds nan"):
        saturated.predict(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="`u`"):
        saturated.predict(np.zeros((10, 2)))


def test_constant_records_are_errors(record):
    u, y = record
    with pytest.raises(ValueError, match=r"`u` is constant in column\(s\) 0: .* leave it out"):
        SystemIdentifier().fit(np.full_like(u, 3.3), y)
    with pytest.raises(ValueError, match=r"`u` is constant in column\(s\) 1"):
        SystemIdentifier().fit(np.column_stack((u, np.ones_like(u))), y)
    with pytest.raises(ValueError, match=r"`y` is constant in column\(s\) 0: there is nothing"):
        SystemIdentifier().fit(u, np.zeros_like(y))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u, y: (u[None], y), r"`u` has shape \(1, 500\).*transpose it"),
        (lambda u, y: (u, y[None]), r"`y` has shape \(1, 500\).*transpose it"),
        (lambda u, y: ([np.stack((u, u))], [y]), r"`u` has shape \(2, 500\).*transpose it"),
        (lambda u, y: (u, y[:-3]), r"`u` has 500 steps, `y` has 497"),
        (lambda u, y: ([u, u], [y]), "`u` has 2 sequences, `y` has 1"),
        (lambda u, y: (u, None), "`y` is missing"),
        (lambda u, y: ([], []), "`u`.* no steps|`u` is an empty list"),
    ],
    ids=["u on its side", "y on its side", "in a list", "samples", "records", "none", "empty"],
)
def test_records_must_fit_together(change, message, record):
    with pytest.raises(ValueError, match=message):
        SystemIdentifier().fit(*change(*record))


def test_too_few_samples_are_counted(record):
    u, y = record
    with pytest.raises(TooFewSamplesError, match=r"19 samples .* at least 20 are needed"):
        SystemIdentifier().fit(u[:19], y[:19])
    with pytest.raises(TooFewSamplesError, match="too few for `n_linear`=30"):
        SystemIdentifier(n_linear=30).fit(u[:200], y[:200])


def test_orders_beyond_the_lags_are_errors():
    u, y = saturation(700)
    with pytest.raises(ValueError, match=r"`n_linear` is 65, but 700 samples support at most 59"):
        SystemIdentifier(n_linear=65).fit(u, y)


def test_many_outputs_are_values_for_more_states():
    """Rows of three outputs and five inputs: lags for four states, where a tenth gave three."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((120, 5))
    system = IORNN(
        rng.standard_normal((4, 5)),
        np.diag([0.9, 0.75, 0.5, -0.4]),
        rng.standard_normal((4, 3)),
        activation="linear",
    )
    y = system.predict(u)
    est = SystemIdentifier(n_nonlinear=0, max_seconds=5, engine="serial").fit(u, y)
    assert np.abs(est.predict(u, y, n_init=20) - y).max() < 1e-6 * np.abs(y).max()
    assert len(est.report_.poles) == 4


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("n", first_of([60, 100, 250]))
def test_short_records_give_some_model(n):
    u, y = saturation(n)
    est = SystemIdentifier(max_seconds=0.5).fit(u, y)
    assert np.all(np.isfinite(est.predict(u)))
    assert radius(est) < 1.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": "linear"}, ValueError, "`unit` is 'linear', expected one nonlinear"),
        ({"unit": PerUnit(["tanh"])}, ValueError, "`unit` is '1 tanh', expected one nonlinear"),
        ({"unit": "tahn"}, ValueError, "did you mean 'tanh'"),
        ({"unit": "polynomal"}, ValueError, "`unit` may also be 'auto' or 'polynomial'"),
        ({"max_seconds": 0}, ValueError, "`max_seconds` must be positive, got 0"),
        ({"max_seconds": -1.5}, ValueError, r"`max_seconds` must be positive, got -1\.5"),
        ({"max_seconds": float("nan")}, ValueError, "`max_seconds` must be positive, got nan"),
        ({"max_seconds": "long"}, TypeError, "`max_seconds` must be a number, got 'long'"),
        ({"max_seconds": True}, TypeError, "`max_seconds` must be a number, got True"),
        ({"n_linear": 0}, ValueError, "`n_linear` must be at least 1, got 0"),
        ({"n_linear": 2.0}, TypeError, r"`n_linear` must be an integer, got 2\.0"),
        ({"n_nonlinear": -1}, ValueError, "`n_nonlinear` must be at least 0, got -1"),
        ({"n_directions": 0}, ValueError, "`n_directions` must be at least 1, got 0"),
        ({"n_directions": 4}, ValueError, "`n_directions` must be at most 3, got 4"),
        ({"n_directions": 1.5}, TypeError, r"`n_directions` must be an integer, got 1\.5"),
        (
            {"n_directions": 3, "n_nonlinear": 2},
            ValueError,
            "`n_directions` is 3, but `n_nonlinear` is 2: each direction needs a unit",
        ),
        ({"n_nonlinear": True}, TypeError, "`n_nonlinear` must be an integer, got True"),
        ({"verbose": None}, TypeError, "`verbose` must be an integer, got None"),
    ],
)
def test_parameters_are_checked_when_fitting(options, error, message, record):
    with pytest.raises(error, match=message):
        SystemIdentifier(**options).fit(*record)


# the very slow pole that explains the drift may lie outside the unit circle at first
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*edge of stability:gloree.diagnostics.GloreeWarning")
def test_a_drifting_output_is_pointed_out():
    u, y = saturation(2000)
    drifting = y + np.linspace(0.0, 20.0 * y.std(), 2000)
    est = SystemIdentifier(n_linear=2, n_nonlinear=0, max_seconds=2)
    with pytest.warns(
        GloreeWarning, match="output 0 drifts over the record: what a linear"
    ) as caught:
        est.fit(u, drifting)
    assert {warning.filename for warning in caught} == {__file__}
    assert any("drifts" in message for message in est.report_.warnings)
    assert "warning: output 0 drifts" in str(est.report_)
    assert radius(est) < 1.0


@pytest.mark.slow
def test_records_may_come_from_a_source(tmp_path):
    rng = np.random.default_rng(3)
    u = rng.standard_normal((4, 400, 1))
    y = np.zeros_like(u)
    for t in range(1, 400):
        y[:, t] = 0.6 * y[:, t - 1] + u[:, t - 1]
    parts = [(u[:2], y[:2]), (u[2:], y[2:])]
    np.savez(tmp_path / "0.npz", X=parts[0][0], Y=parts[0][1])
    np.savez(tmp_path / "1.npz", X=parts[1][0], Y=parts[1][1])
    given = SystemIdentifier(2, 0, engine="serial").fit(list(u), list(y))
    for source in (sources.batches(parts), tmp_path, str(tmp_path)):
        gathered = SystemIdentifier(2, 0, engine="serial").fit(source)
        np.testing.assert_allclose(gathered.predict(u[0]), given.predict(u[0]), atol=SUMS)
    with pytest.raises(ValueError, match="`y` was given beside a source"):
        SystemIdentifier(2, 0).fit(tmp_path, y)


def first_order(records, pole=0.5):
    return [lfilter([0.0, 1.0], [1.0, -pole], u) for u in records]


@pytest.mark.slow
def test_records_are_long_enough_for_the_lags_that_are_sought_in_them():
    rng = np.random.default_rng(0)
    for n, options, message in (
        (3, {"n_nonlinear": 0}, "no sequence has more than 3 steps, .* over 4 steps at least"),
        (44, {"n_nonlinear": 1}, "longest record has 44 samples.* 45 neighbouring"),
    ):
        records = [rng.standard_normal(n) for _ in range(40)]
        with pytest.raises(TooFewSamplesError, match=message):
            SystemIdentifier(**options).fit(records, first_order(records))
    for n, options in ((4, {"n_nonlinear": 0}), (45, {"n_nonlinear": 1, "max_seconds": SECONDS})):
        records = [rng.standard_normal(n) for _ in range(100)]
        est = SystemIdentifier(1, **options).fit(records, first_order(records))
        assert est.score(records, first_order(records)) > 0.99


def test_records_too_short_for_units_get_a_linear_model_and_a_word():
    rng = np.random.default_rng(0)
    records = [rng.standard_normal(30) for _ in range(10)]
    with pytest.warns(GloreeWarning, match="45 neighbouring ones: a linear model was fitted"):
        est = SystemIdentifier(1).fit(records, first_order(records))
    assert est.score(records, first_order(records)) > 0.99
    assert not est.report_.nonlinear


@pytest.mark.slow
@pytest.mark.parametrize("place", first_of([50, 0]))
def test_records_too_short_for_the_response_do_no_harm(place):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(n) for n in [2] * place + [2000] + [2] * (50 - place)]
    est = SystemIdentifier(1, 0).fit(inputs, first_order(inputs, 0.97))
    assert est.report_.poles == pytest.approx([0.97], abs=POLE)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([7] * 5, 7), ([2] * 50 + [2000], 2000), ([10, 10, 20], 20), ([10, 10, 10, 20], 10), ([4], 4)],
)
def test_the_typical_length_is_reached_by_sequences_with_half_of_the_rows(lengths, expected):
    lengths = np.array(lengths)
    found = typical_length(lengths)
    assert found == expected
    assert lengths[lengths >= found].sum() >= lengths.sum() / 2 > lengths[lengths > found].sum()
