"""Which way the units of a bidirectional network run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import COLOURS, GREY, LIGHT, MARKERS, new_axes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.recurrence import Directions

GUESS, CERTAIN = 5.0, 20.0
"""Margins below which a direction is a guess, and above which it is beyond doubt."""

LARGEST = 1e12  # margins beyond this are drawn here
MAX_NAMED = 40  # units that are all named on the axis; of more, some are


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
        direction is a guess, outside the dashed lines (20) it is beyond doubt. Forward units stand
        first, the surest of them on top; undetermined units are grey. Numbers of units are those
        of `directions`, not of the fitted model.

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
    # Forward units first, undetermined ones between the two kinds, by evidence within each.
    kind = np.where(unknown, 1, np.where(forward, 0, 2))
    order = np.lexsort((-value, kind))
    row = np.empty(n_units)
    row[order] = np.arange(n_units)
    ax.axvspan(-GUESS, GUESS, color=LIGHT, alpha=0.6, linewidth=0, zorder=0)
    ax.axvline(0, color=GREY, linewidth=1, zorder=1)
    for side in (-CERTAIN, CERTAIN):
        ax.axvline(side, color=GREY, linewidth=1, linestyle="--", zorder=1)
    for i, (name, shown) in enumerate(
        (
            ("forward", forward & ~unknown),
            ("backward", ~forward & ~unknown),
            ("undetermined", unknown),
        )
    ):
        if not shown.any():
            continue
        colour = GREY if name == "undetermined" else COLOURS[i]
        ax.hlines(row[shown], 0, value[shown], color=colour, linewidth=2.5, zorder=2)
        ax.plot(
            value[shown],
            row[shown],
            MARKERS[i],
            color=colour,
            markerfacecolor="white" if name == "undetermined" else colour,
            markersize=7,
            label=f"{int(shown.sum())} {name}",
            zorder=3,
        )
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
    ax.set_yticks(
        np.arange(0, n_units, step),
        [str(int(unit)) for unit in order[::step]],
        fontsize=9 if n_units <= 20 else 7,
    )
    ax.set_ylim(n_units - 0.4, -0.6)
    ax.set(
        xlabel=(
            r"backward $\longleftarrow$ evidence $\longrightarrow$ forward"
            "\n(grey: a guess; beyond the dashed lines: no doubt)"
        ),
        ylabel="unit",
    )
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return tidy(ax)


def _power(value: float) -> str:
    """Label of zero or a power of ten."""
    return f"{value:,.0f}" if value < 10_000 else f"$10^{{{np.log10(value):.0f}}}$"
