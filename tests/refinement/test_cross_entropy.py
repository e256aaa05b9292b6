"""Cross-entropy of labels: loss and gradient, early stopping, the logistic readout."""

import numpy as np
import pytest
from helpers.generators import model_and_layout

from gloree import datasets
from gloree.engine import Engine, Source
from gloree.refinement import (
    LBFGS,
    CrossEntropy,
    Layout,
    RefinementStatus,
    logistic_readout,
    softmax,
    split_held_out,
)
from gloree.sequences import as_sequences

# Central differences at STEP: an error of STEP^2 times a third derivative, and eps / STEP of
# rounding times the loss, both relative to the gradient.
STEP = 1e-5
DIFFERENCES = 1e-7
# Two programs for the same sums of a few dozen terms.
ALGEBRA = 1e-12
# L-BFGS of the readout stops at a gradient of 1e-4 a row, in single precision.
READOUT = 1e-3

LENGTHS = (7, 3, 1, 5)
N_CLASSES = 3


def make_case(kind, seed=0):
    """Model, layout and source of a few short labelled sequences."""
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, 2)) for n in LENGTHS]
    codes = [rng.integers(N_CLASSES, size=(n, 1)) for n in LENGTHS]
    both_ways, lags = kind != "forward", 2 if kind == "windows" else 1
    model, layout = model_and_layout(rng, N_CLASSES, lags=lags, both_ways=both_ways)
    return model, layout, Source(as_sequences(X, codes), lags=lags, both_ways=both_ways)


KINDS = ("forward", "both ways", "windows")


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_the_softmax_of_the_predictions(kind):
    model, _, source = make_case(kind)
    sums = CrossEntropy().sums(source.read(source.as_subset().batches[0]), model)
    data = source.data
    logits = model.predict(data.X, lengths=data.lengths)
    P = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = data.Y[:, 0].astype(int)
    loss = -np.log(P[np.arange(len(P)), codes]).sum()
    assert sums.n_rows == len(P)
    assert sums.loss == pytest.approx(loss, rel=ALGEBRA)
    assert sums.correct == np.count_nonzero(P.argmax(axis=1) == codes)


def test_softmax_of_large_logits_is_finite():
    P, log_total = softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_allclose(P, [[1.0, 0.0], [0.5, 0.5]], atol=ALGEBRA)
    np.testing.assert_allclose(log_total, [1e4, np.log(2) - 1e4])


@pytest.fixture(scope="module")
def simulated():
    """Labels drawn from a known network, its source, and a start with the right units."""
    X, Y, truth, _ = datasets.make_rnn(300, 8, 4, 3, N_CLASSES, noise=0.0, random_state=0)
    rng = np.random.default_rng(0)
    codes = (2.0 * Y + rng.gumbel(size=Y.shape)).argmax(axis=2)[..., None]
    source = Source(as_sequences(X, codes), batch_size=500)
    return truth, source, Layout(4, 3, N_CLASSES)


def test_readout_matches_the_frequencies(simulated):
    truth, source, _ = simulated
    found = logistic_readout(truth, Engine(), source, N_CLASSES)
    data = source.data
    P, _ = softmax(found.predict(data.X, lengths=data.lengths))
    shares = np.bincount(data.Y[:, 0].astype(int), minlength=N_CLASSES) / data.n_rows
    np.testing.assert_allclose(P.mean(axis=0), shares, atol=READOUT)
    np.testing.assert_array_equal(found.recurrent_weights, truth.recurrent_weights)


def test_a_class_that_the_readout_never_sees_is_never_the_largest(simulated):
    truth, source, _ = simulated
    found = logistic_readout(truth, Engine(), source, N_CLASSES + 1)
    data = source.data
    logits = found.predict(data.X, lengths=data.lengths)
    assert set(logits.argmax(axis=1)) <= set(range(N_CLASSES))


def test_minimisation_returns_the_best_iterate_on_held_out_segments(simulated):
    truth, source, layout = simulated
    engine = Engine()
    training, held_out = split_held_out(source)
    start = logistic_readout(truth, engine, training, N_CLASSES)
    start = start.replace(input_weights=0.8 * start.input_weights)
    result = LBFGS().minimise(CrossEntropy(), start, layout, engine, training, held_out=held_out)
    losses = [step.held_out for step in result.history]
    sums = [
        CrossEntropy().sums(source.read(segments), result.model) for segments in held_out.batches
    ]
    loss = sum(each.loss for each in sums) / sum(each.n_rows for each in sums)
    assert loss == pytest.approx(min(losses), rel=ALGEBRA)
    assert result.n_steps == len(losses) - 1
    assert result.final is result.history[int(np.argmin(losses))]
    assert result.best_share == max(step.share for step in result.history[1:])
    assert result.status in (RefinementStatus.HELD_OUT, RefinementStatus.CONVERGED)
    before = [
        CrossEntropy().sums(source.read(segments), start).loss for segments in held_out.batches
    ]
    assert sum(each.loss for each in sums) < sum(before)


def test_every_tenth_segment_is_held_out(simulated):
    _, source, _ = simulated
    training, held_out = split_held_out(source)
    both, whole = training.joined(held_out).segments, source.as_subset().segments
    assert len(np.unique(both.start)) == len(both) == len(whole)
    assert held_out.n_visited == len(whole) // 10


def test_one_segment_cannot_be_split():
    source = Source(as_sequences(np.ones((5, 1)), np.zeros((5, 1))))
    with pytest.raises(ValueError, match="one segment cannot be split"):
        split_held_out(source)
