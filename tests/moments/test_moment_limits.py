"""Files of sums, ranks of regressions, and whitening: on either side of their limits."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.generators import stable_chain, whitening_of

from gloree.chains import GaussianVAR, LawError, StudentVAR
from gloree.models import IORNN, FormatError
from gloree.moments import (
    Coordinates,
    CrossMoment,
    RangeSums,
    RegressionFeatures,
    RegressionSolver,
    RegressionSums,
    Whitening,
    cross_moment,
    cross_moment_sums,
    range_basis,
    regression_moment,
    regression_sums,
    score_coordinates,
)
from gloree.sequences import as_sequences

ALGEBRA = 1e-10
# Normal equations square the condition of the features.
NORMAL_EQUATIONS = 1e-8


def data(n=40, n_steps=6, n_inputs=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_steps, n_inputs))
    return X, X[..., :2] ** 2 + 0.1 * rng.standard_normal((n, n_steps, 2))


@pytest.fixture
def statistic():
    chain = stable_chain(0, 3)
    return cross_moment_sums(as_sequences(*data()).whole(), chain, 2)


def saved(path, statistic, **changes):
    """A file of the statistic in which some arrays are others."""
    statistic.save(path)
    with np.load(path, allow_pickle=False) as found:
        content = {name: found[name] for name in found.files}
    np.savez(path, **(content | changes))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"order": np.array(0)},
        {"order": np.array(21)},
        {"order": np.array(-2)},
        {"order": np.array(2.0)},
        {"order": np.array([2])},
        {"law": np.array(1.5)},
        {"law": np.array([1, 2])},
        {"counts": np.ones(5)},
        {"counts": np.ones(3, dtype=complex)},
        {"output_sums": np.ones((3, 3))},
        {"covariances": np.ones((3, 3, 2))},
        {"sums": np.ones((3, 3, 8))},
    ],
)
def test_sums_of_other_shapes_and_types_are_refused(statistic, changes, tmp_path):
    with pytest.raises(FormatError):
        CrossMoment.load(saved(tmp_path / "moment.npz", statistic, **changes))


def test_a_file_without_a_law_has_none_and_orders_go_up_to_twenty(statistic, tmp_path):
    path = saved(tmp_path / "moment.npz", statistic, law=np.array(7))
    assert CrossMoment.load(path).law == 7
    with np.load(path, allow_pickle=False) as found:
        content = {name: found[name] for name in found.files if name != "law"}
    np.savez(path, **content)
    assert CrossMoment.load(path).law == 0
    chain = GaussianVAR([[0.0]], [[1.0]])
    high = CrossMoment.identity(chain, 1, 20)
    high.save(path)
    assert CrossMoment.load(path).order == 20


def test_the_centre_is_the_mean_output_of_each_boundary_type(statistic):
    plain, centred = statistic.finalize(centre=False), statistic.finalize()
    np.testing.assert_array_equal(centred, statistic.finalize(centre=True))
    assert np.abs(plain - centred).max() > ALGEBRA
    assert statistic.n_rows == 240.0


def test_moments_take_orders_from_one_on_and_say_what_is_missing():
    X, Y = data()
    chain = stable_chain(0, 3)
    assert cross_moment(chain, X, Y, 1).shape == (2, 3)
    assert regression_moment(X, Y, 1).shape == (2, 3)
    assert regression_moment(X, Y).shape == (2, 3, 3)
    np.testing.assert_array_equal(regression_moment(X, Y), regression_moment(X, Y, 2))
    for wrong, error in ((0, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="`order` must be"):
            regression_moment(X, Y, wrong)
        with pytest.raises(error, match="`order` must be"):
            cross_moment(chain, X, Y, wrong)
    with pytest.raises(ValueError, match="`Y` is missing"):
        regression_moment(X, None)
    with pytest.raises(LawError, match="Hermite"):
        regression_moment(X, Y, chain=StudentVAR(0.3 * np.eye(3), np.eye(3), df=9))


def test_a_regression_needs_as_many_rows_as_features():
    """3 + 3 + 6 of three inputs."""
    X, Y = data(12, 1)
    assert regression_moment(X, Y).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="11 usable steps for 12 features"):
        regression_moment(X[:11], Y[:11])


@pytest.mark.parametrize(("off", "rank"), [(1e-8, 2), (1e-10, 1)])
def test_features_that_are_collinear_to_a_billionth_count_once(off, rank):
    gram = np.array([[4.0, 2.0 * 3.0 * (1 - off)], [2.0 * 3.0 * (1 - off), 9.0]])
    features = RegressionFeatures(whitening_of(data()[0]), 1)
    sums = RegressionSums("", 1.0, gram, np.array([[2.0], [3.0]]), np.array([1.0]))
    found = RegressionSolver.from_sums(features, sums)
    assert found.rank == rank
    coarse = RegressionSolver.from_sums(features, sums, rtol=1e-3)
    assert coarse.rank == 1
    # the least-norm fit in scaled features: both take half of it
    np.testing.assert_allclose(coarse.coefficients(sums).ravel() * [2.0, 3.0], 0.5, rtol=1e-6)


def test_a_residual_variance_is_the_mean_square_and_not_negative():
    X, Y = data()
    batch = as_sequences(X, Y).whole()
    features = RegressionFeatures(whitening_of(X), 2)
    sums = regression_sums(batch, features)
    solver = RegressionSolver.from_sums(features, sums)
    phi = features.evaluate(batch, np.arange(240), None).T
    left = batch.Y - phi @ np.linalg.lstsq(phi, batch.Y, rcond=None)[0]
    np.testing.assert_allclose(
        solver.residual_variance(sums), np.mean(left**2, axis=0), rtol=NORMAL_EQUATIONS
    )
    np.testing.assert_array_equal(
        solver.residual_variance(replace(sums, squares=0.5 * sums.squares)), 0.0
    )
    without = regression_sums(batch, features, gram=False)
    assert without.gram.shape == (0, 0)
    np.testing.assert_array_equal(without.cross, sums.cross)
    np.testing.assert_allclose(sums.squares, np.sum(batch.Y**2, axis=0), rtol=ALGEBRA)


@pytest.mark.parametrize(("ratio", "kept"), [(1.1e-12, 2), (0.9e-12, 1)])
def test_directions_of_a_trillionth_of_the_variance_are_left_out(ratio, kept):
    off = 1.0 - 2.0 * ratio  # eigenvalues 2 - 2 ratio and 2 ratio
    covariance = 4.0 * np.array([[1.0, off], [off, 1.0]])
    found = Whitening.from_covariance(np.array([1.0, 2.0]), covariance)
    assert found.n_directions == kept
    np.testing.assert_allclose(np.abs(found.matrix[0]), [0.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.matrix @ found.inverse, np.eye(kept), atol=1e-3)
    np.testing.assert_allclose(np.abs(found(np.array([[1.0, 6.0]]))[0, 0]), 1.0)
    half = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert Whitening.from_covariance(np.zeros(2), half, rtol=0.5).n_directions == 1


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e100])
def test_columns_of_any_size_are_directions_of_their_own(size):
    """One of a millionth of the size of another was left out, and its moments were zero."""
    scale = np.array([size, 1.0, 1.0 / size])
    half = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
    found = Whitening.from_covariance(np.zeros(3), half * np.outer(scale, scale))
    assert found.n_directions == 3
    np.testing.assert_allclose(
        (found.matrix * scale) @ half @ (found.matrix * scale).T, np.eye(3), atol=ALGEBRA
    )
    np.testing.assert_allclose(found.matrix @ found.inverse, np.eye(3), atol=ALGEBRA)


def test_components_in_coordinates_and_back():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    found = score_coordinates(covariance)
    root = np.linalg.cholesky(covariance)
    np.testing.assert_allclose(found.to_inputs, root.T, rtol=ALGEBRA)
    np.testing.assert_allclose(found.to_inputs @ found.from_inputs, np.eye(2), atol=ALGEBRA)
    model = IORNN([[1.0, 2.0], [0.5, -1.0]], None, [[1.0], [3.0]])
    components = found.components(model)
    np.testing.assert_allclose(components @ found.to_inputs, model.input_weights, rtol=ALGEBRA)
    tensor = found.model_tensor(model, 3, 0.5)
    expected = np.einsum("ia,ij,ik,il->ajkl", model.output_weights, *3 * [components]) * 6 * 0.5
    np.testing.assert_allclose(tensor, expected, rtol=ALGEBRA)
    assert isinstance(found, Coordinates)
    assert found.n_directions == 2


def test_range_of_probes_is_that_of_the_formula():
    """(sum (w.y) s s^T Omega - sum (w.y) Omega) / n, side by side."""
    rng = np.random.default_rng(0)
    s, values, probes = (rng.standard_normal(shape) for shape in ((9, 4), (9, 2), (4, 3)))
    products = np.einsum("ta,ti,tj,jp->aip", values, s, s, probes)
    found = RangeSums(9.0, products, values.sum(axis=0)).finalize(probes)
    moments = [np.einsum("t,ti,tj->ij", values[:, a], s, s) for a in range(2)]
    expected = [(moments[a] - values[:, a].sum() * np.eye(4)) @ probes / 9 for a in range(2)]
    np.testing.assert_allclose(found, np.hstack(expected), rtol=1e-9, atol=ALGEBRA)
    basis = range_basis(found, 2)
    left = np.linalg.svd(found)[0][:, :2]
    np.testing.assert_allclose(basis @ basis.T, left @ left.T, atol=ALGEBRA)


def test_features_of_a_union_are_of_interior_steps_and_scores():
    chain = stable_chain(1, 2)
    X = chain.sample(5, 6, random_state=0)
    batch = as_sequences(X, X).whole()
    whitening = whitening_of(X)
    union, plain = RegressionFeatures(whitening, 2, chain), RegressionFeatures(whitening, 2)
    assert (union.n_offsets, plain.n_offsets) == (1, 3)
    assert union.power_sizes == plain.power_sizes == (2, 3)
    assert (union.size, plain.size) == (1 + 2 * 5, 3 + 5)
    step = np.tile(np.arange(6), 5)
    np.testing.assert_array_equal(union.rows(batch), np.flatnonzero((step >= 1) & (step <= 4)))
    np.testing.assert_array_equal(plain.rows(batch), np.arange(30))
    assert plain.whitened_scores(batch) is None
    with pytest.raises(ValueError, match="hold no score"):
        _ = plain.score_map
    assert union.fingerprint.startswith("union, degree 2, ")
    assert plain.fingerprint.startswith("xreg, degree 2, ")
    assert len(plain.fingerprint.split()[-1]) == 12


def test_moments_of_high_order_take_no_factorial_number_of_arrangements():
    """Of one input the Hermite polynomial itself; 10! arrangements would take minutes."""
    x = np.random.default_rng(0).standard_normal((60, 1))
    y = np.sin(3 * x)
    for order in (2, 5, 10, 12):
        found = cross_moment(GaussianVAR(np.zeros((0, 1, 1)), [[1.0]]), x, y, order)
        values = np.polynomial.hermite_e.hermeval(x[:, 0], np.eye(order + 1)[order])
        expected = np.sum((y[:, 0] - y.mean()) * values) / 59
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-9)
