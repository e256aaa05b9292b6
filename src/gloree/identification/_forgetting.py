"""Whether a network forgets the state it started in, as the linear model does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gloree.identification._expected_state import expected_states
from gloree.identification._problem import IdentificationProblem, longest_record
from gloree.models import IORNN, ExplosionError

FORGETTING_ROWS = 4000  # rows of the longest record that the runs go over, at most
OTHER_STATES = 8  # runs from states of other times
STRETCHED = (1.0, 2.0, -2.0)  # factors of these states
APART = 0.1
"""Spread of the runs on the second half of the rows, over the outputs' size, that is remembered."""


def spread_of_runs(problem: IdentificationProblem, model: IORNN) -> float:
    """Largest root mean square distance of runs from other states from their mean.

    Over the second half of the first rows of the longest record; outputs have size one. Infinite
    where a run explodes.
    """
    u, _ = longest_record(problem.records, FORGETTING_ROWS)
    n = u.shape[0]
    model = _without_starts(model, u.shape[1])
    rng = np.random.default_rng(0)
    rows = rng.integers(n, size=OTHER_STATES)
    stretched = rng.choice(STRETCHED, size=(OTHER_STATES, 1))
    runs = np.broadcast_to(u, (OTHER_STATES, *u.shape))
    try:
        states = np.asarray(model.hidden_states(u))[rows] * stretched
        y = np.asarray(model.predict(runs, state=states))[:, n // 2 :]
    except ExplosionError:
        return np.inf
    return float(np.sqrt(np.mean(np.square(y - y.mean(axis=0)), axis=(1, 2))).max())


def remembers(problem: IdentificationProblem, model: IORNN, linear: IORNN) -> bool:
    """Whether runs of a network from other states stay apart, where those of the linear one meet.

    Such a network has several ways to answer the same inputs. A system may be like that, but so is
    a fit to few rows that jumps, on new inputs, to an answer that no row has checked.
    """
    apart = spread_of_runs(problem, model)
    return apart > APART and spread_of_runs(problem, linear) < APART


def is_lost(problem: IdentificationProblem, model: IORNN, linear: IORNN) -> bool:
    """Whether runs of a network that does not forget end farther off than those of the linear one.

    From the states that inputs make likely (`expected_states`), where runs begin by default, and
    judged on the second half of the first rows of every record, where those of systems that forget
    have met. Held-out blocks do not see it: their runs come from where the fit knows the states.
    Never of a network that forgets as the linear model does.
    """
    if not remembers(problem, model, linear):
        return False
    return not _late_error(problem, model) < _late_error(problem, linear)


def _late_error(problem: IdentificationProblem, model: IORNN) -> float:
    """Root mean square error there."""
    records, counted = problem.records, problem.counted
    assert records.Y is not None
    model = _without_starts(model, records.n_inputs)
    states = expected_states(model, records)
    total, count = 0.0, 0
    for state, (begin, end) in zip(states, pairwise(records.starts.tolist()), strict=True):
        rows = slice(begin, min(end, begin + FORGETTING_ROWS))
        u, y = np.asarray(records.X[rows]), np.asarray(records.Y[rows])
        try:
            run = np.asarray(model.predict(u, state=state))
        except ExplosionError:
            return np.inf
        late = np.arange(len(u)) >= len(u) // 2
        good = (late & counted[rows])[:, None] & np.isfinite(y)
        total += float(np.sum(np.square(run - y), where=good))
        count += int(good.sum())
    return float(np.sqrt(total / max(count, 1)))


def _without_starts(model: IORNN, n_inputs: int) -> IORNN:
    """Return the network without the columns for the starts of records."""
    assert model.direct_weights is not None
    return model.replace(
        input_weights=model.input_weights[:, :n_inputs],
        direct_weights=model.direct_weights[:n_inputs],
    )
