"""The range finder and the coordinates of a first moment."""

from dataclasses import replace
from math import factorial

import numpy as np
import pytest
from helpers.batches import merged
from helpers.generators import MONOMIALS, forward_network, memoryless
from helpers.tensors import rank_one_sum

from gloree.chains import GaussianVAR
from gloree.engine import MergeError
from gloree.moments import (
    Coordinates,
    RangeSums,
    Whitening,
    range_basis,
    range_sums,
    score_coordinates,
)
from gloree.sequences import as_sequences

# Sums of some hundred products of numbers near 1.
ALGEBRA = 1e-10

# Projectors on a space whose basis has a condition of about 1e2, from columns exact to rounding.
PROJECTORS = 1e-9


def projector(rows):
    basis = np.linalg.qr(rows.T)[0]
    return basis @ basis.T


def population_sums(A1, A2, weights, probes):
    """Sums whose mean is exact: E[(w.y) S_2] Omega = 2 sum_i (w.A2_i) a_i a_i^T Omega."""
    n_rows = 1000.0
    moments = 2 * np.einsum("ia,aw,ip,iq->wpq", A2, weights, A1, A1)
    means = np.random.default_rng(0).standard_normal(weights.shape[1])
    products = moments @ probes + means[:, None, None] * probes
    return RangeSums(n_rows, n_rows * products, n_rows * means)


@pytest.mark.parametrize("seed", range(5))
def test_space_of_the_input_weights_from_exact_moments(seed):
    rng = np.random.default_rng(seed)
    A1, A2 = rng.standard_normal((6, 40)), rng.standard_normal((6, 3))
    probes = rng.standard_normal((40, 8))
    sums = population_sums(A1, A2, rng.standard_normal((3, 2)), probes)
    basis = range_basis(sums.finalize(probes), 6)
    assert basis.shape == (40, 6)
    np.testing.assert_allclose(basis @ basis.T, projector(A1), rtol=0, atol=PROJECTORS)


def test_one_output_is_enough_for_the_space():
    """A single slice leaves a rotation free, not the space."""
    rng = np.random.default_rng(1)
    A1 = rng.standard_normal((4, 30))
    probes = rng.standard_normal((30, 6))
    sums = population_sums(A1, rng.standard_normal((4, 1)), np.ones((1, 1)), probes)
    basis = range_basis(sums.finalize(probes), 4)
    np.testing.assert_allclose(basis @ basis.T, projector(A1), rtol=0, atol=PROJECTORS)


def sums_of(data, probes, **cut):
    return merged(
        range_sums(batch, lambda b: b.X, lambda b: b.targets, probes)
        for batch in data.batches(**cut)
    )


def test_range_sums_equal_the_naive_stein_average():
    """sum (w.y) (s s^T - I) Omega, one row at a time; context rows do not count."""
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((23, 5)), rng.standard_normal((23, 2))
    probes = rng.standard_normal((5, 3))
    expected = np.zeros((2, 5, 3))
    for x, y in zip(X, Y, strict=True):
        expected += y[:, None, None] * ((np.outer(x, x) - np.eye(5)) @ probes)
    expected = np.concatenate(list(expected / 23), axis=1)
    data = as_sequences(X, Y)
    for cut in ({}, {"batch_size": 5, "segment": 4, "before": 2, "after": 1}):
        found = sums_of(data, probes, **cut)
        assert found.n_rows == 23
        np.testing.assert_allclose(found.finalize(probes), expected, rtol=0, atol=ALGEBRA)


def test_weights_of_range_sums_count_as_repetitions():
    rng = np.random.default_rng(2)
    X, Y, times = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), np.arange(1, 10)
    probes = rng.standard_normal((3, 2))
    weighted = replace(as_sequences(X, Y).whole(), weights=times.astype(float))
    expected = as_sequences(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0)).whole()
    found, other = (
        range_sums(batch, lambda b: b.X, lambda b: b.targets, probes)
        for batch in (weighted, expected)
    )
    assert found.n_rows == other.n_rows
    np.testing.assert_allclose(found.finalize(probes), other.finalize(probes), atol=ALGEBRA)


def test_merge_error_names_the_probes():
    rng = np.random.default_rng(3)
    data = as_sequences(rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))
    with pytest.raises(MergeError, match="RangeSums: `products` has shape"):
        sums_of(data, np.eye(3)).merge(sums_of(data, np.eye(3)[:, :2]))


def make_model(degree):
    return memoryless(forward_network(4, 3, seed=degree, activation=MONOMIALS[degree]))


def make_coordinates():
    rng = np.random.default_rng(4)
    factor = np.eye(4) + 0.4 * rng.standard_normal((4, 4))
    covariance = factor @ factor.T
    return covariance, {
        "whitening": Coordinates.of_whitening(Whitening.from_covariance(np.ones(4), covariance)),
        "score": score_coordinates(covariance),
    }


@pytest.mark.parametrize("name", ["whitening", "score"])
@pytest.mark.parametrize("degree", [2, 3])
def test_model_tensor_is_the_moment_in_these_coordinates(name, degree):
    coordinates = make_coordinates()[1][name]
    model = make_model(degree)
    components = coordinates.components(model)
    np.testing.assert_allclose(
        components @ coordinates.to_inputs, model.input_weights, rtol=0, atol=ALGEBRA
    )
    expected = factorial(degree) * 1.5 * rank_one_sum(model.output_weights, components, degree)
    np.testing.assert_allclose(
        coordinates.model_tensor(model, degree, 1.5), expected, rtol=0, atol=ALGEBRA
    )


def test_score_coordinates_makes_the_score_white():
    """The projection of a score moment is `from_inputs`: V^T K V = I."""
    covariance, coordinates = make_coordinates()
    V = coordinates["score"].from_inputs
    np.testing.assert_allclose(V.T @ covariance @ V, np.eye(4), rtol=0, atol=ALGEBRA)


def test_score_moment_of_the_projected_score_is_the_moment_in_its_coordinates():
    """Contracting T with `from_inputs` equals the tensor of the components."""
    chain = GaussianVAR(0.4 * np.eye(4), make_coordinates()[0])
    coordinates = score_coordinates(chain.precision_blocks(0)[0])
    model = make_model(2)
    T = 2 * rank_one_sum(model.output_weights, model.input_weights, 2)
    V = coordinates.from_inputs
    np.testing.assert_allclose(
        np.einsum("apq,pP,qQ->aPQ", T, V, V), coordinates.model_tensor(model, 2, 1.0), atol=ALGEBRA
    )
