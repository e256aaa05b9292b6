"""Score moments against naive averages of score tensors, and their laws as a statistic."""

from dataclasses import fields, replace

import numpy as np
import pytest
from helpers.comparisons import assert_close, assert_same_sums
from helpers.generators import LENGTHS, ragged, stable_chain

from gloree import datasets
from gloree.chains import GaussianVAR
from gloree.engine import MergeError
from gloree.moments import CrossMoment, cross_moment, cross_moment_sums
from gloree.score_functions import hermite_tensor, partial_score
from gloree.sequences import as_sequences

# Sums of some hundred terms of order one, in another order: eps times their number and size.
ALGEBRA = 1e-11


def make_data(n_inputs=3, lengths=LENGTHS):
    return ragged(n_inputs, 2, lengths, seed=9, mean=2.0)


@pytest.mark.parametrize("var_order", [1, 2])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moment_is_the_average_of_outputs_times_score_tensors(order, var_order):
    """Every step counts, first and last ones with their own score; nothing is centred here."""
    chain = stable_chain(order, 2, var_order)
    X, Y = make_data(n_inputs=2)
    tensors = partial_score(chain, X, order)
    expected = sum(np.tensordot(y, S, (0, 0)) for y, S in zip(Y, tensors, strict=True))
    expected = expected / sum(LENGTHS)
    assert_close(cross_moment(chain, X, Y, order, centre=False), expected, ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_centring_takes_the_mean_of_each_boundary_type(order):
    chain = stable_chain(order, 3)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    types = chain.boundary_types(batch)
    values, unbiased = batch.targets.copy(), batch.targets.copy()
    for each in np.unique(types):
        own, n = types == each, np.sum(types == each)
        values[own] -= values[own].mean(axis=0)
        others = batch.targets[own if n > 1 else slice(None)]
        unbiased[own] -= others.mean(axis=0)
        unbiased[own] *= len(others) / (len(others) - 1)
    tensors = np.concatenate(partial_score(chain, X, order))
    expected, other = (
        np.tensordot(each, tensors, (0, 0)) / batch.n_rows for each in (values, unbiased)
    )
    assert len(np.unique(types)) >= 4
    assert_close(cross_moment_sums(batch, chain, order).finalize(), expected, ALGEBRA)
    assert_close(cross_moment(chain, X, Y, order), other, ALGEBRA)


@pytest.mark.slow
def test_centring_is_no_loss_for_few_sequences():
    """Means of two rows hold half of each: moments were half of what they are, of one row zero."""
    law, rng = GaussianVAR([[0.5]], [[1.0]]), np.random.default_rng(0)
    for n_sequences, n_steps in ((1, 3), (2, 2)):
        drawn = law.sample(4000 * n_sequences, n_steps, rng).reshape(4000, n_sequences, n_steps, 1)
        found = np.array([cross_moment(law, X, X**2, 2).item() for X in drawn])
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - 2.0) < 4 * error  # E[x^2 S_2] = 2


def test_centred_moment_does_not_see_a_constant_of_the_outputs():
    chain = stable_chain(0, 3)
    X, Y = make_data()
    shifted = [y + np.array([100.0, -50.0]) for y in Y]
    # the constant costs two digits of the outputs
    assert_close(cross_moment(chain, X, shifted, 2), cross_moment(chain, X, Y, 2), 1e3 * ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_projected_moment_is_the_moment_of_the_projected_score(order):
    """E[y (x) S_m(V, .., V)]: the tensor of V^T s with covariance V^T K V."""
    chain = stable_chain(order, 3)
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
    assert_close(statistic.finalize(centre=False), expected, ALGEBRA)
    whole = cross_moment_sums(batch, chain, order).finalize()
    for axis in range(1, order + 1):
        whole = np.moveaxis(np.tensordot(whole, V, (axis, 0)), -1, axis)
    assert_close(statistic.finalize(), whole, ALGEBRA)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_segments_with_context_equal_whole_sequences(order):
    chain = stable_chain(order, 3, 2)
    X, Y = make_data(lengths=(30, 5, 17))
    data = as_sequences(X, Y)
    whole = cross_moment_sums(data.whole(), chain, order)
    before, after = chain.context
    statistic = CrossMoment.identity(chain, 2, order)
    for batch in data.batches(8, segment=4, before=before, after=after):
        statistic = statistic.merge(cross_moment_sums(batch, chain, order))
    assert statistic.n_rows == 52
    assert_same_sums(statistic, whole, ALGEBRA)


def test_order_of_sequences_does_not_matter():
    chain = stable_chain(0, 3)
    X, Y = make_data()
    turn = [3, 0, 4, 1, 2]
    assert_close(
        cross_moment(chain, [X[i] for i in turn], [Y[i] for i in turn], 2),
        cross_moment(chain, X, Y, 2),
        ALGEBRA,
    )


def test_permuting_outputs_and_inputs_permutes_the_moment():
    chain = stable_chain(0, 3)
    X, Y = make_data()
    p, q = [2, 0, 1], [1, 0]
    turned = GaussianVAR(
        chain.coefficients[:, p][:, :, p],
        chain.innovation_covariance[np.ix_(p, p)],
        np.asarray(chain.mean)[p],
    )
    moved = cross_moment(turned, [x[:, p] for x in X], [y[:, q] for y in Y], 2)
    expected = cross_moment(chain, X, Y, 2)[np.ix_(q, p, p)]
    assert_close(moved, expected, ALGEBRA)


def test_weights_count_rows_more_than_once():
    """A sequence of weight 3 is that sequence three times."""
    chain = stable_chain(0, 3)
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
    assert_same_sums(weighted, repeated, ALGEBRA)


def test_other_outputs_can_be_put_in_their_place():
    chain = stable_chain(0, 3)
    X, Y = make_data()
    batch = as_sequences(X, Y).whole()
    residual = cross_moment_sums(batch, chain, 2, targets=lambda b: b.targets[:, :1] - 1.0)
    expected = cross_moment(chain, X, [y[:, :1] - 1.0 for y in Y], 2)
    assert_close(residual.finalize(unbiased=True), expected, ALGEBRA)


def test_moment_is_symmetric_in_its_inputs():
    T = cross_moment(stable_chain(0, 3), *make_data(), 3)
    assert_close(T.transpose(0, 2, 1, 3), T, ALGEBRA)
    assert_close(T.transpose(0, 3, 2, 1), T, ALGEBRA)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_of_any_layout(dtype):
    chain = stable_chain(0, 3)
    rng = np.random.default_rng(5)
    X = rng.integers(-3, 4, (4, 10, 6)).astype(dtype)[:, ::2, ::2]
    Y = rng.integers(-3, 4, (4, 5, 2)).astype(dtype)
    X.flags.writeable = Y.flags.writeable = False
    expected = cross_moment(chain, X.astype(float).copy(), Y.astype(float), 2)
    assert_close(cross_moment(chain, np.asfortranarray(X), Y, 2), expected, ALGEBRA)
    assert_close(cross_moment(chain, X, Y, 2), expected, ALGEBRA)
    flat = cross_moment(chain, X.reshape(20, 3), Y.reshape(20, 2), 2, lengths=[5] * 4)
    assert_close(flat, expected, ALGEBRA)


def test_merging_leaves_the_statistic_as_it_was():
    chain = stable_chain(0, 3)
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
    chain = stable_chain(0, 3)
    batch = as_sequences(*make_data()).whole()
    once = cross_moment_sums(batch, chain, 3)
    assert_close(once.merge(once).finalize(), once.finalize(), ALGEBRA)


def test_no_data_has_no_moment():
    with pytest.raises(ValueError, match="moment of no data"):
        CrossMoment.identity(stable_chain(0, 3), 2, 2).finalize()


def test_merge_error_names_the_order():
    chain = stable_chain(0, 3)
    batch = as_sequences(*make_data()).whole()
    with pytest.raises(MergeError, match=r"CrossMoment: `order` differs \(2 against 3\)"):
        cross_moment_sums(batch, chain, 2).merge(cross_moment_sums(batch, chain, 3))


def test_merge_error_names_the_law():
    with pytest.raises(MergeError, match="`covariances` differs"):
        CrossMoment.identity(stable_chain(0, 3), 2, 2).merge(
            CrossMoment.identity(stable_chain(1, 3), 2, 2)
        )


def test_merge_error_names_the_outputs():
    chain = stable_chain(0, 3)
    with pytest.raises(MergeError, match="`output_sums` has shape"):
        CrossMoment.identity(chain, 2, 2).merge(CrossMoment.identity(chain, 3, 2))


def test_merge_error_names_the_type():
    with pytest.raises(MergeError, match="cannot merge CrossMoment with dict"):
        CrossMoment.identity(stable_chain(0, 3), 2, 2).merge({})


def test_saved_statistic_comes_back_bit_equal(tmp_path):
    chain = stable_chain(0, 3)
    batch = as_sequences(*make_data()).whole()
    statistic = cross_moment_sums(batch, chain, 3)
    path = tmp_path / "moment.npz"
    statistic.save(path)
    loaded = CrossMoment.load(path)
    assert_same_sums(loaded, statistic)
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
    chain = stable_chain(0, 3)
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


@pytest.mark.parametrize("name", ["centre", "control"])
def test_choices_that_are_none_are_refused_by_name(name):
    with pytest.raises(TypeError, match=f"`{name}` must be True or False, got 'no'"):
        cross_moment(stable_chain(2, 1), np.zeros((3, 2)), np.zeros((3, 1)), 1, **{name: "no"})
