"""Small fits on every path give what is on record in ``benchmarks/results``."""

from __future__ import annotations

import copy
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers.marks import first_of

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from _reference_set import FITS, run_fit
from reference_fits import (
    SAME_ROUNDING,
    compare,
    failures,
    read_record,
    result_of,
    signature,
)

RECORD = read_record()

# between the rounding that is let pass and the smallest change that anyone would call one
SMALL_CHANGE = 100 * SAME_ROUNDING


# One of every path runs with every change, the others among the slow tests.
ALWAYS = (
    "quadratic",
    "not refined",
    "direct path",
    "no recurrence",
    "number of units",
    "score moment",
    "large segments",
    "exploded sequence",
    "rotation",
    "cubic",
    "parabola",
    "two-way",
    "labels",
    "interrupted",
)


def with_marks(names):
    """Systems, with their searches, take some ten seconds each."""
    slow, long = (pytest.mark.slow,), (pytest.mark.slow, pytest.mark.long)
    marks = {name: long if name.startswith("system") else slow for name in names}
    return [pytest.param(name, marks=() if name in ALWAYS else marks[name]) for name in names]


@cache
def result(name):
    fit = FITS[name]
    if fit.missing:
        pytest.skip(f"{fit.missing} is not installed")
    return result_of(run_fit(fit))


@pytest.mark.parametrize("name", first_of(with_marks(FITS), 8))
def test_a_fit_gives_what_is_on_record(name):
    found, good = failures(FITS[name], RECORD, result(name))
    assert good, str(found)


@pytest.mark.parametrize("name", with_marks([name for name, fit in FITS.items() if fit.equal_to]))
def test_sources_engines_and_checkpoints_change_no_bit(name):
    assert result(name)["weights"] == result(FITS[name].equal_to)["weights"]


def test_the_record_holds_every_fit_and_what_it_was_made_with():
    assert list(RECORD["fits"]) == list(FITS)
    assert RECORD["header"].keys() >= {"command", "date", "processor", "commit", "signature"}
    assert RECORD["header"]["signature"].keys() == signature().keys()


def first_number(tree):
    """Make the first number of nested lists larger by a small part of it."""
    while isinstance(tree[0], list):
        tree = tree[0]
    tree[0] *= 1 + SMALL_CHANGE


CHANGES = {
    "a weight": lambda fit: first_number(fit["weights"]["model_/output_weights"]),
    "a figure": lambda fit: first_number(fit["report"]["refined_rmse"]),
    "a prediction": lambda fit: first_number(fit["predictions"]["predict"]),
    "a status": lambda fit: fit["report"].update(refinement_status="CONVERGED"),
    "a missing figure": lambda fit: fit["report"].pop("moments_rmse"),
    "a warning": lambda fit: fit["warnings"].append("ScoreWarning"),
    "the data": lambda fit: fit["data"].reverse(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_comparison_sees(change):
    theirs = RECORD["fits"]["quadratic"]
    mine = copy.deepcopy(theirs)
    same = compare(theirs, mine)
    assert same.worst == 0 and not same.other
    CHANGES[change](mine)
    found = compare(theirs, mine)
    assert found.worst > SAME_ROUNDING or found.other


def test_passes_that_are_saved_are_noted():
    theirs = RECORD["fits"]["quadratic"]
    mine = copy.deepcopy(theirs)
    label = mine["passes"].pop()
    found = compare(theirs, mine)
    assert not found.other
    assert f"{label!r} -1" in str(found)
