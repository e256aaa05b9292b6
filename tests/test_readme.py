"""The README is true and short: its code prints what stands below it, links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTING = re.compile(r"```python\n(.*?)```\s+prints\s+```text\n(.*?)```", re.DOTALL)
"""Code, and what it prints."""

SCREENS = 2
LINES_OF_A_SCREEN = 50


def test_code_prints_what_stands_below_it():
    examples = PRINTING.findall(TEXT)
    assert examples
    assert len(examples) == TEXT.count("```python"), "code whose output nobody has checked"
    for code, expected in examples:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(code, "README.md", "exec"), {})
        assert shown.getvalue() == expected


def test_printed_numbers_are_far_from_where_they_would_be_rounded_otherwise():
    """Other versions of NumPy and Python change last bits; far means a billion times as much."""
    for code, expected in PRINTING.findall(TEXT):
        for change in (1 - 1e-6, 1 + 1e-6):
            changed = re.sub(r"\{([^{}]+?):(\.\df)\}", rf"{{({change!r} * (\1)):\2}}", code)
            assert changed != code
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(compile(changed, "README.md", "exec"), {})
            assert shown.getvalue() == expected


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_links_lead_to_files(link):
    assert link.startswith("https://") or (ROOT / link).exists()


def test_it_fits_on_two_screens():
    assert len(TEXT.splitlines()) <= SCREENS * LINES_OF_A_SCREEN


def test_the_description_of_a_package_has_no_links_into_the_checkout():
    pytest.importorskip("hatchling")
    sys.path.insert(0, str(ROOT))
    try:
        hook = importlib.import_module("hatch_build").Readme(str(ROOT), {})
    finally:
        sys.path.remove(str(ROOT))
    metadata = {}
    hook.update(metadata)
    text = metadata["readme"]["text"]
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []
    assert "Quickstart (`docs/quickstart.rst`)" in text
    assert "<!--" not in text
