"""Networks that do not forget the state they started in, and second attempts from more states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from gloree.engine import Engine
from gloree.identification import IdentificationProblem, IdentificationSettings, read_records
from gloree.identification import _more_states as more_states
from gloree.identification._budget import Budget
from gloree.identification._forgetting import (
    OTHER_STATES,
    STRETCHED,
    _late_error,
    is_lost,
    remembers,
    spread_of_runs,
)
from gloree.identification._more_states import MORE_GAIN, Attempt, try_more_states
from gloree.models import IORNN, find_equilibria

ROUNDING = 1e-12
# runs of a contraction over hundreds of steps
MET = 1e-9


@dataclass(frozen=True)
class Searching:
    """What a search is replaced by."""

    split: object
    problem: object = None


def problem_of(n_rows=400, n_records=1):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((n_records * n_rows, 1))
    y = u[:, 0] + 0.1 * rng.standard_normal(n_records * n_rows)
    return IdentificationProblem.of(
        read_records(u, y, lengths=[n_rows] * n_records),
        IdentificationSettings(),
        Engine("serial"),
    )


def network(U, activation, weight=0.3):
    k = len(U)
    return IORNN(
        weight * np.ones((k, 1)),
        U,
        np.ones((k, 1)),
        direct_weights=[[0.2]],
        activation=activation,
    )


def test_spread_of_runs_is_that_of_naive_loops():
    problem = problem_of(60)
    model = network([[0.98, 0.1], [0.2, 1.5]], ["linear", "tanh"])
    u = np.asarray(problem.records.X)[:, 0]

    def run(h):
        outputs, states = [], []
        for value in u:
            z = 0.3 * value + np.array([0.98 * h[0] + 0.1 * h[1], 0.2 * h[0] + 1.5 * h[1]])
            h = np.array([z[0], np.tanh(z[1])])
            states.append(h)
            outputs.append(h.sum() + 0.2 * value)
        return np.array(outputs), np.array(states)

    states = run(np.zeros(2))[1]
    rng = np.random.default_rng(0)
    rows = rng.integers(60, size=OTHER_STATES)
    starts = states[rows] * rng.choice(STRETCHED, size=(OTHER_STATES, 1))
    y = np.array([run(start)[0][30:] for start in starts])
    expected = np.sqrt(np.mean((y - y.mean(axis=0)) ** 2, axis=1)).max()
    assert spread_of_runs(problem, model) == pytest.approx(expected, rel=1e3 * ROUNDING)


def test_a_unit_that_holds_itself_remembers_and_a_contraction_forgets():
    problem = problem_of()
    linear = network([[0.9]], "linear")
    holds = network([[3.0]], "tanh")
    forgets = network([[0.5]], "tanh")
    assert spread_of_runs(problem, forgets) < MET
    assert remembers(problem, holds, linear)
    assert not remembers(problem, forgets, linear)
    # a system that integrates remembers too, and asks no more of a network
    assert not remembers(problem, holds, network([[1.0]], "linear"))


def test_a_network_is_lost_where_its_runs_end_elsewhere():
    """Outputs of the linear model: a unit that holds itself is far from them, from any start."""
    problem = problem_of()
    linear, holds, forgets = (
        network([[0.9]], "linear"),
        network([[3.0]], "tanh"),
        network([[0.5]], "tanh"),
    )

    def of(model):
        u = np.asarray(problem.records.X)
        return replace(problem, records=replace(problem.records, Y=np.asarray(model.predict(u))))

    assert is_lost(of(linear), holds, linear)
    assert not is_lost(of(holds), holds, linear)
    assert not is_lost(of(linear), forgets, linear)


def test_runs_begin_in_the_states_that_inputs_make_likely():
    """A unit that holds itself, and inputs that stand at 2 at first: it is up, not at zero."""
    problem = problem_of()
    u = np.asarray(problem.records.X).copy()
    u[:100] = 2.0
    holds, linear = network([[3.0]], "tanh"), network([[0.9]], "linear")
    state = find_equilibria(holds, u[:1]).states[0]
    assert abs(state[0]) > 0.5
    y = np.asarray(holds.predict(u, state=state))
    moved = replace(problem, records=replace(problem.records, X=u, Y=y))
    assert not is_lost(moved, holds, linear)
    assert _late_error(moved, holds) == 0.0


def test_runs_that_explode_are_apart():
    problem = problem_of()
    assert spread_of_runs(problem, network([[1.2]], "cubic", weight=2.0)) == np.inf


@pytest.mark.parametrize(
    ("error", "training", "nonlinear", "taken"),
    [
        (0.99 * MORE_GAIN, 0.9, True, True),
        (1.01 * MORE_GAIN, 0.9, True, False),
        (0.99 * MORE_GAIN, 1.1, True, False),
        (0.99 * MORE_GAIN, 0.9, False, False),
    ],
)
def test_more_states_must_gain_clearly(error, training, nonlinear, taken, monkeypatch):
    """Errors of a first network are 1 on held-out and on training rows."""
    fit = SimpleNamespace(split="first")
    larger = SimpleNamespace(split="second", order=4, delayed=lambda problem: problem)
    found = SimpleNamespace(
        nonlinear=nonlinear, error=error, training_error=training, detail="some steps"
    )
    given = {
        "with_more_states": lambda *_: larger,
        "find_nonlinearity": lambda *_: SimpleNamespace(unit_counts=(3,), detail=""),
        "rank_starts": lambda *_: None,
        "refine_network": lambda *_: found,
    }
    for name, value in given.items():
        monkeypatch.setattr(more_states, name, value)
    monkeypatch.setattr(more_states.Origin, "of", lambda *_: SimpleNamespace(search=None))
    before = SimpleNamespace(nonlinear=True, error=1.0, training_error=1.0)
    first = Attempt(SimpleNamespace(search=Searching("first")), before)
    budget = Budget(Engine("serial"), 10.0)
    end = try_more_states(first, "problem", fit, "linear", budget)
    assert budget.max_seconds == 10.0
    assert end.network is (found if taken else before)
    assert end.detail.endswith(": taken" if taken else ": not taken")
    monkeypatch.setattr(more_states, "with_more_states", lambda *_: fit)
    assert try_more_states(first, "problem", fit, "linear", budget).network is before


@pytest.mark.parametrize("certain", [True, False])
def test_of_plenty_of_rows_any_certain_gain_counts(certain, monkeypatch):
    larger = SimpleNamespace(split="second", order=4, delayed=lambda problem: problem)
    found = SimpleNamespace(
        nonlinear=True, error=0.99, training_error=1.1, detail="some steps", model="second"
    )
    given = {
        "with_more_states": lambda *_: larger,
        "find_nonlinearity": lambda *_: SimpleNamespace(unit_counts=(3,), detail=""),
        "rank_starts": lambda *_: None,
        "refine_network": lambda *_: found,
        "compare": lambda *models: SimpleNamespace(
            is_certain=certain and models[2:] == ("first", "second")
        ),
    }
    for name, value in given.items():
        monkeypatch.setattr(more_states, name, value)
    monkeypatch.setattr(more_states.Origin, "of", lambda *_: SimpleNamespace(search=None))
    before = SimpleNamespace(nonlinear=True, error=1.0, training_error=1.0, model="first")
    split = SimpleNamespace(held_out="rows")
    search = Searching(split, problem="problem")
    first = Attempt(SimpleNamespace(search=search), before)
    budget = Budget(Engine("serial"), 10.0)
    end = try_more_states(first, "problem", SimpleNamespace(split=split), "linear", budget, True)
    assert end.network is (found if certain else before)


def test_time_that_is_spared_comes_back():
    budget = Budget(Engine("serial"), 100.0)
    with pytest.raises(ZeroDivisionError), budget.sparing(0.25):
        assert budget.left() < 75.0
        raise ZeroDivisionError
    assert budget.left() > 90.0
