"""Features of a word: the word itself, its prefixes and suffixes, and its shape."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gloree.sequences import IntArray

LONGEST_AFFIX, LONGEST_CASED_SUFFIX, LONGEST_LENGTH = 5, 3, 12
IDENTITIES = ("word ", "lower ")  # features that identify words, counted by occurrence in the text

EVERY_WORD = "bias"  # the feature that all words have

BoolArray = NDArray[np.bool_]
Thing = TypeVar("Thing", bound=Hashable)
Token = tuple[str, bool]  # a word, and whether it is the first of a sentence


def tokens(sentences: Iterable[Sequence[str]]) -> list[Token]:
    """Words of all sentences, one after another, with whether each is the first."""
    return [(word, place == 0) for sentence in sentences for place, word in enumerate(sentence)]


def features(token: Token) -> list[str]:
    """Names of the features of a token."""
    word, initial = token
    lower, case = word.lower(), case_of(word)
    found = [EVERY_WORD, f"word {word}", f"lower {lower}", f"shape {_shape(word)}", f"case {case}"]
    found += f"case {case} initial {initial}", f"length {min(len(word), LONGEST_LENGTH)}"
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


def case_of(word: str) -> str:
    """Whether a word is in capitals, one capital letter, a title, in lower case or another."""
    if word.isupper():
        return "upper" if len(word) > 1 else "letter"
    if word[:1].isupper():
        return "title"
    return "lower" if word.islower() else "other"


def _shape(word: str) -> str:
    """Letters as x or X and digits as 0, with runs of the same cut to two."""
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

    `of_tokens` is 1 where a different token, a word at the start of a sentence or inside, has a
    feature, `of_words` where a word has it at either place; `token` and `word` are the rows of
    every token of the text in these.
    """

    names: tuple[str, ...]
    of_tokens: sparse.csr_matrix
    of_words: sparse.csr_matrix
    token: IntArray
    word: IntArray

    @classmethod
    def of(cls, text: Sequence[Token]) -> FeatureTable:
        """Collect the features of a text."""
        different, words = numbered(text), numbered([word for word, _ in text])
        of_tokens = [features(token) for token in different]
        of_words = [features((word, True)) + features((word, False)) for word in words]
        index = numbered(chain(*of_tokens, *of_words))
        by_token, by_word = (
            indicators([[index[name] for name in dict.fromkeys(row)] for row in rows], len(index))
            for rows in (of_tokens, of_words)
        )
        token = np.array([different[token] for token in text])
        word = np.array([words[word] for word, _ in text])
        return cls(tuple(index), by_token, by_word, token, word)

    def frequent(self, inside: BoolArray, min_count: int) -> IntArray:
        """Numbers of the features that are frequent enough in a part of the text.

        A word or its lower-cased form must occur `min_count` times there, all others in as many
        different words: a rare word then has only features that an unknown word may have. A
        ValueError where no feature is frequent that a word may have or not.
        """
        counts = np.bincount(self.word[inside], minlength=self.of_words.shape[0])
        in_text = counts @ self.of_words
        in_words = (counts > 0) @ self.of_words
        relevant = np.where(identities(self.names), in_text, in_words)
        chosen = np.flatnonzero(relevant >= min_count)
        if not any(self.names[number] != EVERY_WORD for number in chosen[:2]):
            raise ValueError(
                f"`min_count` is {min_count}, but no word and no beginning or end of words occurs "
                f"so often in the {len(self.word[inside]):,} words of a part of the text that is "
                f"fitted: lower it (2 is usual)"
            )
        return chosen


def numbered(things: Iterable[Thing]) -> dict[Thing, int]:
    """Different things, numbered in the order of their first appearance."""
    return {thing: number for number, thing in enumerate(dict.fromkeys(things))}


def indicators(columns: Sequence[Sequence[int]], n_columns: int) -> sparse.csr_matrix:
    """Sparse matrix of zeros and ones, with the columns of the ones in each row."""
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in row], dtype=np.int64)
    ones = np.ones(len(flat), dtype=np.float32)
    return sparse.csr_matrix((ones, flat, ends), shape=(len(columns), n_columns))


def identities(names: Iterable[str]) -> BoolArray:
    """Which features identify words."""
    return np.array([name.startswith(IDENTITIES) for name in names], dtype=bool)
