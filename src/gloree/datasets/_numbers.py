"""How a table writes its numbers: decimal mark, mark between thousands, and what is in doubt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gloree.datasets._columns import is_missing
from gloree.datasets._delimited import NUMBER, Cells
from gloree.sequences import Array

SIGN = r"[+\-\u2212]?"

DECIDES_POINT = "decimal point"
DECIDES_COMMA = "decimal comma"
POINT_GROUPS = "thousands with points"
COMMA_GROUPS = "thousands with commas"
POINT_DOUBT = "decimal point, or thousands with points"
COMMA_DOUBT = "decimal comma, or thousands with commas"
DOUBTS = {POINT_DOUBT, COMMA_DOUBT}
COMMA_LIKE = (
    *(DECIDES_COMMA, COMMA_DOUBT, POINT_GROUPS),
    *(COMMA_GROUPS, POINT_DOUBT, DECIDES_POINT),
)
FITTING = {
    DECIDES_POINT: ("P", "Pg"),
    DECIDES_COMMA: ("C", "Cg"),
    POINT_GROUPS: ("Cg",),
    COMMA_GROUPS: ("Pg",),
    POINT_DOUBT: ("P", "Pg", "Cg"),
    COMMA_DOUBT: ("C", "Cg", "Pg"),
}
"""Ways to write numbers in which a form occurs: P with decimal points, C with decimal commas, both
also with thousands (g) by the other mark."""

DOUBTFUL = re.compile(rf"{SIGN}[1-9]\d{{0,2}}([.,])\d{{3}}")
"""1.200: thousands, or three decimals; 0.200 and 1.200e3 are no thousands."""

GROUPED = re.compile(
    rf"{SIGN}[1-9]\d{{0,2}}"
    r"((\.\d{3})+,\d*|(,\d{3})+\.\d*|(\.\d{3}){2,}|(,\d{3}){2,})"
)
"""1.200,5 or 1.200.000: thousands without doubt."""

OTHER = {".": ",", ",": "."}

CODE = re.compile(r"0\d.*|(0?[1-9]|1[0-2])\.(19|20)\d\d")
"""01.2024, 01.02: months, days and codes, which say nothing about decimals."""


@dataclass(frozen=True)
class Numbers:
    """How numbers are written: decimal mark, and mark between thousands, if there is one."""

    decimal: str
    thousands: str | None = None

    @cached_property
    def _groups(self) -> re.Pattern[str]:
        """Digits in groups of three (in India of two, but for the last)."""
        mark = re.escape(self.thousands or "")
        return re.compile(rf"{SIGN}[1-9]\d{{0,2}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}")

    def plain(self, cell: str) -> str:
        """Number as Python writes it."""
        cell = cell.strip()
        if self.thousands is not None and self.thousands in cell:
            whole, mark, rest = cell.partition(self.decimal)
            if self._groups.fullmatch(whole):
                cell = whole.replace(self.thousands, "") + mark + rest
            # else the mark stands where no thousands end: the cell is no number
            cell = cell.replace(self.thousands, "?")
        if self.decimal == ",":
            # a point would be a decimal mark of another kind
            cell = cell.replace(".", "?").replace(",", ".")
        return cell.replace("\u2212", "-").replace("_", "?")

    def column(self, cells: Collection[str]) -> Array:
        """Numbers of a column; ValueError where a cell is none."""
        if self.decimal == "." and self.thousands is None and not any("_" in c for c in cells):
            return np.array([float(cell) for cell in cells])
        return np.array([float(self.plain(cell)) for cell in cells])


Place = tuple[int, int, str]
"""Line, column and text of a cell."""


def _form(cell: str) -> str | None:
    """What a cell says about the marks; None if it holds no mark, or is no number."""
    if GROUPED.fullmatch(cell):
        return POINT_GROUPS if "," not in cell.split(".")[0] else COMMA_GROUPS
    if not NUMBER.fullmatch(cell):
        return None
    if DOUBTFUL.fullmatch(cell):
        return POINT_DOUBT if "." in cell else COMMA_DOUBT
    return DECIDES_COMMA if "," in cell else DECIDES_POINT


def _forms(cells: Cells, columns: Iterable[int], thousands: str | None) -> dict[str, Place]:
    """First cell of each form in some columns."""
    found: dict[str, Place] = {}
    for column in columns:
        for line, cell in zip(cells.lines.tolist(), cells.rows[:, column], strict=True):
            # most tables hold points only: one cell that decides is enough
            if "," in cell or ("." in cell and DECIDES_POINT not in found):
                text = cell.strip()
                form = _form(text if thousands is None else text.replace(thousands, ""))
                if form is not None and (form not in found or found[form][0] > line):
                    found[form] = line, column, text
    return found


def _holds_numbers(cells: Cells, column: int) -> bool:
    """Whether a column holds numbers, and no dates, addresses or codes, which look like some."""
    held = [cell.strip() for cell in cells.rows[:, column] if not is_missing(cell)]
    return all(
        (NUMBER.fullmatch(cell) or GROUPED.fullmatch(cell))
        and not CODE.fullmatch(cell)
        and cell.count(".") != 3
        for cell in held
    )


def _ways(forms: Iterable[str], known: Collection[str], thousands: str | None) -> list[Numbers]:
    """Ways to write numbers in which all forms occur; thousands only where some are `known`."""
    marks = {"P": Numbers(".", thousands), "C": Numbers(",", thousands)}
    if thousands is None and COMMA_GROUPS in known:
        marks["Pg"] = Numbers(".", ",")
    if thousands is None and POINT_GROUPS in known:
        marks["Cg"] = Numbers(",", ".")
    return [way for key, way in marks.items() if all(key in FITTING[form] for form in forms)]


def marks_of(
    cells: Cells,
    wanted: Sequence[int],
    others: Sequence[int],
    *,
    decimal: str | None,
    thousands: str | None,
    separator: str,
) -> Numbers:
    """How the numbers of the columns `wanted` are written; an error where it is in doubt.

    Numbers such as 1.200 are decided by cells that can be read in one way only, of the columns
    themselves or else of the `others`. Without such cells a point stands before decimals, but not
    beside semicolons, which separate columns where commas are decimal marks; and a comma stands
    before decimals beside semicolons only.
    """
    if decimal is not None or thousands in OTHER:
        return Numbers(decimal or OTHER[str(thousands)], thousands)
    seen = _forms(cells, wanted, thousands)
    doubt = next(iter(seen)) if len(seen) == 1 and set(seen) <= DOUBTS else None
    others = [column for column in others if _holds_numbers(cells, column)]
    beside = _forms(cells, others, thousands) if doubt or not seen else {}
    # 100.200.300 may be a code
    sure = beside.keys() - DOUBTS - {POINT_GROUPS, COMMA_GROUPS}
    ways = _ways(seen.keys() | sure, seen.keys() | sure, thousands)
    if not seen:
        return ways[0] if ways else Numbers(".", thousands)
    if doubt and not sure:
        usual = separator == ";" if doubt == COMMA_DOUBT else separator != ";"
        ways = [Numbers("," if doubt == COMMA_DOUBT else ".", thousands)] if usual else []
    if ways:
        return ways[0]
    if doubt:
        line, column, cell = seen[doubt]
        mark = "," if doubt == COMMA_DOUBT else "."
        raise ValueError(
            f"{cells.path}, line {line}, column {column + 1}: {cell!r} may be a number with "
            f"decimals ({cell.replace(mark, '.')}) or with thousands ({cell.replace(mark, '')}): "
            f"pass decimal={mark!r} or thousands={mark!r}"
        )
    comma = next(seen[form] for form in COMMA_LIKE if form in seen)
    point = next(seen[form] for form in reversed(COMMA_LIKE) if form in seen)
    raise ValueError(
        f"{cells.path}: line {comma[0]} holds {comma[2]!r} and line {point[0]} holds "
        f"{point[2]!r}, one with a comma and one with a point: pass `decimal` (and "
        f"`thousands`, if the other mark separates them)"
    )


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
    elif any(mark in cell for mark in f",.'\u2019{marks.thousands or ''}"):
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
