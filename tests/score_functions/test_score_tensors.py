"""Score tensors of sequences: forms, boundaries, limits. Their values: tests/theory."""

import numpy as np
import pytest

from gloree.chains import GaussianVAR
from gloree.score_functions import (
    bell_tensors,
    check_score,
    hermite_tensor,
    joint_score,
    partial_score,
    scores_along,
    window_score,
    window_score_covariance,
)
from gloree.sequences import as_sequences

# Algebra: products of matrices of size 2 to 6; the same summed in another memory order.
ALGEBRA, OTHER_LAYOUT = 1e-11, 1e-9


@pytest.fixture
def chain():
    return GaussianVAR([[0.5, 0.2], [-0.1, 0.4]], [[1.0, 0.3], [0.3, 0.8]], [1.0, -1.0])


def test_results_have_the_form_of_the_input(chain):
    X = chain.sample(3, 5, 0)
    array = partial_score(chain, X, 2)
    assert array.shape == (3, 5, 2, 2)
    as_list = partial_score(chain, list(X), 2)
    assert [part.shape for part in as_list] == [(5, 2, 2)] * 3
    flat = partial_score(chain, X.reshape(15, 2), 2, lengths=[5, 5, 5])
    assert flat.shape == (15, 2, 2)
    single = partial_score(chain, X[1], 2)
    for other in (np.stack(as_list), flat.reshape(array.shape)):
        np.testing.assert_array_equal(other, array)
    np.testing.assert_allclose(single, array[1], atol=ALGEBRA)


def test_joint_and_window_scores_lose_the_first_steps(chain):
    X = chain.sample(3, 5, 0)
    assert joint_score(chain, X, (1, 2)).shape == (3, 4, 2, 2, 2)
    assert joint_score(chain, X, (1, 1), lag=7).shape == (3, 0, 2, 2)
    ragged = [X[0], X[1, :1], X[2, :3]]
    assert [len(part) for part in joint_score(chain, ragged)] == [4, 0, 2]
    flat = joint_score(chain, np.concatenate(ragged), lengths=[5, 1, 3])
    np.testing.assert_allclose(flat, np.concatenate(joint_score(chain, ragged)), atol=ALGEBRA)
    assert window_score(chain, X, 3, 2).shape == (3, 3, 6, 6)
    assert [len(part) for part in window_score(chain, ragged, 2)] == [4, 0, 2]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_ragged_sequences_equal_each_alone(order, chain):
    parts = [chain.sample(1, n, n)[0] for n in (4, 1, 2, 7)]
    for part, tensor in zip(parts, partial_score(chain, parts, order), strict=True):
        np.testing.assert_allclose(tensor, partial_score(chain, part, order), atol=ALGEBRA)
    for part, tensor in zip(parts, joint_score(chain, parts, (order, 1)), strict=True):
        np.testing.assert_allclose(tensor, joint_score(chain, part, (order, 1)), atol=ALGEBRA)
    for part, tensor in zip(parts, window_score(chain, parts, 2, order), strict=True):
        np.testing.assert_allclose(tensor, window_score(chain, part, 2, order), atol=ALGEBRA)


def test_permuting_sequences_permutes_scores(chain):
    X = chain.sample(6, 4, 0)
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_array_equal(
        partial_score(chain, X[order], 2), partial_score(chain, X, 2)[order]
    )


def test_first_order_is_the_chains_own_score(chain):
    X = chain.sample(4, 6, 0)
    rows = chain.scores(as_sequences(X).whole())
    np.testing.assert_array_equal(partial_score(chain, X), rows.reshape(X.shape))


def test_joint_score_of_order_one_is_product_less_covariance(chain):
    X = chain.sample(1, 6, 0)[0]
    s, S = partial_score(chain, X), joint_score(chain, X, (1, 1))
    R = -chain.precision @ chain.coefficients[0]
    np.testing.assert_allclose(S, s[1:, :, None] * s[:-1, None, :] - R, atol=ALGEBRA)


def test_joint_score_of_orders_one_two_spelt_out(chain):
    """S_{1,2}[i; j,k] = s_i r_j r_k - K_jk s_i - R_ij r_k - R_ik r_j."""
    X = chain.sample(1, 4, 0)[0]
    scores = partial_score(chain, X)
    s, r, K = scores[2], scores[1], chain.precision_blocks()[0]
    R = -chain.precision @ chain.coefficients[0]
    expected = np.einsum("i,j,k->ijk", s, r, r) - np.einsum("jk,i->ijk", K, s)
    expected -= np.einsum("ij,k->ijk", R, r) + np.einsum("ik,j->ijk", R, r)
    np.testing.assert_allclose(joint_score(chain, X, (1, 2))[1], expected, atol=ALGEBRA)


def test_window_of_two_steps_holds_partial_and_joint_scores(chain):
    X = chain.sample(1, 5, 0)[0]
    S = window_score(chain, X, 2, 2)
    np.testing.assert_allclose(S[:, :2, :2], partial_score(chain, X, 2)[1:], atol=ALGEBRA)
    np.testing.assert_allclose(S[:, 2:, 2:], partial_score(chain, X, 2)[:-1], atol=ALGEBRA)
    np.testing.assert_allclose(S[:, :2, 2:], joint_score(chain, X, (1, 1)), atol=ALGEBRA)
    first = window_score(chain, X, 2)
    covariance = window_score_covariance(chain, 2)
    np.testing.assert_allclose(S[1], hermite_tensor(first[1], covariance, 2), atol=ALGEBRA)


@pytest.mark.parametrize("convert", [np.float32, np.asfortranarray], ids=["float32", "fortran"])
def test_dtype_and_layout_do_not_matter(convert, chain):
    X = chain.sample(3, 4, 0).astype(np.float32).astype(np.float64)
    given = np.asarray(X, dtype=np.float32) if convert is np.float32 else convert(X)
    given.flags.writeable = False
    np.testing.assert_allclose(
        partial_score(chain, given, 3), partial_score(chain, X, 3), atol=OTHER_LAYOUT
    )


def test_memory_guard_tells_the_size(chain):
    X = np.zeros((10, 100, 2))
    with pytest.raises(MemoryError, match=r"1000 steps would take .* GiB \(16 entries"):
        partial_score(chain, X, 4, memory_limit=100_000)
    with pytest.raises(MemoryError, match="moments"):
        joint_score(chain, X, (2, 2), memory_limit=100_000)
    with pytest.raises(MemoryError, match="`memory_limit`"):
        window_score(chain, X, 2, 2, memory_limit=100_000)


def test_bad_arguments_are_refused(chain):
    X = chain.sample(1, 4, 0)
    with pytest.raises(ValueError, match="`order` is 0"):
        partial_score(chain, X, 0)
    with pytest.raises(ValueError, match="`orders` is 0"):
        joint_score(chain, X, (1, 0))
    with pytest.raises(ValueError, match="`lags` is 0"):
        window_score(chain, X, 0)
    with pytest.raises(ValueError, match="does not fit"):
        window_score_covariance(chain, 3, before=1)
    with pytest.raises(TypeError, match="`chain` is of type str"):
        partial_score("gaussian-var", X)
    with pytest.raises(ValueError, match="columns"):
        partial_score(chain, np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda law, X: window_score_covariance(law, 3, before=2.5), TypeError, "`before`"),
        (lambda law, X: window_score_covariance(law, 3, after="1"), TypeError, "`after`"),
        (lambda law, X: window_score_covariance(law, 3, after=-1), ValueError, "`after`"),
        (lambda law, X: partial_score(law, X, memory_limit="2 GiB"), TypeError, "`memory_limit`"),
        (lambda law, X: partial_score(law, X, memory_limit=-1), ValueError, "`memory_limit`"),
        (lambda law, X: bell_tensors([]), ValueError, "`derivatives` is empty"),
        (lambda law, X: scores_along([], np.ones((1, 1))), ValueError, "`derivatives` is empty"),
        (lambda law, X: check_score(X, chain=law, order="1"), ValueError, "`order`"),
    ],
)
def test_what_is_no_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(GaussianVAR([[0.5]], [[1.0]]), np.zeros((2, 4, 1)))
