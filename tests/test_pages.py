"""Code on the pages that promise it: blocks run one after another, as a reader would run them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import matplotlib
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("how_to", "scikit_learn", "going_on")
"""Pages all of whose blocks run."""

BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)
PROMISE = re.compile(r"^([^#=\n]\S.*?)  +# (True|\{.*\})$", re.MULTILINE)


def blocks(page):
    text = (DOCS / f"{page}.rst").read_text(encoding="utf-8") + "\n"
    return [textwrap.dedent(block) for block in BLOCK.findall(text)]


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_a_page_run_and_values_are_those_promised(page, tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("onnx")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names, checked = {}, 0
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page}.rst, block {number}", "exec"), names)
        for expression, value in PROMISE.findall(block):
            assert repr(eval(expression, names)).replace("np.True_", "True") == value, expression
            checked += 1
    assert checked, f"{page} promises nothing that could be checked"


WIDTH = 100  # characters of code that show at a width of 1280 px; see docs/_static/pages.css
CODE = re.compile(r"^\.\. code-block::.*\n(?:   :.*\n)*\n((?:   .*\n|\n)+)", re.MULTILINE)


def test_no_line_of_code_is_too_wide_for_the_page():
    wide = [
        f"{page.name}: {line.strip()}"
        for page in sorted(DOCS.rglob("*.rst"))
        if "auto_examples" not in page.parts and "generated" not in page.parts
        for block in CODE.findall(page.read_text(encoding="utf-8") + "\n")
        for line in block.splitlines()
        if len(line) - 3 > WIDTH
    ]
    assert not wide, "\n".join(wide)


SEARCHED = ("pandas", "pipeline", "cross-validation", "forecast", "prediction interval", "onnx")


@pytest.mark.parametrize("word", SEARCHED)
def test_what_people_search_for_stands_in_a_title_of_the_recipes(word):
    text = (DOCS / "how_to.rst").read_text(encoding="utf-8")
    titles = re.findall(r"^(.+)\n=+$", text, re.MULTILINE)
    assert any(word in title.lower() for title in titles)
