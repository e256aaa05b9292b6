"""Checks before a fit, and the report after it."""

from __future__ import annotations

import linecache
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from gloree import SpectralRNNRegressor, datasets, diagnostics
from gloree.activations import Polynomial, get_activation
from gloree.decomposition import degrees_of_freedom
from gloree.diagnostics import (
    Finding,
    FitReport,
    GloreeWarning,
    IdentifiabilityError,
    OutlierWarning,
    RotationWarning,
    ScoreWarning,
    Stage,
    TooFewSamplesError,
    check_covariance,
    check_identifiable,
    check_samples,
    emit,
    recoverable_degree,
)

# What a table of the report shows.
FOUR_DIGITS = 1e-4


@pytest.mark.parametrize(
    "activation, degree, leading",
    [
        ("quadratic", 2, 1.0),
        ("cubic", 3, 1.0),
        (Polynomial((1.0, 2.0, -0.5)), 2, -0.5),
        (Polynomial((0.0, 0.0, 1.0, 0.25)), 3, 0.25),
    ],
)
def test_degrees_two_and_three_are_recoverable(activation, degree, leading):
    assert recoverable_degree(get_activation(activation)) == (degree, leading)


@pytest.mark.parametrize(
    "activation, message",
    [
        ("tanh", "`activation`='tanh' is no polynomial of degree 2 or 3.*use 'quadratic'"),
        ("linear", "Use 'quadratic' with direct=True"),
        (Polynomial((0, 0, 0, 0, 1.0)), "degree 4: the moment of that order"),
    ],
)
def test_other_activations_are_refused_with_what_to_use_instead(activation, message):
    with pytest.raises(ValueError, match=message):
        recoverable_degree(get_activation(activation))


@pytest.mark.parametrize(
    "n_inputs, n_outputs, degree", [(6, 3, 2), (4, 5, 2), (5, 1, 3), (3, 2, 3)]
)
def test_as_many_units_as_the_moment_has_room_for_are_identifiable(n_inputs, n_outputs, degree):
    # none to spare is enough without noise, and comes with a warning of the decomposition
    room = [degrees_of_freedom(n_outputs, n_inputs, k, degree) for k in range(1, 60)]
    largest = max(k for k, freedom in enumerate(room, start=1) if freedom >= 0)
    assert check_identifiable(n_inputs, largest, n_outputs, degree, recurrent=True)
    with pytest.raises(IdentifiabilityError, match=f"At most {largest} can be recovered"):
        check_identifiable(n_inputs, largest + 1, n_outputs, degree, recurrent=True)


def test_one_output_of_a_square_leaves_a_rotation():
    with pytest.raises(IdentifiabilityError, match=r"Use more outputs.*'cubic'.*recurrence=None"):
        check_identifiable(5, 2, 1, 2, recurrent=True)
    assert check_identifiable(5, 2, 1, 2, recurrent=False) is False
    with pytest.raises(IdentifiabilityError, match="`n_hidden`=6 exceeds n_inputs=5"):
        check_identifiable(5, 6, 1, 2, recurrent=False)
    assert check_identifiable(5, 2, 1, 3, recurrent=True) is True


def test_fewer_numbers_than_unknowns_are_refused_with_how_many_are_needed():
    with pytest.raises(TooFewSamplesError, match="99 steps of 2 outputs for 100 unknown weights"):
        check_samples(99, 2, 100, 3)
    check_samples(100, 2, 100, 3)
    with pytest.raises(TooFewSamplesError, match="at least 110 steps"):
        check_samples(50, 2, 10, 10)


def test_the_condition_is_that_of_the_correlations():
    scale = np.array([1e-4, 1.0, 1e4])
    correlation = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    condition = check_covariance(correlation * np.outer(scale, scale))
    assert condition == pytest.approx(3.0)


def test_constant_and_dependent_columns_are_named():
    with pytest.raises(ValueError, match=r"`X` is constant in column\(s\) 1, 2"):
        check_covariance(np.diag([1.0, 0.0, 0.0]))
    mixing = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="linearly dependent columns, among 0, 2, 3"):
        check_covariance(mixing @ mixing.T)
    assert check_covariance(mixing @ mixing.T, allow_singular=True) > 1e12


def test_every_warning_can_be_caught_by_one_base():
    for name in dir(diagnostics):
        if name.endswith("Warning"):
            assert issubclass(getattr(diagnostics, name), GloreeWarning)
    assert issubclass(GloreeWarning, UserWarning)
    assert issubclass(IdentifiabilityError, ValueError)
    assert issubclass(TooFewSamplesError, ValueError)


def test_findings_are_kept_in_the_report_and_emitted_once_at_the_callers_line():
    findings = (
        Finding(RotationWarning, "only up to a rotation"),
        Finding(ScoreWarning, "wrong score", "give another law"),
    )
    report = FitReport({"sequences": 3}, findings=findings)
    assert report.warnings == ["only up to a rotation", "wrong score: give another law"]
    assert "warning: wrong score: give another law" in str(report)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        emit(findings)
    assert [str(each.message) for each in caught] == report.warnings
    assert [each.category for each in caught] == [RotationWarning, ScoreWarning]
    assert {each.filename for each in caught} == {__file__}


def test_a_fit_warns_at_the_callers_line_directly_and_in_a_pipeline():
    X, Y, _, _ = datasets.make_rnn(300, 8, 3, 2, 3, random_state=0)
    Y[3, 4] = 1e9
    for estimator in (
        SpectralRNNRegressor(2, random_state=0),
        make_pipeline(SpectralRNNRegressor(2, random_state=0)),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(X, Y)
        (found,) = (each for each in caught if each.category is OutlierWarning)
        assert found.filename == __file__
        assert "estimator.fit(X, Y)" in linecache.getline(found.filename, found.lineno)


def test_a_report_prints_as_a_table():
    report = FitReport(
        {"sequences": 2000, "steps": 20000},
        moment="union",
        recurrence="cross",
        stages=(Stage("data", 0.25, "20,000 steps count"), Stage("inputs", 0.5, "VAR(1)")),
        output_std=np.array([3.0, 4.0]),
        moments_rmse=np.array([0.3, 0.4]),
        conditions={"inputs": 2.5},
        predicted_errors={"input_weights": 0.01, "recurrent_weights": 0.7},
    )
    assert report.seconds == 0.75
    text = str(report)
    for part in (
        "sequences 2,000, steps 20,000",
        "first moment: union; recurrence: cross",
        "20,000 steps count",
        "outputs themselves",
        "moments alone",
        "inputs 2.5",
        "(not distinguishable from zero)",
    ):
        assert part in text
    assert "refined" not in text
    assert "refined" in str(replace(report, refined_rmse=np.array([0.1, 0.1])))
    row = next(line for line in text.splitlines() if "moments alone" in line)
    worst, together = (float(cell) for cell in row.split()[-2:])
    assert worst == pytest.approx(0.4)
    assert together == pytest.approx(np.sqrt((0.09 + 0.16) / 2), rel=FOUR_DIGITS)


def test_warnings_stand_in_a_report_as_they_are():
    """In one line, to be found."""
    message = "the inputs wander, and this is said at some length: " + "word " * 60 + "end"
    report = FitReport({"steps": 3}, findings=(Finding(GloreeWarning, message),))
    assert f"  warning: {message}" in str(report).splitlines()


def test_columns_of_a_report_line_up_whatever_the_names_of_stages():
    stages = Stage("a", 0.1, "first"), Stage("the name of a long stage", 0.2, "second")
    lines = str(FitReport({"steps": 3}, stages=stages)).splitlines()
    places = {
        line.index(word)
        for line in lines
        for word in ("outcome", "first", "second")
        if line.endswith(word)
    }
    assert len(places) == 1
