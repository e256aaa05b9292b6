"""First stage: impulse response, order and realisation of the linear states."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from gloree.diagnostics import Finding, GloreeWarning, OrderTrial, TooFewSamplesError
from gloree.engine import Subset
from gloree.identification._linear_system import LinearSystem, system_of
from gloree.identification._markov import ImpulseResponse, impulse_response
from gloree.identification._networks import LinearModel, linear_model
from gloree.identification._problem import IdentificationProblem, longest_record, percent
from gloree.identification._realisation import ho_kalman, least_squares_realisation, supported_order
from gloree.identification._split import FIRST_ROWS, RecordSplit
from gloree.identification._weighted_records import shifted_data
from gloree.models import IORNN
from gloree.sequences import Array, IntArray

MOST_LAGS, LEAST_LAGS = 120, 4  # lags of the impulse response
LARGEST_ORDER = 10  # orders that are tried where none is given
ORDER_GAIN = 1.002
"""The least order is taken whose held-out error is within this factor of the best."""

MOMENT_ROWS = 100_000
"""Rows of the longest record that the moments of the residual are taken of, at most."""

SLOW, WEAK, FAST = 0.97, 1e-3, 0.9
"""Modes with a modulus above SLOW and less than the share WEAK of the energy of the response are
given the modulus FAST."""

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
    so that h_{-1} = x_0.
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

    def delayed(self, problem: IdentificationProblem) -> IdentificationProblem:
        """Return the problem with inputs shifted by the delays."""
        if not self.delays.any():
            return problem
        return replace(problem, records=shifted_data(problem.records, self.delays))

    @property
    def order(self) -> int:
        """Linear states."""
        return self.linear.realisation.order


def fit_linear(problem: IdentificationProblem) -> LinearFit:
    """Estimate the impulse response, choose an order, and realise it."""
    records, order = problem.records, problem.settings.n_linear
    steps = typical_length(records.lengths)
    wanted = min(records.n_rows // (10 * records.n_inputs), steps // 3)
    n_lags = min(MOST_LAGS, max(LEAST_LAGS, wanted))
    supported = supported_order(n_lags, records.n_outputs, records.n_inputs)
    if order is not None and order > supported:
        raise ValueError(
            f"`n_linear` is {order}, but {records.n_rows} samples support at most {supported} "
            f"linear states: give more data, or lower it"
        )
    response = impulse_response(records, n_lags, problem.engine)
    split = problem.split(min(100, max(10, steps // 10)))
    orders = [order] if order else range(1, min(LARGEST_ORDER, supported) + 1)
    candidates: list[tuple[OrderTrial, LinearModel]] = []
    for order in orders:
        realisation = ho_kalman(response.parameters, order)
        linear = linear_model(realisation, *longest_record(records, FIRST_ROWS))
        linear = without_weak_slow_modes(linear)
        value = float(realisation.singular_values[order - 1])
        error = problem.error(linear.model, split.held_out)
        candidates.append((OrderTrial(order, value, error, realisation.n_moved), linear))
    # the least order of nearly the least error, from stable realisations if there are any
    stable = [pair for pair in candidates if pair[0].n_moved == 0] or candidates
    largest = ORDER_GAIN * min(trial.error for trial, _ in stable)
    trial, linear = next(pair for pair in stable if pair[0].error <= largest)
    if problem.settings.n_nonlinear == 0:
        # least squares on the response need not be better on the records: their memory may reach
        # beyond its lags
        realisation = least_squares_realisation(response, linear.realisation.order)
        pair = (linear_model(realisation, linear.u, linear.y), linear)
        rows = split.everything
        linear = min(pair, key=lambda part: problem.error(part.model, rows))
    slowest = float(np.abs(linear.realisation.poles).max())
    split = problem.split(memory_of(linear.model), slowest)
    u, y = longest_record(records, MOMENT_ROWS)
    if linear.u.shape[0] < u.shape[0]:
        linear = linear_model(linear.realisation, u, y)
    findings: tuple[Finding, ...] = ()
    if n_moved := linear.realisation.n_moved:
        text = (
            f"{n_moved} unstable pole(s) of the realisation were moved into the unit circle, or "
            f"are held at its edge: the record may drift, hold an unstable mode, or not determine "
            f"so many states"
        )
        findings = (Finding(GloreeWarning, text),)
    trials = tuple(trial for trial, _ in candidates)
    detail = f"order {trial.order}, held-out error {percent(trial.error)}"
    system, states = (
        system_of(linear.realisation, linear.model),
        np.zeros((records.n_sequences, trial.order)),
    )
    delays = np.zeros(records.n_inputs, dtype=np.int64)
    return LinearFit(linear, split, response, trials, findings, detail, system, states, delays)


def refit_linear(
    problem: IdentificationProblem,
    fit: LinearFit,
    rows: Subset | None = None,
    max_seconds: float = math.inf,
) -> LinearFit:
    """Refine the linear model on these rows (None: on all that are not missing), to convergence.

    `problem` is the one that `fit_linear` had. Order and delays stay as they are.
    """
    return fit


def typical_length(lengths: IntArray) -> int:
    """Largest length that sequences with half of all rows reach."""
    if int(lengths.max()) < LEAST_LAGS:
        raise TooFewSamplesError(
            f"no sequence has more than {lengths.max()} steps, and a linear model is found from "
            f"the response over {LEAST_LAGS} steps at least: give longer sequences"
        )
    longest_first = np.sort(lengths.astype(np.int64))[::-1]
    rows = np.cumsum(longest_first)
    return int(longest_first[np.searchsorted(rows, rows[-1] / 2)])


def without_weak_slow_modes(part: LinearModel) -> LinearModel:
    """Shorten slow modes that carry almost no energy: they are noise near the edge of stability."""
    found, C = part.realisation, part.model.output_weights
    blocks = [found.transition[np.ix_(mode, mode)] for mode in found.modes]
    energies = []
    for mode, block in zip(found.modes, blocks, strict=True):
        # sum_k |C U^k B|^2 = tr C^T P C with P = U P U^T + B B^T
        P = solve_discrete_lyapunov(block, found.inputs[mode] @ found.inputs[mode].T)
        energies.append(float(np.trace(C[mode].T @ P @ C[mode])))
    transition = found.transition.copy()
    for mode, block, energy in zip(found.modes, blocks, energies, strict=True):
        modulus = float(np.abs(np.linalg.eigvals(block)).max())
        if modulus > SLOW and energy < WEAK * sum(energies):
            transition[np.ix_(mode, mode)] = block * (FAST / modulus)
    if np.array_equal(transition, found.transition):
        return part
    return linear_model(replace(found, transition=transition), part.u, part.y)


def memory_of(model: IORNN) -> int:
    """Steps after which the share `TAIL` of the energy is left: weak slow poles do not count."""
    state = model.input_weights.copy()
    energy = np.empty(LONGEST_WARM_UP)
    for step in range(LONGEST_WARM_UP):
        energy[step] = np.sum((model.output_weights.T @ state) ** 2)
        state = model.recurrent_weights @ state
    tail = np.cumsum(energy[::-1])[::-1]
    return max(SHORTEST_WARM_UP, int(np.searchsorted(-tail, -TAIL * tail[0])))
