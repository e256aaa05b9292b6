"""What containers of other libraries hold: numbers, names of columns, nothing that is missing.

NumPy's own conversion drops the mask of a masked array and hands over what lies under it, and makes
objects of columns that may have missing cells. Data frames and their columns are told by what they
have, so neither pandas nor polars is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gloree._arrays import without_tensors

Names = tuple[str, ...]

FILL = "missing values are not understood: fill them, or leave such steps or sequences out"
MOST_NAMES = 5
"""Columns that a message names."""


class Column(Protocol):
    """One column of a table."""

    @property
    def dtype(self) -> object:
        """Type of its cells."""

    def to_numpy(self) -> NDArray[np.generic]:
        """Its cells."""


MOST_LISTED = 5
"""Names of features in a message, as in scikit-learn's."""


def refuse_masked(value: object, name: str) -> None:
    """Raise a ValueError if entries of a masked array, or of one in a list, are masked."""
    if isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            if isinstance(part, (list, tuple, np.ma.MaskedArray)):
                refuse_masked(part, f"{name}[{i}]")
        return
    if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value):
        return
    places = np.argwhere(np.ma.getmaskarray(value))
    where = f", the first at {tuple(places[0].tolist())}" if value.ndim else ""
    raise ValueError(f"`{name}` is masked in {len(places)} place(s){where}; {FILL}")


def is_frame(value: object) -> bool:
    """Whether this is a table with named columns."""
    kind = type(value)
    return all(hasattr(kind, each) for each in ("columns", "dtypes", "__array__"))


def is_column(value: object) -> bool:
    """Whether this is one column of a table (a pandas or polars Series, an Index, ...)."""
    kind = type(value)
    missing = hasattr(kind, "isna") or hasattr(kind, "is_null")
    return missing and hasattr(kind, "to_numpy") and not is_frame(value)


def columns_of(frame: object) -> list[Column]:
    """Columns of a table, one by one."""
    table: Any = frame
    if hasattr(table, "get_columns"):  # polars
        return list(table.get_columns())
    return [table.iloc[:, j] for j in range(table.shape[1])]


def feature_names(value: object, name: str) -> Names | None:
    """Names of the columns of a table, if they are strings; None for all else.

    Raises
    ------
    TypeError
        If some are strings and some are not.
    ValueError
        If two columns have one name.
    """
    if not is_frame(value):
        return None
    table: Any = value
    names = list(table.columns)
    if all(isinstance(each, str) for each in names):
        twice = sorted({each for each in names if names.count(each) > 1})
        if twice:
            raise ValueError(
                f"`{name}` has several columns of the name {', '.join(map(repr, twice))}: give "
                f"every column a name of its own"
            )
        return tuple(names) or None
    if any(isinstance(each, str) for each in names):
        kinds = sorted({type(each).__name__ for each in names})
        raise TypeError(
            f"`{name}`: Feature names are only supported if all input features have string names, "
            f"but your input has {kinds} as feature name / column name types. Make all of them "
            f"strings, {name}.columns = {name}.columns.astype(str), or none"
        )
    return None


def plain(value: object, name: str) -> object:
    """Numbers of a table or a column as an array, and anything else as it is, unless masked.

    Raises
    ------
    TypeError
        If columns do not hold numbers; they are named.
    ValueError
        If entries are masked, or cells of columns of a nullable type are missing.
    """
    refuse_masked(value, name)
    if is_frame(value):
        return _table_values(value, name)
    if is_column(value):
        column: Any = value
        return _column_values(column, name)
    kind = type(value)
    for turn, mark in (("collect", "columns"), ("to_pandas", "column_names")):  # polars, pyarrow
        if hasattr(kind, turn) and hasattr(kind, mark):
            raise TypeError(
                f"`{name}` is a {kind.__name__}, expected an array or a data frame of pandas or "
                f"polars: give {name}.{turn}()"
            )
    return value


def with_columns(value: object, name: str) -> object:
    """Vectors, alone or in a list, as arrays of one column; anything else stays as it is."""
    refuse_masked(value, name)
    if isinstance(value, (list, tuple)) and value and not np.isscalar(value[0]):
        return [_with_columns(part, f"{name}[{i}]") for i, part in enumerate(value)]
    return _with_columns(value, name)


def _with_columns(value: object, name: str) -> object:
    if is_frame(value):
        return value
    given: Any = plain(without_tensors(value), name)
    if isinstance(given, np.ndarray):
        # a mapped file stays one
        return given[:, None] if given.ndim == 1 else given
    given = np.asarray(given) if hasattr(given, "__array__") else given
    try:
        return np.asarray(given)[:, None] if np.ndim(given) == 1 else given
    except ValueError:  # no regular array, which is refused with its reasons later
        return given


def _column_values(column: Column, name: str) -> NDArray[np.generic]:
    if not _holds_numbers(column.dtype):
        raise TypeError(
            f"`{name}` has dtype {column.dtype}, expected real numbers{_hint([column.dtype])}"
        )
    if isinstance(column.dtype, np.dtype):
        return np.asarray(column)
    places = missing_places(column)
    if places.size:
        raise ValueError(
            f"`{name}` has {places.size} missing value(s), the first at row {places[0]}; {FILL}"
        )
    values = np.asarray(column.to_numpy())
    return values if values.dtype.kind in "biuf" else values.astype(np.float64)


def _table_values(value: object, name: str) -> NDArray[np.generic]:
    table: Any = value
    columns, names = columns_of(table), [repr(each) for each in table.columns]
    wrong = [j for j, column in enumerate(columns) if not _holds_numbers(column.dtype)]
    if wrong:
        kinds = [columns[j].dtype for j in wrong]
        listed = listing(f"{names[j]} ({columns[j].dtype})" for j in wrong)
        raise TypeError(
            f"`{name}` has columns that do not hold real numbers: {listed}{_hint(kinds)}"
        )
    if all(isinstance(column.dtype, np.dtype) for column in columns):
        values = np.asarray(table)
    else:
        lacking = [(j, found) for j, c in enumerate(columns) if (found := missing_places(c)).size]
        if lacking:
            first, places = lacking[0]
            listed = listing(f"{names[j]} ({found.size})" for j, found in lacking)
            raise ValueError(
                f"`{name}` has missing values in column(s) {listed}, the first of "
                f"{names[first]} at row {places[0]}; {FILL}"
            )
        values = np.asarray(table.to_numpy())
    if values.dtype.kind in "biuf":
        return values
    # tables of truth values and numbers, or of nullable columns, become objects
    return np.column_stack([np.asarray(each.to_numpy()).astype(np.float64) for each in columns])


def _holds_numbers(dtype: object) -> bool:
    numeric = getattr(dtype, "is_numeric", None)
    if numeric is not None:  # polars
        return bool(numeric()) or str(dtype) == "Boolean"
    return getattr(dtype, "kind", "O") in "biuf"


def _hint(kinds: Iterable[object]) -> str:
    texts = [str(kind).lower() for kind in kinds]
    if any("complex" in text for text in texts):
        return " (complex numbers: split them into real and imaginary columns)"
    if any("date" in text or "time" in text for text in texts):
        return ": leave time stamps out, or make numbers of them (seconds since the start)"
    return ": leave them out, or make numbers of them (pandas.to_numeric, pandas.get_dummies)"


def missing_places(column: Column) -> NDArray[np.int64]:
    """Rows in which a column has no value."""
    asked: Any = column
    found = asked.is_null() if hasattr(asked, "is_null") else asked.isna()
    return np.flatnonzero(np.asarray(found, dtype=bool))


def listing(words: Iterable[str]) -> str:
    """A few words, and that there are more."""
    given = list(words)
    return ", ".join(given[:MOST_NAMES]) + (", .." if len(given) > MOST_NAMES else "")


def require_same_names(seen: Names, names: Names) -> None:
    """Raise scikit-learn's error unless features have the names and the order seen in `fit`."""
    if names == seen:
        return
    text = "The feature names should match those that were passed during fit.\n"
    unseen, missing = sorted(set(names) - set(seen)), sorted(set(seen) - set(names))
    for what, listed in (
        ("Feature names unseen at fit time", unseen),
        ("Feature names seen at fit time, yet now missing", missing),
    ):
        if listed:
            more = "- ...\n" if len(listed) > MOST_LISTED else ""
            text += f"{what}:\n" + "".join(f"- {each}\n" for each in listed[:MOST_LISTED]) + more
    if not unseen and not missing:
        text += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(text)
