"""Colours, markers and axes that all figures share."""

from __future__ import annotations

from functools import cache, partial
from textwrap import fill
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gloree._extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import ScalarFormatter

Given = TypeVar("Given")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe-Ito colours, in the order in which series take them."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of series, in the same order."""

LARGE = 1e5  # ticks from here on are written with a power of ten
LONGEST_ENTRY = 44  # characters in a line of a legend
CHARACTER, HANDLE = 0.08, 0.5  # inches that a letter takes in a legend, and what stands beside it

GREY = "#767676"
LIGHT = "#D9D9D9"
MAX_POINTS = 5000
"""Points of a scatter at most; of more, evenly spaced ones are shown."""


def new_axes(ax: Axes | None, size: tuple[float, float] = (5.5, 4.0)) -> Axes:
    """Return `ax`, or the axes of a new figure of that size (inches)."""
    if ax is not None:
        return made_by("ax", ax, "axes of Matplotlib, or None", "plot", "set_xlabel")
    pyplot = require("matplotlib.pyplot", "plot", "gloree.plotting")
    axes: Axes = pyplot.subplots(figsize=size, layout="constrained")[1]
    return axes


def made_by(name: str, value: Given, expected: str, *attributes: str) -> Given:
    """Give a value that has these attributes; a TypeError else, with what was expected."""
    if not all(hasattr(value, each) for each in attributes):
        raise TypeError(f"`{name}` is of type {type(value).__name__}, expected {expected}")
    return value


def series(i: int) -> tuple[str, str]:
    """Colour and marker of series number i: 49 different pairs."""
    n = len(COLOURS)
    return COLOURS[i % n], MARKERS[(i + i // n) % n]


def wrapped(text: str, width: int = 30) -> str:
    """Break a long label into lines of so many characters; what has its own breaks keeps them."""
    return "\n".join(fill(line, width, break_long_words=False) for line in text.split("\n"))


def top_legend(ax: Axes, ncols: int = 3, columnspacing: float | None = None) -> None:
    """Draw the legend above the axes, at their left end, in as many columns as have room."""
    handles, labels = ax.get_legend_handles_labels()
    labels = [wrapped(label, LONGEST_ENTRY) for label in labels]
    sizes = [CHARACTER * max(map(len, label.split("\n"))) + HANDLE for label in labels]
    room = 1.1 * ax.get_window_extent().width / ax.figure.dpi

    def width(columns: int) -> float:
        rows = max(1, -(-len(sizes) // columns))  # entries run down the columns
        return sum(max(sizes[i : i + rows]) for i in range(0, len(sizes), rows))

    ncols = next((n for n in range(ncols, 1, -1) if width(n) <= room), 1)
    draw = partial(ax.legend, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    draw(handles, labels, frameon=False, ncols=ncols, columnspacing=columnspacing)


@cache
def _short_ticks() -> type[ScalarFormatter]:
    """Class of a formatter of ticks, made when Matplotlib is there."""
    from matplotlib.ticker import ScalarFormatter

    class ShortTicks(ScalarFormatter):
        """Large and tiny numbers as 2.5e6, each tick whole: nothing hides in a corner."""

        short = False

        def format_ticks(self, values: list[float]) -> list[str]:
            """Texts of all ticks of an axis."""
            texts = super().format_ticks(values)
            size = float(np.max(np.abs(values), initial=0.0))
            self.short = bool(super().get_offset()) or size >= LARGE
            if not self.short:
                return texts
            kept = [value if abs(value) > 1e-9 * size else 0.0 for value in values]
            parts = [f"{value:.5e}".split("e") for value in kept]
            found = [
                self.fix_minus(f"{float(digits):g}e{int(power)}" if float(digits) else "0")
                for digits, power in parts
            ]
            if len(set(found)) == len(found):
                return found
            self.short = False  # they differ in later digits: an offset is shorter
            return texts

        def get_offset(self) -> str:
            """Text in the corner: none where ticks are whole."""
            return "" if self.short else str(super().get_offset())

    return ShortTicks


def tidy(ax: Axes) -> Axes:
    """Hide the upper and the right edge of the axes; wrap long labels; write ticks whole."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(wrapped(ax.get_xlabel(), 50))
    ax.set_ylabel(wrapped(ax.get_ylabel(), 36))
    ticks = _short_ticks()
    for axis in (ax.xaxis, ax.yaxis):
        if type(axis.get_major_formatter()) is ticks.__base__:
            axis.set_major_formatter(ticks())
    return ax


def with_unit(name: str, unit: str) -> str:
    """Label of an axis."""
    return f"{name} ({unit})" if unit else name
