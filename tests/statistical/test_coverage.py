"""Confidence intervals hold the true weights as often as they say, with few sequences and many."""

import warnings

import numpy as np
import pytest
from scipy import stats

from gloree import SpectralRNNRegressor, datasets, metrics
from gloree.engine import Engine, Source
from gloree.refinement import GaussNewton, Layout, SquaredError, standard_errors
from gloree.sequences import as_sequences

pytestmark = pytest.mark.slow

SERIAL = Engine("serial")
LEVEL = 0.95
# What is published, and the chance of a mean over repetitions.
LEAST, MOST, CHANCE = 0.93, 0.97, 3.5
REPETITIONS = 80


def noise(kind, X, n_outputs, rng):
    """Noise of unit variance."""
    n, t = X.shape[:2]
    values = rng.standard_normal((n, t, n_outputs))
    if kind == "unequal":
        return values * np.sqrt(0.2 + 0.8 * np.mean(X**2, axis=2, keepdims=True))
    if kind == "in time":
        for step in range(1, t):
            values[:, step] = 0.6 * values[:, step - 1] + 0.8 * values[:, step]
    if kind == "common":
        return (values + rng.standard_normal((n, 1, n_outputs))) / np.sqrt(2)
    return values


def held(sizes, kind, seed, bias):
    """Share of the weights of a least-squares fit that are in their intervals."""
    rng = np.random.default_rng((seed, *sizes))
    chain = datasets.make_chain(3, random_state=rng)
    truth = datasets.random_rnn(3, 2, 3, random_state=rng)
    if bias:
        b, c = 0.3 * rng.standard_normal(2), rng.standard_normal(3)
        truth = truth.replace(hidden_bias=b, output_bias=c)
    X = chain.sample(*sizes, random_state=rng)
    Y = truth.predict(X) + 0.1 * noise(kind, X, 3, rng)
    layout = Layout(3, 2, 3, bias=bias)
    source = Source(as_sequences(X, Y), segment=250 if sizes[1] > 500 else None, before=50)
    solver = GaussNewton(to_convergence=True, max_steps=4)
    end = solver.minimise(SquaredError(), truth, layout, SERIAL, source)
    errors = standard_errors(end, layout, SERIAL, source)
    norms = np.linalg.norm(end.model.input_weights, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=0.05)  # a step holds it to first order
    found = end.model.replace(
        input_weights=end.model.input_weights / norms[:, None],
        hidden_bias=end.model.hidden_bias / norms,
        recurrent_weights=end.model.recurrent_weights / norms[:, None] * norms[None, :] ** 2,
        output_weights=end.model.output_weights * norms[:, None] ** 2,
    )
    inside = []
    for name, each in errors.weights.items():
        quantile = stats.t.ppf((1 + LEVEL) / 2, errors.degrees_of_freedom[name])
        inside.append(abs(getattr(found, name) - getattr(truth, name)) < quantile * each)
    return np.mean(np.concatenate([each.ravel() for each in inside]))


CASES = {
    "one short record": ((1, 200), "white", False),
    "one record, in time": ((1, 1000), "in time", True),
    "two records": ((2, 500), "white", False),
    "four records with offsets": ((4, 400), "common", True),
    "ten records, unequal": ((10, 100), "unequal", True),
    "a hundred sequences": ((100, 40), "unequal", False),
}


@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_true_weights_as_often_as_they_say(case):
    sizes, kind, bias = CASES[case]
    shares = np.array([held(sizes, kind, seed, bias) for seed in range(REPETITIONS)])
    chance = CHANCE * shares.std(ddof=1) / np.sqrt(REPETITIONS)
    assert chance < 0.03  # or the test says nothing
    assert LEAST - chance < shares.mean() < MOST + chance


def test_intervals_of_the_report_hold_the_true_weights():
    shares = []
    for seed in range(30):
        X, Y, truth, _ = datasets.make_rnn(2, 500, 3, 2, 3, noise=0.1, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            est = SpectralRNNRegressor(2, random_state=0).fit(X, Y)
        aligned = metrics.align(est.model_, truth)
        low, high = est.report_.intervals(LEVEL)["output_weights"]
        half = ((high - low) / 2)[aligned.order]
        off = abs(aligned.model.output_weights - aligned.truth.output_weights)
        shares.append(np.mean(off < half))
    chance = CHANCE * np.std(shares, ddof=1) / np.sqrt(len(shares))
    assert LEAST - chance < np.mean(shares) < MOST + chance
