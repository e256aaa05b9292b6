"""Figures of records, checks, reports and error curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gloree import metrics, plotting


def test_prediction_shows_the_sequence_asked_for():
    Y = [np.arange(4.0)[:, None], 10 + np.arange(6.0)[:, None]]
    predictions = [values + 1 for values in Y]
    ax = plotting.plot_prediction(
        Y, predictions, sequence=1, steps=slice(2, 5), sample_time=0.5, unit="V"
    )
    by_name = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(by_name["measured"].get_ydata(), [12, 13, 14])
    np.testing.assert_array_equal(by_name["predicted"].get_ydata(), [13, 14, 15])
    np.testing.assert_array_equal(by_name["difference"].get_ydata(), [-1, -1, -1])
    np.testing.assert_array_equal(by_name["measured"].get_xdata(), [1.0, 1.5, 2.0])
    assert ax.get_xlabel() == "time (s)"
    assert ax.get_ylabel() == "output (V)"


def test_flat_outputs_with_lengths_are_read_like_lists():
    Y = [np.arange(4.0), 10 + np.arange(6.0)]
    ax = plotting.plot_prediction(Y, Y, sequence=1)
    other = plotting.plot_prediction(
        np.concatenate(Y), np.concatenate(Y), lengths=[4, 6], sequence=1
    )
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), other.lines[0].get_ydata())


def test_residuals_title_is_the_root_mean_square_after_skip():
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((3, 50, 2))
    predictions = Y + rng.standard_normal(Y.shape)
    ax = plotting.plot_residuals(Y, predictions, output=1, skip=7, unit="mV")
    expected = metrics.root_mean_square_error(Y, predictions, skip=7)[1]
    assert ax.get_title() == f"root mean square {expected:.4g} mV"


def test_residuals_show_a_limited_number_of_points():
    Y = np.random.default_rng(0).standard_normal((3 * plotting.MAX_POINTS, 1))
    ax = plotting.plot_residuals(Y, np.zeros_like(Y))
    assert ax.lines[0].get_xdata().size == plotting.MAX_POINTS


def test_score_check_takes_several_by_name(check):
    ax = plotting.plot_score_check({"first": check, "second": replace(check, status="doubtful")})
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [f"first: {check.status}", "second: doubtful"]


def test_report_shows_every_stage(fitted):
    report = fitted[3].report_
    ax = plotting.plot_report(report)
    assert [label.get_text() for label in ax.get_yticklabels()] == [s.name for s in report.stages]
    np.testing.assert_allclose(
        [bar.get_width() for bar in ax.patches], [s.seconds for s in report.stages]
    )


def test_history_falls_to_the_residual_of_the_moments(fitted):
    report = fitted[3].report_
    ax = plotting.plot_history(report)
    curve = next(line for line in ax.lines if line.get_label() == "moments").get_ydata()
    assert np.all(np.diff(curve) <= 0)
    np.testing.assert_allclose(curve[-1], np.sqrt(np.mean(report.moments_rmse**2)))


def test_error_curve_draws_the_median_and_leaves_out_missing_points():
    errors = [[1.0, 3.0, 2.0], [np.nan, np.nan, np.nan], [0.1, 0.2, 0.3]]
    ax = plotting.plot_error_curve([10, 100, 1000], {"a": errors}, guide=False)
    line = ax.containers[0][0]
    np.testing.assert_array_equal(line.get_xdata(), [10, 1000])
    np.testing.assert_allclose(line.get_ydata(), [2.0, 0.2])


def test_guide_has_slope_minus_one_half():
    ax = plotting.plot_error_curve([10, 1000], {"a": [1.0, 0.1]})
    guide = next(line for line in ax.lines if line.get_linestyle() == "--")
    x, y = guide.get_xdata(), guide.get_ydata()
    assert np.log(y[1] / y[0]) / np.log(x[1] / x[0]) == pytest.approx(-0.5)
