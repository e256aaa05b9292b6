"""Dense word vectors for tagging, from the spelling and the surroundings of words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from numbers import Real
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gloree._storage import load_arrays, reading, save_arrays
from gloree.datasets._tag_scores import fit_scores, left_out_in_turn, regress_scores
from gloree.datasets._word_features import (
    BoolArray,
    FeatureTable,
    Token,
    features,
    identities,
    indicators,
    numbered,
    tokens,
)
from gloree.sequences import Array, IntArray

FORMAT, VERSION = "gloree.WordVectors", 1
RANGE = (1e-30, 1e30)
"""Of penalties: their sums with counts of words are ordinary numbers in single precision."""

Saved = tuple[NDArray[np.uint8], NDArray[np.uint8], Array, Array]
ARRAYS = ("feature_names", "tag_names", "weights", "offset")
IDENTITY = 2.0  # value of the features that are the word itself; those of its letters are 0 and 1

METHODS = {"least-squares": (regress_scores, 4.0, 4.0), "log-linear": (fit_scores, 1.0, 10.0)}
"""Functions that fit scores, with default values of `penalty` and `neighbour_penalty`."""


@dataclass(frozen=True, eq=False, repr=False)
class WordVectors:
    """Dense vectors of words, known and unknown, from which tags can be predicted linearly.

    A word has features: itself, its lower-cased form, its prefixes and suffixes of up to five
    letters, its shape, and whether it starts a sentence. From the counts of features and tags in
    a training text a linear model gives every word scores ``W_{o,k}' f(x)`` for its own tag and
    those of its neighbours: either the ridge regression of the tag at each offset o from -width to
    width,

        e_k(y_t) ~ W_{o,k}' f(x_{t+o}),

    or the log-linear model of the window, log p(y_t = k) = sum_o W_{o,k}' f(x_{t+o}) + const. The
    vector of a word consists of the principal components of its scores. A word that does not occur
    in the training text, or only once, has the scores of its other features.

    Attributes
    ----------
    feature_names : tuple of str
    weights : ndarray of shape (n_features, n_dimensions)
    offset : ndarray of shape (n_dimensions,)
        Subtracted from the sum of the weights of a word's features.
    tag_names : tuple of str
        Tags of the training text, sorted.

    Notes
    -----
    The model was fitted to the words of the training text, so
    ``vectors.transform(training_sentences)`` follows another law than the vectors of a new text:
    it predicts the tags of rare words too well. Train a tagger on the vectors that `fit_transform`
    returns, where those of each sentence come from a model that was fitted without it.

    References
    ----------
    .. [1] D. H. Wolpert, Stacked generalization, Neural Networks 5 (1992) 241-259.

    Examples
    --------
    >>> from gloree import datasets
    >>> words = [["the", "dog", "barks"], ["a", "cat", "sleeps"], ["the", "cat", "barks"]] * 4
    >>> tags = [["DET", "NOUN", "VERB"]] * 12
    >>> vectors, X = datasets.WordVectors.fit_transform(words, tags=tags, n_dimensions=3)
    >>> len(X), X[0].shape, vectors["dog"].shape
    (12, (3, 3), (3,))
    >>> vectors
    WordVectors(n_dimensions=3, n_features=21, n_tags=3)
    >>> vectors.transform([["the", "bird", "sleeps"]])[0].shape
    (3, 3)
    """

    feature_names: tuple[str, ...]
    weights: Array
    offset: Array
    tag_names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False)
    _cache: dict[Token, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", numbered(self.feature_names))
        object.__setattr__(self, "_cache", {})

    @classmethod
    def fit_transform(
        cls,
        sentences: Sequence[Sequence[str]],
        *,
        tags: Sequence[Sequence[str]],
        n_dimensions: int | None = None,
        method: str = "least-squares",
        width: int = 1,
        penalty: float | None = None,
        neighbour_penalty: float | None = None,
        min_count: int = 2,
        max_iter: int = 15,
        n_folds: int = 10,
    ) -> tuple[WordVectors, list[Array]]:
        """Fit vectors to a training text, and return those of the text itself as if it were new.

        Raises a TypeError or ValueError if sentences are not lists of strings, the text is empty,
        sentences and tags have different lengths, there are fewer than two tags, or an option is
        not what it may be.

        Parameters
        ----------
        sentences, tags : list of list of str
            Words of the training text, and a tag for every word.
        n_dimensions : int, optional
            By default, and at most, ``(2 width + 1) (n_tags - 1)``.
        method : {"least-squares", "log-linear"}, default "least-squares"
            How tags are predicted from features: by ridge regression, which is one linear system
            of counts, or by a log-linear model of the window, which takes gradient steps and is
            somewhat better.
        width : int, default 1
            Neighbours on each side for whose tags a word has scores.
        penalty : float, optional
            Ridge of the weights in the squared error, or twice that in the log-likelihood; by
            default 4, or 1 for "log-linear".
        neighbour_penalty : float, optional
            For the scores of neighbours `penalty` is multiplied by it to the power of the distance;
            by default 4, or 10 for "log-linear".
        min_count : int, default 2
            Words that occur less often are represented by their other features only, and those must
            occur in so many different words.
        max_iter : int, default 15
            Steps of conjugate gradients or L-BFGS. The fit stops before it converges; later steps
            fit peculiarities of the training text.
        n_folds : int, default 10
            Parts of the text, each of which gets its vectors from a model fitted to the others.

        Returns
        -------
        WordVectors, list of ndarray of shape (n_words, n_dimensions)
            The second are vectors of the training sentences to train a tagger on.

        Notes
        -----
        The time is that of ``n_folds + 1`` fits, each of ``max_iter`` passes over the text, the
        memory a few arrays of ``n_features (2 width + 1) n_tags`` numbers. There is no randomness:
        parts are consecutive sentences, and the fit starts from zero. Dimensions are the principal
        directions of the scores of the training text, in falling order of variance.
        """
        check_sentences(sentences, "sentences")
        check_tags(sentences, tags)
        least = {"width": (width, 0), "min_count": (min_count, 1), "max_iter": (max_iter, 1)}
        check_integers({**least, "n_folds": (n_folds, 2)})
        if n_folds > len(sentences):
            raise ValueError(f"`n_folds` is {n_folds}, but there are {len(sentences)} sentences")
        number_of = {tag: number for number, tag in enumerate(sorted(set(chain(*tags))))}
        largest = (2 * width + 1) * (len(number_of) - 1)
        n_dimensions = largest if n_dimensions is None else n_dimensions
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
        fit, usual, usual_neighbour = METHODS[method]
        penalty = usual if penalty is None else penalty
        neighbour_penalty = usual_neighbour if neighbour_penalty is None else neighbour_penalty
        check_positive({"penalty": penalty, "neighbour_penalty": neighbour_penalty})
        check_farthest(penalty, neighbour_penalty, width)
        check_integers({"n_dimensions": (n_dimensions, 1)})
        if n_dimensions > largest:
            raise ValueError(
                f"`n_dimensions` must be from 1 to {largest} = (2 width + 1) (n_tags - 1), "
                f"got {n_dimensions}"
            )
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        y = np.array([number_of[tag] for tag in chain(*tags)], dtype=np.int64)
        table = FeatureTable.of(tokens(sentences))
        size: Array = np.where(identities(table.names), IDENTITY, 1.0)
        distances = map(abs, range(-width, width + 1))
        penalties = [penalty * neighbour_penalty**distance for distance in distances]

        def fitted(inside: BoolArray) -> tuple[IntArray, Array]:
            """Features and their weights from a part of the sentences."""
            words = np.repeat(inside, lengths)
            chosen = table.frequent(words, min_count)
            F = table.of_tokens[:, chosen] @ sparse.diags(size[chosen])
            text = (table.token[words], lengths[inside], y[words], len(number_of))
            weights = fit(F, *text, penalties=penalties, max_iter=max_iter)
            return chosen, np.asarray(weights * size[chosen, None])

        scores = np.empty((len(y), len(penalties) * len(number_of)))
        for left_out in left_out_in_turn(len(lengths), n_folds):
            chosen, weights = fitted(~left_out)
            words = np.repeat(left_out, lengths)
            scores[words] = (table.of_tokens[:, chosen] @ weights)[table.token[words]]
        mean = scores.mean(axis=0)
        basis = principal(scores - mean, n_dimensions)
        chosen, weights = fitted(np.ones(len(lengths), dtype=bool))
        names = tuple(table.names[number] for number in chosen)
        vectors = cls(names, weights @ basis, mean @ basis, tuple(number_of))
        return vectors, np.split((scores - mean) @ basis, np.cumsum(lengths)[:-1])

    def __repr__(self) -> str:
        sizes = f"n_dimensions={self.n_dimensions}, n_features={len(self.feature_names)}"
        return f"{type(self).__name__}({sizes}, n_tags={len(self.tag_names)})"

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        return len(self.offset)

    def transform(self, sentences: Sequence[Sequence[str]]) -> list[Array]:
        """Vectors of a text that was not used in the fit, (n_words, n_dimensions) a sentence.

        Sentences are not empty lists of strings; others raise a TypeError or a ValueError. Hundreds
        of thousands of words a second: each different word is computed once and kept for later
        calls, which takes memory for ``n_dimensions`` numbers.
        """
        check_sentences(sentences, "sentences")
        rows = self._vectors(tokens(sentences))
        return np.split(rows, np.cumsum([len(sentence) for sentence in sentences])[:-1])

    def __getitem__(self, word: str) -> Array:
        """Vector of a word, known or not, inside a sentence."""
        if not isinstance(word, str):
            raise TypeError(f"a word must be a string, got {type(word).__name__}")
        return np.asarray(self._vectors([(word, False)])[0])

    def __contains__(self, word: object) -> bool:
        """Whether a word was frequent enough in the training text to count as itself."""
        return f"word {word}" in self._index

    def save(self, path: str | PathLike[str]) -> None:
        """Write the vectors to an .npz file, without pickles."""
        arrays = dict(zip(ARRAYS, arrays_of(self), strict=True))
        save_arrays(path, FORMAT, VERSION, arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> WordVectors:
        """Read a file that `save` wrote; anything else is a `gloree.models.FormatError`."""
        arrays = load_arrays(path, FORMAT, VERSION, ARRAYS)
        with reading(path, FORMAT):
            return vectors_from(**arrays)

    def _vectors(self, words: Sequence[Token]) -> Array:
        """Vectors of tokens, each different one computed once."""
        different = numbered(words)
        if new := [token for token in different if token not in self._cache]:
            names = (features(token) for token in new)
            index = self._index
            columns = [[index[name] for name in each if name in index] for each in names]
            rows = indicators(columns, len(index)) @ self.weights - self.offset
            self._cache.update(zip(new, rows, strict=True))
        table = np.array([self._cache[token] for token in different])
        return np.asarray(table[[different[word] for word in words]])


def names_as_array(names: Sequence[str]) -> NDArray[np.uint8]:
    """Names as JSON: NumPy's own strings lose nulls at the end."""
    return np.frombuffer(json.dumps(names).encode(), np.uint8)


def names_from_array(array: NDArray[np.uint8]) -> tuple[str, ...]:
    """Undo `names_as_array`; a ValueError for what is none."""
    names = json.loads(array.tobytes())
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names that are no list of strings")
    return tuple(names)


def arrays_of(vectors: WordVectors) -> Saved:
    """What is saved of word vectors, in the order of `ARRAYS`."""
    feature_names, tag_names = map(names_as_array, (vectors.feature_names, vectors.tag_names))
    return feature_names, tag_names, vectors.weights, vectors.offset


def vectors_from(
    feature_names: NDArray[np.uint8], tag_names: NDArray[np.uint8], weights: Array, offset: Array
) -> WordVectors:
    """Word vectors from arrays that were read; a ValueError where they do not fit."""
    names, tags = map(names_from_array, (feature_names, tag_names))
    shapes = (weights.shape, offset.shape)
    if shapes != ((len(names), offset.size), (offset.size,)):
        raise ValueError(f"weights and offset of shapes {shapes} for {len(names)} names")
    if not all(each.dtype.kind in "iuf" for each in (weights, offset)):
        raise ValueError(f"weights of type {weights.dtype}")
    return WordVectors(names, weights, offset, tags)


def principal(centred: Array, n_dimensions: int) -> Array:
    """Orthonormal principal directions, of shape (n_scores, n_dimensions), with fixed signs."""
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :n_dimensions]
    largest = np.abs(directions).argmax(axis=0)
    return np.asarray(directions * np.sign(directions[largest, np.arange(n_dimensions)]))


def check_sentences(sentences: Sequence[Sequence[str]], name: str, items: str = "words") -> None:
    """Refuse all but lists of lists of strings that are not empty."""
    _check_list(sentences, name, "sentences")
    if len(sentences) == 0:
        raise ValueError(f"`{name}` is empty")
    for number, sentence in enumerate(sentences):
        _check_list(sentence, f"{name}[{number}]", items)
        if len(sentence) == 0:
            raise ValueError(f"`{name}[{number}]` holds no {items}")
        other = {type(item).__name__ for item in sentence if not isinstance(item, str)}
        if other:
            raise TypeError(f"`{name}[{number}]` must hold strings, got {', '.join(other)}")


def _check_list(value: object, name: str, items: str) -> None:
    if isinstance(value, str):
        raise TypeError(f"`{name}` must be a list of {items}, got the string {value[:30]!r}")
    if not isinstance(value, Sequence | np.ndarray):
        found = "None" if value is None else type(value).__name__
        raise TypeError(f"`{name}` must be a list of {items}, got {found}")


def check_tags(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> None:
    """Refuse tags that do not fit checked sentences, or are all the same."""
    check_sentences(tags, "tags", "tags")
    if len(tags) != len(sentences):
        raise ValueError(f"`tags` has {len(tags)} sentences, `sentences` has {len(sentences)}")
    for number, (words, of_words) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(of_words):
            raise ValueError(f"`tags[{number}]` has {len(of_words)} tags for {len(words)} words")
    different = set(chain(*tags))
    if len(different) < 2:
        raise ValueError(f"`tags` holds only {sorted(different)}; at least two tags are needed")


def check_integers(least: dict[str, tuple[object, int]]) -> None:
    """Refuse arguments that are not integers, or below their least values."""
    for name, (number, smallest) in least.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(f"`{name}` must be an integer, got {type(number).__name__}")
        if number < smallest:
            raise ValueError(f"`{name}` must be at least {smallest}, got {number}")


def check_positive(factors: dict[str, object]) -> None:
    """Refuse arguments that are not positive numbers, or beyond `RANGE`."""
    for name, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, Real):
            raise TypeError(f"`{name}` must be a number, got {type(factor).__name__}")
        if not 0.0 < float(factor) < np.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {factor}")
        if not RANGE[0] <= float(factor) <= RANGE[1]:
            raise ValueError(
                f"`{name}` must be from {RANGE[0]:g} to {RANGE[1]:g} (sums are in single "
                f"precision), got {factor}: 0.1 to 100 is usual"
            )


def check_farthest(penalty: float, neighbour_penalty: float, width: int) -> None:
    """Refuse penalties of the farthest neighbours beyond `RANGE`."""
    size = math.log10(penalty) + width * math.log10(neighbour_penalty)
    if not math.log10(RANGE[0]) <= size <= math.log10(RANGE[1]):
        raise ValueError(
            f"the penalty of the farthest neighbours, `penalty` * `neighbour_penalty` ** `width`, "
            f"must be from {RANGE[0]:g} to {RANGE[1]:g}, got {penalty:g} * {neighbour_penalty:g} "
            f"** {width}: choose a `neighbour_penalty` nearer to 1"
        )
