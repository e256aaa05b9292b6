"""Levenberg-Marquardt with Nielsen's damping, turning to Newton's method where it crawls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dposv

from ._newton import exact_hessian
from ._problem import Point, Problem, add_gauge, gauss_newton_hessian
from ._result import FloatArray

# |R| / |T| of 1e-14: the residual of an exact fit is rounding error from here on.
LOSS_FLOOR = 5e-29
FIRST_DAMPING = 1e-3
SMALLEST_DAMPING = 1e-15
LARGEST_DAMPING = 1e12
# Gauss-Newton crawls if a step gains more than this share of what the one before gained.
CRAWL = 0.05
NEWTON_DECREASE = 0.1
# The exact Hessian is dense in rank * n unknowns: beyond this many it costs more than it saves.
NEWTON_SIZE = 600


class Solution(NamedTuple):
    """Where the iteration ended."""

    point: Point
    n_iterations: int
    converged: bool
    joined: bool  # stopped early, inside the basin of `target`


class _Model:
    """The quadratic model of f at a point, in the span of the components and outside of it."""

    def __init__(self, problem: Problem, point: Point, exact: bool = False) -> None:
        order, components = problem.order, point.components
        rank, size = components.shape
        omega = problem.squared_loadings(point)
        diagonal = omega.diagonal()
        # A unit without loading has no curvature; a floor keeps the damped matrix definite.
        self.scales = np.maximum(diagonal, 1e-12 * diagonal.max() + 1e-300)
        self.gradient = problem.gradient(point)
        self.basis: FloatArray | None = None
        inside, slope = components, self.gradient
        if size > rank and not exact:
            self.basis, triangle = np.linalg.qr(components.T)
            inside = np.ascontiguousarray(triangle.T)
            slope = self.gradient @ self.basis
            self.outside = self.gradient - slope @ self.basis.T
            self.outer_hessian = order * omega * point.gram ** (order - 1)
        self.slope = slope
        if exact:
            self.hessian = exact_hessian(problem, point)
        else:
            self.hessian = gauss_newton_hessian(inside, point.gram, point.factor, omega, order)
        add_gauge(self.hessian, inside, order * self.scales)
        self.row_damping = order * self.scales
        self.damping = np.repeat(self.row_damping, inside.shape[1])

    def step(self, damping: float) -> tuple[FloatArray, float] | None:
        """Return the damped step and the decrease the model predicts; None if not definite."""
        damped = self.hessian.copy()
        damped.flat[:: len(damped) + 1] += damping * self.damping
        _, solved, failed = dposv(damped.T, -self.slope.ravel(), overwrite_a=1)
        if failed:
            return None
        predicted = 0.5 * float(
            solved @ (damping * self.damping * solved) - solved @ self.slope.ravel()
        )
        move = solved.reshape(self.slope.shape)
        if self.basis is None:
            return move, predicted
        damped = self.outer_hessian.copy()
        damped.flat[:: len(damped) + 1] += damping * self.row_damping
        _, outer, failed = dposv(damped, -self.outside, lower=1)
        if failed:
            return None
        damped_move = damping * self.row_damping[:, None] * outer
        predicted += 0.5 * float(np.vdot(outer, damped_move) - np.vdot(outer, self.outside))
        return move @ self.basis.T + outer, predicted


def minimise(
    problem: Problem,
    components: FloatArray,
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-13,
    step_tolerance: float = 1e-7,
    damping: float = FIRST_DAMPING,
    target: Point | None = None,
) -> Solution:
    """Minimise f from the given rows by Levenberg-Marquardt with Nielsen's damping.

    Converged means: f below rounding, a step below 1e-13, or a relative decrease below `tolerance`
    in a step below `step_tolerance`. With `target`, an earlier minimum, the run also stops once it
    is next to that minimum and above its loss: it can only fall into it.
    """
    rows = components / np.linalg.norm(components, axis=1, keepdims=True)
    point = problem.evaluate(rows)
    growth = 2.0
    iteration = 0
    last_decrease = np.inf
    exact = False
    while iteration < max_iterations:
        if point.loss < LOSS_FLOOR:
            return Solution(point, iteration, True, False)
        if target is not None and _next_to(point, target):
            return Solution(point, iteration, True, True)
        model = _Model(problem, point, exact)
        if exact and model.step(damping) is None:
            model = _Model(problem, point)
        while iteration < max_iterations:
            iteration += 1
            attempt = model.step(damping)
            if attempt is not None:
                move, predicted = attempt
                length = float(np.abs(move).max())
                rows = point.components + move
                rows /= np.sqrt((rows * rows).sum(axis=1))[:, None]
                trial = problem.evaluate(rows)
                decrease = point.loss - trial.loss
                if decrease > 0:
                    break
                # No decrease is left to be had but for rounding error.
                if length < 1e-13 or predicted < tolerance * point.loss:
                    return Solution(point, iteration, True, False)
            if damping > LARGEST_DAMPING:
                return Solution(point, iteration, False, False)
            damping = max(damping, SMALLEST_DAMPING) * growth
            growth *= 2.0
        else:
            return Solution(point, iteration, False, False)
        small = decrease < tolerance * point.loss and length < step_tolerance
        quality = decrease / predicted if predicted > 0 else 0.0
        damping = max(damping * max(1 / 3, 1 - (2 * quality - 1) ** 3), SMALLEST_DAMPING)
        growth = 2.0
        point = trial
        exact = (
            point.components.size <= NEWTON_SIZE
            and decrease < NEWTON_DECREASE * point.loss
            and (exact or decrease > CRAWL * last_decrease)
        )
        last_decrease = decrease
        if small or length < 1e-13:
            return Solution(point, iteration, True, False)
    return Solution(point, iteration, False, False)


# A start within 30% of the best loss and 0.05 rad of its components is in its basin of attraction.
_BASIN_LOSS = 1.3
_BASIN_COSINE = 1 - 1e-3


def _next_to(point: Point, target: Point) -> bool:
    if not target.loss < point.loss < _BASIN_LOSS * target.loss:
        return False
    cosines = np.abs(point.components @ target.components.T)
    return bool(cosines.max(axis=0).min() > _BASIN_COSINE) and bool(
        cosines.max(axis=1).min() > _BASIN_COSINE
    )
