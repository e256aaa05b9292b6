"""Colours, markers and axes that all figures share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gloree._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe-Ito colours, in the order in which series take them."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of series, in the same order."""

GREY = "#767676"
LIGHT = "#D9D9D9"
MAX_POINTS = 5000
"""Points of a scatter at most; of more, evenly spaced ones are shown."""


def new_axes(ax: Axes | None, size: tuple[float, float] = (5.5, 4.0)) -> Axes:
    """Return `ax`, or the axes of a new figure of that size (inches)."""
    if ax is not None:
        return ax
    pyplot = require("matplotlib.pyplot", "plot", "gloree.plotting")
    axes: Axes = pyplot.subplots(figsize=size, layout="constrained")[1]
    return axes


def series(i: int) -> tuple[str, str]:
    """Colour and marker of series number i."""
    return COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]


def top_legend(ax: Axes, ncols: int = 3, columnspacing: float | None = None) -> None:
    """Draw the legend above the axes, at their left end."""
    draw = partial(ax.legend, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    draw(frameon=False, ncols=ncols, columnspacing=columnspacing)


def tidy(ax: Axes) -> Axes:
    """Hide the upper and the right edge of the axes."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def with_unit(name: str, unit: str) -> str:
    """Label of an axis."""
    return f"{name} ({unit})" if unit else name
