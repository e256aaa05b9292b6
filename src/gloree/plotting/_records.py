"""Measured and predicted outputs over time, and their residuals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gloree._frames import with_columns
from gloree._parameters import check_integer, check_number, check_place
from gloree.plotting._style import COLOURS, GREY, MAX_POINTS, new_axes, tidy, top_legend, with_unit
from gloree.sequences import Array, IntArray, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_prediction(
    Y: ArrayLike | Sequence[ArrayLike],
    predictions: ArrayLike | Sequence[ArrayLike],
    *,
    sequence: int = 0,
    output: int = 0,
    steps: slice | None = None,
    lengths: ArrayLike | None = None,
    sample_time: float | None = None,
    name: str = "output",
    unit: str = "",
    residual: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw measured and predicted outputs of one sequence over time.

    Raises a ValueError if the two do not fit together, or there is no such output, sequence or
    step.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form (see `gloree.sequences.as_sequences`).
    sequence, output : int, default 0
        Which sequence and output; negative ones count from the end.
    steps : slice, optional
        Which steps of it; all by default.
    lengths : sequence of int, optional
        Steps of each sequence, for flat arrays.
    sample_time : float, optional
        Seconds between steps; without it the axis counts steps.
    name, unit : str
        Of the output, for the label.
    residual : bool, default True
        Whether to draw the difference as well.
    """
    truth, estimate, starts = _columns(Y, predictions, lengths, output)
    n_sequences = starts.shape[0] - 1
    sequence = check_place("sequence", sequence, n_sequences, f"`Y` has {n_sequences} sequence(s)")
    rows = np.arange(starts[sequence], starts[sequence + 1])
    time = np.arange(rows.size)
    if steps is not None:
        if not isinstance(steps, slice):
            raise TypeError(f"`steps` must be a slice, got {steps!r:.100}")
        n_steps = rows.size
        rows, time = rows[steps], time[steps]
        if not rows.size:
            raise ValueError(f"`steps`={steps} leaves none of the {n_steps} steps")
    if sample_time is not None:
        check_number("sample_time", sample_time, above=0.0)
    ax = new_axes(ax)
    x = time if sample_time is None else time * sample_time
    y, predicted = truth[rows], estimate[rows]
    draw = partial(ax.plot, marker="o" if x.size == 1 else None)  # one step has no line
    draw(x, y, color="black", lw=1.4, label="measured")
    draw(x, predicted, color=COLOURS[1], ls="--", lw=1.4, label="predicted")
    if residual:
        draw(x, y - predicted, color=COLOURS[0], lw=0.9, label="difference")
    ends = (float(x[0]), float(x[-1])) if x.size > 1 else None
    ax.set(xlabel="time (s)", ylabel=with_unit(name, unit), xlim=ends)
    if sample_time is None:
        ax.set_xlabel("step")
        ax.locator_params(axis="x", integer=True)
    top_legend(ax)
    return tidy(ax)


def plot_residuals(
    Y: ArrayLike | Sequence[ArrayLike],
    predictions: ArrayLike | Sequence[ArrayLike],
    *,
    output: int = 0,
    skip: int = 0,
    lengths: ArrayLike | None = None,
    name: str = "output",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw residuals against predictions; they should show no pattern.

    At most 5,000 points are drawn, evenly spaced; line and band are the mean and the standard
    deviation of all residuals in twenty ranges of the predictions.

    Raises a ValueError if the two do not fit together, or `skip` leaves no step.

    Parameters
    ----------
    Y, predictions, output, lengths, name, unit
        As in `plot_prediction`.
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    """
    skip = check_integer("skip", skip, 0)
    truth, estimate, starts = _columns(Y, predictions, lengths, output)
    steps = np.arange(truth.size) - np.repeat(starts[:-1], np.diff(starts))
    counted = np.flatnonzero(steps >= skip)
    if counted.size == 0:
        longest = steps.max() + 1
        raise ValueError(f"`skip`={skip} leaves no steps: the longest sequence has {longest}")
    x, r = estimate[counted], (truth - estimate)[counted]
    ax = new_axes(ax)
    shown = np.linspace(0, x.size - 1, min(x.size, MAX_POINTS)).astype(np.int64)
    blue, red = COLOURS[:2]
    size, alpha = (2.5, 0.4) if shown.size > 200 else (6.0, 0.7)
    ax.plot(x[shown], r[shown], ".", color=blue, ms=size, alpha=alpha, zorder=1, label="steps")
    parts = np.array_split(np.argsort(x, kind="stable"), min(20, x.size))
    found = [(x[part].mean(), r[part].mean(), r[part].std()) for part in parts]
    centre, mean, spread = np.array(found).T
    ax.fill_between(centre, mean - spread, mean + spread, color=red, alpha=0.25, lw=0)
    ax.plot(centre, mean, color=red, lw=1.5, label="mean and one deviation")
    ax.axhline(0, color=GREY, lw=1, zorder=0)
    rms = float(np.sqrt(np.mean(r**2)))
    ax.set_xlabel(with_unit(f"predicted {name}", unit))
    ax.set_ylabel(with_unit("measured - predicted", unit))
    ax.set_title(f"root mean square {rms:.4g} {unit}".rstrip())
    ax.locator_params(axis="x", nbins=6)
    # points may lie anywhere: the legend hides few of them, and shows through
    ax.legend(loc="best", markerscale=7.5 / size, edgecolor="none", borderpad=0.2)
    return tidy(ax)


def _columns(
    Y: object, predictions: object, lengths: ArrayLike | None, output: int
) -> tuple[Array, Array, IntArray]:
    """One output of all sequences, measured and predicted, and the starts of the sequences."""
    columns, starts = [], np.zeros(0, dtype=np.int64)
    for name, given in (("Y", Y), ("predictions", predictions)):
        data = as_sequences(with_columns(given, name), lengths=lengths, name=name)
        column = check_place(
            "output", output, data.n_inputs, f"`{name}` has {data.n_inputs} columns"
        )
        columns.append(np.asarray(data.X[:, column], dtype=np.float64))
        starts = data.starts if name == "Y" else starts
    truth, estimate = columns
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has {truth.shape[0]} steps, `predictions` {estimate.shape[0]}")
    return truth, estimate, starts
