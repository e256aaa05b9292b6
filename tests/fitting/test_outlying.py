"""Sequences of large outputs: those that are not of the system of the others are left out."""

import warnings

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.diagnostics import OutlierWarning
from gloree.engine import Engine, Source
from gloree.fitting._outlying import _of_batch
from gloree.sequences import as_sequences

# sums of rows in another order
ALGEBRA = 1e-12
# what is left to gain at the end, in standard errors
ENDED = 0.25


def simulate(n_sequences, louder=1.0, seed=0):
    """A network of three units; inputs of sequence 3 times a factor."""
    _, _, truth, law = datasets.make_rnn(n_sequences, 10, 4, 3, 3, random_state=seed)
    rng = np.random.default_rng(seed)
    X = law.sample(n_sequences, 10, random_state=seed)
    X[3] *= louder
    Y = truth.predict(X)
    return X, Y + 0.2 * rng.standard_normal(Y.shape)


def fit(X, Y):
    return SpectralRNNRegressor(3, random_state=0, engine="serial").fit(X, Y)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("factor", first_of([30, 1000]))
@pytest.mark.parametrize("n", [40, 200])
def test_a_sequence_in_other_units_is_left_out_and_named(n, factor, offset):
    X, Y = simulate(n)
    others = np.arange(n) != 3
    alone = fit(X[others], Y[others] + offset)
    Y[3] *= factor
    with pytest.warns(OutlierWarning, match=r"of sequence\(s\) 3, were left out") as caught:
        est = fit(X, Y + offset)
    assert len(caught) == 1
    errors = metrics.weight_errors(est.model_, alone.model_)
    assert errors["input_weights"] < ENDED * alone.report_.predicted_errors["input_weights"]


def test_a_loud_sequence_of_the_same_system_stays():
    """It says more of the units than all others: outputs of ten to twenty times the size."""
    X, Y = simulate(200, louder=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = fit(X, Y)
    assert "outlying segment(s) kept out of the moments" in str(est.report_)
    others = np.arange(200) != 3
    precise, plain = est.report_.predicted_errors, fit(X[others], Y[others]).report_
    assert precise["input_weights"] < plain.predicted_errors["input_weights"]


def test_squares_of_segments_are_those_of_their_rows():
    X, Y = simulate(6)
    model = fit(*simulate(100)).model_
    lengths = np.array([10, 20, 5, 25])
    source = Source(as_sequences(X.reshape(60, -1), Y.reshape(60, -1), lengths=lengths))
    starts = np.array([10, 35])
    first, sequence, residuals, outputs = (
        np.concatenate(each)
        for each in zip(
            *Engine("serial").collect(lambda batch: _of_batch(batch, model, starts), source),
            strict=True,
        )
    )
    np.testing.assert_array_equal(first, starts)
    np.testing.assert_array_equal(sequence, [1, 3])
    predicted = model.predict(X.reshape(60, -1), lengths=lengths)
    predicted = np.concatenate(predicted) if isinstance(predicted, list) else predicted
    Y = Y.reshape(60, -1)
    for place, rows in enumerate((slice(10, 30), slice(35, 60))):
        left = np.sum((Y[rows] - predicted[rows]) ** 2) / len(Y[rows])
        np.testing.assert_allclose(residuals[place], left, rtol=ALGEBRA)
        size = np.sum((Y[rows] - model.output_bias) ** 2) / len(Y[rows])
        np.testing.assert_allclose(outputs[place], size, rtol=ALGEBRA)
