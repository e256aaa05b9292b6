"""Estimated weights against the true ones, and errors against sample size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gloree.metrics import align
from gloree.plotting._style import GREY, LIGHT, made_by, new_axes, series, tidy
from gloree.sequences import Array, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.models import Network

MATRICES = ("input_weights", "output_weights", "recurrent_weights")
"""Weights of a network of one direction that are shown by default."""

DIRECTED_MATRICES = (
    *("forward_input_weights", "backward_input_weights", "output_weights"),
    *("forward_recurrent_weights", "backward_recurrent_weights"),
)
"""Weights of a bidirectional network that are shown by default."""

FEW = 4  # curves whose legend finds a place between them

SYMBOLS = {
    "input_weights": "input $A_1$",
    "output_weights": "output $A_2$",
    "recurrent_weights": "recurrent $U$",
    "forward_input_weights": "forward $A_1$",
    "backward_input_weights": "backward $B_1$",
    "forward_recurrent_weights": "forward $U$",
    "backward_recurrent_weights": "backward $V$",
    "hidden_bias": "hidden bias $b$",
    "output_bias": "output bias $c$",
    "direct_weights": "direct $D$",
}
"""Names of the weights in legends."""


def plot_weights(
    model: Network,
    truth: Network,
    *,
    standard_errors: Mapping[str, ArrayLike] | None = None,
    weights: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw estimated against true weights, after the symmetries have been undone.

    Raises a ValueError if weights are not those of the models, or standard errors have other
    shapes.

    Parameters
    ----------
    model, truth : IORNN or BRNN
        Of the same class, shapes and activation.
    standard_errors : mapping of str to array, optional
        `FitReport.standard_errors` of the fit that gave `model`: bars of two standard errors.
    weights : sequence of str, optional
        Weights to show, by their names in the constructor of the network; by default all input,
        recurrent and output weights.
    """
    table = weight_table(model, truth, standard_errors, weights)
    ax = new_axes(ax)
    for i, (name, target, estimate, errors) in enumerate(table):
        (colour, marker), label = series(i), SYMBOLS.get(name, name)
        if errors is not None:
            bars = 2 * errors
            ax.errorbar(target, estimate, bars, fmt="none", ecolor=colour, elinewidth=1, zorder=2)
        ax.plot(target, estimate, marker, color=colour, ms=5, alpha=0.8, zorder=3, label=label)
    values = np.concatenate([part for _, *pair, _ in table for part in pair])
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low if high > low else 1.0)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=GREY, lw=1, zorder=1)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set(xlabel="true weight", ylabel="estimated weight")
    ax.locator_params(nbins=6)
    ax.set_yticks([tick for tick in ax.get_xticks() if ends[0] <= tick <= ends[1]])
    ax.set_xticks(ax.get_yticks())
    ax.legend(frameon=False, loc="upper left", borderaxespad=0.2, handletextpad=0.2)
    return tidy(ax)


def plot_weight_errors(
    model: Network,
    truth: Network,
    standard_errors: Mapping[str, ArrayLike],
    *,
    weights: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw (estimate - truth) / standard error of each weight: 95 % should lie within two.

    The parameters are those of `plot_weights`. Raises a ValueError if standard errors are missing,
    or weights are not those of the models.
    """
    ratios = {}
    for name, target, estimate, errors in weight_table(model, truth, standard_errors, weights):
        if errors is None:
            raise ValueError(
                f"`standard_errors` has no {name!r}: fit with refine='one-step' or 'full', or "
                f"leave these weights out of `weights`"
            )
        ratios[name] = (estimate - target) / np.where(errors > 0, errors, np.inf)
    ax = new_axes(ax)
    ax.axhspan(-2, 2, color=LIGHT, alpha=0.6, lw=0, zorder=0)
    ax.axhline(0, color=GREY, lw=1, zorder=1)
    start = 0
    for i, (name, values) in enumerate(ratios.items()):
        (colour, marker), at = series(i), start + np.arange(values.size)
        ax.plot(at, values, marker, color=colour, ms=5, label=SYMBOLS.get(name, name))
        start += values.size + 2
    sizes = np.abs(np.concatenate(list(ratios.values())))
    # a legend of two rows needs more room
    limit = (1.1 if len(ratios) <= 3 else 1.4) * max(4.0, float(sizes.max()))
    ax.set(ylim=(-limit, limit), xlabel="weight (one after another)")
    ax.set_ylabel("error / standard error")
    ax.set_title(f"{np.sum(sizes <= 2)} of {sizes.size} within two standard errors")
    ax.set_xticks([])
    ax.legend(frameon=False, loc="upper center", ncols=3, columnspacing=1.0, handletextpad=0.2)
    return tidy(ax)


def weight_table(
    model: Network,
    truth: Network,
    standard_errors: Mapping[str, ArrayLike] | None,
    weights: Sequence[str] | None,
) -> list[tuple[str, Array, Array, Array | None]]:
    """Names, true and estimated values and standard errors, with units matched."""
    aligned = align(model, truth)
    estimates, targets = aligned.model.arrays(), aligned.truth.arrays()
    present = [name for name, values in targets.items() if values is not None and values.size]
    if weights is None:
        known = MATRICES if set(MATRICES) <= set(estimates) else DIRECTED_MATRICES
        weights = [name for name in known if name in present]
    elif not weights:
        raise ValueError("`weights` is empty: nothing to draw")
    table = []
    for name in weights:
        estimate, target = estimates.get(name), targets.get(name)
        if estimate is None or target is None or not target.size:
            raise ValueError(
                f"`weights` names {name!r}, which the models do not have; they have "
                f"{', '.join(present)}"
            )
        errors = None
        if standard_errors is not None and name in standard_errors:
            errors = np.asarray(standard_errors[name], dtype=np.float64)
            if errors.shape != estimate.shape:
                raise ValueError(
                    f"`standard_errors[{name!r}]` has shape {errors.shape}, the weights have "
                    f"{estimate.shape}"
                )
            errors = _reordered(name, errors, aligned.order, aligned.truth.n_forward).ravel()
        table.append((name, target.ravel(), estimate.ravel(), errors))
    return table


def _reordered(name: str, values: Array, order: IntArray, n_forward: int) -> Array:
    """Put an array with a row for each unit into the order in which the units were matched."""
    if name in ("output_bias", "direct_weights"):
        return values
    if name.startswith("forward_"):
        order = order[:n_forward]
    elif name.startswith("backward_"):
        order = order[n_forward:] - n_forward
    return values[np.ix_(order, order)] if name.endswith("recurrent_weights") else values[order]


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

    Raises a ValueError if there is no curve, or shapes do not fit together.

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
    """
    made_by("errors", errors, "a mapping of names to errors", "items")
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
    lowest, draw = np.inf, partial(ax.errorbar, lw=1.2, ms=5, elinewidth=1, capsize=2)
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
        draw(at, middle, bars, fmt=f"{marker}-", color=colour, label=name)
        lowest = min(lowest, float(np.min(middle * np.sqrt(at))))
    if guide and np.isfinite(lowest) and sizes.min() < sizes.max():
        ends = np.array([sizes.min(), sizes.max()])
        heights = 0.6 * lowest / np.sqrt(ends)
        ax.plot(ends, heights, color=GREY, ls="--", lw=1)
        note = partial(ax.annotate, ha="right", va="top", color=GREY, textcoords="offset points")
        note("slope \N{MINUS SIGN}1/2", (float(ends[1]), float(heights[1])), xytext=(0, -3))
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    if sizes.max() < 100 * sizes.min():
        # the range holds hardly a power of ten: label the sizes themselves
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(y=0.12)
    ax.grid(True, which="major", color=LIGHT, lw=0.6)
    ax.set_axisbelow(True)
    if len(curves) > FEW:  # they leave no corner free
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        ax.legend(frameon=False)
    return tidy(ax)
