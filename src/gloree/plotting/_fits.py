"""Checks before a fit, and what a fit reports: units, scores, directions, stages and residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import (
    COLOURS,
    GREY,
    LIGHT,
    MARKERS,
    made_by,
    new_axes,
    series,
    tidy,
    top_legend,
    with_unit,
    wrapped,
)
from gloree.sequences import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.decomposition import RankChoice
    from gloree.diagnostics import FitReport
    from gloree.recurrence import Directions
    from gloree.score_functions import ScoreCheck

REPORT = "a FitReport (`report_` of a fitted estimator)"
"""What `plot_report` and `plot_history` draw."""

GUESS, CERTAIN = 5.0, 20.0
"""Margins below which a direction is a guess, and above which it is beyond doubt."""

LARGEST = 1e12  # larger margins are drawn at this place
MAX_NAMED = 40  # labels of units on the axis, at most


def plot_directions(directions: Directions, *, ax: Axes | None = None) -> Axes:
    """Draw the evidence for the direction of every hidden unit.

    A row for each unit shows the margin of its direction, to the right for forward units and to the
    left for backward ones, linear up to 5 and logarithmic beyond. Within the grey band a direction
    is a guess, outside the dashed lines (20) it is beyond doubt. Forward units come first, the
    surest one on top; undetermined units are grey. Units are numbered as in `directions`, which are
    ``report_.directions`` of the fit of a bidirectional network, not as in the fitted model.

    Raises a ValueError for None, the directions of a network of one direction.
    """
    if directions is None:
        raise ValueError(
            "`directions` is None: only the fit of a bidirectional network looks for directions"
        )
    forward, unknown = directions.forward, directions.undetermined
    n_units = forward.shape[0]
    ax = new_axes(ax, (5.5, min(max(2.6, 1.2 + 0.26 * n_units), 9.0)))
    margin = np.clip(np.nan_to_num(directions.margin), -LARGEST, LARGEST)
    value = np.where(forward, margin, -margin)
    # forward units first, undetermined ones next, then backward ones, by evidence within each
    group = np.where(unknown, 1, np.where(forward, 0, 2))
    order = np.lexsort((-value, group))
    row = np.argsort(order)
    ax.axvspan(-GUESS, GUESS, color=LIGHT, alpha=0.6, lw=0, zorder=0)
    ax.axvline(0, color=GREY, lw=1, zorder=1)
    for side in (-CERTAIN, CERTAIN):
        ax.axvline(side, color=GREY, lw=1, ls="--", zorder=1)
    kinds = ("forward", COLOURS[0]), ("undetermined", GREY), ("backward", COLOURS[1])
    for number, marker in zip((0, 2, 1), MARKERS, strict=False):
        (name, colour), shown = kinds[number], group == number
        if not shown.any():
            continue
        face, label = "white" if number == 1 else colour, f"{int(shown.sum())} {name}"
        ax.hlines(row[shown], 0, value[shown], color=colour, lw=2.5, zorder=2)
        ax.plot(value[shown], row[shown], marker, c=colour, mfc=face, ms=7, zorder=3, label=label)
    largest = max(100.0, float(np.abs(value).max(initial=0.0)))
    ax.set_xscale("symlog", linthresh=GUESS, linscale=0.7)
    decades = int(np.ceil(np.log10(largest)))
    every = -(-decades // 4)
    powers = 10.0 ** np.arange(every, decades + 1, every)
    ticks = np.concatenate((-powers[::-1], [0.0], powers))
    marks = [f"{t:,.0f}" if t < 1e4 else f"$10^{{{np.log10(t):.0f}}}$" for t in np.abs(ticks)]
    ax.set_xticks(ticks, marks)
    ax.set_xticks([], minor=True)
    ax.set_xlim(-3.0 * largest, 3.0 * largest)
    step = -(-n_units // MAX_NAMED)
    labels = [str(int(unit)) for unit in order[::step]]
    ax.set_yticks(np.arange(0, n_units, step), labels, fontsize=9 if n_units <= 20 else 7)
    arrows = r"backward $\longleftarrow$ evidence $\longrightarrow$ forward"
    ax.set_xlabel(f"{arrows}\n(grey: a guess; beyond the dashed lines: no doubt)")
    ax.set(ylabel="unit", ylim=(n_units - 0.4, -0.6))
    top_legend(ax)
    return tidy(ax)


def plot_singular_values(choice: RankChoice, *, ax: Axes | None = None) -> Axes:
    """Draw the singular values behind a result of `gloree.decomposition.choose_rank`.

    They are those of the moment's unfoldings, with the largest one of the noise, and the choice.
    """
    wanted = ("singular_values", "output_singular_values")
    made_by("choice", choice, "a RankChoice (of `choose_rank`)", *wanted)
    ax = new_axes(ax)
    both = (("inputs", choice.singular_values), ("outputs", choice.output_singular_values))
    floor = 1e-16 * max(float(values.max()) for _, values in both)
    for i, (name, values) in enumerate(both):
        (colour, marker), label = series(i), f"unfolded along the {name}"
        numbers, shown = np.arange(1, values.size + 1), np.maximum(values, floor)
        ax.semilogy(numbers, shown, marker=marker, color=colour, lw=1, ms=6, label=label)
    noise, rank = choice.noise_level, choice.rank
    if np.isfinite(noise) and noise > floor:
        ax.axhline(noise, color=GREY, ls="--", lw=1, label="largest of noise")
    ax.axvline(rank + 0.5, color="black", ls=":", lw=1.2, label="number chosen")
    longest = max(values.size for _, values in both)
    ax.set_xticks(range(1, longest + 1, -(-longest // 15)))
    ax.set(xlabel="number", ylabel="singular value of the moment")
    ax.set_title(f"{'at least ' if choice.is_lower_bound else ''}{rank} hidden units")
    ax.legend(frameon=False)
    return tidy(ax)


def plot_score_check(
    check: ScoreCheck | Mapping[str, ScoreCheck], *, ax: Axes | None = None
) -> Axes:
    """Draw the Stein defect and the radius rho of one or several score checks.

    A mapping of names to results of `gloree.score_functions.check_score` gives a row for each; an
    empty one raises a ValueError. Bars are two standard errors. The score may be used where the
    defect lies in the white part and rho left of its line.
    """
    from gloree.score_functions import DOUBTFUL, FINE

    checks = dict(check) if isinstance(check, Mapping) else {"inputs": check}
    if not checks:
        raise ValueError("`check` is an empty mapping: nothing to draw")
    for each in checks.values():
        made_by("check", each, "a ScoreCheck (of `check_score`)", "defect", "radius")
    ax = new_axes(ax)
    rows, found = np.arange(len(checks), dtype=np.float64), list(checks.values())
    defects = "Stein defect", [c.defect for c in found], [c.defect_error for c in found]
    radii = r"radius $\rho$", [c.radius for c in found], [c.radius_error for c in found]
    for i, (label, values, errors) in enumerate((defects, radii)):
        (colour, marker), y, bars = series(i), rows + (0.12, -0.12)[i], 2 * np.asarray(errors)
        ax.errorbar(
            values, y, xerr=bars, fmt=marker, color=colour, ms=7, capsize=2, zorder=3, label=label
        )
    right = 1.08 * max(1.1, *(max(c.defect + 2 * c.defect_error, c.radius) for c in found))
    ax.axvspan(FINE, DOUBTFUL, color=LIGHT, alpha=0.5, lw=0)
    ax.axvspan(DOUBTFUL, right, color=LIGHT, lw=0)
    ax.axvline(1.0, color=COLOURS[1], ls="--", lw=1, label=r"limit of $\rho$")
    ax.set(xlim=(min(0.0, -0.02 * right), right), ylim=(-0.6, len(checks) - 0.4))
    ax.set_yticks(rows, [wrapped(f"{name}: {c.status}", 24) for name, c in checks.items()])
    ax.invert_yaxis()
    shades = f"white: defect below {FINE}, fine; dark: above {DOUBTFUL}"
    ax.set_xlabel(f"Stein defect and radius\n({shades})")
    top_legend(ax)
    return tidy(ax)


def plot_report(report: FitReport, *, ax: Axes | None = None) -> Axes:
    """Draw the time that each stage of a fit took, from ``report_`` of a fitted estimator.

    Raises a ValueError if the report has no stages.
    """
    made_by("report", report, REPORT, "stages", "sizes")
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

    `report` is ``report_`` of a fitted estimator, `unit` that of the outputs, for the label. Steps
    go up to the best one, with lines for the outputs themselves and for the residual after
    refinement. Raises a ValueError if the report has no history.
    """
    made_by("report", report, REPORT, "history", "moments_rmse")
    if not report.history or report.moments_rmse is None or report.output_std is None:
        raise ValueError(
            "`report` has no history: only fits of outputs by polynomials of degree 2 and 3, from "
            "moments, have one (not those of labels, of other activations, or from earlier weights)"
        )
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
