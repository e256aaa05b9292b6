"""Labels of any hashable kind, one for each step, and the numbers that stand for them."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gloree._arrays import without_tensors
from gloree._frames import columns_of, is_column, is_frame, listing, refuse_masked
from gloree.engine import Engine, Source, Sums
from gloree.sequences import (
    Array,
    Batch,
    Data,
    IntArray,
    Sequences,
    is_padded,
    lengths_hint,
    unpadded,
)

Labels: TypeAlias = NDArray[np.generic]

MOMENTS = "mM"
"""Kinds of types that hold dates and durations."""

KINDS: tuple[Any, ...] = (
    *(str, bytes, (bool, np.bool_), (int, np.integer), (float, np.floating)),
    *(np.datetime64, np.timedelta64),
)
"""Kinds of labels that have arrays of their own; all others are objects."""

LARGEST_LABEL = 2.0**53
"""Whole numbers beyond this are not all floats."""


def flatten_labels(labels: object, data: Sequences) -> list[object]:
    """Labels of all steps, one after another, as many as the inputs have steps, none missing."""
    if labels is None:
        raise ValueError(
            "`labels` are missing: a label for every step is needed (a fit requires y to be "
            "passed, but the target y is None)"
        )
    labels = without_tensors(labels)
    refuse_masked(labels, "labels")
    if data.form in ("single", "flat"):
        flat = _one_a_step(labels, data.n_rows, "`labels`", "`X`")
    else:
        each = _values(labels)
        if each is None:
            raise ValueError(
                f"`labels` is {labels!r}, expected one sequence of labels for each sequence of `X`"
            )
        if len(each) != data.n_sequences:
            raise ValueError(
                f"`X` has {data.n_sequences} sequences, `labels` has {len(each)}: one sequence "
                f"of labels for each is needed"
            )
        flat = []
        for i, length in enumerate(data.lengths.tolist()):
            flat += _one_a_step(each[i], length, f"`labels[{i}]`", f"`X[{i}]`")
    for place, label in enumerate(flat):
        if is_missing(label):
            sequence = int(np.searchsorted(data.starts, place, side="right") - 1)
            raise ValueError(
                f"`labels` holds {label!r} at sequence {sequence}, step "
                f"{place - int(data.starts[sequence])}: leave unlabelled sequences out, or give "
                f"such steps a label of their own"
            )
    return flat


def labels_of_steps(labels: object, X: object, lengths: ArrayLike | None) -> object:
    """Labels of the steps that are there, of those of a padded array `X`."""
    if labels is None or lengths is None or not is_padded(X, lengths):
        return labels
    return unpadded(labels, lengths, "labels")


def is_missing(label: object) -> bool:
    """Whether this stands for no label: None, NaN, NaT or pandas' NA."""
    if label is None:
        return True
    try:
        # NaN and NaT are the values that differ from themselves
        return bool(label != label)
    except (TypeError, ValueError):
        # a comparison with NA is NA, neither true nor false; arrays are no labels at all
        return type(label).__name__ == "NAType"


def _values(labels: object) -> Any:
    """What a container of labels holds; None if it is none.

    Of a table only the values count, not the names of its columns; of a column neither its index.
    """
    if isinstance(labels, str) or not (isinstance(labels, Sized) or hasattr(labels, "__array__")):
        return None
    if is_frame(labels) or hasattr(labels, "__array__"):
        values = np.asarray(labels)
        if not is_column(labels) or values.dtype.kind in MOMENTS:
            return values if values.ndim else None
    return list(labels)  # type: ignore[call-overload]


def _one_a_step(labels: object, expected: int, name: str, inputs: str) -> list[object]:
    table: Any = labels
    if is_frame(labels):
        if len(table.columns) != 1:
            turn = ", labels.idxmax(axis=1)" if hasattr(labels, "idxmax") else ""
            raise ValueError(
                f"{name} is a {type(labels).__name__} of {len(table.columns)} columns "
                f"({listing(map(repr, table.columns))}), expected one column of labels. Of "
                f"indicators (one-hot) give the name of the column with the one{turn}"
            )
        labels = columns_of(table)[0]
    values = _values(labels)
    if values is None:
        raise ValueError(f"{name} is {labels!r}, expected a sequence of {expected} labels")
    if isinstance(values, np.ndarray):
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            hint = (
                ": of indicators (one-hot), give labels.argmax(axis=1)" if values.ndim == 2 else ""
            )
            raise ValueError(f"{name} has shape {values.shape}, expected one label a step{hint}")
        # dates of Python would lose the unit, and nanoseconds become whole numbers
        values = list(values) if values.dtype.kind in MOMENTS else values.tolist()
    if len(values) != expected:
        hint = lengths_hint(values, expected) if inputs == "`X`" else ""
        raise ValueError(f"{inputs} has {expected} steps, {name} has {len(values)} labels{hint}")
    return list(values)


def distinct(flat: list[object]) -> Labels:
    """Distinct labels: sorted where they can be, else in the order of their first appearance."""
    try:
        first: dict[object, object] = {}
        for label in flat:
            first.setdefault(_key(label), label)
        found = list(first.values())
    except TypeError:
        bad = next(label for label in flat if not _is_hashable(label))
        raise TypeError(
            f"labels must be hashable (strings, numbers, tuples), got {bad!r} of type "
            f"{type(bad).__name__}. One label a step: is there a list too many?"
        ) from None
    with contextlib.suppress(TypeError):
        found = sorted(found)  # type: ignore[type-var]
    _require_no_measurements(found, len(flat))
    truths = [isinstance(label, (bool, np.bool_)) for label in found]
    for kind in KINDS:
        # True is an integer, and 1 is another label
        if all(isinstance(label, kind) for label in found) and all(truths) == any(truths):
            classes = np.array(found)
            if classes.tolist() == found or classes.dtype.kind in MOMENTS:
                return classes
    classes = np.empty(len(found), dtype=object)
    classes[:] = found
    return classes


def of_type(classes: Labels, labels: object) -> Labels:
    """Labels in the type of the arrays that hold them, where that is a type of numbers."""
    parts = [labels] if hasattr(labels, "dtype") else labels
    types = {getattr(part, "dtype", None) for part in parts} if isinstance(parts, list) else set()
    given = types.pop() if len(types) == 1 else None
    if (
        not isinstance(given, np.dtype)
        or given.kind not in "iuf"
        or classes.dtype.kind not in "iuf"
    ):
        return classes
    return classes.astype(given)


def _key(label: object) -> object:
    """What tells a label apart: of dates and durations the moment, whatever its unit and type."""
    if not isinstance(label, (np.datetime64, np.timedelta64, datetime.date, datetime.timedelta)):
        return label
    if getattr(label, "tzinfo", None) is not None:
        return label
    moment: Any = label
    if hasattr(moment, "to_numpy"):  # of pandas, to the nanosecond
        moment = moment.to_numpy()
    kind = "datetime64" if isinstance(label, (np.datetime64, datetime.date)) else "timedelta64"
    moment = np.array(moment, dtype=None if isinstance(moment, np.generic) else kind)
    seconds = moment.astype(f"{kind}[s]")
    rest = moment - seconds
    # the unit is finer than a second, and attoseconds of one are whole numbers
    fraction = int(rest.astype("timedelta64[as]").astype(np.int64)) if rest.astype(bool) else 0
    return kind, int(seconds.astype(np.int64)), fraction


def _require_no_measurements(found: list[object], n_labels: int) -> None:
    """Raise if the labels are numbers with fractions, most of which occur once."""
    if 2 * len(found) <= n_labels:
        return
    numbers = [float(label) for label in found if isinstance(label, (float, np.floating))]
    if len(numbers) == len(found) and not all(map(float.is_integer, numbers)):
        raise ValueError(
            f"Unknown label type: `labels` is a continuous target, {len(found)} different numbers "
            f"on {n_labels} steps, among them {numbers[0]:.6g}: outputs that were measured are for "
            f"SpectralRNNRegressor"
        )


def _is_hashable(label: object) -> bool:
    try:
        hash(label)
    except TypeError:
        return False
    return True


def numbers_of(flat: list[object], classes: Labels) -> IntArray:
    """Place of every label in `classes`, -1 for those that are not there."""
    known = list(classes) if classes.dtype.kind in MOMENTS else classes.tolist()
    place = {_key(label): i for i, label in enumerate(known)}
    return np.array([place.get(_key(label), -1) for label in flat], dtype=np.int64)


@dataclass(frozen=True)
class LabelSet(Sums):
    """Distinct whole numbers among the labels of some batches."""

    values: IntArray

    def merge(self, other: object) -> LabelSet:
        """Return those of both."""
        assert isinstance(other, LabelSet)
        return LabelSet(np.union1d(self.values, other.values))


def label_set(batch: Batch) -> LabelSet:
    """Map of the pass that looks for labels."""
    return LabelSet(np.unique(_whole_numbers(batch.targets[batch.counted])))


def _whole_numbers(labels: Array) -> IntArray:
    """Labels that the data hold, one a step."""
    if labels.shape[1] != 1 or bool((labels != np.round(labels)).any()):
        raise ValueError(
            "labels must be one whole number a step where the data hold them: number them, and "
            "keep the names beside"
        )
    if bool((abs(labels) > LARGEST_LABEL).any()):
        raise ValueError(
            f"labels of data that hold them must be at most 2^53 in size, where float64 still "
            f"tells whole numbers apart, got {float(abs(labels).max()):.17g}: number the classes "
            f"from 0"
        )
    return np.asarray(labels[:, 0].astype(np.int64))


@dataclass(frozen=True)
class Accuracy(Sums):
    """Steps, those that are labelled correctly, and those with labels not seen in `fit`."""

    n_rows: float
    n_correct: float
    n_unseen: float
    unseen: LabelSet = field(metadata={"nested": True})


def accuracy(outputs: Array, data: Sequences, classes: Labels | None) -> Accuracy:
    """Compare outputs with the labels that the data hold, or their places in `classes` if None."""
    if data.Y is None:
        raise ValueError("`labels` are missing: a label for every step is needed")
    labels = _whole_numbers(data.Y)
    codes = labels if classes is None else numbers_of(labels.tolist(), classes)
    is_unseen = codes < 0
    return Accuracy(
        float(codes.size),
        float(np.sum(outputs.argmax(axis=1) == codes)),
        float(np.sum(is_unseen)),
        LabelSet(np.unique(labels[is_unseen])),
    )


def label_numbers(data: Data, engine: Engine) -> IntArray:
    """Distinct labels of data that hold them, in one pass; each must be a whole number."""
    if not data.n_outputs:
        raise ValueError("`labels` are missing: fit needs a label for every step")
    return engine.run(label_set, Source(data), label="labels").values


def first_shown(classes: Labels) -> str:
    """The first label as messages show it."""
    # dates with nanoseconds would be whole numbers of Python
    return str(classes[0]) if classes.dtype.kind in MOMENTS else repr(classes.tolist()[0])
