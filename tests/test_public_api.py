"""The names that other people's code is written against, and what importing them costs."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap

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
        "batch_size": None,
        "memory_limit": None,
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


@pytest.mark.parametrize("name", ["gloree", *MODULES])
def test_all_is_sorted_complete_and_exists(name):
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        pytest.skip("the module defines its names itself")
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


def test_no_two_public_things_share_a_name():
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in getattr(module, "__all__", ()):
            assert found.setdefault(name, getattr(module, name)) is getattr(module, name), name


def _as_isort_sorts(name):
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


def test_the_names_of_this_release_are_there():
    for name in (
        "IORNN",
        "GaussianVAR",
        "SpectralRNNRegressor",
        "activations",
        "chains",
        "datasets",
        "decomposition",
        "metrics",
        "moments",
        "score_functions",
    ):
        assert name in gloree.__all__


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
    if FIT:
        X, Y, _, _ = gloree.datasets.make_rnn(200, 5, 3, 2, 2, random_state=0)
        gloree.SpectralRNNRegressor(2, random_state=0).fit(X, Y)
    after, new = state(), set(sys.modules) - modules
    changed = [name for name in before if before[name] != after[name]]
    optional = ("torch", "matplotlib", "dask", "pandas", "jax", "tensorflow")
    print("changed", changed, "loaded", [name for name in optional if name in new])
"""


@pytest.mark.parametrize("fit", [False, True])
def test_importing_loads_nothing_optional_and_changes_no_global_state(fit):
    probe = textwrap.dedent(PROBE).replace("FIT", str(fit))
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "changed [] loaded []"
    assert done.stderr == ""
