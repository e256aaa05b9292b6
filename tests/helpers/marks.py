"""Cases of a test of which a few run with every change, and the others with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def first_of(cases: Iterable[object], n: int = 1, *, several: bool = False) -> list[object]:
    """The first `n` cases as they are, the others marked as slow; `several`: of many arguments."""
    cases = list(cases)
    marked = [case for case in cases[n:] if hasattr(case, "marks")]
    values = [case if several else (case,) for case in cases[n:] if case not in marked]
    others = [pytest.param(*each, marks=pytest.mark.slow) for each in values]
    return [*cases[:n], *others, *marked]
