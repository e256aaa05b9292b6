"""Parameters of the solvers are checked where a solver is made, by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gloree.refinement import LBFGS, FisherScoring, GaussNewton, LevenbergMarquardt

WHOLE = [
    ("x", TypeError, "`max_steps` must be an integer, got 'x'"),
    (2.5, TypeError, "`max_steps` must be an integer, got 2.5"),
    (True, TypeError, "`max_steps` must be an integer, got True"),
    (-1, ValueError, "`max_steps` must be at least [01], got -1"),
]


@pytest.mark.parametrize("solver", [LevenbergMarquardt, FisherScoring, GaussNewton, LBFGS])
@pytest.mark.parametrize("value, error, message", WHOLE)
def test_steps_are_a_whole_number(solver, value, error, message):
    with pytest.raises(error, match=message):
        solver(max_steps=value)
    assert solver(max_steps=np.int64(3)).max_steps == 3


@pytest.mark.parametrize("solver", [FisherScoring, LBFGS])
def test_solvers_without_a_use_for_no_step_take_one_at_least(solver):
    with pytest.raises(ValueError, match="`max_steps` must be at least 1, got 0"):
        solver(max_steps=0)


@pytest.mark.parametrize(
    "solver, options, error, message",
    [
        (LevenbergMarquardt, {"accelerated": "no"}, TypeError, "`accelerated` .* True or False"),
        (LevenbergMarquardt, {"max_seconds": "1"}, TypeError, "`max_seconds` must be a number"),
        (LevenbergMarquardt, {"max_seconds": math.nan}, ValueError, "`max_seconds` .* a number"),
        (LevenbergMarquardt, {"damping": 0.0}, ValueError, "`damping` must be positive and finite"),
        (LevenbergMarquardt, {"damping": math.inf}, ValueError, "`damping` .* got inf"),
        (LevenbergMarquardt, {"free": [0, 1]}, TypeError, "`free` must be a vector of True"),
        (LevenbergMarquardt, {"admit": 1}, TypeError, "`admit` must be a function or None, got 1"),
        (LevenbergMarquardt, {"clock": 1}, TypeError, "`clock` must be a function or None, got 1"),
        (LevenbergMarquardt, {"patience": 0}, ValueError, "`patience` must be at least 1, got 0"),
        (GaussNewton, {"to_convergence": "no"}, TypeError, "`to_convergence` .* got 'no'"),
        (GaussNewton, {"enough": 0.0}, ValueError, "`enough` must be positive and finite, got 0"),
        (GaussNewton, {"enough": "1"}, TypeError, "`enough` must be a number, got '1'"),
        (LBFGS, {"penalty": -1.0}, ValueError, "`penalty` must be at least 0 and finite"),
        (LBFGS, {"penalty": None}, TypeError, "`penalty` must be a number, got None"),
    ],
)
def test_what_no_solver_can_follow_is_refused_by_name(solver, options, error, message):
    with pytest.raises(error, match=message):
        solver(**options)


def test_what_the_library_gives_its_solvers_is_taken():
    LevenbergMarquardt(0, -1.0, 1e-6, np.ones(3, dtype=bool), abs, abs, 25, np.True_)
    LevenbergMarquardt(max_seconds=math.inf, damping=np.float32(1e-3))
    assert GaussNewton(max_steps=0).most_steps == 0
    LBFGS(penalty=0)
