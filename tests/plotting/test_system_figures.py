"""Figures of directions, poles, spectra and static nonlinearities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gloree import plotting

# A sine and a cosine, squared and added.
ROUNDING = 1e-12
# Differences of logarithms of spectra: rounding of the spectra, relative to 6 dB.
DECIBELS = 1e-9


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_directions_stand_on_their_side_and_undetermined_ones_are_grey(directions):
    ax = plotting.plot_directions(directions)
    found = lines(ax)
    np.testing.assert_array_equal(found["2 forward"].get_xdata(), [30, 700])
    # evidence against the side that was asked for stands on the other side
    np.testing.assert_array_equal(found["2 backward"].get_xdata(), [-4000, 3])
    np.testing.assert_array_equal(found["1 undetermined"].get_xdata(), [1])
    assert found["1 undetermined"].get_color() == plotting.GREY
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["2", "0", "4", "3", "1"]
    rows = found["2 backward"].get_ydata()
    assert [labels[int(row)] for row in rows] == ["1", "3"]
    low, high = ax.get_xlim()
    assert low < -4000 and high > 700


@pytest.mark.parametrize("n_units", [1, 8, 200])
def test_directions_of_any_number_of_units(n_units, directions):
    many = replace(
        directions,
        forward=np.arange(n_units) % 2 == 0,
        margin=np.geomspace(1, 1e9, n_units),
        undetermined=np.zeros(n_units, dtype=bool),
    )
    ax = plotting.plot_directions(many)
    assert len(ax.get_yticks()) <= 40
    assert sum(line.get_xdata().size for name, line in lines(ax).items() if "ward" in name) == (
        n_units
    )


def test_directions_without_limit_are_drawn_at_a_finite_place(directions):
    sure = replace(directions, margin=np.full(5, np.inf))
    ax = plotting.plot_directions(sure)
    assert np.isfinite(ax.get_xlim()).all()
    ax.figure.canvas.draw()


def test_directions_of_a_fit(both_ways):
    est = both_ways[3]
    found = lines(plotting.plot_directions(est.report_.directions))
    assert {"2 forward", "2 backward"} <= set(found)


def test_poles_are_drawn_with_the_unit_circle():
    poles = np.array([[0.5 + 0.5j, 0.5 - 0.5j], [-0.9, 1.2]])
    ax = plotting.plot_poles(poles, truth=[0.4])
    found = lines(ax)
    drawn = found["estimated"].get_xdata() + 1j * found["estimated"].get_ydata()
    np.testing.assert_array_equal(drawn, poles.ravel())
    np.testing.assert_array_equal(found["true"].get_xdata(), [0.4])
    circle = max(ax.lines, key=lambda line: np.size(line.get_xdata()))
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), 1, rtol=ROUNDING)
    assert ax.get_title() == "largest modulus 1.2, 1 of 4 not stable"
    assert ax.get_aspect() == 1
    assert ax.get_xlim()[1] > 1.2
    assert plotting.plot_poles([0.3]).get_title() == "largest modulus 0.3"


def test_spectrum_integrates_to_the_variance():
    rng = np.random.default_rng(0)
    y = 3.0 * rng.standard_normal(40_000) + 1.0
    rate = 50.0
    line = plotting.plot_spectrum(y, sampling_rate=rate).lines[0]
    frequency, level = line.get_xdata(), line.get_ydata()
    power = np.sum(10 ** (level / 10)) * (frequency[1] - frequency[0])
    # one part in the number of frequencies is missing with frequency 0; four standard errors
    assert abs(power - 9) < 9 * (2 / frequency.size + 4 * np.sqrt(2 / y.size))
    assert frequency[-1] == rate / 2


def test_spectrum_finds_a_tone_and_leaves_out_the_transient():
    t = np.arange(4000) / 100.0
    y = np.sin(2 * np.pi * 12.5 * t)
    spoiled = y.copy()
    spoiled[:100] = 1e3
    ax = plotting.plot_spectrum(spoiled, {"half": spoiled / 2}, sampling_rate=100, skip=100)
    found = lines(ax)
    output, half = found["output, RMS 0.707"], found["half, RMS 0.354"]
    assert output.get_xdata()[np.argmax(output.get_ydata())] == pytest.approx(12.5)
    gain = output.get_ydata() - half.get_ydata()
    np.testing.assert_allclose(gain, 20 * np.log10(2), rtol=DECIBELS)
    assert output.get_linestyle() != half.get_linestyle()
    assert ax.get_xlabel() == "frequency (Hz)"


def test_spectrum_takes_columns_and_short_records():
    y = np.random.default_rng(0).standard_normal((40, 1))
    ax = plotting.plot_spectrum(y, y)
    assert len(ax.lines) == 2
    assert ax.get_xlabel() == "frequency (cycles per step)"


@pytest.mark.parametrize("given", ["values", "function"])
def test_nonlinearity_is_solid_where_the_data_are(given):
    z = np.random.default_rng(0).standard_normal(2000)
    ax = plotting.plot_nonlinearity(z, z**2 if given == "values" else np.square)
    middle, *tails = ax.lines[1:]
    for line in (middle, *tails):
        np.testing.assert_allclose(line.get_ydata(), line.get_xdata() ** 2)
    low, high = np.quantile(z, (0.01, 0.99))
    spacing = 0.05 * (high - low)
    assert low <= middle.get_xdata()[0] < low + spacing
    assert high - spacing < middle.get_xdata()[-1] <= high
    assert tails[0].get_xdata()[0] == z.min()
    assert tails[1].get_xdata()[-1] == z.max()
    assert np.all(np.diff(middle.get_xdata()) > 0)


def test_strip_is_the_density_of_the_data_below_the_line():
    z = np.concatenate((np.full(300, -1.0), np.full(100, 1.0)))
    ax = plotting.plot_nonlinearity(z, np.tanh)
    heights, edges, _ = ax.patches[0].get_data()
    assert heights[0] == pytest.approx(3 * heights[-1])
    assert (edges[0], edges[-1]) == (-1, 1)
    bottom, top = ax.get_ylim()
    lowest = np.tanh(-1.0)
    assert (lowest - bottom) / (top - bottom) > heights.max()


def test_a_constant_contribution_has_room():
    ax = plotting.plot_nonlinearity([0.0, 1.0, 2.0], [3.0, 3.0, 3.0])
    low, high = ax.get_ylim()
    assert low < 3 < high
