"""How many rows the start of a fit takes: few where these are clear, more where they are not."""

import numpy as np
import pytest
from helpers.engines import Counted
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import AcceptanceWarning
from gloree.fitting import _directions, _first_moment
from gloree.refinement import _gauss_newton

# the order of summation, through a few steps of Gauss-Newton
ROUNDING = 1e-9
# least squares leaves .03 under noise of 6: four of these
LOUD = 0.12

# 3,000 sequences of 20 steps; a first moment of 5 inputs begins with 8,000 of these steps
N_ROWS, FIRST_ROWS = 60_000, 8_000


def simulate(noise, **options):
    return datasets.make_rnn(3000, 20, 5, 3, 3, noise=noise, random_state=2, **options)


def fit(X, Y, n_hidden=3, **options):
    engine = Counted("serial")
    est = SpectralRNNRegressor(n_hidden, random_state=0, engine=engine, **options)
    return est.fit(X, Y), engine


def test_a_clear_first_moment_takes_few_rows():
    X, Y, _, _ = simulate(0.1)
    est, engine = fit(X, Y)
    assert engine.rows_of("first moment") == [FIRST_ROWS]
    assert max(engine.rows_of("moments")) == FIRST_ROWS
    assert "steps" not in est.report_.stages[2].detail


@pytest.mark.slow
def test_a_first_moment_that_is_not_accepted_is_taken_again_from_more_rows():
    """Its noise falls with the rows: what 8,000 do not show, four times as many do."""
    X, Y, truth, _ = simulate(6.0)
    est, engine = fit(X, Y)
    taken = engine.rows_of("first moment")
    assert taken == [min(FIRST_ROWS * 4**i, N_ROWS) for i in range(len(taken))]
    assert len(taken) > 1
    assert est.report_.decomposition.accepted
    assert est.report_.stages[2].detail.endswith(f"from {taken[-1]:,} steps")
    assert min(engine.rows_of("moments")) == taken[-1]
    assert metrics.weight_errors(est.model_, truth)["input_weights"] < LOUD


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(("noise", "n_outputs"), first_of([(0.1, 1), (100.0, 3)], several=True))
def test_rows_end_with_the_data_and_are_not_spent_on_a_rotation(noise, n_outputs):
    """One output leaves quadratic units free to rotate, whatever the number of rows."""
    X, Y, _, _ = simulate(noise)
    est, engine = fit(X, Y[..., :n_outputs], recurrence=None)
    taken = engine.rows_of("first moment")
    assert not est.report_.decomposition.accepted
    assert taken == ([8_000, 32_000, N_ROWS] if n_outputs > 1 else [FIRST_ROWS])


@pytest.mark.slow
def test_work_on_more_rows_is_limited(monkeypatch):
    X, Y, _, _ = simulate(100.0)
    # 1 + 2 (5 + 15) features of x and of the score
    monkeypatch.setattr(_first_moment, "MOMENT_WORK", 20_000 * 41**2)
    with pytest.warns(AcceptanceWarning):
        _, engine = fit(X, Y, recurrence=None)
    assert engine.rows_of("first moment") == [8_000, 20_000]


@pytest.mark.parametrize("doubt", [False, True])
def test_directions_in_doubt_are_sought_in_all_rows(doubt, monkeypatch):
    X, Y, truth, _ = simulate(0.1, bidirectional=True)
    if doubt:
        monkeypatch.setattr(_directions, "CLEAR", np.inf)
    est, engine = fit(X, Y, bidirectional=True)
    assert engine.rows_of("directions") == ([8_000] * 2 + [N_ROWS] * 2 if doubt else [8_000] * 2)
    assert est.model_.n_forward == truth.n_forward


def test_an_unknown_number_of_units_is_sought_in_four_times_as_many_rows():
    X, Y, _, _ = simulate(0.1)
    est, engine = fit(X, Y, n_hidden=None)
    assert est.model_.n_hidden == 3
    assert engine.rows_of("first moment") == [4 * FIRST_ROWS]
    assert sum(engine.rows_of("quarters")) == 4 * FIRST_ROWS


@pytest.mark.slow
@pytest.mark.parametrize("n_sequences", [3000, 1])
def test_batches_change_nothing_but_the_order_of_summation(n_sequences, monkeypatch):
    """Whatever begins on a part of the data begins on the same part."""
    monkeypatch.setattr(_gauss_newton, "FIRST_ROWS", 9_000)
    X, Y, _, _ = datasets.make_rnn(n_sequences, N_ROWS // n_sequences, 5, 3, 3, random_state=2)
    expected = SpectralRNNRegressor(3, random_state=0).fit(X, Y).model_
    for batch_size in (777, 5000, N_ROWS):
        found = SpectralRNNRegressor(3, random_state=0, batch_size=batch_size).fit(X, Y).model_
        for name, values in found.arrays().items():
            if values is not None:
                off = np.abs(values - expected.arrays()[name]).max()
                assert off < ROUNDING * np.abs(expected.input_weights).max(), name
