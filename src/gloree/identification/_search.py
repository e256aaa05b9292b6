"""One search for least simulation error: what may move, what is admitted, when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gloree.engine import Subset
from gloree.identification._budget import Budget
from gloree.identification._problem import IdentificationProblem, n_free_weights, percent
from gloree.identification._realisation import PoleLimit, pulled_inside
from gloree.identification._split import RecordSplit
from gloree.models import IORNN, ExplosionError, Network
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    RefinementStatus,
    SquaredError,
    polynomial_powers,
)

PATIENCE = 25
"""Steps without a gain on held-out rows after which a search ends."""

History = tuple[tuple[float, float, float], ...]
"""Seconds since the identification began, error on the rows, and held-out error of each step."""


@dataclass(frozen=True)
class SearchEnd:
    """Outcome of a search: a network with columns for the starts of records (see `Starts`).

    `fitted` and `held_out` are mean square errors there, summed over outputs.
    """

    model: IORNN
    status: RefinementStatus = RefinementStatus.NO_DECREASE
    n_steps: int = 0
    fitted: float = math.inf
    held_out: float = math.inf
    history: History = ()


@dataclass(frozen=True)
class Search:
    """Searches of one identification: the split of its records, its budget, its progress bar."""

    problem: IdentificationProblem
    split: RecordSplit
    budget: Budget
    show: Callable[[str], None]

    def descend(
        self,
        model: IORNN,
        rows: Subset,
        *,
        max_steps: int,
        max_seconds: float = math.inf,
        validate: bool = True,
        damping: float = 1e-3,
    ) -> SearchEnd:
        """Run Levenberg-Marquardt; linear units keep no bias, and forget within the warm-up.

        Coefficients of polynomial units are free if the settings ask for it, and the starts of
        records are: from the equilibrium of the first input, unless `model` has columns for them.
        The weights that are best on held-out data are kept; without `validate`, those of least
        error on `rows`. After an interrupt the best so far is returned, and the budget is at its
        end.
        """
        if model.n_inputs < rows.data.n_inputs:
            model = self.split.starts.extended(model)
        if self.budget.is_over:
            return SearchEnd(model, RefinementStatus.TIME_LIMIT)
        try:
            end = self._minimised(model, rows, max_steps, max_seconds, validate, damping)
        except ExplosionError:
            # it was sound on the rows that it was made on, not on these
            return SearchEnd(model)
        except KeyboardInterrupt:
            self.budget.interrupt()
            return SearchEnd(model, RefinementStatus.INTERRUPTED)
        if end.status is RefinementStatus.INTERRUPTED:
            self.budget.interrupt()
        return end

    def _minimised(
        self,
        model: IORNN,
        rows: Subset,
        max_steps: int,
        max_seconds: float,
        validate: bool,
        damping: float,
    ) -> SearchEnd:
        layout, free = self._layout(model)
        linear = model.linear_units
        states = np.ix_(linear, linear)

        def stable(candidate: Network) -> Network:
            # refusing the step instead would let one pole at the limit stop all the others
            U = candidate.recurrent_weights.copy()
            block = U[states]
            inside = pulled_inside(block, PoleLimit(self.split.radius))
            if inside is block:
                return candidate
            U[states] = inside
            return candidate.replace(recurrent_weights=U)

        def progress(step: int, loss: float, share: float) -> None:
            what = "held-out" if validate else "error"
            self.show(f"step {step}, {what} {percent(math.sqrt(2.0 * loss))}")

        begin, engine = self.budget.clock(), self.problem.engine
        seconds = min(max_seconds, self.budget.max_seconds - begin)
        solver = LevenbergMarquardt(
            max_steps, seconds, damping, free, stable, self.budget.clock, PATIENCE
        )
        held_out = self.split.held_out if validate else None
        end = solver.minimise(
            SquaredError(), model, layout, engine, rows, held_out=held_out, progress=progress
        )
        assert isinstance(end.model, IORNN)
        size = math.sqrt(model.n_outputs)
        # losses are half the squared errors
        history = tuple(
            (begin + s.seconds, math.sqrt(2 * s.loss) / size, math.sqrt(2 * s.held_out) / size)
            for s in end.history
        )
        final = end.final
        return SearchEnd(
            end.model, end.status, end.n_steps, 2.0 * final.loss, 2.0 * final.held_out, history
        )

    def _layout(self, model: IORNN) -> tuple[Layout, np.ndarray]:
        """Weights of a network with columns for starts, and which of them move."""
        sizes = model.n_inputs, model.n_hidden, model.n_outputs
        settings = self.problem.settings
        free_coefficients = settings.free_coefficients or settings.auto
        powers = polynomial_powers(model.activation, model.n_hidden) if free_coefficients else ()
        layout = Layout(*sizes, direct=True, free_coefficients=powers)
        free = np.ones(layout.size, dtype=bool)
        free[layout.indices["hidden_bias"][model.linear_units]] = False
        # a start enters the states alone
        free[layout.indices["direct_weights"][self.problem.records.n_inputs :]] = False
        return layout, free

    def measured(self, model: IORNN) -> SearchEnd:
        """Errors of a network as it is, on training and on held-out rows."""
        if model.n_inputs < self.split.source.data.n_inputs:
            model = self.split.starts.extended(model)
        fitted, held_out = (
            model.n_outputs * self.problem.error(model, rows) ** 2
            for rows in (self.split.training, self.split.held_out)
        )
        return SearchEnd(model, fitted=fitted, held_out=held_out)

    def judged(self, end: SearchEnd) -> float:
        """Error by which networks of several sizes are compared, on all rows.

        Held-out rows alone are few, and all of some part of the record. Rows that trained count
        with the factor (n + p) / (n - p) for p weights and n values (final prediction error [1]_).

        References
        ----------
        .. [1] H. Akaike, "Fitting autoregressive models for prediction", Annals of the Institute
           of Statistical Mathematics 21 (1969) 243-247.
        """
        model, split = end.model, self.split
        q = model.n_hidden - model.linear_units.size
        d, p = self.problem.records.n_inputs, model.n_outputs
        size = n_free_weights(model.n_hidden - q, q, d, p)
        n, outside = split.training.n_counted * p, split.held_out.n_counted * p
        if size >= n:
            return math.inf
        fitted = end.fitted * (n + size) / (n - size)
        return (n * fitted + outside * end.held_out) / (n + outside)
