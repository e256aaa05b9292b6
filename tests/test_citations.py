"""What docstrings and comments cite exists: labels and pages of `docs`, and names in the library.

A docstring cites the documentation by the roles `:eq:`, `:ref:` and `:doc:`, whose labels can be
looked up. Numbers of sections, equations or lemmas are not cited: nothing keeps them right. (Those
of books under References are.)
"""

from __future__ import annotations

import ast
import importlib
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GENERATED = {"_build", "auto_examples", "generated"}

MODULES = sorted((ROOT / "src").rglob("*.py")) + sorted((ROOT / "tests" / "theory").glob("*.py"))
PAGES = sorted(
    path for path in DOCS.rglob("*.rst") if not GENERATED & set(path.relative_to(DOCS).parts)
)

ROLE = re.compile(r":(eq|ref|doc):`(?:[^`<]*<)?([^`<>]+?)>?`")
NUMBERED = re.compile(
    r"\b(?:sections?|sec\.|chapters?|equations?|eqs?\.|lemmas?|theorems?|propositions?"
    r"|corollar(?:y|ies)|algorithms?) \(?\d",
    re.IGNORECASE,
)
PROSE = re.compile(r"\btheory\b", re.IGNORECASE)


@cache
def targets() -> dict[str, set[str]]:
    """Equation labels, reference labels and pages of the documentation."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return {
        "eq": set(re.findall(r"^ +:label: (\S+)$", text, re.MULTILINE)),
        "ref": set(re.findall(r"^ *\.\. _([\w-]+):$", text, re.MULTILINE)),
        "doc": {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES},
    }


def wrong_citations(text: str) -> list[str]:
    """Citations in a docstring or a comment that lead nowhere."""
    cited = ROLE.findall(text)
    wrong = [f":{role}:`{name}`" for role, name in cited if name.lstrip("/") not in targets()[role]]
    own = text.split("\n    References\n")[0].split("\nReferences\n")[0]
    wrong += [f"a number: {number!r}" for number in NUMBERED.findall(own)]
    if PROSE.search(own) and not cited:
        wrong.append("the theory, without a label")
    if "[SA16]_" in text and ".. [SA16]" not in text:
        wrong.append("[SA16]_, which this docstring does not list under References")
    return wrong


def prose(path: Path) -> list[tuple[int, str]]:
    """Docstrings, and strings and comments beside the code, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        (node.lineno, node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    with tokenize.open(path) as file:
        tokens = tokenize.generate_tokens(file.readline)
        found += [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_cite_what_exists(path):
    wrong = [f"line {line}: {w}" for line, text in prose(path) for w in wrong_citations(text)]
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "See :eq:`no-such-equation`.",
        "See :ref:`the section <no-such-label>`.",
        "See :doc:`/no_such_page`.",
        "Section 4(b) of the paper.",
        "By Lemma 7 of the paper",
        "eq. (3)",
        "This is derived in the theory.",
        "After [SA16]_.",
    ],
)
def test_a_citation_of_what_does_not_exist_is_found(text):
    assert wrong_citations(text)


def test_a_right_citation_passes():
    assert not wrong_citations("By :eq:`stein`, :ref:`as derived <theory-stein>` in the theory.")


def resolve(name: str) -> object:
    """Import the longest module in a dotted name and take the rest as attributes."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_pages_name_what_the_library_has(path):
    """Sphinx leaves an unknown `:obj:` as plain text without a warning."""
    names = re.findall(r":obj:`~?(gloree[\w.]*)`", path.read_text(encoding="utf-8"))
    missing = []
    for name in names:
        try:
            resolve(name)
        except (AttributeError, ModuleNotFoundError):
            missing.append(name)
    assert not missing


def test_every_equation_label_is_unique():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for pattern in (r"^ +:label: (\S+)$", r"^ *\.\. _([\w-]+):$"):
        labels = re.findall(pattern, text, re.MULTILINE)
        assert sorted(labels) == sorted(set(labels))
