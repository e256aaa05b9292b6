"""The names that other people's code is written against: tiers, signatures, cost of importing."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap

import api_tiers
import numpy as np
import pytest

import gloree
from gloree import (
    IORNN,
    GaussianVAR,
    SpectralRNNRegressor,
    datasets,
    decomposition,
    metrics,
    moments,
    score_functions,
)

EMPTY = inspect.Parameter.empty
KEYWORD = inspect.Parameter.KEYWORD_ONLY


def parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def test_the_regressor_has_exactly_these_parameters():
    expected = {
        "bidirectional": False,
        "activation": "quadratic",
        "chain": "gaussian-var",
        "moment": "auto",
        "direct": False,
        "fit_bias": True,
        "recurrence": "instrument",
        "lags": 1,
        "max_rounds": 5,
        "refine": "one-step",
        "loss": "squared error",
        "output_weights": "residuals",
        "batch_size": None,
        "memory_limit": None,
        "warm_start": False,
        "random_state": None,
        "engine": None,
        "verbose": 0,
    }
    first, *others = parameters(SpectralRNNRegressor.__init__)
    assert (first.name, first.default) == ("n_hidden", None)
    assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {p.name: p.default for p in others} == expected
    assert all(p.kind is KEYWORD for p in others)
    assert SpectralRNNRegressor().get_params() == {"n_hidden": None, **expected}


# leading arguments with their defaults; any further ones must be optional
SIGNATURES = {
    "IORNN": (
        IORNN,
        [
            ("input_weights", EMPTY),
            ("recurrent_weights", EMPTY),
            ("output_weights", EMPTY),
            ("hidden_bias", None),
            ("output_bias", None),
            ("direct_weights", None),
            ("activation", "quadratic"),
        ],
    ),
    "IORNN.hidden_states": (IORNN.hidden_states, [("X", EMPTY)]),
    "IORNN.predict": (IORNN.predict, [("X", EMPTY)]),
    "IORNN.save": (IORNN.save, [("path", EMPTY)]),
    "IORNN.load": (IORNN.load, [("path", EMPTY)]),
    "IORNN.to_torch": (IORNN.to_torch, []),
    "IORNN.canonical": (IORNN.canonical, []),
    "GaussianVAR": (
        GaussianVAR,
        [("coefficients", EMPTY), ("innovation_covariance", EMPTY), ("mean", None)],
    ),
    "GaussianVAR.fit": (GaussianVAR.fit, [("X", EMPTY)]),
    "GaussianVAR.sample": (GaussianVAR.sample, [("n_sequences", EMPTY), ("n_steps", EMPTY)]),
    "GaussianVAR.log_density": (GaussianVAR.log_density, [("X", EMPTY)]),
    "partial_score": (
        score_functions.partial_score,
        [("chain", EMPTY), ("X", EMPTY), ("order", 1)],
    ),
    "cross_moment": (
        moments.cross_moment,
        [("chain", EMPTY), ("X", EMPTY), ("Y", EMPTY), ("order", EMPTY)],
    ),
    "tensor_power_iteration": (
        decomposition.tensor_power_iteration,
        [("T", EMPTY), ("rank", EMPTY)],
    ),
    "decompose": (decomposition.decompose, [("T", EMPTY), ("rank", EMPTY)]),
    "weight_errors": (metrics.weight_errors, [("model", EMPTY), ("truth", EMPTY)]),
    "fit": (SpectralRNNRegressor.fit, [("X", EMPTY), ("Y", None)]),
    "predict": (SpectralRNNRegressor.predict, [("X", EMPTY)]),
    "score": (SpectralRNNRegressor.score, [("X", EMPTY), ("Y", None)]),
}


@pytest.mark.parametrize("function, expected", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_leading_arguments_are_those_of_the_contract(function, expected):
    found = parameters(function)
    assert [(p.name, p.default) for p in found[: len(expected)]] == expected
    for extra in found[len(expected) :]:
        assert extra.default is not EMPTY, f"{extra.name} is new and not optional"
        assert extra.kind is not inspect.Parameter.VAR_KEYWORD


def test_make_rnn_has_exactly_these_arguments():
    found = parameters(datasets.make_rnn)
    sizes = ["n_sequences", "n_steps", "n_inputs", "n_hidden", "n_outputs"]
    assert [p.name for p in found[:5]] == sizes
    assert {p.name: p.default for p in found[5:]} == {
        "recurrence_norm": 0.1,
        "noise": 0.1,
        "degree": 2,
        "bidirectional": False,
        "random_state": None,
    }
    assert all(p.kind is KEYWORD for p in found[5:])


def test_random_state_of_sample_goes_by_name():
    chain = GaussianVAR([[0.5]], [[1.0]])
    first = chain.sample(2, 3, random_state=0)
    np.testing.assert_array_equal(first, chain.sample(2, 3, random_state=0))
    assert first.shape == (2, 3, 1)


def test_shapes_are_those_of_the_contract():
    X, Y, truth, chain = datasets.make_rnn(20, 5, 4, 2, 3, random_state=0)
    assert truth.input_weights.shape == (2, 4)
    assert truth.recurrent_weights.shape == (2, 2)
    assert truth.output_weights.shape == (2, 3)
    assert truth.hidden_bias.shape == (2,)
    assert truth.output_bias.shape == (3,)
    assert truth.direct_weights is None
    assert truth.replace(direct_weights=np.ones((4, 3))).direct_weights.shape == (4, 3)
    assert truth.hidden_states(X).shape == (20, 5, 2)
    assert score_functions.partial_score(chain, X).shape == (20, 5, 4)
    assert score_functions.partial_score(chain, X, order=2).shape == (20, 5, 4, 4)
    T = moments.cross_moment(chain, X, Y, 2)
    assert T.shape == (3, 4, 4)
    assert chain.log_density(X).shape == (20,)
    for method in (decomposition.decompose, decomposition.tensor_power_iteration):
        found = method(T, 2, random_state=0)
        assert isinstance(found, decomposition.Decomposition)
        assert found.components.shape == (2, 4)
        assert found.loadings.shape == (2, 3)
        assert isinstance(found.status, decomposition.DecompositionStatus)
        assert isinstance(float(found.residual), float)
        assert isinstance(float(found.condition), float)
    errors = metrics.weight_errors(truth, truth)
    assert isinstance(errors, dict)
    assert all(isinstance(name, str) and isinstance(e, float) for name, e in errors.items())


def test_decomposition_has_the_fields_of_the_contract():
    names = {field.name for field in dataclasses.fields(decomposition.Decomposition)}
    assert {"components", "loadings", "status", "residual", "condition"} <= names


def test_models_and_decompositions_are_frozen():
    _, _, truth, _ = datasets.make_rnn(1, 2, 3, 2, 2, random_state=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        truth.input_weights = None
    with pytest.raises(ValueError, match="read-only"):
        truth.input_weights[0, 0] = 1.0


MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(gloree.__path__, "gloree.")
    if not any(part.startswith("_") for part in name.split("."))
)


PUBLIC = {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
}
STABLE = {
    name: (section, PUBLIC[name])
    for section, names in api_tiers.tiers()[api_tiers.STABLE].items()
    for name in names
}

CONTRACT = {
    *("SpectralRNNRegressor", "SpectralRNNClassifier", "SystemIdentifier", "IORNN", "BRNN"),
    *("GaussianVAR", "Engine", "partial_score", "cross_moment", "decompose"),
    *("tensor_power_iteration", "weight_errors", "make_rnn", "read_csv", "read_conllu"),
    *("InputLaw", "HermiteLaw", "Capabilities", "FirstMomentEstimator", "RecurrenceEstimator"),
    *("Loss", "Solver", "Activation", "FitReport", "IdentificationReport", "Finding"),
}

# Sections of the page whose names are received or derived from; all others are called.
NOT_CALLED = {"Results", "Protocols for extensions", "Errors and warnings"}


@pytest.mark.parametrize("name", ["gloree", *MODULES])
def test_all_is_sorted_complete_and_exists(name):
    module = importlib.import_module(name)
    names = list(module.__all__)
    # constants, then classes, then functions, as isort sorts names
    assert len(names) == len(set(names))
    assert names == sorted(names, key=_as_isort_sorts)
    assert all(hasattr(module, each) for each in names)
    defined = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("gloree")
    }
    if hasattr(module, "__path__") and name != "gloree":
        # a package re-exports on purpose: what it imports is what it lists
        assert defined == {each for each in names if each in defined}
    else:
        assert {e for e in defined if getattr(module, e).__module__ == name} <= set(names)


def _as_isort_sorts(name):
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


# -- two tiers ---------------------------------------------------------------------------------


def test_every_name_on_the_page_exists_and_none_stands_there_twice():
    listed = [
        name
        for sections in api_tiers.tiers().values()
        for names in sections.values()
        for name in names
    ]
    assert [name for name in listed if name not in PUBLIC] == []
    assert sorted(listed) == sorted(set(listed))
    last = [name.rpartition(".")[2] for name in listed]
    assert sorted(last) == sorted(set(last)), "listed under two modules"


def test_every_public_name_is_stable_or_a_building_block():
    listed = {
        name.rpartition(".")[2]: PUBLIC[name]
        for part in (api_tiers.STABLE, api_tiers.BLOCKS)
        for name in api_tiers.names(part)
    }
    # a name that two modules export is listed once
    missing = [
        name for name, value in PUBLIC.items() if listed.get(name.rpartition(".")[2]) is not value
    ]
    assert missing == [], "add them to docs/api.rst"


def test_no_two_public_things_share_a_name():
    found = {}
    for name, value in PUBLIC.items():
        last = name.rpartition(".")[2]
        assert found.setdefault(last, value) is value, name


def test_the_tiers_have_the_sizes_that_were_promised():
    assert 60 <= len(STABLE) <= 90
    assert set(STABLE).isdisjoint(api_tiers.names(api_tiers.BLOCKS))


def test_the_contract_is_stable():
    assert {name.rpartition(".")[2] for name in STABLE} >= CONTRACT


def test_all_public_errors_and_warnings_are_stable():
    raised = {
        name
        for name, value in PUBLIC.items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    # a signal between a pass function and its caller, which no caller of a fit sees
    assert {PUBLIC[name] for name in raised - {"gloree.engine.PassFailure"}} == {
        value for section, value in STABLE.values() if section == "Errors and warnings"
    }


def test_the_tiers_are_read_off_a_page():
    text = """
Title
=====

   gloree.moments.before

Stable names
============

Estimators
----------

   gloree.moments.a

Building blocks
===============

Rest
----

   gloree.moments
   gloree.moments.b

* ``gloree.moments.C``: a constant
"""
    assert api_tiers.tiers(text) == {
        "Stable names": {"Estimators": ["gloree.moments.a"]},
        "Building blocks": {"Rest": ["gloree.moments.b", "gloree.moments.C"]},
    }


# -- docstrings of stable names ----------------------------------------------------------------

HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


def docstring_sections(value):
    summary, *rest = HEADING.split(inspect.getdoc(value) or "")
    return {"Summary": summary.strip(), **dict(zip(rest[::2], rest[1::2], strict=True))}


def entries(section):
    """Names that a section of parameters or attributes explains."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {each.strip().lstrip("*") for line in lines for each in line.split(" : ")[0].split(",")}


def raises(function):
    return re.search(r"^ +raise \w", inspect.getsource(function), re.MULTILINE) is not None


def lacks(value, called):
    """What the docstring of a stable name lacks."""
    sections = docstring_sections(value)
    explained = entries(sections.get("Parameters", ""))
    function = value if inspect.isfunction(value) else value.__init__
    lacking = [] if sections["Summary"] else ["a summary"]
    if inspect.isfunction(value):
        lacking += [] if {"Returns", "Yields"} & set(sections) else ["Returns"]
        lacking += ["Raises"] if raises(value) and "Raises" not in sections else []
    elif not called:
        shown = explained | entries(sections.get("Attributes", ""))
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        return lacking + [f.name for f in fields if f.name[0] != "_" and f.name not in shown]
    else:
        checks = [vars(value).get(name) for name in ("__init__", "__post_init__")]
        # those that dataclasses write have no source
        checks = [each for each in checks if each and each.__code__.co_filename != "<string>"]
        if any(map(raises, checks)) and "Raises" not in sections:
            lacking.append("Raises")
    lacking += [
        each.name
        for each in parameters(function)
        if each.name[0] != "_" and each.name not in explained
    ]
    return lacking if ">>> " in sections.get("Examples", "") else [*lacking, "Examples"]


@pytest.mark.parametrize("name", STABLE)
def test_docstrings_of_stable_names_are_complete(name):
    section, value = STABLE[name]
    assert lacks(value, section not in NOT_CALLED) == []


@pytest.mark.parametrize(
    "name", [name for name, (_, value) in STABLE.items() if inspect.isclass(value)]
)
def test_public_methods_of_stable_classes_have_docstrings(name):
    members = vars(STABLE[name][1]).items()
    methods = {each: getattr(v, "__func__", v) for each, v in members if not each.startswith("_")}
    bare = [
        each
        for each, value in methods.items()
        if (inspect.isfunction(value) or isinstance(value, property)) and not inspect.getdoc(value)
    ]
    assert bare == []


def test_docstrings_that_lack_something_are_found():
    def complete(a, b=1):
        """Sum.

        Parameters
        ----------
        a, b : int

        Returns
        -------
        int

        Examples
        --------
        >>> complete(1)
        2
        """
        return a + b

    def bare(a):
        """Fail."""
        raise ValueError(a)

    assert lacks(complete, called=True) == []
    assert lacks(bare, called=True) == ["Returns", "Raises", "a", "Examples"]


# -- what importing costs ----------------------------------------------------------------------


PROBE = """
    import random, sys, warnings
    # whatever the dependencies load and change when they are imported is not ours
    import numpy as np, scipy.linalg, sklearn.base, sklearn.utils.validation, tensorly, tqdm.auto
    import threadpoolctl

    def state():
        return {
            "numpy error state": np.geterr(),
            "numpy random state": np.random.get_state()[1].tolist(),
            "random state": random.getstate(),
            "warning filters": list(warnings.filters),
            "print options": repr(np.get_printoptions()),
        }

    before, modules = state(), set(sys.modules)
    import gloree
    X, Y, _, _ = gloree.datasets.make_rnn(200, 5, 3, 2, 2, random_state=0)
    gloree.SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    after, new = state(), set(sys.modules) - modules
    changed = [name for name in before if before[name] != after[name]]
    optional = ("torch", "matplotlib", "dask", "pandas", "jax", "tensorflow")
    print("changed", changed, "loaded", [name for name in optional if name in new])
"""


@pytest.mark.slow
def test_importing_and_fitting_load_nothing_optional_and_change_no_global_state():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "changed [] loaded []"
    assert done.stderr == ""


def test_importing_loads_what_is_needed():
    """One statement after the other: each loads more."""
    probe = "import sys\n"
    for statement, unneeded in (
        ("import gloree", ("scipy", "sklearn", "tensorly", "joblib", "gloree.models")),
        ("from gloree import IORNN", ("sklearn", "tensorly", "scipy.stats", "gloree.estimators")),
        ("from gloree import SpectralRNNRegressor", ("tensorly", "sklearn.linear_model")),
    ):
        probe += f"{statement}\nloaded = [m for m in {unneeded!r} if m in sys.modules]\n"
        probe += f"assert not loaded, ({statement!r}, loaded)\n"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_all_names_are_there_without_being_loaded_before():
    modules = [name.removeprefix("gloree.") for name in MODULES]
    probe = (
        f"import gloree; names = [*gloree.__all__, *{[m for m in modules if '.' not in m]}]; "
        f"print([n for n in names if n not in dir(gloree) or not hasattr(gloree, n)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="module 'gloree' has no attribute 'nothing'"):
        gloree.nothing  # noqa: B018


# -- one order of arguments --------------------------------------------------------------------

ALWAYS = (("chain", "X", "Y", "order"), ("law", "X", "Y"), ("u", "y"), ("X", "y"), ("X", "labels"))
"""Law, inputs, outputs: in this order wherever they go by place."""

AFTER_THE_FIRST = (
    ("chain", "X", "Y", "model"),
    ("Y", "predictions"),
    ("model", "u", "y"),
    ("model", "truth"),
    ("model", "layout", "engine", "data"),
    ("model", "layout", "engine", "source"),
    ("batch", "model", "layout"),
    ("batch", "model", "chain"),
    ("batch", "chain", "order"),
    ("function", "model", "data"),
)
"""Orders of functions whose first argument is the first of these."""

BY_NAME = ("lengths", "random_state", "verbose", "skip")
"""Arguments that go by name in functions that take data, so that nobody takes them for outputs."""

DATA = {"X", "Y", "u", "y", "labels"}


def public_functions():
    """All public functions and methods under their names."""
    for name, value in PUBLIC.items():
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            for member, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if not member.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{member}", function


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_stand_in_one_order(name):
    by_place = [p.name for p in parameters(FUNCTIONS[name]) if p.kind is not KEYWORD]
    of_first = [order for order in AFTER_THE_FIRST if by_place[:1] == [order[0]]]
    for order in (*ALWAYS, *of_first):
        common = [each for each in by_place if each in order]
        assert common == [each for each in order if each in by_place], (by_place, order)
    if DATA & set(by_place) and not name.endswith((".is_padded", ".unpadded")):
        assert not set(BY_NAME) & set(by_place), by_place


def _outputs_first(Y, X):
    pass


def _lengths_by_place(X, lengths):
    pass


def _layout_before_model(model, data, layout):
    pass


@pytest.mark.parametrize("wrong", [_outputs_first, _lengths_by_place, _layout_before_model])
def test_what_deviates_from_the_order_is_seen(monkeypatch, wrong):
    monkeypatch.setitem(FUNCTIONS, "wrong", wrong)
    with pytest.raises(AssertionError):
        test_arguments_stand_in_one_order("wrong")
