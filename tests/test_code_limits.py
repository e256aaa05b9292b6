"""What the code keeps to: modules of one idea, typed signatures, and no growth without need."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gloree"
MODULES = sorted(SOURCE.rglob("*.py"))

LONG_MODULE = 400
"""Lines beyond which the head of a module has to say why it is still one."""

MOST_ANY = 40
"""Parameters and results of type Any in the whole package."""

MOST_FILES = 12
"""Files from `fit` to weights, as CONTRIBUTING.md lists them."""


def relative(path):
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_long_module_says_why_it_is_one(path):
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > LONG_MODULE:
        head = ast.get_docstring(ast.parse(text)) or ""
        assert "One module" in head, f"{relative(path)} has more than {LONG_MODULE} lines"


def signatures_with_any(tree):
    """Annotations of parameters and results that hold Any."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        for annotation in [*(each.annotation for each in arguments if each), node.returns]:
            if annotation is not None and re.search(r"\bAny\b", ast.unparse(annotation)):
                yield node.name, ast.unparse(annotation)


def test_signatures_name_their_types():
    found = [
        (relative(path), *each)
        for path in MODULES
        for each in signatures_with_any(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(found) <= MOST_ANY, "\n".join(map(str, found))


def test_the_tour_of_a_fit_names_files_that_exist_and_not_too_many():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tour = text.split("## A fit, read from the top")[1].split("\n## ")[0]
    files = re.findall(r"^\| `([\w/]+\.py)` \|", tour, flags=re.MULTILINE)
    assert 0 < len(files) <= MOST_FILES
    for name in files:
        assert (SOURCE / name).exists(), name
