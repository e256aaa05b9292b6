"""Word vectors: a made-up language whose tags follow from endings and neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from gloree import datasets
from gloree.datasets import WordVectors
from gloree.datasets._tag_scores import fit_scores, regress_scores, shifted
from gloree.datasets._word_features import FeatureTable, features, tokens

# sums of a hundred float32 numbers of order one
SINGLE_PRECISION = 1e-4
# products of matrices in double precision, of order one
ALGEBRA_TOLERANCE = 1e-10
# conjugate gradients stop at a residual of the root of eps or so, at conditions of about a hundred
CONJUGATE_GRADIENTS = 1e-6

ENDINGS = {"VERB": "ing", "NOUN": "ness", "ADJ": "ful"}
PATTERNS = (("DET", "ADJ", "NOUN", "VERB"), ("DET", "NOUN", "VERB"), ("NOUN", "VERB", "ADJ"))


def language(n_sentences, seed=0, stems=60):
    """Sentences of words whose ending tells the tag, and determiners."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abdeklmnoprstu"))
    stem = ["".join(rng.choice(letters, 4)) for _ in range(stems)]
    words, tags = [], []
    for _ in range(n_sentences):
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
        sentence = [
            rng.choice(["the", "a"]) if tag == "DET" else rng.choice(stem) + ENDINGS[tag]
            for tag in pattern
        ]
        words.append([str(word) for word in sentence])
        tags.append(list(pattern))
    return words, tags


WORDS, TAGS = language(120)
SMALL = {"n_folds": 3, "max_iter": 10}


@pytest.fixture(scope="module")
def fitted():
    return WordVectors.fit_transform(WORDS, tags=TAGS, **SMALL)


def nearest_tags(vectors, X, sentences):
    """Tags by the nearest mean vector of a tag."""
    flat = np.array([tag for each in TAGS for tag in each])
    names = np.unique(flat)
    means = np.array([np.vstack(X)[flat == name].mean(axis=0) for name in names])
    found = np.vstack(vectors.transform(sentences))
    return names[((found[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]


def test_shapes_are_those_of_the_sentences(fitted):
    vectors, X = fitted
    assert vectors.tag_names == ("ADJ", "DET", "NOUN", "VERB")
    assert vectors.n_dimensions == 9  # three offsets, four tags less one
    assert [x.shape for x in X] == [(len(sentence), 9) for sentence in WORDS]
    assert all(x.dtype == np.float64 for x in vectors.transform(WORDS[:3]))
    assert [len(x) for x in vectors.transform(WORDS[:3])] == [len(s) for s in WORDS[:3]]


def test_words_never_seen_get_their_tags_from_their_endings(fitted):
    words, tags = language(50, seed=1)
    known = {word for sentence in WORDS for word in sentence}
    flat = [word for sentence in words for word in sentence]
    unknown = np.array([word not in known for word in flat])
    right = nearest_tags(*fitted, words) == [tag for each in tags for tag in each]
    assert unknown.sum() > 50
    assert right[unknown].all() and right.all()


def test_training_vectors_come_from_models_that_did_not_see_the_sentence():
    """A change of tags in one fold changes no vectors of this fold, up to the common basis."""
    kept = WordVectors.fit_transform(WORDS, tags=TAGS, **SMALL)[1]
    changed = [["DET"] * len(each) for each in TAGS[:40]] + TAGS[40:]
    others = WordVectors.fit_transform(WORDS, tags=changed, **SMALL)[1]
    first, second = np.vstack(kept[:40]), np.vstack(others[:40])
    assert distances(first) == pytest.approx(distances(second), abs=SINGLE_PRECISION)
    first, second = np.vstack(kept[40:]), np.vstack(others[40:])
    assert np.abs(distances(first) - distances(second)).max() > 0.1


def distances(X):
    """Distances between rows, which a rotation and a shift leave as they are."""
    return np.sqrt(((X[:, None] - X) ** 2).sum(axis=2))


def test_training_vectors_are_centred_and_uncorrelated_and_in_order(fitted):
    X = np.vstack(fitted[1])
    covariance = X.T @ X / len(X)
    assert X.mean(axis=0) == pytest.approx(0.0, abs=ALGEBRA_TOLERANCE * X.std())
    variances = np.diag(covariance)
    assert (np.diff(variances) <= 0.0).all() and variances[-1] > 0.0
    off = covariance - np.diag(variances)
    assert off == pytest.approx(0.0, abs=ALGEBRA_TOLERANCE * variances[0])


def test_fewer_dimensions_are_the_first_ones(fitted):
    vectors, X = fitted
    few, few_X = WordVectors.fit_transform(WORDS, tags=TAGS, n_dimensions=4, **SMALL)
    np.testing.assert_allclose(few_X[0], X[0][:, :4], atol=ALGEBRA_TOLERANCE)
    np.testing.assert_allclose(few["theful"], vectors["theful"][:4], atol=ALGEBRA_TOLERANCE)


def test_the_same_text_gives_the_same_vectors(fitted):
    again, _ = WordVectors.fit_transform(WORDS, tags=TAGS, **SMALL)
    np.testing.assert_array_equal(again.weights, fitted[0].weights)
    np.testing.assert_array_equal(again.offset, fitted[0].offset)
    assert again.feature_names == fitted[0].feature_names


def test_a_single_word_is_one_inside_a_sentence(fitted):
    vectors, _ = fitted
    (found,) = vectors.transform([["the", "xyzful"]])
    np.testing.assert_array_equal(vectors["xyzful"], found[1])
    assert not np.array_equal(vectors["the"], found[0])
    vectors["xyzful"][:] = 0.0
    np.testing.assert_array_equal(vectors["xyzful"], found[1])


def test_vectors_are_sums_over_features(fitted):
    vectors, _ = fitted
    rows = [n for n, name in enumerate(vectors.feature_names) if name in features(("ring", False))]
    assert len(rows) > 3
    expected = vectors.weights[rows].sum(axis=0) - vectors.offset
    np.testing.assert_allclose(vectors["ring"], expected, atol=ALGEBRA_TOLERANCE)


def test_frequent_words_are_known_and_rare_ones_are_not():
    words = [["once", "twice"], ["twice"], ["thrice", "thrice", "thrice"]]
    tags = [["A", "B"], ["B"], ["A", "A", "A"]]
    vectors, _ = WordVectors.fit_transform(words, tags=tags, n_folds=2)
    assert "twice" in vectors and "thrice" in vectors
    assert "once" not in vectors and "Twice" not in vectors and 3 not in vectors


@pytest.mark.parametrize(
    "word",
    ["a", "I", "", " ", "A.B.", "naïve", "日本語", "b2b", "e-mail", "\n", "😀", "ǅ", "İstanbul"],
)
def test_any_string_has_a_vector(fitted, word):
    vectors, _ = fitted
    assert vectors[word].shape == (9,) and np.isfinite(vectors[word]).all()


def test_saved_vectors_are_read_back_as_they_were(fitted, tmp_path):
    vectors, _ = fitted
    vectors.save(tmp_path / "vectors.npz")
    loaded = WordVectors.load(tmp_path / "vectors.npz")
    assert loaded.feature_names == vectors.feature_names
    assert loaded.tag_names == vectors.tag_names
    for before, after in zip(vectors.transform(WORDS), loaded.transform(WORDS), strict=True):
        np.testing.assert_array_equal(before, after)


def test_words_with_any_characters_survive_saving(tmp_path):
    words = [["a\nb", "x\x00", "é", "日本", "a\nb", "x\x00"]] * 2
    vectors, _ = WordVectors.fit_transform(words, tags=[["A", "B"] * 3] * 2, n_folds=2)
    vectors.save(tmp_path / "vectors.npz")
    loaded = WordVectors.load(tmp_path / "vectors.npz")
    assert loaded.feature_names == vectors.feature_names
    assert "a\nb" in loaded and "x\x00" in loaded


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(ValueError, match=r"expected gloree\.WordVectors"):
        WordVectors.load(tmp_path / "other.npz")


def test_vectors_are_frozen(fitted):
    with pytest.raises(AttributeError):
        fitted[0].weights = None


REFUSED = {
    "empty": (([], []), {}, ValueError, "`sentences` is empty"),
    "one string": (("the dog", TAGS), {}, TypeError, "`sentences` must be a list of sentences"),
    "strings": ((["the dog"], TAGS), {}, TypeError, r"`sentences\[0\]` must be a list of words"),
    "no words": (([[], ["a"]], TAGS), {}, ValueError, r"`sentences\[0\]` holds no words"),
    "numbers": (([["a", 1]], TAGS), {}, TypeError, r"`sentences\[0\]` must hold strings, got int"),
    "a number": (([3], TAGS), {}, TypeError, r"`sentences\[0\]` must be a list of words, got int"),
    "tags short": ((WORDS, TAGS[1:]), {}, ValueError, "`tags` has 119 sentences, .* has 120"),
    "tag missing": (([["a", "b"]], [["A"]]), {}, ValueError, r"`tags\[0\]` has 1 tags for 2 words"),
    "tags strings": ((WORDS, ["A"]), {}, TypeError, r"`tags\[0\]` must be a list of"),
    "no tags": ((WORDS, None), {}, TypeError, "`tags` must be a list of sentences, got None"),
    "one tag": (([["a"], ["b"]], [["A"]] * 2), {}, ValueError, r"`tags` holds only \['A'\]"),
    "large": ((WORDS, TAGS), {"n_dimensions": 10}, ValueError, "`n_dimensions` must be .* 1 to 9"),
    "none": (
        (WORDS, TAGS),
        {"n_dimensions": 0},
        ValueError,
        "`n_dimensions` must be at least 1",
    ),
    "width": ((WORDS, TAGS), {"width": -1}, ValueError, "`width` must be at least 0, got -1"),
    "half": ((WORDS, TAGS), {"width": 0.5}, TypeError, "`width` must be an integer, got float"),
    "penalty": ((WORDS, TAGS), {"penalty": 0.0}, ValueError, "`penalty` must be positive"),
    "word": ((WORDS, TAGS), {"penalty": "1"}, TypeError, "`penalty` must be a number, got str"),
    "neighbour": (
        (WORDS, TAGS),
        {"neighbour_penalty": np.nan},
        ValueError,
        "`neighbour_penalty` must be positive",
    ),
    "far": (
        (WORDS, TAGS),
        {"width": 2, "neighbour_penalty": 1e-20},
        ValueError,
        r"`neighbour_penalty` \*\* `width`, must be from 1e-30 .* got 4 \* 1e-20 \*\* 2",
    ),
    "rare": ((WORDS, TAGS), {"min_count": 999}, ValueError, "`min_count` is 999, .*: lower it"),
    "count": ((WORDS, TAGS), {"min_count": 0}, ValueError, "`min_count` must be at least 1"),
    "steps": ((WORDS, TAGS), {"max_iter": 0}, ValueError, "`max_iter` must be at least 1"),
    "fold": ((WORDS, TAGS), {"n_folds": 1}, ValueError, "`n_folds` must be at least 2"),
    "folds": ((WORDS, TAGS), {"n_folds": 121}, ValueError, "`n_folds` is 121.* 120 sentences"),
}


@pytest.mark.parametrize("data, options, error, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_fitted_is_refused_by_name(data, options, error, message):
    with pytest.raises(error, match=message):
        WordVectors.fit_transform(data[0], tags=data[1], **options)


def test_transform_and_lookup_check_their_words(fitted):
    vectors, _ = fitted
    with pytest.raises(TypeError, match=r"`sentences\[0\]` must be a list of words"):
        vectors.transform(["the dog"])
    with pytest.raises(ValueError, match="`sentences` is empty"):
        vectors.transform([])
    with pytest.raises(TypeError, match="a word must be a string, got int"):
        vectors[3]


def test_neighbours_stay_inside_their_sentence():
    index, lengths = np.array([5, 6, 7, 8]), np.array([3, 1])
    np.testing.assert_array_equal(shifted(index, lengths, -1, 9), [9, 5, 6, 9])
    np.testing.assert_array_equal(shifted(index, lengths, 0, 9), index)
    np.testing.assert_array_equal(shifted(index, lengths, 2, 9), [7, 9, 9, 9])


@pytest.mark.slow
def test_scores_solve_the_equations_of_the_log_linear_model():
    """At the maximum, ``sum_t F_{t+o} (1{y_t = k} - p_{tk}) = penalty_o W_{o,k}``, by loops."""
    words, tags = language(12, seed=2, stems=4)
    table = FeatureTable.of(tokens(words))
    lengths = np.array([len(sentence) for sentence in words])
    y = np.unique([tag for each in tags for tag in each], return_inverse=True)[1]
    penalties = [3.0, 1.0, 3.0]
    weights = fit_scores(
        table.of_tokens, table.token, lengths, y, 4, penalties=penalties, max_iter=300
    ).astype(np.float64)
    F = table.of_tokens.toarray()[table.token].astype(np.float64)
    pull = np.zeros_like(weights)
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        for t in range(start, end):
            near = [(o, t + o - 1) for o in range(3) if start <= t + o - 1 < end]
            scores = sum(F[s] @ weights[:, 4 * o : 4 * o + 4] for o, s in near)
            p = np.exp(scores - scores.max())
            residual = np.eye(4)[y[t]] - p / p.sum()
            for o, s in near:
                pull[:, 4 * o : 4 * o + 4] += np.outer(F[s], residual)
    expected = weights * np.repeat(penalties, 4)
    # relative to the pull of one tag on the strongest feature
    assert np.abs(pull - expected).max() < 1e2 * SINGLE_PRECISION


def test_features_of_a_word():
    assert set(features(("Re-Tested", True))) >= {
        "word Re-Tested",
        "lower re-tested",
        "prefix re-",
        "suffix ed",
        "suffix title ed",
        "shape Xx-Xxx",
        "case title initial True",
        "initial",
        "hyphen",
        "hyphen ted",
        "length 9",
    }
    assert "digit" in features(("b2b", False)) and "symbols" in features(("...", False))
    assert "symbols" not in features(("b2b", False))


def test_the_vectors_are_public():
    assert datasets.WordVectors is WordVectors and "WordVectors" in datasets.__all__


def test_least_squares_scores_solve_the_ridge_regression():
    """Conjugate gradients to the end against dense normal equations, offset by offset."""
    rng = np.random.default_rng(0)
    F = sparse.csr_matrix((rng.random((6, 5)) < 0.5).astype(float))
    index, tags = rng.integers(6, size=40), rng.integers(3, size=40)
    lengths = np.array([10, 1, 9, 20])
    found = regress_scores(F, index, lengths, tags, 3, penalties=[2.0, 0.5, 2.0], max_iter=60)
    dense, indicators = F.toarray(), np.eye(3)[tags]
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    ends = np.repeat(np.cumsum(lengths), lengths)
    for place, (offset, ridge) in enumerate(((-1, 2.0), (0, 0.5), (1, 2.0))):
        at = np.arange(40) + offset
        inside = (at >= starts) & (at < ends)
        # the Gram matrix is that of all words, those at the ends included
        rows, targets = dense[index[at[inside]]], indicators[inside]
        gram = dense[index].T @ dense[index] + ridge * np.eye(5)
        W = np.linalg.solve(gram, rows.T @ targets)
        W -= W.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(found[:, 3 * place : 3 * place + 3], W, atol=CONJUGATE_GRADIENTS)


def test_what_datasets_return_is_shown_in_a_line(tmp_path):
    """Not as every feature, sentence or row: a notebook would print megabytes."""
    words = [[f"word{i}{j}" for j in range(20)] for i in range(50)]
    tags = [["A", "B"] * 10] * 50
    vectors, _ = datasets.WordVectors.fit_transform(words, tags=tags)
    sentences = datasets.TaggedSentences(words, tags, "text.conllu")
    table = datasets.Table(np.zeros((1000, 1)), np.zeros((1000, 1)), ("u",), ("y",))
    assert repr(vectors).startswith("WordVectors(n_dimensions=3, n_features=")
    assert repr(sentences) == "TaggedSentences(50 sentences, 1000 words, path='text.conllu')"
    assert repr(table) == "Table(1000 rows, inputs=('u',), outputs=('y',))"
    assert max(len(repr(each)) for each in (vectors, sentences, table)) < 100
