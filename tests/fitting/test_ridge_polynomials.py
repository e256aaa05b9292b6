"""Ridge polynomials in the metric of the data: coefficients, slopes, and what is recovered."""

from functools import partial

import numpy as np
import pytest
from helpers.comparisons import assert_close

from gloree._monomials import symmetric_powers
from gloree.engine import Engine, Source
from gloree.fitting._derivatives import Derivatives, Features, Neighbours, polynomial_sums
from gloree.fitting._ridge_polynomials import RidgePowers, best_ridges, fit_ridges
from gloree.moments import Whitening
from gloree.sequences import as_sequences

ALGEBRA = 1e-11
# algebra: central differences with a step of 1e-6 of polynomials of degree three
DIFFERENCE, STEP = 1e-7, 1e-6


def test_coefficients_are_those_of_powers_of_a_product():
    rng = np.random.default_rng(0)
    powers, A, v = RidgePowers(4, 3), rng.standard_normal((3, 4)), rng.standard_normal((20, 4))
    columns = np.ascontiguousarray(v.T)
    phi = np.concatenate([symmetric_powers(columns, m) for m in (1, 2, 3)])
    found = np.einsum("pmi,pn->nmi", powers.coefficients(A), phi)
    for m in (1, 2, 3):
        assert_close(found[:, m - 1], (v @ A.T) ** m, ALGEBRA)


def test_slopes_are_the_differences_of_coefficients():
    rng = np.random.default_rng(1)
    powers, A = RidgePowers(3, 3), rng.standard_normal((2, 3))
    root = rng.standard_normal((7, 19))
    slopes = powers.slopes(root, A)
    for i in range(2):
        for j in range(3):
            step = np.zeros_like(A)
            step[i, j] = STEP
            change = (powers.coefficients(A + step) - powers.coefficients(A - step)) / (2 * STEP)
            expected = np.einsum("rp,pm->mr", root, change[:, :, i])
            np.testing.assert_allclose(slopes[:, i, :, j], expected, atol=DIFFERENCE)


def derivatives(X, Y):
    mean = X.mean(axis=(0, 1))
    d = X.shape[2]
    features = Features(
        Whitening(mean, np.eye(d), np.eye(d)), 3, Neighbours(d, past=False), np.zeros(Y.shape[2])
    )
    sums = Engine("serial").run(
        partial(polynomial_sums, features=features), Source(as_sequences(X, Y))
    )
    return Derivatives.of(features, sums)


@pytest.mark.parametrize("values", [(-1.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0)])
def test_units_of_inputs_of_few_values_are_recovered_from_exact_polynomials(values):
    """Noise of 1e-6: directions of a sum of ridge polynomials, as far as a descent goes."""
    rng = np.random.default_rng(2)
    X = rng.choice(values, size=(500, 8, 6))
    A = rng.standard_normal((3, 6))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    W = rng.standard_normal((3, 3, 4))
    u = (X - X.mean(axis=(0, 1))) @ A.T
    Y = sum((u**m) @ W[m - 1] for m in (1, 2, 3)) + 1e-6 * rng.standard_normal((500, 8, 4))
    found = derivatives(X, Y)
    assert found.collinear is (len(values) == 2)
    start = rng.standard_normal((3, 6))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    best = best_ridges(found, start, rng, 6)
    cosines = np.abs(best.directions @ A.T)
    np.testing.assert_allclose(cosines.max(axis=1), 1.0, atol=1e-6)
    assert sorted(cosines.argmax(axis=1)) == [0, 1, 2]


def test_no_step_gives_the_least_squares_loadings_of_the_directions_given():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((300, 5, 3))
    A = np.eye(3)[:2]
    Y = (X @ A.T) @ rng.standard_normal((2, 2)) + 0.1 * rng.standard_normal((300, 5, 2))
    found = derivatives(X, Y)
    fitted = fit_ridges(found, A, max_steps=0)
    np.testing.assert_array_equal(fitted.directions, A)
    features = np.einsum("rp,pmi->rmi", found.root, RidgePowers(3, 3).coefficients(A))
    target = found.root @ (found.coefficients / found.scale)
    W = np.linalg.lstsq(features.reshape(len(target), -1), target, rcond=None)[0]
    assert_close(fitted.loadings.reshape(-1, 2), W, 1e-8)
    assert fit_ridges(found, A).error <= fitted.error
