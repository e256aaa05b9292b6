"""Cases of a test of which a few run with every change, and the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def first_of(cases: Iterable[object], n: int = 1, *, several: bool = False) -> list[object]:
    """The first `n` cases as they are, the others marked as slow; `several`: of many arguments."""

    def slow(case):
        if hasattr(case, "marks"):
            return case
        return pytest.param(*(case if several else (case,)), marks=pytest.mark.slow)

    cases = list(cases)
    return [*cases[:n], *map(slow, cases[n:])]


def long_but_first(cases: Iterable[object], n: int = 1) -> list[object]:
    """Cases of a slow test: the first `n` run before every merge, the others by `nox -s slow`."""
    cases = list(cases)
    return [*cases[:n], *(pytest.param(case, marks=pytest.mark.long) for case in cases[n:])]
