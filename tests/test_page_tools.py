"""What builds and checks the pages: links of names, first panels of figures, faults in words."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import check_pages
import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"


def extension(name):
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS / "_ext"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SystemIdentifier", "gloree.estimators.SystemIdentifier"),
        ("metrics.align", "gloree.metrics.align"),
        ("gloree.metrics.align", "gloree.metrics.align"),
        ("align()", "gloree.metrics.align"),
        ("IORNN.predict", "gloree.models.IORNN.predict"),
        ("gloree.metrics", "gloree.metrics"),
        ("report_.warnings", None),
        ("moments.align", None),  # of another module
        ("IORNN.nothing", None),
        ("Y", None),
        ("datasets.make_rnn(2000, 20)", None),
    ],
)
def test_names_in_prose_lead_to_their_pages(text, found):
    assert extension("names").target(text) == found


def test_of_a_wide_figure_the_first_panel_is_kept():
    first_panel = extension("thumbnails").first_panel
    figure = np.ones((100, 450, 3))
    figure[20:80, 10:130] = figure[20:80, 160:280] = figure[20:80, 310:430] = 0.0
    assert first_panel(figure).shape == (100, 145, 3)
    square = figure[:, :150]
    assert first_panel(square) is square
    full = np.zeros((100, 450, 3))  # no blank column to cut at
    assert first_panel(full).shape == full.shape


def test_without_a_browser_the_check_says_so_and_passes(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(check_pages.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["check_pages.py", str(tmp_path)])
    assert check_pages.main() == 0
    assert "the pages were not looked at" in capsys.readouterr().out


def test_faults_of_a_page_are_said_in_words():
    fine = {"formulas": 2, "set": 2, "errors": [], "wide": False, "cut": []}
    assert check_pages.faults(fine) == []
    bad = {"formulas": 2, "set": 1, "errors": ["x"], "wide": True, "cut": ['p "abc"']}
    assert check_pages.faults(bad) == [
        "1 of 2 formulas are set",
        "formula: x",
        "the page is wider than the window",
        'cut: p "abc"',
    ]
    assert check_pages.faults({"failed": "no"}) == ["no"]
