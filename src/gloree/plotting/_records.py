"""Measured and predicted outputs over time, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gloree.plotting._style import COLOURS, GREY, MAX_POINTS, new_axes, tidy, with_unit
from gloree.sequences import Array, IntArray, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_prediction(
    Y: Any,
    predictions: Any,
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

    Parameters
    ----------
    Y, predictions : array or list
        In the same form (see `gloree.sequences.as_sequences`).
    sequence, output : int, default 0
        Which sequence and output.
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
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    truth, starts = _column(Y, lengths, output, "Y")
    estimate, _ = _column(predictions, lengths, output, "predictions")
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has {truth.shape[0]} steps, `predictions` {estimate.shape[0]}")
    ax = new_axes(ax)
    rows = np.arange(starts[sequence], starts[sequence + 1])
    time = np.arange(rows.size)
    if steps is not None:
        rows, time = rows[steps], time[steps]
    x = time if sample_time is None else time * sample_time
    ax.plot(x, truth[rows], color="black", linewidth=1.4, label="measured")
    ax.plot(x, estimate[rows], color=COLOURS[1], linestyle="--", linewidth=1.4, label="predicted")
    if residual:
        ax.plot(
            x, truth[rows] - estimate[rows], color=COLOURS[0], linewidth=0.9, label="difference"
        )
    ax.set(
        xlabel="step" if sample_time is None else "time (s)",
        ylabel=with_unit(name, unit),
        xlim=(float(x[0]), float(x[-1])) if x.size > 1 else None,
    )
    if sample_time is None:
        ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    return tidy(ax)


def plot_residuals(
    Y: Any,
    predictions: Any,
    *,
    output: int = 0,
    skip: int = 0,
    lengths: ArrayLike | None = None,
    name: str = "output",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw residuals against predictions: what is left should have no shape.

    Parameters
    ----------
    Y, predictions : array or list
        In the same form.
    output : int, default 0
    skip : int, default 0
        Steps to leave out at the start of every sequence.
    lengths : sequence of int, optional
    name, unit : str
        Of the output, for the labels.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        At most 5,000 points, evenly spaced; line and band: mean and standard deviation of the
        residual over twenty ranges of predictions, of all points.
    """
    truth, starts = _column(Y, lengths, output, "Y")
    estimate, _ = _column(predictions, lengths, output, "predictions")
    if truth.shape != estimate.shape:
        raise ValueError(f"`Y` has {truth.shape[0]} steps, `predictions` {estimate.shape[0]}")
    lengths_ = np.diff(starts)
    steps = np.arange(truth.size) - np.repeat(starts[:-1], lengths_)
    counted = np.flatnonzero(steps >= skip)
    if counted.size == 0:
        raise ValueError(
            f"`skip`={skip} leaves no steps: the longest sequence has {steps.max() + 1}"
        )
    x, r = estimate[counted], (truth - estimate)[counted]
    ax = new_axes(ax)
    shown = np.linspace(0, x.size - 1, min(x.size, MAX_POINTS)).astype(np.int64)
    ax.plot(
        x[shown],
        r[shown],
        ".",
        color=COLOURS[0],
        markersize=2.5,
        alpha=0.4,
        label="steps",
        zorder=1,
    )
    parts = np.array_split(np.argsort(x, kind="stable"), min(20, x.size))
    centre = np.array([x[part].mean() for part in parts])
    mean = np.array([r[part].mean() for part in parts])
    spread = np.array([r[part].std() for part in parts])
    ax.fill_between(centre, mean - spread, mean + spread, color=COLOURS[1], alpha=0.25, linewidth=0)
    ax.plot(centre, mean, color=COLOURS[1], linewidth=1.5, label="mean and one deviation")
    ax.axhline(0, color=GREY, linewidth=1, zorder=0)
    rms = float(np.sqrt(np.mean(r**2)))
    ax.set(
        xlabel=with_unit(f"predicted {name}", unit),
        ylabel=with_unit("measured - predicted", unit),
        title=f"root mean square {rms:.4g}{' ' + unit if unit else ''}",
    )
    ax.legend(frameon=False, loc="upper left", markerscale=3)
    return tidy(ax)


def _column(
    values: Any, lengths: ArrayLike | None, output: int, name: str
) -> tuple[Array, IntArray]:
    """One output of all sequences, and where they start."""
    if np.ndim(values[0]) == 0:
        values = np.asarray(values)[:, None]
    elif isinstance(values, (list, tuple)) and np.ndim(values[0]) == 1:
        values = [np.asarray(part)[:, None] for part in values]
    data = as_sequences(values, lengths=lengths)
    if not -data.n_inputs <= output < data.n_inputs:
        raise ValueError(f"`output`={output}, but `{name}` has {data.n_inputs} columns")
    return np.asarray(data.X[:, output], dtype=np.float64), data.starts
