"""Gauss-Newton on the squared prediction error: one pass for the gradient, one for the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

import numpy as np
from scipy import linalg

from gloree.engine import Engine, Source
from gloree.models import CanonicalUnits, ExplosionError, Network
from gloree.refinement._layout import Layout
from gloree.refinement._sensitivities import (
    GradientSums,
    HessianSums,
    SquareSums,
    gradient_sums,
    hessian_sums,
    rows_at_once,
    segments_at_once,
    spread_sums,
    square_sums,
)
from gloree.sequences import Array, IntArray, split_evenly

RESIDUALS_PER_PARAMETER = 100
"""Residuals (rows times outputs) of the Hessian's subsample for each free parameter."""

ROWS_PER_PARAMETER = 10
"""Rows of that subsample for each free parameter, at least."""

LEAST_ROWS = 4000
"""Rows of that subsample, at least."""

SPREAD_SEGMENTS = 1000
"""Segments behind the spread of the score: standard errors are then right to about 2 %."""

NEGLIGIBLE = 1e-4
"""A last step that gains less than this fraction in every weight matrix is not taken."""

CHUNK_ROWS = 2**13
"""Rows of a chunk of segments, at most (about), so that memory stays small beside the data."""

MAX_AGE = 5
"""Steps after which J^T J is computed anew."""

EFFICIENT = 0.05
"""Steps end when what one more could gain, in any weight matrix, is this fraction of what the
statistical error is worth there."""


class RefinementStatus(Enum):
    """How a refinement ended."""

    EFFICIENT = "the rest is far below the statistical error"
    CONVERGED = "no further decrease within rounding"
    STEP_LIMIT = "stopped at the limit of steps"
    TIME_LIMIT = "stopped at the limit of time"
    HELD_OUT = "held-out data gain no more"
    NO_DECREASE = "no step lowered the error: the start is kept"


@dataclass(frozen=True)
class Refinement:
    """Outcome of `gauss_newton`.

    Attributes
    ----------
    model : IORNN
    status : RefinementStatus
    n_steps : int
        Steps accepted.
    squares : ndarray of shape (n_outputs,)
        Sum of squared residuals of each output.
    n_rows : float
        Rows behind it.
    start_squares : ndarray of shape (n_outputs,)
        The same at the start.
    history : tuple of float
        Total sum of squares, start first.
    hessian : HessianSums
        Of the last Hessian pass, scaled to all the data.
    """

    model: Network
    status: RefinementStatus
    n_steps: int
    squares: Array
    n_rows: float
    start_squares: Array
    history: tuple[float, ...]
    hessian: HessianSums = field(repr=False)


def gauss_newton(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    *,
    to_convergence: bool = False,
    max_steps: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Refinement:
    r"""Minimise sum |y - y^|^2 from a consistent start.

    One step :math:`(J^T J)^{-1} J^T r` from a root-N-consistent start is as good, asymptotically,
    as the least-squares estimate (Le Cam's one-step estimator). J^T J comes from a stratified
    subsample, the gradient from all data, so a few steps are taken; between them J^T J is
    corrected by the BFGS formula from the gradients seen, and computed anew where the error did
    not fall as predicted.

    Parameters
    ----------
    model : IORNN
        The start.
    layout : Layout
    engine, source
    to_convergence : bool, default False
        False: until what is left to gain is a twentieth of the statistical error in every weight
        matrix, which takes two or three steps from a good start. True: until nothing falls any
        more.
    max_steps : int, optional
        Default 30, or 100 to convergence.
    progress : callable, optional
        Called with (step, sum of squares) after each accepted step.

    Returns
    -------
    Refinement

    Notes
    -----
    The free scale of each unit (monomial activations) is fixed by keeping a_i on its sphere. A
    step that raises the error, or makes the recurrence explode, is shortened; nothing is accepted
    that is worse than the start.
    """
    limit = max_steps if max_steps is not None else (100 if to_convergence else 30)
    model, current = finite_start(model, layout, engine, source)
    hessian = hessian_pass(model, layout, engine, source, current)
    curvature, age = hessian.hessian.copy(), 0
    damping = 1e-9
    squares = start_squares = current.squares
    history = [float(start_squares.sum())]
    status = RefinementStatus.STEP_LIMIT
    n_steps = 0
    while n_steps < limit:
        step = solve_step(curvature, current.gradient, layout.scale_constraints(model), damping)
        gain = float(step @ current.gradient)
        variance = history[-1] / current.n_rows / layout.n_outputs
        tolerance = 1e-8 if to_convergence else EFFICIENT
        share = largest_share(layout, curvature, step) / max(variance, 1e-300)
        settled = share <= tolerance
        if settled and damping <= 1e-6 and (age == 0 or not to_convergence):
            status = RefinementStatus.CONVERGED if to_convergence else RefinementStatus.EFFICIENT
            last = None
            if not to_convergence and share > NEGLIGIBLE:
                last = _squares_at(layout.move(model, step), engine, source)
            if last is not None and float(last.squares.sum()) <= history[-1]:
                model, squares, n_steps = layout.move(model, step), last.squares, n_steps + 1
                history.append(float(squares.sum()))
                if progress is not None:
                    progress(n_steps, history[-1])
            break
        found = line_search(model, layout, engine, source, step, current)
        if found is None and age == 0:
            if damping > 1e3:
                status = RefinementStatus.CONVERGED if n_steps else RefinementStatus.NO_DECREASE
                break
            damping = max(damping, 1e-6) * 100
            continue
        poor = True
        if found is not None:
            moved, after, fraction = found
            fall = history[-1] - float(after.squares.sum())
            poor = fraction < 1 or not 0.5 * gain < fall < 2.0 * gain
            curvature = _bfgs(curvature, fraction * step, current.gradient - after.gradient)
            damping = max(damping / (1 if poor else 100), 1e-9)
            model, current, age, n_steps = moved, after, age + 1, n_steps + 1
            squares = current.squares
            history.append(float(current.squares.sum()))
            if progress is not None:
                progress(n_steps, history[-1])
            if fall <= 1e-12 * history[-1]:
                status = RefinementStatus.CONVERGED
                break
        if (poor or age >= MAX_AGE) and n_steps < limit:
            hessian = hessian_pass(model, layout, engine, source, current)
            curvature, age = hessian.hessian.copy(), 0
    return Refinement(
        model,
        status,
        n_steps,
        squares,
        current.n_rows,
        start_squares,
        tuple(history),
        hessian,
    )


def largest_share(layout: Layout, curvature: Array, step: Array) -> float:
    """Largest s_b^T H_bb s_b over the number of weights, over weight matrices b.

    What the step would still gain in one of them; its statistical error alone is worth the noise
    variance for each weight.
    """
    shares = []
    for index in layout.indices.values():
        if index.size == 0:
            continue
        block = index.ravel()
        part = step[block]
        shares.append(float(part @ curvature[np.ix_(block, block)] @ part) / block.size)
    return max(shares)


def _squares_at(model: Network, engine: Engine, source: Source) -> SquareSums | None:
    """Squared error of a model in a pass without derivatives; None if it explodes."""
    try:
        return engine.run(partial(square_sums, model=model), source, label="squares")
    except ExplosionError:
        return None


def finite_start(
    model: Network, layout: Layout, engine: Engine, source: Source
) -> tuple[Network, GradientSums]:
    """Halve U until no sequence explodes: a fit to part of the data may do so on the rest."""
    U = model.recurrent_weights
    for shrink in (1.0, 0.5, 0.25, 0.125, 0.0):
        start = model.replace(recurrent_weights=shrink * U)
        try:
            return start, gradient_pass(start, layout, engine, source)
        except ExplosionError:
            if shrink == 0.0:
                raise
    raise AssertionError("unreachable")


def line_search(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    step: Array,
    current: GradientSums,
) -> tuple[Network, GradientSums, float] | None:
    """Shorten a step (1, 1/3, 1/9, ..) until it lowers the error; None if six tries do not."""
    before = float(current.squares.sum())
    fraction = 1.0
    for _ in range(6):
        moved = layout.move(model, fraction * step)
        try:
            after = gradient_pass(moved, layout, engine, source)
        except ExplosionError:
            after = None
        if after is not None and float(after.squares.sum()) <= before:
            return moved, after, fraction
        fraction /= 3.0
    return None


def solve_step(curvature: Array, gradient: Array, constraints: Array, damping: float) -> Array:
    """Solve (H + damping diag(H) + C^T C) s = g, with rows and columns scaled to unit diagonal."""
    diagonal = np.diag(curvature).copy()
    diagonal[diagonal <= 0] = diagonal.max() if diagonal.max() > 0 else 1.0
    scale = 1.0 / np.sqrt(diagonal)
    matrix = curvature * np.outer(scale, scale)
    fixed = constraints * scale
    norms = np.linalg.norm(fixed, axis=1, keepdims=True)
    fixed = fixed / np.where(norms > 0, norms, 1.0)
    matrix += fixed.T @ fixed
    matrix[np.diag_indices_from(matrix)] += damping
    right = scale * gradient
    ridge = 0.0
    for _ in range(12):
        try:
            factor = linalg.cho_factor(matrix + ridge * np.eye(matrix.shape[0]))
        except linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-12)
            continue
        solved: Array = scale * linalg.cho_solve(factor, right)
        return solved
    return np.asarray(scale * np.linalg.lstsq(matrix, right, rcond=None)[0])


def _bfgs(curvature: Array, step: Array, change: Array) -> Array:
    """Correct J^T J by a step and the change of the gradient along it."""
    along = float(step @ change)
    curved = curvature @ step
    expected = float(step @ curved)
    if along <= 0.1 * expected or expected <= 0:
        return curvature
    return curvature + np.outer(change, change) / along - np.outer(curved, curved) / expected


def gradient_pass(model: Network, layout: Layout, engine: Engine, source: Source) -> GradientSums:
    """Squared error, J^T r and the segments of largest leverage that `hessian_pass` may want."""
    n_largest = 2 * n_segments_of(source, hessian_rows(layout) // 2)
    function = partial(gradient_sums, model=model, layout=layout, n_largest=n_largest)
    return engine.run(function, source, label="J^T r")


def hessian_pass(
    model: Network,
    layout: Layout,
    engine: Engine,
    source: Source,
    current: GradientSums,
    wanted: int | None = None,
) -> HessianSums:
    """J^T J of all data from a stratified subsample of segments.

    The segments of largest leverage |f'| (1 + |h|), half of the subsample, enter with
    weight 1; the rest systematically, reweighted. A plain subsample misses the few segments that
    carry most of J^T J when f is a polynomial. The subsample has `wanted` rows
    (`hessian_rows` by default).
    """
    function = partial(hessian_sums, model=model, layout=layout)

    def run(table: IntArray) -> HessianSums:
        chunks = _chunks(table, segments_at_once(layout), rows_at_once(layout))
        return engine.run(function, source, label="J^T J", tables=chunks)

    wanted = hessian_rows(layout) if wanted is None else wanted
    if wanted >= source.data.n_rows:
        return run(source.sample(source.n_segments))
    leverage = current.leverage
    order = np.argsort(-leverage.values, kind="stable")
    rows = leverage.tables[:, 3] - leverage.tables[:, 2]
    cut = int(np.searchsorted(np.cumsum(rows[order]), wanted / 2)) + 1
    top = leverage.tables[np.sort(order[:cut])]
    # so many that about half of what is wanted remains without those of the top
    rest = max(source.data.n_rows - int(rows[order[:cut]].sum()), 1)
    picked = source.sample(n_segments_of(source, wanted * source.data.n_rows // (2 * rest)))
    picked = picked[~np.isin(picked[:, 2], top[:, 2])]
    heavy = run(top)
    if not picked.shape[0]:
        return heavy
    light = run(picked)
    return heavy.merge(light.weighted((current.n_rows - heavy.n_rows) / light.n_rows))


def hessian_rows(layout: Layout) -> int:
    """Rows of the subsample that J^T J is taken from."""
    return max(
        LEAST_ROWS,
        ROWS_PER_PARAMETER * layout.size,
        RESIDUALS_PER_PARAMETER * layout.size // layout.n_outputs,
    )


def n_segments_of(source: Source, n_rows: int) -> int:
    """Segments that hold so many rows, on average."""
    return max(1, -(-n_rows * source.n_segments // source.data.n_rows))


def _chunks(table: IntArray, n_segments: int, n_rows: int = CHUNK_ROWS) -> list[IntArray]:
    """Chunks of so many segments and rows, about; at least four of equal size for the workers."""
    rows = int((table[:, 4] - table[:, 1]).sum())
    most = min(CHUNK_ROWS, n_rows)
    return split_evenly(table, max(4, -(-table.shape[0] // n_segments), -(-rows // most)))


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of all free weights, for unit-norm rows a_i where scales are free.

    Attributes
    ----------
    covariance : ndarray of shape (size, size)
        Sandwich covariance of the parameter vector, clustered by sequence (by segment in long
        ones).
    weights : dict of str to ndarray
        Standard errors in the shapes of the weights.
    """

    covariance: Array = field(repr=False)
    weights: dict[str, Array]

    def shifted(self, layout: Layout, centre: Array) -> StandardErrors:
        """Standard errors of the biases for inputs that were not centred.

        The network fitted on x - m has b - A1 m and c - D^T m on x.
        """
        errors = dict(self.weights)
        index = layout.indices
        if layout.unit_bias:
            places = index["hidden_bias"]
            values = []
            for part in layout.directions:
                rows = index[f"{part.prefix}input_weights"]
                own = centre[part.columns]
                values.append(self._of_sum(places[part.units], rows, own))
            errors["hidden_bias"] = np.concatenate(values)
        if layout.direct:
            places = index["output_bias"]
            errors["output_bias"] = self._of_sum(places, index["direct_weights"].T, centre)
        return StandardErrors(self.covariance, errors)

    def _of_sum(self, places: IntArray, rows: IntArray, centre: Array) -> Array:
        """Standard errors of bias_i - weights_i . centre, for the places of both."""
        direction = np.concatenate(([1.0], -centre))
        values = np.empty(places.shape[0])
        for i, (place, row) in enumerate(zip(places, rows, strict=True)):
            block = np.concatenate(([place], row))
            values[i] = direction @ self.covariance[np.ix_(block, block)] @ direction
        return np.asarray(np.sqrt(np.maximum(values, 0.0)))

    def canonical(self, units: CanonicalUnits, layout: Layout) -> StandardErrors:
        """Standard errors of the canonical form, whose units are scaled, signed and reordered."""
        scale, state, order = np.abs(units.scale), np.abs(units.state_scale), units.order
        errors = dict(self.weights)
        errors["output_weights"] = (errors["output_weights"] / state[:, None])[order]
        if "hidden_bias" in errors:
            errors["hidden_bias"] = (scale * errors["hidden_bias"])[order]
        for part in layout.directions:
            own, place = part.units, order[part.units] - part.units.start
            name = f"{part.prefix}input_weights"
            errors[name] = (scale[own, None] * errors[name])[place]
            name = f"{part.prefix}recurrent_weights"
            if name in errors:
                scaled = scale[own, None] * errors[name] / state[None, own]
                errors[name] = scaled[np.ix_(place, place)]
        return StandardErrors(self.covariance, errors)

    def relative(self, model: Network, layout: Layout) -> dict[str, float]:
        """Predicted relative error of each weight matrix: root sum of variances over its norm."""
        weights, predicted = layout.weights(model), {}
        for name, errors in self.weights.items():
            size = float(np.linalg.norm(weights[name]))
            if size > 0:
                predicted[name] = float(np.linalg.norm(errors)) / size
        return predicted


def standard_errors(
    refinement: Refinement, layout: Layout, engine: Engine, source: Source
) -> StandardErrors:
    """Sandwich standard errors H^+ M H^+ at a refined model.

    M is the spread of the score summed over segments, from one more pass over (a systematic part
    of) the data; it needs neither equal nor Gaussian noise, and allows errors of one sequence to
    depend on each other.
    """
    model, H = refinement.model, refinement.hessian.hessian
    chosen = source.sample(SPREAD_SEGMENTS)
    sums = engine.run(
        partial(spread_sums, model=model, layout=layout),
        source,
        label="spread",
        tables=_chunks(chosen, 2**19 // layout.size),
    )
    diagonal = np.where(np.diag(H) > 0, np.diag(H), 1.0)
    scale = 1.0 / np.sqrt(diagonal)
    fixed = layout.scale_constraints(model) * scale
    fixed /= np.maximum(np.linalg.norm(fixed, axis=1, keepdims=True), 1e-300)
    matrix = H * np.outer(scale, scale) + fixed.T @ fixed
    spread = sums.spread * (source.n_kept / sums.n_segments) * np.outer(scale, scale)
    try:
        factor = linalg.cho_factor(matrix)
        half = linalg.cho_solve(factor, spread)
        covariance = linalg.cho_solve(factor, half.T)
    except linalg.LinAlgError:
        inverse = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True)
        covariance = inverse @ spread @ inverse
    covariance = covariance * np.outer(scale, scale)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return StandardErrors(covariance, layout.named(errors))
