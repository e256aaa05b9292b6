"""Levenberg-Marquardt with Nielsen's damping, and Newton's method where Gauss-Newton is slow.

Large noise and nearly parallel components make the second derivatives of the residual matter:
Gauss-Newton then converges linearly, in hundreds of steps, where Newton needs a handful. The
damping is that of H. B. Nielsen, report IMM-REP-1999-05, Technical University of Denmark (1999).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv

from ._least_squares import (
    Point,
    Problem,
    add_gauge,
    coordinates_in_span,
    exact_hessian,
    gauss_newton_hessian,
)
from ._tensor import FloatArray

# |R| / |T| of 1e-14: the residual of an exact fit is rounding error from here on.
LOSS_FLOOR = 5e-29
SMALLEST_STEP = 1e-13
FIRST_DAMPING = 1e-3
SMALLEST_DAMPING = 1e-15
LARGEST_DAMPING = 1e12
# Newton's method takes over if a step gains more than SLOW of what the step before gained, but less
# than NEWTON_DECREASE of the loss: the iteration converges linearly, close to a minimum.
SLOW = 0.05
NEWTON_DECREASE = 0.1
# The exact Hessian is dense in rank * n unknowns: beyond this many it costs more than it saves.
NEWTON_SIZE = 600
# A start within 30% of a minimum's loss and 0.05 rad of its components is in its basin.
BASIN_LOSS = 1.3
BASIN_COSINE = 1 - 1e-3


class Ending(enum.Enum):
    """Why an iteration ended."""

    CONVERGED = "at a minimum"
    JOINED = "next to a minimum that is already known, above its loss"
    LIMIT = "at the limit of iterations or of the damping"


class Minimum(NamedTuple):
    """Where an iteration ended, and why."""

    point: Point
    n_iterations: int
    ending: Ending


def minimise(
    problem: Problem,
    components: FloatArray,
    max_iterations: int = 200,
    tolerance: float = 1e-13,
    step_tolerance: float = 1e-7,
    *,
    damping: float = FIRST_DAMPING,
    known: Point | None = None,
) -> Minimum:
    """Minimise f from the given rows.

    Converged means: f below rounding, a step below 1e-13, or a relative decrease below `tolerance`
    in a step below `step_tolerance`. With a `known` minimum the iteration also ends once it is next
    to that minimum and above its loss, where it could only arrive at the same point.
    """
    point = problem.evaluate(components / np.linalg.norm(components, axis=1, keepdims=True))
    growth, last_decrease, newton, iteration = 2.0, np.inf, False, 0
    while iteration < max_iterations:
        if point.loss < LOSS_FLOOR:
            return Minimum(point, iteration, Ending.CONVERGED)
        if known is not None and _is_next_to(point, known):
            return Minimum(point, iteration, Ending.JOINED)
        model = _Model.at(problem, point, newton)
        if newton and model.step(damping) is None:
            model = _Model.at(problem, point, newton=False)
        while iteration < max_iterations:
            iteration += 1
            step = model.step(damping)
            if step is not None:
                move, predicted = step
                length = float(np.abs(move).max())
                rows = point.components + move
                rows /= np.sqrt((rows * rows).sum(axis=1))[:, None]
                trial = problem.evaluate(rows)
                decrease = point.loss - trial.loss
                if decrease > 0:
                    break
                # Whatever decrease is left is rounding error.
                if length < SMALLEST_STEP or predicted < tolerance * point.loss:
                    return Minimum(point, iteration, Ending.CONVERGED)
            if damping > LARGEST_DAMPING:
                return Minimum(point, iteration, Ending.LIMIT)
            damping = max(damping, SMALLEST_DAMPING) * growth
            growth *= 2.0
        else:
            return Minimum(point, iteration, Ending.LIMIT)
        settled = decrease < tolerance * point.loss and length < step_tolerance
        quality = decrease / predicted if predicted > 0 else 0.0
        damping = max(damping * max(1 / 3, 1 - (2 * quality - 1) ** 3), SMALLEST_DAMPING)
        growth = 2.0
        point = trial
        newton = (
            point.components.size <= NEWTON_SIZE
            and decrease < NEWTON_DECREASE * point.loss
            and (newton or decrease > SLOW * last_decrease)
        )
        last_decrease = decrease
        if settled or length < SMALLEST_STEP:
            return Minimum(point, iteration, Ending.CONVERGED)
    return Minimum(point, iteration, Ending.LIMIT)


def _is_next_to(point: Point, known: Point) -> bool:
    if not known.loss < point.loss < BASIN_LOSS * known.loss:
        return False
    cosines = np.abs(point.components @ known.components.T)
    return bool(min(cosines.max(axis=0).min(), cosines.max(axis=1).min()) > BASIN_COSINE)


class _Complement(NamedTuple):
    """The model off the span of the components: one (rank, rank) Hessian for all directions."""

    basis: FloatArray  # (n, rank) of the span
    hessian: FloatArray
    slope: FloatArray  # (rank, n)


class _Model(NamedTuple):
    """The quadratic model of f at a point, in the span of the components and off it."""

    hessian: FloatArray  # (rank m, rank m) in m coordinates
    slope: FloatArray  # (rank, m)
    scales: FloatArray  # (rank,): damping of the coordinates of a row, times lambda
    complement: _Complement | None  # None if the m coordinates are all n

    @classmethod
    def at(cls, problem: Problem, point: Point, newton: bool) -> _Model:
        """With the exact Hessian or with that of Gauss-Newton."""
        order, components = problem.order, point.components
        omega = point.loadings @ point.loadings.T / problem.squared_norm
        diagonal = omega.diagonal()
        # A unit without loading has no curvature; a floor keeps the damped matrix definite.
        scales = order * np.maximum(diagonal, 1e-12 * diagonal.max() + 1e-300)
        slope, complement = problem.gradient(point), None
        if newton:
            hessian = exact_hessian(problem, point)
        else:
            if problem.size > len(components):
                components, basis = coordinates_in_span(components)
                gradient, slope = slope, slope @ basis
                outside = order * omega * point.gram ** (order - 1)
                complement = _Complement(basis, outside, gradient - slope @ basis.T)
            hessian = gauss_newton_hessian(components, point.gram, point.factor, omega, order)
        add_gauge(hessian, components, scales)
        return cls(hessian, slope, scales, complement)

    def step(self, damping: float) -> tuple[FloatArray, float] | None:
        """Return the damped step and the decrease the model predicts; None if not definite."""
        slope = self.slope.ravel()
        shifts = damping * np.repeat(self.scales, self.slope.shape[1])
        damped = self.hessian.copy()
        damped.flat[:: len(damped) + 1] += shifts
        _, solved, failed = dposv(damped.T, -slope, overwrite_a=1)
        if failed:
            return None
        predicted = 0.5 * float(solved @ (shifts * solved) - solved @ slope)
        move = solved.reshape(self.slope.shape)
        if self.complement is None:
            return move, predicted
        basis, hessian, outer_slope = self.complement
        shifts = damping * self.scales
        damped = hessian.copy()
        damped.flat[:: len(damped) + 1] += shifts
        _, outer, failed = dposv(damped, -outer_slope, lower=1)
        if failed:
            return None
        damped_move = shifts[:, None] * outer
        predicted += 0.5 * float(np.vdot(outer, damped_move) - np.vdot(outer, outer_slope))
        return move @ basis.T + outer, predicted
