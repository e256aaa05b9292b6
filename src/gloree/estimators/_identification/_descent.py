"""The search that starts, polish and refinement share: least simulation error, kept stable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gloree.engine import Subset
from gloree.estimators._identification._state import Identification, percent
from gloree.identification import pulled_inside
from gloree.models import IORNN
from gloree.refinement import (
    Layout,
    LevenbergMarquardt,
    Solution,
    SquaredError,
    polynomial_powers,
)


def descend(
    fit: Identification,
    model: IORNN,
    data: Subset,
    *,
    max_steps: int,
    max_seconds: float = math.inf,
    judged: bool = True,
    damping: float = 1e-3,
) -> Solution:
    """Levenberg-Marquardt with linear units unbiased, stable and forgetful within the warm-up.

    Coefficients of polynomial units are free where the settings say so.
    The weights that are best on held-out data are kept; if not `judged`, those of least error on
    the data: the least-squares estimate.
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

    def progress(step: int, loss: float, share: float) -> None:
        if fit.bar is not None:
            kind = "held-out" if judged else "error"
            fit.bar.set_postfix_str(f"step {step}, {kind} {percent(math.sqrt(2 * loss))}")

    solver = LevenbergMarquardt(max_steps, max_seconds, damping, free, stable, fit.clock)
    return solver.minimise(
        SquaredError(),
        model,
        layout,
        fit.settings.engine,
        data,
        held_out=fit.held_out if judged else None,
        progress=progress,
    )
