"""Rounds: what one pass returns, how units are put back, and that the error only falls."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.batches import SERIAL
from helpers.comparisons import assert_same_sums
from helpers.generators import whitening_of

from gloree import datasets
from gloree.decomposition import cp_tensor, decompose
from gloree.engine import Source
from gloree.metrics import weight_errors
from gloree.moments import (
    RegressionFeatures,
    RegressionSolver,
    ScoreResidual,
    cross_moment_sums,
    regression_sums,
    score_coordinates,
)
from gloree.recurrence import (
    RECURRENCES,
    Contraction,
    OutputsOnly,
    cross_sums,
    instrument_sums,
    linearised_sums,
    score_sums,
)
from gloree.refinement import (
    Layout,
    Rounds,
    evaluate,
    first_model,
    residual_round,
    start_rounds,
    with_components,
)
from gloree.sequences import as_sequences
from gloree.states import residual_rows

# Small linear systems, and sums of a few hundred terms in another order.
ALGEBRA = 1e-9
# Relative errors that 300 sequences leave, and the share of the squared error without U.
FROM_DATA = 0.2
SIZES = (4, 3, 4)


def make_problem(seed=0, n_sequences=300, *, regression=True, method="least-squares"):
    X, Y, truth, chain = datasets.make_rnn(n_sequences, 8, *SIZES, random_state=seed)
    source = Source(as_sequences(X, Y), batch_size=500)
    if regression:
        features = RegressionFeatures(whitening_of(X), 2)
        sums = SERIAL.run(lambda b: regression_sums(b, features), source)
        moment = RegressionSolver.from_sums(features, sums)
    else:
        moment = ScoreResidual(score_coordinates(chain.precision_blocks(0)[0]), chain, 2)
    rounds = Rounds(Layout(*SIZES), RECURRENCES[method], moment, chain, SERIAL, source)
    return truth, chain, rounds


@pytest.mark.parametrize("method", ["instrument", "cross", "score", "least-squares"])
@pytest.mark.parametrize("regression", [False, True])
def test_one_pass_returns_the_sums_of_each_estimator(method, regression):
    truth, chain, rounds = make_problem(n_sequences=20, regression=regression, method=method)
    model = truth.replace(recurrent_weights=0.5 * truth.recurrent_weights)
    batch = rounds.data.data.whole()
    contraction = Contraction.of(model, chain.precision_blocks(0))
    found = evaluate(rounds, model, tensor=True)
    residuals = residual_rows(model, batch)
    np.testing.assert_allclose(found.squares, np.sum(residuals**2, axis=0))
    np.testing.assert_allclose(found.output_moment, residuals.T @ residuals)
    assert found.n_rows == batch.n_rows
    expected = {
        "outputs": linearised_sums(
            batch,
            model,
            recurrent=method in ("least-squares", "score"),
            bias=method == "least-squares",
        )
    }
    if method != "least-squares":
        expected["instrument"] = instrument_sums(batch, model, chain, contraction)
        assert (found.recurrence.moment is None) == (method == "instrument")
    if method == "cross":
        expected["moment"] = cross_sums(batch, model, chain, contraction)
    if method == "score":
        expected["moment"] = score_sums(batch, model, chain, residuals)
    for name, sums in expected.items():
        alone = method == "least-squares"
        mine = found.recurrence if alone else getattr(found.recurrence, name)
        assert_same_sums(mine, sums, ALGEBRA)
    if regression:
        moment = regression_sums(
            batch, rounds.moment.features, targets=lambda _: residuals, gram=False
        )
    else:
        projection = rounds.moment.coordinates.from_inputs
        moment = cross_moment_sums(
            batch, chain, 2, projection=projection, targets=lambda _: residuals
        )
    assert_same_sums(found.moment, moment, ALGEBRA)


def test_parts_that_were_not_asked_for_are_none():
    truth, _, rounds = make_problem(n_sequences=5)
    found = evaluate(replace(rounds, estimator=OutputsOnly()), truth)
    assert found.moment is None
    assert found.recurrence.unit_gram.shape == (0, 0)


@pytest.mark.parametrize("degree", [2, 3])
def test_components_are_put_back_where_they_came_from(degree):
    """Order, sign and scale of the rows stay, so U and b stay valid."""
    _, _, truth, chain = datasets.make_rnn(1, 2, *SIZES, degree=degree, random_state=1)
    s = np.array([1.5, -0.7, 2.0])
    model = truth.replace(
        input_weights=s[:, None] * truth.input_weights,
        recurrent_weights=s[:, None] * truth.recurrent_weights / s[None, :] ** degree,
        output_weights=truth.output_weights / s[:, None] ** degree,
    )
    coordinates = score_coordinates(chain.precision_blocks(0)[0])
    T = coordinates.model_tensor(model, degree, 1.0)
    found = decompose(T, 3, random_state=0)
    back = with_components(model, found, coordinates, Layout(*SIZES))
    np.testing.assert_allclose(back.input_weights, model.input_weights, atol=ALGEBRA)
    np.testing.assert_allclose(back.output_weights, model.output_weights, atol=ALGEBRA)
    np.testing.assert_array_equal(back.recurrent_weights, model.recurrent_weights)


def test_first_model_has_unit_rows_the_mean_and_no_recurrence():
    _, _, truth, chain = datasets.make_rnn(1, 2, *SIZES, random_state=2)
    coordinates = score_coordinates(chain.precision_blocks(0)[0])
    loadings = 2 * truth.output_weights
    found = decompose(cp_tensor(loadings, coordinates.components(truth), 2), 3, random_state=0)
    means = np.array([1.0, 2.0, 3.0, 4.0])
    model = first_model(found, coordinates, truth.activation, means, Layout(*SIZES, direct=True))
    np.testing.assert_allclose(model.input_weights, truth.input_weights, atol=ALGEBRA)
    np.testing.assert_allclose(model.output_weights, truth.output_weights, atol=ALGEBRA)
    np.testing.assert_array_equal(model.output_bias, means)
    assert not model.recurrent_weights.any()
    assert not model.direct_weights.any()
    bare = first_model(found, coordinates, truth.activation, means, Layout(*SIZES, bias=False))
    assert not bare.output_bias.any()
    assert bare.direct_weights is None


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("method", ["instrument", "least-squares"])
def test_rounds_lower_the_error_and_come_close_to_the_truth(method, regression):
    truth, _, rounds = make_problem(regression=regression, method=method)
    start = truth.replace(recurrent_weights=None)
    totals = [evaluate(rounds, start).total]
    current = start_rounds(rounds, start)
    totals.append(current.sums.total)
    for _ in range(2):
        current = residual_round(rounds.later(), current)
        totals.append(current.sums.total)
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < FROM_DATA * totals[0]
    assert weight_errors(current.model, truth)["recurrent_weights"] < FROM_DATA
    after = evaluate(replace(rounds, estimator=OutputsOnly()), current.model)
    assert after.total == pytest.approx(totals[-1])
    labels, errors = zip(*current.history, strict=True)
    assert labels == tuple(sorted(labels, key=["first moment", "recurrence", "round"].index))
    assert errors == tuple(sorted(errors, reverse=True))
    assert errors[-1] == pytest.approx(totals[-1] / after.n_rows / SIZES[2])


def test_a_round_that_gains_nothing_gives_its_argument_back():
    _, _, rounds = make_problem(n_sequences=20)
    rounds = rounds.later()
    current = start_rounds(rounds, make_problem()[0].replace(recurrent_weights=None))
    for _ in range(100):
        after = residual_round(rounds, current)
        if after is current:
            return
        assert after.sums.total < current.sums.total
        current = after
    raise AssertionError("rounds never end")


def test_rounds_without_a_recurrence_leave_it_at_zero():
    truth, _, rounds = make_problem()
    layout = Layout(*SIZES, recurrent=False, bias=False)
    rounds = replace(rounds, layout=layout, estimator=OutputsOnly())
    model = start_rounds(rounds, truth.replace(recurrent_weights=None)).model
    assert not model.recurrent_weights.any()
    assert not model.hidden_bias.any()
