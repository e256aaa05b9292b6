"""Checks before and during a fit: the number of units, and the score of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gloree.plotting._style import COLOURS, GREY, LIGHT, MARKERS, new_axes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.decomposition import RankChoice
    from gloree.score_functions import ScoreCheck


def plot_singular_values(choice: RankChoice, *, ax: Axes | None = None) -> Axes:
    """Draw the singular values behind a choice of the number of hidden units.

    Parameters
    ----------
    choice : RankChoice
        Of `gloree.decomposition.choose_rank`.
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
        ax.semilogy(
            np.arange(1, values.size + 1),
            np.maximum(values, floor),
            marker=MARKERS[i],
            color=COLOURS[i],
            linewidth=1,
            markersize=6,
            label=f"unfolded along the {name}",
        )
    if np.isfinite(choice.noise_level) and choice.noise_level > floor:
        ax.axhline(
            choice.noise_level, color=GREY, linestyle="--", linewidth=1, label="largest of noise"
        )
    bound = "at least " if choice.is_lower_bound else ""
    ax.axvline(
        choice.rank + 0.5, color="black", linestyle=":", linewidth=1.2, label="number chosen"
    )
    longest = max(values.size for _, values in both)
    step = -(-longest // 15)
    ax.set_xticks(range(1, longest + 1, step))
    ax.set(
        xlabel="number",
        ylabel="singular value of the moment",
        title=f"{bound}{choice.rank} hidden units",
    )
    ax.legend(frameon=False)
    return tidy(ax)


def plot_score_check(
    check: ScoreCheck | Mapping[str, ScoreCheck], *, ax: Axes | None = None
) -> Axes:
    """Draw the Stein defect and the radius rho of one or several score checks.

    Parameters
    ----------
    check : ScoreCheck or mapping of str to ScoreCheck
        Of `gloree.score_functions.check_score`; a mapping from names draws a row for each.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Bars are two standard errors. The score may be used where the defect lies in the white
        part and rho left of its line.
    """
    from gloree.score_functions import DOUBTFUL, FINE

    checks = dict(check) if isinstance(check, Mapping) else {"inputs": check}
    if not checks:
        raise ValueError("`check` is an empty mapping: nothing to draw")
    ax = new_axes(ax)
    rows = np.arange(len(checks), dtype=np.float64)
    found = list(checks.values())
    for i, (label, values, errors) in enumerate(
        (
            ("Stein defect", [c.defect for c in found], [c.defect_error for c in found]),
            (r"radius $\rho$", [c.radius for c in found], [c.radius_error for c in found]),
        )
    ):
        ax.errorbar(
            values,
            rows + (0.12, -0.12)[i],
            xerr=2 * np.asarray(errors),
            fmt=MARKERS[i],
            color=COLOURS[i],
            markersize=7,
            capsize=2,
            label=label,
            zorder=3,
        )
    right = 1.08 * max(1.1, *(max(c.defect + 2 * c.defect_error, c.radius) for c in found))
    ax.axvspan(FINE, DOUBTFUL, color=LIGHT, alpha=0.5, linewidth=0)
    ax.axvspan(DOUBTFUL, right, color=LIGHT, linewidth=0)
    ax.axvline(1.0, color=COLOURS[1], linestyle="--", linewidth=1, label=r"limit of $\rho$")
    ax.set(xlim=(min(0.0, -0.02 * right), right), ylim=(-0.6, len(checks) - 0.4))
    ax.set_yticks(rows, [f"{name}: {c.status}" for name, c in checks.items()])
    ax.invert_yaxis()
    ax.set_xlabel(f"defect (white: fine, below {FINE}; grey: fails, above {DOUBTFUL}) and radius")
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return tidy(ax)
