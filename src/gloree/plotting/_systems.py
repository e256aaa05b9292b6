"""Poles, spectra and static nonlinearities of dynamic systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree.plotting._style import COLOURS, GREY, LIGHT, MAX_POINTS, new_axes, tidy, top_legend
from gloree.sequences import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("-", "--", "-.", ":")
"""Styles of lines that have no markers, in the order in which series take them."""

LONGEST_SEGMENT = 4096  # steps in a segment of Welch's method, at most
STRIP = 0.14  # height of the strip of densities, as a part of that of the axes


def plot_poles(poles: ArrayLike, *, truth: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Draw poles of a discrete-time system in the complex plane, with the unit circle.

    Crosses are the poles, such as the eigenvalues of a state matrix, circles those of `truth`; the
    title has the largest modulus, and how many poles lie on the unit circle or outside. Raises a
    ValueError if there are no poles, or they are not finite.
    """
    found = _poles(poles, "poles")
    known = _poles([] if truth is None else truth, "truth", empty=truth is None)
    ax = new_axes(ax, (4.6, 4.6))
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.axhline(0, color=LIGHT, lw=1, zorder=0)
    ax.axvline(0, color=LIGHT, lw=1, zorder=0)
    ax.plot(np.cos(angle), np.sin(angle), color=GREY, lw=1, zorder=1)
    (blue, red), label = COLOURS[:2], "estimated" if known.size else "poles"
    if known.size:
        x, y = known.real, known.imag
        ax.plot(x, y, "o", color=red, mfc="none", ms=9, mew=1.4, zorder=2, label="true")
    ax.plot(found.real, found.imag, "x", color=blue, ms=7, mew=1.6, zorder=3, label=label)
    modulus = np.abs(found)
    limit = 1.15 * max(1.0, float(modulus.max()), float(np.abs(known).max(initial=0.0)))
    outside = int(np.sum(modulus >= 1))
    unstable = f", {outside} of {found.size} not stable" if outside else ""
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xlabel="real part", ylabel="imaginary part")
    ax.set_title(f"largest modulus {modulus.max():.4g}{unstable}")
    ax.locator_params(nbins=5)
    if known.size:
        # beside the axes: small ones have no room between the circle and a corner
        draw = partial(ax.legend, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)
        draw(frameon=False, handletextpad=0.2)
    return tidy(ax)


def _poles(values: ArrayLike, name: str, *, empty: bool = False) -> NDArray[np.complex128]:
    poles = np.asarray(values, dtype=np.complex128).ravel()
    if (poles.size == 0 and not empty) or not np.isfinite(poles).all():
        what = "is empty" if poles.size == 0 else "holds NaN or infinity"
        raise ValueError(f"`{name}` {what}: expected finite complex numbers")
    return poles


def plot_spectrum(
    y: ArrayLike,
    residuals: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    sampling_rate: float = 1.0,
    skip: int = 0,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the power spectra of an output and of what models leave of it, in decibels.

    .. math:: 10 \log_{10} S(\nu), \qquad \int_0^{\nu_s / 2} S(\nu) \, d\nu = \text{variance},

    by Welch's method: segments overlap by one half, carry a Hann window and have the largest power
    of two that leaves eight or more of them side by side, 4,096 steps at most. Frequency 0 is left
    out; the legend has the root mean square of each series.

    Raises a ValueError if a series is not one record of the length of `y`, is not finite, or `skip`
    leaves fewer than 16 steps.

    Parameters
    ----------
    y : array of shape (n_steps,) or (n_steps, 1)
        One output of one record.
    residuals : array or mapping of str to array, optional
        Measured less predicted output, or several of them by name, in the form of `y`.
    sampling_rate : float, default 1
        Samples a second; with 1 frequencies are in cycles per step.
    skip : int, default 0
        Steps to leave out at the start.
    """
    from scipy.signal import welch

    if not sampling_rate > 0:
        raise ValueError(f"`sampling_rate`={sampling_rate}, expected a positive number")
    series = {"output": _record(y, "y")}
    n_steps = series["output"].size
    if isinstance(residuals, Mapping):
        series |= {name: _record(r, f"residuals[{name!r}]") for name, r in residuals.items()}
    elif residuals is not None:
        series["residual"] = _record(residuals, "residuals")
    for name, values in series.items():
        if values.size != n_steps:
            raise ValueError(f"`residuals` ({name}) has {values.size} steps, `y` has {n_steps}")
    left = n_steps - skip
    if skip < 0 or left < 16:
        raise ValueError(f"`skip`={skip} leaves {left} of {n_steps} steps, expected at least 16")
    ax = new_axes(ax)
    segment = int(min(2 ** np.floor(np.log2(max(left / 8, 16))), LONGEST_SEGMENT))
    for i, (name, values) in enumerate(series.items()):
        frequency, power = welch(values[skip:], fs=sampling_rate, nperseg=segment)
        # no power at all, as of a residual that is zero, has no place on this scale
        level = 10 * np.log10(np.where(power[1:] > 0, power[1:], np.nan))
        rms = float(np.sqrt(np.mean(values[skip:] ** 2)))
        colour, line = ("black", *COLOURS)[i % (len(COLOURS) + 1)], LINES[i % len(LINES)]
        label = f"{name}, RMS {rms:.3g}"
        ax.plot(frequency[1:], level, color=colour, ls=line, lw=1.2, label=label)
    unit = "cycles per step" if sampling_rate == 1 else "Hz"
    ax.set(xlim=(0, sampling_rate / 2), xlabel=f"frequency ({unit})", ylabel="power density (dB)")
    ax.locator_params(axis="x", nbins=6)
    ax.grid(True, color=LIGHT, lw=0.6)
    ax.set_axisbelow(True)
    labels = ax.get_legend_handles_labels()[1]
    top_legend(ax, len(labels) if sum(map(len, labels)) < 40 else 1, columnspacing=1.2)
    return tidy(ax)


def _record(values: ArrayLike, name: str) -> Array:
    record = np.asarray(values, dtype=np.float64)
    if record.ndim == 2 and record.shape[1] == 1:
        record = record[:, 0]
    if record.ndim != 1:
        raise ValueError(
            f"`{name}` has shape {record.shape}, expected one output of one record, (n_steps,)"
        )
    bad = np.flatnonzero(~np.isfinite(record))
    if bad.size:
        raise ValueError(f"`{name}` holds NaN or infinity at step {bad[0]}")
    return record


def plot_nonlinearity(
    z: ArrayLike, contribution: ArrayLike | Callable[[Array], ArrayLike], *, ax: Axes | None = None
) -> Axes:
    """Draw the value of one unit against its pre-activation, over the range that the data reach.

    The line is solid between the quantiles of 1 and 99 % of `z`, and dotted beyond, where there are
    few data; the strip below is the density of `z`.

    Raises a ValueError if shapes differ, there are fewer than two values, or one is not finite.

    Parameters
    ----------
    z : array of shape (n_steps,)
        Pre-activations of the unit in the data, in any order.
    contribution : array of shape (n_steps,) or callable
        The part of the output that comes from the unit at each of them, or as a function of them.
    """
    seen = np.asarray(z, dtype=np.float64).ravel()
    if seen.size < 2 or not np.isfinite(seen).all():
        what = f"has {seen.size} values" if seen.size < 2 else "holds NaN or infinity"
        raise ValueError(f"`z` {what}, expected two or more finite numbers")
    low, high = np.quantile(seen, (0.01, 0.99))
    if callable(contribution):
        x = np.union1d(np.linspace(seen.min(), seen.max(), 400), (low, high))
        y = np.asarray(contribution(x), dtype=np.float64)
    else:
        values = np.asarray(contribution, dtype=np.float64).ravel()
        if values.shape != seen.shape:
            raise ValueError(f"`contribution` has {values.size} values, `z` has {seen.size}")
        order = np.argsort(seen, kind="stable")
        order = order[np.linspace(0, seen.size - 1, min(seen.size, MAX_POINTS)).astype(np.int64)]
        x, y = seen[order], values[order]
    if y.shape != x.shape or not np.isfinite(y).all():
        raise ValueError(
            f"`contribution` gives shape {y.shape} or values that are not finite, expected "
            f"{x.shape} finite numbers"
        )
    ax = new_axes(ax)
    first = int(np.searchsorted(x, low, side="left"))
    last = max(int(np.searchsorted(x, high, side="right")) - 1, first)
    ax.axhline(0, color=LIGHT, lw=1, zorder=0)
    ax.plot(x[first : last + 1], y[first : last + 1], color=COLOURS[0], lw=2, label="unit")
    for part in (slice(0, first + 1), slice(last, None)):
        ax.plot(x[part], y[part], color=COLOURS[0], lw=1.5, ls=":", label="_tail")
    density, edges = np.histogram(seen, bins=int(np.clip(np.sqrt(seen.size), 10, 100)))
    heights, place = STRIP * density / density.max(), ax.get_xaxis_transform()
    ax.stairs(heights, edges, fill=True, color=GREY, alpha=0.55, lw=0, transform=place)
    bottom, top = float(y.min()), float(y.max())
    height = top - bottom if top > bottom else max(abs(top), 1.0)
    floor = bottom - height * (STRIP + 0.06) / (1 - STRIP - 0.12)
    if seen.max() > seen.min():
        ax.set_xlim(float(seen.min()), float(seen.max()))
    ax.set(ylim=(floor, top + 0.06 * height), ylabel="contribution of the unit")
    ax.set_xlabel("pre-activation $z$ (strip: density in the data)")
    ax.locator_params(axis="x", nbins=7)
    return tidy(ax)
