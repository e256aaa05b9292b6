"""The regressor: forms in and out, its options, its report, and the estimator contract."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from helpers.estimates import (
    FEW_WEIGHTS,
    INPUT_WEIGHTS,
    NOISE,
    NOISE_TOLERANCE,
    RECURRENCE,
    least_squares,
    regressor,
    smallest_loss,
)
from helpers.marks import first_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from gloree import IORNN, Engine, SpectralRNNRegressor, datasets, metrics
from gloree.activations import Polynomial
from gloree.diagnostics import IdentifiabilityError, RotationWarning
from gloree.moments import MemoryLimitError, plan

# the same numbers summed in another order, through an iteration that stops at 1% of the error
ITERATION_TOLERANCE = 1e-3
# products of a handful of numbers of size 1
ALGEBRA_TOLERANCE = 1e-12
# float32 keeps 7 digits of the data
SINGLE_TOLERANCE = 1e-4
# squared error above that of the least-squares estimate
LOSS_TOLERANCE = 1e-3
# the same sums of ten thousand squares in another order
ROUNDING = 1e-9
# descents of the same loss end where a step gains less than this
SAME_MINIMUM = 1e-6
# a fit of windows reports errors of states that begin at every piece, not at every sequence
STATES_BEFORE = 1e-2
# the standard error of an RMS of 4,000 residuals is 1%, of three outputs less; what some thirty
# weights take up of the noise, and lags that U leaves out, are as much again
NOISE_OF_WINDOWS = 0.05
# the response to 20,000 inputs of size one under noise of .1: standard errors of about .001
POLES = 0.01
# slopes of a cubic are large: least squares leaves .001 in its weights
CUBIC = 0.01
# moments of lower terms are poor starts: one step from them does not reach the minimum
LOWER_TERMS = 0.05
# twenty weights take up sqrt(20 / 40,000) = .02 of the noise
FEW_OF_MANY = 0.05
# above the errors of least squares
NEARLY = 0.2


@pytest.fixture(scope="module")
def fitted(simulated):
    X, Y, _, _ = simulated
    return regressor().fit(X, Y)


def loss(est):
    values = est.report_.refined_rmse
    return float(np.sum((est.report_.moments_rmse if values is None else values) ** 2))


def assert_close(model, other, tolerance=ITERATION_TOLERANCE):
    errors = metrics.weight_errors(model, other)
    weights = ("input_weights", "recurrent_weights", "output_weights")
    assert max(errors[name] for name in weights) < tolerance, errors


# ------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("form", ["list", "flat"])
def test_the_form_of_the_data_does_not_change_the_fit(form, simulated, fitted):
    X, Y, _, _ = simulated
    if form == "list":
        est = regressor().fit(list(X), list(Y))
        predictions = est.predict(list(X))
        assert isinstance(predictions, list)
        np.testing.assert_array_equal(np.stack(predictions), fitted.predict(X))
    else:
        lengths = [10] * len(X)
        est = regressor().fit(X.reshape(-1, 6), Y.reshape(-1, 3), lengths=lengths)
        predictions = est.predict(X.reshape(-1, 6), lengths=lengths)
        np.testing.assert_array_equal(predictions.reshape(Y.shape), fitted.predict(X))
    assert est.model_ == fitted.model_


def test_sequences_of_any_length_are_fitted_together(simulated):
    X, _, truth, chain = simulated
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 25, size=800)
    X = [chain.sample(1, n, random_state=rng)[0] for n in lengths]
    Y = truth.simulate(X, noise=NOISE, random_state=rng)
    est = regressor().fit(X, Y)
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth)
    assert [part.shape for part in est.predict(X[:5])] == [(n, 3) for n in lengths[:5]]


def test_one_long_sequence_is_enough(simulated):
    _, _, truth, chain = simulated
    x = chain.sample(1, 10_000, random_state=0)[0]
    y = truth.simulate(x, noise=NOISE, random_state=1)
    est = regressor().fit(x, y)
    assert est.report_.sizes["sequences"] == 1
    assert est.report_.sizes["steps"] == 10_000
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)
    assert est.predict(x[:7]).shape == (7, 3)


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.RotationWarning")
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.SpecificationWarning")  # a recurrence
def test_one_output_comes_back_without_its_axis_if_it_came_so(simulated):
    X, Y, _, _ = simulated
    est = regressor(recurrence=None).fit(X, Y[..., 0])
    assert est.predict(X).shape == Y.shape[:2]
    assert [part.shape for part in est.predict(list(X[:3]))] == [(10,)] * 3
    other = regressor(recurrence=None).fit(X, Y[..., :1])
    np.testing.assert_array_equal(est.predict(X), other.predict(X)[..., 0])
    for skip in (0, 3):
        score = est.score(X, Y[..., 0], skip=skip)
        assert score == pytest.approx(other.score(X, Y[..., :1], skip=skip))


@pytest.mark.parametrize(
    "convert, tolerance",
    [
        (np.asfortranarray, 0.0),
        (lambda values: values.astype(np.float32), SINGLE_TOLERANCE),
        (lambda values: np.repeat(values, 2, axis=0)[::2], 0.0),
    ],
    ids=["Fortran", "float32", "strided"],
)
def test_layout_and_precision_of_the_data_do_not_matter(convert, tolerance, simulated, fitted):
    X, Y, _, _ = simulated
    est = regressor().fit(convert(X), convert(Y))
    if tolerance == 0.0:
        assert est.model_ == fitted.model_
    else:
        assert_close(est.model_, fitted.model_, tolerance)


def test_read_only_data_are_left_as_they_are(simulated, fitted):
    X, Y, _, _ = simulated
    frozen = X.copy(), Y.copy()
    for values in frozen:
        values.flags.writeable = False
    assert regressor().fit(*frozen).model_ == fitted.model_


def test_integers_give_the_fit_of_the_same_floats(simulated):
    X, _, truth, _ = simulated
    X = np.round(4 * X).astype(np.int32)
    Y = np.round(100 * truth.predict(X / 4.0)).astype(np.int64)
    whole = regressor().fit(X, Y)
    assert whole.model_ == regressor().fit(X.astype(float), Y.astype(float)).model_
    assert whole.score(X, Y) > 0.99


@pytest.mark.parametrize("shift, scale", [(0.0, 1e-6), (0.0, 1e6), (3.0, 1.0)])
def test_outputs_may_have_any_scale_and_mean(shift, scale, simulated, fitted):
    X, Y, _, _ = simulated
    est = regressor().fit(X, shift + scale * Y)
    # the sums are shifted and scaled, so their rounding and the last iterations differ
    np.testing.assert_allclose(
        (est.predict(X) - shift) / scale, fitted.predict(X), atol=ITERATION_TOLERANCE
    )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_inputs_may_have_any_scale(scale, simulated):
    X, Y, _, _ = simulated
    est = regressor().fit(scale * X, Y)
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)


@pytest.mark.parametrize("shift", [1.0, 10.0, 100.0, 1000.0])
def test_inputs_may_have_any_mean(shift, simulated):
    # a hidden bias makes up for any mean of the inputs
    X, Y, _, _ = simulated
    est = regressor().fit(X + shift, Y)
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)


# --------------------------------------------------------------------------- reproducibility


@pytest.mark.slow
def test_the_same_random_state_gives_the_same_fit_on_every_engine(simulated, fitted):
    X, Y, _, _ = simulated
    assert regressor().fit(X, Y).model_ == fitted.model_
    small = {"batch_size": 1500}
    alone = regressor(**small).fit(X, Y).model_
    for engine in ("threads", None, Engine("threads", n_workers=3)):
        assert regressor(engine=engine, **small).fit(X, Y).model_ == alone


def test_another_random_state_gives_the_same_network(simulated, fitted):
    X, Y, _, _ = simulated
    assert_close(regressor(random_state=5).fit(X, Y).model_, fitted.model_)


@pytest.mark.slow
def test_batches_of_another_size_give_the_same_network(simulated, fitted):
    X, Y, _, _ = simulated
    assert_close(regressor(batch_size=777).fit(X, Y).model_, fitted.model_)


def test_a_fitted_regressor_can_be_pickled(simulated, fitted):
    X, _, _, _ = simulated
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert str(again.report_) == str(fitted.report_)


# ----------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_step_is_as_good_as_least_squares_from_the_truth(seed):
    X, Y, truth, _ = datasets.make_rnn(2000, 10, 6, 3, 3, noise=NOISE, random_state=seed)
    est = regressor().fit(X, Y)
    best = least_squares(X, Y, truth)
    smallest = float(best.squares.sum()) / best.n_rows
    assert (1 - ROUNDING) * smallest <= loss(est) <= (1 + LOSS_TOLERANCE) * smallest
    errors, possible = (metrics.weight_errors(model, truth) for model in (est.model_, best.model))
    for name in ("input_weights", "recurrent_weights", "output_weights"):
        assert errors[name] < (1 + NEARLY) * possible[name]
    again = est.model_.canonical()
    for name in metrics.WEIGHTS[:5]:
        np.testing.assert_allclose(
            getattr(est.model_, name), getattr(again, name), atol=ALGEBRA_TOLERANCE
        )


def test_refinement_is_no_worse_than_moments_alone(simulated):
    X, Y, truth, _ = simulated
    alone = regressor(refine=None).fit(X, Y)
    one, full = (regressor(refine=refine).fit(X, Y) for refine in ("one-step", "full"))
    assert alone.report_.refined_rmse is None
    smallest = smallest_loss(X, Y, truth)
    losses = [loss(est) for est in (alone, one, full)]
    rounding = 1 + ROUNDING
    assert smallest <= losses[2] * rounding
    assert losses[2] <= losses[1] * rounding <= losses[0] * rounding**2
    assert losses[2] == pytest.approx(smallest, rel=SAME_MINIMUM)
    assert losses[0] < (1 + LOSS_TOLERANCE) * smallest
    for est in (one, full):
        assert np.sum(est.report_.refined_rmse**2) <= rounding * np.sum(est.report_.moments_rmse**2)


def test_reported_errors_are_those_of_the_predictions(simulated, fitted):
    X, Y, _, _ = simulated
    rmse = metrics.root_mean_square_error(Y, fitted.predict(X))
    np.testing.assert_allclose(fitted.report_.refined_rmse, rmse, rtol=ROUNDING)
    spread = Y.reshape(-1, 3).std(axis=0)
    np.testing.assert_allclose(fitted.report_.output_std, spread, rtol=ROUNDING)
    assert fitted.score(X, Y) == pytest.approx(metrics.r2_score(Y, fitted.predict(X)))


def test_standard_errors_have_the_size_of_the_errors(simulated, fitted):
    _, _, truth, _ = simulated
    aligned = metrics.align(fitted.model_, truth)
    for name in ("input_weights", "recurrent_weights", "output_weights"):
        z = getattr(aligned.model, name) - getattr(aligned.truth, name)
        z = z / fitted.report_.standard_errors[name][aligned.order]
        # at most 18 numbers of mean square 1, some of them nearly the same number
        assert 0.25 < np.sqrt(np.mean(z**2)) < 4.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_number_of_units_is_found(seed):
    X, Y, _, _ = datasets.make_rnn(1000, 10, 6, 3, 4, noise=NOISE, random_state=seed)
    est = regressor(n_hidden=None).fit(X, Y)
    assert est.model_.n_hidden == 3
    assert est.report_.rank_reason in " ".join(str(est.report_).split())
    assert est.n_hidden is None


@pytest.mark.parametrize("batch_size", first_of([600, 50, 1]))
def test_the_number_of_units_is_found_whatever_the_batches(batch_size):
    X, Y, _, _ = datasets.make_rnn(1000, 10, 5, 2, 4, noise=NOISE, random_state=3)
    assert regressor(n_hidden=None, batch_size=batch_size).fit(X, Y).model_.n_hidden == 2


@pytest.mark.parametrize("n_steps", [750, pytest.param(5000, marks=pytest.mark.slow)])
def test_the_number_of_units_is_found_from_one_record(n_steps, simulated):
    _, _, truth, chain = simulated
    x = chain.sample(1, n_steps, random_state=0)[0]
    y = truth.simulate(x, noise=NOISE, random_state=0)
    assert regressor(n_hidden=None).fit(x, y).model_.n_hidden == 3


# ------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "recurrence, refine",
    first_of(
        [
            ("instrument", None),
            ("cross", None),
            ("instrument", "one-step"),
            ("cross", "one-step"),
            # the paper's estimator alone has the noise of a moment of order four: only a start
            ("score", "one-step"),
        ],
        2,
        several=True,
    ),
)
def test_every_estimator_of_the_recurrence_finds_it(recurrence, refine, simulated):
    X, Y, truth, _ = simulated
    est = regressor(recurrence=recurrence, refine=refine).fit(X, Y)
    assert est.report_.recurrence == recurrence
    errors = metrics.weight_errors(est.model_, truth)
    assert errors["recurrent_weights"] < RECURRENCE
    assert errors["input_weights"] < INPUT_WEIGHTS


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
def test_the_number_of_units_is_found_where_the_first_moment_leaves_no_noise():
    """Quarters that their features fit exactly: the error was that `output_scale` is zero."""
    rng = np.random.default_rng(19)
    X = rng.random((19, 8, 3)) > 0.5
    Y = (X @ rng.standard_normal((3, 3))) ** 3
    est = SpectralRNNRegressor(activation="cubic", random_state=0, engine="serial")
    assert est.fit(X, Y).score(X, Y) > 0.99


def test_a_network_without_recurrence_has_none(simulated):
    X, _, truth, _ = simulated
    truth = truth.replace(recurrent_weights=None)
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    est = regressor(recurrence=None).fit(X, Y)
    assert not est.model_.recurrent_weights.any()
    assert est.report_.recurrence == "none"
    assert "recurrent_weights" not in est.report_.standard_errors
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth, recurrent=False)


def test_sequences_of_one_step_have_no_recurrence_to_find(simulated):
    X, _, truth, _ = simulated
    X = X.reshape(-1, 1, 6)
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    est = regressor(recurrence=None).fit(X, Y)
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < FEW_WEIGHTS
    assert np.all(np.isfinite(est.predict(X)))
    with pytest.raises(IdentifiabilityError, match=r"single step.*recurrence=None"):
        regressor(recurrence="instrument").fit(X, Y)


@pytest.mark.parametrize("moment", ["regression", "score"])
def test_both_moments_lead_to_the_same_network(moment, simulated, fitted):
    X, Y, _, _ = simulated
    est = regressor(moment=moment, refine="full").fit(X, Y)
    assert est.report_.moment == ("score" if moment == "score" else "union")
    assert_close(est.model_, regressor(refine="full").fit(X, Y).model_)


def test_a_given_chain_is_used_as_it_is(simulated):
    X, Y, truth, chain = simulated
    est = regressor(chain=chain, moment="score").fit(X, Y)
    assert est.chain_ is chain
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < INPUT_WEIGHTS
    assert regressor().fit(X, Y).chain_ is not chain


def test_a_direct_path_is_found(simulated, fitted):
    X, _, truth, _ = simulated
    rng = np.random.default_rng(0)
    truth = truth.replace(direct_weights=rng.standard_normal((6, 3)))
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    est = regressor(direct=True).fit(X, Y)
    errors = metrics.weight_errors(est.model_, truth)
    assert errors["direct_weights"] < FEW_WEIGHTS
    assert errors["input_weights"] < INPUT_WEIGHTS
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth, direct=True)
    assert fitted.model_.direct_weights is None


@pytest.mark.parametrize("fit_bias", [True, False])
def test_biases_are_fitted_unless_told_not_to(fit_bias, simulated):
    X, _, truth, _ = simulated
    bias = np.array([0.3, -0.2, 0.4])
    truth = truth.replace(hidden_bias=bias, output_bias=[1.0, -1.0, 0.5]) if fit_bias else truth
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    est = regressor(fit_bias=fit_bias).fit(X, Y)
    if fit_bias:
        errors = metrics.weight_errors(est.model_, truth)
        assert max(errors["hidden_bias"], errors["output_bias"]) < INPUT_WEIGHTS
    else:
        assert not est.model_.hidden_bias.any() and not est.model_.output_bias.any()
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth, bias=fit_bias)


@pytest.mark.parametrize("n_outputs", [3, 1])
def test_cubic_networks_are_found_with_any_number_of_outputs(n_outputs):
    X, Y, truth, _ = datasets.make_rnn(
        1500, 10, 5, 2, n_outputs, degree=3, recurrence_norm=0.02, noise=NOISE, random_state=2
    )
    est = regressor(2, activation="cubic").fit(X, Y)
    errors = metrics.weight_errors(est.model_, truth)
    for name in ("input_weights", "output_weights"):
        assert errors[name] < CUBIC
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth)


def polynomial_data(coefficients, *, bias):
    activation = Polynomial(coefficients)
    truth = datasets.random_rnn(
        5, 2, 3, activation=activation, bias=0.2 if bias else 0.0, random_state=3
    )
    X = datasets.make_chain(5, random_state=0).sample(1000, 10, random_state=1)
    return activation, X, truth.simulate(X, noise=NOISE, random_state=2), truth


@pytest.mark.parametrize("coefficients", [(0, 1, 0.5), (0.2, 0.5, 1.0)])
def test_quadratics_with_lower_terms_are_found(coefficients):
    activation, X, Y, truth = polynomial_data(coefficients, bias=False)
    est = regressor(2, activation=activation, fit_bias=False).fit(X, Y)
    assert est.model_.activation == activation
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < FEW_WEIGHTS
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth, bias=False)


@pytest.mark.slow
def test_quadratics_with_lower_terms_and_biases_predict_as_well_and_say_what_is_free():
    activation, X, Y, truth = polynomial_data((0, 1, 0.5), bias=True)
    with pytest.warns(RotationWarning, match="scale of each unit is not identified"):
        est = regressor(2, activation=activation).fit(X, Y)
    assert loss(est) < (1 + LOSS_TOLERANCE) * smallest_loss(X, Y, truth)


@pytest.mark.parametrize("coefficients", first_of([(0, 0.5, 0, 0.3), (0, 1, 0.5, 0.3)]))
@pytest.mark.parametrize("bias", [True, False])
def test_cubics_with_lower_terms_are_found(coefficients, bias):
    activation, X, Y, truth = polynomial_data(coefficients, bias=bias)
    est = regressor(2, activation=activation, fit_bias=bias).fit(X, Y)
    report = est.report_
    assert loss(est) < (1 + LOWER_TERMS) * smallest_loss(X, Y, truth, bias=bias)
    assert np.sum(report.refined_rmse**2) <= np.sum(report.moments_rmse**2)


# --------------------------------------------------------------------------------------- lags


@pytest.fixture(scope="module")
def record():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((4000, 2))
    u = u + 0.5 * np.roll(u, 1, axis=0)
    truth = IORNN(rng.standard_normal((2, 6)) / 2, None, rng.standard_normal((2, 3)), lags=3)
    y = truth.predict(u) + NOISE * rng.standard_normal((4000, 3))
    return u, y, truth


@pytest.mark.parametrize("recurrence", [None, "instrument"])
def test_windows_of_one_record_are_fitted(recurrence, record):
    u, y, truth = record
    est = regressor(2, lags=3, recurrence=recurrence).fit(u, y)
    assert est.model_.lags == 3 and est.model_.n_inputs == 2
    assert est.chain_ is None
    assert est.n_features_in_ == 2
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_OF_WINDOWS)
    canonical = truth.canonical()
    assert metrics.weight_errors(est.model_, canonical)["input_weights"] < INPUT_WEIGHTS
    rmse = metrics.root_mean_square_error(y, est.predict(u), skip=2)
    if recurrence is None:
        np.testing.assert_allclose(est.report_.refined_rmse, rmse, rtol=ROUNDING)
    else:
        np.testing.assert_allclose(est.report_.refined_rmse, rmse, rtol=STATES_BEFORE)


def test_windows_with_a_direct_path_and_one_output_are_a_quadratic_form(record):
    u, y, _ = record
    with pytest.warns(RotationWarning):
        est = regressor(2, lags=3, recurrence=None, direct=True).fit(u, y[:, 0])
    assert est.model_.direct_weights.shape == (6, 1)
    assert est.predict(u).shape == (4000,)
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_OF_WINDOWS)


def test_windows_do_not_cross_sequences(record):
    _, _, truth = record
    rng = np.random.default_rng(1)
    U = [rng.standard_normal((n, 2)) for n in rng.integers(1, 20, size=400)]
    Y = truth.simulate(U, noise=NOISE, random_state=0)
    est = regressor(2, lags=3, recurrence=None).fit(U, Y)
    long_enough = sum(max(len(u) - 2, 0) for u in U)
    assert f"{long_enough:,} steps count" in str(est.report_)
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_OF_WINDOWS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"moment": "score"}, "`moment='score'` needs an input law.*use moment='regression'"),
        ({"recurrence": "cross"}, "recurrence='cross' needs an input law.*'instrument'"),
        ({"recurrence": "score"}, "recurrence='score' needs an input law.*'instrument'"),
    ],
)
def test_what_needs_an_input_law_is_refused_for_windows(options, message, record):
    u, y, _ = record
    with pytest.raises(ValueError, match=message):
        regressor(2, lags=3, **options).fit(u, y)


# ------------------------------------------------------------------------- report and control


def test_the_report_prints_as_a_table(fitted):
    text = str(fitted.report_)
    for part in (
        "moments alone",
        "refined",
        "outputs themselves",
        "first moment",
        "Gauss-Newton" if "Gauss-Newton" in text else "one step",
        "sequences 1,000, steps 10,000, inputs 6, outputs 3, hidden 3",
        "conditions:",
        "Stein defect",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines()) < 160
    assert fitted.report_.seconds > 0
    names = [stage.name for stage in fitted.report_.stages]
    assert names[:3] == ["data", "inputs", "first moment"]
    assert "memory beside the data" in fitted.report_.plan


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_nothing_is_printed_unless_asked_for(engine, simulated, capfd):
    X, Y, _, _ = simulated
    regressor(engine=engine).fit(X[:300], Y[:300])
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""
    for verbose in (1, 2):
        regressor(engine=engine, verbose=verbose).fit(X[:300], Y[:300])
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "first moment" in captured.err


def test_the_memory_limit_is_kept_or_refused_before_anything_runs(simulated):
    X, Y, _, _ = simulated
    with pytest.raises(MemoryLimitError, match=r"`memory_limit`=100,000 bytes.*at least [0-9,]+"):
        regressor(memory_limit=100_000).fit(X, Y)
    est = regressor(memory_limit=2**30, batch_size=500).fit(X, Y)
    assert "batches of 500 steps" in est.report_.plan


def test_a_memory_limit_makes_batches_smaller():
    free = plan(10**6, 6, 3, n_hidden=3)
    # less than all beside the rows that may be kept, which would be given up first
    limit = free.total_bytes - free.row_bytes - free.batch_bytes // 4
    held = plan(10**6, 6, 3, n_hidden=3, memory_limit=limit)
    assert held.batch_size < free.batch_size
    assert held.total_bytes <= limit


def test_data_of_fit_are_not_changed(simulated):
    X, Y, _, _ = simulated
    before = X.copy(), Y.copy()
    regressor().fit(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


# --------------------------------------------------------------------- the estimator contract


def test_parameters_are_stored_as_given_and_cloned():
    options = {"n_hidden": 4, "refine": None, "lags": 2, "random_state": 7, "engine": "serial"}
    est = SpectralRNNRegressor(**options)
    assert {**est.get_params(), **options} == est.get_params()
    copy = clone(est)
    assert copy is not est and copy.get_params() == est.get_params()
    assert est.set_params(n_hidden=5) is est and est.n_hidden == 5
    assert copy.n_hidden == 4
    with pytest.raises(ValueError, match="n_units"):
        est.set_params(n_units=3)
    assert repr(est).startswith("SpectralRNNRegressor(")


def test_fit_returns_itself_and_sets_only_what_it_says(simulated):
    X, Y, _, _ = simulated
    est = regressor()
    before = est.get_params()
    assert est.fit(X, Y) is est
    assert est.get_params() == before
    learned = {name for name in vars(est) if name.endswith("_") and not name.startswith("_")}
    assert learned == {"model_", "chain_", "report_", "n_features_in_"}


def test_fit_forgets_the_fit_before(simulated, fitted):
    X, Y, _, _ = simulated
    est = regressor(direct=True).fit(X[:300, :, ::-1], Y[:300])
    est.set_params(direct=False)
    assert est.fit(X, Y).model_ == fitted.model_
    assert est.n_features_in_ == 6
    assert est.model_.direct_weights is None


@pytest.mark.parametrize("method", ["predict", "score"])
def test_an_unfitted_regressor_says_so(method, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(regressor(), method)(*((X,) if method == "predict" else (X, Y)))


def test_predict_refuses_other_columns(fitted):
    with pytest.raises(ValueError, match="`X` has 2 columns, the model expects n_inputs = 6"):
        fitted.predict(np.ones((3, 2)))


def test_sequences_can_be_cross_validated(simulated):
    X, Y, _, _ = simulated
    scores = cross_val_score(regressor(), X[:450], Y[:450], cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.9


def test_sparse_matrices_are_refused_by_name():
    from scipy import sparse

    with pytest.raises(TypeError, match="sparse"):
        regressor().fit(sparse.csr_array(np.eye(6)), np.eye(6)[:, :3])


# ------------------------------------------------------------------------------- linear networks


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [10, 400])
def test_a_linear_network_is_realised_up_to_a_similarity_of_its_states(n_steps):
    """Poles and predictions are determined, the states are not."""
    rng = np.random.default_rng(2)
    rotation = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    truth = IORNN(
        rng.standard_normal((2, 3)),
        rotation @ np.diag([0.7, -0.5]) @ rotation.T,
        rng.standard_normal((2, 2)),
        activation="linear",
    )
    X = rng.standard_normal((20_000 // n_steps, n_steps, 3))
    exact = truth.predict(X)
    est = SpectralRNNRegressor(2, activation="linear")
    est.fit(X, exact + NOISE * rng.standard_normal(exact.shape))
    assert est.model_.activation.name == "linear"
    assert np.sqrt(np.mean((est.predict(X) - exact) ** 2)) < FEW_OF_MANY * NOISE
    poles = np.linalg.eigvals(est.model_.recurrent_weights)
    np.testing.assert_allclose(np.sort(poles), [-0.5, 0.7], atol=POLES)


@pytest.mark.parametrize("option", [{"bidirectional": True}, {"lags": 2}, {"recurrence": None}])
def test_options_without_meaning_for_a_linear_network_are_refused(option, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match="activation='linear' is realised from its impulse"):
        SpectralRNNRegressor(2, activation="linear", **option).fit(X, Y)
