"""Columns of times: which they are, and what they hold: numbers, time stamps, or times of a day."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gloree._extras import require
from gloree.datasets._columns import DATED, is_missing, kind_of
from gloree.datasets._delimited import Cells
from gloree.datasets._numbers import Numbers
from gloree.sequences import Array, IntArray

CLOCK_TIME = re.compile(
    r"(\d+):([0-5]\d)(?::([0-5]\d|60))?([.,]\d*)?(?: ?([AaPp])\.?[Mm]\.?)?", re.ASCII
)
"""12:30, 12:30:05.25, 11:59:59 PM, 100:00:00; 59:59.9 are minutes and seconds."""

DAY, HOUR = 86400, 3600

TIME_WORD = re.compile(
    r"((elapsed|local|utc|gmt|unix|epoch|system|relative|record|log)[ _-]?)?"
    r"(time([ _-]?stamp)?|date([ _-]?time)?|clock|epoch|(mess|uhr)?zeit(stempel)?|datum|temps|heure"
    r"|tiempo|fecha|hora|tempo)"
    r"([ _/([.].*)?|ts|elapsed",
    re.IGNORECASE,
)
TIME_UNIT = re.compile(
    r"[tT] ?[ _/([]+ ?([mun\u00b5\u03bc]?s|sec|seconds?|min|minutes?|h|hours?)[])]?"
)
RUNNING_WORD = re.compile(r"(index|idx|id|samples?|steps?|row|no|nr|n|k|i|t)\.?", re.IGNORECASE)

RUNNING_ROWS = 10
"""Rows from which numbers that rise by nearly even steps are a clock whatever their name."""


def is_clock_time(cell: str) -> bool:
    """Whether a cell is a time without a date."""
    return bool(CLOCK_TIME.fullmatch(cell.strip()))


def default_clock(cells: Cells, names: Sequence[str], taken: Sequence[int]) -> tuple[int, ...]:
    """Columns of the times where none is asked for.

    The first that is named like one, else the first of clock times; dates go with clock times that
    stand in a column of their own.
    """
    free = [column for column in range(len(names)) if column not in taken]
    named = [column for column in free if is_time_name(names[column])][:1]
    clocks = [i for i in free if all(map(is_clock_time, cells.rows[:, i]))][:1]
    days = [i for i in free if is_time_name(names[i]) and _are_days(cells.rows[:, i])][:1]
    if named and named[0] not in (*days, *clocks):
        return tuple(named)
    return (*days, *clocks)


def _are_days(texts: NDArray[np.object_]) -> bool:
    """Whether all cells are dates without a time."""
    return all(":" not in cell and kind_of(cell) == DATED for cell in texts)


def _looks_dated(texts: NDArray[np.object_]) -> bool:
    """Whether one of the first three cells that hold something is a date or a clock time."""
    held = [cell for cell in texts[:RUNNING_ROWS] if not is_missing(cell)]
    return any(kind_of(cell) == DATED for cell in held[:3])


def is_time_name(name: str) -> bool:
    """Whether a column is named like a time."""
    return name == "t" or bool(TIME_WORD.fullmatch(name) or TIME_UNIT.fullmatch(name))


def is_clock(cells: Cells, column: int, name: str, groups: IntArray) -> bool:
    """Whether a column holds times or running numbers, by its name or by its values."""
    texts = cells.rows[:, column]
    if is_time_name(name) or _looks_dated(texts):
        return True
    named = bool(RUNNING_WORD.fullmatch(name))
    if len(texts) < (2 if named else RUNNING_ROWS):
        return False
    try:
        values = np.array([float(cell.replace(",", ".")) for cell in texts])
    except ValueError:
        return False
    steps = np.asarray(_steps(values, groups)[0], dtype=np.float64)
    if not steps.size or not np.isfinite(steps).all():
        return False
    if not steps.min() > 0:
        return False
    # times are rounded to some digit: their last one may be off
    even = np.ptp(steps) <= 1e-3 * steps.mean() + 4e-16 * np.abs(values).max()
    # or they jitter, with a gap now and then
    near = np.mean(abs(steps - np.median(steps)) <= 0.5 * np.median(steps))
    return bool(even or (len(texts) >= RUNNING_ROWS and near >= 0.9))


def _steps(values: NDArray[np.generic], groups: IntArray) -> tuple[NDArray[np.generic], IntArray]:
    """Differences between the following rows of each group, and the rows that they lead to."""
    order = np.argsort(groups, kind="stable")
    inside = np.diff(groups[order]) == 0
    return np.diff(values[order])[inside], order[1:][inside]


def times_of(
    cells: Cells, columns: Sequence[int], groups: IntArray, marks: Numbers
) -> NDArray[np.generic]:
    """Times of all rows: numbers, ``datetime64`` of time stamps, or seconds of clock times.

    Two columns are dates and clock times.
    """
    column = columns[-1]
    texts = [" ".join(row[i].strip() for i in columns) for row in cells.rows]
    if all(re.match(r"\d+:\d", text) for text in texts):
        return _seconds(cells, texts, column, groups)
    try:
        numbers = marks.column(texts)
    except ValueError:
        return _stamps(cells, texts, column, groups)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise _no_time(cells, column, int(bad[0]))
    return numbers


def _seconds(cells: Cells, texts: list[str], column: int, groups: IntArray) -> Array:
    """Seconds of clock times since the first row of their sequence, (n_rows,).

    A clock begins anew at midnight, and one of minutes and seconds at the full hour: a step back by
    more than half of its period leads into the next one; times beyond one period do not begin anew.
    """
    parts = [CLOCK_TIME.fullmatch(text) for text in texts]
    for row, part in enumerate(parts):
        if part is None or (part[5] and not 1 <= int(part[1]) <= 12):
            raise _no_time(cells, column, row)
    found = [part for part in parts if part is not None]
    first = np.array([int(part[1]) for part in found])
    second = np.array([int(part[2]) for part in found])
    third = np.array([int(part[3] or 0) for part in found])
    fraction = np.array([float("0" + (part[4] or ".").replace(",", ".")) for part in found])
    halves = np.array([part[5].lower() if part[5] else "" for part in found])
    short = np.array([part[3] is None for part in found])
    late = np.flatnonzero(short & ((first >= 24) | ((fraction > 0) & ~short.all())))
    if bool(short.all()) and any(part[4] for part in found):
        whole, period = 60 * first + second, HOUR
    elif late.size:
        raise ValueError(
            f"{cells.path}, line {cells.lines[late[0]]}, column {column + 1}: the time "
            f"{texts[late[0]]!r} may be hours and minutes, or minutes and seconds: write times "
            f"like 13:45:00, or pass time=False"
        )
    else:
        hours = np.where(halves == "", first, first % 12 + 12 * (halves == "p"))
        whole, period = 3600 * hours + 60 * second + third, DAY
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    whole, fraction = whole[order], fraction[order]
    turns = np.diff(whole, prepend=whole[0]) < -period / 2
    if bool((whole > period).any()):
        turns[:] = False
    turns[starts] = False
    whole = whole + period * np.cumsum(turns)
    lengths = np.diff([*starts, len(whole)])
    # whole seconds first: differences of fractions keep their digits
    times = whole - np.repeat(whole[starts], lengths)
    times = times + (fraction - np.repeat(fraction[starts], lengths))
    return np.asarray(times[np.argsort(order, kind="stable")], dtype=float)


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
