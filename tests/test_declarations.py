"""What declarations promise: values are frozen, and defaults are those that are written down."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import re
from dataclasses import is_dataclass

import pytest

import gloree

EXTRAS = ("torch", "_log_density", "plotting", "_csv")
"""Parts of the names of modules that need an extra package."""

CHANGING = {
    "gloree._mapped.MappedFile": "opens its file when it is first read",
    "gloree.models._blocks.BlockRun": "work space of a loop over steps",
    "gloree.models._recursion.Explosions": "notes what it meets on the way",
    "gloree.refinement._lbfgs._Problem": "SciPy calls back, and what it has seen is kept",
}
"""Dataclasses that change, and why."""

IN_WORDS = {"2 GiB": 2**31}

DEFAULTS = {
    "score_functions.check_law": {"n_sequences": 2000, "n_steps": 20},
    "score_functions.stein_statistic": {"n_groups": 20, "block": 2**40},
    "score_functions.joint_score": {"memory_limit": 2**31},
    "score_functions.window_score": {"memory_limit": 2**31},
    "moments.Whitening.from_covariance": {"rtol": 1e-12},
    "moments.CrossMoment": {"law": 0},
    "moments.CrossMoment.finalize": {"centre": True},
    "moments.MomentPlan": {"row_bytes": 0, "other_bytes": 0},
    "moments.plan": {"n_hidden": 10, "degree": 2},
    "moments.RegressionSolver.from_sums": {"rtol": 1e-9},
    "decomposition.cp_tensor": {"output_mode": True},
    "decomposition.Decomposition": {"ridge": 0.0},
    "recurrence.two_sided_sums": {"bias": False, "direct": False},
    "recurrence.two_sided_spread": {"direct": False},
    "recurrence.TwoSidedFit": {"cancellation": 1.0},
    "recurrence.TwoSidedFit.of": {"ridge": 1e-8},
    "recurrence.bidirectional_model": {"lags": 1},
    "recurrence.BatchAtWeights.linearised": {"recurrent": False, "bias": False},
    "recurrence.instrument_update": {"bias": True, "ridge": 1e-10},
    "recurrence.linearised_sums": {"recurrent": True, "bias": True, "direct": False},
    "recurrence.output_update": {"bias": True, "ridge": 1e-10},
    "recurrence.linearised_update": {"bias": True, "ridge": 1e-10},
    "refinement.gauss_newton": {"to_convergence": False},
    "refinement.LevenbergMarquardt": {"max_seconds": math.inf},
    "refinement.Step": {"held_out": math.nan, "share": math.nan},
    "refinement.StandardErrors": {"n_undetermined": 0},
}
"""Defaults of public building blocks whose docstrings name them in words, or for which the rest of
the library relies on them."""

FREE = {"recurrent": True, "bias": True, "direct": False}


def modules():
    for _, name, _ in pkgutil.walk_packages(gloree.__path__, "gloree."):
        if not any(part in name for part in EXTRAS):
            yield importlib.import_module(name)


@pytest.fixture(scope="module")
def declared():
    """Functions and classes of the library by name."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def test_dataclasses_are_frozen_but_for_those_that_say_why(declared):
    classes = {name: each for name, each in declared.items() if is_dataclass(each)}
    frozen = {name for name, each in classes.items() if each.__dataclass_params__.frozen}
    assert set(classes) - frozen == set(CHANGING)


def with_methods(declared):
    for name, each in declared.items():
        yield name, each
        for own, method in vars(each).items() if inspect.isclass(each) else ():
            method = getattr(method, "__func__", method)
            if inspect.isfunction(method) and method.__module__ == each.__module__:
                yield f"{name}.{own}", method


def in_words(function):
    """Names and values of "name : type, default value" in a docstring."""
    constants = IN_WORDS | vars(importlib.import_module(function.__module__))
    documentation = function.__doc__ or ""
    lines = r"^\s*(\w+(?:, \w+)*) : [^\n]*?\bdefault ([^`\n]+)$"
    for names, text in re.findall(lines, documentation, re.MULTILINE):
        value = constants[text] if text in constants else ast.literal_eval(text)
        for name in names.split(", "):
            yield name, value


def in_code(function, name):
    """Default of an argument, or value of an attribute of a class."""
    if isinstance(vars(function).get(name), (bool, int, float)):
        return vars(function)[name]
    return inspect.signature(function).parameters[name].default


def test_defaults_are_those_that_docstrings_name(declared):
    found = 0
    for name, each in with_methods(declared):
        for own, value in in_words(each):
            found += 1
            assert in_code(each, own) == value, f"`{own}` of {name}"
    assert found > 100


@pytest.mark.parametrize("path", DEFAULTS)
def test_defaults_of_building_blocks(path):
    package, *names = path.split(".")
    function = importlib.import_module(f"gloree.{package}")
    for name in names:
        function = getattr(function, name)
    for name, value in DEFAULTS[path].items():
        found = inspect.signature(function).parameters[name].default
        assert found == value or (math.isnan(value) and math.isnan(found)), name


def test_all_weights_are_free_but_those_of_a_direct_path():
    from gloree.recurrence import FreeWeights
    from gloree.refinement import Layout

    free, layout = FreeWeights(), Layout(3, 2, 1)
    assert {name: getattr(free, name) for name in FREE} == FREE
    assert {name: getattr(layout, name) for name in FREE} == FREE
    assert free.unit_bias
    assert layout.hidden_bias
    assert (free.ridge, layout.lags) == (1e-10, 1)
