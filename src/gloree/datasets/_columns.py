"""What the columns of a table hold: names, units, numbers, times."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gloree._extras import require
from gloree.datasets._delimited import NUMBER, Cells
from gloree.sequences import Array, IntArray

MISSING_MARKS = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "--"))
"""Cells, in lower case, that stand for no value."""

DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T,].*)?|\d{1,2}:\d{2}.*")
TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}.*")

TIME_WORD = re.compile(
    r"(time([ _-]?stamp)?|date([ _-]?time)?|clock|zeit(stempel)?|datum|temps|tiempo|fecha|tempo)"
    r"([ _/([.].*)?",
    re.IGNORECASE,
)
TIME_UNIT = re.compile(
    r"[tT] ?[ _/([]+ ?([mun\u00b5\u03bc]?s|sec|seconds?|min|minutes?|h|hours?)[])]?"
)
RUNNING_WORD = re.compile(r"(index|idx|samples?|steps?|row|no|nr|n|k|i|t)\.?", re.IGNORECASE)

RUNNING_ROWS = 10
"""Rows from which evenly spaced, rising numbers are taken for a clock whatever their name."""

GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
"""Thousands with commas, or three decimals."""

NUMERIC, DATED, EMPTY, TEXT = "number", "date", "empty", "text"


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no value."""
    return cell.strip().lower() in MISSING_MARKS


def kind_of(cell: str) -> str:
    """What a cell looks like."""
    cell = cell.strip()
    if is_missing(cell):
        return EMPTY
    if NUMBER.fullmatch(cell):
        return NUMERIC
    return DATED if DATE.fullmatch(cell) else TEXT


def find_header(cells: Cells, header: bool | None) -> tuple[list[str], Cells]:
    """Names of the columns, and the rows below them; rows longer than the first are refused."""
    if not len(cells.rows):
        return [], cells
    first = [cell.strip() for cell in cells.rows[0]]
    kinds = {kind_of(cell) for cell in first if cell}
    if header is None:
        corner = first[0] == "" and len(cells.rows) > 1 and cells.rows[1][0].strip() != ""
        if (NUMERIC in kinds or DATED in kinds) and (TEXT in kinds or corner):
            raise ValueError(
                f"{cells.path}, line {cells.lines[0]}: it is in doubt whether this row, "
                f"{_shown(first)}, holds names or values: pass header=True or header=False"
            )
        header = not (NUMERIC in kinds or DATED in kinds)
    width = max((i + 1 for i, cell in enumerate(first) if cell), default=0)
    _check_width(cells, width, "header" if header else "first row")
    names = first[:width] if header else [str(i) for i in range(width)]
    return names, cells.below(int(header))


def _check_width(cells: Cells, width: int, what: str) -> None:
    for column in range(width, cells.rows.shape[1]):
        for line, row in zip(cells.lines, cells.rows, strict=True):
            if row[column].strip():
                held = max(i + 1 for i, cell in enumerate(row) if cell.strip())
                raise ValueError(
                    f"{cells.path}, line {line}: {held} cells, where the {what} has {width}: mend "
                    f"the line, or the {what}. Numbers with decimal commas need another "
                    f"`separator` than a comma, or quotes around them; pass `skip` if the table "
                    f"begins further below"
                )


def _shown(row: Sequence[str]) -> str:
    return repr(", ".join(row))[:70]


def units_of(
    cells: Cells, wanted: Sequence[int], units: bool | None
) -> tuple[list[str] | None, Cells]:
    """Row of units below the names, if there is one, and the rows below it."""
    if units is None:
        top, below = (cells.rows[i : i + 1, list(wanted)].ravel() for i in (0, 1))
        said = any(not is_missing(cell) for cell in top)
        texts = all(kind_of(cell) in (TEXT, EMPTY) for cell in top)
        units = said and texts and below.size > 0 and all(kind_of(c) == NUMERIC for c in below)
    if not units:
        return None, cells
    return [cell.strip() for cell in cells.rows[0]], cells.below(1)


@dataclass(frozen=True)
class Numbers:
    """How numbers are written: decimal mark, and mark between thousands, if there is one."""

    decimal: str
    thousands: str | None = None

    def plain(self, cell: str) -> str:
        """Number as Python writes it."""
        if self.thousands is not None:
            cell = cell.replace(self.thousands, "")
        if self.decimal == ",":
            # a point would be a decimal mark of another kind
            cell = cell.replace(".", "?").replace(",", ".")
        return cell.replace("\u2212", "-").replace("_", "?")

    def column(self, cells: Collection[str]) -> Array:
        """Numbers of a column; ValueError where a cell is none."""
        if self.decimal == "." and self.thousands is None and not any("_" in c for c in cells):
            return np.array([float(cell) for cell in cells])
        return np.array([float(self.plain(cell)) for cell in cells])


def decimal_mark(cells: Cells, wanted: Sequence[int], thousands: str | None, separator: str) -> str:
    """Decimal mark of some columns; an error where they hold both, or it is in doubt."""
    if thousands in (".", ","):
        return "," if thousands == "." else "."
    comma = point = None
    grouped = separator == ","
    for column in wanted:
        for line, cell in zip(cells.lines, cells.rows[:, column], strict=True):
            if "," in cell and is_number(cell):
                comma = comma or (line, cell)
                grouped = grouped and bool(GROUPED.fullmatch(cell.strip()))
            elif point is None and "." in cell and is_number(cell):
                point = line, cell
    if comma is None:
        return "."
    line, cell = comma
    if point is not None:
        raise ValueError(
            f"{cells.path}: line {line} holds {cell.strip()!r} and line {point[0]} holds "
            f"{point[1].strip()!r}, one with a comma and one with a point: pass `decimal` (and "
            f"`thousands`, if the other mark separates them)"
        )
    if grouped:
        raise ValueError(
            f"{cells.path}, line {line}: {cell.strip()!r} may be a number with decimals or with "
            f"thousands: pass decimal=',' or thousands=','"
        )
    return ","


def is_number(cell: str) -> bool:
    """Whether a cell is written like a number."""
    return bool(NUMBER.fullmatch(cell.strip()))


def numbers_of(
    cells: Cells, names: Sequence[str], wanted: Sequence[int], marks: Numbers, missing: str
) -> Array:
    """Numbers in some columns, (n_rows, n_columns), NaN where a cell is missing if it may be."""
    values = np.empty((len(cells.rows), len(wanted)))
    worst: tuple[int, int] | None = None
    for place, column in enumerate(wanted):
        texts = cells.rows[:, column]
        try:
            values[:, place] = marks.column(texts.tolist())
            good = np.isfinite(values[:, place])
        except ValueError:
            good = np.zeros(len(texts), dtype=bool)
        for row in np.flatnonzero(~good).tolist():
            if missing != "error" and is_missing(texts[row]):
                values[row, place] = np.nan
                continue
            try:
                values[row, place] = float(marks.plain(texts[row]))
            except ValueError:
                values[row, place] = np.nan
            if not np.isfinite(values[row, place]):
                worst = min(worst or (row, column), (row, column))
                break
    if worst is not None:
        raise _no_number(cells, names, *worst, marks)
    return values


def _no_number(
    cells: Cells, names: Sequence[str], row: int, column: int, marks: Numbers
) -> ValueError:
    cell = cells.rows[row, column].strip()
    shown = repr(cell if len(cell) <= 40 else f"{cell[:37]}...")
    where = f"{cells.path}, line {cells.lines[row]}, column {column + 1}"
    name = repr(names[column])
    if is_missing(cell):
        advice = (
            f"{name} is missing there. Pass missing='split' to leave such rows out and begin a new "
            f"sequence behind each, or missing='nan'"
        )
    elif any(mark in cell for mark in ",."):
        advice = (
            f"numbers are read with decimal={marks.decimal!r} and thousands={marks.thousands!r}: "
            f"pass others for {name}"
        )
    elif row == 0:
        advice = (
            f"pass units=True if this row holds units, `skip` if the table begins further below, "
            f"or other columns than {name} as `inputs` and `outputs`"
        )
    else:
        advice = f"mend the cell, or pass other columns than {name} as `inputs` and `outputs`"
    return ValueError(f"{where}: {shown} is not a number: {advice}")


def is_time_name(name: str) -> bool:
    """Whether a column is named like a time."""
    return name == "t" or bool(TIME_WORD.fullmatch(name) or TIME_UNIT.fullmatch(name))


def is_clock(cells: Cells, column: int, name: str, groups: IntArray) -> bool:
    """Whether a column holds times or running numbers, by its name or by its values."""
    texts = cells.rows[:, column]
    if is_time_name(name) or any(kind_of(cell) == DATED for cell in texts[:3]):
        return True
    named = bool(RUNNING_WORD.fullmatch(name))
    if len(texts) < (2 if named else RUNNING_ROWS):
        return False
    try:
        values = np.array([float(cell.replace(",", ".")) for cell in texts])
    except ValueError:
        return False
    steps = _steps(values, groups)[0]
    if not steps.size or not np.isfinite(steps).all():
        return False
    # times are rounded to some digit: their last one may be off
    even = np.ptp(steps) <= 1e-3 * steps.mean() + 4e-16 * np.abs(values).max()
    return bool(steps.min() > 0 and even)


def _steps(values: NDArray[np.generic], groups: IntArray) -> tuple[NDArray[np.generic], IntArray]:
    """Differences between the following rows of each group, and the rows that they lead to."""
    order = np.argsort(groups, kind="stable")
    inside = np.diff(groups[order]) == 0
    return np.diff(values[order])[inside], order[1:][inside]


def times_of(
    cells: Cells, column: int, groups: IntArray, marks: Numbers
) -> NDArray[np.generic] | None:
    """Times of all rows: numbers, or ``datetime64`` of time stamps; None of times of a day."""
    texts = [cell.strip() for cell in cells.rows[:, column]]
    if all(TIME_OF_DAY.fullmatch(text) for text in texts):
        return None  # they go back at midnight
    try:
        numbers = marks.column(texts)
    except ValueError:
        return _stamps(cells, texts, column, groups)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise _no_time(cells, column, int(bad[0]))
    return numbers


def _stamps(
    cells: Cells, texts: list[str], column: int, groups: IntArray
) -> NDArray[np.datetime64]:
    pandas = require("pandas", "pandas", "datasets.read_csv")
    bad = [row for row, text in enumerate(texts) if is_missing(text)]
    if bad:
        raise _no_time(cells, column, bad[0])
    found: list[NDArray[np.datetime64]] = []
    ways = ({"format": "ISO8601"}, {"dayfirst": True}, {"dayfirst": False})
    for way in ways:
        with warnings.catch_warnings():
            # of stamps whose day may be a month
            warnings.simplefilter("ignore")
            try:
                stamps = pandas.to_datetime(texts, utc=True, **way)
            except (ValueError, OverflowError):
                continue
        values = stamps.tz_convert(None).to_numpy()
        if "format" in way:
            return np.asarray(values)
        if not any(np.array_equal(values, other) for other in found):
            found.append(values)
    if len(found) > 1:
        # the day and the month are told apart by the order of the rows, if at all
        found = [each for each in found if (_steps(each, groups)[0] >= np.timedelta64(0)).all()]
    if len(found) == 1:
        return found[0]
    odd = next((i for i, text in enumerate(texts) if kind_of(text) != DATED), 0)
    raise _no_time(cells, column, odd)


def _no_time(cells: Cells, column: int, row: int) -> ValueError:
    return ValueError(
        f"{cells.path}, line {cells.lines[row]}, column {column + 1}: the time "
        f"{cells.rows[row, column].strip()!r} is no number, and no time stamp that can be read in "
        f"one way only: write times like 2024-05-31 13:45:00, or pass time=False"
    )


def check_order(cells: Cells, times: NDArray[np.generic], groups: IntArray, name: str) -> None:
    """Refuse times that go back inside a sequence."""
    steps, rows = _steps(times, groups)
    back = np.sort(rows[steps < np.zeros(1, dtype=steps.dtype)])
    if back.size:
        raise ValueError(
            f"{cells.path}, line {cells.lines[back[0]]}: the time {name!r} goes back. If another "
            f"experiment begins there, pass as `sequence` a column that tells experiments apart; "
            f"else sort the rows, or pass time=False to take them as they stand"
        )
