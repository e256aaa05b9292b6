"""The published figures, reduced: recovery at the accuracy of least squares, and its slope in N."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.estimates import least_squares, smallest_loss

from gloree import SpectralRNNRegressor, datasets, metrics

pytestmark = pytest.mark.slow

WEIGHTS = ("input_weights", "recurrent_weights", "output_weights")
# loss above that of the least-squares estimate: the published criterion
LOSS_TOLERANCE = 1e-3
# the standard error of a slope over four seeds is about 0.1
SLOPE = 0.25
# 12 repetitions of some 4 independent numbers: three standard errors of 0.2 of a mean square of 1
MEAN_SQUARE = 0.6
# above the errors of least squares
NEARLY = 0.2
SEEDS = range(4)


def fit(X, Y, n_hidden, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SpectralRNNRegressor(n_hidden, random_state=0, **options).fit(X, Y)


def size_of(errors):
    return np.array([errors[name] for name in WEIGHTS])


@pytest.mark.parametrize("sizes", [(10, 5, 5), (6, 6, 3), (20, 8, 6)])
@pytest.mark.parametrize("seed", SEEDS)
def test_recovery_is_as_good_as_least_squares(sizes, seed):
    X, Y, truth, _ = datasets.make_rnn(1000, 50, *sizes, random_state=seed)
    est, best = fit(X, Y, sizes[1]), least_squares(X, Y, truth, "threads")
    smallest = float(best.squares.sum()) / best.n_rows
    assert float(np.sum(est.report_.refined_rmse**2)) < (1 + LOSS_TOLERANCE) * smallest
    errors = size_of(metrics.weight_errors(est.model_, truth))
    possible = size_of(metrics.weight_errors(best.model, truth))
    assert np.all(errors < (1 + NEARLY) * possible)


def test_errors_fall_like_one_over_the_root_of_n():
    sizes = np.array([250, 1000, 4000])
    errors = np.empty((len(sizes), len(SEEDS), len(WEIGHTS)))
    for j, seed in enumerate(SEEDS):
        X, Y, truth, _ = datasets.make_rnn(4000, 25, 6, 3, 3, random_state=seed)
        for i, n in enumerate(sizes):
            est = fit(X[:n], Y[:n], 3)
            errors[i, j] = size_of(metrics.weight_errors(est.model_, truth))
    slopes = np.polyfit(np.log(sizes), np.log(errors).mean(axis=1), 1)[0]
    np.testing.assert_allclose(slopes, -0.5, atol=SLOPE)


@pytest.mark.parametrize("law", ["laplace", "t5", "exponential", "switching", "tanh"])
def test_recovery_does_not_depend_on_the_law_of_the_inputs(law):
    for seed in SEEDS:
        truth = datasets.random_rnn(10, 5, 5, random_state=seed)
        X = datasets.make_inputs(law, 1000, 50, 10, random_state=seed)
        Y = truth.simulate(X, noise=0.1, random_state=seed)
        est, smallest = fit(X, Y, 5), smallest_loss(X, Y, truth, "threads")
        assert float(np.sum(est.report_.refined_rmse**2)) < (1 + LOSS_TOLERANCE) * smallest


def test_predicted_standard_errors_are_those_seen():
    squares = []
    for seed in range(12):
        X, Y, truth, _ = datasets.make_rnn(500, 20, 5, 2, 3, random_state=100)
        Y = truth.simulate(X, noise=0.1, random_state=seed)
        est = fit(X, Y, 2)
        aligned = metrics.align(est.model_, truth)
        z = [
            (getattr(aligned.model, name) - getattr(aligned.truth, name))
            / est.report_.standard_errors[name][aligned.order]
            for name in ("input_weights", "output_weights")
        ]
        U = est.report_.standard_errors["recurrent_weights"]
        U = U[np.ix_(aligned.order, aligned.order)]
        z.append((aligned.model.recurrent_weights - aligned.truth.recurrent_weights) / U)
        squares.append([np.mean(each**2) for each in z])
    np.testing.assert_allclose(np.mean(squares, axis=0), 1.0, atol=MEAN_SQUARE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_number_of_units_is_found(seed):
    X, Y, truth, _ = datasets.make_rnn(2000, 50, 8, 4, 5, random_state=seed)
    assert fit(X, Y, None).model_.n_hidden == truth.n_hidden


@pytest.mark.parametrize("seed", SEEDS)
def test_cubic_networks_are_recovered(seed):
    X, Y, truth, _ = datasets.make_rnn(
        2000, 20, 5, 3, 3, degree=3, recurrence_norm=0.02, random_state=seed
    )
    est, smallest = fit(X, Y, 3, activation="cubic"), smallest_loss(X, Y, truth, "threads")
    assert float(np.sum(est.report_.refined_rmse**2)) < (1 + LOSS_TOLERANCE) * smallest
