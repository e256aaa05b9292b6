"""What the letters of a word say: the word itself, its beginnings and ends, and its shape."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gloree.sequences import IntArray

LONGEST_AFFIX = 5
LONGEST_CASED_SUFFIX = 3
LONGEST_LENGTH = 12
IDENTITIES = ("word ", "lower ")
"""Kinds of features that tell words apart, whose counts are those of words in the text."""

BoolArray = NDArray[np.bool_]
Thing = TypeVar("Thing", bound=Hashable)
Token = tuple[str, bool]
"""A word, and whether it stands where a sentence starts."""


def tokens(sentences: Iterable[Sequence[str]]) -> list[Token]:
    """Words of all sentences, one after the other, with whether each is the first."""
    return [
        (word, position == 0) for sentence in sentences for position, word in enumerate(sentence)
    ]


def features(token: Token) -> list[str]:
    """Names of the features of a token, each a kind and a value."""
    word, initial = token
    lower, case = word.lower(), _case(word)
    found = [
        "bias",
        f"word {word}",
        f"lower {lower}",
        f"shape {_shape(word)}",
        f"case {case}",
        f"case {case} initial {initial}",
        f"length {min(len(word), LONGEST_LENGTH)}",
    ]
    for length in range(1, min(LONGEST_AFFIX, len(lower) - 1) + 1):
        found += f"prefix {lower[:length]}", f"suffix {lower[-length:]}"
        if length <= LONGEST_CASED_SUFFIX:
            found.append(f"suffix {case} {lower[-length:]}")
    if initial:
        found.append("initial")
    if any(letter.isdigit() for letter in word):
        found.append("digit")
    if "-" in word:
        found += "hyphen", f"hyphen {lower.rpartition('-')[2][-LONGEST_CASED_SUFFIX:]}"
    if not any(letter.isalnum() for letter in word):
        found.append("symbols")
    return found


def _case(word: str) -> str:
    if word.isupper():
        return "upper" if len(word) > 1 else "letter"
    if word[:1].isupper():
        return "title"
    return "lower" if word.islower() else "other"


def _shape(word: str) -> str:
    """Letters as x or X and digits as 0, runs of the same cut to two."""
    shape = ""
    for letter in word:
        if letter.isalnum():
            letter = "X" if letter.isupper() else "0" if letter.isdigit() else "x"
        if shape[-2:] != 2 * letter:
            shape += letter
    return shape


@dataclass(frozen=True)
class FeatureTable:
    """Features of the different words of a training text.

    Attributes
    ----------
    names : tuple of str
    of_kinds : sparse matrix of shape (n_kinds, n_features)
        1 where a kind, a word at the start of a sentence or inside, has a feature.
    of_words : sparse matrix of shape (n_words, n_features)
        1 where a word, at the start or inside, has a feature.
    kind, word : ndarray of int, of shape (n_tokens,)
        Rows of every token of the text in these.
    """

    names: tuple[str, ...]
    of_kinds: sparse.csr_matrix
    of_words: sparse.csr_matrix
    kind: IntArray
    word: IntArray

    @classmethod
    def of(cls, text: Sequence[Token]) -> FeatureTable:
        """Read a text."""
        kinds = numbered(text)
        words = numbered([word for word, _ in text])
        index: dict[str, int] = {}
        of_kinds = [_columns(features(kind), index) for kind in kinds]
        of_words = [
            _columns(dict.fromkeys(features((word, True)) + features((word, False))), index)
            for word in words
        ]
        return cls(
            tuple(index),
            indicators(of_kinds, len(index)),
            indicators(of_words, len(index)),
            np.array([kinds[token] for token in text]),
            np.array([words[word] for word, _ in text]),
        )

    def frequent(self, inside: BoolArray, min_count: int) -> IntArray:
        """Numbers of the features that are frequent enough in a part of the text.

        A word or its lower-cased form must occur `min_count` times there, all other features
        in `min_count` different words: the features of a rare word are then those that a word
        never seen can have.
        """
        counts = np.bincount(self.word[inside], minlength=self.of_words.shape[0])
        in_text = counts @ self.of_words
        in_words = (counts > 0) @ self.of_words
        relevant = np.where(identities(self.names), in_text, in_words)
        return np.flatnonzero(relevant >= min_count)


def numbered(things: Iterable[Thing]) -> dict[Thing, int]:
    """Different things with their numbers, in the order of their first appearance."""
    return {thing: number for number, thing in enumerate(dict.fromkeys(things))}


def indicators(columns: Sequence[Sequence[int]], n_columns: int) -> sparse.csr_matrix:
    """Sparse matrix of zeros and ones, with the columns of the ones in each row."""
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in row], dtype=np.int64)
    ones = np.ones(len(flat), dtype=np.float32)
    return sparse.csr_matrix((ones, flat, ends), shape=(len(columns), n_columns))


def identities(names: Iterable[str]) -> BoolArray:
    """Which features tell words apart."""
    return np.array([name.startswith(IDENTITIES) for name in names], dtype=bool)


def _columns(names: Iterable[str], index: dict[str, int]) -> list[int]:
    """Numbers of features, new ones being added."""
    return [index.setdefault(name, len(index)) for name in names]
