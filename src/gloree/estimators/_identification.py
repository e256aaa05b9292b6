"""A system from records of its input and output: linear states, nonlinear units, refinement."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
from scipy.linalg import solve_discrete_lyapunov
from tqdm.auto import tqdm

from gloree.activations import Activation
from gloree.diagnostics import GloreeWarning, IdentificationReport, OrderTrial
from gloree.engine import Engine, Source
from gloree.estimators._stages import Stages
from gloree.identification import (
    ImpulseResponse,
    LinearModel,
    NonlinearDirection,
    growing_directions,
    ho_kalman,
    impulse_response,
    lag_tensors,
    least_squares_realisation,
    linear_model,
    nested_partitions,
    pulled_inside,
    supported_order,
    unit_biases,
    with_copied_states,
    with_shared_states,
)
from gloree.models import IORNN, ExplosionError
from gloree.refinement import (
    Descent,
    Layout,
    RefinementStatus,
    levenberg_marquardt,
    polynomial_powers,
    square_sums,
)
from gloree.sequences import Array, IntArray, Sequences

MOST_LAGS = 120
"""Lags of the impulse response, at most."""

LARGEST_ORDER = 10
"""Orders that are tried where none is given."""

ORDER_GAIN = 1.002
"""The least order is taken whose held-out error is within this factor of the best."""

STRETCH = 30_000
"""Rows of the stretch on which starts are made and the refinement begins."""

TRIAL_ROWS = 10_000
"""Rows on which starts are compared."""

TRIAL_STEPS = 6
"""Steps of the refinement after which they are."""

TRIAL_TIME = 0.2
"""Share of the time that these comparisons may take."""

HELD_OUT = 0.2
"""Share of the data, at its end, that judges orders, starts and the refinement."""

UNITS = (5, 3, 2, 1)
"""Numbers of nonlinear units that are tried where none is given, as far as the data allow."""

ROWS_PER_WEIGHT = 10
"""Rows for each weight that a number of units must have."""

PLENTY = 100
"""Rows for each weight from which the largest number of units is taken without comparing."""

NEAR_OPTIMUM = 1e-9
"""First damping of the refinement of a linear model that least squares on its response began."""

MOMENT_ROWS = 100_000
"""Rows of the longest record that the moments of the residual are taken of, at most."""

MOST_DIRECTIONS = 2
"""Directions that nonlinearities see, at most, where no number is given."""

ENOUGH = 0.2
"""Held-out error of one direction, over that of the linear model, below which no second one is
looked for: the refinement does the rest."""

DIRECTION_TIME = 0.1
"""Share of the time from which the search of one direction leaves none for that of more."""

WORTH = 4.0
"""The nonlinear network is kept if its held-out error, over that of the linear model, is below
1 - WORTH / sqrt(n), n the rows held out: a few hundred neighbouring samples judge badly, and what
they chose was worse than the linear model on new data. One more direction is taken by the same
rule."""

LARGEST_RADIUS = 0.9999
"""Spectral radius of the linear states, at most."""

PIECE = 250
"""Rows of a piece of a long record."""

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


@dataclass(frozen=True)
class IdentifierSettings:
    """Parameters of the estimator, checked and resolved."""

    n_linear: int | None
    n_nonlinear: int | None
    unit: Activation
    max_seconds: float
    engine: Engine
    verbose: int
    free_coefficients: bool = False
    n_directions: int | None = None


@dataclass
class Identification(Stages):
    """One fit: normalised data, the parts that judge and train, and what is known so far."""

    data: Sequences
    settings: IdentifierSettings
    report: IdentificationReport
    begin: float
    source: Source = field(init=False)
    bar: Any = field(init=False, default=None)
    radius: float = field(init=False, default=LARGEST_RADIUS)
    training: list[IntArray] = field(init=False)
    held_out: list[IntArray] = field(init=False)

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began."""
        return time.perf_counter() - self.begin

    def cut(self, washout: int) -> None:
        """Cut the records into pieces that are warmed up for so many steps, and hold some out.

        The first steps of every record, at most a tenth of it, only warm up the states.
        """
        longest = int(self.data.lengths.max())
        segment = None if longest < 20 * PIECE or washout > 4 * PIECE else max(PIECE, 2 * washout)
        source = Source(
            self.data,
            batch_size=max(2**12, self.data.n_rows // 2),
            segment=segment,
            before=washout,
        )
        table = np.concatenate(source.tables())
        starts = self.data.starts[table[:, 0]]
        lead = np.minimum(washout, self.data.lengths[table[:, 0]] // 10)
        table[:, 2] = np.minimum(np.maximum(table[:, 2], starts + lead), table[:, 3])
        table = table[table[:, 3] > table[:, 2]]
        rows = np.cumsum(table[:, 3] - table[:, 2])
        if table.shape[0] < 5:
            table = _split_rows(table, 5)
            rows = np.cumsum(table[:, 3] - table[:, 2])
        last = min(int(np.searchsorted(rows, (1 - HELD_OUT) * rows[-1])) + 1, table.shape[0] - 1)
        self.source = source
        self.training = _batches(table[:last])
        self.held_out = _batches(table[last:])

    def error(self, model: IORNN, tables: list[IntArray]) -> float:
        """Root mean square simulation error, over outputs; infinite where it explodes."""
        try:
            sums = self.settings.engine.run(
                partial(square_sums, model=model), self.source, tables=tables
            )
        except ExplosionError:
            return math.inf
        return float(np.sqrt(sums.squares.sum() / sums.n_rows / self.data.n_outputs))

    @property
    def n_held_out(self) -> int:
        """Rows that are held out."""
        return sum(int((table[:, 3] - table[:, 2]).sum()) for table in self.held_out)

    @property
    def worth(self) -> float:
        """Ratio of held-out errors below which the larger model is taken."""
        return 1.0 - WORTH / math.sqrt(self.n_held_out)

    def stretch(self, n_rows: int) -> list[IntArray]:
        """First so many training rows."""
        table = np.concatenate(self.training)
        rows = np.cumsum(table[:, 3] - table[:, 2])
        return _batches(table[: int(np.searchsorted(rows, n_rows)) + 1])


def _split_rows(table: IntArray, wanted: int) -> IntArray:
    """Cut few long pieces into parts that keep all rows before them as their warm-up."""
    parts = []
    for sequence, first, begin, stop, end in table.tolist():
        cuts = np.linspace(begin, stop, wanted + 1).astype(np.int64)
        parts += [(sequence, first, a, b, min(b, end)) for a, b in pairwise(cuts.tolist())]
    return np.array([part for part in parts if part[3] > part[2]], dtype=np.int64)


def _batches(table: IntArray) -> list[IntArray]:
    """Two batches, one for each of two workers: the step of a pass is a call over all pieces."""
    return [part for part in np.array_split(table, 2) if part.shape[0]]


def run_identification(
    data: Sequences, settings: IdentifierSettings
) -> tuple[IORNN, IORNN, IORNN, IdentificationReport]:
    """Run all stages.

    Returns
    -------
    model, linear, moments : IORNN
        The network kept, its linear model, and the network of moments alone; on data as given.
    report : IdentificationReport
    """
    report = IdentificationReport(
        {
            "records": data.n_sequences,
            "samples": data.n_rows,
            "inputs": data.n_inputs,
            "outputs": data.n_outputs,
        }
    )
    scale = Scaling.of(data)
    normalised = Sequences(
        (np.asarray(data.X, dtype=np.float64) - scale.u_mean) / scale.u_size,
        (np.asarray(data.Y, dtype=np.float64) - scale.y_mean) / scale.y_size,
        data.lengths,
        data.form,
    )
    fit = Identification(normalised, settings, report, time.perf_counter())
    report.output_size = scale.y_size
    with (
        settings.engine.small_matrices(),
        tqdm(total=5, desc="fit", disable=settings.verbose < 1, leave=False) as bar,
    ):
        fit.bar = bar
        linear = linear_stage(fit)
        linear_network, moments = linear.model, linear.model
        starts: list[IORNN] = []
        if settings.n_nonlinear != 0:
            moments, starts = nonlinear_stage(fit, linear)
        linear_network = polish(fit, linear.model)
        report.linear_error = fit.error(linear_network, fit.held_out)
        report.moments_error = fit.error(moments, fit.held_out)
        model = linear_network
        if settings.n_nonlinear != 0:
            model = refine_stage(fit, starts, moments, linear_network)
        order = linear.realisation.order
        kept = model.n_hidden if model is linear_network else order
        poles = np.linalg.eigvals(model.recurrent_weights[:kept, :kept])
        report.poles = poles.astype(np.complex128)
    return scale.undo(model), scale.undo(linear_network), scale.undo(moments), report


def linear_stage(fit: Identification) -> LinearModel:
    """Impulse response, order and realisation."""
    settings, report, data = fit.settings, fit.report, fit.data
    with fit.stage("linear model") as detail:
        shortest = int(data.lengths.min())
        lags = min(MOST_LAGS, max(4, data.n_rows // (10 * data.n_inputs)), max(4, shortest // 3))
        response = impulse_response(data, lags, settings.engine)
        report.ridge, report.input_condition = response.ridge, response.condition
        fit.cut(washout=min(100, max(10, shortest // 10)))
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
        detail.append(f"order {chosen[0].order}, held-out error {_percent(chosen[0].error)}")
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


def least_squares_start(
    fit: Identification, response: ImpulseResponse, found: LinearModel
) -> LinearModel:
    """Linear model of least squares on the impulse response, if it is better on the records.

    It need not be: the response ends with its lags, the memory of the system may not.
    """
    order = found.realisation.order
    other = linear_model(least_squares_realisation(response, order), found.u, found.y)
    tables = fit.training + fit.held_out
    return min((other, found), key=lambda part: fit.error(part.model, tables))


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


def nonlinear_stage(fit: Identification, linear: LinearModel) -> tuple[IORNN, list[IORNN]]:
    """Directions of the nonlinearities, the network of moments alone, and the starts."""
    settings, report = fit.settings, fit.report
    with fit.stage("nonlinearity") as detail:
        until = fit.elapsed + DIRECTION_TIME * settings.max_seconds
        counts = _unit_counts(fit, linear.realisation.order)
        growing = growing_directions(lag_tensors(linear.entering, linear.residual))
        r = settings.n_directions or 1
        directions = next(islice(growing, r - 1, None))
        report.explained, report.n_directions = directions[0].explained, r
        found = [directions]
        if not counts:
            detail.append("too few samples for any nonlinear unit")
            return linear.model, []
        error, moments = _best_copied(fit, linear, directions, counts)
        linear_error = fit.error(linear.model, fit.held_out)
        while settings.n_directions is None and r < min(MOST_DIRECTIONS, counts[0]):
            if fit.elapsed > until or error < ENOUGH * linear_error:
                break
            further = next(growing)
            trial = _best_copied(fit, linear, further, counts)
            if trial[0] > fit.worth * error:
                break
            (error, moments), r = trial, r + 1
            found.append(further)
            report.explained, report.n_directions = further[0].explained, r
        if error > linear_error:
            moments = linear.model
        detail.append(
            f"{r} direction(s) explain {report.explained[0]:.3f} and "
            f"{report.explained[1]:.3f} of the second and third moments"
        )
    with fit.stage("starts") as detail:
        starts = ranked_starts(fit, linear.shortened(STRETCH), found, counts)
        if starts:
            n_units = starts[0].n_hidden - linear.realisation.order
            detail.append(f"{len(starts)} compared, {n_units} nonlinear units in the best")
    return moments, starts


def _best_copied(
    fit: Identification,
    linear: LinearModel,
    directions: Sequence[NonlinearDirection],
    counts: list[int],
) -> tuple[float, IORNN]:
    """Network with copied states of least held-out error, if one is sound."""
    r, unit = len(directions), fit.settings.unit
    trials = [
        (fit.error(model, fit.held_out), model)
        for q in counts[:2]
        if q >= r
        for model in _safely(
            with_copied_states, linear, directions, unit, unit_biases(q, n_directions=r)
        )
    ]
    return min(trials, key=lambda pair: pair[0], default=(math.inf, linear.model))


def _unit_counts(fit: Identification, order: int) -> list[int]:
    """Numbers of units to try."""
    if fit.settings.n_nonlinear is not None:
        return [fit.settings.n_nonlinear]
    rows = sum(int((table[:, 3] - table[:, 2]).sum()) for table in fit.training)
    least = fit.settings.n_directions or 1
    units = [q for q in UNITS if q >= least] or [least]
    weights = [(order + q) * (order + q + 3) for q in units]
    if rows >= PLENTY * weights[0]:
        return units[:1]
    return [q for q, size in zip(units, weights, strict=True) if rows >= ROWS_PER_WEIGHT * size]


def _safely(make: Any, *arguments: Any) -> list[IORNN]:
    """The network of a start, or nothing where its recurrence explodes."""
    try:
        return [make(*arguments)]
    except (ExplosionError, np.linalg.LinAlgError):
        return []


def ranked_starts(
    fit: Identification,
    linear: LinearModel,
    found: list[tuple[NonlinearDirection, ...]],
    counts: list[int],
) -> list[IORNN]:
    """Small grid of starts, in the order of their errors after a few steps on a short stretch."""
    unit = fit.settings.unit
    short = fit.stretch(TRIAL_ROWS)
    until = fit.elapsed + TRIAL_TIME * fit.settings.max_seconds
    candidates: list[tuple[float, IORNN]] = []
    for q, directions in product(counts, found[::-1]):
        if q < len(directions):
            continue
        biases = unit_biases(q, n_directions=len(directions))
        made = []
        for seen, driven in nested_partitions(linear, directions):
            for model in _safely(
                with_shared_states, linear, directions, unit, biases, seen, driven
            ):
                made.append((fit.error(model, short), model))
        candidates += sorted(made, key=lambda pair: pair[0])[:3]
        if fit.elapsed > until:
            break
    results: list[tuple[float, IORNN]] = []
    for error, model in sorted(candidates, key=lambda pair: pair[0]):
        if not math.isfinite(error) or (results and fit.elapsed > until):
            continue
        try:
            end = descend(fit, model, short, max_steps=TRIAL_STEPS)
        except ExplosionError:
            continue
        assert isinstance(end.model, IORNN)
        results.append((end.held_out, end.model))
    return [model for _, model in sorted(results, key=lambda pair: pair[0])]


def polish(fit: Identification, model: IORNN) -> IORNN:
    """Linear model of least simulation error, from its realisation."""
    with fit.stage("linear refinement") as detail:
        if fit.settings.n_nonlinear == 0:
            # nothing is left to be judged: all data, to convergence
            left = fit.settings.max_seconds - fit.elapsed
            tables = fit.training + fit.held_out
            end = descend(
                fit,
                model,
                tables,
                judged=False,
                max_steps=200,
                max_seconds=left,
                damping=NEAR_OPTIMUM,
            )
            fit.report.refinement_status = end.status
            fit.report.refinement_steps = end.n_steps
        else:
            budget = min(5.0, 0.1 * fit.settings.max_seconds)
            end = descend(fit, model, fit.stretch(STRETCH), max_steps=30, max_seconds=budget)
        detail.append(f"{end.n_steps} steps, {end.status.value}")
        found = end.model
        assert isinstance(found, IORNN)
        return found


def refine_stage(fit: Identification, starts: list[IORNN], moments: IORNN, linear: IORNN) -> IORNN:
    """Growing stretches of data; the linear model stays where nothing is gained over it."""
    settings, report = fit.settings, fit.report
    with fit.stage("refinement") as detail:
        left = settings.max_seconds - fit.elapsed
        whole = sum(int((t[:, 3] - t[:, 2]).sum()) for t in fit.training)
        stages = [(fit.training, left)]
        if whole > 1.5 * STRETCH:
            stages = [(fit.stretch(STRETCH), 0.45 * left), (fit.training, left)]
        if not starts and moments.n_hidden > linear.n_hidden:
            report.notes.append(
                "time was too short to compare starts: the network of moments alone was refined"
            )
            starts = [moments]
        if not starts:
            report.notes.append("no nonlinear unit could be started: the linear model was kept")
            return linear
        candidates: list[IORNN] = starts
        history: list[tuple[float, float, float]] = []
        steps, status = 0, RefinementStatus.STEP_LIMIT
        size = float(np.sqrt(fit.data.n_outputs))
        for tables, share in stages:
            until = min(fit.elapsed + share, settings.max_seconds)
            ends: list[Descent] = []
            for candidate in candidates:
                # a start that settles early leaves time for the next one
                offset = fit.elapsed
                seconds = until - offset
                if ends and seconds < 0.2 * share:
                    break
                try:
                    end = descend(fit, candidate, tables, max_steps=400, max_seconds=seconds)
                except ExplosionError:
                    # sound on the stretch that it was made on, not on this one
                    continue
                ends.append(end)
                steps += end.n_steps
                history += [
                    (offset + t, math.sqrt(a) / size, math.sqrt(b) / size)
                    for t, a, b in end.history
                ]
            if not ends:
                break
            best = min(ends, key=lambda end: end.held_out)
            assert isinstance(best.model, IORNN)
            candidates, status = [best.model], best.status
        model = min((candidates[0], moments), key=lambda m: fit.error(m, fit.held_out))
        report.history, report.refinement_status, report.refinement_steps = history, status, steps
        report.refined_error = fit.error(model, fit.held_out)
        report.training_error = fit.error(model, fit.training)
        detail.append(f"{steps} steps, {status.value}, held-out {_percent(report.refined_error)}")
        if report.refined_error > fit.worth * report.linear_error:
            report.nonlinear = False
            report.notes.append(
                f"the nonlinearity is not worth having: its gain over the linear model is within "
                f"what {fit.n_held_out:,} held-out samples can tell, and the linear model was kept"
            )
            return linear
        report.nonlinear = True
    return model


def descend(
    fit: Identification,
    model: IORNN,
    tables: list[IntArray],
    *,
    max_steps: int,
    max_seconds: float = math.inf,
    judged: bool = True,
    damping: float = 1e-3,
) -> Descent:
    """Levenberg-Marquardt with linear units unbiased, stable and forgetful within the warm-up.

    Coefficients of polynomial units are free where the settings say so.
    The weights that are best on held-out data are kept; if not `judged`, those of least error on
    the tables: the least-squares estimate.
    """
    kinds = getattr(model.activation, "units", (model.activation,) * model.n_hidden)
    linear_units = np.array([kind.degree == 1 for kind in kinds])
    powers = polynomial_powers(model.activation, model.n_hidden)
    layout = Layout(
        model.n_inputs,
        model.n_hidden,
        model.n_outputs,
        direct=True,
        free_coefficients=powers if fit.settings.free_coefficients else (),
    )
    free = np.ones(layout.size, dtype=bool)
    free[layout.indices["hidden_bias"][linear_units]] = False
    places = np.flatnonzero(linear_units)

    def stable(candidate: Any) -> Any:
        # pulled back rather than refused: else one pole at the limit would stop all the others
        block = candidate.recurrent_weights[np.ix_(places, places)]
        inside = pulled_inside(block, fit.radius)
        if inside is block:
            return candidate
        U = candidate.recurrent_weights.copy()
        U[np.ix_(places, places)] = inside
        return candidate.replace(recurrent_weights=U)

    def progress(step: int, error: float, outside: float) -> None:
        if fit.bar is not None:
            shown = f"held-out {_percent(outside)}" if judged else f"error {_percent(error)}"
            fit.bar.set_postfix_str(f"step {step}, {shown}")

    return levenberg_marquardt(
        model,
        layout,
        fit.settings.engine,
        fit.source,
        free=free,
        tables=tables,
        held_out=fit.held_out if judged else None,
        admit=stable,
        max_steps=max_steps,
        max_seconds=max_seconds,
        damping=damping,
        progress=progress,
    )


def _percent(error: float) -> str:
    return f"{100 * error:.3g} %"


@dataclass(frozen=True)
class Scaling:
    """Means and sizes of inputs and outputs, and the way back to data as given."""

    u_mean: Array
    u_size: Array
    y_mean: Array
    y_size: Array

    @classmethod
    def of(cls, data: Sequences) -> Scaling:
        """Mean and standard deviation of every column."""
        u, y = np.asarray(data.X, dtype=np.float64), np.asarray(data.Y, dtype=np.float64)
        for name, values in (("u", u), ("y", y)):
            spread = values.std(axis=0)
            constant = np.flatnonzero(spread <= 1e-13 * np.abs(values).max(axis=0))
            if constant.size:
                raise ValueError(
                    f"`{name}` is constant in column(s) {', '.join(map(str, constant[:10]))}: "
                    + (
                        "a constant input excites nothing, leave it out"
                        if name == "u"
                        else "there is nothing to fit"
                    )
                )
        return cls(u.mean(axis=0), u.std(axis=0), y.mean(axis=0), y.std(axis=0))

    def undo(self, model: IORNN) -> IORNN:
        """Return the network on data as given."""
        A1 = model.input_weights / self.u_size
        direct = model.direct_weights
        assert direct is not None
        direct = direct / self.u_size[:, None] * self.y_size
        return model.replace(
            input_weights=A1,
            hidden_bias=model.hidden_bias - A1 @ self.u_mean,
            output_weights=model.output_weights * self.y_size,
            output_bias=model.output_bias * self.y_size + self.y_mean - self.u_mean @ direct,
            direct_weights=direct,
        )
