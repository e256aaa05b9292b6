"""Figures of fits and checks: every function draws on one set of axes and returns it.

matplotlib is imported on use and comes with the extra ``plot``. Nothing global is changed: no
style, no backend, no default. Colours are those of Okabe and Ito, told apart by all readers, and
every series has its own marker as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gloree.metrics import align
from gloree.sequences import Array, IntArray, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.decomposition import RankChoice
    from gloree.diagnostics import FitReport
    from gloree.models import IORNN
    from gloree.score_functions import ScoreCheck

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe-Ito colours, in the order in which series take them."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of series, in the same order."""

MATRICES = ("input_weights", "output_weights", "recurrent_weights")
SYMBOLS = {
    "input_weights": "input $A_1$",
    "output_weights": "output $A_2$",
    "recurrent_weights": "recurrent $U$",
    "hidden_bias": "hidden bias $b$",
    "output_bias": "output bias $c$",
    "direct_weights": "direct $D$",
}
GREY = "#767676"
LIGHT = "#D9D9D9"
MAX_POINTS = 5000
"""Points of a scatter at most; of more, evenly spaced ones are shown."""


def _new_axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is missing, with the command that installs it.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'gloree.plotting draws with matplotlib: pip install "gloree[plot]"'
        ) from error
    return pyplot.subplots(figsize=(5.5, 4.0), layout="constrained")[1]


def _tidy(ax: Axes) -> Axes:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def _label(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def plot_weights(
    model: IORNN,
    truth: IORNN,
    *,
    standard_errors: Mapping[str, ArrayLike] | None = None,
    weights: Sequence[str] = MATRICES,
    ax: Axes | None = None,
) -> Axes:
    """Draw estimated against true weights, after the symmetries have been undone.

    Parameters
    ----------
    model, truth : IORNN
        Of the same shapes and activation.
    standard_errors : mapping of str to array, optional
        `FitReport.standard_errors` of the fit that gave `model`: bars of two standard errors.
    weights : sequence of str
        Weights to show, by their names in `IORNN`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    See Also
    --------
    plot_weight_errors : The differences, in units of their standard errors.
    """
    ax = _new_axes(ax)
    everything = []
    for i, (name, target, estimate, errors) in enumerate(
        _weight_table(model, truth, standard_errors, weights)
    ):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        if errors is not None:
            ax.errorbar(
                target, estimate, yerr=2 * errors, fmt="none", ecolor=colour, elinewidth=1, zorder=2
            )
        ax.plot(
            target,
            estimate,
            marker,
            color=colour,
            markersize=5,
            alpha=0.8,
            label=SYMBOLS.get(name, name),
            zorder=3,
        )
        everything += [target, estimate]
    values = np.concatenate(everything)
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low if high > low else 1.0)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
    ax.set(xlim=ends, ylim=ends, xlabel="true weight", ylabel="estimated weight")
    ax.set_aspect("equal")
    ax.locator_params(nbins=6)
    ax.set_yticks([tick for tick in ax.get_xticks() if ends[0] <= tick <= ends[1]])
    ax.set_xticks(ax.get_yticks())
    ax.legend(frameon=False, loc="upper left")
    return _tidy(ax)


def plot_weight_errors(
    model: IORNN,
    truth: IORNN,
    standard_errors: Mapping[str, ArrayLike],
    *,
    weights: Sequence[str] = MATRICES,
    ax: Axes | None = None,
) -> Axes:
    """Draw (estimate - truth) / standard error of each weight: 95 % should lie within two.

    Parameters
    ----------
    model, truth : IORNN
    standard_errors : mapping of str to array
        `FitReport.standard_errors` of the fit that gave `model`.
    weights : sequence of str
        Weights to show.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _new_axes(ax)
    ax.axhspan(-2, 2, color=LIGHT, alpha=0.6, linewidth=0, zorder=0)
    ax.axhline(0, color=GREY, linewidth=1, zorder=1)
    start, inside, total = 0, 0, 0
    for i, (name, target, estimate, errors) in enumerate(
        _weight_table(model, truth, standard_errors, weights)
    ):
        if errors is None:
            raise ValueError(
                f"`standard_errors` has no {name!r}: fit with refine='one-step' or 'full', or "
                f"leave these weights out of `weights`"
            )
        ratios = (estimate - target) / np.where(errors > 0, errors, np.inf)
        ax.plot(
            np.arange(start, start + ratios.size),
            ratios,
            MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            markersize=5,
            label=SYMBOLS.get(name, name),
        )
        start += ratios.size + 2
        inside, total = inside + int(np.sum(np.abs(ratios) <= 2)), total + ratios.size
    largest = max(4.0, *(float(np.abs(line.get_ydata()).max()) for line in ax.lines[1:]))
    ax.set(
        ylim=(-1.1 * largest, 1.1 * largest),
        xlabel="weight (one after another)",
        ylabel="error / standard error",
        title=f"{inside} of {total} within two standard errors",
    )
    ax.set_xticks([])
    ax.legend(frameon=False, loc="upper center", ncols=3, columnspacing=1.0, handletextpad=0.2)
    return _tidy(ax)


def _weight_table(
    model: IORNN,
    truth: IORNN,
    standard_errors: Mapping[str, ArrayLike] | None,
    weights: Sequence[str],
) -> list[tuple[str, Array, Array, Array | None]]:
    """Names, true and estimated values and standard errors, with units matched."""
    aligned = align(model, truth)
    table = []
    for name in weights:
        estimate, target = getattr(aligned.model, name, None), getattr(aligned.truth, name, None)
        if estimate is None or target is None:
            raise ValueError(f"`weights` names {name!r}, which the models do not have")
        errors = None
        if standard_errors is not None and name in standard_errors:
            errors = np.asarray(standard_errors[name], dtype=np.float64)
            if errors.shape != estimate.shape:
                raise ValueError(
                    f"`standard_errors[{name!r}]` has shape {errors.shape}, the weights have "
                    f"{estimate.shape}"
                )
            if name in ("input_weights", "output_weights", "hidden_bias"):
                errors = errors[aligned.order]
            if name == "recurrent_weights":
                errors = errors[np.ix_(aligned.order, aligned.order)]
            errors = errors.ravel()
        table.append((name, target.ravel(), estimate.ravel(), errors))
    return table


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
    ax = _new_axes(ax)
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
    return _tidy(ax)


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
    ax = _new_axes(ax)
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
        ylabel=_label(name, unit),
        xlim=(float(x[0]), float(x[-1])) if x.size > 1 else None,
    )
    if sample_time is None:
        ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)
    return _tidy(ax)


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
    ax = _new_axes(ax)
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
        xlabel=_label(f"predicted {name}", unit),
        ylabel=_label("measured - predicted", unit),
        title=f"root mean square {rms:.4g}{' ' + unit if unit else ''}",
    )
    ax.legend(frameon=False, loc="upper left", markerscale=3)
    return _tidy(ax)


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
    from gloree.score_functions._verdict import DOUBTFUL, FINE

    checks = dict(check) if isinstance(check, Mapping) else {"inputs": check}
    if not checks:
        raise ValueError("`check` is an empty mapping: nothing to draw")
    ax = _new_axes(ax)
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
    return _tidy(ax)


def plot_report(report: FitReport, *, ax: Axes | None = None) -> Axes:
    """Draw the time that each stage of a fit took.

    Parameters
    ----------
    report : FitReport
        ``report_`` of a fitted estimator.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    See Also
    --------
    plot_history : How the residual fell.
    """
    if not report.stages:
        raise ValueError("`report` has no stages: it is not the report of a finished fit")
    ax = _new_axes(ax)
    names = [stage.name for stage in report.stages]
    seconds = np.array([stage.seconds for stage in report.stages])
    bars = ax.barh(np.arange(len(names)), seconds, color=COLOURS[0], height=0.6)
    ax.bar_label(bars, [f"{value:.3g}" for value in seconds], padding=3)
    ax.set_yticks(np.arange(len(names)), names)
    ax.invert_yaxis()
    steps = report.sizes.get("steps")
    of = f" for {steps:,} steps" if steps else ""
    ax.set(xlabel="time (s)", title=f"{report.seconds:.2f} s{of}", xlim=(0, 1.15 * seconds.max()))
    return _tidy(ax)


def plot_history(report: FitReport, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """Draw how the root mean square residual fell from step to step of the moment path.

    Parameters
    ----------
    report : FitReport
        ``report_`` of a fitted estimator.
    unit : str
        Of the outputs, for the label.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Steps up to the best; lines: the outputs themselves, and the residual after refinement.
    """
    if not report.history or report.moments_rmse is None or report.output_std is None:
        raise ValueError("`report` has no history: it is not the report of a finished fit")
    ax = _new_axes(ax)
    squares = np.array([value for _, value in report.history])
    best = int(np.argmin(squares))
    # A kept round repeats the value of its last inner step: show it once, as the round.
    kept = [i for i in range(best + 1) if i == best or squares[i] != squares[i + 1]]
    names = [report.history[i][0] for i in kept]
    if best + 1 < squares.size and squares[best + 1] == squares[best]:
        names[-1] = report.history[best + 1][0]
    rms = np.sqrt(squares[kept] / squares[best]) * _rms(report.moments_rmse)
    x = np.arange(len(kept))
    ax.axhline(_rms(report.output_std), color=GREY, linestyle="--", linewidth=1.2, label="outputs")
    ax.semilogy(x, rms, marker="o", color=COLOURS[0], linewidth=1.2, label="moments")
    if report.refined_rmse is not None:
        ax.axhline(
            _rms(report.refined_rmse),
            color=COLOURS[1],
            linestyle=":",
            linewidth=1.6,
            label="after Gauss-Newton",
        )
    ax.set_xticks(x, names, rotation=40, ha="right")
    ax.set_ylabel(_label("root mean square residual", unit))
    ax.legend(frameon=False)
    return _tidy(ax)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


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
    ax = _new_axes(ax)
    lowest = np.inf
    for i, (name, values) in enumerate(curves.items()):
        table = values[:, None] if values.ndim == 1 else values
        known = np.flatnonzero(np.isfinite(table).any(axis=1))
        if known.size == 0:
            continue
        middle = np.nanmedian(table[known], axis=1)
        bars = np.vstack(
            (middle - np.nanmin(table[known], axis=1), np.nanmax(table[known], axis=1) - middle)
        )
        ax.errorbar(
            sizes[known],
            middle,
            yerr=bars if table.shape[1] > 1 else None,
            marker=MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            linewidth=1.2,
            markersize=5,
            elinewidth=1,
            capsize=2,
            label=name,
        )
        lowest = min(lowest, float(np.min(middle * np.sqrt(sizes[known]))))
    if guide and np.isfinite(lowest):
        ends = np.array([sizes.min(), sizes.max()])
        heights = 0.6 * lowest / np.sqrt(ends)
        ax.plot(ends, heights, color=GREY, linestyle="--", linewidth=1)
        ax.annotate(
            "slope -1/2",
            (float(ends[1]), float(heights[1])),
            xytext=(0, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            color=GREY,
        )
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    if sizes.max() < 100 * sizes.min():
        # Hardly a power of ten among them: name the sizes themselves.
        ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.margins(y=0.12)
    ax.grid(True, which="major", color=LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
    return _tidy(ax)
