"""Regression moments: least squares on explicitly built features, and the derivative of the fit."""

import warnings
from dataclasses import replace
from itertools import combinations_with_replacement, product
from math import factorial

import numpy as np
import pytest
from helpers.batches import merged
from helpers.comparisons import assert_same_sums
from helpers.generators import stable_chain, whitening_of
from helpers.tensors import rank_one_sum

from gloree.chains import GaussianVAR
from gloree.engine import MergeError
from gloree.moments import (
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    regression_moment,
    regression_sums,
)
from gloree.sequences import as_sequences

# Normal equations square the condition of the features (below 1e3 here): 1e6 eps, and some.
NORMAL_EQUATIONS = 1e-8
# Differences of a polynomial at unit distance: its values, of order 1e2, times eps.
DIFFERENCES = 1e-10
# Sums of some hundred products of numbers near 1.
ALGEBRA = 1e-10
# Singular values of collinear features, relative to the largest, are rounding.
COLLINEAR = 1e-7

LENGTHS = (25, 40, 1, 2, 30, 12, 50)


def make_data(chain):
    rng = np.random.default_rng(1)
    X = [chain.sample(1, n, random_state=rng)[0] for n in LENGTHS]
    return X, [rng.standard_normal((len(x), 2)) + x[:, :1] ** 2 for x in X]


def make_features(kind, degree, chain, X):
    return RegressionFeatures(whitening_of(X), degree, chain if kind == "union" else None)


def monomials(vector, degree):
    return [
        np.prod([vector[i] for i in index])
        for m in range(1, degree + 1)
        for index in combinations_with_replacement(range(len(vector)), m)
    ]


def explicit_design(features, chain, X, Y):
    """One Python list of features for each row, straight from the definition."""
    whitening, design, outputs = features.whitening, [], []
    before, after = chain.context if features.chain is not None else (0, 0)
    inverse = np.linalg.inv(whitening.matrix)
    K = chain.precision_blocks(0)[0]
    root = np.linalg.cholesky(inverse.T @ K @ inverse)
    for x, y in zip(X, Y, strict=True):
        scores = chain.scores(as_sequences(x).whole())
        for t in range(len(x)):
            if t < before or t >= len(x) - after:
                continue
            row = [1.0]
            if features.chain is None:
                row += [float(t == 0), float(t == len(x) - 1)]
            row += monomials(whitening.matrix @ (x[t] - whitening.mean), features.degree)
            if features.chain is not None:
                row += monomials(np.linalg.solve(root, inverse.T @ scores[t]), features.degree)
            design.append(row)
            outputs.append(y[t])
    return np.array(design), np.array(outputs)


KINDS = [("xreg", 2), ("union", 2), ("xreg", 3), ("union", 3)]


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize(("kind", "degree"), KINDS)
def test_coefficients_are_least_squares_on_the_features(kind, degree, var_order):
    chain = stable_chain(degree, 2, var_order)
    X, Y = make_data(chain)
    features = make_features(kind, degree, chain, X)
    design, outputs = explicit_design(features, chain, X, Y)
    assert features.size == design.shape[1]
    sums = regression_sums(as_sequences(X, Y).whole(), features)
    solver = RegressionSolver.from_sums(features, sums)
    expected = np.linalg.lstsq(design, outputs, rcond=None)[0]
    assert solver.rank == features.size
    assert sums.n_rows == len(design)
    np.testing.assert_allclose(solver.coefficients(sums), expected, rtol=0, atol=NORMAL_EQUATIONS)
    left = np.mean((outputs - design @ expected) ** 2, axis=0)
    np.testing.assert_allclose(solver.residual_variance(sums), left, rtol=NORMAL_EQUATIONS)


@pytest.mark.parametrize(("kind", "degree"), KINDS)
def test_sums_equal_the_explicit_gram(kind, degree):
    chain = stable_chain(5, 2)
    X, Y = make_data(chain)
    features = make_features(kind, degree, chain, X)
    design, outputs = explicit_design(features, chain, X, Y)
    batch = as_sequences(X, Y).whole()
    sums = regression_sums(batch, features)
    for actual, expected in (
        (sums.gram, design.T @ design),
        (sums.cross, design.T @ outputs),
        (sums.squares, np.sum(outputs**2, axis=0)),
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=ALGEBRA * np.abs(expected).max())
    without = regression_sums(batch, features, gram=False)
    assert without.gram.shape == (0, 0)
    np.testing.assert_array_equal(without.cross, sums.cross)


def fitted_value(features, coefficients, batch, row, displacement):
    """Value of the fit at one row with x_t displaced (in whitened coordinates)."""
    X = batch.X.copy()
    X[row] += features.whitening.inverse @ displacement
    moved = replace(batch, X=X)
    phi = features.evaluate(moved, np.array([row]), features.whitened_scores(moved))
    return phi[:, 0] @ coefficients


@pytest.mark.parametrize(("kind", "degree"), KINDS)
def test_tensor_is_the_derivative_of_the_fit(kind, degree):
    """Differences of order l of a polynomial of degree l are its derivative, at every row."""
    chain = stable_chain(6, 2)
    X, Y = make_data(chain)
    batch = as_sequences(X, Y).whole()
    features = make_features(kind, degree, chain, X)
    sums = regression_sums(batch, features)
    solver = RegressionSolver.from_sums(features, sums)
    coefficients = solver.coefficients(sums)
    expected = np.zeros_like(solver.tensor(sums))
    unit = np.eye(2)
    rows = [5, 30]
    for row in rows:
        for index in product(range(2), repeat=degree):
            for corner in product((0, 1), repeat=degree):
                where = sum(c * unit[i] for c, i in zip(corner, index, strict=True))
                sign = (-1) ** (degree - sum(corner))
                expected[(slice(None), *index)] += sign * fitted_value(
                    features, coefficients, batch, row, where
                )
    expected /= len(rows)
    scale = np.abs(expected).max() + np.abs(coefficients).max() * 10**degree
    np.testing.assert_allclose(solver.tensor(sums), expected, rtol=0, atol=DIFFERENCES * scale)


@pytest.mark.parametrize("kind", ["xreg", "union"])
@pytest.mark.parametrize("degree", [2, 3])
def test_exact_without_recurrence_for_any_inputs(kind, degree):
    """y_t is a polynomial of x_t: it lies in the span of the features, whatever the law is."""
    rng = np.random.default_rng(7)
    chain = stable_chain(7, 3)
    X = [rng.exponential(size=(n, 3)) for n in (60, 80, 40)]
    A1, A2, b = rng.standard_normal((2, 3)), rng.standard_normal((2, 2)), rng.standard_normal(2)
    Y = [(x @ A1.T + b) ** degree @ A2 for x in X]
    expected = factorial(degree) * rank_one_sum(A2, A1, degree)
    found = regression_moment(X, Y, degree, chain=chain if kind == "union" else None)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=NORMAL_EQUATIONS * np.abs(expected).max()
    )


def test_moment_does_not_depend_on_the_coordinates_of_the_inputs():
    """x -> M x + m turns T into T(M^-1, M^-1)."""
    X, Y = make_data(stable_chain(8, 2))
    M = np.array([[2.0, 0.5], [-0.3, 0.7]])
    inverse = np.linalg.inv(M)
    moved = [x @ M.T + [3.0, -1.0] for x in X]
    expected = np.einsum("apq,pP,qQ->aPQ", regression_moment(X, Y), inverse, inverse)
    np.testing.assert_allclose(
        regression_moment(moved, Y), expected, rtol=0, atol=NORMAL_EQUATIONS * 10
    )


@pytest.mark.parametrize(("kind", "degree"), KINDS)
def test_pieces_with_context_equal_whole_sequences(kind, degree):
    chain = stable_chain(9, 2, 2)
    X, Y = make_data(chain)
    data = as_sequences(X, Y)
    features = make_features(kind, degree, chain, X)
    whole = regression_sums(data.whole(), features)
    before, after = chain.context
    pieces = data.batches(10, segment=7, before=before, after=after)
    total = merged(regression_sums(batch, features) for batch in pieces)
    assert_same_sums(total, whole, ALGEBRA)


def test_singular_gram_takes_the_minimum_norm_fit():
    """Few distinct tokens: features are collinear; scaled to unit mean square, the smallest fit."""
    rng = np.random.default_rng(10)
    tokens = rng.standard_normal((5, 3))
    x = tokens[rng.integers(5, size=200)]
    y = rng.standard_normal((200, 2))
    features = RegressionFeatures(whitening_of([x]), 2)
    sums = regression_sums(as_sequences(x, y).whole(), features)
    solver = RegressionSolver.from_sums(features, sums)
    whitened = features.whitening(x)
    ends = np.zeros((200, 2))
    ends[0, 0] = ends[-1, 1] = 1.0
    design = np.column_stack((np.ones(200), ends, [monomials(row, 2) for row in whitened]))
    scale = np.sqrt(np.mean(design**2, axis=0))
    expected = np.linalg.lstsq(design / scale, y, rcond=COLLINEAR)[0] / scale[:, None]
    assert solver.rank == np.linalg.matrix_rank(design) == 7 < features.size
    np.testing.assert_allclose(solver.coefficients(sums), expected, rtol=0, atol=NORMAL_EQUATIONS)


def test_feature_that_never_varies_gets_no_weight():
    """Sums without any first or last step: their columns are zero."""
    x = np.random.default_rng(11).standard_normal((100, 2))
    data = as_sequences(x, x[:, :1] ** 2)
    features = RegressionFeatures(whitening_of([x]), 2)
    inner = list(data.batches(1, segment=20))[1:-1]
    sums = merged(regression_sums(batch, features) for batch in inner)
    solver = RegressionSolver.from_sums(features, sums)
    assert solver.rank == features.size - 2
    assert np.all(solver.coefficients(sums)[1:3] == 0.0)
    T = solver.tensor(sums)
    M = features.whitening.inverse
    expected = 2 * np.outer(M[0], M[0])
    np.testing.assert_allclose(T[0], expected, rtol=0, atol=NORMAL_EQUATIONS)


@pytest.mark.parametrize("kind", ["xreg", "union"])
def test_weights_count_as_repetitions(kind):
    chain = stable_chain(12, 2, 1)
    X, Y = make_data(chain)
    features, times = make_features(kind, 2, chain, X), [1, 3, 2, 1, 2, 1, 4]
    weighted = as_sequences(X, Y).whole()
    weighted = replace(weighted, weights=np.repeat(np.array(times, dtype=float), LENGTHS))
    repeated = [i for i, n in enumerate(times) for _ in range(n)]
    expected = as_sequences([X[i] for i in repeated], [Y[i] for i in repeated]).whole()
    assert_same_sums(
        regression_sums(weighted, features), regression_sums(expected, features), ALGEBRA
    )


UNTOLD = {
    "a constant column": lambda x: np.column_stack((x, np.ones(len(x)))),
    "a column twice": lambda x: np.column_stack((x, x[:, :1])),
    "signs, whose squares are one": lambda x: np.sign(x),
    "three values, and a moment of order three": lambda x: np.clip(np.round(x), -1, 1),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_moments_that_the_inputs_do_not_determine_are_said_to_be_so(kind):
    x = np.random.default_rng(3).standard_normal((400, 2))
    order = 3 if "three" in kind else 2
    inputs, y = UNTOLD[kind](x), x[:, :1] * x[:, 1:]
    with pytest.warns(RuntimeWarning, match=f"not determine the derivatives of order {order}") as w:
        regression_moment(inputs, y, order)
    assert w[0].filename == __file__


def test_features_that_are_one_another_do_not_matter_where_the_moment_is_determined():
    """Scores of independent normal steps are the inputs again; single steps are first and last."""
    x = np.random.default_rng(3).standard_normal((400, 1, 2))
    y = x[..., :1] * x[..., 1:]
    expected = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chain in (None, GaussianVAR(np.zeros((0, 2, 2)), np.eye(2))):
            found = regression_moment(x, y, 2, chain=chain)
            np.testing.assert_allclose(found, expected, atol=NORMAL_EQUATIONS)


def test_union_leaves_the_ends_out():
    chain = stable_chain(12, 2, 2)
    X, Y = make_data(chain)
    data = as_sequences(X, Y)
    features = make_features("union", 2, chain, X)
    rows = features.rows(data.whole())
    batch = data.whole()
    assert np.all(batch.steps_before[rows] >= 2)
    assert np.all(batch.steps_after[rows] >= 2)
    assert len(rows) == sum(max(0, n - 4) for n in LENGTHS)


def test_score_of_union_features_is_white():
    """s~ = L^-1 s: its covariance, by its derivative, is J J^T = L^T W^-T .. = identity in law."""
    chain = stable_chain(13, 2)
    X, _ = make_data(chain)
    features = make_features("union", 2, chain, X)
    inverse = features.whitening.inverse
    K = inverse.T @ chain.precision_blocks(0)[0] @ inverse
    J = features.score_map
    np.testing.assert_allclose(J.T @ J, K, rtol=0, atol=ALGEBRA * np.abs(K).max())
    with pytest.raises(ValueError, match="hold no score"):
        _ = make_features("xreg", 2, chain, X).score_map


def test_whitened_rows_have_unit_covariance():
    rng = np.random.default_rng(14)
    x = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 4)) + 5.0
    whitening = whitening_of([x])
    rows = whitening(x)
    np.testing.assert_allclose(np.cov(rows.T, ddof=0), np.eye(4), rtol=0, atol=ALGEBRA)
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, rtol=0, atol=ALGEBRA)
    np.testing.assert_allclose(
        whitening.matrix @ whitening.inverse, np.eye(4), rtol=0, atol=ALGEBRA
    )


def test_whitening_leaves_out_directions_without_variance():
    rng = np.random.default_rng(15)
    low = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 5))
    whitening = Whitening.from_covariance(low.mean(axis=0), np.cov(low.T))
    assert whitening.n_directions == 2
    np.testing.assert_allclose(
        whitening.matrix @ whitening.inverse, np.eye(2), rtol=0, atol=ALGEBRA
    )


def test_restricted_whitening_keeps_the_columns_of_the_basis():
    rng = np.random.default_rng(16)
    x = rng.standard_normal((40, 4))
    whitening = whitening_of([x])
    basis = np.linalg.qr(rng.standard_normal((4, 2)))[0]
    restricted = whitening.restrict(basis)
    np.testing.assert_allclose(restricted(x), whitening(x) @ basis, rtol=0, atol=ALGEBRA)
    np.testing.assert_allclose(
        restricted.matrix @ restricted.inverse, np.eye(2), rtol=0, atol=ALGEBRA
    )


def test_sums_of_other_features_do_not_merge():
    x = np.random.default_rng(17).standard_normal((30, 2))
    batch = as_sequences(x, x).whole()
    small = regression_sums(batch, RegressionFeatures(whitening_of([x]), 2))
    large = regression_sums(batch, RegressionFeatures(whitening_of([x]), 3))
    with pytest.raises(MergeError, match="RegressionSums: `features` differs"):
        small.merge(large)
    # the same shapes, whitened from other data
    other = regression_sums(batch, RegressionFeatures(whitening_of([x[:20]]), 2))
    with pytest.raises(MergeError, match="RegressionSums: `features` differs"):
        small.merge(other)


def test_fewer_rows_than_features_is_an_error():
    x = np.random.default_rng(18).standard_normal((9, 3))
    with pytest.raises(ValueError, match="9 usable steps for 12 features"):
        regression_moment(x, x)
    with pytest.raises(ValueError, match="`Y` is missing"):
        regression_moment(x, None)


@pytest.mark.parametrize("order", [1, 2])
def test_moments_are_in_the_units_of_the_inputs_whatever_these_are(order):
    rng = np.random.default_rng(0)
    X, scale = rng.standard_normal((200, 3)), np.array([1e6, 1.0, 1e-6])
    Y = (X @ rng.standard_normal((3, 2))) ** 2 + X[:, 2:]
    plain, found = regression_moment(X, Y, order), regression_moment(X * scale, Y, order)
    for axis in range(1, order + 1):
        found = np.moveaxis(np.moveaxis(found, axis, -1) * scale, -1, axis)
    np.testing.assert_allclose(found, plain, atol=1e-12 * abs(plain).max())
