"""What outputs in unlike units cost: against exact covariances, and what a fit says of it."""

import warnings

import numpy as np
import pytest
from helpers import naive
from helpers.differences import by_weights
from helpers.generators import forward_network
from scipy.linalg import null_space

from gloree import SpectralRNNRegressor, datasets
from gloree.diagnostics import ScaleWarning
from gloree.engine import Engine, Source
from gloree.refinement import Layout, most_to_lose, weighting_loss
from gloree.sequences import as_sequences

# central differences with a step of 1e-5, through inverses of condition 1e4 at most
DIFFERENCE, STEP = 1e-4, 1e-5
ENGINE = Engine("serial")
UNITS = np.array([1.0, 1000.0, 0.001, 30.0])


def jacobian(model, layout, X):
    """Derivatives of all predictions, (n_rows, n_outputs, size)."""

    def predictions(moved):
        return np.concatenate([naive.predictions(moved, x) for x in X])

    return by_weights(predictions, model, layout, STEP)


@pytest.mark.parametrize("correlated", [False, True])
def test_loss_is_the_ratio_of_the_covariances_of_least_squares(correlated):
    """tr V of ordinary over that of generalised least squares, V from the Jacobian itself."""
    rng = np.random.default_rng(0)
    model, layout = forward_network(3, 2, 3, seed=1), Layout(3, 2, 3)
    X = rng.standard_normal((60, 4, 3))
    root = np.diag([0.3, 1.0, 4.0]) @ (np.eye(3) + 0.5 * correlated * np.tri(3, k=-1))
    covariance = root @ root.T
    J = jacobian(model, layout, X)
    # changes that keep the lengths of the rows of A1
    Z = null_space(layout.scale_constraints(model))
    H, M, W = (
        Z.T @ np.einsum("tap,ab,tbq->pq", J, metric, J) @ Z
        for metric in (np.eye(3), covariance, np.linalg.inv(covariance))
    )
    inverse = np.linalg.inv(H)
    equal, best = Z @ inverse @ M @ inverse @ Z.T, Z @ np.linalg.inv(W) @ Z.T
    own = layout.indices["input_weights"].ravel()
    expected = np.trace(equal[np.ix_(own, own)]) / np.trace(best[np.ix_(own, own)])
    source = Source(as_sequences(X, np.zeros((60, 4, 3))))
    found = weighting_loss(model, layout, ENGINE, source, covariance)
    np.testing.assert_allclose(found, expected, rtol=DIFFERENCE)
    assert 1.0 < found < most_to_lose(covariance)


def test_nothing_is_lost_where_residuals_are_alike():
    model, layout = forward_network(3, 2, 3, seed=1), Layout(3, 2, 3)
    X = np.random.default_rng(0).standard_normal((60, 4, 3))
    source = Source(as_sequences(X, np.zeros((60, 4, 3))))
    found = weighting_loss(model, layout, ENGINE, source, 4.0 * np.eye(3))
    np.testing.assert_allclose(found, 1.0, rtol=1e-9)


def test_the_bound_is_that_of_kantorovich():
    assert most_to_lose(np.diag([1.0, 1.0])) == 1.0
    np.testing.assert_allclose(most_to_lose(np.diag([1.0, 9.0, 4.0])), 100 / 36)
    assert most_to_lose(np.diag([0.0, 1.0])) == np.inf


def simulate(seed, units, noise=0.2):
    """Noise in proportion to the size of each output."""
    X, Y, _, _ = datasets.make_rnn(500, 10, 5, 3, 4, noise=0.0, random_state=seed)
    draw = np.random.default_rng([seed, 1]).standard_normal(Y.shape)
    return X, (Y + noise * Y.std(axis=(0, 1)) * draw) * units


def fitted(X, Y, weights="equal"):
    est = SpectralRNNRegressor(3, random_state=0, engine="serial", output_weights=weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est.fit(X, Y)
    return est, [str(each.message) for each in caught if each.category is ScaleWarning]


@pytest.mark.slow
def test_outputs_in_unlike_units_are_named_and_the_remedy_works():
    for seed in range(2):
        X, Y = simulate(seed, UNITS)
        est, found = fitted(X, Y)
        assert len(found) == 1
        assert found[0].startswith("the outputs have very different residual sizes (0.000")
        again, nothing = fitted(X, Y, "residuals")
        assert nothing == []
        sizes = [
            np.linalg.norm(each.report_.standard_errors["input_weights"]) for each in (est, again)
        ]
        said = float(found[0].split("weights are ")[1].split()[0])
        # the network of the second fit is another one, and its standard errors are robust ones
        assert said == pytest.approx(sizes[0] / sizes[1], rel=0.25)
        assert said > 3.0
        assert said == pytest.approx(np.sqrt(1 / est.report_.output_weighting.gain), rel=0.01)


@pytest.mark.slow
def test_outputs_of_like_residuals_are_not_named():
    for units in (np.ones(4), np.array([1.0, 2.0, 1.0, 1.5])):
        X, Y = simulate(2, units)
        assert fitted(X, Y)[1] == []


@pytest.mark.slow
def test_outputs_without_noise_are_not_named():
    X, Y = simulate(3, UNITS, noise=0.0)
    options = {"refine": "full", "output_weights": "equal", "engine": "serial"}
    est = SpectralRNNRegressor(3, random_state=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        est.fit(X, Y)
