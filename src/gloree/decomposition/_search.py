"""Starts on the core until they agree: what makes one local minimum the answer."""

from __future__ import annotations

import numpy as np

from ._compression import Core
from ._lm import minimise
from ._problem import Point, Problem
from ._result import DecompositionStatus, FloatArray
from ._starts import pencil_starts, random_start, uwedge

# |R| / |T| below 1e-12: an exact fit, the data hold no noise to be fitted better elsewhere.
EXACT_LOSS = 5e-25
# Two starts found the same minimum if their losses agree to this.
AGREEMENT = 1e-6
MIN_AGREEING, MIN_STARTS = 3, 6
# Other minima this close to the best loss mean that a still better one may hide: run more starts.
NEARBY, MIN_STARTS_NEARBY = 1.1, 12
MAX_CANDIDATES = 5
N_PENCILS = 8
# Starts that crawl for longer sit in valleys of cancelling components.
MAX_ITERATIONS = 100
# Starts only have to tell minima apart, to AGREEMENT; the polish converges to rounding.
START_TOLERANCE, START_STEP = 1e-9, 1e-2


class Search:
    """Starts run so far, and the best point they found; a `known` minimum counts as one.

    `kept` are the rows that all further starts have in common; the others are drawn afresh.
    """

    def __init__(
        self, core: Core, rank: int, rng: np.random.Generator, known: Point | None = None
    ) -> None:
        self.core = core
        self.rank = rank
        self.rng = rng
        self.problem = Problem(core.tensor)
        self.best = known
        self.losses = [] if known is None else [known.loss]
        self.minima = [] if known is None else [known]
        self.n_iterations = 0
        self.kept = np.empty((0, self.problem.size))

    @property
    def n_agreeing(self) -> int:
        """Starts that reached the best loss."""
        return 0 if self.best is None else self._count(1 + AGREEMENT)

    def keep(self, rows: FloatArray) -> None:
        """Put these rows in all further starts, unless there are more components than inputs.

        The first start is then random, and wrong too often to be kept in part.
        """
        if self.rank <= self.problem.size:
            self.kept = rows

    def candidates(self) -> list[Point]:
        """Return the minima to polish on the whole tensor, the best first.

        More than the best only when others come close: what compression left out may then decide.
        """
        assert self.best is not None
        distinct = [self.best]
        for point in sorted(self.minima, key=lambda minimum: minimum.loss):
            if point.loss > NEARBY * self.best.loss or len(distinct) == MAX_CANDIDATES:
                break
            if point.loss > distinct[-1].loss * (1 + AGREEMENT) + EXACT_LOSS:
                distinct.append(point)
        return distinct

    def _count(self, factor: float) -> int:
        assert self.best is not None
        bar = self.best.loss * factor + EXACT_LOSS
        return sum(loss <= bar for loss in self.losses)

    def run(self, max_starts: int) -> DecompositionStatus:
        """Run starts until they agree, at most `max_starts` in all.

        Three of six or more (twelve, if other minima are nearby) reaching the best loss are an
        agreement. Two are enough if the noise outside of the core explains the residual inside.
        """
        while len(self.losses) < max_starts:
            best = self._start()
            if best.loss < EXACT_LOSS and self.core.is_whole:
                return DecompositionStatus.EXACT
            n_agreeing, band = self.n_agreeing, self.core.noise_band
            if n_agreeing >= 2 and band and band[0] <= best.loss <= band[1]:
                return DecompositionStatus.CERTIFIED
            alone = self._count(NEARBY) == n_agreeing
            enough = MIN_STARTS if alone else MIN_STARTS_NEARBY
            if n_agreeing >= MIN_AGREEING and len(self.losses) >= enough:
                return DecompositionStatus.AGREED
        return DecompositionStatus.NO_AGREEMENT

    def _start(self) -> Point:
        child = self.rng.spawn(1)[0]
        if not self.losses and self.rank == self.problem.size:
            rows = pencil_start(self.problem, child)
        else:
            n_random = self.rank - len(self.kept)
            rows = np.vstack([self.kept, random_start(n_random, self.problem.size, child)])
        solution = minimise(
            self.problem,
            rows,
            max_iterations=MAX_ITERATIONS,
            tolerance=START_TOLERANCE,
            step_tolerance=START_STEP,
            target=self.best,
        )
        self.n_iterations += solution.n_iterations
        loss = solution.point.loss
        if solution.joined and self.best is not None:
            loss = self.best.loss
        else:
            self.minima.append(solution.point)
        self.losses.append(loss if solution.converged else np.inf)
        if self.best is None or solution.point.loss < self.best.loss:
            self.best = solution.point
        return self.best


def pencil_start(problem: Problem, rng: np.random.Generator) -> FloatArray:
    """Return the best of several random pencils, refined when that lowers the loss.

    All of them are looked at even where the first is exact up to rounding: their conditions, and
    so the last digits of the components, differ by factors of ten.
    """
    slices = problem.tensor.reshape(-1, problem.size, problem.size)
    candidates = pencil_starts(slices, N_PENCILS, rng)
    losses = [problem.evaluate(rows).loss for rows in candidates]
    rows = candidates[int(np.argmin(losses))]
    refined = uwedge(slices, rows)
    return refined if problem.evaluate(refined).loss < min(losses) else rows
