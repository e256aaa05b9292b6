"""Where a search by Levenberg-Marquardt stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gloree.models import Network
from gloree.refinement._search_sums import NormalSums
from gloree.refinement._sensitivities import SquareSums
from gloree.refinement._solvers import RefinementStatus
from gloree.sequences import Array


class OutOfTimeError(Exception):
    """No time is left for another pass."""


@dataclass(frozen=True)
class SearchState:
    """Where a search stands.

    `scale` is what the damping multiplies, (n_free,), `slow` the number of steps in a row that
    gained little; `status` is set at the end. `solved` tells that the output weights are those of
    least error, nearly: the first step, from where they are not, is judged without their own step,
    which would make some use of states that have gone astray. `worth` is what the step before was
    to gain, `kept` tells that J^T J is of another model (see `Taken`).
    """

    model: Network
    sums: NormalSums
    squares: SquareSums
    damping: float
    scale: Array
    slow: int = 0
    status: RefinementStatus | None = None
    solved: bool = False
    worth: float = 0.0
    kept: bool = False


def mean_of(sums: SquareSums | None) -> float:
    """Squared error per row; infinite if it is not finite, or there is none."""
    return sums.mean if sums is not None and math.isfinite(sums.mean) else math.inf
