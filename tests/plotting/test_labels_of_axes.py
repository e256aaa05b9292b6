"""Ticks, labels and legends of figures with large numbers, long names and many curves."""

from __future__ import annotations

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from gloree import plotting  # noqa: E402

LONG = "temperature of the third stage heat exchanger outlet"


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def ticks(axis):
    axis.figure.canvas.draw()
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("scale", [1e-7, 1e6, 3e12])
def test_ticks_of_large_and_tiny_numbers_hold_their_whole_value(scale):
    Y = scale * np.linspace(-1, 1, 30)[:, None]
    ax = plotting.plot_prediction(Y, Y)
    texts = ticks(ax.yaxis)
    assert not ax.yaxis.get_offset_text().get_text()
    values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
    np.testing.assert_allclose(values, ax.get_yticks(), rtol=1e-5, atol=1e-6 * scale)


def test_ticks_that_differ_in_later_digits_keep_their_offset():
    Y = 1e9 + np.linspace(-1, 1, 30)[:, None]
    ax = plotting.plot_prediction(Y, Y, residual=False)
    texts = ticks(ax.yaxis)
    assert len(set(texts)) == len(texts)
    assert ax.yaxis.get_offset_text().get_text()


def test_long_names_and_legends_lie_within_the_figure():
    Y = np.linspace(-1, 1, 30)[:, None]
    ax = plotting.plot_prediction(Y, Y, name=LONG, unit="K")
    ax.figure.canvas.draw()
    for text in (ax.yaxis.label, ax.get_legend()):
        corners = text.get_window_extent().corners()
        assert ax.figure.bbox.padded(1).count_contains(corners) == 4
    assert ax.get_ylabel().replace("\n", " ") == f"{LONG} (K)"


def test_curves_differ_in_colour_or_marker():
    curves = {f"{i}": [1.0, 0.5] for i in range(20)}
    ax = plotting.plot_error_curve([10, 100], curves, guide=False)
    seen = {(line[0].get_color(), line[0].get_marker()) for line in ax.containers}
    assert len(seen) == 20


def test_a_single_step_is_seen():
    ax = plotting.plot_prediction(np.ones((1, 1)), np.zeros((1, 1)))
    assert all(line.get_marker() == "o" for line in ax.lines)


def test_a_residual_of_zero_does_not_stretch_the_decibels_of_a_spectrum():
    y = np.random.default_rng(0).standard_normal(200)
    ax = plotting.plot_spectrum(y, np.zeros(200))
    low, high = ax.get_ylim()
    assert high - low < 100
