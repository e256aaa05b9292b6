"""Average derivatives of a polynomial regression: by quadrature, loops and full regressions."""

from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import pytest
from helpers.comparisons import assert_close

from gloree._monomials import n_monomials
from gloree.engine import Engine, Source
from gloree.fitting._derivatives import (
    Derivatives,
    Features,
    Neighbours,
    polynomial_sums,
    tensors_of,
)
from gloree.moments import Whitening
from gloree.sequences import as_sequences

ENGINE = Engine("serial")
# algebra: normal equations of condition 1e4 at most
ALGEBRA = 1e-8
D, Q = 3, 2


def plain(d, mean=None):
    """No whitening at all."""
    return Whitening(np.zeros(d) if mean is None else mean, np.eye(d), np.eye(d))


def polynomial(coefficients, v, degree):
    """Sum of coefficients times monomials, as a loop."""
    values, place = np.zeros((len(v), coefficients.shape[1])), 0
    for m in range(1, degree + 1):
        for index in combinations_with_replacement(range(v.shape[1]), m):
            values += np.prod(v[:, list(index)], axis=1)[:, None] * coefficients[place]
            place += 1
    return values


def gaussian_nodes(d, n):
    """Nodes and weights of the standard normal law."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*[points] * d)], axis=1)
    mass = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[weights] * d)], axis=1), axis=1)
    return mesh, mass / mass.sum()


def test_average_derivatives_of_a_polynomial_are_those_of_quadrature():
    """E[grad^m p(v)] for v ~ N(0, 1), by E[p(v) He_m(v)] (Stein's identity) on Hermite nodes."""
    rng = np.random.default_rng(0)
    size = sum(n_monomials(D, m) for m in (1, 2, 3))
    B = rng.standard_normal((size, Q))
    v, mass = gaussian_nodes(D, 5)
    p = polynomial(B, v, 3)
    eye = np.eye(D)
    first = np.einsum("n,na,ni->ai", mass, p, v)
    second = np.einsum("n,na,ni,nj->aij", mass, p, v, v)
    second -= np.einsum("n,na,ij->aij", mass, p, eye)
    third = np.einsum("n,na,ni,nj,nk->aijk", mass, p, v, v, v)
    for pattern in ("ai,jk->aijk", "aj,ik->aijk", "ak,ij->aijk"):
        third -= np.einsum(pattern, first, eye)
    for found, expected in zip(tensors_of(B, D, 3), (first, second, third), strict=True):
        assert_close(found, expected, ALGEBRA)


def data(seed, lengths=(9, 4, 7, 12, 5)):
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, D)) for n in lengths]
    Y = [
        np.tanh(x @ rng.standard_normal((D, Q))) + 0.1 * rng.standard_normal((len(x), Q)) for x in X
    ]
    return X, Y


def rows_by_a_loop(X, Y, mean, *, ahead=False, outputs=True, leads=0, lags=1):
    """Controls, whitened inputs and outputs of every step, one after the other."""
    controls, inputs, targets = [], [], []
    for x, y in zip(X, Y, strict=True):
        y = y - mean
        for t in range(len(x) - leads):
            row = [1.0, float(t == 0), *(x[t - 1] if t else np.zeros(D))]
            if ahead:
                last = t == len(x) - 1
                row += [float(last), *(np.zeros(D) if last else x[t + 1])]
            if outputs:
                row += list(y[t - 1] if t else np.zeros(Q))
            for lead in range(1, leads + 1):
                row += list(x[t + lead])
            controls.append(row)
            inputs.append(x[t])
            targets.append(np.concatenate([y[t + lead] for lead in range(leads + 1)]))
    return np.array(controls), np.array(inputs), np.array(targets)


@pytest.mark.parametrize(
    "options", [{}, {"ahead": True, "outputs": False}, {"leads": 1}, {"leads": 2}], ids=str
)
def test_rows_are_those_of_a_loop_over_steps(options):
    X, Y = data(1)
    mean = np.array([0.3, -0.2])
    features = Features(plain(D), 3, Neighbours(D, past=True, **options), mean)
    parts = ENGINE.collect(features.rows_of, Source(as_sequences(X, Y), batch_size=11))
    v, controls, y = (
        np.concatenate([part[i].T if i == 1 else part[i] for part in parts]) for i in range(3)
    )
    for found, expected in zip(
        (controls, v, y), rows_by_a_loop(X, Y, mean, **options), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def full_regression(controls, v, y):
    """Least squares on controls and all monomials at once."""
    phi = [controls]
    for m in (1, 2, 3):
        for index in combinations_with_replacement(range(v.shape[1]), m):
            phi.append(np.prod(v[:, list(index)], axis=1)[:, None])
    phi = np.hstack(phi)
    found, _, rank, _ = np.linalg.lstsq(phi, y, rcond=1e-12)
    residual = y - phi @ found
    return found, np.sqrt(np.sum(residual**2, axis=0) / (len(y) - rank))


@pytest.mark.parametrize("linear", [True, False])
def test_coefficients_are_those_of_the_full_regression(linear):
    X, Y = data(2, lengths=(60, 45, 80))
    mean = np.zeros(Q)
    features = Features(plain(D), 3, Neighbours(D, past=True), mean, linear=linear)
    sums = ENGINE.run(partial(polynomial_sums, features=features), Source(as_sequences(X, Y)))
    found = Derivatives.of(features, sums)
    controls, v, y = rows_by_a_loop(X, Y, mean)
    expected, scale = full_regression(controls, v, y)
    own = expected[controls.shape[1] :]
    if not linear:
        assert not found.coefficients[:D].any()
        own = np.concatenate([np.zeros((D, Q)), own[D:]])
    assert_close(found.coefficients, own, ALGEBRA)
    assert_close(found.scale, scale, ALGEBRA)
    # R^T R is the Gram matrix of what the controls leave of the monomials
    phi = [np.prod(v[:, list(i)], axis=1) for m in (1, 2, 3)
           for i in combinations_with_replacement(range(D), m)]  # fmt: skip
    phi = np.array(phi).T
    beside = controls if linear else np.hstack([controls, v])
    left = phi - beside @ np.linalg.lstsq(beside, phi, rcond=None)[0]
    assert_close(found.root.T @ found.root, left.T @ left / len(v), ALGEBRA)


def test_any_split_of_the_data_gives_the_same_sums():
    X, Y = data(3)
    features = Features(plain(D), 2, Neighbours(D, past=True), np.zeros(Q))
    function = partial(polynomial_sums, features=features)
    source = Source(as_sequences(X, Y))
    whole = function(source.read(source.as_subset().segments))
    segments = source.as_subset().segments
    parts = [function(source.read(segments[i : i + 1])) for i in range(len(segments))]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    for name in ("gram", "cross", "squares"):
        assert_close(getattr(merged, name), getattr(whole, name), 1e-12)


def test_binary_inputs_have_dependent_monomials_and_continuous_ones_have_not():
    rng = np.random.default_rng(4)
    for X, collinear in (
        (rng.choice((-1.0, 1.0), size=(60, 10, D)), True),
        (np.eye(D)[rng.integers(D, size=(60, 10))], True),
        (rng.standard_normal((60, 10, D)), False),
    ):
        Y = rng.standard_normal((60, 10, Q))
        mean = X.mean(axis=(0, 1))
        features = Features(plain(D, mean), 3, Neighbours(D, past=True), np.zeros(Q))
        sums = ENGINE.run(partial(polynomial_sums, features=features), Source(as_sequences(X, Y)))
        found = Derivatives.of(features, sums)
        assert found.collinear is collinear
        assert np.isfinite(found.coefficients).all()


def test_noise_has_no_nonlinear_gain_and_a_square_has():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((400, 5, D))
    scores = []
    for Y in (X[..., :Q] + rng.standard_normal((400, 5, Q)), X[..., :Q] + X[..., :Q] ** 2):
        features = Features(plain(D), 3, Neighbours(D, past=False), np.zeros(Q))
        sums = ENGINE.run(
            partial(polynomial_sums, features=features),
            Source(as_sequences(X, Y + 0.1 * rng.standard_normal(Y.shape))),
        )
        scores.append(Derivatives.of(features, sums).nonlinearity)
    # standard deviations of chance: the first is noise
    assert scores[0] < 5.0 < scores[1]


def test_slices_of_a_ridge_function_are_multiples_of_its_direction():
    """y = f(a . v): every slice of T_2 and T_3 is a multiple of a a^T."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((4000, 5, D))
    a = np.array([0.6, -0.8, 0.0])
    Y = np.tanh(X @ a + 0.4)[..., None] * np.ones(Q)
    features = Features(plain(D), 3, Neighbours(D, past=False), np.zeros(Q))
    sums = ENGINE.run(partial(polynomial_sums, features=features), Source(as_sequences(X, Y)))
    slices, scale = Derivatives.of(features, sums).slices
    assert slices.shape == (Q + Q * D, D, D)
    assert scale.shape == (Q + Q * D,)
    for block in (slices[:Q], slices[Q:]):
        along = np.einsum("sij,i,j->s", block, a, a)
        left = block - along[:, None, None] * np.outer(a, a)
        # statistics: 20,000 rows, four standard errors of an entry
        assert np.abs(left).max() < 4.0 * 3.0 / np.sqrt(20_000)
