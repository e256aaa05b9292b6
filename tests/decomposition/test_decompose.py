"""`decompose`: what it recovers, what it leaves invariant, and what it says when it cannot."""

import dataclasses

import numpy as np
import pytest
import tensorly as tl
from helpers.planted import ALGEBRA, LEAST_SQUARES, LOSS_RATIO, RECOVERY, largest_error, planted
from hypothesis import given, settings
from hypothesis import strategies as st

from gloree.decomposition import (
    Decomposition,
    DecompositionStatus,
    cp_tensor,
    decompose,
    degrees_of_freedom,
)
from gloree.decomposition._decompose import LARGE_ERROR
from gloree.decomposition._search import pencil_starts, uwedge

# algebra: rounding times the squared condition of the components, times ten for each of the
# thousand entries
CONDITION = 120.0
ILL_CONDITIONED_RECOVERY = 1e-16 * CONDITION**2 * 1e4
# algebra: float32 rounding times the condition of the instance
FLOAT32 = 1e-4
# statistics: a factor of 4 was measured at such anisotropy; half of it is asked
WHITENING_GAIN = 2
# iteration: steps from the truth to the minimum, 4 to 6 are typical
MAX_POLISH = 20

CELLS = [
    (20, 10, 10, 2),
    (50, 10, 10, 2),
    (4, 4, 4, 2),
    (20, 10, 3, 2),
    (6, 9, 9, 2),
    (10, 10, 10, 2),
    (10, 10, 4, 2),
    (10, 5, 5, 2),
    (10, 5, 1, 3),
    (10, 10, 4, 3),
    (5, 4, 2, 4),
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_exact_tensors_are_recovered_to_rounding(cell):
    truth = planted(*cell)
    result = decompose(truth.tensor, cell[1], random_state=0)
    assert result.status is DecompositionStatus.EXACT
    assert largest_error(result, truth) < RECOVERY
    assert result.accepted


@pytest.mark.parametrize("order", [3, 4])
def test_exact_tensors_without_an_output_mode_are_recovered(order):
    truth = planted(6, 4, 1, order)
    result = decompose(truth.tensor[0], 4, output_mode=False, random_state=0)
    assert result.loadings.shape == (4, 1)
    assert largest_error(result, truth) < RECOVERY
    np.testing.assert_allclose(result.to_tensor(), truth.tensor[0], atol=RECOVERY)


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_noisy_tensors_reach_the_least_squares_solution(cell, noise):
    for seed in range(2):
        tensor, components, _ = planted(*cell, noise=noise, seed=seed)
        result = decompose(tensor, cell[1], ridge=None, random_state=seed)
        reference = decompose(tensor, cell[1], initial=components, ridge=None)
        assert result.residual <= reference.residual * (1 + LOSS_RATIO)
        assert result.status.ok


# With fewer outputs than this, components of condition 100 are not determined at 2 % noise: the
# predicted errors exceed 1, and the least-squares solution is one of many about as good.
ILL_CONDITIONED = [(20, 10, 10, 2), (50, 10, 10, 2), (10, 10, 10, 2), (10, 5, 5, 2), (4, 4, 4, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
@pytest.mark.parametrize(
    ("cell", "condition"),
    [(cell, None) for cell in CELLS] + [(cell, 100.0) for cell in ILL_CONDITIONED],
    ids=str,
)
def test_thirty_of_thirty_reach_the_least_squares_solution(cell, noise, condition):
    for seed in range(30):
        tensor, components, _ = planted(*cell, noise=noise, seed=seed, condition=condition)
        result = decompose(tensor, cell[1], ridge=None, random_state=seed)
        reference = decompose(tensor, cell[1], initial=components, ridge=None)
        bar = reference.residual * (1 + LOSS_RATIO) if noise else RECOVERY
        assert result.residual <= bar, seed


def test_ill_conditioned_components_are_recovered():
    truth = planted(10, 10, 10, condition=CONDITION)
    result = decompose(truth.tensor, 10, random_state=0)
    assert result.condition > 50
    assert largest_error(result, truth) < ILL_CONDITIONED_RECOVERY


def test_rank_one_is_the_leading_eigenvector():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((5, 5))
    matrix += matrix.T
    result = decompose(matrix[None], 1, ridge=None, random_state=0)
    values, vectors = np.linalg.eigh(matrix)
    leading = np.abs(values).argmax()
    assert result.loadings[0, 0] == pytest.approx(values[leading], rel=LEAST_SQUARES)
    assert abs(result.components[0] @ vectors[:, leading]) == pytest.approx(1, abs=LEAST_SQUARES)


def test_canonical_form():
    for order in (2, 3):
        result = decompose(planted(6, 4, 3, order)[0], 4, random_state=0)
        np.testing.assert_allclose(np.linalg.norm(result.components, axis=1), 1, rtol=ALGEBRA)
        assert (np.diff(np.linalg.norm(result.loadings, axis=1)) <= 0).all()
        largest = np.abs(result.components).argmax(axis=1)
        assert (result.components[np.arange(4), largest] > 0).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-12, 1e-3, 7.0, 1e9]))
def test_scaling_the_tensor_scales_the_loadings(seed, scale):
    tensor = planted(6, 4, 4, noise=0.03, seed=seed)[0]
    one = decompose(tensor, 4, random_state=0)
    other = decompose(scale * tensor, 4, random_state=0)
    np.testing.assert_allclose(other.components, one.components, atol=LEAST_SQUARES)
    np.testing.assert_allclose(other.loadings / scale, one.loadings, atol=LEAST_SQUARES)
    assert other.residual == pytest.approx(one.residual, rel=LOSS_RATIO)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99))
def test_permuting_inputs_and_outputs_permutes_the_solution(seed):
    tensor = planted(6, 4, 5, noise=0.03, seed=seed)[0]
    rng = np.random.default_rng(seed)
    inputs, outputs = rng.permutation(6), rng.permutation(5)
    one = decompose(tensor, 4, random_state=0)
    other = decompose(tensor[np.ix_(outputs, inputs, inputs)], 4, random_state=1)
    np.testing.assert_allclose(
        np.abs(other.components), np.abs(one.components[:, inputs]), atol=LEAST_SQUARES
    )
    np.testing.assert_allclose(other.loadings, one.loadings[:, outputs], atol=LEAST_SQUARES)


def test_noise_whitening_equals_decomposing_the_mapped_tensor():
    tensor, _, _ = planted(6, 4, 5, noise=0.03)
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(np.cov(rng.standard_normal((6, 30))))
    scales = np.exp(rng.standard_normal(5))
    inverse = np.linalg.inv(root)
    mapped = np.einsum("aij,pi,qj->apq", tensor, inverse, inverse) / scales[:, None, None]
    metric = {"score_covariance": root @ root.T, "output_scale": scales}
    white = decompose(mapped, 4, ridge=None, random_state=0)
    result = decompose(tensor, 4, **metric, ridge=None, random_state=0)
    expected = cp_tensor(white.loadings * scales, white.components @ root.T, 2)
    np.testing.assert_allclose(result.to_tensor(), expected, atol=LEAST_SQUARES)
    np.testing.assert_allclose(np.linalg.norm(result.components, axis=1), 1, rtol=ALGEBRA)
    assert result.residual == pytest.approx(white.residual, rel=LOSS_RATIO)
    assert result.max_cosine == pytest.approx(white.max_cosine, abs=LEAST_SQUARES)


def test_noise_whitening_lowers_the_error_for_anisotropic_noise():
    _, components, loadings = planted(6, 4, 5)
    rng = np.random.default_rng(2)
    root = np.linalg.qr(rng.standard_normal((6, 6)))[0] * np.geomspace(1, 0.1, 6)
    scales = np.geomspace(1, 0.04, 5)
    plain, white = [], []
    for _ in range(10):
        draw = rng.standard_normal((5, 6, 6))
        draw = 0.03 * root @ (draw + draw.swapaxes(1, 2)) @ root.T * scales[:, None, None]
        tensor = cp_tensor(loadings * scales, components, 2) + draw
        metric = {"score_covariance": root @ root.T, "output_scale": scales}
        for errors_so_far, options in ((plain, {}), (white, metric)):
            fit = decompose(tensor, 4, initial=components, ridge=None, **options)
            cosines = np.abs(fit.components @ components.T).max(axis=0)
            errors_so_far.append(np.sqrt(np.mean(2 - 2 * np.minimum(cosines, 1))))
    assert np.median(plain) > WHITENING_GAIN * np.median(white)


def test_initial_rows_are_polished_without_other_starts():
    tensor, components, _ = planted(10, 5, 5, noise=0.05)
    result = decompose(tensor, 5, initial=3 * components)
    assert result.status is DecompositionStatus.POLISHED
    assert result.n_starts == 1
    assert result.n_iterations < MAX_POLISH
    full = decompose(tensor, 5, random_state=0)
    np.testing.assert_allclose(result.components, full.components, atol=LEAST_SQUARES)


def test_same_seed_same_result_and_the_global_generator_is_untouched():
    tensor = planted(6, 6, 4, noise=0.1)[0]
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = (decompose(tensor, 6, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one.components, two.components)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("change", ["read-only", "fortran", "strided", "float32", "list"])
def test_input_layout_does_not_matter(change):
    tensor = planted(6, 4, 4, noise=0.03)[0]
    expected = decompose(tensor, 4, random_state=0)
    tolerance = LEAST_SQUARES
    if change == "read-only":
        tensor.setflags(write=False)
    elif change == "fortran":
        tensor = np.asfortranarray(tensor)
    elif change == "strided":
        tensor = np.repeat(tensor, 2, axis=0)[::2]
    elif change == "float32":
        tensor, tolerance = tensor.astype(np.float32), FLOAT32
    else:
        tensor = tensor.tolist()
    copy = np.array(tensor)
    result = decompose(tensor, 4, random_state=0)
    np.testing.assert_allclose(result.components, expected.components, atol=tolerance)
    assert result.components.dtype == np.float64
    np.testing.assert_array_equal(copy, tensor)


def test_slight_asymmetry_is_averaged_away():
    tensor = planted(5, 3, 3, noise=0.02)[0]
    rng = np.random.default_rng(0)
    skew = rng.standard_normal(tensor.shape)
    skew = 1e-3 * (skew - skew.swapaxes(1, 2))
    one, two = (decompose(each, 3, random_state=0) for each in (tensor, tensor + skew))
    np.testing.assert_allclose(one.components, two.components, atol=LEAST_SQUARES)


# -- what it says when it cannot


def test_one_slice_of_order_two_is_a_rotation_problem():
    tensor = planted(5, 3, 1)[0]
    for result in (
        decompose(tensor, 3),
        decompose(tensor[0], 3, output_mode=False),
        decompose(tensor * np.array([1.0, -2.0])[:, None, None], 3),
    ):
        assert result.status is DecompositionStatus.ROTATION
        assert result.residual < RECOVERY
        assert not result.accepted
        assert np.isinf(result.component_errors).all()
        np.testing.assert_allclose(
            result.components @ result.components.T, np.eye(3), atol=RECOVERY
        )


def test_no_degrees_of_freedom_is_reported():
    assert degrees_of_freedom(2, 10, 10) == 0
    assert degrees_of_freedom(1, 10, 5, 3) == 220 - 50
    result = decompose(planted(10, 10, 2, noise=0.05)[0], 10, max_starts=3, random_state=0)
    assert result.status is DecompositionStatus.UNDERDETERMINED
    assert not result.accepted


def test_pure_noise_is_not_accepted():
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((4, 8, 8))
    result = decompose(tensor + tensor.swapaxes(1, 2), 8, max_starts=6, random_state=0)
    assert not result.accepted


def test_more_components_than_the_tensor_has_are_not_accepted():
    tensor = planted(8, 3, 5, noise=0.02)[0]
    assert decompose(tensor, 3, random_state=0).accepted
    assert not decompose(tensor, 5, max_starts=6, random_state=0).accepted


@pytest.mark.slow
def test_ridge_shrinks_cancelling_components():
    tensor = planted(10, 10, 3, noise=0.2, seed=3)[0]
    plain = decompose(tensor, 10, ridge=None, max_starts=6, random_state=0)
    ridged = decompose(tensor, 10, max_starts=6, random_state=0)
    assert max(plain.component_error, plain.loading_error) > LARGE_ERROR
    assert plain.ridge == 0 < ridged.ridge
    assert np.linalg.norm(ridged.loadings) < np.linalg.norm(plain.loadings)
    assert decompose(tensor, 10, ridge=0.01, max_starts=2).ridge == 0.01


def test_accept_rule_reads_every_figure():
    good = decompose(planted(10, 5, 5, noise=0.02)[0], 5, random_state=0)
    assert good.accepted
    for change in (
        {"status": DecompositionStatus.NO_AGREEMENT},
        {"component_errors": np.full(5, 0.3)},
        {"loading_errors": np.full(5, 0.3)},
        {"max_cosine": 0.99},
        {"max_loading": 4.0},
    ):
        assert not dataclasses.replace(good, **change).accepted


def test_result_is_readable_and_frozen():
    result = decompose(planted(6, 3, 4, noise=0.05)[0], 3, random_state=0)
    text = " ".join(str(result).split())
    for word in (result.status.name, result.status.value, "accepted", "predicted"):
        assert word in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.residual = 0.0
    assert isinstance(result, Decomposition)
    np.testing.assert_allclose(tl.cp_to_tensor(result.to_cp()), result.to_tensor(), rtol=ALGEBRA)
    assert result.to_tensor(3).shape == (4, 6, 6, 6)


@pytest.mark.parametrize(
    ("tensor", "rank", "options", "message"),
    [
        (np.ones((3, 4)), 2, {}, r"two symmetric modes at least; got shape \(3, 4\)"),
        (np.ones((4, 4)), 2, {}, r"`output_mode=False`"),
        (np.ones((3, 4, 5)), 2, {}, r"equal, non-empty symmetric modes; got shape \(3, 4, 5\)"),
        (np.full((2, 3, 3), np.nan), 2, {}, r"NaN or infinity in 18 of 18"),
        (np.ones((2, 3, 3)) * 1j, 2, {}, r"must be real"),
        (np.zeros((2, 3, 3)), 2, {}, r"zero everywhere"),
        (np.tril(np.ones((2, 4, 4)), -1), 2, {}, r"antisymmetric part has 0\.71 of its norm"),
        (np.ones((2, 3, 3)), 0, {}, r"`rank` must be at least 1, got 0"),
        (np.ones((2, 3, 3)), 1, {"max_starts": 0}, r"`max_starts`"),
        (np.ones((2, 3, 3)), 1, {"ridge": "lasso"}, r"`ridge` must be 'auto', None or a number"),
        (np.ones((2, 3, 3)), 1, {"ridge": -1.0}, r"`ridge` must be finite and not negative"),
        (np.ones((2, 3, 3)), 1, {"initial": np.ones((2, 3))}, r"\(1, 3\), got \(2, 3\)"),
        (np.ones((2, 3, 3)), 1, {"initial": np.zeros((1, 3))}, r"none of them zero"),
        (np.ones((2, 3, 3)), 1, {"score_covariance": np.eye(2)}, r"`score_covariance`.*\(3, 3\)"),
        (np.ones((2, 3, 3)), 1, {"score_covariance": -np.eye(3)}, r"eigenvalue is -1"),
        (np.ones((2, 3, 3)), 1, {"output_scale": [1.0]}, r"`output_scale` must have shape \(2,\)"),
        (np.ones((2, 3, 3)), 1, {"output_scale": [1.0, 0.0]}, r"smallest value of 0"),
        (np.ones((3, 3)), 1, {"output_mode": False, "output_scale": [1.0]}, r"needs an output"),
    ],
)
def test_invalid_input_says_what_was_seen(tensor, rank, options, message):
    with pytest.raises(ValueError, match=message):
        decompose(tensor, rank, **options)


def test_rank_must_be_an_integer():
    with pytest.raises(TypeError, match=r"`rank` must be an integer, got 2\.5"):
        decompose(np.ones((2, 3, 3)), 2.5)


def test_swapped_arguments_are_named():
    with pytest.raises(TypeError, match=r"got an array of shape \(2, 3, 3\): .*are \(T, rank\)"):
        decompose(2, np.ones((2, 3, 3)))


# -- starts


def test_pencils_and_uwedge_recover_exact_components():
    tensor, components, _ = planted(6, 6, 4)
    rng = np.random.default_rng(0)
    rows = pencil_starts(tensor, 3, rng)[0]
    assert np.abs(rows @ components.T).max(axis=1) == pytest.approx(1, abs=ALGEBRA)
    near = components + 0.02 * rng.standard_normal(components.shape)
    refined = uwedge(tensor, near, n_iterations=30)
    assert np.abs(refined @ components.T).max(axis=1) == pytest.approx(1, abs=LEAST_SQUARES)


def test_complex_pencils_give_two_different_rows():
    rng = np.random.default_rng(0)
    slices = rng.standard_normal((2, 6, 6))
    slices += slices.swapaxes(1, 2)
    for rows in pencil_starts(slices, 5, rng):
        assert np.linalg.matrix_rank(rows) == 6
