"""Scorers of scikit-learn that compare rows, refused where predictions are sequences."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

FARTHEST = 20
"""Frames between a scorer and `predict`, at most: pipelines and searches stand between them."""

PASSED_ON = ("gloree", "sklearn")
"""Packages whose frames may stand there: an estimator of somebody else may make rows of it."""

SAME_ON_ROWS = ("mean_squared_error", "mean_absolute_error")
"""Metrics whose average over steps as outputs is that over rows."""


def refuse_scorers_of_rows(form: str, *, flat_outputs: bool) -> None:
    """Raise where one of scikit-learn's own scorers asks for predictions of several sequences.

    Such a scorer takes the second axis for outputs: it refuses a third one (which cross-validation
    turns into NaN), makes the average of R^2 of single steps, or the share of sequences that are
    labelled correctly throughout. Nothing that `predict` could return is right, as the scorer has
    the outputs already. Functions of one's own in `make_scorer`, estimators of one's own in
    between, and `sequence_scorer`, are let through.
    """
    if form in ("single", "flat"):
        return
    scorer = _calling_scorer(sys._getframe(1))
    if scorer is None:
        return
    function = scorer._score_func
    if not str(getattr(function, "__module__", "")).startswith("sklearn.metrics"):
        return
    if flat_outputs and form == "array" and function.__name__ in SAME_ON_ROWS:
        return
    name = _name_of(scorer)
    given = repr(name) if name is not None else f"make_scorer({function.__name__}, ..)"
    raise ValueError(
        f"scoring={given} compares rows, and these are sequences: scikit-learn takes their steps "
        f"for outputs, which gives NaN or another number. Write "
        f"scoring=gloree.metrics.sequence_scorer({given}), or leave `scoring` out"
    )


def _calling_scorer(frame: FrameType | None) -> Any:
    """The scorer of scikit-learn that called, if one did, and not by way of `sequence_scorer`."""
    for _ in range(FARTHEST):
        if frame is None:
            return None
        module = frame.f_globals.get("__name__", "")
        if module == "gloree.metrics._scorers" or module.partition(".")[0] not in PASSED_ON:
            return None
        found = frame.f_locals.get("self")
        if module == "sklearn.metrics._scorer" and hasattr(found, "_score_func"):
            return found
        frame = frame.f_back
    return None


def _name_of(scorer: Any) -> str | None:
    """Name that scikit-learn knows a scorer by."""
    known = getattr(sys.modules.get("sklearn.metrics._scorer"), "_SCORERS", {})
    for name, each in known.items():
        same = each._score_func is scorer._score_func and each._sign == scorer._sign
        if same and each._kwargs == scorer._kwargs:
            return str(name)
    return None
