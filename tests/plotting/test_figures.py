"""What holds for all figures: they draw on the axes given, and nothing global changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from helpers.marks import first_of
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from gloree import plotting
from gloree.diagnostics import OrderTrial
from gloree.systems import (
    at_records,
    frequency_response,
    prediction_intervals,
    residual_tests,
    spectral_response,
    time_response,
)

STEPS = np.zeros((2, 4, 1))


@pytest.fixture
def calls(fitted, choice, check, directions, bands):
    X, Y, truth, est = fitted
    predictions = est.predict(X)
    errors = est.report_.standard_errors
    model, records, known = bands
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
        "plot_directions": ((directions,), {}),
        "plot_confusion": ((np.array([0, 1, 1]), np.array([0, 1, 0])), {}),
        "plot_poles": ((np.array([0.5, -0.2j]),), {"truth": [0.4]}),
        "plot_spectrum": ((Y[0, :, 0], Y[1, :, 0]), {"skip": 2}),
        "plot_nonlinearity": ((Y[0, :, 0], Y[1, :, 0]), {}),
        "plot_frequency_response": (
            (frequency_response(model, uncertainty=known), spectral_response(records)),
            {"input": 1},
        ),
        "plot_time_response": ((time_response(model, uncertainty=known),), {}),
        "plot_residual_tests": ((residual_tests(at_records(model, records)),), {"input": 1}),
        "plot_orders": (([OrderTrial(1, 1.0, 0.5, 0), OrderTrial(2, 0.1, 0.1, 1)],), {}),
        "plot_intervals": ((prediction_intervals(known, records.X), records.Y), {}),
    }


FUNCTIONS = sorted(name for name in plotting.__all__ if name.startswith("plot_"))


@pytest.mark.parametrize("name", first_of(FUNCTIONS, 8))
def test_draws_on_axes_given_or_new_and_labels_them(name, calls):
    function = getattr(plotting, name)
    arguments, options = calls[name]
    before = dict(matplotlib.rcParams)
    new = function(*arguments, **options)
    assert isinstance(new, Axes)
    assert new.get_xlabel() or name == "plot_history"
    assert new.get_ylabel() or name in ("plot_score_check", "plot_report")
    figure, ax = plt.subplots()
    _, current = plt.subplots()
    numbers = plt.get_fignums()
    assert function(*arguments, **options, ax=ax) is ax
    assert ax.has_data()
    figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == numbers
    assert plt.gca() is current


@pytest.mark.parametrize("name", first_of(FUNCTIONS, 6))
def test_all_text_lies_within_the_figure_and_ticks_do_not_meet(name, calls):
    arguments, options = calls[name]
    ax = getattr(plotting, name)(*arguments, **options)
    figure = ax.figure
    figure.canvas.draw()
    for axis, side in ((ax.xaxis, 0), (ax.yaxis, 1)):
        boxes = [
            label.get_window_extent()
            for label in axis.get_ticklabels()
            if label.get_text() and label.get_visible()
        ]
        limits = ax.get_window_extent().get_points()[:, side]
        ends = [box.get_points()[:, side] for box in boxes]
        # ticks beyond the limits are not drawn
        ends = [e for e in ends if limits[0] - 1 <= e.mean() <= limits[1] + 1]
        ends.sort(key=lambda pair: pair[0])
        if all(label.get_rotation() == 0 for label in axis.get_ticklabels()):
            assert all(a[1] <= b[0] for a, b in pairwise(ends)), f"labels of axis {side} overlap"
    texts = [ax.xaxis.label, ax.yaxis.label, ax.title, *ax.texts]
    legend = ax.get_legend()
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes += [] if legend is None else [legend.get_window_extent()]
    for box in boxes:
        assert figure.bbox.padded(1).count_contains(box.corners()) == 4


@pytest.mark.parametrize("name", first_of(FUNCTIONS, 8))
def test_inputs_are_not_changed(name, calls):
    function = getattr(plotting, name)
    arguments, options = calls[name]
    arrays = [value for value in arguments if isinstance(value, np.ndarray)]
    copies = [value.copy() for value in arrays]
    function(*arguments, **options)
    for value, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


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
        (lambda f: plotting.plot_weights(f[3].model_, f[2], weights=[]), "`weights`"),
        (lambda f: plotting.plot_prediction(f[1], f[1][:2]), "`predictions`"),
        (lambda f: plotting.plot_residuals(f[1], f[1][:2]), "`predictions`"),
        (lambda f: plotting.plot_residuals(f[1], f[1], output=3), "`output`=3"),
        (lambda f: plotting.plot_residuals(f[1], f[1], skip=20), "`skip`=20"),
        (lambda f: plotting.plot_score_check({}), "`check`"),
        (lambda f: plotting.plot_report(replace(f[3].report_, stages=[])), "`report`"),
        (lambda f: plotting.plot_history(replace(f[3].report_, history=[])), "`report`"),
        (lambda f: plotting.plot_error_curve([1, 2], {}), "at least one curve"),
        (lambda f: plotting.plot_error_curve([1, 2], {"a": [1.0]}), "expected"),
        (lambda f: plotting.plot_directions(f[3].report_.directions), "bidirectional"),
        (lambda f: plotting.plot_confusion([], []), "`truth` holds no labels"),
        (lambda f: plotting.plot_confusion([1, 2], [1]), "`truth` has 2 labels"),
        (lambda f: plotting.plot_confusion([[1], [2, 3]], [[1], [2]]), r"`truth\[1\]` has 2"),
        (lambda f: plotting.plot_confusion([[1], [2]], [[1, 2]]), "2 sequences"),
        (lambda f: plotting.plot_confusion([[1], 2], [[1], 2]), "mixes"),
        (lambda f: plotting.plot_confusion("ab", "ab"), "`truth`"),
        (lambda f: plotting.plot_confusion(["a"], ["a"], classes="aa"), "twice"),
        (lambda f: plotting.plot_confusion(["a"], ["b"], classes=["a"]), "`predicted` holds 'b'"),
        (lambda f: plotting.plot_poles([]), "`poles` is empty"),
        (lambda f: plotting.plot_poles([1.0], truth=[np.nan]), "`truth` holds NaN"),
        (lambda f: plotting.plot_spectrum(f[1][0]), "one output"),
        (lambda f: plotting.plot_spectrum(np.zeros(20), np.zeros(19)), "`residuals`"),
        (lambda f: plotting.plot_spectrum([0.0, np.inf]), "`y` holds NaN or infinity at step 1"),
        (lambda f: plotting.plot_spectrum(np.zeros(20), skip=10), "`skip`=10"),
        (lambda f: plotting.plot_spectrum(np.zeros(20), sampling_rate=0), "`sampling_rate`"),
        (lambda f: plotting.plot_nonlinearity([1.0], [1.0]), "`z` has 1 values"),
        (lambda f: plotting.plot_nonlinearity([1.0, 2.0], [1.0]), "`contribution` has 1"),
        (lambda f: plotting.plot_nonlinearity([1.0, 2.0], lambda z: z[:1]), "`contribution`"),
        (lambda f: plotting.plot_nonlinearity([1.0, 2.0], [1.0, np.nan]), "`contribution`"),
        (lambda f: plotting.plot_report(np.zeros(3)), "`report` is of type ndarray"),
        (lambda f: plotting.plot_history(None), "`report` is of type NoneType"),
        (lambda f: plotting.plot_singular_values(3), "`choice` is of type int"),
        (lambda f: plotting.plot_score_check({"a": 3}), "`check` is of type int"),
        (lambda f: plotting.plot_error_curve([1], [1.0]), "`errors` is of type list"),
        (lambda f: plotting.plot_poles([0.5], ax=3), "`ax` is of type int"),
        (lambda f: plotting.plot_prediction(*STEPS, sequence=2), "`sequence`=2, but `Y` has 1"),
        (lambda f: plotting.plot_prediction(*STEPS, sequence=0.5), "`sequence` must be an integer"),
        (lambda f: plotting.plot_prediction(*STEPS, output=0.5), "`output` must be an integer"),
        (lambda f: plotting.plot_prediction(*STEPS, steps=slice(9, 12)), "leaves none of the 4"),
        (lambda f: plotting.plot_prediction(*STEPS, steps=2), "`steps` must be a slice"),
        (lambda f: plotting.plot_prediction(*STEPS, sample_time=0.0), "`sample_time`"),
        (lambda f: plotting.plot_prediction([np.nan], [0.0]), "`Y` holds nan"),
        (lambda f: plotting.plot_residuals([0.0], [np.nan]), "`predictions` holds nan"),
        (lambda f: plotting.plot_residuals(*STEPS, skip=-1), "`skip` must be at least 0"),
    ],
)
def test_errors_name_the_argument(call, message, fitted):
    with pytest.raises((TypeError, ValueError), match=message):
        call(fitted)
    assert not plt.get_fignums(), "an empty figure is left behind"


@pytest.mark.slow
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
