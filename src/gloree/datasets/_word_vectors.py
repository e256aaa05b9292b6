"""Dense word vectors for tagging, from the spelling and the surroundings of words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gloree._storage import load_arrays, save_arrays
from gloree.datasets._tag_scores import fit_scores, regress_scores
from gloree.datasets._text_checks import (
    check_integers,
    check_positive,
    check_sentences,
    check_tags,
)
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
IDENTITY = 2.0  # value of the features that are the word itself; those of its letters are 0 and 1


METHODS = {"least-squares": (regress_scores, 4.0, 4.0), "log-linear": (fit_scores, 1.0, 10.0)}
"""Ways to the scores, with their penalty and what multiplies it for neighbours."""



@dataclass(frozen=True, eq=False)
class WordVectors:
    """Dense vectors of words, known and unknown, that make their tags linear.

    A word has features: itself, its lower-cased form, its beginnings and ends of up to five
    letters, its shape, and whether it starts a sentence. From the counts of features and tags in
    a training text a linear model gives every word the scores ``W_{o,k}' f(x)`` of what it says
    about its own tag and those of its neighbours: either the ridge regression of the tag at each
    offset o from -width to width,

        e_k(y_t) ~ W_{o,k}' f(x_{t+o}),

    or the log-linear model of the window, log p(y_t = k) = sum_o W_{o,k}' f(x_{t+o}) + const. The
    vector of a word is the principal part of its scores.
    A word that was never seen, or seen once, has the scores of its features other than itself.

    Attributes
    ----------
    feature_names : tuple of str
    weights : ndarray of shape (n_features, n_dimensions)
    offset : ndarray of shape (n_dimensions,)
        Subtracted from the sum of the weights of a word's features.
    tag_names : tuple of str
        Tags of the training text, sorted.

    See Also
    --------
    read_conllu : Sentences with their tags from a file.

    Notes
    -----
    Words of the training text have been seen by the model, those of another text have not, so
    ``vectors.transform(training_sentences)`` follows another law than the vectors of a new text:
    it knows the tags of rare words too well. Train a tagger on the vectors that `fit_transform`
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
    def fit(
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
    ) -> WordVectors:
        """Vectors from a training text; see `fit_transform` for the parameters.

        Returns
        -------
        WordVectors
        """
        vectors, _ = cls.fit_transform(
            sentences,
            tags=tags,
            n_dimensions=n_dimensions,
            method=method,
            width=width,
            penalty=penalty,
            neighbour_penalty=neighbour_penalty,
            min_count=min_count,
            max_iter=max_iter,
            n_folds=n_folds,
        )
        return vectors

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
        """Vectors from a training text, and those of the text itself as if it were new.

        Parameters
        ----------
        sentences : list of list of str
            Words of the training text.
        tags : list of list of str
            A tag for every word.
        n_dimensions : int, optional
            By default, and at most, ``(2 width + 1) (n_tags - 1)``.
        method : {"least-squares", "log-linear"}, default "least-squares"
            How tags are predicted from features: by ridge regression, which is one linear system
            of counts, or by a log-linear model of the window, which takes gradient steps and is
            somewhat better.
        width : int, default 1
            Neighbours on each side whose tags a word's scores are about.
        penalty : float, optional
            Ridge of the weights: of the squared error, or twice that of the log-likelihood. By
            default 4, or 1 for "log-linear".
        neighbour_penalty : float, optional
            4 by default, or 10 for "log-linear". `penalty` is multiplied by it to the power of the
            distance, for what words say about the tags of their neighbours.
        min_count : int, default 2
            Words that occur less often are known by their other features only, and those must
            occur in so many different words.
        max_iter : int, default 15
            Steps of conjugate gradients or L-BFGS. The fit is stopped before it converges; later
            steps go into what is particular to the training text.
        n_folds : int, default 10
            Parts of the text, each of which gets its vectors from a model fitted to the others.

        Returns
        -------
        vectors : WordVectors
        X : list of ndarray of shape (n_words, n_dimensions)
            Vectors of the training sentences to train a tagger on.

        Raises
        ------
        TypeError
            If a sentence is no list of strings, or an option is of another type.
        ValueError
            If the text is empty, sentences and tags have different lengths, there are less than
            two tags, or a number is out of range.

        Notes
        -----
        The time is that of ``n_folds + 1`` fits, each of ``max_iter`` passes over the text: some
        20 s on one core for 200,000 words, 20,000 different ones and 17 tags. The memory is a
        few arrays of as many numbers as there are features times ``(2 width + 1) n_tags``. There
        is no randomness: the parts are consecutive sentences, and the fit starts from zero.

        The first dimensions matter most: they are the principal directions of the scores of the
        training text, in falling order of variance. More than the default number would be
        redundant, as scores of one offset matter only up to a constant.
        """
        check_sentences(sentences, "sentences")
        check_tags(sentences, tags)
        least = {"width": (width, 0), "min_count": (min_count, 1), "max_iter": (max_iter, 1)}
        check_integers({**least, "n_folds": (n_folds, 2)})
        if n_folds > len(sentences):
            raise ValueError(f"`n_folds` is {n_folds}, but there are {len(sentences)} sentences")
        number_of = {tag: number for number, tag in enumerate(sorted(set(chain(*tags))))}
        largest = (2 * width + 1) * (len(number_of) - 1)
        if n_dimensions is None:
            n_dimensions = largest
        if method not in METHODS:
            raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
        fit, usual, usual_neighbour = METHODS[method]
        penalty = usual if penalty is None else penalty
        if neighbour_penalty is None:
            neighbour_penalty = usual_neighbour
        check_positive({"penalty": penalty, "neighbour_penalty": neighbour_penalty})
        check_integers({"n_dimensions": (n_dimensions, 1)})
        if n_dimensions > largest:
            raise ValueError(
                f"`n_dimensions` must be from 1 to {largest} = (2 width + 1) (n_tags - 1), "
                f"got {n_dimensions}"
            )
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        y = np.array([number_of[tag] for tag in chain(*tags)], dtype=np.int64)
        table = FeatureTable.of(tokens(sentences))
        stretch: Array = np.where(identities(table.names), IDENTITY, 1.0)
        distances = [abs(offset) for offset in range(-width, width + 1)]

        def fitted(inside: BoolArray) -> tuple[IntArray, Array]:
            """Features and their weights from a part of the sentences."""
            words = np.repeat(inside, lengths)
            chosen = table.frequent(words, min_count)
            weights = fit(
                table.of_kinds[:, chosen] @ sparse.diags(stretch[chosen]),
                table.kind[words],
                lengths[inside],
                y[words],
                len(number_of),
                penalties=[penalty * neighbour_penalty**distance for distance in distances],
                max_iter=max_iter,
            )
            scaled: Array = weights * stretch[chosen, None]
            return chosen, scaled

        scores = np.empty((len(y), len(distances) * len(number_of)))
        for fold in np.array_split(np.arange(len(lengths)), n_folds):
            left_out = np.zeros(len(lengths), dtype=bool)
            left_out[fold] = True
            chosen, weights = fitted(~left_out)
            words = np.repeat(left_out, lengths)
            scores[words] = (table.of_kinds[:, chosen] @ weights)[table.kind[words]]
        mean = scores.mean(axis=0)
        basis = _principal(scores - mean, n_dimensions)
        chosen, weights = fitted(np.ones(len(lengths), dtype=bool))
        names = tuple(table.names[number] for number in chosen)
        vectors = cls(names, weights @ basis, mean @ basis, tuple(number_of))
        return vectors, np.split((scores - mean) @ basis, np.cumsum(lengths)[:-1])

    @property
    def n_dimensions(self) -> int:
        """Length of a vector."""
        return len(self.offset)

    def transform(self, sentences: Sequence[Sequence[str]]) -> list[Array]:
        """Vectors of the words of a text that was not used in the fit.

        Parameters
        ----------
        sentences : list of list of str

        Returns
        -------
        list of ndarray of shape (n_words, n_dimensions)

        Raises
        ------
        TypeError
            If a sentence is no list of strings.
        ValueError
            If there is no sentence, or one without words.

        Notes
        -----
        Hundreds of thousands of words a second: each different word is computed once and kept
        for later calls, at a cost in memory of ``n_dimensions`` numbers.
        """
        check_sentences(sentences, "sentences")
        rows = self._look_up(tokens(sentences))
        return np.split(rows, np.cumsum([len(sentence) for sentence in sentences])[:-1])

    def __getitem__(self, word: str) -> Array:
        """Vector of a word, known or not, inside a sentence."""
        if not isinstance(word, str):
            raise TypeError(f"a word must be a string, got {type(word).__name__}")
        (vector,) = self._look_up([(word, False)])
        found: Array = vector
        return found

    def __contains__(self, word: object) -> bool:
        """Whether a word was frequent enough in the training text to count as itself."""
        return f"word {word}" in self._index

    def save(self, path: str | PathLike[str]) -> None:
        """Write the vectors to an .npz file, without pickles."""
        save_arrays(
            path,
            FORMAT,
            VERSION,
            {
                "feature_names": _as_bytes(self.feature_names),
                "tag_names": _as_bytes(self.tag_names),
                "weights": self.weights,
                "offset": self.offset,
            },
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> WordVectors:
        """Read a file that `save` wrote.

        Raises
        ------
        gloree._storage.FormatError
            If the file holds something else.
        """
        arrays = load_arrays(path, FORMAT, VERSION)
        return cls(
            _as_names(arrays["feature_names"]),
            arrays["weights"],
            arrays["offset"],
            _as_names(arrays["tag_names"]),
        )

    def _look_up(self, words: Sequence[Token]) -> Array:
        """Vectors of tokens, each computed once."""
        kinds = numbered(words)
        new = [kind for kind in kinds if kind not in self._cache]
        if new:
            columns = [
                [self._index[name] for name in features(kind) if name in self._index]
                for kind in new
            ]
            rows = indicators(columns, len(self._index)) @ self.weights - self.offset
            self._cache.update(zip(new, rows, strict=True))
        table = np.array([self._cache[kind] for kind in kinds])
        vectors: Array = table[[kinds[word] for word in words]]
        return vectors


def _principal(centred: Array, n_dimensions: int) -> Array:
    """Orthonormal principal directions, of shape (n_scores, n_dimensions), with fixed signs."""
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :n_dimensions]
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(n_dimensions)])
    principal: Array = directions * signs
    return principal


def _as_bytes(names: Sequence[str]) -> NDArray[np.uint8]:
    """Names of any characters as an array: numpy's own strings lose nulls at the end."""
    return np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)


def _as_names(data: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(json.loads(data.tobytes()))
