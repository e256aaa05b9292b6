"""Mapped files that are cut or overwritten during a fit end in an error, never in a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.harmed_files import ENDED, FORMS

from gloree._mapped import is_mapped, uncovered
from gloree.sequences import as_sequences

TESTS = Path(__file__).parents[1]
COPIED = ("own map, every other sequence", "own map, a list of its sequences")
"""Forms that are in memory when the fit begins: what happens to their files then is no matter."""

NAMED = ("has been cut short", "hold other values than when the fit began", "is not what it was")
NAMED += ("cannot be mapped (", "cannot be read (")


def outcomes(folder, *forms):
    """What fits in a process of their own ended in, by form and harm."""
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-m", "helpers.harmed_files", str(folder), *forms]
    done = subprocess.run(command, capture_output=True, text=True, env=given, timeout=300)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stdout}{done.stderr}"
    return [line.split(" | ", 2) for line in done.stdout.splitlines()]


def require_named(found):
    for form, what, end in found:
        if form in COPIED and "before" not in what:
            assert end == ENDED, (form, what, end)
        else:
            assert end.startswith("SourceError: "), (form, what, end)
            assert any(words in end for words in NAMED), (form, what, end)


@pytest.mark.slow
def test_files_that_are_harmed_during_a_fit_are_named(tmp_path):
    found = outcomes(tmp_path)
    assert {form for form, _, _ in found} == set(FORMS)
    assert len(found) == 8 * len(FORMS)
    require_named(found)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_files_that_are_harmed_in_any_pass_are_named(form, tmp_path):
    found = outcomes(tmp_path, form)
    assert len(found) == 5 * 3 + 3
    require_named(found)


def test_an_array_that_hides_a_map_is_found_to_be_one(tmp_path):
    values = np.random.default_rng(0).standard_normal((20, 5, 2))
    np.save(tmp_path / "X.npy", values)
    opened = np.load(tmp_path / "X.npy", mmap_mode="r")
    for hidden in (np.asarray(opened), np.asarray(opened)[3:], np.asarray(opened)[:, ::2]):
        found = uncovered(hidden)
        assert is_mapped(found)
        np.testing.assert_array_equal(np.asarray(found), hidden)
    for plain in (values, values[3:], np.array(opened), opened):
        assert uncovered(plain) is plain
    assert is_mapped(as_sequences(np.asarray(opened)).X)
    assert not is_mapped(as_sequences(values).X)
