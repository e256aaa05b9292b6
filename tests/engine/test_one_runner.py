"""Functions that are called by hand run the passes of a fit, by the same runner."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.marks import first_of

import gloree
import gloree.engine._source as source_module
from gloree import GaussianVAR, datasets
from gloree.chains import lag_moments
from gloree.engine import Engine, Source
from gloree.models import IORNN
from gloree.moments import (
    RegressionFeatures,
    RegressionSolver,
    Whitening,
    cross_moment,
    cross_moment_sums,
    regression_moment,
    regression_sums,
)
from gloree.recurrence import Contraction, estimate, instrument_sums, instrument_update
from gloree.score_functions import SymmetricWhitening, check_score, stein_statistic
from gloree.sequences import as_sequences

# Sums of thousands of products in another order, and what is solved for with them.
ROUNDING = 1e-9

X, Y, TRUTH, CHAIN = datasets.make_rnn(8, 2500, 3, 2, 3, random_state=0)
START = TRUTH.replace(recurrent_weights=0 * TRUTH.recurrent_weights)
DATA = as_sequences(X, Y)

# per-row maps, not sums: outputs are put together as they come
MAPS = {"chains/_gaussian_var.py", "chains/_markov.py", "chains/_switching.py"}


def cut_as_a_fit_cuts():
    """Pieces of long sequences, in batches of a few."""
    return Source(DATA, batch_size=1500, segment=250, before=50, after=5)


def run(function, source=None):
    return Engine("serial").run(function, source or cut_as_a_fit_cuts())


def chain_by_passes():
    return GaussianVAR.from_moments(run(partial(lag_moments, order=2))).coefficients


def cross_by_passes():
    return run(partial(cross_moment_sums, chain=CHAIN, order=2)).finalize(unbiased=True)


def regression_by_passes():
    law = run(partial(lag_moments, order=0)).finalize()
    features = RegressionFeatures(Whitening.from_covariance(law.mean, law.covariance), 2, CHAIN)
    sums = run(partial(regression_sums, features=features))
    tensor = RegressionSolver.from_sums(features, sums).tensor(sums)
    W = features.whitening.matrix
    return np.einsum("aij,ik,jl->akl", tensor, W, W)


def check_by_passes():
    law = run(partial(lag_moments, order=0)).finalize()
    whitening = SymmetricWhitening.from_moments(law.mean, law.covariance)
    block = DATA.n_rows // 80
    sums = run(partial(stein_statistic, chain=CHAIN, whitening=whitening, block=block))
    return np.array([sums.finalize(CHAIN).defect_raw, sums.finalize(CHAIN).radius])


def check_by_hand():
    check = check_score(X, chain=CHAIN)
    return np.array([check.defect_raw, check.radius])


def recurrence_by_passes():
    # whole sequences: a washout would leave a trace of the first states
    contraction = Contraction.of(START, CHAIN.precision_blocks(0))
    function = partial(instrument_sums, model=START, chain=CHAIN, contraction=contraction)
    return instrument_update(run(function, Source(DATA, batch_size=1500)))[0]


def recurrence_by_hand():
    found = estimate(CHAIN, X, Y, START, sweeps=1)
    assert isinstance(found, IORNN)
    return found.recurrent_weights


PAIRS = {
    "GaussianVAR.fit": (lambda: GaussianVAR.fit(X, order=2).coefficients, chain_by_passes),
    "cross_moment": (lambda: cross_moment(CHAIN, X, Y, 2), cross_by_passes),
    "regression_moment": (lambda: regression_moment(X, Y, chain=CHAIN), regression_by_passes),
    "check_score": (check_by_hand, check_by_passes),
    "estimate": (recurrence_by_hand, recurrence_by_passes),
}


@pytest.mark.parametrize("by_hand, by_passes", PAIRS.values(), ids=PAIRS.keys())
def test_one_call_gives_what_the_passes_of_a_fit_give(by_hand, by_passes):
    expected = by_passes()
    assert np.abs(by_hand() - expected).max() < ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize("by_hand", [pair[0] for pair in PAIRS.values()], ids=PAIRS.keys())
def test_one_call_does_not_depend_on_its_batches(by_hand, monkeypatch):
    expected = by_hand()
    monkeypatch.setattr(source_module, "BATCH_ROWS", 300)
    assert np.abs(by_hand() - expected).max() < ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize(
    "by_hand", first_of([pair[0] for pair in PAIRS.values()], 2), ids=PAIRS.keys()
)
def test_one_call_is_bit_equal_with_threads_and_without(by_hand, monkeypatch):
    monkeypatch.setattr(source_module, "BATCH_ROWS", 300)
    monkeypatch.setattr("gloree.engine._engine.n_cores", lambda: 4)
    threads = by_hand()
    monkeypatch.setattr("gloree.engine._engine.n_cores", lambda: 1)
    np.testing.assert_array_equal(by_hand(), threads)


def loops_over_batches(path):
    """Calls of `.batches(..)` of data, or of `walk`, in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in ("batches", "batch"):
            yield called.attr
        elif isinstance(called, ast.Name) and called.id == "walk":
            yield called.id


def imported(path):
    """Modules of the package that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gloree"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("gloree"))


GROUND = {path.stem for path in Path(gloree.__file__).parent.glob("_[a-z]*.py")}
"""Private modules of the ground floor, which know of no network either (test_architecture.py)."""

ALLOWED = {
    "sequences": GROUND,
    "sources": GROUND | {"sequences"},
    "engine": GROUND | {"sequences", "sources"},
}


@pytest.mark.parametrize("name", ALLOWED)
def test_data_and_passes_know_nothing_of_networks(name):
    folder = Path(gloree.__file__).parent / name
    found = {module for path in folder.glob("*.py") for module in imported(path)}
    outside = {module.split(".")[1] for module in found if module.split(".")[1] != name}
    assert outside <= ALLOWED[name]


@pytest.mark.slow
def test_only_the_engine_loops_over_batches():
    package = Path(gloree.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(loops_over_batches(path))
    }
    outside = {name for name in found if name.split("/")[0] not in ("engine", "sequences")}
    assert outside == MAPS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "thread"}, "`name` must be 'threads' or 'serial', got 'thread'"),
        ({"name": "dask"}, "for Dask give engine='dask'"),
        ({"n_workers": 0}, "`n_workers` must be at least 1"),
        ({"n_workers": 1.5}, "`n_workers` must be an integer"),
        ({"verbose": "yes"}, "`verbose` must be an integer"),
    ],
)
def test_an_engine_that_is_none_is_refused_by_name(options, message):
    """One named "thread" or "dask" ran its batches one after another, without a word."""
    with pytest.raises((TypeError, ValueError), match=message):
        Engine(**options)
