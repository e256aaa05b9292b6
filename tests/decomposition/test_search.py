"""The search: its status is decided by the losses, and it can be continued."""

import numpy as np
import pytest
from helpers.planted import planted

from gloree.decomposition import DecompositionStatus
from gloree.decomposition._least_squares import Point, Problem
from gloree.decomposition._levenberg_marquardt import Ending, Minimum
from gloree.decomposition._search import AGREEMENT, NEARBY, Core, Starts, compress, run_starts

PROBLEM = Problem(planted(4, 3, 2, noise=0.1).tensor)
WHOLE = Core(PROBLEM)
# Losses within and beyond the two limits that the search knows.
SAME, CLOSE, OTHER = 1 + AGREEMENT / 2, (1 + NEARBY) / 2, 2 * NEARBY


def minimum(loss, ending=Ending.CONVERGED):
    row = np.eye(1, 4)
    return Minimum(
        Point(row, row @ row.T, np.eye(1), np.ones((1, 2)), np.empty(0), loss), 7, ending
    )


def run(*losses):
    starts = Starts()
    for loss in losses:
        starts = starts.followed_by(minimum(loss))
    return starts


@pytest.mark.parametrize(
    ("losses", "status"),
    [
        ([1], "NO_AGREEMENT"),
        ([1, SAME, 1], "NO_AGREEMENT"),
        ([1, SAME, 1, OTHER, OTHER], "NO_AGREEMENT"),
        ([OTHER, OTHER, OTHER, 1, SAME, 1], "AGREED"),
        ([OTHER, OTHER, OTHER, OTHER, 1, SAME], "NO_AGREEMENT"),
        ([CLOSE, OTHER, OTHER, 1, SAME, 1], "NO_AGREEMENT"),
        ([CLOSE, OTHER, OTHER, 1, SAME, 1] + 6 * [OTHER], "AGREED"),
        ([1e-30], "EXACT"),
    ],
)
def test_three_of_six_agree_and_of_twelve_where_minima_are_close(losses, status):
    assert run(*losses).status(WHOLE) is DecompositionStatus[status]


def test_an_exact_fit_of_a_core_that_leaves_something_out_is_none():
    assert run(1e-30).status(WHOLE._replace(is_whole=False)) is DecompositionStatus.NO_AGREEMENT


@pytest.mark.parametrize(("band", "status"), [((0.5, 2), "CERTIFIED"), ((2, 3), "NO_AGREEMENT")])
def test_two_are_enough_if_the_noise_outside_explains_the_residual(band, status):
    core = WHOLE._replace(is_whole=False, noise_band=band)
    assert run(1).status(core) is DecompositionStatus.NO_AGREEMENT
    assert run(1, SAME).status(core) is DecompositionStatus[status]


def test_a_start_that_does_not_converge_agrees_with_none_and_remains_a_candidate():
    starts = run(OTHER).followed_by(minimum(1, Ending.LIMIT))
    assert starts.n_within() == 0
    assert starts.best.loss == 1
    assert [point.loss for point in starts.candidates()] == [1]


def test_a_start_that_joins_a_minimum_counts_for_it_and_adds_none():
    starts = run(1).followed_by(minimum(1.2, Ending.JOINED))
    assert starts.n_within() == 2
    assert len(starts.minima) == 1
    assert starts.n_iterations == 14


def test_candidates_are_the_different_minima_close_to_the_best():
    losses = [point.loss for point in run(OTHER, CLOSE, SAME, 1, 1).candidates()]
    assert losses == [1, CLOSE]


@pytest.mark.parametrize("cell", [(6, 9, 4), (10, 9, 3), (8, 4, 1, 3)], ids=str)
def test_an_unfinished_search_continued_is_the_search_run_at_once(cell):
    core = compress(Problem(planted(*cell, noise=0.3).tensor), cell[1])
    once = run_starts(core, cell[1], np.random.default_rng(0), Starts(), 5)
    rng = np.random.default_rng(0)
    first = run_starts(core, cell[1], rng, Starts(), 2)
    assert first.status(core) is DecompositionStatus.NO_AGREEMENT
    assert run_starts(core, cell[1], rng, first, 5).losses == once.losses
    assert len(first.losses) == 2
