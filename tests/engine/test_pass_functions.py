"""Pass functions travel: each can be pickled, is light, and gives the same sums afterwards."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from helpers.marks import first_of

from gloree import SpectralRNNRegressor, datasets
from gloree.engine import Engine
from gloree.models import BRNN


def reports(monkeypatch):
    """Sizes of all pass functions of a fit, each replaced by what came out of its pickle."""
    sizes, plain = [], Engine._sum

    def summed(engine, function, selection, label):
        content = pickle.dumps(function)
        sizes.append((label, len(content)))
        transform = pickle.dumps(selection.transform)
        sizes.append((f"transform of {label}", len(transform)))
        return plain(engine, pickle.loads(content), selection, label)

    monkeypatch.setattr(Engine, "_sum", summed)
    return sizes


def two_ways(n_inputs):
    rng = np.random.default_rng(0)
    network = BRNN(
        rng.standard_normal((2, n_inputs)),
        np.array([[0.1, 0.0], [0.05, 0.1]]),
        rng.standard_normal((1, n_inputs)),
        np.array([[0.1]]),
        rng.standard_normal((3, 3)),
    )
    X = rng.standard_normal((1500, 8, n_inputs))
    return X, network.predict(X)


CASES = {
    "quadratic": ({}, (3000, 8, 6, 3, 3)),
    "cubic": ({"activation": "cubic"}, (1200, 8, 5, 2, 2)),
    "units are counted": ({"n_hidden": None}, (3000, 8, 5, 3, 3)),
    "many inputs": ({}, (3000, 8, 60, 3, 3)),
    "lags": ({"lags": 3, "recurrence": None}, (3000, 8, 4, 2, 3)),
    "cross": ({"recurrence": "cross"}, (3000, 8, 5, 3, 3)),
    "score": ({"moment": "score", "recurrence": "score"}, (3000, 8, 5, 3, 3)),
    "full refinement": ({"refine": "full"}, (3000, 8, 5, 3, 3)),
    "linear": ({"activation": "linear"}, (13, 1000, 2, 1, 1)),
}


@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize(
    "options, shape",
    [
        pytest.param(*case, marks=pytest.mark.slow if name in ("linear", "cubic") else ())
        for name, case in CASES.items()
    ],
    ids=CASES.keys(),
)
def test_every_pass_function_is_light(options, shape, monkeypatch):
    X, Y, _, _ = datasets.make_rnn(*shape, random_state=0)
    if options.get("activation") == "cubic":
        Y = Y + 0.1 * X[..., : Y.shape[2]] ** 3
    sizes = reports(monkeypatch)
    settings = {"n_hidden": shape[3], "random_state": 0, "engine": "serial", **options}
    SpectralRNNRegressor(**settings).fit(X, Y)
    check(sizes, X.shape[2], X.nbytes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gloree.diagnostics.GloreeWarning")
@pytest.mark.parametrize("options", first_of([{}, {"lags": 2}]), ids=["plain", "lags"])
def test_pass_functions_of_bidirectional_fits_are_light(options, monkeypatch):
    X, Y = two_ways(4)
    sizes = reports(monkeypatch)
    est = SpectralRNNRegressor(
        (2, 1), bidirectional=True, random_state=0, engine="serial", **options
    )
    est.fit(X, Y)
    check(sizes, 4, X.nbytes)


def check(sizes, n_inputs, data_bytes):
    assert len(sizes) >= 10
    # a few hundred KB, and some matrices of the inputs; far from the data
    limit = 200_000 + 10 * 8 * n_inputs**2
    assert limit < data_bytes
    heavy = {label: size for label, size in sizes if size > limit}
    assert not heavy
