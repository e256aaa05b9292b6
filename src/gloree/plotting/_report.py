"""The time of the stages of a fit, and the fall of its residual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import COLOURS, GREY, new_axes, tidy, with_unit
from gloree.sequences import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.diagnostics import FitReport


def plot_report(report: FitReport, *, ax: Axes | None = None) -> Axes:
    """Draw the time that each stage of a fit took.

    Parameters
    ----------
    report : FitReport
        ``report_`` of a fitted estimator.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the report has no stages.

    See Also
    --------
    plot_history : How the residual fell.
    """
    if not report.stages:
        raise ValueError("`report` has no stages: it is not the report of a finished fit")
    ax = new_axes(ax)
    names = [stage.name for stage in report.stages]
    seconds = np.array([stage.seconds for stage in report.stages])
    bars = ax.barh(np.arange(len(names)), seconds, color=COLOURS[0], height=0.6)
    ax.bar_label(bars, [f"{value:.3g}" for value in seconds], padding=3)
    ax.set_yticks(np.arange(len(names)), names)
    ax.invert_yaxis()
    steps = report.sizes.get("steps")
    of = f" for {steps:,} steps" if steps else ""
    ax.set(xlabel="time (s)", title=f"{report.seconds:.2f} s{of}", xlim=(0, 1.15 * seconds.max()))
    return tidy(ax)


def plot_history(report: FitReport, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """Draw how the root mean square residual fell with each step of the moment estimates.

    Parameters
    ----------
    report : FitReport
        ``report_`` of a fitted estimator.
    unit : str
        Of the outputs, for the label.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Steps up to the best one, with lines for the outputs themselves and for the residual after
        refinement.

    Raises
    ------
    ValueError
        If the report has no history.
    """
    if not report.history or report.moments_rmse is None or report.output_std is None:
        raise ValueError("`report` has no history: it is not the report of a finished fit")
    ax = new_axes(ax)
    squares = np.array([value for _, value in report.history])
    best = int(np.argmin(squares))
    # a round that is kept repeats the value of its last inner step: show it once, as the round
    kept = [i for i in range(best + 1) if i == best or squares[i] != squares[i + 1]]
    names = [report.history[i][0] for i in kept]
    if best + 1 < squares.size and squares[best + 1] == squares[best]:
        names[-1] = report.history[best + 1][0]
    rms = np.sqrt(squares[kept] / squares[best]) * _rms(report.moments_rmse)
    x, outputs = np.arange(len(kept)), _rms(report.output_std)
    ax.axhline(outputs, color=GREY, ls="--", lw=1.2, label="outputs")
    ax.semilogy(x, rms, marker="o", color=COLOURS[0], lw=1.2, label="moments")
    if report.refined_rmse is not None:
        refined, label = _rms(report.refined_rmse), "after Gauss-Newton"
        ax.axhline(refined, color=COLOURS[1], ls=":", lw=1.6, label=label)
    ax.set_xticks(x, names, rotation=40, ha="right")
    ax.set_ylabel(with_unit("root mean square residual", unit))
    ax.legend(frameon=False)
    return tidy(ax)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
