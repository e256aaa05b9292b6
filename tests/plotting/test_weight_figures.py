"""Figures of weights: units are matched, standard errors follow them."""

from __future__ import annotations

import numpy as np
import pytest

from gloree import plotting
from gloree.plotting._weights import weight_table

# Weights are scaled to their canonical form, and back: a few roundings, also of zeros.
ROUNDING, ZERO = 1e-12, 1e-15


def test_weights_are_matched_before_they_are_drawn(fitted):
    _, _, truth, _ = fitted
    order, sign = [2, 0, 1], np.array([1.0, -1.0, -1.0])[:, None]
    moved = truth.replace(
        input_weights=sign * truth.input_weights[order],
        recurrent_weights=sign * truth.recurrent_weights[np.ix_(order, order)],
        output_weights=truth.output_weights[order],
    )
    ax = plotting.plot_weights(moved, truth)
    drawn = [line for line in ax.lines if line.get_label() in plotting.SYMBOLS.values()]
    assert len(drawn) == 3
    for line in drawn:
        np.testing.assert_allclose(line.get_xdata(), line.get_ydata(), rtol=ROUNDING, atol=ZERO)


def test_standard_errors_follow_their_units(fitted):
    _, _, truth, _ = fitted
    order = [2, 0, 1]
    moved = truth.replace(
        input_weights=truth.input_weights[order],
        recurrent_weights=truth.recurrent_weights[np.ix_(order, order)],
        output_weights=truth.output_weights[order],
    )
    # the estimator's standard errors belong to the canonical model
    canonical = moved.canonical()
    errors = {name: np.abs(getattr(canonical, name)) for name in plotting.MATRICES}
    for _, _, estimate, bars in weight_table(moved, truth, errors, plotting.MATRICES):
        np.testing.assert_allclose(bars, np.abs(estimate), rtol=ROUNDING)


def test_weight_errors_count_those_within_two_standard_errors(fitted):
    _, _, truth, _ = fitted
    shifted = truth.replace(output_weights=truth.output_weights + 0.01)
    errors = {"output_weights": np.full(truth.output_weights.shape, 0.004)}
    ax = plotting.plot_weight_errors(shifted, truth, errors, weights=["output_weights"])
    assert ax.get_title().startswith(f"0 of {truth.output_weights.size} ")


def moved_both_ways(truth):
    """The same network with its units in another order within each direction."""
    order = np.array([1, 0, 3, 2])
    sign = np.array([1.0, -1.0, -1.0, 1.0])[:, None]
    return truth.replace(
        input_weights=sign * truth.input_weights[order],
        recurrent_weights=sign * truth.recurrent_weights[np.ix_(order, order)],
        output_weights=truth.output_weights[order],
        hidden_bias=sign[:, 0] * truth.hidden_bias[order],
    )


def test_all_matrices_of_a_bidirectional_network_are_drawn(both_ways):
    truth = both_ways[2]
    ax = plotting.plot_weights(moved_both_ways(truth), truth)
    drawn = {line.get_label(): line for line in ax.lines}
    names = {plotting.SYMBOLS[name]: name for name in plotting.DIRECTED_MATRICES}
    assert set(names) <= set(drawn)
    for label, name in names.items():
        np.testing.assert_allclose(drawn[label].get_xdata(), getattr(truth, name).ravel())
        np.testing.assert_allclose(drawn[label].get_ydata(), getattr(truth, name).ravel())


def test_standard_errors_follow_the_units_of_both_directions(both_ways):
    truth = both_ways[2]
    moved = moved_both_ways(truth)
    names = [name for name in truth.weight_names if name != "direct_weights"]
    errors = {name: np.abs(getattr(moved.canonical(), name)) for name in names}
    for _, _, estimate, bars in weight_table(moved, truth, errors, names):
        np.testing.assert_allclose(bars, np.abs(estimate), rtol=ROUNDING)


def test_errors_of_a_fit_of_both_directions_are_mostly_within_two_standard_errors(both_ways):
    _, _, truth, est = both_ways
    ax = plotting.plot_weight_errors(est.model_, truth, est.report_.standard_errors)
    inside, of, total = ax.get_title().split()[:3]
    assert (of, int(total)) == (
        "of",
        sum(getattr(truth, n).size for n in plotting.DIRECTED_MATRICES),
    )
    # a share of 0.95 of independent ones; five of its standard errors
    assert int(inside) > int(total) * 0.95 - 5 * np.sqrt(int(total) * 0.95 * 0.05)


def test_a_direction_without_units_is_left_out(both_ways):
    truth = both_ways[2]
    one = type(truth)(
        truth.forward_input_weights,
        truth.forward_recurrent_weights,
        np.empty((0, truth.n_inputs)),
        None,
        truth.output_weights[: truth.n_forward],
    )
    ax = plotting.plot_weights(one, one)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["forward $A_1$", "output $A_2$", "forward $U$"]
    with pytest.raises(ValueError, match="backward_input_weights"):
        plotting.plot_weights(one, one, weights=["backward_input_weights"])
