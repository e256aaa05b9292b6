"""Features of pairs of words: two words of a window, each as itself or as one of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from gloree.datasets._tag_scores import shifted
from gloree.datasets._word_features import BoolArray, case_of, numbered
from gloree.sequences import IntArray

PAIRS = ((-2, -1), (-1, 0), (0, 1), (1, 2), (-2, 0), (-1, 1), (0, 2))
"""Places of two words that stand at most two apart, among the five around a word."""

N_PAIRS = 4 * len(PAIRS)
"""Pairs at every word: either word as itself or as one of its kind."""

ENDING = 2  # letters


def itself(word: str) -> str:
    """Name of a word as itself, in lower case."""
    return f"word {word.lower()}"


def kind(word: str) -> str:
    """Name of its kind, case and last two letters: that of no word."""
    return f"kind {case_of(word)} {word.lower()[-ENDING:]}"


@dataclass(frozen=True)
class CodedText:
    """Numbers of the lower-cased words and of the kinds of a text.

    `lengths` are the words of each sentence, and `n_names` is the number of words without a number.
    """

    lower: IntArray
    kinds: IntArray
    lengths: IntArray
    n_names: int

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], names: dict[str, int]) -> CodedText:
        """Look up the words of a text in the numbers of `names_of` another or the same one."""
        flat = [word for sentence in sentences for word in sentence]
        unknown = len(names)
        codes = {
            word: (names.get(itself(word), unknown), names.get(kind(word), unknown))
            for word in set(flat)
        }
        lower, kinds = np.array([codes[word] for word in flat], dtype=np.int64).T
        lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
        return cls(lower, kinds, lengths, unknown)

    def keys(self, known: BoolArray) -> list[IntArray]:
        """Numbers of the pairs at every word of the text: four for each of `PAIRS`.

        Either word is taken as itself or as its kind. `known` says of each number whether it is a
        word that counts as itself; another word has its kind in both places. Shape: (n_names,).
        """
        counted = np.append(known, False)[self.lower]
        words = np.where(counted, self.lower, self.kinds)
        outside, base = self.n_names + 1, self.n_names + 2
        at = {
            (form, offset): shifted(codes, self.lengths, offset, outside)
            for form, codes in enumerate((words, self.kinds))
            for offset in range(-2, 3)
        }
        return [
            at[left, first] * base + at[right, second]
            for first, second in PAIRS
            for left in (0, 1)
            for right in (0, 1)
        ]


def names_of(sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Lower-cased words and kinds of a text."""
    different = sorted({word for sentence in sentences for word in sentence})
    return tuple(numbered([*map(itself, different), *map(kind, different)]))


def indicators_of_pairs(keys: Sequence[IntArray], known: Sequence[IntArray]) -> sparse.csr_matrix:
    """Sparse matrix of ones where a word has a pair that is `known`, sorted keys for each place."""
    rows, columns, start = [], [], 0
    for own, those in zip(keys, known, strict=True):
        if len(those):
            found = np.minimum(np.searchsorted(those, own), len(those) - 1)
            inside = np.flatnonzero(those[found] == own)
            rows.append(inside)
            columns.append(found[inside] + start)
        start += len(those)
    at, to = (np.concatenate([np.zeros(0, dtype=np.int64), *each]) for each in (rows, columns))
    ones = np.ones(len(at), dtype=np.float32)
    return sparse.csr_matrix((ones, (at, to)), shape=(len(keys[0]), start))
