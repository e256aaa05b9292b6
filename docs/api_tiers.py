"""The two tiers of the public interface, as `docs/api.rst` declares them.

The page is the declaration: what its first part lists is stable, what its second part lists is a
building block. The build of the pages marks the building blocks by it, and the tests check that
every public name stands on the page once.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "api.rst"

STABLE, BLOCKS = "Stable names", "Building blocks"
"""Titles of the two parts."""

UNDERLINES = {"=": 1, "-": 2, "~": 3}
"""Depth of a title by its underline; on the page the parts are of depth 1."""

ENTRY = re.compile(r"(?:   |\* ``)(gloree\.\w+\.\w+)(?:``.*)?")
"""A name in an autosummary, or at the head of a list of constants and types."""


def tiers(text: str | None = None) -> dict[str, dict[str, list[str]]]:
    """Names of each part by the section in which they stand, in the order of the page."""
    lines = (PAGE.read_text(encoding="utf-8") if text is None else text).splitlines()
    found: dict[str, dict[str, list[str]]] = {STABLE: {}, BLOCKS: {}}
    part = section = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        depth = UNDERLINES.get(following[:1]) if set(following) <= {following[:1]} else None
        if line and depth and len(following) >= len(line):
            part = line if depth == 1 else part
            section = line
        entry = ENTRY.fullmatch(line)
        if entry and part in found:
            found[part].setdefault(section, []).append(entry[1])
    return found


def names(part: str) -> set[str]:
    """All names of a part."""
    return {name for section in tiers()[part].values() for name in section}
