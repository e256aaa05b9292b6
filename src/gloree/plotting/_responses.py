"""Responses with bands, residual tests, orders, and prediction intervals of fitted systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from gloree.plotting._style import COLOURS, GREY, LIGHT, new_axes, tidy, top_legend, with_unit
from gloree.sequences import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gloree.diagnostics import OrderTrial
    from gloree.systems import (
        FrequencyResponse,
        PredictionIntervals,
        ResidualTests,
        SpectralResponse,
        TimeResponse,
    )

SHADE = 0.25  # opacity of bands


def plot_frequency_response(
    response: FrequencyResponse,
    spectral: SpectralResponse | None = None,
    *,
    output: int = 0,
    input: int = 0,
    quantity: Literal["magnitude", "phase"] = "magnitude",
    ax: Axes | None = None,
) -> Axes:
    """Draw the magnitude or the phase of one path, with its band, over a logarithmic frequency.

    Dots are an estimate from the data alone (see `gloree.systems.spectral_response`), at the
    frequencies of the response; where they leave the band, the model is too small or too stiff.
    Raises a ValueError if there is no such path, or `quantity` is neither.
    """
    _check_path(response.response.shape[1:], output, input)
    if quantity not in ("magnitude", "phase"):
        raise ValueError(f"`quantity` is {quantity!r}, expected 'magnitude' or 'phase'")
    magnitude, channels = quantity == "magnitude", response.channels
    ax = new_axes(ax)
    shown = response.frequencies > 0
    if not shown.any():
        raise ValueError("`response` has no frequency above zero to draw")
    x = response.frequencies[shown]
    values = (response.decibels if magnitude else response.degrees)[shown, output, input]
    if response.covariance is not None:
        low, high = response.magnitude_band() if magnitude else response.phase_band()
        if magnitude:
            low, high = (20 * np.log10(np.maximum(each, 1e-300)) for each in (low, high))
        low = np.maximum(low[shown, output, input], values.min() - 60.0 if magnitude else -np.inf)
        high, label = high[shown, output, input], f"{100 * response.level:g} % band"
        ax.fill_between(x, low, high, color=COLOURS[0], alpha=SHADE, lw=0, label=label)
    dots = np.zeros(0)
    if spectral is not None:
        inside = (spectral.frequencies >= x.min()) & (spectral.frequencies <= x.max())
        each = spectral.response[inside, output, input]
        if magnitude:
            dots = 20 * np.log10(np.maximum(np.abs(each), 1e-300))
        else:
            # on the branch of the model
            line_at = np.interp(spectral.frequencies[inside], x, values)
            dots = np.rad2deg(np.angle(each))
            dots = dots + 360.0 * np.round((line_at - dots) / 360.0)
        seen = spectral.frequencies[inside]
        ax.plot(seen, dots, ".", color=COLOURS[1], ms=4, label="data alone")
    ax.plot(x, values, color=COLOURS[0], lw=1.5, label="model")
    if magnitude:
        # a band that reaches down to no response at all would leave little room for the rest
        bottom = min(float(values.min()), float(np.min(dots, initial=np.inf)))
        ax.set_ylim(bottom=max(ax.get_ylim()[0], bottom - 10.0))
    ax.set(xscale="log", xlim=(x.min(), x.max()), xlabel=f"frequency ({channels.frequency_unit})")
    unit = "magnitude (dB)" if magnitude else "phase (degrees)"
    ax.set_ylabel(f"{channels.path(output, input)}, {unit}")
    ax.grid(True, color=LIGHT, lw=0.6)
    ax.set_axisbelow(True)
    top_legend(ax)
    return tidy(ax)


def plot_time_response(
    response: TimeResponse, *, output: int = 0, input: int = 0, ax: Axes | None = None
) -> Axes:
    """Draw the step or impulse response of one path, with its band.

    Raises a ValueError if there is no such path.
    """
    _check_path(response.response.shape[1:], output, input)
    ax, channels = new_axes(ax), response.channels
    where = response.times
    ax.axhline(0, color=LIGHT, lw=1, zorder=0)
    if np.isfinite(response.errors).all():
        low, high = (each[:, output, input] for each in response.band())
        label = f"{100 * response.level:g} % band"
        ax.fill_between(
            where, low, high, step="post", color=COLOURS[0], alpha=SHADE, lw=0, label=label
        )
    values = response.response[:, output, input]
    label = f"{response.kind} of {channels.input_names[input]}"
    ax.step(where, values, where="post", color=COLOURS[0], lw=1.5, label=label)
    ax.set(xlabel=f"time ({channels.time_unit})", ylabel=channels.label_of_output(output))
    top_legend(ax)
    return tidy(ax)


def plot_residual_tests(
    tests: ResidualTests, *, output: int = 0, input: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw correlations of the residuals of one output: with themselves, or with one input.

    The shade is the band in which correlations lie if there is nothing: for whiteness that of white
    residuals, for an input that of noise as coloured as it is, at each lag for itself. Below stands
    the p-value of all lags together. Raises a ValueError if there is no such path.
    """
    _check_path(tests.dynamics.shape, output, input or 0)
    ax, channels = new_axes(ax), tests.channels
    if input is None:
        lags, values = tests.lags, tests.autocorrelation[:, output]
        limits = np.full(lags.size, tests.white_limit)
        text = f"lag (samples)\nwhiteness: p {_p(tests.whiteness[output])}"
        ax.set_ylabel(f"autocorrelation of the residual of {channels.output_names[output]}")
    else:
        lags, values = tests.input_lags, tests.cross_correlation[:, output, input]
        limits = tests.cross_limits[:, output, input]
        dynamics, feedback = tests.dynamics[output, input], tests.feedback[output, input]
        text = f"dynamics: p {_p(dynamics)}, feedback: p {_p(feedback)}"
        text = f"lag of the residual behind the input (samples)\n{text}"
        ax.set_ylabel(f"correlation of residual and {channels.input_names[input]}")
        ax.axvline(0, color=LIGHT, lw=1, zorder=0)
    label = f"{100 * tests.level:g} % band"
    ax.fill_between(lags, -limits, limits, color=GREY, alpha=SHADE, lw=0, label=label)
    ax.axhline(0, color=LIGHT, lw=1, zorder=0)
    ax.vlines(lags, 0, values, color=COLOURS[0], lw=1.5)
    outside = np.abs(values) > limits
    for chosen, colour, word in (
        (~outside, COLOURS[0], "inside"),
        (outside, COLOURS[1], "outside"),
    ):
        ax.plot(lags[chosen], values[chosen], "o", color=colour, ms=3.5, label=word)
    ax.set_xlabel(text)
    top_legend(ax)
    return tidy(ax)


def plot_orders(orders: Sequence[OrderTrial], *, ax: Axes | None = None) -> Axes:
    """Draw the held-out error of each order of the linear model that was tried (`report_.orders`).

    The ring is the least order within a hundredth of the least error; squares are orders with
    unstable poles that were moved inside. Raises a ValueError if there is none.
    """
    if not orders:
        raise ValueError("`orders` is empty: the order was given, or nothing was tried")
    ax = new_axes(ax)
    trials = sorted(orders, key=lambda trial: trial.order)
    x = np.array([trial.order for trial in trials])
    errors = np.array([100 * trial.error for trial in trials])
    moved = np.array([trial.n_moved > 0 for trial in trials])
    finite = np.isfinite(errors) & (errors > 0)
    ax.plot(x[finite], errors[finite], color=COLOURS[0], lw=1.2, zorder=1)
    ax.plot(x[finite & ~moved], errors[finite & ~moved], "o", color=COLOURS[0], label="order")
    if (finite & moved).any():
        shown = finite & moved
        ax.plot(x[shown], errors[shown], "s", color=COLOURS[1], mfc="none", label="poles moved")
    if finite.any():
        good = finite & (errors <= 1.01 * errors[finite].min())
        first = int(np.flatnonzero(good)[0])
        ax.plot(
            x[first],
            errors[first],
            "o",
            color="black",
            mfc="none",
            ms=11,
            label="least order near the best",
        )
    ax.set(xlabel="order of the linear model", ylabel="held-out error (% of the outputs' size)")
    ax.set_yscale("log")
    if x.size > 1:
        ax.locator_params(axis="x", integer=True)
    else:
        ax.set_xticks(x)
    top_legend(ax)
    return tidy(ax)


def plot_intervals(
    intervals: PredictionIntervals,
    y: ArrayLike | None = None,
    *,
    output: int = 0,
    dt: float | None = None,
    name: str = "",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a free run with its prediction intervals, and the measured output if it is given.

    The legend has the share of measured values inside. `name` and `unit` are those of the output,
    for the label, and `dt` the seconds between steps. Raises a ValueError if there is no such
    output, or `y` has another shape.
    """
    _check_path((intervals.mean.shape[1], 1), output, 0)
    ax = new_axes(ax)
    x = np.arange(intervals.mean.shape[0]) * (dt or 1.0)
    low, high = intervals.lower[:, output], intervals.upper[:, output]
    label = f"{100 * intervals.level:g} % interval"
    ax.fill_between(x, low, high, color=COLOURS[0], alpha=SHADE, lw=0, label=label)
    ax.plot(x, intervals.mean[:, output], color=COLOURS[0], lw=1.2, label="free run")
    if y is not None:
        measured = _measured(y, intervals.mean.shape)[:, output]
        seen = np.isfinite(measured)
        inside = np.mean((measured >= low)[seen] & (measured <= high)[seen])
        label = f"measured, {100 * inside:.1f} % inside"
        ax.plot(x, measured, ".", color="black", ms=2.5, label=label)
    ax.set_xlabel(f"time ({'s' if dt else 'samples'})")
    ax.set_ylabel(with_unit(name or f"output {output}", unit))
    top_legend(ax)
    return tidy(ax)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _measured(y: ArrayLike, shape: tuple[int, ...]) -> Array:
    values = np.asarray(y, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != shape:
        raise ValueError(f"`y` has shape {values.shape}, the intervals have {shape}")
    return values


def _check_path(shape: tuple[int, ...], output: int, input: int) -> None:
    for name, value, n in (("output", output, shape[0]), ("input", input, shape[1])):
        if not 0 <= value < n:
            raise ValueError(f"`{name}` is {value}, expected from 0 to {n - 1}")
