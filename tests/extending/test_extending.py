"""The examples of "Extending gloree": they run, and use public names only."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
EXAMPLES = sorted((DOCS / "extending").glob("*.py"))
SIX = {"activation", "engine", "first_moment", "input_law", "loss", "recurrence"}


def refused_imports(source):
    """Imports of gloree that are not of a public name."""
    refused = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            refused += [a.name for a in node.names if a.name.startswith("gloree.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gloree":
            private = any(part.startswith("_") for part in node.module.split("."))
            public = () if private else importlib.import_module(node.module).__all__
            refused += [f"{node.module}.{a.name}" for a in node.names if a.name not in public]
    return refused


def private_attributes(source):
    """Attributes and names with one leading underscore."""
    nodes = list(ast.walk(ast.parse(source)))
    found = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    found += [node.id for node in nodes if isinstance(node, ast.Name)]
    return [name for name in found if name.strip("_") and re.match(r"_(?!_)", name)]


def test_there_is_an_example_for_each_part_and_the_page_shows_it():
    assert {path.stem for path in EXAMPLES} == SIX
    page = (DOCS / "extending.rst").read_text(encoding="utf-8")
    assert all(f".. literalinclude:: extending/{name}.py\n" in page for name in SIX)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_uses_public_names_only(path):
    source = path.read_text(encoding="utf-8")
    assert "gloree" in source
    assert refused_imports(source) == []
    assert private_attributes(source) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_part_is_one_class_of_few_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert 1 <= len(classes) <= 3
    assert sum(node.end_lineno - node.lineno + 1 for node in classes) <= 45


@pytest.mark.parametrize(
    "path",
    # the first identifies a system twice
    [pytest.param(p, marks=pytest.mark.slow if p.stem == "activation" else ()) for p in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_the_example_runs_and_shows_what_it_claims(path):
    assert "\nassert " in path.read_text(encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")


def test_private_names_would_be_found():
    text = "from gloree._sums import Sums\nfrom gloree.moments import nothing\nimport gloree.engine"
    assert refused_imports(text) == ["gloree._sums.Sums", "gloree.moments.nothing", "gloree.engine"]
    assert refused_imports("from gloree import Engine\nfrom gloree.engine import Sums") == []
    assert private_attributes("import gloree\ngloree.engine._engine.Merger\n__all__") == ["_engine"]
