"""Examples in docstrings run, and public names have docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import gloree

MODULES = ["gloree", *(name for _, name, _ in pkgutil.walk_packages(gloree.__path__, "gloree."))]


OPTIONAL = {"torch": "torch", "_log_density": "torch", "plotting": "matplotlib", "_csv": "pandas"}


def load(name):
    """Import a module, or skip the test if the package it is for is not installed."""
    for part, package in OPTIONAL.items():
        if part in name:
            pytest.importorskip(package)
    return importlib.import_module(name)


def with_examples(name):
    """Whether a module's file holds an example; looking for one in its objects takes longer."""
    place = Path(gloree.__path__[0], *name.split(".")[1:])
    files = [place.with_suffix(".py"), place / "__init__.py"]
    return any(">>> " in file.read_text(encoding="utf-8") for file in files if file.exists())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith("._identifier") else ())
        for name in MODULES
        if with_examples(name)
    ],
)
def test_examples_of_docstrings_run(name):
    result = doctest.testmod(load(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name):
    module = load(name)
    assert (module.__doc__ or "").strip()
    for attribute, value in vars(module).items():
        if attribute.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__doc__ or "").strip(), f"{name}.{attribute} has no docstring"
