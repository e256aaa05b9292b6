"""Figures: every function draws what it was given, and nothing global changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from gloree import SpectralRNNRegressor, datasets, decomposition, metrics, plotting
from gloree.score_functions import check_score


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    X, Y, truth, _ = datasets.make_rnn(300, 20, 4, 3, 3, random_state=0)
    return X, Y, truth, SpectralRNNRegressor(3, random_state=0).fit(X, Y)


@pytest.fixture(scope="module")
def choice():
    rng = np.random.default_rng(0)
    T = decomposition.cp_tensor(rng.standard_normal((2, 3)), rng.standard_normal((2, 5)), order=2)
    E = 1e-3 * rng.standard_normal((2, *T.shape))
    E = E + E.swapaxes(2, 3)
    return decomposition.choose_rank(T + E[0], T + E[1], random_state=0)


@pytest.fixture(scope="module")
def check():
    X = datasets.make_inputs("gaussian", 200, 20, 3, random_state=0)
    return check_score(X)


@pytest.fixture
def calls(fitted, choice, check):
    X, Y, truth, est = fitted
    predictions = est.predict(X)
    errors = est.report_.standard_errors
    return {
        "plot_weights": ((est.model_, truth), {"standard_errors": errors}),
        "plot_weight_errors": ((est.model_, truth, errors), {}),
        "plot_singular_values": ((choice,), {}),
        "plot_prediction": ((Y, predictions), {"sequence": 1, "output": 2}),
        "plot_residuals": ((Y, predictions), {"skip": 2}),
        "plot_score_check": ((check,), {}),
        "plot_report": ((est.report_,), {}),
        "plot_history": ((est.report_,), {"unit": "V"}),
        "plot_error_curve": (([10, 100, 1000], {"a": [1.0, 0.3, 0.1]}), {}),
    }


FUNCTIONS = sorted(name for name in vars(plotting) if name.startswith("plot_"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_draws_on_axes_given_or_new_and_labels_them(name, calls):
    function = getattr(plotting, name)
    arguments, options = calls[name]
    before = dict(matplotlib.rcParams)
    new = function(*arguments, **options)
    assert isinstance(new, Axes)
    assert new.get_xlabel() or name == "plot_history"
    assert new.get_ylabel() or name in ("plot_score_check", "plot_report")
    figure, ax = plt.subplots()
    assert function(*arguments, **options, ax=ax) is ax
    assert ax.has_data()
    figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_are_not_changed(name, calls):
    function = getattr(plotting, name)
    arguments, options = calls[name]
    arrays = [value for value in arguments if isinstance(value, np.ndarray)]
    copies = [value.copy() for value in arrays]
    function(*arguments, **options)
    for value, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


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
        np.testing.assert_allclose(line.get_xdata(), line.get_ydata(), rtol=1e-12, atol=1e-15)


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
    for _, _, estimate, bars in plotting._weight_table(moved, truth, errors, plotting.MATRICES):
        np.testing.assert_allclose(bars, np.abs(estimate), rtol=1e-12)


def test_weight_errors_count_those_within_two_standard_errors(fitted):
    _, _, truth, _ = fitted
    shifted = truth.replace(output_weights=truth.output_weights + 0.01)
    errors = {"output_weights": np.full(truth.output_weights.shape, 0.004)}
    ax = plotting.plot_weight_errors(shifted, truth, errors, weights=["output_weights"])
    assert ax.get_title().startswith(f"0 of {truth.output_weights.size} ")


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: plotting.plot_weights(f[3].model_, f[2], weights=["colour"]), "`weights`"),
        (lambda f: plotting.plot_weight_errors(f[3].model_, f[2], {}), "refine="),
        (
            lambda f: plotting.plot_weights(
                f[3].model_, f[2], standard_errors={"input_weights": np.zeros(2)}
            ),
            "has shape",
        ),
        (lambda f: plotting.plot_prediction(f[1], f[1][:2]), "`predictions`"),
        (lambda f: plotting.plot_residuals(f[1], f[1][:2]), "`predictions`"),
        (lambda f: plotting.plot_residuals(f[1], f[1], output=3), "`output`=3"),
        (lambda f: plotting.plot_residuals(f[1], f[1], skip=20), "`skip`=20"),
        (lambda f: plotting.plot_score_check({}), "`check`"),
        (lambda f: plotting.plot_report(replace(f[3].report_, stages=[])), "`report`"),
        (lambda f: plotting.plot_history(replace(f[3].report_, history=[])), "`report`"),
        (lambda f: plotting.plot_error_curve([1, 2], {}), "at least one curve"),
        (lambda f: plotting.plot_error_curve([1, 2], {"a": [1.0]}), "expected"),
    ],
)
def test_errors_name_the_argument(call, message, fitted):
    with pytest.raises(ValueError, match=message):
        call(fitted)


def test_missing_matplotlib_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from gloree import plotting\n"
        "try:\n"
        "    plotting.plot_error_curve([1, 2], {'a': [1.0, 0.5]})\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "gloree[plot]"' in found.stdout


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys; from gloree import plotting; print('matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
