"""First stage: impulse response, order and realisation of the linear states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from gloree.diagnostics import Finding, GloreeWarning, OrderTrial, TooFewSamplesError
from gloree.identification._markov import ImpulseResponse, impulse_response
from gloree.identification._networks import LinearModel, linear_model
from gloree.identification._output_error import least_squares_realisation
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._realisation import ho_kalman, supported_order
from gloree.identification._split import FIRST_ROWS, RecordSplit, split_records
from gloree.models import IORNN
from gloree.sequences import IntArray

MOST_LAGS, LEAST_LAGS = 120, 4
"""Lags of the impulse response."""

LARGEST_ORDER = 10
"""Orders that are tried where none is given."""

ORDER_GAIN = 1.002
"""The least order is taken whose held-out error is within this factor of the best."""

MOMENT_ROWS = 100_000
"""Rows of the longest record that the moments of the residual are taken of, at most."""

SLOW, WEAK, FAST = 0.97, 1e-3, 0.9
"""Modes slower than the first, with less than this share of the energy of the response, are given
the modulus of the last."""

TAIL = 1e-6
"""Energy of the impulse response that the warm-up of a segment may miss."""

SHORTEST_WARM_UP, LONGEST_WARM_UP = 50, 4000
"""Steps of a warm-up."""


@dataclass(frozen=True)
class LinearFit:
    """Linear states, on the rows of residual moments, and records cut for their memory."""

    linear: LinearModel
    split: RecordSplit
    response: ImpulseResponse
    trials: tuple[OrderTrial, ...]
    findings: tuple[Finding, ...]
    detail: str

    @property
    def order(self) -> int:
        """Linear states."""
        return self.linear.realisation.order


def fit_linear(problem: IdentificationProblem) -> LinearFit:
    """Estimate the impulse response, choose an order, and realise it.

    Raises
    ------
    ValueError
        If the samples do not support as many states as were asked for.
    TooFewSamplesError
        If no record is long enough for the response.
    """
    records = problem.records
    steps = typical_length(records.lengths)
    wanted = min(records.n_rows // (10 * records.n_inputs), steps // 3)
    n_lags = min(MOST_LAGS, max(LEAST_LAGS, wanted))
    response = impulse_response(records, n_lags, problem.engine)
    split = split_records(records, warm_up=min(100, max(10, steps // 10)))
    candidates = [
        try_order(problem, response, split, order) for order in orders_to_try(problem, n_lags)
    ]
    trial, linear = choose_order(candidates)
    if problem.settings.n_nonlinear == 0:
        linear = least_squares_start(problem, response, split, linear)
    slowest = float(np.abs(linear.realisation.poles).max())
    split = split_records(records, memory_of(linear.model), slowest)
    moment_rows = problem.longest_record(MOMENT_ROWS)
    if linear.u.shape[0] < moment_rows[0].shape[0]:
        linear = linear_model(linear.realisation, *moment_rows)
    return LinearFit(
        linear,
        split,
        response,
        tuple(trial for trial, _ in candidates),
        _moved_poles(linear.realisation.n_moved),
        f"order {trial.order}, held-out error {percent(trial.error)}",
    )


def typical_length(lengths: IntArray) -> int:
    """Steps that sequences with half of all rows have at least.

    Raises
    ------
    TooFewSamplesError
        If no sequence has `LEAST_LAGS` steps.
    """
    if int(lengths.max()) < LEAST_LAGS:
        raise TooFewSamplesError(
            f"no sequence has more than {lengths.max()} steps, and a linear model is found from "
            f"the response over {LEAST_LAGS} steps at least: give longer sequences"
        )
    longest_first = np.sort(lengths.astype(np.int64))[::-1]
    rows = np.cumsum(longest_first)
    return int(longest_first[np.searchsorted(rows, rows[-1] / 2)])


def orders_to_try(problem: IdentificationProblem, n_lags: int) -> Sequence[int]:
    """The order that was asked for, or all that so many lags support."""
    records, wanted = problem.records, problem.settings.n_linear
    supported = supported_order(n_lags, records.n_outputs, records.n_inputs)
    if wanted is None:
        return range(1, min(LARGEST_ORDER, supported) + 1)
    if wanted > supported:
        raise ValueError(
            f"`n_linear` is {wanted}, but {records.n_rows} samples support at most "
            f"{supported} linear states: give more data, or lower it"
        )
    return [wanted]


def try_order(
    problem: IdentificationProblem, response: ImpulseResponse, split: RecordSplit, order: int
) -> tuple[OrderTrial, LinearModel]:
    """Realise a model of one order, and its held-out error."""
    realisation = ho_kalman(response.parameters, order)
    candidate = linear_model(realisation, *problem.longest_record(FIRST_ROWS))
    candidate = without_weak_slow_modes(candidate)
    value = float(realisation.singular_values[order - 1])
    error = problem.error(candidate.model, split.held_out)
    return OrderTrial(order, value, error, realisation.n_moved), candidate


def choose_order(
    candidates: Sequence[tuple[OrderTrial, LinearModel]],
) -> tuple[OrderTrial, LinearModel]:
    """Least order of nearly the least error; a stable realisation, if there is any."""
    stable = [pair for pair in candidates if pair[0].n_moved == 0] or candidates
    least = min(trial.error for trial, _ in stable)
    return next(pair for pair in stable if pair[0].error <= ORDER_GAIN * least)


def least_squares_start(
    problem: IdentificationProblem,
    response: ImpulseResponse,
    split: RecordSplit,
    found: LinearModel,
) -> LinearModel:
    """Linear model of least squares on the impulse response, if it is better on the records.

    It need not be: the response ends with its lags, the memory of the system may not.
    """
    realisation = least_squares_realisation(response, found.realisation.order)
    other = linear_model(realisation, found.u, found.y)
    rows = split.training.joined(split.held_out)
    return min((other, found), key=lambda part: problem.error(part.model, rows))


def without_weak_slow_modes(part: LinearModel) -> LinearModel:
    """Shorten slow modes that carry nearly nothing: they are noise, near the edge of stability."""
    found, C = part.realisation, part.model.output_weights
    energies = []
    for mode in found.modes:
        B, block = found.inputs[mode], found.transition[np.ix_(mode, mode)]
        # sum_k |C U^k B|^2 = tr C^T P C with P = U P U^T + B B^T
        P = solve_discrete_lyapunov(block, B @ B.T)
        energies.append(float(np.trace(C[mode].T @ P @ C[mode])))
    transition = found.transition.copy()
    for mode, energy in zip(found.modes, energies, strict=True):
        block = transition[np.ix_(mode, mode)]
        modulus = float(np.abs(np.linalg.eigvals(block)).max())
        if modulus > SLOW and energy < WEAK * sum(energies):
            transition[np.ix_(mode, mode)] = block * (FAST / modulus)
    if np.array_equal(transition, found.transition):
        return part
    return linear_model(replace(found, transition=transition), part.u, part.y)


def memory_of(model: IORNN) -> int:
    """Steps after which the response to an impulse has left `TAIL` of its energy.

    A slow pole of small weight does not count: it would make every pass a walk along the record.
    """
    state = model.input_weights.copy()
    energy = np.empty(LONGEST_WARM_UP)
    for step in range(LONGEST_WARM_UP):
        energy[step] = np.sum((model.output_weights.T @ state) ** 2)
        state = model.recurrent_weights @ state
    tail = np.cumsum(energy[::-1])[::-1]
    return max(SHORTEST_WARM_UP, int(np.searchsorted(-tail, -TAIL * tail[0])))


def _moved_poles(n_moved: int) -> tuple[Finding, ...]:
    if not n_moved:
        return ()
    finding = Finding(
        GloreeWarning,
        f"{n_moved} unstable pole(s) of the realisation were moved into the unit circle, or are "
        f"held at its edge: the record may drift, hold an unstable mode, or not determine so many "
        f"states",
    )
    return (finding,)
