"""The paper's method: where it is exact, and that it says when it is not."""

import numpy as np
import pytest
from helpers.planted import planted

from gloree.decomposition import DecompositionStatus, cp_tensor, tensor_power_iteration

# iteration: v settles to 1e-10, times the condition of the whitening (below 1e4 here)
RECOVERY = 1e-6
# iteration: residual of a fit that is plainly wrong, on data without noise
WRONG = 0.1


@pytest.mark.parametrize("order", [2, 3, 4])
def test_exact_when_whitening_succeeds(order):
    seen = set()
    for seed in range(5):
        tensor, components, _ = planted(8, 4, 3, order, seed=seed, signs=False)
        result = tensor_power_iteration(tensor, 4, random_state=seed)
        seen.add(result.status)
        if result.status is DecompositionStatus.POWER_CONVERGED:
            cosines = np.abs(result.components @ components.T).max(axis=1)
            np.testing.assert_allclose(cosines, 1, atol=RECOVERY)
            assert result.residual < RECOVERY
    assert DecompositionStatus.POWER_CONVERGED in seen


def test_positive_loadings_always_whiten_at_order_two():
    for seed in range(5):
        tensor, *_ = planted(10, 10, 10, seed=seed, signs=False)
        result = tensor_power_iteration(tensor, 10, random_state=0)
        assert result.status is DecompositionStatus.POWER_CONVERGED


def test_negative_weights_of_even_order_are_found_by_magnitude():
    components = np.eye(4)[:3]
    tensor = cp_tensor([[-3.0], [2.0], [-1.0]], components, 4)
    result = tensor_power_iteration(tensor[0], 3, output_mode=False, random_state=0)
    if result.status is DecompositionStatus.POWER_CONVERGED:
        np.testing.assert_allclose(result.loadings[:, 0], [-3, 2, -1], atol=RECOVERY)
    np.testing.assert_allclose(result.to_tensor(), tensor[0], atol=RECOVERY)


def test_whitening_failure_is_a_status_not_an_exception():
    tensor, *_ = planted(10, 10, 10)
    result = tensor_power_iteration(tensor, 10, random_state=0)
    assert result.status is DecompositionStatus.WHITENING_FAILED
    assert not result.accepted
    assert result.residual > WRONG
    assert np.isfinite(result.components).all()


def test_one_slice_of_order_two_is_a_rotation_problem():
    tensor, *_ = planted(5, 3, 1, signs=False)
    result = tensor_power_iteration(tensor, 3, random_state=0)
    assert result.status is DecompositionStatus.ROTATION


def test_iteration_limit_differs_from_convergence():
    tensor, *_ = planted(8, 4, 3, signs=False)
    result = tensor_power_iteration(tensor, 4, n_iterations=1, random_state=0)
    assert result.status is DecompositionStatus.POWER_LIMIT


def test_same_seed_same_result():
    tensor, *_ = planted(6, 3, 2, 3, seed=1)
    one, two = (tensor_power_iteration(tensor, 3, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(one.components, two.components)


def test_invalid_input_says_what_to_do():
    with pytest.raises(ValueError, match=r"`rank` = 4 exceeds the number of inputs 3.*`decompose`"):
        tensor_power_iteration(np.ones((2, 3, 3)), 4)
    with pytest.raises(ValueError, match="`n_restarts` must be at least 1, got 0"):
        tensor_power_iteration(np.ones((2, 3, 3)), 2, n_restarts=0)
