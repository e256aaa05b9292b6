"""Checks before and during a fit: the number of units, and the score of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import COLOURS, GREY, LIGHT, legend_above, new_axes, series, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.decomposition import RankChoice
    from gloree.score_functions import ScoreCheck


def plot_singular_values(choice: RankChoice, *, ax: Axes | None = None) -> Axes:
    """Draw the singular values behind a choice of the number of hidden units.

    Parameters
    ----------
    choice : RankChoice
        The result of `gloree.decomposition.choose_rank`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Singular values of the moment's unfoldings, the largest one of the noise, and the choice.
    """
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
    bound = "at least " if choice.is_lower_bound else ""
    ax.set(xlabel="number", ylabel="singular value of the moment")
    ax.set_title(f"{bound}{rank} hidden units")
    ax.legend(frameon=False)
    return tidy(ax)


def plot_score_check(
    check: ScoreCheck | Mapping[str, ScoreCheck], *, ax: Axes | None = None
) -> Axes:
    """Draw the Stein defect and the radius rho of one or several score checks.

    Parameters
    ----------
    check : ScoreCheck or mapping of str to ScoreCheck
        Results of `gloree.score_functions.check_score`; a mapping draws a row for each name.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Bars are two standard errors. The score may be used where the defect lies in the white
        part and rho left of its line.

    Raises
    ------
    ValueError
        If the mapping is empty.
    """
    from gloree.score_functions._verdict import DOUBTFUL, FINE

    checks = dict(check) if isinstance(check, Mapping) else {"inputs": check}
    if not checks:
        raise ValueError("`check` is an empty mapping: nothing to draw")
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
    ax.set_yticks(rows, [f"{name}: {c.status}" for name, c in checks.items()])
    ax.invert_yaxis()
    ax.set_xlabel(f"defect (white: fine, below {FINE}; grey: fails, above {DOUBTFUL}) and radius")
    legend_above(ax)
    return tidy(ax)
