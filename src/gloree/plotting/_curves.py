"""Errors against sample size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gloree.plotting._style import GREY, LIGHT, new_axes, series, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_error_curve(
    n_samples: ArrayLike,
    errors: Mapping[str, ArrayLike],
    *,
    guide: bool = True,
    xlabel: str = "steps in total",
    ylabel: str = "relative error",
    ax: Axes | None = None,
) -> Axes:
    """Draw errors against sample size on logarithmic axes, with a guide of slope -1/2.

    Parameters
    ----------
    n_samples : array of shape (n_sizes,)
    errors : mapping of str to array of shape (n_sizes,) or (n_sizes, n_repetitions)
        A curve for each name; of repetitions the median is drawn, with bars from the smallest to
        the largest. NaN leaves a point out.
    guide : bool, default True
        Whether to draw a line that falls like the square root of the sample size, below the
        lowest curve.
    xlabel, ylabel : str
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no curve, or shapes do not fit together.
    """
    sizes = np.asarray(n_samples, dtype=np.float64)
    if sizes.ndim != 1 or not errors:
        raise ValueError(
            f"`n_samples` has shape {sizes.shape} and `errors` {len(errors)} curves: expected a "
            f"vector of sizes and at least one curve"
        )
    curves = {name: np.asarray(values, dtype=np.float64) for name, values in errors.items()}
    for name, values in curves.items():
        if values.ndim not in (1, 2) or values.shape[0] != sizes.size:
            raise ValueError(
                f"`errors[{name!r}]` has shape {values.shape}, expected ({sizes.size},) or "
                f"({sizes.size}, n_repetitions)"
            )
    ax = new_axes(ax)
    lowest = np.inf
    for i, (name, values) in enumerate(curves.items()):
        table = values[:, None] if values.ndim == 1 else values
        known = np.flatnonzero(np.isfinite(table).any(axis=1))
        if known.size == 0:
            continue
        table, at = table[known], sizes[known]
        middle = np.nanmedian(table, axis=1)
        bars = None
        if table.shape[1] > 1:
            bars = (middle - np.nanmin(table, axis=1), np.nanmax(table, axis=1) - middle)
        colour, marker = series(i)
        style = {"lw": 1.2, "ms": 5, "elinewidth": 1, "capsize": 2}
        ax.errorbar(at, middle, bars, marker=marker, color=colour, label=name, **style)
        lowest = min(lowest, float(np.min(middle * np.sqrt(at))))
    if guide and np.isfinite(lowest):
        ends = np.array([sizes.min(), sizes.max()])
        heights = 0.6 * lowest / np.sqrt(ends)
        ax.plot(ends, heights, color=GREY, ls="--", lw=1)
        end, offset = (float(ends[1]), float(heights[1])), (0, -3)
        place = {"textcoords": "offset points", "ha": "right", "va": "top"}
        ax.annotate("slope -1/2", end, xytext=offset, color=GREY, **place)
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    if sizes.max() < 100 * sizes.min():
        # the range holds hardly a power of ten: label the sizes themselves
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(y=0.12)
    ax.grid(True, which="major", color=LIGHT, lw=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
    return tidy(ax)
