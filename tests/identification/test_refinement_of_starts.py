"""Which starts of a network are refined, for how many steps, and which one is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from gloree.identification._ranking import RankedStarts, Start
from gloree.identification._refinement import MOST_STEPS, ROUND_STEPS, _compete
from gloree.identification._search import SearchEnd
from gloree.models import IORNN


@dataclass
class Scripted:
    """A search whose errors after so many steps in all are given for each start.

    A step takes `cost` seconds of 1,000; `calls` are the starts and their steps.
    """

    errors: dict[str, dict[int, float]]
    cost: float = 0.1
    calls: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self):
        self.seconds = 1000.0
        self.budget = SimpleNamespace(left=lambda: self.seconds)
        self.split = SimpleNamespace(training=None)
        self.steps = dict.fromkeys(self.errors, 0)

    def descend(self, model, rows, *, max_steps, max_seconds):
        name = model.name
        n_steps = min(max_steps, int(max_seconds / self.cost))
        self.seconds -= self.cost * n_steps
        self.steps[name] += n_steps
        self.calls.append((name, n_steps))
        reached = max(at for at in self.errors[name] if at <= self.steps[name])
        return SearchEnd(model, held_out=self.errors[name][reached], n_steps=n_steps)

    def judged(self, end):
        return end.held_out


class Named(IORNN):
    """A network of tanh units with a name."""

    def __init__(self, name):
        super().__init__(np.eye(1), np.eye(1), np.eye(1), activation="tanh")
        self.name = name


def starts(errors):
    return tuple(Start(SearchEnd(Named(name)), by_steps[0], 0) for name, by_steps in errors.items())


def test_the_start_that_is_best_after_some_steps_goes_to_its_end():
    errors = {
        "a": {0: 1.0, 15: 0.9, 30: 0.8},
        "b": {0: 2.0, 15: 0.5, 30: 0.45, 100: 0.3},
        "c": {0: 3.0, 15: 0.6, 30: 0.4, 100: 0.1},
    }
    search = Scripted(errors)
    best, ends = _compete(search, starts(errors), False, 0.0)
    assert best.end.model.name == "c" and best.error == 0.1
    # all once, the better half once more, the best to its end, and the second as well
    once = [(name, ROUND_STEPS) for name in "abc"]
    assert search.calls == [
        *once,
        ("b", ROUND_STEPS),
        ("c", ROUND_STEPS),
        ("c", MOST_STEPS),
        ("b", MOST_STEPS),
    ]
    assert len(ends) == len(search.calls)


def test_the_end_of_the_second_start_is_kept_where_it_is_the_better_one():
    errors = {"a": {0: 1.0, 15: 0.2}, "b": {0: 2.0, 15: 0.5, 100: 0.1}}
    best, _ = _compete(Scripted(errors), starts(errors), False, 0.0)
    assert best.end.model.name == "b"


def test_an_explosion_at_the_end_lets_the_next_start_go_on():
    errors = {
        "a": {0: 1.0, 15: 0.1, 100: math.inf},
        "b": {0: 2.0, 15: 0.5},
        "c": {0: 3.0, 15: 0.9},
    }
    search = Scripted(errors)
    best, _ = _compete(search, starts(errors), False, 0.0)
    # the best that was sound on the way, if it was better
    assert best.error == 0.1
    assert [name for name, steps in search.calls if steps == MOST_STEPS] == ["a", "b", "c"]


@pytest.mark.parametrize("cost", [0.1, 5.0, 20.0])
def test_comparisons_take_a_share_of_the_time_and_all_leave_what_is_to_be_spared(cost):
    errors = {name: {0: 1.0 + 0.1 * i} for i, name in enumerate("abc")}
    search = Scripted(errors, cost)
    _compete(search, starts(errors), False, 300.0)
    assert search.seconds >= 300.0
    in_the_end = 2 if cost < 1.0 else 1
    compared = [steps for _, steps in search.calls[:-in_the_end]]
    assert cost * sum(compared) <= 0.4 * 700.0
    assert {name for name, _ in search.calls} == set("abc")


def test_starts_far_behind_are_left():
    errors = {"a": {0: 1.0}, "b": {0: 8.9}, "c": {0: 9.1}}
    assert [each.end.model.name for each in RankedStarts(starts(errors)).finalists] == ["a", "b"]
    assert RankedStarts().finalists == ()
