"""Vectors of words in their sentences: word vectors, and scores of the words around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike

import numpy as np
from scipy import sparse

from gloree._storage import load_arrays, reading, save_arrays
from gloree.datasets._context_scores import NEIGHBOURS, regress_context, scores_of_neighbours
from gloree.datasets._pair_features import N_PAIRS, CodedText, indicators_of_pairs, names_of
from gloree.datasets._tag_scores import Weights, left_out_in_turn
from gloree.datasets._word_features import BoolArray, FeatureTable, identities, numbered, tokens
from gloree.datasets._word_vectors import (
    ARRAYS,
    IDENTITY,
    WordVectors,
    arrays_of,
    check_integers,
    check_positive,
    names_as_array,
    names_from_array,
    principal,
    vectors_from,
)
from gloree.sequences import Array, IntArray

FORMAT, VERSION = "gloree.ContextVectors", 2
NO_LONGER = {
    1: "which took words that end like 'in' or 'to' for these words: fit the vectors anew with "
    "`fit_transform`, and the tagger on what it returns"
}
OWN = ("code_names", "known", "pair_keys", "n_pairs", "pair_weights", "context_offset")
PARTS = ("words", "beside")
NEIGHBOUR = 4.0  # factor of the penalty for features of the words beside


@dataclass(frozen=True, eq=False, repr=False)
class ContextVectors:
    """Dense vectors of words in their sentences, from which tags can be predicted linearly.

    The first dimensions are those of `WordVectors`, which know nothing of the sentence. The others
    are scores of the word for its tag that look at the words around it: a ridge regression of the
    tag on the features of the word and of its two neighbours (those of `WordVectors`), and on pairs
    of words. Pairs are of two words at most two apart among the five around a word, each as itself
    (in lower case) or as its kind (case and last two letters), so that ``to run`` is also
    ``to`` before ``run``, ``to`` before a word in ``un``, and so on: 28 at every word.

    Attributes
    ----------
    words : WordVectors
    beside : WordVectors
        Parts in the scores of the word before, the word itself and the word after, in turn.
    code_names : tuple of str
        Words and kinds of words that occur in pairs.
    known : ndarray of bool, shape (n_codes,)
        Words that count as themselves.
    pair_keys : tuple of ndarray of int64
        For each kind of pair the numbers of those that have weights, in increasing order.
    pair_weights : ndarray of float32, shape (n_pairs, n_tags - 1)
    offset : ndarray of shape (n_tags - 1,)
        Subtracted from the scores.

    Notes
    -----
    Train a tagger on the vectors that `fit_transform` returns, as with `WordVectors`.

    Examples
    --------
    >>> from gloree import datasets
    >>> words = [["the", "dog", "barks"], ["a", "cat", "sleeps"], ["the", "cat", "barks"]] * 4
    >>> tags = [["DET", "NOUN", "VERB"]] * 12
    >>> vectors, X = datasets.ContextVectors.fit_transform(words, tags=tags)
    >>> len(X), X[0].shape
    (12, (3, 8))
    >>> vectors
    ContextVectors(n_dimensions=8, n_pairs=184, n_tags=3)
    >>> vectors.transform([["the", "bird", "sleeps"]])[0].shape
    (3, 8)
    """

    words: WordVectors
    beside: WordVectors
    code_names: tuple[str, ...]
    known: BoolArray
    pair_keys: tuple[IntArray, ...]
    pair_weights: Weights
    offset: Array
    _codes: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", numbered(self.code_names))

    @classmethod
    def fit_transform(
        cls,
        sentences: Sequence[Sequence[str]],
        *,
        tags: Sequence[Sequence[str]],
        n_dimensions: int | None = None,
        method: str = "least-squares",
        penalty: float = 4.0,
        min_count: int = 2,
        max_iter: int = 10,
        n_folds: int = 10,
    ) -> tuple[ContextVectors, list[Array]]:
        """Fit vectors to a training text, and return those of the text itself as if it were new.

        Raises what `WordVectors.fit_transform` raises.

        Parameters
        ----------
        sentences, tags : list of list of str
            Words of the training text, and a tag for every word.
        n_dimensions, method
            Of the word vectors, see `WordVectors.fit_transform`.
        penalty : float, default 4
            Ridge of the weights of pairs and of the word's own features; four times that for those
            of its neighbours.
        min_count : int, default 2
            Words and pairs that occur less often have no weights of their own.
        max_iter : int, default 10
            Steps of conjugate gradients, stopped before they converge.
        n_folds : int, default 10
            Parts of the text, each of which gets its vectors from models fitted to the others.

        Returns
        -------
        ContextVectors, list of ndarray of shape (n_words, n_dimensions)
            The second are vectors of the training sentences to train a tagger on; of
            ``n_dimensions`` columns for the word and n_tags - 1 for the scores.

        Notes
        -----
        The time of ``n_folds + 1`` fits of ``max_iter`` passes over the text; the memory is that of
        the 28 pairs of every word. There is no randomness.
        """
        check_integers({"max_iter": (max_iter, 1)})
        check_positive({"penalty": penalty})
        words, X = WordVectors.fit_transform(
            sentences,
            tags=tags,
            n_dimensions=n_dimensions,
            method=method,
            min_count=min_count,
            n_folds=n_folds,
        )
        fit = _Fit(sentences, tags, words.tag_names, penalty, min_count, max_iter)
        n_sentences = len(fit.text.lengths)
        scores = np.empty((len(fit.y), len(words.tag_names)))
        for left_out in left_out_in_turn(n_sentences, n_folds):
            found = fit.of(~left_out)
            scores[np.repeat(left_out, fit.text.lengths)] = fit.scores(found, left_out)
        mean = scores.mean(axis=0)
        basis = principal(scores - mean, len(words.tag_names) - 1)
        found = fit.of(np.ones(n_sentences, dtype=bool))
        shape = (len(found.chosen), len(NEIGHBOURS), len(words.tag_names))
        of_words = (found.of_words.reshape(shape) @ basis).reshape(len(found.chosen), -1)
        names = tuple(fit.table.names[number] for number in found.chosen)
        beside = WordVectors(names, of_words, np.zeros(of_words.shape[1]), words.tag_names)
        of_pairs = np.asarray(found.of_pairs @ basis, dtype=np.float32)
        offset = np.asarray((mean - found.mean) @ basis)
        codes = (fit.code_names, found.known, found.keys)
        vectors = cls(words, beside, *codes, of_pairs, offset)
        added = np.split((scores - mean) @ basis, np.cumsum(fit.text.lengths)[:-1])
        return vectors, [np.hstack(parts) for parts in zip(X, added, strict=True)]

    def __repr__(self) -> str:
        sizes = f"n_dimensions={self.n_dimensions}, n_pairs={len(self.pair_weights)}"
        return f"{type(self).__name__}({sizes}, n_tags={len(self.tag_names)})"

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        return self.words.n_dimensions + len(self.offset)

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Tags of the training text, sorted."""
        return self.words.tag_names

    def transform(self, sentences: Sequence[Sequence[str]]) -> list[Array]:
        """Vectors of a text that was not used in the fit, (n_words, n_dimensions) a sentence.

        Sentences are not empty lists of strings; others raise a TypeError or a ValueError.
        """
        X, parts = self.words.transform(sentences), self.beside.transform(sentences)
        text = CodedText.of(sentences, self._codes)
        flat = np.vstack(parts)
        pairs = indicators_of_pairs(text.keys(self.known), self.pair_keys)
        scores = (pairs @ self.pair_weights).astype(np.float64)
        scores += scores_of_neighbours(flat, np.arange(len(flat)), text.lengths)
        added = np.split(scores - self.offset, np.cumsum(text.lengths)[:-1])
        return [np.hstack(each) for each in zip(X, added, strict=True)]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the vectors to an .npz file, without pickles."""
        lengths = np.array([len(keys) for keys in self.pair_keys])
        own = (names_as_array(self.code_names), self.known, np.concatenate(self.pair_keys), lengths)
        arrays = dict(zip(OWN, (*own, self.pair_weights, self.offset), strict=True))
        for part in PARTS:
            names = [f"{part}_{name}" for name in ARRAYS]
            arrays |= dict(zip(names, arrays_of(getattr(self, part)), strict=True))
        save_arrays(path, FORMAT, VERSION, arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> ContextVectors:
        """Read a file that `save` wrote; anything else is a `gloree.models.FormatError`.

        So are files of version 1, where some kinds were counted as words: fit them anew.
        """
        names = [f"{part}_{name}" for part in PARTS for name in ARRAYS]
        arrays = load_arrays(path, FORMAT, VERSION, (*OWN, *names), no_longer=NO_LONGER)
        with reading(path, FORMAT):
            words, beside = (
                vectors_from(*(arrays[f"{part}_{name}"] for name in ARRAYS)) for part in PARTS
            )
            codes = names_from_array(arrays["code_names"])
            known, keys, lengths, weights, offset = (arrays[name] for name in OWN[1:])
            size = len(words.tag_names) - 1
            fits = {
                "known": known.shape == (len(codes),) and known.dtype == bool,
                "n_pairs": lengths.shape == (N_PAIRS,)
                and lengths.dtype.kind == "i"
                and lengths.min() >= 0,
                "pair_keys": keys.dtype == np.int64 and keys.shape == (int(lengths.sum()),),
                "pair_weights": weights.shape == (len(keys), size) and weights.dtype.kind == "f",
                "context_offset": offset.shape == (size,) and offset.dtype.kind == "f",
                "beside_weights": beside.n_dimensions == len(NEIGHBOURS) * size,
            }
            if wrong := [name for name, fit in fits.items() if not fit]:
                raise ValueError(f"{wrong[0]} of another shape or type than the others ask for")
            parts = tuple(np.split(keys, np.cumsum(lengths)[:-1]))
            return cls(words, beside, codes, known, parts, weights, offset)


@dataclass(frozen=True)
class _Found:
    """Weights from a part of a text: of chosen features of words, and of pairs by their keys."""

    chosen: IntArray
    of_words: Array
    known: BoolArray
    keys: tuple[IntArray, ...]
    of_pairs: Array
    mean: Array


class _Fit:
    """Regressions on parts of a training text."""

    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        tags: Sequence[Sequence[str]],
        tag_names: Sequence[str],
        penalty: float,
        min_count: int,
        max_iter: int,
    ) -> None:
        self.penalty, self.min_count, self.max_iter = penalty, min_count, max_iter
        number_of = numbered(tag_names)
        self.n_tags = len(number_of)
        self.y = np.array([number_of[tag] for tag in chain(*tags)], dtype=np.int64)
        self.table = FeatureTable.of(tokens(sentences))
        self.size: Array = np.where(identities(self.table.names), IDENTITY, 1.0)
        self.code_names = names_of(sentences)
        self.text = CodedText.of(sentences, numbered(self.code_names))

    def of(self, inside: BoolArray) -> _Found:
        """Weights from a part of the sentences."""
        words = np.repeat(inside, self.text.lengths)
        chosen = self.table.frequent(words, self.min_count)
        counts = np.bincount(self.text.lower[words], minlength=len(self.code_names))
        known = counts >= self.min_count
        keys = [key[words] for key in self.text.keys(known)]
        frequent = tuple(_frequent(key, self.min_count) for key in keys)
        F = (self.table.of_tokens[:, chosen] @ sparse.diags(self.size[chosen])).tocsr()
        text = (self.table.token[words], self.text.lengths[inside])
        beside = NEIGHBOUR * self.penalty
        of_words, of_pairs, mean = regress_context(
            *(F, *text, indicators_of_pairs(keys, frequent), self.y[words], self.n_tags),
            penalties=(beside, self.penalty, beside, self.penalty),
            max_iter=self.max_iter,
        )
        of_words = of_words * self.size[chosen, None]
        return _Found(chosen, of_words, known, frequent, of_pairs, mean)

    def scores(self, found: _Found, outside: BoolArray) -> Array:
        """Scores of other sentences, shape (n_words, n_tags)."""
        words = np.repeat(outside, self.text.lengths)
        token, lengths = self.table.token[words], self.text.lengths[outside]
        of_kinds = self.table.of_tokens[:, found.chosen] @ found.of_words
        keys = [key[words] for key in self.text.keys(found.known)]
        scores = indicators_of_pairs(keys, found.keys) @ found.of_pairs + found.mean
        return np.asarray(scores + scores_of_neighbours(of_kinds, token, lengths))


def _frequent(keys: IntArray, min_count: int) -> IntArray:
    """Different keys that occur often enough, in increasing order."""
    different, counts = np.unique(keys, return_counts=True)
    return np.asarray(different[counts >= min_count])
