"""Checks of texts and options, whose errors name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from numbers import Real

import numpy as np


def check_sentences(sentences: Sequence[Sequence[str]], name: str, items: str = "words") -> None:
    """Refuse all but lists of lists of strings that are not empty."""
    if not _is_list(sentences):
        raise TypeError(f"`{name}` must be a list of sentences, got {_described(sentences)}")
    if len(sentences) == 0:
        raise ValueError(f"`{name}` is empty")
    for number, sentence in enumerate(sentences):
        if not _is_list(sentence):
            raise TypeError(
                f"`{name}[{number}]` must be a list of {items}, got {_described(sentence)}"
            )
        if len(sentence) == 0:
            raise ValueError(f"`{name}[{number}]` holds no {items}")
        for item in sentence:
            if not isinstance(item, str):
                raise TypeError(f"`{name}[{number}]` must hold strings, got {_described(item)}")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)


def _described(value: object) -> str:
    if isinstance(value, str):
        return f"the string {value[:30]!r}"
    return "None" if value is None else type(value).__name__


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
    """Refuse arguments that are not positive finite numbers."""
    for name, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, Real):
            raise TypeError(f"`{name}` must be a number, got {type(factor).__name__}")
        if not 0.0 < float(factor) < np.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {factor}")
