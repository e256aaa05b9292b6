"""Figures of fits and checks: every function draws on one set of axes and returns it.

The axes are `ax`, or those of a new figure where it is None. matplotlib is imported on use and
comes with the extra ``plot``. Nothing global is changed: no style, no backend, no default. Colours
are those of Okabe and Ito, which colour-blind readers can distinguish, and every series has its
marker or line style as well.
"""

from gloree.plotting._fits import (
    plot_directions,
    plot_history,
    plot_report,
    plot_score_check,
    plot_singular_values,
)
from gloree.plotting._labels import plot_confusion
from gloree.plotting._records import plot_prediction, plot_residuals
from gloree.plotting._responses import (
    plot_frequency_response,
    plot_intervals,
    plot_orders,
    plot_residual_tests,
    plot_time_response,
)
from gloree.plotting._style import COLOURS, GREY, LIGHT, MARKERS, MAX_POINTS
from gloree.plotting._systems import plot_nonlinearity, plot_poles, plot_spectrum
from gloree.plotting._weights import (
    DIRECTED_MATRICES,
    MATRICES,
    SYMBOLS,
    plot_error_curve,
    plot_weight_errors,
    plot_weights,
)

__all__ = [
    "COLOURS",
    "DIRECTED_MATRICES",
    "GREY",
    "LIGHT",
    "MARKERS",
    "MATRICES",
    "MAX_POINTS",
    "SYMBOLS",
    "plot_confusion",
    "plot_directions",
    "plot_error_curve",
    "plot_frequency_response",
    "plot_history",
    "plot_intervals",
    "plot_nonlinearity",
    "plot_orders",
    "plot_poles",
    "plot_prediction",
    "plot_report",
    "plot_residual_tests",
    "plot_residuals",
    "plot_score_check",
    "plot_singular_values",
    "plot_spectrum",
    "plot_time_response",
    "plot_weight_errors",
    "plot_weights",
]
