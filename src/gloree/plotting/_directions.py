"""The directions in which the units of a bidirectional network run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import COLOURS, GREY, LIGHT, MARKERS, legend_above, new_axes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.recurrence import Directions

GUESS, CERTAIN = 5.0, 20.0
"""Margins below which a direction is a guess, and above which it is beyond doubt."""

LARGEST = 1e12  # larger margins are drawn at this place
MAX_NAMED = 40  # labels of units on the axis, at most


def plot_directions(directions: Directions, *, ax: Axes | None = None) -> Axes:
    """Draw the evidence for the direction of every hidden unit.

    Parameters
    ----------
    directions : Directions
        ``report_.directions`` of the fit of a bidirectional network.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row for each unit: the margin of its direction, to the right for forward units and to
        the left for backward ones, linear up to 5 and logarithmic beyond. Within the grey band a
        direction is a guess, outside the dashed lines (20) it is beyond doubt. Forward units come
        first, the surest one on top; undetermined units are grey. Units are numbered as in
        `directions`, not as in the fitted model.

    Raises
    ------
    ValueError
        If there are no directions, as after the fit of a network of one direction.
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
    ax.set_xticks(ticks, [_power(abs(tick)) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(-3.0 * largest, 3.0 * largest)
    step = -(-n_units // MAX_NAMED)
    labels = [str(int(unit)) for unit in order[::step]]
    ax.set_yticks(np.arange(0, n_units, step), labels, fontsize=9 if n_units <= 20 else 7)
    ax.set(
        xlabel=(
            r"backward $\longleftarrow$ evidence $\longrightarrow$ forward"
            "\n(grey: a guess; beyond the dashed lines: no doubt)"
        ),
        ylabel="unit",
        ylim=(n_units - 0.4, -0.6),
    )
    legend_above(ax)
    return tidy(ax)


def _power(value: float) -> str:
    """Label of zero or a power of ten."""
    return f"{value:,.0f}" if value < 10_000 else f"$10^{{{np.log10(value):.0f}}}$"
