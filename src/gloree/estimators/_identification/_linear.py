"""First stage: impulse response, order and realisation of the linear states."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from gloree.diagnostics import GloreeWarning, OrderTrial, TooFewSamplesError
from gloree.estimators._identification._state import (
    LARGEST_RADIUS,
    STRETCH,
    Identification,
    percent,
)
from gloree.identification import (
    ImpulseResponse,
    LinearModel,
    ho_kalman,
    impulse_response,
    least_squares_realisation,
    linear_model,
    supported_order,
)
from gloree.models import IORNN
from gloree.sequences import Array, IntArray, Sequences

MOST_LAGS, LEAST_LAGS = 120, 4
"""Lags of the impulse response."""

LARGEST_ORDER = 10
"""Orders that are tried where none is given."""

ORDER_GAIN = 1.002
"""The least order is taken whose held-out error is within this factor of the best."""

MOMENT_ROWS = 100_000
"""Rows of the longest record that the moments of the residual are taken of, at most."""

SLOW, IDLE, QUICK = 0.97, 1e-3, 0.9
"""Modes slower than the first, with less than this share of the energy of the response, are given
the modulus of the last."""

TAIL = 1e-6
"""Energy of the impulse response that the warm-up of a piece may miss."""

FORGOTTEN = 0.02
"""What the refinement may leave of a state after the warm-up: slower poles would fit the unknown
states at the starts of the pieces."""

SHORTEST_WASHOUT, LONGEST_WASHOUT = 50, 4000
"""Steps of a warm-up."""


def linear_stage(fit: Identification) -> LinearModel:
    """Impulse response, order and realisation."""
    settings, report, data = fit.settings, fit.report, fit.data
    with fit.stage("linear model") as detail:
        steps = typical_length(data.lengths)
        wanted = min(data.n_rows // (10 * data.n_inputs), steps // 3)
        lags = min(MOST_LAGS, max(LEAST_LAGS, wanted))
        response = impulse_response(data, lags, settings.engine)
        report.ridge, report.input_condition = response.ridge, response.condition
        fit.cut(washout=min(100, max(10, steps // 10)))
        stretch = _record(data, STRETCH)
        supported = supported_order(lags, data.n_outputs, data.n_inputs)
        if settings.n_linear is not None and settings.n_linear > supported:
            raise ValueError(
                f"`n_linear` is {settings.n_linear}, but {data.n_rows} samples support at most "
                f"{supported} linear states: give more data, or lower it"
            )
        orders = (
            [settings.n_linear]
            if settings.n_linear
            else range(1, min(LARGEST_ORDER, supported) + 1)
        )
        trials: list[tuple[OrderTrial, LinearModel]] = []
        for order in orders:
            realisation = ho_kalman(response.parameters, order)
            candidate = without_idle_memory(linear_model(realisation, *stretch))
            value = float(realisation.singular_values[order - 1])
            error = fit.error(candidate.model, fit.held_out)
            trials.append((OrderTrial(order, value, error, realisation.n_moved), candidate))
        report.orders = [trial for trial, _ in trials]
        # a realisation that had to be made stable is taken only if there is no other
        sound = [pair for pair in trials if pair[0].n_moved == 0] or trials
        least = min(trial.error for trial, _ in sound)
        chosen = next(pair for pair in sound if pair[0].error <= ORDER_GAIN * least)
        if settings.n_nonlinear == 0:
            chosen = (chosen[0], least_squares_start(fit, response, chosen[1]))
        washout = memory_of(chosen[1].model)
        fit.cut(washout)
        own = float(np.abs(chosen[1].realisation.poles).max())
        if fit.source.segment is not None:
            limit = math.exp(math.log(FORGOTTEN) / washout)
            fit.radius = min(max(own, limit), LARGEST_RADIUS)
        detail.append(f"order {chosen[0].order}, held-out error {percent(chosen[0].error)}")
        kept = chosen[1]
        if kept.u.shape[0] < _record(data, MOMENT_ROWS)[0].shape[0]:
            kept = linear_model(kept.realisation, *_record(data, MOMENT_ROWS))
        n_moved = kept.realisation.n_moved
        if n_moved:
            report.warn(
                GloreeWarning,
                f"{n_moved} unstable pole(s) of the realisation were moved into the unit circle, "
                f"or are held at its edge: the record may drift, hold an unstable mode, or not "
                f"determine so many states",
            )
    return kept


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


def least_squares_start(
    fit: Identification, response: ImpulseResponse, found: LinearModel
) -> LinearModel:
    """Linear model of least squares on the impulse response, if it is better on the records.

    It need not be: the response ends with its lags, the memory of the system may not.
    """
    order = found.realisation.order
    other = linear_model(least_squares_realisation(response, order), found.u, found.y)
    everything = fit.training.joined(fit.held_out)
    return min((other, found), key=lambda part: fit.error(part.model, everything))


def without_idle_memory(part: LinearModel) -> LinearModel:
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
        if modulus > SLOW and energy < IDLE * sum(energies):
            transition[np.ix_(mode, mode)] = block * (QUICK / modulus)
    if np.array_equal(transition, found.transition):
        return part
    return linear_model(replace(found, transition=transition), part.u, part.y)


def memory_of(model: IORNN) -> int:
    """Steps after which the response to an impulse has left `TAIL` of its energy.

    A slow pole of small weight does not count: it would make every pass a walk along the record.
    """
    state = model.input_weights.copy()
    energy = np.empty(LONGEST_WASHOUT)
    for step in range(LONGEST_WASHOUT):
        energy[step] = np.sum((model.output_weights.T @ state) ** 2)
        state = model.recurrent_weights @ state
    tail = np.cumsum(energy[::-1])[::-1]
    return max(SHORTEST_WASHOUT, int(np.searchsorted(-tail, -TAIL * tail[0])))


def _record(data: Sequences, n_rows: int) -> tuple[Array, Array]:
    """First rows of the longest record."""
    longest = int(np.argmax(data.lengths))
    begin = int(data.starts[longest])
    rows = slice(begin, min(int(data.starts[longest + 1]), begin + n_rows))
    assert data.Y is not None
    return data.X[rows], data.Y[rows]
