"""Vectors of words in sentences: made-up languages whose tags are told by pairs of words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from gloree.datasets import ContextVectors, WordVectors
from gloree.datasets._context_scores import regress_context
from gloree.datasets._pair_features import (
    N_PAIRS,
    PAIRS,
    CodedText,
    indicators_of_pairs,
    itself,
    kind,
    names_of,
)
from gloree.datasets._tag_scores import conjugate_gradients
from gloree.datasets._word_features import numbered
from gloree.models import FormatError

# sums of some hundred float32 numbers of order one
SINGLE_PRECISION = 1e-4


def language(n_sentences, seed=0):
    """The tag of ``x`` is whether its neighbours are the same: either alone tells nothing."""
    rng = np.random.default_rng(seed)
    words, tags = [], []
    for left, right in rng.integers(2, size=(n_sentences, 2)):
        words.append([["pa", "qo"][left], "x", ["pa", "qo"][right]])
        tags.append(["END", "SAME" if left == right else "OTHER", "END"])
    return words, tags


WORDS, TAGS = language(60)
SMALL = {"n_folds": 3}


@pytest.fixture(scope="module")
def fitted():
    return ContextVectors.fit_transform(WORDS, tags=TAGS, **SMALL)


def middle(X):
    return np.array([x[1] for x in X])


def share_right(train, train_tags, test, test_tags):
    """Share of tags that the least-squares fit of one side tells the other."""
    rows = np.column_stack([np.ones(len(train)), train])
    weights = np.linalg.lstsq(rows, np.where(train_tags == "SAME", 1.0, -1.0), rcond=1e-8)[0]
    found = np.column_stack([np.ones(len(test)), test]) @ weights > 0.0
    return np.mean(found == (test_tags == "SAME"))


def test_a_tag_that_is_told_by_a_pair_and_by_neither_word_is_found(fitted):
    vectors, X = fitted
    words, tags = language(60, seed=1)
    sides = [np.array([each[1] for each in part]) for part in (TAGS, tags)]
    assert share_right(middle(X), sides[0], middle(vectors.transform(words)), sides[1]) == 1.0

    # not by a linear model of the vectors of all three words
    alone, own = WordVectors.fit_transform(WORDS, tags=TAGS, **SMALL)
    before, after = (np.array([x.ravel() for x in X]) for X in (own, alone.transform(words)))
    assert share_right(before, sides[0], after, sides[1]) < 0.9


def test_the_first_dimensions_are_the_word_vectors(fitted):
    vectors, X = fitted
    alone, own = WordVectors.fit_transform(WORDS, tags=TAGS, **SMALL)
    n = alone.n_dimensions
    assert vectors.n_dimensions == n + 2 == X[0].shape[1]
    for mine, its in zip(X, own, strict=True):
        np.testing.assert_array_equal(mine[:, :n], its)
    found, expected = vectors.transform(WORDS), alone.transform(WORDS)
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine[:, :n], its)


def test_training_vectors_come_from_models_that_did_not_see_the_sentence():
    """A change of tags in one fold changes no vectors of this fold, up to the common basis."""
    changed = [["END", "SAME", "OTHER"]] * 20 + TAGS[20:]
    n = 6
    first, second = (
        ContextVectors.fit_transform(WORDS, tags=tags, **SMALL)[1] for tags in (TAGS, changed)
    )
    gaps = [
        np.linalg.norm(rows[:, None] - rows, axis=2)
        for rows in (np.vstack(part)[:, n:] for part in (first[:20], second[:20]))
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=SINGLE_PRECISION)
    later = [np.vstack(part[20:])[:, n:] for part in (first, second)]
    gaps = [np.linalg.norm(rows[:, None] - rows, axis=2) for rows in later]
    assert np.abs(gaps[0] - gaps[1]).max() > 0.1


def test_vectors_of_a_part_are_those_of_a_model_of_the_others():
    """Cross-fitted vectors against a fit of the other folds alone, up to the common basis."""
    text, own = WORDS[20:], TAGS[20:]
    # steps that end before so small a system is solved, after which they follow its rounding
    few = {"max_iter": 3}
    vectors, _ = ContextVectors.fit_transform(text, tags=own, n_folds=2, **few)
    _, X = ContextVectors.fit_transform(WORDS, tags=TAGS, n_folds=3, **few)
    n = 6
    gaps = [
        np.linalg.norm(rows[:, None] - rows, axis=2)
        for rows in (np.vstack(each)[:, n:] for each in (vectors.transform(WORDS[:20]), X[:20]))
    ]
    assert gaps[0] == pytest.approx(gaps[1], abs=SINGLE_PRECISION)


def test_a_sentence_has_its_vectors_whatever_stands_beside_it(fitted):
    vectors, _ = fitted
    text = [["pa", "x", "qo"], ["x"], ["never", "seen", "x", "pa"]]
    together = vectors.transform(text)
    for sentence, found in zip(text, together, strict=True):
        # the same sums of float32 numbers, perhaps in another order
        np.testing.assert_allclose(vectors.transform([sentence])[0], found, atol=SINGLE_PRECISION)
        assert np.isfinite(found).all()


def test_the_same_text_gives_the_same_vectors(fitted):
    again, X = ContextVectors.fit_transform(WORDS, tags=TAGS, **SMALL)
    np.testing.assert_array_equal(again.pair_weights, fitted[0].pair_weights)
    np.testing.assert_array_equal(np.vstack(X), np.vstack(fitted[1]))


def test_saved_vectors_are_read_back_as_they_were(fitted, tmp_path):
    vectors, _ = fitted
    vectors.save(tmp_path / "vectors.npz")
    loaded = ContextVectors.load(tmp_path / "vectors.npz")
    assert loaded.tag_names == vectors.tag_names == ("END", "OTHER", "SAME")
    for before, after in zip(vectors.transform(WORDS), loaded.transform(WORDS), strict=True):
        np.testing.assert_array_equal(before, after)
    assert repr(loaded) == repr(vectors) and len(repr(vectors)) < 100


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("known", np.ones(2, dtype=bool), "known of another shape"),
        ("n_pairs", np.ones(3, dtype=int), "n_pairs of another shape"),
        ("n_pairs", np.full(N_PAIRS, -1), "n_pairs of another shape"),
        ("pair_weights", np.ones((1, 2)), "pair_weights of another shape"),
        ("context_offset", np.ones(3), "context_offset of another shape"),
        ("words_weights", np.ones((1, 1)), "weights and offset of shapes"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(fitted, name, value, message, tmp_path):
    path = tmp_path / "vectors.npz"
    fitted[0].save(path)
    with np.load(path) as file:
        arrays = {**file, name: value}
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=message):
        ContextVectors.load(path)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"penalty": 0.0}, ValueError, "`penalty` must be positive"),
        ({"max_iter": 0}, ValueError, "`max_iter` must be at least 1"),
        ({"penalty": 1e39}, ValueError, r"`penalty` must be from 1e-30 to 1e\+30 .* got 1e\+39"),
        ({"penalty": 1e-320}, ValueError, r"`penalty` must be from 1e-30 .* 0.1 to 100 is usual"),
        ({"min_count": 0}, ValueError, "`min_count` must be at least 1"),
        ({"min_count": 10**6}, ValueError, "`min_count` is 1000000, but no word .*: lower it"),
        ({"n_folds": 61}, ValueError, "`n_folds` is 61"),
        ({"method": "best"}, ValueError, "`method` must be one of"),
        ({"n_dimensions": 7}, ValueError, "`n_dimensions` must be from 1 to 6"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        ContextVectors.fit_transform(WORDS, tags=TAGS, **options)


# --------------------------------------------------------------------------------------- parts

SENTENCES = [["The", "dog", "ran", "to", "town"], ["the", "cat", "ran"], ["Go"]]


def named_pairs(sentences, known):
    """The pairs at each word by their names, with loops."""
    found = []
    for words in sentences:
        for t in range(len(words)):
            row = []
            for places in PAIRS:
                forms = []
                for place in places:
                    if not 0 <= t + place < len(words):
                        forms.append(("outside", "outside"))
                        continue
                    word = words[t + place]
                    first = itself(word) if word.lower() in known else kind(word)
                    forms.append((first, kind(word)))
                row += [(left, right) for left in forms[0] for right in forms[1]]
            found.append(row)
    return found


@pytest.mark.parametrize("known", [{"the", "ran"}, set()])
def test_keys_are_equal_where_the_named_pairs_are(known):
    names = names_of(SENTENCES)
    text = CodedText.of(SENTENCES, numbered(names))
    keys = text.keys(np.array([name in {f"word {word}" for word in known} for name in names]))
    expected = named_pairs(SENTENCES, known)
    assert len(keys) == N_PAIRS == len(expected[0])
    for place, own in enumerate(keys):
        named = [row[place] for row in expected]
        same = [[a == b for b in named] for a in named]
        np.testing.assert_array_equal(own[:, None] == own, same)


def test_words_without_a_number_are_in_no_known_pair():
    names = names_of(SENTENCES)
    training = CodedText.of(SENTENCES, numbered(names))
    known = np.array([name.startswith("word ") for name in names])
    table = [np.unique(keys) for keys in training.keys(known)]
    text = CodedText.of([["zzz"] * 5], numbered(names))
    # neither are the words in the middle next to an end
    assert indicators_of_pairs(text.keys(known), table)[2].nnz == 0
    every = indicators_of_pairs(training.keys(known), table)
    assert every.shape == (9, sum(map(len, table)))
    np.testing.assert_array_equal(every.sum(axis=1), N_PAIRS)


def test_case_and_ending_are_the_kind_of_a_word():
    found = [kind(word) for word in ("Running", "to", "USA")]
    assert found == ["kind title ng", "kind lower to", "kind upper sa"]


def test_rare_words_that_end_like_a_word_are_not_that_word():
    """``cabin`` is in lower case and ends in ``in``, and is no preposition."""
    sentences = [["in", "cabin"]] * 3 + [["the", "bin"], ["lower", "in"]]
    names = names_of(sentences)
    text = CodedText.of([["in"], ["cabin"], ["bin"]], numbered(names))
    frequent = np.array([name == itself("in") for name in names])
    # the last of PAIRS is the word and one beyond the end: as itself, and as its kind
    as_itself, _, as_kind, _ = text.keys(frequent)[-4:]
    assert as_itself[0] != as_itself[1] == as_itself[2] == as_kind[0] == as_kind[1] == as_kind[2]


def test_files_in_which_kinds_were_counted_as_words_are_refused(fitted, tmp_path):
    path = tmp_path / "vectors.npz"
    fitted[0].save(path)
    with np.load(path) as file:
        arrays = {**file, "version": 1}
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=r"version 1 of gloree.ContextVectors.*fit .* anew"):
        ContextVectors.load(path)


def test_conjugate_gradients_rest_where_a_system_is_solved():
    """A system that is singular to rounding, solved long before the last step."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((8, 3)) @ rng.standard_normal((3, 8))
    A = A.T @ A
    right = A @ rng.standard_normal((8, 2))
    found = conjugate_gradients(lambda d: A @ d, right.copy(), np.ones((8, 1)), 500)
    rounding = 64 * np.finfo(float).eps * np.linalg.norm(A) * np.linalg.norm(found)
    np.testing.assert_allclose(A @ found, right, atol=rounding)


def test_scores_solve_the_ridge_regression():
    """Conjugate gradients to the end against dense normal equations."""
    rng = np.random.default_rng(0)
    F = sparse.csr_matrix((rng.random((6, 5)) < 0.5).astype(float))
    index, tags = rng.integers(6, size=40), rng.integers(3, size=40)
    lengths = np.array([10, 1, 9, 20])
    pairs = sparse.csr_matrix((rng.random((40, 4)) < 0.3).astype(float))
    penalties = (4.0, 1.0, 3.0, 2.0)
    of_words, of_pairs, mean = regress_context(
        F, index, lengths, pairs, tags, 3, penalties=penalties, max_iter=60
    )
    np.testing.assert_array_equal(mean, np.bincount(tags) / 40)
    starts, ends = (
        np.repeat(each, lengths) for each in (np.cumsum(lengths) - lengths, np.cumsum(lengths))
    )
    columns = []
    for offset in (-1, 0, 1):
        at = np.arange(40) + offset
        inside = (at >= starts) & (at < ends)
        columns.append(F.toarray()[index[np.clip(at, 0, 39)]] * inside[:, None])
    A = np.hstack([*columns, pairs.toarray()])
    ridge = np.repeat(penalties, [5, 5, 5, 4])
    W = np.linalg.solve(A.T @ A + np.diag(ridge), A.T @ (np.eye(3)[tags] - mean))
    found = np.vstack([of_words[:, 3 * k : 3 * k + 3] for k in range(3)] + [of_pairs])
    np.testing.assert_allclose(found, W, atol=SINGLE_PRECISION)
