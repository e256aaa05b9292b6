"""First stage: dead times, order and linear states, and the linear model along the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gloree.diagnostics import Finding, GloreeWarning, OrderTrial
from gloree.identification._budget import Budget
from gloree.identification._delays import find_delays
from gloree.identification._linear_choice import SLOWER, Candidate, choose, without_idle_poles
from gloree.identification._linear_search import SystemTrial, all_starts, search_systems
from gloree.identification._linear_starts import response_start
from gloree.identification._linear_system import LinearSystem, modal, network_of
from gloree.identification._markov import (
    LEAST_LAGS,
    ImpulseResponse,
    impulse_response,
    typical_length,
)
from gloree.identification._networks import LinearModel
from gloree.identification._output_error import (
    STABLE,
    OutputErrorFit,
    balanced,
    refine,
    run_records,
    with_states,
)
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._realisation import (
    PoleLimit,
    Realisation,
    hankel_lags,
    lags_of_order,
    modal_form,
    supported_order,
)
from gloree.identification._split import RecordSplit, correlation_length
from gloree.identification._weighted_records import WeightedRecords, shifted, shifted_data
from gloree.models import IORNN
from gloree.sequences import Array, IntArray

MOST_LAGS = 120  # of the impulse response
LARGEST_ORDER = 10  # orders that are tried where none is given
FEWEST_SEARCHED, MOST_SEARCHED = 10_000, 20_000
CORRELATIONS = 100
"""Orders are compared on so many correlation lengths of the outputs, within limits of rows, where
networks follow; else on the larger number: a weak mode needs more."""

MOMENT_ROWS = 100_000
"""Rows of the longest record that the moments of the residual are taken of, at most."""

VALUES_PER_WEIGHT = 5  # of an order that the response is long enough for in any case
TIME, TIME_ALONE = 0.45, 0.85  # shares of the time for the search, with networks to follow or not
DELAY_TIME, SEARCH_TIME = 0.4, 0.7
"""Parts of that after which dead times and systems are no longer sought: the rest compares orders,
and an order that was not compared may be one that fits a drift."""

TRAINING_STEPS, LAST_STEPS = 20, 100  # steps on the training rows, and on all rows at the end
LARGER = (1, 3)  # states that larger systems have, whose truncations start a given order
FOLLOWED = 4  # starts of a given order that descend
MORE_STATES = 2  # of the linear model that networks start from where rows are plenty

EDGE = 1.0 - 1e-5  # modulus of a pole that is held at the edge of stability, at least
FELT = 0.01  # share of the outputs, root mean square, that modes of poles at a limit make up
SHIFTS, SINGULAR = (0.0, 1e-6, 1e-4, 1e-2, 1.0), 1e8
"""A network of nearly singular states would have huge output weights: its poles are shifted by the
first of these that leaves a condition number below SINGULAR."""

TAIL = 1e-6  # energy of the impulse response that the warm-up of a segment may miss
SHORTEST_WARM_UP, LONGEST_WARM_UP = 50, 4000  # steps of a warm-up


@dataclass(frozen=True)
class LinearFit:
    """Linear model along the rows of the residual moments, and records cut for its memory.

    `delays` (n_inputs,) are the dead times. All that follows sees inputs shifted by them:
    `fit.delayed(problem)` is the problem with such inputs, `split` cuts its records, and a network
    of it becomes one of the original inputs by
    ``with_delays(problem.unscaled(model), fit.delays)``. `system` is the linear model as a
    `LinearSystem` on the (normalised, shifted) inputs, and `initial_states` (n_records, order) are
    its x_0, in front of the first row of every record; the states of a network are h_t = x_{t+1},
    so that h_{-1} = x_0. `end` is the last search, `error` the
    cross-validated error of its order, and `limit` what no pole exceeds.
    """

    linear: LinearModel
    split: RecordSplit
    response: ImpulseResponse
    trials: tuple[OrderTrial, ...]
    findings: tuple[Finding, ...]
    detail: str
    system: LinearSystem
    initial_states: Array
    delays: IntArray
    end: OutputErrorFit
    error: float
    limit: PoleLimit = STABLE

    def delayed(self, problem: IdentificationProblem) -> IdentificationProblem:
        """Return the problem with inputs shifted by the delays.

        Rows in front of which inputs are not known do not count in it.
        """
        return _known(_shifted(problem, self.delays), self.delays)

    @property
    def order(self) -> int:
        """Linear states."""
        return self.linear.realisation.order

    @property
    def network(self) -> IORNN:
        """Network of the system, on windows of two inputs if the system has a pole at zero."""
        return network_of(self.system)


def fit_linear(problem: IdentificationProblem, budget: Budget | None = None) -> LinearFit:
    """Find dead times, choose an order, and fit a system with the states in front of all records.

    The system is fitted to the training rows; to all rows where no network is to follow.
    """
    settings = problem.settings
    alone = settings.n_nonlinear == 0
    share = TIME_ALONE if alone else TIME
    parts = (DELAY_TIME, SEARCH_TIME, 1.0)
    late, sought, ended = (_limit(budget, part * share) for part in parts)
    records = weighted_records(problem)
    response, orders = _response(problem)
    n_rows = _searched_rows(problem)
    delays = find_delays(records.first(n_rows), late)
    moved = shifted(records, delays).after(int(delays.max()))
    few = moved.first(n_rows)
    trials = _searched(few, orders, response, sought)
    chosen, tried = choose(trials, few, ended, followed=not alone)
    limit = chosen.limit
    if settings.n_linear is not None and not alone:
        chosen = without_idle_poles(chosen, few, ended)
    rows = records if alone else _training(problem, records)
    rows = shifted(rows, delays).after(int(delays.max()))
    start = with_states(chosen.fit.system, rows, chosen.fit.error**2)
    steps = 1 if alone else TRAINING_STEPS
    fit = refine(start, rows, steps, settled=1e-6, limit=chosen.limit, ended=ended)
    whole = _shifted(problem, delays)
    linear, system, states = _along(whole, fit)
    split = _known(whole, delays).split(memory_of(linear.model), float(np.abs(system.poles).max()))
    n_held = int(np.sum(np.abs(system.poles) > EDGE))
    findings: tuple[Finding, ...] = ()
    if n_held:
        text = (
            f"{n_held} pole(s) of the linear model are held at the edge of stability: the record "
            f"may drift, hold an unstable or integrating mode, or not determine so many states"
        )
        findings = (Finding(GloreeWarning, text),)
    elif n_held := _held_and_felt(fit, rows, limit):
        text = (
            f"{n_held} pole(s) of the linear model are held at {_limits(limit)}: the "
            f"records are too short to tell slower ones from a drift of the output"
        )
        findings = (Finding(GloreeWarning, text, "give longer records, or `detrend`"),)
    detail = f"order {chosen.order}, cross-validated error {percent(chosen.error)}"
    if delays.any():
        detail += f", dead times {', '.join(map(str, delays.tolist()))} samples"
    return LinearFit(
        linear,
        split,
        response,
        tuple(_order_trial(each) for each in tried),
        findings,
        detail,
        system,
        states,
        delays,
        fit,
        chosen.error,
        chosen.limit,
    )


def with_more_states(
    problem: IdentificationProblem, fit: LinearFit, budget: Budget | None = None
) -> LinearFit:
    """A linear model that networks may do better from; `fit` itself where there is none.

    A state that hardly shows in the linear error may be the filter behind a nonlinearity. So this
    model has two states more, and no pole that is much slower than those of the first.
    """
    supported = supported_order(*fit.response.parameters.shape)
    if problem.settings.n_linear is not None or (budget and budget.is_over):
        return fit
    if fit.order + MORE_STATES > min(LARGEST_ORDER, supported):
        return fit
    # a state that linear data hardly show may get any pole: a slow one would make passes long
    slowest = float(np.abs(fit.system.poles).max())
    limit = fit.limit.at_most(1.0 - (1.0 - slowest) / SLOWER)
    ended = _limit(budget, TIME / 2)
    delayed = fit.delayed(problem)
    rows = _training(delayed, weighted_records(delayed)).after(int(fit.delays.max()))
    few, order = rows.first(_searched_rows(problem)), fit.order + MORE_STATES
    starts = all_starts(few, [fit.response.parameters])
    found = search_systems(few, [order], starts, ended, limit=limit)
    if not found:
        return fit
    start = with_states(found[0].fit.system, rows, found[0].fit.error ** 2)
    fitted = refine(start, rows, TRAINING_STEPS, settled=1e-6, limit=limit, ended=ended)
    if fitted.error > fit.end.error:
        return fit
    linear, system, states = _along(_shifted(problem, fit.delays), fitted)
    split = delayed.split(memory_of(linear.model), float(np.abs(system.poles).max()))
    parts = {"linear": linear, "system": system, "initial_states": states, "split": split}
    return replace(fit, **parts, end=fitted)  # type: ignore[arg-type]


def refit_linear(
    problem: IdentificationProblem, fit: LinearFit, budget: Budget | None = None, share: float = 1.0
) -> LinearFit:
    """Refine the linear model on all rows that are not missing, in a share of the time at most.

    `problem` is the one that `fit_linear` had. Order and delays stay as they are.
    """
    delayed = fit.delayed(problem)
    records = weighted_records(delayed).after(int(fit.delays.max()))
    start = with_states(fit.system, records)
    start = with_states(fit.system, records, start.error**2)
    found = refine(start, records, LAST_STEPS, limit=fit.limit, ended=_limit(budget, share))
    linear, system, states = _along(_shifted(problem, fit.delays), found)
    detail = f"{found.n_steps} steps, {found.status.value}"
    parts = {"linear": linear, "system": system, "initial_states": states}
    return replace(fit, **parts, end=found, detail=detail)  # type: ignore[arg-type]


def _searched_rows(problem: IdentificationProblem) -> int:
    """Rows on which orders are compared, at most."""
    if problem.settings.n_linear is not None or problem.settings.n_nonlinear == 0:
        return MOST_SEARCHED
    wanted = CORRELATIONS * correlation_length(problem.records, problem.counted)
    return min(max(wanted, FEWEST_SEARCHED), MOST_SEARCHED)


def _searched(
    records: WeightedRecords,
    orders: list[int],
    response: ImpulseResponse,
    ended: Callable[[], bool],
) -> list[SystemTrial]:
    """Best systems of all orders; of a given one from more starts, and from larger systems."""
    g = response.parameters
    starts = all_starts(records, [g])
    if len(orders) > 1:
        return search_systems(records, orders, starts, ended)
    (order,) = orders
    supported = supported_order(*g.shape)
    lags = hankel_lags(g.shape[0], order, *g.shape[1:])
    starts += [each for n in lags for each in response_start(g[:n], f"response, {n} lags")]
    larger = {min(order + extra, supported) for extra in LARGER}
    found = search_systems(records, sorted({order, *larger}), starts, ended, followed=FOLLOWED)
    # the larger ones come first, and time may be up before this one
    exact = [trial for trial in found if trial.order == order]
    return exact or search_systems(records, [order], starts, lambda: True) or found[:1]


def _shifted(problem: IdentificationProblem, delays: IntArray) -> IdentificationProblem:
    return replace(problem, records=shifted_data(problem.records, delays))


def _known(problem: IdentificationProblem, delays: IntArray) -> IdentificationProblem:
    """Let rows in front of which delayed inputs are not known not count."""
    if not delays.any():
        return problem
    starts, lengths = problem.records.starts[:-1], problem.records.lengths
    step = np.arange(problem.records.n_rows) - np.repeat(starts, lengths)
    lead = np.minimum(int(delays.max()), lengths - 1)
    known = problem.counted & (step >= np.repeat(lead, lengths))
    return replace(problem, counted=known, held_out=problem.held_out & known)


def weighted_records(problem: IdentificationProblem) -> WeightedRecords:
    """All records of a problem; outputs that are missing or screened do not count."""
    records = WeightedRecords.of(problem.records)
    counted = np.split(problem.counted, problem.records.starts[1:-1])
    return records.weighted([w * c[:, None] for w, c in zip(records.w, counted, strict=True)])


def _training(problem: IdentificationProblem, records: WeightedRecords) -> WeightedRecords:
    held = np.split(problem.held_out, problem.records.starts[1:-1])
    return records.weighted([w * ~h[:, None] for w, h in zip(records.w, held, strict=True)])


def _limit(budget: Budget | None, share: float) -> Callable[[], bool]:
    """Whether a share of the time that is left now is used up."""
    if budget is None:
        return lambda: False
    until = (1.0 - share) * budget.left()
    return lambda: budget.left() <= until


def _response(problem: IdentificationProblem) -> tuple[ImpulseResponse, list[int]]:
    """Impulse response over as many lags as the records allow, and orders to be tried."""
    records, order = problem.records, problem.settings.n_linear
    steps = typical_length(records.lengths)
    d, p = records.n_inputs, records.n_outputs
    most = min(LARGEST_ORDER, records.n_rows * p // (VALUES_PER_WEIGHT * (d + p)))
    wanted = max(records.n_rows // (10 * d), lags_of_order(order or most, p, d))
    n_lags = min(MOST_LAGS, max(LEAST_LAGS, min(wanted, steps // 3)))
    supported = supported_order(n_lags, records.n_outputs, records.n_inputs)
    if order is not None and order > supported:
        raise ValueError(
            f"`n_linear` is {order}, but {records.n_rows} samples support at most {supported} "
            f"linear states: give more data, or lower it"
        )
    response = impulse_response(records, n_lags, problem.engine)
    return response, [order] if order else list(range(1, min(LARGEST_ORDER, supported) + 1))


def _held_and_felt(fit: OutputErrorFit, records: WeightedRecords, limit: PoleLimit) -> int:
    """Poles at a limit whose modes are more than `FELT` of the outputs, root mean square."""
    A, T, modes = modal_form(fit.system.A)
    held = [m for m in modes if limit.reached(np.linalg.eigvals(A[np.ix_(m, m)])).all()]
    if not held:
        return 0
    C, inverse, squares = fit.system.C @ T, np.linalg.pinv(T), np.zeros(len(held))
    for group, _, x in run_records(fit.system, fit.states, records):
        inside = np.arange(x.shape[1]) < group.lengths[:, None]
        for place, rows in enumerate(held):
            part = (x @ inverse[rows].T @ C[:, rows].T)[inside]
            squares[place] += np.sum(np.square(part - part.mean(axis=0)))
    felt = squares > FELT**2 * records.n_counted
    return sum(len(rows) for rows, one in zip(held, felt, strict=True) if one)


def _limits(limit: PoleLimit) -> str:
    """Limits of poles in words."""
    slow, ringing = (1.0 / (1.0 - each) for each in (limit.drifting, limit.modulus))
    return f"a time constant of {slow:.4g} samples ({ringing:.4g} if they ring)"


def _order_trial(candidate: Candidate) -> OrderTrial:
    system = candidate.fit.system
    values, _, _ = balanced(system.A, system.B, system.C, LONGEST_WARM_UP)
    n_held = int(np.sum(np.abs(system.poles) > EDGE))
    return OrderTrial(candidate.order, float(values[-1]), candidate.error, n_held)


def _along(
    problem: IdentificationProblem, fit: OutputErrorFit
) -> tuple[LinearModel, LinearSystem, Array]:
    """Linear model along the longest record, with the system and its states in its coordinates.

    States in front of the records are those that all of their rows tell.
    """
    fit = with_states(fit.system, weighted_records(problem), fit.error**2)
    lengths = problem.records.lengths
    longest = int(np.argmax(lengths))
    begin = int(problem.records.starts[longest])
    rows = slice(begin, begin + int(min(lengths[longest], MOMENT_ROWS)))
    assert problem.records.Y is not None
    u, y = (np.asarray(part[rows], np.float64) for part in (problem.records.X, problem.records.Y))
    system, T, modes = modal(fit.system)
    states = fit.states @ T.T
    _, x, last = system.simulate(u, states[longest])
    h = np.vstack((x[1:], last))
    size = np.ones(system.order)
    for mode in modes:
        rms = float(np.sqrt(np.mean(h[:, mode] ** 2)))
        size[mode] = rms if rms > 0.0 else 1.0
    system = system.changed(np.diag(1.0 / size))
    values = balanced(system.A, system.B, system.C, LONGEST_WARM_UP)[0]
    found = Realisation(system.A, system.B, modes, values)
    states = states / size
    along = LinearModel(found, _plain_network(system), u, y, h / size, states[longest])
    return along, system, states


def _plain_network(system: LinearSystem) -> IORNN:
    """Network that sees present inputs alone: poles at zero are moved away from it a little."""
    n = system.order
    A = next(A for eps in SHIFTS if np.linalg.cond(A := system.A + eps * np.eye(n)) < SINGULAR)
    outputs = np.linalg.solve(A.T, system.C.T)
    direct = system.D.T - system.B.T @ outputs
    return IORNN(
        system.B, A, outputs, output_bias=system.c, direct_weights=direct, activation="linear"
    )


def memory_of(model: IORNN) -> int:
    """Steps after which the share `TAIL` of the energy is left: weak slow poles do not count."""
    state = model.input_weights.copy()
    energy = np.empty(LONGEST_WARM_UP)
    for step in range(LONGEST_WARM_UP):
        energy[step] = np.sum((model.output_weights.T @ state) ** 2)
        state = model.recurrent_weights @ state
    tail = np.cumsum(energy[::-1])[::-1]
    return max(SHORTEST_WARM_UP, int(np.searchsorted(-tail, -TAIL * tail[0])))
