"""What goes wrong in practice: each case is an error that says what to do, or a right result."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.estimates import FEW_WEIGHTS, INPUT_WEIGHTS, NOISE, NOISE_TOLERANCE, regressor
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.chains import NonStationaryChainError
from gloree.diagnostics import (
    AcceptanceWarning,
    ConditionWarning,
    IdentifiabilityError,
    OutlierWarning,
    RotationWarning,
    TooFewSamplesError,
)

# as good as the right size: what a few dozen more weights take up of the noise of 3,000 steps is
# 1%, and a descent that is not at its end leaves some
TOO_MANY_UNITS = 0.1
# the same numbers summed in another order, through an iteration that stops at 1% of the error
ITERATION = 1e-3
# a ridge of 1e-10 or so on the weights of a constant output
CONSTANT = 1e-6
# float64 leaves 8 digits of a signal of size one beside 1e8, and an iteration magnifies the rest
EIGHT_DIGITS = 1e-3
# refined to the end on the same rows, from starts that differ
SAME_ROWS = 1e-4


def with_values(values, index, value):
    changed = values.copy()
    changed[index] = value
    return changed


# ------------------------------------------------------------------------------- broken data


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_values_that_are_not_finite_are_located(value, name, simulated):
    data = {"X": simulated[0], "Y": simulated[1]}
    data[name] = with_values(data[name], (3, 2, 1), value)
    with pytest.raises(ValueError, match=f"`{name}` holds {value} at sequence 3, step 2, column 1"):
        regressor().fit(data["X"], data["Y"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predict_refuses_values_that_are_not_finite(value, simulated):
    X, Y, _, _ = simulated
    est = regressor().fit(X, Y)
    with pytest.raises(ValueError, match=f"`X` holds {value} at sequence 0, step 1, column 2"):
        est.predict(with_values(X, (0, 1, 2), value))


@pytest.mark.parametrize(
    "cut, message",
    [
        (lambda X, Y: (X, Y[:, :-1]), r"`Y` has shape \(1000, 9, 3\), expected \(1000, 10,"),
        (lambda X, Y: (X, Y[:-1]), r"`Y` has shape \(999, 10, 3\), expected \(1000, 10,"),
        (lambda X, Y: (list(X), list(Y[:-1])), "`X` has 1000 sequences, `Y` has 999"),
        (
            lambda X, Y: (list(X), [*Y[:-1], Y[-1, :4]]),
            r"`X\[999\]` has 10 steps, `Y\[999\]` has 4",
        ),
        (lambda X, Y: (X[0], Y[0, :4]), "`X` has 10 steps, `Y` has 4"),
        (lambda X, Y: (list(X), Y), "`X` was given as list, `Y` as array"),
        (lambda X, Y: (X, None), "`Y` is missing: fit needs outputs"),
        (lambda X, Y: (X[0, :, 0], Y[0]), r"add the last axis: X\[\.\.\., np\.newaxis\]"),
        (lambda X, Y: ([], []), "`X` is an empty list"),
    ],
    ids=["steps", "sequences", "list", "one of a list", "single", "forms", "none", "1-D", "empty"],
)
def test_inputs_and_outputs_must_match(cut, message, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match=message):
        regressor().fit(*cut(X, Y))


def test_lengths_must_sum_to_the_rows(simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match="`lengths` sum to 9, but `X` has 10 rows"):
        regressor().fit(X[0], Y[0], lengths=[4, 5])


@pytest.mark.parametrize("convert", [lambda v: v + 1j, lambda v: v.astype(str)])
def test_what_is_not_numbers_is_refused(convert, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(TypeError, match=r"`X` has dtype .* expected real numbers"):
        regressor().fit(convert(X), Y)


# --------------------------------------------------------------------- too little, too much


@pytest.mark.parametrize("n_sequences", [1, 2, 4])
def test_too_few_samples_are_refused_with_how_many_are_needed(n_sequences, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(TooFewSamplesError, match=r"steps.*needed.*[Mm]ore data"):
        regressor().fit(X[:n_sequences], Y[:n_sequences])


def test_barely_enough_samples_are_fitted_with_a_warning(simulated):
    X, Y, _, _ = simulated
    with pytest.warns(AcceptanceWarning, match="use more data, more outputs or fewer units"):
        est = regressor().fit(X[:8], Y[:8])
    assert np.all(np.isfinite(est.predict(X)))
    assert any("is not reliable" in text for text in est.report_.warnings)


@pytest.mark.parametrize("n_hidden", [8, 20])
def test_more_units_than_the_moment_determines_are_refused(n_hidden, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(IdentifiabilityError, match=f"`n_hidden`={n_hidden}.*At most 7"):
        regressor(n_hidden).fit(X, Y)


@pytest.mark.slow
def test_more_units_than_there_are_come_with_a_warning():
    X, Y, _, _ = datasets.make_rnn(300, 10, 5, 2, 3, noise=NOISE, random_state=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = regressor(5).fit(X, Y)
    assert any(issubclass(each.category, AcceptanceWarning) for each in caught)
    # predictions are as good as those of the right size
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=TOO_MANY_UNITS)


def test_one_output_of_a_quadratic_network_with_recurrence_is_refused(simulated):
    X, Y, _, _ = simulated
    message = "only up to a rotation.*Use more outputs .*, activation='cubic' or 'tanh', or recurr"
    for outputs in (Y[..., :1], Y[..., 0]):
        with pytest.raises(IdentifiabilityError, match=message):
            regressor().fit(X, outputs)


def test_one_output_without_recurrence_is_a_quadratic_form(simulated):
    X, _, truth, _ = simulated
    truth = truth.replace(recurrent_weights=None)
    Y = truth.simulate(X, noise=NOISE, random_state=0)[..., :1]
    with pytest.warns(RotationWarning, match="predictions do not depend on it"):
        est = regressor(recurrence=None).fit(X, Y)
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)
    A1, A2 = truth.input_weights, truth.output_weights[:, 0]
    form = np.einsum("ka,kb,k->ab", A1, A1, A2)
    B1, B2 = est.model_.input_weights, est.model_.output_weights[:, 0]
    found = np.einsum("ka,kb,k->ab", B1, B1, B2)
    assert np.linalg.norm(found - form) < FEW_WEIGHTS * np.linalg.norm(form)


def test_windows_longer_than_all_sequences_are_refused(simulated):
    X, Y, _, _ = simulated
    for recurrence in (None, "instrument"):
        with pytest.raises(ValueError, match=r"no sequence has 11 steps.*lower `lags`"):
            regressor(lags=11, recurrence=recurrence).fit(X, Y)


@pytest.mark.slow
def test_a_sequence_for_each_batch_gives_the_same_network(simulated):
    X, Y, _, _ = simulated
    one = regressor(batch_size=1).fit(X[:100], Y[:100])
    many = regressor().fit(X[:100], Y[:100])
    errors = metrics.weight_errors(one.model_, many.model_)
    assert errors["input_weights"] < ITERATION


# -------------------------------------------------------------------------- degenerate inputs


@pytest.mark.parametrize("value", [0.0, 1.5, 0.1, 1e6 / 3])
def test_constant_inputs_are_named(value, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match=r"`X` is constant in column\(s\) 2: leave constant"):
        regressor().fit(with_values(X, (..., 2), value), Y)


@pytest.mark.parametrize("recurrence", [None, "instrument"])
def test_constant_inputs_are_named_with_windows_too(recurrence, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match=r"`X` is constant in column\(s\) 2"):
        regressor(lags=2, recurrence=recurrence).fit(with_values(X, (..., 2), 3.0), Y)


def test_collinear_inputs_are_named(simulated):
    X, Y, _, _ = simulated
    X = np.concatenate((X, X[..., :1] - 2 * X[..., 3:4]), axis=-1)
    with pytest.raises(ValueError, match="linearly dependent columns, among 0, 3, 6"):
        regressor().fit(X, Y)


@pytest.mark.slow
def test_nearly_collinear_inputs_are_fitted_with_a_warning(simulated):
    X, _, truth, _ = simulated
    X = with_values(X, (..., 2), X[..., 0] + 5e-4 * X[..., 2])
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = regressor().fit(X, Y)
    assert any(issubclass(each.category, ConditionWarning) for each in caught)
    assert est.report_.conditions["inputs"] > 1e6
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)


@pytest.mark.parametrize("n_sequences, n_steps", first_of([(1000, 10), (4, 2500)], several=True))
def test_random_walks_are_fitted_or_refused_with_what_to_do(n_sequences, n_steps, simulated):
    _, _, truth, _ = simulated
    rng = np.random.default_rng(0)
    X = np.cumsum(rng.standard_normal((n_sequences, n_steps, 6)), axis=1)
    X /= X.std()
    Y = truth.simulate(X, noise=NOISE, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            est = regressor().fit(X, Y)
        except NonStationaryChainError as error:
            # only what a user of the regressor can do: it has no `order` and no `initial`
            assert "ifference" in str(error)
            assert "`order`" not in str(error)
            assert "initial=" not in str(error)
            return
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=TOO_MANY_UNITS)


# ------------------------------------------------------------------------- degenerate outputs


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e8 + 0.1, -7.7e-5])
def test_constant_outputs_are_refused(value, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match="`Y` is constant: there is nothing to fit"):
        regressor().fit(X, np.full_like(Y, value))


@pytest.mark.parametrize("value", [0.0, 2.0, 0.1, 1e4 / 3])
def test_one_constant_output_among_others_is_its_bias(value, simulated):
    X, _, truth, _ = simulated
    truth = truth.replace(
        output_weights=np.hstack((truth.output_weights, np.zeros((3, 1)))),
        output_bias=[0, 0, 0, value],
    )
    Y = with_values(truth.simulate(X, noise=NOISE, random_state=0), (..., 3), value)
    est = regressor().fit(X, Y)
    np.testing.assert_allclose(est.predict(X)[..., 3], value, atol=CONSTANT * max(1.0, value))
    errors = metrics.weight_errors(est.model_, truth)
    assert errors["input_weights"] < INPUT_WEIGHTS
    assert np.all(np.isfinite(est.report_.standard_errors["output_weights"]))
    assert est.score(X, Y) > 0.9


def test_a_large_mean_of_the_outputs_does_not_hide_their_variance(simulated):
    X, Y, _, _ = simulated
    est = regressor().fit(X, Y + 1e8)
    reference = regressor().fit(X, Y)
    np.testing.assert_allclose(est.predict(X) - 1e8, reference.predict(X), atol=EIGHT_DIGITS)


@pytest.mark.slow
def test_swapped_inputs_and_outputs_do_not_pass_for_a_good_fit(simulated):
    X, Y, _, _ = simulated
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = regressor().fit(Y, X)
    assert any(issubclass(each.category, AcceptanceWarning) for each in caught)
    assert est.score(Y, X) < 0.2


# ---------------------------------------------------------------------------------- outliers


def test_a_few_exploded_sequences_are_left_out_and_named(simulated):
    X, Y, _, _ = simulated
    Y = Y.copy()
    Y[7, 5:] = 1e11
    Y[420, 9, 0] = -3e11
    with pytest.warns(OutlierWarning, match=r"2 sequences were left out.*\(sequences 7, 420\)"):
        est = regressor(refine="full", output_weights="equal").fit(X, Y)
    kept = np.setdiff1d(np.arange(len(X)), [7, 420])
    alone = regressor(refine="full", output_weights="equal")
    without = alone.fit(list(X[kept]), list(Y[kept])).model_
    assert max(metrics.weight_errors(est.model_, without).values()) < SAME_ROWS
    np.testing.assert_allclose(est.report_.refined_rmse, NOISE, rtol=NOISE_TOLERANCE)
    assert "left out" in str(est.report_)


def test_many_exploded_sequences_are_an_error(simulated):
    X, Y, _, _ = simulated
    Y = Y.copy()
    Y[::10, 5:] = 1e11
    message = r"outputs of 100 of 1000 sequences exceed.*1e\+11, first in sequence 0.*explodes"
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, Y)


def test_a_long_record_that_explodes_is_an_error(simulated):
    _, _, truth, chain = simulated
    x = chain.sample(1, 3000, random_state=0)[0]
    y = truth.simulate(x, noise=NOISE, random_state=0)
    y[2500] = 1e11
    with pytest.raises(ValueError, match=r"outputs of 1 of 1 sequences exceed.*stretches"):
        regressor().fit(x, y)


# ----------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "option, value, meant",
    [
        ("recurrence", "instrumnt", "instrument"),
        ("recurrence", "Cross", "cross"),
        ("moment", "regresion", "regression"),
        ("refine", "onestep", "one-step"),
        ("activation", "quadratc", "quadratic"),
        ("activation", "Cubic", "cubic"),
        ("chain", "gaussianvar", "gaussian-var"),
        ("engine", "thread", "threads"),
    ],
)
def test_a_misspelled_option_gets_a_close_match(option, value, meant, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(ValueError, match=f"`{option}`.*{value!r}.*did you mean '{meant}'"):
        regressor(**{option: value}).fit(X, Y)


@pytest.mark.parametrize(
    "option, value, kind, message",
    [
        ("n_hidden", 0, ValueError, "`n_hidden` must be at least 1, got 0"),
        ("n_hidden", 2.0, TypeError, "`n_hidden` must be an integer, got 2.0"),
        ("n_hidden", True, TypeError, "`n_hidden` must be an integer, got True"),
        ("lags", 0, ValueError, "`lags` must be at least 1"),
        ("lags", 1.5, TypeError, "`lags` must be an integer"),
        ("max_rounds", -1, ValueError, "`max_rounds` must be at least 0"),
        ("batch_size", 0, ValueError, "`batch_size` must be at least 1"),
        ("memory_limit", -5, ValueError, "`memory_limit` must be at least 1"),
        ("refine", True, ValueError, "`refine` must be one of"),
        ("moment", None, ValueError, "`moment` must be one of"),
        ("verbose", "yes", TypeError, "`verbose` must be an integer, got 'yes'"),
        (
            "activation",
            3,
            TypeError,
            "`activation` is of type int, expected a name or an Activation",
        ),
        ("bidirectional", "yes", TypeError, "`bidirectional` must be True or False"),
        ("n_hidden", (2, 1), ValueError, "a pair .* with bidirectional=True"),
        ("activation", ["tanh", "relu"], ValueError, "a function for each unit"),
        ("chain", datasets.make_chain(4, random_state=0), ValueError, "`chain` has 4 inputs, `X`"),
    ],
)
def test_options_out_of_range_are_refused_by_name(option, value, kind, message, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(kind, match=message):
        regressor(**{option: value}).fit(X, Y)


def test_an_error_leaves_the_fit_before_as_it_was(simulated):
    X, Y, _, _ = simulated
    est = regressor().fit(X, Y)
    model = est.model_
    with pytest.raises(ValueError, match="sequences"):
        est.fit(list(X), list(Y[:-1]))
    assert est.model_ is model


@pytest.mark.parametrize("state", ["a", 1.5, -1, True, np.random])
def test_a_random_state_of_another_kind_is_refused_by_name(state, simulated):
    X, Y, _, _ = simulated
    with pytest.raises(TypeError, match="`random_state` must be None, an integer"):
        regressor(random_state=state).fit(X, Y)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize(
    "scale_x, scale_y, name, what",
    [(1e200, 1.0, "X", "inputs"), (1.0, 1e200, "Y", "outputs"), (1.0, 1e155, "Y", "outputs")],
)
def test_values_whose_squares_overflow_are_named(scale_x, scale_y, name, what):
    X, Y, _, _ = datasets.make_rnn(300, 10, 3, 1, 2, random_state=0)
    with pytest.raises(ValueError, match=rf"^`{name}` holds values so large .* bring the {what}"):
        SpectralRNNRegressor(1).fit(scale_x * X, scale_y * Y)


@pytest.mark.parametrize("columns", [1, 3])
def test_score_wants_as_many_outputs_as_the_model_has(columns):
    X, Y, _, _ = datasets.make_rnn(300, 10, 3, 1, 2, random_state=0)
    est = SpectralRNNRegressor(1, random_state=0).fit(X, Y)
    with pytest.raises(
        ValueError, match=rf"^`Y` has {columns} columns, the model has n_outputs = 2$"
    ):
        est.score(X, np.ones((300, 10, columns)))


@pytest.mark.parametrize("skip", [-1, 1.5, True, "1"])
def test_score_wants_a_number_of_steps_to_skip(skip):
    X, Y, _, _ = datasets.make_rnn(300, 10, 3, 1, 2, random_state=0)
    est = SpectralRNNRegressor(1, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match=r"^`skip` must be an integer of at least 0, got"):
        est.score(X, Y, skip=skip)
