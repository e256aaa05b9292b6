"""What a solver is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from gloree.engine import Engine, Selection
from gloree.models import Network
from gloree.refinement._layout import Layout
from gloree.refinement._losses import Loss
from gloree.refinement._solution import Progress, Solution


@runtime_checkable
class Solver(Protocol):
    """Settings of a minimisation, and the minimisation.

    `GaussNewton` is for squared errors from a start as good as moments give, `LevenbergMarquardt`
    for squared errors from starts that are far away, `LBFGS` for every loss.
    """

    @property
    def name(self) -> str:
        """Name of the stage, as reports show it."""

    def minimise(
        self,
        loss: Loss,
        model: Network,
        layout: Layout,
        engine: Engine,
        data: Selection,
        *,
        held_out: Selection | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Minimise a loss over the free weights.

        Parameters
        ----------
        loss : Loss
        model : IORNN or BRNN
            The start.
        layout : Layout
            The free weights.
        engine : Engine
        data : Source or Subset
            What the weights are fitted to.
        held_out : Source or Subset, optional
            What they are judged by. The start must not have been fitted to it.
        progress : callable, optional
            Called with (step, loss a row, share correct) for the start and after each step, of
            held-out data where there are any.

        Returns
        -------
        Solution

        Raises
        ------
        ValueError
            If the solver cannot serve the loss or the kind of data.
        """


def refuse_other_losses(solver: str, loss: Loss) -> None:
    """Raise an error where a solver for squared errors is given another loss."""
    if not loss.least_squares:
        raise ValueError(
            f"{solver} cannot minimise `loss`, the {loss.name}: it needs half a sum of squared "
            f"residuals (`SquaredError`). Use `LBFGS`, which takes every loss"
        )
