"""What the rows and cells of a table hold: names, units, numbers, dates, or nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gloree.datasets._delimited import Cells, is_number
from gloree.sequences import IntArray

MISSING_MARKS = frozenset(
    {
        *("", "na", "n/a", "n.a.", "<na>", "null", "none", "missing", "?", "-", "--", "\u2013"),
        *("nan", "-nan", "nan(ind)", "-nan(ind)", "nan(snan)"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "\u2014"),
    }
)
"""Cells, in lower case, that stand for no value."""

ERROR_CELL = re.compile(r"#[A-Z\u00c4\u00d6\u00dc/0?]{2,}[!?]?( N/A)?")
"""What spreadsheets show where a formula fails: #N/A, #DIV/0!, #WERT!, ..."""

DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T,].*)?|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4}( .*)?|\d+:\d{2}.*"
)

KEY_WORD = re.compile(
    r"(run|experiment|trial|session|subject|sequence|batch|versuch|messung)"
    r"([ _-]?(id|no|nr|number))?|id",
    re.IGNORECASE,
)

NUMERIC, DATED, EMPTY, TEXT = "number", "date", "empty", "text"


def is_missing(cell: str) -> bool:
    """Whether a cell stands for no value."""
    cell = cell.strip()
    return cell.lower() in MISSING_MARKS or bool(ERROR_CELL.fullmatch(cell))


def kind_of(cell: str) -> str:
    """What a cell looks like."""
    cell = cell.strip()
    if is_missing(cell):
        return EMPTY
    if is_number(cell):
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


def refuse_key(cells: Cells, column: int, name: str) -> None:
    """Refuse by default a column without fractions whose name says that it tells runs apart."""
    texts = cells.rows[:, column]
    if KEY_WORD.fullmatch(name) and not any("." in cell or "," in cell for cell in texts):
        raise ValueError(
            f"{cells.path}: column {column + 1}, {name!r}, is named like one that tells "
            f"experiments apart: pass sequence={name!r}, or `inputs` and `outputs`"
        )


def groups_of(cells: Cells, column: int | None) -> tuple[IntArray, tuple[str, ...]]:
    """Sequence of each row, numbered in the order of their first rows, and their labels."""
    if column is None:
        return np.zeros(len(cells.rows), dtype=np.int64), ()
    labels = [cell.strip() for cell in cells.rows[:, column]]
    for line, label in zip(cells.lines, labels, strict=True):
        if is_missing(label):
            raise ValueError(
                f"{cells.path}, line {line}, column {column + 1}: no sequence ({label!r}): fill "
                f"the cell, or leave the row out"
            )
    number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([number[label] for label in labels], dtype=np.int64), tuple(number)
