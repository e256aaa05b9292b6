"""Imports run one way, and the picture in CONTRIBUTING.md is that of the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "docs" / "architecture.py"


@pytest.fixture(scope="module")
def architecture():
    spec = importlib.util.spec_from_file_location("gloree_architecture", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def write(tmp_path):
    """Write modules of a package of this name; return the folder that holds it."""

    def write_modules(**files):
        for name, text in {"__init__": "", **files}.items():
            path = tmp_path / "gloree" / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write_modules


@pytest.fixture(scope="module")
def library(architecture):
    known = architecture.modules()
    return known, architecture.imports(known)


def test_no_import_runs_upward(architecture, library):
    _, found = library
    assert len(found) > 300  # the imports were found
    assert not architecture.upward(found)


def test_no_circle_between_modules(architecture, library):
    assert not architecture.circles(*library)


def test_no_package_imports_what_is_private_to_another(architecture, library):
    assert not architecture.private(library[1])


@pytest.fixture(scope="module")
def picture(architecture):
    return architecture.svg()


@pytest.mark.slow
def test_picture_is_that_of_the_code(architecture, picture):
    committed = architecture.PICTURE.read_text(encoding="utf-8")
    assert committed == picture, "run: python docs/architecture.py"


def test_picture_shows_every_package(architecture, library, picture):
    packages = {architecture.package_of(module) for module in library[0]} - {"gloree"}
    assert all(f">{name}</text>" in picture for name in packages)


def test_arrows_that_follow_from_others_are_left_out(architecture, library):
    """What can be reached along the arrows is what can be reached along the imports."""

    def reached(graph, name):
        found, open_ends = set(), [name]
        while open_ends:
            new = graph[open_ends.pop()] - found
            found |= new
            open_ends += new
        return found

    drawn = architecture.arrows(library[1])
    direct = {name: set() for name in drawn}
    for one in library[1]:
        above, below = (architecture.package_of(m) for m in (one.importer, one.imported))
        if above != below and above in direct and below in direct and below != architecture.GROUND:
            direct[above].add(below)
    assert all(reached(drawn, name) == reached(direct, name) for name in drawn)
    assert sum(map(len, drawn.values())) < sum(map(len, direct.values()))


def test_an_upward_import_is_found(architecture, write):
    source = write(engine="from gloree.models import IORNN", models="")
    (wrong,) = architecture.broken_rules(source)
    assert wrong == "gloree.engine:1 imports gloree.models, which is above it"


def test_an_import_of_the_whole_package_is_found(architecture, write):
    (wrong,) = architecture.broken_rules(write(engine="import gloree"))
    assert "imports the top of the package" in wrong


def test_a_package_without_a_place_is_found(architecture, write):
    wrong = architecture.broken_rules(write(novelty="from gloree.models import IORNN", models=""))
    assert "novelty has no place in FLOORS of docs/architecture.py" in wrong


@pytest.mark.parametrize(
    "text",
    [
        "from gloree.models._b import g",
        "from . import _b",
        "def f():\n    from gloree.models import _b",
    ],
)
def test_a_circle_is_found(architecture, write, text):
    source = write(models__in___a=text, models__in___b="from gloree.models._a import f")
    (wrong,) = architecture.broken_rules(source)
    assert wrong.startswith("circle: ")


def test_imports_for_type_checkers_make_no_circle(architecture, write):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from gloree.models._b import B"
    source = write(models__in___a=text, models__in___b="from gloree.models._a import f")
    assert not architecture.broken_rules(source)


@pytest.mark.parametrize(
    "text",
    [
        "from gloree.models._b import g",
        "from gloree.models import _b",
        "from gloree.models import _g",
        "from gloree._sums import _g",
        "import gloree.models._b",
    ],
)
def test_an_import_of_what_is_private_is_found(architecture, write, text):
    source = write(estimators=text, models__in___b="", _sums="")
    (wrong,) = architecture.broken_rules(source)
    assert wrong.endswith("which is private")


def test_the_ground_floor_is_open_to_all(architecture, write):
    source = write(estimators="from gloree._sums import Sums\nfrom gloree import _sums", _sums="")
    assert not architecture.broken_rules(source)
