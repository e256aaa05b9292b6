"""The search that starts, linear and final refinement share: least simulation error, stable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gloree.engine import Clock, Subset
from gloree.identification._problem import IdentificationProblem, percent
from gloree.identification._realisation import pulled_inside
from gloree.identification._split import RecordSplit
from gloree.models import IORNN, Network
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    RefinementStatus,
    SquaredError,
    polynomial_powers,
)
from gloree.sequences import Array, IntArray


@dataclass(frozen=True)
class SearchEnd:
    """Outcome of one search.

    `held_out` is the mean square error on held-out data, summed over outputs; rows of `history` are
    seconds, and root mean square errors on the data of the search and on held-out data.
    """

    model: IORNN
    status: RefinementStatus
    n_steps: int
    held_out: float
    history: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Search:
    """Searches of one identification: a split of its records, its clock, and its progress bar."""

    problem: IdentificationProblem
    split: RecordSplit
    clock: Clock
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
        """Levenberg-Marquardt; linear units keep no bias, and forget within the warm-up.

        Coefficients of polynomial units are free where the settings say so. The weights that are
        best on held-out data are kept; if not `validate`, those of least error on the data of the
        search: the least-squares estimate.

        Raises
        ------
        ExplosionError
            If the start explodes.
        """
        layout = self._layout(model)
        linear_units = _linear_units(model)
        free = np.ones(layout.size, dtype=bool)
        free[layout.indices["hidden_bias"][linear_units]] = False

        def stable(candidate: Network) -> Network:
            # pulled back rather than refused: else one pole at the limit would stop all the others
            U = _stable(candidate.recurrent_weights, linear_units, self.split.radius)
            unchanged = U is candidate.recurrent_weights
            return candidate if unchanged else candidate.replace(recurrent_weights=U)

        what = "held-out" if validate else "error"

        def progress(step: int, loss: float, share: float) -> None:
            del share
            self.show(f"step {step}, {what} {percent(math.sqrt(2.0 * loss))}")

        solver = LevenbergMarquardt(max_steps, max_seconds, damping, free, stable, self.clock)
        end = solver.minimise(
            SquaredError(),
            model,
            layout,
            self.problem.engine,
            rows,
            held_out=self.split.held_out if validate else None,
            progress=progress,
        )
        assert isinstance(end.model, IORNN)
        size = float(np.sqrt(model.n_outputs))
        # losses are half the squared errors
        history = tuple(
            (
                step.seconds,
                math.sqrt(2.0 * step.loss) / size,
                math.sqrt(2.0 * step.held_out) / size,
            )
            for step in end.history
        )
        held_out = 2.0 * end.final.held_out
        return SearchEnd(end.model, end.status, end.n_steps, held_out, history)

    def _layout(self, model: IORNN) -> Layout:
        powers = polynomial_powers(model.activation, model.n_hidden)
        return Layout(
            model.n_inputs,
            model.n_hidden,
            model.n_outputs,
            direct=True,
            free_coefficients=powers if self.problem.settings.free_coefficients else (),
        )


def _linear_units(model: IORNN) -> IntArray:
    units = getattr(model.activation, "units", (model.activation,) * model.n_hidden)
    return np.flatnonzero([unit.degree == 1 for unit in units])


def _stable(U: Array, linear_units: IntArray, radius: float) -> Array:
    """Recurrence with the poles of the linear units inside a circle; itself if they are."""
    block = U[np.ix_(linear_units, linear_units)]
    inside = pulled_inside(block, radius)
    if inside is block:
        return U
    U = U.copy()
    U[np.ix_(linear_units, linear_units)] = inside
    return U
