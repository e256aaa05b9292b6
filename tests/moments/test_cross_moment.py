"""Score moments against naive averages of score tensors, and their laws as a statistic."""

from dataclasses import fields, replace

import numpy as np
import pytest

from gloree import datasets
from gloree.chains import GaussianVAR
from gloree.engine import MergeError
from gloree.moments import CrossMoment, cross_moment, cross_moment_sums
from gloree.score_functions import hermite_tensor, partial_score
from gloree.sequences import as_sequences

# Sums of some hundred terms of order one, in another order: eps times their number and size.
ALGEBRA = 1e-11

LENGTHS = (6, 1, 4, 2, 9)


def make_chain(seed=0, n_inputs=3, order=1):
    rng = np.random.default_rng(seed)
    coefficients = 0.4 / order * rng.standard_normal((order, n_inputs, n_inputs))
    coefficients /= max(1.0, np.linalg.norm(coefficients.sum(axis=0), 2) / 0.5)
    factor = np.eye(n_inputs) + 0.3 * rng.standard_normal((n_inputs, n_inputs))
    return GaussianVAR(coefficients, factor @ factor.T, rng.standard_normal(n_inputs))


def make_data(seed=1, n_inputs=3, n_outputs=2, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    X = [rng.standard_normal((n, n_inputs)) for n in lengths]
    Y = [2.0 + rng.standard_normal((n, n_outputs)) for n in lengths]
    return X, Y


def assert_same(actual, expected, tolerance=ALGEBRA):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def assert_equal_statistics(first, second, tolerance=0.0):
    for entry in fields(first):
        mine, theirs = getattr(first, entry.name), getattr(second, entry.name)
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moment_is_the_average_of_outputs_times_score_tensors(order, var_order):
    """Every step counts, first and last ones with their own score; nothing is centred here."""
    chain = make_chain(order, n_inputs=2, order=var_order)
    X, Y = make_data(n_inputs=2)
    tensors = partial_score(chain, X, order)
    expected = sum(np.tensordot(y, S, (0, 0)) for y, S in zip(Y, tensors, strict=True))
    expected = expected / sum(LENGTHS)
    assert_same(cross_moment(chain, X, Y, order, centre=False), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_centring_takes_the_mean_of_each_boundary_type(order):
    chain = make_chain(order)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    types = chain.boundary_types(batch)
    values = batch.targets.copy()
    for each in np.unique(types):
        values[types == each] -= values[types == each].mean(axis=0)
    tensors = np.concatenate(partial_score(chain, X, order))
    expected = np.tensordot(values, tensors, (0, 0)) / batch.n_rows
    assert len(np.unique(types)) >= 4
    assert_same(cross_moment(chain, X, Y, order), expected)


def test_centred_moment_does_not_see_a_constant_of_the_outputs():
    chain = make_chain()
    X, Y = make_data()
    shifted = [y + np.array([100.0, -50.0]) for y in Y]
    # the constant costs two digits of the outputs
    assert_same(cross_moment(chain, X, shifted, 2), cross_moment(chain, X, Y, 2), 1e3 * ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_projected_moment_is_the_moment_of_the_projected_score(order):
    """E[y (x) S_m(V, .., V)]: the tensor of V^T s with covariance V^T K V."""
    chain = make_chain(order)
    X, Y = make_data()
    V = np.random.default_rng(order).standard_normal((3, 2))
    batch = as_sequences(X, Y).whole()
    types, covariances = chain.boundary_types(batch), chain.precision_blocks(0)
    scores = chain.scores(batch) @ V
    tensors = np.stack(
        [
            hermite_tensor(s, V.T @ covariances[e] @ V, order)
            for s, e in zip(scores, types, strict=True)
        ]
    )
    statistic = cross_moment_sums(batch, chain, order, projection=V)
    expected = np.tensordot(batch.targets, tensors, (0, 0)) / batch.n_rows
    assert_same(statistic.finalize(centre=False), expected)
    whole = cross_moment_sums(batch, chain, order).finalize()
    for axis in range(1, order + 1):
        whole = np.moveaxis(np.tensordot(whole, V, (axis, 0)), -1, axis)
    assert_same(statistic.finalize(), whole)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_segments_with_context_equal_whole_sequences(order):
    chain = make_chain(order, order=2)
    X, Y = make_data(lengths=(30, 5, 17))
    data = as_sequences(X, Y)
    whole = cross_moment_sums(data.whole(), chain, order)
    before, after = chain.context
    statistic = CrossMoment.identity(chain, 2, order)
    for batch in data.batches(8, segment=4, before=before, after=after):
        statistic = statistic.merge(cross_moment_sums(batch, chain, order))
    assert statistic.n_rows == 52
    assert_equal_statistics(statistic, whole, ALGEBRA)


def test_order_of_sequences_does_not_matter():
    chain = make_chain()
    X, Y = make_data()
    turn = [3, 0, 4, 1, 2]
    assert_same(
        cross_moment(chain, [X[i] for i in turn], [Y[i] for i in turn], 2),
        cross_moment(chain, X, Y, 2),
    )


def test_permuting_outputs_and_inputs_permutes_the_moment():
    chain = make_chain()
    X, Y = make_data()
    p, q = [2, 0, 1], [1, 0]
    turned = GaussianVAR(
        chain.coefficients[:, p][:, :, p],
        chain.innovation_covariance[np.ix_(p, p)],
        np.asarray(chain.mean)[p],
    )
    moved = cross_moment(turned, [x[:, p] for x in X], [y[:, q] for y in Y], 2)
    expected = cross_moment(chain, X, Y, 2)[np.ix_(q, p, p)]
    assert_same(moved, expected)


def test_weights_count_rows_more_than_once():
    """A sequence of weight 3 is that sequence three times."""
    chain = make_chain()
    X, Y = make_data()
    times = [1, 3, 2, 1, 2]
    batch = as_sequences(X, Y).whole()
    weighted = cross_moment_sums(
        replace(batch, weights=np.repeat(np.array(times, dtype=float), LENGTHS)), chain, 2
    )
    copies = [i for i, n in enumerate(times) for _ in range(n)]
    repeated = cross_moment_sums(
        as_sequences([X[i] for i in copies], [Y[i] for i in copies]).whole(), chain, 2
    )
    assert_equal_statistics(weighted, repeated, ALGEBRA)


def test_other_outputs_can_be_put_in_their_place():
    chain = make_chain()
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    residual = cross_moment_sums(batch, chain, 2, targets=lambda b: b.targets[:, :1] - 1.0)
    expected = cross_moment(chain, X, [y[:, :1] - 1.0 for y in Y], 2)
    assert_same(residual.finalize(), expected)


def test_moment_is_symmetric_in_its_inputs():
    T = cross_moment(make_chain(), *make_data(), 3)
    assert_same(T.transpose(0, 2, 1, 3), T)
    assert_same(T.transpose(0, 3, 2, 1), T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_of_any_layout(dtype):
    chain = make_chain()
    rng = np.random.default_rng(5)
    X = rng.integers(-3, 4, (4, 10, 6)).astype(dtype)[:, ::2, ::2]
    Y = rng.integers(-3, 4, (4, 5, 2)).astype(dtype)
    X.flags.writeable = Y.flags.writeable = False
    expected = cross_moment(chain, X.astype(float).copy(), Y.astype(float), 2)
    assert_same(cross_moment(chain, np.asfortranarray(X), Y, 2), expected)
    assert_same(cross_moment(chain, X, Y, 2), expected)
    flat = cross_moment(chain, X.reshape(20, 3), Y.reshape(20, 2), 2, lengths=[5] * 4)
    assert_same(flat, expected)


def test_merging_leaves_the_statistic_as_it_was():
    chain = make_chain()
    batch = as_sequences(*make_data()).whole()
    first = cross_moment_sums(batch, chain, 2)
    kept = {entry.name: np.copy(getattr(first, entry.name)) for entry in fields(first)}
    second = first.merge(cross_moment_sums(batch, chain, 2))
    second.finalize()
    first.finalize()
    assert second.n_rows == 2 * first.n_rows
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(first, name), value)


def test_same_data_twice_has_the_same_moment():
    chain = make_chain()
    batch = as_sequences(*make_data()).whole()
    once = cross_moment_sums(batch, chain, 3)
    assert_same(once.merge(once).finalize(), once.finalize())


def test_no_data_has_no_moment():
    with pytest.raises(ValueError, match="moment of no data"):
        CrossMoment.identity(make_chain(), 2, 2).finalize()


def test_merge_error_names_the_order():
    chain = make_chain()
    batch = as_sequences(*make_data()).whole()
    with pytest.raises(MergeError, match=r"CrossMoment: `order` differs \(2 against 3\)"):
        cross_moment_sums(batch, chain, 2).merge(cross_moment_sums(batch, chain, 3))


def test_merge_error_names_the_law():
    with pytest.raises(MergeError, match="`covariances` differs"):
        CrossMoment.identity(make_chain(0), 2, 2).merge(CrossMoment.identity(make_chain(1), 2, 2))


def test_merge_error_names_the_outputs():
    chain = make_chain()
    with pytest.raises(MergeError, match="`output_sums` has shape"):
        CrossMoment.identity(chain, 2, 2).merge(CrossMoment.identity(chain, 3, 2))


def test_merge_error_names_the_type():
    with pytest.raises(MergeError, match="cannot merge CrossMoment with dict"):
        CrossMoment.identity(make_chain(), 2, 2).merge({})


def test_saved_statistic_comes_back_bit_equal(tmp_path):
    chain = make_chain()
    batch = as_sequences(*make_data()).whole()
    statistic = cross_moment_sums(batch, chain, 3)
    path = tmp_path / "moment.npz"
    statistic.save(path)
    loaded = CrossMoment.load(path)
    assert_equal_statistics(loaded, statistic)
    assert isinstance(loaded.order, int)
    more = cross_moment_sums(batch, chain, 3)
    np.testing.assert_array_equal(loaded.merge(more).finalize(), statistic.merge(more).finalize())


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    path.write_text("not an archive")
    with pytest.raises(ValueError, match=r"is not a gloree\.CrossMoment file"):
        CrossMoment.load(path)
    np.savez(path, values=np.zeros(3))
    with pytest.raises(ValueError, match=r"expected gloree\.CrossMoment"):
        CrossMoment.load(path)
    np.savez(path, format=np.array("gloree.Other"), version=np.array(1))
    with pytest.raises(ValueError, match=r"holds gloree\.Other"):
        CrossMoment.load(path)


def test_files_of_a_later_version_are_refused(tmp_path):
    path = tmp_path / "later.npz"
    np.savez(path, format=np.array("gloree.CrossMoment"), version=np.array(99))
    with pytest.raises(ValueError, match=r"version 99 .* upgrade"):
        CrossMoment.load(path)


def test_files_with_pickles_are_refused(tmp_path):
    path = tmp_path / "pickle.npz"
    np.savez(path, format=np.array({"a": 1}, dtype=object), version=np.array(1))
    with pytest.raises(ValueError, match=r"is not a gloree\.CrossMoment file"):
        CrossMoment.load(path)


def test_errors_of_the_one_call_form():
    chain = make_chain()
    X, Y = make_data()
    with pytest.raises(ValueError, match="`order` must be at least 1"):
        cross_moment(chain, X, Y, 0)
    with pytest.raises(ValueError, match="`Y` is missing"):
        cross_moment(chain, X, None, 2)
    with pytest.raises(ValueError, match="`X` has 2 inputs, `chain` has 3"):
        cross_moment(chain, [x[:, :2] for x in X], Y, 2)


def test_swapped_arguments_are_refused_with_their_order():
    X, Y, _, chain = datasets.make_rnn(3, 4, 2, 2, 2, random_state=0)
    with pytest.raises(TypeError, match=r"`chain` is a ndarray.*\(chain, X, Y, order\)"):
        cross_moment(X, chain, Y, 2)
    for order in (2.0, "2"):
        with pytest.raises(TypeError, match="`order` must be an integer"):
            cross_moment(chain, X, Y, order)
