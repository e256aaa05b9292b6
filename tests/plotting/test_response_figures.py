"""Figures of responses, residual tests, orders and intervals show what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from gloree.diagnostics import OrderTrial
from gloree.plotting import (
    plot_frequency_response,
    plot_intervals,
    plot_orders,
    plot_residual_tests,
    plot_time_response,
)
from gloree.systems import (
    Channels,
    at_records,
    frequency_response,
    prediction_intervals,
    residual_tests,
    spectral_response,
    time_response,
)

CHANNELS = Channels(("valve", "pump"), ("level",), ("%", ""), ("m",), 0.1)


def labels(ax):
    return ax.get_legend_handles_labels()[1]


@pytest.mark.parametrize("quantity", ["magnitude", "phase"])
def test_a_frequency_response_shows_model_band_and_data(bands, quantity):
    model, records, known = bands
    response = frequency_response(model, uncertainty=known, channels=CHANNELS)
    spectral = spectral_response(records, channels=CHANNELS)
    ax = plot_frequency_response(response, spectral, input=1, quantity=quantity)
    assert set(labels(ax)) == {"95 % band", "data alone", "model"}
    assert ax.get_xlabel() == "frequency (Hz)" and ax.get_ylabel().startswith("pump → level")
    (line,) = [each for each in ax.lines if each.get_label() == "model"]
    expected = response.decibels if quantity == "magnitude" else response.degrees
    assert np.allclose(line.get_ydata(), expected[:, 0, 1])


def test_without_bands_only_the_model_is_drawn(bands):
    model, _, _ = bands
    assert labels(plot_frequency_response(frequency_response(model))) == ["model"]
    assert labels(plot_time_response(time_response(model))) == ["step of u0"]


def test_a_step_response_has_its_band_and_its_unit(bands):
    model, _, known = bands
    ax = plot_time_response(time_response(model, uncertainty=known, channels=CHANNELS))
    assert ax.get_ylabel() == "level (m)" and "95 % band" in labels(ax)


def test_residual_tests_show_what_lies_outside(bands):
    model, records, _ = bands
    tests = residual_tests(at_records(model, records), channels=CHANNELS)
    assert "whiteness" in plot_residual_tests(tests).get_xlabel()
    ax = plot_residual_tests(tests, input=0)
    assert "feedback" in ax.get_xlabel()
    (outside,) = [each for each in ax.lines if each.get_label() == "outside"]
    values, limits = tests.cross_correlation[:, 0, 0], tests.cross_limits[:, 0, 0]
    assert len(outside.get_ydata()) == np.sum(np.abs(values) > limits)


def test_orders_show_the_least_that_is_good():
    trials = [OrderTrial(1, 1.0, 0.5, 0), OrderTrial(2, 0.1, 0.1, 0), OrderTrial(3, 0.1, 0.0999, 1)]
    ax = plot_orders(trials)
    (ring,) = [each for each in ax.lines if each.get_label() == "least order near the best"]
    assert ring.get_xdata() == [2]
    with pytest.raises(ValueError, match="`orders` is empty"):
        plot_orders([])


def test_intervals_count_the_measured_values_inside(bands):
    _, records, known = bands
    found = prediction_intervals(known, records.X, initial="rest")
    ax = plot_intervals(found, records.Y, dt=0.1)
    inside = np.mean((found.lower <= records.Y) & (found.upper >= records.Y))
    assert f"measured, {100 * inside:.1f} % inside" in labels(ax)
    with pytest.raises(ValueError, match="`y` has shape"):
        plot_intervals(found, records.Y[:5])


def test_paths_that_do_not_exist_are_refused(bands):
    model, _, _ = bands
    with pytest.raises(ValueError, match="`input` is 2, expected from 0 to 1"):
        plot_frequency_response(frequency_response(model), input=2)
